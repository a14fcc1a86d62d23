//! Views over a store: the fold of all its events in the order of their sequences, whatever flush, restart, delete and retention do.
#![cfg(feature = "engine")]

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use keplordb::{Budget, Options, Schema, Store, Sync};
use keplordb_disk::{Disk, RealDisk, SimDisk, read_all, replace};
use keplordb_fold::{Event, EventLog, FoldError, SnapshotPolicy, StoreView, ViewOptions};
use serde_json::json;

/// What somebody bought.
#[derive(Schema)]
#[keplordb(id = 7)]
pub struct Order {
    /// Who.
    #[dim]
    pub customer: String,
    /// For how much.
    #[counter]
    pub cents: u32,
}

type Cents = BTreeMap<String, Vec<u32>>;

fn view(dir: &Path) -> StoreView<Order, Cents> {
    let by_customer = |mut cents: Cents, order: &<Order as Schema>::Row| {
        assert!(order.customer() != "panic", "as the event says");
        cents.entry(order.customer().to_owned()).or_default().push(order.cents());
        cents
    };
    StoreView::new("orders", by_customer, &dir.join("views"))
}

fn append(store: &Store<Order>, from: u32, count: u32) {
    for n in from..from + count {
        let customer = ["ann", "bob", "cid"][n as usize % 3];
        store.append(Order::new(i64::from(n % 7) * 1_000).customer(customer).cents(n)).unwrap();
    }
}

fn expected(count: u32) -> Cents {
    let mut cents = Cents::new();
    for n in 0..count {
        cents.entry(["ann", "bob", "cid"][n as usize % 3].to_owned()).or_default().push(n);
    }
    cents
}

#[test]
fn a_view_is_the_fold_of_all_events_over_flushes_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = view(dir.path());
    for round in 0..5 {
        let store = Store::<Order>::open(dir.path().join("store")).unwrap();
        append(&store, round * 40, 20);
        assert_eq!(*live.refresh(&store).unwrap(), expected(round * 40 + 20));
        store.flush().unwrap();
        append(&store, round * 40 + 20, 20);
        assert_eq!(*view(dir.path()).refresh(&store).unwrap(), expected(round * 40 + 40));
        store.close().unwrap();
    }
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    assert_eq!(*live.refresh(&store).unwrap(), expected(200));
    assert_eq!(*live.rebuild(&store).unwrap(), expected(200));
    let file = dir.path().join("views/orders.store.json");
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    live.refresh(&store).unwrap();
    view(dir.path()).refresh(&store).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), before, "nothing new writes nothing");
}

#[test]
fn a_snapshot_spares_the_fold_and_is_doubted_where_it_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 6);
    view(dir.path()).refresh(&store).unwrap();
    // Folded already, so it stays; and not again from the beginning.
    store.delete_where(Order::filter().customer("ann")).unwrap();
    append(&store, 6, 3);
    let mut kept = view(dir.path());
    assert_eq!(*kept.refresh(&store).unwrap(), expected(9));
    let mut next = view(dir.path()).with_options(ViewOptions::default().version(2));
    let mut left = expected(9);
    left.insert("ann".to_owned(), vec![6]);
    assert_eq!(*next.refresh(&store).unwrap(), left, "another version begins anew");
    // Any changed byte.
    let file = dir.path().join("views/orders.store.json");
    let mut text = read_all(&RealDisk, &file, 1 << 20).unwrap();
    text[20] ^= 1;
    replace(&RealDisk, &file, &text).unwrap();
    assert_eq!(*view(dir.path()).refresh(&store).unwrap(), left);
    assert_eq!(*kept.rebuild(&store).unwrap(), left);
    // Another store has not come so far.
    let other = Store::<Order>::open(dir.path().join("other")).unwrap();
    append(&other, 0, 2);
    assert_eq!(*kept.refresh(&other).unwrap(), expected(2));
    view(dir.path()).refresh(&store).unwrap();
    assert_eq!(*view(dir.path()).refresh(&other).unwrap(), expected(2));
}

#[test]
fn a_reducer_that_panics_leaves_the_view_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 3);
    let mut view = view(dir.path());
    view.refresh(&store).unwrap();
    let last = view.last_sequence();
    append(&store, 3, 1);
    store.append(Order::new(1).customer("panic")).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| view.refresh(&store).map(drop))).is_err());
    assert_eq!((view.state(), view.last_sequence()), (&expected(3), last));
    store.delete_where(Order::filter().customer("panic")).unwrap();
    assert_eq!(*view.refresh(&store).unwrap(), expected(4));
}

#[test]
fn events_that_were_dropped_unseen_are_an_error_or_passed_over_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 5);
    let mut early = view(dir.path());
    early.refresh(&store).unwrap();
    store.flush().unwrap();
    store.gc(1_000_000).unwrap();
    append(&store, 5, 2);
    assert_eq!(*early.refresh(&store).unwrap(), expected(7), "what was folded may go");
    let elsewhere = dir.path().join("elsewhere");
    let mut late = view(&elsewhere);
    for _ in 0..2 {
        let error = late.refresh(&store).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(is_pruned(&error), "{error}");
    }
    let options = ViewOptions::default().begin_after_pruned().snapshots(SnapshotPolicy::OnClose);
    let mut late = view(&elsewhere).with_options(options);
    let seen: Vec<u32> = late.refresh(&store).unwrap().values().flatten().copied().collect();
    assert_eq!(seen.len(), 2);
    assert!(!elsewhere.join("views/orders.store.json").exists());
    drop(late);
    assert!(elsewhere.join("views/orders.store.json").exists());
}

#[test]
fn what_alone_knows_of_dropped_events_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("views/orders.store.json");
    let contents = || read_all(&RealDisk, &file, 1 << 20).unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 5);
    view(dir.path()).refresh(&store).unwrap();
    store.flush().unwrap();
    store.gc(1_000_000).unwrap();
    append(&store, 5, 2);
    let before = contents();

    // A state that this program cannot read, and another version of the reducer, also where nothing is saved at once.
    let mut number: StoreView<Order, u64> = StoreView::new("orders", |n, _| n + 1, &dir.path().join("views"));
    assert!(is_pruned(&number.refresh(&store).unwrap_err()));
    for policy in [SnapshotPolicy::EachRefresh, SnapshotPolicy::OnClose, SnapshotPolicy::Manual] {
        let options = ViewOptions::default().version(2).snapshots(policy);
        let mut next = view(dir.path()).with_options(options);
        for _ in 0..2 {
            assert!(is_pruned(&next.refresh(&store).unwrap_err()));
            assert!(next.state().is_empty() && next.last_sequence().is_none());
        }
        next.save_snapshot().unwrap();
    }
    assert!(is_pruned(&view(dir.path()).rebuild(&store).unwrap_err()));
    assert!(contents() == before);

    // A store that is empty, as where a volume is not there.
    let empty = Store::<Order>::open(dir.path().join("empty")).unwrap();
    for policy in [SnapshotPolicy::EachRefresh, SnapshotPolicy::OnClose] {
        let mut view = view(dir.path()).with_options(ViewOptions::default().snapshots(policy));
        assert!(view.refresh(&empty).unwrap().is_empty());
        assert!(contents() == before);
        assert_eq!(*view.refresh(&empty).unwrap(), Cents::new());
    }
    assert!(contents() == before);
    assert_eq!(
        *view(dir.path()).refresh(&store).unwrap(),
        expected(7),
        "and the reducer that made it goes on"
    );
    // Who asks for it gets it.
    assert!(view(dir.path()).rebuild(&empty).unwrap().is_empty());
    assert!(contents() != before);
}

#[test]
fn a_fold_from_the_first_event_that_cannot_end_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("views/orders.store.json");
    let contents = || read_all(&RealDisk, &file, 1 << 20).unwrap();
    let unmerged = Options::default().merge_rows(0);
    let config = Order::default_config(dir.path().join("store"));
    let store = Store::<Order>::open_with(config, unmerged).unwrap();
    append(&store, 0, 3_000);
    store.flush().unwrap();
    append(&store, 3_000, 1_000);
    let mut kept = view(dir.path());
    kept.refresh(&store).unwrap();
    store.flush().unwrap();
    let before = contents();
    let segments = std::fs::read_dir(dir.path().join("store/segments")).unwrap();
    let newest = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let newest = RealDisk.open(&newest).unwrap();
    let damage = vec![0xaa; usize::try_from(newest.bytes().unwrap()).unwrap() - 512];
    newest.write_at(&damage, 256).unwrap();

    let mut next = view(dir.path()).with_options(ViewOptions::default().version(2));
    assert!(next.refresh(&store).is_err());
    assert!(next.state().is_empty() && contents() == before);
    assert!(kept.rebuild(&store).is_err());
    assert!(*kept.state() == expected(4_000) && contents() == before);
}

fn is_pruned(error: &io::Error) -> bool {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<FoldError>());
    matches!(reason, Some(FoldError::Pruned { .. }))
}

#[test]
fn it_and_a_view_of_a_log_may_have_one_name_and_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 5);
    let open = || EventLog::builder(dir.path()).view::<u64>("orders", |count, _| count + 1).open().unwrap();
    let of_store = || -> StoreView<Order, u64> {
        StoreView::new("orders", |count, _| count + 1, &dir.path().join("views"))
    };
    let mut log = open();
    for n in 0..3 {
        log.append(&Event::new("order", json!(n))).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(*of_store().refresh(&store).unwrap(), 5);
        log.refresh_all().unwrap();
        assert_eq!(*log.view::<u64>("orders").unwrap(), 3);
        drop(log);
        log = open();
    }
    log.rotate().unwrap();
    assert_eq!(log.prune(3).unwrap().events, 0..3, "a store's view needs nothing of the log");
    assert!(log.reader().verify().unwrap().is_sound());
    append(&store, 5, 1);
    assert_eq!(*of_store().refresh(&store).unwrap(), 6);
}

#[test]
fn the_state_of_another_store_is_not_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| Store::<Order>::open(dir.path().join(name)).unwrap();
    let store = open("store");
    append(&store, 0, 10);
    store.checkpoint(dir.path().join("backup")).unwrap();
    store.checkpoint(dir.path().join("merged")).unwrap();
    append(&store, 10, 40);
    let mut live = view(dir.path());
    assert_eq!(*live.refresh(&store).unwrap(), expected(50));
    let contents = read_all(&RealDisk, &dir.path().join("views/orders.store.json"), 1 << 20).unwrap();
    let put_back = || replace(&RealDisk, &dir.path().join("views/orders.store.json"), &contents).unwrap();

    // An older backup: the number that comes next in it is far beyond, with or without events of its own.
    let backup = open("backup");
    assert_eq!(*view(dir.path()).refresh(&backup).unwrap(), expected(10));
    put_back();
    let merged = open("merged");
    append(&merged, 10, 100);
    merged.flush().unwrap();
    merged.compact(Budget::UNLIMITED).unwrap();
    assert_eq!(*view(dir.path()).refresh(&merged).unwrap(), expected(110));
    put_back();
    // Made anew in its place, with more events.
    let anew = open("anew");
    append(&anew, 100, 60);
    let of_anew = view(&dir.path().join("elsewhere")).refresh(&anew).unwrap().clone();
    assert_eq!(*view(dir.path()).refresh(&anew).unwrap(), of_anew);
    assert_eq!(*live.refresh(&anew).unwrap(), of_anew, "in memory");
    // And one that lacks the beginning.
    put_back();
    anew.flush().unwrap();
    anew.gc(1_000_000).unwrap();
    append(&anew, 0, 5);
    append(&backup, 0, 5);
    backup.flush().unwrap();
    backup.gc(1_000_000).unwrap();
    assert!(is_pruned(&view(dir.path()).refresh(&backup).unwrap_err()));
    assert_eq!(*view(dir.path()).refresh(&store).unwrap(), expected(50), "its own still goes on");
}

#[test]
fn the_state_of_a_store_with_as_many_events_is_not_taken_for_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| Store::<Order>::open(dir.path().join(name)).unwrap();
    let (store, other) = (open("store"), open("other"));
    append(&store, 100, 50);
    append(&other, 0, 50);
    let mut live = view(dir.path());
    live.refresh(&store).unwrap();
    assert_eq!(*live.refresh(&other).unwrap(), expected(50));
    append(&other, 50, 1);
    assert_eq!(*live.refresh(&other).unwrap(), expected(51));
    assert_eq!(*view(dir.path()).refresh(&other).unwrap(), expected(51));
}

#[test]
fn no_event_is_in_a_state_that_a_power_cut_took_out_of_the_store() {
    let open = |disk: &SimDisk| {
        let options = Options::default().sync(Sync::Os).disk(Arc::new(disk.clone()));
        Store::<Order>::open_with(Order::default_config("store".into()), options).unwrap()
    };
    for policy in [SnapshotPolicy::EachRefresh, SnapshotPolicy::OnClose] {
        for first in [0, 10] {
            let dir = tempfile::tempdir().unwrap();
            let disk = SimDisk::default();
            let store = open(&disk);
            append(&store, 0, first);
            store.close().unwrap();
            // A run of its own, none of whose events need be left.
            let store = open(&disk);
            append(&store, first, 5);
            let mut live = view(dir.path()).with_options(ViewOptions::default().snapshots(policy));
            assert_eq!(*live.refresh(&store).unwrap(), expected(first + 5));
            append(&store, first + 5, 2);
            drop(live);
            let file = dir.path().join("views/orders.store.json");
            let contents = read_all(&RealDisk, &file, 1 << 20).unwrap();
            for seed in 0..20 {
                let cut = disk.power_cut(seed);
                let store = open(&cut);
                append(&store, 1_000, 3);
                replace(&RealDisk, &file, &contents).unwrap();
                let state = view(dir.path()).refresh(&store).unwrap().clone();
                let afresh = view(&dir.path().join(format!("{seed}"))).refresh(&store).unwrap().clone();
                assert_eq!(state, afresh, "{policy:?}, {first} events before, seed {seed}");
                assert!(state.values().map(Vec::len).sum::<usize>() >= first as usize + 8);
            }
        }
    }
}

#[test]
fn its_own_store_is_gone_on_from_whatever_becomes_of_the_last_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut ids = Vec::new();
    for round in 0..4_u32 {
        let store = Store::<Order>::open(dir.path().join("store")).unwrap();
        append(&store, count, 7);
        count += 7;
        let mut first = view(dir.path());
        assert_eq!(*first.refresh(&store).unwrap(), expected(count));
        let last = store.query(Order::filter()).rows().unwrap();
        let last = last.into_iter().find(|row| Some(row.sequence()) == first.last_sequence()).unwrap();
        assert_eq!(last.cents(), count - 1);
        ids.push(last.id().to_owned());
        if round > 0 {
            store.delete(&[&*ids[ids.len() - 1]]).unwrap();
            assert_eq!(*view(dir.path()).refresh(&store).unwrap(), expected(count));
            store.flush().unwrap();
            store.compact(Budget::UNLIMITED).unwrap();
        }
        assert_eq!(*view(dir.path()).refresh(&store).unwrap(), expected(count));
        if round == 3 {
            store.flush().unwrap();
            store.gc(1_000_000).unwrap();
            assert_eq!(*first.refresh(&store).unwrap(), expected(count));
        }
        store.close().unwrap();
        let store = Store::<Order>::open(dir.path().join("store")).unwrap();
        assert_eq!(*view(dir.path()).refresh(&store).unwrap(), expected(count), "round {round}");
        assert_eq!(*first.refresh(&store).unwrap(), expected(count));
        store.close().unwrap();
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Order>::open(dir.path().join("store")).unwrap();
    append(&store, 0, 1);
    let mut view: StoreView<Order, u64> =
        StoreView::new("../escaped", |n, _| n + 1, &dir.path().join("views"));
    assert_eq!(view.refresh(&store).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(view.rebuild(&store).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(!dir.path().join("escaped.store.json").exists());
}
