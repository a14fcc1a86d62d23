//! `fold-growth`: how the costs of a fold grow with its log. Each measurement is made at several sizes, so that what should stay
//! the same, or grow in step, is seen to.
//!
//! Every answer is checked before its time is printed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use keplordb_fold::{Event, EventLog, EventReader, EventWriter, SnapshotPolicy, View, ViewOptions};
use serde_json::json;

/// Events per append.
const BATCH_EVENTS: u64 = 1000;
/// New ones that a view has missed.
const NEW_EVENTS: u64 = 100;
/// Of how many a median is taken, where a measurement can be repeated.
const ROUNDS: usize = 15;

/// How the costs of a fold grow with its log.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Events of the longest log; the others have a quarter and a half of them
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Where to write: a directory on a real disk [default: the temporary one]
    #[arg(long)]
    directory: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { events, directory } = Arguments::parse();
    let parent = directory.unwrap_or_else(std::env::temp_dir);
    let sizes = [events / 4, events / 2, events].map(|events| events / BATCH_EVENTS * BATCH_EVENTS);
    ensure!(sizes[0] > 0, "at least {} events are needed", 4 * BATCH_EVENTS);
    println!(
        "{:>10} {:>10} {:>10} {:>12} {:>12} {:>10} {:>12} {:>10}",
        "events", "append", "first fold", "100 new", "seek", "rotate", "new view", "again"
    );
    for events in sizes {
        println!("{}", log(&parent, events).with_context(|| format!("with {events} events"))?);
    }
    println!();
    println!("{:>10} {:>14} {:>12}", "keys", "snapshot bytes", "a key");
    for keys in sizes.map(|events| events / 10) {
        let bytes = snapshot_bytes(&parent, keys).with_context(|| format!("with {keys} keys"))?;
        println!("{keys:>10} {bytes:>14} {:>12.1}", bytes as f64 / keys as f64);
    }
    Ok(())
}

/// What a log of so many events costs, as a line of the table.
fn log(parent: &Path, events: u64) -> Result<String> {
    let dir = tempfile::tempdir_in(parent)?;
    let open = || EventLog::builder(dir.path()).view("orders", total).open();
    let mut log = open()?;
    let append = seconds(|| append(log.writer_mut(), 0..events, event))?;
    let first = seconds(|| Ok(log.refresh_all()?))?;
    ensure!(*log.view::<Orders>("orders")? == expected(events), "the fold of all events");

    let mut total_events = events;
    let mut catch_up = Vec::new();
    for _ in 0..ROUNDS {
        append_some(log.writer_mut(), &mut total_events)?;
        catch_up.push(seconds(|| Ok(log.refresh_all()?))?);
    }
    ensure!(*log.view::<Orders>("orders")? == expected(total_events), "the fold of new events");

    let reader = log.reader();
    let mut seek = Vec::new();
    for round in 0..ROUNDS as u64 {
        let last = log.append(&event(total_events + round))?;
        seek.push(seconds(|| {
            let mut found = reader.read_from(last.start_offset)?;
            let (found, ..) = found.next().context("no event at its offset")??;
            ensure!(found == event(total_events + round), "another event is there");
            Ok(())
        })?);
    }
    total_events += ROUNDS as u64;
    log.refresh_all()?;

    let rotate = seconds(|| Ok(log.rotate()?))?;
    ensure!(log.active_log_size()? == 0, "the rotation has left something");
    // Computed before, so that only the fold's own work is timed.
    let wanted = expected(total_events);
    let new_view = seconds(|| fold_anew(&reader, dir.path(), &wanted))?;
    drop(log);
    let again = seconds(|| {
        let mut log = open()?;
        log.refresh_all()?;
        ensure!(*log.view::<Orders>("orders")? == wanted, "the state of the snapshot");
        Ok(())
    })?;

    let (catch_up, seek) = (median(catch_up), median(seek));
    Ok(format!(
        "{events:>10} {append:>8.2} s {first:>8.3} s {:>9.3} ms {:>9.1} us {rotate:>8.3} s {new_view:>10.3} s {:>7.2} ms",
        catch_up * 1e3,
        seek * 1e6,
        again * 1e3
    ))
}

/// A view that nobody had before, over the archive.
fn fold_anew(reader: &EventReader, dir: &Path, wanted: &Orders) -> Result<()> {
    let options = ViewOptions::default().snapshots(SnapshotPolicy::Manual);
    let mut view = View::new("again", total, &dir.join("views")).with_options(options);
    ensure!(view.refresh(reader)? == wanted, "the fold of the archive");
    Ok(())
}

/// How long a snapshot is whose state has so many keys.
fn snapshot_bytes(parent: &Path, keys: u64) -> Result<u64> {
    let dir = tempfile::tempdir_in(parent)?;
    let mut log = EventLog::builder(dir.path()).view("counts", count).open()?;
    // Three events a key: it is the state that counts, not the log.
    let of_key = |number| Event::new("counted", json!({ "key": number % keys }));
    append(log.writer_mut(), 0..3 * keys, of_key)?;
    log.refresh_all()?;
    let counts = log.view::<HashMap<String, u64>>("counts")?;
    ensure!(counts.len() as u64 == keys && counts.values().all(|count| *count == 3), "the counts of keys");
    Ok(fs::metadata(dir.path().join("views/counts.snapshot.json"))?.len())
}

fn count(mut counts: HashMap<String, u64>, event: &Event) -> HashMap<String, u64> {
    let key = event.data["key"].as_u64().unwrap_or_default();
    *counts.entry(format!("key {key:08}")).or_default() += 1;
    counts
}

/// What the orders of each article come to, in cents: small, however many there are.
type Orders = BTreeMap<u64, u64>;

fn total(mut orders: Orders, event: &Event) -> Orders {
    let number = |key: &str| event.data[key].as_u64().unwrap_or_default();
    *orders.entry(number("article")).or_default() += number("cents");
    orders
}

fn event(number: u64) -> Event {
    let data = json!({ "article": number % 20, "cents": number % 10_000, "note": "as ordered by telephone" });
    Event { ts: 1_700_000_000 + number / 100, ..Event::new("ordered", data) }
}

/// The slow twin of the fold.
fn expected(events: u64) -> Orders {
    let mut orders = Orders::new();
    for number in 0..events {
        *orders.entry(number % 20).or_default() += number % 10_000;
    }
    orders
}

fn append(writer: &mut EventWriter, numbers: Range<u64>, event: impl Fn(u64) -> Event) -> Result<()> {
    let mut next = numbers.start;
    while next < numbers.end {
        let end = (next + BATCH_EVENTS).min(numbers.end);
        writer.append_batch(&(next..end).map(&event).collect::<Vec<_>>())?;
        next = end;
    }
    Ok(())
}

fn append_some(writer: &mut EventWriter, total_events: &mut u64) -> Result<()> {
    append(writer, *total_events..*total_events + NEW_EVENTS, event)?;
    *total_events += NEW_EVENTS;
    Ok(())
}

fn seconds(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
