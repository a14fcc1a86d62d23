//! `inspect_dir`: what the files of a table hold, seen from outside. Counts are compared with what was appended and with what the
//! engine says of itself; beside an engine at work, on damaged files, and where no table is.

#[expect(dead_code, reason = "it serves several tests, of which each uses a part")]
mod naive;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{
    DbError, Engine, EngineConfig, InspectedSection, Inspection, LogEvent, Options, RawReader, Schema, Store,
    TableSchema, inspect_dir,
};
use naive::files::{files_of, put};

type Db = Engine<2, 1, 1>;

const DIR: &str = "table";

fn options(disk: &Arc<MemoryDisk>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).merge_rows(0)
}

fn schema() -> TableSchema {
    TableSchema::new(1).dim("user").dim("session").counter("tokens").indexed_label("trace")
}

fn config() -> EngineConfig {
    EngineConfig {
        wal_shard_count: 1,
        schema_id: 1,
        bloom_dim: 1,
        rollup_dims: vec![0],
        ..EngineConfig::in_dir(DIR)
    }
}

fn open(disk: &Arc<MemoryDisk>) -> Db {
    Db::open_with(config(), options(disk).schema(schema())).unwrap()
}

fn event(row: u32) -> LogEvent<2, 1, 1> {
    LogEvent {
        id: format!("id-{row:05}"),
        ts_ns: i64::from(row) * 1000,
        metric: i64::from(row),
        counters: [row],
        latency_ms: row % 50,
        status: 200,
        dims: [["ann", "ben", "cleo"][row as usize % 3].to_owned(), format!("session {row}")],
        labels: [format!("trace {row} {}", "x".repeat(row as usize % 9))],
        ..LogEvent::default()
    }
}

fn append(db: &Db, rows: std::ops::Range<u32>) {
    db.append_batch(&rows.map(event).collect::<Vec<_>>()).unwrap();
}

/// Segments of 1000 and 500 rows, 30 rows in the log, and deletes in each of the three.
fn table(disk: &Arc<MemoryDisk>) -> Db {
    let db = open(disk);
    append(&db, 0..1000);
    db.flush().unwrap();
    append(&db, 1000..1500);
    db.flush().unwrap();
    append(&db, 1500..1520);
    append(&db, 1520..1530);
    db.delete_events(&["id-00003", "id-00999", "id-01200"]).unwrap();
    db.delete_event("id-01525").unwrap();
    db
}

fn inspect(disk: &Arc<MemoryDisk>) -> Inspection {
    inspect_dir(DIR, &options(disk)).unwrap()
}

fn section<'i>(inspection: &'i Inspection, segment: usize, name: &str) -> &'i InspectedSection {
    let contents = inspection.segments[segment].contents.as_ref().unwrap();
    contents.sections.iter().find(|section| section.name == name).unwrap()
}

#[test]
fn rows_bytes_and_columns_are_those_of_the_table() {
    let disk = Arc::new(MemoryDisk::default());
    let db = table(&disk);
    let table = inspect(&disk);
    assert!(table.engine_at_work && !table.closed);
    assert_eq!(table.schema, schema());
    assert_eq!(table.problems().count(), 0);
    let segments: Vec<_> = table.segments.iter().map(|segment| segment.contents.as_ref().unwrap()).collect();
    assert_eq!(
        segments.iter().map(|s| (s.rows, s.deleted_rows)).collect::<Vec<_>>(),
        [(1000, Some(2)), (500, Some(1))]
    );
    assert_eq!((segments[1].first_ts_ns, segments[1].last_ts_ns), (1_000_000, 1_499_000));
    assert_eq!(segments[0].last_sequence - segments[0].first_sequence, 999);
    assert_eq!(segments[0].last_sequence + 1, segments[1].first_sequence);
    assert_eq!(segments[0].generations.len(), 1);
    let files = files_of(disk.as_ref(), Path::new(DIR));
    for (listed, contents) in table.segments.iter().zip(&segments) {
        assert_eq!(listed.file_bytes, files[&listed.path].len() as u64);
        let sections: u64 = contents.sections.iter().map(|section| section.bytes).sum();
        assert_eq!(contents.header_bytes + sections, listed.file_bytes);
    }

    assert_eq!(table.logs.len(), 1);
    let log = &table.logs[0];
    assert_eq!(log.file_bytes, files[&log.path].len() as u64);
    let contents = log.contents.as_ref().unwrap();
    assert_eq!((contents.frames, contents.rows, contents.deleted_rows), (2, 30, Some(1)));
    let first = segments[1].last_sequence + 1;
    assert_eq!(contents.sequences, Some((first, first + 29)));
    assert!(contents.torn_bytes == 0 && !contents.closed && contents.used_bytes <= log.file_bytes);
    let tombstones = table.tombstones.as_ref().unwrap();
    let deleted = tombstones.contents.as_ref().unwrap();
    assert_eq!((tombstones.number, deleted.frames, deleted.entries, deleted.torn_bytes), (1, 2, 4, 0));
    assert_eq!(tombstones.file_bytes, files[&tombstones.path].len() as u64);

    // What the engine says itself.
    let space = db.space().unwrap();
    for of_all in &space.sections {
        let both = [0, 1].map(|segment| section(&table, segment, &of_all.name).contents.as_ref().unwrap());
        assert_eq!(
            both.iter().map(|s| s.columns_bytes).sum::<u64>(),
            of_all.columns_bytes,
            "{}",
            of_all.name
        );
        assert_eq!(both.iter().map(|s| s.index_bytes).sum::<u64>(), of_all.index_bytes, "{}", of_all.name);
    }
    db.close().unwrap();
    let closed = inspect(&disk);
    assert!(closed.closed && !closed.engine_at_work);
    assert_eq!(closed.logs[0].contents.as_ref().unwrap().rows, 30);
}

#[test]
fn sections_say_their_columns_encodings_and_what_they_save() {
    let disk = Arc::new(MemoryDisk::default());
    table(&disk).close().unwrap();
    let table = inspect(&disk);
    let of = |name: &str| {
        let section = section(&table, 0, name);
        let contents = section.contents.as_ref().unwrap();
        assert_eq!(contents.columns_bytes + contents.index_bytes, section.bytes);
        (section.kind.unwrap(), section.column.as_str(), contents.encoding.as_str(), contents.unencoded_bytes)
    };
    assert_eq!(of("time"), ("time", "ts_ns", "numbers: one base, residuals of 32 bits", Some(8000)));
    assert_eq!(
        of("latency"),
        ("latency", "latency_ms", "numbers: one base, residuals of 8 bits, running sums", Some(4000))
    );
    assert_eq!(of("flags"), ("flags", "flags", "numbers: one base, residuals of 0 bits", Some(2000)));
    let (kind, column, encoding, unencoded) = of("status");
    assert_eq!((kind, column, unencoded), ("status", "status", Some(2000)));
    assert!(
        encoding.starts_with("keys: 1 values, postings and sums; codes as numbers: one base"),
        "{encoding}"
    );
    // Texts with 4 bytes for the length of each.
    let user_bytes: usize = (0..1000).map(|row| event(row).dims[0].len() + 4).sum();
    let (kind, column, encoding, unencoded) = of("dim 0");
    assert_eq!((kind, column, unencoded), ("dim", "user", Some(user_bytes as u64)));
    assert!(encoding.starts_with("keys: 3 values, postings and sums"), "{encoding}");
    let session_bytes: usize = (0..1000).map(|row| event(row).dims[1].len() + 4).sum();
    let (_, column, encoding, unencoded) = of("dim 1");
    assert_eq!((column, unencoded), ("session", Some(session_bytes as u64)));
    assert!(encoding.starts_with("keys: 1000 values, no value index"), "{encoding}");
    assert_eq!(of("id"), ("id", "id", "texts: chunks, 4 packed and 0 plain", Some(1000 * 12)));
    let trace_bytes: usize = (0..1000).map(|row| event(row).labels[0].len() + 4).sum();
    assert_eq!(
        of("label 0"),
        ("label", "trace", "texts: chunks, 0 packed and 4 plain", Some(trace_bytes as u64))
    );
    assert_eq!(of("id index"), ("id index", "id", "text index: ascending, the texts are the index", None));
    assert_eq!(of("label index 0").1, "trace");
    assert_eq!(of("counter 0").1, "tokens");
    assert_eq!(of("bloom filter"), ("bloom filter", "session", "bloom filter: 20 blocks", None));
    assert_eq!(of("rollups"), ("rollups", "user", "rollups: 3 entries", None));
}

/// A label whose texts are long, so that they are compressed.
#[derive(Debug, Clone, Schema)]
#[keplordb(id = 2)]
struct Page {
    #[label]
    body: String,
}

#[test]
fn compressed_texts_say_how_long_they_were() {
    let disk = Arc::new(MemoryDisk::default());
    let store = Store::<Page>::open_with(EngineConfig::in_dir(DIR), options(&disk)).unwrap();
    let body = |row: usize| format!("page {row} ").repeat(if row == 7 { 5000 } else { 40 });
    for row in 0..50 {
        store.append(Page::new(row as i64).body(body(row))).unwrap();
    }
    store.flush().unwrap();
    let table = inspect(&disk);
    let label = section(&table, 0, "label 0");
    let contents = label.contents.as_ref().unwrap();
    assert_eq!(contents.unencoded_bytes, Some((0..50).map(|row| body(row).len() as u64 + 4).sum()));
    assert!(contents.encoding.ends_with("compressed and 0 as they are"), "{}", contents.encoding);
    assert!(label.bytes * 10 < contents.unencoded_bytes.unwrap());
}

#[test]
fn a_damaged_file_does_not_hide_the_others() {
    let disk = Arc::new(MemoryDisk::default());
    table(&disk).close().unwrap();
    let files = files_of(disk.as_ref(), Path::new(DIR));
    let sound = inspect(&disk);
    let damage = |path: &Path, at: usize| {
        let mut bytes = files[path].clone();
        bytes[at] ^= 0x40;
        put(disk.as_ref(), path, &bytes);
    };
    let paths: Vec<&Path> = sound.segments.iter().map(|segment| segment.path.as_path()).collect();

    // A section.
    let header_bytes = sound.segments[0].contents.as_ref().unwrap().header_bytes;
    damage(paths[0], usize::try_from(header_bytes).unwrap() + 70);
    let table = inspect(&disk);
    let problems: Vec<_> = table.problems().collect();
    let [DbError::Corrupt { file, offset, what }] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((file.as_path(), *offset), (paths[0], header_bytes));
    assert_eq!(what, "the section time does not have its checksum");
    assert!(section(&table, 0, "time").contents.is_err() && section(&table, 0, "id").contents.is_ok());
    assert_eq!(table.segments[0].contents.as_ref().unwrap().deleted_rows, Some(2));

    // The sequences: what is deleted cannot be counted.
    let sequences = header_bytes + section(&sound, 0, "time").bytes;
    damage(paths[0], usize::try_from(sequences).unwrap() + 70);
    assert_eq!(inspect(&disk).segments[0].contents.as_ref().unwrap().deleted_rows, None);

    // A header; then no file at all.
    damage(paths[0], 30);
    let table = inspect(&disk);
    assert!(
        matches!(&table.segments[0].contents, Err(DbError::Corrupt { file, .. }) if file == paths[0]),
        "{table:?}"
    );
    assert!(table.segments[1].contents.is_ok() && table.logs[0].contents.is_ok());
    disk.remove(paths[0]).unwrap();
    let table = inspect(&disk);
    assert!(matches!(&table.segments[0].contents, Err(DbError::Missing { file }) if file == paths[0]));
    assert_eq!(table.problems().count(), 1);
    put(disk.as_ref(), paths[0], &files[paths[0]]);

    // A log that was closed: its manifest knows how long it was.
    let log = &sound.logs[0].path;
    damage(log, files[log].len() - 40);
    let table = inspect(&disk);
    assert!(
        matches!(&table.logs[0].contents, Err(DbError::Corrupt { file, .. }) if file == log),
        "{table:?}"
    );
    put(disk.as_ref(), log, &files[log]);

    // The tombstones: nobody knows how many rows are deleted.
    let tombstones = &sound.tombstones.as_ref().unwrap().path;
    damage(tombstones, 60);
    let table = inspect(&disk);
    assert!(table.tombstones.as_ref().unwrap().contents.is_err());
    let segment = table.segments[0].contents.as_ref().unwrap();
    assert_eq!((segment.rows, segment.deleted_rows), (1000, None));
    assert_eq!(table.logs[0].contents.as_ref().unwrap().deleted_rows, None);
    put(disk.as_ref(), tombstones, &files[tombstones]);

    // The manifest: nobody knows which files count.
    let manifest = Path::new(DIR).join("MANIFEST");
    damage(&manifest, 40);
    let refused = inspect_dir(DIR, &options(&disk));
    assert!(matches!(&refused, Err(DbError::Corrupt { file, .. }) if *file == manifest), "{refused:?}");
}

#[test]
fn a_torn_log_is_no_damage() {
    let disk = Arc::new(MemoryDisk::default());
    let db = table(&disk);
    // As a killed process leaves it: the table is copied while it is open, and the log ends in half a frame.
    let files = files_of(disk.as_ref(), Path::new(DIR));
    let used = inspect(&disk).logs[0].contents.as_ref().unwrap().used_bytes;
    db.close().unwrap();
    let crashed = Arc::new(MemoryDisk::default());
    for (path, bytes) in &files {
        let mut bytes = bytes.clone();
        if path.extension().is_some_and(|kind| kind == "kwal") {
            bytes.truncate(usize::try_from(used).unwrap());
            bytes.extend([7; 50]);
        }
        put(crashed.as_ref(), path, &bytes);
    }
    let table = inspect(&crashed);
    let log = table.logs[0].contents.as_ref().unwrap();
    assert_eq!((log.used_bytes, log.torn_bytes, log.rows), (used, 50, 30));
    assert_eq!(table.problems().count(), 0);
}

#[test]
fn where_no_table_is_the_error_says_so_as_a_reader_does() {
    let disk = Arc::new(MemoryDisk::default());
    let nowhere = |disk: &Arc<MemoryDisk>| {
        let error = inspect_dir(DIR, &options(disk)).unwrap_err();
        let of_reader = RawReader::<2, 1, 1>::open_with(config(), options(disk)).unwrap_err();
        assert_eq!(error.to_string(), of_reader.to_string());
        assert!(matches!(&error, DbError::Missing { file } if file.ends_with("MANIFEST")), "{error:?}");
    };
    nowhere(&disk);
    disk.create_dir(Path::new(DIR)).unwrap();
    nowhere(&disk);
    put(disk.as_ref(), &Path::new(DIR).join("notes.txt"), b"not of a table");
    nowhere(&disk);
}

/// Stops a thread when its test ends, be it by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever inspects beside an engine sees every row once, whatever moves meanwhile.
#[test]
fn beside_an_engine_at_work_each_row_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig { wal_max_events: 200, data_dir: dir.path().join("table"), ..config() };
    let options = Options::default().schema(schema()).unlink_grace(Duration::ZERO).merge_rows(2000);
    let db = Db::open_with(config.clone(), options.clone()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut next = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                append(&db, next..next + 10);
                if next.is_multiple_of(50) {
                    db.delete_event(&format!("id-{next:05}")).unwrap();
                }
                next += 10;
                // A rotation every 20 ms at most: who looks must come to an end between two.
                std::thread::sleep(Duration::from_millis(1));
            }
            next
        });
        let stopping = Stop(&stop);
        let began = Instant::now();
        let mut looks = 0;
        while began.elapsed() < Duration::from_secs(2) {
            let table = inspect_dir(&config.data_dir, &options).unwrap();
            assert_eq!(table.problems().count(), 0, "{:?}", table.problems().collect::<Vec<_>>());
            let segments = table.segments.iter().map(|segment| segment.contents.as_ref().unwrap());
            let in_segments = segments.map(|contents| (contents.rows, contents.deleted_rows.unwrap()));
            let logs = table.logs.iter().map(|log| log.contents.as_ref().unwrap());
            let in_logs = logs.map(|contents| (contents.rows, contents.deleted_rows.unwrap()));
            let (rows, deleted) = in_segments.chain(in_logs).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            // One thread, one shard: sequences are dense from 1 on, and merges took no more off the disk than one row in 50.
            let of_logs = table.logs.iter().filter_map(|log| log.contents.as_ref().ok()?.sequences);
            let of_segments = table.segments.iter().map(|segment| segment.contents.as_ref().unwrap());
            let last =
                of_logs.map(|(_, last)| last).chain(of_segments.map(|s| s.last_sequence)).max().unwrap_or(0);
            assert!(rows <= last && rows + last / 50 + 1 >= last, "{rows} rows up to sequence {last}");
            assert!(deleted <= last / 50 + 1 && table.engine_at_work);
            looks += 1;
        }
        drop(stopping);
        let appended = u64::from(worker.join().unwrap());
        assert!(looks > 3, "{looks} looks beside {appended} rows");
        let table = inspect_dir(&config.data_dir, &options).unwrap();
        assert!(table.segments.len() > 1 || appended < 1000);
    });
    db.close().unwrap();
}

/// Columns are named by the table, not by the segment.
#[test]
fn columns_that_a_segment_only_counts_have_the_names_of_the_table() {
    let disk = Arc::new(MemoryDisk::default());
    let counted = Engine::<0, 0, 1>::open_with(
        EngineConfig { schema_id: 2, ..EngineConfig::in_dir(DIR) },
        options(&disk),
    );
    let counted = counted.unwrap();
    counted.append(&LogEvent { labels: ["a page".to_owned()], ..LogEvent::default() }).unwrap();
    counted.flush().unwrap();
    counted.close().unwrap();
    assert_eq!(section(&inspect(&disk), 0, "label 0").column, "label_0");
    let named = Store::<Page>::open_with(EngineConfig::in_dir(DIR), options(&disk)).unwrap();
    named.append(Page::new(1).body("another".to_owned())).unwrap();
    named.flush().unwrap();
    named.close().unwrap();
    assert_eq!(section(&inspect(&disk), 0, "label 0").column, "body");
}
