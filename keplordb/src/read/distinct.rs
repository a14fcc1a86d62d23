//! Which ids of a key column each group has: what counting distinct values needs.

use roaring::RoaringBitmap;

/// Ids up to which a group gets a bit for each; beyond, it pays for what it has, unless it is the only one.
const DENSE_IDS: u32 = 4096;
/// Ids that a set keeps together.
const CONTAINER_IDS: u32 = 1 << 16;
/// Bytes of the first id that is kept there, with what keeps them, at most.
const CONTAINER_BYTES: u64 = 96;
/// Bytes of each other one, where there is room to grow.
const SPARSE_ID_BYTES: u64 = 4;

/// Sets of ids, by group.
#[derive(Debug, Clone)]
pub(crate) struct IdSets {
    /// Words of a group's bits.
    words: usize,
    sets: Sets,
}

#[derive(Debug, Clone)]
enum Sets {
    /// `words` for each group.
    Dense(Vec<u64>),
    Sparse {
        sets: Vec<RoaringBitmap>,
        /// How many ids each has.
        lens: Vec<u32>,
        /// Containers that a set may have.
        containers: u32,
        /// What all ids take, at most.
        id_bytes: u64,
    },
}

/// What a set takes more when it has `to` ids, and not `from`: the first ones may each be in another container.
fn bytes_between(from: u32, to: u32, containers: u32) -> u64 {
    let first = u64::from(to.min(containers) - from.min(containers));
    first * CONTAINER_BYTES + (u64::from(to - from) - first) * SPARSE_ID_BYTES
}

impl IdSets {
    /// Sets of ids below `ids`. `one_group` says that there will be no other group than 0.
    pub(crate) fn new(ids: u32, one_group: bool) -> Self {
        let sets = if one_group || ids <= DENSE_IDS {
            Sets::Dense(Vec::new())
        } else {
            Sets::Sparse {
                sets: Vec::new(),
                lens: Vec::new(),
                containers: ids.div_ceil(CONTAINER_IDS),
                id_bytes: 0,
            }
        };
        Self { words: (ids as usize).div_ceil(64), sets }
    }

    /// Makes room for groups below `groups`.
    pub(crate) fn grow(&mut self, groups: usize) {
        match &mut self.sets {
            Sets::Dense(bits) if bits.len() < groups * self.words => bits.resize(groups * self.words, 0),
            Sets::Sparse { sets, lens, .. } if sets.len() < groups => {
                sets.resize_with(groups, RoaringBitmap::new);
                lens.resize(groups, 0);
            }
            _ => {}
        }
    }

    /// Adds an id to a group that there is room for.
    pub(crate) fn add(&mut self, group: usize, id: u32) {
        match &mut self.sets {
            Sets::Dense(bits) => bits[group * self.words + id as usize / 64] |= 1 << (id % 64),
            Sets::Sparse { sets, lens, containers, id_bytes } => {
                if sets[group].insert(id) {
                    lens[group] += 1;
                    *id_bytes += bytes_between(lens[group] - 1, lens[group], *containers);
                }
            }
        }
    }

    /// Adds the ids of another's group, made alike, to one that there is room for.
    pub(crate) fn merge(&mut self, group: usize, other: &Self, others: usize) {
        match (&mut self.sets, &other.sets) {
            (Sets::Dense(mine), Sets::Dense(theirs)) => {
                assert_eq!(self.words, other.words, "sets of one query are made alike");
                let mine = &mut mine[group * self.words..][..self.words];
                mine.iter_mut()
                    .zip(&theirs[others * self.words..])
                    .for_each(|(mine, theirs)| *mine |= theirs);
            }
            (Sets::Sparse { sets, lens, containers, id_bytes }, Sets::Sparse { sets: theirs, .. }) => {
                let set = &mut sets[group];
                *set |= &theirs[others];
                let len = u32::try_from(set.len()).unwrap_or(u32::MAX);
                *id_bytes += bytes_between(lens[group], len, *containers);
                lens[group] = len;
            }
            _ => unreachable!("sets of one query are made alike"),
        }
    }

    /// What they take, at most, but for what an allocator adds.
    pub(crate) fn bytes(&self) -> usize {
        match &self.sets {
            Sets::Dense(bits) => bits.capacity() * size_of::<u64>(),
            Sets::Sparse { sets, lens, id_bytes, .. } => {
                sets.capacity() * size_of::<RoaringBitmap>()
                    + lens.capacity() * size_of::<u32>()
                    + usize::try_from(*id_bytes).unwrap_or(usize::MAX)
            }
        }
    }

    /// How many ids a group has.
    pub(crate) fn len(&self, group: usize) -> u64 {
        match &self.sets {
            Sets::Dense(bits) => {
                let own = bits.get(group * self.words..).unwrap_or_default().iter().take(self.words);
                own.map(|word| u64::from(word.count_ones())).sum()
            }
            Sets::Sparse { sets, .. } => sets.get(group).map_or(0, RoaringBitmap::len),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_id_counts_once(
            ids in prop::sample::select(vec![1_u32, 64, 65, 100_000]),
            added in prop::collection::vec((0_usize..4, any::<u32>(), any::<bool>()), 0..300),
        ) {
            let mut plain = vec![BTreeSet::new(); 4];
            let (mut sets, mut others) = (IdSets::new(ids, false), IdSets::new(ids, false));
            sets.grow(4);
            others.grow(4);
            for (group, id, to_others) in added {
                plain[group].insert(id % ids);
                if to_others { others.add(3 - group, id % ids) } else { sets.add(group, id % ids) }
            }
            for (group, plain) in plain.iter().enumerate() {
                sets.merge(group, &others, 3 - group);
                prop_assert_eq!(sets.len(group), plain.len() as u64);
            }
            prop_assert_eq!(sets.len(9), 0);
        }
    }
}
