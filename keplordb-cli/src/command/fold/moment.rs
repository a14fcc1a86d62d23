//! A moment of a history as people type it: a number of events, a position, or a time.

use anyhow::Result;
use keplordb_fold::Position;
use keplordb_log::Timestamp;

use super::source::Source;
use crate::parse;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Moment {
    /// When so many events had happened.
    Sequence(u64),
    /// When the text of a generation was so long.
    Position(Position),
    /// When it was that time.
    Time(Timestamp),
}

/// Reads a moment.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(sequence) = text.parse() {
        return Ok(Moment::Sequence(sequence));
    }
    if let Some((generation, offset)) = text.split_once(':')
        && let (Ok(generation), Ok(offset)) = (generation.parse(), offset.parse())
    {
        return Ok(Moment::Position(Position { generation, offset }));
    }
    parse::time(text).map(Moment::Time).map_err(|_| {
        "a moment is a number of events (5120), a position (2:1284: generation and byte), or a time: 2026-01-31T23:59:59Z, 2026-01-31, \
         or how long ago: 90s, 15m, 2h, 7d"
            .to_owned()
    })
}

impl Moment {
    /// How many events had happened, where no event need be read for that.
    pub(super) fn sequence(self, source: &Source) -> Result<Option<u64>> {
        match self {
            Self::Sequence(sequence) => Ok(Some(sequence)),
            Self::Position(position) => {
                source.reader.seq_of(position).map(Some).map_err(|error| source.explained(error))
            }
            Self::Time(_) => Ok(None),
        }
    }

    /// Whether an event of that time, in seconds, comes after it; never of a moment that is no time.
    pub(super) fn is_before(self, ts: u64) -> bool {
        matches!(self, Self::Time(time) if i128::from(ts) * 1_000_000_000 > i128::from(time.as_ns()))
    }

    /// Whether an event of that time, in seconds, comes before it; never of a moment that is no time.
    pub(super) fn is_behind(self, ts: u64) -> bool {
        matches!(self, Self::Time(time) if i128::from(ts) * 1_000_000_000 < i128::from(time.as_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_numbers_positions_or_times() {
        let time = |text: &str| Moment::Time(text.parse().unwrap());
        for (text, right) in [
            ("5120", Moment::Sequence(5120)),
            ("0", Moment::Sequence(0)),
            ("2:1284", Moment::Position(Position { generation: 2, offset: 1284 })),
            ("2026-02-01", time("2026-02-01T00:00:00Z")),
            ("2026-02-01T08:00:00Z", time("2026-02-01T08:00:00Z")),
        ] {
            assert_eq!(moment(text), Ok(right), "{text}");
        }
        assert!(matches!(moment("2h"), Ok(Moment::Time(_))));
        for text in ["", "-1", "1:2:3", ":5", "5:", "yesterday", "18446744073709551616"] {
            assert!(moment(text).unwrap_err().starts_with("a moment is a number of events"), "{text}");
        }
    }

    #[test]
    fn a_time_is_compared_exactly_with_whole_seconds() {
        let at = |text: &str| Moment::Time(text.parse().unwrap());
        let second = at("1970-01-01T00:00:07Z");
        assert_eq!([6, 7, 8].map(|ts| second.is_before(ts)), [false, false, true]);
        assert_eq!([6, 7, 8].map(|ts| second.is_behind(ts)), [true, false, false]);
        let between = at("1970-01-01T00:00:07.5Z");
        assert_eq!(
            [7, 8].map(|ts| (between.is_behind(ts), between.is_before(ts))),
            [(true, false), (false, true)]
        );
        assert!(second.is_before(u64::MAX));
        assert!(!Moment::Sequence(3).is_before(9) && !Moment::Sequence(3).is_behind(1));
    }
}
