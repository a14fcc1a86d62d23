//! The state of a view, how far it has come, and its file: the part that views of any reducer share.
//!
//! A refresh is a *run*: it is entered with the history that it is about, takes rows, and is left. What it comes to is kept apart until
//! then, so a reducer that panics leaves everything as it was. It knows nothing of events: how one is folded is told to it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, RealDisk};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::base;
use crate::checkpoints;
use crate::directory::Present;
use crate::error::FoldError;
use crate::hash::line_hash;
use crate::history::History;
use crate::lines::Block;
use crate::paths::check_view_name;
use crate::position::Position;
use crate::rows::{Place, Reading, Row};
use crate::snapshot::{self, Found, Progress, Snapshot, Stored};
use crate::tail::is_event;
use crate::view_options::{SnapshotPolicy, ViewOptions};

/// Makes the bytes of a file of a state.
type Encode<S> = fn(&S, &Progress, u64) -> io::Result<Vec<u8>>;

pub(crate) struct Kept<S> {
    pub(crate) name: String,
    pub(crate) options: ViewOptions,
    views_dir: PathBuf,
    snapshot_path: PathBuf,
    disk: Arc<dyn Disk>,
    pub(crate) state: S,
    pub(crate) progress: Progress,
    /// Whether the state is one that was verified or computed, not only the default.
    loaded: bool,
    /// How often the state may have changed: the same number, the same state.
    pub(crate) changes: u64,
    /// Whether the state has changed since it was last written.
    unsaved: bool,
    /// The sequence that the file is at.
    saved_sequence: u64,
    /// How many events of unknown types were passed over.
    pub(crate) unknown_events: u64,
    run: Option<Run<S>>,
    /// Here, so that dropping a view can save it whatever its type.
    encode: Encode<S>,
}

/// What a refresh under way has come to.
pub(crate) struct Run<S> {
    /// `None` only while a reducer has it.
    state: Option<S>,
    pub(crate) progress: Progress,
    folded: u64,
    unknown: u64,
    kind: Kind,
    /// Why it stopped.
    error: Option<io::Error>,
}

/// What a run goes on from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on from the state in memory.
    On,
    /// Goes on from the state on disk.
    Loaded,
    /// From the beginning, since there is no state yet.
    First,
    /// From the beginning, in place of a state: taken only if it comes to the end.
    Instead,
}

/// A moment of the past.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// When so many events had happened.
    Sequence(u64),
    /// Before the first event that is later than this, in seconds.
    Time(u64),
}

impl Moment {
    /// Whether a view that has come so far has left it behind.
    fn is_before(self, progress: &Progress) -> bool {
        match self {
            Self::Sequence(end) => progress.sequence > end,
            Self::Time(end) => progress.max_ts > end,
        }
    }

    /// Whether the event of that time, which comes next, was before it.
    pub(crate) fn includes(self, progress: &Progress, ts: u64) -> bool {
        match self {
            Self::Sequence(end) => progress.sequence < end,
            Self::Time(end) => ts <= end,
        }
    }
}

/// A state that a view keeps.
pub(crate) struct Keeping<S> {
    pub(crate) sequence: u64,
    /// Where it is, or would be kept.
    pub(crate) file: PathBuf,
    pub(crate) is_in_memory: bool,
    /// `None` of one of the past, which is read when it is wanted.
    state: Option<(S, Progress)>,
}

/// What rows come from: some lines of a history.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) block: &'a Block,
    pub(crate) history: &'a History,
    pub(crate) present: &'a Present,
}

impl<S> Run<S> {
    pub(crate) fn of(state: S, progress: Progress) -> Self {
        Self { state: Some(state), progress, folded: 0, unknown: 0, kind: Kind::On, error: None }
    }

    /// One that was made elsewhere.
    #[cfg(feature = "engine")]
    pub(crate) fn ended(state: S, progress: Progress, folded: u64, kind: Kind) -> Self {
        Self { folded, kind, ..Self::of(state, progress) }
    }

    /// Why it stopped, if not because it was at its end.
    pub(crate) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// What it came to, or why it stopped.
    pub(crate) fn end(self) -> io::Result<(S, Progress)> {
        match (self.error, self.state) {
            (None, Some(state)) => Ok((state, self.progress)),
            (Some(error), _) => Err(error),
            (None, None) => unreachable!("a run whose reducer panicked is not asked"),
        }
    }

    /// Folds the rows behind its position, as long as `wants` agrees with the next one's sequence and time. Returns whether it goes on
    /// behind this block. `passed` is told each place that it comes to.
    pub(crate) fn fold<T>(
        &mut self,
        source: Source<'_>,
        rows: impl Iterator<Item = Row<T>>,
        skip_damaged: bool,
        mut step: impl FnMut(S, T, u64) -> S,
        wants: impl Fn(&Progress, u64) -> bool,
        mut passed: impl FnMut(&S, &Progress, Place),
    ) -> bool {
        let Some(mut state) = self.state.take() else { return false };
        let mut last = None;
        let mut goes_on = true;
        for Row { place, reading } in rows {
            let end = Position { generation: source.block.at.generation, offset: place.end };
            if end <= self.progress.position {
                continue;
            }
            if !wants(&self.progress, place.ts) {
                goes_on = false;
                break;
            }
            match reading {
                Reading::Event(event) => state = step(state, event, self.progress.sequence),
                Reading::Unknown => self.unknown += 1,
                Reading::Bad(why) => {
                    let error = bad_line(source, place, &why);
                    if !skip_damaged {
                        self.error = Some(error);
                        goes_on = false;
                        break;
                    }
                    warn!("passed over: {error}");
                    self.progress
                        .pass_over(Position { offset: source.block.at.offset + place.start as u64, ..end });
                }
            }
            self.folded += 1;
            self.progress.position = end;
            self.progress.sequence += 1;
            self.progress.max_ts = self.progress.max_ts.max(place.ts);
            last = Some(place);
            passed(&state, &self.progress, place);
        }
        if let Some(place) = last {
            self.progress.hash = hash_of(source.block, place);
        }
        self.state = Some(state);
        goes_on
    }
}

/// The hash of the line at this place of a block.
pub(crate) fn hash_of(block: &Block, place: Place) -> String {
    line_hash(block.text.get(place.start..place.start + place.bytes).unwrap_or_default())
}

fn bad_line(source: Source<'_>, place: Place, why: &str) -> io::Error {
    let paths = source.history.paths();
    let Position { generation, offset } = source.block.at;
    let file = if generation < source.present.generation { &paths.archive } else { &paths.log };
    let (file, offset, why) = (file.clone(), offset + place.start as u64, why.to_owned());
    let line = source.block.text.get(place.start..place.start + place.bytes).unwrap_or_default();
    if is_event(line) {
        FoldError::UnfitEvent { file, generation, offset, why }.into()
    } else {
        FoldError::BadLine { file, generation, offset, why }.into()
    }
}

impl<S> Kept<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    pub(crate) fn new(name: &str, views_dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            options: ViewOptions::default(),
            views_dir: views_dir.to_owned(),
            snapshot_path: views_dir.join(format!("{name}.snapshot.json")),
            disk: Arc::new(RealDisk),
            state: S::default(),
            progress: Progress::default(),
            loaded: false,
            changes: 0,
            unsaved: false,
            saved_sequence: 0,
            unknown_events: 0,
            run: None,
            encode: snapshot::encode,
        }
    }

    /// Of a store, with a file of its own name: that of a log's view says other things.
    #[cfg(feature = "engine")]
    pub(crate) fn of_store(name: &str, views_dir: &Path) -> Self {
        let mut kept = Self::new(name, views_dir);
        kept.snapshot_path = views_dir.join(format!("{name}.store.json"));
        kept
    }

    pub(crate) fn on_disk(&mut self, disk: Arc<dyn Disk>) {
        self.disk = disk;
    }

    /// Begins a refresh: from memory, else from the file if it fits this history, else from the beginning.
    pub(crate) fn enter(&mut self, history: &History, present: &Present) -> io::Result<()> {
        self.run = None;
        check_view_name(&self.name)?;
        self.disk = Arc::clone(history.disk());
        pass_pruned(present, &mut self.progress);
        if !self.loaded {
            self.run = Some(match self.load(history, present)? {
                Some(found) => Run { kind: Kind::Loaded, ..found },
                None => Run { kind: Kind::First, ..self.anew(present)? },
            });
        } else if !self.is_at_the_end(present) && !continues(history, present, &self.progress)? {
            warn!("the view {:?} does not fit its log any longer, and is computed anew", self.name);
            // Where history was pruned what is on disk may be all that there is to go on from.
            let kept = if present.first_generation > 0 { self.load(history, present)? } else { None };
            self.run = Some(match kept {
                Some(found) => Run { kind: Kind::Loaded, ..found },
                None => self.anew(present)?,
            });
        }
        Ok(())
    }

    /// Begins from the beginning, whatever there is.
    pub(crate) fn enter_anew(&mut self, history: &History, present: &Present) -> io::Result<()> {
        self.run = None;
        check_view_name(&self.name)?;
        self.disk = Arc::clone(history.disk());
        self.run = Some(self.anew(present)?);
        Ok(())
    }

    /// So that a refresh of a log that did not change reads nothing.
    fn is_at_the_end(&self, present: &Present) -> bool {
        self.progress.position == Position { generation: present.generation, offset: present.log_bytes }
    }

    fn anew(&self, present: &Present) -> io::Result<Run<S>> {
        let (state, progress) = self.beginning(present)?;
        // Whatever made the state doubtful, the older ones are of the same making.
        checkpoints::delete_all(&*self.disk, &self.views_dir, &self.name)?;
        Ok(Run { kind: Kind::Instead, ..Run::of(state, progress) })
    }

    /// The state of the view's file; where history was pruned and that is of no use, of its base.
    fn load(&self, history: &History, present: &Present) -> io::Result<Option<Run<S>>> {
        let found = self.load_from(&self.snapshot_path, history, present)?;
        if found.is_some() || present.first_generation == 0 {
            return Ok(found);
        }
        self.load_from(&base::path_of(&self.views_dir, &self.name), history, present)
    }

    fn load_from(&self, path: &Path, history: &History, present: &Present) -> io::Result<Option<Run<S>>> {
        let Some(contents) = snapshot::read(&*self.disk, path)? else { return Ok(None) };
        match usable(snapshot::decode::<S>(&contents), history, present, Some(self.options.version))? {
            Ok(stored) => Ok(Some(Run::of(stored.state, stored.progress))),
            Err(why) => {
                warn!("{} is not used, since {why}", path.display());
                Ok(None)
            }
        }
    }

    /// Where the refresh under way goes on.
    pub(crate) fn position(&self) -> Position {
        self.run.as_ref().map_or(self.progress.position, |run| run.progress.position)
    }

    /// Takes the rows of a block. Returns whether it wants more.
    pub(crate) fn fold<T>(
        &mut self,
        source: Source<'_>,
        rows: impl Iterator<Item = Row<T>>,
        step: impl FnMut(S, T, u64) -> S,
    ) -> bool {
        let options = self.options;
        let (disk, dir, name, encode) = (&self.disk, &self.views_dir, &self.name, self.encode);
        let run = self.run.get_or_insert_with(|| Run::of(self.state.clone(), self.progress.clone()));
        let mut distance = options.checkpoints.map(|kept| kept.distance(run.progress.sequence));
        let checkpoint = |state: &S, progress: &Progress, place: Place| {
            if let (Some(every), Some(kept)) = (&mut distance, options.checkpoints)
                && progress.sequence.is_multiple_of(*every)
            {
                let wider = kept.distance(progress.sequence);
                let progress = Progress { hash: hash_of(source.block, place), ..progress.clone() };
                let contents = || encode(state, &progress, options.version);
                let widened = (*every != wider).then_some(wider);
                checkpoints::keep(&**disk, dir, name, progress.sequence, contents, widened);
                *every = wider;
            }
        };
        run.fold(source, rows, options.skip_damaged, step, |_, _| true, checkpoint)
    }

    /// Ends a refresh: takes what it came to, as far as that is good, and writes the file if it is time. `complete`: the history
    /// was read to its end.
    pub(crate) fn leave(&mut self, present: &Present, complete: bool) -> io::Result<()> {
        let mut result = Ok(());
        let mut stopped = !complete;
        if let Some(mut run) = self.run.take() {
            if let Some(error) = run.error.take() {
                result = Err(error);
                stopped = true;
            }
            if stopped && run.kind == Kind::Instead {
                return result;
            }
            let anew = matches!(run.kind, Kind::First | Kind::Instead);
            self.take(run);
            if anew && present.first_generation == 0 && !self.is_time_to_save() {
                // What is there is of no use, could be computed again, and would only be looked at.
                snapshot::delete_on(&*self.disk, &self.snapshot_path)?;
            }
        }
        let here = self.progress.position.generation;
        if !stopped && here < present.generation {
            // Everything below was folded; so the next refresh need not look at the archive again.
            self.progress.position = Position { generation: present.generation, offset: 0 };
            self.progress.hash.clear();
        }
        let saved = if self.is_time_to_save() { self.save() } else { Ok(()) };
        result.and(saved)
    }

    /// The state on disk, for a view of what has no [`History`]: unless there is one in memory, or that on disk is of no use.
    #[cfg(feature = "engine")]
    pub(crate) fn stored(&self) -> io::Result<Option<Stored<S>>> {
        check_view_name(&self.name)?;
        if self.loaded {
            return Ok(None);
        }
        let Some(contents) = snapshot::read(&*self.disk, &self.snapshot_path)? else { return Ok(None) };
        match snapshot::decode::<S>(&contents) {
            Found::Whole(stored) if stored.reducer == self.options.version => Ok(Some(stored)),
            _ => {
                warn!(
                    "{} is not used: it was changed, or another reducer made it",
                    self.snapshot_path.display()
                );
                Ok(None)
            }
        }
    }

    /// Takes a run that came to its end elsewhere.
    #[cfg(feature = "engine")]
    pub(crate) fn settle(&mut self, run: Run<S>) -> io::Result<()> {
        if !self.loaded {
            self.disk.create_dir(&self.views_dir).map_err(crate::error::at("create", &self.views_dir))?;
        }
        self.take(run);
        Ok(())
    }

    #[cfg(feature = "engine")]
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    fn take(&mut self, run: Run<S>) {
        let anew = matches!(run.kind, Kind::First | Kind::Instead);
        let Run { state: Some(state), progress, folded, unknown, kind, .. } = run else {
            unreachable!("a run whose reducer panicked is not left");
        };
        self.unknown_events += unknown;
        self.state = state;
        self.loaded = true;
        self.unsaved |= folded > 0;
        self.changes += u64::from(folded > 0 || kind != Kind::On);
        if kind == Kind::Loaded {
            self.saved_sequence = progress.sequence.saturating_sub(folded);
        }
        self.progress = progress;
        if anew {
            self.saved_sequence = 0;
            self.unsaved = folded > 0;
        }
    }

    pub(crate) fn is_time_to_save(&self) -> bool {
        self.unsaved
            && match self.options.snapshots {
                SnapshotPolicy::EachRefresh => true,
                SnapshotPolicy::EveryEvents(events) => {
                    self.progress.sequence.saturating_sub(self.saved_sequence) >= events
                }
                SnapshotPolicy::OnClose | SnapshotPolicy::Manual => false,
            }
    }

    /// Whether a view like this one could go on from a file with these contents.
    pub(crate) fn can_read(&self, contents: &[u8]) -> bool {
        matches!(snapshot::decode::<S>(contents), Found::Whole(stored) if stored.reducer == self.options.version)
    }

    /// Moves on to the next generation after a rotation, if all of this one was folded, and writes the file.
    pub(crate) fn rotated(&mut self, end: Position) -> io::Result<()> {
        if self.progress.position == end {
            self.begin_next();
        }
        if self.loaded { self.save() } else { Ok(()) }
    }

    /// As after a rotation that archived everything up to here.
    pub(crate) fn reset_offset(&mut self) -> io::Result<()> {
        if !self.loaded {
            return Ok(());
        }
        self.begin_next();
        self.save()
    }

    fn begin_next(&mut self) {
        self.progress.position = Position { generation: self.progress.position.generation + 1, offset: 0 };
        self.progress.hash.clear();
        self.unsaved = true;
    }

    /// The latest state there is, in memory or on disk, that a view on its way to this moment came through.
    pub(crate) fn nearest(
        &self,
        history: &History,
        present: &Present,
        moment: Moment,
    ) -> io::Result<(S, Progress)> {
        check_view_name(&self.name)?;
        let disk = &**history.disk();
        let fits = |progress: &Progress| {
            Ok::<_, io::Error>(!moment.is_before(progress) && continues(history, present, progress)?)
        };
        let newest = if self.loaded {
            fits(&self.progress)?.then(|| (self.state.clone(), self.progress.clone()))
        } else {
            match self.load(history, present)? {
                Some(run) if fits(&run.progress)? => Some(run.end()?),
                _ => None,
            }
        };
        let least = newest.as_ref().map_or(0, |(_, progress)| progress.sequence);
        let kept = checkpoints::list(disk, &self.views_dir, &self.name)?;
        // Both grow from one to the next, so that few of the files need to be looked into.
        let ends = kept.partition_point(|(sequence, path)| match moment {
            Moment::Sequence(end) => *sequence <= end,
            Moment::Time(end) => checkpoints::peek_max_ts(disk, path).is_some_and(|ts| ts <= end),
        });
        for (sequence, path) in kept.into_iter().take(ends).rev() {
            if sequence <= least {
                break;
            }
            if let Some(found) = checkpoints::read::<S>(disk, &path, sequence, self.options.version)
                && fits(&found.progress)?
            {
                return Ok((found.state, found.progress));
            }
        }
        newest.map_or_else(|| self.beginning(present), Ok)
    }

    /// All states that it may go on from: that in memory, those of its file and its base, and those of the past.
    pub(crate) fn keepings(&self, history: &History, present: &Present) -> io::Result<Vec<Keeping<S>>> {
        check_view_name(&self.name)?;
        let keeping = |(state, progress): (S, Progress), file: &Path, is_in_memory| Keeping {
            sequence: progress.sequence,
            file: file.to_owned(),
            is_in_memory,
            state: Some((state, progress)),
        };
        let mut keepings = Vec::new();
        if self.loaded {
            keepings.push(keeping((self.state.clone(), self.progress.clone()), &self.snapshot_path, true));
        }
        for file in [&self.snapshot_path, &base::path_of(&self.views_dir, &self.name)] {
            if let Some(run) = self.load_from(file, history, present)? {
                keepings.push(keeping(run.end()?, file, false));
            }
        }
        let past = checkpoints::list(&**history.disk(), &self.views_dir, &self.name)?;
        let of_past = |(sequence, file)| Keeping { sequence, file, is_in_memory: false, state: None };
        keepings.extend(past.into_iter().map(of_past));
        Ok(keepings)
    }

    /// What is kept there, if it fits the log.
    pub(crate) fn open(
        &self,
        keeping: Keeping<S>,
        history: &History,
        present: &Present,
    ) -> io::Result<Option<(S, Progress)>> {
        let Some((state, progress)) = self.read(keeping) else { return Ok(None) };
        Ok(continues(history, present, &progress)?.then_some((state, progress)))
    }

    /// The state that is kept there, if it can be read.
    pub(crate) fn state_of(&self, keeping: Keeping<S>) -> Option<S> {
        Some(self.read(keeping)?.0)
    }

    fn read(&self, keeping: Keeping<S>) -> Option<(S, Progress)> {
        let Keeping { sequence, file, state, .. } = keeping;
        let read = || checkpoints::read::<S>(&*self.disk, &file, sequence, self.options.version);
        state.or_else(|| read().map(|stored| (stored.state, stored.progress)))
    }

    /// Where a view begins that has nothing to go on from.
    pub(crate) fn beginning(&self, present: &Present) -> io::Result<(S, Progress)> {
        beginning(&self.options, present)
    }
}

impl<S> Kept<S> {
    /// Writes the file, whatever the policy.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        check_view_name(&self.name)?;
        let contents = (self.encode)(&self.state, &self.progress, self.options.version)?;
        snapshot::write(&*self.disk, &self.snapshot_path, &contents)?;
        self.unsaved = false;
        self.saved_sequence = self.progress.sequence;
        Ok(())
    }

    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    pub(crate) fn describe(&self, kind: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result
    where
        S: fmt::Debug,
    {
        formatter
            .debug_struct(kind)
            .field("name", &self.name)
            .field("snapshot_path", &self.snapshot_path)
            .field("state", &self.state)
            .field("position", &self.progress.position)
            .finish_non_exhaustive()
    }
}

impl<S> Drop for Kept<S> {
    fn drop(&mut self) {
        if self.options.snapshots == SnapshotPolicy::OnClose
            && self.unsaved
            && let Err(error) = self.save()
        {
            warn!("the view {:?} could not be saved when it was closed: {error}", self.name);
        }
    }
}

/// Where a view begins that has nothing to go on from.
fn beginning<S: Default>(options: &ViewOptions, present: &Present) -> io::Result<(S, Progress)> {
    if present.first_sequence > 0 && !options.after_pruned {
        return Err(FoldError::Pruned { first: present.first_sequence }.into());
    }
    let position = Position { generation: present.first_generation, offset: 0 };
    let sequence = present.first_sequence;
    Ok((S::default(), Progress { position, sequence, ..Progress::default() }))
}

/// Goes on with the first generation that is left, if what was pruned is just what such a state was folded from.
fn pass_pruned(present: &Present, progress: &mut Progress) {
    if progress.position.generation < present.first_generation && progress.sequence == present.first_sequence
    {
        progress.position = Position { generation: present.first_generation, offset: 0 };
        progress.hash.clear();
    }
}

/// The state of a file, if a view whose reducer has this version could go on from it, of any version if that is `None`; else why not.
pub(crate) fn usable<S>(
    found: Found<S>,
    history: &History,
    present: &Present,
    version: Option<u64>,
) -> io::Result<Result<Stored<S>, &'static str>> {
    const STRANGER: &str = "it does not fit the log";
    Ok(match found {
        Found::Nothing(why) => Err(why.unwrap_or("it is empty")),
        Found::Whole(stored) if version.is_some_and(|version| version != stored.reducer) => {
            Err("another version of its reducer made it")
        }
        Found::Whole(mut stored) => {
            pass_pruned(present, &mut stored.progress);
            if continues(history, present, &stored.progress)? { Ok(stored) } else { Err(STRANGER) }
        }
        // It says of no generation, so only where there was one alone it can be meant.
        Found::Plain(Snapshot { state, offset, hash })
            if present.archive_bytes == 0 && version.unwrap_or(0) == 0 =>
        {
            let position = Position { generation: present.generation, offset };
            let sequence = present.first_sequence;
            let mut progress = Progress { position, hash, sequence, ..Progress::default() };
            if !continues(history, present, &progress)? {
                return Ok(Err(STRANGER));
            }
            if offset > 0 {
                progress.sequence = history.sequence_of(position)?;
                progress.max_ts = checkpoints::UNKNOWN_TS;
            }
            Ok(Stored { state, progress, reducer: 0 })
        }
        Found::Plain(_) => Err("it may be older than the archive"),
    })
}

/// Whether this history is the one that such a state was folded from: the line that ended there still does, in a log that may have
/// been cut before.
pub(crate) fn continues(history: &History, present: &Present, progress: &Progress) -> io::Result<bool> {
    let Position { generation, offset } = progress.position;
    if generation > present.generation || generation < present.first_generation {
        return Ok(false);
    }
    Ok(offset == 0 || history.hash_before(progress.position)?.as_deref() == Some(&*progress.hash))
}
