//! Columns of many rows against the rows themselves: random columns, sizes of batches, orders and limits.

use std::cell::Cell;

use super::*;
use crate::expr::KeyColumn;
use crate::read::batch::{BATCH_TEXT_BYTES, ColumnBatch, ColumnValues};
use crate::read::gather::{Gather, GatheredColumn, gather, gather_part, parts};

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Int(i64),
    Text(String),
}

/// Every column of the table.
fn all_columns() -> Vec<GatheredColumn> {
    let numbers = [
        NumberColumn::Time,
        NumberColumn::Sequence,
        NumberColumn::Metric,
        NumberColumn::Latency,
        NumberColumn::LatencyDetail,
        NumberColumn::Flags,
    ];
    let counters = (0..COUNTERS).map(NumberColumn::Counter);
    let keys = (0..DIMS).map(KeyColumn::Dim).chain([KeyColumn::Status]);
    let texts = (0..LABELS).map(TextColumn::Label).chain([TextColumn::Id]);
    numbers
        .into_iter()
        .chain(counters)
        .map(GatheredColumn::Number)
        .chain(keys.map(GatheredColumn::Key))
        .chain(texts.map(GatheredColumn::Text))
        .collect()
}

/// Some of them, in any order, one maybe twice; often all.
fn some_columns(random: &mut Random) -> Vec<GatheredColumn> {
    let all = all_columns();
    match random.below::<usize>(4) {
        0 => all,
        _ => (0..random.below::<usize>(6)).map(|_| random.pick(&all)).collect(),
    }
}

fn value_of(row: &Row, column: GatheredColumn) -> Value {
    let event = &row.event;
    match column {
        GatheredColumn::Number(column) => Value::Int(match column {
            NumberColumn::Time => event.ts_ns,
            NumberColumn::Sequence => row.sequence as i64,
            NumberColumn::Metric => event.metric,
            NumberColumn::Latency => event.latency_ms.into(),
            NumberColumn::LatencyDetail => event.latency_detail_ms.into(),
            NumberColumn::Flags => event.flags.0.into(),
            NumberColumn::Counter(counter) => event.counters[counter].into(),
        }),
        GatheredColumn::Key(KeyColumn::Status) => Value::Int(event.status.into()),
        GatheredColumn::Key(KeyColumn::Dim(dim)) => Value::Text(event.dims[dim].clone()),
        GatheredColumn::Text(TextColumn::Id) => Value::Text(event.id.clone()),
        GatheredColumn::Text(TextColumn::Label(label)) => Value::Text(event.labels[label].clone()),
    }
}

fn values_of(rows: &[&Row], columns: &[GatheredColumn]) -> Vec<Vec<Value>> {
    rows.iter().map(|row| columns.iter().map(|column| value_of(row, *column)).collect()).collect()
}

/// What the batches of many tables had, so that a test knows what it has tested.
#[derive(Debug, Default)]
struct Seen {
    keys: Cell<usize>,
    texts_of_dims: Cell<usize>,
    full_of_rows: Cell<usize>,
    full_of_texts: Cell<usize>,
    mixed: Cell<usize>,
}

fn more(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// Rows of batches, and what must hold of each batch.
struct Collected<'t> {
    columns: &'t [GatheredColumn],
    batch_rows: usize,
    seen: &'t Seen,
    rows: Vec<Vec<Value>>,
    /// Whether the last batch was not full.
    is_short: bool,
}

impl<'t> Collected<'t> {
    fn new(columns: &'t [GatheredColumn], batch_rows: usize, seen: &'t Seen) -> Self {
        Self { columns, batch_rows, seen, rows: Vec::new(), is_short: false }
    }

    fn add(&mut self, batch: &ColumnBatch) {
        assert!(!self.is_short, "a batch follows one that was not full");
        assert!((1..=self.batch_rows).contains(&batch.rows) && batch.columns.len() == self.columns.len());
        let (mut is_full_of_texts, mut has_keys, mut has_no_keys, mut most_values) = (false, false, false, 0);
        for (column, values) in self.columns.iter().zip(&batch.columns) {
            assert_eq!(values.len(), batch.rows, "{column:?}");
            match (column, values) {
                (
                    GatheredColumn::Number(_) | GatheredColumn::Key(KeyColumn::Status),
                    ColumnValues::Ints(_),
                ) => {}
                (GatheredColumn::Key(KeyColumn::Dim(_)), ColumnValues::Keys { values, .. }) => {
                    has_keys = true;
                    most_values = values.len().max(most_values);
                    assert!(values.texts().as_parts().0.len() < BATCH_TEXT_BYTES);
                    let texts: Vec<&str> = values.texts().iter().collect();
                    assert!(texts.is_sorted_by(|a, b| a < b));
                }
                (
                    GatheredColumn::Key(KeyColumn::Dim(_)) | GatheredColumn::Text(_),
                    ColumnValues::Texts(texts),
                ) => {
                    let (text, ends) = texts.as_parts();
                    is_full_of_texts |= text.len() >= BATCH_TEXT_BYTES;
                    let last = texts.get(texts.len() - 1).len();
                    assert!(text.len() < BATCH_TEXT_BYTES + last, "{} bytes of texts", text.len());
                    assert_eq!(ends.last().map(|end| *end as usize), Some(text.len()));
                    if matches!(column, GatheredColumn::Key(_)) {
                        has_no_keys = true;
                    }
                }
                (column, values) => panic!("{column:?} came as {values:?}"),
            }
        }
        assert!(most_values <= batch.rows || is_full_of_texts, "{most_values} values of {} rows", batch.rows);
        [
            (has_keys, &self.seen.keys),
            (has_no_keys, &self.seen.texts_of_dims),
            (has_keys && has_no_keys, &self.seen.mixed),
            (is_full_of_texts, &self.seen.full_of_texts),
            (batch.rows == self.batch_rows && batch.rows > 1, &self.seen.full_of_rows),
        ]
        .into_iter()
        .filter(|(is_seen, _)| *is_seen)
        .for_each(|(_, count)| more(count));
        // A batch of dims with long texts may end before a segment whose texts cannot be joined to its keys.
        self.is_short = batch.rows < self.batch_rows && !is_full_of_texts && !has_keys;
        self.rows.extend((0..batch.rows).map(|row| {
            let value = |values: &ColumnValues| match values {
                ColumnValues::Ints(values) => Value::Int(values[row]),
                ColumnValues::Keys { codes, values } => {
                    assert!((codes[row] as usize) < values.len());
                    Value::Text(values.get(codes[row]).to_owned())
                }
                ColumnValues::Texts(texts) => Value::Text(texts.get(row).to_owned()),
            };
            batch.columns.iter().map(value).collect()
        }));
    }
}

const BATCH_ROWS: [usize; 8] = [1, 2, 7, 63, 256, 1000, 8192, usize::MAX];

/// All rows, or those below some row's sequence.
fn some_below(random: &mut Random, table: &Table) -> u64 {
    match table.rows.get(random.below::<usize>(4 * table.rows.len() + 1)) {
        Some(row) => row.sequence,
        None => u64::MAX,
    }
}

#[test]
fn columns_are_those_of_the_rows_in_their_order() {
    let seen = Seen::default();
    on_tables(150, |random, table| {
        let context = context(random);
        for _ in 0..20 {
            let wanted = Wanted::random(random, table);
            let mut predicate = wanted.predicate(random, table);
            if random.one_in(3) {
                predicate = Predicate::all();
            }
            predicate.by_scan = random.one_in(4);
            let columns = some_columns(random);
            let batch_rows = random.pick(&BATCH_ROWS);
            let what = Gather::new(&columns, batch_rows).unwrap();
            let stretch = Stretch {
                below: some_below(random, table),
                ..Stretch::first(
                    random.pick(&[0, 1, 2, 30, 400, usize::MAX]),
                    random.pick(&[Order::NewestFirst, Order::OldestFirst]),
                )
            };
            let mut rows: Vec<&Row> =
                table.matching(&predicate).filter(|row| row.sequence < stretch.below).collect();
            rows.sort_by_key(|row| row.key());
            if stretch.order == Order::NewestFirst {
                rows.reverse();
            }
            rows.truncate(stretch.limit);

            let mut collected = Collected::new(&columns, batch_rows, &seen);
            let mut each = |batch: ColumnBatch| {
                collected.add(&batch);
                Ok(())
            };
            gather(&table.view, &predicate, stretch, what, &context, &mut each).unwrap();
            assert!(collected.rows == values_of(&rows, &columns), "{what:?}, {stretch:?}, {predicate:?}");
        }
    });
    let kinds = [&seen.keys, &seen.texts_of_dims, &seen.full_of_rows, &seen.full_of_texts, &seen.mixed];
    assert!(kinds.iter().all(|seen| seen.get() > 20), "{seen:?}");
}

#[test]
fn the_parts_of_a_view_have_each_of_its_rows_once() {
    let seen = Seen::default();
    on_tables(150, |random, table| {
        let context = context(random);
        for _ in 0..8 {
            let wanted = Wanted::random(random, table);
            let mut predicate = wanted.predicate(random, table);
            if random.one_in(3) {
                predicate = Predicate::all();
            }
            let mut columns = some_columns(random);
            // By its time and its sequence each row is known.
            columns.splice(0..0, [NumberColumn::Time, NumberColumn::Sequence].map(GatheredColumn::Number));
            let batch_rows = random.pick(&BATCH_ROWS);
            let what = Gather::new(&columns, batch_rows).unwrap();
            let limit = random.pick(&[0, 1, 300, usize::MAX, usize::MAX]);
            let matching: Vec<&Row> = table.matching(&predicate).collect();
            let mut expected = values_of(&matching, &columns);
            expected.sort_unstable();

            let mut found = Vec::new();
            for part in 0..parts(&table.view) {
                let mut collected = Collected::new(&columns, batch_rows, &seen);
                let mut each = |batch: ColumnBatch| {
                    collected.add(&batch);
                    Ok(())
                };
                gather_part(&table.view, part, &predicate, limit, what, &context, &mut each).unwrap();
                let is_segment = part < table.view.segments().len();
                assert!(!is_segment || collected.rows.is_sorted_by(|a, b| a[..2] < b[..2]));
                assert!(collected.rows.len() <= limit);
                found.extend(collected.rows);
            }
            found.sort_unstable();
            let is_one_of = |row: &Vec<Value>| expected.binary_search(row).is_ok();
            assert!(
                found.is_sorted_by(|a, b| a < b) && found.iter().all(is_one_of),
                "{what:?}, {predicate:?}"
            );
            let is_all = found.len() == expected.len();
            assert!(is_all || found.len() >= limit, "{what:?}, at most {limit}, {predicate:?}");
        }
        let past_the_last = gather_part(
            &table.view,
            parts(&table.view),
            &Predicate::all(),
            1,
            Gather::new(&[], 1).unwrap(),
            &context,
            &mut |_| Ok(()),
        );
        assert!(past_the_last.is_err());
    });
    assert!(seen.keys.get() > 20 && seen.texts_of_dims.get() > 20, "{seen:?}");
}

#[test]
fn an_error_of_the_caller_ends_the_batches() {
    on_tables(20, |random, table| {
        let context = context(random);
        let columns = all_columns();
        let what = Gather::new(&columns, 5).unwrap();
        let stretch = Stretch::first(usize::MAX, Order::OldestFirst);
        let mut given = 0;
        let mut each = |_: ColumnBatch| {
            given += 1;
            Err(crate::error::DbError::invalid("each", "enough"))
        };
        let ended = gather(&table.view, &Predicate::all(), stretch, what, &context, &mut each);
        assert_eq!(ended.is_err(), table.live().next().is_some());
        assert_eq!(given, usize::from(ended.is_err()));
    });
}
