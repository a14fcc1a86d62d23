//! The files in which views keep their states, read by who has no reducer: what docs/format.md says of `views/`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keplordb_fold::{EventReader, Position, line_hash};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What is wrong with a state of events that are not in the log.
const STRANGER: &str = "it does not fit the log: its events are not these";

/// What a file is to its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// What it goes on from.
    View,
    /// What it goes on from where that is lost: its state when history was last pruned.
    Base,
    /// A state of the past.
    Checkpoint,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Base => "base",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A file of a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) view: String,
    pub(super) kind: Kind,
    /// Of a checkpoint, as its name says.
    sequence: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// A state, and which events it is of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept<S> {
    pub(super) state: S,
    pub(super) position: Position,
    /// Of the line that ends there.
    hash: String,
    /// How many events came before; programs that write the first three keys alone do not say.
    sequence: Option<u64>,
    /// The latest time of those.
    pub(super) max_ts: Option<u64>,
    pub(super) version: Option<u64>,
    /// How many damaged lines it lacks.
    pub(super) passed_over: u64,
}

/// The keys of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys<S> {
    state: S,
    offset: u64,
    hash: String,
    generation: Option<u64>,
    sequence: Option<u64>,
    passed_over: Option<PassedOver>,
    max_ts: Option<u64>,
    reducer: Option<u64>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct PassedOver {
    lines: u64,
}

/// The files of all views, by their names, each view's snapshot first and its checkpoints in their order.
pub(super) fn list(dir: &Path) -> Result<Vec<File>> {
    let views = dir.join("views");
    let failed = || format!("{} cannot be listed", views.display());
    let entries = match views.read_dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
        let Some((view, kind, sequence)) = path.file_name().and_then(|name| name.to_str()).and_then(parts)
        else {
            continue;
        };
        // A writer may have put another in its place, or taken it away.
        let Ok(metadata) = path.metadata() else { continue };
        if metadata.is_file() {
            files.push(File { view: view.to_owned(), kind, sequence, bytes: metadata.len(), path });
        }
    }
    files.sort();
    Ok(files)
}

/// The view, the kind and the sequence of a file by its name.
fn parts(name: &str) -> Option<(&str, Kind, u64)> {
    if let Some(view) = name.strip_suffix(".snapshot.json") {
        return Some((view, Kind::View, 0));
    }
    if let Some(view) = name.strip_suffix(".base.json") {
        return Some((view, Kind::Base, 0));
    }
    let (view, sequence) = name.strip_suffix(".json")?.rsplit_once(".at-")?;
    let is_number = sequence.bytes().all(|byte| byte.is_ascii_digit());
    Some((view, Kind::Checkpoint, sequence.parse().ok().filter(|_| is_number)?))
}

/// The views that have files, each once.
pub(super) fn names(files: &[File]) -> Vec<&str> {
    let mut names: Vec<&str> = files.iter().map(|file| file.view.as_str()).collect();
    names.dedup();
    names
}

/// Reads a file; `None` if it is gone by now. What is wrong with one that a view would not go on from is its second answer.
pub(super) fn read<S: DeserializeOwned>(path: &Path) -> Result<Option<Result<Kept<S>, &'static str>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(decode(&text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn decode<S: DeserializeOwned>(text: &[u8]) -> Result<Kept<S>, &'static str> {
    let Ok(keys) = serde_json::from_slice::<Keys<S>>(text) else {
        return Err("it cannot be read as the state of a view");
    };
    let Keys { state, offset, hash, generation, sequence, passed_over, max_ts, reducer, checksum } = keys;
    let position = Position { generation: generation.unwrap_or(0), offset };
    let passed_over = passed_over.map_or(0, |passed_over| passed_over.lines);
    let kept = Kept { state, position, hash, sequence, max_ts, version: reducer, passed_over };
    match (checksum, generation, sequence, max_ts, reducer) {
        (None, None, None, None, None) => Ok(kept),
        (Some(checksum), Some(_), Some(_), Some(_), Some(_)) if is_vouched_for(text, &checksum) => Ok(kept),
        _ => Err("its checksum does not fit: it was changed since it was written"),
    }
}

/// Whether the checksum in the last line is that of all before that line.
fn is_vouched_for(text: &[u8], checksum: &str) -> bool {
    let line = format!("  \"checksum\": \"{checksum}\"\n}}");
    text.strip_suffix(line.as_bytes()).is_some_and(|before| line_hash(before) == checksum)
}

impl<S> Kept<S> {
    /// How many events it is of, if the log has them; else why a view would not go on from it.
    pub(super) fn events(&self, reader: &EventReader) -> Result<u64, String> {
        let told = |error: io::Error| match error.kind() {
            ErrorKind::InvalidInput => STRANGER.to_owned(),
            _ => error.to_string(),
        };
        let (_, first) = reader.first().map_err(told)?;
        if self.position.generation < first.generation {
            return Err("the events that come next were pruned".to_owned());
        }
        let events = match self.sequence {
            Some(sequence) => sequence,
            // It does not say of which generation it is either.
            None if reader.archive_path().exists() => return Err(STRANGER.to_owned()),
            None => reader.seq_of(self.position).map_err(told)?,
        };
        let fits = self.is_behind(reader, events).map_err(told)? && self.has_hash(reader).map_err(told)?;
        if fits { Ok(events) } else { Err(STRANGER.to_owned()) }
    }

    /// Whether it stands behind so many events.
    fn is_behind(&self, reader: &EventReader, events: u64) -> io::Result<bool> {
        let (first, begin) = reader.first()?;
        if events <= first {
            return Ok(events == first && self.position == begin);
        }
        let Some(last) = reader.position_of(events - 1)? else { return Ok(false) };
        match reader.read_events_from(last)?.next() {
            Some(Ok((_, end))) if end == self.position => Ok(true),
            // A rotation moves it on to the next text.
            Some(Ok((_, end))) => Ok(self.position.offset == 0
                && self.position.generation == end.generation + 1
                && reader.seq_of(self.position)? == events),
            // A view that passes over damaged lines stands behind this one.
            Some(Err(_)) => Ok(true),
            None => Ok(false),
        }
    }

    /// Whether the line before it is the one that was folded last, as far as lines can be asked for: as long as they are in the active log.
    fn has_hash(&self, reader: &EventReader) -> io::Result<bool> {
        let is_active =
            || -> io::Result<bool> { Ok(reader.end_position()?.generation == self.position.generation) };
        if self.position.offset == 0 || !is_active()? {
            return Ok(true);
        }
        let hash = reader.read_line_hash_before(self.position.offset)?;
        // It may have been rotated meanwhile.
        Ok(hash.as_ref() == Some(&self.hash) || !is_active()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        for (name, right) in [
            ("todos.snapshot.json", Some(("todos", Kind::View, 0))),
            ("a.at-7.snapshot.json", Some(("a.at-7", Kind::View, 0))),
            ("todos.base.json", Some(("todos", Kind::Base, 0))),
            ("todos.at-5000.json", Some(("todos", Kind::Checkpoint, 5000))),
            ("todos.at-.json", None),
            ("todos.at-+5.json", None),
            ("todos.at-5x.json", None),
            ("todos.snapshot.json.tmp", None),
            ("owed.store.json", None),
        ] {
            assert_eq!(parts(name), right, "{name}");
        }
    }

    #[test]
    fn no_changed_byte_is_trusted() {
        let before = "{\n  \"state\": [\n    1,\n    22\n  ],\n  \"offset\": 1284,\n  \"hash\": \"a3f2e1b09c4d5e6f\",\n  \
                      \"generation\": 2,\n  \"sequence\": 5120,\n  \"max_ts\": 1700000000,\n  \"reducer\": 1,\n";
        let text = format!("{before}  \"checksum\": \"{}\"\n}}", line_hash(before.as_bytes())).into_bytes();
        let kept = decode::<Vec<u64>>(&text).unwrap();
        assert_eq!((kept.state.as_slice(), kept.sequence, kept.version), (&[1, 22][..], Some(5120), Some(1)));
        for place in 0..text.len() {
            let mut changed = text.clone();
            changed[place] ^= 1;
            assert!(decode::<Vec<u64>>(&changed).is_err(), "byte {place}");
            assert!(decode::<Vec<u64>>(&text[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_file_of_another_program_has_three_keys() {
        let kept = decode::<u64>(br#"{"state": 42, "offset": 7, "hash": "00"}"#).unwrap();
        assert_eq!((kept.state, kept.sequence, kept.version), (42, None, None));
        assert!(decode::<u64>(br#"{"state": 42, "offset": 7, "hash": "00", "generation": 0}"#).is_err());
        assert!(decode::<serde_json::Value>("[".repeat(100_000).as_bytes()).is_err());
    }
}
