//! What a session refuses, and where its limits are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use datafusion::catalog::SchemaProvider;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::{Volatility, create_udf};
use fastrand::Rng;
use futures::StreamExt;
use keplordb_sql::{Session, SessionBuilder, SqlError};
use tempfile::TempDir;

use crate::fixture::{fill, store};

fn session(builder: SessionBuilder, rows: usize) -> (TempDir, Session) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fill(&store, &mut Rng::with_seed(11), rows, 2);
    let session = builder.partitions(2).build().unwrap();
    session.register("t", store);
    (dir, session)
}

#[tokio::test]
async fn whatever_is_no_question_is_refused() {
    let (dir, session) = session(Session::builder(), 5);
    let file = dir.path().join("out.parquet");
    let file = file.display();
    for statement in [
        "DROP TABLE t".to_owned(),
        "CREATE TABLE u AS SELECT * FROM t".to_owned(),
        "CREATE VIEW u AS SELECT * FROM t".to_owned(),
        format!("CREATE EXTERNAL TABLE u STORED AS PARQUET LOCATION '{file}'"),
        format!("COPY t TO '{file}'"),
        format!("COPY (SELECT 1) TO '{file}'"),
        "INSERT INTO t SELECT * FROM t".to_owned(),
        "DELETE FROM t".to_owned(),
        "UPDATE t SET status = 1".to_owned(),
        "TRUNCATE TABLE t".to_owned(),
        "SELECT * INTO u FROM t".to_owned(),
        "SET datafusion.runtime.memory_limit = '100G'".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "BEGIN".to_owned(),
        "EXPLAIN INSERT INTO t SELECT * FROM t".to_owned(),
        format!("EXPLAIN ANALYZE COPY t TO '{file}'"),
        "CREATE FUNCTION f() RETURNS INT RETURN 1".to_owned(),
        "CREATE SCHEMA s".to_owned(),
    ] {
        let refused = session.sql(&statement).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, SqlError::NotAQuery { .. }), "{statement}: {refused:?}");
        let told = refused.to_string();
        let first = statement.split_whitespace().next().unwrap();
        let first = if first == "EXPLAIN" { "" } else { first };
        assert!(
            told.starts_with(first) && told.contains("is refused, a session only answers questions"),
            "{told}"
        );
    }
    assert!(!dir.path().join("out.parquet").exists());
    assert_eq!(session.tables().table_names(), ["t"]);
}

#[tokio::test]
async fn questions_of_all_kinds_are_answered() {
    let (_dir, session) = session(Session::builder(), 5);
    for statement in [
        "SELECT 1",
        "VALUES (1, 'a')",
        "WITH u AS (SELECT * FROM t) SELECT count(*) FROM u",
        "EXPLAIN SELECT * FROM t",
        "EXPLAIN ANALYZE SELECT * FROM t",
        "EXPLAIN FORMAT TREE SELECT * FROM t",
        "DESCRIBE t",
        "SHOW TABLES",
        "SHOW COLUMNS FROM t",
        "SHOW ALL",
        "SELECT * FROM keplor.main.t",
        "SELECT * FROM main.t -- the same",
        "SELECT 1;",
    ] {
        let rows = session.sql(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let batches = rows.collect().await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert!(batches.iter().any(|batch| batch.num_rows() > 0), "{statement}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_statement_is_said() {
    let (_dir, session) = session(Session::builder(), 5);
    for (statement, told) in [
        ("SELEC 1", "the statement cannot be read: "),
        ("SELECT 1; SELECT 2", "the statement cannot be read: it has 2 statements; put one at a time"),
        ("", "the statement cannot be read: it has 0 statements; put one at a time"),
        ("SELECT (1", "the statement cannot be read: "),
        ("SELECT 'abc", "the statement cannot be read: "),
        ("SELECT * FROM calls", "table 'keplor.main.calls' not found"),
        ("SELECT usr FROM t", "No field named usr"),
        ("SELECT no_such(1) FROM t", "Invalid function 'no_such'"),
        ("SELECT sum(\"user\") FROM t", ""),
    ] {
        let error = session.sql(statement).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(told), "{statement}: {error}");
        assert!(matches!(error, SqlError::Syntax { .. } | SqlError::Plan { .. }), "{statement}: {error:?}");
    }
    let failed =
        session.sql("SELECT 1 / (status - status) FROM t").await.unwrap().collect().await.unwrap_err();
    assert_eq!(failed.to_string(), "the query failed: Arrow error: Divide by zero error");
}

#[tokio::test]
async fn an_answer_of_too_many_rows_is_an_error_after_those_that_are_granted() {
    let (_dir, session) = session(Session::builder().row_limit(50), 200);
    assert_eq!(session.sql("SELECT * FROM t LIMIT 50").await.unwrap().collect().await.unwrap().len(), 1);
    let error = session.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the answer has more than 50 rows: add a LIMIT, ask for groups, or raise `row_limit`"
    );
    // It ends after the error.
    let mut rows = session.sql("SELECT * FROM t").await.unwrap();
    while rows.next().await.unwrap().is_ok() {}
    assert!(rows.next().await.is_none());
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_granted_says_so_or_spills() {
    let statement = "SELECT a.id, b.id AS other FROM t a JOIN t b ON a.status = b.status ORDER BY a.note, b.note, a.id, b.id";
    let (_dir, session) = session(Session::builder().memory_limit_bytes(1 << 20), 400);
    let error = session.sql(statement).await.unwrap().collect().await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with(
            "the query needs more than the 1048576 bytes of memory that the session grants: ask for fewer"
        ),
        "{told}"
    );
    // An answer that is collected counts too.
    let error = session.sql("SELECT a.*, b.* FROM t a, t b").await.unwrap().collect().await.unwrap_err();
    assert!(matches!(&error, SqlError::Memory { why, .. } if why.contains("rows of the answer")), "{error}");
    // Given out row by row, it does not.
    let mut rows = session.sql("SELECT a.*, b.* FROM t a, t b").await.unwrap();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.unwrap().num_rows();
    }
    assert!(count > 100_000, "{count}");
}

#[tokio::test]
async fn a_sort_that_does_not_fit_goes_on_on_disk_where_it_may() {
    let spill = tempfile::tempdir().unwrap();
    let statement = "SELECT a.note, b.id FROM t a, t b ORDER BY b.id, a.note";
    let builder = || Session::builder().memory_limit_bytes(8 << 20);
    let (_dir, without) = session(builder(), 600);
    let rows = without.sql(statement).await.unwrap().collect().await;
    assert!(matches!(rows, Err(SqlError::Memory { .. })), "{rows:?}");

    let (_dir, with) = session(builder().spill_dir(spill.path()), 600);
    let mut rows = with.sql(statement).await.unwrap();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.unwrap().num_rows();
    }
    assert!(count > 250_000, "{count}");
    drop(rows);
    assert_eq!(
        std::fs::read_dir(spill.path()).unwrap().count(),
        1,
        "only the session's own directory is left"
    );
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended() {
    let (_dir, session) = session(Session::builder().timeout(Duration::from_millis(300)), 400);
    let begun = Instant::now();
    let endless = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT 1 - n FROM r) SELECT count(*) FROM r WHERE n = 2";
    let error = session.sql(endless).await.unwrap().collect().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the query took longer than 300 ms: narrow its range of times, or raise `timeout`"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    // The session answers others.
    assert!(session.sql("SELECT count(*) FROM t").await.unwrap().collect().await.is_ok());
}

#[tokio::test]
async fn answers_that_are_collected_share_the_memory_of_the_session() {
    let (_dir, session) = session(Session::builder().memory_limit_bytes(8 << 20), 100);
    let statement = "SELECT id, note FROM t";
    let collect = async || session.sql(statement).await.unwrap().collect().await;
    assert!(collect().await.is_ok());
    let other = MemoryConsumer::new("other").register(&session.context().runtime_env().memory_pool);
    other.try_grow((8 << 20) - 1000).unwrap();
    assert!(matches!(collect().await, Err(SqlError::Memory { .. })));
    drop(other);
    assert!(collect().await.is_ok(), "what was collected is given back");
}

/// Constants are computed during planning.
#[tokio::test]
async fn planning_is_within_the_time_and_keeps_nobody_waiting() {
    let (_dir, session) = session(Session::builder().timeout(Duration::from_millis(200)), 5);
    let slow = create_udf(
        "slow",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(|args| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(args[0].clone())
        }),
    );
    session.context().register_udf(slow);
    let begun = Instant::now();
    let beside = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        begun.elapsed()
    };
    let (asked, beside) = tokio::join!(session.sql("SELECT slow(1)"), beside);
    assert!(matches!(asked, Err(SqlError::TooSlow { .. })), "{asked:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for the end");
    assert!(beside < Duration::from_secs(4), "the runtime's only thread planned");
}

/// A join of each row with each other one is one long step to whoever waits for its result.
#[tokio::test]
async fn joins_without_end_are_within_the_time() {
    let (_dir, session) = session(Session::builder().timeout(Duration::from_millis(200)), 3000);
    for statement in [
        "SELECT sum(a.tokens + b.tokens + c.tokens) FROM t a CROSS JOIN t b CROSS JOIN t c",
        "SELECT count(*) FROM t a, t b, t c WHERE a.tokens + b.tokens < c.tokens + 1",
        "SELECT sum(a.tokens + b.tokens + c.tokens) FROM t a JOIN t b ON a.flags = b.flags JOIN t c ON a.flags = c.flags",
    ] {
        let begun = Instant::now();
        let asked = match session.sql(statement).await {
            Ok(rows) => rows.collect().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(matches!(asked, Err(SqlError::TooSlow { .. })), "{asked:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{statement} took {:?}", begun.elapsed());
    }
}

/// Whoever walks through a tree, or drops it, needs stack for each level; a thread of tokio's has 2 MiB.
#[test]
fn statements_that_are_too_long_or_too_deep_are_refused() {
    let asked = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, session) = session(Session::builder(), 100);
            let chain = |terms: usize| format!("SELECT length(note){} AS n FROM t", "+1".repeat(terms));
            let rows = session.sql(&chain(400)).await.unwrap().collect().await.unwrap();
            assert!(!rows.is_empty());
            let terms = |terms: usize| {
                let terms: Vec<_> =
                    (0..terms).map(|term| format!("length(note) + tokens = {term}")).collect();
                format!("SELECT id FROM t WHERE {}", terms.join(" OR "))
            };
            session.sql(&terms(400)).await.unwrap().collect().await.unwrap();
            let unions = vec!["SELECT 1"; 1000].join(" UNION ALL ");
            for deep in [chain(600), chain(4000), chain(32_000), terms(1000), unions] {
                let refused = session.sql(&deep).await.map(|_| ()).unwrap_err();
                assert!(matches!(refused, SqlError::TooLarge { .. }), "{refused:?}");
                assert!(refused.to_string().contains("levels"), "{refused}");
            }
            let doubled: Vec<_> = (1..40)
                .map(|n| format!("a{n} AS (SELECT * FROM a{m} UNION ALL SELECT * FROM a{m})", m = n - 1))
                .collect();
            let doubled = format!("WITH a0 AS (SELECT 1), {} SELECT count(*) FROM a39", doubled.join(", "));
            let refused = session.sql(&doubled).await.map(|_| ()).unwrap_err();
            assert!(refused.to_string().contains("tables"), "{refused}");
            let refused = session.sql(&chain(1 << 20)).await.map(|_| ()).unwrap_err();
            assert!(refused.to_string().contains("statement_limit_bytes"), "{refused}");
        });
    });
    asked.unwrap().join().unwrap();
}
