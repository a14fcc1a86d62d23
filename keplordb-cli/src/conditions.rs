//! Which events a command looks at: flags that mirror the engine's filters.

use anyhow::{Context, Result, bail};
use keplordb::any::{AnyFilter, AnySnapshot, Column, Kind, Test};
use keplordb_log::Timestamp;

use crate::parse;
use crate::table;

/// Which events are meant. All conditions must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Conditions {
    /// A condition on a column: `carrier=UA`, `status!=200`, `tokens>=100`, `dest=BOS,LAX`, `model^=gpt`, `note$=.`, `note*=late`;
    /// may be given again
    #[arg(
        id = "where",
        short = 'w',
        long = "where",
        value_name = "CONDITION",
        help_heading = "Which events"
    )]
    wanted: Vec<Condition>,
    /// Only events of this time or later: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "Which events")]
    from: Option<Timestamp>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "Which events")]
    to: Option<Timestamp>,
}

/// A condition as it was typed.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    column: String,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
    Above,
    Below,
    StartsWith,
    EndsWith,
    Contains,
    HasFlags,
}

/// Operators as they are typed; where several begin at one place the longer one is meant.
const OPERATORS: [(&str, Operator); 10] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("^=", Operator::StartsWith),
    ("$=", Operator::EndsWith),
    ("*=", Operator::Contains),
    ("&=", Operator::HasFlags),
    ("=", Operator::Equal),
    (">", Operator::Above),
    ("<", Operator::Below),
];

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let places =
            OPERATORS.iter().filter_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)));
        let first = places.min_by_key(|(place, sign, _)| (*place, usize::MAX - sign.len()));
        let Some((place, sign, operator)) = first.filter(|(place, ..)| *place > 0) else {
            return Err("a condition is a column, one of = != >= <= > < ^= (begins with) $= (ends with) *= (contains) &= (has these \
                        flags), and a value: carrier=UA"
                .to_owned());
        };
        let (column, value) = (text[..place].trim(), &text[place + sign.len()..]);
        Ok(Self { column: column.to_owned(), operator, value: value.to_owned() })
    }
}

impl Conditions {
    /// Each condition as it is typed; of none, all events are meant.
    pub(crate) fn texts(&self) -> Vec<String> {
        let times = [("ts>=", self.from), ("ts<", self.to)].into_iter();
        let times = times.filter_map(|(sign, time)| Some(format!("{sign}{}", time?)));
        self.wanted.iter().map(ToString::to_string).chain(times).collect()
    }

    /// The events of a snapshot that are meant.
    pub(crate) fn filter(&self, snapshot: &AnySnapshot) -> Result<AnyFilter> {
        let mut all = AnyFilter::all();
        if self.from.is_some() || self.to.is_some() {
            let lo = self.from.map_or(i64::MIN, Timestamp::as_ns);
            let between = match self.to.map(Timestamp::as_ns) {
                Some(i64::MIN) => AnyFilter::none(),
                to => snapshot
                    .filter(table::TIME, Test::Between { lo, hi: to.map_or(i64::MAX, |to| to - 1) })?,
            };
            all = all & between;
        }
        for condition in &self.wanted {
            all = all & condition.filter(snapshot)?;
        }
        Ok(all)
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign =
            OPERATORS.iter().find(|(_, operator)| *operator == self.operator).map_or("", |(sign, _)| *sign);
        write!(f, "{}{sign}{}", self.column, self.value)
    }
}

impl Condition {
    fn filter(&self, snapshot: &AnySnapshot) -> Result<AnyFilter> {
        let (_, column) = table::column(snapshot.columns(), &self.column)?;
        let test = |test| Ok::<_, anyhow::Error>(snapshot.filter(&column.name, test)?);
        if column.kind == Kind::Text {
            let value = self.value.clone();
            return match self.operator {
                Operator::Equal => test(any_of(&value)),
                Operator::NotEqual => Ok(!test(any_of(&value))?),
                Operator::StartsWith => test(Test::StartsWith(value)),
                Operator::EndsWith => test(Test::EndsWith(value)),
                Operator::Contains => test(Test::Contains(value)),
                Operator::AtLeast
                | Operator::AtMost
                | Operator::Above
                | Operator::Below
                | Operator::HasFlags => {
                    bail!(
                        "{} holds texts, which have no < and >; use = != ^= (begins with) $= (ends with) or *= (contains)",
                        self.column
                    )
                }
            };
        }
        let between = |lo, hi| test(Test::Between { lo, hi });
        let one = || number(column, &self.value);
        match self.operator {
            Operator::Equal | Operator::NotEqual => {
                let mut any = AnyFilter::none();
                for value in self.value.split(',') {
                    let number = number(column, value)?;
                    any = any | between(number, number)?;
                }
                Ok(if self.operator == Operator::Equal { any } else { !any })
            }
            Operator::AtLeast => between(one()?, i64::MAX),
            Operator::AtMost => between(i64::MIN, one()?),
            Operator::Above => match one()?.checked_add(1) {
                Some(lo) => between(lo, i64::MAX),
                None => Ok(AnyFilter::none()),
            },
            Operator::Below => match one()?.checked_sub(1) {
                Some(hi) => between(i64::MIN, hi),
                None => Ok(AnyFilter::none()),
            },
            Operator::HasFlags => {
                test(Test::HasFlags(u16::try_from(one()?).context("flags are from 0 to 65535")?))
            }
            Operator::StartsWith | Operator::EndsWith | Operator::Contains => {
                bail!("{} holds numbers, which are compared by = != >= <= > < &=", self.column)
            }
        }
    }
}

/// One of the values between commas; `\,` is a comma in a value.
fn any_of(text: &str) -> Test {
    let mut values = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ',' => values.push(String::new()),
            '\\' => values.last_mut().expect("there is one").push(letters.next_if_eq(&',').unwrap_or('\\')),
            letter => values.last_mut().expect("there is one").push(letter),
        }
    }
    Test::AnyOf(values)
}

/// A number as people type it; a time of the column of times.
fn number(column: &Column, text: &str) -> Result<i64> {
    let text = text.trim();
    if column.name == table::TIME
        && let Ok(time) = parse::time(text)
    {
        return Ok(time.as_ns());
    }
    text.parse()
        .with_context(|| format!("{} holds whole numbers, and {text:?} is none", table::shown_name(column)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Operator, String) {
        let Condition { column, operator, value } = text.parse().unwrap();
        (column, operator, value)
    }

    #[test]
    fn the_first_and_longest_operator_divides_column_and_value() {
        let of = |column: &str, operator, value: &str| (column.to_owned(), operator, value.to_owned());
        assert_eq!(parsed("carrier=UA"), of("carrier", Operator::Equal, "UA"));
        assert_eq!(parsed("status != 200"), of("status", Operator::NotEqual, " 200"));
        assert_eq!(parsed("tokens>=10"), of("tokens", Operator::AtLeast, "10"));
        assert_eq!(parsed("tokens<10"), of("tokens", Operator::Below, "10"));
        assert_eq!(parsed("note*=a=b"), of("note", Operator::Contains, "a=b"));
        assert_eq!(parsed("note=<b>"), of("note", Operator::Equal, "<b>"));
        for text in ["", "carrier", "=UA", ">=3"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    #[test]
    fn conditions_are_shown_as_they_are_typed() {
        let typed = [
            "carrier=UA",
            "status!=200",
            "n>=1",
            "n<=2",
            "n>1",
            "n<9",
            "model^=gpt",
            "note$=.",
            "note*=late",
        ];
        let wanted = typed.iter().map(|text| text.parse().unwrap()).collect();
        let from = Some(Timestamp::from_ns(0));
        let texts = Conditions { wanted, from, to: None }.texts();
        assert_eq!(texts[..9], typed);
        assert_eq!(texts[9..], ["ts>=1970-01-01T00:00:00.000000000Z"]);
    }

    #[test]
    fn values_are_divided_by_commas_unless_escaped() {
        let values = |text| match any_of(text) {
            Test::AnyOf(values) => values,
            other => panic!("{other:?}"),
        };
        assert_eq!(values("a,b"), ["a", "b"]);
        assert_eq!(values("a\\,b,c\\d"), ["a,b", "c\\d"]);
        assert_eq!(values(""), [""]);
    }
}
