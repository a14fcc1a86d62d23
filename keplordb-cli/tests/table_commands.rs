//! `keplor` on tables, run as a process: what it prints, what it leaves behind, and its exit status; also beside a live writer,
//! and when whoever reads goes away.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use keplordb::any::AnyStore;
use keplordb::{EngineConfig, Options, TableSchema};
use serde_json::Value as Json;
use tempfile::TempDir;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// 2026-02-21T10:00:00Z.
const START_NS: i64 = 1_771_668_000_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// Runs `keplor COMMAND DIR ARGUMENTS`.
fn run(command: &str, dir: &Path, arguments: &[&str]) -> Output {
    keplor([command.as_ref(), dir.as_os_str()]).args(arguments).output().unwrap()
}

/// Standard output of a command that must have done what it was asked.
fn printed(command: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = run(command, dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must have ended with an exit status.
fn refused(status: i32, output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    error.into_owned()
}

/// A table of calls: `seconds` after the start, user, model, tokens, status.
const CALLS: [(i64, &str, &str, u32, u16); 5] = [
    (0, "alice", "gpt-4o", 1200, 200),
    (60, "bob", "o3", 50, 200),
    (61, "alice", "gpt-4o", 300, 500),
    (3600, "carol", "gpt-4o", 7000, 200),
    (90_000, "alice", "o3", 1, 429),
];

fn store(dir: &Path) -> AnyStore {
    let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens").label("note");
    AnyStore::open_or_create(dir, schema).unwrap()
}

fn append(store: &AnyStore, (seconds, user, model, tokens, status): (i64, &str, &str, u32, u16)) {
    let event = store.event(START_NS + seconds * SECOND_NS).set("id", format!("call-{seconds}")).unwrap();
    let event = event.set("user", user).unwrap().set("model", model).unwrap();
    let event = event.set("flags", if user == "bob" { 3 } else { 1 }).unwrap();
    store.append(event.set("tokens", tokens).unwrap().set("status", status).unwrap()).unwrap();
}

fn calls() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("calls.db");
    let store = store(&dir);
    for call in CALLS {
        append(&store, call);
    }
    store.close().unwrap();
    (temporary, dir)
}

fn json_lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn query_prints_the_newest_or_the_oldest_events_as_text_json_and_csv() {
    let (_temporary, dir) = calls();
    assert_eq!(
        printed("query", &dir, &["--columns", "ts,user,tokens,status", "-n", "3"]),
        "\
ts                    user   tokens  status
2026-02-22T11:00:00Z  alice       1     429
2026-02-21T11:00:00Z  carol   7,000     200
2026-02-21T10:01:01Z  alice     300     500
"
    );
    assert_eq!(
        printed("query", &dir, &["--columns", "ts,user", "--oldest", "--csv", "-w", "model=gpt-4o"]),
        "ts,user\n2026-02-21T10:00:00Z,alice\n2026-02-21T10:01:01Z,alice\n2026-02-21T11:00:00Z,carol\n"
    );
    let rows = json_lines(&printed("query", &dir, &["--json", "-n", "1"]));
    assert_eq!(
        rows,
        [serde_json::json!({
            "ts": "2026-02-22T11:00:00Z", "id": "call-90000", "metric": 0, "latency_ms": 0, "latency_detail_ms": 0,
            "status": 429, "flags": 1, "sequence": rows[0]["sequence"], "user": "alice", "model": "o3", "tokens": 1, "note": "",
        })]
    );
    assert_eq!(printed("query", &dir, &["--all", "--json"]).lines().count(), CALLS.len());
}

#[test]
fn conditions_choose_events_as_a_loop_would() {
    type Holds = fn(&(i64, &str, &str, u32, u16)) -> bool;
    let (_temporary, dir) = calls();
    let cases: [(&[&str], Holds); 19] = [
        (&["-w", "user == alice"], |call| call.1 == "alice"),
        (&["-w", "user = alice, bob"], |call| call.1 == "alice"),
        (&["-w", "flags&=2"], |call| call.1 == "bob"),
        (&["-w", "user=alice"], |call| call.1 == "alice"),
        (&["-w", "user!=alice"], |call| call.1 != "alice"),
        (&["-w", "user=alice,bob"], |call| call.1 != "carol"),
        (&["-w", "model^=gpt"], |call| call.2.starts_with("gpt")),
        (&["-w", "model$=3"], |call| call.2.ends_with('3')),
        (&["-w", "model*=-4"], |call| call.2.contains("-4")),
        (&["-w", "tokens>=300"], |call| call.3 >= 300),
        (&["-w", "tokens>300"], |call| call.3 > 300),
        (&["-w", "tokens<=300"], |call| call.3 <= 300),
        (&["-w", "tokens<300"], |call| call.3 < 300),
        (&["-w", "tokens=1,50"], |call| [1, 50].contains(&call.3)),
        (&["-w", "status!=200"], |call| call.4 != 200),
        (&["-w", "user=alice", "-w", "status>=500"], |call| call.1 == "alice" && call.4 >= 500),
        (&["--from", "2026-02-21T10:01:00Z", "--to", "2026-02-21T10:01:01Z"], |call| call.0 == 60),
        (&["--from", "2026-02-22"], |call| call.0 == 90_000),
        (&["-w", "ts<2026-02-21T10:01:00Z"], |call| call.0 < 60),
    ];
    for (arguments, holds) in cases {
        let wanted: Vec<String> =
            CALLS.iter().filter(|call| holds(call)).map(|call| format!("call-{}", call.0)).collect();
        let mut all = vec!["--oldest", "--csv", "--columns", "id"];
        all.extend(arguments);
        let found: Vec<String> = printed("query", &dir, &all).lines().skip(1).map(str::to_owned).collect();
        assert_eq!(found, wanted, "{arguments:?}");
        let counted = json_lines(&printed("count", &dir, &[arguments, &["--json"]].concat()));
        assert_eq!(counted, [serde_json::json!({ "events": wanted.len() })]);
    }
}

#[test]
fn conditions_that_make_no_sense_say_what_does() {
    let (_temporary, dir) = calls();
    for (condition, status, said) in [
        ("user>alice", 1, "user holds texts, which have no < and >"),
        ("tokens^=1", 1, "tokens holds numbers, which are compared by"),
        ("tokens=many", 1, "tokens holds whole numbers, and \"many\" is none"),
        ("usr=alice", 1, "there is no column \"usr\"; there are ts, id, metric"),
        ("alice", 2, "a condition is a column, one of ="),
    ] {
        let error = refused(status, &run("query", &dir, &["-w", condition]));
        assert!(error.contains(said), "{condition}: {error}");
    }
}

#[test]
fn count_groups_by_columns_and_time_and_draws_bars() {
    let (_temporary, dir) = calls();
    assert_eq!(printed("count", &dir, &[]), "events\n     5\n");
    assert_eq!(
        printed("count", &dir, &["--by", "user", "--sum", "tokens", "--mean", "tokens"]),
        "\
user   events  sum(tokens)  mean(tokens)
alice       3        1,501        500.33  ██████████████████████████████
bob         1           50         50.00  ██████████
carol       1        7,000      7,000.00  ██████████
"
    );
    let by_day = printed("count", &dir, &["--bucket", "1d", "--by", "status", "--csv"]);
    assert_eq!(
        by_day,
        "status,ts,events\n200,2026-02-21T00:00:00Z,3\n429,2026-02-22T00:00:00Z,1\n500,2026-02-21T00:00:00Z,1\n"
    );
    let of_all =
        ["--min", "ts", "--max", "tokens", "--distinct", "user", "--quantile", "tokens:0.5", "--json"];
    assert_eq!(
        json_lines(&printed("count", &dir, &of_all)),
        [serde_json::json!({
            "events": 5, "min(ts)": "2026-02-21T10:00:00Z", "max(tokens)": 7000, "distinct(user)": 3, "p50(tokens)": 300,
        })]
    );
}

#[test]
fn top_and_values_list_what_a_dim_has() {
    let (_temporary, dir) = calls();
    assert_eq!(
        printed("top", &dir, &["user", "-n", "2"]),
        "\
user   events  percent
alice       3    60.00  ██████████████████████████████
bob         1    20.00  ██████████
"
    );
    assert_eq!(
        printed("values", &dir, &["model", "--csv"]),
        "model,events,first,last\n\
         gpt-4o,3,2026-02-21T10:00:00Z,2026-02-21T11:00:00Z\n\
         o3,2,2026-02-21T10:01:00Z,2026-02-22T11:00:00Z\n"
    );
    assert_eq!(json_lines(&printed("top", &dir, &["status", "--json"]))[0]["status"], 200);
    let error = refused(1, &run("top", &dir, &["tokens"]));
    assert!(error.contains("tokens"), "{error}");
}

#[test]
fn get_prints_one_event() {
    let (_temporary, dir) = calls();
    let text = printed("get", &dir, &["call-61"]);
    assert!(
        text.starts_with(
            "column             value\nts                 2026-02-21T10:01:01Z\nid                 call-61\n"
        ),
        "{text}"
    );
    assert_eq!(json_lines(&printed("get", &dir, &["call-61", "--json"]))[0]["tokens"], 300);
    let error = refused(1, &run("get", &dir, &["call-62"]));
    assert!(error.contains("no event of ") && error.contains("has the id \"call-62\""), "{error}");
}

#[test]
fn init_makes_a_table_from_flags_or_a_file_and_only_where_nothing_is() {
    let temporary = tempfile::tempdir().unwrap();
    let (flags, file) = (temporary.path().join("flags"), temporary.path().join("file"));
    let toml = temporary.path().join("calls.toml");
    fs::write(&toml, "id = 7\ndims = [\"user\"]\ncounters = [\"tokens\"]\nindexed_labels = [\"session\"]\n")
        .unwrap();
    let of_flags = printed(
        "init",
        &flags,
        &["--dim", "user", "--counter", "tokens", "--indexed-label", "session", "--id", "7"],
    );
    let of_file = printed("init", &file, &["--schema", toml.to_str().unwrap()]);
    assert_eq!(of_flags, of_file);
    assert!(of_flags.contains("user               dim       text\n"), "{of_flags}");
    assert_eq!(AnyStore::open(&flags).unwrap().schema(), AnyStore::open(&file).unwrap().schema());
    let error = refused(1, &run("init", &flags, &["--dim", "user"]));
    assert!(error.contains("is not empty"), "{error}");
    let error =
        refused(1, &run("init", &temporary.path().join("new"), &["--dim", "user", "--counter", "user"]));
    assert!(error.contains("user"), "{error}");
    fs::write(&toml, "dim = [\"user\"]\n").unwrap();
    let error =
        refused(1, &run("init", &temporary.path().join("new"), &["--schema", toml.to_str().unwrap()]));
    assert!(error.contains("is no schema") && error.contains("unknown field `dim`"), "{error}");
}

/// Runs `keplor append DIR ARGUMENTS` with an input.
fn appended(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = keplor(["append".as_ref(), dir.as_os_str()]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // One that refuses its arguments does not read.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

#[test]
fn what_query_prints_as_json_append_takes() {
    let (_temporary, dir) = calls();
    let copy = dir.with_extension("copy");
    drop(store(&copy));
    let lines = printed("query", &dir, &["--all", "--oldest", "--json"]);
    // A sequence is given by the table.
    let refused_lines = appended(&copy, &[], &lines);
    assert_eq!(refused_lines.status.code(), Some(2));
    let columns = "ts,id,metric,latency_ms,latency_detail_ms,status,flags,user,model,tokens,note";
    let lines = printed("query", &dir, &["--all", "--oldest", "--json", "--columns", columns]);
    let output = appended(&copy, &["--json"], &lines);
    assert!(output.status.success());
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["events"], &said["rejected"]), (&Json::from(5), &Json::from(0)));
    assert_eq!(printed("query", &copy, &["--all", "--oldest", "--json", "--columns", columns]), lines);
}

#[test]
fn rejected_lines_are_counted_listed_and_told_by_the_exit_status() {
    let (_temporary, dir) = calls();
    let input = "\
{\"ts\":\"2026-03-01T00:00:00Z\",\"user\":\"dora\",\"tokens\":5}

{\"ts\":\"yesterday\"}
{\"usr\":\"dora\"}
{\"tokens\":-1}
{\"tokens\":1.5}
{\"tokens\":[1]}
not \"json\"
{\"ts_ns\":1772323200000000001,\"user\":null}
";
    let output = appended(&dir, &[], input);
    let error = refused(2, &output);
    let rejects = dir.with_extension("db.rejects.csv");
    assert_eq!(error, format!("keplor: 6 lines were rejected: see {}\n", rejects.display()));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("2 events, the last with sequence "));
    let listed = fs::read_to_string(&rejects).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], "begun,line,reason,text");
    let lines: Vec<&str> = lines[1..].iter().map(|line| line.split_once(',').unwrap().1).collect();
    for (line, said) in lines.iter().zip([
        "3,\"ts is no time as 2026-02-21T10:00:00Z: \"\"yesterday\"\"\",\"{\"\"ts\"\":\"\"yesterday\"\"}\"",
        "4,\"there is no column \"\"usr\"\"",
        "5,\"tokens",
        "6,\"tokens is no whole number of 64 bits: 1.5\"",
        "7,\"tokens is a text or a whole number, not [1]\"",
        "8,\"it is no JSON object",
    ]) {
        assert!(line.starts_with(said), "{line}");
    }
    assert_eq!(lines.len(), 6);
    let newest = json_lines(&printed("query", &dir, &["-n", "2", "--json"]));
    assert_eq!([&newest[0]["ts"], &newest[1]["user"]], ["2026-03-01T00:00:00.000000001Z", "dora"]);
}

/// A pipe cannot be read again: what came before the line that nobody can keep is in the table.
#[test]
fn good_lines_stay_where_the_side_file_cannot_be_written() {
    let (temporary, dir) = calls();
    let input = format!("{}bad\n{{}}\n", "{\"user\":\"eve\"}\n".repeat(100));
    let foreign = temporary.path().join("precious.txt");
    fs::write(&foreign, "precious").unwrap();
    for (rejects, said) in [
        (temporary.path().join("missing/rejects.csv"), "cannot be written"),
        (foreign.clone(), "is no file of rejected lines"),
    ] {
        let before = json_lines(&printed("count", &dir, &["--json"]))[0]["events"].as_u64().unwrap();
        let output = appended(&dir, &["--rejects", rejects.to_str().unwrap()], &input);
        let error = refused(1, &output);
        assert!(error.contains(said) && !error.contains("rejected: see"), "{error}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("100 events, "));
        assert_eq!(json_lines(&printed("count", &dir, &["--json"]))[0]["events"], before + 100);
    }
    assert_eq!(fs::read_to_string(foreign).unwrap(), "precious");
}

/// Ctrl-C ends an append whose input goes on: what came is in the table, and is counted.
#[cfg(unix)]
#[test]
fn an_interrupted_append_says_how_far_it_is() {
    let (_temporary, dir) = calls();
    let mut command = keplor(["append".as_ref(), dir.as_os_str()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"{\"user\":\"eve\"}\nbad\n{\"user\":\"eve\"}\n").unwrap();
    let begun = Instant::now();
    while json_lines(&printed("count", &dir, &["--json"]))[0]["events"] != 7 {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    let error = refused(130, &output);
    assert!(
        error.contains("interrupted; go on behind line 3 of the input")
            && error.contains("1 line was rejected"),
        "{error}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("2 events, the last with sequence "));
    drop(input);
}

/// The exit status says what became of the input, also to who does not read standard output.
#[test]
fn rejected_lines_are_told_by_the_status_when_nobody_reads() {
    let (_temporary, dir) = calls();
    let mut command = keplor(["append".as_ref(), dir.as_os_str()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    drop(process.stdout.take());
    process.stdin.take().unwrap().write_all(b"{}\nbad\n").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(2));
}

/// What an open had to mend is said by commands that write, and deleted events are in no sum.
#[test]
fn what_was_mended_is_said_and_deleted_events_are_left_out() {
    let (_temporary, dir) = calls();
    let writer = store(&dir);
    writer.flush().unwrap();
    assert_eq!(writer.delete(&["call-90000", "call-0"]).unwrap(), 2);
    writer.close().unwrap();
    let stats = &json_lines(&printed("stats", &dir, &["--json"]))[0];
    assert_eq!([&stats["first"], &stats["last"]], ["2026-02-21T10:01:00Z", "2026-02-21T11:00:00Z"]);
    assert_eq!(stats["events"], 3);
    let files = json_lines(&printed("inspect", &dir, &["--json"]));
    assert_eq!(files.iter().filter_map(|file| file["deleted"].as_i64()).sum::<i64>(), 2, "{files:?}");

    for file in ["LOCK", "MANIFEST.spare"] {
        let error = refused(1, &run("inspect", &dir, &["--hex", file]));
        assert!(error.contains("holds nothing of a table"), "{error}");
    }
    fs::remove_file(dir.join("MANIFEST")).unwrap();
    let output = appended(&dir, &[], "");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "keplor: the manifest was lost, and is made anew from the other files\n"
    );
    assert_eq!(printed("count", &dir, &["--csv"]), "events\n3\n");
}

#[test]
fn names_and_fields_of_csv_and_json_stay_apart() {
    let (_temporary, dir) = calls();
    let twice = json_lines(&printed("count", &dir, &["--sum", "tokens", "--sum", "tokens", "--json"]));
    assert_eq!(twice, [serde_json::json!({ "events": 5, "sum(tokens)": 8551, "sum(tokens)_2": 8551 })]);
    // An empty line is no row to many readers.
    assert_eq!(printed("query", &dir, &["-n", "2", "--columns", "note", "--csv"]), "note\n\"\"\n\"\"\n");
}

/// A writer that merges and takes files away at once, and goes: whoever asks meanwhile begins anew.
#[test]
fn questions_are_answered_while_files_are_replaced() {
    let (_temporary, dir) = calls();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for second in 200_000.. {
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let options = Options::default().unlink_grace(Duration::ZERO);
                let writer = AnyStore::open_with(EngineConfig::in_dir(&dir), options).unwrap();
                append(&writer, (second, "dora", "o3", 9, 200));
                writer.flush().unwrap();
                writer.close().unwrap();
            }
        });
        for _ in 0..15 {
            let groups = json_lines(&printed("count", &dir, &["--by", "user", "--json"]));
            assert_eq!(groups.iter().filter(|group| group["user"] != "dora").count(), 3);
            printed("query", &dir, &["-w", "note=", "--json"]);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn directories_that_are_none_or_locked_are_said() {
    let (temporary, dir) = calls();
    let missing = temporary.path().join("missing");
    let file = temporary.path().join("file");
    fs::write(&file, "").unwrap();
    let empty = temporary.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for command in ["query", "count", "tail", "compact", "verify", "repair"] {
        let error = refused(1, &run(command, &missing, &[]));
        assert!(
            error.contains("there is no directory ") && error.contains("`keplor init` makes a table"),
            "{error}"
        );
        assert!(!missing.exists());
        assert!(refused(1, &run(command, &file, &[])).contains("is no directory"));
        let error = refused(1, &run(command, &empty, &[]));
        assert!(error.contains("holds no table"), "{command}: {error}");
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "{command}");
    }
    let writer = store(&dir);
    for (command, arguments) in
        [("compact", &[][..]), ("repair", &[]), ("gc", &["--before", "1d"]), ("append", &[])]
    {
        let error = refused(1, &run(command, &dir, arguments));
        assert!(error.contains("is already open by"), "{command}: {error}");
    }
    drop(writer);
}

#[test]
fn every_command_that_only_reads_works_beside_a_live_writer() {
    let (_temporary, dir) = calls();
    let writer = store(&dir);
    append(&writer, (100_000, "dora", "o3", 9, 200));
    for arguments in [
        &["query", "-n", "1", "--json"][..],
        &["tail", "-n", "1", "--json"],
        &["get", "call-100000", "--json"],
    ] {
        let rows = json_lines(&printed(arguments[0], &dir, &arguments[1..]));
        assert_eq!(rows[0]["user"], "dora", "{arguments:?}");
    }
    assert_eq!(json_lines(&printed("count", &dir, &["--json"]))[0]["events"], 6);
    assert_eq!(json_lines(&printed("top", &dir, &["user", "-n", "9", "--json"])).len(), 4);
    assert_eq!(json_lines(&printed("values", &dir, &["user", "--json"])).len(), 4);
    let report = json_lines(&printed("verify", &dir, &["--full", "--json"]));
    assert_eq!(
        (&report[0]["problems"], &report[0]["writer_at_work"]),
        (&Json::Array(vec![]), &Json::from(true))
    );
}

/// A command that goes on, and its lines.
struct Following {
    process: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || out.lines().try_for_each(|line| sender.send(line.unwrap())));
        Self { process, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn tail_goes_on_with_what_another_process_appends() {
    let (_temporary, dir) = calls();
    let writer = store(&dir);
    let arguments =
        ["-f", "-n", "1", "--csv", "--columns", "user,tokens", "-w", "tokens<100", "--every", "10ms"];
    let mut command = keplor(["tail".as_ref(), dir.as_os_str()]);
    command.args(arguments);
    let tail = Following::start(command);
    assert_eq!([tail.next(), tail.next()], ["user,tokens", "alice,1"]);
    // An event of any time comes when it is appended.
    for (seconds, tokens) in [(5, 3), (4, 1000), (200_000, 4)] {
        append(&writer, (seconds, "dora", "o3", tokens, 200));
    }
    assert_eq!([tail.next(), tail.next()], ["dora,3", "dora,4"]);
    writer.flush().unwrap();
    append(&writer, (6, "dora", "o3", 5, 200));
    assert_eq!(tail.next(), "dora,5");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (_temporary, dir) = calls();
    let writer = store(&dir);
    let event = |second: i64| writer.event(START_NS + second * SECOND_NS).set("user", "dora").unwrap();
    writer.append_batch((0..5_000).map(event)).unwrap();
    drop(writer);
    let mut command = keplor(["query".as_ref(), dir.as_os_str()]);
    command.args(["--all", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"ts\":"), "{line}");
    let begun = Instant::now();
    let status = process.wait().unwrap();
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success() && said.is_empty() && begun.elapsed() < PATIENCE, "{status} {said}");
}

#[test]
fn stats_and_inspect_say_what_the_files_hold_beside_a_writer() {
    let (_temporary, dir) = calls();
    let writer = store(&dir);
    writer.flush().unwrap();
    append(&writer, (100_000, "dora", "o3", 9, 200));
    let stats = json_lines(&printed("stats", &dir, &["--json"]));
    assert_eq!((&stats[0]["events"], &stats[0]["segments"]), (&Json::from(6), &Json::from(1)));
    assert_eq!(stats[0]["last"], "2026-02-22T13:46:40Z");
    let files = json_lines(&printed("inspect", &dir, &["--json"]));
    assert_eq!(files.iter().filter_map(|file| file["rows"].as_i64()).sum::<i64>(), 6);
    assert_eq!((&files[0]["rows"], &files[0]["deleted"]), (&Json::from(5), &Json::from(0)));
    let columns = json_lines(&printed("inspect", &dir, &["--columns", "--json"]));
    assert!(columns.iter().any(|column| column["column"] == "user"), "{columns:?}");
    let spans = json_lines(&printed("inspect", &dir, &["--hex", "MANIFEST", "--bytes", "8", "--json"]));
    assert_eq!(spans[0]["offset"], 0);
    assert!(printed("inspect", &dir, &["--hex", "MANIFEST"]).contains("  00000000  "));
}

#[test]
fn upkeep_says_what_it_did() {
    let (temporary, dir) = calls();
    let copy = temporary.path().join("copy");
    assert_eq!(
        printed("checkpoint", &dir, &[copy.to_str().unwrap()]),
        format!("5 events in {}\n", copy.display())
    );
    assert_eq!(printed("count", &copy, &["--csv"]), "events\n5\n");
    let writer = store(&dir);
    writer.flush().unwrap();
    assert_eq!(writer.delete(&["call-60", "call-61"]).unwrap(), 2);
    drop(writer);
    let compacted = json_lines(&printed("compact", &dir, &["--json"]));
    assert_eq!(compacted[0]["rows_purged"], 2);
    assert_eq!(
        printed("gc", &dir, &["--before", "2026-02-21"]),
        "dropped 0 segments with 0 events, 0 bytes\n"
    );
    let dropped = json_lines(&printed("gc", &dir, &["--before", "2026-03-01", "--json"]));
    assert_eq!((&dropped[0]["segments"], &dropped[0]["events"]), (&Json::from(1), &Json::from(3)));
    // Its file is gone too, and not only once another command comes.
    assert_eq!(fs::read_dir(dir.join("segments")).unwrap().count(), 0);
    assert_eq!(printed("count", &dir, &["--csv"]), "events\n0\n");
}

#[test]
fn damage_is_found_by_verify_and_set_aside_by_repair() {
    let (_temporary, dir) = calls();
    // The logs that the segment replaces go at once: else it would be made of them anew.
    let options = Options::default().unlink_grace(Duration::ZERO);
    let writer = AnyStore::open_with(EngineConfig::in_dir(&dir), options).unwrap();
    writer.flush().unwrap();
    append(&writer, (100_000, "dora", "o3", 9, 200));
    writer.close().unwrap();
    assert!(printed("verify", &dir, &[]).ends_with("nothing is wrong\n"));
    let segment = |dir: &Path| {
        let files = walk(dir).into_iter().filter(|path| path.extension() == Some("kseg".as_ref()));
        files.max().unwrap()
    };
    let damaged = segment(&dir);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&damaged, &bytes).unwrap();

    let output = run("verify", &dir, &[]);
    let error = refused(1, &output);
    assert!(
        error.contains("restore the files from a copy, or go on without them by `keplor repair "),
        "{error}"
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("{} is damaged at byte ", damaged.display())), "{said}");

    let said = printed("repair", &dir, &[]);
    assert!(
        said.contains("at most 5 rows are lost, between 2026-02-21T10:00:00Z and 2026-02-22T11:00:00Z"),
        "{said}"
    );
    assert!(said.ends_with("1 file was set aside; the table opens and has 1 event\n"), "{said}");
    let quarantined = walk(&dir.join("quarantine"));
    assert!(quarantined.iter().any(|path| fs::read(path).unwrap() == bytes), "{quarantined:?}");
    assert!(printed("verify", &dir, &["--full"]).ends_with("nothing is wrong\n"));
    assert_eq!(json_lines(&printed("repair", &dir, &["--json"]))[0]["quarantined"], Json::Array(vec![]));
}

#[test]
fn what_an_older_manifest_does_not_know_is_not_called_damaged_and_is_set_aside_by_repair() {
    let (_temporary, dir) = calls();
    let older = fs::read(dir.join("MANIFEST")).unwrap();
    let options = Options::default().unlink_grace(Duration::ZERO);
    let writer = AnyStore::open_with(EngineConfig::in_dir(&dir), options).unwrap();
    writer.flush().unwrap();
    writer.close().unwrap();
    fs::write(dir.join("MANIFEST"), older).unwrap();

    let output = run("verify", &dir, &[]);
    let error = refused(1, &output);
    assert!(error.contains("unless it is said above what to do, restore"), "{error}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(".kseg: the manifest lists neither it nor all that it was made of"), "{said}");
    assert!(!said.contains("is damaged"), "{said}");

    let before: Vec<_> =
        walk(&dir.join("segments")).into_iter().map(|path| fs::read(path).unwrap()).collect();
    printed("repair", &dir, &[]);
    let aside: Vec<_> =
        walk(&dir.join("quarantine")).into_iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before.iter().all(|segment| aside.contains(segment)));
}

/// All files below a directory.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn shells_and_man_know_every_command() {
    let temporary = tempfile::tempdir().unwrap();
    let completions = |shell: &str| {
        let output = keplor(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = completions(shell);
        assert!(script.contains("checkpoint") && script.contains("replicate"), "{shell}");
    }
    let pages = temporary.path().join("man1");
    printed("man", &pages, &[]);
    let page = fs::read_to_string(pages.join("keplor-query.1")).unwrap();
    assert!(page.contains("Examples:") && page.contains("keplor query flights.db"), "{page}");
}

#[test]
fn help_fits_a_screen_and_long_help_has_examples() {
    let help = |arguments: &[&str]| {
        let output = keplor(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let short = help(&["-h"]);
    assert!(short.lines().count() <= 53, "{short}");
    assert!(short.lines().all(|line| line.chars().count() <= 120), "{short}");
    let commands = |help: &str| -> Vec<String> {
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        let names = lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.map(str::to_owned).collect()
    };
    let all = commands(&short);
    assert!(
        ["init", "log", "fold", "man"].iter().all(|command| all.iter().any(|name| name == command)),
        "{all:?}"
    );
    for command in &all {
        let parts = commands(&help(&[command, "-h"]));
        let parts = if parts.is_empty() {
            vec![vec![command.as_str()]]
        } else {
            parts.iter().map(|part| vec![command, part.as_str()]).collect()
        };
        for command in parts {
            let short = help(&[&command[..], &["-h"]].concat());
            assert!(short.lines().count() <= 50, "{short}");
            let long = help(&[&command[..], &["--help"]].concat());
            assert!(
                long.split_once("Example")
                    .is_some_and(|(_, examples)| examples.contains(&format!("keplor {}", command.join(" ")))),
                "{command:?}: {long}"
            );
        }
    }
}
