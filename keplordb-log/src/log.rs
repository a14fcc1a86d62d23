//! A log as a directory with options: what is in it, and where writers and readers come from.

use std::path::Path;
use std::sync::Arc;

use keplordb_disk::Disk;

use crate::error::Result;
use crate::options::Options;
use crate::poison::Poison;

/// A log: a directory of segments, and how it is kept. Cheap to clone.
///
/// It opens nothing: any number of them, in any number of processes, may stand for one directory. Only a
/// writer is exclusive. A directory that is missing is an empty log; the writer makes it.
#[derive(Debug, Clone)]
pub struct Log {
    dir: Arc<Path>,
    options: Arc<Options>,
    /// Ends the removal of segments: after a failed sync nobody knows which names a power cut would bring back.
    removals: Poison,
}

impl Log {
    /// The log in `dir`, with default options.
    ///
    /// # Errors
    /// None at present; the directory is looked at later.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(dir, Options::default())
    }

    /// The log in `dir`.
    ///
    /// # Errors
    /// [`LogError::Invalid`](crate::LogError::Invalid) for options that are not legal.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        options.validate()?;
        Ok(Self { dir: dir.as_ref().into(), options: Arc::new(options), removals: Poison::default() })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// How it is kept.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn removals(&self) -> &Poison {
        &self.removals
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.options.disk
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{LogError, SyncPolicy};

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let field = |options| match Log::open_with("log", options) {
            Err(LogError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Options { max_segment_bytes: 0, ..Options::default() }), "max_segment_bytes");
        let none = Duration::ZERO;
        assert_eq!(
            field(Options { max_segment_duration: none, ..Options::default() }),
            "max_segment_duration"
        );
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let options = Log::open("log").unwrap().options().clone();
        assert_eq!(options.max_segment_bytes, 1 << 30);
        assert_eq!(options.max_segment_duration, Duration::from_hours(720));
        assert_eq!(options.sync, SyncPolicy::Each);
    }
}
