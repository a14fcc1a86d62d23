//! Which columns of a row are read: those of a segment that are not are never opened.

use crate::expr::{KeyColumn, NumberColumn};

/// A set of columns that are opened before a row is handed out. Ids and labels are none of them: each is opened when a
/// row is first asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSet {
    /// A bit for each built-in column.
    built_in: u8,
    /// A bit for each counter; a table has 64 at most.
    counters: u64,
    /// A bit for each dim; a table has 256 at most.
    dims: [u64; 4],
}

/// The bit of the status among the built-in columns; those before it are numbers.
const STATUS: u32 = 6;

impl ColumnSet {
    /// No column.
    pub(crate) const NONE: Self = Self { built_in: 0, counters: 0, dims: [0; 4] };
    /// Every column that the table has.
    pub(crate) const ALL: Self = Self { built_in: u8::MAX, counters: u64::MAX, dims: [u64::MAX; 4] };

    pub(crate) fn insert_number(&mut self, column: NumberColumn) {
        match column {
            NumberColumn::Counter(counter) => self.counters |= bit(counter),
            column => self.built_in |= 1 << place_of(column),
        }
    }

    pub(crate) fn insert_key(&mut self, column: KeyColumn) {
        match column {
            KeyColumn::Status => self.built_in |= 1 << STATUS,
            KeyColumn::Dim(dim) => {
                if let Some(word) = self.dims.get_mut(dim / 64) {
                    *word |= bit(dim % 64);
                }
            }
        }
    }

    pub(crate) fn has_number(&self, column: NumberColumn) -> bool {
        match column {
            NumberColumn::Counter(counter) => self.counters & bit(counter) != 0,
            column => self.built_in >> place_of(column) & 1 == 1,
        }
    }

    pub(crate) fn has_key(&self, column: KeyColumn) -> bool {
        match column {
            KeyColumn::Status => self.built_in >> STATUS & 1 == 1,
            KeyColumn::Dim(dim) => self.dims.get(dim / 64).is_some_and(|word| word & bit(dim % 64) != 0),
        }
    }
}

/// The bit of a number that every table has. Counters have their own.
fn place_of(column: NumberColumn) -> u32 {
    match column {
        NumberColumn::Time => 0,
        NumberColumn::Sequence => 1,
        NumberColumn::Metric => 2,
        NumberColumn::Latency => 3,
        NumberColumn::LatencyDetail => 4,
        NumberColumn::Flags | NumberColumn::Counter(_) => 5,
    }
}

/// None beyond the last place.
fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_exactly_what_was_put_into_it() {
        let numbers = [
            NumberColumn::Time,
            NumberColumn::Sequence,
            NumberColumn::Metric,
            NumberColumn::Latency,
            NumberColumn::LatencyDetail,
            NumberColumn::Flags,
            NumberColumn::Counter(0),
            NumberColumn::Counter(63),
        ];
        let keys = [
            KeyColumn::Status,
            KeyColumn::Dim(0),
            KeyColumn::Dim(63),
            KeyColumn::Dim(64),
            KeyColumn::Dim(255),
        ];
        for column in numbers {
            let mut set = ColumnSet::NONE;
            set.insert_number(column);
            assert!(numbers.iter().all(|other| set.has_number(*other) == (*other == column)));
            assert!(!keys.iter().any(|key| set.has_key(*key)) && ColumnSet::ALL.has_number(column));
        }
        for column in keys {
            let mut set = ColumnSet::NONE;
            set.insert_key(column);
            assert!(keys.iter().all(|other| set.has_key(*other) == (*other == column)));
            assert!(!numbers.iter().any(|number| set.has_number(*number)) && ColumnSet::ALL.has_key(column));
        }
    }
}
