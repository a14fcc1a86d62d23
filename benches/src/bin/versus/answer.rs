//! An answer as the peers print it: one short row in full, anything else as its number of rows and a checksum.

use std::fmt;

use keplordb::EventFlags;
use keplordb_benches::calls::{LlmCallRow, LlmCallView};
use keplordb_benches::workload::Event;

/// Fields of a row that is printed in full.
const SHORT_ROW_FIELDS: usize = 4;

/// Rows of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer(pub(crate) Vec<Vec<String>>);

impl Answer {
    /// One row.
    pub(crate) fn row(fields: &[&dyn fmt::Display]) -> Self {
        Self(vec![fields_of(fields)])
    }

    /// A row for each event.
    pub(crate) fn rows(rows: &[LlmCallRow]) -> Self {
        Self(rows.iter().map(row_fields).collect())
    }

    /// A row for each event of the workload.
    pub(crate) fn events(events: impl IntoIterator<Item = Event>) -> Self {
        Self(events.into_iter().map(|event| event_fields(&event)).collect())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [row] if row.len() <= SHORT_ROW_FIELDS => out.write_str(&row.join(" ")),
            rows => {
                let lines: Vec<_> = rows.iter().map(|row| row.join("\t")).collect();
                let crc = crc32fast::hash(lines.join("\n").as_bytes());
                write!(out, "{} rows crc32={crc:08x}", rows.len())
            }
        }
    }
}

/// The fields of a row as texts.
pub(crate) fn fields_of(fields: &[&dyn fmt::Display]) -> Vec<String> {
    fields.iter().map(ToString::to_string).collect()
}

fn flag_bits(flags: EventFlags) -> u16 {
    flags.0
}

/// The fields of a row, in the order of the peers' columns.
macro_rules! fields_of_row {
    ($row:expr, $id:expr, $label:expr) => {
        fields_of(&[
            &$row.ts_ns(),
            &$row.user(),
            &$row.model(),
            &$row.tokens(),
            &$row.metric(),
            &$row.latency_ms(),
            &$row.latency_detail_ms(),
            &$row.status(),
            &flag_bits($row.flags()),
            &$id,
            &$label,
        ])
    };
}

fn row_fields(row: &LlmCallRow) -> Vec<String> {
    fields_of_row!(row, row.id(), row.label())
}

/// The fields of a row that is not copied.
pub(crate) fn view_fields(row: &LlmCallView<'_>) -> keplordb::Result<Vec<String>> {
    Ok(fields_of_row!(row, row.id()?, row.label()?))
}

fn event_fields(event: &Event) -> Vec<String> {
    let Event { dims: [user, model], counters: [tokens], labels: [label], .. } = event;
    fields_of(&[
        &event.ts_ns,
        user,
        model,
        tokens,
        &event.metric,
        &event.latency_ms,
        &event.latency_detail_ms,
        &event.status,
        &flag_bits(event.flags),
        &event.id,
        label,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_those_of_the_peers() {
        assert_eq!(Answer::row(&[&1, &-2, &"x"]).to_string(), "1 -2 x");
        assert_eq!(Answer::default().to_string(), "0 rows crc32=00000000");
        // CRC-32 of "1\t2\n3\t4".
        let rows = Answer(vec![fields_of(&[&1, &2]), fields_of(&[&3, &4])]);
        assert_eq!(rows.to_string(), format!("2 rows crc32={:08x}", crc32fast::hash(b"1\t2\n3\t4")));
        let long = Answer::row(&[&1, &2, &3, &4, &5]);
        assert!(long.to_string().starts_with("1 rows crc32="));
    }
}
