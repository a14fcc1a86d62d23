//! The events of a directory: which of them are meant, and what to say where a line is none.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, bail, ensure};
use keplordb_fold::{Event, EventReader, FoldError, StateFile};

use crate::output::{counted, note};

/// Which events are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Wanted {
    /// Only events of this type; may be given again
    #[arg(long = "type", value_name = "TYPE", help_heading = "Which events")]
    pub(super) types: Vec<String>,
    /// Only events by this actor; may be given again
    #[arg(long = "actor", value_name = "ACTOR", help_heading = "Which events")]
    pub(super) actors: Vec<String>,
    /// Pass over lines that are no events, rather than stop there
    #[arg(long, help_heading = "Which events")]
    pub(super) skip_damaged: bool,
}

impl Wanted {
    pub(super) fn has(&self, event: &Event) -> bool {
        let is_type = self.types.is_empty() || self.types.contains(&event.event_type);
        let is_actor =
            self.actors.is_empty() || event.actor.as_ref().is_some_and(|actor| self.actors.contains(actor));
        is_type && is_actor
    }

    /// Whether any event is meant.
    pub(super) fn is_any(&self) -> bool {
        self.types.is_empty() && self.actors.is_empty()
    }
}

/// A directory that holds a log of events, to read beside its writer.
pub(super) struct Source {
    pub(super) dir: PathBuf,
    pub(super) reader: EventReader,
}

impl Source {
    /// The log in a directory that must hold one: nothing is made in its place.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            ensure!(
                dir.exists(),
                "there is no directory {}; give the one that a program keeps its events in",
                dir.display()
            );
            bail!("{} is no directory; give the one that holds app.jsonl", dir.display());
        }
        let reader = EventReader::new(dir);
        ensure!(
            reader.log_path().is_file(),
            "{} holds no log of events: it has no app.jsonl; give the directory that a program keeps its events in",
            dir.display()
        );
        Ok(Self { dir: dir.to_owned(), reader })
    }

    /// Hands over the events from a number on, each with its number, until told to stop.
    pub(super) fn each(
        &self,
        begin: u64,
        wanted: &Wanted,
        mut take: impl FnMut(Event, u64) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut passed_over = 0;
        for item in self.reader.read_seq(begin).map_err(|error| self.explained(error))? {
            match item {
                Ok((event, sequence)) => {
                    if take(event, sequence)?.is_break() {
                        break;
                    }
                }
                Err(error) if wanted.skip_damaged && is_bad_line(&error) => passed_over += 1,
                Err(error) => return Err(self.explained(error)),
            }
        }
        if passed_over > 0 {
            let lines = counted(passed_over, "line that is no event was", "lines that are no events were");
            note(&format!("{lines} passed over; `keplor fold verify {}` says where", self.dir.display()));
        }
        Ok(())
    }

    /// The files in which views keep their states.
    pub(super) fn states(&self) -> Result<Vec<StateFile>> {
        self.reader.state_files().map_err(|error| self.explained(error))
    }

    /// An error with what to do about it here, where no program calls the library.
    pub(super) fn explained(&self, error: io::Error) -> Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let is_damage = matches!(inner, Some(FoldError::BadLine { .. } | FoldError::Damaged { .. }));
        let dir = self.dir.display();
        let error = Error::from(error);
        if is_damage {
            return error.context(format!(
                "{dir} is damaged; `keplor fold verify {dir}` says all, and `keplor fold repair {dir}` sets it aside"
            ));
        }
        error
    }
}

/// The views that have files, each once.
pub(super) fn names_of_views(files: &[StateFile]) -> Vec<&str> {
    let mut names: Vec<&str> = files.iter().map(|file| file.view.as_str()).collect();
    names.dedup();
    names
}

/// Whether there is more to read behind this error.
pub(super) fn is_bad_line(error: &io::Error) -> bool {
    matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(FoldError::BadLine { .. }))
}
