// An enum has no columns.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
enum Call {
    Chat {
        #[dim]
        user: String,
    },
    Ping,
}

fn main() {
    let _ = |row: CallRow| row.into_event();
}
