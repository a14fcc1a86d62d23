//! `plots`: draws what was recorded of reads, for docs/performance.md: latency against rows, the ratio to the best peer, bytes
//! per event.
//!
//! Reads the files `<date>-versus-<rows>.json` and `<date>-peers-<rows>.json` of a folder; of one kind and number of rows the
//! last date counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use keplordb_benches::figures::{best_peers, bytes_per_event, medians, of_peers, read_json};
use serde_json::Value;
use svg::{Anchor, LogScale, Svg};

mod svg;

/// Draws what was recorded of reads.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of a machine in benches/record
    record_dir: PathBuf,
    /// Where the drawings go
    #[arg(long, default_value = "docs/plots")]
    out: PathBuf,
    /// Rows of the tables that are put beside the peers'
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
}

/// Operations whose growth is drawn, and what they are called there.
const GROWING: [(&str, &str); 9] = [
    ("R1", "all"),
    ("R2", "one user"),
    ("R3", "time range"),
    ("R5", "status"),
    ("R7", "by model"),
    ("R8", "top users"),
    ("R10", "newest 100"),
    ("R14", "by id"),
    ("R18", "two measures"),
];
const WIDTH: f64 = 760.0;
/// Height of a bar, and from one to the next.
const BAR: (f64, f64) = (14.0, 22.0);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (ours, peers) =
        (recorded(&arguments.record_dir, "versus")?, recorded(&arguments.record_dir, "peers")?);
    std::fs::create_dir_all(&arguments.out)?;
    let write = |name: &str, svg: &Svg| {
        let path = arguments.out.join(name);
        std::fs::write(&path, svg.to_string()).with_context(|| format!("write {}", path.display()))
    };
    write("latency.svg", &latency(&ours)?)?;
    let of_rows = |figures: &BTreeMap<u64, Value>, what: &str| {
        let rows = arguments.rows;
        figures.get(&rows).cloned().with_context(|| format!("no figures of {what} with {rows} rows"))
    };
    let (ours, peers) = (of_rows(&ours, "versus")?, of_rows(&peers, "peers")?);
    write("ratio.svg", &ratio(&ours, &peers, arguments.rows)?)?;
    write("bytes.svg", &bytes(&ours, &peers, arguments.rows)?)
}

/// The latest figures of a kind, by rows.
fn recorded(dir: &Path, kind: &str) -> Result<BTreeMap<u64, Value>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    // Dates come first in the names, so that later files replace earlier ones.
    paths.sort();
    let mut found = BTreeMap::new();
    for path in paths {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let rows = name.and_then(|name| name.rsplit_once(&format!("-{kind}-")));
        if let Some(rows) = rows.and_then(|(_, rows)| rows.parse().ok()) {
            found.insert(rows, read_json(&path)?);
        }
    }
    ensure!(!found.is_empty(), "{} has no file <date>-{kind}-<rows>.json", dir.display());
    Ok(found)
}

/// Lines of microseconds over rows, both logarithmic, each with its name at its end.
fn latency(ours: &BTreeMap<u64, Value>) -> Result<Svg> {
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> =
        GROWING.iter().map(|(_, name)| (*name, Vec::new())).collect();
    for (rows, figures) in ours {
        for (operation, us) in medians(figures)? {
            if let Some(place) = GROWING.iter().position(|(growing, _)| *growing == operation) {
                lines[place].1.push((*rows as f64, us));
            }
        }
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    let height = 460.0;
    let mut svg = Svg::new(WIDTH, height, "Median latency against rows, in ten segments");
    let x = LogScale::of(points().map(|(rows, _)| *rows), (64.0, WIDTH - 180.0));
    let y = LogScale::of(points().map(|(_, us)| *us), (height - 40.0, 50.0));
    for tick in y.ticks() {
        svg.line(&[(x.places.0, y.place(tick)), (x.places.1, y.place(tick))], "grid");
        svg.text(x.places.0 - 8.0, y.place(tick) + 4.0, Anchor::End, "tick", &format!("{} µs", short(tick)));
    }
    for rows in ours.keys().map(|rows| *rows as f64) {
        svg.text(x.place(rows), height - 18.0, Anchor::Middle, "tick", &format!("{} rows", short(rows)));
    }
    // Names from the highest line down, each at least a line below the one before.
    lines.retain(|(_, points)| !points.is_empty());
    lines.sort_by(|(_, one), (_, other)| last_us(other).total_cmp(&last_us(one)));
    let mut below = 0.0;
    for (name, points) in &lines {
        let places: Vec<_> = points.iter().map(|(rows, us)| (x.place(*rows), y.place(*us))).collect();
        svg.line(&places, "ours line");
        let Some((end_x, end_y)) = places.last() else { continue };
        below = end_y.max(below + 15.0);
        let label = format!("{name}, {} µs", short(last_us(points)));
        svg.text(end_x + 8.0, below + 4.0, Anchor::Start, "value", &label);
    }
    Ok(svg)
}

fn last_us(points: &[(f64, f64)]) -> f64 {
    points.last().map_or(0.0, |(_, us)| *us)
}

/// A bar for each operation: how many times as long the best peer takes.
fn ratio(ours: &Value, peers: &Value, rows: u64) -> Result<Svg> {
    let best = best_peers(peers)?;
    let ratios: Vec<_> = medians(ours)?
        .into_iter()
        .filter_map(|(operation, us)| {
            let (best_us, peer) = best.get(of_peers(&operation))?;
            Some((operation, best_us / us, peer))
        })
        .collect();
    ensure!(!ratios.is_empty(), "no operation is in both figures");
    let title = format!("Times as fast as the best peer, {} rows", short(rows as f64));
    let height = 60.0 + BAR.1 * ratios.len() as f64;
    let mut svg = Svg::new(WIDTH, height, &title);
    // A ratio of 1 is a bar too, and one below it a short one.
    let x = LogScale::of(ratios.iter().map(|(_, ratio, _)| *ratio).chain([1.0]), (64.0, WIDTH - 190.0));
    for tick in x.ticks() {
        svg.line(&[(x.place(tick), 44.0), (x.place(tick), height - 8.0)], "grid");
        svg.text(x.place(tick), 40.0, Anchor::Middle, "tick", &format!("{}×", short(tick)));
    }
    for (place, (operation, ratio, peer)) in ratios.iter().enumerate() {
        let y = 50.0 + BAR.1 * place as f64;
        let class = if *ratio >= 1.0 { "ours" } else { "theirs" };
        svg.text(56.0, y + 11.0, Anchor::End, "value", operation);
        svg.bar(x.places.0, y, (x.place(*ratio) - x.places.0).max(1.0), BAR.0, class);
        let label = format!("{}× {peer}", short(*ratio));
        svg.text(x.place(*ratio) + 6.0, y + 11.0, Anchor::Start, "value", &label);
    }
    Ok(svg)
}

/// A bar for each engine; ours in two parts.
fn bytes(ours: &Value, peers: &Value, rows: u64) -> Result<Svg> {
    let (columns, indexes) = bytes_per_event(ours)?;
    let mut bars = vec![("keplordb".to_owned(), columns, indexes)];
    let peers = peers["peers"].as_object().context("the peers' figures have `peers`")?;
    // Polars in memory has the file of Polars.
    for (name, peer) in peers.iter().filter(|(name, _)| *name != "polars-mem") {
        bars.extend(peer["bytes_per_event"].as_f64().map(|bytes| (name.clone(), bytes, 0.0)));
    }
    bars[1..].sort_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
    let most = bars.iter().map(|(_, first, second)| first + second).fold(1.0, f64::max);
    let title = format!("Bytes per event, {} rows: columns, and indexes and sums", short(rows as f64));
    let mut svg = Svg::new(WIDTH, 60.0 + BAR.1 * bars.len() as f64, &title);
    let scale = (WIDTH - 230.0) / most;
    for (place, (name, first, second)) in bars.iter().enumerate() {
        let (x, y) = (90.0, 46.0 + BAR.1 * place as f64);
        let is_ours = place == 0;
        svg.text(x - 8.0, y + 11.0, Anchor::End, "value", name);
        svg.bar(x, y, first * scale, BAR.0, if is_ours { "ours" } else { "theirs" });
        svg.bar(x + first * scale, y, second * scale, BAR.0, "more");
        let label = if is_ours { format!("{first:.1} + {second:.1}") } else { format!("{first:.1}") };
        svg.text(x + (first + second) * scale + 6.0, y + 11.0, Anchor::Start, "value", &label);
    }
    Ok(svg)
}

/// Two digits, and K or M for thousands and millions.
fn short(number: f64) -> String {
    match number {
        1e6.. => format!("{} M", short(number / 1e6)),
        1e3..1e6 => format!("{} K", short(number / 1e3)),
        9.95.. => format!("{number:.0}"),
        0.995..9.95 => format!("{number:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{number:.2}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.1, 0.25, 1.0, 2.54, 42.4, 999.0, 1000.0, 1_200_000.0, 1e7].map(short);
        assert_eq!(texts, ["0.1", "0.25", "1", "2.5", "42", "999", "1 K", "1.2 M", "10 M"]);
    }
}
