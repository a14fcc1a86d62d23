// One dim at most carries the bloom filter.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(bloom)]
    user: String,
    #[dim(rollup, bloom)]
    model: String,
}

fn main() {}
