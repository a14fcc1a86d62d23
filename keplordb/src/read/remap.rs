//! One number for each text of a key column, whatever codes its segments and blocks have for it: the *id* of a group's
//! key.
//!
//! Ids belong to a table, not to a query: they are given out when a segment's dictionary or a block is met for the first
//! time, and what was given out stays. So a query looks up no text: a segment's codes become ids by an array, made once.
//! What is cached follows from segments and columns alone, never from the constants of a query. It is let go of when the
//! segments are gone that it came from.

use std::collections::HashMap;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::expr::KeyColumn;
use crate::format::block::Block;
use crate::format::keys::{Keys, status_text};
use crate::state::version::{SegmentEntry, Version, View};
use crate::storage::segment_reader::Segment;

/// Rows from which the ids of a block are kept. Smaller blocks are merged soon, and few at a time.
const KEPT_BLOCK_ROWS: usize = 256;
/// Names that no segment has any more and that are kept all the same, so that small tables are not begun anew for them.
const SPARE_NAMES: usize = 1024;
/// What the ids of one column may take in memory from one query to the next.
const KEPT_BYTES: usize = 256 << 20;
/// Bytes of a name beside its text: two pointers, its places in the table and in the list, its allocation.
const NAME_BYTES: usize = 80;

/// The ids of every key column that was grouped by.
#[derive(Debug, Default)]
pub(crate) struct Remaps {
    columns: Mutex<HashMap<KeyColumn, Arc<Ids>, foldhash::fast::RandomState>>,
}

impl Remaps {
    /// The ids of a column, for the segments and blocks of a view. A lock, two lookups and two counts, unless the
    /// segments have changed.
    pub(crate) fn column(&self, column: KeyColumn, view: &View) -> ColumnIds {
        let mut columns = self.columns.lock();
        let ids = columns.entry(column).or_insert_with(|| Arc::new(Ids::new(column)));
        if let Some(tables) = ids.tables_of(view) {
            return ColumnIds { ids: Arc::clone(ids), tables };
        }
        // Queries that have the old ones at hand go on with them.
        *ids = Arc::new(Ids::new(column));
        let tables = ids.tables_of(view).unwrap_or_default();
        ColumnIds { ids: Arc::clone(ids), tables }
    }
}

/// For each code of a segment, or each row of a block, its id.
pub(crate) type IdTable = Arc<[u32]>;

/// The ids of one column, and what one version's segments have of them.
#[derive(Debug, Clone)]
pub(crate) struct ColumnIds {
    pub(crate) ids: Arc<Ids>,
    /// By the segment's place in the version; made when first asked for.
    tables: Arc<[OnceLock<IdTable>]>,
}

impl ColumnIds {
    /// The ids by code of the segment at `place` in the view, if they are known.
    pub(crate) fn known(&self, place: usize) -> Option<&IdTable> {
        self.tables.get(place)?.get()
    }

    /// Makes the ids by code of the segment at `place`. `keys` is `None` where the segment is older than the column: code
    /// 0, the empty text, is its only one.
    pub(crate) fn make(&self, place: usize, entry: &SegmentEntry, keys: Option<&Keys<'_>>) {
        if let Some(table) = self.tables.get(place) {
            table.get_or_init(|| self.ids.of_segment(entry, keys));
        }
    }
}

/// The ids of one column: dense, from 0, in the order in which their texts were met.
pub(crate) struct Ids {
    column: KeyColumn,
    names: Names,
    known: Mutex<Known>,
    /// The place of each id in the order of the texts, for as many ids as there were.
    ranks: Mutex<Arc<[u32]>>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ids")
            .field("column", &self.column)
            .field("names", &self.len())
            .finish_non_exhaustive()
    }
}

/// What ids were given out for.
#[derive(Default)]
struct Known {
    by_text: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    text_bytes: usize,
    /// By the segment's number; the `Weak` tells whether it is still that one.
    segments: HashMap<u64, (Weak<Segment>, IdTable), foldhash::fast::RandomState>,
    /// By address, which belongs to the block for as long as the `Weak` lives.
    blocks: HashMap<usize, (Weak<Block>, IdTable), foldhash::fast::RandomState>,
    /// The tables of the version that was asked last.
    latest: (Weak<Version>, Arc<[OnceLock<IdTable>]>),
}

impl Ids {
    fn new(column: KeyColumn) -> Self {
        Self { column, names: Names::default(), known: Mutex::default(), ranks: Mutex::default() }
    }

    /// How many ids there are, from 0.
    pub(crate) fn len(&self) -> u32 {
        self.names.len()
    }

    /// The text of an id; a status has five digits.
    pub(crate) fn name(&self, id: u32) -> &str {
        self.names.get(id)
    }

    /// The tables of a view's segments, filled as far as they are known; `None` when most of what is here belongs to
    /// segments that are gone, or is too much to keep.
    fn tables_of(&self, view: &View) -> Option<Arc<[OnceLock<IdTable>]>> {
        let mut known = self.known.lock();
        if ptr::eq(known.latest.0.as_ptr(), Arc::as_ptr(view.version())) {
            return Some(Arc::clone(&known.latest.1));
        }
        known.segments.retain(|_, (segment, _)| segment.strong_count() > 0);
        known.blocks.retain(|_, (block, _)| block.strong_count() > 0);
        let tables = known.segments.values().map(|(_, table)| table);
        let used: usize =
            tables.chain(known.blocks.values().map(|(_, table)| table)).map(|table| table.len()).sum();
        let names = self.len() as usize;
        let bytes = names * NAME_BYTES + known.text_bytes + used * size_of::<u32>();
        if names > 2 * used + SPARE_NAMES || bytes > KEPT_BYTES {
            return None;
        }
        let tables = view.segments().iter().map(|entry| {
            let same = |(segment, _): &&(Weak<Segment>, IdTable)| {
                ptr::eq(segment.as_ptr(), Arc::as_ptr(&entry.segment))
            };
            let table = known.segments.get(&entry.segment.number()).filter(same);
            table.map_or_else(OnceLock::new, |(_, table)| OnceLock::from(Arc::clone(table)))
        });
        let tables: Arc<[_]> = tables.collect();
        known.latest = (Arc::downgrade(view.version()), Arc::clone(&tables));
        Some(tables)
    }

    fn of_segment(&self, entry: &SegmentEntry, keys: Option<&Keys<'_>>) -> IdTable {
        let mut known = self.known.lock();
        let table: IdTable = match keys {
            Some(keys) => {
                let values = keys.dictionary();
                (0..keys.values()).map(|code| known.id_of(values.value(code), &self.names)).collect()
            }
            None => Arc::new([known.id_of("", &self.names)]),
        };
        let number = entry.segment.number();
        known.segments.insert(number, (Arc::downgrade(&entry.segment), Arc::clone(&table)));
        table
    }

    /// The ids of a block's rows; those of large blocks are kept.
    pub(crate) fn of_block(&self, block: &Arc<Block>) -> IdTable {
        let mut known = self.known.lock();
        let address = Arc::as_ptr(block).addr();
        if let Some((same, table)) = known.blocks.get(&address)
            && same.strong_count() > 0
        {
            return Arc::clone(table);
        }
        let rows = 0..block.rows();
        let table: IdTable = match self.column {
            KeyColumn::Dim(dim) => {
                let mut previous: Option<(&str, u32)> = None;
                let ids = rows.map(|row| {
                    let text = block.dim(dim, row);
                    let id = match previous {
                        Some((before, id)) if before == text => id,
                        _ => known.id_of(text, &self.names),
                    };
                    previous = Some((text, id));
                    id
                });
                ids.collect()
            }
            KeyColumn::Status => {
                let mut ids: HashMap<u16, u32, foldhash::fast::RandomState> = HashMap::default();
                let mut id_of = |status| {
                    *ids.entry(status).or_insert_with(|| known.id_of(&status_text(status), &self.names))
                };
                block.status().iter().map(|status| id_of(*status)).collect()
            }
        };
        if block.rows() >= KEPT_BLOCK_ROWS {
            known.blocks.insert(address, (Arc::downgrade(block), Arc::clone(&table)));
        }
        table
    }

    /// Per id its place in the order of the texts, for all of the first `len` ids. Made anew, O(n log n), when a text came
    /// since it was last asked for.
    pub(crate) fn ranks(&self, len: u32) -> Arc<[u32]> {
        let mut ranks = self.ranks.lock();
        if ranks.len() < len as usize {
            let mut sorted: Vec<(&str, u32)> = (0..self.len()).map(|id| (self.name(id), id)).collect();
            sorted.sort_unstable();
            let mut places = vec![0; sorted.len()];
            for (rank, (_, id)) in (0..).zip(sorted) {
                places[id as usize] = rank;
            }
            *ranks = places.into();
        }
        Arc::clone(&ranks)
    }

    /// Whether [`ranks`](Self::ranks) are there for the asking.
    pub(crate) fn has_ranks(&self, len: u32) -> bool {
        self.ranks.lock().len() >= len as usize
    }
}

impl Known {
    /// The id of a text, new if it was never met. A hash, and a copy of a new text.
    fn id_of(&mut self, text: &str, names: &Names) -> u32 {
        if let Some(id) = self.by_text.get(text) {
            return *id;
        }
        let name: Arc<str> = text.into();
        let id = names.push(Arc::clone(&name));
        self.by_text.insert(name, id);
        self.text_bytes += text.len();
        id
    }
}

/// Names on the first shelf; each shelf has room for twice as many as the one before.
const FIRST_SHELF: u64 = 64;
/// Enough for 2³² names.
const SHELVES: usize = 27;

type Shelf = Box<[OnceLock<Arc<str>>]>;

/// A list that grows while it is read: what is on it stays where it is. One writer at a time.
#[derive(Default)]
struct Names {
    shelves: [OnceLock<Shelf>; SHELVES],
    len: AtomicU32,
}

impl Names {
    fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// The name of an id; "" if there is none.
    fn get(&self, id: u32) -> &str {
        let (number, place) = Self::place(id);
        let name = self.shelves.get(number).and_then(OnceLock::get).and_then(|names| names.get(place)?.get());
        name.map_or("", |name| name)
    }

    /// Adds a name under the next id.
    fn push(&self, name: Arc<str>) -> u32 {
        let id = self.len.load(Ordering::Relaxed);
        let (number, place) = Self::place(id);
        let names = self.shelves[number].get_or_init(|| {
            let room = FIRST_SHELF << number;
            (0..room).map(|_| OnceLock::new()).collect()
        });
        // Nobody else adds: the place is free.
        names[place].get_or_init(|| name);
        let len = id.checked_add(1).expect("memory ends before 2^32 texts of one column");
        self.len.store(len, Ordering::Release);
        id
    }

    /// Shelf `s` begins at id 64 · (2ˢ - 1).
    fn place(id: u32) -> (usize, usize) {
        let number = u64::from(id) + FIRST_SHELF;
        let shelf = number.ilog2() - FIRST_SHELF.ilog2();
        // Below 2³³ on machines that hold that much.
        (shelf as usize, usize::try_from(number - (FIRST_SHELF << shelf)).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_where_they_are_while_the_list_grows() {
        let names = Names::default();
        for id in 0..10_000 {
            assert_eq!(names.push(id.to_string().into()), id);
        }
        assert_eq!(names.len(), 10_000);
        assert!((0..10_000).all(|id| names.get(id) == id.to_string()));
        assert_eq!((names.get(10_000), names.get(u32::MAX)), ("", ""));
        assert_eq!((Names::place(63), Names::place(64)), ((0, 63), (1, 0)));
        assert_eq!(Names::place(u32::MAX).0, SHELVES - 1);
    }
}
