//! Time travel through a session: what `AS OF` answers is what the table answered then, what has no answer is an error.
//!
//! The oracle is a replay: a second table into which one event at a time is appended and asked, without time travel, after
//! each. The table under test gets the same events and is cut into segments and rows in memory at random.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use fastrand::Rng;
use keplordb::TableSchema;
use keplordb::any::{AnyEvent, AnyStore};
use keplordb_sql::as_of::{self, AsOfError, AsOfPlanner, AsOfProblem};
use keplordb_sql::{KeplorTable, Session, SqlError};

/// 2023-11-14 22:13:20 UTC.
const START_NS: i64 = 1_700_000_000_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn schema() -> TableSchema {
    TableSchema::new(1).dim("model").counter("tokens").label("note")
}

fn open(dir: &std::path::Path) -> keplordb::Result<AnyStore> {
    AnyStore::open_or_create(dir, schema())
}

/// Ten events, one a second from [`START_NS`] on.
fn ten_seconds(dir: &std::path::Path) -> keplordb::Result<AnyStore> {
    let store = open(dir)?;
    for second in 0..10 {
        store.append(
            store.event(START_NS + second * SECOND_NS).set("id", format!("e{second}"))?.set("tokens", 1)?,
        )?;
        if second == 4 {
            store.flush()?;
        }
    }
    Ok(store)
}

fn session(tables: &[(&str, &AnyStore)]) -> Session {
    let session = Session::builder().partitions(2).build().expect("a session");
    for (name, store) in tables {
        session.register(*name, (*store).clone());
    }
    session
}

async fn ask(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    session.sql(sql).await?.collect().await
}

async fn text(session: &Session, sql: &str) -> String {
    let batches = ask(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).expect("a table").to_string()
}

async fn count(session: &Session, sql: &str) -> i64 {
    let batches = ask(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// The questions that are put to a table, with a place for its name.
const QUESTIONS: &[&str] = &[
    "SELECT * FROM {t} ORDER BY sequence",
    "SELECT id, tokens FROM {t} AS x WHERE x.tokens > 3 AND model = 'b' ORDER BY ts DESC, sequence DESC",
    "SELECT count(*) AS n, sum(tokens) AS tokens, min(ts_ns) AS first, max(ts) AS last FROM {t}",
    "SELECT model, count(*) AS n, sum(tokens) AS tokens FROM {t} GROUP BY model ORDER BY model",
    "SELECT count(*) AS n FROM {t} WHERE model = 'a'",
    "SELECT a.model, count(*) AS n FROM {t} a JOIN {t} b ON a.model = b.model GROUP BY 1 ORDER BY 1",
    "WITH w AS (SELECT * FROM {t} WHERE tokens < 6) SELECT (SELECT count(*) FROM {t}) - count(*) AS n FROM w",
    "SELECT id FROM {t} ORDER BY ts DESC, sequence DESC LIMIT 3",
];

async fn answers(session: &Session, table: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        answers.push(text(session, &question.replace("{t}", table)).await);
    }
    answers
}

/// An event of the history: seconds after the start, model, tokens; and what is done to the table under test behind it.
type Step = ((i64, usize, u32), u8);

fn event(
    store: &AnyStore,
    at: usize,
    (second, model, tokens): (i64, usize, u32),
) -> keplordb::Result<AnyEvent> {
    store
        .event(START_NS + second * SECOND_NS)
        .set("id", format!("e{at}"))?
        .set("model", ["a", "b", "c"][model])?
        .set("tokens", tokens)?
        .set("note", format!("note {at}"))
}

async fn check_history(steps: &[Step]) -> TestResult {
    let dir = tempfile::tempdir()?;
    let (store, replay) = (open(&dir.path().join("t"))?, open(&dir.path().join("replay"))?);
    let session = session(&[("t", &store), ("replay", &replay)]);
    // What the replay answered before the first event, and behind each one.
    let mut sequences = Vec::new();
    let mut then = vec![answers(&session, "replay").await];
    for (at, (fields, after)) in steps.iter().enumerate() {
        let appended = store.append(event(&store, at, *fields)?)?;
        assert_eq!(replay.append(event(&replay, at, *fields)?)?, appended, "both give the same sequences");
        sequences.push(appended.first);
        then.push(answers(&session, "replay").await);
        if *after == 0 {
            store.flush()?;
        }
    }
    for (at, sequence) in sequences.iter().enumerate() {
        let spelling =
            [format!("t AS OF SEQUENCE {sequence}"), format!("t VERSION AS OF {sequence}")][at % 2].clone();
        assert_eq!(answers(&session, &spelling).await, then[at + 1], "{spelling}");
        let before = format!("t(seq => {sequence} - 1)");
        if *sequence > 0 && sequences.first() != Some(sequence) {
            assert_eq!(answers(&session, &before).await, then[at], "{before}");
        }
    }
    assert_eq!(answers(&session, &format!("t AS OF SEQUENCE {}", u64::MAX)).await, then[steps.len()]);

    // What was deleted since is not there: tables of the other events up to an instant. Their sequences differ, all else is
    // equal; equal times are in the order of arrival everywhere.
    let gone: Vec<_> = (0..steps.len()).filter(|at| at % 4 == 1).map(|at| format!("e{at}")).collect();
    store.delete(&gone.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut seconds: Vec<i64> = steps.iter().flat_map(|((second, ..), _)| [second - 1, *second]).collect();
    seconds.sort_unstable();
    seconds.dedup();
    let by_time = seconds.into_iter().map(|until| {
        let clause = format!("AS OF to_timestamp_seconds({})", START_NS / SECOND_NS + until);
        (clause, steps.iter().map(|((second, ..), _)| *second <= until).collect::<Vec<_>>())
    });
    let by_sequence = sequences.iter().map(|until| {
        (format!("AT (SEQUENCE => {until})"), sequences.iter().map(|sequence| sequence <= until).collect())
    });
    for (number, (clause, is_there)) in by_time.chain(by_sequence).enumerate() {
        let until = open(&dir.path().join(format!("until{number}")))?;
        for (at, (fields, _)) in steps.iter().enumerate() {
            if is_there[at] && !gone.contains(&format!("e{at}")) {
                until.append(event(&until, at, *fields)?)?;
            }
        }
        session.register("until", until);
        for question in &QUESTIONS[1..] {
            let travelled = text(&session, &question.replace("{t}", &format!("t {clause}"))).await;
            assert_eq!(
                travelled,
                text(&session, &question.replace("{t}", "until")).await,
                "{question}, {clause}"
            );
        }
    }
    Ok(())
}

#[test]
fn as_of_answers_what_was_answered_then() -> TestResult {
    for seed in 0..3 {
        let mut rng = Rng::with_seed(seed);
        let steps: Vec<Step> = (0..rng.usize(1..11))
            .map(|_| ((rng.i64(-3..6), rng.usize(..3), rng.u32(..9)), rng.u8(..5)))
            .collect();
        println!("seed {seed}: {steps:?}");
        run(check_history(&steps))?;
    }
    Ok(())
}

#[test]
fn two_instants_of_one_table_join() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    run(async {
        let first = count(&session, "SELECT min(sequence) FROM calls").await;
        let came = format!(
            "SELECT b.id FROM calls AS OF SEQUENCE {} a RIGHT JOIN calls AS OF SEQUENCE {} b ON a.id = b.id \
             WHERE a.id IS NULL ORDER BY b.id",
            first + 2,
            first + 4
        );
        assert_eq!(text(&session, &came).await, "+----+\n| id |\n+----+\n| e3 |\n| e4 |\n+----+");
        let both = "SELECT count(*) FROM calls(seq => 1000000, as_of => '2023-11-14 22:13:22')";
        assert_eq!(count(&session, both).await, 3, "both hold");
        let neither = format!("SELECT count(*) FROM calls(as_of => now(), seq => {})", first + 1);
        assert_eq!(count(&session, &neither).await, 2, "both hold");
    });
    Ok(())
}

/// `DataFusion` answers equal subqueries once, and leaves conditions out that follow from equal ones.
#[test]
fn subqueries_that_differ_in_their_instant_are_not_one() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    run(async {
        let first = count(&session, "SELECT min(sequence) FROM calls").await;
        let (third, fifth) = (first + 2, first + 4);
        let cases = [
            (
                format!(
                    "SELECT (SELECT sum(tokens) FROM calls) - (SELECT sum(tokens) FROM calls AS OF SEQUENCE {third})"
                ),
                7,
            ),
            (
                format!(
                    "SELECT (SELECT sum(tokens) FROM calls AS OF SEQUENCE {third} a) * 100 + \
                     (SELECT sum(tokens) FROM calls AS OF SEQUENCE {fifth} a)"
                ),
                305,
            ),
            (
                format!(
                    "SELECT count(*) FROM calls WHERE (SELECT max(ts_ns) FROM calls AS OF '2023-11-14 22:13:22') = \
                     (SELECT max(ts_ns) FROM calls AS OF SEQUENCE {fifth})"
                ),
                0,
            ),
            (
                format!(
                    "SELECT count(*) FROM calls WHERE id IN (SELECT id FROM calls AS OF SEQUENCE {third}) OR \
                     id IN (SELECT id FROM calls AS OF SEQUENCE {fifth})"
                ),
                5,
            ),
            (
                format!(
                    "SELECT count(*) FROM calls WHERE id IN (SELECT id FROM calls AS OF SEQUENCE {fifth}) AND \
                     id IN (SELECT id FROM calls AS OF SEQUENCE {third})"
                ),
                3,
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(count(&session, &sql).await, expected, "{sql}");
        }
    });
    Ok(())
}

#[test]
fn rows_that_were_deleted_since_are_not_there() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    run(async {
        let all = format!("SELECT count(*) FROM calls AS OF SEQUENCE {}", u64::MAX);
        assert_eq!(count(&session, &all).await, 10);
        store.delete(&["e1", "e7"])?;
        assert_eq!(count(&session, &all).await, 8);
        assert_eq!(count(&session, "SELECT count(*) FROM calls AS OF '2023-11-14 22:13:22'").await, 2);
        Ok(())
    })
}

#[test]
fn an_instant_is_any_constant() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    run(async {
        let first = count(&session, "SELECT min(sequence) FROM calls").await;
        let cases = [
            // What has no time zone is UTC.
            ("AS OF TIMESTAMP '2023-11-14 22:13:22'", 3),
            ("AS OF '2023-11-14T22:13:22'", 3),
            ("AS OF '2023-11-14T23:13:22+01:00'", 3),
            ("AS OF TIMESTAMP '2023-11-14T22:13:22Z'", 3),
            ("AS OF TIMESTAMP '2023-11-14 22:13:22.999999999'", 3),
            ("AS OF TIMESTAMP '2023-11-14 22:13:19.999999999'", 0),
            ("TIMESTAMP AS OF '2023-11-14 22:13:22'", 3),
            ("FOR TIMESTAMP AS OF '2023-11-14 22:13:22'", 3),
            ("AT (TIMESTAMP => '2023-11-14 22:13:22')", 3),
            ("AS OF DATE '2023-11-14'", 0),
            ("AS OF DATE '2023-11-15'", 10),
            ("AS OF '2023-11-15'", 10),
            ("AS OF CAST('2023-11-14 22:13:22' AS TIMESTAMP)", 3),
            ("AS OF '2023-11-14 22:13:22'::TIMESTAMP - INTERVAL '1' SECOND", 2),
            ("AS OF TIMESTAMP ('2023-11-14 22:13:22')", 3),
            ("AS OF to_timestamp(1700000002)", 3),
            ("AS OF to_timestamp_millis(1700000002000) + INTERVAL '3 seconds'", 6),
            ("AS OF date_trunc('day', now())", 10),
            ("AS OF now()", 10),
            ("AS OF CURRENT_TIMESTAMP", 10),
            ("AS OF now() - INTERVAL '200' YEAR", 0),
            ("AS OF CASE WHEN now() > '2020-01-01'::TIMESTAMP THEN '2023-11-14 22:13:22' ELSE NULL END", 3),
            ("AS OF ('2023-11-14' || ' 22:13:22')", 3),
        ];
        for (clause, expected) in cases {
            let sql = format!("SELECT count(*) FROM calls {clause} AS c WHERE c.tokens = 1");
            assert_eq!(count(&session, &sql).await, expected, "{sql}");
        }
        for clause in
            ["AS OF SEQUENCE {}", "VERSION AS OF {}", "AS OF SEQUENCE ({}) * 1", "AT (SEQUENCE => {} + 0)"]
        {
            let sql =
                format!("SELECT count(*) FROM calls {}", clause.replace("{}", &(first + 2).to_string()));
            assert_eq!(count(&session, &sql).await, 3, "{sql}");
        }
    });
    Ok(())
}

#[test]
fn explain_shows_the_instant_and_a_missing_table_is_named() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    run(async {
        let plan =
            text(&session, "EXPLAIN SELECT id FROM calls AS OF SEQUENCE 7 AS c WHERE c.tokens > 1").await;
        assert!(plan.contains("sequence <= Int64(7)") && !plan.contains("FilterExec"), "{plan}");
        let missing = ask(&session, "SELECT * FROM nowhere AS OF SEQUENCE 7").await.unwrap_err().to_string();
        assert!(missing.contains("nowhere"), "{missing}");
    });
    Ok(())
}

#[test]
fn what_cannot_be_answered_is_an_error_with_its_place() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    let session = session(&[("calls", &store)]);
    let empty = MemTable::try_new(keplordb_sql::schema::arrow_schema(store.columns()), vec![vec![]])?;
    session.context().register_table("memory", Arc::new(empty))?;
    let number = "a sequence is a whole number from 0, for a time write `t AS OF TIMESTAMP '…'`";
    let time = "write a time between 1677-09-22 and 2262-04-11, as in `TIMESTAMP '2024-01-31 12:00:00'`";
    let which =
        "write `t AS OF SEQUENCE n` for a sequence, `t AS OF TIMESTAMP '2024-01-31 12:00:00'` for a time";
    let cases = [
        ("FROM calls AS OF SEQUENCE -1", 28, format!("-1 (Int64) is no instant: {number}")),
        ("FROM calls VERSION AS OF 'abc'", 26, format!("the text 'abc' is no instant: {number}")),
        ("FROM calls AS OF SEQUENCE 1.5", 27, format!("1.5 (Float64) is no instant: {number}")),
        ("FROM calls AS OF SEQUENCE NULL", 27, format!("NULL is no instant: {number}")),
        ("FROM calls AS OF SEQUENCE now()", 27, String::new()),
        ("FROM calls AS OF 5", 18, format!("5 (Int64) is no instant: {which}")),
        ("FROM calls AS OF TIMESTAMP 5", 28, format!("5 (Int64) is no instant: {which}")),
        ("FROM calls AS OF 'yesterday'", 18, format!("the text 'yesterday' is no instant: {time}")),
        ("FROM calls AS OF DATE '9999-12-31'", 23, format!("9999-12-31 (Date32) is no instant: {time}")),
        ("FROM calls AS OF NULL", 18, format!("NULL is no instant: {time}")),
        ("FROM calls AS OF CURRENT_TIME", 18, String::new()),
        ("FROM calls AS OF SEQUENCE 1 / 0", 27, "the instant is not a constant".to_owned()),
        ("FROM calls AS OF SEQUENCE CAST(random() AS BIGINT)", 32, "the instant is not a constant".to_owned()),
        ("FROM calls AS OF $1", 18, "the instant is not a constant".to_owned()),
        ("FROM calls AS OF (SELECT max(ts) FROM calls)", 19, "the instant is not a constant".to_owned()),
        ("FROM calls AS OF SEQUENCE (sequence + 1)", 28, "the instant is not a constant".to_owned()),
        (
            "FROM calls c WHERE 0 < (SELECT count(*) FROM calls AS OF (c.ts + INTERVAL '1' SECOND))",
            59,
            "the instant is not a constant".to_owned(),
        ),
        (
            "FROM calls FOR SYSTEM_TIME AS OF '2024-01-01'",
            34,
            "`calls` has no time of arrival: write `calls AS OF SEQUENCE n` for the events up to a sequence, or \
             `calls AS OF TIMESTAMP '…'` for the events up to a time"
                .to_owned(),
        ),
        ("FROM calls AS OF SYSTEM TIME '-10s'", 30, "`calls` has no time of arrival".to_owned()),
        ("FROM memory AS OF SEQUENCE 3", 6, "`memory` is not a table of this engine: only those know what they were".to_owned()),
        ("FROM calls(seq => 3, sequence => 4)", 6, "`sequence => 4` cannot be used in this call: write".to_owned()),
        ("FROM calls(seq => 3, seq => 4)", 6, "`seq => 4` cannot be used in this call: write".to_owned()),
        ("FROM calls(seq => 3, 4)", 6, "`4` cannot be used in this call: write".to_owned()),
        ("FROM calls AS OF SEQUENCE 3 TABLESAMPLE (5 PERCENT)", 6, "`calls(seq => 3) TABLESAMPLE (5 PERCENT)` cannot be used".to_owned()),
        ("FROM calls c, LATERAL calls(seq => 3) d", 23, "`LATERAL calls(seq => 3) d` cannot be used".to_owned()),
    ];
    run(async {
        let mut wrong = Vec::new();
        for (from, column, problem) in cases {
            match ask(&session, &format!("SELECT *\n{from}")).await {
                Err(SqlError::AsOf(refused))
                    if (refused.line, refused.column) == (2, column)
                        && refused.problem.to_string().starts_with(problem.as_str()) => {}
                other => wrong.push(format!("{from}: {other:?}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let hidden = "WITH calls AS (SELECT 1) SELECT * FROM calls AS OF SEQUENCE 3";
        let refused = ask(&session, hidden).await.unwrap_err();
        assert!(
            matches!(refused, SqlError::AsOf(AsOfError { problem: AsOfProblem::NotATable { .. }, .. })),
            "{refused}"
        );
    });
    Ok(())
}

#[test]
fn a_parameter_has_its_value_at_planning() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    run(async {
        let context = SessionContext::new();
        context.register_table("calls", Arc::new(KeplorTable::from(store)))?;
        let ask = async |sql: &str, params: Option<ParamValues>| -> Result<usize, DataFusionError> {
            let mut state = context.state();
            state.register_relation_planner(Arc::new(AsOfPlanner::of(&state, params)))?;
            let plan = state.statement_to_plan(as_of::parse(sql)?.remove(0).expect("a statement")).await?;
            DataFrame::new(state, plan).count().await
        };
        let time = ScalarValue::TimestampMicrosecond(Some(START_NS / 1000 + 2_000_000), None);
        let by_place = || Some(ParamValues::from(vec![time.clone(), ScalarValue::from(0_u64)]));
        let by_name = || Some(ParamValues::from(vec![("at", time.clone())]));
        assert_eq!(ask("SELECT id FROM calls AS OF $1", by_place()).await?, 3);
        assert_eq!(
            ask("SELECT id FROM calls AS OF TIMESTAMP $1 - INTERVAL '1' SECOND", by_place()).await?,
            2
        );
        assert_eq!(ask("SELECT id FROM calls AS OF $at AS c", by_name()).await?, 3);
        assert!(ask("SELECT id FROM calls AS OF SEQUENCE $2", by_place()).await? <= 1);

        let refused = ask("SELECT id FROM calls AS OF $3", by_place()).await.unwrap_err().to_string();
        assert!(refused.contains("line 1, column 28") && refused.contains("$3"), "{refused}");
        let refused = ask("SELECT id FROM calls AS OF $1", None).await.unwrap_err().to_string();
        assert!(refused.contains("the value of parameter $1 is not given"), "{refused}");
        Ok(())
    })
}

#[test]
fn without_the_planner_a_call_is_refused() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = ten_seconds(dir.path())?;
    run(async {
        let context = SessionContext::new();
        context.register_table("calls", Arc::new(KeplorTable::from(store)))?;
        for from in ["calls(seq => 3)", "calls(as_of => now())", "calls AS OF SEQUENCE 3"] {
            assert!(context.sql(&format!("SELECT * FROM {from}")).await.is_err(), "{from}");
        }
        context.register_relation_planner(Arc::new(AsOfPlanner::new()))?;
        assert_eq!(context.sql("SELECT * FROM calls(as_of => now())").await?.count().await?, 10);
        Ok(())
    })
}
