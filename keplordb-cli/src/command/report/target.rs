//! The file that a page goes to: it is there whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Where a page may be written that is to have this name; of a link, what it points to.
pub(super) fn check(file: &Path, force: bool) -> Result<PathBuf> {
    let shown = file.display();
    let kind = match fs::metadata(file) {
        Ok(metadata) => metadata.file_type(),
        // Also a link to nothing: the page takes its place.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let dir = folder(file);
            ensure!(dir.is_dir(), "there is no directory {} to write {shown} into", dir.display());
            return Ok(file.to_owned());
        }
        Err(error) => return Err(error).with_context(|| format!("{shown} cannot be looked at")),
    };
    ensure!(!kind.is_dir(), "{shown} is a directory; name a file in it");
    ensure!(kind.is_file(), "{shown} is no file; to write to standard output give -o -");
    ensure!(force, "{shown} is there already; replace it with --force, or name another file with -o");
    fs::canonicalize(file).with_context(|| format!("{shown} cannot be looked at"))
}

/// Writes a page beside its place, and puts it there.
pub(super) fn write(target: &Path, page: &[u8], force: bool) -> Result<()> {
    let failed = || format!("{} cannot be written", target.display());
    let (beside, mut file) = create_beside(target).with_context(failed)?;
    let written = file.write_all(page).and_then(|()| file.sync_all());
    let placed = written.with_context(failed).and_then(|()| place(&beside, target, force));
    if placed.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    placed
}

fn place(beside: &Path, target: &Path, force: bool) -> Result<()> {
    // It may have come while the table was asked.
    if !force && fs::symlink_metadata(target).is_ok_and(|metadata| !metadata.is_symlink()) {
        bail!("{} is there by now; replace it with --force, or name another file with -o", target.display());
    }
    fs::rename(beside, target).with_context(|| format!("{} cannot be put in its place", target.display()))
}

/// A file of a name that nobody has, in the folder of another.
fn create_beside(target: &Path) -> std::io::Result<(PathBuf, File)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let process = std::process::id();
    let mut attempt = 0;
    loop {
        let beside = folder(target).join(format!(".{name}.{process}.{attempt}.tmp"));
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            opened => return opened.map(|file| (beside, file)),
        }
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.html");
        write(&check(&file, false).unwrap(), b"one", false).unwrap();
        assert!(check(&file, false).unwrap_err().to_string().ends_with("name another file with -o"));
        // One that came meanwhile stays, too.
        assert!(write(&file, b"two", false).unwrap_err().to_string().contains("is there by now"));
        assert_eq!(
            (fs::read(&file).unwrap(), names(dir.path())),
            (b"one".to_vec(), vec!["page.html".to_owned()])
        );
        write(&check(&file, true).unwrap(), b"two", true).unwrap();
        assert_eq!(
            (fs::read(&file).unwrap(), names(dir.path())),
            (b"two".to_vec(), vec!["page.html".to_owned()])
        );
    }

    #[test]
    fn what_is_no_file_and_nowhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            check(dir.path(), true).unwrap_err().to_string().ends_with("is a directory; name a file in it")
        );
        let nowhere = dir.path().join("none").join("page.html");
        assert!(check(&nowhere, true).unwrap_err().to_string().starts_with("there is no directory"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("page.html"), dir.path().join("link.html"));
        fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(check(&link, false).is_err());
        write(&check(&link, true).unwrap(), b"two", true).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(check(Path::new("/dev/null"), true).unwrap_err().to_string().contains("is no file"));
    }
}
