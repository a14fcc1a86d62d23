//! The lake against the log: whatever comes in, however it is cut, and wherever it is stopped, the files that readers see have the rows
//! that the slow way makes: all events, the fold of each entity, its `versions`, and of both the fields that a schema has.

#![allow(clippy::disallowed_methods, reason = "a test copies and damages files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant as Moment};

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use keplordb::{Filter, Options, Store};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::files::{Files, Stop};
use super::manifest::{DIRS, Manifest, Sum, Table, numbers};
use super::parquet::Rows;
use super::publication::second_name;
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use super::source::refusal;
use super::{Lake, LakeOptions, LakeState};
use crate::entity::fold;
use crate::error::ServerError;
use crate::log::EntityLog;
use crate::record::Event;
use crate::schema::Schemas;
use crate::{Instant, versions};

/// An event as it is drawn: type, id, operation, time, how long after the one before it came in, what it sets, the source's counter.
pub(super) type Drawn = (u8, u8, u8, i64, i64, u8, Option<u64>);

pub(super) fn drawn() -> impl Strategy<Value = Drawn> {
    (0..2_u8, 0..5_u8, 0..4_u8, 0..12_i64, 0..3_i64, 0..12_u8, option::of(0..3_u64))
}

/// Appends events to a log; `received_ms` is when the last one came in.
pub(super) fn append(store: &Store<Event>, events: &[Drawn], received_ms: &mut i64) {
    let builders: Vec<_> = events
        .iter()
        .map(|&(entity_type, id, operation, time_ms, pause_ms, field, source_version)| {
            *received_ms += pause_ms;
            let value = match field {
                0..4 => json!(field),
                4..6 => json!(0.1 + f64::from(field) / 3.0),
                6..8 => json!({"x": field, "y": null}),
                8..10 => Value::Null,
                10 => json!(["é", field]),
                _ => json!("é"),
            };
            let mut envelope = json!({"metadata": {"k": "v"}, "updated_at_ms": time_ms});
            if let Some(source_version) = source_version {
                envelope["source_version"] = source_version.into();
            }
            Event::new(time_ms * 1_000_000)
                .metric(*received_ms * 1_000_000)
                .status([1, 2, 2, 3][usize::from(operation)])
                .entity_type(["User", "Order"][usize::from(entity_type)])
                .entity_id(format!("id {id}"))
                .payload(json!({format!("f{}", field % 3): value}).to_string())
                .envelope(envelope.to_string())
        })
        .collect();
    if !builders.is_empty() {
        store.append_batch_durable(builders).unwrap();
    }
}

/// The rows that readers of a published table see.
fn published<R: Row>(root: &Path) -> Vec<R> {
    let dir = root.join(R::TABLE.name());
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file: Vec<R> = Rows::open(&entry.unwrap().path()).unwrap().map(Result::unwrap).collect();
        assert!(file.is_sorted_by(|a, b| a.compare(b).is_le()));
        rows.extend(file);
    }
    rows.sort_by(Row::compare);
    rows
}

/// All rows of the three tables, made the slow way.
pub(super) fn naive(store: &Arc<Store<Event>>) -> (Vec<EventRow>, Vec<CurrentRow>, Vec<VersionRow>) {
    let log = EntityLog::own(Arc::clone(store));
    let mut events: Vec<EventRow> =
        store.query(Filter::all()).rows().unwrap().iter().map(|row| EventRow::of_log(row).unwrap()).collect();
    events.sort_by(Row::compare);
    let entities: BTreeSet<_> =
        events.iter().map(|event| (event.entity_type.clone(), event.entity_id.clone())).collect();
    let (mut current, mut all_versions) = (Vec::new(), Vec::new());
    for (entity_type, entity_id) in entities {
        let history = log.history(&entity_type, &entity_id, Instant::default()).unwrap();
        let by_sequence = |sequence| events.iter().find(|event| event.sequence == sequence).unwrap();
        all_versions.extend(
            versions(history.clone())
                .into_iter()
                .map(|version| VersionRow::of(by_sequence(version.sequence), version)),
        );
        let folded = fold(&history);
        let (Some(state), Some(last)) = (folded.state(), history.last()) else { continue };
        // It began behind its last delete.
        let deleted = history.iter().rposition(|event| event.operation == crate::Operation::Delete);
        let first = &history[deleted.map_or(0, |at| at + 1)];
        current.push(CurrentRow {
            entity_type,
            entity_id,
            state: Value::Object(state.clone()).to_string(),
            version: folded.version(),
            created_at_ms: first.event_time_ms,
            updated_at_ms: last.event_time_ms,
            received_at_ms: last.received_at_ms,
            first_sequence: first.sequence,
            last_sequence: last.sequence,
            schema_version: 0,
        });
    }
    all_versions.sort_by(Row::compare);
    (events, current, all_versions)
}

fn assert_published(root: &Path, store: &Arc<Store<Event>>) {
    let (events, current, versions) = naive(store);
    assert_eq!(published::<EventRow>(root), events);
    assert_eq!(published::<CurrentRow>(root), current);
    assert_eq!(published::<VersionRow>(root), versions);
}

/// Of no schema, of one, and of a later one.
static SCHEMAS: LazyLock<[Schemas; 3]> = LazyLock::new(|| {
    const VERSIONS: [&str; 2] = [
        "message User { int32 f0 = 1; repeated string f1 = 4; map<string, int64> f2 = 3; }
        message Order { string f0 = 1; Inner f1 = 2; uint64 f2 = 3; message Inner { int32 x = 1; string y = 2; } }",
        "message User { int32 f0 = 1; repeated string f1 = 4; double f3 = 7; string id = 5; string _op = 6; }
        message Order { string f0 = 1; Inner f1 = 2; uint64 f2 = 3; message Inner { int32 x = 1; string y = 2; } }
        message Orders { string f0 = 1; }",
    ];
    let schemas = |versions: usize| {
        let dir = tempfile::tempdir().unwrap();
        let mut schemas = Schemas::default();
        for messages in &VERSIONS[..versions] {
            let text = format!("syntax = \"proto3\"; package reflog.v1; {messages}");
            schemas.push(dir.path(), Path::new("custom.proto"), &text).unwrap();
        }
        schemas
    };
    [schemas(0), schemas(1), schemas(2)]
});

/// The types of each of them, with their directories and their columns: field, number, kind.
type Described = (&'static str, &'static str, &'static [(&'static str, i32, &'static str)]);
const DESCRIBED: [&[Described]; 3] = [
    &[],
    &[
        ("Order", "orders", &[("f0", 1, "text"), ("f1", 2, "inner"), ("f2", 3, "unsigned")]),
        ("User", "users", &[("f0", 1, "int32"), ("f2", 3, "map"), ("f1", 4, "texts")]),
    ],
    &[
        ("Order", "orders", &[("f0", 1, "text"), ("f1", 2, "inner"), ("f2", 3, "unsigned")]),
        ("Orders", "orderses", &[("f0", 1, "text")]),
        ("User", "users", &[("f0", 1, "int32"), ("f1", 4, "texts"), ("f3", 7, "double")]),
    ],
];

/// What a column of a kind has of the value of a field.
fn naive_value(kind: &str, value: &Value) -> Value {
    let fits = |fits: bool| if fits { value.clone() } else { Value::Null };
    match kind {
        "int32" => fits(value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())),
        "int64" => fits(value.is_i64()),
        // As text, which holds all of them.
        "unsigned" => value.as_u64().map_or(Value::Null, |number| number.to_string().into()),
        "double" => value.as_f64().map_or(Value::Null, Value::from),
        "text" => fits(value.is_string()),
        "texts" => match value.as_array() {
            Some(values) => values.iter().map(|value| naive_value("text", value)).collect(),
            None => Value::Null,
        },
        "map" => match value.as_object() {
            Some(members) => {
                members.iter().map(|(key, value)| json!([key, naive_value("int64", value)])).collect()
            }
            None => Value::Null,
        },
        "inner" if value.is_object() => {
            json!({"x": naive_value("int32", &value["x"]), "y": naive_value("text", &value["y"])})
        }
        "inner" => Value::Null,
        kind => panic!("{kind}"),
    }
}

/// A value of a column, as [`naive_value`] makes it.
fn value_of(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Decimal128(20, 0) => column.as_primitive::<Decimal128Type>().value(row).to_string().into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(..) => {
            json!({"ms": column.as_primitive::<TimestampMicrosecondType>().value(row) / 1000})
        }
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            (0..values.len()).map(|row| value_of(&values, row)).collect()
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let pair = |row| json!([value_of(entries.column(0), row), value_of(entries.column(1), row)]);
            (0..entries.len()).map(pair).collect()
        }
        DataType::Struct(_) => {
            let column = column.as_struct();
            let names = column.column_names().into_iter();
            let values = column.columns().iter().map(|column| value_of(column, row));
            Value::Object(names.map(str::to_owned).zip(values).collect())
        }
        other => panic!("{other}"),
    }
}

/// The rows of a typed table's files, in the order of their texts.
fn typed_rows(dir: &Path) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file = fs::File::open(entry.unwrap().path()).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch: RecordBatch = batch.unwrap();
            let row = |row| {
                let fields = batch.schema_ref().fields().iter().zip(batch.columns());
                fields.map(|(field, column)| (field.name().clone(), value_of(column, row))).collect()
            };
            rows.extend((0..batch.num_rows()).map(|at| Value::Object(row(at))));
        }
    }
    rows.sort_by_key(Value::to_string);
    rows
}

/// Makes a typed row of one of `_current` or `_versions`.
fn naive_typed(
    columns: &[(&str, i32, &str)],
    (id, state): (&str, Option<&String>),
    own: impl IntoIterator<Item = (&'static str, Value)>,
) -> Value {
    let state: Value = state.map_or(Value::Null, |state| serde_json::from_str(state).unwrap());
    let mut row: Map<String, Value> = columns
        .iter()
        .map(|(name, _, kind)| ((*name).to_owned(), naive_value(kind, &state[*name])))
        .collect();
    row.insert("id".to_owned(), id.into());
    row.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(row)
}

/// Whether the typed tables have what the rows of the others say by the schema with a number.
fn assert_typed(root: &Path, store: &Arc<Store<Event>>, schema: usize) {
    let described = DESCRIBED[schema];
    let directories: Vec<&str> = described.iter().map(|(_, directory, _)| *directory).collect();
    assert_eq!(super::files::list(&root.join("tables")).unwrap(), directories);
    let (_, current, versions) = naive(store);
    let ms = |ms: i64| json!({ "ms": ms });
    let optional_ms = |at: Option<i64>| at.map_or(Value::Null, ms);
    for (entity_type, directory, columns) in described {
        let dir = root.join("tables").join(directory);
        let mut wanted: Vec<Value> = current
            .iter()
            .filter(|row| row.entity_type == *entity_type)
            .map(|row| {
                let own = [
                    ("_version", row.version.into()),
                    ("_updated_at", ms(row.updated_at_ms)),
                    ("_seq", row.last_sequence.into()),
                ];
                naive_typed(columns, (row.entity_id.as_str(), Some(&row.state)), own)
            })
            .collect();
        wanted.sort_by_key(Value::to_string);
        assert_eq!(typed_rows(&dir.join("current")), wanted, "{directory}");
        let mut wanted: Vec<Value> = versions
            .iter()
            .filter(|row| row.entity_type == *entity_type)
            .map(|row| {
                let own = [
                    ("_version", row.version.into()),
                    ("_op", row.operation.as_str().into()),
                    ("_valid_from", ms(row.valid_from_ms)),
                    ("_valid_to", optional_ms(row.valid_to_ms)),
                    ("_known_from", ms(row.known_from_ms)),
                    ("_known_to", optional_ms(row.known_to_ms)),
                    ("_seq", row.sequence.into()),
                ];
                naive_typed(columns, (row.entity_id.as_str(), row.state.as_ref()), own)
            })
            .collect();
        wanted.sort_by_key(Value::to_string);
        assert_eq!(typed_rows(&dir.join("versions")), wanted, "{directory}");
        assert_columns(&dir, columns);
    }
}

/// Whether all files of a table, of which there is one at least, have the columns of the fields and their own, and the fields' numbers.
fn assert_columns(dir: &Path, columns: &[(&str, i32, &str)]) {
    let own: [(&str, &[&str]); 2] = [
        ("current", &["_version", "_updated_at", "_seq"]),
        ("versions", &["_version", "_op", "_valid_from", "_valid_to", "_known_from", "_known_to", "_seq"]),
    ];
    for (part, own) in own {
        let names = super::files::list(&dir.join(part)).unwrap();
        assert!(!names.is_empty());
        for name in names {
            let file = SerializedFileReader::new(fs::File::open(dir.join(part).join(name)).unwrap()).unwrap();
            let schema = file.metadata().file_metadata().schema_descr();
            let fields = schema.root_schema().get_fields();
            let number = |field: &parquet::schema::types::Type| {
                let basic = field.get_basic_info();
                basic.has_id().then(|| basic.id())
            };
            let found: Vec<_> = fields.iter().map(|field| (field.name(), number(field))).collect();
            let of_fields = columns.iter().map(|(name, number, _)| (*name, Some(*number)));
            let of_own = own.iter().map(|name| (*name, None));
            let wanted: Vec<_> = std::iter::once(("id", None)).chain(of_fields).chain(of_own).collect();
            assert_eq!(found, wanted);
        }
    }
}

/// The sums of all tables, by the names by which they are published.
fn sums(lake: &Lake) -> Vec<(String, Sum)> {
    let places = lake.manifest.tables.places();
    places.into_iter().map(|place| (place.name, place.files.iter().map(|file| file.row_hash).sum())).collect()
}

fn lose_all_derived(root: &Path) {
    for name in Table::ALL.map(Table::name).into_iter().chain(["tables"]) {
        let link = root.join(name);
        if link.is_symlink() {
            fs::remove_file(link).unwrap();
        }
    }
    fs::remove_file(root.join(".live")).unwrap();
    for dir in ["lake", ".gen", "_meta"] {
        fs::remove_dir_all(root.join(dir)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_files_have_the_rows_that_the_log_makes(
        events in vec(drawn(), 0..70),
        cuts in vec((0..25_usize, any::<bool>(), any::<bool>(), any::<bool>()), 1..6),
        (chunk_events, merge_files, bucket_bytes_max) in (1..30_usize, 2..4_usize, prop_oneof![Just(1_u64), Just(1 << 20)]),
        file_bytes_max in prop_oneof![Just(1_u64), Just(20_000), Just(1 << 20)],
        chunk_bytes in prop_oneof![Just(2_000_usize), Just(1 << 20)],
    ) {
        let options = LakeOptions::default()
            .with_chunk_events(chunk_events)
            .with_chunk_bytes(chunk_bytes)
            .with_merge_files(merge_files)
            .with_bucket_bytes_max(bucket_bytes_max)
            .with_file_bytes_max(file_bytes_max)
            .with_grace(Duration::ZERO);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
        let mut schema = 0;
        let mut lake = Lake::open(root, options.clone()).unwrap();
        let mut events = events.as_slice();
        let mut received_ms = 0;
        for (rows, reopens, compacts, pushes) in cuts.into_iter().chain([(usize::MAX, false, true, false)]) {
            let (now, later) = events.split_at(rows.min(events.len()));
            append(&store, now, &mut received_ms);
            events = later;
            if reopens {
                lake = Lake::open(root, options.clone()).unwrap();
            }
            // Of a new schema also where no events came.
            schema = (schema + usize::from(pushes)).min(SCHEMAS.len() - 1);
            lake.publish(&store, &SCHEMAS[schema]).unwrap();
            assert_published(root, &store);
            assert_typed(root, &store, schema);
            if compacts {
                let before = sums(&lake);
                lake.compact().unwrap();
                prop_assert_eq!(sums(&lake), before);
                assert_published(root, &store);
                assert_typed(root, &store, schema);
            }
        }
        let schemas = &SCHEMAS[schema];
        prop_assert!(lake.publish(&store, schemas).unwrap().is_none());
        let check = lake.check(&store).unwrap();
        prop_assert!(check.is_sound(), "{:?}", check);

        let other = tempfile::tempdir().unwrap();
        let mut replayed = Lake::open(other.path(), LakeOptions::default()).unwrap();
        replayed.replay(&store, schemas).unwrap();
        prop_assert_eq!(sums(&replayed), sums(&lake));

        let before = sums(&lake);
        drop(lake);
        lose_all_derived(root);
        let mut lake = Lake::open(root, options).unwrap();
        lake.replay(&store, schemas).unwrap();
        prop_assert_eq!(sums(&lake), before);
        assert_published(root, &store);
        assert_typed(root, &store, schema);
    }
}

/// Some events of each kind: late ones, ties, deletes, several types.
#[expect(clippy::cast_possible_truncation, reason = "what is drawn is small")]
fn some(count: usize, seed: u64) -> Vec<Drawn> {
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..count)
        .map(|_| {
            let source_version = draw(4);
            (
                draw(2) as u8,
                draw(5) as u8,
                draw(4) as u8,
                draw(12) as i64,
                draw(3) as i64,
                draw(12) as u8,
                (source_version < 3).then_some(source_version),
            )
        })
        .collect()
}

/// Which names there are but for those of the one manifest, after all that is not needed was removed.
fn assert_no_orphans(lake: &Lake) {
    let root = &lake.root.path;
    let n = lake.manifest.n;
    let generation = root.join(".gen").join(n.to_string());
    let mut of_dirs = BTreeMap::from(DIRS.map(|dir| (dir, Vec::new())));
    for place in lake.manifest.tables.places() {
        let mut named: Vec<String> = place.files.iter().map(|file| file.path.clone()).collect();
        named.sort();
        let linked = place.linked.unwrap_or(n);
        let second: Vec<String> = named.iter().map(|name| second_name(linked, name)).collect();
        assert_eq!(super::files::list(&generation.join(place.name)).unwrap(), second);
        of_dirs.get_mut(place.dir).unwrap().extend(named);
    }
    for (dir, mut named) in of_dirs {
        named.sort();
        assert_eq!(super::files::list(&root.join("lake").join(dir)).unwrap(), named);
    }
    let typed = lake.manifest.tables.typed.values();
    let mut named: Vec<String> =
        typed.map(|table| format!("typed-{}-{}", table.linked, table.name)).collect();
    named.push(n.to_string());
    named.sort();
    assert_eq!(super::files::list(&root.join(".gen")).unwrap(), named);
    assert_eq!(super::files::list(&root.join("_meta")).unwrap(), [format!("manifest-{n}.json")]);
    let mut wanted = vec![".gen", ".live", "_current", "_events", "_meta", "_versions", "lake"];
    if !lake.manifest.tables.typed.is_empty() {
        wanted.push("tables");
    }
    assert_eq!(super::files::list(root).unwrap(), wanted);
}

#[test]
fn wherever_a_publication_stops_nothing_is_lost_or_seen_in_parts() {
    let options = LakeOptions::default()
        .with_chunk_events(9)
        .with_merge_files(2)
        .with_bucket_bytes_max(1)
        .with_grace(Duration::ZERO);
    let stride = match std::env::var("KEPLORDB_LAKE_STRIDE") {
        Ok(stride) => stride.parse().unwrap(),
        Err(_) => 6,
    };
    let actions: [fn(&mut Lake, &Store<Event>) -> bool; 3] = [
        |lake, store| lake.publish(store, &SCHEMAS[2]).is_ok(),
        |lake, _| lake.compact().is_ok(),
        |lake, store| lake.replay(store, &SCHEMAS[2]).is_ok(),
    ];
    for (action, act) in actions.into_iter().enumerate() {
        let base = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::<Event>::open(base.path().join("segments")).unwrap());
        let mut lake = Lake::open(base.path(), options.clone()).unwrap();
        let mut received_ms = 0;
        for part in some(6, 7).chunks(3) {
            append(&store, part, &mut received_ms);
            lake.publish(&store, &SCHEMAS[1]).unwrap();
        }
        let typed = |root: &Path| {
            let parts = ["users/current", "users/versions", "orders/current", "orders/versions"];
            parts.map(|part| typed_rows(&root.join("tables").join(part)))
        };
        let before = (published::<EventRow>(base.path()), typed(base.path()));
        if action != 1 {
            append(&store, &some(10, 8), &mut received_ms);
        }
        let mut stopped = 0;
        // Each remainder is met by one of the actions or the other by hand: with a stride of 1 all are.
        for operations in (action..).step_by(stride) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            for part in ["lake/events", "lake/current", "lake/versions", "lake/typed", "_meta"] {
                fs::create_dir_all(root.join(part)).unwrap();
                for name in super::files::list(&base.path().join(part)).unwrap() {
                    fs::copy(base.path().join(part).join(&name), root.join(part).join(&name)).unwrap();
                }
            }
            let stop = Stop::default();
            let mut lake = Lake::open_with(root, options.clone(), Files { stop: stop.clone() }).unwrap();
            stop.after(Some(operations));
            let is_done = act(&mut lake, &store);
            if !stop.has_stopped() {
                assert!(is_done && operations > 20, "{action} {operations}");
                break;
            }
            stopped += 1;
            // Readers see what was, or what is, in all tables.
            if (published::<EventRow>(root), typed(root)) != before {
                assert_published(root, &store);
                // Events come first, by the columns that were.
                let is_made = root.join("tables/orderses").is_dir();
                assert_typed(root, &store, if is_made { 2 } else { 1 });
            }
            if operations % 2 == 0 {
                // The one that failed goes on.
                stop.after(None);
            } else {
                drop(lake);
                // A recovery may be stopped too.
                let stop = Stop::default();
                stop.after(Some(operations % 11));
                drop(Lake::open_with(root, options.clone(), Files { stop }));
                lake = Lake::open(root, options.clone()).unwrap();
            }
            lake.publish(&store, &SCHEMAS[2]).unwrap();
            assert_published(root, &store);
            assert_typed(root, &store, 2);
            lake.gc().unwrap();
            assert_no_orphans(&lake);
            assert!(lake.check(&store).unwrap().is_sound());
        }
        assert!(stopped * stride > 20, "{action}: {stopped}");
    }
}

/// Rows of the files that a pattern of names finds; `None` when one has gone before it was opened.
fn count(dir: &Path) -> Option<i64> {
    let mut rows = 0;
    for entry in fs::read_dir(dir).ok()? {
        let file = fs::File::open(entry.ok()?.path()).ok()?;
        rows += SerializedFileReader::new(file).unwrap().metadata().file_metadata().num_rows();
    }
    Some(rows)
}

#[test]
fn a_reader_sees_only_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
    let schemas = Schemas::default();
    let mut lake = Lake::open(root, LakeOptions::default().with_merge_files(2)).unwrap();
    lake.publish(&store, &schemas).unwrap();
    let batches: Vec<Vec<Drawn>> = (0..40).map(|at| some(1 + at * 7 % 13, at as u64)).collect();
    let mut counts = BTreeSet::from([0]);
    for batch in &batches {
        counts.insert(counts.last().unwrap() + batch.len() as i64);
    }
    let is_over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeMap::<i64, usize>::new();
            while !is_over.load(Ordering::Relaxed) {
                if let Some(count) = count(&root.join("_events")) {
                    *seen.entry(count).or_default() += 1;
                }
            }
            seen
        });
        let mut received_ms = 0;
        for batch in &batches {
            append(&store, batch, &mut received_ms);
            lake.publish(&store, &schemas).unwrap();
            lake.compact().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(seen.len() > 3, "{seen:?}");
    assert!(seen.keys().all(|count| counts.contains(count)), "{seen:?} of {counts:?}");
}

#[test]
fn files_stay_few() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
    let schemas = Schemas::default();
    let mut lake = Lake::open(dir.path(), LakeOptions::default().with_merge_files(3)).unwrap();
    let mut received_ms = 0;
    for at in 0..30 {
        append(&store, &some(3, at), &mut received_ms);
        lake.publish(&store, &schemas).unwrap();
        lake.compact().unwrap();
        // Two of each of the levels, of which thirty publications make four.
        assert!(lake.manifest.tables.events.files.len() <= 8);
    }
    assert_published(dir.path(), &store);
}

#[test]
fn what_is_lost_or_changed_is_found_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
    let schemas = Schemas::default();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    append(&store, &some(20, 3), &mut 0);
    lake.publish(&store, &schemas).unwrap();
    let path = root.join("lake/versions").join(&lake.manifest.tables.versions.files[0].path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[50] ^= 0xff;
    // The second name in the generation is of the same file; a new one takes the first.
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let check = lake.check(&store).unwrap();
    assert!(!check.is_sound(), "{check:?}");

    fs::remove_file(&path).unwrap();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert!(lake.damage().unwrap().contains("a replay makes the files anew"), "{:?}", lake.damage());
    let error = lake.publish(&store, &schemas).unwrap_err().to_string();
    assert!(error.contains("a replay makes the files anew"), "{error}");
    lake.replay(&store, &schemas).unwrap();
    assert!(lake.check(&store).unwrap().is_sound() && lake.damage().is_none());
    assert_published(root, &store);
}

#[test]
fn a_lake_whose_manifests_cannot_be_read_is_not_sound() {
    let (dir, store, lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    drop(lake);
    for name in super::files::list(&root.join("_meta")).unwrap() {
        fs::write(root.join("_meta").join(name), "torn").unwrap();
    }
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    let error = lake.check(&store).unwrap_err().to_string();
    assert!(error.contains("none of its manifests can be read"), "{error}");
    // Nor is anything made anew that nobody asked for: of which log it was is not known.
    let error = lake.remake(&store, &Schemas::default()).unwrap_err().to_string();
    assert!(error.contains("none of its manifests can be read"), "{error}");
    lake.replay(&store, &Schemas::default()).unwrap();
    assert!(lake.check(&store).unwrap().is_sound());
    assert_published(root, &store);
    // Nothing was ever published: there is nothing that is not sound.
    let nothing = tempfile::tempdir().unwrap();
    let mut lake = Lake::open(nothing.path(), LakeOptions::default()).unwrap();
    assert!(lake.check(&store).unwrap().is_sound());
}

#[test]
fn a_generation_that_was_changed_gets_another_number() {
    for changed in ["_events", "tables/users/current", "tables/orders/versions"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
        let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
        append(&store, &some(20, 3), &mut 0);
        let n = lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().n;
        let linked = fs::read_dir(root.join(changed)).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(linked).unwrap();
        let lake = Lake::open(root, LakeOptions::default()).unwrap();
        assert_eq!(lake.manifest.n, n + 1);
        assert!(numbers(&root.join("_meta")).unwrap().ends_with(&[n, n + 1]));
        assert_published(root, &store);
        assert_typed(root, &store, 1);
    }
    // Also by what it does not name.
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let n = lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().n;
    fs::create_dir(dir.path().join("tables/mine")).unwrap();
    let lake = Lake::open(dir.path(), LakeOptions::default()).unwrap();
    assert_eq!(lake.manifest.n, n + 1);
    assert_typed(dir.path(), &store, 1);
}

#[test]
fn a_lake_of_before_there_were_typed_tables_gets_them() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    // As it was written then.
    for file in &mut lake.manifest.tables.versions.files {
        file.types = None;
    }
    lake.manifest.write(&Files::default(), &root.join("_meta")).unwrap();
    let path = root.join(format!("_meta/manifest-{}.json", lake.manifest.n));
    let text = fs::read_to_string(path).unwrap();
    assert!(["\"typed\"", "\"types\"", "\"of\""].iter().all(|new| !text.contains(new)), "{text}");
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert!(lake.publish(&store, &SCHEMAS[0]).unwrap().is_none());
    assert_eq!(lake.publish(&store, &SCHEMAS[2]).unwrap().unwrap().events, 0);
    assert_typed(root, &store, 2);
    // It is known now of which types they have rows.
    let history = lake.manifest.tables.versions.files.iter().filter(|file| file.bucket.is_none());
    let types: Vec<_> = history.map(|file| file.types.as_deref().unwrap()).collect();
    assert!(!types.is_empty() && types.iter().all(|types| !types.is_empty()), "{types:?}");
    assert!(lake.publish(&store, &SCHEMAS[2]).unwrap().is_none());
    assert!(lake.check(&store).unwrap().is_sound());
}

#[test]
fn typed_files_stay_where_nothing_has_changed() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
    let of = |lake: &Lake, entity_type: &str| {
        let table = &lake.manifest.tables.typed[entity_type];
        let paths =
            |files: &[super::manifest::FileEntry]| files.iter().map(|file| file.path.clone()).collect();
        let both: [BTreeSet<String>; 2] = [paths(&table.current), paths(&table.versions)];
        both
    };
    let (users, orders) = (of(&lake, "User"), of(&lake, "Order"));
    // Of a type of which nothing came all stay; of the other one those of what is behind.
    append(&store, &[(0, 0, 1, 100, 100, 0, None)], &mut 1000);
    lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
    assert_eq!(of(&lake, "Order"), orders);
    let after = of(&lake, "User");
    assert!(after[0].is_disjoint(&users[0]));
    assert!(!after[1].is_disjoint(&users[1]) && after[1] != users[1]);
    // A schema that changes the columns of one type changes nothing of another.
    lake.publish(&store, &SCHEMAS[2]).unwrap().unwrap();
    assert_eq!(of(&lake, "Order"), orders);
    assert!(of(&lake, "User").iter().zip(&after).all(|(now, before)| now.is_disjoint(before)));
    assert_typed(dir.path(), &store, 2);
}

#[test]
fn a_new_schema_keeps_no_events_waiting_and_what_was_made_by_it_stays() {
    let stop = Stop::default();
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files { stop: stop.clone() });
    let made = |lake: &Lake| {
        let typed = lake.manifest.tables.typed.iter();
        typed.map(|(entity_type, table)| (entity_type.clone(), table.current.clone())).collect::<Vec<_>>()
    };
    let types = |lake: &Lake| made(lake).into_iter().map(|(entity_type, _)| entity_type).collect::<Vec<_>>();
    append(&store, &some(3, 5), &mut 1000);
    // Each attempt is stopped somewhat later, until one of them has come to the next table.
    let mut seen: Vec<(bool, Vec<String>)> = Vec::new();
    let mut orders = None;
    for operations in 0.. {
        stop.after(Some(operations));
        let is_done = lake.publish(&store, &SCHEMAS[2]).is_ok();
        stop.after(None);
        let found = (
            EntityLog::own(Arc::clone(&store)).behind(lake.checkpoint_seq()).unwrap().events == 0,
            types(&lake),
        );
        if seen.last() != Some(&found) {
            seen.push(found);
        }
        if let Some((_, files)) = made(&lake).iter().find(|(entity_type, _)| entity_type == "Order") {
            assert_eq!(orders.get_or_insert_with(|| files.clone()), files);
        }
        if is_done {
            break;
        }
    }
    let of = |types: &[&str]| types.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let wanted =
        [(false, of(&[])), (true, of(&[])), (true, of(&["Order"])), (true, of(&["Order", "Orders", "User"]))];
    assert_eq!(seen, wanted);
    assert_published(dir.path(), &store);
    assert_typed(dir.path(), &store, 2);
    assert!(lake.publish(&store, &SCHEMAS[2]).unwrap().is_none());
}

#[cfg(unix)]
#[test]
fn a_typed_table_that_is_as_it_was_keeps_its_names_for_as_long_as_somebody_may_read_them() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
    let place = |name: &str| fs::canonicalize(root.join("tables").join(name)).unwrap();
    let (users, orders) = (place("users"), place("orders"));
    let mut received_ms = 1000;
    for _ in 0..3 {
        append(&store, &[(0, 0, 1, 100, 100, 0, None)], &mut received_ms);
        let before = place("users");
        lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
        assert_eq!(place("orders"), orders);
        assert_ne!(place("users"), before);
        assert_typed(root, &store, 1);
    }
    // Whoever reads what was replaced finds it.
    assert!(users.is_dir() && !typed_rows(&users.join("current")).is_empty());
    drop(lake);
    let mut lake = Lake::open(root, LakeOptions::default().with_grace(Duration::ZERO)).unwrap();
    lake.gc().unwrap();
    assert!(!users.exists());
    let names = super::files::list(&root.join(".gen")).unwrap();
    assert_eq!(names.iter().filter(|name| name.starts_with("typed-")).count(), 2, "{names:?}");
    assert_eq!(place("orders"), orders);
    assert_typed(root, &store, 1);
    // One that others have changed is made anew.
    fs::remove_dir_all(orders.join("versions")).unwrap();
    let lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert_ne!(place("orders"), orders);
    assert_typed(root, &store, 1);
    drop(lake);
}

#[cfg(unix)]
#[test]
fn a_typed_table_whose_names_others_have_changed_gets_new_ones() {
    let place = |root: &Path| fs::canonicalize(root.join("tables/orders")).unwrap();
    let changes: [fn(&Path); 4] = [
        |orders| {
            let lost = orders.join("current").read_dir().unwrap().next().unwrap().unwrap().path();
            fs::remove_file(lost).unwrap();
        },
        |orders| fs::write(orders.join("versions/mine.parquet"), "x").unwrap(),
        |orders| fs::create_dir(orders.join("mine")).unwrap(),
        |orders| fs::remove_dir_all(orders).unwrap(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        // While it is open, and something comes of another type.
        let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
        let root = dir.path();
        lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
        let orders = place(root);
        change(&orders);
        append(&store, &[(0, 0, 1, 100, 100, 0, None)], &mut 1000);
        let n = lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().n;
        assert_ne!(place(root), orders, "{at}");
        assert_typed(root, &store, 1);
        // When a crash came before the generation had its name.
        drop(lake);
        let orders = place(root);
        change(&orders);
        fs::remove_dir_all(root.join(".gen").join(n.to_string())).unwrap();
        let wanted = if orders.exists() { n + 1 } else { n };
        let lake = Lake::open(root, LakeOptions::default()).unwrap();
        assert_eq!(lake.manifest.n, wanted, "{at}");
        assert_typed(root, &store, 1);
        assert!(lake.root.is_live(&lake.manifest).unwrap());
    }
}

#[cfg(unix)]
#[test]
fn what_cannot_be_looked_at_keeps_nothing_else_from_being_removed_and_no_number_comes_twice() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    let before = lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().n;
    append(&store, &[(0, 0, 1, 100, 100, 0, None)], &mut 1000);
    lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
    drop(lake);
    // Of one that somebody may still read it is not known where it leads.
    let tables = root.join(".gen").join(before.to_string()).join("tables");
    fs::remove_dir_all(&tables).unwrap();
    fs::write(&tables, "x").unwrap();
    // Of a publication whose manifest is lost.
    let links = root.join(".gen/typed-77-users");
    fs::create_dir_all(links.join("current")).unwrap();
    let orphans = [
        root.join("_meta/manifest-7.json.tmp"),
        root.join("lake/events/events-01ARZ3NDEKTSV4RRFFQ69G5FAV.parquet"),
    ];
    for orphan in &orphans {
        fs::write(orphan, "x").unwrap();
    }
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    let error = lake.gc().unwrap_err();
    assert!(matches!(&error, ServerError::Io { file, .. } if *file == tables), "{error}");
    assert!(orphans.iter().all(|orphan| !orphan.exists()) && links.is_dir());
    append(&store, &[(0, 0, 1, 101, 101, 0, None)], &mut 2000);
    assert_eq!(lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().n, 78);
    assert_typed(root, &store, 1);
    fs::remove_file(&tables).unwrap();
    lake.gc().unwrap();
    assert!(!links.exists());
    assert_typed(root, &store, 1);
}

#[test]
fn without_a_schema_there_are_no_typed_tables() {
    let options = LakeOptions::default().with_grace(Duration::ZERO);
    let (dir, store, mut lake) = some_published(options, Files::default());
    let link = dir.path().join("tables");
    assert!(!link.is_symlink());
    lake.publish(&store, &SCHEMAS[2]).unwrap().unwrap();
    assert!(link.is_symlink());
    // Whoever looks at it from beside counts them, and misses their link.
    let beside = || LakeState::beside(dir.path()).unwrap().unwrap();
    let files = lake.manifest.tables.places().iter().map(|place| place.files.len() as u64).sum();
    assert_eq!((beside().is_live, beside().files), (true, files));
    fs::remove_file(&link).unwrap();
    assert!(!beside().is_live);
    let mut lake = Lake::open(dir.path(), LakeOptions::default().with_grace(Duration::ZERO)).unwrap();
    assert!(beside().is_live);
    // As when the schemas are lost: nothing points to what is not there.
    lake.publish(&store, &SCHEMAS[0]).unwrap().unwrap();
    assert!(!link.is_symlink());
    lake.gc().unwrap();
    assert_eq!(super::files::list(&dir.path().join("lake/typed")).unwrap(), Vec::<String>::new());
    assert_typed(dir.path(), &store, 0);
}

#[test]
fn a_typed_file_that_is_lost_or_changed_is_found() {
    for is_lost in [true, false] {
        let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
        let root = dir.path();
        lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
        let typed = &lake.manifest.tables.typed["User"].versions[0];
        let other = &lake.manifest.tables.typed["Order"].versions[0];
        let (path, other) =
            (root.join("lake/typed").join(&typed.path), root.join("lake/typed").join(&other.path));
        let name = typed.path.clone();
        fs::remove_file(&path).unwrap();
        if !is_lost {
            // Sound Parquet, with the rows of another type.
            fs::copy(other, &path).unwrap();
        }
        let check = lake.check(&store).unwrap();
        let found = check.tables.iter().find(|table| table.table == "tables/users/versions").unwrap();
        assert_eq!((&found.damaged, found.log == found.manifest), (&vec![name], true));
        assert!(!check.is_sound() && lake.damage().is_none());
        // Without an event too.
        assert_eq!(lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().events, 0);
        assert!(lake.check(&store).unwrap().is_sound());
        assert_typed(root, &store, 1);
    }
}

#[test]
fn a_typed_file_that_is_lost_is_made_anew_though_the_log_has_dropped_its_events() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
    let parts = ["users/current", "users/versions", "orders/current", "orders/versions"];
    let typed = || parts.map(|part| typed_rows(&root.join("tables").join(part)));
    let before = (published::<EventRow>(root), typed());
    store.flush().unwrap();
    assert_eq!(store.gc(i64::MAX).unwrap().events_deleted, 20);

    let lose = |file: &super::manifest::FileEntry| {
        fs::remove_file(root.join("lake/typed").join(&file.path)).unwrap();
    };
    lose(&lake.manifest.tables.typed["User"].current[0]);
    lose(&lake.manifest.tables.typed["Order"].versions[0]);
    let n = lake.manifest.n;
    drop(lake);
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert!(lake.damage().is_none());
    // Whoever has it by its second name has it.
    assert_eq!((lake.manifest.n, typed()), (n, before.1.clone()));
    assert_eq!(lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().events, 0);
    assert_eq!((published::<EventRow>(root), typed()), before);
    assert!(LakeState::beside(root).unwrap().unwrap().damage.is_none());
    assert!(lake.publish(&store, &SCHEMAS[1]).unwrap().is_none());

    // Also where the second names are gone with it, and when a crash came before the generation had its name.
    for path in [root.join("tables"), root.join(".live")] {
        lose(&lake.manifest.tables.typed["User"].versions[0]);
        drop(lake);
        fs::remove_dir_all(fs::canonicalize(path).unwrap()).unwrap();
        lake = Lake::open(root, LakeOptions::default()).unwrap();
        assert_eq!(published::<EventRow>(root), before.0);
        lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap();
        assert_eq!((published::<EventRow>(root), typed()), before);
    }
    // And it goes on.
    append(&store, &[(0, 4, 0, 200, 1, 0, None)], &mut 1000);
    assert_eq!(lake.publish(&store, &SCHEMAS[1]).unwrap().unwrap().events, 1);
    assert!(LakeState::beside(root).unwrap().unwrap().damage.is_none());
}

#[test]
fn what_is_lost_and_can_be_made_of_nothing_is_brought_back_or_left_out_by_another_root() {
    let (dir, store, lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    let before = published::<EventRow>(root);
    drop(lake);
    store.flush().unwrap();
    assert_eq!(store.gc(i64::MAX).unwrap().events_deleted, 20);
    append(&store, &some(3, 5), &mut 1000);
    let lost = root.join("lake/events").join(&names(root, Table::Events)[0]);
    let copy = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    let error = lake.remake(&store, &Schemas::default()).unwrap_err().to_string();
    assert!(error.contains("the log has 0 of the 20 events that are published"), "{error}");
    assert!(error.contains("Bring back from a copy what is missing"), "{error}");
    assert_eq!(published::<EventRow>(root), before);
    let other = tempfile::tempdir().unwrap();
    Lake::open(other.path(), LakeOptions::default()).unwrap().replay(&store, &Schemas::default()).unwrap();
    assert_published(other.path(), &store);
    fs::write(&lost, copy).unwrap();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert_eq!(lake.publish(&store, &Schemas::default()).unwrap().unwrap().events, 3);
    assert_eq!(published::<EventRow>(root).len(), 23);
}

/// An open log and the directory in which it is, with a lake beside it in which some events are published.
fn some_published(options: LakeOptions, files: Files) -> (tempfile::TempDir, Arc<Store<Event>>, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
    append(&store, &some(20, 3), &mut 0);
    let mut lake = Lake::open_with(dir.path(), options, files).unwrap();
    lake.publish(&store, &Schemas::default()).unwrap().unwrap();
    (dir, store, lake)
}

/// Names in the directory of a table's files.
fn names(root: &Path, table: Table) -> Vec<String> {
    super::files::list(&root.join("lake").join(table.dir())).unwrap()
}

#[test]
fn a_publication_ends_while_events_keep_coming() {
    // Events that come all the time: no publication ever finds that there are none.
    const PAUSE: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_mins(1);
    let (_dir, store, mut lake) =
        some_published(LakeOptions::default().with_chunk_events(4), Files::default());
    let begun = Moment::now();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut received_ms = 1000;
            while !is_over.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                append(&store, &some(8, 5), &mut received_ms);
                std::thread::sleep(PAUSE);
            }
        });
        while lake.publish(&store, &Schemas::default()).unwrap().is_none() {}
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(begun.elapsed() < LONG, "it ended when no more events came");
}

#[test]
fn a_publication_that_is_stopped_leaves_nothing() {
    let (dir, store, lake) = some_published(LakeOptions::default(), Files::default());
    let before = Table::ALL.map(|table| names(dir.path(), table));
    let stop = Arc::new(AtomicBool::new(true));
    let mut lake = lake.stopped_by(Arc::clone(&stop));
    append(&store, &some(9, 4), &mut 100);
    let stopped = lake.publish(&store, &Schemas::default()).unwrap_err();
    assert!(matches!(stopped, ServerError::Stopping), "{stopped}");
    let stopped = lake.replay(&store, &Schemas::default()).unwrap_err();
    assert!(matches!(stopped, ServerError::Stopping), "{stopped}");
    assert_eq!(Table::ALL.map(|table| names(dir.path(), table)), before);
    stop.store(false, Ordering::Relaxed);
    lake.publish(&store, &Schemas::default()).unwrap().unwrap();
    assert_published(dir.path(), &store);
}

#[test]
fn an_attempt_that_fails_leaves_no_file() {
    let options = LakeOptions::default().with_chunk_events(12).with_merge_files(2);
    let actions: [fn(&mut Lake, &Store<Event>) -> bool; 2] = [
        |lake, store| lake.publish(store, &SCHEMAS[1]).is_ok(),
        |lake, store| lake.replay(store, &SCHEMAS[1]).is_ok(),
    ];
    for act in actions {
        let mut failed = 0;
        for operation in (0..).step_by(3) {
            let stop = Stop::default();
            let (dir, store, mut lake) = some_published(options.clone(), Files { stop: stop.clone() });
            let root = dir.path();
            append(&store, &some(10, 8), &mut 100);
            stop.once(operation);
            let is_done = act(&mut lake, &store);
            if !stop.has_stopped() {
                assert!(is_done);
                break;
            }
            failed += usize::from(!is_done);
            let manifest = Manifest::newest(&root.join("_meta")).unwrap().unwrap();
            for table in Table::ALL {
                let named = &manifest.tables.get(table).files;
                let named: BTreeSet<&str> = named.iter().map(|file| file.path.as_str()).collect();
                for name in names(root, table) {
                    // What was replaced is there for as long as it is in a generation.
                    let is_linked = numbers_of_generations(root).into_iter().any(|n| {
                        let generation = root.join(".gen").join(&n).join(table.name());
                        let number = n.parse().ok();
                        number.is_some_and(|n| generation.join(second_name(n, &name)).exists())
                    });
                    assert!(is_done || is_linked || named.contains(name.as_str()), "{operation}: {name}");
                }
            }
            // Before the attempt there were no typed files, so that none can be left of then.
            let places = manifest.tables.places();
            let named: BTreeSet<&str> =
                places.iter().flat_map(|place| place.files).map(|file| file.path.as_str()).collect();
            for name in super::files::list(&root.join("lake/typed")).unwrap() {
                assert!(named.contains(name.as_str()), "{operation}: {name}");
            }
            lake.publish(&store, &SCHEMAS[1]).unwrap();
            assert_published(root, &store);
            assert_typed(root, &store, 1);
        }
        assert!(failed > 5, "{failed}");
    }
}

fn numbers_of_generations(root: &Path) -> Vec<String> {
    let mut names = super::files::list(&root.join(".gen")).unwrap();
    names.retain(|name| !name.starts_with("typed-"));
    names
}

#[test]
fn only_what_is_its_own_is_removed_also_when_it_is_damaged() {
    let (dir, store, lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    drop(lake);
    let own = [
        "lake/events/events-01ARZ3NDEKTSV4RRFFQ69G5FAV.parquet",
        "lake/typed/typed-01ARZ3NDEKTSV4RRFFQ69G5FAV.parquet.tmp",
        "_meta/manifest-7.json.tmp",
    ];
    let own_dirs = [
        ".gen/9.tmp",
        ".gen/gone-1",
        ".gen/typed-3-users",
        ".gen/typed-3-boxes-box.tmp",
        ".gen/gone-typed-2-users",
    ];
    let others = [
        "lake/events/mine.parquet",
        "lake/events/events-7.parquet",
        "lake/events/current-01ARZ3NDEKTSV4RRFFQ69G5FAV.parquet",
        "lake/typed/users-01ARZ3NDEKTSV4RRFFQ69G5FAV.parquet",
        "lake/typed/mine.parquet",
        "_meta/manifest-007.json",
        "_meta/manifest-x.json.tmp",
        "_meta/notes",
    ];
    let other_dirs =
        [".gen/mine", ".gen/007", ".gen/+7", ".gen/typed-users", ".gen/typed-07-users", ".gen/typed-7-x.y"];
    own.iter().chain(&others).for_each(|name| fs::write(root.join(name), "x").unwrap());
    own_dirs.iter().chain(&other_dirs).for_each(|name| fs::create_dir(root.join(name)).unwrap());
    let lost = &names(root, Table::Versions)[0];
    fs::remove_file(root.join("lake/versions").join(lost)).unwrap();
    let mut lake = Lake::open(root, LakeOptions::default().with_grace(Duration::ZERO)).unwrap();
    assert!(lake.damage().is_some());
    for name in own.iter().chain(&own_dirs) {
        assert!(!root.join(name).exists(), "{name}");
    }
    lake.replay(&store, &Schemas::default()).unwrap();
    for name in others.iter().chain(&other_dirs) {
        assert!(root.join(name).exists(), "{name}");
    }
    assert_published(root, &store);
}

#[cfg(unix)]
#[test]
fn what_others_have_put_in_its_place_is_refused_before_anything_is_changed() {
    let places = [
        "_events",
        "_current",
        "_versions",
        "tables",
        ".live",
        "lake",
        "lake/current",
        "lake/typed",
        ".gen",
        "_events.tmp",
    ];
    for place in places {
        for is_dir in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            let path = root.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let is_to_be_dir = place.starts_with("lake") || place == ".gen";
            if is_dir && !is_to_be_dir {
                fs::create_dir(&path).unwrap();
            } else {
                std::os::unix::fs::symlink("/somewhere/else", &path).unwrap();
            }
            let before = super::files::list(root).unwrap();
            let error = Lake::open(root, LakeOptions::default()).unwrap_err();
            assert!(matches!(error, ServerError::Foreign { .. }), "{place}: {error}");
            assert!(error.to_string().contains("is not what a server makes"), "{error}");
            assert_eq!(super::files::list(root).unwrap(), before);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_a_publisher_is_about_to_move_is_none_that_others_have_put_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = super::Root { path: dir.path().to_owned(), files: Files::default() };
    let (link, temporary) = (dir.path().join(".live"), dir.path().join(".live.tmp"));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                std::os::unix::fs::symlink(".gen/1", &temporary).unwrap();
                fs::rename(&temporary, &link).unwrap();
            }
        });
        let checked: Result<Vec<()>, _> = (0..20_000).map(|_| root.check_own()).collect();
        is_done.store(true, Ordering::Relaxed);
        checked.unwrap();
    });
}

#[test]
fn a_file_that_is_found_damaged_is_made_anew_by_the_next_replay() {
    // Whose rows are others, though it is sound; that is no Parquet; that is not there.
    for damage in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
        let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
        append(&store, &[(0, 0, 0, 1, 1, 0, None)], &mut 0);
        lake.publish(&store, &Schemas::default()).unwrap();
        let file = |lake: &Lake| {
            let files = &lake.manifest.tables.current.files;
            root.join("lake/current").join(&files.iter().find(|file| file.bucket.is_some()).unwrap().path)
        };
        let older = fs::read(file(&lake)).unwrap();
        append(&store, &[(0, 0, 1, 2, 1, 1, None)], &mut 100);
        lake.publish(&store, &Schemas::default()).unwrap();
        let path = file(&lake);
        fs::remove_file(&path).unwrap();
        match damage {
            0 => fs::write(&path, older).unwrap(),
            1 => fs::write(&path, "no Parquet").unwrap(),
            _ => {}
        }
        append(&store, &[(0, 0, 1, 3, 1, 2, None)], &mut 200);
        assert!(lake.damage().is_none());
        lake.publish(&store, &Schemas::default()).unwrap_err();
        assert!(lake.damage().is_some());
        lake.replay(&store, &Schemas::default()).unwrap();
        assert!(lake.damage().is_none());
        assert_published(root, &store);
    }
}

#[test]
fn what_the_disk_refuses_to_read_is_no_damage_and_is_read_the_next_time() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    lake.publish(&store, &SCHEMAS[1]).unwrap();
    // Some come late, so that the history is read too.
    append(&store, &some(9, 4), &mut 100);
    let is_refused = |error: &ServerError| matches!(error, ServerError::Io { op: "reading", source, .. } if source.raw_os_error() == Some(5));
    let mut refused = 0;
    loop {
        refusal::after(Some(refused));
        let done = lake.publish(&store, &SCHEMAS[1]);
        refusal::after(None);
        let Err(error) = done else { break };
        assert!(is_refused(&error), "{error}");
        assert!(lake.damage().is_none(), "{refused}");
        refused += 1;
    }
    assert!(refused > 50, "{refused}");
    assert_published(dir.path(), &store);
    assert_typed(dir.path(), &store, 1);
    let mut refused = 0;
    let check = loop {
        refusal::after(Some(refused));
        let check = lake.check(&store);
        refusal::after(None);
        match check {
            Err(error) => assert!(is_refused(&error) && lake.damage().is_none(), "{error}"),
            Ok(check) => break check,
        }
        refused += 7;
    };
    assert!(refused > 50 && check.is_sound(), "{refused}");
}

#[test]
fn much_history_of_few_events_goes_to_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
    let options = LakeOptions::default().with_chunk_bytes(100_000).with_merge_files(100);
    let mut lake = Lake::open(dir.path(), options).unwrap();
    let large = json!({"large": "x".repeat(10_000)}).to_string();
    let event = |time_ms: i64, payload: &str| {
        let event = Event::new(time_ms * 1_000_000).metric(time_ms * 1_000_000).status(2);
        event.entity_type("User").entity_id("id").payload(payload).envelope("")
    };
    let small = (1..50).map(|at| event(at, &json!({"small": at}).to_string()));
    store.append_batch_durable(std::iter::once(event(0, &large)).chain(small)).unwrap();
    lake.publish(&store, &Schemas::default()).unwrap();
    // Of fifty events, each with ten thousand bytes of state, in two rows.
    assert!(lake.manifest.tables.versions.files.len() > 5);
    assert_eq!(lake.manifest.tables.events.files.len(), 1);
    assert_published(dir.path(), &store);
}

#[test]
fn an_event_that_cannot_be_read_is_published_as_it_is() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let event = |time_ms: i64, payload: &str, envelope: &str| {
        let event = Event::new(time_ms * 1_000_000).metric(1_000_000_000).status(2);
        event.entity_type("User").entity_id("deep").payload(payload).envelope(envelope)
    };
    let events = [event(1, "{\"b\":1}", ""), event(2, &deep, "no JSON"), event(3, "{\"c\":2}", "")];
    store.append_batch_durable(events).unwrap();
    lake.publish(&store, &Schemas::default()).unwrap();
    let rows: Vec<EventRow> = published(dir.path());
    let raw: Vec<_> = rows.iter().filter_map(|row| row.payload_raw.as_deref()).collect();
    assert_eq!(raw, [deep.as_bytes()]);
    let current: Vec<CurrentRow> = published(dir.path());
    let current = current.iter().find(|row| row.entity_id == "deep").unwrap();
    assert_eq!((current.state.as_str(), current.version), ("{\"b\":1,\"c\":2}", 3));
    assert!(lake.check(&store).unwrap().is_sound());
}

/// A log as whoever opens it the next time finds it: its sequences go on far behind the last event.
fn reopened(store: Arc<Store<Event>>, dir: &Path) -> Arc<Store<Event>> {
    Arc::into_inner(store).unwrap().close().unwrap();
    Arc::new(Store::open(dir).unwrap())
}

#[test]
fn another_log_is_not_taken_for_the_one_that_was_published() {
    for events in [some(20, 9), some(5, 3)] {
        let (dir, store, lake) = some_published(LakeOptions::default(), Files::default());
        assert_published(dir.path(), &store);
        drop((store, lake));
        let other = Arc::new(Store::<Event>::open(dir.path().join("other")).unwrap());
        append(&other, &events, &mut 0);
        let other = reopened(other, &dir.path().join("other"));
        let mut lake = Lake::open(dir.path(), LakeOptions::default()).unwrap();
        let error = lake.publish(&other, &Schemas::default()).unwrap_err().to_string();
        assert!(error.contains("its rows go up to an event"), "{error}");
        // It may be the log that is wrong: nothing is made anew by itself.
        assert!(lake.damage().is_none());
        lake.publish(&other, &Schemas::default()).unwrap_err();
        let told = lake.check(&other).unwrap_err().to_string();
        assert_eq!(told, error);
        assert!(told.ends_with("the published events that it does not have are lost by that"), "{told}");
        // It has its first event and dropped none: who asks for it has it made anew, also of fewer events.
        lake.replay(&other, &Schemas::default()).unwrap();
        assert_published(dir.path(), &other);
    }
}

#[test]
fn a_log_that_goes_on_without_the_last_published_event_may_have_lost_it() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let before = published::<EventRow>(dir.path());
    drop(store);
    let other = Arc::new(Store::<Event>::open(dir.path().join("other")).unwrap());
    append(&other, &some(5, 3), &mut 0);
    let other = reopened(other, &dir.path().join("other"));
    append(&other, &some(30, 4), &mut 100);
    lake.is_of_log = false;
    let error = lake.publish(&other, &Schemas::default()).unwrap_err().to_string();
    assert!(error.contains("`keplor backup` and `restore` give the one that is there a root"), "{error}");
    assert_eq!(lake.check(&other).unwrap_err().to_string(), error);
    let error = lake.replay(&other, &Schemas::default()).unwrap_err();
    assert!(matches!(error, ServerError::Dropped { .. }), "{error}");
    assert!(error.to_string().contains("the log has 5 of the 20 events that are published"), "{error}");
    assert_eq!(published::<EventRow>(dir.path()), before);
}

#[test]
fn what_was_dropped_between_others_and_forgotten_is_not_lost_by_a_replay() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let segments = root.join("segments");
    // What is dropped is gone at once, or it would be found again.
    let config = <Event as keplordb::Schema>::default_config(segments.clone());
    let options = Options::default().unlink_grace(Duration::ZERO);
    let store = Arc::new(Store::<Event>::open_with(config, options).unwrap());
    let schemas = Schemas::default();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    append(&store, &[(0, 0, 0, 100, 1, 0, None), (0, 1, 0, 101, 1, 0, None)], &mut 0);
    store.flush().unwrap();
    // What happened before is brought in later, and goes first.
    append(&store, &[(1, 0, 0, 1, 1, 1, None), (1, 1, 0, 2, 1, 1, None)], &mut 10);
    store.flush().unwrap();
    lake.publish(&store, &schemas).unwrap();
    assert_eq!(store.gc(50_000_000).unwrap().events_deleted, 2);
    append(&store, &[(0, 0, 1, 102, 1, 2, None)], &mut 20);
    lake.publish(&store, &schemas).unwrap();
    let before = published::<EventRow>(root);
    let store = reopened(store, &segments);
    assert_eq!(store.gaps().len(), 1);
    Arc::into_inner(store).unwrap().close().unwrap();
    fs::remove_file(segments.join("MANIFEST")).unwrap();
    let store = Store::<Event>::open(&segments).unwrap();
    assert!(store.gaps().is_empty());
    // It has its first event, and the last one that is published.
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    let error = lake.replay(&store, &schemas).unwrap_err();
    assert!(error.to_string().contains("the log has 3 of the 5 events that are published"), "{error}");
    assert_eq!(published::<EventRow>(root), before);
    // It goes on with what comes.
    append(&store, &[(0, 1, 1, 103, 1, 2, None)], &mut 30);
    lake.publish(&store, &schemas).unwrap().unwrap();
    assert_eq!(published::<EventRow>(root).len(), 6);
}

#[test]
fn rows_whose_events_were_dropped_are_not_made_anew_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = Arc::new(Store::<Event>::open(root.join("segments")).unwrap());
    let schemas = Schemas::default();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    append(&store, &[(0, 0, 0, 5, 1, 0, None), (0, 0, 1, 8, 1, 1, None)], &mut 0);
    lake.publish(&store, &schemas).unwrap();
    store.flush().unwrap();
    assert_eq!(store.gc(i64::MAX).unwrap().events_deleted, 2);
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    // One in its order needs nothing that was dropped.
    append(&store, &[(0, 0, 1, 9, 1, 2, None)], &mut 10);
    lake.publish(&store, &schemas).unwrap();
    let versions: Vec<VersionRow> = published(root);
    assert_eq!(versions.iter().map(|row| row.version).max(), Some(3));
    // A late one needs them, and the files have them.
    append(&store, &[(0, 0, 1, 6, 1, 2, None)], &mut 20);
    lake.publish(&store, &schemas).unwrap().unwrap();
    let versions: Vec<VersionRow> = published(root);
    let known: Vec<_> = versions.iter().filter(|row| row.known_to_ms.is_none()).collect();
    let times: Vec<_> = known.iter().map(|row| (row.version, row.valid_from_ms, row.valid_to_ms)).collect();
    assert_eq!(times, [(1, 5, Some(6)), (2, 6, Some(8)), (3, 8, Some(9)), (4, 9, None)]);
    assert_eq!(published::<EventRow>(root).len(), 4);
    let error = lake.check(&store).unwrap_err();
    assert!(matches!(error, ServerError::Dropped { .. }), "{error}");
    let error = lake.replay(&store, &schemas).unwrap_err();
    assert!(error.to_string().contains("the log has 2 of the 4 events that are published"), "{error}");
    assert!(lake.damage().is_none());
    assert_eq!(published::<VersionRow>(root), versions);

    // Nor where it cannot be read what was published.
    drop(lake);
    for name in super::files::list(&root.join("_meta")).unwrap() {
        fs::write(root.join("_meta").join(name), "torn").unwrap();
    }
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert!(lake.damage().unwrap().contains("none of its manifests"), "{:?}", lake.damage());
    lake.publish(&store, &schemas).unwrap_err();
    let error = lake.replay(&store, &schemas).unwrap_err();
    assert!(matches!(error, ServerError::Dropped { .. }), "{error}");
    assert_eq!(published::<VersionRow>(root), versions);
}

#[test]
fn a_generation_of_a_higher_number_stays_for_the_grace() {
    let (dir, store, mut lake) = some_published(LakeOptions::default(), Files::default());
    let root = dir.path();
    append(&store, &some(9, 4), &mut 100);
    let n = lake.publish(&store, &Schemas::default()).unwrap().unwrap().n;
    fs::remove_file(root.join(format!("_meta/manifest-{n}.json"))).unwrap();
    // It was made long ago, and replaced just now.
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(24);
    fs::File::open(root.join(".gen").join(n.to_string())).unwrap().set_modified(long_ago).unwrap();
    let mut lake = Lake::open(root, LakeOptions::default()).unwrap();
    assert_eq!(lake.manifest.n, n - 1);
    lake.gc().unwrap();
    assert!(root.join(".gen").join(n.to_string()).is_dir());
    lake.publish(&store, &Schemas::default()).unwrap();
    assert_published(root, &store);
    let mut lake = Lake::open(root, LakeOptions::default().with_grace(Duration::ZERO)).unwrap();
    lake.gc().unwrap();
    assert_eq!(numbers_of_generations(root), [lake.manifest.n.to_string()]);
}
