//! What goes down into the engine, as `EXPLAIN` shows it: that answers are right says nothing about who computed them.

use arrow::array::Array;
use fastrand::Rng;
use keplordb_sql::Session;
use tempfile::TempDir;

use crate::fixture::{fill, store};

fn session(partitions: usize) -> (TempDir, Session) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for _ in 0..3 {
        for place in 0..40 {
            store.append(crate::fixture::event(&store, &mut Rng::with_seed(place as u64), place)).unwrap();
        }
        store.flush().unwrap();
    }
    let session = Session::builder().partitions(partitions).batch_rows(16).build().unwrap();
    session.register("t", store);
    (dir, session)
}

/// The physical plan of a statement, a line for each node.
pub(crate) async fn plan(session: &Session, statement: &str) -> String {
    let rows =
        session.sql(&format!("EXPLAIN FORMAT INDENT {statement}")).await.unwrap().collect().await.unwrap();
    let column = rows[0].column(1);
    let texts = datafusion::common::cast::as_string_array(column).unwrap();
    texts.value(texts.len() - 1).trim_end().to_owned()
}

/// The conditions of a scan, and whether some are left to `DataFusion`.
async fn conditions(session: &Session, condition: &str) -> (String, bool) {
    let plan = plan(session, &format!("SELECT id FROM t WHERE {condition}")).await;
    let filter =
        plan.split_once("filter=[").and_then(|(_, rest)| rest.split_once("], ")).map(|(filter, _)| filter);
    (filter.unwrap_or_default().to_owned(), plan.contains("FilterExec"))
}

#[tokio::test]
async fn conditions_that_the_engine_decides_exactly_go_down() {
    let (_dir, session) = session(2);
    for condition in [
        "status = 200",
        "200 = status",
        "status <> 404",
        "status IN (200, 404, 500)",
        "status BETWEEN 200 AND 299",
        "status = 70000",
        "status & 4 = 4 OR flags & 4 = 4",
        "flags & 4 = 4",
        "flags & 3 = 3",
        "flags & 2 <> 0",
        "tokens >= 10 AND tokens < 20",
        "latency_ms > 4294967296",
        "metric = 1 OR NOT (metric = 2)",
        "sequence <= 9",
        "ts >= TIMESTAMP '2023-11-15 00:00:00' AND ts < TIMESTAMP '2023-11-16 00:00:00'",
        "ts = '2023-11-14T22:13:20Z'",
        "ts > DATE '2023-11-15'",
        "CAST(ts AS DATE) = DATE '2023-11-15'",
        "arrow_cast(ts, 'Timestamp(Second, None)') < arrow_cast(1700000000, 'Timestamp(Second, None)')",
        "ts BETWEEN '2023-11-14T23:00:00+02:00' AND '2023-11-15T23:00:00+02:00'",
        "ts_ns < 1700000000000000000",
        "\"user\" = 'alice'",
        "\"user\" <> 'alice'",
        "\"user\" IN ('alice', 'bob', 'carol', 'dave')",
        "\"user\" LIKE 'al%'",
        "model LIKE '%1'",
        "note NOT LIKE '%hills%'",
        "note LIKE 'al\\_%'",
        "id LIKE 'id-1%'",
        "id = 'id-7'",
        "starts_with(note, 'al')",
        "(status = 200 AND \"user\" = 'alice') OR (status = 404 AND NOT (model = 'm1' OR model = 'm2'))",
        "(\"user\" = 'alice') IS NOT TRUE",
    ] {
        let (filter, is_left) = conditions(&session, condition).await;
        let is_below = !filter.is_empty() && !is_left;
        // Of a column that has no flags the engine has no such test.
        assert_eq!(
            is_below,
            !condition.contains("status & 4"),
            "{condition}: scan has [{filter}], filter above: {is_left}"
        );
    }
}

#[tokio::test]
async fn conditions_that_may_be_decided_otherwise_stay() {
    let (_dir, session) = session(2);
    for condition in [
        "\"user\" > 'alice'",
        "\"user\" ILIKE 'AL%'",
        "lower(\"user\") = 'alice'",
        "\"user\" LIKE 'a_i%'",
        "\"user\" LIKE 'a%e'",
        "\"user\" LIKE 'al\\'",
        "status = 200.5",
        "status + 1 = 201",
        "status = tokens",
        "date_part('hour', ts) = 22",
        "tokens IN (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, \
         57, 59, 61, 63, 65, 67)",
        "random() < 0.5",
        "flags & 6 <> 0",
        "\"user\" IN (SELECT model FROM t)",
    ] {
        let (filter, _) = conditions(&session, condition).await;
        assert_eq!(filter, "", "{condition}");
    }
    // Of a conjunction, what can go down does.
    let (filter, is_left) = conditions(&session, "status = 200 AND lower(\"user\") = 'alice'").await;
    assert!(filter.contains("status") && !filter.contains("lower") && is_left, "{filter}");
}

#[tokio::test]
async fn a_deep_tree_of_conditions_stays_and_a_long_chain_goes_down() {
    let (_dir, session) = session(2);
    let chain: Vec<_> = (0..300).map(|place| format!("(tokens = {place} AND status = {place})")).collect();
    let (filter, is_left) = conditions(&session, &chain.join(" OR ")).await;
    assert!(!filter.is_empty() && !is_left);
}

#[tokio::test]
async fn the_newest_rows_come_in_order_and_no_more_than_asked_for() {
    let (_dir, session) = session(2);
    let statements = [
        "SELECT id FROM t ORDER BY ts DESC LIMIT 10",
        "SELECT id, ts_ns FROM t WHERE \"user\" = 'bob' ORDER BY ts_ns, sequence LIMIT 3 OFFSET 2",
        "SELECT ts, id FROM t ORDER BY ts DESC, sequence DESC",
    ];
    let mut plans = Vec::new();
    for statement in statements {
        plans.push(plan(&session, statement).await);
    }
    let expected = [
        "\
ProjectionExec: expr=[id@0 as id]
  SortPreservingMergeExec: [ts@1 DESC], fetch=10
    ProjectionExec: expr=[id@1 as id, ts@0 as ts]
      KeplorScan: columns=[ts, id], order=newest first, fetch=10, partitions=1",
        "\
ProjectionExec: expr=[id@0 as id, ts_ns@1 as ts_ns]
  GlobalLimitExec: skip=2, fetch=3
    SortPreservingMergeExec: [ts_ns@1 ASC NULLS LAST, sequence@2 ASC NULLS LAST], fetch=5
      ProjectionExec: expr=[id@1 as id, ts_ns@0 as ts_ns, sequence@2 as sequence]
        KeplorScan: columns=[ts_ns, id, sequence], filter=[user = Utf8View(\"bob\")], order=oldest first, fetch=5, partitions=1",
        "\
ProjectionExec: expr=[ts@0 as ts, id@1 as id]
  SortPreservingMergeExec: [ts@0 DESC, sequence@2 DESC]
    BufferExec: capacity=1048576
      KeplorScan: columns=[ts, id, sequence], order=newest first, partitions=1",
    ];
    assert_eq!(plans, expected);
    for order in ["ts DESC, sequence", "sequence DESC", "status", "ts, id"] {
        let plan = plan(&session, &format!("SELECT * FROM t ORDER BY {order} LIMIT 10")).await;
        assert!(plan.contains("SortExec: TopK(fetch=10)"), "{order}: {plan}");
    }
}

#[tokio::test]
async fn a_limit_ends_the_scan() {
    let (_dir, session) = session(2);
    assert_eq!(
        plan(&session, "SELECT id FROM t WHERE status = 200 LIMIT 7").await,
        "\
CoalescePartitionsExec: fetch=7
  KeplorScan: columns=[id], filter=[status = Int32(200)], fetch=7, partitions=2"
    );
}

#[tokio::test]
async fn only_columns_that_are_used_are_read() {
    let (_dir, session) = session(1);
    assert_eq!(
        plan(&session, "SELECT sum(tokens) FROM t WHERE status = 200 AND length(note) > 3").await,
        "\
AggregateExec: mode=Single, gby=[], aggr=[sum(t.tokens)]
  FilterExec: character_length(note@1) > 3, projection=[tokens@0]
    KeplorScan: columns=[tokens, note], filter=[status = Int32(200)], partitions=1"
    );
}

#[tokio::test]
async fn a_count_and_the_bounds_of_time_need_no_scan() {
    let (_dir, session) = session(2);
    let statement = "SELECT count(*), min(ts), max(ts), min(ts_ns), count(status) FROM t";
    let found = plan(&session, statement).await;
    assert!(!found.contains("Keplor") && found.contains("PlaceholderRowExec"), "{found}");

    // With rows that were deleted the count is exact still; the bounds may be those of a row that is gone.
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fill(&store, &mut Rng::with_seed(1), 100, 1);
    session.register("deleted", store);
    let count = plan(&session, "SELECT count(*) FROM deleted").await;
    assert!(!count.contains("Keplor"), "{count}");
    let bounds = plan(&session, "SELECT min(ts) FROM deleted").await;
    assert!(bounds.contains("KeplorAggregate"), "{bounds}");
}

#[tokio::test]
async fn a_count_with_conditions_reads_no_column() {
    let (_dir, session) = session(2);
    let found = plan(&session, "SELECT count(*) FROM t WHERE \"user\" = 'bob'").await;
    assert!(found.contains("KeplorAggregate: groups=[], aggregates=[count(Int64(1))], filter=["), "{found}");
}
