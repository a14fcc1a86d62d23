//! Groups against a plain list of rows: every means of answering, and the scan that is their slow twin.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::DbError;
use crate::expr::{KeyColumn, NumberColumn};
use crate::read::explain::Tally;
use crate::read::group::{
    Aggregate, Buckets, Grant, GroupOrder, GroupQuery, GroupValue, Groups, Ways, group, group_by,
};

const NUMBERS: [NumberColumn; 8] = [
    NumberColumn::Time,
    NumberColumn::Sequence,
    NumberColumn::Metric,
    NumberColumn::Latency,
    NumberColumn::LatencyDetail,
    NumberColumn::Flags,
    NumberColumn::Counter(0),
    NumberColumn::Counter(1),
];
const KEYS: [KeyColumn; 4] = [KeyColumn::Status, KeyColumn::Dim(0), KeyColumn::Dim(1), KeyColumn::Dim(2)];
const SCAN: Ways = Ways { fan_out_rows: usize::MAX, fans_out: false, only_scans: true };
const FANNED_OUT: Ways = Ways { fan_out_rows: 0, fans_out: false, only_scans: false };

fn number(row: &Row, column: NumberColumn) -> i64 {
    let event = &row.event;
    match column {
        NumberColumn::Time => event.ts_ns,
        NumberColumn::Sequence => row.sequence as i64,
        NumberColumn::Metric => event.metric,
        NumberColumn::Latency => event.latency_ms.into(),
        NumberColumn::LatencyDetail => event.latency_detail_ms.into(),
        NumberColumn::Flags => event.flags.0.into(),
        NumberColumn::Counter(counter) => event.counters[counter].into(),
    }
}

fn key(row: &Row, column: KeyColumn) -> String {
    match column {
        KeyColumn::Status => format!("{:05}", row.event.status),
        KeyColumn::Dim(dim) => row.event.dims[dim].clone(),
    }
}

/// A group of the answer.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    keys: Vec<String>,
    bucket: i64,
    values: Vec<GroupValue>,
}

fn listed(groups: &Groups, query: &GroupQuery) -> Vec<Group> {
    let group = |group| Group {
        keys: (0..query.keys.len()).map(|slot| groups.key(group, slot).to_owned()).collect(),
        bucket: groups.bucket(group),
        values: (0..query.aggregates.len()).map(|aggregate| *groups.value(group, aggregate)).collect(),
    };
    (0..groups.len()).map(group).collect()
}

/// Width, offset, fill.
type Spans = Option<(i64, i64, bool)>;

fn bucket_of(ts: i64, (width, offset, _): (i64, i64, bool)) -> i128 {
    (i128::from(ts) - i128::from(offset)).div_euclid(i128::from(width))
}

fn start_of(bucket: i128, (width, offset, _): (i64, i64, bool)) -> i64 {
    let start = bucket * i128::from(width) + i128::from(offset);
    i64::try_from(start.max(i128::from(i64::MIN))).unwrap()
}

fn plainly(rows: &[&Row], query: &GroupQuery, spans: Spans) -> Vec<Group> {
    let mut groups: BTreeMap<(Vec<String>, i128), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let keys = query.keys.iter().map(|column| key(row, *column)).collect();
        let bucket = spans.map_or(0, |spans| bucket_of(row.event.ts_ns, spans));
        groups.entry((keys, bucket)).or_default().push(row);
    }
    if query.keys.is_empty() && spans.is_none() {
        groups.entry((Vec::new(), 0)).or_default();
    }
    if let Some((_, _, true)) = spans {
        let buckets: Vec<i128> = groups.keys().map(|(_, bucket)| *bucket).collect();
        let keys: BTreeSet<Vec<String>> = groups.keys().map(|(keys, _)| keys.clone()).collect();
        if let (Some(first), Some(last)) = (buckets.iter().min(), buckets.iter().max()) {
            for (bucket, keys) in
                (*first..=*last).flat_map(|bucket| keys.iter().map(move |keys| (bucket, keys)))
            {
                groups.entry((keys.clone(), bucket)).or_default();
            }
        }
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|((keys, bucket), rows)| Group {
            keys,
            bucket: spans.map_or(0, |spans| start_of(bucket, spans)),
            values: query.aggregates.iter().map(|aggregate| value_plainly(&rows, *aggregate)).collect(),
        })
        .collect();
    let rank = |group: &Group, aggregate: usize| match group.values[aggregate] {
        GroupValue::Count(count) => Some(count as f64),
        GroupValue::Sum(sum) => Some(sum as f64),
        GroupValue::Number(value) | GroupValue::Quantile { value, .. } => value.map(|value| value as f64),
        GroupValue::Mean(mean) => mean,
    };
    // Stable: ties stay in the order of the keys. Numbers that an f64 cannot tell apart are told apart below.
    let exact = |group: &Group, aggregate: usize| match group.values[aggregate] {
        GroupValue::Sum(sum) => sum,
        GroupValue::Number(value) | GroupValue::Quantile { value, .. } => value.unwrap_or(0).into(),
        _ => 0,
    };
    match query.order {
        GroupOrder::ByKey => {}
        GroupOrder::Top(by) | GroupOrder::Bottom(by) => groups.sort_by(|a, b| {
            let order = match (rank(a, by), rank(b, by)) {
                (Some(one), Some(other)) => one.total_cmp(&other).then(exact(a, by).cmp(&exact(b, by))),
                (one, other) => return other.is_some().cmp(&one.is_some()),
            };
            if matches!(query.order, GroupOrder::Top(_)) { order.reverse() } else { order }
        }),
    }
    groups.into_iter().skip(query.offset).take(query.limit).collect()
}

fn value_plainly(rows: &[&Row], aggregate: Aggregate) -> GroupValue {
    let values = |column| rows.iter().map(move |row| number(row, column));
    let sum = |column| values(column).map(i128::from).sum::<i128>();
    match aggregate {
        Aggregate::Count => GroupValue::Count(rows.len() as u64),
        Aggregate::Sum(column) => GroupValue::Sum(sum(column)),
        Aggregate::Min(column) => GroupValue::Number(values(column).min()),
        Aggregate::Max(column) => GroupValue::Number(values(column).max()),
        Aggregate::Mean(column) => {
            GroupValue::Mean((!rows.is_empty()).then(|| sum(column) as f64 / rows.len() as f64))
        }
        Aggregate::Quantile(column, q) => {
            let mut sorted: Vec<i64> = values(column).collect();
            sorted.sort_unstable();
            let rank = (q * sorted.len() as f64).ceil().max(1.0);
            let ranked = (1..).zip(&sorted).find(|(place, _)| f64::from(*place) >= rank);
            let value = ranked.map(|(_, value)| value).or(sorted.last()).copied();
            GroupValue::Quantile { value, is_exact: true }
        }
        Aggregate::Distinct(column) => {
            let keys: BTreeSet<String> = rows.iter().map(|row| key(row, column)).collect();
            GroupValue::Count(keys.len() as u64)
        }
    }
}

fn some_query(random: &mut Random, table: &Table) -> (GroupQuery, Spans) {
    let keys = match random.below::<usize>(6) {
        0 | 1 => Vec::new(),
        2 | 3 => vec![random.pick(&KEYS)],
        4 => vec![random.pick(&KEYS), random.pick(&KEYS)],
        _ => KEYS.to_vec(),
    };
    let column = |random: &mut Random| {
        // Mostly what segments sum up.
        if random.one_in(4) { random.pick(&NUMBERS) } else { random.pick(&NUMBERS[2..4]) }
    };
    let aggregate = |random: &mut Random| match random.below::<usize>(12) {
        0 | 1 => Aggregate::Count,
        2..=4 => Aggregate::Sum(column(random)),
        5 | 6 => Aggregate::Min(column(random)),
        7 => Aggregate::Max(column(random)),
        8 => Aggregate::Mean(column(random)),
        9 => Aggregate::Quantile(column(random), random.pick(&[0.0, 0.5, 0.99, 1.0, f64::NAN, 7.0])),
        _ => Aggregate::Distinct(random.pick(&KEYS)),
    };
    let aggregates: Vec<Aggregate> = (0..random.below::<usize>(4)).map(|_| aggregate(random)).collect();
    let hour = DAY_NS / 24;
    let width = random.pick(&[DAY_NS, DAY_NS, hour, 10 * DAY_NS, 1, 7, i64::MAX]);
    let times = table.rows.iter().map(|row| row.event.ts_ns);
    let range = times.clone().max().unwrap_or(0).abs_diff(times.min().unwrap_or(0));
    let fill = random.one_in(2) && range / (width as u64) < 300;
    let spans = random.one_in(2).then(|| (width, random.pick(&[0, 1, hour, i64::MAX, i64::MIN + 1]), fill));
    let order = match (random.below::<usize>(3), aggregates.len()) {
        (0, _) | (_, 0) => GroupOrder::ByKey,
        (1, some) => GroupOrder::Top(random.below(some)),
        (_, some) => GroupOrder::Bottom(random.below(some)),
    };
    let query = GroupQuery {
        keys,
        buckets: spans.map(|(width, offset, fill)| Buckets::new(width, offset, fill)),
        aggregates,
        order,
        limit: random.pick(&[usize::MAX, usize::MAX, 10, 1, 0]),
        offset: random.pick(&[0, 0, 1, 7]),
        grant: None,
    };
    (query, spans)
}

#[test]
fn groups_are_those_of_the_matching_rows_however_they_are_found() {
    // Segments by the way they took: each must have been tried.
    let ways = std::cell::RefCell::new(Tally::default());
    on_tables(150, |random, table| {
        let context = context(random);
        for _ in 0..40 {
            let wanted = Wanted::random(random, table);
            let predicate = if random.one_in(2) { Predicate::all() } else { wanted.predicate(random, table) };
            let (query, spans) = some_query(random, table);
            let matching: Vec<&Row> = table.matching(&predicate).collect();
            let expected = plainly(&matching, &query, spans);
            let mut tally = Tally::default();
            let found = group(&table.view, &predicate, &query, &context, &mut tally).unwrap();
            assert_eq!(listed(&found, &query), expected, "{query:?} {predicate:?} {tally}");
            let found =
                group_by(FANNED_OUT, &table.view, &predicate, &query, &context, &mut Tally::default())
                    .unwrap();
            assert_eq!(listed(&found, &query), expected, "fanned out, {query:?} {predicate:?}");
            let found =
                group_by(SCAN, &table.view, &predicate, &query, &context, &mut Tally::default()).unwrap();
            assert_eq!(listed(&found, &query), expected, "scanned, {query:?} {predicate:?}");

            let cheap = [tally.pruned, tally.by_totals, tally.by_running_sums, tally.by_value_sums];
            let counted = cheap.iter().sum::<u64>() + tally.by_value_rows + tally.scanned;
            assert_eq!(counted, table.view.segments().len() as u64, "{tally}");
            ways.borrow_mut().merge(&tally);
        }
    });
    let ways = ways.into_inner();
    let all = [ways.by_totals, ways.by_running_sums, ways.by_value_sums, ways.by_value_rows, ways.scanned];
    assert!(all.iter().all(|segments| *segments > 100), "hardly tried: {ways}");
}

/// A table of one segment, no row deleted: a million nanoseconds long, two statuses, four values of dim 1.
fn plain_segment(rows: i64) -> Table {
    let event = |row: i64| Event {
        ts_ns: row * 1000,
        metric: row,
        status: if row % 10 == 0 { 500 } else { 200 },
        dims: [format!("u{}", row % 7), format!("v{}", row % 4), String::new()],
        ..Event::default()
    };
    let rows: Vec<Row> =
        (0..rows).map(|row| Row { event: event(row), sequence: row as u64, deleted: false }).collect();
    let directory = Directory::new(Arc::new(MemoryDisk::default()), PathBuf::from("table"));
    directory.create_root().unwrap();
    directory.create_folders().unwrap();
    let bytes = encode(&rows, SHAPE, &mut Random(1), &[]);
    directory.disk().create(&directory.segment(0)).unwrap().write_at(&bytes, 0).unwrap();
    let segment = Segment::open(&directory, 0, &Arc::new(MapCache::new(2)), MapMode::Read).unwrap();
    let version = Version::new(vec![SegmentEntry { segment, deleted: None }], Vec::new());
    Table {
        rows,
        view: View::new(Arc::new(version), u64::MAX),
        memtables: Vec::new(),
        below: u64::MAX,
        rollup_dims: Vec::new(),
        habits: Habits::random(&mut Random(1)),
    }
}

/// What one segment was answered by.
fn way_of(tally: &Tally) -> &'static str {
    let ways = [
        ("pruned", tally.pruned),
        ("totals", tally.by_totals),
        ("running sums", tally.by_running_sums),
        ("value sums", tally.by_value_sums),
        ("value rows", tally.by_value_rows),
        ("scan", tally.scanned),
    ];
    ways.iter().find(|(_, segments)| *segments == 1).map_or("none", |(way, _)| way)
}

/// What is taken for which rows, keys, width of buckets and aggregates.
type Case<'c> = (&'c str, &'c Predicate<'c>, &'c [KeyColumn], Option<i64>, &'c [Aggregate]);

#[test]
fn the_cheapest_means_is_taken() {
    let table = plain_segment(4000);
    let sum = [Aggregate::Count, Aggregate::Sum(NumberColumn::Metric)];
    let quantile = [Aggregate::Quantile(NumberColumn::Latency, 0.5)];
    let distinct = [Aggregate::Distinct(KeyColumn::Dim(0))];
    let (user, value) = (KeyColumn::Dim(0), KeyColumn::Dim(1));
    let all = Predicate::all();
    let range = Predicate { from_ts_ns: 5, to_ts_ns: 3_000_007, ..Predicate::all() };
    let of_one = Predicate { dims: vec![(1, "v3")], ..Predicate::all() };
    let nobody = Predicate { dims: vec![(1, "nobody")], ..Predicate::all() };
    let failed = Predicate { status_min: 500, ..Predicate::all() };
    let by_scan = Predicate { by_scan: true, ..Predicate::all() };
    let second = Some(1_000_000_000);
    let ms = Some(1_000_000);
    let cases: [Case<'_>; 17] = [
        ("pruned", &nobody, &[], None, &sum),
        ("totals", &all, &[], None, &sum),
        ("totals", &all, &[KeyColumn::Dim(2)], second, &sum),
        ("running sums", &range, &[], None, &sum),
        ("running sums", &all, &[], ms, &sum),
        ("value sums", &range, &[], None, &distinct),
        ("value sums", &all, &[value], None, &sum),
        ("value sums", &all, &[value, KeyColumn::Dim(2)], second, &sum),
        ("value sums", &of_one, &[], None, &sum),
        ("value sums", &of_one, &[value], second, &sum),
        ("value sums", &failed, &[], None, &sum),
        ("scan", &of_one, &[user], None, &sum),
        ("scan", &all, &[value], ms, &sum),
        ("scan", &all, &[user, value], None, &sum),
        ("scan", &range, &[value], None, &sum),
        ("scan", &of_one, &[], None, &quantile),
        ("scan", &by_scan, &[], None, &sum),
    ];
    let context = context(&mut Random(1));
    for (way, predicate, keys, width, aggregates) in cases {
        let query = GroupQuery {
            keys: keys.to_vec(),
            buckets: width.map(|width| Buckets::new(width, 0, false)),
            aggregates: aggregates.to_vec(),
            order: GroupOrder::ByKey,
            limit: usize::MAX,
            offset: 0,
            grant: None,
        };
        let mut tally = Tally::default();
        let found = group(&table.view, predicate, &query, &context, &mut tally).unwrap();
        let matching: Vec<&Row> = table.matching(predicate).collect();
        assert_eq!(listed(&found, &query), plainly(&matching, &query, width.map(|width| (width, 0, false))));
        assert_eq!(way_of(&tally), way, "{query:?} {predicate:?} {tally}");
    }
}

#[test]
fn a_query_is_granted_what_its_groups_take_and_given_up_however_they_are_found() {
    let context = context(&mut Random(1));
    let all = Predicate::all();
    let query = |keys: &[KeyColumn], width: Option<i64>, aggregate| GroupQuery {
        keys: keys.to_vec(),
        buckets: width.map(|width| Buckets::new(width, 0, false)),
        aggregates: vec![aggregate],
        order: GroupOrder::ByKey,
        limit: usize::MAX,
        offset: 0,
        grant: None,
    };
    // How many groups are found within a limit, and how many bytes were granted.
    let within = |table: &Table, ways, query: &GroupQuery, limit_bytes: usize, tally: &mut Tally| {
        let bytes = Arc::new(AtomicUsize::new(0));
        let granted = Arc::clone(&bytes);
        let grant = Grant::new(move |more| {
            let known = granted.fetch_add(more, Ordering::Relaxed);
            let is_granted = known + more <= limit_bytes;
            if !is_granted {
                granted.fetch_sub(more, Ordering::Relaxed);
            }
            is_granted
        });
        let query = GroupQuery { grant: Some(grant), ..query.clone() };
        let found = group_by(ways, &table.view, &all, &query, &context, tally).map(|found| found.len());
        (found, bytes.load(Ordering::Relaxed))
    };
    let both = [KeyColumn::Dim(0), KeyColumn::Dim(1)];
    let table = plain_segment(4000);
    for ways in [SCAN, FANNED_OUT, Ways { only_scans: false, ..SCAN }] {
        for (keys, width, groups) in [(&both[..], None, 28), (&both[..1], None, 7), (&[], Some(1000), 4000)] {
            for aggregate in [Aggregate::Count, Aggregate::Distinct(KeyColumn::Dim(0))] {
                let query = query(keys, width, aggregate);
                let (found, bytes) = within(&table, ways, &query, usize::MAX, &mut Tally::default());
                assert_eq!(found.unwrap(), groups);
                // A group has at least its place and its value.
                assert!(
                    (groups * 24..groups * 1000 + (64 << 10)).contains(&bytes),
                    "{bytes} {query:?} {ways:?}"
                );
                let (refused, _) = within(&table, ways, &query, bytes / 3, &mut Tally::default());
                assert!(matches!(refused, Err(DbError::GivenUp)), "{query:?} {ways:?}");
            }
        }
    }
    // As soon as there are more, not at the end.
    let mut tally = Tally::default();
    let by_time = query(&[], Some(1000), Aggregate::Count);
    let (refused, _) = within(&table, SCAN, &by_time, 10_000, &mut tally);
    assert!(refused.is_err());
    assert_eq!((tally.chunks_masked, tally.rows_decoded), (1, 256));
}

#[test]
fn whoever_gives_a_query_up_is_asked_before_each_chunk_and_each_segment() {
    let context = context(&mut Random(1));
    let table = plain_segment(4000);
    let left = Arc::new(AtomicUsize::new(0));
    let mut query = GroupQuery {
        keys: Vec::new(),
        buckets: None,
        aggregates: vec![Aggregate::Sum(NumberColumn::Metric)],
        order: GroupOrder::ByKey,
        limit: usize::MAX,
        offset: 0,
        grant: None,
    };
    for (ways, chunks) in [(SCAN, 3), (FANNED_OUT, 0), (Ways { only_scans: false, ..SCAN }, 0)] {
        left.store(chunks, Ordering::Relaxed);
        let grants = Arc::clone(&left);
        let go_on = move |_| {
            grants.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        query.grant = Some(Grant::new(go_on));
        let mut tally = Tally::default();
        let found = group_by(ways, &table.view, &Predicate::all(), &query, &context, &mut tally);
        assert!(matches!(found, Err(DbError::GivenUp)), "{ways:?}");
        assert!(tally.chunks_masked <= chunks as u64, "{tally}");
    }
}

#[test]
fn too_many_empty_buckets_are_refused_and_few_rows_are_not() {
    let table = plain_segment(4000);
    let query = |width, fill| GroupQuery {
        keys: vec![KeyColumn::Dim(1)],
        buckets: Some(Buckets::new(width, 0, fill)),
        aggregates: vec![Aggregate::Count],
        order: GroupOrder::Top(0),
        limit: 3,
        offset: 0,
        grant: None,
    };
    let context = context(&mut Random(1));
    let ask =
        |query: &GroupQuery| group(&table.view, &Predicate::all(), query, &context, &mut Tally::default());
    let refused = ask(&query(1, true)).unwrap_err().to_string();
    assert!(refused.starts_with("fill is not legal: 15992004 empty groups"), "{refused}");
    assert_eq!(ask(&query(1, false)).unwrap().len(), 3);
    assert_eq!(ask(&query(1_000_000, true)).unwrap().len(), 3);
}

#[test]
fn ids_of_segments_that_are_gone_are_let_go() {
    let context = context(&mut Random(1));
    let query = GroupQuery {
        keys: vec![KeyColumn::Dim(0)],
        buckets: None,
        aggregates: vec![Aggregate::Count],
        order: GroupOrder::ByKey,
        limit: usize::MAX,
        offset: 0,
        grant: None,
    };
    let names = |table: &Table| context.remaps.column(KeyColumn::Dim(0), &table.view).ids.len();
    for round in 0..40 {
        let mut random = Random(round);
        let table = Table::random(&mut random);
        let all = Predicate::all();
        let found = group(&table.view, &all, &query, &context, &mut Tally::default()).unwrap();
        let rows: Vec<&Row> = table.live().collect();
        assert_eq!(listed(&found, &query), plainly(&rows, &query, None));
        let own: BTreeSet<&str> = table.rows.iter().map(|row| &*row.event.dims[0]).collect();
        assert!(names(&table) as usize <= own.len() + 2 * table.rows.len() + 1024);
    }
}

#[test]
fn sets_of_distinct_values_are_alike_though_others_give_out_ids() {
    let table = plain_segment(4000);
    let context = context(&mut Random(1));
    let query = GroupQuery {
        keys: vec![KeyColumn::Dim(1)],
        buckets: None,
        aggregates: vec![Aggregate::Distinct(KeyColumn::Dim(0)), Aggregate::Count],
        order: GroupOrder::ByKey,
        limit: usize::MAX,
        offset: 0,
        grant: None,
    };
    let rows: Vec<&Row> = table.live().collect();
    let expected = plainly(&rows, &query, None);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Crosses the sizes at which sets change their form.
            let column = context.remaps.column(KeyColumn::Dim(0), &table.view);
            for new in 0..6000 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let mut block = Block::new(SHAPE);
                let mut event = Event::default();
                event.dims[0] = format!("new {new}");
                block.push(event.as_row());
                column.ids.of_block(&Arc::new(block));
            }
        });
        for _ in 0..300 {
            let found =
                group_by(FANNED_OUT, &table.view, &Predicate::all(), &query, &context, &mut Tally::default());
            assert_eq!(listed(&found.unwrap(), &query), expected);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
