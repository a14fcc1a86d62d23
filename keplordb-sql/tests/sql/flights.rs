//! The example program, whole and again; what `docs/sql.md` shows of it; and its questions put to other readers of its Parquet file.

use std::path::{Path, PathBuf};

use crate::python;

#[path = "../../examples/flights_sql.rs"]
mod flights_sql;

use flights_sql::{AS_OF, Answer, QUESTIONS};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An answer as the program prints it, and as `flights.py` does.
fn lines(answers: &[Answer]) -> Vec<String> {
    answers.concat().iter().map(|row| format!("  {}", row.join("  "))).collect()
}

/// The lines of a text that are such rows.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("  ")).collect()
}

/// The blocks of the document in a language.
fn blocks<'a>(document: &'a str, language: &'a str) -> Vec<&'a str> {
    let blocks = document.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// One space between words, so that lines may be broken elsewhere.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_program_imports_once_and_others_give_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (parquet, first) = flights_sql::run(dir.path()).unwrap();
    assert_eq!(first.len(), QUESTIONS.len() + 1);
    let (_, again) = flights_sql::run(dir.path()).unwrap();
    assert_eq!(again, first, "the flights are not imported a second time");

    let document = std::fs::read_to_string(file("../docs/sql.md")).unwrap();
    assert_eq!(
        blocks(&document, "text").iter().flat_map(|block| rows(block)).collect::<Vec<_>>(),
        lines(&first)
    );

    let untested = "DuckDB and Polars on the exported flights";
    let Some(python) = python::python(untested) else { return };
    assert_eq!(parquet, dir.path().join("flights.parquet"));
    let printed = python::output(python, &file("tests/sql/flights.py"), dir.path(), "");
    let answers = lines(&first[..QUESTIONS.len()]);
    assert_eq!(rows(&printed), [answers.clone(), answers].concat(), "{printed}");
}

#[test]
fn the_document_shows_what_runs() {
    let [document, program, script] = ["../docs/sql.md", "examples/flights_sql.rs", "tests/sql/flights.py"]
        .map(|path| std::fs::read_to_string(file(path)).unwrap());
    assert_eq!(blocks(&document, "python"), [&*script]);
    let shown = blocks(&document, "rust,ignore");
    assert!(shown.len() >= 3, "{shown:?}");
    for block in shown {
        assert!(spaced(&program).contains(&spaced(block)), "not in the program:\n{block}");
    }
    for (_, question) in QUESTIONS {
        assert!(spaced(&script).contains(&spaced(question)), "not in the script: {question}");
    }
    assert!(spaced(&document).contains(AS_OF.1), "{}", AS_OF.1);
}
