//! `keplor fold state`: what a view keeps, or what a built-in reducer comes to, now or at a moment of the past.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail, ensure};
use keplordb_fold::{KeptState, Position, StateFile, StateFound, StateKind};
use serde_json::{Value, json};

use super::moment::{Moment, moment};
use super::reducer::{Folded, Reducer};
use super::source::{Source, Wanted, names_of_views};
use crate::output::{Output, counted, note};
use crate::progress::Waiting;

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["view", "reduce"]),
    after_help = "\
Examples:
  keplor fold state data todos
  keplor fold state data todos --at 2026-02-01 --nearest
  keplor fold state data --reduce count-by=type
  keplor fold state data --reduce merge-by=data.id --type todo_added --type todo_edited --at 5120

The state is JSON on standard output; which events it is of is said on standard error. The reducer of a view is in its program, not
here: of a view the states can be had that it keeps, its snapshot and, of the past, its checkpoints. --reduce folds the events
afresh, by one of these:
  merge           all data merged (RFC 7396: an object changes the keys that it has, and null takes one away)
  merge-by=FIELD  the same for each value of a field
  last-by=FIELD   the last event with each value
  count-by=FIELD  how many events there are with each value
A field is type, actor, id or ts, or a path in data or meta: data.order.id."
)]
pub(crate) struct State {
    /// The directory of the events
    dir: PathBuf,
    /// A view, whose kept state is wanted
    view: Option<String>,
    /// Fold the events by a built-in reducer instead: merge, merge-by=FIELD, last-by=FIELD, count-by=FIELD
    #[arg(long, value_name = "REDUCER")]
    reduce: Option<Reducer>,
    /// The state at this moment: after so many events, at a position (generation:byte), or before the first event that is later than a
    /// time (RFC 3339, a date, or how long ago: 2h, 7d)
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    at: Option<Moment>,
    /// Of a view, be content with the last state that was kept before that moment
    #[arg(long, requires = "at", conflicts_with = "reduce")]
    nearest: bool,
    #[command(flatten)]
    wanted: Wanted,
    /// Print the state, and which events it is of, as one line of JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl State {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = Source::open(&self.dir)?;
        match (&self.view, &self.reduce) {
            (Some(view), _) => {
                ensure!(
                    self.wanted.is_any() && !self.wanted.skip_damaged,
                    "the events of a view were chosen by its reducer: --type, --actor and --skip-damaged go with --reduce"
                );
                self.kept(out, &source, view)
            }
            (None, Some(reducer)) => self.reduced(out, &source, reducer.clone()),
            (None, None) => bail!("name a view, or a reducer by --reduce"),
        }
    }

    fn kept(&self, out: &mut Output, source: &Source, view: &str) -> Result<()> {
        let files = source.states()?;
        let of_view: Vec<&StateFile> = files.iter().filter(|file| file.view == view).collect();
        if of_view.is_empty() {
            let dir = source.dir.display();
            match names_of_views(&files)[..] {
                [] => bail!("no view keeps a state in {dir}; --reduce folds the events without one"),
                ref names => bail!("{view:?} keeps no state in {dir}; these do: {}", names.join(", ")),
            }
        }
        let (file, kept) = match self.at {
            None => newest(source, &of_view)?,
            Some(at) => self.past(source, view, &of_view, at)?,
        };
        let KeptState { state, position: Position { generation, offset }, sequence: events, version, .. } =
            kept;
        let passed_over = kept.passed_over.map_or(0, |passed_over| passed_over.lines);
        let behind = source.reader.len().map_err(|error| source.explained(error))?.saturating_sub(events);
        if self.json {
            return out.json(&json!({
                "view": view,
                "file": file.path.display().to_string(),
                "events": events,
                "behind": behind,
                "generation": generation,
                "offset": offset,
                "version": version,
                "passed_over": passed_over,
                "state": state,
            }));
        }
        let lacks = match passed_over {
            0 => String::new(),
            lines => format!("; it lacks {}", counted(lines, "damaged line", "damaged lines")),
        };
        note(&format!(
            "{}: after {}, by version {version} of the reducer; {} since{lacks}",
            file.path.display(),
            counted(events, "event", "events"),
            counted(behind, "event", "events"),
        ));
        print(out, &state)
    }

    /// The state that a view kept at a moment, or before it if that will do.
    fn past<'f>(
        &self,
        source: &Source,
        view: &str,
        files: &[&'f StateFile],
        at: Moment,
    ) -> Result<(&'f StateFile, KeptState<Value>)> {
        let wanted = at.sequence(source)?;
        let all = source.reader.len().map_err(|error| source.explained(error))?;
        if let Some(wanted) = wanted {
            ensure!(
                wanted <= all,
                "there are only {}; --at counts from the first one ever",
                counted(all, "event", "events")
            );
        }
        let mut best: Option<(&StateFile, KeptState<Value>)> = None;
        for &file in files {
            let found = source.reader.read_state::<Value>(file).map_err(|error| source.explained(error))?;
            let StateFound::Kept(kept) = found else { continue };
            let is_before = match wanted {
                Some(wanted) => kept.sequence <= wanted,
                // A program that does not say how late its events are has none that is known to be before a time.
                None => kept.max_ts.is_some_and(|max_ts| !at.is_before(max_ts)),
            };
            if is_before && best.as_ref().is_none_or(|(_, best)| best.sequence < kept.sequence) {
                best = Some((file, kept));
            }
        }
        let Some((file, kept)) = best else {
            bail!(
                "{view} keeps no state of that time or before; its program can compute it (`state_at`), and a view with checkpoints keeps more"
            )
        };
        let events = kept.sequence;
        let between = match wanted {
            Some(wanted) => wanted - events,
            None => until(source, events, at)? - events,
        };
        ensure!(
            between == 0 || self.nearest,
            "{view} keeps no state of that moment: the last one before it is after {}, and {} between (`keplor fold cat {} --from {events} \
             --limit {between}` prints them); --nearest takes that one",
            counted(events, "event", "events"),
            counted(between, "event is", "events are"),
            source.dir.display(),
        );
        if between > 0 {
            note(&format!(
                "{} not in it",
                counted(between, "event up to that moment is", "events up to that moment are")
            ));
        }
        Ok((file, kept))
    }

    fn reduced(&self, out: &mut Output, source: &Source, reducer: Reducer) -> Result<()> {
        let explained = |error| source.explained(error);
        let (first, _) = source.reader.first().map_err(explained)?;
        let end = self.at.map_or(Ok(None), |at| at.sequence(source))?;
        if let Some(end) = end {
            let all = source.reader.len().map_err(explained)?;
            ensure!(
                end <= all,
                "there are only {}; --at counts from the first one ever",
                counted(all, "event", "events")
            );
            ensure!(
                end >= first,
                "the first {} were pruned; begin behind them",
                counted(first, "event", "events")
            );
        }
        let mut folded = Folded::new(reducer);
        let mut seen = first;
        let waiting = Waiting::begin("folding");
        if end.is_none_or(|end| end > first) {
            source.each(first, &self.wanted, |event, sequence| {
                if self.at.is_some_and(|at| at.is_before(event.ts)) {
                    return Ok(ControlFlow::Break(()));
                }
                seen = sequence + 1;
                if self.wanted.has(&event) {
                    folded.fold(event);
                }
                let ends = end == Some(seen);
                Ok(if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        drop(waiting);
        let behind = source.reader.len().map_err(explained)?.saturating_sub(seen);
        if first > 0 {
            note(&format!(
                "{} pruned: this state is of those behind",
                counted(first, "event was", "events were")
            ));
        }
        if self.json {
            return out.json(&json!({
                "events": seen,
                "behind": behind,
                "folded": folded.events,
                "without_field": folded.without_field,
                "state": folded.state,
            }));
        }
        let without = match folded.without_field {
            0 => String::new(),
            events => format!("; {} without that field", counted(events, "event", "events")),
        };
        note(&format!(
            "after {}, of which {} folded{without}; {} since",
            counted(seen, "event", "events"),
            counted(folded.events, "was", "were"),
            counted(behind, "event", "events"),
        ));
        print(out, &folded.state)
    }
}

/// How many events had happened at a time, if those below `begin` had.
fn until(source: &Source, begin: u64, at: Moment) -> Result<u64> {
    let mut end = begin;
    source.each(begin, &Wanted { skip_damaged: true, ..Wanted::default() }, |event, sequence| {
        if at.is_before(event.ts) {
            return Ok(ControlFlow::Break(()));
        }
        end = sequence + 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(end)
}

/// The state that a view would go on from.
fn newest<'f>(source: &Source, files: &[&'f StateFile]) -> Result<(&'f StateFile, KeptState<Value>)> {
    let mut why = None;
    for &file in files.iter().filter(|file| file.kind != StateKind::Checkpoint) {
        match source.reader.read_state(file).map_err(|error| source.explained(error))? {
            StateFound::Kept(kept) => return Ok((file, kept)),
            StateFound::Unusable(problem) => {
                why = why.or(Some(format!("{}: {problem}", file.path.display())));
            }
            _ => {}
        }
    }
    let why = why.unwrap_or_else(|| "only checkpoints are left, which --at asks for".to_owned());
    Err(anyhow!("{why}; its program computes the state anew when it refreshes the view"))
}

/// A state for people and programs alike. Texts in it cannot move a terminal's cursor.
fn print(out: &mut Output, state: &Value) -> Result<()> {
    let mut text = String::new();
    for letter in serde_json::to_string_pretty(state)?.chars() {
        match letter {
            '\n' => text.push(letter),
            // What fails to be written to a string is nothing.
            letter if letter.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    out.line(&text)
}
