//! Rows in all their forms: owned, borrowed, projected, and raw, by random tables and queries. They must be those of a plain
//! list, and equal to each other value by value: over segments and memory, with deletes, columns younger than rows, empty
//! texts, long labels (compressed blocks), ids that pack and ids that do not, and texts in many scripts.
//!
//! `KEPLORDB_ROWS_SEED` repeats one table.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use keplordb::disk::MemoryDisk;
use keplordb::{DbError, EngineConfig, EventFlags, EventRef, Options, QueryFilter, RawReader, Schema, Store};
use naive::files::{disk_of, files_of};
use naive::random::{Random, Replay, number_of};

/// As the table was when the first rows came.
mod young {
    use super::Schema;

    #[derive(Schema)]
    #[keplordb(id = 1)]
    pub(crate) struct Call {
        #[dim]
        pub(crate) user: String,
        #[counter]
        pub(crate) tokens: u32,
    }
}

/// As it is now.
#[derive(Debug, Clone, PartialEq, Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim]
    user: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[counter]
    retries: u32,
    #[label]
    prompt: String,
    #[label(index)]
    trace: String,
}

type Raw = EventRef<2, 2, 2>;

const TABLES: u64 = 40;
const USERS: [&str; 5] = ["", "alice", "bob", "Ωmega", "user-\u{1F980}"];

fn options(disk: &Arc<MemoryDisk>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<_>)
}

fn config<S: Schema>() -> EngineConfig {
    EngineConfig { wal_shard_count: 1, ..S::default_config("calls".into()) }
}

fn text(random: &mut Random, serial: u64) -> String {
    match random.below(7) {
        0 => String::new(),
        1 | 2 => format!("{:016x}", random.next()),
        3 => "a sentence that comes again and again, as prompts do. ".repeat(1 + random.below(40)),
        4 => "größer, 日本語, \u{1F980}; ".repeat(random.below(30)),
        5 => format!("{serial}"),
        _ => "same".to_owned(),
    }
}

/// A table and the rows that must be in it, oldest first; no two have the same time.
struct Table {
    disk: Arc<MemoryDisk>,
    store: Store<Call>,
    rows: Vec<Raw>,
}

impl Table {
    fn random(random: &mut Random) -> Self {
        let disk = Arc::new(MemoryDisk::default());
        let mut rows: Vec<Raw> = Vec::new();
        let mut serial = 0;
        if random.percent(60) {
            let store = Store::<young::Call>::open_with(config::<young::Call>(), options(&disk)).unwrap();
            for _ in 0..random.below(400) {
                serial += 1;
                let row = Raw {
                    dims: [(*random.pick(&USERS)).to_owned(), String::new()],
                    counters: [u32::try_from(serial).unwrap(), 0],
                    labels: [String::new(), String::new()],
                    ..Self::built_in(random, serial)
                };
                let event = young::Call { user: row.dims[0].clone(), tokens: row.counters[0] };
                store.append(event.at(row.ts_ns).id(row.id.as_str()).metric(row.metric)).unwrap();
                rows.push(Raw { metric: row.metric, ..Self::only_id_time_and_columns(row) });
            }
            if random.percent(70) {
                store.flush().unwrap();
            }
            store.close().unwrap();
        }
        let store = Store::<Call>::open_with(config::<Call>(), options(&disk)).unwrap();
        // Texts of one kind make chunks that pack or blocks that compress; mixed ones make neither.
        let kind = *random.pick(&[None, Some(1), Some(3), Some(4)]);
        for _ in 0..random.below(5) {
            for _ in 0..random.below(500) {
                serial += 1;
                let label = |random: &mut Random| match kind {
                    Some(1) => format!("{:016x}", random.next()),
                    Some(_) => format!("{serial} {}", "again and again 日本 ".repeat(10 + random.below(20))),
                    None => text(random, serial),
                };
                let row = Raw {
                    dims: [(*random.pick(&USERS)).to_owned(), format!("model {}", random.below(300))],
                    counters: [
                        u32::MAX - u32::try_from(serial).unwrap(),
                        u32::try_from(random.below(9)).unwrap(),
                    ],
                    labels: [label(random), label(random)],
                    ..Self::built_in(random, serial)
                };
                let [user, model] = row.dims.clone();
                let [tokens, retries] = row.counters;
                let [prompt, trace] = row.labels.clone();
                let event = Call { user, model, tokens, retries, prompt, trace }.at(row.ts_ns);
                let event = event.id(row.id.as_str()).metric(row.metric).status(row.status).flags(row.flags);
                store
                    .append(event.latency_ms(row.latency_ms).latency_detail_ms(row.latency_detail_ms))
                    .unwrap();
                rows.push(row);
            }
            if random.percent(70) {
                store.flush().unwrap();
            }
        }
        let mut deleted: Vec<String> = Vec::new();
        rows.retain(|row| {
            let is_deleted = random.percent(7);
            deleted.extend(is_deleted.then(|| row.id.clone()));
            !is_deleted
        });
        let ids: Vec<&str> = deleted.iter().map(String::as_str).collect();
        assert_eq!(store.delete(&ids).unwrap(), ids.len());
        rows.sort_by_key(|row| row.ts_ns);
        Self { disk, store, rows }
    }

    fn built_in(random: &mut Random, serial: u64) -> Raw {
        let small = |random: &mut Random| u32::try_from(random.below(3000)).unwrap();
        Raw {
            id: if random.percent(90) { format!("call-{serial:06}") } else { format!("é{serial}") },
            // Neighbours in time are far from each other in the log.
            ts_ns: i64::try_from(serial * 7919 % 100_003).unwrap() * 1_000,
            metric: *random.pick(&[i64::MIN, -1, 0, 7, 1 << 40, i64::MAX]),
            latency_ms: small(random),
            latency_detail_ms: small(random) * 1_000_000,
            status: u16::try_from(random.below(700)).unwrap(),
            flags: EventFlags(u16::try_from(random.below(65_536)).unwrap()),
            counters: [0; 2],
            dims: [String::new(), String::new()],
            labels: [String::new(), String::new()],
        }
    }

    fn only_id_time_and_columns(row: Raw) -> Raw {
        Raw { metric: 0, latency_ms: 0, latency_detail_ms: 0, status: 0, flags: EventFlags(0), ..row }
    }
}

/// A borrowed row, by its getters.
fn read(view: CallView<'_>) -> Result<Raw, DbError> {
    Ok(Raw {
        id: view.id()?.into_owned(),
        ts_ns: view.ts_ns(),
        metric: view.metric(),
        counters: [view.tokens(), view.retries()],
        latency_ms: view.latency_ms(),
        latency_detail_ms: view.latency_detail_ms(),
        status: view.status(),
        flags: view.flags(),
        dims: [view.user().to_owned(), view.model().to_owned()],
        labels: [view.prompt()?.into_owned(), view.trace()?.into_owned()],
    })
}

fn check(table: &Table, random: &mut Random) {
    let user = random.percent(50).then(|| *random.pick(&USERS));
    let limit = *random.pick(&[0, 1, 30, 300, usize::MAX]);
    let (from, to) =
        (random.below(100) as i64 * 1_000_000, 30_000_000 + random.below(100) as i64 * 1_000_000);
    let newest_first = random.percent(60);
    let mut expected: Vec<Raw> = table.rows.clone();
    expected.retain(|row| user.is_none_or(|user| row.dims[0] == user) && (from..=to).contains(&row.ts_ns));
    if newest_first {
        expected.reverse();
    }
    expected.truncate(limit);

    let filter = Call::filter().from(from).to(to);
    let filter = if let Some(user) = user { filter.user(user) } else { filter };
    let query = table.store.query(filter.clone()).limit(limit);
    let query = if newest_first { query.newest_first() } else { query.oldest_first() };

    let owned = query.rows().unwrap();
    let as_raw: Vec<Raw> = owned.iter().map(|row| row.clone().into_event_ref()).collect();
    assert_eq!(as_raw, expected);

    let (mut borrowed, mut copied) = (Vec::new(), Vec::new());
    query
        .each(|row| {
            borrowed.push(read(row)?);
            copied.push(row.into_row()?);
            Ok(())
        })
        .unwrap();
    assert_eq!(borrowed, expected);
    assert_eq!(copied, owned);
    let c = Call::cols();
    let numbers =
        (c.ts_ns, c.sequence, c.metric, c.latency_ms, c.latency_detail_ms, c.status, c.flags, c.tokens);
    let found = query.clone().project(numbers).rows().unwrap();
    let wanted: Vec<_> = owned
        .iter()
        .map(|row| {
            let (latency_ms, detail_ms) = (row.latency_ms(), row.latency_detail_ms());
            let (status, flags) = (row.status(), row.flags());
            (row.ts_ns(), row.sequence(), row.metric(), latency_ms, detail_ms, status, flags, row.tokens())
        })
        .collect();
    assert_eq!(found, wanted);
    let texts = query.clone().project((c.user, c.id, c.prompt, c.model, c.trace, c.retries));
    let mut seen = expected.iter();
    texts
        .each(|(user, id, prompt, model, trace, retries)| {
            let row = seen.next().unwrap();
            assert_eq!([user, model], [&*row.dims[0], &*row.dims[1]]);
            assert_eq!([&*id, &*prompt, &*trace], [&*row.id, &*row.labels[0], &*row.labels[1]]);
            assert_eq!(retries, row.counters[1]);
        })
        .unwrap();
    assert_eq!(seen.next(), None);

    if newest_first {
        let reader = RawReader::<2, 2, 2>::open_with(config::<Call>(), options(&table.disk)).unwrap();
        let filter: QueryFilter<2> = filter.into_filter();
        assert_eq!(reader.query_recent(&filter, limit).unwrap(), expected);
    }
    assert!(owned.windows(2).all(|rows| rows[0] != rows[1]), "rows differ where a value does");
    for row in owned.iter().take(5) {
        assert_eq!(table.store.get(row.id()).unwrap().as_ref(), Some(row));
    }
}

#[test]
fn all_forms_of_a_row_are_equal() {
    let seed = number_of("KEPLORDB_ROWS_SEED");
    for seed in seed.map_or(0..TABLES, |seed| seed..seed + 1) {
        let _replay = Replay { variable: "KEPLORDB_ROWS_SEED", seed };
        let mut random = Random::new(seed);
        let table = Table::random(&mut random);
        for _ in 0..8 {
            check(&table, &mut random);
        }
    }
}

#[test]
fn a_function_ends_a_query_by_its_error_and_by_a_break() {
    let disk = Arc::new(MemoryDisk::default());
    let store = Store::<Call>::open_with(config::<Call>(), options(&disk)).unwrap();
    for ts_ns in 0..10 {
        store.append(Call::new(ts_ns).tokens(1)).unwrap();
    }
    let query = store.query(Call::filter());
    let mut seen = 0;
    let ended = query.each(|_| {
        seen += 1;
        if seen == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((ended.is_ok(), seen), (true, 4));

    let error = || DbError::Missing { file: "mine".into() };
    let ended = query.each(|_| {
        seen += 1;
        Err(error())
    });
    assert_eq!((ended.unwrap_err().to_string(), seen), (error().to_string(), 5));
    let ended = query.clone().project((Call::cols().tokens,)).each(|(tokens,)| {
        seen += tokens;
        if seen == 7 { Err(error()) } else { Ok(()) }
    });
    assert_eq!((ended.unwrap_err().to_string(), seen), (error().to_string(), 7));
    query.each(|row| seen += row.tokens()).unwrap();
    assert_eq!(seen, 17);
}

/// Damages each part of a segment: wherever that is in a column which is not asked for, the others are read as before.
#[test]
fn a_projection_reads_only_its_columns() {
    let disk = Arc::new(MemoryDisk::default());
    let store = Store::<Call>::open_with(config::<Call>(), options(&disk)).unwrap();
    let users = ["alice", "bob", "carol"];
    for (ts_ns, user) in (0..3000).zip(users.iter().cycle()) {
        store.append(Call::new(ts_ns).user(*user).metric(ts_ns * 7).trace(format!("{ts_ns:09}"))).unwrap();
    }
    store.flush().unwrap();
    store.close().unwrap();
    let files = files_of(disk.as_ref(), Path::new("calls"));
    let is_segment = |path: &&std::path::PathBuf| path.extension().is_some_and(|ending| ending == "kseg");
    let [segment] = files
        .keys()
        .filter(is_segment)
        .cloned()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_else(|others: Vec<_>| panic!("one segment, not {}", others.len()));
    let (mut only_projected, mut neither) = (0, 0);
    for place in (0..files[&segment].len()).step_by(300) {
        let mut damaged = files.clone();
        damaged.get_mut(&segment).unwrap()[place] ^= 0x55;
        let Ok(store) = Store::<Call>::open_with(config::<Call>(), options(&disk_of(&damaged))) else {
            continue;
        };
        let whole = store.query(Call::filter()).rows();
        let users_only = store.query(Call::filter()).oldest_first().project((Call::cols().user,)).rows();
        match (whole, users_only) {
            (Err(_), Ok(found)) => {
                assert!(found.iter().zip(users.iter().cycle()).all(|((found,), user)| found == user));
                only_projected += usize::from(found.len() == 3000);
            }
            (Err(_), Err(_)) => neither += 1,
            (Ok(_), users_only) => assert!(users_only.is_ok(), "less is read, so less can fail"),
        }
    }
    assert!(only_projected > 5 && neither > 0, "{only_projected} and {neither}");
}
