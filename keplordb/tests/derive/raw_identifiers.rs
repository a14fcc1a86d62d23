//! A raw identifier names its column without the `r#`.

#![deny(warnings)]

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
pub struct Call {
    #[dim(bloom, rollup)]
    pub r#type: String,
    #[counter]
    pub r#loop: u32,
    #[label(index)]
    pub r#ref: String,
}

#[derive(Schema)]
#[keplordb(id = 2)]
#[expect(non_camel_case_types, reason = "a word of the language")]
pub struct r#struct {
    #[dim]
    pub user: String,
}

#[test]
fn a_raw_identifier_names_its_column() {
    let schema = Call::table_schema();
    assert_eq!(schema.dims().collect::<Vec<_>>(), ["type"]);
    assert_eq!(schema.counters().collect::<Vec<_>>(), ["loop"]);
    assert_eq!(schema.labels().collect::<Vec<_>>(), ["ref"]);
    let event = Call::new(5).r#type("chat").r#loop(3).r#ref("r").into_log_event();
    assert_eq!((event.dims, event.counters, event.labels), (["chat".into()], [3], ["r".into()]));
    assert_eq!(Call::filter().r#type("chat").into_filter().dims, [Some("chat".to_owned())]);
    let built: structBuilder = r#struct::new(1);
    assert_eq!(built.user("alice").into_log_event().dims, ["alice"]);
}
