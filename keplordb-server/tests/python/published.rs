//! What a server publishes, read by `DuckDB` and Polars while events come in and files are merged: every answer is that of one moment.

use std::collections::BTreeMap;
use std::process::Stdio;

use keplordb_server::{Capture, Instant, Operation, Record};
use serde_json::{Value, json};

use super::server::{self, Server};
use super::{Clients, OURS};

const CLIENTS: usize = 4;
const ROUNDS: usize = 40;

#[test]
fn readers_of_the_published_tables_see_one_moment_and_what_the_server_says() {
    let untested = "DuckDB and Polars beside a server that publishes";
    let Some(clients) = Clients::made(untested, OURS.0, OURS.1) else { return };
    let root = clients.root();
    let server = Server::start(&root, server::ANY_PORT);
    let seed = fastrand::u64(..).to_string();
    println!("seed {seed}");
    let load = clients
        .command("load.py")
        .args([server.address(), &seed, &CLIENTS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let mut load = super::Child(load.unwrap());
    let printed = clients.run("published.py", &[root.to_str().unwrap(), &ROUNDS.to_string()]);
    drop(load.0.stdin.take());
    assert!(load.0.wait().unwrap().success());
    let numbers: Vec<usize> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [answers, moments, missed] = numbers[..] else { panic!("{printed}") };
    println!(
        "{answers} answers at {moments} moments or more, {missed} times a file had gone before it was opened"
    );
    // Most of those by the names that do not change, and all where the link points.
    assert!(answers > 9 * ROUNDS, "{printed}");
    assert!(moments > 5, "they were published {moments} times");
    server.kill();

    let capture = Capture::open(&root).unwrap();
    capture.publish().unwrap();
    let checked = capture.check_published().unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    let log = capture.log();
    let mut own = BTreeMap::new();
    for id in log.ids("Sensor", "", None, usize::MAX).unwrap() {
        let fold = log.get("Sensor", &id, Instant::default()).unwrap();
        own.insert(id, (fold.version(), fold.state().cloned().map(Value::Object)));
    }
    assert!(!own.is_empty());
    let printed = clients.run("equal.py", &[root.to_str().unwrap()]);
    for reader in ["DuckDB", "Polars"] {
        let rows = printed.lines().filter_map(|line| line.strip_prefix(reader)?.strip_prefix(" Sensor "));
        let row = |row: &str| {
            let words: Vec<_> = row.splitn(3, ' ').collect();
            let [id, version, state] = words[..] else { panic!("{row}") };
            (id.to_owned(), (version.parse().unwrap(), serde_json::from_str(state).ok()))
        };
        assert_eq!(rows.map(row).collect::<BTreeMap<_, _>>(), own, "{reader}");
    }
    capture.close().unwrap();
}

const ALL: &str = r#"
syntax = "proto3";
package reflog.v1;
import "google/protobuf/timestamp.proto";

message All {
  optional bool flag = 1; int32 small = 2; sint64 large = 3; uint64 largest = 4; double ratio = 5; Level level = 6;
  bytes raw = 7; google.protobuf.Timestamp born = 8; repeated string tags = 9; map<int32, Part> by = 10; Part part = 11; All within = 12;
  message Part { string name = 1; repeated int32 sizes = 2; }
  enum Level { LOW = 0; HIGH = 1; }
}
"#;

/// The fields of a schema as others see them: kinds, nulls, what is within another, and rows of what was deleted.
#[tokio::test]
async fn readers_have_a_column_for_each_field() {
    let untested = "DuckDB and Polars on tables of a type";
    let Some(clients) = Clients::made(untested, OURS.0, OURS.1) else { return };
    let root = clients.root();
    let capture = Capture::open(&root).unwrap();
    capture.push_schema_text("all.proto".as_ref(), ALL).unwrap();
    let whole = json!({
        "flag": false, "small": -7, "large": "-9007199254740993", "largest": "18446744073709551615", "ratio": 0.5, "level": "HIGH",
        "raw": "aGk=", "born": "2026-02-21T10:00:00.250Z", "tags": ["a", "é"], "by": {"7": {"name": "x", "sizes": [1, 2]}},
        "part": {"name": "y"}, "within": {"small": 1}
    });
    let update = |id: &str, payload: &Value| Record::new("All", id, Operation::Update).json(payload);
    let records = vec![
        update("a", &whole).at_ms(1000),
        update("b", &json!({"small": 1})).at_ms(1000),
        update("b", &json!({"small": 2})).at_ms(2000),
        Record::new("All", "c", Operation::Create).json(&json!({"tags": []})).at_ms(1000),
        Record::new("All", "c", Operation::Delete).at_ms(3000),
    ];
    capture.capture_batch(records).await.unwrap();
    capture.publish().unwrap();
    assert!(capture.check_published().unwrap().is_sound());
    capture.close().unwrap();

    let read = |part: &str| {
        let dir = root.join("tables/alls").join(part);
        let printed = clients.run("columns.py", &[dir.to_str().unwrap()]);
        let of = |reader: &str| -> Vec<Value> {
            let rows = printed.lines().filter_map(|line| line.strip_prefix(reader));
            rows.map(|row| serde_json::from_str(row).unwrap()).collect()
        };
        let rows = of("DuckDB");
        assert_eq!(of("Polars"), rows);
        rows
    };
    let current = read("current");
    let of_whole = json!({
        "id": "a", "flag": false, "small": -7, "large": -9_007_199_254_740_993_i64, "largest": "18446744073709551615", "ratio": 0.5,
        "level": "HIGH", "raw": "6869", "born": 1_771_668_000_250_000_i64, "tags": ["a", "é"],
        "by": {"7": {"name": "x", "sizes": [1, 2]}}, "part": {"name": "y", "sizes": null}, "within": "{\"small\":1}",
        "_version": 1, "_updated_at": 1_000_000, "_seq": 1
    });
    assert_eq!(current[0], of_whole);
    assert_eq!((current.len(), &current[1]["small"], &current[1]["_seq"]), (2, &json!(2), &json!(3)));
    let fields =
        ["flag", "large", "largest", "ratio", "level", "raw", "born", "tags", "by", "part", "within"];
    assert!(fields.iter().all(|field| current[1][*field].is_null()), "{}", current[1]);

    // As it was by what is known now.
    let versions = read("versions").into_iter().filter(|row| row["_known_to"].is_null());
    let told =
        versions.map(|row| json!([row["id"], row["_op"], row["small"], row["tags"], row["_valid_to"]]));
    let wanted = [
        json!(["a", "UPDATE", -7, ["a", "é"], null]),
        json!(["b", "UPDATE", 1, null, 2_000_000]),
        json!(["b", "UPDATE", 2, null, null]),
        json!(["c", "CREATE", null, [], 3_000_000]),
        json!(["c", "DELETE", null, null, null]),
    ];
    assert_eq!(told.collect::<Vec<_>>(), wanted);
}
