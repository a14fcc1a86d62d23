//! The numbers of rows: who gives them out, and which are *settled*, so that no append below them is still under way.
//!
//! An append takes its numbers under the lock of its shard and shows its rows some microseconds later; meanwhile an append
//! to another shard may take higher numbers and show its rows first. So "all rows below the next number" is not what a
//! reader sees, but "all rows below the settled number" is, as often as he looks.
//!
//! **Why no row below [`settled`](Sequences::settled) is missed**, as a list of facts:
//! 1. An append stores a value of `next` in the lane of its shard and takes its numbers from `next` after that, so the
//!    lane holds no more than its first number.
//! 2. Taking numbers is a read-modify-write that releases, and nothing else changes `next`. So whoever loads from `next`
//!    more than the first number of an append loads from a lane what that append stored there, or something later.
//! 3. `settled` loads `next` before it loads the lanes, and is the least of them all. Were it above the first number of
//!    an append that is under way, fact 2 would have it load from the lane what fact 1 says is no more than that.
//! 4. Something later in the lane is the end of that append or the beginning of another one of the same shard. Both are
//!    stored after the rows are in the memtable: the one by the same thread, the other under the same lock. Both
//!    release, and the load acquires: whoever looks at the version and its memtables *after* he asked what is settled
//!    finds these rows, and the memtable in the version too, which was there before its first row.
//! 5. An append that fails shows no rows and ends all the same: its numbers name nothing.
//!
//! **Waiting** costs nobody anything as long as nobody waits: who has changed something loads one counter. That no wake-up is
//! lost follows from the one order of all sequentially consistent operations: the waiter counts himself in and then
//! looks, the other changes and then loads the counter, so one of them sees the other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// What each run of an engine skips, so that no number that was lost with an unsynced tail is given again: a run would have
/// to lose more appends than this. The first append of a run writes its start into the manifest, or a run that lost all
/// its appends would leave no trace of the numbers they had.
pub(crate) const RUN_GAP: u64 = 1 << 32;

/// In a lane: no append is under way.
const IDLE: u64 = u64::MAX;

/// A number on cache lines of its own: two, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Lane(AtomicU64);

/// Gives numbers out and knows which are settled.
#[derive(Debug)]
pub(crate) struct Sequences {
    /// The number of the next row. Changed by `fetch_add` only, once there are appends.
    next: Lane,
    /// Per shard: no more than the first number of the append that is under way there.
    lanes: Box<[Lane]>,
    /// First number of an append that failed and could not be taken back: its rows are shown to nobody, but may be there
    /// when the table is opened again. [`IDLE`] if there is none.
    doubtful: AtomicU64,
    waiting: AtomicUsize,
    /// How often something was told.
    tellings: Mutex<u64>,
    told: Condvar,
}

impl Sequences {
    /// Of a table whose next row gets the number `next`, and which is written through so many shards.
    pub(crate) fn new(next: u64, shards: usize) -> Self {
        Self {
            next: Lane(AtomicU64::new(next)),
            lanes: (0..shards).map(|_| Lane(AtomicU64::new(IDLE))).collect(),
            doubtful: AtomicU64::new(IDLE),
            waiting: AtomicUsize::new(0),
            tellings: Mutex::new(0),
            told: Condvar::new(),
        }
    }

    /// The number that the next row gets: above those of all rows that were ever appended.
    pub(crate) fn next(&self) -> u64 {
        self.next.0.load(Ordering::SeqCst)
    }

    /// Takes the numbers of so many rows, for an append that holds the lock of `shard`. It is under way until what is
    /// returned is dropped, which it must be when its rows are shown, and before the lock is given back.
    pub(crate) fn take(&self, shard: usize, rows: u64) -> UnderWay<'_> {
        let lane = &self.lanes[shard].0;
        lane.store(self.next.0.load(Ordering::Relaxed), Ordering::Release);
        let first = self.next.0.fetch_add(rows, Ordering::SeqCst);
        UnderWay { sequences: self, lane, first }
    }

    /// The number below which no append is under way. To be asked *before* the version is loaded whose rows it is about.
    /// It may be a little less than an earlier answer was.
    pub(crate) fn settled(&self) -> u64 {
        let next = self.next();
        self.lanes.iter().map(|lane| lane.0.load(Ordering::SeqCst)).fold(next, u64::min)
    }

    /// First number of an append that failed and may come back when the table is opened again; above all numbers if there
    /// is none.
    pub(crate) fn doubtful(&self) -> u64 {
        self.doubtful.load(Ordering::SeqCst)
    }

    /// Says that rows up to `next` are shown, where nobody takes numbers: of a table that another process writes.
    pub(crate) fn shown_below(&self, next: u64) {
        self.next.0.fetch_max(next, Ordering::SeqCst);
    }

    /// Wakes who waits. For whoever has shown or synced rows, when he holds no lock.
    pub(crate) fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.tellings.lock() += 1;
            self.told.notify_all();
        }
    }

    /// Returns when `is_ready` says so, or at the deadline if there is one; what it said last. It is asked at once, and then
    /// whenever something was [told](Self::tell).
    pub(crate) fn wait_until(&self, deadline: Option<Instant>, mut is_ready: impl FnMut() -> bool) -> bool {
        if is_ready() {
            return true;
        }
        let _waiting = Waiting::begin(self);
        loop {
            let known = *self.tellings.lock();
            if is_ready() {
                return true;
            }
            let mut tellings = self.tellings.lock();
            while *tellings == known {
                match deadline {
                    None => self.told.wait(&mut tellings),
                    Some(deadline) => {
                        if self.told.wait_until(&mut tellings, deadline).timed_out() {
                            drop(tellings);
                            return is_ready();
                        }
                    }
                }
            }
        }
    }
}

/// An append between taking its numbers and showing its rows.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub(crate) struct UnderWay<'a> {
    sequences: &'a Sequences,
    lane: &'a AtomicU64,
    first: u64,
}

impl UnderWay<'_> {
    /// The number of its first row.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// It failed, and its bytes may be in the log all the same.
    pub(crate) fn doubt(&self) {
        self.sequences.doubtful.fetch_min(self.first, Ordering::SeqCst);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.lane.store(IDLE, Ordering::SeqCst);
    }
}

/// Counts a waiter until it is dropped, also by a panic.
struct Waiting<'a>(&'a Sequences);

impl<'a> Waiting<'a> {
    fn begin(sequences: &'a Sequences) -> Self {
        sequences.waiting.fetch_add(1, Ordering::SeqCst);
        Self(sequences)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    /// Writers show rows late and in any order; whoever asks what is settled and looks then finds every row below it.
    /// With `next` in the place of `settled` this fails at once.
    #[test]
    fn every_row_below_the_settled_number_is_shown() {
        const SHARDS: usize = 3;
        const ROWS: usize = 60_000;
        let place = |number: u64| usize::try_from(number).unwrap();
        let sequences = Sequences::new(0, SHARDS);
        let shown: Vec<AtomicBool> = (0..ROWS + 64).map(|_| AtomicBool::new(false)).collect();
        let locks: Vec<Mutex<()>> = (0..SHARDS).map(|_| Mutex::new(())).collect();
        let done = AtomicUsize::new(0);
        let (mut rounds, mut held_back) = (0_u64, 0_u64);
        std::thread::scope(|scope| {
            for writer in 0..=SHARDS {
                let (sequences, shown, locks, done) = (&sequences, &shown, &locks, &done);
                scope.spawn(move || {
                    for turn in 0.. {
                        if place(sequences.next()) >= ROWS {
                            break;
                        }
                        let (shard, rows) = ((writer + turn) % SHARDS, 1 + turn % 3);
                        let _lock = locks[shard].lock();
                        let append = sequences.take(shard, rows as u64);
                        if turn % 16 == writer {
                            std::thread::yield_now();
                        }
                        let first = place(append.first());
                        // Relaxed: only the end of the append makes them visible.
                        shown[first..first + rows].iter().for_each(|row| row.store(true, Ordering::Relaxed));
                        drop(append);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
            let mut checked = 0;
            while done.load(Ordering::SeqCst) <= SHARDS {
                let settled = place(sequences.settled());
                held_back += u64::from(settled < place(sequences.next()));
                for (row, shown) in shown.iter().enumerate().take(settled).skip(checked) {
                    assert!(shown.load(Ordering::Relaxed), "row {row} is below {settled} and not shown");
                }
                checked = checked.max(settled);
                rounds += 1;
            }
        });
        assert_eq!(sequences.settled(), sequences.next(), "nothing is under way");
        assert!(held_back > 0, "in {rounds} rounds no append was ever under way: the test tested nothing");
    }

    #[test]
    fn an_append_holds_back_what_is_settled_until_it_ends() {
        let sequences = Sequences::new(5, 2);
        let slow = sequences.take(0, 3);
        let quick = sequences.take(1, 2);
        assert_eq!((slow.first(), quick.first(), sequences.next()), (5, 8, 10));
        drop(quick);
        assert_eq!(sequences.settled(), 5);
        drop(slow);
        assert_eq!(sequences.settled(), 10);

        let failed = sequences.take(0, 1);
        failed.doubt();
        drop(failed);
        assert_eq!((sequences.settled(), sequences.doubtful()), (11, 10));
    }

    #[test]
    fn who_waits_is_woken_and_never_sleeps_past_the_deadline() {
        let sequences = Sequences::new(0, 1);
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(!sequences.wait_until(Some(soon), || sequences.settled() > 0));
        assert!(Instant::now() >= soon);
        std::thread::scope(|scope| {
            for round in 1..2000 {
                let waiter = scope.spawn({
                    let sequences = &sequences;
                    move || sequences.wait_until(None, || sequences.settled() >= round)
                });
                drop(sequences.take(0, 1));
                sequences.tell();
                assert!(waiter.join().unwrap());
            }
        });
        assert_eq!(sequences.waiting.load(Ordering::SeqCst), 0);
    }
}
