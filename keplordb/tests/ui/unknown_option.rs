// Options that no attribute has.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(idd = 1)]
struct Misspelt {}

#[derive(Schema)]
#[keplordb(id = 1, name = "calls")]
struct Call {
    #[dim(blom)]
    user: String,
    #[counter(sum)]
    tokens: u32,
    #[label(indexed = true)]
    trace: String,
}

fn main() {}
