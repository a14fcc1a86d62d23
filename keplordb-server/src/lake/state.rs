//! What is published of a root, as whoever looks at it beside its server sees it. Nothing is made, changed or removed.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::manifest::{FOLD_VERSION, Manifest};
use super::publication::Root;
use super::{Files, Result};
use crate::error::ServerError;
use crate::layout;

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
    /// Why nothing can be added to the files, and only a [replay](super::Lake::replay) helps. It is known from their names and lengths; what
    /// is in them is looked at by [`check`](super::Lake::check).
    pub damage: Option<String>,
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
        root.check_own()?;
        let mut tries = 1;
        loop {
            let newest = Manifest::newest(&root.meta())?;
            if newest.is_none() && !root.was_published()? {
                return Ok(None);
            }
            let state = Self::of(&root, newest.as_ref())?;
            if tries == TRIES || (state.damage.is_none() && state.is_live) {
                return Ok(Some(state));
            }
            tries += 1;
            thread::sleep(PAUSE);
        }
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
        })
    }
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
