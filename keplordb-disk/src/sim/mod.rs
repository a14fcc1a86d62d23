//! `SimDisk`: a disk in memory that counts operations, fails the n-th, and loses what was not synced when the power is cut.
//!
//! # The fault model
//! **A killed process** ([`SimDisk::kill`]) loses nothing that was written, only its handles and locks. What was not synced
//! stays unsynced: a power cut later may still take it.
//!
//! **A power cut** ([`SimDisk::power_cut`]) leaves the durable state, which completed syncs made, and of everything else
//! what the seed decides:
//! - *Bytes.* Each unsynced write falls into pieces at multiples of [`SECTOR_BYTES`]. Each piece for itself is absent (the
//!   old bytes), written, torn (a prefix of the new bytes, then the old), zeros, or garbage; later pieces may survive
//!   without earlier ones. Bytes outside the written range never change (powersafe overwrite).
//! - *Length.* It grows with any piece that is not absent; what lies between reads as zeros. A truncate is a piece too: it
//!   may be lost while later writes survive.
//! - *Names.* Creating, renaming, linking and removing are durable only after `sync_dir` of the directory of the (new)
//!   name, in whatever way the bytes were synced. Of the others a prefix survives (journaling file systems) or any subset
//!   (POSIX), as the seed says; a later change of a name never survives without the earlier changes of that name. Each
//!   change is atomic: a rename never leaves both names or none.
//! - *Bytes and names are independent*: a synced file may have no name, a durable name may lead to an empty file.
//!
//! What there is to decide is [`SimDisk::undecided`], a decision is a [`Cut`], and [`SimDisk::cut`] makes the disk that it
//! leaves; so all legal disks can be enumerated. A seed draws one: seed 0 is the worst honest disk (nothing unsynced
//! survives), seed 1 the best (everything does); the others draw one of several rules for bytes and one for names, extremes
//! and an order-keeping disk among them. One seed always gives the same outcome for the same history.
//!
//! **A failed sync** ([`FaultKind::SyncFails`]) returns an error once and leaves the pages marked clean, as Linux does: the
//! bytes still read as written, later syncs of the file succeed, and only a later write to the same sector makes them
//! durable. A power cut gives each of their pieces a fate. The file's length is made durable by the next sync
//! that succeeds. The names of a directory whose sync failed are treated likewise.
//!
//! **An interruption** ([`FaultKind::Interrupted`]) changes nothing; an interrupted sync leaves what it was to sync as it was.
//!
//! **A full disk** is [`FaultKind::Full`] at a certain operation, or a [capacity](SimDisk::set_capacity_bytes).
//!
//! *Not modelled*: errors while reading, misdirected writes, decay of bytes that were durable (tests flip those through a
//! handle), and pages that a failed sync dropped from memory and that then read as the old bytes.
//!
//! # How a crash test uses it
//! ```
//! use keplordb_disk::{Disk, SimDisk};
//! use std::sync::{Arc, Mutex};
//!
//! # fn main() -> std::io::Result<()> {
//! // Copies of the disk after each operation: every moment at which the power may fail.
//! let moments = Arc::new(Mutex::new(Vec::new()));
//! let disk = SimDisk::default();
//! let copies = Arc::clone(&moments);
//! disk.after_each(move |_number, copy| copies.lock().unwrap().push(copy));
//!
//! let file = disk.create("events".as_ref())?;
//! file.write_at(b"hello", 0)?;
//! file.sync()?;
//! disk.sync_dir(".".as_ref())?;
//!
//! for copy in moments.lock().unwrap().iter() {
//!     for seed in 0..10 {
//!         let after = copy.power_cut(seed);
//!         // Open a store on `after`, and ask whether all that was acknowledged is there.
//!         let _bytes = after.bytes("events".as_ref())?;
//!     }
//! }
//! // Both syncs were done, so now every seed must keep the file.
//! assert!((0..10).all(|seed| matches!(disk.power_cut(seed).bytes("events".as_ref()), Ok(Some(5)))));
//! # Ok(())
//! # }
//! ```

mod chance;
mod cut;
mod fault;
mod file;
mod fingerprint;
mod state;

pub use cut::{Cut, Fate, Piece, Undecided};
pub use fault::{Fault, FaultKind};

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::directories::{Directories, create_durably};
use crate::lock::{self, holder_text, parse_pid};
use crate::names::Node;
use crate::watch::Changes;
use crate::{
    AppendFile, Disk, DiskFile, Entry, Lock, LockError, LockFile, Mapping, Watch, contents, read_all,
};
use chance::Chance;
use fault::Demand;
use file::SimFile;
use state::State;

/// The unit in which a power cut keeps, loses or damages bytes: the smallest that disks use.
pub const SECTOR_BYTES: usize = 512;

/// A simulated disk. A clone is the same disk; [`kill`](Self::kill) and [`power_cut`](Self::power_cut) make other ones.
///
/// The page of [this module](self) says what it simulates. All operations take turns at one lock.
#[derive(Clone, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    /// Told when a lock is given back.
    unlocked: Condvar,
    changes: Arc<Changes>,
}

type Hook = Arc<dyn Fn(u64, SimDisk) + Send + Sync>;

/// One mutating operation, as [`SimDisk::trace`] records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number; the first is 1.
    pub number: u64,
    /// What was asked.
    pub kind: OperationKind,
    /// The path: of a handle, the one it was opened by; of a rename or link, the target.
    pub path: Arc<Path>,
    /// Whether it returned an error, injected or not.
    pub failed: bool,
}

/// What an [`Operation`] asked of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationKind {
    /// One directory was made ([`Disk::create_dir`] is one of these and a `SyncDir` for each level).
    MakeDir,
    /// [`Disk::create`].
    Create,
    /// [`DiskFile::write_at`] or [`AppendFile::append`].
    Write {
        /// Where.
        offset: u64,
        /// How much.
        bytes: usize,
    },
    /// [`DiskFile::truncate`].
    Truncate {
        /// To what length.
        bytes: u64,
    },
    /// [`DiskFile::sync`].
    Sync,
    /// [`Disk::rename`].
    Rename {
        /// The old name.
        source: Arc<Path>,
    },
    /// [`Disk::link`].
    Link {
        /// The first name.
        source: Arc<Path>,
    },
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::lock`].
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.number)?;
        let path = self.path.display();
        match &self.kind {
            OperationKind::MakeDir => write!(f, "make directory {path}"),
            OperationKind::Create => write!(f, "create {path}"),
            OperationKind::Write { offset, bytes } => write!(f, "write {path}: {bytes} bytes at {offset}"),
            OperationKind::Truncate { bytes } => write!(f, "truncate {path} to {bytes} bytes"),
            OperationKind::Sync => write!(f, "sync {path}"),
            OperationKind::Rename { source } => write!(f, "rename {} to {path}", source.display()),
            OperationKind::Link { source } => write!(f, "link {} to {path}", source.display()),
            OperationKind::Remove => write!(f, "remove {path}"),
            OperationKind::SyncDir => write!(f, "sync directory {path}"),
            OperationKind::Lock => write!(f, "lock {path}"),
        }?;
        if self.failed { f.write_str(" (failed)") } else { Ok(()) }
    }
}

impl SimDisk {
    /// How many mutating operations were asked of this disk, failed ones too.
    pub fn operations(&self) -> u64 {
        self.state().operations()
    }

    /// All mutating operations so far, oldest first.
    pub fn trace(&self) -> Vec<Operation> {
        self.state().trace.clone()
    }

    /// Injects a fault. Of several that can hit an operation the one injected first does.
    pub fn fail(&self, fault: Fault) {
        self.state().plan.add(fault);
    }

    /// Forgets all faults that have not happened or go on for ever, and the [capacity](Self::set_capacity_bytes): space
    /// returns. What a failed sync lost stays lost.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plan.clear();
        state.capacity_bytes = None;
    }

    /// How many operations were failed by injected faults. A test of faults that counts none tests nothing.
    pub fn faults_hit(&self) -> u64 {
        self.state().plan.hits()
    }

    /// Bounds the bytes of all files together (a removed file counts while it is open). A write that would go beyond
    /// writes what fits and fails with `StorageFull`; on a full disk, new names fail too. Kills and power cuts keep it.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.state().capacity_bytes = Some(capacity_bytes);
    }

    /// How many changes of bytes and names a power cut could lose now. When it is 0, all seeds give the same disk.
    pub fn pending(&self) -> usize {
        self.state().pending()
    }

    /// Calls `hook` after every mutating operation with its number and what [`kill`](Self::kill) returns at that moment,
    /// taken before any other operation. Replaces an earlier hook. The hook runs on the operation's thread, without a
    /// lock: it may use both disks, but an operation on this one calls it again.
    pub fn after_each(&self, hook: impl Fn(u64, Self) + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// The disk as another process finds it after this one was killed now: all that was written, synced or not, and no
    /// locks. A copy: this disk and its handles go on undisturbed. The copy counts from 0, without faults or hook.
    /// Cost: the names and one reference count a file; bytes are shared until they change.
    #[must_use = "this is a copy; the disk itself goes on"]
    pub fn kill(&self) -> Self {
        Self::from_state(self.state().after_kill())
    }

    /// The disk as it is found after a power cut now; see the page of [this module](self) for what the seed decides.
    /// A copy, as that of [`kill`](Self::kill); all that it holds is durable. Cost: the names, and the bytes of files
    /// that were not synced.
    #[must_use = "this is a copy; the disk itself goes on"]
    pub fn power_cut(&self, seed: u64) -> Self {
        let state = self.state();
        let cut = if seed == 0 { Cut::nothing() } else { Cut::draw(seed, &state.undecided()) };
        Self::from_state(state.after_cut(&cut))
    }

    /// What a power cut would have to decide now: every unsynced piece of a file and every change of a name that is not
    /// durable. Cost: as the number of pieces.
    pub fn undecided(&self) -> Undecided {
        self.state().undecided()
    }

    /// The disk as it is found after a power cut now that decided so; else as [`power_cut`](Self::power_cut). Every decision
    /// gives a legal disk, so this is how all of them can be enumerated.
    #[must_use = "this is a copy; the disk itself goes on"]
    pub fn cut(&self, cut: &Cut) -> Self {
        Self::from_state(self.state().after_cut(cut))
    }

    /// A hash of all paths and bytes that are seen now, so that equal crash images need be tried once only. Not stable
    /// between Rust releases.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint()
    }

    /// Copies all files into a directory of another disk, to look at a crash image with other tools.
    ///
    /// # Errors
    /// What the other disk says; `AlreadyExists` if a file is there already.
    pub fn write_out(&self, target: &dyn Disk, dir: &Path) -> io::Result<()> {
        self.write_out_below(Path::new(""), target, dir)
    }

    fn write_out_below(&self, source: &Path, target: &dyn Disk, dir: &Path) -> io::Result<()> {
        target.create_dir(dir)?;
        for Entry { name, is_dir, .. } in self.list(source)? {
            let (from, to) = (source.join(&name), dir.join(&name));
            if is_dir {
                self.write_out_below(&from, target, &to)?;
            } else {
                target.create(&to)?.write_at(&read_all(self, &from, u64::MAX)?, 0)?;
            }
        }
        Ok(())
    }

    fn from_state(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), ..Shared::default() }) }
    }

    /// No operation leaves the state half changed, so a panic of another thread is no reason to refuse.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and records one mutating operation, does it, and tells the hook.
    fn operate<T>(
        &self,
        kind: OperationKind,
        path: &Arc<Path>,
        body: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let hook = self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut state = self.state();
        let number = state.operations() + 1;
        state.trace.push(Operation { number, kind, path: Arc::clone(path), failed: false });
        let result = body(&mut state);
        if let Some(operation) = state.trace.last_mut() {
            operation.failed = result.is_err();
        }
        let copy = hook.is_some().then(|| Self::from_state(state.after_kill()));
        self.shared.changes.note(std::mem::take(&mut state.renamed_in));
        drop(state);
        if let (Some(hook), Some(copy)) = (hook, copy) {
            hook(number, copy);
        }
        result
    }

    /// Tells those who watch that the bytes of a file have changed. To be called after that.
    fn note(&self, number: u64) {
        if self.shared.changes.are_watched() {
            self.shared.changes.note(self.state().live.homes(&number));
        }
    }

    /// A handle of an existing file.
    fn handle(&self, path: &Path, writable: bool) -> io::Result<Arc<SimHandle>> {
        let state = self.state();
        let number = state.live.find_file(path)?;
        let open = state.files.get(&number).map(|file| Arc::clone(&file.open)).unwrap_or_default();
        Ok(Arc::new(SimHandle { disk: self.clone(), number, path: path.into(), writable, _open: open }))
    }

    fn unlock(&self, number: u64) {
        self.state().locked.remove(&number);
        self.shared.unlocked.notify_all();
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        create_durably(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let entries = state.live.list(dir)?.map(|(name, node)| match node {
            Node::File(number) => {
                let bytes = state.files.get(number).map_or(0, |file| file.live().len() as u64);
                Entry { name: name.to_owned(), bytes, is_dir: false }
            }
            Node::Directory(_) => Entry { name: name.to_owned(), bytes: 0, is_dir: true },
        });
        Ok(entries.collect())
    }

    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        match state.live.find_file(path) {
            Ok(number) => Ok(state.files.get(&number).map(|file| file.live().len() as u64)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path: Arc<Path> = path.into();
        let (number, open) = self.operate(OperationKind::Create, &path, |state| {
            let number = state.number();
            let change = state.live.insert(&path, Node::File(number))?;
            state.strike(Demand::Names)?;
            let file = SimFile::default();
            let open = Arc::clone(&file.open);
            state.files.insert(number, file);
            state.change(change);
            Ok((number, open))
        })?;
        Ok(Arc::new(SimHandle { disk: self.clone(), number, path, writable: true, _open: open }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.handle(path, true)?)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.handle(path, false)?)
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        Ok(self.handle(path, true)?)
    }

    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>> {
        Ok(Arc::new(SimLockFile { file: self.handle(path, true)?, holds: AtomicBool::new(false) }))
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.operate(OperationKind::Rename { source: source.into() }, &target.into(), |state| {
            let change = state.live.rename(source, target)?;
            state.strike(Demand::Nothing)?;
            if let Some(change) = change {
                state.change(change);
            }
            Ok(())
        })
    }

    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.operate(OperationKind::Link { source: source.into() }, &target.into(), |state| {
            let Node::File(number) = state.live.find(source)? else {
                return Err(ErrorKind::PermissionDenied.into());
            };
            let change = state.live.insert(target, Node::File(number))?;
            state.strike(Demand::Names)?;
            state.change(change);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(OperationKind::Remove, &path.into(), |state| {
            let change = state.live.remove(path)?;
            state.strike(Demand::Nothing)?;
            state.change(change);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.operate(OperationKind::SyncDir, &dir.into(), |state| {
            let directory = state.live.find_directory(dir)?;
            let struck = state.strike(Demand::Sync);
            match &struck {
                Ok(()) => state.sync_dir(directory),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => state.fail_sync_dir(directory),
            }
            struck
        })
    }

    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        let taken = self.operate(OperationKind::Lock, &path.into(), |state| {
            let number = match state.live.find_file(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let number = state.number();
                    let change = state.live.insert(path, Node::File(number))?;
                    state.strike(Demand::Names)?;
                    state.files.insert(number, SimFile::default());
                    state.change(change);
                    number
                }
                found => {
                    state.strike(Demand::Nothing)?;
                    found?
                }
            };
            let (clock, free_bytes) = (state.clock(), state.free_bytes());
            let file = state.files.entry(number).or_default();
            if state.locked.contains(&number) {
                return Ok(Err(LockError::Held { pid: parse_pid(file.live()) }));
            }
            let found = Arc::clone(file.live());
            let (pid, at) = holder_text(&found);
            let end = at + pid.len() as u64;
            if end.saturating_sub(found.len() as u64) <= free_bytes {
                file.write(clock, &pid, at)?;
                file.truncate(clock, end)?;
            }
            let open = Arc::clone(&file.open);
            state.locked.insert(number);
            Ok(Ok((number, found, state.disk.identity_of(number), open)))
        })?;
        let (number, found, identity, open) = taken?;
        self.note(number);
        let held = Held { disk: self.clone(), number, _open: Arc::clone(&open) };
        let file = SimHandle { disk: self.clone(), number, path: path.into(), writable: true, _open: open };
        Ok(Lock::new(Arc::new(file), &found, Some(identity), held))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        match state.live.find_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            found => Ok(state.locked.contains(&found?)),
        }
    }

    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        let number = match state.live.find_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            found => found?,
        };
        let found = state.files.get(&number).map(|file| Arc::clone(file.live())).unwrap_or_default();
        Ok(lock::is_copy(&found, Some(state.disk.identity_of(number))))
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        let state = self.state();
        let number = state.live.find_file(path)?;
        let contents = state.files.get(&number).map(|file| Arc::clone(file.live())).unwrap_or_default();
        Mapping::owned(contents).prefix(bytes)
    }

    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        let directory = self.state().live.find_directory(dir)?;
        Ok(Box::new(self.shared.changes.watch(directory)))
    }
}

impl Directories for SimDisk {
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self.state().live.find(path) {
            Ok(node) => Ok(matches!(node, Node::Directory(_))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        self.operate(OperationKind::MakeDir, &path.into(), |state| {
            let number = state.number();
            let change = state.live.insert(path, Node::Directory(number))?;
            state.strike(Demand::Names)?;
            state.change(change);
            Ok(())
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(path)
    }
}

/// Frees the lock of a file when dropped.
struct Held {
    disk: SimDisk,
    number: u64,
    _open: Arc<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.unlock(self.number);
    }
}

/// An open file.
struct SimHandle {
    disk: SimDisk,
    number: u64,
    path: Arc<Path>,
    writable: bool,
    /// Keeps the file while it has no name.
    _open: Arc<()>,
}

impl SimHandle {
    /// One mutating operation on the file.
    fn operate<T>(
        &self,
        kind: OperationKind,
        body: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let changes_bytes = kind != OperationKind::Sync;
        let result = self.disk.operate(kind, &self.path, body);
        if changes_bytes {
            // A failed write may have written something.
            self.disk.note(self.number);
        }
        result
    }

    /// The file; `_open` keeps it there as long as this handle lives.
    fn file<'a>(&self, state: &'a mut State) -> &'a mut SimFile {
        state.files.entry(self.number).or_default()
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }

    /// Writes what the plan and the room allow.
    fn write(&self, state: &mut State, source: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let (number, clock, free_bytes) = (state.operations(), state.clock(), state.free_bytes());
        let file_bytes = self.file(state).live().len() as u64;
        let end = offset.checked_add(source.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        let grows = end > file_bytes;
        let (written, fault) = match state.plan.strike(number, Demand::Write { grows }) {
            Some(kind @ FaultKind::ShortWrite) => (Chance::new(number).below_usize(source.len()), Some(kind)),
            Some(kind) => (0, Some(kind)),
            None => match usize::try_from(file_bytes.saturating_add(free_bytes).saturating_sub(offset)) {
                Ok(room) if grows && room < source.len() => (room, Some(FaultKind::Full)),
                _ => (source.len(), None),
            },
        };
        let (written, _) = source.split_at(written);
        self.file(state).write(clock, written, offset)?;
        fault.map_or(Ok(()), |kind| Err(kind.error(number)))
    }
}

impl DiskFile for SimHandle {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file(&mut self.disk.state()).live().len() as u64)
    }

    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(contents::read(self.file(&mut self.disk.state()).live(), target, offset))
    }

    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        self.operate(OperationKind::Write { offset, bytes: source.len() }, |state| {
            self.write(state, source, offset)
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.operate(OperationKind::Truncate { bytes }, |state| {
            self.check_writable()?;
            let growth = bytes.saturating_sub(self.file(state).live().len() as u64);
            state.strike(if growth > 0 { Demand::Growth } else { Demand::Nothing })?;
            if growth > state.free_bytes() {
                return Err(FaultKind::Full.error(state.operations()));
            }
            let clock = state.clock();
            self.file(state).truncate(clock, bytes)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.operate(OperationKind::Sync, |state| {
            let struck = state.strike(Demand::Sync);
            let file = self.file(state);
            match &struck {
                Ok(()) => file.sync(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => file.fail_sync(),
            }
            struck
        })
    }
}

impl AppendFile for SimHandle {
    fn append(&self, source: &[u8]) -> io::Result<u64> {
        // Where it begins is known only when the operation has its turn.
        self.operate(OperationKind::Write { offset: 0, bytes: source.len() }, |state| {
            let end = self.file(state).live().len() as u64;
            if let Some(Operation { kind: OperationKind::Write { offset, .. }, .. }) = state.trace.last_mut()
            {
                *offset = end;
            }
            self.write(state, source, end).map(|()| end)
        })
    }
}

/// A file whose lock one holder takes and gives back. That is no operation: it changes nothing on the disk.
struct SimLockFile {
    file: Arc<SimHandle>,
    /// Whether this handle has the lock.
    holds: AtomicBool,
}

impl LockFile for SimLockFile {
    fn try_lock(&self) -> io::Result<bool> {
        let taken = self.file.disk.state().locked.insert(self.file.number);
        self.holds.fetch_or(taken, Ordering::SeqCst);
        Ok(taken)
    }

    fn lock(&self) -> io::Result<()> {
        let disk = &self.file.disk;
        let mut state = disk.state();
        while !state.locked.insert(self.file.number) {
            state = disk.shared.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.holds.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        if self.holds.swap(false, Ordering::SeqCst) {
            self.file.disk.unlock(self.file.number);
        }
        Ok(())
    }
}

impl Drop for SimLockFile {
    fn drop(&mut self) {
        let _ = self.unlock();
    }
}

impl fmt::Debug for SimLockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLockFile")
            .field("path", &self.file.path)
            .field("holds", &self.holds)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let mut debug = f.debug_struct("SimDisk");
        debug.field("files", &state.files.len());
        debug
            .field("operations", &state.operations())
            .field("pending", &state.pending())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("path", &self.path)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}
