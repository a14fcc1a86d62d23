//! A label has no dictionary to list values from.
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
    let _ = store.values(AiCall::cols().prompt);
}

fn main() {}
