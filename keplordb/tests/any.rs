//! `AnyStore`: tables whose columns are known at run time. Random tables (roles, names, growth) are written, flushed, deleted
//! from and opened again, and every answer is held against a plain list of rows; what `Store` and `Engine` write is read by
//! name and the other way round. Then each refusal, in words.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use keplordb::any::{AnyEvent, AnyQuery, AnyReader, AnyRow, AnyStore, Kind, Role, Value};
use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{
    Cursor, DbError, Engine, EngineConfig, EventFlags, EventRef, LogEvent, Options, QueryFilter, Store,
    TableSchema,
};
use naive::files::files_of;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const BUILT_IN: [&str; 8] =
    ["ts_ns", "id", "metric", "latency_ms", "latency_detail_ms", "status", "flags", "sequence"];
const DAY_NS: i64 = 86_400_000_000_000;
const DAY_S: i64 = 86_400;

fn config() -> EngineConfig {
    EngineConfig { wal_max_events: 6, wal_shard_count: 2, ..EngineConfig::in_dir("table") }
}

fn options(disk: &Arc<MemoryDisk>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>)
}

fn open(disk: &Arc<MemoryDisk>) -> Result<AnyStore, DbError> {
    AnyStore::open_with(config(), options(disk))
}

fn open_or_create(disk: &Arc<MemoryDisk>, schema: &TableSchema) -> Result<AnyStore, DbError> {
    AnyStore::open_with(config(), options(disk).schema(schema.clone()))
}

fn calls() -> TableSchema {
    TableSchema::new(1).dim("user").dim("model").counter("tokens").label("prompt")
}

fn new_calls() -> AnyStore {
    open_or_create(&Arc::default(), &calls()).unwrap()
}

// ---- random tables against a plain list ----

/// Names by role.
#[derive(Debug, Clone, Default)]
struct Names {
    dims: Vec<String>,
    counters: Vec<String>,
    labels: Vec<String>,
}

impl Names {
    fn schema(&self) -> TableSchema {
        let schema = self.dims.iter().fold(TableSchema::new(9), TableSchema::dim);
        let schema = self.counters.iter().fold(schema, TableSchema::counter);
        self.labels.iter().enumerate().fold(schema, |schema, (place, name)| {
            if place % 2 == 0 { schema.label(name) } else { schema.indexed_label(name) }
        })
    }

    /// Adds a column at the end of a role, under a name that no other has.
    fn grow(&mut self, role: Role, name: &str) {
        let all = || BUILT_IN.iter().copied().chain(self.own());
        let mut name = name.to_owned();
        while all().any(|known| known == name) {
            name.push('_');
        }
        match role {
            Role::Dim => self.dims.push(name),
            Role::Counter => self.counters.push(name),
            _ => self.labels.push(name),
        }
    }

    fn own(&self) -> impl Iterator<Item = &str> {
        self.dims.iter().chain(&self.counters).chain(&self.labels).map(String::as_str)
    }
}

/// A row of the plain list: each column's value by its name; what was never set is not there.
#[derive(Debug, Clone)]
struct Plain {
    ts_ns: i64,
    sequence: u64,
    values: BTreeMap<String, Value<'static>>,
}

impl Plain {
    fn value(&self, name: &str, kind: Kind) -> Value<'static> {
        match name {
            "ts_ns" => Value::Int(self.ts_ns),
            "sequence" => Value::Int(self.sequence.cast_signed()),
            _ => self.values.get(name).cloned().unwrap_or(match kind {
                Kind::Text => Value::from(""),
                _ => Value::Int(0),
            }),
        }
    }

    fn int(&self, name: &str) -> i64 {
        self.value(name, Kind::I64).as_int().unwrap()
    }

    fn text(&self, name: &str) -> String {
        self.value(name, Kind::Text).as_text().unwrap().to_owned()
    }
}

/// What to put into an event, before it is known which columns there are.
#[derive(Debug, Clone)]
struct Draft {
    ts_ns: i64,
    /// Per column whether it is set, and to what.
    values: Vec<(bool, u64)>,
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Draft>, bool),
    Flush,
    Delete(u64),
    Reopen,
    Grow(Role, String),
}

const TEXTS: [&str; 5] = ["", "a", "b", "größer", "x\0'\"y"];

/// A value of a column from a random number, the extremes often.
fn value_of(name: &str, kind: Kind, random: u64) -> Value<'static> {
    let (min, max) = match kind.range() {
        None if name == "id" => return Value::from(format!("id-{}", random % 9)),
        None => return Value::from(TEXTS[(random % 5) as usize]),
        Some(range) => range,
    };
    match random % 8 {
        0 => Value::Int(min),
        1 => Value::Int(max),
        _ => Value::Int(i64::try_from((random >> 3) % 70_000).unwrap().clamp(min, max)),
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&["user", "Tokens", "dim_0", "counter_1", "été", "a b", "select", "day", "ids"][..])
            .prop_map(str::to_owned),
        "[a-z]{1,3}",
    ]
}

fn role() -> impl Strategy<Value = Role> {
    select(&[Role::Dim, Role::Counter, Role::Label][..])
}

fn draft() -> impl Strategy<Value = Draft> {
    (-3..3_i64, 0..1000_i64, vec((any::<bool>(), any::<u64>()), 16))
        .prop_map(|(day, ns, values)| Draft { ts_ns: day * DAY_NS + ns, values })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(draft(), 0..6), any::<bool>()).prop_map(|(drafts, durable)| Step::Append(drafts, durable)),
        2 => Just(Step::Flush),
        2 => any::<u64>().prop_map(Step::Delete),
        2 => Just(Step::Reopen),
        2 => (role(), name()).prop_map(|(role, name)| Step::Grow(role, name)),
    ]
}

fn event_of(store: &AnyStore, draft: &Draft) -> (AnyEvent, Plain) {
    let mut event = store.event(draft.ts_ns);
    let mut values = BTreeMap::new();
    for (position, column) in store.columns().iter().enumerate() {
        let (is_set, random) = draft.values[position % draft.values.len()];
        let given = !["ts_ns", "sequence"].contains(&column.name.as_str());
        if column.name == "id" || given && is_set {
            let value = value_of(&column.name, column.kind, random);
            event = match random % 2 {
                0 => event.set(&column.name, &value).unwrap(),
                _ => event.set_at(position, value.clone()).unwrap(),
            };
            values.insert(column.name.clone(), value);
        }
    }
    (event, Plain { ts_ns: draft.ts_ns, sequence: 0, values })
}

fn same(rows: &[AnyRow], right: &[&Plain]) {
    assert_eq!(rows.len(), right.len());
    for (row, right) in rows.iter().zip(right) {
        for (column, value) in row.iter() {
            assert_eq!(*value, right.value(&column.name, column.kind), "{} of {row:?}", column.name);
            assert_eq!(row.get(&column.name).unwrap(), value);
        }
    }
}

/// Asks every kind of question.
fn check(store: &AnyStore, names: &Names, plain: &mut [Plain], pick: Index) {
    let listed: Vec<&str> = store.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(listed, BUILT_IN.into_iter().chain(names.own()).collect::<Vec<_>>());
    assert_eq!(store.schema(), &names.schema());

    plain.sort_by_key(|row| Reverse((row.ts_ns, row.sequence)));
    let all: Vec<&Plain> = plain.iter().collect();
    same(&store.query().rows().unwrap(), &all);
    let oldest: Vec<&Plain> = all.iter().rev().copied().collect();
    same(&store.query().oldest_first().rows().unwrap(), &oldest);
    let limit = pick.index(all.len() + 1);
    same(&store.query().limit(limit).rows().unwrap(), &all[..limit]);

    let (from, to) = (-DAY_NS, DAY_NS + 500);
    let between: Vec<&Plain> = all.iter().filter(|row| (from..to).contains(&row.ts_ns)).copied().collect();
    same(&store.query().between(from..to).rows().unwrap(), &between);
    let before: Vec<&Plain> = all.iter().filter(|row| row.ts_ns < to).copied().collect();
    same(&store.query().cursor(Cursor(to)).rows().unwrap(), &before);
    let failed: Vec<&Plain> = all.iter().filter(|row| row.int("status") >= 400).copied().collect();
    same(&store.query().status(400..).rows().unwrap(), &failed);
    for dim in &names.dims {
        for text in TEXTS {
            let right: Vec<&Plain> = all.iter().filter(|row| row.text(dim) == text).copied().collect();
            same(&store.query().equals(dim, text).unwrap().rows().unwrap(), &right);
            let right: Vec<&Plain> = right.into_iter().filter(|row| row.int("status") < 400).collect();
            let query = store.query().equals(dim, text).unwrap().status(..400);
            check_totals(&query.totals().unwrap(), names, &right);
        }
    }
    check_totals(&store.query().totals().unwrap(), names, &all);
    check_rollups(store, names, &all, pick);
    for id in (0..9).map(|id| format!("id-{id}")) {
        let right: Vec<&Plain> = all.iter().find(|row| row.text("id") == id).copied().into_iter().collect();
        same(&store.get(&id).unwrap().into_iter().collect::<Vec<_>>(), &right);
    }
}

fn check_totals(totals: &keplordb::any::AnyTotals, names: &Names, right: &[&Plain]) {
    assert_eq!(totals.event_count, right.len() as u64);
    let measures = ["metric", "latency_ms", "latency_detail_ms"].into_iter();
    let measures: Vec<&str> = measures.chain(names.counters.iter().map(String::as_str)).collect();
    let answered: Vec<_> = totals.iter().collect();
    let right: Vec<_> = measures
        .iter()
        .map(|name| {
            let values = || right.iter().map(|row| row.int(name));
            let (sum, min, max) = (values().map(i128::from).sum(), values().min(), values().max());
            (*name, keplordb::any::ColumnTotals { sum, min, max })
        })
        .collect();
    assert_eq!(answered, right);
}

/// Count, metric and counters.
type Sums = (u64, i128, Vec<i128>);

/// By several choices of dims, one after the other: what a segment keeps of one must not answer another.
fn check_rollups(store: &AnyStore, names: &Names, all: &[&Plain], pick: Index) {
    let dims: Vec<&str> = names.dims.iter().map(String::as_str).collect();
    let last = dims.iter().rev().take(pick.index(dims.len() + 1)).copied().collect();
    let first = dims.iter().take(1).copied().collect();
    for by in [last, first, dims.iter().skip(1).copied().collect(), dims] {
        check_rollups_by(store, names, all, &by);
    }
}

fn check_rollups_by(store: &AnyStore, names: &Names, all: &[&Plain], by: &[&str]) {
    let mut right: BTreeMap<(i64, Vec<String>), Sums> = BTreeMap::new();
    for row in all.iter().filter(|row| row.ts_ns >= -DAY_NS) {
        let key =
            (row.ts_ns.div_euclid(DAY_NS) * DAY_S, by.iter().map(|dim| row.text(dim)).collect::<Vec<_>>());
        let (count, metric, counters) =
            right.entry(key).or_insert_with(|| (0, 0, vec![0; names.counters.len()]));
        *count += 1;
        *metric += i128::from(row.int("metric"));
        for (sum, counter) in counters.iter_mut().zip(&names.counters) {
            *sum += i128::from(row.int(counter));
        }
    }
    let any_value: Vec<_> = by.iter().map(|dim| (*dim, None)).collect();
    let answered: Vec<_> = store
        .rollups(-DAY_S, i64::MAX, &any_value)
        .unwrap()
        .into_iter()
        .map(|rollup| {
            let counters = names.counters.iter().map(|counter| rollup.sum(counter).unwrap()).collect();
            let sums = (rollup.event_count, rollup.sum("metric").unwrap(), counters);
            ((rollup.day, rollup.dims), sums)
        })
        .collect();
    assert_eq!(answered, right.into_iter().collect::<Vec<_>>());
    if let Some(first) = by.first() {
        let of_a = store.rollups(i64::MIN, i64::MAX, &[(first, Some("a"))]).unwrap();
        let count: u64 = of_a.iter().map(|rollup| rollup.event_count).sum();
        assert_eq!(count, all.iter().filter(|row| row.text(first) == "a").count() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_tables_answer_like_a_plain_list(
        columns in vec((role(), name()), 0..7),
        steps in vec(step(), 1..14),
        pick in any::<Index>(),
    ) {
        let mut names = Names::default();
        for (role, name) in &columns {
            names.grow(*role, name);
        }
        let disk: Arc<MemoryDisk> = Arc::default();
        let mut store = open_or_create(&disk, &names.schema()).unwrap();
        let mut plain: Vec<Plain> = Vec::new();
        for step in steps {
            match step {
                Step::Append(drafts, durable) => {
                    let (events, mut rows): (Vec<_>, Vec<_>) =
                        drafts.iter().map(|draft| event_of(&store, draft)).unzip();
                    let first = match (durable, events.len()) {
                        (true, 1) => store.append_durable(events[0].clone()).unwrap().first,
                        (false, 1) => store.append(events[0].clone()).unwrap().first,
                        (true, _) => store.append_batch_durable(events).unwrap().first,
                        (false, _) => store.append_batch(events).unwrap().first,
                    };
                    rows.iter_mut().zip(first..).for_each(|(row, sequence)| row.sequence = sequence);
                    plain.extend(rows);
                }
                Step::Flush => drop(store.flush().unwrap()),
                Step::Delete(random) => {
                    let id = format!("id-{}", random % 9);
                    let before = plain.len();
                    plain.retain(|row| row.text("id") != id);
                    let found = usize::from(plain.len() < before);
                    prop_assert_eq!(store.delete(&[&id, "id-none"]).unwrap(), found);
                }
                Step::Reopen => {
                    check(&store, &names, &mut plain, pick);
                    drop(store);
                    store = open(&disk).unwrap();
                }
                Step::Grow(role, name) => {
                    drop(store);
                    names.grow(role, &name);
                    store = open_or_create(&disk, &names.schema()).unwrap();
                }
            }
            prop_assert_eq!(store.stats().events, plain.len() as u64);
        }
        check(&store, &names, &mut plain, pick);
        store.close().unwrap();
        check(&open(&disk).unwrap(), &names, &mut plain, pick);
    }

    #[test]
    fn what_an_engine_writes_is_read_by_name_and_the_other_way_round(
        shape in 0..8_usize,
        drafts in vec(draft(), 1..20),
        with_names in any::<bool>(),
        flush in any::<bool>(),
    ) {
        match shape {
            0 => both_ways::<0, 0, 0>(&drafts, with_names, flush),
            1 => both_ways::<1, 0, 0>(&drafts, with_names, flush),
            2 => both_ways::<0, 1, 0>(&drafts, with_names, flush),
            3 => both_ways::<0, 0, 1>(&drafts, with_names, flush),
            4 => both_ways::<2, 0, 3>(&drafts, with_names, flush),
            5 => both_ways::<3, 2, 1>(&drafts, with_names, flush),
            _ => both_ways::<2, 2, 2>(&drafts, with_names, flush),
        }
    }
}

/// Writes half of the events by name and half by position, and reads all of them both ways.
fn both_ways<const D: usize, const C: usize, const L: usize>(
    drafts: &[Draft],
    with_names: bool,
    flush: bool,
) {
    let disk: Arc<MemoryDisk> = Arc::default();
    let mut schema = TableSchema::positional(0, D, C, L);
    if with_names {
        schema = (0..D).fold(TableSchema::new(0), |schema, dim| schema.dim(format!("d{dim}")));
        schema = (0..C).fold(schema, |schema, counter| schema.counter(format!("c{counter}")));
        schema = (0..L).fold(schema, |schema, label| schema.label(format!("l{label}")));
    }
    let names = Names {
        dims: schema.dims().map(str::to_owned).collect(),
        counters: schema.counters().map(str::to_owned).collect(),
        labels: schema.labels().map(str::to_owned).collect(),
    };
    let (by_name, by_position) = drafts.split_at(drafts.len() / 2);
    let store = open_or_create(&disk, &schema).unwrap();
    let mut plain = Vec::new();
    for draft in by_name {
        let (event, mut row) = event_of(&store, draft);
        row.sequence = store.append(event).unwrap().first;
        plain.push(row);
    }
    // Made for its columns, not to be appended here.
    let others: Vec<Plain> = by_position.iter().map(|draft| event_of(&store, draft).1).collect();
    drop(store);

    let log_event = |row: &Plain| LogEvent::<D, C, L> {
        id: row.text("id"),
        ts_ns: row.ts_ns,
        metric: row.int("metric"),
        latency_ms: row.int("latency_ms").try_into().unwrap(),
        latency_detail_ms: row.int("latency_detail_ms").try_into().unwrap(),
        status: row.int("status").try_into().unwrap(),
        flags: EventFlags(row.int("flags").try_into().unwrap()),
        counters: std::array::from_fn(|place| row.int(&names.counters[place]).try_into().unwrap()),
        dims: std::array::from_fn(|dim| row.text(&names.dims[dim])),
        labels: std::array::from_fn(|label| row.text(&names.labels[label])),
    };
    let engine = Engine::<D, C, L>::open_with(config(), options(&disk)).unwrap();
    for mut row in others {
        row.sequence = engine.append(&log_event(&row)).unwrap().first;
        plain.push(row);
    }
    if flush {
        engine.flush().unwrap();
    }
    plain.sort_by_key(|row| Reverse((row.ts_ns, row.sequence)));
    let read = engine.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    let read: Vec<LogEvent<D, C, L>> = read.into_iter().map(log_event_of).collect();
    assert_eq!(read, plain.iter().map(log_event).collect::<Vec<_>>());
    drop(engine);
    same(&open(&disk).unwrap().query().rows().unwrap(), &plain.iter().collect::<Vec<_>>());
}

fn log_event_of<const D: usize, const C: usize, const L: usize>(
    event: EventRef<D, C, L>,
) -> LogEvent<D, C, L> {
    let EventRef { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels } =
        event;
    LogEvent { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels }
}

/// The columns of `calls()`.
#[derive(keplordb::Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(bloom, rollup)]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[label]
    prompt: String,
}

#[test]
fn what_a_store_writes_is_read_by_name_and_the_other_way_round() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let typed = || Store::<Call>::open_with(Call::default_config("table".into()), options(&disk)).unwrap();
    let store = typed();
    let call = Call { user: "alice".into(), model: "gpt".into(), tokens: 12, prompt: "why".into() };
    let call = call.at(5).id("c-1").metric(-7).latency_ms(30).latency_detail_ms(10).status(200);
    store.append(call.flags(EventFlags(3))).unwrap();
    store.append(Call::new(6).user("bob")).unwrap();
    store.flush().unwrap();
    drop(store);

    let any = open(&disk).unwrap();
    let row = any.get("c-1").unwrap().unwrap();
    let values: Vec<String> = row.values().iter().map(ToString::to_string).collect();
    let sequence = row.int("sequence").unwrap().to_string();
    let right =
        ["5", "c-1", "-7", "30", "10", "200", "3", &sequence, "alice", "gpt", "12", "why"].map(str::to_owned);
    assert_eq!(values, right);
    let event = any.event(7).set("user", "carol").unwrap().set("tokens", 9).unwrap();
    any.append(event.set("flags", EventFlags(1)).unwrap().set("prompt", "how".to_owned()).unwrap()).unwrap();
    any.append(any.event(8).set("id", "").unwrap()).unwrap();
    drop(any);

    let store = typed();
    let rows = store.query(Call::filter()).rows().unwrap();
    let read: Vec<_> = rows.iter().map(|row| (row.ts_ns(), row.user(), row.tokens(), row.prompt())).collect();
    assert_eq!(read, [(8, "", 0, ""), (7, "carol", 9, "how"), (6, "bob", 0, ""), (5, "alice", 12, "why")]);
    // An id that was not given is made as a store makes it; one that was given as empty stays so.
    assert_eq!((rows[0].id(), rows[1].id().len(), rows[2].id().len()), ("", 26, 26));
    assert_ne!(rows[1].id(), rows[2].id());
    assert_eq!(rows[1].flags(), EventFlags(1));
}

// ---- refusals ----

fn refusal<T>(result: Result<T, DbError>) -> String {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_unknown_column_is_refused_with_the_names_that_there_are() {
    let store = new_calls();
    let message = "there is no column \"usr\"; the columns are ts_ns, id, metric, latency_ms, latency_detail_ms, \
                   status, flags, sequence, user, model, tokens, prompt";
    assert_eq!(refusal(store.event(0).set("usr", "alice")), message);
    assert_eq!(refusal(store.position("usr")), message);
    assert_eq!(refusal(store.query().equals("usr", "alice")), message);
    assert_eq!(refusal(store.query().totals().unwrap().of("usr")), message);
    assert_eq!(refusal(store.rollups(0, 0, &[("usr", None)])), message);
    store.append(store.event(0)).unwrap();
    let row = store.query().rows().unwrap().remove(0);
    assert_eq!(refusal(row.get("usr")), message);
    assert_eq!(refusal(store.query().each(|row| row.get("usr").map(drop))), message);
    assert!(matches!(store.position("User"), Err(DbError::UnknownColumn { .. })), "names have a case");
}

#[test]
fn a_value_that_the_column_cannot_hold_is_refused_with_what_it_holds() {
    let store = new_calls();
    let set = |column: &str, value: Value<'static>| refusal(store.event(0).set(column, value));
    assert_eq!(
        set("tokens", Value::Int(-1)),
        "tokens is not legal: the column holds numbers from 0 to 4294967295, not the number -1"
    );
    assert_eq!(
        set("status", Value::Int(65_536)),
        "status is not legal: the column holds numbers from 0 to 65535, not the number 65536"
    );
    assert_eq!(
        set("latency_ms", Value::from("12")),
        "latency_ms is not legal: the column holds numbers from 0 to 4294967295, not the text \"12\""
    );
    assert_eq!(set("user", Value::Int(5)), "user is not legal: the column holds texts, not the number 5");
    assert_eq!(
        set("sequence", Value::Int(5)),
        "sequence is not legal: the engine gives it when the event is appended"
    );
    assert_eq!(
        refusal(store.event(0).set_at(12, 1)),
        "column position is not legal: 12, the table has 12 columns"
    );
    // The whole range is held.
    for column in store.columns() {
        let Some((min, max)) = column.kind.range().filter(|_| column.name != "sequence") else { continue };
        for value in [min, max] {
            store.append(store.event(0).set(&column.name, value).unwrap()).unwrap();
            let row = store.query().rows().unwrap();
            assert!(
                row.iter().any(|row| row.int(&column.name).unwrap() == value),
                "{value} in {}",
                column.name
            );
        }
    }
}

#[test]
fn a_column_of_another_role_is_refused_with_those_that_would_do() {
    let store = new_calls();
    let message = "tokens is not legal: is no dim; the dims are user, model";
    assert_eq!(refusal(store.query().equals("tokens", "1")), message);
    assert_eq!(refusal(store.rollups(0, 0, &[("tokens", None)])), message);
    assert_eq!(
        refusal(store.rollups(0, 0, &[("user", None), ("user", None)])),
        "user is not legal: the dim stands twice among those to roll up by"
    );
    assert_eq!(
        refusal(store.query().totals().unwrap().of("status")),
        "status is not legal: only the metric, the latencies and the counters are summed"
    );
    store.append(store.event(0)).unwrap();
    let rollup = store.rollups(0, 0, &[]).unwrap().remove(0);
    assert_eq!(
        refusal(rollup.sum("latency_ms")),
        "latency_ms is not legal: rollups sum the metric and the counters"
    );
    let row = store.query().rows().unwrap().remove(0);
    assert_eq!(refusal(row.int("user")), "user is not legal: the column holds texts, not numbers");
    assert_eq!(refusal(row.text("tokens")), "tokens is not legal: the column holds numbers, not texts");
    let bare = open_or_create(&Arc::default(), &TableSchema::new(1)).unwrap();
    assert_eq!(refusal(bare.query().equals("id", "a")), "id is not legal: is no dim; the table has none");
}

#[test]
fn an_event_of_another_table_is_refused_unless_it_has_the_same_columns() {
    let (store, twin) = (new_calls(), new_calls());
    let other =
        open_or_create(&Arc::default(), &TableSchema::new(1).dim("model").dim("user").counter("tokens"));
    let foreign = other.unwrap().event(0).set("user", "alice").unwrap();
    assert_eq!(
        refusal(store.append_batch([store.event(0), foreign])),
        "event is not legal: it was made for a table of other columns; make it by this store's event()"
    );
    assert_eq!(store.stats().events, 0);
    store.append(twin.event(0)).unwrap();
    assert_eq!(store.stats().events, 1);
}

#[test]
fn conditions_add_up_and_contradictions_match_nothing() {
    let store = new_calls();
    for (ts_ns, user) in ["alice", "bob", "alice"].into_iter().enumerate() {
        let event = store.event(ts_ns as i64).set("user", user).unwrap();
        store.append(event.set("status", 200 + 100 * ts_ns as i64).unwrap()).unwrap();
    }
    let count = |query: AnyQuery<'_>| {
        let count = query.totals().unwrap().event_count;
        assert_eq!(query.rows().unwrap().len() as u64, count);
        count
    };
    let alice = || store.query().equals("user", "alice").unwrap();
    assert_eq!(count(alice()), 2);
    assert_eq!(count(alice().equals("user", "alice").unwrap()), 2);
    assert_eq!(count(alice().equals("user", "bob").unwrap()), 0);
    assert_eq!(count(alice().between(1..).between(..=2)), 1);
    assert_eq!(count(alice().between(2..).between(..2)), 0);
    assert_eq!(count(store.query().status(300..).status(..=300)), 1);
    assert_eq!(count(store.query().status(300..300)), 0);
    assert_eq!(count(store.query().status(..0)), 0);
    assert_eq!(count(store.query().status(u16::MAX..)), 0);
    assert_eq!(
        count(store.query().status((std::ops::Bound::Excluded(u16::MAX), std::ops::Bound::Unbounded))),
        0
    );
    assert_eq!(count(store.query().status(0..=u16::MAX)), 3);
    assert_eq!(count(store.query().cursor(Cursor(i64::MIN))), 0);
    assert_eq!(count(store.query().cursor(Cursor(2))), 2);
}

#[test]
fn each_gives_rows_in_order_and_ends_with_the_first_error() {
    let store = new_calls();
    let tokens = store.position("tokens").unwrap();
    let events = (0..20).map(|n| store.event(n).set_at(tokens, n).unwrap());
    store.append_batch(events.collect::<Vec<_>>()).unwrap();
    let mut seen = Vec::new();
    store
        .query()
        .oldest_first()
        .each(|row| {
            assert_eq!(row.view().ts_ns(), row.at(tokens)?.as_int().unwrap());
            seen.push(row.get("tokens")?.as_int().unwrap());
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    let mut calls = 0;
    let stopped = store.query().each(|_| {
        calls += 1;
        Err(DbError::Invalid { field: "export".into(), why: "it was cancelled".into() })
    });
    assert_eq!((refusal(stopped).as_str(), calls), ("export is not legal: it was cancelled", 1));
}

// ---- directories and schemas ----

#[test]
fn where_there_is_no_table_the_manifest_is_missing_and_nothing_is_made() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let message = "table/MANIFEST is missing; open the directory with an engine and its schema, which makes a table or \
                   mends one that lost this file";
    assert_eq!(refusal(open(&disk)), message);
    assert!(disk.list(Path::new("table")).is_err(), "a directory was made");
    disk.create_dir(Path::new("table")).unwrap();
    disk.create(Path::new("table/notes.txt")).unwrap();
    assert_eq!(refusal(open(&disk)), message);
    assert_eq!(disk.list(Path::new("table")).unwrap().len(), 1, "a file was made");
    assert!(open_or_create(&disk, &calls()).unwrap().open_report().created);
    assert!(!open(&disk).unwrap().open_report().created);
}

#[test]
fn a_directory_on_the_real_disk_opens_by_its_path_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    let store = AnyStore::open_or_create(&path, calls()).unwrap();
    let clone = store.clone();
    store.append(store.event(1).set("user", "alice").unwrap()).unwrap();
    assert!(matches!(AnyStore::open(&path), Err(DbError::AlreadyOpen { .. })));
    store.close().unwrap();
    let copy = dir.path().join("copy");
    clone.checkpoint(&copy).unwrap();
    clone.close().unwrap();
    for path in [path, copy] {
        let store = AnyStore::open(path).unwrap();
        assert_eq!(store.schema(), &calls());
        assert_eq!(store.query().rows().unwrap()[0].text("user").unwrap(), "alice");
        store.flush().unwrap();
        assert_eq!(store.gc(2).unwrap().events_deleted, 1);
    }
}

#[test]
fn a_reader_of_any_columns_sees_what_a_store_writes_beside_it() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let reader = || AnyReader::open_with(config(), options(&disk));
    let message = refusal(reader());
    assert!(message.starts_with("table/MANIFEST is missing; open the directory with an engine"), "{message}");
    assert!(disk.list(Path::new("table")).is_err(), "a directory was made");

    let store = open_or_create(&disk, &calls()).unwrap();
    let reader = reader().unwrap();
    assert_eq!((reader.schema(), reader.columns()), (&calls(), store.columns()));
    let events = (0..40).map(|n| {
        let user = ["alice", "bob"][n % 2];
        let event = store.event(n as i64 * DAY_NS).set("id", format!("e-{n}")).unwrap();
        event.set("user", user).unwrap().set("tokens", n as i64).unwrap()
    });
    for event in events {
        store.append(event).unwrap();
    }
    store.delete(&["e-7"]).unwrap();
    assert!(reader.query().rows().unwrap().is_empty(), "it sees what it saw when it was opened");
    assert_eq!(reader.refresh().unwrap().events, 39);

    let rows = |query: AnyQuery<'_>| query.equals("user", "bob").unwrap().rows().unwrap();
    assert_eq!(rows(reader.query()), rows(store.query()));
    let tokens = reader.position("tokens").unwrap();
    assert_eq!(reader.columns()[tokens].name, "tokens");
    let totals = |query: AnyQuery<'_>| query.status(..1).totals().unwrap();
    assert_eq!(totals(reader.query()), totals(store.query()));
    assert_eq!(totals(reader.query()).of("tokens").unwrap().sum, (0..40).sum::<i128>() - 7);
    assert_eq!(reader.get("e-3").unwrap(), store.get("e-3").unwrap());
    assert_eq!(reader.get("e-7").unwrap(), None);
    let by = [("user", Some("alice"))];
    assert_eq!(reader.rollups(0, 9 * DAY_S, &by).unwrap(), store.rollups(0, 9 * DAY_S, &by).unwrap());
    assert!(matches!(reader.query().equals("usr", ""), Err(DbError::UnknownColumn { .. })));

    // The writer has more columns from now on: seen by a reader that is opened anew.
    drop(store);
    let grown = calls().dim("region");
    let store = open_or_create(&disk, &grown).unwrap();
    store.append(store.event(i64::MAX).set("region", "eu").unwrap()).unwrap();
    assert_eq!(reader.refresh().unwrap().events, 40);
    assert!(matches!(reader.position("region"), Err(DbError::UnknownColumn { .. })));
    let anew = AnyReader::open_with(config(), options(&disk)).unwrap();
    assert_eq!(anew.query().limit(1).rows().unwrap()[0].text("region").unwrap(), "eu");
    let other = AnyReader::open_with(config(), options(&disk).schema(TableSchema::new(1).dim("model")));
    assert!(matches!(other, Err(DbError::SchemaMismatch { .. })), "{:?}", other.map(drop));
}

#[test]
fn counted_columns_have_names_until_somebody_names_them() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let raw = Engine::<2, 1, 1>::open_with(config(), options(&disk)).unwrap();
    raw.append(&LogEvent { dims: ["a".into(), "b".into()], counters: [7], ..LogEvent::default() }).unwrap();
    drop(raw);
    let store = open(&disk).unwrap();
    let own =
        |store: &AnyStore| store.columns()[8..].iter().map(|c| (c.name.clone(), c.role)).collect::<Vec<_>>();
    let counted =
        [("dim_0", Role::Dim), ("dim_1", Role::Dim), ("counter_0", Role::Counter), ("label_0", Role::Label)];
    assert_eq!(own(&store), counted.map(|(name, role)| (name.to_owned(), role)));
    assert_eq!(store.query().equals("dim_1", "b").unwrap().totals().unwrap().of("counter_0").unwrap().sum, 7);
    store.append(store.event(1).set("dim_0", "c").unwrap()).unwrap();
    drop(store);

    let schema = TableSchema::new(0).dim("user").dim("model").counter("tokens").label("prompt").dim("region");
    let store = open_or_create(&disk, &schema).unwrap();
    assert_eq!(store.query().equals("user", "c").unwrap().totals().unwrap().event_count, 1);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(store.schema(), &schema);
    assert!(matches!(store.position("dim_0"), Err(DbError::UnknownColumn { .. })));
}

#[test]
fn a_column_that_is_called_like_a_built_in_one_is_refused_before_anything_is_made() {
    let disk: Arc<MemoryDisk> = Arc::default();
    for name in BUILT_IN {
        for schema in [calls().dim(name), calls().counter(name), calls().label(name)] {
            assert_eq!(
                refusal(open_or_create(&disk, &schema)),
                format!("schema is not legal: {name:?} is a column that every table has")
            );
        }
    }
    assert!(disk.list(Path::new("table")).is_err(), "a directory was made");
}

/// Who may open what: the rule, told again as plainly as can be. `Err` is the beginning of the refusal.
fn fits(stored: &Names, wanted: &Names, same_id: bool) -> Result<(), String> {
    if !same_id {
        return Err("schema id 10 instead of the stored 9".into());
    }
    let roles = [
        ("dim", &stored.dims, &wanted.dims),
        ("counter", &stored.counters, &wanted.counters),
        ("label", &stored.labels, &wanted.labels),
    ];
    for (role, stored, wanted) in roles {
        if wanted.len() < stored.len() {
            let (wants, has) = (wanted.len(), stored.len());
            return Err(format!("{wants} {role} columns instead of at least the stored {has} (lacking: "));
        }
        for (place, stored) in stored.iter().enumerate() {
            if wanted[place] != *stored {
                return Err(format!(
                    "{role} {place} is {:?} instead of the stored {stored:?}",
                    wanted[place]
                ));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_schema_opens_a_directory_only_if_it_adds_columns_at_the_end_of_each_role(
        stored in vec((role(), name()), 0..5),
        // Where to go on from: all of the stored columns, some of them, or none.
        kept in 0..8_usize,
        added in vec((role(), name()), 0..3),
        swap in any::<Option<Index>>(),
        same_id in prop::bool::weighted(0.9),
        flush in any::<bool>(),
    ) {
        let mut names = Names::default();
        for (role, name) in &stored {
            names.grow(*role, name);
        }
        let mut wanted = Names::default();
        stored.iter().take(kept).chain(&added).for_each(|(role, name)| wanted.grow(*role, name));
        if let Some(swap) = swap.filter(|_| wanted.dims.len() > 1) {
            let place = swap.index(wanted.dims.len());
            let last = wanted.dims.len() - 1;
            wanted.dims.swap(place, last);
        }

        let disk: Arc<MemoryDisk> = Arc::default();
        let store = open_or_create(&disk, &names.schema()).unwrap();
        let event = store.event(3).set("id", "old").unwrap();
        let event = names.dims.iter().fold(event, |event, dim| event.set(dim, format!("of {dim}")).unwrap());
        store.append(event).unwrap();
        if flush {
            store.flush().unwrap();
        }
        store.close().unwrap();
        let before = files_of(disk.as_ref(), Path::new("table"));

        let mut schema = wanted.schema();
        if !same_id {
            schema = wanted.dims.iter().fold(TableSchema::new(10), TableSchema::dim);
        }
        match (fits(&names, &wanted, same_id), open_or_create(&disk, &schema)) {
            (Ok(()), Ok(store)) => {
                prop_assert_eq!(store.schema(), &schema);
                let row = store.get("old").unwrap().unwrap();
                for dim in &wanted.dims {
                    let right = if names.dims.contains(dim) { format!("of {dim}") } else { String::new() };
                    prop_assert_eq!(row.text(dim).unwrap(), right);
                }
                for counter in &wanted.counters {
                    prop_assert_eq!(row.int(counter).unwrap(), 0);
                }
                drop(store);
                let store = open(&disk).unwrap();
                prop_assert_eq!(store.schema(), &schema);
            }
            (Err(first), Err(DbError::SchemaMismatch { dir, differences })) => {
                prop_assert_eq!(dir, Path::new("table"));
                prop_assert!(differences.starts_with(&first), "{differences} does not begin with {first}");
                let after = files_of(disk.as_ref(), Path::new("table"));
                prop_assert_eq!(before, after, "a refused open changed a file");
                // By its own schema it still opens.
                prop_assert_eq!(open(&disk).unwrap().query().totals().unwrap().event_count, 1);
            }
            (right, opened) => prop_assert!(false, "{right:?}, and the open said {:?}", opened.map(drop)),
        }
    }
}
