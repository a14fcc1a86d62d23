//! Questions by column name against the oracle of `naive/query.rs`: random histories of tables of any columns, and after every
//! step random trees of conditions, totals, groups, pages and ids. Each is asked of the store, of a reader beside it and of
//! snapshots of both that were taken some steps earlier, whose answers must be those of then; by the planner's means and by
//! scan.
//!
//! `KEPLORDB_BY_NAME_PROGRAMS` sets how many histories run, `KEPLORDB_BY_NAME_SEED` repeats one of them.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keplordb::any::{
    AnyAggregate, AnyFilter, AnyGroupValue, AnyQuery, AnyReader, AnyRollup, AnyRow, AnySnapshot, AnyStore,
    Column, Kind, Role, Test,
};
use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{Bucket, Budget, DbError, EngineConfig, EventFlags, Options, Sync, TableSchema};
use naive::query::{Aggregate, Answer, Holds, Key, KeyValue, Number, Quantile, Row, Text, holds};
use naive::random::{Random, Replay, number_of};

const PROGRAMS: u64 = 60;
const STEPS: usize = 14;
const DAY_NS: i64 = 86_400_000_000_000;
const DIR: &str = "events";

const TEXTS: [&str; 7] = ["", "a", "alice", "alicia", "bob", "Ωmega", "user-\u{1F980}"];
const PARTS: [&str; 7] = ["", "a", "ali", "e", "user-", "\u{1F980}", "nothing"];
const TIMES: [i64; 8] = [i64::MIN, i64::MIN + 1, -DAY_NS, -1, 0, 1, i64::MAX - 1, i64::MAX];
const STATUSES: [u16; 7] = [0, 1, 200, 404, 499, 500, u16::MAX];
const METRICS: [i64; 7] = [0, 1, -1, 7, -1_000_000, i64::MAX, i64::MIN];
const SMALL: [u32; 6] = [0, 1, 2, 255, 65_536, u32::MAX];

#[test]
fn random_histories_answer_as_the_oracle_does() {
    if let Some(seed) = number_of("KEPLORDB_BY_NAME_SEED") {
        return run(seed);
    }
    let programs = number_of("KEPLORDB_BY_NAME_PROGRAMS").unwrap_or(PROGRAMS);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= programs {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}

fn run(seed: u64) {
    let _replay = Replay { variable: "KEPLORDB_BY_NAME_SEED", seed };
    let mut program = Program::new(Random::new(seed));
    for _ in 0..STEPS {
        program.step();
        program.check();
    }
}

// A table and its history.

/// How many columns of each role: `d0`, `d1`, …, `c0`, …, `l0`, ….
#[derive(Debug, Clone, Copy)]
struct Shape {
    dims: usize,
    counters: usize,
    labels: usize,
}

impl Shape {
    fn schema(self) -> TableSchema {
        let schema = (0..self.dims).fold(TableSchema::new(6), |schema, dim| schema.dim(format!("d{dim}")));
        let schema = (0..self.counters).fold(schema, |schema, place| schema.counter(format!("c{place}")));
        (0..self.labels).fold(schema, |schema, label| match label % 2 {
            0 => schema.label(format!("l{label}")),
            _ => schema.indexed_label(format!("l{label}")),
        })
    }
}

/// A snapshot, and the rows that its table had when it was taken.
struct Taken {
    snapshot: AnySnapshot,
    rows: Vec<Row>,
}

struct Program {
    random: Random,
    disk: Arc<MemoryDisk>,
    shape: Shape,
    /// `None` while it is opened anew.
    open: Option<(AnyStore, AnyReader)>,
    /// The live rows.
    rows: Vec<Row>,
    taken: Vec<Taken>,
    /// Of 100 values of dims: how many are new.
    new_texts: usize,
    serial: u64,
}

fn open(disk: &Arc<MemoryDisk>, shape: Shape, random: &mut Random) -> (AnyStore, AnyReader) {
    let config = EngineConfig {
        wal_max_events: *random.pick(&[5, 60, 300, 500_000]),
        wal_shard_count: 1 + random.below(3),
        schema_id: 6,
        bloom_dim: if shape.dims > 0 && random.percent(50) { 0 } else { EngineConfig::NO_BLOOM },
        ..EngineConfig::in_dir(DIR)
    };
    let disk = || Arc::clone(disk) as Arc<dyn Disk>;
    let options = Options::default().disk(disk()).sync(Sync::Os).schema(shape.schema());
    // Replaced files go at once, unless a snapshot has them.
    let options = options.merge_rows(*random.pick(&[0, 30, 32_768])).unlink_grace(Duration::ZERO);
    let store = AnyStore::open_with(config.clone(), options).unwrap();
    let reader = AnyReader::open_with(config, Options::default().disk(disk())).unwrap();
    (store, reader)
}

impl Program {
    fn new(mut random: Random) -> Self {
        let shape = Shape { dims: random.below(4), counters: random.below(3), labels: random.below(3) };
        let disk: Arc<MemoryDisk> = Arc::default();
        let open = Some(open(&disk, shape, &mut random));
        let new_texts = *random.pick(&[0, 20, 100]);
        Self { random, disk, shape, open, rows: Vec::new(), taken: Vec::new(), new_texts, serial: 0 }
    }

    fn store(&self) -> &AnyStore {
        &self.open.as_ref().expect("it is open between the steps").0
    }

    fn step(&mut self) {
        match self.random.below(14) {
            0..6 => self.append(),
            6 => drop(self.store().flush().unwrap()),
            7 => drop(self.store().compact(Budget::UNLIMITED).unwrap()),
            8 => drop(self.store().maintain(Budget::UNLIMITED).unwrap()),
            9 | 10 => self.delete(),
            11 => self.gc(),
            12 => {
                let rows = self.rows.clone();
                self.taken.push(Taken { snapshot: self.store().snapshot(), rows });
            }
            _ => self.reopen(),
        }
    }

    fn append(&mut self) {
        let count = *self.random.pick(&[1, 3, 20, 300, 700]);
        let mut rows: Vec<Row> = (0..count).map(|_| self.row()).collect();
        let events: Vec<_> = rows
            .iter()
            .map(|row| {
                let event = self.store().event(row.ts_ns).set("id", &row.id)?.set("metric", row.metric)?;
                let event = event.set("latency_ms", row.latency_ms)?.set("status", row.status)?;
                let event = event.set("latency_detail_ms", row.latency_detail_ms)?;
                let mut event = event.set("flags", EventFlags(row.flags))?;
                for (place, text) in row.dims.iter().enumerate() {
                    event = event.set(&format!("d{place}"), text)?;
                }
                for (place, number) in row.counters.iter().enumerate() {
                    event = event.set(&format!("c{place}"), *number)?;
                }
                for (place, text) in row.labels.iter().enumerate() {
                    event = event.set(&format!("l{place}"), text)?;
                }
                Ok(event)
            })
            .collect::<Result<_, DbError>>()
            .unwrap();
        let first = self.store().append_batch(events).unwrap().first;
        rows.iter_mut().zip(first..).for_each(|(row, sequence)| row.sequence = sequence);
        self.rows.extend(rows);
    }

    fn row(&mut self) -> Row {
        let random = &mut self.random;
        self.serial += 1;
        let serial = self.serial;
        let text = |random: &mut Random| {
            if random.percent(self.new_texts) {
                format!("text {serial}")
            } else {
                (*random.pick(&TEXTS)).to_owned()
            }
        };
        Row {
            sequence: 0,
            id: if random.percent(80) { format!("call {serial}") } else { "x".to_owned() },
            ts_ns: match random.below(20) {
                0 => *random.pick(&TIMES),
                1..8 => 1_700_000_000_000_000_000 + random.below(400_000) as i64 * 1_000_000_000,
                _ => 1_700_000_000_000_000_000 + random.below(12) as i64,
            },
            metric: *random.pick(&METRICS),
            latency_ms: *random.pick(&SMALL),
            latency_detail_ms: random.below(300) as u32,
            status: *random.pick(&STATUSES),
            flags: random.next() as u16 & random.next() as u16,
            dims: (0..self.shape.dims).map(|_| text(random)).collect(),
            counters: (0..self.shape.counters).map(|_| *random.pick(&SMALL)).collect(),
            labels: (0..self.shape.labels).map(|_| text(random)).collect(),
        }
    }

    fn delete(&mut self) {
        let count = *self.random.pick(&[1, 5, 100]);
        let known: Vec<String> = self.rows.iter().map(|row| row.id.clone()).collect();
        let ids: Vec<&str> = (0..count.min(known.len())).map(|_| self.random.pick(&known).as_str()).collect();
        self.store().delete(&ids).unwrap();
        self.rows.retain(|row| !ids.contains(&row.id.as_str()));
    }

    /// Which rows share a segment is the engine's affair: the oracle learns from it which old ones are left.
    fn gc(&mut self) {
        let cutoff_ts_ns = match self.random.below(3) {
            0 => i64::MAX,
            _ => 1_700_000_000_000_000_000 + self.random.below(400_000) as i64 * 1_000_000_000,
        };
        self.store().gc(cutoff_ts_ns).unwrap();
        let mut left = Vec::new();
        self.store()
            .query()
            .each(|row| {
                left.push(row.view().sequence());
                Ok(())
            })
            .unwrap();
        left.sort_unstable();
        self.rows.retain(|row| {
            let stays = left.binary_search(&row.sequence).is_ok();
            assert!(stays || row.ts_ns < cutoff_ts_ns, "gc took {row:?}");
            stays
        });
    }

    /// Closes the table and opens it again, some of the time with more columns. Snapshots can still be asked when it is closed,
    /// but not longer: another engine knows nothing of them.
    fn reopen(&mut self) {
        self.open = None;
        for taken in std::mem::take(&mut self.taken) {
            check_snapshot(&mut self.random, &taken.snapshot, &taken.rows);
        }
        if self.random.percent(30) {
            self.shape.dims += self.random.below(2);
            self.shape.counters += self.random.below(2);
            self.shape.labels += self.random.below(2);
            let Shape { dims, counters, labels } = self.shape;
            self.rows = self.rows.drain(..).map(|row| row.grown(dims, counters, labels)).collect();
        }
        self.open = Some(open(&self.disk, self.shape, &mut self.random));
    }

    fn check(&mut self) {
        let (store, reader) = self.open.as_ref().expect("it is open between the steps");
        let random = &mut self.random;
        self.rows.sort_by_key(|row| Reverse((row.ts_ns, row.sequence)));
        check_table(random, store, &self.rows);
        check_snapshot(random, &store.snapshot(), &self.rows);
        reader.refresh().unwrap();
        check_table(random, reader, &self.rows);
        check_snapshot(random, &reader.snapshot(), &self.rows);
        for taken in &self.taken {
            check_snapshot(random, &taken.snapshot, &taken.rows);
        }
        while self.taken.len() > 3 {
            self.taken.remove(random.below(3));
        }
    }
}

// Questions.

/// What can be asked by column name.
trait Table {
    fn columns(&self) -> &[Column];
    fn filter(&self, column: &str, test: Test) -> Result<AnyFilter, DbError>;
    fn query(&self) -> AnyQuery<'_>;
    fn get(&self, id: &str) -> Result<Option<AnyRow>, DbError>;
    fn rollups(&self, by: &[(&str, Option<&str>)]) -> Result<Vec<AnyRollup>, DbError>;
}

macro_rules! tables {
    ($($name:ident),*) => {
        $(impl Table for $name {
            fn columns(&self) -> &[Column] {
                self.columns()
            }

            fn filter(&self, column: &str, test: Test) -> Result<AnyFilter, DbError> {
                self.filter(column, test)
            }

            fn query(&self) -> AnyQuery<'_> {
                self.query()
            }

            fn get(&self, id: &str) -> Result<Option<AnyRow>, DbError> {
                self.get(id)
            }

            fn rollups(&self, by: &[(&str, Option<&str>)]) -> Result<Vec<AnyRollup>, DbError> {
                self.rollups(i64::MIN, i64::MAX, by)
            }
        })*
    };
}

tables!(AnyStore, AnyReader, AnySnapshot);

/// A column of numbers by its name.
fn number_named(name: &str) -> Number {
    match name {
        "ts_ns" => Number::Time,
        "sequence" => Number::Sequence,
        "metric" => Number::Metric,
        "latency_ms" => Number::Latency,
        "latency_detail_ms" => Number::LatencyDetail,
        "flags" => Number::Flags,
        counter => Number::Counter(counter.strip_prefix('c').unwrap().parse().unwrap()),
    }
}

/// A column of texts by its name.
fn text_named(name: &str) -> Text {
    match name.split_at(1) {
        _ if name == "id" => Text::Id,
        ("d", place) => Text::Dim(place.parse().unwrap()),
        (_, place) => Text::Label(place.parse().unwrap()),
    }
}

fn number_in(row: &Row, name: &str) -> i64 {
    if name == "status" { row.status.into() } else { row.number(number_named(name)) }
}

/// A filter, and the closure that says the same.
#[derive(Clone)]
struct Question {
    filter: AnyFilter,
    holds: Holds,
}

impl Question {
    fn new(filter: AnyFilter, condition: impl Fn(&Row) -> bool + Send + std::marker::Sync + 'static) -> Self {
        Self { filter, holds: holds(condition) }
    }

    fn and(self, other: Self) -> Self {
        let (one, two) = (self.holds, other.holds);
        Self::new(self.filter & other.filter, move |row| one(row) && two(row))
    }

    fn or(self, other: Self) -> Self {
        let (one, two) = (self.holds, other.holds);
        Self::new(self.filter | &other.filter, move |row| one(row) || two(row))
    }

    fn not(self) -> Self {
        let one = self.holds;
        Self::new(!self.filter, move |row| !one(row))
    }
}

/// A condition on any column.
fn leaf(random: &mut Random, table: &dyn Table, rows: &[Row]) -> Question {
    match random.below(25) {
        0 => return Question::new(AnyFilter::all(), |_| true),
        1 => return Question::new(AnyFilter::none(), |_| false),
        _ => {}
    }
    let column = random.pick(table.columns());
    let name = column.name.clone();
    let known = if rows.is_empty() { Row::default().grown(9, 9, 9) } else { random.pick(rows).clone() };
    if column.kind != Kind::Text {
        if name == "flags" && random.percent(60) {
            let bits = random.next() as u16 & random.next() as u16 & random.next() as u16;
            let filter = table.filter(&name, Test::HasFlags(bits)).unwrap();
            return Question::new(filter, move |row| row.flags & bits == bits);
        }
        let mut end = |known: &Row| match random.below(4) {
            0 => *random.pick(&TIMES),
            1 => random.below(600) as i64,
            _ => number_in(known, &name),
        };
        let (lo, hi) = match (end(&known), end(&known), random.below(4)) {
            (a, b, 0) => (a, b),
            (a, b, 1) => (a.min(b), a.max(b)),
            (a, _, 2) => (a, i64::MAX),
            (a, ..) => (i64::MIN, a),
        };
        let filter = table.filter(&name, Test::Between { lo, hi }).unwrap();
        return Question::new(filter, move |row| (lo..=hi).contains(&number_in(row, &name)));
    }
    let column = text_named(&name);
    let drawn = |random: &mut Random| match random.below(3) {
        0 => (*random.pick(&TEXTS)).to_owned(),
        _ => known.text(column).to_owned(),
    };
    let part = (*random.pick(&PARTS)).to_owned();
    let (test, holds): (Test, Holds) = match random.below(7) {
        0..3 => {
            let wanted = drawn(random);
            (Test::Equals(wanted.clone()), holds(move |row| row.text(column) == wanted))
        }
        3 => {
            let wanted: Vec<String> = (0..random.below(4)).map(|_| drawn(random)).collect();
            let test = Test::AnyOf(wanted.clone());
            (test, holds(move |row| wanted.iter().any(|wanted| wanted == row.text(column))))
        }
        4 => (Test::StartsWith(part.clone()), holds(move |row| row.text(column).starts_with(&part))),
        5 => (Test::EndsWith(part.clone()), holds(move |row| row.text(column).ends_with(&part))),
        _ => (Test::Contains(part.clone()), holds(move |row| row.text(column).contains(&part))),
    };
    Question { filter: table.filter(&name, test).unwrap(), holds }
}

fn tree(random: &mut Random, table: &dyn Table, rows: &[Row], levels: usize) -> Question {
    if levels == 0 || random.percent(40) {
        return leaf(random, table, rows);
    }
    let one = tree(random, table, rows, levels - 1);
    match random.below(5) {
        0 => one.not(),
        1 | 2 => one.and(tree(random, table, rows, levels - 1)),
        _ => one.or(tree(random, table, rows, levels - 1)),
    }
}

/// A query with conditions of every kind, and the rows that it should find, newest first.
fn question<'t, 'r>(
    random: &mut Random,
    table: &'t dyn Table,
    rows: &'r [Row],
) -> (AnyQuery<'t>, Vec<&'r Row>) {
    let mut query = table.query();
    let mut found: Vec<&Row> = rows.iter().collect();
    for _ in 0..random.below(3) {
        let asked = tree(random, table, rows, 3);
        query = query.filter(&asked.filter);
        found.retain(|row| (asked.holds)(row));
    }
    if random.percent(20) {
        let (from, to) = (*random.pick(&TIMES), 1_700_000_000_000_000_000 + random.below(12) as i64);
        query = query.between(from..to);
        found.retain(|row| (from..to).contains(&row.ts_ns));
    }
    if random.percent(20) {
        let status = *random.pick(&STATUSES);
        query = query.status(status..);
        found.retain(|row| row.status >= status);
    }
    if random.percent(20) && table.columns().iter().any(|column| column.name == "d0") {
        let text = *random.pick(&TEXTS);
        query = query.equals("d0", text).unwrap();
        found.retain(|row| row.text(Text::Dim(0)) == text);
    }
    (query, found)
}

/// `rows` are newest first.
fn check_table(random: &mut Random, table: &dyn Table, rows: &[Row]) {
    for _ in 0..2 {
        let (query, mut found) = question(random, table, rows);
        check_totals(table.columns(), &query, &found);
        check_totals(table.columns(), &query.clone().by_scan(), &found);
        check_groups(random, table.columns(), &query, &found);
        let query = if random.percent(50) {
            query.newest_first()
        } else {
            found.reverse();
            query.oldest_first()
        };
        let limit = *random.pick(&[1, 10, usize::MAX]);
        found.truncate(limit);
        same(&query.clone().limit(limit).rows().unwrap(), &found);
        same(&query.page(limit, None).unwrap().rows, &found);
        let mut scanned = Vec::new();
        query.limit(limit).scan(|row| scanned.push(row.view().sequence())).unwrap();
        assert_eq!(scanned, found.iter().map(|row| row.sequence).collect::<Vec<_>>());
    }
    let known = if rows.is_empty() { "x".to_owned() } else { random.pick(rows).id.clone() };
    for id in [known.as_str(), "x", "", "call 0"] {
        let newest = rows.iter().find(|row| row.id == id && !id.is_empty());
        same(
            &table.get(id).unwrap().into_iter().collect::<Vec<_>>(),
            &newest.into_iter().collect::<Vec<_>>(),
        );
    }
    let in_days: u64 = table.rollups(&[]).unwrap().iter().map(|rollup| rollup.event_count).sum();
    assert_eq!(in_days, rows.len() as u64);
}

fn check_snapshot(random: &mut Random, snapshot: &AnySnapshot, rows: &[Row]) {
    check_table(random, snapshot, rows);
    assert_eq!(snapshot.live_rows(), rows.len() as u64);
    assert!(rows.iter().all(|row| row.sequence < snapshot.below()));
    assert!(snapshot.parts() > 0 || rows.is_empty());
    let times = rows.iter().map(|row| row.ts_ns);
    let exact = times.clone().min().zip(times.max());
    match (snapshot.times(), exact) {
        (Some((from, to)), Some((first, last))) => assert!(from <= first && last <= to),
        (known, exact) => assert!(exact.is_none() && (known.is_none() || snapshot.has_deletes())),
    }
    assert!(snapshot.has_deletes() || snapshot.times() == exact);
}

fn check_totals(columns: &[Column], query: &AnyQuery<'_>, found: &[&Row]) {
    let totals = query.totals().unwrap();
    assert_eq!(totals.event_count, found.len() as u64, "{query:?}");
    let whole = |aggregate: Aggregate| match aggregate.exact(found) {
        Answer::Whole(whole) => whole,
        other => panic!("{other:?} is no whole number"),
    };
    for column in columns {
        let Ok(answered) = totals.of(&column.name) else { continue };
        let number = number_named(&column.name);
        let wide = |extreme: Option<i64>| extreme.map(i128::from);
        assert_eq!(Some(answered.sum), whole(Aggregate::Sum(number)), "{} of {query:?}", column.name);
        assert_eq!(wide(answered.min), whole(Aggregate::Min(number)), "{} of {query:?}", column.name);
        assert_eq!(wide(answered.max), whole(Aggregate::Max(number)), "{} of {query:?}", column.name);
    }
}

/// An aggregate of a random column, and the oracle's.
fn aggregate(random: &mut Random, numbers: &[&str], keys: &[&str]) -> (AnyAggregate, Aggregate) {
    let name = *random.pick(numbers);
    let number = number_named(name);
    let name = name.to_owned();
    match random.below(8) {
        0 => (AnyAggregate::Count, Aggregate::Count),
        1 | 2 => (AnyAggregate::Sum(name), Aggregate::Sum(number)),
        3 => (AnyAggregate::Min(name), Aggregate::Min(number)),
        4 => (AnyAggregate::Max(name), Aggregate::Max(number)),
        5 => (AnyAggregate::Mean(name), Aggregate::Mean(number)),
        6 => {
            let q = random.below(101) as f64 / 100.0;
            (AnyAggregate::Quantile(name, q), Aggregate::Quantile(number, q))
        }
        _ => {
            let key = *random.pick(keys);
            (AnyAggregate::Distinct(key.to_owned()), Aggregate::Distinct(key_named(key)))
        }
    }
}

fn key_named(name: &str) -> Key {
    name.strip_prefix('d').map_or(Key::Status, |place| Key::Dim(place.parse().unwrap()))
}

fn answer_of(value: &AnyGroupValue) -> Answer {
    match *value {
        AnyGroupValue::Count(count) => Answer::Whole(Some(count.into())),
        AnyGroupValue::Sum(sum) => Answer::Whole(Some(sum)),
        AnyGroupValue::Number(number) => Answer::Whole(number.map(i128::from)),
        AnyGroupValue::Mean(mean) => Answer::Mean(mean),
        AnyGroupValue::Quantile { value, is_exact } => {
            Answer::Quantile(value.map(|value| Quantile { value, is_exact }))
        }
        _ => panic!("{value:?} is not known here"),
    }
}

fn check_groups(random: &mut Random, columns: &[Column], query: &AnyQuery<'_>, found: &[&Row]) {
    let named = |wanted: &dyn Fn(&Column) -> bool| -> Vec<&str> {
        columns.iter().filter(|column| wanted(column)).map(|column| column.name.as_str()).collect()
    };
    let is_key = |column: &Column| column.role == Role::Dim || column.name == "status";
    let all_keys = named(&is_key);
    let numbers = named(&|column| column.kind != Kind::Text && !is_key(column));
    let keys: Vec<&str> = (0..random.below(4)).map(|_| *random.pick(&all_keys)).collect();
    let (asked, plain): (Vec<_>, Vec<_>) =
        (0..random.below(5)).map(|_| aggregate(random, &numbers, &all_keys)).unzip();
    let width_ns = *random.pick(&[None, None, Some(1), Some(3), Some(DAY_NS)]);
    let offset_ns = *random.pick(&[0, -7, 3_600_000_000_000]);

    let mut groups = BTreeMap::<(Vec<KeyValue>, i128), Vec<&Row>>::new();
    if keys.is_empty() && width_ns.is_none() {
        groups.insert((Vec::new(), 0), Vec::new());
    }
    for row in found {
        let bucket = width_ns.map_or(0, |width| {
            let (width, offset) = (i128::from(width), i128::from(offset_ns));
            (i128::from(row.ts_ns) - offset).div_euclid(width) * width + offset
        });
        let key = keys.iter().map(|key| row.key(key_named(key))).collect();
        groups.entry((key, bucket)).or_default().push(row);
    }
    for by_scan in [false, true] {
        let query = if by_scan { query.clone().by_scan() } else { query.clone() };
        let mut grouped = query.group_by(&keys).unwrap().select(&asked).unwrap();
        if let Some(width) = width_ns {
            grouped = grouped.bucket(Bucket::ns(width).from(offset_ns));
        }
        let answered = grouped.fetch().unwrap();
        assert_eq!(answered.len(), groups.len(), "{grouped:?}");
        for (group, ((key, bucket), rows)) in groups.iter().enumerate() {
            for (slot, key) in key.iter().enumerate() {
                match key {
                    KeyValue::Text(text) => assert_eq!(answered.key(group, slot), text),
                    KeyValue::Status(status) => assert_eq!(answered.status(group, slot), *status),
                }
            }
            assert_eq!(i128::from(answered.bucket(group)), (*bucket).max(i64::MIN.into()));
            assert_eq!(answered.values(group).len(), plain.len());
            for (value, plain) in answered.values(group).iter().zip(&plain) {
                let exact = plain.exact(rows);
                assert!(
                    answer_of(value).agrees(&exact),
                    "{value:?} instead of {exact:?}: {plain:?} of {grouped:?}"
                );
            }
        }
    }
}

/// Compares every value.
fn same(found: &[AnyRow], expected: &[&Row]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (column, value) in found.iter() {
            let name = column.name.as_str();
            match column.kind {
                Kind::Text => assert_eq!(value.as_text(), Some(expected.text(text_named(name))), "{name}"),
                _ => assert_eq!(value.as_int(), Some(number_in(expected, name)), "{name}"),
            }
        }
    }
}

// Refusals, in words.

fn calls(name: &str, schema: TableSchema) -> AnyStore {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    AnyStore::open_with(EngineConfig::in_dir(name), Options::default().disk(disk).schema(schema)).unwrap()
}

#[test]
fn a_test_that_a_column_has_not_is_refused() {
    let store = calls("calls", TableSchema::new(1).dim("user").counter("tokens").label("prompt"));
    let refused = |column: &str, test: Test| store.filter(column, test).unwrap_err().to_string();
    let between = || Test::Between { lo: 0, hi: 1 };
    for column in ["id", "user", "prompt"] {
        let texts = "texts, which are tested with Equals, AnyOf, StartsWith, EndsWith or Contains";
        let wanted = format!("{column} is not legal: the column holds {texts}, not with Between");
        assert_eq!(refused(column, between()), wanted);
        assert!(refused(column, Test::HasFlags(1)).ends_with("not with HasFlags"));
    }
    let of_texts = [
        (Test::Equals(String::new()), "Equals"),
        (Test::AnyOf(Vec::new()), "AnyOf"),
        (Test::StartsWith(String::new()), "StartsWith"),
        (Test::EndsWith(String::new()), "EndsWith"),
        (Test::Contains(String::new()), "Contains"),
        (Test::HasFlags(0), "HasFlags"),
    ];
    for (test, name) in of_texts {
        for column in ["ts_ns", "metric", "latency_ms", "latency_detail_ms", "status", "sequence", "tokens"] {
            let wanted = format!("the column holds numbers, which are tested with Between, not with {name}");
            assert_eq!(refused(column, test.clone()), format!("{column} is not legal: {wanted}"));
        }
    }
    let of_flags = "flags is not legal: the column holds flags, which are tested with HasFlags or Between, not with Equals";
    assert_eq!(refused("flags", Test::Equals("1".into())), of_flags);
    assert!(refused("usr", between()).starts_with("there is no column \"usr\"; the columns are ts_ns, id,"));
}

#[test]
fn a_filter_of_other_columns_and_one_that_is_too_deep_are_refused() {
    let store = calls("calls", TableSchema::new(1).dim("user"));
    let twin = calls("twin", TableSchema::new(1).dim("user"));
    let other = calls("other", TableSchema::new(1).dim("model").dim("user"));
    for store in [&store, &twin, &other] {
        store.append(store.event(1).set("user", "alice").unwrap()).unwrap();
    }
    let of_alice = |store: &AnyStore| store.filter("user", Test::Equals("alice".into())).unwrap();
    assert_eq!(of_alice(&store), of_alice(&twin));
    assert_eq!(store.query().filter(&of_alice(&twin)).rows().unwrap().len(), 1);

    let wanted = "filter is not legal: it was made for a table of other columns; make it by filter() of the table that is asked";
    let joined = of_alice(&store) | AnyFilter::all() | of_alice(&other);
    for filter in [of_alice(&other), joined, AnyFilter::none() & of_alice(&other)] {
        let query = store.query().filter(&filter);
        assert_eq!(query.rows().unwrap_err().to_string(), wanted);
        assert_eq!(query.each(|_| Ok(())).unwrap_err().to_string(), wanted);
        assert_eq!(query.scan(|_| ()).unwrap_err().to_string(), wanted);
        assert_eq!(query.page(1, None).unwrap_err().to_string(), wanted);
        assert_eq!(query.totals().unwrap_err().to_string(), wanted);
        assert_eq!(query.explain().unwrap_err().to_string(), wanted);
        let grouped = query.group_by(&["user"]).unwrap();
        assert_eq!(grouped.fetch().unwrap_err().to_string(), wanted);
        assert_eq!(grouped.explain().unwrap_err().to_string(), wanted);
    }

    // Each turn is two levels.
    let deep = |turns: usize| (0..turns).fold(of_alice(&store), |filter, _| !(filter & AnyFilter::all()));
    assert_eq!(store.query().filter(&deep(127)).totals().unwrap().event_count, 0);
    let refused = store.query().filter(&deep(128)).totals().unwrap_err().to_string();
    assert_eq!(refused, "filter is not legal: more than 256 levels of conditions within each other");
    let chain = (0..10_000).fold(of_alice(&store), |chain, _| chain | of_alice(&store));
    assert_eq!(store.query().filter(&chain).totals().unwrap().event_count, 1);
}

#[test]
fn what_cannot_be_grouped_or_added_up_is_refused() {
    let store = calls("calls", TableSchema::new(1).dim("user").counter("tokens").label("prompt"));
    let by = |keys: &[&str]| store.query().group_by(keys).unwrap_err().to_string();
    for column in ["ts_ns", "id", "flags", "tokens", "prompt"] {
        let wanted = "events are grouped by dims and the status; the dims are user";
        assert_eq!(by(&["user", column]), format!("{column} is not legal: {wanted}"));
    }
    assert!(by(&["usr"]).starts_with("there is no column \"usr\""));
    let grouped = || store.query().group_by(&["user"]).unwrap();
    let select = |aggregate: AnyAggregate| grouped().select(&[aggregate]).unwrap_err().to_string();
    let wanted = "user is not legal: it holds texts or the status, which are counted and not added up";
    assert_eq!(select(AnyAggregate::Sum("user".into())), wanted);
    assert!(select(AnyAggregate::Max("status".into())).starts_with("status is not legal"));
    assert!(select(AnyAggregate::Distinct("tokens".into())).starts_with("tokens is not legal"));
    let fetch = |grouped: keplordb::any::AnyGrouped<'_>| grouped.fetch().unwrap_err().to_string();
    let quantile = AnyAggregate::Quantile("tokens".into(), 1.5);
    assert_eq!(
        fetch(grouped().select(&[quantile]).unwrap()),
        "quantile is not legal: 1.5 is not from 0 to 1"
    );
    let granted = |is_granted| grouped().while_granted(move |_| is_granted);
    assert_eq!(granted(true).fetch().unwrap().len(), 0);
    assert!(matches!(granted(false).fetch(), Err(keplordb::DbError::GivenUp)));
    let wanted = "bucket is not legal: it must be at least one nanosecond wide";
    assert_eq!(fetch(grouped().bucket(Bucket::ns(0))), wanted);
}
