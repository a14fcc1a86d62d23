//! One column of a segment, resolved once for all rows that a query hands out, so that reading one is a few instructions.

use std::cell::Cell;
use std::ops::Range;

use crate::format::arrays::Residuals;
use crate::format::keys::{Dictionary, Keys, status_of_bytes};
use crate::format::numbers::Numbers;
use crate::kernels::CHUNK_ROWS;

/// A column of numbers.
pub(super) enum Column<'s> {
    /// All rows share a base.
    Plain(i64, Residuals<'s>),
    /// Chunks have bases of their own.
    Chunks(Numbers<'s>),
}

impl<'s> Column<'s> {
    pub(super) fn new(numbers: Numbers<'s>) -> Self {
        numbers.plain().map_or(Self::Chunks(numbers), |(base, residuals)| Self::Plain(base, residuals))
    }

    /// The value of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> i64 {
        match self {
            Self::Plain(base, residuals) => base.wrapping_add(residuals.get(row) as i64),
            Self::Chunks(numbers) => numbers.get(row),
        }
    }
}

/// A column of numbers that is read in order: what is found out about the chunk of a row serves those that follow.
pub(super) struct OrderedColumn<'s> {
    numbers: Numbers<'s>,
    /// The chunk of the last row.
    chunk: usize,
    /// The rows of the chunk that is held.
    held: Range<usize>,
    base: i64,
    residuals: Residuals<'s>,
}

impl<'s> OrderedColumn<'s> {
    pub(super) fn new(numbers: Numbers<'s>) -> Self {
        Self { numbers, chunk: usize::MAX, held: 0..0, base: 0, residuals: Residuals::Zero(0) }
    }

    /// The value of a row.
    #[inline]
    pub(super) fn get(&mut self, row: usize) -> i64 {
        if !self.held.contains(&row) {
            let chunk = row / CHUNK_ROWS;
            // The first row of a chunk may be its only one, for which holding it does not pay.
            if self.chunk != chunk {
                self.chunk = chunk;
                return self.numbers.get(row);
            }
            self.hold(chunk);
        }
        self.base.wrapping_add(self.residuals.get(row - self.held.start) as i64)
    }

    fn hold(&mut self, chunk: usize) {
        self.held = self.numbers.chunk_rows(chunk);
        (self.base, self.residuals) = self.numbers.chunk(chunk);
    }
}

/// Values of a dictionary up to which all are made ready for many rows: most dictionaries have fewer, but for users and the like.
const KNOWN_VALUES: u32 = 32;

/// A column of keys.
pub(super) struct KeyColumn<'s> {
    codes: Column<'s>,
    /// How many different ones there are.
    count: u32,
    values: Dictionary<'s>,
    /// The values by code; empty where they were not made ready.
    known: Vec<&'s str>,
}

impl<'s> KeyColumn<'s> {
    pub(super) fn new(keys: Keys<'s>) -> Self {
        let (codes, values) = (Column::new(keys.codes()), keys.dictionary());
        Self { codes, count: keys.values(), values, known: Vec::new() }
    }

    /// Finds the values of a small dictionary once: texts of many lengths, one after the other, are what a processor guesses wrong.
    pub(super) fn expect_many_rows(&mut self) {
        if self.known.is_empty() && self.count <= KNOWN_VALUES {
            self.known = (0..self.count).map(|code| self.values.value(code)).collect();
        }
    }

    /// The value of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> &'s str {
        let code = self.code(row);
        self.known.get(code as usize).copied().unwrap_or_else(|| self.values.value(code))
    }

    /// The value of a row, as it is stored.
    #[inline]
    pub(super) fn bytes(&self, row: usize) -> &'s [u8] {
        let code = self.code(row);
        let known = self.known.get(code as usize).map(|known| known.as_bytes());
        known.or_else(|| self.values.value_bytes(code)).unwrap_or_default()
    }

    /// The code of a row.
    #[inline]
    fn code(&self, row: usize) -> u32 {
        u32::try_from(self.codes.get(row)).unwrap_or(u32::MAX)
    }
}

/// The statuses of a segment's rows: decimal texts, of which each is parsed once.
pub(super) struct StatusColumn<'s> {
    keys: KeyColumn<'s>,
    /// By code; statuses of higher codes are parsed for each row.
    known: [Cell<Option<u16>>; KNOWN_STATUSES],
}

/// More different statuses are seldom in one segment.
const KNOWN_STATUSES: usize = 32;

impl<'s> StatusColumn<'s> {
    pub(super) fn new(keys: Keys<'s>) -> Self {
        Self { keys: KeyColumn::new(keys), known: [const { Cell::new(None) }; KNOWN_STATUSES] }
    }

    /// The status of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> u16 {
        let code = self.keys.code(row);
        let known = self.known.get(code as usize);
        if let Some(status) = known.and_then(Cell::get) {
            return status;
        }
        let status = status_of_bytes(self.keys.values.value_bytes(code).unwrap_or_default());
        known.inspect(|known| known.set(Some(status)));
        status
    }
}
