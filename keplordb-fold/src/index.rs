//! `archive.index`: what is known of each frame of the archive, so that nobody need decode it to know.
//!
//! It is a cache of [sealed](crate::checked) lines, one a frame. A line that is missing, torn or contradicted by the archive costs
//! time only. A line is written when its rotation is over, so an archive that ends before the last line does has lost bytes.

use std::io;
use std::path::{Path, PathBuf};

use keplordb_disk::{Disk, replace};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use crate::checked::{NUMBER_MAX, seal, unseal};
use crate::error::at;
use crate::frames::{Archive, Frame, FrameText};
use crate::lines::{LINE_BYTES_MAX, Lines, TOO_LONG, whole_lines_bytes, whole_lines_bytes_behind};
use crate::paths::Paths;
use crate::position::Position;

/// How much of the file is read at once.
const READ_BYTES: usize = 1 << 20;

/// No frame has as many events, and no archive as many frames that these together could not be counted.
const EVENTS_MAX: u64 = 1 << 40;

/// How much of a frame is decoded at once to learn its facts.
const DECODE_BYTES: usize = 1 << 20;

/// What the text of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// How long.
    pub(crate) text_bytes: u64,
    /// How many events: lines that are not empty.
    pub(crate) events: u64,
    /// The time of the first event that has one, in seconds since the Unix epoch.
    pub(crate) first_ts: Option<u64>,
    /// The latest time of an event.
    pub(crate) max_ts: Option<u64>,
    /// xxh64 of it.
    pub(crate) hash: u64,
}

impl Facts {
    /// Of a text that is there.
    pub(crate) fn of_text(text: &[u8]) -> Self {
        let mut facts = Self { text_bytes: text.len() as u64, hash: xxh64(text, 0), ..Self::of_nothing() };
        facts.add_lines(text);
        facts
    }

    /// Of a frame, by decoding it piece by piece.
    ///
    /// # Errors
    /// `Damaged`, or what a read says.
    pub(crate) fn of_frame(archive: &Archive, frame: Frame) -> io::Result<Self> {
        let mut decoded = FrameText::new(archive, frame)?;
        let (mut facts, mut piece) = (Self::of_nothing(), Vec::new());
        while let read @ 1.. = decoded.read(&mut piece, DECODE_BYTES)? {
            let rest = piece.split_off(whole_lines_bytes_behind(&piece, piece.len() - read));
            if rest.len() > LINE_BYTES_MAX {
                return Err(archive.damaged(frame.at, TOO_LONG));
            }
            facts.add_lines(&piece);
            piece = rest;
        }
        Ok(Self { text_bytes: decoded.text_bytes(), hash: decoded.hash(), ..facts })
    }

    /// Of no text; to be added to.
    pub(crate) fn of_nothing() -> Self {
        Self { text_bytes: 0, events: 0, first_ts: None, max_ts: None, hash: 0 }
    }

    /// Counts these lines, and takes their times. Length and hash are the caller's.
    pub(crate) fn add_lines(&mut self, text: &[u8]) {
        #[derive(Deserialize)]
        struct Time {
            ts: u64,
        }
        for line in Lines::new(text, Position::default()) {
            self.events += 1;
            if let Ok(Time { ts }) = serde_json::from_slice(line.bytes) {
                self.first_ts.get_or_insert(ts);
                self.max_ts = self.max_ts.max(Some(ts));
            }
        }
    }
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    /// Where the frame begins in the archive, and its length.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    text_bytes: u64,
    events: u64,
    first_ts: Option<u64>,
    max_ts: Option<u64>,
    /// In 16 hexadecimal digits, because programs that read JSON round numbers of 64 bits.
    hash: String,
}

impl Entry {
    pub(crate) fn new(generation: u64, (at, bytes): (u64, u64), facts: &Facts) -> Self {
        let Facts { text_bytes, events, first_ts, max_ts, hash } = *facts;
        Self { generation, at, bytes, text_bytes, events, first_ts, max_ts, hash: format!("{hash:016x}") }
    }

    /// Where the next frame may begin.
    pub(crate) fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes)
    }

    pub(crate) fn facts(&self) -> Option<Facts> {
        let Self { text_bytes, events, first_ts, max_ts, .. } = *self;
        Some(Facts { text_bytes, events, first_ts, max_ts, hash: u64::from_str_radix(&self.hash, 16).ok()? })
    }

    /// Whether its numbers can be added up, as those of a frame can.
    fn is_possible(&self) -> bool {
        self.at.max(self.bytes).max(self.text_bytes) <= NUMBER_MAX && self.events <= EVENTS_MAX
    }

    fn to_line(&self) -> io::Result<String> {
        Ok(seal(&serde_json::to_string(self)?))
    }
}

/// The entries behind the first `from` bytes, and where the last whole line ends. Lines that are not whole are passed over,
/// and a file that cannot be read has none.
pub(crate) fn load(disk: &dyn Disk, paths: &Paths, from: u64) -> (Vec<Entry>, u64) {
    let mut entries = Vec::new();
    let end = each(disk, &paths.index, from, |_, entry| entries.extend(entry));
    (entries, end)
}

/// Hands on the entries of such a file behind its first `from` bytes, each with where its line begins; nothing for a line that is
/// not as it was written. Returns where the last whole line ends.
pub(crate) fn each(disk: &dyn Disk, path: &Path, from: u64, mut take: impl FnMut(u64, Option<Entry>)) -> u64 {
    let mut end = from;
    let Ok(file) = disk.open_read(path) else { return 0 };
    let mut piece = vec![0; READ_BYTES];
    while let Ok(present) = file.read_at(&mut piece, end) {
        let text = piece.get(..present).unwrap_or_default();
        let whole = whole_lines_bytes(text);
        // An entry has some 200 bytes: a piece without a newline is none.
        if whole == 0 {
            break;
        }
        for line in Lines::new(text, Position { generation: 0, offset: end }) {
            let entry = unseal(line.bytes).and_then(|line| serde_json::from_str(&line).ok());
            take(line.at.offset, entry.filter(Entry::is_possible));
        }
        end += whole as u64;
    }
    end
}

/// Where the file is kept while the archive that it is about is replaced, and until one is made for the new archive.
pub(crate) fn former(paths: &Paths) -> PathBuf {
    paths.index.with_extension("index.former")
}

/// Takes the file out of readers' sight, durably: what it says is not so of an archive that is about to be put in place.
pub(crate) fn hide(disk: &dyn Disk, paths: &Paths) -> io::Result<()> {
    match disk.rename(&paths.index, &former(paths)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("rename", &paths.index)(error)),
        _ => disk.sync_dir(&paths.dir).map_err(at("sync", &paths.dir)),
    }
}

/// What the file said before it was hidden, if that is so.
pub(crate) fn load_former(disk: &dyn Disk, paths: &Paths) -> Vec<Entry> {
    let mut entries = Vec::new();
    each(disk, &former(paths), 0, |_, entry| entries.extend(entry));
    entries
}

/// Removes what [`hide`] kept.
pub(crate) fn remove_former(disk: &dyn Disk, paths: &Paths) -> io::Result<()> {
    let path = former(paths);
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Adds one entry. It need not be durable: what is missing costs time only.
pub(crate) fn append(disk: &dyn Disk, paths: &Paths, entry: &Entry) -> io::Result<()> {
    let path = &paths.index;
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path),
        opened => opened,
    };
    let file = file.map_err(at("open", path))?;
    let end = file.bytes().map_err(at("read", path))?;
    let mut line = entry.to_line()?;
    let mut last = [b'\n'];
    if end > 0 {
        file.read_at(&mut last, end - 1).map_err(at("read", path))?;
    }
    if last != *b"\n" {
        // A crash tore what is there; it would take this line with it.
        line.insert(0, '\n');
    }
    file.write_at(line.as_bytes(), end).map_err(at("write", path))
}

/// Makes the file anew of these entries.
pub(crate) fn rewrite(disk: &dyn Disk, paths: &Paths, entries: &[Entry]) -> io::Result<()> {
    let lines = entries.iter().map(Entry::to_line).collect::<io::Result<String>>()?;
    replace(disk, &paths.index, lines.as_bytes()).map_err(at("write", &paths.index))
}

#[cfg(test)]
mod tests {
    use keplordb_disk::{MemoryDisk, read_all};

    use super::*;
    use crate::frames::{Found, Walk, compress};

    const TEXT: &[u8] =
        b"{\"type\":\"a\",\"data\":1,\"ts\":7}\n\r\nno event\n{\"ts\":9}\n{\"ts\":8}\n{\"ts\":99}";

    #[test]
    fn facts_of_a_text_and_of_its_frame_are_the_same() {
        let facts = Facts::of_text(TEXT);
        assert_eq!((facts.text_bytes, facts.events), (TEXT.len() as u64, 4));
        assert_eq!((facts.first_ts, facts.max_ts, facts.hash), (Some(7), Some(9), xxh64(TEXT, 0)));

        let disk = MemoryDisk::default();
        let file = disk.create(Path::new("archive")).unwrap();
        file.write_at(&compress(TEXT).unwrap(), 0).unwrap();
        let archive = Archive::new(file, Path::new("archive"));
        let Some(Found::Frame(frame)) = Walk::new(&archive, 0, archive.bytes().unwrap()).next().unwrap()
        else {
            panic!("there is a frame");
        };
        assert_eq!(Facts::of_frame(&archive, frame).unwrap(), facts);
    }

    #[test]
    fn numbers_that_could_not_be_added_up_are_of_no_entry() {
        let (disk, paths) = (MemoryDisk::default(), Paths::new(Path::new("app")));
        disk.create_dir(&paths.dir).unwrap();
        let entry = Entry::new(3, (0, 10), &Facts::of_text(TEXT));
        rewrite(&disk, &paths, std::slice::from_ref(&entry)).unwrap();
        assert!(load(&disk, &paths, 0).0 == std::slice::from_ref(&entry));
        for wrong in [
            Entry { events: u64::MAX, ..entry.clone() },
            Entry { text_bytes: u64::MAX, ..entry.clone() },
            Entry { at: u64::MAX, ..entry.clone() },
            Entry { bytes: 1 << 63, ..entry },
        ] {
            rewrite(&disk, &paths, &[wrong]).unwrap();
            assert_eq!(load(&disk, &paths, 0).0, []);
        }
    }

    #[test]
    fn a_frame_without_lines_takes_little_memory() {
        let disk = MemoryDisk::default();
        let file = disk.create(Path::new("archive")).unwrap();
        file.write_at(&compress(&vec![b'x'; LINE_BYTES_MAX + 2 * DECODE_BYTES]).unwrap(), 0).unwrap();
        let archive = Archive::new(file, Path::new("archive"));
        let Some(Found::Frame(frame)) = Walk::new(&archive, 0, archive.bytes().unwrap()).next().unwrap()
        else {
            panic!("there is a frame");
        };
        let error = Facts::of_frame(&archive, frame).unwrap_err();
        assert!(error.to_string().contains("a line of over 1 GiB"), "{error}");
    }

    #[test]
    fn entries_survive_a_torn_neighbour() {
        let (disk, paths) = (MemoryDisk::default(), Paths::new(Path::new("app")));
        disk.create_dir(&paths.dir).unwrap();
        assert_eq!(load(&disk, &paths, 0), (Vec::new(), 0));
        let entries = [0, 1, 2].map(|n| Entry::new(n, (n * 10, 10), &Facts::of_text(TEXT)));
        append(&disk, &paths, &entries[0]).unwrap();
        append(&disk, &paths, &entries[1]).unwrap();
        let (loaded, end) = load(&disk, &paths, 0);
        assert_eq!(loaded, entries[..2]);
        assert_eq!(loaded[0].facts(), Some(Facts::of_text(TEXT)));

        disk.open(&paths.index).unwrap().truncate(end - 5).unwrap();
        append(&disk, &paths, &entries[2]).unwrap();
        let (loaded, end) = load(&disk, &paths, 0);
        assert_eq!(loaded, [entries[0].clone(), entries[2].clone()]);
        assert_eq!(end, read_all(&disk, &paths.index, 10_000).unwrap().len() as u64);
        assert_eq!(load(&disk, &paths, end), (Vec::new(), end));

        rewrite(&disk, &paths, &entries).unwrap();
        assert_eq!(load(&disk, &paths, 0).0, entries);
    }
}
