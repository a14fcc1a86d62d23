//! Where views go on in a log that a repair changes and from which history was pruned: their states cannot be computed anew, so their
//! files stay, and say where that is.
//!
//! It is told the text of the log as it will be, from the first generation on, and says of each file what is to be in it then. What it
//! says does not depend on how much of the change is done already, so a repair that was stopped comes to the same when it is repeated.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use keplordb_disk::Disk;
use serde::de::IgnoredAny;

use crate::base;
use crate::hash::line_hash;
use crate::lines::Lines;
use crate::paths::Paths;
use crate::position::Position;
use crate::snapshot::{self, Found, Progress};
use crate::verify::files_of_views;

/// A file of a view.
struct File {
    path: PathBuf,
    contents: Vec<u8>,
    progress: Progress,
    reducer: u64,
}

/// What a file is to be.
pub(crate) struct Anchored {
    pub(crate) path: PathBuf,
    /// The place that its state was about before.
    pub(crate) from: Position,
    /// `None` if it is that already.
    pub(crate) contents: Option<Vec<u8>>,
}

/// The files of views, and how far the text has come.
pub(crate) struct Anchors {
    files: BTreeMap<Position, Vec<File>>,
    at: Position,
    sequence: u64,
    /// The end of the last line of this generation, and its hash.
    last: (u64, String),
    anchored: Vec<Anchored>,
}

impl Anchors {
    /// Of the snapshots and bases that are as they were written, in a log that begins with this generation and sequence.
    pub(crate) fn new(disk: &dyn Disk, paths: &Paths, generation: u64, sequence: u64) -> io::Result<Self> {
        let mut files: BTreeMap<Position, Vec<File>> = BTreeMap::new();
        for (path, _) in files_of_views(disk, paths)? {
            let Some(contents) = base::other(&path).and(snapshot::read(disk, &path)?) else { continue };
            if let Found::Whole(stored) = snapshot::decode::<IgnoredAny>(&contents) {
                let (progress, reducer) = (stored.progress, stored.reducer);
                let files = files.entry(progress.position).or_default();
                files.push(File { path, contents, progress, reducer });
            }
        }
        let at = Position { generation, offset: 0 };
        let mut anchors = Self { files, at, sequence, last: (0, String::new()), anchored: Vec::new() };
        anchors.settle(at, true)?;
        Ok(anchors)
    }

    /// Whether it need not be told anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whole lines, and newlines where lines were taken out. `is_salvaged`: of a generation that lost other bytes too.
    pub(crate) fn text(&mut self, text: &[u8], is_salvaged: bool) -> io::Result<()> {
        let (begin, mut counted) = (self.at, 0);
        let end = Position { offset: begin.offset + text.len() as u64, ..begin };
        let here: Vec<Position> =
            self.files.range(..=end).map(|(at, _)| *at).filter(|at| *at > begin).collect();
        for at in here {
            let to = usize::try_from(at.offset - begin.offset).unwrap_or(text.len());
            if text.get(..to).is_some_and(|before| before.ends_with(b"\n")) {
                self.count(text.get(counted..to).unwrap_or_default());
                counted = to;
                self.settle(at, is_salvaged)?;
            }
        }
        self.count(text.get(counted..).unwrap_or_default());
        Ok(())
    }

    fn count(&mut self, text: &[u8]) {
        let mut last = None;
        for line in Lines::new(text, self.at) {
            self.sequence += 1;
            last = Some(line);
        }
        if let Some(line) = last {
            self.last = (line.end.offset, line_hash(line.bytes));
        }
        self.at.offset += text.len() as u64;
    }

    /// The generation ends. What was about more of it goes on with the next one.
    pub(crate) fn next_generation(&mut self) -> io::Result<()> {
        let next = Position { generation: self.at.generation + 1, offset: 0 };
        let behind = self.files.range(..=next).map(|(at, _)| *at).filter(|at| *at > self.at);
        let behind: Vec<Position> = behind.collect();
        (self.at, self.last) = (next, (0, String::new()));
        behind.into_iter().try_for_each(|at| self.settle(at, true))
    }

    /// Says of the files that were about `from` where their views go on here: behind the last line, as what is behind that was taken out.
    fn settle(&mut self, from: Position, is_salvaged: bool) -> io::Result<()> {
        let (offset, hash) = &self.last;
        for File { path, contents, progress, reducer } in self.files.remove(&from).unwrap_or_default() {
            let fits = progress.hash == *hash || *offset < self.at.offset || is_salvaged;
            if !fits && !base::is_base(&path) {
                // It did not before either.
                continue;
            }
            let position = Position { offset: *offset, ..self.at };
            let there = Progress { position, hash: hash.clone(), sequence: self.sequence, ..progress };
            let contents = if there == progress {
                None
            } else {
                let Some(moved) = snapshot::moved(&contents, &there, reducer)? else { continue };
                Some(moved)
            };
            self.anchored.push(Anchored { path, from, contents });
        }
        Ok(())
    }

    /// All files that have a place in the text: bases at any line's end, snapshots where they fit it, or did before the change.
    pub(crate) fn end(self) -> Vec<Anchored> {
        self.anchored
    }
}
