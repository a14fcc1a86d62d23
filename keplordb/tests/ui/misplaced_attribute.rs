// Roles belong on fields, the id on the struct.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
#[dim]
struct Call {
    #[keplordb(id = 2)]
    #[dim]
    user: String,
}

fn main() {}
