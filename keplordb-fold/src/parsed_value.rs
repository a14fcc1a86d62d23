//! Values made by a parser of JSON as it is, in the place of values that were used before: an object is an object, whatever its keys are
//! called.
//!
//! `serde_json`'s own [`Value`] takes an object whose first key is a certain name for something else, if any crate of the program
//! switched on a feature of it. What a log says must not depend on that, nor on who reads it: whatever becomes of an event's
//! `data` and `meta` is made here.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::plain_value::{keep_first, keep_first_of_array, set_text};

/// Whether numbers come as numbers: a program may have switched on a feature of `serde_json` by which they come as maps that only it
/// can read. Then its own reading is everybody's.
pub(crate) static ARE_NUMBERS_PLAIN: LazyLock<bool> =
    LazyLock::new(|| serde_json::from_str::<Value>("1e999").is_err());

/// For a field of a struct.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Made::deserialize(deserializer).map(|Made(value)| value)
}

/// For a field of a struct that need not be there; `null` is none.
pub(crate) fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Option::<Made>::deserialize(deserializer).map(|made| made.map(|Made(value)| value))
}

/// A new value.
pub(crate) struct Made(pub(crate) Value);

impl<'de> Deserialize<'de> for Made {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !*ARE_NUMBERS_PLAIN {
            return Value::deserialize(deserializer).map(Self);
        }
        let mut value = Value::Null;
        Fill(&mut value).deserialize(deserializer)?;
        Ok(Self(value))
    }
}

/// Makes a value another.
pub(crate) struct Fill<'a>(pub(crate) &'a mut Value);

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_bool<R: Error>(self, value: bool) -> Result<(), R> {
        *self.0 = Value::Bool(value);
        Ok(())
    }

    fn visit_i64<R: Error>(self, value: i64) -> Result<(), R> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_u64<R: Error>(self, value: u64) -> Result<(), R> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_f64<R: Error>(self, value: f64) -> Result<(), R> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_unit<R: Error>(self) -> Result<(), R> {
        *self.0 = Value::Null;
        Ok(())
    }

    fn visit_none<R: Error>(self) -> Result<(), R> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_str<R: Error>(self, text: &str) -> Result<(), R> {
        match self.0 {
            Value::String(target) => set_text(target, text),
            target => *target = Value::String(text.to_owned()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Value::Array(values) = self.0 else {
            let mut values = Vec::new();
            while let Some(Made(value)) = seq.next_element()? {
                values.push(value);
            }
            *self.0 = Value::Array(values);
            return Ok(());
        };
        let mut filled = 0;
        while let Some(value) = values.get_mut(filled) {
            if seq.next_element_seed(Fill(value))?.is_none() {
                break;
            }
            filled += 1;
        }
        if filled < values.len() {
            keep_first_of_array(values, filled);
            return Ok(());
        }
        while let Some(Made(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.0.is_object() {
            *self.0 = Value::Object(Map::new());
        }
        let Value::Object(values) = self.0 else { return Ok(()) };
        // The keys of a log that one program wrote come in the same order time and again: that of the map.
        let mut filled = 0;
        let mut other_key = None;
        for (expected, value) in values.iter_mut() {
            match map.next_key_seed(SameKey(expected))? {
                Some(SeenKey::Same) => map.next_value_seed(Fill(value))?,
                Some(SeenKey::Other(key)) => {
                    other_key = Some(key);
                    break;
                }
                None => break,
            }
            filled += 1;
        }
        keep_first(values, filled);
        if let Some(key) = other_key {
            values.insert(key, map.next_value::<Made>()?.0);
        }
        while let Some((key, Made(value))) = map.next_entry()? {
            values.insert(key, value);
        }
        Ok(())
    }
}

/// Reads a key without making it where it is the expected one.
struct SameKey<'a>(&'a str);

enum SeenKey {
    Same,
    Other(String),
}

impl<'de> DeserializeSeed<'de> for SameKey<'_> {
    type Value = SeenKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SeenKey, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SameKey<'_> {
    type Value = SeenKey;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<R: Error>(self, key: &str) -> Result<SeenKey, R> {
        Ok(if key == self.0 { SeenKey::Same } else { SeenKey::Other(key.to_owned()) })
    }
}
