// Every field has one role.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim]
    #[label(index)]
    user: String,
    #[counter]
    #[dim(rollup)]
    tokens: u32,
}

fn main() {}
