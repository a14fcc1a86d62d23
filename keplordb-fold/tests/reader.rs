//! What a reader makes of files that others wrote: by hand, by a shell, by programs that know only of `app.jsonl` and of streamed
//! zstd frames. Every file here is written with plain file I/O.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use keplordb_disk::{Disk, RealDisk, read_all, replace};
use keplordb_fold::{Event, EventReader, FoldError, Position, Update, WaitResult, line_hash};
use serde_json::json;
use tempfile::TempDir;

const LINE: &str = r#"{"type":"a","data":{"key":"value"},"ts":1000}"#;

fn line(n: usize) -> String {
    format!("{{\"type\":\"t{}\",\"data\":{n},\"ts\":{}}}", n % 3, 1000 + n)
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| line(n) + "\n").collect()
}

fn with_log(text: &str) -> (TempDir, EventReader) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("app.jsonl"), text.as_bytes());
    let reader = EventReader::new(dir.path());
    (dir, reader)
}

fn write(path: &Path, bytes: &[u8]) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn put(path: &Path, bytes: &[u8]) {
    RealDisk.open(path).unwrap().write_at(bytes, 0).unwrap();
}

/// As a program rotates that streams into its encoder: a frame without length and checksum.
fn rotate(dir: &Path) {
    let log = dir.join("app.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    write(&dir.join("archive.jsonl.zst"), &zstd::stream::encode_all(text.as_bytes(), 3).unwrap());
    OpenOptions::new().write(true).truncate(true).open(&log).unwrap();
}

fn numbers(reader: &EventReader) -> Vec<u64> {
    reader.read_full().unwrap().map(|item| item.unwrap().0.data.as_u64().unwrap()).collect()
}

fn kind_of<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("it fails").kind()
}

#[test]
fn offsets_are_exact_whatever_ends_a_line() {
    for (newline, ends) in [("\n", [46, 92, 138]), ("\r\n", [47, 94, 141])] {
        let (_dir, reader) = with_log(&[LINE, newline].concat().repeat(3));
        let items: Vec<_> = reader.read_from(0).unwrap().map(Result::unwrap).collect();
        assert_eq!(items.iter().map(|item| item.1).collect::<Vec<_>>(), ends);
        for (n, (event, end, hash)) in items.iter().enumerate() {
            assert_eq!(event, &Event { ts: 1000, ..Event::new("a", json!({"key": "value"})) });
            assert_eq!(*hash, line_hash(LINE.as_bytes()));
            assert_eq!(reader.read_line_hash_before(*end).unwrap().as_ref(), Some(hash));
            assert_eq!(reader.read_line_hash_before(end - 1).unwrap(), None);
            assert_eq!(reader.read_from(*end).unwrap().count(), 2 - n);
        }
        assert_eq!(reader.read_line_hash_before(ends[2] + 1).unwrap(), None);
        assert_eq!(reader.read_from(ends[2]).unwrap().count(), 0);
        assert_eq!(reader.read_from(u64::MAX).unwrap().count(), 0);
        assert_eq!(reader.read_line_hash_before(u64::MAX).unwrap(), None);
    }
}

#[test]
fn a_line_of_any_length_has_a_hash() {
    for bytes in [100, 8_190, 8_192, 9_000, 70_000, 3 << 20] {
        let long = format!("{{\"type\":\"a\",\"data\":\"{}\",\"ts\":1}}", "x".repeat(bytes));
        let (_dir, reader) = with_log(&format!("{LINE}\n{long}\n"));
        let last = reader.read_from(46).unwrap().next().unwrap().unwrap();
        assert_eq!(last.2, line_hash(long.as_bytes()));
        assert_eq!(reader.read_line_hash_before(last.1).unwrap(), Some(last.2));
    }
}

#[test]
fn empty_lines_are_passed_over_and_counted() {
    let (_dir, reader) = with_log(&format!("\n\r\n{LINE}\n\n\n{LINE}\n\n"));
    let ends: Vec<_> = reader.read_from(0).unwrap().map(|item| item.unwrap().1).collect();
    assert_eq!(ends, [49, 97]);
    assert_eq!(reader.len().unwrap(), 2);
    assert!(reader.has_new_events(49).unwrap());
    assert!(!reader.has_new_events(97).unwrap(), "an empty line is no event");
}

#[test]
fn a_bad_line_is_one_error_and_moves_nothing() {
    let (dir, reader) = with_log(&format!("{LINE}\nno event\n{{\"type\":\"a\",\"ts\":1}}\n{LINE}\n"));
    let items: Vec<_> = reader.read_from(0).unwrap().collect();
    assert_eq!(items.len(), 4);
    for (n, (at, what)) in [(1, (46, "expected ident")), (2, (55, "missing field `data`"))] {
        let error = items[n].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains("app.jsonl") && text.contains(&format!("byte {at}")),
            "{text}"
        );
        let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<FoldError>());
        assert!(matches!(inside, Some(FoldError::BadLine { generation: 0, offset, .. }) if *offset == at));
    }
    assert_eq!(items[3].as_ref().unwrap().1, fs::metadata(dir.path().join("app.jsonl")).unwrap().len());
    assert_eq!(reader.len().unwrap(), 4, "it has a number all the same");
    assert_eq!(reader.read_seq(3).unwrap().next().unwrap().unwrap().1, 3);

    // In the archive it is told so.
    rotate(dir.path());
    let error = reader.read_full().unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("archive.jsonl.zst"), "{error}");
    assert_eq!(reader.read_full().unwrap().flatten().count(), 2);
}

#[test]
fn a_torn_tail_is_not_there() {
    for tail in ["{\"type\":\"a\",\"da", LINE, "\u{fffd}", "#"] {
        let (_dir, reader) = with_log(&format!("{LINE}\n{tail}"));
        assert_eq!(reader.read_from(0).unwrap().map(Result::unwrap).count(), 1);
        assert_eq!(reader.read_full().unwrap().map(Result::unwrap).count(), 1);
        assert_eq!(reader.read_from(46).unwrap().count(), 0);
        assert!(!reader.has_new_events(46).unwrap());
        assert_eq!(reader.end_position().unwrap(), Position { generation: 0, offset: 46 });
        assert_eq!(reader.wait_for_events(46, Duration::from_millis(20)).unwrap(), WaitResult::Timeout);
        assert_eq!(reader.wait_for_events(0, Duration::ZERO).unwrap(), WaitResult::NewData(46));
    }
    let (_dir, reader) = with_log("{\"type\":");
    assert_eq!(reader.read_from(0).unwrap().count(), 0);
    assert!(reader.is_empty().unwrap());
}

#[test]
fn what_is_read_ends_where_the_log_ended() {
    let (dir, reader) = with_log(&lines(0..3));
    let mut events = reader.read_from(0).unwrap();
    let mut all = reader.read_full().unwrap();
    events.next().unwrap().unwrap();
    write(&dir.path().join("app.jsonl"), lines(3..5).as_bytes());
    // An iterator outlives its reader.
    drop(reader);
    assert_eq!(events.map(Result::unwrap).count(), 2);
    assert_eq!(all.by_ref().map(Result::unwrap).count(), 3);
    assert!(all.next().is_none());
}

#[test]
fn without_a_log_every_call_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let reader = EventReader::new(dir.path());
    assert_eq!(kind_of(reader.read_from(0)), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.read_full()), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.read_events_from(Position::default())), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.read_seq(0)), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.len()), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.first()), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.active_log_size()), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.has_new_events(0)), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.wait_for_events(0, Duration::from_secs(9))), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.read_line_hash_before(1)), ErrorKind::NotFound);
    assert_eq!(kind_of(reader.subscribe(Position::default())), ErrorKind::NotFound);
    assert_eq!(reader.read_line_hash_before(0).unwrap(), None);
    // An archive alone is not enough.
    write(&dir.path().join("archive.jsonl.zst"), &zstd::stream::encode_all(LINE.as_bytes(), 3).unwrap());
    assert_eq!(kind_of(reader.read_full()), ErrorKind::NotFound);
    assert!(!dir.path().join("app.jsonl").exists(), "a reader makes nothing");
}

#[test]
fn a_directory_of_another_program_is_read() {
    let (dir, reader) = with_log("");
    assert_eq!(numbers(&reader), Vec::<u64>::new());
    let mut next = 0;
    for count in [1, 500, 7, 30_000, 2] {
        write(&dir.path().join("app.jsonl"), lines(next..next + count).as_bytes());
        next += count;
        assert_eq!(numbers(&reader), (0..next as u64).collect::<Vec<_>>());
        rotate(dir.path());
        assert_eq!(numbers(&reader), (0..next as u64).collect::<Vec<_>>());
        assert_eq!(reader.read_from(0).unwrap().count(), 0);
        assert!(!reader.has_new_events(0).unwrap() && !reader.has_new_events(9).unwrap());
        assert_eq!(reader.active_log_size().unwrap(), 0);
    }
    write(&dir.path().join("app.jsonl"), lines(next..next + 4).as_bytes());
    assert_eq!(reader.len().unwrap(), next as u64 + 4);
    for n in [0, 1, 500, 501, 507, 508, 20_000, next - 1, next, next + 3] {
        let (event, sequence) = reader.read_seq(n as u64).unwrap().next().unwrap().unwrap();
        assert_eq!((event.data.as_u64(), sequence), (Some(n as u64), n as u64));
        let at = reader.position_of(n as u64).unwrap().unwrap();
        assert_eq!(reader.seq_of(at).unwrap(), n as u64);
        let (event, next) = reader.read_events_from(at).unwrap().next().unwrap().unwrap();
        assert_eq!(event.data.as_u64(), Some(n as u64));
        assert_eq!(reader.seq_of(next).unwrap(), n as u64 + 1);
    }
    assert_eq!(reader.read_seq(next as u64 + 4).unwrap().count(), 0);
    assert_eq!(reader.read_seq(u64::MAX).unwrap().count(), 0);
    assert!(!dir.path().join("archive.index").exists(), "a reader writes nothing");
}

/// A program that rotates without mending archives a torn line, and the next frame's first line follows it.
#[test]
fn torn_bytes_in_the_archive_are_not_glued_to_the_next_line() {
    let (dir, reader) = with_log(&format!("{}{{\"type\":\"to", lines(0..2)));
    rotate(dir.path());
    write(&dir.path().join("app.jsonl"), lines(2..4).as_bytes());
    rotate(dir.path());
    write(&dir.path().join("app.jsonl"), lines(4..5).as_bytes());
    assert_eq!(numbers(&reader), [0, 1, 2, 3, 4]);
    assert_eq!(reader.len().unwrap(), 5);
    assert_eq!(reader.position_of(2).unwrap(), Some(Position { generation: 1, offset: 0 }));
}

#[test]
fn a_damaged_archive_is_an_error_that_says_where() {
    let (dir, reader) = with_log(&lines(0..200));
    rotate(dir.path());
    let archive = dir.path().join("archive.jsonl.zst");
    let first = fs::metadata(&archive).unwrap().len();
    write(&dir.path().join("app.jsonl"), lines(200..400).as_bytes());
    rotate(dir.path());
    assert_eq!(numbers(&reader).len(), 400);
    let whole = read_all(&RealDisk, &archive, u64::MAX).unwrap();
    let mut damaged = whole.clone();
    damaged[usize::try_from(first).unwrap()] ^= 0x40;
    put(&archive, &damaged);
    let error = EventReader::new(dir.path()).read_full().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains(&format!("archive.jsonl.zst is damaged at byte {first}")), "{error}");
    // A reader that knows the frames already notices it when it decodes them.
    let mut items: Vec<_> = reader.read_full().unwrap().collect();
    let error = items.pop().unwrap().unwrap_err();
    assert!(error.to_string().contains(&format!("at byte {first}")), "{error}");
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 200);
    assert_eq!(items.len(), 200);
    put(&archive, &whole);
    assert_eq!(numbers(&reader).len(), 400);
}

#[test]
fn an_append_by_anybody_ends_the_wait() {
    let (dir, reader) = with_log(&lines(0..2));
    let size = reader.active_log_size().unwrap();
    let begun = Instant::now();
    assert_eq!(reader.wait_for_events(0, Duration::from_secs(5)).unwrap(), WaitResult::NewData(size));
    assert!(begun.elapsed() < Duration::from_millis(100));
    let log = dir.path().join("app.jsonl");
    let appends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        write(&log, lines(2..3).as_bytes());
    });
    let begun = Instant::now();
    let result = reader.wait_for_events(size, Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(result, WaitResult::NewData(reader.active_log_size().unwrap()));
    appends.join().unwrap();
}

#[test]
fn a_quiet_log_ends_the_wait_in_time() {
    let (_dir, reader) = with_log(&lines(0..2));
    let size = reader.active_log_size().unwrap();
    let begun = Instant::now();
    assert_eq!(reader.wait_for_events(size, Duration::from_millis(200)).unwrap(), WaitResult::Timeout);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(180) && took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn neither_other_files_nor_torn_lines_end_the_wait() {
    let (dir, reader) = with_log(&lines(0..2));
    let size = reader.active_log_size().unwrap();
    let path = dir.path().to_owned();
    let writes = thread::spawn(move || {
        for n in 0..6 {
            thread::sleep(Duration::from_millis(50));
            write(&path.join("other"), b"x");
            let rest = line(2);
            let (begin, end) = rest.split_at(10);
            match n {
                2 => write(&path.join("app.jsonl"), begin.as_bytes()),
                5 => write(&path.join("app.jsonl"), format!("{end}\n").as_bytes()),
                _ => {}
            }
        }
    });
    let begun = Instant::now();
    let expected = size + line(2).len() as u64 + 1;
    let result = reader.wait_for_events(size, Duration::from_secs(5)).unwrap();
    assert_eq!(result, WaitResult::NewData(expected));
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    writes.join().unwrap();
}

#[test]
fn an_offset_of_before_a_rotation_does_not_wait_for_ever() {
    let (dir, reader) = with_log(&lines(0..5));
    let old = reader.active_log_size().unwrap();
    rotate(dir.path());
    write(&dir.path().join("app.jsonl"), lines(5..6).as_bytes());
    // Nothing is new, and it does not say so again and again.
    assert_eq!(reader.wait_for_events(old, Duration::from_millis(30)).unwrap(), WaitResult::Timeout);
    let log = dir.path().join("app.jsonl");
    let appends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        write(&log, lines(6..7).as_bytes());
    });
    let result = reader.wait_for_events(old, Duration::from_secs(5)).unwrap();
    assert_eq!(result, WaitResult::NewData(reader.active_log_size().unwrap()));
    appends.join().unwrap();
}

#[test]
fn a_rotation_ends_the_wait() {
    let (dir, reader) = with_log(&lines(0..5));
    let size = reader.active_log_size().unwrap();
    let path = dir.path().to_owned();
    let rotates = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        rotate(&path);
    });
    let begun = Instant::now();
    let result = reader.wait_for_events(size, Duration::from_secs(5)).unwrap();
    // Whoever looks between the two steps of a rotation sees the archive, and the log as it was.
    assert!([WaitResult::NewData(0), WaitResult::NewData(size)].contains(&result), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    rotates.join().unwrap();
}

#[test]
fn a_reader_goes_to_other_threads() {
    fn is_sendable<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    let (_dir, reader) = with_log(&lines(0..5));
    is_shared(&reader);
    is_sendable(&reader.read_from(0).unwrap());
    is_sendable(&reader.read_full().unwrap());
    is_sendable(&reader.read_seq(0).unwrap());
    is_sendable(&reader.subscribe(Position::default()).unwrap());
    let clone = reader.clone();
    assert_eq!(thread::spawn(move || numbers(&clone)).join().unwrap(), numbers(&reader));
}

fn events_of(updates: Vec<Update>) -> Vec<u64> {
    let number = |update| match update {
        Update::Event { event, sequence, .. } => {
            assert_eq!(event.data.as_u64(), Some(sequence));
            Some(sequence)
        }
        Update::CaughtUp => None,
    };
    updates.into_iter().filter_map(number).collect()
}

#[test]
fn a_subscription_catches_up_and_goes_on() {
    let (dir, reader) = with_log(&lines(0..3));
    rotate(dir.path());
    write(&dir.path().join("app.jsonl"), lines(3..5).as_bytes());
    let mut updates = reader.subscribe(reader.position_of(1).unwrap().unwrap()).unwrap();
    let caught_up: Vec<_> = (0..5).map(|_| updates.next(Duration::ZERO).unwrap().unwrap()).collect();
    assert_eq!(caught_up[4], Update::CaughtUp);
    assert_eq!(events_of(caught_up), [1, 2, 3, 4]);
    let begun = Instant::now();
    assert_eq!(updates.next(Duration::from_millis(60)).unwrap(), None);
    assert!(begun.elapsed() >= Duration::from_millis(50));

    // What is rotated before it was told is told all the same.
    write(&dir.path().join("app.jsonl"), lines(5..7).as_bytes());
    rotate(dir.path());
    write(&dir.path().join("app.jsonl"), lines(7..8).as_bytes());
    rotate(dir.path());
    let path = dir.path().to_owned();
    let appends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        write(&path.join("app.jsonl"), lines(8..9).as_bytes());
    });
    let news: Vec<_> = (0..4).map(|_| updates.next(Duration::from_secs(5)).unwrap().unwrap()).collect();
    assert_eq!(events_of(news), [5, 6, 7, 8]);
    assert_eq!(updates.next(Duration::ZERO).unwrap(), None);
    assert_eq!(updates.position(), reader.end_position().unwrap());
    appends.join().unwrap();

    // And one that begins where it was told to.
    let mut again = reader.subscribe(updates.position()).unwrap();
    assert_eq!(again.next(Duration::ZERO).unwrap(), Some(Update::CaughtUp));
    write(&dir.path().join("app.jsonl"), lines(9..10).as_bytes());
    assert_eq!(events_of(vec![again.next(Duration::from_secs(5)).unwrap().unwrap()]), [9]);
}

#[test]
fn a_subscription_tells_what_was_asked_for() {
    let (dir, reader) = with_log(&lines(0..9));
    let by = |n: usize, actor: &str| line(n).replace('}', &format!(",\"actor\":\"{actor}\"}}"));
    let text = format!("{}\n{}\n{}\n", by(9, "ann"), by(10, "bob"), by(12, "ann").replace("12", "11"));
    write(&dir.path().join("app.jsonl"), text.as_bytes());
    let all = |mut updates: keplordb_fold::Subscription| {
        std::iter::from_fn(|| updates.next(Duration::ZERO).unwrap()).collect::<Vec<_>>()
    };
    let subscribe = || reader.subscribe(Position::default()).unwrap();
    assert_eq!(events_of(all(subscribe())), (0..12).collect::<Vec<_>>());
    assert_eq!(events_of(all(subscribe().of_types(["t1"]))), [1, 4, 7, 10]);
    assert_eq!(events_of(all(subscribe().of_types(["t1", "t2"]).by_actors(["bob"]))), [10]);
    assert_eq!(events_of(all(subscribe().by_actors(["ann"]))), [9, 11]);
    assert_eq!(all(subscribe().by_actors(["eve"])), [Update::CaughtUp]);
}

#[test]
fn a_subscription_passes_over_events_that_are_written_as_arrays_and_no_line_that_is_none() {
    let (_dir, reader) = with_log(
        "[\"a\",{},1]\n[\"b\",{},2,null,\"ann\"]\n[\"b\",{},3,\"id\",\"bob\",{}]\n{\"type\":\"other\"}\n[\"a\",{}]\n",
    );
    let told = |mut updates: keplordb_fold::Subscription| {
        std::iter::from_fn(|| match updates.next(Duration::ZERO) {
            Ok(Some(Update::Event { event, .. })) => Some(Ok(event.ts)),
            Ok(_) => None,
            Err(error) => Some(Err(error.kind())),
        })
        .collect::<Vec<_>>()
    };
    let bad = Err(ErrorKind::InvalidData);
    let subscribe = || reader.subscribe(Position::default()).unwrap();
    assert_eq!(told(subscribe()), [Ok(1), Ok(2), Ok(3), bad, bad]);
    assert_eq!(told(subscribe().of_types(["b"])), [Ok(2), Ok(3), bad, bad]);
    assert_eq!(told(subscribe().by_actors(["ann"])), [Ok(2), bad, bad]);
    assert_eq!(told(subscribe().of_types(["c"])), [bad, bad]);
}

#[test]
fn a_bad_line_does_not_stop_a_subscription() {
    let (_dir, reader) = with_log(&format!("{}\nno event\n{}\n", line(0), line(2)));
    let mut updates = reader.subscribe(Position::default()).unwrap().of_types(["t0", "t2"]);
    assert_eq!(events_of(vec![updates.next(Duration::ZERO).unwrap().unwrap()]), [0]);
    assert_eq!(kind_of(updates.next(Duration::ZERO)), ErrorKind::InvalidData);
    assert_eq!(events_of(vec![updates.next(Duration::ZERO).unwrap().unwrap()]), [2]);
    assert_eq!(updates.next(Duration::ZERO).unwrap(), Some(Update::CaughtUp));
}

/// An offset behind the end is nothing to read; a position there is of another log.
#[test]
fn a_position_that_the_log_has_not_come_to_is_refused() {
    let (dir, reader) = with_log(&lines(0..3));
    let end = reader.end_position().unwrap();
    assert_eq!(reader.read_from(end.offset + 1).unwrap().count(), 0);
    assert_eq!(reader.read_from(u64::MAX).unwrap().count(), 0);
    assert_eq!(reader.read_events_from(end).unwrap().count(), 0);
    assert_eq!(reader.seq_of(end).unwrap(), 3);
    let mut updates = reader.subscribe(end).unwrap();
    for behind in [Position { offset: end.offset + 1, ..end }, Position { generation: 1, offset: 0 }] {
        let outcomes = [
            reader.read_events_from(behind).map(drop),
            reader.subscribe(behind).map(drop),
            reader.seq_of(behind).map(drop),
        ];
        for error in outcomes.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("has not come that far"), "{error}");
        }
    }
    // A log that others cut is told too.
    assert_eq!(updates.next(Duration::ZERO).unwrap(), Some(Update::CaughtUp));
    replace(&RealDisk, &dir.path().join("app.jsonl"), lines(0..1).as_bytes()).unwrap();
    assert_eq!(kind_of(updates.next(Duration::ZERO)), ErrorKind::InvalidInput);
}

/// A power cut takes events that were told before they were synced, and others come in their place.
#[test]
fn a_subscription_does_not_go_on_in_another_event() {
    for rotated in [false, true] {
        let (dir, reader) = with_log(&lines(0..3));
        let log = dir.path().join("app.jsonl");
        let mut updates = reader.subscribe(Position::default()).unwrap();
        while updates.next(Duration::ZERO).unwrap().is_some() {}
        let told = updates.position();
        let mut kept = reader.subscribe(told).unwrap();
        assert_eq!(kept.next(Duration::ZERO).unwrap(), Some(Update::CaughtUp));

        // Longer lines: the position is within one of them. And as long ones: another event ends there.
        for (text, where_it_is_told) in [
            (lines(0..2) + &line(1_000_000) + "\n" + &line(7) + "\n", true),
            (lines(0..2) + &lines(4..8), false),
        ] {
            replace(&RealDisk, &log, text.as_bytes()).unwrap();
            if rotated {
                rotate(dir.path());
            }
            for subscription in [&mut updates, &mut kept] {
                for _ in 0..2 {
                    let error = subscription.next(Duration::ZERO).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().contains("subscribe again"), "{error}");
                }
                assert_eq!(subscription.position(), told);
            }
            let again = reader.subscribe(told);
            assert_eq!(
                again.is_err_and(|error| error.to_string().contains("subscribe again")),
                where_it_is_told
            );
            if rotated {
                RealDisk.remove(&dir.path().join("archive.jsonl.zst")).unwrap();
            }
        }
    }
}

/// Empty lines, of which there may be more than are read at once, are no events; what was told last is still known behind them.
#[test]
fn a_subscription_goes_on_behind_empty_lines() {
    let (dir, reader) = with_log(&lines(0..2));
    let mut updates = reader.subscribe(Position::default()).unwrap();
    for n in 2..5 {
        write(&dir.path().join("app.jsonl"), &vec![b'\n'; 3 << 20]);
        let before: Vec<_> = std::iter::from_fn(|| updates.next(Duration::ZERO).unwrap()).collect();
        assert_eq!(events_of(before).last().copied(), (n == 2).then_some(1));
        write(&dir.path().join("app.jsonl"), lines(n..n + 1).as_bytes());
        assert_eq!(events_of(vec![updates.next(Duration::ZERO).unwrap().unwrap()]), [n as u64]);
    }
}

/// A reader has counted a log when somebody else repairs it.
#[test]
fn what_a_repair_takes_out_is_counted_no_longer() {
    let (dir, reader) = with_log(&(lines(0..3) + "no event\n" + &lines(3..5)));
    assert_eq!(reader.len().unwrap(), 6);
    assert_eq!(keplordb_fold::repair(dir.path()).unwrap().lines_set_aside, 1);
    let anew = EventReader::new(dir.path());
    assert_eq!(reader.len().unwrap(), 5);
    for sequence in 0..6 {
        assert_eq!(reader.position_of(sequence).unwrap(), anew.position_of(sequence).unwrap());
    }
    assert_eq!(reader.seq_of(reader.end_position().unwrap()).unwrap(), 5);
}

/// What was counted may be cut off, as the rest of a short write is, and other lines come.
#[test]
fn a_log_that_was_cut_and_has_grown_is_counted_anew() {
    let (dir, reader) = with_log(&lines(0..4));
    assert_eq!(reader.len().unwrap(), 4);
    let long = Event { data: json!("x".repeat(500)), ..serde_json::from_str(&line(2)).unwrap() };
    let other = lines(0..2) + &serde_json::to_string(&long).unwrap() + "\n";
    put(&dir.path().join("app.jsonl"), other.as_bytes());
    assert_eq!(reader.len().unwrap(), 3);
    assert_eq!(reader.position_of(3).unwrap(), Some(reader.end_position().unwrap()));
}
