//! Each operation through the typed interface, answered and timed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use keplordb::aggregates::{Quantile, count, distinct, quantile, sum};
use keplordb::{Bucket, Filter, Query, Store, Totals};
use keplordb_benches::calls::{LlmCall, LlmCallRow};
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, fields_of};
use crate::operation::Operation;
use crate::parameters::Parameters;
use crate::plain::{HOUR_NS, MINUTE_NS};

/// How long a warm operation is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling {
    /// Least number of warm runs.
    pub(crate) runs: usize,
    /// Quick operations are repeated this long, but at most `RUNS_MAX_FACTOR * runs` times.
    pub(crate) limit: Duration,
}

/// As the peers are repeated.
const RUNS_MAX_FACTOR: usize = 50;

/// What one round measured of an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) op: String,
    /// As the peers print it.
    pub(crate) result: String,
    pub(crate) median_us: f64,
    pub(crate) min_us: f64,
    /// The first run after the store was opened.
    pub(crate) first_us: f64,
    pub(crate) runs: usize,
    /// Median with other constants in every run; `None` where there are none to draw.
    pub(crate) drawn_median_us: Option<f64>,
    /// The answers with those.
    pub(crate) drawn_results: Vec<String>,
}

/// A store and what it is asked.
pub(crate) struct Asker<'a> {
    pub(crate) store: &'a Store<LlmCall>,
    pub(crate) published: Parameters,
    pub(crate) drawn: Vec<Parameters>,
    pub(crate) sampling: Sampling,
    pub(crate) by_scan: bool,
}

impl Asker<'_> {
    /// Asks an operation again and again. Filter and query are made anew every time, within the timing.
    #[expect(clippy::too_many_lines, reason = "a list of questions, each read by itself")]
    pub(crate) fn cell(&self, op: Operation) -> Result<Cell> {
        let (c, store) = (LlmCall::cols(), self.store);
        let buckets =
            |width: Bucket| self.query(Filter::all()).bucket(width).select((count(), sum(c.metric))).fetch();
        let newest = |filter: Filter<LlmCall>, rows: usize| store.query(filter).newest_first().limit(rows);
        match op {
            Operation::R1 => self.measure(op, |_| self.query(Filter::all()).totals(), totals),
            Operation::R2 => self.measure(op, |p| self.query(c.user.eq(&p.user_name)).totals(), totals),
            Operation::R3 => self.measure(
                op,
                |p| {
                    // `totals` would look for extremes too, which no sum along time has.
                    let sums = (count(), sum(c.metric), sum(c.tokens), sum(c.latency_ms));
                    self.query(Filter::all()).between(p.times.clone()).select(sums).one()
                },
                |(count, metric, tokens, latency_ms)| Answer::row(&[count, metric, tokens, latency_ms]),
            ),
            Operation::R4 => self.measure(
                op,
                |p| self.query(c.user.eq(&p.user_name)).between(p.times.clone()).totals(),
                totals,
            ),
            Operation::R5 => self.measure(op, |p| self.query(c.status.ge(p.failed_from)).totals(), totals),
            Operation::R6 => self.measure(
                op,
                |p| self.query(c.model.eq(p.model_name()) & c.status.eq(p.status)).totals(),
                totals,
            ),
            Operation::R7 => self.measure(
                op,
                |_| {
                    let models = self.query(Filter::all()).group_by(c.model);
                    models.select((count(), sum(c.metric), sum(c.tokens))).fetch()
                },
                |models| {
                    let row =
                        |(model, (count, metric, tokens))| fields_of(&[&model, &count, &metric, &tokens]);
                    Answer(models.iter().map(|model| row((model.key(), model.values()))).collect())
                },
            ),
            Operation::R8 => self.measure(
                op,
                |_| {
                    let users = self.query(Filter::all()).group_by(c.user);
                    users.select(sum(c.metric)).top_by(10, sum(c.metric)).fetch()
                },
                |users| Answer(users.iter().map(|user| fields_of(&[&user.key(), &user.values()])).collect()),
            ),
            Operation::R9m => self.measure(
                op,
                |_| buckets(Bucket::minutes(1)),
                |minutes| {
                    let rows = minutes.iter().map(|minute| (minute.bucket(), minute.values()));
                    bucket_rows(rows, MINUTE_NS)
                },
            ),
            Operation::R9h => self.measure(
                op,
                |_| buckets(Bucket::hours(1)),
                |hours| bucket_rows(hours.iter().map(|hour| (hour.bucket(), hour.values())), HOUR_NS),
            ),
            Operation::R10 => {
                self.measure(op, |_| newest(Filter::all(), 100).rows(), |rows| Answer::rows(rows))
            }
            Operation::R10b => self.borrowed(op, 100),
            Operation::R11 => {
                self.measure(op, |_| newest(Filter::all(), 1000).rows(), |rows| Answer::rows(rows))
            }
            Operation::R11b => self.borrowed(op, 1000),
            Operation::R12 => {
                self.measure(op, |p| newest(c.user.eq(&p.user_name), 100).rows(), |rows| Answer::rows(rows))
            }
            Operation::R13 => self.measure(
                op,
                |p| newest(c.user.eq(&p.rare_user_name), 100).rows(),
                |rows| Answer::rows(rows),
            ),
            Operation::R14 => self.measure(op, |p| store.get(&p.id_hit), found_row),
            Operation::R15 => self.measure(op, |p| store.get(&p.id_miss), found_row),
            Operation::R16 => self.measure(
                op,
                |p| {
                    let of_model = self.query(c.model.eq(p.model_name()));
                    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| quantile(c.latency_ms, q));
                    of_model.select((p50, p95, p99)).one()
                },
                |(p50, p95, p99)| {
                    let text = |found: &Option<Quantile<u32>>| {
                        found.map_or("none".to_owned(), |found| found.value.to_string())
                    };
                    Answer::row(&[&text(p50), &text(p95), &text(p99)])
                },
            ),
            Operation::R17 => self.measure(
                op,
                |p| self.query(Filter::all()).between(p.times.clone()).select(distinct(c.user)).one(),
                |users| Answer::row(&[users]),
            ),
            Operation::R18 => self.measure(
                op,
                |p| {
                    let heavy = c.tokens.gt(p.tokens_above) & c.latency_ms.gt(p.latency_ms_above);
                    self.query(heavy).select((count(), sum(c.metric))).one()
                },
                |(count, metric)| Answer::row(&[count, metric]),
            ),
            Operation::R19 => {
                self.measure(op, |p| store.query(c.label.eq(&p.label_hit)).rows(), |rows| Answer::rows(rows))
            }
            Operation::R20 => {
                self.measure(op, |p| store.query(c.label.eq(&p.label_miss)).rows(), |rows| Answer::rows(rows))
            }
        }
    }

    /// A query that scans where it is told to.
    fn query(&self, filter: Filter<LlmCall>) -> Query<'_, LlmCall> {
        let query = self.store.query(filter);
        if self.by_scan { query.by_scan() } else { query }
    }

    /// The newest rows, every number and dim of each looked at where it lies. That ids and labels are right, too, is checked
    /// outside the timing.
    fn borrowed(&self, op: Operation, rows: usize) -> Result<Cell> {
        let query = || self.store.query(Filter::all()).newest_first().limit(rows);
        let look = |_: &Parameters| {
            query().each(|row| {
                black_box((row.user(), row.model()));
                black_box((
                    row.ts_ns(),
                    row.metric(),
                    row.tokens(),
                    row.latency_ms(),
                    row.latency_detail_ms(),
                ));
                black_box((row.status(), row.flags()));
            })
        };
        let mut copies = Answer::default();
        query().each(|row| {
            copies.0.push(answer::view_fields(&row)?);
            Ok(())
        })?;
        self.measure(op, look, |()| copies.clone())
    }

    /// Times `ask`: once for the first time, then with the published constants, then with others in every run.
    fn measure<T>(
        &self,
        op: Operation,
        ask: impl Fn(&Parameters) -> keplordb::Result<T>,
        answer: impl Fn(&T) -> Answer,
    ) -> Result<Cell> {
        let (first_us, found) = timed(|| ask(&self.published))?;
        let mut samples = self.sample(|_| timed(|| ask(&self.published)))?;
        let mut cell = Cell {
            op: op.to_string(),
            result: answer(&found).to_string(),
            median_us: median(&mut samples),
            min_us: samples.first().copied().unwrap_or(0.0),
            first_us,
            runs: samples.len(),
            drawn_median_us: None,
            drawn_results: Vec::new(),
        };
        if op.has_constants() && !self.drawn.is_empty() {
            for drawn in &self.drawn {
                cell.drawn_results.push(answer(&ask(drawn)?).to_string());
            }
            let drawn = |run: usize| &self.drawn[run % self.drawn.len()];
            cell.drawn_median_us = Some(median(&mut self.sample(|run| timed(|| ask(drawn(run))))?));
        }
        Ok(cell)
    }

    /// Microseconds of enough runs. What a run returned is dropped outside its time.
    fn sample<T>(&self, run: impl Fn(usize) -> Result<(f64, T)>) -> Result<Vec<f64>> {
        let Sampling { runs, limit } = self.sampling;
        let (mut samples, mut spent_us) = (Vec::with_capacity(runs * RUNS_MAX_FACTOR), 0.0);
        let limit_us = limit.as_secs_f64() * 1e6;
        while samples.len() < runs || (spent_us < limit_us && samples.len() < runs * RUNS_MAX_FACTOR) {
            let (us, _) = run(samples.len())?;
            spent_us += us;
            samples.push(us);
        }
        Ok(samples)
    }
}

/// How long a call took, in microseconds, and what it returned.
fn timed<T>(call: impl FnOnce() -> keplordb::Result<T>) -> Result<(f64, T)> {
    let begin = Instant::now();
    let found = black_box(call()?);
    Ok((begin.elapsed().as_secs_f64() * 1e6, found))
}

/// Sorts the samples.
fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    match samples.len() {
        0 => 0.0,
        len => f64::midpoint(samples[(len - 1) / 2], samples[len / 2]),
    }
}

fn totals(found: &Totals<1>) -> Answer {
    Answer::row(&[&found.event_count, &found.metric, &found.counters[0], &found.latency_ms])
}

#[expect(clippy::ref_option, reason = "it is told the whole answer, whatever its type")]
fn found_row(row: &Option<LlmCallRow>) -> Answer {
    Answer::rows(row.as_slice())
}

/// The peers number buckets by their place from the epoch.
fn bucket_rows(rows: impl Iterator<Item = (i64, (u64, i64))>, width_ns: i64) -> Answer {
    let row =
        |(start_ns, (count, metric)): (i64, _)| fields_of(&[&start_ns.div_euclid(width_ns), &count, &metric]);
    Answer(rows.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_in_it() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
