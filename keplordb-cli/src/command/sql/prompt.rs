//! The prompt: statements are typed, answered, and kept in a history; nothing but its end ends it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use futures::FutureExt;
use keplordb_sql::Session;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use super::answer::answer;
use super::editing::Editing;
use super::statements::split;
use super::tables::{self, Known};
use crate::interrupt::Interrupts;
use crate::output::{self, Output, counted, note};
use crate::sheet::Form;

const PROMPT: &str = "keplor> ";
/// Statements that are remembered.
const HISTORY_LENGTH: usize = 10_000;

/// The folder of the history in the user's own.
const FOLDER: &str = "keplor";
const FILE: &str = "sql-history";

const HELP: &str = "\
A statement ends with a semicolon; until then Enter begins another line.
  \\d         tables
  \\d NAME    columns of a table
  \\timing    say how long each answer took, or no longer
  \\q         end, as Ctrl-D does
Tab completes words. Ctrl-C drops what is typed, or stops what is being answered.
Times: WHERE ts >= '2026-02-01'. A table as it was: FROM calls AS OF TIMESTAMP '2026-02-01'. Names that are words of SQL: \"user\".";

/// A session at a terminal.
pub(super) struct Prompt<'a> {
    pub(super) session: &'a Session,
    pub(super) tables: &'a [Known],
    pub(super) form: Form,
    pub(super) runtime: &'a Runtime,
    pub(super) out: &'a mut Output,
}

/// What is to come after a line.
enum Next {
    Line,
    End,
}

impl Prompt<'_> {
    /// Answers until the end of the input. `history` is where statements are kept.
    pub(super) fn run(mut self, history: Option<PathBuf>) -> Result<()> {
        // From the start: a Ctrl-C that comes just before an answer begins must not end the program.
        let interrupts = Interrupts::listen()?;
        let has_colours = output::has_colours();
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .color_mode(if has_colours { ColorMode::Enabled } else { ColorMode::Disabled })
            .max_history_size(HISTORY_LENGTH)
            .context("the terminal cannot be used")?
            .build();
        let mut editor: Editor<Editing, FileHistory> =
            Editor::with_config(config).context("the terminal cannot be used")?;
        editor.set_helper(Some(Editing::new(self.tables, has_colours)));
        let mut history = history.filter(|path| load(&mut editor, path));
        let tables = counted(self.tables.len() as u64, "table", "tables");
        self.out.line(&format!("{tables}; \\d lists them, \\h helps, Ctrl-D ends"))?;
        let mut is_timed = false;
        loop {
            self.out.flush()?;
            let text = match editor.readline(PROMPT) {
                Ok(text) => text,
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(error).context("the terminal cannot be read"),
            };
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            keep(&mut editor, &mut history, text);
            let then = if text.starts_with('\\') {
                self.command(text, &mut is_timed)
            } else {
                self.answer(text, is_timed, &interrupts).map(|()| Next::Line)
            };
            match then {
                Ok(Next::Line) => {}
                Ok(Next::End) => return Ok(()),
                Err(error) if output::is_closed(&error) => return Err(error),
                Err(error) => {
                    self.out.flush()?;
                    note(&output::with_causes(&error));
                }
            }
        }
    }

    /// Does what a line says that begins with a backslash.
    fn command(&mut self, text: &str, is_timed: &mut bool) -> Result<Next> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        // A semicolon is a habit.
        match (name.trim_end_matches(';'), rest.trim().trim_end_matches(';').trim_end()) {
            ("\\q", _) => return Ok(Next::End),
            ("\\h" | "\\?", _) => HELP.lines().try_for_each(|line| self.out.line(line))?,
            ("\\timing", _) => {
                *is_timed = !*is_timed;
                self.out.line(if *is_timed { "timing is on" } else { "timing is off" })?;
            }
            ("\\d", "") => tables::list(self.tables, self.form, self.out)?,
            ("\\d", table) => tables::describe(self.tables, table, self.form, self.out)?,
            (other, _) => anyhow::bail!("{other} is nothing that the prompt does; \\h lists what it does"),
        }
        Ok(Next::Line)
    }

    /// Answers statements, until one has no answer.
    fn answer(&mut self, text: &str, is_timed: bool, interrupts: &Interrupts) -> Result<()> {
        for statement in split(text) {
            let begun = Instant::now();
            let (session, form, out) = (self.session, self.form, &mut *self.out);
            let answered = self.runtime.block_on(async {
                // One that came before the question was put is not for it.
                while interrupts.next().now_or_never().is_some() {}
                tokio::select! {
                    biased;
                    () = interrupts.next() => None,
                    answered = answer(session, statement.text, form, out) => Some(answered),
                }
            });
            let Some(answered) = answered else {
                self.out.flush()?;
                note("interrupted");
                return Ok(());
            };
            let rows = counted(answered?, "row", "rows");
            let took = is_timed.then(|| format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1e3));
            match (self.form.is_text(), took) {
                (true, Some(took)) => self.out.line(&format!("({rows}, {took})"))?,
                (true, None) => self.out.line(&format!("({rows})"))?,
                (false, Some(took)) => note(&took),
                (false, None) => {}
            }
        }
        Ok(())
    }
}

/// Reads the history; whether there can be one.
fn load(editor: &mut Editor<Editing, FileHistory>, path: &Path) -> bool {
    let dir = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let loaded = dir.map_err(ReadlineError::from).and_then(|()| match editor.load_history(path) {
        Err(ReadlineError::Io(missing)) if missing.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    });
    if let Err(error) = &loaded {
        note(&format!("{} cannot be used, there is no history: {error}", path.display()));
    }
    loaded.is_ok()
}

/// Adds to the history what was typed, at once: another prompt may end later than this one.
fn keep(editor: &mut Editor<Editing, FileHistory>, history: &mut Option<PathBuf>, text: &str) {
    let kept = editor.add_history_entry(text).and_then(|_| match &history {
        Some(path) => editor.append_history(path),
        None => Ok(()),
    });
    if let Err(error) = kept
        && let Some(path) = history.take()
    {
        note(&format!("{} cannot be written, what follows is not kept: {error}", path.display()));
    }
}

/// Where what is typed is kept: the folder of a user's state as the system knows it.
pub(super) fn history_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else {
        folder("XDG_STATE_HOME").or_else(|| Some(std::env::home_dir()?.join(".local/state")))
    };
    Some(state?.join(FOLDER).join(FILE))
}
