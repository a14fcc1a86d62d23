// Every field has a role.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim]
    user: String,
    /// Documentation is no role.
    tokens: u32,
    r#type: String,
}

fn main() {
    let _ = Call::new(1).tokens(2).r#type("chat");
}
