//! Feature `serde`: how arrays and typed rows are written. Everything else derives.
//!
//! A row of `#[derive(Schema)]` is a map from the names of its columns and of the built-in ones to their values, as it
//! would be of a struct with these fields. The derive cannot know whether the feature is on, so it calls a macro of this
//! crate, which is empty without it.

/// Arrays of any length as sequences: serde itself knows them up to 32.
#[cfg(feature = "serde")]
pub(crate) mod array {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// For an array that is left out.
    pub(crate) fn defaults<T: Default, const N: usize>() -> [T; N] {
        std::array::from_fn(|_| T::default())
    }

    pub(crate) fn serialize<T: Serialize, S: Serializer, const N: usize>(
        values: &[T; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[T; N], D::Error> {
        let wrong_length =
            |values: Vec<T>| D::Error::invalid_length(values.len(), &format!("{N} values").as_str());
        Vec::deserialize(deserializer)?.try_into().map_err(wrong_length)
    }
}

#[cfg(feature = "serde")]
pub use row::{ColumnNames, deserialize_row, serialize_row};
#[cfg(feature = "serde")]
pub use serde;

#[cfg(feature = "serde")]
mod row {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use serde::{Deserializer, Serializer};

    use crate::event::EventRef;
    use crate::read::event_row::EventRow;

    /// The names of a table's columns, in the order of each role.
    #[derive(Debug, Clone, Copy)]
    pub struct ColumnNames {
        /// The dims.
        pub dims: &'static [&'static str],
        /// The counters.
        pub counters: &'static [&'static str],
        /// The labels.
        pub labels: &'static [&'static str],
    }

    /// Writes a row as a map: the built-in columns, then its own.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize_row<S: Serializer, const D: usize, const C: usize, const L: usize>(
        row: &EventRow<D, C, L>,
        names: ColumnNames,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(8 + D + C + L))?;
        map.serialize_entry("id", row.id())?;
        map.serialize_entry("ts_ns", &row.ts_ns())?;
        map.serialize_entry("metric", &row.metric())?;
        map.serialize_entry("latency_ms", &row.latency_ms())?;
        map.serialize_entry("latency_detail_ms", &row.latency_detail_ms())?;
        map.serialize_entry("status", &row.status())?;
        map.serialize_entry("flags", &row.flags())?;
        map.serialize_entry("sequence", &row.sequence())?;
        for (dim, name) in names.dims.iter().enumerate() {
            map.serialize_entry(name, row.dim(dim))?;
        }
        for (counter, name) in names.counters.iter().enumerate() {
            map.serialize_entry(name, &row.counter(counter))?;
        }
        for (label, name) in names.labels.iter().enumerate() {
            map.serialize_entry(name, row.label(label))?;
        }
        map.end()
    }

    /// Reads a row from such a map. Columns that are not in it are 0 or empty, but the time; others than the table's are
    /// passed over.
    ///
    /// # Errors
    /// Those of the deserializer; a map without `ts_ns`.
    pub fn deserialize_row<'de, De: Deserializer<'de>, const D: usize, const C: usize, const L: usize>(
        names: ColumnNames,
        deserializer: De,
    ) -> Result<EventRow<D, C, L>, De::Error> {
        deserializer.deserialize_map(RowVisitor { names, shape: PhantomData })
    }

    struct RowVisitor<const D: usize, const C: usize, const L: usize> {
        names: ColumnNames,
        shape: PhantomData<EventRow<D, C, L>>,
    }

    impl<'de, const D: usize, const C: usize, const L: usize> Visitor<'de> for RowVisitor<D, C, L> {
        type Value = EventRow<D, C, L>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a map of columns")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut event = EventRef::<D, C, L>::empty();
            let (mut sequence, mut ts_ns) = (0, None);
            let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
            while let Some(name) = map.next_key::<String>()? {
                match name.as_str() {
                    "id" => event.id = map.next_value()?,
                    "ts_ns" => ts_ns = Some(map.next_value()?),
                    "metric" => event.metric = map.next_value()?,
                    "latency_ms" => event.latency_ms = map.next_value()?,
                    "latency_detail_ms" => event.latency_detail_ms = map.next_value()?,
                    "status" => event.status = map.next_value()?,
                    "flags" => event.flags = map.next_value()?,
                    "sequence" => sequence = map.next_value()?,
                    name => {
                        if let Some(dim) = place(self.names.dims, name) {
                            event.dims[dim] = map.next_value()?;
                        } else if let Some(counter) = place(self.names.counters, name) {
                            event.counters[counter] = map.next_value()?;
                        } else if let Some(label) = place(self.names.labels, name) {
                            event.labels[label] = map.next_value()?;
                        } else {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
            }
            event.ts_ns = ts_ns.ok_or_else(|| A::Error::missing_field("ts_ns"))?;
            EventRow::of(sequence, &event).ok_or_else(|| A::Error::custom("the texts have 4 GiB or more"))
        }
    }
}

/// What the derive calls for each row type: nothing without the feature `serde`.
#[cfg(not(feature = "serde"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __serde_of_row {
    ($($any:tt)*) => {};
}

/// What the derive calls for each row type.
#[cfg(feature = "serde")]
#[doc(hidden)]
#[macro_export]
macro_rules! __serde_of_row {
    ($row:ident, dims $dims:expr, counters $counters:expr, labels $labels:expr) => {
        const _: () = {
            const NAMES: $crate::serial::ColumnNames =
                $crate::serial::ColumnNames { dims: &$dims, counters: &$counters, labels: &$labels };

            #[automatically_derived]
            impl $crate::serial::serde::Serialize for $row {
                fn serialize<S: $crate::serial::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    $crate::serial::serialize_row(&self.row, NAMES, serializer)
                }
            }

            #[automatically_derived]
            impl<'de> $crate::serial::serde::Deserialize<'de> for $row {
                fn deserialize<D: $crate::serial::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    ::core::result::Result::Ok($row {
                        row: $crate::serial::deserialize_row(NAMES, deserializer)?,
                    })
                }
            }
        };
    };
}
