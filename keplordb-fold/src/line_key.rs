//! The keys of an event's line, and which of them a line has.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The keys of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Type,
    Data,
    Ts,
    Id,
    Actor,
    Meta,
    Other,
}

impl Key {
    fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Data => "data",
            Self::Ts => "ts",
            Self::Id => "id",
            Self::Actor => "actor",
            Self::Meta => "meta",
            Self::Other => "another",
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_str<R: Error>(self, key: &str) -> Result<Key, R> {
                Ok(match key {
                    "type" => Key::Type,
                    "data" => Key::Data,
                    "ts" => Key::Ts,
                    "id" => Key::Id,
                    "actor" => Key::Actor,
                    "meta" => Key::Meta,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

/// The keys that a line has had so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen(u8);

impl Seen {
    /// Notes a key: an error if it is there again, and one of an event's.
    pub(crate) fn see<R: Error>(&mut self, key: Key) -> Result<(), R> {
        if key != Key::Other && self.has(key) {
            return Err(R::duplicate_field(key.name()));
        }
        self.0 |= key.bit();
        Ok(())
    }

    pub(crate) fn has(self, key: Key) -> bool {
        self.0 & key.bit() != 0
    }

    /// An error if a key is missing that every event has.
    pub(crate) fn check_required<R: Error>(self) -> Result<(), R> {
        let missing = [Key::Type, Key::Data, Key::Ts].into_iter().find(|key| !self.has(*key));
        missing.map_or(Ok(()), |key| Err(R::missing_field(key.name())))
    }
}
