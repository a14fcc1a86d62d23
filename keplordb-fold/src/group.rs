//! Group commit: lines of many threads in one write, and one sync for all of them.
//!
//! The first whose line is in a group leads it: he waits until the group before is written, takes the lines of all who came until
//! then, writes them, and wakes everybody at once. So that a thread which comes back at once is not just too late each time, and
//! one half of the threads waits for the other half's sync for ever, a leader waits a little for as many as there were lately.

use std::io;
use std::mem;
use std::sync::{Arc, OnceLock};
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
    /// The lines of those who wait to be written, and how many they are.
    lines: Vec<u8>,
    waiting: usize,
    /// What they will know.
    next: Arc<Written>,
    /// The group that is being written.
    under_way: Option<Arc<Written>>,
    /// How many there were lately: the last group, and those who waited behind it.
    expected: usize,
    pause: Duration,
}

/// Where the lines of a group begin in the log, and what the write said beside that. All of the group wait for it, and are woken by
/// one call of the system.
#[derive(Debug, Default)]
struct Written(OnceLock<io::Result<(u64, bool)>>);

impl Written {
    /// Waits, and says where the line is that begins there in the group's lines.
    fn line(&self, at: usize) -> io::Result<(u64, bool)> {
        match self.0.wait() {
            Ok((start, told)) => Ok((start + at as u64, *told)),
            Err(error) => Err(again(error)),
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
        let mut queue = self.queue.lock();
        let at = queue.lines.len();
        queue.lines.extend_from_slice(line);
        queue.waiting += 1;
        let written = Arc::clone(&queue.next);
        if queue.waiting > 1 {
            if queue.waiting >= queue.expected {
                self.complete.notify_one();
            }
            drop(queue);
        } else {
            let before = queue.under_way.clone();
            drop(queue);
            if let Some(before) = before {
                before.0.wait();
            }
            self.lead(write);
        }
        written.line(at)
    }

    /// Writes the group that waits. No other is being written: only the first of a group leads, and not before the one before ended.
    fn lead(&self, write: impl FnOnce(&[u8], u64) -> io::Result<(u64, bool)>) {
        let mut queue = self.queue.lock();
        if queue.pause >= PAUSE_MIN {
            let until = Instant::now() + queue.pause;
            while queue.waiting < queue.expected && !self.complete.wait_until(&mut queue, until).timed_out() {
            }
        }
        let lines = mem::take(&mut queue.lines);
        let events = mem::take(&mut queue.waiting);
        let written = mem::take(&mut queue.next);
        queue.under_way = Some(Arc::clone(&written));
        drop(queue);
        let mut led = Led { group: self, written, events, pause: Duration::ZERO, outcome: None };
        let begun = Instant::now();
        let outcome = write(&lines, events as u64);
        led.pause = (begun.elapsed() / 2).min(PAUSE_MAX);
        led.outcome = Some(outcome);
    }
}

/// The end of a lead, also by a panic: somebody else may lead, and everybody is told.
struct Led<'a> {
    group: &'a Group,
    written: Arc<Written>,
    events: usize,
    pause: Duration,
    outcome: Option<io::Result<(u64, bool)>>,
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        let mut queue = self.group.queue.lock();
        queue.expected = self.events + queue.waiting;
        queue.pause = self.pause;
        queue.under_way = None;
        drop(queue);
        // Nobody else sets it.
        let _ = self.written.0.set(self.outcome.take().unwrap_or_else(|| Err(nobody_knows())));
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
        // All together it would be 100; one half waiting for the other, 200. A machine that is busy otherwise lets threads come late:
        // then not every try shows it.
        let tries: Vec<u64> = (0..10).map(|_| appended(8, 100, Duration::from_millis(1)).1).collect();
        assert!(tries.iter().any(|writes| *writes < 150), "{tries:?} writes for 800 lines");
    }

    #[test]
    fn what_becomes_of_a_group_all_of_it_know() {
        // Whatever the second group comes to, three threads are in it: they come while the first is written.
        for (write, told) in [
            (Ok((5, true)), "Ok((5, true)) Ok((7, true)) Ok((9, true))"),
            (Err(true), "poisoned poisoned poisoned"),
            (Err(false), "panicked unknown unknown"),
        ] {
            let group = Group::default();
            let append = || {
                group.append(b"b\n", |lines, events| {
                    assert_eq!((lines, events), (&b"b\nb\nb\n"[..], 3));
                    write.map_err(|poisons: bool| {
                        assert!(poisons, "as told");
                        FoldError::Poisoned { file: "log".into() }.into()
                    })
                })
            };
            let mut outcomes: Vec<String> = thread::scope(|scope| {
                let group = &group;
                let until_three_wait = |_: &[u8], _| {
                    while group.queue.lock().waiting < 3 {
                        thread::yield_now();
                    }
                    Ok((0, false))
                };
                let first = scope.spawn(move || group.append(b"a\n", until_three_wait));
                while group.queue.lock().under_way.is_none() {
                    thread::yield_now();
                }
                let others: Vec<_> = (0..3).map(|_| scope.spawn(append)).collect();
                assert_eq!(first.join().unwrap().unwrap(), (0, false));
                let name = |outcome: io::Result<(u64, bool)>| match outcome {
                    Ok(place) => format!("Ok({place:?})"),
                    Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                        Some(FoldError::Poisoned { .. }) => "poisoned".to_owned(),
                        _ => "unknown".to_owned(),
                    },
                };
                others.into_iter().map(|other| other.join().map_or("panicked".to_owned(), name)).collect()
            });
            outcomes.sort();
            assert_eq!(outcomes.join(" "), told);
            assert_eq!(group.append(b"c\n", |_, events| Ok((events, false))).unwrap(), (1, false));
        }
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
