//! Lines of input, and the side file of those that are rejected.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keplordb_log::Timestamp;

/// The first line of a side file.
const HEADER: &[u8] = b"begun,line,reason,text\n";

/// A line without its newline; `None` at the end. Of one that is longer than it may be, a byte more than that: it is rejected, and
/// so is no part of it taken for a line.
pub(crate) fn next_line(input: &mut impl BufRead, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.by_ref().take(bytes_max + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > bytes_max && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    line.pop_if(|last| *last == b'\n');
    Ok(Some(line))
}

/// Where the rejected lines of a file or for a table go: `calls.db.rejects.csv` for `calls.db`.
pub(crate) fn rejects_beside(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // Without a slash at its end.
    let mut name = dir.components().collect::<PathBuf>().into_os_string();
    name.push(".rejects.csv");
    name.into()
}

/// The side file of rejected lines; it is made with the first one.
pub(crate) struct Rejects {
    pub(crate) path: PathBuf,
    /// When the command began, which tells its lines from those of others.
    begun: Timestamp,
    file: Option<File>,
    pub(crate) lines: u64,
}

impl Rejects {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, begun: Timestamp::now(), file: None, lines: 0 }
    }

    pub(crate) fn push(&mut self, line: u64, reason: &str, text: &[u8]) -> Result<()> {
        let failed = || format!("{} cannot be written", self.path.display());
        if self.file.is_none() {
            let options = OpenOptions::new().create(true).read(true).append(true).to_owned();
            let mut file = options.open(&self.path).with_context(failed)?;
            let mut found = Vec::new();
            Read::by_ref(&mut file).take(HEADER.len() as u64).read_to_end(&mut found).with_context(failed)?;
            if found.is_empty() {
                file.write_all(HEADER).with_context(failed)?;
            } else {
                anyhow::ensure!(
                    found == HEADER,
                    "{} is no file of rejected lines; name another one by --rejects",
                    self.path.display()
                );
            }
            self.file = Some(file);
        }
        let quoted = |text: &str| text.replace('"', "\"\"");
        let record = format!(
            "{},{line},\"{}\",\"{}\"\n",
            self.begun,
            quoted(reason),
            quoted(&String::from_utf8_lossy(text))
        );
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(record.as_bytes())).with_context(failed)?;
        self.lines += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_file_lies_beside_the_table_however_its_path_ends() {
        assert_eq!(rejects_beside(Path::new("/data/calls.db/")), Path::new("/data/calls.db.rejects.csv"));
        assert_eq!(rejects_beside(Path::new("/data/calls.db")), Path::new("/data/calls.db.rejects.csv"));
    }
}
