//! Every answer by a plain loop over the workload: what the engine's are held against.

use std::collections::{BTreeMap, VecDeque};

use keplordb_benches::workload::{MODELS, Numbers, SEED, USERS, event, numbers, user_name};

use crate::answer::{Answer, fields_of};
use crate::operation::Operation;
use crate::parameters::Parameters;

/// Nanoseconds of a minute and of an hour.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
pub(crate) const HOUR_NS: i64 = 60 * MINUTE_NS;
/// Latencies are below this, in milliseconds.
const LATENCIES: usize = 5000;
const NEWEST_ROWS: usize = 100;

/// Count and sums of some events.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    count: u64,
    metric: i64,
    tokens: u64,
    latency_ms: u64,
}

impl Totals {
    fn add(&mut self, row: &Numbers) {
        self.count += 1;
        self.metric += row.metric;
        self.tokens += u64::from(row.tokens);
        self.latency_ms += u64::from(row.latency_ms);
    }

    fn answer(&self) -> Answer {
        Answer::row(&[&self.count, &self.metric, &self.tokens, &self.latency_ms])
    }
}

/// What the operations without constants add up.
struct Whole {
    all: Totals,
    by_model: [Totals; MODELS.len()],
    by_user: Vec<i64>,
    by_minute: BTreeMap<i64, Totals>,
    by_hour: BTreeMap<i64, Totals>,
}

impl Whole {
    fn new() -> Self {
        Self {
            all: Totals::default(),
            by_model: Default::default(),
            by_user: vec![0; usize::from(USERS)],
            by_minute: BTreeMap::new(),
            by_hour: BTreeMap::new(),
        }
    }

    fn add(&mut self, row: &Numbers) {
        self.all.add(row);
        self.by_model[usize::from(row.model)].add(row);
        self.by_user[usize::from(row.user)] += row.metric;
        self.by_minute.entry(row.ts_ns.div_euclid(MINUTE_NS)).or_default().add(row);
        self.by_hour.entry(row.ts_ns.div_euclid(HOUR_NS)).or_default().add(row);
    }

    fn by_model(&self) -> Answer {
        let models = MODELS.iter().zip(&self.by_model).filter(|(_, totals)| totals.count > 0);
        let mut rows: Vec<_> = models
            .map(|(name, totals)| fields_of(&[name, &totals.count, &totals.metric, &totals.tokens]))
            .collect();
        rows.sort();
        Answer(rows)
    }

    fn top_users(&self) -> Answer {
        let mut users: Vec<_> = (0..USERS).zip(&self.by_user).collect();
        // Stable: of equal sums the lower number comes first.
        users.sort_by_key(|(_, metric)| -**metric);
        Answer(users.iter().take(10).map(|(user, metric)| fields_of(&[&user_name(*user), metric])).collect())
    }
}

fn buckets(by_bucket: &BTreeMap<i64, Totals>) -> Answer {
    let rows = by_bucket.iter();
    Answer(rows.map(|(bucket, totals)| fields_of(&[bucket, &totals.count, &totals.metric])).collect())
}

/// What the operations with these constants add up.
struct Asked<'p> {
    parameters: &'p Parameters,
    user: Totals,
    in_time: Totals,
    user_in_time: Totals,
    failed: Totals,
    throttled: Totals,
    heavy: Totals,
    newest_of_user: VecDeque<u64>,
    newest_of_rare_user: VecDeque<u64>,
    /// Of the model, how many events took so many milliseconds.
    latencies: Vec<u64>,
    users_in_time: Vec<bool>,
}

impl<'p> Asked<'p> {
    fn new(parameters: &'p Parameters) -> Self {
        Self {
            parameters,
            user: Totals::default(),
            in_time: Totals::default(),
            user_in_time: Totals::default(),
            failed: Totals::default(),
            throttled: Totals::default(),
            heavy: Totals::default(),
            newest_of_user: VecDeque::new(),
            newest_of_rare_user: VecDeque::new(),
            latencies: vec![0; LATENCIES],
            users_in_time: vec![false; usize::from(USERS)],
        }
    }

    fn add(&mut self, number: u64, row: &Numbers) {
        let asked = self.parameters;
        let is_in_time = asked.times.contains(&row.ts_ns);
        if row.user == asked.user {
            self.user.add(row);
            keep(&mut self.newest_of_user, number);
            if is_in_time {
                self.user_in_time.add(row);
            }
        }
        if row.user == asked.rare_user {
            keep(&mut self.newest_of_rare_user, number);
        }
        if is_in_time {
            self.in_time.add(row);
            self.users_in_time[usize::from(row.user)] = true;
        }
        if row.status >= asked.failed_from {
            self.failed.add(row);
        }
        if row.model == asked.model {
            self.latencies[row.latency_ms as usize] += 1;
            if row.status == asked.status {
                self.throttled.add(row);
            }
        }
        if row.tokens > asked.tokens_above && row.latency_ms > asked.latency_ms_above {
            self.heavy.add(row);
        }
    }

    /// By nearest rank: the smallest latency that at least so many hundredths of the events do not exceed.
    fn latency_ms(&self, percent: u64) -> usize {
        let count: u64 = self.latencies.iter().sum();
        let rank = (count * percent).div_ceil(100);
        let mut seen = 0;
        let at = |count: &u64| {
            seen += count;
            seen >= rank
        };
        self.latencies.iter().position(at).unwrap_or(LATENCIES)
    }
}

fn keep(newest: &mut VecDeque<u64>, row: u64) {
    if newest.len() == NEWEST_ROWS {
        newest.pop_front();
    }
    newest.push_back(row);
}

/// The answers to every operation, with each of the constants.
pub(crate) struct Answers<'p> {
    rows: u64,
    whole: Whole,
    asked: Vec<Asked<'p>>,
}

impl<'p> Answers<'p> {
    /// One pass over the first `rows` events.
    pub(crate) fn new(rows: u64, parameters: &'p [Parameters]) -> Self {
        let mut answers =
            Self { rows, whole: Whole::new(), asked: parameters.iter().map(Asked::new).collect() };
        for number in 0..rows {
            let row = numbers(SEED, number);
            answers.whole.add(&row);
            for asked in &mut answers.asked {
                asked.add(number, &row);
            }
        }
        answers
    }

    /// With the constants at `place`.
    pub(crate) fn of(&self, operation: Operation, place: usize) -> Answer {
        let (whole, asked) = (&self.whole, &self.asked[place]);
        let newest = |count: u64| Answer::events(newest_rows(self.rows, count).map(|row| event(SEED, row)));
        let newest_of = |rows: &VecDeque<u64>| Answer::events(rows.iter().rev().map(|row| event(SEED, *row)));
        match operation.of_peers() {
            Operation::R1 => whole.all.answer(),
            Operation::R2 => asked.user.answer(),
            Operation::R3 => asked.in_time.answer(),
            Operation::R4 => asked.user_in_time.answer(),
            Operation::R5 => asked.failed.answer(),
            Operation::R6 => asked.throttled.answer(),
            Operation::R7 => whole.by_model(),
            Operation::R8 => whole.top_users(),
            Operation::R9m => buckets(&whole.by_minute),
            Operation::R9h => buckets(&whole.by_hour),
            Operation::R10 | Operation::R10b => newest(100),
            Operation::R11 | Operation::R11b => newest(1000),
            Operation::R12 => newest_of(&asked.newest_of_user),
            Operation::R13 => newest_of(&asked.newest_of_rare_user),
            Operation::R14 | Operation::R19 => Answer::events([event(SEED, asked.parameters.row)]),
            Operation::R15 | Operation::R20 => Answer::default(),
            Operation::R16 => {
                let [p50, p95, p99] = [50, 95, 99].map(|percent| asked.latency_ms(percent));
                Answer::row(&[&p50, &p95, &p99])
            }
            Operation::R17 => Answer::row(&[&asked.users_in_time.iter().filter(|is_in| **is_in).count()]),
            Operation::R18 => Answer::row(&[&asked.heavy.count, &asked.heavy.metric]),
        }
    }
}

/// The last `count` of `rows` rows, newest first.
fn newest_rows(rows: u64, count: u64) -> impl Iterator<Item = u64> {
    (rows.saturating_sub(count)..rows).rev()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published;

    /// Generator and loop against what the peers' own program found.
    #[test]
    fn a_plain_loop_finds_what_is_published() {
        let parameters = [Parameters::published(published::ROWS)];
        let answers = Answers::new(published::ROWS, &parameters);
        for (operation, published) in published::ANSWERS {
            assert_eq!(answers.of(operation, 0).to_string(), published, "{operation}");
        }
    }
}
