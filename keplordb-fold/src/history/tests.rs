//! Reading history, against a plain list of lines: whatever rotations made of the files, before or in the midst of reading.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use keplordb_disk::{Disk, MemoryDisk, read_all};
use proptest::prelude::*;

use super::*;
use crate::frames::{Pruned, compress};
use crate::journal::Journal;
use crate::reader::EventReader;
use crate::subscribe::Update;
use crate::test_disk::HookedDisk;

/// A log that is written by hand, and what it should read as.
struct Fixture {
    disk: MemoryDisk,
    paths: Arc<Paths>,
    /// All lines, pruned ones too, with where they begin and end.
    lines: Vec<(Position, Position, Vec<u8>)>,
    generation: u64,
    pruned: Pruned,
}

/// The steps of a rotation, each of which may be the last before a reader looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Journal,
    HalfFrame,
    Frame,
    Cut,
    Done,
    Index,
}

const STEPS: [Step; 6] = [Step::Journal, Step::HalfFrame, Step::Frame, Step::Cut, Step::Done, Step::Index];

fn put(disk: &dyn Disk, path: &Path, at: u64, bytes: &[u8]) {
    let file = disk.open(path).or_else(|_| disk.create(path)).unwrap();
    file.write_at(bytes, at).unwrap();
}

fn bytes(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    read_all(disk, path, u64::MAX).unwrap_or_default()
}

/// Does the steps of a rotation up to this one.
fn rotate(disk: &dyn Disk, paths: &Paths, until: Step) {
    go_on(disk, paths, Step::Journal, until);
}

/// Does these steps of a rotation.
fn go_on(disk: &dyn Disk, paths: &Paths, from: Step, until: Step) {
    let text = bytes(disk, &paths.log);
    let frame = compress(&text).unwrap();
    let journal = Journal::read(disk, paths).unwrap().unwrap_or_else(|| {
        let archive_bytes = disk.bytes(&paths.archive).unwrap().unwrap_or(0);
        let log_hash = line_hash(&text);
        let generation = generation_of(disk, paths);
        Journal { archive_bytes, log_bytes: text.len() as u64, log_hash, generation }
    });
    for step in STEPS.into_iter().filter(|step| (from..=until).contains(step)) {
        match step {
            Step::Journal => journal.write(disk, paths).unwrap(),
            Step::HalfFrame => {
                put(disk, &paths.archive, journal.archive_bytes, &frame[..frame.len() / 2]);
            }
            Step::Frame => put(disk, &paths.archive, journal.archive_bytes, &frame),
            Step::Cut => disk.open(&paths.log).unwrap().truncate(0).unwrap(),
            Step::Done => Journal::remove(disk, paths).unwrap(),
            Step::Index => {
                let at = (journal.archive_bytes, frame.len() as u64);
                let entry = Entry::new(journal.generation, at, &Facts::of_text(&text));
                index::append(disk, paths, &entry).unwrap();
            }
        }
    }
}

fn generation_of(disk: &dyn Disk, paths: &Paths) -> u64 {
    let Ok(file) = disk.open_read(&paths.archive) else { return 0 };
    let archive = crate::frames::Archive::new(file, &paths.archive);
    let end = archive.bytes().unwrap();
    let (pruned, from) = archive.pruned(end).unwrap();
    let mut walk = crate::frames::Walk::new(&archive, from, end);
    let mut generation = pruned.generations;
    while walk.next().unwrap().is_some() {
        generation += 1;
    }
    generation
}

impl Fixture {
    fn new() -> Self {
        let (disk, paths) = (MemoryDisk::default(), Arc::new(Paths::new(Path::new("app"))));
        disk.create_dir(&paths.dir).unwrap();
        disk.create(&paths.log).unwrap();
        Self { disk, paths, lines: Vec::new(), generation: 0, pruned: Pruned::default() }
    }

    fn history(&self) -> History {
        History::new(Arc::new(self.disk.clone()), Arc::clone(&self.paths))
    }

    fn log_bytes(&self) -> u64 {
        self.disk.bytes(&self.paths.log).unwrap().unwrap()
    }

    fn append(&mut self, line: &[u8], newline: &[u8]) {
        let offset = self.log_bytes();
        let text = [line, newline].concat();
        put(&self.disk, &self.paths.log, offset, &text);
        let generation = self.generation;
        let at = Position { generation, offset };
        let end = Position { generation, offset: offset + text.len() as u64 };
        if !line.is_empty() {
            self.lines.push((at, end, line.to_vec()));
        }
    }

    fn append_events(&mut self, count: usize) {
        for _ in 0..count {
            let line = format!(
                "{{\"type\":\"t\",\"data\":{},\"ts\":{}}}",
                self.lines.len(),
                1000 + self.lines.len()
            );
            self.append(line.as_bytes(), b"\n");
        }
    }

    fn rotate(&mut self) {
        rotate(&self.disk, &self.paths, Step::Index);
        self.generation += 1;
    }

    /// As a program does that knows nothing of journal, index, lengths and checksums.
    fn rotate_foreign(&mut self) {
        let frame = zstd::stream::encode_all(&bytes(&self.disk, &self.paths.log)[..], 3).unwrap();
        let end = self.disk.bytes(&self.paths.archive).unwrap().unwrap_or(0);
        put(&self.disk, &self.paths.archive, end, &frame);
        self.disk.open(&self.paths.log).unwrap().truncate(0).unwrap();
        self.generation += 1;
    }

    /// Takes the first `generations` out of the archive.
    fn prune(&mut self, generations: u64) {
        let all = bytes(&self.disk, &self.paths.archive);
        let history = self.history();
        let first = history.present().unwrap().first_generation + generations;
        let at = match history.directory.archived(first, first + 1) {
            Ok((_, frames)) => usize::try_from(frames[0].frame.at).unwrap(),
            Err(_) => all.len(),
        };
        let events = history.first_sequence_of(first).unwrap();
        self.pruned = Pruned { generations: first, events };
        let archive = [&self.pruned.to_frame().unwrap()[..], &all[at..]].concat();
        let _ = self.disk.remove(&self.paths.index);
        keplordb_disk::replace(&self.disk, &self.paths.archive, &archive).unwrap();
    }

    fn present_lines(&self) -> &[(Position, Position, Vec<u8>)] {
        &self.lines[usize::try_from(self.pruned.events).unwrap()..]
    }

    /// All that can be asked of a history is as it should be.
    fn check(&self, history: &History) {
        let lines = self.present_lines();
        let present = history.present().unwrap();
        assert_eq!(
            (present.first_generation, present.first_sequence),
            (self.pruned.generations, self.pruned.events)
        );
        assert_eq!((present.generation, present.log_bytes), (self.generation, self.log_bytes()));
        let first = Position { generation: self.pruned.generations, offset: 0 };
        assert_eq!(read(history, first), lines);
        for (n, (at, end, line)) in lines.iter().enumerate() {
            let sequence = self.pruned.events + n as u64;
            assert_eq!(read(history, *at), lines[n..]);
            assert_eq!(read(history, *end), lines[n + 1..]);
            assert_eq!(history.hash_before(*end).unwrap(), Some(line_hash(line)));
            assert_eq!(history.hash_before(Position { offset: at.offset + 1, ..*at }).unwrap(), None);
            assert_eq!(history.sequence_of(*at).unwrap(), sequence);
            assert_eq!(history.sequence_of(*end).unwrap(), sequence + 1);
            // In between there may be empty lines and ends of generations, but no event.
            let found = history.position_of(sequence).unwrap().unwrap();
            assert!(found <= *at && n.checked_sub(1).is_none_or(|before| lines[before].1 <= found));
        }
        let next = self.pruned.events + lines.len() as u64;
        let (end, sequence) = history.end().unwrap();
        assert_eq!(sequence, next);
        assert_eq!(history.position_of(next).unwrap(), Some(end));
        assert_eq!(end.generation, self.generation);
        assert_eq!(read(history, end), []);
        assert_eq!(history.position_of(next + 1).unwrap(), None);
        if self.pruned.events > 0 {
            let error = history.position_of(self.pruned.events - 1).unwrap_err();
            assert!(error.to_string().contains("were pruned"), "{error}");
            assert!(history.read(Position::default()).is_err());
        }
        let future = Position { generation: self.generation + 1, offset: 0 };
        assert_eq!(history.read(future).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(history.hash_before(Position { offset: 1, ..future }).unwrap(), None);
    }
}

fn read(history: &History, from: Position) -> Vec<(Position, Position, Vec<u8>)> {
    try_read(history, from).unwrap()
}

fn try_read(history: &History, from: Position) -> io::Result<Vec<(Position, Position, Vec<u8>)>> {
    let (mut lines, mut blocks) = (Vec::new(), history.read(from)?);
    while let Some(block) = blocks.next()? {
        lines.extend(block.lines().map(|line| (line.at, line.end, line.bytes.to_vec())));
    }
    assert_eq!(blocks.next()?, None);
    Ok(lines)
}

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<u8>, &'static [u8]),
    Empty(&'static [u8]),
    Rotate,
    RotateForeign,
    Prune(u64),
    Reopen,
    RemoveIndex,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let newline = || prop_oneof![3 => Just(&b"\n"[..]), 1 => Just(&b"\r\n"[..])];
    let line = prop_oneof![
        8 => "[a-z0-9{}\":,]{1,40}".prop_map(String::into_bytes),
        1 => (5_000_usize..20_000).prop_map(|bytes| b"long".repeat(bytes / 4)),
    ];
    let act = prop_oneof![
        10 => (line, newline()).prop_map(|(line, newline)| Act::Append(line, newline)),
        2 => newline().prop_map(Act::Empty),
        2 => Just(Act::Rotate),
        1 => Just(Act::RotateForeign),
        1 => (1_u64..3).prop_map(Act::Prune),
        1 => Just(Act::Reopen),
        1 => Just(Act::RemoveIndex),
    ];
    prop::collection::vec(act, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 96 }))]

    #[test]
    fn any_history_is_what_was_appended(acts in acts(), torn in prop::option::of("[a-z]{1,10}")) {
        let mut fixture = Fixture::new();
        let mut history = fixture.history();
        for act in acts {
            match act {
                Act::Append(line, newline) => fixture.append(&line, newline),
                Act::Empty(newline) => fixture.append(b"", newline),
                Act::Rotate if fixture.log_bytes() > 0 => fixture.rotate(),
                Act::RotateForeign if fixture.log_bytes() > 0 => fixture.rotate_foreign(),
                Act::Prune(generations) if fixture.generation - fixture.pruned.generations >= generations => {
                    fixture.prune(generations);
                }
                Act::Rotate | Act::RotateForeign | Act::Prune(_) => {}
                Act::Reopen => history = fixture.history(),
                Act::RemoveIndex => drop(fixture.disk.remove(&fixture.paths.index)),
            }
            // One that has followed all along.
            prop_assert_eq!(history.present().unwrap().generation, fixture.generation);
        }
        if let Some(torn) = torn {
            put(&fixture.disk, &fixture.paths.log, fixture.log_bytes(), torn.as_bytes());
        }
        fixture.check(&history);
        fixture.check(&fixture.history());
    }
}

#[test]
fn history_of_many_blocks_is_read_by_threads_and_ends_where_it_is_dropped() {
    let mut fixture = Fixture::new();
    for generation in 0..6 {
        for n in 0..20_000_u32 {
            let noise = n.wrapping_mul(2_654_435_761).wrapping_add(generation);
            let line =
                format!("{{\"type\":\"t\",\"data\":\"{noise:x}{:x}\",\"ts\":1}}", noise.rotate_left(7) ^ n);
            let offset = fixture.lines.last().filter(|last| last.1.generation == fixture.generation);
            let offset = offset.map_or(0, |last| last.1.offset);
            let at = Position { generation: fixture.generation, offset };
            let end = Position { offset: offset + line.len() as u64 + 1, ..at };
            fixture.lines.push((at, end, line.into_bytes()));
        }
        let ours = fixture.lines.iter().filter(|line| line.0.generation == fixture.generation);
        let text = ours.flat_map(|line| [&line.2[..], b"\n"].concat()).collect::<Vec<u8>>();
        put(&fixture.disk, &fixture.paths.log, 0, &text);
        match generation {
            5 => {}
            2 => fixture.rotate_foreign(),
            _ => fixture.rotate(),
        }
    }
    let history = fixture.history();
    assert!(read(&history, Position::default()) == fixture.lines);
    for n in [1, 19_999, 20_000, 59_999, 70_001, 119_999] {
        let (at, end, ref line) = fixture.lines[n];
        assert!(read(&history, at) == fixture.lines[n..]);
        assert_eq!(history.position_of(n as u64).unwrap(), Some(at));
        assert_eq!(history.sequence_of(end).unwrap(), n as u64 + 1);
        assert_eq!(history.hash_before(end).unwrap(), Some(line_hash(line)));
    }
    let mut blocks = history.read(Position::default()).unwrap();
    assert!(blocks.next().unwrap().is_some());
}

#[test]
fn a_line_that_is_longer_than_a_block_is_read_whole() {
    let mut fixture = Fixture::new();
    fixture.append_events(1);
    fixture.append(&b"x".repeat(5 << 20), b"\n");
    fixture.append_events(1);
    fixture.check(&fixture.history());
    fixture.rotate();
    fixture.append(&b"y".repeat((1 << 20) - 1), b"\n");
    fixture.append(&b"z".repeat(1 << 20), b"\n");
    fixture.check(&fixture.history());
    // A torn one of that length is none.
    put(&fixture.disk, &fixture.paths.log, fixture.log_bytes(), &b"torn".repeat(1 << 20));
    fixture.check(&fixture.history());
}

#[test]
fn a_batch_that_is_not_committed_is_not_there() {
    let mut fixture = Fixture::new();
    fixture.append_events(2);
    let end = fixture.log_bytes();
    put(&fixture.disk, &fixture.paths.log, end, b"#\"type\":1}\n{\"b\":2}\n");
    let history = fixture.history();
    assert_eq!(read(&history, Position::default()), fixture.lines);
    assert_eq!(read(&history, Position { generation: 0, offset: end }), []);
    assert_eq!(history.end().unwrap(), (Position { generation: 0, offset: end }, 2));
    put(&fixture.disk, &fixture.paths.log, end, b"{");
    assert_eq!(read(&history, Position::default()).len(), 4);
    assert_eq!(history.end().unwrap().1, 4);
}

/// Whichever steps of a rotation were done when a crash ended it, and whatever was appended since by a program that does not
/// know of it.
#[test]
fn every_moment_of_a_rotation_reads_the_same() {
    for step in STEPS {
        for followed in [false, true] {
            let mut fixture = Fixture::new();
            fixture.append_events(3);
            fixture.rotate();
            fixture.append_events(4);
            let history = fixture.history();
            if followed {
                history.end().unwrap();
            }
            rotate(&fixture.disk, &fixture.paths, step);
            fixture.generation = if step >= Step::Cut { 2 } else { 1 };
            fixture.check(&history);
            if step != Step::Cut {
                // After the cut nobody may append before the journal is gone.
                fixture.append_events(1);
                fixture.check(&history);
                fixture.check(&fixture.history());
            }
        }
    }
}

/// A reader's n-th question to the disk is preceded by a step of a rotation, for all n and many ways to spread the steps. What
/// is appended behind it is longer than what was there, and has lines of the same length at the same places.
#[test]
fn a_rotation_between_any_two_questions_is_not_noticed() {
    let mut tried = 0;
    let ways = STEPS.into_iter().flat_map(|first| (1..14).map(move |pause| (first, pause)));
    for ((first, pause), rotates_again) in ways.flat_map(|way| [(way, false), (way, true)]) {
        for at in 1..40 {
            let mut fixture = Fixture::new();
            fixture.append_events(3);
            fixture.rotate();
            fixture.append_events(4);
            let (disk, paths) = (fixture.disk.clone(), Arc::clone(&fixture.paths));
            let questions = Arc::new(AtomicU64::new(0));
            let asked = Arc::clone(&questions);
            let hooked = HookedDisk::new(disk.clone(), move |_| {
                let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
                if n == at {
                    rotate(&disk, &paths, first);
                } else if n == at + pause {
                    let rest = STEPS.into_iter().find(|step| *step > first && *step <= Step::Done);
                    if let Some(next) = rest {
                        go_on(&disk, &paths, next, Step::Done);
                    }
                    put(&disk, &paths.log, 0, &b"{\"type\":\"l\",\"data\":0,\"ts\":9999}\n".repeat(9));
                    if rotates_again {
                        rotate(&disk, &paths, Step::Index);
                    }
                }
            });
            let history = History::new(Arc::new(hooked), Arc::clone(&fixture.paths));
            let lines = read(&history, Position::default());
            let asked = questions.load(Ordering::SeqCst);
            let case =
                format!("{first:?} before question {at} of {asked}, the rest {pause} later, {rotates_again}");
            assert_eq!(lines[..7], fixture.lines, "{case}");
            assert!(
                lines[7..].iter().all(|line| line.2.starts_with(b"{\"type\":\"l\"")),
                "{case}: {lines:?}"
            );
            for (n, (at, end, line)) in lines[..7].iter().enumerate() {
                assert_eq!(history.sequence_of(*at).unwrap(), n as u64, "{case}");
                assert_eq!(history.hash_before(*end).unwrap(), Some(line_hash(line)), "{case}");
            }
            tried += u64::from(at <= asked);
        }
    }
    assert!(tried > 500, "{tried} rotations fell into a reading");
}

/// The same for the questions that look at one place.
#[test]
fn a_rotation_does_not_change_what_a_position_means() {
    for at in 1..40 {
        let mut fixture = Fixture::new();
        fixture.append_events(5);
        let (disk, paths) = (fixture.disk.clone(), Arc::clone(&fixture.paths));
        let asked = AtomicU64::new(0);
        let hooked = HookedDisk::new(disk.clone(), move |_| {
            if asked.fetch_add(1, Ordering::SeqCst) + 1 == at {
                rotate(&disk, &paths, Step::Index);
                // Other lines of the same length, at the same places.
                put(&disk, &paths.log, 0, &b"{\"type\":\"t\",\"data\":9,\"ts\":9999}\n".repeat(5));
            }
        });
        let history = History::new(Arc::new(hooked), Arc::clone(&fixture.paths));
        let (_, end, line) = &fixture.lines[4];
        assert_eq!(history.hash_before(*end).unwrap(), Some(line_hash(line)), "question {at}");
        assert_eq!(history.sequence_of(*end).unwrap(), 5);
        assert_eq!(history.position_of(5).unwrap().map(|at| history.sequence_of(at).unwrap()), Some(5));
    }
}

#[test]
fn what_contradicts_itself_is_an_error() {
    let make = || {
        let mut fixture = Fixture::new();
        for _ in 0..3 {
            fixture.append_events(20);
            fixture.rotate();
        }
        fixture.append_events(2);
        fixture
    };
    // The archive, cut anywhere: also where a frame ends, because the cache file knows of more.
    let fixture = make();
    let whole = bytes(&fixture.disk, &fixture.paths.archive);
    for end in 0..whole.len() {
        let fixture = make();
        fixture.disk.open(&fixture.paths.archive).unwrap().truncate(end as u64).unwrap();
        let error = try_read(&fixture.history(), Position::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {end}: {error}");
        assert!(error.to_string().contains("archive.jsonl.zst"), "{error}");
    }
    // Flips: an error, or what was there.
    for (at, byte) in whole.iter().enumerate() {
        let fixture = make();
        put(&fixture.disk, &fixture.paths.archive, at as u64, &[byte ^ 1 << (at % 8)]);
        match try_read(&fixture.history(), Position::default()) {
            Ok(lines) => assert_eq!(lines, fixture.lines, "flip at {at}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
        }
    }
    // The cache file: never more than time, but where it proves that the archive lost bytes.
    let index = bytes(&fixture.disk, &fixture.paths.index);
    for (at, byte) in index.iter().enumerate() {
        let fixture = make();
        put(&fixture.disk, &fixture.paths.index, at as u64, &[byte ^ 1 << (at % 8)]);
        fixture.check_shortly();
        let fixture = make();
        fixture.disk.open(&fixture.paths.index).unwrap().truncate(at as u64).unwrap();
        fixture.check_shortly();
    }
    // One of another archive.
    let fixture = make();
    let mut other = Fixture::new();
    for _ in 0..4 {
        other.append_events(30);
        other.rotate();
    }
    let lines = bytes(&other.disk, &other.paths.index);
    keplordb_disk::replace(&fixture.disk, &fixture.paths.index, &lines[..lines.len() / 3]).unwrap();
    fixture.check(&fixture.history());
    // The journal.
    for step in [Step::Journal, Step::Frame, Step::Cut] {
        let fixture = make();
        rotate(&fixture.disk, &fixture.paths, step);
        let journal = bytes(&fixture.disk, &fixture.paths.journal);
        for (at, byte) in journal.iter().enumerate() {
            put(&fixture.disk, &fixture.paths.journal, at as u64, &[byte ^ 1 << (at % 8)]);
            let error = try_read(&fixture.history(), Position::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            put(&fixture.disk, &fixture.paths.journal, at as u64, &[*byte]);
        }
        assert_eq!(read(&fixture.history(), Position::default()), fixture.lines);
    }
    // An active log that was emptied by hand before its frame was whole.
    let fixture = make();
    rotate(&fixture.disk, &fixture.paths, Step::Journal);
    fixture.disk.open(&fixture.paths.log).unwrap().truncate(0).unwrap();
    let error = try_read(&fixture.history(), Position::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

impl Fixture {
    fn check_shortly(&self) {
        let history = self.history();
        assert_eq!(history.end().unwrap().1, self.lines.len() as u64);
        for n in [0, 21, 59] {
            assert_eq!(history.position_of(n).unwrap(), Some(self.lines[usize::try_from(n).unwrap()].0));
        }
        assert_eq!(read(&history, Position::default()), self.lines);
    }
}

#[test]
fn a_frame_torn_by_another_program_is_told_from_one_that_was_whole() {
    let mut fixture = Fixture::new();
    fixture.append_events(20);
    fixture.rotate();
    fixture.append_events(20);
    let end = fixture.disk.bytes(&fixture.paths.archive).unwrap().unwrap();
    assert_eq!(fixture.history().torn_frame().unwrap(), None);
    let frame = compress(&bytes(&fixture.disk, &fixture.paths.log)).unwrap();
    put(&fixture.disk, &fixture.paths.archive, end, &frame[..frame.len() - 3]);
    assert_eq!(fixture.history().torn_frame().unwrap(), Some(end));
    let error = try_read(&fixture.history(), Position::default()).unwrap_err();
    assert!(error.to_string().contains("the last frame is torn"), "{error}");
    // Set aside, all is well.
    fixture.disk.open(&fixture.paths.archive).unwrap().truncate(end).unwrap();
    fixture.check(&fixture.history());
    // The first frame was whole, the cache file knows.
    fixture.disk.open(&fixture.paths.archive).unwrap().truncate(end - 3).unwrap();
    assert_eq!(fixture.history().torn_frame().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// Else a writer that opens the log would cut it.
#[test]
fn a_frame_that_was_whole_is_never_called_torn() {
    let mut fixture = Fixture::new();
    fixture.append_events(20);
    fixture.rotate();
    fixture.append_events(20);
    let begin = fixture.disk.bytes(&fixture.paths.archive).unwrap().unwrap();
    fixture.rotate();
    let archive = bytes(&fixture.disk, &fixture.paths.archive);
    let begin = usize::try_from(begin).unwrap();
    let mut damaged = 0;
    for (at, &byte) in archive.iter().enumerate().skip(begin) {
        for bit in 0..8 {
            put(&fixture.disk, &fixture.paths.archive, at as u64, &[byte ^ (1 << bit)]);
            match fixture.history().torn_frame() {
                Ok(torn) => assert_eq!(torn, None, "byte {at}, bit {bit}"),
                Err(_) => damaged += 1,
            }
        }
        put(&fixture.disk, &fixture.paths.archive, at as u64, &[byte]);
    }
    assert!(damaged > 0);
}

#[test]
fn the_cache_file_is_written_by_rotations_and_completed() {
    let mut fixture = Fixture::new();
    for n in 0..3 {
        fixture.append_events(5 + n);
        fixture.rotate_foreign();
    }
    fixture.append_events(4);
    let text = bytes(&fixture.disk, &fixture.paths.log);
    let at = fixture.disk.bytes(&fixture.paths.archive).unwrap().unwrap();
    rotate(&fixture.disk, &fixture.paths, Step::Done);
    fixture.generation += 1;
    let history = fixture.history();
    history.note_archived(3, at, fixture.disk.bytes(&fixture.paths.archive).unwrap().unwrap() - at, &text);
    let (entries, _) = index::load(&fixture.disk, &fixture.paths, 0);
    let events: Vec<_> = entries.iter().map(|entry| entry.facts().unwrap().events).collect();
    assert_eq!(events, [5, 6, 7, 4]);
    assert_eq!(entries[3].facts().unwrap(), Facts::of_text(&text));
    assert_eq!(history.facts(3).unwrap().max_ts, Some(1021));
    fixture.check(&fixture.history());
    fixture.check(&history);
}

#[test]
fn without_an_active_log_there_is_no_history() {
    let fixture = Fixture::new();
    fixture.disk.remove(&fixture.paths.log).unwrap();
    let history = fixture.history();
    assert_eq!(history.present().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(history.read(Position::default()).err().unwrap().kind(), io::ErrorKind::NotFound);
    assert_eq!(history.hash_before(Position::default()).unwrap(), None);
}

/// Threads instead of hooks: what they see is all of the beginning, never less than before.
#[test]
fn readers_beside_a_log_that_rotates_see_each_event_once() {
    const EVENTS: u64 = 2_000;
    let fixture = Fixture::new();
    let (disk, paths) = (fixture.disk.clone(), Arc::clone(&fixture.paths));
    let reader = EventReader::with_disk(Arc::new(disk.clone()), &paths.dir);
    let is_over = AtomicBool::new(false);
    let number = |event: &crate::Event| event.data.as_u64().unwrap();
    let readings = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..EVENTS {
                let line = format!("{{\"type\":\"t\",\"data\":{n},\"ts\":1}}\n");
                put(&disk, &paths.log, disk.bytes(&paths.log).unwrap().unwrap(), line.as_bytes());
                if n % 5 == 4 {
                    rotate(&disk, &paths, if n % 2 == 0 { Step::Done } else { Step::Index });
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
        for shares in [true, false] {
            let (reader, is_over, readings, dir) = (&reader, &is_over, &readings, &paths.dir);
            let disk = disk.clone();
            scope.spawn(move || {
                let mut least = 0;
                loop {
                    let is_last = is_over.load(Ordering::SeqCst);
                    let own = EventReader::with_disk(Arc::new(disk.clone()), dir);
                    let reader = if shares { reader } else { &own };
                    let seen: Vec<_> =
                        reader.read_full().unwrap().map(|item| number(&item.unwrap().0)).collect();
                    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
                    assert!(seen.len() >= least, "{} after {least}", seen.len());
                    least = seen.len();
                    let count = reader.len().unwrap();
                    assert!(count >= least as u64);
                    if let Some(item) = reader.read_seq(count / 2).unwrap().next() {
                        assert_eq!(number(&item.unwrap().0), count / 2);
                    }
                    readings.fetch_add(1, Ordering::SeqCst);
                    if is_last {
                        assert_eq!(count, EVENTS);
                        break;
                    }
                }
            });
        }
        let mut updates = reader.subscribe(Position::default()).unwrap();
        scope.spawn(move || {
            let mut next = 0;
            while next < EVENTS {
                match updates.next(Duration::from_secs(20)).unwrap().expect("more comes") {
                    Update::Event { event, sequence, .. } => {
                        assert_eq!((number(&event), sequence), (next, next));
                        next += 1;
                    }
                    Update::CaughtUp => {}
                }
            }
        });
    });
    assert!(readings.load(Ordering::SeqCst) > 2);
}

#[test]
fn what_was_begun_by_offset_ends_with_its_generation() {
    let mut fixture = Fixture::new();
    fixture.append_events(6);
    let reader = EventReader::with_disk(Arc::new(fixture.disk.clone()), &fixture.paths.dir);
    let from = fixture.lines[1].0.offset;
    let events = reader.read_from(from).unwrap();
    fixture.rotate();
    fixture.append_events(30);
    let ends: Vec<_> = events.map(|item| item.unwrap().1).collect();
    assert_eq!(ends, fixture.lines[1..6].iter().map(|line| line.1.offset).collect::<Vec<_>>());
    assert_eq!(reader.read_from(0).unwrap().count(), 30);
}

#[test]
fn pruned_history_begins_where_it_begins() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        fixture.append_events(4);
        fixture.rotate();
    }
    fixture.append_events(2);
    let reader = EventReader::with_disk(Arc::new(fixture.disk.clone()), &fixture.paths.dir);
    assert_eq!(reader.read_full().unwrap().count(), 14);
    fixture.prune(2);
    assert_eq!(reader.first().unwrap(), (8, Position { generation: 2, offset: 0 }));
    assert_eq!(reader.read_full().unwrap().map(|item| item.unwrap().0.data).next(), Some(8.into()));
    assert_eq!(reader.len().unwrap(), 14);
    assert_eq!(reader.read_seq(9).unwrap().next().unwrap().unwrap().1, 9);
    for error in [
        reader.read_seq(7).err().unwrap(),
        reader.read_events_from(Position::default()).err().unwrap(),
        reader.subscribe(Position::default()).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "the events below number 8 were pruned; begin there, or restore what was exported"
        );
    }
    // Decoders pass over what says so.
    let archive = bytes(&fixture.disk, &fixture.paths.archive);
    let text = zstd::stream::decode_all(&archive[..]).unwrap();
    assert_eq!(memchr::memchr_iter(b'\n', &text).count(), 4);
    fixture.prune(1);
    assert_eq!(reader.read_full().unwrap().count(), 2);
    fixture.check(reader.history());
}

/// Frames of other programs have no checksum: what is known of their text stands in for it.
#[test]
fn damage_of_a_frame_without_checksum_is_found_by_what_is_known_of_it() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        fixture.append_events(30);
        fixture.rotate_foreign();
    }
    fixture.history().complete_index(u64::MAX).unwrap();
    assert_eq!(index::load(&fixture.disk, &fixture.paths, 0).0.len(), 2);
    let whole = bytes(&fixture.disk, &fixture.paths.archive);
    let (mut wrong, mut found) = (0, 0);
    for (at, byte) in whole.iter().enumerate() {
        for bit in 0..8 {
            put(&fixture.disk, &fixture.paths.archive, at as u64, &[byte ^ 1 << bit]);
            match try_read(&fixture.history(), Position::default()) {
                Ok(lines) => assert_eq!(lines, fixture.lines, "flip at {at}, bit {bit}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                    found += 1;
                    wrong += usize::from(error.to_string().contains("not what archive.index says"));
                }
            }
        }
        put(&fixture.disk, &fixture.paths.archive, at as u64, &[*byte]);
    }
    assert!(found > whole.len() * 7, "{found} of {}", whole.len() * 8);
    assert!(wrong > whole.len(), "{wrong} were found by nothing else");
}

/// The text of the frame is a thousand times what is held of it.
#[test]
fn a_frame_of_any_length_is_read_in_pieces() {
    let mut fixture = Fixture::new();
    let line = [&b"{\"type\":\"t\",\"data\":\""[..], &b"x".repeat(1000), b"\",\"ts\":1}\n"].concat();
    let text = line.repeat(100_000);
    put(&fixture.disk, &fixture.paths.log, 0, &text);
    fixture.rotate();
    let history = fixture.history();
    let mut blocks = history.read(Position::default()).unwrap();
    let (mut count, mut longest) = (0, 0);
    while let Some(block) = blocks.next().unwrap() {
        longest = longest.max(block.text.capacity());
        count += block.lines().count();
    }
    assert_eq!(count, 100_000);
    assert!(longest < 4 << 20, "{longest}");
}

/// The limit is 8 MiB in these tests.
#[test]
fn a_line_over_the_limit_is_refused_wherever_it_stands() {
    let disk = MemoryDisk::default();
    let dir = Path::new("log");
    let shared = || -> Arc<dyn Disk> { Arc::new(disk.clone()) };
    let event = |bytes: usize| crate::Event::new("a", serde_json::json!("x".repeat(bytes)));
    let mut writer = crate::EventWriter::with_disk(shared(), dir, crate::LockMode::Flock).unwrap();
    let longest = LINE_BYTES_MAX - serde_json::to_string(&event(0)).unwrap().len() - 1;
    writer.append(&event(longest)).unwrap();
    let end = writer.active_log_size().unwrap();
    for refused in [
        writer.append(&event(longest + 1)),
        writer.append_unique(&event(longest + 1).with_id("i")).map(|_| unreachable!()),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("could not be read back"), "{error}");
    }
    assert!(writer.append_batch(&[event(1), event(longest + 1)]).is_err());
    assert_eq!(writer.active_log_size().unwrap(), end);
    drop(writer);
    let reader = EventReader::with_disk(shared(), dir);
    assert_eq!(reader.read_from(0).unwrap().collect::<io::Result<Vec<_>>>().unwrap().len(), 1);

    // Another program's: in the active log, and archived.
    let line = serde_json::to_string(&event(3 * LINE_BYTES_MAX)).unwrap() + "\n";
    put(&disk, &dir.join("app.jsonl"), end, line.as_bytes());
    let place = Position { generation: 0, offset: end + line.len() as u64 };
    assert_eq!(reader.history().hash_before(place).unwrap(), None);
    for is_archived in [false, true] {
        if is_archived {
            rotate(&disk, reader.history().paths(), Step::Done);
        }
        let reader = EventReader::with_disk(shared(), dir);
        let items: Vec<_> = reader.read_full().unwrap().collect();
        assert_eq!(items.len(), 2, "archived: {is_archived}");
        let error = items.into_iter().nth(1).unwrap().map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("a line of over 1 GiB"), "{error}");
    }
}
