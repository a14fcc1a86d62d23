//! A reader beside a running engine, in one process: at every operation of the writer's disk it shows the state before
//! or after the step under way, without faults and with them; it writes nothing, reads only what is new, and says in a
//! typed error what it cannot use. Readers in another process are the subject of `reader_process.rs`.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb::disk::{Disk, DiskFile, Entry, Lock, LockError, Mapping, MemoryDisk, RealDisk, SimDisk};
use keplordb::{
    DbError, Engine, EngineConfig, EventRef, LogEvent, MapMode, Options, QueryFilter, RawReader, Reader,
    Store, Sync, TableSchema, Totals,
};
use naive::Naive;
use naive::files::{disk_of, files_of, only};
use naive::random::Random;

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;
type Table = Naive<1, 1, 1>;
type Row = EventRef<1, 1, 1>;
type Raw = RawReader<1, 1, 1>;

const DIR: &str = "events";

fn config() -> EngineConfig {
    EngineConfig {
        data_dir: DIR.into(),
        wal_max_events: 7,
        wal_shard_count: 2,
        rollup_dims: vec![0],
        ..EngineConfig::default()
    }
}

fn options(disk: &(impl Disk + Clone + 'static)) -> Options {
    Options::default().disk(Arc::new(disk.clone())).unlink_grace(Duration::ZERO)
}

fn event(number: u64) -> Event {
    Event {
        id: format!("id {number}"),
        ts_ns: i64::try_from(number).unwrap(),
        metric: 3,
        counters: [1],
        dims: [(number % 3).to_string()],
        labels: ["x".repeat(usize::try_from(number % 40).unwrap())],
        ..Event::default()
    }
}

fn append(db: &Db, number: u64) {
    db.append(&event(number)).unwrap();
}

fn rows(reader: &Raw) -> Vec<Row> {
    reader.query_recent(&QueryFilter::default(), usize::MAX).unwrap()
}

fn count(reader: &Raw) -> usize {
    let rows = rows(reader);
    let totals: Totals<1> = reader.aggregate(&QueryFilter::default()).unwrap();
    assert_eq!(totals.event_count, rows.len() as u64);
    rows.len()
}

/// One step of a writer.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Event>),
    Delete(Vec<String>),
    Flush,
    /// Flushes and forgets everything.
    Clear,
    Reopen,
}

/// Steps that reach each kind of file, with rotations between.
fn history() -> Vec<Step> {
    let mut random = Random::new(11);
    let mut number = 0;
    let mut steps = Vec::new();
    for round in 0..60 {
        let rows = [1, 1, 2, 3, 8][random.below(5)];
        let batch: Vec<Event> = (0..rows)
            .map(|_| {
                number += 1;
                event(number)
            })
            .collect();
        steps.push(Step::Append(batch));
        if random.percent(30) {
            let ids = (0..2).map(|_| format!("id {}", 1 + random.below(usize::try_from(number).unwrap())));
            steps.push(Step::Delete(ids.collect()));
        }
        match round % 15 {
            4 => steps.push(Step::Flush),
            7 | 13 => steps.push(Step::Reopen),
            11 => steps.push(Step::Clear),
            _ => {}
        }
    }
    steps
}

fn apply(step: &Step, table: &mut Table, sequence: &mut u64) {
    match step {
        Step::Append(batch) => {
            table.append(*sequence, batch);
            *sequence += batch.len() as u64;
        }
        Step::Delete(ids) => {
            table.delete(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Step::Clear => *table = Table::default(),
        Step::Flush | Step::Reopen => {}
    }
}

fn perform(db: &Db, step: &Step) -> Result<(), DbError> {
    match step {
        Step::Append(batch) if batch.len() == 1 => db.append(&batch[0]).map(drop),
        Step::Append(batch) => db.append_batch(batch).map(drop),
        Step::Delete(ids) => db.delete_events(&ids.iter().map(String::as_str).collect::<Vec<_>>()).map(drop),
        Step::Flush => db.flush().map(drop),
        Step::Clear => db.flush().and_then(|_| db.gc(i64::MAX)).map(drop),
        Step::Reopen => unreachable!("done by the caller"),
    }
}

/// What a reader may show at this moment.
#[derive(Default)]
struct Legal {
    possible: Vec<Table>,
    what: String,
}

impl Legal {
    #[track_caller]
    fn check(&self, reader: &Raw, moment: &str) {
        let rows = rows(reader);
        let is_shown = |table: &&Table| {
            let events: Vec<&Event> = table.events().collect();
            events.len() == rows.len() && events.iter().zip(&rows).all(|(event, row)| naive::same(event, row))
        };
        let Some(table) = self.possible.iter().find(is_shown) else {
            let found: Vec<_> = rows.iter().map(|row| row.ts_ns).collect();
            let ids = |table: &Table| table.events().map(|event| event.ts_ns).collect::<Vec<_>>();
            let possible: Vec<_> = self.possible.iter().map(ids).collect();
            panic!("{}, {moment}: no possible state\nfound {found:?}\npossible {possible:?}", self.what);
        };
        let all = QueryFilter::default();
        let expected = table.aggregate(&all);
        assert_eq!(reader.aggregate(&all).unwrap(), expected, "{}, {moment}", self.what);
        let expected = table.rollups(&[0], i64::MIN, i64::MAX, &[]);
        assert_eq!(reader.query_rollups(i64::MIN, i64::MAX, &[]).unwrap(), expected, "{}", self.what);
    }
}

/// A writer on a simulated disk, and readers that look after every operation of it.
struct Beside {
    disk: SimDisk,
    legal: Arc<Mutex<Legal>>,
    /// Refreshed at each operation.
    follower: Arc<Mutex<Option<Raw>>>,
    looks: Arc<AtomicU64>,
}

impl Beside {
    fn new() -> Self {
        let disk = SimDisk::default();
        let legal = Arc::new(Mutex::new(Legal { possible: vec![Table::default()], what: "open".into() }));
        let follower = Arc::new(Mutex::new(None));
        let looks = Arc::new(AtomicU64::new(0));
        let beside = Self { disk, legal, follower, looks };
        let (disk, legal) = (beside.disk.clone(), Arc::clone(&beside.legal));
        let (follower, looks) = (Arc::clone(&beside.follower), Arc::clone(&beside.looks));
        beside.disk.after_each(move |number, _| {
            let mut follower = follower.lock().unwrap();
            let moment = format!("operation {number}");
            let legal = legal.lock().unwrap();
            match &*follower {
                Some(reader) => {
                    let refreshed = reader.refresh().unwrap_or_else(|error| panic!("{moment}: {error}"));
                    legal.check(reader, &moment);
                    assert_eq!(refreshed.events, rows(reader).len() as u64);
                    assert!(!reader.refresh().unwrap().changed, "{moment}: nothing came since");
                }
                // Until there is a table.
                None => match Raw::open_with(config(), options(&disk)) {
                    Ok(reader) => *follower = Some(reader),
                    Err(DbError::Missing { file }) => {
                        assert!(file.ends_with("MANIFEST"), "{}", file.display());
                    }
                    Err(error) => panic!("{moment}: {error}"),
                },
            }
            if number % 3 == 0 && follower.is_some() {
                let fresh = Raw::open_with(config(), options(&disk).map_mode(MapMode::Read));
                legal.check(&fresh.unwrap_or_else(|error| panic!("{moment}: {error}")), &moment);
            }
            looks.fetch_add(1, Ordering::Relaxed);
        });
        beside
    }

    fn open(&self) -> Result<Db, DbError> {
        Db::open_with(config(), options(&self.disk).sync(Sync::Always))
    }

    /// Goes through the history. A step that fails leaves the state before it, unless a sync failed.
    fn live(&self) -> u64 {
        let (mut sequence, mut failed) = (1, 0);
        let mut db = self.open().ok();
        for (number, step) in history().iter().enumerate() {
            let before = self.legal.lock().unwrap().possible.clone();
            let mut after = before.clone();
            let start = sequence;
            for table in &mut after {
                sequence = start;
                apply(step, table, &mut sequence);
            }
            let what = format!("step {number} {step:.60?}");
            let possible = before.iter().chain(&after).cloned().collect();
            *self.legal.lock().unwrap() = Legal { possible, what };
            let done = if matches!(step, Step::Reopen) {
                drop(db.take());
                self.open().map(|opened| db = Some(opened))
            } else {
                match &db {
                    Some(db) => perform(db, step),
                    None => self
                        .open()
                        .map(|opened| db = Some(opened))
                        .and(Err(DbError::Poisoned { first: "".into() })),
                }
            };
            let mut legal = self.legal.lock().unwrap();
            match done {
                Ok(()) => legal.possible = after,
                Err(DbError::Poisoned { .. }) => failed += 1,
                Err(_) => {
                    legal.possible = before;
                    failed += 1;
                }
            }
            if let Some(reader) = &*self.follower.lock().unwrap() {
                reader.refresh().unwrap();
                legal.check(reader, "when it had returned");
            }
        }
        failed
    }
}

#[test]
fn at_every_operation_a_reader_shows_the_state_before_or_after_the_step() {
    let watched = Beside::new();
    assert_eq!(watched.live(), 0);
    let looks = watched.looks.load(Ordering::Relaxed);
    assert!(looks > 400 && looks == watched.disk.operations(), "{looks} looks");
    println!("{looks} looks");
}

/// What a failed write left, and what was taken back of it, is never shown once the step has returned.
#[test]
fn at_every_operation_of_a_writer_whose_disk_fails_a_reader_shows_a_possible_state() {
    let operations = {
        let watched = Beside::new();
        watched.live();
        watched.disk.operations()
    };
    let mut failed = 0;
    for kind in [FaultKind::ShortWrite, FaultKind::Io, FaultKind::Full] {
        for at in (1..operations).step_by(97) {
            let watched = Beside::new();
            watched.disk.fail(Fault { at, kind, forever: false });
            failed += watched.live();
        }
    }
    assert!(failed > 6, "only {failed} steps failed");
}

/// What is done with a disk.
enum Access<'a> {
    /// A file is about to be opened for reading, or a folder listed.
    Open,
    /// Bytes were read; whoever looks may change them.
    Read { bytes: &'a mut [u8], offset: u64 },
    /// Bytes are about to be written.
    Write,
    /// Something else is about to be changed.
    Change,
}

/// A disk that somebody watches.
#[derive(Clone)]
struct Watched<D> {
    disk: D,
    watch: Watch,
}

type Watch = Arc<dyn Fn(&Path, Access<'_>) + Send + std::marker::Sync>;

impl<D> Watched<D> {
    fn new(disk: D, watch: impl Fn(&Path, Access<'_>) + Send + std::marker::Sync + 'static) -> Self {
        Self { disk, watch: Arc::new(watch) }
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile { file, path: path.to_owned(), watch: Arc::clone(&self.watch) })
    }
}

impl<D> fmt::Debug for Watched<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl<D: Disk> Disk for Watched<D> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        (self.watch)(dir, Access::Change);
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        (self.watch)(dir, Access::Open);
        self.disk.list(dir)
    }
    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.bytes(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        (self.watch)(path, Access::Change);
        Ok(self.file(path, self.disk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        (self.watch)(path, Access::Change);
        Ok(self.file(path, self.disk.open(path)?))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        (self.watch)(path, Access::Open);
        Ok(self.file(path, self.disk.open_read(path)?))
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn keplordb::disk::AppendFile>> {
        (self.watch)(path, Access::Change);
        self.disk.open_append(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn keplordb::disk::LockFile>> {
        self.disk.open_lock(path)
    }
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        (self.watch)(target, Access::Change);
        self.disk.rename(source, target)
    }
    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        (self.watch)(target, Access::Change);
        self.disk.link(source, target)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.watch)(path, Access::Change);
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        (self.watch)(dir, Access::Change);
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        (self.watch)(path, Access::Change);
        self.disk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_copy(path)
    }
    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        (self.watch)(path, Access::Open);
        self.disk.map(path, bytes)
    }
    fn watch(&self, dir: &Path) -> io::Result<Box<dyn keplordb::disk::Watch>> {
        self.disk.watch(dir)
    }
}

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    watch: Watch,
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl DiskFile for WatchedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(target, offset)?;
        (self.watch)(&self.path, Access::Read { bytes: &mut target[..read], offset });
        Ok(read)
    }
    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        (self.watch)(&self.path, Access::Write);
        self.file.write_at(source, offset)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        (self.watch)(&self.path, Access::Change);
        self.file.truncate(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        (self.watch)(&self.path, Access::Change);
        self.file.sync()
    }
}

/// Opens and bytes that were read.
#[derive(Default)]
struct Counts {
    opens: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// Those since the last call.
    fn take(&self) -> (u64, u64) {
        (self.opens.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

/// A disk that may only be read, and counts.
fn read_only<D>(disk: D) -> (Watched<D>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let watched = Watched::new(disk, move |path, access| match access {
        Access::Open => drop(counted.opens.fetch_add(1, Ordering::Relaxed)),
        Access::Read { bytes, .. } => drop(counted.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed)),
        Access::Write | Access::Change => panic!("a reader changed {}", path.display()),
    });
    (watched, counts)
}

/// A thread that appends what it is told, in the shard that it is used to.
struct Appender {
    numbers: mpsc::Sender<u64>,
    done: Mutex<mpsc::Receiver<()>>,
}

impl Appender {
    fn new(db: &Arc<Db>) -> Self {
        let (numbers, told) = mpsc::channel();
        let (tell, done) = mpsc::channel();
        let db = Arc::clone(db);
        std::thread::spawn(move || {
            for number in told {
                append(&db, number);
                tell.send(()).unwrap();
            }
        });
        Self { numbers, done: Mutex::new(done) }
    }

    fn append(&self, number: u64) {
        self.numbers.send(number).unwrap();
        self.done.lock().unwrap().recv().unwrap();
    }
}

/// Does something once, when it is its turn.
type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn run(once: &Once) {
    let act = once.lock().unwrap().take();
    if let Some(act) = act {
        act();
    }
}

/// Two threads write in turn into two shards while a reader is between their logs.
#[test]
fn an_event_is_never_seen_without_what_was_appended_before_it_in_another_shard() {
    let disk = MemoryDisk::default();
    let while_writing: Once = Arc::default();
    let written = Arc::clone(&while_writing);
    let writers_disk = Watched::new(disk.clone(), move |path, access| {
        if matches!(access, Access::Write) && path.ends_with("wal/0000000000000001.kwal") {
            run(&written);
        }
    });
    let config = || EngineConfig { wal_max_events: 1000, ..config() };
    let db = Arc::new(Db::open_with(config(), options(&writers_disk)).unwrap());
    let (first, second) = (Appender::new(&db), Arc::new(Appender::new(&db)));
    first.append(0);
    // While the first thread holds its shard, the second one has to take the other, and stays there.
    let other = Arc::clone(&second);
    *while_writing.lock().unwrap() = Some(Box::new(move || other.append(1)));
    first.append(2);
    assert_eq!(files_of(&disk, Path::new("events/wal")).len(), 2, "two shards are written");

    let between: Once = Arc::default();
    let opened = Arc::clone(&between);
    let readers_disk = Watched::new(disk, move |path, access| {
        if matches!(access, Access::Open) && path.ends_with("wal/0000000000000002.kwal") {
            run(&opened);
        }
    });
    let reader = Raw::open_with(config(), options(&readers_disk)).unwrap();
    assert_eq!(count(&reader), 3);
    let first = Arc::new(first);
    for round in 0..20 {
        let (first, second) = (Arc::clone(&first), Arc::clone(&second));
        *between.lock().unwrap() = Some(Box::new(move || {
            first.append(10 + 2 * round);
            second.append(11 + 2 * round);
        }));
        reader.refresh().unwrap();
        assert!(between.lock().unwrap().is_none(), "the second log was opened");
        let shown: Vec<i64> =
            rows(&reader).iter().map(|row| row.ts_ns - 10).filter(|number| *number >= 0).collect();
        let until = shown.first().map_or(-1, |newest| *newest);
        assert_eq!(shown, (0..=until).rev().collect::<Vec<_>>(), "round {round}");
        assert!(until >= 2 * i64::try_from(round).unwrap() - 1, "round {round}: {until}");
    }
    assert_eq!(reader.refresh().unwrap().events, 43);
}

#[test]
fn an_event_is_never_seen_with_one_that_was_deleted_before_it() {
    let disk = MemoryDisk::default();
    let config = || EngineConfig { wal_max_events: 1000, ..config() };
    let db = Arc::new(Db::open_with(config(), options(&disk)).unwrap());
    append(&db, 0);
    append(&db, 1);
    db.delete_events(&["id 0"]).unwrap();
    let before_logs: Once = Arc::default();
    let opened = Arc::clone(&before_logs);
    let readers_disk = Watched::new(disk, move |path, access| {
        if matches!(access, Access::Open) && path.to_string_lossy().ends_with(".kwal") {
            run(&opened);
        }
    });
    let reader = Raw::open_with(config(), options(&readers_disk)).unwrap();
    for number in 2..20 {
        let db = Arc::clone(&db);
        *before_logs.lock().unwrap() = Some(Box::new(move || {
            assert!(db.delete_event(&format!("id {}", number - 1)).unwrap());
            append(&db, number);
        }));
        reader.refresh().unwrap();
        assert!(before_logs.lock().unwrap().is_none(), "the log was opened");
        let shown: Vec<i64> = rows(&reader).iter().map(|row| row.ts_ns).collect();
        assert_eq!(shown, [i64::try_from(number).unwrap()]);
    }
}

/// Whatever a writer does between any two reads of a reader costs another pass and no row.
#[test]
fn a_writer_that_publishes_between_any_two_reads_is_followed() {
    for (grace, is_fresh) in [(0, true), (0, false), (60, true), (60, false)] {
        let mut moments = 0;
        loop {
            let what = format!("grace {grace} s, fresh {is_fresh}, moment {moments}");
            let disk = MemoryDisk::default();
            let config = || EngineConfig { wal_max_events: 1000, ..config() };
            let options =
                |disk: Arc<dyn Disk>| Options::default().disk(disk).unlink_grace(Duration::from_secs(grace));
            let db = Arc::new(Db::open_with(config(), options(Arc::new(disk.clone()))).unwrap());
            (0..5).for_each(|number| append(&db, number));
            db.delete_events(&["id 1"]).unwrap();
            db.flush().unwrap();
            (5..8).for_each(|number| append(&db, number));

            let between: Once = Arc::default();
            let (acts, left) = (Arc::clone(&between), Arc::new(AtomicU64::new(u64::MAX)));
            let countdown = Arc::clone(&left);
            let watched = Watched::new(disk, move |_, access| {
                if matches!(access, Access::Open) && countdown.fetch_sub(1, Ordering::Relaxed) == 0 {
                    run(&acts);
                }
            });
            let open = || Raw::open_with(config(), options(Arc::new(watched.clone())));
            let reader = (!is_fresh).then(|| open().unwrap());
            append(&db, 8);

            // Each later state, as the rows that are there: what the writer does follows it.
            let writer = Arc::clone(&db);
            *between.lock().unwrap() = Some(Box::new(move || {
                writer.flush().unwrap();
                append(&writer, 20);
                writer.delete_events(&["id 6"]).unwrap();
                writer.flush().unwrap();
                append(&writer, 21);
            }));
            left.store(moments, Ordering::Relaxed);
            let reader = match reader {
                Some(reader) => reader.refresh().map(|_| reader),
                None => open(),
            };
            left.store(u64::MAX, Ordering::Relaxed);
            let reader = reader.unwrap_or_else(|error| panic!("{what}: {error}"));
            let shown = |reader: &Raw| rows(reader).iter().rev().map(|row| row.ts_ns).collect::<Vec<_>>();
            let (before, after) = (vec![0, 2, 3, 4, 5, 6, 7, 8], vec![0, 2, 3, 4, 5, 7, 8, 20, 21]);
            let is_over = between.lock().unwrap().is_some();
            if is_over {
                assert_eq!(shown(&reader), before, "{what}");
                break;
            }
            // All of it was done between two reads, so nothing but these two can have been there.
            let found = match reader.query_recent(&QueryFilter::default(), 100) {
                // What was shown last may be gone already.
                Err(DbError::Missing { .. }) if grace == 0 => before.clone(),
                _ => shown(&reader),
            };
            assert!(found == before || found == after, "{what}: {found:?}");
            reader.refresh().unwrap();
            assert_eq!(shown(&reader), after, "{what}");
            moments += 1;
        }
        assert!(moments >= 6, "only {moments} moments");
    }
}

#[test]
fn a_page_that_was_read_before_it_was_written_is_read_again() {
    let disk = MemoryDisk::default();
    let db = Db::open_with(config(), options(&disk)).unwrap();
    (1..=5).for_each(|number| append(&db, number));
    let path = only(&files_of(&disk, DIR.as_ref()), ".kwal");
    let bytes = keplordb::disk::read_all(&disk, &path, u64::MAX).unwrap();
    let place = bytes.windows(4).position(|window| window == b"id 3").unwrap();
    // A pass looks at it half a dozen times before it reaches the end of the file and knows that it was synced.
    for times in [1, 10, 20] {
        let stale = Arc::new(AtomicU64::new(times));
        let left = Arc::clone(&stale);
        let readers_disk = Watched::new(disk.clone(), move |path, access| {
            if let Access::Read { bytes, offset } = access
                && path.to_string_lossy().ends_with(".kwal")
                && let Some(place) = place.checked_sub(usize::try_from(offset).unwrap())
                && let Some(id) = bytes.get_mut(place..place + 4)
                && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                id.fill(0);
            }
        });
        let reader = Raw::open_with(config(), options(&readers_disk)).unwrap();
        assert_eq!(count(&reader), 5);
        assert_eq!(stale.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_refresh_reads_only_what_is_new() {
    let disk = MemoryDisk::default();
    let big = EngineConfig { wal_max_events: 50_000, ..config() };
    let db = Db::open_with(big, options(&disk)).unwrap();
    for batch in 0..12 {
        db.append_batch(&(batch * 10_000..(batch + 1) * 10_000).map(event).collect::<Vec<_>>()).unwrap();
    }
    db.delete_events(&["id 119999", "id 7"]).unwrap();
    let (disk, counts) = read_only(disk);
    let reader = Raw::open_with(config(), options(&disk)).unwrap();
    let (_, bytes) = counts.take();
    assert!(bytes > 1_000_000, "20,000 rows in logs: {bytes}");
    assert_eq!(count(&reader), 119_998);
    counts.take();

    // The manifest twice; one log in use and the tombstones: their last frame, the place behind it, and again.
    for _ in 0..3 {
        assert!(!reader.refresh().unwrap().changed);
        let (opens, bytes) = counts.take();
        assert!(opens <= 6 && bytes < 8 << 10, "{opens} opens and {bytes} bytes for nothing");
    }
    db.append(&event(120_000)).unwrap();
    assert!(reader.refresh().unwrap().changed);
    let (opens, bytes) = counts.take();
    // What the writer filled ahead is looked at once.
    assert!(opens <= 8 && bytes < 80 << 10, "{opens} opens and {bytes} bytes for one row");
    db.append(&event(130_000)).unwrap();
    assert!(reader.refresh().unwrap().changed);
    let (opens, bytes) = counts.take();
    assert!(opens <= 8 && bytes < 20 << 10, "{opens} opens and {bytes} bytes for one more");
    db.append_batch(&(120_001..130_000).map(event).collect::<Vec<_>>()).unwrap();
    reader.refresh().unwrap();
    let (opens, bytes) = counts.take();
    assert!(
        opens <= 8 && (500_000..3_000_000).contains(&bytes),
        "{opens} opens and {bytes} bytes for 9,999 rows"
    );
    // A rotation brings a segment's header, and no row is read again.
    db.flush().unwrap();
    reader.refresh().unwrap();
    let (_, bytes) = counts.take();
    assert!(bytes < 100_000, "{bytes} bytes for a segment");
    assert_eq!(count(&reader), 129_999);
}

/// Names, lengths and contents of everything below a directory.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in RealDisk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.extend(contents(&path));
        } else {
            let bytes = keplordb::disk::read_all(&RealDisk, &path, u64::MAX).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
#[cfg(unix)]
fn a_directory_that_may_only_be_read_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;

    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("events");
    let config = EngineConfig { data_dir: dir.clone(), ..config() };
    let db = Db::open(config.clone()).unwrap();
    (0..20).for_each(|number| append(&db, number));
    db.delete_events(&["id 3", "id 19"]).unwrap();
    // As a killed writer leaves it: no clean close, and a torn frame at the end of a log.
    std::mem::forget(db);
    let log =
        contents(&dir).into_iter().rfind(|(path, _)| path.to_string_lossy().ends_with(".kwal")).unwrap().0;
    let file = RealDisk.open(&log).unwrap();
    file.write_at(b"torn", file.bytes().unwrap()).unwrap();

    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let folders = [dir.join("wal"), dir.join("segments"), dir.clone()];
    let before = contents(&dir);
    for (path, _) in &before {
        set_mode(path, 0o400);
    }
    for folder in &folders {
        set_mode(folder, 0o500);
    }

    // Whoever may do everything is stopped by the disk instead.
    let (disk, _) = read_only(RealDisk);
    let options = Options::default().disk(Arc::new(disk));
    let reader = Raw::open_with(config, options).unwrap();
    assert_eq!(count(&reader), 18);
    assert!(reader.get_event("id 3").unwrap().is_none());
    assert!(reader.get_event("id 4").unwrap().is_some());
    assert!(!reader.refresh().unwrap().changed);
    drop(reader);
    assert_eq!(contents(&dir), before);
    for folder in &folders {
        set_mode(folder, 0o700);
    }
}

#[test]
fn no_table_is_a_missing_manifest_that_says_what_to_do() {
    let disk = MemoryDisk::default();
    let open = || Raw::open_with(config(), options(&disk)).unwrap_err();
    let expected = "events/MANIFEST is missing; open the directory with an engine and its schema, which makes a \
                    table or mends one that lost this file";
    assert_eq!(open().to_string(), expected);
    disk.create_dir(DIR.as_ref()).unwrap();
    assert_eq!(open().to_string(), expected);
    Db::open_with(config(), options(&disk)).unwrap();
    assert_eq!(count(&Raw::open_with(config(), options(&disk)).unwrap()), 0);
    let bad = EngineConfig { rollup_dims: vec![1], ..config() };
    let error = Raw::open_with(bad, options(&disk)).unwrap_err();
    assert!(matches!(&error, DbError::Invalid { field, .. } if field == "rollup_dims"), "{error}");
}

#[test]
fn damage_below_a_watermark_is_an_error_that_changes_nothing() {
    let disk = MemoryDisk::default();
    let db = Db::open_with(config(), options(&disk)).unwrap();
    (1..=3).for_each(|number| append(&db, number));
    let follower = Raw::open_with(config(), options(&disk)).unwrap();
    (4..=6).for_each(|number| append(&db, number));

    let path = only(&files_of(&disk, DIR.as_ref()), ".kwal");
    let whole = keplordb::disk::read_all(&disk, &path, u64::MAX).unwrap();
    // The id of an event in the middle, which the frames behind it say was synced.
    let damaged = |id: &[u8]| {
        let place = whole.windows(id.len()).position(|window| window == id).unwrap();
        let file = disk.open(&path).unwrap();
        file.write_at(b"?", place as u64).unwrap();
        move || file.write_at(b"i", place as u64).unwrap()
    };
    let mend = damaged(b"id 5");
    for _ in 0..2 {
        let error = follower.refresh().unwrap_err();
        let DbError::Corrupt { file, offset, what } = &error else { panic!("{error}") };
        assert_eq!(file, &path);
        assert!(*offset > 100 && what.contains("checksum does not hold"), "{error}");
        assert_eq!(count(&follower), 3, "queries go on seeing what they saw");
        assert!(matches!(Raw::open_with(config(), options(&disk)), Err(DbError::Corrupt { .. })));
    }
    mend();
    assert_eq!(follower.refresh().unwrap().events, 6);

    // What was read before is not read again, and so is not missed.
    let mend = damaged(b"id 2");
    db.append(&event(7)).unwrap();
    assert_eq!(follower.refresh().unwrap().events, 7);
    mend();
}

#[test]
fn lost_files_are_named() {
    let disk = MemoryDisk::default();
    let db = Db::open_with(config(), options(&disk)).unwrap();
    (0..3).for_each(|number| append(&db, number));
    db.flush().unwrap();
    (3..6).for_each(|number| append(&db, number));
    db.delete_events(&["id 1", "id 4"]).unwrap();
    db.close().unwrap();
    let files = files_of(&disk, DIR.as_ref());
    let is_lost = |path: &&PathBuf| !path.to_string_lossy().contains("spare");
    for lost in files.keys().filter(is_lost) {
        let mut rest = files.clone();
        rest.remove(lost);
        let disk = disk_of(&rest);
        let error = Raw::open_with(config(), Options::default().disk(disk)).unwrap_err();
        assert!(matches!(&error, DbError::Missing { file } if file == lost), "{lost:?}: {error}");
    }
}

#[test]
fn a_segment_that_went_before_it_was_asked_asks_for_a_refresh() {
    let temporary = tempfile::tempdir().unwrap();
    let config = EngineConfig { data_dir: temporary.path().join("events"), ..config() };
    let options = || Options::default().unlink_grace(Duration::ZERO).merge_rows(0);
    let db = Db::open_with(config.clone(), options()).unwrap();
    (0..5).for_each(|number| append(&db, number));
    db.flush().unwrap();
    let reader = Raw::open_with(config.clone(), options()).unwrap();
    let asked = Raw::open_with(config, options()).unwrap();
    assert_eq!(rows(&asked).len(), 5);
    (5..9).for_each(|number| append(&db, number));
    db.flush().unwrap();
    db.gc(5).unwrap();
    db.append(&event(9)).unwrap();
    db.flush().unwrap();

    let error = reader.query_recent(&QueryFilter::default(), 10).unwrap_err();
    assert!(matches!(&error, DbError::Missing { file } if file.extension().unwrap() == "kseg"), "{error:?}");
    assert!(error.to_string().contains("a reader beside an engine refreshes and asks again"), "{error}");
    assert_eq!(reader.refresh().unwrap().events, 5);
    assert_eq!(count(&reader), 5);
    assert_eq!(rows(&asked).len(), 5, "what was mapped and checked stays readable");
    assert_eq!(asked.refresh().unwrap().events, 5);
    assert_eq!(rows(&asked)[4].id, "id 5");
}

mod calls {
    use keplordb::Schema;

    #[derive(Schema)]
    #[keplordb(id = 1)]
    pub(crate) struct Old {
        #[dim(rollup)]
        pub user: String,
        #[counter]
        pub tokens: u32,
    }

    #[derive(Schema)]
    #[keplordb(id = 1)]
    pub(crate) struct New {
        #[dim(rollup)]
        pub user: String,
        #[dim(bloom)]
        pub region: String,
        #[counter]
        pub tokens: u32,
        #[counter]
        pub cached: u32,
        #[label]
        pub note: String,
    }
}
use calls::{New, Old};

#[test]
fn columns_that_one_side_lacks_read_as_nothing() {
    let disk = MemoryDisk::default();
    let options = || options(&disk);
    let config = || Old::default_config(DIR.into());
    let store = Store::<Old>::open_with(config(), options()).unwrap();
    store.append(Old::new(1).id("a").user("alice").tokens(5)).unwrap();
    store.flush().unwrap();
    store.append(Old::new(2).id("b").user("bob").tokens(7)).unwrap();

    // The reader knows columns that nothing has been written with.
    let newer = Reader::<New>::open_with(New::default_config(DIR.into()), options()).unwrap();
    let older = Reader::<Old>::open_with(config(), options()).unwrap();
    let check_old_rows = |reader: &Reader<New>| {
        for (id, user, tokens) in [("a", "alice", 5), ("b", "bob", 7)] {
            let row = reader.get(id).unwrap().unwrap();
            let found = (row.user(), row.tokens(), row.region(), row.cached(), row.note());
            assert_eq!(found, (user, tokens, "", 0, ""));
        }
        assert_eq!(reader.query(New::filter().region("")).rows().unwrap().len(), 2);
    };
    check_old_rows(&newer);
    assert!(newer.query(New::filter().region("eu")).rows().unwrap().is_empty());
    drop(store);

    // The table grows while the reader of the older program goes on.
    let store = Store::<New>::open_with(New::default_config(DIR.into()), options()).unwrap();
    let row =
        |id: &str, ts_ns| New::new(ts_ns).id(id).user("eve").region("eu").tokens(1).cached(9).note("hi");
    store.append(row("c", 3)).unwrap();
    let check_new_rows = || {
        older.refresh().unwrap();
        newer.refresh().unwrap();
        check_old_rows(&newer);
        let rows = older.query(Old::filter()).rows().unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.user().to_owned(), row.tokens())).collect();
        let expected = [("eve", 1), ("bob", 7), ("alice", 5)].map(|(user, tokens)| (user.to_owned(), tokens));
        assert_eq!(found, expected);
        let totals: Totals<1> = older.totals(Old::filter()).unwrap();
        assert_eq!((totals.event_count, totals.counters), (3, [13]));
        let of_eve: Totals<1> = older.totals(Old::filter().user("eve")).unwrap();
        assert_eq!((of_eve.event_count, of_eve.counters), (1, [1]));
        let totals: Totals<2> = newer.totals(New::filter()).unwrap();
        assert_eq!((totals.counters, totals.counters_min), ([13, 9], [Some(1), Some(0)]));
        let days = older.rollups(i64::MIN, i64::MAX, &[Some("eve")]).unwrap();
        assert_eq!((days.len(), days[0].1.event_count, days[0].1.counters), (1, 1, [1]));
        assert_eq!(newer.get("c").unwrap().unwrap().note(), "hi");
    };
    check_new_rows();
    store.flush().unwrap();
    check_new_rows();
    store.delete(&["c"]).unwrap();
    store.append(row("c", 3)).unwrap();
    check_new_rows();
}

#[test]
fn another_schema_is_refused_in_words() {
    let disk = MemoryDisk::default();
    let open = |schema: TableSchema| {
        let config = EngineConfig { schema_id: 1, rollup_dims: Vec::new(), ..config() };
        let options = options(&disk).schema(schema);
        Db::open_with(config, options).unwrap().append(&event(1)).unwrap();
    };
    open(TableSchema::new(1).dim("region").counter("tokens").label("note"));
    let error = Reader::<Old>::open_with(Old::default_config(DIR.into()), options(&disk)).unwrap_err();
    assert!(matches!(error, DbError::SchemaMismatch { .. }));
    assert_eq!(
        error.to_string(),
        "events holds another schema: dim 0 is \"user\" instead of the stored \"region\"; open it with the schema that \
         wrote it, or add new columns at the end of their role"
    );
    let other_id = Raw::open_with(EngineConfig { schema_id: 2, ..config() }, options(&disk)).unwrap_err();
    assert!(other_id.to_string().contains("schema id 2 instead of the stored 1"), "{other_id}");
    // Columns without names fit whatever their names are, and as many as there are.
    let narrow = RawReader::<0, 0, 0>::open_with(
        EngineConfig { schema_id: 1, rollup_dims: Vec::new(), ..config() },
        options(&disk),
    );
    assert_eq!(narrow.unwrap().get_event("id 1").unwrap().unwrap().metric, 3);
}

#[test]
fn a_table_made_anew_is_read_anew() {
    let disk = MemoryDisk::default();
    let fill = |from: u64, rows: u64| {
        let db = Db::open_with(config(), options(&disk)).unwrap();
        (from..from + rows).for_each(|number| append(&db, number));
        db
    };
    drop(fill(0, 20));
    let reader = Raw::open_with(config(), options(&disk)).unwrap();
    assert_eq!(count(&reader), 20);
    disk.rename(DIR.as_ref(), "elsewhere".as_ref()).unwrap();
    assert!(matches!(reader.refresh(), Err(DbError::Missing { .. })));
    assert_eq!(count(&reader), 20);
    // The same files by name, with other rows in them.
    let db = fill(100, 16);
    assert_eq!(reader.refresh().unwrap().events, 16);
    assert!(rows(&reader).iter().all(|row| row.ts_ns >= 100));
    db.append(&event(200)).unwrap();
    assert_eq!(reader.refresh().unwrap().events, 17);
}

#[test]
fn what_no_sync_has_made_durable_is_seen_too() {
    let disk = MemoryDisk::default();
    let db = Db::open_with(config(), options(&disk).sync(Sync::Os)).unwrap();
    let reader = Raw::open_with(config(), options(&disk)).unwrap();
    for number in 0..30 {
        db.append(&event(number)).unwrap();
        assert_eq!(reader.refresh().unwrap().events, number + 1);
    }
}

#[test]
fn queries_during_refreshes_see_whole_batches_of_one_version() {
    fn is_shared<T: Clone + Send + std::marker::Sync + 'static>(_: &T) {}
    const BATCH: u64 = 10;
    let disk = MemoryDisk::default();
    let config = || EngineConfig { wal_max_events: 200, wal_shard_count: 3, ..config() };
    // Whoever asks may not have refreshed for a while.
    let options = || options(&disk).unlink_grace(Duration::from_secs(60)).sync(Sync::Os);
    let db = Db::open_with(config(), options()).unwrap();
    let reader = Raw::open_with(config(), options()).unwrap();
    is_shared(&reader);
    let (done, refreshes, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let (db, refreshes, asked) = (&db, &refreshes, &asked);
                scope.spawn(move || {
                    let is_seen =
                        || refreshes.load(Ordering::Relaxed) > 100 && asked.load(Ordering::Relaxed) > 100;
                    let mut batches = 0..;
                    for batch in
                        batches.by_ref().take_while(|batch| *batch % 5 != 0 || *batch < 100 || !is_seen())
                    {
                        let first = (writer << 32) + batch * BATCH;
                        db.append_batch(&(first..first + BATCH).map(event).collect::<Vec<_>>()).unwrap();
                        if batch % 5 == 4 {
                            let ids: Vec<String> =
                                (first - BATCH..first).map(|number| format!("id {number}")).collect();
                            db.delete_events(&ids.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
                        }
                    }
                    // Of each five batches one was deleted.
                    (batches.start - 1) / 5 * 4 * BATCH
                })
            })
            .collect();
        for _ in 0..2 {
            let (handle, done, refreshes) = (reader.clone(), &done, &refreshes);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    handle.refresh().unwrap();
                    refreshes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let (shared, asked) = (reader.clone(), &asked);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let totals: Totals<1> = shared.aggregate(&QueryFilter::default()).unwrap();
                    assert_eq!(totals.event_count % BATCH, 0, "a part of a batch, or of a delete");
                    assert_eq!(totals.metric, 3 * i64::try_from(totals.event_count).unwrap());
                    let rows = rows(&shared);
                    assert_eq!(rows.len() as u64 % BATCH, 0);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let left: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        assert_eq!(reader.refresh().unwrap().events, left);
        assert_eq!(count(&reader) as u64, left);
    });
}
