//! The states that views keep, for who has no reducer: which files there are, and what is in one that a view could go on from.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::checkpoints;
use crate::kept::usable;
use crate::position::Position;
use crate::reader::EventReader;
use crate::snapshot::{self, Found, PassedOver, Progress};
use crate::verify::files_of_views;

/// What a file is to its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StateKind {
    /// `<view>.snapshot.json`: what it goes on from.
    Snapshot,
    /// `<view>.base.json`: what it goes on from where the snapshot is lost, its state when history was last
    /// [pruned](crate::EventLog::prune).
    Base,
    /// `<view>.at-<sequence>.json`: a state of the past.
    Checkpoint,
}

/// A file in which a view keeps a state: [`EventReader::state_files`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StateFile {
    /// The name of the view.
    pub view: String,
    /// What it is to the view.
    pub kind: StateKind,
    /// Of how many events a checkpoint is, as its name says.
    pub sequence: Option<u64>,
    /// Where it is.
    pub path: PathBuf,
}

/// A state, and which events it is of: [`EventReader::read_state`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KeptState<S> {
    /// What the view came to.
    pub state: S,
    /// Where the events end that it is of.
    pub position: Position,
    /// How many they are.
    pub sequence: u64,
    /// The latest time of those, in seconds; 0 before the first. `None` if the program that wrote it did not say.
    pub max_ts: Option<u64>,
    /// The [version](crate::ViewOptions::version) of the reducer that made it.
    pub version: u64,
    /// Damaged lines that it lacks.
    pub passed_over: Option<PassedOver>,
}

/// What reading a [`StateFile`] came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateFound<S> {
    /// A state that fits the log.
    Kept(KeptState<S>),
    /// A view would not go on from it, for this reason.
    Unusable(&'static str),
    /// It is not there any more.
    Gone,
}

impl EventReader {
    /// The files in which views keep their states, by the names of the views; of each view its snapshot first, and its checkpoints in
    /// their order. Nothing is read but the directory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, StateFound};
    /// use serde_json::{Value, json};
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("clicks", |clicks, _| clicks + 1).open()?;
    /// log.append(&Event::new("click", json!({ "x": 3 })))?;
    /// log.refresh_all()?;
    ///
    /// let reader = log.reader();
    /// for file in reader.state_files()? {
    ///     if let StateFound::Kept(kept) = reader.read_state::<Value>(&file)? {
    ///         println!("{} after {} events: {}", file.view, kept.sequence, kept.state);
    ///         # assert_eq!((file.view.as_str(), kept.sequence, kept.state), ("clicks", 1, json!(1)));
    ///     }
    /// }
    /// # assert_eq!(reader.state_files()?.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What listing the directory of the views says, but for `NotFound`.
    pub fn state_files(&self) -> io::Result<Vec<StateFile>> {
        let found = files_of_views(&**self.history().disk(), self.history().paths())?;
        let mut files: Vec<StateFile> = found.into_iter().filter_map(|(path, _)| file_of(path)).collect();
        files.sort_unstable();
        Ok(files)
    }

    /// Reads one of the [`state_files`](Self::state_files), and looks whether its events are those of the log. Whether its state is what
    /// the reducer makes of them only who has that can tell: [`EventLog::verify`](crate::EventLog::verify).
    ///
    /// Cost: reads and parses the file; for one whose last event is archived, decodes its generation up to there.
    ///
    /// # Errors
    /// What a file operation says; `Damaged` if the archive and the log contradict each other, or cannot be decoded up to there.
    pub fn read_state<S: DeserializeOwned>(&self, file: &StateFile) -> io::Result<StateFound<S>> {
        let history = self.history();
        let Some(contents) = snapshot::read(&**history.disk(), &file.path)? else {
            return Ok(StateFound::Gone);
        };
        let found = snapshot::decode::<S>(&contents);
        match (&found, file.sequence) {
            (Found::Whole(stored), Some(sequence)) if stored.progress.sequence != sequence => {
                return Ok(StateFound::Unusable("its name says another number of events"));
            }
            (Found::Plain(_), Some(_)) => {
                return Ok(StateFound::Unusable("it does not say of which events it is"));
            }
            _ => {}
        }
        // Later than the file: so the history has what was there when it was written.
        let present = history.present()?;
        Ok(match usable(found, history, &present, None)? {
            Err(why) => StateFound::Unusable(why),
            Ok(stored) => {
                let Progress { position, sequence, passed_over, max_ts, .. } = stored.progress;
                let max_ts = (max_ts != checkpoints::UNKNOWN_TS).then_some(max_ts);
                let (state, version) = (stored.state, stored.reducer);
                StateFound::Kept(KeptState { state, position, sequence, max_ts, version, passed_over })
            }
        })
    }
}

/// What a file is by its name.
fn file_of(path: PathBuf) -> Option<StateFile> {
    let (view, kind, sequence) = parts(Path::new(path.file_name()?).to_str()?)?;
    Some(StateFile { view: view.to_owned(), kind, sequence, path })
}

fn parts(name: &str) -> Option<(&str, StateKind, Option<u64>)> {
    if let Some(view) = name.strip_suffix(".snapshot.json") {
        return Some((view, StateKind::Snapshot, None));
    }
    if let Some(view) = name.strip_suffix(".base.json") {
        return Some((view, StateKind::Base, None));
    }
    let (view, sequence) = name.strip_suffix(".json")?.rsplit_once(".at-")?;
    let is_number = sequence.bytes().all(|byte| byte.is_ascii_digit());
    Some((view, StateKind::Checkpoint, Some(sequence.parse().ok().filter(|_| is_number)?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk};
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Event;
    use crate::log::EventLog;
    use crate::view_options::{Checkpoints, ViewOptions};

    #[test]
    fn files_are_told_by_their_names() {
        for (name, right) in [
            ("todos.snapshot.json", Some(("todos", StateKind::Snapshot, None))),
            ("a.at-7.snapshot.json", Some(("a.at-7", StateKind::Snapshot, None))),
            ("todos.base.json", Some(("todos", StateKind::Base, None))),
            ("todos.at-5000.json", Some(("todos", StateKind::Checkpoint, Some(5000)))),
            ("todos.at-.json", None),
            ("todos.at-+5.json", None),
            ("todos.at-5x.json", None),
            ("todos.snapshot.json.tmp", None),
            ("owed.store.json", None),
        ] {
            assert_eq!(parts(name), right, "{name}");
        }
    }

    fn tick(ts: u64) -> Event {
        Event { ts, ..Event::new("tick", json!(null)) }
    }

    fn counted(disk: &MemoryDisk, events: u64) -> EventLog {
        let options = ViewOptions::default().checkpoints(Checkpoints::every(2)).version(3);
        let builder = EventLog::builder("app").disk(Arc::new(disk.clone()));
        let mut log = builder.view_with::<u64>("count", options, |count, _| count + 1).open().unwrap();
        for n in 0..events {
            log.append(&tick(100 + n)).unwrap();
        }
        log.refresh_all().unwrap();
        log
    }

    /// Of each file its kind, how many events it is of and its state, or what is wrong with it.
    fn told(log: &EventLog) -> Vec<(StateKind, Result<(u64, Value), &'static str>)> {
        let reader = log.reader();
        let files = reader.state_files().unwrap().into_iter();
        let told = files.map(|file| match reader.read_state(&file).unwrap() {
            StateFound::Kept(kept) => {
                assert_eq!(kept.version, 3);
                assert_eq!(kept.max_ts, Some(99 + kept.sequence));
                (file.kind, Ok((kept.sequence, kept.state)))
            }
            StateFound::Unusable(why) => (file.kind, Err(why)),
            StateFound::Gone => panic!("{} is gone", file.path.display()),
        });
        told.collect()
    }

    #[test]
    fn states_are_read_without_their_reducer() {
        use StateKind::{Base, Checkpoint, Snapshot};
        let disk = MemoryDisk::default();
        let mut log = counted(&disk, 5);
        let of = |kind, sequence: u64| (kind, Ok((sequence, json!(sequence))));
        assert_eq!(told(&log), [of(Snapshot, 5), of(Checkpoint, 2), of(Checkpoint, 4)]);
        // Their events are archived, and pruned up to a base.
        log.rotate().unwrap();
        assert_eq!(told(&log), [of(Snapshot, 5), of(Checkpoint, 2), of(Checkpoint, 4)]);
        log.append(&tick(105)).unwrap();
        log.rotate().unwrap();
        log.refresh_all().unwrap();
        log.prune(5).unwrap();
        let states = told(&log);
        assert!(states.contains(&of(Snapshot, 6)) && states.contains(&of(Checkpoint, 6)), "{states:?}");
        assert!(states.iter().any(|(kind, state)| *kind == Base && state.is_ok()), "{states:?}");
    }

    #[test]
    fn what_a_view_would_not_go_on_from_is_told() {
        let disk = MemoryDisk::default();
        let log = counted(&disk, 3);
        let views = Path::new("app/views");
        let (snapshot, checkpoint) = (views.join("count.snapshot.json"), views.join("count.at-2.json"));
        let contents = snapshot::read(&disk, &checkpoint).unwrap().unwrap();
        snapshot::write(&disk, &views.join("count.at-1.json"), &contents).unwrap();
        let mut changed = contents;
        let place = changed.iter().position(|byte| *byte == b'2').unwrap();
        changed[place] = b'9';
        snapshot::write(&disk, &checkpoint, &changed).unwrap();
        // Of another log.
        let stranger = MemoryDisk::default();
        drop(counted(&stranger, 2));
        let other = snapshot::read(&stranger, &snapshot).unwrap().unwrap();
        let other = String::from_utf8(other).unwrap().replace("\"offset\"", "\"offset\" ");
        snapshot::write(&disk, &snapshot, other.as_bytes()).unwrap();
        let changed = "its checksum does not fit, so it was changed since it was written";
        assert_eq!(
            told(&log),
            [
                (StateKind::Snapshot, Err(changed)),
                (StateKind::Checkpoint, Err("its name says another number of events")),
                (StateKind::Checkpoint, Err(changed)),
            ]
        );
    }

    #[test]
    fn a_file_of_another_program_has_three_keys() {
        let disk = MemoryDisk::default();
        let log = counted(&disk, 2);
        let reader = log.reader();
        let end = reader.end_position().unwrap();
        let hash = reader.read_line_hash_before(end.offset).unwrap().unwrap();
        let path = Path::new("app/views/theirs.snapshot.json");
        let plain = |offset: u64| format!("{{\"state\": 42, \"offset\": {offset}, \"hash\": \"{hash}\"}}");
        let read = |text: &str| {
            snapshot::write(&disk, path, text.as_bytes()).unwrap();
            let file = reader.state_files().unwrap().pop().unwrap();
            reader.read_state::<u64>(&file).unwrap()
        };
        let StateFound::Kept(kept) = read(&plain(end.offset)) else { panic!("it fits") };
        assert_eq!((kept.state, kept.sequence, kept.max_ts, kept.version), (42, 2, None, 0));
        assert_eq!(read(&plain(end.offset - 1)), StateFound::Unusable("it does not fit the log"));
        let file = reader.state_files().unwrap().pop().unwrap();
        disk.remove(path).unwrap();
        assert_eq!(reader.read_state::<u64>(&file).unwrap(), StateFound::Gone);
    }
}
