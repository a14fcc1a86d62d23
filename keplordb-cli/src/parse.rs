//! Times, durations and sizes as people type them.

use std::time::Duration;

use keplordb_log::Timestamp;

/// A time: RFC 3339; a date, which is its midnight in UTC; or how long ago.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Timestamp::now().before_by(ago));
    }
    let midnight = format!("{text}T00:00:00Z");
    text.parse().or_else(|_| midnight.parse()).map_err(|_| {
        "a time is written 2026-01-31T23:59:59Z, 2026-01-31, or as how long ago: 90s, 15m, 2h, 7d".to_owned()
    })
}

/// A duration: a whole number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_ms = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        })
    };
    number(text, unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| "a duration is a whole number with one of ms, s, m, h, d, w: 90s, 7d".to_owned())
}

/// A number of bytes, with a unit or none.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let unit_bytes = |unit: &str| {
        Some(match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return None,
        })
    };
    number(text, unit_bytes).ok_or_else(|| {
        "a size is a whole number, with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (of 1024), or none for bytes"
            .to_owned()
    })
}

/// A whole number times its unit; `None` if either is missing or the product is too great.
fn number(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = text.split_at(digits);
    number.parse::<u64>().ok()?.checked_mul(unit(name.trim_start())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit_or_none() {
        for (text, right) in [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("3kB", 3_000),
            ("2TB", 2_000_000_000_000),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(right), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "10 parsecs", "99999999999TiB", "18446744073709551616"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, right_ms) in
            [("250ms", 250), ("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("1w", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(right_ms)), "{text}");
        }
        for text in ["7", "d", "7 days", "7D", "", "1h30m", "99999999999999999w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_or_dates_or_how_long_ago() {
        let right = Timestamp::from_ns(1_769_904_000_000_000_000);
        for text in ["2026-02-01T00:00:00Z", "2026-02-01", "2026-02-01T01:00:00.0+01:00"] {
            assert_eq!(time(text), Ok(right), "{text}");
        }
        let (before, ago, after) = (Timestamp::now(), time("1h").unwrap(), Timestamp::now());
        let hour = Duration::from_hours(1);
        assert!(before.before_by(hour) <= ago && ago <= after.before_by(hour));
        for text in ["yesterday", "2026-02-30", "2026", "12:00", ""] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
