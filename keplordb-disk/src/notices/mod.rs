//! Watching a directory of the operating system: by its notices where it gives them, else by looking.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod inotify;
#[cfg(any(
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod kqueue;
mod listing;
mod looking;
#[cfg(all(test, target_os = "linux"))]
mod stand_in;
#[cfg(test)]
mod tests;
#[cfg(any(
    all(test, target_os = "linux"),
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod vnodes;

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::Watch;
use looking::Looks;

#[cfg(any(target_os = "linux", target_os = "android"))]
use inotify::watch as notices;
#[cfg(any(
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
use kqueue::watch as notices;

/// A watch of a real directory.
pub(crate) fn watch(dir: &Path) -> io::Result<Box<dyn Watch>> {
    match notices(dir) {
        // A user may have only so many of them (128 as a rule on Linux), a process only so many open files, and some
        // containers give none.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Box::new(Looks::at(dir)?))
        }
        watch => watch,
    }
}

/// Elsewhere nothing gives notice. Windows has notices of directories, but is only bound to give that of a write when the
/// file is closed, and no safe way to them has a licence that is allowed here.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
fn notices(_dir: &Path) -> io::Result<Box<dyn Watch>> {
    Err(ErrorKind::Unsupported.into())
}
