//! Claims: the segments that somebody is merging, which nobody else may take meanwhile.

use super::Core;
use super::merge::{Candidate, Limits};
use super::publish::Publish;
use crate::error::Result;
use crate::state::decode::DecodedSegment;
use crate::state::version::{SegmentEntry, Version};

/// Segments that are about to be replaced by one. Given back when it is dropped, which takes the lock of `publish`.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    core: &'a Core,
    numbers: Vec<u64>,
    /// Of `numbers`, what is not given back: it could not be read, or is too large to be merged with its neighbours, and nobody
    /// is to try again while the engine is open.
    unreadable: Option<u64>,
    /// As they were when they were claimed.
    entries: Vec<SegmentEntry>,
    /// What the header of their successor must name besides themselves: segments and logs whose rows they have and whose
    /// files are still there, so that a rebuilt manifest counts no row twice.
    supersedes: Vec<u64>,
    generations: Vec<u64>,
    /// Of their successor. Given now, so that a manifest which has forgotten one of them by the time when that is written
    /// knows the number: so what a crash leaves is told from what an older manifest has not seen (`orphan.rs`).
    number: u64,
}

/// The rows of segments that one segment takes over.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) segments: Vec<DecodedSegment>,
    /// The segments that it supersedes: these, and others whose rows they have.
    pub(crate) supersedes: Vec<u64>,
    /// Logs that are still there and whose rows they have.
    pub(crate) generations: Vec<u64>,
    /// The number that was given to it; `None` where there are no such segments.
    pub(crate) number: Option<u64>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let is_free = |number: &u64| self.numbers.contains(number) && self.unreadable != Some(*number);
        self.core.publish.lock().claimed.retain(|number| !is_free(number));
    }
}

/// The segments that may be merged, in the order in which they are neighbours.
pub(crate) fn candidates(publish: &Publish, version: &Version) -> Vec<Candidate> {
    let is_free = |entry: &&SegmentEntry| !publish.claimed.contains(&entry.segment.number());
    let candidate = |entry: &SegmentEntry| {
        let header = entry.segment.header();
        Candidate {
            ts_min: header.facts.ts_min,
            number: entry.segment.number(),
            ts_max: header.facts.ts_max,
            live_rows: entry.live_rows(),
            file_bytes: header.file_bytes,
        }
    };
    let mut candidates: Vec<_> = version.segments.iter().filter(is_free).map(candidate).collect();
    candidates.sort_unstable();
    candidates
}

/// With a retention, merged segments have at most this part of the time and of the bytes that it allows, and logs reach back
/// no further: segments are dropped as a whole.
pub(super) const RETENTION_SPANS: u32 = 8;

impl Core {
    /// How large a merge may become.
    pub(crate) fn merge_limits(&self, rows: u64, bytes: u64) -> Limits {
        let options = &self.options;
        let retained = options.retention.max_age.map(|age| age / RETENTION_SPANS);
        let spans = retained.into_iter().chain(options.merge_span);
        let allowed_ns = spans.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let span_ns = allowed_ns.min().unwrap_or(u64::MAX);
        let bytes =
            options.retention.max_bytes.map_or(bytes, |max| bytes.min(max / u64::from(RETENTION_SPANS)));
        Limits { rows, bytes, span_ns }
    }

    /// Claims these segments, none of which is claimed.
    pub(crate) fn claim(&self, publish: &mut Publish, version: &Version, numbers: Vec<u64>) -> Claim<'_> {
        let is_claimed = |entry: &&SegmentEntry| numbers.contains(&entry.segment.number());
        let entries: Vec<_> = version.segments.iter().filter(is_claimed).cloned().collect();
        let headers = || entries.iter().map(|entry| entry.segment.header());
        let supersedes = headers().flat_map(|header| &header.supersedes).copied();
        let supersedes = supersedes.filter(|number| publish.unlink.has_segment(*number)).collect();
        let generations = headers().flat_map(|header| &header.generations).copied();
        let generations = generations.filter(|generation| publish.unlink.has_wal(*generation)).collect();
        publish.claimed.extend(&numbers);
        let number = publish.give_segment_number();
        Claim { core: self, numbers, unreadable: None, entries, supersedes, generations, number }
    }
}

impl Claim<'_> {
    /// Whether it is of one segment only.
    pub(crate) fn is_single(&self) -> bool {
        self.numbers.len() == 1
    }

    /// Rows of each segment, deleted ones too.
    pub(crate) fn stored_rows(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| u64::from(entry.segment.header().rows)).collect()
    }

    /// Decodes the claimed segments, or as many of them as `limit_bytes` of memory can hold. They are not held open afterwards.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn decode(&mut self, limit_bytes: usize) -> Result<Sources> {
        let mut sources = Sources::default();
        let mut bytes = 0;
        for entry in std::mem::take(&mut self.entries) {
            let number = entry.segment.number();
            let segment = DecodedSegment::new(&entry).inspect_err(|_| self.unreadable = Some(number))?;
            bytes += segment.block.memory_bytes();
            if bytes > limit_bytes {
                if sources.segments.len() < 2 {
                    // The choice goes by sizes on disk, and would come back to this one for ever.
                    self.unreadable = Some(number);
                    sources.segments.clear();
                }
                break;
            }
            sources.segments.push(segment);
        }
        sources.supersedes = sources.segments.iter().map(|segment| segment.number).collect();
        sources.supersedes.append(&mut self.supersedes);
        sources.generations.append(&mut self.generations);
        sources.number = Some(self.number);
        Ok(sources)
    }
}
