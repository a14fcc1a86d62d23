//! Rows in the order of their sequences: where a follower stands, and one look at what comes next.
//!
//! A look takes a view and gives rows from where the follower stands up to the number below which no row will come any
//! more and all are on disk; so no later look can find a row that an earlier one should have given.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::ReadContext;
use super::plan::{self, Outlook};
use super::point::RowKey;
use super::row::{RowView, SegmentRows};
use super::select;
use super::source::Source;
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::manifest::Dropped;
use crate::format::numbers::Numbers;
use crate::state::version::View;
use crate::storage::segment_reader::OpenSegment;

/// How far somebody has followed a table.
#[derive(Debug)]
pub(crate) struct Follow {
    /// All rows with a sequence below were looked at.
    pub(crate) position: u64,
    /// What of the dropped rows he has been told.
    known: Arc<[Dropped]>,
    /// What he is to be told.
    pub(crate) gaps: VecDeque<Dropped>,
}

impl Follow {
    /// Who has everything up to and including a sequence, and is told what was dropped behind it.
    pub(crate) fn after(sequence: u64) -> Self {
        Self { position: sequence.saturating_add(1), known: Arc::default(), gaps: VecDeque::new() }
    }

    /// Who begins at `position` of what is there now.
    pub(crate) fn beginning(source: &Source, position: u64) -> Self {
        Self { position, known: Arc::clone(&source.version().dropped), gaps: VecDeque::new() }
    }

    /// Notes what was dropped at or behind the position since the last look.
    fn learn(&mut self, dropped: &Arc<[Dropped]>) {
        if Arc::ptr_eq(&self.known, dropped) {
            return;
        }
        let news = dropped.iter().filter(|range| range.last >= self.position && !self.known.contains(range));
        let missed = news.map(|range| Dropped { first: range.first.max(self.position), ..*range });
        self.gaps.extend(missed);
        self.known = Arc::clone(dropped);
    }
}

impl Source {
    /// The number below which a follower may be given rows: no row comes there any more, also not when the table is opened
    /// again, and all are on disk.
    pub(crate) fn followed_below(&self) -> u64 {
        self.followable(&self.view_now())
    }

    fn followable(&self, view: &View) -> u64 {
        // Asked for after the settled number: an append says that it is in doubt before it ends.
        view.settled_and_synced().min(self.sequences().doubtful())
    }

    /// Gives the next rows, at most so many, and notes how far that went.
    pub(crate) fn look(
        &self,
        follow: &mut Follow,
        predicate: Option<&Predicate<'_>>,
        limit: usize,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.sequences().settled() <= follow.position
            && Arc::ptr_eq(&self.version().dropped, &follow.known)
        {
            return Ok(());
        }
        let view = self.view_now();
        follow.learn(view.dropped());
        let until = self.followable(&view);
        if until > follow.position {
            follow.position = match predicate {
                Some(predicate) => {
                    by_sequence(&view, predicate, (follow.position, until), limit, self.context(), each)?
                }
                None => until,
            };
        }
        Ok(())
    }
}

/// A row that may be given, by its sequence.
#[derive(Clone, Copy)]
struct Candidate<'v> {
    sequence: u64,
    place: Place<'v>,
}

#[derive(Clone, Copy)]
enum Place<'v> {
    Block(&'v Block, usize),
    Segment(usize, u32),
}

/// The first of the rows offered, by sequence.
struct First<'v> {
    limit: usize,
    rows: Vec<Candidate<'v>>,
    /// No row from this sequence on is among the first.
    until: u64,
}

impl<'v> First<'v> {
    fn offer(&mut self, sequence: u64, place: Place<'v>) {
        if sequence >= self.until {
            return;
        }
        self.rows.push(Candidate { sequence, place });
        if self.rows.len() >= self.limit.saturating_mul(2) {
            self.cut();
        }
    }

    /// Keeps the first `limit` rows.
    fn cut(&mut self) {
        if self.rows.len() > self.limit {
            let (_, beyond, _) = self.rows.select_nth_unstable_by_key(self.limit, |row| row.sequence);
            self.until = beyond.sequence;
            self.rows.truncate(self.limit);
        }
    }
}

/// Gives the first `limit` matching rows with sequences in `from..until`, in their order, and says below which sequence all
/// were looked at.
///
/// Blocks are in the order of their sequences. A segment is in the order of time: its chunks' extremes rule most of it out
/// where events came in time, else its rows are looked through, so that following a segment whose times are mixed costs as
/// many scans of its sequences as it has rows over `limit`.
pub(super) fn by_sequence(
    view: &View,
    predicate: &Predicate<'_>,
    (from, until): (u64, u64),
    limit: usize,
    context: &ReadContext,
    each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
) -> Result<u64> {
    let mut first = First { limit: limit.max(1), rows: Vec::new(), until };
    for selection in select::blocks(view.memtables(), predicate) {
        let sequences = selection.block.sequence();
        let is_near = sequences.first().is_some_and(|lowest| *lowest < first.until)
            && sequences.last().is_some_and(|highest| *highest >= from);
        if is_near {
            for row in selection.rows().filter(|row| sequences[*row] >= from) {
                first.offer(sequences[row], Place::Block(selection.block, row));
            }
        }
    }
    let mut numbers: Vec<usize> = (0..view.segments().len()).collect();
    // Those that begin early first: they rule out what begins late.
    numbers.sort_by_key(|number| view.segments()[*number].segment.header().facts.sequence_min);
    let opened: Vec<OnceCell<OpenSegment<'_>>> = view.segments().iter().map(|_| OnceCell::new()).collect();
    for number in numbers {
        let entry = &view.segments()[number];
        let header = entry.segment.header();
        let is_near = header.facts.sequence_min < first.until && header.facts.sequence_max >= from;
        if !is_near || plan::by_facts(header, predicate) == Outlook::Skip {
            continue;
        }
        let read = entry.segment.read()?;
        let open = opened[number].get_or_init(|| read);
        let Some(selection) = plan::select(entry, open, predicate)? else { continue };
        let sequences = open.sequence()?;
        let mut before = first.until;
        let mut offer = |row: u32| {
            let sequence = sequences.get(row as usize) as u64;
            if sequence >= from {
                first.offer(sequence, Place::Segment(number, row));
            }
            first.until
        };
        if let Some(rows) = selection.listed_rows() {
            rows.for_each(|row| _ = offer(row));
            continue;
        }
        for chunk in selection.chunks() {
            let (lowest, highest) = (sequences.chunk_min(chunk) as u64, sequences.chunk_max(chunk) as u64);
            if lowest < before && highest >= from {
                for row in select::rows_of(selection.mask(context.kernels, chunk), chunk) {
                    before = offer(row);
                }
            }
        }
    }
    first.cut();
    let First { mut rows, until, .. } = first;
    rows.sort_unstable_by_key(|row| row.sequence);
    let columns: Vec<OnceCell<(SegmentRows<'_>, Numbers<'_>)>> =
        view.segments().iter().map(|_| OnceCell::new()).collect();
    for Candidate { place, sequence } in &rows {
        match *place {
            Place::Block(block, row) => each(&RowView::of_block(block, row))?,
            Place::Segment(number, row) => {
                let open = opened[number].get().expect("a row comes from a segment that was opened");
                if columns[number].get().is_none() {
                    _ = columns[number].set((SegmentRows::open(open, context)?, open.time()?));
                }
                let (of_segment, time) = columns[number].get().expect("opened above");
                let key = RowKey { ts: time.get(row as usize), sequence: *sequence };
                each(&RowView::of_segment(of_segment, row as usize, key))?;
            }
        }
    }
    // All rows below the one that was left out have been given.
    Ok(until)
}
