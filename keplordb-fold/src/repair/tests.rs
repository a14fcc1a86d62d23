//! Damage of every kind, found and mended: bits are flipped and files cut at every byte, and the repair itself is stopped at each of its
//! file operations. Always: what the damage left readable is there afterwards, once, in order and at its position.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use keplordb_disk::{MemoryDisk, SimDisk, read_all};
use serde_json::json;

use super::*;
use crate::catalog::Catalog;
use crate::event::Event;
use crate::log::EventLog;
use crate::test_disk::HookedDisk;
use crate::verify::Verification;

const DIR: &str = "app";

/// An event, and where it stands.
type Placed = (Position, String);

fn types(mut types: Vec<String>, event: &Event) -> Vec<String> {
    types.push(event.event_type.clone());
    types
}

fn open(disk: &SimDisk) -> EventLog {
    EventLog::builder(DIR).disk(Arc::new(disk.clone())).view("types", types).open().unwrap()
}

fn paths() -> Paths {
    Paths::new(Path::new(DIR))
}

fn reader(disk: &SimDisk) -> EventReader {
    EventReader::with_disk(Arc::new(disk.clone()), Path::new(DIR))
}

/// Three archived generations and an active log of four events each, with a snapshot of all of it.
fn fixture() -> (SimDisk, Vec<Placed>) {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    for generation in 0..4 {
        for n in 0..4 {
            let mut event = Event::new(&format!("g{generation}-{n}"), json!({"text": "some words"}));
            event.ts = 1000;
            log.append(&event).unwrap();
        }
        log.refresh_all().unwrap();
        if generation < 3 {
            log.rotate().unwrap();
        }
    }
    drop(log);
    // It is written without a sync, and a crash must not take it from those tests that are about it.
    disk.open(&paths().index).unwrap().sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    let events = events(&disk);
    assert_eq!(events.len(), 16);
    (disk, events)
}

fn events(disk: &SimDisk) -> Vec<Placed> {
    let reader = reader(disk);
    let generation = reader.history().present().unwrap().first_generation;
    let mut blocks = reader.history().read(Position { generation, offset: 0 }).unwrap();
    let mut events = Vec::new();
    while let Some(block) = blocks.next().unwrap() {
        for line in block.lines() {
            let event: Event = serde_json::from_slice(line.bytes).unwrap();
            events.push((line.at, event.event_type));
        }
    }
    events
}

fn verify(disk: &SimDisk) -> Verification {
    reader(disk).verify().unwrap()
}

fn try_repair(disk: &SimDisk, dir: &str) -> io::Result<Repaired> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair_on(&disk, Path::new(dir))
}

fn repair(disk: &SimDisk) -> Repaired {
    let repaired = try_repair(disk, DIR).unwrap();
    let verified = verify(disk);
    assert!(verified.is_sound(), "{:?}", verified.problems);
    assert!(verified.leftovers.is_empty(), "{:?}", verified.leftovers);
    repaired
}

/// All bytes that were set aside.
fn aside(disk: &SimDisk) -> Vec<Vec<u8>> {
    let dir = paths().damaged;
    let entries = disk.list(&dir).unwrap_or_default().into_iter();
    entries.map(|entry| read(disk, &dir.join(entry.name))).collect()
}

fn read(disk: &SimDisk, path: &Path) -> Vec<u8> {
    read_all(disk, path, u64::MAX).unwrap()
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.create(path).or_else(|_| disk.open(path)).unwrap();
    file.truncate(bytes.len() as u64).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(path.parent().unwrap()).unwrap();
}

fn flip(disk: &SimDisk, path: &Path, at: usize, bit: u8) {
    let mut bytes = read(disk, path);
    bytes[at] ^= 1 << bit;
    write(disk, path, &bytes);
}

/// That a view goes on as if it were new.
fn check_views(disk: &SimDisk) {
    let mut log = open(disk);
    log.refresh_all().unwrap();
    let expected: Vec<String> = events(disk).into_iter().map(|(_, name)| name).collect();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), expected);
}

#[test]
fn a_sound_log_is_left_as_it_is() {
    let (disk, before) = fixture();
    let verified = verify(&disk);
    assert!(verified.is_sound(), "{:?}", verified.problems);
    assert_eq!((verified.generations, verified.events, verified.snapshots), (4, 16, 1));
    let fingerprint = disk.fingerprint();
    assert!(repair(&disk).was_sound());
    assert_eq!((disk.fingerprint(), events(&disk)), (fingerprint, before));
}

#[test]
fn a_writer_keeps_repairs_away_and_no_verification() {
    let (disk, _) = fixture();
    let mut log = open(&disk);
    log.append(&Event::new("x", json!(1))).unwrap();
    let refused = try_repair(&disk, DIR).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    // What a writer has begun to write is no damage.
    let file = disk.open_append(&paths().log).unwrap();
    for unfinished in
        ["{\"type\":\"y\",", "\"data\":1,\"ts\":1}\n#\"type\":\"z\",\"data\":1,\"ts\":1}\n{\"type"]
    {
        file.append(unfinished.as_bytes()).unwrap();
        let verified = verify(&disk);
        assert!(verified.is_sound() && verified.unfinished_bytes > 0, "{verified:?}");
    }
    let nowhere = try_repair(&disk, "nowhere").unwrap_err();
    assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
}

#[test]
fn every_flip_in_the_log_takes_its_line_at_most() {
    let (disk, before) = fixture();
    let log = read(&disk, &paths().log);
    let mut found = 0;
    for at in 0..log.len() {
        for bit in [0, 3, 7] {
            let disk = disk.kill();
            flip(&disk, &paths().log, at, bit);
            found += u32::from(!verify(&disk).is_sound());
            let repaired = repair(&disk);
            let (left, at) = (events(&disk), at as u64);
            // Of a newline that was flipped both neighbours.
            for (n, event) in before.iter().enumerate() {
                let ends = before.get(n + 1).map_or(log.len() as u64, |(next, _)| next.offset);
                let is_touched =
                    event.0.generation == 3 && (event.0.offset.saturating_sub(1)..=ends).contains(&at);
                assert!(is_touched || left.contains(event), "byte {at}, bit {bit}: {event:?} is gone");
            }
            assert!(left.len() <= before.len() && left.is_sorted());
            if left.len() < before.len() {
                assert!(!aside(&disk).is_empty(), "byte {at}, bit {bit}");
            }
            // A flip that makes another event of one is seen by nobody, but that the snapshot is of the last line.
            if repaired.lines_set_aside > 0 {
                check_views(&disk);
            }
        }
    }
    assert!(found > 200, "{found}");
}

#[test]
fn every_flip_in_the_archive_takes_its_generation_at_most() {
    let (disk, before) = fixture();
    let archive = read(&disk, &paths().archive);
    let index = fs_entries(&disk);
    for with_index in [true, false] {
        for at in 0..archive.len() {
            for bit in [0, 2, 5, 7] {
                let disk = disk.kill();
                if !with_index {
                    disk.remove(&paths().index).unwrap();
                }
                flip(&disk, &paths().archive, at, bit);
                let verified = verify(&disk);
                let repaired = repair(&disk);
                let what = format!("byte {at}, bit {bit}, index {with_index}");
                assert_eq!(verified.is_sound(), repaired.was_sound(), "{what}: {:?}", verified.problems);
                let generation = index.iter().position(|end| (at as u64) < *end).unwrap() as u64;
                let left = events(&disk);
                if !with_index && generation == 2 && left.last().unwrap().0.generation == 2 {
                    // Who knows nothing of the last frame but a length that is damaged takes it for one that was never finished.
                    let names = left.iter().map(|(_, name)| name).filter(|name| !name.starts_with("g2"));
                    assert_eq!(names.count(), 12, "{what}");
                    assert!(aside(&disk).iter().any(|kept| kept.len() > 20), "{what}");
                    continue;
                }
                let others = |events: &[Placed]| {
                    let kept = events.iter().filter(|(place, _)| place.generation != generation);
                    kept.cloned().collect::<Vec<_>>()
                };
                assert_eq!(others(&left), others(&before), "{what}");
                assert!(left.is_sorted_by(|one, next| one.0 < next.0), "{what}");
                if repaired.was_sound() {
                    assert_eq!(left, before, "{what}");
                } else {
                    assert_eq!(repaired.damaged_generations, [generation], "{what}");
                    if (index[usize::try_from(generation).unwrap()] - 4..).contains(&(at as u64)) {
                        assert_eq!(left, before, "{what}: only the checksum is wrong");
                    }
                    check_views(&disk);
                }
            }
        }
    }
}

/// Where the frames end.
fn fs_entries(disk: &SimDisk) -> Vec<u64> {
    index::load(disk, &paths(), 0).0.iter().map(index::Entry::end).collect()
}

#[test]
fn an_archive_that_lost_its_end_keeps_what_is_before_and_behind() {
    let (disk, before) = fixture();
    let archive = read(&disk, &paths().archive);
    let ends = fs_entries(&disk);
    for end in 1..archive.len() {
        let disk = disk.kill();
        disk.open(&paths().archive).unwrap().truncate(end as u64).unwrap();
        assert!(!verify(&disk).is_sound());
        repair(&disk);
        let left = events(&disk);
        // The generation that was cut, unless the cut is between two, and those that are gone altogether.
        let whole = ends.iter().filter(|frame_end| **frame_end <= end as u64).count() as u64;
        let (old, new): (Vec<_>, Vec<_>) = left.into_iter().partition(|(place, _)| place.generation < whole);
        let is_before = |(place, _): &&Placed| place.generation < whole;
        assert_eq!(old, before.iter().filter(is_before).cloned().collect::<Vec<_>>(), "cut at {end}");
        // Of the log each event, once; and what could be decoded of the frame.
        let names: Vec<_> = new.iter().map(|(_, name)| name.clone()).collect();
        assert!(
            names.ends_with(&["g3-0", "g3-1", "g3-2", "g3-3"].map(str::to_owned)),
            "cut at {end}: {names:?}"
        );
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        check_views(&disk);
    }
}

#[test]
fn caches_and_journals_that_are_damaged_take_no_event() {
    let (disk, before) = fixture();
    let snapshot = paths().views.join("types.snapshot.json");
    for path in [&paths().index, &snapshot, &paths().session] {
        for at in 0..read(&disk, path).len() {
            let disk = disk.kill();
            flip(&disk, path, at, 1);
            let is_sound = verify(&disk).is_sound();
            let repaired = repair(&disk);
            assert!(is_sound || !repaired.was_sound());
            assert_eq!(events(&disk), before, "{} byte {at}", path.display());
            check_views(&disk);
        }
    }
    // A rotation that was under way when its journal was damaged: before the log was cut, and behind.
    for is_cut in [false, true] {
        let disk = disk.kill();
        let text = read(&disk, &paths().log);
        let mut archive = read(&disk, &paths().archive);
        archive.extend(compress(&text).unwrap());
        write(&disk, &paths().archive, &archive);
        write(&disk, &paths().journal, b"nothing that can be read\n");
        if is_cut {
            write(&disk, &paths().log, b"");
        }
        let verified = verify(&disk);
        assert_eq!(verified.problems.first().unwrap().kind, ProblemKind::Journal);
        repair(&disk);
        assert_eq!(events(&disk), before, "cut: {is_cut}");
    }
}

#[test]
fn lines_that_are_no_events_leave_the_others_where_they_are() {
    let (disk, before) = fixture();
    // One in the log that hides what is behind it, one in an archived text, and an archived text whose last line has no end.
    let event = "{\"type\":\"a\",\"data\":1,\"ts\":1}";
    let log = String::from_utf8(read(&disk, &paths().log)).unwrap();
    let (first, rest) = log.split_at(log.find('\n').unwrap() + 1);
    write(&disk, &paths().log, format!("{first}# no event\n{rest}").as_bytes());
    let mut archive = read(&disk, &paths().archive);
    for text in
        [format!("{event}\nno event\n{event}\n"), format!("{event}\n{event}"), format!("{event}\n{{\"ty")]
    {
        archive.extend(compress(text.as_bytes()).unwrap());
    }
    write(&disk, &paths().archive, &archive);
    let verified = verify(&disk);
    let lines = verified.problems.iter().filter(|problem| problem.kind == ProblemKind::Line);
    assert_eq!(lines.map(|problem| problem.generation.unwrap()).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let repaired = repair(&disk);
    assert_eq!(repaired.lines_set_aside, 3);
    assert!(aside(&disk).contains(&b"# no event\n".to_vec()));
    let place = |generation, offset| (Position { generation, offset }, "a".to_owned());
    let left = events(&disk);
    assert_eq!(left[..12], before[..12]);
    let length = event.len() as u64 + 1;
    let archived = [place(3, 0), place(3, length + 9), place(4, 0), place(4, length), place(5, 0)];
    assert_eq!(left[12..17], archived);
    assert_eq!(left[17].1, "g3-0");
    assert_eq!(left[18].0, Position { generation: 6, offset: first.len() as u64 + 11 });
    assert_eq!(left.len(), 21);
    check_views(&disk);
}

/// Readers and views agree on it, so that what a view cannot get past is found and taken out.
#[test]
fn a_line_that_is_not_text_is_no_event_for_anybody() {
    for value in [&b"\"M\xfcnchen\""[..], b"{\"in\":[\"\xff\"]}"] {
        let (disk, before) = fixture();
        let line = [b"{\"type\":\"a\",\"data\":1,\"ts\":1,\"host\":", value, b"}\n"].concat();
        disk.open_append(&paths().log).unwrap().append(&line).unwrap();
        let end = reader(&disk).position_of(16).unwrap().unwrap();
        let errors = [
            open(&disk).refresh_all().unwrap_err(),
            reader(&disk).read_full().unwrap().find_map(Result::err).unwrap(),
            reader(&disk).subscribe(end).unwrap().next(Duration::ZERO).unwrap_err(),
            reader(&disk).subscribe(end).unwrap().of_types(["b"]).next(Duration::ZERO).unwrap_err(),
        ];
        for error in errors {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            assert!(matches!(inner, Some(FoldError::BadLine { .. })), "{error}");
        }
        let verified = verify(&disk);
        assert_eq!((verified.events, verified.problem_count), (16, 1));
        assert_eq!(repair(&disk).lines_set_aside, 1);
        assert!(aside(&disk).contains(&line));
        assert_eq!(events(&disk), before);
        check_views(&disk);
    }
}

/// Of a log that is nothing but damage.
#[test]
fn what_was_set_aside_is_named_up_to_a_limit_and_counted_beyond() {
    let (disk, before) = fixture();
    let event = "{\"type\":\"a\",\"data\":1,\"ts\":1}\n";
    let appender = disk.open_append(&paths().log).unwrap();
    appender.append(format!("no event\n{event}").repeat(SET_ASIDE_MAX + 5).as_bytes()).unwrap();
    let repaired = repair(&disk);
    let expected = SET_ASIDE_MAX as u64 + 5;
    assert_eq!((repaired.lines_set_aside, repaired.set_aside.len()), (expected, SET_ASIDE_MAX));
    assert_eq!((repaired.set_aside_count, aside(&disk).len() as u64), (expected, expected));
    assert_eq!(events(&disk).len(), before.len() + SET_ASIDE_MAX + 5);
}

/// A reader of another process has the archive open, whose place a sound one takes that is as long.
#[test]
fn a_reader_notices_that_a_damaged_archive_was_put_right() {
    let (disk, before) = fixture();
    let ends = fs_entries(&disk);
    let sound = read(&disk, &paths().archive);
    for with_index in [true, false] {
        for by_repair in [true, false] {
            let disk = disk.kill();
            if !with_index {
                disk.remove(&paths().index).unwrap();
            }
            let reader = reader(&disk);
            assert_eq!(reader.history().present().unwrap().generation, 3);
            // Only its checksum, so that what is repaired is what it was.
            let file = disk.open(&paths().archive).unwrap();
            let at = ends[1] - 1;
            file.write_at(&[sound[usize::try_from(at).unwrap()] ^ 1], at).unwrap();
            file.sync().unwrap();
            // What the index says of it need not be decoded.
            let error = if with_index || by_repair {
                reader.read_full().unwrap().find_map(Result::err).unwrap()
            } else {
                reader.len().unwrap_err()
            };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            if by_repair {
                assert_eq!(repair(&disk).damaged_generations, [1]);
            } else {
                keplordb_disk::replace(&disk, &paths().archive, &sound).unwrap();
            }
            assert_eq!(disk.bytes(&paths().archive).unwrap(), Some(sound.len() as u64));
            assert_eq!(reader.len().unwrap(), 16);
            let read = reader.read_full().unwrap().map(|item| item.unwrap().0.event_type);
            assert!(read.eq(before.iter().map(|(_, name)| name.clone())), "{with_index}, {by_repair}");
        }
    }
}

/// Of snapshots that it has looked at: what was said of them is said of the log as it was read.
#[test]
fn a_verification_beside_a_rotation_forgets_no_snapshot() {
    let mut rotated = 0;
    for moment in 1..20 {
        let memory = MemoryDisk::default();
        let builder = || EventLog::builder(DIR).disk(Arc::new(memory.clone()));
        let mut log = builder().view("types", types).open().unwrap();
        log.append(&Event::new("a", json!(1))).unwrap();
        log.refresh_all().unwrap();
        drop(log);
        let fitting = read_all(&memory, &paths().views.join("types.snapshot.json"), u64::MAX).unwrap();
        let Found::Whole(mut misfit) = snapshot::decode::<Vec<String>>(&fitting) else {
            panic!("no snapshot")
        };
        misfit.progress.hash = "0".repeat(16);
        let misfit = snapshot::encode(&misfit.state, &misfit.progress, 0).unwrap();
        snapshot::write(&memory, &paths().views.join("misfit.snapshot.json"), &misfit).unwrap();
        let asked = Arc::new(Mutex::new(0));
        let (count, others) = (Arc::clone(&asked), memory.clone());
        let hooked = HookedDisk::new(memory.clone(), move |path| {
            let mut asked = count.lock().unwrap();
            *asked += u32::from(path == paths().log);
            if path == paths().log && *asked == moment {
                EventLog::builder(DIR).disk(Arc::new(others.clone())).open().unwrap().rotate().unwrap();
            }
        });
        let verified = EventReader::with_disk(Arc::new(hooked), Path::new(DIR)).verify().unwrap();
        let problems: Vec<_> =
            verified.problems.iter().map(|problem| (problem.kind, &problem.file)).collect();
        let misfit = paths().views.join("misfit.snapshot.json");
        assert_eq!(problems, [(ProblemKind::Snapshot, &misfit)], "moment {moment}");
        assert_eq!((verified.events, verified.snapshots), (1, 1), "moment {moment}");
        rotated += u32::from(*asked.lock().unwrap() >= moment);
    }
    assert!((3..19).contains(&rotated), "{rotated}");
}

/// Stops the repair at each of its operations, and repairs what that left.
fn check_crashes(damaged: &SimDisk) {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let disk = damaged.power_cut(0);
    let copies = Arc::clone(&moments);
    disk.after_each(move |number, copy| copies.lock().unwrap().push((number, copy)));
    repair(&disk);
    let (expected, kept) = (events(&disk), aside(&disk));
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 15, "{}", moments.len());
    for (number, killed) in moments {
        let cuts = (0..12).map(|seed| (format!("seed {seed}"), killed.power_cut(seed)));
        for (how, left) in std::iter::once(("killed".to_owned(), killed.kill())).chain(cuts) {
            // Whoever opens it first takes nothing that a repair would keep.
            let opened = left.kill();
            drop(open(&opened));
            repair(&opened);
            assert_eq!(events(&opened), expected, "operation {number}, {how}, opened");
            repair(&left);
            assert_eq!(events(&left), expected, "operation {number}, {how}");
            let again = aside(&left);
            for bytes in &kept {
                let whole = again.contains(bytes);
                // Lines of the log that were overwritten in part when they were set aside again.
                assert!(whole, "operation {number}, {how}: what was set aside is gone");
            }
            check_views(&left);
        }
    }
}

#[test]
fn a_repair_that_is_stopped_anywhere_can_be_repeated() {
    let (disk, _) = fixture();
    let ends = fs_entries(&disk);
    let flipped = disk.kill();
    // The first frame's magic, the second one's checksum, a line of the log, and the snapshot is of behind all that.
    flip(&flipped, &paths().archive, 0, 1);
    flip(&flipped, &paths().archive, usize::try_from(ends[1]).unwrap() - 1, 1);
    flip(&flipped, &paths().log, 3, 0);
    check_crashes(&flipped);
    // The archive lost its end, which only the index knows.
    let cut = disk.kill();
    let archive = cut.open(&paths().archive).unwrap();
    archive.truncate(ends[2] - 5).unwrap();
    archive.sync().unwrap();
    check_crashes(&cut);
    // The last frame looks as if it was torn, and only the index knows that it was whole.
    let looks_torn = |at: &usize| {
        let disk = disk.kill();
        flip(&disk, &paths().archive, *at, 4);
        disk.remove(&paths().index).unwrap();
        matches!(Catalog::default().walk_to(&disk, &paths(), ends[2]), Ok(Some(_)))
    };
    let mut last = usize::try_from(ends[1]).unwrap()..usize::try_from(ends[2]).unwrap();
    let damaged = disk.kill();
    flip(&damaged, &paths().archive, last.find(looks_torn).unwrap(), 4);
    check_crashes(&damaged);
    // Another program was stopped while it wrote a frame.
    let torn = disk.kill();
    let text = read(&torn, &paths().log);
    let mut archive = read(&torn, &paths().archive);
    archive.extend_from_slice(&compress(&text).unwrap()[..60]);
    write(&torn, &paths().archive, &archive);
    flip(&torn, &paths().log, 3, 0);
    check_crashes(&torn);
}

/// Nothing else says how much was pruned, and a guess would give all events other numbers.
#[test]
fn an_archive_that_does_not_say_what_was_pruned_is_left_as_it_is() {
    let (disk, _) = fixture();
    open(&disk).prune(4).unwrap();
    let whole = read(&disk, &paths().archive);
    let head_bytes = whole.windows(4).position(|magic| magic == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let events = events_from(&disk, 4);
    for (at, bit) in [(0, 0), (5, 3), (head_bytes - 3, 1)] {
        flip(&disk, &paths().archive, at, bit);
        let damaged = disk.fingerprint();
        let error = try_repair(&disk, DIR).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(text.contains(&format!("put back its first {head_bytes} bytes")), "{text}");
        assert_eq!(disk.fingerprint(), damaged, "nothing is changed");
        let file = disk.open(&paths().archive).unwrap();
        file.write_at(&whole[..head_bytes], 0).unwrap();
        file.sync().unwrap();
        repair(&disk);
        assert_eq!(events_from(&disk, 4), events);
    }
}

fn events_from(disk: &SimDisk, sequence: u64) -> Vec<String> {
    let events = reader(disk).read_seq(sequence).unwrap();
    events.map(|item| item.unwrap().0.event_type).collect()
}

/// Also for writers that want no lock: their turn is taken.
#[test]
fn nobody_comes_between_while_a_log_is_repaired() {
    let memory = MemoryDisk::default();
    let mut log = EventLog::builder(DIR).disk(Arc::new(memory.clone())).open().unwrap();
    for n in 0..3 {
        log.append(&Event::new("a", json!(n))).unwrap();
        log.rotate().unwrap();
    }
    drop(log);
    let archive = memory.open(&paths().archive).unwrap();
    archive.write_at(b"x", 20).unwrap();
    let (asked, turns) = (Arc::new(Mutex::new(0)), memory.open_lock(&paths().turn).unwrap());
    let writers = memory.open_lock(&paths().log).unwrap();
    let count = Arc::clone(&asked);
    let hooked = HookedDisk::new(memory.clone(), move |path| {
        if path != paths().log {
            assert!(!turns.try_lock().unwrap(), "a writer could take its turn");
            assert!(!writers.try_lock().unwrap(), "a writer could open the log");
            *count.lock().unwrap() += 1;
        }
    });
    let disk: Arc<dyn Disk> = Arc::new(hooked);
    let repaired = repair_on(&disk, Path::new(DIR)).unwrap();
    assert_eq!(repaired.damaged_generations, [0]);
    assert!(*asked.lock().unwrap() > 20, "{}", asked.lock().unwrap());
    assert!(memory.open_lock(&paths().turn).unwrap().try_lock().unwrap(), "given back");
}

/// The log of [`fixture`] without its first generation; two views, one of which stands where history was pruned.
fn pruned_fixture() -> SimDisk {
    let (disk, _) = fixture();
    let mut log = open(&disk);
    assert_eq!(log.prune(4).unwrap().events, 0..4);
    let path = paths().views.join("types.base.json");
    let base = read(&disk, &path);
    let older = snapshot::decode::<Vec<String>>(&base);
    let Found::Whole(mut older) = older else { panic!("{older:?}") };
    let place = log.reader().history().position_of(14).unwrap().unwrap();
    older.state.truncate(14);
    older.progress.hash = log.reader().history().hash_before(place).unwrap().unwrap();
    (older.progress.position, older.progress.sequence) = (place, 14);
    write(&disk, &path, &snapshot::encode(&older.state, &older.progress, 0).unwrap());
    assert!(verify(&disk).is_sound());
    disk
}

/// That the view has lost nothing that it had, and goes on.
fn check_kept(disk: &SimDisk, what: &str) {
    let mut log = open(disk);
    log.refresh_all().unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = log.view::<Vec<String>>("types").unwrap().clone();
    let names: BTreeSet<_> = (0..4).flat_map(|g| (0..4).map(move |n| format!("g{g}-{n}"))).collect();
    let lost: Vec<_> = names.iter().filter(|name| !state.contains(name)).collect();
    assert!(lost.len() <= 1 && state.len() >= 15, "{what}: {lost:?}");
    log.append(&Event::new("next", json!(1))).unwrap();
    log.rotate().unwrap();
    let all = log.view::<Vec<String>>("types").unwrap();
    assert_eq!((all[..state.len()].to_vec(), all.len()), (state.clone(), state.len() + 1), "{what}");
    assert_eq!(all.last().unwrap(), "next", "{what}");
    drop(log);
    assert!(verify(disk).is_sound(), "{what}: {:?}", verify(disk).problems);
    // Also from its other file.
    disk.remove(&paths().views.join("types.snapshot.json")).unwrap();
    let mut log = open(disk);
    log.refresh_all().unwrap_or_else(|error| panic!("{what}, from its base: {error}"));
    assert!(log.view::<Vec<String>>("types").unwrap().len() >= 15, "{what}, from its base");
}

#[test]
fn what_pruned_events_came_to_outlives_every_flip() {
    let disk = pruned_fixture();
    let (mut kept, mut log_lines) = (0, 0);
    let first = Catalog::default().walk_to(&disk, &paths(), 1);
    assert!(first.is_err(), "the archive begins with what was pruned");
    let head = Pruned { generations: 1, events: 4 }.to_frame().unwrap().len();
    for (path, from, bits) in [(&paths().archive, head, &[0, 2, 7][..]), (&paths().log, 0, &[0, 3, 7])] {
        for at in from..read(&disk, path).len() {
            for bit in bits {
                let disk = disk.kill();
                flip(&disk, path, at, *bit);
                let repaired = repair(&disk);
                let what = format!("{}, byte {at}, bit {bit}", path.display());
                kept += u32::from(!repaired.snapshots_kept.is_empty());
                log_lines += repaired.lines_set_aside;
                check_kept(&disk, &what);
            }
        }
    }
    assert!(kept > 300 && log_lines > 100, "{kept}, {log_lines}");
}

#[test]
fn a_repair_of_a_pruned_log_that_is_stopped_anywhere_can_be_repeated() {
    let disk = pruned_fixture();
    flip(&disk, &paths().archive, read(&disk, &paths().archive).len() - 20, 1);
    flip(&disk, &paths().log, 3, 0);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |number, copy| copies.lock().unwrap().push((number, copy)));
    let repaired = repair(&disk);
    assert_eq!((repaired.lines_set_aside, repaired.damaged_generations), (1, vec![2]));
    assert!(repaired.snapshots_set_aside.is_empty());
    assert_eq!(repaired.snapshots_kept.len(), 2);
    let expected = events(&disk);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 20, "{}", moments.len());
    for (number, killed) in moments {
        let cuts = (0..12).map(|seed| (format!("seed {seed}"), killed.power_cut(seed)));
        for (how, left) in std::iter::once(("killed".to_owned(), killed.kill())).chain(cuts) {
            repair(&left);
            assert_eq!(events(&left), expected, "operation {number}, {how}");
            check_kept(&left, &format!("operation {number}, {how}"));
        }
    }
}

#[test]
fn a_view_that_stands_in_a_damaged_generation_goes_on_behind_what_is_left() {
    let disk = pruned_fixture();
    let log = open(&disk);
    let before = read(&disk, &paths().archive).len();
    let place = log.reader().history().position_of(10).unwrap().unwrap();
    assert_eq!(place.generation, 2);
    let hash = log.reader().history().hash_before(place).unwrap().unwrap();
    drop(log);
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let progress =
        snapshot::Progress { position: place, hash, sequence: 10, ..snapshot::Progress::default() };
    snapshot::write(
        &disk,
        &paths().views.join("late.snapshot.json"),
        &snapshot::encode(&names, &progress, 0).unwrap(),
    )
    .unwrap();
    assert!(verify(&disk).is_sound());
    let (mut kept, from) = (0, usize::try_from(fs_entries(&disk)[0]).unwrap());
    for at in from..before {
        let disk = disk.kill();
        flip(&disk, &paths().archive, at, 3);
        kept +=
            u32::from(repair(&disk).snapshots_kept.iter().any(|path| path.ends_with("late.snapshot.json")));
        let builder = EventLog::builder(DIR).disk(Arc::new(disk.clone()));
        let mut log = builder.view("late", types).open().unwrap();
        log.refresh_all().unwrap_or_else(|error| panic!("byte {at}: {error}"));
        let state = log.view::<Vec<String>>("late").unwrap();
        assert_eq!(state[..10], names, "byte {at}");
        assert!(
            state.ends_with(&["g3-0", "g3-1", "g3-2", "g3-3"].map(str::to_owned)),
            "byte {at}: {state:?}"
        );
        assert!(state.len() <= 16, "byte {at}: {state:?}");
    }
    assert!(kept > 50, "{kept}");
}

/// Checkpoints of generations that were pruned are of no use; states that a view may go on from once its log is put back are.
#[test]
fn a_view_called_like_a_checkpoint_keeps_its_files() {
    let disk = pruned_fixture();
    let position = Position { generation: 0, offset: 60 };
    let progress = snapshot::Progress {
        position,
        hash: "0123456789abcdef".to_owned(),
        sequence: 2,
        ..snapshot::Progress::default()
    };
    let contents = snapshot::encode(&["g0-0", "g0-1"], &progress, 0).unwrap();
    let names = ["kpi.at-close.snapshot.json", "kpi.at-close.base.json", "kpi.at-close.at-2.json"];
    let [snapshot, base, checkpoint] = names.map(|name| paths().views.join(name));
    for path in [&snapshot, &base, &checkpoint] {
        write(&disk, path, &contents);
    }
    let verified = verify(&disk);
    assert_eq!(verified.leftovers, std::slice::from_ref(&checkpoint));
    let mut concerned: Vec<_> =
        verified.problems.iter().map(|problem| (problem.kind, &problem.file)).collect();
    concerned.sort_by_key(|(_, file)| (*file).clone());
    assert_eq!(concerned, [(ProblemKind::Snapshot, &base), (ProblemKind::Snapshot, &snapshot)]);
    assert_eq!(try_repair(&disk, DIR).unwrap().removed, [checkpoint]);
    assert_eq!([&snapshot, &base].map(|path| read(&disk, path)), [contents.clone(), contents]);
}

#[test]
fn states_of_pruned_events_wait_for_a_log_that_lost_its_end() {
    let disk = pruned_fixture();
    let text = read(&disk, &paths().log);
    let files = ["types.snapshot.json", "types.base.json"].map(|name| paths().views.join(name));
    let before = files.each_ref().map(|path| read(&disk, path));
    for bytes in [0, 1, 60, 110] {
        let disk = disk.kill();
        write(&disk, &paths().log, &text[..bytes]);
        try_repair(&disk, DIR).unwrap();
        let after = files.each_ref().map(|path| disk.bytes(path).unwrap().map(|_| read(&disk, path)));
        if bytes < 110 {
            assert_eq!(after, before.clone().map(Some), "{bytes} bytes");
        } else {
            // The base fits still, so the view has that.
            assert_eq!(after, [None, Some(before[1].clone())], "{bytes} bytes");
            assert!(aside(&disk).contains(&before[0]));
        }
        write(&disk, &paths().log, &text);
        check_kept(&disk, &format!("{bytes} bytes"));
    }
}

#[test]
fn a_view_in_memory_goes_on_behind_a_repair_of_a_pruned_log() {
    let disk = pruned_fixture();
    let reader = reader(&disk);
    let mut view: crate::View<Vec<String>> = crate::View::new("types", types, &paths().views);
    let before = view.refresh(&reader).unwrap().clone();
    assert_eq!(before.len(), 16);
    let last = read(&disk, &paths().log).len() - 30;
    flip(&disk, &paths().log, last, 7);
    assert_eq!(repair(&disk).lines_set_aside, 1);
    let mut log = open(&disk);
    log.append(&Event::new("next", json!(1))).unwrap();
    drop(log);
    let after = view.refresh(&reader).unwrap();
    assert_eq!((&after[..16], &*after[16]), (&before[..], "next"));
}
