//! Living through a workload on a simulated disk: every moment is kept as a copy of the disk, everything that was promised
//! stands in the ledger, and a fault may strike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keplordb::disk::sim::Fault;
use keplordb::disk::{Disk, SimDisk};
use keplordb::{DbError, EngineConfig, Options, Sync};

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
        .unlink_grace(settings.grace);
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
    /// What another thread is to do at the next operation.
    beside: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A workload that is being lived through.
pub struct Trial {
    /// The disk; another one after each kill or cut.
    pub disk: SimDisk,
    /// How the engine is opened at present.
    pub settings: Settings,
    /// What was promised.
    pub ledger: Ledger,
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

    /// Lives through a workload without faults.
    ///
    /// # Errors
    /// What went wrong although nothing was broken: a call that failed, or a wrong answer of the living engine.
    pub fn run(workload: &Workload) -> Result<(Self, Vec<Moment>), Violation> {
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
            let beside = locked(&recorder.beside).take();
            if let Some(beside) = beside {
                beside();
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
            Op::Sync => db.sync().map(|()| self.all_durable()),
            Op::Flush => db.flush().map(|()| self.all_durable()),
            Op::Delete => self.delete(&db),
            Op::Gc => {
                let rows = self.ledger.rows();
                let middle = rows.values().nth(rows.len() / 2).map_or(0, |event| event.ts_ns);
                self.gc(&db, middle)?
            }
            Op::Clear => match db.flush() {
                Ok(()) => {
                    self.all_durable();
                    self.gc(&db, i64::MAX)?
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
            Op::LoseManifest if !self.can_rebuild() => Ok(()),
            Op::LoseManifest => {
                drop(db);
                self.move_to(self.disk.kill());
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
            let (db, events, outcome) = (Arc::clone(db), second.to_vec(), Arc::clone(&outcome));
            let (disk, recorder) = (self.disk.clone(), Arc::clone(&self.recorder));
            move || {
                let clock = move || recorder.earlier.load(Ordering::Relaxed) + disk.operations();
                std::thread::spawn(move || {
                    let begun = clock();
                    let appended = db.append(&events, false);
                    *locked(&outcome) = Some((begun, clock(), appended));
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        };
        *locked(&self.recorder.beside) = Some(Box::new(job));
        let appended = db.append(first, false);
        let end = self.end(&appended);
        self.finish_append(first_place, end, false);
        // Not run if the first append failed before its first operation.
        drop(locked(&self.recorder.beside).take());
        let Some((begun, ended, second)) = locked(&outcome).take() else {
            let now = self.tick();
            self.ledger.batches[second_place].end = End::Refused(now);
            return appended;
        };
        let end = match self.end(&second) {
            End::Done(_) => End::Done(ended),
            other => other,
        };
        self.ledger.batches[second_place].begun = begun;
        self.finish_append(second_place, end, false);
        appended.and(second)
    }

    fn delete(&mut self, db: &Db) -> Result<(), DbError> {
        let rows = self.ledger.rows();
        let chosen = [rows.values().next_back(), rows.values().nth(rows.len() / 3)];
        let ids: BTreeSet<String> = chosen.into_iter().flatten().map(|event| event.id.clone()).collect();
        let gone: BTreeSet<u64> =
            rows.iter().filter(|(_, event)| ids.contains(&event.id)).map(|(number, _)| *number).collect();
        let begun = self.tick();
        let mut asked: Vec<&str> = ids.iter().map(String::as_str).collect();
        asked.push("nobody");
        let deleted = db.delete(&asked).map(drop);
        let end = self.end(&deleted);
        self.ledger.removals.push(Removal { rows: gone, begun, end, is_whole: true });
        deleted
    }

    fn gc(&mut self, db: &Db, cutoff_ts_ns: i64) -> Result<Result<(), DbError>, Violation> {
        let before = Self::numbers(db)?;
        let begun = self.tick();
        let done = db.gc(cutoff_ts_ns);
        let end = self.end(&done);
        let left = Self::numbers(db)?;
        let mut gone: BTreeSet<u64> = before.difference(&left).copied().collect();
        let known: BTreeMap<u64, &Event> = self.ledger.rows();
        oracle::gc_took_only_old_rows(&gone, &known, cutoff_ts_ns)?;
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
        self.ledger.checkpoints.push(Checkpoint { dir, rows, begun, end });
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
