//! What can be seen of a directory without reading a file: names, lengths, times. By comparing two listings one sees changes.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The coarsest clock by which a file system says when a file was changed (FAT).
pub(super) const CLOCK: Duration = Duration::from_secs(2);

/// Which file it is, whatever its name: device and inode. Where files have none, all are 0, and only names tell them apart.
pub(super) type Identity = (u64, u64);

/// What is in a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Which directory it is, and when names in it changed last, so that one is noticed that came and went; `None` if it is gone.
    pub(super) dir: Option<(Identity, Option<SystemTime>)>,
    pub(super) found: Vec<Found>,
    /// A name, or a file, was changed so recently that a later change, by which the length stays, may have the same time. What
    /// cannot be excluded counts as a change.
    pub(super) has_doubtful_names: bool,
    pub(super) has_doubtful_bytes: bool,
}

/// One name in a directory. Of what is no file, only the name counts: what happens below is no change of this directory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) name: OsString,
    pub(super) identity: Identity,
    pub(super) is_file: bool,
    bytes: u64,
    pub(super) changed: Option<SystemTime>,
}

impl Listing {
    /// What is in the directory, but for files that `is_told` says are not to be looked at; nothing if it is gone.
    pub(super) fn of(dir: &Path, clock: Duration, is_told: impl Fn(Identity) -> bool) -> io::Result<Self> {
        let now = SystemTime::now();
        let is_certain = |changed: SystemTime| changed.checked_add(clock).is_some_and(|end| end <= now);
        let (dir_metadata, entries) = match (fs::metadata(dir), fs::read_dir(dir)) {
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            (metadata, entries) => (metadata?, entries?),
        };
        let changed = dir_metadata.modified().ok();
        let mut listing = Self {
            dir: Some((identity(&dir_metadata), changed)),
            found: Vec::new(),
            has_doubtful_names: !changed.is_none_or(is_certain),
            has_doubtful_bytes: false,
        };
        for entry in entries {
            let entry = entry?;
            // On Windows the directory knows nothing of what was written to files that are still open; the file itself does.
            let metadata = if cfg!(windows) { fs::symlink_metadata(entry.path()) } else { entry.metadata() };
            // One that vanishes meanwhile is not there.
            let Ok(metadata) = metadata else { continue };
            let (is_file, identity) = (metadata.is_file(), identity(&metadata));
            if is_file && is_told(identity) {
                continue;
            }
            let changed = metadata.modified().ok().filter(|_| is_file);
            // On Windows a time is only certain when all who write to the file have closed it.
            listing.has_doubtful_bytes |= is_file && (cfg!(windows) || !changed.is_some_and(is_certain));
            let bytes = if is_file { metadata.len() } else { 0 };
            listing.found.push(Found { name: entry.file_name(), identity, is_file, bytes, changed });
        }
        listing.found.sort_unstable();
        Ok(listing)
    }
}

#[cfg(unix)]
pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
pub(super) fn identity(_metadata: &fs::Metadata) -> Identity {
    (0, 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A file may be put in the place of another that has its length and time.
    #[test]
    fn a_file_differs_from_its_likeness() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), tempfile::tempdir().unwrap());
        fs::create_dir(&inside).unwrap();
        let old = SystemTime::now() - Duration::from_secs(1000);
        for path in [inside.join("file"), outside.path().join("file")] {
            fs::write(&path, b"12").unwrap();
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        let seen = Listing::of(&inside, CLOCK, |_| false).unwrap().found;
        fs::rename(outside.path().join("file"), inside.join("file")).unwrap();
        assert_ne!(Listing::of(&inside, CLOCK, |_| false).unwrap().found, seen);
    }

    #[test]
    fn what_was_changed_within_a_tick_of_the_clock_is_doubtful() {
        let dir = tempfile::tempdir().unwrap();
        let doubts = |clock| {
            let listing = Listing::of(dir.path(), clock, |_| false).unwrap();
            (listing.has_doubtful_names, listing.has_doubtful_bytes)
        };
        let (long, old) = (Duration::from_secs(60), SystemTime::now() - Duration::from_secs(1000));
        assert_eq!(doubts(long), (true, false), "the directory is new");
        let path = dir.path().join("file");
        fs::write(&path, b"12").unwrap();
        assert_eq!(doubts(long), (true, true));
        fs::File::open(dir.path()).unwrap().set_modified(old).unwrap();
        assert_eq!(doubts(long), (false, true));
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(doubts(long), (false, false));
    }
}
