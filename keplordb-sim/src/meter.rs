//! How much memory a thread holds at most during a call. The only unsafe code of the crate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// What this thread has allocated and not freed, and the most that was at any time since it was last asked. Blocks that
    /// another thread frees count for the one that allocated them, which is of no matter for the calls that are metered.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a meter.
#[derive(Debug)]
pub struct Metered;

#[global_allocator]
static ALLOCATOR: Metered = Metered;

fn count(bytes: i64) {
    // No destructor runs for the cell, so it can be read as long as the thread runs.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise")]
// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `block` came from `System` by the functions here, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

/// What the call returns, and how many bytes this thread held at most during it beyond those it held before.
pub fn peak_bytes<T>(call: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let answer = call();
    let (_, most) = HELD.with(Cell::get);
    (answer, u64::try_from(most - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_at_once_is_measured() {
        let ((), none) = peak_bytes(|| ());
        let (_, some) = peak_bytes(|| [3 << 20, 2 << 20].map(|bytes| vec![1_u8; bytes].len()));
        assert!(none < 1 << 10 && (3 << 20..4 << 20).contains(&some), "{none}, {some}");
    }
}
