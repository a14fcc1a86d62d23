//! Pages and scans against a plain list of rows, while the table changes between one page and the next: appends, also with
//! old times, rotations, merges, deletes, restarts. Times are drawn to collide, so that most pages end between rows of one
//! time. A second test does it with threads that append, delete and flush at once, and holds that a scan shows the rows up
//! to some number and none other.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keplordb::any::{AnyQuery, AnyReader, AnyRow, AnyStore};
use keplordb::disk::MemoryDisk;
use keplordb::{Budget, DbError, EngineConfig, Options, PageCursor, Sync, TableSchema};
use naive::crowded::CrowdedDisk;
use naive::random::{Random, Replay, number_of};

const PROGRAMS: u64 = 300;
const USERS: [&str; 3] = ["alice", "bob", "carol"];

fn open(disk: &CrowdedDisk, random: &mut Random, name: &str) -> AnyStore {
    let config = EngineConfig {
        wal_max_events: *random.pick(&[2, 9, 40, 500_000]),
        wal_shard_count: 1 + random.below(4),
        schema_id: 5,
        ..EngineConfig::in_dir(name)
    };
    let options = Options::default()
        .disk(Arc::new(disk.clone()))
        .sync(Sync::Os)
        .merge_rows(*random.pick(&[0, 30, 32_768]))
        .schema(TableSchema::new(5).dim("user").counter("number"));
    AnyStore::open_with(config, options).unwrap()
}

/// (time, sequence): what rows are ordered by and known by.
type Key = (i64, u64);

fn key(row: &AnyRow) -> Key {
    (row.int("ts_ns").unwrap(), u64::try_from(row.int("sequence").unwrap()).unwrap())
}

/// The live rows and whose they are.
#[derive(Debug, Default, Clone)]
struct Model(BTreeMap<Key, (&'static str, String)>);

impl Model {
    /// The rows of a user, in an order.
    fn rows(&self, user: Option<&str>, newest_first: bool) -> Vec<Key> {
        let mine = self.0.iter().filter(|(_, (owner, _))| user.is_none_or(|user| user == *owner));
        let mut keys: Vec<Key> = mine.map(|(key, _)| *key).collect();
        if newest_first {
            keys.reverse();
        }
        keys
    }
}

/// A walk through pages.
struct Walk {
    user: Option<&'static str>,
    newest_first: bool,
    limit: usize,
    /// The rows that were there at its first page.
    rows: Vec<Key>,
    given: usize,
    cursor: Option<PageCursor>,
}

struct Program {
    random: Random,
    disk: CrowdedDisk,
    store: Option<AnyStore>,
    model: Model,
    serial: u64,
}

impl Program {
    fn run(seed: u64) {
        let _replay = Replay { variable: "KEPLORDB_PAGING_SEED", seed };
        let mut random = Random::new(seed);
        let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
        let store = Some(open(&disk, &mut random, "events"));
        let mut program = Self { random, disk, store, model: Model::default(), serial: 0 };
        for _ in 0..3 + program.random.below(8) {
            program.change();
        }
        for _ in 0..4 {
            program.walk();
            program.scan();
        }
    }

    fn store(&self) -> &AnyStore {
        self.store.as_ref().expect("open between the steps")
    }

    fn change(&mut self) {
        match self.random.below(10) {
            0..5 => self.append(),
            5 => _ = self.store().flush().unwrap(),
            6 => _ = self.store().compact(Budget::UNLIMITED).unwrap(),
            7 | 8 => self.delete(),
            _ => {
                drop(self.store.take());
                self.store = Some(open(&self.disk, &mut self.random, "events"));
            }
        }
    }

    fn append(&mut self) {
        let rows = *self.random.pick(&[1, 2, 7, 30, 300]);
        let spread = *self.random.pick(&[1, 2, 50]);
        let mut events = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..rows {
            self.serial += 1;
            let ts_ns = match self.random.below(40) {
                0 => *self.random.pick(&[i64::MIN, i64::MAX]),
                _ => 1000 + i64::try_from(self.random.below(spread)).unwrap(),
            };
            let (user, id) = (*self.random.pick(&USERS), format!("id {}", self.serial));
            let event = self.store().event(ts_ns).set("user", user).unwrap().set("id", id.as_str()).unwrap();
            events.push(event);
            keys.push((ts_ns, user, id));
        }
        let appended = self.store().append_batch(events).unwrap();
        for ((ts_ns, user, id), sequence) in keys.into_iter().zip(appended.first..) {
            self.model.0.insert((ts_ns, sequence), (user, id));
        }
    }

    fn delete(&mut self) {
        for _ in 0..self.random.below(6).min(self.model.0.len()) {
            let place = self.random.below(self.model.0.len());
            let (key, (_, id)) =
                self.model.0.iter().nth(place).map(|(key, row)| (*key, row.clone())).unwrap();
            // The empty id names no row.
            let found = usize::from(!id.is_empty());
            assert_eq!(self.store().delete(&[&id]).unwrap(), found);
            if found == 1 {
                self.model.0.remove(&key);
            }
        }
    }

    fn walk(&mut self) {
        let user = *self.random.pick(&[None, None, Some("alice"), Some("nobody")]);
        let newest_first = self.random.percent(50);
        let limit = *self.random.pick(&[1, 2, 3, 10, 100, 1000]);
        let rows = self.model.rows(user, newest_first);
        let mut walk = Walk { user, newest_first, limit, rows, given: 0, cursor: None };
        // Long walks of single rows show nothing more.
        for _ in 0..200 {
            if !self.page(&mut walk) {
                break;
            }
            if self.random.percent(40) {
                self.change();
            }
        }
    }

    /// The next page, which is exactly what the list says; whether there is another one.
    fn page(&mut self, walk: &mut Walk) -> bool {
        let mut query = self.store().query();
        if let Some(user) = walk.user {
            query = query.equals("user", user).unwrap();
        }
        let query = if walk.newest_first { query.newest_first() } else { query.oldest_first() };
        let page = query.page(walk.limit, walk.cursor).unwrap();
        // What is left of the rows of the first page: those behind the last row that was given, without what was deleted.
        let left: Vec<Key> =
            walk.rows[walk.given..].iter().filter(|key| self.model.0.contains_key(key)).copied().collect();
        let found: Vec<Key> = page.rows.iter().map(key).collect();
        let expected = &left[..left.len().min(walk.limit)];
        assert_eq!(
            found, expected,
            "{:?}, newest first: {}, {} rows",
            walk.user, walk.newest_first, walk.limit
        );
        assert_eq!(page.next.is_some(), left.len() > walk.limit, "another page, {} rows left", left.len());
        if let Some(last) = found.last() {
            walk.given = walk.rows.iter().position(|key| key == last).unwrap() + 1;
        }
        // Kept as text, as a program would over a restart.
        walk.cursor = page.next.map(|cursor| cursor.to_string().parse().unwrap());
        walk.cursor.is_some()
    }

    fn scan(&mut self) {
        let newest_first = self.random.percent(50);
        let limit = *self.random.pick(&[0, 1, 50, usize::MAX, usize::MAX]);
        let appends = self.random.percent(20);
        let query = self.store().query().limit(limit);
        let query = if newest_first { query.newest_first() } else { query.oldest_first() };
        let expected = self.model.rows(None, newest_first);
        let mut found = Vec::new();
        query
            .scan(|row| {
                found.push((row.view().ts_ns(), row.view().sequence()));
                if appends && found.len() < 5 {
                    // Seen by the next scan, not by this one.
                    self.store().append(self.store().event(1000).set("user", "late").unwrap()).unwrap();
                }
            })
            .unwrap();
        assert_eq!(found, expected[..expected.len().min(limit)], "newest first: {newest_first}");
        if appends {
            for row in self.store().query().equals("user", "late").unwrap().rows().unwrap() {
                self.model.0.entry(key(&row)).or_insert(("late", String::new()));
            }
        }
    }
}

#[test]
fn pages_have_each_row_of_the_first_moment_once_and_scans_have_all() {
    if let Some(seed) = number_of("KEPLORDB_PAGING_SEED") {
        return Program::run(seed);
    }
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= PROGRAMS {
                        break;
                    }
                    Program::run(seed);
                }
            });
        }
    });
}

fn all_pages(query: &AnyQuery<'_>, limit: usize) -> Vec<Key> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = query.page(limit, cursor).unwrap();
        keys.extend(page.rows.iter().map(key));
        cursor = page.next;
        if cursor.is_none() {
            return keys;
        }
    }
}

#[test]
fn pages_and_scans_hold_while_threads_write() {
    const WRITERS: u64 = 3;
    const BATCHES: u64 = 300;
    let mut random = Random::new(1);
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let config = EngineConfig {
        wal_max_events: 150,
        wal_shard_count: 4,
        schema_id: 5,
        ..EngineConfig::in_dir(Path::new("events"))
    };
    let options = Options::default()
        .disk(Arc::new(disk.clone()))
        .sync(Sync::Os)
        .schema(TableSchema::new(5).dim("user").counter("number"));
    let store = AnyStore::open_with(config, options).unwrap();
    disk.set_crowded(true);
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    // Keys of rows whose append has returned; those of `gone` users may be deleted at any time.
    let acknowledged = std::sync::Mutex::new(BTreeSet::<Key>::new());
    let (mut scans, mut walks) = (0, Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, done, acknowledged) = (&store, &done, &acknowledged);
            scope.spawn(move || {
                let mut random = Random::new(writer);
                for batch in 0..BATCHES {
                    let rows = 1 + random.below(4);
                    let ts_ns = i64::try_from(random.below(5)).unwrap();
                    let event = || store.event(ts_ns).set("user", "kept").unwrap();
                    let appended = store.append_batch((0..rows).map(|_| event())).unwrap();
                    acknowledged
                        .lock()
                        .unwrap()
                        .extend((appended.first..=appended.last).map(|number| (ts_ns, number)));
                    if batch % 8 == writer {
                        let id = format!("{writer} {batch}");
                        let gone =
                            store.event(ts_ns).set("user", "gone").unwrap().set("id", id.as_str()).unwrap();
                        store.append(gone).unwrap();
                        assert_eq!(store.delete(&[&id]).unwrap(), 1);
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (store_, stop_) = (&store, &stop);
        scope.spawn(move || {
            while !stop_.load(Ordering::SeqCst) {
                store_.flush().unwrap();
                store_.compact(Budget::rows(500)).unwrap();
                std::thread::yield_now();
            }
        });
        let kept = || store.query().equals("user", "kept").unwrap();
        while done.load(Ordering::SeqCst) < WRITERS {
            let before = acknowledged.lock().unwrap().clone();
            let newest_first = random.percent(50);
            let ordered = || if newest_first { kept().newest_first() } else { kept().oldest_first() };
            let mut found: Vec<Key> = Vec::new();
            if random.percent(50) {
                ordered().scan(|row| found.push((row.view().ts_ns(), row.view().sequence()))).unwrap();
                let all: BTreeSet<Key> = found.iter().copied().collect();
                assert_eq!(
                    before.difference(&all).next(),
                    None,
                    "a row that was acknowledged before is missing"
                );
                scans += 1;
            } else {
                let limit = *random.pick(&[5, 50]);
                found = all_pages(&ordered(), limit);
                let all: BTreeSet<Key> = found.iter().copied().collect();
                assert_eq!(
                    before.difference(&all).next(),
                    None,
                    "a row that was acknowledged before is missing"
                );
                walks.push(all);
            }
            let ordered = found.is_sorted_by(|a, b| if newest_first { a > b } else { a < b });
            assert!(ordered, "a row came twice or out of order");
        }
        stop.store(true, Ordering::SeqCst);
    });
    // The pages of a walk are the rows up to some number, and all of these.
    let all = acknowledged.into_inner().unwrap();
    let walks_count = walks.len();
    for found in walks {
        let Some(highest) = found.iter().map(|(_, sequence)| *sequence).max() else { continue };
        let below: BTreeSet<Key> = all.iter().filter(|(_, sequence)| *sequence <= highest).copied().collect();
        assert!(
            found == below,
            "rows between those that were found are missing: {:?}",
            below.difference(&found).next()
        );
    }
    assert!(walks_count > 3 && scans > 3, "{walks_count} walks and {scans} scans test little");
}

#[test]
fn a_foreign_cursor_and_an_empty_page_are_refused() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let mut random = Random::new(2);
    let (store, empty) = (open(&disk, &mut random, "events"), open(&disk, &mut random, "empty"));
    store.append_batch((0..3).map(|_| store.event(7))).unwrap();
    let cursor = store.query().page(1, None).unwrap().next;
    let refused = |page: Result<keplordb::Page<AnyRow>, DbError>| page.unwrap_err().to_string();
    assert_eq!(
        refused(store.query().oldest_first().page(1, cursor)),
        "the page cursor is not legal: it is of a query with the newest first, this one has the oldest first"
    );
    assert!(refused(empty.query().page(1, cursor)).contains("it is of another table"));
    assert!(refused(store.query().page(0, None)).contains("pages of 0 rows"));
    assert_eq!(store.query().page(5, cursor).unwrap().rows.len(), 2);
    // A table of the same schema id that has given as many numbers is not told apart, as the cursor's documentation says.
    let twin = open(&disk, &mut random, "twin");
    twin.append_batch((0..9).map(|_| twin.event(7))).unwrap();
    assert_eq!(twin.query().page(9, cursor).unwrap().rows.len(), 2);
}

#[test]
fn a_cursor_of_the_engine_is_good_in_a_reader() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let mut random = Random::new(3);
    let store = open(&disk, &mut random, "events");
    store.append_batch((0..5).map(|_| store.event(7))).unwrap();
    let newest = store.append(store.event(8).set("id", "newest").unwrap()).unwrap();
    store.flush().unwrap();
    let with_newest = store.query().page(1, None).unwrap().next;
    assert_eq!(
        store.query().page(1, None).unwrap().rows[0].int("sequence").unwrap(),
        newest.first.cast_signed()
    );
    store.delete(&["newest"]).unwrap();
    store.compact(Budget::UNLIMITED).unwrap();
    drop(store);

    // The engine's next number is far above those of all rows now, and the one of the newest row is of none.
    let store = open(&disk, &mut random, "events");
    let cursor = store.query().page(2, None).unwrap().next;
    drop(store);
    let options = Options::default().disk(Arc::new(disk.clone()));
    let reader = AnyReader::open_with(EngineConfig::in_dir("events"), options).unwrap();
    assert_eq!(reader.query().page(9, cursor).unwrap().rows.len(), 3);
    assert_eq!(reader.query().page(9, with_newest).unwrap().rows.len(), 5);
    let own = reader.query().page(2, None).unwrap().next;
    assert_eq!(reader.query().page(9, own).unwrap().rows.len(), 3);
}
