//! Decoding frames of the archive into blocks of lines, several frames ahead of who takes them.
//!
//! Memory is bounded by blocks, not by frames: at most [`THREADS_MAX`] threads decode, and each holds back when
//! [`BLOCKS_AHEAD`] of its blocks wait to be taken.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::catalog::Known;
use crate::error::FoldError;
use crate::frames::{Archive, FrameText};
use crate::index::Facts;
pub(crate) use crate::lines::LINE_BYTES_MAX;
use crate::lines::{Block, whole_lines_bytes};
use crate::position::Position;

/// A block has about this much, unless one line has more. Parsed, it takes ten times as much, and is to be found in the processor's
/// cache by the fold and again by the parser, which uses it for what comes next: with blocks of 1 MiB folding took twice as long.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// More decode faster than anybody folds.
const THREADS_MAX: usize = 4;

/// How many blocks a thread may be ahead with.
const BLOCKS_AHEAD: usize = 16;

/// A thread is worth its start for frames of this length together: about a millisecond of decoding.
const JOB_BYTES: u64 = 128 << 10;

/// Blocks of consecutive generations of the archive, in order.
pub(crate) struct Ahead {
    archive: Archive,
    jobs: VecDeque<Box<Texts>>,
    running: VecDeque<Running>,
    threads: usize,
}

struct Running {
    blocks: Option<Receiver<io::Result<Block>>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// The lines of these frames, of which the first is of the generation of `from`, from that position on.
    pub(crate) fn new(archive: &Archive, frames: Vec<Known>, from: Position) -> Self {
        let bytes: u64 = frames.iter().map(|known| known.frame.bytes).sum();
        let threads = if bytes < JOB_BYTES {
            0
        } else {
            match thread::available_parallelism() {
                Ok(cores) if cores.get() > 1 => cores.get().min(THREADS_MAX),
                _ => 0,
            }
        };
        let mut jobs = VecDeque::new();
        let mut at = from;
        let (mut job, mut job_bytes) = (Vec::new(), 0);
        for known in frames {
            job_bytes += known.frame.bytes;
            job.push(known);
            if threads > 0 && job_bytes >= JOB_BYTES {
                let next = Position { generation: at.generation + job.len() as u64, offset: 0 };
                jobs.push_back(Box::new(Texts::new(archive, std::mem::take(&mut job), at)));
                (at, job_bytes) = (next, 0);
            }
        }
        if !job.is_empty() {
            jobs.push_back(Box::new(Texts::new(archive, job, at)));
        }
        Self { archive: archive.clone(), jobs, running: VecDeque::new(), threads }
    }

    /// The next block, or nothing behind the last.
    ///
    /// # Errors
    /// `Damaged` if a frame cannot be decoded; then no more blocks come.
    pub(crate) fn next(&mut self) -> io::Result<Option<Block>> {
        loop {
            while self.running.len() < self.threads
                && let Some(job) = self.jobs.pop_front()
            {
                match Running::start(job) {
                    Ok(running) => self.running.push_back(running),
                    // No more threads are to be had: the rest is decoded here.
                    Err(job) => {
                        self.jobs.push_front(job);
                        self.threads = self.running.len();
                    }
                }
            }
            if let Some(running) = self.running.front_mut() {
                match running.next(&self.archive)? {
                    Some(block) => return Ok(Some(block)),
                    None => drop(self.running.pop_front()),
                }
            } else if let Some(job) = self.jobs.front_mut() {
                match job.next()? {
                    Some(block) => return Ok(Some(block)),
                    None => drop(self.jobs.pop_front()),
                }
            } else {
                return Ok(None);
            }
        }
    }
}

impl Running {
    /// Begins to decode, or gives the job back if there is no thread for it.
    fn start(job: Box<Texts>) -> Result<Self, Box<Texts>> {
        // The job goes in by a channel, because a thread that cannot be started would take it along.
        let (give, take) = sync_channel::<Box<Texts>>(1);
        let (blocks, received) = sync_channel(BLOCKS_AHEAD);
        let started = thread::Builder::new().name("keplordb-fold-decode".into()).spawn(move || {
            if let Ok(job) = take.recv() {
                decode(*job, &blocks);
            }
        });
        match started {
            Ok(thread) => match give.send(job) {
                Ok(()) => Ok(Self { blocks: Some(received), thread: Some(thread) }),
                Err(error) => Err(error.0),
            },
            Err(_) => Err(job),
        }
    }

    fn next(&mut self, archive: &Archive) -> io::Result<Option<Block>> {
        if let Some(Ok(block)) = self.blocks.as_ref().map(Receiver::recv) {
            return block.map(Some);
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => {
                let source = io::Error::other("the thread that decodes it died");
                Err(FoldError::Io { step: "decode", file: archive.path().to_owned(), source }.into())
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody takes its blocks any more, so the thread ends with the one that it is at.
        drop(self.blocks.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends all blocks of a job, until there are no more, one is damaged, or nobody wants them.
fn decode(mut job: Texts, blocks: &SyncSender<io::Result<Block>>) {
    while let Some(block) = job.next().transpose() {
        let is_error = block.is_err();
        if blocks.send(block).is_err() || is_error {
            return;
        }
    }
}

/// The lines of consecutive frames, block by block.
struct Texts {
    archive: Archive,
    frames: std::vec::IntoIter<Known>,
    /// The frame that is being decoded, and the decoder of the one before it.
    text: Option<FrameText>,
    /// What the text should turn out to be, where that is known.
    facts: Option<Facts>,
    is_open: bool,
    /// Of the frame that is open, or will be next: where the bytes in `pending` begin.
    at: Position,
    /// How much of its text is still to be passed over.
    skip: u64,
    pending: Vec<u8>,
    /// How much of `pending` is whole lines.
    whole: usize,
}

impl Texts {
    fn new(archive: &Archive, frames: Vec<Known>, from: Position) -> Self {
        Self {
            archive: archive.clone(),
            frames: frames.into_iter(),
            text: None,
            facts: None,
            is_open: false,
            at: from,
            skip: from.offset,
            pending: Vec::new(),
            whole: 0,
        }
    }

    /// The next block. A last line without a newline is passed over, as it was while the log was active.
    fn next(&mut self) -> io::Result<Option<Block>> {
        loop {
            if !self.is_open && !self.open()? {
                return Ok(None);
            }
            let Some(text) = &mut self.text else { return Ok(None) };
            let before = self.pending.len();
            let wanted = text.bytes_hint().clamp(1, BLOCK_BYTES).saturating_sub(before);
            let read = text.read(&mut self.pending, wanted.max(BLOCK_BYTES / 2))?;
            if self.skip > 0 && read > 0 {
                let skipped = self.skip.min(read as u64);
                self.skip -= skipped;
                self.pending.drain(..usize::try_from(skipped).unwrap_or(read));
            }
            if let new @ 1.. = whole_lines_bytes(self.pending.get(before..).unwrap_or_default()) {
                self.whole = before + new;
            }
            let (is_end, at) = (read == 0, self.at);
            if is_end {
                // A frame of another program may have no checksum of its own.
                if self
                    .facts
                    .is_some_and(|facts| facts.text_bytes != text.text_bytes() || facts.hash != text.hash())
                {
                    let what = "the text of the frame is not what archive.index says it was";
                    return Err(self.archive.damaged(text.frame().at, what));
                }
                self.is_open = false;
                self.skip = 0;
                self.at = Position { generation: at.generation + 1, offset: 0 };
            }
            if self.whole > 0 && (is_end || self.pending.len() >= BLOCK_BYTES) {
                let rest = self.pending.split_off(self.whole);
                let block = Block { at, text: std::mem::replace(&mut self.pending, rest) };
                self.whole = 0;
                if is_end {
                    self.pending.clear();
                } else {
                    self.at = block.end();
                }
                return Ok(Some(block));
            }
            if is_end {
                self.pending.clear();
            } else if self.pending.len() > LINE_BYTES_MAX {
                let Position { generation, offset } = at;
                let what =
                    format!("the text of generation {generation} has a line of over 1 GiB at byte {offset}");
                return Err(self.archive.damaged(text.frame().at, what));
            }
        }
    }

    fn open(&mut self) -> io::Result<bool> {
        let Some(Known { frame, facts }) = self.frames.next() else { return Ok(false) };
        self.facts = facts;
        match &mut self.text {
            Some(text) => text.turn_to(frame)?,
            None => self.text = Some(FrameText::new(&self.archive, frame)?),
        }
        self.is_open = true;
        Ok(true)
    }
}
