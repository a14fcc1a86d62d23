//! `record`: turns what `cargo bench` left in `target/criterion` into lines of CSV, for `benches/record/`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use keplordb_benches::machine::{Sitting, bench_dir};
use serde_json::Value;

/// Turns what `cargo bench` left behind into lines of CSV.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Criterion's folder
    #[arg(default_value = "target/criterion")]
    criterion_dir: PathBuf,
}

/// One bench, as Criterion wrote it down.
struct Line {
    name: String,
    median_ns: f64,
    /// 95% confidence interval of the median.
    low_ns: f64,
    high_ns: f64,
    /// Events of one iteration; 0 where it says none.
    events: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut lines = Vec::new();
    collect(&arguments.criterion_dir, &mut lines)?;
    ensure!(
        !lines.is_empty(),
        "no figures in {}: run `cargo bench` first",
        arguments.criterion_dir.display()
    );
    lines.sort_by(|left, right| left.name.cmp(&right.name));

    let mut out = io::stdout().lock();
    writeln!(out, "# {}, {} threads", processor(), std::thread::available_parallelism()?)?;
    writeln!(out, "# {}", Sitting::measure(bench_dir()?.path())?)?;
    writeln!(out, "bench,median_ns,low_ns,high_ns,events,events_per_s")?;
    for Line { name, median_ns, low_ns, high_ns, events } in lines {
        let events_per_s = events as f64 * 1e9 / median_ns;
        writeln!(out, "{name},{median_ns:.1},{low_ns:.1},{high_ns:.1},{events},{events_per_s:.0}")?;
    }
    Ok(())
}

/// Looks for the folders named `new`, which hold each bench's latest figures.
fn collect(dir: &Path, lines: &mut Vec<Line>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            lines.push(line(&path).with_context(|| format!("read the figures in {}", path.display()))?);
        } else {
            collect(&path, lines)?;
        }
    }
    Ok(())
}

fn line(dir: &Path) -> Result<Line> {
    let read = |file: &str| -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(dir.join(file))?)?)
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let number =
        |pointer: &str| estimates.pointer(pointer).and_then(Value::as_f64).context(pointer.to_owned());
    Ok(Line {
        name: benchmark["full_id"].as_str().context("full_id")?.to_owned(),
        median_ns: number("/median/point_estimate")?,
        low_ns: number("/median/confidence_interval/lower_bound")?,
        high_ns: number("/median/confidence_interval/upper_bound")?,
        events: benchmark.pointer("/throughput/Elements").and_then(Value::as_u64).unwrap_or(0),
    })
}

fn processor() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown processor", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_where_criterion_leaves_them() {
        let dir = bench_dir().unwrap();
        let new = dir.path().join("append/disk/1024/new");
        std::fs::create_dir_all(&new).unwrap();
        std::fs::create_dir_all(dir.path().join("append/disk/1024/base")).unwrap();
        let benchmark = r#"{"full_id": "append/disk/1024", "throughput": {"Elements": 1024}}"#;
        let estimates = r#"{"median": {"point_estimate": 512.5,
            "confidence_interval": {"confidence_level": 0.95, "lower_bound": 500.0, "upper_bound": 520.0}}}"#;
        std::fs::write(new.join("benchmark.json"), benchmark).unwrap();
        std::fs::write(new.join("estimates.json"), estimates).unwrap();

        let mut lines = Vec::new();
        collect(dir.path(), &mut lines).unwrap();
        let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert_eq!((line.name.as_str(), line.events), ("append/disk/1024", 1024));
        assert_eq!(
            [line.median_ns, line.low_ns, line.high_ns].map(|ns| ns.to_string()),
            ["512.5", "500", "520"]
        );
    }
}
