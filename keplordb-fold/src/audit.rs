//! Compares the states that views keep, on disk and in memory, with what a fresh fold over the log comes to.
//!
//! All views go in one pass. It changes nothing: what is wrong is told as a [`Problem`].

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::directory::Present;
use crate::history::History;
use crate::kept::{Keeping, Kept, Run, Source};
use crate::parts::damage_in;
use crate::position::Position;
use crate::snapshot::Progress;
use crate::time_travel::Rules;
use crate::verify::{Problem, ProblemKind, Verification};
use crate::views::{self, Folding, Parsed, Parser};

/// How much of a value is told.
const TOLD_CHARS: usize = 60;

/// The audit of one view under way, whatever its types are.
pub(crate) trait Audit: Folding {
    /// Adds what was found to a report.
    fn report(&mut self, report: &mut Verification);
}

/// Folds all of the log afresh for these audits, and adds what they find.
pub(crate) fn run(
    history: &History,
    present: &Present,
    mut audits: Vec<Box<dyn Audit + '_>>,
    report: &mut Verification,
) -> io::Result<()> {
    let mut foldings: Vec<&mut dyn Folding> =
        audits.iter_mut().map(|audit| &mut **audit as &mut dyn Folding).collect();
    if let Err(error) = views::run(history, present, &mut foldings) {
        // The report has the damage already; what lies behind it was not compared.
        damage_in(error)?;
    }
    for audit in &mut audits {
        audit.report(report);
    }
    Ok(())
}

/// The audit of a view whose rows are folded by `fold`; `None` if it has no state that could be compared.
///
/// It begins at the beginning. Where that was pruned, no fold comes by what the pruned events were, so the oldest state is
/// believed and the others are compared with what follows from it.
pub(crate) fn of<'a, S>(
    kept: &'a Kept<S>,
    (history, present): (&History, &Present),
    parser: Parser,
    fold: impl Fn(&mut Run<S>, Parsed<'_>, Rules<'_, S>) -> bool + 'a,
) -> io::Result<Option<Box<dyn Audit + 'a>>>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    let mut keepings = kept.keepings(history, present)?;
    keepings.sort_by_key(|keeping| keeping.sequence);
    let mut keepings = keepings.into_iter();
    let (begin, oldest) = if present.first_sequence == 0 {
        (Some(kept.beginning(present)?), None)
    } else {
        let mut oldest = None;
        let open = |keeping: Keeping<S>| {
            oldest = Some(keeping.file.clone());
            kept.open(keeping, history, present).transpose()
        };
        (keepings.find_map(open).transpose()?, oldest)
    };
    let Some((state, progress)) = begin else { return Ok(None) };
    let mut keepings: Vec<_> = keepings.collect();
    let last = keepings.last().map_or(0, |keeping| keeping.sequence);
    keepings.reverse();
    let oldest = oldest.map(|file| (file, progress.sequence));
    let mut comparison = Comparison { kept, keepings, oldest, problems: Vec::new(), fitting: 0 };
    comparison.pass(&state, &progress);
    Ok(Some(Box::new(Fresh { run: Run::of(state, progress), last, comparison, parser, fold })))
}

/// A fresh fold, as far as the last state that is to be compared.
struct Fresh<'a, S, F> {
    run: Run<S>,
    last: u64,
    comparison: Comparison<'a, S>,
    parser: Parser,
    fold: F,
}

struct Comparison<'a, S> {
    kept: &'a Kept<S>,
    /// The next one at the end.
    keepings: Vec<Keeping<S>>,
    /// What is believed where history was pruned: the file of the state that the fold began with, and how many events it is of.
    oldest: Option<(PathBuf, u64)>,
    problems: Vec<Problem>,
    fitting: u64,
}

impl<S> Comparison<'_, S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    /// The fold has come to this state.
    fn pass(&mut self, fresh: &S, progress: &Progress) {
        let sequence = progress.sequence;
        while let Some(keeping) = self.keepings.pop_if(|next| next.sequence <= sequence) {
            let (file, is_in_memory) = (keeping.file.clone(), keeping.is_in_memory);
            // One that cannot be read is not used either.
            let Some(state) = self.kept.state_of(keeping) else { continue };
            let Some(found) = difference_of(&state, fresh) else {
                self.fitting += 1;
                continue;
            };
            let whose = if is_in_memory { "in memory" } else { "that is kept" };
            let (kind, what) = match &self.oldest {
                None => {
                    (ProblemKind::State, format!("the state {whose} is not what the events come to: {found}"))
                }
                Some((oldest, events)) => {
                    let oldest = oldest.display();
                    let what = format!(
                        "the state {whose} does not follow from that of {oldest} after {events} events: {found}"
                    );
                    (ProblemKind::PrunedState, what)
                }
            };
            self.problems.push(Problem {
                kind,
                file,
                generation: None,
                offset: 0,
                sequence: Some(sequence),
                what,
            });
        }
    }
}

impl<S, F> Folding for Fresh<'_, S, F>
where
    S: Serialize + DeserializeOwned + Default + Clone,
    F: Fn(&mut Run<S>, Parsed<'_>, Rules<'_, S>) -> bool,
{
    fn next_position(&self) -> Position {
        self.run.progress.position
    }

    fn parser(&self) -> Parser {
        self.parser.clone()
    }

    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool {
        let (last, comparison) = (self.last, &mut self.comparison);
        let rules = Rules {
            source,
            skip_damaged: comparison.kept.options.skip_damaged,
            wants: &|progress, _| progress.sequence < last,
            passed: &mut |state, progress| comparison.pass(state, progress),
        };
        (self.fold)(&mut self.run, parsed, rules)
    }
}

impl<S, F> Audit for Fresh<'_, S, F>
where
    S: Serialize + DeserializeOwned + Default + Clone,
    F: Fn(&mut Run<S>, Parsed<'_>, Rules<'_, S>) -> bool,
{
    fn report(&mut self, report: &mut Verification) {
        let Comparison { keepings, oldest, problems, fitting, .. } = &mut self.comparison;
        report.states += *fitting;
        report.states_not_compared += (keepings.len() + usize::from(oldest.is_some())) as u64;
        problems.drain(..).for_each(|problem| report.add(problem));
        if let (Some(next), Some(error)) = (keepings.pop(), self.run.error()) {
            let what = format!("a fresh fold does not come that far: {error}");
            report.add(Problem {
                kind: ProblemKind::State,
                file: next.file,
                generation: None,
                offset: 0,
                sequence: Some(next.sequence),
                what,
            });
        }
    }
}

/// How two states differ, if they do. Their texts may be the same though a tree of JSON values has no room for their numbers, and
/// the other way round where a map has no order.
fn difference_of<S: Serialize>(kept: &S, fresh: &S) -> Option<String> {
    match (serde_json::to_vec(kept), serde_json::to_vec(fresh)) {
        (Ok(kept), Ok(fresh)) if kept == fresh => return None,
        (Err(error), _) | (_, Err(error)) => return Some(format!("it cannot be JSON: {error}")),
        _ => {}
    }
    match (serde_json::to_value(kept), serde_json::to_value(fresh)) {
        (Ok(kept), Ok(fresh)) if kept == fresh => None,
        (Ok(kept), Ok(fresh)) => Some(difference(&kept, &fresh)),
        _ => Some("they differ".to_owned()),
    }
}

/// Where two states differ first, and how.
fn difference(kept: &Value, fresh: &Value) -> String {
    let (mut kept, mut fresh, mut place) = (Some(kept), Some(fresh), String::new());
    loop {
        let deeper = match (kept, fresh) {
            (Some(Value::Object(kept)), Some(Value::Object(fresh))) => kept
                .keys()
                .chain(fresh.keys())
                .map(|key| (key.clone(), kept.get(key), fresh.get(key)))
                .find(|(_, kept, fresh)| kept != fresh),
            (Some(Value::Array(kept)), Some(Value::Array(fresh))) => (0..kept.len().max(fresh.len()))
                .map(|n| (n.to_string(), kept.get(n), fresh.get(n)))
                .find(|(_, kept, fresh)| kept != fresh),
            _ => None,
        };
        let Some((key, kept_there, fresh_there)) = deeper else { break };
        place = format!("{place}/{key}");
        (kept, fresh) = (kept_there, fresh_there);
    }
    let told = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), short);
    let at = if place.is_empty() { String::new() } else { format!("at {place} ") };
    format!("{at}it has {}, and they come to {}", told(kept), told(fresh))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(TOLD_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk};
    use serde_json::json;

    use super::*;
    use crate::event::Event;
    use crate::log::EventLog;
    use crate::snapshot;
    use crate::view_options::{Checkpoints, ViewOptions};

    const FILE: &str = "app/views/count.snapshot.json";

    fn open(disk: &MemoryDisk, options: ViewOptions, each: u64) -> EventLog {
        let builder = EventLog::builder("app").disk(Arc::new(disk.clone()));
        builder.view_with::<u64>("count", options, move |count, _| count + each).open().unwrap()
    }

    fn append(log: &mut EventLog, events: u64) {
        for n in 0..events {
            log.append(&Event::new("tick", json!(n))).unwrap();
        }
    }

    /// Puts another state into a file of a view, with the checksum that it then has.
    fn plant(disk: &MemoryDisk, file: &Path, state: u64) {
        let contents = snapshot::read(disk, file).unwrap().unwrap();
        let snapshot::Found::Whole(stored) = snapshot::decode::<u64>(&contents) else {
            panic!("no snapshot")
        };
        let contents = snapshot::encode(&state, &stored.progress, stored.reducer).unwrap();
        snapshot::write(disk, file, &contents).unwrap();
    }

    fn told(log: &EventLog) -> Vec<(PathBuf, u64, String)> {
        let problems = log.verify().unwrap().problems;
        assert!(problems.iter().all(|problem| problem.kind == ProblemKind::State), "{problems:?}");
        let told = problems.into_iter();
        told.map(|problem| (problem.file, problem.sequence.unwrap(), problem.what)).collect()
    }

    #[test]
    fn a_planted_snapshot_is_found_by_a_fresh_fold() {
        let disk = MemoryDisk::default();
        let mut log = open(&disk, ViewOptions::default(), 1);
        append(&mut log, 3);
        log.rotate().unwrap();
        append(&mut log, 2);
        log.refresh_all().unwrap();
        assert_eq!(log.verify().unwrap().states, 2, "in memory, and on disk");
        drop(log);
        plant(&disk, Path::new(FILE), 9999);
        let mut log = open(&disk, ViewOptions::default(), 1);
        assert!(log.reader().verify().unwrap().is_sound(), "nothing but the reducer tells");
        let verified = log.verify().unwrap();
        assert_eq!((verified.states, verified.problem_count), (0, 1));
        assert_eq!(
            verified.problems[0].to_string(),
            format!(
                "{FILE}, after 5 events: the state that is kept is not what the events come to: it has 9999, and they come to 5; \
                 rebuild() the view, and give its reducer another version if that was changed"
            )
        );
        // Taken over, it is wrong in memory too, and goes on being so.
        append(&mut log, 1);
        log.refresh_all().unwrap();
        let in_memory =
            "the state in memory is not what the events come to: it has 10000, and they come to 6";
        assert_eq!(told(&log)[0], (FILE.into(), 6, in_memory.to_owned()));
        log.rebuild("count").unwrap();
        assert_eq!((log.verify().unwrap().is_sound(), log.verify().unwrap().states), (true, 2));
        // A view that nobody asked yet is judged by its file.
        drop(log);
        plant(&disk, Path::new(FILE), 0);
        assert_eq!(told(&open(&disk, ViewOptions::default(), 1)).len(), 1);
    }

    #[test]
    fn a_reducer_that_changed_without_a_version_is_found() {
        let disk = MemoryDisk::default();
        let mut log = open(&disk, ViewOptions::default(), 1);
        append(&mut log, 4);
        log.refresh_all().unwrap();
        drop(log);
        let log = open(&disk, ViewOptions::default(), 10);
        let what = "the state that is kept is not what the events come to: it has 4, and they come to 40";
        assert_eq!(told(&log), [(FILE.into(), 4, what.to_owned())]);
        drop(log);
        // With another version the file is of no use, and nobody goes on from it.
        assert_eq!(told(&open(&disk, ViewOptions::default().version(1), 10)), []);
    }

    #[test]
    fn states_of_the_past_are_compared_and_pruned_history_is_believed() {
        let disk = MemoryDisk::default();
        let options = ViewOptions::default().checkpoints(Checkpoints::every(2));
        let mut log = open(&disk, options, 1);
        append(&mut log, 4);
        log.rotate().unwrap();
        append(&mut log, 4);
        log.refresh_all().unwrap();
        assert_eq!(log.verify().unwrap().states, 6);
        plant(&disk, Path::new("app/views/count.at-6.json"), 7);
        let what = "the state that is kept is not what the events come to: it has 7, and they come to 6";
        assert_eq!(told(&log), [("app/views/count.at-6.json".into(), 6, what.to_owned())]);
        log.prune(4).unwrap();
        let verified = log.verify().unwrap();
        // Which of them is right nobody can tell; the one that is not is believed here.
        assert_eq!((verified.states, verified.states_not_compared, verified.problem_count), (0, 1, 4));
        for problem in verified.problems {
            assert_eq!((problem.kind, problem.sequence), (ProblemKind::PrunedState, Some(8)));
            let text = problem.to_string();
            assert!(
                text.contains("does not follow from that of app/views/count.at-6.json after 6 events"),
                "{text}"
            );
            assert!(text.contains("one of the two is wrong") && !text.contains("rebuild"), "{text}");
        }
        plant(&disk, Path::new("app/views/count.at-6.json"), 6);
        let verified = log.verify().unwrap();
        assert_eq!((verified.states, verified.states_not_compared, verified.problem_count), (4, 1, 0));
    }

    #[test]
    fn a_line_that_stops_a_fresh_fold_is_told() {
        let disk = MemoryDisk::default();
        let mut log = open(&disk, ViewOptions::default(), 1);
        append(&mut log, 3);
        log.refresh_all().unwrap();
        let file = disk.open(Path::new("app/app.jsonl")).unwrap();
        file.write_at(b"x", 0).unwrap();
        let verified = log.verify().unwrap();
        let kinds: Vec<_> = verified.problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [ProblemKind::Line, ProblemKind::State], "{:?}", verified.problems);
        assert!(verified.problems[1].what.starts_with("a fresh fold does not come that far: app/app.jsonl"));
        assert_eq!((verified.states, verified.states_not_compared), (0, 2));
    }

    #[test]
    fn states_that_no_tree_of_json_can_hold_are_compared_too() {
        let disk = MemoryDisk::default();
        let open = |each: u128| {
            let builder = EventLog::builder("app").disk(Arc::new(disk.clone()));
            builder.view::<u128>("sum", move |sum, _| sum + each).open().unwrap()
        };
        let mut log = open(u128::MAX / 4);
        append(&mut log, 3);
        log.refresh_all().unwrap();
        let verified = log.verify().unwrap();
        assert_eq!((verified.states, verified.problem_count), (2, 0), "{:?}", verified.problems);
        drop(log);
        let log = open(u128::MAX / 4 - 1);
        let what = "the state that is kept is not what the events come to: they differ";
        assert_eq!(told(&log), [("app/views/sum.snapshot.json".into(), 3, what.to_owned())]);
    }

    #[test]
    fn a_map_without_order_is_the_same_in_any() {
        let disk = MemoryDisk::default();
        let builder = EventLog::builder("app").disk(Arc::new(disk.clone()));
        let reducer = |mut seen: std::collections::HashMap<String, u64>, event: &Event| {
            *seen.entry(event.data.to_string()).or_default() += 1;
            seen
        };
        let mut log = builder.view("seen", reducer).open().unwrap();
        append(&mut log, 50);
        log.refresh_all().unwrap();
        assert_eq!((log.verify().unwrap().states, log.verify().unwrap().problem_count), (2, 0));
    }

    #[test]
    fn the_first_difference_is_told_with_its_place() {
        for (kept, fresh, told) in [
            (json!(9999), json!(3), "it has 9999, and they come to 3"),
            (
                json!({"a": 1, "b": {"c": [1, 2]}}),
                json!({"a": 1, "b": {"c": [1, 3]}}),
                "at /b/c/1 it has 2, and they come to 3",
            ),
            (json!({"a": 1}), json!({}), "at /a it has 1, and they come to nothing"),
            (json!([]), json!([null]), "at /0 it has nothing, and they come to null"),
            (json!({"a": []}), json!({"a": {}}), "at /a it has [], and they come to {}"),
        ] {
            assert_eq!(difference(&kept, &fresh), told);
        }
        let long = difference(&json!("ü".repeat(100)), &json!(1));
        assert_eq!(long, format!("it has \"{}…, and they come to 1", "ü".repeat(TOLD_CHARS - 1)));
    }
}
