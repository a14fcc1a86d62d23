// Options of another role.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(index)]
    user: String,
    #[counter(rollup)]
    tokens: u32,
    #[label(bloom)]
    trace: String,
}

fn main() {}
