//! A segment file that is open for reading: mapped when it is asked, each section checked before its first use.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use keplordb_disk::{Disk, DiskFile, Mapping};
use parking_lot::Mutex;

use super::directory::Directory;
use super::map_cache::MapCache;
use crate::config::MapMode;
use crate::error::{DbError, IoContext, Result};
use crate::expr::NumberColumn;
use crate::format::bloom::Bloom;
use crate::format::bytes::Malformed;
use crate::format::ids::{self, TextIndex, Wanted};
use crate::format::keys::Keys;
use crate::format::numbers::Numbers;
use crate::format::rollups::Rollups;
use crate::format::segment::{self, HEADER_FIXED_BYTES, SectionKind, SegmentHeader};
use crate::format::texts::Texts;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC};

/// Bytes read at a time while a section is checked.
const CHECK_BYTES: usize = 1 << 20;
/// Files up to this length are read, not mapped: for two pages a map costs more than the copy.
const SMALL_FILE_BYTES: u64 = 8 << 10;
/// Longest header: names, sections and lists of a table with the most columns stay far below.
pub(crate) const MAX_HEADER_BYTES: usize = 16 << 20;

/// An immutable segment: its header in memory, its sections on disk.
///
/// A section's checksum and structure are verified once, by `read`, before it is first used through the map: a bad sector
/// is then an error and not a signal, and what passed can be read without further checks.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u64,
    path: PathBuf,
    header: SegmentHeader,
    disk: Arc<dyn Disk>,
    mode: MapMode,
    cache: Arc<MapCache>,
    /// Read without a lock: a query asks every segment.
    mapping: ArcSwapOption<Mapping>,
    last_used: AtomicU64,
    /// Per section: whether it was verified since the segment was opened.
    verified: Vec<AtomicBool>,
    /// So that two readers do not verify the same section twice.
    verifying: Mutex<()>,
    computed_rollups: OnceLock<Box<ComputedRollups>>,
    /// Of the ids, once their index was opened: 64 bytes, by which look-ups pass a segment over without touching its file.
    id_bounds: OnceLock<ids::Bounds>,
}

/// Day rollups by some dims, and those by others that were asked for after them: few, so a list does.
#[derive(Debug)]
struct ComputedRollups {
    dims: Vec<usize>,
    bytes: Vec<u8>,
    next: OnceLock<Box<ComputedRollups>>,
}

impl Segment {
    /// Reads and checks the header of a segment; its sections stay on disk.
    pub(crate) fn open(
        directory: &Directory,
        number: u64,
        cache: &Arc<MapCache>,
        mode: MapMode,
    ) -> Result<Arc<Self>> {
        let path = directory.segment(number);
        let disk = Arc::clone(directory.disk());
        let header = read_header(disk.as_ref(), &path)?;
        let verified = header.sections.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Arc::new(Self {
            number,
            path,
            header,
            disk,
            mode,
            cache: Arc::clone(cache),
            mapping: ArcSwapOption::empty(),
            last_used: AtomicU64::new(0),
            verified,
            verifying: Mutex::new(()),
            computed_rollups: OnceLock::new(),
            id_bounds: OnceLock::new(),
        }))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is read rather than mapped, whatever the mode of the engine.
    pub(crate) fn is_small(&self) -> bool {
        self.header.file_bytes <= SMALL_FILE_BYTES
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// When it was last asked, on the cache's clock.
    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Whether no row has an id, as far as that is known without a look at the file.
    pub(crate) fn lacks_id(&self, wanted: &Wanted<'_>) -> bool {
        self.id_bounds.get().is_some_and(|bounds| !wanted.is_within(bounds))
    }

    /// Lets go of the map; readers at work keep it until they are done.
    pub(crate) fn unmap(&self) {
        self.mapping.store(None);
    }

    /// Makes the sections readable, mapping the file if it is not.
    #[inline]
    pub(crate) fn read(self: &Arc<Self>) -> Result<OpenSegment<'_>> {
        let now = self.cache.now();
        // Most reads find it so, and leave the cache line to all processors.
        if self.last_used() != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
        let mapping = self.mapping.load();
        if mapping.is_some() {
            return Ok(OpenSegment { segment: self, mapping });
        }
        self.map()
    }

    #[cold]
    fn map(self: &Arc<Self>) -> Result<OpenSegment<'_>> {
        let mapping = match self.mode() {
            MapMode::Map => self.disk.map(&self.path, self.header.file_bytes),
            MapMode::Read => keplordb_disk::read_all(self.disk.as_ref(), &self.path, self.header.file_bytes)
                .map(Mapping::owned),
        };
        let mapping = match mapping {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(self.too_short()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DbError::Missing { file: self.path.clone() });
            }
            mapping => mapping.at("map", &self.path)?,
        };
        if mapping.len() as u64 != self.header.file_bytes {
            return Err(self.too_short());
        }
        let mapping = Some(Arc::new(mapping));
        self.mapping.store(mapping.clone());
        self.cache.mapped(self);
        Ok(OpenSegment { segment: self, mapping: Guard::from_inner(mapping) })
    }

    /// Day rollups for dims other than the stored ones: made by the first who asks for these, kept while the segment is open.
    pub(crate) fn computed_rollups(
        &self,
        dims: &[usize],
        make: impl Fn() -> Result<Vec<u8>>,
    ) -> Result<&[u8]> {
        let mut place = &self.computed_rollups;
        loop {
            match place.get() {
                Some(known) if known.dims == dims => return Ok(&known.bytes),
                Some(other) => place = &other.next,
                // Whoever comes first has the place.
                None => {
                    let bytes = make()?;
                    let computed = ComputedRollups { dims: dims.to_vec(), bytes, next: OnceLock::new() };
                    place.get_or_init(|| Box::new(computed));
                }
            }
        }
    }

    fn mode(&self) -> MapMode {
        if self.is_small() { MapMode::Read } else { self.mode }
    }

    fn too_short(&self) -> DbError {
        let found_bytes = self.disk.bytes(&self.path).ok().flatten().unwrap_or(0);
        DbError::Truncated { file: self.path.clone(), found_bytes, expected_bytes: self.header.file_bytes }
    }

    /// Verifies a section unless that was done since the segment was opened.
    fn verify(&self, index: usize, file: &[u8]) -> Result<()> {
        let Some(verified) = self.verified.get(index) else { return Ok(()) };
        if verified.load(Ordering::Acquire) {
            return Ok(());
        }
        let _guard = self.verifying.lock();
        if verified.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check(index, file)?;
        verified.store(true, Ordering::Release);
        Ok(())
    }

    fn check(&self, index: usize, file: &[u8]) -> Result<()> {
        let Some(section) = self.header.sections.get(index) else { return Ok(()) };
        let crc = match self.mode() {
            MapMode::Read => crc32fast::hash(section_bytes(file, section.offset, section.bytes)),
            MapMode::Map => self.read_crc(section.offset, section.bytes)?,
        };
        if crc != section.crc {
            return Err(DbError::corrupt(&self.path, section.offset, section.wrong_checksum()));
        }
        let bytes = section_bytes(file, section.offset, section.bytes);
        segment::check_section(&self.header, index, bytes)
            .map_err(|malformed| malformed.in_file(&self.path, section.offset))
    }

    /// The checksum of what the disk says, not the map.
    fn read_crc(&self, offset: u64, bytes: u64) -> Result<u32> {
        let file = open(self.disk.as_ref(), &self.path)?;
        section_crc(file.as_ref(), offset, bytes).at("read", &self.path)?.ok_or_else(|| self.too_short())
    }
}

/// The checksum of some bytes of a file, read a megabyte at a time; `None` where the file ends before they do.
pub(crate) fn section_crc(file: &dyn DiskFile, offset: u64, bytes: u64) -> std::io::Result<Option<u32>> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHECK_BYTES.min(usize::try_from(bytes).unwrap_or(CHECK_BYTES))];
    let end = offset + bytes;
    let mut at = offset;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let target = buffer.get_mut(..wanted).unwrap_or_default();
        if file.read_at(target, at)? < wanted {
            return Ok(None);
        }
        hasher.update(target);
        at += wanted as u64;
    }
    Ok(Some(hasher.finalize()))
}

fn section_bytes(file: &[u8], offset: u64, bytes: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = usize::try_from(offset.saturating_add(bytes)).unwrap_or(usize::MAX);
    file.get(start..end).unwrap_or_default()
}

/// Opens a file of a table for reading.
pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    match disk.open_read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DbError::Missing { file: path.to_owned() })
        }
        file => file.at("open", path),
    }
}

/// Reads and checks the header of a segment file, and that the file is as long as it says.
pub(crate) fn read_header(disk: &dyn Disk, path: &Path) -> Result<SegmentHeader> {
    let file = open(disk, path)?;
    let found_bytes = file.bytes().at("measure", path)?;
    let mut bytes = vec![0; HEADER_FIXED_BYTES];
    let read = file.read_at(&mut bytes, 0).at("read", path)?;
    bytes.truncate(read);
    let (header_bytes, expected_bytes) =
        segment::header_lengths(&bytes).map_err(|error| error.in_file(path))?;
    if found_bytes < expected_bytes {
        return Err(DbError::Truncated { file: path.to_owned(), found_bytes, expected_bytes });
    }
    if found_bytes > expected_bytes || header_bytes > MAX_HEADER_BYTES || header_bytes as u64 > found_bytes {
        let what = format!(
            "the header says {expected_bytes} bytes and {header_bytes} for itself, the file has {found_bytes}"
        );
        return Err(DbError::corrupt(path, 0, what));
    }
    bytes.resize(header_bytes, 0);
    let read = file.read_at(&mut bytes, 0).at("read", path)?;
    bytes.truncate(read);
    SegmentHeader::parse(&bytes).map_err(|error| error.in_file(path))
}

/// A segment whose sections can be read; each is verified on its first touch.
#[derive(Debug)]
pub(crate) struct OpenSegment<'a> {
    segment: &'a Segment,
    /// Never `None`.
    mapping: Guard<Option<Arc<Mapping>>>,
}

impl OpenSegment<'_> {
    /// What is wrong with a section that was verified: a value that its checksum could not know to be impossible.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> DbError {
        malformed.in_file(&self.segment.path, 0)
    }

    pub(crate) fn rows(&self) -> usize {
        self.segment.header.rows as usize
    }

    /// The segment's file.
    pub(crate) fn path(&self) -> &Path {
        &self.segment.path
    }

    /// The whole file.
    fn bytes(&self) -> &[u8] {
        self.mapping.as_deref().map(|mapping| &**mapping).unwrap_or_default()
    }

    /// How many bytes of a section, by its place in the header, only make answers quick.
    pub(crate) fn index_bytes(&self, index: usize) -> Result<u64> {
        self.segment.verify(index, self.bytes())?;
        let header = &self.segment.header;
        let Some(section) = header.sections.get(index) else { return Ok(0) };
        let bytes = section_bytes(self.bytes(), section.offset, section.bytes);
        Ok(segment::index_bytes(header, index, bytes) as u64)
    }

    /// The section of this kind and column, verified, without its padding; `None` when the segment has none.
    fn section(&self, kind: SectionKind, column: usize) -> Result<Option<&[u8]>> {
        let Some(index) = self.segment.header.section(kind, column) else { return Ok(None) };
        self.segment.verify(index, self.bytes())?;
        let content = self.segment.header.sections.get(index).and_then(|section| section.content(0));
        Ok(content.and_then(|content| self.bytes().get(content)))
    }

    /// A section that every segment has, as its header vouches for.
    fn fixed(&self, kind: SectionKind) -> Result<&[u8]> {
        self.section(kind, 0).map(Option::unwrap_or_default)
    }

    fn fixed_numbers(&self, kind: SectionKind) -> Result<Numbers<'_>> {
        Ok(Numbers::new(self.fixed(kind)?, self.rows(), kind.has_running_sums()))
    }

    pub(crate) fn time(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::Time)
    }

    pub(crate) fn sequence(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::Sequence)
    }

    pub(crate) fn metric(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::Metric)
    }

    pub(crate) fn latency(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::Latency)
    }

    pub(crate) fn latency_detail(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::LatencyDetail)
    }

    pub(crate) fn flags(&self) -> Result<Numbers<'_>> {
        self.fixed_numbers(SectionKind::Flags)
    }

    /// `None` when the segment is older than the column; so in all that follow.
    pub(crate) fn counter(&self, column: usize) -> Result<Option<Numbers<'_>>> {
        let (kind, rows) = (SectionKind::Counter, self.rows());
        let section = self.section(kind, column)?;
        Ok(section.map(|bytes| Numbers::new(bytes, rows, kind.has_running_sums())))
    }

    /// A measure by its place among the sums.
    pub(crate) fn measure(&self, place: usize) -> Result<Option<Numbers<'_>>> {
        match place {
            METRIC => self.metric().map(Some),
            LATENCY => self.latency().map(Some),
            LATENCY_DETAIL => self.latency_detail().map(Some),
            place => self.counter(place - FIXED_MEASURES),
        }
    }

    pub(crate) fn status(&self) -> Result<Keys<'_>> {
        Ok(Keys::new(self.fixed(SectionKind::Status)?, self.rows()))
    }

    pub(crate) fn dim(&self, column: usize) -> Result<Option<Keys<'_>>> {
        Ok(self.section(SectionKind::Dim, column)?.map(|bytes| Keys::new(bytes, self.rows())))
    }

    pub(crate) fn id(&self) -> Result<Texts<'_>> {
        Ok(Texts::new(self.fixed(SectionKind::Id)?, self.rows()))
    }

    pub(crate) fn id_index(&self) -> Result<TextIndex<'_>> {
        let index = TextIndex::new(self.fixed(SectionKind::IdIndex)?);
        self.segment.id_bounds.get_or_init(|| *index.bounds());
        Ok(index)
    }

    pub(crate) fn label(&self, column: usize) -> Result<Option<Texts<'_>>> {
        Ok(self.section(SectionKind::Label, column)?.map(|bytes| Texts::new(bytes, self.rows())))
    }

    /// The index of a label; `None` where the segment has none.
    pub(crate) fn label_index(&self, column: usize) -> Result<Option<TextIndex<'_>>> {
        Ok(self.section(SectionKind::LabelIndex, column)?.map(TextIndex::new))
    }

    /// A column of integers.
    pub(crate) fn numbers(&self, column: NumberColumn) -> Result<Option<Numbers<'_>>> {
        match column {
            NumberColumn::Time => self.time().map(Some),
            NumberColumn::Sequence => self.sequence().map(Some),
            NumberColumn::Metric => self.metric().map(Some),
            NumberColumn::Latency => self.latency().map(Some),
            NumberColumn::LatencyDetail => self.latency_detail().map(Some),
            NumberColumn::Flags => self.flags().map(Some),
            NumberColumn::Counter(counter) => self.counter(counter),
        }
    }

    /// The filter over the values of the header's bloom dim.
    pub(crate) fn bloom(&self) -> Result<Option<Bloom<'_>>> {
        if self.segment.header.bloom_dim.is_none() {
            return Ok(None);
        }
        Ok(self.section(SectionKind::Bloom, 0)?.map(Bloom::new))
    }

    /// The day rollups over the header's rollup dims, where they are stored.
    pub(crate) fn rollups(&self) -> Result<Option<Rollups<'_>>> {
        Ok(self.section(SectionKind::Rollups, 0)?.map(Rollups::new))
    }
}
