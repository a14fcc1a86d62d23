//! An event to append, column by column.

use std::sync::Arc;

use super::columns::{Columns, Slot, is_same};
use super::value::Value;
use crate::engine::encoded_bytes;
use crate::error::{DbError, Result};
use crate::event::{EventFlags, RowRef};

/// An event on its way in; made by [`AnyStore::event`](crate::any::AnyStore::event). Columns that are not set are 0 or
/// empty; an event whose id is not set gets one when it is appended.
#[derive(Debug, Clone)]
#[must_use = "an event is stored when it is appended"]
pub struct AnyEvent {
    columns: Arc<Columns>,
    id: String,
    /// Otherwise one is to be made; an empty one may have been asked for.
    has_id: bool,
    ts_ns: i64,
    metric: i64,
    latency_ms: u32,
    latency_detail_ms: u32,
    status: u16,
    flags: u16,
    counters: Vec<u32>,
    dims: Vec<String>,
    labels: Vec<String>,
}

impl AnyEvent {
    pub(super) fn new(columns: &Arc<Columns>, ts_ns: i64) -> Self {
        let shape = columns.shape();
        Self {
            columns: Arc::clone(columns),
            id: String::new(),
            has_id: false,
            ts_ns,
            metric: 0,
            latency_ms: 0,
            latency_detail_ms: 0,
            status: 0,
            flags: 0,
            counters: vec![0; shape.counters],
            dims: vec![String::new(); shape.dims],
            labels: vec![String::new(); shape.labels],
        }
    }

    /// Sets a column by its name.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn) names the columns that there are; [`Invalid`](DbError::Invalid) for a value
    /// that the column cannot hold, and for the sequence, which the engine gives.
    pub fn set<'v>(self, column: &str, value: impl Into<Value<'v>>) -> Result<Self> {
        let position = self.columns.position(column)?;
        self.set_at(position, value)
    }

    /// Sets a column by its position in [`columns`](crate::any::AnyStore::columns): where many events are made, each name
    /// is looked up once, by [`position`](crate::any::AnyStore::position).
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid), as [`set`](Self::set), and for a position beyond the last.
    pub fn set_at<'v>(mut self, position: usize, value: impl Into<Value<'v>>) -> Result<Self> {
        self.put_at(position, value.into())?;
        Ok(self)
    }

    /// Sets a column by its position, in place; a refused value changes nothing. See [`AnyBatch`](crate::any::AnyBatch), for which one
    /// event after the other is made in the same memory.
    ///
    /// # Errors
    /// As [`set_at`](Self::set_at).
    pub fn put_at(&mut self, position: usize, value: Value<'_>) -> Result<()> {
        let column = self.columns.at(position)?;
        match column.slot {
            Slot::TsNs => self.ts_ns = column.int(&value)?,
            Slot::Id => {
                column.text(value, &mut self.id)?;
                self.has_id = true;
            }
            Slot::Metric => self.metric = column.int(&value)?,
            Slot::LatencyMs => self.latency_ms = column.int(&value)?,
            Slot::LatencyDetailMs => self.latency_detail_ms = column.int(&value)?,
            Slot::Status => self.status = column.int(&value)?,
            Slot::Flags => self.flags = column.int(&value)?,
            Slot::Sequence => {
                return Err(DbError::invalid("sequence", "the engine gives it when the event is appended"));
            }
            Slot::Dim(dim) => column.text(value, &mut self.dims[dim])?,
            Slot::Counter(counter) => self.counters[counter] = column.int(&value)?,
            Slot::Label(label) => column.text(value, &mut self.labels[label])?,
        }
        Ok(())
    }

    /// Makes it an event of this time, in nanoseconds since the Unix epoch, in which nothing else is set; the memory is kept.
    pub fn reset(&mut self, ts_ns: i64) {
        self.has_id = false;
        self.id.clear();
        self.ts_ns = ts_ns;
        (self.metric, self.latency_ms, self.latency_detail_ms, self.status, self.flags) = (0, 0, 0, 0, 0);
        self.counters.fill(0);
        self.dims.iter_mut().chain(&mut self.labels).for_each(String::clear);
    }

    /// About what it takes in the log, in bytes, and what the limits of events and batches count:
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) and [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES). An id that is still to be made
    /// adds some twenty.
    pub fn bytes(&self) -> usize {
        encoded_bytes(&self.row())
    }

    pub(super) fn has_id(&self) -> bool {
        self.has_id
    }

    /// Makes an id unless one was set.
    pub(super) fn fill_id(&mut self, make: impl FnOnce(i64) -> String) {
        if !self.has_id {
            self.id = make(self.ts_ns);
            self.has_id = true;
        }
    }

    /// Refuses events that were made for other columns.
    pub(super) fn check_is_of(&self, columns: &Arc<Columns>) -> Result<()> {
        if is_same(&self.columns, columns) {
            return Ok(());
        }
        Err(DbError::invalid(
            "event",
            "it was made for a table of other columns; make it by this store's event()",
        ))
    }

    /// With an empty id where none was set.
    pub(super) fn row(&self) -> RowRef<'_> {
        RowRef {
            id: &self.id,
            ts_ns: self.ts_ns,
            metric: self.metric,
            counters: &self.counters,
            latency_ms: self.latency_ms,
            latency_detail_ms: self.latency_detail_ms,
            status: self.status,
            flags: EventFlags(self.flags),
            dims: &self.dims,
            labels: &self.labels,
        }
    }
}
