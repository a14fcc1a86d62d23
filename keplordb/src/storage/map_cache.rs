//! How many segments stay mapped: the least recently used one is unmapped when too many are. Small ones, which are read
//! rather than mapped, are counted apart: a table of thousands of them would else map and unmap one for each look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::segment_reader::Segment;

/// Small segments that are held in memory, at most: 8 MiB of the largest that count as small.
const SMALL_CAPACITY: usize = 1024;

/// The mapped segments of an engine.
#[derive(Debug)]
pub(crate) struct MapCache {
    capacity: usize,
    clock: AtomicU64,
    mapped: Mutex<Vec<Weak<Segment>>>,
    small: Mutex<Vec<Weak<Segment>>>,
}

impl MapCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: AtomicU64::new(0),
            mapped: Mutex::new(Vec::new()),
            small: Mutex::new(Vec::new()),
        }
    }

    /// The present moment: how many times a segment was mapped so far. Coarse, so that a query only reads it.
    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// A segment was mapped; unmaps the one that was not used for longest if there are too many. Readers that are at
    /// work keep what they have.
    pub(crate) fn mapped(&self, segment: &Arc<Segment>) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        let new = Arc::downgrade(segment);
        let (held, capacity) =
            if segment.is_small() { (&self.small, SMALL_CAPACITY) } else { (&self.mapped, self.capacity) };
        let mut mapped = held.lock();
        mapped.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&new));
        while mapped.len() >= capacity {
            let age = |known: &Weak<Segment>| known.upgrade().map(|segment| segment.last_used());
            let oldest = mapped.iter().enumerate().min_by_key(|(_, known)| age(known));
            let Some((place, _)) = oldest else { break };
            if let Some(segment) = mapped.swap_remove(place).upgrade() {
                segment.unmap();
            }
        }
        mapped.push(new);
    }
}
