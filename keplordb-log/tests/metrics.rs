//! Do the counters of the facade count what was done, and are they called what docs/log.md says? A recorder that keeps all
//! numbers by their names is installed first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use keplordb_log::{Log, Options, Replica, SyncPolicy};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Numbers by name and directory.
type Numbers = Arc<Mutex<BTreeMap<(String, String), f64>>>;

struct Kept(Numbers);

struct Number {
    numbers: Numbers,
    key: (String, String),
}

impl Number {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.numbers.lock().unwrap().entry(self.key.clone()).or_default());
    }
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.change(|number| *number += value as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|number| *number = number.max(value as f64));
    }
}

impl GaugeFn for Number {
    fn increment(&self, value: f64) {
        self.change(|number| *number += value);
    }
    fn decrement(&self, value: f64) {
        self.change(|number| *number -= value);
    }
    fn set(&self, value: f64) {
        self.change(|number| *number = value);
    }
}

impl HistogramFn for Number {
    /// Counts the values.
    fn record(&self, value: f64) {
        assert!(value > 0.0 && value < 60.0, "{value} seconds");
        self.change(|number| *number += 1.0);
    }
}

impl Kept {
    fn number(&self, key: &Key) -> Arc<Number> {
        let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value().to_owned())).collect();
        let [("dir", dir)] = &labels[..] else { panic!("{labels:?}") };
        let number = Number { numbers: Arc::clone(&self.0), key: (key.name().to_owned(), dir.clone()) };
        number.change(|_| ());
        Arc::new(number)
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.number(key))
    }
}

#[test]
fn the_numbers_are_those_of_the_writer_and_the_replica() {
    let numbers = Numbers::default();
    metrics::set_global_recorder(Kept(Arc::clone(&numbers))).unwrap_or_else(|_| panic!("one recorder"));
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_segment_bytes: 500, sync: SyncPolicy::Each, ..Options::default() };
    let log = Log::open_with(dir.path().join("log"), options).unwrap();
    let writer = log.writer().unwrap();
    for number in 0..20_u8 {
        writer.write_batch([[number; 30], [number; 30]]).unwrap();
    }
    writer.sync().unwrap();
    let stats = writer.stats();
    assert!(stats.rollovers > 2 && stats.syncs > 2);

    let mut replica = Replica::new(&log, dir.path().join("copy")).unwrap();
    replica.lag().unwrap();
    let number = |dir: &str, name: &str| {
        let dir = writer.log().path().with_file_name(dir).display().to_string();
        numbers.lock().unwrap().get(&(format!("keplordb_log_{name}"), dir)).copied()
    };
    let of_log = |name| number("log", name);
    assert_eq!(of_log("entries_total"), Some(40.0));
    assert_eq!(of_log("bytes_total"), Some(stats.bytes as f64));
    assert_eq!(of_log("syncs_total"), Some(stats.syncs as f64));
    assert_eq!(of_log("rollovers_total"), Some(stats.rollovers as f64));
    assert_eq!(of_log("sync_seconds"), Some(21.0));
    assert_eq!(number("copy", "lag_entries"), Some(40.0));
    assert_eq!(number("copy", "lag_bytes"), Some(log.stats().unwrap().bytes as f64));
    replica.step().unwrap();
    replica.lag().unwrap();
    assert_eq!(number("copy", "lag_entries"), Some(0.0));

    // The document names all of them, and no others.
    let document = include_str!("../../docs/log.md");
    let mut named: Vec<&str> = document.split('`').filter(|word| word.starts_with("keplordb_log_")).collect();
    let mut counted: Vec<String> = numbers.lock().unwrap().keys().map(|(name, _)| name.clone()).collect();
    named.sort_unstable();
    counted.sort_unstable();
    assert_eq!(named, counted);
}
