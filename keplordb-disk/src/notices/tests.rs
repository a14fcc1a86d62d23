//! The contract of `Watch`, held against all that watch: the notices of this system, looking, holding files open for their
//! notices (by a stand-in for kqueue; also with fewer files than there are), and the disks in memory.

#[cfg(target_os = "linux")]
use std::io::Write;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::looking::Looks;
#[cfg(target_os = "linux")]
use super::{stand_in::StandIn, vnodes::Vnodes};
use crate::{Disk, MemoryDisk, RealDisk, SimDisk, Watch};

/// Long enough for whatever comes at all.
const SOON: Duration = Duration::from_secs(20);

/// How far apart two changes of a file have different times, where these tests run: the kernel's clock ticks at least 100
/// times a second.
const CLOCK: Duration = Duration::from_millis(40);

/// A disk, a directory on it that is this test's own, and a way to watch.
struct Place {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    watch: fn(&dyn Disk, &Path) -> io::Result<Box<dyn Watch>>,
    /// Every change is told once. Elsewhere it may be told again until a later one would have another time.
    tells_once: bool,
    /// `None` in memory.
    directory: Option<tempfile::TempDir>,
}

impl Place {
    fn real(watch: fn(&dyn Disk, &Path) -> io::Result<Box<dyn Watch>>, tells_once: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        Self { disk: Arc::new(RealDisk), root, watch, tells_once, directory: Some(directory) }
    }

    fn in_memory(disk: impl Disk + 'static) -> Self {
        let root = PathBuf::from("/some/place");
        disk.create_dir(&root).unwrap();
        Self {
            disk: Arc::new(disk),
            root,
            watch: |disk, dir| disk.watch(dir),
            tells_once: true,
            directory: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.disk.create(&self.path(name)).unwrap().write_at(bytes, 0).unwrap();
    }

    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        (self.watch)(&*self.disk, dir)
    }

    /// Whether no change is told, or none any more where one may be told again.
    fn is_quiet(&self, watch: &mut dyn Watch) -> bool {
        (self.tells_once || settle(watch)) && !watch.wait(Duration::from_millis(30)).unwrap()
    }
}

/// Waits until nothing is told again; `false` if that goes on and on.
fn settle(watch: &mut dyn Watch) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    while watch.wait(Duration::ZERO).unwrap() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Holds files open, at most so many, and `open_max` of them before there are too many open files.
#[cfg(target_os = "linux")]
fn holding(dir: &Path, held_max: usize, open_max: usize) -> io::Result<Box<dyn Watch>> {
    Ok(Box::new(Vnodes::of(StandIn::new(open_max)?, dir, held_max, CLOCK)?))
}

/// Runs each of these functions as a test with everything that watches.
macro_rules! with_all_that_watch {
    ($($test:ident)*) => {
        with_all_that_watch! { by disk: super::Place::real(|disk, dir| disk.watch(dir), cfg!(target_os = "linux")); $($test)* }
        with_all_that_watch! {
            by looking: super::Place::real(|_, dir| Ok(Box::new(super::Looks::with_clock(dir, super::CLOCK)?)), false);
            $($test)*
        }
        with_all_that_watch! { #[cfg(target_os = "linux")] by holding_files:
            super::Place::real(|_, dir| super::holding(dir, super::super::vnodes::HELD_MAX, 100), true); $($test)* }
        with_all_that_watch! { #[cfg(target_os = "linux")] by holding_one_file:
            super::Place::real(|_, dir| super::holding(dir, 1, 100), false); $($test)* }
        with_all_that_watch! { #[cfg(target_os = "linux")] by holding_no_file_because_too_many_are_open:
            super::Place::real(|_, dir| super::holding(dir, super::super::vnodes::HELD_MAX, 0), false); $($test)* }
        with_all_that_watch! { by memory: super::Place::in_memory(super::MemoryDisk::default()); $($test)* }
        with_all_that_watch! { by sim: super::Place::in_memory(super::SimDisk::default()); $($test)* }
    };
    ($(#[$when:meta])? by $way:ident: $place:expr; $($test:ident)*) => {
        $(#[$when])?
        mod $way { $(#[test] fn $test() { super::$test(&$place); })* }
    };
}

with_all_that_watch! {
    a_watch_tells_every_kind_of_change
    a_change_before_the_wait_is_not_lost
    a_change_during_the_wait_ends_it
    a_wait_without_a_change_ends_in_time
    only_a_directory_is_watched
    files_that_are_made_replaced_and_removed_are_watched
    many_files_are_watched
    a_watch_tells_what_another_process_writes
    a_watch_that_is_not_asked_for_long_still_tells
}

fn a_watch_tells_every_kind_of_change(place: &Place) {
    place.disk.create_dir(&place.path("inner")).unwrap();
    place.put("inner/deep", b"");
    place.put("written", b"12345678");
    place.put("moved", b"");
    let handle = place.disk.open(&place.path("written")).unwrap();
    let mut watch = place.watch(&place.root).unwrap();
    assert!(place.is_quiet(&mut *watch));

    let disk = &place.disk;
    let changes: [(&str, &dyn Fn()); 12] = [
        ("create", &|| drop(disk.create(&place.path("new")).unwrap())),
        ("append", &|| handle.write_at(b"9", 8).unwrap()),
        ("overwrite", &|| handle.write_at(b"4321", 0).unwrap()),
        ("truncate", &|| handle.truncate(3).unwrap()),
        ("lengthen", &|| handle.truncate(30).unwrap()),
        ("rename", &|| disk.rename(&place.path("moved"), &place.path("renamed")).unwrap()),
        ("replace", &|| disk.rename(&place.path("renamed"), &place.path("new")).unwrap()),
        ("move away", &|| disk.rename(&place.path("new"), &place.path("inner/new")).unwrap()),
        ("move here", &|| disk.rename(&place.path("inner/new"), &place.path("new")).unwrap()),
        ("link", &|| disk.link(&place.path("written"), &place.path("linked")).unwrap()),
        ("remove", &|| disk.remove(&place.path("new")).unwrap()),
        ("directory", &|| disk.create_dir(&place.path("another")).unwrap()),
    ];
    for (what, change) in changes {
        change();
        assert!(watch.wait(Duration::ZERO).unwrap(), "{what}");
        assert!(place.is_quiet(&mut *watch), "{what} is told once");
    }

    // Neither reading nor syncing is a change, nor is what happens below.
    handle.read_at(&mut [0; 8], 0).unwrap();
    handle.sync().unwrap();
    disk.sync_dir(&place.root).unwrap();
    disk.list(&place.root).unwrap();
    disk.open(&place.path("inner/deep")).unwrap().write_at(b"deep", 0).unwrap();
    disk.create(&place.path("inner/deeper")).unwrap();
    assert!(!watch.wait(Duration::from_millis(30)).unwrap());

    let lock = disk.lock(&place.path("LOCK")).unwrap();
    assert!(watch.wait(Duration::ZERO).unwrap(), "lock");
    drop(lock);
}

fn a_change_before_the_wait_is_not_lost(place: &Place) {
    place.put("file", b"");
    let mut watches = [place.watch(&place.root).unwrap(), place.watch(&place.root).unwrap()];
    for round in 0..3 {
        for byte in 0..100 {
            place.disk.open(&place.path("file")).unwrap().write_at(b"x", round * 100 + byte).unwrap();
        }
        for watch in &mut watches {
            assert!(watch.wait(SOON).unwrap());
            assert!(place.is_quiet(&mut **watch), "many changes are one");
        }
    }
    // A later one knows nothing of earlier changes.
    assert!(place.is_quiet(&mut *place.watch(&place.root).unwrap()));
}

fn a_change_during_the_wait_ends_it(place: &Place) {
    place.put("file", b"");
    let mut watch = place.watch(&place.root).unwrap();
    assert!(place.is_quiet(&mut *watch));
    thread::scope(|scope| {
        for at in 0..20 {
            let writer = scope.spawn(move || {
                thread::sleep(Duration::from_millis(at % 3));
                place.disk.open(&place.path("file")).unwrap().write_at(b"x", at).unwrap();
            });
            assert!(watch.wait(SOON).unwrap());
            writer.join().unwrap();
            // The write may have been told of in two parts.
            let _ = watch.wait(Duration::ZERO).unwrap();
        }
    });
}

fn a_wait_without_a_change_ends_in_time(place: &Place) {
    let mut watch = place.watch(&place.root).unwrap();
    assert!(settle(&mut *watch));
    for timeout in [Duration::ZERO, Duration::from_millis(50)] {
        let begin = Instant::now();
        assert!(!watch.wait(timeout).unwrap());
        assert!(begin.elapsed() >= timeout);
    }
    // A time beyond what any clock counts is for ever.
    place.put("file", b"");
    assert!(watch.wait(Duration::MAX).unwrap());
}

fn only_a_directory_is_watched(place: &Place) {
    let kind = |name| place.watch(&place.path(name)).unwrap_err().kind();
    place.put("file", b"");
    assert_eq!(kind("nothing"), ErrorKind::NotFound);
    assert_eq!(kind("file"), ErrorKind::NotADirectory);
    place.disk.create_dir(&place.path("dir")).unwrap();
    let mut watch = place.watch(&place.path("dir")).unwrap();
    assert!(settle(&mut *watch));
    place.disk.remove(&place.path("dir")).unwrap();
    assert!(watch.wait(SOON).unwrap(), "its removal is a change");
    assert!(place.is_quiet(&mut *watch));
}

/// What is written to a file is told also if it came after the watch, under whichever name.
fn files_that_are_made_replaced_and_removed_are_watched(place: &Place) {
    let mut watch = place.watch(&place.root).unwrap();
    let disk = &place.disk;
    for round in 0..3 {
        for name in ["new", "file"] {
            let file = disk.create(&place.path(name)).unwrap();
            assert!(watch.wait(Duration::ZERO).unwrap(), "{name} in round {round}");
            assert!(place.is_quiet(&mut *watch));
            file.write_at(b"bytes", 0).unwrap();
            assert!(watch.wait(Duration::ZERO).unwrap(), "the bytes of {name} in round {round}");
        }
        let moved = disk.open(&place.path("new")).unwrap();
        disk.rename(&place.path("new"), &place.path("file")).unwrap();
        assert!(watch.wait(Duration::ZERO).unwrap(), "the rename in round {round}");
        assert!(place.is_quiet(&mut *watch));
        moved.write_at(b"other", 0).unwrap();
        assert!(watch.wait(Duration::ZERO).unwrap(), "the bytes of the moved file in round {round}");
        disk.remove(&place.path("file")).unwrap();
        assert!(watch.wait(Duration::ZERO).unwrap(), "the removal in round {round}");
        assert!(place.is_quiet(&mut *watch));
    }
}

/// More than are held open anywhere; and each is written though others are newer.
fn many_files_are_watched(place: &Place) {
    let names: Vec<String> = (0..30).map(|number| format!("file {number}")).collect();
    for name in &names {
        place.put(name, b"1234");
    }
    let mut watch = place.watch(&place.root).unwrap();
    for name in names.iter().chain(&names) {
        assert!(settle(&mut *watch));
        place.disk.open(&place.path(name)).unwrap().write_at(b"5", 0).unwrap();
        assert!(watch.wait(Duration::ZERO).unwrap(), "{name}");
    }
}

fn a_watch_tells_what_another_process_writes(place: &Place) {
    if cfg!(unix) && place.directory.is_some() {
        place.put("file", b"");
        let mut watch = place.watch(&place.root).unwrap();
        for script in ["printf x >> \"$0\"", "mv \"$0\" \"$0.2\"", "rm \"$0.2\""] {
            assert!(place.is_quiet(&mut *watch));
            let path = place.path("file");
            assert!(Command::new("sh").arg("-c").arg(script).arg(path).status().unwrap().success());
            assert!(watch.wait(SOON).unwrap(), "{script}");
        }
    }
}

/// More changes than the kernel queues.
fn a_watch_that_is_not_asked_for_long_still_tells(place: &Place) {
    let mut watch = place.watch(&place.root).unwrap();
    assert!(settle(&mut *watch));
    for _ in 0..10_000 {
        place.put("a", b"");
        place.disk.remove(&place.path("a")).unwrap();
    }
    assert!(watch.wait(Duration::ZERO).unwrap());
    assert!(settle(&mut *watch));
    place.put("a", b"");
    assert!(watch.wait(Duration::ZERO).unwrap());
}

/// The names of the files in the directory that this process has open, those of removed ones with a remark.
#[cfg(target_os = "linux")]
fn open_in(dir: &Path) -> Vec<String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let names = targets.filter(|target| target.parent() == Some(dir));
    names.filter_map(|target| Some(target.file_name()?.to_str()?.to_owned())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn few_files_are_held_and_removed_ones_not_for_long() {
    let place = Place::real(|_, dir| holding(dir, 3, 100), false);
    for number in 0..10 {
        place.put(&format!("file {number}"), b"");
    }
    let mut watch = place.watch(&place.root).unwrap();
    assert_eq!(open_in(&place.root).len(), 3);
    for number in 0..8 {
        place.disk.remove(&place.path(&format!("file {number}"))).unwrap();
    }
    assert!(watch.wait(SOON).unwrap());
    let mut open = open_in(&place.root);
    open.sort_unstable();
    assert_eq!(open, ["file 8", "file 9"]);
    drop(watch);
    assert!(open_in(&place.root).is_empty());
}

/// The process needs its last descriptors for something else.
#[cfg(target_os = "linux")]
#[test]
fn no_file_is_held_where_descriptors_run_out() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..10 {
        std::fs::write(dir.path().join(format!("file {number}")), b"").unwrap();
    }
    let mut watch = Vnodes::of(StandIn::new(3).unwrap(), dir.path(), 16, CLOCK).unwrap();
    assert!(open_in(dir.path()).is_empty());
    thread::sleep(CLOCK);
    assert!(settle(&mut watch));
    let begin = Instant::now();
    std::fs::write(dir.path().join("file 3"), b"1").unwrap();
    assert!(watch.wait(SOON).unwrap());
    assert!(begin.elapsed() < Duration::from_millis(500), "it was looked at as seldom as an old file");
    assert!(open_in(dir.path()).is_empty());
}

/// What is not held is looked at only now and then; but when it is written, it comes to be held.
#[cfg(target_os = "linux")]
#[test]
fn an_old_file_that_is_written_again_is_held() {
    let place = Place::real(|_, dir| holding(dir, 1, 100), false);
    place.put("old", b"");
    thread::sleep(CLOCK);
    place.put("new", b"");
    let mut watch = place.watch(&place.root).unwrap();
    thread::sleep(CLOCK);
    assert!(settle(&mut *watch));
    assert_eq!(open_in(&place.root), ["new"]);
    let old = place.disk.open(&place.path("old")).unwrap();
    old.write_at(b"1", 0).unwrap();
    assert!(watch.wait(SOON).unwrap());
    assert!(settle(&mut *watch));
    drop(old);
    assert_eq!(open_in(&place.root), ["old"]);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            place.disk.open(&place.path("old")).unwrap().write_at(b"2", 0).unwrap();
        });
        assert!(watch.wait(SOON).unwrap());
    });
    assert!(begin.elapsed() < Duration::from_millis(500), "it was not told, but seen a second later");
}

/// Where descriptors have run out, files are looked at as often, and as doubtfully, as without notices.
#[cfg(target_os = "linux")]
#[test]
fn files_that_cannot_be_held_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"00").unwrap();
    let mut watch = Vnodes::of(StandIn::new(0).unwrap(), dir.path(), 16, Duration::from_secs(1)).unwrap();
    assert!(settle(&mut watch));
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"1").unwrap();
        });
        assert!(watch.wait(SOON).unwrap());
    });
    assert!(begin.elapsed() < Duration::from_millis(500), "it was looked at as seldom as an old file");

    // The second change has the length, and may have the time, of the first.
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(b"234").unwrap();
    file.set_modified(time).unwrap();
    assert!(watch.wait(SOON).unwrap());
}

/// A change that was told, and then the directory could not be listed, is told again.
#[cfg(target_os = "linux")]
#[test]
fn an_error_loses_no_change() {
    let place = Place::real(|_, dir| holding(dir, 16, 100), true);
    let (dir, away) = (place.path("dir"), place.path("away"));
    place.disk.create_dir(&dir).unwrap();
    let mut watch = place.watch(&dir).unwrap();
    place.put("dir/file", b"");
    place.disk.rename(&dir, &away).unwrap();
    place.put("dir", b"no directory");
    for _ in 0..2 {
        assert_eq!(watch.wait(SOON).unwrap_err().kind(), ErrorKind::NotADirectory);
    }
    place.disk.remove(&dir).unwrap();
    place.disk.rename(&away, &dir).unwrap();
    assert!(watch.wait(Duration::ZERO).unwrap());
}
