//! How a lake becomes the published one, and how what came before goes.
//!
//! ```text
//! root/
//!   lake/{events,current,versions,typed}/    files, each written once
//!   _meta/manifest-<n>.json                  which of them are the lake
//!   .gen/<n>/{_events,…}/                    second names of exactly these
//!   .gen/typed-<m>-users/{current,versions}/ likewise of a typed table that changed with manifest m
//!   .gen/<n>/tables/users -> ../../typed-<m>-users
//!   .live -> .gen/<n>                        the one pointer that moves
//!   _events -> .live/_events                 what readers name, likewise the others
//!   tables -> .live/tables                   where a schema has types
//! ```
//!
//! Files first, then the manifest, which commits; the rest is made from it, again after a crash. A directory of `.gen` takes its name
//! when all is in it and is never changed, so a reader that has listed it has listed one lake; a file that it opens by that name after
//! the pointer has moved is not found. One that is removed loses its number first. Typed tables are as many as the schema has types, and few
//! of them change at a time: each has its second names in a directory of its own, which later generations lead to until it changes.
//!
//! Only what has a name that is made here is changed or removed.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::columns::damaged;
use super::files::{self, Files, temporary};
use super::manifest::{
    self, DIRS, FileEntry, Manifest, TABLES, TYPED, TYPED_PARTS, Table, TypedTable, canonical,
};
use super::parquet::is_name;
use crate::error::ServerError;

type Result<T> = std::result::Result<T, ServerError>;

pub(super) const GENERATIONS: &str = ".gen";
pub(super) const LIVE: &str = ".live";
/// What a generation's number follows when it is being removed.
const GONE: &str = "gone-";
/// What the name of a directory begins with that has the second names of a typed table.
const TYPED_LINKS: &str = "typed-";

/// The directories of a root that are the lake's.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) files: Files,
}

impl Root {
    pub(super) fn lake(&self) -> PathBuf {
        self.path.join("lake")
    }

    pub(super) fn meta(&self) -> PathBuf {
        self.path.join("_meta")
    }

    fn generations(&self) -> PathBuf {
        self.path.join(GENERATIONS)
    }

    fn generation(&self, n: u64) -> PathBuf {
        self.generations().join(n.to_string())
    }

    /// Refuses what others have put where the lake is to be.
    pub(super) fn check_own(&self) -> Result<()> {
        let foreign = |path: &Path, what: &str| {
            Err(ServerError::Foreign { path: path.to_owned(), what: what.to_owned() })
        };
        let dirs = DIRS.map(|dir| self.lake().join(dir));
        for dir in [self.lake(), self.generations()].iter().chain(&dirs) {
            match dir.symlink_metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return foreign(dir, "it is no directory, and should be one"),
                Err(source) => return Err(ServerError::Io { file: dir.clone(), op: "reading", source }),
            }
        }
        if !self.meta().is_dir() && self.meta().symlink_metadata().is_ok() {
            return foreign(&self.meta(), "it is no directory, and should be one");
        }
        for link in self.pointing() {
            for link in [temporary(&link), link] {
                if is_foreign_link(&link) {
                    return foreign(&link, "it should be a link to what is published");
                }
            }
        }
        Ok(())
    }

    /// The links that readers follow.
    fn pointing(&self) -> impl Iterator<Item = PathBuf> + use<'_> {
        Table::ALL.into_iter().map(Table::name).chain([TABLES, LIVE]).map(|name| self.path.join(name))
    }

    /// The number of the generation that readers see.
    fn live_number(&self) -> Option<u64> {
        number_of_target(&std::fs::read_link(self.path.join(LIVE)).ok()?)
    }

    /// Makes the directories that are not there.
    pub(super) fn create(&self) -> Result<()> {
        let dirs = DIRS.map(|dir| self.lake().join(dir));
        for dir in dirs.iter().chain(&[self.meta(), self.generations()]) {
            if !dir.is_dir() {
                self.files.create_dir(dir)?;
            }
        }
        self.files.sync_dir(&self.lake())?;
        self.files.sync_dir(&self.path)
    }

    /// Whether there is or was a manifest, so that one that cannot be read is lost.
    pub(super) fn was_published(&self) -> Result<bool> {
        let is_named = self.live_number().is_some() || !self.generation_numbers()?.is_empty();
        Ok(is_named || !manifest::numbers(&self.meta())?.is_empty())
    }

    /// The number of the next manifest: none that was there has it, nor the second names of any typed table.
    pub(super) fn next_number(&self, newest: u64) -> Result<u64> {
        let names = files::list(&self.generations())?;
        let linked = names.iter().filter_map(|name| number_of_links(name));
        let generations = self.generation_numbers()?;
        let manifests = manifest::numbers(&self.meta())?;
        Ok(linked.chain(generations).chain(manifests).fold(newest, u64::max) + 1)
    }

    fn generation_numbers(&self) -> Result<Vec<u64>> {
        let names = files::list(&self.generations())?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| canonical(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Whether each file that a manifest names is there with its length; the first that is not, otherwise.
    pub(super) fn check_files(&self, manifest: &Manifest) -> Result<()> {
        for place in manifest.tables.places() {
            for file in place.files {
                let path = self.lake().join(place.dir).join(&file.path);
                let bytes = path.metadata().map(|metadata| metadata.len());
                if bytes.as_ref().ok() != Some(&file.bytes) {
                    let found =
                        bytes.map_or_else(|error| error.to_string(), |bytes| format!("it has {bytes}"));
                    let what = format!("manifest {} names it with {} bytes: {found}", manifest.n, file.bytes);
                    return Err(damaged(&path, &what));
                }
            }
        }
        Ok(())
    }

    /// Whether each file of a typed table is there with its length.
    pub(super) fn has_files(&self, table: &TypedTable) -> bool {
        let dir = self.lake().join(TYPED);
        let has = |file: &FileEntry| {
            dir.join(&file.path).metadata().is_ok_and(|metadata| metadata.len() == file.bytes)
        };
        TYPED_PARTS.into_iter().all(|part| table.get(part).iter().all(has))
    }

    /// Whether the generation of a manifest, or what it would lead to, is another one than it says.
    pub(super) fn is_foreign(&self, manifest: &Manifest) -> Result<bool> {
        let generation = self.generation(manifest.n);
        let typed = || manifest.tables.typed.values();
        if !generation.is_dir() {
            // Its typed tables may have been there before it.
            let is_there = |table: &TypedTable| self.links(table).symlink_metadata().is_ok();
            return Ok(typed().any(|table| is_there(table) && !self.is_linked(table)));
        }
        for table in Table::ALL {
            let named = second_names(manifest.n, &manifest.tables.get(table).files);
            if files::list(&generation.join(table.name()))? != named {
                return Ok(true);
            }
        }
        let tables = generation.join(TABLES);
        let mut named: Vec<&str> = typed().map(|table| table.name.as_str()).collect();
        named.sort_unstable();
        if files::list(&tables)? != named {
            return Ok(true);
        }
        let is_led = |table: &TypedTable| {
            let target = std::fs::read_link(tables.join(&table.name));
            target.is_ok_and(|target| target == links_target(table)) && self.is_linked(table)
        };
        Ok(!typed().all(is_led))
    }

    /// The directory with the second names of a typed table.
    fn links(&self, table: &TypedTable) -> PathBuf {
        self.generations().join(links_name(table))
    }

    /// Whether the files of a typed table have their second names, and nothing else has one there.
    pub(super) fn is_linked(&self, table: &TypedTable) -> bool {
        let dir = self.links(table);
        let mut parts = TYPED_PARTS.map(Table::dir);
        parts.sort_unstable();
        dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
            && files::list(&dir).is_ok_and(|names| names == parts)
            && TYPED_PARTS.into_iter().all(|part| {
                let named = second_names(table.linked, table.get(part));
                files::list(&dir.join(part.dir())).is_ok_and(|names| names == named)
            })
    }

    /// Whether the links that readers follow lead to the files of a manifest.
    pub(super) fn is_live(&self, manifest: &Manifest) -> Result<bool> {
        let leads = |(name, target): (&str, PathBuf)| {
            std::fs::read_link(self.path.join(name)).is_ok_and(|there| there == target)
        };
        let is_pointed = pointers(manifest).all(leads);
        Ok(is_pointed && self.generation(manifest.n).is_dir() && !self.is_foreign(manifest)?)
    }

    /// Brings the names of new files to disk, and commits the manifest.
    pub(super) fn commit(&self, manifest: &Manifest) -> Result<()> {
        for dir in DIRS {
            self.files.sync_dir(&self.lake().join(dir))?;
        }
        manifest.write(&self.files, &self.meta())
    }

    /// Whether a manifest may have been committed, also if that failed.
    pub(super) fn may_have(&self, manifest: &Manifest) -> bool {
        let found = manifest::path_of(&self.meta(), manifest.n).symlink_metadata();
        !found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Makes the files of a committed manifest what readers see.
    pub(super) fn publish(&self, manifest: &Manifest) -> Result<()> {
        let generation = self.generation(manifest.n);
        if !generation.is_dir() {
            for table in manifest.tables.typed.values() {
                self.link_typed(table)?;
            }
            let draft = temporary(&generation);
            self.files.remove_dir(&draft)?;
            for place in manifest.tables.places().iter().filter(|place| place.linked.is_none()) {
                self.link_files((place.dir, place.files), manifest.n, &draft.join(&place.name))?;
            }
            if !manifest.tables.typed.is_empty() {
                let tables = draft.join(TABLES);
                self.files.create_dir(&tables)?;
                for table in manifest.tables.typed.values() {
                    self.files.lead(&tables.join(&table.name), &links_target(table))?;
                }
                self.files.sync_dir(&tables)?;
            }
            self.files.sync_dir(&draft)?;
            self.files.rename(&draft, &generation)?;
            self.files.sync_dir(&self.generations())?;
        }
        if let Some(before) = self.live_number().filter(|before| *before != manifest.n) {
            // From now on it is one that was replaced.
            self.files.touch(&self.generation(before))?;
        }
        for (name, target) in pointers(manifest) {
            self.point(&self.path.join(name), &target)?;
        }
        let tables = self.path.join(TABLES);
        if manifest.tables.typed.is_empty() && is_own_link(&tables) {
            // There are none any more, and it would point to nothing.
            self.files.remove(&tables)?;
        }
        Ok(())
    }

    /// Gives the files of a typed table second names, unless they have them since an earlier publication: a directory that has others is not
    /// named by what is committed ([`is_linked`](Self::is_linked)). Its own name is on disk with those of the generation.
    fn link_typed(&self, table: &TypedTable) -> Result<()> {
        let dir = self.links(table);
        if dir.is_dir() {
            return Ok(());
        }
        let draft = temporary(&dir);
        self.files.remove_dir(&draft)?;
        for part in TYPED_PARTS {
            self.link_files((TYPED, table.get(part)), table.linked, &draft.join(part.dir()))?;
        }
        self.files.sync_dir(&draft)?;
        self.files.rename(&draft, &dir)
    }

    /// Gives files of a directory of the lake second names in a new one.
    fn link_files(&self, (dir, files): (&str, &[FileEntry]), n: u64, links: &Path) -> Result<()> {
        self.files.create_dir(links)?;
        for file in files {
            let path = self.lake().join(dir).join(&file.path);
            self.files.link(&path, &links.join(second_name(n, &file.path)))?;
        }
        self.files.sync_dir(links)
    }

    fn point(&self, link: &Path, target: &Path) -> Result<()> {
        if std::fs::read_link(link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        self.files.point(link, target)
    }

    /// Removes generations that were replaced longer ago than `grace`, and files that are in none and not in the manifest. It goes on
    /// after what cannot be removed, and gives the first reason.
    pub(super) fn gc(&self, manifest: &Manifest, grace: Duration) -> Result<()> {
        let mut first = Ok(());
        let mut note = |done: Result<()>| {
            if first.is_ok() {
                first = done;
            }
        };
        // A damaged lake is not what readers see.
        let mut kept: HashSet<u64> = self.live_number().into_iter().chain([manifest.n]).collect();
        for n in self.generation_numbers()? {
            if kept.contains(&n) {
                continue;
            }
            if is_older(&self.generation(n), grace) {
                note(self.remove_named(&n.to_string()));
            } else {
                kept.insert(n);
            }
        }
        let mut linked: HashSet<String> = manifest.tables.typed.values().map(links_name).collect();
        // Whether it is known where all generations lead.
        let mut is_known = true;
        for n in &kept {
            let tables = self.generation(*n).join(TABLES);
            let names = files::list(&tables);
            is_known &= names.is_ok();
            for name in names.as_deref().unwrap_or_default() {
                let target = std::fs::read_link(tables.join(name)).ok();
                let target = target.as_ref().and_then(|target| target.file_name()?.to_str());
                linked.extend(target.map(str::to_owned));
            }
            note(names.map(drop));
        }
        for name in files::list(&self.generations())? {
            let own = name.strip_prefix(GONE).or_else(|| name.strip_suffix(".tmp"));
            if own.is_some_and(|own| canonical(own).is_some() || number_of_links(own).is_some()) {
                note(self.files.remove_dir(&self.generations().join(name)));
            } else if is_known && number_of_links(&name).is_some() && !linked.contains(&name) {
                note(self.remove_named(&name));
            }
        }
        for link in self.pointing().map(|link| temporary(&link)).filter(|link| is_own_link(link)) {
            note(self.files.remove(&link));
        }
        for n in manifest::numbers(&self.meta())? {
            let path = manifest::path_of(&self.meta(), n);
            // One of a higher number could not be read: it stays a while for whoever asks why.
            if !kept.contains(&n) && (n < manifest.n || is_older(&path, grace)) {
                note(self.files.remove(&path));
            }
        }
        for name in files::list(&self.meta())? {
            if name.strip_suffix(".tmp").and_then(manifest::number_of).is_some() {
                note(self.files.remove(&self.meta().join(name)));
            }
        }
        // The names of all files differ, also those of different directories.
        let places = manifest.tables.places();
        let live = places.iter().flat_map(|place| place.files);
        let live: HashSet<&str> = live.map(|file| file.path.as_str()).collect();
        for dir in DIRS {
            let path_of_dir = self.lake().join(dir);
            let names = files::list(&path_of_dir);
            for name in names.as_deref().unwrap_or_default() {
                let path = path_of_dir.join(name);
                if is_name(dir, name) && !live.contains(name.as_str()) && is_unlinked(&path, grace) {
                    note(self.files.remove(&path));
                }
            }
            note(names.map(drop));
        }
        first
    }

    /// Takes its name from a directory of second names, so that whoever has not opened it finds nothing rather than a part of it, and removes
    /// it.
    fn remove_named(&self, name: &str) -> Result<()> {
        let gone = self.generations().join(format!("{GONE}{name}"));
        if gone.is_dir() {
            self.files.remove_dir(&gone)?;
        }
        self.files.rename(&self.generations().join(name), &gone)?;
        self.files.remove_dir(&gone)
    }
}

/// The links by which readers come to a generation, and what each leads to: the one that moves, and those that others follow.
fn pointers(manifest: &Manifest) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let live = (LIVE, Path::new(GENERATIONS).join(manifest.n.to_string()));
    let typed = (!manifest.tables.typed.is_empty()).then_some(TABLES);
    let names = Table::ALL.into_iter().map(Table::name).chain(typed);
    [live].into_iter().chain(names.map(|name| (name, Path::new(LIVE).join(name))))
}

/// Whether it is a link as they are made here, whatever its own name.
fn is_own_link(link: &Path) -> bool {
    std::fs::read_link(link).is_ok_and(|target| is_own_target(&target))
}

/// Whether something is there that is no such link. A server may put one there and take it away again meanwhile, so what is there is
/// asked for once, and what is gone is nothing.
fn is_foreign_link(link: &Path) -> bool {
    match std::fs::read_link(link) {
        Ok(target) => !is_own_target(&target),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(_) => link.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink()),
    }
}

fn is_own_target(target: &Path) -> bool {
    let mut names = Table::ALL.map(Table::name).into_iter().chain([TABLES]);
    names.any(|name| target == Path::new(LIVE).join(name)) || number_of_target(target).is_some()
}

/// The name of a file in a generation. No two generations have one in common: some readers list a directory, then ask of each name
/// whether it is a file, and leave out those that are not there any more. Were a part of the names those of the next generation, they
/// would give an answer without the others where the link moves meanwhile; so they find none.
pub(super) fn second_name(n: u64, file: &str) -> String {
    format!("{n}-{file}")
}

/// Those of some files, sorted.
fn second_names(n: u64, files: &[FileEntry]) -> Vec<String> {
    let mut names: Vec<String> = files.iter().map(|file| second_name(n, &file.path)).collect();
    names.sort_unstable();
    names
}

/// The name of the directory with the second names of a typed table.
fn links_name(table: &TypedTable) -> String {
    format!("{TYPED_LINKS}{}-{}", table.linked, table.name)
}

/// Where it is, as a generation's directory of tables leads to it.
fn links_target(table: &TypedTable) -> PathBuf {
    Path::new("../..").join(links_name(table))
}

/// The number in such a name; `None` where it is none.
fn number_of_links(name: &str) -> Option<u64> {
    let (n, table) = name.strip_prefix(TYPED_LINKS)?.split_once('-')?;
    canonical(n).filter(|_| !table.is_empty() && !table.contains('.'))
}

/// The number of the generation to which a link points.
fn number_of_target(target: &Path) -> Option<u64> {
    canonical(target.strip_prefix(GENERATIONS).ok()?.to_str()?)
}

/// Whether no generation has a file.
#[cfg(unix)]
fn is_unlinked(path: &Path, _: Duration) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    path.symlink_metadata().is_ok_and(|metadata| metadata.nlink() == 1)
}

/// Whether no generation can have a file.
#[cfg(not(unix))]
fn is_unlinked(path: &Path, grace: Duration) -> bool {
    is_older(path, grace)
}

/// Whether something is that old; what cannot be asked is not, and what is of the future is not unless nothing is too young.
fn is_older(path: &Path, grace: Duration) -> bool {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| {
        grace.is_zero() || SystemTime::now().duration_since(modified).is_ok_and(|age| age >= grace)
    })
}
