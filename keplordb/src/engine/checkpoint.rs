//! A coherent copy of the table in another directory, while the engine runs.

use std::path::Path;
use std::sync::Arc;

use super::Core;
use crate::config::MAX_MEMTABLE_BYTES;
use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{ListedSegment, Manifest};
use crate::state::segment_rows::{Job, SegmentRows, encode, groups};
use crate::storage::directory::Directory;
use crate::storage::manifest::ManifestFile;
use crate::storage::tombstones;

impl Core {
    /// Copies every row acknowledged before the call into `target`, an empty or missing directory on the same disk.
    ///
    /// Segments are shared by hard links where the file system can, rows that are only in logs are written as one segment,
    /// and the manifest comes last. A mark stands in the directory until then: a copy that was cut short does not open.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<()> {
        self.checkpoint_in_groups(target, MAX_MEMTABLE_BYTES)
    }

    /// As [`checkpoint`](Self::checkpoint); rows that are only in logs become a segment for each so many bytes of memory.
    pub(super) fn checkpoint_in_groups(&self, target: &Path, max_bytes: usize) -> Result<()> {
        let _told = self.wal.directory.notices().tell_at_end();
        let target = Directory::new(Arc::clone(self.wal.directory.disk()), target.to_owned());
        target.create_root()?;
        // Before anything is put there, the lock too; and again when nobody else can put anything there.
        check_empty(&target)?;
        let mut lock = target.lock()?;
        check_empty(&target)?;
        target.write_whole(&target.incomplete(), b"")?;
        target.create_folders()?;

        // Nothing is published meanwhile: segments, tombstones and memtables belong together.
        let publish = self.publish.lock();
        let version = self.source.version();
        let mut segments = Vec::new();
        for entry in &version.segments {
            let number = entry.segment.number();
            self.link_or_copy(entry.segment.path(), &target.segment(number))?;
            segments.push(ListedSegment { number, file_bytes: entry.segment.header().file_bytes });
        }
        let job = Job {
            schema: self.source.schema(),
            generations: &[],
            supersedes: &[],
            bloom_dim: Some(self.config.bloom_dim).filter(|dim| *dim < self.source.schema().shape().dims),
            rollup_dims: &self.config.rollup_dims,
        };
        let mut next_segment = publish.next_segment;
        for group in groups(&version.memtables, max_bytes) {
            let rows = SegmentRows::gather(group);
            if !rows.is_empty() {
                let bytes = encode(&job, &rows);
                target.write_whole(&target.segment(next_segment), &bytes)?;
                segments.push(ListedSegment { number: next_segment, file_bytes: bytes.len() as u64 });
                next_segment += 1;
            }
        }
        if let Some(log) = &publish.tombstones {
            tombstones::copy(&self.wal.directory, &target, log.number(), log.synced_bytes())?;
        }
        let disk = target.disk();
        disk.sync_dir(&target.segment_dir()).at("sync", &target.segment_dir())?;
        let copy = Manifest {
            next_segment,
            closed: true,
            segments,
            wals: Vec::new(),
            replaced: Vec::new(),
            ..self.manifest_of(&publish, &version, |_| false)
        };
        ManifestFile::new(target.clone()).replace(&copy)?;
        target.adopt(&mut lock)?;
        let disk = target.disk();
        disk.remove(&target.incomplete()).at("remove", &target.incomplete())?;
        disk.sync_dir(target.root()).at("sync", target.root())
    }

    fn link_or_copy(&self, source: &Path, target: &Path) -> Result<()> {
        let disk = self.wal.directory.disk();
        match disk.link(source, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Err(DbError::io("link", target, error))
            }
            // Another file system, or one without hard links.
            Err(_) => {
                let bytes = keplordb_disk::read_all(disk.as_ref(), source, u64::MAX).at("read", source)?;
                keplordb_disk::replace(disk.as_ref(), target, &bytes).at("write", target)
            }
        }
    }
}

fn check_empty(target: &Directory) -> Result<()> {
    if target.is_empty()? {
        return Ok(());
    }
    let why = format!("{} is not empty", target.root().display());
    Err(DbError::invalid("target_dir", why))
}
