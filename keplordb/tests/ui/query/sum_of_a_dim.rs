//! A text has no sum.
use keplordb::aggregates::sum;
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
    let _ = store.query(AiCall::filter()).select(sum(AiCall::cols().user));
}

fn main() {}
