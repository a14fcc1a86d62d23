//! A checked cursor over untrusted bytes, and the writer of what it reads.
//!
//! Every length and offset on disk passes through here before it is used. Knows no files: whoever reads one attaches
//! its name. Whoever wants to know what a parser reads [watches](Watch) its cursor.

use std::fmt::Display;
use std::path::Path;

use crate::error::DbError;

/// What is wrong with some bytes, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Bytes from the start of what was parsed.
    pub(crate) offset: u64,
    pub(crate) what: String,
}

impl Malformed {
    pub(crate) fn new(offset: usize, what: impl Into<String>) -> Self {
        Self { offset: offset as u64, what: what.into() }
    }

    /// The error of a file in which the parsed bytes begin at `base`.
    pub(crate) fn in_file(self, file: &Path, base: u64) -> DbError {
        DbError::corrupt(file, base.saturating_add(self.offset), self.what)
    }
}

/// What bytes that were read are, as far as that shows in their form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Unsigned,
    Signed,
    /// UTF-8, or what should be.
    Text,
    Zeros,
    /// So many numbers of as many bytes as there are for each.
    Array(usize),
    /// Anything else.
    Bytes,
}

/// Is told of every field that a [`ByteReader`] reads, in order and without gaps. Descriptions of files are made so, by the
/// parsers that read the files; for all else nobody watches, which costs nothing.
pub(crate) trait Watch {
    /// These bytes were read, which messages call `what`.
    fn field(&mut self, bytes: &[u8], what: &str, form: Form);
    /// The fields that follow are part of something.
    fn enter(&mut self, group: &dyn Display);
    /// They were.
    fn leave(&mut self);
}

impl Watch for () {
    #[inline]
    fn field(&mut self, _: &[u8], _: &str, _: Form) {}
    #[inline]
    fn enter(&mut self, _: &dyn Display) {}
    #[inline]
    fn leave(&mut self) {}
}

/// Reads little-endian values from the front of a slice; never past its end.
#[derive(Debug, Clone)]
pub(crate) struct ByteReader<'a, W = ()> {
    bytes: &'a [u8],
    at: usize,
    watch: W,
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, watch: () }
    }
}

impl<'a, W: Watch> ByteReader<'a, W> {
    /// A reader that stands `at` bytes behind the beginning, and tells of what it reads from there on.
    pub(crate) fn watched(bytes: &'a [u8], at: usize, watch: W) -> Self {
        Self { bytes, at: at.min(bytes.len()), watch }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Reads a part of something, which `group` names.
    pub(crate) fn within<T>(&mut self, group: impl Display, read: impl FnOnce(&mut Self) -> T) -> T {
        self.watch.enter(&group);
        let result = read(self);
        self.watch.leave();
        result
    }

    /// The next `count` bytes: `what` names them in the error, `name` for who watches.
    fn field(&mut self, count: usize, what: &str, name: &str, form: Form) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let what = format!("{what} needs {count} bytes, {} are left", self.remaining());
            return Err(Malformed::new(self.at, what));
        };
        self.at += count;
        self.watch.field(taken, name, form);
        Ok(taken)
    }

    /// The next `count` bytes; `what` names them in the error.
    pub(crate) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        self.field(count, what, what, Form::Bytes)
    }

    /// The next `count` numbers of `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        count: usize,
        what: &str,
    ) -> Result<&'a [[u8; N]], Malformed> {
        self.field(count.saturating_mul(N), what, what, Form::Array(count)).map(|bytes| bytes.as_chunks().0)
    }

    /// The lengths of the next `count` texts, of which each has one of 4 bytes.
    pub(crate) fn lengths(&mut self, count: usize, what: &str) -> Result<&'a [[u8; 4]], Malformed> {
        let bytes = self.field(count.saturating_mul(4), what, "lengths", Form::Array(count))?;
        Ok(bytes.as_chunks().0)
    }

    /// The next `count` bytes, which are several texts, end to end.
    pub(crate) fn texts(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        self.field(count, what, "texts", Form::Text)
    }

    /// The next `count` bytes, which should be zero; `what` names in the error what they are part of.
    pub(crate) fn reserved(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        self.field(count, what, "zero", Form::Zeros)
    }

    /// All bytes that are left, which should be zero.
    pub(crate) fn padding(&mut self) -> &'a [u8] {
        self.field(self.remaining(), "padding", "padding", Form::Zeros).unwrap_or_default()
    }

    fn number<const N: usize>(&mut self, what: &str, form: Form) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.field(N, what, what, form)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8, Malformed> {
        self.number(what, Form::Unsigned).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &str) -> Result<u16, Malformed> {
        self.number(what, Form::Unsigned).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Malformed> {
        self.number(what, Form::Unsigned).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Malformed> {
        self.number(what, Form::Unsigned).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &str) -> Result<i64, Malformed> {
        self.number(what, Form::Signed).map(i64::from_le_bytes)
    }

    pub(crate) fn i128(&mut self, what: &str) -> Result<i128, Malformed> {
        self.number(what, Form::Signed).map(i128::from_le_bytes)
    }

    /// A count of things of which each takes at least `least_bytes`: a count that the rest cannot hold is refused
    /// before anything is allocated for it.
    pub(crate) fn count(&mut self, least_bytes: usize, what: &str) -> Result<usize, Malformed> {
        let at = self.at;
        let count = self.u32(what)? as usize;
        if count.saturating_mul(least_bytes.max(1)) > self.remaining() {
            return Err(Malformed::new(
                at,
                format!("{what} says {count}, more than the bytes that follow hold"),
            ));
        }
        Ok(count)
    }

    /// A string after its length in 2 bytes.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a str, Malformed> {
        let at = self.at;
        let mut bytes = [0; 2];
        bytes.copy_from_slice(self.field(2, what, "length", Form::Unsigned)?);
        let text = self.field(u16::from_le_bytes(bytes).into(), what, what, Form::Text)?;
        std::str::from_utf8(text).map_err(|_| Malformed::new(at, format!("{what} is not UTF-8")))
    }

    /// Nothing may follow.
    pub(crate) fn finish(self, what: &str) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            more => Err(Malformed::new(self.at, format!("{more} bytes follow the end of {what}"))),
        }
    }
}

/// Appends little-endian values.
pub(crate) trait ByteWriter {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    fn put_i128(&mut self, value: i128) {
        self.put(&value.to_le_bytes());
    }
    /// A count in 4 bytes. Panics above `u32::MAX`: our own mistake, for every count is limited far below.
    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).expect("counts on disk are limited below 2^32"));
    }
    /// A string after its length in 2 bytes. Panics above 65,535 bytes: our own mistake, for names are limited.
    fn put_string(&mut self, text: &str) {
        self.put_u16(u16::try_from(text.len()).expect("names on disk are limited to 65,535 bytes"));
        self.put(text.as_bytes());
    }
}

impl ByteWriter for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends zeros until the length is a multiple of `align_bytes`.
pub(crate) fn align(out: &mut Vec<u8>, align_bytes: usize) {
    out.resize(out.len().next_multiple_of(align_bytes), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        out.put_u8(1);
        out.put_u16(2);
        out.put_u32(3);
        out.put_u64(4);
        out.put_i64(-5);
        out.put_i128(-6);
        out.put_string("user");
        let mut reader = ByteReader::new(&out);
        assert_eq!(reader.u8("a").unwrap(), 1);
        assert_eq!(reader.u16("b").unwrap(), 2);
        assert_eq!(reader.u32("c").unwrap(), 3);
        assert_eq!(reader.u64("d").unwrap(), 4);
        assert_eq!(reader.i64("e").unwrap(), -5);
        assert_eq!(reader.i128("f").unwrap(), -6);
        assert_eq!(reader.string("g").unwrap(), "user");
        reader.finish("it").unwrap();
    }

    #[test]
    fn short_bytes_say_what_lacks_and_where() {
        let mut reader = ByteReader::new(&[1, 2, 3]);
        reader.u16("rows").unwrap();
        assert_eq!(
            reader.u32("length").unwrap_err(),
            Malformed { offset: 2, what: "length needs 4 bytes, 1 are left".into() }
        );
    }

    #[test]
    fn counts_that_cannot_be_true_allocate_nothing() {
        let mut out = Vec::new();
        out.put_u32(u32::MAX);
        assert!(
            ByteReader::new(&out).count(8, "segments").unwrap_err().what.contains("segments says 4294967295")
        );
    }
}
