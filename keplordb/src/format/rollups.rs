//! Day rollups of a segment: count, metric and counters per UTC day and values of the rollup dims.
//!
//! Knows bytes, not files.
//!
//! ```text
//! section, all integers little-endian, offsets in bytes from its start; n = entries
//! ┌───────┬──────────────────────────────────────────────────────────────────────────────────────────────────────┐
//! │ 0     │ entries u32                                                                                          │
//! │ 4     │ rollup dims u16; counters u16; 8 zero bytes                                                          │
//! │ 16    │ metric sums i128 × n                                                                                 │
//! │ + 16n │ days i64 × n: epoch seconds of the UTC midnight                                                      │
//! │ + 8n  │ rows u64 × n                                                                                         │
//! │ + 8n  │ counter by counter: sums u64 × n                                                                     │
//! │ + 8nc │ rollup dim by rollup dim: codes u32 × n, of this segment's dictionary of that dim; then nothing      │
//! └───────┴──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Valid if and only if
//! 1. rollup dims and counters are as many as the segment's header says, and the arrays fill the section;
//! 2. entries ascend strictly by (day, codes in the order of the rollup dims), and days are midnights;
//! 3. each entry has at least one row, and all together have the segment's rows;
//! 4. each sum can be one of that many `i64` metrics or `u32` counters.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;

use super::bytes::{ByteReader, ByteWriter, Malformed};
use super::describe::Spans;
use super::numbers::check_zero;
use crate::time::{DAY_S, day_of};

/// Bytes before the first array.
const HEADER_BYTES: usize = 16;

/// The columns that a rollup sums up, in the order of the rows, which is that of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollupColumns<'a> {
    /// Times in nanoseconds.
    pub(crate) ts: &'a [i64],
    /// The codes of each rollup dim.
    pub(crate) codes: &'a [Vec<u32>],
    pub(crate) metric: &'a [i64],
    /// Each from `u32`s.
    pub(crate) counters: &'a [&'a [i64]],
}

/// Rollups in memory, ascending by (day, codes).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Entries {
    pub(crate) days: Vec<i64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) metric: Vec<i128>,
    /// Per counter, its sums.
    pub(crate) counters: Vec<Vec<u64>>,
    /// Per rollup dim, its codes.
    pub(crate) codes: Vec<Vec<u32>>,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.days.len()
    }
}

/// Sums up the columns by day and codes; `None` as soon as there would be more than `entries_max` entries.
///
/// One pass over the rows for the days, one with a hash table for each rollup dim, one for each sum. Panics if the
/// columns have different lengths: our own mistake.
pub(crate) fn build(columns: RollupColumns<'_>, entries_max: usize) -> Option<Entries> {
    let rows = columns.ts.len();
    let all_lengths = [columns.metric.len()].into_iter();
    let all_lengths = all_lengths.chain(columns.codes.iter().map(Vec::len));
    let mut all_lengths = all_lengths.chain(columns.counters.iter().map(|counter| counter.len()));
    assert!(all_lengths.all(|len| len == rows), "all columns of a segment have the same rows");

    let days: Vec<i64> = columns.ts.iter().map(|ts| day_of(*ts)).collect();
    let mut groups = Groups::by(days.iter().map(|day| *day as u64), entries_max)?;
    for codes in columns.codes {
        let keys =
            groups.of_row.iter().zip(codes).map(|(group, code)| u64::from(*group) << 32 | u64::from(*code));
        groups = Groups::by(keys, entries_max)?;
    }

    // Groups so far are in order of appearance; those on disk are in order of day and codes, as their first rows have.
    let code_of = |row: u32| columns.codes.iter().map(move |codes| codes.get(row as usize));
    let day_of_row = |row: u32| days.get(row as usize);
    let mut appeared: Vec<(u32, u32)> = groups.first_rows.iter().copied().zip(0..).collect();
    appeared.sort_unstable_by(|(a, _), (b, _)| {
        day_of_row(*a).cmp(&day_of_row(*b)).then_with(|| code_of(*a).cmp(code_of(*b)))
    });
    let mut sorted_group = vec![0; appeared.len()];
    for (sorted, (_, group)) in (0_u32..).zip(&appeared) {
        *slot(&mut sorted_group, *group) = sorted;
    }
    for group in &mut groups.of_row {
        *group = *slot(&mut sorted_group, *group);
    }

    let pick =
        |codes: &Vec<u32>| appeared.iter().filter_map(|(row, _)| codes.get(*row as usize).copied()).collect();
    Some(Entries {
        days: appeared.iter().filter_map(|(row, _)| days.get(*row as usize).copied()).collect(),
        counts: groups.sum_up(std::iter::repeat(1_u64)),
        metric: groups.sum_up(columns.metric.iter().map(|metric| i128::from(*metric))),
        counters: columns
            .counters
            .iter()
            .map(|c| groups.sum_up(c.iter().map(|count| *count as u64)))
            .collect(),
        codes: columns.codes.iter().map(pick).collect(),
    })
}

/// Rows in groups that are numbered in order of appearance.
struct Groups {
    of_row: Vec<u32>,
    first_rows: Vec<u32>,
}

impl Groups {
    /// One group for each distinct key; `None` as soon as there are more than `groups_max`.
    fn by(keys: impl ExactSizeIterator<Item = u64>, groups_max: usize) -> Option<Self> {
        let mut group_by_key: HashMap<u64, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut of_row = Vec::with_capacity(keys.len());
        let mut first_rows = Vec::new();
        let mut previous: Option<(u64, u32)> = None;
        for (row, key) in (0_u32..).zip(keys) {
            let group = match previous {
                Some((before, group)) if before == key => group,
                _ => {
                    let next = u32::try_from(first_rows.len()).expect("a segment has fewer than 2^32 rows");
                    let group = *group_by_key.entry(key).or_insert(next);
                    if group == next {
                        first_rows.push(row);
                        if first_rows.len() > groups_max {
                            return None;
                        }
                    }
                    group
                }
            };
            of_row.push(group);
            previous = Some((key, group));
        }
        Some(Self { of_row, first_rows })
    }

    fn sum_up<T: Copy + Default + std::ops::AddAssign>(&self, column: impl Iterator<Item = T>) -> Vec<T> {
        let mut sums = vec![T::default(); self.first_rows.len()];
        for (group, value) in self.of_row.iter().zip(column) {
            *slot(&mut sums, *group) += value;
        }
        sums
    }
}

/// The slot of a group that this module gave out.
fn slot<T>(slots: &mut [T], group: u32) -> &mut T {
    slots.get_mut(group as usize).expect("every group is below the number of groups")
}

/// Appends the section of `entries`.
pub(crate) fn encode(entries: &Entries, out: &mut Vec<u8>) {
    out.put_count(entries.len());
    for columns in [entries.codes.len(), entries.counters.len()] {
        out.put_u16(u16::try_from(columns).expect("columns are limited to hundreds"));
    }
    out.put(&[0; 8]);
    for metric in &entries.metric {
        out.put_i128(*metric);
    }
    for day in &entries.days {
        out.put_i64(*day);
    }
    for count in entries.counts.iter().chain(entries.counters.iter().flatten()) {
        out.put_u64(*count);
    }
    for code in entries.codes.iter().flatten() {
        out.put_u32(*code);
    }
}

/// The day rollups of a segment, read in place.
///
/// Made from bytes that passed [`check`](Self::check). Entries, rollup dims and counters out of range read as 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rollups<'a> {
    metric: &'a [[u8; 16]],
    days: &'a [[u8; 8]],
    counts: &'a [[u8; 8]],
    counters: &'a [[u8; 8]],
    codes: &'a [[u8; 4]],
}

impl<'a> Rollups<'a> {
    /// Checks everything that the methods rely on: O(bytes). `dims` and `counters` are what the segment's header says.
    pub(crate) fn check(bytes: &[u8], rows: usize, dims: usize, counters: usize) -> Result<(), Malformed> {
        let mut reader = ByteReader::new(bytes);
        let entries = reader.u32("entries")? as usize;
        let (stored_dims, stored_counters) = (reader.u16("rollup dims")?, reader.u16("counters")?);
        if (usize::from(stored_dims), usize::from(stored_counters)) != (dims, counters) {
            let what = format!(
                "rollups of {stored_dims} dims and {stored_counters} counters instead of {dims} and {counters}"
            );
            return Err(Malformed::new(4, what));
        }
        check_zero(&mut reader, 8, "the header")?;
        let bytes_each = 16 + 8 + 8 + 8 * counters + 4 * dims;
        if entries.checked_mul(bytes_each) != Some(reader.remaining()) {
            return Err(Malformed::new(0, format!("{entries} rollups in {} bytes", bytes.len())));
        }
        let rollups = Rollups::new(bytes);
        let mut rows_seen = 0_u64;
        for entry in 0..entries {
            rollups.check_entry(entry, dims, counters).map_err(|what| Malformed::new(HEADER_BYTES, what))?;
            rows_seen = rows_seen.saturating_add(rollups.count(entry));
        }
        if rows_seen != rows as u64 {
            return Err(Malformed::new(
                HEADER_BYTES,
                format!("rollups of {rows_seen} rows instead of {rows}"),
            ));
        }
        Ok(())
    }

    /// Describes such a section, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'_, '_>) -> Option<()> {
        let entries = spans.u32("entries")? as usize;
        let dims = spans.u16("rollup dims")?;
        let counters = spans.u16("counters")?;
        spans.zeros(8)?;
        spans.array("sum of the metric of each entry", entries, "i128", 16)?;
        spans.array("day of each entry", entries, "i64", 8)?;
        spans.array("rows of each entry", entries, "u64", 8)?;
        for counter in 0..counters {
            spans.array(&format!("sum of counter {counter} of each entry"), entries, "u64", 8)?;
        }
        for slot in 0..dims {
            spans.array(&format!("code of rollup dim {slot} of each entry"), entries, "u32", 4)?;
        }
        Some(())
    }

    fn check_entry(&self, entry: usize, dims: usize, counters: usize) -> Result<(), String> {
        let (day, count) = (self.day(entry), self.count(entry));
        if day % DAY_S != 0 {
            return Err(format!("rollup {entry} is of {day}, not of a midnight"));
        }
        if count == 0 {
            return Err(format!("rollup {entry} has no rows"));
        }
        let most = i128::from(count);
        let metric_fits =
            (most * i128::from(i64::MIN)..=most * i128::from(i64::MAX)).contains(&self.metric(entry));
        let counter_fits = |c: usize| i128::from(self.counter(entry, c)) <= most * i128::from(u32::MAX);
        if !metric_fits || !(0..counters).all(counter_fits) {
            return Err(format!("rollup {entry} has sums that {count} rows cannot have"));
        }
        if entry > 0 && self.order(entry - 1, entry, dims) != Ordering::Less {
            return Err(format!("rollup {entry} is not above the one before it"));
        }
        Ok(())
    }

    fn order(&self, a: usize, b: usize, dims: usize) -> Ordering {
        let codes = |entry: usize| (0..dims).map(move |dim| self.code(entry, dim));
        self.day(a).cmp(&self.day(b)).then_with(|| codes(a).cmp(codes(b)))
    }

    /// The view of bytes that passed [`check`](Self::check). O(1).
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut reader = ByteReader::new(bytes);
        let entries = reader.u32("entries").unwrap_or(0) as usize;
        let _dims = reader.u16("rollup dims");
        let counters = usize::from(reader.u16("counters").unwrap_or(0));
        let split = |rest: &mut &'a [u8], bytes_each: usize| {
            let (array, after) =
                rest.split_at_checked(entries.saturating_mul(bytes_each)).unwrap_or_default();
            *rest = after;
            array
        };
        let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
        Self {
            metric: split(&mut rest, 16).as_chunks().0,
            days: split(&mut rest, 8).as_chunks().0,
            counts: split(&mut rest, 8).as_chunks().0,
            counters: split(&mut rest, 8 * counters).as_chunks().0,
            codes: rest.as_chunks().0,
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.days.len()
    }

    /// The entries of the days `from..=to`, in epoch seconds: two binary searches.
    pub(crate) fn day_range(&self, from: i64, to: i64) -> Range<usize> {
        let start = self.days.partition_point(|day| i64::from_le_bytes(*day) < from);
        let end = self.days.partition_point(|day| i64::from_le_bytes(*day) <= to);
        start..end.max(start)
    }

    /// The entry of a day, in epoch seconds, and of these codes of the rollup dims: two binary searches.
    pub(crate) fn entry_of(&self, day: i64, codes: &[u32]) -> Option<usize> {
        let Range { mut start, mut end } = self.day_range(day, day);
        while start < end {
            let middle = start.midpoint(end);
            let of_middle = (0..codes.len()).map(|slot| self.code(middle, slot));
            match of_middle.cmp(codes.iter().copied()) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// The day of an entry, in epoch seconds.
    pub(crate) fn day(&self, entry: usize) -> i64 {
        self.days.get(entry).map_or(0, |bytes| i64::from_le_bytes(*bytes))
    }

    /// The code that an entry has in a rollup dim, by the place of that dim among the rollup dims.
    pub(crate) fn code(&self, entry: usize, slot: usize) -> u32 {
        let at = slot.checked_mul(self.len()).and_then(|start| start.checked_add(entry));
        at.and_then(|at| self.codes.get(at)).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The rows of an entry.
    pub(crate) fn count(&self, entry: usize) -> u64 {
        self.counts.get(entry).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The exact sum of an entry's metric.
    pub(crate) fn metric(&self, entry: usize) -> i128 {
        self.metric.get(entry).map_or(0, |bytes| i128::from_le_bytes(*bytes))
    }

    /// The exact sum of an entry's counter; 0 for a counter that is younger than the segment.
    pub(crate) fn counter(&self, entry: usize, counter: usize) -> u64 {
        let at = counter.checked_mul(self.len()).and_then(|start| start.checked_add(entry));
        at.and_then(|at| self.counters.get(at)).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::DAY_NS;

    /// Count, metric, and the two counters.
    type PlainSums = (u64, i128, u64, u64);

    struct Table {
        ts: Vec<i64>,
        codes: Vec<Vec<u32>>,
        metric: Vec<i64>,
        counters: Vec<Vec<i64>>,
    }

    impl Table {
        fn random(rows: usize, dims: usize, seed: u64) -> Self {
            let mut state = seed;
            let mut random = |below: u32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 32) as u32 % below
            };
            let times_of_day = [0, 1, DAY_NS / 2, DAY_NS - 1];
            let mut time = || (i64::from(random(5)) - 2) * DAY_NS + times_of_day[random(4) as usize];
            let mut ts: Vec<i64> = (0..rows).map(|_| time()).collect();
            ts.sort_unstable();
            Self {
                ts,
                codes: (0..3)
                    .take(dims)
                    .map(|dim| (0..rows).map(|_| random(1 + dim * 2)).collect())
                    .collect(),
                metric: (0..rows)
                    .map(|_| if random(9) == 0 { i64::MIN } else { i64::from(random(1000)) })
                    .collect(),
                counters: vec![
                    (0..rows).map(|_| i64::from(random(u32::MAX))).collect(),
                    vec![i64::from(u32::MAX); rows],
                ],
            }
        }

        fn build(&self, entries_max: usize) -> Option<Entries> {
            let counters: Vec<&[i64]> = self.counters.iter().map(Vec::as_slice).collect();
            let (ts, codes, metric) = (&self.ts, &self.codes, &self.metric);
            build(RollupColumns { ts, codes, metric, counters: &counters }, entries_max)
        }

        fn plainly(&self) -> BTreeMap<(i64, Vec<u32>), PlainSums> {
            let mut sums = BTreeMap::new();
            for row in 0..self.ts.len() {
                let codes = self.codes.iter().map(|codes| codes[row]).collect();
                let sum: &mut PlainSums = sums.entry((day_of(self.ts[row]), codes)).or_default();
                sum.0 += 1;
                sum.1 += i128::from(self.metric[row]);
                sum.2 += self.counters[0][row] as u64;
                sum.3 += self.counters[1][row] as u64;
            }
            sums
        }
    }

    fn section(table: &Table) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&table.build(usize::MAX).unwrap(), &mut out);
        out
    }

    fn assert_equals_plain_sums(rows: usize, dims: usize, seed: u64) {
        let table = Table::random(rows, dims, seed);
        let bytes = section(&table);
        Rollups::check(&bytes, rows, dims, 2).unwrap();
        let rollups = Rollups::new(&bytes);
        let plain = table.plainly();
        let got = (0..rollups.len()).map(|entry| {
            let codes = (0..dims).map(|dim| rollups.code(entry, dim)).collect::<Vec<_>>();
            let counters = (rollups.counter(entry, 0), rollups.counter(entry, 1));
            (
                (rollups.day(entry), codes),
                (rollups.count(entry), rollups.metric(entry), counters.0, counters.1),
            )
        });
        assert_eq!(got.collect::<Vec<_>>(), plain.clone().into_iter().collect::<Vec<_>>());
        for (from, to) in [(i64::MIN, i64::MAX), (0, 0), (-DAY_S, DAY_S), (1, DAY_S), (DAY_S, -DAY_S)] {
            let days: Vec<i64> =
                plain.keys().map(|(day, _)| *day).filter(|day| from <= *day && *day <= to).collect();
            let range = rollups.day_range(from, to);
            assert_eq!(range.map(|entry| rollups.day(entry)).collect::<Vec<_>>(), days, "{from}..={to}");
        }
        assert_eq!(table.build(plain.len()).map(|entries| entries.len()), Some(plain.len()));
        assert!(plain.is_empty() || table.build(plain.len() - 1).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn entries_are_the_sums_of_their_rows(rows in 0_usize..600, dims in 0_usize..=3, seed in any::<u64>()) {
            assert_equals_plain_sums(rows, dims, seed);
        }
    }

    #[test]
    fn what_is_out_of_range_reads_as_nothing() {
        let bytes = section(&Table::random(9, 1, 1));
        let rollups = Rollups::new(&bytes);
        let end = rollups.len();
        assert_eq!((rollups.counter(0, 2), rollups.code(0, 1)), (0, 0));
        assert_eq!((rollups.day(end), rollups.count(end), rollups.metric(end)), (0, 0, 0));
        assert_eq!(rollups.counter(0, usize::MAX), 0);
    }

    #[test]
    fn truncated_and_flipped_sections_are_refused_or_harmless() {
        let bytes = section(&Table::random(40, 2, 3));
        Rollups::check(&bytes, 40, 2, 2).unwrap();
        assert!(Rollups::check(&bytes, 41, 2, 2).is_err());
        assert!(Rollups::check(&bytes, 40, 1, 2).is_err());
        assert!(Rollups::check(&bytes, 40, 2, 1).is_err());
        for end in 0..bytes.len() {
            assert!(Rollups::check(&bytes[..end], 40, 2, 2).is_err(), "the first {end} bytes");
            Rollups::new(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                if Rollups::check(&damaged, 40, 2, 2).is_ok() {
                    let rollups = Rollups::new(&damaged);
                    assert_eq!((0..rollups.len()).map(|entry| rollups.count(entry)).sum::<u64>(), 40);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let table = Table::random(40, 1, 3);
        let entries = table.build(usize::MAX).unwrap();
        let refusal = |change: fn(&mut Entries)| {
            let mut changed = entries.clone();
            change(&mut changed);
            let mut out = Vec::new();
            encode(&changed, &mut out);
            Rollups::check(&out, 40, 1, 2).unwrap_err().what
        };
        assert!(entries.len() > 1);
        assert_eq!(refusal(|e| e.days[0] += 1), "rollup 0 is of -172799, not of a midnight");
        assert_eq!(refusal(|e| e.days[1] = e.days[0]), "rollup 1 is not above the one before it");
        assert_eq!(refusal(|e| e.counts[0] = 0), "rollup 0 has no rows");
        assert_eq!(refusal(|e| e.counts[0] += 1), "rollups of 41 rows instead of 40");
        assert!(refusal(|e| e.metric[0] = i128::MAX).starts_with("rollup 0 has sums that "));
        assert!(refusal(|e| e.counters[1][0] += u64::MAX / 2).starts_with("rollup 0 has sums that "));
    }
}
