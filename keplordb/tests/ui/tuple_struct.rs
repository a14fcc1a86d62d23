// Columns have names.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call(#[dim] String, #[counter] u32);

fn main() {
    let _ = Call::new(1).metric(5);
}
