//! Quantiles of one column, for each group: exact while memory allows, then within 1 %.
//!
//! A group's values are kept as they are; once a table of counts is no larger, as that, where the column's values lie
//! close together. When all groups of a column together have spent their [`Budget`], groups of more than [`FEW_VALUES`]
//! that would take more go on with *rough* counts: buckets of which each is at most 1/64 as wide as its values are large.
//! Their middle is at most 1/128 off.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::format::numbers::Numbers;
use crate::kernels::{Kernels, Mask};

/// What the exact values or counts of one column may take, over all groups and threads of a query.
const KEPT_BYTES: i64 = 64 << 20;
/// Values that a group keeps as they are, whatever others have: as rough counts they would hardly take less.
const FEW_VALUES: usize = 256;
/// Bytes that a thread takes before it tells the others.
const UNSETTLED_BYTES: i64 = 64 << 10;
/// Widest range of values that gets a table of counts.
const COUNTED_VALUES: u64 = 1 << 16;
/// Rough buckets for each power of two.
const STEPS_LOG: u32 = 6;
/// Magnitudes up to here have a rough bucket each.
const EXACT_BELOW: u64 = 1 << (STEPS_LOG + 1);

/// A quantile, and whether it is a value that the rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuantileValue {
    /// `None` of no rows.
    pub(crate) value: Option<i64>,
    /// Otherwise the value is within 1 % of the right one.
    pub(crate) is_exact: bool,
}

/// The bytes that are left for the exact values of one column, in all threads of a query; below 0 when they are spent.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<AtomicI64>);

impl Default for Budget {
    fn default() -> Self {
        Self::of_bytes(KEPT_BYTES)
    }
}

impl Budget {
    fn of_bytes(bytes: i64) -> Self {
        Self(Arc::new(AtomicI64::new(bytes)))
    }
}

/// The values of one column, by group.
#[derive(Debug)]
pub(crate) struct Quantiles {
    /// The lowest value that a table of counts has, and how many; `None` where they would be too many.
    counted: Option<(i64, usize)>,
    groups: Vec<Values>,
    budget: Budget,
    /// Bytes of exact values and tables.
    taken_bytes: i64,
    /// Those of them that the budget does not know of yet.
    unsettled_bytes: i64,
}

impl Drop for Quantiles {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken_bytes - self.unsettled_bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
enum Values {
    Each(Vec<i64>),
    Counts(Counts),
    Rough(Rough),
}

impl Quantiles {
    /// Of a column whose values all lie in `known`, as far as anyone knows; `None` for a column without rows. `one_group`
    /// says that many values of one group will come, and of no other.
    pub(crate) fn new(known: Option<(i64, i64)>, one_group: bool, budget: Budget) -> Self {
        let counted = known.filter(|(min, max)| min <= max && max.abs_diff(*min) < COUNTED_VALUES);
        let counted =
            counted.and_then(|(min, max)| Some((min, usize::try_from(max.abs_diff(min)).ok()? + 1)));
        let mut quantiles = Self { counted, groups: Vec::new(), budget, taken_bytes: 0, unsettled_bytes: 0 };
        if let (true, Some((lowest, width))) = (one_group, counted) {
            quantiles.groups.push(Values::Counts(Counts::new(lowest, width)));
            quantiles.take(Counts::bytes(width));
        }
        quantiles
    }

    fn take(&mut self, bytes: usize) {
        self.settle(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn give_back(&mut self, bytes: usize) {
        self.settle(-i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn settle(&mut self, bytes: i64) {
        self.taken_bytes += bytes;
        self.unsettled_bytes += bytes;
        if self.unsettled_bytes.abs() >= UNSETTLED_BYTES {
            self.budget.0.fetch_sub(self.unsettled_bytes, Ordering::Relaxed);
            self.unsettled_bytes = 0;
        }
    }

    fn is_spent(&self) -> bool {
        self.budget.0.load(Ordering::Relaxed) <= self.unsettled_bytes
    }

    /// Makes room for groups below `groups`.
    pub(crate) fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, || Values::Each(Vec::new()));
        }
    }

    /// Adds a value to a group that there is room for.
    pub(crate) fn add(&mut self, group: usize, value: i64) {
        self.add_all(group, &[value]);
    }

    /// Adds values to one group that there is room for.
    pub(crate) fn add_all(&mut self, group: usize, values: &[i64]) {
        let mut left = values;
        while !left.is_empty() {
            let is_spent = self.is_spent();
            left = match &mut self.groups[group] {
                Values::Each(each) if is_spent && each.len() + left.len() > FEW_VALUES => {
                    self.make_rough(group);
                    continue;
                }
                Values::Each(each) => {
                    each.extend_from_slice(left);
                    self.take(size_of_val(left));
                    self.count_if_smaller(group);
                    return;
                }
                Values::Counts(counts) => {
                    counts.expect(left.len());
                    let Some(beyond) = left.iter().position(|value| !counts.add(*value)) else { return };
                    // A damaged header told a false range: then nothing but rough counts holds what there is.
                    self.make_rough(group);
                    &left[beyond..]
                }
                Values::Rough(rough) => {
                    for value in left {
                        rough.add(*value, 1);
                    }
                    return;
                }
            };
        }
    }

    /// Whether the group has a table of counts for all values of a chunk.
    pub(crate) fn counts_chunk(&self, group: usize, numbers: &Numbers<'_>, chunk: usize) -> bool {
        let Values::Counts(counts) = &self.groups[group] else { return false };
        counts.has(numbers.chunk_min(chunk)) && counts.has(numbers.chunk_max(chunk))
    }

    /// Adds the rows of a chunk that are set in a mask, `count` of them; only of a chunk of which
    /// [`counts_chunk`](Self::counts_chunk) says so.
    pub(crate) fn count_chunk(
        &mut self,
        group: usize,
        kernels: &Kernels,
        numbers: &Numbers<'_>,
        chunk: usize,
        mask: &Mask,
        count: u32,
    ) {
        if let Values::Counts(counts) = &mut self.groups[group] {
            counts.expect(count as usize);
            numbers.count_values(kernels, chunk, mask, counts.lowest, &mut counts.recent);
        }
    }

    /// Turns the values of a group into counts where that takes no more room.
    fn count_if_smaller(&mut self, group: usize) {
        let (Some((lowest, width)), Values::Each(each)) = (self.counted, &mut self.groups[group]) else {
            return;
        };
        if size_of_val(&**each) < Counts::bytes(width) {
            return;
        }
        let each = std::mem::take(each);
        self.give_back(size_of_val(&*each));
        self.take(Counts::bytes(width));
        self.groups[group] = Values::Counts(Counts::new(lowest, width));
        self.add_all(group, &each);
    }

    fn make_rough(&mut self, group: usize) {
        let mut rough = Rough::default();
        let exact_bytes = match &self.groups[group] {
            Values::Each(each) => {
                for value in each {
                    rough.add(*value, 1);
                }
                size_of_val(&**each)
            }
            Values::Counts(counts) => {
                counts.values().for_each(|(value, count)| rough.add(value, count));
                Counts::bytes(counts.recent.len())
            }
            Values::Rough(_) => return,
        };
        self.give_back(exact_bytes);
        self.groups[group] = Values::Rough(rough);
    }

    /// Adds the values of another's group, of the same column, to one that there is room for.
    pub(crate) fn merge(&mut self, group: usize, other: &Self, others: usize) {
        match other.groups.get(others) {
            None => {}
            Some(Values::Each(each)) => self.add_all(group, each),
            Some(Values::Counts(counts)) => {
                let is_spent = self.is_spent();
                match &mut self.groups[group] {
                    Values::Each(each) if each.is_empty() && !is_spent => {
                        self.groups[group] = Values::Counts(counts.clone());
                        self.take(Counts::bytes(counts.recent.len()));
                    }
                    Values::Counts(mine) if mine.is_alike(counts) => mine.merge(counts),
                    _ => counts.values().for_each(|(value, count)| self.add_many(group, value, count)),
                }
            }
            Some(Values::Rough(theirs)) => {
                self.make_rough(group);
                if let Values::Rough(mine) = &mut self.groups[group] {
                    theirs.buckets().for_each(|(value, count)| mine.add(value, count));
                }
            }
        }
    }

    fn add_many(&mut self, group: usize, value: i64, mut count: u64) {
        while count > 0 {
            if let Values::Rough(rough) = &mut self.groups[group] {
                rough.add(value, count);
                return;
            }
            let some = usize::try_from(count).unwrap_or(usize::MAX).min(64);
            self.add_all(group, &[value; 64][..some]);
            count -= some as u64;
        }
    }

    /// The smallest value of a group whose rank is at least ⌈q · n⌉, for n values; the first rank is 1. A `q` that is no
    /// number counts as 0.
    pub(crate) fn quantile(&mut self, group: usize, q: f64) -> QuantileValue {
        match self.groups.get_mut(group) {
            None => QuantileValue { value: None, is_exact: true },
            Some(Values::Each(each)) => {
                if !each.is_sorted() {
                    each.sort_unstable();
                }
                let place = rank(q, each.len() as u64).checked_sub(1);
                let value = place.and_then(|place| each.get(usize::try_from(place).ok()?));
                QuantileValue { value: value.copied(), is_exact: true }
            }
            Some(Values::Counts(counts)) => {
                let rank = rank(q, counts.len());
                QuantileValue { value: value_at(counts.values(), rank), is_exact: true }
            }
            Some(Values::Rough(rough)) => {
                let rank = rank(q, rough.counts.iter().sum());
                QuantileValue { value: value_at(rough.buckets(), rank), is_exact: false }
            }
        }
    }
}

/// How many there are of each value from `lowest` on.
#[derive(Debug, Clone)]
struct Counts {
    lowest: i64,
    /// Of at most `u32::MAX` values in all: half the memory to run about in.
    recent: Vec<u32>,
    /// How many more values `recent` takes.
    room: u32,
    /// Of the values before; empty when there are none.
    older: Vec<u64>,
}

impl Counts {
    fn new(lowest: i64, width: usize) -> Self {
        Self { lowest, recent: vec![0; width], room: u32::MAX, older: Vec::new() }
    }

    fn bytes(width: usize) -> usize {
        width * size_of::<u32>()
    }

    fn place(&self, value: i64) -> Option<usize> {
        if value < self.lowest {
            return None;
        }
        usize::try_from(value.abs_diff(self.lowest)).ok()
    }

    fn has(&self, value: i64) -> bool {
        self.place(value).is_some_and(|place| place < self.recent.len())
    }

    /// How many values are in `recent`, at most.
    fn taken(&self) -> u32 {
        u32::MAX - self.room
    }

    /// Makes sure that `count` values can be added.
    fn expect(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.room < count {
            self.set_aside();
        }
        self.room -= count;
    }

    #[cold]
    fn set_aside(&mut self) {
        self.older.resize(self.recent.len(), 0);
        for (older, recent) in self.older.iter_mut().zip(&mut self.recent) {
            *older += u64::from(std::mem::take(recent));
        }
        self.room = u32::MAX;
    }

    /// Adds a value that was expected; `false` if it has no place.
    fn add(&mut self, value: i64) -> bool {
        let slot = self.place(value).and_then(|place| self.recent.get_mut(place));
        slot.map(|count| *count = count.saturating_add(1)).is_some()
    }

    fn is_alike(&self, other: &Self) -> bool {
        self.lowest == other.lowest && self.recent.len() == other.recent.len()
    }

    /// Adds those of another that is alike.
    fn merge(&mut self, other: &Self) {
        if let (Some(room), true) = (self.room.checked_sub(other.taken()), other.older.is_empty()) {
            self.room = room;
            self.recent.iter_mut().zip(&other.recent).for_each(|(mine, theirs)| *mine += theirs);
            return;
        }
        self.set_aside();
        for (older, (_, count)) in self.older.iter_mut().zip(other.all()) {
            *older += count;
        }
    }

    /// How many values there are.
    fn len(&self) -> u64 {
        self.older.iter().sum::<u64>() + self.recent.iter().map(|count| u64::from(*count)).sum::<u64>()
    }

    /// Every value and how many there are.
    fn all(&self) -> impl Iterator<Item = (i64, u64)> {
        let older = self.older.iter().copied().chain(std::iter::repeat(0));
        let counts = self.recent.iter().zip(older).map(|(recent, older)| u64::from(*recent) + older);
        let lowest = self.lowest;
        (0_u64..).map(move |place| lowest.saturating_add_unsigned(place)).zip(counts)
    }

    /// The values that there are, ascending, and how many.
    fn values(&self) -> impl Iterator<Item = (i64, u64)> {
        self.all().filter(|(_, count)| *count > 0)
    }
}

/// ⌈q · n⌉, but at least 1 and at most `count`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is beyond a u64 becomes its largest, and no number 0"
)]
fn rank(q: f64, count: u64) -> u64 {
    ((q * count as f64).ceil() as u64).clamp(1.min(count), count)
}

/// The first of the values, which ascend, up to which there are `rank`.
fn value_at(values: impl Iterator<Item = (i64, u64)>, rank: u64) -> Option<i64> {
    let mut before = 0_u64;
    for (value, count) in values {
        before += count;
        if rank <= before {
            return Some(value);
        }
    }
    None
}

/// Counts in buckets whose width grows with the values: of those that have any, ascending. Ten bytes for each, of which
/// there are at most as many as values.
#[derive(Debug, Clone, Default)]
struct Rough {
    buckets: Vec<i16>,
    counts: Vec<u64>,
}

impl Rough {
    fn add(&mut self, value: i64, count: u64) {
        let bucket = bucket_of(value);
        match self.buckets.binary_search(&bucket) {
            Ok(place) => self.counts[place] += count,
            Err(place) => {
                self.buckets.insert(place, bucket);
                self.counts.insert(place, count);
            }
        }
    }

    /// The middles of the buckets, ascending, and their counts.
    fn buckets(&self) -> impl Iterator<Item = (i64, u64)> {
        self.buckets.iter().map(|bucket| middle(*bucket)).zip(self.counts.iter().copied())
    }
}

/// The bucket of a value: its magnitude's, with the sign of the value; 0 for 0.
fn bucket_of(value: i64) -> i16 {
    let magnitude = value.unsigned_abs();
    let bucket = if magnitude < EXACT_BELOW {
        magnitude
    } else {
        // The leading 1 and six bits after it.
        let shift = magnitude.ilog2() - STEPS_LOG;
        u64::from(shift) * (1 << STEPS_LOG) + (magnitude >> shift)
    };
    let bucket = i16::try_from(bucket).expect("64 powers of two have fewer than 2^13 buckets");
    if value < 0 { -bucket } else { bucket }
}

/// The middle of a bucket.
fn middle(bucket: i16) -> i64 {
    let number = u64::from(bucket.unsigned_abs());
    let magnitude = if number < EXACT_BELOW {
        number
    } else {
        let shift = (number >> STEPS_LOG) - 1;
        let start = u128::from(number - (shift << STEPS_LOG)) << shift;
        let middle = start + (1 << shift) / 2;
        u64::try_from(middle).unwrap_or(u64::MAX)
    };
    if bucket < 0 {
        0_i64.saturating_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plainly(values: &[i64], q: f64) -> Option<i64> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let rank = (q * values.len() as f64).ceil().max(1.0);
        sorted
            .iter()
            .find(|value| sorted.partition_point(|other| other <= value) as f64 >= rank)
            .or(sorted.last())
            .copied()
    }

    fn known(values: &[i64]) -> Option<(i64, i64)> {
        Some((*values.iter().min()?, *values.iter().max()?))
    }

    fn values() -> impl Strategy<Value = Vec<i64>> {
        let small = prop::collection::vec(-50_i64..50, 0..400);
        let any = prop::collection::vec(any::<i64>(), 0..50);
        let edges = prop::collection::vec(
            prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1, 1, 127, 128, 129]),
            0..50,
        );
        prop_oneof![small, any, edges]
    }

    fn quantiles() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(1.0), Just(0.5), Just(f64::NAN), Just(-3.0), Just(9.0), 0.0..=1.0]
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(parts in prop::collection::vec(values(), 1..4), q in quantiles(), merged: bool, merged_counts: bool) {
            let all = parts.concat();
            let known = known(&all);
            let mut found = Quantiles::new(known, false, Budget::default());
            found.grow(2);
            for part in &parts {
                if merged {
                    let mut own = Quantiles::new(known, merged_counts, Budget::default());
                    own.grow(1);
                    own.add_all(0, part);
                    found.merge(1, &own, 0);
                } else {
                    for value in part {
                        found.add(1, *value);
                    }
                }
            }
            prop_assert_eq!(found.quantile(1, q), QuantileValue { value: plainly(&all, q), is_exact: true });
            prop_assert_eq!(found.quantile(0, q).value, None);
        }

        #[test]
        fn rough_quantiles_are_within_one_percent(parts in prop::collection::vec(values(), 1..4), q in quantiles(), most_bytes in 0_i64..3000, merged: bool) {
            let all = parts.concat();
            let budget = Budget::of_bytes(most_bytes);
            let mut found = Quantiles::new(known(&all), false, budget.clone());
            found.grow(1);
            for part in &parts {
                if merged {
                    let mut own = Quantiles::new(known(&all), false, budget.clone());
                    own.grow(1);
                    own.add_all(0, part);
                    found.merge(0, &own, 0);
                } else {
                    found.add_all(0, part);
                }
                // A group takes no more exact bytes than are left, but for few values and a table that is no larger.
                prop_assert!(found.taken_bytes <= most_bytes + 400 * 8);
            }
            let answer = found.quantile(0, q);
            let expected = plainly(&all, q);
            drop(found);
            prop_assert_eq!(budget.0.load(Ordering::Relaxed), most_bytes, "what was taken comes back");
            if answer.is_exact {
                prop_assert_eq!(answer.value, expected);
            } else {
                let (answer, expected) = (answer.value.unwrap() as f64, expected.unwrap() as f64);
                prop_assert!((answer - expected).abs() <= expected.abs() * 0.01, "{answer} for {expected}");
            }
        }

        #[test]
        fn a_middle_lies_in_its_bucket(value: i64) {
            prop_assert_eq!(bucket_of(middle(bucket_of(value))), bucket_of(value));
            let next = bucket_of(value.saturating_add(1));
            prop_assert!(next - bucket_of(value) <= 1 && next >= bucket_of(value));
        }
    }

    #[test]
    fn more_values_than_32_bits_count_are_set_aside() {
        let mut counts = Counts::new(-1, 3);
        for _ in 0..3 {
            counts.expect(u32::MAX as usize);
            counts.recent[1] = u32::MAX;
        }
        counts.expect(1);
        assert!(counts.add(1) && !counts.add(2) && !counts.add(-2) && !counts.add(i64::MAX));
        assert_eq!(counts.values().collect::<Vec<_>>(), [(0, 3 * u64::from(u32::MAX)), (1, 1)]);
        assert_eq!(counts.len(), 3 * u64::from(u32::MAX) + 1);
        // One that fills the 32 bits is added to another by itself; a second one no more, nor one that was set aside.
        let mut full = Counts::new(-1, 3);
        full.expect(u32::MAX as usize);
        full.recent[2] = u32::MAX;
        let mut merged = Counts::new(-1, 3);
        for (other, expected) in [(&full, 1), (&full, 2), (&counts, 5)] {
            merged.merge(other);
            assert_eq!(merged.len(), expected * u64::from(u32::MAX) + u64::from(expected == 5));
            assert_eq!(merged.older.is_empty(), expected == 1);
        }
    }

    #[test]
    fn a_false_range_makes_rough_counts_and_no_panic() {
        let mut found = Quantiles::new(Some((0, 9)), false, Budget::default());
        found.grow(1);
        found.add_all(0, &[5; 50]);
        found.add_all(0, &[1000]);
        assert_eq!(found.quantile(0, 0.5), QuantileValue { value: Some(5), is_exact: false });
    }
}
