//! Everything that can be asked, each question once, with its right answer: a small table whose sums a reader can add up.
//! The names are those that programs are written against; a change of one of them fails here.

use std::path::PathBuf;
use std::sync::Arc;

use keplordb::aggregates::{count, distinct, max, mean, min, quantile, sum};
use keplordb::disk::MemoryDisk;
use keplordb::{Bucket, DbError, EventFlags, Filter, Options, Schema, Store};

#[derive(Schema)]
#[keplordb(id = 1)]
struct AiCall {
    #[dim(bloom, rollup)]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
}

const HOUR_NS: i64 = 3_600_000_000_000;

/// Hour, user, model, status, tokens, latency, cost, flags.
type Told = (i64, &'static str, &'static str, u16, u32, u32, i64, u16);

const CALLS: [Told; 10] = [
    (0, "alice", "gpt-4o", 429, 1200, 700, 10, 0b1),
    (0, "alice", "o3", 500, 2000, 2000, 20, 0b11),
    (0, "team-red", "o3", 404, 1001, 200, 30, 0b1),
    (1, "team-red", "o3", 404, 5000, 400, 50, 0b101),
    (1, "bob", "o3", 404, 9000, 500, 1000, 0b1),
    (2, "alice", "gpt-4o", 200, 3000, 300, 7, 0b1),
    (2, "alice", "gpt-5", 503, 3000, 300, 8, 0b1),
    (2, "alice", "gpt-4o", 503, 1000, 300, 9, 0b1),
    (3, "alice", "gpt-4o", 503, 4000, 2001, 11, 0b1),
    (3, "team-blue", "gpt-4o", 503, 4000, 1999, 40, 0b10),
];

fn call(place: usize) -> AiCallBuilder {
    let (hour, user, model, status, tokens, latency_ms, cost, flags) = CALLS[place];
    let event = AiCall::new(hour * HOUR_NS + place as i64).user(user).model(model).tokens(tokens);
    event.status(status).latency_ms(latency_ms).metric(cost).flags(EventFlags(flags))
}

/// The first rows in a segment, the others in memory.
fn table(sealed: usize) -> Store<AiCall> {
    let options = Options::default().disk(Arc::new(MemoryDisk::default()));
    let store = Store::open_with(AiCall::default_config(PathBuf::from("calls")), options).unwrap();
    store.append_batch((0..sealed).map(call)).unwrap();
    store.flush().unwrap();
    store.append_batch((sealed..CALLS.len()).map(call)).unwrap();
    store
}

/// The questions of the specification's first filter: rows 0 to 3 match.
fn filter() -> Filter<AiCall> {
    let c = AiCall::cols();
    (c.user.eq("alice") | c.user.starts_with("team-"))
        & c.model.in_(["gpt-4o", "o3"])
        & !c.status.in_([200, 204])
        & c.tokens.gt(1_000)
        & c.latency_ms.between(200..=2_000)
        & c.flags.has(0b1)
}

#[test]
fn a_filter_is_an_expression_of_column_tokens() {
    for sealed in [0, 2, 6, CALLS.len()] {
        let store = table(sealed);
        let f = filter();
        let rows = store.query(&f).oldest_first().rows().unwrap();
        let costs: Vec<i64> = rows.iter().map(AiCallRow::metric).collect();
        assert_eq!(costs, [10, 20, 30, 50], "{sealed} sealed");
        // By value, and met by the filter of a builder.
        assert_eq!(store.query(f.clone()).totals().unwrap().event_count, 4);
        assert_eq!(store.query(f & AiCall::filter().user("alice")).totals().unwrap().metric, 30);
        assert_eq!(store.query(AiCall::filter().model("o3")).totals().unwrap().metric, 1100);
        let f = filter();
        // Ranges of time are half-open as written.
        let (t0, t1) = (1, HOUR_NS + 3);
        assert_eq!(store.query(&f).between(t0..t1).totals().unwrap().metric, 50);
        assert_eq!(store.query(&f).between(t0..=t1).totals().unwrap().metric, 100);
        assert_eq!(store.query(&f).between(..t1).between(t0..).totals().unwrap().metric, 50);
    }
}

#[test]
fn groups_by_keys_and_hours_with_every_aggregate_and_the_top_of_them() {
    for sealed in [0, 2, 6, CALLS.len()] {
        let store = table(sealed);
        let c = AiCall::cols();
        let f = filter();
        let (t0, t1) = (0, 2 * HOUR_NS);
        let t = store
            .query(&f)
            .between(t0..t1)
            .group_by((c.user, c.model))
            .bucket(Bucket::hours(1))
            .select((
                count(),
                sum(c.metric),
                min(c.tokens),
                max(c.tokens),
                mean(c.latency_ms),
                quantile(c.latency_ms, 0.99),
                distinct(c.user),
            ))
            .top_by(10, sum(c.metric))
            .fetch()
            .unwrap();
        let mut lines = Vec::new();
        for r in &t {
            let (user, model) = r.key();
            let bucket = r.bucket();
            let (n, cost, smallest, largest, mean_ms, p99, users) = r.values();
            let p99 = p99.unwrap();
            assert!(p99.is_exact);
            assert_eq!((n, users), (1, 1));
            assert_eq!(smallest, largest);
            assert_eq!(mean_ms, Some(f64::from(p99.value)));
            lines.push((user.to_owned(), model.to_owned(), bucket / HOUR_NS, cost, largest.unwrap()));
        }
        let expected = [
            ("team-red", "o3", 1, 50, 5000),
            ("team-red", "o3", 0, 30, 1001),
            ("alice", "o3", 0, 20, 2000),
            ("alice", "gpt-4o", 0, 10, 1200),
        ];
        let expected = expected
            .map(|(user, model, hour, cost, tokens)| (user.to_owned(), model.to_owned(), hour, cost, tokens));
        assert_eq!(lines, expected, "{sealed} sealed");

        // Over all rows: by key, limited, from an offset; the status is a key too.
        let all = || store.query(Filter::all());
        let spent =
            all().group_by(c.user).select(sum(c.metric)).order_by_key().offset(1).limit(2).fetch().unwrap();
        let spent: Vec<_> = spent.iter().map(|r| (r.key().to_owned(), r.values())).collect();
        assert_eq!(spent, [("bob".to_owned(), 1000), ("team-blue".to_owned(), 40)]);
        let failed = all().group_by(c.status).select(count()).top_by(2, count()).fetch().unwrap();
        let failed: Vec<(u16, u64)> = failed.iter().map(|r| (r.key(), r.values())).collect();
        assert_eq!(failed, [(503, 4), (404, 3)]);
        let slow = all().group_by(c.model).select(count()).bottom_by(1, mean(c.latency_ms)).fetch().unwrap();
        assert_eq!((slow.len(), slow.get(0).unwrap().key()), (1, "gpt-5"));
        // Hours, with those in which bob did nothing.
        let bob = store.query(c.user.in_(["bob", "team-blue"]));
        let hours = bob.bucket(Bucket::hours(1).filled()).select((count(), max(c.metric))).fetch().unwrap();
        let hours: Vec<_> = hours.iter().map(|r| (r.bucket() / HOUR_NS, r.values())).collect();
        assert_eq!(hours, [(1, (1, Some(1000))), (2, (0, None)), (3, (1, Some(40)))]);
        // From another beginning, days and minutes.
        let shifted = all().bucket(Bucket::hours(2).from(-HOUR_NS)).select(count()).fetch().unwrap();
        let shifted: Vec<_> = shifted.iter().map(|r| (r.bucket() / HOUR_NS, r.values())).collect();
        assert_eq!(shifted, [(-1, 3), (1, 5), (3, 2)]);
        assert_eq!(all().bucket(Bucket::days(1)).select(count()).fetch().unwrap().len(), 1);
        assert_eq!(all().bucket(Bucket::minutes(30)).select(count()).fetch().unwrap().len(), 4);
        // One group: quantiles by nearest rank.
        let (p0, p50, p100) = all()
            .select((quantile(c.latency_ms, 0.0), quantile(c.latency_ms, 0.5), quantile(c.metric, 1.0)))
            .one()
            .unwrap();
        assert_eq!([p0.unwrap().value, p50.unwrap().value], [200, 400]);
        assert_eq!(p100.unwrap().value, 1000);
        assert_eq!(all().select((distinct(c.user), distinct(c.status))).one().unwrap(), (4, 5));
    }
}

#[test]
fn rows_come_newest_or_oldest_first_whole_or_by_column() {
    let store = table(5);
    let c = AiCall::cols();
    let f = filter();
    let newest = store.query(&f).newest_first().limit(100).rows().unwrap();
    assert_eq!(newest.iter().map(AiCallRow::tokens).collect::<Vec<_>>(), [5000, 1001, 2000, 1200]);
    let oldest = store.query(&f).oldest_first().limit(1).rows().unwrap();
    assert_eq!((oldest.len(), oldest[0].user(), oldest[0].model()), (1, "alice", "gpt-4o"));
    assert!(store.query(&f).limit(0).rows().unwrap().is_empty());
    assert_eq!(store.query(c.id.eq(oldest[0].id())).rows().unwrap(), oldest);
    // Only these columns are read.
    let some = store.query(&f).newest_first().limit(2).project((c.user, c.tokens)).rows().unwrap();
    assert_eq!(some, [("team-red".to_owned(), 5000), ("team-red".to_owned(), 1001)]);
    // Rows that are looked at where they are.
    let mut n = 0;
    store.query(&f).each(|row| n += row.tokens()).unwrap();
    assert_eq!(n, 9201);
    let mut n = 0;
    store.query(&f).oldest_first().scan(|row| n += row.tokens()).unwrap();
    assert_eq!(n, 9201);
}

#[test]
fn pages_follow_a_cursor() {
    for sealed in [0, 2, CALLS.len()] {
        let store = table(sealed);
        let f = filter();
        let (mut costs, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.query(&f).page(3, cursor).unwrap();
            costs.extend(page.rows.iter().map(AiCallRow::metric));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(costs, [50, 30, 20, 10], "{sealed} sealed");
    }
}

#[test]
fn facets_count_values() {
    for sealed in [0, 6, CALLS.len()] {
        let store = table(sealed);
        let c = AiCall::cols();
        let gpt = store.values(c.model).starting_with("gpt").limit(50).unwrap();
        assert_eq!(gpt, [("gpt-4o".to_owned(), 5), ("gpt-5".to_owned(), 1)]);
        assert_eq!(store.values(c.model).limit(1).unwrap(), [("gpt-4o".to_owned(), 5)]);
        let users = store.query(c.status.ge(500)).values(c.user).all().unwrap();
        assert_eq!(users, [("alice".to_owned(), 4), ("team-blue".to_owned(), 1)]);
    }
}

#[test]
fn events_are_deleted_by_filter() {
    for sealed in [0, 3, CALLS.len()] {
        let store = table(sealed);
        let f = filter();
        assert_eq!(store.delete_where(&f).unwrap(), 4);
        assert_eq!(store.delete_where(&f).unwrap(), 0, "they are gone");
        assert_eq!(store.query(Filter::all()).totals().unwrap().metric, 1075);
        assert_eq!(store.delete_where(AiCall::filter().user("alice")).unwrap(), 4);
        assert_eq!(store.values(AiCall::cols().user).all().unwrap().len(), 2);
    }
}

#[test]
fn an_explanation_counts_segments_by_what_decided_them() {
    let store = table(6);
    let explain = store.query(filter()).explain().unwrap();
    assert_eq!((explain.segments, explain.blocks, explain.block_rows), (1, 1, 4), "{explain}");
}

#[test]
fn what_the_types_let_pass_is_refused_when_asked() {
    let store = table(6);
    let c = AiCall::cols();
    let all = || store.query(Filter::all());
    let what = |error: DbError| match error {
        DbError::Invalid { .. } => error.to_string(),
        other => panic!("{other}"),
    };
    for width in [0, -1, i64::MIN] {
        let error = all().bucket(Bucket::ns(width)).select(count()).fetch().unwrap_err();
        assert!(what(error).contains("at least one nanosecond"), "{width}");
    }
    for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = all().select(quantile(c.metric, q)).one().unwrap_err();
        assert!(what(error).contains("not from 0 to 1"), "{q}");
        let by = all().group_by(c.user).select(count()).top_by(1, quantile(c.metric, q));
        assert!(what(by.fetch().unwrap_err()).contains("not from 0 to 1"), "{q}");
    }
    let error = all().bucket(Bucket::ns(1).filled()).select(count()).fetch().unwrap_err();
    assert!(what(error).contains("wider buckets"));
    let mut deep = c.user.eq("alice");
    for _ in 0..200 {
        deep = (deep & c.tokens.gt(1)) | c.tokens.gt(2);
    }
    assert!(what(store.query(&deep).rows().unwrap_err()).contains("256 levels"));
    assert!(what(store.query(&deep).totals().unwrap_err()).contains("256 levels"));
    assert!(what(store.query(&deep).explain().unwrap_err()).contains("256 levels"));
    assert!(what(store.query(&deep).values(c.user).all().unwrap_err()).contains("256 levels"));
    assert!(what(store.delete_where(&deep).unwrap_err()).contains("256 levels"));
}

/// Sums are exact inside and saturate where they are given; so do means and orders.
#[test]
fn sums_saturate_at_the_ends_of_their_types() {
    let c = AiCall::cols();
    for sealed in [true, false] {
        let options = Options::default().disk(Arc::new(MemoryDisk::default()));
        let store = Store::open_with(AiCall::default_config(PathBuf::from("calls")), options).unwrap();
        let with = |metric: i64, user: &str, times: usize| {
            let event = AiCall::new(5).user(user).metric(metric).tokens(u32::MAX);
            store.append_batch(std::iter::repeat_n(event, times)).unwrap();
        };
        with(i64::MAX, "up", 300);
        with(i64::MIN, "down", 301);
        with(i64::MAX, "more", 301);
        if sealed {
            store.flush().unwrap();
        }
        let all = || store.query(Filter::all());
        let of = |user: &str| store.query(c.user.eq(user)).totals().unwrap().metric;
        assert_eq!((of("up"), of("down")), (i64::MAX, i64::MIN));
        // 601 times the largest and 301 times the smallest: exactly 300 times the largest, less 301.
        assert_eq!(all().totals().unwrap().metric, i64::MAX);
        assert_eq!(store.query(c.user.in_(["down", "more"])).totals().unwrap().metric, -301);
        assert_eq!(all().select(sum(c.tokens)).one().unwrap(), 902 * u64::from(u32::MAX));
        let down = store.query(c.user.eq("down")).select(mean(c.metric)).one().unwrap();
        assert_eq!(down, Some(i64::MIN as f64));
        // Groups order by what they add up to, not by what is shown of it.
        let top = all().group_by(c.user).select(sum(c.metric)).top_by(2, sum(c.metric)).fetch().unwrap();
        let top: Vec<_> = top.iter().map(|group| (group.key(), group.values())).collect();
        assert_eq!(top, [("more", i64::MAX), ("up", i64::MAX)]);
        // Deleting extremes brings sums back into range.
        assert_eq!(store.delete_where(c.metric.eq(i64::MIN)).unwrap(), 301);
        assert_eq!(store.delete_where(c.user.eq("more")).unwrap(), 301);
        assert_eq!(of("down"), 0);
        let (least, most) = all().select((min(c.metric), max(c.metric))).one().unwrap();
        assert_eq!((least, most), (Some(i64::MAX), Some(i64::MAX)));
    }
}
