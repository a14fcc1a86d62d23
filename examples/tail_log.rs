//! A log in two processes: one writes it, the other follows, and the writer is killed on the way.
//!
//! The program starts itself again as the *till*: it writes a made-up evening of 6,000 sales to a log, in batches of one to
//! eight, and says after each batch how many are in. Meanwhile the first process is the *display*: it follows the log with one
//! reader, which needs no lock and sleeps until there is more, adds up what each counter has sold, and shows it now and then.
//! Halfway it kills the till, in the middle of whatever that does, and starts another, which goes on behind the last sale that is in the log.
//!
//! The display must see each sale once and in order, no batch in parts, and all that a till has promised; times must increase,
//! also over the kill. In the end it reads the last five sales backwards.
//!
//! ```text
//! cargo run --release --example tail_log
//! ```

#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use keplordb_examples::{Checks, human};
use keplordb_log::{Log, Options, Timestamp};

const SALES: usize = 6_000;
const SEED: u64 = 11;
const COUNTERS: [&str; 4] = ["bar", "books", "coffee", "tickets"];
/// The till is killed when so many sales have been seen.
const KILL_AT: usize = SALES / 2;
/// How long the display waits for a sale before it takes the till for dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// The till's pause between batches, so that there is something to watch.
const PAUSE: Duration = Duration::from_micros(500);

/// What makes this program the till.
const TILL: &str = "--till";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (None, _) => display(),
        (Some(role), Some(dir)) if role == TILL => till(Path::new(&dir)),
        (Some(unknown), _) => bail!("unknown argument {}", unknown.display()),
    }
}

/// Small segments, so that both sides go over from one to the next while we watch.
fn open(dir: &Path) -> Result<Log> {
    Ok(Log::open_with(dir, Options { max_segment_bytes: 64 << 10, ..Options::default() })?)
}

/// The writing process. Each line that it prints is a promise: so many sales are in, and on disk.
fn till(dir: &Path) -> Result<()> {
    let log = open(dir)?;
    let writer = log.writer()?;
    let done = match log.last()? {
        Some(last) => Sale::decode(&last.bytes)?.number + 1,
        None => 0,
    };
    let sales: Vec<_> = sales().skip(done).map(|sale| sale.encode()).collect();
    let mut rng = Rng::new();
    let mut said = std::io::stdout().lock();
    let mut written = 0;
    while written < sales.len() {
        let batch = &sales[written..(written + rng.usize(1..=8)).min(sales.len())];
        writer.write_batch(batch)?;
        written += batch.len();
        writeln!(said, "{}", done + written)?;
        said.flush()?;
        std::thread::sleep(PAUSE);
    }
    writer.close()?;
    Ok(())
}

/// The following process.
fn display() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path().join("sales");
    let mut checks = Checks::default();
    let promised = Arc::new(AtomicUsize::new(0));
    let mut till = Till::start(&dir, &promised)?;

    // There need not be a directory yet, let alone an entry.
    let mut reader = open(&dir)?.reader()?;
    let sales: Vec<_> = sales().collect();
    let mut sold = [0_u64; COUNTERS.len()];
    let (mut seen, mut waits, mut last) = (0, 0_u64, Timestamp::MIN);
    let mut late = Vec::new();
    println!("   sales   by counter");
    while seen < sales.len() {
        let Some(entry) = reader.next()? else {
            waits += 1;
            ensure!(reader.wait(PATIENCE)?, "no sale came within {}", human::duration(PATIENCE));
            continue;
        };
        late.push(Timestamp::now().since(entry.time));
        ensure!(entry.time > last, "{} comes after {last}", entry.time);
        last = entry.time;
        let sale = Sale::decode(entry.bytes)?;
        checks.equal("a sale", &sale, &sales[seen])?;
        sold[sale.counter] += u64::from(sale.cents);
        seen += 1;
        if seen % 1_000 == 0 {
            show(seen, &sold);
        }
        if seen == KILL_AT {
            till.kill()?;
            // What the till had said before it died is in the log.
            let (said, last) =
                (promised.load(Ordering::SeqCst), open(&dir)?.last()?.context("the log is empty")?);
            let written = Sale::decode(&last.bytes)?.number + 1;
            ensure!(written >= said, "{said} sales were promised, {written} are in the log");
            println!("  killed the till: it had promised {said} sales, {written} are in the log");
            till = Till::start(&dir, &promised)?;
        }
    }
    till.end()?;
    checks.equal("what was promised", &promised.load(Ordering::SeqCst), &seen)?;
    checks.equal("nothing is left", &reader.next()?.is_none(), &true)?;

    late.sort_unstable();
    println!(
        "{} sales in {waits} waits; half were seen within {} of being written",
        human::count(seen as u64),
        human::duration(late[late.len() / 2])
    );
    check_evening(&dir, &sales, &mut checks)?;
    println!("\nall {} checks passed", checks.passed());
    Ok(())
}

fn show(seen: usize, sold: &[u64]) {
    print!("{:>8} ", human::count(seen as u64));
    for (counter, cents) in COUNTERS.iter().zip(sold) {
        print!("  {counter} {} EUR", human::count(cents / 100));
    }
    println!();
}

/// Both tills have ended; the log needs nobody to be read, nor to be read backwards.
fn check_evening(dir: &Path, sales: &[Sale], checks: &mut Checks) -> Result<()> {
    let log = open(dir)?;
    let mut reader = log.newest()?;
    println!("the last sales, newest first:");
    for right in sales.iter().rev().take(5) {
        let entry = reader.back()?.context("a sale is lost")?;
        let sale = Sale::decode(entry.bytes)?;
        println!(
            "  {}  sale {} for {} cents, {}",
            entry.time, sale.number, sale.cents, COUNTERS[sale.counter]
        );
        checks.equal("a sale, backwards", &sale, right)?;
    }
    let segments = log.segments()?;
    let entries: u64 = segments.iter().map(|segment| segment.entries).sum();
    checks.equal("entries of all segments", &entries, &(sales.len() as u64))?;
    ensure!(segments.len() > 2, "{} segments are too few to see a rollover", segments.len());
    println!("{} segments", segments.len());
    Ok(())
}

/// The other process, and the thread that hears what it says.
struct Till {
    process: Child,
    listener: JoinHandle<Result<()>>,
}

impl Till {
    fn start(dir: &Path, promised: &Arc<AtomicUsize>) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program).arg(TILL).arg(dir).stdout(Stdio::piped()).spawn()?;
        let said = process.stdout.take().context("the till has no output")?;
        let promised = Arc::clone(promised);
        let listener = std::thread::spawn(move || listen(said, &promised));
        Ok(Self { process, listener })
    }

    /// Kills it, and hears it out.
    fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        self.listener.join().expect("the listener does not panic")
    }

    fn end(mut self) -> Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the till ended with {status}");
        self.listener.join().expect("the listener does not panic")
    }
}

fn listen(said: ChildStdout, promised: &AtomicUsize) -> Result<()> {
    for line in BufReader::new(said).lines() {
        promised.fetch_max(line?.parse()?, Ordering::SeqCst);
    }
    Ok(())
}

/// A sale, and its bytes in the log: number, counter, cents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sale {
    number: usize,
    counter: usize,
    cents: u32,
}

impl Sale {
    fn encode(&self) -> Vec<u8> {
        format!("{} {} {}", self.number, COUNTERS[self.counter], self.cents).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut words = str::from_utf8(bytes)?.split(' ');
        let mut word = || words.next().context("a sale has three words");
        let number = word()?.parse()?;
        let name = word()?;
        let counter = COUNTERS.iter().position(|counter| *counter == name).context("no such counter")?;
        Ok(Self { number, counter, cents: word()?.parse()? })
    }
}

/// The same in all processes.
fn sales() -> impl Iterator<Item = Sale> {
    let mut rng = Rng::with_seed(SEED);
    (0..SALES).map(move |number| Sale {
        number,
        counter: rng.usize(..COUNTERS.len()),
        cents: rng.u32(180..4_000),
    })
}
