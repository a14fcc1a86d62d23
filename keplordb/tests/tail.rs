//! A tail against a plain list of rows: random programs of appends, flushes, merges, deletes, gc and restarts, with some
//! steps of the tail between them. It gives each row once, in the order of sequences, and none before it is on disk; what gc
//! has taken is said as a gap. A second test does it with threads.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keplordb::disk::MemoryDisk;
use keplordb::{Budget, DbError, EngineConfig, Gap, Options, Reader, Schema, Start, Store, Sync, Tail};
use naive::crowded::CrowdedDisk;
use naive::random::{Random, Replay, number_of};

const PROGRAMS: u64 = 200;
/// No event is waited for longer, or it never comes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Schema)]
#[keplordb(id = 3)]
struct Step {
    #[dim]
    user: String,
}

fn open(disk: &CrowdedDisk, sync: Sync, random: &mut Random) -> Store<Step> {
    let config = EngineConfig {
        wal_max_events: *random.pick(&[2, 9, 40, 500_000]),
        wal_shard_count: 1 + random.below(4),
        ..Step::default_config("steps".into())
    };
    let merge_rows = *random.pick(&[0, 30, 32_768]);
    let options = Options::default().disk(Arc::new(disk.clone())).sync(sync).merge_rows(merge_rows);
    Store::open_with(config, options).unwrap()
}

struct Program {
    random: Random,
    disk: CrowdedDisk,
    sync: Sync,
    /// Of a filtered tail.
    user: Option<&'static str>,
    store: Option<Store<Step>>,
    /// Live rows by sequence: user, id, time.
    rows: BTreeMap<u64, (&'static str, String, i64)>,
    /// What gc took before it was given, and no gap has named yet.
    missed: BTreeSet<u64>,
    position: u64,
    serial: u64,
}

impl Program {
    fn run(seed: u64) {
        let _replay = Replay { variable: "KEPLORDB_TAIL_SEED", seed };
        let mut random = Random::new(seed);
        let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
        let sync = *random.pick(&[Sync::Always, Sync::Os, Sync::Every { events: 20, bytes: 1 << 20 }]);
        let user = *random.pick(&[None, None, Some("alice")]);
        let store = Some(open(&disk, sync, &mut random));
        let (rows, missed) = (BTreeMap::new(), BTreeSet::new());
        let mut program = Self { random, disk, sync, user, store, rows, missed, position: 0, serial: 0 };
        for _ in 0..6 {
            program.follow();
            drop(program.store.take());
            program.store = Some(open(&program.disk, sync, &mut program.random));
        }
    }

    /// One run of the engine: steps of a tail that goes on where the last one was.
    fn follow(&mut self) {
        let store = self.store.take().expect("open between the runs");
        let filter = match self.user {
            Some(user) => Step::filter().user(user),
            None => Step::filter(),
        };
        let mut tail = store.tail_of(filter, Start::After(self.position));
        for _ in 0..12 {
            match self.random.below(10) {
                0..5 => self.append(&store),
                5 => _ = store.flush().unwrap(),
                6 => _ = store.compact(Budget::UNLIMITED).unwrap(),
                7 => self.delete(&store),
                8 => self.gc(&store),
                _ => store.sync().unwrap(),
            }
            let steps = self.random.below(40);
            self.step(&mut tail, steps);
        }
        store.sync().unwrap();
        if self.random.percent(80) {
            self.step(&mut tail, usize::MAX);
            assert_eq!(self.next_live(), None, "a row that is on disk was not given");
            assert!(self.missed.is_empty(), "dropped and never said: {:?}", self.missed);
        }
        self.position = tail.position();
        drop(tail);
        self.store = Some(store);
    }

    fn append(&mut self, store: &Store<Step>) {
        let count = *self.random.pick(&[1, 1, 3, 30, 300, 1500]);
        let mixed = self.random.percent(50);
        let mut events = Vec::new();
        let mut rows = Vec::new();
        for _ in 0..count {
            self.serial += 1;
            let user = *self.random.pick(&["alice", "bob", "carol"]);
            let id = format!("id {}", self.serial);
            let late = if mixed { self.random.below(1000) } else { 0 };
            let ts_ns = i64::try_from(self.serial).unwrap() * 10 - i64::try_from(late).unwrap();
            events.push(Step::new(ts_ns).user(user).id(id.as_str()));
            rows.push((user, id, ts_ns));
        }
        let appended = store.append_batch(events).unwrap();
        self.rows.extend((appended.first..).zip(rows));
    }

    fn delete(&mut self, store: &Store<Step>) {
        for _ in 0..self.random.below(5).min(self.rows.len()) {
            let place = self.random.below(self.rows.len());
            let (sequence, id) =
                self.rows.iter().nth(place).map(|(sequence, (_, id, _))| (*sequence, id.clone())).unwrap();
            assert_eq!(store.delete(&[&id]).unwrap(), 1);
            self.rows.remove(&sequence);
        }
    }

    fn gc(&mut self, store: &Store<Step>) {
        let newest = self.rows.values().map(|(_, _, ts_ns)| *ts_ns).max().unwrap_or(0);
        let back = i64::try_from(self.random.below(3000)).unwrap();
        let dropped = store.gc(newest - back).unwrap();
        let mut left = BTreeSet::new();
        store.query(Step::filter()).scan(|row| _ = left.insert(row.sequence())).unwrap();
        let gone: Vec<u64> = self.rows.keys().filter(|sequence| !left.contains(sequence)).copied().collect();
        assert_eq!(dropped.events_deleted, gone.len() as u64);
        for sequence in gone {
            let (user, ..) = self.rows.remove(&sequence).unwrap();
            if sequence > self.position && self.user.is_none_or(|wanted| wanted == user) {
                self.missed.insert(sequence);
            }
        }
    }

    fn next_live(&self) -> Option<u64> {
        let mut next = self.rows.range(self.position + 1..);
        next.find(|(_, (user, ..))| self.user.is_none_or(|wanted| wanted == *user))
            .map(|(sequence, _)| *sequence)
    }

    fn step(&mut self, tail: &mut Tail<'_, Step>, steps: usize) {
        for _ in 0..steps {
            match tail.try_next() {
                Ok(Some(row)) => {
                    // Rows that were read ahead may be given although gc has taken them since.
                    let missed = self.missed.remove(&row.sequence());
                    let expected = self.next_live();
                    assert!(
                        missed || Some(row.sequence()) == expected,
                        "{} given, {expected:?} is next",
                        row.sequence()
                    );
                    assert!(row.sequence() > self.position);
                    self.position = row.sequence();
                }
                Ok(None) => {
                    let all_count = !matches!(self.sync, Sync::Every { .. });
                    assert!(
                        !all_count || self.next_live().is_none(),
                        "nothing given, {:?} is next",
                        self.next_live()
                    );
                    break;
                }
                Err(DbError::Gap { first, last, events }) => {
                    assert!(first <= last && events > 0 && last > self.position);
                    self.missed.retain(|sequence| !(first..=last).contains(sequence));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(tail.position() >= self.position);
        }
    }
}

#[test]
fn a_tail_gives_what_the_list_says_over_restarts_and_gc() {
    if let Some(seed) = number_of("KEPLORDB_TAIL_SEED") {
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

#[test]
fn a_tail_misses_and_doubles_nothing_while_threads_append() {
    const WRITERS: u64 = 3;
    const BATCHES: u64 = 200;
    for sync in [Sync::Always, Sync::Os, Sync::Every { events: 50, bytes: 1 << 20 }] {
        let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
        let config =
            EngineConfig { wal_max_events: 150, wal_shard_count: 4, ..Step::default_config("steps".into()) };
        let options = Options::default().disk(Arc::new(disk.clone())).sync(sync);
        let store = Store::<Step>::open_with(config, options).unwrap();
        disk.set_crowded(true);
        let (appended, done) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
        let mut given = Vec::new();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, appended, done) = (&store, &appended, &done);
                scope.spawn(move || {
                    let mut random = Random::new(writer);
                    for _ in 0..BATCHES {
                        let rows = 1 + random.below(3);
                        let ts_ns = i64::try_from(random.below(1000)).unwrap();
                        let numbers =
                            store.append_batch((0..rows).map(|_| Step::new(ts_ns).user("u"))).unwrap();
                        appended.lock().unwrap().extend(numbers.first..=numbers.last);
                    }
                    if done.fetch_add(1, Ordering::SeqCst) + 1 == WRITERS {
                        store.sync().unwrap();
                    }
                });
            }
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while done.load(Ordering::SeqCst) < WRITERS {
                    store.flush().unwrap();
                    store.compact(Budget::rows(500)).unwrap();
                }
            });
            let mut tail = store.tail(Start::Beginning);
            let mut turn = 0;
            loop {
                let ended = done.load(Ordering::SeqCst) == WRITERS;
                let wait = if ended { Duration::from_millis(300) } else { Duration::from_millis(20) };
                let rows = if turn % 2 == 0 {
                    tail.next_timeout(wait).unwrap().into_iter().collect()
                } else {
                    tail.next_batch(7, wait).unwrap()
                };
                turn += 1;
                given.extend(rows.iter().map(StepRow::sequence));
                if rows.is_empty() && ended {
                    break;
                }
                if turn % 50 == 0 {
                    // As after a restart of the program that follows.
                    tail = store.tail(Start::After(tail.position()));
                }
            }
        });
        assert!(given.is_sorted_by(|a, b| a < b), "doubled or out of order with {sync:?}");
        let given: BTreeSet<u64> = given.into_iter().collect();
        let appended = appended.into_inner().unwrap();
        assert_eq!(appended.difference(&given).next(), None, "missed with {sync:?}");
        assert_eq!(appended.len(), given.len());
    }
}

#[test]
fn an_event_is_given_when_it_is_on_disk_and_not_before() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let mut random = Random::new(1);
    let store = open(&disk, Sync::Every { events: 1000, bytes: 1 << 30 }, &mut random);
    let mut tail = store.tail(Start::Beginning);
    store.append(Step::new(1).user("alice")).unwrap();
    assert!(tail.try_next().unwrap().is_none(), "given before it was synced");
    assert!(tail.next_timeout(Duration::from_millis(5)).unwrap().is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            store.sync().unwrap();
        });
        let begun = Instant::now();
        assert_eq!(tail.next_timeout(PATIENCE).unwrap().unwrap().user(), "alice");
        assert!(begun.elapsed() < PATIENCE / 2, "not woken by the sync");
    });
    let mut now = store.tail(Start::Now);
    let durable = store.append_durable(Step::new(2).user("bob")).unwrap();
    assert_eq!(now.try_next().unwrap().unwrap().sequence(), durable.first);
    assert_eq!(now.position(), durable.first);
    assert_eq!(tail.try_iter().map(|row| row.unwrap().sequence()).collect::<Vec<_>>(), [durable.first]);
}

#[test]
fn what_gc_took_is_said_once_also_after_a_restart() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let mut random = Random::new(1);
    let store = open(&disk, Sync::Os, &mut random);
    let first = store.append_batch((0..5).map(|ts_ns| Step::new(ts_ns).user("old"))).unwrap();
    store.flush().unwrap();
    let mut tail = store.tail(Start::Beginning);
    assert_eq!(tail.try_next().unwrap().unwrap().sequence(), first.first);
    let position = tail.position();
    drop(tail);
    assert_eq!(store.gc(100).unwrap().events_deleted, 5);
    let new = store.append(Step::new(200).user("new")).unwrap();
    let gaps = |gaps: Vec<Gap>| gaps.iter().map(|gap| (gap.first, gap.last, gap.events)).collect::<Vec<_>>();
    assert_eq!(gaps(store.gaps()), [(first.first, first.last, 5)]);
    let options = Options::default().disk(Arc::new(disk.clone()));
    let reader = Reader::<Step>::open_with(Step::default_config("steps".into()), options).unwrap();
    assert_eq!(gaps(reader.gaps()), gaps(store.gaps()));
    drop(store);

    let store = open(&disk, Sync::Os, &mut random);
    let mut tail = store.tail(Start::After(position));
    let error = tail.try_next().unwrap_err();
    assert!(
        matches!(error, DbError::Gap { first: from, last, events: 5 } if from == first.first + 1 && last == first.last),
        "{error}"
    );
    assert_eq!(tail.try_next().unwrap().unwrap().sequence(), new.first);
    assert!(tail.try_next().unwrap().is_none());
    // Who begins with what is there has missed nothing.
    let all: Vec<u64> = store.tail(Start::Beginning).try_iter().map(|row| row.unwrap().sequence()).collect();
    assert_eq!(all, [new.first]);
}

#[test]
fn a_batch_before_a_gap_is_not_lost() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let mut random = Random::new(1);
    let store = open(&disk, Sync::Os, &mut random);
    let append = |ts_ns| store.append_batch((0..3).map(|_| Step::new(ts_ns).user("u"))).unwrap();
    let first = append(0);
    let mut tail = store.tail(Start::Beginning);
    assert_eq!(tail.try_next().unwrap().unwrap().sequence(), first.first);
    let dropped = append(1);
    store.flush().unwrap();
    assert_eq!(store.gc(100).unwrap().events_deleted, 6);
    let last = append(200);
    let sequences = |rows: Vec<StepRow>| rows.iter().map(StepRow::sequence).collect::<Vec<_>>();
    // Two rows had been read ahead.
    assert_eq!(sequences(tail.next_batch(9, PATIENCE).unwrap()), [first.first + 1, first.last]);
    let error = tail.next_batch(9, PATIENCE).unwrap_err();
    assert!(matches!(error, DbError::Gap { last, .. } if last == dropped.last), "{error}");
    let rows: Vec<u64> = (last.first..=last.last).collect();
    assert_eq!(sequences(tail.next_batch(9, PATIENCE).unwrap()), rows);
    assert!(tail.next_batch(9, Duration::ZERO).unwrap().is_empty());
}
