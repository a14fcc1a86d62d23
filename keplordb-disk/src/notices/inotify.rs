//! Notices by inotify (Linux, Android): one queue for a directory and the bytes of its files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::Watch;

/// What the kernel queues for us. Nothing of it is parsed: that there is a notice says all, also when the queue has
/// overflown (which is a notice itself).
#[derive(Debug)]
struct Notices {
    queue: OwnedFd,
}

pub(super) fn watch(dir: &Path) -> io::Result<Box<dyn Watch>> {
    let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let what = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    add_watch(&queue, dir, what)?;
    Ok(Box::new(Notices { queue }))
}

impl Notices {
    /// Empties the queue; whether there was anything in it.
    fn drain(&self) -> io::Result<bool> {
        /// Against a writer who fills the queue as fast as it is read; what stays in it is a spurious change later.
        const READS_MAX: usize = 64;
        // The longest notice, with a name of 255 bytes, fits many times.
        let mut notices = [0_u8; 8 << 10];
        for read in 0..READS_MAX {
            match rustix::io::read(&self.queue, &mut notices) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(read > 0),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl Watch for Notices {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let until = Instant::now().checked_add(timeout);
        loop {
            if self.drain()? {
                return Ok(true);
            }
            let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                return Ok(false);
            }
            // A time that the kernel cannot count is as good as for ever.
            let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
            match poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], rest.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
