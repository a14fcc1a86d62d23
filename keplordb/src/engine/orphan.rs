//! Orphans: files that the manifest does not list, though it should: whole segments whose rows are nowhere else, and tombstone logs.
//!
//! A crash leaves segments that were never published, and ones that were replaced. The manifest that it leaves lists what such
//! a segment was made of, and that is there; or it says, or has said before, what became of it. Where a source is gone that the
//! manifest counts on or is too old to know, a later manifest had listed the segment, and somebody has put an older one in its place.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{Manifest, OldFile};
use crate::format::segment::SegmentHeader;
use crate::storage::directory::{Directory, Kind, Listing, kind_of_former_name};
use crate::storage::segment_reader::read_header;
use crate::storage::tombstones;
use crate::storage::wal::Known;
use keplordb_disk::Disk;

/// What is wrong with an orphan, and how its rows come back, for who still finds it in its place.
pub(super) const ORPHANED: &str = "the manifest lists neither it nor all that it was made of: it is older than this segment, of whose rows \
    some are nowhere else; to have them back, take MANIFEST away and open with Quarantine (`keplor repair`), which makes it anew from all \
    segments and logs; any other open would set the segment aside";

/// And for who finds it in the quarantine.
pub(super) const SET_ASIDE: &str = "the manifest lists neither it nor all that it was made of: it is older than this segment, of whose rows \
    some are nowhere else; to have them back, close the table before anything more is written or moved into segments, take MANIFEST away, copy the file \
    back to where it was (leave this one), and open with Quarantine (`keplor repair`), which makes MANIFEST anew from all segments and logs; \
    `verify` with depth Full says whether rows are there twice then";

/// And in a plain copy, where it is nothing to worry about.
pub(super) const BEHIND_COPY: &str = "it was written after the copy began, and all that the copy must show is there without it; it may be removed";

/// Of one whose header is damaged, wherever it is.
pub(super) const UNREADABLE: &str = "the manifest does not list it, and its header is damaged, so that nothing says whether its rows are elsewhere; \
    where that matters, restore it from a copy of the directory";

/// Of a tombstone log, wherever it is.
pub(super) const FORGOTTEN: &str = "the manifest does not list it: it is older than this log, and what that says is deleted may be back; it is \
    heeded again with it in its place, when MANIFEST is taken away and the table opened with Quarantine (`keplor repair`)";

/// What an older manifest in the place of the right one does not know.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Ascending by number; without a header where that is damaged.
    pub(super) segments: Vec<(u64, Option<SegmentHeader>)>,
    pub(super) tombstones: Vec<u64>,
    /// What failed on unlisted files of which therefore nothing can be told.
    unread: Vec<DbError>,
}

/// What became of something that a segment was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Its rows are there, or the manifest says what became of it.
    Known,
    /// Its rows should be there, by the manifest or because that is older than it.
    Gone,
    /// It was before the manifest, which needs it no more.
    Past,
}

impl Orphans {
    /// Reads the headers of unlisted segments, of which there are few.
    pub(super) fn find(directory: &Directory, listing: &Listing, manifest: &Manifest) -> Self {
        let replaced: HashSet<OldFile> = manifest.replaced.iter().map(|replaced| replaced.file).collect();
        let listed: HashSet<u64> = manifest.segments.iter().map(|listed| listed.number).collect();
        let (mut orphans, mut leftovers) = (Self::default(), HashSet::new());
        // Ascending, so that the sources of a segment come before it.
        for (number, _) in &listing.segments {
            if listed.contains(number) || replaced.contains(&OldFile::Segment(*number)) {
                continue;
            }
            // Numbers are given when the sources are chosen: an older one was made of what the manifest, or one before it, knew.
            let is_young = *number >= manifest.next_segment;
            let header = match read_header(directory.disk().as_ref(), &directory.segment(*number)) {
                Ok(header) => header,
                // No crash leaves such a file: it gets its name when it is whole and synced.
                Err(DbError::Corrupt { .. } | DbError::Truncated { .. }) => {
                    orphans.segments.push((*number, None));
                    continue;
                }
                // Removed just now, by an engine at work.
                Err(DbError::Missing { .. }) => continue,
                Err(error) => {
                    orphans.unread.push(error);
                    continue;
                }
            };
            let of_log = |generation: &u64| match (
                replaced.contains(&OldFile::Wal(*generation)),
                manifest.may_have_wal(*generation),
            ) {
                (true, _) => Source::Known,
                (false, true) if listing.has_wal(*generation) => Source::Known,
                (false, true) => Source::Gone,
                (false, false) => Source::Past,
            };
            let of_segment = |source: &u64| {
                let is_listed = listed.contains(source);
                if replaced.contains(&OldFile::Segment(*source))
                    || is_listed && listing.has_segment(*source)
                    || leftovers.contains(source)
                {
                    Source::Known
                } else if is_listed || *source >= manifest.next_segment || orphans.has_segment(*source) {
                    Source::Gone
                } else {
                    Source::Past
                }
            };
            let mut sources: Vec<Source> = header.generations.iter().map(of_log).collect();
            sources.extend(header.supersedes.iter().map(of_segment));
            let is_orphan = if is_young {
                sources.is_empty() || sources.iter().any(|source| *source != Source::Known)
            } else {
                sources.contains(&Source::Gone)
            };
            if is_orphan {
                orphans.segments.push((*number, Some(header)));
            } else {
                leftovers.insert(*number);
            }
        }
        for number in &listing.tombstones {
            let is_unlisted =
                *number != manifest.tombstone_log && !replaced.contains(&OldFile::Tombstones(*number));
            if !is_unlisted {
                continue;
            }
            // Beside an orphan it is what says what is deleted there.
            let is_orphan = if orphans.segments.is_empty() {
                is_forgotten(directory, listing, manifest, *number)
            } else {
                Ok(true)
            };
            match is_orphan {
                Ok(true) => orphans.tombstones.push(*number),
                Ok(false) => {}
                Err(error) => orphans.unread.push(error),
            }
        }
        orphans
    }

    /// These, for who is going to remove what is none.
    ///
    /// # Errors
    /// When an unlisted file cannot be read at all: it may be neither removed nor passed over.
    pub(super) fn all_read(mut self) -> Result<Self> {
        if self.unread.is_empty() { Ok(self) } else { Err(with_advice(self.unread.swap_remove(0))) }
    }

    /// What failed on unlisted files, each with what can be done.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&DbError, String)> {
        self.unread.iter().map(|error| (error, left_as_it_is(error)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tombstones.is_empty()
    }

    fn has_segment(&self, number: u64) -> bool {
        self.segments.iter().any(|(orphan, _)| *orphan == number)
    }

    /// Their files, with what is wrong with each in its place.
    pub(super) fn files(&self, directory: &Directory) -> Vec<(PathBuf, &'static str)> {
        let segments = self.segments.iter().map(|(number, header)| {
            (directory.segment(*number), if header.is_some() { ORPHANED } else { UNREADABLE })
        });
        segments
            .chain(self.tombstones.iter().map(|number| (directory.tombstones(*number), FORGOTTEN)))
            .collect()
    }
}

/// Whether an unlisted tombstone log is no crash's doing: that leaves a first one empty, and of a later one, beside the one that
/// it was to replace, only tombstones that this has too.
fn is_forgotten(directory: &Directory, listing: &Listing, manifest: &Manifest, number: u64) -> Result<bool> {
    let read = |number| {
        tombstones::find(directory.disk().as_ref(), &directory.tombstones(number), number, UNKNOWN_LENGTH)
    };
    let listed = manifest.tombstone_log;
    if number < listed {
        return Ok(false);
    }
    if listed != 0 && !listing.tombstones.contains(&listed) {
        return Ok(true);
    }
    let found = match read(number) {
        Ok(found) => found.tombstones,
        Err(DbError::Missing { .. }) => return Ok(false),
        Err(DbError::Corrupt { .. } | DbError::Truncated { .. }) => return Ok(true),
        Err(error) => return Err(error),
    };
    if listed == 0 || found.is_empty() {
        return Ok(!found.is_empty());
    }
    // A damaged one is told by who needs it; what this has of its tombstones is then not known.
    let known: HashSet<u64> = match read(listed) {
        Ok(known) => known.tombstones.iter().map(|tombstone| tombstone.sequence).collect(),
        Err(DbError::Io { file, op, source }) => return Err(DbError::Io { file, op, source }),
        Err(_) => return Ok(true),
    };
    Ok(found.iter().any(|tombstone| !known.contains(&tombstone.sequence)))
}

/// What is known of a log that no manifest lists.
const UNKNOWN_LENGTH: Known = Known::Original { synced_bytes: 0 };

/// What can be done about an unlisted file that cannot be read: most likely nothing needs it.
fn left_as_it_is(error: &DbError) -> String {
    let keep = match error {
        DbError::TooNew { .. } | DbError::TooOld { .. } => {
            "open the table with a release that reads it, or keep the file somewhere else"
        }
        _ => "if the error stays, keep the file, or what can be read of it, somewhere else",
    };
    format!(
        "MANIFEST does not list it, and no open touches it, for nothing else may have its rows; {keep}: the table opens without it"
    )
}

/// An error of the disk with that advice; a format's error has its own.
fn with_advice(error: DbError) -> DbError {
    let advice = left_as_it_is(&error);
    let DbError::Io { file, op, source } = error else { return error };
    let source = io::Error::new(source.kind(), format!("{source} ({advice})"));
    DbError::Io { file, op, source: Arc::new(source) }
}

/// Numbers above all that are in use in what is set aside: such a file may be put back, beside what came after it.
#[derive(Debug, Default)]
pub(super) struct AboveAside {
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) segment: u64,
    pub(super) tombstones: u64,
}

impl AboveAside {
    /// Of what is in the quarantine and what is about to be.
    pub(super) fn find(directory: &Directory, orphans: &Orphans) -> Result<Self> {
        let (mut above, disk) = (Self::of_quarantine(directory)?, directory.disk().as_ref());
        for (path, _) in orphans.files(directory) {
            above.add(disk, directory.kind_of(&path), &path);
        }
        Ok(above)
    }

    /// Of what is in the quarantine.
    pub(super) fn of_quarantine(directory: &Directory) -> Result<Self> {
        let (mut above, disk) = (Self::default(), directory.disk().as_ref());
        let dir = directory.quarantine_dir();
        let entries = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(above),
            listed => listed.at("list", &dir)?,
        };
        for entry in entries {
            above.add(disk, kind_of_former_name(&entry.name), &dir.join(&entry.name));
        }
        Ok(above)
    }

    /// By its name, and by what can be read of it.
    fn add(&mut self, disk: &dyn Disk, kind: Option<Kind>, path: &Path) {
        match kind {
            Some(Kind::Segment(number)) => {
                self.segment = self.segment.max(number + 1);
                if let Ok(header) = read_header(disk, path) {
                    self.sequence = self.sequence.max(header.facts.sequence_max + 1);
                    self.generation =
                        header.generations.iter().fold(self.generation, |above, used| above.max(used + 1));
                }
            }
            Some(Kind::Wal(generation)) => self.generation = self.generation.max(generation + 1),
            Some(Kind::Tombstones(number)) => {
                self.tombstones = self.tombstones.max(number + 1);
                if let Ok(found) = tombstones::find(disk, path, number, UNKNOWN_LENGTH) {
                    self.sequence =
                        found.tombstones.iter().fold(self.sequence, |above, row| above.max(row.sequence + 1));
                }
            }
            Some(Kind::Manifest) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk, read_all};

    use super::*;
    use crate::config::{EngineConfig, Options};
    use crate::engine::Core;
    use crate::event::LogEvent;
    use crate::format::manifest::{ListedReplaced, ListedSegment, ListedWal};
    use crate::format::segment::tamper::with_header;
    use crate::format::tombstones::Tombstone;
    use crate::schema::TableSchema;
    use crate::storage::manifest;
    use crate::storage::tombstones::TombstoneLog;
    use crate::storage::wal::WalContext;

    /// A segment with its sources: number, generations, segments.
    type Made<'a> = (u64, &'a [u64], &'a [u64]);

    /// A tombstone log: number, sequences.
    type Log<'a> = (u64, &'a [u64]);

    /// The orphans among `unlisted`, beside the logs 1 and 21 and the segment 1. The manifest lists the logs 1 and 2 and the
    /// segments 1 and 3 (of which log 2 and segment 3 are gone), as replaced the log 5 and the segment 5, and the next numbers
    /// are 20 of logs and 10 of segments.
    fn orphans(unlisted: &[Made<'_>]) -> Vec<u64> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let options = Options::default().disk(Arc::clone(&disk));
        let core =
            Core::open(EngineConfig::in_dir("events"), options, TableSchema::positional(0, 0, 0, 0)).unwrap();
        core.append([LogEvent::<0, 0, 0>::default()].iter().map(LogEvent::as_row), false).unwrap();
        core.flush().unwrap();
        let directory = Directory::new(Arc::clone(&disk), "events".into());
        let segment = read_all(disk.as_ref(), &directory.segment(1), u64::MAX).unwrap();
        let stored = manifest::load(&directory).unwrap();
        let mut listing =
            Listing { wals: vec![(1, 0), (21, 0)], segments: vec![(1, 0)], ..Listing::default() };
        for (number, generations, supersedes) in unlisted {
            let file = with_header(&segment, |header| {
                (header.generations, header.supersedes) = (generations.to_vec(), supersedes.to_vec());
            });
            directory.write_whole(&directory.segment(*number), &file).unwrap();
            listing.segments.push((*number, 0));
        }
        let manifest = Manifest {
            next_generation: 20,
            next_segment: 10,
            wals: [1, 2].map(|generation| ListedWal { generation, synced_bytes: 0 }).to_vec(),
            segments: [1, 3].map(|number| ListedSegment { number, file_bytes: 0 }).to_vec(),
            replaced: [OldFile::Wal(5), OldFile::Segment(5)]
                .map(|file| ListedReplaced { file, by: Some(3) })
                .to_vec(),
            ..stored
        };
        let found = Orphans::find(&directory, &listing, &manifest).all_read().unwrap();
        found.segments.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_a_crash_leaves_is_no_orphan() {
        let leftovers: [&[Made<'_>]; 10] = [
            // Written and not published: of a listed log, of a younger one, of segments; with what these had replaced.
            &[(10, &[1], &[])],
            &[(10, &[21], &[])],
            &[(10, &[], &[1])],
            &[(10, &[1, 5], &[1, 5])],
            // What these had replaced was forgotten meanwhile, so the number is one that the manifest knows.
            &[(9, &[1, 9], &[1, 4])],
            // Of something that was replaced or dropped meanwhile.
            &[(10, &[5], &[])],
            &[(10, &[], &[5])],
            // Replaced itself; or so long ago that the manifest lists none of it any more, and it could not be removed.
            &[(5, &[30], &[])],
            &[(9, &[8], &[7])],
            // Through another that was not published.
            &[(10, &[1], &[]), (11, &[], &[10])],
        ];
        for unlisted in leftovers {
            assert_eq!(orphans(unlisted), [0; 0], "{unlisted:?}");
        }
    }

    #[test]
    fn a_tombstone_log_that_says_more_than_the_listed_one_is_an_orphan() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let directory = Directory::new(Arc::clone(&disk), "events".into());
        directory.create_root().unwrap();
        let context = WalContext { directory: directory.clone(), syncs: Arc::default() };
        let make = |number: u64, sequences: &[u64]| {
            let rows: Vec<_> =
                sequences.iter().map(|sequence| Tombstone { ts_ns: 1, sequence: *sequence }).collect();
            TombstoneLog::create(&context, number, &rows).unwrap();
        };
        let manifest = |tombstone_log| Manifest {
            schema: TableSchema::positional(0, 0, 0, 0),
            next_sequence: 1,
            next_generation: 1,
            next_segment: 1,
            closed: false,
            tombstone_log,
            tombstone_bytes: 0,
            segments: Vec::new(),
            wals: Vec::new(),
            replaced: Vec::new(),
            dropped: Vec::new(),
        };
        let cases: [(u64, &[Log<'_>], &[u64]); 7] = [
            // What a crash leaves: an empty first one, and a purge of the listed one.
            (0, &[(1, &[])], &[]),
            (2, &[(2, &[5, 6]), (3, &[5])], &[]),
            (2, &[(2, &[5, 6]), (3, &[])], &[]),
            // One that was replaced long ago.
            (2, &[(1, &[4, 5]), (2, &[5])], &[]),
            (0, &[(1, &[5])], &[1]),
            (2, &[(2, &[5, 6]), (3, &[5, 7])], &[3]),
            // The listed one is gone.
            (2, &[(3, &[5])], &[3]),
        ];
        for (listed, logs, expected) in cases {
            let mut listing = Listing::default();
            for (number, sequences) in logs {
                make(*number, sequences);
                listing.tombstones.push(*number);
            }
            let found = Orphans::find(&directory, &listing, &manifest(listed)).all_read().unwrap();
            assert_eq!(found.tombstones, expected, "{listed}: {logs:?}");
        }
        disk.open(&directory.tombstones(2)).unwrap().write_at(b"damage", 0).unwrap();
        let listing = Listing { tombstones: vec![2, 3], ..Listing::default() };
        assert_eq!(Orphans::find(&directory, &listing, &manifest(2)).tombstones, [3]);
    }

    #[test]
    fn what_lacks_a_source_that_the_manifest_has_or_is_too_old_for_is_an_orphan() {
        let cases: [(&[Made<'_>], &[u64]); 9] = [
            // A younger log, also beside one that is there; a younger segment.
            (&[(10, &[22], &[])], &[10]),
            (&[(10, &[1, 22], &[1])], &[10]),
            (&[(11, &[], &[10])], &[11]),
            // A listed log or segment that is missing.
            (&[(10, &[2], &[])], &[10]),
            (&[(10, &[], &[3])], &[10]),
            // Nothing that the manifest knows of.
            (&[(10, &[9], &[])], &[10]),
            (&[(10, &[], &[])], &[10]),
            // A segment whose number it had given already, but which it did not know yet, beside one that it knows.
            (&[(10, &[], &[1, 9])], &[10]),
            // Through another orphan, though its number was given before.
            (&[(9, &[22], &[]), (10, &[1], &[9])], &[9, 10]),
        ];
        for (unlisted, expected) in cases {
            assert_eq!(orphans(unlisted), expected, "{unlisted:?}");
        }
    }
}
