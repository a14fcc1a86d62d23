//! Upkeep: replaced files and their grace, merging, compaction, purging, retention and the guard that does them by itself.
//! Each test says its claim in its name; tables are made on disks in memory or simulated ones, and what is on them is looked
//! at as files.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use keplordb::disk::{Disk, SimDisk};
use keplordb::{DbError, Engine, EngineConfig, LogEvent, Options, QueryFilter};
use naive::files::files_of;

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;

const DIR: &str = "events";
const HOUR: Duration = Duration::from_secs(3600);

fn config() -> EngineConfig {
    EngineConfig { data_dir: DIR.into(), schema_id: 3, rollup_dims: vec![0], ..EngineConfig::default() }
}

fn options(disk: &Arc<impl Disk + 'static>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>)
}

fn event(id: &str, ts_ns: i64) -> Event {
    Event {
        id: id.to_owned(),
        ts_ns,
        metric: 1,
        dims: ["alice".to_owned()],
        labels: ["x".into()],
        ..Event::default()
    }
}

fn ids(db: &Db) -> Vec<String> {
    db.query_recent(&QueryFilter::default(), usize::MAX).unwrap().into_iter().map(|row| row.id).collect()
}

/// How many files there are with this ending.
fn count(disk: &Arc<impl Disk + 'static>, ending: &str) -> usize {
    let files = files_of(disk.as_ref(), Path::new(DIR));
    files.keys().filter(|path| path.to_string_lossy().ends_with(ending)).count()
}

#[test]
fn what_gc_drops_stays_for_the_grace_and_goes_with_the_next_publish() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).unlink_grace(Duration::from_millis(50))).unwrap();
    db.append(&event("old", 1)).unwrap();
    db.flush().unwrap();
    assert_eq!(db.gc(10).unwrap().segments_deleted, 1);
    assert_eq!((count(&disk, ".kseg"), db.total_events()), (1, 0), "a copy may be under way");
    sleep(Duration::from_millis(60));
    db.append(&event("new", 20)).unwrap();
    db.flush().unwrap();
    assert_eq!(count(&disk, ".kseg"), 1, "only the new one");
    assert_eq!(ids(&db), ["new"]);
    drop(db);
    let db = Db::open_with(config(), options(&disk)).unwrap();
    assert_eq!(ids(&db), ["new"]);
}

#[test]
fn a_full_disk_ends_the_grace() {
    for by_gc in [false, true] {
        let disk = Arc::new(SimDisk::default());
        let db = Db::open_with(config(), options(&disk).unlink_grace(HOUR)).unwrap();
        for (number, ts_ns) in [("a", 1), ("b", 2)] {
            let mut event = event(number, ts_ns);
            event.labels[0] = (0..40_000_u32).map(|at| char::from(b'!' + (at * at % 89) as u8)).collect();
            db.append(&event).unwrap();
            db.flush().unwrap();
        }
        assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (2, 2), "the logs are in their grace");
        let used: usize = files_of(disk.as_ref(), Path::new(DIR)).values().map(Vec::len).sum();
        disk.set_capacity_bytes(used as u64);
        if by_gc {
            assert_eq!(db.gc(2).unwrap().segments_deleted, 1);
            assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (1, 0));
        } else {
            assert!(matches!(db.append(&event("c", 3)), Err(DbError::Full { .. })));
            assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (2, 0));
        }
        db.append(&event("c", 3)).unwrap();
        assert_eq!(ids(&db), if by_gc { vec!["c", "b"] } else { vec!["c", "b", "a"] });
    }
}
