// A union has no columns.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
union Call {
    #[counter]
    tokens: u32,
}

fn main() {}
