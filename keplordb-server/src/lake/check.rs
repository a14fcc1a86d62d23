//! Whether the lake is what the log says: the sums of its rows' hashes against those of the rows that the log's events make.
//!
//! The log is read once. Of each entity only what is to go on with it stays in memory, with the sum of what lies behind; one to which a
//! late event came is made from its history in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use keplordb::Store;

use super::draft::{check_replay, read_chunk, read_entity};
use super::entities::{Entity, follow, rows_of};
use super::manifest::{FileEntry, Manifest, Sum, TYPED, Table, TypedTable};
use super::parquet::{Encoding as _, Rows, batches};
use super::publication::Root;
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use super::typed::{TypedColumns, TypedRow, hashes};
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
    /// As it is published, such as `_events`, or `tables/users/current`.
    pub table: String,
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
    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum.add(hash);
    }

    fn add_all(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum.add(other.sum.0);
    }

    fn shown(self) -> (u64, String) {
        (self.rows, self.sum.into())
    }
}

/// Rows of `_current` or `_versions`, and the same in the typed table of their type, where it has one.
#[derive(Debug, Clone, Copy, Default)]
struct Made {
    all: Counted,
    typed: Counted,
}

impl Made {
    fn add<R: TypedRow>(&mut self, row: &R, columns: Option<&TypedColumns<'_, R>>) -> Result<()> {
        self.all.add(row.hash());
        if let Some(columns) = columns {
            let unmade = |error: arrow::error::ArrowError| ServerError::Parquet {
                file: PathBuf::from(columns.dir()),
                source: error.into(),
            };
            hashes(&columns.batch(std::slice::from_ref(row)).map_err(unmade)?)
                .for_each(|hash| self.typed.add(hash));
        }
        Ok(())
    }

    fn add_all(&mut self, other: Self) {
        self.all.add_all(other.all);
        self.typed.add_all(other.typed);
    }
}

/// The columns of a type's tables.
struct Columns<'a> {
    current: TypedColumns<'a, CurrentRow>,
    versions: TypedColumns<'a, VersionRow>,
}

impl<'a> Columns<'a> {
    fn of(table: &'a TypedTable) -> Self {
        Self { current: TypedColumns::new(&table.columns), versions: TypedColumns::new(&table.columns) }
    }
}

/// What events make: they themselves, and of each type the rows of the tables of entities.
#[derive(Debug, Default)]
struct OfLog {
    events: Counted,
    by_type: BTreeMap<String, (Made, Made)>,
}

impl OfLog {
    fn add(
        &mut self,
        entity_type: &str,
        columns: Option<&Columns<'_>>,
        (entity, behind): (Option<Entity>, Made),
    ) -> Result<()> {
        let (current, versions) = self.by_type.entry(entity_type.to_owned()).or_default();
        versions.add_all(behind);
        if let Some(Entity { frontier, current: live }) = entity {
            versions.add(&frontier, columns.map(|columns| &columns.versions))?;
            if let Some(live) = live {
                current.add(&live, columns.map(|columns| &columns.current))?;
            }
        }
        Ok(())
    }

    /// The rows of a table.
    fn of_table(&self, table: Table) -> Counted {
        let mut all = Counted::default();
        match table {
            Table::Events => all = self.events,
            Table::Current => self.by_type.values().for_each(|(current, _)| all.add_all(current.all)),
            Table::Versions => self.by_type.values().for_each(|(_, versions)| all.add_all(versions.all)),
        }
        all
    }
}

pub(super) fn check(store: &Store<Event>, root: &Root, manifest: &Manifest) -> Result<LakeCheck> {
    // Of what the log no longer has it cannot say anything.
    check_replay(store, manifest.checkpoint_seq, Some(manifest.tables.events.rows()))?;
    let typed = &manifest.tables.typed;
    let columns: BTreeMap<&str, Columns<'_>> =
        typed.iter().map(|(entity_type, table)| (entity_type.as_str(), Columns::of(table))).collect();
    let of_log = of_log(store, manifest.checkpoint_seq, &columns)?;
    let damaged = [
        damaged_files::<EventRow>(root, manifest),
        damaged_files::<CurrentRow>(root, manifest),
        damaged_files::<VersionRow>(root, manifest),
    ];
    let mut tables: Vec<TableCheck> = Vec::new();
    for (table, damaged) in Table::ALL.into_iter().zip(damaged) {
        let log = of_log.of_table(table);
        tables.push(compared(table.name().to_owned(), log, &manifest.tables.get(table).files, damaged));
    }
    for (entity_type, table) in typed {
        let (current, versions) = of_log.by_type.get(entity_type).copied().unwrap_or_default();
        for (part, log, damaged) in [
            (Table::Current, current, damaged_typed::<CurrentRow>(root, table)),
            (Table::Versions, versions, damaged_typed::<VersionRow>(root, table)),
        ] {
            tables.push(compared(table.place(part), log.typed, table.get(part), damaged));
        }
    }
    Ok(LakeCheck { tables, checkpoint_seq: manifest.checkpoint_seq })
}

fn compared(table: String, log: Counted, files: &[FileEntry], damaged: Vec<String>) -> TableCheck {
    let rows = files.iter().map(|file| file.rows).sum();
    let sum: Sum = files.iter().map(|file| file.row_hash).sum();
    TableCheck { table, log: log.shown(), manifest: (rows, sum.into()), damaged }
}

/// What the events up to a sequence make.
fn of_log(store: &Store<Event>, until: u64, columns: &BTreeMap<&str, Columns<'_>>) -> Result<OfLog> {
    let mut made = OfLog::default();
    let mut entities: HashMap<(String, String), (Option<Entity>, Made)> = HashMap::new();
    let mut late: BTreeSet<(String, String)> = BTreeSet::new();
    let mut after = 0;
    while after < until {
        let chunk = read_chunk(store, after, until, CHUNK_EVENTS, CHUNK_BYTES)?;
        let Some(last) = chunk.last() else { break };
        after = last.sequence;
        for event in &chunk {
            made.events.add(event.hash());
            let key = (event.entity_type.clone(), event.entity_id.clone());
            if late.contains(&key) {
                continue;
            }
            let columns = columns.get(event.entity_type.as_str()).map(|columns| &columns.versions);
            let (entity, behind) = entities.entry(key.clone()).or_default();
            if entity.as_ref().is_none_or(|entity| entity.is_followed_by(event)) {
                let mut keep = |row: VersionRow| behind.add(&row, columns);
                *entity = follow(entity.take(), &[event], &mut keep)?;
            } else {
                entities.remove(&key);
                late.insert(key);
            }
        }
    }
    for ((entity_type, _), entity) in entities {
        made.add(&entity_type, columns.get(entity_type.as_str()), entity)?;
    }
    for (entity_type, id) in late {
        let columns = columns.get(entity_type.as_str());
        let versions = columns.map(|columns| &columns.versions);
        let mut behind = Made::default();
        let events = read_entity(store, &entity_type, &id, until)?;
        let entity = rows_of(&events, &mut |row: VersionRow| behind.add(&row, versions))?;
        made.add(&entity_type, columns, (entity, behind))?;
    }
    Ok(made)
}

/// The files of a table whose rows are not those that the manifest says.
fn damaged_files<R: Row>(root: &Root, manifest: &Manifest) -> Vec<String> {
    let dir = root.lake().join(R::TABLE.dir());
    let is_damaged = |file: &&FileEntry| {
        let mut found = Counted::default();
        let read = Rows::<R>::open(&dir.join(&file.path))
            .and_then(|mut rows| rows.try_for_each(|row| row.map(|row| found.add(row.hash()))));
        // What cannot be read is what was looked for.
        read.is_err() || (found.rows, found.sum) != (file.rows, file.row_hash)
    };
    let files = manifest.tables.get(R::TABLE).files.iter();
    files.filter(is_damaged).map(|file| file.path.clone()).collect()
}

/// Likewise the files of a typed table that are made of a table's.
fn damaged_typed<R: TypedRow>(root: &Root, table: &TypedTable) -> Vec<String> {
    let dir = root.lake().join(TYPED);
    let schema = TypedColumns::<R>::new(&table.columns).schema();
    let is_damaged = |file: &&FileEntry| {
        let mut found = Counted::default();
        let read = batches(&dir.join(&file.path), &schema).and_then(|mut batches| {
            batches.try_for_each(|batch| batch.map(|batch| hashes(&batch).for_each(|hash| found.add(hash))))
        });
        read.is_err() || (found.rows, found.sum) != (file.rows, file.row_hash)
    };
    table.get(R::TABLE).iter().filter(is_damaged).map(|file| file.path.clone()).collect()
}
