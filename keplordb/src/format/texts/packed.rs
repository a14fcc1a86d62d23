//! Texts of one length as a template and a few bits for each character that varies: ids, hashes, numbers.
//!
//! ```text
//! offset   bytes
//!      0       1  length of each row
//!      1       1  varying: how many places differ from row to row
//!      2       1  bits of a code, 0 to 6; 0 if and only if no place varies
//!      3  length  template: the character of each place, 0x80 where it varies
//!      …  2^bits  alphabet: the character of each code (none if bits is 0)
//!      …       …  codes: rows × varying × bits, without gaps, low bits first; zeros up to a multiple of 4 bytes
//!      …       8  zero, so that 8 bytes can be loaded wherever a code begins
//! ```
//!
//! Valid if and only if template and alphabet are ASCII but for the 0x80s, of which there are as many as places that
//! vary, what is said to be zero is, and nothing follows. Then every code has a character and every row is ASCII.

use std::cmp::Ordering;

use crate::format::bytes::ByteWriter;
use crate::format::describe::Spans;
use crate::kernels::{Kernels, UNPACKED_BYTES, Unpack};

/// Longest row, in bytes: its length has one byte, and it is unpacked on the stack to be compared.
pub(super) const MAX_PACKED_BYTES: usize = 255;
/// Most characters of an alphabet: what 6 bits tell apart; with 7 there is nothing to gain over plain ASCII.
const MAX_ALPHABET: usize = 64;
/// Words of 64 bits, a bit for each place of a row.
const TEMPLATE_WORDS: usize = MAX_PACKED_BYTES.div_ceil(64);
/// Zeros behind the codes, so that 8 bytes can be loaded wherever one begins.
const PADDING_BYTES: usize = 8;
/// Stands in a template where rows differ; no ASCII character.
const VARIES: u8 = 0x80;

/// Some texts and how they are packed.
pub(super) struct Packing {
    template: Vec<u8>,
    /// How many places vary.
    varying: usize,
    /// What stands in these places, row by row.
    characters: Vec<u8>,
    /// Ascending; as long as codes are possible, the last character repeated.
    alphabet: Vec<u8>,
    bits: u8,
}

impl Packing {
    /// `None` if rows differ in length, are too long, or have too many or other than ASCII characters.
    pub(super) fn of(values: &[&str]) -> Option<Self> {
        let first = values.first()?.as_bytes();
        let one_length = values.iter().all(|value| value.len() == first.len());
        if !one_length || first.len() > MAX_PACKED_BYTES || !first.is_ascii() {
            return None;
        }
        let mut differing = vec![0; first.len()];
        for value in values {
            for ((differs, a), b) in differing.iter_mut().zip(first).zip(value.as_bytes()) {
                *differs |= a ^ b;
            }
        }
        // The first row is ASCII, so a difference in the highest bit is a character that is not.
        if !differing.is_ascii() {
            return None;
        }
        let template = differing.iter().zip(first).map(|(&d, &c)| if d == 0 { c } else { VARIES }).collect();
        let places: Vec<usize> =
            (0..).zip(&differing).filter(|(_, d)| **d != 0).map(|(place, _)| place).collect();

        let mut characters = vec![0; values.len() * places.len()];
        let mut seen = [false; 256];
        for (row, value) in characters.chunks_exact_mut(places.len().max(1)).zip(values) {
            for (character, place) in row.iter_mut().zip(&places) {
                *character = value.as_bytes().get(*place).copied().unwrap_or_default();
                if let Some(seen) = seen.get_mut(usize::from(*character)) {
                    *seen = true;
                }
            }
        }
        let mut alphabet: Vec<u8> = (0..=255).zip(seen).filter(|(_, seen)| *seen).map(|(c, _)| c).collect();
        if alphabet.len() > MAX_ALPHABET {
            return None;
        }
        let (codes, bits) = match alphabet.len() {
            0 => (0, 0),
            symbols => (symbols.next_power_of_two(), byte(symbols.next_power_of_two().ilog2() as usize)),
        };
        alphabet.resize(codes, alphabet.last().copied().unwrap_or_default());
        Some(Self { template, varying: places.len(), characters, alphabet, bits })
    }

    /// Appends the packed texts.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put(&[byte(self.template.len()), byte(self.varying), self.bits]);
        out.put(&self.template);
        out.put(&self.alphabet);

        let mut codes = [0u8; 256];
        for (code, &character) in (0..).zip(&self.alphabet) {
            if let Some(slot) = codes.get_mut(usize::from(character)) {
                *slot = code;
            }
        }
        let code_of = |character: &u8| codes.get(usize::from(*character)).copied().unwrap_or_default();

        // As many codes at a time as 32 bits hold: one test for a full window in five or more.
        let bits = usize::from(self.bits);
        let (mut window, mut filled) = (0u64, 0);
        for group in self.characters.chunks(32 / bits.max(1)) {
            let together =
                group.iter().rfold(0, |codes, character| codes << bits | u64::from(code_of(character)));
            window |= together << filled;
            filled += bits * group.len();
            if filled >= 32 {
                #[expect(clippy::cast_possible_truncation, reason = "the upper half stays in the window")]
                out.put_u32(window as u32);
                window >>= 32;
                filled -= 32;
            }
        }
        if filled > 0 {
            out.put_u32(u32::try_from(window).expect("less than 32 bits are left"));
        }
        out.put_u64(0);
    }
}

fn byte(count: usize) -> u8 {
    u8::try_from(count).expect("a packed row has at most 255 bytes")
}

/// Template and alphabet.
pub(super) type Head<'a> = (&'a [u8], &'a [u8]);

/// Packed texts, read in place.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) template: &'a [u8],
    alphabet: &'a [u8],
    codes: &'a [u8],
    bits: usize,
    varying: usize,
}

impl<'a> Packed<'a> {
    /// Cuts the bytes into their parts; O(1).
    #[inline]
    pub(super) fn view(bytes: &'a [u8]) -> Option<Self> {
        let (&[length, varying, bits], rest) = bytes.split_first_chunk()?;
        let symbols = match bits {
            0 => 0,
            1..=6 => 1 << bits,
            _ => return None,
        };
        let (template, rest) = rest.split_at_checked(length.into())?;
        let (alphabet, codes) = rest.split_at_checked(symbols)?;
        Some(Self { template, alphabet, codes, bits: bits.into(), varying: varying.into() })
    }

    /// Describes what follows the form of a packed chunk, or what should.
    pub(super) fn describe(spans: &mut Spans<'_, '_>, rows: usize) -> Option<()> {
        let Some(packed) = Packed::view(spans.rest()) else {
            spans.give_up("no packed chunk has these lengths");
            return None;
        };
        spans.u8("length")?;
        spans.u8("varying")?;
        spans.u8("bits")?;
        for (name, characters) in [("template", packed.template), ("alphabet", packed.alphabet)] {
            spans.bytes(name, characters.len())?;
            if !characters.is_empty() {
                spans.note(characters.escape_ascii());
            }
        }
        let codes = rows * packed.varying;
        spans.bytes("codes", packed.codes.len().saturating_sub(PADDING_BYTES))?;
        if codes > 0 && packed.codes.len() > PADDING_BYTES {
            spans.note(format_args!("{codes} × {} bits", packed.bits));
        }
        spans.padding(packed.codes.len().min(PADDING_BYTES))
    }

    /// Whether the bytes are valid for that many rows; O(1), for codes may be any.
    pub(super) fn is_sound(&self, rows: usize) -> bool {
        let code_bits = rows * self.varying * self.bits;
        let words_end = code_bits.div_ceil(32) * 4;
        let zeros = self.codes.split_at_checked(words_end).is_some_and(|(words, padding)| {
            let used = code_bits % 32;
            let last_word = words.last_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            padding == [0; PADDING_BYTES] && (used == 0 || last_word >> used == 0)
        });
        let places = self.template.iter().filter(|character| !character.is_ascii());
        (self.bits == 0) == (self.varying == 0)
            && places.clone().all(|character| *character == VARIES)
            && places.count() == self.varying
            && self.alphabet.is_ascii()
            && zeros
    }

    /// What tells which code stands for which text: equal for chunks of which a text has the same codes.
    #[inline]
    pub(super) fn head(&self) -> Head<'a> {
        (self.template, self.alphabet)
    }

    /// Bits of a code.
    pub(super) fn bits(&self) -> usize {
        self.bits
    }

    /// Bits of a row's codes.
    pub(super) fn row_bits(&self) -> usize {
        self.varying * self.bits
    }

    pub(super) fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// The code of each place of `text` that varies, `None` for a character that several codes stand for; `None` if no row
    /// can be that text.
    pub(super) fn codes_of(&self, text: &[u8]) -> Option<Vec<Option<u8>>> {
        if text.len() != self.template.len() {
            return None;
        }
        let mut codes = Vec::with_capacity(self.varying);
        for (place, wanted) in self.template.iter().zip(text) {
            if *place == VARIES {
                let mut found = (0..).zip(self.alphabet).filter(|(_, character)| *character == wanted);
                let (code, _) = found.next()?;
                codes.push(found.next().is_none().then_some(code));
            } else if place != wanted {
                return None;
            }
        }
        (codes.len() == self.varying).then_some(codes)
    }

    /// Fills in what varies in `text`, a copy of the template.
    pub(super) fn unpack(&self, index: usize, text: &mut [u8]) {
        let mask = (1 << self.bits) - 1;
        let mut at = index * self.varying * self.bits;
        let (mut window, mut left) = (0u64, 0);
        for place in text.iter_mut().filter(|character| **character == VARIES) {
            if left < self.bits {
                // At least 57 bits from the one at `at` on.
                let loaded = self.codes.get(at / 8..).and_then(|codes| codes.first_chunk());
                window = loaded.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (at % 8);
                left = 64 - at % 8;
            }
            #[expect(clippy::cast_possible_truncation, reason = "the mask leaves 6 bits at most")]
            let code = (window & mask) as usize;
            *place = self.alphabet.get(code).copied().unwrap_or_default();
            window >>= self.bits;
            left -= self.bits;
            at += self.bits;
        }
    }

    /// Whether row `index` is `text`; allocates nothing.
    pub(super) fn equals(&self, index: usize, text: &[u8]) -> bool {
        text.len() == self.template.len() && self.compare(index, text).is_eq()
    }

    /// How row `index` compares with `text`; allocates nothing, and decodes no more than it takes to tell.
    pub(super) fn compare(&self, index: usize, text: &[u8]) -> Ordering {
        let mask = (1 << self.bits) - 1;
        let mut at = index * self.varying * self.bits;
        for (place, wanted) in self.template.iter().zip(text) {
            let mut character = *place;
            if character == VARIES {
                // A code has 6 bits at most, so the eight bytes from its first one on have all of it.
                let loaded = self.codes.get(at / 8..).and_then(|codes| codes.first_chunk());
                let code = loaded.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (at % 8) & mask;
                character = usize::try_from(code)
                    .ok()
                    .and_then(|code| self.alphabet.get(code))
                    .copied()
                    .unwrap_or_default();
                at += self.bits;
            }
            if character != *wanted {
                return character.cmp(wanted);
            }
        }
        self.template.len().cmp(&text.len())
    }
}

/// Packed texts, to be read row after row: by the kernel where there is one, else by runs.
pub(super) enum Unpacker<'a> {
    Kernel(Packed<'a>, Unpack),
    Runs(Runs<'a>),
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(packed: Packed<'a>, kernels: &Kernels) -> Self {
        match kernels.unpack {
            Some(unpack) => Self::Kernel(packed, unpack),
            None => Self::Runs(Runs::new(packed)),
        }
    }

    /// Reads other texts from now on; `None` if the bytes cannot be cut into their parts. These are written where they
    /// stay: a copy of them would be waited for, by each of many rows that lie far apart.
    #[inline]
    pub(super) fn turn_to(&mut self, bytes: &'a [u8]) -> Option<()> {
        match self {
            Self::Kernel(packed, _) => *packed = Packed::view(bytes)?,
            Self::Runs(runs) => runs.turn_to(Packed::view(bytes)?),
        }
        Some(())
    }

    /// Appends row `index`.
    #[inline]
    pub(super) fn append_to(&self, index: usize, out: &mut Vec<u8>) {
        match self {
            Self::Kernel(packed, unpack) => packed.append_by(*unpack, index, out),
            Self::Runs(runs) => runs.append_to(index, out),
        }
    }
}

impl Packed<'_> {
    #[inline]
    fn append_by(&self, unpack: Unpack, index: usize, out: &mut Vec<u8>) {
        let Self { alphabet, codes, bits, varying, .. } = *self;
        let end = out.len() + self.template.len();
        let mut at = index * varying * bits;
        let mut template = self.template;
        loop {
            // Room for all that the kernel writes: what is too much is cut off at the end.
            out.put(&[0; UNPACKED_BYTES]);
            if let Some(room) = out.last_chunk_mut() {
                unpack(template, alphabet, codes, at, bits, room);
            }
            let Some((done, left)) = template.split_at_checked(UNPACKED_BYTES) else { break };
            at += bits * done.iter().filter(|character| !character.is_ascii()).count();
            template = left;
        }
        out.truncate(end);
    }
}

/// Packed texts made ready to be read row after row without vectors: where rows vary is found once, and eight characters are
/// decoded at a time.
pub(super) struct Runs<'a> {
    packed: Packed<'a>,
    /// The alphabet again and again, so that any six bits of which the lowest are a code find its character.
    alphabet: [u8; MAX_ALPHABET],
    /// A bit for each place that varies.
    varies: [u64; TEMPLATE_WORDS],
}

impl<'a> Runs<'a> {
    fn new(packed: Packed<'a>) -> Self {
        let mut runs = Self { packed, alphabet: [0; MAX_ALPHABET], varies: [0; TEMPLATE_WORDS] };
        runs.turn_to(packed);
        runs
    }

    /// Reads other texts from now on.
    fn turn_to(&mut self, packed: Packed<'a>) {
        self.packed = packed;
        if !packed.alphabet.is_empty() {
            for repeated in self.alphabet.chunks_mut(packed.alphabet.len()) {
                repeated.copy_from_slice(packed.alphabet);
            }
        }
        self.varies = [0; TEMPLATE_WORDS];
        for (word, characters) in self.varies.iter_mut().zip(packed.template.chunks(64)) {
            *word = characters.iter().rfold(0, |bits, character| bits << 1 | u64::from(*character == VARIES));
        }
    }

    /// Appends row `index`.
    fn append_to(&self, index: usize, out: &mut Vec<u8>) {
        let Packed { template, bits, varying, .. } = self.packed;
        let start = out.len();
        out.put(template);
        let Some(text) = out.get_mut(start..) else { return };
        let mut at = index * varying * bits;
        for (word, text) in self.varies.iter().zip(text.chunks_mut(64)) {
            let (mut left, mut start) = (*word, 0);
            while left != 0 {
                // The next places that vary, one after the other.
                let gap = left.trailing_zeros();
                left >>= gap;
                let run = left.trailing_ones();
                left = left.checked_shr(run).unwrap_or(0);
                let first = start + gap as usize;
                start = first + run as usize;
                let Some(run) = text.get_mut(first..start) else { return };
                self.decode(&mut at, run);
            }
        }
    }

    /// Fills in consecutive places from the bit `at` on, and moves it behind them.
    #[inline]
    fn decode(&self, at: &mut usize, run: &mut [u8]) {
        let bits = self.packed.bits;
        let (groups, rest) = run.as_chunks_mut();
        for group in groups {
            *group = self.eight_from(*at);
            *at += 8 * bits;
        }
        if !rest.is_empty() {
            let last = self.eight_from(*at);
            rest.iter_mut().zip(last).for_each(|(place, character)| *place = character);
            *at += rest.len() * bits;
        }
    }

    /// The characters of eight codes from the bit `at` on; those past the last code are meaningless.
    fn eight_from(&self, at: usize) -> [u8; 8] {
        // At least 57 bits from the one at `at` on, and eight codes have 48 at most.
        let loaded = self.packed.codes.get(at / 8..).and_then(|codes| codes.first_chunk());
        let window = loaded.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (at % 8);
        let mut characters = [0; 8];
        let mut left = window;
        for character in &mut characters {
            #[expect(clippy::cast_possible_truncation, reason = "all but the lowest bits go anyway")]
            let code = left as usize % MAX_ALPHABET;
            *character = self.alphabet.get(code).copied().unwrap_or_default();
            left >>= self.packed.bits;
        }
        characters
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn packed(values: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        Packing::of(values).unwrap().put(&mut out);
        out
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = packed(&["a0-x", "a1-z", "a2-y"]);
        // Six characters 0 1 2 x y z: three bits each; rows (0, x), (1, z), (2, y) are codes 0 3, 1 7, 2 4, since
        // the last character also has the codes that are left.
        let codes = 3 << 3 | 1 << 6 | 7 << 9 | 2 << 12 | 4 << 15_u32;
        let mut expected = b"\x04\x02\x03a\x80-\x80012xyzzz".to_vec();
        expected.put_u32(codes);
        expected.put_u64(0);
        assert_eq!(bytes, expected);
        assert_eq!(packed(&["ab", "ab"]), b"\x02\0\0ab\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn an_unpacker_reads_what_was_packed_whatever_it_read_before() {
        let every_second =
            |c: char| (0..MAX_PACKED_BYTES).map(|n| if n % 2 == 0 { c } else { '-' }).collect();
        let rows = |value: &dyn Fn(char) -> String| "0qZ".chars().map(value).collect::<Vec<_>>();
        let chunks = [
            rows(&|c| c.to_string().repeat(MAX_PACKED_BYTES)),
            rows(&every_second),
            rows(&|_| "all the same".to_owned()),
            rows(&|c| format!("{c}23456789{c}")),
            rows(&|_| String::new()),
            rows(&|c| format!("head {c}{c}{c}{c}{c}{c}{c}{c}")),
        ];
        let sections: Vec<_> =
            chunks.iter().map(|rows| packed(&rows.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        for kernels in Kernels::all_available() {
            let mut unpacker = Unpacker::new(Packed::view(&sections[0]).unwrap(), kernels);
            for (rows, bytes) in chunks.iter().zip(&sections).chain(chunks.iter().zip(&sections).rev()) {
                unpacker.turn_to(bytes).unwrap();
                for (index, row) in rows.iter().enumerate() {
                    let mut out = b"before".to_vec();
                    unpacker.append_to(index, &mut out);
                    assert_eq!(out, [b"before", row.as_bytes()].concat(), "{}", kernels.name);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_way_to_unpack_gives_what_was_packed(
            length in 0..=MAX_PACKED_BYTES,
            alphabet in "[ -~]{1,64}",
            fixed in vec(any::<bool>(), MAX_PACKED_BYTES),
            choices in vec(vec(any::<prop::sample::Index>(), MAX_PACKED_BYTES), 1..40),
        ) {
            let characters: Vec<char> = alphabet.chars().collect();
            let row = |choices: &Vec<prop::sample::Index>| -> String {
                let place = |(place, choice): (usize, &prop::sample::Index)| {
                    if fixed[place] { characters[0] } else { *choice.get(&characters) }
                };
                choices.iter().enumerate().take(length).map(place).collect()
            };
            let rows: Vec<String> = choices.iter().map(row).collect();
            let bytes = packed(&rows.iter().map(String::as_str).collect::<Vec<_>>());
            let texts = Packed::view(&bytes).unwrap();
            for kernels in Kernels::all_available() {
                let unpacker = Unpacker::new(texts, kernels);
                for (index, row) in rows.iter().enumerate() {
                    let (mut out, mut slow) = (Vec::new(), texts.template.to_vec());
                    unpacker.append_to(index, &mut out);
                    texts.unpack(index, &mut slow);
                    prop_assert_eq!(&out, row.as_bytes(), "{}", kernels.name);
                    prop_assert_eq!(&slow, row.as_bytes());
                }
            }
        }
    }

    #[test]
    fn rows_compare_as_their_texts_do() {
        let rows = ["a0-xq", "a1-zq", "a2-yq", "a0-zq", "a2-xq"];
        let bytes = packed(&rows);
        let texts = Packed::view(&bytes).unwrap();
        let others = ["", "a", "a0-x", "a0-xqq", "a1", "b", "a0-xp", "a3-xq", "A0-xq", "a1é", "\u{7f}"];
        for (index, row) in rows.iter().enumerate() {
            for other in rows.iter().chain(&others) {
                assert_eq!(texts.compare(index, other.as_bytes()), row.cmp(other), "{row} and {other}");
                assert_eq!(texts.equals(index, other.as_bytes()), row == other);
            }
        }
    }

    #[test]
    fn what_cannot_be_packed_is_said() {
        let long = "x".repeat(MAX_PACKED_BYTES + 1);
        for values in [&["a", "ab"][..], &["a", "\u{80}"], &["ab", "é"], &["é"], &[&long], &[]] {
            assert!(Packing::of(values).is_none(), "{values:?}");
        }
    }

    #[test]
    fn each_rule_is_checked() {
        let whole = packed(&["a0-x", "a1-z", "a2-y"]);
        assert!(Packed::view(&whole).unwrap().is_sound(3));
        // Bytes beyond the rows' codes, a byte too many, a byte too few.
        assert!(!Packed::view(&whole).unwrap().is_sound(2));
        assert!(!Packed::view(&[&whole[..], &[0]].concat()).unwrap().is_sound(3));
        assert!(!Packed::view(&whole[..whole.len() - 1]).unwrap().is_sound(3));
        // Varying, a bit less per code, template, alphabet, bits behind the last code, padding.
        let rules = [(1, 1), (2, 2), (3, 0x81), (5, 0x80), (7, 0x80), (17, 0xFF), (25, 1)];
        for (place, byte) in rules {
            let mut damaged = whole.clone();
            damaged[place] = byte;
            assert!(!Packed::view(&damaged).is_some_and(|packed| packed.is_sound(3)), "byte {place}");
        }
        let mut seven_bits = whole;
        seven_bits[2] = 7;
        assert!(Packed::view(&seven_bits).is_none());
    }
}
