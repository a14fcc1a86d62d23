//! Seeks, steps back and lists over logs that were damaged at random: nothing is passed over unsaid, and what is whole is found.
//!
//! Segments closed or growing, with zeros behind or not; indexes whole, missing, cut or flipped; several stretches of zeros or
//! of garbage at once, on headers, payloads, closing frames and between them.

use std::collections::BTreeSet;
use std::ops::Range;

use fastrand::Rng;
use keplordb_disk::Disk;

use crate::made::{Made, owned};
use crate::{LogError, Timestamp};

/// Logs per run. A hundred thousand were gone through by hand.
const LOGS: u64 = 150;

/// A batch as it was written.
struct Batch {
    segment: usize,
    bytes: Range<usize>,
    times: Vec<i64>,
}

/// A log and what was done to it.
struct Damaged {
    made: Made,
    batches: Vec<Batch>,
    /// Segment and bytes.
    stretches: Vec<(usize, Range<usize>)>,
    segments: usize,
    /// The last segment's index, which says where a growing segment ends, is not as it was written.
    is_end_unsaid: bool,
}

impl Damaged {
    fn new(rng: &mut Rng) -> Self {
        let mut made = Made::new();
        let mut batches = Vec::new();
        let segments = rng.usize(1..4);
        let text_bytes_max = if rng.bool() { 60_000 } else { 300 };
        for segment in 0..segments {
            let mut begin = 64;
            for _ in 0..rng.usize(1..31) {
                let text = vec![7; rng.usize(..text_bytes_max)];
                let mut texts: Vec<&[u8]> = vec![b"x"; rng.usize(1..4)];
                texts[0] = &text;
                let before = made.entries.len();
                made.batch(rng.i64(1..21), &texts);
                let (_, path) = made.segments().pop().unwrap();
                let end = made.bytes_of(&path).len();
                let times = made.entries[before..].iter().map(|(time, _)| *time).collect();
                batches.push(Batch { segment, bytes: begin..end, times });
                begin = end;
            }
            if segment + 1 < segments || rng.u8(..3) == 0 {
                made.close();
            }
        }
        if rng.bool() {
            made.fill(rng.u64(..300_000));
        }
        let mut damaged = Self { made, batches, stretches: Vec::new(), segments, is_end_unsaid: false };
        damaged.hurt_indexes(rng);
        for _ in 0..rng.usize(1..5) {
            damaged.hurt(rng);
        }
        damaged
    }

    fn hurt_indexes(&mut self, rng: &mut Rng) {
        for (segment, (start, _)) in self.made.segments().iter().enumerate() {
            let path = self.made.index_path(*start);
            let mut bytes = self.made.bytes_of(&path);
            let place = rng.usize(..bytes.len());
            match rng.u8(..5) {
                0 => self.made.disk.remove(&path).unwrap(),
                1 => bytes.truncate(place),
                2 => bytes[place] ^= 1,
                _ => continue,
            }
            if self.made.disk.bytes(&path).unwrap().is_some() {
                self.made.overwrite(&path, &bytes);
            }
            self.is_end_unsaid |= segment + 1 == self.segments;
        }
    }

    /// One stretch becomes zeros or garbage: often where a batch's header is, or what follows the last.
    fn hurt(&mut self, rng: &mut Rng) {
        let segment = rng.usize(..self.segments);
        let (_, path) = &self.made.segments()[segment];
        let mut bytes = self.made.bytes_of(path);
        let batches: Vec<&Batch> = self.batches.iter().filter(|batch| batch.segment == segment).collect();
        let batch = &batches[rng.usize(..batches.len())].bytes;
        let used = batches.last().unwrap().bytes.end;
        let (from, length) = match rng.u8(..5) {
            0 => (batch.start + rng.usize(..32), 1),
            1 => (batch.start, 32),
            2 => (rng.usize(64..used), rng.usize(1..2001)),
            3 => (used, 32),
            _ => (rng.usize(batch.clone()), 1),
        };
        let stretch = from.min(bytes.len())..(from + length).min(bytes.len());
        let is_zeroed = rng.bool();
        for byte in &mut bytes[stretch.clone()] {
            *byte = if is_zeroed { 0 } else { *byte ^ 0x41 };
        }
        self.made.overwrite(path, &bytes);
        self.stretches.push((segment, stretch));
    }

    fn is_hurt(&self, batch: &Batch) -> bool {
        self.stretches.iter().any(|(segment, stretch)| {
            *segment == batch.segment && stretch.start < batch.bytes.end && batch.bytes.start < stretch.end
        })
    }

    /// A time leads to the first entry that has it or a later one, or to an error; to an error only where that entry's batch is
    /// hurt, or another that the time may have been in.
    fn check_seeks(&self, what: &str) {
        let log = self.made.log();
        let all: BTreeSet<i64> = self.made.entries.iter().map(|(time, _)| *time).collect();
        for batch in &self.batches {
            let is_last = batch.segment + 1 == self.segments;
            let may_fail = self.is_hurt(batch) || (is_last && self.is_end_unsaid);
            for time in batch.times.iter().flat_map(|time| [*time, time - 1]) {
                let wanted = *all.range(time..).next().unwrap();
                if !batch.times.contains(&wanted) {
                    continue;
                }
                let may_fail = may_fail || time != wanted;
                let sought = log.from(Timestamp::from_ns(time));
                let found = sought.and_then(|mut reader| reader.next().map(|entry| entry.map(owned)));
                match found {
                    Ok(Some((found, _))) => assert_eq!(found, wanted, "{what}: entries passed over"),
                    // As if a power cut had torn the end of the log.
                    Ok(None) => assert!(is_last && may_fail, "{what}: {time} is not there"),
                    Err(error @ (LogError::Corrupt { .. } | LogError::Truncated { .. })) => {
                        assert!(may_fail, "{what}: {time} cannot be reached: {error}");
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }

    /// Backwards, entry after entry, to the first or to an error.
    fn check_back(&self, what: &str) {
        let times: Vec<i64> = self.made.entries.iter().map(|(time, _)| *time).collect();
        let Ok(mut reader) = self.made.log().newest() else { return };
        let mut before: Option<usize> = None;
        while let Ok(entry) = reader.back() {
            let place = entry.map(|entry| times.binary_search(&entry.time.as_ns()).unwrap());
            if let Some(before) = before {
                assert_eq!(place, before.checked_sub(1), "{what}: passed over on the way back");
            }
            before = place;
            if place.is_none() {
                break;
            }
        }
    }

    fn check_lists(&self, what: &str) {
        let log = self.made.log();
        let listed = log.segments().unwrap();
        assert_eq!(listed.len(), self.segments, "{what}");
        for (segment, info) in listed.iter().enumerate().take(self.segments - 1) {
            let times =
                self.batches.iter().filter(|batch| batch.segment == segment).flat_map(|batch| &batch.times);
            assert!(info.end.as_ns() >= *times.max().unwrap(), "{what}: {info:?} ends too early");
        }
        log.verify().unwrap();
    }
}

#[test]
fn nothing_is_passed_over_in_damaged_logs() {
    let seeds = std::env::var("KEPLORDB_LOG_SEED").map(|seed| seed.parse().unwrap());
    let (first, logs) = seeds.map_or((fastrand::u64(..u64::MAX - LOGS), LOGS), |seed| (seed, 1));
    for seed in first..first + logs {
        let damaged = Damaged::new(&mut Rng::with_seed(seed));
        let what = format!("KEPLORDB_LOG_SEED={seed}, damaged {:?}", damaged.stretches);
        damaged.check_seeks(&what);
        damaged.check_back(&what);
        damaged.check_lists(&what);
    }
}
