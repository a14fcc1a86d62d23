//! Times as pages write them: in UTC, to the millisecond; the script adds the reader's own time where he points at one.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::entity::Instant;

/// Milliseconds of a second, a minute, an hour, a day.
const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
/// From which delay on an event is said to have come in late.
const LATE_MS: i64 = 1_000;

/// A time as in RFC 3339; in milliseconds where the calendar does not reach.
pub(super) fn iso(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => time_ms.to_string(),
    }
}

/// As the field for a date and a time has it; nothing where the calendar of forms does not reach.
pub(super) fn of_field(time_ms: i64) -> Option<String> {
    iso(time_ms)
        .strip_suffix('Z')
        .filter(|time| time.len() == "2024-01-31T10:00:00.000".len())
        .map(str::to_owned)
}

/// In words, for a person who must not overlook it.
pub(super) fn in_words(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.strftime("%A, %-d %B %Y, %H:%M:%S%.3f UTC").to_string(),
        Err(_) => format!("{time_ms} ms from 1970"),
    }
}

/// An instant in words.
pub(super) fn instant_in_words(instant: Instant) -> Option<String> {
    match (instant.as_of_ms, instant.known_at_ms) {
        (None, None) => None,
        (Some(as_of_ms), None) => Some(format!("as it was on {}", in_words(as_of_ms))),
        (None, Some(known_at_ms)) => Some(format!("as it was known on {}", in_words(known_at_ms))),
        (Some(as_of_ms), Some(known_at_ms)) => Some(format!(
            "as it was on {}, by what was known on {}",
            in_words(as_of_ms),
            in_words(known_at_ms)
        )),
    }
}

/// An instant as it stands in a title: `at 2024-01-01`.
pub(super) fn instant_in_title(instant: Instant) -> Option<String> {
    let short = |time_ms| {
        let iso = iso(time_ms);
        iso.strip_suffix("T00:00:00.000Z").map_or_else(|| iso.clone(), str::to_owned)
    };
    match (instant.as_of_ms, instant.known_at_ms) {
        (None, None) => None,
        (Some(as_of_ms), None) => Some(format!("at {}", short(as_of_ms))),
        (None, Some(known_at_ms)) => Some(format!("known at {}", short(known_at_ms))),
        (Some(as_of_ms), Some(known_at_ms)) => {
            Some(format!("at {}, known at {}", short(as_of_ms), short(known_at_ms)))
        }
    }
}

/// A time in a page.
pub(super) fn time(time_ms: i64) -> Markup {
    let iso = iso(time_ms);
    // It may break where the day ends, and nowhere else.
    html! {
        @if let Some((day, time)) = iso.split_once('T') { time datetime=(iso) { (day) "T" wbr; (time) } }
        @else { (iso) " ms" }
    }
}

/// How long something took, to two units: `3 d 4 h`.
pub(super) fn span(span_ms: i64) -> String {
    let mut left = span_ms.unsigned_abs();
    let mut parts = Vec::new();
    for (unit_ms, name) in UNITS {
        let count = left / unit_ms.unsigned_abs();
        left %= unit_ms.unsigned_abs();
        if count > 0 || !parts.is_empty() {
            parts.push(format!("{count} {name}"));
        }
    }
    if parts.is_empty() {
        return format!("{left} ms");
    }
    parts.truncate(2);
    parts.retain(|part| !part.starts_with("0 "));
    parts.join(" ")
}

/// How much later than it happened an event came in; nothing where that is as soon as usual.
pub(super) fn gap(event_time_ms: i64, received_at_ms: i64) -> Option<String> {
    let gap_ms = received_at_ms.saturating_sub(event_time_ms);
    if gap_ms >= LATE_MS {
        Some(format!("{} later", span(gap_ms)))
    } else if gap_ms <= -LATE_MS {
        Some(format!("{} before it happened", span(gap_ms)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_millisecond() {
        assert_eq!(iso(1_704_067_200_000), "2024-01-01T00:00:00.000Z");
        assert_eq!(iso(i64::MAX), i64::MAX.to_string());
        assert_eq!(of_field(1_704_067_200_001).as_deref(), Some("2024-01-01T00:00:00.001"));
        assert_eq!(of_field(i64::MIN), None);
        assert_eq!(in_words(1_704_067_200_001), "Monday, 1 January 2024, 00:00:00.001 UTC");
        let at = Instant { as_of_ms: Some(1_704_067_200_000), known_at_ms: None };
        assert_eq!(instant_in_title(at).as_deref(), Some("at 2024-01-01"));
        assert_eq!(
            time(0).into_string(),
            "<time datetime=\"1970-01-01T00:00:00.000Z\">1970-01-01T<wbr>00:00:00.000Z</time>"
        );
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (61_000, "1 min 1 s"),
            (86_400_000, "1 d"),
            (90_061_000, "1 d 1 h"),
            (i64::MIN, "106751991167 d 7 h"),
        ];
        for (span_ms, text) in cases {
            assert_eq!(span(span_ms), text, "{span_ms}");
        }
        assert_eq!(gap(0, 999), None);
        assert_eq!(gap(0, 2000).as_deref(), Some("2 s later"));
        assert_eq!(gap(2000, 0).as_deref(), Some("2 s before it happened"));
    }
}
