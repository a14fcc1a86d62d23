//! Times of the source as nanoseconds since the Unix epoch.

use jiff::Timestamp;
use jiff::fmt::{strtime, temporal::DateTimeParser};
use jiff::tz::TimeZone;

use super::error::ImportError;
use super::number::{Scale, quoted};

/// How a source writes its times.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeFormat {
    /// Seconds since the Unix epoch, with up to nine decimals.
    Seconds,
    /// Milliseconds since the Unix epoch, with up to six decimals.
    Millis,
    /// Microseconds since the Unix epoch, with up to three decimals.
    Micros,
    /// Nanoseconds since the Unix epoch.
    Nanos,
    /// As `2013-01-01T10:15:00Z` or `2013-01-01 10:15:00.25+01:00`: with an offset from UTC.
    Rfc3339,
    /// As a pattern of `strftime` says: `%Y-%m-%d %H:%M:%S%.f`. The conversions are those of
    /// [`jiff`](https://docs.rs/jiff/0.2/jiff/fmt/strtime/index.html).
    Strftime {
        /// The pattern.
        pattern: String,
        /// The zone of times without an offset or a zone, like `Europe/Berlin`, `UTC` or `+02:00`; needed unless the pattern has `%z`, `%:z`,
        /// `%Q` or `%s`. Of an hour that a clock shows twice, the first is taken; a time that it leaves out is moved behind the gap.
        zone: Option<String>,
    },
}

impl TimeFormat {
    /// A pattern of `strftime` for times in a zone.
    pub fn strftime(pattern: impl Into<String>, zone: impl Into<String>) -> Self {
        Self::Strftime { pattern: pattern.into(), zone: Some(zone.into()) }
    }
}

/// Why a time is refused that is none of 64 bits of nanoseconds.
pub(super) const OUT_OF_RANGE: &str = "the time is not between the years 1677 and 2262";

/// A [`TimeFormat`] made ready.
#[derive(Debug)]
pub(super) enum TimeReader {
    Epoch(Scale),
    Rfc3339,
    Strftime { pattern: String, zone: Option<TimeZone> },
}

impl TimeReader {
    pub(super) fn new(format: &TimeFormat) -> Result<Self, ImportError> {
        let epoch = |digits| Self::Epoch(Scale { digits, ..Scale::ONE });
        Ok(match format {
            TimeFormat::Seconds => epoch(9),
            TimeFormat::Millis => epoch(6),
            TimeFormat::Micros => epoch(3),
            TimeFormat::Nanos => epoch(0),
            TimeFormat::Rfc3339 => Self::Rfc3339,
            TimeFormat::Strftime { pattern, zone } => Self::Strftime {
                pattern: pattern.clone(),
                zone: zone.as_deref().map(zone_named).transpose()?,
            },
        })
    }

    pub(super) fn of_text(&self, text: &str) -> Result<i64, String> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err("is empty, a time is needed".to_owned());
        }
        let time = match self {
            Self::Epoch(scale) => return scale.of_text(text),
            Self::Rfc3339 => text.parse::<Timestamp>(),
            Self::Strftime { pattern, zone } => strtime::parse(pattern, text).and_then(|parts| match zone {
                _ if parts.iana_time_zone().is_some() => parts.to_zoned().map(|time| time.timestamp()),
                Some(zone) if parts.offset().is_none() && parts.timestamp().is_none() => {
                    zone.to_ambiguous_timestamp(parts.to_datetime()?).compatible()
                }
                _ => parts.to_timestamp(),
            }),
        };
        let time = time.map_err(|why| format!("{} is not such a time: {why}", quoted(text)))?;
        i64::try_from(time.as_nanosecond())
            .map_err(|_| format!("{} is not between the years 1677 and 2262", quoted(text)))
    }

    /// Of a time that is a number but has no zone: what a clock shows, in nanoseconds since it showed the beginning of 1970.
    pub(super) fn of_clock(&self, clock_ns: i64) -> Result<i64, String> {
        let Self::Strftime { zone: Some(zone), .. } = self else { return Ok(clock_ns) };
        let time = Timestamp::from_nanosecond(clock_ns.into())
            .and_then(|utc| zone.to_ambiguous_timestamp(TimeZone::UTC.to_datetime(utc)).compatible());
        let ts_ns = time.ok().and_then(|time| i64::try_from(time.as_nanosecond()).ok());
        ts_ns.ok_or_else(|| OUT_OF_RANGE.to_owned())
    }

    pub(super) fn of_int(&self, number: i64) -> Result<i64, String> {
        match self {
            Self::Epoch(scale) => scale.of_int(number),
            _ => Err(format!("{number} is a number, and not such a time")),
        }
    }
}

fn zone_named(name: &str) -> Result<TimeZone, ImportError> {
    let zone = match name {
        "UTC" | "Z" => Ok(TimeZone::UTC),
        _ => DateTimeParser::new().parse_time_zone(name),
    };
    zone.map_err(|why| ImportError::Mapping {
        what: format!(
            "the time zone {name:?} is not known ({why}); name one like Europe/Berlin, UTC or +02:00"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_357_041_600_000_000_000;

    fn read(format: &TimeFormat, text: &str) -> Result<i64, String> {
        TimeReader::new(format).unwrap().of_text(text)
    }

    #[test]
    fn times_of_every_format_are_the_same_moment() {
        let pattern = "%d.%m.%Y %H:%M:%S";
        let cases = [
            (TimeFormat::Seconds, "1357041600"),
            (TimeFormat::Seconds, "1357041600.000"),
            (TimeFormat::Millis, "1357041600000"),
            (TimeFormat::Micros, "1357041600000000"),
            (TimeFormat::Nanos, " 1357041600000000000"),
            (TimeFormat::Rfc3339, "2013-01-01T12:00:00Z"),
            (TimeFormat::Rfc3339, "2013-01-01 13:00:00.000+01:00"),
            (TimeFormat::strftime(pattern, "UTC"), "01.01.2013 12:00:00"),
            (TimeFormat::strftime(pattern, "+02:00"), "01.01.2013 14:00:00"),
            (TimeFormat::strftime(pattern, "Europe/Berlin"), "01.01.2013 13:00:00"),
            (TimeFormat::strftime("%F %T %z", "Europe/Berlin"), "2013-01-01 07:00:00 -0500"),
            (TimeFormat::Strftime { pattern: "%F %T %:z".into(), zone: None }, "2013-01-01 07:00:00 -05:00"),
            (TimeFormat::strftime("%F %T %Q", "UTC"), "2013-01-01 07:00:00 America/New_York"),
            (TimeFormat::strftime("%F %T %Q", "Europe/Berlin"), "2013-01-01 07:00:00 -0500"),
            (
                TimeFormat::Strftime { pattern: "%F %T %Q".into(), zone: None },
                "2013-01-01 13:00:00 Europe/Berlin",
            ),
        ];
        for (format, text) in cases {
            assert_eq!(read(&format, text), Ok(NOON), "{format:?} {text}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_the_first_and_one_that_is_missing_is_moved() {
        let berlin = TimeFormat::strftime("%F %T", "Europe/Berlin");
        let utc = |text: &str| read(&TimeFormat::Rfc3339, text);
        assert_eq!(read(&berlin, "2013-10-27 02:30:00"), utc("2013-10-27T00:30:00Z"));
        assert_eq!(read(&berlin, "2013-03-31 02:30:00"), utc("2013-03-31T01:30:00Z"));
    }

    #[test]
    fn what_is_no_time_says_so() {
        let cases = [
            (TimeFormat::Rfc3339, "", "is empty, a time is needed"),
            (TimeFormat::Rfc3339, "yesterday", "\"yesterday\" is not such a time: "),
            (TimeFormat::Rfc3339, "2013-02-30T00:00:00Z", "\"2013-02-30T00:00:00Z\" is not such a time: "),
            (TimeFormat::Rfc3339, "2013-02-03T00:00:00", "\"2013-02-03T00:00:00\" is not such a time: "),
            (
                TimeFormat::Rfc3339,
                "3013-01-01T00:00:00Z",
                "\"3013-01-01T00:00:00Z\" is not between the years",
            ),
            (TimeFormat::Seconds, "1e30", "\"1e30\" does not fit a number of 64 bits"),
            (TimeFormat::strftime("%F", "UTC"), "2013-13-01", "\"2013-13-01\" is not such a time: "),
        ];
        for (format, text, why) in cases {
            let found = read(&format, text).unwrap_err();
            assert!(found.starts_with(why), "{text}: {found}");
        }
        let unknown = TimeReader::new(&TimeFormat::strftime("%F", "Europe/Atlantis")).unwrap_err();
        assert!(
            unknown
                .to_string()
                .starts_with("the mapping is not legal: the time zone \"Europe/Atlantis\" is not")
        );
    }
}
