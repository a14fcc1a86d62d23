//! The one group that `one` gives is there only without keys.
use keplordb::aggregates::count;
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
    let _ = store.query(AiCall::filter()).group_by(AiCall::cols().user).select(count()).one();
}

fn main() {}
