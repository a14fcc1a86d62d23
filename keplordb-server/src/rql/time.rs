//! Times in queries and in states: RFC 3339, or a date alone, which is midnight in UTC.

use jiff::Timestamp;
use jiff::civil::Date;

/// What may stand where a time does; for messages.
pub(super) const TIME: &str = "a time like \"2024-01-31T10:00:00Z\" or a date like \"2024-01-31\"";

/// Nanoseconds of the four years before 10,000, one of which is a leap year.
const FOUR_YEARS_NS: i128 = (4 * 365 + 1) * 86_400 * 1_000_000_000;

/// Nanoseconds since the Unix epoch of a time of RFC 3339; `None` where the text is none.
///
/// Protobuf has times up to the end of 9999, and what never ends is mostly written as that. The calendar here ends a day before, so that
/// no zone is beyond it; what is behind that is looked up four years earlier, when the days are the same.
pub(crate) fn time_ns(text: &str) -> Option<i128> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_nanosecond());
    }
    let earlier = format!("9995-{}", text.strip_prefix("9999-")?);
    Some(earlier.parse::<Timestamp>().ok()?.as_nanosecond() + FOUR_YEARS_NS)
}

/// Nanoseconds since the Unix epoch; `None` where the text is no time.
pub(crate) fn nanoseconds(text: &str) -> Option<i128> {
    // Most texts in states are no times; four bytes tell.
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !bytes[0].is_ascii_digit() {
        return None;
    }
    if bytes.len() == 10 {
        let date = text.parse::<Date>().ok()?;
        return time_ns(&format!("{date}T00:00:00Z"));
    }
    time_ns(text)
}

/// Milliseconds since the Unix epoch, the begun one for a time between two.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    i64::try_from(nanoseconds(text)?.div_euclid(1_000_000)).ok()
}

/// As RFC 3339 has it; a time beyond the calendar's years (before -9999, after 9999) becomes the calendar's first or last.
pub(super) fn print(time_ms: i64) -> String {
    if let Ok(time) = Timestamp::from_millisecond(time_ms) {
        return time.to_string();
    }
    let earlier = i64::try_from(i128::from(time_ms) - FOUR_YEARS_NS / 1_000_000).ok();
    let earlier = earlier.and_then(|earlier_ms| Timestamp::from_millisecond(earlier_ms).ok());
    match earlier.map(|earlier| earlier.to_string()).as_deref().and_then(|text| text.strip_prefix("9995-")) {
        Some(rest) => format!("9999-{rest}"),
        None => if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX }.to_string(),
    }
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
            ("9999-12-30", Some(253_402_128_000_000)),
            ("9999-12-31", Some(253_402_214_400_000)),
            ("9999-12-31T23:59:59.999999999Z", Some(253_402_300_799_999)),
            ("9999-12-31T23:59:59-14:00", Some(253_402_351_199_000)),
            ("9999-02-29", None),
            ("9999-02-29T00:00:00Z", None),
            ("1970-02-30", None),
            ("1970-1-1", None),
            ("today", None),
            ("", None),
            ("äääääääää", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
        let (calendars_last, last) = (253_402_207_200_999, 253_402_300_799_999);
        for time_ms in
            [0, -1, 1_706_695_200_123, -62_000_000_000_000, calendars_last, calendars_last + 1, last]
        {
            assert_eq!(milliseconds(&print(time_ms)), Some(time_ms));
        }
        assert_eq!(print(last), "9999-12-31T23:59:59.999Z");
        for time_ms in [i64::MIN, i64::MAX, last + 1] {
            assert!(!print(time_ms).is_empty());
        }
    }
}
