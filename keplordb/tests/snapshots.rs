//! Snapshots while threads write: each is one moment of the whole table, and stays it. Then what a snapshot holds: the files
//! that the table no longer has, and neither the table nor its directory. `by_name.rs` asks snapshots every kind of question.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keplordb::any::{AnyAggregate, AnyGroupValue, AnyQuery, AnyReader, AnySnapshot, AnyStore};
use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{Budget, EngineConfig, Options, Sync, TableSchema};
use naive::crowded::CrowdedDisk;
use naive::random::Random;

fn open(disk: Arc<dyn Disk>, shards: usize, wal_max_events: u32) -> AnyStore {
    let config = EngineConfig {
        wal_max_events,
        wal_shard_count: shards,
        schema_id: 5,
        ..EngineConfig::in_dir(Path::new("events"))
    };
    let options = Options::default().disk(disk).sync(Sync::Os).unlink_grace(Duration::ZERO);
    AnyStore::open_with(config, options.schema(TableSchema::new(5).dim("user"))).unwrap()
}

/// The numbers of the rows that a query finds, and for each of its users their count.
type Seen = (BTreeSet<u64>, Vec<(String, u64)>);

fn seen(query: &AnyQuery<'_>) -> Seen {
    let mut numbers = BTreeSet::new();
    query
        .each(|row| {
            assert!(numbers.insert(row.view().sequence()), "a row came twice");
            Ok(())
        })
        .unwrap();
    let counts =
        query.clone().group_by(&["user"]).unwrap().select(&[AnyAggregate::Count]).unwrap().fetch().unwrap();
    let count = |group: usize| match counts.values(group) {
        [AnyGroupValue::Count(count)] => (counts.key(group, 0).to_owned(), *count),
        other => panic!("{other:?} is no count"),
    };
    (numbers, (0..counts.len()).map(count).collect())
}

/// Holds that all means of answering see the same rows; which ones.
fn check(snapshot: &AnySnapshot) -> Seen {
    let (numbers, counts) = seen(&snapshot.query());
    let count = numbers.len() as u64;
    assert_eq!(snapshot.live_rows(), count);
    assert_eq!(snapshot.query().totals().unwrap().event_count, count);
    assert_eq!(snapshot.query().by_scan().totals().unwrap().event_count, count);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), count);
    let rollups = snapshot.rollups(i64::MIN, i64::MAX, &[("user", None)]).unwrap();
    assert_eq!(rollups.iter().map(|rollup| rollup.event_count).sum::<u64>(), count);
    assert!(numbers.last().is_none_or(|last| *last < snapshot.below()));
    (numbers, counts)
}

#[test]
fn a_snapshot_has_no_row_without_those_that_came_before_it() {
    const WRITERS: u64 = 4;
    const APPENDS: u64 = 1500;
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let store = open(Arc::new(disk.clone()), 4, 100);
    disk.set_crowded(true);
    // The numbers of appends that have returned, in that order. The metric of a row says how many they were when its append
    // began.
    let returned = Mutex::new(Vec::<u64>::new());
    let done = AtomicU64::new(0);
    let mut kept = Vec::new();
    let mut taken = 0;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, returned, done) = (&store, &returned, &done);
            scope.spawn(move || {
                let mut random = Random::new(writer);
                for number in 0..APPENDS {
                    let before = i64::try_from(returned.lock().unwrap().len()).unwrap();
                    let event = store.event(before).set("metric", before).unwrap();
                    let event = event.set("user", format!("writer {writer}")).unwrap();
                    let first = store.append(event).unwrap().first;
                    returned.lock().unwrap().push(first);
                    if random.percent(2) {
                        store.flush().unwrap();
                    }
                    if number % 100 == 99 {
                        store.compact(Budget::rows(1000)).unwrap();
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < WRITERS {
            let acknowledged = returned.lock().unwrap().len();
            let snapshot = store.snapshot();
            let latest = snapshot
                .query()
                .group_by(&[])
                .unwrap()
                .select(&[AnyAggregate::Max("metric".into())])
                .unwrap()
                .fetch();
            let before_latest = match latest.unwrap().values(0) {
                [AnyGroupValue::Number(most)] => usize::try_from(most.unwrap_or(0)).unwrap(),
                other => panic!("{other:?} is no number"),
            };
            let answer = check(&snapshot);
            let came_before = returned.lock().unwrap()[..acknowledged.max(before_latest)].to_vec();
            for number in came_before {
                assert!(
                    answer.0.contains(&number),
                    "row {number} is missing, with {before_latest} before the latest"
                );
            }
            taken += 1;
            if taken % 16 == 0 {
                kept.push((snapshot, answer));
            }
        }
    });
    assert!(taken > 20, "{taken} snapshots test little");
    store.compact(Budget::UNLIMITED).unwrap();
    store.flush().unwrap();
    store.gc(i64::MAX).unwrap();
    assert_eq!(store.snapshot().live_rows(), 0);
    for (snapshot, answer) in kept {
        assert_eq!(check(&snapshot), answer);
    }
}

/// The names of the segments' files.
fn segments(disk: &MemoryDisk) -> BTreeSet<String> {
    let files = disk.list(Path::new("events/segments")).unwrap();
    files.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn files_stay_as_long_as_a_snapshot_has_them() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let store = open(Arc::clone(&disk) as Arc<dyn Disk>, 1, 500_000);
    for batch in 0..3 {
        let event = |row: i64| store.event(row).set("id", format!("{batch} {row}")).unwrap();
        store.append_batch((0..400).map(event)).unwrap();
        store.flush().unwrap();
    }
    store.append(store.event(7).set("user", "in memory").unwrap()).unwrap();
    store.delete(&["0 1", "2 399"]).unwrap();
    let snapshot = store.snapshot();
    let answer = check(&snapshot);
    let before = segments(&disk);
    assert_eq!(
        (snapshot.live_rows(), snapshot.parts(), snapshot.has_deletes()),
        (1199, before.len() + 1, true)
    );

    store.append(store.event(8)).unwrap();
    store.delete(&["1 1"]).unwrap();
    store.compact(Budget::UNLIMITED).unwrap();
    store.maintain(Budget::UNLIMITED).unwrap();
    assert_eq!(check(&snapshot), answer);
    store.flush().unwrap();
    store.gc(i64::MAX).unwrap();
    store.maintain(Budget::UNLIMITED).unwrap();
    assert_eq!(store.query().totals().unwrap().event_count, 0);
    assert!(segments(&disk).is_superset(&before), "{before:?}, then {:?}", segments(&disk));
    let clone = snapshot.clone();
    drop(snapshot);
    assert_eq!(check(&clone), answer);
    assert_eq!(clone.get("1 1").unwrap().unwrap().int("ts_ns").unwrap(), 1);
    assert!(clone.get("0 1").unwrap().is_none());

    drop(clone);
    store.maintain(Budget::UNLIMITED).unwrap();
    assert_eq!(segments(&disk).intersection(&before).count(), 0);
}

#[test]
fn a_snapshot_keeps_no_table_open() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let store = open(Arc::clone(&disk) as Arc<dyn Disk>, 2, 500_000);
    store.append_batch((0..300).map(|row| store.event(row))).unwrap();
    store.flush().unwrap();
    store.append_batch((0..3).map(|row| store.event(row))).unwrap();
    let snapshot = store.snapshot();
    let answer = check(&snapshot);
    store.close().unwrap();
    assert_eq!(check(&snapshot), answer);
    let store = open(Arc::clone(&disk) as Arc<dyn Disk>, 2, 500_000);
    assert_eq!(check(&store.snapshot()).1, answer.1);

    let config = EngineConfig::in_dir("events");
    let options = Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let reader = AnyReader::open_with(config, options).unwrap();
    let of_reader = reader.snapshot();
    store.append_batch((0..5).map(|row| store.event(row))).unwrap();
    reader.refresh().unwrap();
    assert_eq!((of_reader.live_rows(), reader.snapshot().live_rows()), (303, 308));
    assert_eq!(check(&of_reader), answer);
}

#[test]
fn pages_of_a_snapshot_are_its_rows() {
    let store = open(Arc::new(MemoryDisk::default()), 2, 500_000);
    store.append_batch((0..10).map(|row| store.event(row % 3))).unwrap();
    let snapshot = store.snapshot();
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = snapshot.query().oldest_first().page(4, cursor).unwrap();
        rows.extend(page.rows);
        store.append(store.event(1)).unwrap();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(rows, snapshot.query().oldest_first().rows().unwrap());
    assert_eq!(rows.len(), 10);
    let later = store.query().page(1, None).unwrap().next;
    let refused = snapshot.query().page(1, later).unwrap_err().to_string();
    assert!(refused.contains("of rows that are not seen here"), "{refused}");
    assert!(snapshot.query().page(0, None).unwrap_err().to_string().contains("pages of 0 rows"));
}

#[test]
fn sums_answer_a_snapshot_as_they_answer_the_table() {
    let store = open(Arc::new(MemoryDisk::default()), 1, 500_000);
    store.append_batch((0..300).map(|row| store.event(row))).unwrap();
    store.flush().unwrap();
    let snapshot = store.snapshot();
    store.append_batch((0..300).map(|row| store.event(row))).unwrap();
    assert_eq!(snapshot.query().explain().unwrap().to_string(), "segments: 1 by totals");
    let by_user = snapshot.query().group_by(&["user"]).unwrap();
    assert_eq!(by_user.explain().unwrap().to_string(), "segments: 1 by totals");
}

#[test]
fn snapshots_and_filters_go_from_thread_to_thread() {
    fn is_free<T: Send + std::marker::Sync + 'static>() {}
    is_free::<AnySnapshot>();
    is_free::<keplordb::any::AnyFilter>();
    is_free::<keplordb::any::AnyGroups>();
}
