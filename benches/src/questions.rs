//! The peers' read operations as benches ask them: each by its name, and how many events or groups it must find.

use anyhow::Result;
use keplordb::aggregates::{count, distinct, quantile, sum};
use keplordb::{Bucket, Filter, Store};

use crate::calls::LlmCall;
use crate::workload::{self, MODELS, Numbers, SEED, numbers};

/// The model of the operations that ask for one, a place in [`MODELS`].
const MODEL: u8 = 2;

type Ask<'s> = Box<dyn Fn() -> keplordb::Result<u64> + 's>;

/// Something to ask a store.
pub struct Question<'s> {
    /// As the peers call it.
    pub name: &'static str,
    /// How many events or groups it finds.
    pub finds: u64,
    ask: Ask<'s>,
}

impl Question<'_> {
    /// Asks it, and returns how many events or groups were found.
    ///
    /// # Errors
    /// What the store says.
    pub fn ask(&self) -> Result<u64> {
        Ok((self.ask)()?)
    }
}

/// Every operation, of a store that has the first `rows` events of the workload.
#[expect(clippy::too_many_lines, reason = "a list of questions, each read by itself")]
pub fn all<'s>(store: &'s Store<LlmCall>, rows: u64) -> Vec<Question<'s>> {
    let c = LlmCall::cols();
    let (from, to) = workload::tenth_of_time(rows);
    let (user, rare_user, model) = ("user_0007", "user_0999", MODELS[usize::from(MODEL)]);
    let (id, label) = (workload::id(SEED, rows / 2), workload::label(SEED, rows / 2));
    let (no_id, no_label) = (workload::id(SEED, rows + 1), workload::label(SEED, rows + 1));

    let is_in_time = |event: &Numbers| (from..=to).contains(&event.ts_ns);
    let matching = |matches: &dyn Fn(&Numbers) -> bool| {
        (0..rows).filter(|row| matches(&numbers(SEED, *row))).count() as u64
    };
    let of_user = matching(&|event| event.user == 7);
    let of_rare_user = matching(&|event| event.user == 999);
    let distinct_of = |key: &dyn Fn(&Numbers) -> i64, range: &dyn Fn(&Numbers) -> bool| {
        let events = (0..rows).map(|row| numbers(SEED, row)).filter(range);
        events.map(|event| key(&event)).collect::<std::collections::BTreeSet<_>>().len() as u64
    };
    let buckets = |width_ns: i64| distinct_of(&|event| event.ts_ns.div_euclid(width_ns), &|_| true);

    let mut questions: Vec<Question<'s>> = Vec::new();
    let mut add = |name, finds, ask: Ask<'s>| {
        questions.push(Question { name, finds, ask });
    };
    let totals = move |filter: Filter<LlmCall>, times: std::ops::RangeInclusive<i64>| {
        let sums = (count(), sum(c.metric), sum(c.tokens), sum(c.latency_ms));
        store.query(filter).between(times).select(sums).one().map(|(count, ..)| count)
    };
    let always = i64::MIN..=i64::MAX;
    let times = always.clone();
    add("R1", rows, Box::new(move || totals(Filter::all(), times.clone())));
    let times = always.clone();
    add("R2", of_user, Box::new(move || totals(c.user.eq(user), times.clone())));
    add("R3", matching(&is_in_time), Box::new(move || totals(Filter::all(), from..=to)));
    let both = matching(&|event| event.user == 7 && is_in_time(event));
    add("R4", both, Box::new(move || totals(c.user.eq(user), from..=to)));
    let times = always.clone();
    let failed = matching(&|event| event.status >= 500);
    add("R5", failed, Box::new(move || totals(c.status.ge(500), times.clone())));
    let throttled = matching(&|event| event.model == MODEL && event.status == 429);
    add("R6", throttled, Box::new(move || totals(c.model.eq(model) & c.status.eq(429), always.clone())));
    add(
        "R7",
        distinct_of(&|event| i64::from(event.model), &|_| true),
        Box::new(move || {
            let models = store.query(Filter::all()).group_by(c.model);
            Ok(models.select((count(), sum(c.metric), sum(c.tokens))).fetch()?.len() as u64)
        }),
    );
    add(
        "R8",
        10,
        Box::new(move || {
            let users = store.query(Filter::all()).group_by(c.user).select(sum(c.metric));
            Ok(users.top_by(10, sum(c.metric)).fetch()?.len() as u64)
        }),
    );
    for (name, width_ns) in [("R9m", 60_000_000_000), ("R9h", 3_600_000_000_000)] {
        let ask = move || {
            let query = store.query(Filter::all()).bucket(Bucket::ns(width_ns));
            Ok(query.select((count(), sum(c.metric))).fetch()?.len() as u64)
        };
        add(name, buckets(width_ns), Box::new(ask));
    }
    let newest = move |filter: Filter<LlmCall>, limit: usize| {
        store.query(filter).newest_first().limit(limit).rows().map(|rows| rows.len() as u64)
    };
    add("R10", rows.min(100), Box::new(move || newest(Filter::all(), 100)));
    add(
        "R10b",
        rows.min(100),
        Box::new(move || {
            let mut found = 0;
            store.query(Filter::all()).newest_first().limit(100).each(|row| {
                std::hint::black_box((row.ts_ns(), row.metric(), row.tokens(), row.user(), row.model()));
                found += 1;
            })?;
            Ok(found)
        }),
    );
    add("R11", rows.min(1000), Box::new(move || newest(Filter::all(), 1000)));
    add("R12", of_user.min(100), Box::new(move || newest(c.user.eq(user), 100)));
    add("R13", of_rare_user.min(100), Box::new(move || newest(c.user.eq(rare_user), 100)));
    add("R14", 1, Box::new(move || Ok(u64::from(store.get(&id)?.is_some()))));
    add("R15", 0, Box::new(move || Ok(u64::from(store.get(&no_id)?.is_some()))));
    add(
        "R16",
        3,
        Box::new(move || {
            let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| quantile(c.latency_ms, q));
            let (p50, p95, p99) = store.query(c.model.eq(model)).select((p50, p95, p99)).one()?;
            Ok([p50, p95, p99].iter().flatten().filter(|found| found.is_exact).count() as u64)
        }),
    );
    add(
        "R17",
        distinct_of(&|event| i64::from(event.user), &is_in_time),
        Box::new(move || store.query(Filter::all()).between(from..=to).select(distinct(c.user)).one()),
    );
    add(
        "R18",
        matching(&|event| event.tokens > 4000 && event.latency_ms > 4500),
        Box::new(move || {
            let heavy = c.tokens.gt(4000_u32) & c.latency_ms.gt(4500_u32);
            store.query(heavy).select((count(), sum(c.metric))).one().map(|(count, _)| count)
        }),
    );
    add("R19", 1, Box::new(move || Ok(store.query(c.label.eq(&label)).rows()?.len() as u64)));
    add("R20", 0, Box::new(move || Ok(store.query(c.label.eq(&no_label)).rows()?.len() as u64)));
    // What no peer is asked: a tree of conditions, and groups by two keys.
    let odd = move || {
        let user = c.user.in_(["user_0001", "user_0002"]) | c.user.starts_with("user_09");
        user & !c.status.in_([200, 204]) & c.tokens.gt(1000_u32) & c.flags.has(1)
    };
    let is_odd = |event: &Numbers| {
        (matches!(event.user, 1 | 2) || (900..1000).contains(&event.user))
            && !matches!(event.status, 200 | 204)
            && event.tokens > 1000
            && event.flags & 1 == 1
    };
    add("expression", matching(&is_odd), Box::new(move || store.query(odd()).select(count()).one()));
    add(
        "model-status",
        distinct_of(&|event| i64::from(event.model) << 16 | i64::from(event.status), &|_| true),
        Box::new(move || {
            let groups = store.query(Filter::all()).group_by((c.model, c.status));
            Ok(groups.select((count(), sum(c.metric))).fetch()?.len() as u64)
        }),
    );
    questions
}
