//! Calls of language models: "what did today cost, who spent it, and where does it hurt?"
//!
//! Appends a made-up day of 50,000 calls (the same each time) to a `Store` and prints: the day's calls, tokens, cost, the
//! share that failed, and how the engine came by it; calls, cost and time to the first token (median, 95 and 99 of a hundred)
//! of each model; the three users who spent most; what the busiest user spent in each quarter of the day; which calls of
//! whom went wrong, and how; the user's last five failed calls; and one call looked up by its request's id.
//! Every answer is compared with a plain loop over the same calls; the last line says how many comparisons there were.
//!
//! ```text
//! cargo run --release --example llm_calls
//! ```

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fastrand::Rng;
use keplordb::aggregates::{Quantile, count, distinct, quantile, sum};
use keplordb::{Bucket, EventFlags, Filter, Schema, Store, Totals};
use keplordb_examples::{Checks, human, nearest_rank};

/// A call; the calling program fills in the built-in columns like this:
/// - `id` is the request's id,
/// - `metric` the cost in nanodollars (a token costs fractions of a microdollar),
/// - `latency_ms` the time to the last token, `latency_detail_ms` to the first,
/// - `status` the provider's HTTP status,
/// - `flags` how it was called.
#[derive(Schema)]
#[keplordb(id = 1)]
struct LlmCall {
    #[dim(bloom, rollup)]
    user: String,
    #[dim(rollup)]
    model: String,
    #[counter]
    tokens_in: u32,
    #[counter]
    tokens_out: u32,
}

const STREAMED: EventFlags = EventFlags(0b01);
const CACHED_PROMPT: EventFlags = EventFlags(0b10);

/// Statuses of calls that failed; the end is exclusive.
const FAILED: std::ops::Range<u16> = 400..600;
/// Who waits longer for the last token than this has a reason to complain.
const SLOW_MS: u32 = 15_000;

/// A model and what it costs, in nanodollars a token.
struct Model {
    name: &'static str,
    token_in_nanodollars: i64,
    token_out_nanodollars: i64,
    /// How long it writes a token.
    token_out_us: u32,
}

const MODELS: [Model; 3] = [
    Model { name: "small", token_in_nanodollars: 150, token_out_nanodollars: 600, token_out_us: 6_000 },
    Model { name: "large", token_in_nanodollars: 2_500, token_out_nanodollars: 10_000, token_out_us: 14_000 },
    Model {
        name: "thinking",
        token_in_nanodollars: 1_100,
        token_out_nanodollars: 4_400,
        token_out_us: 9_000,
    },
];

const USERS: [&str; 8] = ["ada", "barbara", "claude", "dennis", "edsger", "frances", "grace", "hedy"];

const CALLS: u64 = 50_000;
/// 2026-03-02, 00:00 UTC.
const MIDNIGHT_NS: i64 = 1_772_409_600_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;
const SEED: u64 = 7;
/// Calls that a program would collect and append together.
const BATCH_CALLS: usize = 500;

/// A call as the program that made it knows it.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    request: String,
    ts_ns: i64,
    user: String,
    model: String,
    tokens_in: u32,
    tokens_out: u32,
    cost_nanodollars: i64,
    first_token_ms: u32,
    last_token_ms: u32,
    status: u16,
    flags: EventFlags,
}

impl Call {
    fn failed(&self) -> bool {
        FAILED.contains(&self.status)
    }
}

impl From<&Call> for LlmCallBuilder {
    fn from(call: &Call) -> Self {
        let Call { user, model, tokens_in, tokens_out, .. } = call.clone();
        LlmCall { user, model, tokens_in, tokens_out }
            .at(call.ts_ns)
            .id(&call.request)
            .metric(call.cost_nanodollars)
            .latency_ms(call.last_token_ms)
            .latency_detail_ms(call.first_token_ms)
            .status(call.status)
            .flags(call.flags)
    }
}

impl From<LlmCallRow> for Call {
    fn from(row: LlmCallRow) -> Self {
        Self {
            request: row.id().to_owned(),
            ts_ns: row.ts_ns(),
            user: row.user().to_owned(),
            model: row.model().to_owned(),
            tokens_in: row.tokens_in(),
            tokens_out: row.tokens_out(),
            cost_nanodollars: row.metric(),
            first_token_ms: row.latency_detail_ms(),
            last_token_ms: row.latency_ms(),
            status: row.status(),
            flags: row.flags(),
        }
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::<LlmCall>::open(dir.path().join("calls"))?;
    let calls = a_day_of_calls(&mut Rng::with_seed(SEED));
    for batch in calls.chunks(BATCH_CALLS) {
        store.append_batch(batch)?;
    }
    // The day is over: from memory into a segment, with its sums.
    store.flush()?;

    let mut checks = Checks::default();
    show_day(&store, &calls, &mut checks)?;
    show_models(&store, &calls, &mut checks)?;
    let busiest = show_users(&store, &calls, &mut checks)?;
    show_quarters(&store, &calls, &busiest, &mut checks)?;
    show_complaints(&store, &calls, &mut checks)?;
    show_failures(&store, &calls, &busiest, &mut checks)?;
    show_request(&store, &calls, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

fn show_day(store: &Store<LlmCall>, calls: &[Call], checks: &mut Checks) -> Result<()> {
    let c = LlmCall::cols();
    let all = store.query(Filter::all());
    let day = all.totals()?;
    let failed = store.query(c.status.between(FAILED)).totals()?;
    let [tokens_in, tokens_out] = day.counters;
    println!("the day");
    println!("  calls      {:>12}", human::count(day.event_count));
    println!("  failed     {:>12}", human::percent(failed.event_count, day.event_count));
    println!("  tokens in  {:>12}", human::count(tokens_in));
    println!("  tokens out {:>12}", human::count(tokens_out));
    println!("  cost       {:>12}", dollars(day.metric));
    println!("  answered by {}", all.explain()?);

    check_sums("the day", &day, calls.iter(), checks)?;
    check_sums("the day's failures", &failed, calls.iter().filter(|call| call.failed()), checks)
}

/// What is told of a model: calls, users, cost, and the time to the first token by percentile.
type OfModel = (u64, u64, i64, [Option<Quantile<u32>>; 3]);

/// Per cent of the answers that came at least as soon.
const PERCENTILES: [usize; 3] = [50, 95, 99];

fn show_models(store: &Store<LlmCall>, calls: &[Call], checks: &mut Checks) -> Result<()> {
    let c = LlmCall::cols();
    let first_token = c.latency_detail_ms;
    // How soon a call fails says nothing about how soon a model answers.
    let models = store
        .query(!c.status.between(FAILED))
        .group_by(c.model)
        .select((
            count(),
            distinct(c.user),
            sum(c.metric),
            quantile(first_token, 0.50),
            quantile(first_token, 0.95),
            quantile(first_token, 0.99),
        ))
        .fetch()?;
    println!("\nmodel           calls  users        cost   first token: p50        p95        p99");
    let mut answered: BTreeMap<&str, OfModel> = BTreeMap::new();
    for model in &models {
        let (calls, users, cost, p50, p95, p99) = model.values();
        print!("  {:<10} {:>8} {users:>6} {:>11} ", model.key(), human::count(calls), dollars(cost));
        println!("{:>16} ms {:>7} ms {:>7} ms", shown(p50), shown(p95), shown(p99));
        answered.insert(model.key(), (calls, users, cost, [p50, p95, p99]));
    }

    let mut right: BTreeMap<&str, OfModel> = BTreeMap::new();
    for Model { name, .. } in MODELS {
        let of_model: Vec<&Call> = calls.iter().filter(|call| call.model == name && !call.failed()).collect();
        let mut users: Vec<&str> = of_model.iter().map(|call| call.user.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        let mut first_ms: Vec<u32> = of_model.iter().map(|call| call.first_token_ms).collect();
        first_ms.sort_unstable();
        let cost = of_model.iter().map(|call| call.cost_nanodollars).sum();
        // Far fewer calls than would make the engine estimate.
        let exactly = |value| Quantile { value, is_exact: true };
        let percentiles = PERCENTILES.map(|percent| nearest_rank(&first_ms, percent).map(exactly));
        right.insert(name, (of_model.len() as u64, users.len() as u64, cost, percentiles));
    }
    checks.equal("the models", &answered, &right)
}

fn shown(quantile: Option<Quantile<u32>>) -> String {
    quantile.map_or_else(|| "-".to_owned(), |quantile| quantile.value.to_string())
}

/// Returns the user with the most calls.
fn show_users(store: &Store<LlmCall>, calls: &[Call], checks: &mut Checks) -> Result<String> {
    let c = LlmCall::cols();
    let spent = sum(c.metric);
    let top =
        store.query(Filter::all()).group_by(c.user).select((spent, count())).top_by(3, spent).fetch()?;
    println!("\nwho spent most");
    for user in &top {
        let (cost, calls) = user.values();
        println!("  {:<10} {:>11} in {:>6} calls", user.key(), dollars(cost), human::count(calls));
    }

    let mut users = USERS.map(|user| {
        let of_user = calls.iter().filter(|call| call.user == user);
        let (cost, calls) = of_user.fold((0, 0), |(cost, n), call| (cost + call.cost_nanodollars, n + 1));
        (user, (cost, calls))
    });
    users.sort_by_key(|(user, (cost, _))| (Reverse(*cost), *user));
    let answered: Vec<_> = top.iter().map(|user| (user.key(), user.values())).collect();
    checks.equal("who spent most", &answered, &users[..3].to_vec())?;

    let by_calls = store.values(c.user).all()?;
    users.sort_by_key(|(user, (_, calls))| (Reverse(*calls), *user));
    let right: Vec<(String, u64)> =
        users.iter().map(|(user, (_, calls))| ((*user).to_owned(), *calls)).collect();
    checks.equal("the users and their calls", &by_calls, &right)?;
    by_calls.into_iter().next().map(|(user, _)| user).context("there are users")
}

fn show_quarters(store: &Store<LlmCall>, calls: &[Call], user: &str, checks: &mut Checks) -> Result<()> {
    let c = LlmCall::cols();
    let of_user = store.query(c.user.eq(user)).between(MIDNIGHT_NS..MIDNIGHT_NS + DAY_NS);
    let quarters = of_user.bucket(Bucket::hours(6)).select(sum(c.metric)).fetch()?;
    println!("\nwhat {user} spent, by quarter of the day");
    for quarter in &quarters {
        let hour = (quarter.bucket() - MIDNIGHT_NS) / HOUR_NS;
        println!("  {hour:02}:00 to {:02}:00 {:>11}", hour + 6, dollars(quarter.values()));
    }

    let mut right = BTreeMap::new();
    for call in calls.iter().filter(|call| call.user == user) {
        let quarter = (call.ts_ns - MIDNIGHT_NS) / (6 * HOUR_NS);
        *right.entry(MIDNIGHT_NS + quarter * 6 * HOUR_NS).or_default() += call.cost_nanodollars;
    }
    let answered: BTreeMap<i64, i64> =
        quarters.iter().map(|quarter| (quarter.bucket(), quarter.values())).collect();
    checks.equal("the quarters of the day", &answered, &right)
}

/// Calls that failed, and those that were streamed and slow all the same; cached prompts excuse nothing.
fn show_complaints(store: &Store<LlmCall>, calls: &[Call], checks: &mut Checks) -> Result<()> {
    let c = LlmCall::cols();
    let went_wrong = c.status.between(FAILED) | (c.flags.has(STREAMED.0) & c.latency_ms.gt(SLOW_MS));
    let worst = store
        .query(&went_wrong)
        .group_by((c.model, c.status))
        .select((count(), distinct(c.user)))
        .top_by(5, count())
        .fetch()?;
    println!("\nwhat went wrong most: failed, or streamed for more than {} s", SLOW_MS / 1_000);
    for kind in &worst {
        let ((model, status), (calls, users)) = (kind.key(), kind.values());
        println!("  {model:<10} {status} {:>8} calls of {users} users", human::count(calls));
    }

    let mut right: BTreeMap<(&str, u16), u64> = BTreeMap::new();
    for call in calls {
        if call.failed() || (call.flags.has(STREAMED) && call.last_token_ms > SLOW_MS) {
            *right.entry((&call.model, call.status)).or_default() += 1;
        }
    }
    let all: u64 = right.values().sum();
    let mut right: Vec<_> = right.into_iter().collect();
    right.sort_by_key(|(kind, calls)| (Reverse(*calls), *kind));
    right.truncate(5);
    let answered: Vec<_> = worst.iter().map(|kind| (kind.key(), kind.values().0)).collect();
    checks.equal("what went wrong", &answered, &right)?;
    checks.equal("how often", &store.query(&went_wrong).totals()?.event_count, &all)
}

fn show_failures(store: &Store<LlmCall>, calls: &[Call], user: &str, checks: &mut Checks) -> Result<()> {
    let c = LlmCall::cols();
    let failed = c.user.eq(user) & c.status.between(FAILED);
    let rows = store.query(failed).newest_first().limit(5).rows()?;
    let failures: Vec<Call> = rows.into_iter().map(Call::from).collect();
    println!("\nthe last calls of {user} that failed");
    failures.iter().for_each(show_call);

    // Calls were appended in order of time.
    let right = calls.iter().rev().filter(|call| call.user == user && call.failed());
    let right: Vec<Call> = right.take(5).cloned().collect();
    checks.equal("the last failures", &failures, &right)
}

fn show_request(store: &Store<LlmCall>, calls: &[Call], checks: &mut Checks) -> Result<()> {
    let wanted = &calls[calls.len() / 2];
    let found = store.get(&wanted.request)?.map(Call::from);
    println!("\nrequest {}", wanted.request);
    found.iter().for_each(show_call);
    checks.equal("a request by its id", &found.as_ref(), &Some(wanted))?;
    checks.equal("a request that never was", &store.get("request-x")?.map(Call::from), &None)
}

fn show_call(call: &Call) {
    let Call { user, model, tokens_in, tokens_out, first_token_ms, last_token_ms, status, .. } = call;
    let seconds = (call.ts_ns - MIDNIGHT_NS) / 1_000_000_000;
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let streamed = if call.flags.has(STREAMED) { ", streamed" } else { "" };
    let cached = if call.flags.has(CACHED_PROMPT) { ", cached prompt" } else { "" };
    println!(
        "  {time}  {user} to {model}: {status}, {tokens_in} tokens in, {tokens_out} out, \
         first after {first_token_ms} ms, last after {last_token_ms} ms{streamed}{cached}"
    );
}

fn dollars(nanodollars: i64) -> String {
    format!("${:.2}", nanodollars as f64 / 1e9)
}

/// Compares count, cost, tokens and latencies with those of the calls that the answer is about.
fn check_sums<'a>(
    question: &str,
    answer: &Totals<2>,
    calls: impl Iterator<Item = &'a Call>,
    checks: &mut Checks,
) -> Result<()> {
    let (mut count, mut cost, mut tokens, mut first_ms, mut last_ms) = (0, 0, [0; 2], 0, 0);
    for call in calls {
        count += 1;
        cost += call.cost_nanodollars;
        tokens[0] += u64::from(call.tokens_in);
        tokens[1] += u64::from(call.tokens_out);
        first_ms += u64::from(call.first_token_ms);
        last_ms += u64::from(call.last_token_ms);
    }
    let answered =
        (answer.event_count, answer.metric, answer.counters, answer.latency_detail_ms, answer.latency_ms);
    checks.equal(question, &answered, &(count, cost, tokens, first_ms, last_ms))
}

/// In order of time, spread evenly over the day.
fn a_day_of_calls(rng: &mut Rng) -> Vec<Call> {
    let step_ns = DAY_NS / CALLS.cast_signed();
    (0..CALLS.cast_signed())
        .map(|n| a_call(rng, &format!("request-{n:05}"), MIDNIGHT_NS + n * step_ns))
        .collect()
}

fn a_call(rng: &mut Rng, request: &str, ts_ns: i64) -> Call {
    // The smaller of two: the first users call most.
    let user = USERS[rng.usize(..USERS.len()).min(rng.usize(..USERS.len()))];
    let model = &MODELS[rng.usize(..MODELS.len())];
    let status = match rng.u32(..100) {
        0 => 500,
        1..4 => 429,
        _ => 200,
    };
    let tokens_in = rng.u32(50..4_000);
    let tokens_out = if status == 200 { rng.u32(10..1_500) } else { 0 };
    let billed_in = if status == 200 { i64::from(tokens_in) } else { 0 };
    let first_token_ms = rng.u32(80..250) + tokens_in / 10;
    Call {
        request: request.to_owned(),
        ts_ns,
        user: user.to_owned(),
        model: model.name.to_owned(),
        tokens_in,
        tokens_out,
        cost_nanodollars: billed_in * model.token_in_nanodollars
            + i64::from(tokens_out) * model.token_out_nanodollars,
        first_token_ms,
        last_token_ms: first_token_ms + tokens_out * model.token_out_us / 1_000,
        status,
        flags: some_flags(rng),
    }
}

fn some_flags(rng: &mut Rng) -> EventFlags {
    let streamed = if rng.bool() { STREAMED } else { EventFlags(0) };
    if rng.u32(..4) == 0 { streamed.with(CACHED_PROMPT) } else { streamed }
}
