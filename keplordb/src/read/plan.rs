//! What one segment has to do with a predicate: nothing, everything, or a selection of its rows.
//!
//! A skip is a proof that no row can match; a condition is dropped only where every row fulfils it.

use super::select::{Condition, Selection};
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::keys::status_text;
use crate::format::segment::SegmentHeader;
use crate::state::version::SegmentEntry;
use crate::storage::segment_reader::OpenSegment;

/// What a segment's facts alone say; nothing is mapped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// No row can match.
    Skip,
    /// Every row matches.
    All,
    /// Only the segment's columns can tell.
    Open,
}

/// Asks a segment's header: its ranges of time and status, and the dims that it has.
pub(crate) fn by_facts(header: &SegmentHeader, predicate: &Predicate<'_>) -> Outlook {
    let facts = &header.facts;
    let stored_dims = header.schema.shape().dims;
    // A dim that is younger than the segment is empty in all its rows.
    let mut younger_dims = predicate.dims.iter().filter(|(dim, _)| *dim >= stored_dims);
    if header.rows == 0
        || facts.ts_max < predicate.from_ts_ns
        || predicate.to_ts_ns < facts.ts_min
        || facts.status_max < predicate.status_min
        || predicate.status_max < facts.status_min
        || younger_dims.any(|(_, value)| !value.is_empty())
    {
        return Outlook::Skip;
    }
    let every_row = predicate.from_ts_ns <= facts.ts_min
        && facts.ts_max <= predicate.to_ts_ns
        && every_status(header, predicate)
        && predicate.dims.iter().all(|(dim, _)| *dim >= stored_dims);
    if every_row { Outlook::All } else { Outlook::Open }
}

fn every_status(header: &SegmentHeader, predicate: &Predicate<'_>) -> bool {
    predicate.status_min <= header.facts.status_min && header.facts.status_max <= predicate.status_max
}

/// Resolves a predicate against a segment whose facts do not rule it out; `None` when no row can match after all.
pub(crate) fn select<'s>(
    entry: &'s SegmentEntry,
    open: &'s OpenSegment<'_>,
    predicate: &Predicate<'_>,
) -> Result<Option<Selection<'s>>> {
    let header = entry.segment.header();
    let mut conditions =
        Vec::with_capacity(predicate.dims.len() + usize::from(!every_status(header, predicate)));
    for (dim, value) in &predicate.dims {
        if header.bloom_dim == Some(*dim)
            && let Some(bloom) = open.bloom()?
            && !bloom.may_contain(value)
        {
            return Ok(None);
        }
        // Without the column every row is empty there, and the facts have let only the empty value pass.
        let Some(keys) = open.dim(*dim)? else { continue };
        let Some(code) = keys.code_of(value) else { return Ok(None) };
        if keys.values() > 1 {
            conditions.push(Condition::new(keys, code..code + 1));
        }
    }
    if !every_status(header, predicate) {
        let keys = open.status()?;
        let codes = keys.codes_in(&status_text(predicate.status_min), &status_text(predicate.status_max));
        if codes.is_empty() {
            return Ok(None);
        }
        if codes.len() < keys.values() as usize {
            conditions.push(Condition::new(keys, codes));
        }
    }

    let rows = header.rows as usize;
    let deleted = entry.deleted.as_deref();
    let mut selection = Selection { rows: 0..rows, conditions, deleted };
    match time_of_conditions(&selection.conditions, predicate) {
        TimeProof::None => return Ok(None),
        TimeProof::All => return Ok(Some(selection)),
        TimeProof::Unknown => {}
    }
    let facts = &header.facts;
    if predicate.from_ts_ns > facts.ts_min || facts.ts_max > predicate.to_ts_ns {
        let time = open.time()?;
        let start = time.partition_point(predicate.from_ts_ns, 0..rows);
        let end =
            predicate.to_ts_ns.checked_add(1).map_or(rows, |after| time.partition_point(after, start..rows));
        selection.rows = start..end;
    }
    Ok((!selection.rows.is_empty()).then_some(selection))
}

/// What the first and last times of the conditions' values say about the time range.
enum TimeProof {
    /// No row that fulfils the conditions lies in it.
    None,
    /// Every row that fulfils the conditions does.
    All,
    Unknown,
}

fn time_of_conditions(conditions: &[Condition<'_>], predicate: &Predicate<'_>) -> TimeProof {
    let mut proof = TimeProof::Unknown;
    for condition in conditions.iter().filter(|condition| condition.keys.has_value_sums()) {
        let keys = &condition.keys;
        let first = condition.codes.clone().map(|code| keys.first_ts(code)).min().flatten();
        let last = condition.codes.clone().map(|code| keys.last_ts(code)).max().flatten();
        let (Some(first), Some(last)) = (first, last) else { continue };
        if last < predicate.from_ts_ns || predicate.to_ts_ns < first {
            return TimeProof::None;
        }
        if predicate.from_ts_ns <= first && last <= predicate.to_ts_ns {
            proof = TimeProof::All;
        }
    }
    proof
}
