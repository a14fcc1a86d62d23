//! Numbers as people read them.

use std::time::Duration;

/// A count with thousands separators: `336,776`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Minutes as hours and minutes: `1:05`, `-0:18`, `56,377:12`.
pub fn hours_minutes(minutes: i64) -> String {
    let sign = if minutes < 0 { "-" } else { "" };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{}:{:02}", count(minutes / 60), minutes % 60)
}

/// How long something took, with three digits: `940 ns`, `38.2 µs`, `1.24 ms`, `2.31 s`.
pub fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    match ns {
        ..1e3 => format!("{ns} ns"),
        ..1e6 => three_digits(ns / 1e3, "µs"),
        ..1e9 => three_digits(ns / 1e6, "ms"),
        _ => three_digits(ns / 1e9, "s"),
    }
}

/// Bytes in powers of 1000: `950 B`, `12.3 MB`.
pub fn bytes(bytes: u64) -> String {
    let size = bytes as f64;
    match size {
        ..1e3 => format!("{bytes} B"),
        ..1e6 => three_digits(size / 1e3, "kB"),
        ..1e9 => three_digits(size / 1e6, "MB"),
        _ => three_digits(size / 1e9, "GB"),
    }
}

/// A share in percent: `2.45 %`; of nothing, `0.00 %`.
pub fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    format!("{share:.2} %")
}

fn three_digits(number: f64, unit: &str) -> String {
    let decimals = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_split_every_three_digits() {
        let texts = [0, 999, 1_000, 336_776, 1_000_000].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "336,776", "1,000,000"]);
    }

    #[test]
    fn minutes_become_hours_and_keep_their_sign() {
        let texts = [0, 65, -18, -60, 3_382_632].map(hours_minutes);
        assert_eq!(texts, ["0:00", "1:05", "-0:18", "-1:00", "56,377:12"]);
    }

    #[test]
    fn units_fit_the_size() {
        let texts =
            [940, 38_240, 1_240_000, 124_000_000, 2_310_000_000].map(Duration::from_nanos).map(duration);
        assert_eq!(texts, ["940 ns", "38.2 µs", "1.24 ms", "124 ms", "2.31 s"]);
        assert_eq!([950, 12_340_000].map(bytes), ["950 B", "12.3 MB"]);
        assert_eq!([percent(245, 10_000), percent(1, 0)], ["2.45 %", "0.00 %"]);
    }
}
