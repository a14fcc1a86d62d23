// `crate` is a path in a string.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1, crate = "not a path")]
struct NoPath {}

#[derive(Schema)]
#[keplordb(id = 1, crate = keplordb)]
struct NoString {}

#[derive(Schema)]
#[keplordb(id = 1, crate)]
struct NoValue {}

fn main() {}
