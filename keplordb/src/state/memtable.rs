//! The rows of one WAL generation, readable while they are written.
//!
//! Large batches come as blocks and stay as they are. Small ones are gathered in a *tail*, which a reader freezes into
//! a block of its own when it comes by (a swap, no copy); the next writer merges frozen blocks that are too many. So a
//! writer copies each row a bounded number of times, a reader never copies one, and a batch appears whole, because it
//! is added under the lock that readers take for the swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::ids::IdRuns;
use crate::format::block::{Block, Summary};
use crate::schema::Shape;

/// Rows from which a block stays as it is.
pub(crate) const LARGE_ROWS: usize = 256;
/// Bytes from which a block stays as it is, however few its rows.
const LARGE_BYTES: usize = 1 << 20;
/// Rows after which the tail becomes a block.
const TAIL_ROWS: usize = 4096;
/// Frozen small blocks that a writer leaves alone; a query looks at each of them, and merging copies them all.
const SMALL_BLOCKS: usize = 16;

/// The rows of one generation.
#[derive(Debug)]
pub(crate) struct Memtable {
    generation: u64,
    blocks: Mutex<Blocks>,
    /// Written under the lock of `blocks`; read without it by whoever only wants a number.
    rows: AtomicU64,
    memory_bytes: AtomicUsize,
    /// Smallest and largest time; meaningless without rows.
    ts_min: AtomicI64,
    ts_max: AtomicI64,
    /// Bytes of the WAL file that has the same rows.
    wal_bytes: AtomicU64,
    /// The number below which all rows are on disk; set by who syncs the WAL file.
    synced_below: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Blocks {
    /// Shared with readers; grows by large blocks only, so it is rarely copied.
    large: Arc<Vec<Arc<Block>>>,
    /// Frozen by readers, oldest first.
    small: Vec<Arc<Block>>,
    tail: Block,
    /// Of the large ones.
    ids: Arc<Mutex<IdRuns>>,
}

impl Memtable {
    /// Of rows that are all on disk.
    pub(crate) fn new(generation: u64, shape: Shape) -> Self {
        Self::of_log(generation, shape, Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Of a log of which the rows with a number below `synced_below` are on disk.
    pub(crate) fn of_log(generation: u64, shape: Shape, synced_below: Arc<AtomicU64>) -> Self {
        let blocks =
            Blocks { large: Arc::default(), small: Vec::new(), tail: Block::new(shape), ids: Arc::default() };
        Self {
            generation,
            blocks: Mutex::new(blocks),
            rows: AtomicU64::new(0),
            memory_bytes: AtomicUsize::new(0),
            ts_min: AtomicI64::new(i64::MAX),
            ts_max: AtomicI64::new(i64::MIN),
            wal_bytes: AtomicU64::new(0),
            synced_below,
        }
    }

    /// Rows that are complete as they are: what a reader of somebody else's log shows.
    pub(crate) fn of_blocks(generation: u64, shape: Shape, blocks: Vec<Arc<Block>>, wal_bytes: u64) -> Self {
        let memtable = Self::new(generation, shape);
        for block in &blocks {
            let Summary { ts_min, ts_max, .. } = *block.summary();
            memtable.cover(ts_min, ts_max);
            memtable.count(block.rows() as u64, block.memory_bytes());
        }
        memtable.blocks.lock().large = Arc::new(blocks);
        memtable.set_wal_bytes(wal_bytes);
        memtable
    }

    /// The generation of the WAL file that has the same rows.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Acquire)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Smallest and largest time of the rows; `None` when there are none.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        // In this order: who sees the count sees times that cover it.
        let rows = self.rows();
        (rows > 0).then(|| (self.ts_min.load(Ordering::Relaxed), self.ts_max.load(Ordering::Relaxed)))
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        self.wal_bytes.load(Ordering::Relaxed)
    }

    /// The number below which those of all its rows are.
    pub(crate) fn numbers_below(&self) -> u64 {
        self.blocks().iter().filter_map(|block| Some(block.sequence().last()? + 1)).max().unwrap_or(0)
    }

    /// The number below which all rows are on disk.
    pub(crate) fn synced_below(&self) -> u64 {
        self.synced_below.load(Ordering::SeqCst)
    }

    pub(crate) fn set_wal_bytes(&self, bytes: u64) {
        self.wal_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds a batch as a block of its own. One writer at a time: the shard's lock.
    pub(crate) fn add(&self, block: Block) {
        let (rows, bytes) = (block.rows() as u64, block.memory_bytes());
        let Summary { ts_min, ts_max, .. } = *block.summary();
        let mut blocks = self.blocks.lock();
        self.cover(ts_min, ts_max);
        Arc::make_mut(&mut blocks.large).push(Arc::new(block));
        self.count(rows, bytes);
    }

    /// Copies a small batch into the tail. One writer at a time: the shard's lock.
    pub(crate) fn copy(&self, batch: &Block) {
        let mut blocks = self.blocks.lock();
        if blocks.small.len() >= SMALL_BLOCKS {
            blocks.merge_small();
        }
        blocks.tail.extend(batch);
        if blocks.tail.rows() >= TAIL_ROWS || blocks.tail.memory_bytes() >= LARGE_BYTES {
            let full = blocks.take_tail();
            // While it is in the cache, as a large batch is when it is made.
            full.summary();
            Arc::make_mut(&mut blocks.large).push(Arc::new(full));
        }
        if let (Some(min), Some(max)) = (batch.ts().iter().min(), batch.ts().iter().max()) {
            self.cover(*min, *max);
        }
        self.count(batch.rows() as u64, batch.memory_bytes());
    }

    /// Under the lock of `blocks`, so that a load and a store will do.
    fn cover(&self, ts_min: i64, ts_max: i64) {
        self.ts_min.store(self.ts_min.load(Ordering::Relaxed).min(ts_min), Ordering::Relaxed);
        self.ts_max.store(self.ts_max.load(Ordering::Relaxed).max(ts_max), Ordering::Relaxed);
    }

    fn count(&self, rows: u64, bytes: usize) {
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Release: who sees the count takes the lock and finds the rows.
        self.rows.fetch_add(rows, Ordering::Release);
    }

    /// Every block as of now, each batch whole.
    pub(crate) fn blocks(&self) -> MemtableBlocks {
        let mut blocks = self.blocks.lock();
        if blocks.tail.rows() > 0 {
            let frozen = blocks.take_tail();
            blocks.small.push(Arc::new(frozen));
        }
        MemtableBlocks {
            large: Arc::clone(&blocks.large),
            small: blocks.small.clone(),
            ids: Arc::clone(&blocks.ids),
        }
    }
}

impl Blocks {
    fn take_tail(&mut self) -> Block {
        let empty = Block::new(self.tail.shape());
        std::mem::replace(&mut self.tail, empty)
    }

    fn merge_small(&mut self) {
        let mut merged = Block::new(self.tail.shape());
        self.small.drain(..).for_each(|block| merged.extend(&block));
        if merged.rows() >= LARGE_ROWS || merged.memory_bytes() >= LARGE_BYTES {
            Arc::make_mut(&mut self.large).push(Arc::new(merged));
        } else {
            self.small.push(Arc::new(merged));
        }
    }
}

/// The blocks of a memtable at one moment.
#[derive(Debug, Clone)]
pub(crate) struct MemtableBlocks {
    large: Arc<Vec<Arc<Block>>>,
    small: Vec<Arc<Block>>,
    ids: Arc<Mutex<IdRuns>>,
}

impl MemtableBlocks {
    /// The rows of an id that is not empty, in no order. The first call after blocks came sorts their ids.
    pub(crate) fn rows_of_id(&self, id: &str) -> Vec<(&Block, usize)> {
        let mut found = Vec::new();
        self.ids.lock().rows_of_id(&self.large, id, &mut |block, row| found.push((block, row)));
        for block in &self.small {
            found.extend(block.rows_of_id(id).into_iter().map(|row| (&**block, row)));
        }
        found
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.large.iter().chain(&self.small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LogEvent;

    fn batch(rows: usize, first: u64) -> Block {
        let mut block = Block::new(Shape::default());
        for row in 0..rows {
            block.push(LogEvent::<0, 0, 0> { ts_ns: row as i64, ..LogEvent::default() }.as_row());
        }
        block.number(first);
        block
    }

    fn sequences(memtable: &Memtable) -> Vec<u64> {
        let mut all: Vec<u64> =
            memtable.blocks().iter().flat_map(|block| block.sequence().to_vec()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_row_is_there_once_however_often_readers_come_by() {
        for reads in [1, 3, 100] {
            let memtable = Memtable::new(1, Shape::default());
            let mut next = 0;
            for step in 0..3000_usize {
                let rows = if step % 500 == 499 { 300 } else { 1 + step % 3 };
                let batch = batch(rows, next);
                next += rows as u64;
                if rows >= LARGE_ROWS {
                    memtable.add(batch);
                } else {
                    memtable.copy(&batch);
                }
                if step % reads == 0 {
                    assert_eq!(memtable.blocks().iter().map(|block| block.rows() as u64).sum::<u64>(), next);
                }
            }
            assert_eq!(memtable.rows(), next);
            assert_eq!(sequences(&memtable), (0..next).collect::<Vec<_>>());
            let blocks = memtable.blocks();
            assert!(blocks.small.len() <= SMALL_BLOCKS + 1, "{} small blocks", blocks.small.len());
        }
    }

    #[test]
    fn a_snapshot_does_not_grow() {
        let memtable = Memtable::new(1, Shape::default());
        memtable.copy(&batch(2, 0));
        let before = memtable.blocks();
        memtable.copy(&batch(2, 2));
        memtable.add(batch(300, 4));
        assert_eq!(before.iter().map(|block| block.rows()).sum::<usize>(), 2);
    }
}
