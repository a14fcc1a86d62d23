//! What one segment has to do with a predicate: nothing, everything, or a selection of its rows.
//!
//! A skip is a proof that no row can match; a condition is dropped only where every row fulfils it.

use super::codes::CodeSet;
use super::condition::{Codes, Condition, Resolved, Resolver};
use super::select::Selection;
use crate::error::Result;
use crate::expr::{Expr, NumberColumn};
use crate::filter::Predicate;
use crate::format::keys::status_key;
use crate::format::segment::SegmentHeader;
use crate::state::version::SegmentEntry;
use crate::storage::segment_reader::OpenSegment;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC};

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
    let rest = predicate.rest.iter().map(|expr| proof_of(expr, header)).fold(Proof::All, Proof::and);
    if rest == Proof::None {
        return Outlook::Skip;
    }
    let every_row = predicate.from_ts_ns <= facts.ts_min
        && facts.ts_max <= predicate.to_ts_ns
        && every_status(header, predicate)
        && predicate.dims.iter().all(|(dim, _)| *dim >= stored_dims)
        && rest == Proof::All;
    if every_row { Outlook::All } else { Outlook::Open }
}

/// For how many of some rows a condition holds, as far as it can be told without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    None,
    Unknown,
    All,
}

impl Proof {
    fn and(self, other: Self) -> Self {
        self.min(other)
    }

    fn of(holds: bool) -> Self {
        if holds { Self::All } else { Self::None }
    }

    /// Values in `lo..=hi`, of which it is known that all lie in `min..=max`.
    fn of_range(lo: i64, hi: i64, min: i64, max: i64) -> Self {
        if lo > hi || max < lo || hi < min {
            Self::None
        } else if lo <= min && max <= hi {
            Self::All
        } else {
            Self::Unknown
        }
    }
}

/// What a segment's header says about a condition.
fn proof_of(expr: &Expr, header: &SegmentHeader) -> Proof {
    let facts = &header.facts;
    let measure = |place: usize, lo: i64, hi: i64| match facts.totals.measures.get(place) {
        Some(measure) => Proof::of_range(lo, hi, measure.min, measure.max),
        // A counter that is younger than the segment.
        None => Proof::of((lo..=hi).contains(&0)),
    };
    match expr {
        Expr::Always(holds) => Proof::of(*holds),
        Expr::Number { column, lo, hi } => match column {
            NumberColumn::Time => Proof::of_range(*lo, *hi, facts.ts_min, facts.ts_max),
            NumberColumn::Sequence => {
                Proof::of_range(*lo, *hi, facts.sequence_min as i64, facts.sequence_max as i64)
            }
            NumberColumn::Metric => measure(METRIC, *lo, *hi),
            NumberColumn::Latency => measure(LATENCY, *lo, *hi),
            NumberColumn::LatencyDetail => measure(LATENCY_DETAIL, *lo, *hi),
            NumberColumn::Counter(counter) => measure(FIXED_MEASURES + counter, *lo, *hi),
            NumberColumn::Flags => Proof::Unknown,
        },
        Expr::Status(ranges) => {
            let (min, max) = (facts.status_min, facts.status_max);
            if ranges.iter().any(|range| *range.start() <= min && max <= *range.end()) {
                Proof::All
            } else if ranges.iter().all(|range| max < *range.start() || *range.end() < min) {
                Proof::None
            } else {
                Proof::Unknown
            }
        }
        Expr::Dim { dim, test } if *dim >= header.schema.shape().dims => Proof::of(test.holds("")),
        Expr::Flags { .. } | Expr::Dim { .. } | Expr::Text { .. } => Proof::Unknown,
        Expr::And(parts) => parts.iter().map(|part| proof_of(part, header)).fold(Proof::All, Proof::and),
        Expr::Or(parts) => parts.iter().map(|part| proof_of(part, header)).max().unwrap_or(Proof::None),
        Expr::Not(inner) => match proof_of(inner, header) {
            Proof::None => Proof::All,
            Proof::Unknown => Proof::Unknown,
            Proof::All => Proof::None,
        },
        Expr::TooDeep => Proof::None,
    }
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
    let mut conditions = Vec::with_capacity(predicate.dims.len() + predicate.rest.len() + 1);
    // Whether some row can fulfil it.
    let mut must = |resolved: Resolved<'s>| match resolved {
        Resolved::Constant(holds) => holds,
        Resolved::Open(condition) => {
            conditions.push(condition);
            true
        }
    };
    for (dim, value) in &predicate.dims {
        if header.bloom_dim == Some(*dim)
            && let Some(bloom) = open.bloom()?
            && !bloom.may_contain(value)
        {
            return Ok(None);
        }
        // Without the column every row is empty there, and the facts have let only the empty value pass.
        let Some(keys) = open.dim(*dim)? else { continue };
        let codes = keys.code_of(value).map_or(0..0, |code| code..code + 1);
        if !must(Codes::resolve(keys, CodeSet::range(codes))) {
            return Ok(None);
        }
    }
    if !every_status(header, predicate) {
        let keys = open.status()?;
        let codes =
            keys.dictionary().codes_in(&status_key(predicate.status_min), &status_key(predicate.status_max));
        if !must(Codes::resolve(keys, CodeSet::range(codes))) {
            return Ok(None);
        }
    }
    // What every row fulfils is no condition: then the others may be answered by sums.
    let left = predicate.rest.iter().filter(|expr| predicate.by_scan || proof_of(expr, header) != Proof::All);
    let (with_texts, without): (Vec<&Expr>, Vec<&Expr>) = left.partition(|expr| expr.has_texts());
    let resolver = Resolver { open, selection: None };
    for expr in without {
        if !must(resolver.resolve(expr)?) {
            return Ok(None);
        }
    }

    let rows = header.rows as usize;
    let deleted = entry.deleted.as_deref();
    let mut selection = Selection { rows: 0..rows, conditions, deleted, by_scan: predicate.by_scan };
    let facts = &header.facts;
    if predicate.from_ts_ns > facts.ts_min || facts.ts_max > predicate.to_ts_ns {
        let proof = if predicate.by_scan {
            TimeProof::Unknown
        } else {
            time_of_conditions(&selection.conditions, predicate)
        };
        match proof {
            TimeProof::None => return Ok(None),
            TimeProof::All => {}
            TimeProof::Unknown => narrow_time(&mut selection.rows, open, predicate)?,
        }
    }
    for expr in with_texts {
        if selection.rows.is_empty() {
            return Ok(None);
        }
        let resolver = Resolver { open, selection: Some(&selection) };
        match resolver.resolve(expr)? {
            Resolved::Constant(true) => {}
            Resolved::Constant(false) => return Ok(None),
            Resolved::Open(condition) => selection.conditions.push(condition),
        }
    }
    if predicate.by_scan {
        selection.conditions.iter_mut().for_each(Condition::forget_rows);
    }
    if selection.rows.is_empty() { Ok(None) } else { Ok(Some(selection)) }
}

/// Narrows all rows of a segment to those in the time range.
fn narrow_time(
    rows: &mut std::ops::Range<usize>,
    open: &OpenSegment<'_>,
    predicate: &Predicate<'_>,
) -> Result<()> {
    let time = open.time()?;
    let end = rows.end;
    let start = time.partition_point(predicate.from_ts_ns, rows.clone());
    let end = predicate.to_ts_ns.checked_add(1).map_or(end, |after| time.partition_point(after, start..end));
    *rows = start..end;
    Ok(())
}

/// What the first and last times of the conditions' values say about the time range.
enum TimeProof {
    /// No row that fulfils the conditions lies in it.
    None,
    /// Every row that fulfils the conditions does.
    All,
    Unknown,
}

/// Codes whose first and last times are looked at; of more, they seldom decide anything.
const MOST_TIMED_CODES: u32 = 64;

fn time_of_conditions(conditions: &[Condition<'_>], predicate: &Predicate<'_>) -> TimeProof {
    let mut proof = TimeProof::Unknown;
    let few = |codes: &&Codes<'_>| codes.set.len() <= MOST_TIMED_CODES;
    for codes in conditions.iter().filter_map(Condition::codes).filter(few) {
        let times = codes.keys.first_times().zip(codes.keys.last_times());
        let Some((firsts, lasts)) = times else { continue };
        let first = codes.set.places().map(|codes| firsts.min(codes)).min();
        let last = codes.set.places().map(|codes| lasts.max(codes)).max();
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
