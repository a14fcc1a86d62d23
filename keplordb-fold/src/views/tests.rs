//! Views over a log on a disk in memory: what a refresh promises whatever was appended, archived, lost or damaged around it.
//!
//! The log is written here by hand, file by file, as any program might; a `Vec` of its events, folded anew, is what every view must come to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_disk::{MemoryDisk, SimDisk, read_all};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::error::FoldError;
use crate::frames::compress;
use crate::hash::line_hash;
use crate::kept::Moment;
use crate::reader::EventReader;
use crate::snapshot::{self, Found, Snapshot, Stored};
use crate::typed::{Meta, TypedView};
use crate::view::View;
use crate::view_options::{Checkpoints, SnapshotPolicy, ViewOptions};

const DIR: &str = "log";

/// A log, and the events that it should have.
struct Log {
    disk: Arc<dyn Disk>,
    events: Vec<Event>,
}

use keplordb_disk::Disk;

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn views_dir() -> PathBuf {
    path("views")
}

impl Log {
    fn new() -> Self {
        Self::on(Arc::new(MemoryDisk::default()))
    }

    fn on(disk: Arc<dyn Disk>) -> Self {
        disk.create_dir(&views_dir()).unwrap();
        let file = disk.create(&path("app.jsonl")).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        Self { disk, events: Vec::new() }
    }

    /// A handle of its own, as of another process.
    fn reader(&self) -> EventReader {
        EventReader::with_disk(Arc::clone(&self.disk), Path::new(DIR))
    }

    fn append_text(&self, text: &[u8]) {
        let file = self.disk.open(&path("app.jsonl")).unwrap();
        file.write_at(text, file.bytes().unwrap()).unwrap();
    }

    fn append_event(&mut self, event: Event) {
        self.append_text(format!("{}\n", serde_json::to_string(&event).unwrap()).as_bytes());
        self.events.push(event);
    }

    /// Appends so many additions of numbers that go on from one to the next.
    fn append(&mut self, count: u64) {
        for _ in 0..count {
            let n = self.events.len() as u64;
            self.append_event(Event { ts: 1_000 + n, ..Event::new("added", json!({"n": n * n + 1})) });
        }
    }

    /// Archives the active log, as any program does it.
    fn rotate(&self) {
        let text = read_all(&*self.disk, &path("app.jsonl"), u64::MAX).unwrap();
        let archive = path("archive.jsonl.zst");
        let file = self.disk.open(&archive).or_else(|_| self.disk.create(&archive)).unwrap();
        file.write_at(&compress(&text).unwrap(), file.bytes().unwrap()).unwrap();
        self.set_log(b"");
    }

    fn set_log(&self, text: &[u8]) {
        let file = self.disk.open(&path("app.jsonl")).unwrap();
        file.truncate(0).unwrap();
        file.write_at(text, 0).unwrap();
    }

    fn log_text(&self) -> Vec<u8> {
        read_all(&*self.disk, &path("app.jsonl"), u64::MAX).unwrap()
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        snapshot::read(&*self.disk, &path(name)).unwrap()
    }

    fn set_file(&self, name: &str, contents: &[u8]) {
        keplordb_disk::replace(&*self.disk, &path(name), contents).unwrap();
    }

    fn names(&self, dir: &str) -> Vec<String> {
        self.disk.list(&path(dir)).unwrap().into_iter().map(|entry| entry.name).collect()
    }
}

/// What tells apart states of different events, orders and multitudes.
fn digest(state: u64, event: &Event) -> u64 {
    assert!(event.event_type != "panic", "as the event says");
    let n = event.data["n"].as_u64().unwrap_or(7);
    state.wrapping_mul(31).wrapping_add(n)
}

fn view(name: &str) -> View<u64> {
    View::new(name, digest, &views_dir())
}

fn folded(events: &[Event]) -> u64 {
    events.iter().fold(0, digest)
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Typed {
    Added { n: u64 },
}

fn typed(name: &str) -> TypedView<Typed, u64> {
    let step = |state: u64, Typed::Added { n }| state.wrapping_mul(31).wrapping_add(n);
    TypedView::new(name, step, &views_dir())
}

fn reason(error: &io::Error) -> &FoldError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("no FoldError: {error}"))
}

#[test]
fn a_failed_refresh_leaves_the_last_good_state_and_its_position() {
    let mut log = Log::new();
    log.append(5);
    let mut view = view("v");
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    let five = log.log_text();
    log.append(1);
    let six = log.log_text();
    log.append_text(b"{\"type\":\"broken\"\n");
    for _ in 0..2 {
        let error = view.refresh(&log.reader()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let expected = format!("log/app.jsonl has no event in the line at byte {}: ", six.len());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(
            matches!(reason(&error), FoldError::BadLine { generation: 0, offset, .. } if *offset == six.len() as u64)
        );
        assert_eq!(*view.state(), folded(&log.events), "the good one before it was folded");
        assert_eq!(view.position(), Position { generation: 0, offset: six.len() as u64 });
    }
    assert!(five.len() < six.len());
    // Repaired, and one more: nothing is lost, here and in a view that begins with the snapshot.
    log.set_log(&six);
    log.append(1);
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(*self::view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(view.sequence(), 7);
}

#[test]
fn a_reducer_that_panics_leaves_everything_as_it_was() {
    let mut log = Log::new();
    log.append(3);
    let mut view = view("v");
    view.refresh(&log.reader()).unwrap();
    let (state, position, file) = (*view.state(), view.position(), log.file("views/v.snapshot.json"));
    let three = log.log_text();
    for count in [0, 2_000] {
        // Few on this thread alone, many with others parsing ahead.
        log.append(count * 10);
        log.append_event(Event::new("panic", json!(null)));
        log.append(count);
        let unwound = catch_unwind(AssertUnwindSafe(|| view.refresh(&log.reader()).map(drop)));
        assert_eq!(unwound.unwrap_err().downcast_ref::<&str>(), Some(&"as the event says"));
        assert_eq!((*view.state(), view.position()), (state, position));
        assert_eq!(log.file("views/v.snapshot.json"), file);
        assert_eq!(view.state_at(&log.reader(), 2).unwrap(), folded(&log.events[..2]));
        log.set_log(&three);
        log.events.truncate(3);
    }
    log.append(1);
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn a_view_that_missed_rotations_goes_on_in_the_archive() {
    let mut log = Log::new();
    log.append(5);
    view("v").refresh(&log.reader()).unwrap();
    // Without the view: two rotations, with events before, between and behind.
    log.append(5);
    log.rotate();
    log.append(2);
    log.rotate();
    let mut view = view("v");
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    log.append(1);
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(view.sequence(), 13);
}

#[test]
fn a_snapshot_of_an_earlier_generation_is_not_taken_for_one_of_this() {
    let mut log = Log::new();
    let event = Event { ts: 5, ..Event::new("added", json!({"n": 3})) };
    for _ in 0..5 {
        log.append_event(event.clone());
    }
    view("v").refresh(&log.reader()).unwrap();
    log.rotate();
    // The same bytes at the same places.
    for _ in 0..5 {
        log.append_event(event.clone());
    }
    assert_eq!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn a_live_view_follows_rotations_that_others_made() {
    let mut log = Log::new();
    let (mut live, reader) = (view("v"), log.reader());
    for count in [5, 3, 3, 4] {
        log.append(count);
        live.refresh(&reader).unwrap();
        log.append(2);
        log.rotate();
        log.append(1);
        assert_eq!(*live.refresh(&reader).unwrap(), folded(&log.events));
    }
    // Nothing new: what the archive holds is not asked for again.
    log.rotate();
    live.refresh(&reader).unwrap();
    assert_eq!(live.position(), Position { generation: 5, offset: 0 });
}

#[test]
fn the_position_is_where_the_folded_bytes_end() {
    let mut log = Log::new();
    log.append(1);
    let whole = log.log_text().len() as u64;
    // An append in two writes: the line is there, its newline is not.
    let line = serde_json::to_string(&Event { ts: 1, ..Event::new("added", json!({"n": 9})) }).unwrap();
    log.append_text(line.as_bytes());
    let mut view = view("v");
    view.refresh(&log.reader()).unwrap();
    assert_eq!((*view.state(), view.position().offset), (folded(&log.events), whole));
    log.append_text(b"\n");
    log.events.push(serde_json::from_str(&line).unwrap());
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(*self::view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn one_bad_line_can_be_passed_over() {
    let mut log = Log::new();
    log.append(2);
    log.append_text(b"not JSON\n\xff\xfe\n{\"type\":\"added\",\"data\":{\"n\":\"text\"},\"ts\":1}\n");
    log.append_text(b"\r\n\n");
    log.events.push(Event { ts: 1, ..Event::new("added", json!({"n": "text"})) });
    log.append(2);
    let options = ViewOptions::default().skip_damaged();
    let mut untyped = view("u").with_options(options);
    assert_eq!(*untyped.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!((untyped.damaged_lines(), untyped.sequence()), (2, 7));
    let mut typed = typed("t").with_options(options);
    let without: Vec<_> = log.events.iter().filter(|event| event.data["n"].is_u64()).cloned().collect();
    assert_eq!(*typed.refresh(&log.reader()).unwrap(), folded(&without));
    assert_eq!((typed.damaged_lines(), typed.sequence()), (3, 7), "data that do not fit are damage there");
    assert_eq!(untyped.state_at(&log.reader(), 3).unwrap(), folded(&log.events[..2]));
    let error = self::typed("other").refresh(&log.reader()).unwrap_err();
    assert!(matches!(reason(&error), FoldError::BadLine { .. }), "{error}");

    // It is known later too, and where; in the archive as well.
    let first = log.reader().position_of(2).unwrap().unwrap();
    let told = |view: &View<u64>| view.passed_over().map(|over| (over.lines, over.sequence, over.position));
    assert_eq!(told(&untyped), Some((2, 2, first)));
    log.rotate();
    log.append_text(b"not JSON either\n");
    let mut later = view("u").with_options(options);
    assert_eq!(told(&later), None, "nothing was read yet");
    later.refresh(&log.reader()).unwrap();
    assert_eq!(told(&later), Some((3, 2, first)));

    // Repaired, nothing is passed over but what is an event, and nobody needs to.
    let repaired = crate::repair::repair_on(&log.disk, Path::new(DIR)).unwrap();
    assert_eq!((repaired.lines_set_aside, repaired.snapshots_set_aside.len()), (3, 2));
    let mut strict = view("u");
    assert_eq!(*strict.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(told(&strict), None);
    let mut strict = self::typed("t");
    let error = strict.refresh(&log.reader()).unwrap_err();
    assert!(matches!(reason(&error), FoldError::UnfitEvent { .. }), "{error}");
    assert!(error.to_string().contains("skip_damaged") && !error.to_string().contains("repair"), "{error}");
    let mut typed = self::typed("t").with_options(options);
    typed.refresh(&log.reader()).unwrap();
    assert_eq!(typed.damaged_lines(), 1);
}

#[test]
fn names_that_lead_elsewhere_are_refused_and_write_nothing() {
    let mut log = Log::new();
    log.append(1);
    for name in ["../escaped", "", "a/b", "..", "x\0"] {
        let mut view = view(name);
        for result in [
            view.refresh(&log.reader()).map(drop),
            view.rebuild(&log.reader()).map(drop),
            view.state_at(&log.reader(), 1).map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}: {error}");
        }
        assert_eq!(*view.state(), 0, "nothing was even folded");
    }
    assert_eq!(log.names(""), ["app.jsonl", "views"]);
    assert_eq!(log.names("views"), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_could_not_be_verified_is_not_trusted_later() {
    let mut log = Log::new();
    log.append(3);
    view("v").refresh(&log.reader()).unwrap();
    // Another log of the same length, and reading fails just when the snapshot is held against it.
    let (other, before) = (log.log_text(), folded(&log.events));
    let other = String::from_utf8(other).unwrap().replace("\"n\":2}", "\"n\":3}");
    log.disk.remove(&path("app.jsonl")).unwrap();
    let mut view = view("v");
    assert_eq!(view.refresh(&log.reader()).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(*view.state(), 0);
    log.disk.create(&path("app.jsonl")).unwrap();
    log.set_log(other.replace("\"n\":5}", "\"n\":6}").as_bytes());
    let state = *view.refresh(&log.reader()).unwrap();
    assert_ne!(state, before);
    assert_eq!(state, 31 * (31 + 3) + 6);
}

#[test]
fn another_version_of_the_reducer_begins_anew() {
    let mut log = Log::new();
    log.append(4);
    view("v").refresh(&log.reader()).unwrap();
    let doubled = |state: u64, event: &Event| state + 2 * event.data["n"].as_u64().unwrap_or(0);
    let total: u64 = log.events.iter().map(|event| event.data["n"].as_u64().unwrap()).sum();
    let mut next: View<u64> =
        View::new("v", doubled, &views_dir()).with_options(ViewOptions::default().version(2));
    assert_eq!(*next.refresh(&log.reader()).unwrap(), 2 * total);
    // And the other way round; one that has the version goes on.
    assert_eq!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    let file = log.file("views/v.snapshot.json");
    assert_eq!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(log.file("views/v.snapshot.json"), file);
}

#[test]
fn snapshots_of_other_programs_are_used_only_where_they_cannot_mislead() {
    let plain = |state: u64, offset: u64, hash: &str| {
        serde_json::to_vec_pretty(&Snapshot::new(state, offset, hash.to_owned())).unwrap()
    };
    let mut log = Log::new();
    log.set_file("views/v.snapshot.json", &plain(42, 0, ""));
    assert_eq!(*view("v").refresh(&log.reader()).unwrap(), 42, "on an empty log without an archive");
    log.append(2);
    let end = log.log_text().len() as u64;
    let last = serde_json::to_string(&log.events[1]).unwrap();
    log.set_file("views/v.snapshot.json", &plain(7, end, &line_hash(last.as_bytes())));
    log.append(1);
    let mut good = view("v");
    assert_eq!(*good.refresh(&log.reader()).unwrap(), digest(7, &log.events[2]));
    assert_eq!(good.sequence(), 3);
    for (state, offset, hash) in
        [(9999, 999_999, "bogus"), (7, end, "bogus"), (7, end - 1, &line_hash(last.as_bytes()))]
    {
        log.set_file("views/v.snapshot.json", &plain(state, offset, hash));
        assert_eq!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    }
    log.rotate();
    log.set_file("views/v.snapshot.json", &plain(7, 0, ""));
    assert_eq!(
        *view("v").refresh(&log.reader()).unwrap(),
        folded(&log.events),
        "it may be older than the archive"
    );
}

#[test]
fn nothing_new_writes_nothing_and_rotation_writes_all() {
    let mut log = Log::new();
    let disk = SimDisk::default();
    log = Log { events: log.events, ..Log::on(Arc::new(disk.clone())) };
    log.append(3);
    let mut view = view("v");
    view.refresh(&log.reader()).unwrap();
    let operations = disk.operations();
    view.refresh(&log.reader()).unwrap();
    self::view("v").refresh(&log.reader()).unwrap();
    assert_eq!(disk.operations(), operations, "{:?}", disk.trace());
    let end = view.position();
    log.rotate();
    view.rotated(end).unwrap();
    let text = log.file("views/v.snapshot.json").unwrap();
    let Found::Whole(Stored { state, progress, .. }) = snapshot::decode::<u64>(&text) else {
        panic!("whole")
    };
    assert_eq!((state, progress.position), (folded(&log.events), Position { generation: 1, offset: 0 }));
    assert_eq!((&*progress.hash, progress.sequence), ("", 3));
    // A rotation that archived more than the view has folded.
    log.append(1);
    view.refresh(&log.reader()).unwrap();
    log.append(1);
    let end = Position { generation: 1, offset: log.log_text().len() as u64 };
    log.rotate();
    view.rotated(end).unwrap();
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(*self::view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn a_reset_that_no_rotation_goes_with_harms_nothing() {
    let mut log = Log::new();
    log.append(3);
    let mut view = view("v");
    view.reset_offset().unwrap();
    assert_eq!(log.names("views"), Vec::<String>::new(), "no state that nobody computed is written");
    view.refresh(&log.reader()).unwrap();
    view.reset_offset().unwrap();
    log.append(1);
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn the_policy_says_when_the_snapshot_is_written() {
    let mut log = Log::new();
    let written = |log: &Log| {
        log.file("views/v.snapshot.json").map(|text| match snapshot::decode::<u64>(&text) {
            Found::Whole(stored) => stored.progress.sequence,
            found => panic!("{found:?}"),
        })
    };
    let with = |policy| view("v").with_options(ViewOptions::default().snapshots(policy));
    let mut view = with(SnapshotPolicy::EveryEvents(4));
    for (appended, expected) in
        [(3, None), (1, Some(4)), (3, Some(4)), (0, Some(4)), (1, Some(8)), (9, Some(17))]
    {
        log.append(appended);
        view.refresh(&log.reader()).unwrap();
        assert_eq!(written(&log), expected);
    }
    let mut view = with(SnapshotPolicy::OnClose);
    log.append(1);
    view.refresh(&log.reader()).unwrap();
    assert_eq!(written(&log), Some(17));
    drop(view);
    assert_eq!(written(&log), Some(18));
    let mut view = with(SnapshotPolicy::Manual);
    log.append(1);
    view.refresh(&log.reader()).unwrap();
    drop(view);
    assert_eq!(written(&log), Some(18));
    let mut view = with(SnapshotPolicy::Manual);
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
    view.save_snapshot().unwrap();
    assert_eq!(written(&log), Some(19));
}

#[test]
fn a_damaged_line_in_the_archive_stops_a_view_there() {
    let mut log = Log::new();
    log.append(2);
    log.append_text(b"broken\n");
    log.append(1);
    log.rotate();
    log.append(1);
    let mut view = view("v");
    for _ in 0..2 {
        let error = view.refresh(&log.reader()).unwrap_err();
        assert!(
            error.to_string().starts_with("log/archive.jsonl.zst has no event in the line at byte "),
            "{error}"
        );
        assert_eq!((*view.state(), view.sequence()), (folded(&log.events[..2]), 2));
    }
    let mut view = self::view("v").with_options(ViewOptions::default().skip_damaged());
    assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
}

#[test]
fn a_snapshot_that_could_not_be_written_is_tried_again_without_new_events() {
    let disk = SimDisk::default();
    let mut log = Log::on(Arc::new(disk.clone()));
    log.append(2);
    let mut view = view("v");
    disk.set_capacity_bytes(log.log_text().len() as u64 + 10);
    assert_eq!(view.refresh(&log.reader()).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(*view.state(), folded(&log.events));
    assert_eq!(log.names("views"), Vec::<String>::new());
    disk.set_capacity_bytes(1 << 20);
    // Together with one that has something to fold still.
    let mut views: Vec<Box<dyn ViewOps>> = vec![Box::new(view), Box::new(self::view("w"))];
    refresh_all(log.reader().history(), &mut views).unwrap();
    assert_eq!(log.names("views"), ["v.snapshot.json", "w.snapshot.json"]);
}

#[test]
fn a_rebuild_that_fails_takes_nothing_away() {
    let mut log = Log::new();
    log.append(3);
    let mut view = view("v");
    view.refresh(&log.reader()).unwrap();
    let (good, file) = (log.log_text(), log.file("views/v.snapshot.json"));
    let mut damaged = good.clone();
    damaged[0] = b'x';
    log.set_log(&damaged);
    assert!(view.rebuild(&log.reader()).is_err());
    assert_eq!(*view.state(), folded(&log.events));
    assert_eq!(log.file("views/v.snapshot.json"), file);
    log.set_log(&good);
    assert_eq!(*view.rebuild(&log.reader()).unwrap(), folded(&log.events));
    assert_eq!(log.file("views/v.snapshot.json"), file);
    log.set_log(b"");
    assert_eq!(*view.rebuild(&log.reader()).unwrap(), 0);
    assert_eq!(log.file("views/v.snapshot.json"), None);
}

#[test]
fn a_log_that_was_cut_or_replaced_makes_views_begin_anew() {
    let mut log = Log::new();
    log.append(5);
    let mut live = view("v");
    live.refresh(&log.reader()).unwrap();
    let text = log.log_text();
    let second_line = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [0, 10, second_line] {
        log.set_log(&text[..cut]);
        let expected = folded(&log.events[..usize::from(cut == second_line)]);
        assert_eq!(*view("v").refresh(&log.reader()).unwrap(), expected, "cut at {cut}");
        assert_eq!(*live.refresh(&log.reader()).unwrap(), expected, "live, cut at {cut}");
        log.set_log(&text);
        assert_eq!(*live.refresh(&log.reader()).unwrap(), folded(&log.events));
        view("v").refresh(&log.reader()).unwrap();
    }
    // The last line another, and one more in the middle.
    let replaced = String::from_utf8(text.clone()).unwrap().replace("\"n\":17}", "\"n\":71}");
    log.set_log(replaced.as_bytes());
    assert_ne!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    log.set_log(&[&text[..second_line], &text].concat());
    view("v").refresh(&log.reader()).unwrap();
    assert_eq!(view("v").refresh(&log.reader()).map(|_| ()).ok(), Some(()));
}

#[test]
fn one_pass_parses_a_line_once_and_a_view_that_fails_hinders_no_other() {
    let mut log = Log::new();
    log.append(3);
    view("a").refresh(&log.reader()).unwrap();
    log.append(2);
    log.rotate();
    log.append(1);
    log.append_event(Event { ts: 2, ..Event::new("added", json!({"n": null})) });
    log.append(1);
    let count = TypedView::with_meta(
        "e",
        |list: Vec<u64>, _: Typed, meta: &Meta| [list, vec![meta.sequence]].concat(),
        &views_dir(),
    );
    let mut views: Vec<Box<dyn ViewOps>> = vec![
        Box::new(view("a")),
        Box::new(view("b")),
        Box::new(typed("c")),
        Box::new(typed("d").with_options(ViewOptions::default().skip_damaged())),
        Box::new(count.with_options(ViewOptions::default().skip_damaged())),
        Box::new(view("../f")),
    ];
    let error = refresh_all(log.reader().history(), &mut views).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    let error = refresh_all(log.reader().history(), views.iter_mut().take(5)).unwrap_err();
    assert!(error.to_string().contains("type \"added\""), "{error}");
    let untyped = |n: usize| *views[n].as_any().downcast_ref::<View<u64>>().unwrap().state();
    let typed = |n: usize| *views[n].as_any().downcast_ref::<TypedView<Typed, u64>>().unwrap().state();
    assert_eq!([untyped(0), untyped(1)], [folded(&log.events); 2]);
    let good: Vec<_> = log.events.iter().filter(|event| event.data["n"].is_u64()).cloned().collect();
    assert_eq!([typed(2), typed(3)], [folded(&log.events[..6]), folded(&good)]);
    let list = views[4].as_any().downcast_ref::<TypedView<Typed, Vec<u64>>>().unwrap();
    assert_eq!(list.state(), &[0, 1, 2, 3, 4, 5, 7]);
}

#[test]
fn much_at_once_is_folded_in_order_and_once() {
    let mut log = Log::new();
    let mut text = Vec::new();
    let events: Vec<_> = (0..40_000_u64)
        .map(|n| Event { ts: n, ..Event::new(["added", "other"][usize::from(n % 7 == 0)], json!({"n": n})) })
        .collect();
    for event in &events {
        serde_json::to_writer(&mut text, event).unwrap();
        text.push(b'\n');
    }
    let (first, second) = text.split_at(text.len() / 3);
    let cut = first.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    log.set_log(&text[..cut]);
    log.rotate();
    log.set_log(&text[cut..]);
    assert!(second.len() as u64 > PARALLEL_BYTES);
    log.events = events;
    assert_eq!(*view("v").refresh(&log.reader()).unwrap(), folded(&log.events));
    let mut typed = typed("t");
    let added: Vec<_> = log.events.iter().filter(|event| event.event_type == "added").cloned().collect();
    assert_eq!(*typed.refresh(&log.reader()).unwrap(), folded(&added));
    assert_eq!((typed.unknown_events(), typed.sequence()), (40_000 - added.len() as u64, 40_000));
    for sequence in [0, 1, 12_345, 39_999, 40_000, 50_000] {
        let known = log.events.len().min(sequence);
        let fresh = self::view("fresh");
        let state = fresh.state_at(&log.reader(), sequence as u64).unwrap();
        assert_eq!(state, folded(&log.events[..known]), "{sequence}");
    }
    // A damaged line far inside stops there, whatever was parsed ahead.
    let mut broken = log.log_text();
    let middle = broken[..broken.len() / 2].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    broken[middle] = b'?';
    log.set_log(&broken);
    let mut others = three_views();
    others[2] = Box::new(self::view("skips").with_options(ViewOptions::default().skip_damaged()));
    assert!(refresh_all(log.reader().history(), &mut others).is_err());
    let mut view = self::view("w");
    let error = view.refresh(&log.reader()).unwrap_err();
    assert_eq!(states(&others)[0], *view.state(), "it stopped there though another went on");
    assert_eq!(others[2].next_position(), log.reader().end_position().unwrap());
    assert!(
        matches!(reason(&error), FoldError::BadLine { generation: 1, offset, .. } if *offset == middle as u64),
        "{error}"
    );
    assert_eq!(*view.state(), folded(&log.events[..usize::try_from(view.sequence()).unwrap()]));
}

fn checkpointed(every: u64, keep: u64) -> View<u64> {
    let options = ViewOptions::default().checkpoints(Checkpoints::every(every).keep(keep));
    view("v").with_options(options)
}

#[test]
fn states_of_the_past_are_found_from_every_kind_of_beginning() {
    let mut log = Log::new();
    let mut kept = checkpointed(4, 100);
    for round in 0..6 {
        log.append(5);
        kept.refresh(&log.reader()).unwrap();
        if round % 2 == 0 {
            log.rotate();
        }
    }
    let sequences = |log: &Log| {
        let mut found: Vec<u64> = log
            .names("views")
            .iter()
            .filter_map(|name| name.strip_prefix("v.at-")?.strip_suffix(".json")?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(sequences(&log), [4, 8, 12, 16, 20, 24, 28]);
    let all = log.events.len();
    let fresh = || checkpointed(4, 100);
    let check = |log: &Log, view: &View<u64>| {
        for sequence in 0..=all {
            let expected = folded(&log.events[..sequence]);
            assert_eq!(view.state_at(&log.reader(), sequence as u64).unwrap(), expected, "{sequence}");
            let ts = 999 + sequence as u64;
            assert_eq!(view.state_at_time(&log.reader(), ts).unwrap(), expected, "at {ts}");
        }
        assert_eq!(view.state_at(&log.reader(), 1_000).unwrap(), folded(&log.events));
    };
    check(&log, &kept);
    check(&log, &fresh());
    // Damaged ones, misnamed ones, of other versions, and of other logs are passed over.
    let at_8 = log.file("views/v.at-8.json").unwrap();
    let mut flipped = at_8.clone();
    flipped[13] ^= 1;
    log.set_file("views/v.at-8.json", &flipped);
    log.set_file("views/v.at-16.json", &at_8);
    log.set_file("views/v.at-99999999999999999999.json", &at_8);
    log.set_file("views/v.at-20.json", b"");
    log.set_file("views/v.at-x.json", b"");
    let other = crate::snapshot::encode(&7_u64, &snapshot_progress(&at_8, 24), 0).unwrap();
    log.set_file("views/v.at-24.json", &other);
    check(&log, &fresh());
    check(&log, &kept);
    // Without the newest state too.
    log.disk.remove(&path("views/v.snapshot.json")).unwrap();
    check(&log, &fresh());
}

/// How far this file says to have come, but with another sequence.
fn snapshot_progress(text: &[u8], sequence: u64) -> snapshot::Progress {
    let Found::Whole(stored) = snapshot::decode::<u64>(text) else { panic!("whole") };
    snapshot::Progress { sequence, hash: "0000000000000000".to_owned(), ..stored.progress }
}

#[test]
fn checkpoints_are_used() {
    let mut log = Log::new();
    log.append(20);
    checkpointed(8, 100).refresh(&log.reader()).unwrap();
    // A state that only a checkpoint can have.
    let Found::Whole(stored) = snapshot::decode::<u64>(&log.file("views/v.at-16.json").unwrap()) else {
        panic!()
    };
    log.set_file("views/v.at-16.json", &snapshot::encode(&5_u64, &stored.progress, 0).unwrap());
    let view = checkpointed(8, 100);
    assert_eq!(view.state_at(&log.reader(), 16).unwrap(), 5);
    assert_eq!(view.state_at(&log.reader(), 17).unwrap(), digest(5, &log.events[16]));
    assert_eq!(view.state_at(&log.reader(), 15).unwrap(), folded(&log.events[..15]));
    assert_eq!(view.state_at_time(&log.reader(), 1_016).unwrap(), digest(5, &log.events[16]));
}

#[test]
fn checkpoints_stay_few_and_spread_over_all_of_history() {
    let mut log = Log::new();
    let mut view = checkpointed(2, 4);
    let mut most = 0;
    for _ in 0..70 {
        log.append(1);
        view.refresh(&log.reader()).unwrap();
        most = most.max(log.names("views").len() - 1);
    }
    assert_eq!(most, 4);
    let mut left = log.names("views");
    left.retain(|name| name.contains(".at-"));
    assert_eq!(left, ["v.at-16.json", "v.at-32.json", "v.at-48.json", "v.at-64.json"]);
    view.rebuild(&log.reader()).unwrap();
    left.push("v.snapshot.json".to_owned());
    assert_eq!(log.names("views"), left);
}

#[test]
fn time_goes_back_now_and_then_and_a_state_stays_one_that_was() {
    let mut log = Log::new();
    for ts in [10, 30, 20, 40, 5, 50, 1] {
        log.append_event(Event { ts, ..Event::new("added", json!({"n": ts})) });
    }
    let mut view = checkpointed(1, 100);
    view.refresh(&log.reader()).unwrap();
    for (ts, events) in [
        (0, 0),
        (9, 0),
        (10, 1),
        (20, 1),
        (29, 1),
        (30, 3),
        (39, 3),
        (40, 5),
        (49, 5),
        (50, 7),
        (u64::MAX, 7),
    ] {
        assert_eq!(view.state_at_time(&log.reader(), ts).unwrap(), folded(&log.events[..events]), "at {ts}");
    }
    let moment = Moment::Time(30);
    assert!(moment.includes(&snapshot::Progress::default(), 30));
}

/// What can happen to a log between two looks at it.
#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Rotate,
    Refresh,
    RefreshAll,
    Reopen,
    LoseSnapshot(usize),
    OldSnapshot(usize),
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..6).prop_map(Step::Append),
        2 => Just(Step::Rotate),
        2 => Just(Step::Refresh),
        2 => Just(Step::RefreshAll),
        1 => Just(Step::Reopen),
        1 => (0_usize..3).prop_map(Step::LoseSnapshot),
        1 => (0_usize..3).prop_map(Step::OldSnapshot),
        1 => Just(Step::Rebuild),
    ]
}

fn three_views() -> Vec<Box<dyn ViewOps>> {
    let checkpoints = ViewOptions::default().checkpoints(Checkpoints::every(3));
    let rarely = ViewOptions::default().snapshots(SnapshotPolicy::EveryEvents(7));
    vec![
        Box::new(view("a").with_options(checkpoints)),
        Box::new(typed("b").with_options(checkpoints)),
        Box::new(view("c").with_options(rarely)),
    ]
}

fn states(views: &[Box<dyn ViewOps>]) -> Vec<u64> {
    let untyped = |view: &dyn Any| view.downcast_ref::<View<u64>>().map(|view| *view.state());
    let typed = |view: &dyn Any| view.downcast_ref::<TypedView<Typed, u64>>().map(|view| *view.state());
    views.iter().map(|view| untyped(view.as_any()).or_else(|| typed(view.as_any())).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Determinism, rotation invariance, snapshot equivalence, several views consistent, typed as untyped: a view is a fold
    /// of all events, whatever came between.
    #[test]
    fn a_view_is_the_fold_of_all_events_whatever_came_between(steps in prop::collection::vec(step(), 1..40), at in any::<prop::sample::Index>()) {
        let mut log = Log::new();
        let mut views = three_views();
        let mut old: Vec<(usize, Vec<u8>)> = Vec::new();
        let names = ["views/a.snapshot.json", "views/b.snapshot.json", "views/c.snapshot.json"];
        for step in steps {
            match step {
                Step::Append(count) => log.append(count),
                Step::Rotate if log.log_text().is_empty() => {}
                Step::Rotate => log.rotate(),
                Step::Refresh => {
                    views[1].refresh_boxed(&log.reader()).unwrap();
                    prop_assert_eq!(states(&views)[1], folded(&log.events));
                }
                Step::RefreshAll => {
                    refresh_all(log.reader().history(), &mut views).unwrap();
                    prop_assert_eq!(states(&views), vec![folded(&log.events); 3]);
                    old.extend(names.iter().enumerate().filter_map(|(n, name)| Some((n, log.file(name)?))));
                }
                Step::Reopen => views = three_views(),
                Step::LoseSnapshot(n) => snapshot::delete_on(&*log.disk, &path(names[n])).unwrap(),
                Step::OldSnapshot(n) => {
                    if let Some((_, text)) = old.iter().find(|(of, _)| *of == n) {
                        log.set_file(names[n], text);
                        views = three_views();
                    }
                }
                Step::Rebuild => {
                    views[0].rebuild_boxed(log.reader().history()).unwrap();
                    prop_assert_eq!(states(&views)[0], folded(&log.events));
                }
            }
        }
        refresh_all(log.reader().history(), &mut views).unwrap();
        prop_assert_eq!(states(&views), vec![folded(&log.events); 3]);
        let sequence = at.index(log.events.len() + 1);
        let expected = folded(&log.events[..sequence]);
        let first = views[0].as_any().downcast_ref::<View<u64>>().unwrap();
        prop_assert_eq!(first.state_at(&log.reader(), sequence as u64).unwrap(), expected);
        let second = views[1].as_any().downcast_ref::<TypedView<Typed, u64>>().unwrap();
        prop_assert_eq!(second.state_at(&log.reader(), sequence as u64).unwrap(), expected);
    }
}

#[test]
fn no_changed_byte_of_a_snapshot_or_checkpoint_changes_a_state() {
    let mut log = Log::new();
    log.append(6);
    checkpointed(3, 10).refresh(&log.reader()).unwrap();
    for name in ["views/v.snapshot.json", "views/v.at-3.json"] {
        let good = log.file(name).unwrap();
        for index in 0..good.len() {
            for change in [0x01, 0x02, 0x10, 0x20, 0x80, 0xff] {
                let mut changed = good.clone();
                changed[index] ^= change;
                log.set_file(name, &changed);
                let mut view = checkpointed(3, 10);
                assert_eq!(
                    view.state_at(&log.reader(), 4).unwrap(),
                    folded(&log.events[..4]),
                    "{name} {index}"
                );
                assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events), "{name} {index}");
                log.set_file("views/v.at-3.json", &good);
            }
            log.set_file(name, &good[..index]);
            assert_eq!(*checkpointed(3, 10).refresh(&log.reader()).unwrap(), folded(&log.events));
        }
        log.set_file(name, &good);
        log.disk.remove(&path("views/v.snapshot.json")).unwrap();
        checkpointed(3, 10).refresh(&log.reader()).unwrap();
    }
}

/// A power cut after each operation of refreshes that write snapshots and checkpoints, and a kill: what is found is a good state
/// or none, and a refresh comes to the fold.
#[test]
fn a_crash_while_snapshots_are_written_costs_no_state() {
    let disk = SimDisk::default();
    let mut log = Log::on(Arc::new(disk.clone()));
    log.append(9);
    let file = log.disk.open(&path("app.jsonl")).unwrap();
    file.sync().unwrap();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&moments);
    disk.after_each(move |_, copy| seen.lock().push(copy));
    let mut view = checkpointed(2, 3);
    view.refresh(&log.reader()).unwrap();
    view.rebuild(&log.reader()).unwrap();
    let copies = moments.lock().split_off(0);
    assert!(copies.len() > 15, "{}", copies.len());
    for copy in copies {
        for after in (0..24).map(|seed| copy.power_cut(seed)).chain([copy.kill()]) {
            let after = Log { disk: Arc::new(after), events: log.events.clone() };
            let mut view = checkpointed(2, 3);
            assert_eq!(view.state_at(&after.reader(), 5).unwrap(), folded(&log.events[..5]));
            assert_eq!(*view.refresh(&after.reader()).unwrap(), folded(&log.events));
        }
    }
}

/// Each operation of a refresh fails in turn: the state is the fold all the same, and the next refresh writes what this could not.
#[test]
fn a_fault_at_any_operation_of_a_save_harms_no_state() {
    for kind in FaultKind::ALL {
        for number in 1.. {
            let disk = SimDisk::default();
            let mut log = Log::on(Arc::new(disk.clone()));
            log.append(4);
            let at = disk.operations() + number;
            disk.fail(Fault { at, kind, forever: false });
            let mut view = checkpointed(2, 3);
            let result = view.refresh(&log.reader()).copied();
            if disk.faults_hit() == 0 {
                break;
            }
            assert!(number < 40);
            assert_eq!(*view.state(), folded(&log.events), "{kind:?} at {number}: {result:?}");
            disk.heal();
            assert_eq!(*view.refresh(&log.reader()).unwrap(), folded(&log.events));
            assert_eq!(*checkpointed(2, 3).refresh(&log.reader()).unwrap(), folded(&log.events));
            let text = log.file("views/v.snapshot.json").unwrap();
            assert!(matches!(snapshot::decode::<u64>(&text), Found::Whole(_)));
        }
    }
}

#[test]
fn states_of_all_shapes_survive() {
    let mut log = Log::new();
    log.append(3);
    let reducer = |mut state: Value, event: &Event| {
        state[event.ts.to_string()] = json!([event.data, 0.1, null, "ü\n", {"deep": [[]]}]);
        state
    };
    let all = || View::<Value>::new("v", reducer, &views_dir());
    let state = all().refresh(&log.reader()).unwrap().clone();
    let file = log.file("views/v.snapshot.json");
    assert_eq!(all().refresh(&log.reader()).unwrap(), &state);
    assert_eq!(log.file("views/v.snapshot.json"), file, "it was gone on from");
    // A state of a megabyte, and one without JSON.
    let large = |state: String, _: &Event| state + &"x".repeat(400_000);
    let mut view: View<String> = View::new("large", large, &views_dir());
    assert_eq!(view.refresh(&log.reader()).unwrap().len(), 1_200_000);
    let pairs = |mut state: std::collections::BTreeMap<(u8, u8), u8>, _: &Event| {
        state.insert((1, 2), 3);
        state
    };
    let mut view: View<std::collections::BTreeMap<(u8, u8), u8>> = View::new("pairs", pairs, &views_dir());
    assert_eq!(view.refresh(&log.reader()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(view.state().len(), 1);
}
