//! The lake: all events, what every entity is and what it was, as Parquet files that other programs read without the server.
//!
//! It is derived from the log: any of its files may be lost, and a [replay](Lake::replay) makes them anew with the same rows. It must
//! not know how events come in. `rows` says which columns the tables have, `entities` which rows an event makes, `draft` how they become
//! files, `publication` how files become what readers see. `typed` are tables of each type of a schema, with a column for each field.

mod check;
mod columns;
mod draft;
mod entities;
mod files;
mod manifest;
#[cfg(feature = "sql")]
mod overlay;
mod parquet;
#[cfg(feature = "sql")]
mod pinned;
mod publication;
mod rows;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod typed;

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keplordb::{Start, Store};

pub use self::check::{LakeCheck, TableCheck};
use self::draft::{Draft, check_replay, check_replay_of_unread, differs};
use self::files::Files;
#[cfg(feature = "sql")]
pub(crate) use self::manifest::Table as LakeTable;
use self::manifest::{Checkpoint, Manifest, TYPED_PARTS, Tables};
#[cfg(feature = "sql")]
pub use self::overlay::OverlayError;
#[cfg(feature = "sql")]
pub(crate) use self::overlay::{
    Overlay, OverlayLimits, Question, Touched, Work, check_missing, each_dropped, overlay,
};
#[cfg(feature = "sql")]
pub(crate) use self::pinned::{PinnedLake, Wanted};
use self::publication::Root;
pub use self::state::{LakeState, Origin};
use self::typed::{Typings, typings_of};
use crate::error::ServerError;
use crate::record::Event;
use crate::schema::Schemas;

type Result<T> = std::result::Result<T, ServerError>;

/// Chunks of events after which what was made of them is committed: an attempt that fails later goes on from there.
const COMMIT_CHUNKS: usize = 16;

/// How the lake is made; what matters is in the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LakeOptions {
    /// Bytes of a file of entities after which its type gets twice as many (64 MiB), also where it takes eight times as many in memory.
    /// A publication rewrites each file of which it touches an entity: smaller ones cost less of that, and are more.
    pub bucket_bytes_max: u64,
    /// Bytes of events that are held in memory at a time, and of rows that they make (64 MiB).
    pub chunk_bytes: usize,
    /// Events that are held in memory at a time (100,000).
    pub chunk_events: usize,
    /// Neighbouring files that are merged into one (8; at least 2): each level has fewer.
    pub merge_files: usize,
    /// Bytes above which files are not merged any more (512 MiB).
    pub file_bytes_max: u64,
    /// How long files that were replaced stay for whoever reads them (10 min).
    pub grace: Duration,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            bucket_bytes_max: 64 << 20,
            chunk_bytes: 64 << 20,
            chunk_events: 100_000,
            merge_files: 8,
            file_bytes_max: 512 << 20,
            grace: Duration::from_mins(10),
        }
    }
}

impl LakeOptions {
    /// See [`bucket_bytes_max`](Self::bucket_bytes_max).
    #[must_use]
    pub fn with_bucket_bytes_max(self, bucket_bytes_max: u64) -> Self {
        Self { bucket_bytes_max, ..self }
    }

    /// See [`chunk_bytes`](Self::chunk_bytes).
    #[must_use]
    pub fn with_chunk_bytes(self, chunk_bytes: usize) -> Self {
        Self { chunk_bytes, ..self }
    }

    /// See [`chunk_events`](Self::chunk_events).
    #[must_use]
    pub fn with_chunk_events(self, chunk_events: usize) -> Self {
        Self { chunk_events, ..self }
    }

    /// See [`merge_files`](Self::merge_files).
    #[must_use]
    pub fn with_merge_files(self, merge_files: usize) -> Self {
        Self { merge_files: merge_files.max(2), ..self }
    }

    /// See [`file_bytes_max`](Self::file_bytes_max).
    #[must_use]
    pub fn with_file_bytes_max(self, file_bytes_max: u64) -> Self {
        Self { file_bytes_max, ..self }
    }

    /// See [`grace`](Self::grace).
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The number of its manifest.
    pub n: u64,
    /// Events that were taken.
    pub events: u64,
    /// The sequence of the last event whose rows are there.
    pub checkpoint_seq: u64,
}

/// The lake of a root. Whoever has it open must hold the lock of the root's log: a second one would not know of its files.
#[derive(Debug)]
pub struct Lake {
    root: Root,
    options: LakeOptions,
    /// The newest that is committed.
    manifest: Manifest,
    /// Whether something failed after which only the directory says what is committed.
    is_unsure: bool,
    /// Why nothing can be added to the files that are there.
    damage: Option<String>,
    /// Types of whose tables files are lost or damaged. They are made of those of `_current` and `_versions` and nothing else, so the next
    /// publication makes them anew, whatever the log still has; until then readers see what is published.
    lost: BTreeSet<String>,
    /// Whether the log is known to be the one of which the rows were made.
    is_of_log: bool,
    /// Whether what is under way is to end without a result.
    stop: Arc<AtomicBool>,
}

impl Lake {
    /// Opens the lake of a root, or makes it, and finishes a publication that a crash stopped.
    ///
    /// # Errors
    /// [`Io`](ServerError::Io); [`Lake`](ServerError::Lake) when a newer program has written it;
    /// [`Foreign`](ServerError::Foreign) when something else is in its place, and then nothing is changed. Files that are lost are no
    /// error here: see [`damage`](Self::damage).
    pub fn open(root: impl AsRef<Path>, options: LakeOptions) -> Result<Self> {
        Self::open_with(root.as_ref(), options, Files::default())
    }

    fn open_with(root: &Path, options: LakeOptions, files: Files) -> Result<Self> {
        let root = Root { path: root.to_owned(), files };
        let mut lake = Self {
            root,
            options,
            manifest: Manifest::empty(),
            is_unsure: true,
            damage: None,
            lost: BTreeSet::new(),
            is_of_log: false,
            stop: Arc::default(),
        };
        lake.recover()?;
        Ok(lake)
    }

    /// Ends what is under way, soon and with [`Stopping`](ServerError::Stopping), when a flag is set.
    #[must_use]
    pub(crate) fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Takes what the directory says, and makes what readers see from it.
    fn recover(&mut self) -> Result<()> {
        self.root.check_own()?;
        self.root.create()?;
        self.damage = None;
        let newest = Manifest::newest(&self.root.meta())?;
        let is_there = newest.is_some();
        let is_expected = is_there || self.root.was_published()?;
        self.manifest = newest.unwrap_or_else(Manifest::empty);
        // First, for the room that it may give.
        self.gc_or_warn();
        let typed = self.manifest.tables.typed.iter();
        let is_lost = typed.filter(|(_, table)| !self.root.has_files(table));
        self.lost = is_lost.map(|(entity_type, _)| entity_type.clone()).collect();
        let mut whole = self.manifest.clone();
        whole.tables.typed.retain(|entity_type, _| !self.lost.contains(entity_type));
        if is_expected {
            self.damage = state::damage(&self.root, is_there.then_some(&whole));
        }
        if self.damage.is_some() {
            // What is published stays as it is.
        } else if self.root.is_foreign(&self.manifest)?
            // What is lost has no second name to be given, unless it has it.
            || (!self.lost.is_empty() && !self.root.is_live(&self.manifest)?)
        {
            // A directory that may be read is not changed: the same lake gets another number.
            self.commit(whole.tables, self.manifest.checkpoint(), self.manifest.schema_version, None)?;
        } else if self.manifest.n > 0 {
            self.root.publish(&self.manifest)?;
        }
        self.is_unsure = false;
        Ok(())
    }

    /// Why nothing can be added to the files that are there, and only a [replay](Self::replay) helps; `None` when they are sound as far
    /// as their lengths tell and what was read of them. What was published stays as it was. Files of types' tables are none of these: they
    /// are made of the others, and what is lost of them the next [publication](Self::publish) makes.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The sequence of the last event whose rows are there; 0 before the first.
    pub fn checkpoint_seq(&self) -> u64 {
        self.manifest.checkpoint_seq
    }

    /// Takes all events that came since the last time and are on disk, and publishes their rows at once; `None` when there were none, and
    /// the newest schema has no other columns. Tables of types that it gives other columns are made after that, some at a time, each as a
    /// whole; what comes meanwhile is published in between, and waits until then.
    ///
    /// After an error a beginning of them is published, all tables to the same event; the next call goes on from there.
    ///
    /// # Errors
    /// [`Io`](ServerError::Io), also of a full disk; [`Lake`](ServerError::Lake) and [`Parquet`](ServerError::Parquet) when a file is
    /// [damaged](Self::damage), and when the log is not the one of which the rows were made; [`Event`](ServerError::Event) and
    /// [`Db`](ServerError::Db) when the log is damaged;
    /// [`Dropped`](ServerError::Dropped) when it no longer has what is needed; [`Stopping`](ServerError::Stopping).
    pub fn publish(&mut self, store: &Store<Event>, schemas: &Schemas) -> Result<Option<Published>> {
        self.ready()?;
        self.check_log(store)?;
        let schema_version = newest(schemas);
        let typings = typings_of(schemas.newest().map(Arc::as_ref));
        let mut published = self.publish_events(store, schema_version)?;
        while let Some(next) = self.manifest.tables.next_typings(&typings) {
            let before = self.manifest.tables.typings();
            let made: Vec<&str> = next
                .iter()
                .filter(|(entity_type, typing)| before.get(*entity_type) != Some(*typing))
                .map(|(entity_type, _)| entity_type.as_str())
                .collect();
            let draft = self.draft(self.manifest.tables.clone(), self.manifest.checkpoint());
            self.commit_draft(draft, schema_version, &next)?;
            if !made.is_empty() {
                let types = made.join(", ");
                tracing::info!(
                    types,
                    schema_version,
                    "the tables of types have the columns of the newest schema"
                );
            }
            let meanwhile = self.publish_events(store, schema_version)?;
            published = Some(published.unwrap_or(0) + meanwhile.unwrap_or(0));
        }
        self.gc_or_warn();
        Ok(published.map(|events| self.published(events)))
    }

    /// Publishes events that came, with the typed tables that are there; how many, or `None` when nothing was to be done.
    fn publish_events(&mut self, store: &Store<Event>, schema_version: u32) -> Result<Option<u64>> {
        // What comes meanwhile is for the next time: as long as events come, there would be no end.
        let until = store.tail(Start::Now).position();
        let typings = self.manifest.tables.typings();
        let mut published = None;
        loop {
            let mut draft = self.draft(self.manifest.tables.clone(), self.manifest.checkpoint());
            let events = self.noted(draft.take(store, until, COMMIT_CHUNKS))?;
            if events == 0 && self.manifest.n > 0 {
                return Ok(published);
            }
            self.commit_draft(draft, schema_version, &typings)?;
            published = Some(published.unwrap_or(0) + events);
        }
    }

    /// Makes all files anew from the log and publishes them at once; until then what was published stays. That the log is another one than
    /// that of which they were made is for who asks to know.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), but for files that are damaged, and for another log.
    pub fn replay(&mut self, store: &Store<Event>, schemas: &Schemas) -> Result<Published> {
        if self.is_unsure {
            self.recover()?;
        }
        self.root.check_own()?;
        self.root.create()?;
        if self.manifest.n > 0 {
            check_replay(store, self.manifest.checkpoint(), self.manifest.tables.events.rows())?;
        } else if self.damage.is_some() {
            check_replay_of_unread(store)?;
        }
        let mut draft = self.draft(Tables::default(), Checkpoint::default());
        let events = draft.take(store, store.tail(Start::Now).position(), usize::MAX)?;
        draft.compact()?;
        self.commit_draft(draft, newest(schemas), &typings_of(schemas.newest().map(Arc::as_ref)))?;
        self.damage = None;
        self.is_of_log = true;
        Ok(self.published(events))
    }

    /// As [`replay`](Self::replay), where nobody asked for it: only of the log of which the rows were made, as far as its last published
    /// event tells, and only where that has all of them.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), but for files that are damaged.
    pub(crate) fn remake(&mut self, store: &Store<Event>, schemas: &Schemas) -> Result<Published> {
        if self.is_unsure {
            self.recover()?;
        }
        if self.manifest.n == 0
            && let Some(what) = &self.damage
        {
            // Nothing says which log it was.
            return Err(ServerError::Lake { file: self.root.lake(), what: what.clone() });
        }
        // The wrong log may have been put in place of the right one, and what is published may be all that there is of that.
        self.check_log(store)?;
        self.replay(store, schemas)
    }

    /// Merges files where they are many, and publishes that; gives whether there was something to do. No row changes.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn compact(&mut self) -> Result<bool> {
        self.ready()?;
        let mut draft = self.draft(self.manifest.tables.clone(), self.manifest.checkpoint());
        if !self.noted(draft.compact())? {
            return Ok(false);
        }
        let typings = self.manifest.tables.typings();
        self.commit_draft(draft, self.manifest.schema_version, &typings).map(|()| true)
    }

    /// Compares all rows with those that the log's events up to the checkpoint make. Memory: what is live and the last version of each
    /// entity. Files that it finds damaged are [`damage`](Self::damage) from then on; those of a type's table the next
    /// [publication](Self::publish) makes anew.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), but for files that are damaged: they are in what it gives, unless it cannot be read which there are.
    /// [`Dropped`](ServerError::Dropped) where the log no longer has all events of which the rows were made.
    pub fn check(&mut self, store: &Store<Event>) -> Result<LakeCheck> {
        if self.is_unsure {
            self.recover()?;
        }
        // What readers see no manifest says then, and nothing would be compared.
        if self.manifest.n == 0
            && let Some(what) = &self.damage
        {
            return Err(ServerError::Lake { file: self.root.lake(), what: what.clone() });
        }
        // With another log there is nothing to compare, and nobody is to be told to make the files anew from it.
        if let Some(what) = differs(store, self.manifest.checkpoint())? {
            return Err(ServerError::Lake { file: self.root.lake(), what });
        }
        let check = check::check(store, &self.root, &self.manifest)?;
        let mut damaged: Vec<&str> = Vec::new();
        for table in check.tables.iter().filter(|table| !table.damaged.is_empty()) {
            let mut typed = self.manifest.tables.typed.iter();
            let of =
                typed.find(|(_, typed)| TYPED_PARTS.iter().any(|part| typed.place(*part) == table.table));
            match of {
                Some((entity_type, _)) => self.lost.extend([entity_type.clone()]),
                None => damaged.extend(table.damaged.iter().map(String::as_str)),
            }
        }
        if !damaged.is_empty() {
            self.damage = Some(format!("{} have other rows than were written", damaged.join(", ")));
        }
        Ok(check)
    }

    /// Removes what was replaced longer ago than [`grace`](LakeOptions::grace), and what a crash left. Opening and publishing do so too.
    ///
    /// # Errors
    /// [`Io`](ServerError::Io).
    pub fn gc(&mut self) -> Result<()> {
        if self.is_unsure {
            self.recover()?;
        }
        self.root.gc(&self.manifest, self.options.grace)
    }

    fn gc_or_warn(&self) {
        if let Err(error) = self.root.gc(&self.manifest, self.options.grace) {
            tracing::warn!(%error, "files that were replaced are not removed; the next publication tries again");
        }
    }

    fn ready(&mut self) -> Result<()> {
        if self.is_unsure {
            self.recover()?;
        }
        if let Some(what) = &self.damage {
            return Err(ServerError::Lake { file: self.root.lake(), what: what.clone() });
        }
        // What is made next is made of what is whole.
        let lost = std::mem::take(&mut self.lost);
        if !lost.is_empty() {
            tracing::warn!(types = ?lost, "files of types' tables are lost or damaged, and made anew of those of the others");
            self.manifest.tables.typed.retain(|entity_type, _| !lost.contains(entity_type));
        }
        Ok(())
    }

    /// Whether the log is the one of which the rows were made; looked at once.
    fn check_log(&mut self, store: &Store<Event>) -> Result<()> {
        if !self.is_of_log {
            if let Some(what) = differs(store, self.manifest.checkpoint())? {
                return Err(ServerError::Lake { file: self.root.lake(), what });
            }
            self.is_of_log = true;
        }
        Ok(())
    }

    /// Takes note of a file that is not as it was written: the next attempt would fail as this one did. What the disk refuses to read may
    /// be read the next time.
    fn noted<T>(&mut self, done: Result<T>) -> Result<T> {
        let lake = self.root.lake();
        let damage = done.as_ref().err().filter(|error| match error {
            ServerError::Lake { .. } => true,
            // One that is being written is none of what is there.
            ServerError::Parquet { file, .. } => file.extension().is_none_or(|extension| extension != "tmp"),
            ServerError::Io { file, source, .. } => {
                source.kind() == ErrorKind::NotFound && file.starts_with(&lake)
            }
            _ => false,
        });
        if let Some(damage) = damage {
            self.damage = Some(damage.to_string());
        }
        done
    }

    fn draft(&self, tables: Tables, checkpoint: Checkpoint) -> Draft {
        Draft {
            lake: self.root.lake(),
            files: self.root.files.clone(),
            options: self.options.clone(),
            tables,
            checkpoint,
            written: HashSet::new(),
            stop: Arc::clone(&self.stop),
        }
    }

    /// Publishes what a draft has come to: every table has a file.
    fn commit_draft(&mut self, mut draft: Draft, schema_version: u32, typings: &Typings) -> Result<()> {
        self.noted(draft.fill(typings))?;
        let tables = std::mem::take(&mut draft.tables);
        self.commit(tables, draft.checkpoint, schema_version, Some(draft))?;
        self.gc_or_warn();
        Ok(())
    }

    fn published(&self, events: u64) -> Published {
        Published { n: self.manifest.n, events, checkpoint_seq: self.manifest.checkpoint_seq }
    }

    fn commit(
        &mut self,
        mut tables: Tables,
        checkpoint: Checkpoint,
        schema_version: u32,
        draft: Option<Draft>,
    ) -> Result<()> {
        let prev = self.manifest.n;
        let n = self.root.next_number(prev)?;
        // Without a draft it is a lake of which second names were changed; others may do that at any time.
        tables.set_linked(&self.manifest.tables.typed, n, |table| {
            draft.is_some() && self.root.is_linked(table)
        });
        let manifest = Manifest::new(n, prev, checkpoint, schema_version, tables);
        // Whether a manifest whose writing failed is there after all only the directory knows.
        self.is_unsure = true;
        let committed = self.root.commit(&manifest);
        if let Some(mut draft) = draft
            && self.root.may_have(&manifest)
        {
            draft.keep();
        }
        committed?;
        self.manifest = manifest;
        self.lost.clear();
        self.root.publish(&self.manifest)?;
        self.is_unsure = false;
        Ok(())
    }
}

/// The number of the newest schema; 0 where there is none.
fn newest(schemas: &Schemas) -> u32 {
    schemas.newest().map_or(0, |schema| schema.version())
}
