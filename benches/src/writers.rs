//! Threads that write at once, and how long they took.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs `prepare` and then `write` in each of `threads` threads, all beginning to write when all are prepared. Returns
/// what the writers returned, and the time from the first one's beginning to the last one's end.
///
/// The clock is read by the writers themselves: one who waits for them on a busy machine starts his clock too late.
///
/// # Panics
/// When a writer does.
pub fn race<T: Send>(
    threads: usize,
    prepare: impl Fn(usize) + Sync,
    write: impl Fn(usize) -> T + Sync,
) -> (Vec<T>, Duration) {
    let barrier = Barrier::new(threads);
    let (prepare, write, barrier) = (&prepare, &write, &barrier);
    let run = move |thread| {
        prepare(thread);
        barrier.wait();
        let begin = Instant::now();
        let written = write(thread);
        (written, begin, Instant::now())
    };
    let written: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer panicked")).collect()
    });
    let begin = written.iter().map(|(_, begin, _)| *begin).min();
    let end = written.iter().map(|(_, _, end)| *end).max();
    let elapsed = end.zip(begin).map_or(Duration::ZERO, |(end, begin)| end - begin);
    (written.into_iter().map(|(written, _, _)| written).collect(), elapsed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_are_prepared_before_one_writes_and_the_slowest_counts() {
        let prepared = AtomicUsize::new(0);
        let (seen, elapsed) = race(
            4,
            |_| {
                prepared.fetch_add(1, Ordering::SeqCst);
            },
            |thread| {
                std::thread::sleep(Duration::from_millis(10 * thread as u64));
                (thread, prepared.load(Ordering::SeqCst))
            },
        );
        assert_eq!(seen, [(0, 4), (1, 4), (2, 4), (3, 4)]);
        assert!(elapsed >= Duration::from_millis(30));
    }
}
