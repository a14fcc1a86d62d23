// A counter is a `u32`.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim]
    user: String,
    #[counter]
    tokens: u64,
}

fn main() {
    // Neither a setter nor a getter of the column is a second error.
    let _ = Call::new(1).user("alice").tokens(1_u64).into_log_event() as keplordb::LogEvent<1, 1, 0>;
    let _ = |row: CallRow| (row.tokens() > 0, row.user().len(), row.into_event().tokens);
}
