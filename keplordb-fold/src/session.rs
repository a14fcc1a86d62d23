//! The mark of a session: from which offset on the active log may have what a crash damaged.
//!
//! A power cut may leave any part of what was written since the last sync, holes too, and a batch that was not committed. To look
//! for that in the whole log at each opening would be slow, and wrong: what is damaged among events that were synced is no crash's
//! doing, and to be told. So before its first append a writer notes, durably, where the log ended; again whenever some megabytes
//! more are synced; and when it closes and all is synced, that it did. What it noted is the beginning of what a later opening looks through.
//!
//! ```text
//! app.session    byte 0     open <offset> <hash> or closed <hash>, filled with spaces to 63 bytes, '\n'
//!                byte 4096  doubt <offset> <hash>, likewise; only behind a failed sync
//! ```
//! The hash is that of what it stands behind. `doubt` is for after a failed sync: the system then may show bytes that are not on the disk
//! and that no other sync writes, so they must be written again.
//!
//! Only overwritten in place. The first mark, where it is torn, says `closed`: it is written only when all of the log is synced. Doubt comes
//! when it is not, and in a hurry, without a sync; so it stands apart, where it tears nothing, and torn it says nothing: then the
//! power has failed, and what the system shows is what is on the disk.

use std::io;
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile};

use crate::error::at;
use crate::hash::line_hash;
use crate::paths::Paths;
use crate::turn::make;

/// Within one sector, so that as a rule it is written whole.
const MARK_BYTES: usize = 64;

/// Where doubt is noted: in no sector that the first mark has a part of.
const DOUBT_AT: u64 = 4096;

/// What the last writer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// From where on a crash may have damaged the log.
    pub(crate) from: u64,
    /// Whether a sync failed behind that.
    pub(crate) is_doubtful: bool,
}

/// A writer's side of the mark.
#[derive(Debug)]
pub(crate) struct Session {
    disk: Arc<dyn Disk>,
    paths: Arc<Paths>,
    file: Arc<dyn DiskFile>,
}

impl Session {
    pub(crate) fn open(disk: &Arc<dyn Disk>, paths: &Arc<Paths>) -> io::Result<Self> {
        make(disk.as_ref(), &paths.session)?;
        let file = disk.open(&paths.session).map_err(at("open", &paths.session))?;
        Ok(Self { disk: Arc::clone(disk), paths: Arc::clone(paths), file })
    }

    /// What the last writer left; `None` if it closed, or there was none.
    pub(crate) fn unfinished(&self) -> io::Result<Option<Unfinished>> {
        read_marks(self.file.as_ref(), &self.paths)
    }

    /// As [`unfinished`](Self::unfinished), for those who only look.
    pub(crate) fn look(disk: &dyn Disk, paths: &Paths) -> io::Result<Option<Unfinished>> {
        let file = match disk.open_read(&paths.session) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at("open", &paths.session))?,
        };
        read_marks(file.as_ref(), paths)
    }

    /// A writer begins to append behind `offset`: durable on return, so that nothing is written before it is.
    pub(crate) fn begin(&self, offset: u64) -> io::Result<()> {
        // What was doubtful was looked at. If the doubt comes back by a power cut, it costs another look.
        if self.file.bytes().map_err(at("read", &self.paths.session))? > MARK_BYTES as u64 {
            self.file.truncate(MARK_BYTES as u64).map_err(at("cut", &self.paths.session))?;
        }
        self.write(&format!("open {offset}"), 0)?;
        self.file.sync().map_err(at("sync", &self.paths.session))?;
        self.disk.sync_dir(&self.paths.dir).map_err(at("sync", &self.paths.dir))
    }

    /// All before `offset` is synced, so that a later opening need not look there. Durable on return; while it is under way nothing
    /// is unsynced, so that it may be torn.
    pub(crate) fn advance(&self, offset: u64) -> io::Result<()> {
        self.write(&format!("open {offset}"), 0)?;
        self.file.sync().map_err(at("sync", &self.paths.session))
    }

    /// A sync failed; what lies before `offset` was synced earlier.
    pub(crate) fn doubt(&self, offset: u64) -> io::Result<()> {
        let doubt = format!("doubt {offset}");
        // On a full disk in place of the first mark, rather than not at all.
        self.write(&doubt, DOUBT_AT).or_else(|_| self.write(&doubt, 0))
    }

    /// A writer ended, and all of the log is synced. A power cut may undo it, which costs the next opening a look.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.write("closed", 0)
    }

    fn write(&self, what: &str, offset: u64) -> io::Result<()> {
        let marked = format!("{what} {}", line_hash(what.as_bytes()));
        let mark = format!("{marked:<width$}\n", width = MARK_BYTES - 1);
        self.file.write_at(mark.as_bytes(), offset).map_err(at("write", &self.paths.session))
    }
}

/// Doubt, else the first mark.
fn read_marks(file: &dyn DiskFile, paths: &Paths) -> io::Result<Option<Unfinished>> {
    for offset in [DOUBT_AT, 0] {
        let mut mark = [0; MARK_BYTES];
        let read = file.read_at(&mut mark, offset).map_err(at("read", &paths.session))?;
        if let Some(unfinished) = mark.get(..read).and_then(parse) {
            return Ok(Some(unfinished));
        }
    }
    Ok(None)
}

fn parse(mark: &[u8]) -> Option<Unfinished> {
    let (what, hash) = std::str::from_utf8(mark).ok()?.trim_end().rsplit_once(' ')?;
    if hash != line_hash(what.as_bytes()) {
        return None;
    }
    let (word, from) = what.split_once(' ')?;
    let from = from.parse().ok()?;
    match word {
        "open" => Some(Unfinished { from, is_doubtful: false }),
        "doubt" => Some(Unfinished { from, is_doubtful: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keplordb_disk::SimDisk;

    use super::*;

    #[test]
    fn a_session_is_unfinished_until_it_ends() {
        let disk = SimDisk::default();
        let paths = Arc::new(Paths::new(Path::new("app")));
        disk.create_dir(&paths.dir).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let unfinished = |disk: SimDisk| {
            let disk: Arc<dyn Disk> = Arc::new(disk);
            Session::open(&disk, &paths).unwrap().unfinished().unwrap()
        };
        let open = |from| Some(Unfinished { from, is_doubtful: false });
        let session = Session::open(&shared, &paths).unwrap();
        assert_eq!(session.unfinished().unwrap(), None);
        session.begin(7).unwrap();
        assert_eq!(unfinished(disk.power_cut(0)), open(7));
        session.begin(u64::MAX).unwrap();
        assert_eq!(unfinished(disk.power_cut(0)), open(u64::MAX));
        session.doubt(9).unwrap();
        assert_eq!(unfinished(disk.kill()), Some(Unfinished { from: 9, is_doubtful: true }));
        for seed in 0..100 {
            // Whatever becomes of the doubt, it takes nothing away of what is known for sure.
            let left = unfinished(disk.power_cut(seed));
            let doubt = Some(Unfinished { from: 9, is_doubtful: true });
            assert!(left == doubt || left == open(u64::MAX), "seed {seed}: {left:?}");
        }
        session.begin(u64::MAX).unwrap();
        assert_eq!(unfinished(disk.kill()), open(u64::MAX), "the doubt is over");
        session.end().unwrap();
        assert_eq!(unfinished(disk.kill()), None);
        for seed in 0..30 {
            // Whatever a power cut leaves of it, it never is another offset.
            let left = unfinished(disk.power_cut(seed));
            assert!(left.is_none() || left == open(u64::MAX), "{left:?}");
        }
    }
}
