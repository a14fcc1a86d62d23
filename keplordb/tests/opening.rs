//! Opens that meet a disk without room, and opens that fail: whatever a directory needs mended, its rows are shown when there is
//! no space to mend it with, writing says `Full` until there is, and an open that failed at any operation leaves a
//! directory that the next one opens with everything.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb::disk::{Disk, SimDisk, read_all};
use keplordb::{DbError, Engine, EngineConfig, LogEvent, Options, QueryFilter};
use naive::crowded::CrowdedDisk;
use naive::files::{files_of, put};

const DIR: &str = "events";
/// At most: two lines, of which the second is a process id. It may be a byte short.
const LOCK_BYTES: u64 = 17 + 8;

fn event<const D: usize>(id: &str) -> LogEvent<D, 1, 1> {
    let dims = std::array::from_fn(|dim| dim.to_string());
    LogEvent { id: id.to_owned(), ts_ns: 1, metric: 1, dims, ..LogEvent::default() }
}

fn open_as<const D: usize>(disk: Arc<dyn Disk>, shards: usize) -> Result<Engine<D, 1, 1>, DbError> {
    let config = EngineConfig { data_dir: DIR.into(), wal_shard_count: shards, ..EngineConfig::default() };
    Engine::open_with(config, Options::default().disk(disk))
}

fn ids<const D: usize>(db: &Engine<D, 1, 1>) -> BTreeSet<String> {
    let rows = db.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    assert_eq!(db.aggregate(&QueryFilter::default()).unwrap().event_count, rows.len() as u64);
    let ids: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
    assert_eq!(ids.len(), rows.len(), "a row is there twice");
    ids
}

/// A directory with a segment, a deleted row in it, and a log of each of several shards; and its rows.
fn table(is_closed: bool) -> (SimDisk, BTreeSet<String>) {
    let sim = SimDisk::default();
    let disk = CrowdedDisk::new(Arc::new(sim.clone()));
    let db = open_as::<1>(Arc::new(disk.clone()), 6).unwrap();
    db.append_batch(&[event("a"), event("b"), event("c")]).unwrap();
    db.flush().unwrap();
    db.delete_event("b").unwrap();
    disk.set_crowded(true);
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (db, barrier) = (&db, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..4 {
                    db.append(&event(&format!("{thread}.{number}"))).unwrap();
                }
            });
        }
    });
    db.delete_event("0.0").unwrap();
    let ids = ids(&db);
    assert_eq!(ids.len(), 25);
    let logs = files_of(&sim, Path::new("events/wal")).len();
    assert!(logs > 2, "all threads met in one shard");
    if is_closed {
        db.close().unwrap();
        return (sim.kill(), ids);
    }
    (sim.kill(), ids)
}

/// What an open shows.
struct Opened {
    /// After the append.
    ids: BTreeSet<String>,
    /// What there was no room to mend.
    put_off: Option<String>,
    appended: Result<(), DbError>,
}

/// What an open has to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "every combination is possible")]
struct Trouble {
    is_closed: bool,
    lost_manifest: bool,
    is_copy: bool,
    torn_tail: bool,
    fewer_shards: bool,
    more_columns: bool,
}

fn troubles() -> impl Iterator<Item = Trouble> {
    (0..1_u32 << 6).map(|bits| {
        let bit = |place: u32| bits & 1 << place != 0;
        Trouble {
            is_closed: bit(0),
            lost_manifest: bit(1),
            is_copy: bit(2),
            torn_tail: bit(3),
            fewer_shards: bit(4),
            more_columns: bit(5),
        }
    })
}

impl Trouble {
    fn count(self) -> usize {
        let all = [
            self.is_closed,
            self.lost_manifest,
            self.is_copy,
            self.torn_tail,
            self.fewer_shards,
            self.more_columns,
        ];
        all.into_iter().filter(|is_so| *is_so).count()
    }

    fn make(self, (disk, _): &(SimDisk, BTreeSet<String>)) -> SimDisk {
        let manifest = Path::new(DIR).join("MANIFEST");
        let mut disk = disk.kill();
        if self.is_copy {
            let copy = SimDisk::default();
            for (path, bytes) in files_of(&disk, Path::new(DIR)) {
                put(&copy, &path, &bytes);
            }
            // Without it there would have to be room for its name: nothing is opened that cannot be locked.
            let lock = Path::new(DIR).join("LOCK");
            put(&copy, &lock, &read_all(&disk, &lock, 100).unwrap());
            disk = copy;
        }
        if self.lost_manifest {
            disk.remove(&manifest).unwrap();
            // With it, a manifest could be written on a full disk.
            disk.remove(&Path::new(DIR).join("MANIFEST.spare")).unwrap();
        }
        if self.torn_tail {
            // Behind what is valid, so that no row is in doubt.
            for name in disk.list(&Path::new(DIR).join("wal")).unwrap() {
                let log = disk.open(&Path::new(DIR).join("wal").join(name.name)).unwrap();
                let end = log.bytes().unwrap();
                log.write_at(b"torn", end.next_multiple_of(8)).unwrap();
            }
        }
        disk
    }

    /// Opens it and appends an event with a label of so many bytes.
    fn open(self, disk: &SimDisk, id: &str, label_bytes: usize) -> Result<Opened, DbError> {
        fn open<const D: usize>(
            disk: Arc<dyn Disk>,
            shards: usize,
            id: &str,
            label: String,
        ) -> Result<Opened, DbError> {
            let db = open_as::<D>(disk, shards)?;
            let put_off = db.stats().last_error.map(|error| error.to_string());
            let appended = db.append(&LogEvent { labels: [label], ..event(id) }).map(drop);
            Ok(Opened { ids: ids(&db), put_off, appended })
        }
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let shards = if self.fewer_shards { 1 } else { 6 };
        let label = "x".repeat(label_bytes);
        if self.more_columns {
            open::<2>(disk, shards, id, label)
        } else {
            open::<1>(disk, shards, id, label)
        }
    }

    fn ids(self, disk: &SimDisk) -> BTreeSet<String> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        if self.more_columns {
            ids(&open_as::<2>(disk, 6).unwrap())
        } else {
            ids(&open_as::<1>(disk, 6).unwrap())
        }
    }
}

#[test]
fn a_full_disk_keeps_nobody_from_his_rows() {
    let tables = [table(false), table(true)];
    let (mut full, mut fitted) = (0, 0);
    let mut put_off = BTreeSet::new();
    for trouble in troubles() {
        let table = &tables[usize::from(trouble.is_closed)];
        let disk = trouble.make(table);
        let used = files_of(&disk, Path::new(DIR)).values().map(|bytes| bytes.len() as u64).sum::<u64>();
        let mut wanted = table.1.clone();
        // Without room for anything that grows, then with the room that files leave which are removed, then with a little
        // more: some of it can be mended, and some not. Whether a small event fits is a matter of bytes.
        let (large, small) = (1 << 20, 0);
        let rounds = [
            (None, large),
            (None, large),
            (None, small),
            (Some(0), large),
            (Some(300), large),
            (Some(40), large),
            (Some(0), small),
        ];
        for (round, (room, label_bytes)) in rounds.into_iter().enumerate() {
            disk.heal();
            match room {
                Some(room) => disk.set_capacity_bytes(used + LOCK_BYTES + room),
                None => disk.fail(Fault { at: 0, kind: FaultKind::Full, forever: true }),
            }
            let (id, what) = (format!("full {round}"), format!("{trouble:?}, round {round}"));
            let opened =
                trouble.open(&disk, &id, label_bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            match opened.appended {
                // There was room behind the end of a log.
                Ok(()) => {
                    assert!(label_bytes < large, "{what}");
                    fitted += 1;
                    wanted.insert(id);
                }
                Err(DbError::Full { .. }) => full += 1,
                Err(error) => panic!("{what}: {error}"),
            }
            assert_eq!(opened.ids, wanted, "{what}");
            put_off.extend(opened.put_off);
        }
        let killed = disk.kill();
        killed.heal();
        for disk in [disk.power_cut(0), disk.power_cut(3), killed] {
            disk.heal();
            assert_eq!(trouble.ids(&disk), wanted, "{trouble:?}");
        }
        // With room everything works again.
        disk.heal();
        let opened = trouble.open(&disk, "after", 5).unwrap();
        opened.appended.unwrap();
        wanted.insert("after".to_owned());
        assert_eq!(opened.ids, wanted, "{trouble:?}");
        assert_eq!(trouble.ids(&disk), wanted, "{trouble:?}");
    }
    assert!(full > 100 && fitted > 10, "{full} appends found no room, {fitted} some");
    for file in ["MANIFEST", ".kwal"] {
        assert!(put_off.iter().any(|error| error.contains(file)), "no {file} was put off: {put_off:?}");
    }
}

#[test]
fn an_open_that_fails_at_any_operation_leaves_everything_to_the_next() {
    let tables = [table(false), table(true)];
    let (mut failed, mut tried) = (0, 0);
    // All singly and in pairs, and all at once.
    let troubles = troubles().filter(|trouble| matches!(trouble.count(), 0..=2 | 6));
    for trouble in troubles {
        let table = &tables[usize::from(trouble.is_closed)];
        for kind in [FaultKind::Io, FaultKind::ShortWrite, FaultKind::SyncFails, FaultKind::Full] {
            for forever in [false, true] {
                for at in 1.. {
                    let disk = trouble.make(table);
                    let at = disk.operations() + at;
                    disk.fail(Fault { at, kind, forever });
                    let (shards, shared) = (if trouble.fewer_shards { 1 } else { 6 }, Arc::new(disk.clone()));
                    let opened = if trouble.more_columns {
                        open_as::<2>(shared, shards).map(|db| assert_eq!(ids(&db), table.1))
                    } else {
                        open_as::<1>(shared, shards).map(|db| assert_eq!(ids(&db), table.1))
                    };
                    if disk.faults_hit() == 0 {
                        assert!(opened.is_ok());
                        break;
                    }
                    tried += 1;
                    let what = format!("{trouble:?}, {kind:?} at {at}, for ever: {forever}");
                    if let Err(error) = opened {
                        failed += 1;
                        let is_typed = matches!(
                            error,
                            DbError::Full { .. } | DbError::Io { .. } | DbError::Poisoned { .. }
                        );
                        assert!(is_typed, "{what}: {error:?}");
                        assert!(kind != FaultKind::Full, "{what}: {error}");
                    }
                    disk.heal();
                    // What is in the page cache only is what a copying program need not have synced.
                    if !trouble.is_copy {
                        assert_eq!(trouble.ids(&disk.power_cut(at)), table.1, "{what}, power cut");
                    }
                    assert_eq!(trouble.ids(&disk), table.1, "{what}");
                }
            }
        }
    }
    assert!(failed > 1000, "{failed} of {tried} opens failed");
}

#[test]
fn what_is_shown_after_a_kill_survives_a_power_cut() {
    let sim = SimDisk::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&moments);
    sim.after_each(move |_, copy| found.lock().unwrap().push(copy));
    let db = open_as::<1>(Arc::new(sim.clone()), 2).unwrap();
    for round in 0..3 {
        db.append_batch(&[event(&format!("{round}.0")), event(&format!("{round}.1"))]).unwrap();
        db.flush().unwrap();
        db.delete_event(&format!("{round}.0")).unwrap();
    }
    db.append(&event("last")).unwrap();
    drop(db);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 40);
    for (number, moment) in moments.iter().enumerate() {
        let open = |disk: &SimDisk, what: &str| {
            open_as::<1>(Arc::new(disk.clone()), 2)
                .unwrap_or_else(|error| panic!("moment {number}, {what}: {error}"))
        };
        // Killed here; what another process then shows, or writes, is not lost with the power.
        let shown = ids(&open(moment, "killed"));
        let db = open(moment, "again");
        db.append(&event("after")).unwrap();
        let written = ids(&db);
        assert_eq!(written.len(), shown.len() + 1, "moment {number}");
        for seed in 0..8 {
            let what = format!("power cut {seed}");
            assert_eq!(ids(&open(&moment.power_cut(seed), &what)), written, "moment {number}, {what}");
        }
    }
}
