//! A stand-in for kqueue on Linux, so that all of [`Vnodes`] but the kernel's own queue is tested where the tests run: an
//! inotify queue that tells, as kqueue does, of a directory's names only and of each file by itself, until it is closed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::listing::{Identity, identity};
use super::vnodes::{Queue, Told};

#[derive(Debug)]
pub(super) struct StandIn {
    queue: OwnedFd,
    added: BTreeMap<i32, (RawFd, Identity, Told)>,
    /// How many files may be added, and then the error is that of a process that has too many open.
    files_max: usize,
}

impl StandIn {
    pub(super) fn new(files_max: usize) -> io::Result<Self> {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { queue, added: BTreeMap::new(), files_max })
    }

    /// Once, that the directory was removed.
    fn told_of_removal(&mut self) -> Told {
        let dir = self.added.iter().find(|(_, (_, _, told))| *told == Told::Names);
        let dir = dir.map(|(number, (descriptor, ..))| (*number, *descriptor));
        match dir {
            Some((number, descriptor))
                if fs::metadata(name_of(descriptor)).is_ok_and(|dir| dir.nlink() == 0) =>
            {
                self.added.remove(&number);
                Told::Names
            }
            _ => Told::Nothing,
        }
    }

    /// What a notice says, if what it is about is still open.
    fn told(&self, number: i32, what: ReadFlags) -> Told {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Told::Names;
        }
        let Some((descriptor, expected, told)) = self.added.get(&number) else { return Told::Nothing };
        let is_open =
            fs::metadata(name_of(*descriptor)).is_ok_and(|metadata| identity(&metadata) == *expected);
        if is_open && !what.contains(ReadFlags::IGNORED) { *told } else { Told::Nothing }
    }
}

impl Queue for StandIn {
    const OPEN_FLAGS: i32 = OFlags::NONBLOCK.bits().cast_signed();

    const RUN_OUT: [i32; 4] = [
        Errno::MFILE.raw_os_error(),
        Errno::NFILE.raw_os_error(),
        Errno::NOMEM.raw_os_error(),
        Errno::NOSPC.raw_os_error(),
    ];

    fn add(&mut self, file: &File, of: Told) -> io::Result<()> {
        let flags = if of == Told::Names {
            WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
        } else {
            let open = self.added.values().filter(|(descriptor, expected, _)| {
                fs::metadata(name_of(*descriptor)).is_ok_and(|metadata| identity(&metadata) == *expected)
            });
            if open.count() > self.files_max {
                return Err(Errno::MFILE.into());
            }
            WatchFlags::MODIFY | WatchFlags::ATTRIB
        };
        let number = add_watch(&self.queue, name_of(file.as_raw_fd()), flags)?;
        self.added.insert(number, (file.as_raw_fd(), identity(&file.metadata()?), of));
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Told> {
        /// How often it is asked whether the directory was removed, of which nothing is told here as long as it is open.
        const SLICE: Duration = Duration::from_millis(5);
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut told = self.told_of_removal();
        while told == Told::Nothing {
            let rest = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()));
            let slice = Timespec::try_from(rest.min(SLICE)).map_err(io::Error::other)?;
            if poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], Some(&slice))? > 0 || rest.is_zero() {
                break;
            }
            told = self.told_of_removal();
        }
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(notice) => told = told.max(self.told(notice.wd(), notice.events())),
                Err(Errno::AGAIN) => return Ok(told),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn name_of(descriptor: RawFd) -> String {
    format!("/proc/self/fd/{descriptor}")
}
