//! `damaged/`: where bytes go that were found to be no events, before they are taken out of a file.
//!
//! A file there is called `<file>-<offset>-<hash of the bytes>`, so that doing it twice, as after a crash, makes one file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use keplordb_disk::{Disk, DiskFile, put_in_place};
use xxhash_rust::xxh64::Xxh64;

use crate::error::at;
use crate::paths::Paths;

/// How much is copied at once.
const COPY_BYTES: u64 = 256 << 10;

/// Copies a range of a file to a file of its own, durably, and tells the program's log; returns its path. `name` is that of the first.
pub(crate) fn set_aside(
    disk: &dyn Disk,
    paths: &Paths,
    (file, name): (&dyn DiskFile, &str),
    range: Range<u64>,
) -> io::Result<PathBuf> {
    let dir = &paths.damaged;
    disk.create_dir(dir).map_err(at("create", dir))?;
    let source = dir.with_file_name(name);
    let pieces = |each: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>| {
        let mut from = range.start;
        while from < range.end {
            let wanted = usize::try_from(COPY_BYTES.min(range.end - from)).map_err(io::Error::other)?;
            let mut piece = vec![0; wanted];
            let read = file.read_at(&mut piece, from).map_err(at("read", &source))?;
            piece.truncate(read);
            if piece.is_empty() {
                break;
            }
            each(from, &piece)?;
            from += read as u64;
        }
        Ok(())
    };
    let mut hash = Xxh64::new(0);
    pieces(&mut |_, piece| {
        hash.update(piece);
        Ok(())
    })?;
    let target = dir.join(format!("{name}-{}-{:016x}", range.start, hash.digest()));
    put_in_place(disk, &target, |copy| pieces(&mut |from, piece| copy.write_at(piece, from - range.start)))
        .and_then(|()| disk.sync_dir(dir))
        .map_err(at("write", &target))?;
    tracing::warn!(
        file = %source.display(),
        offset = range.start,
        bytes = range.end - range.start,
        kept = %target.display(),
        "set damaged bytes aside"
    );
    Ok(target)
}

/// Copies a file of a view, likewise.
pub(crate) fn copy_aside(disk: &dyn Disk, paths: &Paths, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("snapshot");
    let file = disk.open_read(path).map_err(at("open", path))?;
    let bytes = file.bytes().map_err(at("read", path))?;
    set_aside(disk, paths, (file.as_ref(), name), 0..bytes)
}
