//! Decimal texts as whole numbers, exact.

/// How a number of the source becomes one of the table: times 10^`digits`, times `times`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    /// Decimals that are kept.
    pub(super) digits: u8,
    pub(super) times: i64,
    /// Whether what is finer is rounded, half away from zero; refused otherwise.
    pub(super) is_rounded: bool,
}

impl Scale {
    pub(super) const ONE: Self = Self { digits: 0, times: 1, is_rounded: false };

    /// The number of a text like `-12.50` or `1.2e3`.
    pub(super) fn of_text(self, text: &str) -> Result<i64, String> {
        let text = text.trim_ascii();
        if self == Self::ONE
            && let Ok(number) = text.parse()
        {
            return Ok(number);
        }
        if text.is_empty() {
            return Err("is empty, a number is needed".to_owned());
        }
        Decimal::parse(text)
            .ok_or("is not a number")
            .and_then(|decimal| self.apply(decimal?.mantissa, decimal?.exponent))
            .map_err(|why| format!("{} {why}", quoted(text)))
    }

    /// The number of a whole one.
    pub(super) fn of_int(self, number: i64) -> Result<i64, String> {
        self.apply(number.into(), 0).map_err(|why| format!("{number} {why}"))
    }

    fn apply(self, mantissa: i128, exponent: i64) -> Result<i64, &'static str> {
        const TOO_LARGE: &str = "does not fit a number of 64 bits";
        if mantissa == 0 {
            return Ok(0);
        }
        let scaled = mantissa.checked_mul(self.times.into()).ok_or(TOO_LARGE)?;
        let exponent = exponent + i64::from(self.digits);
        // Any power beyond 10^38 is beyond every number that fits.
        let power = |exponent: i64| 10_i128.checked_pow(u32::try_from(exponent).unwrap_or(u32::MAX));
        let whole = if exponent >= 0 {
            power(exponent).and_then(|power| scaled.checked_mul(power)).ok_or(TOO_LARGE)?
        } else {
            match power(-exponent) {
                Some(power) if scaled % power == 0 => scaled / power,
                Some(power) if self.is_rounded => {
                    let (whole, rest) = (scaled / power, scaled % power);
                    let is_half = rest.unsigned_abs() >= power.unsigned_abs() - rest.unsigned_abs();
                    whole + if is_half { scaled.signum() } else { 0 }
                }
                None if self.is_rounded => 0,
                _ => return Err("has more decimals than are kept"),
            }
        };
        i64::try_from(whole).map_err(|_| TOO_LARGE)
    }
}

/// `mantissa` · 10^`exponent`.
#[derive(Clone, Copy)]
struct Decimal {
    mantissa: i128,
    exponent: i64,
}

impl Decimal {
    /// `None` for what is no decimal number; an error for one of more than 37 digits.
    fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut decimal = Self { mantissa: 0, exponent: exponent.into() };
        // Zeros wait until a digit follows, so that `1.500…0` needs no room.
        let mut zeros = 0;
        let mut is_too_long = false;
        for (digit, is_fraction) in
            whole.bytes().map(|digit| (digit, false)).chain(fraction.bytes().map(|digit| (digit, true)))
        {
            if !digit.is_ascii_digit() {
                return None;
            }
            decimal.exponent -= i64::from(is_fraction);
            if digit == b'0' {
                zeros += 1;
                continue;
            }
            let shift = if decimal.mantissa == 0 { Some(1) } else { 10_i128.checked_pow(zeros + 1) };
            let shifted = shift
                .and_then(|shift| decimal.mantissa.checked_mul(shift)?.checked_add((digit - b'0').into()));
            is_too_long |= shifted.is_none();
            decimal.mantissa = shifted.unwrap_or(1);
            zeros = 0;
        }
        if is_too_long {
            return Some(Err("has more digits than can be read"));
        }
        decimal.exponent += i64::from(zeros);
        if negative {
            decimal.mantissa = -decimal.mantissa;
        }
        Some(Ok(decimal))
    }
}

/// A text as a message shows it: quoted, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTS: Scale = Scale { digits: 2, ..Scale::ONE };

    #[test]
    fn decimals_are_scaled_exactly() {
        let cases = [
            ("0", 0),
            ("12", 1200),
            ("12.5", 1250),
            ("-0.01", -1),
            ("+3.20", 320),
            (".5", 50),
            ("7.", 700),
            ("1e3", 100_000),
            ("125E-2", 125),
            ("1.50000000000000000000000000000000000000000000000000", 150),
            ("92233720368547758.07", i64::MAX),
            ("-92233720368547758.08", i64::MIN),
            (" 4 ", 400),
            ("0e999999999", 0),
        ];
        for (text, number) in cases {
            assert_eq!(CENTS.of_text(text), Ok(number), "{text}");
        }
        let minutes = Scale { times: 60_000, ..Scale::ONE };
        assert_eq!((minutes.of_text("0.5"), minutes.of_int(2)), (Ok(30_000), Ok(120_000)));
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_says_so() {
        let cases = [
            ("", "is empty, a number is needed"),
            ("NA", "\"NA\" is not a number"),
            ("1,5", "\"1,5\" is not a number"),
            ("--1", "\"--1\" is not a number"),
            (".", "\".\" is not a number"),
            ("1e", "\"1e\" is not a number"),
            ("NaN", "\"NaN\" is not a number"),
            ("0.001", "\"0.001\" has more decimals than are kept"),
            ("1e-99999", "\"1e-99999\" has more decimals than are kept"),
            ("92233720368547758.08", "\"92233720368547758.08\" does not fit a number of 64 bits"),
            (
                "0.123456789012345678901234567890123456789012",
                "\"0.12345678901234567890123456789012345678\"… has more digits than can be read",
            ),
            ("1e99999", "\"1e99999\" does not fit a number of 64 bits"),
        ];
        for (text, why) in cases {
            assert_eq!(CENTS.of_text(text), Err(why.to_owned()));
        }
        let long = "x".repeat(50);
        assert_eq!(CENTS.of_text(&long), Err(format!("\"{}\"… is not a number", &long[..40])));
    }

    #[test]
    fn rounding_goes_half_away_from_zero() {
        let rounded = Scale { is_rounded: true, ..CENTS };
        for (text, number) in
            [("0.005", 1), ("-0.005", -1), ("0.00499", 0), ("1.234", 123), ("-1.236", -124), ("1e-50", 0)]
        {
            assert_eq!(rounded.of_text(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn every_number_comes_back() {
        for seed in 0..5000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (number, digits) = (random.i64(..) >> random.u32(0..64), random.u8(0..12));
            let power = 10_i128.pow(digits.into());
            let (whole, rest) = (i128::from(number) / power, (i128::from(number) % power).abs());
            let sign = if number < 0 && whole == 0 { "-" } else { "" };
            let text = match digits {
                0 => whole.to_string(),
                _ => format!("{sign}{whole}.{rest:0width$}", width = digits.into()),
            };
            assert_eq!(Scale { digits, ..Scale::ONE }.of_text(&text), Ok(number), "seed {seed}");
        }
    }

    #[test]
    fn no_text_panics() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let parts = ["0", "00", "1", "9", "-", "+", ".", "e", "E", " ", "é"];
            let text: String =
                (0..random.usize(0..50)).map(|_| parts[random.usize(0..parts.len())]).collect();
            let _ = CENTS.of_text(&text);
            let _ = Scale { is_rounded: true, times: i64::MIN, digits: 18 }.of_text(&text);
        }
    }
}
