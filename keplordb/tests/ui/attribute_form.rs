// Options stand in parentheses.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb = 1]
struct Id {}

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim = "bloom"]
    user: String,
    #[label("index")]
    trace: String,
}

fn main() {}
