//! Conditions on two tables do not meet.
use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct AiCall {
    #[dim]
    user: String,
    #[counter]
    tokens: u32,
    #[label]
    prompt: String,
}

#[derive(Schema)]
#[keplordb(id = 2)]
struct Payment {
    #[dim]
    payer: String,
}

fn main() {
    let _ = AiCall::cols().user.eq("alice") & Payment::cols().payer.eq("bob");
}
