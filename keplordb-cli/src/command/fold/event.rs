//! An event on standard output: a row for people, the whole of it as JSON or CSV.

use anyhow::Result;
use keplordb_fold::Event;
use serde::Serialize;

use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};

/// An event as JSON: its line in the log, and its number.
#[derive(Serialize)]
struct Shown<'a> {
    sequence: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Prints events in one form.
pub(super) enum Printer<'o> {
    Json(&'o mut Output),
    /// For people id and meta are left out.
    Rows {
        sheet: Sheet<'o>,
        is_whole: bool,
    },
}

impl<'o> Printer<'o> {
    pub(super) fn new(out: &'o mut Output, form: Form) -> Self {
        if form.json {
            return Self::Json(out);
        }
        let mut headings = vec![Heading::right("sequence"), Heading::left("ts"), Heading::left("type")];
        headings.extend(form.csv.then(|| Heading::left("id")));
        headings.extend([Heading::left("actor"), Heading::left("data")]);
        headings.extend(form.csv.then(|| Heading::left("meta")));
        Self::Rows { sheet: Sheet::new(out, form, headings), is_whole: form.csv }
    }

    pub(super) fn print(&mut self, event: &Event, sequence: u64) -> Result<()> {
        match self {
            Self::Json(out) => out.json(&Shown { sequence, event }),
            Self::Rows { sheet, is_whole } => {
                let text = |text: &Option<String>| text.clone().map_or(Cell::Nothing, Cell::Text);
                let mut cells =
                    vec![Cell::Number(sequence.into()), time(event.ts), Cell::Text(event.event_type.clone())];
                cells.extend(is_whole.then(|| text(&event.id)));
                cells.extend([text(&event.actor), Cell::Text(event.data.to_string())]);
                let meta = event.meta.as_ref().map_or(Cell::Nothing, |meta| Cell::Text(meta.to_string()));
                cells.extend(is_whole.then_some(meta));
                sheet.row(&cells)
            }
        }
    }

    /// Shows what was printed.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self {
            Self::Json(out) => out.flush(),
            Self::Rows { sheet, .. } => sheet.flush(),
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Json(_) => Ok(()),
            Self::Rows { sheet, .. } => sheet.finish(),
        }
    }
}

/// A time in whole seconds; those that no calendar of ours reaches stay numbers.
pub(super) fn time(ts: u64) -> Cell {
    let ts_ns = i64::try_from(ts).ok().and_then(|ts| ts.checked_mul(1_000_000_000));
    ts_ns.map_or_else(|| Cell::Number(ts.into()), Cell::Time)
}
