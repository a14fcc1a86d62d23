//! What callers rely on: every name and signature that programs in the field use, in one compiled test, and one test for
//! each promise of the engine's semantics, named by the promise.
#![expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb::disk::{Disk, MemoryDisk, SimDisk};
use keplordb::{
    Appended, DbError, Engine, EngineConfig, EventFlags, EventRef, Flushed, GcStats, LogEvent,
    MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_LABEL_BYTES, Options, QueryFilter, RollupKey, RollupValue, Store,
    Sync, TableSchema, Totals,
};

type Db = Engine<2, 1, 1>;
type Event = LogEvent<2, 1, 1>;
type Filter = QueryFilter<2>;

const DAY_S: i64 = 86_400;
const DAY_NS: i64 = DAY_S * 1_000_000_000;

fn config() -> EngineConfig {
    EngineConfig { data_dir: "events".into(), schema_id: 3, rollup_dims: vec![0], ..EngineConfig::default() }
}

fn open_on(disk: &Arc<impl Disk + 'static>, config: EngineConfig) -> Result<Db, DbError> {
    Db::open_with(config, Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>))
}

fn memory() -> Db {
    open_on(&Arc::new(MemoryDisk::default()), config()).unwrap()
}

fn event(id: &str, ts_ns: i64) -> Event {
    Event {
        id: id.to_owned(),
        ts_ns,
        metric: 1,
        dims: ["alice".to_owned(), "gpt".to_owned()],
        ..Event::default()
    }
}

fn ids(db: &Db, filter: &Filter, limit: usize) -> Vec<String> {
    db.query_recent(filter, limit).unwrap().into_iter().map(|row| row.id).collect()
}

fn all_ids(db: &Db) -> Vec<String> {
    ids(db, &Filter::default(), usize::MAX)
}

fn user(value: &str) -> Filter {
    Filter { dims: [Some(value.to_owned()), None], ..Filter::default() }
}

/// Asks twice: from memory, and from a segment.
fn before_and_after_flush(db: &Db, ask: impl Fn(&Db, &str)) {
    ask(db, "in memory");
    assert!(db.flush().unwrap().rows > 0);
    ask(db, "in a segment");
}

fn is_shared<T: Send + std::marker::Sync + 'static>() {}

#[test]
#[expect(clippy::too_many_lines, reason = "the names and signatures are one list")]
fn every_name_and_signature_of_the_specification_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        data_dir: PathBuf::from(dir.path()).join("a").join("b"),
        wal_max_events: 500_000u32,
        wal_sync_interval: 64u32,
        wal_sync_bytes: 256u64 << 10,
        schema_id: 7u8,
        bloom_dim: 0usize,
        rollup_dims: vec![0usize, 1],
        mmap_cache_capacity: 256usize,
        wal_shard_count: 4usize,
        rollup_replay_days: 7u32,
    };
    let default = EngineConfig::default();
    assert_eq!(
        (default.wal_max_events, default.wal_sync_interval, default.wal_sync_bytes),
        (500_000, 64, 262_144)
    );
    assert_eq!(
        (default.mmap_cache_capacity, default.wal_shard_count, default.rollup_replay_days),
        (256, 4, 7)
    );
    let _: String = format!("{:?}", config.clone());

    let event = Event {
        id: "a".to_owned(),
        ts_ns: 1i64,
        metric: 2i64,
        counters: [3u32],
        latency_ms: 4u32,
        latency_detail_ms: 5u32,
        status: 200u16,
        flags: EventFlags(6u16),
        dims: [String::from("alice"), String::from("gpt")],
        labels: [String::from("why")],
    };
    assert_eq!(event.clone(), event);
    assert_eq!(Event::default().status, 0);
    let EventFlags(bits) = event.flags;
    let copied = event.flags;
    assert_eq!((bits, copied.0), (6, 6));

    let filter = Filter {
        dims: [Some("alice".to_owned()), None],
        from_ts_ns: Some(0i64),
        to_ts_ns: Some(10i64),
        status_min: Some(100u16),
        status_max: Some(300u16),
        cursor: Some(keplordb::read::query::Cursor(9i64)),
    };
    let _ = QueryFilter::<7>::default();

    let _: fn(EngineConfig) -> Result<Db, DbError> = Db::open;
    let _: fn(EngineConfig, Options) -> Result<Db, DbError> = Db::open_with;
    let _: fn(&Db, &Event) -> Result<Appended, DbError> = Db::append;
    let _: fn(&Db, &Event) -> Result<Appended, DbError> = Db::append_durable;
    let _: fn(&Db, &[Event]) -> Result<Appended, DbError> = Db::append_batch;
    let _: fn(&Db, &[Event]) -> Result<Appended, DbError> = Db::append_batch_durable;
    let _: fn(&Db, &str) -> Result<Option<EventRef<2, 1, 1>>, DbError> = Db::get_event;
    let _: fn(&Db, &Filter, usize) -> Result<Vec<EventRef<2, 1, 1>>, DbError> = Db::query_recent;
    let _: fn(&Db, &Filter) -> Result<Totals<1>, DbError> = Db::aggregate;
    #[expect(clippy::type_complexity, reason = "the signature as the specification has it")]
    let _: fn(&Db, i64, i64, &[Option<&str>]) -> Result<Vec<(RollupKey, RollupValue<1>)>, DbError> =
        Db::query_rollups;
    let _: fn(&Db, i64) -> Result<GcStats, DbError> = Db::gc;
    let _: fn(&Db, &str) -> Result<bool, DbError> = Db::delete_event;
    let _: fn(&Db, &[&str]) -> Result<usize, DbError> = Db::delete_events;
    let _: fn(&Db) -> Result<Flushed, DbError> = Db::flush;
    let _: fn(&Db, PathBuf) -> Result<(), DbError> = Db::checkpoint;
    let _: fn(&Db) -> usize = Db::segment_count;
    let _: fn(&Db) -> u32 = Db::wal_count;
    let _: fn(&Db) -> u64 = Db::total_events;
    let _: fn(&Db) -> u64 = Db::total_bytes;
    is_shared::<Db>();
    is_shared::<DbError>();

    let db = Db::open(config).unwrap();
    let appended = db.append(&event).unwrap();
    let (_, _): (u64, u64) = (appended.first, appended.last);
    db.append_durable(&event).unwrap();
    db.append_batch(&[event.clone(), event.clone()]).unwrap();
    db.append_batch_durable(std::slice::from_ref(&event)).unwrap();
    let row: EventRef<2, 1, 1> = db.get_event("a").unwrap().unwrap();
    let EventRef { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels } =
        row;
    let back =
        Event { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels };
    assert_eq!(back, event);

    let totals = db.aggregate(&filter).unwrap();
    let (count, metric, counters): (u64, i64, [u64; 1]) =
        (totals.event_count, totals.metric, totals.counters);
    assert_eq!((count, metric, counters), (5, 10, [15]));
    let (key, value) = db.query_rollups(0, 0, &[Some("alice"), None]).unwrap().remove(0);
    let (day, dims): (i64, Vec<String>) = (key.day, key.dims);
    assert_eq!((day, dims), (0, vec!["alice".to_owned(), "gpt".to_owned()]));
    let (count, metric, counters): (u64, i64, [u64; 1]) = (value.event_count, value.metric, value.counters);
    assert_eq!((count, metric, counters), (5, 10, [15]));

    db.flush().unwrap();
    db.checkpoint(dir.path().join("copy")).unwrap();
    assert_eq!((db.segment_count(), db.wal_count(), db.total_events()), (1, 0, 5));
    assert!(db.total_bytes() > 0);
    assert!(db.delete_event("a").unwrap());
    assert_eq!(db.delete_events(&["a", "b"]).unwrap(), 0);
    let stats = db.gc(i64::MAX).unwrap();
    let (segments, bytes, events): (u32, u64, u64) =
        (stats.segments_deleted, stats.bytes_freed, stats.events_deleted);
    assert_eq!((segments, events), (1, 0));
    assert!(bytes > 0);
}

#[test]
fn each_kind_of_error_has_its_fields() {
    let refused = |error: &DbError| match error {
        DbError::AlreadyOpen { dir, pid } => (dir.clone(), pid.is_some()),
        DbError::SchemaMismatch { dir, differences } => (dir.clone(), differences.is_empty()),
        DbError::Corrupt { file, offset, what } => (file.clone(), *offset == 0 && what.is_empty()),
        DbError::Missing { file } | DbError::Full { file } => (file.clone(), false),
        DbError::Truncated { file, found_bytes, expected_bytes } => {
            (file.clone(), found_bytes == expected_bytes)
        }
        DbError::Poisoned { first } => (PathBuf::new(), first.is_empty()),
        DbError::TooNew { file, found, max } => (file.clone(), found == max),
        DbError::TooOld { file, found, min } => (file.clone(), found == min),
        DbError::Io { file, op, source: _ } => (file.clone(), op.is_empty()),
        DbError::Invalid { field, why } => (field.into(), why.is_empty()),
        _ => (PathBuf::new(), true),
    };
    let error = Db::open(EngineConfig { wal_shard_count: 0, ..config() }).unwrap_err();
    assert_eq!(refused(&error), (PathBuf::from("wal_shard_count"), false));
    let _: &dyn std::error::Error = &error;
}

#[test]
fn time_comes_from_callers_in_any_order_and_far_apart() {
    let db = memory();
    for (id, ts_ns) in [("c", 5), ("e", i64::MAX), ("a", i64::MIN), ("d", 1 << 60), ("b", -1)] {
        db.append(&event(id, ts_ns)).unwrap();
    }
    db.flush().unwrap();
    // The newest arrive first, the oldest last: what came last is not what is newest.
    for (id, ts_ns) in [("f", 4), ("g", i64::MIN)] {
        db.append(&event(id, ts_ns)).unwrap();
    }
    before_and_after_flush(&db, |db, place| {
        assert_eq!(all_ids(db), ["e", "d", "c", "f", "b", "g", "a"], "{place}");
        assert_eq!(ids(db, &Filter::default(), 3), ["e", "d", "c"], "{place}");
        let until = Filter { to_ts_ns: Some(4), ..Filter::default() };
        assert_eq!(ids(db, &until, 2), ["f", "b"], "{place}");
        assert_eq!(db.aggregate(&until).unwrap().event_count, 4, "{place}");
    });
}

#[test]
fn an_event_is_seen_by_every_query_as_soon_as_its_append_returned() {
    let db = memory();
    for number in 1..=300_u64 {
        let id = number.to_string();
        db.append(&event(&id, number as i64)).unwrap();
        assert_eq!(db.aggregate(&user("alice")).unwrap().event_count, number);
        assert_eq!(ids(&db, &Filter::default(), 1), [id.as_str()]);
        assert_eq!(db.get_event(&id).unwrap().unwrap().ts_ns, number as i64);
        assert_eq!(db.query_rollups(0, 0, &[]).unwrap()[0].1.event_count, number);
        assert_eq!((db.total_events(), u64::from(db.wal_count()), db.segment_count()), (number, number, 0));
    }
}

#[test]
fn a_batch_is_all_or_nothing_after_a_crash() {
    let batch: Vec<Event> = (0..40).map(|row| event(&row.to_string(), row)).collect();
    let sim = Arc::new(SimDisk::default());
    let options = Options::default().disk(Arc::clone(&sim) as Arc<dyn Disk>).sync(Sync::Os);
    let db = Db::open_with(config(), options).unwrap();
    db.append_durable(&event("first", 0)).unwrap();
    db.append_batch(&batch).unwrap();
    let (mut whole, mut none) = (0, 0);
    for seed in 0..200 {
        let after = open_on(&Arc::new(sim.power_cut(seed)), config()).unwrap();
        match after.total_events() {
            1 => none += 1,
            41 => whole += 1,
            rows => panic!("{rows} rows with seed {seed}: a part of the batch"),
        }
    }
    assert!(whole > 0 && none > 0, "{whole} times whole, {none} times not there");
}

#[test]
fn a_durable_call_syncs_at_most_once_before_it_returns() {
    let sim = Arc::new(SimDisk::default());
    let options = Options::default().disk(Arc::clone(&sim) as Arc<dyn Disk>).sync(Sync::Os);
    let db = Db::open_with(config(), options).unwrap();
    // Makes the log's file.
    db.append(&event("first", 0)).unwrap();
    let mut durable = 1;
    for number in 0..20 {
        let before = (db.stats().syncs, sim.operations());
        db.append(&event("not yet", number)).unwrap();
        assert_eq!(db.stats().syncs, before.0, "an append without the word syncs nothing here");
        let event = event(&number.to_string(), number);
        if number % 2 == 0 {
            db.append_durable(&event).unwrap();
        } else {
            db.append_batch_durable(&[event.clone(), event]).unwrap();
        }
        durable += if number % 2 == 0 { 2 } else { 3 };
        assert_eq!(db.stats().syncs, before.0 + 1);
        let syncs = sim.trace().into_iter().skip(before.1 as usize);
        assert_eq!(
            syncs.filter(|done| matches!(done.kind, keplordb::disk::sim::OperationKind::Sync)).count(),
            1
        );
        // Nothing unsynced survives seed 0.
        assert_eq!(open_on(&Arc::new(sim.power_cut(0)), config()).unwrap().total_events(), durable);
    }
}

#[test]
fn query_recent_is_newest_first_and_limits_after_deletes_and_filters() {
    let db = memory();
    // Equal times: the later sequence is newer.
    for round in 0..5 {
        for name in ["a", "b"] {
            let mut event = event(&format!("{name}{round}"), 7);
            event.dims[0] = name.to_owned();
            db.append(&event).unwrap();
        }
        if round == 2 {
            db.flush().unwrap();
        }
    }
    db.delete_events(&["a4", "b3"]).unwrap();
    before_and_after_flush(&db, |db, place| {
        assert_eq!(all_ids(db), ["b4", "a3", "b2", "a2", "b1", "a1", "b0", "a0"], "{place}");
        assert_eq!(ids(db, &user("a"), 2), ["a3", "a2"], "{place}");
        assert_eq!(ids(db, &user("a"), 0).len(), 0, "{place}");
        assert_eq!(ids(db, &user("a"), usize::MAX).len(), 4, "{place}");
    });
    // `usize::MAX` on an empty table: nothing is allocated by it.
    assert!(all_ids(&memory()).is_empty());
}

#[test]
fn a_filter_is_inclusive_but_for_status_max_and_cursor() {
    let db = memory();
    for number in 0..10_u16 {
        let mut event = event(&number.to_string(), i64::from(number));
        event.status = number * 100;
        event.dims[0] = if number == 5 { String::new() } else { "x".to_owned() };
        db.append(&event).unwrap();
    }
    before_and_after_flush(&db, |db, place| {
        let check = |filter: Filter, expected: &[&str]| {
            assert_eq!(ids(db, &filter, usize::MAX), expected, "{place}: {filter:?}");
            assert_eq!(
                db.aggregate(&filter).unwrap().event_count,
                expected.len() as u64,
                "{place}: {filter:?}"
            );
        };
        check(Filter { from_ts_ns: Some(3), to_ts_ns: Some(4), ..Filter::default() }, &["4", "3"]);
        check(Filter { status_min: Some(300), status_max: Some(500), ..Filter::default() }, &["4", "3"]);
        check(Filter { cursor: Some(keplordb::Cursor(2)), ..Filter::default() }, &["1", "0"]);
        check(Filter { cursor: Some(keplordb::Cursor(i64::MIN)), ..Filter::default() }, &[]);
        check(Filter { dims: [Some(String::new()), None], ..Filter::default() }, &["5"]);
        check(Filter { dims: [Some("X".to_owned()), None], ..Filter::default() }, &[]);
        let both = [Some("x".to_owned()), Some("gpt".to_owned())];
        check(Filter { dims: both, to_ts_ns: Some(0), ..Filter::default() }, &["0"]);
        check(Filter { dims: [Some("x".to_owned()), Some("x".to_owned())], ..Filter::default() }, &[]);
        check(Filter { from_ts_ns: Some(4), to_ts_ns: Some(3), ..Filter::default() }, &[]);
    });
}

#[test]
fn sums_saturate_and_never_wrap() {
    let db = memory();
    for id in ["a", "b", "c"] {
        let mut event = event(id, 0);
        (event.metric, event.counters, event.latency_ms) = (i64::MAX, [u32::MAX], u32::MAX);
        db.append(&event).unwrap();
    }
    before_and_after_flush(&db, |db, place| {
        let totals = db.aggregate(&user("alice")).unwrap();
        assert_eq!((totals.metric, totals.counters), (i64::MAX, [3 * u64::from(u32::MAX)]), "{place}");
        assert_eq!(totals.latency_ms, 3 * u64::from(u32::MAX), "{place}");
        assert_eq!(db.query_rollups(0, 0, &[]).unwrap()[0].1.metric, i64::MAX, "{place}");
    });
    // They are clamped once, at the end: what comes back from beyond the range is exact.
    for id in ["d", "e", "f"] {
        db.append(&Event { metric: i64::MIN, ..event(id, 0) }).unwrap();
    }
    before_and_after_flush(&db, |db, place| {
        assert_eq!(db.aggregate(&Filter::default()).unwrap().metric, -3, "{place}");
        assert_eq!(db.query_rollups(0, 0, &[]).unwrap()[0].1.metric, -3, "{place}");
    });
    db.delete_events(&["a", "b", "c"]).unwrap();
    assert_eq!(db.aggregate(&Filter::default()).unwrap().metric, i64::MIN);
}

#[test]
fn rollups_are_the_sums_of_live_rows_by_day() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(&disk, config()).unwrap();
    let mut number = 0;
    for day in [-1, 0, 1, 5] {
        for name in ["a", "b"] {
            for ts_ns in [day * DAY_NS, (day + 1) * DAY_NS - 1] {
                let mut event = event(&number.to_string(), ts_ns);
                event.dims[0] = name.to_owned();
                event.counters = [10];
                db.append(&event).unwrap();
                number += 1;
            }
        }
    }
    let count = |db: &Db, from: i64, to: i64, wanted: &[Option<&str>]| -> Vec<(i64, String, u64)> {
        let rollups = db.query_rollups(from, to, wanted).unwrap();
        rollups
            .into_iter()
            .map(|(key, value)| (key.day / DAY_S, key.dims.join(","), value.event_count))
            .collect()
    };
    let row = |day: i64, name: &str, count: u64| (day, name.to_owned(), count);
    before_and_after_flush(&db, |db, place| {
        let two_days = [row(0, "a", 2), row(0, "b", 2), row(1, "a", 2), row(1, "b", 2)];
        assert_eq!(count(db, 0, DAY_S, &[None]), two_days, "{place}: inclusive at both ends");
        assert_eq!(count(db, -DAY_S, -DAY_S, &[Some("b")]), [row(-1, "b", 2)], "{place}");
        assert_eq!(count(db, 1, DAY_S - 1, &[]), [], "{place}: no midnight between");
        assert_eq!(count(db, i64::MIN, i64::MAX, &[Some("a")]).len(), 4, "{place}");
        assert_eq!(count(db, 0, 0, &[Some("nobody")]), [], "{place}");
        let value = &db.query_rollups(0, 0, &[Some("a")]).unwrap()[0].1;
        assert_eq!((value.event_count, value.metric, value.counters), (2, 2, [20]), "{place}");
    });
    // The rows of one day and value go: so does its entry.
    db.delete_events(&["4", "5", "6"]).unwrap();
    assert_eq!(count(&db, 0, 0, &[]), [row(0, "b", 1)]);
    drop(db);
    // Other rollup dims, in another order, without a new schema id.
    let db = open_on(&disk, EngineConfig { rollup_dims: vec![1, 0], ..config() }).unwrap();
    assert_eq!(count(&db, 0, 0, &[]), [row(0, "gpt,b", 1)]);
    assert_eq!(count(&db, 5 * DAY_S, 5 * DAY_S, &[Some("gpt"), Some("a")]), [row(5, "gpt,a", 2)]);
    drop(db);
    let db = open_on(&disk, EngineConfig { rollup_dims: vec![], ..config() }).unwrap();
    assert_eq!(count(&db, 0, DAY_S, &[]), [row(0, "", 1), row(1, "", 4)]);
    db.gc(i64::MAX).unwrap();
    assert_eq!(count(&db, i64::MIN, i64::MAX, &[]), []);
}

#[test]
fn open_accepts_other_shard_counts_and_refuses_a_second_engine_and_other_schemas() {
    let disk = Arc::new(MemoryDisk::default());
    for (round, shards) in [4, 1, 64, 2].into_iter().enumerate() {
        let db = open_on(&disk, EngineConfig { wal_shard_count: shards, ..config() }).unwrap();
        assert_eq!(db.total_events(), round as u64);
        db.append(&event("a", 0)).unwrap();
        assert!(matches!(open_on(&disk, config()), Err(DbError::AlreadyOpen { .. })));
    }
    let other = open_on(&disk, EngineConfig { schema_id: 4, ..config() });
    assert!(matches!(other, Err(DbError::SchemaMismatch { .. })), "{:?}", other.map(drop));
    let options = || Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let fewer = Engine::<1, 1, 1>::open_with(config(), options());
    assert!(matches!(fewer, Err(DbError::SchemaMismatch { .. })), "{:?}", fewer.map(drop));
    // Growth: each role has new columns at its end.
    let wider = Engine::<3, 2, 2>::open_with(config(), options()).unwrap();
    let row = wider.get_event("a").unwrap().unwrap();
    assert_eq!((row.dims[2].as_str(), row.counters[1], row.labels[1].as_str()), ("", 0, ""));
}

#[test]
fn a_raw_open_adopts_names_and_a_named_open_names_a_positional_directory() {
    let disk = Arc::new(MemoryDisk::default());
    let options = || Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let named = TableSchema::new(3).dim("user").dim("model").counter("tokens").label("prompt");
    open_on(&disk, config()).unwrap().append(&event("a", 0)).unwrap();
    drop(Db::open_with(config(), options().schema(named.clone())).unwrap());
    // Raw again: it only counts its columns.
    drop(open_on(&disk, config()).unwrap());
    let renamed = TableSchema::new(3).dim("user").dim("engine").counter("tokens").label("prompt");
    match Db::open_with(config(), options().schema(renamed)) {
        Err(DbError::SchemaMismatch { differences, .. }) => {
            assert_eq!(differences, "dim 1 is \"engine\" instead of the stored \"model\"");
        }
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(Db::open_with(config(), options().schema(named)).unwrap().total_events(), 1);
}

#[derive(keplordb::Schema)]
#[keplordb(id = 3)]
struct Call {
    #[dim]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[label]
    prompt: String,
}

#[test]
fn a_store_opens_what_a_raw_engine_wrote_and_makes_ids() {
    let disk = Arc::new(MemoryDisk::default());
    open_on(&disk, config()).unwrap().append(&event("a", 0)).unwrap();
    let options = Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let store = Store::<Call>::open_with(config(), options).unwrap();
    for ts_ns in [1, 2] {
        store.append(Call::new(ts_ns).user("bob").model("opus").tokens(5).prompt("why")).unwrap();
    }
    let rows = store.query(Call::filter()).oldest_first().rows().unwrap();
    let users: Vec<&str> = rows.iter().map(CallRow::user).collect();
    assert_eq!(users, ["alice", "bob", "bob"]);
    let ids: HashSet<&str> = rows.iter().map(CallRow::id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| store.get(id).unwrap().is_some()));
}

#[test]
fn a_delete_is_durable_by_one_sync_visible_at_once_and_idempotent() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim, config()).unwrap();
    for id in ["a", "b", "a", "c", ""] {
        db.append(&event(id, 5)).unwrap();
    }
    db.flush().unwrap();
    db.append(&event("b", 6)).unwrap();
    // Makes the log of deletes.
    assert!(db.delete_event("c").unwrap());

    let before = db.stats().syncs;
    assert_eq!(db.delete_events(&["b", "b", "unknown", "", "a"]).unwrap(), 2, "how many were really there");
    assert_eq!(db.stats().syncs, before + 1);
    let check = |db: &Db| {
        assert_eq!(all_ids(db), [""]);
        assert!(db.get_event("a").unwrap().is_none() && db.get_event("b").unwrap().is_none());
        let totals = db.aggregate(&user("alice")).unwrap();
        assert_eq!((totals.event_count, totals.metric, db.total_events()), (1, 1, 1));
        let rollup = &db.query_rollups(0, 0, &[]).unwrap()[0].1;
        assert_eq!((rollup.event_count, rollup.metric), (1, 1));
    };
    check(&db);
    let operations = sim.operations();
    assert_eq!(db.delete_events(&["a", "b", "unknown"]).unwrap(), 0);
    assert!(!db.delete_event("a").unwrap());
    assert_eq!(sim.operations(), operations, "what is not there costs nothing");
    // The same id again is a new event.
    for seed in 0..8 {
        let after = open_on(&Arc::new(sim.power_cut(seed)), config()).unwrap();
        check(&after);
        after.append(&event("a", 5)).unwrap();
        assert_eq!(all_ids(&after), ["a", ""]);
        after.flush().unwrap();
        assert_eq!(all_ids(&after), ["a", ""]);
    }
}

#[test]
fn gc_drops_segments_whose_newest_event_is_older_and_they_never_return() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim, config()).unwrap();
    for (first, last) in [(10, 19), (0, 5), (3, 30)] {
        for ts_ns in [first, last] {
            db.append(&event(&ts_ns.to_string(), ts_ns)).unwrap();
        }
        db.flush().unwrap();
    }
    db.append(&event("in a log", 1)).unwrap();
    assert_eq!(db.gc(5).unwrap(), GcStats::default(), "a segment whose newest is the cutoff stays");
    let bytes = db.total_bytes();
    let stats = db.gc(20).unwrap();
    assert_eq!((stats.segments_deleted, stats.events_deleted), (2, 4));
    assert_eq!(db.total_bytes(), bytes - stats.bytes_freed);
    let left = ["30", "3", "in a log"];
    assert_eq!(all_ids(&db), left);
    assert_eq!(db.aggregate(&Filter::default()).unwrap().event_count, 3);
    for seed in 0..20 {
        assert_eq!(all_ids(&open_on(&Arc::new(sim.power_cut(seed)), config()).unwrap()), left, "seed {seed}");
    }
    assert_eq!(all_ids(&open_on(&Arc::new(sim.kill()), config()).unwrap()), left);
}

#[test]
fn gc_works_on_a_full_disk() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim, config()).unwrap();
    for ts_ns in 0..50 {
        db.append(&Event { labels: ["x".repeat(1000)], ..event(&ts_ns.to_string(), ts_ns) }).unwrap();
    }
    db.flush().unwrap();
    sim.set_capacity_bytes(0);
    assert!(matches!(db.append_batch(&vec![event("a", 0); 5000]), Err(DbError::Full { .. })));
    assert_eq!(db.gc(100).unwrap().segments_deleted, 1);
    assert_eq!(all_ids(&db).len(), 0);
    let after = open_on(&Arc::new(sim.power_cut(0)), config()).unwrap();
    assert_eq!(after.total_events(), 0);
}

#[test]
fn a_full_disk_opens_and_answers() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim, config()).unwrap();
    db.append(&event("a", 1)).unwrap();
    db.flush().unwrap();
    db.append(&event("b", 2)).unwrap();
    sim.set_capacity_bytes(0);
    let after = open_on(&Arc::new(sim.kill()), config()).unwrap();
    assert_eq!(all_ids(&after), ["b", "a"]);
}

#[test]
fn flush_is_a_barrier_and_free_when_there_is_nothing_to_do() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim, config()).unwrap();
    assert_eq!(db.flush().unwrap().rows, 0);
    let operations = sim.operations();
    for _ in 0..100 {
        assert_eq!(db.flush().unwrap().rows, 0);
    }
    assert_eq!(sim.operations(), operations, "an empty flush touches no file");

    for round in 1..4_u64 {
        db.append_batch(&[event("a", 1), event("b", 2)]).unwrap();
        let syncs = db.stats().syncs;
        assert_eq!(db.flush().unwrap().rows, 2);
        assert!(db.stats().syncs - syncs <= 7, "{} syncs", db.stats().syncs - syncs);
        assert_eq!((db.wal_count(), db.segment_count() as u64, db.total_events()), (0, round, 2 * round));
        let operations = sim.operations();
        assert_eq!(db.flush().unwrap().rows, 0);
        assert_eq!(sim.operations(), operations);
    }
}

#[test]
fn drop_needs_no_close_and_never_panics() {
    for kind in FaultKind::ALL {
        for at in [1, 2, 3, 5] {
            let sim = Arc::new(SimDisk::default());
            let db = open_on(&sim, config()).unwrap();
            db.append(&event("a", 0)).unwrap();
            sim.fail(Fault { at: sim.operations() + at, kind, forever: true });
            drop(db);
            sim.heal();
            assert_eq!(open_on(&sim, config()).unwrap().total_events(), 1, "{kind:?} at {at}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_engine_costs_kilobytes_whatever_its_settings() {
    fn resident_bytes() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
    let large = |number: usize| EngineConfig {
        data_dir: format!("events {number}").into(),
        wal_max_events: u32::MAX,
        wal_shard_count: 64,
        mmap_cache_capacity: 1 << 30,
        ..config()
    };
    let disk = Arc::new(MemoryDisk::default());
    drop(open_on(&disk, large(0)).unwrap());
    let before = resident_bytes();
    let engines: Vec<Db> = (1..=200).map(|number| open_on(&disk, large(number)).unwrap()).collect();
    let each = resident_bytes().saturating_sub(before) / engines.len();
    // Other tests of this process run meanwhile; by `wal_max_events` it would be terabytes.
    assert!(each < 1 << 20, "{each} bytes for each idle engine");
    // One event costs its shard what a log costs, not what it may grow to.
    for db in &engines {
        db.append(&event("a", 0)).unwrap();
    }
    let each = resident_bytes().saturating_sub(before) / engines.len();
    assert!(each < 1 << 20, "{each} bytes for each engine with one event");
}

#[test]
fn sizes_are_checked_at_append() {
    let db = memory();
    let refused = |change: &dyn Fn(&mut Event)| {
        let mut event = event("a", 0);
        change(&mut event);
        match db.append_batch(&[self::event("before", 0), event]) {
            Err(DbError::Invalid { field, why }) => format!("{field}: {why}"),
            other => panic!("{other:?}"),
        }
    };
    let long = |bytes: usize| "x".repeat(bytes);
    let why = |column: usize, max: usize| {
        format!("event 1 has {} bytes in column {column}, at most {max} are possible", max + 1)
    };
    let (key, label) = (MAX_KEY_BYTES, MAX_LABEL_BYTES);
    assert_eq!(refused(&|event| event.id = long(key + 1)), format!("id: {}", why(0, key)));
    assert_eq!(refused(&|event| event.dims[1] = long(key + 1)), format!("dim: {}", why(1, key)));
    assert_eq!(refused(&|event| event.labels[0] = long(label + 1)), format!("label: {}", why(0, label)));
    assert_eq!(db.total_events(), 0, "nothing of a refused batch is there");

    let mut largest = event(&long(MAX_KEY_BYTES), 0);
    largest.dims = [long(MAX_KEY_BYTES), long(MAX_KEY_BYTES)];
    largest.labels = [long(MAX_LABEL_BYTES)];
    db.append(&largest).unwrap();
    let count = MAX_BATCH_BYTES / MAX_LABEL_BYTES + 1;
    match db.append_batch(&vec![largest.clone(); count]) {
        Err(DbError::Invalid { field, .. }) => assert_eq!(field, "batch"),
        other => panic!("{other:?}"),
    }
    before_and_after_flush(&db, |db, place| {
        let row = db.get_event(&largest.id).unwrap().expect(place);
        assert!(row.dims == largest.dims && row.labels == largest.labels, "{place}");
        assert_eq!(db.aggregate(&user(&largest.dims[0])).unwrap().event_count, 1, "{place}");
    });
}

#[test]
fn more_than_65535_distinct_values_of_a_dim_in_one_segment_work() {
    let db = memory();
    let rows = 70_000;
    let events: Vec<Event> = (0..rows)
        .map(|number| Event { dims: [format!("user {number}"), "gpt".to_owned()], ..event("", number) })
        .collect();
    db.append_batch(&events).unwrap();
    before_and_after_flush(&db, |db, place| {
        for number in [0, 65_534, 65_535, 65_536, rows - 1] {
            let found = db.query_recent(&user(&format!("user {number}")), 5).unwrap();
            assert_eq!(found.iter().map(|row| row.ts_ns).collect::<Vec<_>>(), [number], "{place}");
        }
        assert_eq!(db.aggregate(&user("user 70000")).unwrap().event_count, 0, "{place}");
        assert_eq!(db.query_rollups(0, 0, &[]).unwrap().len() as i64, rows, "{place}");
        assert_eq!(db.query_recent(&Filter::default(), 70_000).unwrap().len() as i64, rows, "{place}");
    });
    assert_eq!(db.segment_count(), 1);
}
