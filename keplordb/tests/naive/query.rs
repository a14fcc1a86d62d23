//! The oracle of the query layer: a table as a `Vec` of rows, conditions as closures, groups as a map from keys to rows.
//!
//! It must be too simple to be wrong: every row is looked at, sums and buckets are exact in `i128`, and a value is brought
//! into the type of its answer at the very end. Columns that a row is too old for are 0 or empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Filled groups that the engine refuses to list.
pub(crate) const TOO_MANY_FILLED: i128 = 1 << 20;

/// An event and its sequence; of any number of columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Row {
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) ts_ns: i64,
    pub(crate) metric: i64,
    pub(crate) latency_ms: u32,
    pub(crate) latency_detail_ms: u32,
    pub(crate) status: u16,
    pub(crate) flags: u16,
    pub(crate) dims: Vec<String>,
    pub(crate) counters: Vec<u32>,
    pub(crate) labels: Vec<String>,
}

/// A column of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Time,
    Sequence,
    Metric,
    Latency,
    LatencyDetail,
    Flags,
    Counter(usize),
}

/// A column of keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Key {
    Status,
    Dim(usize),
}

/// A column of texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Text {
    Id,
    Dim(usize),
    Label(usize),
}

impl Row {
    pub(crate) fn number(&self, column: Number) -> i64 {
        match column {
            Number::Time => self.ts_ns,
            Number::Sequence => i64::try_from(self.sequence).unwrap(),
            Number::Metric => self.metric,
            Number::Latency => self.latency_ms.into(),
            Number::LatencyDetail => self.latency_detail_ms.into(),
            Number::Flags => self.flags.into(),
            Number::Counter(place) => self.counters.get(place).copied().unwrap_or(0).into(),
        }
    }

    pub(crate) fn text(&self, column: Text) -> &str {
        let texts = match column {
            Text::Id => return &self.id,
            Text::Dim(place) => self.dims.get(place),
            Text::Label(place) => self.labels.get(place),
        };
        texts.map_or("", String::as_str)
    }

    pub(crate) fn key(&self, column: Key) -> KeyValue {
        match column {
            Key::Status => KeyValue::Status(self.status),
            Key::Dim(place) => KeyValue::Text(self.text(Text::Dim(place)).to_owned()),
        }
    }

    /// The row as a table with so many columns has it.
    pub(crate) fn grown(mut self, dims: usize, counters: usize, labels: usize) -> Self {
        self.dims.resize(dims, String::new());
        self.counters.resize(counters, 0);
        self.labels.resize(labels, String::new());
        self
    }
}

/// Whether a row matches.
pub(crate) type Holds = Arc<dyn Fn(&Row) -> bool + Send + Sync>;

pub(crate) fn holds(condition: impl Fn(&Row) -> bool + Send + Sync + 'static) -> Holds {
    Arc::new(condition)
}

/// What is asked of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aggregate {
    Count,
    Sum(Number),
    Min(Number),
    Max(Number),
    Mean(Number),
    Quantile(Number, f64),
    Distinct(Key),
}

/// What a group answers. Numbers of rows that there are not are `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Whole(Option<i128>),
    Mean(Option<f64>),
    Quantile(Option<Quantile>),
}

/// A quantile; the oracle's are all exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantile {
    pub(crate) value: i64,
    pub(crate) is_exact: bool,
}

impl Answer {
    /// Whether an answer of the engine is right: equal, or within 1 % where it says that it is not exact.
    pub(crate) fn agrees(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Quantile(Some(got)), Self::Quantile(Some(right))) if !got.is_exact => {
                let (got, right) = (i128::from(got.value), i128::from(right.value));
                (got - right).abs() * 100 <= right.abs()
            }
            _ => self == expected,
        }
    }
}

impl Aggregate {
    /// The exact answer, before it is brought into the type in which it is given.
    pub(crate) fn exact(&self, rows: &[&Row]) -> Answer {
        let all = |column: Number| rows.iter().map(move |row| row.number(column));
        let sum = |column: Number| all(column).map(i128::from).sum::<i128>();
        match *self {
            Self::Count => Answer::Whole(Some(rows.len() as i128)),
            Self::Sum(column) => Answer::Whole(Some(sum(column))),
            Self::Min(column) => Answer::Whole(all(column).min().map(i128::from)),
            Self::Max(column) => Answer::Whole(all(column).max().map(i128::from)),
            Self::Mean(column) => {
                Answer::Mean((!rows.is_empty()).then(|| sum(column) as f64 / rows.len() as f64))
            }
            Self::Quantile(column, q) => {
                let mut values: Vec<i64> = all(column).collect();
                values.sort_unstable();
                // Nearest rank: the first at or below which a `q` of all lie.
                let wanted = q * values.len() as f64;
                let rank =
                    (1..values.len()).find(|rank| *rank as f64 >= wanted).unwrap_or(values.len()).max(1);
                Answer::Quantile(values.get(rank - 1).map(|value| Quantile { value: *value, is_exact: true }))
            }
            Self::Distinct(column) => {
                let values: BTreeSet<KeyValue> = rows.iter().map(|row| row.key(column)).collect();
                Answer::Whole(Some(values.len() as i128))
            }
        }
    }

    /// The answer in its type: the sum of the metric is an `i64`, other sums are `u64`.
    pub(crate) fn answer(&self, rows: &[&Row]) -> Answer {
        match (self, self.exact(rows)) {
            (Self::Sum(Number::Metric), Answer::Whole(Some(sum))) => {
                Answer::Whole(Some(sum.clamp(i64::MIN.into(), i64::MAX.into())))
            }
            (Self::Sum(_), Answer::Whole(Some(sum))) => Answer::Whole(Some(sum.clamp(0, u64::MAX.into()))),
            (_, answer) => answer,
        }
    }
}

/// A value of a key; texts order by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyValue {
    Text(String),
    Status(u16),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Buckets {
    pub(crate) width_ns: i64,
    pub(crate) offset_ns: i64,
    pub(crate) is_filled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    ByKey,
    Top(Aggregate),
    Bottom(Aggregate),
}

/// A question for groups.
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    pub(crate) keys: Vec<Key>,
    pub(crate) buckets: Option<Buckets>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) order: Order,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

/// A group of a result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) key: Vec<KeyValue>,
    pub(crate) bucket: Option<i64>,
    pub(crate) answers: Vec<Answer>,
}

impl Grouping {
    /// The groups of rows that match; `None` where so many empty ones are to be filled in that a query is refused.
    pub(crate) fn answer(&self, rows: &[&Row]) -> Option<Vec<Line>> {
        let start = |row: &Row| match self.buckets {
            None => 0,
            Some(Buckets { width_ns, offset_ns, .. }) => {
                let (ts, width, offset) =
                    (i128::from(row.ts_ns), i128::from(width_ns), i128::from(offset_ns));
                (ts - offset).div_euclid(width) * width + offset
            }
        };
        let mut groups: BTreeMap<(Vec<KeyValue>, i128), Vec<&Row>> = BTreeMap::new();
        if self.keys.is_empty() && self.buckets.is_none() {
            groups.insert((Vec::new(), 0), Vec::new());
        }
        for row in rows {
            let key: Vec<KeyValue> = self.keys.iter().map(|key| row.key(*key)).collect();
            groups.entry((key, start(row))).or_default().push(row);
        }
        if let Some(buckets) = self.buckets.filter(|buckets| buckets.is_filled && !groups.is_empty()) {
            let width = i128::from(buckets.width_ns);
            let first = groups.keys().map(|(_, start)| *start).min().unwrap();
            let last = groups.keys().map(|(_, start)| *start).max().unwrap();
            let keys: BTreeSet<Vec<KeyValue>> = groups.keys().map(|(key, _)| key.clone()).collect();
            let count = (last - first) / width + 1;
            if count * keys.len() as i128 > TOO_MANY_FILLED {
                return None;
            }
            for key in keys {
                for place in 0..count {
                    groups.entry((key.clone(), first + place * width)).or_default();
                }
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        // The map has them in the order of keys and buckets, and sorting is stable.
        match self.order {
            Order::ByKey => {}
            Order::Top(by) => groups.sort_by_cached_key(|(_, rows)| rank(&by, rows, true)),
            Order::Bottom(by) => groups.sort_by_cached_key(|(_, rows)| rank(&by, rows, false)),
        }
        let wanted = groups.into_iter().skip(self.offset).take(self.limit);
        let line = |((key, start), rows): ((Vec<KeyValue>, i128), Vec<&Row>)| Line {
            key,
            bucket: self.buckets.map(|_| i64::try_from(start.max(i64::MIN.into())).unwrap()),
            answers: self.aggregates.iter().map(|aggregate| aggregate.answer(&rows)).collect(),
        };
        Some(wanted.map(line).collect())
    }
}

/// Where a group comes: those without a value last.
fn rank(by: &Aggregate, rows: &[&Row], from_the_top: bool) -> (bool, i128, Total) {
    let signed = |value: i128| if from_the_top { -value } else { value };
    match by.exact(rows) {
        Answer::Whole(Some(value)) => (false, signed(value), Total(0.0)),
        Answer::Quantile(Some(quantile)) => (false, signed(quantile.value.into()), Total(0.0)),
        Answer::Mean(Some(mean)) => (false, 0, Total(if from_the_top { -mean } else { mean })),
        _ => (true, 0, Total(0.0)),
    }
}

/// A mean, in order.
#[derive(PartialEq)]
struct Total(f64);

impl Eq for Total {}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.partial_cmp(&other.0).unwrap()
    }
}
