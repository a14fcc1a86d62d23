//! An event as callers give it and as they get it back.

use std::array;

/// Sixteen booleans of an event.
///
/// ```
/// use keplordb::EventFlags;
///
/// const STREAMED: EventFlags = EventFlags(0b01);
/// const CACHED: EventFlags = EventFlags(0b10);
/// let flags = STREAMED.with(CACHED);
/// assert!(flags.has(CACHED) && !flags.without(CACHED).has(CACHED));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventFlags(pub u16);

impl EventFlags {
    /// Whether every bit of `flags` is set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and the bits of `flags`.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These less the bits of `flags`.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

/// An event to append: the classic shape, with `D` dims, `C` counters and `L` labels.
///
/// `#[derive(Schema)]` builds it from a struct of your own; programs that work without the derive fill it in.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct LogEvent<const D: usize, const C: usize, const L: usize> {
    /// Names the event for [`Engine::get_event`](crate::Engine::get_event); at most 64 KiB. An empty id is stored, not
    /// indexed.
    #[cfg_attr(feature = "serde", serde(default))]
    pub id: String,
    /// When it happened, in nanoseconds since the Unix epoch; any `i64`, in any order.
    pub ts_ns: i64,
    /// The measure that matters most (a cost, a delay, a size); summed exactly.
    #[cfg_attr(feature = "serde", serde(default))]
    pub metric: i64,
    /// Further measures.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serial::array", default = "crate::serial::array::defaults")
    )]
    pub counters: [u32; C],
    /// How long it took, in milliseconds.
    #[cfg_attr(feature = "serde", serde(default))]
    pub latency_ms: u32,
    /// A part of that, in milliseconds (the time to the first byte, say).
    #[cfg_attr(feature = "serde", serde(default))]
    pub latency_detail_ms: u32,
    /// A status code, as of HTTP.
    #[cfg_attr(feature = "serde", serde(default))]
    pub status: u16,
    /// Sixteen booleans.
    #[cfg_attr(feature = "serde", serde(default))]
    pub flags: EventFlags,
    /// Strings to filter and group by; at most 64 KiB each.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serial::array", default = "crate::serial::array::defaults")
    )]
    pub dims: [String; D],
    /// Strings that are only stored; at most 16 MiB each.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serial::array", default = "crate::serial::array::defaults")
    )]
    pub labels: [String; L],
}

impl<const D: usize, const C: usize, const L: usize> Default for LogEvent<D, C, L> {
    fn default() -> Self {
        Self {
            id: String::new(),
            ts_ns: 0,
            metric: 0,
            counters: [0; C],
            latency_ms: 0,
            latency_detail_ms: 0,
            status: 0,
            flags: EventFlags::default(),
            dims: array::from_fn(|_| String::new()),
            labels: array::from_fn(|_| String::new()),
        }
    }
}

impl<const D: usize, const C: usize, const L: usize> LogEvent<D, C, L> {
    /// The event without its shape in the type, borrowed.
    pub fn as_row(&self) -> RowRef<'_> {
        RowRef {
            id: &self.id,
            ts_ns: self.ts_ns,
            metric: self.metric,
            counters: &self.counters,
            latency_ms: self.latency_ms,
            latency_detail_ms: self.latency_detail_ms,
            status: self.status,
            flags: self.flags,
            dims: &self.dims,
            labels: &self.labels,
        }
    }
}

/// An event to append, borrowed, whatever its shape: what the engine itself works on.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// See [`LogEvent::id`].
    pub id: &'a str,
    /// See [`LogEvent::ts_ns`].
    pub ts_ns: i64,
    /// See [`LogEvent::metric`].
    pub metric: i64,
    /// See [`LogEvent::counters`].
    pub counters: &'a [u32],
    /// See [`LogEvent::latency_ms`].
    pub latency_ms: u32,
    /// See [`LogEvent::latency_detail_ms`].
    pub latency_detail_ms: u32,
    /// See [`LogEvent::status`].
    pub status: u16,
    /// See [`LogEvent::flags`].
    pub flags: EventFlags,
    /// See [`LogEvent::dims`].
    pub dims: &'a [String],
    /// See [`LogEvent::labels`].
    pub labels: &'a [String],
}

/// An event as a query returns it: the same ten fields as [`LogEvent`], owned.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventRef<const D: usize, const C: usize, const L: usize> {
    /// See [`LogEvent::id`].
    pub id: String,
    /// See [`LogEvent::ts_ns`].
    pub ts_ns: i64,
    /// See [`LogEvent::metric`].
    pub metric: i64,
    /// See [`LogEvent::counters`].
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub counters: [u32; C],
    /// See [`LogEvent::latency_ms`].
    pub latency_ms: u32,
    /// See [`LogEvent::latency_detail_ms`].
    pub latency_detail_ms: u32,
    /// See [`LogEvent::status`].
    pub status: u16,
    /// See [`LogEvent::flags`].
    pub flags: EventFlags,
    /// See [`LogEvent::dims`].
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub dims: [String; D],
    /// See [`LogEvent::labels`].
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub labels: [String; L],
}

#[cfg(feature = "serde")]
impl<const D: usize, const C: usize, const L: usize> EventRef<D, C, L> {
    /// All empty or 0.
    pub(crate) fn empty() -> Self {
        let LogEvent {
            id,
            ts_ns,
            metric,
            counters,
            latency_ms,
            latency_detail_ms,
            status,
            flags,
            dims,
            labels,
        } = LogEvent::default();
        Self { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, dims, labels }
    }
}
