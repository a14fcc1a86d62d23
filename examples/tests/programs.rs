//! Each example program runs to its end with every check passed. They are run as processes, as a user does; `cargo
//! test` builds them before it runs tests.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The program, built beside this test: `target/debug/deps/<this>`, `target/debug/examples/<program>`.
fn program(name: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let profile: PathBuf = this.ancestors().nth(2).unwrap().to_owned();
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.is_file(), "{} is not there: build it, `cargo build --examples`", path.display());
    Command::new(path)
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs to the end and returns what was printed, after looking at the last line.
fn run(command: &mut Command) -> String {
    let printed = stdout(&command.output().unwrap());
    let last = printed.lines().last().unwrap_or_default();
    assert!(last.starts_with("all ") && last.ends_with(" checks passed"), "{printed}");
    printed
}

#[test]
fn flights_loads_asks_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let flights = |rows: &str| {
        let mut command = program("flights");
        command.args(["--rows", rows, "--dir"]).arg(dir.path().join("flights"));
        command
    };
    let loaded = run(&mut flights("20000"));
    assert!(loaded.contains("appended 20,000 flights"), "{loaded}");
    for heading in
        ["1 in 100", "JFK was worst", "flew furthest", "begin with S", "segments: ", "how long it took"]
    {
        assert!(loaded.contains(heading), "no {heading} in {loaded}");
    }
    let kept = run(&mut flights("20000"));
    assert!(kept.contains("all 20,000 flights are there already"), "{kept}");
    let continued = run(&mut flights("30000"));
    assert!(continued.contains("appended 10,000 flights"), "{continued}");

    let too_few = flights("100").output().unwrap();
    assert!(!too_few.status.success());
    assert!(String::from_utf8_lossy(&too_few.stderr).contains("already holds 30000 events"));
}

#[test]
fn flights_says_what_is_wrong_with_its_arguments() {
    let refused = |arguments: &[&str]| {
        let output = program("flights").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--row"]).contains("unknown argument --row"));
    assert!(refused(&["--rows", "0"]).contains("--rows needs a number from 1, not 0"));
    assert!(refused(&["--dir"]).contains("--dir needs a directory"));
    assert!(stdout(&program("flights").arg("--help").output().unwrap()).contains("--rows N"));
}

#[test]
fn llm_calls_answers_what_its_comment_says() {
    let printed = run(&mut program("llm_calls"));
    for heading in [
        "the day",
        "segments: ",
        "p99",
        "who spent most",
        "by quarter of the day",
        "what went wrong most",
        "that failed",
        "request request-",
    ] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn http_access_answers_what_its_comment_says() {
    let printed = run(&mut program("http_access"));
    for heading in [
        "60,000 requests",
        "p99",
        "with most server errors",
        "segments: ",
        "who saw most",
        "took more than",
        "pages of 25",
        "by route and day",
        "deleted",
    ] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn audit_trail_answers_what_its_comment_says() {
    let printed = run(&mut program("audit_trail"));
    for heading in ["18,040 actions", "verb ", "grace, from", "contract/7: ", "by its number", "forgot 6,000"]
    {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn iot_readings_answers_what_its_comment_says() {
    let printed = run(&mut program("iot_readings"));
    for heading in [
        "108,000 readings",
        "need not send",
        "out of order",
        "mean of the day",
        "new batteries",
        "from 12:00",
    ] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn payments_answers_what_its_comment_says() {
    let printed = run(&mut program("payments"));
    for heading in
        ["40,000 payments", "paid back", "in fees", "left in CHF", "taken out", "replaced", "opened again"]
    {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn game_sessions_answers_what_its_comment_says() {
    let printed = run(&mut program("game_sessions"));
    for heading in
        ["24,000 sessions", "ping: average", "ended by", "who played most", "pages of 20", "ranked sessions"]
    {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn axum_service_answers_over_http_and_closes_its_store() {
    let printed = run(&mut program("axum_service"));
    for line in [
        "4 clients sent 600 visits",
        "POST /visits: 400 {\"error\":\"dim is not legal: event 1 has 65537 bytes",
        "GET /visits/visit-none: 404",
        "opened again: 600 visits",
    ] {
        assert!(printed.contains(line), "no {line} in {printed}");
    }
    let unknown = program("axum_service").arg("--port").output().unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown argument --port"));
}

#[test]
fn second_process_reader_answers_what_its_comment_says() {
    let printed = run(&mut program("second_process_reader"));
    for heading in ["by country", "  20,000 ", " refreshes, ", "in the evening 19960 orders are left"] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn retention_keeps_what_its_comment_says() {
    let printed = run(&mut program("retention"));
    for step in ["27,000 lines in", "after 30 days", "that was sold", "in at most", "that came too late"] {
        assert!(printed.contains(step), "no {step} in {printed}");
    }
}

#[test]
fn commands_log_answers_what_its_comment_says() {
    let printed = run(&mut program("commands_log"));
    for heading in [
        "of them still count",
        "opened again",
        "Undo 300 times",
        "Redo 120 times",
        "at noon",
        "told: the entry of",
    ] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn replicate_answers_what_its_comment_says() {
    let printed = run(&mut program("replicate"));
    for heading in [
        "begins anew",
        "copied 9,000 of 9,000 bookings",
        "the source is lost",
        "has 12,000 bookings",
        "salaries",
    ] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}

#[test]
fn tail_log_answers_what_its_comment_says() {
    let printed = run(&mut program("tail_log"));
    for heading in ["killed the till", "6,000 sales in ", "newest first", " segments"] {
        assert!(printed.contains(heading), "no {heading} in {printed}");
    }
}
