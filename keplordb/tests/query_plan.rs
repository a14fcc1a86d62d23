//! Which way answers which question: a table of known shape, in four segments, and for each kind of question the way that
//! `explain` must show, so that a fast path that is lost fails a test. Each answer is also held against that of a scan.

use std::path::PathBuf;
use std::sync::Arc;

use keplordb::aggregates::{Aggregate, count, distinct, max, mean, min, quantile, sum};
use keplordb::columns::Number;
use keplordb::disk::MemoryDisk;
use keplordb::{Bucket, Explain, Filter, Options, Query, Schema, Store};

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(bloom)]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[label]
    prompt: String,
    #[label(index)]
    trace: String,
}

const SEGMENTS: i64 = 4;
const SEGMENT_ROWS: i64 = 4096;
const CHUNKS: u64 = 16;
/// Users of whom every segment has rows; 64 rows of each.
const USERS: i64 = 64;
/// One row a second.
const SECOND_NS: i64 = 1_000_000_000;
const SEGMENT_NS: i64 = SEGMENT_ROWS * SECOND_NS;
/// Where the segment in which a time range begins is cut.
const HALF_NS: i64 = SEGMENT_NS / 2;

/// The event of a second. Tokens of a segment are from its place times 10,000 on.
fn call(second: i64) -> CallBuilder {
    let segment = second / SEGMENT_ROWS;
    let status = match second % 20 {
        7 if second % 200 == 7 => 599,
        8 | 9 => 429,
        10 | 11 => 500,
        _ => 200,
    };
    let user = if second == 2 * SEGMENT_ROWS + 40 {
        "rare".to_owned()
    } else {
        format!("user {}", second * 7 % USERS)
    };
    Call::new(second * SECOND_NS)
        .user(user)
        .model(["gpt-4o", "o3", "opus"][usize::try_from(second % 3).unwrap()])
        .tokens(u32::try_from(segment * 10_000 + second % 1000).unwrap())
        .metric(second % 77 - 10)
        .latency_ms(u32::try_from(second % 300).unwrap())
        .status(status)
        .prompt(format!("prompt {}", second / 512))
        .trace(format!("trace {second}"))
}

fn table() -> Store<Call> {
    let options = Options::default().disk(Arc::new(MemoryDisk::default())).merge_rows(0);
    let config = Call::default_config(PathBuf::from("calls"));
    let store = Store::open_with(config, options).unwrap();
    for segment in 0..SEGMENTS {
        store.append_batch((segment * SEGMENT_ROWS..(segment + 1) * SEGMENT_ROWS).map(call)).unwrap();
        store.flush().unwrap();
    }
    store
}

/// Segments per way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Ways {
    pruned: u64,
    totals: u64,
    running_sums: u64,
    value_sums: u64,
    value_rows: u64,
    scanned: u64,
}

impl Ways {
    const NONE: Self =
        Self { pruned: 0, totals: 0, running_sums: 0, value_sums: 0, value_rows: 0, scanned: 0 };

    fn of(explain: &Explain) -> Self {
        let ways = Self {
            pruned: explain.pruned,
            totals: explain.by_totals,
            running_sums: explain.by_running_sums,
            value_sums: explain.by_value_sums,
            value_rows: explain.by_value_rows,
            scanned: explain.scanned,
        };
        let Self { pruned, totals, running_sums, value_sums, value_rows, scanned } = ways;
        let all = pruned + totals + running_sums + value_sums + value_rows + scanned;
        assert_eq!(all, explain.segments, "a segment counts once: {explain}");
        ways
    }
}

/// Asks for totals: by which ways, with how many rows read; and the answer is that of a scan.
#[track_caller]
fn totals(query: &Query<'_, Call>) -> (Ways, Explain) {
    let explain = query.explain().unwrap();
    let slow = query.clone().by_scan();
    assert_eq!(query.totals().unwrap(), slow.totals().unwrap());
    let scan = slow.explain().unwrap();
    assert_eq!(scan.scanned + scan.pruned, scan.segments, "by scan alone: {scan}");
    (Ways::of(&explain), explain)
}

#[track_caller]
fn assert_totals(query: &Query<'_, Call>, expected: Ways) {
    let (ways, explain) = totals(query);
    assert_eq!(ways, expected, "{explain}");
    let reads_rows = expected.value_rows + expected.scanned > 0;
    assert_eq!(explain.rows_decoded > 0, reads_rows, "sums need no row: {explain}");
    assert_eq!(explain.chunks_masked > 0, expected.scanned > 0, "{explain}");
}

#[test]
fn totals_take_the_cheapest_way() {
    let store = table();
    let c = Call::cols();
    let query = |filter: Filter<Call>| store.query(filter);

    assert_totals(&query(Filter::all()), Ways { totals: 4, ..Ways::NONE });
    // Half of one segment, and all of the next.
    let range = SEGMENT_NS + HALF_NS..3 * SEGMENT_NS;
    let in_range = Ways { pruned: 2, totals: 1, running_sums: 1, ..Ways::NONE };
    assert_totals(&query(Filter::all()).between(range.clone()), in_range);
    assert_totals(&query(c.ts_ns.between(range.clone())), in_range);
    // One user.
    assert_totals(&query(c.user.eq("user 7")), Ways { value_sums: 4, ..Ways::NONE });
    assert_totals(&query(c.user.eq("rare")), Ways { pruned: 3, value_sums: 1, ..Ways::NONE });
    assert_totals(&query(c.user.eq("nobody")), Ways { pruned: 4, ..Ways::NONE });
    assert_totals(&query(c.user.in_(["user 7", "rare"])), Ways { value_sums: 4, ..Ways::NONE });
    assert_totals(&query(c.user.starts_with("user 1")), Ways { value_sums: 4, ..Ways::NONE });
    assert_totals(&query(!c.user.eq("user 7")), Ways { value_sums: 4, ..Ways::NONE });
    // A user and a time.
    let (ways, explain) = totals(&query(c.user.eq("user 7")).between(range.clone()));
    assert_eq!(ways, Ways { pruned: 2, value_sums: 1, value_rows: 1, ..Ways::NONE }, "{explain}");
    assert_eq!(explain.rows_decoded, 32, "half of the user's rows: {explain}");
    // What the first and last times of a value tell: all of the rare user's rows lie in the range.
    let around = 2 * SEGMENT_NS + 10 * SECOND_NS..2 * SEGMENT_NS + 50 * SECOND_NS;
    let rare = query(c.user.eq("rare"));
    assert_totals(&rare.clone().between(around), Ways { pruned: 3, value_sums: 1, ..Ways::NONE });
    assert_totals(&rare.between(2 * SEGMENT_NS + HALF_NS..), Ways { pruned: 4, ..Ways::NONE });
    // Statuses.
    assert_totals(&query(c.status.ge(500)), Ways { value_sums: 4, ..Ways::NONE });
    assert_totals(&query(!c.status.in_([200, 204])), Ways { value_sums: 4, ..Ways::NONE });
    assert_totals(&query(c.status.ge(600)), Ways { pruned: 4, ..Ways::NONE });
    assert_totals(&query(c.status.lt(600)), Ways { totals: 4, ..Ways::NONE });
    // A model and a status: neither is rare, so chunk by chunk; a rare one has its rows listed.
    let (ways, explain) = totals(&query(c.model.eq("o3") & c.status.ge(400)));
    assert_eq!(ways, Ways { scanned: 4, ..Ways::NONE }, "{explain}");
    assert_eq!(explain.chunks_masked, 4 * CHUNKS, "{explain}");
    assert_totals(&query(c.model.eq("o3") & c.status.eq(599)), Ways { value_rows: 4, ..Ways::NONE });
    // Numbers, which totals bound.
    assert_totals(&query(c.tokens.between(20_000..30_000)), Ways { pruned: 3, totals: 1, ..Ways::NONE });
    assert_totals(&query(c.tokens.ge(10_500)), Ways { pruned: 1, totals: 2, scanned: 1, ..Ways::NONE });
    assert_totals(&query(c.latency_ms.le(299) & c.metric.ge(-10)), Ways { totals: 4, ..Ways::NONE });
    assert_totals(&query(c.latency_ms.gt(299) | c.tokens.gt(40_000)), Ways { pruned: 4, ..Ways::NONE });
    let sequences = query(c.sequence.ge(SEGMENT_ROWS));
    let Ways { totals: whole, .. } = totals(&sequences).0;
    assert_eq!(whole, 3, "sequences bound segments too");
    // Texts: by the hash index, or text by text.
    let (ways, explain) = totals(&query(c.trace.eq("trace 5000")));
    assert_eq!(ways, Ways { pruned: 3, value_rows: 1, ..Ways::NONE }, "{explain}");
    assert_eq!(explain.rows_decoded, 1, "{explain}");
    assert_totals(&query(c.trace.eq("trace none")), Ways { pruned: 4, ..Ways::NONE });
    let (ways, explain) = totals(&query(c.prompt.eq("prompt 3")));
    assert_eq!(ways, Ways { pruned: 3, value_rows: 1, ..Ways::NONE }, "{explain}");
    assert_eq!(explain.rows_decoded, 512, "{explain}");
    // Trees of which one side decides.
    assert_totals(&query(c.user.eq("nobody") | c.status.ge(0)), Ways { totals: 4, ..Ways::NONE });
    assert_totals(&query(c.tokens.ge(30_000) & c.flags.has(0)), Ways { pruned: 3, totals: 1, ..Ways::NONE });
    // What every row of a segment fulfils stands in the way of no sum.
    assert_totals(
        &query(c.tokens.ge(20_000) & c.user.eq("user 7")),
        Ways { pruned: 2, value_sums: 2, ..Ways::NONE },
    );
    let range = query(c.tokens.ge(20_000)).between(3 * SEGMENT_NS + HALF_NS..);
    assert_totals(&range, Ways { pruned: 3, running_sums: 1, ..Ways::NONE });
    // What no row can be is not asked of any segment.
    let none = query(c.ts_ns.gt(5) & c.ts_ns.lt(5)).explain().unwrap();
    assert_eq!((none.segments, none.blocks), (0, 0), "{none}");
}

/// What is asked of groups here: counts and sums, which every fast way has.
fn sums() -> (Aggregate<Call, u64>, Aggregate<Call, i64>, Aggregate<Call, u64>) {
    let c = Call::cols();
    (count(), sum(c.metric), sum(c.tokens))
}

/// The ways of a grouped query, whose answer must be that of a scan.
macro_rules! group_ways {
    ($query:expr, |$q:ident| $selected:expr) => {{
        let explain = {
            let $q = $query;
            $selected
        }
        .explain()
        .unwrap();
        let lines = |query: Query<'_, Call>| {
            let found = {
                let $q = query;
                $selected
            }
            .fetch()
            .unwrap();
            found.iter().map(|group| format!("{:?} {:?}", group.key(), group.values())).collect::<Vec<_>>()
        };
        assert_eq!(lines($query), lines($query.by_scan()));
        (Ways::of(&explain), explain)
    }};
}

#[test]
fn groups_take_the_cheapest_way() {
    let store = table();
    let c = Call::cols();
    let all = || store.query(Filter::all());
    let tokens: Number<Call, u32> = c.tokens;

    let by_values = Ways { value_sums: 4, ..Ways::NONE };
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.model).select(sums()));
    assert_eq!((ways, explain.rows_decoded), (by_values, 0), "{explain}");
    let (ways, explain) =
        group_ways!(all(), |q| q.group_by(c.model).select((min(tokens), max(c.metric), mean(tokens))));
    assert_eq!(ways, by_values, "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.user).select(sums()).top_by(10, sum(c.metric)));
    assert_eq!((ways, explain.rows_decoded), (by_values, 0), "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.status).select(count()));
    assert_eq!(ways, by_values, "{explain}");
    // One group: as totals.
    let (ways, explain) = group_ways!(all(), |q| q.select(sums()));
    assert_eq!(ways, Ways { totals: 4, ..Ways::NONE }, "{explain}");
    // By time: a minute has 60 rows, enough to look for its ends; ten seconds have not.
    let running = Ways { running_sums: 4, ..Ways::NONE };
    let (ways, explain) = group_ways!(all(), |q| q.bucket(Bucket::minutes(1)).select(sums()));
    assert_eq!((ways, explain.rows_decoded), (running, 0), "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.bucket(Bucket::seconds(10)).select(sums()));
    assert_eq!(ways, Ways { scanned: 4, ..Ways::NONE }, "{explain}");
    // Segments that lie within one bucket need no sums along time.
    let (ways, explain) = group_ways!(all(), |q| q.bucket(Bucket::days(1)).select(sums()));
    assert_eq!(ways, Ways { totals: 4, ..Ways::NONE }, "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.model).bucket(Bucket::days(1)).select(sums()));
    assert_eq!(ways, by_values, "{explain}");
    // Distinct users in a range of times.
    let range = || all().between(SEGMENT_NS + HALF_NS..3 * SEGMENT_NS);
    let (ways, explain) = group_ways!(range(), |q| q.select(distinct(c.user)));
    assert_eq!(ways, Ways { pruned: 2, value_sums: 2, ..Ways::NONE }, "{explain}");
    assert_eq!(explain.rows_decoded, 0, "{explain}");
    // A status whose first row is before the range and whose last one is after it need not be in it: the lists of rows
    // tell, or, where there are fewer rows than would pay for a search, the rows.
    let start = SEGMENT_NS + 5 * SECOND_NS;
    for rows in [90, 100] {
        let between = || all().between(start..start + rows * SECOND_NS);
        let (ways, explain) = group_ways!(between(), |q| q.select((distinct(c.status), count())));
        let searched = Ways { pruned: 3, value_sums: 1, ..Ways::NONE };
        let scanned = Ways { pruned: 3, scanned: 1, ..Ways::NONE };
        assert!(ways == searched || ways == scanned, "{explain}");
        assert_eq!(between().select(distinct(c.status)).one().unwrap(), 3);
    }
    // A user's rows, and what only a scan tells.
    let user = || store.query(c.user.eq("user 7"));
    let (ways, explain) = group_ways!(user(), |q| q.group_by(c.model).select(sums()));
    assert_eq!((ways, explain.rows_decoded), (Ways { value_rows: 4, ..Ways::NONE }, 4 * 64), "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.group_by((c.model, c.status)).select(sums()));
    assert_eq!(ways, Ways { scanned: 4, ..Ways::NONE }, "{explain}");
    let (ways, explain) =
        group_ways!(store.query(c.tokens.ge(30_000)), |q| q.group_by(c.model).select(sums()));
    assert_eq!(ways, Ways { pruned: 3, value_sums: 1, ..Ways::NONE }, "{explain}");
    let (ways, explain) = group_ways!(all(), |q| q.select(quantile(c.latency_ms, 0.99)));
    assert_eq!(ways.pruned, 0, "{explain}");
}

#[test]
fn few_deleted_rows_are_subtracted_and_many_are_scanned_around() {
    let store = table();
    let c = Call::cols();
    let all = || store.query(Filter::all());
    let by_values = Ways { value_sums: 4, ..Ways::NONE };
    let few = c.ts_ns.between(0..=2 * SECOND_NS);
    assert_eq!(store.delete_where(&few).unwrap(), 3);
    // The segment's sums, less those of three rows.
    assert_eq!(totals(&all()).0, Ways { totals: 4, ..Ways::NONE });
    assert_eq!(totals(&store.query(c.user.eq("user 7"))).0, by_values);
    let minutes = totals(&all().between(0..HALF_NS));
    assert_eq!(minutes.0, Ways { pruned: 3, running_sums: 1, ..Ways::NONE }, "{}", minutes.1);
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.model).select(sums()));
    assert_eq!((ways, explain.rows_decoded), (by_values, 3), "{explain}");
    // Whether a deleted row was the smallest is not known to any sum.
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.model).select((count(), min(c.tokens))));
    assert_eq!(ways, Ways { value_sums: 3, scanned: 1, ..Ways::NONE }, "{explain}");

    let many = c.ts_ns.lt(SEGMENT_NS) & c.latency_ms.lt(150);
    assert!(store.delete_where(&many).unwrap() > 1500);
    assert_eq!(totals(&all()).0, Ways { totals: 3, scanned: 1, ..Ways::NONE });
    let (ways, explain) = group_ways!(all(), |q| q.group_by(c.model).select(sums()));
    assert_eq!(ways, Ways { value_sums: 3, scanned: 1, ..Ways::NONE }, "{explain}");
    // A segment without live rows answers nothing.
    assert!(store.delete_where(c.ts_ns.lt(SEGMENT_NS)).unwrap() > 1500);
    assert_eq!(all().totals().unwrap().event_count, u64::try_from(3 * SEGMENT_ROWS).unwrap());
    totals(&all());
}

#[test]
fn rows_in_memory_are_counted_where_their_block_may_match() {
    let store = table();
    let c = Call::cols();
    let first = SEGMENTS * SEGMENT_ROWS;
    store.append_batch((first..first + 100).map(call)).unwrap();
    store.append(call(first + 1000)).unwrap();
    // How many blocks there are is the engine's affair.
    let in_memory = |explain: &Explain| {
        assert_eq!(explain.blocks > 0, explain.block_rows > 0, "{explain}");
        explain.block_rows
    };
    let explain = store.query(Filter::all()).explain().unwrap();
    assert_eq!((Ways::of(&explain).totals, in_memory(&explain)), (4, 101), "{explain}");
    let explain = store.query(c.user.eq("user 7")).explain().unwrap();
    assert_eq!((Ways::of(&explain).value_sums, in_memory(&explain)), (4, 101), "{explain}");
    // Blocks know their times.
    let late = store.query(c.ts_ns.ge((first + 500) * SECOND_NS)).explain().unwrap();
    assert_eq!(late.pruned, 4, "{late}");
    assert!((1..=101).contains(&in_memory(&late)), "{late}");
    let later = store.query(c.ts_ns.gt((first + 1000) * SECOND_NS)).explain().unwrap();
    assert_eq!((later.pruned, in_memory(&later)), (4, 0), "{later}");
    let early = store.query(c.ts_ns.lt(SEGMENT_NS)).explain().unwrap();
    assert_eq!((early.by_totals, in_memory(&early)), (1, 0), "{early}");
    // So do groups.
    let explain = store.query(Filter::all()).group_by(c.model).select(sums()).explain().unwrap();
    assert_eq!((explain.by_value_sums, in_memory(&explain)), (4, 101), "{explain}");
    assert_eq!(totals(&store.query(Filter::all())).0, Ways { totals: 4, ..Ways::NONE });
}

#[test]
fn an_explanation_reads_as_a_sentence() {
    let store = table();
    store.append(call(SEGMENTS * SEGMENT_ROWS)).unwrap();
    let explain = store.query(Call::cols().user.eq("rare")).explain().unwrap();
    let text = explain.to_string();
    assert_eq!(text, "segments: 3 pruned, 1 by value sums; rows in memory: 1, in blocks: 1");
}
