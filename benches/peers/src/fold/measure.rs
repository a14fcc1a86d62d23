//! What is measured, and how: each measurement in a directory of its own, ours and theirs in turns.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use keplordb_fold::{Checkpoints, EventLog, EventWriter, SharedLog, SnapshotPolicy, TypedView, View, ViewOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::workload::{Large, Todo, Totals, event, keep, theirs, total, total_typed};

/// How much is measured.
pub(crate) struct Scale {
    pub(crate) events: u64,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
}

/// One line of the table.
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    ours: f64,
    theirs: Option<f64>,
    /// How many times as good ours is.
    ratio: Option<f64>,
    target: &'static str,
}

impl Line {
    /// More is better.
    fn rate(what: impl Into<String>, ours: f64, theirs: f64, target: &'static str) -> Self {
        Self { what: what.into(), unit: "/s", ours, theirs: Some(theirs), ratio: Some(ours / theirs), target }
    }

    /// Less is better.
    fn time(what: impl Into<String>, ours_ms: f64, theirs_ms: f64, target: &'static str) -> Self {
        let ratio = Some(theirs_ms / ours_ms);
        Self { what: what.into(), unit: "ms", ours: ours_ms, theirs: Some(theirs_ms), ratio, target }
    }

    fn alone(what: impl Into<String>, unit: &'static str, ours: f64, target: &'static str) -> Self {
        Self { what: what.into(), unit, ours, theirs: None, ratio: None, target }
    }

    pub(crate) fn to_json(&self) -> Value {
        let Self { what, unit, ours, theirs, ratio, target } = self;
        json!({ "what": what, "unit": unit, "ours": ours, "eventfold": theirs, "ratio": ratio, "target": target })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>, digits| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
        let digits = if self.unit == "/s" { 0 } else { 3 };
        let (ours, theirs) = (number(Some(self.ours), digits), number(self.theirs, digits));
        write!(
            out,
            "{:<49} {:>2} {ours:>12} {theirs:>12} {:>7}  {}",
            self.what,
            self.unit,
            number(self.ratio, 2),
            self.target
        )
    }
}

type Measurement = fn(&Path, &Scale) -> Result<Vec<Line>>;

/// All, in the order of the table.
pub(crate) const ALL: [Measurement; 6] = [appends, appends_of_threads, replays, large_state, several_views, time_travel];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn dir(parent: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("versus-fold").tempdir_in(parent)?)
}

/// Calls something again and again for some time, and returns how often a second.
fn rate(seconds: f64, mut call: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (begin, mut calls) = (Instant::now(), 0);
    while begin.elapsed().as_secs_f64() < seconds {
        call(calls)?;
        calls += 1;
    }
    Ok(calls as f64 / begin.elapsed().as_secs_f64())
}

fn ms(call: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    call()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Single events and batches of a thousand, each on disk when the call returns.
fn appends(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    let (mut single, mut peer, mut batch) = (vec![], vec![], vec![]);
    for _ in 0..scale.rounds {
        let (ours, other) = (dir(parent)?, dir(parent)?);
        let mut writer = EventWriter::open(ours.path())?;
        let mut their_writer = eventfold::EventWriter::open(other.path())?;
        single.push(rate(scale.seconds, |number| Ok(writer.append(&event(number)).map(drop)?))?);
        peer.push(rate(scale.seconds, |number| Ok(their_writer.append(&theirs(&event(number))).map(drop)?))?);
        let thousand: Vec<_> = (0..1000).map(event).collect();
        batch.push(1000.0 * rate(scale.seconds, |_| Ok(writer.append_batch(&thousand).map(drop)?))?);
    }
    let (single, peer, batch) = (median(single), median(peer), median(batch));
    Ok(vec![
        Line::rate("append of one event, synced", single, peer, ""),
        Line::rate("batches of 1,000, synced, events", batch, peer, "50"),
    ])
}

/// Eight threads that append single events at once: ours through a shared handle, theirs through a mutex.
fn appends_of_threads(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    const THREADS: u64 = 8;
    let (mut ours, mut peer) = (vec![], vec![]);
    for _ in 0..scale.rounds {
        let place = dir(parent)?;
        let shared = SharedLog::open(place.path())?;
        ours.push(of_threads(THREADS, scale.seconds, |number| Ok(shared.append(&event(number)).map(drop)?))?);
        let place = dir(parent)?;
        let writer = std::sync::Mutex::new(eventfold::EventWriter::open(place.path())?);
        peer.push(of_threads(THREADS, scale.seconds, |number| {
            let event = theirs(&event(number));
            writer.lock().expect("no writer panics").append(&event)?;
            Ok(())
        })?);
    }
    Ok(vec![Line::rate("8 threads, single events, synced", median(ours), median(peer), "4")])
}

fn of_threads(threads: u64, seconds: f64, call: impl Fn(u64) -> Result<()> + Sync) -> Result<f64> {
    std::thread::scope(|scope| {
        let call = &call;
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(move || rate(seconds, call))).collect();
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    })
}

/// Views made from nothing, over the active log and over the archive.
fn replays(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    let place = filled(parent, scale.events)?;
    let expected = (0..scale.events).fold(Totals::default(), |totals, number| total(totals, &event(number)));
    let mut lines = Vec::new();
    for source in ["active log", "archive"] {
        if source == "archive" {
            EventWriter::open(place.path())?.rotate(&keplordb_fold::EventReader::new(place.path()), &mut Default::default())?;
        }
        let (mut untyped, mut typed, mut peer) = (vec![], vec![], vec![]);
        for _ in 0..scale.rounds {
            let views = dir(parent)?;
            let reader = keplordb_fold::EventReader::new(place.path());
            let mut view = View::new("totals", total, views.path());
            untyped.push(ms(|| Ok(ensure!(view.refresh(&reader)? == &expected, "untyped totals differ")))?);
            let mut view: TypedView<Todo, Totals> = TypedView::new("typed", total_typed, views.path());
            typed.push(ms(|| Ok(ensure!(view.refresh(&reader)? == &expected, "typed totals differ")))?);
            let reader = eventfold::EventReader::new(place.path());
            let mut view = eventfold::View::new("theirs", total, views.path());
            peer.push(ms(|| Ok(ensure!(view.refresh(&reader)? == &expected, "their totals differ")))?);
        }
        let rate = |times| scale.events as f64 * 1e3 / median(times);
        let (untyped, typed, peer) = (rate(untyped), rate(typed), rate(peer));
        lines.push(Line::rate(format!("replay from the {source}, untyped, events"), untyped, peer, "2"));
        lines.push(Line::rate(format!("replay from the {source}, typed, events"), typed, peer, "4"));
    }
    Ok(lines)
}

/// A log of that many events, all active.
fn filled(parent: &Path, events: u64) -> Result<TempDir> {
    let place = dir(parent)?;
    let mut writer = EventWriter::open(place.path())?;
    let numbers: Vec<u64> = (0..events).collect();
    for numbers in numbers.chunks(10_000) {
        let batch: Vec<_> = numbers.iter().map(|number| event(*number)).collect();
        writer.append_batch(&batch)?;
    }
    Ok(place)
}

/// One event and a refresh, with a state of a megabyte.
fn large_state(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    let (mut each, mut seldom, mut peer) = (vec![], vec![], vec![]);
    for _ in 0..scale.rounds {
        for (times, policy) in [(&mut each, SnapshotPolicy::EachRefresh), (&mut seldom, SnapshotPolicy::EveryEvents(1000))] {
            let place = dir(parent)?;
            let mut writer = EventWriter::open(place.path())?;
            let reader = writer.reader();
            let mut view: View<Large> =
                View::new("large", keep, writer.views_dir()).with_options(ViewOptions::default().snapshots(policy));
            times.push(per_call(40, |number| {
                writer.append(&event(number))?;
                ensure!(view.refresh(&reader)?.events as u64 == number + 1);
                Ok(())
            })?);
        }
        let place = dir(parent)?;
        let mut writer = eventfold::EventWriter::open(place.path())?;
        let reader = writer.reader();
        let mut view: eventfold::View<Large> = eventfold::View::new("large", keep, writer.views_dir());
        peer.push(per_call(40, |number| {
            writer.append(&theirs(&event(number)))?;
            ensure!(view.refresh(&reader)?.events as u64 == number + 1);
            Ok(())
        })?);
    }
    let peer = median(peer);
    Ok(vec![
        Line::time("append + refresh, 1 MB, snapshot each time", median(each), peer, ""),
        Line::time("append + refresh, 1 MB, snapshot every 1,000", median(seldom), peer, "5"),
    ])
}

/// Milliseconds of a call on average.
fn per_call(calls: u64, mut call: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    Ok(ms(|| (0..calls).try_for_each(&mut call))? / calls as f64)
}

/// Five views of one log, refreshed from nothing together, beside one.
fn several_views(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    let place = filled(parent, scale.events)?;
    let mut times = [vec![], vec![]];
    for _ in 0..scale.rounds {
        for (times, count) in times.iter_mut().zip([1, 5]) {
            let _ = std::fs::remove_dir_all(place.path().join("views"));
            let mut builder = EventLog::builder(place.path());
            for number in 0..count {
                builder = builder.view::<Totals>(&format!("totals-{number}"), total);
            }
            let mut log = builder.open()?;
            times.push(ms(|| Ok(log.refresh_all()?))?);
        }
    }
    let [one, five] = times.map(median);
    Ok(vec![
        Line::alone("refresh of one view from nothing", "ms", one, ""),
        Line::alone("refresh of five views, over that of one", "x", five / one, "at most 1.5"),
    ])
}

/// The state at moments of the past, with checkpoints.
fn time_travel(parent: &Path, scale: &Scale) -> Result<Vec<Line>> {
    let place = filled(parent, scale.events)?;
    let options = ViewOptions::default().checkpoints(Checkpoints::every(scale.events / 20).keep(20));
    let mut log = EventLog::builder(place.path()).view_with::<Totals>("totals", options, total).open()?;
    log.refresh_all()?;
    let (mut by_number, mut by_time) = (vec![], vec![]);
    for round in 0..10 * scale.rounds as u64 {
        let number = round * 7_919_317 % scale.events;
        let mut state = Totals::default();
        by_number.push(ms(|| Ok(state = log.state_at("totals", number)?))?);
        ensure!(state.added + state.completed == (0..number).filter(|number| number % 10 != 9).count() as u64);
        by_time.push(ms(|| Ok(state = log.state_at_time("totals", event(number).ts)?))?);
        let end = (number / 100 + 1) * 100;
        ensure!(state.added + state.completed == (0..end.min(scale.events)).filter(|number| number % 10 != 9).count() as u64);
    }
    Ok(vec![
        Line::alone("state at a number, 20 checkpoints", "ms", median(by_number), "under 50"),
        Line::alone("state at a time, 20 checkpoints", "ms", median(by_time), "under 50"),
    ])
}
