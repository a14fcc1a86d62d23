//! The workload `keplor-llm`, as the benches have it: any call of a language model from its number alone. The benches' own would
//! bring features of crates for which cargo would compile `DataFusion` once more.

use keplordb::{EventFlags, Schema};

/// The first call comes within 0.1 ms after this, in nanoseconds since the Unix epoch; one a millisecond follows.
const START_NS: i64 = 1_700_000_000_000_000_000;
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
/// Which model each sixteenth of the draws means.
const MODEL_OF_SIXTEENTH: [usize; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7];
const RARE_STATUSES: [u16; 8] = [201, 204, 400, 401, 403, 404, 502, 503];

#[derive(Debug, Schema)]
#[keplordb(id = 42)]
pub(crate) struct LlmCall {
    #[dim(bloom)]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[label(index)]
    label: String,
}

/// The output `k`, from 1 on, of splitmix64 seeded with a hash of the row.
fn draw(row: u64, k: u64) -> u64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    };
    let state = mix((row + 1).wrapping_mul(GAMMA).wrapping_add(42));
    mix(state.wrapping_add(k.wrapping_mul(GAMMA)))
}

/// Brings a draw into `0..bound`, by its upper half.
fn below(draw: u64, bound: u32) -> u32 {
    u32::try_from(((draw >> 32) * u64::from(bound)) >> 32).expect("it is less than the bound")
}

fn ts_ns(row: u64) -> i64 {
    START_NS + (row * 1_000_000 + draw(row, 1) % 100_000) as i64
}

/// Digits of Crockford's base 32: of the time, the row and chance.
pub(crate) fn id(row: u64) -> String {
    let digit = |value: u64, place: u32| {
        char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[((value >> (5 * place)) % 32) as usize])
    };
    let digits = |value: u64, count: u32| (0..count).rev().map(move |place| digit(value, place));
    let time_ms = ts_ns(row) as u64 / 1_000_000;
    digits(time_ms, 10).chain(digits(row, 8)).chain(digits(draw(row, 11) >> 24, 8)).collect()
}

pub(crate) fn label(row: u64) -> String {
    format!("{:016x}", draw(row, 10))
}

/// The first and the last nanosecond of a tenth of so many calls.
pub(crate) fn tenth_of_time(rows: u64) -> (i64, i64) {
    let from = START_NS + rows as i64 * 413_717;
    (from, from + rows as i64 * 100_000 - 1)
}

pub(crate) fn call(row: u64) -> LlmCallBuilder {
    let uniform = draw(row, 2) >> 32;
    let user = (((uniform * uniform) >> 32) * 1000) >> 32;
    let latency_ms = below(draw(row, 6), 5000);
    let status = match below(draw(row, 8), 100) {
        0..90 => 200,
        90..95 => 429,
        95..98 => 500,
        _ => RARE_STATUSES[(draw(row, 8) & 7) as usize],
    };
    let flags = draw(row, 9) & (draw(row, 9) >> 16) & 0xFF;
    let user = format!("user_{user:04}");
    let model = MODELS[MODEL_OF_SIXTEENTH[(draw(row, 3) >> 60) as usize]].to_owned();
    LlmCall { user, model, tokens: below(draw(row, 4), 4096), label: label(row) }
        .at(ts_ns(row))
        .id(id(row))
        .metric(i64::from(below(draw(row, 5), 10_000_000)))
        .latency_ms(latency_ms)
        .latency_detail_ms(below(draw(row, 7), latency_ms + 1))
        .status(status)
        .flags(EventFlags(u16::try_from(flags).expect("eight bits")))
}
