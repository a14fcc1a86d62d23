//! Verify: read every checksum of a table's files, or every value, and list all that is wrong.
//!
//! Reads by `read_at` and never through a map, so a bad sector is a finding and not a signal. Changes nothing, and goes on
//! beside appends, rotations and gc: a file that was replaced meanwhile is not missing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_log::frame::{self, End, HEADER_BYTES};
use roaring::RoaringTreemap;

use super::Core;
use super::orphan::Orphans;
use super::report::TornTail;
use crate::config::Options;
use crate::error::{DbError, Result, found_again, restored};
use crate::format::block::Block;
use crate::format::bytes::Malformed;
use crate::format::manifest::{ListedSegment, Manifest};
use crate::format::segment::{SegmentHeader, SegmentView, check_section};
use crate::format::tombstones;
use crate::format::tombstones::Tombstone;
use crate::format::verify::check_values;
use crate::format::wal::WalHeader;
use crate::schema::TableSchema;
use crate::storage::directory::{Directory, Listing};
use crate::storage::manifest;
use crate::storage::segment_reader::{read_header, section_crc};

/// How often a log that an engine in another process is writing is read again before its damage is believed.
const READS_BESIDE_A_WRITER: usize = 3;

/// How much [`verify`](crate::Engine::verify) reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every checksum of every file: finds whatever changed after it was written. As fast as the disk; needs a megabyte.
    Quick,
    /// Also every value, against all that was derived from it: order, zone maps, sums, dictionaries, postings, hash indexes, bloom
    /// filters, rollups, texts; and that no row is there twice. Finds what was written wrong. Some hundred nanoseconds a row;
    /// needs the memory of the largest file.
    Full,
}

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes; 0 where it is about the whole file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// What [`verify`](crate::Engine::verify) read and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How many files were read.
    pub files: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// Everything that is wrong, by file and offset.
    pub problems: Vec<Problem>,
    /// Ends of logs that no open engine wrote and that are no frames. A crash leaves such, and the next open cuts them off: none
    /// of these bytes is known to have been synced. Damage of the last frame of a log that was not closed cleanly looks the same.
    pub torn_tails: Vec<TornTail>,
    /// Whether an engine had the directory open: `torn_tails` may then be writes under way.
    pub engine_at_work: bool,
}

impl VerifyReport {
    /// Whether nothing is wrong; a torn tail is, unless an engine is at work.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && (self.torn_tails.is_empty() || self.engine_at_work)
    }
}

/// Verifies a directory that no engine of this process has open, one that does not open for instance: takes no lock and
/// writes nothing. Of `options` only the disk is used.
///
/// An engine of another process may be at work there ([`VerifyReport::engine_at_work`]). An engine of this process is better asked
/// itself, by [`Engine::verify`](crate::Engine::verify): it knows how far its logs go.
///
/// Where the manifest is missing or damaged, that is a problem, and every file is verified that an open would use then.
///
/// ```
/// use keplordb::{Depth, Engine, EngineConfig, LogEvent, Options};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("calls");
/// let engine = Engine::<0, 0, 0>::open(EngineConfig::in_dir(&dir))?;
/// engine.append(&LogEvent { ts_ns: 1_700_000_000_000_000_000, ..LogEvent::default() })?;
/// engine.close()?;
///
/// let report = keplordb::verify_dir(&dir, &Options::default(), Depth::Full)?;
/// assert!(report.is_clean() && report.files >= 2, "{:?}", report.problems);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Io`](DbError::Io) when the directory cannot be listed. What is wrong with its files is in the report.
pub fn verify_dir(dir: impl AsRef<Path>, options: &Options, depth: Depth) -> Result<VerifyReport> {
    let directory = Directory::new(options.disk.clone(), dir.as_ref().to_owned());
    let engine_at_work = directory.is_locked()?;
    let still_counts = |file: &Path| {
        !engine_at_work || Scope::of_directory(&directory).is_ok_and(|now| now.0.has(&directory, file))
    };
    let (scope, problems) = Scope::of_directory(&directory)?;
    let mut verifier = Verifier::new(&directory, depth, &still_counts);
    verifier.report = VerifyReport { problems, engine_at_work, ..VerifyReport::default() };
    // Beside an engine that may just have written one, also if it began meanwhile, an unlisted file is none; nor is it in a copy,
    // for which it may have been written after the manifest was copied.
    if !engine_at_work && !scope.orphans.is_empty() && !directory.is_copy()? {
        let still = Scope::of_directory(&directory)?.0.orphans;
        let is_alone = !directory.is_locked()?;
        for (path, what) in scope.orphans.iter().filter(|orphan| is_alone && still.contains(orphan)) {
            verifier.say(path, 0, *what);
        }
    }
    Ok(verifier.run(&scope))
}

impl Core {
    /// Verifies the files of what readers see now.
    pub(crate) fn verify(&self, depth: Depth) -> VerifyReport {
        let directory = &self.wal.directory;
        let still_counts = |file: &Path| self.scope().0.has(directory, file);
        let (scope, problem) = self.scope();
        let mut verifier = Verifier::new(directory, depth, &still_counts);
        verifier.report.problems.extend(problem);
        verifier.run(&scope)
    }

    /// The files that count now, and how far the logs are written; and what is wrong with the manifest.
    fn scope(&self) -> (Scope, Option<Problem>) {
        // So that manifest, version and tombstones belong together.
        let publish = self.publish.lock();
        let version = Arc::clone(&self.source.version());
        let tombstones = publish.tombstones.as_ref().map(|log| (log.number(), log.synced_bytes()));
        let stored = manifest::load(&self.wal.directory);
        drop(publish);
        let listed = |entry: &crate::state::version::SegmentEntry| ListedSegment {
            number: entry.segment.number(),
            file_bytes: entry.segment.header().file_bytes,
        };
        let of_memtable = |entry: &crate::state::version::MemtableEntry| {
            let end = entry.memtable.wal_bytes();
            LogScope { number: entry.memtable.generation(), covered: end, end: Some(end), is_listed: true }
        };
        let scope = Scope {
            schema: Some(self.source.schema().clone()),
            manifest_bytes: self.wal.directory.disk().bytes(&self.wal.directory.manifest()).ok().flatten(),
            segments: version.segments.iter().map(listed).collect(),
            wals: version.memtables.iter().map(of_memtable).collect(),
            tombstones: tombstones
                .map(|(number, end)| LogScope { number, covered: end, end: Some(end), is_listed: true })
                .into_iter()
                .collect(),
            orphans: Vec::new(),
        };
        let problem = match stored {
            Ok(stored) if stored.segments == scope.segments || directory_is_poisoned(&self.wal.directory) => {
                None
            }
            Ok(_) => Some(Problem {
                file: self.wal.directory.manifest(),
                offset: 0,
                what: "it does not list the segments that the engine has".to_owned(),
            }),
            Err(error) => Some(problem_of(error)),
        };
        (scope, problem)
    }
}

/// After a failed sync of the manifest's name, the file may be ahead of the engine.
fn directory_is_poisoned(directory: &Directory) -> bool {
    directory.poison().is_set()
}

/// Which files make up the table, and how far each log is known to be written.
struct Scope {
    /// What the table's columns are, where that is known.
    schema: Option<TableSchema>,
    /// Length of the manifest, if there is a whole one.
    manifest_bytes: Option<u64>,
    segments: Vec<ListedSegment>,
    wals: Vec<LogScope>,
    /// Several where it is unknown which one counts.
    tombstones: Vec<LogScope>,
    /// Files that the manifest should list, and what is to be said of each.
    orphans: Vec<(PathBuf, &'static str)>,
}

/// A log and how far it is known to be written.
#[derive(Debug, Clone, Copy)]
struct LogScope {
    number: u64,
    /// Bytes that must be whole.
    covered: u64,
    /// Where it ended when the verification began; `None` where only its bytes can tell.
    end: Option<u64>,
    /// Whether it counts though a segment says that it has its rows: that is then a problem.
    is_listed: bool,
}

impl Scope {
    /// By the manifest; without one, by the files. And what is wrong with either.
    fn of_directory(directory: &Directory) -> Result<(Self, Vec<Problem>)> {
        let listing = directory.list()?;
        if listing.is_new() {
            let nothing = Self {
                schema: None,
                manifest_bytes: None,
                segments: vec![],
                wals: vec![],
                tombstones: vec![],
                orphans: vec![],
            };
            return Ok((nothing, Vec::new()));
        }
        let loaded = if listing.manifest {
            manifest::load(directory)
        } else {
            Err(DbError::Missing { file: directory.manifest() })
        };
        Ok(match loaded {
            Ok(manifest) => Self::of_manifest(directory, &listing, manifest),
            Err(error) => (Self::of_files(directory, &listing), vec![problem_with_advice(error)]),
        })
    }

    /// And the files that the manifest does not list and of which nothing can be told.
    fn of_manifest(directory: &Directory, listing: &Listing, manifest: Manifest) -> (Self, Vec<Problem>) {
        let orphans = Orphans::find(directory, listing, &manifest);
        let unread = orphans.unread().map(|(error, advice)| {
            let problem = problem_of(error.clone());
            Problem { what: format!("{}; {advice}", problem.what), ..problem }
        });
        let (problems, orphans) = (unread.collect(), orphans.files(directory));
        let log = |number, covered, is_listed| LogScope { number, covered, end: None, is_listed };
        let listed = manifest.wals.iter().map(|listed| log(listed.generation, listed.synced_bytes, true));
        let newer = listing.wals.iter().filter(|(generation, _)| *generation >= manifest.next_generation);
        let wals = listed.chain(newer.map(|(generation, _)| log(*generation, 0, false)));
        let tombstones = Some(manifest.tombstone_log).filter(|number| *number != 0);
        let scope = Self {
            manifest_bytes: directory.disk().bytes(&directory.manifest()).ok().flatten(),
            wals: wals.collect(),
            tombstones: tombstones
                .map(|number| log(number, manifest.tombstone_bytes, true))
                .into_iter()
                .collect(),
            segments: manifest.segments,
            schema: Some(manifest.schema),
            orphans,
        };
        (scope, problems)
    }

    /// Every segment that no other one supersedes and every log that none absorbed, as a rebuilt manifest would have it.
    fn of_files(directory: &Directory, listing: &Listing) -> Self {
        let disk = directory.disk().as_ref();
        let headers: Vec<SegmentHeader> = listing
            .segments
            .iter()
            .filter_map(|(number, _)| read_header(disk, &directory.segment(*number)).ok())
            .collect();
        let is_superseded = |number: u64| headers.iter().any(|header| header.supersedes.contains(&number));
        let is_absorbed =
            |generation: u64| headers.iter().any(|header| header.generations.contains(&generation));
        let segments = listing.segments.iter().filter(|(number, _)| !is_superseded(*number));
        let wals = listing.wals.iter().filter(|(generation, _)| !is_absorbed(*generation));
        Self {
            schema: None,
            manifest_bytes: None,
            segments: segments
                .map(|(number, file_bytes)| ListedSegment { number: *number, file_bytes: *file_bytes })
                .collect(),
            wals: wals
                .map(|(number, _)| LogScope { number: *number, covered: 0, end: None, is_listed: true })
                .collect(),
            tombstones: listing
                .tombstones
                .iter()
                .map(|number| LogScope { number: *number, covered: 0, end: None, is_listed: true })
                .collect(),
            orphans: Vec::new(),
        }
    }

    /// Whether a file is part of the table.
    fn has(&self, directory: &Directory, file: &Path) -> bool {
        self.segments.iter().any(|listed| directory.segment(listed.number) == file)
            || self.wals.iter().any(|log| directory.wal(log.number) == file)
            || self.tombstones.iter().any(|log| directory.tombstones(log.number) == file)
    }
}

/// What an error says about a file.
fn problem_of(error: DbError) -> Problem {
    match error {
        DbError::Corrupt { file, offset, what } => Problem { file, offset, what },
        DbError::Truncated { file, found_bytes, expected_bytes } => Problem {
            file,
            offset: found_bytes,
            what: format!("the file has {found_bytes} of at least {expected_bytes} bytes"),
        },
        DbError::Missing { file } => Problem { file, offset: 0, what: "the file is missing".to_owned() },
        DbError::TooNew { file, found, max } => {
            let what = format!("format version {found}, this release reads up to {max}");
            Problem { file, offset: 0, what }
        }
        DbError::TooOld { file, found, min } => {
            let what = format!("format version {found}, this release reads {min} and later");
            Problem { file, offset: 0, what }
        }
        DbError::Io { file, op, source } => {
            Problem { file, offset: 0, what: format!("{op} failed: {source}") }
        }
        other => Problem { file: PathBuf::new(), offset: 0, what: other.to_string() },
    }
}

/// And what to do, where that is not to restore the file or to go on without it.
fn problem_with_advice(error: DbError) -> Problem {
    let advice = match &error {
        DbError::Corrupt { file, .. } | DbError::Truncated { file, .. } if is_manifest(file) => {
            restored(file)
        }
        DbError::Missing { file } if is_manifest(file) => found_again(file),
        DbError::TooNew { .. } => "open the table with a newer release",
        DbError::TooOld { .. } => "export the table with the release that wrote it, and import it anew",
        _ => return problem_of(error),
    };
    let problem = problem_of(error);
    Problem { what: format!("{}; {advice}", problem.what), ..problem }
}

fn is_manifest(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "MANIFEST")
}

/// Goes over the files one by one.
struct Verifier<'a> {
    directory: &'a Directory,
    depth: Depth,
    /// Whether a file is part of the table by now: one that is not may well be gone.
    still_counts: &'a dyn Fn(&Path) -> bool,
    report: VerifyReport,
    /// Of all rows so far.
    sequences: RoaringTreemap,
    /// By sequence: the time, and the log that says so.
    tombstones: HashMap<u64, (i64, u64)>,
}

impl<'a> Verifier<'a> {
    fn new(directory: &'a Directory, depth: Depth, still_counts: &'a dyn Fn(&Path) -> bool) -> Self {
        Self {
            directory,
            depth,
            still_counts,
            report: VerifyReport::default(),
            sequences: RoaringTreemap::new(),
            tombstones: HashMap::new(),
        }
    }

    fn run(mut self, scope: &Scope) -> VerifyReport {
        if let Some(bytes) = scope.manifest_bytes {
            self.count(bytes);
        }
        // First, so that each row can be compared with its tombstone.
        for log in &scope.tombstones {
            let path = self.directory.tombstones(log.number);
            self.log(&path, *log, Self::tombstone_log);
        }
        let mut headers = Vec::new();
        for listed in &scope.segments {
            headers
                .extend(self.segment(*listed, scope.schema.as_ref()).map(|header| (listed.number, header)));
        }
        self.families(scope, &headers);
        let is_absorbed =
            |log: &LogScope| headers.iter().any(|(_, header)| header.generations.contains(&log.number));
        for log in scope.wals.iter().filter(|log| log.is_listed || !is_absorbed(log)) {
            let path = self.directory.wal(log.number);
            self.log(&path, *log, |this, path, log, bytes| this.wal(path, log, bytes, scope.schema.as_ref()));
        }
        self.report.problems.sort();
        self.report
    }

    fn count(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
    }

    fn say(&mut self, file: &Path, offset: u64, what: impl Into<String>) {
        self.report.problems.push(Problem { file: file.to_owned(), offset, what: what.into() });
    }

    fn say_error(&mut self, error: DbError) {
        let is_gone = matches!(&error, DbError::Missing { file } if !(self.still_counts)(file));
        if !is_gone {
            self.report.problems.push(problem_with_advice(error));
        }
    }

    /// That the segments and logs of the table do not hold the same rows by their own account.
    fn families(&mut self, scope: &Scope, headers: &[(u64, SegmentHeader)]) {
        for (number, header) in headers {
            let file = self.directory.segment(*number);
            for other in scope.segments.iter().filter(|listed| header.supersedes.contains(&listed.number)) {
                let what = format!("it supersedes segment {}, which is listed too", other.number);
                self.say(&file, 0, what);
            }
            for log in
                scope.wals.iter().filter(|log| log.is_listed && header.generations.contains(&log.number))
            {
                self.say(&file, 0, format!("it absorbed generation {}, which is listed too", log.number));
            }
        }
    }

    fn segment(&mut self, listed: ListedSegment, schema: Option<&TableSchema>) -> Option<SegmentHeader> {
        let path = self.directory.segment(listed.number);
        let header = match read_header(self.directory.disk().as_ref(), &path) {
            Ok(header) => header,
            Err(error) => {
                self.say_error(error);
                return None;
            }
        };
        self.count(header.file_bytes);
        if header.file_bytes != listed.file_bytes {
            let what =
                format!("the manifest lists {} bytes, the header {}", listed.file_bytes, header.file_bytes);
            self.say(&path, 0, what);
        }
        self.columns(&path, &header.schema, schema);
        match self.depth {
            Depth::Quick => self.section_checksums(&path, &header),
            Depth::Full => self.section_values(&path, &header),
        }
        Some(header)
    }

    /// That a file's columns are the first of the table's.
    fn columns(&mut self, path: &Path, of_file: &TableSchema, schema: Option<&TableSchema>) {
        if let Some(differences) = schema.and_then(|schema| schema.differences_from(of_file)) {
            self.say(path, 0, format!("its columns are not those of the table: {differences}"));
        }
    }

    fn section_checksums(&mut self, path: &Path, header: &SegmentHeader) {
        let file = match self.directory.disk().open_read(path) {
            Ok(file) => file,
            Err(error) => return self.say_error(cannot_open(path, error)),
        };
        for section in &header.sections {
            match section_crc(file.as_ref(), section.offset, section.bytes) {
                Ok(Some(crc)) if crc == section.crc => {}
                Ok(Some(_)) => self.say(path, section.offset, section.wrong_checksum()),
                Ok(None) => self.say(path, section.offset, format!("the section {} is cut", section.name())),
                Err(error) => {
                    self.say(
                        path,
                        section.offset,
                        format!("the section {} cannot be read: {error}", section.name()),
                    );
                }
            }
        }
    }

    fn section_values(&mut self, path: &Path, header: &SegmentHeader) {
        let read = keplordb_disk::read_all(self.directory.disk().as_ref(), path, header.file_bytes);
        // A file that cannot be read as a whole may have one bad sector.
        let Ok(bytes) = read else { return self.section_checksums(path, header) };
        let mut problems = Vec::new();
        let mut is_sound = Vec::with_capacity(header.sections.len());
        for (index, section) in header.sections.iter().enumerate() {
            let content = section.range().and_then(|range| bytes.get(range)).unwrap_or_default();
            let checked = if crc32fast::hash(content) == section.crc {
                check_section(header, index, content)
                    .map_err(|found| Malformed { offset: section.offset + found.offset, ..found })
            } else {
                Err(Malformed { offset: section.offset, what: section.wrong_checksum() })
            };
            is_sound.push(checked.is_ok());
            problems.extend(checked.err());
        }
        let (sequences, tombstones) = (&mut self.sequences, &self.tombstones);
        let (mut doubled, mut other_times) = (0_u64, Vec::new());
        let mut each_row = |ts_ns: i64, sequence: u64| {
            doubled += u64::from(!sequences.insert(sequence));
            other_times.extend(wrong_tombstone(tombstones, ts_ns, sequence));
        };
        let view = SegmentView { header, bytes: &bytes };
        check_values(view, &is_sound, &mut each_row, &mut |malformed| problems.push(malformed));
        self.doubled(path, doubled);
        self.other_times(other_times);
        for malformed in problems {
            self.say(path, malformed.offset, malformed.what);
        }
    }

    fn doubled(&mut self, path: &Path, rows: u64) {
        if rows > 0 {
            self.say(path, 0, format!("{rows} of its rows have sequences that other rows have too"));
        }
    }

    /// Rows whose tombstones have other times than they.
    fn other_times(&mut self, found: Vec<(u64, String)>) {
        for (log, what) in found {
            let path = self.directory.tombstones(log);
            self.say(&path, 0, what);
        }
    }

    /// Reads a log up to where it is written and has it checked; again if an engine may have been writing it.
    fn log(
        &mut self,
        path: &Path,
        log: LogScope,
        check: impl Fn(&mut Self, &Path, LogScope, &[u8]) -> Result<RoaringTreemap>,
    ) {
        let reads = if self.report.engine_at_work { READS_BESIDE_A_WRITER } else { 1 };
        let before = self.report.clone();
        let mut sequences = RoaringTreemap::new();
        for _ in 0..reads {
            self.report.clone_from(&before);
            let checked = match keplordb_disk::read_all(self.directory.disk().as_ref(), path, u64::MAX) {
                Ok(mut bytes) => {
                    let end = log.end.and_then(|end| usize::try_from(end).ok());
                    bytes.truncate(end.unwrap_or(usize::MAX));
                    self.count(bytes.len() as u64);
                    check(self, path, log, &bytes)
                }
                Err(error) => Err(cannot_open(path, error)),
            };
            match checked {
                Ok(of_log) => sequences = of_log,
                Err(error) => self.say_error(error),
            }
            if self.report.problems.len() == before.problems.len() {
                break;
            }
        }
        self.doubled(path, self.sequences.intersection_len(&sequences));
        self.sequences |= sequences;
    }

    /// The sequences of its rows, where values are read.
    fn wal(
        &mut self,
        path: &Path,
        log: LogScope,
        bytes: &[u8],
        schema: Option<&TableSchema>,
    ) -> Result<RoaringTreemap> {
        let (header, header_bytes) = WalHeader::decode(bytes).map_err(|error| error.in_file(path))?;
        if header.generation != log.number {
            let what =
                format!("the file's name says generation {}, its header {}", log.number, header.generation);
            self.say(path, 0, what);
        }
        self.columns(path, &header.schema, schema);
        let mut walk = frame::walk(bytes, header_bytes, header.salt, log.covered);
        let (mut sequences, mut doubled, mut other_times) = (RoaringTreemap::new(), 0, Vec::new());
        let reads_rows = self.depth == Depth::Full;
        for frame in walk.by_ref().filter(|_| reads_rows) {
            match Block::decode(frame.payload, header.schema.shape(), frame.rows, frame.first) {
                Ok(block) => {
                    for (ts_ns, sequence) in block.ts().iter().zip(block.sequence()) {
                        doubled += u64::from(!sequences.insert(*sequence));
                        other_times.extend(wrong_tombstone(&self.tombstones, *ts_ns, *sequence));
                    }
                }
                Err(malformed) => {
                    let offset = frame.offset + HEADER_BYTES as u64 + malformed.offset;
                    self.say(path, offset, malformed.what);
                }
            }
        }
        self.doubled(path, doubled);
        self.other_times(other_times);
        self.end(path, walk.end(), bytes.len() as u64, true);
        Ok(sequences)
    }

    fn tombstone_log(&mut self, path: &Path, log: LogScope, bytes: &[u8]) -> Result<RoaringTreemap> {
        let (salt, header_bytes) = tombstones::decode_header(bytes).map_err(|error| error.in_file(path))?;
        let mut walk = frame::walk(bytes, header_bytes, salt, log.covered);
        let mut deleted: Vec<Tombstone> = Vec::new();
        for frame in walk.by_ref() {
            if let Err(malformed) = tombstones::decode(frame.payload, frame.rows, &mut deleted) {
                self.say(path, frame.offset + HEADER_BYTES as u64 + malformed.offset, malformed.what);
            }
        }
        if self.depth == Depth::Full {
            for Tombstone { ts_ns, sequence } in deleted {
                let before = self.tombstones.insert(sequence, (ts_ns, log.number));
                if let Some((before, _)) = before.filter(|(before, _)| *before != ts_ns) {
                    self.say(path, 0, format!("row {sequence} is deleted at {before} ns and at {ts_ns} ns"));
                }
            }
        }
        self.end(path, walk.end(), bytes.len() as u64, false);
        Ok(RoaringTreemap::new())
    }

    /// How a log ends.
    fn end(&mut self, path: &Path, end: End, file_bytes: u64, may_close: bool) {
        match end {
            End::Clean { .. } => {}
            End::Closed { .. } if may_close => {}
            End::Closed { at, .. } => self.say(path, at, "a closing frame in a log that has none"),
            End::Torn { at, bytes } => {
                self.report.torn_tails.push(TornTail { file: path.to_owned(), offset: at, bytes });
            }
            End::Corrupt { at, covered_upto, what } => {
                self.say(path, at, format!("{what} (bytes up to {covered_upto} were synced)"));
            }
            End::Truncated { covered_upto, .. } => {
                let (file, found_bytes, expected_bytes) = (path.to_owned(), file_bytes, covered_upto);
                self.report.problems.push(problem_of(DbError::Truncated {
                    file,
                    found_bytes,
                    expected_bytes,
                }));
            }
        }
    }
}

/// What is wrong with the tombstone of a row, if it has one, and in which log it is.
fn wrong_tombstone(
    tombstones: &HashMap<u64, (i64, u64)>,
    ts_ns: i64,
    sequence: u64,
) -> Option<(u64, String)> {
    let (deleted_at, log) = tombstones.get(&sequence).filter(|(deleted_at, _)| *deleted_at != ts_ns)?;
    Some((*log, format!("the tombstone of row {sequence} has time {deleted_at} ns, the row {ts_ns} ns")))
}

fn cannot_open(path: &Path, error: std::io::Error) -> DbError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return DbError::Missing { file: path.to_owned() };
    }
    DbError::io("read", path, error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keplordb_disk::{Disk, MemoryDisk, read_all};

    use super::*;
    use crate::config::EngineConfig;
    use crate::engine::orphan::ORPHANED;
    use crate::event::LogEvent;
    use crate::format::numbers;
    use crate::format::segment::SectionKind;
    use crate::format::segment::tamper::{with_header, with_section};
    use crate::storage::tombstones::TombstoneLog;
    use crate::storage::wal::WalContext;

    fn open(disk: &Arc<MemoryDisk>) -> Arc<Core> {
        let options = Options::default().disk(disk.clone()).unlink_grace(Duration::ZERO).merge_rows(0);
        let config = EngineConfig { data_dir: "events".into(), ..EngineConfig::default() };
        Core::open(config, options, TableSchema::positional(0, 1, 0, 0)).unwrap()
    }

    /// Appends so many rows, at the times 0, 1, …
    fn append(core: &Core, rows: i64) {
        let event = |row: i64| LogEvent {
            id: format!("id-{row}"),
            ts_ns: row,
            dims: [format!("user {}", row % 3)],
            ..LogEvent::default()
        };
        let batch: Vec<LogEvent<1, 0, 0>> = (0..rows).map(event).collect();
        core.append(batch.iter().map(LogEvent::as_row), false).unwrap();
    }

    /// Two segments of 300 rows, a tombstone, and a log of 20 rows: closed.
    fn store() -> Arc<MemoryDisk> {
        let disk = Arc::new(MemoryDisk::default());
        let db = open(&disk);
        for _ in 0..2 {
            append(&db, 300);
            db.flush().unwrap();
        }
        append(&db, 20);
        db.delete_events(&["id-7"]).unwrap();
        db.close().unwrap();
        disk
    }

    fn directory(disk: &Arc<MemoryDisk>) -> Directory {
        Directory::new(disk.clone(), "events".into())
    }

    fn verify(disk: &Arc<MemoryDisk>, depth: Depth) -> VerifyReport {
        verify_dir("events", &Options::default().disk(disk.clone()), depth).unwrap()
    }

    fn findings(disk: &Arc<MemoryDisk>, depth: Depth) -> Vec<String> {
        let found = verify(disk, depth).problems;
        found
            .into_iter()
            .map(|found| format!("{} {}: {}", found.file.display(), found.offset, found.what))
            .collect()
    }

    fn change(disk: &Arc<MemoryDisk>, path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bytes = change(read_all(disk.as_ref(), path, u64::MAX).unwrap());
        disk.remove(path).unwrap();
        disk.create(path).unwrap().write_at(&bytes, 0).unwrap();
    }

    #[test]
    fn a_sound_table_is_clean_closed_open_and_crashed() {
        let disk = store();
        for depth in [Depth::Quick, Depth::Full] {
            let report = verify(&disk, depth);
            assert!(report.is_clean() && !report.engine_at_work, "{report:?}");
            // The manifest, two segments, a log, the tombstones.
            assert_eq!(report.files, 5);
        }
        let db = open(&disk);
        append(&db, 5);
        for depth in [Depth::Quick, Depth::Full] {
            let report = db.verify(depth);
            assert!(report.is_clean() && report.files == 5, "{report:?}");
            let from_outside = verify(&disk, depth);
            assert!(from_outside.is_clean() && from_outside.engine_at_work, "{from_outside:?}");
        }
        let nowhere =
            verify_dir("events", &Options::default().disk(Arc::new(MemoryDisk::default())), Depth::Full);
        assert!(matches!(nowhere, Err(DbError::Io { op: "list", .. })), "{nowhere:?}");
    }

    #[test]
    fn wrong_values_under_right_checksums_are_found_by_full_only() {
        let disk = store();
        let segment = directory(&disk).segment(1);
        change(&disk, &segment, |file| {
            let file = with_header(&file, |header| header.facts.ts_max = 300);
            with_section(&file, SectionKind::Metric, 0, |bytes| {
                bytes.clear();
                numbers::encode(&[4; 300], true, bytes);
            })
        });
        assert_eq!(findings(&disk, Depth::Quick), Vec::<String>::new());
        let found = findings(&disk, Depth::Full);
        let name = segment.display();
        assert_eq!(
            found[0],
            format!(
                "{name} 0: the header says of measure 0 Measure {{ sum: 0, min: 0, max: 0 }}, the rows have Measure {{ sum: 1200, min: 4, max: 4 }}"
            )
        );
        assert_eq!(found[1], format!("{name} 0: the header says times (0, 300), the rows have (0, 299)"));
        // And the sums of the values of status and dim, and the rollups; by the live engine as well.
        assert_eq!(found.len(), 5, "{found:#?}");
        assert_eq!(open(&disk).verify(Depth::Full).problems.len(), 5);
    }

    #[test]
    fn every_damaged_file_is_named_not_only_the_first() {
        let disk = store();
        let directory = directory(&disk);
        let flip = |path: &Path, at: usize| {
            change(&disk, path, |mut bytes| {
                let at = if at == usize::MAX { bytes.len() - 1 } else { at };
                bytes[at] ^= 0x40;
                bytes
            });
        };
        flip(&directory.segment(1), usize::MAX);
        flip(&directory.segment(1), 70 * 64);
        flip(&directory.segment(2), 40);
        flip(&directory.wal(3), 300);
        flip(&directory.tombstones(1), 60);
        for depth in [Depth::Quick, Depth::Full] {
            let found = findings(&disk, depth);
            let files: Vec<&str> = found.iter().map(|found| found.split(' ').next().unwrap()).collect();
            let expected = [
                "events/segments/0000000000000001.kseg",
                "events/segments/0000000000000001.kseg",
                "events/segments/0000000000000002.kseg",
                "events/tombstones.0000000000000001",
                "events/wal/0000000000000003.kwal",
            ];
            assert_eq!(files, expected, "{found:#?}");
        }
        disk.remove(&directory.segment(2)).unwrap();
        assert!(
            findings(&disk, Depth::Quick)
                .contains(&"events/segments/0000000000000002.kseg 0: the file is missing".to_owned())
        );
    }

    #[test]
    fn without_a_manifest_the_files_are_verified_that_an_open_would_use() {
        let disk = store();
        change(&disk, &directory(&disk).manifest(), |bytes| bytes[..bytes.len() - 8].to_vec());
        let report = verify(&disk, Depth::Full);
        assert_eq!((report.problems.len(), report.files), (1, 4), "{report:?}");
        assert_eq!(report.problems[0].file, Path::new("events/MANIFEST"));
    }

    #[test]
    fn rows_that_are_there_twice_are_found() {
        let disk = store();
        let directory = directory(&disk);
        let first = read_all(disk.as_ref(), &directory.segment(1), u64::MAX).unwrap();
        change(&disk, &directory.segment(2), |_| first);
        let found = findings(&disk, Depth::Full);
        let twice = "events/segments/0000000000000002.kseg 0: 300 of its rows have sequences that other rows have too";
        assert!(found.contains(&twice.to_owned()), "{found:#?}");
        assert!(!findings(&disk, Depth::Quick).contains(&twice.to_owned()));
    }

    #[test]
    fn segments_that_claim_what_is_listed_too_are_found() {
        let disk = store();
        let segment = directory(&disk).segment(2);
        change(&disk, &segment, |file| {
            with_header(&file, |header| (header.supersedes, header.generations) = (vec![1, 9], vec![3]))
        });
        let mut found = findings(&disk, Depth::Quick);
        found.retain(|what| !what.contains("the manifest lists"));
        let name = segment.display();
        assert_eq!(
            found,
            [
                format!("{name} 0: it absorbed generation 3, which is listed too"),
                format!("{name} 0: it supersedes segment 1, which is listed too"),
            ]
        );
    }

    #[test]
    fn a_tombstone_that_is_not_of_its_row_is_found() {
        let disk = store();
        let directory = directory(&disk);
        disk.remove(&directory.tombstones(1)).unwrap();
        let context = WalContext { directory, syncs: Arc::default() };
        // Sequence 3 is row 2 of the first segment, 603 that of the log, and row 3 is deleted rightly.
        let rows = [(99, 3), (98, 603), (3, 4)].map(|(ts_ns, sequence)| Tombstone { ts_ns, sequence });
        TombstoneLog::create(&context, 1, &rows).unwrap();
        let found = findings(&disk, Depth::Full);
        assert_eq!(
            found,
            [
                "events/tombstones.0000000000000001 0: the tombstone of row 3 has time 99 ns, the row 2 ns",
                "events/tombstones.0000000000000001 0: the tombstone of row 603 has time 98 ns, the row 2 ns",
            ]
        );
        assert_eq!(findings(&disk, Depth::Quick), Vec::<String>::new());
    }

    #[test]
    fn a_segment_that_the_manifest_should_list_is_found_when_nobody_may_just_have_written_it() {
        let disk = store();
        let db = open(&disk);
        let directory = directory(&disk);
        let sound = read_all(disk.as_ref(), &directory.segment(2), u64::MAX).unwrap();
        let younger = with_header(&sound, |header| header.generations = vec![999]);
        let path = directory.segment(77);
        disk.create(&path).unwrap().write_at(&younger, 0).unwrap();
        for depth in [Depth::Quick, Depth::Full] {
            let report = verify(&disk, depth);
            assert!(report.is_clean() && report.engine_at_work, "{report:?}");
            assert!(db.verify(depth).is_clean());
        }
        drop(db);
        for depth in [Depth::Quick, Depth::Full] {
            assert_eq!(findings(&disk, depth), [format!("{} 0: {ORPHANED}", path.display())]);
        }
        // In a copy it may have been written after the manifest was copied.
        let lock = disk.open(&directory.root().join("LOCK")).unwrap();
        lock.write_at(b"00000000000000ff", 0).unwrap();
        assert_eq!(findings(&disk, Depth::Quick), [""; 0]);
    }

    #[test]
    fn a_torn_tail_is_told_apart() {
        let disk = store();
        let db = open(&disk);
        append(&db, 5);
        let wal = directory(&disk).wal(3);
        let crashed = Arc::new(MemoryDisk::default());
        for path in [wal.clone(), directory(&disk).manifest(), directory(&disk).tombstones(1)]
            .into_iter()
            .chain([1, 2].map(|number| directory(&disk).segment(number)))
        {
            crashed.create_dir(path.parent().unwrap()).unwrap();
            let bytes = read_all(disk.as_ref(), &path, u64::MAX).unwrap();
            crashed.create(&path).unwrap().write_at(&bytes, 0).unwrap();
        }
        assert!(verify(&crashed, Depth::Full).is_clean(), "zeros written ahead are no tail");
        change(&crashed, &wal, |mut bytes| {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[last] ^= 1;
            bytes
        });
        let report = verify(&crashed, Depth::Quick);
        assert!(report.problems.is_empty() && !report.is_clean());
        assert_eq!((report.torn_tails.len(), &report.torn_tails[0].file), (1, &wal));
    }
}
