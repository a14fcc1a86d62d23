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

    let printed = output_of(env!("CARGO_BIN_EXE_memory"), &["scan", "--rows", "20000"]);
    assert!(printed.starts_with("peak while scanning 20000 events"), "{printed}");
    assert!(printed.trim_end().ends_with("target under 200 MiB: met"), "{printed}");
}

#[test]
fn versus_writes_prints_and_stores_its_cells() {
    let dir = keplordb_benches::machine::bench_dir().unwrap();
    let json = dir.path().join("writes.json");
    let short = ["--samples", "1", "--seconds", "0.01", "--threads", "1,2", "--batches", "1,64", "--json"];
    let arguments = [&short[..], &[json.to_str().unwrap()]].concat();
    let printed = output_of(env!("CARGO_BIN_EXE_versus-writes"), &arguments);
    assert_eq!(printed.matches("raw-sharded").count(), 3 * 2 * 2, "{printed}");
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

/// What the operations must answer is held against a plain loop by the program itself, and against its exit status here.
#[test]
fn versus_answers_as_it_must_and_says_where_it_does_not() {
    let dir = keplordb_benches::machine::bench_dir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (json, tables) = (path("reads.json"), path("tables"));
    let few = [
        "--rows",
        "3000",
        "--segments",
        "3",
        "--rounds",
        "2",
        "--runs",
        "2",
        "--seconds",
        "0",
        "--draws",
        "3",
    ];
    let kept = [&few[..], &["--directory", &tables]].concat();
    let printed = output_of(env!("CARGO_BIN_EXE_versus"), &[&kept[..], &["--json", &json]].concat());
    assert!(printed.lines().any(|line| line.starts_with("R1 ") && line.contains("  3000 ")), "{printed}");

    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let cells = report.as_array().unwrap();
    let (bytes, cells) = cells.split_last().unwrap();
    assert!(cells.len() >= 21 && cells.iter().all(|cell| cell["agrees"] == true), "{report:#}");
    assert!(cells.iter().all(|cell| cell["median_us"].as_f64() > Some(0.0)));
    assert!(cells.iter().any(|cell| cell["drawn_median_us"].as_f64() > Some(0.0)));
    let part = |name: &str| bytes[name].as_f64().unwrap();
    assert!((part("columns") + part("indexes_and_sums") - part("segments")).abs() < 0.02, "{bytes}");

    let scanned = output_of(env!("CARGO_BIN_EXE_versus"), &[&kept[..], &["--scan"]].concat());
    assert!(scanned.contains("R9h ") && !scanned.contains("R10 ") && !scanned.contains('!'), "{scanned}");

    // One answer of this file is wrong.
    let answers = cells.iter().map(|cell| {
        let result =
            if cell["op"] == "R7" { "7 rows crc32=00000000" } else { cell["result"].as_str().unwrap() };
        format!("{}  what it asks  {result}\n", cell["op"].as_str().unwrap())
    });
    std::fs::write(path("expected"), answers.collect::<String>()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_versus"))
        .args(kept.iter().chain(&["--expected", &path("expected")]))
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let marked: Vec<_> = printed.lines().filter(|line| line.contains("! ")).collect();
    assert!(matches!(&*marked, [line] if line.starts_with("R7")), "{printed}");
    assert_eq!(output.status.code(), Some(1));

    let peers = serde_json::json!({"peers": {"other": {"operations": {
        "R1": {"median_us": 1e9, "agrees": true}, "R2": {"median_us": 1e-9, "agrees": true},
    }}}});
    std::fs::write(path("peers.json"), peers.to_string()).unwrap();
    let compared = output_of(
        env!("CARGO_BIN_EXE_versus"),
        &["compare", &json, "--peers", &path("peers.json"), "--larger", &json],
    );
    let line = |start: &str| compared.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("R1 ").ends_with(" met") && line("R2 ").ends_with(" MISSED"), "{compared}");
    assert!(line("bytes per event, columns").contains("at most 38.7"), "{compared}");
}

#[test]
fn plots_draw_the_latest_figures() {
    let dir = keplordb_benches::machine::bench_dir().unwrap();
    let ours = |us: f64| {
        serde_json::json!([{"op": "R1", "median_us": us}, {"op": "R10b", "median_us": 2.0},
            {"op": "bytes_per_event", "columns": 38.5, "indexes_and_sums": 9.5}])
    };
    let peers = serde_json::json!({"peers": {"duckdb": {"bytes_per_event": 77.1, "operations": {
        "R1": {"median_us": 900.0, "agrees": true}, "R10": {"median_us": 140.0, "agrees": true},
    }}}});
    let put = |name: &str, figures: &serde_json::Value| {
        std::fs::write(dir.path().join(name), figures.to_string()).unwrap();
    };
    put("2026-01-01-versus-1000000.json", &ours(900.0));
    put("2026-01-02-versus-1000000.json", &ours(3.0));
    put("2026-01-02-versus-10000000.json", &ours(4.0));
    put("2026-01-02-peers-1000000.json", &peers);
    let out = dir.path().join("plots");
    let place = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    output_of(env!("CARGO_BIN_EXE_plots"), &[&place(dir.path()), "--out", &place(&out)]);
    let drawn = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(drawn("latency.svg").contains(">all, 4 µs<"));
    let ratios = drawn("ratio.svg");
    assert!(ratios.contains(">300× duckdb<") && ratios.contains(">70× duckdb<"), "{ratios}");
    let bytes = drawn("bytes.svg");
    assert!(
        bytes.contains(">38.5 + 9.5<") && bytes.contains(">77.1<") && bytes.contains("prefers-color-scheme")
    );
}
