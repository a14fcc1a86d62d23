//! What a program asked of the engine and what it was told, on the disk's clock: the one thing that the oracle believes.
//!
//! A *tick* is the number of operations that the disk has counted so far, over all restarts. What was begun at a tick
//! smaller than that of a moment may have left traces by that moment; what was acknowledged at or before it must hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::Event;

/// A count of operations of the disk.
pub type Tick = u64;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// It is still under way, or it failed in a way that leaves its effect open: either is legal, but whole.
    Open,
    /// It succeeded then.
    Done(Tick),
    /// It failed then and left no trace.
    Refused(Tick),
}

/// What is known of an operation's effect at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It must be there.
    Certain,
    /// It may be there, as a whole.
    Possible,
    /// It must not be there.
    None,
}

impl End {
    fn effect(self, begun: Tick, moment: Tick) -> Effect {
        match self {
            Self::Done(tick) if tick <= moment => Effect::Certain,
            Self::Refused(tick) if tick <= moment => Effect::None,
            _ if begun < moment => Effect::Possible,
            _ => Effect::None,
        }
    }
}

/// Events that were appended by one call.
#[derive(Debug, Clone)]
pub struct Batch {
    /// By their numbers.
    pub events: BTreeMap<u64, Event>,
    /// Which log takes them: those of one log are kept in order.
    pub shard: u32,
    /// When the call began.
    pub begun: Tick,
    /// Whether it is known to be there after a kill.
    pub end: End,
    /// When it was promised that no power cut takes it.
    pub durable: Option<Tick>,
}

impl Batch {
    /// Whether the batch is there after a power cut, at the moment of the cut.
    pub fn effect(&self, moment: Tick) -> Effect {
        match (self.end.effect(self.begun, moment), self.durable) {
            (Effect::Certain, Some(durable)) if durable <= moment => Effect::Certain,
            (Effect::Certain | Effect::Possible, _) => Effect::Possible,
            (Effect::None, _) => Effect::None,
        }
    }
}

/// Rows that were taken away by one call: a delete, a gc, or a crash that was seen to have taken them.
#[derive(Debug, Clone)]
pub struct Removal {
    /// Their numbers.
    pub rows: BTreeSet<u64>,
    /// When the call began.
    pub begun: Tick,
    /// How it ended.
    pub end: End,
    /// Whether all of them go together; else each may go by itself.
    pub is_whole: bool,
}

impl Removal {
    /// Whether the rows are gone, at this moment.
    pub fn effect(&self, moment: Tick) -> Effect {
        self.end.effect(self.begun, moment)
    }
}

/// A checkpoint into another directory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where.
    pub dir: String,
    /// When a segment was damaged, which the copy may share by a hard link.
    pub spoiled: Option<Tick>,
    /// The rows that it holds when it is complete.
    pub rows: BTreeSet<u64>,
    /// When the call began.
    pub begun: Tick,
    /// How it ended.
    pub end: End,
}

impl Checkpoint {
    /// Whether the copy is complete, at this moment.
    pub fn effect(&self, moment: Tick) -> Effect {
        self.end.effect(self.begun, moment)
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Appended batches, in order.
    pub batches: Vec<Batch>,
    /// Removals, in order.
    pub removals: Vec<Removal>,
    /// Checkpoints, in order.
    pub checkpoints: Vec<Checkpoint>,
    /// When the power was cut.
    pub cuts: Vec<Tick>,
    /// When the program began to open the table with its second dim.
    pub grown: Option<Tick>,
}

impl Ledger {
    /// Whether the table may have its second dim by then, so that it must be opened with it.
    pub fn is_wide(&self, moment: Tick) -> bool {
        self.grown.is_some_and(|begun| begun < moment)
    }

    /// Whether the batch is there after a kill at this moment: what was acknowledged is, unless the power was cut since.
    pub fn effect_of_kill(&self, batch: &Batch, moment: Tick) -> Effect {
        match batch.end {
            End::Done(end) if end <= moment && !self.cuts.iter().any(|cut| (end..moment).contains(cut)) => {
                Effect::Certain
            }
            _ => batch.effect(moment),
        }
    }

    /// The rows that are there as far as the program knows: of two possibilities, the one it was told last.
    pub fn rows(&self) -> BTreeMap<u64, &Event> {
        let done = |end: &End| matches!(end, End::Done(_));
        let appended = self.batches.iter().filter(|batch| done(&batch.end)).flat_map(|batch| &batch.events);
        let mut rows: BTreeMap<u64, &Event> = appended.map(|(number, event)| (*number, event)).collect();
        for removal in self.removals.iter().filter(|removal| done(&removal.end)) {
            rows.retain(|number, _| !removal.rows.contains(number));
        }
        rows
    }

    /// Everything that was acknowledged is on disk from now on.
    pub fn all_durable(&mut self, now: Tick) {
        for batch in &mut self.batches {
            if matches!(batch.end, End::Done(_)) {
                batch.durable.get_or_insert(now);
            }
        }
    }

    /// Of each log, all but the last `events` events that were acknowledged are on disk from now on; whole batches only.
    pub fn durable_but(&mut self, events: u64, now: Tick) {
        let mut later: BTreeMap<u32, u64> = BTreeMap::new();
        for batch in self.batches.iter_mut().rev().filter(|batch| matches!(batch.end, End::Done(_))) {
            let later = later.entry(batch.shard).or_default();
            *later += batch.events.len() as u64;
            if *later > events {
                batch.durable.get_or_insert(now);
            }
        }
    }

    /// As if the last batch of each log and the last removal were still under way.
    #[must_use]
    pub fn but_the_last(&self) -> Self {
        let mut ledger = self.clone();
        let mut shards = BTreeSet::new();
        for batch in ledger.batches.iter_mut().rev().filter(|batch| matches!(batch.end, End::Done(_))) {
            if shards.insert(batch.shard) {
                batch.end = End::Open;
            }
        }
        if let Some(removal) = ledger.removals.iter_mut().rev().find(|removal| !removal.rows.is_empty()) {
            removal.end = End::Open;
        }
        ledger
    }

    /// The table was opened after a crash and showed these rows: what it did not show is gone for good, what it showed stays.
    pub fn settle(&mut self, shown: &BTreeSet<u64>, now: Tick) {
        let mut gone = BTreeSet::new();
        for batch in &mut self.batches {
            let is_shown = batch.events.keys().any(|number| shown.contains(number));
            if batch.end == End::Open {
                batch.end = if is_shown { End::Done(now) } else { End::Refused(now) };
            }
            if is_shown {
                batch.durable.get_or_insert(now);
            }
            gone.extend(batch.events.keys().filter(|number| !shown.contains(number)));
        }
        for removal in &mut self.removals {
            if removal.end == End::Open {
                removal.end = End::Refused(now);
            }
        }
        self.removals.push(Removal { rows: gone, begun: now, end: End::Done(now), is_whole: true });
    }

    /// A number that changes whenever what must or may hold changes: equal images at one stage need one look.
    pub fn stage(&self, moment: Tick) -> u64 {
        let batches = self.batches.iter().map(|batch| batch.effect(moment));
        let removals = self.removals.iter().map(|removal| removal.effect(moment));
        let checkpoints = self.checkpoints.iter().map(|checkpoint| checkpoint.effect(moment));
        batches.chain(removals).chain(checkpoints).fold(7, |stage: u64, effect| {
            stage.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(effect as u64 + 1).rotate_left(7)
        })
    }
}
