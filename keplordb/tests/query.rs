//! The query layer against the oracle of `naive/query.rs`: random histories of tables of several shapes, also one that
//! grows columns between two opens, and after every step random questions of every kind: rows, totals, groups, facets,
//! deletes by filter. Each is asked of the store and of a reader beside it, by the planner's means and by scan.
//!
//! `KEPLORDB_QUERY_PROGRAMS` sets how many histories run, `KEPLORDB_QUERY_SEED` repeats one of them.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keplordb::aggregates::{self, Aggregates, count, distinct, max, mean, min, quantile, sum};
use keplordb::columns::{Dim, Flags, Number, Sequence, Status, Text, Time};
use keplordb::disk::{Disk, MemoryDisk, SimDisk};
use keplordb::groups::{Group, GroupKeys, Groups, Selected};
use keplordb::{
    Bucket, Budget, DbError, EngineConfig, EventFlags, Filter, MapMode, Options, Query, Reader, Schema,
    Store, Sync, Totals,
};
use naive::query::{
    Aggregate, Answer, Buckets, Grouping, Holds, Key, KeyValue, Line, Order, Quantile, Row, TOO_MANY_FILLED,
    holds,
};
use naive::query::{Number as NumberColumn, Text as TextColumn};
use naive::random::{Random, Replay, number_of};

const PROGRAMS: u64 = 80;
const STEPS: usize = 16;
const DAY_NS: i64 = 86_400_000_000_000;

/// Only what every table has.
#[derive(Schema)]
#[keplordb(id = 3)]
struct Bare {}

/// A table as it was made first; [`Call`] is what became of it.
#[derive(Schema)]
#[keplordb(id = 4)]
struct Young {
    #[dim(bloom)]
    user: String,
    #[counter]
    tokens: u32,
    #[label]
    prompt: String,
}

#[derive(Schema)]
#[keplordb(id = 4)]
struct Call {
    #[dim(bloom)]
    user: String,
    #[dim(rollup)]
    model: String,
    #[dim]
    region: String,
    #[counter]
    tokens: u32,
    #[counter]
    retries: u32,
    #[label]
    prompt: String,
    #[label(index)]
    trace: String,
}

#[test]
fn random_histories_answer_as_the_oracle_does() {
    if let Some(seed) = number_of("KEPLORDB_QUERY_SEED") {
        return run(seed);
    }
    let programs = number_of("KEPLORDB_QUERY_PROGRAMS").unwrap_or(PROGRAMS);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= programs {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}

fn run(seed: u64) {
    let _replay = Replay { variable: "KEPLORDB_QUERY_SEED", seed };
    let mut history = History::new(seed);
    match history.random.below(6) {
        0 => Program::<Bare>::open(&mut history).steps(STEPS),
        1 => Program::<Young>::open(&mut history).steps(STEPS),
        2 | 3 => {
            Program::<Young>::open(&mut history).steps(STEPS / 2);
            Program::<Call>::open(&mut history).steps(STEPS / 2);
        }
        _ => Program::<Call>::open(&mut history).steps(STEPS),
    }
}

// Tables of any shape.

/// The tokens of a table, by role and place.
struct Tokens<S> {
    dims: Vec<Dim<S>>,
    counters: Vec<Number<S, u32>>,
    labels: Vec<Text<S>>,
    id: Text<S>,
    metric: Number<S, i64>,
    latency_ms: Number<S, u32>,
    latency_detail_ms: Number<S, u32>,
    ts_ns: Time<S>,
    sequence: Sequence<S>,
    status: Status<S>,
    flags: Flags<S>,
}

/// What the derive gives to each table by name, by place.
trait Table: Schema {
    fn tokens() -> Tokens<Self>;
    fn event(row: &Row) -> Self::Builder;
    fn row(row: Self::Row) -> Row;
    /// Count, then sum, smallest and largest of each measure.
    fn totals(totals: Self::Totals) -> Vec<Option<i128>>;
}

macro_rules! table {
    ($name:ident: [$($dim:ident),*] [$($counter:ident),*] [$($label:ident),*]) => {
        impl Table for $name {
            fn tokens() -> Tokens<Self> {
                let c = Self::cols();
                Tokens {
                    dims: vec![$(c.$dim),*],
                    counters: vec![$(c.$counter),*],
                    labels: vec![$(c.$label),*],
                    id: c.id,
                    metric: c.metric,
                    latency_ms: c.latency_ms,
                    latency_detail_ms: c.latency_detail_ms,
                    ts_ns: c.ts_ns,
                    sequence: c.sequence,
                    status: c.status,
                    flags: c.flags,
                }
            }

            #[allow(unused_mut, unused_variables, reason = "a role may have no columns")]
            fn event(row: &Row) -> Self::Builder {
                let event = Self::new(row.ts_ns).id(&row.id).metric(row.metric).latency_ms(row.latency_ms);
                let event = event.latency_detail_ms(row.latency_detail_ms).status(row.status);
                let event = event.flags(EventFlags(row.flags));
                let (mut dims, mut labels) = (row.dims.iter(), row.labels.iter());
                let mut counters = row.counters.iter();
                $(let event = event.$dim(dims.next().unwrap());)*
                $(let event = event.$counter(*counters.next().unwrap());)*
                $(let event = event.$label(labels.next().unwrap());)*
                event
            }

            fn row(row: Self::Row) -> Row {
                let sequence = row.sequence();
                let event = row.into_event_ref();
                Row {
                    sequence,
                    id: event.id,
                    ts_ns: event.ts_ns,
                    metric: event.metric,
                    latency_ms: event.latency_ms,
                    latency_detail_ms: event.latency_detail_ms,
                    status: event.status,
                    flags: event.flags.0,
                    dims: event.dims.to_vec(),
                    counters: event.counters.to_vec(),
                    labels: event.labels.to_vec(),
                }
            }

            fn totals(totals: Self::Totals) -> Vec<Option<i128>> {
                listed(&totals)
            }
        }
    };
}

table!(Bare: [] [] []);
table!(Young: [user] [tokens] [prompt]);
table!(Call: [user, model, region] [tokens, retries] [prompt, trace]);

fn listed<const C: usize>(totals: &Totals<C>) -> Vec<Option<i128>> {
    let fixed = [
        Some(totals.event_count.into()),
        Some(totals.metric.into()),
        totals.metric_min.map(Into::into),
        totals.metric_max.map(Into::into),
        Some(totals.latency_ms.into()),
        totals.latency_ms_min.map(Into::into),
        totals.latency_ms_max.map(Into::into),
        Some(totals.latency_detail_ms.into()),
        totals.latency_detail_ms_min.map(Into::into),
        totals.latency_detail_ms_max.map(Into::into),
    ];
    let counters = (0..C).flat_map(|place| {
        let extremes = [totals.counters_min[place], totals.counters_max[place]];
        let [min, max] = extremes.map(|extreme| extreme.map(Into::into));
        [Some(totals.counters[place].into()), min, max]
    });
    fixed.into_iter().chain(counters).collect()
}

// Random events.

const USERS: [&str; 7] = ["", "a", "alice", "alicia", "bob", "Ωmega", "user-\u{1F980}"];
const PARTS: [&str; 7] = ["", "a", "ali", "e", "user-", "\u{1F980}", "nothing"];
const EXTREME_TIMES: [i64; 8] = [i64::MIN, i64::MIN + 1, -DAY_NS, -1, 0, 1, i64::MAX - 1, i64::MAX];
const STATUSES: [u16; 7] = [0, 1, 200, 404, 499, 500, u16::MAX];
const METRICS: [i64; 8] = [0, 1, -1, 7, 1000, -1_000_000, i64::MAX, i64::MIN];
const SMALL: [u32; 7] = [0, 1, 2, 255, 256, 65_536, u32::MAX];

/// Where the values of a history's events come from.
#[derive(Debug, Clone)]
struct Values {
    /// Of 100 times: how many are extreme, how many lie on a few days; the others are within a few nanoseconds.
    extreme_times: usize,
    spread_times: usize,
    /// Of 100 users: how many are new.
    new_users: usize,
    /// Of 100 measures: how many are from anywhere in their type.
    wide: usize,
    is_sorted: bool,
    serial: u64,
}

impl Values {
    fn new(random: &mut Random) -> Self {
        Self {
            extreme_times: *random.pick(&[0, 0, 5, 50]),
            spread_times: *random.pick(&[0, 50, 100]),
            new_users: *random.pick(&[0, 0, 20, 100]),
            wide: *random.pick(&[0, 0, 30]),
            is_sorted: random.percent(30),
            serial: 0,
        }
    }

    fn time(&self, random: &mut Random) -> i64 {
        if random.percent(self.extreme_times) {
            *random.pick(&EXTREME_TIMES)
        } else if random.percent(self.spread_times) {
            1_700_000_000_000_000_000 + random.below(400_000) as i64 * 1_000_000_000
        } else {
            1_700_000_000_000_000_000 + random.below(12) as i64
        }
    }

    fn small(&self, random: &mut Random) -> u32 {
        if random.percent(self.wide) { random.next() as u32 } else { *random.pick(&SMALL) }
    }

    fn event<S: Table>(&mut self, random: &mut Random, tokens: &Tokens<S>) -> Row {
        self.serial += 1;
        let user = if random.percent(self.new_users) {
            format!("user {}", self.serial)
        } else {
            (*random.pick(&USERS)).to_owned()
        };
        let id = if random.percent(70) {
            format!("call {}", self.serial)
        } else {
            (*random.pick(&["x", "é"])).to_owned()
        };
        let dims = [user, (*random.pick(&["gpt", "opus", ""])).to_owned(), random.below(40).to_string()];
        let labels = [
            "a sentence that comes again and again. ".repeat(random.below(4)),
            format!("trace {}", random.below(20)),
        ];
        Row {
            sequence: 0,
            id,
            ts_ns: self.time(random),
            metric: if random.percent(self.wide) { random.next() as i64 } else { *random.pick(&METRICS) },
            latency_ms: self.small(random),
            latency_detail_ms: random.below(300) as u32,
            status: *random.pick(&STATUSES),
            flags: random.next() as u16 & random.next() as u16,
            dims: dims.into_iter().take(tokens.dims.len()).collect(),
            counters: tokens.counters.iter().map(|_| self.small(random)).collect(),
            labels: labels.into_iter().take(tokens.labels.len()).collect(),
        }
    }
}

// Random conditions: of each a filter, and the closure that says the same.

struct Question<S> {
    filter: Filter<S>,
    holds: Holds,
}

impl<S> Clone for Question<S> {
    fn clone(&self) -> Self {
        Self { filter: self.filter.clone(), holds: Arc::clone(&self.holds) }
    }
}

impl<S> fmt::Debug for Question<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.filter);
        match text.char_indices().nth(2000) {
            Some((end, _)) => write!(out, "{}…", &text[..end]),
            None => out.write_str(&text),
        }
    }
}

impl<S: Schema> Question<S> {
    fn new(filter: Filter<S>, condition: impl Fn(&Row) -> bool + Send + std::marker::Sync + 'static) -> Self {
        Self { filter, holds: holds(condition) }
    }

    fn all() -> Self {
        Self::new(Filter::all(), |_| true)
    }

    fn and(self, other: Self) -> Self {
        let (one, two) = (self.holds, other.holds);
        Self::new(self.filter & other.filter, move |row| one(row) && two(row))
    }

    fn or(self, other: Self) -> Self {
        let (one, two) = (self.holds, other.holds);
        Self::new(self.filter | other.filter, move |row| one(row) || two(row))
    }

    fn not(self) -> Self {
        let one = self.holds;
        Self::new(!self.filter, move |row| !one(row))
    }
}

/// A condition on a token whose methods take numbers; `$value` draws one.
macro_rules! number_condition {
    ($token:expr, $random:expr, $value:expr, $read:expr) => {{
        let (token, read) = ($token, $read);
        let (a, b) = ($value, $value);
        match $random.below(12) {
            0 => Question::new(token.eq(a), move |row| read(row) == a),
            1 => Question::new(token.ne(a), move |row| read(row) != a),
            2 => Question::new(token.gt(a), move |row| read(row) > a),
            3 => Question::new(token.ge(a), move |row| read(row) >= a),
            4 => Question::new(token.lt(a), move |row| read(row) < a),
            5 => Question::new(token.le(a), move |row| read(row) <= a),
            6 => Question::new(token.between(a..b), move |row| (a..b).contains(&read(row))),
            7 => Question::new(token.between(a..=b), move |row| (a..=b).contains(&read(row))),
            8 => Question::new(token.between(a..), move |row| read(row) >= a),
            9 => Question::new(token.between(..b), move |row| read(row) < b),
            10 => {
                let open = (Bound::Excluded(a), Bound::Included(b));
                Question::new(token.between(open), move |row| read(row) > a && read(row) <= b)
            }
            _ => {
                let count = $random.below(4);
                let wanted: Vec<_> = (0..count).map(|_| $value).collect();
                Question::new(token.in_(wanted.clone()), move |row| wanted.contains(&read(row)))
            }
        }
    }};
}

/// A condition on a token whose methods take texts.
macro_rules! text_condition {
    ($token:expr, $random:expr, $value:expr, $column:expr) => {{
        let (token, column): (_, TextColumn) = ($token, $column);
        let a: String = $value;
        match $random.below(6) {
            0 | 1 => Question::new(token.eq(&*a), move |row| row.text(column) == a),
            2 => Question::new(token.ne(&*a), move |row| row.text(column) != a),
            3 => {
                let count = $random.below(4);
                let wanted: Vec<String> = (0..count).map(|_| $value).collect();
                Question::new(token.in_(&wanted), {
                    move |row| wanted.iter().any(|wanted| wanted == row.text(column))
                })
            }
            _ => {
                let part = (*$random.pick(&PARTS)).to_owned();
                match $random.below(3) {
                    0 => Question::new(token.starts_with(&*part), move |row| {
                        row.text(column).starts_with(&part)
                    }),
                    1 => Question::new(token.ends_with(&*part), move |row| row.text(column).ends_with(&part)),
                    _ => Question::new(token.contains(&*part), move |row| row.text(column).contains(&part)),
                }
            }
        }
    }};
}

/// Draws questions about a table that has these rows.
struct Asker<'a, S> {
    tokens: &'a Tokens<S>,
    rows: &'a [Row],
}

impl<S: Table> Asker<'_, S> {
    /// A row of the table, to ask for what is there.
    fn known(&self, random: &mut Random) -> Row {
        if self.rows.is_empty() {
            return Row::default().grown(self.tokens.dims.len(), 9, 9);
        }
        random.pick(self.rows).clone()
    }

    /// A number of a column, or one beside it.
    fn number(&self, random: &mut Random, column: NumberColumn) -> i64 {
        let near = random.below(3) as i64 - 1;
        match random.below(10) {
            0 => *random.pick(&[i64::MIN, i64::MAX, 0, -1, u32::MAX.into(), i64::from(u32::MAX) + 1]),
            _ => self.known(random).number(column).saturating_add(near),
        }
    }

    fn text(&self, random: &mut Random, column: TextColumn) -> String {
        if random.percent(80) {
            self.known(random).text(column).to_owned()
        } else {
            (*random.pick(&USERS)).to_owned()
        }
    }

    fn leaf(&self, random: &mut Random) -> Question<S> {
        let tokens = self.tokens;
        let narrow = |random: &mut Random| {
            let place = random.below(2 + tokens.counters.len());
            match place {
                0 => (tokens.latency_ms, NumberColumn::Latency),
                1 => (tokens.latency_detail_ms, NumberColumn::LatencyDetail),
                _ => (tokens.counters[place - 2], NumberColumn::Counter(place - 2)),
            }
        };
        match random.below(20) {
            0..5 if !tokens.dims.is_empty() => {
                let place = random.below(tokens.dims.len());
                let column = TextColumn::Dim(place);
                text_condition!(tokens.dims[place], random, self.text(random, column), column)
            }
            5 | 6 => {
                let place = random.below(1 + tokens.labels.len());
                let (token, column) = match place.checked_sub(1) {
                    None => (tokens.id, TextColumn::Id),
                    Some(place) => (tokens.labels[place], TextColumn::Label(place)),
                };
                text_condition!(token, random, self.text(random, column), column)
            }
            7 | 8 => {
                let column = NumberColumn::Metric;
                number_condition!(tokens.metric, random, self.number(random, column), move |row: &Row| {
                    row.number(column)
                })
            }
            9..12 => {
                let (token, column) = narrow(random);
                number_condition!(token, random, self.number(random, column), move |row: &Row| {
                    row.number(column)
                })
            }
            12..15 => {
                let column = NumberColumn::Time;
                number_condition!(tokens.ts_ns, random, self.number(random, column), move |row: &Row| {
                    row.number(column)
                })
            }
            15 => {
                let column = NumberColumn::Sequence;
                number_condition!(tokens.sequence, random, self.number(random, column), move |row: &Row| {
                    row.number(column)
                })
            }
            16 | 17 => {
                let token = tokens.status;
                number_condition!(token, random, *random.pick(&STATUSES), |row: &Row| row.status)
            }
            18 => {
                let bits = random.next() as u16 & random.next() as u16 & random.next() as u16;
                match random.below(3) {
                    0 => Question::new(tokens.flags.has(bits), move |row| row.flags & bits == bits),
                    1 => Question::new(tokens.flags.has_any(bits), move |row| row.flags & bits != 0),
                    _ => {
                        let exactly = self.known(random).flags;
                        Question::new(tokens.flags.are(exactly), move |row| row.flags == exactly)
                    }
                }
            }
            _ => Question::all(),
        }
    }

    fn tree(&self, random: &mut Random, levels: usize) -> Question<S> {
        if levels == 0 || random.percent(40) {
            return self.leaf(random);
        }
        match random.below(5) {
            0 => self.tree(random, levels - 1).not(),
            1 | 2 => self.tree(random, levels - 1).and(self.tree(random, levels - 1)),
            3 => self.tree(random, levels - 1).or(self.tree(random, levels - 1)),
            _ => {
                let first = self.tree(random, levels - 1).or(self.tree(random, levels - 1));
                first.or(self.tree(random, levels - 1))
            }
        }
    }

    fn question(&self, random: &mut Random) -> Question<S> {
        match random.below(100) {
            0..15 => Question::all(),
            15..40 => self.leaf(random),
            40..96 => self.tree(random, 3),
            96..98 => (0..40).fold(self.leaf(random), |deep, level| match level % 3 {
                0 => deep.and(self.leaf(random)).or(self.leaf(random)),
                1 => deep.or(self.leaf(random)).not(),
                _ => deep.not().and(self.leaf(random)),
            }),
            98 => (1..1000).fold(self.leaf(random), |chain, _| chain.or(self.narrow(random))),
            _ => (1..1000).fold(self.leaf(random), |chain, _| chain.and(self.narrow(random).not())),
        }
    }

    /// A condition that few rows fulfil, so that long chains of them say something.
    fn narrow(&self, random: &mut Random) -> Question<S> {
        let (id, sequence) = (format!("call {}", random.below(2000)), random.below(3000) as i64);
        let column = NumberColumn::Sequence;
        match random.below(3) {
            0 => Question::new(self.tokens.id.eq(&*id), move |row| row.id == id),
            1 => Question::new(self.tokens.sequence.eq(sequence), move |row| row.number(column) == sequence),
            _ => {
                let detail = random.below(9000) as u32;
                Question::new(self.tokens.latency_detail_ms.eq(detail), move |row| {
                    row.latency_detail_ms == detail
                })
            }
        }
    }
}

// Random aggregates, each in the type of its answer.

/// An answer of the engine, as the oracle gives it.
trait Shown: aggregates::Value + Sized {
    fn shown(self) -> Answer;
    /// An aggregate of this type of answer.
    fn draw<S: Table>(tokens: &Tokens<S>, random: &mut Random)
    -> (aggregates::Aggregate<S, Self>, Aggregate);
}

fn draw_narrow<S>(tokens: &Tokens<S>, random: &mut Random) -> (Number<S, u32>, NumberColumn) {
    let place = random.below(2 + tokens.counters.len());
    match place {
        0 => (tokens.latency_ms, NumberColumn::Latency),
        1 => (tokens.latency_detail_ms, NumberColumn::LatencyDetail),
        _ => (tokens.counters[place - 2], NumberColumn::Counter(place - 2)),
    }
}

fn draw_q(random: &mut Random) -> f64 {
    match random.below(3) {
        0 => *random.pick(&[0.0, 0.5, 0.99, 1.0, 1e-12, -0.0]),
        _ => random.below(1001) as f64 / 1000.0,
    }
}

impl Shown for u64 {
    fn shown(self) -> Answer {
        Answer::Whole(Some(self.into()))
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let (token, column) = draw_narrow(tokens, random);
        let dim = random.below(tokens.dims.len() + 1);
        match random.below(4) {
            0 => (count(), Aggregate::Count),
            1 | 2 => (sum(token), Aggregate::Sum(column)),
            _ => match tokens.dims.get(dim) {
                Some(token) => (distinct(*token), Aggregate::Distinct(Key::Dim(dim))),
                None => (distinct(tokens.status), Aggregate::Distinct(Key::Status)),
            },
        }
    }
}

impl Shown for i64 {
    fn shown(self) -> Answer {
        Answer::Whole(Some(self.into()))
    }

    fn draw<S: Table>(tokens: &Tokens<S>, _: &mut Random) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        (sum(tokens.metric), Aggregate::Sum(NumberColumn::Metric))
    }
}

impl Shown for Option<i64> {
    fn shown(self) -> Answer {
        Answer::Whole(self.map(Into::into))
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let column = NumberColumn::Metric;
        match random.below(2) {
            0 => (min(tokens.metric), Aggregate::Min(column)),
            _ => (max(tokens.metric), Aggregate::Max(column)),
        }
    }
}

impl Shown for Option<u32> {
    fn shown(self) -> Answer {
        Answer::Whole(self.map(Into::into))
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let (token, column) = draw_narrow(tokens, random);
        match random.below(2) {
            0 => (min(token), Aggregate::Min(column)),
            _ => (max(token), Aggregate::Max(column)),
        }
    }
}

impl Shown for Option<f64> {
    fn shown(self) -> Answer {
        Answer::Mean(self)
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let (token, column) = draw_narrow(tokens, random);
        match random.below(2) {
            0 => (mean(tokens.metric), Aggregate::Mean(NumberColumn::Metric)),
            _ => (mean(token), Aggregate::Mean(column)),
        }
    }
}

impl Shown for Option<aggregates::Quantile<i64>> {
    fn shown(self) -> Answer {
        Answer::Quantile(self.map(|found| Quantile { value: found.value, is_exact: found.is_exact }))
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let q = draw_q(random);
        (quantile(tokens.metric, q), Aggregate::Quantile(NumberColumn::Metric, q))
    }
}

impl Shown for Option<aggregates::Quantile<u32>> {
    fn shown(self) -> Answer {
        Answer::Quantile(self.map(|found| Quantile { value: found.value.into(), is_exact: found.is_exact }))
    }

    fn draw<S: Table>(
        tokens: &Tokens<S>,
        random: &mut Random,
    ) -> (aggregates::Aggregate<S, Self>, Aggregate) {
        let ((token, column), q) = (draw_narrow(tokens, random), draw_q(random));
        (quantile(token, q), Aggregate::Quantile(column, q))
    }
}

/// A selection of aggregates: what the types of their answers are decides which may be drawn.
trait Selection<S>: Aggregates<S> + Copy {
    fn draw(tokens: &Tokens<S>, random: &mut Random) -> (Self, Vec<Aggregate>);
    fn shown(values: Self::Values) -> Vec<Answer>;
}

impl<S: Table, V: Shown> Selection<S> for aggregates::Aggregate<S, V> {
    fn draw(tokens: &Tokens<S>, random: &mut Random) -> (Self, Vec<Aggregate>) {
        let (token, plain) = V::draw(tokens, random);
        (token, vec![plain])
    }

    fn shown(values: V) -> Vec<Answer> {
        vec![values.shown()]
    }
}

macro_rules! selections {
    ($($value:ident $place:tt),+) => {
        impl<S: Table, $($value: Shown),+> Selection<S> for ($(aggregates::Aggregate<S, $value>,)+) {
            fn draw(tokens: &Tokens<S>, random: &mut Random) -> (Self, Vec<Aggregate>) {
                let drawn = ($($value::draw(tokens, random),)+);
                (($(drawn.$place.0,)+), vec![$(drawn.$place.1),+])
            }

            fn shown(values: Self::Values) -> Vec<Answer> {
                vec![$(values.$place.shown()),+]
            }
        }
    };
}

selections!(A 0, B 1);
selections!(A 0, B 1, C 2);
selections!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

/// Keys as they are read.
trait ShownKeys {
    fn shown(self) -> Vec<KeyValue>;
}

impl ShownKeys for () {
    fn shown(self) -> Vec<KeyValue> {
        Vec::new()
    }
}

impl ShownKeys for &str {
    fn shown(self) -> Vec<KeyValue> {
        vec![KeyValue::Text(self.to_owned())]
    }
}

impl ShownKeys for u16 {
    fn shown(self) -> Vec<KeyValue> {
        vec![KeyValue::Status(self)]
    }
}

impl<A: ShownKeys, B: ShownKeys> ShownKeys for (A, B) {
    fn shown(self) -> Vec<KeyValue> {
        [self.0.shown(), self.1.shown()].concat()
    }
}

impl<A: ShownKeys, B: ShownKeys, C: ShownKeys> ShownKeys for (A, B, C) {
    fn shown(self) -> Vec<KeyValue> {
        [self.0.shown(), self.1.shown(), self.2.shown()].concat()
    }
}

/// An aggregate to order by, of any type of answer.
enum By<S> {
    Whole(aggregates::Aggregate<S, u64>),
    Metric(aggregates::Aggregate<S, i64>),
    Extreme(aggregates::Aggregate<S, Option<i64>>),
    Mean(aggregates::Aggregate<S, Option<f64>>),
    Quantile(aggregates::Aggregate<S, Option<aggregates::Quantile<u32>>>),
}

impl<S: Table> By<S> {
    fn draw(tokens: &Tokens<S>, random: &mut Random) -> (Self, Aggregate) {
        fn with<S: Table, V: Shown>(
            kind: impl Fn(aggregates::Aggregate<S, V>) -> By<S>,
            tokens: &Tokens<S>,
            random: &mut Random,
        ) -> (By<S>, Aggregate) {
            let (token, plain) = V::draw(tokens, random);
            (kind(token), plain)
        }
        match random.below(5) {
            0 => with(Self::Whole, tokens, random),
            1 => with(Self::Metric, tokens, random),
            2 => with(Self::Extreme, tokens, random),
            3 => with(Self::Mean, tokens, random),
            _ => with(Self::Quantile, tokens, random),
        }
    }

    fn order<'a, K: GroupKeys<S>, B, A: Aggregates<S>>(
        &self,
        selected: Selected<'a, S, K, B, A>,
        from_the_top: bool,
        count: usize,
    ) -> Selected<'a, S, K, B, A> {
        fn ordered<S: Schema, K: GroupKeys<S>, B, A: Aggregates<S>, V>(
            selected: Selected<'_, S, K, B, A>,
            by: aggregates::Aggregate<S, V>,
            from_the_top: bool,
            count: usize,
        ) -> Selected<'_, S, K, B, A> {
            if from_the_top { selected.top_by(count, by) } else { selected.bottom_by(count, by) }
        }
        match self {
            Self::Whole(by) => ordered(selected, *by, from_the_top, count),
            Self::Metric(by) => ordered(selected, *by, from_the_top, count),
            Self::Extreme(by) => ordered(selected, *by, from_the_top, count),
            Self::Mean(by) => ordered(selected, *by, from_the_top, count),
            Self::Quantile(by) => ordered(selected, *by, from_the_top, count),
        }
    }
}

// Histories.

/// What outlives an open: the disk, and what is on it as the oracle sees it.
struct History {
    random: Random,
    values: Values,
    disk: Arc<dyn Disk>,
    sim: Option<SimDisk>,
    rows: Vec<Row>,
    step: String,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (disk, sim): (Arc<dyn Disk>, _) = if random.percent(30) {
            let sim = SimDisk::default();
            (Arc::new(sim.clone()), Some(sim))
        } else {
            (Arc::new(MemoryDisk::default()), None)
        };
        let values = Values::new(&mut random);
        Self { random, values, disk, sim, rows: Vec::new(), step: format!("history {seed}") }
    }
}

/// A table of a history while it is open.
struct Program<'h, S: Table> {
    history: &'h mut History,
    tokens: Tokens<S>,
    store: Option<Store<S>>,
    reader: Option<Reader<S>>,
}

impl<'h, S: Table> Program<'h, S> {
    fn open(history: &'h mut History) -> Self {
        let tokens = S::tokens();
        let (dims, counters, labels) = (tokens.dims.len(), tokens.counters.len(), tokens.labels.len());
        for row in &mut history.rows {
            *row = std::mem::take(row).grown(dims, counters, labels);
        }
        let mut program = Self { history, tokens, store: None, reader: None };
        program.reopen();
        program
    }

    fn reopen(&mut self) {
        self.reader = None;
        let random = &mut self.history.random;
        let dims = self.tokens.dims.len();
        if let Some(store) = self.store.take() {
            match (random.below(3), &self.history.sim) {
                (0, Some(sim)) => {
                    let killed = sim.kill();
                    drop(store);
                    self.history.disk = Arc::new(killed.clone());
                    self.history.sim = Some(killed);
                }
                (1, _) => store.close().unwrap(),
                _ => drop(store),
            }
        }
        let config = EngineConfig {
            wal_max_events: *random.pick(&[1, 3, 20, 300, 500_000, 500_000]),
            wal_shard_count: *random.pick(&[1, 2, 5]),
            bloom_dim: random.below(dims + 1),
            mmap_cache_capacity: *random.pick(&[1, 256]),
            ..S::default_config(PathBuf::from("events"))
        };
        let options = Options::default()
            .disk(Arc::clone(&self.history.disk))
            .memtable_bytes(*random.pick(&[1, 20_000, 64 << 20, 64 << 20]))
            .map_mode(*random.pick(&[MapMode::Map, MapMode::Read]))
            .sync(*random.pick(&[Sync::Always, Sync::Os]))
            .unlink_grace(*random.pick(&[Duration::ZERO, Duration::from_secs(60)]))
            .merge_rows(*random.pick(&[0, 30, 32_768]));
        self.history.step = format!("open with {config:?}");
        self.store = Some(Store::open_with(config.clone(), options.clone()).unwrap());
        self.reader = Some(Reader::open_with(config, options).unwrap());
    }

    fn store(&self) -> &Store<S> {
        self.store.as_ref().expect("open between the steps")
    }

    fn steps(mut self, steps: usize) {
        self.check();
        for step in 0..steps {
            self.step();
            self.history.step.insert_str(0, &format!("step {step}, "));
            self.check();
        }
    }

    fn step(&mut self) {
        match self.history.random.below(100) {
            0..20 => {
                let rows = 1 + self.history.random.below(9);
                self.append(rows);
            }
            20..45 => {
                let rows = 30 + self.history.random.below(100);
                self.append(rows);
            }
            45..52 => {
                let rows = *self.history.random.pick(&[255, 256, 257, 700]);
                self.append(rows);
            }
            52..66 => {
                "flush".clone_into(&mut self.history.step);
                self.store().flush().unwrap();
            }
            66..72 => {
                "compact".clone_into(&mut self.history.step);
                self.store().compact(Budget::UNLIMITED).unwrap();
            }
            72..76 => {
                "maintain".clone_into(&mut self.history.step);
                self.store().maintain(Budget::rows(50)).unwrap();
            }
            76..80 => self.gc(),
            80..84 => self.delete(),
            84..92 => self.delete_where(),
            _ => self.reopen(),
        }
    }

    fn append(&mut self, count: usize) {
        self.history.step = format!("append {count}");
        let History { random, values, .. } = &mut *self.history;
        let mut batch: Vec<Row> = (0..count).map(|_| values.event(random, &self.tokens)).collect();
        if values.is_sorted {
            batch.sort_by_key(|row| row.ts_ns);
        }
        let appended = self.store().append_batch(batch.iter().map(S::event)).unwrap();
        for (sequence, row) in (appended.first..).zip(&mut batch) {
            row.sequence = sequence;
        }
        assert_eq!(batch.last().map(|row| row.sequence), Some(appended.last));
        self.history.rows.append(&mut batch);
    }

    fn delete(&mut self) {
        let History { random, rows, .. } = &mut *self.history;
        let ids: Vec<String> = (0..3)
            .map(|_| if rows.is_empty() { "x".to_owned() } else { random.pick(rows).id.clone() })
            .collect();
        self.history.step = format!("delete {ids:?}");
        self.store().delete(&ids.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        self.history.rows.retain(|row| !ids.contains(&row.id));
    }

    fn delete_where(&mut self) {
        let History { random, rows, .. } = &mut *self.history;
        let asker = Asker { tokens: &self.tokens, rows };
        // Few of the questions leave much of a table.
        let question = asker.question(random);
        let question = if random.percent(70) {
            question.and(asker.leaf(random)).and(asker.leaf(random))
        } else {
            question
        };
        self.history.step = format!("delete where {question:?}");
        let deleted = self.store().delete_where(&question.filter).unwrap();
        let before = self.history.rows.len();
        self.history.rows.retain(|row| !(question.holds)(row));
        assert_eq!(deleted, (before - self.history.rows.len()) as u64, "{}", self.history.step);
    }

    /// Which rows share a segment is the engine's affair: the oracle takes over what is left.
    fn gc(&mut self) {
        let History { random, values, rows, .. } = &mut *self.history;
        let cutoff = if rows.is_empty() { values.time(random) } else { random.pick(rows).ts_ns };
        self.history.step = format!("gc {cutoff}");
        self.store().gc(cutoff).unwrap();
        let left = self.store().query(Filter::all()).rows().unwrap();
        let left: std::collections::HashSet<u64> = left.into_iter().map(|row| S::row(row).sequence).collect();
        let step = &self.history.step;
        self.history.rows.retain(|row| {
            let stays = left.contains(&row.sequence);
            assert!(stays || row.ts_ns < cutoff, "{step} took {row:?}");
            stays
        });
    }

    fn check(&mut self) {
        self.reader.as_ref().unwrap().refresh().unwrap();
        let History { random, rows, step, .. } = &mut *self.history;
        let asker = Asker { tokens: &self.tokens, rows };
        let sources =
            Sources { store: self.store.as_ref().unwrap(), reader: self.reader.as_ref().unwrap(), step };
        let mut all = rows.clone();
        all.sort_by_key(|row| (row.ts_ns, row.sequence));
        sources.check_rows(&Question::all(), &all, random);
        for _ in 0..2 {
            let question = asker.question(random);
            let found: Vec<Row> = all.iter().filter(|row| (question.holds)(row)).cloned().collect();
            sources.check_rows(&question, &found, random);
            sources.check_totals(&question, &found, &self.tokens);
            sources.check_values(&question, &found, &self.tokens, random);
        }
        for _ in 0..4 {
            let question = asker.question(random);
            let found: Vec<&Row> = all.iter().filter(|row| (question.holds)(row)).collect();
            sources.check_groups(&question, &found, &self.tokens, random);
        }
    }
}

/// Whoever is asked.
struct Sources<'a, S: Table> {
    store: &'a Store<S>,
    reader: &'a Reader<S>,
    step: &'a str,
}

impl<S: Table> Sources<'_, S> {
    /// The question to the store and to the reader, each by the planner's means and by scan.
    fn queries(&self, question: &Question<S>) -> [(&'static str, Query<'_, S>); 4] {
        [
            ("store", self.store.query(&question.filter)),
            ("store by scan", self.store.query(&question.filter).by_scan()),
            ("reader", self.reader.query(&question.filter)),
            ("reader by scan", self.reader.query(question.filter.clone()).by_scan()),
        ]
    }

    /// `found` are the rows that match, by time and sequence.
    fn check_rows(&self, question: &Question<S>, found: &[Row], random: &mut Random) {
        let limit = *random.pick(&[0, 1, 2, 7, 100, usize::MAX]);
        let is_newest_first = random.percent(70);
        let expected: Vec<&Row> = if is_newest_first {
            found.iter().rev().take(limit).collect()
        } else {
            found.iter().take(limit).collect()
        };
        for (who, query) in self.queries(question) {
            let query = if is_newest_first { query.newest_first() } else { query.oldest_first() };
            let rows: Vec<Row> = query.limit(limit).rows().unwrap().into_iter().map(S::row).collect();
            let what = || format!("{who} after {}: rows {question:?}, limit {limit}", self.step);
            if let Some(place) = rows.iter().zip(&expected).position(|(row, expected)| row != *expected) {
                panic!("{}: row {place} is\n{:?}\ninstead of\n{:?}", what(), rows[place], expected[place]);
            }
            assert_eq!(rows.len(), expected.len(), "{}", what());
        }
    }

    fn check_totals(&self, question: &Question<S>, found: &[Row], tokens: &Tokens<S>) {
        let rows: Vec<&Row> = found.iter().collect();
        let fixed = [NumberColumn::Metric, NumberColumn::Latency, NumberColumn::LatencyDetail];
        let counters = (0..tokens.counters.len()).map(NumberColumn::Counter);
        let measures = fixed.into_iter().chain(counters);
        let measures = measures.flat_map(|of| [Aggregate::Sum(of), Aggregate::Min(of), Aggregate::Max(of)]);
        let expected: Vec<Answer> =
            std::iter::once(Aggregate::Count).chain(measures).map(|of| of.answer(&rows)).collect();
        for (who, query) in self.queries(question) {
            let totals: Vec<Answer> =
                S::totals(query.totals().unwrap()).into_iter().map(Answer::Whole).collect();
            assert_eq!(totals, expected, "{who} after {}: totals {question:?}", self.step);
        }
    }

    fn check_values(&self, question: &Question<S>, found: &[Row], tokens: &Tokens<S>, random: &mut Random) {
        if tokens.dims.is_empty() {
            return;
        }
        let dim = random.below(tokens.dims.len());
        let (start, limit) = (*random.pick(&PARTS), *random.pick(&[0, 1, 3, 50, usize::MAX]));
        let key = TextColumn::Dim(dim);
        let rows: Vec<&Row> = found.iter().filter(|row| row.text(key).starts_with(start)).collect();
        let ask = Grouping {
            keys: vec![Key::Dim(dim)],
            buckets: None,
            aggregates: vec![Aggregate::Count],
            order: Order::Top(Aggregate::Count),
            limit,
            offset: 0,
        };
        let expected = ask.answer(&rows).unwrap();
        for (who, query) in self.queries(question) {
            let facets = query.values(tokens.dims[dim]).starting_with(start).limit(limit).unwrap();
            let line = |(value, count): (String, u64)| Line {
                key: vec![KeyValue::Text(value)],
                bucket: None,
                answers: vec![count.shown()],
            };
            let facets: Vec<Line> = facets.into_iter().map(line).collect();
            assert_eq!(
                facets, expected,
                "{who} after {}: values {ask:?} {start:?} of {question:?}",
                self.step
            );
        }
    }

    fn check_groups(&self, question: &Question<S>, found: &[&Row], tokens: &Tokens<S>, random: &mut Random) {
        let status = (tokens.status, Key::Status);
        let dim = |random: &mut Random| {
            let place = random.below(tokens.dims.len());
            (tokens.dims[place], Key::Dim(place))
        };
        let round = Round { sources: self, question, found, tokens };
        match random.below(if tokens.dims.is_empty() { 2 } else { 7 }) {
            0 => round.of_keys((), Vec::new(), random),
            1 => round.of_keys(status.0, vec![status.1], random),
            2 | 3 => {
                let dim = dim(random);
                round.of_keys(dim.0, vec![dim.1], random);
            }
            4 => {
                let (one, two) = (dim(random), dim(random));
                round.of_keys((one.0, two.0), vec![one.1, two.1], random);
            }
            5 => {
                let dim = dim(random);
                round.of_keys((dim.0, status.0), vec![dim.1, status.1], random);
            }
            _ => {
                let (one, two) = (dim(random), dim(random));
                round.of_keys((status.0, one.0, two.0), vec![status.1, one.1, two.1], random);
            }
        }
    }
}

/// A question for groups under way.
struct Round<'a, S: Table> {
    sources: &'a Sources<'a, S>,
    question: &'a Question<S>,
    found: &'a [&'a Row],
    tokens: &'a Tokens<S>,
}

type Of<S, V> = aggregates::Aggregate<S, V>;
type QuantileOf<S, T> = Of<S, Option<aggregates::Quantile<T>>>;
/// One of each type of answer and more, as many as a selection may have.
type Everything<S> = (
    Of<S, u64>,
    Of<S, i64>,
    Of<S, Option<i64>>,
    Of<S, Option<u32>>,
    Of<S, Option<f64>>,
    QuantileOf<S, u32>,
    QuantileOf<S, i64>,
    Of<S, u64>,
    Of<S, u64>,
    Of<S, Option<i64>>,
    Of<S, Option<f64>>,
    QuantileOf<S, u32>,
);

impl<S: Table> Round<'_, S> {
    fn of_keys<K: GroupKeys<S> + Copy>(&self, keys: K, plain: Vec<Key>, random: &mut Random)
    where
        for<'g> K::Key<'g>: ShownKeys,
    {
        match random.below(5) {
            0 => self.of_aggregates::<K, Of<S, u64>>(keys, plain, random),
            1 => self.of_aggregates::<K, (Of<S, u64>, Of<S, i64>)>(keys, plain, random),
            2 => self.of_aggregates::<K, (Of<S, Option<i64>>, Of<S, u64>, Of<S, Option<u32>>)>(
                keys, plain, random,
            ),
            3 => self.of_aggregates::<K, (QuantileOf<S, u32>, QuantileOf<S, i64>)>(keys, plain, random),
            _ => self.of_aggregates::<K, Everything<S>>(keys, plain, random),
        }
    }

    fn of_aggregates<K: GroupKeys<S> + Copy, A: Selection<S>>(
        &self,
        keys: K,
        plain: Vec<Key>,
        random: &mut Random,
    ) where
        for<'g> K::Key<'g>: ShownKeys,
    {
        let (selected, aggregates) = A::draw(self.tokens, random);
        let buckets = random.percent(50).then(|| Self::buckets(random));
        let (by, plain_by) = By::draw(self.tokens, random);
        let mut ask = Grouping {
            keys: plain,
            buckets,
            aggregates,
            order: match random.below(4) {
                0 | 1 => Order::ByKey,
                2 => Order::Top(plain_by),
                _ => Order::Bottom(plain_by),
            },
            limit: *random.pick(&[0, 1, 2, 5, 100, usize::MAX, usize::MAX]),
            offset: *random.pick(&[0, 0, 0, 1, 3, 1000]),
        };
        if let Some(buckets) = ask.buckets.as_mut().filter(|buckets| buckets.is_filled) {
            buckets.is_filled = self.may_be_filled(buckets.width_ns);
        }
        let expected = ask.answer(self.found);
        for (who, query) in self.sources.queries(self.question) {
            let grouped = query.group_by(keys);
            let lines = match ask.buckets {
                Some(Buckets { width_ns, offset_ns, is_filled }) => {
                    let bucket = Bucket::ns(width_ns).from(offset_ns);
                    let bucket = if is_filled { bucket.filled() } else { bucket };
                    let selected = ordered(grouped.bucket(bucket).select(selected), &ask, &by);
                    selected.fetch().map(|found| lines(&found, |group| Some(group.bucket())))
                }
                None => {
                    ordered(grouped.select(selected), &ask, &by).fetch().map(|found| lines(&found, |_| None))
                }
            };
            let what = || format!("{who} after {}: {ask:?} of {:?}", self.sources.step, self.question);
            match (lines, &expected) {
                (Ok(lines), Some(expected)) => assert_lines(&lines, expected, &what),
                (Err(DbError::Invalid { .. }), None) => {}
                (lines, expected) => panic!("{}: {lines:?} instead of {expected:?}", what()),
            }
        }
    }

    fn buckets(random: &mut Random) -> Buckets {
        let width_ns = match random.below(8) {
            0 => 1,
            1 => 2 + random.below(10) as i64,
            2 => 60_000_000_000,
            3 | 4 => 3_600_000_000_000,
            5 => DAY_NS,
            6 => *random.pick(&[i64::MAX, i64::MAX - 1, 1 << 62]),
            _ => 1 + (random.next() >> 1 >> random.below(62)) as i64,
        };
        let offset_ns = match random.below(4) {
            0 => 0,
            1 => -1 - random.below(1000) as i64,
            2 => *random.pick(&[i64::MIN, i64::MAX, width_ns, -width_ns]),
            _ => random.next() as i64,
        };
        Buckets { width_ns, offset_ns, is_filled: random.percent(50) }
    }

    /// Filling is tried where it gives few groups, or so many that it is refused.
    fn may_be_filled(&self, width_ns: i64) -> bool {
        let times = || self.found.iter().map(|row| i128::from(row.ts_ns));
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return true };
        let buckets = (last - first) / i128::from(width_ns);
        !(50..=TOO_MANY_FILLED).contains(&buckets)
    }
}

fn ordered<'a, S: Table, K: GroupKeys<S>, B, A: Aggregates<S>>(
    selected: Selected<'a, S, K, B, A>,
    ask: &Grouping,
    by: &By<S>,
) -> Selected<'a, S, K, B, A> {
    let selected = match ask.order {
        Order::ByKey => selected.order_by_key().limit(ask.limit),
        Order::Top(_) => by.order(selected, true, ask.limit),
        Order::Bottom(_) => by.order(selected, false, ask.limit),
    };
    selected.offset(ask.offset)
}

fn lines<S: Table, K: GroupKeys<S>, B, A: Selection<S>>(
    groups: &Groups<S, K, B, A>,
    bucket: impl for<'g> Fn(&Group<'g, S, K, B, A>) -> Option<i64>,
) -> Vec<Line>
where
    for<'g> K::Key<'g>: ShownKeys,
{
    let line = |group: Group<'_, S, K, B, A>| Line {
        key: group.key().shown(),
        bucket: bucket(&group),
        answers: A::shown(group.values()),
    };
    groups.iter().map(line).collect()
}

#[track_caller]
fn assert_lines(lines: &[Line], expected: &[Line], what: &dyn Fn() -> String) {
    let agrees = |(line, expected): (&Line, &Line)| {
        (&line.key, line.bucket) == (&expected.key, expected.bucket)
            && line.answers.iter().zip(&expected.answers).all(|(got, right)| got.agrees(right))
    };
    if let Some(place) = lines.iter().zip(expected).position(|pair| !agrees(pair)) {
        panic!("{}: group {place} is\n{:?}\ninstead of\n{:?}", what(), lines[place], expected[place]);
    }
    assert_eq!(lines.len(), expected.len(), "{}: number of groups", what());
}
