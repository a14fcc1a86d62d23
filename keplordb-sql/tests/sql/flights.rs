//! The example program, whole and again: imported once, the flights are not imported a second time.

#[path = "../../examples/flights_sql.rs"]
mod flights_sql;

#[test]
fn the_program_checks_its_answers_and_imports_once() {
    let dir = tempfile::tempdir().unwrap();
    let (parquet, first) = flights_sql::run(dir.path()).unwrap();
    assert!(parquet.is_file());
    assert_eq!(first.len(), flights_sql::QUESTIONS.len());
    let (_, again) = flights_sql::run(dir.path()).unwrap();
    assert_eq!(again, first);
}
