//! Where the ids of a memtable's large blocks are, once somebody has asked for one.
//!
//! Runs of places in the order of their ids' hashes, as in a log-structured merge tree (O'Neil et al., 1996): blocks that came since the
//! last question become a run, and a run is merged with those before it that are not larger. So there are few of them however many
//! blocks there are, and each place is copied a few times. Who never asks pays nothing.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::format::block::Block;

/// An id of a row, by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u32,
    block: u32,
    row: u32,
}

/// The places of all ids of the first blocks of a list that only grows.
#[derive(Debug, Default)]
pub(crate) struct IdRuns {
    /// Blocks that are covered.
    blocks: usize,
    /// Each in the order of its places, and shorter than the one before.
    runs: Vec<Vec<Place>>,
}

impl IdRuns {
    /// Calls `each` with the block and the row of every row of `blocks` that has an id which is not empty. `blocks` is the list of which
    /// it has covered a part, at any length.
    pub(crate) fn rows_of_id<'b>(
        &mut self,
        blocks: &'b [Arc<Block>],
        id: &str,
        each: &mut dyn FnMut(&'b Block, usize),
    ) {
        self.cover(blocks);
        let wanted = hash(id);
        for run in &self.runs {
            let start = run.partition_point(|place| place.hash < wanted);
            let same_hash = run.iter().skip(start).take_while(|place| place.hash == wanted);
            for Place { block, row, .. } in same_hash {
                // What came after the list was taken is not in it.
                let Some(block) = blocks.get(*block as usize) else { continue };
                if block.id(*row as usize) == id {
                    each(block, *row as usize);
                }
            }
        }
    }

    /// Adds the blocks that came since the last time.
    fn cover(&mut self, blocks: &[Arc<Block>]) {
        if blocks.len() <= self.blocks {
            return;
        }
        let mut run = Vec::new();
        for (block, rows) in (0_u32..).zip(blocks).skip(self.blocks) {
            let ids = (0_u32..).zip((0..rows.rows()).map(|row| rows.id(row)));
            let places = ids.filter(|(_, id)| !id.is_empty());
            run.extend(places.map(|(row, id)| Place { hash: hash(id), block, row }));
        }
        self.blocks = blocks.len();
        while let Some(before) = self.runs.pop_if(|before| before.len() <= run.len()) {
            run.extend(before);
        }
        // Runs that are in order one after the other are merged, not sorted anew.
        run.sort();
        if !run.is_empty() {
            self.runs.push(run);
        }
    }
}

fn hash(id: &str) -> u32 {
    // Only for this process: the runs live in memory.
    (foldhash::fast::FixedState::default().hash_one(id) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::event::LogEvent;
    use crate::schema::Shape;

    fn block(ids: impl Iterator<Item = String>) -> Arc<Block> {
        let mut block = Block::new(Shape::default());
        for id in ids {
            block.push(LogEvent::<0, 0, 0> { id, ..LogEvent::default() }.as_row());
        }
        Arc::new(block)
    }

    proptest! {
        #[test]
        fn it_finds_the_rows_that_a_look_at_each_finds(
            steps in vec((vec(vec(0..40_u8, 0..40), 0..4), 0..40_u8, any::<bool>()), 0..30),
        ) {
            let id = |id: u8| if id == 0 { String::new() } else { format!("id {id}") };
            let (mut index, mut blocks, mut older) = (IdRuns::default(), Vec::new(), Vec::new());
            for (added, wanted, is_kept) in steps {
                if is_kept {
                    older.clone_from(&blocks);
                }
                blocks.extend(added.into_iter().map(|rows| block(rows.into_iter().map(id))));
                // A reader that took the list earlier asks as well.
                for list in [&blocks, &older] {
                    let wanted = format!("id {wanted}");
                    let mut found = Vec::new();
                    index.rows_of_id(list, &wanted, &mut |block, row| found.push((std::ptr::from_ref(block), row)));
                    found.sort_unstable();
                    let twin = list.iter().flat_map(|block| (0..block.rows()).map(move |row| (block, row)));
                    let twin = twin.filter(|(block, row)| block.id(*row) == wanted);
                    let mut expected: Vec<_> = twin.map(|(block, row)| (Arc::as_ptr(block), row)).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
                prop_assert!(index.runs.iter().map(Vec::len).is_sorted_by(|before, after| before > after));
            }
        }
    }
}
