//! Lines in the order of their events' times, however many there are.
//!
//! Lines are held in memory up to a number of bytes. When there are more, they are sorted and written to a file, a *run*, and in the end
//! the runs are merged. Runs are files without names in a given directory: nobody sees them, and they are gone with the process,
//! however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Runs after which they are merged into one: each is an open file, of which a process may have 1,024 on many machines.
const RUNS_MAX: usize = 128;
/// Each run is read in pieces of so many bytes.
const RUN_BUFFER_BYTES: usize = 64 << 10;

/// A line of a file. Their order is that in which they are captured: by time, to the nanosecond, and as they stand in the files where that
/// is the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// When its event happened, in nanoseconds since the Unix epoch; milliseconds may be given of which these are more than 64 bits.
    pub(super) time_ns: i128,
    /// Which file, from 0.
    pub(super) file: u32,
    /// Its number there, from 1.
    pub(super) line: u64,
    pub(super) text: Vec<u8>,
}

impl Entry {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }

    /// In the form of a run: time, line, file and length, little-endian, then the text.
    fn write(&self, run: &mut impl Write) -> io::Result<()> {
        let bytes = u32::try_from(self.text.len()).map_err(io::Error::other)?;
        run.write_all(&self.time_ns.to_le_bytes())?;
        run.write_all(&self.line.to_le_bytes())?;
        run.write_all(&self.file.to_le_bytes())?;
        run.write_all(&bytes.to_le_bytes())?;
        run.write_all(&self.text)
    }

    /// The next one of a run; `None` at its end.
    fn read(run: &mut impl BufRead) -> io::Result<Option<Self>> {
        if run.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let (mut longest, mut long, mut short) = ([0; 16], [0; 8], [0; 4]);
        run.read_exact(&mut longest)?;
        let time_ns = i128::from_le_bytes(longest);
        run.read_exact(&mut long)?;
        let line = u64::from_le_bytes(long);
        run.read_exact(&mut short)?;
        let file = u32::from_le_bytes(short);
        run.read_exact(&mut short)?;
        let bytes = u64::from(u32::from_le_bytes(short));
        let mut text = Vec::new();
        if run.take(bytes).read_to_end(&mut text)? as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Self { time_ns, file, line, text }))
    }
}

/// Takes lines in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    dir: PathBuf,
    bytes_max: u64,
    waiting: Vec<Entry>,
    waiting_bytes: u64,
    runs: Vec<File>,
}

impl Sorter {
    /// Holds about so many bytes in memory, and runs in a directory.
    pub(super) fn new(dir: &Path, bytes_max: u64) -> Self {
        Self { dir: dir.to_owned(), bytes_max, waiting: Vec::new(), waiting_bytes: 0, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        self.waiting_bytes += entry.bytes() as u64;
        self.waiting.push(entry);
        if self.waiting_bytes < self.bytes_max { Ok(()) } else { self.spill() }
    }

    /// All of them, in their order.
    pub(super) fn sorted(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.waiting.sort_unstable();
            return Ok(Sorted::Held(self.waiting.into_iter()));
        }
        if !self.waiting.is_empty() {
            self.spill()?;
        }
        Ok(Sorted::Merged(Merge::new(self.runs)?))
    }

    fn spill(&mut self) -> Result<()> {
        self.waiting.sort_unstable();
        let run = write_run(&self.dir, self.waiting.drain(..).map(Ok))?;
        self.waiting_bytes = 0;
        self.runs.push(run);
        if self.runs.len() == RUNS_MAX {
            let merged = Merge::new(std::mem::take(&mut self.runs))?;
            self.runs.push(write_run(&self.dir, merged)?);
        }
        Ok(())
    }
}

fn write_run(dir: &Path, entries: impl Iterator<Item = Result<Entry>>) -> Result<File> {
    let failed =
        || format!("{} has no room for lines that are to be sorted, or cannot be written to", dir.display());
    let mut run = BufWriter::new(tempfile::tempfile_in(dir).with_context(failed)?);
    for entry in entries {
        entry?.write(&mut run).with_context(failed)?;
    }
    run.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)
}

/// Lines in their order.
#[derive(Debug)]
pub(super) enum Sorted {
    Held(std::vec::IntoIter<Entry>),
    Merged(Merge),
}

impl Iterator for Sorted {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Held(entries) => entries.next().map(Ok),
            Self::Merged(merge) => merge.next(),
        }
    }
}

/// Runs that are read side by side.
#[derive(Debug)]
pub(super) struct Merge {
    runs: Vec<BufReader<File>>,
    /// The next one of each run that has one, and which run that is.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merge {
    fn new(files: Vec<File>) -> Result<Self> {
        let mut merge = Self { runs: Vec::with_capacity(files.len()), heads: BinaryHeap::new() };
        for mut file in files {
            file.rewind().context(UNREAD)?;
            merge.runs.push(BufReader::with_capacity(RUN_BUFFER_BYTES, file));
            merge.fetch(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }

    fn fetch(&mut self, run: usize) -> Result<()> {
        if let Some(entry) = Entry::read(&mut self.runs[run]).context(UNREAD)? {
            self.heads.push(Reverse((entry, run)));
        }
        Ok(())
    }
}

const UNREAD: &str = "lines that were sorted cannot be read again";

impl Iterator for Merge {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((entry, run)) = self.heads.pop()?;
        Some(self.fetch(run).map(|()| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> Entry {
        // Few times, so that many lines have the same one.
        let time_ns = i128::from(number * 7919 % 13) - 6;
        let text = vec![b'x'; (number % 40) as usize];
        Entry { time_ns, file: number % 3, line: number.into(), text }
    }

    /// In memory, in a few runs, and in more than are merged at a time.
    #[test]
    fn lines_come_by_their_times_and_then_as_they_stand_in_the_files() {
        const LINES: u32 = 400;
        let dir = tempfile::tempdir().unwrap();
        for (bytes_max, runs_min) in [(u64::MAX, 0), (5_000, 2), (1, 2)] {
            let mut sorter = Sorter::new(dir.path(), bytes_max);
            for number in (0..LINES).rev() {
                sorter.push(entry(number)).unwrap();
            }
            assert!(sorter.runs.len() >= runs_min && sorter.runs.len() < RUNS_MAX);
            let found: Vec<Entry> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            let mut right: Vec<Entry> = (0..LINES).map(entry).collect();
            right.sort_by_key(|entry| (entry.time_ns, entry.file, entry.line));
            assert_eq!(found, right, "{bytes_max}");
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "runs have no names");
    }

    #[test]
    fn a_run_that_is_cut_off_is_an_error() {
        let mut run = Vec::new();
        entry(39).write(&mut run).unwrap();
        assert_eq!(Entry::read(&mut &run[..]).unwrap(), Some(entry(39)));
        for end in 1..run.len() {
            assert!(Entry::read(&mut &run[..end]).is_err(), "{end}");
        }
        assert_eq!(Entry::read(&mut &run[..0]).unwrap(), None);
    }
}
