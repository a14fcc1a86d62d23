//! The workload of the repository's benches, `keplor-llm`: any event from its number alone, equal on every machine.
//!
//! A gateway for language models logs about one event a millisecond, in order of time. All fields of event `row` are outputs of
//! splitmix64, seeded with a hash of the seed and the row. All arithmetic is on `u64` and wraps.

use keplordb::{EventFlags, LogEvent};

/// The seed of all published figures.
const SEED: u64 = 42;
/// The first event comes within 0.1 ms after this, in nanoseconds since the Unix epoch.
const START_NS: i64 = 1_700_000_000_000_000_000;
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Nanoseconds from one event to the next, about.
const STEP_NS: u64 = 1_000_000;
/// The increment of splitmix64: 2^64 over the golden ratio, made odd.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
const MODELS: [&str; 8] = [
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
const MODEL_OF_SIXTEENTH: [usize; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7];
const RARE_STATUSES: [u16; 8] = [201, 204, 400, 401, 403, 404, 502, 503];
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The user who is asked about: a frequent one, with six in a thousand of the events.
pub(super) const USER: &str = "user_0007";

/// Dims user and model, counter tokens, label a trace id.
pub(super) type Event = LogEvent<2, 1, 1>;
/// The same without the label: what the appends are measured with.
pub(super) type SmallEvent = LogEvent<2, 1, 0>;

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
    fn of(row: u64) -> Self {
        Self(mix(SEED.wrapping_add(row.wrapping_add(1).wrapping_mul(GAMMA))))
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
pub(super) fn id(row: u64) -> String {
    let draws = Draws::of(row);
    let time_ms = ts_ns(draws, row) / 1_000_000;
    crockford(time_ms, 10).chain(crockford(row, 8)).chain(crockford(draws.get(11) >> 24, 8)).collect()
}

/// Event `row`.
pub(super) fn event(row: u64) -> Event {
    let SmallEvent {
        id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, ..
    } = small_event(row);
    let labels = [format!("{:016x}", Draws::of(row).get(10))];
    Event { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels }
}

/// Event `row` without its label.
pub(super) fn small_event(row: u64) -> SmallEvent {
    let draws = Draws::of(row);
    // The square of a uniform number: low user numbers are frequent, P(number < x) = sqrt(x / 1000).
    let uniform = draws.get(2) >> 32;
    let user = (((uniform * uniform) >> 32) * 1000) >> 32;
    let model = MODELS[MODEL_OF_SIXTEENTH[(draws.get(3) >> 60) as usize]];
    let latency_ms = draws.below(6, 5000);
    let status = match draws.below(8, 100) {
        0..90 => 200,
        90..95 => 429,
        95..98 => 500,
        _ => RARE_STATUSES[low_u32(draws.get(8)) as usize % RARE_STATUSES.len()],
    };
    let [flags, ..] = (draws.get(9) & (draws.get(9) >> 16)).to_le_bytes();
    SmallEvent {
        id: id(row),
        ts_ns: ts_ns(draws, row) as i64,
        metric: i64::from(draws.below(5, 10_000_000)),
        counters: [draws.below(4, 4096)],
        latency_ms,
        latency_detail_ms: draws.below(7, latency_ms + 1),
        status,
        flags: EventFlags(u16::from(flags)),
        dims: [format!("user_{user:04}"), model.to_owned()],
        labels: [],
    }
}

/// The first and last nanosecond, both inclusive, of a range that holds a tenth of `rows` events, aligned to nothing.
pub(super) fn tenth_of_time(rows: u64) -> (i64, i64) {
    let from = START_NS + rows as i64 * 413_717;
    (from, from + rows as i64 * 100_000 - 1)
}

/// The day of the first events, by its midnight in seconds; it has room for 6 million of them.
pub(super) fn first_day() -> i64 {
    START_NS.div_euclid(DAY_S * 1_000_000_000) * DAY_S
}

/// Whether an event is of that day.
pub(super) fn is_first_day(ts_ns: i64) -> bool {
    ts_ns.div_euclid(DAY_S * 1_000_000_000) * DAY_S == first_day()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as the benches and other implementations of the workload print them.
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
        assert_eq!(event(0), first);
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
        assert_eq!(event(1), second);
    }

    #[test]
    fn a_tenth_of_the_time_has_a_tenth_of_the_events() {
        let (from, to) = tenth_of_time(10_000);
        let inside = (0..10_000).filter(|row| (from..=to).contains(&small_event(*row).ts_ns)).count();
        assert_eq!(inside, 1000);
        assert!(is_first_day(small_event(6_000_000).ts_ns) && !is_first_day(small_event(7_000_000).ts_ns));
    }
}
