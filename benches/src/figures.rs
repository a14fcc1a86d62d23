//! Recorded figures of reads: ours as `versus --json` writes them, the peers' as `peers.py run --json` does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Reads a file of JSON.
///
/// # Errors
/// When it cannot be read, or is no JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Our medians in microseconds, by operation, in their order.
///
/// # Errors
/// When these are no figures of ours.
pub fn medians(ours: &Value) -> Result<Vec<(String, f64)>> {
    let cells = ours.as_array().context("our figures are an array")?;
    let median = |cell: &Value| Some((cell["op"].as_str()?.to_owned(), cell["median_us"].as_f64()?));
    Ok(cells.iter().filter_map(median).collect())
}

/// Our bytes per event: columns, then indexes and sums.
///
/// # Errors
/// When the figures do not say them.
pub fn bytes_per_event(ours: &Value) -> Result<(f64, f64)> {
    let bytes = ours.as_array().and_then(|cells| cells.iter().find(|cell| cell["op"] == "bytes_per_event"));
    let part = |name: &str| bytes.and_then(|bytes| bytes[name].as_f64());
    part("columns").zip(part("indexes_and_sums")).context("our figures do not say the bytes per event")
}

/// Of each operation the quickest peer's median in microseconds, and its name. Peers whose answer was wrong do not count.
///
/// # Errors
/// When these are no figures of peers.
pub fn best_peers(report: &Value) -> Result<BTreeMap<String, (f64, String)>> {
    let peers = report["peers"].as_object().context("the peers' figures have `peers`")?;
    let mut best: BTreeMap<String, (f64, String)> = BTreeMap::new();
    for (name, peer) in peers {
        for (operation, cell) in peer["operations"].as_object().into_iter().flatten() {
            let Some(us) = cell["median_us"].as_f64() else { continue };
            let is_best = best.get(operation).is_none_or(|(best_us, _)| us < *best_us);
            if cell["agrees"] == true && is_best {
                best.insert(operation.clone(), (us, name.clone()));
            }
        }
    }
    ensure!(!best.is_empty(), "the peers' figures have no operation");
    Ok(best)
}

/// The operation of the peers that one of ours is held against: with a `b` rows are borrowed, and copied without.
pub fn of_peers(operation: &str) -> &str {
    operation.strip_suffix('b').unwrap_or(operation)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_best_peer_is_the_quickest_that_agrees() {
        let cell = |us: f64, agrees: bool| json!({"median_us": us, "agrees": agrees});
        let report = json!({"peers": {
            "wrong": {"operations": {"R1": cell(1.0, false)}},
            "quick": {"operations": {"R1": cell(20.0, true), "R2": cell(9.0, true)}},
            "slow": {"operations": {"R1": cell(30.0, true), "R2": cell(8.0, true)}},
            "broken": {"error": "exit status 1"},
        }});
        let best = best_peers(&report).unwrap();
        assert_eq!(best["R1"], (20.0, "quick".to_owned()));
        assert_eq!(best["R2"], (8.0, "slow".to_owned()));
        assert_eq!((best.len(), of_peers("R10b"), of_peers("R9m")), (2, "R10", "R9m"));
        assert!(best_peers(&json!({"peers": {}})).is_err());
    }

    #[test]
    fn our_figures_are_read() {
        let ours = json!([{"op": "R2", "median_us": 1.5}, {"op": "R1", "median_us": 2.0},
            {"op": "bytes_per_event", "columns": 38.0, "indexes_and_sums": 9.5}]);
        assert_eq!(medians(&ours).unwrap(), [("R2".to_owned(), 1.5), ("R1".to_owned(), 2.0)]);
        assert_eq!(bytes_per_event(&ours).unwrap(), (38.0, 9.5));
        assert!(bytes_per_event(&json!([])).is_err() && medians(&json!({})).is_err());
    }
}
