//! `keplor tail`: the newest events, and those that come.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use keplordb::any::{AnyFilter, AnySnapshot, Test};

use super::Done;
#[cfg(feature = "server")]
use super::server;
use crate::conditions::Conditions;
use crate::output::Output;
use crate::parse;
use crate::sheet::{Form, Sheet};
use crate::table;

/// How long sequences are remembered: the writer's shards are read one after the other, so an event may come after one with a
/// larger sequence.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How far below the newest sequence one may still come, of an append that was under way at the beginning.
const RECENT: u64 = 1 << 16;

/// Print the newest events, and go on with those that come
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor tail calls.db -f -w 'status>=500' --columns ts,user,status
  keplor tail data -f --json          of the root of a server")]
pub(crate) struct Tail {
    /// The table's directory, or a server's root; another process may be writing to it
    dir: PathBuf,
    #[command(flatten)]
    conditions: Conditions,
    /// Only these columns, in this order: ts,carrier
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// How many of those that are there already
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Go on with events that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How often to look for them
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = "200ms", requires = "follow")]
    every: Duration,
    /// Of a server's root: only events of entities of these types: User,Order
    #[cfg(feature = "server")]
    #[arg(long = "type", value_name = "NAMES", value_delimiter = ',')]
    types: Vec<String>,
    #[command(flatten)]
    form: Form,
}

/// Which sequences were printed.
pub(super) struct Printed {
    /// Of those up to here nothing comes any more.
    floor: u64,
    /// Of those above, and when they came.
    above: HashSet<u64>,
    /// The largest of them, and since when there has been none above it.
    steps: Vec<(Instant, u64)>,
}

impl Tail {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        #[cfg(feature = "server")]
        if keplordb_server::is_root(&self.dir) {
            return self.follow_root(out);
        }
        #[cfg(feature = "server")]
        anyhow::ensure!(
            self.types.is_empty(),
            "--type is for servers' roots; of a table `-w` says which events"
        );
        let reader = table::reader(&self.dir)?;
        let snapshot = reader.snapshot();
        let columns = reader.columns();
        let places = table::places(columns, &self.columns)?;
        let filter = self.conditions.filter(&snapshot)?;
        let headings = places.iter().map(|place| table::heading(&columns[*place])).collect();
        let mut sheet = Sheet::new(out, self.form, headings);

        let mut newest = snapshot.query().filter(&filter).newest_first().limit(self.limit).rows()?;
        newest.reverse();
        for row in &newest {
            let values = row.values();
            let cells: Vec<_> =
                places.iter().map(|place| table::cell(&columns[*place], values[*place].clone())).collect();
            sheet.row(&cells)?;
        }
        if !self.follow {
            sheet.finish()?;
            return Ok(Done::Well);
        }
        sheet.flush()?;
        let mut printed = Printed::of(&snapshot)?;
        drop(snapshot);
        let mut is_overtaken = false;
        loop {
            std::thread::sleep(self.every);
            sheet.check_reader()?;
            if !reader.refresh()?.changed && !is_overtaken {
                continue;
            }
            let snapshot = reader.snapshot();
            let mut result = Ok(());
            let query = snapshot.query().filter(&(filter.clone() & printed.filter(&snapshot)?));
            let scanned = query.oldest_first().scan(|row| {
                if printed.is_new(row.view().sequence()) {
                    result = table::cells(columns, &places, row)
                        .map_err(anyhow::Error::from)
                        .and_then(|cells| sheet.row(&cells));
                }
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            result?;
            sheet.flush()?;
            is_overtaken = scanned.is_err();
            match scanned.map_err(anyhow::Error::from) {
                // The writer has replaced a file; what is not printed yet comes from the one in its place.
                Err(error) if super::is_overtaken(&error) => continue,
                scanned => scanned?,
            }
            printed.step(snapshot.below(), Instant::now());
        }
    }
}

#[cfg(feature = "server")]
impl Tail {
    /// The directory is a server's root.
    fn follow_root(self, out: &mut Output) -> Result<Done> {
        anyhow::ensure!(
            self.conditions.texts().is_empty() && self.columns.is_empty(),
            "{} is a server's root: --type says which events; its log is a table in {}, which takes conditions and columns",
            self.dir.display(),
            self.dir.join("segments").display()
        );
        let every = self.follow.then_some(self.every);
        let follow = server::Follow { types: &self.types, limit: self.limit, every };
        server::tail(&self.dir, follow, self.form, out)
    }
}

impl Printed {
    /// All that a snapshot has. Of an append that was under way then the sequence may be below others that are there.
    fn of(snapshot: &AnySnapshot) -> Result<Self> {
        let mut printed = Self::up_to(snapshot.below().saturating_sub(RECENT));
        let recent = printed.filter(snapshot)?;
        snapshot.query().filter(&recent).scan(|row| {
            printed.above.insert(row.view().sequence());
            ControlFlow::Continue(())
        })?;
        printed.step(snapshot.below(), Instant::now());
        Ok(printed)
    }

    /// All below a sequence.
    pub(super) fn up_to(below: u64) -> Self {
        Self { floor: below.saturating_sub(1), above: HashSet::new(), steps: Vec::new() }
    }

    /// The events that may be new.
    fn filter(&self, snapshot: &AnySnapshot) -> Result<AnyFilter> {
        let lo = i64::try_from(self.floor + 1).unwrap_or(i64::MAX);
        Ok(snapshot.filter("sequence", Test::Between { lo, hi: i64::MAX })?)
    }

    /// Of those up to here nothing comes any more.
    #[cfg(feature = "server")]
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether it was not printed yet; it is from now on.
    pub(super) fn is_new(&mut self, sequence: u64) -> bool {
        sequence > self.floor && self.above.insert(sequence)
    }

    /// Forgets what came long ago.
    pub(super) fn step(&mut self, below: u64, now: Instant) {
        self.steps.push((now, below.saturating_sub(1)));
        let old = self.steps.partition_point(|(at, _)| now.duration_since(*at) >= REMEMBERED);
        if let Some((_, floor)) = self.steps.drain(..old).next_back() {
            self.floor = self.floor.max(floor);
            self.above.retain(|sequence| *sequence > floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_is_new_once_also_behind_larger_ones() {
        let mut printed = Printed::up_to(10);
        let begun = Instant::now();
        assert!(!printed.is_new(9) && printed.is_new(12) && !printed.is_new(12));
        printed.step(13, begun);
        assert!(printed.is_new(11), "of another shard");
        printed.step(13, begun + REMEMBERED);
        assert!(!printed.is_new(11) && !printed.is_new(12) && printed.is_new(13));
        assert_eq!((printed.floor, printed.above.len()), (12, 1));
    }
}
