//! Every disk operation of a history fails once, or from then on, in every way; and the power fails after every operation.
//! The oracle knows which states are possible: an operation that returned `Ok` counts, one that returned an error does
//! not, and one that returned `Poisoned` (its sync failed) may or may not. The engine must show one of these states, work
//! again when the fault is over (or refuse writes as poisoned), and open again to one of them.
//!
//! `KEPLORDB_FAULTS_SEEDS` sets how many power cuts are tried at each operation.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keplordb::disk::SimDisk;
use keplordb::disk::sim::{Fault, FaultKind, OperationKind};
use keplordb::{DbError, Engine, EngineConfig, EventRef, LogEvent, Options, QueryFilter, Sync};
use naive::Naive;
use naive::random::{Random, number_of};

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;
type Table = Naive<1, 1, 1>;
type Row = EventRef<1, 1, 1>;

const SEEDS: u64 = 12;

fn open_with(disk: &SimDisk, sync: Sync) -> Result<Db, DbError> {
    let config = EngineConfig {
        data_dir: "events".into(),
        wal_max_events: 7,
        wal_shard_count: 2,
        rollup_dims: vec![0],
        ..EngineConfig::default()
    };
    let options = Options::default().disk(Arc::new(disk.clone())).sync(sync).unlink_grace(Duration::ZERO);
    Db::open_with(config, options)
}

fn open(disk: &SimDisk) -> Result<Db, DbError> {
    open_with(disk, Sync::Always)
}

/// One step of the history.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Event>),
    Delete(Vec<String>),
    Flush,
    /// Flushes and forgets everything.
    Clear,
    Reopen,
}

/// Steps that reach each kind of file and each way of writing it: about 200 operations of the disk.
fn history() -> Vec<Step> {
    let mut random = Random::new(5);
    let mut number = 0;
    let mut append = |rows: usize, label_bytes: usize| {
        let batch = (0..rows).map(|_| {
            number += 1;
            Event {
                id: format!("id {}", number % 23),
                ts_ns: random.below(50) as i64,
                metric: number,
                counters: [1],
                dims: [random.below(3).to_string()],
                labels: ["x".repeat(label_bytes)],
                ..Event::default()
            }
        });
        Step::Append(batch.collect())
    };
    let delete = |ids: &[i64]| Step::Delete(ids.iter().map(|id| format!("id {id}")).collect());
    vec![
        append(1, 0),
        append(3, 700),
        delete(&[2]),
        append(2, 10),
        // Rotates.
        append(4, 300),
        append(1, 0),
        delete(&[1, 7, 99]),
        Step::Flush,
        append(5, 100),
        Step::Reopen,
        append(1, 2000),
        delete(&[12]),
        // Rotates, more than a sector in one frame.
        append(9, 400),
        append(2, 0),
        Step::Clear,
        append(3, 0),
        Step::Reopen,
        delete(&[28, 29]),
        append(1, 5000),
        append(8, 0),
        Step::Flush,
        append(2, 50),
    ]
}

/// What a step does to a table when it succeeds.
fn apply(step: &Step, table: &mut Table, sequence: &mut u64) {
    match step {
        Step::Append(batch) => {
            table.append(*sequence, batch);
            *sequence += batch.len() as u64;
        }
        Step::Delete(ids) => {
            table.delete(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Step::Clear => *table = Table::default(),
        Step::Flush | Step::Reopen => {}
    }
}

/// Does a step other than a reopen; an error of the flush in `Clear` leaves the table as it is.
fn perform(db: &Db, step: &Step) -> Result<(), DbError> {
    match step {
        Step::Append(batch) if batch.len() == 1 => db.append(&batch[0]).map(drop),
        Step::Append(batch) => db.append_batch(batch).map(drop),
        Step::Delete(ids) => db.delete_events(&ids.iter().map(String::as_str).collect::<Vec<_>>()).map(drop),
        Step::Flush => db.flush().map(drop),
        Step::Clear => db.flush().and_then(|_| db.gc(i64::MAX)).map(drop),
        Step::Reopen => unreachable!("done by the caller"),
    }
}

fn rows(db: &Db) -> Vec<Row> {
    db.query_recent(&QueryFilter::default(), usize::MAX).unwrap_or_else(|error| panic!("reading: {error}"))
}

/// Which of the possible tables the engine shows, by all kinds of queries.
#[track_caller]
fn shown<'t>(db: &Db, possible: &'t [Table], what: &str) -> &'t Table {
    let rows = rows(db);
    let is_shown = |table: &&Table| {
        let events: Vec<&Event> = table.events().collect();
        events.len() == rows.len() && events.iter().zip(&rows).all(|(event, row)| naive::same(event, row))
    };
    let Some(table) = possible.iter().find(is_shown) else {
        let found: Vec<_> = rows.iter().map(|row| (row.ts_ns, row.metric)).collect();
        let expected: Vec<Vec<_>> = possible
            .iter()
            .map(|table| table.events().map(|event| (event.ts_ns, event.metric)).collect())
            .collect();
        panic!("{what}: no possible state is shown\nfound {found:?}\npossible {expected:?}");
    };
    assert_eq!(db.total_events(), table.len() as u64, "{what}");
    let all = QueryFilter::default();
    assert_eq!(db.aggregate(&all).unwrap(), table.aggregate(&all), "{what}");
    let expected = table.rollups(&[0], i64::MIN, i64::MAX, &[]);
    assert_eq!(db.query_rollups(i64::MIN, i64::MAX, &[]).unwrap(), expected, "{what}");
    table
}

fn is_poisoned<T>(result: &Result<T, DbError>) -> bool {
    matches!(result, Err(DbError::Poisoned { .. }))
}

fn assert_typed(error: &DbError, what: &str) {
    let expected = matches!(error, DbError::Full { .. } | DbError::Io { .. } | DbError::Poisoned { .. });
    assert!(expected, "{what}: {error:?}");
}

fn after() -> Event {
    Event { id: "after".into(), ts_ns: 1000, labels: ["y".repeat(900)], ..Event::default() }
}

/// How many operations the history takes without faults.
fn operations() -> u64 {
    let disk = SimDisk::default();
    let mut db = Some(open(&disk).unwrap());
    for step in history() {
        if matches!(step, Step::Reopen) {
            db.take().unwrap().close().unwrap();
            db = Some(open(&disk).unwrap());
        } else {
            perform(db.as_ref().unwrap(), &step).unwrap();
        }
    }
    db.unwrap().close().unwrap();
    disk.operations()
}

/// Lives through the history while the disk has one fault. Returns the tables that are possible in the end.
struct Trial {
    disk: SimDisk,
    fault: Fault,
    possible: Vec<Table>,
    sequence: u64,
    poisoned: bool,
    failed_steps: usize,
    hits: u64,
}

impl Trial {
    fn run(fault: Fault) -> Self {
        let disk = SimDisk::default();
        disk.fail(fault);
        let mut trial = Self {
            disk,
            fault,
            possible: vec![Table::default()],
            sequence: 1,
            poisoned: false,
            failed_steps: 0,
            hits: 0,
        };
        let mut db = trial.open("open");
        for (number, step) in history().iter().enumerate() {
            let what = format!("{:?}, step {number} {step:.40?}", trial.fault);
            if matches!(step, Step::Reopen) {
                drop(db.take());
                trial.restart_if_in_doubt();
                db = trial.open(&what);
                trial.poisoned = false;
            } else if let Some(db) = &db {
                trial.step(db, step, &what);
            }
            if let Some(db) = &db {
                shown(db, &trial.possible, &what);
            }
        }
        trial.end(db);
        trial
    }

    /// Whether a sync failed on this disk: what the page cache shows may then not be on it, whatever later syncs say.
    fn is_in_doubt(&self) -> bool {
        let is_sync = |kind: &OperationKind| matches!(kind, OperationKind::Sync | OperationKind::SyncDir);
        self.disk.trace().iter().any(|operation| operation.failed && is_sync(&operation.kind))
    }

    /// After a failed sync the machine restarts before anything is opened again. (That nothing acknowledged is lost even
    /// when it does not is the claim of a test of its own, below.)
    fn restart_if_in_doubt(&mut self) {
        if self.is_in_doubt() {
            self.hits += self.disk.faults_hit();
            self.disk = self.disk.power_cut(self.fault.at);
            if self.fault.forever {
                self.disk.fail(Fault { at: 1, ..self.fault });
            }
        }
    }

    /// A fault that goes on may make every open fail; one that is over may not.
    fn open(&mut self, what: &str) -> Option<Db> {
        match open(&self.disk) {
            Ok(db) => Some(db),
            Err(error) => {
                assert_typed(&error, what);
                self.failed_steps += 1;
                self.restart_if_in_doubt();
                (!self.fault.forever)
                    .then(|| open(&self.disk).unwrap_or_else(|error| panic!("{what}: again: {error}")))
            }
        }
    }

    fn step(&mut self, db: &Db, step: &Step, what: &str) {
        let done = perform(db, step);
        let mut applied = self.possible.clone();
        let mut sequence = self.sequence;
        for table in &mut applied {
            sequence = self.sequence;
            apply(step, table, &mut sequence);
        }
        self.sequence = sequence;
        match &done {
            Ok(()) => {
                // What asks for nothing to be written is free, also for a poisoned engine.
                let is_free = matches!(step, Step::Flush | Step::Clear | Step::Delete(_));
                assert!(!self.poisoned || is_free, "{what}: a poisoned engine wrote");
                if !self.poisoned {
                    self.possible = applied;
                }
            }
            Err(error) => {
                assert_typed(error, what);
                self.failed_steps += 1;
                // From the second time on nothing was tried.
                if is_poisoned(&done) && !self.poisoned {
                    self.possible.extend(applied);
                    self.poisoned = true;
                }
            }
        }
    }

    /// The fault is over. What works then, and what is found by the next open, after a kill or a power cut.
    fn end(&mut self, db: Option<Db>) {
        let what = format!("{:?}, at the end", self.fault);
        self.disk.heal();
        if db.is_none() {
            self.restart_if_in_doubt();
            self.disk.heal();
        }
        let db = db.unwrap_or_else(|| open(&self.disk).unwrap_or_else(|error| panic!("{what}: {error}")));
        let appended = db.append(&after());
        if is_poisoned(&appended) {
            // No step need have said so: it may have been a rotation that met the failed sync.
            assert!(
                is_poisoned(&db.append(&after())) && is_poisoned(&db.sync()),
                "{what}: poisoned for good"
            );
            self.poisoned = true;
        } else {
            appended.unwrap_or_else(|error| panic!("{what}: {error}"));
            self.possible.iter_mut().for_each(|table| table.append(self.sequence, &[after()]));
            self.sequence += 1;
            shown(&db, &self.possible, &what);
            db.flush().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        shown(&db, &self.possible, &what);

        if !self.is_in_doubt() {
            self.reopen(&self.disk.kill(), &format!("{what}, killed"));
        }
        for seed in 0..4 {
            self.reopen(&self.disk.power_cut(seed), &format!("{what}, power cut {seed}"));
        }
        drop(db);
        self.restart_if_in_doubt();
        self.disk.heal();
        self.reopen(&self.disk, &format!("{what}, dropped"));
        self.hits += self.disk.faults_hit();
    }

    /// Opens, finds a possible table, and appends something that a further power cut may not take.
    fn reopen(&self, disk: &SimDisk, what: &str) {
        let db = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut table = shown(&db, &self.possible, what).clone();
        db.append(&after()).unwrap_or_else(|error| panic!("{what}: {error}"));
        table.append(u64::MAX >> 1, &[after()]);
        for seed in 0..3 {
            let cut = open(&disk.power_cut(seed))
                .unwrap_or_else(|error| panic!("{what}, then cut {seed}: {error}"));
            shown(&cut, std::slice::from_ref(&table), &format!("{what}, then cut {seed}"));
        }
    }
}

fn every_operation_fails(kind: FaultKind) {
    let operations = operations();
    assert!((150..600).contains(&operations), "{operations} operations");
    let (mut hits, mut poisoned, mut failed) = (0, 0, 0);
    for at in 1..=operations {
        for forever in [false, true] {
            let trial = Trial::run(Fault { at, kind, forever });
            hits += u64::from(trial.hits > 0);
            poisoned += usize::from(trial.poisoned);
            failed += usize::from(trial.failed_steps > 0);
            if kind == FaultKind::Full && !forever {
                assert!(trial.failed_steps <= 1, "{:?}: {} steps failed", trial.fault, trial.failed_steps);
                assert!(!trial.poisoned, "{:?}: lack of space is no reason to stop", trial.fault);
            }
        }
    }
    println!(
        "{kind:?}: {operations} operations, {hits} trials hit, {failed} with a failed step, {poisoned} poisoned"
    );
    assert!(hits > operations / 2 && failed > 10, "{hits} hits, {failed} failed steps");
}

#[test]
fn a_full_disk_at_any_operation_takes_nothing_acknowledged() {
    every_operation_fails(FaultKind::Full);
}

#[test]
fn an_input_output_error_at_any_operation_takes_nothing_acknowledged() {
    every_operation_fails(FaultKind::Io);
}

#[test]
fn a_short_write_at_any_operation_takes_nothing_acknowledged() {
    every_operation_fails(FaultKind::ShortWrite);
}

#[test]
fn a_failed_sync_at_any_operation_takes_nothing_acknowledged() {
    every_operation_fails(FaultKind::SyncFails);
}

#[test]
fn a_failed_sync_stops_writing_and_reads_go_on() {
    let disk = SimDisk::default();
    let db = open(&disk).unwrap();
    db.append(&Event { id: "before".into(), ..Event::default() }).unwrap();
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::SyncFails, forever: false });
    let first = db.append(&Event { id: "in doubt".into(), ..Event::default() }).unwrap_err();
    let DbError::Poisoned { first } = &first else { panic!("{first:?}") };
    assert!(first.starts_with("sync events/wal/") && first.contains("input/output error"), "{first}");
    for again in [
        db.append(&Event::default()).map(drop),
        db.append_batch_durable(&[Event::default()]).map(drop),
        db.delete_event("before").map(drop),
        db.flush().map(drop),
        db.gc(i64::MAX).map(drop),
        db.sync(),
    ] {
        match again {
            Err(DbError::Poisoned { first: again }) => assert_eq!(&again, first, "the first cause stays"),
            // There is no segment that gc could drop.
            Ok(()) => assert_eq!(db.segment_count(), 0),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(db.get_event("before").unwrap().unwrap().id, "before");
    assert!(db.aggregate(&QueryFilter::default()).unwrap().event_count >= 1);
    drop(db);
    let db = open(&disk).unwrap();
    db.append(&after()).unwrap();
    assert!(db.get_event("before").unwrap().is_some());
}

#[test]
fn after_a_failed_sync_and_a_reopen_a_power_cut_takes_nothing_acknowledged() {
    for seed in 0..64 {
        let disk = SimDisk::default();
        let db = open(&disk).unwrap();
        db.append(&Event { id: "before".into(), ..Event::default() }).unwrap();
        disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::SyncFails, forever: false });
        let doubtful = Event { id: "in doubt".into(), labels: ["z".repeat(3000)], ..Event::default() };
        assert!(is_poisoned(&db.append(&doubtful)));
        drop(db);
        // The page cache still has the event; the disk may not.
        let db = open(&disk).unwrap();
        let was_shown = db.get_event("in doubt").unwrap().is_some();
        db.append(&after()).unwrap();
        let cut = open(&disk.power_cut(seed)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(cut.get_event("before").unwrap().is_some(), "seed {seed}");
        assert!(cut.get_event("after").unwrap().is_some(), "seed {seed}");
        assert_eq!(
            cut.get_event("in doubt").unwrap().is_some(),
            was_shown,
            "seed {seed}: what was shown stays"
        );
    }
}

#[test]
fn a_disk_that_is_full_for_long_answers_and_works_again_with_space() {
    let disk = SimDisk::default();
    let db = open(&disk).unwrap();
    let mut appended: u64 = 0;
    disk.set_capacity_bytes(40_000);
    let full = loop {
        let event = Event { ts_ns: appended as i64, labels: ["x".repeat(500)], ..Event::default() };
        match db.append(&event) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 1000, "the disk never filled");
    };
    assert!(matches!(full, DbError::Full { .. }), "{full:?}");
    for _ in 0..20 {
        let batch = vec![Event { labels: ["x".repeat(5000)], ..Event::default() }; 20];
        assert!(matches!(db.append_batch(&batch), Err(DbError::Full { .. })));
        assert_eq!(db.total_events(), appended);
    }
    assert_eq!(open(&disk.kill()).unwrap().total_events(), appended);
    assert_eq!(open(&disk.power_cut(0)).unwrap().total_events(), appended);
    disk.heal();
    db.append(&after()).unwrap();
    assert_eq!(db.flush().map(|_| db.wal_count()).unwrap(), 0);
    assert_eq!(rows(&db).len() as u64, appended + 1);
}

/// A moment at which the power may fail.
struct Moment {
    disk: SimDisk,
    /// The step under way.
    step: usize,
}

/// The history on a good disk: the table after each step, and every moment.
fn moments() -> (Vec<Table>, Vec<Moment>) {
    let disk = SimDisk::default();
    let (moments, current) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let (found, step_under_way) = (Arc::clone(&moments), Arc::clone(&current));
    disk.after_each(move |_, disk| {
        found.lock().unwrap().push(Moment { disk, step: *step_under_way.lock().unwrap() });
    });
    let (mut table, mut sequence) = (Table::default(), 1);
    let mut tables = vec![table.clone()];
    let mut db = Some(open(&disk).unwrap());
    for (number, step) in history().into_iter().enumerate() {
        *current.lock().unwrap() = number;
        if matches!(step, Step::Reopen) {
            db.take().unwrap().close().unwrap();
            db = Some(open(&disk).unwrap());
        } else {
            perform(db.as_ref().unwrap(), &step).unwrap();
        }
        apply(&step, &mut table, &mut sequence);
        tables.push(table.clone());
    }
    drop(db);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    (tables, moments)
}

#[test]
fn a_power_cut_after_any_operation_keeps_what_was_acknowledged() {
    let (tables, moments) = moments();
    let seeds = number_of("KEPLORDB_FAULTS_SEEDS").unwrap_or(SEEDS);
    let mut images = std::collections::HashSet::new();
    let mut tried = 0;
    for (number, moment) in moments.iter().enumerate() {
        let possible = &tables[moment.step..moment.step + 2];
        for seed in 0..seeds {
            // The extremes for every operation, and others for each.
            let seed = if seed < 2 { seed } else { seed + number as u64 * seeds };
            let disk = moment.disk.power_cut(seed);
            if !images.insert((disk.fingerprint(), moment.step)) {
                continue;
            }
            tried += 1;
            let what = format!("operation {} of step {}, seed {seed}", number + 1, moment.step);
            let db = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut table = shown(&db, possible, &what).clone();
            db.append_batch(&[after(), after()]).unwrap_or_else(|error| panic!("{what}: {error}"));
            table.append(u64::MAX >> 1, &[after(), after()]);
            // A second power cut: neither what was recovered nor what came after it goes.
            for seed in [0, seed] {
                let again = disk.power_cut(seed);
                let db =
                    open(&again).unwrap_or_else(|error| panic!("{what}, cut again with {seed}: {error}"));
                shown(&db, std::slice::from_ref(&table), &format!("{what}, cut again with {seed}"));
            }
        }
    }
    println!("{} operations, {tried} different images", moments.len());
    assert!(tried > moments.len(), "{tried} images of {} operations", moments.len());
}

#[test]
fn a_power_cut_during_recovery_keeps_what_was_acknowledged() {
    let (tables, moments) = moments();
    let mut tried = 0;
    for (number, moment) in moments.iter().enumerate() {
        let possible = &tables[moment.step..moment.step + 2];
        for seed in [0, 7 + number as u64] {
            let disk = moment.disk.power_cut(seed);
            let during = Arc::new(Mutex::new(Vec::new()));
            let found = Arc::clone(&during);
            disk.after_each(move |_, copy| found.lock().unwrap().push(copy));
            let what = format!("operation {} of step {}, seed {seed}", number + 1, moment.step);
            shown(&open(&disk).unwrap(), possible, &what);
            for (place, copy) in during.lock().unwrap().iter().enumerate() {
                for seed in [0, 2, 3, place as u64 + 4] {
                    tried += 1;
                    let what = format!("{what}, operation {} of recovery, seed {seed}", place + 1);
                    let db = open(&copy.power_cut(seed)).unwrap_or_else(|error| panic!("{what}: {error}"));
                    shown(&db, possible, &what);
                }
            }
        }
    }
    println!("{tried} power cuts during recovery");
    assert!(tried > moments.len());
}

#[test]
fn a_tombstone_of_a_lost_event_buries_no_later_one() {
    // Not every append syncs, so a power cut takes the event and leaves its delete.
    let mut disk = SimDisk::default();
    drop(open_with(&disk, Sync::Os).unwrap());
    for round in 0..3 {
        let db = open_with(&disk, Sync::Os).unwrap();
        let event = |id: &str| Event { id: id.into(), ts_ns: 5, ..Event::default() };
        db.append(&event("short-lived")).unwrap();
        assert!(db.delete_event("short-lived").unwrap());
        disk = disk.power_cut(0);
        let db = open_with(&disk, Sync::Os).unwrap();
        db.append_durable(&event("kept")).unwrap();
        disk = disk.power_cut(0);
        let db = open_with(&disk, Sync::Os).unwrap();
        assert_eq!(db.total_events(), round + 1, "round {round}");
        disk = disk.power_cut(0);
    }
}

#[test]
fn a_disk_that_takes_nothing_refuses_an_open_with_its_operation() {
    let disk = SimDisk::default();
    disk.fail(Fault { at: 1, kind: FaultKind::Io, forever: true });
    match open(&disk) {
        Err(DbError::Io { file, op, .. }) => {
            assert_eq!((file.to_str().unwrap(), op), ("events", "create"));
        }
        other => panic!("{:?}", other.map(drop)),
    }
    disk.heal();
    assert!(open(&disk).unwrap().open_report().created);
}

#[test]
fn every_bounds_what_a_power_cut_takes_however_many_write() {
    const LIMIT: u32 = 8;
    let disk = SimDisk::default();
    let config = EngineConfig { wal_shard_count: 1, ..EngineConfig::in_dir("events") };
    let options = Options::default().sync(Sync::Every { events: LIMIT, bytes: u64::MAX });
    let db = Db::open_with(config, options.disk(Arc::new(disk.clone()))).unwrap();
    let (writers, appends) = (4, 301);
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                for _ in 0..appends {
                    db.append(&Event::default()).unwrap();
                }
            });
        }
    });
    let kept = open(&disk.power_cut(0)).unwrap().total_events();
    let lost = writers * appends - kept;
    assert!(lost < u64::from(LIMIT), "{lost} acknowledged events are lost");
    assert!(db.stats().syncs < writers * appends, "every append was synced");
}
