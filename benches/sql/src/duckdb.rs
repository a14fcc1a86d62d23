//! DuckDB in a Python process of its own, which stays alive from question to question.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::answer::Answer;

/// A DuckDB that waits for questions; it ends when it is dropped.
pub(crate) struct DuckDb {
    child: Child,
    /// `None` once it is told to end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) version: String,
}

#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    version: String,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    rows: Answer,
}

impl DuckDb {
    /// Starts it by an interpreter that has the package `duckdb`.
    pub(crate) fn start(python: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", include_str!("peer.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", python.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("it has a pipe")?);
        let mut duckdb = Self { child, requests, answers, version: String::new() };
        let greeting = duckdb.reply().with_context(|| {
            format!("{} has no duckdb: pip install duckdb, or name another by --python", python.display())
        })?;
        duckdb.version = greeting.version;
        Ok(duckdb)
    }

    /// Goes over to a database, which it makes where it is not there.
    pub(crate) fn open(&mut self, database: &Path, threads: usize) -> Result<()> {
        self.request(&json!({ "open": database, "threads": threads })).map(drop)
    }

    /// Runs a statement; its rows, and the seconds from its text to the last of them.
    pub(crate) fn ask(&mut self, sql: &str) -> Result<(Answer, f64)> {
        let reply = self.request(&json!({ "sql": sql })).with_context(|| format!("DuckDB: {sql}"))?;
        Ok((reply.rows, reply.seconds))
    }

    fn request(&mut self, request: &serde_json::Value) -> Result<Reply> {
        let requests = self.requests.as_mut().context("it was told to end")?;
        writeln!(requests, "{request}")?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "it ended; its last words stand above");
        serde_json::from_str(&line).context("an answer of another kind")
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        self.requests = None;
        // It has nothing to lose that anybody would miss.
        let _ = self.child.wait();
    }
}
