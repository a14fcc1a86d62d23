//! Does writing or reading allocate in steady state? The global allocator counts; after some rounds in which buffers grow, as many
//! entries again must not allocate once. The disk is the real one: the others allocate for themselves.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use keplordb_log::{Log, Options, SyncPolicy, Timestamp};

/// Counts what the threads of this test ask for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this layout; the caller answers for `bytes`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates in its second half, when buffers have grown.
fn steady(rounds: u64, mut work: impl FnMut(u64)) -> u64 {
    (0..rounds / 2).for_each(&mut work);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (rounds / 2..rounds).for_each(&mut work);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One test, so that no other thread allocates meanwhile.
#[test]
fn nothing_is_allocated_for_an_entry_in_steady_state() {
    // The counter counts.
    assert_eq!(steady(2, |round| drop(std::hint::black_box(Box::new(round)))), 1);

    let dir = tempfile::tempdir().unwrap();
    let policies = [
        SyncPolicy::Each,
        SyncPolicy::Every { entries: 100, bytes: 1 << 20 },
        SyncPolicy::OnDemand,
        SyncPolicy::Never,
    ];
    for (number, sync) in policies.into_iter().enumerate() {
        let dir = dir.path().join(number.to_string());
        let log = Log::open_with(dir, Options { sync, ..Options::default() }).unwrap();
        let writer = log.writer().unwrap();
        let rounds = if sync == SyncPolicy::Each { 40 } else { 2000 };
        let entry = [7; 150];
        assert_eq!(steady(rounds, |_| _ = writer.write(&entry).unwrap()), 0, "write, {sync:?}");

        let batch = [entry; 64];
        assert_eq!(steady(rounds, |_| _ = writer.write_batch(batch).unwrap()), 0, "write_batch, {sync:?}");

        let after = writer.last_time().unwrap().as_ns() + 1_000_000_000;
        let at = |round: u64, place: i64| Timestamp::from_ns(after + round as i64 * 100 + place);
        assert_eq!(steady(rounds, |round| writer.write_at(at(round, 0), &entry).unwrap()), 0, "write_at");
        let write = |round| {
            let round = round + rounds;
            writer.write_batch_at(&[(at(round, 1), &entry[..]), (at(round, 2), &entry[..9])]).unwrap();
        };
        assert_eq!(steady(rounds, write), 0, "write_batch_at");
        let entries = writer.stats().entries;
        assert!(entries > rounds * 60);
        // Its buffer grows with what it reads.
        let mut reader = log.reader().unwrap();
        while reader.next().unwrap().is_some() {}
        reader.seek(Timestamp::MIN).unwrap();
        assert_eq!(steady(entries, |_| assert!(reader.next().unwrap().is_some())), 0, "next");
    }
}
