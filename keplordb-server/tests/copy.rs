//! Copies of a root: what they have, what they do not have, and that they are roots of their own.

#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at what is on disk, and leaves a copy unfinished"
)]

use std::fs;
use std::path::Path;

use keplordb_server::{
    Capture, EntityLog, Instant, Keys, NewKey, Operation, Record, Scope, Selection, ServerError, is_root,
};
use serde_json::{Value, json};

const SCHEMA: &str = r#"
syntax = "proto3";
package reflog.v1;
message User { optional int64 n = 1; }
"#;

fn record(n: u64) -> Record {
    let operation = if n % 5 == 4 { Operation::Delete } else { Operation::Update };
    let record = Record::new("User", format!("user_{}", n % 7), operation).json(&json!({"n": n}));
    record.event_id(format!("event {n}")).at_ms(1_000 + n as i64)
}

fn states(log: &EntityLog) -> Vec<(String, Option<Value>, u64)> {
    let ids = log.ids("User", "", None, usize::MAX).unwrap();
    let of_id = |id: String| {
        let fold = log.get("User", &id, Instant::default()).unwrap();
        (id, fold.state().cloned().map(Value::Object), fold.version())
    };
    ids.into_iter().map(of_id).collect()
}

fn sequences(log: &EntityLog) -> Vec<u64> {
    log.events(&Selection::default(), None, usize::MAX).unwrap().iter().map(|event| event.sequence).collect()
}

async fn root_of(dir: &Path, events: u64) -> Capture {
    let capture = Capture::open(dir.join("root")).unwrap();
    capture.push_schema_text(Path::new("users.proto"), SCHEMA).unwrap();
    for n in 0..events {
        capture.capture(record(n)).await.unwrap();
    }
    capture
}

#[tokio::test]
async fn a_backup_is_a_root_with_the_same_events_and_goes_its_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let capture = root_of(dir.path(), 40).await;
    capture.publish().unwrap().unwrap();
    let new = NewKey { name: "reader".to_owned(), scopes: vec![Scope::Read], ..NewKey::default() };
    let (key, _) = Keys::add(dir.path().join("root"), new).unwrap();
    let target = dir.path().join("copies/monday");
    assert_eq!(capture.backup(&target).unwrap(), 40);
    let (before, before_states) = (sequences(&capture.log()), states(&capture.log()));
    capture.capture_batch((40..60).map(record).collect()).await.unwrap();

    let copy = Capture::open(&target).unwrap();
    assert_eq!((sequences(&copy.log()), states(&copy.log())), (before.clone(), before_states));
    assert_eq!(Keys::load(&target).unwrap().all(), [key]);
    assert_eq!(copy.schemas().newest().unwrap().text(), SCHEMA);
    // An event that it has is the same one there too, and later ones are its own.
    let again = copy.capture(record(3)).await.unwrap();
    assert!(again.is_duplicate);
    assert_eq!(again.sequence, before[3]);
    copy.capture(record(100)).await.unwrap();
    assert_eq!(copy.publish().unwrap().unwrap().events, 41);
    assert!(copy.check_published().unwrap().is_sound());
    assert_eq!(sequences(&capture.log()).len(), 60);
    copy.close().unwrap();
    capture.close().unwrap();
}

#[tokio::test]
async fn a_fork_has_what_there_was_and_nothing_of_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let capture = root_of(dir.path(), 50).await;
    let all = sequences(&capture.log());
    for kept in [0_usize, 1, 17, 50] {
        let until = kept.checked_sub(1).map_or(0, |last| all[last]);
        let target = dir.path().join(format!("fork {kept}"));
        assert_eq!(capture.fork(&target, until).unwrap(), kept as u64);

        let other = tempfile::tempdir().unwrap();
        let twin = root_of(other.path(), kept as u64).await;
        let copy = Capture::open(&target).unwrap();
        assert_eq!(sequences(&copy.log()), all[..kept], "{kept}");
        assert_eq!(states(&copy.log()), states(&twin.log()), "{kept}");
        // What was there later is new here.
        assert_eq!(copy.capture(record(49)).await.unwrap().is_duplicate, kept == 50, "{kept}");
        copy.publish().unwrap().unwrap();
        assert!(copy.check_published().unwrap().is_sound(), "{kept}");
        twin.close().unwrap();
        copy.close().unwrap();
    }
    capture.close().unwrap();
}

#[tokio::test]
async fn nothing_is_copied_over_what_is_there_and_an_unfinished_copy_is_no_root() {
    let dir = tempfile::tempdir().unwrap();
    let capture = root_of(dir.path(), 3).await;
    let target = dir.path().join("taken");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("letter.txt"), "dear").unwrap();
    let refused = capture.backup(&target).unwrap_err();
    assert!(matches!(refused, ServerError::NotEmpty { .. }), "{refused}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);

    let target = dir.path().join("unfinished");
    capture.backup(&target).unwrap();
    fs::rename(target.join("_meta"), target.join("_meta.draft")).unwrap();
    assert!(!is_root(&target));
    assert!(matches!(EntityLog::beside(&target), Err(ServerError::NoRoot { .. })));
    capture.close().unwrap();
}
