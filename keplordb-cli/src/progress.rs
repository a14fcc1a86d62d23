//! How far something is, on standard error, where that is a terminal, for what takes longer than a second.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
#[cfg(any(feature = "server", feature = "sql"))]
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// What is done sooner needs no word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of what cannot tell how far it is.
const LOOK_OF_WAITING: &str = "{spinner} {msg}  {elapsed}";
const TICK: Duration = Duration::from_millis(100);
#[cfg(any(feature = "server", feature = "sql"))]
const LOOK: &str = "{bar:32} {percent:>3} %  {msg}  {eta} left";

/// Something that cannot tell how far it is: how long it has been at it. It goes away when it is dropped.
pub(crate) struct Waiting(Option<(Sender<()>, JoinHandle<()>)>);

impl Waiting {
    /// `what` is being done from now on: `checking`.
    pub(crate) fn begin(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let (end, ended) = channel();
        let thread = thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner().with_message(what).with_elapsed(PATIENCE);
            bar.set_style(style(LOOK_OF_WAITING));
            bar.enable_steady_tick(TICK);
            // Ends when the other side is dropped.
            let _ = ended.recv();
            bar.finish_and_clear();
        });
        Self(Some((end, thread)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // Whatever is printed next must not come before the line is gone.
            let _ = thread.join();
        }
    }
}

fn style(look: &str) -> ProgressStyle {
    ProgressStyle::with_template(look).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How far something is. It is drawn when it is told, and goes away when it is dropped.
#[cfg(any(feature = "server", feature = "sql"))]
pub(crate) struct Progress {
    begun: Instant,
    is_terminal: bool,
    bar: Option<ProgressBar>,
}

#[cfg(any(feature = "server", feature = "sql"))]
impl Progress {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), is_terminal: io::stderr().is_terminal(), bar: None }
    }

    /// That `done` of `total` is done; `what` says more for people.
    pub(crate) fn tell(&mut self, done: u64, total: u64, what: impl FnOnce() -> String) {
        if !self.is_terminal || (self.bar.is_none() && self.begun.elapsed() < PATIENCE) {
            return;
        }
        let begun = self.begun;
        let bar = self.bar.get_or_insert_with(|| {
            ProgressBar::new(total).with_style(style(LOOK)).with_elapsed(begun.elapsed())
        });
        bar.set_length(total.max(done));
        bar.set_message(what());
        bar.set_position(done);
    }
}

#[cfg(any(feature = "server", feature = "sql"))]
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(all(test, any(feature = "server", feature = "sql")))]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_drawn_and_only_for_people() {
        let mut progress = Progress::begin();
        progress.is_terminal = true;
        progress.tell(1, 10, || unreachable!("it is too early"));
        progress.begun = Instant::now().checked_sub(PATIENCE).unwrap();
        let mut is_told = false;
        progress.tell(2, 10, || {
            is_told = true;
            "2 rows".to_owned()
        });
        assert!(is_told && progress.bar.as_ref().is_some_and(|bar| bar.position() == 2));
        progress.is_terminal = false;
        progress.tell(3, 10, || unreachable!("nobody sees it"));
    }
}
