//! The workload `keplor-llm`: any event from its number alone, equal on every machine.
//!
//! A gateway for language models logs about one event a millisecond, in order of time. All fields of event `row` are
//! outputs of splitmix64, seeded with a hash of the seed and the row; so any row can be had without those before it, and
//! other programs can make the same events. All arithmetic is on `u64` and wraps.

use keplordb::{EventFlags, LogEvent};

/// The seed of all published figures.
pub const SEED: u64 = 42;
/// The first event comes within 0.1 ms after this, in nanoseconds since the Unix epoch.
pub const START_NS: i64 = 1_700_000_000_000_000_000;
/// Bytes of a [`framed_event`] in the log, at 1,024 events a batch.
pub const FRAMED_EVENT_BYTES: usize = 150;
/// Dim of the user.
pub const USER: usize = 0;
/// Dim of the model.
pub const MODEL: usize = 1;

/// Users are numbered below this.
pub const USERS: u16 = 1000;

/// Nanoseconds from one event to the next, about.
const STEP_NS: u64 = 1_000_000;
/// The increment of splitmix64: 2^64 over the golden ratio, made odd.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
/// The models, by their numbers.
pub const MODELS: [&str; 8] = [
    "atlas-large",
    "atlas-small",
    "orion-70b",
    "orion-8b",
    "lyra-pro",
    "lyra-flash",
    "vega-embed",
    "vega-rank",
];
/// Which model each sixteenth of the draws means: few models get most calls.
const MODEL_OF_SIXTEENTH: [u8; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7];
const RARE_STATUSES: [u16; 8] = [201, 204, 400, 401, 403, 404, 502, 503];
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Bytes of strings that bring a framed event to its size: what is left beside its numbers (28), its counter (4) and the
/// lengths of its four strings (16).
const FRAMED_STRING_BYTES: usize = FRAMED_EVENT_BYTES - 28 - 4 - 16;

/// An event with all its columns: dims user and model, counter tokens, label a trace id.
pub type Event = LogEvent<2, 1, 1>;
/// The same without the label.
pub type SmallEvent = LogEvent<2, 1, 0>;

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The lower half, which is where all the bits are that callers want.
#[expect(clippy::cast_possible_truncation, reason = "it is meant to cut")]
fn low_u32(value: u64) -> u32 {
    value as u32
}

/// The random numbers of one row.
#[derive(Clone, Copy)]
struct Draws(u64);

impl Draws {
    fn of(seed: u64, row: u64) -> Self {
        Self(mix(seed.wrapping_add(row.wrapping_add(1).wrapping_mul(GAMMA))))
    }

    /// The `k`-th output, from 1 on.
    fn get(self, k: u64) -> u64 {
        mix(self.0.wrapping_add(k.wrapping_mul(GAMMA)))
    }

    /// The `k`-th output brought into `0..bound`, by its upper half.
    fn below(self, k: u64, bound: u32) -> u32 {
        low_u32(((self.get(k) >> 32) * u64::from(bound)) >> 32)
    }
}

/// The last `count` digits of `value` in Crockford's base 32, most significant first.
fn crockford(value: u64, count: u32) -> impl Iterator<Item = char> {
    let digit = move |place: u32| low_u32(value >> (5 * place)) as usize % CROCKFORD.len();
    (0..count).rev().map(move |place| char::from(CROCKFORD[digit(place)]))
}

fn ts_ns(draws: Draws, row: u64) -> u64 {
    START_NS as u64 + row * STEP_NS + draws.get(1) % 100_000
}

/// The id of event `row`: time, row and chance, so that ids are unique and in order of time.
pub fn id(seed: u64, row: u64) -> String {
    let draws = Draws::of(seed, row);
    let time_ms = ts_ns(draws, row) / 1_000_000;
    crockford(time_ms, 10).chain(crockford(row, 8)).chain(crockford(draws.get(11) >> 24, 8)).collect()
}

/// The label of event `row`: a random number in hexadecimal digits.
pub fn label(seed: u64, row: u64) -> String {
    format!("{:016x}", Draws::of(seed, row).get(10))
}

/// The name of a user by its number.
pub fn user_name(user: u16) -> String {
    format!("user_{user:04}")
}

/// All of an event but its id and its label, with user and model as numbers: what a plain loop over many rows needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Nanoseconds since the Unix epoch.
    pub ts_ns: i64,
    /// Below [`USERS`]; see [`user_name`].
    pub user: u16,
    /// A place in [`MODELS`].
    pub model: u8,
    /// Tokens of the call.
    pub tokens: u32,
    /// The cost in nanodollars.
    pub metric: i64,
    /// Milliseconds.
    pub latency_ms: u32,
    /// Milliseconds, at most `latency_ms`.
    pub latency_detail_ms: u32,
    /// HTTP status.
    pub status: u16,
    /// Eight random bits.
    pub flags: u16,
}

/// The numbers of event `row`.
pub fn numbers(seed: u64, row: u64) -> Numbers {
    let draws = Draws::of(seed, row);
    // The square of a uniform number: low user numbers are frequent, P(number < x) = sqrt(x / 1000).
    let uniform = draws.get(2) >> 32;
    let user = (((uniform * uniform) >> 32) * u64::from(USERS)) >> 32;
    let latency_ms = draws.below(6, 5000);
    let status = match draws.below(8, 100) {
        0..90 => 200,
        90..95 => 429,
        95..98 => 500,
        _ => RARE_STATUSES[low_u32(draws.get(8)) as usize % RARE_STATUSES.len()],
    };
    let [flags, ..] = (draws.get(9) & (draws.get(9) >> 16)).to_le_bytes();
    Numbers {
        ts_ns: ts_ns(draws, row) as i64,
        user: u16::try_from(user).unwrap_or(USERS - 1),
        model: MODEL_OF_SIXTEENTH[(draws.get(3) >> 60) as usize],
        tokens: draws.below(4, 4096),
        metric: i64::from(draws.below(5, 10_000_000)),
        latency_ms,
        latency_detail_ms: draws.below(7, latency_ms + 1),
        status,
        flags: u16::from(flags),
    }
}

/// Event `row`.
pub fn event(seed: u64, row: u64) -> Event {
    let numbers = numbers(seed, row);
    Event {
        id: id(seed, row),
        ts_ns: numbers.ts_ns,
        metric: numbers.metric,
        counters: [numbers.tokens],
        latency_ms: numbers.latency_ms,
        latency_detail_ms: numbers.latency_detail_ms,
        status: numbers.status,
        flags: EventFlags(numbers.flags),
        dims: [user_name(numbers.user), MODELS[usize::from(numbers.model)].to_owned()],
        labels: [label(seed, row)],
    }
}

/// Event `row` without its label.
pub fn small_event(seed: u64, row: u64) -> SmallEvent {
    let event = event(seed, row);
    SmallEvent {
        id: event.id,
        ts_ns: event.ts_ns,
        metric: event.metric,
        counters: event.counters,
        latency_ms: event.latency_ms,
        latency_detail_ms: event.latency_detail_ms,
        status: event.status,
        flags: event.flags,
        dims: event.dims,
        labels: [],
    }
}

/// Event `row` with its label made longer, by letters that do not compress away, until the event takes
/// [`FRAMED_EVENT_BYTES`] in the log.
pub fn framed_event(seed: u64, row: u64) -> Event {
    let mut event = event(seed, row);
    let draws = Draws::of(seed, row);
    let [label] = &mut event.labels;
    let others = event.id.len() + event.dims.iter().map(String::len).sum::<usize>();
    let missing = FRAMED_STRING_BYTES - others - label.len();
    label.extend((12..).flat_map(|k| crockford(draws.get(k), 12)).take(missing));
    event
}

/// The first and last nanosecond, both inclusive, of a range that holds a tenth of `rows` events, aligned to nothing.
pub fn tenth_of_time(rows: u64) -> (i64, i64) {
    let from = START_NS + rows as i64 * 413_717;
    (from, from + rows as i64 * 100_000 - 1)
}

/// Count, sum of the metric, of the tokens and of the latency of those of the first `rows` events that match: a plain
/// loop, to hold answers against.
pub fn totals(seed: u64, rows: u64, matches: impl Fn(&Event) -> bool) -> (u64, i64, u64, u64) {
    let matching = (0..rows).map(|row| event(seed, row)).filter(matches);
    matching.fold((0, 0, 0, 0), |(count, metric, tokens, latency_ms), event| {
        let [more_tokens] = event.counters.map(u64::from);
        (count + 1, metric + event.metric, tokens + more_tokens, latency_ms + u64::from(event.latency_ms))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keplordb::disk::MemoryDisk;
    use keplordb::{Engine, EngineConfig, Options};

    use super::*;

    /// Rows as other implementations of the workload print them.
    #[test]
    fn golden_rows() {
        let first = Event {
            id: "01HF7YAT0000000000MGER18GM".into(),
            ts_ns: 1_700_000_000_000_065_668,
            metric: 6_769_157,
            counters: [275],
            latency_ms: 337,
            latency_detail_ms: 66,
            status: 200,
            flags: EventFlags(174),
            dims: ["user_0913".into(), "atlas-small".into()],
            labels: ["b7abb011b5a21848".into()],
        };
        assert_eq!(event(SEED, 0), first);
        let second = Event {
            id: "01HF7YAT0100000001SFMBCMZF".into(),
            ts_ns: 1_700_000_000_001_066_926,
            metric: 5_830_344,
            counters: [2805],
            latency_ms: 1892,
            latency_detail_ms: 1469,
            status: 200,
            flags: EventFlags(34),
            dims: ["user_0095".into(), "orion-70b".into()],
            labels: ["0e41421312b4770f".into()],
        };
        assert_eq!(event(SEED, 1), second);
    }

    /// The published answers for a million rows: all of them, one user, a tenth of the time, failures, and a model's 429s.
    #[test]
    fn sums_of_a_million_rows() {
        let rows = 1_000_000;
        assert_eq!(
            totals(SEED, rows, |_| true),
            (1_000_000, 5_000_563_762_499, 2_048_048_187, 2_501_035_545)
        );
        let of_user = totals(SEED, rows, |event| event.dims[USER] == "user_0007");
        assert_eq!(of_user, (5888, 29_387_362_654, 11_891_913, 14_924_888));
        let (from, to) = tenth_of_time(rows);
        let in_time = totals(SEED, rows, |event| (from..=to).contains(&event.ts_ns));
        assert_eq!(in_time, (100_000, 500_588_727_097, 204_820_542, 249_559_244));
        let failed = totals(SEED, rows, |event| event.status >= 500);
        assert_eq!(failed, (34_675, 174_319_587_158, 71_182_340, 86_991_833));
        let throttled = totals(SEED, rows, |event| event.dims[MODEL] == "orion-70b" && event.status == 429);
        assert_eq!(throttled, (6350, 31_999_096_868, 12_939_024, 15_787_345));
    }

    #[test]
    fn small_events_only_lack_the_label() {
        let (small, event) = (small_event(SEED, 7), event(SEED, 7));
        assert_eq!((small.id, small.dims, small.counters), (event.id, event.dims, event.counters));
        assert_eq!((small.ts_ns, small.metric, small.flags), (event.ts_ns, event.metric, event.flags));
        assert_eq!((small.latency_ms, small.latency_detail_ms), (event.latency_ms, event.latency_detail_ms));
        assert_eq!(small.status, event.status);
    }

    /// Measured by how much the log grows, so that a change of the frames' format shows here.
    #[test]
    fn a_framed_event_takes_150_bytes_of_the_log() {
        let events: Vec<_> = (0..1024).map(|row| framed_event(SEED, row)).collect();
        let config = EngineConfig { wal_shard_count: 1, ..EngineConfig::in_dir("table") };
        let options = Options::default().disk(Arc::new(MemoryDisk::default()));
        let engine = Engine::open_with(config, options).unwrap();
        engine.append_batch(&events).unwrap();
        let before = engine.stats().wal_bytes;
        engine.append_batch(&events).unwrap();
        let bytes = (engine.stats().wal_bytes - before) as f64 / events.len() as f64;
        assert!((bytes - FRAMED_EVENT_BYTES as f64).abs() <= 2.0, "{bytes} bytes an event");
    }
}
