//! Attributes and derives of others, on the struct and its fields, are theirs; a field that is configured away is no
//! column.

#![deny(warnings)]
#![expect(clippy::non_minimal_cfg, reason = "conditions that always and never hold")]

use keplordb::Schema;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Schema)]
#[cfg_attr(all(), keplordb(id = 1))]
#[cfg(all())]
#[must_use]
#[non_exhaustive]
#[expect(non_camel_case_types, reason = "a name of theirs")]
pub struct ai_call {
    /// Who called.
    #[cfg_attr(all(), dim(rollup))]
    pub user: String,
    #[cfg(any())]
    #[dim]
    pub absent: String,
    #[deprecated]
    #[counter]
    pub tokens: u32,
}

#[test]
fn attributes_of_others_are_theirs() {
    let schema = ai_call::table_schema();
    assert_eq!(schema.dims().collect::<Vec<_>>(), ["user"]);
    let call = ai_call { user: "alice".to_owned(), ..Default::default() };
    assert_eq!(call.clone().at(1).into_log_event().dims, [call.user]);
}
