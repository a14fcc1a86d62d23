//! The binaries run as a person would start them, on a small scale.

use std::process::Command;

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn memory_says_what_an_idle_engine_and_ingesting_cost() {
    let printed = output_of(env!("CARGO_BIN_EXE_memory"), &["--rows", "20000", "--threads", "2"]);
    let line = |start: &str| {
        printed.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{printed}"))
    };
    assert!(line("idle engine, new table").contains("MiB"));
    assert!(line("peak while ingesting 20000 events").ends_with("target under 1024 MiB: met"));
    assert!(line("idle engine, 20000 events in segments").contains("MiB"));
}

#[test]
fn versus_writes_prints_and_stores_its_cells() {
    let dir = keplordb_benches::machine::bench_dir().unwrap();
    let json = dir.path().join("writes.json");
    let short = ["--samples", "1", "--seconds", "0.01", "--threads", "1,2", "--batches", "1,64", "--json"];
    let arguments = [&short[..], &[json.to_str().unwrap()]].concat();
    let printed = output_of(env!("CARGO_BIN_EXE_versus-writes"), &arguments);
    assert_eq!(printed.matches("raw-sharded").count(), 3 * 2, "{printed}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3 * 2 * 2);
    let is_measured = |cell: &serde_json::Value, kind: &str| cell[kind]["events_per_s"].as_f64() > Some(0.0);
    assert!(
        cells
            .iter()
            .all(|cell| ["keplordb", "raw", "raw-sharded"].iter().all(|kind| is_measured(cell, kind)))
    );

    let sustained =
        ["--sustained", "--samples", "1", "--seconds", "0.01", "--threads", "1", "--batches", "64"];
    assert!(output_of(env!("CARGO_BIN_EXE_versus-writes"), &sustained).contains("rotations are inside"));
}
