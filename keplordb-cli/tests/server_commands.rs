//! `keplor serve`, `ingest` and the commands that read a root, run as processes: what is acknowledged is there, also after SIGTERM and
//! SIGKILL, and what is printed beside a running server is what was sent. `backfill` and `doctor`, on a root whose server is stopped too.
#![cfg(all(unix, feature = "server"))]

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Standard output of a command that must have done what it was asked.
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error of a command that must have ended with an exit status.
fn refused(status: i32, output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    error.into_owned()
}

/// A server as a process.
struct Serving {
    process: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Serving {
    fn start(root: &Path, more: &[&str]) -> Self {
        let mut command = keplor(["serve".as_ref(), root.as_os_str()]);
        command.args(["--listen", "127.0.0.1:0"]).args(more).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut address = None;
        let mut said = String::new();
        while address.is_none() {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended: {said}");
            address =
                line.split_once("--server ").and_then(|(_, rest)| Some(rest.split_once(' ')?.0.to_owned()));
            said += &line;
        }
        Self { process, stderr, address: address.unwrap() }
    }

    fn ingest(&self, arguments: &[&str]) -> Output {
        keplor(["ingest", "--server", &self.address]).args(arguments).output().unwrap()
    }

    /// Asks it to end; gives its exit status.
    fn stop(mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert!(said.contains("stopping after what is under way"), "{said}");
        self.process.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn root() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("data");
    (temporary, root)
}

/// Runs `keplor COMMAND ROOT ARGUMENTS`.
fn run(command: &str, root: &Path, arguments: &[&str]) -> Output {
    keplor([command.as_ref(), root.as_os_str()]).args(arguments).output().unwrap()
}

fn printed(command: &str, root: &Path, arguments: &[&str]) -> String {
    done(&run(command, root, arguments))
}

/// Lines of JSON.
fn jsons(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Two changes of a user, and an order that has its id.
fn send_some(server: &Serving) {
    let send = |arguments: &[&str]| done(&server.ingest(arguments));
    let payload = r#"{"name":"Ada","plan":"free","address":{"city":"Oslo"}}"#;
    let created = send(&[
        "--entity",
        "User/user_1",
        "--op",
        "CREATE",
        "--payload",
        payload,
        "--at",
        "2026-02-01",
        "--event-id",
        "e1",
    ]);
    assert!(created.starts_with("✓ Event ") && created.contains(" committed to segment "), "{created}");
    let updated = send(&[
        "--type",
        "User",
        "--entity",
        "user_1",
        "--op",
        "update",
        "--payload",
        r#"{"plan":"team","address":null}"#,
        "--at",
        "2026-02-03",
        "--client",
        "crm",
        "--json",
    ]);
    assert_eq!(jsons(&updated)[0]["duplicate"], json!(false));
    send(&["--entity", "Order:user_1", "--op", "CREATE"]);
}

#[test]
fn what_was_sent_is_read_beside_the_server_and_after_a_restart() {
    let (_temporary, root) = root();
    let server = Serving::start(&root, &[]);
    send_some(&server);
    let again = done(&server.ingest(&["--entity", "User/user_1", "--op", "CREATE", "--event-id", "e1"]));
    assert!(again.contains("was there already"), "{again}");

    let check = || {
        let types = jsons(&printed("ls", &root, &["--json"]));
        let types: Vec<_> = types.iter().map(|of_type| (&of_type["type"], &of_type["events"])).collect();
        assert_eq!(types, [(&json!("Order"), &json!(1)), (&json!("User"), &json!(2))]);
        let state = json!({"name": "Ada", "plan": "team"});
        let users = jsons(&printed("ls", &root, &["user", "--json"]));
        assert_eq!((users.len(), &users[0]["state"], &users[0]["version"]), (1, &state, &json!(2)));
        let right = "field  value\nname   \"Ada\"\nplan   \"team\"\n";
        assert_eq!(printed("get", &root, &["user_1"]), right);
        let before = printed("get", &root, &["User/user_1", "--as-of", "2026-02-02", "--csv"]);
        assert_eq!(
            before,
            "field,value\naddress.city,\"\"\"Oslo\"\"\"\nname,\"\"\"Ada\"\"\"\nplan,\"\"\"free\"\"\"\n"
        );
        let right = "\
change  field         before  after
-       address.city  \"Oslo\"  -
~       plan          \"free\"  \"team\"
";
        assert_eq!(printed("diff", &root, &["User", "user_1", "--from", "2026-02-02"]), right);
        let history = jsons(&printed("history", &root, &["User", "user_1", "--json"]));
        assert_eq!(history.len(), 2);
        assert_eq!((&history[0]["event_id"], &history[1]["client"]), (&json!("e1"), &json!("crm")));
        assert_eq!(printed("history", &root, &["user_1", "-n", "1"]).lines().count(), 2);
        let blame = jsons(&printed("blame", &root, &["user_1", "--json"]));
        let blame: Vec<_> =
            blame.iter().map(|field| (&field["path"], &field["previous"], &field["client"])).collect();
        assert_eq!(
            blame,
            [(&json!(["name"]), &Value::Null, &json!("")), (&json!(["plan"]), &json!("free"), &json!("crm"))]
        );
        let last = jsons(&printed("tail", &root, &["-n", "2", "--json"]));
        assert_eq!(last.iter().map(|event| &event["entity_type"]).collect::<Vec<_>>(), ["User", "Order"]);
        assert_eq!(printed("tail", &root, &["--type", "User"]).lines().count(), 3);
    };
    check();
    assert_eq!(server.stop(), Some(0));
    check();
    let server = Serving::start(&root, &[]);
    check();
    done(&server.ingest(&["--entity", "User/user_1", "--op", "DELETE"]));
    let deleted = printed("get", &root, &["User/user_1"]);
    assert!(deleted.starts_with("User user_1 is deleted: by event "), "{deleted}");
    assert_eq!(printed("ls", &root, &["User", "--csv"]), "id,version,changed,state\n");
    assert_eq!(jsons(&printed("ls", &root, &["User", "--deleted", "--json"]))[0]["state"], Value::Null);
    assert_eq!(server.stop(), Some(0));
}

#[cfg(feature = "sql")]
#[test]
fn questions_in_sql_and_rql_are_answered_beside_the_server_and_after_it() {
    let (_temporary, root) = root();
    let server = Serving::start(&root, &[]);
    send_some(&server);
    let check = || {
        let now = printed("sql", &root, &["SELECT id, state, _version FROM users", "--json"]);
        let state = json!({"name": "Ada", "plan": "team"}).to_string();
        assert_eq!(jsons(&now), [json!({"id": "user_1", "state": state, "_version": 2})]);
        let before = "SELECT json_state.state FROM users AS OF TIMESTAMP '2026-02-02' AS json_state; \
                      SELECT count(*) FROM _events; SELECT entity_type FROM _current ORDER BY 1";
        let before = printed("sql", &root, &[before, "--csv"]);
        assert!(before.contains("Oslo") && before.contains("count(*)\n3\n"), "{before}");
        assert!(before.ends_with("entity_type\nOrder\nUser\n"), "{before}");
        let changed = "SELECT field, before, after FROM reflog_diff('users', 'user_1', '2026-02-02', '2026-02-04') WHERE field = 'plan'";
        assert_eq!(
            printed("sql", &root, &[changed, "--csv"]),
            "field,before,after\nplan,\"\"\"free\"\"\",\"\"\"team\"\"\"\n"
        );

        let found = jsons(&printed("rql", &root, &["entity:users where:(plan=team) fields:plan", "--json"]));
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["entity_id"], &found[0]["version"]), (&json!("user_1"), &json!(2)));
        assert_eq!(
            printed("rql", &root, &["entity:users where:(plan=free)", "--csv"]),
            "entity_id,version,updated_at,state\n"
        );
        let then = printed("rql", &root, &[r#"{"entity": "users", "as_of": "2026-02-02"}"#]);
        assert!(then.contains("user_1") && then.contains("Oslo"), "{then}");
    };
    check();
    assert_eq!(server.stop(), Some(0));
    check();

    let drop = refused(1, &run("sql", &root, &["DROP TABLE users"]));
    assert!(drop.contains("DROP TABLE users is refused"), "{drop}");
    let unknown = refused(1, &run("sql", &root, &["SELECT * FROM posts"]));
    assert!(unknown.contains("posts"), "{unknown}");
    let path = refused(1, &run("sql", &root, &["SELECT * FROM '/etc/passwd'"]));
    assert!(path.contains("/etc/passwd"), "{path}");
    let unknown = refused(1, &run("rql", &root, &["entity:posts"]));
    assert!(unknown.contains("\"posts\" is no entity type; there are Order, User"), "{unknown}");
    let many = refused(1, &run("sql", &root, &["SELECT * FROM _events", "--rows", "2"]));
    assert!(many.contains("more than 2 rows"), "{many}");
    refused(1, &run("rql", &root, &["entity:users where:("]));
    let other = root.join("none");
    refused(1, &run("rql", &other, &["entity:users"]));
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is_near() {
    let (temporary, root) = root();
    let server = Serving::start(&root, &[]);
    let nothing = refused(1, &run("get", &root, &["User/user_1"]));
    assert!(nothing.contains("nothing was captured yet"), "{nothing}");
    send_some(&server);
    let near = refused(1, &run("get", &root, &["User/user_17"]));
    assert!(near.contains("there is no User user_17; near it are user_1"), "{near}");
    done(&server.ingest(&["--entity", "Order/order_9", "--op", "CREATE"]));
    let elsewhere = refused(1, &run("blame", &root, &["User", "order_9"]));
    assert!(elsewhere.contains("; there is Order/order_9"), "{elsewhere}");
    let early = refused(1, &run("history", &root, &["user_1", "--as-of", "2026-01-01"]));
    assert!(early.contains("the first one happened at 2026-02-01T00:00:00Z"), "{early}");
    let unknown = refused(1, &run("history", &root, &["Invoice", "1"]));
    assert!(unknown.contains("there is no Invoice 1; there are the types Order, User"), "{unknown}");
    assert!(refused(1, &run("ls", &root, &["Invoice"])).contains("there are Order, User"));
    assert!(refused(1, &run("ls", temporary.path(), &[])).contains("no root of a server"));
    let unnamed = refused(1, &server.ingest(&["--entity", "user_1", "--op", "UPDATE"]));
    assert!(unnamed.contains("no types are known: write Type/id"), "{unnamed}");
    let version = ["--entity", "User/user_1", "--op", "UPDATE", "--expected-version", "9"];
    let refusal = refused(1, &server.ingest(&version));
    assert!(refusal.contains("the entity has 2 events, 9 were expected"), "{refusal}");
    let table = refused(1, &run("tail", &root, &["-w", "status>1"]));
    assert!(table.contains("its log is a table in "), "{table}");
}

#[test]
fn a_server_refuses_what_it_must_not_do() {
    let (temporary, root) = root();
    let public = refused(1, &run("serve", &root, &["--listen", "0.0.0.0:0"]));
    assert!(public.contains("can be reached from other machines") && !root.exists(), "{public}");
    fs::write(temporary.path().join("letter.txt"), "dear").unwrap();
    assert!(refused(1, &run("serve", temporary.path(), &[])).contains("is no server's root"));
    let server = Serving::start(&root, &[]);
    let second = refused(1, &run("serve", &root, &["--listen", "127.0.0.1:0"]));
    assert!(second.contains("already open by process"), "{second}");
    let nobody =
        keplor(["ingest", "--server", "127.0.0.1:1", "--entity", "User/1", "--op", "UPDATE"]).output();
    assert!(refused(1, &nobody.unwrap()).contains("no server answers at http://127.0.0.1:1"));
    assert_eq!(server.stop(), Some(0));
}

const FIRST: &str = r#"syntax = "proto3";
package reflog.v1;
message User { string name = 1; optional string plan = 2; }
"#;
const SECOND: &str = r#"syntax = "proto3";
package reflog.v1;
message User { string name = 1; Address address = 3; }
message Address { string city = 1; }
"#;

#[test]
fn schemas_are_checked_pushed_shown_and_compared() {
    let (temporary, root) = root();
    let file = |name: &str, text: &str| {
        let path = temporary.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, second) = (file("first.proto", FIRST), file("second.proto", SECOND));
    let broken =
        file("broken.proto", "syntax = \"proto3\";\npackage reflog.v1;\nmessage User { strin name = 1; }\n");
    let changed = file("changed.proto", &FIRST.replace("string name", "int64 name"));
    let schema = |arguments: &[&str]| keplor(["schema"]).args(arguments).output().unwrap();

    assert_eq!(done(&schema(&["check", &first])), format!("{first} is a schema with 1 type: User\n"));
    assert!(refused(1, &schema(&["check", &broken])).contains("strin"));
    let data = root.to_str().unwrap();
    assert!(refused(1, &schema(&["push", data, &first])).contains("no root of a server"));

    let server = Serving::start(&root, &["--schema", &first]);
    // The type is known by the beginning of the id.
    done(&server.ingest(&["--entity", "user_7", "--op", "CREATE", "--payload", r#"{"name":"Ada"}"#]));
    let wrong =
        refused(1, &server.ingest(&["--entity", "user_7", "--op", "UPDATE", "--payload", r#"{"nam":1}"#]));
    assert!(wrong.contains("payload"), "{wrong}");
    let unknown = refused(1, &server.ingest(&["--entity", "order_7", "--op", "UPDATE"]));
    assert!(unknown.contains("none of the types that there are, User"), "{unknown}");
    let running = refused(1, &schema(&["push", data, &second]));
    assert!(running.contains("a server is running on"), "{running}");
    assert_eq!(done(&schema(&["show", data])), FIRST);
    assert_eq!(server.stop(), Some(0));

    assert!(
        refused(1, &schema(&["check", &changed, "--root", data]))
            .contains("take a name and a number that were never used")
    );
    let pushed = done(&schema(&["push", data, &second]));
    assert_eq!(pushed, format!("{second} is version 2, with 2 types: Address, User\n"));
    assert!(done(&schema(&["push", data, &second])).starts_with("nothing to do"));
    assert_eq!(done(&schema(&["show", data, "--version", "1"])), FIRST);
    assert_eq!(jsons(&done(&schema(&["show", data, "--json"])))[0]["version"], json!(2));
    assert!(refused(1, &schema(&["show", data, "--version", "3"])).contains("there are 1 to 2"));
    let right = "\
change  type     number  before       after
+       Address  -       -            message Address
+       Address  1       -            string city
-       User     2       string plan  -
+       User     3       -            Address address
+       User     3.1     -            string address.city
";
    assert_eq!(done(&schema(&["diff", data])), right);
}

/// A file of events: so many entities, each created and then counted up.
fn file_of(path: &Path, lines: usize, has_ids: bool) {
    const ENTITIES: usize = 7;
    let mut text = String::new();
    for line in 0..lines {
        let (entity, step) = (line % ENTITIES, line / ENTITIES);
        let id = if has_ids { format!(r#","event_id":"e{line}""#) } else { String::new() };
        writeln!(
            text,
            r#"{{"type":"User","id":"user_{entity}","op":"UPDATE","payload":{{"step":{step}}}{id}}}"#
        )
        .unwrap();
    }
    fs::write(path, text).unwrap();
}

#[test]
fn a_file_keeps_the_order_of_each_entity_and_its_bad_lines_are_told() {
    let (temporary, root) = root();
    let server = Serving::start(&root, &[]);
    let file = temporary.path().join("events.jsonl");
    file_of(&file, 210, false);
    let mut text = fs::read_to_string(&file).unwrap();
    text += "\nno event\n{\"id\":\"User/user_0\",\"op\":\"MERGE\"}\n{\"type\":\"a b\",\"id\":\"1\",\"op\":\"UPDATE\"}\n";
    fs::write(&file, &text).unwrap();
    let name = file.to_str().unwrap();
    let output = server.ingest(&["--file", name, "--json"]);
    let told = refused(2, &output);
    assert!(
        told.contains("line 212: it is no event") && told.contains("3 lines were rejected: see "),
        "{told}"
    );
    let summary = &jsons(&String::from_utf8(output.stdout).unwrap())[0];
    assert_eq!(
        (&summary["events"], &summary["rejected"], &summary["settled"]),
        (&json!(210), &json!(3), &json!(214))
    );
    let rejects = fs::read_to_string(temporary.path().join("events.jsonl.rejects.csv")).unwrap();
    assert_eq!(rejects.lines().count(), 4, "{rejects}");
    for entity in 0..7 {
        let history = jsons(&printed("history", &root, &["User", &format!("user_{entity}"), "--json"]));
        let steps: Vec<_> = history.iter().map(|event| event["payload"]["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (0..30).collect::<Vec<_>>());
    }

    let mut command = keplor(["ingest", "--server", &server.address, "--file", "-"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let line = b"{\"type\":\"Order\",\"id\":\"o1\",\"op\":\"CREATE\"}\n";
    process.stdin.take().unwrap().write_all(line).unwrap();
    assert_eq!(done(&process.wait_with_output().unwrap()), "1 event committed\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn ctrl_c_ends_a_sending_in_good_order() {
    let (_temporary, root) = root();
    let server = Serving::start(&root, &[]);
    let mut command = keplor(["ingest", "--server", &server.address, "--file", "-", "--receipts"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"{\"type\":\"Order\",\"id\":\"o1\",\"op\":\"CREATE\"}\n").unwrap();
    let mut receipt = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut receipt).unwrap();
    assert_eq!(jsons(&receipt)[0]["line"], json!(1));
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let told = refused(130, &process.wait_with_output().unwrap());
    assert!(told.contains("interrupted; all lines up to 1 are acknowledged or rejected"), "{told}");
    drop(input);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn tail_follows_what_comes() {
    let (_temporary, root) = root();
    let server = Serving::start(&root, &[]);
    send_some(&server);
    let mut command = keplor(["tail".as_ref(), root.as_os_str()]);
    command.args(["-f", "-n", "1", "--json", "--every", "20ms"]).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let out = BufReader::new(process.stdout.take().unwrap());
    let (sender, lines): (_, Receiver<String>) = channel();
    std::thread::spawn(move || out.lines().try_for_each(|line| sender.send(line.unwrap())));
    let next = || jsons(&lines.recv_timeout(PATIENCE).expect("an event comes")).remove(0);
    assert_eq!(next()["entity_type"], json!("Order"));
    for step in 0..5 {
        let payload = json!({ "step": step }).to_string();
        done(&server.ingest(&["--entity", "User/user_9", "--op", "UPDATE", "--payload", &payload]));
        assert_eq!(next()["payload"]["step"], json!(step));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(server.stop(), Some(0));
}

/// The server is killed while a file comes in: what was acknowledged is there, and the same file again brings in what is missing.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged_and_a_file_with_ids_can_be_sent_again() {
    const LINES: usize = 6_000;
    let (temporary, root) = root();
    let file = temporary.path().join("events.jsonl");
    file_of(&file, LINES, true);
    let name = file.to_str().unwrap();
    let mut server = Serving::start(&root, &[]);
    let mut command = keplor(["ingest", "--server", &server.address, "--file", name, "--receipts"]);
    let mut sending = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut receipts = Vec::new();
    for line in BufReader::new(sending.stdout.take().unwrap()).lines() {
        receipts.push(serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        if receipts.len() == 300 {
            server.process.kill().unwrap();
        }
    }
    let ended = sending.wait_with_output().unwrap();
    assert!(receipts.len() < LINES, "the kill came too late");
    let told = refused(1, &ended);
    assert!(told.contains("all lines up to ") && told.contains(" committed"), "{told}");
    drop(server);

    let server = Serving::start(&root, &[]);
    let of_root = || -> HashMap<String, u64> {
        let all = jsons(&printed("tail", &root, &["-n", &(2 * LINES).to_string(), "--json"]));
        let count = all.len();
        let by_id: HashMap<_, _> = all
            .iter()
            .map(|event| {
                (event["event_id"].as_str().unwrap().to_owned(), event["sequence"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(by_id.len(), count, "no event is there twice");
        by_id
    };
    let there = of_root();
    for receipt in &receipts {
        let id = receipt["event_id"].as_str().unwrap();
        assert_eq!(id, format!("e{}", receipt["line"].as_u64().unwrap() - 1));
        assert_eq!(there.get(id).copied(), receipt["sequence"].as_u64(), "{id} was acknowledged");
    }
    let again = jsons(&done(&server.ingest(&["--file", name, "--json"]))).remove(0);
    assert_eq!(again["duplicates"], json!(there.len()));
    assert_eq!(again["events"], json!(LINES - there.len()));
    assert_eq!(of_root().len(), LINES);
    let history = jsons(&printed("history", &root, &["User", "user_3", "--json"]));
    assert_eq!(history.len(), LINES / 7);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn keys_are_made_listed_and_taken_back() {
    let (temporary, root) = root();
    let keys = |what: &str, more: &[&str]| {
        keplor(["keys".as_ref(), what.as_ref(), root.as_os_str()]).args(more).output().unwrap()
    };
    let printed = done(&keys("add", &["--name", "unused", "--scope", "read"]));
    assert!(printed.starts_with("keplor_key_") && printed.lines().count() == 1, "{printed}");
    assert!(done(&keys("revoke", &["unused"])).contains("of unused is revoked"));
    let file = temporary.path().join("shop.key");
    let out = file.to_str().unwrap();
    let add = ["--name", "shop", "--scope", "ingest", "--type", "User", "--out", out];
    assert_eq!(done(&keys("add", &add)), "", "a key that is written is not printed");
    assert!(refused(1, &keys("add", &add)).contains("shop.key cannot be made"), "a file that is there stays");
    assert!(fs::read_to_string(&file).unwrap().starts_with("keplor_key_"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for file in [&file, &root.join("_meta/keys.json")] {
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }

    let server = Serving::start(&root, &["--log", "json"]);
    let event = ["--entity", "User/user_1", "--op", "CREATE", "--client", "somebody-else"];
    let without = refused(1, &server.ingest(&event));
    assert!(without.contains("this needs a key") && without.contains("keplor keys add"), "{without}");
    let with_key = |event: &[&str]| {
        let mut command = keplor(["ingest", "--server", &server.address, "--key-file"]);
        command.arg(&file).args(event).output().unwrap()
    };
    done(&with_key(&event));
    let order = refused(1, &with_key(&["--entity", "Order/1", "--op", "CREATE"]));
    assert!(order.contains("the key is for entities of User, and not of \"Order\""), "{order}");
    assert!(done(&run("history", &root, &["User/user_1", "--json"])).contains("\"shop\""));

    // An address that is nobody's: it is refused before anything is sent.
    let mut command = keplor(["ingest", "--server", "http://192.0.2.1:50051"]);
    let open = refused(1, &command.env("KEPLOR_KEY", "keplor_key_canary").args(event).output().unwrap());
    assert!(open.contains("could read the key") && !open.contains("canary"), "{open}");

    let listed = done(&keys("ls", &["--json"]));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let listed: Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&listed["name"], &listed["scopes"], &listed["state"]),
        (&json!("shop"), &json!("ingest"), &json!("good"))
    );
    assert!(done(&keys("revoke", &["shop"])).contains("of shop is revoked"));
    assert!(done(&keys("revoke", &["shop"])).contains("it is revoked already"));
    assert!(refused(1, &keys("revoke", &["stock"])).contains("there is no key \"stock\""));
    // The server looks every second.
    let mut tries = 0;
    let revoked = loop {
        let output = with_key(&event);
        if !output.status.success() {
            break refused(1, &output);
        }
        tries += 1;
        assert!(tries < 100, "the key is still good");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(revoked.contains("the key of shop was revoked"), "{revoked}");
    assert_eq!(server.stop(), Some(0));
    assert!(refused(2, &keys("add", &["--name", "x", "--scope", "all"])).contains("there are ingest, read"));
    assert!(refused(1, &keys("add", &["--name", "x y", "--scope", "read"])).contains("is no name of a key"));
}

/// Past events, the last ones first: two of the same minute, and those of each user spread over all of the file.
fn past_events(path: &Path, lines: usize, has_ids: bool) {
    const MINUTE_MS: usize = 60_000;
    let mut text = String::new();
    for line in 0..lines {
        let step = lines - line;
        let (user, time_ms) = (step % 5, 1_767_225_600_000 + step / 2 * MINUTE_MS);
        let id = if has_ids { format!(r#","event_id":"past-{step}""#) } else { String::new() };
        writeln!(
            text,
            r#"{{"type":"User","id":"user_{user}","op":"UPDATE","payload":{{"step":{step}}},"at":{time_ms}{id}}}"#
        )
        .unwrap();
    }
    fs::write(path, text).unwrap();
}

/// How many events a root has.
fn count_of(root: &Path) -> u64 {
    jsons(&printed("ls", root, &["--json"])).iter().map(|of_type| of_type["events"].as_u64().unwrap()).sum()
}

#[test]
fn past_events_come_in_the_order_of_their_times_and_once() {
    let (temporary, root) = root();
    let path = |name: &str| temporary.path().join(name).to_str().unwrap().to_owned();
    let (with_ids, without) = (path("ids.jsonl"), path("none.jsonl"));
    past_events(Path::new(&with_ids), 300, true);
    past_events(Path::new(&without), 300, false);
    // Two events with the same text, and one that has no line's end.
    let twice = r#"{"type":"Order","id":"o1","op":"UPDATE","payload":{"n":1},"at":"2026-01-01T01:00:00Z"}"#;
    let mut text = fs::read_to_string(&without).unwrap();
    write!(text, "{twice}\n\n{twice}").unwrap();
    fs::write(&without, text).unwrap();

    // So little memory makes many sorted parts.
    let files = [with_ids.as_str(), without.as_str(), "--sort-memory", "4KiB", "--client", "old"];
    let again = [&files[..], &[without.as_str()]].concat();
    let told = printed("backfill", &root, &again);
    assert_eq!(
        told, "602 events captured; 302 were there already\n",
        "the same lines in two files are one event"
    );
    let events = jsons(&printed("tail", &root, &["-n", "1000", "--json"]));
    let times: Vec<_> = events.iter().map(|event| event["event_time_ms"].as_i64().unwrap()).collect();
    assert!(times.len() == 602 && times.is_sorted(), "{times:?}");
    assert!(events.iter().all(|event| event["client"] == json!("old")));
    // Of the same minute those of the first file come first, and each file's as they stand there.
    let steps: Vec<_> = events.iter().filter_map(|event| event["payload"]["step"].as_u64()).collect();
    assert_eq!(steps[..10], [1, 1, 3, 2, 3, 2, 5, 4, 5, 4]);
    let history = jsons(&printed("history", &root, &["Order", "o1", "--json"]));
    assert_eq!(history.len(), 2, "the same text twice is two events");

    assert_eq!(printed("backfill", &root, &files), "0 events captured; 602 were there already\n");
    let names: Vec<_> = root.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "_events"), "it is published: {names:?}");
    let check = jsons(&printed("replay", &root, &["--check", "--json"]));
    assert_eq!(check[0]["is_sound"], json!(true), "{check:?}");
}

#[test]
fn past_events_of_one_millisecond_come_in_the_order_of_their_nanoseconds() {
    let (temporary, root) = root();
    let (first, second) = (temporary.path().join("1.jsonl"), temporary.path().join("2.jsonl"));
    let line = |step: u64, at: &str| {
        format!(r#"{{"type":"User","id":"u","op":"UPDATE","payload":{{"step":{step}}},"at":{at}}}"#)
    };
    let text = |seconds: &str| format!("\"2026-02-01T10:00:{seconds}Z\"");
    let lines = [
        line(6, &text("00.001")),
        line(4, &text("00.000900001")),
        line(3, &text("00.0009")),
        line(5, &text("00.000900001")),
    ];
    fs::write(&first, lines.join("\n")).unwrap();
    fs::write(&second, [line(2, &text("00.000000001")), line(1, "1769940000000")].join("\n")).unwrap();
    for memory in ["1MiB", "1B"] {
        let _ = fs::remove_dir_all(&root);
        let files = [first.to_str().unwrap(), second.to_str().unwrap(), "--sort-memory", memory];
        assert_eq!(printed("backfill", &root, &files), "6 events captured\n");
        let events = jsons(&printed("tail", &root, &["-n", "10", "--json"]));
        let steps: Vec<_> = events.iter().map(|event| event["payload"]["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6], "{memory}");
    }
}

#[test]
fn lines_that_cannot_be_brought_in_are_told_and_the_others_are_there() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    let name = file.to_str().unwrap();
    let missing = refused(1, &run("backfill", &root, &[name]));
    assert!(missing.contains("past.jsonl cannot be read") && !root.exists(), "{missing}");

    past_events(&file, 100, true);
    let mut lines: Vec<String> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    let at = |place: usize, line: &str, lines: &mut Vec<String>| lines.insert(place, line.to_owned());
    at(10, "no event", &mut lines);
    at(20, r#"{"type":"User","id":"u","op":"UPDATE"}"#, &mut lines);
    at(30, r#"{"type":"User","id":"u","op":"UPDATE","at":"2200-01-01T00:00:00Z"}"#, &mut lines);
    at(
        40,
        r#"{"type":"User","id":"u","op":"UPDATE","at":"2026-01-01T00:20:00Z","event_id":"past-1"}"#,
        &mut lines,
    );
    at(50, r#"{"type":"a b","id":"u","op":"UPDATE","at":"2026-01-01T00:20:00Z"}"#, &mut lines);
    fs::write(&file, lines.join("\n")).unwrap();
    let output = run("backfill", &root, &[name, "--json"]);
    let told = refused(2, &output);
    assert!(told.contains("line 11: it is no event"), "{told}");
    assert!(
        told.contains("line 21: it has no time") && told.contains("5 lines were rejected: see "),
        "{told}"
    );
    let summary = &jsons(&String::from_utf8(output.stdout).unwrap())[0];
    assert_eq!((&summary["events"], &summary["rejected"]), (&json!(100), &json!(5)));
    let rejects = fs::read_to_string(temporary.path().join("past.jsonl.rejects.csv")).unwrap();
    for reason in ["ahead of the server's clock", "is there for another entity", "is no name of a type"] {
        assert_eq!(rejects.matches(reason).count(), 1, "{reason}: {rejects}");
    }
    assert_eq!(count_of(&root), 100);

    let two = refused(1, &run("backfill", &root, &[name, name, "--rejects", "x.csv"]));
    assert!(two.contains("--rejects is for the lines of one file"), "{two}");
    let server = Serving::start(&root, &[]);
    let running = refused(1, &run("backfill", &root, &[name]));
    assert!(running.contains("already open by process"), "{running}");
    assert_eq!(server.stop(), Some(0));
    assert!(refused(1, &run("backfill", temporary.path(), &[name])).contains("is no server's root"));
}

#[test]
fn lines_between_rejected_ones_are_captured_together() {
    const LINES: usize = 1000;
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    let mut text =
        String::from(r#"{"type":"User","id":"u","op":"CREATE","at":1767225600000,"event_id":"first"}"#);
    text.push('\n');
    for line in 1..LINES {
        let at = 1_767_225_600_000 + line;
        // Rejected by what it is, and by what is there.
        let (entity_type, wrong) =
            if line % 2 == 0 { ("a b", "") } else { ("User", r#","event_id":"first""#) };
        let good = r#"{"type":"User","id":"u","op":"UPDATE""#;
        writeln!(text, r#"{good},"at":{at}}}"#).unwrap();
        writeln!(text, r#"{{"type":"{entity_type}","id":"bad","op":"UPDATE","at":{at}{wrong}}}"#).unwrap();
    }
    fs::write(&file, text).unwrap();
    let output = run("backfill", &root, &[file.to_str().unwrap(), "--json"]);
    refused(2, &output);
    let summary = jsons(&String::from_utf8(output.stdout).unwrap()).remove(0);
    assert_eq!((&summary["events"], &summary["rejected"]), (&json!(LINES), &json!(LINES - 1)));
    // What comes in with one sync comes in at one time.
    let events = jsons(&printed("tail", &root, &["-n", "2000", "--json"]));
    let times: HashSet<i64> = events.iter().map(|event| event["received_at_ms"].as_i64().unwrap()).collect();
    assert_eq!((events.len(), times.len()), (LINES, 1));
}

#[test]
fn a_version_is_no_condition_for_the_past_whatever_is_there() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    let name = file.to_str().unwrap();
    let line = |step: u64, wanted: &str| {
        let at = 1_767_225_600_000 + step;
        format!(r#"{{"type":"User","id":"u","op":"UPDATE","payload":{{"step":{step}}},"at":{at}{wanted}}}"#)
    };
    let expecting = |version: u64| format!(r#","expected_version":{version}"#);
    // The second one would fit, and the last one when the others are there, late and so after what it came before.
    let lines = [line(1, ""), line(2, &expecting(1)), line(3, &expecting(2)), line(4, "")];
    fs::write(&file, lines.join("\n")).unwrap();
    for captured in [2, 0] {
        let output = run("backfill", &root, &[name, "--json"]);
        let told = refused(2, &output);
        assert!(told.contains("line 2: it has an expected_version, which is no condition"), "{told}");
        let summary = jsons(&String::from_utf8(output.stdout).unwrap()).remove(0);
        assert_eq!((&summary["events"], &summary["rejected"]), (&json!(captured), &json!(2)));
    }
    let history = jsons(&printed("history", &root, &["User", "u", "--json"]));
    assert_eq!(history.len(), 2, "the same command again makes no other history");
}

#[test]
fn what_was_captured_is_told_also_where_a_rejected_line_cannot_be_written() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    past_events(&file, 100, true);
    // Rejected when it is captured, in the midst of others.
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(
        r#"{"type":"User","id":"other","op":"UPDATE","at":"2026-01-01T00:20:00Z","event_id":"past-1"}"#,
    );
    fs::write(&file, text).unwrap();
    // No file can be made under that name.
    fs::create_dir(temporary.path().join("past.jsonl.rejects.csv")).unwrap();
    let output = run("backfill", &root, &[file.to_str().unwrap(), "--json"]);
    let told = refused(1, &output);
    assert!(told.contains("past.jsonl.rejects.csv cannot be written"), "{told}");
    assert_eq!(count_of(&root), 100);
    let summary = jsons(&String::from_utf8(output.stdout).unwrap()).remove(0);
    assert_eq!(summary["events"], json!(100));
}

#[test]
fn a_backfill_that_was_stopped_goes_on() {
    const LINES: usize = 40_000;
    let (temporary, root) = root();
    let path = |name: &str| temporary.path().join(name).to_str().unwrap().to_owned();
    let files = [path("ids.jsonl"), path("none.jsonl")];
    past_events(Path::new(&files[0]), LINES / 2, true);
    past_events(Path::new(&files[1]), LINES / 2, false);

    // Before the first event is captured, while it waits for lines.
    let mut command = keplor(["backfill".as_ref(), root.as_os_str(), "-".as_ref()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"{\"type\":\"User\",\"id\":\"user_1\",\"op\":\"CREATE\",\"at\":1}\n").unwrap();
    // Before that it begins to listen to Ctrl-C.
    let begun = std::time::Instant::now();
    while !root.join("segments/LOCK").exists() {
        assert!(begun.elapsed() < PATIENCE, "the root is not opened");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let told = refused(130, &process.wait_with_output().unwrap());
    assert!(told.contains("interrupted; the same command again captures what is missing"), "{told}");
    drop(input);
    assert_eq!(count_of(&root), 0);

    // Without a warning, as soon as some are there.
    let mut command = keplor(["backfill".as_ref(), root.as_os_str()]);
    command.args(&files).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    while count_of(&root) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing comes in");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let there = count_of(&root);
    assert!(there > 0 && there <= LINES as u64, "{there}");

    let arguments = [files[0].as_str(), files[1].as_str(), "--json"];
    let summary = jsons(&printed("backfill", &root, &arguments)).remove(0);
    assert_eq!(summary["duplicates"], json!(there));
    assert_eq!(summary["events"], json!(LINES as u64 - there));
    let events = jsons(&printed("tail", &root, &["-n", "100000", "--json"]));
    let times: Vec<_> = events.iter().map(|event| event["event_time_ms"].as_i64().unwrap()).collect();
    assert!(times.len() == LINES && times.is_sorted(), "as if it had never been stopped: {}", times.len());
    let again = jsons(&printed("backfill", &root, &arguments)).remove(0);
    assert_eq!((&again["events"], &again["duplicates"]), (&json!(0), &json!(LINES)));
}

/// The checks of a doctor by their names: state, what was found, and what to do.
fn checks(output: &Output) -> HashMap<String, (String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = jsons(std::str::from_utf8(&output.stdout).unwrap());
    let all = checks.iter().map(|check| {
        (text(&check["check"]), (text(&check["state"]), text(&check["found"]), check["remedy"].clone()))
    });
    all.collect()
}

/// All names below a directory, with the bytes of files.
fn tree(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
        found.push((path, if metadata.is_file() { metadata.len() } else { 0 }));
    }
    found.sort_unstable();
    found
}

#[test]
fn a_doctor_says_who_has_a_root_and_how_it_is_and_changes_nothing() {
    let (temporary, root) = root();
    let nothing = run("doctor", &root, &["--json"]);
    assert!(refused(1, &nothing).contains("1 of 1 check failed"));
    assert!(checks(&nothing)["root"].1.ends_with("is not there"));

    let server = Serving::start(&root, &["--publish", "never"]);
    send_some(&server);
    let before = tree(&root);
    let found = run("doctor", &root, &["--json"]);
    done(&found);
    assert_eq!(tree(&root), before);
    let found = checks(&found);
    let process = format!("open by process {}", server.process.id());
    assert_eq!(found["server"].1, process);
    assert!(found["log"].1.starts_with("3 events of 2 types, "), "{found:?}");
    assert!(found["published"].1.starts_with("3 events wait, for "), "{found:?}");
    for name in ["root", "server", "log", "schemas", "keys", "lake", "published", "clock", "links"] {
        assert_eq!(found[name].0, "ok", "{name}: {found:?}");
    }
    assert!(found.contains_key("disk") && found.contains_key("open files"), "{found:?}");
    assert!(!found.contains_key("leftovers"), "{found:?}");
    let text = printed("doctor", &root, &[]);
    assert!(text.lines().any(|line| line == format!("ok    server: {process}")), "{text}");
    assert_eq!(server.stop(), Some(0));

    printed("replay", &root, &[]);
    let before = tree(&root);
    let found = checks(&run("doctor", &root, &["--json"]));
    assert_eq!(tree(&root), before, "links are tried and removed");
    assert_eq!(found["server"].1, "no process has it open");
    assert_eq!(found["published"].1, "all 3 events");
    assert_eq!(found["links"].1, "hard and symbolic links can be made");

    fs::create_dir(root.join("_meta.draft")).unwrap();
    let found = checks(&run("doctor", &root, &["--json"]));
    assert_eq!((found["leftovers"].0.as_str(), &found["leftovers"].2), ("warn", &json!("remove it")));
    let cut_off = temporary.path().join("copy");
    fs::create_dir_all(cut_off.join("_meta.draft")).unwrap();
    let cut_off = run("doctor", &cut_off, &[]);
    assert!(done_or_not(&cut_off).contains("is a copy that was cut off; remove the directory"));
}

/// Standard output, however the command ended.
fn done_or_not(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn a_doctor_finds_what_is_damaged_and_says_what_to_do() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    past_events(&file, 500, true);
    printed("backfill", &root, &[file.to_str().unwrap()]);
    let fails = |name: &str, remedy: &str| {
        let output = run("doctor", &root, &["--json"]);
        assert!(refused(1, &output).contains("1 of "), "{name}");
        let (state, found, said) = checks(&output).remove(name).unwrap();
        assert_eq!(state, "fail", "{name}: {found}");
        assert!(said.as_str().unwrap().contains(remedy), "{said}");
    };

    for file in root.join("lake/current").read_dir().unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    fails("lake", "keplor replay");
    printed("replay", &root, &[]);
    done(&run("doctor", &root, &[]));
    // Readers would find nothing, or what was published before.
    fs::remove_file(root.join("_current")).unwrap();
    fails("lake", "the next start of a server mends them");
    printed("replay", &root, &["--check"]);
    done(&run("doctor", &root, &[]));
    fs::remove_file(root.join(".live")).unwrap();
    fails("lake", "the next start of a server mends them");
    printed("replay", &root, &["--check"]);

    let (segments, aside) = (root.join("segments"), root.join("aside"));
    fs::rename(&segments, &aside).unwrap();
    fails("published", "bring the directory `segments` back");
    past_events(&file, 20, true);
    let other = refused(1, &run("backfill", &root, &[file.to_str().unwrap()]));
    assert!(other.contains("the events are captured, and not published"), "{other}");
    fails("published", "bring back the log");
    fs::remove_dir_all(&segments).unwrap();
    fs::rename(&aside, &segments).unwrap();
    done(&run("doctor", &root, &[]));

    done(
        &keplor(["keys".as_ref(), "add".as_ref(), root.as_os_str()])
            .args(["--name", "a", "--scope", "read"])
            .output()
            .unwrap(),
    );
    assert_eq!(checks(&run("doctor", &root, &["--json"]))["keys"].1, "1 of 1 key good");
    {
        use std::os::unix::fs::PermissionsExt as _;
        let keys = root.join("_meta/keys.json");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
        fails("keys", "does not start");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    }
    done(&keplor(["keys".as_ref(), "revoke".as_ref(), root.as_os_str(), "a".as_ref()]).output().unwrap());
    let keys = checks(&run("doctor", &root, &["--json"])).remove("keys").unwrap();
    assert_eq!((keys.0.as_str(), keys.1.as_str()), ("warn", "0 of 1 key good"));

    fs::write(root.join("_meta/schemas/000001.proto"), "no schema").unwrap();
    fails("schemas", "from a copy");
    fs::remove_file(root.join("_meta/schemas/000001.proto")).unwrap();

    // Closed as it is, every byte of the log counts.
    let largest = tree(&root.join("segments")).into_iter().max_by_key(|(_, bytes)| *bytes).unwrap().0;
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    fs::write(&largest, bytes).unwrap();
    fails("log", "keplor verify");
}

/// All files below a directory, in another one.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &copy);
        } else {
            fs::copy(&path, &copy).unwrap();
        }
    }
}

#[test]
fn a_doctor_tells_an_older_log_that_grew_from_the_one_that_was_published() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    let backfill = |lines| {
        past_events(&file, lines, true);
        run("backfill", &root, &[file.to_str().unwrap()])
    };
    done(&backfill(20));
    let (segments, older) = (root.join("segments"), temporary.path().join("older"));
    copied(&segments, &older);
    done(&backfill(60));
    done(&run("doctor", &root, &[]));

    fs::remove_dir_all(&segments).unwrap();
    copied(&older, &segments);
    let told = refused(1, &run("replay", &root, &["--check"]));
    assert!(told.contains("the published events that it does not have are lost by that"), "{told}");
    let (_, _, remedy) = checks(&run("doctor", &root, &["--json"])).remove("published").unwrap();
    assert!(remedy.as_str().unwrap().ends_with("are lost by that"), "{remedy}");
    fs::remove_dir_all(&segments).unwrap();
    fs::rename(&older, &segments).unwrap();
    // Others than those that were there, and more.
    let text = fs::read_to_string(&file).unwrap().replace("past-", "other-").replace("user_", "new_");
    fs::write(&file, text).unwrap();
    run("backfill", &root, &[file.to_str().unwrap()]);
    assert_eq!(count_of(&root), 80);
    let output = run("doctor", &root, &["--json"]);
    refused(1, &output);
    let (state, found, remedy) = checks(&output).remove("published").unwrap();
    assert_eq!(state, "fail", "{found}");
    assert!(found.contains("which is another one in the log"), "{found}");
    assert!(remedy.as_str().unwrap().contains("bring back the log"), "{remedy}");
}

#[test]
fn a_doctor_finds_a_root_well_whose_log_has_dropped_what_is_published() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    past_events(&file, 50, true);
    printed("backfill", &root, &[file.to_str().unwrap()]);
    // What is in no segment yet is dropped by nobody.
    let log = keplordb::any::AnyStore::open(root.join("segments")).unwrap();
    log.flush().unwrap();
    log.close().unwrap();
    let dropped = jsons(&printed("gc", &root.join("segments"), &["--before", "2100-01-01", "--json"]));
    assert_eq!(dropped[0]["events"], json!(50));
    let published = || {
        let output = run("doctor", &root, &["--json"]);
        done(&output);
        checks(&output).remove("published").unwrap()
    };
    let (state, found, _) = published();
    assert_eq!((state.as_str(), found.as_str()), ("ok", "all 50 events, of which the log has dropped 50"));
    // And while it goes on.
    let text = fs::read_to_string(&file).unwrap().replace("past-", "other-");
    fs::write(&file, text).unwrap();
    printed("backfill", &root, &[file.to_str().unwrap()]);
    let (state, found, _) = published();
    assert_eq!((state.as_str(), found.as_str()), ("ok", "all 100 events, of which the log has dropped 50"));
}

#[test]
fn what_only_the_published_files_have_is_told_and_kept_when_the_log_has_forgotten_that_it_dropped_it() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    let segments = root.join("segments");
    past_events(&file, 50, true);
    printed("backfill", &root, &[file.to_str().unwrap()]);
    let log = keplordb::any::AnyStore::open(&segments).unwrap();
    log.flush().unwrap();
    log.close().unwrap();
    printed("gc", &segments, &["--before", "2100-01-01", "--json"]);
    let text = fs::read_to_string(&file).unwrap().replace("past-", "other-");
    fs::write(&file, text).unwrap();
    printed("backfill", &root, &[file.to_str().unwrap()]);
    done(&run("doctor", &root, &[]));

    fs::remove_file(segments.join("MANIFEST")).unwrap();
    let log = keplordb::any::AnyStore::open(&segments).unwrap();
    log.close().unwrap();
    let output = run("doctor", &root, &["--json"]);
    refused(1, &output);
    let (state, found, remedy) = checks(&output).remove("published").unwrap();
    assert_eq!(state, "fail", "{found}");
    assert_eq!(
        found,
        "100 events are published, and the log has 50 up to the last of them, and has dropped 0"
    );
    assert!(remedy.as_str().unwrap().contains("unless `keplor gc` dropped"), "{remedy}");
    let told = refused(1, &run("replay", &root, &[]));
    assert!(told.contains("the log has 50 of the 100 events that are published"), "{told}");
    let (state, ..) = checks(&run("doctor", &root, &["--json"])).remove("published").unwrap();
    assert_eq!(state, "fail", "they are published still");

    // As it is told.
    assert!(told.contains("`keplor backup` and `restore`"), "{told}");
    let (copy, other) = (temporary.path().join("copy"), temporary.path().join("other"));
    printed("backup", &root, &[copy.to_str().unwrap()]);
    printed("restore", &copy, &[other.to_str().unwrap()]);
    let output = run("doctor", &other, &["--json"]);
    done(&output);
    assert_eq!(checks(&output)["published"].1, "all 50 events");
}

#[test]
fn a_doctor_sends_to_the_newer_program_that_has_published() {
    let (temporary, root) = root();
    let file = temporary.path().join("past.jsonl");
    past_events(&file, 5, true);
    printed("backfill", &root, &[file.to_str().unwrap()]);
    let meta = root.join("_meta");
    let manifests = || {
        let names = meta.read_dir().unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("manifest-")).max().unwrap()
    };
    let text = fs::read_to_string(manifests()).unwrap();
    let (body, _) = text.rsplit_once(",\"checksum\"").unwrap();
    for (from, to) in [("\"format\":1", "\"format\":2"), ("\"fold_version\":1", "\"fold_version\":2")] {
        let body = body.replace(from, to);
        assert!(body.contains(to), "{body}");
        let checksum = xxhash_rust::xxh3::xxh3_128(body.as_bytes());
        fs::write(manifests(), format!("{body},\"checksum\":\"{checksum:032x}\"}}\n")).unwrap();
        let output = run("doctor", &root, &["--json"]);
        refused(1, &output);
        let (state, found, remedy) = checks(&output).remove("lake").unwrap();
        assert_eq!(state, "fail", "{found}");
        let remedy = remedy.as_str().unwrap();
        assert!(remedy.starts_with("a newer keplor has published here: use that one"), "{to}: {remedy}");
    }
}
