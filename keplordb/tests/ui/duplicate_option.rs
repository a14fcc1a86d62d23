// Each option once.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1, crate = "keplordb", id = 2, crate = "keplordb")]
struct Call {
    #[dim(bloom, rollup, bloom, rollup)]
    user: String,
    #[label(index, index)]
    trace: String,
}

fn main() {}
