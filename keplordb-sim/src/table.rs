//! The table that workloads fill: events that follow from their number, and an engine before or after its schema grew.

use keplordb::{
    Budget, Compacted, DbError, Engine, EngineConfig, EventRef, LogEvent, Maintained, Options, QueryFilter,
    RollupKey, RollupValue, Totals,
};

/// An event of the grown table; before it grew, the second dim is empty.
pub type Event = LogEvent<2, 1, 1>;
/// A row as a query returns it.
pub type Row = EventRef<2, 1, 1>;

type NarrowEvent = LogEvent<1, 1, 1>;

/// A tenth of how far the times of neighbouring events lie apart.
const STEP_NS: i64 = 10;

/// The event with this number. Times rise with the numbers, but not strictly; some ids come again; a few labels are longer
/// than a sector.
pub fn event(number: u64, is_wide: bool, label_bytes: usize) -> Event {
    let back = [0, 25, 0, 10][usize::try_from(number % 4).unwrap_or(0)];
    Event {
        id: format!("id {}", number % 37),
        ts_ns: number as i64 * STEP_NS - back,
        metric: number as i64,
        counters: [u32::try_from(number % 7).unwrap_or(0)],
        status: if number.is_multiple_of(5) { 500 } else { 200 },
        dims: [(number % 3).to_string(), if is_wide { (number % 2).to_string() } else { String::new() }],
        labels: ["x".repeat(label_bytes)],
        ..Event::default()
    }
}

/// The number of the event that a row is, if it is one of ours.
pub fn number_of(row: &Row) -> Option<u64> {
    u64::try_from(row.metric).ok()
}

/// An open engine.
#[derive(Debug)]
pub enum Db {
    /// With one dim.
    Narrow(Engine<1, 1, 1>),
    /// With two.
    Wide(Engine<2, 1, 1>),
}

/// The same call on either.
macro_rules! either {
    ($db:expr, $engine:ident => $call:expr) => {
        match $db {
            Db::Narrow($engine) => $call,
            Db::Wide($engine) => $call,
        }
    };
}

impl Db {
    /// Opens the table with one or two dims.
    ///
    /// # Errors
    /// As [`Engine::open_with`].
    pub fn open(is_wide: bool, config: EngineConfig, options: Options) -> Result<Self, DbError> {
        Ok(if is_wide {
            Self::Wide(Engine::open_with(config, options)?)
        } else {
            Self::Narrow(Engine::open_with(config, options)?)
        })
    }

    /// Appends a batch, on disk at once where `durable`.
    ///
    /// # Errors
    /// As [`Engine::append_batch`].
    pub fn append(&self, events: &[Event], durable: bool) -> Result<(), DbError> {
        let narrow: Vec<NarrowEvent>;
        match self {
            Self::Narrow(engine) => {
                narrow = events.iter().map(narrowed).collect();
                match (&narrow[..], durable) {
                    ([event], true) => engine.append_durable(event),
                    ([event], false) => engine.append(event),
                    (events, true) => engine.append_batch_durable(events),
                    (events, false) => engine.append_batch(events),
                }
            }
            Self::Wide(engine) => match (events, durable) {
                ([event], true) => engine.append_durable(event),
                ([event], false) => engine.append(event),
                (events, true) => engine.append_batch_durable(events),
                (events, false) => engine.append_batch(events),
            },
        }
        .map(drop)
    }

    /// All rows, newest first.
    ///
    /// # Errors
    /// As [`Engine::query_recent`].
    pub fn rows(&self) -> Result<Vec<Row>, DbError> {
        self.recent(None, usize::MAX)
    }

    /// The newest rows, with the first dim fixed or not.
    ///
    /// # Errors
    /// As [`Engine::query_recent`].
    pub fn recent(&self, dim: Option<&str>, limit: usize) -> Result<Vec<Row>, DbError> {
        match self {
            Self::Narrow(engine) => {
                let rows = engine.query_recent(&filter(dim), limit)?;
                Ok(rows.into_iter().map(widened).collect())
            }
            Self::Wide(engine) => engine.query_recent(&filter(dim), limit),
        }
    }

    /// Count, sums and extremes, with the first dim fixed or not.
    ///
    /// # Errors
    /// As [`Engine::aggregate`].
    pub fn totals(&self, dim: Option<&str>) -> Result<Totals<1>, DbError> {
        match self {
            Self::Narrow(engine) => engine.aggregate(&filter(dim)),
            Self::Wide(engine) => engine.aggregate(&filter(dim)),
        }
    }

    /// The newest row of an id.
    ///
    /// # Errors
    /// As [`Engine::get_event`].
    pub fn get(&self, id: &str) -> Result<Option<Row>, DbError> {
        match self {
            Self::Narrow(engine) => Ok(engine.get_event(id)?.map(widened)),
            Self::Wide(engine) => engine.get_event(id),
        }
    }

    /// The sums of all days.
    ///
    /// # Errors
    /// As [`Engine::query_rollups`].
    pub fn rollups(&self) -> Result<Vec<(RollupKey, RollupValue<1>)>, DbError> {
        either!(self, engine => engine.query_rollups(i64::MIN, i64::MAX, &[]))
    }

    /// Live rows, by the engine's own count.
    pub fn count(&self) -> u64 {
        either!(self, engine => engine.total_events())
    }

    /// How many files the open has set aside.
    pub fn set_aside(&self) -> usize {
        either!(self, engine => engine.open_report().quarantined.len())
    }

    /// Rows that are in no segment yet.
    pub fn unsealed(&self) -> u64 {
        either!(self, engine => engine.wal_count()).into()
    }

    /// See [`Engine::delete_events`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, ids: &[&str]) -> Result<usize, DbError> {
        either!(self, engine => engine.delete_events(ids))
    }

    /// See [`Engine::sync`].
    ///
    /// # Errors
    /// As there.
    pub fn sync(&self) -> Result<(), DbError> {
        either!(self, engine => engine.sync())
    }

    /// See [`Engine::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&self) -> Result<(), DbError> {
        either!(self, engine => engine.flush().map(drop))
    }

    /// See [`Engine::gc`].
    ///
    /// # Errors
    /// As there.
    pub fn gc(&self, cutoff_ts_ns: i64) -> Result<(), DbError> {
        either!(self, engine => engine.gc(cutoff_ts_ns).map(drop))
    }

    /// See [`Engine::compact`]; all that is due.
    ///
    /// # Errors
    /// As there.
    pub fn compact(&self) -> Result<Compacted, DbError> {
        either!(self, engine => engine.compact(Budget::UNLIMITED))
    }

    /// See [`Engine::maintain`]; all that is due.
    ///
    /// # Errors
    /// As there.
    pub fn maintain(&self) -> Result<Maintained, DbError> {
        either!(self, engine => engine.maintain(Budget::UNLIMITED))
    }

    /// See [`Engine::checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoint(&self, dir: &str) -> Result<(), DbError> {
        either!(self, engine => engine.checkpoint(dir))
    }

    /// See [`Engine::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<(), DbError> {
        either!(self, engine => engine.close())
    }
}

fn filter<const D: usize>(dim: Option<&str>) -> QueryFilter<D> {
    let mut filter = QueryFilter::default();
    if let Some(first) = filter.dims.first_mut() {
        *first = dim.map(str::to_owned);
    }
    filter
}

fn narrowed(event: &Event) -> NarrowEvent {
    let [dim, _] = event.dims.clone();
    NarrowEvent {
        id: event.id.clone(),
        ts_ns: event.ts_ns,
        metric: event.metric,
        counters: event.counters,
        latency_ms: event.latency_ms,
        latency_detail_ms: event.latency_detail_ms,
        status: event.status,
        flags: event.flags,
        dims: [dim],
        labels: event.labels.clone(),
    }
}

fn widened(row: EventRef<1, 1, 1>) -> Row {
    let [dim] = row.dims;
    Row {
        id: row.id,
        ts_ns: row.ts_ns,
        metric: row.metric,
        counters: row.counters,
        latency_ms: row.latency_ms,
        latency_detail_ms: row.latency_detail_ms,
        status: row.status,
        flags: row.flags,
        dims: [dim, String::new()],
        labels: row.labels,
    }
}
