//! Texts of ids and labels: short ones packed to a few bits a character, long ones compressed in blocks, and every row
//! readable alone.
//!
//! ```text
//! offset       bytes
//!      0           1  kind: 1 chunks, 2 blocks
//!      1           3  zero
//!      4           4  parts: u32, how many chunks or blocks
//!      8   8×parts+8  offsets: u64, where in the data each part begins, then where the last one ends
//!      …     4×parts  kind 2 only: u32, first row of each block
//!      …     4×parts  kind 2 only: u32, bytes of each block once decompressed
//!      …           …  data: the parts
//!
//! chunk of 256 rows (the last one of fewer), plain
//!      0           1  form: 1 for ends of 2 bytes, 2 for ends of 4 bytes
//!      1           3  zero
//!      4    2|4×rows  ends: where in the text each row ends; it begins where the row before it ends
//!      …           …  text
//!
//! chunk of 256 rows (the last one of fewer), packed
//!      0           1  form: 3
//!      1           …  see `packed`
//!
//! block of consecutive rows, once decompressed
//!      0      2×rows  ends, as of a plain chunk; a block of one row has none: it is the text
//!      …           …  text
//! ```
//!
//! Valid if and only if
//! 1. offsets begin at 0, never descend and end with the data; there is one chunk per 256 rows;
//! 2. first rows begin at 0, ascend, and are all below the rows;
//! 3. a block of several rows has at most [`MAX_BLOCK_BYTES`] once decompressed, a block of one row at most
//!    [`MAX_LABEL_BYTES`]: this limits what a damaged size can make us allocate;
//! 4. a block stores no more bytes than that; if it stores as many, it is not compressed;
//! 5. ends never descend and end with the text; each row is UTF-8;
//! 6. bytes said to be zero are, and packed chunks are as their module says.
//!
//! [`Texts::check`] tests all of it but the inside of compressed blocks, which is tested as it is read.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};

use crate::format::MAX_LABEL_BYTES;
use crate::format::bytes::{ByteReader, ByteWriter, Malformed};
use crate::format::describe::Spans;
use crate::kernels::{CHUNK_ROWS, Kernels};

mod find;
mod packed;

pub(crate) use find::Finder;
use packed::{Packed, Packing, Unpacker};

const KIND_CHUNKS: u8 = 1;
const KIND_BLOCKS: u8 = 2;

const FORM_PLAIN_SHORT: u8 = 1;
const FORM_PLAIN_LONG: u8 = 2;
const FORM_PACKED: u8 = 3;

/// Mean length in bytes above which texts are compressed. Shorter ones would share a block with more than a hundred
/// others, all of which a reader of one has to decompress.
const COMPRESSED_ABOVE_BYTES: usize = 128;
/// Most bytes of a block of several rows, decompressed: reading one row costs about 15 µs at this size, and zstd gains
/// little from larger ones.
const MAX_BLOCK_BYTES: usize = 16 << 10;
/// Level of zstd: its default, beyond which encoding slows down faster than sections shrink.
const COMPRESSION_LEVEL: i32 = 3;

/// Appends the texts as a section, in blocks if `may_compress` and they are long, else in chunks.
///
/// Panics on what engines refuse at append: a text above [`MAX_LABEL_BYTES`] in a block, or 256 neighbours of
/// 4 GiB in all.
pub(crate) fn encode(values: &[&str], may_compress: bool, out: &mut Vec<u8>) {
    let total: usize = values.iter().map(|value| value.len()).sum();
    if may_compress && total > COMPRESSED_ABOVE_BYTES * values.len() {
        put_blocks(values, out);
    } else {
        put_chunks(values, out);
    }
}

fn put_head(kind: u8, parts: usize, out: &mut Vec<u8>) {
    out.put(&[kind, 0, 0, 0]);
    out.put_count(parts);
}

fn put_chunks(values: &[&str], out: &mut Vec<u8>) {
    put_head(KIND_CHUNKS, values.len().div_ceil(CHUNK_ROWS), out);
    let mut data = Vec::new();
    out.put_u64(0);
    for chunk in values.chunks(CHUNK_ROWS) {
        match Packing::of(chunk) {
            Some(packing) => {
                data.put_u8(FORM_PACKED);
                packing.put(&mut data);
            }
            None => put_plain(chunk, &mut data),
        }
        out.put_u64(data.len() as u64);
    }
    out.put(&data);
}

fn put_plain(values: &[&str], out: &mut Vec<u8>) {
    let total: usize = values.iter().map(|value| value.len()).sum();
    if u16::try_from(total).is_ok() {
        out.put(&[FORM_PLAIN_SHORT, 0, 0, 0]);
        put_short_ends(values, out);
    } else {
        out.put(&[FORM_PLAIN_LONG, 0, 0, 0]);
        let mut end = 0;
        for value in values {
            end += value.len();
            out.put_u32(u32::try_from(end).expect("256 texts are limited below 4 GiB"));
        }
    }
    put_texts(values, out);
}

fn put_short_ends(values: &[&str], out: &mut Vec<u8>) {
    let mut end = 0;
    for value in values {
        end += value.len();
        out.put_u16(u16::try_from(end).expect("callers choose short ends for texts below 64 KiB"));
    }
}

fn put_texts(values: &[&str], out: &mut Vec<u8>) {
    for value in values {
        out.put(value.as_bytes());
    }
}

fn put_blocks(values: &[&str], out: &mut Vec<u8>) {
    // Without a compressor (no memory for one), blocks are stored as they are.
    let mut compressor = Compressor::new(COMPRESSION_LEVEL).ok();
    let (mut offsets, mut first_rows, mut sizes, mut data) = (vec![], vec![], vec![], vec![]);
    let mut decoded = Vec::with_capacity(MAX_BLOCK_BYTES);
    let mut rest = values;
    while !rest.is_empty() {
        first_rows.put_count(values.len() - rest.len());
        let (block, after) = rest.split_at(rows_of_next_block(rest));
        rest = after;

        decoded.clear();
        if block.len() > 1 {
            put_short_ends(block, &mut decoded);
        }
        put_texts(block, &mut decoded);
        assert!(decoded.len() <= MAX_LABEL_BYTES, "labels are limited to 16 MiB when they are appended");

        let compressed = compressor.as_mut().and_then(|compressor| compressor.compress(&decoded).ok());
        offsets.put_u64(data.len() as u64);
        sizes.put_count(decoded.len());
        data.put(compressed.as_deref().filter(|fewer| fewer.len() < decoded.len()).unwrap_or(&decoded));
    }
    put_head(KIND_BLOCKS, first_rows.len() / 4, out);
    offsets.put_u64(data.len() as u64);
    for array in [offsets, first_rows, sizes, data] {
        out.put(&array);
    }
}

/// As many rows as fill a block; at least one.
fn rows_of_next_block(values: &[&str]) -> usize {
    let mut bytes = 0;
    let fitting = values.iter().take_while(|value| {
        bytes += 2 + value.len();
        bytes <= MAX_BLOCK_BYTES
    });
    fitting.count().max(1)
}

/// The texts of a section that passed [`Texts::check`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a> {
    rows: usize,
    offsets: &'a [[u8; 8]],
    /// `None`: the parts are chunks.
    blocks: Option<Blocks<'a>>,
    data: &'a [u8],
    /// Where in the section the data begins, for errors.
    data_at: usize,
}

/// What blocks have that chunks lack: first rows and sizes of their own.
#[derive(Debug, Clone, Copy)]
struct Blocks<'a> {
    first_rows: &'a [[u8; 4]],
    sizes: &'a [[u8; 4]],
}

/// Where a row's text is.
enum Place<'a> {
    Plain(&'a [u8]),
    Packed(Packed<'a>, usize),
    Compressed(Block<'a>, usize),
}

impl<'a> Texts<'a> {
    /// Tests the section of `rows` rows, once, before its first use; O(bytes).
    pub(crate) fn check(bytes: &[u8], rows: usize) -> Result<(), Malformed> {
        let texts = Texts::split(bytes, rows)?;
        if texts.offset(0) != Some(0) || texts.offset(texts.parts()) != Some(texts.data.len()) {
            return Err(Malformed::new(8, "offsets of texts contradict the data"));
        }
        match texts.blocks {
            None => texts.check_chunks(),
            Some(blocks) => texts.check_blocks(blocks),
        }
    }

    /// The texts of a section that passed [`check`](Self::check) with the same `rows`; O(1).
    pub(crate) fn new(bytes: &'a [u8], rows: usize) -> Self {
        let none = Self { rows: 0, offsets: &[], blocks: None, data: &[], data_at: 0 };
        Self::split(bytes, rows).unwrap_or(none)
    }

    fn split(bytes: &'a [u8], rows: usize) -> Result<Self, Malformed> {
        let mut reader = ByteReader::new(bytes);
        let kind = reader.u8("kind of texts")?;
        if reader.take(3, "kind of texts")? != [0; 3] {
            return Err(Malformed::new(1, "reserved bytes of texts are not zero"));
        }
        let parts = reader.count(8, "parts of texts")?;
        let offsets = reader.take(8 * (parts + 1), "offsets of texts")?.as_chunks().0;
        let blocks = match kind {
            KIND_CHUNKS => None,
            KIND_BLOCKS => Some(Blocks {
                first_rows: reader.take(4 * parts, "first rows of blocks")?.as_chunks().0,
                sizes: reader.take(4 * parts, "sizes of blocks")?.as_chunks().0,
            }),
            other => return Err(Malformed::new(0, format!("kind of texts is {other}, neither 1 nor 2"))),
        };
        let data_at = reader.position();
        let data = reader.take(reader.remaining(), "texts")?;
        Ok(Self { rows, offsets, blocks, data, data_at })
    }

    /// Describes such a section, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'a, '_>, rows: usize) -> Option<()> {
        let start = spans.position();
        let texts = match Self::split(spans.rest(), rows) {
            Ok(texts) => texts,
            Err(malformed) => {
                spans.give_up(malformed.what);
                return None;
            }
        };
        spans.tag("form of the section", |kind| match kind {
            KIND_CHUNKS => Some("chunks"),
            KIND_BLOCKS => Some("blocks"),
            _ => None,
        })?;
        spans.zeros(3)?;
        spans.u32("parts")?;
        spans.array("where each part begins", texts.offsets.len(), "u64", 8)?;
        if let Some(Blocks { first_rows, sizes }) = texts.blocks {
            spans.array("first row of each block", first_rows.len(), "u32", 4)?;
            spans.array("bytes of each block once decompressed", sizes.len(), "u32", 4)?;
        }
        for number in 0..texts.parts() {
            let at = (spans.position() - start).checked_sub(texts.data_at);
            let Some(part) = texts.part(number).filter(|_| texts.offset(number) == at) else {
                spans.give_up(format!("part {number} does not begin here"));
                return None;
            };
            match texts.blocks {
                None => spans.part(format_args!("chunk {number}"), part.len(), |spans| {
                    Chunk::describe(spans, texts.rows_of_chunk(number))
                })?,
                Some(blocks) => spans.part(format_args!("block {number}"), part.len(), |spans| {
                    texts.block(blocks, number)?.describe(spans)
                })?,
            }
        }
        Some(())
    }

    /// How the texts are encoded.
    pub(super) fn encoding(&self) -> String {
        let Some(blocks) = self.blocks else {
            let is_packed = |number: &usize| matches!(self.chunk(*number), Some(Chunk::Packed(_)));
            let packed = (0..self.parts()).filter(is_packed).count();
            return format!("texts: chunks, {packed} packed and {} plain", self.parts() - packed);
        };
        let is_compressed = |number: &usize| self.block(blocks, *number).is_some_and(|b| b.is_compressed());
        let compressed = (0..self.parts()).filter(is_compressed).count();
        format!("texts: blocks, {compressed} compressed and {} as they are", self.parts() - compressed)
    }

    /// Bytes of the texts of all rows: without decompressing one.
    pub(super) fn text_bytes(&self) -> u64 {
        let of_part = |number: usize| match self.blocks {
            Some(blocks) => {
                let block = self.block(blocks, number)?;
                let ends_bytes = if block.rows == 1 { 0 } else { 2 * block.rows };
                block.size.checked_sub(ends_bytes)
            }
            None => Some(match self.chunk(number)? {
                Chunk::Plain(plain) => plain.text.len(),
                Chunk::Packed(packed) => packed.template.len() * self.rows_of_chunk(number),
            }),
        };
        (0..self.parts()).filter_map(of_part).map(|bytes| bytes as u64).sum()
    }

    fn check_chunks(&self) -> Result<(), Malformed> {
        if self.parts() != self.rows.div_ceil(CHUNK_ROWS) {
            let what = format!("{} chunks of texts do not fit {} rows", self.parts(), self.rows);
            return Err(Malformed::new(4, what));
        }
        for number in 0..self.parts() {
            let rows = self.rows_of_chunk(number);
            let sound = match self.part(number).and_then(|bytes| Chunk::view(bytes, rows)) {
                Some(Chunk::Plain(plain)) => plain.is_sound(),
                Some(Chunk::Packed(packed)) => packed.is_sound(rows),
                None => false,
            };
            if !sound {
                return Err(self.malformed(number, "a chunk of texts contradicts itself"));
            }
        }
        Ok(())
    }

    fn check_blocks(&self, blocks: Blocks<'_>) -> Result<(), Malformed> {
        let first_rows = || blocks.first_rows.iter().map(|row| usize_from(*row));
        let begins_right = first_rows().next() == (self.rows > 0).then_some(0);
        let ends_right = first_rows().next_back().is_none_or(|row| row < self.rows);
        if !begins_right || !ends_right || !first_rows().is_sorted_by(|a, b| a < b) {
            return Err(Malformed::new(8 + 8 * self.offsets.len(), "first rows of blocks do not ascend"));
        }
        for number in 0..self.parts() {
            let block = self.block(blocks, number).filter(|block| block.stored.len() <= block.size);
            let block = block.ok_or_else(|| self.malformed(number, "size of a block is out of range"))?;
            if !block.is_compressed() && !block.is_sound() {
                return Err(self.malformed(number, "a block of texts contradicts itself"));
            }
        }
        Ok(())
    }

    /// The text at `row`; borrowed where it stands plainly in the section. A compressed one costs the decompression of
    /// its block: use a [`reader`](Self::reader) for more than one.
    ///
    /// Fails for a row outside the section and for a compressed block that is damaged, no other way.
    pub(crate) fn get(&self, row: usize) -> Result<Cow<'a, str>, Malformed> {
        let damaged = || self.damaged(row);
        match self.locate(row).ok_or_else(damaged)? {
            Place::Plain(text) => std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| damaged()),
            Place::Packed(packed, index) => {
                let mut text = packed.template.to_vec();
                packed.unpack(index, &mut text);
                String::from_utf8(text).map(Cow::Owned).map_err(|_| damaged())
            }
            Place::Compressed(block, index) => {
                let mut decoded = Vec::new();
                block.decompress(&mut Decompressor::default(), &mut decoded).ok_or_else(damaged)?;
                if block.rows > 1 {
                    decoded = block.text(&decoded, index).ok_or_else(damaged)?.to_vec();
                }
                String::from_utf8(decoded).map(Cow::Owned).map_err(|_| damaged())
            }
        }
    }

    /// Whether the text at `row` is `text`; allocates nothing unless the row is compressed. Fails as
    /// [`get`](Self::get) does.
    pub(crate) fn equals(&self, row: usize, text: &str) -> Result<bool, Malformed> {
        match self.locate(row).ok_or_else(|| self.damaged(row))? {
            Place::Plain(stored) => Ok(stored == text.as_bytes()),
            Place::Packed(packed, index) => Ok(packed.equals(index, text.as_bytes())),
            Place::Compressed(..) => self.get(row).map(|stored| stored == text),
        }
    }

    /// How the text at `row` compares with `text`; allocates nothing unless the row is compressed. Fails as
    /// [`get`](Self::get) does.
    pub(crate) fn compare(&self, row: usize, text: &str) -> Result<Ordering, Malformed> {
        match self.locate(row).ok_or_else(|| self.damaged(row))? {
            Place::Plain(stored) => Ok(stored.cmp(text.as_bytes())),
            Place::Packed(packed, index) => Ok(packed.compare(index, text.as_bytes())),
            Place::Compressed(..) => self.get(row).map(|stored| (*stored).cmp(text)),
        }
    }

    /// The rows of a chunk, made ready to be compared one after the other.
    pub(crate) fn neighbours(&self, chunk: usize) -> Neighbours<'a> {
        let chunk = self.blocks.is_none().then(|| self.chunk(chunk)).flatten();
        Neighbours { texts: *self, chunk }
    }

    /// Looks for rows that have one of some texts.
    pub(crate) fn finder<'w>(&self, wanted: &'w [String], kernels: &'static Kernels) -> Finder<'a, 'w> {
        Finder::new(*self, wanted, kernels)
    }

    /// Reads many rows, best in order: without a `String` for each, and decompressing neighbours once.
    pub(crate) fn reader(&self) -> TextReader<'a> {
        TextReader {
            texts: *self,
            rows: 0..0,
            part: Part::Whole(&[]),
            buffer: Vec::new(),
            decompressor: None,
        }
    }

    fn locate(&self, row: usize) -> Option<Place<'a>> {
        if row >= self.rows {
            return None;
        }
        let Some(blocks) = self.blocks else {
            return self.chunk(row / CHUNK_ROWS)?.place(row % CHUNK_ROWS);
        };
        let block = self.block_of(blocks, row)?;
        let index = row.checked_sub(block.first_row)?;
        if block.is_compressed() {
            Some(Place::Compressed(block, index))
        } else {
            block.text(block.stored, index).map(Place::Plain)
        }
    }

    fn chunk(&self, number: usize) -> Option<Chunk<'a>> {
        Chunk::view(self.part(number)?, self.rows_of_chunk(number))
    }

    fn parts(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn offset(&self, number: usize) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(*self.offsets.get(number)?)).ok()
    }

    fn part(&self, number: usize) -> Option<&'a [u8]> {
        self.data.get(self.offset(number)?..self.offset(number + 1)?)
    }

    fn rows_of_chunk(&self, number: usize) -> usize {
        self.rows.saturating_sub(number * CHUNK_ROWS).min(CHUNK_ROWS)
    }

    /// The block that has `row`.
    fn block_of(&self, blocks: Blocks<'a>, row: usize) -> Option<Block<'a>> {
        let number = blocks.first_rows.partition_point(|first| usize_from(*first) <= row).checked_sub(1)?;
        self.block(blocks, number)
    }

    /// `None` also for a size that must not be allocated.
    fn block(&self, blocks: Blocks<'a>, number: usize) -> Option<Block<'a>> {
        let first_row = usize_from(*blocks.first_rows.get(number)?);
        let next_row = blocks.first_rows.get(number + 1).map_or(self.rows, |row| usize_from(*row));
        let rows = next_row.checked_sub(first_row)?;
        let size = usize_from(*blocks.sizes.get(number)?);
        let max_size = if rows == 1 { MAX_LABEL_BYTES } else { MAX_BLOCK_BYTES };
        (size <= max_size).then_some(Block { first_row, rows, size, stored: self.part(number)? })
    }

    fn malformed(&self, part: usize, what: &str) -> Malformed {
        Malformed::new(self.data_at.saturating_add(self.offset(part).unwrap_or_default()), what)
    }

    /// The error of a row that could not be read.
    fn damaged(&self, row: usize) -> Malformed {
        Malformed::new(self.data_at, format!("text of row {row} of {} cannot be read", self.rows))
    }
}

fn usize_from(bytes: [u8; 4]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

/// Reads rows of a section one after another. What it found out about the chunk or block of a row, it keeps for those
/// that follow: rows in order cost a few nanoseconds besides their characters. Holds at most one decompressed block.
pub(crate) struct TextReader<'a> {
    texts: Texts<'a>,
    /// The rows of the part that is held.
    rows: Range<usize>,
    part: Part<'a>,
    /// The decompressed block that is held, or the last packed text that was asked for: a section never has both.
    buffer: Vec<u8>,
    decompressor: Option<Decompressor<'static>>,
}

/// A chunk or block that a reader holds.
enum Part<'a> {
    /// A chunk, or a block that is not compressed.
    Plain(Plain<'a>),
    Packed(Unpacker<'a>),
    /// A block of one row that is not compressed.
    Whole(&'a [u8]),
    /// The block that the buffer has.
    Decompressed(Block<'a>),
}

impl<'a> TextReader<'a> {
    /// The text at `row`. Fails as [`Texts::get`] does.
    pub(crate) fn get(&mut self, row: usize) -> Result<&str, Malformed> {
        let texts = self.texts;
        let text = self.bytes(row).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.ok_or_else(|| texts.damaged(row))
    }

    /// Appends the text at `row`, without an allocation of its own. Fails as [`Texts::get`] does, and has then appended
    /// nothing.
    ///
    /// What it appends is UTF-8, but of plain chunks only because [`Texts::check`] found it so: who puts several texts
    /// together tests all of them at once.
    #[inline]
    pub(crate) fn append_to(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let appended = self.hold(row).and_then(|index| match &self.part {
            Part::Plain(plain) => plain.text(index).map(|text| out.put(text)),
            Part::Packed(packed) => {
                packed.append_to(index, out);
                Some(())
            }
            Part::Whole(text) => {
                out.put(text);
                Some(())
            }
            Part::Decompressed(block) => {
                let text = std::str::from_utf8(block.text(&self.buffer, index)?).ok()?;
                out.put(text.as_bytes());
                Some(())
            }
        });
        appended.ok_or_else(|| self.texts.damaged(row))
    }

    /// The text at `row` where it stands plainly in the section, to be read without a copy; `None` for any other.
    pub(crate) fn plain(&mut self, row: usize) -> Option<&'a str> {
        let index = self.hold(row)?;
        let text = match &self.part {
            Part::Plain(plain) => plain.text(index)?,
            Part::Whole(text) => text,
            Part::Packed(_) | Part::Decompressed(_) => return None,
        };
        std::str::from_utf8(text).ok()
    }

    fn bytes(&mut self, row: usize) -> Option<&[u8]> {
        let index = self.hold(row)?;
        match &self.part {
            Part::Plain(plain) => plain.text(index),
            Part::Packed(packed) => {
                self.buffer.clear();
                packed.append_to(index, &mut self.buffer);
                Some(&self.buffer)
            }
            Part::Whole(text) => Some(text),
            Part::Decompressed(block) => block.text(&self.buffer, index),
        }
    }

    /// Makes the part of `row` the one that is held; where in it the row is.
    #[inline]
    fn hold(&mut self, row: usize) -> Option<usize> {
        if !self.rows.contains(&row) {
            // Until all of it is read, nothing is held.
            self.rows = 0..0;
            self.rows = self.read_part(row)?;
        }
        row.checked_sub(self.rows.start)
    }

    /// Reads the part of `row`; the rows that it has.
    fn read_part(&mut self, row: usize) -> Option<Range<usize>> {
        if row >= self.texts.rows {
            return None;
        }
        let Some(blocks) = self.texts.blocks else {
            let number = row / CHUNK_ROWS;
            let (first_row, rows) = (number * CHUNK_ROWS, self.texts.rows_of_chunk(number));
            let chunk = self.texts.part(number)?;
            if let Some(packed) = chunk.strip_prefix(&[FORM_PACKED]) {
                match &mut self.part {
                    Part::Packed(unpacker) => unpacker.turn_to(packed)?,
                    part => *part = Part::Packed(Unpacker::new(Packed::view(packed)?, Kernels::best())),
                }
            } else {
                self.part = Part::Plain(Chunk::plain(chunk, rows)?);
            }
            return Some(first_row..first_row + rows);
        };
        let block = self.texts.block_of(blocks, row)?;
        if block.is_compressed() {
            let decompressor = self.decompressor.get_or_insert_default();
            block.decompress(decompressor, &mut self.buffer)?;
            self.part = Part::Decompressed(block);
        } else if block.rows == 1 {
            self.part = Part::Whole(block.stored);
        } else {
            self.part = Part::Plain(Plain::view(block.stored, block.rows, true)?);
        }
        Some(block.first_row..block.first_row + block.rows)
    }
}

/// A chunk, in its form.
enum Chunk<'a> {
    Plain(Plain<'a>),
    Packed(Packed<'a>),
}

impl<'a> Chunk<'a> {
    /// Cuts a chunk of `rows` rows into its parts; O(1).
    #[inline]
    fn view(bytes: &'a [u8], rows: usize) -> Option<Self> {
        match bytes.strip_prefix(&[FORM_PACKED]) {
            Some(packed) => Packed::view(packed).map(Chunk::Packed),
            None => Self::plain(bytes, rows).map(Chunk::Plain),
        }
    }

    /// As [`view`](Self::view), for a plain chunk only.
    #[inline]
    fn plain(bytes: &'a [u8], rows: usize) -> Option<Plain<'a>> {
        match bytes.split_first_chunk()? {
            (&[FORM_PLAIN_SHORT, 0, 0, 0], rest) => Plain::view(rest, rows, true),
            (&[FORM_PLAIN_LONG, 0, 0, 0], rest) => Plain::view(rest, rows, false),
            _ => None,
        }
    }

    /// Describes a chunk, or what should be one.
    fn describe(spans: &mut Spans<'_, '_>, rows: usize) -> Option<()> {
        let form = spans.tag("form", |form| match form {
            FORM_PLAIN_SHORT => Some("plain, ends of 2 bytes"),
            FORM_PLAIN_LONG => Some("plain, ends of 4 bytes"),
            FORM_PACKED => Some("packed"),
            _ => None,
        })?;
        if form == FORM_PACKED {
            return Packed::describe(spans, rows);
        }
        spans.zeros(3)?;
        Plain::describe(spans, rows, form == FORM_PLAIN_SHORT)
    }

    fn place(&self, index: usize) -> Option<Place<'a>> {
        match self {
            Chunk::Plain(plain) => plain.text(index).map(Place::Plain),
            Chunk::Packed(packed) => Some(Place::Packed(*packed, index)),
        }
    }
}

/// The texts of a chunk's rows; where texts are in blocks, of any.
pub(crate) struct Neighbours<'a> {
    texts: Texts<'a>,
    chunk: Option<Chunk<'a>>,
}

impl Neighbours<'_> {
    /// As [`Texts::compare`], for a row of the chunk.
    pub(crate) fn compare(&self, row: usize, text: &str) -> Result<Ordering, Malformed> {
        match &self.chunk {
            Some(Chunk::Packed(packed)) => Ok(packed.compare(row % CHUNK_ROWS, text.as_bytes())),
            Some(Chunk::Plain(_)) | None => self.texts.compare(row, text),
        }
    }
}

/// Texts one after another, and where each ends.
struct Plain<'a> {
    ends: Ends<'a>,
    text: &'a [u8],
}

enum Ends<'a> {
    Short(&'a [[u8; 2]]),
    Long(&'a [[u8; 4]]),
}

impl Ends<'_> {
    fn get(&self, index: usize) -> Option<usize> {
        match self {
            Self::Short(ends) => ends.get(index).map(|end| usize::from(u16::from_le_bytes(*end))),
            Self::Long(ends) => ends.get(index).map(|end| usize_from(*end)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Short(ends) => ends.len(),
            Self::Long(ends) => ends.len(),
        }
    }
}

impl<'a> Plain<'a> {
    fn view(bytes: &'a [u8], rows: usize, short: bool) -> Option<Self> {
        let (ends, text) = bytes.split_at_checked(rows.checked_mul(if short { 2 } else { 4 })?)?;
        let ends = if short { Ends::Short(ends.as_chunks().0) } else { Ends::Long(ends.as_chunks().0) };
        Some(Self { ends, text })
    }

    /// Describes ends and text, or what should be them.
    fn describe(spans: &mut Spans<'_, '_>, rows: usize, short: bool) -> Option<()> {
        let (of, bytes_each) = if short { ("u16", 2) } else { ("u32", 4) };
        spans.array("where each text ends", rows, of, bytes_each)?;
        let text_bytes = spans.rest().len();
        spans.text("texts", text_bytes)
    }

    fn text(&self, index: usize) -> Option<&'a [u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before))?;
        self.text.get(start..self.ends.get(index)?)
    }

    fn is_sound(&self) -> bool {
        let rows = self.ends.len();
        let is_utf8 = |index| self.text(index).is_some_and(|text| std::str::from_utf8(text).is_ok());
        rows.checked_sub(1).and_then(|last| self.ends.get(last)) == Some(self.text.len())
            && (0..rows).all(is_utf8)
    }
}

/// Consecutive rows that are compressed together.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    first_row: usize,
    rows: usize,
    /// Bytes once decompressed.
    size: usize,
    stored: &'a [u8],
}

impl Block<'_> {
    fn is_compressed(&self) -> bool {
        self.stored.len() != self.size
    }

    /// Describes the block as it is stored.
    fn describe(&self, spans: &mut Spans<'_, '_>) -> Option<()> {
        if self.stored.is_empty() {
            if self.rows != 1 || self.size > 0 {
                spans.blame("a block lacks its bytes");
            }
            return Some(());
        }
        if self.is_compressed() {
            spans.bytes("zstd frame", self.stored.len())?;
            let last_row = (self.first_row + self.rows).saturating_sub(1);
            spans.note(format_args!(
                "rows {} to {last_row}, {} bytes once decompressed",
                self.first_row, self.size
            ));
            return Some(());
        }
        match self.rows {
            1 => spans.text("text", self.stored.len()),
            rows => Plain::describe(spans, rows, true),
        }
    }

    /// Whether a block that is not compressed is valid; O(bytes).
    fn is_sound(&self) -> bool {
        match self.rows {
            1 => std::str::from_utf8(self.stored).is_ok(),
            rows => Plain::view(self.stored, rows, true).is_some_and(|plain| plain.is_sound()),
        }
    }

    /// Replaces what `decoded` holds by the block's bytes; `None` if they are not as many as the block says. Allocates
    /// for these, whatever the compressed bytes say.
    fn decompress(&self, decompressor: &mut Decompressor<'_>, decoded: &mut Vec<u8>) -> Option<()> {
        decoded.clear();
        decoded.resize(self.size, 0);
        let written = decompressor.decompress_to_buffer(self.stored, decoded.as_mut_slice()).ok()?;
        (written == self.size).then_some(())
    }

    fn text<'b>(&self, decoded: &'b [u8], index: usize) -> Option<&'b [u8]> {
        if self.rows == 1 {
            return (index == 0).then_some(decoded);
        }
        Plain::view(decoded, self.rows, true)?.text(index)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "random digits are cut, rows are few")]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::packed::MAX_PACKED_BYTES;
    use super::*;

    const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const HEX: &[u8; 16] = b"0123456789abcdef";

    fn encoded(values: &[impl AsRef<str>], may_compress: bool) -> Vec<u8> {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let mut out = Vec::new();
        encode(&values, may_compress, &mut out);
        out
    }

    fn checked(bytes: &[u8], rows: usize) -> Texts<'_> {
        Texts::check(bytes, rows).unwrap();
        Texts::new(bytes, rows)
    }

    /// Every accessor gives the values back, in and out of order.
    fn assert_reads(bytes: &[u8], values: &[impl AsRef<str>]) {
        let texts = checked(bytes, values.len());
        assert_eq!(texts.rows, values.len());
        let mut reader = texts.reader();
        let mut copier = texts.reader();
        let mut appended = Vec::new();
        for (row, value) in values.iter().enumerate() {
            let value = value.as_ref();
            assert_eq!(texts.get(row).unwrap(), value);
            assert_eq!(reader.get(row).unwrap(), value);
            let before = appended.len();
            copier.append_to(row, &mut appended).unwrap();
            assert_eq!(&appended[before..], value.as_bytes());
            assert!(reader.plain(row).is_none_or(|plain| plain == value));
            assert!(texts.equals(row, value).unwrap());
            for other in [format!("{value}x"), value.to_uppercase(), value.replacen('0', "1", 1)] {
                assert_eq!(texts.equals(row, &other).unwrap(), other == value);
            }
        }
        for row in (0..values.len()).rev() {
            assert_eq!(reader.get(row).unwrap(), values[row].as_ref());
            assert_eq!(reader.plain(row).is_some(), matches!(texts.locate(row), Some(Place::Plain(_))));
            appended.clear();
            copier.append_to(row, &mut appended).unwrap();
            assert_eq!(appended, values[row].as_ref().as_bytes());
        }
        let past = values.len();
        assert!(texts.get(past).is_err() && reader.get(past).is_err() && reader.plain(past).is_none());
        assert!(copier.append_to(past, &mut appended).is_err());
    }

    fn assert_roundtrip(values: &[impl AsRef<str>]) {
        for may_compress in [false, true] {
            assert_reads(&encoded(values, may_compress), values);
        }
    }

    /// The forms of the chunks; empty for a section of blocks.
    fn forms(bytes: &[u8], rows: usize) -> Vec<u8> {
        let texts = checked(bytes, rows);
        let chunks = if texts.blocks.is_some() { 0 } else { texts.parts() };
        (0..chunks).map(|number| texts.part(number).unwrap()[0]).collect()
    }

    /// A splitmix64 stream: the n-th of many well mixed numbers.
    fn random(n: u64) -> u64 {
        let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn digits(value: u64, bits: u32, count: u32, alphabet: &[u8]) -> String {
        let digit = |place| (value >> (bits * place)) as usize % alphabet.len();
        (0..count).rev().map(|place| char::from(alphabet[digit(place)])).collect()
    }

    /// Ids as of a ULID generator: milliseconds, a row number, 40 random bits.
    fn time_ordered_ids(rows: u64) -> Vec<String> {
        let id = |row| {
            let time = digits(1_700_000_000_000 + row, 5, 10, CROCKFORD);
            time + &digits(row, 5, 8, CROCKFORD) + &digits(random(row), 5, 8, CROCKFORD)
        };
        (0..rows).map(id).collect()
    }

    fn random_hex(rows: u64) -> Vec<String> {
        (0..rows).map(|row| digits(random(row), 4, 16, HEX)).collect()
    }

    fn sentences(rows: u64) -> Vec<String> {
        let words = ["the", "engine", "writes", "rows", "größer", "and", "reads", "columns", "日本語"];
        let word = |row, n| words[(random(row * 1000 + n) % 9) as usize];
        (0..rows).map(|row| (0..20 + row % 60).map(|n| word(row, n)).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn ids_and_hex_are_packed_to_a_third() {
        for (values, most_bytes_each) in [(time_ordered_ids(5000), 7.9), (random_hex(5000), 8.3)] {
            let bytes = encoded(&values, true);
            assert_reads(&bytes, &values);
            assert!(forms(&bytes, values.len()).iter().all(|form| *form == FORM_PACKED));
            let bytes_each = bytes.len() as f64 / values.len() as f64;
            assert!(bytes_each < most_bytes_each, "{bytes_each} bytes each");
        }
    }

    #[test]
    fn the_data_choose_the_form_of_each_chunk() {
        let mut values = vec![String::new(); 256];
        values.extend(vec!["constant".to_owned(); 256]);
        values.extend(random_hex(256));
        // Unequal lengths, characters beyond ASCII, a byte too long, too many characters: plain.
        values.extend((0..256).map(|row| row.to_string()));
        values.extend((0..256).map(|row| if row == 255 { "é".to_owned() } else { "ab".to_owned() }));
        values.extend(vec!["x".repeat(MAX_PACKED_BYTES); 256]);
        values.extend(vec!["x".repeat(MAX_PACKED_BYTES + 1); 256]);
        values.extend((0..64).map(|n| char::from(b'0' + n).to_string().repeat(4)).cycle().take(256));
        values.extend((0..65).map(|n| char::from(b'0' + n).to_string().repeat(4)).cycle().take(256));
        values.push("last".to_owned());
        let bytes = encoded(&values, false);
        assert_reads(&bytes, &values);
        let (packed, short, long) = (FORM_PACKED, FORM_PLAIN_SHORT, FORM_PLAIN_LONG);
        let chosen = [packed, packed, packed, short, short, packed, long, packed, short, packed];
        assert_eq!(forms(&bytes, values.len()), chosen);
    }

    #[test]
    fn every_alphabet_size_is_packed() {
        for characters in 1..=64u8 {
            let value = |row: u64| -> String {
                (0..7u64)
                    .map(|place| char::from(b'0' + (random(row * 7 + place) % u64::from(characters)) as u8))
                    .collect()
            };
            let values: Vec<String> = (0..300).map(value).collect();
            let bytes = encoded(&values, false);
            assert!(forms(&bytes, 300).iter().all(|form| *form == FORM_PACKED));
            assert_reads(&bytes, &values);
        }
    }

    #[test]
    fn long_texts_are_compressed_in_capped_blocks_if_allowed() {
        let values = sentences(2000);
        let (plain, compressed) = (encoded(&values, false), encoded(&values, true));
        assert_reads(&plain, &values);
        assert_reads(&compressed, &values);
        assert!(compressed.len() * 2 < plain.len(), "{} of {} bytes", compressed.len(), plain.len());
        let texts = checked(&compressed, values.len());
        let blocks = texts.blocks.unwrap();
        for number in 0..texts.parts() {
            let block = texts.block(blocks, number).unwrap();
            assert!(block.size <= MAX_BLOCK_BYTES && block.stored.len() < block.size);
        }
    }

    #[test]
    fn a_text_beyond_a_block_has_its_own_and_noise_stays_as_it_is() {
        let noise: String =
            (0..40_000).map(|n| char::from_u32(0x4E00 + (random(n) % 20_000) as u32).unwrap()).collect();
        let mut values = vec!["short".to_owned(), "a".repeat(3 << 20), String::new(), noise];
        values.extend(vec![String::new(); 9000]);
        let bytes = encoded(&values, true);
        assert_reads(&bytes, &values);
        let texts = checked(&bytes, values.len());
        let blocks = texts.blocks.unwrap();
        let rows: Vec<usize> = (0..texts.parts()).map(|n| texts.block(blocks, n).unwrap().rows).collect();
        assert_eq!(rows, [1, 1, 1, 1, 8192, 808]);
    }

    #[test]
    fn few_rows_and_chunk_borders_are_read() {
        for rows in [0, 1, 2, 255, 256, 257, 512, 513] {
            assert_roundtrip(&time_ordered_ids(rows));
            assert_roundtrip(&sentences(rows));
            assert_roundtrip(&vec![""; rows as usize]);
        }
    }

    #[test]
    fn rows_that_do_not_fit_the_section_are_refused() {
        for values in [time_ordered_ids(600), sentences(600)] {
            let bytes = encoded(&values, true);
            for rows in [0, 1, 256] {
                assert!(Texts::check(&bytes, rows).is_err(), "{rows} rows");
            }
        }
        let chunks = Texts::check(&encoded(&time_ordered_ids(600), true), 256).unwrap_err();
        assert_eq!(chunks, Malformed { offset: 4, what: "3 chunks of texts do not fit 256 rows".into() });
    }

    /// A section of blocks, each given by its first row, its bytes as stored and what size it claims.
    fn blocks(blocks: &[(usize, &[u8], usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(KIND_BLOCKS, blocks.len(), &mut out);
        let mut end = 0;
        out.put_u64(0);
        for (_, stored, _) in blocks {
            end += stored.len() as u64;
            out.put_u64(end);
        }
        for (first_row, ..) in blocks {
            out.put_count(*first_row);
        }
        for (.., size) in blocks {
            out.put_count(*size);
        }
        for (_, stored, _) in blocks {
            out.put(stored);
        }
        out
    }

    fn compressed(text: &[u8]) -> Vec<u8> {
        Compressor::new(COMPRESSION_LEVEL).unwrap().compress(text).unwrap()
    }

    #[test]
    fn a_bomb_allocates_no_more_than_a_block_may_have() {
        let bomb = compressed(&vec![b'a'; 64 << 20]);
        for (rows, max_size) in [(2, MAX_BLOCK_BYTES), (1, MAX_LABEL_BYTES)] {
            let bytes = blocks(&[(0, &bomb, max_size + 1)]);
            assert!(Texts::check(&bytes, rows).unwrap_err().what.contains("out of range"));
            assert!(Texts::new(&bytes, rows).get(0).is_err());

            let bytes = blocks(&[(0, &bomb, max_size)]);
            let texts = checked(&bytes, rows);
            assert!(texts.get(0).unwrap_err().what.contains("text of row 0"));
            assert!(texts.equals(0, "").is_err());
            let mut reader = texts.reader();
            assert!(reader.get(0).is_err() && reader.get(0).is_err());
            assert!(reader.buffer.capacity() <= max_size);
        }
    }

    #[test]
    fn a_damaged_block_is_refused_and_leaves_its_neighbours() {
        let text = "intact ".repeat(100);
        let whole = compressed(text.as_bytes());
        let sizes = [text.len(), text.len() + 1, text.len() - 1, text.len()];
        let rows: Vec<_> = sizes.iter().enumerate().map(|(row, size)| (row, &whole[..], *size)).collect();
        let bytes = blocks(&rows);
        let texts = checked(&bytes, 4);
        let mut reader = texts.reader();
        for row in [0, 1, 0, 2, 0, 3, 1, 2, 3] {
            let expected = (sizes[row] == text.len()).then_some(text.as_str());
            assert_eq!(reader.get(row).ok(), expected, "row {row}");
            assert_eq!(texts.get(row).ok().as_deref(), expected, "row {row}");
        }
    }

    #[test]
    fn blocks_as_they_are_and_their_rows_are_checked() {
        // Two rows "é" and "ab", then one of three bytes.
        let (two, one) = (b"\x02\0\x04\0\xC3\xA9ab", b"abc");
        assert_reads(&blocks(&[(0, two, 8), (2, one, 3)]), &["é", "ab", "abc"]);
        for (bytes, what) in [
            (
                blocks(&[(0, b"\x01\0\x04\0\xC3\xA9ab", 8), (2, one, 3)]),
                "a block of texts contradicts itself",
            ),
            (
                blocks(&[(0, b"\x02\0\x03\0\xC3\xA9ab", 8), (2, one, 3)]),
                "a block of texts contradicts itself",
            ),
            (blocks(&[(0, two, 8), (2, b"a\xFFc", 3)]), "a block of texts contradicts itself"),
            (blocks(&[(0, two, 8), (2, one, 2)]), "size of a block is out of range"),
            (blocks(&[(1, two, 8), (2, one, 3)]), "first rows of blocks do not ascend"),
            (blocks(&[(0, two, 8), (0, one, 3)]), "first rows of blocks do not ascend"),
            (blocks(&[(0, two, 8), (3, one, 3)]), "first rows of blocks do not ascend"),
        ] {
            assert_eq!(Texts::check(&bytes, 3).unwrap_err().what, what);
        }
    }

    /// Uses every accessor on bytes that pass the check, whatever they say.
    fn read_if_sound(bytes: &[u8], rows: usize) -> bool {
        // A view of refused bytes must be harmless too.
        let texts = Texts::new(bytes, rows);
        let mut reader = texts.reader();
        let mut copier = texts.reader();
        let mut appended = Vec::new();
        let sound = Texts::check(bytes, rows).is_ok();
        for row in 0..rows {
            let text = texts.get(row).map(Cow::into_owned);
            let read = reader.get(row).map(str::to_owned);
            assert!(!sound || read == text, "{read:?} is not {text:?}");
            appended.clear();
            let was_appended = copier.append_to(row, &mut appended);
            assert!(!sound || was_appended == text.as_ref().map(|_| ()).map_err(Clone::clone));
            if let Ok(text) = &text {
                assert!(!sound || appended == text.as_bytes());
                assert!(texts.equals(row, text).unwrap());
            }
            let wanted = text.clone().into_iter().collect::<Vec<_>>();
            let mut only_this = [0; CHUNK_ROWS / 64];
            only_this[row % CHUNK_ROWS / 64] = 1 << (row % 64);
            let found = texts.finder(&wanted, Kernels::best()).find(row / CHUNK_ROWS, &only_this);
            assert!(!sound || text.is_err() || found == Ok(only_this));
            // Only compressed blocks may turn out damaged after the check.
            assert!(!sound || text.is_ok() || matches!(texts.locate(row), Some(Place::Compressed(..))));
        }
        sound
    }

    fn samples() -> Vec<Vec<String>> {
        let unequal = (0..40).map(|row| "ab9é".chars().cycle().take(row % 7).collect()).collect();
        let long = vec!["é".repeat(20_000), "b".repeat(20_000), String::new()];
        vec![time_ordered_ids(20), unequal, sentences(12), long]
    }

    #[test]
    fn no_cut_passes_the_check() {
        for values in samples() {
            let whole = encoded(&values, true);
            for length in (0..whole.len()).step_by(1 + whole.len() / 1000) {
                assert!(!read_if_sound(&whole[..length], values.len()), "cut to {length} bytes");
            }
            let longer = [&whole[..], &[0]].concat();
            assert!(Texts::check(&longer, values.len()).is_err());
        }
    }

    #[test]
    fn no_flip_panics() {
        for values in samples() {
            let mut bytes = encoded(&values, true);
            for place in 0..bytes.len() {
                let intact = bytes[place];
                for damage in [intact ^ 1, intact ^ 0x10, intact ^ 0x80, 0, 0xFF] {
                    bytes[place] = damage;
                    read_if_sound(&bytes, values.len());
                }
                bytes[place] = intact;
            }
        }
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop_oneof![
            vec(any::<String>(), 0..600),
            vec("[a-f0-9]{0,9}", 0..600),
            vec("[A-Z]{12}-[0-9]{3}", 0..600),
            vec(prop_oneof!["é{0,3000}", "[ab]{0,300}"], 0..40),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_texts_are_read_back(values in texts()) {
            assert_roundtrip(&values);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), rows in 0usize..600, kind in 1u8..=2) {
            read_if_sound(&bytes, rows);
            let head = [kind, 0, 0, 0, rows.div_ceil(CHUNK_ROWS) as u8, 0, 0, 0];
            read_if_sound(&[&head[..], &bytes].concat(), rows);
        }
    }
}
