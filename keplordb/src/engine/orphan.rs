//! Orphans: whole segments that the manifest does not list and whose rows are nowhere else.
//!
//! A crash leaves segments that were never published, and ones that were replaced. The manifest that it leaves lists what such
//! a segment was made of, and that is there; or it says, or has said before, what became of it. Where a source is gone that the
//! manifest counts on or is too old to know, a later manifest had listed the segment, and somebody has put an older one in its place.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{Manifest, OldFile};
use crate::format::segment::SegmentHeader;
use crate::storage::directory::{Directory, Kind, Listing, kind_of_former_name};
use crate::storage::segment_reader::read_header;

/// What is wrong with an orphan, and how its rows come back, for who still finds it in its place.
pub(super) const ORPHANED: &str = "the manifest lists neither it nor all that it was made of: it is older than this segment, of whose rows \
    some are nowhere else; to have them back, take MANIFEST away and open with Quarantine (`keplor repair`), which makes it anew from all \
    segments and logs; any other open would set the segment aside";

/// And for who finds it in the quarantine.
pub(super) const SET_ASIDE: &str = "the manifest lists neither it nor all that it was made of: it is older than this segment, of whose rows \
    some are nowhere else; to have them back, close the table before more is written, move the file back to where it was, take MANIFEST \
    away and open with Quarantine (`keplor repair`), which makes it anew from all segments and logs";

/// What an older manifest in the place of the right one does not know.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Ascending by number.
    pub(super) segments: Vec<(u64, SegmentHeader)>,
    /// Tombstone logs that it does not list, where there are such segments: what these say is deleted there.
    pub(super) tombstones: Vec<u64>,
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
    /// Reads the headers of unlisted segments, of which there are few. One whose header is damaged is no whole segment.
    pub(super) fn find(directory: &Directory, listing: &Listing, manifest: &Manifest) -> Result<Self> {
        let replaced: HashSet<OldFile> = manifest.replaced.iter().map(|replaced| replaced.file).collect();
        let listed: HashSet<u64> = manifest.segments.iter().map(|listed| listed.number).collect();
        let (mut orphans, mut leftovers) = (Self::default(), HashSet::new());
        // Ascending, so that the sources of a segment come before it.
        for (number, _) in &listing.segments {
            if listed.contains(number) || replaced.contains(&OldFile::Segment(*number)) {
                continue;
            }
            let header = match read_header(directory.disk().as_ref(), &directory.segment(*number)) {
                Ok(header) => header,
                Err(error @ (DbError::Io { .. } | DbError::Full { .. })) => return Err(error),
                Err(_) => continue,
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
            // One that was made after the manifest was made of something that is in it.
            let is_young = *number >= manifest.next_segment;
            if sources.contains(&Source::Gone) || is_young && !sources.contains(&Source::Known) {
                orphans.segments.push((*number, header));
            } else {
                leftovers.insert(*number);
            }
        }
        if !orphans.segments.is_empty() {
            let is_unlisted = |number: &&u64| {
                **number != manifest.tombstone_log && !replaced.contains(&OldFile::Tombstones(**number))
            };
            orphans.tombstones = listing.tombstones.iter().filter(is_unlisted).copied().collect();
        }
        Ok(orphans)
    }

    pub(super) fn has_segment(&self, number: u64) -> bool {
        self.segments.iter().any(|(orphan, _)| *orphan == number)
    }

    /// Their files.
    pub(super) fn paths(&self, directory: &Directory) -> Vec<PathBuf> {
        let segments = self.segments.iter().map(|(number, _)| directory.segment(*number));
        segments.chain(self.tombstones.iter().map(|number| directory.tombstones(*number))).collect()
    }
}

/// Numbers above all that segments use which are set aside: such a segment may be put back, beside what came after it.
#[derive(Debug, Default)]
pub(super) struct AboveAside {
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) segment: u64,
}

impl AboveAside {
    /// Of those that are in the quarantine and those that are about to be.
    pub(super) fn find(directory: &Directory, orphans: &Orphans) -> Result<Self> {
        let mut above = Self::default();
        for (number, header) in &orphans.segments {
            above.add(*number, header);
        }
        let dir = directory.quarantine_dir();
        let entries = match directory.disk().list(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(above),
            listed => listed.at("list", &dir)?,
        };
        for entry in entries {
            if let Some(Kind::Segment(number)) = kind_of_former_name(&entry.name)
                && let Ok(header) = read_header(directory.disk().as_ref(), &dir.join(&entry.name))
            {
                above.add(number, &header);
            }
        }
        Ok(above)
    }

    fn add(&mut self, number: u64, header: &SegmentHeader) {
        self.sequence = self.sequence.max(header.facts.sequence_max + 1);
        let generation = header.generations.iter().max().map_or(0, |last| last + 1);
        self.generation = self.generation.max(generation);
        self.segment = self.segment.max(number + 1);
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
    use crate::schema::TableSchema;
    use crate::storage::manifest;

    /// A segment with its sources: number, generations, segments.
    type Made<'a> = (u64, &'a [u64], &'a [u64]);

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
        let found = Orphans::find(&directory, &listing, &manifest).unwrap();
        found.segments.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_a_crash_leaves_is_no_orphan() {
        let leftovers: [&[Made<'_>]; 9] = [
            // Written and not published: of a listed log, of a younger one, of segments; with what these had replaced.
            &[(10, &[1], &[])],
            &[(10, &[21], &[])],
            &[(10, &[], &[1])],
            &[(10, &[1, 9], &[1, 4])],
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
            assert_eq!(orphans(unlisted), [], "{unlisted:?}");
        }
    }

    #[test]
    fn what_lacks_a_source_that_the_manifest_has_or_is_too_old_for_is_an_orphan() {
        let cases: [(&[Made<'_>], &[u64]); 8] = [
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
            // Through another orphan, though its number was given before.
            (&[(9, &[22], &[]), (10, &[1], &[9])], &[9, 10]),
        ];
        for (unlisted, expected) in cases {
            assert_eq!(orphans(unlisted), expected, "{unlisted:?}");
        }
    }
}
