//! A struct that a macro writes, with its id and types through matchers.

use keplordb::Schema;

macro_rules! table {
    ($id:literal $vis:vis $name:ident { $user:ident: $text:ty, $tokens:ident: $number:ty }) => {
        #[derive(Schema)]
        #[keplordb(id = $id)]
        $vis struct $name {
            #[dim]
            $user: $text,
            #[counter]
            $tokens: $number,
        }
    };
}

table!(7 pub Call { user: String, tokens: u32 });
table!(8 Hidden { user: String, tokens: u32 });

macro_rules! empty_table {
    ($name:ident, $id:expr) => {
        #[derive(Schema)]
        #[keplordb(id = $id)]
        struct $name {}
    };
}

empty_table!(Nothing, 9);

#[test]
fn a_struct_that_a_macro_writes() {
    let ids = [Call::table_schema().id(), Hidden::table_schema().id(), Nothing::table_schema().id()];
    assert_eq!(ids, [7, 8, 9]);
    let event = Call::new(5).user("alice").tokens(3).into_log_event();
    assert_eq!((event.dims, event.counters), (["alice".into()], [3]));
    assert_eq!(Hidden { user: "bob".to_owned(), tokens: 4 }.at(1).into_log_event().counters, [4]);
}
