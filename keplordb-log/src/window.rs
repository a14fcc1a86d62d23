//! The part of a file that a reader has in memory.

use std::io;

use keplordb_disk::DiskFile;

/// Bytes that a read brings when nothing is known: a seek needs few, and so does who waits at the end of a growing file.
const STEP_BYTES_MIN: usize = 16 << 10;

/// Bytes that a read brings when the file is read through: enough to make system calls cheap, few enough to stay in the
/// processor's cache until they are used.
const STEP_BYTES_MAX: usize = 512 << 10;

/// Some bytes of a file, from `base` on.
#[derive(Debug)]
pub(crate) struct Window {
    /// Its length is what was ever needed; the first `bytes` are the file's.
    buffer: Vec<u8>,
    bytes: usize,
    base: u64,
    step_bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { buffer: Vec::new(), bytes: 0, base: 0, step_bytes: STEP_BYTES_MIN }
    }
}

impl Window {
    /// The bytes from `offset` on that are in memory: none if it lies outside.
    #[inline]
    pub(crate) fn from(&self, offset: u64) -> &[u8] {
        let start = offset.checked_sub(self.base).and_then(|start| usize::try_from(start).ok());
        start.and_then(|start| self.buffer.get(start..self.bytes)).unwrap_or_default()
    }

    /// The bytes between two offsets; none if not all of them are in memory.
    #[inline]
    pub(crate) fn range(&self, start: u64, bytes: usize) -> &[u8] {
        self.from(start).get(..bytes).unwrap_or_default()
    }

    /// Reads from `offset` on, at least `needed_bytes` if the file has them. What was in memory is forgotten: it may have
    /// been read before it was written.
    pub(crate) fn read(&mut self, file: &dyn DiskFile, offset: u64, needed_bytes: usize) -> io::Result<()> {
        // Who has used most of what the last read brought, and goes on there, reads through the file.
        let used_bytes = offset.saturating_sub(self.base);
        let bytes = self.bytes as u64;
        let reads_through = bytes > 0 && used_bytes >= bytes / 2 && used_bytes <= bytes;
        self.step_bytes =
            if reads_through { (self.step_bytes * 2).min(STEP_BYTES_MAX) } else { STEP_BYTES_MIN };
        let wanted_bytes = self.step_bytes.max(needed_bytes);
        self.bytes = 0;
        if self.buffer.len() < wanted_bytes {
            self.buffer.try_reserve_exact(wanted_bytes - self.buffer.len())?;
            self.buffer.resize(wanted_bytes, 0);
        }
        let target = self.buffer.get_mut(..wanted_bytes).unwrap_or_default();
        self.bytes = file.read_at(target, offset)?;
        self.base = offset;
        Ok(())
    }

    /// What it has allocated.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets what is in memory and keeps the memory, for another file.
    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use keplordb_disk::{Disk, MemoryDisk};

    use super::*;

    #[test]
    fn a_window_has_what_was_read_and_nothing_else() {
        let disk = MemoryDisk::default();
        let file = disk.create("file".as_ref()).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        let mut window = Window::default();
        assert!(window.from(0).is_empty());
        window.read(&*file, 1000, 10).unwrap();
        assert_eq!(window.from(1000), &bytes[1000..1000 + STEP_BYTES_MIN]);
        assert_eq!(window.range(2000, 7), &bytes[2000..2007]);
        assert!(window.from(999).is_empty() && window.from(u64::MAX).is_empty());
        assert!(window.range(1000, STEP_BYTES_MIN + 1).is_empty());
        window.read(&*file, 0, 99_999).unwrap();
        assert_eq!(window.from(0), &bytes[..99_999]);
        window.read(&*file, 99_000, 5000).unwrap();
        assert_eq!(window.from(99_000), &bytes[99_000..]);
        window.read(&*file, 200_000, 5000).unwrap();
        assert!(window.from(200_000).is_empty());
        window.clear();
        assert!(window.from(99_000).is_empty());
    }

    #[test]
    fn only_who_reads_through_reads_much() {
        let disk = MemoryDisk::default();
        let file = disk.create("file".as_ref()).unwrap();
        file.truncate(8 << 20).unwrap();
        let mut window = Window::default();
        let mut at = 0;
        for _ in 0..20 {
            window.read(&*file, at, 32).unwrap();
            at += window.from(at).len() as u64;
        }
        assert_eq!(window.bytes as u64, (STEP_BYTES_MAX as u64).min((8 << 20) - window.base));
        // A reader that waits at the end looks at the same place again and again, or a little further on.
        for _ in 0..20 {
            window.read(&*file, at, 32).unwrap();
            assert!(window.bytes <= STEP_BYTES_MIN);
            at += 200;
        }
    }
}
