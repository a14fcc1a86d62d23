//! A bar on standard error, where that is a terminal, for what takes longer than a second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: &str = "{bar:32} {percent:>3} %  {msg}  {eta} left";

/// How far something is. It is drawn when it is told, and goes away when it is dropped.
pub(crate) struct Progress {
    begun: Instant,
    is_terminal: bool,
    bar: Option<ProgressBar>,
}

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
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(LOOK).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.with_elapsed(begun.elapsed())
        });
        bar.set_length(total.max(done));
        bar.set_message(what());
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
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
