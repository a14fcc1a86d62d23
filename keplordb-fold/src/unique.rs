//! The ids of the latest events, by which one that comes twice is known.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io;

use crate::history::History;
use crate::position::Position;
use crate::skimmed::Skimmed;

/// The ids among the last so many events, and where they stand.
#[derive(Debug)]
pub(crate) struct Window {
    events_max: usize,
    /// Of each event in the window its id, if it has one, and where it begins; oldest first.
    events: VecDeque<(Option<String>, Position)>,
    /// Of each id the latest event.
    places: HashMap<String, Position>,
    /// Behind the last event that is in the window; `None` before anything was read.
    upto: Option<Position>,
}

impl Window {
    pub(crate) fn new(events_max: usize) -> Self {
        Self { events_max: events_max.max(1), events: VecDeque::new(), places: HashMap::new(), upto: None }
    }

    /// Where the latest event with this id begins, among those in the window as of now.
    ///
    /// Cost: reads what was appended since the last call; the first time the whole window.
    pub(crate) fn find(&mut self, history: &History, id: &str) -> io::Result<Option<Position>> {
        let present = history.present()?;
        let end = Position { generation: present.generation, offset: present.log_bytes };
        // Unless somebody cut the log, or pruned what lies between.
        let is_there = |upto: &Position| *upto <= end && upto.generation >= present.first_generation;
        let from = if let Some(upto) = self.upto.filter(is_there) {
            upto
        } else {
            *self = Self::new(self.events_max);
            self.first(history)?
        };
        let mut blocks = history.read(from)?;
        let mut upto = from;
        while let Some(block) = blocks.next()? {
            for line in block.lines() {
                // A line that is no event has no id.
                let id = Skimmed::of_line(line.bytes).and_then(|skimmed| skimmed.id);
                self.push(id.map(Cow::into_owned), line.at);
                upto = line.end;
            }
        }
        self.upto = Some(upto);
        Ok(self.places.get(id).copied())
    }

    /// Where the window begins.
    fn first(&self, history: &History) -> io::Result<Position> {
        let present = history.present()?;
        let (_, events) = history.end()?;
        let first = events.saturating_sub(self.events_max as u64).max(present.first_sequence);
        Ok(history.position_of(first)?.unwrap_or_default())
    }

    fn push(&mut self, id: Option<String>, at: Position) {
        if let Some(id) = &id {
            self.places.insert(id.clone(), at);
        }
        self.events.push_back((id, at));
        if self.events.len() > self.events_max
            && let Some((Some(id), at)) = self.events.pop_front()
            && self.places.get(&id) == Some(&at)
        {
            self.places.remove(&id);
        }
    }
}
