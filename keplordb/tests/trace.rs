//! What a store says of a sequence: whether its event is there, is gone, or never was. Stores are run several times, since a run passes
//! many numbers over; events are deleted, purged and dropped; and a copy is asked for numbers of what came after it was made.

use keplordb::{Budget, Options, Schema, Start, Store, Trace};

#[derive(Schema)]
#[keplordb(id = 3)]
struct Visit {
    #[dim]
    page: String,
}

fn open(dir: &std::path::Path) -> Store<Visit> {
    Store::open_with(Visit::default_config(dir.into()), Options::default()).unwrap()
}

/// Appends so many events, and returns the sequences of all.
fn append(store: &Store<Visit>, count: i64) -> Vec<u64> {
    store.append_batch((0..count).map(|n| Visit::new(n).page(format!("/{n}")))).unwrap();
    let mut tail = store.tail(Start::Beginning);
    let mut sequences = Vec::new();
    while let Some(row) = tail.try_next().unwrap() {
        assert_eq!(tail.given(), Some(row.sequence()));
        sequences.push(row.sequence());
    }
    sequences
}

fn is_live(store: &Store<Visit>, sequence: u64) -> bool {
    matches!(store.trace(sequence).unwrap(), Trace::Live { .. })
}

#[test]
fn numbers_between_runs_were_never_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    for run in 0..4 {
        let store = open(dir.path());
        let sequences = append(&store, 5);
        ends.push(*sequences.last().unwrap());
        let asked = |store: &Store<Visit>| {
            assert!(sequences.iter().all(|sequence| is_live(store, *sequence)));
            for end in &ends {
                for behind in [1, 2, 1_000, 1 << 31] {
                    assert_eq!(store.trace(end + behind).unwrap(), Trace::Never, "{behind} behind {end}");
                }
            }
            assert_eq!(store.trace(0).unwrap(), Trace::Never);
        };
        asked(&store);
        if run > 0 {
            // Runs meet in one segment.
            store.flush().unwrap();
            store.compact(Budget::UNLIMITED).unwrap();
            asked(&store);
        }
        store.close().unwrap();
    }
}

#[test]
fn what_was_deleted_and_purged_or_dropped_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for run in 0..3 {
        let store = open(dir.path());
        all = append(&store, 10);
        assert_eq!(all.len(), (run + 1) * 10);
        store.close().unwrap();
    }
    let store = open(dir.path());
    // The first, the last, and one in the middle of each run.
    store.delete_where(Visit::filter().page("/0")).unwrap();
    store.delete_where(Visit::filter().page("/5")).unwrap();
    store.delete_where(Visit::filter().page("/9")).unwrap();
    for step in ["deleted", "flushed", "purged", "dropped"] {
        match step {
            "flushed" => _ = store.flush().unwrap(),
            "purged" => {
                store.compact(Budget::UNLIMITED).unwrap();
                assert_eq!(store.stats().deleted_rows, 0);
            }
            "dropped" => _ = store.gc(i64::MAX).unwrap(),
            _ => {}
        }
        for (n, sequence) in all.iter().enumerate() {
            let trace = store.trace(*sequence).unwrap();
            if [0, 5, 9].contains(&(n % 10)) || step == "dropped" {
                assert_eq!(trace, Trace::Gone, "{n} at {sequence}, {step}");
            } else {
                assert!(
                    matches!(trace, Trace::Live { ts_ns, .. } if ts_ns == (n % 10) as i64),
                    "{n}, {step}"
                );
            }
        }
    }
}

#[test]
fn a_copy_does_not_know_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    append(&store, 10);
    store.checkpoint(dir.path().join("copy")).unwrap();
    let last = *append(&store, 10).last().unwrap();
    let copy = open(&dir.path().join("copy"));
    assert_eq!(copy.trace(last).unwrap(), Trace::Never);
    append(&copy, 50);
    assert_eq!((is_live(&store, last), copy.trace(last).unwrap()), (true, Trace::Never));
}
