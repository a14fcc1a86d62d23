//! The state of a view at a moment of the past: folded from the nearest state that was kept before it.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::history::History;
use crate::kept::{Kept, Moment, Run, Source};
use crate::position::Position;
use crate::rows::Row;
use crate::snapshot::Progress;
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
    F: Fn(&mut Run<S>, Parsed<'_>, Rules<'_, S>) -> bool,
{
    fn next_position(&self) -> Position {
        self.run.progress.position
    }

    fn parser(&self) -> Parser {
        self.parser.clone()
    }

    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool {
        let (moment, skip_damaged) = (self.moment, self.skip_damaged);
        let rules = Rules {
            source,
            skip_damaged,
            wants: &|progress, ts| moment.includes(progress, ts),
            passed: &mut |_, _| (),
        };
        (self.fold)(&mut self.run, parsed, rules)
    }
}

/// What a fold beside a view is told for each block.
pub(crate) struct Rules<'a, S> {
    pub(crate) source: Source<'a>,
    pub(crate) skip_damaged: bool,
    /// Whether the next row is wanted, by what was folded before it and its time.
    pub(crate) wants: &'a dyn Fn(&Progress, u64) -> bool,
    /// Is told each state that the fold comes to.
    pub(crate) passed: &'a mut dyn FnMut(&S, &Progress),
}

/// Folds rows by these rules. Returns whether it goes on behind them.
pub(crate) fn fold_rows<S, T>(
    run: &mut Run<S>,
    rows: impl Iterator<Item = Row<T>>,
    rules: Rules<'_, S>,
    step: impl FnMut(S, T, u64) -> S,
) -> bool {
    let Rules { source, skip_damaged, wants, passed } = rules;
    run.fold(source, rows, skip_damaged, step, wants, |state, progress, _| passed(state, progress))
}

/// The state of a view at a moment, by a fold of such rows.
pub(crate) fn state_at<S>(
    kept: &Kept<S>,
    history: &History,
    moment: Moment,
    parser: Parser,
    fold: impl Fn(&mut Run<S>, Parsed<'_>, Rules<'_, S>) -> bool,
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
