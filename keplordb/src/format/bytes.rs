//! A checked cursor over untrusted bytes, and the writer of what it reads.
//!
//! Every length and offset on disk passes through here before it is used. Knows no files: whoever reads one attaches
//! its name.

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

/// Reads little-endian values from the front of a slice; never past its end.
#[derive(Debug, Clone)]
pub(crate) struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes; `what` names them in the error.
    pub(crate) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let what = format!("{what} needs {count} bytes, {} are left", self.remaining());
            return Err(Malformed::new(self.at, what));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &str) -> Result<i64, Malformed> {
        self.array(what).map(i64::from_le_bytes)
    }

    pub(crate) fn i128(&mut self, what: &str) -> Result<i128, Malformed> {
        self.array(what).map(i128::from_le_bytes)
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
        let bytes = self.u16(what)? as usize;
        let text = self.take(bytes, what)?;
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
