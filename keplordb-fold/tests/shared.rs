//! `SharedLog`: threads that append, refresh, rotate and read views at once. Each append is answered with its own place, all events are
//! there once, syncs are shared, and who reads a view waits for nobody.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use common::{all, event, types};
use keplordb_fold::disk::sim::{Fault, FaultKind, OperationKind};
use keplordb_fold::disk::{Disk, RealDisk, SimDisk, replace};
use keplordb_fold::{Event, EventLog, SharedLog, UniqueAppend};
use tempfile::tempdir;

fn shared(dir: &std::path::Path, max_log_size: u64) -> SharedLog {
    EventLog::builder(dir).max_log_size(max_log_size).view("types", types).open().unwrap().share()
}

#[test]
fn a_shared_log_is_for_all_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<SharedLog>();
}

#[test]
fn threads_append_refresh_and_rotate_at_once_and_nothing_is_lost() {
    let dir = tempdir().unwrap();
    let log = shared(dir.path(), 2_000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..4)
            .map(|thread| {
                let log = log.clone();
                scope.spawn(move || {
                    for n in 0..50 {
                        let name = format!("t{thread}_{n}");
                        if n % 10 == 9 {
                            log.append_batch(&[event(&name), event(&format!("{name}_b"))]).unwrap();
                        } else {
                            log.append(&event(&name)).unwrap();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                log.refresh_all().unwrap();
                let state = log.view::<Vec<String>>("types").unwrap();
                assert!(state.len() >= seen, "a view never goes back");
                seen = state.len();
            }
        });
        let outcomes: Vec<_> = appenders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    assert!(log.last_rotation_error().is_none());
    log.refresh_all().unwrap();
    let found = all(&log.reader());
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), found);
    assert_eq!(found.len(), 220);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 220);
    for thread in 0..4 {
        let own: Vec<&String> =
            found.iter().filter(|name| name.starts_with(&format!("t{thread}_"))).collect();
        let mut expected = own.clone();
        expected.sort_by_key(|name| name.split('_').nth(1).unwrap().parse::<u64>().unwrap());
        assert_eq!(own, expected, "each thread's events stand in its order");
    }
    assert!(log.reader().active_log_size().unwrap() < 2_000);
}

#[test]
fn each_append_is_answered_with_its_own_place() {
    let dir = tempdir().unwrap();
    let log = shared(dir.path(), 0);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let log = &log;
                scope.spawn(move || {
                    (0..20)
                        .map(|n| (format!("t{thread}_{n}"), n))
                        .map(|(name, _)| {
                            let result = log.append(&event(&name)).unwrap();
                            (name, result)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (name, result) in results {
        let (found, end, hash) =
            log.reader().read_from(result.start_offset).unwrap().next().unwrap().unwrap();
        assert_eq!((found.event_type, end, hash), (name, result.end_offset, result.line_hash));
    }
}

#[test]
fn appends_at_the_same_time_share_a_sync() {
    let disk = SimDisk::default();
    let slow = disk.clone();
    // Each sync takes a while, as on a disk.
    slow.after_each({
        let disk = disk.clone();
        move |_, _| {
            if disk.trace().last().is_some_and(|operation| operation.kind == OperationKind::Sync) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let log = EventLog::builder("app").disk(Arc::new(disk.clone())).open().unwrap().share();
    log.append(&event("first")).unwrap();
    let syncs = || disk.trace().iter().filter(|operation| operation.kind == OperationKind::Sync).count();
    let before = syncs();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (log, barrier) = (log.clone(), &barrier);
            scope.spawn(move || {
                barrier.wait();
                for n in 0..25 {
                    log.append(&event(&format!("t{thread}_{n}"))).unwrap();
                }
            });
        }
    });
    let syncs = syncs() - before;
    assert!(syncs < 50, "{syncs} syncs for 200 appends of 8 threads");
    assert_eq!(all(&log.reader()).len(), 201);
}

#[test]
fn a_view_is_read_while_a_refresh_is_under_way() {
    let dir = tempdir().unwrap();
    let (inside, proceed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let reducer = {
        let (inside, proceed) = (Arc::clone(&inside), Arc::clone(&proceed));
        move |count: u64, _: &Event| {
            inside.store(true, Ordering::SeqCst);
            while !proceed.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            count + 1
        }
    };
    let log = EventLog::builder(dir.path()).view::<u64>("count", reducer).open().unwrap().share();
    assert_eq!(*log.view::<u64>("count").unwrap(), 0);
    log.append(&event("a")).unwrap();
    log.refresh_all().unwrap();
    let kept = log.view::<u64>("count").unwrap();
    assert_eq!(*kept, 1);
    log.append(&event("b")).unwrap();
    proceed.store(false, Ordering::SeqCst);
    inside.store(false, Ordering::SeqCst);
    thread::scope(|scope| {
        let refresh = scope.spawn(|| log.refresh("count").unwrap());
        while !inside.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // The reducer is at work until these have returned.
        assert_eq!(*log.view::<u64>("count").unwrap(), 1);
        log.append(&event("c")).unwrap();
        proceed.store(true, Ordering::SeqCst);
        refresh.join().unwrap();
    });
    assert_eq!(*kept, 1, "what was got stays as it is");
    log.refresh_all().unwrap();
    assert_eq!(*log.view::<u64>("count").unwrap(), 3);
}

#[test]
fn what_one_thread_at_a_time_does_is_done_here_too() {
    let dir = tempdir().unwrap();
    let log = shared(dir.path(), 0);
    let first = log.append_if(&event("a"), 0, "").unwrap();
    assert!(log.append_if(&event("a"), 0, "").is_err());
    log.rotate().unwrap();
    log.append_if(&event("b"), first.end_offset, &first.line_hash).unwrap();
    log.append_if_seq(&event("c"), 2).unwrap();
    let unique = event("d").with_id("7");
    assert!(matches!(log.append_unique(&unique).unwrap(), UniqueAppend::Appended(_)));
    assert!(matches!(log.append_unique(&unique).unwrap(), UniqueAppend::Duplicate { .. }));
    log.sync().unwrap();
    assert_eq!(log.state_at::<Vec<String>>("types", 2).unwrap(), ["a", "b"]);
    assert_eq!(log.views(), ["types"]);
    assert_eq!(log.view::<u64>("types").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(log.view::<u64>("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    log.rebuild("types").unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(log.view::<u64>("types").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_log_is_pruned_while_others_append_and_the_views_keep_all() {
    let dir = tempdir().unwrap();
    let log = shared(dir.path(), 1_000);
    let mut pruned = 0;
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..3)
            .map(|thread| {
                let log = log.clone();
                scope.spawn(move || {
                    for n in 0..60 {
                        log.append(&event(&format!("t{thread}_{n}"))).unwrap();
                    }
                })
            })
            .collect();
        while !appenders.iter().all(thread::ScopedJoinHandle::is_finished) {
            let portion = log.prune(u64::MAX).unwrap();
            assert!(portion.events.is_empty() || portion.events.start == pruned, "{portion:?}");
            pruned = pruned.max(portion.events.end);
        }
    });
    log.rotate().unwrap();
    assert_eq!(log.prune(u64::MAX).unwrap().events, pruned..180);
    let state = log.view::<Vec<String>>("types").unwrap();
    assert_eq!((state.len(), state.iter().collect::<BTreeSet<_>>().len()), (180, 180));
    assert!(all(&log.reader()).is_empty());
    assert!(log.reader().verify().unwrap().is_sound());
}

#[test]
fn the_last_handle_gives_the_lock_back() {
    let dir = tempdir().unwrap();
    let log = SharedLog::open(dir.path()).unwrap();
    let other = log.clone();
    drop(log);
    assert_eq!(EventLog::open(dir.path()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    drop(other);
    EventLog::open(dir.path()).unwrap();
}

#[test]
fn a_write_that_fails_fails_for_all_who_shared_it_and_none_of_them_is_in_the_log() {
    let disk = SimDisk::default();
    let log = EventLog::builder("app").disk(Arc::new(disk.clone())).open().unwrap().share();
    log.append(&event("first")).unwrap();
    disk.set_capacity_bytes(disk.bytes("app/app.jsonl".as_ref()).unwrap().unwrap());
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = log.append(&event("refused")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                refused.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(refused.into_inner(), 4);
    disk.heal();
    log.append(&event("second")).unwrap();
    assert_eq!(all(&log.reader()), ["first", "second"]);
    disk.fail(Fault { at: 0, kind: FaultKind::SyncFails, forever: false });
    assert!(log.append(&event("in doubt")).is_err());
    assert!(log.append(&event("after")).unwrap_err().to_string().contains("open the log anew"));
}

/// A line of the log is another one: as many events as before, and another state.
#[test]
fn a_state_that_was_computed_anew_is_shown_though_it_is_of_as_many_events() {
    let dir = tempdir().unwrap();
    let log = shared(dir.path(), 0);
    log.append(&event("first")).unwrap();
    log.refresh_all().unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["first"]);
    let path = dir.path().join("app.jsonl");
    let replaced = std::fs::read_to_string(&path).unwrap().replace("first", "another");
    replace(&RealDisk, &path, replaced.as_bytes()).unwrap();
    log.refresh_all().unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["another"]);
}

/// It would wait for itself.
#[test]
fn a_reducer_that_calls_its_own_log_is_refused() {
    let dir = tempdir().unwrap();
    let own: Arc<std::sync::OnceLock<SharedLog>> = Arc::default();
    let refused = Arc::new(AtomicU64::new(0));
    let (calls, counted) = (Arc::clone(&own), Arc::clone(&refused));
    let reducer = move |count: u64, _: &Event| {
        let Some(log) = calls.get() else { return count };
        let outcomes = [
            log.append(&event("from a reducer")).map(drop),
            log.append_batch(&[event("a"), event("b")]).map(drop),
            log.refresh_all(),
            log.rotate(),
            log.sync(),
            log.view::<u64>("count").map(drop),
            log.state_at::<u64>("count", 1).map(drop),
            log.verify().map(drop),
            log.prune(1).map(drop),
        ];
        assert_eq!(log.views(), ["count"]);
        for error in outcomes.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Deadlock);
            assert!(error.to_string().contains("when the refresh is over"), "{error}");
            counted.fetch_add(1, Ordering::Relaxed);
        }
        count + 1
    };
    let log = EventLog::builder(dir.path()).view("count", reducer).open().unwrap().share();
    own.set(log.clone()).unwrap();
    log.append(&event("a")).unwrap();
    log.refresh_all().unwrap();
    log.append(&event("b")).unwrap();
    log.rotate().unwrap();
    assert_eq!((*log.view::<u64>("count").unwrap(), refused.load(Ordering::Relaxed)), (2, 18));
    // When the refresh is over this thread may again, and others always.
    log.append(&event("c")).unwrap();
    assert_eq!(all(&log.reader()), ["a", "b", "c"]);
}
