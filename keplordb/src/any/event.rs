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
    /// `None` is to be made; an empty one was asked for.
    id: Option<String>,
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
            id: None,
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
        let column = self.columns.at(position)?;
        let value = value.into();
        match column.slot {
            Slot::TsNs => self.ts_ns = column.int(&value)?,
            Slot::Id => self.id = Some(column.text(value)?),
            Slot::Metric => self.metric = column.int(&value)?,
            Slot::LatencyMs => self.latency_ms = column.int(&value)?,
            Slot::LatencyDetailMs => self.latency_detail_ms = column.int(&value)?,
            Slot::Status => self.status = column.int(&value)?,
            Slot::Flags => self.flags = column.int(&value)?,
            Slot::Sequence => {
                return Err(DbError::invalid("sequence", "the engine gives it when the event is appended"));
            }
            Slot::Dim(dim) => self.dims[dim] = column.text(value)?,
            Slot::Counter(counter) => self.counters[counter] = column.int(&value)?,
            Slot::Label(label) => self.labels[label] = column.text(value)?,
        }
        Ok(self)
    }

    /// About what it takes in the log, in bytes, and what the limits of events and batches count:
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) and [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES). An id that is still to be made
    /// adds some twenty.
    pub fn bytes(&self) -> usize {
        encoded_bytes(&self.row())
    }

    /// Makes an id unless one was set.
    pub(super) fn fill_id(&mut self, make: impl FnOnce(i64) -> String) {
        let ts_ns = self.ts_ns;
        self.id.get_or_insert_with(|| make(ts_ns));
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

    pub(super) fn row(&self) -> RowRef<'_> {
        RowRef {
            id: self.id.as_deref().unwrap_or_default(),
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
