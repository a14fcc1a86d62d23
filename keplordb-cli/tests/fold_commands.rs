//! `keplor fold`, run as a process on real directories: what it prints, what it leaves behind, and its exit status.
//!
//! The directories are written by the library with times that are set, so that whole outputs can be compared.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use keplordb_fold::{Checkpoints, Event, EventLog, EventWriter, SyncPolicy, ViewOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// 2026-02-01, 08:00.
const FIRST_TS: u64 = 1_769_932_800;
const DAY_S: u64 = 86_400;

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.arg("fold").args(arguments).stdin(Stdio::null());
    command
}

/// Runs `keplor fold COMMAND DIR ARGUMENTS`.
fn run(command: &str, dir: &Path, arguments: &[&str]) -> Output {
    keplor([command.as_ref(), dir.as_os_str()]).args(arguments).output().unwrap()
}

/// Standard output and standard error of a command that must have done what it was asked, with the directory as `DIR`.
fn said(command: &str, dir: &Path, arguments: &[&str]) -> (String, String) {
    let output = run(command, dir, arguments);
    let [out, errors] = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap().replace(dir.to_str().unwrap(), "DIR"));
    assert!(output.status.success(), "{}: {errors}", output.status);
    (out, errors)
}

fn printed(command: &str, dir: &Path, arguments: &[&str]) -> String {
    said(command, dir, arguments).0
}

/// Standard error of a command that must have ended with an exit status, with the directory as `DIR`.
fn refused(status: i32, dir: &Path, output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    error.replace(dir.to_str().unwrap(), "DIR")
}

/// An event a day.
fn event(day: u64, event_type: &str, data: Value) -> Event {
    Event { ts: FIRST_TS + day * DAY_S, ..Event::new(event_type, data) }
}

fn history() -> Vec<Event> {
    vec![
        event(0, "todo_added", json!({"id": 1, "text": "buy milk"})).with_actor("ada"),
        event(1, "todo_added", json!({"id": 2, "text": "write docs"})).with_actor("bob"),
        event(2, "todo_edited", json!({"id": 1, "text": "buy oat milk"})).with_actor("ada"),
        event(3, "todo_completed", json!({"id": 1, "done": true})).with_actor("ada"),
        event(4, "todo_added", json!({"id": 3, "text": "a\u{9b}31m, \"b\""}))
            .with_id("x-1")
            .with_meta(json!({"ip": "::1"})),
        event(5, "todo_completed", json!({"id": 3, "done": true, "text": null})).with_actor("bob"),
    ]
}

/// Three events in the archive, three in the log, and two views that do not yet know of the last one.
fn todos() -> (TempDir, std::path::PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("todos");
    let events = history();
    let counting = ViewOptions::default().version(2).checkpoints(Checkpoints::every(2));
    let mut log = EventLog::builder(&dir)
        .view_with::<u64>("count", counting, |count, _| count + 1)
        .view::<Vec<String>>("types", |mut types, event| {
            types.push(event.event_type.clone());
            types
        })
        .open()
        .unwrap();
    log.append_batch(&events[..3]).unwrap();
    log.refresh_all().unwrap();
    log.rotate().unwrap();
    log.append_batch(&events[3..5]).unwrap();
    log.refresh_all().unwrap();
    drop(log);
    EventWriter::open(&dir).unwrap().append(&events[5]).unwrap();
    (temporary, dir)
}

/// A command that goes on, and the lines that it prints.
struct Following {
    process: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().try_for_each(|line| sender.send(line.unwrap())));
        Self { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ls_lists_files_and_how_far_views_have_come() {
    let (_temporary, dir) = todos();
    let bytes = |file: &str| dir.join(file).metadata().unwrap().len();
    let [archive, count, types] =
        ["archive.jsonl.zst", "views/count.snapshot.json", "views/types.snapshot.json"].map(bytes);
    let right = format!(
        "\
name               kind     events  behind  version  position  bytes  problem
archive.jsonl.zst  archive       3       -        -  -         {archive:>5}  -
app.jsonl          log           3       -        -  1:288       288  -
count              view          5       1        2  1:192     {count:>5}  -
types              view          5       1        0  1:192     {types:>5}  -
"
    );
    assert_eq!(printed("ls", &dir, &[]), right);
    let all = printed("ls", &dir, &["--checkpoints", "--json"]);
    let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6, "{all}");
    let right = json!({
        "name": "count", "kind": "checkpoint", "events": 4, "behind": 2, "version": 2, "position": "1:84",
        "bytes": bytes("views/count.at-4.json"), "problem": null,
    });
    assert_eq!(lines[4], right);
    let csv = printed("ls", &dir, &["--csv"]);
    assert!(csv.starts_with("name,kind,events,behind,version,position,bytes,problem\n"), "{csv}");
    assert!(csv.contains("\napp.jsonl,log,3,,,1:288,288,\n"), "{csv}");
}

#[test]
fn ls_says_which_states_no_view_would_go_on_from() {
    let (_temporary, dir) = todos();
    let (count, types) = (dir.join("views/count.snapshot.json"), dir.join("views/types.snapshot.json"));
    let changed = fs::read_to_string(&count).unwrap().replace("\"state\": 5", "\"state\": 6");
    fs::write(&count, changed).unwrap();
    // One of another log.
    let other = tempfile::tempdir().unwrap();
    let mut log = EventLog::builder(other.path()).view::<u64>("types", |count, _| count + 1).open().unwrap();
    log.append(&event(0, "x", json!(1))).unwrap();
    log.refresh_all().unwrap();
    fs::copy(other.path().join("views/types.snapshot.json"), &types).unwrap();
    let listed = printed("ls", &dir, &[]);
    let problems: Vec<_> = listed.lines().skip(3).map(|line| line.split("  ").last().unwrap()).collect();
    let changed = "its checksum does not fit, so it was changed since it was written";
    let stranger = "it does not fit the log";
    assert_eq!(problems, [changed, stranger], "{listed}");
    for (view, problem) in [("count", changed), ("types", stranger)] {
        let error = refused(1, &dir, &run("state", &dir, &[view]));
        let right = format!(
            "keplor: DIR/views/{view}.snapshot.json: {problem}; its program computes the state anew when it refreshes the view\n"
        );
        assert_eq!(error, right);
    }
}

#[test]
fn state_prints_what_a_view_keeps() {
    let (_temporary, dir) = todos();
    let (out, note) = said("state", &dir, &["types"]);
    let right = "\
[
  \"todo_added\",
  \"todo_added\",
  \"todo_edited\",
  \"todo_completed\",
  \"todo_added\"
]
";
    assert_eq!(out, right);
    let right =
        "keplor: DIR/views/types.snapshot.json: after 5 events, by version 0 of the reducer; 1 event since\n";
    assert_eq!(note, right);
    let (out, note) = said("state", &dir, &["count", "--json"]);
    let right = json!({
        "view": "count", "file": "DIR/views/count.snapshot.json", "events": 5, "behind": 1, "generation": 1, "offset": 192,
        "version": 2, "passed_over": 0, "state": 5,
    });
    assert_eq!((serde_json::from_str::<Value>(&out).unwrap(), note.as_str()), (right, ""));
}

#[test]
fn state_of_the_past_is_one_that_was_kept_or_an_error() {
    let (_temporary, dir) = todos();
    let state = |arguments: &[&str]| printed("state", &dir, &[&["count", "--at"], arguments].concat());
    assert_eq!([state(&["2"]), state(&["4"]), state(&["5"])], ["2\n", "4\n", "5\n"]);
    // By the position, and by times that no event lies between.
    assert_eq!(state(&["1:84"]), "4\n");
    assert_eq!([state(&["2026-02-03"]), state(&["2026-02-02T08:00:00Z"])], ["2\n", "2\n"]);
    assert_eq!(state(&["2026-02-05T07:59:59Z"]), "4\n");

    let error = refused(1, &dir, &run("state", &dir, &["count", "--at", "3"]));
    let right = "keplor: count keeps no state of that moment: the last one before it is after 2 events, and 1 event is between \
                 (`keplor fold cat DIR --from 2 --limit 1` prints them); --nearest takes that one\n";
    assert_eq!(error, right);
    let (out, note) = said("state", &dir, &["count", "--at", "2026-02-04", "--nearest"]);
    assert_eq!(out, "2\n");
    let right = "keplor: 1 event up to that moment is not in it\n\
                 keplor: DIR/views/count.at-2.json: after 2 events, by version 2 of the reducer; 4 events since\n";
    assert_eq!(note, right);
    let error = refused(1, &dir, &run("state", &dir, &["types", "--at", "2"]));
    assert!(error.starts_with("keplor: types keeps no state of that time or before; "), "{error}");
    let error = refused(1, &dir, &run("state", &dir, &["count", "--at", "7"]));
    assert_eq!(error, "keplor: there are only 6 events; --at counts from the first one ever\n");
}

#[test]
fn a_view_that_keeps_nothing_is_told_with_those_that_do() {
    let (_temporary, dir) = todos();
    let error = refused(1, &dir, &run("state", &dir, &["../count"]));
    assert_eq!(error, "keplor: \"../count\" keeps no state in DIR; these do: count, types\n");
    fs::remove_dir_all(dir.join("views")).unwrap();
    let error = refused(1, &dir, &run("state", &dir, &["count"]));
    assert_eq!(error, "keplor: no view keeps a state in DIR; --reduce folds the events without one\n");
}

#[test]
fn built_in_reducers_fold_all_history() {
    let (_temporary, dir) = todos();
    let (out, note) = said("state", &dir, &["--reduce", "count-by=type"]);
    assert_eq!(out, "{\n  \"todo_added\": 3,\n  \"todo_completed\": 2,\n  \"todo_edited\": 1\n}\n");
    assert_eq!(note, "keplor: after 6 events, of which 6 were folded; 0 events since\n");
    let (_, note) = said("state", &dir, &["--reduce", "count-by=actor", "--at", "5"]);
    assert_eq!(
        note,
        "keplor: after 5 events, of which 4 were folded; 1 event without that field; 1 event since\n"
    );

    let state = |arguments: &[&str]| -> Value {
        let json = printed("state", &dir, &[&["--json", "--reduce"], arguments].concat());
        serde_json::from_str::<Value>(&json).unwrap()["state"].take()
    };
    let right = json!({
        "1": {"id": 1, "text": "buy oat milk", "done": true},
        "2": {"id": 2, "text": "write docs"},
        "3": {"id": 3, "done": true},
    });
    assert_eq!(state(&["merge-by=data.id"]), right);
    // Before the edit, by number, by position and by time.
    let right = json!({"1": {"id": 1, "text": "buy milk"}, "2": {"id": 2, "text": "write docs"}});
    for at in ["2", "0:174", "2026-02-03", "2026-02-03T07:59:59Z"] {
        assert_eq!(state(&["merge-by=data.id", "--at", at]), right, "{at}");
    }
    assert_eq!(state(&["merge", "--at", "0"]), json!({}));
    assert_eq!(state(&["merge", "--actor", "bob"]), json!({"id": 3, "done": true}));
    let last = state(&["last-by=data.id", "--type", "todo_added", "--type", "todo_edited"]);
    assert_eq!(last["1"], json!(history()[2]));
    let right = json!({"1769932800": 1, "1770019200": 1});
    assert_eq!(state(&["count-by=ts", "--at", "2"]), right);
}

#[test]
fn states_cannot_move_the_cursor() {
    let (_temporary, dir) = todos();
    let out = printed("state", &dir, &["--reduce", "merge", "--at", "5"]);
    assert!(out.contains(r#""text": "a\u009b31m, \"b\"""#), "{out}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["text"], "a\u{9b}31m, \"b\"");
}

#[test]
fn cat_prints_rows_json_and_csv() {
    let (_temporary, dir) = todos();
    let right = r#"sequence  ts                    type            actor  data
       0  2026-02-01T08:00:00Z  todo_added      ada    {"id":1,"text":"buy milk"}
       1  2026-02-02T08:00:00Z  todo_added      bob    {"id":2,"text":"write docs"}
       2  2026-02-03T08:00:00Z  todo_edited     ada    {"id":1,"text":"buy oat milk"}
       3  2026-02-04T08:00:00Z  todo_completed  ada    {"done":true,"id":1}
       4  2026-02-05T08:00:00Z  todo_added      -      {"id":3,"text":"a\u{9b}31m, \"b\""}
       5  2026-02-06T08:00:00Z  todo_completed  bob    {"done":true,"id":3,"text":null}
"#;
    assert_eq!(printed("cat", &dir, &[]), right);
    let json = printed("cat", &dir, &["--json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (sequence, (line, event)) in lines.iter().zip(history()).enumerate() {
        assert_eq!(line["sequence"], sequence);
        assert_eq!(serde_json::from_value::<Event>(line.clone()).unwrap(), event);
    }
    assert_eq!(lines.len(), 6);
    let first = r#"{"sequence":0,"type":"todo_added","data":{"id":1,"text":"buy milk"},"ts":1769932800,"actor":"ada"}"#;
    assert_eq!(json.lines().next(), Some(first));
    let csv = printed("cat", &dir, &["--csv", "--from", "4", "--limit", "1"]);
    let right = "sequence,ts,type,id,actor,data,meta\n\
                 4,2026-02-05T08:00:00Z,todo_added,x-1,,\"{\"\"id\"\":3,\"\"text\"\":\"\"a\u{9b}31m, \\\"\"b\\\"\"\"\"}\",\
                 \"{\"\"ip\"\":\"\"::1\"\"}\"\n";
    assert_eq!(csv, right);
}

#[test]
fn cat_takes_what_lies_between_two_moments() {
    let (_temporary, dir) = todos();
    let numbers = |arguments: &[&str]| {
        let lines = printed("cat", &dir, &[arguments, &["--json"]].concat());
        let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
        lines.lines().map(number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&["--from", "4"]), [4, 5]);
    assert_eq!(numbers(&["--to", "2"]), [0, 1]);
    assert_eq!(numbers(&["--from", "2", "--to", "4"]), [2, 3]);
    assert_eq!(numbers(&["--from", "1:0"]), [3, 4, 5]);
    assert_eq!(numbers(&["--from", "2026-02-03", "--to", "2026-02-05T08:00:00Z"]), [2, 3]);
    assert_eq!(numbers(&["--from", "2026-02-03T08:00:00.5Z"]), [3, 4, 5]);
    assert_eq!(numbers(&["--from", "1", "--to", "2026-02-04"]), [1, 2]);
    assert_eq!(numbers(&["--limit", "2"]), [0, 1]);
    assert_eq!(numbers(&["--limit", "0"]), [0_u64; 0]);
    assert_eq!(numbers(&["--from", "3", "--to", "3"]), [0_u64; 0]);
    assert_eq!(numbers(&["--from", "100"]), [0_u64; 0]);
    assert_eq!(numbers(&["--type", "todo_added", "--actor", "bob"]), [1]);
    assert_eq!(numbers(&["--type", "todo_added", "--type", "todo_edited", "--limit", "3"]), [0, 1, 2]);
}

#[test]
fn tail_prints_the_last_also_of_a_kind() {
    let (_temporary, dir) = todos();
    let numbers = |arguments: &[&str]| {
        let lines = printed("tail", &dir, &[arguments, &["--json"]].concat());
        let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
        lines.lines().map(number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(&["-n", "2"]), [4, 5]);
    assert_eq!(numbers(&["-n", "4"]), [2, 3, 4, 5]);
    assert_eq!(numbers(&["-n", "0"]), [0_u64; 0]);
    assert_eq!(numbers(&["-n", "2", "--type", "todo_added"]), [1, 4]);
    let right = r#"sequence  ts                    type            actor  data
       5  2026-02-06T08:00:00Z  todo_completed  bob    {"done":true,"id":3,"text":null}
"#;
    assert_eq!(printed("tail", &dir, &["-n1"]), right);
}

#[test]
fn tail_follows_a_live_writer_across_rotations() {
    let (_temporary, dir) = todos();
    let arguments = ["-fn1", "--json", "--type", "live"];
    let following = Following::start({
        let mut command = keplor(["tail".as_ref(), dir.as_os_str()]);
        command.args(arguments);
        command
    });
    let mut log = EventLog::builder(&dir).max_log_size(400).open().unwrap();
    for number in 0..20 {
        // Each comes before the next is written.
        log.append(&event(6, "live", json!(number))).unwrap();
        log.append(&event(6, "other", json!(number))).unwrap();
        let line: Value = serde_json::from_str(&following.line()).unwrap();
        assert_eq!((&line["data"], &line["sequence"]), (&json!(number), &json!(6 + 2 * number)));
    }
    assert!(log.reader().end_position().unwrap().generation > 2);
}

#[test]
fn every_command_that_reads_does_so_beside_a_live_writer() {
    let (_temporary, dir) = todos();
    let mut log = EventLog::builder(&dir)
        .max_log_size(10_000)
        .view::<u64>("live", |count, _| count + 1)
        .open()
        .unwrap();
    log.writer_mut().set_sync_policy(SyncPolicy::Never);
    let (stop, stopped) = channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut number = 0;
        while stopped.try_recv().is_err() && number < 100_000 {
            log.append(&event(6, "live", json!({ "n": number }))).unwrap();
            if number % 10 == 0 {
                log.refresh_all().unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            number += 1;
        }
        log
    });
    for _ in 0..5 {
        let listed = printed("ls", &dir, &["--json"]);
        assert!(listed.lines().all(|line| line.contains("\"problem\":null")), "{listed}");
        let json: Value =
            serde_json::from_str(&printed("state", &dir, &["--reduce", "count-by=type", "--json"])).unwrap();
        let of_type = |name: &str| json["state"][name].as_u64().unwrap_or(0);
        assert_eq!(of_type("live") + 6, json["events"].as_u64().unwrap());
        assert_eq!(of_type("todo_added"), 3);
        printed("state", &dir, &["count"]);
        assert_eq!(printed("cat", &dir, &["--limit", "7"]).lines().count(), 8);
        assert_eq!(printed("tail", &dir, &["-n3"]).lines().count(), 4);
        printed("stats", &dir, &[]);
        assert!(printed("verify", &dir, &[]).ends_with("nothing is wrong\n"));
    }
    // Those that write are refused.
    for command in ["rotate", "repair"] {
        let error = refused(1, &dir, &run(command, &dir, &[]));
        assert!(error.contains("another writer holds the lock of DIR/app.jsonl"), "{command}: {error}");
    }
    stop.send(()).unwrap();
    drop(writer.join().unwrap());
}

#[test]
fn stats_sum_up() {
    let (_temporary, dir) = todos();
    let bytes = |file: &str| dir.join(file).metadata().unwrap().len();
    let views: u64 =
        fs::read_dir(dir.join("views")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let json: Value = serde_json::from_str(&printed("stats", &dir, &["--json"])).unwrap();
    let right = json!({
        "events": 6, "pruned": 0, "archived": 3, "generations": 2, "log_bytes": 288,
        "archive_bytes": bytes("archive.jsonl.zst"), "views": 2, "view_bytes": views,
        "first": "2026-02-01T08:00:00.000000000Z", "last": "2026-02-06T08:00:00.000000000Z",
    });
    assert_eq!(json, right);
    let text = printed("stats", &dir, &[]);
    assert!(text.starts_with("events         6\npruned         0\narchived       3\n"), "{text}");
}

#[test]
fn what_was_pruned_is_said() {
    let (_temporary, dir) = todos();
    let mut log = EventLog::builder(&dir)
        .view_with::<u64>("count", ViewOptions::default().version(2), |count, _| count + 1)
        .view::<Vec<String>>("types", |types, _| types)
        .open()
        .unwrap();
    log.prune(3).unwrap();
    drop(log);
    let json: Value = serde_json::from_str(&printed("stats", &dir, &["--json"])).unwrap();
    assert_eq!([&json["events"], &json["pruned"], &json["archived"]], [6, 3, 0]);
    let (out, note) = said("state", &dir, &["--reduce", "count-by=type"]);
    assert_eq!(out, "{\n  \"todo_added\": 1,\n  \"todo_completed\": 2\n}\n");
    let right = "keplor: 3 events were pruned: this state is of those behind\n\
                 keplor: after 6 events, of which 3 were folded; 0 events since\n";
    assert_eq!(note, right);
    let error = refused(1, &dir, &run("cat", &dir, &["--from", "1"]));
    assert_eq!(
        error,
        "keplor: the events below number 3 were pruned; begin there, or restore what was exported\n"
    );
    let error = refused(1, &dir, &run("state", &dir, &["--reduce", "merge", "--at", "2"]));
    assert_eq!(error, "keplor: the first 3 events were pruned; begin behind them\n");
    let listed = printed("ls", &dir, &["--csv"]);
    assert!(listed.contains("\ncount,base,6,0,2,1:288,"), "{listed}");
    assert_eq!(printed("cat", &dir, &[]).lines().count(), 4);
}

/// The second line of the log is no event any more.
fn damage(dir: &Path) {
    let log = dir.join("app.jsonl");
    let text =
        fs::read_to_string(&log).unwrap().replacen("\"type\":\"todo_added\"", "\"type\":\"todo\"added\"", 1);
    fs::write(log, text).unwrap();
}

#[test]
fn damage_is_told_where_it_is_and_what_is_before_it_is_printed() {
    let (_temporary, dir) = todos();
    damage(&dir);
    let output = run("cat", &dir, &["--json"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4);
    let error = refused(1, &dir, &output);
    let right = "keplor: DIR is damaged; `keplor fold verify DIR` says all, and `keplor fold repair DIR` sets it aside: DIR/app.jsonl has no \
                 event in the line at byte 84: expected `,` or `}` at line 1 column 15; repair() sets such lines aside\n";
    assert_eq!(error, right);
    for arguments in [&["tail"][..], &["state", "--reduce", "merge"]] {
        let error = refused(1, &dir, &run(arguments[0], &dir, &arguments[1..]));
        assert!(
            error.contains("DIR/app.jsonl has no event in the line at byte 84"),
            "{arguments:?}: {error}"
        );
    }
    let (out, note) = said("cat", &dir, &["--json", "--skip-damaged"]);
    assert_eq!(out.lines().count(), 5);
    assert_eq!(
        note,
        "keplor: 1 line that is no event was passed over; `keplor fold verify DIR` says where\n"
    );
    assert_eq!(printed("tail", &dir, &["--skip-damaged", "--json"]).lines().count(), 5);
    let folded = printed("state", &dir, &["--reduce", "count-by=type", "--skip-damaged", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&folded).unwrap()["folded"], 5);
}

#[test]
fn verify_tells_damage_and_repair_sets_it_aside() {
    let (_temporary, dir) = todos();
    let sound = printed("verify", &dir, &[]);
    let right = "6 events in 2 generations, 553 bytes of lines; 4 states that are kept fit to the log\nnothing is wrong\n";
    assert_eq!(sound, right);
    assert_eq!(printed("repair", &dir, &[]), "nothing was damaged, and nothing was changed\n");
    damage(&dir);
    let output = run("verify", &dir, &["--json"]);
    let error = refused(1, &dir, &output);
    let right = "problems were found; restore the files from a copy, or close the program and set aside what is damaged: \
                 `keplor fold repair DIR`\n";
    assert!(error.ends_with(right), "{error}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["problem_count"], json["problems"].as_array().unwrap().len());
    let is_line = |problem: &&Value| problem["kind"] == "line";
    let line = json["problems"].as_array().unwrap().iter().find(is_line).unwrap();
    assert_eq!([&line["generation"], &line["offset"]], [1, 84]);
    let text = String::from_utf8(run("verify", &dir, &[]).stdout).unwrap();
    assert!(text.contains("app.jsonl, generation 1, byte 84: the line is no event: "), "{text}");

    let repaired = printed("repair", &dir, &[]);
    assert!(repaired.starts_with("1 line that is no event was taken out\n"), "{repaired}");
    assert!(repaired.contains("DIR/damaged/app.jsonl-84-"), "{repaired}");
    assert!(printed("verify", &dir, &[]).ends_with("nothing is wrong\n"));
    let json: Value = serde_json::from_str(&printed("repair", &dir, &["--json"])).unwrap();
    assert_eq!([&json["was_sound"], &json["lines_set_aside"]], [&json!(true), &json!(0)]);
}

#[test]
fn verify_tells_damage_by_its_status_when_nobody_reads_its_output() {
    let (_temporary, dir) = todos();
    damage(&dir);
    let mut verify = keplor(["verify".as_ref(), dir.as_os_str()]);
    let mut process = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

#[test]
fn rotate_archives_the_log() {
    let (_temporary, dir) = todos();
    let before = printed("cat", &dir, &[]);
    let bytes = || dir.join("archive.jsonl.zst").metadata().unwrap().len();
    let archive = bytes();
    let done = printed("rotate", &dir, &[]);
    let right =
        format!("archived 3 events: 288 bytes as {} bytes in DIR/archive.jsonl.zst\n", bytes() - archive);
    assert_eq!(done, right);
    assert_eq!(dir.join("app.jsonl").metadata().unwrap().len(), 0);
    assert_eq!(printed("cat", &dir, &[]), before);
    assert_eq!(printed("archive", &dir, &[]), "there was nothing to archive\n");
    let json = printed("rotate", &dir, &["--json"]);
    assert_eq!(json, "{\"events\":0,\"frame_bytes\":0,\"log_bytes\":0}\n");
    let listed = printed("ls", &dir, &["--json"]);
    assert!(listed.lines().all(|line| line.contains("\"problem\":null")), "{listed}");
    assert_eq!(printed("state", &dir, &["count"]), "5\n");
}

#[test]
fn a_directory_that_holds_no_log_is_a_slip() {
    let temporary = tempfile::tempdir().unwrap();
    let (missing, file) = (temporary.path().join("missing"), temporary.path().join("file"));
    fs::write(&file, "").unwrap();
    for command in
        [&["ls"][..], &["state", "x"], &["cat"], &["tail"], &["stats"], &["verify"], &["repair"], &["rotate"]]
    {
        let error = |dir: &Path| refused(1, dir, &run(command[0], dir, &command[1..]));
        let right = "keplor: there is no directory DIR; give the one that a program keeps its events in\n";
        assert_eq!(error(&missing), right, "{command:?}");
        assert_eq!(
            error(&file),
            "keplor: DIR is no directory; give the one that holds app.jsonl\n",
            "{command:?}"
        );
        let right = "keplor: DIR holds no log of events: it has no app.jsonl; give the directory that a program keeps its events in\n";
        assert_eq!(error(temporary.path()), right, "{command:?}");
    }
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_log_without_events_has_none() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("app.jsonl"), "").unwrap();
    for (command, lines) in [("ls", 2), ("cat", 1), ("tail", 1), ("stats", 10), ("verify", 2)] {
        assert_eq!(printed(command, temporary.path(), &[]).lines().count(), lines, "{command}");
    }
    assert_eq!(printed("state", temporary.path(), &["--reduce", "merge"]), "{}\n");
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let (_temporary, dir) = todos();
    for (command, arguments, right) in [
        ("state", &[][..], "<VIEW|--reduce <REDUCER>>"),
        ("state", &["count", "--reduce", "merge"], "cannot be used with"),
        (
            "state",
            &["--reduce", "sum"],
            "a reducer is merge, merge-by=FIELD, last-by=FIELD or count-by=FIELD",
        ),
        (
            "state",
            &["--reduce", "count-by=user"],
            "a field is type, actor, id or ts, or a path in data or meta",
        ),
        ("state", &["count", "--nearest"], "--at <MOMENT>"),
        ("cat", &["--from", "yesterday"], "a moment is a number of events (5120), a position (2:1284"),
        ("cat", &["--json", "--csv"], "cannot be used with"),
        ("frobnicate", &[], "unrecognized subcommand"),
    ] {
        let error = refused(2, &dir, &run(command, &dir, arguments));
        assert!(error.contains(right), "{command} {arguments:?}: {error}");
    }
    let error = refused(1, &dir, &run("state", &dir, &["count", "--type", "x"]));
    assert!(error.contains("--type, --actor and --skip-damaged go with --reduce"), "{error}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let temporary = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::open(temporary.path()).unwrap();
    let events: Vec<_> =
        (0..20_000).map(|n| event(0, "long", json!({ "n": n, "text": "x".repeat(50) }))).collect();
    writer.append_batch(&events).unwrap();
    for form in ["--json", "--csv", "--limit=1000000"] {
        let mut command = keplor(["cat".as_ref(), temporary.path().as_os_str(), form.as_ref()]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = process.stdout.take().unwrap();
        out.read_exact(&mut [0; 100]).unwrap();
        drop(out);
        let output = process.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success(), "{}", output.status);
    }
}

/// A device that takes nothing, as a full disk does.
#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_a_failure() {
    let (_temporary, dir) = todos();
    for command in
        [&["ls"][..], &["cat"], &["tail"], &["stats"], &["verify"], &["state", "--reduce=merge", "--json"]]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut process = keplor([command[0].as_ref(), dir.as_os_str()]);
        let output = process.args(&command[1..]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let error = refused(1, &dir, &output);
        assert!(
            error.starts_with("keplor: standard output cannot be written: No space left on device"),
            "{error}"
        );
    }
}
