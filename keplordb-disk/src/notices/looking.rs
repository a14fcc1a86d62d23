//! Watching without notices: the directory is looked at again and again during a wait.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::listing::{CLOCK, Listing};
use crate::Watch;

/// How often: a reader that follows a log hears of an entry after half of this on average.
const EVERY: Duration = Duration::from_millis(20);

/// The longest pause, however long a look takes.
const EVERY_MAX: Duration = Duration::from_secs(1);

/// How many times as long as the last look the pause is at least: looking takes at most a twentieth of a processor's time.
const PAUSE_PER_LOOK: u32 = 19;

/// How long to pause after a look that took so long.
pub(super) fn pause_after(look: Duration) -> Duration {
    (look * PAUSE_PER_LOOK).clamp(EVERY, EVERY_MAX)
}

/// Looks at names, lengths and times of change, and remembers what it saw.
#[derive(Debug)]
pub(super) struct Looks {
    dir: PathBuf,
    clock: Duration,
    seen: Listing,
}

impl Looks {
    pub(super) fn at(dir: &Path) -> io::Result<Self> {
        Self::with_clock(dir, CLOCK)
    }

    /// Where two changes that are this far apart have different times.
    pub(super) fn with_clock(dir: &Path, clock: Duration) -> io::Result<Self> {
        if !fs::metadata(dir)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Self { dir: dir.to_owned(), clock, seen: Listing::of(dir, clock, |_| false)? })
    }
}

impl Watch for Looks {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let until = Instant::now().checked_add(timeout);
        loop {
            let begin = Instant::now();
            let now = Listing::of(&self.dir, self.clock, |_| false)?;
            if (&now.dir, &now.found) != (&self.seen.dir, &self.seen.found) {
                self.seen = now;
                return Ok(true);
            }
            let pause = pause_after(begin.elapsed());
            let rest = until.map_or(pause, |until| until.saturating_duration_since(Instant::now()));
            thread::sleep(rest.min(pause));
            if self.seen.has_doubtful_names || self.seen.has_doubtful_bytes {
                self.seen = now;
                return Ok(true);
            }
            if rest.is_zero() {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The second change has the length, and may have the time, of the first.
    #[test]
    fn looking_misses_no_second_change_in_the_same_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"00").unwrap();
        let mut looks = Looks::with_clock(dir.path(), Duration::from_secs(1)).unwrap();
        while looks.wait(Duration::ZERO).unwrap() {
            thread::sleep(EVERY);
        }
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"12").unwrap();
        assert!(looks.wait(Duration::ZERO).unwrap());
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(b"34").unwrap();
        file.set_modified(time).unwrap();
        assert!(looks.wait(Duration::from_secs(10)).unwrap());
    }
}
