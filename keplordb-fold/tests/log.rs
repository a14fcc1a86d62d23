//! `EventLog` and its builder: automatic rotation, views by name, what opens and what is refused. One test for each rule.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{all, event, types};
use keplordb_fold::disk::{Disk, MemoryDisk};
use keplordb_fold::{
    Event, EventLog, EventLogBuilder, FoldError, LockMode, Position, ReduceFn, Subscription, SyncPolicy,
    UniqueAppend, View, ViewOptions, WaitResult, snapshot,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::tempdir;

fn count(count: u64, _: &Event) -> u64 {
    count + 1
}

fn append(log: &mut EventLog, events: usize) {
    for n in 0..events {
        log.append(&event(&format!("event_{n}"))).unwrap();
    }
}

fn counter(dir: &Path) -> EventLogBuilder {
    EventLog::builder(dir).view::<u64>("counter", count)
}

fn counted(log: &EventLog) -> u64 {
    *log.view::<u64>("counter").unwrap()
}

#[test]
fn a_log_passes_on_what_its_writer_and_reader_say() {
    let dir = tempdir().unwrap();
    let mut log = EventLog::open(dir.path()).unwrap();
    let first = log.append(&event("a")).unwrap();
    assert_eq!((log.dir(), log.log_path()), (dir.path(), log.reader().log_path()));
    assert_eq!(log.archive_path(), log.writer().archive_path());
    assert_eq!(log.views_dir(), dir.path().join("views"));
    assert_eq!(log.active_log_size().unwrap(), first.end_offset);
    assert!(log.has_new_events(0).unwrap() && !log.has_new_events(first.end_offset).unwrap());
    assert_eq!(log.read_line_hash_before(first.end_offset).unwrap(), Some(first.line_hash));
    let waited = log.wait_for_events(0, Duration::from_secs(5)).unwrap();
    assert_eq!(waited, WaitResult::NewData(first.end_offset));
    let waited = log.wait_for_events(first.end_offset, Duration::from_millis(1)).unwrap();
    assert_eq!(waited, WaitResult::Timeout);
    log.writer_mut().append(&event("b")).unwrap();
    assert_eq!(log.read_from(first.end_offset).unwrap().count(), 1);
    assert_eq!(log.read_full().unwrap().count(), 2);
    let shown = format!("{log:?} {:?}", EventLog::builder(dir.path()).max_log_size(7));
    for field in ["writer", "reader", "view_count: 0", "max_log_size: 7", "lock_mode: Flock"] {
        assert!(shown.contains(field), "{shown}");
    }
}

#[test]
fn a_log_is_sent_to_another_thread() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).open().unwrap();
    let log = std::thread::spawn(move || {
        append(&mut log, 3);
        log.refresh_all().unwrap();
        log
    });
    assert_eq!(counted(&log.join().unwrap()), 3);
}

#[test]
fn a_log_without_a_largest_size_is_never_archived() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).max_log_size(0).open().unwrap();
    append(&mut log, 50);
    assert!(!log.archive_path().exists());
}

#[test]
fn an_append_that_reaches_the_largest_size_rotates_and_answers_from_before() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).max_log_size(1).open().unwrap();
    for n in 0..3 {
        let result = log.append(&event("a")).unwrap();
        assert_eq!((result.start_offset, result.end_offset), (0, 46));
        assert_eq!(log.active_log_size().unwrap(), 0);
        assert_eq!(counted(&log), n + 1, "a rotation refreshes");
    }
    drop(log);
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).max_log_size(500).open().unwrap();
    append(&mut log, 20);
    assert!(log.archive_path().exists() && log.active_log_size().unwrap() < 500);
    assert_eq!(log.read_full().unwrap().count(), 20);
    // Exactly the largest size is enough.
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).max_log_size(92).open().unwrap();
    log.append(&event("a")).unwrap();
    assert_eq!(log.active_log_size().unwrap(), 46);
    log.append(&event("a")).unwrap();
    assert_eq!(log.active_log_size().unwrap(), 0);
    let batch = [event("a"), event("b"), event("c")];
    log.append_batch(&batch).unwrap();
    assert_eq!(log.active_log_size().unwrap(), 0);
    assert_eq!(log.read_full().unwrap().count(), 5);
}

#[test]
fn a_log_that_is_too_large_is_rotated_when_it_is_opened() {
    let dir = tempdir().unwrap();
    append(&mut EventLog::open(dir.path()).unwrap(), 20);
    let log = counter(dir.path()).max_log_size(500).open().unwrap();
    assert_eq!(log.active_log_size().unwrap(), 0);
    assert!(log.archive_path().exists());
    assert_eq!(counted(&log), 20);
}

/// C13
#[test]
fn conditional_appends_chain_over_automatic_rotations() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).max_log_size(100).open().unwrap();
    let (mut end, mut hash) = (0, String::new());
    for sequence in 0..10 {
        let result = if sequence % 2 == 0 {
            log.append_if(&event("a"), end, &hash).unwrap()
        } else {
            log.append_if_seq(&event("a"), sequence).unwrap()
        };
        (end, hash) = (result.end_offset, result.line_hash);
    }
    assert!(log.append_if(&event("a"), 0, "").is_err());
    let unique = log.append_unique(&event("b").with_id("7")).unwrap();
    assert!(matches!(unique, UniqueAppend::Appended(_)));
    assert_eq!(log.read_full().unwrap().count(), 11);
}

#[test]
fn a_rotation_keeps_states_and_puts_snapshots_at_the_beginning() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).open().unwrap();
    append(&mut log, 5);
    log.rotate().unwrap();
    assert_eq!(counted(&log), 5);
    let file = log.views_dir().join("counter.snapshot.json");
    let kept = snapshot::load::<u64>(&file).unwrap().unwrap();
    assert_eq!((kept.state, kept.offset), (5, 0));
    append(&mut log, 3);
    log.refresh_all().unwrap();
    assert_eq!(counted(&log), 8);
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Todos {
    texts: Vec<String>,
}

fn todos(mut todos: Todos, event: &Event) -> Todos {
    todos.texts.push(event.event_type.clone());
    todos
}

#[test]
fn views_are_got_by_name_and_type() {
    let dir = tempdir().unwrap();
    let as_value: ReduceFn<u64> = count;
    let least = 1;
    let mut log = EventLog::builder(dir.path())
        .view::<Todos>("todos", todos)
        .view("by_value", as_value)
        .view::<u64>("capturing", move |count, event| count + u64::from(event.ts > least))
        .open()
        .unwrap();
    assert_eq!(log.views(), ["by_value", "capturing", "todos"]);
    assert_eq!(*log.view::<u64>("by_value").unwrap(), 0, "the default before any refresh");
    append(&mut log, 2);
    log.refresh("todos").unwrap();
    let todos: &Todos = log.view("todos").unwrap();
    assert_eq!(todos.texts, ["event_0", "event_1"]);
    assert_eq!(*log.view::<u64>("by_value").unwrap(), 0, "only the other was refreshed");
    log.refresh_all().unwrap();
    assert_eq!(*log.view::<u64>("capturing").unwrap(), 2);
    for (outcome, kind, text) in [
        (log.view::<u64>("nothing").map(drop), ErrorKind::NotFound, "view 'nothing' not found"),
        (log.view::<u32>("by_value").map(drop), ErrorKind::InvalidInput, "view 'by_value' type mismatch"),
        (
            log.state_at::<u32>("by_value", 1).map(drop),
            ErrorKind::InvalidInput,
            "view 'by_value' type mismatch",
        ),
        (log.refresh("nothing"), ErrorKind::NotFound, "view 'nothing' not found"),
        (log.rebuild("nothing"), ErrorKind::NotFound, "view 'nothing' not found"),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
}

#[test]
fn of_two_views_of_one_name_the_later_counts() {
    let dir = tempdir().unwrap();
    let mut log = counter(dir.path()).view::<u64>("counter", |count, _| count + 10).open().unwrap();
    append(&mut log, 2);
    log.refresh_all().unwrap();
    assert_eq!(counted(&log), 20);
}

/// C18
#[test]
fn a_view_whose_name_leads_elsewhere_is_refused_before_anything_is_touched() {
    let dir = tempdir().unwrap();
    let inner = dir.path().join("app");
    for name in ["../escaped", "", "a/b", ".."] {
        let error = EventLog::builder(&inner).view::<u64>(name, count).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(!inner.exists());
}

#[test]
fn a_view_shows_its_past() {
    let dir = tempdir().unwrap();
    let mut log = EventLog::builder(dir.path()).view("types", types).open().unwrap();
    for n in 0..6 {
        let mut event = event(&format!("e{n}"));
        event.ts = 100 * n;
        log.append(&event).unwrap();
        if n == 2 {
            log.rotate().unwrap();
        }
    }
    assert_eq!(log.state_at::<Vec<String>>("types", 2).unwrap(), ["e0", "e1"]);
    assert_eq!(log.state_at_time::<Vec<String>>("types", 350).unwrap(), ["e0", "e1", "e2", "e3"]);
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Account {
    Deposited { cents: i64 },
}

#[test]
fn a_typed_view_is_a_view_like_others() {
    let dir = tempdir().unwrap();
    let open = || {
        EventLog::builder(dir.path())
            .typed_view("balance", ViewOptions::default(), |cents: i64, event: Account| {
                let Account::Deposited { cents: more } = event;
                cents + more
            })
            .open()
            .unwrap()
    };
    let mut log = open();
    for cents in [5, 7] {
        log.append(&Event::new("deposited", json!({ "cents": cents }))).unwrap();
        log.rotate().unwrap();
    }
    assert_eq!(*log.view::<i64>("balance").unwrap(), 12);
    assert_eq!(log.state_at::<i64>("balance", 1).unwrap(), 5);
    drop(log);
    let mut log = open();
    log.rebuild("balance").unwrap();
    assert_eq!(*log.view::<i64>("balance").unwrap(), 12);
}

/// C23
#[test]
fn a_view_of_another_version_is_computed_anew() {
    let dir = tempdir().unwrap();
    let open = |version, weight| {
        let options = ViewOptions::default().version(version);
        let reducer = move |count: u64, _: &Event| count + weight;
        EventLog::builder(dir.path()).view_with("counter", options, reducer).open().unwrap()
    };
    let mut log = open(1, 1);
    append(&mut log, 3);
    log.refresh_all().unwrap();
    drop(log);
    for (version, weight, expected) in [(1, 10, 3), (2, 10, 30)] {
        let mut log = open(version, weight);
        log.refresh_all().unwrap();
        assert_eq!(counted(&log), expected);
    }
}

#[test]
fn a_log_in_memory_touches_no_file() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let open = || counter(Path::new("only in memory")).disk(Arc::clone(&disk)).open().unwrap();
    let mut log = open();
    append(&mut log, 5);
    log.rotate().unwrap();
    drop(log);
    let mut log = open();
    log.refresh_all().unwrap();
    assert_eq!(counted(&log), 5);
    assert!(!Path::new("only in memory").exists());
}

#[test]
fn the_lock_mode_and_the_policy_are_the_builders() {
    let dir = tempdir().unwrap();
    let open = |mode| EventLog::builder(dir.path()).sync_policy(SyncPolicy::OnDemand).lock_mode(mode).open();
    let mut first = open(LockMode::Flock).unwrap();
    first.append(&event("a")).unwrap();
    assert_eq!(open(LockMode::Flock).unwrap_err().kind(), ErrorKind::AlreadyExists);
    open(LockMode::None).unwrap().append(&event("b")).unwrap();
    first.append(&event("c")).unwrap();
    first.sync().unwrap();
    assert_eq!(all(&first.reader()), ["a", "b", "c"]);
    assert!(fs::exists(dir.path().join("app.lock")).unwrap());
}

#[test]
fn pruning_what_was_read_disturbs_nobody() {
    let dir = tempdir().unwrap();
    let mut log = EventLog::open(dir.path()).unwrap();
    let reader = log.reader();
    let elsewhere = tempdir().unwrap();
    let view = || View::<u64>::new("count", count, elsewhere.path());
    let mut kept = view();
    append(&mut log, 3);
    let mut idle = reader.subscribe(Position::default()).unwrap();
    let told =
        |updates: &mut Subscription| std::iter::from_fn(|| updates.next(Duration::ZERO).unwrap()).count();
    assert_eq!(told(&mut idle), 4);
    kept.refresh(&reader).unwrap();
    // Idle meanwhile, and with a look in between.
    let mut looking = reader.subscribe(idle.position()).unwrap();
    let end = looking.position();
    log.rotate().unwrap();
    assert_eq!(told(&mut looking), 1);
    assert_eq!(looking.position(), Position { generation: 1, offset: 0 });
    assert_eq!(log.prune(3).unwrap().events, 0..3);
    // Of a position alone nobody knows whether more came before the end of its generation; the error tells.
    let error = reader.subscribe(end).unwrap_err();
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<FoldError>());
    assert!(matches!(reason, Some(FoldError::Pruned { first: 3 })), "{error}");

    assert_eq!((told(&mut idle), told(&mut looking)), (0, 0));
    append(&mut log, 2);
    assert_eq!((told(&mut idle), told(&mut looking)), (2, 2));
    assert_eq!(*kept.refresh(&reader).unwrap(), 5);

    // Whoever missed one is told.
    let mut late = reader.subscribe(reader.position_of(4).unwrap().unwrap()).unwrap();
    let mut behind = view();
    behind.refresh(&reader).unwrap();
    append(&mut log, 1);
    log.rotate().unwrap();
    log.prune(6).unwrap();
    assert_eq!(late.next(Duration::ZERO).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(behind.refresh(&reader).unwrap_err().kind(), ErrorKind::NotFound);
}
