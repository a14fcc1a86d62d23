//! From the columns of a segment to the bytes of its file: each section for itself, then the summaries that need
//! their dictionaries, then the header.

use std::collections::HashMap;

use super::{ENCODING, Facts, SECTION_ALIGN_BYTES, SectionEntry, SectionKind, SegmentHeader};
use crate::format::bytes::{ByteWriter, align};
use crate::format::keys::{self, KeyMeasures, Keys, status_text};
use crate::format::numbers::{self, Numbers};
use crate::format::rollups::{self, RollupColumns};
use crate::format::{bloom, ids, texts};
use crate::kernels::CHUNK_ROWS;
use crate::schema::{Shape, TableSchema};
use crate::sums::{FIXED_MEASURES, Measure, Sums};
use crate::threads::map_each;

/// Rollups are stored where they are at most this fraction of the rows; else they are computed when asked for.
pub(super) const ROWS_PER_ROLLUP: usize = 8;

/// The columns of a segment to be, all in the order of (time, sequence) and of the same length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns<'a> {
    /// Nanoseconds since the Unix epoch.
    pub(crate) ts: Vec<i64>,
    pub(crate) sequence: Vec<i64>,
    pub(crate) metric: Vec<i64>,
    pub(crate) latency: Vec<i64>,
    pub(crate) latency_detail: Vec<i64>,
    pub(crate) flags: Vec<i64>,
    pub(crate) status: Vec<u16>,
    pub(crate) counters: Vec<Vec<i64>>,
    pub(crate) id: Vec<&'a str>,
    pub(crate) dims: Vec<Vec<&'a str>>,
    pub(crate) labels: Vec<Vec<&'a str>>,
}

impl Columns<'_> {
    pub(super) fn shape(&self) -> Shape {
        Shape { dims: self.dims.len(), counters: self.counters.len(), labels: self.labels.len() }
    }

    /// The columns of [`Sums::measures`].
    pub(super) fn measures(&self) -> Vec<&[i64]> {
        let fixed: [&[i64]; FIXED_MEASURES] = [&self.metric, &self.latency, &self.latency_detail];
        fixed.into_iter().chain(self.counters.iter().map(Vec::as_slice)).collect()
    }

    fn assert_same_rows(&self) {
        let rows = self.ts.len();
        let numbers = [&self.sequence, &self.metric, &self.latency, &self.latency_detail, &self.flags];
        let numbers = numbers.into_iter().chain(&self.counters).map(Vec::len);
        let strings = [&self.id].into_iter().chain(&self.dims).chain(&self.labels).map(Vec::len);
        let same = numbers.chain(strings).chain([self.status.len()]).all(|len| len == rows);
        assert!(same, "all columns of a segment have the same rows");
        debug_assert!(
            self.ts.iter().zip(&self.sequence).is_sorted(),
            "the rows of a segment are in the order of (time, sequence)"
        );
    }
}

/// Everything that goes into a segment file.
#[derive(Debug)]
pub(crate) struct SegmentInput<'a> {
    pub(crate) schema: &'a TableSchema,
    /// The WAL generations whose rows it absorbs.
    pub(crate) generations: &'a [u64],
    /// The segments whose rows it takes over.
    pub(crate) supersedes: &'a [u64],
    pub(crate) bloom_dim: Option<usize>,
    pub(crate) rollup_dims: &'a [usize],
    pub(crate) columns: Columns<'a>,
}

/// A section while the file is put together.
struct Section {
    kind: SectionKind,
    column: usize,
    /// Padded.
    bytes: Vec<u8>,
    padding: usize,
    crc: u32,
}

impl Section {
    fn content(&self) -> &[u8] {
        self.bytes.get(..self.bytes.len() - self.padding).unwrap_or_default()
    }

    fn entry(&self) -> SectionEntry {
        SectionEntry {
            tag: self.kind as u8,
            encoding: ENCODING,
            is_optional: self.kind.is_optional(),
            padding: u8::try_from(self.padding).expect("padding is shorter than 64 bytes"),
            column: u16::try_from(self.column).expect("a table has at most 256 columns of a kind"),
            offset: 0,
            bytes: self.bytes.len() as u64,
            crc: self.crc,
        }
    }
}

/// A section to be made.
type Job<'a> = (SectionKind, usize, Box<dyn Fn(&mut Vec<u8>) + Send + Sync + 'a>);

fn run(jobs: &[Job<'_>], parallel: bool) -> Vec<Section> {
    let make = |(kind, column, encode): &Job<'_>| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let content_bytes = bytes.len();
        align(&mut bytes, SECTION_ALIGN_BYTES);
        let (padding, crc) = (bytes.len() - content_bytes, crc32fast::hash(&bytes));
        Section { kind: *kind, column: *column, bytes, padding, crc }
    };
    if parallel { map_each(jobs, make) } else { jobs.iter().map(make).collect() }
}

/// The bytes of a segment file.
///
/// Sections are encoded side by side if `parallel`, else one after the other on this thread; they are held
/// twice in memory at the end. Panics if the columns are not those of the schema or have different lengths, or if the
/// bloom dim or a rollup dim is none of the schema's: our own mistakes.
pub(crate) fn encode(input: &SegmentInput<'_>, parallel: bool) -> Vec<u8> {
    let columns = &input.columns;
    let shape = input.schema.shape();
    assert_eq!(columns.shape(), shape, "the columns of a segment are those of its schema");
    columns.assert_same_rows();
    let no_dim = input.bloom_dim.iter().chain(input.rollup_dims).find(|dim| **dim >= shape.dims);
    assert_eq!(no_dim, None, "bloom filter and rollups are of dims of the schema");

    let measures = columns.measures();
    let key_measures = KeyMeasures { ts: &columns.ts, measures: &measures };
    let mut texts_by_status: HashMap<u16, String, foldhash::fast::RandomState> = HashMap::default();
    for status in &columns.status {
        texts_by_status.entry(*status).or_insert_with(|| status_text(*status));
    }
    let status: Vec<&str> =
        columns.status.iter().filter_map(|status| texts_by_status.get(status)).map(String::as_str).collect();
    let mut sections = run(&column_jobs(input, &status, key_measures), parallel);
    let summaries = run(&summary_jobs(input, &sections), parallel);
    sections.extend(summaries);
    sections.sort_unstable_by_key(|section| (section.kind, section.column));

    let mut header = SegmentHeader {
        schema: input.schema.clone(),
        rows: u32::try_from(columns.ts.len()).expect("a segment has fewer than 2^32 rows"),
        file_bytes: 0,
        generations: input.generations.to_vec(),
        supersedes: input.supersedes.to_vec(),
        rollup_dims: input.rollup_dims.to_vec(),
        bloom_dim: input.bloom_dim,
        facts: facts(columns, &sections),
        sections: sections.iter().map(Section::entry).collect(),
    };
    let mut out = header.encode();
    out.reserve_exact(sections.iter().map(|section| section.bytes.len()).sum());
    for section in sections {
        out.put(&section.bytes);
    }
    out
}

/// The sections that need only the columns.
fn column_jobs<'a>(
    input: &'a SegmentInput<'_>,
    status: &'a [&'a str],
    measures: KeyMeasures<'a>,
) -> Vec<Job<'a>> {
    let columns = &input.columns;
    let mut jobs: Vec<Job<'a>> = Vec::new();
    // What takes longest is begun first.
    for (dim, values) in columns.dims.iter().enumerate() {
        jobs.push((SectionKind::Dim, dim, Box::new(move |out| keys::encode(values, measures, out))));
    }
    jobs.push((SectionKind::Status, 0, Box::new(move |out| keys::encode(status, measures, out))));
    for ((label, values), column) in columns.labels.iter().enumerate().zip(input.schema.label_columns()) {
        jobs.push((SectionKind::Label, label, Box::new(|out| texts::encode(values, true, out))));
        if column.indexed {
            jobs.push((SectionKind::LabelIndex, label, Box::new(|out| ids::encode(values, out))));
        }
    }
    jobs.push((SectionKind::Id, 0, Box::new(|out| texts::encode(&columns.id, false, out))));
    jobs.push((SectionKind::IdIndex, 0, Box::new(|out| ids::encode(&columns.id, out))));
    let counters = columns.counters.iter().enumerate();
    let numbers = [
        (SectionKind::Time, 0, &columns.ts),
        (SectionKind::Sequence, 0, &columns.sequence),
        (SectionKind::Metric, 0, &columns.metric),
        (SectionKind::Latency, 0, &columns.latency),
        (SectionKind::LatencyDetail, 0, &columns.latency_detail),
        (SectionKind::Flags, 0, &columns.flags),
    ];
    let numbers =
        numbers.into_iter().chain(counters.map(|(place, values)| (SectionKind::Counter, place, values)));
    for (kind, column, values) in numbers {
        let encode = move |out: &mut Vec<u8>| numbers::encode(values, kind.has_running_sums(), out);
        jobs.push((kind, column, Box::new(encode)));
    }
    jobs
}

/// The sections that need the dictionaries: bloom filter and rollups.
fn summary_jobs<'a>(input: &'a SegmentInput<'_>, sections: &'a [Section]) -> Vec<Job<'a>> {
    let rows = input.columns.ts.len();
    let dim = move |dim: usize| Keys::new(content_of(sections, SectionKind::Dim, dim), rows);
    let mut jobs: Vec<Job<'a>> = Vec::new();
    if let Some(bloom_dim) = input.bloom_dim {
        let encode = move |out: &mut Vec<u8>| {
            let keys = dim(bloom_dim);
            let values = (0..keys.values()).map(|code| keys.value(code));
            bloom::encode(values, keys.values() as usize, out);
        };
        jobs.push((SectionKind::Bloom, 0, Box::new(encode)));
    }
    let codes: Vec<Vec<u32>> = input.rollup_dims.iter().map(|slot| all_codes(&dim(*slot))).collect();
    let counters: Vec<&[i64]> = input.columns.counters.iter().map(Vec::as_slice).collect();
    let columns = RollupColumns {
        ts: &input.columns.ts,
        codes: &codes,
        metric: &input.columns.metric,
        counters: &counters,
    };
    if let Some(entries) = rollups::build(columns, rows / ROWS_PER_ROLLUP) {
        jobs.push((SectionKind::Rollups, 0, Box::new(move |out| rollups::encode(&entries, out))));
    }
    jobs
}

fn all_codes(keys: &Keys<'_>) -> Vec<u32> {
    let column = keys.codes();
    let mut codes = Vec::with_capacity(column.rows());
    let mut values = [0; CHUNK_ROWS];
    for chunk in 0..column.chunks() {
        column.read_chunk(chunk, &mut values);
        let own = values.iter().take(column.chunk_rows(chunk).len());
        codes.extend(own.map(|code| u32::try_from(*code).expect("codes are counted in 32 bits")));
    }
    codes
}

fn content_of(sections: &[Section], kind: SectionKind, column: usize) -> &[u8] {
    let section = sections.iter().find(|section| section.kind == kind && section.column == column);
    section.expect("the sections of all columns have been made").content()
}

/// Times are in order; totals are read from the running sums that have just been made.
fn facts(columns: &Columns<'_>, sections: &[Section]) -> Facts {
    let rows = columns.ts.len();
    let measure = |kind: SectionKind, column: usize| {
        let numbers = Numbers::new(content_of(sections, kind, column), rows, kind.has_running_sums());
        let none = Measure::default();
        let (min, max) = numbers.min_max(0..rows).unwrap_or((none.min, none.max));
        Measure { sum: numbers.sum(0..rows), min, max }
    };
    let fixed = [SectionKind::Metric, SectionKind::Latency, SectionKind::LatencyDetail];
    let fixed = fixed.into_iter().map(|kind| measure(kind, 0));
    let counters = (0..columns.counters.len()).map(|counter| measure(SectionKind::Counter, counter));
    let sequences = || columns.sequence.iter().map(|sequence| *sequence as u64);
    Facts {
        ts_min: columns.ts.first().copied().unwrap_or(i64::MAX),
        ts_max: columns.ts.last().copied().unwrap_or(i64::MIN),
        sequence_min: sequences().min().unwrap_or(u64::MAX),
        sequence_max: sequences().max().unwrap_or(0),
        status_min: columns.status.iter().min().copied().unwrap_or(u16::MAX),
        status_max: columns.status.iter().max().copied().unwrap_or(0),
        totals: Sums { count: rows as u64, measures: fixed.chain(counters).collect() },
    }
}
