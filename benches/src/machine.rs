//! The disk that was measured on, and the process's memory. What a system cannot tell is "unknown", never guessed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Syncs of which a sitting's figure is the median.
const SYNCS: usize = 200;

/// A new directory on the disk to measure: in `KEPLORDB_BENCH_DIR`, or in the temporary directory. Removed when dropped.
///
/// # Errors
/// What the operating system says.
pub fn bench_dir() -> io::Result<TempDir> {
    bench_dir_in(std::env::var_os("KEPLORDB_BENCH_DIR").as_deref())
}

/// A new directory in `parent`, or where [`bench_dir`] puts it. Removed when dropped.
///
/// # Errors
/// What the operating system says.
pub fn bench_dir_in(parent: Option<&OsStr>) -> io::Result<TempDir> {
    let mut name = tempfile::Builder::new();
    name.prefix("keplordb-bench-");
    match parent {
        Some(parent) => name.tempdir_in(parent),
        None => name.tempdir(),
    }
}

/// What every figure about writing is to be read beside.
#[derive(Debug, Clone)]
pub struct Sitting {
    /// The file system's name, such as `ext4`.
    pub file_system: String,
    /// Median time to append 150 bytes to a file and sync them.
    pub sync_median: Duration,
}

impl Sitting {
    /// Looks at the disk of `dir`; takes as long as 200 syncs.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn measure(dir: &Path) -> io::Result<Self> {
        Ok(Self { file_system: file_system(dir), sync_median: sync_median(dir)? })
    }
}

impl fmt::Display for Sitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sync_us = self.sync_median.as_secs_f64() * 1e6;
        write!(f, "file system {}, append of 150 B + fdatasync: median {sync_us:.0} us", self.file_system)
    }
}

/// The name of the file system that holds `dir`, or `unknown`.
pub fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    file_system_of(&mounts, &dir).unwrap_or("unknown").to_owned()
}

/// Of the mounts that hold `dir` the deepest, and of those on one place the last, is the one that is seen.
fn file_system_of<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((unescape(fields.next()?), fields.next()?))
    });
    let holding = mounted.filter(|(place, _)| dir.starts_with(place));
    holding.max_by_key(|(place, _)| place.components().count()).map(|(_, name)| name)
}

/// A mount's place: the kernel writes a blank as `\040`, and a tab, a newline and a backslash likewise.
fn unescape(field: &str) -> PathBuf {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    PathBuf::from(escapes.iter().fold(field.to_owned(), |path, (code, letter)| path.replace(code, letter)))
}

fn sync_median(dir: &Path) -> io::Result<Duration> {
    let path = dir.join("syncs");
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[0x5A; 150])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// Lets the operating system write back what earlier samples left dirty, so that the next one does not pay for it.
pub fn settle() {
    #[cfg(unix)]
    rustix::fs::sync();
}

/// Asks the operating system to forget what it holds of the files of `dir` in memory, so that they are read from the disk
/// again; what is mapped stays. Does nothing where the system has no such call.
///
/// # Errors
/// What the operating system says.
pub fn evict(dir: &Path) -> io::Result<()> {
    settle();
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            rustix::fs::fadvise(std::fs::File::open(path)?, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = dir;
    Ok(())
}

/// Bytes of all files in `dir` and below.
///
/// # Errors
/// What the operating system says.
pub fn bytes_of_files(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_of_files(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Bytes that may still be written on the disk of `dir`, where the system tells.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let space = rustix::fs::statvfs(dir).ok()?;
        space.f_bavail.checked_mul(space.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// Bytes of memory that this process has at the moment, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Those of them that are no pages of files, where the system tells: such pages are given back when memory is short.
pub fn resident_own_bytes() -> Option<u64> {
    status_bytes("RssAnon:")
}

/// The most memory that this process ever had, in bytes, where the system tells.
pub fn resident_bytes_max() -> Option<u64> {
    status_bytes("VmHWM:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse::<u64>().ok());
    Some(kib? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_is_the_one_that_is_seen() {
        let mounts = "/dev/a / xfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /my\\040disk ext4 rw 0 0\n\
                      /dev/c /tmp/deep btrfs rw 0 0\n/dev/d / ext4 rw 0 0\n";
        let of = |dir: &str| file_system_of(mounts, Path::new(dir));
        assert_eq!(of("/home"), Some("ext4"));
        assert_eq!(of("/tmp/x"), Some("tmpfs"));
        assert_eq!(of("/tmp/deep/x"), Some("btrfs"));
        assert_eq!(of("/tmp/deeper"), Some("tmpfs"));
        assert_eq!(of("/my disk/x"), Some("ext4"));
        assert_eq!(file_system_of("", Path::new("/")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_used_is_seen() {
        let before = resident_bytes().unwrap();
        let used = vec![1_u8; 64 << 20];
        let after = resident_bytes().unwrap();
        assert!(after - before > 60 << 20, "{before} {after} {}", used.len());
        assert!(resident_own_bytes().unwrap() >= 64 << 20);
        assert!(resident_bytes_max().unwrap() >= after - (1 << 20));
    }

    #[test]
    fn a_sitting_is_measured() {
        let dir = bench_dir().unwrap();
        let sitting = Sitting::measure(dir.path()).unwrap();
        assert!(sitting.sync_median > Duration::ZERO && !sitting.file_system.is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
