//! `keplor sql`: questions in SQL about tables, from the command line, a file, or at a prompt.

mod answer;
mod editing;
mod prompt;
#[cfg(feature = "server")]
mod root;
mod statements;
mod tables;
mod values;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keplordb_sql::Session;
use tokio::runtime::Runtime;

use self::answer::answer;
use self::prompt::Prompt;
use self::statements::split;
use self::tables::Place;
use super::Done;
use crate::interrupt::Interrupts;
use crate::output::{Output, note};
use crate::parse;
use crate::sheet::Form;

/// Bytes of a statement; the most that a session takes.
const STATEMENT_BYTES: usize = 1 << 20;

/// Ask in SQL: a statement, a file of them, or at a prompt
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "keplor sql [OPTIONS] [[NAME=]DIR]... [STATEMENT]",
    after_long_help = "\
Examples:
  keplor sql flights.db 'SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier ORDER BY flights DESC'
  keplor sql flights.db                                  (a prompt)
  keplor sql new=calls.db old=calls-2025.db -f compare.sql --csv > compare.csv
  echo 'SELECT max(ts) FROM calls' | keplor sql calls.db --json

A table is called as its directory is, without what follows a dot: flights.db is flights. Statements only ask: SELECT, WITH, VALUES,
EXPLAIN, DESCRIBE, SHOW; those of a file end with semicolons. `FROM flights AS OF TIMESTAMP '2013-07-01'` is a table as it was. Names
that are words of SQL are quoted: \"user\". A server's root is asked alone: its tables are _events, _current, _versions and one of each type,
such as users. Other processes may write to the tables; every statement sees each at one moment.

Without a statement, at a terminal, there is a prompt; \\h helps there. What is typed is kept in $XDG_STATE_HOME/keplor/sql-history, by
default ~/.local/state/keplor/sql-history (on Windows in %LOCALAPPDATA%)."
)]
pub(crate) struct Sql {
    /// The tables' directories, each as DIR or NAME=DIR, and last the statement, if it is not read elsewhere
    #[arg(value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
    /// Read statements from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keep nothing of what is typed at the prompt
    #[arg(long)]
    no_history: bool,
    /// The memory that sorts, groups and joins may take together
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes, default_value = "1GiB", help_heading = "Limits")]
    memory: u64,
    /// Where what does not fit goes on; without it that is an error
    #[arg(long, value_name = "DIR", help_heading = "Limits")]
    spill: Option<PathBuf>,
    /// The longest time that an answer may take: 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, help_heading = "Limits")]
    timeout: Option<Duration>,
    /// The most rows of an answer; more are an error
    #[arg(long, value_name = "N", help_heading = "Limits")]
    rows: Option<u64>,
    #[command(flatten)]
    form: Form,
}

/// Statements and where they were found, for messages.
struct Script {
    text: String,
    /// `None` where they were typed on the command line.
    source: Option<String>,
}

impl Sql {
    pub(super) fn run(mut self, out: &mut Output) -> Result<Done> {
        let statement = match self.file {
            None => self.arguments.pop_if(|last| is_statement(last)),
            Some(_) => None,
        };
        #[cfg(feature = "server")]
        if let Some(root) = root::only(self.arguments.iter().map(|argument| Place::of(argument)))? {
            let asked = Asked::Root(self.questions(&root)?);
            let script =
                self.script(statement)?.context("a root has no prompt yet: give a statement, or -f FILE")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.context("threads for queries cannot be started")?;
            let done = script.run(&asked, &runtime, self.form, out);
            runtime.shutdown_background();
            return done;
        }
        let session = self.session()?;
        let places = self.arguments.iter().map(|argument| Place::of(argument)).collect();
        let tables = tables::open(places, &session)?;
        let script = self.script(statement)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("threads for queries cannot be started")?;
        let done = if let Some(script) = script {
            script.run(&Asked::Tables(session.clone()), &runtime, self.form, out)
        } else {
            let history = if self.no_history { None } else { prompt::history_path() };
            Prompt { session: &session, tables: &tables, form: self.form, runtime: &runtime, out }
                .run(history)
                .map(|()| Done::Well)
        };
        // What is still at work has nobody to tell.
        runtime.shutdown_background();
        done
    }

    /// What is to be answered; nothing where a person is going to type it.
    fn script(&self, statement: Option<OsString>) -> Result<Option<Script>> {
        if let Some(statement) = statement {
            let text = statement.into_string().ok().context("the statement is not UTF-8")?;
            return Ok(Some(Script { text, source: None }));
        }
        if let Some(path) = self.file.as_deref().filter(|path| *path != Path::new("-")) {
            let source = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("{source} cannot be read"))?;
            return Ok(Some(Script { text, source: Some(source) }));
        }
        if self.file.is_none() && io::stdin().is_terminal() && io::stdout().is_terminal() {
            return Ok(None);
        }
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        Ok(Some(Script { text, source: Some("standard input".to_owned()) }))
    }

    /// Questions to a server's root, within the limits that are given.
    #[cfg(feature = "server")]
    fn questions(&self, root: &Path) -> Result<keplordb_server::Sql> {
        ensure!(self.spill.is_none(), "--spill is for tables; a root's questions stay within --memory");
        let options = keplordb_server::SqlOptions::default()
            .with_memory_bytes(usize::try_from(self.memory).unwrap_or(usize::MAX))
            .with_timeout(self.timeout)
            .with_rows(self.rows);
        Ok(keplordb_server::Sql::beside(root, options)?)
    }

    fn session(&self) -> Result<Session> {
        let builder = Session::builder()
            .statement_limit_bytes(STATEMENT_BYTES)
            .memory_limit_bytes(usize::try_from(self.memory).unwrap_or(usize::MAX));
        let builder = match &self.spill {
            Some(dir) => {
                ensure!(dir.is_dir(), "there is no directory {} for --spill; make it first", dir.display());
                builder.spill_dir(dir)
            }
            None => builder,
        };
        let builder = match self.timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        };
        let builder = match self.rows {
            Some(rows) => builder.row_limit(rows),
            None => builder,
        };
        Ok(builder.build()?)
    }
}

/// Whom statements are put to.
enum Asked {
    Tables(Session),
    /// A server's root: each statement sees it at one moment.
    #[cfg(feature = "server")]
    Root(keplordb_server::Sql),
}

impl Asked {
    async fn session(&self) -> Result<Session> {
        match self {
            Self::Tables(session) => Ok(session.clone()),
            #[cfg(feature = "server")]
            Self::Root(questions) => Ok(questions.session(keplordb_server::LogInstant::default()).await?),
        }
    }
}

/// Whether the last argument is a statement: nothing that is there has its name, and it has more than one word, or signs that no
/// directory's name has.
fn is_statement(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    let text = text.trim();
    let is_question =
        text.contains(|sign: char| sign.is_whitespace() || matches!(sign, '(' | ';' | '*' | '\''));
    let is_table = Place::of(argument).dir.exists();
    is_question && !is_table
}

impl Script {
    fn run(&self, asked: &Asked, runtime: &Runtime, form: Form, out: &mut Output) -> Result<Done> {
        let statements = split(&self.text);
        ensure!(
            !statements.is_empty(),
            "there is no statement in {}",
            self.source.as_deref().unwrap_or("what was to be asked")
        );
        let is_one = statements.len() == 1;
        let interrupts = Interrupts::listen(true)?;
        for (place, statement) in statements.into_iter().enumerate() {
            if place > 0 && form.is_text() {
                out.line("")?;
            }
            let answered = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = interrupts.next() => None,
                    answered = async { answer(&asked.session().await?, statement.text, form, &mut *out).await } => Some(answered),
                }
            });
            let Some(answered) = answered else {
                out.flush()?;
                note("interrupted");
                return Ok(Done::Interrupted);
            };
            match &self.source {
                // A failed write is not the statement's, and is told apart by its kind.
                Some(source) if answered.as_ref().is_err_and(|error| !error.is::<io::Error>()) => answered
                    .with_context(|| format!("the statement in line {} of {source}", statement.line))?,
                None if !is_one && answered.is_err() => {
                    answered.with_context(|| format!("statement {}", place + 1))?
                }
                _ => answered?,
            };
        }
        Ok(Done::Well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_from_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("SELECT 1; -- (really)");
        std::fs::create_dir(&odd).unwrap();
        let named = format!("t={}", odd.display());
        for table in
            [odd.as_os_str(), named.as_ref(), "flihgts.db".as_ref(), "t=flihgts.db".as_ref(), "".as_ref()]
        {
            assert!(!is_statement(table), "{}", table.display());
        }
        for statement in ["SELECT 1", "VALUES(1)", "TABLE\nx", "SELECT 1 = 2", "x=1;"] {
            assert!(is_statement(statement.as_ref()), "{statement}");
        }
    }
}
