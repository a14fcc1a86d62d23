// Each attribute once.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
#[keplordb(id = 2)]
struct Call {
    #[dim]
    #[dim(bloom)]
    user: String,
    #[counter]
    #[counter]
    tokens: u32,
    #[label]
    #[label]
    trace: String,
}

fn main() {}
