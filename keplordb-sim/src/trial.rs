//! Living through a workload on a simulated disk: every moment is kept as a copy of the disk, everything that was promised
//! stands in the ledger, and a fault may strike.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keplordb::disk::sim::{Fault, Operation, OperationKind};
use keplordb::disk::{Disk, SimDisk};
use keplordb::{Compacted, DbError, EngineConfig, OnCorruption, Options, Sync};

use crate::ledger::{Batch, Checkpoint, End, Ledger, Removal, Tick};
use crate::oracle::{self, Violation};
use crate::table::{self, Db, Event};
use crate::workload::{Op, Settings, Workload};

/// Where the table is.
pub const DIR: &str = "events";

/// Opens the table of a workload on a disk.
///
/// # Errors
/// As [`Db::open`].
pub fn open(disk: &SimDisk, dir: &str, settings: &Settings, is_wide: bool) -> Result<Db, DbError> {
    let config = EngineConfig {
        data_dir: dir.into(),
        wal_max_events: settings.rotate_rows,
        wal_shard_count: settings.shards,
        rollup_dims: vec![0],
        schema_id: 1,
        ..EngineConfig::default()
    };
    let options = Options::default()
        .disk(Arc::new(disk.clone()) as Arc<dyn Disk>)
        .sync(settings.sync)
        .unlink_grace(settings.grace)
        .retention(settings.retention())
        .on_corruption(if settings.quarantine { OnCorruption::Quarantine } else { OnCorruption::Fail });
    Db::open(is_wide, config, options)
}

/// The disk after one of its operations: when the process may be killed or the power cut.
#[derive(Debug, Clone)]
pub struct Moment {
    /// How many operations there had been by then.
    pub tick: Tick,
    /// The disk as a kill leaves it.
    pub disk: SimDisk,
}

/// What the hook of the disk shares with the trial.
#[derive(Default)]
struct Recorder {
    moments: Mutex<Vec<Moment>>,
    /// Operations of earlier disks: a kill or a cut makes a new one.
    earlier: AtomicU64,
    /// What another thread is to do between two operations.
    beside: Mutex<Option<Job>>,
}

/// Asked after each operation until it says that it is done.
type Job = Box<dyn FnMut() -> bool + Send>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What operations did that need not have had anything to do: a workload that reaches none of it tests nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effects {
    /// Segments that compaction replaced.
    pub compacted: u64,
    /// Tombstones that compaction forgot.
    pub purged: u64,
    /// Segments that the retention dropped.
    pub retained: u64,
    /// Deletes between two writes of a flush or a compaction.
    pub meanwhile: u64,
    /// Appends that found the first shard taken.
    pub beside: u64,
    /// Manifests that were lost.
    pub rebuilt: u64,
    /// Segments that were damaged.
    pub damaged: u64,
}

impl Effects {
    fn compacted(&mut self, compacted: &Compacted) {
        self.compacted += compacted.segments_replaced;
        self.purged += compacted.tombstones_purged;
    }

    /// Whether there was some of everything; of retention only where it is `retaining`.
    pub fn is_complete(&self, retaining: bool) -> bool {
        let counts = [self.compacted, self.purged, self.meanwhile, self.beside, self.rebuilt, self.damaged];
        counts.iter().all(|count| *count > 0) && (self.retained > 0) == retaining
    }
}

impl AddAssign for Effects {
    fn add_assign(&mut self, other: Self) {
        self.compacted += other.compacted;
        self.purged += other.purged;
        self.retained += other.retained;
        self.meanwhile += other.meanwhile;
        self.beside += other.beside;
        self.rebuilt += other.rebuilt;
        self.damaged += other.damaged;
    }
}

/// What came of a call on another thread.
struct Aside {
    begun: Tick,
    ended: Tick,
    result: Result<(), DbError>,
}

impl Aside {
    fn end(&self, trial: &Trial) -> End {
        match trial.end(&self.result) {
            End::Done(_) => End::Done(self.ended),
            other => other,
        }
    }
}

fn delete(db: &Db, ids: &[String]) -> Result<(), DbError> {
    db.delete(&ids.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}

/// A workload that is being lived through.
pub struct Trial {
    /// The disk; another one after each kill or cut.
    pub disk: SimDisk,
    /// How the engine is opened at present.
    pub settings: Settings,
    /// What was promised.
    pub ledger: Ledger,
    /// What its operations really did.
    pub effects: Effects,
    recorder: Arc<Recorder>,
    fault: Option<Fault>,
    /// How often faults hit earlier disks.
    hits: u64,
    db: Option<Arc<Db>>,
    /// Disks of the time before the last kills and cuts, and how many operations there had been before each.
    earlier: Vec<(Tick, SimDisk)>,
    is_wide: bool,
    /// Whether gc ever took anything.
    has_collected: bool,
    /// The number of the next event.
    next: u64,
}

impl Trial {
    /// Opens a new table, after `fault` was injected, if there is one.
    ///
    /// # Errors
    /// What the open says.
    pub fn begin(settings: Settings, fault: Option<Fault>) -> (Self, Result<(), DbError>) {
        let mut trial = Self {
            disk: SimDisk::default(),
            settings,
            ledger: Ledger::default(),
            effects: Effects::default(),
            recorder: Arc::default(),
            fault,
            hits: 0,
            db: None,
            earlier: Vec::new(),
            is_wide: false,
            has_collected: false,
            next: 1,
        };
        if let Some(fault) = fault {
            trial.disk.fail(fault);
        }
        trial.watch();
        let opened = trial.open();
        (trial, opened)
    }

    /// Lives through a workload without faults; the engine is still open.
    ///
    /// # Errors
    /// What went wrong although nothing was broken: a call that failed, or a wrong answer of the living engine.
    pub fn live(workload: &Workload) -> Result<Self, Violation> {
        let (mut trial, opened) = Self::begin(workload.settings, None);
        opened.map_err(|error| Violation::unexpected("open", &error))?;
        for (place, op) in workload.ops.iter().enumerate() {
            trial
                .perform(*op)?
                .map_err(|error| Violation::unexpected(&format!("operation {place}, {op:?}"), &error))?;
            if let Some(db) = &trial.db {
                oracle::living(db, &trial.ledger, trial.tick())?;
            }
        }
        Ok(trial)
    }

    /// Lives through a workload without faults, to its close. Returns every moment of it.
    ///
    /// # Errors
    /// As [`live`](Self::live).
    pub fn run(workload: &Workload) -> Result<(Self, Vec<Moment>), Violation> {
        let mut trial = Self::live(workload)?;
        drop(trial.db.take());
        let moments = std::mem::take(&mut *locked(&trial.recorder.moments));
        Ok((trial, moments))
    }

    /// The operations so far.
    pub fn tick(&self) -> Tick {
        self.recorder.earlier.load(Ordering::Relaxed) + self.disk.operations()
    }

    /// What each operation of the disk was, in words.
    pub fn names(&self) -> BTreeMap<Tick, String> {
        let now = (self.recorder.earlier.load(Ordering::Relaxed), self.disk.clone());
        let disks = self.earlier.iter().chain([&now]);
        let named = |(began, disk): &(Tick, SimDisk)| {
            let began = *began;
            disk.trace().into_iter().map(move |operation| (began + operation.number, operation.to_string()))
        };
        disks.flat_map(named).collect()
    }

    /// The open engine, if there is one.
    pub fn db(&self) -> Option<&Db> {
        self.db.as_deref()
    }

    /// How often the fault has struck.
    pub fn faults_hit(&self) -> u64 {
        self.hits + self.disk.faults_hit()
    }

    /// The fault is over.
    pub fn heal(&mut self) {
        self.fault = None;
        self.disk.heal();
    }

    /// Opens the table on the disk as it is.
    ///
    /// # Errors
    /// What the open says.
    pub fn open(&mut self) -> Result<(), DbError> {
        self.db = None;
        self.db = Some(Arc::new(open(&self.disk, DIR, &self.settings, self.is_wide)?));
        Ok(())
    }

    /// Goes on with another disk: that of a process after a kill, or of a machine after a power cut.
    fn move_to(&mut self, disk: SimDisk) {
        self.db = None;
        let tick = self.tick();
        let began = self.recorder.earlier.swap(tick, Ordering::Relaxed);
        self.hits += self.disk.faults_hit();
        self.earlier.push((began, std::mem::replace(&mut self.disk, disk)));
        if let Some(fault) = self.fault.filter(|fault| fault.forever || self.hits == 0) {
            // Of another disk that counts anew.
            self.disk.fail(Fault { at: fault.at.saturating_sub(tick), ..fault });
        }
        self.watch();
    }

    /// Goes on with what a power cut leaves.
    pub fn cut(&mut self, seed: u64) {
        self.ledger.cuts.push(self.tick());
        self.move_to(self.disk.power_cut(seed));
    }

    /// Takes what is shown now for what there is: after a power cut, or when a failed sync left it open.
    ///
    /// # Errors
    /// What no history allows to be shown.
    pub fn settle(&mut self) -> Result<(), Violation> {
        let now = self.tick();
        if let Some(db) = &self.db {
            let shown = oracle::after_cut(db, &self.ledger, now)?;
            self.ledger.settle(&shown, now);
        }
        Ok(())
    }

    fn watch(&self) {
        let recorder = Arc::clone(&self.recorder);
        let earlier = recorder.earlier.load(Ordering::Relaxed);
        self.disk.after_each(move |number, disk| {
            locked(&recorder.moments).push(Moment { tick: earlier + number, disk });
            // Taken out meanwhile, for its own operations come here too.
            let beside = locked(&recorder.beside).take();
            if let Some(mut beside) = beside
                && !beside()
            {
                *locked(&recorder.beside) = Some(beside);
            }
        });
    }

    /// Does one operation and enters it into the ledger. The inner result is what the engine said.
    ///
    /// # Errors
    /// A violation that showed itself at once.
    pub fn perform(&mut self, op: Op) -> Result<Result<(), DbError>, Violation> {
        let Some(db) = self.db.clone() else { return Ok(Ok(())) };
        Ok(match op {
            Op::Append => self.append(&db, 1, false),
            Op::Batch(rows) => self.append(&db, rows.into(), false),
            Op::Durable => self.append(&db, 1, true),
            Op::Beside => self.append_beside(&db),
            Op::Compact => db.compact().map(|compacted| self.effects.compacted(&compacted)),
            Op::CompactMeanwhile => self.delete_meanwhile(&db, |db| db.compact().map(drop)),
            Op::FlushMeanwhile => {
                let flushed = self.delete_meanwhile(&db, Db::flush);
                flushed.map(|()| self.all_durable())
            }
            Op::Maintain => {
                let mut effects = Effects::default();
                let maintain = |db: &Db| {
                    db.maintain().map(|done| {
                        effects.compacted(&done.compacted);
                        effects.retained += u64::from(done.retention.segments_deleted);
                    })
                };
                let done = self.collect(&db, maintain, i64::MAX)?;
                self.effects += effects;
                done.map(|()| self.all_durable())
            }
            Op::Sync => db.sync().map(|()| self.all_durable()),
            Op::Flush => db.flush().map(|()| self.all_durable()),
            Op::Delete => self.delete(&db),
            Op::Gc => {
                let rows = self.ledger.rows();
                let middle = rows.values().nth(rows.len() / 2).map_or(0, |event| event.ts_ns);
                self.collect(&db, |db| db.gc(middle), middle)?
            }
            Op::Clear => match db.flush() {
                Ok(()) => {
                    self.all_durable();
                    self.collect(&db, |db| db.gc(i64::MAX), i64::MAX)?
                }
                failed => failed,
            },
            Op::Checkpoint => self.checkpoint(&db)?,
            Op::Reopen => self.reopen(db),
            Op::Shards(shards) => {
                self.settings.shards = shards.into();
                self.reopen(db)
            }
            Op::Grow => {
                self.ledger.grown.get_or_insert(self.tick());
                self.is_wide = true;
                self.reopen(db)
            }
            Op::Kill => {
                drop(db);
                self.move_to(self.disk.kill());
                self.open().map(|()| self.all_durable())
            }
            Op::Cut(seed) => {
                drop(db);
                self.cut(seed);
                let opened = self.open();
                if opened.is_ok() {
                    self.settle()?;
                }
                opened
            }
            Op::Damage => {
                drop(db);
                self.move_to(self.disk.kill());
                self.damage_a_segment()?;
                let opened = self.open();
                if opened.is_ok() {
                    self.settle()?;
                }
                opened
            }
            Op::LoseManifest if !self.can_rebuild() => Ok(()),
            Op::LoseManifest => {
                drop(db);
                self.move_to(self.disk.kill());
                self.effects.rebuilt += 1;
                self.lose_manifest().and_then(|()| self.open()).map(|()| self.all_durable())
            }
        })
    }

    fn all_durable(&mut self) {
        let now = self.tick();
        self.ledger.all_durable(now);
    }

    /// How an operation that returned this has ended.
    fn end<T>(&self, result: &Result<T, DbError>) -> End {
        match result {
            Ok(_) => End::Done(self.tick()),
            // A sync failed: nobody knows.
            Err(DbError::Poisoned { .. }) => End::Open,
            Err(_) => End::Refused(self.tick()),
        }
    }

    fn events(&mut self, count: usize) -> Vec<Event> {
        let event = |number: u64| {
            let label_bytes = match number % 11 {
                3 => 700,
                7 if number % 2 == 1 => 2500,
                _ => usize::try_from(number % 17).unwrap_or(0),
            };
            table::event(number, self.is_wide, label_bytes)
        };
        let events = (self.next..self.next + count as u64).map(event).collect();
        self.next += count as u64;
        events
    }

    fn enter(&mut self, events: &[Event], shard: u32) -> usize {
        let batch = Batch {
            events: events.iter().map(|event| (event.metric as u64, event.clone())).collect(),
            shard,
            begun: self.tick(),
            end: End::Open,
            durable: None,
        };
        self.ledger.batches.push(batch);
        self.ledger.batches.len() - 1
    }

    fn append(&mut self, db: &Db, rows: usize, durable: bool) -> Result<(), DbError> {
        let events = self.events(rows);
        let place = self.enter(&events, 0);
        let appended = db.append(&events, durable);
        let end = self.end(&appended);
        self.finish_append(place, end, durable);
        appended
    }

    fn finish_append(&mut self, place: usize, end: End, durable: bool) {
        self.ledger.batches[place].end = end;
        if let End::Done(now) = end {
            if durable || self.settings.sync == Sync::Always {
                self.ledger.batches[place].durable = Some(now);
            }
            if let (true, Sync::Os) = (durable, self.settings.sync) {
                // One sync of one log: what was in it before is on disk too.
                let shard = self.ledger.batches[place].shard;
                for batch in &mut self.ledger.batches[..place] {
                    if batch.shard == shard && matches!(batch.end, End::Done(_)) {
                        batch.durable.get_or_insert(now);
                    }
                }
            }
            if let Sync::Every { events, .. } = self.settings.sync {
                self.ledger.durable_but(u64::from(events - 1), now);
            }
        }
    }

    /// The first thread's append holds the first shard when the second thread comes.
    fn append_beside(&mut self, db: &Arc<Db>) -> Result<(), DbError> {
        let unsealed = db.unsealed();
        self.append(db, 1, false)?;
        if self.settings.shards == 1 || db.unsealed() != unsealed + 1 {
            // It rotated: a new log would be made under a lock that the second thread needs too.
            return Ok(());
        }
        let events = self.events(3);
        let (first, second) = events.split_at(1);
        let first_place = self.enter(first, 0);
        let second_place = self.enter(second, 1);
        let outcome = Arc::new(Mutex::new(None));
        let job = {
            let (db, outcome) = (Arc::clone(db), Arc::clone(&outcome));
            let second = second.to_vec();
            self.on_another_thread(outcome, move || db.append(&second, false))
        };
        *locked(&self.recorder.beside) = Some(job);
        let appended = db.append(first, false);
        let end = self.end(&appended);
        self.finish_append(first_place, end, false);
        // Not run if the first append failed before its first operation.
        drop(locked(&self.recorder.beside).take());
        let Some(aside) = locked(&outcome).take() else {
            let now = self.tick();
            self.ledger.batches[second_place].end = End::Refused(now);
            return appended;
        };
        self.effects.beside += 1;
        let end = aside.end(self);
        self.ledger.batches[second_place].begun = aside.begun;
        self.finish_append(second_place, end, false);
        appended.and(aside.result)
    }

    /// A job that does this on a thread of its own, waits for it, and says when it was done and with what outcome.
    fn on_another_thread(
        &self,
        outcome: Arc<Mutex<Option<Aside>>>,
        call: impl FnOnce() -> Result<(), DbError> + Send + 'static,
    ) -> Job {
        let (disk, recorder) = (self.disk.clone(), Arc::clone(&self.recorder));
        let clock = move || recorder.earlier.load(Ordering::Relaxed) + disk.operations();
        let work = move || {
            let begun = clock();
            let result = call();
            *locked(&outcome) = Some(Aside { begun, ended: clock(), result });
        };
        let mut work = Some(work);
        Box::new(move || {
            if let Some(work) = work.take() {
                std::thread::spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            true
        })
    }

    fn delete(&mut self, db: &Db) -> Result<(), DbError> {
        let (ids, rows) = self.rows_to_delete();
        let begun = self.tick();
        let deleted = delete(db, &ids);
        let end = self.end(&deleted);
        self.ledger.removals.push(Removal { rows, begun, end, is_whole: true });
        deleted
    }

    /// Ids, and all rows that have one of them.
    fn rows_to_delete(&self) -> (Vec<String>, BTreeSet<u64>) {
        let rows = self.ledger.rows();
        let chosen = [rows.values().next_back(), rows.values().nth(rows.len() / 3)];
        let ids: BTreeSet<String> = chosen.into_iter().flatten().map(|event| event.id.clone()).collect();
        let gone = rows.iter().filter(|(_, event)| ids.contains(&event.id)).map(|(number, _)| *number);
        let gone = gone.collect();
        (ids.into_iter().chain(["nobody".to_owned()]).collect(), gone)
    }

    /// Another thread deletes as soon as the call has begun to write a segment.
    fn delete_meanwhile(
        &mut self,
        db: &Arc<Db>,
        call: impl FnOnce(&Db) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let (ids, rows) = self.rows_to_delete();
        let outcome = Arc::new(Mutex::new(None));
        let (other, disk) = (Arc::clone(db), self.disk.clone());
        let mut work = self.on_another_thread(Arc::clone(&outcome), move || delete(&other, &ids));
        *locked(&self.recorder.beside) = Some(Box::new(move || {
            let trace = disk.trace();
            let is_segment = |operation: &Operation| operation.path.to_string_lossy().ends_with(".kseg.tmp");
            let writes = |operation: &Operation| matches!(operation.kind, OperationKind::Write { .. });
            trace.last().is_some_and(|operation| is_segment(operation) && writes(operation)) && work()
        }));
        let done = call(db);
        drop(locked(&self.recorder.beside).take());
        let Some(aside) = locked(&outcome).take() else { return done };
        self.effects.meanwhile += 1;
        let end = aside.end(self);
        self.ledger.removals.push(Removal { rows, begun: aside.begun, end, is_whole: true });
        done.and(aside.result)
    }

    /// A call that may take rows which are older than the cutoff.
    fn collect(
        &mut self,
        db: &Db,
        call: impl FnOnce(&Db) -> Result<(), DbError>,
        cutoff_ts_ns: i64,
    ) -> Result<Result<(), DbError>, Violation> {
        let before = Self::numbers(db)?;
        let begun = self.tick();
        let done = call(db);
        let left = Self::numbers(db)?;
        let mut gone: BTreeSet<u64> = before.difference(&left).copied().collect();
        let known: BTreeMap<u64, &Event> = self.ledger.rows();
        oracle::gc_took_only_old_rows(&gone, &known, cutoff_ts_ns)?;
        // What is seen to have gone has gone, also where a later part of the call failed.
        let end = match self.end(&done) {
            End::Refused(tick) if !gone.is_empty() => End::Done(tick),
            end => end,
        };
        if end == End::Open {
            // Nothing is shown to have gone, and the power may still take it.
            let old = known.iter().filter(|(_, event)| event.ts_ns < cutoff_ts_ns);
            gone = old.map(|(number, _)| *number).collect();
        }
        let is_whole = end != End::Open;
        self.has_collected |= !gone.is_empty();
        self.ledger.removals.push(Removal { rows: gone, begun, end, is_whole });
        Ok(done)
    }

    fn numbers(db: &Db) -> Result<BTreeSet<u64>, Violation> {
        let rows = db.rows().map_err(|error| Violation::unexpected("query", &error))?;
        Ok(rows.iter().filter_map(table::number_of).collect())
    }

    fn checkpoint(&mut self, db: &Db) -> Result<Result<(), DbError>, Violation> {
        let rows = Self::numbers(db)?;
        let begun = self.tick();
        let dir = format!("copy {}", self.ledger.checkpoints.len());
        let copied = db.checkpoint(&dir);
        let end = self.end(&copied);
        self.ledger.checkpoints.push(Checkpoint { dir, spoiled: None, rows, begun, end });
        Ok(copied)
    }

    fn reopen(&mut self, db: Arc<Db>) -> Result<(), DbError> {
        self.db = None;
        let closed = match Arc::try_unwrap(db) {
            Ok(db) => db.close(),
            Err(_) => Ok(()),
        };
        self.open()?;
        closed?;
        self.all_durable();
        Ok(())
    }

    /// Flips a bit in the header of the oldest segment, if there is one. Any row may be gone then.
    fn damage_a_segment(&mut self) -> Result<(), Violation> {
        let dir = Path::new(DIR).join("segments");
        let segments = self.disk.list(&dir).unwrap_or_default();
        let is_complete =
            |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "kseg");
        let Some(oldest) = segments.iter().find(|entry| is_complete(&entry.name)) else { return Ok(()) };
        let rows = self.ledger.rows().into_keys().collect();
        self.ledger.removals.push(Removal { rows, begun: self.tick(), end: End::Open, is_whole: false });
        self.settings.quarantine = true;
        let now = self.tick();
        for checkpoint in &mut self.ledger.checkpoints {
            checkpoint.spoiled.get_or_insert(now);
        }
        self.effects.damaged += 1;
        let mut byte = [0];
        let file = self.disk.open(&dir.join(&oldest.name));
        let damaged = file.and_then(|file| {
            file.read_at(&mut byte, 25)?;
            file.write_at(&[byte[0] ^ 1], 25)?;
            file.sync()
        });
        damaged.map_err(|error| Violation::harness(&format!("a segment could not be damaged: {error}")))
    }

    /// Whether the other files tell all: something must be there that says what the columns are, and nothing that gc took
    /// may still be there because of its grace.
    fn can_rebuild(&self) -> bool {
        !self.ledger.rows().is_empty() && (self.settings.grace.is_zero() || !self.has_collected)
    }

    fn lose_manifest(&self) -> Result<(), DbError> {
        let path = Path::new(DIR).join("MANIFEST");
        let lost = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(Path::new(DIR)));
        lost.map_err(|error| DbError::Io { file: path, op: "lose", source: Arc::new(error) })
    }
}
