//! Answers as texts, so that those of all who were asked can be compared.

use anyhow::{Result, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;

/// Rows of values.
pub(crate) type Answer = Vec<Vec<String>>;

/// The rows of record batches.
pub(crate) fn of_batches(batches: &[RecordBatch]) -> Result<Answer> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| array_value_to_string(column, row));
            rows.push(values.collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}

/// Refuses an answer that is not the same.
pub(crate) fn ensure_same(what: &str, found: &Answer, wanted: &Answer) -> Result<()> {
    let place = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    let place = place.unwrap_or_else(|| found.len().min(wanted.len()));
    ensure!(
        found == wanted,
        "{what}: {} rows instead of {}; row {place} is {:?} instead of {:?}",
        found.len(),
        wanted.len(),
        found.get(place),
        wanted.get(place)
    );
    Ok(())
}
