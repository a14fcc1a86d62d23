//! Retention: what goes, what stays, and a compactor beside a writer and a reader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_disk::{Disk, SimDisk};
use keplordb_log::{
    Clock, Compactor, Log, LogError, ManualClock, Options, Removed, Retention, SyncPolicy, Timestamp,
};

/// A log on `disk` with a segment for every few entries, and its clock.
fn log(disk: &SimDisk) -> (Log, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_ns(0)));
    let options = Options {
        max_segment_bytes: 300,
        sync: SyncPolicy::Each,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    (Log::open_with("commands", options).unwrap(), clock)
}

/// Writes an entry a second.
fn write(log: &Log, clock: &ManualClock, seconds: std::ops::Range<i64>) {
    let writer = log.writer().unwrap();
    for second in seconds {
        clock.set(Timestamp::from_ns(second * 1_000_000_000));
        writer.write(format!("entry of second {second}").as_bytes()).unwrap();
    }
}

/// The seconds of the entries that are left.
fn seconds(log: &Log) -> Vec<i64> {
    let mut reader = log.reader().unwrap();
    let mut seconds = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        seconds.push(entry.time.as_ns() / 1_000_000_000);
    }
    seconds
}

#[test]
fn old_segments_go_and_the_rest_stays() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    write(&log, &clock, 0..30);
    let segments = log.segments().unwrap();
    assert!(segments.len() > 4, "{segments:?}");
    let all_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();

    // Nothing is older than all of time, and all of it fits.
    let generous = Retention { max_age: Some(Duration::MAX), max_bytes: Some(all_bytes) };
    assert_eq!(log.retain(&generous).unwrap(), Removed::default());

    // Entries of the last ten seconds stay, and with them those of their segments.
    let removed = log.retain(&Retention { max_age: Some(Duration::from_secs(10)), max_bytes: None }).unwrap();
    let left = seconds(&log);
    assert_eq!(left, (removed.entries as i64..30).collect::<Vec<_>>());
    assert!(left[0] <= 19 && removed.segments > 1, "{removed:?}");
    let gone = segments.iter().filter(|segment| segment.end.as_ns() < left[0] * 1_000_000_000);
    let expected: u64 = gone.map(|segment| segment.bytes).sum();
    assert_eq!(removed.bytes, expected);
    assert!(log.segments().unwrap()[0].end >= Timestamp::from_ns(19_000_000_000));

    // Whatever the limits say, the last segment stays, and with it the last time.
    let none = Retention { max_age: Some(Duration::ZERO), max_bytes: Some(0) };
    clock.set(Timestamp::from_ns(i64::MAX));
    log.retain(&none).unwrap();
    assert_eq!(log.segments().unwrap().len(), 1);
    assert_eq!(seconds(&log).last(), Some(&29));
    clock.set(Timestamp::from_ns(0));
    let time = log.writer().unwrap().write(b"later all the same").unwrap();
    assert_eq!(time.as_ns(), 29_000_000_001);

    // What was removed is gone for good.
    let (log, _) = self::log(&disk.power_cut(0));
    assert_eq!(log.segments().unwrap().len(), 1);
}

/// The file of a segment.
fn file(start: Timestamp) -> std::path::PathBuf {
    std::path::Path::new("commands").join(start.to_string().replace(':', "_") + ".segment")
}

/// A damaged header ends neither retention nor reading, and no segment goes before it is certainly too old.
#[test]
fn segments_with_damaged_headers_go_when_they_are_certainly_too_old() {
    for damaged in [&[1][..], &[0], &[1, 2], &[0, 1, 2, 3], &[2, 4]] {
        let disk = SimDisk::default();
        let (log, clock) = log(&disk);
        write(&log, &clock, 0..30);
        let sound = log.segments().unwrap();
        assert!(sound.len() > 6, "{sound:?}");
        for number in damaged {
            disk.open(&file(sound[*number].start)).unwrap().write_at(&[0xEE; 3], 30).unwrap();
        }
        let second = |time: Timestamp| time.as_ns() / 1_000_000_000;
        // At each second those are gone whose last entry is too old, though nobody can read it of some.
        for now in 30..70 {
            clock.set(Timestamp::from_ns(now * 1_000_000_000));
            log.retain(&Retention { max_age: Some(Duration::from_secs(30)), max_bytes: None }).unwrap();
            let left = log.segments().unwrap();
            for segment in &sound[..sound.len() - left.len()] {
                assert!(second(segment.end) < now - 30, "{damaged:?}, at {now}: {segment:?} is gone");
            }
            // Those that are certainly too old: the next one begins before that.
            let certain = sound.windows(2).take_while(|pair| second(pair[1].start) < now - 30).count();
            assert!(sound.len() - left.len() >= certain, "{damaged:?}, at {now}: {} left", left.len());
        }
        assert_eq!(log.segments().unwrap().len(), 1);

        // By size: each counts as many bytes as its file has.
        let disk = SimDisk::default();
        let (log, clock) = self::log(&disk);
        write(&log, &clock, 0..30);
        for number in damaged {
            disk.open(&file(sound[*number].start)).unwrap().write_at(&[0xEE; 3], 30).unwrap();
        }
        for kept in (1..sound.len()).rev() {
            let bytes = sound[sound.len() - kept..].iter().map(|segment| segment.bytes).sum();
            log.retain(&Retention { max_age: None, max_bytes: Some(bytes) }).unwrap();
            assert_eq!(log.segments().unwrap().len(), kept, "{damaged:?}");
        }
    }
}

/// Whatever is damaged of the last segment, it stays: the next time must be later than its last, once it is restored.
#[test]
fn a_damaged_last_segment_stays() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    write(&log, &clock, 0..10);
    let last = *log.segments().unwrap().last().unwrap();
    disk.open(&file(last.start)).unwrap().write_at(&[0xEE; 3], 30).unwrap();
    clock.set(Timestamp::from_ns(i64::MAX));
    log.retain(&Retention { max_age: Some(Duration::ZERO), max_bytes: Some(0) }).unwrap();
    let left = log.segments().unwrap();
    assert!(left.len() == 1 && left[0].start == last.start && left[0].is_damaged, "{left:?}");
    assert!(matches!(log.remove_segment(last.start), Err(LogError::LastSegment { .. })));
}

#[test]
fn a_reader_goes_on_behind_a_damaged_header() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    write(&log, &clock, 0..30);
    let sound = log.segments().unwrap();
    let whole = seconds(&log);
    let damaged = file(sound[2].start);
    disk.open(&damaged).unwrap().write_at(&[0xEE; 3], 30).unwrap();
    let is_told = |error: &LogError| {
        matches!(error, LogError::Corrupt { file, offset: 12, .. } if *file == damaged)
            && error.to_string().contains("restore the file from a copy")
    };
    let mut reader = log.reader().unwrap();
    let mut read = Vec::new();
    let error = loop {
        match reader.next() {
            Ok(entry) => read.push(entry.unwrap().time.as_ns() / 1_000_000_000),
            Err(error) => break error,
        }
    };
    assert!(is_told(&error) && is_told(&reader.next().unwrap_err()), "{error}");
    assert_eq!(read, whole[..read.len()]);
    assert_eq!(read.len() as u64, sound[0].entries + sound[1].entries);
    assert!(is_told(&reader.seek(sound[2].start).unwrap_err()));
    assert!(is_told(&log.from(Timestamp::from_ns(sound[3].start.as_ns() - 1)).unwrap_err()));
    reader.seek(sound[3].start).unwrap();
    for expected in whole.iter().filter(|second| **second * 1_000_000_000 >= sound[3].start.as_ns()) {
        assert_eq!(reader.next().unwrap().unwrap().time.as_ns(), expected * 1_000_000_000);
    }
    assert!(reader.next().unwrap().is_none());
    while reader.back().is_ok_and(|entry| entry.is_some_and(|entry| entry.time > sound[3].start)) {}
    assert!(is_told(&reader.back().unwrap_err()));
}

#[test]
fn a_log_without_segments_has_nothing_to_remove() {
    let disk = SimDisk::default();
    let (log, _) = log(&disk);
    assert_eq!(log.retain(&Retention::default()).unwrap(), Removed::default());
}

#[test]
fn a_compactor_runs_at_once_and_again_and_ends_with_its_guard() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    write(&log, &clock, 0..30);
    let retention = Retention { max_age: Some(Duration::from_secs(10)), max_bytes: None };
    let compactor = Compactor::start(&log, Duration::from_millis(5), retention).unwrap();
    let until = |what: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", compactor.outcome());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    until(&|| compactor.removed().segments > 1);
    let before = compactor.removed();
    write(&log, &clock, 30..60);
    until(&|| compactor.removed().segments > before.segments + 1);
    assert!(matches!(compactor.outcome(), Some(Ok(_))));
    let removed = compactor.stop();
    let left = seconds(&log);
    assert_eq!(left, (removed.entries as i64..60).collect::<Vec<_>>());

    // An hour is not waited for.
    let begin = Instant::now();
    drop(Compactor::start(&log, Compactor::EVERY, retention).unwrap());
    assert!(begin.elapsed() < Duration::from_secs(30));
    let error = Compactor::start(&log, Duration::ZERO, retention).unwrap_err();
    assert!(matches!(error, LogError::Invalid { field: "every", .. }), "{error}");
}

#[test]
fn a_power_cut_never_takes_the_last_segment() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    disk.after_each({
        let moments = Arc::clone(&moments);
        move |_, disk| moments.lock().unwrap().push(disk)
    });
    write(&log, &clock, 0..15);
    // Whenever the writer is killed, another process removes all that it may, and the power is cut at any moment of that.
    for moment in moments.lock().unwrap().iter() {
        let moment = moment.kill();
        let left = Arc::new(std::sync::Mutex::new(Vec::new()));
        moment.after_each({
            let left = Arc::clone(&left);
            move |_, disk| left.lock().unwrap().push(disk)
        });
        let (log, _) = self::log(&moment);
        if seconds(&log).is_empty() {
            continue;
        }
        log.retain(&Retention { max_age: None, max_bytes: Some(0) }).unwrap();
        for disk in left.lock().unwrap().iter() {
            for seed in 0..60 {
                let (log, _) = self::log(&disk.power_cut(seed));
                let left = seconds(&log);
                assert!(
                    !left.is_empty() && left[0] + left.len() as i64 - 1 == *left.last().unwrap(),
                    "{left:?}"
                );
            }
        }
    }
}

#[test]
fn after_a_failed_sync_no_more_segments_are_removed() {
    let disk = SimDisk::default();
    let (log, clock) = log(&disk);
    write(&log, &clock, 0..30);
    let start = |log: &Log| log.segments().unwrap()[0].start;
    // The first sync is that before the removal, the second that after it.
    for at in [1, 3] {
        let disk = disk.kill();
        let (log, _) = self::log(&disk);
        disk.fail(Fault { at: disk.operations() + at, kind: FaultKind::SyncFails, forever: false });
        assert!(matches!(log.remove_segment(start(&log)), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.clone().remove_segment(start(&log)), Err(LogError::Poisoned { .. })));
        // The reason may be gone when the log is opened again.
        let (log, _) = self::log(&disk);
        log.remove_segment(start(&log)).unwrap();
    }
}
