//! `keplor log ls`: the segments of a log.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_log::SegmentInfo;

use super::{existing, time};
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor log ls bank --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Ls {
    /// The log's directory
    dir: PathBuf,
    #[command(flatten)]
    form: Form,
}

impl Ls {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        print(out, self.form, &existing(&self.dir)?.segments()?)
    }
}

/// Prints segments, oldest first.
pub(super) fn print(out: &mut Output, form: Form, segments: &[SegmentInfo]) -> Result<()> {
    let headings = vec![
        Heading::left("start"),
        Heading::left("end"),
        Heading::right("entries"),
        Heading::right("bytes"),
        // Whether nothing more is appended to it.
        Heading::left("closed"),
        // Whether some of it cannot be read; `verify` says where.
        Heading::left("damaged"),
    ];
    let mut sheet = Sheet::new(out, form, headings);
    for segment in segments {
        sheet.row(&[
            time(segment.start),
            time(segment.end),
            Cell::Number(segment.entries.into()),
            Cell::Number(segment.bytes.into()),
            Cell::Truth(segment.is_closed),
            Cell::Truth(segment.is_damaged),
        ])?;
    }
    sheet.finish()
}
