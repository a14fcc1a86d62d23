//! From groups under way to the answer: empty buckets, order, limits.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::accumulate::{Accumulator, Output};
use super::buckets::Buckets;
use super::{GroupOrder, GroupQuery, GroupValue, Groups};
use crate::error::{DbError, Result};

/// Empty groups that may be listed.
const MAX_FILLED_GROUPS: u128 = 1 << 20;
/// Bytes of a group in an answer, beside its aggregates: its place, its bucket, and the ids of a few keys.
const GROUP_BYTES: usize = 32;
/// Groups for each id of a key from which ranks are made to sort them; fewer are compared by their texts.
const IDS_PER_GROUP: usize = 8;
/// First groups that are kept in order while the others pass by; more are sorted out at the end.
const FEW_GROUPS: usize = 32;

pub(super) fn finish(mut groups: Accumulator<'_>, query: &GroupQuery) -> Result<Groups> {
    let one_group = groups.ready.has_one_group();
    if one_group {
        groups.group(0, &[]);
    }
    let mut rows = Vec::with_capacity(groups.table.len());
    rows.extend((0..groups.table.len()).filter(|group| one_group || groups.has_rows(*group)));
    // From here on: those that were made to fill.
    let filled_from = groups.table.len();
    if let Some(buckets) = query.buckets.filter(Buckets::fills) {
        fill(&mut groups, buckets, &mut rows)?;
    }
    let is_empty = |groups: &Accumulator<'_>, group: usize| group >= filled_from || !groups.has_rows(group);
    let most = query.offset.saturating_add(query.limit);
    let outputs = &groups.ready.needs.outputs;
    let each =
        size_of::<usize>() + size_of::<Ranked>() + GROUP_BYTES + outputs.len() * size_of::<GroupValue>();
    groups.ask_for(rows.len() * each)?;
    sort(&mut groups, query.order, most, &mut rows, &is_empty);
    rows.truncate(most);
    rows.drain(..query.offset.min(rows.len()));

    let mut values = Vec::with_capacity(rows.len() * outputs.len());
    for group in &rows {
        for output in outputs {
            let is_empty = is_empty(&groups, *group);
            values.push(value(&mut groups, *output, *group, is_empty));
        }
    }
    let has_buckets = query.buckets.is_some();
    Ok(Groups {
        keys: groups.ready.keys().iter().map(|column| Arc::clone(&column.ids)).collect(),
        ids: rows.iter().flat_map(|group| groups.table.ids(*group)).copied().collect(),
        buckets: rows.iter().filter(|_| has_buckets).map(|group| groups.table.start(*group)).collect(),
        aggregates: outputs.len(),
        values,
        len: rows.len(),
    })
}

/// An aggregate of a group.
fn value(groups: &mut Accumulator<'_>, output: Output, group: usize, is_empty: bool) -> GroupValue {
    let or_none = |value: i64| GroupValue::Number((!is_empty).then_some(value));
    match output {
        Output::Count => GroupValue::Count(groups.count(group)),
        Output::Sum(place) => GroupValue::Sum(groups.sum(place, group)),
        Output::Min(place) => or_none(groups.min(place, group)),
        Output::Max(place) => or_none(groups.max(place, group)),
        Output::Mean(place) => {
            let mean = || groups.sum(place, group) as f64 / groups.count(group) as f64;
            GroupValue::Mean((!is_empty).then(mean))
        }
        Output::Quantile(place, q) => {
            let found = groups.quantiles(place).quantile(group, q);
            GroupValue::Quantile { value: found.value, is_exact: found.is_exact }
        }
        Output::Distinct(place) => GroupValue::Count(groups.distinct(place, group)),
    }
}

/// Adds the buckets that are missing between the first and the last, for each combination of keys.
fn fill(groups: &mut Accumulator<'_>, buckets: Buckets, rows: &mut Vec<usize>) -> Result<()> {
    let starts = rows.iter().map(|group| groups.table.start(*group));
    let (Some(first), Some(last)) = (starts.clone().min(), starts.max()) else { return Ok(()) };
    let keys: BTreeSet<Vec<u32>> = rows.iter().map(|group| groups.table.ids(*group).to_vec()).collect();
    let count = buckets.count(first, last).saturating_mul(keys.len() as u128);
    let empty = count.saturating_sub(rows.len() as u128);
    if empty > MAX_FILLED_GROUPS {
        let why = format!(
            "{empty} empty groups are more than {MAX_FILLED_GROUPS}; take wider buckets, a range of \
             time, or fewer keys"
        );
        return Err(DbError::invalid("fill", why));
    }
    let mut listed: HashSet<usize> = rows.iter().copied().collect();
    for start in buckets.starts(first, last) {
        for ids in &keys {
            let group = groups.group(start, ids);
            if listed.insert(group) {
                rows.push(group);
            }
        }
    }
    Ok(())
}

/// Brings the first `most` groups into order, and leaves out the others.
fn sort(
    groups: &mut Accumulator<'_>,
    order: GroupOrder,
    most: usize,
    rows: &mut Vec<usize>,
    is_empty: &impl Fn(&Accumulator<'_>, usize) -> bool,
) {
    let outputs = &groups.ready.needs.outputs;
    let by = match order {
        GroupOrder::ByKey => None,
        GroupOrder::Top(aggregate) => outputs.get(aggregate).map(|output| (*output, true)),
        GroupOrder::Bottom(aggregate) => outputs.get(aggregate).map(|output| (*output, false)),
    };
    let by_key = KeyOrder::new(groups, rows.len(), by.is_some());
    let compare = |groups: &Accumulator<'_>, (one, a): &Ranked, (other, b): &Ranked| {
        one.cmp(other).then_with(|| by_key.compare(groups, *a, *b))
    };
    let keeps_few = most <= FEW_GROUPS;
    let mut first: Vec<Ranked> = Vec::with_capacity(if keeps_few { most + 1 } else { rows.len() });
    for group in rows.drain(..) {
        let rank = by.map_or((false, 0), |(output, from_the_top)| {
            match rank_of(groups, output, group, is_empty) {
                // The complement reverses the order of integers.
                Some(rank) => (false, if from_the_top { !rank } else { rank }),
                // What has no value comes last.
                None => (true, 0),
            }
        });
        if keeps_few && first.len() >= most {
            let Some(last) = first.last() else { continue };
            if compare(groups, &(rank, group), last) == Ordering::Greater {
                continue;
            }
            let place =
                first.partition_point(|known| compare(groups, known, &(rank, group)) == Ordering::Less);
            first.insert(place, (rank, group));
            first.truncate(most);
        } else {
            first.push((rank, group));
            if keeps_few && first.len() == most {
                first.sort_unstable_by(|one, other| compare(groups, one, other));
            }
        }
    }
    let compare = |one: &Ranked, other: &Ranked| compare(groups, one, other);
    if most < first.len() {
        first.select_nth_unstable_by(most, compare);
        first.truncate(most);
    }
    first.sort_unstable_by(compare);
    rows.extend(first.into_iter().map(|(_, group)| group));
}

/// A group by what it is ordered by: first whether it has no value.
type Ranked = ((bool, i128), usize);

/// A number that orders a group as an aggregate of it does; `None` without a value.
#[inline]
fn rank_of(
    groups: &mut Accumulator<'_>,
    output: Output,
    group: usize,
    is_empty: &impl Fn(&Accumulator<'_>, usize) -> bool,
) -> Option<i128> {
    if let Output::Sum(place) = output {
        // What many groups are mostly ordered by: it needs no detour.
        return Some(groups.sum(place, group));
    }
    let is_empty = is_empty(groups, group);
    rank(&value(groups, output, group, is_empty))
}

/// A number that orders as the value does; `None` without a value.
fn rank(value: &GroupValue) -> Option<i128> {
    match *value {
        GroupValue::Count(count) => Some(i128::from(count)),
        GroupValue::Sum(sum) => Some(sum),
        GroupValue::Number(number) | GroupValue::Quantile { value: number, .. } => number.map(i128::from),
        GroupValue::Mean(mean) => mean.map(|mean| {
            // The bits of a negative number order the wrong way round.
            let bits = mean.to_bits() as i64;
            i128::from(if bits < 0 { bits ^ i64::MAX } else { bits })
        }),
    }
}

/// Compares groups by their keys' texts, then by bucket.
struct KeyOrder {
    /// Per key the places of ids in the order of their texts, where they are worth making or there already.
    ranks: Vec<Option<Arc<[u32]>>>,
}

impl KeyOrder {
    /// `only_ties` says that few pairs will be compared.
    fn new(groups: &Accumulator<'_>, count: usize, only_ties: bool) -> Self {
        let ranks = groups.ready.keys().iter().map(|column| {
            let len = column.ids.len();
            let is_worth_it = !only_ties && count.saturating_mul(IDS_PER_GROUP) >= len as usize;
            (is_worth_it || column.ids.has_ranks(len)).then(|| column.ids.ranks(len))
        });
        Self { ranks: ranks.collect() }
    }

    fn compare(&self, groups: &Accumulator<'_>, a: usize, b: usize) -> Ordering {
        let ids = groups.table.ids(a).iter().zip(groups.table.ids(b));
        for ((one, other), (ranks, column)) in ids.zip(self.ranks.iter().zip(groups.ready.keys())) {
            if one == other {
                continue;
            }
            return match ranks {
                Some(ranks) => ranks[*one as usize].cmp(&ranks[*other as usize]),
                None => column.ids.name(*one).cmp(column.ids.name(*other)),
            };
        }
        groups.table.start(a).cmp(&groups.table.start(b))
    }
}
