//! A published lake as a statement reads it: one manifest, and the files that it names, for as long as the statement lasts.
//!
//! Nothing is locked: the files of a manifest have second names in its generation, which stay for the [grace](super::LakeOptions::grace)
//! after another one took its place. A statement that lasts longer than that finds a file missing and says so; put again, it reads
//! the newest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;

use super::draft::bucket_number;
use super::manifest::{FOLD_VERSION, FileEntry, Manifest, Table};
use super::overlay::OverlayError;
use super::parquet::{Ids, Rows, has_entity};
use super::publication::{GENERATIONS, LIVE, second_name};
use super::rows::{CurrentRow, EventRow, Row as _, VersionRow};
use super::state::{Origin, origin};
use crate::entity::LogInstant;
use crate::error::ServerError;
use crate::log::{EntityLog, Selection};

/// How often the newest is looked for, where it goes away while it is opened.
const TRIES: u32 = 5;

/// Which rows of a table are asked for; `None` is all. Files are left out by it, rows are not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) types: Option<BTreeSet<String>>,
    pub(crate) ids: Option<BTreeSet<String>>,
}

impl Wanted {
    /// Whether no row can be meant.
    pub(crate) fn is_nothing(&self) -> bool {
        [&self.types, &self.ids].into_iter().flatten().any(BTreeSet::is_empty)
    }

    /// Whether an entity's rows are.
    pub(super) fn has(&self, entity_type: &str, entity_id: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(entity_type))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(entity_id))
    }

    pub(super) fn selection(&self) -> Selection {
        let all = |set: &Option<BTreeSet<String>>| set.iter().flatten().cloned().collect();
        Selection { entity_types: all(&self.types), entity_ids: all(&self.ids) }
    }
}

/// One published lake.
#[derive(Debug)]
pub(crate) struct PinnedLake {
    generation: PathBuf,
    manifest: Manifest,
}

impl PinnedLake {
    /// The one that is published now; one without rows where nothing is, or where other rules made its rows.
    ///
    /// # Errors
    /// [`Lake`](ServerError::Lake) where it goes away again and again, or a newer program has written it; [`Io`](ServerError::Io).
    pub(crate) fn open(root: &Path) -> Result<Self, ServerError> {
        let live = root.join(LIVE);
        for _ in 0..TRIES {
            let Ok(target) = std::fs::read_link(&live) else { return Ok(Self::nothing()) };
            let number = target.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(number) = number else { return Ok(Self::nothing()) };
            let generation = root.join(GENERATIONS).join(target.file_name().unwrap_or_default());
            let manifest = Manifest::numbered(&root.join("_meta"), number)?;
            let Some(manifest) = manifest.filter(|_| generation.is_dir()) else { continue };
            if manifest.fold_version != FOLD_VERSION {
                return Ok(Self::nothing());
            }
            return Ok(Self { generation, manifest });
        }
        let what = "what it points to is not there; publish, or replay, and ask again".to_owned();
        Err(ServerError::Lake { file: live, what })
    }

    /// Whether its rows were made of a log, as the last event of which there are some tells. What was dropped from the log stays in the
    /// files that have it, so these are its own where it says that it dropped that event.
    ///
    /// # Errors
    /// [`Unknown`](OverlayError::Unknown) where the log has later events and not that one, and has not dropped it, so that nothing tells.
    pub(crate) fn is_of(&self, log: &EntityLog, head: Option<u64>) -> Result<bool, OverlayError> {
        let checkpoint = self.manifest.checkpoint();
        match origin(log, checkpoint)? {
            Origin::Same => Ok(true),
            Origin::Other => Ok(false),
            Origin::Missing if head.is_none_or(|head| head < checkpoint.sequence) => Ok(false),
            Origin::Missing => Err(OverlayError::Unknown { checkpoint_seq: checkpoint.sequence }),
        }
    }

    /// One in which nothing is.
    pub(crate) fn nothing() -> Self {
        Self { generation: PathBuf::new(), manifest: Manifest::empty() }
    }

    /// The last event whose rows are there; `None` before the first.
    pub(crate) fn checkpoint(&self) -> Option<u64> {
        Some(self.manifest.checkpoint_seq).filter(|sequence| *sequence > 0)
    }

    /// How many events are published.
    pub(super) fn events(&self) -> u64 {
        self.manifest.tables.events.rows()
    }

    /// The files that have the last version of each of some entities of a type.
    pub(super) fn frontiers(&self, entity_type: &str, ids: &BTreeSet<String>) -> Vec<PathBuf> {
        let buckets = self.manifest.tables.current.buckets.get(entity_type).copied().unwrap_or(1);
        let numbers: BTreeSet<u32> = ids.iter().map(|id| bucket_number(id, buckets)).collect();
        let has = |file: &&FileEntry| {
            let bucket = file.bucket.as_ref();
            bucket.is_some_and(|bucket| bucket.entity_type == entity_type && numbers.contains(&bucket.number))
        };
        let dir = self.generation.join(Table::Versions.name());
        self.manifest
            .tables
            .versions
            .files
            .iter()
            .filter(has)
            .map(|file| dir.join(self.name_of(file)))
            .collect()
    }

    /// The types of which there are rows.
    pub(crate) fn types(&self) -> impl Iterator<Item = &str> {
        self.manifest.tables.current.buckets.keys().map(String::as_str)
    }

    /// Those files of events that meet a condition, in the order of their sequences: of no two these overlap.
    pub(super) fn event_files(&self, has: impl Fn(&FileEntry) -> bool) -> Vec<PathBuf> {
        let mut files: Vec<&FileEntry> =
            self.manifest.tables.events.files.iter().filter(|file| file.rows > 0 && has(file)).collect();
        files.sort_unstable_by_key(|file| file.seq_min);
        let dir = self.generation.join(Table::Events.name());
        files.into_iter().map(|file| dir.join(self.name_of(file))).collect()
    }

    /// Gives the published events of some entities of a type, also those that the log has dropped.
    ///
    /// Cost: a look at the filters of each file of events, and all rows of those that may have such an event.
    pub(super) fn each_event_of<E: From<ServerError>>(
        &self,
        entity_type: &str,
        ids: &BTreeSet<String>,
        go_on: impl Fn() -> Result<(), E>,
        mut each: impl FnMut(EventRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let entities = Ids::from([(entity_type.to_owned(), ids.clone())]);
        for path in self.event_files(|_| true) {
            go_on()?;
            if !has_entity(&path, &entities)? {
                continue;
            }
            for event in Rows::<EventRow>::open(&path)? {
                go_on()?;
                let event = event?;
                if event.entity_type == entity_type && ids.contains(&event.entity_id) {
                    each(event)?;
                }
            }
        }
        Ok(())
    }

    /// The name of a file in its generation.
    fn name_of(&self, file: &FileEntry) -> String {
        second_name(self.manifest.n, &file.path)
    }

    /// The files of a table that may have rows that are wanted at an instant, with their lengths in bytes.
    pub(crate) fn files(&self, table: Table, at: &LogInstant, wanted: &Wanted) -> Vec<(PathBuf, u64)> {
        let files = self.manifest.tables.get(table);
        let has = |file: &FileEntry| {
            if file.rows == 0 || wanted.is_nothing() {
                return false;
            }
            // Of `_current` the time is that of the last event, and nothing is left out by an instant.
            if table != Table::Current && at.instant.as_of_ms.is_some_and(|as_of_ms| file.time_min > as_of_ms)
            {
                return false;
            }
            if table == Table::Events && at.sequence.is_some_and(|last| file.seq_min > last) {
                return false;
            }
            let Some(bucket) = &file.bucket else { return true };
            if wanted.types.as_ref().is_some_and(|types| !types.contains(&bucket.entity_type)) {
                return false;
            }
            let buckets = self.manifest.tables.current.buckets.get(&bucket.entity_type).copied().unwrap_or(1);
            let ids = wanted.ids.as_ref();
            ids.is_none_or(|ids| ids.iter().any(|id| bucket_number(id, buckets) == bucket.number))
        };
        let dir = self.generation.join(table.name());
        let wanted = files.files.iter().filter(|file| has(file));
        wanted.map(|file| (dir.join(self.name_of(file)), file.bytes)).collect()
    }
}

impl Table {
    /// The columns of its files.
    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Self::Events => EventRow::schema(),
            Self::Current => CurrentRow::schema(),
            Self::Versions => VersionRow::schema(),
        }
    }
}
