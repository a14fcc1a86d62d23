//! The side file of rejected rows: CSV with the line, the column, the reason and the text of each.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::{At, ImportError};
use super::journal::sync_dir_of;

/// Longest text of a row that is kept, in bytes.
const TEXT_BYTES: usize = 64 << 10;
const HEADER: &str = "line,column,reason,text\n";

/// A row that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Of its first line in the source; rows of Parquet are counted likewise, from 1.
    pub(super) line: u64,
    /// The source's column; empty where the row as a whole is at fault.
    pub(super) column: String,
    pub(super) reason: String,
    pub(super) text: String,
}

impl Rejection {
    pub(super) fn new(line: u64, column: &str, reason: impl Into<String>, text: &[u8]) -> Self {
        let mut reason = reason.into();
        if text.len() > TEXT_BYTES {
            reason = format!("{reason} (the text is cut after {TEXT_BYTES} of {} bytes)", text.len());
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES)]).into_owned();
        Self { line, column: column.to_owned(), reason, text }
    }

    /// What it takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.column.len() + self.reason.len() + self.text.len()
    }
}

/// The side file; it is made when the first row is rejected.
#[derive(Debug)]
pub(super) struct Rejects {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    /// What is not yet in the file.
    waiting: String,
}

impl Rejects {
    /// Goes on behind the first `bytes` of the file: what an interrupted import wrote behind them is cut off. A file that is none of
    /// an import is refused, and so is one that has fewer. The caller has the journal's lock.
    pub(super) fn open(path: &Path, bytes: u64) -> Result<Self, ImportError> {
        let mut rejects = Self { path: path.to_owned(), file: None, bytes, waiting: String::new() };
        let lost = |found| Err(ImportError::RejectsLost { file: path.to_owned(), found, bytes });
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(mut file) => {
                let found = file.metadata().at("opening", path)?.len();
                if found < bytes {
                    return lost(found);
                }
                let mut head = Vec::new();
                Read::by_ref(&mut file)
                    .take(HEADER.len() as u64)
                    .read_to_end(&mut head)
                    .at("reading", path)?;
                // A kill may have left a part of the first line.
                if !HEADER.as_bytes().starts_with(&head) {
                    return Err(ImportError::Exists { file: path.to_owned() });
                }
                file.set_len(bytes).at("cutting", path)?;
                file.seek(SeekFrom::End(0)).at("cutting", path)?;
                rejects.file = Some(file);
            }
            Err(missing) if missing.kind() == ErrorKind::NotFound && bytes == 0 => {}
            Err(missing) if missing.kind() == ErrorKind::NotFound => return lost(0),
            Err(other) => return Err(ImportError::io("opening", path, other)),
        }
        Ok(rejects)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length once all is written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.waiting.len() as u64
    }

    pub(super) fn push(&mut self, rejection: &Rejection) {
        if self.bytes() == 0 {
            self.waiting.push_str(HEADER);
        }
        let Rejection { line, column, reason, text } = rejection;
        self.waiting.push_str(&line.to_string());
        for field in [column, reason, text] {
            self.waiting.push_str(",\"");
            for (place, part) in field.split('"').enumerate() {
                self.waiting.push_str(if place == 0 { "" } else { "\"\"" });
                self.waiting.push_str(part);
            }
            self.waiting.push('"');
        }
        self.waiting.push('\n');
    }

    /// Brings what waits to disk.
    pub(super) fn sync(&mut self) -> Result<(), ImportError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let created = OpenOptions::new().write(true).create_new(true).open(&self.path);
            let file = self.file.insert(created.at("creating", &self.path)?);
            sync_dir_of(&self.path)?;
            file
        };
        file.write_all(self.waiting.as_bytes()).at("writing", &self.path)?;
        file.sync_data().at("syncing", &self.path)?;
        self.bytes += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}
