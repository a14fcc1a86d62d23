//! Two processes at one log: one writer keeps the other away, several take turns, and one that is killed in the middle of its work
//! leaves what it was answered.

mod common;

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{all, event};
use keplordb_fold::{EventLog, EventReader, EventWriter, LockMode};
use tempfile::tempdir;

/// Starts one of the tests below as a process of its own.
fn start(test: &str, dir: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("KEPLORDB_TEST_DIR", dir)
        .env("KEPLORDB_TEST_NAME", name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the other process says, line by line.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

fn told() -> Option<(String, String)> {
    Some((std::env::var("KEPLORDB_TEST_DIR").ok()?, std::env::var("KEPLORDB_TEST_NAME").ok()?))
}

/// Not a test of its own: appends one by one, a batch now and then, and rotates, until it is killed; says what was acknowledged.
#[test]
#[ignore = "run by the tests below"]
fn endless_writer() {
    let Some((dir, name)) = told() else { return };
    let mode = if name.starts_with("turns") { LockMode::None } else { LockMode::Flock };
    let mut log = EventLog::builder(dir).lock_mode(mode).max_log_size(3_000).open().unwrap();
    println!();
    for n in 0.. {
        let event_type = format!("{name}_{n}");
        if n % 5 == 4 {
            log.append_batch(&[event(&event_type), event(&event_type), event(&event_type)]).unwrap();
        } else {
            log.append(&event(&event_type)).unwrap();
        }
        println!("acknowledged {n}");
    }
}

/// Not a test of its own: appends a certain number.
#[test]
#[ignore = "run by the tests below"]
fn writer_of_a_hundred() {
    let Some((dir, name)) = told() else { return };
    let mut log = EventLog::builder(dir).lock_mode(LockMode::None).max_log_size(3_000).open().unwrap();
    for n in 0..100 {
        log.append(&event(&format!("{name}_{n}"))).unwrap();
    }
}

#[test]
fn another_process_is_kept_away_until_the_writer_ends() {
    let dir = tempdir().unwrap();
    let mut child = start("endless_writer", dir.path(), "a");
    let mut said = lines(&mut child);
    let first = said.find(|line| line.starts_with("acknowledged"));
    let refused = EventWriter::open(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.is_some(), "the other process never wrote");
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
    EventWriter::open(dir.path()).unwrap().append(&event("b")).unwrap();
}

#[test]
fn processes_without_locks_take_turns() {
    let dir = tempdir().unwrap();
    let mut children: Vec<Child> =
        ["one", "two"].iter().map(|name| start("writer_of_a_hundred", dir.path(), name)).collect();
    // Somebody who reads meanwhile never sees anything twice or in a wrong order.
    let reader = EventReader::new(dir.path());
    let mut last = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        if dir.path().join("app.jsonl").exists() {
            let found = all(&reader).len();
            assert!(found >= last, "{found} after {last}");
            last = found;
        }
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let found = all(&reader);
    for name in ["one", "two"] {
        let own: Vec<&String> = found.iter().filter(|found| found.starts_with(name)).collect();
        let expected: Vec<String> = (0..100).map(|n| format!("{name}_{n}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_was_answered() {
    let dir = tempdir().unwrap();
    for round in 0..10 {
        let name = format!("{}{round}", if round % 2 == 0 { "alone" } else { "turns" });
        let mut child = start("endless_writer", dir.path(), &name);
        let mut said = lines(&mut child);
        let mut acknowledged = 0;
        for line in said.by_ref() {
            if line.starts_with("acknowledged") {
                acknowledged += 1;
            }
            // At various moments of its work, in the middle of whatever it does then.
            if acknowledged == 10 + round * 3 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged += said.filter(|line| line.starts_with("acknowledged")).count();
        let log = EventLog::open(dir.path()).unwrap();
        let found = all(&log.reader());
        let own: Vec<&String> = found.iter().filter(|found| found.starts_with(&format!("{name}_"))).collect();
        let expected = |events: usize| -> Vec<String> {
            let times = |n| if n % 5 == 4 { 3 } else { 1 };
            (0..events).flat_map(|n| std::iter::repeat_n(format!("{name}_{n}"), times(n))).collect()
        };
        let is = |events| own.iter().copied().eq(&expected(events));
        assert!(is(acknowledged) || is(acknowledged + 1), "{acknowledged}: {own:?}");
    }
}
