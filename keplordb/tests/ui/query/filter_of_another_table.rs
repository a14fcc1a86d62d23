//! A store is asked with its own table's filter.
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

#[derive(Schema)]
#[keplordb(id = 2)]
struct Payment {
    #[dim]
    payer: String,
}

fn ask(store: &Store<AiCall>) {
    let _ = store.query(Payment::cols().payer.eq("bob"));
}

fn main() {}
