//! `keplor bench`, run as a process on few events: that each figure is there and is one, what is said of the machine, and that nothing
//! is left behind. How large figures are is not tested: the machine that runs this is not known.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn bench(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.args(["bench", "--events", "20000", "--dir"]).arg(dir).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What is measured, in its order.
const FIGURES: [(&str, &str, &str); 15] = [
    ("append", "durable, batches of 1", "events/s"),
    ("append", "batches of 1", "events/s"),
    ("append", "batches of 1,024", "events/s"),
    ("append", "batches of 4,096", "events/s"),
    ("query", "aggregate, no filter", "µs"),
    ("query", "aggregate, one user", "µs"),
    ("query", "aggregate, a tenth of the time", "µs"),
    ("query", "aggregate, user and time", "µs"),
    ("query", "query_recent, 100 rows", "µs"),
    ("query", "query_recent, 1,000 rows", "µs"),
    ("query", "query_recent, 100 rows of a user", "µs"),
    ("query", "get_event, found", "µs"),
    ("query", "get_event, not there", "µs"),
    ("query", "query_rollups, one user's day", "µs"),
    ("query", "query_rollups, a day of all users", "µs"),
];

/// The README's figure of a name: in µs, or in events/s. The first table that has it is that of queries, or of appends.
fn in_readme(name: &str) -> Option<f64> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap().replace('`', "");
    let figures = readme.split("<!-- figures -->").nth(1).unwrap();
    // Behind it are figures of other programs.
    let figures = figures.split("Beside bare").next().unwrap();
    let row = figures.lines().find(|line| line.starts_with(&format!("| {name} |")))?;
    let measured = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
    let (number, unit) = measured.split_once(' ').unwrap();
    let factor = match unit {
        "µs" => 1.0,
        "M events/s" => 1e6,
        other => panic!("{other}"),
    };
    Some(number.parse::<f64>().unwrap() * factor)
}

#[test]
fn json_has_every_figure_and_the_readmes_beside_it() {
    let temporary = tempfile::tempdir().unwrap();
    let output = bench(temporary.path(), &["--json"]).output().unwrap();
    let json: Value = serde_json::from_str(&done(&output)).unwrap();
    assert_eq!([&json["events"], &json["segments"]], [20_000, 10]);
    let figures = json["figures"].as_array().unwrap();
    let text = |figure: &Value, key: &str| figure[key].as_str().unwrap().to_owned();
    let found: Vec<_> =
        figures.iter().map(|figure| ["group", "name", "unit"].map(|key| text(figure, key))).collect();
    let right: Vec<_> =
        FIGURES.iter().map(|(group, name, unit)| [*group, *name, *unit].map(str::to_owned)).collect();
    assert_eq!(found, right);
    for figure in figures {
        let median = figure["median"].as_f64().unwrap();
        assert!(median.is_finite() && median > 0.0, "{figure}");
        assert_eq!(figure["readme"].as_f64(), in_readme(figure["name"].as_str().unwrap()), "{figure}");
    }
    assert!(figures.iter().filter(|figure| figure["readme"].is_f64()).count() >= 13);
    let machine = &json["machine"];
    assert!(machine["cores"].as_u64().unwrap() > 0);
    assert!(["scalar", "avx2", "avx512"].contains(&machine["kernels"].as_str().unwrap()));
    assert_eq!(machine["debug_build"], cfg!(debug_assertions));
    assert_eq!(machine["version"], env!("CARGO_PKG_VERSION"));
    assert!(machine["sync_us"].as_f64().unwrap() > 0.0);
    let warned = String::from_utf8(output.stderr).unwrap();
    assert_eq!(warned.contains("this is a debug build"), cfg!(debug_assertions), "{warned}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn text_is_a_table_and_says_the_machine() {
    let temporary = tempfile::tempdir().unwrap();
    let output = bench(temporary.path(), &[]).env("KEPLORDB_KERNELS", "scalar").output().unwrap();
    let text = done(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(" scalar kernels, "), "{text}");
    assert_eq!(lines[1], "20,000 events in 10 segments");
    assert!(lines[3].starts_with("group   what") && lines[3].ends_with("README"), "{text}");
    assert_eq!(lines.len(), 4 + FIGURES.len(), "{text}");
    for (line, (group, name, unit)) in lines[4..].iter().zip(FIGURES) {
        assert!(line.starts_with(&format!("{group:<6}  {name}  ")) && line.contains(unit), "{line}");
    }
    assert!(lines[4].ends_with('-') && lines[6].ends_with("  2.9 M events/s"), "{text}");
    assert!(lines[8].ends_with("  0.17 µs") && lines[18].ends_with("  621 µs"), "{text}");
}

/// While it measures, it is interrupted: its files go, and the status says so.
#[test]
#[cfg(unix)]
fn an_interrupt_removes_the_files() {
    let temporary = tempfile::tempdir().unwrap();
    let mut process = bench(temporary.path(), &["--csv"]).spawn().unwrap();
    let is_at_work = || {
        let mut made = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path());
        made.any(|dir| dir.join("appends").is_dir() || dir.join("table").is_dir())
    };
    while !is_at_work() {
        assert_eq!(process.try_wait().unwrap(), None, "it ended before it was seen at work");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    let (missing, file) = (temporary.path().join("missing"), temporary.path().join("file"));
    fs::write(&file, "").unwrap();
    for (dir, right) in [
        (&missing, "keplor: there is no directory DIR; make it, or name one that is there\n"),
        (&file, "keplor: DIR is no directory; name one to make the files in\n"),
    ] {
        let output = bench(dir, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap().replace(dir.to_str().unwrap(), "DIR"), right);
    }
    let mut few = Command::new(env!("CARGO_BIN_EXE_keplor"));
    let output = few.args(["bench", "--events", "10"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("10 is not in 10000..=100000000"), "{error}");
}
