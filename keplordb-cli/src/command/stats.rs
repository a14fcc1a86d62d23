//! `keplor stats`: what a table holds in all.

use std::path::PathBuf;

use anyhow::Result;
use keplordb::any::{AnyAggregate, AnyGroupValue};

use super::Done;
use crate::files::Files;
use crate::output::Output;
use crate::sheet::{self, Cell, Form};
use crate::table::{self, TIME};

/// Print what a table holds in all
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  keplor stats calls.db --json\n\nAnother process may have the table open."
)]
pub(crate) struct Stats {
    /// The table's directory
    dir: PathBuf,
    #[command(flatten)]
    form: Form,
}

impl Stats {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let segments = snapshot.segments();
        let segment_bytes: u64 = segments.iter().map(|segment| segment.file_bytes).sum();
        let logs = Files::logs(&self.dir)?;
        let extremes = [AnyAggregate::Min(TIME.to_owned()), AnyAggregate::Max(TIME.to_owned())];
        // Of the events that are left: what a segment spans may have begun or ended with deleted ones.
        let times = snapshot.query().group_by(&[])?.select(&extremes)?.fetch()?;
        let time = |place: usize| match times.values(0).get(place) {
            Some(AnyGroupValue::Number(Some(ts_ns))) => Cell::Time(*ts_ns),
            _ => Cell::Nothing,
        };
        let rows = snapshot.live_rows();
        let bytes = segment_bytes + logs.bytes;
        let each = if rows == 0 { Cell::Nothing } else { Cell::Share(bytes as f64 / rows as f64) };
        let values = [
            ("events", Cell::Number(rows.into())),
            ("first", time(0)),
            ("last", time(1)),
            ("segments", Cell::Number(segments.len() as i128)),
            ("segment_bytes", Cell::Number(segment_bytes.into())),
            ("logs", Cell::Number(logs.files.into())),
            ("log_bytes", Cell::Number(logs.bytes.into())),
            ("bytes_per_event", each),
        ];
        sheet::summary(out, self.form, values)?;
        Ok(Done::Well)
    }
}
