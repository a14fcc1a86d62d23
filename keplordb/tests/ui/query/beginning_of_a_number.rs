//! A number has no beginning.
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

fn main() {
    let _ = AiCall::cols().tokens.starts_with("1");
}
