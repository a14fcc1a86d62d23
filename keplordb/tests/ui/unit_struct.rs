// A table without columns is written `struct Call {}`.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call;

fn main() {}
