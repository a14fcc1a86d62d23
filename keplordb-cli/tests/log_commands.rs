//! `keplor log`, run as a process on real logs: what it prints, what it leaves behind, and its exit status.
//!
//! The logs are written by the library with a clock that stands where it is set, so that whole outputs can be compared;
//! only what `append` writes itself has the times of the day.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use keplordb_log::{Log, ManualClock, Options, Timestamp};
use tempfile::TempDir;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.arg("log").args(arguments).stdin(Stdio::null());
    command
}

/// Standard output of a command that must have done what it was asked.
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs `keplor log COMMAND DIR ARGUMENTS`.
fn run(command: &str, dir: &Path, arguments: &[&str]) -> Output {
    keplor([command.as_ref(), dir.as_os_str()]).args(arguments).output().unwrap()
}

fn printed(command: &str, dir: &Path, arguments: &[&str]) -> String {
    done(&run(command, dir, arguments))
}

/// Standard error of a command that must have ended with an exit status.
fn refused(status: i32, output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    error.into_owned()
}

/// Runs `keplor log append DIR ARGUMENTS` with an input.
fn append(dir: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = keplor(["append".as_ref(), dir.as_os_str()]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // One that refuses its arguments does not read.
    let _ = process.stdin.take().unwrap().write_all(input);
    process.wait_with_output().unwrap()
}

/// A log with an entry a day from 2026-02-01, 08:00, in segments of four: `bytes` of each.
fn log_of(entries: &[&[u8]]) -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("bookings");
    let clock = Arc::new(ManualClock::default());
    let duration = Duration::from_hours(4 * 24 - 1);
    let options = Options { max_segment_duration: duration, clock: clock.clone(), ..Options::default() };
    let writer = Log::open_with(&dir, options).unwrap().writer().unwrap();
    let first: Timestamp = "2026-02-01T08:00:00Z".parse().unwrap();
    for (day, bytes) in entries.iter().enumerate() {
        clock.set(Timestamp::from_ns(first.as_ns() + day as i64 * 86_400_000_000_000));
        writer.write(bytes).unwrap();
    }
    writer.close().unwrap();
    (temporary, dir)
}

const BOOKINGS: [&[u8]; 10] = [
    b"rent 900",
    b"food 31",
    b"a\tb\\c\nd",
    b"\xff\x00",
    b"",
    b"food 28",
    b"rent 900",
    b"train 12",
    b"food 9",
    b"gift 50",
];

fn bookings() -> (TempDir, PathBuf) {
    log_of(&BOOKINGS)
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names.filter(|path| path.extension() == Some("segment".as_ref())).collect();
    files.sort();
    files
}

/// Changes a byte of a file.
fn damage(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x55;
    fs::write(file, bytes).unwrap();
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
fn ls_lists_segments_with_times_entries_and_bytes() {
    let (_temporary, dir) = bookings();
    let bytes: Vec<_> = segment_files(&dir).iter().map(|file| file.metadata().unwrap().len()).collect();
    let [first, second, third] = bytes[..] else { panic!("{bytes:?}") };
    let right = format!(
        "\
START                           END                                   ENTRIES              BYTES
2026-02-01T08:00:00.000000000Z  2026-02-04T08:00:00.000000000Z              4  {first:>17}
2026-02-05T08:00:00.000000000Z  2026-02-08T08:00:00.000000000Z              4  {second:>17}
2026-02-09T08:00:00.000000000Z  2026-02-10T08:00:00.000000000Z              2  {third:>17}
"
    );
    assert_eq!(printed("ls", &dir, &[]), right);
    let json = printed("ls", &dir, &["--json"]);
    let right = format!(
        r#"{{"start":"2026-02-09T08:00:00.000000000Z","end":"2026-02-10T08:00:00.000000000Z","entries":2,"bytes":{third},"closed":false,"damaged":false}}"#
    );
    assert_eq!(json.lines().last(), Some(&*right));
    assert_eq!(json.lines().count(), 3);
}

#[test]
fn cat_prints_lines_that_show_every_byte() {
    let (_temporary, dir) = bookings();
    let right = "\
2026-02-01T08:00:00.000000000Z\trent 900
2026-02-02T08:00:00.000000000Z\tfood 31
2026-02-03T08:00:00.000000000Z\ta\\tb\\\\c\\nd
2026-02-04T08:00:00.000000000Z\t\\xff\\x00
2026-02-05T08:00:00.000000000Z\t
";
    assert_eq!(printed("cat", &dir, &["--limit", "5"]), right);
    assert_eq!(printed("cat", &dir, &[]).lines().count(), BOOKINGS.len());
}

#[test]
fn cat_prints_raw_bytes_or_json() {
    let (_temporary, dir) = bookings();
    let raw = run("cat", &dir, &["--raw"]);
    assert_eq!(raw.stdout, [&BOOKINGS.join(&b"\n"[..]), &b"\n"[..]].concat());
    let json = printed("cat", &dir, &["--json", "--limit", "5"]);
    let right = r#"{"time":"2026-02-01T08:00:00.000000000Z","text":"rent 900"}
{"time":"2026-02-02T08:00:00.000000000Z","text":"food 31"}
{"time":"2026-02-03T08:00:00.000000000Z","text":"a\tb\\c\nd"}
{"time":"2026-02-04T08:00:00.000000000Z","base64":"/wA="}
{"time":"2026-02-05T08:00:00.000000000Z","text":""}
"#;
    assert_eq!(json, right);
}

#[test]
fn cat_takes_what_lies_between_two_times() {
    let (_temporary, dir) = bookings();
    let days = |arguments: &[&str]| {
        let lines = printed("cat", &dir, arguments);
        lines.lines().map(|line| line[8..10].parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(days(&["--from", "2026-02-08"]), [8, 9, 10]);
    assert_eq!(days(&["--from", "2026-02-08T08:00:00Z"]), [8, 9, 10]);
    assert_eq!(days(&["--from", "2026-02-08T08:00:00.000000001Z"]), [9, 10]);
    assert_eq!(days(&["--to", "2026-02-03T08:00:00Z"]), [1, 2]);
    assert_eq!(days(&["--from", "2026-02-04", "--to", "2026-02-07"]), [4, 5, 6]);
    assert_eq!(days(&["--from", "2026-02-04", "--limit", "2"]), [4, 5]);
    assert_eq!(days(&["--limit", "0"]), [0_u32; 0]);
    assert_eq!(days(&["--last", "3"]), [8, 9, 10]);
    assert_eq!(days(&["--last", "3", "--to", "2026-02-06"]), [3, 4, 5]);
    assert_eq!(days(&["--last", "3", "--from", "2026-02-09"]), [9, 10]);
    assert_eq!(days(&["--last", "100"]).len(), 10);
    assert_eq!(days(&["--last", "0"]), [0_u32; 0]);
    assert_eq!(days(&["--from", "2027-01-01"]), [0_u32; 0]);
    assert_eq!(days(&["--last", "2", "--to", "2026-01-01"]), [0_u32; 0]);
    // Long ago for a test that runs after 2026-02.
    assert_eq!(days(&["--to", "0s"]).len(), 10);
}

#[test]
fn tail_prints_the_last_ten_or_as_many_as_asked() {
    let (_temporary, dir) = log_of(&[&b"x"[..]; 25]);
    assert_eq!(printed("tail", &dir, &[]).lines().count(), 10);
    let last = printed("tail", &dir, &["-n", "2"]);
    assert_eq!(last, "2026-02-24T08:00:00.000000000Z\tx\n2026-02-25T08:00:00.000000000Z\tx\n");
    assert_eq!(printed("tail", &dir, &["-n", "100", "--raw"]), "x\n".repeat(25));
    assert_eq!(printed("tail", &dir, &["-n", "0"]), "");
}

#[test]
fn tail_goes_on_with_what_is_written() {
    let (_temporary, dir) = bookings();
    let following =
        Following::start(keplor(["tail".as_ref(), dir.as_os_str(), "-fn1".as_ref(), "--raw".as_ref()]));
    assert_eq!(following.line(), "gift 50");
    let options = Options { max_segment_bytes: 200, ..Options::default() };
    let writer = Log::open_with(&dir, options).unwrap().writer().unwrap();
    for number in 0..20 {
        // Each comes before the next is written, over several segments.
        writer.write(format!("live {number}").as_bytes()).unwrap();
        assert_eq!(following.line(), format!("live {number}"));
    }
}

#[test]
fn tail_follows_a_log_that_has_nothing_yet() {
    let temporary = tempfile::tempdir().unwrap();
    // A directory that is empty, and one that the writer makes.
    for dir in [temporary.path().to_owned(), temporary.path().join("later")] {
        let tail = keplor(["tail".as_ref(), dir.as_os_str(), "-f".as_ref(), "--raw".as_ref()]);
        let following = Following::start(tail);
        std::thread::sleep(Duration::from_millis(100));
        done(&append(&dir, &[], b"first\n"));
        assert_eq!(following.line(), "first");
    }
}

#[test]
fn append_makes_each_line_an_entry() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("new/log");
    let before = Timestamp::now();
    let said = done(&append(&dir, &[], b"one\n\nthree\r\nfour"));
    let after = Timestamp::now();
    assert!(said.starts_with("4 entries, 13 bytes, the last at "), "{said}");
    let last: Timestamp = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(before < last && last < after, "{before} {last} {after}");
    assert_eq!(printed("cat", &dir, &["--raw"]), "one\n\nthree\r\nfour\n");

    // It goes on behind the last entry, and one line may be a batch.
    assert!(done(&append(&dir, &["--batch", "1"], b"five\nsix\n")).starts_with("2 entries, 7 bytes, "));
    assert_eq!(done(&append(&dir, &[], b"")), "0 entries\n");
    assert_eq!(done(&append(&dir, &["--json"], b"")), "{\"entries\":0,\"bytes\":0,\"last\":null}\n");
    let json = done(&append(&dir, &["--json"], b"seven\n"));
    let last = printed("tail", &dir, &["-n1"]);
    let (time, bytes) = last.trim_end().split_once('\t').unwrap();
    assert_eq!(bytes, "seven");
    assert_eq!(json, format!("{{\"entries\":1,\"bytes\":5,\"last\":\"{time}\"}}\n"));
    assert_eq!(printed("cat", &dir, &[]).lines().count(), 7);
}

#[test]
fn append_takes_any_sync_and_rolls_over_as_asked() {
    for sync in ["each", "every", "end", "never"] {
        let temporary = tempfile::tempdir().unwrap();
        let lines: String = (0..3_000).flat_map(|number| [number.to_string(), "\n".to_owned()]).collect();
        let arguments = ["--sync", sync, "--batch", "10", "--segment-bytes", "8KiB"];
        let said = done(&append(temporary.path(), &arguments, lines.as_bytes()));
        assert!(said.starts_with("3,000 entries, "), "{said}");
        assert_eq!(printed("cat", temporary.path(), &["--raw"]), lines, "{sync}");
        let listed = printed("ls", temporary.path(), &[]);
        assert!(listed.lines().count() > 4, "{listed}");
    }
}

#[test]
fn append_takes_whole_files() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, file) = (temporary.path().join("log"), temporary.path().join("poem"));
    fs::write(&file, "roses\nviolets\n").unwrap();
    let path = file.to_str().unwrap();
    done(&append(&dir, &["--file", path, "--file", "-"], b"from\0stdin"));
    let right = r"
roses\nviolets\n
from\x00stdin";
    let shown = printed("cat", &dir, &[]);
    let bytes: String = shown.lines().flat_map(|line| ["\n", &line[31..]]).collect();
    assert_eq!(bytes, right);

    let error = refused(1, &append(&dir, &["--file", path, "--file", "no-such-file"], b""));
    assert!(error.contains("no-such-file cannot be opened"), "{error}");
    // What came before is in, and it was said.
    assert_eq!(printed("tail", &dir, &["-n1", "--raw"]), "roses\nviolets\n\n");
}

#[test]
fn append_does_not_hold_lines_back() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = keplor(["append".as_ref(), temporary.path().as_os_str()]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    let mut reader = Log::open(temporary.path()).unwrap().reader().unwrap();
    for number in 0..5 {
        let lines = format!("{number} a\n{number} b\nhalf of the next one");
        input.write_all(lines.as_bytes()).unwrap();
        input.flush().unwrap();
        for right in [format!("{number} a"), format!("{number} b")] {
            assert!(reader.wait(PATIENCE).unwrap());
            assert_eq!(reader.next().unwrap().unwrap().bytes, right.as_bytes());
        }
        input.write_all(b"\n").unwrap();
        assert!(reader.wait(PATIENCE).unwrap());
        assert_eq!(reader.next().unwrap().unwrap().bytes, b"half of the next one");
    }
    drop(input);
    assert!(done(&process.wait_with_output().unwrap()).starts_with("15 entries, "));
}

#[test]
fn append_says_what_a_crash_had_left_unfinished() {
    let (_temporary, dir) = bookings();
    let last = segment_files(&dir).pop().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&last).unwrap();
    file.write_all(b"half a frame").unwrap();
    assert_eq!(printed("cat", &dir, &[]).lines().count(), BOOKINGS.len());
    let report = printed("verify", &dir, &[]);
    assert!(report.contains("that a crash left unfinished; the next writer removes them"), "{report}");
    assert!(report.ends_with("no damage\n"), "{report}");

    let output = append(&dir, &[], b"one more\n");
    assert!(done(&output).starts_with("1 entry, "));
    let note = "keplor: the last writer was cut off; 12 bytes of an unfinished write were removed\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), note);
    assert_eq!(printed("tail", &dir, &["-n2", "--raw"]), "gift 50\none more\n");
}

#[test]
fn append_beside_another_writer_is_refused() {
    let (_temporary, dir) = bookings();
    let writer = Log::open(&dir).unwrap().writer().unwrap();
    let error = refused(1, &append(&dir, &[], b"mine\n"));
    let right = format!("{} is already being written by process {}", dir.display(), std::process::id());
    assert!(error.contains(&right), "{error}");
    drop(writer);
    done(&append(&dir, &[], b"mine\n"));
}

#[test]
fn append_into_a_file_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let error = refused(1, &append(&file, &[], b"line\n"));
    assert!(error.starts_with("keplor: ") && error.contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"no directory");
}

#[test]
fn compact_removes_whole_old_segments() {
    let (_temporary, dir) = bookings();
    let files = segment_files(&dir);
    let bytes: u64 = files[0].metadata().unwrap().len();
    let would = printed("compact", &dir, &["--max-bytes", "300", "--dry-run"]);
    assert!(would.contains("2026-02-01T08:00:00.000000000Z"), "{would}");
    assert_eq!(segment_files(&dir), files);

    let rest: u64 = files[1..].iter().map(|file| file.metadata().unwrap().len()).sum();
    let said = printed("compact", &dir, &["--max-bytes", &rest.to_string()]);
    assert_eq!(said, format!("removed 1 segment with 4 entries in {bytes} bytes\n"));
    assert_eq!(segment_files(&dir), files[1..]);
    let json = printed("compact", &dir, &["--max-bytes", &rest.to_string(), "--json"]);
    assert_eq!(json, "{\"segments\":0,\"entries\":0,\"bytes\":0}\n");

    // All is older than a millisecond, and the last segment stays.
    let would = printed("compact", &dir, &["--max-age", "1ms", "--dry-run", "--json"]);
    let start = r#"{"start":"2026-02-05T08:00:00.000000000Z","#;
    assert!(would.starts_with(start) && would.lines().count() == 1, "{would}");
    assert!(
        printed("compact", &dir, &["--max-age", "1ms"]).starts_with("removed 1 segment with 4 entries in ")
    );
    assert_eq!(segment_files(&dir), files[2..]);
    assert_eq!(printed("cat", &dir, &["--raw"]), "food 9\ngift 50\n");
}

#[test]
fn compact_wants_a_limit() {
    let (_temporary, dir) = bookings();
    let error = refused(2, &run("compact", &dir, &[]));
    assert!(error.contains("--max-age") && error.contains("--max-bytes"), "{error}");
    let error = refused(2, &run("compact", &dir, &["--max-age", "7"]));
    assert!(error.contains("a duration is a whole number with one of ms, s, m, h, d, w"), "{error}");
    assert_eq!(segment_files(&dir).len(), 3);
}

#[test]
fn verify_says_what_a_log_has() {
    let (_temporary, dir) = bookings();
    let said = printed("verify", &dir, &[]);
    assert!(said.contains("10 entries in 3 segments"), "{said}");
    assert!(
        said.contains("2026-02-01T08:00:00.000000000Z") && said.contains("2026-02-10T08:00:00.000000000Z"),
        "{said}"
    );
}

#[test]
fn verify_and_cat_tell_damage_by_file_and_offset() {
    let (_temporary, dir) = bookings();
    let file = &segment_files(&dir)[1];
    // In the payload of the first frame behind the header of the segment.
    damage(file, 64 + 32 + 1);
    let output = run("verify", &dir, &[]);
    let error = refused(1, &output);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("{} is damaged at byte 64", file.display())), "{said}");
    assert!(error.contains("restore"), "{error}");

    let listed = printed("ls", &dir, &[]);
    let marked: Vec<_> = listed.lines().map(|line| line.ends_with("  damaged")).collect();
    assert_eq!(marked, [false, false, true, false], "{listed}");
    let listed = printed("ls", &dir, &["--json"]);
    assert_eq!(listed.matches("\"damaged\":true").count(), 1, "{listed}");

    let json = run("verify", &dir, &["--json"]);
    refused(1, &json);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["damage"][0]["file"], file.to_str().unwrap());
    assert_eq!(json["damage"][0]["offset"], 64);

    // What is before the damage is printed.
    let output = run("cat", &dir, &["--raw"]);
    let error = refused(1, &output);
    assert!(error.contains(&format!("{} is damaged at byte 64", file.display())), "{error}");
    assert_eq!(output.stdout, [&BOOKINGS[..4].join(&b"\n"[..]), &b"\n"[..]].concat());
}

#[test]
fn verify_tells_damage_by_its_status_when_nobody_reads_its_output() {
    let (_temporary, dir) = bookings();
    damage(&segment_files(&dir)[1], 64 + 32 + 1);
    let mut verify = keplor(["verify".as_ref(), dir.as_os_str()]);
    let mut process = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

#[test]
fn replicate_copies_and_goes_on() {
    let (temporary, dir) = bookings();
    let copy = temporary.path().join("copy");
    let copy_path = copy.to_str().unwrap();
    let said = printed("replicate", &dir, &[copy_path]);
    assert!(said.starts_with("copied 10 entries in ") && said.ends_with("; the copy has all\n"), "{said}");
    assert_eq!(printed("cat", &copy, &[]), printed("cat", &dir, &[]));
    let json: serde_json::Value =
        serde_json::from_str(&printed("replicate", &dir, &[copy_path, "--json"])).unwrap();
    assert_eq!([&json["entries"], &json["lag_entries"], &json["lag_bytes"]], [0, 0, 0]);
    assert!(json["time"].as_str().unwrap().parse::<Timestamp>().is_ok());

    let following = {
        let mut command = keplor(["replicate".as_ref(), dir.as_os_str(), copy.as_os_str()]);
        command.args(["--follow", "--follow-removals"]);
        Following::start(command)
    };
    assert_eq!(following.line(), "copied 0 entries in 0 bytes; the copy has all");
    done(&append(&dir, &[], b"one more\n"));
    let mut line = following.line();
    // The end of the segment before may be a step of its own.
    if line.starts_with("copied 0 entries in 32 bytes; ") {
        line = following.line();
    }
    assert!(line.starts_with("copied 1 entry in ") && line.ends_with("; the copy has all"), "{line}");
    assert_eq!(printed("tail", &copy, &["-n1", "--raw"]), "one more\n");
    // Another one may not copy to the same place meanwhile.
    let error = refused(1, &run("replicate", &dir, &[copy_path]));
    assert!(error.contains(&format!("{copy_path} is already being written by process")), "{error}");
    drop(following);

    printed("compact", &dir, &["--max-bytes", "1"]);
    printed("replicate", &dir, &[copy_path]);
    assert_eq!(segment_files(&copy).len(), 4);
    printed("replicate", &dir, &[copy_path, "--follow-removals"]);
    assert_eq!(printed("cat", &copy, &[]), printed("cat", &dir, &[]));

    // A log of its own is never copied over.
    done(&append(&copy, &[], b"mine\n"));
    let error = refused(1, &run("replicate", &dir, &[copy_path]));
    assert!(
        error.contains("holds a log that is not kept by a replica; choose an empty directory"),
        "{error}"
    );
}

#[test]
fn stats_sum_up() {
    let (_temporary, dir) = bookings();
    let bytes: u64 = segment_files(&dir).iter().map(|file| file.metadata().unwrap().len()).sum();
    let json: serde_json::Value = serde_json::from_str(&printed("stats", &dir, &["--json"])).unwrap();
    assert_eq!(json["segments"], 3);
    assert_eq!(json["entries"], 10);
    assert_eq!(json["bytes"], bytes);
    assert_eq!(json["first"], "2026-02-01T08:00:00.000000000Z");
    assert_eq!(json["last"], "2026-02-10T08:00:00.000000000Z");
    let text = printed("stats", &dir, &[]);
    assert!(text.contains("entries   10\n"), "{text}");

    let empty = tempfile::tempdir().unwrap();
    let json: serde_json::Value = serde_json::from_str(&printed("stats", empty.path(), &["--json"])).unwrap();
    assert_eq!(json["entries"], 0);
    assert!(json["last"].is_null());
}

#[test]
fn a_directory_that_is_not_there_is_a_slip() {
    let temporary = tempfile::tempdir().unwrap();
    let (missing, file) = (temporary.path().join("missing"), temporary.path().join("file"));
    fs::write(&file, "").unwrap();
    for command in [
        &["ls"][..],
        &["cat"],
        &["tail"],
        &["compact", "--max-age", "1d"],
        &["verify"],
        &["stats"],
        &["replicate", "copy"],
    ] {
        let error = refused(1, &run(command[0], &missing, &command[1..]));
        let right = format!("keplor: there is no directory {}", missing.display());
        assert!(error.starts_with(&right), "{command:?}: {error}");
        let error = refused(1, &run(command[0], &file, &command[1..]));
        assert!(error.contains(&format!("{} is no directory", file.display())), "{command:?}: {error}");
    }
    assert!(!missing.exists());
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let temporary = tempfile::tempdir().unwrap();
    for (command, right) in [("ls", 1), ("cat", 0), ("tail", 0)] {
        assert_eq!(printed(command, temporary.path(), &[]).lines().count(), right, "{command}");
    }
    assert!(printed("verify", temporary.path(), &[]).contains("0 entries in 0 segments"));
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let (_temporary, dir) = bookings();
    for (command, arguments, right) in [
        ("cat", &["--json", "--raw"][..], "cannot be used with"),
        ("cat", &["--last", "1", "--limit", "1"], "cannot be used with"),
        ("cat", &["--from", "yesterday"], "a time is written 2026-01-31T23:59:59Z"),
        ("append", &["--batch", "0"], "0 is not in 1.."),
        ("append", &["--sync", "sometimes"], "[possible values: each, every, end, never]"),
        ("append", &["--segment-bytes", "1 parsec"], "a size is a whole number"),
        ("replicate", &[], "<TARGET>"),
        ("frobnicate", &[], "unrecognized subcommand"),
    ] {
        let error = refused(2, &run(command, &dir, arguments));
        assert!(error.contains(right), "{command} {arguments:?}: {error}");
    }
    // Legal to type, refused by the log.
    let error = refused(1, &append(&dir, &["--segment-bytes", "0"], b"line\n"));
    assert!(error.contains("max_segment_bytes is not legal"), "{error}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let lines = "a line that is printed to somebody who has seen enough\n".repeat(50_000);
    let temporary = tempfile::tempdir().unwrap();
    done(&append(temporary.path(), &[], lines.as_bytes()));
    for form in ["--raw", "--json"] {
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
    let (_temporary, dir) = bookings();
    for command in ["ls", "cat", "tail", "stats", "verify"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = keplor([command.as_ref(), dir.as_os_str()]);
        let error = refused(1, &command.stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert!(
            error.starts_with("keplor: standard output cannot be written: No space left on device"),
            "{error}"
        );
    }
}
