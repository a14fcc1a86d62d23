//! Snapshots: files that keep the state a view came to, so that nothing needs to be folded twice.
//!
//! They are caches, as long as nothing was [pruned](crate::EventLog::prune). A file that cannot be read, or that does not fit the log, is as
//! good as none: the view is computed anew, or, where it cannot be, goes on from `<name>.base.json`, the snapshot that pruning kept.
//!
//! ```text
//! $ cat views/todos.snapshot.json
//! {
//!   "state": { "items": [ "buy milk" ] },
//!   "offset": 1284,
//!   "hash": "a3f2e1b09c4d5e6f",
//!   "generation": 2,
//!   "sequence": 5120,
//!   "passed_over": { "lines": 2, "sequence": 17, "generation": 0, "offset": 1101 },
//!   "max_ts": 1700000000,
//!   "reducer": 1,
//!   "checksum": "45ab6734b21e6968"
//! }
//! ```
//! `offset` is where the folded events end in the text of that generation, `hash` is [`line_hash`] of the line that
//! ends there, `sequence` how many events were folded, `passed_over` how many damaged lines the state lacks and where the first
//! is (the key is there only if any are), `max_ts` the latest time of all, `reducer` the version of the reducer, `checksum` the same
//! hash of all bytes before its own line. The files that [`save`] writes have the first three
//! keys only; [`load`] reads both.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use keplordb_disk::{Disk, RealDisk, put_in_place, read_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checked::NUMBER_MAX;
use crate::error::at;
use crate::hash::line_hash;
use crate::position::Position;

/// How often a save tries again where another process saves a view of the same name at the same moment.
const SAVE_ATTEMPTS: usize = 4;

/// The state of a view, and where in the active log the events end that it was folded from.
///
/// ```
/// use keplordb_fold::Snapshot;
///
/// let snapshot = Snapshot::new(vec!["buy milk".to_owned()], 1284, "a3f2e1b09c4d5e6f".to_owned());
/// assert_eq!(snapshot.offset, 1284);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot<S> {
    /// The state.
    pub state: S,
    /// Where the last folded line ends, its newline included, in bytes of the active log.
    pub offset: u64,
    /// [`line_hash`] of that line; empty at offset 0.
    pub hash: String,
}

impl<S> Snapshot<S> {
    /// A snapshot of these three.
    pub fn new(state: S, offset: u64, hash: String) -> Self {
        Self { state, offset, hash }
    }
}

/// Writes a snapshot, replacing the one that is there: after it returns, and after any later crash, the file is the new one; a crash
/// during the call leaves the new or the old one.
///
/// It goes to a file whose name has `.tmp` added, is synced, renamed, and the directory is synced. The directory must be there.
/// ```
/// use keplordb_fold::{Snapshot, snapshot};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("counter.snapshot.json");
/// snapshot::save(&path, &Snapshot::new(42_u64, 0, String::new()))?;
/// assert_eq!(snapshot::load(&path)?, Some(Snapshot::new(42_u64, 0, String::new())));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `InvalidData` if the state cannot be JSON (a map whose keys are no texts, for instance), else what a file operation says; the
/// old file is then still there.
pub fn save<S: Serialize>(path: &Path, snapshot: &Snapshot<S>) -> io::Result<()> {
    write(&RealDisk, path, &to_pretty(snapshot)?)
}

/// Reads a snapshot. `None` if there is none, or none that can be read: garbage, cut short, or of another shape.
///
/// Keys beyond the three are passed over, and a checksum is not looked at: a [`View`](crate::View) does both.
/// ```
/// use keplordb_fold::{Snapshot, snapshot};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("counter.snapshot.json");
/// assert_eq!(snapshot::load::<u64>(&path)?, None);
/// std::fs::write(&path, "not JSON")?;
/// assert_eq!(snapshot::load::<u64>(&path)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What reading the file says, but for `NotFound`.
pub fn load<S: DeserializeOwned>(path: &Path) -> io::Result<Option<Snapshot<S>>> {
    let contents = read(&RealDisk, path)?;
    Ok(contents.and_then(|contents| serde_json::from_slice(&contents).ok()))
}

/// Removes a snapshot, and what a crashed save left beside it. To do so where nothing is there is no error.
/// ```
/// use keplordb_fold::{Snapshot, snapshot};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("counter.snapshot.json");
/// snapshot::save(&path, &Snapshot::new(42_u64, 0, String::new()))?;
/// snapshot::delete(&path)?;
/// snapshot::delete(&path)?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What removing says, but for `NotFound`.
pub fn delete(path: &Path) -> io::Result<()> {
    delete_on(&RealDisk, path)
}

/// Damaged lines that a view passed over: what its state lacks. See [`ViewOptions::skip_damaged`](crate::ViewOptions::skip_damaged).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{EventReader, View, ViewOptions};
///
/// std::fs::write(dir.path().join("app.jsonl"), "no event\n{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
/// # std::fs::create_dir(dir.path().join("views"))?;
/// let count: View<u64> = View::new("count", |count, _| count + 1, &dir.path().join("views"));
/// let mut count = count.with_options(ViewOptions::default().skip_damaged());
/// assert_eq!(*count.refresh(&EventReader::new(dir.path()))?, 1);
/// let passed_over = count.passed_over().expect("there is one");
/// assert_eq!((passed_over.lines, passed_over.sequence, passed_over.position.offset), (1, 0, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassedOver {
    /// How many.
    pub lines: u64,
    /// The number of the first: damaged lines are counted as events are.
    pub sequence: u64,
    /// Where the first begins.
    pub position: Position,
}

/// The same as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassedOverKeys {
    lines: u64,
    sequence: u64,
    generation: u64,
    offset: u64,
}

impl PassedOverKeys {
    fn of(passed_over: PassedOver) -> Self {
        let PassedOver { lines, sequence, position: Position { generation, offset } } = passed_over;
        Self { lines, sequence, generation, offset }
    }

    fn is_possible(&self) -> bool {
        let Self { lines, sequence, generation, offset } = *self;
        lines.max(sequence).max(generation).max(offset) <= NUMBER_MAX
    }

    fn value(self) -> PassedOver {
        let Self { lines, sequence, generation, offset } = self;
        PassedOver { lines, sequence, position: Position { generation, offset } }
    }
}

/// How far a view has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Where it goes on.
    pub(crate) position: Position,
    /// Of the line that ends there; empty at the beginning of a generation.
    pub(crate) hash: String,
    /// The number of the event that comes next: how many there were before.
    pub(crate) sequence: u64,
    /// Lines among them that were no events.
    pub(crate) passed_over: Option<PassedOver>,
    /// The latest time of all events so far, in seconds; 0 before the first.
    pub(crate) max_ts: u64,
}

impl Progress {
    /// Counts a damaged line that begins there, whose number is the next.
    pub(crate) fn pass_over(&mut self, position: Position) {
        let first = PassedOver { lines: 0, sequence: self.sequence, position };
        self.passed_over.get_or_insert(first).lines += 1;
    }
}

/// What a view keeps on disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored<S> {
    pub(crate) state: S,
    pub(crate) progress: Progress,
    /// Version of the reducer that made the state.
    pub(crate) reducer: u64,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found<S> {
    /// Nothing that could be used; the reason, where there is a file.
    Nothing(Option<&'static str>),
    /// Three keys and nothing that vouches for them: by [`save`], or by another program.
    Plain(Snapshot<S>),
    /// Written by [`encode`], and unchanged since.
    Whole(Stored<S>),
}

/// The keys in the order in which they stand in the file, without the checksum.
#[derive(Serialize)]
struct Keys<'a, S> {
    state: &'a S,
    offset: u64,
    hash: &'a str,
    generation: u64,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<PassedOverKeys>,
    max_ts: u64,
    reducer: u64,
}

/// The same on the way back. Everything beyond the three is optional here, so that a plain snapshot is told from a changed one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadKeys<S> {
    state: S,
    offset: u64,
    hash: String,
    generation: Option<u64>,
    sequence: Option<u64>,
    passed_over: Option<PassedOverKeys>,
    max_ts: Option<u64>,
    reducer: Option<u64>,
    checksum: Option<String>,
}

/// The bytes of a file for this state.
pub(crate) fn encode<S: Serialize>(state: &S, progress: &Progress, reducer: u64) -> io::Result<Vec<u8>> {
    object(state, progress, reducer).map(with_checksum)
}

/// The bytes of this file for another place: the text of its state stays. `None` if it is not laid out as [`encode`] does it.
pub(crate) fn moved(contents: &[u8], progress: &Progress, reducer: u64) -> io::Result<Option<Vec<u8>>> {
    // The last one is never within the state: behind it are numbers and a hash.
    let behind_state = |text: &[u8]| memchr::memmem::rfind(text, b",\n  \"offset\": ");
    let elsewhere = object(&(), progress, reducer)?;
    let state = behind_state(contents).and_then(|end| contents.get(..end));
    let state = state.filter(|text| text.starts_with(b"{\n  \"state\": "));
    let keys = behind_state(&elsewhere).and_then(|begin| elsewhere.get(begin..));
    Ok(state.zip(keys).map(|(state, keys)| with_checksum([state, keys].concat())))
}

fn object<S: Serialize>(state: &S, progress: &Progress, reducer: u64) -> io::Result<Vec<u8>> {
    let Progress { position, hash, sequence, passed_over, max_ts } = progress;
    to_pretty(&Keys {
        state,
        offset: position.offset,
        hash,
        generation: position.generation,
        sequence: *sequence,
        passed_over: passed_over.map(PassedOverKeys::of),
        max_ts: *max_ts,
        reducer,
    })
}

/// The object is opened again at its end: "\n}" makes way for one more key, which vouches for what stands before it.
fn with_checksum(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.len() - 2);
    text.extend_from_slice(b",\n");
    let checksum = line_hash(&text);
    text.extend_from_slice(checksum_line(&checksum).as_bytes());
    text
}

/// What these bytes are. Never an error: whatever they are, a view can be computed without them.
pub(crate) fn decode<S: DeserializeOwned>(text: &[u8]) -> Found<S> {
    let keys: ReadKeys<S> = match serde_json::from_slice(text) {
        Ok(keys) => keys,
        Err(_) => return Found::Nothing(Some("it cannot be read as a snapshot of this state")),
    };
    match keys {
        ReadKeys {
            state,
            offset,
            hash,
            generation: None,
            sequence: None,
            passed_over: None,
            max_ts: None,
            reducer: None,
            checksum: None,
        } => Found::Plain(Snapshot { state, offset, hash }),
        ReadKeys {
            state,
            offset,
            hash,
            generation: Some(generation),
            sequence: Some(sequence),
            passed_over,
            max_ts: Some(max_ts),
            reducer: Some(reducer),
            checksum: Some(checksum),
        } if is_vouched_for(text, &checksum)
            && offset.max(generation).max(sequence) <= NUMBER_MAX
            && passed_over.as_ref().is_none_or(PassedOverKeys::is_possible) =>
        {
            let position = Position { generation, offset };
            let passed_over = passed_over.map(PassedOverKeys::value);
            let progress = Progress { position, hash, sequence, passed_over, max_ts };
            Found::Whole(Stored { state, progress, reducer })
        }
        _ => Found::Nothing(Some("its checksum does not fit, so it was changed since it was written")),
    }
}

/// The last line of a file.
fn checksum_line(checksum: &str) -> String {
    format!("  \"checksum\": \"{checksum}\"\n}}")
}

/// Whether the text ends with this checksum, and it is that of what stands before it.
fn is_vouched_for(text: &[u8], checksum: &str) -> bool {
    let line = checksum_line(checksum);
    text.strip_suffix(line.as_bytes()).is_some_and(|before| line_hash(before) == checksum)
}

/// Reads a file of a view; `None` if there is none.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_all(disk, path, u64::MAX) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read the snapshot", path)(error)),
    }
}

/// Puts a file in place, durably.
///
/// Two processes that save a view of one name take each other's temporary file away. Neither is harmed, since what comes out is
/// either's file, or one whose checksum does not fit; so the one that notices begins anew.
pub(crate) fn write(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        match put_in_place(disk, path, |file| file.write_at(contents, 0)) {
            Err(error)
                if attempt < SAVE_ATTEMPTS
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) =>
            {
                attempt += 1;
            }
            result => break result.map_err(at("write the snapshot", path))?,
        }
    }
    let dir = dir_of(path);
    disk.sync_dir(dir).map_err(at("sync the directory", dir))
}

/// Removes a file of a view, and what a crashed save left.
pub(crate) fn delete_on(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut added = path.as_os_str().to_owned();
    added.push(".tmp");
    for path in [path.to_owned(), path.with_extension("json.tmp"), PathBuf::from(added)] {
        match disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(at("remove the snapshot", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn to_pretty(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// The directory of a file, also of one that is named without any.
fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn progress() -> Progress {
        let position = Position { generation: 2, offset: 1284 };
        let hash = "a3f2e1b09c4d5e6f".to_owned();
        Progress { position, hash, sequence: 5120, passed_over: None, max_ts: 1_700_000_000 }
    }

    #[test]
    fn a_file_is_laid_out_as_documented() {
        let text = String::from_utf8(encode(&["buy milk"], &progress(), 1).unwrap()).unwrap();
        let (before, line) = text.split_at(text.find("  \"checksum\"").unwrap());
        let expected = "{\n  \"state\": [\n    \"buy milk\"\n  ],\n  \"offset\": 1284,\n  \"hash\": \"a3f2e1b09c4d5e6f\",\n  \
                        \"generation\": 2,\n  \"sequence\": 5120,\n  \"max_ts\": 1700000000,\n  \"reducer\": 1,\n";
        assert_eq!(before, expected);
        assert_eq!(line, format!("  \"checksum\": \"{}\"\n}}", line_hash(before.as_bytes())));
        assert!(serde_json::from_str::<Snapshot<Vec<String>>>(&text).is_ok(), "older readers read it too");
    }

    #[test]
    fn what_was_written_comes_back() {
        let state = BTreeMap::from([("a".to_owned(), vec![0.1, -1e300]), ("ü\n\"".to_owned(), vec![])]);
        let text = encode(&state, &progress(), 7).unwrap();
        assert_eq!(decode(&text), Found::Whole(Stored { state, progress: progress(), reducer: 7 }));
        let position = Position { generation: 1, offset: 99 };
        let passed_over = Some(PassedOver { lines: NUMBER_MAX, sequence: 17, position });
        let progress = Progress { passed_over, ..progress() };
        let text = encode(&1, &progress, 7).unwrap();
        assert_eq!(decode(&text), Found::Whole(Stored { state: 1, progress, reducer: 7 }));
    }

    #[test]
    fn a_file_that_is_moved_is_what_would_be_written_there() {
        let elsewhere = Progress {
            position: Position { generation: 3, offset: 7 },
            hash: "0000000000000001".to_owned(),
            passed_over: Some(PassedOver { lines: 1, sequence: 2, position: Position::default() }),
            ..progress()
        };
        let key = ",\n  \"offset\": 1".to_owned();
        for state in [json!(null), json!(1.5), json!({ key.clone(): [key, {"offset": {"offset": {}}}] })] {
            let contents = encode(&state, &progress(), 4).unwrap();
            let expected = encode(&state, &elsewhere, 5).unwrap();
            assert_eq!(moved(&contents, &elsewhere, 5).unwrap(), Some(expected), "{state}");
        }
        // A state that writes itself down as it likes.
        let raw = ["{\"a\":0", "\"offset\": 1}"].join(",\n  ");
        let state = serde_json::value::RawValue::from_string(raw).unwrap();
        let contents = encode(&state, &progress(), 4).unwrap();
        assert_eq!(moved(&contents, &elsewhere, 4).unwrap(), Some(encode(&state, &elsewhere, 4).unwrap()));
        // Digits that no tree of values holds.
        let text = String::from_utf8(encode(&1, &progress(), 0).unwrap()).unwrap();
        let digits = "1.000000000000000000000000000000000000001";
        let text = text.replace("\"state\": 1", &format!("\"state\": {digits}"));
        let text = moved(text.as_bytes(), &elsewhere, 0).unwrap().unwrap();
        assert!(String::from_utf8(text).unwrap().contains(digits));
        for text in ["", "{}", "{\n  \"state\": 1\n}", ",\n  \"offset\": 1"] {
            assert_eq!(moved(text.as_bytes(), &elsewhere, 0).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_no_progress() {
        let position = Position { generation: 1, offset: 99 };
        let passed_over = PassedOver { lines: 2, sequence: 17, position };
        let having_passed = |passed_over| Progress { passed_over: Some(passed_over), ..progress() };
        for progress in [
            having_passed(PassedOver { lines: u64::MAX, ..passed_over }),
            having_passed(PassedOver { sequence: u64::MAX, ..passed_over }),
            having_passed(PassedOver {
                position: Position { generation: u64::MAX, offset: 0 },
                ..passed_over
            }),
            having_passed(PassedOver {
                position: Position { generation: 0, offset: u64::MAX },
                ..passed_over
            }),
            Progress { sequence: u64::MAX, ..progress() },
            Progress { position: Position { generation: u64::MAX, offset: 0 }, ..progress() },
            Progress { position: Position { generation: 0, offset: u64::MAX }, ..progress() },
        ] {
            let text = encode(&1_u64, &progress, 0).unwrap();
            assert!(matches!(decode::<u64>(&text), Found::Nothing(Some(_))));
        }
    }

    #[test]
    fn a_plain_snapshot_is_told_from_one_that_lost_its_checksum() {
        let plain = to_pretty(&Snapshot::new(42_u64, 0, String::new())).unwrap();
        assert_eq!(decode(&plain), Found::Plain(Snapshot::new(42_u64, 0, String::new())));
        let text = String::from_utf8(encode(&42_u64, &progress(), 0).unwrap()).unwrap();
        let without = format!("{}\n}}", text.split(",\n  \"checksum\"").next().unwrap());
        assert!(serde_json::from_str::<Snapshot<u64>>(&without).is_ok());
        assert!(matches!(decode::<u64>(without.as_bytes()), Found::Nothing(Some(_))));
    }

    #[test]
    fn no_changed_byte_is_trusted() {
        let text = encode(&vec![1_u64, 22, 333], &progress(), 1).unwrap();
        let whole = decode::<Vec<u64>>(&text);
        for index in 0..text.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut changed = text.clone();
                changed[index] ^= flip;
                assert!(
                    matches!(decode::<Vec<u64>>(&changed), Found::Nothing(Some(_))),
                    "byte {index} with {flip}"
                );
            }
            let cut = decode::<Vec<u64>>(&text[..index]);
            assert!(matches!(cut, Found::Nothing(Some(_))), "cut at {index}");
        }
        assert!(matches!(whole, Found::Whole(_)));
    }

    #[test]
    fn hostile_files_are_no_snapshots() {
        let deep = format!("{{\"state\":{}", "[".repeat(1_000_000));
        for text in [
            "",
            "{}",
            "null",
            "\u{feff}{}",
            r#"{"state":1e999,"offset":0,"hash":""}"#,
            r#"{"state":1,"offset":99999999999999999999999,"hash":""}"#,
            r#"{"state":1,"offset":-1,"hash":""}"#,
            r#"{"state":1,"offset":0,"hash":7}"#,
            r#"{"state":1,"state":2,"offset":0,"hash":""}"#,
            r#"{"state":1,"offset":0,"hash":"","generation":0}"#,
            &deep,
        ] {
            assert!(
                matches!(decode::<u64>(text.as_bytes()), Found::Nothing(Some(_))),
                "{}",
                &text[..text.len().min(80)]
            );
            assert!(matches!(decode::<serde_json::Value>(deep.as_bytes()), Found::Nothing(Some(_))));
        }
        assert!(matches!(decode::<u64>(&[0xff; 64]), Found::Nothing(Some(_))));
    }
}
