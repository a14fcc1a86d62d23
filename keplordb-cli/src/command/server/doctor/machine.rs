//! What a root's disk and the system under it give: room, links, and files that may be open.

use std::io;
use std::path::Path;

/// Bytes that may still be written on the disk of a directory, where the system tells.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
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

/// How many files a process may have open, where the system is Linux and tells. `u64::MAX` is as many as it likes.
pub(super) fn open_files_max(pid: u32) -> Option<u64> {
    of_limits(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// The limit that is in force, in the table that Linux has of a process.
fn of_limits(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Makes links in a directory, and removes them; which kind cannot be made, and why. An error is that nothing can be made there.
pub(super) fn try_links(dir: &Path) -> io::Result<Option<String>> {
    let within = tempfile::Builder::new().prefix(".doctor-").tempdir_in(dir)?;
    let [file, hard, symbolic] = ["file", "hard", "symbolic"].map(|name| within.path().join(name));
    std::fs::write(&file, b"")?;
    let hard = std::fs::hard_link(&file, hard).err();
    let symbolic = symlink(&file, &symbolic).and_then(|()| symbolic.metadata()).err();
    within.close()?;
    let mut missing = [("hard", hard), ("symbolic", symbolic)].into_iter();
    Ok(missing.find_map(|(kind, error)| Some(format!("no {kind} links: {}", error?))))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_in_force_is_the_first_number() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             unlimited            unlimited            processes \n\
                      Max open files            1024                 1048576              files     \n";
        assert_eq!(of_limits(limits), Some(1024));
        assert_eq!(of_limits(&limits.replace("1024 ", "unlimited ")), Some(u64::MAX));
        assert_eq!(of_limits("Max processes  1  1  processes\n"), None);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_tried_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(try_links(dir.path()).unwrap(), None);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert!(try_links(&dir.path().join("none")).is_err());
        assert!(free_bytes(dir.path()).is_some_and(|bytes| bytes > 0));
        if cfg!(target_os = "linux") {
            assert!(open_files_max(std::process::id()).is_some_and(|files| files > 2));
        }
    }
}
