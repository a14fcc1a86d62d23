//! Every question against a plain list of rows.
//!
//! Random tables (segments that overlap in time, some older than the newest columns, blocks in memory, deleted rows) are
//! asked random questions; a `Vec` and closures give the answers that must come back. The slow twin, `aggregate::scan`,
//! is held to the same answers as the fast paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use keplordb_disk::{Disk, MemoryDisk};
use roaring::{RoaringBitmap, RoaringTreemap};

use super::aggregate::{aggregate, aggregate_above, scan_whole};
use super::column_set::ColumnSet;
use super::event_row::EventRow;
use super::explain::Tally;
use super::point::{RowKey, find_row, newest_of_id, rows_of_id, rows_that_match};
use super::recent::{Stretch, recent};
use super::rollup::{RollupRow, rollups};
use super::row::RowView;
use super::select::Order;
use super::*;
use crate::config::MapMode;
use crate::error::Result;
use crate::event::{EventFlags, EventRef, LogEvent};
use crate::expr::{Expr, NumberColumn, TextColumn, TextTest};
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::segment::{self, Columns, SegmentInput};
use crate::schema::TableSchema;
use crate::state::memtable::Memtable;
use crate::state::version::{MemtableEntry, SegmentEntry, Version, View};
use crate::storage::directory::Directory;
use crate::storage::map_cache::MapCache;
use crate::storage::segment_reader::Segment;
use crate::sums::Sums;
use crate::time::{DAY_NS, DAY_S, day_of};

mod gather;
mod group;

const DIMS: usize = 3;
const COUNTERS: usize = 2;
const LABELS: usize = 1;
type Event = LogEvent<DIMS, COUNTERS, LABELS>;

const DAY_LENGTH: usize = 86_400_000_000_000;

/// The table as it is now, and as it was when the older parts were written.
const SHAPE: Shape = Shape { dims: DIMS, counters: COUNTERS, labels: LABELS };
const OLD_SHAPE: Shape = Shape { dims: 2, counters: 1, labels: 0 };

/// `SplitMix64`: the same numbers from the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`, which fits the type.
    fn below<T: TryFrom<u64>>(&mut self, limit: usize) -> T {
        T::try_from(self.next() % limit as u64).ok().expect("the limit fits the type")
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below::<usize>(of) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below::<usize>(choices.len())]
    }
}

/// A row of the plain list.
#[derive(Debug, Clone)]
struct Row {
    event: Event,
    sequence: u64,
    deleted: bool,
}

impl Row {
    fn key(&self) -> (i64, u64) {
        (self.event.ts_ns, self.sequence)
    }
}

/// How the rows of one table are drawn.
struct Habits {
    values: [usize; DIMS],
    statuses: Vec<u16>,
    metric_below: usize,
    ids: usize,
    /// Long ones are stored compressed.
    label_bytes: usize,
    days: usize,
    /// What values of dims end with.
    value_end: &'static str,
}

impl Habits {
    fn random(random: &mut Random) -> Self {
        let statuses = [vec![200], vec![0, 200, 204, 404, 500, u16::MAX], (0..900).collect()];
        Self {
            values: [random.pick(&[1, 3, 40, 700]), random.pick(&[2, 9]), random.pick(&[1, 30])],
            statuses: statuses[random.below::<usize>(3)].clone(),
            metric_below: random.pick(&[2, 1000, 1 << 40]),
            ids: random.pick(&[20, 100_000]),
            label_bytes: random.pick(&[9, 9, 700]),
            days: random.pick(&[1, 4, 40]),
            value_end: random.pick(&["", "", " of a name as long as few have it, but some do have one"]),
        }
    }

    fn event(&self, random: &mut Random, base_ns: i64, spread_ns: usize, shape: Shape) -> Event {
        let times = [base_ns + random.below::<i64>(spread_ns), base_ns, i64::MIN, i64::MAX];
        let usual = usize::from(random.one_in(4));
        let metrics = [random.below::<i64>(self.metric_below) - 1, i64::MIN, i64::MAX];
        let value = |random: &mut Random, dim: usize| match random.below::<usize>(self.values[dim]) {
            0 => String::new(),
            value => format!("v{value}{}", self.value_end),
        };
        let mut event = Event {
            ts_ns: times[if random.one_in(500) { 2 + random.below::<usize>(2) } else { usual }],
            id: if random.one_in(20) {
                String::new()
            } else {
                format!("id{}", random.below::<usize>(self.ids))
            },
            metric: metrics[if random.one_in(300) { 1 + random.below::<usize>(2) } else { 0 }],
            counters: [random.pick(&[0, 1, 7, u32::MAX]), random.below(100)],
            latency_ms: random.below(3000),
            latency_detail_ms: random.below(2),
            status: random.pick(&self.statuses),
            flags: EventFlags(random.below(1 << 16)),
            dims: std::array::from_fn(|dim| value(random, dim)),
            labels: [format!("label {}", "x".repeat(random.below(self.label_bytes)))],
        };
        event.dims[shape.dims..].fill(String::new());
        event.counters[shape.counters..].fill(0);
        event.labels[shape.labels..].fill(String::new());
        event
    }
}

struct Table {
    rows: Vec<Row>,
    view: View,
    memtables: Vec<MemtableEntry>,
    /// Rows in memory with this sequence or a higher one are not in the view, as if they were deleted.
    below: u64,
    rollup_dims: Vec<usize>,
    habits: Habits,
}

fn schema(shape: Shape) -> TableSchema {
    TableSchema::positional(1, shape.dims, shape.counters, shape.labels)
}

impl Table {
    fn random(random: &mut Random) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let directory = Directory::new(disk, PathBuf::from("table"));
        directory.create_root().unwrap();
        directory.create_folders().unwrap();
        let cache = Arc::new(MapCache::new(2));

        let habits = Habits::random(random);
        let rollup_dims = [vec![], vec![0], vec![1, 0], vec![2, 1]][random.below::<usize>(4)].clone();
        let mut table = Self {
            rows: Vec::new(),
            view: View::new(Arc::default(), u64::MAX),
            memtables: Vec::new(),
            below: u64::MAX,
            rollup_dims,
            habits,
        };
        let mut version = Version::default();
        let mut sequence = random.below(1000);
        let first_sequence = sequence;
        for number in 0..random.below(5) {
            let shape = if random.one_in(3) { OLD_SHAPE } else { SHAPE };
            let rows = random.pick(&[1, 40, 255, 256, 257, 700, 1500, 3000]);
            let mut rows = table.draw_rows(random, rows, shape, &mut sequence);
            rows.sort_by_key(Row::key);
            let bytes = encode(&rows, shape, random, &table.rollup_dims);
            let path = directory.segment(number);
            directory.disk().create(&path).unwrap().write_at(&bytes, 0).unwrap();
            let segment =
                Segment::open(&directory, number, &cache, random.pick(&[MapMode::Map, MapMode::Read]))
                    .unwrap();
            let deleted: RoaringBitmap =
                (0..).zip(&rows).filter(|(_, row)| row.deleted).map(|(row, _)| row).collect();
            let deleted = (!deleted.is_empty() || random.one_in(5)).then(|| Arc::new(deleted));
            version.segments.push(SegmentEntry { segment, deleted });
            table.rows.extend(rows);
        }
        let in_segments = sequence;
        for generation in 0..random.below(3) {
            let shape = if random.one_in(3) { OLD_SHAPE } else { SHAPE };
            let memtable = Memtable::new(generation, shape);
            let mut deleted = RoaringTreemap::new();
            for _ in 0..random.below::<usize>(20) {
                let rows = random.pick(&[1, 3, 300]);
                let rows = table.draw_rows(random, rows, shape, &mut sequence);
                let block = block(&rows, shape);
                if rows.len() > 100 {
                    memtable.add(block);
                } else {
                    memtable.copy(&block);
                }
                if random.one_in(3) {
                    memtable.blocks();
                }
                deleted.extend(rows.iter().filter(|row| row.deleted).map(|row| row.sequence));
                table.rows.extend(rows);
            }
            let deleted = (!deleted.is_empty()).then(|| Arc::new(deleted));
            version.memtables.push(MemtableEntry { memtable: Arc::new(memtable), sealed: false, deleted });
        }
        table.memtables.clone_from(&version.memtables);
        let version = Arc::new(version.counted());
        if random.one_in(3) {
            let in_memory = usize::try_from(sequence - in_segments).unwrap();
            let below = in_segments + 1 + random.below::<u64>(in_memory + 2);
            table.rows.iter_mut().for_each(|row| row.deleted |= row.sequence >= below);
            table.below = below;
        }
        if in_segments > first_sequence {
            let too_low = View::new(Arc::clone(&version), u64::MAX).only_below(in_segments);
            assert!(too_low.is_none(), "a segment has the row {in_segments}");
        }
        table.view =
            View::new(version, u64::MAX).only_below(table.below).expect("segments have lower numbers");
        assert_eq!(table.view.live_rows(), table.live().count() as u64);
        table
    }

    /// The rows of one part; their sequences ascend.
    fn draw_rows(&self, random: &mut Random, count: usize, shape: Shape, sequence: &mut u64) -> Vec<Row> {
        let base_ns = random.below::<i64>(self.habits.days) * DAY_NS - DAY_NS;
        let spread_ns = random.pick(&[50, DAY_LENGTH, 3 * DAY_LENGTH]);
        let deleted_one_in = random.pick(&[usize::MAX, usize::MAX, 100, 3, 1]);
        let draw = |_| {
            *sequence += 1 + u64::from(random.one_in(50)) * 7;
            Row {
                event: self.habits.event(random, base_ns, spread_ns, shape),
                sequence: *sequence,
                deleted: random.one_in(deleted_one_in),
            }
        };
        (0..count).map(draw).collect()
    }

    fn live(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.deleted)
    }

    fn matching<'t>(&'t self, predicate: &'t Predicate<'_>) -> impl Iterator<Item = &'t Row> {
        self.live().filter(|row| {
            let event = &row.event;
            (predicate.from_ts_ns..=predicate.to_ts_ns).contains(&event.ts_ns)
                && (predicate.status_min..=predicate.status_max).contains(&event.status)
                && predicate.dims.iter().all(|(dim, value)| event.dims[*dim] == *value)
                && predicate.rest.iter().all(|expr| holds_plainly(expr, row))
        })
    }

    /// A value that a row has, the empty one, or one that no row has.
    fn some_value(&self, random: &mut Random, dim: usize) -> String {
        match random.below::<usize>(8) {
            0 => String::new(),
            1 => "nowhere".to_owned(),
            _ if self.rows.is_empty() => String::new(),
            _ => self.rows[random.below::<usize>(self.rows.len())].event.dims[dim].clone(),
        }
    }

    fn some_time(&self, random: &mut Random) -> i64 {
        if self.rows.is_empty() {
            return 0;
        }
        let ts_ns = self.rows[random.below::<usize>(self.rows.len())].event.ts_ns;
        ts_ns.saturating_add(random.below::<i64>(3) - 1)
    }
}

fn block(rows: &[Row], shape: Shape) -> Block {
    let mut whole = Block::new(shape);
    for row in rows {
        let mut one = Block::new(shape);
        one.push(row.event.as_row_of(shape));
        one.number(row.sequence);
        whole.extend(&one);
    }
    whole
}

impl Event {
    /// The event as a program with fewer columns wrote it.
    fn as_row_of(&self, shape: Shape) -> crate::event::RowRef<'_> {
        let mut row = self.as_row();
        row.dims = &row.dims[..shape.dims];
        row.counters = &row.counters[..shape.counters];
        row.labels = &row.labels[..shape.labels];
        row
    }
}

fn encode(rows: &[Row], shape: Shape, random: &mut Random, rollup_dims: &[usize]) -> Vec<u8> {
    let events = || rows.iter().map(|row| &row.event);
    let columns = Columns {
        ts: events().map(|event| event.ts_ns).collect(),
        sequence: rows.iter().map(|row| row.sequence as i64).collect(),
        metric: events().map(|event| event.metric).collect(),
        latency: events().map(|event| event.latency_ms.into()).collect(),
        latency_detail: events().map(|event| event.latency_detail_ms.into()).collect(),
        flags: events().map(|event| event.flags.0.into()).collect(),
        status: events().map(|event| event.status).collect(),
        counters: (0..shape.counters)
            .map(|c| events().map(|event| event.counters[c].into()).collect())
            .collect(),
        id: events().map(|event| &*event.id).collect(),
        dims: (0..shape.dims).map(|dim| events().map(|event| &*event.dims[dim]).collect()).collect(),
        labels: (0..shape.labels)
            .map(|label| events().map(|event| &*event.labels[label]).collect())
            .collect(),
    };
    let stored_rollups: Vec<usize> = rollup_dims.iter().copied().filter(|dim| *dim < shape.dims).collect();
    let input = SegmentInput {
        schema: &schema(shape),
        generations: &[],
        supersedes: &[],
        bloom_dim: random.pick(&[None, Some(0), Some(1)]),
        rollup_dims: &stored_rollups,
        columns,
    };
    segment::encode(&input, false)
}

static POOL: LazyLock<Arc<rayon::ThreadPool>> =
    LazyLock::new(|| Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()));

fn context(random: &mut Random) -> ReadContext {
    let kernels = random.pick(&Kernels::all_available());
    ReadContext {
        kernels,
        pool: random.one_in(2).then(|| Arc::clone(&POOL)),
        shape: SHAPE,
        remaps: Arc::default(),
        columns: ColumnSet::ALL,
    }
}

/// Runs a test on many tables; a failure names the seed that shows it alone.
fn on_tables(count: u64, test: impl Fn(&mut Random, &Table)) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the table of seed {} fails", self.0);
            }
        }
    }
    for seed in 0..count {
        let _named = Seed(seed);
        let mut random = Random(seed);
        let table = Table::random(&mut random);
        test(&mut random, &table);
    }
}

/// Whether a condition holds for a row, by its definition.
fn holds_plainly(expr: &Expr, row: &Row) -> bool {
    let event = &row.event;
    match expr {
        Expr::Always(holds) => *holds,
        Expr::Number { column, lo, hi } => {
            let value = match column {
                NumberColumn::Time => event.ts_ns,
                NumberColumn::Sequence => row.sequence as i64,
                NumberColumn::Metric => event.metric,
                NumberColumn::Latency => event.latency_ms.into(),
                NumberColumn::LatencyDetail => event.latency_detail_ms.into(),
                NumberColumn::Flags => event.flags.0.into(),
                NumberColumn::Counter(counter) => event.counters[*counter].into(),
            };
            *lo <= value && value <= *hi
        }
        Expr::Flags { bits } => (0..16).all(|bit| bits >> bit & 1 <= event.flags.0 >> bit & 1),
        Expr::Status(ranges) => ranges.iter().any(|range| range.contains(&event.status)),
        Expr::Dim { dim, test } => passes_plainly(test, &event.dims[*dim]),
        Expr::Text { column: TextColumn::Id, test } => passes_plainly(test, &event.id),
        Expr::Text { column: TextColumn::Label(label), test } => passes_plainly(test, &event.labels[*label]),
        Expr::And(parts) => !parts.iter().any(|part| !holds_plainly(part, row)),
        Expr::Or(parts) => parts.iter().any(|part| holds_plainly(part, row)),
        Expr::Not(inner) => !holds_plainly(inner, row),
        Expr::TooDeep => unreachable!("not made here"),
    }
}

fn passes_plainly(test: &TextTest, value: &str) -> bool {
    match test {
        TextTest::Equal(wanted) => value == wanted,
        TextTest::AnyOf(wanted) => wanted.iter().any(|wanted| value == wanted),
        TextTest::StartsWith(start) => value.get(..start.len()) == Some(start),
        TextTest::EndsWith(end) => value.len() >= end.len() && value[value.len() - end.len()..] == **end,
        TextTest::Contains(part) => (0..=value.len()).any(|at| value[at..].starts_with(&**part)),
    }
}

fn random_expr(random: &mut Random, table: &Table, levels: usize) -> Expr {
    let parts = |random: &mut Random| {
        let count = random.below::<usize>(4);
        (0..count).map(|_| random_expr(random, table, levels - 1)).collect()
    };
    match random.below::<usize>(if levels == 0 { 8 } else { 16 }) {
        0 => Expr::Always(random.one_in(2)),
        1 | 2 => {
            let column = random.pick(&[
                NumberColumn::Time,
                NumberColumn::Sequence,
                NumberColumn::Metric,
                NumberColumn::Latency,
                NumberColumn::LatencyDetail,
                NumberColumn::Flags,
                NumberColumn::Counter(0),
                NumberColumn::Counter(1),
            ]);
            let near = |random: &mut Random| match column {
                NumberColumn::Time => table.some_time(random),
                NumberColumn::Metric => random.below::<i64>(table.habits.metric_below) - 1,
                _ => random.pick(&[-1, 0, 1, 7, 50, 1000, 2000, i64::from(u32::MAX)]),
            };
            let (lo, hi) = (near(random), near(random));
            match random.below::<usize>(5) {
                0 => Expr::Number { column, lo: i64::MIN, hi },
                1 => Expr::Number { column, lo, hi: i64::MAX },
                2 => Expr::Number { column, lo, hi: lo },
                3 => Expr::Number { column, lo, hi },
                _ => Expr::Number { column, lo: lo.min(hi), hi: lo.max(hi) },
            }
        }
        3 => Expr::Flags { bits: random.pick(&[0, 1, 2, 0x101, u16::MAX]) },
        4 => {
            let count = random.below::<usize>(4);
            let status = |random: &mut Random| random.pick(&table.habits.statuses);
            Expr::Status((0..count).map(|_| status(random)..=status(random)).collect())
        }
        5 | 6 => {
            let dim = random.below(DIMS);
            Expr::Dim { dim, test: random_test(random, |random| table.some_value(random, dim)) }
        }
        7 => {
            let column = random.pick(&[TextColumn::Id, TextColumn::Label(0)]);
            let text = |random: &mut Random| match table.rows.get(random.below::<usize>(table.rows.len() + 1))
            {
                Some(row) if column == TextColumn::Id => row.event.id.clone(),
                Some(row) => row.event.labels[0].clone(),
                None => "nowhere".to_owned(),
            };
            Expr::Text { column, test: random_test(random, text) }
        }
        8..11 => Expr::And(parts(random)),
        11..14 => Expr::Or(parts(random)),
        _ => Expr::Not(Box::new(random_expr(random, table, levels - 1))),
    }
}

fn random_test(random: &mut Random, text: impl Fn(&mut Random) -> String) -> TextTest {
    let wanted = text(random);
    let cut = random.below::<usize>(wanted.len() + 1);
    match random.below::<usize>(6) {
        0 => TextTest::Equal(wanted),
        1 | 2 => {
            let count = random.below::<usize>(12);
            TextTest::any_of((0..count).map(|_| text(random)))
        }
        3 => TextTest::StartsWith(wanted[..cut].to_owned()),
        4 => TextTest::EndsWith(wanted[cut..].to_owned()),
        _ => TextTest::Contains(wanted[cut..].to_owned()),
    }
}

/// What a random predicate borrows its values from.
struct Wanted {
    dims: [Option<String>; DIMS],
    rest: Vec<Expr>,
}

impl Wanted {
    fn random(random: &mut Random, table: &Table) -> Self {
        let dims = std::array::from_fn(|dim| random.one_in(3).then(|| table.some_value(random, dim)));
        let count = random.pick(&[0, 0, 1, 1, 2]);
        Self { dims, rest: (0..count).map(|_| random_expr(random, table, 3)).collect() }
    }

    fn predicate(&self, random: &mut Random, table: &Table) -> Predicate<'_> {
        let mut predicate = Predicate::all();
        if random.one_in(2) {
            let (a, b) = (table.some_time(random), table.some_time(random));
            (predicate.from_ts_ns, predicate.to_ts_ns) = (a.min(b), a.max(b));
            match random.below::<usize>(4) {
                0 => predicate.from_ts_ns = i64::MIN,
                1 => predicate.to_ts_ns = i64::MAX,
                _ => {}
            }
        }
        if random.one_in(3) {
            let (a, b) = (random.pick(&table.habits.statuses), random.pick(&[0, 200, 300, 500, u16::MAX]));
            (predicate.status_min, predicate.status_max) = (a.min(b), a.max(b));
        }
        predicate.rest = self.rest.iter().collect();
        let fixed = self.dims.iter().enumerate();
        predicate.dims = fixed.filter_map(|(dim, value)| Some((dim, value.as_deref()?))).collect();
        predicate
    }
}

fn add_plainly(sums: &mut Sums, event: &Event) {
    sums.count += 1;
    let counters = event.counters.map(i64::from);
    let fixed = [event.metric, event.latency_ms.into(), event.latency_detail_ms.into()];
    let values = fixed.into_iter().chain(counters);
    sums.measures.iter_mut().zip(values).for_each(|(measure, value)| measure.add(value));
}

#[test]
fn totals_are_those_of_the_matching_rows_however_they_are_found() {
    on_tables(100, |random, table| {
        let context = context(random);
        for _ in 0..40 {
            let wanted = Wanted::random(random, table);
            let predicate = wanted.predicate(random, table);
            let mut expected = Sums::empty(SHAPE);
            table.matching(&predicate).for_each(|row| add_plainly(&mut expected, &row.event));

            assert_eq!(
                aggregate(&table.view, &predicate, &context, &mut Tally::default()).unwrap(),
                expected,
                "{predicate:?}"
            );
            let fanned_out =
                aggregate_above(0, &table.view, &predicate, &context, &mut Tally::default()).unwrap();
            assert_eq!(fanned_out, expected, "fanned out, {predicate:?}");
            let slow = Predicate { by_scan: true, ..predicate.clone() };
            let mut tally = Tally::default();
            let by_scan = aggregate(&table.view, &slow, &context, &mut tally).unwrap();
            assert_eq!(by_scan, expected, "by scan, {predicate:?}");
            assert_eq!((tally.by_totals, tally.by_value_sums, tally.by_value_rows), (0, 0, 0));
            let mut scanned = aggregate_of_memory(table, &predicate, &context);
            for entry in table.view.segments() {
                scanned.merge(&scan_whole(entry, &predicate, &context).unwrap());
            }
            assert_eq!(scanned, expected, "scanned, {predicate:?}");
        }
    });
}

/// The totals of the memtables alone.
fn aggregate_of_memory(table: &Table, predicate: &Predicate<'_>, context: &ReadContext) -> Sums {
    let view = View::new(Arc::new(Version::new(Vec::new(), table.memtables.clone())), u64::MAX);
    let view = view.only_below(table.below).expect("it has no segments");
    aggregate(&view, predicate, context, &mut Tally::default()).unwrap()
}

#[test]
fn totals_without_conditions_stay_true_when_extremes_are_deleted() {
    on_tables(150, |random, table| {
        let context = context(random);
        let all = Predicate::all();
        let mut expected = Sums::empty(SHAPE);
        table.live().for_each(|row| add_plainly(&mut expected, &row.event));
        assert_eq!(aggregate(&table.view, &all, &context, &mut Tally::default()).unwrap(), expected);
    });
}

/// A copy of the row has the same values, also of columns that the table does not have.
fn assert_copies(row: &RowView<'_>, event: &Event) {
    let copy = EventRow::<{ DIMS + 1 }, { COUNTERS + 1 }, { LABELS + 1 }>::read(row).unwrap();
    assert_eq!((copy.sequence(), copy.ts_ns(), copy.metric()), (row.sequence(), event.ts_ns, event.metric));
    assert_eq!((copy.latency_ms(), copy.latency_detail_ms()), (event.latency_ms, event.latency_detail_ms));
    assert_eq!((copy.status(), copy.flags(), copy.id()), (event.status, event.flags, event.id.as_str()));
    let texts = |texts: &[String], place: usize| texts.get(place).cloned().unwrap_or_default();
    for place in 0..=DIMS + 1 {
        assert_eq!(copy.dim(place), texts(&event.dims, place));
        assert_eq!(copy.label(place), texts(&event.labels, place));
        assert_eq!(copy.counter(place), event.counters.get(place).copied().unwrap_or(0));
    }
    let copy = EventRef::<DIMS, COUNTERS, LABELS>::from(EventRow::read(row).unwrap());
    assert_eq!(copy, EventRef::read(row).unwrap());
    assert_eq!((&copy.id, &copy.dims, &copy.labels), (&event.id, &event.dims, &event.labels));
}

/// A row, read back by its getters.
fn read(row: &RowView<'_>) -> Result<Row> {
    let event = Event {
        id: row.id()?.into_owned(),
        ts_ns: row.ts_ns(),
        metric: row.metric(),
        counters: std::array::from_fn(|counter| row.counter(counter)),
        latency_ms: row.latency_ms(),
        latency_detail_ms: row.latency_detail_ms(),
        status: row.status(),
        flags: row.flags(),
        dims: std::array::from_fn(|dim| row.dim(dim).to_owned()),
        labels: [row.label(0)?.into_owned()],
    };
    assert_copies(row, &event);
    Ok(Row { event, sequence: row.sequence(), deleted: false })
}

fn assert_same(found: &[Row], expected: &[&Row], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.sequence, &found.event), (expected.sequence, &expected.event), "{what}");
    }
}

#[test]
fn rows_come_in_the_order_of_time_and_sequence() {
    on_tables(100, |random, table| {
        let context = context(random);
        for _ in 0..20 {
            let wanted = Wanted::random(random, table);
            let predicate = wanted.predicate(random, table);
            let order = random.pick(&[Order::NewestFirst, Order::OldestFirst]);
            let limit = random.pick(&[0, 1, 2, 30, 400, usize::MAX]);
            let mut expected: Vec<&Row> = table.matching(&predicate).collect();
            expected.sort_by_key(|row| row.key());
            let mut keys = rows_that_match(&table.view, &predicate, usize::MAX, &context).unwrap();
            if let Some(fewer) = keys.len().checked_sub(1) {
                assert!(rows_that_match(&table.view, &predicate, fewer, &context).is_err());
            }
            keys.sort_unstable();
            let expected_keys =
                expected.iter().map(|row| RowKey { ts: row.event.ts_ns, sequence: row.sequence });
            assert_eq!(keys, expected_keys.collect::<Vec<_>>(), "{predicate:?}");
            if order == Order::NewestFirst {
                expected.reverse();
            }
            expected.truncate(limit);

            let mut found = Vec::new();
            let mut each = |row: &RowView<'_>| read(row).map(|row| found.push(row));
            recent(&table.view, &predicate, Stretch::first(limit, order), &context, &mut each).unwrap();
            assert_same(&found, &expected, &format!("{order:?}, at most {limit}, {predicate:?}"));
        }
    });
}

#[test]
fn an_error_of_the_caller_ends_the_walk() {
    on_tables(10, |random, table| {
        let context = context(random);
        let mut seen = 0;
        let mut each = |_: &RowView<'_>| {
            seen += 1;
            Err(crate::error::DbError::invalid("each", "enough"))
        };
        let ended = recent(
            &table.view,
            &Predicate::all(),
            Stretch::first(usize::MAX, Order::NewestFirst),
            &context,
            &mut each,
        );
        assert_eq!(ended.is_err(), table.live().next().is_some());
        assert_eq!(seen, usize::from(ended.is_err()));
    });
}

#[test]
fn an_id_names_its_newest_live_row_and_all_of_them() {
    on_tables(100, |random, table| {
        let context = context(random);
        for _ in 0..30 {
            let id = match random.below::<usize>(6) {
                0 => String::new(),
                1 => "nobody".to_owned(),
                _ if table.rows.is_empty() => "id1".to_owned(),
                _ => table.rows[random.below::<usize>(table.rows.len())].event.id.clone(),
            };
            let mut expected: Vec<&Row> =
                table.live().filter(|row| !id.is_empty() && row.event.id == id).collect();
            expected.sort_by_key(|row| row.key());

            let mut found = Vec::new();
            let mut each = |row: &RowView<'_>| read(row).map(|row| found.push(row));
            let any = newest_of_id(&table.view, &id, &context, &mut each).unwrap();
            assert_eq!(any, !expected.is_empty(), "{id}");
            assert_same(&found, expected.last().map_or(&[], std::slice::from_ref), &id);

            let mut keys = rows_of_id(&table.view, &id, &context).unwrap();
            keys.sort_unstable();
            let expected = expected.iter().map(|row| RowKey { ts: row.event.ts_ns, sequence: row.sequence });
            assert_eq!(keys, expected.collect::<Vec<_>>(), "{id}");
        }
    });
}

#[test]
fn a_key_is_found_in_the_segment_that_has_it_and_nowhere_else() {
    on_tables(60, |random, table| {
        for entry in table.view.segments() {
            let open = entry.segment.read().unwrap();
            let (time, sequences) = (open.time().unwrap(), open.sequence().unwrap());
            let key = |row: u32| (time.get(row as usize), sequences.get(row as usize) as u64);
            for row in (0..entry.segment.header().rows).filter(|_| random.one_in(4)) {
                let (ts, sequence) = key(row);
                assert_eq!(find_row(&open, ts, sequence).unwrap(), Some(row));
            }
            for row in table.rows.iter().filter(|_| random.one_in(4)) {
                let found = find_row(&open, row.event.ts_ns, row.sequence).unwrap();
                assert!(found.is_none_or(|found| key(found) == row.key()));
                assert_eq!(find_row(&open, row.event.ts_ns, 0).unwrap(), None);
            }
        }
    });
}

#[test]
fn rollups_are_the_sums_of_the_live_rows_of_each_day() {
    on_tables(100, |random, table| {
        let context = context(random);
        for _ in 0..12 {
            let wanted: Vec<Option<String>> = table.rollup_dims
                [..random.below::<usize>(table.rollup_dims.len() + 1)]
                .iter()
                .map(|dim| random.one_in(2).then(|| table.some_value(random, *dim)))
                .collect();
            let wanted: Vec<Option<&str>> = wanted.iter().map(Option::as_deref).collect();
            let mut days = [day_of(table.some_time(random)), day_of(table.some_time(random))];
            days.sort_unstable();
            let [from_day, to_day] = match random.below::<usize>(5) {
                0 => [i64::MIN, i64::MAX],
                1 => [days[0].saturating_add(1), days[1].saturating_sub(1)],
                2 => [days[1], days[0]],
                3 => [days[0], days[0]],
                _ => days,
            };
            let found =
                rollups(&table.view, from_day, to_day, &table.rollup_dims, &wanted, &context).unwrap();
            assert_eq!(
                found,
                rollups_plainly(table, from_day, to_day, &wanted),
                "{from_day}..={to_day} {wanted:?}"
            );
        }
    });
}

fn rollups_plainly(table: &Table, from_day: i64, to_day: i64, wanted: &[Option<&str>]) -> Vec<RollupRow> {
    let mut sums = BTreeMap::new();
    for row in table.live() {
        let event = &row.event;
        let day = day_of(event.ts_ns);
        let dims: Vec<String> = table.rollup_dims.iter().map(|dim| event.dims[*dim].clone()).collect();
        let is_wanted =
            dims.iter().zip(wanted).all(|(value, wanted)| wanted.is_none_or(|wanted| wanted == value));
        if is_wanted && from_day <= day && day <= to_day {
            let new =
                || RollupRow { day, dims: dims.clone(), count: 0, metric: 0, counters: vec![0; COUNTERS] };
            let sum = sums.entry((day, dims.clone())).or_insert_with(new);
            sum.count += 1;
            sum.metric += i128::from(event.metric);
            sum.counters.iter_mut().zip(event.counters).for_each(|(sum, counter)| *sum += u64::from(counter));
        }
    }
    sums.into_values().collect()
}

#[test]
fn rollups_of_one_day_are_those_between_its_midnights() {
    let table =
        (0..100).map(|seed| Table::random(&mut Random(seed))).find(|table| table.rows.len() > 1000).unwrap();
    let context = context(&mut Random(1));
    let all = rollups(&table.view, i64::MIN, i64::MAX, &[0], &[], &context).unwrap();
    let days: BTreeSet<i64> = all.iter().map(|row| row.day).collect();
    let by_day = days.iter().flat_map(|day| rollups(&table.view, *day, *day, &[0], &[], &context).unwrap());
    assert_eq!(by_day.collect::<Vec<_>>(), all);
    assert!(days.iter().all(|day| day % DAY_S == 0));
}
