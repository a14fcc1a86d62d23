//! A segment file: a header with everything that is known of it without its columns, then one section per column,
//! index and summary.
//!
//! Rows are in the order of (time, sequence). Knows bytes, not files: storage reads and maps them, and verifies each
//! section ([`check_section`]) before a [`SegmentView`] reads it.
//!
//! ```text
//! all integers little-endian, offsets in bytes from the start of the file
//! ┌─────────┬────────────────────────────────────────────────────────────────────────────────────────────────────┐
//! │ 0       │ magic, 8 bytes                                                                                     │
//! │ 8       │ format version u32                                                                                 │
//! │ 12      │ header bytes u32: all before the first section, a multiple of 64                                   │
//! │ 16      │ file bytes u64                                                                                     │
//! │ 24      │ CRC-32 u32 of all other bytes of the header, in their order                                        │
//! │ 28      │ rows u32                                                                                           │
//! │ 32      │ smallest and largest time i64 (ns), smallest and largest sequence u64                              │
//! ├─────────┼────────────────────────────────────────────────────────────────────────────────────────────────────┤
//! │ 64      │ smallest and largest status u16; dim of the bloom filter u16, 0xFFFF = none; 2 zero bytes          │
//! │ 72      │ schema (see schema.rs)                                                                             │
//! │         │ totals: per measure sum i128, min i64, max i64; metric, latency, latency detail, then the counters │
//! │         │ WAL generations that it absorbed: u32 × u64                                                        │
//! │         │ segments that it supersedes: u32 × u64                                                             │
//! │         │ rollup dims: u32 × u16                                                                             │
//! │         │ sections: u32 × 32 bytes:                                                                          │
//! │         │   0  kind u8; encoding u8; optional u8: 0 or 1; padding u8: zero bytes at its end                  │
//! │         │   4  column u16: its place among those of its kind; 2 zero bytes                                   │
//! │         │   8  offset u64; bytes u64, padding included                                                       │
//! │         │   24 CRC-32 u32 of those bytes; 4 zero bytes                                                       │
//! │         │ zero bytes to a multiple of 64                                                                     │
//! ├─────────┼────────────────────────────────────────────────────────────────────────────────────────────────────┤
//! │ header  │ the sections, in the order of the list, each padded to a multiple of 64                            │
//! │ bytes   │                                                                                                    │
//! └─────────┴────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Valid if and only if
//! 1. the magic is right, the version known, the file as long as it says, and the checksum of the header holds;
//! 2. the schema is valid, the bloom dim and the rollup dims are dims of it, and reserved bytes and padding are zero;
//! 3. smallest is not above largest, and each total lies between rows × smallest and rows × largest (without rows, all
//!    of them are those of an empty set);
//! 4. sections ascend strictly by (kind, column), begin where the header or the one before ends, and end with the file:
//!    so every byte of it is under a checksum;
//! 5. each section that is not optional has a known kind and encoding and a column of the schema, and each column has
//!    its section; an optional one that is not known is skipped;
//! 6. each section has its checksum and is valid for itself.

mod encode;
#[cfg(test)]
pub(crate) mod tamper;

use super::bloom::Bloom;
use super::bytes::{ByteReader, ByteWriter, Malformed, Watch, align};
use super::describe::{Span, Spans, describe_magic};
use super::ids::TextIndex;
use super::keys::{Keys, is_possible, status_of, status_text};
use super::numbers::{Numbers, check_zero};
use super::preface::{Magic, PrefaceError, check_version};
use super::rollups::Rollups;
use super::schema::{put_schema, read_schema};
use super::texts::Texts;
use super::{FORMAT_VERSION, MAX_NUMBER};
use crate::schema::{BUILT_IN_NAMES, Shape, TableSchema};
use crate::sums::{FIXED_MEASURES, Measure, MeasureName, Sums};

pub(crate) use encode::{Columns, SegmentInput, encode};

pub(crate) const SEGMENT_MAGIC: Magic = Magic(*b"\x89KSEG\r\n\x1a");
/// Bytes of the header's first part, which says how long the header and the file are.
pub(crate) const HEADER_FIXED_BYTES: usize = 64;
/// Where the header's checksum stands, which does not cover itself.
const CRC_AT: usize = 24;
/// Sections begin at cache lines.
const SECTION_ALIGN_BYTES: usize = 64;
/// Bytes of a section's entry in the header.
const SECTION_ENTRY_BYTES: usize = 32;
/// The encoding that every kind has so far.
const ENCODING: u8 = 1;
/// Stands for "no bloom filter"; a table has at most 256 dims.
pub(super) const NO_DIM: u16 = u16::MAX;
/// What a section holds; the numbers are the tags on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SectionKind {
    Time = 1,
    Sequence = 2,
    Metric = 3,
    Latency = 4,
    LatencyDetail = 5,
    Flags = 6,
    Status = 7,
    Counter = 8,
    Dim = 9,
    Id = 10,
    IdIndex = 11,
    Label = 12,
    LabelIndex = 13,
    Bloom = 14,
    Rollups = 15,
}

impl SectionKind {
    const ALL: [Self; 15] = [
        Self::Time,
        Self::Sequence,
        Self::Metric,
        Self::Latency,
        Self::LatencyDetail,
        Self::Flags,
        Self::Status,
        Self::Counter,
        Self::Dim,
        Self::Id,
        Self::IdIndex,
        Self::Label,
        Self::LabelIndex,
        Self::Bloom,
        Self::Rollups,
    ];

    fn from_tag(tag: u8) -> Option<Self> {
        // Tags count from 1, in the order of the list.
        Self::ALL.get(usize::from(tag).checked_sub(1)?).copied()
    }

    /// How many columns of this kind a segment may have.
    fn columns(self, shape: Shape) -> usize {
        match self {
            Self::Counter => shape.counters,
            Self::Dim => shape.dims,
            Self::Label | Self::LabelIndex => shape.labels,
            _ => 1,
        }
    }

    /// Whether a segment may have several columns of this kind.
    fn is_numbered(self) -> bool {
        matches!(self, Self::Counter | Self::Dim | Self::Label | Self::LabelIndex)
    }

    /// Whether every answer can be had without it.
    fn is_optional(self) -> bool {
        matches!(self, Self::LabelIndex | Self::Bloom | Self::Rollups)
    }

    pub(crate) fn has_running_sums(self) -> bool {
        matches!(self, Self::Metric | Self::Latency | Self::LatencyDetail | Self::Counter)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Sequence => "sequence",
            Self::Metric => "metric",
            Self::Latency => "latency",
            Self::LatencyDetail => "latency detail",
            Self::Flags => "flags",
            Self::Status => "status",
            Self::Counter => "counter",
            Self::Dim => "dim",
            Self::Id => "id",
            Self::IdIndex => "id index",
            Self::Label => "label",
            Self::LabelIndex => "label index",
            Self::Bloom => "bloom filter",
            Self::Rollups => "rollups",
        }
    }
}

/// What is known of a segment's rows as a whole. Without rows each smallest is above its largest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Nanoseconds since the Unix epoch.
    pub(crate) ts_min: i64,
    pub(crate) ts_max: i64,
    pub(crate) sequence_min: u64,
    pub(crate) sequence_max: u64,
    pub(crate) status_min: u16,
    pub(crate) status_max: u16,
    pub(crate) totals: Sums,
}

/// Where a section is, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionEntry {
    tag: u8,
    encoding: u8,
    is_optional: bool,
    /// Zero bytes at the end of `bytes`.
    padding: u8,
    /// Its place among the columns of its kind.
    pub(crate) column: u16,
    /// From the start of the file.
    pub(crate) offset: u64,
    /// Padding included: what `crc` covers.
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

impl SectionEntry {
    /// What it holds; `None` for an optional one that this release cannot read.
    pub(crate) fn kind(&self) -> Option<SectionKind> {
        SectionKind::from_tag(self.tag).filter(|_| self.encoding == ENCODING)
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> String {
        match SectionKind::from_tag(self.tag) {
            Some(kind) if kind.is_numbered() => format!("{} {}", kind.name(), self.column),
            Some(kind) => kind.name().to_owned(),
            None => format!("of kind {}", self.tag),
        }
    }

    /// What a checksum that does not hold is called.
    pub(crate) fn wrong_checksum(&self) -> String {
        format!("the section {} does not have its checksum", self.name())
    }

    /// All of it, padding included, in bytes from the start of the file.
    pub(crate) fn range(&self) -> Option<std::ops::Range<usize>> {
        let end = self.offset.checked_add(self.bytes)?;
        Some(usize::try_from(self.offset).ok()?..usize::try_from(end).ok()?)
    }

    /// Without its padding, in bytes from the start of a slice of `bytes_len` that begins at `base`.
    pub(crate) fn content(&self, base: u64) -> Option<std::ops::Range<usize>> {
        let start = self.offset.checked_sub(base)?;
        let end = start.checked_add(self.bytes)?.checked_sub(u64::from(self.padding))?;
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put(&[self.tag, self.encoding, u8::from(self.is_optional), self.padding]);
        out.put_u16(self.column);
        out.put_u16(0);
        out.put_u64(self.offset);
        out.put_u64(self.bytes);
        out.put_u32(self.crc);
        out.put_u32(0);
    }

    fn read<W: Watch>(reader: &mut ByteReader<'_, W>) -> Result<Self, Malformed> {
        let at = reader.position();
        let (tag, encoding) = (reader.u8("section kind")?, reader.u8("section encoding")?);
        let (optional, padding) = (reader.u8("section optional")?, reader.u8("section padding")?);
        let column = reader.u16("section column")?;
        check_zero(reader, 2, "a section's entry")?;
        let (offset, bytes) = (reader.u64("section offset")?, reader.u64("section bytes")?);
        let crc = reader.u32("section CRC-32")?;
        check_zero(reader, 4, "a section's entry")?;
        let entry = Self { tag, encoding, is_optional: optional == 1, padding, column, offset, bytes, crc };
        if optional > 1 {
            return Err(Malformed::new(
                at,
                format!("the mark of section {} is neither 0 nor 1", entry.name()),
            ));
        }
        if usize::from(padding) >= SECTION_ALIGN_BYTES || u64::from(padding) > bytes {
            return Err(Malformed::new(
                at,
                format!("section {} has {padding} bytes of padding", entry.name()),
            ));
        }
        if entry.kind().is_none() && !entry.is_optional {
            let what = format!("section {} has encoding {encoding}; a newer release wrote it", entry.name());
            return Err(Malformed::new(at, what));
        }
        Ok(entry)
    }
}

/// The header of a segment file: all that queries need to decide whether to look at its sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The columns that the segment was written with; the table may have got more since.
    pub(crate) schema: TableSchema,
    pub(crate) rows: u32,
    pub(crate) file_bytes: u64,
    pub(crate) generations: Vec<u64>,
    pub(crate) supersedes: Vec<u64>,
    pub(crate) rollup_dims: Vec<usize>,
    pub(crate) bloom_dim: Option<usize>,
    pub(crate) facts: Facts,
    /// Ascending by kind and column.
    pub(crate) sections: Vec<SectionEntry>,
}

/// Reads, from at least the first [`HEADER_FIXED_BYTES`] of a file, how long its header and the file are. Nothing vouches
/// for that yet: whoever allocates by it compares it with the file.
///
/// # Errors
///
/// `TooNew` or `TooOld` for another version; `Malformed` for too few bytes, another kind of file, or lengths that cannot be.
pub(crate) fn header_lengths(bytes: &[u8]) -> Result<(usize, u64), PrefaceError> {
    let mut reader = ByteReader::new(bytes);
    if reader.take(SEGMENT_MAGIC.0.len(), "the magic number")? != SEGMENT_MAGIC.0 {
        return Err(Malformed::new(0, "the file does not begin with a segment's magic number").into());
    }
    let found = reader.u32("the format version")?;
    check_version(found)?;
    let at = reader.position();
    let header_bytes = reader.u32("the length of the header")? as usize;
    let file_bytes = reader.u64("the length of the file")?;
    reader.take(HEADER_FIXED_BYTES - reader.position(), "the header")?;
    let is_possible = header_bytes > HEADER_FIXED_BYTES
        && header_bytes.is_multiple_of(SECTION_ALIGN_BYTES)
        && header_bytes as u64 <= file_bytes;
    if !is_possible {
        let what = format!("a header of {header_bytes} bytes in a file of {file_bytes}");
        return Err(Malformed::new(at, what).into());
    }
    Ok((header_bytes, file_bytes))
}

impl SegmentHeader {
    /// Reads and checks a header; `bytes` are all of it, as [`header_lengths`] says, or more of the file.
    ///
    /// # Errors
    ///
    /// As [`header_lengths`]; `Malformed` too for whatever does not fulfil points 1 to 5 of the format.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PrefaceError> {
        let (header_bytes, file_bytes) = header_lengths(bytes)?;
        let Some(header) = bytes.get(..header_bytes) else {
            let what = format!("the header says {header_bytes} bytes, {} are here", bytes.len());
            return Err(Malformed::new(12, what).into());
        };
        let mut reader = ByteReader::new(header);
        reader.take(CRC_AT, "the header")?;
        check_header_crc(header, reader.u32("the checksum of the header")?)?;
        let parsed = Self::read(reader, file_bytes)?;
        parsed.check(header_bytes)?;
        Ok(parsed)
    }

    /// That what was read can be true together.
    fn check(&self, header_bytes: usize) -> Result<(), Malformed> {
        self.check_facts().map_err(|what| Malformed::new(CRC_AT, what))?;
        self.check_sections(header_bytes).map_err(|what| Malformed::new(HEADER_FIXED_BYTES, what))
    }

    /// Reads what follows the checksum.
    fn read<W: Watch>(mut reader: ByteReader<'_, W>, file_bytes: u64) -> Result<Self, Malformed> {
        let rows = reader.u32("rows")?;
        let (ts_min, ts_max) = (reader.i64("smallest time")?, reader.i64("largest time")?);
        let (sequence_min, sequence_max) =
            (reader.u64("smallest sequence")?, reader.u64("largest sequence")?);
        let (status_min, status_max) = (reader.u16("smallest status")?, reader.u16("largest status")?);
        let bloom_dim = reader.u16("dim of the bloom filter")?;
        check_zero(&mut reader, 2, "the header")?;
        let schema = read_schema(&mut reader)?;
        let measures = (0..FIXED_MEASURES + schema.shape().counters)
            .map(|place| {
                let read = |reader: &mut ByteReader<'_, W>| {
                    let sum = reader.i128("sum")?;
                    Ok(Measure { sum, min: reader.i64("smallest")?, max: reader.i64("largest")? })
                };
                reader.within(format_args!("total of {}", MeasureName(place)), read)
            })
            .collect::<Result<_, Malformed>>()?;
        let generations = read_numbers(&mut reader, ["number of WAL generations", "WAL generations"])?;
        let supersedes = read_numbers(&mut reader, ["number of superseded segments", "superseded segments"])?;
        let rollup_dims = reader.count(2, "number of rollup dims")?;
        let rollup_dims = reader.array(rollup_dims, "rollup dims")?;
        let rollup_dims = rollup_dims.iter().map(|dim| usize::from(u16::from_le_bytes(*dim))).collect();
        let sections = reader.count(SECTION_ENTRY_BYTES, "number of sections")?;
        let sections = (0..sections)
            .map(|place| reader.within(format_args!("sections[{place}]"), SectionEntry::read))
            .collect::<Result<_, _>>()?;
        let (at, padding) = (reader.position(), reader.padding());
        if padding.len() >= SECTION_ALIGN_BYTES {
            return Err(Malformed::new(at, format!("{} bytes follow the end of the header", padding.len())));
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Malformed::new(at, "reserved bytes of the header are not zero"));
        }
        let totals = Sums { count: u64::from(rows), measures };
        Ok(Self {
            schema,
            rows,
            file_bytes,
            generations,
            supersedes,
            rollup_dims,
            bloom_dim: (bloom_dim != NO_DIM).then_some(usize::from(bloom_dim)),
            facts: Facts { ts_min, ts_max, sequence_min, sequence_max, status_min, status_max, totals },
            sections,
        })
    }

    /// The header's bytes; lengths, checksum and the places of sections are those of a file that begins with it.
    fn encode(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let facts = &self.facts;
        out.put(&SEGMENT_MAGIC.0);
        out.put_u32(FORMAT_VERSION);
        out.resize(CRC_AT + 4, 0);
        out.put_u32(self.rows);
        out.put_i64(facts.ts_min);
        out.put_i64(facts.ts_max);
        out.put_u64(facts.sequence_min);
        out.put_u64(facts.sequence_max);
        out.put_u16(facts.status_min);
        out.put_u16(facts.status_max);
        out.put_u16(self.bloom_dim.map_or(NO_DIM, dim_number));
        out.put_u16(0);
        put_schema(&self.schema, &mut out);
        for measure in &facts.totals.measures {
            out.put_i128(measure.sum);
            out.put_i64(measure.min);
            out.put_i64(measure.max);
        }
        for numbers in [&self.generations, &self.supersedes] {
            out.put_count(numbers.len());
            for number in numbers {
                out.put_u64(*number);
            }
        }
        out.put_count(self.rollup_dims.len());
        for dim in &self.rollup_dims {
            out.put_u16(dim_number(*dim));
        }
        out.put_count(self.sections.len());
        let sections_bytes = SECTION_ENTRY_BYTES * self.sections.len();
        let header_bytes = (out.len() + sections_bytes).next_multiple_of(SECTION_ALIGN_BYTES);
        let mut end = header_bytes as u64;
        for section in &mut self.sections {
            section.offset = end;
            end += section.bytes;
            section.put(&mut out);
        }
        self.file_bytes = end;
        align(&mut out, SECTION_ALIGN_BYTES);

        let header_bytes = u32::try_from(header_bytes).expect("the counts of a header are limited far below");
        let lengths = [&header_bytes.to_le_bytes()[..], &end.to_le_bytes()].concat();
        out.splice(CRC_AT - lengths.len()..CRC_AT, lengths);
        let crc = header_crc(&out);
        out.splice(CRC_AT..CRC_AT + 4, crc.to_le_bytes());
        out
    }

    fn check_facts(&self) -> Result<(), String> {
        let facts = &self.facts;
        let ascend = facts.ts_min <= facts.ts_max
            && facts.sequence_min <= facts.sequence_max
            && facts.status_min <= facts.status_max;
        let numbers = self.generations.iter().chain(&self.supersedes).chain([&facts.sequence_max]);
        if numbers.into_iter().any(|number| *number > MAX_NUMBER) {
            return Err(format!("a generation, segment or sequence is above {MAX_NUMBER}"));
        }
        if ascend != (self.rows > 0) {
            return Err(format!(
                "the smallest and largest time, sequence or status are not those of {} rows",
                self.rows
            ));
        }
        if !facts.totals.measures.iter().all(|measure| is_possible(measure, self.rows)) {
            return Err(format!("the totals are not those of {} rows", self.rows));
        }
        let dims = self.schema.shape().dims;
        if self.bloom_dim.iter().chain(&self.rollup_dims).any(|dim| *dim >= dims) {
            return Err(format!(
                "the bloom filter or the rollups are of a dim beyond the {dims} of the schema"
            ));
        }
        Ok(())
    }

    fn check_sections(&self, header_bytes: usize) -> Result<(), String> {
        let shape = self.schema.shape();
        let mut end = header_bytes as u64;
        for section in &self.sections {
            let name = section.name();
            if section.offset != end || !section.bytes.is_multiple_of(SECTION_ALIGN_BYTES as u64) {
                return Err(format!("section {name} does not lie between its neighbours"));
            }
            end = end.checked_add(section.bytes).ok_or_else(|| format!("section {name} is too long"))?;
            if section.kind().is_some_and(|kind| usize::from(section.column) >= kind.columns(shape)) {
                return Err(format!("section {name} is of no column of the schema"));
            }
        }
        if end != self.file_bytes {
            return Err(format!("the sections end at {end}, the file at {}", self.file_bytes));
        }
        if !self.sections.is_sorted_by(|a, b| (a.tag, a.column) < (b.tag, b.column)) {
            return Err("the sections are not in order, or one is there twice".to_owned());
        }
        for kind in SectionKind::ALL.into_iter().filter(|kind| !kind.is_optional()) {
            if let Some(column) =
                (0..kind.columns(shape)).find(|column| self.section(kind, *column).is_none())
            {
                return Err(format!("section {} {column} is missing", kind.name()));
            }
        }
        Ok(())
    }

    /// The place in `sections` of a column's section; `None` if the segment is older than the column, or was written
    /// without this section.
    pub(crate) fn section(&self, kind: SectionKind, column: usize) -> Option<usize> {
        let wanted = (kind as u8, u16::try_from(column).ok()?);
        let key_of = |section: &SectionEntry| (section.tag, section.column);
        let likely = self.likely_place(kind) + column;
        let index = if self.sections.get(likely).is_some_and(|section| key_of(section) == wanted) {
            likely
        } else {
            self.sections.binary_search_by_key(&wanted, key_of).ok()?
        };
        self.sections.get(index)?.kind().map(|_| index)
    }

    /// Where the sections of a kind begin if the segment has all that come before, as most have.
    fn likely_place(&self, kind: SectionKind) -> usize {
        let Shape { dims, counters, labels } = self.schema.shape();
        // One of each kind before those of counters.
        let fixed = SectionKind::Counter as usize - 1;
        match kind {
            SectionKind::Dim => fixed + counters,
            SectionKind::Id => fixed + counters + dims,
            SectionKind::IdIndex => fixed + counters + dims + 1,
            SectionKind::Label => fixed + counters + dims + 2,
            SectionKind::LabelIndex => fixed + counters + dims + 2 + labels,
            SectionKind::Bloom => self.sections.len().saturating_sub(2),
            SectionKind::Rollups => self.sections.len().saturating_sub(1),
            fixed_or_counter => usize::from(fixed_or_counter as u8 - 1),
        }
    }

    fn measures(&self) -> usize {
        self.facts.totals.measures.len()
    }
}

fn dim_number(dim: usize) -> u16 {
    u16::try_from(dim).expect("a table has at most 256 dims")
}

fn read_numbers<W: Watch>(
    reader: &mut ByteReader<'_, W>,
    [count, what]: [&str; 2],
) -> Result<Vec<u64>, Malformed> {
    let count = reader.count(8, count)?;
    Ok(reader.array(count, what)?.iter().map(|number| u64::from_le_bytes(*number)).collect())
}

/// What a kind of section is called, by its tag.
pub(super) fn kind_name(tag: u8) -> Option<&'static str> {
    SectionKind::from_tag(tag).map(SectionKind::name)
}

fn check_header_crc(header: &[u8], stored: u32) -> Result<(), Malformed> {
    if stored == header_crc(header) {
        return Ok(());
    }
    Err(Malformed::new(CRC_AT, "the header does not have its checksum"))
}

fn header_crc(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.get(..CRC_AT).unwrap_or_default());
    hasher.update(header.get(CRC_AT + 4..).unwrap_or_default());
    hasher.finalize()
}

/// Checks a section, whose checksum should hold; any bytes may be given. `bytes` are those that its entry names, padding
/// included. Sections of kinds that this release does not know pass. O(bytes).
///
/// Offsets in the error count from the section's start.
pub(crate) fn check_section(header: &SegmentHeader, index: usize, bytes: &[u8]) -> Result<(), Malformed> {
    let Some(section) = header.sections.get(index) else {
        return Err(Malformed::new(0, format!("there is no section {index}")));
    };
    let Some(content) = section.content(section.offset).and_then(|content| bytes.get(content)) else {
        return Err(Malformed::new(0, format!("{} bytes instead of {}", bytes.len(), section.bytes)));
    };
    let mut padding = ByteReader::new(bytes);
    padding.take(content.len(), "the section")?;
    let padding_bytes = padding.remaining();
    if padding_bytes != usize::from(section.padding) {
        return Err(Malformed::new(0, format!("{} bytes instead of {}", bytes.len(), section.bytes)));
    }
    check_zero(&mut padding, padding_bytes, "the section's padding")?;
    let Some(kind) = section.kind() else { return Ok(()) };
    check_content(header, kind, content).map_err(|malformed| Malformed {
        offset: malformed.offset,
        what: format!("section {}: {}", section.name(), malformed.what),
    })
}

fn check_content(header: &SegmentHeader, kind: SectionKind, content: &[u8]) -> Result<(), Malformed> {
    let rows = header.rows as usize;
    match kind {
        SectionKind::Time
        | SectionKind::Sequence
        | SectionKind::Metric
        | SectionKind::Latency
        | SectionKind::LatencyDetail
        | SectionKind::Flags
        | SectionKind::Counter => Numbers::check(content, rows, kind.has_running_sums()),
        SectionKind::Dim => Keys::check(content, rows, header.measures()),
        SectionKind::Status => {
            Keys::check(content, rows, header.measures())?;
            let keys = Keys::new(content, rows);
            let mut values = (0..keys.values()).map(|code| keys.value(code));
            match values.find(|value| status_text(status_of(value)) != *value) {
                Some(value) => Err(Malformed::new(0, format!("{value:?} is no status"))),
                None => Ok(()),
            }
        }
        SectionKind::Id | SectionKind::Label => Texts::check(content, rows),
        SectionKind::IdIndex | SectionKind::LabelIndex => TextIndex::check(content, rows),
        SectionKind::Bloom => Bloom::check(content),
        SectionKind::Rollups => {
            let counters = header.schema.shape().counters;
            Rollups::check(content, rows, header.rollup_dims.len(), counters)
        }
    }
}

/// How many bytes of a section that passed [`check_section`] only make answers quick: every answer can be had from the
/// others. `bytes` are those that its entry names. O(1).
pub(crate) fn index_bytes(header: &SegmentHeader, index: usize, bytes: &[u8]) -> usize {
    let content = |section: &SectionEntry| bytes.get(section.content(section.offset)?);
    let Some((section, content)) =
        header.sections.get(index).and_then(|section| Some((section, content(section)?)))
    else {
        return 0;
    };
    let rows = header.rows as usize;
    match section.kind() {
        Some(
            kind @ (SectionKind::Time
            | SectionKind::Sequence
            | SectionKind::Metric
            | SectionKind::Latency
            | SectionKind::LatencyDetail
            | SectionKind::Flags
            | SectionKind::Counter),
        ) => Numbers::new(content, rows, kind.has_running_sums()).index_bytes(),
        Some(SectionKind::Dim | SectionKind::Status) => Keys::index_bytes(content, rows),
        Some(SectionKind::Id | SectionKind::Label) => 0,
        Some(SectionKind::IdIndex | SectionKind::LabelIndex | SectionKind::Bloom | SectionKind::Rollups)
        | None => bytes.len(),
    }
}

/// What was found out about the values of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionValues {
    /// How they are encoded, in words.
    pub(crate) encoding: String,
    /// Bytes of the section that only make answers quick.
    pub(crate) index_bytes: u64,
    /// What the values of a column take where each number has the width of its type and each text its length in 4 bytes;
    /// `None` for a section that repeats what others have.
    pub(crate) unencoded_bytes: Option<u64>,
}

/// Looks at the values of a section that passed [`check_section`]; `bytes` are those that its entry names. At most a few
/// instructions a row.
pub(crate) fn section_values(header: &SegmentHeader, index: usize, bytes: &[u8]) -> SectionValues {
    let index_bytes = index_bytes(header, index, bytes) as u64;
    let section = header.sections.get(index);
    let content = section.and_then(|section| bytes.get(section.content(section.offset)?)).unwrap_or_default();
    let rows = header.rows as usize;
    let texts = |text_bytes: u64| Some(text_bytes + 4 * rows as u64);
    let (encoding, unencoded_bytes) = match section.and_then(SectionEntry::kind) {
        Some(SectionKind::Dim) => {
            let keys = Keys::new(content, rows);
            (keys.encoding(), texts(keys.text_bytes()))
        }
        Some(SectionKind::Status) => (Keys::new(content, rows).encoding(), Some(2 * rows as u64)),
        Some(SectionKind::Id | SectionKind::Label) => {
            let column = Texts::new(content, rows);
            (column.encoding(), texts(column.text_bytes()))
        }
        Some(SectionKind::IdIndex | SectionKind::LabelIndex) => (TextIndex::new(content).encoding(), None),
        Some(SectionKind::Bloom) => (Bloom::new(content).encoding(), None),
        Some(SectionKind::Rollups) => (format!("rollups: {} entries", Rollups::new(content).len()), None),
        Some(kind) => {
            let value_bytes = match kind {
                SectionKind::Time | SectionKind::Sequence | SectionKind::Metric => 8,
                SectionKind::Flags => 2,
                _ => 4,
            };
            let numbers = Numbers::new(content, rows, kind.has_running_sums());
            (numbers.encoding(), Some(value_bytes * rows as u64))
        }
        None => ("not known to this release".to_owned(), None),
    };
    SectionValues { encoding, index_bytes, unencoded_bytes }
}

/// Gives the sequence of every row by the section of the sequences, which passed [`check_section`]; `bytes` are those that its
/// entry names.
pub(crate) fn sequences_of(header: &SegmentHeader, index: usize, bytes: &[u8], each: &mut dyn FnMut(u64)) {
    let section = header.sections.get(index).filter(|section| section.kind() == Some(SectionKind::Sequence));
    let content = section.and_then(|section| bytes.get(section.content(section.offset)?));
    let Some(content) = content else { return };
    let numbers = Numbers::new(content, header.rows as usize, SectionKind::Sequence.has_running_sums());
    (0..numbers.rows()).for_each(|row| each(numbers.get(row) as u64));
}

/// The name of the column that a section is of, by the columns of the table; of rollups, which are of several, the names of
/// their dims.
pub(crate) fn column_of(header: &SegmentHeader, section: &SectionEntry, table: &TableSchema) -> String {
    let [ts, id, metric, latency, latency_detail, status, flags, sequence] = BUILT_IN_NAMES;
    let column = usize::from(section.column);
    let dim = |place: usize| table.dims().nth(place).unwrap_or_default().to_owned();
    match section.kind() {
        Some(SectionKind::Time) => ts.to_owned(),
        Some(SectionKind::Sequence) => sequence.to_owned(),
        Some(SectionKind::Metric) => metric.to_owned(),
        Some(SectionKind::Latency) => latency.to_owned(),
        Some(SectionKind::LatencyDetail) => latency_detail.to_owned(),
        Some(SectionKind::Flags) => flags.to_owned(),
        Some(SectionKind::Status) => status.to_owned(),
        Some(SectionKind::Id | SectionKind::IdIndex) => id.to_owned(),
        Some(SectionKind::Counter) => table.counters().nth(column).unwrap_or_default().to_owned(),
        Some(SectionKind::Dim) => dim(column),
        Some(SectionKind::Label | SectionKind::LabelIndex) => {
            table.labels().nth(column).unwrap_or_default().to_owned()
        }
        Some(SectionKind::Bloom) => header.bloom_dim.map(dim).unwrap_or_default(),
        Some(SectionKind::Rollups) => {
            header.rollup_dims.iter().map(|place| dim(*place)).collect::<Vec<_>>().join(", ")
        }
        None => String::new(),
    }
}

/// How long the header of a segment file says it is, by the first bytes of the file: for who has to read it, whatever is
/// wrong with it. Whether it lies only [`SegmentHeader::parse`] can tell.
pub(crate) fn stored_header_bytes(start: &[u8]) -> usize {
    let after_version = SEGMENT_MAGIC.0.len() + size_of_val(&FORMAT_VERSION);
    let stored = start.get(after_version..).and_then(<[u8]>::first_chunk);
    stored.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

/// Tells the spans of a header: `bytes` are as many of the file's first ones as it says, or what there is of them, and
/// `file_bytes` is the length of the file. The header, as far as its sections can be found by it, though it may be damaged.
pub(crate) fn describe_header(
    bytes: &[u8],
    file_bytes: u64,
    each: &mut dyn FnMut(Span),
) -> Option<SegmentHeader> {
    let mut spans = Spans::new(bytes, 0, each);
    let header = spans.within("segment header", |spans| {
        if let Err(PrefaceError::Malformed(found)) = header_lengths(bytes) {
            spans.expect([found]);
        }
        let after_crc = CRC_AT + 4;
        let stored_crc = bytes.get(CRC_AT..).and_then(<[u8]>::first_chunk);
        let stored_crc = stored_crc.map_or(0, |crc| u32::from_le_bytes(*crc));
        spans.expect(check_header_crc(bytes, stored_crc).err());
        let read = SegmentHeader::read(ByteReader::watched(bytes, after_crc, ()), file_bytes);
        spans.expect(match &read {
            Ok(header) => header.check(bytes.len()).err(),
            Err(malformed) => Some(malformed.clone()),
        });
        // It has no span of its own to say so.
        let empty = read.iter().flat_map(|header| &header.sections);
        let empty = empty.filter(|section| section.bytes == 0 && section.kind().is_some());
        spans.expect(empty.take(1).map(|section| {
            Malformed::new(HEADER_FIXED_BYTES, format!("the section {} is empty", section.name()))
        }));
        describe_magic(spans, SEGMENT_MAGIC)?;
        spans.u32("header bytes")?;
        if spans.u64("file bytes")? != file_bytes {
            spans.blame(format!("the file has {file_bytes} bytes"));
        }
        spans.u32("CRC-32")?;
        if let Err(found) =
            SegmentHeader::read(ByteReader::watched(bytes, after_crc, &mut *spans), file_bytes)
        {
            spans.give_up(found.what);
        }
        read.ok()
    });
    spans.finish();
    header
}

/// Tells the spans of a section: `bytes` are those that its entry names.
pub(crate) fn describe_section(
    header: &SegmentHeader,
    index: usize,
    bytes: &[u8],
    each: &mut dyn FnMut(Span),
) {
    let Some(section) = header.sections.get(index) else { return };
    let mut spans = Spans::new(bytes, section.offset, each);
    if crc32fast::hash(bytes) != section.crc {
        spans.expect([Malformed::new(0, section.wrong_checksum())]);
    }
    spans.expect(check_section(header, index, bytes).err());
    let column = column_of(header, section, &header.schema);
    let name = match section.kind() {
        Some(kind) if kind.is_numbered() => format!("{} ({column})", section.name()),
        Some(_) => section.name(),
        None => format!("section {}", section.name()),
    };
    let padding_bytes = usize::from(section.padding).min(bytes.len());
    spans.within(name, |spans| {
        let content_bytes = bytes.len() - padding_bytes;
        spans.region(content_bytes, |spans| describe_content(header, section, spans));
        spans.padding(padding_bytes)
    });
    spans.finish();
}

fn describe_content(header: &SegmentHeader, section: &SectionEntry, spans: &mut Spans<'_, '_>) -> Option<()> {
    let rows = header.rows as usize;
    match section.kind() {
        Some(
            kind @ (SectionKind::Time
            | SectionKind::Sequence
            | SectionKind::Metric
            | SectionKind::Latency
            | SectionKind::LatencyDetail
            | SectionKind::Flags
            | SectionKind::Counter),
        ) => Numbers::describe(spans, rows, kind.has_running_sums()),
        Some(SectionKind::Dim | SectionKind::Status) => Keys::describe(spans, rows),
        Some(SectionKind::Id | SectionKind::Label) => Texts::describe(spans, rows),
        Some(SectionKind::IdIndex | SectionKind::LabelIndex) => TextIndex::describe(spans),
        Some(SectionKind::Bloom) => Bloom::describe(spans),
        Some(SectionKind::Rollups) => Rollups::describe(spans),
        None => {
            let bytes = spans.rest().len();
            spans.bytes("of a kind or encoding that this release does not know", bytes)
        }
    }
}

/// The sections of a segment file in memory.
///
/// Whoever asks for a column has verified its section before: checksum and [`check_section`]. A column that the segment
/// is too old to have is `None` and reads as 0 or "" in all its rows. Each view costs a search among the sections and a
/// few dozen loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentView<'a> {
    pub(crate) header: &'a SegmentHeader,
    /// The whole file.
    pub(crate) bytes: &'a [u8],
}

impl<'a> SegmentView<'a> {
    fn content(&self, kind: SectionKind, column: usize) -> Option<&'a [u8]> {
        let section = self.header.sections.get(self.header.section(kind, column)?)?;
        self.bytes.get(section.content(0)?)
    }

    fn rows(&self) -> usize {
        self.header.rows as usize
    }

    fn numbers(&self, kind: SectionKind, column: usize) -> Option<Numbers<'a>> {
        let content = self.content(kind, column)?;
        Some(Numbers::new(content, self.rows(), kind.has_running_sums()))
    }

    /// A column that the header vouches for; without it (the file is shorter than it says) the view is of no bytes.
    fn fixed_numbers(&self, kind: SectionKind) -> Numbers<'a> {
        let none = || Numbers::new(&[], self.rows(), kind.has_running_sums());
        self.numbers(kind, 0).unwrap_or_else(none)
    }

    /// Nanoseconds since the Unix epoch, ascending.
    pub(crate) fn time(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::Time)
    }

    /// Ascending where times are equal.
    pub(crate) fn sequence(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::Sequence)
    }

    pub(crate) fn metric(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::Metric)
    }

    /// Milliseconds.
    pub(crate) fn latency(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::Latency)
    }

    /// Milliseconds.
    pub(crate) fn latency_detail(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::LatencyDetail)
    }

    pub(crate) fn flags(&self) -> Numbers<'a> {
        self.fixed_numbers(SectionKind::Flags)
    }

    pub(crate) fn counter(&self, counter: usize) -> Option<Numbers<'a>> {
        self.numbers(SectionKind::Counter, counter)
    }

    /// Keys as [`status_text`] makes them.
    pub(crate) fn status(&self) -> Keys<'a> {
        Keys::new(self.content(SectionKind::Status, 0).unwrap_or_default(), self.rows())
    }

    pub(crate) fn dim(&self, dim: usize) -> Option<Keys<'a>> {
        self.content(SectionKind::Dim, dim).map(|content| Keys::new(content, self.rows()))
    }

    pub(crate) fn id(&self) -> Texts<'a> {
        Texts::new(self.content(SectionKind::Id, 0).unwrap_or_default(), self.rows())
    }

    pub(crate) fn id_index(&self) -> TextIndex<'a> {
        TextIndex::new(self.content(SectionKind::IdIndex, 0).unwrap_or_default())
    }

    pub(crate) fn label(&self, label: usize) -> Option<Texts<'a>> {
        self.content(SectionKind::Label, label).map(|content| Texts::new(content, self.rows()))
    }

    /// `None` too for a label that was written without one.
    pub(crate) fn label_index(&self, label: usize) -> Option<TextIndex<'a>> {
        self.content(SectionKind::LabelIndex, label).map(TextIndex::new)
    }

    /// Of the values of the header's `bloom_dim`.
    pub(crate) fn bloom(&self) -> Option<Bloom<'a>> {
        self.content(SectionKind::Bloom, 0).map(Bloom::new)
    }

    /// Of the header's `rollup_dims`; `None` where they would have been too many.
    pub(crate) fn rollups(&self) -> Option<Rollups<'a>> {
        self.content(SectionKind::Rollups, 0).map(Rollups::new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::encode::ROWS_PER_ROLLUP;
    use super::*;
    use crate::time::DAY_NS;

    #[test]
    fn each_kind_is_found_by_its_tag() {
        for kind in SectionKind::ALL {
            assert_eq!(SectionKind::from_tag(kind as u8), Some(kind));
        }
        let most = u8::try_from(SectionKind::ALL.len()).unwrap();
        assert_eq!([0, most + 1, u8::MAX].map(SectionKind::from_tag), [None; 3]);
    }

    fn schema() -> TableSchema {
        TableSchema::new(7)
            .dim("user")
            .dim("model")
            .counter("tokens")
            .counter("retries")
            .label("prompt")
            .indexed_label("trace")
    }

    /// Rows of a table of any shape, with strings of their own.
    struct Table {
        numbers: Columns<'static>,
        id: Vec<String>,
        dims: Vec<Vec<String>>,
        labels: Vec<Vec<String>>,
    }

    impl Table {
        fn random(rows: usize, shape: Shape, seed: u64) -> Self {
            let mut state = seed;
            let mut random = move |below: u32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 32) as u32 % below
            };
            let mut ts: Vec<i64> = (0..rows).map(|_| i64::from(random(4)) * DAY_NS / 2 - DAY_NS).collect();
            ts.sort_unstable();
            let mut numbers = |below: u32| (0..rows).map(|_| i64::from(random(below))).collect::<Vec<_>>();
            let columns = Columns {
                sequence: (100..).step_by(3).take(rows).collect(),
                metric: numbers(u32::MAX)
                    .into_iter()
                    .map(|n| n.wrapping_mul(0x7FFF_FFFF_1234) - 99)
                    .collect(),
                latency: numbers(60_000),
                latency_detail: numbers(200),
                flags: numbers(1 << 16),
                status: numbers(5).into_iter().map(|n| u16::try_from(n * n * 20 + n / 4).unwrap()).collect(),
                counters: (0..shape.counters).map(|_| numbers(1 << 20)).collect(),
                ts,
                ..Columns::default()
            };
            let mut strings = |below: u32, rest: &str| {
                let text = |n: i64| if n == 0 { String::new() } else { format!("{n}-{rest}") };
                numbers(below).into_iter().map(text).collect::<Vec<_>>()
            };
            let long = "a long label ".repeat(30);
            Self {
                id: strings(1 << 30, "id"),
                dims: (0..shape.dims).map(|dim| strings([3, 40, 10_000][dim % 3], "value")).collect(),
                labels: (0..shape.labels)
                    .map(|label| strings(1000, if label == 0 { &long } else { "x" }))
                    .collect(),
                numbers: columns,
            }
        }

        fn columns(&self) -> Columns<'_> {
            Columns {
                id: self.id.iter().map(String::as_str).collect(),
                dims: self.dims.iter().map(|dim| dim.iter().map(String::as_str).collect()).collect(),
                labels: self.labels.iter().map(|label| label.iter().map(String::as_str).collect()).collect(),
                ..self.numbers.clone()
            }
        }

        fn encode(&self, schema: &TableSchema, parallel: bool) -> Vec<u8> {
            let input = SegmentInput {
                schema,
                generations: &[4, 9],
                supersedes: &[2, 3, 5],
                bloom_dim: (schema.shape().dims > 0).then_some(0),
                rollup_dims: if schema.shape().dims > 1 { &[1, 0] } else { &[] },
                columns: self.columns(),
            };
            encode(&input, parallel)
        }
    }

    fn section_bytes<'a>(section: &SectionEntry, file: &'a [u8]) -> &'a [u8] {
        let start = usize::try_from(section.offset).unwrap();
        &file[start..start + usize::try_from(section.bytes).unwrap()]
    }

    /// What storage does at the first touch of each section.
    fn verify(header: &SegmentHeader, file: &[u8]) -> Result<(), Malformed> {
        for (index, section) in header.sections.iter().enumerate() {
            let bytes = section_bytes(section, file);
            if crc32fast::hash(bytes) != section.crc {
                return Err(Malformed::new(0, format!("checksum of {}", section.name())));
            }
            check_section(header, index, bytes)?;
        }
        Ok(())
    }

    fn assert_holds(file: &[u8], schema: &TableSchema, table: &Table) {
        let rows = table.id.len();
        let header = SegmentHeader::parse(file).unwrap();
        verify(&header, file).unwrap();
        assert_eq!(
            (&header.schema, header.rows as usize, header.file_bytes),
            (schema, rows, file.len() as u64)
        );
        assert_eq!((&header.generations[..], &header.supersedes[..]), (&[4, 9][..], &[2, 3, 5][..]));
        assert_eq!(header.bloom_dim, (schema.shape().dims > 0).then_some(0));
        assert_facts(&header.facts, &table.numbers);
        for (index, section) in header.sections.iter().enumerate() {
            let found = section.kind().map(|kind| header.section(kind, section.column.into()));
            assert_eq!(found, section.kind().map(|_| Some(index)), "{}", section.name());
        }
        let view = SegmentView { header: &header, bytes: file };
        assert_columns(&view, table);
        assert_summaries(&view, table);
    }

    fn assert_facts(facts: &Facts, columns: &Columns<'_>) {
        let mut totals = Sums::empty(columns.shape());
        totals.count = columns.ts.len() as u64;
        for (measure, values) in totals.measures.iter_mut().zip(columns.measures()) {
            for value in values {
                measure.add(*value);
            }
        }
        let sequence = |at: Option<&i64>, none: u64| at.map_or(none, |sequence| *sequence as u64);
        let expected = Facts {
            ts_min: columns.ts.iter().min().copied().unwrap_or(i64::MAX),
            ts_max: columns.ts.iter().max().copied().unwrap_or(i64::MIN),
            sequence_min: sequence(columns.sequence.first(), u64::MAX),
            sequence_max: sequence(columns.sequence.last(), 0),
            status_min: columns.status.iter().min().copied().unwrap_or(u16::MAX),
            status_max: columns.status.iter().max().copied().unwrap_or(0),
            totals,
        };
        assert_eq!(*facts, expected);
    }

    fn assert_columns(view: &SegmentView<'_>, table: &Table) {
        let columns = &table.numbers;
        let assert_numbers = |numbers: Numbers<'_>, expected: &Vec<i64>| {
            assert_eq!((0..numbers.rows()).map(|row| numbers.get(row)).collect::<Vec<_>>(), *expected);
        };
        assert_numbers(view.time(), &columns.ts);
        assert_numbers(view.sequence(), &columns.sequence);
        assert_numbers(view.metric(), &columns.metric);
        assert_numbers(view.latency(), &columns.latency);
        assert_numbers(view.latency_detail(), &columns.latency_detail);
        assert_numbers(view.flags(), &columns.flags);
        for (place, counter) in columns.counters.iter().enumerate() {
            assert_numbers(view.counter(place).unwrap(), counter);
        }
        let keys = view.status();
        let status: Vec<u16> = (0..columns.status.len()).map(|row| status_of(keys.text(row))).collect();
        assert_eq!(status, columns.status);
        for (place, dim) in table.dims.iter().enumerate() {
            let keys = view.dim(place).unwrap();
            assert_eq!((0..dim.len()).map(|row| keys.text(row)).collect::<Vec<_>>(), *dim);
        }
        assert_texts(view.id(), &table.id);
        assert_finds(view.id_index(), view.id(), &table.id);
        for (place, label) in table.labels.iter().enumerate() {
            assert_texts(view.label(place).unwrap(), label);
            let indexed = view.header.schema.label_columns()[place].indexed;
            assert_eq!(view.label_index(place).is_some(), indexed);
            if let Some(index) = view.label_index(place) {
                assert_finds(index, view.label(place).unwrap(), label);
            }
        }
    }

    fn assert_texts(texts: Texts<'_>, expected: &[String]) {
        let got: Vec<_> = (0..expected.len()).map(|row| texts.get(row).unwrap().into_owned()).collect();
        assert_eq!(got, expected);
    }

    fn assert_finds(index: TextIndex<'_>, texts: Texts<'_>, expected: &[String]) {
        for (row, text) in (0_u32..).zip(expected) {
            let found: Result<Vec<u32>, _> = index.rows_of(text, texts).collect();
            assert_eq!(found.unwrap().contains(&row), !text.is_empty());
        }
    }

    fn assert_summaries(view: &SegmentView<'_>, table: &Table) {
        assert_eq!(view.bloom().is_some(), !table.dims.is_empty());
        if let Some(bloom) = view.bloom() {
            assert!(table.dims[0].iter().all(|value| bloom.may_contain(value)));
        }
        let Some(rollups) = view.rollups() else {
            return;
        };
        assert!(rollups.len() <= table.id.len() / ROWS_PER_ROLLUP);
        let total: i128 = (0..rollups.len()).map(|entry| rollups.metric(entry)).sum();
        assert_eq!(total, view.header.facts.totals.measures[0].sum);
        for (slot, dim) in view.header.rollup_dims.iter().enumerate() {
            let keys = view.dim(*dim).unwrap();
            let mut by_value: HashMap<&str, u64> = HashMap::new();
            for entry in 0..rollups.len() {
                *by_value.entry(keys.value(rollups.code(entry, slot))).or_default() += rollups.count(entry);
            }
            let mut plain: HashMap<&str, u64> = HashMap::new();
            table.dims[*dim].iter().for_each(|value| *plain.entry(value).or_default() += 1);
            assert_eq!(by_value, plain);
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        for rows in [0, 1, 7, 256, 300, 5000] {
            let table = Table::random(rows, schema().shape(), 42);
            let file = table.encode(&schema(), false);
            assert_holds(&file, &schema(), &table);
            assert_eq!(file, table.encode(&schema(), true), "threads change nothing");
        }
        let table = Table::random(5000, schema().shape(), 42);
        let file = table.encode(&schema(), false);
        let header = SegmentHeader::parse(&file).unwrap();
        assert!(SegmentView { header: &header, bytes: &file }.rollups().is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn random_tables_are_read_as_they_were_written(
            rows in 0_usize..1200,
            (dims, counters, labels) in (0_usize..4, 0_usize..3, 0_usize..3),
            seed in any::<u64>(),
        ) {
            let schema = TableSchema::positional(1, dims, counters, labels);
            let table = Table::random(rows, schema.shape(), seed);
            assert_holds(&table.encode(&schema, false), &schema, &table);
        }

        /// As `damaged_headers_are_refused`, but with a checksum that fits.
        #[test]
        fn hostile_headers_never_panic(
            seed in any::<u64>(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut file = Table::random(40, schema().shape(), seed).encode(&schema(), false);
            let (header_bytes, _) = header_lengths(&file).unwrap();
            for (at, byte) in changes {
                file[at.index(header_bytes)] = byte;
            }
            let crc = header_crc(&file[..header_bytes]);
            file[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
            if let Ok(header) = SegmentHeader::parse(&file)
                && header.file_bytes == file.len() as u64
                && verify(&header, &file).is_ok()
            {
                let view = SegmentView { header: &header, bytes: &file };
                for row in 0..header.rows as usize {
                    view.time().get(row);
                    view.status().text(row);
                }
            }
        }
    }

    #[test]
    fn columns_younger_than_the_segment_are_absent() {
        let old = TableSchema::new(7).dim("user").counter("tokens").label("prompt");
        let table = Table::random(300, old.shape(), 1);
        let file = table.encode(&old, false);
        let header = SegmentHeader::parse(&file).unwrap();
        assert_eq!(schema().differences_from(&header.schema), None);
        let view = SegmentView { header: &header, bytes: &file };
        assert_columns(&view, &table);
        assert!(view.dim(1).is_none() && view.counter(1).is_none());
        assert!(view.label(1).is_none() && view.label_index(1).is_none());
        let user = view.dim(0).unwrap();
        let mut sums = Sums::empty(schema().shape());
        let codes = user.dictionary().codes_from("1-value");
        assert!(user.add_value_sums(std::slice::from_ref(&codes), &mut sums));
        assert_eq!(sums.measures.last(), Some(&Measure { sum: 0, min: 0, max: 0 }));
    }

    #[test]
    fn damaged_headers_are_refused() {
        let file = Table::random(300, schema().shape(), 5).encode(&schema(), false);
        let (header_bytes, file_bytes) = header_lengths(&file[..HEADER_FIXED_BYTES]).unwrap();
        assert_eq!(file_bytes, file.len() as u64);
        assert!(SegmentHeader::parse(&file[..header_bytes]).is_ok());
        for bytes in 0..header_bytes {
            assert!(SegmentHeader::parse(&file[..bytes]).is_err(), "the first {bytes} bytes");
        }
        for bit in 0..8 * header_bytes {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_byte_behind_the_header_is_under_a_checksum() {
        let file = Table::random(70, schema().shape(), 5).encode(&schema(), false);
        let header = SegmentHeader::parse(&file).unwrap();
        let (header_bytes, _) = header_lengths(&file).unwrap();
        for at in header_bytes..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(verify(&header, &damaged).unwrap_err().what.starts_with("checksum of "), "byte {at}");
        }
    }

    /// The file with another header, whose lengths and checksum fit.
    fn with_header(file: &[u8], change: impl FnOnce(&mut SegmentHeader)) -> Vec<u8> {
        let mut header = SegmentHeader::parse(file).unwrap();
        let (header_bytes, _) = header_lengths(file).unwrap();
        change(&mut header);
        let mut changed = header.encode();
        changed.extend_from_slice(&file[header_bytes..]);
        changed
    }

    fn entry(header: &mut SegmentHeader, kind: SectionKind) -> &mut SectionEntry {
        let index = header.section(kind, 0).unwrap();
        &mut header.sections[index]
    }

    #[test]
    fn unknown_sections_are_skipped_only_if_they_are_optional() {
        let table = Table::random(5000, schema().shape(), 5);
        let file = table.encode(&schema(), false);
        let newer = with_header(&file, |header| {
            entry(header, SectionKind::Rollups).tag = 200;
            entry(header, SectionKind::Bloom).encoding = 2;
        });
        let header = SegmentHeader::parse(&newer).unwrap();
        verify(&header, &newer).unwrap();
        let view = SegmentView { header: &header, bytes: &newer };
        assert!(view.rollups().is_none() && view.bloom().is_none());
        assert_columns(&view, &table);

        let refusal = |change: fn(&mut SegmentHeader)| match SegmentHeader::parse(&with_header(&file, change))
            .unwrap_err()
        {
            PrefaceError::Malformed(malformed) => malformed.what,
            PrefaceError::TooNew { found } | PrefaceError::TooOld { found } => format!("version {found}"),
        };
        let unknown_kind = |header: &mut SegmentHeader| {
            let rollups = entry(header, SectionKind::Rollups);
            (rollups.tag, rollups.is_optional) = (200, false);
        };
        assert_eq!(refusal(unknown_kind), "section of kind 200 has encoding 1; a newer release wrote it");
        assert_eq!(
            refusal(|header| entry(header, SectionKind::Time).encoding = 2),
            "section time has encoding 2; a newer release wrote it"
        );
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let file = Table::random(5000, schema().shape(), 5).encode(&schema(), false);
        let refusal = |change: fn(&mut SegmentHeader)| match SegmentHeader::parse(&with_header(&file, change))
            .unwrap_err()
        {
            PrefaceError::Malformed(malformed) => malformed.what,
            PrefaceError::TooNew { found } | PrefaceError::TooOld { found } => format!("version {found}"),
        };
        let no_rows = "the smallest and largest time, sequence or status are not those of 0 rows";
        assert_eq!(refusal(|header| header.rows = 0), no_rows);
        assert_eq!(refusal(|header| header.rows -= 4999), "the totals are not those of 1 rows");
        let other_dim = "the bloom filter or the rollups are of a dim beyond the 2 of the schema";
        assert_eq!(refusal(|header| header.bloom_dim = Some(2)), other_dim);
        assert_eq!(refusal(|header| header.rollup_dims = vec![0, 2]), other_dim);
        let of_no_column = "section label 2 is of no column of the schema";
        assert_eq!(refusal(|header| entry(header, SectionKind::Label).column = 2), of_no_column);
        assert_eq!(
            refusal(|header| entry(header, SectionKind::Time).tag = 2),
            "the sections are not in order, or one is there twice"
        );
        let missing = |header: &mut SegmentHeader| {
            let id_index = entry(header, SectionKind::IdIndex);
            (id_index.encoding, id_index.is_optional) = (2, true);
        };
        assert_eq!(refusal(missing), "section id index 0 is missing");
        let mut newer = file.clone();
        newer[8] = 2;
        assert_eq!(SegmentHeader::parse(&newer), Err(PrefaceError::TooNew { found: 2 }));
        let mut older = file.clone();
        older[8] = 0;
        assert_eq!(SegmentHeader::parse(&older), Err(PrefaceError::TooOld { found: 0 }));
    }
}
