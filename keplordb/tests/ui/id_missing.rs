// The struct has no #[keplordb(…)].

use keplordb::Schema;

#[derive(Schema)]
struct Call {
    #[dim]
    user: String,
}

fn takes_a_schema<S: Schema>() {}

fn main() {
    // The fallback is a schema: that it is none is not reported on top.
    takes_a_schema::<Call>();
}
