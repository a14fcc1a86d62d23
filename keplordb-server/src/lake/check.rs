//! Whether the lake is what the log says: the sums of its rows' hashes against those of the rows that the log's events make.
//!
//! The log is read once. Of each entity only what is to go on with it stays in memory, with the sum of what lies behind; one to which a
//! late event came is made from its history in the end. A typed table is compared with what the rows of the table make of which its files
//! are made, as they are read to be compared themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;

use keplordb::Store;

use super::draft::{check_replay, read_chunk, read_entity};
use super::entities::{Entity, follow, rows_of};
use super::manifest::{FileEntry, Manifest, Sum, TYPED, Table, TypedTable};
use super::parquet::{Encoding, Rows, batches};
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
/// Rows that are made columns at a time.
const TYPED_ROWS: usize = 1024;

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
    /// What the log's events make; of a typed table, what the rows of `_current` or `_versions` make that are in files.
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
    check_replay(store, manifest.checkpoint(), manifest.tables.events.rows())?;
    let [events, current, versions] = of_log(store, manifest.checkpoint_seq)?;
    let typed = &manifest.tables.typed;
    let (mut live, mut history) = (OfRows::<CurrentRow>::new(typed), OfRows::<VersionRow>::new(typed));
    let damaged = [
        damaged_files(root, manifest, |_: EventRow| ())?,
        damaged_files(root, manifest, |row| live.take(row))?,
        damaged_files(root, manifest, |row| history.take(row))?,
    ];
    let mut tables: Vec<TableCheck> = Vec::new();
    for ((table, log), damaged) in Table::ALL.into_iter().zip([events, current, versions]).zip(damaged) {
        tables.push(compared(table.name().to_owned(), log, &manifest.tables.get(table).files, damaged));
    }
    for (entity_type, table) in typed {
        for (part, made, damaged) in [
            (Table::Current, live.made(entity_type), damaged_typed::<CurrentRow>(root, table)?),
            (Table::Versions, history.made(entity_type), damaged_typed::<VersionRow>(root, table)?),
        ] {
            tables.push(compared(table.place(part), made, table.get(part), damaged));
        }
    }
    Ok(LakeCheck { tables, checkpoint_seq: manifest.checkpoint_seq })
}

fn compared(table: String, log: Counted, files: &[FileEntry], damaged: Vec<String>) -> TableCheck {
    let rows = files.iter().map(|file| file.rows).sum();
    let sum: Sum = files.iter().map(|file| file.row_hash).sum();
    TableCheck { table, log: log.shown(), manifest: (rows, sum.into()), damaged }
}

/// What the rows of a table make of the typed tables. They come file by file, and in each in the order of their types, so rows of one type
/// wait at a time, however many types there are.
struct OfRows<'a, R> {
    types: BTreeMap<&'a str, OfType<'a, R>>,
    /// Rows of a type are made columns many at a time.
    waiting: Vec<R>,
    waiting_bytes: usize,
}

/// And of one of them.
struct OfType<'a, R> {
    columns: TypedColumns<'a, R>,
    made: Counted,
}

impl<'a, R: TypedRow> OfRows<'a, R> {
    fn new(typed: &'a BTreeMap<String, TypedTable>) -> Self {
        let of_type = |table: &'a TypedTable| OfType {
            columns: TypedColumns::new(&table.columns),
            made: Counted::default(),
        };
        let by_name = typed.iter().map(|(entity_type, table)| (entity_type.as_str(), of_type(table)));
        Self { types: by_name.collect(), waiting: Vec::new(), waiting_bytes: 0 }
    }

    fn take(&mut self, row: R) {
        let is_other = |other: &R| other.entity_type() != row.entity_type();
        if self.waiting.first().is_some_and(is_other) {
            self.make();
        }
        if !self.types.contains_key(row.entity_type()) {
            return;
        }
        self.waiting_bytes += row.bytes();
        self.waiting.push(row);
        if self.waiting.len() >= TYPED_ROWS || self.waiting_bytes >= TypedColumns::<R>::BATCH_BYTES {
            self.make();
        }
    }

    /// Makes columns of the rows that wait.
    fn make(&mut self) {
        let of_type = self.waiting.first().and_then(|row| self.types.get_mut(row.entity_type()));
        // Rows that cannot be made columns are none, and so there are others in the files.
        if let Some(of_type) = of_type
            && let Ok(encoded) = of_type.columns.encode(&self.waiting, |_| Ok(()))
        {
            of_type.made.add_all(Counted { rows: self.waiting.len() as u64, sum: encoded.sum });
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn made(&mut self, entity_type: &str) -> Counted {
        self.make();
        self.types.get(entity_type).map_or_else(Counted::default, |of_type| of_type.made)
    }
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

/// The files of a table whose rows are not those that the manifest says; `see` is given all rows that can be read.
fn damaged_files<R: Row>(root: &Root, manifest: &Manifest, mut see: impl FnMut(R)) -> Result<Vec<String>> {
    let dir = root.lake().join(R::TABLE.dir());
    let mut damaged = Vec::new();
    for file in &manifest.tables.get(R::TABLE).files {
        let mut found = Counted::default();
        let read = Rows::<R>::open(&dir.join(&file.path)).and_then(|mut rows| {
            rows.try_for_each(|row| {
                let row = row?;
                found.add(&row);
                see(row);
                Ok(())
            })
        });
        if is_damaged(file, read, found)? {
            damaged.push(file.path.clone());
        }
    }
    Ok(damaged)
}

/// Whether a file is not there, or has other rows than were written. What the disk refuses to read says nothing of them.
fn is_damaged(file: &FileEntry, read: Result<()>, found: Counted) -> Result<bool> {
    match read {
        Ok(()) => Ok((found.rows, found.sum) != (file.rows, file.row_hash)),
        Err(ServerError::Io { file, op, source }) if source.kind() != ErrorKind::NotFound => {
            Err(ServerError::Io { file, op, source })
        }
        // What cannot be read is what was looked for.
        Err(_) => Ok(true),
    }
}

/// Likewise the files of a typed table that are made of a table's.
fn damaged_typed<R: TypedRow>(root: &Root, table: &TypedTable) -> Result<Vec<String>> {
    let dir = root.lake().join(TYPED);
    let schema = TypedColumns::<R>::new(&table.columns).schema();
    let mut damaged = Vec::new();
    for file in table.get(R::TABLE) {
        let mut found = Counted::default();
        let read = batches(&dir.join(&file.path), &schema).and_then(|mut batches| {
            batches.try_for_each(|batch| {
                let batch = batch?;
                let sum = hashes(&batch).map(Sum).sum();
                found.add_all(Counted { rows: batch.num_rows() as u64, sum });
                Ok(())
            })
        });
        if is_damaged(file, read, found)? {
            damaged.push(file.path.clone());
        }
    }
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::schema::Schema;
    use crate::shape::Shape;

    #[test]
    fn rows_of_one_type_wait_at_a_time_however_many_types_there_are() {
        const TYPES: usize = 50;
        let names: Vec<String> = (0..TYPES).map(|number| format!("T{number:02}")).collect();
        let mut text = String::from("syntax = \"proto3\"; package reflog.v1;");
        for name in &names {
            write!(text, "message {name} {{ string a = 1; }}").unwrap();
        }
        let schema = Schema::compile(Path::new("custom.proto"), 1, &text).unwrap();
        let table = |name: &String| TypedTable {
            name: name.clone(),
            columns: Shape::of(schema.get(name).unwrap().message()),
            current: Vec::new(),
            versions: Vec::new(),
            linked: 0,
        };
        let typed: BTreeMap<String, TypedTable> =
            names.iter().map(|name| (name.clone(), table(name))).collect();
        let row = |entity_type: &str, number: usize| {
            let state = format!("{{\"a\":\"{}\"}}", "x".repeat(10_000));
            CurrentRow::of_first(entity_type, number.to_string(), state)
        };
        let mut of_rows = OfRows::<CurrentRow>::new(&typed);
        let mut waiting_max = 0;
        // Two files, and a type that no schema has.
        for file in 0..2 {
            for entity_type in names.iter().map(String::as_str).chain(["Unknown"]) {
                for number in 0..9 {
                    of_rows.take(row(entity_type, file * 9 + number));
                    waiting_max = waiting_max.max(of_rows.waiting_bytes);
                }
            }
        }
        assert!(waiting_max > 0 && waiting_max < 10 * 11_000, "{waiting_max}");
        let made: Vec<Counted> = names.iter().map(|name| of_rows.made(name)).collect();
        // They differ in their types only, which no column has.
        let sum = made.first().unwrap().sum;
        assert!(
            sum != Sum::default() && made.iter().all(|made| (made.rows, made.sum) == (18, sum)),
            "{made:?}"
        );
    }
}
