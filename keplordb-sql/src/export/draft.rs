//! A file or directory that takes its name when it is whole, and is removed when it does not become so.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::ExportError;

/// What is written under another name.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    target: PathBuf,
    is_published: bool,
}

impl Draft {
    /// A file that is to be made.
    pub(super) fn file(target: &Path) -> Result<Self, ExportError> {
        let draft = Self::begin(target)?;
        // Takes the name, so that no other export does.
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&draft.path)
            .map_err(|error| draft.not_made(error))?;
        Ok(draft.made())
    }

    /// An empty directory.
    pub(super) fn dir(target: &Path) -> Result<Self, ExportError> {
        let draft = Self::begin(target)?;
        fs::create_dir(&draft.path).map_err(|error| draft.not_made(error))?;
        Ok(draft.made())
    }

    /// Not yet ours to remove.
    fn begin(target: &Path) -> Result<Self, ExportError> {
        // Without what may stand behind its name: `out/` is `out`.
        let target: &Path = &target.components().collect::<PathBuf>();
        if target.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { target: target.to_owned() });
        }
        let mut path: OsString = target.to_owned().into();
        path.push(".exporting");
        Ok(Self { path: path.into(), target: target.to_owned(), is_published: true })
    }

    /// From now on it is removed unless it is published.
    fn made(mut self) -> Self {
        self.is_published = false;
        self
    }

    fn not_made(&self, error: std::io::Error) -> ExportError {
        match error.kind() {
            ErrorKind::AlreadyExists => ExportError::Draft { draft: self.path.clone() },
            _ => ExportError::io("creating", &self.path, error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that a file of the draft will have.
    pub(super) fn published(&self, file: &Path) -> PathBuf {
        match file.strip_prefix(&self.path) {
            Ok(inner) if inner.as_os_str().is_empty() => self.target.clone(),
            Ok(inner) => self.target.join(inner),
            Err(_) => file.to_owned(),
        }
    }

    /// Gives it its name; all its files must be on disk. The name is there after a power failure too, on return.
    pub(super) fn publish(mut self) -> Result<(), ExportError> {
        if self.target.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { target: self.target.clone() });
        }
        if self.path.is_dir() {
            for entry in
                fs::read_dir(&self.path).map_err(|error| ExportError::io("reading", &self.path, error))?
            {
                let path = entry.map_err(|error| ExportError::io("reading", &self.path, error))?.path();
                if path.is_dir() {
                    sync_dir(&path)?;
                }
            }
            sync_dir(&self.path)?;
        }
        self.rename().map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => ExportError::Exists { target: self.target.clone() },
            _ => ExportError::io("renaming", &self.path, error),
        })?;
        self.is_published = true;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))
    }

    /// A file gets a second name and loses the first, because a rename would take the place of whatever has come to be there.
    fn rename(&self) -> std::io::Result<()> {
        if !self.path.is_dir() {
            match fs::hard_link(&self.path, &self.target) {
                // The export is there under its name; a first one that stays is in the way of nothing but the next export to it.
                Ok(()) => {
                    let _ = fs::remove_file(&self.path);
                    return Ok(());
                }
                Err(taken) if taken.kind() == ErrorKind::AlreadyExists => return Err(taken),
                // Some file systems have no second names.
                Err(_) => {}
            }
        }
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Draft {
    /// What cannot be removed stays, under its name, and the next export says so.
    fn drop(&mut self) {
        if !self.is_published {
            let _ =
                if self.path.is_dir() { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
        }
    }
}

/// Brings the names in a directory to disk. Elsewhere than on Unix a directory cannot be synced, nor need it be.
fn sync_dir(dir: &Path) -> Result<(), ExportError> {
    if cfg!(unix) {
        let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| ExportError::io("syncing", dir, error))?;
    }
    Ok(())
}
