//! Which segments are merged: the choice, without doing it.
//!
//! A segment's *class* is the number of digits of its live rows in base 8, less one: 1–7 rows are class 0, 8–63 class 1. In the
//! order of their first times, a run of neighbours of at most class c is merged when it has 8^(c+1) live rows, so that the
//! result is of a higher class than each of its sources. Eight segments of one class always have that many. Hence each row is
//! copied at most once per class, and what is left unmerged grows with the logarithm of the rows.

use std::ops::Range;

/// Rows by which a class is larger than the one before.
const CLASS_FACTOR: u64 = 8;

/// What the choice knows of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// Neighbours are such in the order of these two.
    pub(crate) ts_min: i64,
    pub(crate) number: u64,
    pub(crate) ts_max: i64,
    /// That are not deleted.
    pub(crate) live_rows: u64,
    pub(crate) file_bytes: u64,
}

/// How large the result of a merge may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows: u64,
    /// Of the sources' files.
    pub(crate) bytes: u64,
    /// From the first to the last time, in nanoseconds: retention can only drop segments as a whole.
    pub(crate) span_ns: u64,
}

/// What a run of candidates has in all.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rows: u64,
    bytes: u64,
    ts_min: i64,
    ts_max: i64,
}

impl Extent {
    fn of(candidate: &Candidate) -> Self {
        let Candidate { ts_min, ts_max, live_rows, file_bytes, .. } = *candidate;
        Self { rows: live_rows, bytes: file_bytes, ts_min, ts_max }
    }

    /// With one more, if the limits allow it.
    fn with(self, candidate: &Candidate, limits: Limits) -> Option<Self> {
        let more = Self {
            rows: self.rows + candidate.live_rows,
            bytes: self.bytes + candidate.file_bytes,
            ts_min: self.ts_min.min(candidate.ts_min),
            ts_max: self.ts_max.max(candidate.ts_max),
        };
        let fits = more.rows <= limits.rows
            && more.bytes <= limits.bytes
            && more.ts_max.abs_diff(more.ts_min) <= limits.span_ns;
        fits.then_some(more)
    }
}

fn class(live_rows: u64) -> u32 {
    live_rows.max(1).ilog(CLASS_FACTOR)
}

/// Live rows from which a run of at most this class is merged.
fn rows_due(class: u32) -> u64 {
    CLASS_FACTOR.saturating_pow(class + 1)
}

/// The run around one of the sorted candidates that is due, the largest there is; `None` when it stays alone.
pub(crate) fn run_around(sorted: &[Candidate], place: usize, limits: Limits) -> Option<Range<usize>> {
    let centre = sorted.get(place)?;
    if centre.live_rows > limits.rows {
        return None;
    }
    let mut due = None;
    let largest = sorted.iter().map(|candidate| class(candidate.live_rows)).max()?;
    for max_class in class(centre.live_rows)..=largest {
        if rows_due(max_class) > limits.rows {
            break;
        }
        let mut extent = Extent::of(centre);
        let mut run = place..place + 1;
        let fits = |extent: Extent, at: usize| {
            let candidate = sorted.get(at).filter(|candidate| class(candidate.live_rows) <= max_class)?;
            extent.with(candidate, limits)
        };
        while let Some(more) = run.start.checked_sub(1).and_then(|before| fits(extent, before)) {
            (extent, run.start) = (more, run.start - 1);
        }
        while let Some(more) = fits(extent, run.end) {
            (extent, run.end) = (more, run.end + 1);
        }
        if extent.rows >= rows_due(max_class) && run.len() > 1 {
            due = Some(run);
        }
    }
    due
}

/// All runs among the sorted candidates that are due, none of which overlap, the largest classes first.
pub(crate) fn runs_due(sorted: &[Candidate], limits: Limits) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut taken = vec![false; sorted.len()];
    let largest = sorted.iter().map(|candidate| class(candidate.live_rows)).max().unwrap_or(0);
    for max_class in (0..=largest).rev().filter(|class| rows_due(*class) <= limits.rows) {
        let may_join = |at: usize, taken: &[bool]| {
            let free = taken.get(at).is_some_and(|taken| !taken);
            sorted.get(at).filter(|candidate| free && class(candidate.live_rows) <= max_class)
        };
        let mut start = 0;
        while start < sorted.len() {
            let Some(first) = may_join(start, &taken) else {
                start += 1;
                continue;
            };
            let (mut extent, mut end) = (Extent::of(first), start + 1);
            while let Some(more) = may_join(end, &taken).and_then(|next| extent.with(next, limits)) {
                (extent, end) = (more, end + 1);
            }
            if extent.rows >= rows_due(max_class) && end - start > 1 {
                taken[start..end].fill(true);
                runs.push(start..end);
            }
            start = end;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMITS: Limits = Limits { rows: u64::MAX, bytes: u64::MAX, span_ns: u64::MAX };

    fn candidates(rows: &[u64]) -> Vec<Candidate> {
        let candidate = |(place, rows): (usize, &u64)| Candidate {
            ts_min: place as i64 * 10,
            number: place as u64,
            ts_max: place as i64 * 10 + 5,
            live_rows: *rows,
            file_bytes: rows * 100,
        };
        rows.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn eight_neighbours_of_a_class_are_merged_and_seven_are_not() {
        let due = |rows: &[u64]| run_around(&candidates(rows), rows.len().saturating_sub(1), NO_LIMITS);
        assert_eq!(due(&[1; 7]), None);
        assert_eq!(due(&[1; 8]), Some(0..8));
        assert_eq!(due(&[10; 8]), Some(0..8));
        assert_eq!(due(&[1000, 1, 1, 1, 1, 1, 1, 1, 1]), Some(1..9), "the large one is left alone");
        // The eight make one of the next class, which is the eighth there.
        let mut cascade = vec![8; 7];
        cascade.extend([1; 8]);
        assert_eq!(due(&cascade), Some(0..15));
        // Sizes on both sides of the border of two classes.
        assert_eq!(due(&[7, 9, 7, 9, 7, 9, 7, 9]), Some(0..8));
        assert_eq!(due(&[]), None);
    }

    #[test]
    fn limits_bound_the_result() {
        let sorted = candidates(&[10; 100]);
        let rows = |run: Option<Range<usize>>| run.map(|run| run.len() * 10);
        assert_eq!(rows(run_around(&sorted, 99, Limits { rows: 200, ..NO_LIMITS })), Some(200));
        assert_eq!(rows(run_around(&sorted, 99, Limits { bytes: 9000, ..NO_LIMITS })), Some(90));
        assert_eq!(rows(run_around(&sorted, 99, Limits { span_ns: 95, ..NO_LIMITS })), Some(100));
        assert_eq!(run_around(&sorted, 99, Limits { rows: 63, ..NO_LIMITS }), None);
        assert_eq!(run_around(&sorted, 99, Limits { rows: 5, ..NO_LIMITS }), None);
        let runs = runs_due(&sorted, Limits { rows: 300, ..NO_LIMITS });
        assert_eq!(runs, [0..30, 30..60, 60..90, 90..100]);
    }

    /// However events come, few segments stay, and each row is copied about once per class.
    #[test]
    fn segments_stay_few_and_copies_bounded() {
        for sizes in [&[10][..], &[1], &[7, 9], &[1, 50, 3, 200, 7]] {
            let (mut rows, mut copied, mut total) = (Vec::new(), 0, 0);
            for flush in 0..20_000 {
                let size = sizes[flush % sizes.len()];
                (total, copied) = (total + size, copied + size);
                rows.push(size);
                if let Some(run) = run_around(&candidates(&rows), rows.len() - 1, NO_LIMITS) {
                    let merged: u64 = rows[run.clone()].iter().sum();
                    copied += merged - size;
                    rows.splice(run, [merged]);
                }
                assert!(rows.len() <= 60, "{} segments after {flush} flushes of {sizes:?}", rows.len());
            }
            assert!(copied <= total * 7, "{copied} rows written for {total}");
            assert!(runs_due(&candidates(&rows), NO_LIMITS).is_empty(), "nothing is left to compact");
        }
    }

    #[test]
    fn what_is_compacted_once_is_not_compacted_again() {
        let mut rows: Vec<u64> = (0..5000).map(|place| 1 + place * 7919 % 97).collect();
        let mut rounds = 0;
        loop {
            let runs = runs_due(&candidates(&rows), Limits { rows: 20_000, ..NO_LIMITS });
            let Some(run) = runs.first().cloned() else { break };
            let merged = rows[run.clone()].iter().sum();
            rows.splice(run, [merged]);
            rounds += 1;
            assert!(rounds < 5000);
        }
        assert!(rows.len() < 100, "{} segments", rows.len());
    }
}
