//! A line as an event of the program's own type, in one pass over its bytes.
//!
//! The type's `Deserialize` is shown `type` and `data` through a map that listens: it takes what stands beside them, sees whether the tag
//! is one that the type does not know, and checks that the line is an event at all, by the rules of [`Event`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{self, MapAccessDeserializer, MapDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::envelope::Envelope;
use crate::event::Event;
use crate::line_key::{Key, Seen};
use crate::parsed_value::{self, Made};
use crate::rows::Reading;

/// What stands beside an event's data.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) ts: u64,
    /// Only where it was asked for.
    pub(crate) more: Option<Box<More>>,
}

/// What few reducers ask for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct More {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) actor: Option<String>,
    #[serde(default, deserialize_with = "parsed_value::option")]
    pub(crate) meta: Option<Value>,
}

/// Reads a line: its time, and what it is.
pub(crate) fn read_typed<E: DeserializeOwned>(line: &str, with_more: bool) -> (u64, Reading<(E, Beside)>) {
    if let Some(envelope) = Envelope::of(line)
        && let Some(reading) = read_plain(&envelope, with_more)
    {
        return (envelope.ts, reading);
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let read = deserializer
        .deserialize_map(LineVisitor { with_more, event: PhantomData::<E> })
        .and_then(|read| deserializer.end().map(|()| read));
    match read {
        Ok((Some(event), beside)) => (beside.ts, Reading::Event((event, beside))),
        Ok((None, beside)) => (beside.ts, Reading::Unknown),
        Err(error) => read_oddly(line, &error, with_more),
    }
}

/// A line that was taken apart already. `None` if it must be read with more care, to say what is wrong with it for instance.
fn read_plain<E: DeserializeOwned>(envelope: &Envelope<'_>, with_more: bool) -> Option<Reading<(E, Beside)>> {
    let Envelope { kind, data, ts, id, actor } = *envelope;
    let mut map = PlainMap { kind, data: Some(data), next: Next::Type, is_unknown: false };
    let event = match E::deserialize(MapAccessDeserializer::new(&mut map)) {
        Ok(event) if matches!(map.next, Next::End) => event,
        _ if map.is_unknown => {
            return serde_json::from_str::<IgnoredAny>(data).is_ok().then_some(Reading::Unknown);
        }
        _ if is_empty_object(data) => {
            let bare = PlainMap { kind, data: None, next: Next::Type, is_unknown: false };
            E::deserialize(MapAccessDeserializer::new(bare)).ok()?
        }
        _ => return None,
    };
    let own = |text: Option<&str>| text.map(str::to_owned);
    let more = with_more.then(|| Box::new(More { id: own(id), actor: own(actor), meta: None }));
    Some(Reading::Event((event, Beside { ts, more })))
}

/// `type` and `data`, as a line has them.
struct PlainMap<'a> {
    kind: &'a str,
    data: Option<&'a str>,
    next: Next,
    is_unknown: bool,
}

/// What the type is to be given.
enum Next {
    Type,
    TypeValue,
    Data,
    DataValue,
    End,
}

impl<'de> MapAccess<'de> for PlainMap<'de> {
    type Error = PlainError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, PlainError> {
        let key = match (&self.next, self.data) {
            (Next::Type, _) => {
                self.next = Next::TypeValue;
                "type"
            }
            (Next::Data, Some(_)) => {
                self.next = Next::DataValue;
                "data"
            }
            _ => return Ok(None),
        };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, PlainError> {
        match (&self.next, self.data) {
            (Next::TypeValue, _) => {
                self.next = Next::Data;
                let kind = StrDeserializer::<TagError>::new(self.kind);
                seed.deserialize(kind).map_err(|error| {
                    self.is_unknown = matches!(error, TagError::Unknown);
                    PlainError
                })
            }
            (Next::DataValue, Some(data)) => {
                self.next = Next::End;
                let mut data = serde_json::Deserializer::from_str(data);
                let value = seed.deserialize(&mut data).and_then(|value| data.end().map(|()| value));
                value.map_err(|_| PlainError)
            }
            _ => Err(PlainError),
        }
    }
}

/// A type does not take a plain line. What exactly is wrong is found out by the way that is slower.
#[derive(Debug)]
struct PlainError;

impl fmt::Display for PlainError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not as one of this type")
    }
}

impl std::error::Error for PlainError {}

impl Error for PlainError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A line that could not be read in one pass: an array, a variant without fields that was given `{}`, or bad.
fn read_oddly<E: DeserializeOwned>(
    line: &str,
    error: &serde_json::Error,
    with_more: bool,
) -> (u64, Reading<(E, Beside)>) {
    // It is no event for anybody.
    let bad = |error: serde_json::Error| (0, Reading::Bad(error.to_string().into()));
    if line.trim_start().starts_with('[') {
        return match serde_json::from_str::<Event>(line).and_then(|event| serde_json::to_string(&event)) {
            Ok(line) => read_typed(&line, with_more),
            Err(error) => bad(error),
        };
    }
    let Skimmed { kind, ts, .. } = match serde_json::from_str(line) {
        Ok(skimmed) => skimmed,
        Err(error) => return bad(error),
    };
    if has_empty_object(line) {
        let bare = MapDeserializer::<_, value::Error>::new(std::iter::once(("type", &*kind)));
        if let Ok(event) = E::deserialize(bare) {
            let more = match with_more.then(|| serde_json::from_str(line)).transpose() {
                Ok(more) => more,
                Err(error) => return bad(error),
            };
            return (ts, Reading::Event((event, Beside { ts, more })));
        }
    }
    (ts, Reading::Bad(format!("as one of type {kind:?}: {error}").into()))
}

fn is_empty_object(data: &str) -> bool {
    data.strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inside| inside.trim().is_empty())
}

/// Whether the data of an event's line are an object without keys.
fn has_empty_object(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Data {
        // Whether a key's value is one or not: the key is there.
        data: BTreeMap<String, u8>,
    }
    serde_json::from_str(line).is_ok_and(|Data { data }| data.is_empty())
}

/// A line as an [`Event`] would read it, of which little matters.
#[derive(Deserialize)]
struct Skimmed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "data")]
    _data: IgnoredAny,
    ts: u64,
    #[serde(default, rename = "id")]
    _id: Option<AnyText>,
    #[serde(default, rename = "actor")]
    _actor: Option<AnyText>,
    #[serde(default, rename = "meta")]
    _meta: Option<IgnoredAny>,
}

/// Gives the event, or `None` for one of an unknown type, and what stands beside it.
struct LineVisitor<E> {
    with_more: bool,
    event: PhantomData<E>,
}

impl<'de, E: Deserialize<'de>> Visitor<'de> for LineVisitor<E> {
    type Value = (Option<E>, Beside);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let more = self.with_more.then(Box::default);
        let mut line = LineMap {
            map,
            beside: Beside { ts: 0, more },
            seen: Seen::default(),
            is_at_tag: false,
            is_unknown: false,
        };
        let event = match E::deserialize(MapAccessDeserializer::new(&mut line)) {
            Ok(event) => Some(event),
            Err(_) if line.is_unknown => None,
            Err(error) => return Err(error),
        };
        // What the type did not ask for, or had no occasion to.
        while line.next_key::<IgnoredAny>()?.is_some() {
            line.next_value::<IgnoredAny>()?;
        }
        line.seen.check_required()?;
        Ok((event, line.beside))
    }
}

/// The keys of a line, as they pass: only `type` and `data` pass on to the type.
struct LineMap<A> {
    map: A,
    beside: Beside,
    seen: Seen,
    /// Whether the value that comes next is that of `type`.
    is_at_tag: bool,
    is_unknown: bool,
}

impl<'de, A: MapAccess<'de>> LineMap<A> {
    /// Takes the value of a key that is no concern of the type's.
    fn take(&mut self, key: Key) -> Result<(), A::Error> {
        let more = self.beside.more.as_mut();
        match (key, more) {
            (Key::Ts, _) => self.beside.ts = self.map.next_value()?,
            (Key::Id, Some(more)) => more.id = self.map.next_value()?,
            (Key::Actor, Some(more)) => more.actor = self.map.next_value()?,
            (Key::Meta, Some(more)) => {
                more.meta = self.map.next_value::<Option<Made>>()?.map(|Made(meta)| meta);
            }
            (Key::Id | Key::Actor, None) => {
                self.map.next_value::<Option<AnyText>>()?;
            }
            _ => {
                self.map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for LineMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<Key>()? {
            self.seen.see(key)?;
            match key {
                Key::Type | Key::Data => {
                    self.is_at_tag = key == Key::Type;
                    return seed.deserialize(StrDeserializer::new(key.name())).map(Some);
                }
                _ => self.take(key)?,
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        if self.is_at_tag {
            self.map.next_value_seed(Tag { seed, is_unknown: &mut self.is_unknown })
        } else {
            self.map.next_value_seed(seed)
        }
    }
}

/// A text of which only that matters.
struct AnyText;

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = AnyText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_str<R: Error>(self, _: &str) -> Result<AnyText, R> {
                Ok(AnyText)
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Gives the tag to the type, and notes whether it is one that it does not know.
struct Tag<'a, V> {
    seed: V,
    is_unknown: &'a mut bool,
}

impl<'de, V: DeserializeSeed<'de>> DeserializeSeed<'de> for Tag<'_, V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, V: DeserializeSeed<'de>> Visitor<'de> for Tag<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the type of an event, a string")
    }

    fn visit_str<R: Error>(self, tag: &str) -> Result<V::Value, R> {
        self.seed.deserialize(StrDeserializer::<TagError>::new(tag)).map_err(|error| match error {
            TagError::Unknown => {
                *self.is_unknown = true;
                R::custom("an unknown type")
            }
            TagError::Other(why) => R::custom(why),
        })
    }
}

/// Why a type does not take a tag: nothing but the tag can fail with it, so it is not mistaken for an unknown variant in the data.
#[derive(Debug)]
enum TagError {
    Unknown,
    Other(String),
}

impl fmt::Display for TagError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unknown => "an unknown type",
            Self::Other(why) => why,
        })
    }
}

impl std::error::Error for TagError {}

impl Error for TagError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::Other(why.to_string())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", content = "data", rename_all = "snake_case")]
    enum Todo {
        Added { text: String, size: Size },
        Renamed(String),
        Pair(u8, u8),
        Maybe(Option<u32>),
        Cleared,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Size {
        Small,
        Large(u32),
    }

    /// A type that the derive did not make an enum of.
    #[derive(Debug, Deserialize, PartialEq)]
    struct Whole {
        #[serde(rename = "type")]
        kind: String,
        data: Value,
    }

    fn event(line: &str) -> Todo {
        match read_typed(line, false) {
            (7, Reading::Event((event, Beside { ts: 7, more: None }))) => event,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn why(line: &str) -> String {
        match read_typed::<Todo>(line, false).1 {
            Reading::Bad(why) => why.into(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_become_variants_in_whatever_order_the_keys_come() {
        let added = || Todo::Added { text: "a\n\"b\"".to_owned(), size: Size::Large(3) };
        for line in [
            r#"{"type":"added","data":{"text":"a\n\"b\"","size":{"large":3},"new_field":[1,{}]},"ts":7}"#,
            r#"{"ts":7,"id":"x","data":{"size":{"large":3},"text":"a\n\"b\""},"meta":{"k":[]},"type":"added"}"#,
            r#" { "data" : {"text":"a\n\"b\"","size":{"large":3}}, "unknown": 5, "type" : "\u0061dded", "ts" : 7, "actor":null } "#,
            r#"["added",{"text":"a\n\"b\"","size":{"large":3}},7]"#,
        ] {
            assert_eq!(event(line), added(), "{line}");
        }
        assert_eq!(event(r#"{"type":"renamed","data":"new","ts":7}"#), Todo::Renamed("new".to_owned()));
        assert_eq!(event(r#"{"type":"pair","data":[1,2],"ts":7}"#), Todo::Pair(1, 2));
        assert_eq!(event(r#"{"type":"maybe","data":null,"ts":7}"#), Todo::Maybe(None));
        for data in ["null", "{}", "{ }"] {
            assert_eq!(
                event(&format!(r#"{{"type":"cleared","data":{data},"ts":7}}"#)),
                Todo::Cleared,
                "{data}"
            );
        }
    }

    #[test]
    fn unknown_types_are_told_from_unknown_variants_in_the_data() {
        for line in [
            r#"{"type":"deleted","data":{"text":1},"ts":7}"#,
            r#"{"data":{"deep":[[]]},"type":"","ts":7}"#,
            r#"{"ts":7,"type":"Added","data":null}"#,
            r#"["deleted",{},7]"#,
        ] {
            assert!(matches!(read_typed::<Todo>(line, true), (7, Reading::Unknown)), "{line}");
        }
        let why = why(r#"{"type":"added","data":{"text":"a","size":"huge"},"ts":7}"#);
        assert!(why.contains("type \"added\"") && why.contains("unknown variant `huge`"), "{why}");
    }

    #[test]
    fn data_that_does_not_fit_is_told_with_its_type_and_column() {
        assert_eq!(
            why(r#"{"type":"added","data":{"text":5,"size":"small"},"ts":7}"#),
            "as one of type \"added\": invalid type: integer `5`, expected a string at line 1 column 32"
        );
        assert!(why(r#"{"type":"added","data":{"text":"a"},"ts":7}"#).contains("missing field `size`"));
        assert!(why(r#"{"type":"renamed","data":{},"ts":7}"#).contains("type \"renamed\""));
        assert!(why(r#"{"type":"cleared","data":{"x":1},"ts":7}"#).contains("type \"cleared\""));
    }

    /// Whatever its type: a line is an event here exactly if it is one there.
    #[test]
    fn lines_are_events_by_the_same_rules() {
        for line in [
            r#"{"type":"a","data":1,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"id":"x","actor":"y","meta":{}}"#,
            r#"{"type":"a","data":1,"ts":7,"id":null,"actor":null,"meta":null}"#,
            r#"{"type":"a","data":1,"ts":7,"x":1,"x":2}"#,
            r#"{"type":"a","data":1,"ts":7,"id":5}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":["x"]}"#,
            r#"{"type":"a","data":1}"#,
            r#"{"type":"a","ts":7}"#,
            r#"{"data":1,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"ts":8}"#,
            r#"{"type":"a","type":"a","data":1,"ts":7}"#,
            r#"{"type":"a","data":1,"data":1,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"id":"x","id":"x"}"#,
            r#"{"type":"a","data":1,"ts":-7}"#,
            r#"{"type":"a","data":1,"ts":7.5}"#,
            r#"{"type":"a","data":1,"ts":"7"}"#,
            r#"{"type":5,"data":1,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7} x"#,
            r#"{"type":"a","data":1,"ts":7"#,
            r#"{"type":"a","data":{"ts":7}"#,
            r#"{"type":"a","data":nul,"ts":7}"#,
            r#"["a",1,7]"#,
            r#"["a",1]"#,
            r#"["a",1,7,null,null,null]"#,
            "{}",
            "[]",
            "null",
            "5",
            "",
            "not JSON",
        ] {
            let is_event = serde_json::from_str::<Event>(line).is_ok();
            let is_whole = matches!(read_typed::<Whole>(line, false).1, Reading::Event(_));
            let is_passed = matches!(read_typed::<Todo>(line, true).1, Reading::Unknown);
            assert_eq!((is_whole, is_passed), (is_event, is_event), "{line}");
        }
    }

    #[test]
    fn what_stands_beside_the_data_is_kept_where_it_is_asked_for() {
        for data in ["null", "{}"] {
            let line = format!(
                r#"{{"type":"cleared","data":{data},"ts":7,"id":"i","actor":"ü","meta":{{"a":[1]}}}}"#
            );
            let (_, Reading::Event((Todo::Cleared, beside))) = read_typed(&line, true) else {
                panic!("{line}")
            };
            let more = beside.more.unwrap();
            assert_eq!((more.id.as_deref(), more.actor.as_deref()), (Some("i"), Some("ü")));
            assert_eq!(more.meta, Some(serde_json::json!({"a": [1]})));
        }
    }
}
