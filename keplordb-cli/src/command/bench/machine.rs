//! What figures are to be read beside: processor, kernels, disk, build. What a system cannot tell is left out, never guessed.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::measure::median;

/// Syncs of which the figure is the median.
const SYNCS: usize = 100;

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cores: Option<usize>,
    processor: Option<String>,
    /// The instruction set that queries use.
    kernels: &'static str,
    system: &'static str,
    file_system: Option<String>,
    /// Median time to append 150 bytes to a file and sync them.
    sync_us: f64,
    version: &'static str,
    /// Whether the compiler was told not to optimise.
    debug_build: bool,
}

impl Machine {
    /// Looks at the machine, and measures the disk of a directory.
    pub(super) fn look(dir: &Path) -> io::Result<Self> {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounted = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Ok(Self {
            cores: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
            processor: processor_of(&processors).map(str::to_owned),
            kernels: keplordb::kernels_in_use(),
            system: std::env::consts::OS,
            file_system: file_system_of(&mounts, &mounted).map(str::to_owned),
            sync_us: sync_us(dir)?,
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
        })
    }

    /// The machine in a line.
    pub(super) fn text(&self) -> String {
        let cores = match self.cores {
            Some(1) => "1 core".to_owned(),
            Some(cores) => format!("{cores} cores"),
            None => "cores unknown".to_owned(),
        };
        let of = self.processor.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        let disk = self.file_system.as_deref().unwrap_or("file system unknown");
        format!(
            "{cores}{of}, {} kernels, {}, {disk}, append of 150 B and sync {:.0} µs, keplor {}",
            self.kernels, self.system, self.sync_us, self.version
        )
    }
}

fn processor_of(processors: &str) -> Option<&str> {
    let line = processors.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Of the mounts that hold a directory the deepest, and of those on one place the last, is the one that is seen.
fn file_system_of<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((unescaped(fields.next()?), fields.next()?))
    });
    let holding = mounted.filter(|(place, _)| dir.starts_with(place));
    holding.max_by_key(|(place, _)| place.components().count()).map(|(_, name)| name)
}

/// A mount's place: the kernel writes a blank as `\040`, and a tab, a newline and a backslash likewise.
fn unescaped(field: &str) -> PathBuf {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    PathBuf::from(escapes.iter().fold(field.to_owned(), |path, (code, letter)| path.replace(code, letter)))
}

fn sync_us(dir: &Path) -> io::Result<f64> {
    let path = dir.join("syncs");
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[0x5A; 150])?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(median(&mut times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_holds_a_directory() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /my\\040disk xfs rw 0 0\n/dev/c /my\\040disk btrfs rw 0 0\n";
        let found = |dir: &str| file_system_of(mounts, Path::new(dir));
        assert_eq!(found("/home/a"), Some("ext4"));
        assert_eq!(found("/tmp/x"), Some("tmpfs"));
        assert_eq!(found("/tmpx"), Some("ext4"));
        assert_eq!(found("/my disk/t"), Some("btrfs"));
        assert_eq!(file_system_of("", Path::new("/")), None);
    }

    #[test]
    fn the_processor_is_the_first_one() {
        assert_eq!(
            processor_of("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(processor_of("processor: 0\n"), None);
    }
}
