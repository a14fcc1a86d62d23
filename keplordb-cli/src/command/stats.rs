//! `keplor stats`: what a table holds in all.

use std::path::PathBuf;

use anyhow::Result;

use super::Done;
use crate::files::Files;
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};
use crate::table;

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
        let time = |pick: fn((i64, i64)) -> i64| {
            snapshot.times().map_or(Cell::Nothing, |times| Cell::Time(pick(times)))
        };
        let rows = snapshot.live_rows();
        let bytes = segment_bytes + logs.bytes;
        let each = if rows == 0 { Cell::Nothing } else { Cell::Share(bytes as f64 / rows as f64) };
        let values = [
            ("events", Cell::Number(rows.into())),
            ("first", time(|(first, _)| first)),
            ("last", time(|(_, last)| last)),
            ("segments", Cell::Number(segments.len() as i128)),
            ("segment_bytes", Cell::Number(segment_bytes.into())),
            ("logs", Cell::Number(logs.files.into())),
            ("log_bytes", Cell::Number(logs.bytes.into())),
            ("bytes_per_event", each),
        ];
        if self.form.is_text() {
            for (name, value) in &values {
                out.line(&format!("{:<16} {}", name.replace('_', " "), value.text()))?;
            }
        } else {
            let (headings, cells): (Vec<_>, Vec<_>) =
                values.into_iter().map(|(name, cell)| (Heading::right(name), cell)).unzip();
            let mut sheet = Sheet::new(out, self.form, headings);
            sheet.row(&cells)?;
            sheet.finish()?;
        }
        Ok(Done::Well)
    }
}
