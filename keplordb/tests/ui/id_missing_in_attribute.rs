// The struct's #[keplordb(…)] has no id.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(crate = "keplordb")]
struct Call {
    #[dim]
    user: String,
}

fn main() {}
