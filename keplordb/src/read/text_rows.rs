//! The rows of a segment whose text passes a test, found by looking at texts: where no index knows them.

use super::select::Selection;
use crate::expr::TextTest;
use crate::format::bytes::Malformed;
use crate::format::texts::Texts;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};

/// Texts up to which looking for each costs less than reading every row's text and looking it up among them.
const MOST_SOUGHT: usize = 16;

/// The selected rows whose text passes, ascending.
pub(super) fn rows_passing(
    texts: Texts<'_>,
    test: &TextTest,
    selection: &Selection<'_>,
) -> Result<Vec<u32>, Malformed> {
    match test.wanted().filter(|wanted| wanted.len() <= MOST_SOUGHT) {
        Some(wanted) if !selection.has_list() => rows_with(texts, wanted, selection),
        _ => rows_read(texts, test, selection),
    }
}

/// Chunk by chunk, by what texts look like where they are stored.
fn rows_with(texts: Texts<'_>, wanted: &[String], selection: &Selection<'_>) -> Result<Vec<u32>, Malformed> {
    let (mut rows, kernels) = (Vec::new(), Kernels::best());
    let mut finder = texts.finder(wanted, kernels);
    for chunk in selection.chunks() {
        let candidates = selection.mask(kernels, chunk);
        if candidates == Mask::default() {
            continue;
        }
        let found = finder.find(chunk, &candidates)?;
        for (number, mut left) in found.into_iter().enumerate() {
            while left != 0 {
                let row = chunk * CHUNK_ROWS + 64 * number + left.trailing_zeros() as usize;
                rows.extend(u32::try_from(row));
                left &= left - 1;
            }
        }
    }
    Ok(rows)
}

/// Row by row: the obvious way, for any test.
fn rows_read(texts: Texts<'_>, test: &TextTest, selection: &Selection<'_>) -> Result<Vec<u32>, Malformed> {
    let (mut rows, mut reader) = (Vec::new(), texts.reader());
    for row in selection.tested_rows() {
        if test.holds(reader.get(row as usize)?) {
            rows.push(row);
        }
    }
    Ok(rows)
}
