// Generated types have methods of these names.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[counter]
    sequence: u32,
    #[dim]
    from: String,
    #[dim]
    to: String,
    #[dim]
    cursor: String,
    #[dim]
    new: String,
    #[dim]
    at: String,
    #[dim]
    filter: String,
    #[dim]
    default_config: String,
    #[label]
    clone: String,
    #[label]
    default: String,
    #[label]
    into: String,
    #[label]
    into_event: String,
    #[label]
    into_something: String,
}

fn main() {
    let _ = Call::filter().from(1).to(2);
}
