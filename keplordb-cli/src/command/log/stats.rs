//! `keplor log stats`: what a log holds in all.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_log::{LogStats, Timestamp};

use super::{existing, time};
use crate::output::Output;
use crate::sheet::{Cell, Form, summary};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor log stats bank --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Stats {
    /// The log's directory
    dir: PathBuf,
    #[command(flatten)]
    form: Form,
}

impl Stats {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let LogStats { segments, entries, bytes, first, last } = existing(&self.dir)?.stats()?;
        let number = |number: u64| Cell::Number(number.into());
        let moment = |moment: Option<Timestamp>| moment.map_or(Cell::Nothing, time);
        let values = [
            ("segments", number(segments)),
            ("entries", number(entries)),
            ("bytes", number(bytes)),
            ("first", moment(first)),
            ("last", moment(last)),
        ];
        summary(out, self.form, values)
    }
}
