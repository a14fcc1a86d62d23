//! Describe a file of a table, whatever state it is in: what each of its bytes is.
//!
//! Reads by `read_at` and never through a map, so that a bad sector is a finding and not a signal. Changes nothing and takes
//! no lock. What the bytes mean is said by `format/describe.rs`.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::DiskFile;

use crate::config::Options;
use crate::error::{IoContext, Result};
use crate::format::describe::{FileKind, Span, describe_manifest, describe_tombstones, describe_wal};
use crate::format::segment::{
    self, HEADER_FIXED_BYTES, SectionEntry, SegmentHeader, describe_header, describe_section,
};
use crate::storage::directory::{self, Kind};
use crate::storage::segment_reader::{MAX_HEADER_BYTES, open};

/// A file that is open to be described; see [`describe_file`].
pub struct Description {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    kind: FileKind,
    bytes: u64,
}

impl fmt::Debug for Description {
    /// What and how much; never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Description");
        text.field("path", &self.path)
            .field("kind", &self.kind)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Opens a file to say what each of its bytes is: a manifest, a segment, a WAL or a tombstone log. `docs/format.md` of the
/// repository has the words.
///
/// The file may be damaged, in the quarantine or a copy, and may be written meanwhile: it takes no lock and writes nothing. It
/// is told by its first bytes, or by its name where these are damaged. Of `options` only the disk is used. Costs a read of
/// 8 bytes; [`Description::each`] reads the file.
///
/// ```
/// use keplordb::{Engine, EngineConfig, FileKind, LogEvent, Options, describe_file};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("calls");
/// let engine = Engine::<0, 0, 0>::open(EngineConfig::in_dir(&dir))?;
/// engine.append(&LogEvent { ts_ns: 1_700_000_000_000_000_000, ..LogEvent::default() })?;
/// engine.flush()?;
/// engine.close()?;
///
/// let description = describe_file(dir.join("segments/0000000000000001.kseg"), &Options::default())?;
/// assert_eq!(description.kind(), FileKind::Segment);
/// let spans = description.spans()?;
/// let rows = spans.iter().find(|span| span.name == "segment header / rows").unwrap();
/// assert_eq!((rows.offset, rows.value.as_str()), (28, "1"));
/// assert_eq!(description.read(rows.offset, 4)?, [1, 0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Missing`](crate::DbError::Missing) where there is no such file, [`Io`](crate::DbError::Io) where it cannot be opened. What is
/// wrong with its bytes is said by the spans.
pub fn describe_file(path: impl AsRef<Path>, options: &Options) -> Result<Description> {
    let path = path.as_ref().to_owned();
    let file = open(options.disk.as_ref(), &path)?;
    let bytes = file.bytes().at("measure", &path)?;
    let mut start = [0; 8];
    file.read_at(&mut start, 0).at("read", &path)?;
    let by_name = || {
        let name = path.file_name()?.to_str()?;
        Some(match directory::kind_of_former_name(name)? {
            Kind::Manifest => FileKind::Manifest,
            Kind::Segment(_) => FileKind::Segment,
            Kind::Wal(_) => FileKind::Wal,
            Kind::Tombstones(_) => FileKind::Tombstones,
        })
    };
    let kind = FileKind::of_magic(&start).or_else(by_name).unwrap_or(FileKind::Unknown);
    Ok(Description { path, file, kind, bytes })
}

impl Description {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file is.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// How long the file was when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file's bytes from `offset` on, as they are now: `bytes` of them, fewer only where the file ends.
    ///
    /// # Errors
    /// [`Io`](crate::DbError::Io).
    pub fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        let present = self.file.bytes().at("measure", &self.path)?.saturating_sub(offset);
        let wanted = usize::try_from(present).unwrap_or(usize::MAX).min(bytes);
        let mut target = Vec::new();
        target.try_reserve_exact(wanted).map_err(std::io::Error::from).at("read", &self.path)?;
        target.resize(wanted, 0);
        let read = self.file.read_at(&mut target, offset).at("read", &self.path)?;
        target.truncate(read);
        Ok(target)
    }

    /// Gives every span of the file, in order, until `each` breaks: together they are all of its bytes, each once, from 0 to
    /// [`bytes`](Self::bytes).
    ///
    /// Reads the file once and holds no more of it than its largest section, of a log all of it; no spans. A description of
    /// damaged bytes goes on wherever their structure can still be followed. Whether a log has lost bytes that its manifest
    /// knows of is not said here, but by [`verify_dir`](crate::verify_dir).
    ///
    /// # Errors
    /// [`Io`](crate::DbError::Io) for a header, manifest or log that cannot be read. A section that cannot is a span that says so.
    pub fn each(&self, mut each: impl FnMut(Span) -> ControlFlow<()>) -> Result<()> {
        let mut walk = Walk { each: &mut each, end: 0, is_over: false };
        match self.kind {
            FileKind::Segment => self.segment(&mut walk)?,
            FileKind::Manifest => walk.piece(&self.whole()?, describe_manifest),
            FileKind::Wal => walk.piece(&self.whole()?, describe_wal),
            FileKind::Tombstones => walk.piece(&self.whole()?, describe_tombstones),
            FileKind::Unknown => walk.to(self.bytes, "the file does not begin with a magic number of ours"),
        }
        walk.to(self.bytes, "the file has become shorter meanwhile");
        Ok(())
    }

    /// Every span of the file at once: some hundred bytes each, of which a segment has a few for each column and 256 rows of
    /// texts, and a log a few dozen for each batch.
    ///
    /// # Errors
    /// As [`each`](Self::each).
    pub fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        self.each(|span| {
            spans.push(span);
            ControlFlow::Continue(())
        })?;
        Ok(spans)
    }

    fn whole(&self) -> Result<Vec<u8>> {
        self.read(0, usize::try_from(self.bytes).unwrap_or(usize::MAX))
    }

    fn segment(&self, walk: &mut Walk<'_>) -> Result<()> {
        let start = self.read(0, HEADER_FIXED_BYTES)?;
        let header_bytes = segment::stored_header_bytes(&start).clamp(HEADER_FIXED_BYTES, MAX_HEADER_BYTES);
        let start = self.read(0, header_bytes)?;
        let mut header = None;
        walk.piece(&start, |bytes, each| header = describe_header(bytes, self.bytes, each));
        let Some(header) = header else {
            walk.to(self.bytes, "without its header nobody knows where its sections are");
            return Ok(());
        };
        for (index, section) in header.sections.iter().enumerate() {
            if walk.is_over {
                break;
            }
            self.section(walk, &header, index, section);
        }
        walk.to(self.bytes, "no section is here");
        Ok(())
    }

    /// Tells a section that begins where the last one ended or behind it; any other is told of no more than in the header.
    fn section(&self, walk: &mut Walk<'_>, header: &SegmentHeader, index: usize, section: &SectionEntry) {
        let end = section.offset.saturating_add(section.bytes);
        if section.offset < walk.end || section.offset >= self.bytes {
            return;
        }
        walk.to(section.offset, "no section is here");
        let name = section.name();
        if end > self.bytes {
            return walk.to(self.bytes, &format!("the section {name} is cut"));
        }
        match self.read(section.offset, usize::try_from(section.bytes).unwrap_or(usize::MAX)) {
            Ok(bytes) if bytes.len() as u64 == section.bytes => {
                walk.piece(&bytes, |bytes, each| describe_section(header, index, bytes, each));
            }
            Ok(_) => walk.to(end, &format!("the section {name} is cut")),
            Err(error) => walk.to(end, &format!("the section {name} cannot be read: {error}")),
        }
    }
}

/// What was told so far.
struct Walk<'a> {
    each: &'a mut dyn FnMut(Span) -> ControlFlow<()>,
    /// Where the last span ended.
    end: u64,
    /// Whether nobody wants to hear more.
    is_over: bool,
}

impl Walk<'_> {
    fn tell(&mut self, span: Span) {
        self.end = span.offset + span.bytes;
        if !self.is_over {
            self.is_over = (self.each)(span).is_break();
        }
    }

    /// Tells a piece of the file by whoever knows it.
    fn piece(&mut self, bytes: &[u8], describe: impl FnOnce(&[u8], &mut dyn FnMut(Span))) {
        describe(bytes, &mut |span| self.tell(span));
    }

    /// Tells the bytes up to `end`, if there are any, as not understood.
    fn to(&mut self, end: u64, why: &str) {
        if self.end < end {
            self.tell(Span::not_understood(self.end, end - self.end, why));
        }
    }
}
