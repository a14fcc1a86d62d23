//! A condition resolved against one segment: for which of its rows it holds, as masks, as lists, or row by row.
//!
//! Conditions on dims and statuses are tests of the dictionary, once per distinct value, and become sets of codes; those
//! on numbers stay ranges, which zone maps and kernels decide. Those on texts are decided here, at once, for the rows
//! that everything else leaves: by a hash index where there is one, else text by text.

use std::cell::OnceCell;
use std::sync::Arc;

use super::codes::CodeSet;
use super::select::Selection;
use super::text_rows::rows_passing;
use crate::error::Result;
use crate::expr::{Expr, NumberColumn, TextColumn, TextTest};
use crate::format::keys::{Keys, PostingRows, Postings, status_key};
use crate::format::numbers::Numbers;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};
use crate::storage::segment_reader::OpenSegment;

/// Ranges of codes up to which a kernel for each costs less than looking each code of a chunk up.
const MASKED_RANGES: usize = 6;
/// A bitmap of a value's rows is chosen from one row in so many on; rows of several values are worth a list below it.
const ROWS_PER_LISTED_ROW: usize = 32;

/// What must hold for a row.
#[derive(Debug, Clone)]
pub(crate) enum Condition<'s> {
    Codes(Codes<'s>),
    /// Inclusive.
    Range {
        values: Numbers<'s>,
        lo: i64,
        hi: i64,
    },
    /// All of these bits are set.
    Bits {
        values: Numbers<'s>,
        bits: i64,
    },
    /// Exactly these rows, ascending.
    Rows(Arc<[u32]>),
    All(Vec<Condition<'s>>),
    Any(Vec<Condition<'s>>),
    Not(Box<Condition<'s>>),
}

/// The codes that a key column must have.
#[derive(Debug, Clone)]
pub(crate) struct Codes<'s> {
    pub(crate) keys: Keys<'s>,
    /// Not empty, and not all of the dictionary.
    pub(crate) set: CodeSet,
    /// Opened when somebody looks at rows: sums need none of it, and it is too large to be moved about in vain.
    rows: OnceCell<Box<CodeRows<'s>>>,
}

/// Which rows have some codes.
#[derive(Debug, Clone)]
struct CodeRows<'s> {
    column: Numbers<'s>,
    /// The rows of the one code, where the segment has them.
    postings: Option<Postings<'s>>,
}

/// What a condition comes to in a segment.
#[derive(Debug, Clone)]
pub(crate) enum Resolved<'s> {
    /// It holds for every row, or for none.
    Constant(bool),
    Open(Condition<'s>),
}

impl<'s> Codes<'s> {
    /// The condition that a row's code is in `set`.
    pub(crate) fn resolve(keys: Keys<'s>, set: CodeSet) -> Resolved<'s> {
        if set.is_empty() {
            return Resolved::Constant(false);
        }
        if set.len() == keys.values() {
            return Resolved::Constant(true);
        }
        Resolved::Open(Condition::Codes(Self { keys, set, rows: OnceCell::new() }))
    }

    fn rows(&self) -> &CodeRows<'s> {
        self.rows.get_or_init(|| {
            let postings = self.set.single().and_then(|code| self.keys.postings(code));
            Box::new(CodeRows { column: self.keys.codes(), postings })
        })
    }

    fn column(&self) -> &Numbers<'s> {
        &self.rows().column
    }

    fn postings(&self) -> Option<Postings<'s>> {
        self.rows().postings
    }

    /// The rows of the one code as the words of a bitmap, and their share of all rows; `None` where they are not stored so.
    pub(crate) fn bitmap(&self) -> Option<(&'s [[u8; 8]], f64)> {
        let postings = self.postings()?;
        let share = f64::from(postings.len()) / self.column().rows() as f64;
        Some((postings.words()?, share))
    }

    fn holds(&self, row: usize) -> bool {
        u32::try_from(self.column().get(row)).is_ok_and(|code| self.set.contains(code))
    }

    fn mask(&self, kernels: &Kernels, chunk: usize) -> Mask {
        let CodeRows { column, postings } = self.rows();
        if let Some(postings) = postings.filter(Postings::is_bitmap) {
            return postings.mask(chunk);
        }
        let ranges = self.set.ranges();
        if ranges.len() > MASKED_RANGES {
            return column
                .mask_where(chunk, |code| u32::try_from(code).is_ok_and(|code| self.set.contains(code)));
        }
        let masks = ranges
            .iter()
            .map(|codes| column.range_mask(kernels, chunk, i64::from(codes.start), i64::from(codes.end) - 1));
        masks.reduce(or).unwrap_or_default()
    }

    /// How many rows a list of them has; `None` where there are too many for one, or the segment does not know them.
    fn listed(&self) -> Option<usize> {
        if let Some(postings) = self.postings() {
            return (!postings.is_bitmap()).then(|| postings.len() as usize);
        }
        let (most, counts) = (self.column().rows() / ROWS_PER_LISTED_ROW, self.keys.counts()?);
        let mut rows = 0;
        for code in self.set.iter() {
            rows += usize::try_from(counts.get_i64(code as usize)?).ok()?;
            if rows >= most {
                return None;
            }
        }
        Some(rows)
    }

    fn list(&self, rows: std::ops::Range<u32>) -> RowList<'s> {
        if let Some(postings) = self.postings() {
            return RowList::Postings(postings.rows_in(rows));
        }
        let postings = self.set.iter().filter_map(|code| self.keys.postings(code));
        let mut list: Vec<u32> = postings.flat_map(|postings| postings.rows_in(rows.clone())).collect();
        list.sort_unstable();
        RowList::Sorted(list.into_iter())
    }
}

impl<'s> Condition<'s> {
    /// Whether it holds for a row of the segment.
    pub(crate) fn holds(&self, row: usize) -> bool {
        match self {
            Self::Codes(codes) => codes.holds(row),
            Self::Range { values, lo, hi } => (*lo..=*hi).contains(&values.get(row)),
            Self::Bits { values, bits } => values.get(row) & bits == *bits,
            Self::Rows(rows) => u32::try_from(row).is_ok_and(|row| rows.binary_search(&row).is_ok()),
            Self::All(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Not(inner) => !inner.holds(row),
        }
    }

    /// The rows of a chunk for which it holds; bits past the segment's last row mean nothing.
    pub(crate) fn mask(&self, kernels: &Kernels, chunk: usize) -> Mask {
        match self {
            Self::Codes(codes) => codes.mask(kernels, chunk),
            Self::Range { values, lo, hi } => values.range_mask(kernels, chunk, *lo, *hi),
            Self::Bits { values, bits } => values.bits_mask(kernels, chunk, *bits),
            Self::Rows(rows) => mask_of_rows(rows, chunk),
            Self::All(parts) => {
                parts.iter().map(|part| part.mask(kernels, chunk)).reduce(and).unwrap_or(ALL_ROWS)
            }
            Self::Any(parts) => {
                parts.iter().map(|part| part.mask(kernels, chunk)).reduce(or).unwrap_or_default()
            }
            Self::Not(inner) => inner.mask(kernels, chunk).map(|word| !word),
        }
    }

    /// How many rows of the whole segment a list of those for which it holds has; `None` where there is no such list,
    /// because they are many or unknown.
    pub(crate) fn listed(&self) -> Option<usize> {
        match self {
            Self::Codes(codes) => codes.listed(),
            Self::Rows(rows) => Some(rows.len()),
            Self::All(parts) => parts.iter().filter_map(Self::listed).min(),
            Self::Any(_) | Self::Range { .. } | Self::Bits { .. } | Self::Not(_) => None,
        }
    }

    /// The rows within a range for which it may hold, where [`listed`](Self::listed) says so; those of a part of
    /// [`All`](Self::All) have yet to be tested for the others.
    pub(crate) fn list(&self, rows: std::ops::Range<u32>) -> Option<RowList<'s>> {
        match self {
            Self::Codes(codes) => codes.listed().map(|_| codes.list(rows)),
            Self::Rows(all) => {
                let place = |row: u32| all.partition_point(|at| *at < row);
                Some(RowList::Shared { rows: Arc::clone(all), places: place(rows.start)..place(rows.end) })
            }
            Self::All(parts) => {
                let listed = parts.iter().filter_map(|part| Some((part.listed()?, part)));
                listed.min_by_key(|(count, _)| *count)?.1.list(rows)
            }
            Self::Any(_) | Self::Range { .. } | Self::Bits { .. } | Self::Not(_) => None,
        }
    }

    /// Whether every row of its list fulfils it.
    pub(crate) fn list_is_exact(&self) -> bool {
        matches!(self, Self::Codes(_) | Self::Rows(_))
    }

    /// Lets go of the lists of rows of a key's values: rows are told by their codes.
    pub(crate) fn forget_rows(&mut self) {
        match self {
            Self::Codes(codes) => {
                codes.rows =
                    OnceCell::from(Box::new(CodeRows { column: codes.keys.codes(), postings: None }));
            }
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(Self::forget_rows),
            Self::Not(inner) => inner.forget_rows(),
            Self::Range { .. } | Self::Bits { .. } | Self::Rows(_) => {}
        }
    }

    /// The condition on one key column, if it is that alone.
    pub(crate) fn codes(&self) -> Option<&Codes<'s>> {
        if let Self::Codes(codes) = self { Some(codes) } else { None }
    }
}

/// Ascending rows, from either end.
#[derive(Debug)]
pub(crate) enum RowList<'s> {
    Postings(PostingRows<'s>),
    Sorted(std::vec::IntoIter<u32>),
    Shared { rows: Arc<[u32]>, places: std::ops::Range<usize> },
}

impl Iterator for RowList<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Postings(rows) => rows.next(),
            Self::Sorted(rows) => rows.next(),
            Self::Shared { rows, places } => rows.get(places.next()?).copied(),
        }
    }
}

impl DoubleEndedIterator for RowList<'_> {
    fn next_back(&mut self) -> Option<u32> {
        match self {
            Self::Postings(rows) => rows.next_back(),
            Self::Sorted(rows) => rows.next_back(),
            Self::Shared { rows, places } => rows.get(places.next_back()?).copied(),
        }
    }
}

/// Resolves conditions against a segment.
pub(crate) struct Resolver<'s, 'c> {
    pub(crate) open: &'s OpenSegment<'s>,
    /// The rows whose texts are looked at where a text must be tested: those that nothing else rules out. `None` where no
    /// text is tested.
    pub(crate) selection: Option<&'c Selection<'s>>,
}

impl<'s> Resolver<'s, '_> {
    pub(crate) fn resolve(&self, expr: &Expr) -> Result<Resolved<'s>> {
        let resolved = match expr {
            Expr::Always(holds) => Resolved::Constant(*holds),
            Expr::Number { column, lo, hi } => self.range(*column, *lo, *hi)?,
            Expr::Flags { bits: 0 } => Resolved::Constant(true),
            Expr::Flags { bits } => {
                Resolved::Open(Condition::Bits { values: self.open.flags()?, bits: i64::from(*bits) })
            }
            Expr::Status(ranges) => {
                let keys = self.open.status()?;
                let statuses = keys.dictionary();
                let codes = ranges
                    .iter()
                    .map(|range| statuses.codes_in(&status_key(*range.start()), &status_key(*range.end())));
                Codes::resolve(keys, CodeSet::of_ranges(codes))
            }
            Expr::Dim { dim, test } => match self.open.dim(*dim)? {
                Some(keys) => Codes::resolve(keys, codes_of(&keys, test)),
                None => Resolved::Constant(test.holds("")),
            },
            Expr::Text { column, test } => self.text(*column, test)?,
            Expr::And(parts) => all(self.resolve_each(parts)?),
            Expr::Or(parts) => any(self.resolve_each(parts)?),
            Expr::Not(inner) => not(self.resolve(inner)?),
            // Refused before a query begins.
            Expr::TooDeep => Resolved::Constant(false),
        };
        Ok(resolved)
    }

    fn resolve_each(&self, parts: &[Expr]) -> Result<Vec<Resolved<'s>>> {
        parts.iter().map(|part| self.resolve(part)).collect()
    }

    fn range(&self, column: NumberColumn, lo: i64, hi: i64) -> Result<Resolved<'s>> {
        if lo > hi {
            return Ok(Resolved::Constant(false));
        }
        Ok(match self.open.numbers(column)? {
            Some(values) => Resolved::Open(Condition::Range { values, lo, hi }),
            None => Resolved::Constant((lo..=hi).contains(&0)),
        })
    }

    fn text(&self, column: TextColumn, test: &TextTest) -> Result<Resolved<'s>> {
        let (texts, index) = match column {
            TextColumn::Id => (Some(self.open.id()?), Some(self.open.id_index()?)),
            TextColumn::Label(label) => (self.open.label(label)?, self.open.label_index(label)?),
        };
        let Some(texts) = texts else { return Ok(Resolved::Constant(test.holds(""))) };
        let corrupt = |malformed| self.open.corrupt(malformed);
        let mut rows = Vec::new();
        if let (Some(index), Some(wanted)) = (index, indexed(test)) {
            for text in wanted {
                for row in index.rows_of(text, texts) {
                    rows.push(row.map_err(corrupt)?);
                }
            }
            rows.sort_unstable();
        } else if let Some(selection) = self.selection {
            rows = rows_passing(texts, test, selection).map_err(corrupt)?;
        }
        Ok(if rows.is_empty() {
            Resolved::Constant(false)
        } else {
            Resolved::Open(Condition::Rows(rows.into()))
        })
    }
}

/// The texts that a hash index can be asked for instead of the test; it has all but the empty one.
fn indexed(test: &TextTest) -> Option<&[String]> {
    test.wanted().filter(|wanted| wanted.iter().all(|text| !text.is_empty()))
}

/// The codes of the values that pass a test.
fn codes_of(keys: &Keys<'_>, test: &TextTest) -> CodeSet {
    let values = keys.dictionary();
    let codes = |value: &String| values.code_of(value).map_or(0..0, |code| code..code + 1);
    match test {
        TextTest::Equal(value) => CodeSet::range(codes(value)),
        TextTest::AnyOf(values) => CodeSet::of_ranges(values.iter().map(codes)),
        TextTest::StartsWith(start) => CodeSet::range(values.codes_from(start)),
        TextTest::EndsWith(_) | TextTest::Contains(_) => {
            CodeSet::of(keys.values(), |code| test.holds(values.value(code)))
        }
    }
}

fn all(parts: Vec<Resolved<'_>>) -> Resolved<'_> {
    let mut open = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Resolved::Constant(true) => {}
            Resolved::Constant(false) => return Resolved::Constant(false),
            Resolved::Open(condition) => {
                if join(&mut open, condition, CodeSet::intersection) == Some(false) {
                    return Resolved::Constant(false);
                }
            }
        }
    }
    joined(open, true, Condition::All)
}

fn any(parts: Vec<Resolved<'_>>) -> Resolved<'_> {
    let mut open = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Resolved::Constant(false) => {}
            Resolved::Constant(true) => return Resolved::Constant(true),
            Resolved::Open(condition) => {
                if join(&mut open, condition, CodeSet::union) == Some(true) {
                    return Resolved::Constant(true);
                }
            }
        }
    }
    joined(open, false, Condition::Any)
}

/// Adds a condition to others; one on a key column that others have too becomes one with it. What it comes to, where
/// that is the same for every row.
fn join<'s>(
    others: &mut Vec<Condition<'s>>,
    condition: Condition<'s>,
    merge: impl Fn(&CodeSet, &CodeSet) -> CodeSet,
) -> Option<bool> {
    if let Condition::Codes(more) = &condition {
        let same = others.iter_mut().find_map(|other| match other {
            Condition::Codes(codes) if codes.keys.is_same(&more.keys) => Some(codes),
            _ => None,
        });
        if let Some(known) = same {
            match Codes::resolve(known.keys, merge(&known.set, &more.set)) {
                Resolved::Constant(holds) => return Some(holds),
                Resolved::Open(Condition::Codes(codes)) => *known = codes,
                Resolved::Open(_) => {}
            }
            return None;
        }
    }
    others.push(condition);
    None
}

fn joined<'s>(
    mut parts: Vec<Condition<'s>>,
    of_none: bool,
    close: impl Fn(Vec<Condition<'s>>) -> Condition<'s>,
) -> Resolved<'s> {
    match parts.len() {
        0 => Resolved::Constant(of_none),
        1 => parts.pop().map_or(Resolved::Constant(of_none), Resolved::Open),
        _ => Resolved::Open(close(parts)),
    }
}

fn not(resolved: Resolved<'_>) -> Resolved<'_> {
    match resolved {
        Resolved::Constant(holds) => Resolved::Constant(!holds),
        Resolved::Open(Condition::Codes(codes)) => {
            let rest = codes.set.complement(codes.keys.values());
            Codes::resolve(codes.keys, rest)
        }
        Resolved::Open(Condition::Not(inner)) => Resolved::Open(*inner),
        Resolved::Open(condition) => Resolved::Open(Condition::Not(Box::new(condition))),
    }
}

/// Every row of a chunk.
pub(crate) const ALL_ROWS: Mask = [u64::MAX; CHUNK_ROWS / 64];

pub(crate) fn and(a: Mask, b: Mask) -> Mask {
    std::array::from_fn(|word| a[word] & b[word])
}

fn or(a: Mask, b: Mask) -> Mask {
    std::array::from_fn(|word| a[word] | b[word])
}

/// The rows of a list that lie in a chunk.
fn mask_of_rows(rows: &[u32], chunk: usize) -> Mask {
    let first = chunk * CHUNK_ROWS;
    let start = rows.partition_point(|row| (*row as usize) < first);
    let mut mask = Mask::default();
    for row in
        rows.iter().skip(start).map(|row| *row as usize - first).take_while(|place| *place < CHUNK_ROWS)
    {
        mask[row / 64] |= 1 << (row % 64);
    }
    mask
}
