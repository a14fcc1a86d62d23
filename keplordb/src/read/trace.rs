//! What became of one number: the row that has it, or whether any ever had it.

use super::source::Source;
use super::tail::by_sequence;
use crate::error::Result;
use crate::filter::Predicate;
use crate::state::sequences::RUN_GAP;
use crate::state::version::View;

/// What a table knows of a sequence; see [`Store::trace`](crate::Store::trace).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trace {
    /// The event that has it is there.
    Live {
        /// Its id.
        id: String,
        /// Its time, in nanoseconds since the Unix epoch.
        ts_ns: i64,
    },
    /// The table gave it, and nothing is there any more: the event was deleted or dropped, or its append failed.
    Gone,
    /// The table never gave it: it has not come so far, or passed it over, as it does with many numbers whenever it is opened.
    Never,
}

impl Source {
    /// As [`Store::trace`](crate::Store::trace).
    pub(crate) fn trace(&self, sequence: u64) -> Result<Trace> {
        let next = self.sequences().next();
        if sequence == 0 || sequence >= next {
            return Ok(Trace::Never);
        }
        let view = self.view_now();
        let mut trace = None;
        by_sequence(&view, &Predicate::all(), (sequence, sequence + 1), 1, self.context(), &mut |row| {
            trace = Some(Trace::Live { id: row.id()?.into_owned(), ts_ns: row.ts_ns() });
            Ok(())
        })?;
        match trace {
            Some(trace) => Ok(trace),
            None if was_given(&view, sequence, next)? => Ok(Trace::Gone),
            None => Ok(Trace::Never),
        }
    }
}

/// Numbers that are known to have been given, as near to one of them as possible.
struct Neighbours {
    sequence: u64,
    /// The nearest that is no higher; 0 before the first.
    below: u64,
    /// The nearest that is higher.
    above: u64,
}

impl Neighbours {
    fn learn(&mut self, known: u64) {
        if known <= self.sequence {
            self.below = self.below.max(known);
        } else {
            self.above = self.above.min(known);
        }
    }

    /// Where rows were deleted and are purged nothing says that their numbers were given, but those of their neighbours: a run gives
    /// numbers one after the other, and begins more than `RUN_GAP` behind the last one of the run before.
    fn are_of_its_run(&self) -> bool {
        let Self { sequence, below, above } = *self;
        above - below <= RUN_GAP || above - sequence > RUN_GAP || sequence - below > RUN_GAP
    }
}

fn was_given(view: &View, sequence: u64, next: u64) -> Result<bool> {
    let mut near = Neighbours { sequence, below: 0, above: next };
    for dropped in view.dropped().iter() {
        if (dropped.first..=dropped.last).contains(&sequence) {
            return Ok(true);
        }
        near.learn(dropped.first);
        near.learn(dropped.last);
    }
    for block in view.memtables().iter().flat_map(|memtable| memtable.blocks.iter()) {
        let sequences = block.sequence();
        let above = sequences.partition_point(|known| *known <= sequence);
        let below = above.checked_sub(1);
        [Some(above), below]
            .iter()
            .flatten()
            .filter_map(|row| sequences.get(*row))
            .for_each(|n| near.learn(*n));
    }
    for entry in view.segments() {
        let facts = &entry.segment.header().facts;
        let (first, last) = (facts.sequence_min, facts.sequence_max);
        if (first..=last).contains(&sequence) {
            if last - first <= RUN_GAP {
                return Ok(true);
            }
            // Rows of more than one run.
            let open = entry.segment.read()?;
            let sequences = open.sequence()?;
            (0..sequences.rows()).for_each(|row| near.learn(sequences.get(row) as u64));
        }
        near.learn(first);
        near.learn(last);
    }
    Ok(near.below == sequence || near.are_of_its_run())
}
