//! Memory, measured where nothing else is: in processes of their own, by the most that the operating system ever gave them.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use keplordb::{Engine, EngineConfig, LogEvent, Options, Sync};

type Db = Engine<2, 1, 1>;

const EVENTS: u64 = 200_000;

fn open(dir: &Path) -> Db {
    let config = EngineConfig {
        data_dir: dir.to_owned(),
        wal_max_events: u32::MAX,
        wal_shard_count: 1,
        ..EngineConfig::default()
    };
    Db::open_with(config, Options::default().sync(Sync::Os).memtable_bytes(1 << 30)).unwrap()
}

/// The largest resident set that this process ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Not a test of its own: writes into a new directory, one event at a time, or opens it again.
#[test]
#[ignore = "run by a_log_of_many_tiny_frames_opens_in_the_memory_of_its_rows"]
fn process() {
    let Some(dir) = std::env::var_os("KEPLORDB_TEST_DIR") else { return };
    let before = peak_bytes();
    let db = open(dir.as_ref());
    if db.open_report().created {
        for number in 0..EVENTS {
            let dims = ["alice".to_owned(), "gpt".to_owned()];
            let event =
                LogEvent { ts_ns: number.cast_signed(), id: number.to_string(), dims, ..LogEvent::default() };
            db.append(&event).unwrap();
        }
    }
    assert_eq!((db.total_events(), u64::from(db.wal_count())), (EVENTS, EVENTS));
    println!("\npeak {}", peak_bytes() - before);
}

fn peak_of_a_process(dir: &Path) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process", "--ignored", "--nocapture"])
        .env("KEPLORDB_TEST_DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let peak = said.lines().find_map(|line| line.strip_prefix("peak "));
    peak.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

/// A block for each frame would take many times the memory that the rows did when they were gathered.
#[test]
fn a_log_of_many_tiny_frames_opens_in_the_memory_of_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let written = peak_of_a_process(&dir.path().join("events"));
    let opened = peak_of_a_process(&dir.path().join("events"));
    assert!(written > EVENTS * 50, "{written} bytes cannot be the memory of the rows");
    assert!(opened < 4 * written, "{opened} bytes to open what took {written} bytes to write");
    println!("{written} bytes to write, {opened} to open");
}
