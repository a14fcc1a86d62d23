//! A source's rows in batches; on a thread of their own, one batch ahead of what is appended.

use std::sync::mpsc::sync_channel;
use std::thread;

use keplordb::any::{AnyBatch, AnyStore};

use super::error::{At, ImportError};
use super::mapping::Row;
use super::reading::{Context, Outcome, Place, Reading};
use super::rejects::Rejection;

/// Bytes of rows after which a batch ends: with [`Import::BATCH_ROWS`](super::Import::BATCH_ROWS) it limits memory, and stays far
/// below what a table takes at once.
const BATCH_BYTES: usize = 16 << 20;

/// Rows of the source that go into the table together.
pub(super) struct Parsed<'a> {
    /// Before the first row.
    pub(super) from: Place,
    /// Behind the last one, and how much of the file was read by then.
    pub(super) to: Place,
    pub(super) file_bytes: u64,
    pub(super) events: AnyBatch<'a>,
    /// The [key](Row::key) of each.
    pub(super) keys: Vec<u64>,
    pub(super) rejections: Vec<Rejection>,
    /// Whether the last rejected row was one more than are allowed; nothing is read behind it.
    pub(super) has_too_many: bool,
}

/// What reads a source.
pub(super) struct Reader<'a> {
    pub(super) reading: Box<dyn Reading>,
    pub(super) store: &'a AnyStore,
    /// The one that was read last.
    pub(super) row: Row,
    pub(super) context: Context<'a>,
    /// The most rows of a batch.
    pub(super) batch_rows: usize,
    /// How many rows may still be rejected.
    pub(super) rejects_left: u64,
}

impl<'a> Reader<'a> {
    /// Reads the rows up to a place.
    pub(super) fn up_to(&mut self, end: u64) -> Result<Parsed<'a>, ImportError> {
        self.read(end, usize::MAX, usize::MAX)
    }

    /// Reads the next batch; it has no rows at the end.
    fn next(&mut self) -> Result<Parsed<'a>, ImportError> {
        self.read(u64::MAX, self.batch_rows, BATCH_BYTES)
    }

    /// Reads rows up to a place, and no more than `rows_max` that can be taken, or than have `bytes_max`.
    fn read(&mut self, end: u64, rows_max: usize, bytes_max: usize) -> Result<Parsed<'a>, ImportError> {
        let place = self.reading.place();
        let mut batch = Parsed {
            from: place,
            to: place,
            file_bytes: 0,
            events: self.store.batch(),
            keys: Vec::new(),
            rejections: Vec::new(),
            has_too_many: false,
        };
        let mut bytes = 0;
        while batch.events.len() < rows_max && bytes < bytes_max && self.reading.place().offset < end {
            match self.reading.next(&self.context, &mut self.row)? {
                Some(Outcome::Taken) => {
                    bytes += self.row.bytes;
                    batch.events.push(&self.row.event)?;
                    batch.keys.push(self.row.key());
                }
                Some(Outcome::Rejected(rejection)) => {
                    bytes += rejection.text.len();
                    batch.rejections.push(rejection);
                    batch.has_too_many = self.rejects_left == 0;
                    self.rejects_left = self.rejects_left.saturating_sub(1);
                    if batch.has_too_many {
                        break;
                    }
                }
                None => break,
            }
        }
        batch.to = self.reading.place();
        batch.file_bytes = self.reading.file_bytes();
        Ok(batch)
    }

    /// Reads all batches that are left on another thread, and gives each to `take`, in their order, while the next one is read; two
    /// of them are in memory at most. The first error ends both.
    pub(super) fn each(
        mut self,
        mut take: impl FnMut(Parsed<'a>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        thread::scope(|scope| {
            // Without room: a batch is handed over when the one before it is done with.
            let (sender, batches) = sync_channel(0);
            let path = self.context.path;
            let read = move || loop {
                let batch = self.next();
                let is_last = batch.as_ref().map_or(true, |batch| batch.is_empty() || batch.has_too_many);
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            };
            let reader = thread::Builder::new().name("keplordb-import".to_owned());
            reader.spawn_scoped(scope, read).at("starting a thread to read", path)?;
            // An error drops the receiver, and so ends the reader.
            for batch in batches {
                let batch = batch?;
                if batch.is_empty() {
                    break;
                }
                take(batch)?;
            }
            Ok(())
        })
    }
}

impl Parsed<'_> {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rejections.is_empty()
    }
}
