//! What a server publishes for other programs: it is there soon after the events, and is what the log says.

#![allow(clippy::disallowed_methods, reason = "a test takes files away")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use keplordb_server::{
    Capture, EntityLog, LakeState, Operation, Record, ServerError, Serving, holder, serve,
};
use serde_json::json;
use tokio::sync::oneshot;

fn record(n: u32) -> Record {
    let operation = if n % 7 == 6 { Operation::Delete } else { Operation::Update };
    // Some come late.
    let time_ms = i64::from(n) - i64::from(n % 5) * 40;
    Record::new("User", format!("user_{}", n % 13), operation).json(&json!({"n": n})).at_ms(time_ms)
}

#[tokio::test]
async fn what_is_captured_is_published_and_made_anew_when_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let capture = Capture::open(root).unwrap();
    capture.capture_batch((0..300).map(record).collect()).await.unwrap();

    let options = Serving::from("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap());
    let options = options.publish_every(Some(Duration::from_millis(20)));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(capture, options, |_| {}, async { drop(stopped.await) }));
    let begun = Instant::now();
    while !root.join("_events").exists() {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is published");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();

    let capture = Capture::open(root).unwrap();
    capture.publish().unwrap();
    let published = capture.check_published().unwrap();
    assert!(published.is_sound(), "{published:?}");
    assert_eq!(published.tables.iter().find(|table| table.table == "_events").unwrap().log.0, 300);
    assert_eq!(capture.publish().unwrap(), None);
    capture.close().unwrap();

    // Everything that is made from the log goes; the log stays.
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            fs::remove_file(path).unwrap();
        } else if path.ends_with("lake") || path.ends_with(".gen") {
            fs::remove_dir_all(path).unwrap();
        }
    }
    let capture = Capture::open(root).unwrap();
    // The manifest is left: what it names is lost, and a publication makes it anew.
    capture.publish().unwrap().unwrap();
    let anew = capture.check_published().unwrap();
    assert!(anew.is_sound(), "{anew:?}");
    assert_eq!(anew.tables, published.tables);
    capture.close().unwrap();
}

#[tokio::test]
async fn what_is_lost_while_the_server_runs_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let capture = Capture::open(root).unwrap();
    capture.capture_batch((0..100).map(record).collect()).await.unwrap();
    capture.publish().unwrap().unwrap();
    let current = root.join("lake/current");
    for entry in fs::read_dir(&current).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    capture.capture_batch((100..200).map(record).collect()).await.unwrap();
    let error = capture.publish().unwrap_err().to_string();
    assert!(error.contains("lake/current"), "{error}");
    // Nobody has to open it again.
    assert_eq!(capture.publish().unwrap().unwrap().events, 200);
    let published = capture.check_published().unwrap();
    assert!(published.is_sound(), "{published:?}");
    capture.close().unwrap();
}

/// All files below a directory, in another one.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &copy);
        } else {
            fs::copy(&path, &copy).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_lost_is_not_made_anew_by_itself_of_an_older_log() {
    let dir = tempfile::tempdir().unwrap();
    let (root, older) = (dir.path().join("root"), dir.path().join("older"));
    let capture = Capture::open(&root).unwrap();
    capture.capture_batch((0..60).map(record).collect()).await.unwrap();
    capture.close().unwrap();
    copied(&root.join("segments"), &older);
    let capture = Capture::open(&root).unwrap();
    capture.capture_batch((60..100).map(record).collect()).await.unwrap();
    capture.publish().unwrap().unwrap();
    capture.close().unwrap();

    fs::rename(root.join("segments"), dir.path().join("newer")).unwrap();
    fs::rename(&older, root.join("segments")).unwrap();
    let lost = fs::read_dir(root.join("lake/current")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&lost, dir.path().join("lost")).unwrap();
    let capture = Capture::open(&root).unwrap();
    for _ in 0..2 {
        let error = capture.publish().unwrap_err().to_string();
        assert!(error.contains("its rows go up to an event"), "{error}");
        assert_eq!(LakeState::beside(&root).unwrap().unwrap().events, 100);
    }
    capture.close().unwrap();

    // Of the right one it is.
    fs::remove_dir_all(root.join("segments")).unwrap();
    fs::rename(dir.path().join("newer"), root.join("segments")).unwrap();
    let capture = Capture::open(&root).unwrap();
    assert_eq!(capture.publish().unwrap().unwrap().events, 100);
    assert!(capture.check_published().unwrap().is_sound());
    capture.close().unwrap();
}

#[tokio::test]
async fn a_root_is_looked_at_beside_whoever_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert!(matches!(LakeState::beside(root), Err(ServerError::NoRoot { .. })));
    assert!(matches!(holder(root), Err(ServerError::NoRoot { .. })));

    let capture = Capture::open(root).unwrap();
    let held = holder(root).unwrap().unwrap();
    if cfg!(unix) {
        assert_eq!(held.pid, Some(std::process::id()));
    }
    assert_eq!(LakeState::beside(root).unwrap(), None);
    capture.capture_batch((0..100).map(record).collect()).await.unwrap();
    let log = EntityLog::beside(root).unwrap();
    assert_eq!(log.behind(0).unwrap().events, 100);

    let published = capture.publish().unwrap().unwrap();
    let state = LakeState::beside(root).unwrap().unwrap();
    assert_eq!((state.events, state.checkpoint_seq), (100, published.checkpoint_seq));
    assert!(state.is_live && state.damage.is_none() && state.files >= 3 && state.bytes > 0, "{state:?}");
    let behind = log.behind(state.checkpoint_seq).unwrap();
    assert_eq!((behind.events, behind.first_received_ms), (0, None));
    capture.capture_batch((100..120).map(record).collect()).await.unwrap();
    assert!(log.refresh().unwrap());
    let behind = log.behind(state.checkpoint_seq).unwrap();
    let last = log.last(&keplordb_server::Selection::default(), 20).unwrap();
    assert_eq!((behind.events, behind.first_received_ms), (20, Some(last[0].received_at_ms)));

    for entry in fs::read_dir(root.join("lake/current")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let state = LakeState::beside(root).unwrap().unwrap();
    assert!(state.damage.is_some_and(|damage| damage.contains("lake/current")));
    capture.close().unwrap();
    assert_eq!(holder(root).unwrap(), None);
}
