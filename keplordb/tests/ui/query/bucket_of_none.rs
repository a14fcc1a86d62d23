//! Groups that were not put into buckets have none.
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
    let groups = store.query(AiCall::filter()).group_by(AiCall::cols().user).select(count()).fetch().unwrap();
    let _ = groups.get(0).unwrap().bucket();
}

fn main() {}
