//! What a statement sees: rows from when they were appended on, each table as it is at one moment, and the past.

use fastrand::Rng;
use keplordb_sql::{AsOf, KeplorTable, Session};

use crate::fixture::{START_NS, event, fill, schema, shown, store};

async fn ask(session: &Session, statement: &str) -> String {
    let rows = session.sql(statement).await.unwrap();
    let schema = rows.schema().clone();
    let lines = shown(&schema, &rows.collect().await.unwrap(), true);
    let line = lines.lines().filter(|line| line.starts_with('|')).nth(1).unwrap_or_default();
    line.trim_matches(['|', ' ']).to_owned()
}

#[tokio::test]
async fn rows_are_seen_from_when_they_were_appended_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let session = Session::builder().build().unwrap();
    session.register("t", store.clone());
    session.register("beside", KeplorTable::open(dir.path()).unwrap());
    for count in 0..5 {
        assert_eq!(ask(&session, "SELECT count(*) FROM t").await, count.to_string());
        assert_eq!(ask(&session, "SELECT count(*) FROM beside").await, count.to_string());
        store.append(store.event(START_NS + count)).unwrap();
        if count == 2 {
            store.flush().unwrap();
        }
    }
}

/// All mentions of a table in a statement see the same rows, though another thread appends all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_sees_a_table_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let session = Session::builder().build().unwrap();
    session.register("t", store.clone());
    session.register("beside", KeplorTable::open(dir.path()).unwrap());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        move || {
            let mut rng = Rng::with_seed(5);
            let mut place = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store.append(event(&store, &mut rng, place)).unwrap();
                place += 1;
                if place % 500 == 0 {
                    store.flush().unwrap();
                }
            }
        }
    });
    let mut counts = Vec::new();
    for table in ["t", "beside"].into_iter().cycle().take(60) {
        let statement = format!(
            "SELECT (SELECT count(*) FROM {table}) - (SELECT count(sequence) FROM {table} WHERE metric IN (0, 1, -1, 200, \
             9223372036854775807, -9223372036854775808, 2147483648)), (SELECT max(sequence) FROM {table}) - \
             (SELECT sequence FROM {table} ORDER BY sequence DESC LIMIT 1)"
        );
        let answer = ask(&session, &statement).await;
        // Of no rows, there is no greatest sequence.
        assert!(answer.split('|').all(|number| matches!(number.trim(), "0" | "")), "{table}: {answer}");
        counts.push(ask(&session, "SELECT count(*) FROM t").await.parse::<u64>().unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert!(counts.is_sorted() && counts.first() < counts.last(), "rows were appended meanwhile: {counts:?}");
}

#[tokio::test]
async fn a_pinned_table_never_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fill(&store, &mut Rng::with_seed(3), 100, 2);
    let before = KeplorTable::from(store.clone()).pinned().unwrap();
    let session = Session::builder().build().unwrap();
    session.register("t", (*before).clone());
    let statement = "SELECT count(*), sum(tokens), max(sequence), min(ts) FROM t";
    let answer = ask(&session, statement).await;
    store.append(store.event(1).set("tokens", 7).unwrap()).unwrap();
    store.delete(&["id-50", "id-99"]).unwrap();
    store.compact(keplordb::Budget::UNLIMITED).unwrap();
    assert_eq!(ask(&session, statement).await, answer);
}

#[tokio::test]
async fn a_table_at_an_instant_has_the_rows_up_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for place in 0..10_i64 {
        // Sequences ascend while times descend.
        store.append(store.event(START_NS - place).set("tokens", place).unwrap()).unwrap();
        if place == 4 {
            store.flush().unwrap();
        }
    }
    let table = KeplorTable::from(store.clone());
    let sequence = |place: i64| {
        let rows = store.query().between(START_NS - place..=START_NS - place).rows().unwrap();
        u64::try_from(rows[0].int("sequence").unwrap()).unwrap()
    };
    let session = Session::builder().build().unwrap();
    session.register("by_sequence", (*table.at(AsOf::Sequence(sequence(6)))).clone());
    session.register("by_time", (*table.at(AsOf::Time { ts_ns: START_NS - 3 })).clone());
    let both = table.at(AsOf::Time { ts_ns: START_NS - 3 }).at(AsOf::Sequence(sequence(6)));
    session
        .register("both", (*both.at(AsOf::Sequence(sequence(8))).at(AsOf::Time { ts_ns: START_NS })).clone());
    let tokens = async |table: &str| {
        let count = ask(&session, &format!("SELECT count(*) FROM {table}")).await;
        let bounds =
            ask(&session, &format!("SELECT min(tokens), max(tokens), min(ts_ns) FROM {table}")).await;
        (count, bounds.split('|').take(2).map(str::trim).collect::<Vec<_>>().join("-"))
    };
    assert_eq!(tokens("by_sequence").await, ("7".into(), "0-6".into()));
    assert_eq!(tokens("by_time").await, ("7".into(), "3-9".into()));
    assert_eq!(tokens("both").await, ("4".into(), "3-6".into()));
}

/// A table whose own column has the name of the timestamp, and names that need quotes.
#[tokio::test]
async fn names_of_columns_are_those_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let schema = keplordb::TableSchema::new(9).dim("ts").dim("Mixed Case").counter("select");
    let store = keplordb::any::AnyStore::open_or_create(dir.path().join("t"), schema).unwrap();
    let row =
        store.event(7).set("ts", "later").unwrap().set("Mixed Case", "x").unwrap().set("select", 5).unwrap();
    store.append(row).unwrap();
    let session = Session::builder().build().unwrap();
    session.register("t", store);
    let statement = "SELECT ts, ts_ns, \"Mixed Case\", \"select\" FROM t WHERE ts = 'later' AND \"Mixed Case\" LIKE 'x%' ORDER BY ts";
    let cells: Vec<_> =
        ask(&session, statement).await.split('|').map(|cell| cell.trim().to_owned()).collect();
    assert_eq!(cells, ["later", "7", "x", "5"]);
    assert_eq!(ask(&session, "SELECT max(ts) FROM t").await, "later");
}

/// Columns that were added after rows were written are 0 or empty in those.
#[tokio::test]
async fn columns_younger_than_rows_are_empty_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let old = store(dir.path());
    old.append(old.event(START_NS).set("user", "alice").unwrap()).unwrap();
    old.flush().unwrap();
    old.append(old.event(START_NS + 1).set("user", "bob").unwrap()).unwrap();
    drop(old);
    let wider = schema().dim("region").counter("cents").label("extra");
    let store = keplordb::any::AnyStore::open_or_create(dir.path(), wider).unwrap();
    store.append(store.event(START_NS + 2).set("region", "eu").unwrap().set("cents", 5).unwrap()).unwrap();
    let session = Session::builder().build().unwrap();
    session.register("t", store);
    assert_eq!(
        ask(&session, "SELECT count(*), sum(cents) FROM t WHERE region = '' AND extra = ''")
            .await
            .replace(' ', ""),
        "2|0"
    );
    assert_eq!(ask(&session, "SELECT count(*) FROM t WHERE region LIKE 'e%' AND cents > 4").await, "1");
}
