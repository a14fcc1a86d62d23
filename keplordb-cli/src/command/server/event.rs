//! An event of an entity on standard output: a row for people, the whole of it as JSON.

use anyhow::Result;
use keplordb_server::EntityEvent;
use serde_json::Value as Json;

use super::{text, time};
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Prints events in one form.
pub(super) enum Printer<'o> {
    Json(&'o mut Output),
    Rows {
        sheet: Sheet<'o>,
        /// Of one entity its name need not be said.
        has_names: bool,
        /// For people the ids of events are left out.
        has_ids: bool,
    },
}

impl<'o> Printer<'o> {
    pub(super) fn new(out: &'o mut Output, form: Form, has_names: bool) -> Self {
        if form.json {
            return Self::Json(out);
        }
        let mut headings =
            vec![Heading::right("sequence"), Heading::left("happened"), Heading::left("came_in")];
        if has_names {
            headings.extend([Heading::left("type"), Heading::left("id")]);
        }
        headings.extend([Heading::left("op"), Heading::left("client"), Heading::left("payload")]);
        headings.extend(form.csv.then(|| Heading::left("event_id")));
        Self::Rows { sheet: Sheet::new(out, form, headings), has_names, has_ids: form.csv }
    }

    pub(super) fn print(&mut self, event: &EntityEvent) -> Result<()> {
        match self {
            Self::Json(out) => out.json(event),
            Self::Rows { sheet, has_names, has_ids } => {
                let mut cells = vec![
                    Cell::Exact(event.sequence.into()),
                    time(event.event_time_ms),
                    time(event.received_at_ms),
                ];
                if *has_names {
                    cells
                        .extend([Cell::Text(event.entity_type.clone()), Cell::Text(event.entity_id.clone())]);
                }
                let payload = event
                    .payload
                    .clone()
                    .map_or(Cell::Nothing, |payload| Cell::Text(Json::Object(payload).to_string()));
                cells.extend([Cell::Text(event.operation.as_str().to_owned()), text(&event.client), payload]);
                cells.extend(has_ids.then(|| Cell::Text(event.event_id.clone())));
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

    /// As [`Output::check_reader`].
    pub(super) fn check_reader(&self) -> Result<()> {
        match self {
            Self::Json(out) => out.check_reader(),
            Self::Rows { sheet, .. } => sheet.check_reader(),
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Json(_) => Ok(()),
            Self::Rows { sheet, .. } => sheet.finish(),
        }
    }
}
