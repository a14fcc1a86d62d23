//! Whether the lake is what the log says: the sums of its rows' hashes against those of the rows that the log's events make.
//!
//! The log is read once. Of each entity only what is to go on with it stays in memory, with the sum of what lies behind; one to which a
//! late event came is made from its history in the end.

use std::collections::{BTreeSet, HashMap};

use keplordb::Store;

use super::draft::{check_replay, read_chunk, read_entity};
use super::entities::{Entity, follow, rows_of};
use super::manifest::{Manifest, Sum, Table};
use super::parquet::Rows;
use super::publication::Root;
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use crate::error::ServerError;
use crate::record::Event;

type Result<T> = std::result::Result<T, ServerError>;

/// Events that are read at a time.
const CHUNK_EVENTS: usize = 65_536;
/// Likewise their bytes.
const CHUNK_BYTES: usize = 64 << 20;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LakeCheck {
    /// The tables.
    pub tables: Vec<TableCheck>,
    /// The sequence of the last event whose rows are there.
    pub checkpoint_seq: u64,
}

/// What a check found of a table: rows, and the sum of their hashes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableCheck {
    /// As it is published, such as `_events`.
    pub table: &'static str,
    /// What the log's events make.
    pub log: (u64, String),
    /// What the manifest says of the files.
    pub manifest: (u64, String),
    /// Files whose rows are not those that were written.
    pub damaged: Vec<String>,
}

impl LakeCheck {
    /// Whether the files have exactly the rows that the log's events make.
    pub fn is_sound(&self) -> bool {
        self.tables.iter().all(|table| table.log == table.manifest && table.damaged.is_empty())
    }
}

/// Rows of a table, counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    rows: u64,
    sum: Sum,
}

impl Counted {
    fn add<R: Row>(&mut self, row: &R) {
        self.rows += 1;
        self.sum.add(row.hash());
    }

    fn add_all(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum.add(other.sum.0);
    }

    /// As [`add`](Self::add), which cannot fail.
    #[expect(clippy::unnecessary_wraps, reason = "whoever else takes rows may fail")]
    fn take<R: Row>(&mut self, row: &R) -> Result<()> {
        self.add(row);
        Ok(())
    }

    fn shown(self) -> (u64, String) {
        (self.rows, self.sum.into())
    }
}

pub(super) fn check(store: &Store<Event>, root: &Root, manifest: &Manifest) -> Result<LakeCheck> {
    // Of what the log no longer has it cannot say anything.
    check_replay(store, manifest.checkpoint_seq, Some(manifest.tables.events.rows()))?;
    let [events, current, versions] = of_log(store, manifest.checkpoint_seq)?;
    let damaged = [
        damaged_files::<EventRow>(root, manifest),
        damaged_files::<CurrentRow>(root, manifest),
        damaged_files::<VersionRow>(root, manifest),
    ];
    let found = Table::ALL.into_iter().zip([events, current, versions]).zip(damaged);
    let tables = found.map(|((table, log), damaged)| {
        let files = manifest.tables.get(table);
        let manifest = (files.rows(), files.row_hash().into());
        TableCheck { table: table.name(), log: log.shown(), manifest, damaged }
    });
    Ok(LakeCheck { tables: tables.collect(), checkpoint_seq: manifest.checkpoint_seq })
}

/// What the events up to a sequence make, in the order of the tables.
fn of_log(store: &Store<Event>, until: u64) -> Result<[Counted; 3]> {
    let mut events = Counted::default();
    let mut entities: HashMap<(String, String), (Option<Entity>, Counted)> = HashMap::new();
    let mut late: BTreeSet<(String, String)> = BTreeSet::new();
    let mut after = 0;
    while after < until {
        let chunk = read_chunk(store, after, until, CHUNK_EVENTS, CHUNK_BYTES)?;
        let Some(last) = chunk.last() else { break };
        after = last.sequence;
        for event in &chunk {
            events.add(event);
            let key = (event.entity_type.clone(), event.entity_id.clone());
            if late.contains(&key) {
                continue;
            }
            let (entity, behind) = entities.entry(key.clone()).or_default();
            if entity.as_ref().is_none_or(|entity| entity.is_followed_by(event)) {
                *entity = follow(entity.take(), &[event], &mut |row: VersionRow| behind.take(&row))?;
            } else {
                entities.remove(&key);
                late.insert(key);
            }
        }
    }
    let (mut current, mut versions) = (Counted::default(), Counted::default());
    let mut add = |entity: Option<Entity>, behind: Counted| {
        versions.add_all(behind);
        if let Some(entity) = entity {
            versions.add(&entity.frontier);
            entity.current.iter().for_each(|row| current.add(row));
        }
    };
    for (entity, behind) in entities.into_values() {
        add(entity, behind);
    }
    for (entity_type, id) in late {
        let mut behind = Counted::default();
        let events = read_entity(store, &entity_type, &id, until)?;
        let entity = rows_of(&events, &mut |row: VersionRow| behind.take(&row))?;
        add(entity, behind);
    }
    Ok([events, current, versions])
}

/// The files of a table whose rows are not those that the manifest says.
fn damaged_files<R: Row>(root: &Root, manifest: &Manifest) -> Vec<String> {
    let mut damaged = Vec::new();
    for file in &manifest.tables.get(R::TABLE).files {
        let path = root.lake().join(R::TABLE.dir()).join(&file.path);
        let mut found = Counted::default();
        let read = Rows::<R>::open(&path)
            .and_then(|mut rows| rows.try_for_each(|row| row.map(|row| found.add(&row))));
        match read {
            Ok(()) if (found.rows, found.sum) == (file.rows, file.row_hash) => {}
            // What cannot be read is what was looked for.
            _ => damaged.push(file.path.clone()),
        }
    }
    damaged
}
