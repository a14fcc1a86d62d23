//! The manifest: which files are the lake, and up to which event. It is one file of JSON, made anew for each publication; the newest
//! whole one decides.
//!
//! The position stands beside the files, so that both are committed at once. The last member is a checksum over all text before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Files};
use crate::error::ServerError;
use crate::shape::Shape;

/// Of this description.
const FORMAT: u32 = 1;
/// Of the rules by which events become rows; files that were made by other ones are made anew. Their log is known by the hash of an
/// event's row in their manifest: a version with another hash of events has to leave that out where the manifest is of an older one.
pub(super) const FOLD_VERSION: u32 = 1;

const CHECKSUM: &str = ",\"checksum\":\"";
/// A checksum in hexadecimal, and what closes the object.
const CHECKSUM_END_BYTES: usize = 32 + "\"}\n".len();

/// A table of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Events,
    Current,
    Versions,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Events, Self::Current, Self::Versions];

    /// The directory of its files, in `lake`.
    pub(super) fn dir(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Current => "current",
            Self::Versions => "versions",
        }
    }

    /// The name under which it is published.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "_events",
            Self::Current => "_current",
            Self::Versions => "_versions",
        }
    }
}

/// The directory of typed files, in `lake`.
pub(super) const TYPED: &str = "typed";
/// All directories of files, in `lake`.
pub(super) const DIRS: [&str; 4] = ["events", "current", "versions", TYPED];
/// The directory in which each typed table is published under its name, and in it the tables of which they are made.
pub(super) const TABLES: &str = "tables";
pub(super) const TYPED_PARTS: [Table; 2] = [Table::Current, Table::Versions];

/// What the lake is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) n: u64,
    pub(super) prev: u64,
    /// Of the last event whose rows are there.
    pub(super) checkpoint_seq: u64,
    /// The hash of that event's row, by which its log is told from another one; 0 where it is not known.
    #[serde(default)]
    pub(super) checkpoint_hash: Sum,
    /// The newest version of the custom schema then; 0 where there was none.
    pub(super) schema_version: u32,
    pub(super) fold_version: u32,
    pub(super) tables: Tables,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tables {
    #[serde(rename = "_events")]
    pub(super) events: TableFiles,
    #[serde(rename = "_current")]
    pub(super) current: TableFiles,
    #[serde(rename = "_versions")]
    pub(super) versions: TableFiles,
    /// Of the entity types of the schema, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) typed: BTreeMap<String, TypedTable>,
}

/// The typed table of an entity type: files made of those of `_current` and `_versions` that have rows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TypedTable {
    /// That of its directory, in `tables`.
    pub(super) name: String,
    /// Those of the schema's fields, which all of its files have.
    pub(super) columns: Shape,
    pub(super) current: Vec<FileEntry>,
    pub(super) versions: Vec<FileEntry>,
    /// The number of the publication that gave its files their second names: later ones lead to these as long as the files are the same.
    #[serde(default)]
    pub(super) linked: u64,
}

/// What is published in one directory.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The directory, in a generation.
    pub(super) name: String,
    /// That of the files, in `lake`.
    pub(super) dir: &'static str,
    pub(super) files: &'a [FileEntry],
    /// The number of the publication that gave them their second names, where that may be an earlier one.
    pub(super) linked: Option<u64>,
}

/// The files of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TableFiles {
    /// How many buckets each entity type has, where rows are in buckets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) buckets: BTreeMap<String, u32>,
    pub(super) files: Vec<FileEntry>,
}

/// A file, and what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// Its name in the table's directory.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// About what its rows take in memory.
    #[serde(default)]
    pub(super) memory_bytes: u64,
    pub(super) seq_min: u64,
    pub(super) seq_max: u64,
    /// In milliseconds since the Unix epoch.
    pub(super) time_min: i64,
    pub(super) time_max: i64,
    /// The sum of its rows' hashes.
    pub(super) row_hash: Sum,
    /// How often it was merged.
    pub(super) level: u8,
    /// Where rows are in buckets, the one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bucket: Option<Bucket>,
    /// Of a file of `_versions` that has rows of any types, which these are; `None` of one that an older program has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) types: Option<Vec<String>>,
    /// Of a typed file, the name of the file of which it is made; `None` of one without rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<String>,
}

/// The last event whose rows are there: its sequence, and the hash of its row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) sequence: u64,
    pub(super) hash: Sum,
}

/// A share of an entity type's entities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub(super) entity_type: String,
    pub(super) number: u32,
}

/// A sum of rows' hashes, modulo 2^128: of a table it is the same however its rows are spread over files.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Sum(pub(super) u128);

impl Sum {
    pub(super) fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        Self(sums.fold(0, |sum, other| sum.wrapping_add(other.0)))
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl From<Sum> for String {
    fn from(sum: Sum) -> Self {
        format!("{sum:?}")
    }
}

impl TryFrom<String> for Sum {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

impl Tables {
    pub(super) fn get(&self, table: Table) -> &TableFiles {
        match table {
            Table::Events => &self.events,
            Table::Current => &self.current,
            Table::Versions => &self.versions,
        }
    }

    pub(super) fn get_mut(&mut self, table: Table) -> &mut TableFiles {
        match table {
            Table::Events => &mut self.events,
            Table::Current => &mut self.current,
            Table::Versions => &mut self.versions,
        }
    }

    /// Says of each typed table which publication gave its files their second names: the one that did so before, where they are the same
    /// and still have these, or else this one.
    pub(super) fn set_linked(
        &mut self,
        before: &BTreeMap<String, TypedTable>,
        n: u64,
        is_linked: impl Fn(&TypedTable) -> bool,
    ) {
        for (entity_type, table) in &mut self.typed {
            let before = before.get(entity_type).filter(|before| {
                (&before.name, &before.current, &before.versions)
                    == (&table.name, &table.current, &table.versions)
                    && is_linked(before)
            });
            table.linked = before.map_or(n, |before| before.linked);
        }
    }

    /// All that is published.
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let own = Table::ALL.map(|table| Place {
            name: table.name().to_owned(),
            dir: table.dir(),
            files: &self.get(table).files,
            linked: None,
        });
        let typed = self.typed.values().flat_map(TypedTable::places);
        own.into_iter().chain(typed).collect()
    }
}

impl TypedTable {
    /// Its files of those of a table, which is one of two.
    pub(super) fn get(&self, part: Table) -> &Vec<FileEntry> {
        match part {
            Table::Current => &self.current,
            Table::Events | Table::Versions => &self.versions,
        }
    }

    pub(super) fn get_mut(&mut self, part: Table) -> &mut Vec<FileEntry> {
        match part {
            Table::Current => &mut self.current,
            Table::Events | Table::Versions => &mut self.versions,
        }
    }

    /// The directory of a part, in a generation.
    pub(super) fn place(&self, part: Table) -> String {
        format!("{TABLES}/{}/{}", self.name, part.dir())
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        TYPED_PARTS.into_iter().map(|part| Place {
            name: self.place(part),
            dir: TYPED,
            files: self.get(part),
            linked: Some(self.linked),
        })
    }
}

impl TableFiles {
    pub(super) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub(super) fn of_bucket(&self, bucket: &Bucket) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.bucket.as_ref() == Some(bucket))
    }
}

impl Manifest {
    pub(super) fn new(
        n: u64,
        prev: u64,
        checkpoint: Checkpoint,
        schema_version: u32,
        tables: Tables,
    ) -> Self {
        Self {
            format: FORMAT,
            n,
            prev,
            checkpoint_seq: checkpoint.sequence,
            checkpoint_hash: checkpoint.hash,
            schema_version,
            fold_version: FOLD_VERSION,
            tables,
        }
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { sequence: self.checkpoint_seq, hash: self.checkpoint_hash }
    }

    /// That of a lake in which nothing is.
    pub(super) fn empty() -> Self {
        Self::new(0, 0, Checkpoint::default(), 0, Tables::default())
    }

    /// Writes it; on return it is the newest one.
    pub(super) fn write(&self, files: &Files, dir: &Path) -> Result<(), ServerError> {
        let path = path_of(dir, self.n);
        let mut text = serde_json::to_string(self).map_err(|error| ServerError::Lake {
            file: path.clone(),
            what: format!("it cannot be written as JSON: {error}"),
        })?;
        // The checksum goes before the brace that closes the object.
        text.pop();
        let checksum = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
        text.push_str(CHECKSUM);
        text.push_str(&String::from(Sum(checksum)));
        text.push_str("\"}\n");
        files.write(&path, text.as_bytes())
    }

    /// The newest one that is whole, if there is one.
    pub(super) fn newest(dir: &Path) -> Result<Option<Self>, ServerError> {
        for n in numbers(dir)?.into_iter().rev() {
            let path = path_of(dir, n);
            match Self::parse(&files::read(&path)?) {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(Unread::Torn(what)) => {
                    tracing::warn!(file = %path.display(), what, "a manifest is passed over");
                }
                Err(Unread::Newer(format)) => {
                    let what = format!(
                        "its format is {format}, this program knows {FORMAT}; use the program that wrote it, or a newer one"
                    );
                    return Err(ServerError::Lake { file: path, what });
                }
            }
        }
        Ok(None)
    }

    /// The one with a number; `None` where it is not there, or not whole.
    #[cfg(feature = "sql")]
    pub(super) fn numbered(dir: &Path, n: u64) -> Result<Option<Self>, ServerError> {
        let path = path_of(dir, n);
        let bytes = match files::read(&path) {
            Err(ServerError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            bytes => bytes?,
        };
        match Self::parse(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Unread::Torn(_)) => Ok(None),
            Err(Unread::Newer(format)) => {
                let what = format!(
                    "its format is {format}, this program knows {FORMAT}; use the program that wrote it, or a newer one"
                );
                Err(ServerError::Lake { file: path, what })
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Unread> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }

        let torn = |what: &str| Unread::Torn(what.to_owned());
        let text = std::str::from_utf8(bytes).map_err(|_| torn("it is no text"))?;
        let end = text.len().checked_sub(CHECKSUM_END_BYTES + CHECKSUM.len());
        let (body, end) =
            end.and_then(|at| text.split_at_checked(at)).ok_or_else(|| torn("it is cut off"))?;
        let checksum = end.strip_prefix(CHECKSUM).and_then(|end| end.strip_suffix("\"}\n"));
        let checksum = checksum.and_then(|checksum| u128::from_str_radix(checksum, 16).ok());
        if checksum != Some(xxhash_rust::xxh3::xxh3_128(body.as_bytes())) {
            return Err(torn("its checksum is not that of its text"));
        }
        let body = format!("{body}}}");
        let unread = |error: serde_json::Error| Unread::Torn(error.to_string());
        let Format { format } = serde_json::from_str(&body).map_err(unread)?;
        if format != FORMAT {
            return Err(Unread::Newer(format));
        }
        serde_json::from_str(&body).map_err(unread)
    }
}

/// Why a manifest is not taken.
#[derive(Debug)]
enum Unread {
    /// It is not whole, or was damaged.
    Torn(String),
    /// It is of another format.
    Newer(u32),
}

/// The numbers of the manifests in a directory, ascending.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, ServerError> {
    let mut numbers: Vec<u64> = files::list(dir)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the manifest that has a name; one of its exact form, or it is somebody else's.
pub(super) fn number_of(name: &str) -> Option<u64> {
    canonical(name.strip_prefix("manifest-")?.strip_suffix(".json")?)
}

/// A number that is written as it would be: without a sign, without leading zeros.
pub(super) fn canonical(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

pub(super) fn path_of(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("manifest-{n}.json"))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test damages files")]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_cut_or_changed_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::default();
        let checkpoint = |n| Checkpoint { sequence: 7 * n, hash: Sum(u128::from(n)) };
        let manifest = |n| Manifest::new(n, n - 1, checkpoint(n), 0, Tables::default());
        manifest(1).write(&files, dir.path()).unwrap();
        manifest(2).write(&files, dir.path()).unwrap();
        assert_eq!(Manifest::newest(dir.path()).unwrap(), Some(manifest(2)));
        let path = path_of(dir.path(), 2);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(Manifest::newest(dir.path()).unwrap(), Some(manifest(1)), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert_eq!(Manifest::newest(dir.path()).unwrap(), Some(manifest(1)), "changed at {at}");
        }
    }
}
