//! `verify`: reads everything that a log has, and says what is damaged.
//!
//! It changes nothing, takes no lock, and goes on behind what it finds. Beside a writer it judges what was there when it looked: a
//! line that is being written, or a rotation that is under way, is no damage. Where history is pruned meanwhile it begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use keplordb_disk::Disk;
use serde::de::IgnoredAny;

use crate::base;
use crate::error::{FoldError, at};
use crate::event::Event;
use crate::frames::{Archive, Frame, FrameText};
use crate::hash::line_hash;
use crate::history::History;
use crate::index::{self, Entry, Facts};
use crate::journal::Journal;
use crate::lines::{LINE_BYTES_MAX, Line, Lines, TOO_LONG, UNCOMMITTED_LINE, whole_lines_bytes_behind};
use crate::parts::{Damage, Part, Parts, damage_in};
use crate::paths::Paths;
use crate::position::Position;
use crate::reader::EventReader;
use crate::session::Session;
use crate::snapshot::{self, Found, Progress};

/// How much is read, or decoded, at once.
const READ_BYTES: usize = 1 << 20;

/// How many problems are told one by one; of a log that is nothing but damage the others are only counted.
const PROBLEMS_MAX: usize = 1000;

/// How often the log is read again because a rotation emptied it meanwhile, or all of it because history was pruned.
const TRIES: usize = 100;

/// What [`EventReader::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// How many texts were read: the archive's frames, damaged ones too, and the active log.
    pub generations: u64,
    /// How many lines are events.
    pub events: u64,
    /// How long the texts are together, as far as they can be read.
    pub text_bytes: u64,
    /// How many snapshots and checkpoints fit the log.
    pub snapshots: u64,
    /// How many states of views, on disk and in memory, are what a fresh fold comes to. Only who knows the reducers compares them:
    /// [`EventLog::verify`](crate::EventLog::verify).
    pub states: u64,
    /// How many were not compared: those behind damage that a fresh fold does not get past, and where history was pruned the oldest of
    /// each view, which the others are compared with.
    pub states_not_compared: u64,
    /// At the end of the active log: a line or a batch that is not finished. A writer is at it, or the next one mends it.
    pub unfinished_bytes: u64,
    /// Whether a rotation is not finished. A writer is at it, or the next one ends it.
    pub unfinished_rotation: bool,
    /// Files that a crash left and nobody needs; [`repair`](crate::repair) removes them.
    pub leftovers: Vec<PathBuf>,
    /// What is wrong, in the order in which it was found; the first 1,000.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// Something that is wrong with a log. Its text says what, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What is concerned.
    pub kind: ProblemKind,
    /// The file.
    pub file: PathBuf,
    /// Which text of the log's history, where it is about one.
    pub generation: Option<u64>,
    /// Where: in the text of that generation for a line, else in the file, in bytes.
    pub offset: u64,
    /// After how many events, where it is about the state of a view.
    pub sequence: Option<u64>,
    /// What is wrong there.
    pub what: String,
}

/// What a [`Problem`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A line is no event.
    Line,
    /// A frame of the archive cannot be read, or not as it was written.
    Frame,
    /// The files contradict each other.
    Files,
    /// The journal of a rotation is not as it was written.
    Journal,
    /// The cache of what the archive's frames are says something else than they do.
    Index,
    /// The kept state of a view is not as it was written, or belongs to another log.
    Snapshot,
    /// The state of a view is not what its reducer makes of the events: it was changed, or the reducer was and kept its version.
    State,
    /// The state of a view does not follow from an older one, and what that was folded from was pruned: one of them is wrong.
    PrunedState,
}

impl ProblemKind {
    fn advice(self) -> &'static str {
        match self {
            Self::Line => "repair() sets the line aside",
            Self::Frame => "repair() keeps what can be read and sets the frame aside",
            Self::Files | Self::Journal => "repair() keeps what can be read and sets the rest aside",
            Self::Index => "it is only a cache: remove it, or let repair() make it anew",
            Self::Snapshot => {
                "its view is computed anew when it is refreshed, or goes on from its base where history was pruned"
            }
            Self::PrunedState => {
                "one of the two is wrong, and the events that could tell which were pruned: compare with a copy before either is removed"
            }
            Self::State => "rebuild() the view, and give its reducer another version if that was changed",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, file, generation, offset, sequence, what } = self;
        write!(formatter, "{}", file.display())?;
        if let Some(sequence) = sequence {
            return write!(formatter, ", after {sequence} events: {what}; {}", kind.advice());
        }
        if let Some(generation) = generation {
            write!(formatter, ", generation {generation}")?;
        }
        write!(formatter, ", byte {offset}: {what}; {}", kind.advice())
    }
}

impl EventReader {
    /// Reads everything that the log has, and says what is damaged: whether each line of each generation is an event, each frame of
    /// the archive whole and as its checksum says, and whether journal, index and the views' snapshots fit to them.
    ///
    /// Changes nothing and needs no lock: it may run beside a writer. Whether a snapshot's *state* is what its reducer makes of the
    /// events only who has the reducer can tell: [`EventLog::verify`](crate::EventLog::verify) does.
    ///
    /// Cost: reads and parses all of history. Memory: some MiB, and the longest line or snapshot.
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventReader, EventWriter};
    /// use serde_json::json;
    ///
    /// let mut writer = EventWriter::open(dir.path())?;
    /// writer.append(&Event::new("click", json!({"x": 3})))?;
    /// let verified = EventReader::new(dir.path()).verify()?;
    /// assert!(verified.is_sound());
    /// assert_eq!(verified.events, 1);
    /// for problem in &verified.problems {
    ///     eprintln!("{problem}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` without an active log; else what a file operation says. Damage is no error.
    pub fn verify(&self) -> io::Result<Verification> {
        for _ in 0..TRIES {
            if let Some(verified) = Check::new(self.history()).run()? {
                return Ok(verified);
            }
        }
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "it is pruned without pause");
        Err(at("verify", &self.history().paths().archive)(busy))
    }
}

/// What is to be found at a place of the log, for a snapshot to fit.
#[derive(Debug, Clone)]
struct Wanted {
    file: PathBuf,
    is_checkpoint: bool,
    hash: String,
    /// How many events come before it, where the snapshot says.
    sequence: Option<u64>,
}

/// A frame that was read.
#[derive(Debug)]
struct Seen {
    at: u64,
    bytes: u64,
    /// `None` of one that is damaged.
    facts: Option<Facts>,
}

/// What is checked, and what was found so far.
struct Check<'a> {
    history: &'a History,
    disk: &'a dyn Disk,
    paths: &'a Paths,
    report: Verification,
    wanted: BTreeMap<Position, Vec<Wanted>>,
    first_generation: u64,
    frames: Vec<Seen>,
    /// How much of the archive was read.
    archive_end: u64,
    /// The sequence of the next line, unless lines were lost in a frame before it.
    sequence: Option<u64>,
}

/// What there is, as far as it can be told.
struct Extent {
    /// `None` if the files contradict each other.
    generation: Option<u64>,
    archive_bytes: u64,
    log_bytes: u64,
}

impl<'a> Check<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            disk: history.disk().as_ref(),
            paths: history.paths(),
            report: Verification::default(),
            wanted: BTreeMap::new(),
            first_generation: 0,
            frames: Vec::new(),
            archive_end: 0,
            sequence: Some(0),
        }
    }

    /// `None` if history was pruned meanwhile: then what was opened may not be what was looked at before.
    fn run(mut self) -> io::Result<Option<Verification>> {
        let first_generation = || self.history.present().ok().map(|present| present.first_generation);
        let began_with = first_generation();
        self.snapshots()?;
        self.leftovers()?;
        let mut contradiction = None;
        for n in 0.. {
            let extent = self.extent(&mut contradiction)?;
            self.archive(extent.archive_bytes)?;
            let before = (self.report.clone(), self.sequence, self.wanted.clone());
            self.log(&extent)?;
            // A rotation meanwhile has made a frame of the log that was being read.
            match extent.generation {
                Some(generation) if self.history.present()?.generation != generation => {}
                _ => break,
            }
            if n == TRIES {
                let busy = io::Error::new(io::ErrorKind::ResourceBusy, "it is rotated without pause");
                return Err(at("verify", &self.paths.log)(busy));
            }
            (self.report, self.sequence, self.wanted) = before;
        }
        self.index();
        if first_generation() != began_with {
            return Ok(None);
        }
        self.strangers();
        if let Some((file, offset, what)) = contradiction.filter(|_| self.report.is_sound()) {
            self.problem(ProblemKind::Files, &file, None, offset, what);
        }
        Ok(Some(self.report))
    }

    /// The generation behind the archive's frames that were read.
    fn generation(&self) -> u64 {
        self.first_generation + self.frames.len() as u64
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        file: &Path,
        generation: Option<u64>,
        offset: u64,
        what: impl Into<String>,
    ) {
        let (file, what) = (file.to_owned(), what.into());
        self.report.add(Problem { kind, file, generation, offset, sequence: None, what });
    }

    /// Which bytes count. Where readers cannot tell because something is damaged, that is noted, and all of it counts.
    fn extent(&mut self, contradiction: &mut Option<(PathBuf, u64, String)>) -> io::Result<Extent> {
        match self.history.present() {
            Ok(present) => {
                self.report.unfinished_rotation = self.bytes(&self.paths.journal)?.is_some();
                Ok(Extent {
                    generation: Some(present.generation),
                    archive_bytes: present.archive_bytes,
                    log_bytes: present.log_bytes,
                })
            }
            Err(error) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(FoldError::Damaged { file, offset, what }) => {
                        *contradiction = Some((file.clone(), *offset, what.clone()));
                    }
                    _ => return Err(error),
                }
                let log_bytes = self.bytes(&self.paths.log)?.unwrap_or(0);
                let mut archive_bytes = self.bytes(&self.paths.archive)?.unwrap_or(0);
                match Journal::read(self.disk, self.paths) {
                    Ok(Some(journal)) => {
                        self.report.unfinished_rotation = true;
                        if !journal.is_cut(log_bytes) {
                            archive_bytes = archive_bytes.min(journal.archive_bytes);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let (offset, what) = damage_in(error)?;
                        self.problem(ProblemKind::Journal, &self.paths.journal.clone(), None, offset, what);
                    }
                }
                Ok(Extent { generation: None, archive_bytes, log_bytes })
            }
        }
    }

    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.bytes(path).map_err(at("look for", path))
    }

    /// The frames of the archive up to there that were not read yet.
    fn archive(&mut self, end: u64) -> io::Result<()> {
        if end <= self.archive_end {
            return Ok(());
        }
        let path = &self.paths.archive;
        let file = self.disk.open_read(path).map_err(at("open", path))?;
        let archive = Archive::new(file, path);
        if self.archive_end == 0 {
            match archive.pruned(end) {
                Ok((pruned, from)) => {
                    self.first_generation = pruned.generations;
                    (self.sequence, self.archive_end) = (Some(pruned.events), from);
                }
                Err(error) => {
                    let (offset, what) = damage_in(error)?;
                    self.problem(ProblemKind::Frame, path, None, offset, what);
                    self.sequence = None;
                }
            }
        }
        let mut parts = Parts::new(self.disk, self.paths, &archive, (self.archive_end, end));
        while let Some(part) = parts.next()? {
            let damage = match part {
                Part::Frame(frame) => match self.frame(&archive, frame) {
                    Ok(()) => continue,
                    Err(error) => parts.damaged(frame, error)?,
                },
                Part::Damaged(damage) => damage,
            };
            let Damage { range: Range { start, end }, offset, what, is_unfinished } = damage;
            self.problem(ProblemKind::Frame, path, Some(self.generation()), offset, what);
            if is_unfinished {
                continue;
            }
            self.frames.push(Seen { at: start, bytes: end - start, facts: None });
            self.report.generations += 1;
            self.sequence = None;
        }
        self.archive_end = end;
        Ok(())
    }

    /// One frame.
    ///
    /// # Errors
    /// `Damaged`, when what could be decoded was taken.
    fn frame(&mut self, archive: &Archive, frame: Frame) -> io::Result<()> {
        let mut decoded = FrameText::new(archive, frame)?;
        let mut place = Position { generation: self.generation(), offset: 0 };
        self.begins(place);
        let (mut facts, mut text) = (Facts::of_nothing(), Vec::new());
        loop {
            let before = text.len();
            let read = decoded.read(&mut text, READ_BYTES);
            let rest = text.split_off(whole_lines_bytes_behind(&text, before));
            facts.add_lines(&text);
            self.lines(&text, &mut place, archive.path());
            text = rest;
            if read? == 0 {
                break;
            }
            if text.len() > LINE_BYTES_MAX {
                return Err(archive.damaged(frame.at, TOO_LONG));
            }
        }
        if !text.is_empty() {
            let what = "the last line has no end";
            self.problem(ProblemKind::Line, archive.path(), Some(place.generation), place.offset, what);
        }
        let facts = Facts { text_bytes: decoded.text_bytes(), hash: decoded.hash(), ..facts };
        self.frames.push(Seen { at: frame.at, bytes: frame.bytes, facts: Some(facts) });
        self.report.generations += 1;
        Ok(())
    }

    /// The active log.
    fn log(&mut self, extent: &Extent) -> io::Result<()> {
        let path = &self.paths.log;
        let file = self.disk.open_read(path).map_err(at("open", path))?;
        let mut place = Position { generation: self.generation(), offset: 0 };
        self.begins(place);
        self.report.generations += 1;
        let (mut text, mut read_to) = (Vec::new(), 0);
        while read_to < extent.log_bytes {
            let wanted = READ_BYTES.min(usize::try_from(extent.log_bytes - read_to).unwrap_or(READ_BYTES));
            let before = text.len();
            text.resize(before + wanted, 0);
            let read = file
                .read_at(text.get_mut(before..).unwrap_or_default(), read_to)
                .map_err(at("read", path))?;
            text.truncate(before + read);
            if read == 0 {
                break;
            }
            read_to += read as u64;
            let rest = text.split_off(whole_lines_bytes_behind(&text, before));
            let committed = crate::lines::committed_bytes(&text);
            let is_committed = committed == text.len();
            text.truncate(committed);
            self.lines(&text, &mut place, path);
            text = rest;
            if text.len() > LINE_BYTES_MAX {
                self.problem(ProblemKind::Line, path, Some(place.generation), place.offset, TOO_LONG);
                break;
            }
            if !is_committed {
                if Session::look(self.disk, self.paths)?.is_none() {
                    let what = format!(
                        "a line begins with {}, as a batch that was not committed does, so nobody reads on",
                        UNCOMMITTED_LINE.escape_ascii()
                    );
                    self.problem(ProblemKind::Line, path, Some(place.generation), place.offset, what);
                }
                break;
            }
        }
        self.report.unfinished_bytes = extent.log_bytes.saturating_sub(place.offset);
        Ok(())
    }

    /// Whole lines that begin at that place, which is moved behind them.
    fn lines(&mut self, text: &[u8], place: &mut Position, file: &Path) {
        for line in Lines::new(text, *place) {
            self.line(&line, file);
        }
        place.offset += text.len() as u64;
        self.report.text_bytes += text.len() as u64;
    }

    fn line(&mut self, line: &Line<'_>, file: &Path) {
        match Event::of_line(line.bytes) {
            Ok(_) => self.report.events += 1,
            Err(error) => {
                let Position { generation, offset } = line.at;
                let what = format!("the line is no event: {error}");
                self.problem(ProblemKind::Line, file, Some(generation), offset, what);
            }
        }
        self.sequence = self.sequence.map(|sequence| sequence + 1);
        for wanted in self.wanted.remove(&line.end).unwrap_or_default() {
            if wanted.hash == line_hash(line.bytes) {
                self.fits(&wanted, line.end);
            } else {
                let Position { generation, offset } = line.end;
                let what =
                    format!("another line ends at byte {offset} of generation {generation} than it says");
                self.problem(ProblemKind::Snapshot, &wanted.file, None, 0, what);
            }
        }
    }

    /// A generation begins.
    fn begins(&mut self, place: Position) {
        for wanted in self.wanted.remove(&place).unwrap_or_default() {
            self.fits(&wanted, place);
        }
    }

    /// A snapshot's place is there; its number of events may be another.
    fn fits(&mut self, wanted: &Wanted, place: Position) {
        match (wanted.sequence, self.sequence) {
            (Some(said), Some(counted)) if said != counted => {
                let Position { generation, offset } = place;
                let what = format!(
                    "it says that {said} events come before byte {offset} of generation {generation}, and there are {counted}"
                );
                self.problem(ProblemKind::Snapshot, &wanted.file, None, 0, what);
            }
            _ => self.report.snapshots += 1,
        }
    }

    /// Reads the views' files, whose places are looked for in the log afterwards.
    fn snapshots(&mut self) -> io::Result<()> {
        for (file, is_checkpoint) in files_of_views(self.disk, self.paths)? {
            // It may be gone by now.
            let Some(contents) = snapshot::read(self.disk, &file)? else { continue };
            match snapshot::decode::<IgnoredAny>(&contents) {
                Found::Whole(stored) => {
                    let Progress { position, hash, sequence, .. } = stored.progress;
                    let wanted = Wanted { file, is_checkpoint, hash, sequence: Some(sequence) };
                    self.wanted.entry(position).or_default().push(wanted);
                }
                // It may be of any generation where there is an archive, and is then not used.
                Found::Plain(plain) if self.bytes(&self.paths.archive)?.is_none() => {
                    let position = Position { generation: 0, offset: plain.offset };
                    let wanted = Wanted { file, is_checkpoint, hash: plain.hash, sequence: None };
                    self.wanted.entry(position).or_default().push(wanted);
                }
                Found::Plain(_) => {}
                // It is written without a sync, and not in one go.
                Found::Nothing(_) if is_checkpoint => self.report.leftovers.push(file),
                Found::Nothing(why) => {
                    self.problem(ProblemKind::Snapshot, &file, None, 0, why.unwrap_or("it is empty"));
                }
            }
        }
        Ok(())
    }

    fn leftovers(&mut self) -> io::Result<()> {
        self.report.leftovers.extend(leftovers(self.disk, self.paths)?);
        Ok(())
    }

    /// Snapshots of places that nobody came by.
    fn strangers(&mut self) {
        for (Position { generation, offset }, all) in std::mem::take(&mut self.wanted) {
            for wanted in all {
                if generation < self.first_generation && wanted.is_checkpoint {
                    self.report.leftovers.push(wanted.file);
                    continue;
                }
                let what = format!("no line ends at byte {offset} of generation {generation}");
                self.problem(ProblemKind::Snapshot, &wanted.file, None, 0, what);
            }
        }
    }

    /// What the cache file says, against the frames that were read.
    fn index(&mut self) {
        let mut last: BTreeMap<u64, (u64, Entry)> = BTreeMap::new();
        let mut torn = BTreeSet::new();
        index::each(self.disk, &self.paths.index, 0, |at, entry| match entry {
            Some(entry) => drop(last.insert(entry.generation, (at, entry))),
            None => drop(torn.insert(at)),
        });
        let path = &self.paths.index;
        for at in torn {
            self.problem(ProblemKind::Index, path, None, at, "the line is not as it was written");
        }
        for (generation, (at, entry)) in last {
            let seen = generation
                .checked_sub(self.first_generation)
                .and_then(|n| self.frames.get(usize::try_from(n).ok()?));
            let fits = match seen {
                // Of a frame that was archived after the archive was read, or pruned.
                None => entry.at >= self.archive_end || generation < self.first_generation,
                Some(seen) => {
                    seen.at == entry.at
                        && seen
                            .facts
                            .is_none_or(|facts| seen.bytes == entry.bytes && entry.facts() == Some(facts))
                }
            };
            if !fits {
                let what = format!("the frame of generation {generation} is not as it says");
                self.problem(ProblemKind::Index, path, Some(generation), at, what);
            }
        }
    }
}

/// The snapshots, bases and checkpoints of all views, and whether it is one of the latter.
pub(crate) fn files_of_views(disk: &dyn Disk, paths: &Paths) -> io::Result<Vec<(PathBuf, bool)>> {
    let kind_of = |name: &str| {
        if name.ends_with(".snapshot.json") || base::is_base(Path::new(name)) {
            return Some(false);
        }
        let (_, sequence) = name.strip_suffix(".json")?.rsplit_once(".at-")?;
        sequence.bytes().all(|byte| byte.is_ascii_digit()).then_some(true)
    };
    let names = names(disk, &paths.views)?;
    Ok(names.into_iter().filter_map(|name| Some((paths.views.join(&name), kind_of(&name)?))).collect())
}

/// What crashes left beside the files that they were to become.
pub(crate) fn leftovers(disk: &dyn Disk, paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in [&paths.archive, &paths.index, &paths.journal] {
        let mut added = path.as_os_str().to_owned();
        added.push(".tmp");
        found.push(PathBuf::from(added));
    }
    found.push(index::former(paths));
    found.retain(|path| matches!(disk.bytes(path), Ok(Some(_))));
    for dir in [&paths.views, &paths.damaged] {
        let left = names(disk, dir)?.into_iter().filter(|name| name.strip_suffix(".tmp").is_some());
        found.extend(left.map(|name| dir.join(name)));
    }
    Ok(found)
}

fn names(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            let files = listed.map_err(at("list", dir))?.into_iter().filter(|entry| !entry.is_dir);
            Ok(files.map(|entry| entry.name).collect())
        }
    }
}
