//! Questions in SQL and RQL against a naive fold of a prefix of the events: whatever was published in between, every table at every instant is
//! that fold. What is refused, and that an acknowledged event is in the next answer.

#![cfg(feature = "sql")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use common::serving;
use futures::TryStreamExt as _;
use keplordb_server::rql::Query;
use keplordb_server::{
    Capture, EntityEvent, Fold, Instant, LogInstant, Operation, QueryError, Record, Selection, Sql,
    SqlOptions, versions,
};
use keplordb_sql::SqlError;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Rows as texts; null is empty.
async fn rows(sql: &Sql, statement: &str) -> Result<Vec<Vec<String>>, QueryError> {
    rows_at(sql, statement, LogInstant::default()).await
}

async fn rows_at(sql: &Sql, statement: &str, default: LogInstant) -> Result<Vec<Vec<String>>, QueryError> {
    let batches: Vec<_> = sql.ask(statement, default).await?.try_collect().await?;
    let text = |batch: &arrow::array::RecordBatch, row: usize| {
        batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect()
    };
    Ok(batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| text(batch, row))).collect())
}

/// An instant, and how it is called in a statement.
#[derive(Debug, Clone, Copy, Default)]
struct When(LogInstant);

impl When {
    fn call(self) -> String {
        let LogInstant { instant, sequence } = self.0;
        let time = |name: &str, ms: i64| format!("{name} => to_timestamp_millis({ms})");
        let arguments = [
            sequence.map(|sequence| format!("seq => {sequence}")),
            instant.as_of_ms.map(|ms| time("as_of", ms)),
            instant.known_at_ms.map(|ms| time("known_at", ms)),
        ];
        let arguments: Vec<String> = arguments.into_iter().flatten().collect();
        if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) }
    }

    fn sees(self, event: &EntityEvent) -> bool {
        self.0.instant.sees(event) && self.0.sequence.is_none_or(|last| event.sequence <= last)
    }
}

/// The events of each entity that an instant sees, in the order in which they count.
fn histories(events: &[EntityEvent], when: When) -> BTreeMap<(String, String), Vec<EntityEvent>> {
    let mut all: BTreeMap<_, Vec<EntityEvent>> = BTreeMap::new();
    for event in events.iter().filter(|event| when.sees(event)) {
        all.entry((event.entity_type.clone(), event.entity_id.clone())).or_default().push(event.clone());
    }
    for history in all.values_mut() {
        history.sort_by_key(|event| (event.event_time_ms, event.source_version, event.sequence));
    }
    all
}

fn folded(history: &[EntityEvent]) -> Fold {
    let mut fold = Fold::default();
    for event in history {
        fold.apply(event.operation, event.payload.clone());
    }
    fold
}

/// Type, id, state, version and sequence of the live entities.
fn live(events: &[EntityEvent], when: When) -> Vec<[String; 5]> {
    let all = histories(events, when);
    let row = |((kind, id), history): (&(String, String), &Vec<EntityEvent>)| {
        let fold = folded(history);
        let state = Value::Object(fold.state()?.clone()).to_string();
        Some([
            kind.clone(),
            id.clone(),
            state,
            fold.version().to_string(),
            history.last()?.sequence.to_string(),
        ])
    };
    all.iter().filter_map(row).collect()
}

fn drawn(rng: &mut fastrand::Rng) -> Record {
    let operation = *rng
        .choice([Operation::Create, Operation::Update, Operation::Update, Operation::Delete].iter())
        .unwrap();
    let kind = if rng.u8(..4) == 0 { "Order" } else { "User" };
    let value = if rng.u8(..5) == 0 { Value::Null } else { json!(rng.u8(..9)) };
    let field = *rng.choice(["a", "b", "c.d"].iter()).unwrap();
    let mut record = Record::new(kind, format!("id_{}", rng.u8(..7)), operation)
        .json(&json!({field: value}))
        .at_ms(i64::from(rng.u8(..30)) * 1000);
    record.source_version = (rng.u8(..3) == 0).then(|| rng.u64(..3));
    record
}

/// Captures a history with publications in between, and gives its events.
async fn history(capture: &Capture, rng: &mut fastrand::Rng) -> Vec<EntityEvent> {
    for _ in 0..rng.usize(1..12) {
        // Those of a batch come in within one millisecond.
        let batch = (0..rng.usize(1..9)).map(|_| drawn(rng)).collect();
        capture.capture_batch(batch).await.unwrap();
        match rng.u8(..8) {
            0..3 => drop(capture.publish().unwrap()),
            3 => drop(capture.replay().unwrap()),
            _ => {}
        }
        if rng.bool() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    capture.log().events(&Selection::default(), None, usize::MAX).unwrap()
}

fn some_instant(events: &[EntityEvent], rng: &mut fastrand::Rng) -> When {
    let event = &events[rng.usize(..events.len())];
    let mut at = LogInstant::default();
    at.instant.as_of_ms = rng.bool().then(|| i64::from(rng.u8(..31)) * 1000 - i64::from(rng.u8(..2)));
    at.instant.known_at_ms = rng.bool().then(|| event.received_at_ms + rng.i64(-1..=1));
    at.sequence = (rng.u8(..3) == 0).then(|| events[rng.usize(..events.len())].sequence - rng.u64(..2));
    When(at)
}

const WHOLE_VERSIONS: &str = "SELECT entity_type, entity_id, version, op, state, array_to_string(changed, ','), \
    arrow_cast(valid_from, 'Int64'), arrow_cast(valid_to, 'Int64'), arrow_cast(known_from, 'Int64'), \
    arrow_cast(known_to, 'Int64'), seq FROM _versions";

/// All versions of all entities that an instant sees, sorted; times in microseconds. Of a sequence they say what a log would that ends
/// there.
fn whole_versions(events: &[EntityEvent], when: When) -> Vec<Vec<String>> {
    let us = |ms: i64| (ms * 1000).to_string();
    let LogInstant { instant: Instant { as_of_ms, known_at_ms }, sequence } = when.0;
    let within = |at: Option<i64>, from: i64, to: Option<i64>| match at {
        None => to.is_none(),
        Some(at) => from <= at && to.is_none_or(|to| at < to),
    };
    let up_to = When(LogInstant { sequence, ..LogInstant::default() });
    let mut all = Vec::new();
    for ((kind, id), history) in histories(events, up_to) {
        for version in versions(history) {
            let is_held = within(as_of_ms, version.valid_from_ms, version.valid_to_ms)
                && within(known_at_ms, version.known_from_ms, version.known_to_ms);
            if !when.0.is_now() && !is_held {
                continue;
            }
            all.push(vec![
                kind.clone(),
                id.clone(),
                version.version.to_string(),
                version.operation.as_str().to_owned(),
                version.state.map_or_else(String::new, |state| Value::Object(state).to_string()),
                version.changed.join(","),
                us(version.valid_from_ms),
                version.valid_to_ms.map_or_else(String::new, us),
                us(version.known_from_ms),
                version.known_to_ms.map_or_else(String::new, us),
                version.sequence.to_string(),
            ]);
        }
    }
    all.sort_unstable();
    all
}

/// All columns of `_versions` at an instant: also until when a row was known is the same, whatever is published.
async fn whole_rows_are_those_of_the_log(sql: &Sql, events: &[EntityEvent], when: When, told: &str) {
    let call = when.call();
    let mut found = rows(sql, &format!("{WHOLE_VERSIONS}{call}")).await.unwrap();
    found.sort_unstable();
    let wanted = whole_versions(events, when);
    assert_eq!(found, wanted, "{told}: whole rows of _versions");
    // What is asked of a column is asked of what it shows.
    let open = format!("SELECT count(*) FROM _versions{call} WHERE known_to IS NULL");
    let wanted = wanted.iter().filter(|row| row[9].is_empty()).count();
    assert_eq!(rows(sql, &open).await.unwrap(), [[wanted.to_string()]], "{told}: known to no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_at_every_instant_is_the_fold_of_what_had_happened_and_was_known() {
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let capture = Arc::new(Capture::open(dir.path()).unwrap());
        let events = history(&capture, &mut rng).await;
        let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
        let beside = Sql::beside(dir.path(), SqlOptions::default()).unwrap();
        let mut found = rows(&sql, WHOLE_VERSIONS).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, whole_versions(&events, When::default()), "seed {seed}: _versions");

        let some: Vec<When> = (0..8).map(|_| some_instant(&events, &mut rng)).collect();
        for when in [When::default()].into_iter().chain(some) {
            let told = format!("seed {seed}, {when:?}");
            let call = when.call();
            let wanted = live(&events, when);
            // By turns, as a statement takes milliseconds of planning.
            let sql = if rng.bool() { &sql } else { &beside };
            {
                let current = format!(
                    "SELECT entity_type, entity_id, state, version, last_seq FROM reflog._current{call} ORDER BY 1, 2"
                );
                assert_eq!(rows(sql, &current).await.unwrap(), wanted, "{told}: _current");
                let users: Vec<_> =
                    wanted.iter().filter(|row| row[0] == "User").map(|row| row[1..].to_vec()).collect();
                if events.iter().any(|event| event.entity_type == "User") {
                    let typed = format!("SELECT id, state, _version, _seq FROM users{call} AS u ORDER BY id");
                    assert_eq!(rows(sql, &typed).await.unwrap(), users, "{told}: users");
                    // A limit takes from those that meet the conditions, in the order that is asked for.
                    let first =
                        format!("SELECT id FROM users{call} WHERE _version > 1 ORDER BY _seq DESC LIMIT 2");
                    let mut wanted: Vec<_> = users.iter().filter(|row| row[2] != "1").collect();
                    wanted.sort_by_key(|row| std::cmp::Reverse(row[3].parse::<u64>().unwrap()));
                    let wanted: Vec<_> = wanted.into_iter().take(2).map(|row| vec![row[0].clone()]).collect();
                    assert_eq!(rows(sql, &first).await.unwrap(), wanted, "{told}: two users");
                    let any = format!(
                        "SELECT count(*) FROM (SELECT id FROM users{call} WHERE _version > 1 LIMIT 2)"
                    );
                    assert_eq!(
                        rows(sql, &any).await.unwrap(),
                        [[wanted.len().to_string()]],
                        "{told}: any two"
                    );
                    let one =
                        format!("SELECT id, state, _version, _seq FROM \"user\"{call} WHERE id = 'id_3'");
                    let wanted: Vec<_> = users.iter().filter(|row| row[0] == "id_3").cloned().collect();
                    assert_eq!(rows(sql, &one).await.unwrap(), wanted, "{told}: one user");
                }
                let seen = format!("SELECT seq FROM _events{call} ORDER BY seq");
                let wanted: Vec<_> = events
                    .iter()
                    .filter(|event| when.sees(event))
                    .map(|event| vec![event.sequence.to_string()])
                    .collect();
                assert_eq!(rows(sql, &seen).await.unwrap(), wanted, "{told}: _events");
                let some = format!(
                    "SELECT seq FROM _events{call} WHERE entity_type = 'User' AND entity_id IN ('id_1', 'id_5') AND op <> 'DELETE' \
                     ORDER BY seq"
                );
                let wanted: Vec<_> = events
                    .iter()
                    .filter(|event| when.sees(event) && event.entity_type == "User")
                    .filter(|event| ["id_1", "id_5"].contains(&event.entity_id.as_str()))
                    .filter(|event| event.operation != Operation::Delete)
                    .map(|event| vec![event.sequence.to_string()])
                    .collect();
                assert_eq!(rows(sql, &some).await.unwrap(), wanted, "{told}: some events");
                if !call.is_empty() {
                    let held = format!(
                        "SELECT entity_type, entity_id, op, version, seq, state FROM _versions{call} ORDER BY 1, 2"
                    );
                    let last = |((kind, id), history): ((String, String), Vec<EntityEvent>)| {
                        let last = history.last().unwrap();
                        let version = history.len().to_string();
                        let state = folded(&history).state().cloned();
                        let state = state.map_or_else(String::new, |state| Value::Object(state).to_string());
                        let operation = last.operation.as_str().to_owned();
                        vec![kind, id, operation, version, last.sequence.to_string(), state]
                    };
                    let wanted: Vec<_> = histories(&events, when).into_iter().map(last).collect();
                    assert_eq!(rows(sql, &held).await.unwrap(), wanted, "{told}: _versions");
                    whole_rows_are_those_of_the_log(sql, &events, when, &told).await;
                }
                // The statement's instant is that of tables without a clause.
                let bare =
                    "SELECT entity_type, entity_id, state, version, last_seq FROM _current ORDER BY 1, 2";
                assert_eq!(
                    rows_at(sql, bare, when.0).await.unwrap(),
                    live(&events, when),
                    "{told}: by default"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_event_is_in_the_next_answer() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Arc::new(Capture::open(dir.path()).unwrap());
    let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
    let beside = Sql::beside(dir.path(), SqlOptions::default()).unwrap();
    for n in 0..30 {
        let receipt = capture
            .capture(Record::new("User", "user_1", Operation::Update).json(&json!({"n": n})))
            .await
            .unwrap();
        if n % 7 == 3 {
            capture.publish().unwrap();
        }
        for sql in [&sql, &beside] {
            let found = rows(sql, "SELECT state, _seq FROM users").await.unwrap();
            assert_eq!(found, [[format!("{{\"n\":{n}}}"), receipt.sequence.to_string()]]);
        }
    }
}

const SCHEMA: &str = r#"
syntax = "proto3";
package reflog.v1;
import "options.proto";
message User { string name = 1; int64 visits = 2; repeated string tags = 3; Address address = 4; bool live = 5; message Address { string city = 1; } }
message Review { string user_id = 1 [(foreign_key) = "User.id", (relationship_type) = "many_to_one"]; uint32 stars = 2; }
"#;

fn at(kind: &str, id: &str, time_ms: i64, payload: &Value) -> Record {
    Record::new(kind, id, Operation::Update).json(payload).at_ms(time_ms)
}

/// A root with a schema, three users and their reviews, half of it published.
async fn reviewed(root: &std::path::Path) -> Arc<Capture> {
    let capture = Arc::new(Capture::open(root).unwrap());
    capture.push_schema_text("custom.proto".as_ref(), SCHEMA).unwrap();
    let first = vec![
        at(
            "User",
            "u1",
            1000,
            &json!({"name": "Ada", "visits": "9007199254740993", "tags": ["new", "vip"], "address": {"city": "London"}}),
        ),
        at("User", "u2", 1000, &json!({"name": "Bob", "live": true})),
        at("Review", "r1", 2000, &json!({"user_id": "u1", "stars": 4})),
    ];
    capture.capture_batch(first).await.unwrap();
    capture.publish().unwrap();
    let second = vec![
        at("User", "u3", 3000, &json!({"name": "Cy", "visits": 3})),
        at("User", "u1", 4000, &json!({"name": "Ada L."})),
        at("Review", "r2", 4000, &json!({"user_id": "u1", "stars": 5})),
        at("Review", "r3", 5000, &json!({"user_id": "u3", "stars": 1})),
    ];
    capture.capture_batch(second).await.unwrap();
    capture
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_schema_are_columns() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::of(reviewed(dir.path()).await, SqlOptions::default()).unwrap();
    let found = rows(&sql, "SELECT id, name, visits, address['city'], live FROM users WHERE visits > 5")
        .await
        .unwrap();
    assert_eq!(found, [["u1", "Ada L.", "9007199254740993", "London", ""]]);
    let joined = "SELECT u.name, sum(r.stars) FROM users u JOIN reviews r ON r.user_id = u.id GROUP BY u.name ORDER BY 1";
    assert_eq!(rows(&sql, joined).await.unwrap(), [["Ada L.", "9"], ["Cy", "1"]]);
    let two = "SELECT old.name, new.name FROM users AS OF TIMESTAMP '1970-01-01 00:00:02' AS old JOIN users new USING (id) \
               WHERE old.name <> new.name";
    assert_eq!(rows(&sql, two).await.unwrap(), [["Ada", "Ada L."]]);
    // A union of two instants is not taken for one.
    let union = "SELECT count(*) FROM users AS OF TIMESTAMP '1970-01-01 00:00:02' UNION ALL SELECT count(*) FROM users ORDER BY 1";
    assert_eq!(rows(&sql, union).await.unwrap(), [["2"], ["3"]]);
    let subquery = "SELECT name FROM users WHERE id IN (SELECT user_id FROM reviews WHERE stars > 4) AND visits = (SELECT max(visits) FROM users)";
    assert_eq!(rows(&sql, subquery).await.unwrap(), [["Ada L."]]);
    assert_eq!(rows(&sql, "SELECT count(*) FROM users").await.unwrap(), [["3"]]);
    let history = "SELECT op, payload FROM reflog_history('users', 'u1')";
    assert_eq!(rows(&sql, history).await.unwrap().len(), 2);
    let blame = "SELECT field, value, previous FROM reflog_blame('User', 'u1') WHERE field = 'name'";
    assert_eq!(rows(&sql, blame).await.unwrap(), [["name", "\"Ada L.\"", "\"Ada\""]]);
    let diff = "SELECT field, before, after FROM reflog_diff('user', 'u1', '1970-01-01 00:00:01', '1970-01-01 00:00:09')";
    assert_eq!(rows(&sql, diff).await.unwrap(), [["name", "\"Ada\"", "\"Ada L.\""]]);
    // A call is not taken for one with other arguments.
    let calls = "SELECT (SELECT count(*) FROM reflog_history('users', 'u1')) AS a, \
                 (SELECT count(*) FROM reflog_history('users', 'nobody')) AS b";
    assert_eq!(rows(&sql, calls).await.unwrap(), [["2", "0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_spellings_of_time_travel_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let capture = reviewed(dir.path()).await;
    let events = capture.log().events(&Selection::default(), None, usize::MAX).unwrap();
    let sql = Sql::of(capture, SqlOptions::default()).unwrap();
    let then = [
        "users AS OF TIMESTAMP '1970-01-01 00:00:02'",
        "users AS OF '1970-01-01T00:00:02Z'",
        "users TIMESTAMP AS OF '1970-01-01 00:00:02'",
        "users AT (TIMESTAMP => '1970-01-01 00:00:02')",
        "users(as_of => '1970-01-01 00:00:02')",
        "reflog.users AS OF TIMESTAMP '1970-01-01 00:00:02'",
        "\"User\" AS OF TIMESTAMP '1970-01-01 00:00:02'",
    ];
    for table in then {
        let found = rows(&sql, &format!("SELECT u.name FROM {table} AS u ORDER BY 1")).await.unwrap();
        assert_eq!(found, [["Ada"], ["Bob"]], "{table}");
    }
    let third = events[2].sequence;
    for table in [
        format!("users AS OF SEQUENCE {third}"),
        format!("users VERSION AS OF {third}"),
        format!("users AT (VERSION => {third})"),
        format!("users(seq => {third})"),
    ] {
        assert_eq!(
            rows(&sql, &format!("SELECT name FROM {table} ORDER BY 1")).await.unwrap(),
            [["Ada"], ["Bob"]],
            "{table}"
        );
    }
    for table in [
        "users FOR SYSTEM_TIME AS OF '1999-01-01'",
        "users AS OF SYSTEM TIME '1999-01-01'",
        "users(known_at => '1999-01-01')",
    ] {
        assert!(rows(&sql, &format!("SELECT name FROM {table}")).await.unwrap().is_empty(), "{table}");
    }
    for statement in [
        "SELECT * FROM users FOR SYSTEM_TIME BETWEEN '1' AND '2'",
        "SELECT * FROM users u AS OF '2024-01-01'",
        "SELECT * FROM users AS OF id",
    ] {
        assert!(rows(&sql, statement).await.is_err(), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::of(reviewed(dir.path()).await, SqlOptions::default()).unwrap();
    let hostile = [
        "DROP TABLE users",
        "INSERT INTO users SELECT * FROM users",
        "DELETE FROM _events",
        "UPDATE users SET name = 'x'",
        "CREATE TABLE t AS SELECT * FROM users",
        "CREATE VIEW v AS SELECT * FROM users",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT * FROM users) TO '/tmp/users.csv'",
        "COPY users TO 's3://bucket/users.parquet'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SET datafusion.execution.batch_size = 1",
        "SET reflog.as_of = '2024-01-01'",
        "RESET datafusion.execution.batch_size",
        "SELECT 1; DROP TABLE users",
        "EXPLAIN INSERT INTO users SELECT * FROM users",
        "PREPARE p AS DELETE FROM users",
        "EXECUTE p",
        "BEGIN",
        "SELECT * INTO t FROM users",
        "ATTACH DATABASE 'x' AS y",
        "",
        "SELECT",
    ];
    for statement in hostile {
        assert!(rows(&sql, statement).await.is_err(), "{statement}");
    }
    assert_eq!(rows(&sql, "SELECT count(*) FROM users").await.unwrap(), [["3"]]);
    assert_eq!(rows(&sql, "SHOW TABLES").await.unwrap().iter().filter(|row| row[1] == "reflog").count(), 5);
}

/// Names of types are those of tables; what is not free is refused or means what is built in, and no name is a path.
#[tokio::test(flavor = "multi_thread")]
async fn names_mean_one_table_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Arc::new(Capture::open(dir.path()).unwrap());
    let record = |kind: &str, id: &str| {
        Record::new(kind, id, Operation::Create).json(&json!({"id": 5, "state": kind}))
    };
    for (n, kind) in ["User", "Users", "Address", "select", "Category", "events"].into_iter().enumerate() {
        capture.capture(record(kind, &format!("i{n}"))).await.unwrap();
    }
    // Ids are texts as they are.
    for id in ["it's", "a\"b", "../../x", "%_", "ü 😀", "-- x"] {
        capture.capture(record("Odd", id)).await.unwrap();
    }
    for kind in ["_events", "_current", "a.b", "../x", "a b", "a;b", "\"x\""] {
        capture.capture(record(kind, "i")).await.unwrap_err();
    }
    for is_published in [false, true] {
        if is_published {
            capture.publish().unwrap();
        }
        let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
        let cases = [
            ("\"User\"", "i0"),
            ("user", "i0"),
            ("reflog.\"Users\"", "i1"),
            ("addresses", "i2"),
            ("ADDRESS", "i2"),
            ("\"select\"", "i3"),
            ("selects", "i3"),
            ("categories", "i4"),
            ("events", "i5"),
        ];
        for (table, id) in cases {
            assert_eq!(rows(&sql, &format!("SELECT id FROM {table}")).await.unwrap(), [[id]], "{table}");
        }
        assert_eq!(rows(&sql, "SELECT count(*) FROM _events").await.unwrap(), [["12"]]);
        let ambiguous = rows(&sql, "SELECT id FROM users").await.unwrap_err().to_string();
        assert!(ambiguous.contains("may be User or Users"), "{ambiguous}");
        for table in ["\"../_meta\"", "\"odds/../odds\"", "\"_meta/CURRENT\"", "other.odds", "\"\""] {
            assert!(rows(&sql, &format!("SELECT * FROM {table}")).await.is_err(), "{table}");
        }
        for (written, id) in [
            ("'it''s'", "it's"),
            ("'a\"b'", "a\"b"),
            ("'../../x'", "../../x"),
            ("'%_'", "%_"),
            ("'-- x'", "-- x"),
        ] {
            let found = rows(&sql, &format!("SELECT id FROM odds WHERE id = {written}")).await.unwrap();
            assert_eq!(found, [[id]], "{written}");
        }
        assert_eq!(rows(&sql, "SELECT count(*) FROM odds WHERE id LIKE '%x'").await.unwrap(), [["2"]]);
        let answer = sql.rql(&Query::parse("entity:odd where:(id=\"ü 😀\")").unwrap(), None).await.unwrap();
        assert_eq!(answer.entities.len(), 1);
    }
}

/// Files that were made of another log are no answer, such as those that are left in a root whose log was restored.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_log_are_not_read() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let capture = Capture::open(one.path()).unwrap();
    for id in ["a", "b", "c"] {
        capture.capture(at("User", id, 1, &json!({"n": 1}))).await.unwrap();
    }
    capture.publish().unwrap();
    capture.close().unwrap();
    for events in 1..3 {
        // What was asked before may be about to end.
        let mut capture = Capture::open(other.path());
        for _ in 0..100 {
            if capture.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            capture = Capture::open(other.path());
        }
        let capture = Arc::new(capture.unwrap());
        capture.capture(at("User", &format!("x{events}"), 2, &json!({"n": 2}))).await.unwrap();
        if events == 1 {
            for name in ["lake", ".gen", ".live", "_meta"] {
                let copied = std::process::Command::new("cp")
                    .arg("-a")
                    .arg(one.path().join(name))
                    .arg(other.path())
                    .status();
                assert!(copied.unwrap().success());
            }
        }
        let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
        let wanted: Vec<_> = (1..=events).map(|n| vec![format!("x{n}")]).collect();
        // Where the log has later events than the files, but not their last one, nothing says whose they are until they are made anew.
        if events > 1 {
            let error = rows(&sql, "SELECT id FROM users").await.unwrap_err();
            assert!(
                matches!(error, QueryError::Overlay(_)) && error.to_string().contains("keplor replay"),
                "{error}"
            );
            // It may be the log that is wrong: nobody makes them anew, not even who is asked to, of one that may have lost their events.
            capture.publish().unwrap_err();
            let error = capture.replay().unwrap_err().to_string();
            assert!(error.contains("of the 3 events that are published"), "{error}");
            break;
        }
        for table in ["users", "users AS OF TIMESTAMP '2024-01-01'"] {
            let found = rows(&sql, &format!("SELECT id FROM {table} ORDER BY id")).await.unwrap();
            assert_eq!(found, wanted, "{table}");
        }
    }
}

async fn answers(sql: &Sql, asked: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for statement in asked {
        all.push(rows(sql, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}")));
    }
    all
}

/// What the log has dropped after it was published is answered from the files, and what it has dropped before is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_dropped_is_read_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let asked = [
        "SELECT id, name, visits, _version, _seq FROM users ORDER BY id",
        "SELECT entity_type, entity_id, state, version, first_seq FROM _current ORDER BY 1, 2",
        "SELECT seq, payload FROM _events ORDER BY seq",
        "SELECT entity_id, version, seq, known_to FROM _versions ORDER BY 1, 2, 3, 4",
        "SELECT entity_id, version, seq, known_to FROM _versions AS OF SEQUENCE 5 ORDER BY 1",
        "SELECT entity_id, version, seq, known_to FROM _versions AS OF SEQUENCE 2 ORDER BY 1",
        "SELECT id, name FROM users AS OF SEQUENCE 3 ORDER BY id",
        "SELECT id, name FROM users AS OF TIMESTAMP '1970-01-01 00:00:03' ORDER BY id",
        "SELECT op, payload, seq FROM reflog_history('users', 'u1')",
        "SELECT field, value, previous FROM reflog_blame('users', 'u1') ORDER BY 1",
    ];
    let capture = reviewed(dir.path()).await;
    capture.publish().unwrap();
    let before = answers(&Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap(), &asked).await;
    Arc::into_inner(capture).unwrap().close().unwrap();
    let cut = async |events: u64| {
        // What was asked before may be about to end.
        let mut log = keplordb::any::AnyStore::open(dir.path().join("segments"));
        for _ in 0..100 {
            if log.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            log = keplordb::any::AnyStore::open(dir.path().join("segments"));
        }
        let log = log.unwrap();
        log.flush().unwrap();
        assert_eq!(log.gc(i64::MAX).unwrap().events_deleted, events);
        log.close().unwrap();
    };
    cut(7).await;
    let capture = Arc::new(Capture::open(dir.path()).unwrap());
    let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
    let beside = Sql::beside(dir.path(), SqlOptions::default()).unwrap();
    assert_eq!(answers(&sql, &asked).await, before);
    assert_eq!(answers(&beside, &asked).await, before);
    // One that is late, of an entity of which the log has nothing any more.
    capture.capture(at("User", "u1", 2000, &json!({"name": "Augusta", "visits": "5"}))).await.unwrap();
    for sql in [&sql, &beside] {
        let found = rows(sql, "SELECT name, visits, _version FROM users WHERE id = 'u1'").await.unwrap();
        assert_eq!(found, [["Ada L.", "5", "3"]]);
        let history = rows(sql, "SELECT op, payload, seq FROM reflog_history('users', 'u1')").await.unwrap();
        assert_eq!(history.len(), 3);
    }
    let now = answers(&sql, &asked).await;
    capture.publish().unwrap();
    assert_eq!(answers(&sql, &asked).await, now);
    let lost = capture.capture(at("User", "u2", 9000, &json!({"name": "Lost"}))).await.unwrap().sequence;
    drop((sql, beside));
    Arc::into_inner(capture).unwrap().close().unwrap();
    cut(2).await;
    let capture = Arc::new(Capture::open(dir.path()).unwrap());
    let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
    for statement in asked.iter().filter(|statement| !statement.contains("SEQUENCE")) {
        let error = rows(&sql, statement).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, QueryError::Overlay(_)), "{statement}: {text}");
        let missing = format!("sequences from {lost} to {lost}");
        assert!(text.contains(&missing) && text.contains("publish"), "{statement}: {text}");
    }
    assert_eq!(rows(&sql, asked[6]).await.unwrap(), now[6]);
    // The next publication goes on without it.
    capture.capture(at("Review", "r9", 9000, &json!({"user_id": "u3", "stars": 2}))).await.unwrap();
    rows(&sql, asked[0]).await.unwrap_err();
    capture.publish().unwrap();
    assert_eq!(rows(&sql, asked[0]).await.unwrap(), now[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let capture = reviewed(dir.path()).await;
    let few = Sql::of(Arc::clone(&capture), SqlOptions::default().with_overlay_events(3)).unwrap();
    let error = rows(&few, "SELECT * FROM _events").await.unwrap_err();
    assert!(matches!(error, QueryError::Overlay(_)), "{error}");
    assert!(error.to_string().contains("publish"), "{error}");
    // One entity is few.
    assert_eq!(rows(&few, "SELECT name FROM users WHERE id = 'u1'").await.unwrap(), [["Ada L."]]);
    let small = Sql::of(Arc::clone(&capture), SqlOptions::default().with_overlay_bytes(100)).unwrap();
    assert!(matches!(rows(&small, "SELECT * FROM users").await.unwrap_err(), QueryError::Overlay(_)));
    capture.publish().unwrap();
    assert_eq!(rows(&few, "SELECT count(*) FROM _events").await.unwrap(), [["7"]]);
    let two = Sql::of(Arc::clone(&capture), SqlOptions::default().with_rows(Some(2))).unwrap();
    let error = rows(&two, "SELECT * FROM users").await.unwrap_err().to_string();
    assert!(error.contains("more than 2 rows") && error.contains("LIMIT"), "{error}");

    let quick =
        Sql::of(Arc::clone(&capture), SqlOptions::default().with_timeout(Some(Duration::from_millis(300))))
            .unwrap();
    let endless = "SELECT count(*) FROM generate_series(1, 100000000) a JOIN generate_series(1, 100000000) b ON a.value % 7 = b.value % 5";
    let error = rows(&quick, endless).await.unwrap_err();
    assert!(
        matches!(&error, QueryError::Sql(inner) if matches!(**inner, SqlError::TooSlow { limit_ms: 300 })),
        "{error}"
    );
    let little = Sql::of(Arc::clone(&capture), SqlOptions::default().with_memory_bytes(4 << 20)).unwrap();
    let error =
        rows(&little, "SELECT value FROM generate_series(1, 900000) ORDER BY value DESC").await.unwrap_err();
    assert!(
        matches!(&error, QueryError::Sql(inner) if matches!(**inner, SqlError::Memory { .. })),
        "{error}"
    );

    // What is folded counts with the memory of all questions.
    capture.capture(at("User", "u4", 1, &json!({"name": "x".repeat(10_000)}))).await.unwrap();
    let none = Sql::of(Arc::clone(&capture), SqlOptions::default().with_memory_bytes(9_000)).unwrap();
    let of_one = "SELECT * FROM reflog_history('users', 'u4')";
    for asked in ["SELECT * FROM users", "SELECT * FROM _events", "SELECT * FROM _versions", of_one] {
        let error = rows(&none, asked).await.unwrap_err();
        assert!(
            matches!(error, QueryError::Overlay(_)) && error.to_string().contains("memory_bytes"),
            "{asked}: {error}"
        );
    }
    let small = Sql::of(Arc::clone(&capture), SqlOptions::default().with_overlay_bytes(9_000)).unwrap();
    let error = rows(&small, "SELECT * FROM users WHERE id = 'u4'").await.unwrap_err().to_string();
    assert!(error.contains("User \"u4\"") && error.contains("overlay_bytes"), "{error}");
    let error = rows(&small, of_one).await.unwrap_err();
    assert!(matches!(error, QueryError::TooMany { .. }), "{error}");
    // Nor do functions give what they like.
    let error = rows(&two, "SELECT repeat(name, 1000000000) FROM users").await.unwrap_err().to_string();
    assert!(error.contains("ask for shorter values"), "{error}");
    // Nothing of it is held any more.
    capture.publish().unwrap();
    assert_eq!(rows(&none, "SELECT count(*) FROM users").await.unwrap(), [["4"]]);
}

/// Ids and states as RQL sees them.
fn naive_rql(query: &Query, events: &[EntityEvent], when: When) -> Vec<(String, Map<String, Value>)> {
    let mut all: Vec<(String, Map<String, Value>)> = histories(events, when)
        .into_iter()
        .filter(|((kind, _), _)| kind == "User")
        .filter_map(|((_, id), history)| {
            let mut state = folded(&history).state()?.clone();
            state.insert("id".to_owned(), json!(id));
            Some((id, state))
        })
        .filter(|(_, state)| query.matches(state))
        .collect();
    all.sort_by(|a, b| query.compare(&a.1, &b.1).then_with(|| a.0.cmp(&b.0)));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn rql_gives_what_the_evaluator_does_page_by_page() {
    let conditions = [
        "",
        "where:(a>3)",
        "where:(id=id_3)",
        "where:(id>=id_2 a is not null)",
        "where:(id in (id_1,id_5) OR b!=2)",
        "where:(c.d<=7 id!=id_0)",
    ];
    let orders = ["", "order:a desc", "order:b,a desc", "order:id desc", "order:c.d"];
    for seed in 20..23 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let capture = Arc::new(Capture::open(dir.path()).unwrap());
        capture.capture(drawn(&mut rng)).await.unwrap();
        capture.capture(at("User", "id_0", 0, &json!({"a": 1}))).await.unwrap();
        let events = history(&capture, &mut rng).await;
        let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
        for condition in conditions {
            for order in orders {
                let mut query = Query::parse(&format!("entity:users {condition} {order}")).unwrap();
                let when = if rng.bool() { When::default() } else { some_instant(&events, &mut rng) };
                let LogInstant { instant: Instant { as_of_ms, known_at_ms }, sequence } = when.0;
                (query.as_of_ms, query.known_at_ms, query.sequence) = (as_of_ms, known_at_ms, sequence);
                let wanted: Vec<String> =
                    naive_rql(&query, &events, when).into_iter().map(|(id, _)| id).collect();
                query.limit = Some(rng.u64(1..4));
                let mut found = Vec::new();
                loop {
                    let answer = sql.rql(&query, None).await.unwrap();
                    found.extend(answer.entities.into_iter().map(|entity| entity.entity_id));
                    query.cursor = answer.cursor;
                    if query.cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(found, wanted, "seed {seed}, {query}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment_and_related_entities_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let capture = reviewed(dir.path()).await;
    let sql = Sql::of(Arc::clone(&capture), SqlOptions::default()).unwrap();
    let query = |text: &str| Query::parse(text).unwrap();
    let first = sql.rql(&query("entity:users limit:2 order:name"), None).await.unwrap();
    capture.capture(at("User", "u9", 9000, &json!({"name": "Bz"}))).await.unwrap();
    let second = Query { cursor: first.cursor.clone(), ..query("entity:users limit:2 order:name") };
    for other in
        ["entity:users limit:2", "entity:users limit:2 order:visits", "entity:reviews limit:2 order:name"]
    {
        let other = Query { cursor: first.cursor.clone(), ..query(other) };
        let refused = sql.rql(&other, None).await.unwrap_err();
        assert!(matches!(refused, QueryError::Cursor { .. }), "{refused}");
    }
    let second = sql.rql(&second, None).await.unwrap();
    let ids: Vec<_> =
        first.entities.iter().chain(&second.entities).map(|entity| entity.entity_id.as_str()).collect();
    assert_eq!(ids, ["u1", "u2", "u3"]);
    assert_eq!(second.cursor, None);
    // Also where more is asked for than there was.
    let far = "entity:users limit:3 order:name seq:1000000";
    let first = sql.rql(&query(far), None).await.unwrap();
    capture.capture(at("User", "u8", 9000, &json!({"name": "Zoe"}))).await.unwrap();
    let second = sql.rql(&Query { cursor: first.cursor.clone(), ..query(far) }, None).await.unwrap();
    assert_eq!((first.sequence, second.sequence), (Some(8), Some(8)));
    assert_eq!(second.entities.iter().map(|entity| entity.entity_id.as_str()).collect::<Vec<_>>(), ["u3"]);
    let now = sql.rql(&query("entity:users seq:1000000"), None).await.unwrap();
    assert_eq!((now.entities.len(), now.sequence), (5, Some(9)));

    let included =
        sql.rql(&query("entity:users include:reviews where:(id=u1) fields:name"), None).await.unwrap();
    let stars: Vec<_> = included.entities[0].included["reviews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|review| &review["state"]["stars"])
        .collect();
    assert_eq!(stars, [&json!(4), &json!(5)]);
    assert_eq!(Value::Object(included.entities[0].state.clone()), json!({"name": "Ada L."}));
    let before = sql
        .rql(&query("entity:users include:reviews where:(id=u1) as_of:\"1970-01-01T00:00:02Z\""), None)
        .await
        .unwrap();
    assert_eq!(before.entities[0].included["reviews"].as_array().unwrap().len(), 1);
    let back = sql.rql(&query("entity:review include:user where:(stars>=5)"), None).await.unwrap();
    assert_eq!(back.entities[0].included["user"]["state"]["name"], json!("Ada L."));

    let refused = sql.rql(&query("entity:users include:friends"), None).await.unwrap_err();
    assert_eq!(refused.to_string(), "User has no relation friends; there are reviews");
    assert!(matches!(sql.rql(&query("limit:1"), None).await.unwrap_err(), QueryError::NoEntity));
    assert!(matches!(sql.rql(&query("entity:posts"), None).await.unwrap_err(), QueryError::Name(_)));
    assert!(matches!(
        sql.rql(&query("entity:users"), Some("Review")).await.unwrap_err(),
        QueryError::OtherEntity { .. }
    ));
    assert!(matches!(
        sql.rql(&query("entity:users cursor:\"!\""), None).await.unwrap_err(),
        QueryError::Cursor { .. }
    ));
    assert!(matches!(
        sql.rql(&query("entity:users limit:100000"), None).await.unwrap_err(),
        QueryError::TooMany { .. }
    ));
}

/// The status and the body of an answer, of which the parts are put together.
async fn ask_bytes(address: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let split = |bytes: &[u8], mark: &[u8]| {
        let place = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
        (bytes[..place].to_vec(), bytes[place + mark.len()..].to_vec())
    };
    let (head, mut rest) = split(&answer, b"\r\n\r\n");
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if !head.contains("transfer-encoding: chunked") {
        return (status, rest);
    }
    let mut whole = Vec::new();
    loop {
        let (size, after) = split(&rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
        if size == 0 {
            return (status, whole);
        }
        whole.extend_from_slice(&after[..size]);
        rest = after[size + 2..].to_vec();
    }
}

/// All bytes that come back.
async fn ask_raw(address: SocketAddr, statement: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = statement.len();
    let head = format!(
        "POST /sql HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{statement}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // How a broken off one ends is the system's matter.
    drop(stream.read_to_end(&mut answer).await);
    answer
}

async fn ask(address: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> (u16, String) {
    let (status, body) = ask_bytes(address, method, path, kind, body).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_over_http() {
    let dir = tempfile::tempdir().unwrap();
    Arc::into_inner(reviewed(dir.path()).await).unwrap().close().unwrap();
    serving(dir.path(), async |address| {
        let text = "text/plain";
        let (status, body) =
            ask(address, "POST", "/sql", text, "SELECT id, name FROM users ORDER BY id LIMIT 2").await;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(
            (status, body),
            (200, json!([{"id": "u1", "name": "Ada L."}, {"id": "u2", "name": "Bob"}]))
        );
        let path =
            "/sql?format=csv&as_of=1970-01-01T00:00:02Z&q=SELECT%20id,name%20FROM%20users%20ORDER%20BY%20id";
        assert_eq!(ask(address, "GET", path, text, "").await, (200, "id,name\nu1,Ada\nu2,Bob\n".to_owned()));
        let (status, body) =
            ask(address, "POST", "/sql", text, "SELECT id FROM users WHERE id = 'nobody'").await;
        assert_eq!((status, body.as_str()), (200, "[]"));
        let (status, body) =
            ask(address, "POST", "/sql?format=csv", text, "SELECT id FROM users WHERE id = 'nobody'").await;
        assert_eq!((status, body.as_str()), (200, "id\n"));
        let (status, stream) =
            ask_bytes(address, "POST", "/sql?format=arrow", text, "SELECT id FROM users").await;
        let batches = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!((status, batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>()), (200, 3));
        let (status, body) = ask(address, "POST", "/sql", text, "DROP TABLE users").await;
        assert!(status == 400 && body.contains("DROP TABLE users is refused"), "{status} {body}");
        let many = "SELECT value FROM generate_series(1, 2000000)";
        // Behind the first rows it is broken off: the last piece is missing.
        let broken = ask_raw(address, many).await;
        assert!(broken.starts_with(b"HTTP/1.1 200") && !broken.ends_with(b"0\r\n\r\n"));
        let first = "SELECT count(*) AS n FROM generate_series(1, 2000000)";
        assert_eq!(ask(address, "POST", "/sql", text, first).await, (200, "[{\"n\":2000000}]".to_owned()));
        let (status, body) = ask(address, "POST", "/sql", text, "SELECT 1 / 0").await;
        assert!(status == 400 && body.contains("ivide by zero"), "{status} {body}");
        assert_eq!(ask(address, "POST", "/sql", text, "").await.0, 400);
        // An object would lose one of them.
        let (status, body) =
            ask(address, "POST", "/sql", text, "SELECT a.id, b.id FROM users a, users b").await;
        assert!(status == 400 && body.contains("two columns are called `id`"), "{status}: {body}");
        let (status, body) =
            ask(address, "POST", "/sql?format=csv", text, "SELECT a.id, b.id FROM users a, users b LIMIT 1")
                .await;
        assert!(status == 200 && body.starts_with("id,id\n"), "{status}: {body}");
        assert_eq!(ask(address, "GET", "/sql?q=SELECT%201&format=xml", text, "").await.0, 400);

        let (status, body) = ask(address, "GET", "/rql?q=entity:users%20limit:1", text, "").await;
        assert!(status == 200 && body.contains("\"entity_id\":\"u1\""), "{status} {body}");
        let json_query = json!({"entity": "users", "where": {"field": "id", "value": "u3"}}).to_string();
        let (status, body) = ask(address, "POST", "/rql", "application/json", &json_query).await;
        assert!(status == 200 && body.contains("\"entity_id\":\"u3\""), "{status} {body}");
        let (status, body) = ask(address, "GET", "/e/User?q=where:(name%5E=Bo)", text, "").await;
        assert!(status == 200 && body.contains("\"entity_id\":\"u2\""), "{status} {body}");
        assert_eq!(ask(address, "GET", "/e/User?q=limit:1&limit=3", text, "").await.0, 400);
        let (status, body) = ask(address, "GET", "/rql?q=entity:posts", text, "").await;
        assert!(status == 400 && body.contains("is no entity type"), "{status} {body}");
    })
    .await;
}
