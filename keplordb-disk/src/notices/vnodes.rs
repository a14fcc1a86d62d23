//! Notices where the kernel gives them of single open files (vnodes), and not of the files in a directory: which files are
//! held open for it, and how nothing is missed when they come and go.
//!
//! A directory's notices tell of its names only. So the files in it that were changed last are held open, and the queue tells
//! of each; of a log that is the file that grows. The others, which as a rule nobody writes to any more, are looked at from
//! time to time; one that was written is then the newest, and held.
//!
//! Where descriptors or memory run out, no file is held, and all are looked at: a process needs its last descriptors for
//! something else.
//!
//! No change is missed, because the queue tells of the directory before it is listed, of a file before the wait in which it
//! was found ends, and whoever was told looks after that.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::listing::{Identity, Listing, identity};
use super::looking::pause_after;
use crate::Watch;

/// How many files of a directory are held open at most: a process may have few (256 as a rule on macOS), and a log writes to
/// one at a time.
pub(super) const HELD_MAX: usize = 16;

/// How often the files are looked at that are not held because others are newer.
const EVERY_OLD: Duration = Duration::from_secs(1);

/// A queue in which the kernel puts notices of single open files and directories.
pub(super) trait Queue: fmt::Debug + Send {
    /// With what flags files and directories are opened: such that what is no file or directory does not make opening wait.
    const OPEN_FLAGS: i32;

    /// The operating system's numbers of errors that say that descriptors, of the process or of the system, memory or room in
    /// the queue have run out.
    const RUN_OUT: [i32; 4];

    /// Begins to tell of changes of an open directory's names, or of an open file's bytes; until it is closed.
    fn add(&mut self, file: &File, of: Told) -> io::Result<()>;

    /// Waits until something is told, at most for `timeout` (`None`: as long as it takes), and empties the queue. May end
    /// earlier with nothing.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Told>;
}

/// What a queue has told: the most of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// That bytes of files were written.
    Bytes,
    /// That names of the directory have changed, and perhaps bytes too.
    Names,
}

/// A watch of a directory by such a queue.
#[derive(Debug)]
pub(super) struct Vnodes<Q> {
    queue: Q,
    path: PathBuf,
    /// Held for the queue.
    _dir: File,
    held: BTreeMap<Identity, File>,
    held_max: usize,
    /// What else there is, and how often it is looked at where there are files in it.
    others: Listing,
    every: Option<Duration>,
    /// Whether nothing is held because something has run out.
    is_short: bool,
    /// Names have changed since the directory was listed for `held` and `others`.
    is_stale: bool,
    clock: Duration,
}

impl<Q: Queue> Vnodes<Q> {
    /// Watches a directory; `clock` is how far apart two changes of a file have different times.
    pub(super) fn of(mut queue: Q, path: &Path, held_max: usize, clock: Duration) -> io::Result<Self> {
        let dir = open::<Q>(path)?;
        if !dir.metadata()?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        queue.add(&dir, Told::Names)?;
        let mut watch = Self {
            queue,
            path: path.to_owned(),
            _dir: dir,
            held: BTreeMap::new(),
            held_max,
            others: Listing::default(),
            every: None,
            is_short: false,
            is_stale: true,
            clock,
        };
        watch.renew()?;
        Ok(watch)
    }

    /// Holds the files that are the newest now, and remembers what else there is.
    fn renew(&mut self) -> io::Result<()> {
        self.is_stale = true;
        let begin = Instant::now();
        let mut files = self.listed(|_| false)?.found;
        files.retain(|found| found.is_file);
        files.sort_by_key(|found| Reverse(found.changed));
        let mut before = std::mem::take(&mut self.held);
        self.is_short = false;
        for found in files.iter().take(self.held_max) {
            if self.held.contains_key(&found.identity) {
                continue; // another name of it
            }
            let held = match before.remove(&found.identity) {
                None => self.hold(&self.path.join(&found.name), found.identity),
                held => Ok(held),
            };
            match held {
                Ok(Some(file)) => drop(self.held.insert(found.identity, file)),
                Err(error) if has_run_out::<Q>(&error) => {
                    self.is_short = true;
                    self.held.clear();
                    break;
                }
                // Vanished or replaced since it was listed, which the queue tells; or not to be opened, but to be looked at.
                Ok(None) | Err(_) => {}
            }
        }
        drop(before);
        self.others = self.not_held()?;
        let has_others = self.others.found.iter().any(|found| found.is_file);
        let pause = if self.is_short { pause_after(begin.elapsed()) } else { EVERY_OLD };
        self.every = has_others.then_some(pause);
        self.is_stale = false;
        Ok(())
    }

    /// Opens a file for the queue to tell of; `None` if it is another one by now.
    fn hold(&mut self, path: &Path, expected: Identity) -> io::Result<Option<File>> {
        let file = open::<Q>(path)?;
        if identity(&file.metadata()?) != expected {
            return Ok(None);
        }
        self.queue.add(&file, Told::Bytes)?;
        Ok(Some(file))
    }

    /// What is there but for what is held.
    fn not_held(&mut self) -> io::Result<Listing> {
        self.listed(|held| held)
    }

    /// What is there, but for files of which `is_left_out` says so, given whether they are held. Where that cannot be had
    /// while files are held, none are from now on.
    fn listed(&mut self, is_left_out: impl Fn(bool) -> bool) -> io::Result<Listing> {
        let held = &mut self.held;
        let list = |held: &BTreeMap<Identity, File>| {
            Listing::of(&self.path, self.clock, |file| is_left_out(held.contains_key(&file)))
        };
        match list(held) {
            Err(error) if has_run_out::<Q>(&error) && !held.is_empty() => {
                held.clear();
                list(held)
            }
            listing => listing,
        }
    }

    /// Whether anything may have changed of which the queue does not tell.
    fn have_others_changed(&mut self) -> io::Result<bool> {
        if self.every.is_none() {
            return Ok(false);
        }
        let begin = Instant::now();
        let has_changed = self.others.has_doubtful_bytes || self.not_held()?.found != self.others.found;
        if self.is_short {
            self.every = Some(pause_after(begin.elapsed()));
        }
        Ok(has_changed)
    }
}

/// Whether there are no descriptors left, for the process or the system, or no memory.
fn has_run_out<Q: Queue>(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| Q::RUN_OUT.contains(&number))
}

impl<Q: Queue> Watch for Vnodes<Q> {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let until = Instant::now().checked_add(timeout);
        while !self.is_stale {
            let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
            let pause = rest.into_iter().chain(self.every).min();
            match self.queue.wait(pause)? {
                Told::Bytes => return Ok(true),
                Told::Names => self.is_stale = true,
                Told::Nothing if self.have_others_changed()? => self.is_stale = true,
                Told::Nothing if rest == Some(Duration::ZERO) => return Ok(false),
                Told::Nothing => {}
            }
        }
        self.renew()?;
        Ok(true)
    }
}

/// Opens a file or directory for the queue.
fn open<Q: Queue>(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(Q::OPEN_FLAGS).open(path)
}
