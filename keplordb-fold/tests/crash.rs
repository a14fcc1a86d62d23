//! Does a log survive a crash at any moment? A workload of appends, batches, refreshes, rotations and reopenings runs on the
//! simulated disk; at every file operation the process is killed and the power cut in many ways, and again while the log is opened
//! after that. Always: what was acknowledged is there, once and in order; what was under way is there whole or not at
//! all; a view comes to the same; and the log goes on.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, Mutex};

use common::types;
use keplordb_fold::disk::SimDisk;
use keplordb_fold::disk::sim::{Fault, FaultKind, OperationKind};
use keplordb_fold::{Event, EventLog, FoldError, SyncPolicy};
use serde_json::json;

const DIR: &str = "app";

/// What the caller of a log knows of it.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The types of the events whose append returned.
    acknowledged: Vec<String>,
    /// Those of the append that is under way.
    under_way: Vec<String>,
}

impl Known {
    /// Whether `found` is what may be found.
    fn check(&self, found: &[String], what: &str) {
        let with = [&self.acknowledged[..], &self.under_way].concat();
        assert!(
            found == self.acknowledged || found == with,
            "{what}: {found:?} is neither {:?} nor that and {:?}",
            self.acknowledged,
            self.under_way
        );
    }
}

fn open(disk: &SimDisk, max_log_size: u64) -> io::Result<EventLog> {
    let disk = Arc::new(disk.clone());
    EventLog::builder(DIR).disk(disk).max_log_size(max_log_size).view("types", types).open()
}

/// An event whose line has at least so many bytes.
fn event(kind: &str, bytes: usize) -> Event {
    let mut event = Event::new(kind, json!({"text": "x".repeat(bytes)}));
    event.ts = 1000;
    event
}

/// A workload under test, and what its caller knows.
struct Run {
    disk: SimDisk,
    known: Arc<Mutex<Known>>,
    next: usize,
}

impl Run {
    fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), known: Arc::default(), next: 0 }
    }

    /// Appends events of these lengths: one alone, several as a batch.
    fn append(&mut self, log: &mut EventLog, lengths: &[usize]) -> io::Result<()> {
        let events: Vec<Event> = lengths
            .iter()
            .map(|length| {
                self.next += 1;
                event(&format!("e{}", self.next), *length)
            })
            .collect();
        let names: Vec<String> = events.iter().map(|event| event.event_type.clone()).collect();
        self.known.lock().unwrap().under_way.clone_from(&names);
        match events.as_slice() {
            [event] => drop(log.append(event)?),
            events => drop(log.append_batch(events)?),
        }
        let mut known = self.known.lock().unwrap();
        known.acknowledged.extend(names);
        known.under_way.clear();
        Ok(())
    }

    /// The workload; ends at the first error.
    fn work(&mut self) -> io::Result<()> {
        let mut log = open(&self.disk, 0)?;
        self.append(&mut log, &[10])?;
        self.append(&mut log, &[700])?;
        self.append(&mut log, &[5, 600, 20])?;
        log.refresh_all()?;
        self.append(&mut log, &[30])?;
        drop(log);
        // The first rotation by a writer that has appended nothing itself.
        let mut log = open(&self.disk, 0)?;
        log.rotate()?;
        self.append(&mut log, &[400, 400])?;
        self.append(&mut log, &[0])?;
        drop(log);
        let mut log = open(&self.disk, 0)?;
        self.append(&mut log, &[1])?;
        log.rotate()?;
        log.rotate()?;
        // Over the offset at which this writer began, which was in the generation before.
        self.append(&mut log, &[700, 700])?;
        drop(log);
        // From here on it rotates by itself.
        let mut log = open(&self.disk, 900)?;
        for lengths in [&[100][..], &[300, 300], &[200], &[500], &[10, 10, 10]] {
            self.append(&mut log, lengths)?;
            if log.last_rotation_error().is_some() {
                return Err(io::Error::other("the rotation failed"));
            }
        }
        log.refresh_all()
    }
}

/// What a log has, by its reader.
fn read(log: &EventLog) -> io::Result<Vec<String>> {
    log.read_full()?.map(|item| Ok(item?.0.event_type)).collect()
}

/// Opens what a crash left, checks it, appends to it, and checks that.
fn check_image(image: &SimDisk, known: &Known, what: &str) {
    check_left(image, known, SimDisk::power_cut, what);
}

/// The same, with what may happen to the image then.
fn check_left(image: &SimDisk, known: &Known, then: fn(&SimDisk, u64) -> SimDisk, what: &str) {
    let mut log = open(image, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    known.check(&found, what);
    log.refresh_all().unwrap_or_else(|error| panic!("{what}, refresh: {error}"));
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), found, "{what}, view");
    // What was found stays, and what is appended now.
    let mut expected = found;
    let appended: Vec<Event> = ["x", "y"].map(|name| event(name, 3)).into();
    log.append(&appended[0]).unwrap_or_else(|error| panic!("{what}, append: {error}"));
    log.append_batch(&appended).unwrap();
    expected.extend(["x", "x", "y"].map(str::to_owned));
    let after = then(image, 0);
    let left = read(&open(&after, 0).unwrap()).unwrap_or_else(|error| panic!("{what}, appended: {error}"));
    assert_eq!(left, expected, "{what}, appended");
    log.rotate().unwrap();
    drop(log);
    let after = then(image, 0);
    let mut log = open(&after, 0).unwrap();
    assert_eq!(read(&log).unwrap(), expected, "{what}, rotated");
    log.rebuild("types").unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), expected, "{what}, rebuilt");
}

/// Every moment of the workload, with what was known then.
fn moments() -> Vec<(u64, SimDisk, Known)> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let disk = SimDisk::default();
    let mut run = Run::new(&disk);
    let (copies, known) = (Arc::clone(&moments), Arc::clone(&run.known));
    disk.after_each(move |number, copy| {
        copies.lock().unwrap().push((number, copy, known.lock().unwrap().clone()));
    });
    run.work().unwrap();
    std::mem::take(&mut *moments.lock().unwrap())
}

#[test]
fn every_moment_of_a_workload_may_be_the_last() {
    let moments = moments();
    assert!(moments.len() > 140, "{} moments", moments.len());
    let mut seen = HashSet::new();
    for (number, copy, known) in &moments {
        check_image(&copy.kill(), known, &format!("killed after {number}"));
        for seed in 0..12 {
            let image = copy.power_cut(seed);
            if !seen.insert((image.fingerprint(), known.acknowledged.len(), known.under_way.len())) {
                continue;
            }
            check_image(&image, known, &format!("cut after {number} by {seed}"));
        }
    }
    assert!(seen.len() > 300, "{} images", seen.len());
}

#[test]
fn every_moment_of_an_opening_after_a_crash_may_be_the_last() {
    let (mut images, mut checked) = (HashSet::new(), HashSet::new());
    for (number, copy, known) in &moments() {
        for seed in [3, 5, 9] {
            let image = copy.power_cut(seed);
            if !images.insert(image.fingerprint()) {
                continue;
            }
            let again = Arc::new(Mutex::new(Vec::new()));
            let copies = Arc::clone(&again);
            image.after_each(move |number, copy| copies.lock().unwrap().push((number, copy)));
            drop(open(&image, 0).unwrap_or_else(|error| panic!("{number}, {seed}: {error}")));
            let again = std::mem::take(&mut *again.lock().unwrap());
            for (again, copy) in again {
                for second in [0, 8] {
                    let image = copy.power_cut(second);
                    if checked.insert((image.fingerprint(), known.acknowledged.len())) {
                        let what = format!("cut after {number} by {seed}, again after {again} by {second}");
                        check_image(&image, known, &what);
                    }
                }
            }
        }
    }
    assert!(checked.len() > 200, "{} images", checked.len());
}

/// A reader that comes before any writer sees nothing else.
#[test]
fn a_reader_of_what_a_kill_left_needs_no_writer() {
    for (number, copy, known) in &moments() {
        let image = copy.kill();
        let Ok(Some(_)) = keplordb_fold::disk::Disk::bytes(&image, "app/app.jsonl".as_ref()) else {
            continue;
        };
        // A writer that is not asked to write mends nothing that a reader would miss.
        let before = image.fingerprint();
        let log = open(&image.kill(), 0).unwrap();
        let mended = read(&log).unwrap();
        known.check(&mended, &format!("killed after {number}"));
        assert_eq!(before, image.fingerprint());
    }
}

/// Each operation of the workload fails in each way, once or from then on: what was acknowledged stays, what was refused is not
/// there, and only what ended in doubt may be either.
#[test]
fn every_operation_may_fail() {
    let clean = SimDisk::default();
    Run::new(&clean).work().unwrap();
    let (mut hit, mut refused, mut in_doubt, mut went_on) = (0, 0, 0, 0);
    for kind in FaultKind::ALL {
        for at in 1..=clean.operations() {
            for forever in [false, true] {
                let disk = SimDisk::default();
                disk.fail(Fault { at, kind, forever });
                let mut run = Run::new(&disk);
                let worked = run.work();
                hit += u64::from(disk.faults_hit() > 0);
                let what = format!("{kind:?} at {at}, forever {forever}: {worked:?}");
                let mut known = run.known.lock().unwrap().clone();
                match &worked {
                    Ok(()) => {}
                    Err(error) => {
                        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<FoldError>());
                        if matches!(inner, Some(FoldError::Poisoned { .. })) {
                            in_doubt += 1;
                        } else {
                            refused += 1;
                            known.under_way.clear();
                        }
                    }
                }
                disk.heal();
                // A name whose directory could not be synced may be lost, and no later sync proves anything. What was written before
                // a failed sync is written again, if it could be noted that one failed.
                let names_are_lost = disk
                    .trace()
                    .iter()
                    .any(|operation| operation.failed && operation.kind == OperationKind::SyncDir);
                let is_broken = kind == FaultKind::Io && forever;
                if is_broken || names_are_lost && kind != FaultKind::Interrupted {
                    check_left(&disk.kill(), &known, |image, _| image.kill(), &format!("{what}, killed"));
                    continue;
                }
                check_image(&disk.kill(), &known, &format!("{what}, killed"));
                check_image(&disk.power_cut(0), &known, &format!("{what}, cut"));
                check_image(&disk.power_cut(3), &known, &format!("{what}, cut by 3"));
                let mut log = open(&disk, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
                known.check(&read(&log).unwrap(), &what);
                run.known.lock().unwrap().under_way.clear();
                run.append(&mut log, &[20]).unwrap_or_else(|error| panic!("{what}: {error}"));
                went_on += 1;
            }
        }
    }
    assert!(
        hit > 500 && refused > 100 && in_doubt > 50 && went_on > 500,
        "{hit} {refused} {in_doubt} {went_on}"
    );
}

/// Threads that share a log: whoever got an answer finds his event, and nobody finds one twice or a part of one.
#[test]
fn every_moment_of_a_shared_log_may_be_the_last() {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let disk = SimDisk::default();
    let log = open(&disk, 0).unwrap().share();
    let (copies, known) = (Arc::clone(&moments), Arc::clone(&acknowledged));
    disk.after_each(move |number, copy| {
        copies.lock().unwrap().push((number, copy, known.lock().unwrap().clone()));
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, acknowledged) = (log.clone(), Arc::clone(&acknowledged));
            scope.spawn(move || {
                for n in 0..6 {
                    let name = format!("t{thread}_{n}");
                    log.append(&event(&name, 200 * thread)).unwrap();
                    acknowledged.lock().unwrap().insert(name);
                }
            });
        }
    });
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    let mut seen = HashSet::new();
    for (number, copy, known) in &moments {
        for seed in 0..16 {
            let image = copy.power_cut(seed);
            if !seen.insert(image.fingerprint()) {
                continue;
            }
            let what = format!("cut after {number} by {seed}");
            let mut log = open(&image, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
            let found = read(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
            let once: BTreeSet<String> = found.iter().cloned().collect();
            assert_eq!(once.len(), found.len(), "{what}: {found:?} has one twice");
            assert!(once.is_superset(known), "{what}: {found:?} lacks one of {known:?}");
            log.append(&event("behind", 3)).unwrap();
            let after = read(&open(&image.power_cut(0), 0).unwrap()).unwrap();
            assert_eq!(after, [found, vec!["behind".to_owned()]].concat(), "{what}");
        }
    }
    assert!(seen.len() > 30, "{} images", seen.len());
}

/// Every moment of what is done with a disk.
fn moments_of(disk: &SimDisk, work: impl FnOnce()) -> Vec<SimDisk> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |_, copy| copies.lock().unwrap().push(copy));
    work();
    disk.after_each(|_, _| {});
    std::mem::take(&mut *moments.lock().unwrap())
}

/// The journal vouches for the log's length, which must not be what the system had not written yet.
#[test]
fn a_rotation_doubles_nothing_that_was_not_synced() {
    for policy in [SyncPolicy::Every { events: 100, bytes: 1 << 20 }, SyncPolicy::OnDemand, SyncPolicy::Never]
    {
        let disk = SimDisk::default();
        let mut log = EventLog::builder(DIR).disk(Arc::new(disk.clone())).sync_policy(policy).open().unwrap();
        let names: Vec<String> = (0..8).map(|n| format!("e{n}")).collect();
        for name in &names {
            log.append(&event(name, 300)).unwrap();
        }
        for (n, moment) in moments_of(&disk, || log.rotate().unwrap()).iter().enumerate() {
            for seed in 0..12 {
                let image = moment.power_cut(seed);
                let found = read(&open(&image, 0).unwrap()).unwrap();
                let once: BTreeSet<&String> = found.iter().collect();
                assert_eq!(once.len(), found.len(), "{policy:?}, cut after {n} by {seed}: {found:?}");
            }
        }
        assert_eq!(read(&open(&disk.power_cut(0), 0).unwrap()).unwrap(), names);
    }
}

/// A process is killed in a rotation, the next one while it undoes that, and the power fails while a third goes on.
#[test]
fn a_rotation_that_is_undone_in_two_openings_doubles_nothing() {
    let mut checked = HashSet::new();
    for (number, copy, known) in &moments() {
        let image = copy.kill();
        let Ok(Some(_)) = keplordb_fold::disk::Disk::bytes(&image, "app/rotation.journal".as_ref()) else {
            continue;
        };
        for (second, copy) in moments_of(&image, || drop(open(&image, 0).unwrap())).iter().enumerate() {
            let image = copy.kill();
            for (third, copy) in moments_of(&image, || drop(open(&image, 0).unwrap())).iter().enumerate() {
                for seed in [0, 3] {
                    let image = copy.power_cut(seed);
                    if checked.insert((image.fingerprint(), known.acknowledged.len())) {
                        let what = format!("killed after {number} and {second}, cut after {third} by {seed}");
                        check_image(&image, known, &what);
                    }
                }
            }
        }
    }
    assert!(checked.len() > 20, "{} images", checked.len());
}

/// A policy that has each append synced has a batch synced as `Each` does.
#[test]
fn a_batch_is_whole_with_every_policy_that_syncs_it() {
    for limit in [0, 1, 3] {
        let policy = SyncPolicy::Every { events: limit, bytes: 1 << 20 };
        let disk = SimDisk::default();
        let mut log = EventLog::builder(DIR).disk(Arc::new(disk.clone())).sync_policy(policy).open().unwrap();
        log.append(&event("a", 10)).unwrap();
        log.sync().unwrap();
        let batch = ["b", "c", "d"].map(|name| event(name, 900));
        let moments = moments_of(&disk, || drop(log.append_batch(&batch).unwrap()));
        for (n, moment) in moments.iter().enumerate() {
            for seed in 0..32 {
                let found = read(&open(&moment.power_cut(seed), 0).unwrap()).unwrap().concat();
                assert!(found == "a" || found == "abcd", "{policy:?}, cut after {n} by {seed}: {found}");
            }
        }
    }
}

/// With other policies a power cut may take what was not synced, and never more; what is left can be read and appended to.
#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    for policy in [SyncPolicy::Every { events: 3, bytes: 900 }, SyncPolicy::OnDemand, SyncPolicy::Never] {
        let disk = SimDisk::default();
        let open = |disk: &SimDisk| {
            EventLog::builder(DIR).disk(Arc::new(disk.clone())).sync_policy(policy).open().unwrap()
        };
        let mut log = open(&disk);
        let (mut appended, mut synced) = (Vec::new(), 0);
        for n in 0..20 {
            let name = format!("e{n}");
            log.append(&event(&name, 90 * (n % 9))).unwrap();
            appended.push(name);
            if n % 7 == 6 {
                log.sync().unwrap();
                synced = appended.len();
            }
            for seed in 0..12 {
                let image = disk.power_cut(seed);
                let mut log = open(&image);
                let what = format!("{policy:?}, {n}, cut by {seed}");
                let found = read(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(found[..synced.min(found.len())], appended[..synced], "{what}");
                assert!(found.iter().all(|name| appended.contains(name)), "{what}");
                log.append(&event("behind", 3)).unwrap();
                drop(log);
                assert_eq!(read(&open(&image)).unwrap().len(), found.len() + 1, "{what}");
            }
        }
    }
}

/// A view has folded what was not synced, and its snapshot is synced; the power cut leaves a later event and not all before it.
#[test]
fn a_view_keeps_no_event_that_a_power_cut_took() {
    let disk = SimDisk::default();
    let open = |disk: &SimDisk| {
        let log = EventLog::builder(DIR).disk(Arc::new(disk.clone())).view("types", types);
        log.sync_policy(SyncPolicy::OnDemand).open().unwrap()
    };
    let mut log = open(&disk);
    log.append(&event("synced", 10)).unwrap();
    log.sync().unwrap();
    for n in 0..4 {
        log.append(&event(&format!("e{n}"), 900)).unwrap();
    }
    log.refresh_all().unwrap();
    let mut holes = 0;
    for seed in 0..200 {
        let image = disk.power_cut(seed);
        let mut log = open(&image);
        let found = read(&log).unwrap();
        log.refresh_all().unwrap();
        assert_eq!(*log.view::<Vec<String>>("types").unwrap(), found, "cut by {seed}");
        holes += usize::from(found.len() < 5 && found.last().unwrap() == "e3");
    }
    assert!(holes > 0);
}
