//! The tours of the README and of docs/cli.md, typed: a shell runs every command, and prints what stands there.
//!
//! A block of `console` has commands behind `$ `, each with what it prints below it; `…` stands for anything within a line. All blocks of
//! a document are typed in one folder, which has the repository's examples in it.
#![cfg(all(unix, feature = "server", feature = "sql"))]

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command, and what it prints.
#[derive(Debug, PartialEq)]
struct Typed {
    command: String,
    shown: String,
}

/// The commands in the blocks of a document.
fn commands(document: &str) -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    let mut is_inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if is_inside {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => {
                    commands.push(Typed { command: command.to_owned(), shown: String::new() });
                }
                (None, Some(last)) if last.command.ends_with('\\') && last.shown.is_empty() => {
                    writeln!(last.command).unwrap();
                    last.command.push_str(line);
                }
                (None, Some(last)) => writeln!(last.shown, "{line}").unwrap(),
                (None, None) => panic!("before the first command stands {line:?}"),
            }
        }
    }
    commands
}

/// Whether a text is what is shown of it, where `…` is anything.
fn is_shown(shown: &str, printed: &str) -> bool {
    let (shown, printed): (Vec<_>, Vec<_>) = (shown.lines().collect(), printed.lines().collect());
    shown.len() == printed.len() && shown.iter().zip(printed).all(|(shown, printed)| fits(shown, printed))
}

fn fits(shown: &str, printed: &str) -> bool {
    let Some((first, rest)) = shown.split_once('…') else { return shown == printed };
    let Some(mut printed) = printed.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    for part in between.split('…') {
        let Some(place) = printed.find(part) else { return false };
        printed = &printed[place + part.len()..];
    }
    printed.ends_with(last)
}

/// Types a document's commands.
fn type_out(document: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let commands = commands(&fs::read_to_string(root.join(document)).unwrap());
    assert!(commands.len() >= 5, "{document} has a tour");
    let folder = tempfile::tempdir().unwrap();
    symlink(root.join("examples"), folder.path().join("examples")).unwrap();
    let mut wrong = String::new();
    for Typed { command, shown } in &commands {
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(folder.path())
            .env("PATH", path())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        if !is_shown(shown, &printed) {
            write!(wrong, "\n$ {command}\n--- {document} shows\n{shown}--- it prints\n{printed}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Where the commands are found, `keplor` first.
fn path() -> OsString {
    let keplor = Path::new(env!("CARGO_BIN_EXE_keplor")).parent().unwrap().to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = [keplor].into_iter().chain(env::split_paths(&others)).collect();
    env::join_paths(all).unwrap()
}

#[test]
fn the_tour_of_the_readme_prints_what_it_shows() {
    type_out("README.md");
}

#[test]
fn the_guide_prints_what_it_shows() {
    type_out("docs/cli.md");
}

#[test]
fn a_line_that_is_not_printed_is_found() {
    let document = "text\n```console\n$ echo a \\\n   b\na b\n$ true\n```\n```sh\n$ echo c\n```\n";
    let typed = |command: &str, shown: &str| Typed { command: command.to_owned(), shown: shown.to_owned() };
    assert_eq!(commands(document), [typed("echo a \\\n   b", "a b\n"), typed("true", "")]);
    assert!(is_shown("a\nb\n", "a\nb\n") && is_shown("", ""));
    assert!(is_shown("… bytes in …\n", "12 bytes in 3 files\n"));
    assert!(!is_shown("a\n", "a\nb\n") && !is_shown("a\nb\n", "a\n") && !is_shown("a", "ab"));
    assert!(!is_shown("… bytes in 4 files\n", "12 bytes in 3 files\n") && !is_shown("a…b", "acbd"));
}
