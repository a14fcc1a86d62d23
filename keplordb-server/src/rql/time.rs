//! Times in queries and in states: RFC 3339, or a date alone, which is midnight in UTC.

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

/// What may stand where a time does; for messages.
pub(super) const TIME: &str = "a time like \"2024-01-31T10:00:00Z\" or a date like \"2024-01-31\"";

/// Nanoseconds since the Unix epoch; `None` where the text is no time.
pub(crate) fn nanoseconds(text: &str) -> Option<i128> {
    // Most texts in states are no times; four bytes tell.
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !bytes[0].is_ascii_digit() {
        return None;
    }
    if bytes.len() == 10 {
        let midnight = text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?;
        return Some(midnight.timestamp().as_nanosecond());
    }
    Some(text.parse::<Timestamp>().ok()?.as_nanosecond())
}

/// Milliseconds since the Unix epoch, the begun one for a time between two.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    i64::try_from(nanoseconds(text)?.div_euclid(1_000_000)).ok()
}

/// As RFC 3339 has it; a time beyond the calendar's years (before -9999, after 9999) becomes the calendar's first or last.
pub(super) fn print(time_ms: i64) -> String {
    let nearest = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(time_ms).unwrap_or(nearest).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_dates() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01", Some(0)),
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01t00:00:00.0019z", Some(1)),
            ("1969-12-31T23:59:59.9999Z", Some(-1)),
            ("1970-01-01T00:00:00", None),
            ("1970-02-30", None),
            ("1970-1-1", None),
            ("today", None),
            ("", None),
            ("äääääääää", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
        for time_ms in [0, -1, 1_706_695_200_123, -62_000_000_000_000] {
            assert_eq!(milliseconds(&print(time_ms)), Some(time_ms));
        }
        for time_ms in [i64::MIN, i64::MAX] {
            assert!(!print(time_ms).is_empty());
        }
    }
}
