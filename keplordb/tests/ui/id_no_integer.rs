// The id is a literal, so that it can be seen where the columns are.

use keplordb::Schema;

const ID: u8 = 1;

#[derive(Schema)]
#[keplordb(id = ID)]
struct Constant {}

#[derive(Schema)]
#[keplordb(id = "1")]
struct Text {}

#[derive(Schema)]
#[keplordb(id)]
struct Nothing {}

fn main() {
    let _ = ID;
}
