// Options of fields are switches.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(bloom = true)]
    user: String,
    #[label(index(hash))]
    trace: String,
}

fn main() {}
