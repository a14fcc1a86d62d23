//! Every answer is what `DataFusion` computes over the same rows in a `MemTable`: random statements, on tables of rows in
//! segments and in memory, some deleted, and on an empty one.
//!
//! Conditions are made of what people write, of every literal that lies at an end of some type, and of what is nearly the same
//! as something that goes down into the engine: patterns with escapes, other units and zones of times, casts, NULLs.

use std::sync::LazyLock;

use datafusion::prelude::SessionContext;
use fastrand::Rng;
use keplordb_sql::Session;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::fixture::{TEXTS, copied, fill, shown, store, twin};

struct Pair {
    _dir: TempDir,
    session: Session,
    twin: SessionContext,
}

struct World {
    runtime: Runtime,
    pairs: Vec<Pair>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // (rows, flushes, partitions): segments and memory, memory only, segments only with several partitions, nothing.
    let tables = [(700, 3, 2), (40, 0, 1), (600, 5, 4), (0, 0, 2)];
    let pairs = tables.into_iter().enumerate().map(|(seed, (rows, flushes, partitions))| {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fill(&store, &mut Rng::with_seed(seed as u64), rows, flushes);
        if partitions == 4 {
            store.flush().unwrap();
        }
        let twin = twin(copied(&store), partitions);
        // Small enough that tables are more than a batch.
        let session = Session::builder().partitions(partitions).batch_rows(64).build().unwrap();
        session.register("t", store);
        Pair { _dir: dir, session, twin }
    });
    World { pairs: pairs.collect(), runtime }
});

/// Puts a statement to each table and to its twin; how many tables answered.
fn check(statement: &str, in_order: bool) -> usize {
    let world = &*WORLD;
    // DataFusion 55 concludes from CAST(ts AS DATE) = … that ts itself is one value, and does not sort by it. It concludes nothing
    // about a function's value.
    let twin_statement = statement.replace("CAST(ts AS", "CAST(greatest(ts, ts) AS");
    let twin_statement = twin_statement.replace("arrow_cast(ts,", "arrow_cast(greatest(ts, ts),");
    world.runtime.block_on(async {
        let mut answered = 0;
        for (place, pair) in world.pairs.iter().enumerate() {
            let expected = match pair.twin.sql(&twin_statement).await {
                Ok(frame) => {
                    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
                    frame.collect().await.map(|batches| shown(&schema, &batches, in_order))
                }
                Err(error) => Err(error),
            };
            // What fails of a row that the engine never shows need not fail.
            let Ok(expected) = expected else { continue };
            let rows =
                pair.session.sql(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            let schema = rows.schema().clone();
            let found = rows.collect().await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            let found = shown(&schema, &found, in_order);
            assert!(found == expected, "table {place}: {statement}\nfound:\n{found}\nexpected:\n{expected}");
            answered += 1;
        }
        answered
    })
}

const STATEMENTS: u64 = 600;

const NUMBERS: [&str; 7] = ["ts_ns", "metric", "latency_ms", "status", "flags", "sequence", "tokens"];
const WORDS: [&str; 4] = ["\"user\"", "model", "note", "id"];
const LITERALS: [&str; 20] = [
    "0",
    "1",
    "-1",
    "2",
    "4",
    "7",
    "200",
    "404",
    "500",
    "65535",
    "65536",
    "70000",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "1700000000000000000",
    "NULL",
];
const ODD_LITERALS: [&str; 6] =
    ["200.0", "3.5", "'200'", "CAST(200 AS SMALLINT)", "CAST(1 AS BIGINT UNSIGNED)", "1e3"];
const OPERATORS: [&str; 8] = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
const PATTERNS: [&str; 20] = [
    "a%", "%e", "%li%", "alice", "", "%", "%%", "a%e", "al_ce", "al\\_ce", "ali\\%ce", "%\\%%", "al\\\\ce",
    "a%%", "%l%c%", "\\a%", "A%", "%日%", "m1", "id-1%",
];
const TIMES: [&str; 14] = [
    "TIMESTAMP '2023-11-14 22:13:20'",
    "TIMESTAMP '2023-11-15 00:00:00'",
    "'2023-11-15T00:00:00Z'",
    "'2023-11-15T00:00:00+02:00'",
    "'2023-11-14 23:13:20.000000001'",
    "DATE '2023-11-15'",
    "TIMESTAMP '1970-01-01 00:00:00'",
    "arrow_cast(1700010000, 'Timestamp(Second, None)')",
    "arrow_cast(1700010000000, 'Timestamp(Millisecond, Some(\"UTC\"))')",
    "arrow_cast(1700010000000000000, 'Timestamp(Nanosecond, Some(\"+05:30\"))')",
    "arrow_cast(1700010000000000001, 'Timestamp(Nanosecond, None)')",
    "to_timestamp(1700007200)",
    "NULL",
    "TIMESTAMP '2023-11-14 22:13:20' + INTERVAL '2' HOUR",
];

const CLOCKS: [&str; 10] = [
    "ts",
    "ts",
    "ts",
    "ts",
    "CAST(ts AS TIMESTAMP)",
    "arrow_cast(ts, 'Timestamp(Second, None)')",
    "arrow_cast(ts, 'Timestamp(Nanosecond, Some(\"Europe/Berlin\"))')",
    "date_trunc('hour', ts)",
    "date_bin(INTERVAL '15 minutes', ts)",
    "CAST(ts AS DATE)",
];
const SHOWN: [&str; 7] = [
    "*",
    "ts, id, status",
    "id",
    "note, \"user\", ts_ns, ts",
    "tokens + 1 AS more, model",
    "sequence, flags, \"user\" || '-' || model AS both",
    "1 AS one",
];
const ORDERS: [&str; 9] = [
    "ts, sequence",
    "ts DESC, sequence DESC",
    "ts_ns, ts DESC, sequence",
    "ts DESC, sequence",
    "ts, ts_ns, sequence DESC",
    "sequence",
    "sequence DESC",
    "\"user\", ts, sequence",
    "ts DESC NULLS LAST, sequence DESC, \"user\"",
];
const LIMITS: [&str; 8] =
    ["", "", "LIMIT 1", "LIMIT 7", "LIMIT 100", "LIMIT 5 OFFSET 3", "LIMIT 0", "OFFSET 20"];
const AGGREGATES: [&str; 6] = [
    "count(*)",
    "count(*), min(ts), max(ts), min(ts_ns), max(ts_ns)",
    "count(1), count(status), sum(tokens), avg(latency_ms)",
    "min(\"user\"), max(note), count(DISTINCT model)",
    "max(ts) - min(ts), min(sequence), max(status)",
    "count(*) FILTER (WHERE status = 200)",
];
const KEYS: [&str; 4] =
    ["\"user\"", "model, status", "date_trunc('hour', ts)", "date_bin(INTERVAL '1 hour', ts), model"];

/// Statements from a seed.
struct Statements {
    rng: Rng,
}

impl Statements {
    fn of(&mut self, texts: &[&'static str]) -> &'static str {
        self.rng.choice(texts).unwrap()
    }

    fn quoted(&mut self, texts: &[&'static str]) -> String {
        format!("'{}'", self.of(texts).replace('\'', "''"))
    }

    fn text(&mut self) -> String {
        match self.rng.u32(..10) {
            0 => "'m1'".to_owned(),
            1 => "NULL".to_owned(),
            _ => self.quoted(&TEXTS),
        }
    }

    fn not(&mut self) -> &'static str {
        self.of(&["", "NOT "])
    }

    fn some(&mut self, make: impl Fn(&mut Self) -> String) -> String {
        let count = self.rng.usize(1..6);
        (0..count).map(|_| make(self)).collect::<Vec<_>>().join(", ")
    }

    fn number(&mut self) -> String {
        let column = self.of(&NUMBERS);
        let op = self.of(&OPERATORS);
        let plain = self.of(&LITERALS);
        let value = if self.rng.u32(..6) == 0 { self.of(&ODD_LITERALS) } else { self.of(&LITERALS) };
        match self.rng.u32(..14) {
            0..4 => format!("{column} {op} {value}"),
            4 => format!("{value} {op} {column}"),
            5 => format!("{column} {}BETWEEN {plain} AND {value}", self.not()),
            6 => {
                format!("{column} {}IN ({})", self.not(), self.some(|random| random.of(&LITERALS).to_owned()))
            }
            7 => {
                let (from, count) = (self.rng.i64(0..200), self.rng.i64(1..90));
                let values: Vec<_> = (0..count).map(|place| (from + place * 3).to_string()).collect();
                format!("{column} IN ({})", values.join(", "))
            }
            8 => {
                let kind = self.of(&["BIGINT", "SMALLINT", "INT", "DOUBLE", "VARCHAR", "BIGINT UNSIGNED"]);
                format!("TRY_CAST({column} AS {kind}) {op} {plain}")
            }
            9 => format!("{column} {op} {}", self.of(&NUMBERS)),
            10 | 11 => {
                let (column, bits) = (
                    self.of(&["flags", "flags", "status"]),
                    self.of(&["1", "2", "3", "4", "65535", "65536", "0"]),
                );
                let (op, value) = (self.of(&["=", "<>", ">"]), self.of(&["0", "1", "2", "3", "4", "65535"]));
                format!("{column} & {bits} {op} {value}")
            }
            12 => format!("{column} {}", self.of(&["IS NULL", "IS NOT NULL"])),
            _ => format!("{column} % 7 + 1 > {plain}"),
        }
    }

    fn word(&mut self) -> String {
        let column = self.of(&WORDS);
        let op = self.of(&OPERATORS);
        match self.rng.u32(..17) {
            0..3 => format!("{column} {op} {}", self.text()),
            3..7 => {
                let like = self.of(&["LIKE", "LIKE", "ILIKE", "SIMILAR TO"]);
                format!("{column} {}{like} {}", self.not(), self.quoted(&PATTERNS))
            }
            7 => format!("{column} LIKE {} ESCAPE '\\'", self.quoted(&PATTERNS)),
            8 | 9 => format!("{column} {}IN ({})", self.not(), self.some(Self::text)),
            10 => format!("{column} {}BETWEEN {} AND {}", self.not(), self.text(), self.text()),
            11 => {
                let function = self.of(&["starts_with", "ends_with", "contains"]);
                format!("{function}({column}, {})", self.text())
            }
            12 => {
                let (op, pattern) = (self.of(&["~", "!~", "~*"]), self.of(&["^ali", "e$", "l", "^alice$"]));
                format!("{column} {op} '{pattern}'")
            }
            13 => format!("lower({column}) = {}", self.text()),
            14 => format!("CAST({column} AS {}) = {}", self.of(&["VARCHAR", "TEXT", "CHAR"]), self.text()),
            15 => format!("arrow_cast({column}, 'LargeUtf8') = {}", self.text()),
            _ => format!("{column} {}", self.of(&["IS NULL", "IS NOT NULL", "= \"user\""])),
        }
    }

    fn time(&mut self) -> String {
        let op = self.of(&OPERATORS);
        match self.rng.u32(..8) {
            0..4 => format!("{} {op} {}", self.of(&CLOCKS), self.of(&TIMES)),
            4 => format!("ts {}BETWEEN {} AND {}", self.not(), self.of(&TIMES), self.of(&TIMES)),
            5 => format!("ts {}IN ({}, {})", self.not(), self.of(&TIMES), self.of(&TIMES)),
            6 => {
                let (part, value) = (self.of(&["year", "day", "hour"]), self.of(&["2023", "14", "22"]));
                format!("date_part('{part}', ts) = {value}")
            }
            _ => format!("CAST(ts AS DATE) = DATE '{}'", self.of(&["2023-11-14", "2023-11-15"])),
        }
    }

    fn condition(&mut self, levels: u32) -> String {
        if levels == 0 || self.rng.u32(..3) == 0 {
            return match self.rng.u32(..17) {
                0..6 => self.number(),
                6..12 => self.word(),
                12..16 => self.time(),
                _ => self.of(&["TRUE", "FALSE", "NULL", "1 = 1"]).to_owned(),
            };
        }
        let one = self.condition(levels - 1);
        match self.rng.u32(..4) {
            0 => format!("({one}) AND ({})", self.condition(levels - 1)),
            1 => format!("({one}) OR ({})", self.condition(levels - 1)),
            2 => format!("NOT ({one})"),
            _ => {
                let is = self.of(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "NULL", "NOT NULL", "UNKNOWN"]);
                format!("({one}) IS {is}")
            }
        }
    }

    /// A statement, and whether its rows have an order.
    fn statement(&mut self) -> (String, bool) {
        let place = match self.rng.u32(..7) {
            0 => String::new(),
            _ => format!("WHERE {}", self.condition(3)),
        };
        match self.rng.u32(..16) {
            0..3 => (format!("SELECT {} FROM t {place}", self.of(&SHOWN)), false),
            3..7 => {
                let (order, limit) = (self.of(&ORDERS), self.of(&LIMITS));
                (format!("SELECT * FROM t {place} ORDER BY {order} {limit}"), true)
            }
            // Ties in time: only the time is shown.
            7 => {
                let (desc, limit) = (self.of(&["", "DESC"]), self.rng.u32(1..50));
                (format!("SELECT ts FROM t {place} ORDER BY ts {desc} LIMIT {limit}"), true)
            }
            8..11 => (format!("SELECT {} FROM t {place}", self.of(&AGGREGATES)), true),
            11 | 12 => {
                let keys = self.of(&KEYS);
                (
                    format!("SELECT {keys}, count(*), sum(tokens), min(ts) FROM t {place} GROUP BY {keys}"),
                    false,
                )
            }
            13 => {
                let limit = self.rng.u32(..30);
                let inner = format!("SELECT ts FROM t {place} ORDER BY ts DESC LIMIT {limit}");
                (format!("SELECT count(*), count(ts) FROM ({inner})"), true)
            }
            14 => {
                let join = "JOIN t b ON a.sequence = b.sequence";
                (format!("SELECT a.id, b.\"user\" FROM (SELECT * FROM t {place}) a {join}"), false)
            }
            _ => {
                let newest = format!("SELECT id FROM t WHERE ts = (SELECT max(ts) FROM t {place})");
                (format!("{newest} UNION ALL SELECT model FROM t {place}"), false)
            }
        }
    }
}

/// Two tests have half of the statements each, to be done at the same time. `KEPLORDB_SQL_STATEMENTS` sets how many are tried,
/// `KEPLORDB_SQL_SEED` repeats one of them.
#[test]
fn every_answer_is_that_of_the_same_rows_in_memory_a() {
    random_statements(0);
}

#[test]
fn every_answer_is_that_of_the_same_rows_in_memory_b() {
    random_statements(1);
}

/// Those of the seeds that are even, or odd.
fn random_statements(half: u64) {
    let number_of = |variable| std::env::var(variable).ok().map(|number| number.parse::<u64>().unwrap());
    let seeds = match number_of("KEPLORDB_SQL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("KEPLORDB_SQL_STATEMENTS").unwrap_or(STATEMENTS),
    };
    let (mut answered, mut count) = (0, 0);
    for seed in seeds.filter(|seed| seed % 2 == half) {
        let (statement, in_order) = Statements { rng: Rng::with_seed(seed) }.statement();
        answered += usize::from(check(&format!("{statement} -- seed {seed}"), in_order) > 0);
        count += 1;
    }
    // Else the property says little.
    assert!(count < 2 || answered * 10 >= count * 7, "{answered} of {count} statements have an answer");
}

/// Found at random, or nearly: each was once wrong, or would be with a rule that is nearly right.
#[test]
fn statements_at_the_edges() {
    let ordered = [
        "SELECT count(*) FROM t",
        "SELECT min(ts), max(ts) FROM t",
        "SELECT count(*) FROM t WHERE status > 65535",
        "SELECT count(*) FROM t WHERE metric >= -9223372036854775807",
        "SELECT count(*) FROM t WHERE metric < 9223372036854775807",
        "SELECT count(*) FROM t WHERE metric > 9223372036854775807",
        "SELECT count(*) FROM t WHERE NOT (\"user\" LIKE 'a%')",
        "SELECT count(*) FROM t WHERE \"user\" NOT IN ('alice', NULL)",
        "SELECT count(*) FROM t WHERE NOT (status IN (200, NULL))",
        "SELECT count(*) FROM t WHERE \"user\" LIKE ''",
        "SELECT count(*) FROM t WHERE \"user\" LIKE '%\\'",
        "SELECT count(*) FROM t WHERE ts > TIMESTAMP '2023-11-14 22:13:20.000000001'",
        "SELECT count(*) FROM t WHERE (status = 200) IS NOT TRUE",
        "SELECT count(*) FROM t WHERE (status = NULL) IS UNKNOWN",
        "SELECT count(*) FROM (SELECT 1 FROM t LIMIT 3)",
        "SELECT count(*) FROM t a, t b WHERE a.status = 200 AND b.status = 404",
        "SELECT ts FROM t ORDER BY ts DESC LIMIT 3",
        "SELECT t.* FROM t ORDER BY ts_ns DESC, sequence DESC LIMIT 5 OFFSET 2",
    ];
    for statement in ordered {
        assert_eq!(check(statement, true), WORLD.pairs.len(), "{statement} has no answer");
    }
}
