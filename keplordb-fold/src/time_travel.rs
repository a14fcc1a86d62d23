//! The state of a view at a moment of the past: folded from the nearest state that was kept before it.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::history::History;
use crate::kept::{Kept, Moment, Run, Source};
use crate::position::Position;
use crate::reducer::Reducer;
use crate::rows::Row;
use crate::views::{self, Folding, Parsed, Parser};

/// Folds up to a moment, beside the view.
struct Journey<S, F> {
    run: Run<S>,
    moment: Moment,
    skip_damaged: bool,
    parser: Parser,
    /// Folds a block into the run; it knows what the rows are.
    fold: F,
}

impl<S, F> Folding for Journey<S, F>
where
    F: Fn(&mut Run<S>, Parsed<'_>, Rules<'_>) -> bool,
{
    fn next_position(&self) -> Position {
        self.run.progress.position
    }

    fn parser(&self) -> Parser {
        self.parser.clone()
    }

    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool {
        let rules = Rules { moment: self.moment, skip_damaged: self.skip_damaged, source };
        (self.fold)(&mut self.run, parsed, rules)
    }
}

/// What a journey tells to the fold of each block.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    moment: Moment,
    skip_damaged: bool,
    source: Source<'a>,
}

/// Folds rows until the moment.
pub(crate) fn fold_until<S, T>(
    run: &mut Run<S>,
    rows: impl Iterator<Item = Row<T>>,
    rules: Rules<'_>,
    step: impl FnMut(S, T, u64) -> S,
) -> bool {
    let Rules { moment, skip_damaged, source } = rules;
    let wants = |progress: &_, ts| moment.includes(progress, ts);
    run.fold(source, rows, skip_damaged, step, wants, |_, _, _| ())
}

/// The state of a view at a moment, by a fold of such rows.
pub(crate) fn state_at<S>(
    kept: &Kept<S>,
    history: &History,
    moment: Moment,
    parser: Parser,
    fold: impl Fn(&mut Run<S>, Parsed<'_>, Rules<'_>) -> bool,
) -> io::Result<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    let present = history.present()?;
    let (state, progress) = kept.nearest(history, &present, moment)?;
    let skip_damaged = kept.options.skip_damaged;
    let mut journey = Journey { run: Run::of(state, progress), moment, skip_damaged, parser, fold };
    views::run(history, &present, &mut [&mut journey])?;
    Ok(journey.run.end()?.0)
}

/// The same by a reducer of events.
pub(crate) fn untyped<S>(
    kept: &Kept<S>,
    reducer: &Reducer<S>,
    history: &History,
    moment: Moment,
) -> io::Result<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    state_at(kept, history, moment, Parser::Events, |run, parsed, rules| {
        let Parsed::Events(rows) = parsed else { return false };
        fold_until(run, rows.iter().map(Row::as_ref), rules, |state, event, _| reducer(state, event))
    })
}
