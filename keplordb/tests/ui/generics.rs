// The columns of a schema are fixed.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct OfType<T> {
    #[dim]
    user: T,
}

#[derive(Schema)]
#[keplordb(id = 1)]
struct Borrowed<'a> {
    #[dim]
    user: &'a str,
}

#[derive(Schema)]
#[keplordb(id = 1)]
struct Sized<const N: usize> {
    #[dim]
    user: String,
}

#[derive(Schema)]
#[keplordb(id = 1)]
struct Bound
where
    String: Clone,
{
    #[dim]
    user: String,
}

fn takes_a_schema<S: Schema>() {}

fn main() {
    takes_a_schema::<OfType<String>>();
    takes_a_schema::<Borrowed<'static>>();
}
