// A dim is a `String`.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(rollup)]
    user: Option<String>,
}

fn main() {
    let _ = Call::filter().user("alice").status(200..300).into_filter() as keplordb::QueryFilter<1>;
}
