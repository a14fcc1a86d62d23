//! Aggregates that the engine answers are what `DataFusion` computes of the same rows of the same scan: each statement is put to a
//! session and to a context that has the same tables and not our rule.
//!
//! Random statements of everything that the rule takes, and of what is nearly that and must stay; how many it took is counted.

use std::sync::{Arc, LazyLock};

use datafusion::prelude::{SessionConfig, SessionContext};
use fastrand::Rng;
use keplordb::any::{AnyStore, Value};
use keplordb_sql::{AsOf, KeplorTable, Session, SqlError};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::explain::plan;
use crate::fixture::{START_NS, TEXTS, fill, shown, store};

const SECOND_NS: i64 = 1_000_000_000;

/// A table of calls: times since 1970, in order, and sums that doubles hold.
fn calls(store: &AnyStore, rng: &mut Rng, rows: usize, flushes: usize) {
    for place in 0..rows {
        let ts_ns = START_NS + i64::try_from(place).unwrap() * 97 * SECOND_NS + rng.i64(0..3);
        let event = store.event(ts_ns).set("id", format!("id-{place}")).unwrap();
        let event = event.set("user", *rng.choice(&TEXTS).unwrap()).unwrap();
        let event = event.set("model", if place < rows / 2 { "m1" } else { "m2" }).unwrap();
        let event = event.set("metric", Value::Int(rng.i64(-1000..100_000))).unwrap();
        let event = event.set("latency_ms", rng.u32(..30_000)).unwrap();
        let event = event.set("status", *rng.choice(&[200, 200, 404, 500]).unwrap()).unwrap();
        let event = event.set("flags", rng.u32(..8)).unwrap();
        store.append(event.set("tokens", rng.u32(..5000)).unwrap()).unwrap();
        if flushes > 0 && place % (rows / flushes) == rows / flushes - 1 {
            store.flush().unwrap();
        }
    }
}

struct Table {
    _dir: TempDir,
    session: Session,
    /// Without our rule.
    twin: SessionContext,
    /// Whether `avg(metric)` may depend on the order of rows.
    has_large_metrics: bool,
}

impl Table {
    fn new(dir: TempDir, store: AnyStore, partitions: usize, has_large_metrics: bool) -> Self {
        let session = Session::builder().partitions(partitions).batch_rows(64).build().unwrap();
        let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(64);
        let twin = SessionContext::new_with_config(config);
        let now = KeplorTable::from(store).pinned().unwrap();
        let until = now.snapshot().unwrap().below() / 2;
        let past = now.at(AsOf::Sequence(until)).at(AsOf::Time { ts_ns: START_NS + 40 * 97 * SECOND_NS });
        for (name, table) in [("t", now), ("past", past)] {
            session.register(name, KeplorTable::clone(&table));
            twin.register_table(name, table).unwrap();
        }
        Self { _dir: dir, session, twin, has_large_metrics }
    }
}

struct World {
    runtime: Runtime,
    tables: Vec<Table>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tables = Vec::new();
    // (rows, flushes, partitions): rows of all kinds, some deleted, in segments and in memory; and none.
    for (seed, (rows, flushes, partitions)) in [(700, 3, 2), (40, 0, 1), (0, 0, 2)].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fill(&store, &mut Rng::with_seed(seed as u64), rows, flushes);
        tables.push(Table::new(dir, store, partitions, true));
    }
    // Whole segments without deleted rows; and with.
    for (flushes, deletes) in [(4, 0), (3, 20), (1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        calls(&store, &mut Rng::with_seed(flushes as u64), 600, flushes);
        for place in 0..deletes {
            store.delete(&[&format!("id-{}", place * 29)]).unwrap();
        }
        tables.push(Table::new(dir, store, flushes, false));
    }
    World { runtime, tables }
});

/// Puts a statement to each table with the rule and without it; how many tables answered, and by the rule.
fn check(statement: &str) -> (usize, usize) {
    let world = &*WORLD;
    world.runtime.block_on(async {
        let (mut answered, mut taken) = (0, 0);
        for (place, table) in world.tables.iter().enumerate() {
            if table.has_large_metrics && statement.contains("avg(metric)") {
                continue;
            }
            let plan = plan(&table.session, statement).await;
            let is_taken = plan.contains("KeplorAggregate");
            // Ours is an error where DataFusion's wraps around.
            let exactly = "CAST(sum(CAST(metric AS DECIMAL(38, 0))) AS BIGINT)";
            let exact =
                if is_taken { statement.replace("sum(metric)", exactly) } else { statement.to_owned() };
            let frame = table.twin.sql(&exact).await.unwrap_or_else(|error| panic!("{exact}: {error}"));
            let schema = Arc::new(frame.schema().as_arrow().clone());
            let expected = frame.collect().await.map(|batches| shown(&schema, &batches, false));

            let rows = table.session.sql(statement).await;
            let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error}"));
            let schema = rows.schema().clone();
            let found = rows.collect().await.map(|batches| shown(&schema, &batches, false));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert!(
                    found == expected,
                    "table {place}: {statement}\n{plan}\nfound:\n{found}\nexpected:\n{expected}"
                ),
                (Err(SqlError::Execution(error)), Err(_))
                    if error.to_string().contains("which is no BIGINT") => {}
                (found, expected) => panic!("table {place}: {statement}\n{found:?}\n{expected:?}"),
            }
            answered += 1;
            taken += usize::from(is_taken);
        }
        (answered, taken)
    })
}

const KEYS: [&str; 3] = ["\"user\"", "model", "status"];
const SPANS: [&str; 14] = [
    "date_trunc('second', ts)",
    "date_trunc('minute', ts)",
    "date_trunc('HOUR', ts)",
    "date_trunc('day', ts)",
    "date_trunc('week', ts)",
    "date_trunc('hour', CAST(ts AS TIMESTAMP))",
    "date_bin(INTERVAL '15 minutes', ts)",
    "date_bin(INTERVAL '1 day', ts, TIMESTAMP '2023-11-14 03:00:00Z')",
    "date_bin(INTERVAL '7 days 1 nanosecond', ts, '2030-01-01T00:00:00Z')",
    "CAST(ts AS DATE)",
    "ts_ns / 3600000000000",
    "ts_ns / 60000000000 * 60000000000",
    "86400000000000 * (ts_ns / 86400000000000)",
    "ts_ns - ts_ns % 900000000000",
];
/// What the engine has no groups for, or others.
const OTHER_KEYS: [&str; 12] = [
    "note",
    "flags",
    "ts",
    "tokens / 10",
    "upper(model)",
    "date_trunc('month', ts)",
    "date_trunc('day', arrow_cast(ts, 'Timestamp(Nanosecond, Some(\"+05:30\"))'))",
    "date_bin(INTERVAL '1 month', ts)",
    "date_bin(INTERVAL '0.5 second', ts, '1700-01-01T00:00:00Z')",
    "ts_ns / -3600000000000",
    "ts_ns / 60000000000 * 60",
    "date_part('hour', ts)",
];
const NUMBERS: [&str; 6] = ["ts_ns", "metric", "latency_ms", "flags", "sequence", "tokens"];
const OTHER_AGGREGATES: [&str; 12] = [
    "min(status)",
    "sum(status)",
    "avg(status)",
    "max(\"user\")",
    "count(DISTINCT tokens)",
    "sum(DISTINCT tokens)",
    "count(*) FILTER (WHERE status = 200)",
    "sum(tokens + 1)",
    "sum(CAST(tokens AS DOUBLE))",
    "count(NULL)",
    "median(tokens)",
    "count(nullif(tokens, 7))",
];
const CONDITIONS: [&str; 14] = [
    "status = 200",
    "status >= 400 AND status < 500",
    "\"user\" = 'alice'",
    "\"user\" LIKE 'al%'",
    "model IN ('m0', 'm1')",
    "model = 'm1'",
    "ts >= TIMESTAMP '2023-11-14 23:00:00Z'",
    "ts < TIMESTAMP '2023-11-15 00:00:00Z' AND ts_ns > 0",
    "tokens > 250",
    "metric <> 1",
    "flags & 1 = 1",
    "note <> ''",
    "model = 'there is none'",
    "sequence < 100",
];

/// Statements from a seed.
struct Statements {
    rng: Rng,
    /// Whether the last one has only what the rule takes of any table.
    is_plain: bool,
}

impl Statements {
    fn of(&mut self, texts: &[&'static str]) -> &'static str {
        self.rng.choice(texts).unwrap()
    }

    fn is_odd(&mut self) -> bool {
        let is_odd = self.rng.u32(..15) == 0;
        self.is_plain &= !is_odd;
        is_odd
    }

    fn aggregate(&mut self) -> String {
        if self.is_odd() {
            return self.of(&OTHER_AGGREGATES).to_owned();
        }
        let number = self.of(&NUMBERS);
        match self.rng.u32(..12) {
            0 => "count(*)".to_owned(),
            1 => format!("count({})", self.of(&["1", "tokens", "note", "ts"])),
            2 => format!("count(DISTINCT {})", self.of(&KEYS)),
            // Of times the first sum of six is beyond a BIGINT.
            3..6 => format!("sum({})", if number == "ts_ns" { "tokens" } else { number }),
            6 | 7 => format!("min({})", if self.rng.bool() { number } else { "ts" }),
            8 | 9 => format!("max({})", if self.rng.bool() { number } else { "ts" }),
            // Sums of times round.
            _ => format!("avg({})", if number == "ts_ns" { "latency_detail_ms" } else { number }),
        }
    }

    fn condition(&mut self) -> String {
        let one = self.of(&CONDITIONS);
        match self.rng.u32(..6) {
            0 => format!("NOT ({one})"),
            1 => format!("({one}) OR {}", self.of(&CONDITIONS)),
            2 => format!("{one} AND {}", self.of(&CONDITIONS)),
            _ => one.to_owned(),
        }
    }

    fn statement(&mut self) -> String {
        self.is_plain = true;
        let mut keys: Vec<_> = KEYS.into_iter().filter(|_| self.rng.u32(..3) == 0).collect();
        self.rng.shuffle(&mut keys);
        if self.rng.bool() {
            let span = self.of(&SPANS);
            self.is_plain &= !span.contains("ts_ns");
            keys.insert(self.rng.usize(..=keys.len()), span);
        }
        if self.is_odd() {
            keys.push(self.of(&OTHER_KEYS));
        }
        let count = self.rng.usize(usize::from(keys.is_empty())..5);
        let aggregates: Vec<_> =
            (0..count).map(|place| format!("{} AS a{place}", self.aggregate())).collect();
        let selected: Vec<_> = keys.iter().map(|key| (*key).to_owned()).chain(aggregates).collect();
        let mut clauses =
            vec![format!("SELECT {} FROM {}", selected.join(", "), self.of(&["t", "t", "t", "past"]))];
        let mut conditions = Vec::new();
        if self.rng.u32(..4) > 0 {
            conditions.push(format!("({})", self.condition()));
        } else if keys.is_empty() {
            // Some are answered by statistics.
            self.is_plain = false;
        }
        if self.is_odd() {
            conditions.push("length(note) > 3".to_owned());
        }
        if !conditions.is_empty() {
            clauses.push(format!("WHERE {}", conditions.join(" AND ")));
        }
        if !keys.is_empty() {
            clauses.push(format!("GROUP BY {}", keys.join(", ")));
            if self.rng.u32(..5) == 0 {
                clauses.push("HAVING count(*) > 2".to_owned());
            }
        }
        clauses.join(" ")
    }
}

#[test]
fn answers_are_those_of_datafusion() {
    let count = 150;
    let (mut all, mut by_rule) = (0, 0);
    for seed in 0..count {
        let mut statements = Statements { rng: Rng::with_seed(seed), is_plain: true };
        let statement = statements.statement();
        let (answered, taken) = check(&statement);
        if statements.is_plain {
            assert_eq!(taken, answered, "seed {seed}: {statement} is not answered by the engine");
        }
        all += answered;
        by_rule += taken;
    }
    assert!(by_rule * 10 > all * 6, "{by_rule} of {all} answers are the engine's");
}

/// Each that statements are made of at least once, however the seeds fall.
#[test]
fn keys_and_aggregates_one_by_one() {
    for key in KEYS.iter().chain(&SPANS).chain(&OTHER_KEYS) {
        check(&format!("SELECT {key} AS k, count(*) AS n FROM t GROUP BY {key}"));
    }
    for aggregate in OTHER_AGGREGATES {
        check(&format!("SELECT model, {aggregate} AS a FROM t GROUP BY model"));
        check(&format!("SELECT {aggregate} AS a FROM t"));
    }
}

#[test]
fn statements_around_aggregates() {
    for statement in [
        "SELECT count(*) FROM (SELECT model, sum(tokens) AS s FROM t GROUP BY model) WHERE s > 100",
        "SELECT sum(s), count(*) FROM (SELECT \"user\", sum(tokens) AS s FROM t GROUP BY \"user\")",
        "SELECT count(\"user\"), min(s) FROM (SELECT \"user\", min(tokens) AS s FROM t GROUP BY \"user\")",
        "SELECT model, count(DISTINCT \"user\"), sum(tokens), min(ts), max(flags) FROM t GROUP BY model",
        "SELECT date_trunc('hour', ts) AS h, count(DISTINCT status), max(tokens) FROM t GROUP BY h",
        "SELECT count(DISTINCT \"user\"), count(DISTINCT model), count(*) FROM t WHERE status = 200",
        "SELECT DISTINCT model, status FROM t",
        "SELECT model, tokens FROM (SELECT model, sum(tokens) AS tokens FROM t GROUP BY model ORDER BY tokens DESC LIMIT 2)",
        "SELECT a.model, a.n, b.n FROM (SELECT model, count(*) AS n FROM t GROUP BY model) a JOIN \
         (SELECT model, count(*) AS n FROM past GROUP BY model) b ON a.model = b.model",
        "SELECT model, sum(tokens) * 2 + count(*) AS x FROM t GROUP BY model UNION ALL SELECT 'all', sum(tokens) FROM t",
        "SELECT count(*) FROM t WHERE tokens > (SELECT avg(tokens) FROM t)",
        "SELECT status, sum(tokens) FROM t GROUP BY ROLLUP (status)",
        "SELECT model, status, count(*) FROM t GROUP BY GROUPING SETS ((model), (status))",
        "SELECT sum(tokens + 1), sum(tokens), avg(tokens) FROM t WHERE flags >= 0",
        "WITH m AS (SELECT model AS name, tokens AS n FROM t WHERE status = 200) SELECT name, sum(n), avg(n) FROM m GROUP BY name",
        "SELECT sum(n) FROM (SELECT tokens AS n FROM t LIMIT 10000)",
        "SELECT array_agg(model ORDER BY model) FROM (SELECT DISTINCT model FROM t)",
        "SELECT count(*) FROM (SELECT \"user\", model FROM t GROUP BY \"user\", model)",
    ] {
        let (answered, _) = check(statement);
        assert_eq!(answered, WORLD.tables.len());
    }
}

fn session(make: impl FnOnce(&AnyStore)) -> (TempDir, Session) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    make(&store);
    let session = Session::builder().partitions(2).build().unwrap();
    session.register("t", store);
    (dir, session)
}

#[tokio::test]
async fn what_the_engine_answers_shows_in_the_plan() {
    let (_dir, session) = session(|store| calls(store, &mut Rng::with_seed(1), 100, 2));
    for (statement, expected) in [
        (
            "SELECT model, count(*), sum(tokens) FROM t WHERE status = 200 GROUP BY model",
            "KeplorAggregate: groups=[model], aggregates=[count(Int64(1)), sum(t.tokens)], filter=[status = Int32(200)]",
        ),
        (
            "SELECT date_bin(INTERVAL '1 hour', ts) AS h, avg(latency_ms) FROM t GROUP BY h",
            "avg(t.latency_ms)]",
        ),
        (
            "SELECT sum(metric), max(ts) FROM t",
            "KeplorAggregate: groups=[], aggregates=[sum(t.metric), max(t.ts)]",
        ),
        (
            "SELECT count(DISTINCT \"user\") FROM t WHERE ts_ns > 7",
            "KeplorAggregate: groups=[], aggregates=[count(alias1)], filter=",
        ),
        (
            "SELECT model, count(DISTINCT \"user\") FROM t GROUP BY model",
            "KeplorAggregate: groups=[model], aggregates=[count(alias1)]",
        ),
        (
            "SELECT sum(tokens) FROM t AS OF SEQUENCE 9",
            "KeplorAggregate: groups=[], aggregates=[sum(t.tokens)], filter=[sequence <= Int64(9)]",
        ),
        (
            "SELECT count(*) FROM t WHERE \"user\" = 'bob'",
            "KeplorAggregate: groups=[], aggregates=[count(Int64(1))], filter=[",
        ),
        ("SELECT DISTINCT status FROM t", "KeplorAggregate: groups=[status], aggregates=[]"),
    ] {
        let plan = plan(&session, statement).await;
        assert!(plan.contains(expected) && !plan.contains("KeplorScan"), "{statement}\n{plan}");
    }
    for statement in [
        "SELECT count(*) FROM t",
        "SELECT DISTINCT model FROM t LIMIT 2",
        "SELECT note, count(*) FROM t GROUP BY note",
        "SELECT sum(tokens) FROM t WHERE length(note) > 3",
        "SELECT sum(status) FROM t",
        "SELECT avg(ts_ns) FROM t",
        "SELECT max(model) FROM t",
        "SELECT sum(tokens) FILTER (WHERE status = 200) FROM t",
        "SELECT date_trunc('hour', ts) AS h, date_trunc('day', ts) AS d, count(*) FROM t GROUP BY h, d",
        "SELECT date_trunc('month', ts) AS m, count(*) FROM t GROUP BY m",
        "SELECT sum(tokens) FROM (SELECT tokens FROM t LIMIT 5)",
        "SELECT model, count(*) FROM t GROUP BY CUBE (model)",
    ] {
        let plan = plan(&session, statement).await;
        assert!(!plan.contains("KeplorAggregate"), "{statement}\n{plan}");
    }
}

/// `EXPLAIN ANALYZE`, and the answer as text.
async fn analyzed(session: &Session, statement: &str) -> (String, String) {
    let text = |rows: keplordb_sql::Rows| async {
        let schema = rows.schema().clone();
        shown(&schema, &rows.collect().await.unwrap(), false)
    };
    let plan = text(session.sql(&format!("EXPLAIN ANALYZE {statement}")).await.unwrap()).await;
    (plan, text(session.sql(statement).await.unwrap()).await)
}

#[tokio::test]
async fn means_that_round_are_datafusions() {
    // One value more than doubles add up exactly.
    let metrics = [1 << 53, 1, 1, -(1 << 53)];
    let (_dir, session) = session(|store| {
        for (place, metric) in (0..).zip(metrics) {
            let event = store.event(START_NS + place).set("metric", Value::Int(metric)).unwrap();
            store.append(event.set("tokens", u32::MAX).unwrap()).unwrap();
        }
    });
    let (plan, answer) = analyzed(&session, "SELECT avg(metric) FROM t").await;
    assert!(plan.contains("KeplorAggregate") && plan.contains("left_to_datafusion=1"), "{plan}");
    // 2⁵³ + 1 is no double: whatever the order of the rows, some 1 gets lost.
    assert!(!answer.contains("| 0.5 "), "{answer}");
    let (plan, answer) = analyzed(&session, "SELECT avg(tokens), sum(metric) FROM t").await;
    assert!(plan.contains("rows_read=4") && !plan.contains("left_to_datafusion"), "{plan}");
    assert!(answer.contains("| 4294967295.0  | 2 "), "{answer}");
}

#[tokio::test]
async fn a_sum_beyond_bigint_is_an_error() {
    let (_dir, session) = session(|store| {
        for metric in [i64::MAX, 1, -1, i64::MIN + 9] {
            let event = store.event(START_NS).set("metric", Value::Int(metric)).unwrap();
            store.append(event.set("status", if metric < 0 { 500 } else { 200 }).unwrap()).unwrap();
        }
    });
    let sum = async |statement: &str| session.sql(statement).await.unwrap().collect().await;
    let refused = sum("SELECT sum(metric) FROM t WHERE status = 200").await.unwrap_err().to_string();
    assert!(
        refused.contains("sum(metric) is 9223372036854775808, which is no BIGINT; ask for sum(CAST("),
        "{refused}"
    );
    let exact = "SELECT sum(CAST(metric AS DECIMAL(38, 0))) FROM t WHERE status = 200";
    assert_eq!(sum(exact).await.unwrap()[0].num_rows(), 1);
    // Only the sum counts, not the way to it.
    let whole = sum("SELECT sum(metric) FROM t").await.unwrap();
    assert_eq!(shown(&whole[0].schema(), &whole, true).matches("| 8 ").count(), 1);
}

#[tokio::test]
async fn groups_that_take_more_memory_than_granted_are_datafusions() {
    const ROWS: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let times = (0..).map(|second| START_NS + second * SECOND_NS);
    store.append_batch(times.take(ROWS).map(|ts_ns| store.event(ts_ns))).unwrap();
    store.flush().unwrap();
    let statement = "SELECT count(*), max(n), min(h) FROM \
                     (SELECT date_trunc('second', ts) AS h, count(*) AS n FROM t GROUP BY h)";
    let mut answers = Vec::new();
    for (limit_bytes, is_left) in [(2 << 20, true), (1 << 30, false)] {
        let session = Session::builder().partitions(1).memory_limit_bytes(limit_bytes).build().unwrap();
        session.register("t", store.clone());
        let (plan, answer) = analyzed(&session, statement).await;
        assert_eq!(plan.contains("left_to_datafusion=1"), is_left, "{plan}");
        answers.push(answer);
    }
    assert!(answers[0].contains("| 20000 ") && answers[0] == answers[1], "{answers:?}");

    // And where these have no room either, that is said.
    let session = Session::builder().partitions(1).memory_limit_bytes(64 << 10).build().unwrap();
    session.register("t", store);
    let refused = session.sql(statement).await.unwrap().collect().await.unwrap_err();
    assert!(matches!(refused, SqlError::Memory { .. }), "{refused}");
}
