//! Times as people read them, in UTC; how wide the buckets of a chart along time are, and where its axis has marks.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

const US_NS: i64 = 1_000;
const MS_NS: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const DAY_NS: i64 = 24 * HOUR_NS;
const WEEK_NS: i64 = 7 * DAY_NS;
/// The Unix epoch was a Thursday; weeks begin on the Monday after it.
const MONDAY_NS: i64 = 4 * DAY_NS;

/// The most bars a chart has: on a phone each still has two points.
const BUCKETS_MAX: i128 = 120;

/// How wide buckets may be. None is wider than four times the one before, so of the first that needs no more than 120 there are at
/// least 30, unless the narrowest is too wide. Years and months differ in length and are none: bars of one chart would not compare.
#[rustfmt::skip]
const WIDTHS_NS: [i64; 48] = [
    US_NS, 2 * US_NS, 5 * US_NS, 10 * US_NS, 20 * US_NS, 50 * US_NS, 100 * US_NS, 200 * US_NS, 500 * US_NS,
    MS_NS, 2 * MS_NS, 5 * MS_NS, 10 * MS_NS, 20 * MS_NS, 50 * MS_NS, 100 * MS_NS, 200 * MS_NS, 500 * MS_NS,
    SECOND_NS, 2 * SECOND_NS, 5 * SECOND_NS, 10 * SECOND_NS, 15 * SECOND_NS, 30 * SECOND_NS,
    MINUTE_NS, 2 * MINUTE_NS, 5 * MINUTE_NS, 10 * MINUTE_NS, 15 * MINUTE_NS, 20 * MINUTE_NS, 30 * MINUTE_NS,
    HOUR_NS, 2 * HOUR_NS, 3 * HOUR_NS, 4 * HOUR_NS, 6 * HOUR_NS, 8 * HOUR_NS, 12 * HOUR_NS,
    DAY_NS, 2 * DAY_NS,
    WEEK_NS, 2 * WEEK_NS, 4 * WEEK_NS, 13 * WEEK_NS, 26 * WEEK_NS, 52 * WEEK_NS, 208 * WEEK_NS, 520 * WEEK_NS,
];

/// Where spans of a width begin: weeks on Mondays, all others with the Unix epoch.
fn offset_ns(width_ns: i64) -> i64 {
    if width_ns % WEEK_NS == 0 { MONDAY_NS } else { 0 }
}

/// The spans of equal width that times are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    pub(crate) width_ns: i64,
    /// A bucket begins here.
    pub(crate) offset_ns: i64,
    /// The number of the first one, counted from the offset.
    first: i128,
    count: usize,
}

impl Buckets {
    /// Those between two times, both inclusive: 30 to 120, or fewer where a microsecond is too long.
    pub(crate) fn between(first_ns: i64, last_ns: i64) -> Self {
        let last_ns = last_ns.max(first_ns);
        let numbers = |width_ns: i64| {
            let number = |ts_ns: i64| {
                (i128::from(ts_ns) - i128::from(offset_ns(width_ns))).div_euclid(width_ns.into())
            };
            (number(first_ns), number(last_ns))
        };
        let fits = |width_ns: &i64| {
            let (first, last) = numbers(*width_ns);
            last - first < BUCKETS_MAX
        };
        // All 584 years that there are take 60 of the widest.
        let width_ns = WIDTHS_NS.into_iter().find(fits).unwrap_or(520 * WEEK_NS);
        let (first, last) = numbers(width_ns);
        let count = usize::try_from(last - first + 1).unwrap_or(1);
        Self { width_ns, offset_ns: offset_ns(width_ns), first, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The bucket of a time; of one that lies outside, the nearest.
    pub(crate) fn place(&self, ts_ns: i64) -> usize {
        let number = (i128::from(ts_ns) - i128::from(self.offset_ns)).div_euclid(self.width_ns.into());
        usize::try_from(number - self.first).unwrap_or(0).min(self.count - 1)
    }

    /// When a bucket begins.
    pub(super) fn start(&self, place: usize) -> i64 {
        let start = i128::from(self.offset_ns) + (self.first + place as i128) * i128::from(self.width_ns);
        i64::try_from(start).unwrap_or(if start < 0 { i64::MIN } else { i64::MAX })
    }

    /// From the beginning of the first to the end of the last.
    pub(super) fn range(&self) -> Range {
        Range { from_ns: self.start(0), to_ns: self.start(self.count) }
    }

    /// When a bucket begins, as exactly as its width needs it.
    pub(super) fn label(&self, place: usize) -> String {
        let start = civil(self.start(place));
        let width_ns = self.width_ns;
        match width_ns {
            DAY_NS.. => date(start),
            MINUTE_NS.. => format!("{} {}", date(start), hours_minutes(start)),
            SECOND_NS.. => format!("{} {}:{:02}", date(start), hours_minutes(start), start.second()),
            MS_NS.. => format!(
                "{} {}:{:02}.{:03}",
                date(start),
                hours_minutes(start),
                start.second(),
                i64::from(start.subsec_nanosecond()) / MS_NS
            ),
            _ => format!(
                "{} {}:{:02}.{:06}",
                date(start),
                hours_minutes(start),
                start.second(),
                i64::from(start.subsec_nanosecond()) / US_NS
            ),
        }
    }

    /// As behind "every": `15 minutes`, `week`.
    pub(super) fn every(&self) -> String {
        let width = self.width();
        match width.strip_prefix("1 ") {
            Some(unit) => unit.to_owned(),
            None => width,
        }
    }

    /// How wide they are: `15 minutes`, `1 week`.
    pub(super) fn width(&self) -> String {
        const UNITS: [(i64, &str); 7] = [
            (WEEK_NS, "week"),
            (DAY_NS, "day"),
            (HOUR_NS, "hour"),
            (MINUTE_NS, "minute"),
            (SECOND_NS, "second"),
            (MS_NS, "millisecond"),
            (US_NS, "microsecond"),
        ];
        let unit = UNITS.into_iter().find(|(unit_ns, _)| self.width_ns % unit_ns == 0);
        let (unit_ns, name) = unit.unwrap_or((1, "nanosecond"));
        let number = self.width_ns / unit_ns;
        format!("{number} {name}{}", if number == 1 { "" } else { "s" })
    }
}

/// The times that an axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

/// A mark of an axis of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    pub(super) ts_ns: i64,
    pub(super) label: String,
}

/// From one mark to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stride {
    Ns(i64),
    Months(i32),
}

#[rustfmt::skip]
const STRIDES: [Stride; 54] = {
    use Stride::{Months, Ns};
    [
        Ns(US_NS), Ns(2 * US_NS), Ns(5 * US_NS), Ns(10 * US_NS), Ns(20 * US_NS), Ns(50 * US_NS), Ns(100 * US_NS),
        Ns(200 * US_NS), Ns(500 * US_NS),
        Ns(MS_NS), Ns(2 * MS_NS), Ns(5 * MS_NS), Ns(10 * MS_NS), Ns(20 * MS_NS), Ns(50 * MS_NS), Ns(100 * MS_NS),
        Ns(200 * MS_NS), Ns(500 * MS_NS),
        Ns(SECOND_NS), Ns(2 * SECOND_NS), Ns(5 * SECOND_NS), Ns(10 * SECOND_NS), Ns(15 * SECOND_NS), Ns(30 * SECOND_NS),
        Ns(MINUTE_NS), Ns(2 * MINUTE_NS), Ns(5 * MINUTE_NS), Ns(10 * MINUTE_NS), Ns(15 * MINUTE_NS), Ns(30 * MINUTE_NS),
        Ns(HOUR_NS), Ns(2 * HOUR_NS), Ns(3 * HOUR_NS), Ns(6 * HOUR_NS), Ns(12 * HOUR_NS),
        Ns(DAY_NS), Ns(2 * DAY_NS), Ns(4 * DAY_NS), Ns(WEEK_NS), Ns(2 * WEEK_NS),
        Months(1), Months(2), Months(3), Months(6),
        Months(12), Months(24), Months(60), Months(120), Months(240), Months(600), Months(1200), Months(2400), Months(6000),
        Months(12_000),
    ]
};

impl Range {
    /// Where a time lies, from 0 to 1.
    pub(super) fn share(self, ts_ns: i64) -> f64 {
        let width = i128::from(self.to_ns) - i128::from(self.from_ns);
        if width <= 0 {
            return 0.5;
        }
        let into = i128::from(ts_ns) - i128::from(self.from_ns);
        (into as f64 / width as f64).clamp(0.0, 1.0)
    }

    /// At most so many marks, at beginnings of hours, days, months or years, as close as they fit.
    pub(super) fn marks(self, most: usize) -> Vec<Mark> {
        let times = STRIDES.into_iter().find_map(|stride| Some((stride, self.times(stride, most)?)));
        let Some((stride, times)) = times else { return Vec::new() };
        let mut last_year = None;
        let labelled = times.into_iter().map(|ts_ns| {
            let time = civil(ts_ns);
            // A year is said where it begins to hold; one that hardly shows is not.
            let year = (last_year != Some(time.year())).then_some(time.year());
            last_year = Some(time.year());
            Mark { ts_ns, label: stride.label(time, year) }
        });
        labelled.collect()
    }

    /// The multiples of a stride that lie in the range; `None` if there are more than so many.
    fn times(self, stride: Stride, most: usize) -> Option<Vec<i64>> {
        let (from, to) = (i128::from(self.from_ns), i128::from(self.to_ns));
        let mut times = Vec::new();
        match stride {
            Stride::Ns(width_ns) => {
                let (width, offset) = (i128::from(width_ns), i128::from(offset_ns(width_ns)));
                if (to - from) / width > most as i128 {
                    return None;
                }
                let mut at = offset + (from - offset).div_euclid(width) * width;
                while at <= to {
                    if at >= from {
                        times.push(i64::try_from(at).ok()?);
                    }
                    at += width;
                }
            }
            Stride::Months(months) => {
                let first = civil(self.from_ns);
                let month = i32::from(first.year()) * 12 + i32::from(first.month()) - 1;
                let mut month = month.div_euclid(months) * months;
                while let Some(at) = month_ns(month).filter(|at| *at <= to) {
                    if at >= from {
                        times.push(i64::try_from(at).ok()?);
                    }
                    if times.len() > most {
                        return None;
                    }
                    month += months;
                }
            }
        }
        (times.len() <= most).then_some(times)
    }
}

impl Stride {
    /// What stands at a mark; with the year, if it is the first mark of one.
    fn label(self, time: DateTime, year: Option<i16>) -> String {
        let day = || format!("{} {}", time.day(), month_name(time));
        match self {
            Self::Ns(width_ns) if width_ns < MS_NS => {
                format!("{}.{:06} s", time.second(), i64::from(time.subsec_nanosecond()) / US_NS)
            }
            Self::Ns(width_ns) if width_ns < SECOND_NS => {
                format!("{}.{:03} s", time.second(), i64::from(time.subsec_nanosecond()) / MS_NS)
            }
            Self::Ns(width_ns) if width_ns < MINUTE_NS => {
                format!("{}:{:02}", hours_minutes(time), time.second())
            }
            Self::Ns(width_ns) if width_ns < DAY_NS && (time.hour(), time.minute()) != (0, 0) => {
                hours_minutes(time)
            }
            Self::Ns(_) => day(),
            Self::Months(months) if months % 12 == 0 => time.year().to_string(),
            Self::Months(_) => match year {
                Some(year) => format!("{} {year}", month_name(time)),
                None => month_name(time).to_owned(),
            },
        }
    }
}

/// When a month begins, counted from that of the year 0.
fn month_ns(month: i32) -> Option<i128> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
    let midnight = Date::new(year, month, 1).ok()?.to_datetime(Time::midnight());
    Some(Offset::UTC.to_timestamp(midnight).ok()?.as_nanosecond())
}

/// As the calendar has it; every `i64` of nanoseconds lies in jiff's range.
fn civil(ts_ns: i64) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::from_nanosecond(ts_ns.into()).unwrap_or_default())
}

/// A time to the second: `2013-01-01 10:15:00`.
pub(super) fn moment(ts_ns: i64) -> String {
    let time = civil(ts_ns);
    format!("{} {}:{:02}", date(time), hours_minutes(time), time.second())
}

/// The day of a time: `1 January 2013`.
pub(super) fn day(ts_ns: i64) -> String {
    let time = civil(ts_ns);
    format!("{} {} {}", time.day(), MONTHS[month_place(time)], time.year())
}

/// The same, as short as it is clear: `1 Jan 2013`.
pub(super) fn short_day(ts_ns: i64) -> String {
    let time = civil(ts_ns);
    format!("{} {} {}", time.day(), month_name(time), time.year())
}

/// The time of its day: `10:15:00`.
pub(super) fn time_of_day(ts_ns: i64) -> String {
    let time = civil(ts_ns);
    format!("{}:{:02}", hours_minutes(time), time.second())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn month_place(time: DateTime) -> usize {
    usize::try_from(time.month() - 1).unwrap_or(0).min(MONTHS.len() - 1)
}

fn month_name(time: DateTime) -> &'static str {
    &MONTHS[month_place(time)][..3]
}

fn date(time: DateTime) -> String {
    format!("{:04}-{:02}-{:02}", time.year(), time.month(), time.day())
}

fn hours_minutes(time: DateTime) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    fn range(from: &str, to: &str) -> Range {
        Range { from_ns: ns(from), to_ns: ns(to) }
    }

    fn labels(range: Range, most: usize) -> Vec<String> {
        range.marks(most).into_iter().map(|mark| mark.label).collect()
    }

    #[test]
    fn a_chart_has_30_to_120_bars_whatever_it_spans() {
        let mut random = 7_u64;
        let mut next = || {
            // Any generator will do: that of Knuth's MMIX.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 1
        };
        for exponent in 16..=63 {
            for _ in 0..2_000 {
                let span = (1_u64 << exponent) - next() % (1 << (exponent - 1));
                let first = i64::MIN.saturating_add_unsigned(next() % (u64::MAX - span));
                let last = first.saturating_add_unsigned(span);
                let buckets = Buckets::between(first, last);
                assert!((30..=120).contains(&buckets.count()), "{first} {last} {buckets:?}");
                assert_eq!((buckets.place(first), buckets.place(last)), (0, buckets.count() - 1));
                assert!(buckets.start(0) <= first && buckets.start(buckets.count() - 1) <= last);
            }
        }
        let all = Buckets::between(i64::MIN, i64::MAX);
        assert_eq!((all.count(), all.width_ns), (60, 520 * WEEK_NS));
    }

    #[test]
    fn widths_grow_by_four_at_most() {
        for pair in WIDTHS_NS.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= 4 * pair[0], "{pair:?}");
        }
    }

    #[test]
    fn short_spans_have_fewer_bars_and_one_moment_has_one() {
        assert_eq!(Buckets::between(5_500, 5_500).count(), 1);
        let buckets = Buckets::between(500, 3_200);
        assert_eq!((buckets.count(), buckets.width().as_str()), (4, "1 microsecond"));
    }

    #[test]
    fn a_year_is_shown_by_weeks_from_monday() {
        let buckets = Buckets::between(ns("2013-01-01T10:00:00Z"), ns("2014-01-01T04:59:00Z"));
        assert_eq!((buckets.width().as_str(), buckets.count()), ("1 week", 53));
        assert_eq!(
            (buckets.every().as_str(), Buckets::between(0, 86_399 * SECOND_NS).every().as_str()),
            ("week", "15 minutes")
        );
        assert_eq!((buckets.label(0), buckets.label(52)), ("2012-12-31".to_owned(), "2013-12-30".to_owned()));
        assert_eq!(buckets.place(ns("2013-01-06T23:59:59Z")), 0);
        assert_eq!(buckets.place(ns("2013-01-07T00:00:00Z")), 1);
        assert_eq!(buckets.place(ns("1999-01-01T00:00:00Z")), 0);
        assert_eq!(buckets.place(ns("2099-01-01T00:00:00Z")), 52);
    }

    #[test]
    fn labels_are_as_exact_as_the_buckets_are_narrow() {
        let label = |first: &str, last: &str| {
            let buckets = Buckets::between(ns(first), ns(last));
            (buckets.width(), buckets.label(1))
        };
        let of = |width: &str, label: &str| (width.to_owned(), label.to_owned());
        let begin = "2013-05-01T00:00:00Z";
        assert_eq!(label(begin, "2013-05-01T23:59:00Z"), of("15 minutes", "2013-05-01 00:15"));
        assert_eq!(label(begin, "2013-05-01T00:01:39Z"), of("1 second", "2013-05-01 00:00:01"));
        assert_eq!(label(begin, "2013-05-01T00:00:00.5Z"), of("5 milliseconds", "2013-05-01 00:00:00.005"));
        assert_eq!(
            label(begin, "2013-05-01T00:00:00.0001Z"),
            of("1 microsecond", "2013-05-01 00:00:00.000001")
        );
    }

    #[test]
    fn marks_stand_where_hours_days_months_and_years_begin() {
        let year = range("2012-12-31T00:00:00Z", "2014-01-06T00:00:00Z");
        assert_eq!(labels(year, 8), ["Jan 2013", "Mar", "May", "Jul", "Sep", "Nov", "Jan 2014"]);
        assert_eq!(labels(year, 4), ["Jan 2013", "Jul", "Jan 2014"]);
        let day = range("2013-05-01T00:00:00Z", "2013-05-02T00:00:00Z");
        assert_eq!(labels(day, 5), ["1 May", "06:00", "12:00", "18:00", "2 May"]);
        let month = range("2013-05-03T07:00:00Z", "2013-06-02T00:00:00Z");
        assert_eq!(labels(month, 6), ["6 May", "13 May", "20 May", "27 May"]);
        let century = range("1900-06-01T00:00:00Z", "2013-06-02T00:00:00Z");
        assert_eq!(labels(century, 7), ["1920", "1940", "1960", "1980", "2000"]);
        let minute = range("2013-05-03T07:00:05Z", "2013-05-03T07:00:31Z");
        assert_eq!(
            labels(minute, 6),
            ["07:00:05", "07:00:10", "07:00:15", "07:00:20", "07:00:25", "07:00:30"]
        );
        let moment = range("2013-05-03T07:00:05Z", "2013-05-03T07:00:05.02Z");
        assert_eq!(labels(moment, 3), ["5.000 s", "5.010 s", "5.020 s"]);
    }

    #[test]
    fn marks_are_few_and_in_order_over_all_times() {
        let all = Range { from_ns: i64::MIN, to_ns: i64::MAX };
        for most in 2..12 {
            let marks = all.marks(most);
            assert!(!marks.is_empty() && marks.len() <= most && marks.is_sorted_by_key(|mark| mark.ts_ns));
        }
        assert_eq!(labels(all, 6), ["1700", "1800", "1900", "2000", "2100", "2200"]);
        assert_eq!((all.share(i64::MIN), all.share(i64::MAX)), (0.0, 1.0));
        assert_eq!((Range { from_ns: 7, to_ns: 7 }.share(7), 0), (0.5, 0));
    }

    #[test]
    fn times_are_written_to_the_second() {
        let time = ns("2013-01-01T10:15:07.9Z");
        assert_eq!(moment(time), "2013-01-01 10:15:07");
        assert_eq!((day(time).as_str(), time_of_day(time).as_str()), ("1 January 2013", "10:15:07"));
        assert_eq!(short_day(time), "1 Jan 2013");
        assert_eq!(moment(i64::MIN), "1677-09-21 00:12:43");
    }
}
