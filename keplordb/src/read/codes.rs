//! A set of codes of one dictionary: what a condition on its texts comes to, once each text was tested.

use std::ops::Range;
use std::slice;

/// Codes as ranges: ascending, not empty, with a gap between any two. What starts with a prefix is one range.
#[derive(Debug, Clone, Default)]
pub(crate) struct CodeSet(Ranges);

/// Most sets are one value or one range of values, and take no memory of their own.
#[derive(Debug, Clone)]
enum Ranges {
    One(Range<u32>),
    Other(Vec<Range<u32>>),
}

impl Default for Ranges {
    fn default() -> Self {
        Self::Other(Vec::new())
    }
}

impl PartialEq for CodeSet {
    fn eq(&self, other: &Self) -> bool {
        self.ranges() == other.ranges()
    }
}

impl CodeSet {
    /// One range; the empty set where that is empty.
    pub(crate) fn range(codes: Range<u32>) -> Self {
        if codes.is_empty() { Self::default() } else { Self(Ranges::One(codes)) }
    }

    /// The codes below `values` for which `is_in` holds.
    pub(crate) fn of(values: u32, is_in: impl Fn(u32) -> bool) -> Self {
        let mut set = Self::default();
        for code in (0..values).filter(|code| is_in(*code)) {
            set.push(code..code + 1);
        }
        set
    }

    /// All codes of some ranges, which may overlap.
    pub(crate) fn of_ranges(ranges: impl Iterator<Item = Range<u32>>) -> Self {
        let mut ranges: Vec<Range<u32>> = ranges.filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut set = Self::default();
        for range in ranges {
            set.push(range);
        }
        set
    }

    /// Adds a range that does not begin before the last one does.
    fn push(&mut self, codes: Range<u32>) {
        match self.ranges_mut().last_mut() {
            Some(last) if codes.start <= last.end => last.end = last.end.max(codes.end),
            _ if codes.is_empty() => {}
            _ => match &mut self.0 {
                Ranges::One(first) => self.0 = Ranges::Other(vec![first.clone(), codes]),
                Ranges::Other(ranges) if ranges.is_empty() => self.0 = Ranges::One(codes),
                Ranges::Other(ranges) => ranges.push(codes),
            },
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::of_ranges(self.ranges().iter().chain(other.ranges()).cloned())
    }

    /// The codes below `values` that are not in the set.
    pub(crate) fn complement(&self, values: u32) -> Self {
        let mut set = Self::default();
        let mut next = 0;
        for range in self.ranges() {
            set.push(next..range.start);
            next = range.end;
        }
        set.push(next..values);
        set
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut set = Self::default();
        let (mut mine, mut theirs) = (self.ranges().iter().peekable(), other.ranges().iter().peekable());
        while let (Some(one), Some(two)) = (mine.peek(), theirs.peek()) {
            set.push(one.start.max(two.start)..one.end.min(two.end));
            if one.end <= two.end {
                mine.next();
            } else {
                theirs.next();
            }
        }
        set
    }

    pub(crate) fn ranges(&self) -> &[Range<u32>] {
        match &self.0 {
            Ranges::One(range) => slice::from_ref(range),
            Ranges::Other(ranges) => ranges,
        }
    }

    /// The same as places in arrays.
    pub(crate) fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.ranges().iter().map(|range| range.start as usize..range.end as usize)
    }

    fn ranges_mut(&mut self) -> &mut [Range<u32>] {
        match &mut self.0 {
            Ranges::One(range) => slice::from_mut(range),
            Ranges::Other(ranges) => ranges,
        }
    }

    /// How many codes.
    pub(crate) fn len(&self) -> u32 {
        self.ranges().iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges().is_empty()
    }

    pub(crate) fn contains(&self, code: u32) -> bool {
        let after = self.ranges().partition_point(|range| range.start <= code);
        after.checked_sub(1).and_then(|last| self.ranges().get(last)).is_some_and(|range| code < range.end)
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + Clone {
        self.ranges().iter().cloned().flatten()
    }

    /// The one code of the set; `None` where it has none or several.
    pub(crate) fn single(&self) -> Option<u32> {
        match self.ranges() {
            [range] if range.end - range.start == 1 => Some(range.start),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: u32 = 24;

    fn set(bits: u32) -> CodeSet {
        CodeSet::of(VALUES, |code| bits >> code & 1 == 1)
    }

    proptest! {
        #[test]
        fn sets_do_what_bits_do(one in 0..1_u32 << VALUES, two in 0..1_u32 << VALUES) {
            let all = (1 << VALUES) - 1;
            prop_assert_eq!(set(one).union(&set(two)), set(one | two));
            prop_assert_eq!(set(one).intersection(&set(two)), set(one & two));
            prop_assert_eq!(set(one).complement(VALUES), set(!one & all));
            prop_assert_eq!(set(one).len(), one.count_ones());
            prop_assert_eq!(set(one).is_empty(), one == 0);
            let codes: Vec<u32> = (0..VALUES).filter(|code| set(one).contains(*code)).collect();
            prop_assert_eq!(set(one).iter().collect::<Vec<_>>(), codes);
            let single = one.is_power_of_two().then(|| one.trailing_zeros());
            prop_assert_eq!(set(one).single(), single);
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let joined = CodeSet::range(0..3).union(&CodeSet::range(3..5));
        assert_eq!(joined, CodeSet::range(0..5));
        assert!(CodeSet::range(4..4).is_empty());
    }
}
