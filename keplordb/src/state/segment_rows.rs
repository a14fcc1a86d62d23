//! From the rows of memtables and of segments that are merged to the bytes of a segment: gather the live ones, sort them, lay
//! out their columns.

use std::sync::Arc;

use super::decode::DecodedSegment;
use crate::format::block::Block;
use crate::format::segment::{self, Columns, SegmentInput};
use crate::schema::TableSchema;
use crate::state::memtable::MemtableBlocks;
use crate::state::version::MemtableEntry;
use crate::threads::map_each;

/// Rows from which laying out and encoding columns spread over threads; below, starting them costs more than it saves.
const PARALLEL_ROWS: usize = 32 << 10;

/// What a segment is to be besides its rows.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) schema: &'a TableSchema,
    /// The WAL generations whose rows it absorbs.
    pub(crate) generations: &'a [u64],
    /// The segments whose rows it takes over.
    pub(crate) supersedes: &'a [u64],
    pub(crate) bloom_dim: Option<usize>,
    pub(crate) rollup_dims: &'a [usize],
}

/// A row's place in time, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    ts: i64,
    sequence: u64,
    block: u32,
    row: u32,
}

/// Cuts memtables into groups of at most `max_bytes`, each for a segment of its own: strings of one are addressed by 32 bits.
/// One that is larger by its last batch is a group too.
pub(crate) fn groups(entries: &[MemtableEntry], max_bytes: usize) -> impl Iterator<Item = &[MemtableEntry]> {
    let mut group_bytes = entries.first().map_or(0, |first| first.memtable.memory_bytes());
    entries.chunk_by(move |_, next| {
        let bytes = next.memtable.memory_bytes();
        let fits = group_bytes + bytes <= max_bytes;
        group_bytes = if fits { group_bytes + bytes } else { bytes };
        fits
    })
}

/// The live rows of some memtables and segments, in the order of (time, sequence).
#[derive(Debug, Clone, Default)]
pub(crate) struct SegmentRows {
    blocks: Vec<Arc<Block>>,
    places: Vec<Place>,
}

impl SegmentRows {
    /// Takes the rows of memtables that are not deleted as of the entries given.
    pub(crate) fn gather(entries: &[MemtableEntry]) -> Self {
        let mut rows = Self::default();
        for entry in entries {
            let of_entry: MemtableBlocks = entry.memtable.blocks();
            for block in of_entry.iter() {
                rows.push(block, |sequence| {
                    entry.deleted.as_ref().is_none_or(|deleted| !deleted.contains(sequence))
                });
            }
        }
        rows.sort();
        rows
    }

    /// Adds the rows of segments.
    pub(crate) fn merge(&mut self, segments: &[DecodedSegment]) {
        for segment in segments {
            self.push(&segment.block, |_| true);
        }
        self.sort();
    }

    fn push(&mut self, block: &Arc<Block>, is_live: impl Fn(u64) -> bool) {
        let number = u32::try_from(self.blocks.len()).expect("there are far less than 2^32 blocks");
        let rows = block.ts().iter().zip(block.sequence()).enumerate();
        let live = rows.filter(|(_, (_, sequence))| is_live(**sequence));
        self.places.extend(live.map(|(row, (ts, sequence))| Place {
            ts: *ts,
            sequence: *sequence,
            block: number,
            row: u32::try_from(row).expect("a block has less than 2^32 rows"),
        }));
        self.blocks.push(Arc::clone(block));
    }

    /// Events come mostly in order, as one run per shard or segment: the stable sort finds such runs and only merges them.
    fn sort(&mut self) {
        self.places.sort();
    }

    /// Bytes that the rows take in memory, those among them that are deleted too.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.memory_bytes()).sum()
    }

    /// Smallest and largest time; `None` without rows.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        Some((self.places.first()?.ts, self.places.last()?.ts))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The rows' sequences, in the order of the segment.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.places.iter().map(|place| place.sequence)
    }

    /// One value of every row.
    fn column<'a, T>(&'a self, value: impl Fn(&'a Block, usize) -> T) -> Vec<T> {
        let of = |place: &Place| {
            let block = self.blocks.get(place.block as usize).expect("places name blocks gathered with them");
            value(block, place.row as usize)
        };
        self.places.iter().map(of).collect()
    }

    fn numbers<'a, T: Copy + Default + Into<i64> + 'a>(
        &'a self,
        values: impl Fn(&'a Block) -> &'a [T],
    ) -> Vec<i64> {
        self.column(|block, row| values(block).get(row).copied().unwrap_or_default().into())
    }

    /// The rows column by column; strings, whose bytes are all over memory, on several threads where there are many rows.
    fn columns(&self, schema: &TableSchema) -> Columns<'_> {
        let shape = schema.shape();
        let places: Vec<usize> = (0..1 + shape.dims + shape.labels).collect();
        let text = |place: &usize| match *place {
            0 => self.column(Block::id),
            place if place <= shape.dims => self.column(|block, row| block.dim(place - 1, row)),
            place => self.column(|block, row| block.label(place - 1 - shape.dims, row)),
        };
        let texts = if self.is_large() { map_each(&places, text) } else { places.iter().map(text).collect() };
        let mut texts = texts.into_iter();
        Columns {
            ts: self.places.iter().map(|place| place.ts).collect(),
            sequence: self.places.iter().map(|place| place.sequence as i64).collect(),
            metric: self.numbers(Block::metric),
            latency: self.numbers(Block::latency),
            latency_detail: self.numbers(Block::latency_detail),
            flags: self.column(|block, row| i64::from(block.flags(row).0)),
            status: self.column(|block, row| block.status().get(row).copied().unwrap_or_default()),
            counters: (0..shape.counters)
                .map(|counter| self.numbers(|block| block.counter(counter).unwrap_or_default()))
                .collect(),
            id: texts.next().unwrap_or_default(),
            dims: texts.by_ref().take(shape.dims).collect(),
            labels: texts.collect(),
        }
    }

    /// Whether spreading over threads pays.
    fn is_large(&self) -> bool {
        self.len() >= PARALLEL_ROWS
    }
}

/// The bytes of a segment file.
pub(crate) fn encode(job: &Job<'_>, rows: &SegmentRows) -> Vec<u8> {
    let input = SegmentInput {
        schema: job.schema,
        generations: job.generations,
        supersedes: job.supersedes,
        bloom_dim: job.bloom_dim,
        rollup_dims: job.rollup_dims,
        columns: rows.columns(job.schema),
    };
    segment::encode(&input, rows.is_large())
}
