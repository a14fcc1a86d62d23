//! Clients in Python, as others write them: one of the original protocol, unchanged, and some of ours, made from the protos that the
//! crate has. The server is a process of its own, which is killed and started again on the same root.
//!
//! They need `grpcio-tools`, and who reads what is published `DuckDB` and Polars; see [`environment`].

#![allow(clippy::disallowed_methods, reason = "what it makes is an environment of Python")]

mod environment;
mod killed;
mod published;
mod server;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use keplordb_server::{Capture, EntityLog, Instant};
use serde_json::{Value, json};
use tempfile::TempDir;

use environment::python;
use server::Server;

/// A client's modules, made from protos, and a server's root beside them.
struct Clients {
    python: &'static Path,
    dir: TempDir,
}

impl Clients {
    /// Makes the modules of what these files of the crate say; `None` where there is no Python for it.
    fn made(untested: &str, protos: &str, files: &[&str]) -> Option<Self> {
        let clients = Self { python: python(untested)?, dir: tempfile::tempdir().unwrap() };
        let path = |option: &str, dir: &Path| format!("{option}={}", dir.display());
        let mut generate = Command::new(clients.python);
        generate.args(["-m", "grpc_tools.protoc", &path("-I", &crate_dir().join(protos))]);
        generate.args(["--python_out", "--grpc_python_out"].map(|option| path(option, clients.dir.path())));
        succeeded(generate.args(files));
        Some(clients)
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.python);
        command.arg(crate_dir().join("tests/python").join(script)).env("PYTHONPATH", self.dir.path());
        // A proxy that the environment names is not for this machine's own servers.
        command.env("no_grpc_proxy", "127.0.0.1");
        command
    }

    /// Runs a client to its end; what it prints.
    fn run(&self, script: &str, arguments: &[&str]) -> String {
        succeeded(self.command(script).args(arguments))
    }
}

/// Killed when the test fails, so that nobody waits for it.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn succeeded(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Of our own protocol.
const OURS: (&str, &[&str]) = ("proto", &["capture.proto", "capture_v2.proto"]);

#[test]
fn an_unchanged_client_is_served() {
    let protos = "tests/python/original";
    let Some(clients) = Clients::made("an unchanged client in Python", protos, &["reflog.proto"]) else {
        return;
    };
    let root = clients.root();
    let capture = Capture::open(&root).unwrap();
    capture.push_schema(&crate_dir().join("tests/python/custom.proto")).unwrap();
    capture.close().unwrap();

    let server = Server::start(&root, server::ANY_PORT);
    let learned = clients.dir.path().join("learned");
    std::fs::create_dir(&learned).unwrap();
    let options = crate_dir().join(protos);
    clients.run("unchanged.py", &[server.address(), learned.to_str().unwrap(), options.to_str().unwrap()]);
    server.kill();

    let log = EntityLog::beside(&root).unwrap();
    let state = |id: &str, as_of_ms: Option<i64>| {
        let fold = log.get("User", id, Instant { as_of_ms, known_at_ms: None }).unwrap();
        (fold.state().cloned().map(Value::Object), fold.version())
    };
    let last = json!({"name": "Ada", "plan": "team", "status": "active", "team_id": "t1"});
    assert_eq!(state("user_123", None), (Some(last), 3));
    let between = json!({"name": "Ada", "plan": "trial", "status": "active", "team_id": "t1"});
    assert_eq!(state("user_123", Some(2_500)), (Some(between), 2));
    assert_eq!(state("user_9", None), (None, 2));
    assert_eq!(log.ids("User", "", None, 10).unwrap(), ["user_123", "user_9"]);
}

#[test]
fn health_and_reflection_are_those_that_any_client_of_grpc_knows() {
    let Some(clients) = Clients::made("standard clients in Python", OURS.0, OURS.1) else { return };
    let server = Server::start(&clients.root(), server::ANY_PORT);
    clients.run("standard.py", &[server.address()]);
}

#[test]
fn an_event_that_is_sent_again_has_its_first_sequence_also_after_a_restart() {
    let Some(clients) = Clients::made("events sent again from Python", OURS.0, OURS.1) else { return };
    let root = clients.root();
    let first = Server::start(&root, server::ANY_PORT);
    let sent = answers(&clients.run("send.py", &[first.address()]));
    first.kill();
    let second = Server::start(&root, server::ANY_PORT);
    let again = answers(&clients.run("send.py", &[second.address()]));

    let mut sequences: HashMap<&str, u64> = HashMap::new();
    for (id, sequence, is_duplicate) in &sent {
        assert_eq!(*is_duplicate, sequences.contains_key(id.as_str()), "{id}");
        assert_eq!(*sequences.entry(id).or_insert(*sequence), *sequence, "{id}");
    }
    assert_eq!(sequences.len(), 20);
    assert_eq!(again.len(), sent.len());
    for (id, sequence, is_duplicate) in &again {
        assert!(is_duplicate, "{id}");
        assert_eq!(sequences[id.as_str()], *sequence, "{id}");
    }
}

/// Of each line the event's id, its sequence, and whether it was there.
fn answers(printed: &str) -> Vec<(String, u64, bool)> {
    let answer = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let [id, sequence, is_duplicate] = words[..] else { panic!("{line}") };
        (id.to_owned(), sequence.parse().unwrap(), is_duplicate == "1")
    };
    printed.lines().map(answer).collect()
}
