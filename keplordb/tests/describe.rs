//! `describe_file`: what every byte of a file is. Files of real tables, of all kinds and encodings, whole, flipped byte by byte, cut
//! at each length and overwritten at random: spans follow each other from the first byte to the last, say what was written,
//! and say where it is damaged.

#[expect(dead_code, reason = "it serves several tests, of which each uses a part")]
mod naive;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keplordb::any::{AnyEvent, AnyStore};
use keplordb::disk::{Disk, MemoryDisk, RealDisk};
use keplordb::{
    DbError, Description, Engine, EngineConfig, FileKind, LogEvent, Options, Span, TableSchema, describe_file,
};
use naive::files::{Files, disk_of, files_of, only, put};
use proptest::prelude::*;

const START_NS: i64 = 1_700_000_000_000_000_000;

/// Replaced files go at once.
fn options(disk: &Arc<MemoryDisk>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).unlink_grace(Duration::ZERO)
}

fn open(disk: &Arc<MemoryDisk>, path: &Path) -> Description {
    describe_file(path, &options(disk)).unwrap()
}

/// The spans of a file, which cover it.
fn spans(description: &Description) -> Vec<Span> {
    let spans = description.spans().unwrap();
    let mut end = 0;
    for span in &spans {
        assert!(span.offset == end && span.bytes > 0, "{span:?} does not begin at {end}");
        end += span.bytes;
    }
    assert_eq!(end, description.bytes(), "{:?}", description.path());
    spans
}

fn spans_of(disk: &Arc<MemoryDisk>, path: &Path) -> Vec<Span> {
    spans(&open(disk, path))
}

/// The spans of a file of a sound table: nothing is wrong, and nothing unknown.
fn sound_spans(disk: &Arc<MemoryDisk>, path: &Path) -> Vec<Span> {
    let spans = spans_of(disk, path);
    for span in &spans {
        assert!(span.problem.is_none() && !span.name.contains("not understood"), "{path:?}: {span:?}");
        assert!(!span.value.contains("unknown"), "{path:?}: {span:?}");
    }
    spans
}

/// Offset, bytes and value of the first span of a name.
fn value<'s>(spans: &'s [Span], name: &str) -> (u64, u64, &'s str) {
    let span = spans.iter().find(|span| span.name == name);
    let span = span
        .unwrap_or_else(|| panic!("no {name} in {:#?}", spans.iter().map(|s| &s.name).collect::<Vec<_>>()));
    (span.offset, span.bytes, &span.value)
}

fn is_described(path: &Path) -> bool {
    !path.ends_with("MANIFEST.spare")
}

/// A table with every kind of section: rows in a segment, rows that are not, and deletes.
fn table() -> Arc<MemoryDisk> {
    let disk = Arc::new(MemoryDisk::default());
    let schema =
        TableSchema::new(3).dim("user").dim("model").counter("tokens").label("prompt").indexed_label("trace");
    let config = EngineConfig {
        wal_shard_count: 1,
        bloom_dim: 0,
        rollup_dims: vec![1],
        ..EngineConfig::in_dir("table")
    };
    let store = AnyStore::open_with(config, options(&disk).schema(schema)).unwrap();
    let event = |row: u32| -> AnyEvent {
        let prompt = format!("a prompt of {row} ").repeat(30);
        let trace = if row.is_multiple_of(3) { String::new() } else { format!("t{row}") };
        let event = store.event(START_NS + i64::from(row) * 1000);
        let event = event.set("id", format!("id-{row:04}").as_str()).unwrap();
        let event = event.set("user", format!("user {row}").as_str()).unwrap();
        let event = event.set("model", ["small", "große"][row as usize % 2]).unwrap();
        let event = event.set("prompt", prompt.as_str()).unwrap();
        let event = event.set("trace", trace.as_str()).unwrap();
        event.set("tokens", i64::from(row * row)).unwrap()
    };
    store.append_batch((0..20).map(event)).unwrap();
    store.flush().unwrap();
    store.append_batch((20..23).map(event)).unwrap();
    store.append(event(23)).unwrap();
    store.delete(&["id-0003", "id-0021"]).unwrap();
    store.delete(&["id-0004"]).unwrap();
    store.close().unwrap();
    disk
}

fn files(disk: &Arc<MemoryDisk>) -> Files {
    files_of(disk.as_ref(), Path::new("table"))
}

#[test]
fn every_byte_of_a_sound_table_is_described_once() {
    let disk = table();
    let files = files(&disk);
    let mut kinds = Vec::new();
    for path in files.keys().filter(|path| is_described(path)) {
        sound_spans(&disk, path);
        kinds.push(open(&disk, path).kind());
    }
    assert_eq!(kinds, [FileKind::Manifest, FileKind::Segment, FileKind::Tombstones, FileKind::Wal]);

    let segment = sound_spans(&disk, &only(&files, ".kseg"));
    for section in [
        "time",
        "sequence",
        "metric",
        "latency",
        "latency detail",
        "flags",
        "status",
        "counter 0 (tokens)",
        "dim 0 (user)",
        "dim 1 (model)",
        "id",
        "id index",
        "label 0 (prompt)",
        "label 1 (trace)",
        "label index 1 (trace)",
        "bloom filter",
        "rollups",
    ] {
        let group = format!("{section} / ");
        assert!(segment.iter().any(|span| span.name.starts_with(&group)), "no {section}");
    }
}

#[test]
fn the_files_of_the_frozen_format_are_described() {
    // Of every kind and encoding, as the release wrote them that froze the format.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
    let real = files_of(&RealDisk, &dir);
    let in_memory = |path: &Path| Path::new("v1").join(path.strip_prefix(&dir).unwrap());
    let below: Files = real.iter().map(|(path, bytes)| (in_memory(path), bytes.clone())).collect();
    assert!(below.len() >= 6, "{:?}", below.keys());
    let disk = disk_of(&below);
    for path in below.keys().filter(|path| is_described(path)) {
        sound_spans(&disk, path);
    }
    let first = sound_spans(&disk, Path::new("v1/segments/0000000000000001.kseg"));
    let words = |name: &str| value(&first, name).2.to_owned();
    assert_eq!(words("segment header / rows"), "1300");
    assert_eq!(
        words("segment header / smallest time"),
        format!("{START_NS}, 2023-11-14T22:13:20.000000000Z")
    );
    assert_eq!(words("segment header / dim of the bloom filter"), "0");
    assert_eq!(words("segment header / schema / schema id"), "7");
    assert_eq!(words("dim 0 (service) / value index"), "3, postings and sums");
    assert_eq!(words("dim 1 (session) / value index"), "2, postings");
    assert_eq!(words("dim 2 (trace) / value index"), "1, none");
    // Each size of lists, in one column.
    assert!(words("dim 0 (service) / postings").ends_with("5 bitmaps, 2 short and 0 long lists of rows"));
    assert!(words("dim 0 (service) / texts").starts_with("7 texts, the first \"\", the last \"search\""));
    assert_eq!(words("counter 1 (replicas) / width of all chunks"), "1, nothing");
    assert_eq!(words("label 0 (digest) / chunk 0 / form"), "3, packed");
    assert_eq!(words("label 1 (body) / form of the section"), "2, blocks");
    assert!(words("label 1 (body) / block 0 / zstd frame").starts_with("rows 0 to "));
    assert_eq!(words("label index 0 (digest) / form"), "1, hash");
    let wal = sound_spans(&disk, Path::new("v1/wal/0000000000000003.kwal"));
    assert_eq!(value(&wal, "WAL header / generation").2, "3");
    assert_eq!(value(&wal, "WAL header / schema / dim name").2, "\"service\"");
}

#[test]
fn values_are_those_that_were_written() {
    let disk = table();
    let files = files(&disk);
    let segment = sound_spans(&disk, &only(&files, ".kseg"));
    // Places and lengths are those of docs/format.md.
    assert_eq!(value(&segment, "segment header / magic"), (0, 8, r"\x89KSEG\r\n\x1a"));
    assert_eq!(value(&segment, "segment header / format version"), (8, 4, "1"));
    assert_eq!(
        value(&segment, "segment header / file bytes").2,
        files[&only(&files, ".kseg")].len().to_string()
    );
    assert_eq!(value(&segment, "segment header / rows"), (28, 4, "20"));
    assert_eq!(
        value(&segment, "segment header / smallest time"),
        (32, 8, "1700000000000000000, 2023-11-14T22:13:20.000000000Z")
    );
    assert_eq!(value(&segment, "segment header / smallest sequence").0, 48);
    assert_eq!(value(&segment, "segment header / smallest status"), (64, 2, "0"));
    assert_eq!(value(&segment, "segment header / zero"), (70, 2, "zeros"));
    assert_eq!(value(&segment, "segment header / schema / schema id"), (72, 1, "3"));
    assert_eq!(value(&segment, "segment header / schema / schema naming"), (73, 1, "1, columns are named"));
    assert_eq!(value(&segment, "segment header / schema / length"), (80, 2, "4"));
    assert_eq!(value(&segment, "segment header / schema / dim name"), (82, 4, "\"user\""));
    let tokens: u32 = (0..20).map(|row| row * row).sum();
    assert_eq!(value(&segment, "segment header / total of counter 0 / sum").2, tokens.to_string());
    assert_eq!(value(&segment, "segment header / total of counter 0 / largest").2, "361");
    assert_eq!(value(&segment, "segment header / WAL generations").2, "1 × u64");
    assert_eq!(value(&segment, "segment header / rollup dims").2, "1 × u16");
    assert_eq!(value(&segment, "segment header / sections[0] / section kind").2, "1, time");
    assert_eq!(value(&segment, "segment header / sections[9] / section kind").2, "9, dim");
    assert_eq!(value(&segment, "dim 0 (user) / values").2, "20");
    assert_eq!(
        value(&segment, "dim 1 (model) / texts").2,
        "2 texts, the first \"große\", the last \"small\""
    );
    assert_eq!(value(&segment, "dim 1 (model) / codes / rows").2, "20");
    assert_eq!(value(&segment, "time / rows").2, "20");
    assert_eq!(value(&segment, "metric / running sums").2, "2, present");
    assert_eq!(value(&segment, "id / chunk 0 / template").2, r"id-00\x80\x80");
    assert_eq!(value(&segment, "id index / form").2, "2, ascending: the texts are the index");
    assert_eq!(value(&segment, "id index / smallest text").2, "\"id-0000\"");
    assert_eq!(value(&segment, "label index 1 (trace) / entries").2, "13");
    assert_eq!(value(&segment, "bloom filter / blocks").2, "1 × block of 512 bits");
    assert_eq!(value(&segment, "rollups / entries").2, "2");

    let manifest = sound_spans(&disk, &only(&files, "MANIFEST"));
    assert_eq!(value(&manifest, "manifest / magic").0, 0);
    assert_eq!(value(&manifest, "manifest / schema / schema id"), (24, 1, "3"));
    assert_eq!(value(&manifest, "manifest / closed").2, "1, by a clean close");
    assert_eq!(value(&manifest, "manifest / segments[0] / number").2, "1");
    assert_eq!(
        value(&manifest, "manifest / segments[0] / file bytes").2,
        files[&only(&files, ".kseg")].len().to_string()
    );
    assert_eq!(value(&manifest, "manifest / tombstone log").2, "1");

    let wal = sound_spans(&disk, &only(&files, ".kwal"));
    assert_eq!(value(&wal, "WAL header / shard").2, "0");
    assert_eq!(value(&wal, "frame 0 / rows").2, "3");
    assert_eq!(value(&wal, "frame 1 / rows").2, "1");
    assert_eq!(
        value(&wal, "frame 0 / payload / times").2,
        "3 × i64, the first 2023-11-14T22:13:20.000020000Z, the last 2023-11-14T22:13:20.000022000Z"
    );
    assert_eq!(value(&wal, "frame 0 / payload / dim 0 / texts").2, "\"user 20user 21user 22\"");
    assert_eq!(value(&wal, "frame 0 / payload / counter 0 / counters").2, "3 × u32");

    let tombstones = sound_spans(&disk, &only(&files, "tombstones.0000000000000001"));
    let of_frames: Vec<&str> = tombstones
        .iter()
        .filter(|span| span.name.ends_with("payload / tombstones"))
        .map(|span| span.value.as_str())
        .collect();
    assert_eq!(of_frames.len(), 2, "one frame for each call");
    assert_eq!(of_frames[0], "2 × { time i64 | sequence u64 }");
    assert!(
        of_frames[1]
            .starts_with("1 × { time i64 | sequence u64 }, 2023-11-14T22:13:20.000004000Z, sequence ")
    );

    let description = open(&disk, &only(&files, ".kseg"));
    assert_eq!(description.read(28, 4).unwrap(), 20_u32.to_le_bytes());
    assert_eq!(description.read(description.bytes() - 1, 9).unwrap().len(), 1);
    assert!(description.read(u64::MAX, 9).unwrap().is_empty());
}

#[test]
fn tables_of_any_shape_are_described() {
    fn flushed<const D: usize, const C: usize, const L: usize>(rows: u32) {
        let disk = Arc::new(MemoryDisk::default());
        let config = EngineConfig { wal_shard_count: 2, ..EngineConfig::in_dir("table") };
        // Sealed logs stay for a while.
        let options = options(&disk).unlink_grace(Duration::from_secs(600));
        let engine = Engine::<D, C, L>::open_with(config, options).unwrap();
        let event = |row: u32| LogEvent {
            id: if row % 2 == 0 { String::new() } else { format!("{}-{row}", row % 7) },
            ts_ns: i64::from(row) * i64::from(row) * 1_000_000_007 - 5,
            metric: (i64::MAX / 3).wrapping_mul(i64::from(row) - 300),
            counters: std::array::from_fn(|_| row * 70_000),
            latency_ms: row % 9,
            status: u16::try_from(row % 600).unwrap(),
            dims: std::array::from_fn(|dim| format!("{}", row as usize % (3 + 100 * dim))),
            labels: std::array::from_fn(|label| "long ".repeat(label * 20 + row as usize % 5)),
            ..LogEvent::default()
        };
        for part in 0..2 {
            engine.append_batch(&(part * rows..(part + 1) * rows).map(event).collect::<Vec<_>>()).unwrap();
            engine.flush().unwrap();
        }
        engine.append(&event(1)).unwrap();
        // The engine is at work: the log is not closed.
        let files = files(&disk);
        assert!(files.len() >= 4);
        let mut closing_frames = 0;
        for path in files.keys().filter(|path| is_described(path)) {
            let spans = sound_spans(&disk, path);
            closing_frames += spans.iter().filter(|span| span.name == "closing frame / first").count();
        }
        assert_eq!(closing_frames, 2, "{:?}", files.keys());
    }
    flushed::<0, 0, 0>(1);
    flushed::<1, 2, 0>(700);
    flushed::<3, 0, 2>(257);
    flushed::<2, 5, 1>(256);
}

/// Damage that is described: all bytes are covered, and something is said to be wrong.
fn assert_told(disk: &Arc<MemoryDisk>, path: &Path, how: &str) {
    let spans = spans_of(disk, path);
    assert!(spans.iter().any(|span| span.problem.is_some()), "{path:?} {how}: nothing was found wrong");
}

#[test]
fn every_flipped_byte_is_covered_and_told() {
    let disk = table();
    for (path, bytes) in files(&disk).iter().filter(|(path, _)| is_described(path)) {
        assert!(bytes.len() < 20_000, "{path:?} has {} bytes: too many to flip each", bytes.len());
        for at in 0..bytes.len() {
            for flip in [0x01, 0xFF] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                put(disk.as_ref(), path, &flipped);
                assert_told(&disk, path, &format!("with byte {at} changed by {flip}"));
            }
        }
        put(disk.as_ref(), path, bytes);
    }
}

#[test]
fn every_cut_is_covered() {
    let disk = table();
    for (path, bytes) in files(&disk).iter().filter(|(path, _)| is_described(path)) {
        for length in 0..bytes.len() {
            put(disk.as_ref(), path, &bytes[..length]);
            // A log may end behind any of its frames, and so may one of which only zeros were cut.
            let is_log = matches!(open(&disk, path).kind(), FileKind::Wal | FileKind::Tombstones);
            if is_log || length == 0 {
                spans_of(&disk, path);
            } else {
                assert_told(&disk, path, &format!("cut to {length} bytes"));
            }
        }
        put(disk.as_ref(), path, bytes);
    }
}

#[test]
fn a_damaged_section_does_not_hide_the_others() {
    let disk = table();
    let files = files(&disk);
    let path = only(&files, ".kseg");
    let sound = sound_spans(&disk, &path);
    let (at, _, _) = value(&sound, "dim 1 (model) / texts");
    let mut damaged = files[&path].clone();
    // The first byte of the second text, so that they no longer ascend.
    damaged[usize::try_from(at).unwrap() + "große".len()] ^= 0x40;
    put(disk.as_ref(), &path, &damaged);
    let told = spans_of(&disk, &path);
    let problems: Vec<(&str, &str)> =
        told.iter().filter_map(|span| Some((span.name.as_str(), span.problem.as_deref()?))).collect();
    assert_eq!(problems[0].0, "dim 1 (model) / values", "{problems:?}");
    assert!(problems[0].1.contains("the section dim 1 does not have its checksum"), "{problems:?}");
    // And where its structure says it itself.
    assert_eq!(problems[1].0, "dim 1 (model) / texts", "{problems:?}");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(told.len(), sound.len());
}

#[test]
fn damage_of_a_log_is_told_from_a_torn_end_and_the_frames_behind_it_are_described() {
    let disk = table();
    let files = files(&disk);
    let path = only(&files, ".kwal");
    let sound = sound_spans(&disk, &path);
    let at = |name: &str| usize::try_from(value(&sound, name).0).unwrap();
    let payload = at("frame 0 / payload / metrics");
    let damage = |bytes: &[u8], at: usize| {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x40;
        put(disk.as_ref(), &path, &damaged);
        spans_of(&disk, &path)
    };
    let told = damage(&files[&path], payload);
    // The header of the frame is whole, so its length is believed.
    assert_eq!(value(&told, "bad frame 0 / rows").2, "3");
    let wrong = told.iter().find(|span| span.problem.is_some()).unwrap();
    assert_eq!(wrong.name, "bad frame 0 / not understood");
    let problem = wrong.problem.as_deref().unwrap();
    assert!(problem.starts_with("a payload's checksum does not hold"), "{problem}");
    assert_eq!(value(&told, "frame 1 / rows").2, "1");

    // A header that is damaged says nothing of its frame; the next one is found.
    let told = damage(&files[&path], at("frame 0 / first"));
    assert!(told.iter().any(|span| span.name == "bad frame 0 / not understood"));
    assert_eq!(value(&told, "frame 1 / rows").2, "1");

    // The last frame, of which nothing says that it was synced.
    let told = damage(&files[&path], at("frame 1 / payload / metrics"));
    let problem = told.iter().find_map(|span| span.problem.as_deref()).unwrap();
    assert!(problem.contains("nothing here says that it was synced"), "{problem}");
}

#[test]
fn other_versions_and_other_files_are_not_guessed_at() {
    let disk = table();
    let files = files(&disk);
    for (path, bytes) in files.iter().filter(|(path, _)| is_described(path)) {
        let mut newer = bytes.clone();
        newer[8] = 9;
        put(disk.as_ref(), path, &newer);
        let told = spans_of(&disk, path);
        assert_eq!(told[1].problem.as_deref(), Some("this release reads versions 1 to 1"));
        assert!(told[2..].iter().all(|span| span.name.ends_with("not understood")), "{told:?}");
        assert!((3..=4).contains(&told.len()), "{told:?}");
    }
    let (path, bytes) = (only(&files, ".kseg"), &files[&only(&files, ".kseg")]);
    // Known by its name although its first byte is damaged, also where it was set aside.
    let mut damaged = bytes.clone();
    damaged[0] = 0;
    for name in ["0000000000000001.kseg", "0000000000000001.kseg.1"] {
        let path = Path::new("table/quarantine").join(name);
        put(disk.as_ref(), &path, &damaged);
        let told = spans_of(&disk, &path);
        assert_eq!(value(&told, "segment header / rows").2, "20");
        assert!(told[0].problem.is_some(), "{:?}", told[0]);
    }
    // And by its first bytes under another name.
    put(disk.as_ref(), Path::new("copy"), bytes);
    assert_eq!(open(&disk, Path::new("copy")).kind(), FileKind::Segment);
    sound_spans(&disk, Path::new("copy"));
    put(disk.as_ref(), Path::new("notes"), b"not of a table");
    let notes = open(&disk, Path::new("notes"));
    assert_eq!((notes.kind(), spans(&notes).len()), (FileKind::Unknown, 1));
    put(disk.as_ref(), Path::new("nothing"), b"");
    assert!(spans_of(&disk, Path::new("nothing")).is_empty());
    let missing = describe_file("table/segments/nowhere.kseg", &options(&disk));
    assert!(matches!(missing, Err(DbError::Missing { .. })), "{missing:?}");

    // A file that becomes shorter under the one who describes it.
    put(disk.as_ref(), &path, bytes);
    let description = open(&disk, &path);
    disk.open(&path).unwrap().truncate(100).unwrap();
    assert!(spans(&description).iter().any(|span| span.problem.is_some()));
}

#[test]
fn whoever_has_seen_enough_is_told_no_more() {
    let disk = table();
    let description = open(&disk, &only(&files(&disk), ".kseg"));
    let mut seen = 0;
    description
        .each(|span| {
            seen += 1;
            if span.name.ends_with("rows") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Not single bytes, but whole numbers: lengths, counts and offsets that are far off, several at once.
    #[test]
    fn random_damage_is_covered(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), prop_oneof![Just(u64::MAX), Just(0), any::<u64>()], 1..9_usize),
            1..6,
        ),
    ) {
        let disk = table();
        let files = files(&disk);
        let described: Vec<_> = files.iter().filter(|(path, _)| is_described(path)).collect();
        let (path, bytes) = which.get(&described);
        let mut damaged = (*bytes).clone();
        for (at, value, bytes_changed) in changes {
            let at = at.index(damaged.len());
            let end = damaged.len().min(at + bytes_changed);
            damaged[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        put(disk.as_ref(), path, &damaged);
        spans_of(&disk, path);
    }
}
