// The id is a byte.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 256)]
struct TooLarge {}

#[derive(Schema)]
#[keplordb(id = -1)]
struct Negative {}

fn main() {}
