//! `keplor bench`: the README's figures of appends and queries, measured on the user's machine.

mod appends;
mod machine;
mod measure;
mod queries;
mod workload;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;

use self::machine::Machine;
use super::Done;
use crate::interrupt;
use crate::output::{Output, count, note};
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Measure appends and queries on this machine, beside the README's figures
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor bench
  keplor bench --dir /var/tmp --events 10000000 --json

Appends are events of two dims and a counter, into a new table for each of five runs; `durable` ones are synced one by one, the others
every 64 events or 256 KiB. Queries ask a table of so many events in 10 segments, and every answer is compared with a plain loop.
Figures are medians. The README's were measured with a million events, on the machine that it names.")]
pub(crate) struct Bench {
    /// The disk to measure: a new directory is made in this one, and removed at the end; the system's temporary directory otherwise
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many events are asked
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    events: u64,
    #[command(flatten)]
    form: Form,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Unit {
    #[serde(rename = "µs")]
    Microseconds,
    #[serde(rename = "events/s")]
    EventsPerSecond,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    group: &'static str,
    /// As the README calls it, where it does.
    name: &'static str,
    unit: Unit,
    median: f64,
    readme: Option<f64>,
}

impl Bench {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let parent = self.dir.unwrap_or_else(std::env::temp_dir);
        if !parent.is_dir() {
            ensure!(
                parent.exists(),
                "there is no directory {}; make it, or name one that is there",
                parent.display()
            );
            bail!("{} is no directory; name one to make the files in", parent.display());
        }
        let failed =
            || format!("no directory can be made in {}; name another one by --dir", parent.display());
        let dir =
            tempfile::Builder::new().prefix("keplor-bench-").tempdir_in(&parent).with_context(failed)?;
        interrupt::listen()?;
        let measured = measure(dir.path(), self.events);
        let path = dir.path().to_owned();
        let removed = dir.close().with_context(|| format!("{} cannot be removed; remove it", path.display()));
        if measured.as_ref().is_err_and(anyhow::Error::is::<interrupt::Interrupted>) {
            removed?;
            return Ok(Done::Interrupted);
        }
        let (machine, figures) = measured?;
        removed?;

        if self.form.json {
            out.json(&json!({
                "machine": machine,
                "events": self.events,
                "segments": queries::SEGMENTS,
                "figures": figures,
            }))?;
        } else if self.form.csv {
            as_csv(out, self.form, &figures)?;
        } else {
            out.line(&machine.text())?;
            out.line(&format!("{} events in {} segments", count(self.events), queries::SEGMENTS))?;
            out.line("")?;
            as_text(out, self.form, &figures)?;
        }
        Ok(Done::Well)
    }
}

/// Everything, with its files in a directory.
fn measure(dir: &Path, events: u64) -> Result<(Machine, Vec<Figure>)> {
    let machine = Machine::look(dir).with_context(|| format!("{} cannot be measured", dir.display()))?;
    if cfg!(debug_assertions) {
        note(
            "this is a debug build, many times slower than what the README was measured with: build with --release",
        );
    }
    let mut progress = Progress::default();
    let mut figures = appends::measure(dir, events, &mut progress)?;
    figures.extend(queries::measure(dir, events, &mut progress)?);
    Ok((machine, figures))
}

fn as_csv(out: &mut Output, form: Form, figures: &[Figure]) -> Result<()> {
    let headings = ["group", "name", "unit", "median", "readme"].map(Heading::left);
    let mut sheet = Sheet::new(out, form, headings.into());
    for Figure { group, name, unit, median, readme } in figures {
        let unit = if *unit == Unit::Microseconds { "µs" } else { "events/s" };
        let readme = readme.map_or(Cell::Nothing, Cell::Share);
        let text = |text: &str| Cell::Text(text.to_owned());
        sheet.row(&[text(group), text(name), text(unit), Cell::Share(*median), readme])?;
    }
    sheet.finish()
}

fn as_text(out: &mut Output, form: Form, figures: &[Figure]) -> Result<()> {
    let headings = vec![
        Heading::left("group"),
        Heading::left("what"),
        Heading::right("measured"),
        Heading::right("README"),
    ];
    let mut sheet = Sheet::new(out, form, headings);
    for Figure { group, name, unit, median, readme } in figures {
        let texts = [(*group).to_owned(), (*name).to_owned(), unit.text(*median)];
        let readme = readme.map_or(Cell::Nothing, |readme| Cell::Text(unit.text(readme)));
        let mut cells: Vec<Cell> = texts.into_iter().map(Cell::Text).collect();
        cells.push(readme);
        sheet.row(&cells)?;
    }
    sheet.finish()
}

impl Unit {
    /// A figure with two significant digits at least, as the README writes them.
    fn text(self, value: f64) -> String {
        match self {
            Self::Microseconds if value < 1.0 => format!("{value:.2} µs"),
            Self::Microseconds if value < 100.0 => format!("{value:.1} µs"),
            Self::Microseconds => format!("{value:.0} µs"),
            Self::EventsPerSecond if value < 1e4 => format!("{value:.0} events/s"),
            Self::EventsPerSecond if value < 1e6 => format!("{:.0} k events/s", value / 1e3),
            Self::EventsPerSecond => format!("{:.1} M events/s", value / 1e6),
        }
    }
}

/// What is being done, for who waits at a terminal.
#[derive(Debug, Default)]
struct Progress {
    is_begun: bool,
}

impl Progress {
    fn tell(&mut self, what: &str) {
        if io::stderr().is_terminal() {
            self.is_begun = true;
            // Nobody is left to tell if this fails.
            let _ = write!(io::stderr(), "\r{what} …\u{1b}[K");
        }
    }

    /// Takes the line away.
    fn end(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::Unit::{EventsPerSecond, Microseconds};

    #[test]
    fn figures_are_written_as_in_the_readme() {
        let us = [0.173, 2.71, 35.62, 360.4].map(|value| Microseconds.text(value));
        assert_eq!(us, ["0.17 µs", "2.7 µs", "35.6 µs", "360 µs"]);
        let rates = [5_123.4, 123_456.0, 2_912_345.0].map(|value| EventsPerSecond.text(value));
        assert_eq!(rates, ["5123 events/s", "123 k events/s", "2.9 M events/s"]);
    }
}
