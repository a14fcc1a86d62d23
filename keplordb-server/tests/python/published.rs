//! What a server publishes, read by `DuckDB` and Polars while events come in and files are merged: every answer is that of one moment.

use std::collections::BTreeMap;
use std::process::Stdio;

use keplordb_server::{Capture, Instant};
use serde_json::Value;

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
