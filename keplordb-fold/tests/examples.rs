//! Each example prints what its comments promise, line by line. The comments are the only source: all lines of an example that
//! begin with `//> `, in their order, are its output, in which `{n}` stands for any number. The programs run as processes, as a user
//! runs them; `cargo test` builds them before it runs tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a comment promises is behind this.
const PROMISE: &str = "//> ";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("rs")
}

/// The program, built beside this test: `target/debug/deps/<this>`, `target/debug/examples/<program>`.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.is_file(), "{} is not there: build it, `cargo build --examples`", path.display());
    let changed = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let is_new = changed(&path) >= changed(&source(name));
    assert!(is_new, "{} is older than its source: build it, `cargo build --examples`", path.display());
    path
}

fn promises(source: &str) -> Vec<&str> {
    source.lines().filter_map(|line| line.trim_start().strip_prefix(PROMISE)).collect()
}

/// Whether a line is what was promised.
fn keeps(line: &str, promise: &str) -> bool {
    match promise.split_once("{n}") {
        None => line == promise,
        Some((before, behind)) => line.strip_prefix(before).is_some_and(|rest| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && keeps(&rest[digits..], behind)
        }),
    }
}

/// The first difference between what was printed and what was promised.
fn broken(printed: &str, promises: &[&str]) -> Option<String> {
    let lines: Vec<&str> = printed.lines().collect();
    (0..lines.len().max(promises.len())).find_map(|n| match (lines.get(n), promises.get(n)) {
        (Some(line), Some(promise)) if keeps(line, promise) => None,
        (line, promise) => Some(format!("line {}: promised {promise:?}, printed {line:?}", n + 1)),
    })
}

fn run(name: &str) {
    let source = std::fs::read_to_string(source(name)).unwrap();
    let promises = promises(&source);
    assert!(promises.len() > 1, "{name} promises nothing");
    let marks = source.matches("//>").count() - source.matches("`//>`").count();
    assert_eq!(marks, promises.len(), "{name} has a promise that is not on a line of its own");
    let output = Command::new(program(name)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {} {errors}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    if let Some(broken) = broken(&printed, &promises) {
        panic!("{name}: {broken}; all of it:\n{printed}");
    }
}

/// A test for each example, and one that none is missing.
macro_rules! examples {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn all_examples_are_run() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
            let there: BTreeSet<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            assert_eq!(there, BTreeSet::from([$(stringify!($name).to_owned()),*]));
        }
    };
}

examples! { blocking_tail multi_view notes_cli poll_tail rebuild rotation time_travel todo_cli }

#[test]
fn a_broken_promise_is_seen() {
    let promises = promises("    //> a {n} b\n//>no\nprint(); //> no\n  //> c {n}/{n}\n");
    assert_eq!(promises, ["a {n} b", "c {n}/{n}"]);
    assert_eq!(broken("a 17 b\nc 1/22\n", &promises), None);
    for printed in [
        "",
        "a 17 b\n",
        "a 17 b\nc 1/22\nmore\n",
        "a 17 b\n\nc 1/22\n",
        "c 1/22\na 17 b\n",
        "a b\nc 1/22\n",
        "a x b\nc 1/22\n",
        "a 17 b \nc 1/22\n",
        "a 17 b\nc 1/\n",
    ] {
        assert!(broken(printed, &promises).is_some(), "{printed:?}");
    }
}
