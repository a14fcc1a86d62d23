//! What is published of a root, as whoever looks at it beside its server sees it. Nothing is made, changed or removed.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::manifest::{Checkpoint, FOLD_VERSION, Manifest, Sum};
use super::publication::Root;
use super::rows::{EventRow, Row as _};
use super::{Files, Result};
use crate::error::{self, Refused, ServerError};
use crate::layout;
use crate::log::EntityLog;
use crate::record::Event;

/// How often a lake is looked at that is not as it should be: a server may be publishing the next one.
const TRIES: u32 = 5;
/// And after which pause.
const PAUSE: Duration = Duration::from_millis(100);

/// What is published of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LakeState {
    /// The number of the newest manifest; 0 where none can be read.
    pub n: u64,
    /// The sequence of the last event whose rows are there; 0 before the first.
    pub checkpoint_seq: u64,
    /// How many events have rows there.
    pub events: u64,
    /// Files of all tables.
    pub files: u64,
    /// Their bytes, without those of files that were replaced and stay for a while.
    pub bytes: u64,
    /// Whether the links that other programs follow lead to these files. Between a publication's commit and its end they lead to the one
    /// before; what a crash leaves there is mended when the lake is opened.
    pub is_live: bool,
    /// Why nothing can be added to the files, and only a [replay](super::Lake::replay) helps; or, of those of a type's table, the next
    /// publication. It is known from their names and lengths; what is in them is looked at by [`check`](super::Lake::check).
    pub damage: Option<String>,
    /// Whether a newer program has made the rows, by rules that this one does not know; that is their `damage` then.
    pub is_newer: bool,
    checkpoint: Checkpoint,
}

/// Whether the rows of a lake were made of a log, as the last event of which there are some tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nothing says otherwise: the log has that event, or has dropped it by age or size, and what was dropped stays in the files.
    Same,
    /// The log has another event in its place.
    Other,
    /// The log does not have it, and has not dropped it.
    Missing,
}

impl LakeState {
    /// Looks at a root, also beside its server; `None` where nothing was ever published.
    ///
    /// Cost: the newest manifest, and a look at the length of each file that it names. Half a second more where something is wrong with it,
    /// since that may be a publication under way.
    ///
    /// # Errors
    /// [`NoRoot`](ServerError::NoRoot) for a directory that no server has made; else as [`Lake::open`](super::Lake::open).
    pub fn beside(root: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = root.as_ref();
        if !layout::is_root(path) {
            return Err(ServerError::NoRoot { dir: path.to_owned() });
        }
        let root = Root { path: path.to_owned(), files: Files::default() };
        let mut tries = 1;
        loop {
            // What is found may go while it is looked at, which is an error then.
            let found = Self::look(&root);
            let is_sound = match &found {
                Ok(None) => true,
                Ok(Some(state)) => state.damage.is_none() && state.is_live,
                Err(_) => false,
            };
            if tries == TRIES || is_sound {
                return found;
            }
            tries += 1;
            thread::sleep(PAUSE);
        }
    }

    fn look(root: &Root) -> Result<Option<Self>> {
        root.check_own()?;
        let newest = Manifest::newest(&root.meta())?;
        if newest.is_none() && !root.was_published()? {
            return Ok(None);
        }
        Self::of(root, newest.as_ref()).map(Some)
    }

    /// Whether the rows were made of a log.
    ///
    /// Cost: a search for one event.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn origin(&self, log: &EntityLog) -> error::Result<Origin> {
        origin(log, self.checkpoint)
    }

    fn of(root: &Root, newest: Option<&Manifest>) -> Result<Self> {
        let damage = damage(root, newest);
        let empty = Manifest::empty();
        let manifest = newest.unwrap_or(&empty);
        let places = manifest.tables.places();
        let files = || places.iter().flat_map(|place| place.files);
        let is_live = newest.is_some() && root.is_live(manifest)?;
        Ok(Self {
            n: manifest.n,
            checkpoint_seq: manifest.checkpoint_seq,
            events: manifest.tables.events.rows(),
            files: files().count() as u64,
            bytes: files().map(|file| file.bytes).sum(),
            is_live,
            damage,
            is_newer: manifest.fold_version > FOLD_VERSION,
            checkpoint: manifest.checkpoint(),
        })
    }
}

/// Whether rows up to a checkpoint were made of a log.
pub(super) fn origin(log: &EntityLog, checkpoint: Checkpoint) -> error::Result<Origin> {
    let Checkpoint { sequence, hash } = checkpoint;
    if sequence == 0 {
        return Ok(Origin::Same);
    }
    let at = i64::try_from(sequence).unwrap_or(i64::MAX);
    let found = log.query(Event::cols().sequence.eq(at)).rows().map_err(|error| Refused::from(&error))?;
    if let Some(found) = found.first() {
        let unread = |error: ServerError| Refused::Failed { what: error.to_string() };
        let is_same = hash == Sum::default() || Sum(EventRow::of_log(found).map_err(unread)?.hash()) == hash;
        return Ok(if is_same { Origin::Same } else { Origin::Other });
    }
    let is_dropped = log.gaps().iter().any(|gap| gap.first <= sequence && sequence <= gap.last);
    Ok(if is_dropped { Origin::Same } else { Origin::Missing })
}

/// Why nothing can be added to the files of the newest manifest, which there should be.
pub(super) fn damage(root: &Root, newest: Option<&Manifest>) -> Option<String> {
    let Some(manifest) = newest else {
        return Some("none of its manifests can be read; a replay makes the files anew".to_owned());
    };
    if manifest.fold_version != FOLD_VERSION {
        return Some(format!(
            "its rows were made by rules of version {}, this program's are {FOLD_VERSION}; replay",
            manifest.fold_version
        ));
    }
    root.check_files(manifest).err().map(|lost| lost.to_string())
}
