//! A shop's orders in two processes: "what comes in right now?", asked beside the program that writes.
//!
//! The program starts itself again as the *checkout*: it appends a made-up day of 20,000 orders to a `Store`, 100 at a time,
//! says after each batch how far it is, and in the end deletes the test orders when it is told that the day is over. Meanwhile the first process is the
//! *dashboard*: it has a `Reader` on the same directory, refreshes it and prints now and then orders, turnover and the share
//! of failed payments, by country. What the reader shows must be exactly the first so many orders, with all those that
//! the checkout had said were in when the refresh began; the last line says how many comparisons there were.
//!
//! ```text
//! cargo run --release --example second_process_reader
//! ```

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use keplordb::{DbError, EngineConfig, Options, Reader, Schema, Store, Totals};
use keplordb_examples::{Checks, human};

/// An order; the calling program fills in the built-in columns like this:
/// - `id` is the order's number,
/// - `metric` the amount in cents,
/// - `latency_ms` how long the payment took,
/// - `status` the answer of the payment provider.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Order {
    #[dim(rollup)]
    country: String,
    #[dim]
    payment: String,
    #[counter]
    items: u32,
    #[label]
    customer: String,
}

const ORDERS: usize = 20_000;
const BATCH_ORDERS: usize = 100;
/// One order in so many is a test and deleted in the end.
const TEST_EVERY: usize = 500;
/// 2026-03-02, 00:00 UTC.
const MIDNIGHT_NS: i64 = 1_772_409_600_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
const SEED: u64 = 4;
/// Statuses of payments that failed; the end is exclusive.
const FAILED: Range<u16> = 400..600;
const COUNTRIES: [&str; 5] = ["AT", "CH", "DE", "FR", "IT"];
const PAYMENTS: [&str; 3] = ["card", "invoice", "transfer"];
/// The checkout's pause between batches, so that there is something to watch.
const PAUSE: Duration = Duration::from_millis(2);

/// What makes this program the checkout.
const CHECKOUT: &str = "--checkout";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (None, _) => dashboard(),
        (Some(role), Some(dir)) if role == CHECKOUT => checkout(Path::new(&dir)),
        (Some(unknown), _) => bail!("unknown argument {}", unknown.display()),
    }
}

/// A segment per 4,000 orders, so that rows move while they are read.
fn config(dir: &Path) -> EngineConfig {
    EngineConfig { wal_max_events: 4_000, ..Order::default_config(dir.to_owned()) }
}

/// The writing process. Each line that it prints is a promise: so many orders are in.
fn checkout(dir: &Path) -> Result<()> {
    let store = Store::<Order>::open_with(config(dir), Options::default())?;
    let orders: Vec<_> = orders().collect();
    let mut said = std::io::stdout().lock();
    for (batch, orders) in orders.chunks(BATCH_ORDERS).enumerate() {
        store.append_batch(orders.iter().map(Sold::builder))?;
        writeln!(said, "{}", batch * BATCH_ORDERS + orders.len())?;
        said.flush()?;
        std::thread::sleep(PAUSE);
    }
    // The dashboard says when the day is over.
    std::io::stdin().read_line(&mut String::new())?;
    let tests: Vec<&str> = orders.iter().filter(|order| order.is_test).map(|order| &*order.number).collect();
    let deleted = store.delete(&tests)?;
    ensure!(deleted == tests.len(), "{deleted} of {} test orders were there", tests.len());
    store.close()?;
    Ok(())
}

/// The reading process.
fn dashboard() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path().join("orders");
    let before = Reader::<Order>::open(&dir);
    ensure!(matches!(before, Err(DbError::Missing { .. })), "nobody has made the table yet");

    let program = std::env::current_exe()?;
    let mut checkout =
        Command::new(program).arg(CHECKOUT).arg(&dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let said = BufReader::new(checkout.stdout.take().context("the checkout has no output")?);
    let promised = Arc::new(AtomicUsize::new(0));
    let listener = {
        let promised = Arc::clone(&promised);
        std::thread::spawn(move || -> Result<()> {
            for line in said.lines() {
                promised.store(line?.parse()?, Ordering::SeqCst);
            }
            Ok(())
        })
    };

    let mut checks = Checks::default();
    let orders: Vec<_> = orders().collect();
    let watched = watch(&dir, &orders, &promised, &mut checks);
    if watched.is_err() {
        checkout.kill()?;
    }
    drop(checkout.stdin.take());
    let status = checkout.wait()?;
    watched?;
    ensure!(status.success(), "the checkout ended with {status}");
    listener.join().expect("the listener does not panic")?;

    check_evening(&dir, &orders, &mut checks)?;
    println!("\nall {} checks passed", checks.passed());
    Ok(())
}

/// Refreshes until all orders are in.
fn watch(dir: &Path, orders: &[Sold], promised: &AtomicUsize, checks: &mut Checks) -> Result<()> {
    // The first promise is given when there is a table.
    while promised.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(PAUSE);
    }
    let reader = Reader::<Order>::open(dir)?;
    let (mut refreshes, mut idle, mut shown) = (0_u64, 0_u64, 0);
    println!("  orders      turnover   failed   by country");
    while shown < orders.len() {
        let least = promised.load(Ordering::SeqCst);
        let now = reader.refresh()?;
        refreshes += 1;
        if !now.changed {
            idle += 1;
            std::thread::sleep(PAUSE / 4);
            continue;
        }
        let all: Totals<1> = reader.totals(Order::filter())?;
        let before = shown;
        shown = usize::try_from(all.event_count)?;
        ensure!(shown >= least, "{shown} orders are shown, {least} were promised");
        checks.equal("orders of the refresh", &now.events, &all.event_count)?;
        let first = &orders[..shown];
        checks.equal("turnover", &all.metric, &first.iter().map(|order| order.cents).sum())?;
        checks.equal("items", &all.counters[0], &first.iter().map(|order| u64::from(order.items)).sum())?;
        let newest = reader.query(Order::filter()).limit(1).rows()?;
        checks.equal("the newest", &newest[0].id(), &&*first[shown - 1].number)?;
        if before / 2_500 < shown / 2_500 {
            show(&reader, &all, first, checks)?;
        }
    }
    println!("{refreshes} refreshes, {idle} of them with nothing new");
    Ok(())
}

fn show(reader: &Reader<Order>, all: &Totals<1>, first: &[Sold], checks: &mut Checks) -> Result<()> {
    let failed: Totals<1> = reader.totals(Order::filter().status(FAILED))?;
    let right = first.iter().filter(|order| FAILED.contains(&order.status)).count() as u64;
    checks.equal("failed payments", &failed.event_count, &right)?;
    let mut countries = String::new();
    for country in COUNTRIES {
        let orders: Totals<1> = reader.totals(Order::filter().country(country))?;
        let right = first.iter().filter(|order| order.country == country).count() as u64;
        checks.equal("orders of a country", &orders.event_count, &right)?;
        write!(countries, "  {country} {}", human::count(orders.event_count))?;
    }
    let (orders, euros) = (human::count(all.event_count), human::count(all.metric.unsigned_abs() / 100));
    let share = human::percent(failed.event_count, all.event_count);
    println!("{orders:>8} {euros:>9} EUR {share:>8} {countries}");
    Ok(())
}

/// The checkout has closed its store; what it deleted is gone, and a reader needs no writer.
fn check_evening(dir: &Path, orders: &[Sold], checks: &mut Checks) -> Result<()> {
    let reader = Reader::<Order>::open(dir)?;
    let kept: Vec<_> = orders.iter().filter(|order| !order.is_test).collect();
    let all: Totals<1> = reader.totals(Order::filter())?;
    checks.equal("orders in the evening", &all.event_count, &(kept.len() as u64))?;
    checks.equal("turnover", &all.metric, &kept.iter().map(|order| order.cents).sum())?;
    checks.equal("a test order", &reader.get(&orders[0].number)?.is_some(), &false)?;
    let order = reader.get(&orders[1].number)?.context("an order is lost")?;
    checks.equal("a customer", &order.customer(), &&*orders[1].customer)?;
    let days = reader.rollups(i64::MIN, i64::MAX, &[])?;
    checks.equal("countries of the day", &days.len(), &COUNTRIES.len())?;
    println!(
        "in the evening {} orders are left, {} tests are deleted",
        kept.len(),
        orders.len() - kept.len()
    );
    Ok(())
}

/// An order as the checkout knows it.
struct Sold {
    number: String,
    ts_ns: i64,
    country: &'static str,
    payment: &'static str,
    items: u32,
    cents: i64,
    took_ms: u32,
    status: u16,
    customer: String,
    is_test: bool,
}

impl Sold {
    fn builder(&self) -> OrderBuilder {
        let (country, payment) = (self.country.to_owned(), self.payment.to_owned());
        Order { country, payment, items: self.items, customer: self.customer.clone() }
            .at(self.ts_ns)
            .id(&self.number)
            .metric(self.cents)
            .latency_ms(self.took_ms)
            .status(self.status)
    }
}

/// The same in both processes.
fn orders() -> impl Iterator<Item = Sold> {
    let mut rng = Rng::with_seed(SEED);
    (0..ORDERS).map(move |number| {
        let items = 1 + rng.u32(..5).min(rng.u32(..8));
        Sold {
            number: format!("order-{number:05}"),
            ts_ns: MIDNIGHT_NS + DAY_NS / ORDERS as i64 * number as i64,
            country: COUNTRIES[rng.usize(..COUNTRIES.len())],
            payment: PAYMENTS[rng.usize(..PAYMENTS.len())],
            items,
            cents: i64::from(items) * rng.i64(199..9_900),
            took_ms: rng.u32(80..2_000),
            status: [200, 200, 200, 200, 200, 200, 200, 200, 402, 503][rng.usize(..10)],
            customer: format!("customer {}", rng.u32(..3_000)),
            is_test: number % TEST_EVERY == 0,
        }
    })
}
