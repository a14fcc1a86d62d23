//! What a server measures, as Prometheus reads it at `/metrics`. Each measure has one row in [`TABLE`], and `docs/operations.md` shows the
//! same rows.
//!
//! Nothing here has a label whose values clients choose: neither types nor ids nor names of keys, so there are always as many series.

use std::fmt::{self, Write as _};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tonic::Code;

use crate::fold::Operation;

/// What a measure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows; from 0 when the server starts.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How many values there were up to each of some bounds, and their sum.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Its label; it has at most one.
    pub label: Option<&'static str>,
    /// What it is.
    pub meaning: &'static str,
}

const fn measure(
    name: &'static str,
    kind: Kind,
    label: Option<&'static str>,
    meaning: &'static str,
) -> Measure {
    Measure { name, kind, label, meaning }
}

const CAPTURED: &str = "keplor_events_captured_total";
const DUPLICATE: &str = "keplor_events_duplicate_total";
const REFUSED: &str = "keplor_refused_total";
const BATCH: &str = "keplor_batch_events";
const SYNC: &str = "keplor_sync_seconds";
const WAITING: &str = "keplor_waiting_bytes";
const READING: &str = "keplor_reading_bytes";
const CONNECTIONS: &str = "keplor_connections";
const SUBSCRIBERS: &str = "keplor_subscribers";
const SEGMENTS: &str = "keplor_log_segments";
const BYTES: &str = "keplor_log_bytes";
const HEAD: &str = "keplor_head_sequence";

/// All measures, in the order in which the documentation has them.
pub const TABLE: &[Measure] = &[
    measure(
        CAPTURED,
        Kind::Counter,
        Some("op"),
        "events that are on disk, by what they do: `create`, `update`, `delete`",
    ),
    measure(
        DUPLICATE,
        Kind::Counter,
        None,
        "events that were there already by their `event_id`, and were not captured again",
    ),
    measure(
        REFUSED,
        Kind::Counter,
        Some("code"),
        "records, batches, subscriptions, and requests without room or without a good key that were refused, by the code of gRPC",
    ),
    measure(BATCH, Kind::Histogram, None, "events that one sync brought to the disk together"),
    measure(SYNC, Kind::Histogram, None, "seconds that writing and syncing such a batch took"),
    measure(
        WAITING,
        Kind::Gauge,
        None,
        "bytes of records that wait to be written; at 64 MiB more are refused",
    ),
    measure(
        READING,
        Kind::Gauge,
        None,
        "bytes of requests for which there is room while they are read; at 256 MiB more are refused",
    ),
    measure(CONNECTIONS, Kind::Gauge, None, "open connections; at 4096 others are refused"),
    measure(SUBSCRIBERS, Kind::Gauge, None, "who follows the log; at 256 others are refused"),
    measure(SEGMENTS, Kind::Gauge, None, "segments of the log"),
    measure(BYTES, Kind::Gauge, None, "bytes of the log on disk: segments, and what is not in one yet"),
    measure(HEAD, Kind::Gauge, None, "sequence of the newest event"),
];

/// Bounds of [`BATCH`]: what is 1 shares no sync, and no batch is much larger than the last one.
const BATCH_BOUNDS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0];
/// Bounds of [`SYNC`], in seconds: from a disk that answers from its memory to one that is in trouble.
const SYNC_BOUNDS: [f64; 12] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Codes by which something is refused, and what they are called.
const CODES: [(Code, &str); 10] = [
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    // All others.
    (Code::Unknown, "OTHER"),
];

/// The measures of a server. They are its own: two servers of one process do not count together.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    captured: [Counter; 3],
    refused: [Counter; CODES.len()],
    pub(crate) duplicate: Counter,
    batch_events: Histogram,
    sync_seconds: Histogram,
    pub(crate) waiting_bytes: Gauge,
    pub(crate) reading_bytes: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) subscribers: Gauge,
    pub(crate) log_segments: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) head_sequence: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// Never: the bounds of histograms are not empty.
    pub(crate) fn new() -> Self {
        let bounded = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
            let set = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds);
            set.expect("the bounds are not empty")
        };
        let builder = bounded(PrometheusBuilder::new(), BATCH, &BATCH_BOUNDS);
        let recorder = bounded(builder, SYNC, &SYNC_BOUNDS).build_recorder();
        for Measure { name, kind, meaning, .. } in TABLE {
            match kind {
                Kind::Counter => recorder.describe_counter((*name).into(), None, (*meaning).into()),
                Kind::Gauge => recorder.describe_gauge((*name).into(), None, (*meaning).into()),
                Kind::Histogram => recorder.describe_histogram((*name).into(), None, (*meaning).into()),
            }
        }
        let of = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
        let counter = |name: &'static str, label: &'static str, value: &'static str| {
            let key = Key::from_parts(name, vec![Label::from_static_parts(label, value)]);
            recorder.register_counter(&key, &of)
        };
        let gauge = |name: &'static str| recorder.register_gauge(&Key::from_static_name(name), &of);
        let histogram = |name: &'static str| recorder.register_histogram(&Key::from_static_name(name), &of);
        Self {
            handle: recorder.handle(),
            captured: ["create", "update", "delete"].map(|op| counter(CAPTURED, "op", op)),
            refused: CODES.map(|(_, code)| counter(REFUSED, "code", code)),
            duplicate: recorder.register_counter(&Key::from_static_name(DUPLICATE), &of),
            batch_events: histogram(BATCH),
            sync_seconds: histogram(SYNC),
            waiting_bytes: gauge(WAITING),
            reading_bytes: gauge(READING),
            connections: gauge(CONNECTIONS),
            subscribers: gauge(SUBSCRIBERS),
            log_segments: gauge(SEGMENTS),
            log_bytes: gauge(BYTES),
            head_sequence: gauge(HEAD),
        }
    }

    /// A batch of these operations is on disk.
    pub(crate) fn written(&self, operations: &[Operation], took: Duration) {
        self.batch_events.record(operations.len() as f64);
        self.sync_seconds.record(took);
        let [created, updated, deleted] = &self.captured;
        for operation in operations {
            match operation {
                Operation::Create => created,
                Operation::Update => updated,
                Operation::Delete => deleted,
            }
            .increment(1);
        }
    }

    /// Something was refused.
    pub(crate) fn refused(&self, code: Code) {
        let place = CODES.iter().position(|(of, _)| *of == code).unwrap_or(CODES.len() - 1);
        if let Some(counter) = self.refused.get(place) {
            counter.increment(1);
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        self.handle.render()
    }

    /// Sums up what came since the last time. Where nobody reads the text, this keeps it from growing.
    pub(crate) fn sum_up(&self) {
        self.handle.run_upkeep();
    }
}

/// The table as the documentation has it.
pub fn documentation() -> String {
    let mut text = "| name | kind | label | what it is |\n| --- | --- | --- | --- |\n".to_owned();
    for Measure { name, kind, label, meaning } in TABLE {
        let label = label.map_or_else(String::new, |label| format!("`{label}`"));
        // A text takes whatever is written into it.
        let _ = writeln!(text, "| `{name}` | {} | {label} | {meaning} |", kind.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_table() {
        let document = include_str!("../../docs/operations.md");
        let table = documentation();
        assert!(document.contains(&table), "docs/operations.md must have this, as it is:\n{table}");
    }

    #[test]
    fn what_is_shown_is_what_the_table_has() {
        let metrics = Metrics::new();
        metrics.written(&[Operation::Create, Operation::Update, Operation::Update], Duration::from_millis(2));
        metrics.refused(Code::Unauthenticated);
        metrics.refused(Code::Aborted);
        metrics.duplicate.increment(1);
        metrics.head_sequence.set(7.0);
        let text = metrics.text();
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut shown: Vec<_> = shown.map(str::to_owned).collect();
        let mut table: Vec<_> = TABLE.iter().map(|of| format!("{} {}", of.name, of.kind.name())).collect();
        shown.sort_unstable();
        table.sort_unstable();
        assert_eq!(shown, table, "{text}");
        for line in [
            "keplor_events_captured_total{op=\"update\"} 2",
            "keplor_refused_total{code=\"UNAUTHENTICATED\"} 1",
            "keplor_refused_total{code=\"OTHER\"} 1",
            "keplor_batch_events_bucket{le=\"4\"} 1",
            "keplor_head_sequence 7",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
