//! Group commit: lines of many threads in one write, and one sync for all of them.
//!
//! The first who comes leads: he takes the lines of all who wait, writes them, and wakes everybody; who came meanwhile waits, and the
//! first of those leads next. So that a thread which comes back at once is not just too late each time, and one half of the threads
//! waits for the other half's sync for ever, a leader waits a little for as many as there were lately.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::FoldError;

/// A leader waits for others at most half as long as the last write and sync took, at most this long, and not at all if that were
/// less than the other: to fall asleep takes as long.
const PAUSE_MAX: Duration = Duration::from_millis(2);
const PAUSE_MIN: Duration = Duration::from_micros(20);

/// Where threads queue to append.
#[derive(Debug, Default)]
pub(crate) struct Group {
    queue: Mutex<Queue>,
    /// Told when as many wait as a leader hopes for.
    complete: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    waiting: Vec<Arc<Waiter>>,
    /// Whether somebody leads, or was told to.
    is_led: bool,
    /// How many there were lately: the last group, and those who waited behind it.
    expected: usize,
    pause: Duration,
}

/// A thread that waits until its line is written.
#[derive(Debug)]
struct Waiter {
    /// Where the line begins in the lines of its group.
    at: usize,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// It is to lead.
    Leads,
    /// Where its line begins in the log, and what the write said beside that.
    Done(io::Result<(u64, bool)>),
}

impl Waiter {
    fn tell(&self, state: State) {
        *self.state.lock() = state;
        self.woken.notify_one();
    }

    /// What became of the line; `None` if it is this thread's to lead.
    fn wait(&self) -> Option<io::Result<(u64, bool)>> {
        let mut state = self.state.lock();
        while matches!(*state, State::Waiting) {
            self.woken.wait(&mut state);
        }
        match mem::replace(&mut *state, State::Waiting) {
            State::Done(outcome) => Some(outcome),
            State::Waiting | State::Leads => None,
        }
    }
}

impl Group {
    /// Appends a line, alone or with others, by `write`: it is given lines and their number, and returns where they begin and
    /// something for all of them to know.
    pub(crate) fn append(
        &self,
        line: &[u8],
        write: impl FnOnce(&[u8], u64) -> io::Result<(u64, bool)>,
    ) -> io::Result<(u64, bool)> {
        let waiter = {
            let mut queue = self.queue.lock();
            let (state, woken) = (Mutex::new(State::Waiting), Condvar::new());
            let waiter = Arc::new(Waiter { at: queue.lines.len(), state, woken });
            queue.lines.extend_from_slice(line);
            queue.waiting.push(Arc::clone(&waiter));
            if !mem::replace(&mut queue.is_led, true) {
                *waiter.state.lock() = State::Leads;
            } else if queue.waiting.len() >= queue.expected {
                self.complete.notify_one();
            }
            waiter
        };
        match waiter.wait() {
            Some(outcome) => outcome,
            None => self.lead(write, &waiter),
        }
    }

    fn lead(
        &self,
        write: impl FnOnce(&[u8], u64) -> io::Result<(u64, bool)>,
        leader: &Arc<Waiter>,
    ) -> io::Result<(u64, bool)> {
        let (lines, waiting) = {
            let mut queue = self.queue.lock();
            if queue.pause >= PAUSE_MIN {
                let until = Instant::now() + queue.pause;
                while queue.waiting.len() < queue.expected
                    && !self.complete.wait_until(&mut queue, until).timed_out()
                {}
            }
            (mem::take(&mut queue.lines), mem::take(&mut queue.waiting))
        };
        let mut led = Led { group: self, waiting, pause: Duration::ZERO, outcome: None };
        let begun = Instant::now();
        let outcome = write(&lines, led.waiting.len() as u64);
        led.pause = (begun.elapsed() / 2).min(PAUSE_MAX);
        led.outcome = Some(outcome);
        drop(led);
        leader.wait().unwrap_or_else(|| Err(nobody_knows()))
    }
}

/// The end of a lead, also by a panic: everybody is told, and somebody else leads.
struct Led<'a> {
    group: &'a Group,
    waiting: Vec<Arc<Waiter>>,
    pause: Duration,
    outcome: Option<io::Result<(u64, bool)>>,
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.group.queue.lock();
            queue.expected = self.waiting.len() + queue.waiting.len();
            queue.pause = self.pause;
            queue.is_led = !queue.waiting.is_empty();
            queue.waiting.first().cloned()
        };
        if let Some(next) = next {
            next.tell(State::Leads);
        }
        for waiter in &self.waiting {
            let outcome = match &self.outcome {
                Some(Ok((start, told))) => Ok((start + waiter.at as u64, *told)),
                Some(Err(error)) => Err(again(error)),
                None => Err(nobody_knows()),
            };
            waiter.tell(State::Done(outcome));
        }
    }
}

fn nobody_knows() -> io::Error {
    io::Error::other("the thread that wrote the event panicked: it may be in the log or not")
}

/// The same error for another thread.
fn again(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<FoldError>());
    match inner {
        Some(FoldError::Poisoned { file }) => FoldError::Poisoned { file: file.clone() }.into(),
        Some(FoldError::Io { step, file, source }) => {
            let source = match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            };
            FoldError::Io { step, file: file.clone(), source }.into()
        }
        _ => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    /// What threads append by a group, with a write that takes a while.
    fn appended(threads: usize, each: usize, took: Duration) -> (Vec<u8>, u64) {
        let (group, written, writes) = (Group::default(), Mutex::new(Vec::new()), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..threads {
                let (group, written, writes) = (&group, &written, &writes);
                scope.spawn(move || {
                    for n in 0..each {
                        let line = format!("{thread} {n}\n");
                        let (start, told) = group
                            .append(line.as_bytes(), |lines, events| {
                                let mut written = written.lock();
                                let start = written.len();
                                written.extend_from_slice(lines);
                                assert_eq!(memchr::memchr_iter(b'\n', lines).count() as u64, events);
                                thread::sleep(took);
                                writes.fetch_add(1, Ordering::Relaxed);
                                Ok((start as u64, true))
                            })
                            .unwrap();
                        assert!(told);
                        let start = usize::try_from(start).unwrap();
                        assert_eq!(&written.lock()[start..start + line.len()], line.as_bytes());
                    }
                });
            }
        });
        (written.into_inner(), writes.into_inner())
    }

    #[test]
    fn each_line_is_written_once_and_its_thread_knows_where() {
        for threads in [1, 2, 8] {
            let (written, writes) = appended(threads, 100, Duration::ZERO);
            assert!(writes <= 100 * threads as u64);
            let mut lines: Vec<&[u8]> = written.split_inclusive(|byte| *byte == b'\n').collect();
            lines.sort_unstable();
            let mut expected: Vec<String> =
                (0..threads).flat_map(|thread| (0..100).map(move |n| format!("{thread} {n}\n"))).collect();
            expected.sort_unstable();
            assert!(lines.iter().copied().eq(expected.iter().map(String::as_bytes)));
        }
    }

    #[test]
    fn eight_threads_share_a_write_by_nearly_eight() {
        let (_, writes) = appended(8, 100, Duration::from_millis(1));
        // All together it would be 100; one half waiting for the other, 200.
        assert!(writes < 150, "{writes} writes for 800 lines");
    }

    #[test]
    fn an_error_or_a_panic_of_the_leader_reaches_all_and_others_go_on() {
        let group = Group::default();
        let failed = group.append(b"a\n", |_, _| Err(FoldError::Poisoned { file: "log".into() }.into()));
        let error = failed.unwrap_err();
        assert!(matches!(
            error.get_ref().unwrap().downcast_ref::<FoldError>(),
            Some(FoldError::Poisoned { .. })
        ));
        let panicked = thread::scope(|scope| {
            scope.spawn(|| group.append(b"b\n", |_, _| panic!("as told"))).join().is_err()
        });
        assert!(panicked);
        assert_eq!(group.append(b"c\n", |lines, _| Ok((lines.len() as u64, false))).unwrap(), (2, false));
    }
}
