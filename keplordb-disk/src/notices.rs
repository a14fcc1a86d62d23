//! Watching a directory of the operating system: by its notices where it gives them (inotify), else by looking.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::Watch;

/// A watch of a real directory.
pub(crate) fn watch(dir: &Path) -> io::Result<Box<dyn Watch>> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match linux::Notices::of(dir) {
        Ok(notices) => return Ok(Box::new(notices)),
        // A user may have only so many of them (128 as a rule), and some containers none.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    Ok(Box::new(Looks::at(dir)?))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    use rustix::io::Errno;

    use crate::Watch;

    /// What the kernel queues for us. Nothing of it is parsed: that there is a notice says all, also when the queue has
    /// overflown (which is a notice itself).
    #[derive(Debug)]
    pub(super) struct Notices {
        queue: OwnedFd,
    }

    impl Notices {
        pub(super) fn of(dir: &Path) -> io::Result<Self> {
            let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let what = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            add_watch(&queue, dir, what)?;
            Ok(Self { queue })
        }

        /// Empties the queue; whether there was anything in it.
        fn drain(&self) -> io::Result<bool> {
            /// Against a writer who fills the queue as fast as it is read; what stays in it is a spurious change later.
            const READS_MAX: usize = 64;
            // The longest notice, with a name of 255 bytes, fits many times.
            let mut notices = [0_u8; 8 << 10];
            for read in 0..READS_MAX {
                match rustix::io::read(&self.queue, &mut notices) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(read > 0),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(true)
        }
    }

    impl Watch for Notices {
        fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
            let until = Instant::now().checked_add(timeout);
            loop {
                if self.drain()? {
                    return Ok(true);
                }
                let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
                if rest == Some(Duration::ZERO) {
                    return Ok(false);
                }
                // A time that the kernel cannot count is as good as for ever.
                let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
                match poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], rest.as_ref()) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Looks at names, lengths and times of change every [`EVERY`], and remembers what it saw.
#[derive(Debug)]
struct Looks {
    dir: PathBuf,
    seen: Seen,
}

/// How often: a reader that follows a log hears of an entry after half of this on average.
const EVERY: Duration = Duration::from_millis(20);

/// The coarsest clock by which a file system says when a file was changed (FAT).
const CLOCK: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Seen {
    files: Vec<(std::ffi::OsString, u64, Option<SystemTime>)>,
    /// A file was changed so recently that a later change, by which its length stays, may have the same time. What cannot be
    /// excluded counts as a change.
    doubtful: bool,
}

impl Looks {
    fn at(dir: &Path) -> io::Result<Self> {
        if !fs::metadata(dir)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Self { dir: dir.to_owned(), seen: look(dir)? })
    }
}

impl Watch for Looks {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let until = Instant::now().checked_add(timeout);
        loop {
            let now = look(&self.dir)?;
            if now.files != self.seen.files {
                self.seen = now;
                return Ok(true);
            }
            let rest = until.map_or(EVERY, |until| until.saturating_duration_since(Instant::now()));
            thread::sleep(rest.min(EVERY));
            if self.seen.doubtful {
                self.seen = now;
                return Ok(true);
            }
            if rest.is_zero() {
                return Ok(false);
            }
        }
    }
}

/// What is in the directory; nothing if it is gone.
fn look(dir: &Path) -> io::Result<Seen> {
    let (mut files, now) = (Vec::new(), SystemTime::now());
    let mut doubtful = false;
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Seen { files, doubtful }),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // One that vanishes meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let changed = metadata.modified().ok();
        doubtful |= changed.is_none_or(|changed| changed + CLOCK > now);
        files.push((entry.file_name(), metadata.len(), changed));
    }
    files.sort_unstable();
    Ok(Seen { files, doubtful })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Waits until there is no doubt left.
    fn settle(looks: &mut Looks) {
        while looks.wait(Duration::ZERO).unwrap() {
            thread::sleep(EVERY);
        }
    }

    #[test]
    fn looking_sees_names_lengths_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut looks = Looks::at(dir.path()).unwrap();
        settle(&mut looks);
        assert!(!looks.wait(EVERY * 2).unwrap());

        let changes: [(&str, &dyn Fn()); 5] = [
            ("create", &|| fs::write(&path, b"").unwrap()),
            ("append", &|| fs::write(&path, b"12").unwrap()),
            ("overwrite", &|| fs::write(&path, b"34").unwrap()),
            ("rename", &|| fs::rename(&path, dir.path().join("other")).unwrap()),
            ("remove", &|| fs::remove_file(dir.path().join("other")).unwrap()),
        ];
        for (what, change) in changes {
            change();
            assert!(looks.wait(Duration::ZERO).unwrap(), "{what}");
        }
        settle(&mut looks);

        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVERY * 3);
                fs::write(&path, b"late").unwrap();
            });
            assert!(looks.wait(SOON).unwrap());
        });
        drop(dir);
        assert!(looks.wait(Duration::ZERO).unwrap(), "the directory is gone");
        settle(&mut looks);
    }

    /// The second change has the length, and may have the time, of the first.
    #[test]
    fn looking_misses_no_second_change_in_the_same_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut looks = Looks::at(dir.path()).unwrap();
        fs::write(&path, b"12").unwrap();
        assert!(looks.wait(Duration::ZERO).unwrap());
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"34").unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert!(looks.wait(SOON).unwrap());
    }

    #[test]
    fn only_a_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        assert_eq!(Looks::at(&dir.path().join("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Looks::at(&dir.path().join("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
    }
}
