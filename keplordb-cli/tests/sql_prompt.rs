//! The prompt of `keplor sql` in a real terminal: what is typed, completed, interrupted and remembered.
//!
//! Every step waits for what the one before it must show; none is over after some time.
#![cfg(all(unix, feature = "sql"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keplordb::TableSchema;
use keplordb::any::AnyStore;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use tempfile::TempDir;

/// Whatever is not seen by then does not come, on a machine with much else to do.
const PATIENCE_MS: u64 = 120_000;

/// A folder with a table `calls.db` of four events, and with the state of its user.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let schema = TableSchema::new(1).dim("user").counter("tokens");
        let store = AnyStore::open_or_create(dir.path().join("calls.db"), schema).unwrap();
        for tokens in [1200, 50, 300, 7] {
            let call = store.event(1_771_668_000_000_000_000).set("user", "alice").unwrap();
            store.append(call.set("tokens", tokens).unwrap()).unwrap();
        }
        store.close().unwrap();
        Self { dir }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn history(&self) -> PathBuf {
        self.state().join("keplor/sql-history")
    }

    /// A prompt that is ready.
    fn prompt(&self, arguments: &[&str], colour: Option<&str>) -> Prompt {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
        command.args(["sql", "calls.db"]).args(arguments).current_dir(self.dir.path());
        command
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", self.state())
            .env("NO_COLOR", colour.unwrap_or("1"));
        let mut prompt = Prompt { session: spawn_command(command, Some(PATIENCE_MS)).unwrap() };
        prompt.sees("1 table; \\d lists them, \\h helps, Ctrl-D ends");
        prompt.sees("keplor> ");
        prompt
    }
}

struct Prompt {
    session: PtySession,
}

impl Prompt {
    /// Waits for a text; what came before it.
    fn sees(&mut self, text: &str) -> String {
        self.session.exp_string(text).unwrap_or_else(|error| panic!("{text:?} does not come: {error}"))
    }

    fn types(&mut self, text: &str) {
        self.session.send(text).unwrap();
        self.session.flush().unwrap();
    }

    /// Types a line, and waits until it was answered.
    fn answers(&mut self, line: &str, end: &str) -> String {
        self.types(line);
        self.types("\r");
        let answer = self.sees(end);
        self.sees("keplor> ");
        answer
    }

    /// Ctrl-D; the program must end well.
    fn ends(mut self) {
        self.session.send_control('d').unwrap();
        self.has_ended();
    }

    fn has_ended(mut self) {
        self.session.exp_eof().unwrap();
        let status = self.session.process().wait().unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    }
}

#[test]
fn statements_are_answered_until_the_end() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&[], None);
    let answer = prompt.answers("SELECT count(*) AS n, sum(tokens) AS tokens FROM calls;", "(1 row)");
    assert!(answer.contains("n  tokens\r\n4    1557\r\n"), "{answer:?}");
    // Until the semicolon there are more lines; several statements have an answer each.
    prompt.types("SELECT 1 AS one,\r");
    prompt.types("'a;\r");
    let answer = prompt.answers("b' AS two; SELECT 3 AS three;", "three\r\n    3\r\n(1 row)");
    assert!(answer.contains("one  two\r\n  1  a;\\nb\r\n(1 row)\r\n"), "{answer:?}");

    let answer = prompt.answers("SELECT nothing FROM calls; SELECT 1;", "keplor: ");
    assert!(!answer.contains("(1 row)"), "{answer:?}");
    let answer = prompt.answers("DROP TABLE calls;", "deletes");
    assert!(answer.contains("keplor: DROP TABLE calls is refused"), "{answer:?}");
    prompt.answers("SELECT 'still here' AS a;", "still here\r\n(1 row)");

    let answer = prompt.answers("\\d", "calls.db\r\n");
    assert!(answer.contains("table  events  directory\r\ncalls       4  "), "{answer:?}");
    let answer = prompt.answers("\\d calls;", "tokens             BIGINT");
    assert!(answer.contains("column             type\r\nts                 TIMESTAMP\r\n"), "{answer:?}");
    assert!(answer.contains("\"user\"             TEXT\r\n"), "{answer:?}");
    prompt.answers("\\d flights", "keplor: there is no table \"flights\"; there are calls");
    prompt.answers("\\x", "keplor: \\x is nothing that the prompt does; \\h lists what it does");
    prompt.answers("\\h", "Tab completes words");
    prompt.answers("\\timing", "timing is on");
    let answer = prompt.answers("SELECT 1;", " ms)");
    assert!(answer.contains("(1 row, "), "{answer:?}");
    prompt.answers("\\timing", "timing is off");
    prompt.ends();
}

#[test]
fn tab_completes_words() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&[], None);
    prompt.types("SEL\t");
    prompt.sees("SELECT");
    prompt.types(" max(tok\t");
    prompt.sees("tokens");
    prompt.types(") AS most FROM ca\t");
    prompt.sees("calls");
    prompt.answers(";", "most\r\n1200\r\n(1 row)");
    // Names that need quotes get them.
    prompt.types("SELECT us\t");
    prompt.sees("us");
    // With several there is a list.
    prompt.types("\t\t");
    prompt.sees("\"user\"");
    // The line stands again below the list.
    prompt.sees("keplor> SELECT us");
    prompt.session.send_control('c').unwrap();
    // What is typed before there is a prompt may be lost with what was read already.
    prompt.sees("keplor> ");
    prompt.answers("\\ti\t", "timing is on");
    prompt.ends();
}

#[test]
fn ctrl_c_drops_what_is_typed_and_stops_what_runs() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&[], None);
    prompt.types("SELECT this is no ");
    prompt.sees("no ");
    prompt.session.send_control('c').unwrap();
    prompt.sees("keplor> ");
    prompt.answers("SELECT 'dropped' AS a;", "dropped\r\n(1 row)");
    // Of a statement of several lines too.
    prompt.types("SELECT\r");
    prompt.types("nothing");
    prompt.sees("nothing");
    prompt.session.send_control('c').unwrap();
    prompt.sees("keplor> ");
    prompt.answers("SELECT 'dropped too' AS a;", "dropped too\r\n(1 row)");

    // Billions of rows.
    let tables: Vec<String> = (b'a'..=b'r').map(|letter| format!("calls {}", char::from(letter))).collect();
    let sum =
        (b'a'..=b'r').map(|letter| format!("{}.tokens", char::from(letter))).collect::<Vec<_>>().join(" + ");
    prompt.types(&format!("SELECT sum({sum}) AS sum FROM {};\r", tables.join(", ")));
    // One that comes before the question is put stops nothing.
    let mut seen = String::new();
    for _ in 0..PATIENCE_MS / 300 {
        prompt.session.send_control('c').unwrap();
        std::thread::sleep(Duration::from_millis(300));
        seen.extend(std::iter::from_fn(|| prompt.session.try_read()));
        if seen.contains("keplor: interrupted") {
            break;
        }
    }
    assert!(seen.contains("keplor: interrupted"), "{seen:?}");
    prompt.answers("SELECT 'and on' AS a;", "and on\r\n(1 row)");
    prompt.ends();
}

#[test]
fn without_a_history_nothing_is_kept() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&["--no-history"], None);
    prompt.answers("SELECT 'secret' AS a;", "secret\r\n(1 row)");
    prompt.types("\u{1b}[A");
    prompt.sees("SELECT 'secret'");
    prompt.answers("", "secret\r\n(1 row)");
    prompt.ends();
    assert!(!folder.state().exists());
}

#[test]
fn another_prompt_knows_what_was_typed_at_the_first() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&[], None);
    prompt.types("SELECT 'of two'\r");
    prompt.answers("AS lines;", "of two\r\n(1 row)");
    assert!(fs::read_to_string(folder.history()).unwrap().contains("SELECT 'of two'"), "it is kept at once");
    prompt.types("\\q\r");
    prompt.has_ended();
    let mut prompt = folder.prompt(&[], None);
    // `\q` was typed last.
    prompt.types("\u{1b}[A");
    prompt.sees("\\q");
    prompt.types("\u{1b}[A");
    prompt.sees("AS lines;");
    prompt.answers("", "of two\r\n(1 row)");
    prompt.ends();
    assert!(is_private(&folder.history()));
}

/// Only its user may read it.
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode().trailing_zeros() >= 6
}

#[test]
fn a_history_that_cannot_be_kept_is_told_and_nothing_else() {
    let folder = Folder::new();
    fs::write(folder.state(), "a file").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.args(["sql", "calls.db"]).current_dir(folder.dir.path());
    command.env("TERM", "xterm").env("XDG_STATE_HOME", folder.state()).env("NO_COLOR", "1");
    let mut prompt = Prompt { session: spawn_command(command, Some(PATIENCE_MS)).unwrap() };
    prompt.sees("sql-history cannot be used, there is no history: ");
    prompt.sees("keplor> ");
    prompt.answers("SELECT 'asked' AS a;", "asked\r\n(1 row)");
    prompt.ends();
}

#[test]
fn a_terminal_with_colours_has_them() {
    let folder = Folder::new();
    let mut prompt = folder.prompt(&[], Some(""));
    prompt.types("select 'x' as a;");
    prompt.sees("\u{1b}[1;34mselect\u{1b}[0m \u{1b}[32m'x'\u{1b}[0m \u{1b}[1;34mas\u{1b}[0m a;");
    prompt.types("\r");
    prompt.sees("\u{1b}[1ma\u{1b}[0m\r\nx\r\n(1 row)");
    prompt.sees("keplor> ");
    prompt.ends();
}
