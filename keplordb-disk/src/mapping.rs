//! `Mapping`: the bytes of a sealed file as one slice, mapped or owned. The only unsafe code of the crate.

use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;
use std::{fmt, io};

use memmap2::{Mmap, MmapOptions};

/// The bytes of a sealed file, mapped into memory or owned; derefs to `[u8]`. A clone costs one reference count and shares
/// the bytes, which live until the last clone is dropped, whatever happens to the file's name.
///
/// No alignment is promised. See [`Disk::map`](crate::Disk::map) for what may be done with a mapped file meanwhile.
///
/// ```
/// use keplordb_disk::Mapping;
/// let mapping = Mapping::owned(vec![1, 2, 3]);
/// assert_eq!(&mapping[1..], &[2, 3]);
/// ```
#[derive(Clone)]
pub struct Mapping {
    source: Source,
    /// How much of the source shows; never more than it has.
    bytes: usize,
}

#[derive(Clone)]
enum Source {
    Mapped(Arc<Mmap>),
    Owned(Arc<Vec<u8>>),
}

impl Mapping {
    /// Bytes in memory, from a `Vec<u8>` or a shared `Arc<Vec<u8>>`, without a copy.
    pub fn owned(bytes: impl Into<Arc<Vec<u8>>>) -> Self {
        let owned = bytes.into();
        Self { bytes: owned.len(), source: Source::Owned(owned) }
    }

    /// The first `bytes` bytes of this mapping, without a copy.
    ///
    /// # Errors
    /// `UnexpectedEof` if it has fewer.
    pub fn prefix(self, bytes: u64) -> io::Result<Self> {
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.bytes => Ok(Self { bytes, ..self }),
            _ => Err(too_short(bytes, self.bytes as u64)),
        }
    }

    /// Maps the first `bytes` bytes of a sealed file for reading.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter; `OutOfMemory` if the addresses do not suffice; else what the operating
    /// system says.
    #[expect(unsafe_code, reason = "there is no safe way to map a file")]
    pub(crate) fn of_sealed(file: &File, bytes: u64) -> io::Result<Self> {
        let present_bytes = file.metadata()?.len();
        if present_bytes < bytes {
            return Err(too_short(bytes, present_bytes));
        }
        let bytes = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        if bytes == 0 {
            // The kernel maps no empty range.
            return Ok(Self::owned(Vec::new()));
        }
        // SAFETY: `map` asks that the mapped bytes neither change nor vanish while the `Mmap` lives.
        // - Within this process: the map is private and read-only, so nothing writes through it; and only sealed files get
        //   here (the contract of `Disk::map`), which no code of the workspace writes or cuts again. A change of a sealed
        //   file is a new file renamed over it, and unlinking or renaming leaves the mapped inode as it is.
        // - The range lies within the file: its length was compared above, on this same open file.
        // - Another process that writes or cuts the file breaks this, and no check of ours could prevent it. What then
        //   happens is documented at `Disk::map`: bytes change, or the process gets SIGBUS. Hence callers take from a
        //   mapping only integers and byte strings, each checked at its use, and nothing on which memory safety rests; and
        //   the engine can be told to read files into memory instead of mapping them.
        let map = unsafe { MmapOptions::new().len(bytes).map(file) }?;
        Ok(Self { source: Source::Mapped(Arc::new(map)), bytes })
    }

    /// Whether reading it may touch the disk (a mapped file), rather than memory only.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Mapped(_))
    }
}

/// A file shorter than somebody was told it is.
fn too_short(wanted_bytes: u64, present_bytes: u64) -> io::Error {
    let message = format!("{wanted_bytes} bytes were asked for, the file has {present_bytes}");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.source {
            Source::Mapped(map) => map,
            Source::Owned(bytes) => bytes,
        };
        #[expect(clippy::indexing_slicing, reason = "every constructor keeps `bytes` within the source")]
        &all[..self.bytes]
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("bytes", &self.bytes)
            .field("is_mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_shows_only_what_there_is() {
        let mapping = Mapping::owned(vec![1, 2, 3]);
        assert_eq!(&*mapping.clone().prefix(2).unwrap(), &[1, 2]);
        let error = mapping.clone().prefix(4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "4 bytes were asked for, the file has 3");
        // A prefix of a prefix cannot grow back.
        assert!(mapping.prefix(1).unwrap().prefix(2).is_err());
    }
}
