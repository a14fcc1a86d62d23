//! What the types of the query layer forbid: each question that cannot be meant is one file of `ui/query/`, which must not
//! compile, with the committed message.

#[test]
fn what_cannot_be_meant_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/query/*.rs");
}
