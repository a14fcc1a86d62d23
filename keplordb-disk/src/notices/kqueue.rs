//! Notices by kqueue (macOS, iOS, the BSDs): the kernel's queue for [`Vnodes`]. What is to be held, and when, is said there.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

use super::listing::CLOCK;
use super::vnodes::{HELD_MAX, Queue, Told, Vnodes};
use crate::Watch;

pub(super) fn watch(dir: &Path) -> io::Result<Box<dyn Watch>> {
    Ok(Box::new(Vnodes::of(Kernel(Kqueue::new()?), dir, HELD_MAX, CLOCK)?))
}

#[derive(Debug)]
struct Kernel(Kqueue);

/// What is sent with a notice of the directory, to tell it from one of a file.
const NAMES: isize = 1;

/// The longest time for which the kernel is asked to wait: some refuse those of more than three years.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Against writers who fill the queue as fast as it is read; what stays in it is a spurious change later.
const READS_MAX: usize = 64;

impl Queue for Kernel {
    /// On Apple's systems a volume may be unmounted though a file in it is open only for notices.
    #[cfg(target_vendor = "apple")]
    const OPEN_FLAGS: i32 = libc::O_NONBLOCK | libc::O_EVTONLY;
    #[cfg(not(target_vendor = "apple"))]
    const OPEN_FLAGS: i32 = libc::O_NONBLOCK;

    const RUN_OUT: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOSPC];

    fn add(&mut self, file: &File, of: Told) -> io::Result<()> {
        // Cutting a file is no write to some of these systems, but a change of attributes.
        let what = FilterFlag::NOTE_WRITE
            | FilterFlag::NOTE_EXTEND
            | FilterFlag::NOTE_ATTRIB
            | FilterFlag::NOTE_DELETE
            | FilterFlag::NOTE_RENAME;
        let descriptor = usize::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
        let sent = if of == Told::Names { NAMES } else { 0 };
        let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
        let event = KEvent::new(descriptor, EventFilter::EVFILT_VNODE, flags, what, 0, sent);
        // Without room for notices, what is wrong with the change is the error of the call.
        match self.0.kevent(&[event], &mut [], Some(timespec(Duration::ZERO))) {
            // The change was made before the call could be interrupted.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Told> {
        let none = KEvent::new(0, EventFilter::EVFILT_VNODE, EvFlags::empty(), FilterFlag::empty(), 0, 0);
        let mut notices = [none; HELD_MAX + 1];
        let mut told = Told::Nothing;
        let mut patience = timeout.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        for _ in 0..READS_MAX {
            let read = match self.0.kevent(&[], &mut notices, Some(timespec(patience))) {
                Err(Errno::EINTR) => 0,
                read => read?,
            };
            for notice in notices.iter().take(read) {
                told = told.max(if notice.udata() == NAMES { Told::Names } else { Told::Bytes });
            }
            if read == 0 {
                break;
            }
            patience = Duration::ZERO;
        }
        Ok(told)
    }
}

/// A time of an hour at most, as the kernel counts it.
fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos() as libc::c_long }
}
