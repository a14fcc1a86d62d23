//! Exports as a whole: what comes back by an import equals what was there, in every layout; files are as readers of Parquet expect
//! them, and are there in whole or not at all.

use std::collections::HashSet;
use std::fs;

use arrow::datatypes::{DataType, TimeUnit};
use keplordb::any::{AnyStore, Test};
use keplordb::{EngineConfig, Options, TableSchema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, PageType, Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use tempfile::TempDir;

use super::*;
use crate::import::{Field, Import, Mapping, TimeFormat};

fn schema() -> TableSchema {
    TableSchema::new(7).dim("user").dim("model").counter("tokens").label("note")
}

fn open(dir: &TempDir, name: &str) -> AnyStore {
    let config = EngineConfig { bloom_dim: 1, ..EngineConfig::in_dir(dir.path().join(name)) };
    AnyStore::open_with(config, Options::default().schema(schema())).unwrap()
}

/// Rows of any values: extreme times, empty and doubled ids, texts of few and of many values.
fn fill(store: &AnyStore, seed: u64, rows: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let times = [i64::MIN, -1, 0, 999, i64::MAX, 1_700_000_000_000_000_000];
    for row in 0..rows {
        let ts_ns = match random.u8(0..4) {
            0 => times[random.usize(0..times.len())],
            _ => 1_700_000_000_000_000_000 + random.i64(0..5 * NS_PER_DAY),
        };
        let text = |random: &mut fastrand::Rng, most: usize| -> String {
            let chars = ['a', 'b', '"', '\n', ',', 'é', '😀', '\0'];
            (0..random.usize(0..most)).map(|_| chars[random.usize(0..chars.len())]).collect()
        };
        let mut event = store.event(ts_ns);
        for (column, value) in
            [("user", text(&mut random, 2)), ("model", text(&mut random, 6)), ("note", text(&mut random, 30))]
        {
            event = event.set(column, value).unwrap();
        }
        for (column, value) in [
            ("metric", random.i64(..)),
            ("latency_ms", random.u32(..).into()),
            ("latency_detail_ms", random.u32(..).into()),
            ("status", random.u16(..).into()),
            ("flags", random.u16(..).into()),
            ("tokens", random.u32(..).into()),
        ] {
            event = event.set(column, value).unwrap();
        }
        event = match random.u8(0..4) {
            0 => event.set("id", "").unwrap(),
            1 => event.set("id", "same").unwrap(),
            _ => event,
        };
        store.append(event).unwrap();
        if random.u32(0..40) == 0 {
            store.flush().unwrap();
        }
        if row % 50 == 49 {
            let some = store.query().limit(1).rows().unwrap();
            store.delete(&[some[0].text("id").unwrap()]).unwrap();
        }
    }
}

/// All rows without their sequences, in no order.
fn rows(store: &AnyStore) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in store.query().rows().unwrap() {
        let named = row.iter().filter(|(column, _)| column.name != "sequence");
        rows.push(named.map(|(_, value)| value.to_string()).collect());
    }
    rows.sort();
    rows
}

#[test]
fn tables_come_back_unchanged_in_every_layout() {
    for (seed, rows_filled) in (0..12).zip([0, 1, 30, 400].into_iter().cycle()) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, "calls");
        fill(&store, seed, rows_filled);
        let wanted = rows(&store);
        let snapshot = store.snapshot();
        store.append(store.event(5)).unwrap();
        let target = |name: &str| dir.path().join(name);
        let exports = [
            Export::file(&snapshot, target("a.parquet")),
            Export::file(&snapshot, target("b.parquet")).row_group_rows(7),
            Export::files(&snapshot, target("c"), 33),
            Export::by_day(&snapshot, target("d")).row_group_rows(100),
        ];
        for (place, export) in exports.into_iter().enumerate() {
            let mut told = 0;
            let exported = export.on_progress(|rows| told = rows).run().unwrap();
            assert_eq!((exported.rows, told), (wanted.len() as u64, wanted.len() as u64), "seed {seed}");
            let bytes: u64 = exported.files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
            assert_eq!(exported.bytes, bytes);
            let copy = open(&dir, &format!("copy {place}"));
            let mut ends = i64::MIN;
            for file in &exported.files {
                let before = copy.stats().events;
                Import::parquet(&copy, file, Mapping::by_name(copy.columns()))
                    .batch_rows(50)
                    .rejects_max(0)
                    .run()
                    .unwrap();
                assert!(place != 2 || copy.stats().events - before <= 33);
                // Files follow each other in time.
                let oldest = oldest(file);
                assert!(oldest >= ends, "seed {seed}: {file:?}");
                ends = oldest;
            }
            assert_eq!(rows(&copy), wanted, "seed {seed}, layout {place}");
        }
        let left: HashSet<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".exporting")), "{left:?}");
    }
}

/// The first time of a file.
fn oldest(file: &Path) -> i64 {
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap().build().unwrap();
    let Some(batch) = reader.next() else { return i64::MAX };
    let batch = batch.unwrap();
    batch.column_by_name("ts_ns").unwrap().as_primitive::<Int64Type>().value(0)
}

#[test]
fn files_are_as_other_readers_expect_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    for second in 0..100 {
        let event =
            store.event(second * 1_000_000_000 + 1999).set("model", format!("m{}", second % 3)).unwrap();
        store.append(event.set("id", format!("i{second}")).unwrap()).unwrap();
    }
    store.flush().unwrap();
    let path = dir.path().join("a.parquet");
    Export::file(&store.snapshot(), &path).row_group_rows(40).run().unwrap();

    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    let types: Vec<_> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone()))
        .collect();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let wanted = [
        ("ts", utc),
        ("ts_ns", DataType::Int64),
        ("id", DataType::Utf8),
        ("metric", DataType::Int64),
        ("latency_ms", DataType::Int64),
        ("latency_detail_ms", DataType::Int64),
        ("status", DataType::Int32),
        ("flags", DataType::Int32),
        ("sequence", DataType::Int64),
        ("user", DataType::Utf8),
        ("model", DataType::Utf8),
        ("tokens", DataType::Int64),
        ("note", DataType::Utf8),
    ];
    assert_eq!(types, wanted);
    assert!(builder.schema().fields().iter().all(|field| !field.is_nullable()));
    let mut reader = builder.build().unwrap();
    let micros = reader.next().unwrap().unwrap();
    let micros = micros.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    assert_eq!(micros.values()[..2], [1, 1_000_001]);

    let options = ReadOptionsBuilder::new().with_page_index().build();
    let reader = SerializedFileReader::new_with_options(fs::File::open(&path).unwrap(), options).unwrap();
    let metadata = reader.metadata();
    assert_eq!(metadata.num_row_groups(), 3);
    assert!(metadata.column_index().is_some() && metadata.offset_index().is_some());
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let schema = pairs.iter().find(|pair| pair.key == "keplordb.schema").unwrap().value.as_deref().unwrap();
    assert_eq!(schema, r#"{"counters":["tokens"],"dims":["user","model"],"id":7,"labels":["note"]}"#);
    assert!(
        pairs.iter().all(|pair| pair.key != "ARROW:schema"),
        "it would show types that Spark does not know"
    );
    for group in 0..3 {
        let columns = metadata.row_group(group).columns();
        assert!(columns.iter().all(|column| matches!(column.compression(), Compression::ZSTD(_))));
        let has_bloom: Vec<&str> = columns
            .iter()
            .filter(|column| column.bloom_filter_offset().is_some())
            .map(|column| column.column_descr().name())
            .collect();
        assert_eq!(has_bloom, ["id", "model"]);
        assert!(columns.iter().all(|column| column.column_descr().physical_type() != Type::INT96));
        let pages = reader.get_row_group(group).unwrap().get_column_page_reader(10).unwrap();
        let kinds: Vec<_> = pages.map(|page| page.unwrap().page_type()).collect();
        assert_eq!(kinds, [PageType::DICTIONARY_PAGE, PageType::DATA_PAGE]);
    }
}

#[test]
fn only_what_passes_is_written_and_a_column_called_ts_is_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("ts").dim("user"))
        .unwrap();
    for (ts, user) in [("a", "alice"), ("b", "bob")] {
        store.append(store.event(1).set("ts", ts).unwrap().set("user", user).unwrap()).unwrap();
    }
    let snapshot = store.snapshot();
    let of_bob = snapshot.filter("user", Test::Equals("bob".into())).unwrap();
    let path = dir.path().join("a.parquet");
    assert_eq!(Export::file(&snapshot, &path).filter(&of_bob).run().unwrap().rows, 1);
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert_eq!(batch.column_by_name("ts").unwrap().as_string::<i32>().value(0), "b");
    assert_eq!(batch.num_columns(), snapshot.columns().len());
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    fill(&store, 1, 20);
    let snapshot = store.snapshot();
    let refused = |export: Export<'_>| export.run().unwrap_err().to_string();
    let file = dir.path().join("a.parquet");
    fs::write(&file, "mine").unwrap();
    for export in
        [Export::file(&snapshot, &file), Export::by_day(&snapshot, &file), Export::files(&snapshot, &file, 5)]
    {
        let refused = refused(export);
        assert!(
            refused.contains("a.parquet is there already, and an export overwrites nothing"),
            "{refused}"
        );
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");

    let stopped = dir.path().join("b.parquet.exporting");
    fs::write(&stopped, "half").unwrap();
    let under_way = refused(Export::file(&snapshot, dir.path().join("b.parquet")));
    assert!(under_way.contains("b.parquet.exporting is there: another export"), "{under_way}");
    assert_eq!(fs::read(&stopped).unwrap(), b"half");

    let unknown = refused(Export::file(&snapshot, dir.path().join("c.parquet")).blooms(["tokens"]));
    assert!(
        unknown.starts_with(
            "\"tokens\" cannot have a bloom filter; the columns of texts are id, user, model, note"
        ),
        "{unknown}"
    );
    let nowhere = refused(Export::file(&snapshot, dir.path().join("no/such/d.parquet")));
    assert!(
        nowhere.starts_with("creating ") && nowhere.contains("d.parquet.exporting failed: "),
        "{nowhere}"
    );

    // A name that comes to be meanwhile stays what it is, and the draft goes.
    for is_dir in [false, true] {
        let target = dir.path().join(format!("e{is_dir}"));
        let taken = target.clone();
        let export =
            if is_dir { Export::by_day(&snapshot, &target) } else { Export::file(&snapshot, &target) };
        let refused = refused(export.on_progress(move |_| fs::write(&taken, "theirs").unwrap()));
        assert!(refused.contains("is there already"), "{refused}");
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert!(!dir.path().join(format!("e{is_dir}.exporting")).exists());
    }
}

#[test]
fn a_target_may_be_written_with_a_slash_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    fill(&store, 1, 10);
    for name in ["a/", "b//", "./c/."] {
        let exported = Export::files(&store.snapshot(), dir.path().join(name), 4).run().unwrap();
        assert_eq!(exported.files.len(), 3);
        assert!(exported.files.iter().all(|file| file.exists()), "{exported:?}");
    }
}

#[test]
fn columns_that_readers_would_take_for_others_are_refused_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["date", "Date"] {
        let schema = TableSchema::new(1).dim(name);
        let store = AnyStore::open_or_create(dir.path().join(name), schema).unwrap();
        let by_day = Export::by_day(&store.snapshot(), dir.path().join("days")).run();
        let refused = by_day.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("the table's column {name:?} ")), "{refused}");
        Export::file(&store.snapshot(), dir.path().join(format!("{name}.parquet"))).run().unwrap();
    }
    assert!(!dir.path().join("days").exists());

    let store = AnyStore::open_or_create(dir.path().join("ts"), TableSchema::new(1).dim("TS")).unwrap();
    let path = dir.path().join("ts.parquet");
    Export::file(&store.snapshot(), &path).run().unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(builder.schema().field(0).name(), "ts_ns");
    assert_eq!(builder.schema().fields().last().unwrap().name(), "TS");
}

#[test]
fn of_an_empty_table_there_is_a_file_in_every_layout() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = open(&dir, "calls").snapshot();
    for (place, export) in [
        Export::file(&snapshot, dir.path().join("0")),
        Export::files(&snapshot, dir.path().join("1"), 9),
        Export::by_day(&snapshot, dir.path().join("2")),
    ]
    .into_iter()
    .enumerate()
    {
        let exported = export.run().unwrap();
        let [file] = &*exported.files else { panic!("{place}: {exported:?}") };
        let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
        assert_eq!(builder.metadata().file_metadata().num_rows(), 0);
        assert_eq!(builder.schema().fields().len(), 1 + snapshot.columns().len());
    }
}

#[test]
fn foreign_files_come_in_by_a_mapping() {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, DictionaryArray, Float64Array, LargeStringArray, ListArray, StringArray,
        TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::Int8Type;
    use parquet::arrow::ArrowWriter;

    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    let users: DictionaryArray<Int8Type> =
        [Some("alice"), None, Some("bob"), Some("bob")].into_iter().collect();
    let prices = Decimal128Array::from(vec![1250, -5, 0, 100]).with_precision_and_scale(10, 3).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("at", Arc::new(TimestampSecondArray::from(vec![Some(1), Some(2), Some(3), None])) as ArrayRef, true),
        ("who", Arc::new(users) as ArrayRef, true),
        ("price", Arc::new(prices) as ArrayRef, true),
        (
            "share",
            Arc::new(Float64Array::from(vec![Some(0.25), None, Some(0.1), Some(1.0)])) as ArrayRef,
            true,
        ),
        ("big", Arc::new(UInt64Array::from(vec![7, 8, u64::MAX, 9])) as ArrayRef, true),
        (
            "key",
            Arc::new(LargeStringArray::from(vec![Some("k1"), Some(""), Some("k3"), Some("k4")])) as ArrayRef,
            true,
        ),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]); 4]))
                as ArrayRef,
            true,
        ),
        ("unused", Arc::new(StringArray::from(vec!["x"; 4])) as ArrayRef, true),
    ])
    .unwrap();
    let path = dir.path().join("a.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mapping = || {
        Mapping::new()
            .time("at", TimeFormat::Rfc3339)
            .column("who", "user")
            .field(Field::new("price", "metric").digits(3))
            .field(Field::new("share", "latency_ms").digits(2).or(0))
            .column("big", "tokens")
            .column("key", "id")
    };
    let imported = Import::parquet(&store, &path, mapping()).run().unwrap();
    assert_eq!((imported.rows, imported.rejected), (2, 2));
    let found: Vec<_> = store
        .query()
        .oldest_first()
        .rows()
        .unwrap()
        .iter()
        .map(|row| {
            let int = |column: &str| row.int(column).unwrap();
            let text = |column: &str| row.text(column).unwrap().to_owned();
            (int("ts_ns"), text("user"), int("metric"), int("latency_ms"), int("tokens"), text("id"))
        })
        .collect();
    let second = 1_000_000_000;
    assert_eq!(
        found,
        [
            (second, "alice".into(), 1250, 25, 7, "k1".into()),
            (2 * second, String::new(), -5, 0, 8, String::new())
        ]
    );
    let rejects = fs::read_to_string(imported.rejects).unwrap();
    assert!(rejects.contains("\n3,\"big\",\"the number does not fit one of 64 bits\","), "{rejects}");
    assert!(rejects.contains("\n4,\"at\",\"is empty, a time is needed\","), "{rejects}");

    let refused = |mapping: Mapping| Import::parquet(&store, &path, mapping).run().unwrap_err().to_string();
    let refusal = refused(mapping().column("list", "note"));
    assert!(refusal.contains("\"list\" is a column of List"), "{refusal}");
    assert!(
        refused(mapping().column("lst", "note"))
            .contains("there is no column \"lst\"; the columns are at, who,")
    );
    let text = dir.path().join("b.parquet");
    fs::write(&text, "at,who\n1,alice\n").unwrap();
    let refusal = Import::parquet(&store, &text, mapping()).run().unwrap_err().to_string();
    assert!(refusal.contains("b.parquet cannot be read as Parquet at row 0: "), "{refusal}");
    let refusal = Import::csv(&store, &path, mapping()).run().unwrap_err().to_string();
    assert!(refusal.contains("a.parquet is a Parquet file; import it as Parquet"), "{refusal}");
}

#[test]
fn damaged_files_are_errors_or_come_in_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    for row in 0..200 {
        let event =
            store.event(row).set("user", format!("u{}", row % 7)).unwrap().set("note", format!("note {row}"));
        store.append(event.unwrap().set("id", format!("i{row}")).unwrap()).unwrap();
    }
    let path = dir.path().join("a.parquet");
    Export::file(&store.snapshot(), &path).row_group_rows(64).run().unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..60 {
        let mut damaged = bytes.clone();
        match round % 2 {
            0 => damaged.truncate(random.usize(0..bytes.len())),
            _ => damaged[random.usize(0..bytes.len())] ^= 1 << random.u32(0..8),
        }
        let dir = tempfile::tempdir().unwrap();
        let copy = open(&dir, "copy");
        let source = dir.path().join("b.parquet");
        fs::write(&source, &damaged).unwrap();
        // Whatever comes of it, it is no panic, and what is in the table is what is told.
        let landed =
            match Import::parquet(&copy, &source, Mapping::by_name(copy.columns())).batch_rows(30).run() {
                Ok(imported) => imported.rows,
                Err(crate::import::ImportError::Stopped { rows, .. }) => rows,
                Err(_) => 0,
            };
        assert_eq!(copy.stats().events, landed, "round {round}");
    }
}

#[test]
fn an_export_that_is_asked_to_stop_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "calls");
    fill(&store, 3, 100);
    let snapshot = store.snapshot();
    let (file, by_day) = (dir.path().join("a.parquet"), dir.path().join("days"));
    for export in [Export::file(&snapshot, &file), Export::by_day(&snapshot, &by_day)] {
        let refused = export.stop_if(|| true).run();
        assert!(matches!(refused, Err(ExportError::Interrupted)), "{refused:?}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["calls"]);
    let mut asked = 0;
    let count = || {
        asked += 1;
        false
    };
    assert!(Export::file(&snapshot, &file).stop_if(count).run().unwrap().rows > 0);
    assert!(asked > 0);
}
