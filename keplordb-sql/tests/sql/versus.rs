//! What `versus` asks the engine, in SQL: the answers are the engine's own, value by value, and `DuckDB`'s on the exported rows.
//!
//! The rows are the first of the workload `keplor-llm`, in three segments and in memory. A statement is put to both as it is, but for
//! the one thing that they write differently: a division of whole numbers is `//` in `DuckDB` and `/` in `DataFusion`.

use std::ops::RangeInclusive;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use keplordb::aggregates::{count, distinct, quantile, sum};
use keplordb::any::AnyReader;
use keplordb::{Bucket, EngineConfig, Filter, Options, Store, Sync};
use keplordb_sql::export::Export;
use keplordb_sql::{KeplorTable, Session};

use crate::python;
use crate::workload::{self, LlmCall, LlmCallRow};

/// They begin 40 seconds before a full minute.
const ROWS: u64 = 45_000;

/// Rows of an answer, each value as text.
type Answer = Vec<Vec<String>>;

struct Question {
    name: &'static str,
    sql: String,
    /// What the engine answers.
    answer: Answer,
}

macro_rules! row {
    ($($value:expr),+) => { vec![$($value.to_string()),+] };
}

const SUMS: &str = "SELECT count(*), sum(metric), sum(tokens), sum(latency_ms) FROM events";
const ALL: &str = "SELECT ts_ns, \"user\", model, tokens, metric, latency_ms, latency_detail_ms, status, flags, id, label FROM events";

/// The columns of [`ALL`].
fn shown(e: &LlmCallRow) -> Vec<String> {
    let numbers = row![e.metric(), e.latency_ms(), e.latency_detail_ms(), e.status(), e.flags().0];
    [row![e.ts_ns(), e.user(), e.model(), e.tokens()], numbers, row![e.id(), e.label()]].concat()
}

/// Every operation, as the peers are asked, and two that they are not asked.
#[expect(clippy::too_many_lines, reason = "a list of questions, each read by itself")]
fn questions(store: &Store<LlmCall>) -> keplordb::Result<Vec<Question>> {
    let c = LlmCall::cols();
    let (from, to) = workload::tenth_of_time(ROWS);
    let (always, times) = (i64::MIN..=i64::MAX, from..=to);
    let in_time = format!("ts_ns BETWEEN {from} AND {to}");
    let probe = ROWS * 618 / 1000;
    let (id, label) = (workload::id(probe), workload::label(probe));
    let (no_id, no_label) = (workload::id(ROWS + 1), workload::label(ROWS + 12_345));
    let user = "user_0007";

    let sums = |filter: Filter<LlmCall>, times: &RangeInclusive<i64>| -> keplordb::Result<Answer> {
        let asked = store.query(filter).between(times.clone());
        let (n, metric, tokens, ms) =
            asked.select((count(), sum(c.metric), sum(c.tokens), sum(c.latency_ms))).one()?;
        Ok(vec![row![n, metric, tokens, ms]])
    };
    let newest = |filter: Filter<LlmCall>, limit: usize| -> keplordb::Result<Answer> {
        Ok(store.query(filter).newest_first().limit(limit).rows()?.iter().map(shown).collect())
    };
    let by_span = |width_ns: i64| -> keplordb::Result<Answer> {
        let spans = store
            .query(Filter::all())
            .bucket(Bucket::ns(width_ns))
            .select((count(), sum(c.metric)))
            .fetch()?;
        Ok(spans
            .iter()
            .map(|span| row![span.bucket() / width_ns, span.values().0, span.values().1])
            .collect())
    };

    let mut questions = Vec::new();
    let mut add = |name, sql: String, answer: Answer| questions.push(Question { name, sql, answer });
    add("R1", SUMS.to_owned(), sums(Filter::all(), &always)?);
    add("R2", format!("{SUMS} WHERE \"user\" = '{user}'"), sums(c.user.eq(user), &always)?);
    add("R3", format!("{SUMS} WHERE {in_time}"), sums(Filter::all(), &times)?);
    add("R4", format!("{SUMS} WHERE \"user\" = '{user}' AND {in_time}"), sums(c.user.eq(user), &times)?);
    add("R5", format!("{SUMS} WHERE status >= 500"), sums(c.status.ge(500), &always)?);
    let throttled = sums(c.model.eq("orion-70b") & c.status.eq(429), &always)?;
    add("R6", format!("{SUMS} WHERE model = 'orion-70b' AND status = 429"), throttled);

    let models = store
        .query(Filter::all())
        .group_by(c.model)
        .select((count(), sum(c.metric), sum(c.tokens)))
        .fetch()?;
    add(
        "R7",
        "SELECT model, count(*), sum(metric), sum(tokens) FROM events GROUP BY model ORDER BY model"
            .to_owned(),
        models
            .iter()
            .map(|model| row![model.key(), model.values().0, model.values().1, model.values().2])
            .collect(),
    );
    let users = store
        .query(Filter::all())
        .group_by(c.user)
        .select(sum(c.metric))
        .top_by(10, sum(c.metric))
        .fetch()?;
    add(
        "R8",
        "SELECT \"user\", sum(metric) AS spend FROM events GROUP BY \"user\" ORDER BY spend DESC LIMIT 10"
            .to_owned(),
        users.iter().map(|user| row![user.key(), user.values()]).collect(),
    );
    for (name, width_ns) in [("R9m", 60_000_000_000), ("R9h", 3_600_000_000_000)] {
        let sql = format!(
            "SELECT ts_ns // {width_ns} AS span, count(*), sum(metric) FROM events GROUP BY span ORDER BY span"
        );
        add(name, sql, by_span(width_ns)?);
    }

    for (name, limit) in [("R10", 100), ("R11", 1000)] {
        add(name, format!("{ALL} ORDER BY ts_ns DESC LIMIT {limit}"), newest(Filter::all(), limit)?);
    }
    for (name, user) in [("R12", user), ("R13", "user_0999")] {
        let sql = format!("{ALL} WHERE \"user\" = '{user}' ORDER BY ts_ns DESC LIMIT 100");
        add(name, sql, newest(c.user.eq(user), 100)?);
    }
    for (name, id) in [("R14", id), ("R15", no_id)] {
        add(name, format!("{ALL} WHERE id = '{id}'"), store.get(&id)?.iter().map(shown).collect());
    }

    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| quantile(c.latency_ms, q));
    let (p50, p95, p99) = store.query(c.model.eq("orion-70b")).select((p50, p95, p99)).one()?;
    let quantiles = [p50, p95, p99].map(|found| found.expect("there are such events"));
    assert!(quantiles.iter().all(|found| found.is_exact));
    add(
        "R16",
        // A quantile of the engine is a value that is there, found by its rank; PERCENTILE_CONT lies between two of them.
        "SELECT min(latency_ms) FILTER (WHERE place * 100 >= n * 50), min(latency_ms) FILTER (WHERE place * 100 >= n * 95), \
         min(latency_ms) FILTER (WHERE place * 100 >= n * 99) FROM (SELECT latency_ms, row_number() OVER (ORDER BY latency_ms) \
         AS place, count(*) OVER () AS n FROM events WHERE model = 'orion-70b') AS ranked"
            .to_owned(),
        vec![quantiles.iter().map(|found| found.value.to_string()).collect()],
    );
    let users = store.query(Filter::all()).between(times).select(distinct(c.user)).one()?;
    add("R17", format!("SELECT count(DISTINCT \"user\") FROM events WHERE {in_time}"), vec![row![users]]);
    let heavy = store
        .query(c.tokens.gt(4000_u32) & c.latency_ms.gt(4500_u32))
        .select((count(), sum(c.metric)))
        .one()?;
    add(
        "R18",
        "SELECT count(*), sum(metric) FROM events WHERE tokens > 4000 AND latency_ms > 4500".to_owned(),
        vec![row![heavy.0, heavy.1]],
    );
    for (name, label) in [("R19", label), ("R20", no_label)] {
        add(name, format!("{ALL} WHERE label = '{label}'"), newest(c.label.eq(&label), 10)?);
    }

    let odd = (c.user.in_(["user_0001", "user_0002"]) | c.user.starts_with("user_09"))
        & !c.status.in_([200, 204])
        & c.tokens.gt(1000_u32)
        & c.flags.has(1);
    add(
        "expression",
        "SELECT count(*) FROM events WHERE (\"user\" IN ('user_0001', 'user_0002') OR starts_with(\"user\", 'user_09')) \
         AND status NOT IN (200, 204) AND tokens > 1000 AND (flags & 1) = 1"
            .to_owned(),
        vec![row![store.query(odd).select(count()).one()?]],
    );
    let groups =
        store.query(Filter::all()).group_by((c.model, c.status)).select((count(), sum(c.metric))).fetch()?;
    add(
        "model-status",
        "SELECT model, status, count(*), sum(metric) FROM events GROUP BY model, status ORDER BY model, status".to_owned(),
        groups.iter().map(|group| row![group.key().0, group.key().1, group.values().0, group.values().1]).collect(),
    );
    Ok(questions)
}

/// Other ways to write an operation, which only we are asked; what they are called is the operation's name.
fn spelled_otherwise() -> Vec<(&'static str, String)> {
    let by_span = |span: &str, width_ns: i64| {
        format!(
            "SELECT CAST({span} AS BIGINT) / {width_ns} AS span, count(*), sum(metric) FROM events GROUP BY {span} ORDER BY {span}"
        )
    };
    let (from, to) = workload::tenth_of_time(ROWS);
    vec![
        (
            "R3",
            format!("{SUMS} WHERE ts >= to_timestamp_nanos({from}) AND ts < to_timestamp_nanos({})", to + 1),
        ),
        ("R9m", by_span("date_trunc('minute', ts)", 60_000_000_000)),
        ("R9m", by_span("date_bin(INTERVAL '1 minute', ts)", 60_000_000_000)),
        ("R9h", by_span("date_bin(INTERVAL '1 hour', ts)", 3_600_000_000_000)),
        ("R10", format!("{ALL} ORDER BY ts DESC, sequence DESC LIMIT 100")),
        (
            "R17",
            format!(
                "SELECT count(*) FROM (SELECT DISTINCT \"user\" FROM events WHERE ts_ns BETWEEN {from} AND {to})"
            ),
        ),
    ]
}

fn rows(batches: &[RecordBatch]) -> Answer {
    let of_batch = |batch: &RecordBatch| -> Answer {
        let value =
            |row| batch.columns().iter().map(move |column| array_value_to_string(column, row).unwrap());
        (0..batch.num_rows()).map(|row| value(row).collect()).collect()
    };
    batches.iter().flat_map(of_batch).collect()
}

/// The answers of `DuckDB` about a file `events.parquet`; `None` where there is none.
fn duckdb(dir: &Path, statements: &[&str]) -> Option<Vec<Answer>> {
    let python = python::python("DuckDB on the operations of versus")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/answers.py");
    let answers = python::output(python, &script, dir, &serde_json::to_string(statements).unwrap());
    Some(serde_json::from_str(&answers).unwrap())
}

#[tokio::test]
async fn every_operation_has_the_engines_answer_and_duckdbs() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events");
    let config = EngineConfig { wal_shard_count: 1, ..LlmCall::default_config(events.clone()) };
    let store = Store::<LlmCall>::open_with(config, Options::default().sync(Sync::Os).merge_rows(0)).unwrap();
    let mut start = 0;
    for end in [15_000, 30_000, 40_000, ROWS] {
        store.append_batch((start..end).map(workload::call)).unwrap();
        if end < ROWS {
            store.flush().unwrap();
        }
        start = end;
    }
    // The row that other implementations of the workload print first.
    let first = store.query(Filter::all()).oldest_first().limit(1).rows().unwrap();
    let golden = "1700000000000065668 user_0913 atlas-small 275 6769157 337 66 200 174 01HF7YAT0000000000MGER18GM b7abb011b5a21848";
    assert_eq!(shown(&first[0]).join(" "), golden);
    // Beside the writer, as another program would.
    let reader = AnyReader::open(events).unwrap();
    assert_eq!(Export::file(&reader.snapshot(), dir.path().join("events.parquet")).run().unwrap().rows, ROWS);
    let session = Session::builder().partitions(2).build().unwrap();
    session.register("events", KeplorTable::from(reader));
    let ask = async |sql: &str| -> Answer {
        let found = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows(&found.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}")))
    };

    let questions = questions(&store).unwrap();
    for Question { name, sql, answer } in &questions {
        assert_eq!(answer.is_empty(), matches!(*name, "R15" | "R20"), "{name}");
        assert_eq!(ask(&sql.replace("//", "/")).await, *answer, "{name}: {sql}");
    }
    for (name, sql) in spelled_otherwise() {
        let question = questions.iter().find(|question| question.name == name).unwrap();
        assert_eq!(ask(&sql).await, question.answer, "{name}: {sql}");
    }

    // Where SQL's percentiles are not the engine's: between the value of that rank and a neighbour, some milliseconds apart; and an
    // estimate.
    let ranked = questions.iter().find(|question| question.name == "R16").unwrap();
    let number = |text: &String| text.parse::<f64>().unwrap();
    let exact: Vec<_> = ranked.answer[0].iter().map(number).collect();
    let percentiles = |function: &str| {
        let columns =
            ["0.5", "0.95", "0.99"].map(|q| format!("{function}({q}) WITHIN GROUP (ORDER BY latency_ms)"));
        format!("SELECT {} FROM events WHERE model = 'orion-70b'", columns.join(", "))
    };
    let between = percentiles("percentile_cont");
    let (found, estimated) = (ask(&between).await, ask(&percentiles("approx_percentile_cont")).await);
    for ((found, estimated), exact) in
        found[0].iter().map(number).zip(estimated[0].iter().map(number)).zip(&exact)
    {
        assert!((found - exact).abs() <= 10.0, "{found}, {exact}");
        assert!((estimated - exact).abs() <= exact * 0.02, "{estimated}, {exact}");
    }

    let mut statements: Vec<_> = questions.iter().map(|question| &*question.sql).collect();
    statements.push(&between);
    let Some(mut judged) = duckdb(dir.path(), &statements) else { return };
    let (judged_between, ours) = (judged.pop().unwrap(), found);
    for (judged, ours) in judged_between[0].iter().map(number).zip(ours[0].iter().map(number)) {
        // DataFusion goes from a value to the next in millionths of the way.
        assert!((judged - ours).abs() < 1e-4, "{judged}, {ours}");
    }
    for (question, judged) in questions.iter().zip(judged) {
        assert_eq!(judged, question.answer, "DuckDB, {}: {}", question.name, question.sql);
    }
}
