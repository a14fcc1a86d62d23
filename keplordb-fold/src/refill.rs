//! Reading lines into events that were used before: where one has the shape of the last of its type, nothing is allocated.
//!
//! Parsing an event costs the making of its texts and maps more than anything else, and letting go of them as much again. What
//! comes out is exactly what [`Event`]'s own `Deserialize` makes.

use std::collections::HashMap;
use std::fmt;

use foldhash::fast::RandomState;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::envelope::Envelope;
use crate::event::Event;
use crate::line_key::{Key, Seen};
use crate::parsed_value::{ARE_NUMBERS_PLAIN, Fill, Made};
use crate::plain_value::{self, set_text};
use crate::rows::{Reading, Row};

/// More types than these share their used events.
const TYPES_MAX: usize = 256;

/// Used events of one type beyond these are let go of: as many as two blocks may have.
const SPARE_MAX: usize = 32 * 1024;

/// They change hands between lines, rows and here: a pointer does so quicker than an event.
type Used = Vec<Box<Event>>;

/// Used events, by type.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    by_type: HashMap<Box<str>, Used, RandomState>,
    of_other_types: Used,
}

impl Spares {
    /// Takes back the events of rows, and leaves the rows empty.
    pub(crate) fn take_back(&mut self, rows: &mut Vec<Row<Box<Event>>>) {
        for row in rows.drain(..) {
            if let Reading::Event(event) = row.reading {
                if let Some(kept) = self.by_type.get_mut(&*event.event_type) {
                    if kept.len() < SPARE_MAX {
                        kept.push(event);
                    }
                } else if self.by_type.len() < TYPES_MAX {
                    self.by_type.insert(event.event_type.as_str().into(), vec![event]);
                } else if self.of_other_types.len() < SPARE_MAX {
                    self.of_other_types.push(event);
                }
            }
        }
    }

    /// A line as an event: its time, and what it is.
    pub(crate) fn read(&mut self, line: &str) -> (u64, Reading<Box<Event>>) {
        let envelope = Envelope::of(line);
        let spare = match self.by_type.get_mut(envelope.as_ref().map_or("", |envelope| envelope.kind)) {
            Some(spares) => spares.pop(),
            None => self.of_other_types.pop(),
        };
        let filled = match (envelope, spare) {
            (Some(envelope), spare) if *ARE_NUMBERS_PLAIN => {
                let mut event = spare.unwrap_or_else(empty);
                fill_plain(&mut event, &envelope).map(|()| event)
            }
            (None, Some(mut event)) if *ARE_NUMBERS_PLAIN => fill(&mut event, line).map(|()| event),
            _ => serde_json::from_str(line).map(Box::new),
        };
        // What is no event for the one way may be one for the other: an array is.
        match filled.or_else(|_| serde_json::from_str::<Event>(line).map(Box::new)) {
            Ok(event) => (event.ts, Reading::Event(event)),
            Err(error) => (0, Reading::Bad(error.to_string().into())),
        }
    }
}

fn empty() -> Box<Event> {
    Box::new(Event { event_type: String::new(), data: Value::Null, ts: 0, id: None, actor: None, meta: None })
}

/// Makes an event that of a line which was taken apart.
fn fill_plain(event: &mut Event, envelope: &Envelope<'_>) -> serde_json::Result<()> {
    let Envelope { kind, data, ts, id, actor } = *envelope;
    if !plain_value::fill(&mut event.data, data) {
        let mut deserializer = serde_json::Deserializer::from_str(data);
        Fill(&mut event.data).deserialize(&mut deserializer)?;
        deserializer.end()?;
    }
    set_text(&mut event.event_type, kind);
    event.ts = ts;
    for (target, text) in [(&mut event.id, id), (&mut event.actor, actor)] {
        match text {
            Some(text) => set_text(target.get_or_insert_default(), text),
            None => *target = None,
        }
    }
    event.meta = None;
    Ok(())
}

/// Makes an event that of a line. If it is none, what becomes of the event is anything.
fn fill(event: &mut Event, line: &str) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    deserializer.deserialize_map(EventFiller(event))?;
    deserializer.end()
}

struct EventFiller<'a>(&'a mut Event);

impl<'de> Visitor<'de> for EventFiller<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let event = self.0;
        let mut seen = Seen::default();
        while let Some(key) = map.next_key::<Key>()? {
            seen.see(key)?;
            match key {
                Key::Type => map.next_value_seed(FillText(&mut event.event_type))?,
                Key::Data => map.next_value_seed(Fill(&mut event.data))?,
                Key::Ts => event.ts = map.next_value()?,
                Key::Id => map.next_value_seed(FillOption(&mut event.id))?,
                Key::Actor => map.next_value_seed(FillOption(&mut event.actor))?,
                Key::Meta => event.meta = map.next_value::<Option<Made>>()?.map(|Made(meta)| meta),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        for (key, text) in [(Key::Id, &mut event.id), (Key::Actor, &mut event.actor)] {
            if !seen.has(key) {
                *text = None;
            }
        }
        if !seen.has(Key::Meta) {
            event.meta = None;
        }
        seen.check_required()
    }
}

/// Makes a text another.
struct FillText<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for FillText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FillText<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<R: Error>(self, text: &str) -> Result<(), R> {
        set_text(self.0, text);
        Ok(())
    }
}

/// Makes a text that need not be there another.
struct FillOption<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for FillOption<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FillOption<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or null")
    }

    fn visit_none<R: Error>(self) -> Result<(), R> {
        *self.0 = None;
        Ok(())
    }

    fn visit_unit<R: Error>(self) -> Result<(), R> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(FillText(self.0.get_or_insert_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::plain_value::ROOM_KEPT;
    use crate::rows::Place;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                // Few keys, so that shapes meet again.
                prop::collection::btree_map("[abc]{1,2}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let text = || prop::option::of("[xyü\"]{0,4}");
        ("[ab]", value(), any::<u64>(), text(), text(), prop::option::of(value())).prop_map(
            |(event_type, data, ts, id, actor, meta)| Event { event_type, data, ts, id, actor, meta },
        )
    }

    fn spare(event: &Event) -> Spares {
        let place = Place { start: 0, bytes: 0, end: 0, ts: 0 };
        let mut spares = Spares::default();
        spares.take_back(&mut vec![Row { place, reading: Reading::Event(Box::new(event.clone())) }]);
        spares
    }

    proptest! {
        #[test]
        fn a_used_event_becomes_what_a_new_one_would(used in event(), next in event()) {
            let line = serde_json::to_string(&next).unwrap();
            let expected: Event = serde_json::from_str(&line).unwrap();
            let mut filled = used.clone();
            fill(&mut filled, &line).unwrap();
            prop_assert_eq!(&filled, &expected);
            let (ts, Reading::Event(read)) = spare(&used).read(&line) else { panic!("{line}") };
            prop_assert_eq!((ts, *read), (expected.ts, expected));
        }

        /// Whatever is taken without a parser is what a parser makes of it, also where the JSON was changed in one place.
        #[test]
        fn a_plain_value_is_what_a_parser_makes(
            used in value(),
            next in value(),
            changed in prop::option::of((any::<prop::sample::Index>(), "[-0-9a{}\\[\\]:,\"\\\\ \n]")),
        ) {
            let mut json = next.to_string();
            let is_whole = changed.is_none();
            if let Some((index, text)) = changed {
                let at = index.index(json.len());
                if json.is_char_boundary(at) && json.is_char_boundary(at + 1) {
                    json.replace_range(at..=at, &text);
                }
            }
            let mut filled = used;
            if plain_value::fill(&mut filled, &json) {
                prop_assert_eq!(Some(filled), serde_json::from_str(&json).ok(), "{}", json);
            } else {
                let is_plain = !json.contains(['\\', '.', 'e', 'E', '-', ' ']);
                prop_assert!(!is_whole || !is_plain, "{} is for the quick way", json);
            }
        }
    }

    #[test]
    fn odd_lines_are_read_as_ever() {
        let used = Event {
            event_type: "t".to_owned(),
            data: json!({"a": 1, "b": {"c": [1, 2, 3], "d": "x"}}),
            ts: 1,
            id: Some("i".to_owned()),
            actor: Some("a".to_owned()),
            meta: Some(json!([1])),
        };
        for line in [
            r#"{"type":"t","data":{"a":1,"a":2},"ts":2}"#,
            r#"{"type":"t","data":{"b":1,"a":2},"ts":2}"#,
            r#"{"type":"t","data":{"b":{"d":1,"c":2},"a":2},"ts":2}"#,
            r#"{"type":"t","data":{"a":2,"aa":0,"b":{}},"ts":2,"id":null}"#,
            r#"{"type":"t","data":{},"ts":2,"actor":"x"}"#,
            r#"{"type":"t","data":{"a":1,"b":{"c":[1,[]]}},"ts":2,"meta":null}"#,
            r#"{"type":"t","data":{"b":{"c":[1,2,3,4],"d":"x"}},"ts":2,"meta":{"a":[]}}"#,
            r#"["t",{"a":1},7]"#,
            r#"{"ts":7,"data":null,"type":"t"}"#,
            r#"{"type":"t","data":{"a":1e999},"ts":2}"#,
            r#"{"type":"t","data":{"a":1},"ts":2,"ts":3}"#,
            r#"{"type":"t","data":{"a":1},"ts":2} x"#,
            r#"{"type":"t","data":{"a":1}"#,
            r#"{"type":"t","data":{"a":}}"#,
            r#"{"type":"t","ts":2}"#,
            r#"{"type":"t","data":18446744073709551616,"ts":2,"id":7}"#,
            r#"{"type":"t","data":-0.0,"ts":2}"#,
        ] {
            let expected = serde_json::from_str::<Event>(line);
            match (spare(&used).read(line), expected) {
                ((ts, Reading::Event(read)), Ok(event)) => {
                    assert_eq!((ts, *read), (event.ts, event), "{line}");
                }
                ((0, Reading::Bad(why)), Err(error)) => assert_eq!(*why, error.to_string(), "{line}"),
                (read, expected) => panic!("{line}: {read:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn how_deep_data_may_be_does_not_depend_on_what_was_read_before() {
        for levels in 115..135 {
            let line =
                format!(r#"{{"type":"t","data":{}{},"ts":1}}"#, "[".repeat(levels), "]".repeat(levels));
            let is_event = serde_json::from_str::<Event>(&line).is_ok();
            let used = Event::new("t", json!([[]]));
            for mut spares in [Spares::default(), spare(&used)] {
                assert_eq!(matches!(spares.read(&line).1, Reading::Event(_)), is_event, "{levels}");
            }
        }
    }

    #[test]
    fn deep_data_is_an_error_and_large_data_keeps_no_memory() {
        let deep = format!(r#"{{"type":"t","data":{}{},"ts":1}}"#, "[".repeat(500), "]".repeat(500));
        let used = Event::new("t", json!("x".repeat(1 << 20)));
        assert!(matches!(spare(&used).read(&deep).1, Reading::Bad(_)));
        let mut event = used.clone();
        fill(&mut event, r#"{"type":"t","data":"small","ts":1}"#).unwrap();
        let Value::String(text) = &event.data else { panic!("a text") };
        assert!(text.capacity() <= ROOM_KEPT, "{}", text.capacity());
    }
}
