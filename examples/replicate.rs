//! A log that is copied to another folder while it grows, and the copy that is taken over when the source is lost.
//!
//! Bookings of accounts are written to `primary`, in batches of a few. A thread keeps a copy in `standby`: it sleeps until
//! there is more, copies, and says how far it is; halfway it is stopped and begun anew, as after a restart of its machine. A reader of the copy works like
//! one of the source. Then the machine of the source burns: its folder is gone. A writer opens `standby`, which makes it a
//! log of its own, and the bookings go on there.
//!
//! What the copy has must always be a beginning of what was written, and all of it when the last step has returned; balances added
//! up from the copy are those of a plain loop over the bookings, and the total of all accounts is zero.
//!
//! ```text
//! cargo run --release --example replicate
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use keplordb_examples::{Checks, human};
use keplordb_log::{Lag, Log, LogError, Options, Replica, Writer};

const BOOKINGS: usize = 12_000;
/// Written before the source is lost; the others after it.
const BOOKINGS_BEFORE: usize = 9_000;
const ACCOUNTS: [&str; 6] = ["bank", "cash", "goods", "rent", "salaries", "taxes"];
const SEED: u64 = 5;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let (primary, standby) = (temporary.path().join("primary"), temporary.path().join("standby"));
    let mut checks = Checks::default();
    let bookings = bookings();

    let source = open(&primary)?;
    println!("      behind      copied");
    let copied = copy_while_it_grows(&source, &standby, &bookings[..BOOKINGS_BEFORE])?;
    println!(
        "copied {} of {} bookings in {} steps, {} of segments",
        human::count(copied.entries),
        human::count(BOOKINGS_BEFORE as u64),
        human::count(copied.steps),
        human::bytes(copied.bytes)
    );
    checks.equal("entries that were copied", &copied.entries, &(BOOKINGS_BEFORE as u64))?;
    let copy = open(&standby)?;
    checks.equal("the copy", &read(&copy)?, &bookings[..BOOKINGS_BEFORE].to_vec())?;
    let (ours, theirs) = (copy.segments()?.len(), source.segments()?.len());
    checks.equal("segments of the copy", &ours, &theirs)?;
    ensure!(ours > 2, "{ours} segments are too few to see a rollover");

    // The source's machine is lost, and with it its folder.
    std::fs::remove_dir_all(&primary)?;
    take_over(&copy, &bookings, &mut checks)?;

    // Nothing copies over a log that goes its own way.
    let other = open(&primary)?;
    other.writer()?.write(b"bank cash 1")?;
    let refused = Replica::new(&other, &standby);
    ensure!(matches!(refused, Err(LogError::NotAReplica { .. })), "{refused:?}");

    println!("\nall {} checks passed", checks.passed());
    Ok(())
}

/// Small segments, so that the copy follows from one to the next while we watch.
fn open(dir: &Path) -> Result<Log> {
    Ok(Log::open_with(dir, Options { max_segment_bytes: 64 << 10, ..Options::default() })?)
}

/// What the copying thread did.
#[derive(Debug, Default)]
struct Copied {
    steps: u64,
    entries: u64,
    bytes: u64,
}

/// Writes bookings here while a thread copies them.
fn copy_while_it_grows(source: &Log, standby: &Path, bookings: &[Booking]) -> Result<Copied> {
    let is_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| -> Result<Copied> {
            let mut copied = Copied::default();
            copy(source, standby, bookings, &mut copied, |copied| {
                copied.entries > bookings.len() as u64 / 2
            })?;
            println!("  the copying ends halfway and begins anew");
            copy(source, standby, bookings, &mut copied, |_| is_written.load(Ordering::SeqCst))?;
            Ok(copied)
        });
        let written = write(&source.writer()?, bookings);
        is_written.store(true, Ordering::SeqCst);
        let copied = copying.join().expect("the copying thread does not panic")?;
        written?;
        Ok(copied)
    })
}

/// Copies until `is_done`, and then what is there; the copy is behind nothing when it returns.
fn copy(
    source: &Log,
    standby: &Path,
    bookings: &[Booking],
    copied: &mut Copied,
    is_done: impl Fn(&Copied) -> bool,
) -> Result<()> {
    let mut replica = Replica::new(source, standby)?;
    let mut shown = None::<Instant>;
    loop {
        let is_last = is_done(copied);
        replica.wait(Duration::from_millis(20))?;
        let Lag { entries, bytes } = replica.lag()?;
        let step = replica.step()?;
        copied.steps += 1;
        copied.entries += step.entries;
        copied.bytes += step.bytes;
        if is_last || shown.is_none_or(|shown| shown.elapsed() > Duration::from_millis(150)) {
            let (was_behind, has) = (human::count(entries), human::count(copied.entries));
            println!("{was_behind:>7} {:>9} {has:>9}", human::bytes(bytes));
            // It can be read like any log, while it is copied.
            let now = read(&open(standby)?)?;
            ensure!(bookings.starts_with(&now), "the copy is no beginning of its source");
            shown = Some(Instant::now());
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Books in the copy, which is a log of its own from now on.
fn take_over(copy: &Log, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    let before = copy.last()?.context("the copy is empty")?;
    let writer = copy.writer()?;
    write(&writer, &bookings[BOOKINGS_BEFORE..])?;
    let mut from = copy.from(before.time)?;
    checks.equal(
        "the last entry of the source",
        &from.next()?.map(|entry| entry.time),
        &Some(before.time),
    )?;
    checks.equal(
        "the first one after it",
        &from.next()?.map(|entry| entry.bytes.to_vec()),
        &Some(bookings[BOOKINGS_BEFORE].encode()),
    )?;
    drop(from);
    writer.close()?;

    let all = read(copy)?;
    checks.equal("all bookings", &all.len(), &BOOKINGS)?;
    checks.equal("and in their order", &all, &bookings.to_vec())?;
    let balances = balances(&all);
    checks.equal("the balances", &balances, &self::balances(bookings))?;
    checks.equal("the total of all accounts", &balances.values().sum(), &0)?;
    println!("the source is lost; the copy went on and has {} bookings:", human::count(all.len() as u64));
    for (account, cents) in balances {
        println!("  {account:<10}{:>14.2} EUR", cents as f64 / 100.0);
    }
    Ok(())
}

/// Writes batches of a few bookings, each on disk when its write returns.
fn write(writer: &Writer, bookings: &[Booking]) -> Result<()> {
    for batch in bookings.chunks(12) {
        writer.write_batch(batch.iter().map(Booking::encode))?;
    }
    Ok(())
}

fn read(log: &Log) -> Result<Vec<Booking>> {
    let mut reader = log.reader()?;
    let mut bookings = Vec::new();
    while let Some(entry) = reader.next()? {
        bookings.push(Booking::decode(entry.bytes)?);
    }
    Ok(bookings)
}

fn balances(bookings: &[Booking]) -> BTreeMap<&'static str, i64> {
    let mut balances = BTreeMap::new();
    for booking in bookings {
        *balances.entry(booking.to).or_default() += booking.cents;
        *balances.entry(booking.from).or_default() -= booking.cents;
    }
    balances
}

/// Money that goes from one account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Booking {
    from: &'static str,
    to: &'static str,
    cents: i64,
}

impl Booking {
    fn encode(&self) -> Vec<u8> {
        format!("{} {} {}", self.from, self.to, self.cents).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut words = str::from_utf8(bytes)?.split(' ');
        let mut word = || words.next().context("a booking has three words");
        Ok(Self { from: account(word()?)?, to: account(word()?)?, cents: word()?.parse()? })
    }
}

fn account(name: &str) -> Result<&'static str> {
    ACCOUNTS.into_iter().find(|account| *account == name).context("no such account")
}

fn bookings() -> Vec<Booking> {
    let mut rng = Rng::with_seed(SEED);
    let mut booking = || {
        let from = rng.usize(..ACCOUNTS.len());
        let to = (from + rng.usize(1..ACCOUNTS.len())) % ACCOUNTS.len();
        Booking { from: ACCOUNTS[from], to: ACCOUNTS[to], cents: rng.i64(100..500_000) }
    };
    (0..BOOKINGS).map(|_| booking()).collect()
}
