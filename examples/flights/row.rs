//! A flight as the CSV file has it. Knows nothing of the engine: what is computed from rows judges the engine's answers.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// One line of the file; an empty field is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Row {
    /// The scheduled departure.
    pub(crate) scheduled_utc: Timestamp,
    pub(crate) carrier: String,
    /// The flight's number, of its carrier.
    pub(crate) flight: String,
    /// The aircraft; empty where it is not known.
    pub(crate) tail: String,
    pub(crate) origin: String,
    pub(crate) dest: String,
    /// Negative when early, missing when cancelled.
    pub(crate) dep_delay_min: Option<i32>,
    /// Negative when early, missing when cancelled or diverted.
    pub(crate) arr_delay_min: Option<i32>,
    pub(crate) air_time_min: Option<u32>,
    pub(crate) distance_mi: u32,
}

impl Row {
    /// A carrier gives a number to one flight at a time, so this names it.
    pub(crate) fn id(&self) -> String {
        format!("{}{}-{}", self.carrier, self.flight, self.scheduled_utc)
    }

    /// The UTC day of the scheduled departure.
    pub(crate) fn day(&self) -> String {
        self.scheduled_utc.strftime("%F").to_string()
    }

    /// Never took off.
    pub(crate) fn cancelled(&self) -> bool {
        self.dep_delay_min.is_none()
    }
}

/// The first `limit` rows of `data/flights-2013.csv.zst`, in the file's order.
pub(crate) fn read_all(limit: usize) -> Result<Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-2013.csv.zst");
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut csv = csv::Reader::from_reader(zstd::Decoder::new(file)?);
    let rows: Result<Vec<Row>, _> = csv.deserialize().take(limit).collect();
    rows.with_context(|| format!("cannot read {}", path.display()))
}
