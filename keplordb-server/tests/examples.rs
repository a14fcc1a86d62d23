//! The example runs to its end with every check passed. It is run as a process, as a user does; `cargo test` builds it before it runs
//! tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, built beside this test: `target/debug/deps/<this>`, `target/debug/examples/<program>`.
fn program(name: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let profile: PathBuf = this.ancestors().nth(2).unwrap().to_owned();
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.is_file(), "{} is not there: build it, `cargo build --examples`", path.display());
    Command::new(path)
}

/// What it prints of the first flights of the year.
fn flight_history(root: &Path, rows: &str) -> Result<String, String> {
    let output = program("flight_history").arg(root).args(["--no-serve", "--rows", rows]).output().unwrap();
    let (printed, said) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    if output.status.success() { Ok(printed.unwrap()) } else { Err(said.unwrap()) }
}

/// What the README asks in SQL and in RQL; the example asks the same, and checks the answers.
#[cfg(feature = "sql")]
fn questions_of_the_readme() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let questions = readme.lines().filter_map(|line| line.split_once("\"q=")?.1.strip_suffix('"'));
    let questions: Vec<String> = questions.map(str::to_owned).collect();
    assert_eq!(questions.len(), 4);
    questions
}

#[test]
fn flight_history_captures_asks_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let captured = flight_history(&root, "2000").unwrap();
    assert!(captured.contains("of 2000 flights in "), "{captured}");
    assert!(captured.contains("2000 flights, of which 12 are deleted"), "{captured}");
    assert!(captured.trim_end().ends_with("checks passed"), "{captured}");
    #[cfg(feature = "sql")]
    for question in questions_of_the_readme() {
        assert!(captured.contains(&format!("\n{question}\n  {{")), "{question}: {captured}");
    }
    let kept = flight_history(&root, "2000").unwrap();
    assert!(kept.contains("events of 2000 flights are there already"), "{kept}");
    // What is there is sent again, and captured once.
    let more = flight_history(&root, "3000").unwrap();
    assert!(
        more.contains("events of 3000 flights in ") && more.contains("5974 were there already"),
        "{more}"
    );
    let too_few = flight_history(&root, "100").unwrap_err();
    assert!(too_few.contains("more than the"), "{too_few}");
}
