//! Inspect: what the files of a table hold, of a directory that anybody may have open. Takes no lock and writes nothing.
//!
//! **One look** reads the manifest, the tombstones, every segment that it lists and the logs, and then the manifest again.
//! If that changed, the look is repeated, as a [follower](super::follow) does it: what failed may be gone for good reason, and
//! rows may have been counted twice or not at all. Segments that were read stay read, for they never change; logs and
//! tombstones are read anew, and so are the sequences of segments of which more rows are deleted.
//!
//! Reads by `read_at` and never through a map, so a bad sector is a finding and not a signal. A damaged file does not hide the
//! others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use keplordb_disk::DiskFile;
use keplordb_log::frame::{self, End, HEADER_BYTES};
use roaring::RoaringTreemap;

use crate::config::Options;
use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{ListedSegment, Manifest};
use crate::format::segment::{
    SectionEntry, SectionKind, SectionValues, SegmentHeader, check_section, column_of, section_values,
    sequences_of,
};
use crate::format::tombstones;
use crate::format::wal::WalHeader;
use crate::schema::TableSchema;
use crate::storage::directory::Directory;
use crate::storage::manifest;
use crate::storage::segment_reader::{open, read_header};

/// How often a log that an engine is writing is read again before its damage is believed.
const READS_BESIDE_A_WRITER: usize = 3;

/// What the files of a table hold; see [`inspect_dir`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// The columns of the table.
    pub schema: TableSchema,
    /// Whether an engine has the directory open: logs may grow while they are read, and their torn ends be writes under way.
    pub engine_at_work: bool,
    /// Whether the table was closed cleanly.
    pub closed: bool,
    /// Every row has a lower sequence, but those of logs that are written now.
    pub next_sequence: u64,
    /// The segments that the manifest lists, by number.
    pub segments: Vec<InspectedSegment>,
    /// The logs that hold rows which are in no segment yet, by generation.
    pub logs: Vec<InspectedLog>,
    /// The deleted rows; `None` where nothing was ever deleted.
    pub tombstones: Option<InspectedTombstones>,
}

impl Inspection {
    /// Every problem of a file or section, in order.
    pub fn problems(&self) -> impl Iterator<Item = &DbError> {
        let segments = self.segments.iter().flat_map(|segment| {
            let sections = segment.contents.iter().flat_map(|contents| &contents.sections);
            let of_sections = sections.filter_map(|section| section.contents.as_ref().err());
            segment.contents.as_ref().err().into_iter().chain(of_sections)
        });
        let logs = self.logs.iter().filter_map(|log| log.contents.as_ref().err());
        let tombstones = self.tombstones.iter().filter_map(|log| log.contents.as_ref().err());
        segments.chain(logs).chain(tombstones)
    }
}

/// A segment that a manifest lists.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectedSegment {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file, as the manifest says.
    pub file_bytes: u64,
    /// What is in it; the error of a file whose header cannot be read, which names it.
    pub contents: Result<SegmentContents>,
}

/// What is in a segment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmentContents {
    /// Its rows, deleted ones too.
    pub rows: u64,
    /// How many of them are deleted; `None` where the tombstones or the segment's sequences cannot be read.
    pub deleted_rows: Option<u64>,
    /// The time of its first row, in nanoseconds since the Unix epoch.
    pub first_ts_ns: i64,
    /// The time of its last row.
    pub last_ts_ns: i64,
    /// The smallest sequence of its rows.
    pub first_sequence: u64,
    /// The largest.
    pub last_sequence: u64,
    /// Bytes before the first section.
    pub header_bytes: u64,
    /// The generations of the logs whose rows it took over.
    pub generations: Vec<u64>,
    /// The sections, in the order of the file; with the header they have all of its bytes.
    pub sections: Vec<InspectedSection>,
}

/// A section of a segment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectedSection {
    /// As messages call it: `time`, `dim 0`, `id index`.
    pub name: String,
    /// What it holds, in the words of `docs/format.md`: `dim`, `id index`; `None` for an optional section of a kind that this
    /// release does not know.
    pub kind: Option<&'static str>,
    /// The name of the column that it is of: `user`, `ts_ns`. Of rollups the names of their dims, with commas between them.
    pub column: String,
    /// Its bytes in the file, padding included.
    pub bytes: u64,
    /// What is in it; the error of one that is damaged, which names file and place.
    pub contents: Result<SectionContents>,
}

/// What is in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionContents {
    /// How its values are encoded, in words: `numbers: one base, residuals of 16 bits, running sums`.
    pub encoding: String,
    /// Bytes that are needed to get the values back, padding included; see [`Space::columns_bytes`](crate::Space::columns_bytes).
    pub columns_bytes: u64,
    /// Bytes that only make answers quick; see [`Space::index_bytes`](crate::Space::index_bytes).
    pub index_bytes: u64,
    /// What the same values take without any encoding: a number as many bytes as its type has (8 a time, sequence or metric, 4 a
    /// latency or counter, 2 a status or flags), a text its own and 4 for its length. `None` for indexes, filters and
    /// rollups, which repeat what columns have.
    pub unencoded_bytes: Option<u64>,
}

/// A log of a table.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectedLog {
    /// Its generation.
    pub generation: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file, with zeros that are filled in ahead of frames; 0 where it cannot be read.
    pub file_bytes: u64,
    /// What is in it; the error of one that is damaged, which names file and place. A torn end is no error.
    pub contents: Result<LogContents>,
}

/// What is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogContents {
    /// The shard that writes it.
    pub shard: u32,
    /// Its frames: one per batch.
    pub frames: u64,
    /// Their rows, deleted ones too.
    pub rows: u64,
    /// How many of them are deleted; `None` where the tombstones cannot be read.
    pub deleted_rows: Option<u64>,
    /// The smallest and the largest sequence of its rows; `None` without rows.
    pub sequences: Option<(u64, u64)>,
    /// Bytes up to where its last frame ends.
    pub used_bytes: u64,
    /// Bytes behind it that are no frame: a crash tore it, or it is being written. 0 where nothing is torn.
    pub torn_bytes: u64,
    /// Whether it is sealed: nothing will follow.
    pub closed: bool,
}

/// The tombstone log of a table.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectedTombstones {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file; 0 where it cannot be read.
    pub file_bytes: u64,
    /// What is in it; the error of one that is damaged, which names file and place. A torn end is no error.
    pub contents: Result<TombstoneContents>,
}

/// What is in a tombstone log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TombstoneContents {
    /// Its frames: one per call that deleted something, and those of an earlier log.
    pub frames: u64,
    /// How many rows it names as deleted, those of rows too that are in no file any more.
    pub entries: u64,
    /// Bytes up to where its last frame ends.
    pub used_bytes: u64,
    /// Bytes behind it that are no frame; 0 where nothing is torn.
    pub torn_bytes: u64,
}

/// Says what the files of a table hold: its columns, and of each segment, log and tombstone log how many rows and bytes, where the
/// bytes go, and what they would be without encoding.
///
/// Takes no lock and writes nothing; an engine of this or another process may have the directory open. Of `options` only the disk
/// is used. Reads every byte of the files, with their checksums, so it is as fast as the disk, and needs the memory of the
/// largest section or log; while an engine publishes, it looks again at what has changed. A damaged file or section is listed
/// with its error.
///
/// ```
/// use keplordb::{Engine, EngineConfig, LogEvent, Options, inspect_dir};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("calls");
/// let engine = Engine::<0, 0, 0>::open(EngineConfig::in_dir(&dir))?;
/// engine.append(&LogEvent { ts_ns: 1_700_000_000_000_000_000, ..LogEvent::default() })?;
/// engine.flush()?;
///
/// let table = inspect_dir(&dir, &Options::default())?;
/// assert!(table.engine_at_work && table.problems().next().is_none());
/// let segment = table.segments[0].contents.clone()?;
/// assert_eq!((segment.rows, segment.sections[0].column.as_str()), (1, "ts_ns"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Missing`](DbError::Missing) where no table is, [`Corrupt`](DbError::Corrupt) and its kin for a damaged manifest, without which
/// nobody knows which files count: [`verify_dir`](crate::verify_dir) goes on without it, and an open mends it. [`Io`](DbError::Io).
pub fn inspect_dir(dir: impl AsRef<Path>, options: &Options) -> Result<Inspection> {
    let directory = Directory::new(options.disk.clone(), dir.as_ref().to_owned());
    let mut look = Look { directory: &directory, engine_at_work: false, segments: BTreeMap::new() };
    let mut manifest = manifest::load(&directory)?;
    loop {
        look.engine_at_work = directory.is_locked()?;
        let inspection = look.at(&manifest);
        let now = manifest::load(&directory)?;
        if now == manifest {
            return inspection;
        }
        manifest = now;
    }
}

/// What was seen of a directory so far.
struct Look<'a> {
    directory: &'a Directory,
    engine_at_work: bool,
    /// Those that could be read, by number.
    segments: BTreeMap<u64, SeenSegment>,
}

struct SeenSegment {
    header: SegmentHeader,
    sections: Vec<InspectedSection>,
    /// The tombstone log that was looked in, how many of its rows lie between the segment's, and how many are the segment's.
    deleted: Option<(u64, u64, Option<u64>)>,
}

/// The tombstone log and the sequences of all deleted rows; `None` where they cannot be read.
type Tombstones = Option<(u64, RoaringTreemap)>;

impl Look<'_> {
    /// One look at what a manifest names.
    fn at(&mut self, manifest: &Manifest) -> Result<Inspection> {
        let (tombstones, deleted) = self.tombstones(manifest);
        self.segments.retain(|number, _| manifest.segments.iter().any(|listed| listed.number == *number));
        let segments = manifest.segments.iter().map(|listed| {
            let path = self.directory.segment(listed.number);
            let contents = self.segment(*listed, &path, &manifest.schema, &deleted);
            InspectedSegment { number: listed.number, path, file_bytes: listed.file_bytes, contents }
        });
        let segments = segments.collect();
        let logs = self.generations(manifest)?.into_iter().map(|(generation, synced_bytes)| {
            let path = self.directory.wal(generation);
            let (file_bytes, contents) = self.log(&path, |bytes| {
                let (header, start) = WalHeader::decode(bytes).map_err(|error| error.in_file(&path))?;
                if header.generation != generation {
                    let what = format!(
                        "the file's name says generation {generation}, its header {}",
                        header.generation
                    );
                    return Err(DbError::corrupt(&path, 0, what));
                }
                log_contents(
                    &path,
                    bytes,
                    (&header, start),
                    synced_bytes,
                    deleted.as_ref().map(|(_, rows)| rows),
                )
            });
            InspectedLog { generation, path, file_bytes, contents }
        });
        Ok(Inspection {
            logs: logs.collect(),
            schema: manifest.schema.clone(),
            engine_at_work: self.engine_at_work,
            closed: manifest.closed,
            next_sequence: manifest.next_sequence,
            segments,
            tombstones,
        })
    }

    /// The generations that count and how much of each was synced: those that the manifest lists, and younger ones that no
    /// segment of it has absorbed.
    fn generations(&self, manifest: &Manifest) -> Result<Vec<(u64, u64)>> {
        let listed = manifest.wals.iter().map(|listed| (listed.generation, listed.synced_bytes));
        let is_absorbed = |generation: &u64| {
            self.segments.values().any(|segment| segment.header.generations.contains(generation))
        };
        let found = self.directory.list()?.wals.into_iter().map(|(generation, _)| generation);
        let younger = found.filter(|found| *found >= manifest.next_generation && !is_absorbed(found));
        Ok(listed.chain(younger.map(|generation| (generation, 0))).collect())
    }

    fn tombstones(&self, manifest: &Manifest) -> (Option<InspectedTombstones>, Tombstones) {
        let number = manifest.tombstone_log;
        let mut sequences = RoaringTreemap::new();
        if number == 0 {
            return (None, Some((0, sequences)));
        }
        let path = self.directory.tombstones(number);
        let (file_bytes, contents) = self.log(&path, |bytes| {
            sequences.clear();
            tombstone_contents(&path, bytes, manifest.tombstone_bytes, &mut sequences)
        });
        let deleted = contents.is_ok().then_some((number, sequences));
        (Some(InspectedTombstones { number, path, file_bytes, contents }), deleted)
    }

    /// Reads a log and looks at it; again if an engine may have been writing it.
    fn log<T>(&self, path: &Path, mut look: impl FnMut(&[u8]) -> Result<T>) -> (u64, Result<T>) {
        let reads = if self.engine_at_work { READS_BESIDE_A_WRITER } else { 1 };
        let mut read = || match keplordb_disk::read_all(self.directory.disk().as_ref(), path, u64::MAX) {
            Ok(bytes) => (bytes.len() as u64, look(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (0, Err(DbError::Missing { file: path.to_owned() }))
            }
            Err(error) => (0, Err(DbError::io("read", path, error))),
        };
        let mut found = read();
        for _ in 1..reads {
            if !matches!(found.1, Err(DbError::Corrupt { .. } | DbError::Truncated { .. })) {
                break;
            }
            found = read();
        }
        found
    }

    fn segment(
        &mut self,
        listed: ListedSegment,
        path: &Path,
        schema: &TableSchema,
        deleted: &Tombstones,
    ) -> Result<SegmentContents> {
        let seen = match self.segments.entry(listed.number) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(place) => place.insert(SeenSegment::read(self.directory, listed, path, schema)?),
        };
        let deleted_rows = match deleted {
            None => None,
            Some((log, sequences)) => {
                let facts = &seen.header.facts;
                let between = rows_between(sequences, facts.sequence_min, facts.sequence_max);
                match seen.deleted {
                    // A log only grows: as many are the same ones.
                    Some((known, before, rows)) if (known, before) == (*log, between) => rows,
                    _ => {
                        let rows = deleted_rows(self.directory, path, &seen.header, sequences)?;
                        seen.deleted = Some((*log, between, rows));
                        rows
                    }
                }
            }
        };
        let (header, facts) = (&seen.header, &seen.header.facts);
        let sections_bytes: u64 = header.sections.iter().map(|section| section.bytes).sum();
        Ok(SegmentContents {
            rows: header.rows.into(),
            deleted_rows,
            first_ts_ns: facts.ts_min,
            last_ts_ns: facts.ts_max,
            first_sequence: facts.sequence_min,
            last_sequence: facts.sequence_max,
            header_bytes: header.file_bytes - sections_bytes,
            generations: header.generations.clone(),
            sections: seen.sections.clone(),
        })
    }
}

impl SeenSegment {
    fn read(directory: &Directory, listed: ListedSegment, path: &Path, schema: &TableSchema) -> Result<Self> {
        let disk = directory.disk().as_ref();
        let header = read_header(disk, path)?;
        if header.file_bytes != listed.file_bytes {
            let what =
                format!("the manifest lists {} bytes, the header {}", listed.file_bytes, header.file_bytes);
            return Err(DbError::corrupt(path, 0, what));
        }
        let file = open(disk, path)?;
        let look = |(index, section): (usize, &SectionEntry)| InspectedSection {
            name: section.name(),
            kind: section.kind().map(SectionKind::name),
            column: column_of(&header, section, schema),
            bytes: section.bytes,
            contents: section_contents(file.as_ref(), path, &header, index),
        };
        let sections = header.sections.iter().enumerate().map(look).collect();
        Ok(Self { header, sections, deleted: None })
    }
}

/// Reads a section and checks it, as the engine does before its first use.
fn read_section(file: &dyn DiskFile, path: &Path, header: &SegmentHeader, index: usize) -> Result<Vec<u8>> {
    let Some(section) = header.sections.get(index) else { return Ok(Vec::new()) };
    let wanted = usize::try_from(section.bytes).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(wanted).map_err(std::io::Error::from).at("read", path)?;
    bytes.resize(wanted, 0);
    let read = file.read_at(&mut bytes, section.offset).at("read", path)?;
    if read < bytes.len() {
        let found_bytes = section.offset + read as u64;
        let expected_bytes = header.file_bytes;
        return Err(DbError::Truncated { file: path.to_owned(), found_bytes, expected_bytes });
    }
    if crc32fast::hash(&bytes) != section.crc {
        return Err(DbError::corrupt(path, section.offset, section.wrong_checksum()));
    }
    check_section(header, index, &bytes).map_err(|malformed| malformed.in_file(path, section.offset))?;
    Ok(bytes)
}

fn section_contents(
    file: &dyn DiskFile,
    path: &Path,
    header: &SegmentHeader,
    index: usize,
) -> Result<SectionContents> {
    let bytes = read_section(file, path, header, index)?;
    let SectionValues { encoding, index_bytes, unencoded_bytes } = section_values(header, index, &bytes);
    let columns_bytes = bytes.len() as u64 - index_bytes;
    Ok(SectionContents { encoding, columns_bytes, index_bytes, unencoded_bytes })
}

/// How many rows of a segment are among the deleted; `None` where their sequences are damaged.
fn deleted_rows(
    directory: &Directory,
    path: &Path,
    header: &SegmentHeader,
    deleted: &RoaringTreemap,
) -> Result<Option<u64>> {
    let facts = &header.facts;
    if rows_between(deleted, facts.sequence_min, facts.sequence_max) == 0 {
        return Ok(Some(0));
    }
    let Some(index) = header.section(SectionKind::Sequence, 0) else { return Ok(None) };
    let file = open(directory.disk().as_ref(), path)?;
    let Ok(bytes) = read_section(file.as_ref(), path, header, index) else { return Ok(None) };
    let mut rows = 0;
    sequences_of(header, index, &bytes, &mut |sequence| rows += u64::from(deleted.contains(sequence)));
    Ok(Some(rows))
}

/// How many of some sequences lie between two, both included.
fn rows_between(sequences: &RoaringTreemap, first: u64, last: u64) -> u64 {
    let below = first.checked_sub(1).map_or(0, |before| sequences.rank(before));
    sequences.rank(last).saturating_sub(below)
}

fn log_contents(
    path: &Path,
    bytes: &[u8],
    (header, start): (&WalHeader, usize),
    synced_bytes: u64,
    deleted: Option<&RoaringTreemap>,
) -> Result<LogContents> {
    let mut walk = frame::walk(bytes, start, header.salt, synced_bytes);
    let (mut frames, mut rows, mut deleted_rows) = (0, 0, deleted.map(|_| 0));
    let mut sequences: Option<(u64, u64)> = None;
    for frame in walk.by_ref() {
        let last = frame.first.saturating_add(u64::from(frame.rows) - 1);
        frames += 1;
        rows += u64::from(frame.rows);
        sequences = Some(sequences.map_or((frame.first, last), |(a, b)| (a.min(frame.first), b.max(last))));
        if let (Some(rows), Some(deleted)) = (&mut deleted_rows, deleted) {
            *rows += rows_between(deleted, frame.first, last);
        }
    }
    let end = walk.end();
    let (used_bytes, torn_bytes) = how_it_ends(path, end, bytes.len() as u64)?;
    let closed = matches!(end, End::Closed { .. });
    Ok(LogContents {
        shard: header.shard,
        frames,
        rows,
        deleted_rows,
        sequences,
        used_bytes,
        torn_bytes,
        closed,
    })
}

fn tombstone_contents(
    path: &Path,
    bytes: &[u8],
    synced_bytes: u64,
    sequences: &mut RoaringTreemap,
) -> Result<TombstoneContents> {
    let (salt, start) = tombstones::decode_header(bytes).map_err(|error| error.in_file(path))?;
    let mut walk = frame::walk(bytes, start, salt, synced_bytes);
    let (mut frames, mut entries, mut rows) = (0, 0, Vec::new());
    for frame in walk.by_ref() {
        rows.clear();
        tombstones::decode(frame.payload, frame.rows, &mut rows)
            .map_err(|malformed| malformed.in_file(path, frame.offset + HEADER_BYTES as u64))?;
        frames += 1;
        entries += rows.len() as u64;
        sequences.extend(rows.iter().map(|tombstone| tombstone.sequence));
    }
    match walk.end() {
        End::Closed { at, .. } => Err(DbError::corrupt(path, at, "a tombstone log has no closing frame")),
        end => {
            let (used_bytes, torn_bytes) = how_it_ends(path, end, bytes.len() as u64)?;
            Ok(TombstoneContents { frames, entries, used_bytes, torn_bytes })
        }
    }
}

/// Where a log ends, and how many bytes behind that are torn; damage is an error.
fn how_it_ends(path: &Path, end: End, file_bytes: u64) -> Result<(u64, u64)> {
    match end {
        End::Clean { at } | End::Closed { at, .. } => Ok((at, 0)),
        End::Torn { at, bytes } => Ok((at, bytes)),
        End::Corrupt { at, covered_upto, what } => {
            let what = format!("{what} (bytes up to {covered_upto} were synced)");
            Err(DbError::corrupt(path, at, what))
        }
        End::Truncated { covered_upto, .. } => Err(DbError::Truncated {
            file: path.to_owned(),
            found_bytes: file_bytes,
            expected_bytes: covered_upto,
        }),
    }
}
