//! The lake's operations on files: what is made takes its name when it is whole and on disk, and a pointer moves at once.
//!
//! All of the lake's writing goes through here, so that a test can stop it after any operation.

#![allow(
    clippy::disallowed_methods,
    reason = "links are no part of keplordb-disk, and what is here is made anew from the log"
)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::error::ServerError;

type Result<T> = std::result::Result<T, ServerError>;

/// The file system.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    #[cfg(test)]
    pub(super) stop: Stop,
}

/// Refuses every operation after some number of them: what a crash leaves, but for what was not synced. Or one of them: what a
/// disk does that was full for a moment.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(std::sync::Arc<std::sync::Mutex<Stopping>>);

#[cfg(test)]
#[derive(Debug, Default)]
struct Stopping {
    /// Operations that are left.
    left: Option<usize>,
    /// Whether those behind the one that is refused are done.
    is_once: bool,
    has_stopped: bool,
}

#[cfg(test)]
impl Stop {
    /// After so many operations more; never, by `None`.
    pub(super) fn after(&self, operations: Option<usize>) {
        *self.0.lock().unwrap() = Stopping { left: operations, ..Stopping::default() };
    }

    /// The one operation that comes after so many more.
    pub(super) fn once(&self, operations: usize) {
        *self.0.lock().unwrap() = Stopping { left: Some(operations), is_once: true, has_stopped: false };
    }

    /// Whether an operation was refused, or the next one would be.
    pub(super) fn has_stopped(&self) -> bool {
        let stopping = self.0.lock().unwrap();
        stopping.has_stopped || stopping.left == Some(0)
    }

    fn step(&self) -> std::io::Result<()> {
        let mut stopping = self.0.lock().unwrap();
        match stopping.left.as_mut() {
            None => Ok(()),
            Some(0) => {
                stopping.has_stopped = true;
                if stopping.is_once {
                    stopping.left = None;
                }
                Err(std::io::Error::other("stopped by the test"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Files {
    /// Does one operation that changes something.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a test stops here"))]
    fn change<T>(
        &self,
        op: &'static str,
        path: &Path,
        change: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T> {
        #[cfg(test)]
        let change = || self.stop.step().and_then(|()| change());
        change().map_err(|source| refused(op, path, source))
    }

    pub(super) fn create_dir(&self, dir: &Path) -> Result<()> {
        self.change("creating", dir, || fs::create_dir_all(dir))
    }

    /// A new file, under the name that it has until it is whole.
    pub(super) fn create(&self, path: &Path) -> Result<File> {
        self.change("creating", path, || File::create(path))
    }

    /// Brings a file that was written to disk and gives it its name; the name is on disk after the directory's sync.
    pub(super) fn finish(&self, file: &File, temporary: &Path, path: &Path) -> Result<()> {
        self.change("syncing", temporary, || sync(file))?;
        self.change("renaming", temporary, || fs::rename(temporary, path))
    }

    /// Writes a whole file; it is on disk on return, or not there.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = temporary(path);
        let written = self.create(&temporary).and_then(|mut file| {
            self.change("writing", &temporary, || file.write_all(bytes))?;
            self.finish(&file, &temporary, path)
        });
        if written.is_err() {
            // A part of it takes room, of which there may be none.
            self.discard(&temporary);
        }
        written?;
        self.sync_parent(path)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.change("renaming", from, || fs::rename(from, to))
    }

    /// Brings the names in a directory to disk. Elsewhere than on Unix a directory cannot be synced, nor need it be.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if cfg!(unix) {
            self.change("syncing", dir, || sync(&File::open(dir)?))?;
        }
        Ok(())
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Gives a file a second name.
    pub(super) fn link(&self, file: &Path, name: &Path) -> Result<()> {
        self.change("linking", name, || fs::hard_link(file, name))
    }

    /// Makes a symbolic link that is not there yet; it is on disk after the directory's sync.
    pub(super) fn lead(&self, link: &Path, target: &Path) -> Result<()> {
        self.change("linking", link, || symlink(target, link))
    }

    /// Makes a symbolic link point to a target, at once wherever it pointed before; on disk on return.
    pub(super) fn point(&self, link: &Path, target: &Path) -> Result<()> {
        let temporary = temporary(link);
        if temporary.symlink_metadata().is_ok() {
            self.remove(&temporary)?;
        }
        self.change("linking", &temporary, || symlink(target, &temporary))?;
        self.rename(&temporary, link)?;
        self.sync_parent(link)
    }

    /// Removes a file; one that is gone is none the less.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        self.change("removing", path, || gone(fs::remove_file(path)))
    }

    /// Removes a file that nobody needs; where that fails it is removed later.
    pub(super) fn discard(&self, path: &Path) {
        if path.symlink_metadata().is_ok()
            && let Err(error) = self.remove(path)
        {
            tracing::debug!(%error, "a file that is not needed stays for now");
        }
    }

    /// Sets the time at which a directory was changed to now.
    pub(super) fn touch(&self, dir: &Path) -> Result<()> {
        self.change("touching", dir, || match File::open(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            dir => dir?.set_modified(std::time::SystemTime::now()),
        })
    }

    /// Removes a directory with all that is in it; one that is gone is none the less.
    pub(super) fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.change("removing", dir, || gone(fs::remove_dir_all(dir)))
    }
}

fn sync(file: &File) -> std::io::Result<()> {
    // A test that stops keeps what was not synced, and syncs are most of its time.
    if cfg!(test) { Ok(()) } else { file.sync_all() }
}

/// The name of a file until it is whole.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| refused("opening", path, source))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| refused("reading", path, source))
}

/// The names in a directory, sorted; those of one that is not there are none.
pub(super) fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| refused("reading", dir, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| refused("reading", dir, source))?;
        // A name that is no text is none of ours.
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn refused(op: &'static str, path: &Path, source: std::io::Error) -> ServerError {
    ServerError::Io { file: path.to_owned(), op, source }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::Error::new(
        ErrorKind::Unsupported,
        "the published tables need symbolic links, which only Unix has for everybody; read the files that the newest manifest names",
    ))
}
