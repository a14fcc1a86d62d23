//! Promises about strange callers and strange neighbours: times and arguments at the ends of their ranges, iterators that
//! panic, openers that race, files that another program cuts. Each test is named by what PRODUCTION.md promises.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::fs::{self, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;

use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{
    Cursor, DbError, Engine, EngineConfig, LogEvent, MapMode, Options, QueryFilter, Schema, Store, Sync,
};
use naive::{Naive, assert_rows};
use proptest::prelude::*;

type Db = Engine<2, 1, 1>;
type Event = LogEvent<2, 1, 1>;
type Filter = QueryFilter<2>;

fn config(dir: &Path) -> EngineConfig {
    EngineConfig { data_dir: dir.to_owned(), rollup_dims: vec![1, 0], ..EngineConfig::default() }
}

fn in_memory() -> Db {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    Db::open_with(config(Path::new("events")), Options::default().disk(disk)).unwrap()
}

/// Times where sums of a time and anything run over, days before 1970, and their neighbours.
fn any_time() -> impl Strategy<Value = i64> {
    const DAY_NS: i64 = 86_400_000_000_000;
    prop_oneof![
        Just(i64::MIN),
        Just(i64::MIN + 1),
        Just(-DAY_NS - 1),
        Just(-1),
        Just(0),
        Just(DAY_NS - 1),
        Just(DAY_NS),
        Just(i64::MAX - 1),
        Just(i64::MAX),
        any::<i64>(),
    ]
}

prop_compose! {
    fn any_event()(
        ts_ns in any_time(),
        metric in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()],
        tokens in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
        latency_ms in prop_oneof![Just(u32::MAX), any::<u32>()],
        status in prop_oneof![Just(0), Just(u16::MAX), 200..600u16],
        user in prop_oneof![Just(String::new()), Just("\0".to_owned()), "[a-c]", any::<String>()],
        model in "[xy]",
        note in any::<String>(),
        id in "[a-f]",
    ) -> Event {
        Event {
            id, ts_ns, metric, counters: [tokens], latency_ms, status,
            dims: [user, model], labels: [note], ..Event::default()
        }
    }
}

prop_compose! {
    fn any_filter()(
        from in proptest::option::of(any_time()),
        to in proptest::option::of(any_time()),
        status_min in proptest::option::of(any::<u16>()),
        status_max in proptest::option::of(any::<u16>()),
        before in proptest::option::of(any_time()),
        model in proptest::option::of("[xyz]"),
    ) -> Filter {
        Filter {
            dims: [None, model], from_ts_ns: from, to_ts_ns: to, status_min, status_max,
            cursor: before.map(Cursor),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn times_and_numbers_at_the_ends_of_their_ranges_are_answered_as_by_a_plain_loop(
        batches in proptest::collection::vec((proptest::collection::vec(any_event(), 1..20), any::<bool>()), 1..4),
        filters in proptest::collection::vec(any_filter(), 4),
        days in (any::<i64>(), any::<i64>()),
    ) {
        let db = in_memory();
        let mut naive = Naive::default();
        for (batch, flush) in &batches {
            naive.append(db.append_batch(batch).unwrap().first, batch);
            if *flush {
                db.flush().unwrap();
            }
        }
        for filter in &filters {
            prop_assert_eq!(db.aggregate(filter).unwrap(), naive.aggregate(filter));
            let rows = db.query_recent(filter, usize::MAX).unwrap();
            assert_rows(&rows, &naive.recent(filter, usize::MAX), "recent");
        }
        for (from, to) in [days, (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            let expected = naive.rollups(&[1, 0], from, to, &[]);
            prop_assert_eq!(db.query_rollups(from, to, &[]).unwrap(), expected);
        }
    }
}

#[test]
fn arguments_that_fit_nothing_are_answered_or_refused() {
    let db = in_memory();
    db.append(&Event { id: "a".into(), ts_ns: 5, ..Event::default() }).unwrap();
    db.flush().unwrap();
    let long = "x".repeat(1 << 20);
    for id in ["", "\0", "ä\u{301}", long.as_str()] {
        assert!(db.get_event(id).unwrap().is_none());
        assert!(!db.delete_event(id).unwrap());
    }
    assert_eq!(db.delete_events(&[]).unwrap(), 0);
    assert!(db.query_recent(&Filter::default(), 0).unwrap().is_empty());
    let upside_down = Filter {
        from_ts_ns: Some(i64::MAX),
        to_ts_ns: Some(i64::MIN),
        status_min: Some(u16::MAX),
        status_max: Some(0),
        ..Filter::default()
    };
    assert!(db.query_recent(&upside_down, usize::MAX).unwrap().is_empty());
    assert_eq!(db.aggregate(&upside_down).unwrap().event_count, 0);
    assert!(matches!(db.query_rollups(0, 0, &[None, None, None]), Err(DbError::Invalid { .. })));
    assert_eq!(db.gc(i64::MIN).unwrap().events_deleted, 0);
    assert_eq!(db.gc(i64::MAX).unwrap().events_deleted, 1);
    assert_eq!(db.total_events(), 0);
}

#[test]
fn of_racing_openers_one_wins() {
    const OPENERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let (start, end) = (Barrier::new(OPENERS), Barrier::new(OPENERS));
        let opened: Vec<_> = thread::scope(|scope| {
            let open = || {
                start.wait();
                let opened = Db::open(config(dir.path()));
                // Nobody closes before everybody has tried.
                end.wait();
                opened.map(drop)
            };
            let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(open)).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        let winners = opened.iter().filter(|opened| opened.is_ok()).count();
        assert_eq!(winners, 1, "round {round}: {opened:?}");
        for loser in opened.iter().filter_map(|opened| opened.as_ref().err()) {
            assert!(matches!(loser, DbError::AlreadyOpen { .. }), "round {round}: {loser}");
        }
    }
}

#[derive(Schema)]
#[keplordb(id = 4)]
#[allow(dead_code, reason = "the fields are the schema")]
struct Login {
    #[dim]
    user: String,
}

/// The callers' code runs inside an append, before anything is locked.
#[test]
fn an_iterator_that_panics_appends_nothing_and_hurts_nobody() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let config = Login::default_config("logins".into());
    let store = Store::<Login>::open_with(config, Options::default().disk(disk)).unwrap();
    let logins = (0..10).map(|at_ns| {
        assert!(at_ns < 5, "the caller's own mistake");
        Login::new(at_ns).user("alice")
    });
    assert!(catch_unwind(AssertUnwindSafe(|| store.append_batch(logins))).is_err());
    assert_eq!(store.stats().events, 0);
    store.append(Login::new(7).user("bob")).unwrap();
    store.flush().unwrap();
    assert_eq!(store.query(Login::filter().user("bob")).totals().unwrap().event_count, 1);
    store.close().unwrap();
}

/// The one segment of a closed table with a thousand events.
fn a_segment(dir: &Path) -> PathBuf {
    let db = Db::open_with(config(dir), Options::default().sync(Sync::Os)).unwrap();
    let events: Vec<Event> =
        (0..1000).map(|ts_ns| Event { ts_ns, id: format!("login-{ts_ns}"), ..Event::default() }).collect();
    db.append_batch(&events).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let mut segments = fs::read_dir(dir.join("segments")).unwrap();
    segments.next().unwrap().unwrap().path()
}

#[test]
fn a_segment_that_was_cut_before_it_is_mapped_is_truncated() {
    for mode in [MapMode::Map, MapMode::Read] {
        let dir = tempfile::tempdir().unwrap();
        let segment = a_segment(dir.path());
        let db = Db::open_with(config(dir.path()), Options::default().map_mode(mode)).unwrap();
        let bytes = fs::metadata(&segment).unwrap().len();
        OpenOptions::new().write(true).open(&segment).unwrap().set_len(bytes / 2).unwrap();
        match db.query_recent(&Filter::default(), 10) {
            Err(DbError::Truncated { file, found_bytes, expected_bytes }) => {
                assert_eq!((file, found_bytes, expected_bytes), (segment, bytes / 2, bytes));
            }
            answer => panic!("{mode:?}: {answer:?}"),
        }
    }
}

#[test]
fn a_segment_that_was_read_into_memory_may_be_cut_by_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let segment = a_segment(dir.path());
    let db = Db::open_with(config(dir.path()), Options::default().map_mode(MapMode::Read)).unwrap();
    let before = db.query_recent(&Filter::default(), usize::MAX).unwrap();
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(100).unwrap();
    assert_eq!(db.query_recent(&Filter::default(), usize::MAX).unwrap(), before);
    assert_eq!(before.len(), 1000);
}
