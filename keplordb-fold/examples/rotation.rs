//! Rotation: the active log moves into the archive, by hand or by itself, and nothing is forgotten.
//!
//! `app.jsonl` has the newest events as lines that a person can read. A rotation compresses them into one frame of
//! `archive.jsonl.zst` and begins a new log. Views go on as if nothing had happened, and a new view reads all of it.
//!
//! Lines that begin with `//>` are what the program prints; `{n}` stands for a number that may differ between versions of zstd.
//!
//! ```text
//! cargo run -p keplordb-fold --example rotation
//! ```

use std::error::Error;
use std::io;
use std::path::Path;

use keplordb_fold::{Event, EventLog};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    by_hand()?;
    by_itself()
}

fn by_hand() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut log = EventLog::builder(dir.path()).view("count", count).open()?;
    for n in 0..100 {
        log.append(&reading(n))?;
    }
    log.refresh_all()?;
    show(&log)?;
    //> app.jsonl: 9790 bytes, no archive, 100 events counted
    log.rotate()?;
    show(&log)?;
    //> app.jsonl: 0 bytes, archive.jsonl.zst: {n} bytes, 100 events counted
    list(dir.path())?;
    //> app.jsonl
    //> app.lock
    //> app.session
    //> archive.index
    //> archive.jsonl.zst
    //> views
    //> views/count.snapshot.json

    for n in 100..110 {
        log.append(&reading(n))?;
    }
    log.refresh_all()?; // reads the ten new ones
    show(&log)?;
    //> app.jsonl: 990 bytes, archive.jsonl.zst: {n} bytes, 110 events counted
    println!("{} events in archive and log", log.read_full()?.count());
    //> 110 events in archive and log
    Ok(())
}

fn by_itself() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let builder = || EventLog::builder(dir.path()).max_log_size(4_000).view("count", count);
    let mut log = builder().open()?;
    let mut rotations = 0;
    for n in 0..100 {
        let appended = log.append(&reading(n))?;
        // The append answers where its event stood; if the log is shorter by now, it was the one that rotated it.
        rotations += u64::from(log.active_log_size()? < appended.end_offset);
    }
    log.refresh_all()?;
    println!("{rotations} rotations");
    //> 2 rotations
    show(&log)?;
    //> app.jsonl: 1764 bytes, archive.jsonl.zst: {n} bytes, 100 events counted

    // The next run of the program: the view goes on from its snapshot.
    drop(log);
    let mut log = builder().open()?;
    for n in 100..110 {
        log.append(&reading(n))?;
    }
    log.refresh_all()?;
    println!("{} events counted", log.view::<u64>("count")?);
    //> 110 events counted
    println!("{} events in archive and log", log.read_full()?.count());
    //> 110 events in archive and log
    Ok(())
}

fn count(count: u64, _: &Event) -> u64 {
    count + 1
}

/// What a thermometer said. The time is made up, so that each line always has the same length.
fn reading(n: u64) -> Event {
    let data = json!({"sensor": "cellar", "celsius": 11.5, "number": n});
    Event { ts: 1_700_000_000 + 60 * n, ..Event::new("temperature_read", data) }
}

fn show(log: &EventLog) -> Result<(), Box<dyn Error>> {
    let archive = match std::fs::metadata(log.archive_path()) {
        Ok(archive) => format!("archive.jsonl.zst: {} bytes", archive.len()),
        Err(_) => "no archive".to_owned(),
    };
    let count = log.view::<u64>("count")?;
    println!("app.jsonl: {} bytes, {archive}, {count} events counted", log.active_log_size()?);
    Ok(())
}

/// Prints the files of a log, and those of its views.
fn list(dir: &Path) -> io::Result<()> {
    let names = |dir: &Path, before: &str| -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(dir)?;
        entries.map(|entry| Ok(format!("{before}{}", entry?.file_name().display()))).collect()
    };
    let mut all = names(dir, "")?;
    all.extend(names(&dir.join("views"), "views/")?);
    all.sort();
    println!("{}", all.join("\n"));
    Ok(())
}
