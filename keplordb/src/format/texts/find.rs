//! Finding texts among those of a section, chunk by chunk: packed ones without unpacking any.
//!
//! ```text
//! of a wanted text and a packed chunk:
//!     its codes, where its fixed characters are those of the template and the others are in the alphabet     (1)
//!     window = as many of its last codes as 64 bits hold
//! of each row: load 8 bytes, shift, and compare with the window; if that is not all of the text, the row     (2)
//! ```
//!
//! 1. Else no row of the chunk has the text. Chunks after one another mostly have the same template and alphabet, and share
//!    their codes. A character that has several codes is left out of the window: any of them may stand in a row.
//! 2. The last codes, because ids that are made in order of time begin alike. Rows of 64 bits (16 hexadecimal digits) are
//!    compared by a kernel.

use super::packed::{Head, Packed};
use super::{Chunk, TextReader, Texts};
use crate::format::bytes::Malformed;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};

/// The rows of a section that have one of some texts.
pub(crate) struct Finder<'a, 'w> {
    texts: Texts<'a>,
    wanted: &'w [String],
    kernels: &'static Kernels,
    reader: TextReader<'a>,
    /// What the packed chunk that was looked at last begins with, and the windows of the texts that such chunks may have.
    packed: Option<(Head<'a>, Vec<Window<'w>>)>,
}

impl<'a, 'w> Finder<'a, 'w> {
    pub(super) fn new(texts: Texts<'a>, wanted: &'w [String], kernels: &'static Kernels) -> Self {
        Self { texts, wanted, kernels, reader: texts.reader(), packed: None }
    }

    /// Those of the rows of a chunk that have one of the texts; `rows` must be rows of the section. Fails as
    /// [`Texts::get`] does.
    pub(crate) fn find(&mut self, chunk: usize, rows: &Mask) -> Result<Mask, Malformed> {
        let row = |index| chunk * CHUNK_ROWS + index;
        match self.texts.blocks.is_none().then(|| self.texts.chunk(chunk)).flatten() {
            Some(Chunk::Packed(packed)) => Ok(self.find_packed(packed, rows)),
            Some(Chunk::Plain(plain)) => keep(rows, |index| {
                let text = plain.text(index).ok_or_else(|| self.texts.damaged(row(index)))?;
                Ok(self.wanted.iter().any(|wanted| wanted.as_bytes() == text))
            }),
            None => keep(rows, |index| {
                let text = self.reader.get(row(index))?;
                Ok(self.wanted.iter().any(|wanted| wanted == text))
            }),
        }
    }

    fn find_packed(&mut self, packed: Packed<'a>, rows: &Mask) -> Mask {
        let head = packed.head();
        let windows = match &self.packed {
            Some((known, windows)) if *known == head => windows,
            _ => {
                let windows = self.wanted.iter().filter_map(|text| Window::of(&packed, text.as_bytes()));
                &self.packed.insert((head, windows.collect())).1
            }
        };
        let mut found = Mask::default();
        for window in windows {
            for ((word, more), rows) in found.iter_mut().zip(window.rows(&packed, self.kernels)).zip(rows) {
                *word |= more & rows;
            }
        }
        found
    }
}

/// Those rows of a mask that `holds` keeps.
fn keep(rows: &Mask, mut holds: impl FnMut(usize) -> Result<bool, Malformed>) -> Result<Mask, Malformed> {
    let mut kept = Mask::default();
    for (number, (word, kept)) in rows.iter().zip(&mut kept).enumerate() {
        let mut left = *word;
        while left != 0 {
            let bit = left.trailing_zeros();
            *kept |= u64::from(holds(64 * number + bit as usize)?) << bit;
            left &= left - 1;
        }
    }
    Ok(kept)
}

/// The last codes of a text, as they lie in a row of packed chunks with one head.
struct Window<'w> {
    text: &'w [u8],
    /// Where in a row's codes it begins, in bits.
    at: usize,
    codes: u64,
    /// The bits that must be so.
    mask: u64,
    /// Whether a row that has these bits has the text.
    is_all: bool,
}

impl<'w> Window<'w> {
    /// `None` if no such chunk has the text.
    fn of(packed: &Packed<'_>, text: &'w [u8]) -> Option<Self> {
        let codes = packed.codes_of(text)?;
        let (bits, row_bits) = (packed.bits(), packed.row_bits());
        // Eight bytes hold 57 bits from any bit of the first one on, and 64 from the first.
        let width = if bits > 0 && row_bits.is_multiple_of(8) && 64 % bits == 0 { 64 } else { 57 };
        let fitting = codes.len().min(width / bits.max(1));
        let last = codes.get(codes.len() - fitting..)?;
        let code_mask = (1 << bits) - 1;
        let (codes_bits, mask) = last.iter().rfold((0, 0), |(codes, mask), code| match code {
            Some(code) => (codes << bits | u64::from(*code), mask << bits | code_mask),
            None => (codes << bits, mask << bits),
        });
        let is_all = fitting == codes.len() && last.iter().all(Option::is_some);
        Some(Self { text, at: row_bits - fitting * bits, codes: codes_bits, mask, is_all })
    }

    /// The rows of the chunk that have the text. Bits past the chunk's last row mean nothing.
    fn rows(&self, packed: &Packed<'_>, kernels: &Kernels) -> Mask {
        if self.is_all
            && self.mask == u64::MAX
            && packed.row_bits() == 64
            && let Some(rows) = packed.codes().first_chunk()
        {
            return (kernels.range_mask_u64)(rows, self.codes, self.codes);
        }
        let mut found = Mask::default();
        let (mut at, row_bits, codes) = (self.at, packed.row_bits(), packed.codes());
        for word in &mut found {
            for bit in 0..64 {
                let loaded = codes.get(at / 8..).and_then(|codes| codes.first_chunk());
                let row = loaded.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (at % 8);
                *word |= u64::from(row & self.mask == self.codes) << bit;
                at += row_bits;
            }
        }
        if self.is_all {
            return found;
        }
        let equals = |index| Ok(packed.equals(index, self.text));
        keep(&found, equals).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::format::texts::encode;

    /// Holds every kernel's finder to a comparison text by text, for the candidates that the pattern of bits says.
    fn assert_finds(values: &[String], wanted: &[String], pattern: Mask) {
        let neighbours: Vec<&str> = values.iter().map(String::as_str).collect();
        for may_compress in [false, true] {
            let mut bytes = Vec::new();
            encode(&neighbours, may_compress, &mut bytes);
            Texts::check(&bytes, values.len()).unwrap();
            let texts = Texts::new(&bytes, values.len());
            for kernels in Kernels::all_available() {
                let mut finder = texts.finder(wanted, kernels);
                for (chunk, values) in values.chunks(CHUNK_ROWS).enumerate() {
                    let (mut candidates, mut expected) = (Mask::default(), Mask::default());
                    for (row, value) in values.iter().enumerate() {
                        let bit = pattern[row / 64] & 1 << (row % 64);
                        candidates[row / 64] |= bit;
                        expected[row / 64] |= if wanted.contains(value) { bit } else { 0 };
                    }
                    let found = finder.find(chunk, &candidates).unwrap();
                    assert_eq!(found, expected, "{} in chunk {chunk}: {wanted:?}", kernels.name);
                }
            }
        }
    }

    /// Texts of one kind: packed in rows of 64 and of 128 bits, in rows that end within a byte, with an alphabet of which
    /// a character has several codes, with one character, not packed, and long enough for blocks.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        let rows = 1..3 * CHUNK_ROWS;
        prop_oneof![
            vec("[0-9a-f]{16}", rows.clone()),
            vec("trace-[0-9a-f]{32}", rows.clone()),
            vec("[0-9A-HJKMNP-TV-Z]{26}", rows.clone()),
            vec("order [0-9]{6} of shop [0-9]{2}", rows.clone()),
            vec("[ab]", rows.clone()),
            vec("[a-d]{0,3}", rows.clone()),
            vec("[xé]{0,9}", rows),
            vec("[a-c]{150}", 1..40),
            (0..600_usize).prop_map(|rows| vec!["one and the same".to_owned(); rows]),
        ]
    }

    proptest! {
        #[test]
        fn texts_are_found_where_they_stand(
            values in texts(),
            present in vec(any::<Index>(), 0..4),
            absent in "[0-9a-f]{16}",
            changed in (any::<Index>(), any::<Index>(), "[0-9a-zé]"),
            pattern in prop_oneof![Just([u64::MAX; 4]), any::<Mask>()],
        ) {
            let mut wanted = vec![absent, String::new()];
            if !values.is_empty() {
                wanted.extend(present.iter().map(|index| index.get(&values).clone()));
                // What differs in one character from a text that is there.
                let mut characters: Vec<char> = changed.0.get(&values).chars().collect();
                if !characters.is_empty() {
                    let place = changed.1.index(characters.len());
                    characters[place] = changed.2.chars().next().unwrap();
                    wanted.push(characters.into_iter().collect());
                }
            }
            assert_finds(&values, &wanted, pattern);
        }
    }

    #[test]
    fn neighbours_of_all_lengths_are_told_apart() {
        // Rows of 4 to 100 bits of codes, and texts that differ in their first, their last or no character.
        for length in 1..=25 {
            let text = |first: char, last: char| {
                let middle: String = "0123456789abcdef".chars().cycle().take(length).collect();
                format!("{first}{middle}{last}")
            };
            let values: Vec<String> = "abcdefg"
                .chars()
                .cycle()
                .zip("abcde".chars().cycle())
                .take(700)
                .map(|(first, last)| text(first, last))
                .collect();
            let wanted = [text('a', 'a'), text('g', 'e'), text('e', 'f'), text('h', 'a')];
            assert_finds(&values, &wanted, [u64::MAX; 4]);
        }
    }

    #[test]
    fn chunks_of_one_alphabet_and_other_templates_are_told_apart() {
        let row = |row: usize| format!("{}-{:02x}", ["eu", "us", "eu"][row / CHUNK_ROWS], row % CHUNK_ROWS);
        let values: Vec<String> = (0..3 * CHUNK_ROWS).map(row).collect();
        assert_finds(&values, &["us-7f".to_owned(), "eu-00".to_owned()], [u64::MAX; 4]);
    }

    #[test]
    fn a_character_of_several_codes_is_found_by_each_of_them() {
        // Ten characters take four bits, so codes 9 to 15 are all a nine.
        let rows: Vec<String> = (0..256).map(|row| format!("{:04}", row * 39)).collect();
        let mut bytes = Vec::new();
        encode(&rows.iter().map(String::as_str).collect::<Vec<_>>(), false, &mut bytes);
        let wanted = [rows[255].clone()];
        let last_row = bytes.len() - 8 - 2;
        assert_eq!((wanted[0].as_str(), bytes[last_row + 1]), ("9945", 0x54));
        for code in 9..=15 {
            bytes[last_row] = 0xF0 | code;
            Texts::check(&bytes, 256).unwrap();
            let texts = Texts::new(&bytes, 256);
            assert_eq!(texts.get(255).unwrap(), "9945");
            let found = texts.finder(&wanted, Kernels::best()).find(0, &[u64::MAX; 4]).unwrap();
            assert_eq!(found, [0, 0, 0, 1 << 63]);
        }
    }
}
