//! The journal of an import: how far it is, so that it can be gone on with after a stop at any moment.
//!
//! A text file of lines, each `hash content`: the hash of the content in sixteen digits, a space, and the content as JSON. The
//! first line says what is imported; then comes a line before each batch, and one at the end. A line is on disk before its batch
//! is appended to the table, so of two things one holds: the last batch that the journal names is in the table, or it is not; all
//! before it are, and nothing behind it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{At, ImportError};
use super::source::Identity;

const VERSION: u32 = 1;
/// Longest line that is read, in bytes; the first one has the mapping in it.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What is imported; the first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beginning {
    version: u32,
    /// For people; a source may have been moved since.
    source: String,
    bytes: u64,
    /// Of the length and of parts of the source, in hexadecimal digits.
    hash: String,
    format: String,
    mapping: Vec<String>,
}

impl Beginning {
    pub(super) fn new(source: &Path, identity: Identity, format: String, mapping: Vec<String>) -> Self {
        Self {
            version: VERSION,
            source: source.display().to_string(),
            bytes: identity.bytes,
            hash: format!("{:016x}", identity.hash),
            format,
            mapping,
        }
    }
}

/// A batch that is about to be appended, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    Batch(Batch),
    Done(Totals),
}

/// How much of the source is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Rows that are in the table.
    pub(super) rows: u64,
    pub(super) rejected: u64,
    /// The length of the file of rejected rows.
    pub(super) rejects_bytes: u64,
    /// A sequence below which those of all these rows are; no row has it or a larger one yet.
    pub(super) sequence: u64,
    /// The last batch of these rows, by which the table is known again.
    pub(super) landmark: Option<Landmark>,
}

/// Rows that the table was given together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Landmark {
    /// The sequences of the first and the last one.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Of the last one.
    pub(super) key: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// Before it.
    pub(super) before: Totals,
    /// Where its first row begins in the source, and in which line.
    pub(super) offset: u64,
    pub(super) line: u64,
    /// Where its last row ends.
    pub(super) end: u64,
    pub(super) rows: u64,
    /// Of the keys of its rows.
    pub(super) hash: u64,
}

/// An open journal. The file is locked, so that no two imports go on with the same.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Makes the journal, or opens the one that is there and gives its last entry.
    pub(super) fn open(
        path: &Path,
        source: &Path,
        beginning: &Beginning,
    ) -> Result<(Self, Option<Entry>), ImportError> {
        let file = match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Err(there) if there.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(path)
            }
            made => made,
        };
        let mut journal = Self { path: path.to_owned(), file: file.at("creating", path)? };
        match journal.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    journal.refusal(1, "another import goes on with it at this moment; wait for its end")
                );
            }
            Err(TryLockError::Error(error)) => return Err(ImportError::io("locking", path, error)),
        }
        let last = journal.read(source, beginning)?;
        Ok((journal, last))
    }

    /// Whether there is a journal that has its first line.
    pub(super) fn is_there(path: &Path) -> bool {
        File::open(path)
            .and_then(|file| next_line(&mut BufReader::new(file)))
            .is_ok_and(|line| is_whole(&line))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an entry; it is on disk on return.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), ImportError> {
        self.write(entry)
    }

    fn write(&mut self, content: &impl Serialize) -> Result<(), ImportError> {
        let content = serde_json::to_string(content)
            .map_err(|error| ImportError::io("writing", &self.path, error.into()))?;
        let line = format!("{:016x} {content}\n", xxh3_64(content.as_bytes()));
        self.file.write_all(line.as_bytes()).at("writing", &self.path)?;
        self.file.sync_data().at("syncing", &self.path)
    }

    /// Checks that this is the journal of this import, cuts a last line that was not written in whole, and gives the last entry.
    fn read(&mut self, source: &Path, beginning: &Beginning) -> Result<Option<Entry>, ImportError> {
        let mut lines = BufReader::new(&self.file);
        let first = next_line(&mut lines).at("reading", &self.path)?;
        if !is_whole(&first) {
            return self.begin(&first, beginning);
        }
        let found: Beginning = self.content(&first, 1)?;
        let mut line = next_line(&mut lines).at("reading", &self.path)?;
        if !is_whole(&line) && found != *beginning {
            // Nothing of what it speaks of was imported: the mapping or the source may have been mended since.
            return self.begin(&first, beginning);
        }
        if found.version != VERSION {
            let what = format!(
                "it is of version {}, this release reads {VERSION}; use the release that began it",
                found.version
            );
            return Err(self.refusal(1, what));
        }
        if (found.bytes, &found.hash) != (beginning.bytes, &beginning.hash) {
            return Err(ImportError::SourceChanged {
                file: source.to_owned(),
                journal: self.path.clone(),
                what: if found.bytes == beginning.bytes {
                    "its first or last bytes are others".to_owned()
                } else {
                    format!("it had {} bytes and has {}", found.bytes, beginning.bytes)
                },
            });
        }
        if (&found.format, &found.mapping) != (&beginning.format, &beginning.mapping) {
            return Err(self.refusal(
                1,
                "the import began with another mapping or format; use that one, or remove the journal, and the file of rejected rows if there is one, to import all rows again",
            ));
        }
        let (mut last, mut whole, mut number) = (None, first.len(), 1);
        // Line by line: a journal may be long.
        while is_whole(&line) {
            number += 1;
            last = Some(self.content(&line, number)?);
            whole += line.len();
            line = next_line(&mut lines).at("reading", &self.path)?;
        }
        self.file.set_len(whole as u64).at("cutting", &self.path)?;
        self.file.seek(SeekFrom::End(0)).at("reading", &self.path)?;
        Ok(last)
    }

    /// Writes the first line. What an import that stopped right at its beginning left is written anew.
    fn begin(&mut self, left: &[u8], beginning: &Beginning) -> Result<Option<Entry>, ImportError> {
        let is_ours = left.iter().take(16).all(u8::is_ascii_hexdigit) && (left.len() as u64) < LINE_BYTES_MAX;
        if !is_ours {
            return Err(ImportError::Exists { file: self.path.clone() });
        }
        self.file.set_len(0).at("cutting", &self.path)?;
        self.file.rewind().at("reading", &self.path)?;
        self.write(beginning)?;
        sync_dir_of(&self.path)?;
        Ok(None)
    }

    fn content<T: for<'de> Deserialize<'de>>(&self, line: &[u8], number: u64) -> Result<T, ImportError> {
        let read = || {
            let line = std::str::from_utf8(line).ok()?;
            let (hash, content) = line.trim_end_matches('\n').split_once(' ')?;
            let is_sound =
                hash.len() == 16 && u64::from_str_radix(hash, 16).ok()? == xxh3_64(content.as_bytes());
            if is_sound { serde_json::from_str(content).ok() } else { None }
        };
        read().ok_or_else(|| {
            let what = "the line is damaged, or the file is no journal; restore it, or name another one: without its journal \
                        an import begins anew, and rows that are in the table come in again";
            self.refusal(number, what)
        })
    }

    fn refusal(&self, line: u64, what: impl Into<String>) -> ImportError {
        ImportError::Journal { journal: self.path.clone(), line, what: what.into() }
    }
}

/// The next line, with its end; nothing at the end of the file.
fn next_line(lines: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// Not the end of the file, nor a line that was not written in whole. One that is too long is damage, and no line at all.
fn is_whole(line: &[u8]) -> bool {
    line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX
}

/// Brings the name of a new file to disk.
pub(crate) fn sync_dir_of(path: &Path) -> Result<(), ImportError> {
    // Elsewhere than on Unix a directory cannot be synced, nor need it be.
    if cfg!(unix) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).at("syncing", dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;

    fn beginning(hash: u64) -> Beginning {
        Beginning::new(
            Path::new("a.csv"),
            Identity { bytes: 9, hash },
            "csv".to_owned(),
            vec!["m".to_owned()],
        )
    }

    fn entry(rows: u64) -> Entry {
        Entry::Batch(Batch {
            before: Totals { rows, ..Totals::default() },
            offset: 1,
            line: 2,
            end: 3,
            rows,
            hash: u64::MAX,
        })
    }

    fn open(path: &Path) -> Result<(Journal, Option<Entry>), ImportError> {
        Journal::open(path, Path::new("a.csv"), &beginning(7))
    }

    #[test]
    fn the_last_entry_comes_back_and_a_torn_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, last) = open(&path).unwrap();
        assert_eq!(last, None);
        journal.push(&entry(1)).unwrap();
        let length_1 = fs::metadata(&path).unwrap().len();
        journal.push(&entry(2)).unwrap();
        drop(journal);
        let text = fs::read(&path).unwrap();
        let first = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..=text.len() {
            fs::write(&path, &text[..length]).unwrap();
            let (mut journal, last) = open(&path).unwrap();
            let wanted = match length {
                _ if length == text.len() => Some(entry(2)),
                _ if length as u64 >= length_1 => Some(entry(1)),
                _ => None,
            };
            assert_eq!(last, wanted, "{length} bytes, the first line has {first}");
            journal.push(&entry(3)).unwrap();
            drop(journal);
            assert_eq!(open(&path).unwrap().1, Some(entry(3)));
        }
    }

    /// What can be written can be read again, however much it is.
    #[test]
    fn a_long_journal_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(open(&path).unwrap());
        let mut text = fs::read_to_string(&path).unwrap();
        for rows in 1..=80 {
            // Spaces behind it are JSON too.
            let content = serde_json::to_string(&entry(rows)).unwrap() + &" ".repeat(900_000);
            writeln!(text, "{:016x} {content}", xxh3_64(content.as_bytes())).unwrap();
        }
        let whole = text.len() as u64;
        text += "0123";
        fs::write(&path, text).unwrap();
        assert!(Journal::is_there(&path));
        assert_eq!(open(&path).unwrap().1, Some(entry(80)));
        assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    }

    /// What has no end is neither read in whole nor cut off as if it were torn.
    #[test]
    fn a_line_that_is_too_long_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(open(&path).unwrap());
        let mut text = fs::read_to_string(&path).unwrap();
        text += &"0".repeat(3 << 20);
        fs::write(&path, &text).unwrap();
        assert!(matches!(open(&path), Err(ImportError::Journal { line: 2, .. })));
        assert_eq!(fs::metadata(&path).unwrap().len(), text.len() as u64);
    }

    #[test]
    fn a_damaged_line_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        open(&path).unwrap().0.push(&entry(1)).unwrap();
        let text = fs::read(&path).unwrap();
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let is_cut = at == text.len() - 1;
            match open(&path) {
                Err(ImportError::Journal { line, .. }) => assert!(line == 1 || line == 2, "byte {at}"),
                // Without its line end a line counts as torn.
                Ok((_, None)) if is_cut => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
        fs::write(&path, "my notes").unwrap();
        assert!(matches!(open(&path), Err(ImportError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"my notes");
    }

    #[test]
    fn another_source_mapping_or_import_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        // As long as no batch was begun, all may be mended.
        drop(Journal::open(&path, Path::new("a.csv"), &beginning(6)).unwrap());
        let mut first = open(&path).unwrap();
        first.0.push(&entry(1)).unwrap();
        let refused = |beginning: &Beginning| {
            Journal::open(&path, Path::new("a.csv"), beginning).unwrap_err().to_string()
        };
        assert!(
            refused(&beginning(7)).contains("line 1: another import goes on with it"),
            "{}",
            refused(&beginning(7))
        );
        drop(first);
        assert!(
            refused(&beginning(8))
                .starts_with("a.csv has changed since its import began: its first or last bytes")
        );
        let longer = Beginning { bytes: 10, ..beginning(7) };
        assert!(refused(&longer).contains("it had 9 bytes and has 10; "));
        let mapped = Beginning { mapping: vec![], ..beginning(7) };
        assert!(refused(&mapped).contains("line 1: the import began with another mapping or format"));
        let newer = Beginning { version: 2, ..beginning(7) };
        let content = serde_json::to_string(&newer).unwrap();
        let line = format!("{:016x} {content}\n", xxh3_64(content.as_bytes()));
        fs::write(&path, line.repeat(2)).unwrap();
        assert!(refused(&beginning(7)).contains("it is of version 2, this release reads 1"));
    }
}
