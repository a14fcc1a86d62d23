//! What every byte of a file is: spans with a name, a value and what is wrong, in the order of the file.
//!
//! [`Spans`] is a cursor that tells a span for every step it makes, so that spans have neither gaps nor overlaps. Headers and
//! payloads are read by the parsers that read them for the engine, which the cursor [watches](Watch); sections describe
//! themselves beside their layouts. Whatever the engine's own checks find wrong is told with the span where it is.
//!
//! Knows bytes, not files. Damaged bytes are described as far as their structure can be followed; what is left is one span
//! that is not understood.

use std::fmt::Display;

use keplordb_log::Timestamp;
use keplordb_log::frame::{self, End, HEADER_BYTES};
use keplordb_log::salvage::{Damage, Piece, pieces};

use super::block::Block;
use super::bytes::{ByteReader, Form, Malformed, Watch};
use super::manifest::{self, Manifest};
use super::preface::{
    self, FIXED_BYTES, MANIFEST_MAGIC, Magic, PrefaceError, TOMBSTONES_MAGIC, WAL_MAGIC, check_version,
};
use super::segment::{self, SEGMENT_MAGIC};
use super::tombstones::{self, TOMBSTONE_BYTES};
use super::wal::WalHeader;
use super::{FORMAT_VERSION, OLDEST_FORMAT_VERSION};

/// Some neighbouring bytes of a file that are one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it has; at least 1.
    pub bytes: u64,
    /// What it is, from the whole to the part, in the words of `docs/format.md`: `segment header / smallest time`. Zeros that
    /// only fill up are called `padding`, reserved ones `zero`.
    pub name: String,
    /// The value in words; of an array how many elements it has, and of which type. Empty where the bytes say it best.
    pub value: String,
    /// What is wrong here, if anything is.
    pub problem: Option<String>,
}

impl Span {
    /// Bytes that mean nothing, and why.
    pub(crate) fn not_understood(offset: u64, bytes: u64, why: impl Into<String>) -> Self {
        Self { offset, bytes, name: "not understood".into(), value: String::new(), problem: Some(why.into()) }
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// `MANIFEST`: what makes up a table.
    Manifest,
    /// `segments/N.kseg`.
    Segment,
    /// `wal/G.kwal`.
    Wal,
    /// `tombstones.T`.
    Tombstones,
    /// None of these.
    Unknown,
}

impl FileKind {
    /// By the first bytes of a file; `None` if they are no magic number of ours.
    pub(crate) fn of_magic(start: &[u8]) -> Option<Self> {
        match Magic(*start.first_chunk()?) {
            MANIFEST_MAGIC => Some(Self::Manifest),
            SEGMENT_MAGIC => Some(Self::Segment),
            WAL_MAGIC => Some(Self::Wal),
            TOMBSTONES_MAGIC => Some(Self::Tombstones),
            _ => None,
        }
    }
}

/// A piece of a file that is described from its front to its end.
pub(super) struct Spans<'b, 's> {
    bytes: &'b [u8],
    at: usize,
    /// Where the part ends that is being described.
    end: usize,
    /// Where in the file the piece begins.
    base: u64,
    path: Vec<String>,
    /// What is known to be wrong, by the place in the piece, and has not been told.
    problems: Vec<Malformed>,
    /// Whether nothing is known to be wrong with the piece.
    is_sound: bool,
    /// The last span, which may still be found wrong.
    last: Option<Span>,
    each: &'s mut dyn FnMut(Span),
}

impl<'b, 's> Spans<'b, 's> {
    pub(super) fn new(bytes: &'b [u8], base: u64, each: &'s mut dyn FnMut(Span)) -> Self {
        let (path, problems) = (Vec::new(), Vec::new());
        Self { bytes, at: 0, end: bytes.len(), base, path, problems, is_sound: true, last: None, each }
    }

    /// Has the span with this place say what is wrong there.
    pub(super) fn expect(&mut self, malformed: impl IntoIterator<Item = Malformed>) {
        self.problems.extend(malformed);
        self.is_sound &= self.problems.is_empty();
    }

    /// Whether nothing was expected to be wrong: counts in the bytes are then those of what is there.
    pub(super) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Where in the piece the next span begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The bytes of the part that have not been described.
    pub(super) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Describes something that is part of what is being described.
    pub(super) fn within<T>(&mut self, group: impl Display, describe: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(group.to_string());
        let result = describe(self);
        self.path.pop();
        result
    }

    /// Describes a part of what is being described that has the next `bytes` bytes.
    pub(super) fn part(
        &mut self,
        group: impl Display,
        bytes: usize,
        describe: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.within(group, |spans| spans.region(bytes, describe))
    }

    /// Describes the next `bytes` bytes: no more, and if less, the rest of them is not understood. `None` if there are not
    /// that many.
    pub(super) fn region(
        &mut self,
        bytes: usize,
        describe: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let (end, wanted) = (self.end, self.at.saturating_add(bytes));
        self.end = wanted.min(end);
        describe(self);
        self.leave_nothing("nothing should be here");
        self.end = end;
        if wanted > end {
            self.blame(format!("{bytes} bytes should be here"));
            return None;
        }
        Some(())
    }

    /// Tells what is left of the part as not understood.
    pub(super) fn leave_nothing(&mut self, why: &str) {
        if self.at < self.end {
            self.tell(self.end - self.at, "not understood", String::new());
            self.blame(why);
        }
    }

    /// Gives the part up.
    pub(super) fn give_up(&mut self, why: impl Into<String>) {
        let why = why.into();
        if self.at < self.end {
            self.leave_nothing(&why);
        } else {
            self.blame(why);
        }
    }

    /// Ends the piece: its last span takes what no other one had to say.
    pub(super) fn finish(mut self) {
        self.leave_nothing("nothing should be here");
        let problems = std::mem::take(&mut self.problems);
        for problem in problems {
            self.blame(problem.what);
        }
        self.last.take().into_iter().for_each(self.each);
    }

    /// Tells the next bytes, of which there are that many.
    fn tell(&mut self, bytes: usize, name: &str, value: String) {
        if bytes == 0 {
            return;
        }
        self.last.take().into_iter().for_each(&mut *self.each);
        let mut path = self.path.join(" / ");
        if !path.is_empty() {
            path.push_str(" / ");
        }
        let place = self.at as u64..(self.at + bytes) as u64;
        let offset = self.base + place.start;
        path.push_str(name);
        self.last = Some(Span { offset, bytes: bytes as u64, name: path, value, problem: None });
        self.at += bytes;
        let known = std::mem::take(&mut self.problems);
        let (here, later): (Vec<_>, _) = known.into_iter().partition(|found| place.contains(&found.offset));
        self.problems = later;
        for found in here {
            self.blame(found.what);
        }
    }

    /// Says what is wrong with the last span.
    pub(super) fn blame(&mut self, what: impl Into<String>) {
        let what = what.into();
        let Some(span) = &mut self.last else { return };
        match &mut span.problem {
            Some(known) if known.contains(&what) => {}
            Some(known) => *known = format!("{known}; {what}"),
            None => span.problem = Some(what),
        }
    }

    /// Adds to the value of the last span.
    pub(super) fn note(&mut self, more: impl Display) {
        if let Some(span) = &mut self.last {
            span.value =
                if span.value.is_empty() { more.to_string() } else { format!("{}, {more}", span.value) };
        }
    }

    /// The next `count` bytes, if they are there; else the part is given up.
    fn cut(&mut self, count: usize, name: &str) -> Option<&'b [u8]> {
        let rest = self.rest();
        let cut = rest.get(..count);
        if cut.is_none() {
            self.give_up(format!("{name} should have {count} bytes, {} are left", rest.len()));
        }
        cut
    }

    /// Tells the next bytes by their form.
    fn form(&mut self, count: usize, name: &str, form: Form) -> Option<&'b [u8]> {
        let bytes = self.cut(count, name)?;
        self.tell(count, name, in_words(bytes, name, form));
        if form == Form::Zeros && bytes.iter().any(|byte| *byte != 0) {
            self.blame("these bytes should be zero");
        }
        Some(bytes)
    }

    pub(super) fn u8(&mut self, name: &str) -> Option<u8> {
        self.form(1, name, Form::Unsigned)?.first().copied()
    }

    pub(super) fn u16(&mut self, name: &str) -> Option<u16> {
        self.form(2, name, Form::Unsigned)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn u32(&mut self, name: &str) -> Option<u32> {
        self.form(4, name, Form::Unsigned)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self, name: &str) -> Option<u64> {
        self.form(8, name, Form::Unsigned)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(super) fn i64(&mut self, name: &str) -> Option<i64> {
        self.form(8, name, Form::Signed)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// A number that stands for one of a few words; `None` of them: it is unknown.
    pub(super) fn tag<T: Display>(&mut self, name: &str, word: impl FnOnce(u8) -> Option<T>) -> Option<u8> {
        let tag = self.u8(name)?;
        match word(tag) {
            Some(word) => self.note(word),
            None => self.note("unknown"),
        }
        Some(tag)
    }

    pub(super) fn zeros(&mut self, count: usize) -> Option<()> {
        self.form(count, "zero", Form::Zeros).map(drop)
    }

    pub(super) fn padding(&mut self, count: usize) -> Option<()> {
        self.form(count, "padding", Form::Zeros).map(drop)
    }

    pub(super) fn text(&mut self, name: &str, count: usize) -> Option<()> {
        self.form(count, name, Form::Text).map(drop)
    }

    pub(super) fn bytes(&mut self, name: &str, count: usize) -> Option<()> {
        self.form(count, name, Form::Bytes).map(drop)
    }

    /// So many elements of a type, of so many bytes each.
    pub(super) fn array(&mut self, name: &str, count: usize, of: &str, bytes_each: usize) -> Option<()> {
        let bytes = count.saturating_mul(bytes_each);
        self.cut(bytes, name)?;
        self.tell(bytes, name, format!("{count} × {of}"));
        Some(())
    }
}

impl Watch for &mut Spans<'_, '_> {
    fn field(&mut self, bytes: &[u8], what: &str, form: Form) {
        self.form(bytes.len(), what, form);
    }

    fn enter(&mut self, group: &dyn Display) {
        self.path.push(group.to_string());
    }

    fn leave(&mut self) {
        self.path.pop();
    }
}

/// The value of some bytes, in words where their name says how to read it.
fn in_words(bytes: &[u8], name: &str, form: Form) -> String {
    let unsigned = bytes.iter().take(16).rev().fold(0, |value: u128, byte| value << 8 | u128::from(*byte));
    match form {
        Form::Unsigned => {
            let word = word_of(name, unsigned);
            word.map_or_else(|| unsigned.to_string(), |word| format!("{unsigned}, {word}"))
        }
        Form::Signed => {
            let shift = u128::BITS - 8 * u32::try_from(bytes.len().clamp(1, 16)).unwrap_or(16);
            let value = (unsigned << shift) as i128 >> shift;
            match i64::try_from(value) {
                Ok(ns) if is_time(name) => format!("{ns}, {}", Timestamp::from_ns(ns)),
                _ => value.to_string(),
            }
        }
        Form::Text => shown(bytes),
        Form::Zeros if bytes.iter().all(|byte| *byte == 0) => "zeros".to_owned(),
        Form::Array(count) => {
            let of = element(name, bytes.len().checked_div(count).unwrap_or(0));
            let times = bytes.as_chunks::<8>().0;
            match (times.first(), times.last()) {
                (Some(first), Some(last)) if is_time(name) => {
                    let [first, last] = [first, last].map(|ns| Timestamp::from_ns(i64::from_le_bytes(*ns)));
                    format!("{count} × {of}, the first {first}, the last {last}")
                }
                _ => format!("{count} × {of}"),
            }
        }
        Form::Zeros | Form::Bytes => String::new(),
    }
}

fn is_time(name: &str) -> bool {
    matches!(name, "smallest time" | "largest time" | "times")
}

/// The type of an array's elements.
fn element(name: &str, bytes_each: usize) -> &'static str {
    match bytes_each {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        8 if matches!(name, "times" | "metrics") => "i64",
        8 => "u64",
        _ => "element",
    }
}

/// What a number means, where it stands for something.
fn word_of(name: &str, number: u128) -> Option<String> {
    let small = u8::try_from(number).ok();
    let word = match (name, number) {
        ("schema naming", 1) => "columns are named",
        ("schema naming", 0) => "columns are counted",
        ("label index", 1) => "has an index",
        ("label index", 0) => "has none",
        ("closed", 1) => "by a clean close",
        ("closed", 0) => "being written",
        ("tombstone log" | "by", 0) => "none",
        ("section optional", 0) => "no",
        ("section optional", 1) => "yes",
        ("dim of the bloom filter", none) if none == u128::from(segment::NO_DIM) => "none",
        ("kind of file", _) => small.and_then(manifest::kind_name)?,
        ("section kind", _) => segment::kind_name(small?)?,
        _ => return None,
    };
    Some(word.to_owned())
}

/// A text as a value shows it: its first 48 characters.
pub(super) fn shown(text: &[u8]) -> String {
    // No character has more than four bytes.
    let start = String::from_utf8_lossy(text.get(..4 * 49).unwrap_or(text));
    match start.char_indices().nth(48) {
        Some((end, _)) => format!("{:?}…", start.get(..end).unwrap_or_default()),
        None => format!("{start:?}"),
    }
}

/// Tells the spans of a whole manifest.
pub(crate) fn describe_manifest(bytes: &[u8], each: &mut dyn FnMut(Span)) {
    let mut spans = Spans::new(bytes, 0, each);
    let content = |content: &[u8]| Manifest::read(ByteReader::new(content)).map(drop);
    spans.within("manifest", |spans| {
        let read = |reader: ByteReader<'_, &mut Spans<'_, '_>>| Manifest::read(reader).map(drop);
        describe_preface(spans, MANIFEST_MAGIC, content, read);
        spans.leave_nothing("bytes follow the manifest");
    });
    spans.finish();
}

const FRAMES_OF_NO_HEADER: &str = "without the file's header nobody knows its frames";
const FRAME_BEHIND_THE_LAST: &str = "a frame follows the closing frame";

/// Tells the spans of a whole WAL.
pub(crate) fn describe_wal(bytes: &[u8], each: &mut dyn FnMut(Span)) {
    let mut spans = Spans::new(bytes, 0, each);
    let content = |content: &[u8]| WalHeader::read(ByteReader::new(content)).map(drop);
    let start = spans.within("WAL header", |spans| {
        let read = |reader: ByteReader<'_, &mut Spans<'_, '_>>| WalHeader::read(reader).map(drop);
        describe_preface(spans, WAL_MAGIC, content, read)
    });
    let header = preface::stored_content(bytes)
        .and_then(|(content, _)| WalHeader::read(ByteReader::new(content)).ok());
    if let (Some(start), Some(header)) = (start, header) {
        let shape = header.schema.shape();
        describe_frames(&mut spans, start, header.salt, true, |spans, payload, rows, first| {
            let at = spans.position();
            let found = Block::decode(payload, shape, rows, first).err();
            spans.expect(found.map(|found| Malformed { offset: found.offset + at as u64, ..found }));
            let read = Block::read(ByteReader::watched(payload, 0, &mut *spans), shape, rows, first);
            if let Err(found) = read {
                spans.give_up(found.what);
            }
        });
    } else {
        spans.leave_nothing(FRAMES_OF_NO_HEADER);
    }
    spans.finish();
}

/// Tells the spans of a whole tombstone log.
pub(crate) fn describe_tombstones(bytes: &[u8], each: &mut dyn FnMut(Span)) {
    let mut spans = Spans::new(bytes, 0, each);
    let content = |content: &[u8]| tombstones::read_header(ByteReader::new(content)).map(drop);
    let start = spans.within("tombstone log header", |spans| {
        let read = |reader: ByteReader<'_, &mut Spans<'_, '_>>| tombstones::read_header(reader).map(drop);
        describe_preface(spans, TOMBSTONES_MAGIC, content, read)
    });
    let salt = preface::stored_content(bytes)
        .and_then(|(content, _)| tombstones::read_header(ByteReader::new(content)).ok());
    if let (Some(start), Some(salt)) = (start, salt) {
        describe_frames(&mut spans, start, salt, false, |spans, payload, rows, _| {
            let mut deleted = Vec::new();
            let found = tombstones::decode(payload, rows, &mut deleted).err();
            let count = payload.len() / TOMBSTONE_BYTES;
            spans.array("tombstones", count, "{ time i64 | sequence u64 }", TOMBSTONE_BYTES);
            if let [only] = deleted.as_slice() {
                spans.note(format_args!("{}, sequence {}", Timestamp::from_ns(only.ts_ns), only.sequence));
            }
            if let Some(found) = found {
                spans.blame(found.what);
            }
        });
    } else {
        spans.leave_nothing(FRAMES_OF_NO_HEADER);
    }
    spans.finish();
}

/// Tells the spans of a file's preface; where it ends, if that can be believed. Without that, all of the file is given up.
///
/// `check` and `read` are the parser of the content, without and with somebody who watches.
fn describe_preface<'b>(
    spans: &mut Spans<'b, '_>,
    magic: Magic,
    check: impl FnOnce(&[u8]) -> Result<(), Malformed>,
    read: impl FnOnce(ByteReader<'b, &mut Spans<'b, '_>>) -> Result<(), Malformed>,
) -> Option<usize> {
    let bytes = spans.rest();
    let content = preface::stored_content(bytes);
    if let Err(PrefaceError::Malformed(found)) = preface::decode(bytes, magic) {
        spans.expect([found]);
    }
    spans.expect(content.and_then(|(content, _)| check(content).err()).map(preface::in_content));
    describe_magic(spans, magic)?;
    spans.u32("bytes")?;
    spans.u32("CRC-32")?;
    spans.zeros(4)?;
    let Some((content, preface_bytes)) = content else {
        spans.give_up("the preface does not end within the file");
        return None;
    };
    spans.region(preface_bytes - FIXED_BYTES, |spans| {
        let malformed = read(ByteReader::watched(content, 0, &mut *spans)).err()?;
        spans.give_up(malformed.what);
        None
    })?;
    Some(preface_bytes)
}

/// Tells the spans of a file's magic number and version. In a version that is not known, nothing else is.
pub(super) fn describe_magic(spans: &mut Spans<'_, '_>, magic: Magic) -> Option<()> {
    let stored = spans.cut(magic.0.len(), "magic")?;
    spans.tell(stored.len(), "magic", stored.escape_ascii().to_string());
    if stored != magic.0 {
        spans.blame("it is not that of its kind of file");
    }
    let version = spans.u32("format version")?;
    if check_version(version).is_err() {
        spans.blame(format!("this release reads versions {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}"));
        spans.give_up("what other versions have here is not known");
        return None;
    }
    Some(())
}

/// Tells the spans of a log's frames, from `start` to the end of the file. `describe_payload` is given payload, rows and first
/// sequence of a frame. `may_close`: whether logs of this kind end with a closing frame.
fn describe_frames<'b>(
    spans: &mut Spans<'b, '_>,
    start: usize,
    salt: u64,
    may_close: bool,
    mut describe_payload: impl FnMut(&mut Spans<'b, '_>, &'b [u8], u32, u64),
) {
    let bytes = spans.bytes;
    // Who is to say of the first bad frame whether it was synced.
    let mut end = Some(frame::walk(bytes, start, salt, 0).end());
    let mut is_closed = false;
    for (number, piece) in pieces(bytes, start, salt).enumerate() {
        match piece {
            Piece::Frame(frame) => {
                let frame_bytes = usize::try_from(frame.end() - frame.offset).unwrap_or(usize::MAX);
                spans.part(format_args!("frame {number}"), frame_bytes, |spans| {
                    describe_frame_header(spans)?;
                    let payload_bytes = frame.payload.len();
                    spans.part("payload", payload_bytes, |spans| {
                        describe_payload(spans, frame.payload, frame.rows, frame.first);
                        Some(())
                    })?;
                    spans.padding(frame_bytes - HEADER_BYTES - payload_bytes)
                });
                if is_closed {
                    spans.blame(FRAME_BEHIND_THE_LAST);
                }
            }
            Piece::Closing { .. } => {
                spans.part("closing frame", HEADER_BYTES, describe_frame_header);
                if is_closed {
                    spans.blame(FRAME_BEHIND_THE_LAST);
                }
                if !may_close {
                    spans.blame("a tombstone log has no closing frame");
                }
                is_closed = true;
            }
            Piece::Damage(Damage { offset, bytes, rows, what }) => {
                let judged = match end.take().filter(|end| end.at() == offset) {
                    Some(End::Torn { .. }) => {
                        format!(
                            "{what}; nothing here says that it was synced: a crash cut it, or it is being written"
                        )
                    }
                    Some(End::Corrupt { covered_upto, .. }) => {
                        format!("{what}; bytes up to {covered_upto} were synced, so this is damage")
                    }
                    _ => what.to_owned(),
                };
                let damage_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                spans.part(format_args!("bad frame {number}"), damage_bytes, |spans| {
                    // Only a header with its checksum says what it is of.
                    if rows.is_some() {
                        describe_frame_header(spans)?;
                    }
                    spans.give_up(judged);
                    Some(())
                });
            }
        }
    }
    let filled = spans.rest().len();
    spans.form(filled, "zeros ahead of frames to come", Form::Zeros);
}

/// The fields of a frame's header, in the order of [`frame`].
fn describe_frame_header(spans: &mut Spans<'_, '_>) -> Option<()> {
    spans.u32("header CRC")?;
    spans.u32("payload CRC")?;
    spans.u32("payload bytes")?;
    spans.u32("rows")?;
    spans.u64("first")?;
    spans.u64("watermark")?;
    Some(())
}

#[cfg(test)]
mod tests {
    use keplordb_log::frame::closing;
    use proptest::prelude::*;

    use super::super::segment::tamper::with_section;
    use super::super::segment::{SectionKind, SegmentHeader, describe_header, describe_section};
    use super::*;

    /// Of every kind of section and encoding, as the release wrote it that froze the format.
    const SEGMENT: &[u8] = include_bytes!("../../tests/data/v1/segments/0000000000000001.kseg");

    /// Names and problems of the spans of a segment whose header is sound; they cover it.
    fn segment_spans(file: &[u8]) -> Vec<Span> {
        let header_bytes = segment::stored_header_bytes(file);
        let mut spans: Vec<Span> = Vec::new();
        let each = &mut |span: Span| spans.push(span);
        let header = describe_header(&file[..header_bytes], file.len() as u64, each).unwrap();
        for (index, section) in header.sections.iter().enumerate() {
            describe_section(&header, index, &file[section.range().unwrap()], each);
        }
        let end = spans.iter().fold(0, |end, span| {
            assert!(span.offset == end && span.bytes > 0, "{span:?} does not begin at {end}");
            span.offset + span.bytes
        });
        assert_eq!(end, file.len() as u64);
        spans
    }

    #[test]
    fn texts_are_shown_by_their_beginning() {
        assert_eq!(shown(b"a \"b\"\n"), r#""a \"b\"\n""#);
        let long = "ß".repeat(49);
        assert_eq!(shown(&long.as_bytes()[..96]), format!("\"{}\"", "ß".repeat(48)));
        assert_eq!(shown(long.as_bytes()), format!("\"{}\"…", "ß".repeat(48)));
        assert_eq!(shown(&[b'x'; 1000]), format!("\"{}\"…", "x".repeat(48)));
        assert_eq!(shown(&[0xFF]), "\"\u{FFFD}\"");
    }

    #[test]
    fn numbers_of_every_width_are_read_with_their_sign() {
        assert_eq!(in_words(&(-2_i64).to_le_bytes(), "smallest", Form::Signed), "-2");
        assert_eq!(in_words(&i128::MIN.to_le_bytes(), "sum", Form::Signed), i128::MIN.to_string());
        assert_eq!(in_words(&u64::MAX.to_le_bytes(), "first", Form::Unsigned), u64::MAX.to_string());
        assert_eq!(in_words(&[0xFF, 0xFF], "dim of the bloom filter", Form::Unsigned), "65535, none");
        let time = in_words(&(-1_i64).to_le_bytes(), "smallest time", Form::Signed);
        assert_eq!(time, "-1, 1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn a_part_ends_where_its_bytes_do() {
        let mut told = Vec::new();
        let each = &mut |span: Span| told.push((span.offset, span.bytes, span.name, span.problem));
        let mut spans = Spans::new(&[1; 12], 100, each);
        spans.expect([Malformed::new(99, "what is wrong nowhere")]);
        spans.part("first", 6, |spans| spans.u32("number").map(drop));
        spans.part("second", 7, |spans| spans.u64("number").map(drop));
        spans.finish();
        let text = |text: &str| Some(text.to_owned());
        let wrong = "number should have 8 bytes, 6 are left; 7 bytes should be here; what is wrong nowhere";
        assert_eq!(
            told,
            [
                (100, 4, "first / number".to_owned(), None),
                (104, 2, "first / not understood".to_owned(), text("nothing should be here")),
                (106, 6, "second / not understood".to_owned(), text(wrong)),
            ]
        );
    }

    #[test]
    fn every_entry_of_a_section_is_at_the_place_that_its_parser_reads() {
        // The arrays of a section of keys, by the places in their entries.
        let spans = segment_spans(SEGMENT);
        assert!(spans.iter().all(|span| span.problem.is_none()));
        let header = SegmentHeader::parse(SEGMENT).unwrap();
        let start = header.sections[header.section(SectionKind::Dim, 0).unwrap()].offset;
        let (mut entries, mut arrays) = (0, 0);
        for entry in spans.iter().filter(|span| span.name.starts_with("dim 0 (service) / entry of ")) {
            let (array, field) = entry.name["dim 0 (service) / entry of ".len()..].split_once(" / ").unwrap();
            if field == "where the elements begin" {
                entries += 1;
                let name = format!("dim 0 (service) / elements / {array}");
                // Arrays whose elements are all the same have none.
                if let Some(elements) = spans.iter().find(|span| span.name == name) {
                    arrays += 1;
                    assert_eq!((elements.offset - start) / 8, entry.value.parse::<u64>().unwrap(), "{name}");
                }
            }
        }
        // Two counters: five measures.
        assert_eq!(entries, 5 + 3 * 5);
        assert!(arrays > 10, "{arrays}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Damage that no checksum tells of.
        #[test]
        fn impossible_sections_under_right_checksums_are_covered(
            which in any::<proptest::sample::Index>(),
            changes in proptest::collection::vec(
                (any::<proptest::sample::Index>(), prop_oneof![Just(u64::MAX), Just(0), any::<u64>()], 1..9_usize),
                0..4,
            ),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let header = SegmentHeader::parse(SEGMENT).unwrap();
            let section = which.get(&header.sections);
            let kind = section.kind().unwrap();
            let file = with_section(SEGMENT, kind, section.column.into(), |content| {
                if let Some(cut) = cut {
                    content.truncate(cut.index(content.len()));
                }
                for (at, value, bytes) in &changes {
                    // Near the front, where lengths and places are, as often as anywhere.
                    let len = content.len().min(if *bytes % 2 == 0 { 128 } else { usize::MAX });
                    if len > 0 {
                        let at = at.index(len);
                        let end = content.len().min(at + bytes);
                        content[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                    }
                }
            });
            segment_spans(&file);
        }
    }

    #[test]
    fn what_follows_a_closing_frame_is_told() {
        let mut file = tombstones::encode_header(7);
        file.extend_from_slice(&closing(7, 0, 0));
        let mut problems = Vec::new();
        describe_tombstones(&file, &mut |span| problems.extend(span.problem));
        assert_eq!(problems, ["a tombstone log has no closing frame"]);
    }

    #[test]
    fn blocks_without_bytes_are_told_once() {
        let file = with_section(SEGMENT, SectionKind::Label, 1, |content| {
            let parts = 60_000_u32;
            *content = [&[2, 0, 0, 0][..], &parts.to_le_bytes()].concat();
            content.resize(8 + 8 * (parts as usize + 1), 0);
            (0..parts).for_each(|row| content.extend_from_slice(&row.to_le_bytes()));
            (0..parts).for_each(|_| content.extend_from_slice(&9_u32.to_le_bytes()));
        });
        let spans = segment_spans(&file);
        assert!(spans.iter().all(|span| span.value.len() < 1000));
        let is_told = |problem: &str| problem.contains("lacks its bytes");
        assert!(spans.iter().any(|span| span.problem.as_deref().is_some_and(is_told)));
    }
}
