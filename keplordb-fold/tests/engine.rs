//! Views over a store: the fold of all its events in the order of their sequences, whatever flush, restart, delete and retention do.
#![cfg(feature = "engine")]

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use keplordb::{Schema, Store};
use keplordb_disk::{RealDisk, read_all, replace};
use keplordb_fold::{FoldError, SnapshotPolicy, StoreView, ViewOptions};

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
    let file = dir.path().join("views/orders.snapshot.json");
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
    let file = dir.path().join("views/orders.snapshot.json");
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
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<FoldError>());
        assert!(matches!(reason, Some(FoldError::Pruned { .. })), "{error}");
    }
    let options = ViewOptions::default().begin_after_pruned().snapshots(SnapshotPolicy::OnClose);
    let mut late = view(&elsewhere).with_options(options);
    let seen: Vec<u32> = late.refresh(&store).unwrap().values().flatten().copied().collect();
    assert_eq!(seen.len(), 2);
    assert!(!elsewhere.join("views/orders.snapshot.json").exists());
    drop(late);
    assert!(elsewhere.join("views/orders.snapshot.json").exists());
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
    assert!(!dir.path().join("escaped.snapshot.json").exists());
}
