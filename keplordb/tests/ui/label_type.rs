// A label is a `String`.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[label]
    trace: &'static str,
}

fn main() {}
