//! A lake that is being made from the published one: events become files, and nobody sees them until a manifest names them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keplordb::aggregates::count;
use keplordb::{DbError, Start, Store};
use xxhash_rust::xxh64::xxh64;

use super::LakeOptions;
use super::columns::damaged;
use super::entities::{Changed, Entity, Rebuilt, follow, rebuild};
use super::files::{Files, temporary};
use super::manifest::{Bucket, Checkpoint, FileEntry, Sum, Table, Tables};
use super::parquet::{Encoding, Ids, Merged, NewFile, OfTable, Rows, has_entity, new_name, write};
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use super::typed::Typings;
use crate::error::ServerError;
use crate::record::Event;

type Result<T> = std::result::Result<T, ServerError>;

/// Most buckets of an entity type.
const BUCKETS_MAX: u32 = 1 << 12;
/// How many times as many bytes as in its file a bucket may take in memory.
const BUCKET_IN_MEMORY: u64 = 2;
/// The level of files that are not merged any more.
const FULL: u8 = u8::MAX;
/// What is wrong with a file that is sound Parquet.
pub(super) const OTHER_ROWS: &str = "its rows are not those that were written";

/// See the module. What it has written goes with it unless it is [kept](Self::keep).
#[derive(Debug)]
pub(super) struct Draft {
    /// The directory of the lake's files.
    pub(super) lake: PathBuf,
    pub(super) files: Files,
    pub(super) options: LakeOptions,
    pub(super) tables: Tables,
    pub(super) checkpoint: Checkpoint,
    /// Files that were begun and are in no manifest.
    pub(super) written: HashSet<PathBuf>,
    /// Whether to end without a result, and soon.
    pub(super) stop: Arc<AtomicBool>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in &self.written {
            self.files.discard(&temporary(path));
            self.files.discard(path);
        }
    }
}

/// What is folded of a bucket's entities, by their ids.
type Entities = BTreeMap<String, Entity>;

/// Entities to which events came late, by their types and ids.
type Late = BTreeMap<String, BTreeMap<String, Changed>>;

/// Rows of the history on their way into files: they can be far more than the events by which they come.
#[derive(Default)]
struct History {
    rows: Vec<VersionRow>,
    bytes: usize,
}

impl History {
    fn push(&mut self, draft: &mut Draft, row: VersionRow) -> Result<()> {
        // One entity may have very many rows.
        draft.go_on()?;
        self.bytes += row.bytes();
        self.rows.push(row);
        if self.bytes >= draft.options.chunk_bytes { self.write(draft) } else { Ok(()) }
    }

    fn write(&mut self, draft: &mut Draft) -> Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        rows.sort_by(Row::compare);
        let entry = draft.write(None, 0, false, rows.into_iter().map(Ok))?;
        draft.add(Table::Versions, entry);
        Ok(())
    }
}

impl Draft {
    /// Takes events behind the checkpoint and up to a sequence, at most so many chunks; gives how many. None are left where it gives 0.
    pub(super) fn take(&mut self, store: &Store<Event>, until: u64, chunks: usize) -> Result<u64> {
        let mut taken = 0;
        for _ in 0..chunks {
            self.go_on()?;
            let (events_max, bytes_max) = (self.options.chunk_events, self.options.chunk_bytes);
            let events = read_chunk(store, self.checkpoint.sequence, until, events_max, bytes_max)?;
            let Some(last) = events.last() else { break };
            let checkpoint = Checkpoint { sequence: last.sequence, hash: hash_of(last) };
            taken += events.len() as u64;
            self.take_chunk(store, events)?;
            self.checkpoint = checkpoint;
        }
        Ok(taken)
    }

    /// Lets what was written be: a manifest names it.
    pub(super) fn keep(&mut self) {
        self.written.clear();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn go_on(&self) -> Result<()> {
        if self.is_stopped() { Err(ServerError::Stopping) } else { Ok(()) }
    }

    fn take_chunk(&mut self, store: &Store<Event>, mut events: Vec<EventRow>) -> Result<()> {
        let until = events.last().map_or(0, |event| event.sequence);
        // Files that are written from here on have none of the rows that are to be forgotten.
        let older: Vec<FileEntry> =
            self.tables.versions.files.iter().filter(|file| file.bucket.is_none()).cloned().collect();
        let mut history = History::default();
        let mut late = Late::new();
        {
            // Events of this chunk are in none of them.
            let published = self.tables.events.files.clone();
            let whole = Whole { store, until, dir: self.dir(Table::Events), published };
            let mut by_bucket: BTreeMap<Bucket, BTreeMap<&str, Vec<&EventRow>>> = BTreeMap::new();
            for event in &events {
                let bucket = self.bucket_of(&event.entity_type, &event.entity_id);
                by_bucket.entry(bucket).or_default().entry(&event.entity_id).or_default().push(event);
            }
            for (bucket, by_entity) in by_bucket {
                let mut entities = self.load(&bucket)?;
                for (id, events) in by_entity {
                    self.go_on()?;
                    let before = entities.remove(id);
                    let comes_in_order = events.is_sorted_by(|a, b| a.order() < b.order())
                        && before
                            .as_ref()
                            .zip(events.first())
                            .is_none_or(|(before, first)| before.is_followed_by(first));
                    let mut keep = |row| history.push(self, row);
                    let after = if comes_in_order {
                        follow(before, &events, &mut keep)?
                    } else if let Some(before) = before {
                        let known = before.frontier.version;
                        let all = whole.read(&bucket.entity_type, id, known, events.len() as u64)?;
                        let all: Vec<&EventRow> = all.iter().collect();
                        let known = usize::try_from(known).unwrap_or(usize::MAX);
                        let Rebuilt { entity, changed } = rebuild(&all, known, &mut keep)?;
                        if let Some(changed) = changed {
                            let of_type = late.entry(bucket.entity_type.clone()).or_default();
                            of_type.insert(id.to_owned(), changed);
                        }
                        entity
                    } else {
                        rebuild(&events, 0, &mut keep)?.entity
                    };
                    entities.extend(after.map(|after| (id.to_owned(), after)));
                }
                self.save(&bucket, entities)?;
            }
        }
        self.forget(&late, &older)?;
        history.write(self)?;

        let mut types: Vec<String> = events.iter().map(|event| event.entity_type.clone()).collect();
        types.sort_unstable();
        types.dedup();
        events.sort_by(Row::compare);
        let entry = self.write(None, 0, false, events.into_iter().map(Ok))?;
        self.add(Table::Events, entry);
        types.iter().try_for_each(|entity_type| self.split_buckets(entity_type))
    }

    /// Writes a file, unless there is nothing to write.
    fn write<R: Row>(
        &mut self,
        bucket: Option<&Bucket>,
        level: u8,
        wants_empty: bool,
        rows: impl Iterator<Item = Result<R>>,
    ) -> Result<Option<FileEntry>> {
        if R::TABLE != Table::Versions || bucket.is_some() {
            return self.write_as(&OfTable, bucket, level, wants_empty, rows);
        }
        let mut types: Vec<String> = Vec::new();
        let rows = rows.inspect(|row| {
            // They are in the order of their types.
            if let Ok(row) = row
                && types.last().is_none_or(|last| last != row.entity_type())
            {
                types.push(row.entity_type().to_owned());
            }
        });
        let entry = self.write_as(&OfTable, bucket, level, wants_empty, rows)?;
        Ok(entry.map(|entry| FileEntry { types: Some(types), ..entry }))
    }

    /// Likewise, with other columns than those of the rows' table.
    pub(super) fn write_as<R: Row>(
        &mut self,
        encoding: &impl Encoding<R>,
        bucket: Option<&Bucket>,
        level: u8,
        wants_empty: bool,
        rows: impl Iterator<Item = Result<R>>,
    ) -> Result<Option<FileEntry>> {
        let (dir, name) = (self.lake.join(encoding.dir()), new_name(encoding.dir()));
        let path = dir.join(&name);
        self.written.insert(path.clone());
        let stop = Arc::clone(&self.stop);
        let rows =
            rows.map(|row| if stop.load(Ordering::Relaxed) { Err(ServerError::Stopping) } else { row });
        let file = NewFile { dir: &dir, name, bucket, level, wants_empty };
        let entry = write(&self.files, file, encoding, rows)?;
        if entry.is_none() {
            self.written.remove(&path);
        }
        Ok(entry)
    }

    /// The directory of a table's files.
    pub(super) fn dir(&self, table: Table) -> PathBuf {
        self.lake.join(table.dir())
    }

    fn add(&mut self, table: Table, entry: Option<FileEntry>) {
        self.tables.get_mut(table).files.extend(entry);
    }

    /// Takes some files of a table out and puts one in the place of the first.
    fn replace(&mut self, table: Table, gone: &[FileEntry], entry: Option<FileEntry>) -> Result<()> {
        let entries = &mut self.tables.get_mut(table).files;
        let at = entries.iter().position(|file| gone.contains(file)).unwrap_or(entries.len());
        entries.retain(|file| !gone.contains(file));
        if let Some(entry) = entry {
            entries.insert(at.min(entries.len()), entry);
        }
        let dir = self.dir(table);
        for file in gone {
            let path = dir.join(&file.path);
            // Nobody has seen it.
            if self.written.contains(&path) {
                self.files.remove(&path)?;
                self.written.remove(&path);
            }
        }
        Ok(())
    }

    fn bucket_of(&self, entity_type: &str, entity_id: &str) -> Bucket {
        let buckets = self.tables.current.buckets.get(entity_type).copied().unwrap_or(1);
        Bucket { entity_type: entity_type.to_owned(), number: bucket_number(entity_id, buckets) }
    }

    /// All rows of a file, if they are those that were written.
    fn read<R: Row>(&self, file: &FileEntry) -> Result<Vec<R>> {
        let path = self.dir(R::TABLE).join(&file.path);
        let rows = Rows::<R>::open(&path)?.collect::<Result<Vec<R>>>()?;
        let sum: Sum = rows.iter().map(|row| Sum(row.hash())).sum();
        if (rows.len() as u64, sum) != (file.rows, file.row_hash) {
            return Err(damaged(&path, OTHER_ROWS));
        }
        Ok(rows)
    }

    fn load(&self, bucket: &Bucket) -> Result<Entities> {
        let mut current: BTreeMap<String, CurrentRow> = BTreeMap::new();
        if let Some(file) = self.tables.current.of_bucket(bucket) {
            let rows = self.read::<CurrentRow>(file)?.into_iter();
            current.extend(rows.map(|row| (row.entity_id.clone(), row)));
        }
        let mut entities = Entities::new();
        let is_in_one = |id: &str| {
            let what = format!("{id:?} is live in one of _current and _versions only");
            damaged(&self.dir(Table::Current), &what)
        };
        if let Some(file) = self.tables.versions.of_bucket(bucket) {
            for frontier in self.read::<VersionRow>(file)? {
                let current = current.remove(&frontier.entity_id);
                if current.is_some() != frontier.state.is_some() {
                    return Err(is_in_one(&frontier.entity_id));
                }
                entities.insert(frontier.entity_id.clone(), Entity { frontier, current });
            }
        }
        current.keys().next().map_or(Ok(entities), |id| Err(is_in_one(id)))
    }

    fn save(&mut self, bucket: &Bucket, entities: Entities) -> Result<()> {
        let tables = [Table::Current, Table::Versions];
        let gone = tables.map(|table| self.tables.get(table).of_bucket(bucket).cloned());
        let (current, frontier): (Vec<_>, Vec<_>) =
            entities.into_values().map(|entity| (entity.current, entity.frontier)).unzip();
        let current = current.into_iter().flatten().map(Ok);
        let current = self.write(Some(bucket), 0, false, current)?;
        let frontier = self.write(Some(bucket), 0, false, frontier.into_iter().map(Ok))?;
        for ((table, gone), entry) in tables.into_iter().zip(gone).zip([current, frontier]) {
            self.replace(table, gone.as_slice(), entry)?;
        }
        Ok(())
    }

    /// Doubles the buckets of a type one of which is too large.
    fn split_buckets(&mut self, entity_type: &str) -> Result<()> {
        let buckets = self.tables.current.buckets.get(entity_type).copied().unwrap_or(1);
        let bytes_max = self.options.bucket_bytes_max;
        let is_large = |file: &FileEntry| {
            file.rows > 1
                && (file.bytes > bytes_max || file.memory_bytes > bytes_max.saturating_mul(BUCKET_IN_MEMORY))
                && file.bucket.as_ref().is_some_and(|bucket| bucket.entity_type == entity_type)
        };
        let mut large = self.tables.current.files.iter().chain(&self.tables.versions.files);
        let is_split = buckets < BUCKETS_MAX && large.any(is_large);
        let buckets_after = if is_split { buckets * 2 } else { buckets };
        if is_split {
            for number in 0..buckets {
                let bucket = Bucket { entity_type: entity_type.to_owned(), number };
                let other = Bucket { number: number + buckets, ..bucket.clone() };
                let (stay, go): (Entities, Entities) = self
                    .load(&bucket)?
                    .into_iter()
                    .partition(|(id, _)| bucket_number(id, buckets_after) == number);
                self.save(&bucket, stay)?;
                self.save(&other, go)?;
            }
        }
        for table in [Table::Current, Table::Versions] {
            self.tables.get_mut(table).buckets.insert(entity_type.to_owned(), buckets_after);
        }
        Ok(())
    }

    /// Takes the rows that late events changed out of files of the history.
    fn forget(&mut self, late: &Late, history: &[FileEntry]) -> Result<()> {
        let dir = self.dir(Table::Versions);
        let is_gone = |row: &VersionRow| {
            let changed = late.get(&row.entity_type).and_then(|ids| ids.get(&row.entity_id));
            changed.is_some_and(|changed| row.known_to_ms.is_none() && row.version >= changed.version)
        };
        let mut left: u64 = late.values().flat_map(BTreeMap::values).map(|changed| changed.rows).sum();
        for file in history {
            self.go_on()?;
            if left == 0 {
                break;
            }
            let path = dir.join(&file.path);
            // Most files have none of them: what changes is mostly young.
            let entities = late.iter().map(|(entity_type, ids)| {
                let may_be_there = ids.iter().filter(|(_, changed)| changed.valid_from_ms <= file.time_max);
                (entity_type.clone(), may_be_there.map(|(id, _)| id.clone()).collect())
            });
            if !has_entity(&path, &entities.collect())? {
                continue;
            }
            let mut gone = (0, Sum::default());
            for row in Rows::<VersionRow>::open(&path)? {
                let row = row?;
                if is_gone(&row) {
                    gone.0 += 1;
                    gone.1.add(row.hash());
                }
            }
            if gone.0 == 0 {
                continue;
            }
            left = left.saturating_sub(gone.0);
            let kept = Rows::<VersionRow>::open(&path)?.filter(|row| !row.as_ref().is_ok_and(&is_gone));
            let entry = self.write(None, file.level, false, kept)?;
            let written = entry.as_ref().map_or((0, Sum::default()), |entry| (entry.rows, entry.row_hash));
            if (written.0 + gone.0, [written.1, gone.1].into_iter().sum()) != (file.rows, file.row_hash) {
                return Err(damaged(&path, OTHER_ROWS));
            }
            self.replace(Table::Versions, std::slice::from_ref(file), entry)?;
        }
        if left > 0 {
            return Err(damaged(&dir, &format!("{left} rows are in no file that late events change")));
        }
        Ok(())
    }

    /// Merges neighbours until no level has too many files; gives whether there was something to do.
    pub(super) fn compact(&mut self) -> Result<bool> {
        let events = self.compact_table::<EventRow>()?;
        let history = self.compact_table::<VersionRow>()?;
        Ok(events || history)
    }

    fn compact_table<R: Row>(&mut self) -> Result<bool> {
        let mut is_changed = false;
        while let Some(run) = self.next_run(R::TABLE) {
            is_changed = true;
            let bytes_max = self.options.file_bytes_max;
            let is_full = run.iter().map(|file| file.bytes).sum::<u64>() > bytes_max;
            for group in groups(run, bytes_max) {
                let Some(level) = group.first().map(|file| file.level) else { continue };
                let level = if is_full { FULL } else { level.saturating_add(1) };
                if let [file] = group.as_slice() {
                    let mut entries = self.tables.get_mut(R::TABLE).files.iter_mut();
                    entries.by_ref().filter(|entry| *entry == file).for_each(|entry| entry.level = level);
                } else {
                    self.merge::<R>(&group, level)?;
                }
            }
        }
        Ok(is_changed)
    }

    /// The oldest neighbours of a level that are as many as are merged.
    fn next_run(&self, table: Table) -> Option<Vec<FileEntry>> {
        let files: Vec<&FileEntry> =
            self.tables.get(table).files.iter().filter(|file| file.bucket.is_none()).collect();
        let run = files
            .chunk_by(|a, b| a.level == b.level)
            .find(|run| run.len() >= self.options.merge_files && run.iter().all(|file| file.level != FULL))?;
        Some(run.iter().take(self.options.merge_files).map(|file| (*file).clone()).collect())
    }

    fn merge<R: Row>(&mut self, group: &[FileEntry], level: u8) -> Result<()> {
        let dir = self.dir(R::TABLE);
        let inputs = group.iter().map(|file| Rows::<R>::open(&dir.join(&file.path)));
        let rows = Merged::new(inputs.collect::<Result<_>>()?)?;
        let entry = self.write(None, level, false, rows)?;
        let written = entry.as_ref().map_or((0, Sum::default()), |entry| (entry.rows, entry.row_hash));
        let wanted: (u64, Sum) =
            (group.iter().map(|file| file.rows).sum(), group.iter().map(|file| file.row_hash).sum());
        if written != wanted {
            return Err(damaged(
                &dir,
                "the rows of files that were to be merged are not those that were written",
            ));
        }
        self.replace(R::TABLE, group, entry)
    }

    /// Gives every table a file, be it one without rows: a pattern of names that no file has is an error to most readers. And makes the
    /// typed tables of what the others have come to.
    pub(super) fn fill(&mut self, typings: &Typings) -> Result<()> {
        self.fill_table::<EventRow>()?;
        self.fill_table::<CurrentRow>()?;
        self.fill_table::<VersionRow>()?;
        self.make_typed(typings)
    }

    fn fill_table<R: Row>(&mut self) -> Result<()> {
        let entries = &self.tables.get(R::TABLE).files;
        let empty: Vec<FileEntry> = entries.iter().filter(|file| file.rows == 0).cloned().collect();
        if entries.is_empty() {
            let entry = self.write(None, 0, true, std::iter::empty::<Result<R>>())?;
            self.add(R::TABLE, entry);
        } else if entries.len() > 1 && !empty.is_empty() {
            let is_all = entries.len() == empty.len();
            let gone = empty.get(usize::from(is_all)..).unwrap_or_default().to_vec();
            self.replace(R::TABLE, &gone, None)?;
        }
        Ok(())
    }
}

/// The bucket of an entity; of `buckets`, which is a power of two.
pub(super) fn bucket_number(entity_id: &str, buckets: u32) -> u32 {
    let mask = u64::from(buckets.saturating_sub(1));
    u32::try_from(xxh64(entity_id.as_bytes(), 0) & mask).unwrap_or(0)
}

/// Neighbours whose bytes together are not too many; at least one.
fn groups(run: Vec<FileEntry>, bytes_max: u64) -> Vec<Vec<FileEntry>> {
    let mut groups: Vec<Vec<FileEntry>> = Vec::new();
    let mut bytes = 0;
    for file in run {
        bytes += file.bytes;
        match groups.last_mut() {
            Some(group) if bytes <= bytes_max => group.push(file),
            _ => {
                bytes = file.bytes;
                groups.push(vec![file]);
            }
        }
    }
    groups
}

/// By which an event is told from others of the same sequence.
fn hash_of(event: &EventRow) -> Sum {
    Sum(event.hash())
}

/// The next events behind a sequence and up to another one, that are on disk.
pub(super) fn read_chunk(
    store: &Store<Event>,
    after: u64,
    until: u64,
    events_max: usize,
    bytes_max: usize,
) -> Result<Vec<EventRow>> {
    let start = if after == 0 { Start::Beginning } else { Start::After(after) };
    let mut tail = store.tail(start);
    let mut events: Vec<EventRow> = Vec::new();
    let mut bytes = 0;
    while events.len() < events_max.max(1) && bytes < bytes_max.max(1) {
        let row = match tail.try_next() {
            // What was dropped stays in the files that have it.
            Err(DbError::Gap { first, last, events }) => {
                tracing::warn!(first, last, events, "events were dropped before they were published");
                continue;
            }
            row => row?,
        };
        let Some(row) = row.filter(|row| row.sequence() <= until) else { break };
        let event = EventRow::of_log(&row)?;
        bytes += event.bytes();
        events.push(event);
    }
    Ok(events)
}

/// The events of an entity up to a sequence, in the order of their sequences.
pub(super) fn read_entity(
    store: &Store<Event>,
    entity_type: &str,
    entity_id: &str,
    until: u64,
) -> Result<Vec<EventRow>> {
    let c = Event::cols();
    let until = i64::try_from(until).unwrap_or(i64::MAX);
    let of_entity = c.entity_type.eq(entity_type) & c.entity_id.eq(entity_id);
    let rows = store.query(of_entity & c.sequence.le(until)).rows()?;
    let mut events = rows.iter().map(EventRow::of_log).collect::<Result<Vec<_>>>()?;
    events.sort_by_key(|event| event.sequence);
    Ok(events)
}

/// Where all events of an entity are: in the log, and what was dropped from it in the files that were made of it.
struct Whole<'s> {
    store: &'s Store<Event>,
    until: u64,
    dir: PathBuf,
    published: Vec<FileEntry>,
}

impl Whole<'_> {
    /// The events of an entity in the order of their sequences: those of which its rows were made, and those that came. Without one of
    /// them what it was would be lost.
    fn read(&self, entity_type: &str, id: &str, known: u64, came: u64) -> Result<Vec<EventRow>> {
        let mut events = read_entity(self.store, entity_type, id, self.until)?;
        let wanted = known + came;
        if (events.len() as u64) < wanted {
            events.extend(self.read_published(entity_type, id)?);
            events.sort_by_key(|event| event.sequence);
            events.dedup_by_key(|event| event.sequence);
        }
        let found = events.len() as u64;
        if found < wanted {
            let what =
                format!("{entity_type} {id:?} has {found} of {wanted} events, and one of them came late");
            return Err(ServerError::Dropped { what });
        }
        if found > wanted {
            let what = format!("{entity_type} {id:?} has {found} events in the log, and rows of {wanted}");
            return Err(damaged(&self.dir, &what));
        }
        Ok(events)
    }

    fn read_published(&self, entity_type: &str, id: &str) -> Result<Vec<EventRow>> {
        let entity = Ids::from([(entity_type.to_owned(), BTreeSet::from([id.to_owned()]))]);
        let mut events = Vec::new();
        for file in &self.published {
            let path = self.dir.join(&file.path);
            if has_entity(&path, &entity)? {
                for event in Rows::<EventRow>::open(&path)? {
                    let event = event?;
                    if event.entity_type == entity_type && event.entity_id == id {
                        events.push(event);
                    }
                }
            }
        }
        Ok(events)
    }
}

/// How a log shows that it is not the one of which rows up to a checkpoint were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// It has another event in the place of the last one.
    Other,
    /// It ends before that one: an older copy, or another log.
    Shorter,
    /// It has later ones, not that one, and does not say that it has dropped it: another log, or the same, which lost it.
    Lacking,
}

/// `None` where nothing says so. What the last event was is told by its sequence alone where its hash is not known.
fn difference(store: &Store<Event>, checkpoint: Checkpoint) -> Result<Option<Difference>> {
    let Checkpoint { sequence, hash } = checkpoint;
    if sequence == 0 {
        return Ok(None);
    }
    let mut tail = store.tail(Start::After(sequence - 1));
    let mut is_dropped = false;
    let found = loop {
        match tail.try_next() {
            Err(DbError::Gap { first, .. }) => is_dropped |= first <= sequence,
            found => break found?,
        }
    };
    Ok(match found {
        Some(found) if found.sequence() == sequence => {
            let is_same = hash == Sum::default() || hash_of(&EventRow::of_log(&found)?) == hash;
            (!is_same).then_some(Difference::Other)
        }
        _ if is_dropped => None,
        // Where a log ends is where its last event is: each time that it is opened its sequences go on far behind that.
        None => Some(Difference::Shorter),
        Some(_) => Some(Difference::Lacking),
    })
}

/// Why a log is not the one of which rows up to a checkpoint were made; `None` where nothing says so.
pub(super) fn differs(store: &Store<Event>, checkpoint: Checkpoint) -> Result<Option<String>> {
    const MADE_ANEW: &str = "`keplor replay` makes all files anew from the one that is there, unless that has dropped some of its events; \
         the published events that it does not have are lost by that";
    const OWN_ROOT: &str =
        "`keplor backup` and `restore` give the one that is there a root of its own, without published files";
    Ok(difference(store, checkpoint)?.map(|difference| {
        let (place, instead) = match difference {
            Difference::Other => ("is another one in the log", MADE_ANEW),
            Difference::Shorter => ("the log does not have", MADE_ANEW),
            Difference::Lacking => ("the log does not have, and it has later ones", OWN_ROOT),
        };
        format!(
            "its rows go up to an event {} that {place}: nothing is published of it. Bring back the log of which they were made; or {instead}",
            checkpoint.sequence
        )
    }))
}

/// Refuses to make anew from a log what that no longer has: of the events up to a checkpoint so many rows were made. They are counted
/// whatever the log says of what it has dropped: a manifest of the engine that was made anew does not know it any more, and then the
/// published rows are all that there is of these events.
///
/// A log that is another one, has its first event, and says of none that it was dropped, is another matter: an older copy, or another's,
/// which who asks for a replay wants. To have the first event is not enough: what age drops may lie between others by their sequences.
pub(super) fn check_replay(store: &Store<Event>, checkpoint: Checkpoint, rows: u64) -> Result<()> {
    let (last, c) = (i64::try_from(checkpoint.sequence).unwrap_or(i64::MAX), Event::cols());
    let count_of = |filter| store.query(filter).select((count(),)).one().map(|(found,)| found);
    let found = count_of(c.sequence.le(last))?;
    if found >= rows {
        return Ok(());
    }
    let is_other = matches!(difference(store, checkpoint)?, Some(Difference::Other | Difference::Shorter));
    if is_other && count_of(c.sequence.le(1))? > 0 && !has_gap(store, checkpoint.sequence)? {
        return Ok(());
    }
    Err(ServerError::Dropped { what: format!("the log has {found} of the {rows} events that are published") })
}

/// Likewise where it cannot be read of how many events there are rows, nor up to which.
pub(super) fn check_replay_of_unread(store: &Store<Event>) -> Result<()> {
    if has_gap(store, u64::MAX)? {
        let what = "the log has not all events, and how many are published cannot be read".to_owned();
        return Err(ServerError::Dropped { what });
    }
    Ok(())
}

/// Whether a log says that it has dropped some of the events up to a sequence.
fn has_gap(store: &Store<Event>, until: u64) -> Result<bool> {
    let mut tail = store.tail(Start::After(0));
    loop {
        match tail.try_next() {
            Err(DbError::Gap { first, .. }) if first <= until => return Ok(true),
            Err(DbError::Gap { .. }) => {}
            found => return found.map(|_| false).map_err(ServerError::from),
        }
    }
}
