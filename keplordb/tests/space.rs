//! What the bytes of a table's segments are for: `space` accounts for every one of them.

use std::sync::Arc;

use keplordb::disk::MemoryDisk;
use keplordb::{Engine, EngineConfig, LogEvent, Options};

/// Bytes that can be counted by hand, and all bytes of the files.
#[test]
fn every_byte_of_the_segments_is_for_something() {
    let config = EngineConfig { wal_shard_count: 1, bloom_dim: 0, ..EngineConfig::in_dir("table") };
    let options = Options::default().disk(Arc::new(MemoryDisk::default())).merge_rows(0);
    let engine = Engine::<1, 1, 1>::open_with(config, options).unwrap();
    let rows = 1000_u32;
    for segment in 0..2 {
        let event = |row: u32| LogEvent {
            id: format!("{segment}-{row}"),
            ts_ns: i64::from(row),
            counters: [row % 200],
            dims: [format!("dim-{}", row % 10)],
            ..LogEvent::default()
        };
        engine.append_batch(&(0..rows).map(event).collect::<Vec<_>>()).unwrap();
        engine.flush().unwrap();
    }
    let space = engine.space().unwrap();
    assert_eq!(space.columns_bytes + space.index_bytes, engine.stats().segment_bytes);
    let of = |name: &str| space.sections.iter().find(|section| section.name == name).unwrap();
    // Two segments of four chunks: minima and maxima of 8 bytes, five running sums of 16.
    assert_eq!(of("counter 0").index_bytes, 2 * (4 * 16 + 5 * 16));
    assert!(of("counter 0").columns_bytes >= 2 * 4 * 256);
    // Flags have no sums, ids no zone maps; hash indexes are nothing but help.
    assert_eq!(of("flags").index_bytes, 2 * 4 * 16);
    assert_eq!(of("id").index_bytes, 0);
    assert!(of("id index").columns_bytes == 0 && of("bloom filter").columns_bytes == 0);
    // Ten values with a bitmap for each of four chunks, and codes of a byte a row.
    let dim = of("dim 0");
    assert!(dim.index_bytes >= 2 * 10 * 4 * 32, "{dim:?}");
    assert!((2 * 4 * 256..2 * 2 * 4 * 256).contains(&dim.columns_bytes), "{dim:?}");
}
