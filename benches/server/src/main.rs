//! `versus-sync`: the server, as a process of its own, beside the machine's own `fdatasync`, in one run.
//!
//! Events are sent over gRPC one by one, by many clients at once, and in batches; it is counted that all of them are there. Measured are
//! also how soon they are in the Parquet files, how long a replay takes, and the memory of the server's process. A figure is the median
//! of its samples; each is printed beside its target.
//!
//! ```text
//! cargo build --release -p keplordb-cli
//! cargo run --release -p keplordb-server-benches -- --keplor target/release/keplor
//! ```
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use keplordb_benches::machine::{Sitting, bench_dir, settle};
use keplordb_server::LakeState;

use figures::{Figures, median, ms};
use load::Sender;
use server::Server;

mod figures;
mod load;
mod server;

/// The server beside the machine's own `fdatasync`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The program that serves
    #[arg(long)]
    keplor: PathBuf,
    /// Events of the root that is replayed, in batches of 1,000
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Samples of each figure
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Events of a sample that are sent one after the other
    #[arg(long, default_value_t = 400)]
    singles: u64,
    /// Clients that send at once, each on a connection of its own
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long they send, in seconds a sample
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Streams of batches at once
    #[arg(long, default_value_t = 4)]
    streams: u64,
}

/// The publish interval of `keplor serve`.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a publication is waited for.
const PUBLISH_MAX: Duration = Duration::from_mins(2);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Figures::default();
    // What small requests take is the server's: their clients share one thread, and wake no other.
    let one_thread = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    one_thread.block_on(singles(&arguments, &mut figures))?;
    one_thread.block_on(many(&arguments, &mut figures))?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(batches(&arguments, &mut figures))?;
    figures.print();
    Ok(())
}

/// One client, one event after the other, in turns with bare syncs.
async fn singles(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let dir = bench_dir()?;
    let server = Server::start(&arguments.keplor, &dir.path().join("root"))?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    figures.at_most("memory of an idle server, MiB", server.mib("VmRSS:")?, 60.0);
    let mut sender = Sender::connect(server.address(), 0).await?;
    let (mut syncs, mut events) = (Vec::new(), Vec::new());
    for _ in 0..arguments.samples {
        settle();
        let sitting = Sitting::measure(dir.path())?;
        syncs.push(ms(sitting.sync_median));
        let mut times = Vec::new();
        for _ in 0..arguments.singles {
            let begin = Instant::now();
            sender.event().await?;
            times.push(ms(begin.elapsed()));
        }
        events.push(median(times));
    }
    let sync_ms = median(syncs);
    figures.told("append of 150 B and fdatasync, ms", sync_ms);
    figures.at_most("one durable event over gRPC, ms", median(events), 1.5 * sync_ms + 0.3);
    server.stop().await
}

/// Many clients at once, each one event after the other.
async fn many(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let dir = bench_dir()?;
    let root = dir.path().join("root");
    let server = Server::start(&arguments.keplor, &root)?;
    let mut senders = Vec::new();
    for number in 0..arguments.clients {
        senders.push(Sender::connect(server.address(), number as u64).await?);
    }
    let (mut rates, mut sent) = (Vec::new(), 0);
    for _ in 0..arguments.samples {
        let begin = Instant::now();
        let until = begin + Duration::from_secs(arguments.seconds);
        let working = senders.drain(..).map(|mut sender| {
            tokio::spawn(async move {
                let mut sent = 0_u64;
                while Instant::now() < until {
                    sender.event().await?;
                    sent += 1;
                }
                anyhow::Ok((sender, sent))
            })
        });
        let mut of_sample = 0;
        for worker in working.collect::<Vec<_>>() {
            let (sender, sent) = worker.await??;
            senders.push(sender);
            of_sample += sent;
        }
        rates.push(of_sample as f64 / begin.elapsed().as_secs_f64());
        sent += of_sample;
    }
    figures.at_least(&format!("durable events/s of {} clients", arguments.clients), median(rates), 20_000.0);
    figures.at_most("its memory at the most, MiB", server.mib("VmHWM:")?, 500.0);
    server.stop().await?;
    ensure!(server::events(&arguments.keplor, &root)? == sent, "every acknowledged event is there, once");
    Ok(())
}

/// Batches of 1,000; how soon they are published; a replay of all of them.
async fn batches(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let mut rates = Vec::new();
    for sample in 0..arguments.samples {
        let dir = bench_dir()?;
        let root = dir.path().join("root");
        let server = Server::start(&arguments.keplor, &root)?;
        settle();
        let begin = Instant::now();
        let each = arguments.rows / 1000 / arguments.streams;
        let mut working = Vec::new();
        for number in 0..arguments.streams {
            let mut sender = Sender::connect(server.address(), number).await?;
            working.push(tokio::spawn(async move {
                let mut last = 0;
                for _ in 0..each {
                    last = sender.batch(1000).await?;
                }
                anyhow::Ok(last)
            }));
        }
        let mut last = 0;
        for worker in working {
            last = last.max(worker.await??);
        }
        rates.push((each * arguments.streams * 1000) as f64 / begin.elapsed().as_secs_f64());
        if sample + 1 < arguments.samples {
            server.stop().await?;
            continue;
        }
        published(&root, last).await?;
        let mut sender = Sender::connect(server.address(), arguments.streams).await?;
        let mut waits = Vec::new();
        for _ in 0..arguments.samples {
            let sequence = sender.event().await?;
            let acknowledged = Instant::now();
            published(&root, sequence).await?;
            waits.push(acknowledged.elapsed().as_secs_f64());
        }
        let slowest = waits.iter().copied().fold(0.0, f64::max);
        let most = INTERVAL.as_secs_f64() + 2.0;
        figures.at_most("until an event is in the files, at the most, s", slowest, most);
        figures.at_most(
            &format!("memory of a server with {} events at the most, MiB", arguments.rows),
            server.mib("VmHWM:")?,
            500.0,
        );
        server.stop().await?;
        let sent = each * arguments.streams * 1000 + arguments.samples as u64;
        ensure!(server::events(&arguments.keplor, &root)? == sent, "every acknowledged event is there, once");
        let mut replays = Vec::new();
        for _ in 0..arguments.samples {
            settle();
            let begin = Instant::now();
            server::replay(&arguments.keplor, &root)?;
            replays.push(begin.elapsed().as_secs_f64());
        }
        figures.at_most(&format!("a replay of {} events, s", arguments.rows), median(replays), 30.0);
    }
    figures.at_least("events/s in batches of 1,000", median(rates), 300_000.0);
    Ok(())
}

/// Waits until what came in up to a sequence is in the files.
async fn published(root: &std::path::Path, sequence: u64) -> Result<()> {
    let begin = Instant::now();
    loop {
        let state = LakeState::beside(root)?;
        if state.is_some_and(|state| state.is_live && state.checkpoint_seq >= sequence) {
            return Ok(());
        }
        (begin.elapsed() < PUBLISH_MAX).then_some(()).context("nothing was published")?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
