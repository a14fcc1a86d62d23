//! A file of the lake as Parquet's reader takes it, which tells what the disk refuses from what is wrong with the file.
//!
//! The reader does not: what the operating system says comes out of it as an error of its own, mostly as a text only, and a page that
//! cannot be decompressed is an I/O error to it as well. So it is noted where it is said.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use prost::bytes::Bytes;

use super::files;
use crate::error::ServerError;

type Attempt<T> = std::result::Result<T, ParquetError>;

/// A file that is read.
pub(super) struct Source {
    file: File,
    bytes: u64,
    noted: Noted,
}

/// The operating system's number of the last error of a read; 0 before the first.
#[derive(Debug, Clone, Default)]
struct Noted(Arc<AtomicI32>);

impl Noted {
    fn note(&self, error: &io::Error) {
        // A read that was interrupted is done again.
        if let Some(number) = error.raw_os_error().filter(|_| error.kind() != ErrorKind::Interrupted) {
            self.0.store(number, Ordering::Relaxed);
        }
    }
}

/// Why a file cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    path: PathBuf,
    noted: Noted,
}

impl Unread {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an error of Parquet's reader comes to: one of the operating system, or of what is in the file.
    pub(super) fn because(&self, source: ParquetError) -> ServerError {
        let file = self.path.clone();
        match self.noted.0.swap(0, Ordering::Relaxed) {
            0 => ServerError::Parquet { file, source },
            number => ServerError::Io { file, op: "reading", source: io::Error::from_raw_os_error(number) },
        }
    }
}

impl Source {
    /// Opens a file, with what says why it cannot be read.
    pub(super) fn open(path: &Path) -> Result<(Self, Unread), ServerError> {
        let file = files::open(path)?;
        let length = file.metadata();
        let bytes =
            length.map_err(|source| ServerError::Io { file: path.to_owned(), op: "reading", source })?.len();
        let noted = Noted::default();
        let unread = Unread { path: path.to_owned(), noted: noted.clone() };
        Ok((Self { file, bytes, noted }, unread))
    }

    /// Reads what the file has; what would lie behind its end is no matter of the disk, and no room is made for it.
    fn within<T>(&self, start: u64, length: usize, read: impl FnOnce(&File) -> Attempt<T>) -> Attempt<T> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.bytes) {
            let what = format!("it has {} bytes, and says that {length} are at {start}", self.bytes);
            return Err(ParquetError::EOF(what));
        }
        #[cfg(test)]
        let read = |file: &File| refusal::step().map_err(ParquetError::from).and_then(|()| read(file));
        read(&self.file).inspect_err(|error| {
            if let ParquetError::External(cause) = error
                && let Some(error) = cause.downcast_ref()
            {
                self.noted.note(error);
            }
        })
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Source {
    type T = Part;

    fn get_read(&self, start: u64) -> Attempt<Part> {
        let read = self.within(start, 0, |file| file.get_read(start))?;
        Ok(Part { read, noted: self.noted.clone() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Attempt<Bytes> {
        self.within(start, length, |file| file.get_bytes(start, length))
    }
}

/// A file from some byte on.
pub(super) struct Part {
    read: BufReader<File>,
    noted: Noted,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read.read(buffer).inspect_err(|error| self.noted.note(error))
    }
}

/// What a test has the disk refuse.
#[cfg(test)]
pub(super) mod refusal {
    use std::cell::Cell;
    use std::io;

    /// As a disk says it that cannot read.
    const EIO: i32 = 5;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Refuses every read of this thread after so many more; none, by `None`.
    pub(in super::super) fn after(reads: Option<usize>) {
        LEFT.set(reads);
    }

    pub(super) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::from_raw_os_error(EIO)),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
