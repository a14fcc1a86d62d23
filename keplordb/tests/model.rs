//! The engine against the oracle of `naive/`: random programs of appends, batches, durable forms, flushes, deletes, gc,
//! compactions, maintenance, checkpoints and reopens (closed, dropped, or killed on the simulated disk, with the manifest or
//! without), and all kinds of queries after every step.
//! Values are drawn to collide: few users, equal times, extreme times and measures, empty and doubled ids.
//! The same file holds the metamorphic test: one history under many options gives equal answers.
//!
//! `KEPLORDB_MODEL_PROGRAMS` sets how many programs run (500 unless given), `KEPLORDB_MODEL_SEED` repeats one of them.
//! Which kernels work is decided once a process: CI runs this file a second time with `KEPLORDB_KERNELS=scalar`.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::time::Duration;

use keplordb::disk::{Disk, MemoryDisk, RealDisk, SimDisk};
use keplordb::{
    Budget, Cursor, Engine, EngineConfig, EventFlags, EventRef, LogEvent, MapMode, Options, QueryFilter,
    RollupKey, RollupValue, Sync, Totals,
};
use naive::crowded::CrowdedDisk;
use naive::files::files_of;
use naive::random::{Random, Replay, number_of};
use naive::{Naive, assert_rows};

const DIMS: usize = 3;
const COUNTERS: usize = 2;
const LABELS: usize = 2;
type Db = Engine<DIMS, COUNTERS, LABELS>;
type Event = LogEvent<DIMS, COUNTERS, LABELS>;
type Row = EventRef<DIMS, COUNTERS, LABELS>;
type Filter = QueryFilter<DIMS>;

const PROGRAMS: u64 = 500;
const STEPS: usize = 40;
const REOPENS: usize = 3;
const DAY_NS: i64 = 86_400_000_000_000;
const SEQUENCE_OF_A_FRESH_TABLE: u64 = 1;

#[test]
fn random_programs_answer_as_the_oracle_does() {
    if let Some(seed) = number_of("KEPLORDB_MODEL_SEED") {
        return Program::run(seed);
    }
    let programs = number_of("KEPLORDB_MODEL_PROGRAMS").unwrap_or(PROGRAMS);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= programs {
                        break;
                    }
                    Program::run(seed);
                }
            });
        }
    });
}

/// Where values of events and filters come from; a program draws its own mixture.
#[derive(Debug, Clone)]
struct Values {
    /// Of 100 times: how many are extreme, how many lie on a few days of 2023; the others are within a few nanoseconds.
    extreme_times: usize,
    spread_times: usize,
    /// Of 100 values of the first dim: how many are new.
    new_users: usize,
    /// Of 100 ids: how many are new.
    new_ids: usize,
    serial: u64,
}

const EXTREME_TIMES: [i64; 9] =
    [i64::MIN, i64::MIN + 1, -DAY_NS, -1, 0, 1, DAY_NS - 1, i64::MAX - 1, i64::MAX];
const USERS: [&str; 6] = ["", "a", "alice", "bob", "Ωmega", "user-\u{1F980}"];
const MODELS: [&str; 3] = ["gpt", "opus", ""];
const IDS: [&str; 8] = ["", "x", "x1", "x2", "é", "call-0001", "call-0002", "\u{1F980}"];
const STATUSES: [u16; 7] = [0, 1, 200, 404, 499, 500, u16::MAX];
const METRICS: [i64; 8] = [0, 1, -1, 7, 1000, -1_000_000, i64::MAX, i64::MIN];
const SMALL: [u32; 6] = [0, 1, 2, 255, 65_536, u32::MAX];

impl Values {
    fn new(random: &mut Random) -> Self {
        Self {
            extreme_times: *random.pick(&[0, 0, 5, 60]),
            spread_times: *random.pick(&[0, 50, 100]),
            new_users: *random.pick(&[0, 0, 10, 100]),
            new_ids: *random.pick(&[0, 50, 100]),
            serial: 0,
        }
    }

    fn time(&self, random: &mut Random) -> i64 {
        if random.percent(self.extreme_times) {
            *random.pick(&EXTREME_TIMES)
        } else if random.percent(self.spread_times) {
            1_700_000_000_000_000_000 + random.below(400_000) as i64 * 1_000_000_000
        } else {
            1_700_000_000_000_000_000 + random.below(12) as i64
        }
    }

    fn event(&mut self, random: &mut Random) -> Event {
        self.serial += 1;
        let user = if random.percent(self.new_users) {
            format!("user {}", self.serial)
        } else {
            (*random.pick(&USERS)).to_owned()
        };
        let id = if random.percent(self.new_ids) {
            format!("{:016x}-{}", random.next(), self.serial)
        } else {
            (*random.pick(&IDS)).to_owned()
        };
        let text = match random.below(8) {
            0 => String::new(),
            1 => "a sentence that comes again and again, as prompts do. ".repeat(1 + random.below(12)),
            2 => {
                (0..random.below(40)).map(|_| char::from_u32(random.below(0xd7ff) as u32).unwrap()).collect()
            }
            _ => format!("trace {:08x}", self.serial),
        };
        Event {
            id,
            ts_ns: self.time(random),
            metric: *random.pick(&METRICS),
            counters: [*random.pick(&SMALL), random.below(1000) as u32],
            latency_ms: *random.pick(&SMALL),
            latency_detail_ms: random.below(300) as u32,
            status: *random.pick(&STATUSES),
            flags: EventFlags(random.next() as u16),
            dims: [user, (*random.pick(&MODELS)).to_owned(), random.below(40).to_string()],
            labels: [text, format!("{}", random.below(3))],
        }
    }

    fn batch(&mut self, random: &mut Random, rows: usize) -> Vec<Event> {
        (0..rows).map(|_| self.event(random)).collect()
    }

    /// A filter that matches some rows of the table, more often than not.
    fn filter(random: &mut Random, naive: &Naive<DIMS, COUNTERS, LABELS>) -> Filter {
        let mut filter = Filter::default();
        let known = (naive.len() > 0).then(|| naive.events().nth(random.below(naive.len())).unwrap());
        for dim in 0..DIMS {
            filter.dims[dim] = match (random.below(10), known) {
                (0..3, Some(known)) => Some(known.dims[dim].clone()),
                (3, _) => Some((*random.pick(&USERS)).to_owned()),
                (4, _) if random.percent(30) => Some("nobody".to_owned()),
                _ => None,
            };
        }
        let time = |random: &mut Random| {
            let near = random.below(3) as i64 - 1;
            match random.below(6) {
                0 => Some(*random.pick(&EXTREME_TIMES)),
                1 | 2 if naive.len() > 0 => {
                    let event = naive.events().nth(random.below(naive.len())).unwrap();
                    Some(event.ts_ns.saturating_add(near))
                }
                _ => None,
            }
        };
        filter.from_ts_ns = time(random);
        filter.to_ts_ns = time(random);
        if random.percent(20) {
            filter.cursor = time(random).map(Cursor);
        }
        if random.percent(25) {
            filter.status_min = Some(*random.pick(&STATUSES));
        }
        if random.percent(25) {
            filter.status_max = Some(*random.pick(&STATUSES));
        }
        filter
    }
}

/// What an engine is opened with, besides its directory.
#[derive(Debug, Clone)]
struct Settings {
    wal_max_events: u32,
    memtable_bytes: usize,
    shards: usize,
    rollup_dims: Vec<usize>,
    bloom_dim: usize,
    mmap_cache_capacity: usize,
    map_mode: MapMode,
    sync: Sync,
    unlink_grace: Duration,
    merge_rows: u64,
    pool: bool,
}

/// One pool for all programs: threads are not what is tested.
static POOL: LazyLock<Arc<rayon::ThreadPool>> =
    LazyLock::new(|| Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()));

impl Settings {
    fn draw(random: &mut Random) -> Self {
        let mut rollup_dims = vec![0, 1, 2];
        for place in (1..rollup_dims.len()).rev() {
            rollup_dims.swap(place, random.below(place + 1));
        }
        rollup_dims.truncate(random.below(DIMS + 1));
        Self {
            wal_max_events: *random.pick(&[1, 2, 7, 20, 60, 500_000, 500_000, 500_000]),
            memtable_bytes: *random.pick(&[1, 20_000, 64 << 20, 64 << 20, 64 << 20, 64 << 20]),
            shards: 1 + random.below(8),
            rollup_dims,
            bloom_dim: random.below(DIMS + 1),
            mmap_cache_capacity: *random.pick(&[1, 2, 256]),
            map_mode: *random.pick(&[MapMode::Map, MapMode::Read]),
            sync: *random.pick(&[Sync::Always, Sync::Os, Sync::Every { events: 3, bytes: 1000 }]),
            unlink_grace: *random.pick(&[Duration::ZERO, Duration::from_secs(60)]),
            merge_rows: *random.pick(&[0, 2, 30, 32_768, 32_768]),
            pool: random.percent(10),
        }
    }

    /// Whether only a flush makes segments.
    fn never_rotates(&self) -> bool {
        self.wal_max_events == 500_000 && self.memtable_bytes == 64 << 20
    }

    fn open(&self, disk: &CrowdedDisk, dir: PathBuf) -> Db {
        let config = EngineConfig {
            data_dir: dir,
            wal_max_events: self.wal_max_events,
            schema_id: 9,
            bloom_dim: self.bloom_dim,
            rollup_dims: self.rollup_dims.clone(),
            mmap_cache_capacity: self.mmap_cache_capacity,
            wal_shard_count: self.shards,
            ..EngineConfig::default()
        };
        let mut options = Options::default()
            .disk(Arc::new(disk.clone()))
            .memtable_bytes(self.memtable_bytes)
            .map_mode(self.map_mode)
            .sync(self.sync)
            .unlink_grace(self.unlink_grace)
            .merge_rows(self.merge_rows);
        if self.pool {
            options = options.pool(Arc::clone(&POOL));
        }
        Db::open_with(config, options).unwrap_or_else(|error| panic!("open: {error}"))
    }
}

/// One random program under way.
struct Program {
    random: Random,
    values: Values,
    disk: CrowdedDisk,
    /// The disk under `disk`, where a process can be killed on it.
    sim: Option<SimDisk>,
    dir: PathBuf,
    settings: Settings,
    /// `None` only between two opens.
    db: Option<Db>,
    naive: Naive<DIMS, COUNTERS, LABELS>,
    /// Rows appended since the last flush, deleted ones too; known while nothing else makes segments.
    unsealed_rows: Option<u32>,
    next_sequence: u64,
    /// The newest time that was ever appended: a segment whose newest row is deleted still counts as that new.
    newest_ns: i64,
    checkpoints: usize,
    /// What happened, for the message of a failure.
    step: String,
}

impl Program {
    fn run(seed: u64) {
        let _replay = Replay { variable: "KEPLORDB_MODEL_SEED", seed };
        let mut random = Random::new(seed);
        let temporary = tempfile::tempdir().unwrap();
        let (disk, sim, dir): (Arc<dyn Disk>, _, _) = match random.below(20) {
            0 => (Arc::new(RealDisk), None, temporary.path().join("events")),
            1..6 => {
                let sim = SimDisk::default();
                (Arc::new(sim.clone()), Some(sim), PathBuf::from("events"))
            }
            _ => (Arc::new(MemoryDisk::default()), None, PathBuf::from("deep/down/events")),
        };
        let disk = CrowdedDisk::new(disk);
        let settings = Settings::draw(&mut random);
        let values = Values::new(&mut random);
        let db = Some(settings.open(&disk, dir.clone()));
        let mut program = Self {
            random,
            values,
            disk,
            sim,
            dir,
            settings,
            db,
            naive: Naive::default(),
            unsealed_rows: Some(0),
            next_sequence: SEQUENCE_OF_A_FRESH_TABLE,
            newest_ns: i64::MIN,
            checkpoints: 0,
            step: "open".to_owned(),
        };
        program.check();
        let steps = STEPS + program.random.below(20);
        let reopen_every = steps / (REOPENS + 1);
        for step in 1..=steps {
            if step % reopen_every == 0 {
                program.reopen();
            } else {
                program.step();
            }
            program.step.insert_str(0, &format!("step {step} of seed {seed}: "));
            program.check();
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between the steps")
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.append(1),
            20..42 => {
                let rows = 1 + self.random.below(9);
                self.append(rows);
            }
            42..45 => {
                let rows = *self.random.pick(&[255, 256, 257, 600]);
                self.append(rows);
            }
            45..46 => self.append(0),
            46..56 => self.append_at_once(),
            56..66 => self.flush(),
            66..80 => self.delete(),
            80..86 => self.gc(),
            86..88 => self.checkpoint(),
            88..92 => self.upkeep(),
            92..93 => {
                "sync".clone_into(&mut self.step);
                self.db().sync().unwrap();
            }
            _ => self.reopen(),
        }
    }

    fn append(&mut self, rows: usize) {
        let batch = self.values.batch(&mut self.random, rows);
        let durable = self.random.percent(20);
        self.step = format!("append {rows} events, durable: {durable}");
        let db = self.db();
        let appended = match (&batch[..], durable) {
            ([event], false) => db.append(event),
            ([event], true) => db.append_durable(event),
            (batch, false) => db.append_batch(batch),
            (batch, true) => db.append_batch_durable(batch),
        };
        let appended = appended.unwrap_or_else(|error| panic!("{}: {error}", self.step));
        assert_eq!(appended.last + 1 - appended.first, rows as u64, "{}", self.step);
        self.appended(appended.first, &batch);
    }

    fn appended(&mut self, first: u64, batch: &[Event]) {
        assert!(first >= self.next_sequence, "{}: sequence {first} was given before", self.step);
        self.naive.append(first, batch);
        self.newest_ns = batch.iter().map(|event| event.ts_ns).fold(self.newest_ns, i64::max);
        self.unsealed_rows = self.unsealed_rows.filter(|_| self.settings.never_rotates());
        self.unsealed_rows = self.unsealed_rows.map(|rows| rows + batch.len() as u32);
        if !batch.is_empty() {
            self.next_sequence = first + batch.len() as u64;
        }
    }

    /// Several threads append while a write takes long, so that rows spread over shards.
    fn append_at_once(&mut self) {
        let threads = 2 + self.random.below(3);
        let batches: Vec<Vec<Vec<Event>>> = (0..threads)
            .map(|_| {
                let batches = 1 + self.random.below(3);
                (0..batches)
                    .map(|_| {
                        let rows = 1 + self.random.below(5);
                        self.values.batch(&mut self.random, rows)
                    })
                    .collect()
            })
            .collect();
        self.step = format!("{threads} threads append at once");
        self.disk.set_crowded(true);
        let barrier = Barrier::new(threads);
        let (db, barrier) = (self.db(), &barrier);
        let mut appended: Vec<(u64, &Vec<Event>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = batches
                .iter()
                .map(|batches| {
                    scope.spawn(move || {
                        barrier.wait();
                        let mut appended = Vec::new();
                        for batch in batches {
                            appended.push((db.append_batch(batch).unwrap().first, batch));
                        }
                        assert!(
                            appended.is_sorted_by_key(|(first, _)| *first),
                            "a thread's sequences increase"
                        );
                        appended
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        self.disk.set_crowded(false);
        appended.sort_by_key(|(first, _)| *first);
        for (first, batch) in appended {
            self.appended(first, batch);
        }
    }

    fn flush(&mut self) {
        "flush".clone_into(&mut self.step);
        self.db().flush().unwrap_or_else(|error| panic!("flush: {error}"));
        assert_eq!(self.db().wal_count(), 0, "rows in logs after a flush");
        self.unsealed_rows = Some(0);
    }

    fn delete(&mut self) {
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..=self.random.below(4) {
            let known = self.naive.len() > 0 && self.random.percent(60);
            ids.push(if known {
                self.naive.events().nth(self.random.below(self.naive.len())).unwrap().id.clone()
            } else {
                (*self.random.pick(&IDS)).to_owned()
            });
        }
        self.step = format!("delete {ids:?}");
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let expected = self.naive.delete(&ids);
        let found = match &ids[..] {
            [id] => usize::from(self.db().delete_event(id).unwrap()),
            ids => self.db().delete_events(ids).unwrap(),
        };
        assert_eq!(found, expected, "{}", self.step);
        assert_eq!(self.db().delete_events(&ids).unwrap(), 0, "{}: a second time", self.step);
    }

    /// Deletes by age. Exact where nothing or everything is old enough; else the oracle takes over what is left.
    fn gc(&mut self) {
        let oldest = self.naive.events().next_back().map(|event| event.ts_ns);
        let flushed = self.random.percent(50);
        if flushed {
            self.flush();
        }
        let cutoff = match (self.random.below(3), oldest) {
            (0, _) => self.newest_ns.saturating_add(1),
            (1, Some(oldest)) => oldest,
            (_, Some(_)) => self.naive.events().nth(self.random.below(self.naive.len())).unwrap().ts_ns,
            (_, None) => self.values.time(&mut self.random),
        };
        self.step = format!("gc {cutoff}");
        let stats = self.db().gc(cutoff).unwrap();
        let left = self.db().query_recent(&Filter::default(), usize::MAX).unwrap();
        let rows = self.naive.len();
        let dropped = self.naive.keep_what_gc_left(&left, cutoff);
        assert_eq!(stats.events_deleted, dropped as u64, "{}", self.step);
        if flushed && self.newest_ns < cutoff {
            assert_eq!(dropped, rows, "{}: every row is old and in a segment", self.step);
        }
        if dropped > 0 {
            assert!(stats.segments_deleted > 0 && stats.bytes_freed > 0, "{}: {stats:?}", self.step);
        }
    }

    /// Whatever compaction does, no answer changes.
    fn upkeep(&mut self) {
        let budget = *self.random.pick(&[Budget::UNLIMITED, Budget::UNLIMITED, Budget::rows(20)]);
        let segments = self.db().segment_count();
        if self.random.percent(50) {
            self.step = format!("compact {budget:?}");
            let done = self.db().compact(budget).unwrap_or_else(|error| panic!("{}: {error}", self.step));
            assert!(budget == Budget::UNLIMITED || done.rows_written <= 20, "{}: {done:?}", self.step);
            assert!(budget != Budget::UNLIMITED || done.rows_left == 0, "{}: {done:?}", self.step);
            let left = segments as u64 + done.segments_written - done.segments_replaced;
            assert_eq!(self.db().segment_count() as u64, left, "{}: {done:?}", self.step);
        } else {
            self.step = format!("maintain {budget:?}");
            self.db().maintain(budget).unwrap_or_else(|error| panic!("{}: {error}", self.step));
            // Logs that were found sealed are in segments now.
            self.unsealed_rows = None;
        }
    }

    /// The copy is opened as a table of its own and answers the same.
    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        let target = self.dir.with_file_name(format!("copy-{}", self.checkpoints));
        self.step = format!("checkpoint {}", target.display());
        self.db().checkpoint(&target).unwrap_or_else(|error| panic!("{}: {error}", self.step));
        let copy = Settings::draw(&mut self.random).open(&self.disk, target);
        let rows = copy.query_recent(&Filter::default(), usize::MAX).unwrap();
        let expected: Vec<&Event> = self.naive.events().collect();
        assert_rows(&rows, &expected, &self.step);
        assert_eq!(copy.wal_count(), 0, "{}: a checkpoint holds segments only", self.step);
    }

    fn reopen(&mut self) {
        let settings = Settings::draw(&mut self.random);
        let db = self.db.take().expect("open between the steps");
        let mut without_manifest = false;
        match (self.random.below(3), &self.sim) {
            (0, Some(sim)) => {
                let killed = sim.kill();
                // What gc dropped comes back without a manifest as long as its files are in their grace. Without a file of
                // rows there is nothing to tell the columns by.
                let holds_rows = files_of(&killed, &self.dir).keys().any(|path| {
                    path.extension().is_some_and(|extension| extension == "kseg" || extension == "kwal")
                });
                without_manifest =
                    holds_rows && self.settings.unlink_grace.is_zero() && self.random.percent(50);
                if without_manifest {
                    killed.remove(&self.dir.join("MANIFEST")).unwrap();
                }
                self.step = format!("kill and open with {settings:?}, without manifest: {without_manifest}");
                self.disk = CrowdedDisk::new(Arc::new(killed.clone()));
                self.sim = Some(killed);
                drop(db);
            }
            (1, _) => {
                self.step = format!("close and open with {settings:?}");
                db.close().unwrap();
            }
            _ => {
                self.step = format!("drop and open with {settings:?}");
                drop(db);
            }
        }
        self.settings = settings;
        let db = self.settings.open(&self.disk, self.dir.clone());
        let report = db.open_report();
        assert!(!report.created && report.torn_tails.is_empty(), "{}: {report:?}", self.step);
        assert_eq!(report.manifest_rebuilt.is_some(), without_manifest, "{}", self.step);
        self.db = Some(db);
    }

    fn check(&mut self) {
        let step = self.step.clone();
        let what = |query: String| format!("{query} after {step}");
        let rows = self.naive.len();
        assert_eq!(self.db().total_events(), rows as u64, "{}", what("total_events".into()));
        if let Some(unsealed_rows) = self.unsealed_rows {
            assert_eq!(self.db().wal_count(), unsealed_rows, "{}", what("wal_count".into()));
        }
        self.check_filter(&Filter::default(), usize::MAX, &what);
        for _ in 0..3 {
            let filter = Values::filter(&mut self.random, &self.naive);
            let limit = *self.random.pick(&[0, 1, 2, 7, 100, usize::MAX]);
            self.check_filter(&filter, limit, &what);
        }
        self.check_pages(&what);
        self.check_ids(&what);
        self.check_rollups(&what);
    }

    fn check_filter(&self, filter: &Filter, limit: usize, what: &dyn Fn(String) -> String) {
        let totals = self.db().aggregate(filter).unwrap();
        assert_eq!(totals, self.naive.aggregate(filter), "{}", what(format!("aggregate {filter:?}")));
        let rows = self.db().query_recent(filter, limit).unwrap();
        let expected = self.naive.recent(filter, limit);
        assert_rows(&rows, &expected, &what(format!("query_recent {filter:?}, {limit}")));
    }

    /// Goes through the table by cursor, as a caller who wants all of it does. (Rows of one time that a page cuts in two
    /// are lost to such a caller: the cursor is strictly below. The oracle loses the same.)
    fn check_pages(&mut self, what: &dyn Fn(String) -> String) {
        let mut filter = Values::filter(&mut self.random, &self.naive);
        let page_rows = 1 + self.random.below(20);
        for _ in 0..3 {
            let page = self.db().query_recent(&filter, page_rows).unwrap();
            let expected = self.naive.recent(&filter, page_rows);
            assert_rows(&page, &expected, &what(format!("page {filter:?}, {page_rows}")));
            let Some(last) = page.last() else { break };
            filter.cursor = Some(Cursor(last.ts_ns));
        }
    }

    fn check_ids(&mut self, what: &dyn Fn(String) -> String) {
        let mut ids: Vec<String> = vec!["no such id".to_owned(), (*self.random.pick(&IDS)).to_owned()];
        for _ in 0..self.naive.len().min(2) {
            ids.push(self.naive.events().nth(self.random.below(self.naive.len())).unwrap().id.clone());
        }
        for id in ids {
            let found = self.db().get_event(&id).unwrap();
            let expected = self.naive.get(&id);
            assert_rows(found.as_slice(), expected.as_slice(), &what(format!("get_event {id:?}")));
        }
    }

    fn check_rollups(&mut self, what: &dyn Fn(String) -> String) {
        let dims = self.settings.rollup_dims.clone();
        let day = |random: &mut Random, values: &Values| {
            values.time(random).div_euclid(DAY_NS) * (DAY_NS / 1_000_000_000)
        };
        let range = match self.random.below(3) {
            0 => (i64::MIN, i64::MAX),
            1 => {
                let day = day(&mut self.random, &self.values);
                (day, day)
            }
            _ => (day(&mut self.random, &self.values), day(&mut self.random, &self.values).saturating_add(1)),
        };
        let known = (self.naive.len() > 0)
            .then(|| self.naive.events().nth(self.random.below(self.naive.len())).unwrap().dims.clone());
        let mut wanted: Vec<Option<String>> = Vec::new();
        for dim in &dims {
            let fixed = self.random.percent(40);
            wanted.push(known.as_ref().filter(|_| fixed).map(|known| known[*dim].clone()));
        }
        for wanted in [Vec::new(), wanted] {
            let wanted: Vec<Option<&str>> = wanted.iter().map(Option::as_deref).collect();
            let rollups = self.db().query_rollups(range.0, range.1, &wanted).unwrap();
            let expected = self.naive.rollups(&dims, range.0, range.1, &wanted);
            assert_eq!(
                rollups,
                expected,
                "{}",
                what(format!("query_rollups {range:?} {wanted:?} of {dims:?}"))
            );
        }
    }
}

/// What is asked of each engine of the metamorphic test.
#[derive(Debug, PartialEq)]
struct Answers {
    rows: Vec<Vec<Row>>,
    totals: Vec<Totals<COUNTERS>>,
    by_id: Vec<Option<Row>>,
    rollups: Vec<(RollupKey, RollupValue<COUNTERS>)>,
    events: u64,
}

/// A step of the common history.
enum Step {
    /// Batches that four threads append at the same time, so that every shard gets some.
    Append(Vec<Vec<Event>>),
    Delete(Vec<String>),
    Flush,
}

/// Times are unique, so which thread was first decides nothing.
fn history(random: &mut Random) -> Vec<Step> {
    let mut values = Values { extreme_times: 0, spread_times: 100, new_users: 20, new_ids: 90, serial: 0 };
    let mut ids = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..24 {
        let batches = (0..4)
            .map(|_| {
                let rows = 1 + random.below(9);
                let mut batch = values.batch(random, rows);
                for event in &mut batch {
                    let day = random.pick(&[-DAY_NS, 0, DAY_NS, 700 * DAY_NS, i64::MAX - 10_000]);
                    event.ts_ns = day + ids.len() as i64;
                    ids.push(event.id.clone());
                }
                batch
            })
            .collect();
        steps.push(Step::Append(batches));
        match random.below(4) {
            0 => steps.push(Step::Flush),
            1 => steps.push(Step::Delete((0..3).map(|_| random.pick(&ids).clone()).collect())),
            _ => {}
        }
    }
    steps
}

/// Lives through the history, with a reopen after so many of 100 steps.
fn live(settings: &Settings, steps: &[Step], reopens: usize, random: &mut Random) -> Db {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let dir = PathBuf::from("events");
    let mut db = settings.open(&disk, dir.clone());
    disk.set_crowded(true);
    for step in steps {
        match step {
            Step::Append(batches) => std::thread::scope(|scope| {
                for batch in batches {
                    scope.spawn(|| db.append_batch(batch).unwrap());
                }
            }),
            Step::Delete(ids) => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                db.delete_events(&ids).unwrap();
            }
            Step::Flush => {
                db.flush().unwrap();
            }
        }
        if random.percent(reopens) {
            drop(db);
            db = settings.open(&disk, dir.clone());
        }
    }
    db
}

fn ask(db: &Db, filters: &[Filter], ids: &[String]) -> Answers {
    Answers {
        rows: filters.iter().map(|filter| db.query_recent(filter, 50).unwrap()).collect(),
        totals: filters.iter().map(|filter| db.aggregate(filter).unwrap()).collect(),
        by_id: ids.iter().map(|id| db.get_event(id).unwrap()).collect(),
        rollups: db.query_rollups(i64::MIN, i64::MAX, &[]).unwrap(),
        events: db.total_events(),
    }
}

#[test]
fn one_history_under_many_options_gives_equal_answers() {
    for seed in 0..3 {
        let _replay = Replay { variable: "the seed in this test", seed };
        let mut random = Random::new(seed);
        let steps = history(&mut random);
        let mut naive = Naive::default();
        for step in &steps {
            match step {
                Step::Append(batches) => batches.iter().for_each(|batch| naive.append(0, batch)),
                Step::Delete(ids) => {
                    naive.delete(&ids.iter().map(String::as_str).collect::<Vec<_>>());
                }
                Step::Flush => {}
            }
        }
        let mut filters: Vec<Filter> = (0..30).map(|_| Values::filter(&mut random, &naive)).collect();
        filters.push(Filter::default());
        let mut ids: Vec<String> = naive.events().take(30).map(|event| event.id.clone()).collect();
        ids.push("no such id".to_owned());

        let mut first: Option<(String, Answers)> = None;
        for shards in [1, 4, 64] {
            for wal_max_events in [1, 7, 100_000] {
                for reopens in [0, 40] {
                    let mut settings = Settings::draw(&mut random);
                    (settings.shards, settings.wal_max_events) = (shards, wal_max_events);
                    settings.rollup_dims = vec![1, 0];
                    let db = live(&settings, &steps, reopens, &mut random);
                    let answers = ask(&db, &filters, &ids);
                    let name =
                        format!("{shards} shards, rotation after {wal_max_events}, {reopens} % reopens");
                    assert_eq!(answers.totals.last(), Some(&naive.aggregate(&Filter::default())), "{name}");
                    match &first {
                        None => first = Some((name, answers)),
                        Some((other, expected)) => {
                            assert!(
                                answers == *expected,
                                "{name} and {other} differ:\n{answers:#?}\n{expected:#?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
