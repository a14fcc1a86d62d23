//! Numbers, sizes, durations and shares as people read them.

/// What `1,000` of a unit is, the largest first.
const PREFIXES: [(&str, f64); 6] =
    [("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)];
/// From here on a number would be rounded to 1000 of its unit, and gets the next one.
const NEXT_PREFIX: f64 = 0.9995;
/// Between a number and its unit; no line breaks there.
const GAP: char = '\u{a0}';

const MS_PER_SECOND: f64 = 1_000.0;
const MS_PER_MINUTE: f64 = 60_000.0;
const MS_PER_HOUR: f64 = 3_600_000.0;
const MS_PER_DAY: f64 = 86_400_000.0;

/// All digits, with thousands separators: `-336,776`.
pub(super) fn whole(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With two digits behind the point, if it has any: `1,039.91`.
pub(super) fn decimal(number: f64) -> String {
    let text = format!("{:.2}", number.abs());
    let (digits, decimals) = text.split_once('.').unwrap_or((&text, "00"));
    // A mean lies between values, which fit; what does not is shown as it is.
    let digits = digits.parse::<i128>().map_or_else(|_| digits.to_owned(), whole);
    let sign = if number < 0.0 && text != "0.00" { "-" } else { "" };
    if decimals == "00" { format!("{sign}{digits}") } else { format!("{sign}{digits}.{decimals}") }
}

/// So many of something: `1 event`, `2,000 events`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{}{GAP}{}", whole(number), if number == 1 { one } else { many })
}

/// Three digits: `337k`, `-1.5M`, `0.25`.
pub(super) fn short(number: f64) -> String {
    let (number, prefix) = prefixed(number);
    format!("{}{prefix}", three_digits(number))
}

/// A size in powers of 1000: `812 bytes`, `5.41 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    match prefixed(bytes as f64) {
        (_, "") => counted(bytes, "byte", "bytes"),
        (number, prefix) => format!("{}{GAP}{prefix}B", three_digits(number)),
    }
}

/// A duration in the unit that suits it: `250 ms`, `1.25 s`, `129 min`, `3.5 h`, `12 d`.
pub(super) fn duration_ms(duration_ms: f64) -> String {
    duration_as(duration_ms, duration_ms)
}

/// A duration in the unit that suits another, in milliseconds both: so all marks of an axis have the same.
pub(super) fn duration_as(duration_ms: f64, suited_ms: f64) -> String {
    let (unit_ms, unit) = match suited_ms.abs() {
        ms if ms < MS_PER_SECOND * NEXT_PREFIX => (1.0, "ms"),
        // Up to two or three of the next unit people count in the smaller one.
        ms if ms < 2.0 * MS_PER_MINUTE => (MS_PER_SECOND, "s"),
        ms if ms < 3.0 * MS_PER_HOUR => (MS_PER_MINUTE, "min"),
        ms if ms < 3.0 * MS_PER_DAY => (MS_PER_HOUR, "h"),
        _ => (MS_PER_DAY, "d"),
    };
    format!("{}{GAP}{unit}", three_digits(duration_ms / unit_ms))
}

/// A part of a whole: `12.3 %`. What is not nothing is not called so, and what is not all neither.
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    match percent {
        _ if part == 0 => format!("0{GAP}%"),
        _ if part == whole => format!("100{GAP}%"),
        percent if percent < 0.05 => format!("<{GAP}0.1{GAP}%"),
        percent if percent >= 99.95 => format!(">{GAP}99.9{GAP}%"),
        percent => format!("{percent:.1}{GAP}%"),
    }
}

fn prefixed(number: f64) -> (f64, &'static str) {
    let size = number.abs();
    let found = PREFIXES.iter().find(|(_, factor)| size >= factor * NEXT_PREFIX);
    found.map_or((number, ""), |(prefix, factor)| (number / factor, prefix))
}

/// Rounded to three digits, without zeros behind the point.
fn three_digits(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With plain spaces, to be written down.
    fn plain(text: &str) -> String {
        text.replace(GAP, " ")
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        assert_eq!([whole(0), whole(-1234), whole(1_000_000)], ["0", "-1,234", "1,000,000"]);
        assert_eq!(whole(i128::from(u64::MAX) + 1), "18,446,744,073,709,551,616");
        assert_eq!(whole(i128::MIN).len(), 1 + 39 + 12);
    }

    #[test]
    fn decimals_are_shown_where_there_are_some() {
        let texts = [0.0, -0.001, 6.895, -1_039.911, 12_000.0, 1e40].map(decimal);
        assert_eq!(texts[..5], ["0", "0", "6.89", "-1,039.91", "12,000"]);
        assert_eq!(texts[5].len(), 41);
    }

    #[test]
    fn short_numbers_have_three_digits() {
        let texts =
            [0.0, 0.25, 7.0, 999.0, 1_000.0, 1_500.0, 12_345.0, 336_776.0, 999_600.0, -2e6].map(short);
        assert_eq!(texts, ["0", "0.25", "7", "999", "1k", "1.5k", "12.3k", "337k", "1M", "-2M"]);
    }

    #[test]
    fn sizes_and_durations_have_the_unit_that_suits_them() {
        let sizes = [0, 1, 812, 1_000, 5_412_000, u64::MAX].map(|size| plain(&bytes(size)));
        assert_eq!(sizes, ["0 bytes", "1 byte", "812 bytes", "1 kB", "5.41 MB", "18.4 EB"]);
        let durations = [0.0, 250.0, 999.9, 1_250.0, 60_000.0, 7_740_000.0, 12_600_000.0, 4_294_967_295.0];
        let durations = durations.map(|ms| plain(&duration_ms(ms)));
        assert_eq!(durations, ["0 ms", "250 ms", "1 s", "1.25 s", "60 s", "129 min", "3.5 h", "49.7 d"]);
    }

    #[test]
    fn shares_are_nothing_or_all_only_where_they_are() {
        let shares = [(0, 0), (0, 7), (7, 7), (1, 1_000_000), (999_999, 1_000_000), (1_999, 2_000), (1, 8)];
        let shares = shares.map(|(part, whole)| plain(&share(part, whole)));
        assert_eq!(shares, ["0 %", "0 %", "100 %", "< 0.1 %", "> 99.9 %", "> 99.9 %", "12.5 %"]);
    }
}
