//! The oracle: what an engine may show, given what the program was told. One function for each of the twelve invariants, and
//! one judge for every way in which a disk may have been left.
//!
//! | | |
//! |---|---|
//! | I1 | what was acknowledged is there, each row once |
//! | I2 | what is there was submitted, with these bytes |
//! | I3 | a batch is there as a whole or not at all |
//! | I4 | each log keeps a prefix of what it was given |
//! | I5 | every kind of query gives what a loop over the rows gives |
//! | I6 | a second open changes no file and shows the same |
//! | I7 | a crash inside the recovery changes nothing of this |
//! | I8 | an open that fails leaves every byte as it was |
//! | I9 | nothing panics, and no open allocates beyond 64 MiB + 16 × the bytes on disk + one frame |
//! | I10 | what gc or a delete took away stays away |
//! | I11 | what is appended after a recovery outlasts the next power cut, with all that was there |
//! | I12 | what a reopened engine has shown outlasts the next power cut |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use keplordb::DbError;
use keplordb::disk::{Disk, SimDisk};

use crate::ledger::{Effect, End, Ledger, Tick};
use crate::meter;
use crate::naive::{self, Naive};
use crate::table::{self, Db, Event, Row};
use crate::trial::{DIR, open};
use crate::workload::Settings;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which of the twelve.
    pub invariant: &'static str,
    /// What was seen instead.
    pub what: String,
}

impl Violation {
    fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }

    /// The test itself could not go on.
    pub fn harness(what: &str) -> Self {
        Self::new("the test", what)
    }

    /// A call failed that nothing had kept from succeeding: what is on disk cannot be got at.
    pub fn unexpected(call: &str, error: &DbError) -> Self {
        Self::new("I1", format!("{call} failed: {error}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken: {}", self.invariant, self.what)
    }
}

/// What befell the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process died: what was acknowledged is there.
    Kill,
    /// The power was cut: what was promised to be on disk is there.
    Power,
}

/// How thoroughly an image is looked at. What is left out is meant for a sample of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Also every other kind of query (I5), not only all rows and their count.
    pub queries: bool,
    /// Also a second open (I6).
    pub again: bool,
    /// Also an append, a power cut and an open (I11, I12).
    pub goes_on: bool,
}

impl Depth {
    /// Everything.
    pub const FULL: Self = Self { queries: true, again: true, goes_on: true };
}

/// A disk that something was done to, and all that is needed to judge what is found on it.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What was promised.
    pub ledger: &'a Ledger,
    /// When it happened.
    pub moment: Tick,
    /// What happened.
    pub loss: Loss,
    /// How the engine is opened.
    pub settings: &'a Settings,
}

impl Case<'_> {
    /// Opens the table as it is to be opened then.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(&self, disk: &SimDisk) -> Result<Db, DbError> {
        open(disk, DIR, self.settings, self.ledger.is_wide(self.moment))
    }

    /// Opens the disk and holds what is there against the invariants. Returns the numbers of the rows that are shown.
    ///
    /// # Errors
    /// The first promise that is not kept.
    pub fn judge(&self, disk: &SimDisk, depth: Depth) -> Result<BTreeSet<u64>, Violation> {
        i9_no_panic(|| self.judge_in_peace(disk, depth))
    }

    fn judge_in_peace(&self, disk: &SimDisk, depth: Depth) -> Result<BTreeSet<u64>, Violation> {
        let disk = disk.kill();
        let before = disk.kill();
        let db = match i9_bounded_memory(&before, || self.open(&disk))? {
            Ok(db) => db,
            Err(error) => {
                i8_a_failed_open_changes_nothing(&before, &disk)?;
                return Err(Violation::unexpected("open", &error));
            }
        };
        let rows = db.rows().map_err(|error| Violation::unexpected("query", &error))?;
        let shown = self.rows_are_legal(&rows)?;
        if !self.settings.quarantine && db.set_aside() > 0 {
            let what = "nothing was damaged and no manifest is older than it was, but a file was set aside";
            return Err(Violation::new("I1", what));
        }
        if depth.queries {
            i5_queries_agree(&db, &rows)?;
        } else if db.count() != rows.len() as u64 {
            return Err(Violation::new(
                "I5",
                format!("{} rows are counted, {} shown", db.count(), rows.len()),
            ));
        }
        if depth.goes_on {
            // Before the engine is closed, which may sync what the open should have synced.
            for seed in [0, self.moment + 2] {
                self.i12_shown_rows_last(&disk.power_cut(seed), &shown)?;
            }
        }
        if depth.again {
            // Of a run that recovered and ended; below, life goes on in the one that recovered.
            let copy = before.kill();
            drop(self.open(&copy));
            self.i6_a_second_open_is_the_same(&copy, &shown)?;
            self.checkpoints_are_whole_or_refused(&copy)?;
        }
        if depth.goes_on {
            self.i11_life_goes_on(&db, &disk, &shown)?;
        }
        Ok(shown)
    }

    /// I1, I2, I3, I4 and I10, under any of the possibilities that what was under way leaves open. Returns the rows' numbers.
    ///
    /// # Errors
    /// The first promise that is not kept.
    pub fn rows_are_legal(&self, rows: &[Row]) -> Result<BTreeSet<u64>, Violation> {
        let shown = i2_nothing_is_invented(rows, self.ledger, self.moment)?;
        let effect = |end: &crate::ledger::Removal| end.effect(self.moment);
        let removals = || self.ledger.removals.iter();
        let mut gone: BTreeSet<u64> = BTreeSet::new();
        for removal in removals().filter(|removal| effect(removal) == Effect::Certain) {
            gone.extend(&removal.rows);
        }
        i10_what_was_removed_stays_away(&shown, &gone)?;
        let open: Vec<_> = removals().filter(|removal| effect(removal) == Effect::Possible).collect();
        // Rows of a removal that need not be whole may each be gone if they are not there.
        for removal in open.iter().filter(|removal| !removal.is_whole) {
            gone.extend(removal.rows.difference(&shown));
        }
        let whole: Vec<_> = open.iter().filter(|removal| removal.is_whole).collect();
        let mut outcome = Ok(());
        for choice in 0..1_u32 << whole.len().min(8) {
            let mut gone = gone.clone();
            for (place, removal) in whole.iter().enumerate() {
                if choice >> place & 1 == 1 {
                    gone.extend(&removal.rows);
                }
            }
            let legal = i10_what_was_removed_stays_away(&shown, &gone)
                .and_then(|()| self.i1_what_was_acknowledged_is_there(&shown, &gone))
                .and_then(|()| self.i3_batches_are_whole(&shown, &gone))
                .and_then(|()| self.i4_each_log_keeps_a_prefix(&shown, &gone));
            match legal {
                Ok(()) => return Ok(shown),
                // What is wrong without any of the removals says most.
                Err(violation) if choice == 0 => outcome = Err(violation),
                Err(_) => {}
            }
        }
        outcome.map(|()| shown)
    }

    /// Whether the batch must, may or must not be there.
    fn effect(&self, batch: &crate::ledger::Batch) -> Effect {
        match self.loss {
            Loss::Power => batch.effect(self.moment),
            Loss::Kill => self.ledger.effect_of_kill(batch, self.moment),
        }
    }

    fn i1_what_was_acknowledged_is_there(
        &self,
        shown: &BTreeSet<u64>,
        gone: &BTreeSet<u64>,
    ) -> Result<(), Violation> {
        let certain = self.ledger.batches.iter().filter(|batch| self.effect(batch) == Effect::Certain);
        let mut rows = certain.flat_map(|batch| batch.events.keys());
        match rows.find(|number| !shown.contains(number) && !gone.contains(number)) {
            Some(number) => {
                Err(Violation::new("I1", format!("acknowledged row {number} is lost; shown: {shown:?}")))
            }
            None => Ok(()),
        }
    }

    fn i3_batches_are_whole(&self, shown: &BTreeSet<u64>, gone: &BTreeSet<u64>) -> Result<(), Violation> {
        for batch in &self.ledger.batches {
            let left = || batch.events.keys().filter(|number| !gone.contains(number));
            let found = left().filter(|number| shown.contains(number)).count();
            if found != 0 && found != left().count() {
                let what = format!("of the batch {:?} only {found} rows are there", batch.events.keys());
                return Err(Violation::new("I3", what));
            }
        }
        Ok(())
    }

    fn i4_each_log_keeps_a_prefix(
        &self,
        shown: &BTreeSet<u64>,
        gone: &BTreeSet<u64>,
    ) -> Result<(), Violation> {
        let mut lost: BTreeMap<u32, u64> = BTreeMap::new();
        for batch in &self.ledger.batches {
            let is_settled = matches!(batch.end, End::Refused(tick) if tick <= self.moment);
            for number in batch.events.keys().filter(|number| !gone.contains(number) && !is_settled) {
                if !shown.contains(number) {
                    lost.entry(batch.shard).or_insert(*number);
                } else if let Some(before) = lost.get(&batch.shard) {
                    let what = format!("row {number} is there, and {before} before it is not");
                    return Err(Violation::new("I4", what));
                }
            }
        }
        Ok(())
    }

    fn i6_a_second_open_is_the_same(&self, disk: &SimDisk, shown: &BTreeSet<u64>) -> Result<(), Violation> {
        let before = without_lock(disk).fingerprint();
        let db = self
            .open(disk)
            .map_err(|error| Violation::new("I6", format!("the second open fails: {error}")))?;
        if numbers(&db)? != *shown {
            return Err(Violation::new("I6", format!("the second open shows {:?}", numbers(&db)?)));
        }
        // Before it is closed: a close may write down what it knows better now.
        if without_lock(disk).fingerprint() != before {
            let trace: Vec<_> = disk.trace().iter().map(ToString::to_string).collect();
            return Err(Violation::new("I6", format!("the second open changed a file: {trace:#?}")));
        }
        Ok(())
    }

    fn i11_life_goes_on(&self, db: &Db, disk: &SimDisk, shown: &BTreeSet<u64>) -> Result<(), Violation> {
        let failed =
            |call: &str, error: &DbError| Violation::new("I11", format!("{call} after recovery: {error}"));
        let new = table::event(1 << 40, self.ledger.is_wide(self.moment), 600);
        db.append(&[new], true).map_err(|error| failed("append", &error))?;
        let mut wanted = shown.clone();
        wanted.insert(1 << 40);
        for seed in [0, self.moment + 3] {
            let cut = disk.power_cut(seed);
            let again = self.open(&cut).map_err(|error| failed("append, power cut, open", &error))?;
            let found = numbers(&again)?;
            if found != wanted {
                let what =
                    format!("after recovery, append and power cut {seed}: {found:?} instead of {wanted:?}");
                return Err(Violation::new("I11", what));
            }
        }
        Ok(())
    }

    /// `disk` is what a power cut left after `shown` was shown.
    fn i12_shown_rows_last(&self, disk: &SimDisk, shown: &BTreeSet<u64>) -> Result<(), Violation> {
        let db = self.open(disk).map_err(|error| Violation::new("I12", format!("shown, then: {error}")))?;
        let found = numbers(&db)?;
        if found == *shown {
            Ok(())
        } else {
            Err(Violation::new("I12", format!("{shown:?} was shown; after a power cut {found:?}")))
        }
    }

    /// A checkpoint that returned is there with its rows; one that was cut short has them, or does not open, or is empty.
    fn checkpoints_are_whole_or_refused(&self, disk: &SimDisk) -> Result<(), Violation> {
        for checkpoint in &self.ledger.checkpoints {
            let effect = checkpoint.effect(self.moment);
            let is_spoiled = checkpoint.spoiled.is_some_and(|spoiled| spoiled < self.moment);
            if is_spoiled || effect == Effect::None && checkpoint.begun >= self.moment {
                continue;
            }
            match open(&disk.kill(), &checkpoint.dir, self.settings, self.ledger.is_wide(self.moment)) {
                Ok(db) => {
                    let found = numbers(&db)?;
                    let is_right = found == checkpoint.rows;
                    if !is_right && (effect == Effect::Certain || !found.is_empty()) {
                        let what =
                            format!("{} has {found:?} instead of {:?}", checkpoint.dir, checkpoint.rows);
                        return Err(Violation::new("I1", what));
                    }
                }
                Err(error) if effect == Effect::Certain => {
                    return Err(Violation::unexpected(&format!("open {}", checkpoint.dir), &error));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Holds an engine that is still open against what it was told.
///
/// # Errors
/// The first promise that is not kept.
pub fn living(db: &Db, ledger: &Ledger, now: Tick) -> Result<BTreeSet<u64>, Violation> {
    let rows = db.rows().map_err(|error| Violation::unexpected("query", &error))?;
    let case = Case { ledger, moment: now, loss: Loss::Kill, settings: &Settings::default() };
    let shown = case.rows_are_legal(&rows)?;
    i5_queries_agree(db, &rows)?;
    Ok(shown)
}

/// As [`living`], of an engine that was opened after a power cut.
///
/// # Errors
/// The first promise that is not kept.
pub fn after_cut(db: &Db, ledger: &Ledger, now: Tick) -> Result<BTreeSet<u64>, Violation> {
    let rows = db.rows().map_err(|error| Violation::unexpected("query", &error))?;
    Case { ledger, moment: now, loss: Loss::Power, settings: &Settings::default() }.rows_are_legal(&rows)
}

/// A gc may only take rows that were there and are older than its cutoff.
///
/// # Errors
/// A younger row that it took.
pub fn gc_took_only_old_rows(
    gone: &BTreeSet<u64>,
    known: &BTreeMap<u64, &Event>,
    cutoff_ts_ns: i64,
) -> Result<(), Violation> {
    let is_old = |number: &&u64| known.get(number).is_none_or(|event| event.ts_ns < cutoff_ts_ns);
    match gone.iter().find(|number| !is_old(number)) {
        Some(number) => Err(Violation::new("I1", format!("gc before {cutoff_ts_ns} took row {number}"))),
        None => Ok(()),
    }
}

fn numbers(db: &Db) -> Result<BTreeSet<u64>, Violation> {
    let rows = db.rows().map_err(|error| Violation::unexpected("query", &error))?;
    let numbers: BTreeSet<u64> = rows.iter().filter_map(table::number_of).collect();
    if numbers.len() == rows.len() {
        Ok(numbers)
    } else {
        Err(Violation::new("I1", format!("{} rows with {} numbers", rows.len(), numbers.len())))
    }
}

/// I2, and the second half of I1: each row is one that was submitted, and is there once.
fn i2_nothing_is_invented(rows: &[Row], ledger: &Ledger, moment: Tick) -> Result<BTreeSet<u64>, Violation> {
    let mut shown = BTreeSet::new();
    for row in rows {
        let batch = |number: &u64| ledger.batches.iter().find(|batch| batch.events.contains_key(number));
        let submitted = table::number_of(row).and_then(|number| Some((number, batch(&number)?)));
        let Some((number, batch)) = submitted else {
            return Err(Violation::new("I2", format!("nobody appended {row:?}")));
        };
        if !naive::same(&batch.events[&number], row) {
            return Err(Violation::new("I2", format!("{row:?} was appended as {:?}", batch.events[&number])));
        }
        if batch.effect(moment) == Effect::None && !matches!(batch.end, End::Done(_)) {
            return Err(Violation::new("I2", format!("row {number} was refused, or not appended yet")));
        }
        if !shown.insert(number) {
            return Err(Violation::new("I1", format!("row {number} is there twice")));
        }
    }
    Ok(shown)
}

/// I5. `rows` is what all rows are, newest first.
fn i5_queries_agree(db: &Db, rows: &[Row]) -> Result<(), Violation> {
    let mut naive = Naive::default();
    let events: BTreeMap<u64, Event> =
        rows.iter().filter_map(|row| Some((table::number_of(row)?, event_of(row)))).collect();
    for (number, event) in &events {
        naive.append(*number, std::slice::from_ref(event));
    }
    let differs = |what: &str| {
        Violation::new("I5", format!("{what} differs from a loop over the rows {:?}", events.keys()))
    };
    let asked = |error: DbError| Violation::unexpected("query", &error);
    let is_same = |found: &[Row], wanted: &[&Event]| {
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(row, event)| naive::same(event, row))
    };
    if !is_same(rows, &naive.events().collect::<Vec<_>>()) {
        return Err(differs("the order"));
    }
    if db.count() != rows.len() as u64 {
        return Err(differs("the count"));
    }
    for dim in [None, Some("1")] {
        let mut filter = keplordb::QueryFilter::default();
        filter.dims[0] = dim.map(str::to_owned);
        if db.totals(dim).map_err(asked)? != naive.aggregate(&filter) {
            return Err(differs("the totals"));
        }
        if !is_same(&db.recent(dim, 3).map_err(asked)?, &naive.recent(&filter, 3)) {
            return Err(differs("the newest three"));
        }
    }
    if db.rollups().map_err(asked)? != naive.rollups(&[0], i64::MIN, i64::MAX, &[]) {
        return Err(differs("the rollups"));
    }
    let newest = rows.first().map_or("id 1", |row| &row.id);
    for id in [newest, "id 2", "nobody"] {
        let found = db.get(id).map_err(asked)?;
        if !is_same(found.as_slice(), &naive.get(id).into_iter().collect::<Vec<_>>()) {
            return Err(differs("the row of an id"));
        }
    }
    Ok(())
}

fn event_of(row: &Row) -> Event {
    Event {
        id: row.id.clone(),
        ts_ns: row.ts_ns,
        metric: row.metric,
        counters: row.counters,
        latency_ms: row.latency_ms,
        latency_detail_ms: row.latency_detail_ms,
        status: row.status,
        flags: row.flags,
        dims: row.dims.clone(),
        labels: row.labels.clone(),
    }
}

/// I8. The lock is not counted.
///
/// # Errors
/// A file that changed.
pub fn i8_a_failed_open_changes_nothing(before: &SimDisk, after: &SimDisk) -> Result<(), Violation> {
    if without_lock(before).fingerprint() == without_lock(after).fingerprint() {
        return Ok(());
    }
    let trace: Vec<_> = after.trace().iter().map(ToString::to_string).collect();
    Err(Violation::new("I8", format!("an open that failed changed a file: {trace:#?}")))
}

/// I9, first half.
///
/// # Errors
/// The panic's message.
pub fn i9_no_panic<T>(call: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Violation::new("I9", format!("panic: {text}")))
    })
}

/// I9, second half: what this thread holds at most, beyond what it held before, while `call` runs.
///
/// # Errors
/// How much it was.
pub fn i9_bounded_memory<T>(disk: &SimDisk, call: impl FnOnce() -> T) -> Result<T, Violation> {
    const FIXED_BYTES: u64 = 64 << 20;
    const FRAME_BYTES: u64 = 64 << 10;
    let (answer, peak_bytes) = meter::peak_bytes(call);
    // Dearer than the open itself, and needed only when much was allocated.
    if peak_bytes > FIXED_BYTES {
        let allowed = FIXED_BYTES + 16 * bytes_below(disk, Path::new("")) + FRAME_BYTES;
        if peak_bytes > allowed {
            return Err(Violation::new(
                "I9",
                format!("an open allocated {peak_bytes} bytes, {allowed} are allowed"),
            ));
        }
    }
    Ok(answer)
}

fn i10_what_was_removed_stays_away(shown: &BTreeSet<u64>, gone: &BTreeSet<u64>) -> Result<(), Violation> {
    match shown.intersection(gone).next() {
        Some(number) => Err(Violation::new("I10", format!("removed row {number} is back"))),
        None => Ok(()),
    }
}

fn bytes_below(disk: &SimDisk, dir: &Path) -> u64 {
    let entries = disk.list(dir).unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry.bytes + if entry.is_dir { bytes_below(disk, &dir.join(&entry.name)) } else { 0 })
        .sum()
}

/// A copy without the files that every open may write.
fn without_lock(disk: &SimDisk) -> SimDisk {
    let copy = disk.kill();
    let _ = copy.remove(&Path::new(DIR).join("LOCK"));
    copy
}
