//! Which group a row belongs to: from bucket and key ids to a dense number.
//!
//! The ids of a row's keys are packed into one number, with the bucket before them, and that is looked up: in an array
//! where ids are few, else by a hash. Keys that do not fit into 32 bits together are looked up in several stages: the
//! number that one stage gives takes the place of the bucket in the next.

use std::collections::HashMap;
use std::ops::Range;

/// No group.
const NONE: u32 = u32::MAX;
/// Bits of packed keys up to which a stage uses an array: 32 KiB for each bucket.
const DENSE_BITS: u32 = 13;
/// Slots of an array, at most: 16 MiB.
const DENSE_SLOTS: usize = 4 << 20;

/// Ids of an only key up to which each is a group by itself, whether or not it has rows: 16 to 100 KiB.
const DIRECT_IDS: u32 = 4096;

/// How the keys of a query are packed; follows from how many ids each has.
#[derive(Debug)]
pub(super) struct Packing {
    keys: usize,
    /// How many groups there are where the ids of an only key are their numbers.
    direct: Option<u32>,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    /// Place of each key that it packs, and the bits below it.
    keys: Range<usize>,
    shifts: Vec<u32>,
    bits: u32,
}

impl Packing {
    /// `ids` are above all ids that the keys will have.
    pub(super) fn new(ids: impl IntoIterator<Item = u32>, has_buckets: bool) -> Self {
        let (mut keys, mut stages, mut direct) = (0, Vec::<Stage>::new(), None);
        for ids in ids {
            direct = (keys == 0 && !has_buckets && ids <= DIRECT_IDS).then_some(ids);
            // The bits of the largest id.
            let bits = u32::BITS - ids.saturating_sub(1).leading_zeros();
            match stages.last_mut() {
                Some(stage) if stage.bits + bits <= u32::BITS => {
                    // A key with one id has no bits, and no place that it could be shifted to.
                    stage.shifts.push(if bits == 0 { 0 } else { stage.bits });
                    stage.bits += bits;
                    stage.keys.end += 1;
                }
                _ => stages.push(Stage { keys: keys..keys + 1, shifts: vec![0], bits }),
            }
            keys += 1;
        }
        Self { keys, direct, stages }
    }

    pub(super) fn keys(&self) -> usize {
        self.keys
    }
}

/// The groups met so far.
#[derive(Debug)]
pub(super) struct GroupTable<'q> {
    packing: &'q Packing,
    stages: Vec<Lookup>,
    slots: HashMap<i64, u32, foldhash::fast::RandomState>,
    /// Where the bucket of each slot begins.
    starts: Vec<i64>,
    /// The last slot that was asked for: mostly the next one too.
    last: Option<(i64, u32)>,
    /// Whether a group has rows, where groups are ids; else all have.
    met: Vec<bool>,
    /// Whether that is known of each: then there is no more to note.
    all_met: bool,
    /// Per group its slot and its keys' ids.
    group_slots: Vec<u32>,
    group_ids: Vec<u32>,
    /// Keys of the rows at hand.
    packed: Vec<u32>,
}

/// From what was looked up before, and packed keys, to the next number.
#[derive(Debug)]
enum Lookup {
    /// The keys are the number.
    Direct,
    Dense {
        numbers: Vec<u32>,
        bits: u32,
        len: u32,
    },
    Hashed(HashMap<u64, u32, foldhash::fast::RandomState>),
}

impl Lookup {
    fn number(&mut self, before: u32, packed: u32) -> u32 {
        match self {
            Self::Direct => packed,
            Self::Dense { numbers, bits, len } => {
                let place = ((before as usize) << *bits) + packed as usize;
                if let Some(number) = numbers.get(place).copied().filter(|number| *number != NONE) {
                    return number;
                }
                let end = (before as usize + 1) << *bits;
                if end > DENSE_SLOTS {
                    self.hash();
                    return self.number(before, packed);
                }
                if numbers.len() < end {
                    numbers.resize(end, NONE);
                }
                numbers[place] = *len;
                *len += 1;
                *len - 1
            }
            Self::Hashed(numbers) => {
                let next = u32::try_from(numbers.len()).ok().filter(|next| *next != NONE);
                let key = u64::from(before) << 32 | u64::from(packed);
                *numbers.entry(key).or_insert_with(|| next.expect("memory ends before 2^32 groups"))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Direct => 0,
            Self::Dense { numbers, .. } => numbers.capacity() * size_of::<u32>(),
            // A byte of control for each place.
            Self::Hashed(numbers) => numbers.capacity() * (size_of::<(u64, u32)>() + 1),
        }
    }

    fn hash(&mut self) {
        let Self::Dense { numbers, bits, .. } = self else { return };
        let used = numbers.iter().enumerate().filter(|(_, number)| **number != NONE);
        let key = |place: usize| (place >> *bits << 32 | (place & ((1 << *bits) - 1))) as u64;
        *self = Self::Hashed(used.map(|(place, number)| (key(place), *number)).collect());
    }
}

impl<'q> GroupTable<'q> {
    pub(super) fn new(packing: &'q Packing) -> Self {
        let lookup = |stage: &Stage| match stage.bits {
            _ if packing.direct.is_some() => Lookup::Direct,
            bits @ 0..=DENSE_BITS => Lookup::Dense { numbers: Vec::new(), bits, len: 0 },
            _ => Lookup::Hashed(HashMap::default()),
        };
        let mut table = Self {
            packing,
            stages: packing.stages.iter().map(lookup).collect(),
            slots: HashMap::default(),
            starts: Vec::new(),
            last: None,
            met: Vec::new(),
            all_met: packing.direct.is_none(),
            group_slots: Vec::new(),
            group_ids: Vec::new(),
            packed: Vec::new(),
        };
        if let Some(ids) = packing.direct {
            let slot = table.slot(0);
            table.met = vec![false; ids as usize];
            table.group_slots = vec![slot; ids as usize];
            table.group_ids = (0..ids).collect();
        }
        table
    }

    /// Whether ids are groups.
    pub(super) fn is_direct(&self) -> bool {
        self.packing.direct.is_some()
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        let numbers = self.starts.capacity() * size_of::<i64>()
            + (self.group_slots.capacity() + self.group_ids.capacity()) * size_of::<u32>();
        let slots = self.slots.capacity() * (size_of::<(i64, u32)>() + 1);
        self.stages.iter().map(Lookup::bytes).sum::<usize>() + slots + numbers + self.met.capacity()
    }

    /// Says that groups have rows.
    pub(super) fn meet(&mut self, groups: &[u32]) {
        if self.all_met {
            return;
        }
        if groups.len() == self.met.len() {
            // Ids of a dictionary, of which none is there twice; rows of one group come as one.
            let mut distinct = true;
            groups.windows(2).for_each(|two| distinct &= two[0] < two[1]);
            if distinct {
                self.all_met = true;
                return self.met.fill(true);
            }
        }
        for group in groups {
            if let Some(met) = self.met.get_mut(*group as usize) {
                *met = true;
            }
        }
    }

    /// Whether a group has rows.
    pub(super) fn is_met(&self, group: usize) -> bool {
        self.met.get(group).copied().unwrap_or(true)
    }

    pub(super) fn len(&self) -> usize {
        self.group_slots.len()
    }

    /// Where the bucket of a group begins.
    pub(super) fn start(&self, group: usize) -> i64 {
        self.starts[self.group_slots[group] as usize]
    }

    /// The ids of a group's keys.
    pub(super) fn ids(&self, group: usize) -> &[u32] {
        &self.group_ids[group * self.packing.keys..][..self.packing.keys]
    }

    /// The slot of the bucket that begins here.
    pub(super) fn slot(&mut self, start: i64) -> u32 {
        if let Some((_, slot)) = self.last.filter(|(last, _)| *last == start) {
            return slot;
        }
        let Self { slots, starts, group_slots, packing, .. } = self;
        let slot = *slots.entry(start).or_insert_with(|| {
            let slot = u32::try_from(starts.len()).expect("memory ends before 2^32 buckets");
            starts.push(start);
            // Without keys a slot is a group.
            if packing.stages.is_empty() {
                group_slots.push(slot);
            }
            slot
        });
        self.last = Some((start, slot));
        slot
    }

    /// The group of a slot and of keys by their ids.
    pub(super) fn group(&mut self, slot: u32, ids: &[u32]) -> u32 {
        let mut number = slot;
        for (stage, lookup) in self.packing.stages.iter().zip(&mut self.stages) {
            let keys = ids[stage.keys.clone()].iter().zip(&stage.shifts);
            number = lookup.number(number, keys.fold(0, |packed, (id, shift)| packed | id << shift));
        }
        if number as usize == self.group_slots.len() {
            self.group_slots.push(slot);
            self.group_ids.extend_from_slice(ids);
        }
        number
    }

    /// The groups of rows: `slots` become groups in place. `ids` has, for each key, the ids of the rows.
    pub(super) fn groups(&mut self, slots: &mut [u32], ids: &[Vec<u32>]) {
        let ([stage], [lookup]) = (&*self.packing.stages, &mut *self.stages) else {
            return self.groups_by_stages(slots, ids);
        };
        self.packed.clear();
        self.packed.resize(slots.len(), 0);
        for (ids, shift) in ids.iter().zip(&stage.shifts) {
            self.packed.iter_mut().zip(ids).for_each(|(packed, id)| *packed |= id << shift);
        }
        let Self { group_slots, group_ids, packed, .. } = self;
        for (row, (slot, packed)) in slots.iter_mut().zip(packed).enumerate() {
            let number = match lookup {
                Lookup::Direct => *packed,
                Lookup::Dense { numbers, bits, .. } => {
                    let place = ((*slot as usize) << *bits) + *packed as usize;
                    match numbers.get(place) {
                        Some(number) if *number != NONE => *number,
                        _ => lookup.number(*slot, *packed),
                    }
                }
                Lookup::Hashed(_) => lookup.number(*slot, *packed),
            };
            if number as usize == group_slots.len() {
                group_slots.push(*slot);
                group_ids.extend(ids.iter().map(|ids| ids[row]));
            }
            *slot = number;
        }
    }

    fn groups_by_stages(&mut self, slots: &mut [u32], ids: &[Vec<u32>]) {
        let mut own = Vec::with_capacity(ids.len());
        for (row, slot) in slots.iter_mut().enumerate() {
            own.clear();
            own.extend(ids.iter().map(|ids| ids[row]));
            *slot = self.group(*slot, &own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_is_a_bucket_and_its_keys(
            limits in prop::collection::vec(prop::sample::select(vec![1_u32, 2, 100, 9000, 1 << 20, u32::MAX]), 0..6),
            rows in prop::collection::vec((0_i64..2000, prop::collection::vec(any::<u32>(), 6)), 1..300),
            together: bool,
        ) {
            let packing = Packing::new(limits.iter().copied(), true);
            let mut table = GroupTable::new(&packing);
            let keys: Vec<Vec<u32>> =
                rows.iter().map(|(_, ids)| ids.iter().zip(&limits).map(|(id, limit)| id % limit % 7).collect()).collect();
            let slots: Vec<u32> = rows.iter().map(|(start, _)| table.slot(*start)).collect();
            let mut groups = slots.clone();
            if together {
                let columns: Vec<Vec<u32>> =
                    (0..limits.len()).map(|key| keys.iter().map(|ids| ids[key]).collect()).collect();
                table.groups(&mut groups, &columns);
            } else {
                groups.iter_mut().zip(&keys).for_each(|(slot, ids)| *slot = table.group(*slot, ids));
            }
            let mut plain = BTreeMap::new();
            for (row, group) in groups.iter().enumerate() {
                prop_assert_eq!(table.start(*group as usize), rows[row].0);
                prop_assert_eq!(table.ids(*group as usize), &*keys[row]);
                prop_assert_eq!(*plain.entry((rows[row].0, keys[row].clone())).or_insert(*group), *group);
            }
            prop_assert_eq!(plain.len(), table.len());
        }
    }

    #[test]
    fn an_array_that_grows_too_large_becomes_a_hash_with_the_same_numbers() {
        let packing = Packing::new([1 << DENSE_BITS], true);
        let mut table = GroupTable::new(&packing);
        let count = 2 * (DENSE_SLOTS >> DENSE_BITS) as i64;
        let ask = |table: &mut GroupTable<'_>| {
            (0..count)
                .map(|start| {
                    let slot = table.slot(start);
                    table.group(slot, &[7])
                })
                .collect::<Vec<_>>()
        };
        let numbers = ask(&mut table);
        assert!(matches!(table.stages[0], Lookup::Hashed(_)));
        assert_eq!(ask(&mut table), numbers);
        assert_eq!(table.len() as i64, count);
    }
}
