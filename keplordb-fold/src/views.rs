//! One pass over the log for any number of views: each line is read once, and parsed once for all views that take the same.
//!
//! Much of it at once is parsed by several threads, block by block, ahead of the fold, which goes on in the order of the log on
//! the calling thread.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;

use crate::blocks::Blocks;
use crate::directory::Present;
use crate::event::Event;
use crate::history::History;
use crate::kept::Source;
use crate::lines::Block;
use crate::position::Position;
use crate::refill::Spares;
use crate::rows::{Row, parse};
use crate::view::{Sealed, ViewOps};

/// Below this many bytes the fold is over before threads have been started.
const PARALLEL_BYTES: u64 = 512 * 1024;

/// More threads than these wait for the fold, and only take up memory.
const THREADS_MAX: usize = 8;

/// Blocks that each thread may be ahead of the fold.
const BLOCKS_AHEAD: usize = 2;

/// Takes the lines of a log, one block after another.
pub(crate) trait Folding {
    /// Where it goes on.
    fn next_position(&self) -> Position;
    /// What it wants lines to be made into.
    fn parser(&self) -> Parser;
    /// Takes a block that it said to want. Returns whether it wants more.
    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool;
}

/// What lines are made into.
#[derive(Clone)]
pub(crate) enum Parser {
    /// Events, which all foldings share.
    Events,
    /// Something of its own.
    Own(OwnParser),
}

/// Makes the rows of a block, of a type that only the folding knows.
pub(crate) type OwnParser = Arc<dyn Fn(&Block) -> OwnRows + Send + Sync>;

/// `Vec<Row<T>>`.
pub(crate) type OwnRows = Box<dyn Any + Send>;

/// What a block was made into.
pub(crate) enum Parsed<'a> {
    /// For [`Parser::Events`].
    Events(&'a [Row<Box<Event>>]),
    /// For [`Parser::Own`].
    Own(OwnRows),
}

/// Refreshes all of them in one pass. One that fails does not hinder the others; the first failure is returned.
pub(crate) fn refresh_all<'a>(
    history: &History,
    views: impl IntoIterator<Item = &'a mut Box<dyn ViewOps>>,
) -> io::Result<()> {
    let views: Vec<&mut dyn Sealed> = views
        .into_iter()
        .map(|view| {
            let view: &mut dyn ViewOps = &mut **view;
            view as &mut dyn Sealed
        })
        .collect();
    refresh(history, views)
}

/// Likewise.
pub(crate) fn refresh(history: &History, views: Vec<&mut dyn Sealed>) -> io::Result<()> {
    let present = history.present()?;
    let mut failure = Ok(());
    let mut entered = Vec::with_capacity(views.len());
    for view in views {
        match view.enter(history, &present) {
            Ok(()) => entered.push(view),
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    failure.and(run_entered(history, &present, &mut entered))
}

/// The rest of a refresh of one view that has been entered already.
pub(crate) fn run_one(history: &History, present: &Present, view: &mut dyn Sealed) -> io::Result<()> {
    run_entered(history, present, &mut [view])
}

fn run_entered(history: &History, present: &Present, views: &mut [&mut dyn Sealed]) -> io::Result<()> {
    let mut foldings: Vec<&mut dyn Folding> =
        views.iter_mut().map(|view| &mut **view as &mut dyn Folding).collect();
    let mut result = run(history, present, &mut foldings);
    let complete = result.is_ok();
    for view in views {
        // Each says for itself what it stopped at, also where reading failed.
        let left = view.leave(present, complete);
        result = result.and(left);
    }
    result
}

/// Leads all of them over the lines behind their positions.
pub(crate) fn run(history: &History, present: &Present, foldings: &mut [&mut dyn Folding]) -> io::Result<()> {
    let Some(from) = foldings.iter().map(|folding| folding.next_position()).min() else { return Ok(()) };
    let end = Position { generation: present.generation, offset: present.log_bytes };
    if from >= end {
        return Ok(());
    }
    let demand = Demand::of(foldings);
    let mut pass = Pass { foldings, history, present };
    let blocks = history.read(from)?;
    let is_much = from.generation < end.generation || end.offset - from.offset >= PARALLEL_BYTES;
    // The system is asked only then: it looks into files for it, which takes as long as a small refresh.
    let threads = if is_much { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let threads = threads.min(THREADS_MAX);

    if threads > 1 { pass.run_ahead(blocks, &demand, threads) } else { pass.run_along(blocks, &demand) }
}

/// What has to be made of a block for all foldings together.
struct Demand {
    /// From where on somebody wants events.
    events_from: Option<Position>,
    /// From where on each folding wants something of its own, and how it is made.
    own: Vec<Option<(Position, OwnParser)>>,
}

/// A block with all that was made of it.
struct ParsedBlock {
    block: Block,
    events: Vec<Row<Box<Event>>>,
    own: Vec<Option<OwnRows>>,
}

/// A block to be parsed.
struct Job {
    block: Block,
    /// Events of a block that was folded.
    used: Vec<Row<Box<Event>>>,
    answer: mpsc::SyncSender<ParsedBlock>,
}

impl Demand {
    fn of(foldings: &[&mut dyn Folding]) -> Self {
        let mut events_from: Option<Position> = None;
        let mut own = Vec::with_capacity(foldings.len());
        for folding in foldings {
            let from = folding.next_position();
            own.push(match folding.parser() {
                Parser::Events => {
                    events_from = Some(events_from.map_or(from, |earlier| earlier.min(from)));
                    None
                }
                Parser::Own(parser) => Some((from, parser)),
            });
        }
        Self { events_from, own }
    }

    /// Parses a block: only for those that have not folded it before. `events` are of a block that was folded, and done with.
    fn parse(&self, block: Block, mut events: Vec<Row<Box<Event>>>, spares: &mut Spares) -> ParsedBlock {
        let end = block.end();
        spares.take_back(&mut events);
        if self.events_from.is_some_and(|from| from < end) {
            parse(&block, &mut events, |line| spares.read(line));
        }
        let make = |(from, parser): &(Position, OwnParser)| (*from < end).then(|| parser(&block));
        let own = self.own.iter().map(|own| own.as_ref().and_then(make)).collect();
        ParsedBlock { block, events, own }
    }
}

struct Pass<'a, 'b> {
    foldings: &'a mut [&'b mut dyn Folding],
    history: &'a History,
    present: &'a Present,
}

impl Pass<'_, '_> {
    /// Parses and folds in turn.
    fn run_along(&mut self, mut blocks: Blocks, demand: &Demand) -> io::Result<()> {
        let mut going = vec![true; self.foldings.len()];
        let mut spares = Spares::default();
        let mut events = Vec::new();
        while let Some(block) = blocks.next()? {
            let mut parsed = demand.parse(block, events, &mut spares);
            let goes_on = self.fold(&mut parsed, &mut going);
            blocks.take_back(parsed.block.text);
            events = parsed.events;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Lets other threads parse what comes next.
    fn run_ahead(&mut self, mut blocks: Blocks, demand: &Demand, threads: usize) -> io::Result<()> {
        let mut going = vec![true; self.foldings.len()];
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            // Dropped when this closure ends, however it does; then the threads end too, and the scope can.
            let (give, take) = mpsc::channel::<Job>();
            let take = Arc::new(Mutex::new(take));
            let stopped = &stopped;
            for _ in 0..threads {
                let take = Arc::clone(&take);
                scope.spawn(move || {
                    let mut spares = Spares::default();
                    loop {
                        let Ok(Job { block, used, answer }) = take.lock().recv() else { break };
                        if stopped.load(Relaxed) {
                            break;
                        }
                        // Nobody waits for it any longer if the fold has just stopped.
                        let _ = answer.send(demand.parse(block, used, &mut spares));
                    }
                });
            }
            drop(take);
            let mut ahead = VecDeque::with_capacity(threads * BLOCKS_AHEAD);
            let mut used = Vec::new();
            let mut read = Ok(());
            let mut is_more = true;
            loop {
                while is_more && ahead.len() < threads * BLOCKS_AHEAD {
                    match blocks.next() {
                        Ok(Some(block)) => {
                            let (answer, parsed) = mpsc::sync_channel(1);
                            // If no thread is left, the answer's other end is dropped here, and the fold says so.
                            let _ = give.send(Job { block, used: std::mem::take(&mut used), answer });
                            ahead.push_back(parsed);
                        }
                        Ok(None) => is_more = false,
                        Err(error) => {
                            read = Err(error);
                            is_more = false;
                        }
                    }
                }
                let Some(next) = ahead.pop_front() else { break };
                let Ok(mut parsed) = next.recv() else {
                    // What an event's own `Deserialize` panicked with is passed on by the scope.
                    break;
                };
                let goes_on = self.fold(&mut parsed, &mut going);
                blocks.take_back(parsed.block.text);
                used = parsed.events;
                if !goes_on {
                    stopped.store(true, Relaxed);
                    break;
                }
            }
            read
        })
    }

    /// Returns whether anybody wants more.
    fn fold(&mut self, parsed: &mut ParsedBlock, going: &mut [bool]) -> bool {
        let ParsedBlock { block, events, own } = parsed;
        let source = Source { block, history: self.history, present: self.present };
        for ((folding, going), own) in self.foldings.iter_mut().zip(going.iter_mut()).zip(own) {
            if !*going {
                continue;
            }
            if block.end() <= folding.next_position() {
                // It has folded this block before.
                continue;
            }
            *going = match own.take() {
                Some(rows) => folding.fold(source, Parsed::Own(rows)),
                None => folding.fold(source, Parsed::Events(events)),
            };
        }
        going.contains(&true)
    }
}

#[cfg(test)]
mod tests;
