//! `keplor import`, `export` and `sql`, run as processes on real tables: what they print, what they leave behind, and their exit
//! status.
#![cfg(feature = "sql")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use keplordb::TableSchema;
use keplordb::any::{AnyReader, AnyStore};
use tempfile::TempDir;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(2);
/// 2026-02-21T10:00:00Z.
const TEN: i64 = 1_771_668_000_000_000_000;

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Standard output of a command that must have done what it was asked, without a word on standard error.
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error of a command that must have ended with an exit status.
fn refused(status: i32, output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    error.into_owned()
}

/// A folder with the table `calls.db`, which is empty.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        drop(folder.store("calls.db"));
        folder
    }

    /// One with four calls.
    fn with_calls() -> Self {
        let folder = Self::new();
        let store = folder.store("calls.db");
        for (second, user, model, tokens, note) in [
            (0, "alice", "gpt-4o", 1200, "first"),
            (1, "bob", "o3", 50, "a,b"),
            (2, "alice", "o3", 300, "say \"no\""),
            (3, "carol", "gpt-4o", 7, ""),
        ] {
            let call = store.event(TEN + second * 1_000_000_000).set("user", user).unwrap();
            let call =
                call.set("model", model).unwrap().set("tokens", tokens).unwrap().set("note", note).unwrap();
            store.append(call.set("metric", -5).unwrap()).unwrap();
        }
        store.close().unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens a table, or makes it.
    fn store(&self, name: &str) -> AnyStore {
        let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens").label("note");
        AnyStore::open_or_create(self.path(name), schema).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs `keplor ARGUMENTS` in the folder.
    fn run(&self, arguments: &[&str]) -> Output {
        keplor(arguments).current_dir(self.dir.path()).output().unwrap()
    }

    fn printed(&self, arguments: &[&str]) -> String {
        done(&self.run(arguments))
    }

    /// What stands in messages for the folder.
    fn shown(&self, text: &str) -> String {
        let dir = self.dir.path().canonicalize().unwrap();
        text.replace(&format!("{}/", dir.display()), "…/")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Names of journals without the hash of the source's path.
fn without_hash(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(".import").collect();
    let last = parts.pop().unwrap();
    let parts = parts.iter().map(|part| format!("{}HASH.import", &part[..part.len() - 8]));
    parts.chain([last.to_owned()]).collect()
}

#[test]
fn import_takes_columns_by_name_and_by_mappings() {
    let folder = Folder::new();
    folder.write(
        "calls.csv",
        "when,user,tokens,price,seen,x\n\
         2026-02-21T10:00:00Z,alice,1200,12.50,,1\n\
         2026-02-21T11:00:00+01:00,bob,,3,7,2\n\
         2026-02-21T10:00:02Z,carol,many,1,7,3\n\
         2026-02-21T10:00:03Z,carol,1,1.001,7,4\n",
    );
    let import = [
        "import",
        "calls.db",
        "calls.csv",
        "-m",
        "when=ts",
        "-m",
        "price=metric:digits=2",
        "-m",
        "seen=latency_ms:times=1000,or=0",
    ];
    let output = folder.run(&import);
    assert_eq!(
        without_hash(&folder.shown(&refused(2, &output))),
        "keplor: these columns of calls.csv do not come in: x\n\
         keplor: 2 rows were rejected: see …/calls.db.calls.csv.HASH.import.rejects.csv\n"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2 rows imported\n");
    let rejects = folder.names().into_iter().find(|name| name.ends_with(".rejects.csv")).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path(&rejects)).unwrap(),
        "line,column,reason,text\n\
         4,\"tokens\",\"\"\"many\"\" is not a number\",\"2026-02-21T10:00:02Z,carol,many,1,7,3\"\n\
         5,\"price\",\"\"\"1.001\"\" has more decimals than are kept\",\"2026-02-21T10:00:03Z,carol,1,1.001,7,4\"\n"
    );
    let rows = ["query", "calls.db", "--csv", "--oldest", "--columns", "ts,user,tokens,metric,latency_ms"];
    let right = "ts,user,tokens,metric,latency_ms\n\
                 2026-02-21T10:00:00Z,alice,1200,1250,0\n\
                 2026-02-21T10:00:00Z,bob,0,300,7000\n";
    assert_eq!(folder.printed(&rows), right);
    // They are in a segment, and the log that they came by is gone.
    let json: serde_json::Value =
        serde_json::from_str(&folder.printed(&["stats", "calls.db", "--json"])).unwrap();
    assert_eq!((&json["segments"], &json["logs"]), (&1.into(), &0.into()));

    // Once more it adds nothing.
    let output = folder.run(&[&import[..], &["--json"]].concat());
    refused(2, &output);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["rows"], &json["rows_before"], &json["rejected"]), (&2.into(), &2.into(), &2.into()));
    assert_eq!(
        json["rejects"].as_str().map(Path::new),
        Some(&*folder.path(&rejects).canonicalize().unwrap())
    );
    assert!(Path::new(json["journal"].as_str().unwrap()).exists());
    assert_eq!(folder.printed(&rows), right);
}

#[test]
fn import_reads_what_other_commands_printed() {
    let folder = Folder::with_calls();
    let all = ["calls.db", "--all", "--oldest"];
    let columns = ["--columns", "ts,user,model,tokens,note,metric"];
    let right = folder.printed(&[&["query"][..], &all, &columns, &["--csv"]].concat());
    assert_eq!(right.lines().count(), 5);
    folder.write("a.csv", &folder.printed(&[&["query"][..], &all, &["--csv"]].concat()));
    folder.write("a.jsonl", &folder.printed(&[&["query"][..], &all, &["--json"]].concat()));
    folder.write("a.tsv", &right.replace(',', "\t").replace("\"a\tb\"", "\"a,b\""));
    folder.write(
        "strange",
        &right.replace(',', ";").replace("\"a;b\"", "\"a,b\"").replace("ts;user", "at;who"),
    );
    folder.printed(&["export", "calls.db", "a.parquet"]);
    let cases: [(&str, &[&str]); 5] = [
        ("a.csv", &[]),
        ("a.jsonl", &[]),
        ("a.tsv", &[]),
        ("a.parquet", &[]),
        ("strange", &["--format", "csv", "--delimiter", ";", "-m", "at=ts", "-m", "who=user"]),
    ];
    for (file, flags) in cases {
        let table = format!("from-{file}");
        drop(folder.store(&table));
        assert_eq!(
            folder.printed(&[&["import", &table, file][..], flags].concat()),
            "4 rows imported\n",
            "{file}"
        );
        let found =
            folder.printed(&[&["query", &table, "--all", "--oldest"][..], &columns, &["--csv"]].concat());
        assert_eq!(found, right, "{file}");
    }
}

#[test]
fn import_says_what_is_missing() {
    let folder = Folder::new();
    folder.write("a.csv", "at,user\n1,alice\n");
    folder.write("a.txt", "");
    let cases: [(&[&str], &str); 8] = [
        (
            &["nothing.db", "a.csv"],
            "keplor: there is no directory nothing.db; `keplor init` makes a table, with the columns that the file is to go to\n",
        ),
        (&["a.csv", "a.csv"], "keplor: a.csv is no directory; give the one that holds the table\n"),
        (&["calls.db", "a.txt"], "keplor: the name of a.txt does not say what it is; say it by --format\n"),
        (
            &["calls.db", "a.csv"],
            "keplor: which column of a.csv has the times? say so, and how it writes them, by --map NAME=ts; there are at, user\n",
        ),
        (
            &["calls.db", "a.csv", "-m", "at=ts:s", "-m", "x=note"],
            "keplor: the columns of a.csv do not fit: there is no column \"x\"; the columns are at, user\n",
        ),
        (
            &["calls.db", "a.csv", "-m", "at=ts:s", "-m", "user=who"],
            "keplor: there is no column \"who\"; there are ts, id, metric, latency_ms, latency_detail_ms, status, flags, sequence, user, \
             model, tokens, note\n",
        ),
        (
            &["calls.db", "a.csv", "--format", "jsonl", "--delimiter", ";"],
            "keplor: --delimiter, --quote and --columns are for CSV, and a.csv is none\n",
        ),
        (
            &["calls.db", "b.csv"],
            "keplor: opening b.csv failed: No such file or directory (os error 2); see to the file, its directory's permissions and the disk\n",
        ),
    ];
    for (arguments, right) in cases {
        assert_eq!(refused(1, &folder.run(&[&["import"][..], arguments].concat())), right);
    }
    let error = refused(2, &folder.run(&["import", "calls.db", "a.csv", "-m", "at=ts:iso"]));
    assert!(error.contains("\"iso\" is no way to write a time"), "{error}");
    folder.write("bad.csv", "ts,user\nx,a\ny,b\n");
    let error = refused(1, &folder.run(&["import", "calls.db", "bad.csv", "--rejects-max", "1"]));
    assert!(
        error.starts_with(
            "keplor: more than 1 rows of bad.csv were rejected, the last one in line 3: ts: \"y\""
        ),
        "{error}"
    );
    let store = folder.store("calls.db");
    let error = refused(1, &folder.run(&["import", "calls.db", "a.csv", "-m", "at=ts:s"]));
    assert!(error.contains("calls.db") && error.contains("open"), "{error}");
    store.close().unwrap();
}

/// The line of the README and of `keplor import --help`, with all of the flights.
#[test]
fn the_flights_come_in_by_one_line_and_answer_in_sql() {
    let folder = Folder::new();
    let flights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/flights-2013.csv.zst");
    let dims = ["--dim", "carrier", "--dim", "origin", "--dim", "dest", "--dim", "tail"];
    folder.printed(
        &[&["init", "flights.db"][..], &dims, &["--counter", "distance_mi", "--label", "number"]].concat(),
    );
    let output = folder.run(&[
        "import",
        "flights.db",
        flights.to_str().unwrap(),
        "-m",
        "scheduled_utc=ts",
        "-m",
        "flight=number",
        "-m",
        "arr_delay_min=metric:or=0",
        "-m",
        "air_time_min=latency_ms:times=60000,or=0",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "336,776 rows imported\n");
    let late = "SELECT dest, count(*) AS late FROM flights WHERE origin = 'JFK' AND metric > 120 GROUP BY dest ORDER BY late DESC, dest LIMIT 3";
    assert_eq!(
        folder.printed(&["sql", "flights.db", late]),
        "dest  late\nSFO    281\nLAX    210\nBOS    160\n"
    );
}

/// Ctrl-C ends an import between two batches; what was acknowledged stays, and the next run goes on behind it.
#[cfg(unix)]
#[test]
fn an_interrupted_import_goes_on() {
    const ROWS: u64 = 20_000;
    let folder = Folder::new();
    let mut text = "ts_ns,user\n".to_owned();
    for row in 0..ROWS {
        writeln!(text, "{row},u{}", row % 7).unwrap();
    }
    folder.write("a.csv", &text);
    let import = ["import", "calls.db", "a.csv", "--batch-rows", "20"];
    let mut command = keplor(import);
    command.current_dir(folder.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().unwrap();
    let begun = Instant::now();
    while AnyReader::open(folder.path("calls.db")).unwrap().snapshot().live_rows() == 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    let error = refused(130, &output);
    let rows = AnyReader::open(folder.path("calls.db")).unwrap().snapshot().live_rows();
    assert!(0 < rows && rows < ROWS && rows.is_multiple_of(20), "{rows}");
    assert_eq!(
        without_hash(&folder.shown(&error)),
        format!(
            "keplor: stopping after what is under way; Ctrl-C again ends at once\n\
             keplor: the import was interrupted; {rows} rows of a.csv are in the table and stay there: run the import again to go on \
             behind them, which …/calls.db.a.csv.HASH.import makes sure of\n"
        )
    );
    let json = folder.printed(&["import", "calls.db", "a.csv", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["rows"], &json["rows_before"], &json["rejected"]),
        (&ROWS.into(), &rows.into(), &0.into())
    );
    assert_eq!(
        folder.printed(&["sql", "calls.db", "SELECT count(DISTINCT ts_ns) AS n FROM calls", "--csv"]),
        "n\n20000\n"
    );
}

/// A disk that is full: no file of the process may grow beyond a limit, which fails as a full disk does.
#[cfg(unix)]
#[test]
fn an_import_that_finds_no_room_goes_on_when_there_is_some() {
    const ROWS: u64 = 40_000;
    let folder = Folder::new();
    let mut text = "ts_ns,user\n".to_owned();
    for row in 0..ROWS {
        writeln!(text, "{row},u{}", row % 7).unwrap();
    }
    folder.write("a.csv", &text);
    // In blocks of 512 bytes.
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" import calls.db a.csv --batch-rows 1000";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_keplor")]).current_dir(folder.dir.path());
    let error = refused(1, &command.output().unwrap());
    assert!(error.contains("calls.db") && error.contains("File too large"), "{error}");
    let kept = AnyReader::open(folder.path("calls.db")).unwrap().snapshot().live_rows();
    assert!(0 < kept && kept < ROWS, "{kept}");

    let json = folder.printed(&["import", "calls.db", "a.csv", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["rows"], &json["rows_before"]), (&ROWS.into(), &kept.into()));
    assert_eq!(
        folder.printed(&[
            "sql",
            "calls.db",
            "SELECT count(*) AS n, count(DISTINCT ts_ns) AS times FROM calls",
            "--csv"
        ]),
        format!("n,times\n{ROWS},{ROWS}\n")
    );
}

/// Ctrl-C in the middle of an export leaves nothing under its target's name.
#[cfg(unix)]
#[test]
fn an_interrupted_export_leaves_no_target() {
    const ROWS: i64 = 400_000;
    let folder = Folder::new();
    let store = folder.store("calls.db");
    for first in (0..ROWS).step_by(10_000) {
        let calls = (first..first + 10_000)
            .map(|row| store.event(TEN + row).set("user", format!("user {row}")).unwrap());
        store.append_batch(calls).unwrap();
    }
    store.close().unwrap();
    let mut command = keplor(["export", "calls.db", "days", "--file-rows", "100"]);
    command.current_dir(folder.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().unwrap();
    let begun = Instant::now();
    // What is not whole yet has another name.
    while folder.names() == ["calls.db"] {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    let error = refused(130, &process.wait_with_output().unwrap());
    assert!(error.contains("nothing"), "{error}");
    assert_eq!(folder.names(), ["calls.db"]);
    assert!(folder.printed(&["export", "calls.db", "days"]).starts_with("400,000 rows in days: "));
}

#[test]
fn export_writes_parquet_and_says_what() {
    let folder = Folder::with_calls();
    let bytes = |name: &str| fs::metadata(folder.path(name)).unwrap().len();
    let printed = folder.printed(&["export", "calls.db", "a.parquet"]);
    let shown = |bytes: u64| format!("{},{:03}", bytes / 1000, bytes % 1000);
    assert_eq!(printed, format!("4 rows in a.parquet: {} bytes\n", shown(bytes("a.parquet"))));
    let printed = folder.printed(&["export", "calls.db", "days", "--daily", "-w", "model=o3"]);
    let file = "days/date=2026-02-21/part-00000.parquet";
    assert_eq!(printed, format!("2 rows in days: 1 file of {} bytes\n", shown(bytes(file))));
    let json =
        folder.printed(&["export", "calls.db", "parts", "--file-rows", "3", "--bloom", "user", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let files = ["parts/part-00000.parquet", "parts/part-00001.parquet"];
    let right = serde_json::json!({ "rows": 4, "bytes": bytes(files[0]) + bytes(files[1]), "files": files });
    assert_eq!(json, right);

    assert_eq!(
        refused(1, &folder.run(&["export", "calls.db", "a.parquet"])),
        "keplor: a.parquet is there already, and an export overwrites nothing; move it away, or name another target\n"
    );
    assert_eq!(
        refused(1, &folder.run(&["export", "nothing.db", "b.parquet"])),
        "keplor: there is no directory nothing.db; `keplor init` makes a table\n"
    );
    let error = refused(1, &folder.run(&["export", "calls.db", "b.parquet", "--bloom", "tokens"]));
    assert_eq!(
        error,
        "keplor: \"tokens\" cannot have a bloom filter; the columns of texts are id, user, model, note\n"
    );
    assert_eq!(folder.names(), ["a.parquet", "calls.db", "days", "parts"]);
}

const BY_USER: &str = "SELECT \"user\", count(*) AS calls, sum(tokens) AS tokens, avg(tokens) AS mean, min(ts) AS first, \
                       max(nullif(note, '')) AS note FROM calls GROUP BY \"user\" ORDER BY tokens DESC";

#[test]
fn answers_are_tables_json_or_csv() {
    let folder = Folder::with_calls();
    assert_eq!(
        folder.printed(&["sql", "calls.db", BY_USER]),
        "\
user   calls  tokens   mean  first                 note
alice      2    1500  750.0  2026-02-21T10:00:00Z  say \"no\"
bob        1      50   50.0  2026-02-21T10:00:01Z  a,b
carol      1       7    7.0  2026-02-21T10:00:03Z  -
"
    );
    assert_eq!(
        folder.printed(&["sql", "calls.db", BY_USER, "--json"]),
        r#"{"user":"alice","calls":2,"tokens":1500,"mean":750.0,"first":"2026-02-21T10:00:00Z","note":"say \"no\""}
{"user":"bob","calls":1,"tokens":50,"mean":50.0,"first":"2026-02-21T10:00:01Z","note":"a,b"}
{"user":"carol","calls":1,"tokens":7,"mean":7.0,"first":"2026-02-21T10:00:03Z","note":null}
"#
    );
    assert_eq!(
        folder.printed(&["sql", "calls.db", BY_USER, "--csv"]),
        "\
user,calls,tokens,mean,first,note
alice,2,1500,750.0,2026-02-21T10:00:00Z,\"say \"\"no\"\"\"
bob,1,50,50.0,2026-02-21T10:00:01Z,\"a,b\"
carol,1,7,7.0,2026-02-21T10:00:03Z,
"
    );
    let values = "SELECT CAST(sum(metric) AS DECIMAL(38, 2)) AS d, CAST(min(ts) AS DATE) AS day, 1 = 1 AS truth, NULL AS nothing, \
                  'x\u{1b}[2J' AS odd FROM calls";
    assert_eq!(
        folder.printed(&["sql", "calls.db", values]),
        "     d  day         truth  nothing  odd\n-20.00  2026-02-21  true   -        x\\u{1b}[2J\n"
    );
    assert_eq!(
        folder.printed(&["sql", "calls.db", values, "--json"]),
        "{\"d\":\"-20.00\",\"day\":\"2026-02-21\",\"truth\":true,\"nothing\":null,\"odd\":\"x\\u001b[2J\"}\n"
    );
    // Without rows there are names.
    assert_eq!(folder.printed(&["sql", "calls.db", "SELECT ts FROM calls WHERE false"]), "ts\n");
    assert_eq!(folder.printed(&["sql", "calls.db", "SELECT ts FROM calls WHERE false", "--csv"]), "ts\n");
    assert_eq!(folder.printed(&["sql", "calls.db", "SELECT ts FROM calls WHERE false", "--json"]), "");
    assert_eq!(folder.printed(&["sql", "SELECT 1 + 1 AS two"]), "two\n  2\n");
    assert_eq!(
        folder.printed(&[
            "sql",
            "calls.db",
            "SELECT count(*) AS n FROM calls AS OF TIMESTAMP '2026-02-21T10:00:01Z'",
            "--csv"
        ]),
        "n\n2\n"
    );
    let plan = folder.printed(&["sql", "calls.db", "EXPLAIN SELECT \"user\" FROM calls WHERE tokens > 100"]);
    assert!(
        plan.starts_with("logical_plan\n  ")
            && plan.contains("\nphysical_plan\n  ")
            && plan.contains("KeplorScan"),
        "{plan}"
    );
}

#[test]
fn tables_have_the_names_of_their_directories_or_others() {
    let folder = Folder::with_calls();
    let both = "SELECT count(*) AS n FROM a JOIN \"B\" ON a.ts = \"B\".ts";
    assert_eq!(folder.printed(&["sql", "a=calls.db", "B=calls.db", both, "--csv"]), "n\n4\n");
    assert_eq!(
        refused(1, &folder.run(&["sql", "calls.db", "./calls.db", "SELECT 1"])),
        "keplor: two tables would be called calls; name one of them by NAME=./calls.db\n"
    );
    assert_eq!(
        folder.printed(&[
            "sql",
            "a=calls.db",
            "calls.db",
            "SELECT a.ts_ns, calls.ts_ns FROM a JOIN calls USING (ts_ns) LIMIT 0",
            "--csv"
        ]),
        "ts_ns,ts_ns_2\n"
    );
}

#[test]
fn statements_come_from_files_and_pipes() {
    let folder = Folder::with_calls();
    folder.write("a.sql", "-- two; questions\nSELECT ';' AS a;\n\nSELECT\n  count(*) AS n FROM calls;\n");
    let right = "a\n;\n\nn\n4\n";
    assert_eq!(folder.printed(&["sql", "calls.db", "-f", "a.sql"]), right);
    assert_eq!(folder.printed(&["sql", "calls.db", "-f", "a.sql", "--json"]), "{\"a\":\";\"}\n{\"n\":4}\n");
    for arguments in [&["sql", "calls.db"][..], &["sql", "calls.db", "-f", "-"]] {
        let mut command = keplor(arguments);
        command.current_dir(folder.dir.path()).stdin(fs::File::open(folder.path("a.sql")).unwrap());
        assert_eq!(done(&command.output().unwrap()), right);
    }
    // What was answered before a statement that fails is printed.
    folder.write("b.sql", "SELECT 1 AS a;\n\nSELECT b FROM calls;\nSELECT 2;\n");
    let output = folder.run(&["sql", "calls.db", "-f", "b.sql", "--csv"]);
    let error = refused(1, &output);
    assert!(error.starts_with("keplor: the statement in line 3 of b.sql: "), "{error}");
    assert!(error.contains("No field named b"), "{error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a\n1\n");
    folder.write("c.sql", "-- nothing\n");
    assert_eq!(
        refused(1, &folder.run(&["sql", "calls.db", "-f", "c.sql"])),
        "keplor: there is no statement in c.sql\n"
    );
    assert_eq!(
        refused(1, &folder.run(&["sql", "calls.db"])),
        "keplor: there is no statement in standard input\n"
    );
}

#[test]
fn questions_that_have_no_answer_say_why() {
    let folder = Folder::with_calls();
    let refused =
        |arguments: &[&str]| refused(1, &folder.run(&[&["sql", "calls.db"][..], arguments].concat()));
    let error = refused(&["SELEC 1"]);
    assert!(error.starts_with("keplor: the statement cannot be read: "), "{error}");
    let error = refused(&["SELECT * FROM flights"]);
    assert!(error.contains("flights' not found"), "{error}");
    assert_eq!(
        refused(&["DELETE FROM calls"]),
        "keplor: DELETE FROM calls is refused, SQL only asks here and changes nothing: `keplor --help` lists what appends, imports and \
         deletes\n"
    );
    assert_eq!(
        refused(&["SELECT * FROM calls", "--rows", "3"]),
        "keplor: the answer has more than 3 rows: add a LIMIT, ask for groups, or raise --rows\n"
    );
    let many = "SELECT count(*) FROM calls a, calls b, calls c, calls d, calls e, calls f, calls g, calls h, calls i, calls j, calls k, \
                calls l, calls m, calls n, calls o, calls p WHERE a.tokens + b.tokens + c.tokens + d.tokens + p.tokens = 17";
    let error = refused(&[many, "--timeout", "50ms"]);
    assert_eq!(
        error,
        "keplor: the question took longer than 50 ms: narrow its range of times, or raise --timeout\n"
    );
    let sorted = "SELECT a.note || repeat('x', 10000) AS t FROM calls a, calls b, calls c, calls d, calls e ORDER BY t";
    let error = refused(&[sorted, "--memory", "1MiB"]);
    assert!(
        error.starts_with("keplor: the question needs more than the 1048576 bytes of memory that it is granted: ask for fewer rows or groups, raise --memory, or name a directory by --spill; "),
        "{error}"
    );
    assert_eq!(
        refused(&["SELECT 1", "--spill", "nowhere"]),
        "keplor: there is no directory nowhere for --spill; make it first\n"
    );
    let none = folder.run(&["sql", "flihgts.db"]);
    assert_eq!(
        self::refused(1, &none),
        "keplor: there is no directory flihgts.db; `keplor init` makes a table\n"
    );
    assert_eq!(
        self::refused(1, &folder.run(&["sql", "calls.db", "SELECT 1; SELECT nothing"])).split(": ").nth(1),
        Some("statement 2")
    );
}

#[test]
fn a_reader_who_goes_away_ends_it_quietly() {
    let folder = Folder::with_calls();
    let many = "SELECT a.ts, b.ts, c.ts FROM calls a, calls b, calls c, calls d, calls e, calls f, calls g, calls h, calls i, calls j";
    for form in [&[][..], &["--json"], &["--csv"]] {
        let mut command = keplor([&["sql", "calls.db", many][..], form].concat());
        command.current_dir(folder.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.contains("ts"), "{line}");
        drop(out);
        let output = process.wait_with_output().unwrap();
        assert_eq!(refused(0, &output), "");
    }
}

#[test]
fn questions_and_exports_work_beside_a_writer() {
    let folder = Folder::with_calls();
    let store = folder.store("calls.db");
    let count = ["sql", "calls.db", "SELECT count(*) AS n, max(tokens) AS most FROM calls", "--csv"];
    assert_eq!(folder.printed(&count), "n,most\n4,1200\n");
    store.append(store.event(TEN).set("tokens", 5000).unwrap()).unwrap();
    assert_eq!(folder.printed(&count), "n,most\n5,5000\n");
    let exported = folder.printed(&["export", "calls.db", "a.parquet", "--json"]);
    assert!(exported.contains("\"rows\":5"), "{exported}");
    store.close().unwrap();
}

/// Nothing of the prompt's shows where there is none.
#[test]
fn a_statement_on_standard_input_needs_no_terminal() {
    let folder = Folder::with_calls();
    let mut command = keplor(["sql", "calls.db"]);
    command
        .current_dir(folder.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"SELECT 1 AS one").unwrap();
    assert_eq!(done(&process.wait_with_output().unwrap()), "one\n  1\n");
}
