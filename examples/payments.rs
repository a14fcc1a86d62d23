//! Payments: "does every cent add up, by merchant, by day and over all, also after a correction?"
//!
//! Appends a made-up week of card payments (40,000, the same each time) in durable batches, as a bank's settlement file
//! brings them: each batch is there whole or not at all. Prints: what was settled, declined and paid back by currency; the
//! merchants and their fees, which must reconcile with the currencies to the cent; the days, which must too. Then corrects:
//! a payment that was booked twice is taken out, one with a wrong amount is replaced under its id; sums and days follow. The
//! store is closed and opened again, and the books are the same. Every answer is compared with a plain loop over the same
//! payments; the last line says how many comparisons there were.
//!
//! ```text
//! cargo run --release --example payments
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use keplordb::{EngineConfig, Options, Schema, Store, Totals};
use keplordb_examples::{Checks, human};

/// A payment; of the built-in columns:
/// - `id` is the scheme's reference, by which a payment is corrected,
/// - `metric` the amount in the currency's smallest unit: paid back, it is below 0; declined, it moved nothing and is 0,
/// - `latency_ms` how long the cardholder waited,
/// - `status` what became of it.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Payment {
    #[dim(bloom, rollup)]
    merchant: String,
    #[dim(rollup)]
    currency: String,
    #[dim]
    card: String,
    /// What the merchant pays for it, in the currency's smallest unit.
    #[counter]
    fee: u32,
    /// What the cardholder reads on the statement.
    #[label]
    statement: String,
}

const SETTLED: u16 = 200;
const PAID_BACK: u16 = 201;
const DECLINED: u16 = 402;

const MERCHANTS: u32 = 30;
const CURRENCIES: [&str; 3] = ["CHF", "EUR", "JPY"];
const CARDS: [&str; 3] = ["debit", "credit", "prepaid"];

const PAYMENTS: i64 = 40_000;
const DAYS: i64 = 7;
/// 2026-03-02, 00:00 UTC.
const FIRST_MIDNIGHT_S: i64 = 1_772_409_600;
const DAY_S: i64 = 86_400;
const NS_PER_S: i64 = 1_000_000_000;
const SEED: u64 = 29;
/// Payments of a settlement file.
const FILE_PAYMENTS: usize = 2_000;

/// A payment as the settlement file has it.
#[derive(Debug, Clone, PartialEq)]
struct Booking {
    reference: String,
    ts_ns: i64,
    merchant: String,
    currency: &'static str,
    card: &'static str,
    amount: i64,
    fee: u32,
    waited_ms: u32,
    status: u16,
}

impl From<&Booking> for PaymentBuilder {
    fn from(booking: &Booking) -> Self {
        let columns = Payment {
            merchant: booking.merchant.clone(),
            currency: booking.currency.to_owned(),
            card: booking.card.to_owned(),
            fee: booking.fee,
            statement: format!("{} {}", booking.merchant, booking.reference),
        };
        let event = columns.at(booking.ts_ns).id(&booking.reference).metric(booking.amount);
        event.latency_ms(booking.waited_ms).status(booking.status)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("payments");
    let mut bookings = a_week(&mut Rng::with_seed(SEED));
    let mut checks = Checks::default();

    let store = open(&dir)?;
    settle(&store, &bookings, &mut checks)?;
    show_currencies(&store, &bookings, &mut checks)?;
    show_merchants(&store, &bookings, &mut checks)?;
    show_days(&store, &bookings, &mut checks)?;
    take_out(&store, &mut bookings, &mut checks)?;
    replace(&store, &mut bookings, &mut checks)?;
    store.close()?;

    let store = open(&dir)?;
    println!("\nopened again: {} payments", human::count(store.stats().events));
    check_books(&store, &bookings, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// A segment per 8,000 payments; by default it would be one per 500,000, and all of these would still be in memory.
fn open(dir: &Path) -> Result<Store<Payment>> {
    let config = EngineConfig { wal_max_events: 8_000, ..Payment::default_config(PathBuf::from(dir)) };
    Ok(Store::open_with(config, Options::default())?)
}

/// On return of an append the file is on disk, whole; when a power cut came first, none of it is, and it is sent again. Its
/// first reference tells which.
fn settle(store: &Store<Payment>, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    let mut sent_twice = 0;
    for (number, file) in bookings.chunks(FILE_PAYMENTS).enumerate() {
        // The answer to every fourth file is lost, and the file comes again.
        let sent = if number % 4 == 3 { 2 } else { 1 };
        for _ in 0..sent {
            let first = file.first().context("a file has payments")?;
            if store.get(&first.reference)?.is_none() {
                store.append_batch_durable(file)?;
            } else {
                sent_twice += 1;
            }
        }
    }
    let files = bookings.len().div_ceil(FILE_PAYMENTS);
    println!(
        "{} payments in {files} files; {sent_twice} files came twice",
        human::count(bookings.len() as u64)
    );
    checks.equal("payments, none of them twice", &store.stats().events, &(bookings.len() as u64))
}

fn show_currencies(store: &Store<Payment>, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    println!("\n                   settled          paid back        declined    left");
    for currency in CURRENCIES {
        let of =
            |status| store.query(Payment::filter().currency(currency).status(status..status + 1)).totals();
        let (settled, paid_back, declined) = (of(SETTLED)?, of(PAID_BACK)?, of(DECLINED)?);
        let all = store.query(Payment::filter().currency(currency)).totals()?;
        println!(
            "  {currency} {:>22} {:>18} {:>15} {:>7}",
            money(settled.metric, currency),
            money(paid_back.metric, currency),
            human::count(declined.event_count),
            money(all.metric, currency)
        );
        ensure!(settled.metric + paid_back.metric == all.metric, "{currency} does not reconcile");
        for (status, totals) in [(SETTLED, &settled), (PAID_BACK, &paid_back), (DECLINED, &declined)] {
            let right = bookings.iter().filter(|b| b.currency == currency && b.status == status);
            check_sums("a currency and status", totals, right, checks)?;
        }
        check_sums("a currency", &all, bookings.iter().filter(|b| b.currency == currency), checks)?;
    }
    Ok(())
}

fn show_merchants(store: &Store<Payment>, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    let mut merchants = Vec::new();
    let (mut amounts, mut fees) = (0, 0);
    for merchant in (0..MERCHANTS).map(merchant_name) {
        let of_merchant = store.query(Payment::filter().merchant(&merchant)).totals()?;
        check_sums("a merchant", &of_merchant, bookings.iter().filter(|b| b.merchant == merchant), checks)?;
        amounts += of_merchant.metric;
        fees += of_merchant.counters[0];
        merchants.push((of_merchant.counters[0], merchant, of_merchant.event_count));
    }
    let all = store.query(Payment::filter()).totals()?;
    ensure!(
        (amounts, fees) == (all.metric, all.counters[0]),
        "the merchants do not reconcile with the whole"
    );
    merchants.sort_unstable_by(|one, other| other.cmp(one));
    println!("\nwho paid most in fees");
    for (fee, merchant, payments) in merchants.iter().take(3) {
        println!("  {merchant}  {:>9} units for {:>5} payments", human::count(*fee), human::count(*payments));
    }
    checks.equal("all merchants together", &(amounts, fees), &(all.metric, all.counters[0]))
}

/// Payments, amounts and fees, by day (its UTC midnight, in epoch seconds), merchant and currency.
type Days = BTreeMap<(i64, String, String), (u64, i64, u64)>;

fn days(store: &Store<Payment>) -> Result<Days> {
    let last_midnight_s = FIRST_MIDNIGHT_S + (DAYS - 1) * DAY_S;
    let mut days = Days::new();
    for (key, value) in store.rollups(FIRST_MIDNIGHT_S, last_midnight_s, &[])? {
        let [merchant, currency] =
            <[String; 2]>::try_from(key.dims).map_err(|dims| anyhow!("a rollup of {dims:?}"))?;
        days.insert((key.day, merchant, currency), (value.event_count, value.metric, value.counters[0]));
    }
    Ok(days)
}

fn days_of(bookings: &[Booking]) -> Days {
    let mut days = Days::new();
    for booking in bookings {
        let midnight_s = (booking.ts_ns / NS_PER_S).div_euclid(DAY_S) * DAY_S;
        let key = (midnight_s, booking.merchant.clone(), booking.currency.to_owned());
        let (payments, amount, fees) = days.entry(key).or_default();
        *payments += 1;
        *amount += booking.amount;
        *fees += u64::from(booking.fee);
    }
    days
}

fn show_days(store: &Store<Payment>, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    let days = days(store)?;
    println!("\nday    payments          left in CHF");
    for day in 0..DAYS {
        let of_day = days.iter().filter(|((at, ..), _)| *at == FIRST_MIDNIGHT_S + day * DAY_S);
        let payments: u64 = of_day.clone().map(|(_, (payments, ..))| payments).sum();
        let francs =
            of_day.filter(|((.., currency), _)| currency == "CHF").map(|(_, (_, amount, _))| amount).sum();
        println!("  {} {:>11} {:>20}", day + 1, human::count(payments), money(francs, "CHF"));
    }
    checks.equal("days, merchants and currencies", &days, &days_of(bookings))
}

/// Booked under two references by mistake: the second one goes.
fn take_out(store: &Store<Payment>, bookings: &mut Vec<Booking>, checks: &mut Checks) -> Result<()> {
    let right = bookings.iter().find(|b| b.status == SETTLED).context("some payment was settled")?;
    let doubled = Booking { reference: format!("{}-again", right.reference), ..right.clone() };
    store.append_durable(&doubled)?;
    bookings.push(doubled.clone());
    check_books(store, bookings, checks)?;

    let deleted = store.delete(&[&doubled.reference])?;
    bookings.pop();
    println!("\ntaken out: {} of {}", doubled.reference, money(doubled.amount, doubled.currency));
    checks.equal("payments taken out", &deleted, &1)?;
    checks.equal("the payment that was taken out", &store.get(&doubled.reference)?.is_none(), &true)?;
    check_books(store, bookings, checks)
}

/// A payment is replaced by taking it out and booking it again under its reference. In this order: after a crash in between it is
/// missing, which the next run of this correction mends; it is never there twice.
fn replace(store: &Store<Payment>, bookings: &mut [Booking], checks: &mut Checks) -> Result<()> {
    let wrong = bookings.iter_mut().rfind(|b| b.status == SETTLED).context("some payment was settled")?;
    let was = wrong.amount;
    wrong.amount = was / 10;
    wrong.fee = fee_of(wrong.amount)?;
    let right = wrong.clone();
    store.delete(&[&right.reference])?;
    store.append_durable(&right)?;
    println!(
        "replaced:  {}, {} was {}",
        right.reference,
        money(right.amount, right.currency),
        money(was, right.currency)
    );
    let found = store.get(&right.reference)?.map(|row| (row.metric(), row.fee(), row.statement().to_owned()));
    let statement = format!("{} {}", right.merchant, right.reference);
    checks.equal("the payment that was replaced", &found, &Some((right.amount, right.fee, statement)))?;
    check_books(store, bookings, checks)
}

/// The whole, each currency, and each day of each merchant.
fn check_books(store: &Store<Payment>, bookings: &[Booking], checks: &mut Checks) -> Result<()> {
    let all = store.query(Payment::filter()).totals()?;
    check_sums("all payments", &all, bookings.iter(), checks)?;
    for currency in CURRENCIES {
        let totals = store.query(Payment::filter().currency(currency)).totals()?;
        check_sums("a currency", &totals, bookings.iter().filter(|b| b.currency == currency), checks)?;
    }
    checks.equal("days, merchants and currencies", &days(store)?, &days_of(bookings))
}

/// Compares count, amounts, fees and waiting times with those of the payments that the answer is about.
fn check_sums<'a>(
    question: &str,
    answer: &Totals<1>,
    bookings: impl Iterator<Item = &'a Booking>,
    checks: &mut Checks,
) -> Result<()> {
    let (mut count, mut amount, mut fees, mut waited_ms) = (0, 0, 0, 0);
    for booking in bookings {
        count += 1;
        amount += booking.amount;
        fees += u64::from(booking.fee);
        waited_ms += u64::from(booking.waited_ms);
    }
    let answered = (answer.event_count, answer.metric, answer.counters[0], answer.latency_ms);
    checks.equal(question, &answered, &(count, amount, fees, waited_ms))
}

/// Yen have no smaller unit.
fn money(units: i64, currency: &str) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let units = units.unsigned_abs();
    match currency {
        "JPY" => format!("{sign}{} {currency}", human::count(units)),
        _ => format!("{sign}{}.{:02} {currency}", human::count(units / 100), units % 100),
    }
}

fn merchant_name(number: u32) -> String {
    format!("merchant-{number:02}")
}

/// 1.4 %, rounded down to the unit.
fn fee_of(amount: i64) -> Result<u32> {
    Ok(u32::try_from(amount * 14 / 1_000)?)
}

/// In order of time, spread evenly over the week.
fn a_week(rng: &mut Rng) -> Vec<Booking> {
    let step_ns = DAYS * DAY_S * NS_PER_S / PAYMENTS;
    let begin_ns = FIRST_MIDNIGHT_S * NS_PER_S;
    (0..PAYMENTS).map(|n| a_booking(rng, n, begin_ns + n * step_ns)).collect()
}

fn a_booking(rng: &mut Rng, number: i64, ts_ns: i64) -> Booking {
    let price = rng.i64(100..250_000);
    let (status, amount) = match rng.u32(..100) {
        0..6 => (DECLINED, 0),
        6..9 => (PAID_BACK, -price),
        _ => (SETTLED, price),
    };
    Booking {
        reference: format!("pay-{number:06}"),
        ts_ns,
        // The smaller of two: the first merchants sell most.
        merchant: merchant_name(rng.u32(..MERCHANTS).min(rng.u32(..MERCHANTS))),
        currency: CURRENCIES[rng.usize(..CURRENCIES.len())],
        card: CARDS[rng.usize(..CARDS.len())],
        amount,
        fee: fee_of(amount.max(0)).unwrap_or(0),
        waited_ms: rng.u32(180..2_400),
        status,
    }
}
