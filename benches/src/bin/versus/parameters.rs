//! The constants of the operations: those that the peers are asked with, or others that are drawn.

use std::ops::Range;

use keplordb_benches::workload::{self, MODELS, SEED, START_NS, USERS};

/// Nanoseconds of time that an event stands for.
const STEP_NS: i64 = 1_000_000;
/// Statuses that events have, one of which is drawn.
const STATUSES: [u16; 6] = [200, 429, 500, 201, 404, 503];

/// What is asked for; texts as a program would hold them, and the numbers that a plain loop compares.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) user: u16,
    pub(crate) user_name: String,
    pub(crate) rare_user: u16,
    pub(crate) rare_user_name: String,
    /// A place in [`MODELS`].
    pub(crate) model: u8,
    /// A tenth of the events, aligned to nothing; in nanoseconds since the Unix epoch.
    pub(crate) times: Range<i64>,
    /// The event that is looked up by its id and by its label.
    pub(crate) row: u64,
    pub(crate) id_hit: String,
    pub(crate) id_miss: String,
    pub(crate) label_hit: String,
    pub(crate) label_miss: String,
    /// The smallest status that counts as a failure.
    pub(crate) failed_from: u16,
    pub(crate) status: u16,
    pub(crate) tokens_above: u32,
    pub(crate) latency_ms_above: u32,
}

impl Parameters {
    /// Those of the peers.
    pub(crate) fn published(rows: u64) -> Self {
        let row = rows * 618 / 1000;
        let base = Self::of(7, 999, 2, rows as i64 * 413_717, row, rows + 12_345, rows);
        Self { failed_from: 500, status: 429, tokens_above: 4000, latency_ms_above: 4500, ..base }
    }

    /// The `number`-th others.
    pub(crate) fn drawn(rows: u64, number: u64) -> Self {
        // Another seed of the workload is a source of random numbers as good as any.
        let draw = workload::numbers(!SEED, number);
        let more = workload::numbers(!SEED ^ 1, number);
        let user = u16::try_from(draw.metric % i64::from(USERS)).unwrap_or(0);
        let rare_user = USERS - 1 - u16::try_from(draw.latency_ms % 20).unwrap_or(0);
        let model = u8::try_from(more.metric % MODELS.len() as i64).unwrap_or(0);
        // The range ends before the last event; a metric is a uniform number below ten million.
        let from_ns = rows as i64 * (more.metric * 9 / 100);
        let row = rows * u64::from(more.tokens) / 4096;
        let base = Self::of(user, rare_user, model, from_ns, row, rows + 50_000 + number, rows);
        Self {
            failed_from: [400, 404, 429, 500, 502, 503][draw.tokens as usize % 6],
            status: STATUSES[more.latency_ms as usize % STATUSES.len()],
            tokens_above: 3500 + draw.tokens % 590,
            latency_ms_above: 4000 + more.latency_ms % 990,
            ..base
        }
    }

    /// `from_ns` is after the first event.
    fn of(user: u16, rare_user: u16, model: u8, from_ns: i64, row: u64, absent_row: u64, rows: u64) -> Self {
        let id_hit = workload::id(SEED, row);
        let other_digit = if id_hit.ends_with('0') { '1' } else { '0' };
        let from = START_NS + from_ns;
        Self {
            user,
            user_name: workload::user_name(user),
            rare_user,
            rare_user_name: workload::user_name(rare_user),
            model,
            times: from..from + rows as i64 * (STEP_NS / 10),
            row,
            id_miss: format!("{}{other_digit}", &id_hit[..id_hit.len() - 1]),
            id_hit,
            label_hit: workload::label(SEED, row),
            label_miss: workload::label(SEED, absent_row),
            failed_from: 0,
            status: 0,
            tokens_above: 0,
            latency_ms_above: 0,
        }
    }

    pub(crate) fn model_name(&self) -> &'static str {
        MODELS[usize::from(self.model)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_that_the_peers_print() {
        let found = Parameters::published(100_000);
        assert_eq!((&*found.user_name, &*found.rare_user_name), ("user_0007", "user_0999"));
        assert_eq!((found.model_name(), found.row), ("orion-70b", 61_800));
        assert_eq!(found.times, 1_700_000_041_371_700_000..1_700_000_051_371_700_000);
        assert_eq!(
            (&*found.id_hit, &*found.id_miss),
            ("01HF7YCPB800001WB8Q0993BPY", "01HF7YCPB800001WB8Q0993BP0")
        );
        assert_eq!((&*found.label_hit, &*found.label_miss), ("8cf06d67bc557da7", "5244572a680aa973"));
    }

    #[test]
    fn draws_differ_and_lie_within_the_table() {
        let drawn: Vec<_> = (0..100).map(|number| Parameters::drawn(1000, number)).collect();
        let distinct = |of: &dyn Fn(&Parameters) -> String| {
            drawn.iter().map(of).collect::<std::collections::HashSet<_>>().len()
        };
        assert!(distinct(&|drawn| drawn.user_name.clone()) > 80);
        assert!(distinct(&|drawn| drawn.id_hit.clone()) > 80);
        assert!(distinct(&|drawn| format!("{:?}", drawn.times)) > 90);
        assert!(distinct(&|drawn| drawn.label_miss.clone()) == 100);
        let last_ns = START_NS + 1000 * STEP_NS;
        assert!(drawn.iter().all(|drawn| drawn.row < 1000 && drawn.times.end <= last_ns));
    }
}
