//! What checksums cannot say: whether everything that a segment derives from its rows is what the rows give.
//!
//! Zone maps, running sums, totals, postings, sums of values, hash indexes, bloom filter and rollups are computed once more
//! and compared, chunk by chunk: besides the bytes it needs only as much memory as the segment stores per value. Knows bytes,
//! not files.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::MAX_NUMBER;
use super::bytes::Malformed;
use super::ids::TextIndex;
use super::keys::{Keys, status_of};
use super::numbers::Numbers;
use super::rollups::Rollups;
use super::segment::{SectionKind, SegmentHeader, SegmentView};
use super::texts::Texts;
use crate::kernels::CHUNK_ROWS;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Measure};
use crate::time::day_of;

/// Tells `found` of everything in a segment that does not follow from its rows, with offsets from the start of the file;
/// and `each_row` the time and sequence of every row.
///
/// `is_sound` says of each section whether it has its checksum and passed
/// [`check_section`](super::segment::check_section): only those are read. Of findings of one kind in one section the first
/// is told, with how many more there are. O(bytes × dims).
pub(crate) fn check_values(
    view: SegmentView<'_>,
    is_sound: &[bool],
    each_row: &mut dyn FnMut(i64, u64),
    found: &mut dyn FnMut(Malformed),
) {
    let mut check = Check { header: view.header, view, is_sound, found };
    check.times_and_sequences(each_row);
    check.measures();
    check.flags();
    check.status();
    check.dims();
    check.texts();
    check.rollups();
}

/// The first of many findings of one kind, and how many followed.
#[derive(Default)]
struct Tally {
    first: Option<String>,
    more: u64,
}

impl Tally {
    fn add(&mut self, what: impl FnOnce() -> String) {
        match self.first {
            Some(_) => self.more += 1,
            None => self.first = Some(what()),
        }
    }

    fn add_if(&mut self, is_wrong: bool, what: impl FnOnce() -> String) {
        if is_wrong {
            self.add(what);
        }
    }

    fn text(self) -> Option<String> {
        let more = self.more;
        self.first.map(|first| if more == 0 { first } else { format!("{first}; and {more} more like it") })
    }
}

/// A segment that is being checked.
struct Check<'a, 'f> {
    header: &'a SegmentHeader,
    view: SegmentView<'a>,
    is_sound: &'a [bool],
    found: &'f mut dyn FnMut(Malformed),
}

impl<'a> Check<'a, '_> {
    /// The place of a section that may be read.
    fn sound(&self, kind: SectionKind, column: usize) -> Option<usize> {
        let index = self.header.section(kind, column)?;
        self.is_sound.get(index).copied().unwrap_or(false).then_some(index)
    }

    fn numbers(&self, kind: SectionKind, column: usize) -> Option<Numbers<'a>> {
        self.sound(kind, column)?;
        match kind {
            SectionKind::Time => Some(self.view.time()),
            SectionKind::Sequence => Some(self.view.sequence()),
            SectionKind::Metric => Some(self.view.metric()),
            SectionKind::Latency => Some(self.view.latency()),
            SectionKind::LatencyDetail => Some(self.view.latency_detail()),
            SectionKind::Flags => Some(self.view.flags()),
            SectionKind::Counter => self.view.counter(column),
            _ => None,
        }
    }

    /// A measure by its place among the sums, and its section.
    fn measure(&self, place: usize) -> Option<(SectionKind, usize, Numbers<'a>)> {
        let (kind, column) = match place {
            METRIC => (SectionKind::Metric, 0),
            LATENCY => (SectionKind::Latency, 0),
            LATENCY_DETAIL => (SectionKind::LatencyDetail, 0),
            place => (SectionKind::Counter, place - FIXED_MEASURES),
        };
        Some((kind, column, self.numbers(kind, column)?))
    }

    /// Tells of a finding in a section.
    fn say(&mut self, kind: SectionKind, column: usize, what: impl Display) {
        let section = self.header.section(kind, column).and_then(|index| self.header.sections.get(index));
        if let Some(section) = section {
            let what = format!("section {}: {what}", section.name());
            (self.found)(Malformed { offset: section.offset, what });
        }
    }

    fn say_all(&mut self, kind: SectionKind, column: usize, tallies: impl IntoIterator<Item = Tally>) {
        for what in tallies.into_iter().filter_map(Tally::text) {
            self.say(kind, column, what);
        }
    }

    /// Tells of something that the header says of all rows.
    fn say_of_header<T: Copy + PartialEq + std::fmt::Debug>(&mut self, name: &str, says: T, is: T) {
        if says != is {
            let what = format!("the header says {name} {says:?}, the rows have {is:?}");
            (self.found)(Malformed::new(0, what));
        }
    }

    fn times_and_sequences(&mut self, each_row: &mut dyn FnMut(i64, u64)) {
        let (time, sequence) = (self.numbers(SectionKind::Time, 0), self.numbers(SectionKind::Sequence, 0));
        let facts = &self.header.facts;
        if let Some(time) = &time {
            let (all, tallies) = check_numbers(time, i64::MIN..=i64::MAX);
            self.say_all(SectionKind::Time, 0, tallies);
            self.say_of_header("times", (facts.ts_min, facts.ts_max), (all.min, all.max));
        }
        if let Some(sequence) = &sequence {
            let (all, tallies) = check_numbers(sequence, 0..=MAX_NUMBER as i64);
            self.say_all(SectionKind::Sequence, 0, tallies);
            if sequence.rows() > 0 {
                let says = (facts.sequence_min as i64, facts.sequence_max as i64);
                self.say_of_header("sequences", says, (all.min, all.max));
            }
        }
        let (Some(time), Some(sequence)) = (time, sequence) else { return };
        let (mut order, mut row, mut previous) = (Tally::default(), 0_u64, None);
        for_each_pair(&time, &sequence, &mut |ts, sequence| {
            let now = Some((ts, sequence));
            order.add_if(previous >= now, || {
                format!("row {row} is not after the one before it in (time, sequence)")
            });
            previous = now;
            row += 1;
            each_row(ts, sequence as u64);
        });
        self.say_all(SectionKind::Sequence, 0, [order]);
    }

    fn measures(&mut self) {
        for (place, total) in self.header.facts.totals.measures.iter().enumerate() {
            let Some((kind, column, numbers)) = self.measure(place) else { continue };
            let values = if place == METRIC { i64::MIN..=i64::MAX } else { 0..=i64::from(u32::MAX) };
            let (all, tallies) = check_numbers(&numbers, values);
            self.say_all(kind, column, tallies);
            self.say_of_header(&format!("of measure {place}"), *total, all);
        }
    }

    fn flags(&mut self) {
        if let Some(flags) = self.numbers(SectionKind::Flags, 0) {
            let (_, tallies) = check_numbers(&flags, 0..=i64::from(u16::MAX));
            self.say_all(SectionKind::Flags, 0, tallies);
        }
    }

    fn status(&mut self) {
        if self.sound(SectionKind::Status, 0).is_none() {
            return;
        }
        let keys = self.view.status();
        self.keys(SectionKind::Status, 0, &keys);
        if let Some(last) = keys.values().checked_sub(1) {
            let facts = &self.header.facts;
            let is = (status_of(keys.value(0)), status_of(keys.value(last)));
            self.say_of_header("statuses", (facts.status_min, facts.status_max), is);
        }
    }

    fn dims(&mut self) {
        for dim in 0..self.header.schema.shape().dims {
            let keys = self.sound(SectionKind::Dim, dim).and_then(|_| self.view.dim(dim));
            let Some(keys) = keys else { continue };
            self.keys(SectionKind::Dim, dim, &keys);
            if self.header.bloom_dim == Some(dim) && self.sound(SectionKind::Bloom, 0).is_some() {
                let mut missed = Tally::default();
                for code in 0..keys.values() {
                    let is_missed =
                        self.view.bloom().is_some_and(|bloom| !bloom.may_contain(keys.value(code)));
                    missed.add_if(is_missed, || format!("it denies the value {code} of dim {dim}"));
                }
                self.say_all(SectionKind::Bloom, 0, [missed]);
            }
        }
    }

    /// Codes, postings and sums of values of one column of keys.
    fn keys(&mut self, kind: SectionKind, column: usize, keys: &Keys<'_>) {
        let (_, tallies) = check_numbers(&keys.codes(), 0..=i64::from(keys.values()) - 1);
        self.say_all(kind, column, tallies);
        let tallies = check_postings(keys);
        self.say_all(kind, column, tallies);
        if !keys.has_value_sums() {
            return;
        }
        if let Some(time) = self.numbers(SectionKind::Time, 0) {
            let mut wrong = Tally::default();
            for (code, times) in (0..).zip(sums_of_values(keys, &time)) {
                let says = (keys.first_ts(code), keys.last_ts(code));
                let is = (Some(times.min), Some(times.max));
                wrong.add_if(says != is, || {
                    format!("value {code} says first and last time {says:?}, its rows {is:?}")
                });
            }
            self.say_all(kind, column, [wrong]);
        }
        for place in 0..self.header.facts.totals.measures.len() {
            let Some((_, _, numbers)) = self.measure(place) else { continue };
            let mut wrong = Tally::default();
            for (code, is) in (0..).zip(sums_of_values(keys, &numbers)) {
                let says = keys.measure(code, place).unwrap_or_default();
                wrong.add_if(says != is, || {
                    format!("value {code} says {says:?} of measure {place}, its rows {is:?}")
                });
            }
            self.say_all(kind, column, [wrong]);
        }
    }

    fn texts(&mut self) {
        let shape = self.header.schema.shape();
        if self.sound(SectionKind::Id, 0).is_some() {
            let index = self.sound(SectionKind::IdIndex, 0).map(|_| self.view.id_index());
            let texts = self.view.id();
            self.text_column((SectionKind::Id, SectionKind::IdIndex), 0, &texts, index);
        }
        for label in 0..shape.labels {
            let texts = self.sound(SectionKind::Label, label).and_then(|_| self.view.label(label));
            let Some(texts) = texts else { continue };
            let index = self.sound(SectionKind::LabelIndex, label).and_then(|_| self.view.label_index(label));
            self.text_column((SectionKind::Label, SectionKind::LabelIndex), label, &texts, index);
        }
    }

    /// Every text can be read, and the index has exactly those that are not empty.
    fn text_column(
        &mut self,
        (kind, index_kind): (SectionKind, SectionKind),
        column: usize,
        texts: &Texts<'_>,
        index: Option<TextIndex<'_>>,
    ) {
        let (mut unreadable, mut not_found, mut entries) = (Tally::default(), Tally::default(), 0_usize);
        let mut reader = texts.reader();
        let mut previous = String::new();
        for row in 0..self.header.rows {
            match reader.get(row as usize) {
                Ok("") => {}
                Ok(text) => {
                    entries += 1;
                    let is_lost = index.is_some_and(|index| {
                        let ascends = !index.is_ascending() || *previous < *text;
                        !(ascends && index.holds(text, row))
                    });
                    previous.clear();
                    previous.push_str(text);
                    not_found.add_if(is_lost, || format!("row {row} is not found by its text"));
                }
                Err(malformed) => unreadable.add(|| malformed.what),
            }
        }
        let is_readable = unreadable.first.is_none();
        self.say_all(kind, column, [unreadable]);
        if let Some(index) = index.filter(|_| is_readable) {
            // With every text found, a number that differs is that of entries of no text.
            let mut dangling = Tally::default();
            dangling.add_if(index.entries() != entries, || {
                format!("{} entries for {entries} rows with a text", index.entries())
            });
            self.say_all(index_kind, column, [not_found, dangling]);
        }
    }

    fn rollups(&mut self) {
        if self.sound(SectionKind::Rollups, 0).is_none() {
            return;
        }
        let Some(rollups) = self.view.rollups() else { return };
        let codes = self.header.rollup_dims.iter().map(|dim| {
            self.sound(SectionKind::Dim, *dim).and_then(|_| self.view.dim(*dim)).map(|keys| keys.codes())
        });
        let counters =
            (0..self.header.schema.shape().counters).map(|c| self.numbers(SectionKind::Counter, c));
        let fixed = [self.numbers(SectionKind::Time, 0), self.numbers(SectionKind::Metric, 0)];
        let columns: Option<Vec<Numbers<'_>>> = fixed.into_iter().chain(counters).chain(codes).collect();
        if let Some(columns) = columns {
            let tallies = check_rollups(&rollups, &columns, self.header.schema.shape().counters);
            self.say_all(SectionKind::Rollups, 0, tallies);
        }
    }
}

/// Sum and extremes of a column of numbers; and of its chunks, what the zone maps and running sums say wrong, and values
/// that no row may have.
fn check_numbers(numbers: &Numbers<'_>, values: RangeInclusive<i64>) -> (Measure, [Tally; 3]) {
    let mut all = Measure::default();
    let (mut zones, mut sums, mut impossible) = (Tally::default(), Tally::default(), Tally::default());
    for_each_chunk(numbers, &mut |chunk, decoded| {
        let mut is = Measure::default();
        for value in decoded {
            is.add(*value);
        }
        let says = (numbers.chunk_min(chunk), numbers.chunk_max(chunk));
        zones.add_if(says != (is.min, is.max), || {
            format!(
                "the zone map of chunk {chunk} says {} to {}, its rows {} to {}",
                says.0, says.1, is.min, is.max
            )
        });
        let sum = numbers.sum(numbers.chunk_rows(chunk));
        sums.add_if(sum != is.sum, || {
            format!("the running sums of chunk {chunk} say {sum}, its rows {}", is.sum)
        });
        impossible.add_if(!values.contains(&is.min) || !values.contains(&is.max), || {
            format!("chunk {chunk} has values from {} to {}, which no event can have", is.min, is.max)
        });
        all.merge(&is);
    });
    (all, [zones, sums, impossible])
}

/// That each value has rows, and that its postings, where there are any, are these.
fn check_postings(keys: &Keys<'_>) -> [Tally; 2] {
    let rows = u32::try_from(keys.codes().rows()).unwrap_or(u32::MAX);
    let (mut unused, mut wrong) = (Tally::default(), Tally::default());
    let mut postings: Vec<_> =
        (0..keys.values()).map(|code| keys.postings(code).map(|rows_of| rows_of.rows_in(0..rows))).collect();
    let mut is_used = vec![false; postings.len()];
    let mut row = 0_u32;
    for_each_chunk(&keys.codes(), &mut |_, codes| {
        for code in codes {
            let place = usize::try_from(*code).unwrap_or(usize::MAX);
            if let Some(is_used) = is_used.get_mut(place) {
                *is_used = true;
            }
            if let Some(Some(rows_of)) = postings.get_mut(place) {
                let next = rows_of.next();
                wrong.add_if(next != Some(row), || match next {
                    Some(next) => {
                        format!("the postings of value {code} go on with row {next}, its rows with {row}")
                    }
                    None => format!("the postings of value {code} end before its row {row}"),
                });
            }
            row += 1;
        }
    });
    for (code, is_used) in is_used.iter().enumerate() {
        unused.add_if(!is_used, || format!("no row has value {code} of the dictionary"));
    }
    for (code, rows_of) in postings.iter_mut().enumerate() {
        if let Some(row) = rows_of.as_mut().and_then(Iterator::next) {
            wrong.add(|| format!("the postings of value {code} have row {row}, which has another value"));
        }
    }
    [unused, wrong]
}

/// A column summed up per value of a column of keys.
fn sums_of_values(keys: &Keys<'_>, column: &Numbers<'_>) -> Vec<Measure> {
    let mut sums = vec![Measure::default(); keys.values() as usize];
    for_each_pair(&keys.codes(), column, &mut |code, value| {
        if let Some(sum) = usize::try_from(code).ok().and_then(|code| sums.get_mut(code)) {
            sum.add(value);
        }
    });
    sums
}

/// Count, metric and counters of the rows of one rollup.
#[derive(Clone)]
struct RollupSums {
    count: u64,
    metric: i128,
    counters: Vec<u64>,
}

/// The columns are time, metric, the counters, and the codes of the rollup dims.
fn check_rollups(rollups: &Rollups<'_>, columns: &[Numbers<'_>], counters: usize) -> [Tally; 2] {
    let (mut missing, mut wrong) = (Tally::default(), Tally::default());
    let mut sums = vec![RollupSums { count: 0, metric: 0, counters: vec![0; counters] }; rollups.len()];
    let mut decoded = vec![[0_i64; CHUNK_ROWS]; columns.len()];
    let chunks = columns.first().map_or(0, Numbers::chunks);
    let mut codes = Vec::new();
    for chunk in 0..chunks {
        for (column, decoded) in columns.iter().zip(&mut decoded) {
            column.read_chunk(chunk, decoded);
        }
        let rows = columns.first().map_or(0..0, |time| time.chunk_rows(chunk));
        for (place, row) in rows.enumerate() {
            let mut values = decoded.iter().filter_map(|column| column.get(place).copied());
            let (ts, metric) = (values.next().unwrap_or(0), values.next().unwrap_or(0));
            let counts: Vec<i64> = values.by_ref().take(counters).collect();
            codes.clear();
            codes.extend(values.map(|code| u32::try_from(code).unwrap_or(u32::MAX)));
            let entry = rollups.entry_of(day_of(ts), &codes);
            let Some(sums) = entry.and_then(|entry| sums.get_mut(entry)) else {
                missing.add(|| format!("row {row} is in none"));
                continue;
            };
            sums.count += 1;
            sums.metric += i128::from(metric);
            for (sum, count) in sums.counters.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count as u64);
            }
        }
    }
    for (entry, sums) in sums.iter().enumerate() {
        let counters_differ =
            sums.counters.iter().enumerate().any(|(place, sum)| rollups.counter(entry, place) != *sum);
        let differs =
            (rollups.count(entry), rollups.metric(entry)) != (sums.count, sums.metric) || counters_differ;
        wrong.add_if(differs, || format!("rollup {entry} does not have the sums of its {} rows", sums.count));
    }
    [missing, wrong]
}

/// Calls `each` with every chunk's number and values.
fn for_each_chunk(numbers: &Numbers<'_>, each: &mut dyn FnMut(usize, &[i64])) {
    let mut decoded = [0; CHUNK_ROWS];
    for chunk in 0..numbers.chunks() {
        numbers.read_chunk(chunk, &mut decoded);
        each(chunk, decoded.get(..numbers.chunk_rows(chunk).len()).unwrap_or_default());
    }
}

/// Calls `each` with the two values of every row.
fn for_each_pair(a: &Numbers<'_>, b: &Numbers<'_>, each: &mut dyn FnMut(i64, i64)) {
    let mut of_b = [0; CHUNK_ROWS];
    for_each_chunk(a, &mut |chunk, of_a| {
        b.read_chunk(chunk, &mut of_b);
        of_a.iter().zip(&of_b).for_each(|(a, b)| each(*a, *b));
    });
}

#[cfg(test)]
mod tests {
    use super::super::segment::tamper::{section_of, with_header, with_section};
    use super::super::segment::{Columns, SegmentInput, check_section, encode};
    use super::*;
    use crate::schema::TableSchema;
    use crate::time::DAY_NS;

    const ROWS: usize = 600;

    /// Rows of which each column can be changed before they become a segment.
    struct Rows {
        ids: Vec<String>,
        /// Three values: sums and postings, two of them bitmaps.
        users: Vec<String>,
        /// 150 values: postings as lists, no sums.
        models: Vec<String>,
        /// A value for each row: neither.
        traces: Vec<String>,
        labels: Vec<String>,
        numbers: Columns<'static>,
    }

    impl Rows {
        fn new() -> Self {
            let of = |value: &dyn Fn(usize) -> i64| (0..ROWS).map(value).collect::<Vec<_>>();
            let text = |value: &dyn Fn(usize) -> String| (0..ROWS).map(value).collect::<Vec<_>>();
            Self {
                ids: text(&|row| if row == 5 { String::new() } else { format!("id-{row}") }),
                users: text(&|row| format!("user {}", if row % 50 == 0 { 2 } else { row % 2 })),
                models: text(&|row| format!("model {:03}", row * 7 % 150)),
                traces: text(&|row| format!("trace {row:04}")),
                labels: text(&|row| "words ".repeat(row % 60)),
                numbers: Columns {
                    // Every other row shares its time with the one before.
                    ts: of(&|row| (row / 2) as i64 * DAY_NS / 100),
                    sequence: of(&|row| 1000 + row as i64),
                    metric: of(&|row| row as i64 * 31 - 4000),
                    latency: of(&|row| row as i64 % 90),
                    latency_detail: of(&|row| row as i64 % 7),
                    flags: of(&|row| row as i64 % 4),
                    status: (0..ROWS).map(|row| [200, 404, 500][row % 3]).collect(),
                    counters: vec![of(&|row| row as i64 * 3)],
                    ..Columns::default()
                },
            }
        }

        fn encode(&self) -> Vec<u8> {
            fn refs(texts: &[String]) -> Vec<&str> {
                texts.iter().map(String::as_str).collect()
            }
            let schema = TableSchema::new(1)
                .dim("user")
                .dim("model")
                .dim("trace")
                .counter("tokens")
                .label("said")
                .indexed_label("trace id");
            let input = SegmentInput {
                schema: &schema,
                generations: &[1],
                supersedes: &[],
                bloom_dim: Some(1),
                rollup_dims: &[0],
                columns: Columns {
                    id: refs(&self.ids),
                    dims: vec![refs(&self.users), refs(&self.models), refs(&self.traces)],
                    labels: vec![refs(&self.labels), refs(&self.ids)],
                    ..self.numbers.clone()
                },
            };
            encode(&input, false)
        }
    }

    /// All that is found in a file whose checksums and structure hold.
    fn findings(file: &[u8]) -> Vec<String> {
        let header = SegmentHeader::parse(file).unwrap();
        for (index, section) in header.sections.iter().enumerate() {
            let start = usize::try_from(section.offset).unwrap();
            let bytes = &file[start..start + usize::try_from(section.bytes).unwrap()];
            assert_eq!(crc32fast::hash(bytes), section.crc);
            check_section(&header, index, bytes).unwrap();
        }
        let (mut found, mut rows) = (Vec::new(), 0);
        let view = SegmentView { header: &header, bytes: file };
        let is_sound = vec![true; header.sections.len()];
        check_values(view, &is_sound, &mut |_, _| rows += 1, &mut |malformed| found.push(malformed.what));
        assert_eq!(rows, header.rows);
        found
    }

    #[track_caller]
    fn assert_named(file: &[u8], expected: &[&str]) {
        let found = findings(file);
        let all_named = expected.len() == found.len()
            && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
        assert!(all_named, "found {found:#?}\nexpected {expected:#?}");
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn add_to(bytes: &mut [u8], at: usize, more: i64) {
        let value = i64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        put(bytes, at, &(value + more).to_le_bytes());
    }

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
    }

    /// Where in a section of keys the codes and the postings begin.
    fn places_of(keys: &[u8]) -> (usize, usize) {
        let arrays = match keys[4] {
            1 => 1,
            2 => 3,
            _ => 5 + 3 * u32_at(keys, 8),
        };
        let text = 32 + 16 * arrays + u32_at(keys, 24);
        let codes = (text + u32_at(keys, 12)).next_multiple_of(64);
        (codes, codes + u32_at(keys, 16))
    }

    /// Where the residuals of a column of numbers without running sums begin, for the three chunks of these rows.
    const DATA_AT: usize = (24 + 3 * 20_usize).next_multiple_of(64);

    #[test]
    fn a_sound_segment_has_no_findings() {
        assert_named(&Rows::new().encode(), &[]);
        let mut none = Rows::new();
        none.numbers = Columns { counters: vec![Vec::new()], ..Columns::default() };
        for texts in [&mut none.ids, &mut none.users, &mut none.models, &mut none.traces, &mut none.labels] {
            texts.clear();
        }
        assert_named(&none.encode(), &[]);
    }

    #[test]
    fn what_the_header_says_of_all_rows_is_compared() {
        let file = Rows::new().encode();
        let with = |change: fn(&mut SegmentHeader)| with_header(&file, change);
        assert_named(&with(|header| header.facts.ts_max += 1), &["the header says times (0, "]);
        assert_named(&with(|header| header.facts.ts_min -= 1), &["the header says times (-1, "]);
        assert_named(
            &with(|header| header.facts.sequence_max += 1),
            &["the header says sequences (1000, 1600)"],
        );
        assert_named(
            &with(|header| header.facts.sequence_min -= 1),
            &["the header says sequences (999, 1599)"],
        );
        assert_named(&with(|header| header.facts.status_max = 501), &["the header says statuses (200, 501)"]);
        assert_named(&with(|header| header.facts.status_min = 100), &["the header says statuses (100, 500)"]);
        for place in 0..4 {
            let name = format!("of measure {place} ");
            let changes: [fn(&mut Measure); 3] = [|m| m.sum += 1, |m| m.min -= 1, |m| m.max += 1];
            for change in changes {
                let file = with_header(&file, |header| change(&mut header.facts.totals.measures[place]));
                assert_named(&file, &[&name]);
            }
        }
    }

    #[test]
    fn zone_maps_and_running_sums_are_compared() {
        let file = Rows::new().encode();
        let columns = [
            (SectionKind::Time, "section time"),
            (SectionKind::Metric, "section metric"),
            (SectionKind::Flags, "section flags"),
            (SectionKind::Counter, "section counter 0"),
        ];
        for (kind, name) in columns {
            let wrong = with_section(&file, kind, 0, |bytes| add_to(bytes, 24 + 3 * 8 + 8, 1));
            let found = findings(&wrong);
            assert!(found[0].contains(&format!("{name}: the zone map of chunk 1 says")), "{found:?}");
        }
        let sums_at = (24 + 3 * 16_usize).next_multiple_of(16);
        let wrong = with_section(&file, SectionKind::Latency, 0, |bytes| add_to(bytes, sums_at + 16, 1));
        assert_named(&wrong, &["section latency: the running sums of chunk 0 say"]);
        let wrong = with_section(&file, SectionKind::Dim, 0, |bytes| {
            let (codes, _) = places_of(bytes);
            add_to(bytes, codes + 24 + 3 * 8, -1);
            put(bytes, codes + DATA_AT, &[1]);
            (0..256).filter(|row| row % 50 == 0).for_each(|row| put(bytes, codes + DATA_AT + row, &[1]));
        });
        let found = findings(&wrong);
        assert!(found.iter().any(|what| what.contains("section dim 0: value 2 says")), "{found:#?}");
    }

    #[test]
    fn values_that_no_event_has_are_found() {
        let file = Rows::new().encode();
        let wrong = with_section(&file, SectionKind::Flags, 0, |bytes| {
            // All values one lower: the base of all chunks, three minima, three maxima.
            for at in [16, 24, 32, 40, 48, 56, 64] {
                add_to(bytes, at, -1);
            }
        });
        assert_named(&wrong, &["section flags: chunk 0 has values from -1 to 2, which no event can have"]);
    }

    #[test]
    fn rows_that_are_not_in_order_are_found() {
        let file = Rows::new().encode();
        let wrong =
            with_section(&file, SectionKind::Sequence, 0, |bytes| bytes.swap(DATA_AT + 10, DATA_AT + 11));
        assert_named(&wrong, &["section sequence: row 11 is not after the one before it"]);
        let twice = with_section(&file, SectionKind::Sequence, 0, |bytes| bytes[DATA_AT + 11] = 10);
        assert_named(&twice, &["section sequence: row 11 is not after the one before it"]);
    }

    #[test]
    fn postings_are_compared_with_the_codes() {
        let file = Rows::new().encode();
        let list = with_section(&file, SectionKind::Dim, 1, |bytes| {
            let (_, postings) = places_of(bytes);
            // The first row of value 0 is row 0: now it says 1, which another value has.
            put(bytes, postings, &1_u16.to_le_bytes());
        });
        assert_named(&list, &["section dim 1: the postings of value 0 go on with row 1, its rows with 0"]);
        let bitmap = with_section(&file, SectionKind::Dim, 0, |bytes| {
            let (_, postings) = places_of(bytes);
            // Value 0 has the even rows but each fiftieth.
            assert_eq!(bytes[postings], 0b0101_0100);
            bytes[postings] = 0b0101_1000;
        });
        assert_named(&bitmap, &["section dim 0: the postings of value 0 go on with row 3, its rows with 2"]);
        let shortened = with_section(&file, SectionKind::Dim, 0, |bytes| {
            let (_, postings) = places_of(bytes);
            // Its last row is 598; now 597, which is behind none of its rows.
            let end = postings + 598 / 8;
            assert_eq!(bytes[end] & 0x60, 0x40);
            bytes[end] ^= 0x60;
        });
        assert_named(
            &shortened,
            &["section dim 0: the postings of value 0 go on with row 597, its rows with 598"],
        );
    }

    #[test]
    fn values_of_the_dictionary_without_rows_are_found() {
        let file = Rows::new().encode();
        let wrong = with_section(&file, SectionKind::Dim, 2, |bytes| {
            let (codes, _) = places_of(bytes);
            // Row 3 has the value of row 2 now.
            bytes[codes + DATA_AT + 3] = 2;
        });
        assert_named(&wrong, &["section dim 2: no row has value 3 of the dictionary"]);
    }

    #[test]
    fn sums_and_times_of_values_are_compared() {
        let file = Rows::new().encode();
        for (kind, name) in [(SectionKind::Dim, "dim 0"), (SectionKind::Status, "status")] {
            // The base of an array: so all its values.
            let at = |array: usize, more: i64| {
                with_section(&file, kind, 0, |bytes| add_to(bytes, 32 + 16 * array, more))
            };
            assert_named(&at(3, -1), &[&format!("section {name}: value 0 says first and last time (Some(")]);
            assert_named(&at(4, 1), &[&format!("section {name}: value 0 says first and last time (Some(")]);
            for measure in 0..4 {
                for (field, more) in [(0, 1), (1, -1), (2, 1)] {
                    let wrong = at(5 + 3 * measure + field, more);
                    let found = findings(&wrong);
                    let expected = format!("of measure {measure}, its rows");
                    assert!(found.len() == 1 && found[0].contains(&expected), "{found:?}");
                }
            }
        }
    }

    #[test]
    fn hash_indexes_are_compared_with_their_texts() {
        let file = Rows::new().encode();
        let indexes = [
            (SectionKind::IdIndex, 0, "section id index"),
            (SectionKind::LabelIndex, 1, "section label index 1"),
        ];
        for (kind, column, name) in indexes {
            let wrong = with_section(&file, kind, column, |bytes| *bytes.last_mut().unwrap() ^= 1);
            let found = findings(&wrong);
            assert!(
                found.len() == 1
                    && found[0].starts_with(name)
                    && found[0].ends_with("is not found by its text")
            );

            let mut more = Rows::new();
            more.ids[5] = "an id for the row that has none".to_owned();
            let other = section_of(&more.encode(), kind, column);
            let wrong = with_section(&file, kind, column, |bytes| *bytes = other);
            let found = findings(&wrong);
            let dangling = format!("{name}: 600 entries for 599 rows with a text");
            assert_eq!(found.last(), Some(&dangling), "{found:?}");
        }
    }

    #[test]
    fn texts_that_an_index_takes_for_ascending_and_are_not_are_found() {
        let mut rows = Rows::new();
        for (row, id) in rows.ids.iter_mut().enumerate() {
            *id = format!("id {row:04}");
        }
        let file = rows.encode();
        assert_named(&file, &[]);
        rows.ids.swap(7, 8);
        let swapped = section_of(&rows.encode(), SectionKind::Id, 0);
        let wrong = with_section(&file, SectionKind::Id, 0, |bytes| *bytes = swapped);
        assert_named(&wrong, &["section id index: row 8 is not found by its text"]);
    }

    #[test]
    fn texts_that_cannot_be_read_are_found() {
        let file = Rows::new().encode();
        let wrong = with_section(&file, SectionKind::Label, 0, |bytes| {
            assert_eq!(bytes[0], 2, "blocks, which are compressed");
            let last = bytes.len() - 1;
            bytes[last - 20..last].fill(0xAA);
        });
        let found = findings(&wrong);
        assert!(found.len() == 1 && found[0].contains("section label 0: text of row "), "{found:?}");
        assert!(found[0].contains("cannot be read; and "), "{found:?}");
    }

    #[test]
    fn a_bloom_filter_that_denies_a_value_is_found() {
        let file = Rows::new().encode();
        let wrong = with_section(&file, SectionKind::Bloom, 0, |bytes| bytes[..64].fill(0));
        let found = findings(&wrong);
        assert!(
            found.len() == 1 && found[0].starts_with("section bloom filter: it denies the value "),
            "{found:?}"
        );
    }

    #[test]
    fn rollups_are_compared() {
        let rows = Rows::new();
        let file = rows.encode();
        let mixed = |change: &dyn Fn(&mut Rows)| {
            let mut other = Rows::new();
            change(&mut other);
            let other = section_of(&other.encode(), SectionKind::Rollups, 0);
            with_section(&file, SectionKind::Rollups, 0, |bytes| *bytes = other)
        };
        assert_named(&mixed(&|_| {}), &[]);
        let wrong = "section rollups: rollup 1 does not have the sums of its ";
        assert_named(&mixed(&|other| other.numbers.metric[1] += 1), &[wrong]);
        assert_named(&mixed(&|other| other.numbers.counters[0][1] += 1), &[wrong]);
        let moved = mixed(&|other| other.users[1] = "user 2".to_owned());
        let found = findings(&moved);
        assert!(found.len() == 1 && found[0].contains("and 1 more like it"), "{found:?}");
        let later = mixed(&|other| other.numbers.ts.iter_mut().for_each(|ts| *ts += 10 * DAY_NS));
        assert_eq!(findings(&later)[0], "section rollups: row 0 is in none; and 599 more like it");
    }

    #[test]
    fn sections_that_are_not_sound_are_not_read() {
        let file = Rows::new().encode();
        let header = SegmentHeader::parse(&file).unwrap();
        for index in 0..header.sections.len() {
            let mut file = file.clone();
            let section = &header.sections[index];
            let start = usize::try_from(section.offset).unwrap();
            file[start..start + usize::try_from(section.bytes).unwrap()].fill(0x77);
            let mut is_sound = vec![true; header.sections.len()];
            is_sound[index] = false;
            let view = SegmentView { header: &header, bytes: &file };
            check_values(view, &is_sound, &mut |_, _| {}, &mut |malformed| panic!("{}", malformed.what));
        }
    }
}
