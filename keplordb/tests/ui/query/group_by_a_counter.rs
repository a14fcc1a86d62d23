//! A number is no key to group by.
use keplordb::{Schema, Store};

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

fn ask(store: &Store<AiCall>) {
    let _ = store.query(AiCall::filter()).group_by(AiCall::cols().tokens);
}

fn main() {}
