//! Tests that all who read a line read the same: a line is an event for each of them or for none, and the same one.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event::{Event, NO_TEXT};
use crate::lines::Block;
use crate::parsed_value::Made;
use crate::position::Position;
use crate::refill::Spares;
use crate::rows::{self, Place, Reading, Row};
use crate::skimmed;
use crate::tail::is_event;
use crate::typed_line::{Beside, read_typed};

/// Keys by which `serde_json`'s own values mean something else, and those that stand in for them where these are to read: the next in
/// order, so that no other comes between.
const SPECIAL: [[&str; 2]; 2] = [
    ["$serde_json::private::RawValue", "$serde_json::private::RawValuf"],
    ["$serde_json::private::Number", "$serde_json::private::Numbes"],
];

fn disguised(text: &str) -> String {
    SPECIAL.iter().fold(text.to_owned(), |text, [special, other]| text.replace(special, other))
}

fn undisguised(text: &str) -> String {
    SPECIAL.iter().fold(text.to_owned(), |text, [special, other]| text.replace(other, special))
}

/// With errors by the same names.
mod own {
    use super::{Deserialize, Serialize, Value};

    /// An event as the derive and `serde_json`'s own values would have it.
    #[derive(Serialize, Deserialize)]
    pub(super) struct Event {
        #[serde(rename = "type")]
        kind: String,
        data: Value,
        ts: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        meta: Option<Value>,
    }
}

/// What a reader of types needs of a line: of data that it does not know it only sees where they end.
#[derive(Deserialize)]
#[serde(bound = "M: DeserializeOwned")]
struct Skimmed<M> {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(rename = "data")]
    _data: IgnoredAny,
    ts: u64,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    meta: Option<M>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Typed {
    A(Value),
    B { a: u64, b: Option<String> },
    Cleared,
}

/// JSON as others may write it: keys in any order and more than once, escapes, blanks, numbers that are none for us.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "0", "-0", "7", "-7", "1.5", "-1e5", "1e999", "18446744073709551615"]),
        select(vec!["18446744073709551616", "-9223372036854775808", r#""""#, r#""a""#, r#""ü ,]}:{[""#]),
        select(vec![r#""\n""#, r#""\u0041\"""#, r#""\ud800""#, "\"\u{7f}\"", r#""\",\"ts\":5""#, r#""[1]""#]),
    ];
    let leaf = prop_oneof![
        leaf.prop_map(str::to_owned),
        any::<f64>().prop_map(|number| json!(number).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    let key = select(vec!["a", "b", "c", "aa", "", r"\u0061", "ts", SPECIAL[0][0], SPECIAL[1][0]]);
    let blank = || select(vec!["", "", "", "", " ", "\t"]);
    leaf.prop_recursive(4, 30, 5, move |inner| {
        let entry = (key.clone(), blank(), inner.clone())
            .prop_map(|(key, blank, value)| format!("\"{key}\"{blank}:{value}"));
        let objects = (prop::collection::vec(entry, 0..5), blank())
            .prop_map(|(entries, blank)| format!("{{{}{blank}}}", entries.join(",")));
        let arrays = (prop::collection::vec(inner, 0..4), blank())
            .prop_map(|(values, blank)| format!("[{blank}{}]", values.join(",")));
        prop_oneof![arrays, objects]
    })
}

fn text() -> impl Strategy<Value = String> {
    select(vec![r#""""#, r#""a""#, r#""ü""#, r#""x\n""#, r#""\u0061""#, r#""\ud800""#, "null", "5"])
        .prop_map(str::to_owned)
}

fn kind() -> impl Strategy<Value = String> {
    select(vec![r#""a""#, r#""b""#, r#""cleared""#, r#""c""#, r#""\u0061""#]).prop_map(str::to_owned)
}

fn ts() -> impl Strategy<Value = String> {
    let odd = select(vec!["07", "00", "-7", "7.5", "7e1", "18446744073709551615", "18446744073709551616"]);
    prop_oneof![9 => any::<u64>().prop_map(|ts| ts.to_string()), 1 => odd.prop_map(str::to_owned)]
}

/// As an event is written: that is how most lines are.
fn written_line() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        4 => json_text(),
        1 => select(vec!["{}", "null", r#"{"a":1,"b":"x"}"#, r#"{"a":1}"#]).prop_map(str::to_owned),
    ];
    let beside = || prop::option::of(text());
    let meta = prop::option::weighted(0.2, json_text());
    (kind(), data, ts(), beside(), beside(), meta).prop_map(|(kind, data, ts, id, actor, meta)| {
        let beside = [("id", id), ("actor", actor), ("meta", meta)].into_iter();
        let beside = beside.filter_map(|(key, value)| value.map(|value| format!(",\"{key}\":{value}")));
        let beside: Vec<String> = beside.collect();
        format!("{{\"type\":{kind},\"data\":{data},\"ts\":{ts}{}}}", beside.concat())
    })
}

/// The keys of an event in any order, more than once, or not there.
fn odd_line() -> impl Strategy<Value = String> {
    let entry = prop_oneof![
        kind().prop_map(|kind| format!("\"type\":{kind}")),
        json_text().prop_map(|data| format!("\"data\":{data}")),
        ts().prop_map(|ts| format!("\"ts\":{ts}")),
        text().prop_map(|id| format!("\"id\":{id}")),
        json_text().prop_map(|meta| format!("\"meta\":{meta}")),
        json_text().prop_map(|value| format!("\"other\":{value}")),
    ];
    let needed = (kind(), json_text(), ts()).prop_map(|(kind, data, ts)| {
        vec![format!("\"typ\\u0065\": {kind}"), format!("\"data\" :{data}"), format!(" \"ts\":{ts} ")]
    });
    let entries = (needed, prop::collection::vec(entry, 0..3))
        .prop_map(|(mut entries, more)| {
            entries.extend(more);
            entries
        })
        .prop_shuffle();
    entries.prop_map(|entries| format!("{{{}}}", entries.join(",")))
}

/// A change of a line: `what` is put in the place of a character, or before it, or a piece of the line itself is.
#[derive(Debug, Clone)]
struct Edit {
    at: Index,
    end: Index,
    what: &'static str,
    kind: u8,
}

fn edit() -> impl Strategy<Value = Edit> {
    let what = select(vec![
        "",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "0",
        "7",
        "-",
        ".",
        "e",
        " ",
        "a",
        "\u{1}",
        "ü",
        "{}",
        ",\"id\":\"x\"",
        ",\"ts\":5",
        ",\"actor\":\"y\"",
        ",\"meta\":{}",
        "\\u0000",
        "\\ud800",
        "null",
    ]);
    (any::<Index>(), any::<Index>(), what, 0..3_u8).prop_map(|(at, end, what, kind)| Edit {
        at,
        end,
        what,
        kind,
    })
}

impl Edit {
    fn apply(&self, line: &mut String) {
        let places: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
        let place = |index: &Index| index.index(places.len());
        let (at, end) = (place(&self.at), place(&self.end));
        match self.kind {
            0 => line.replace_range(places[at]..places[(at + 1).min(places.len() - 1)], self.what),
            1 => line.insert_str(places[at], self.what),
            _ => {
                let piece = line[places[at.min(end)]..places[at.max(end)]].to_owned();
                line.insert_str(places[end], &piece);
            }
        }
    }
}

fn line() -> impl Strategy<Value = String> {
    let line = prop_oneof![3 => written_line(), 1 => odd_line()];
    let line = (line, prop::collection::vec(edit(), 0..=3)).prop_map(|(mut line, edits)| {
        for edit in &edits {
            edit.apply(&mut line);
        }
        line
    });
    // An edit may make one; what it stands for could not be told from it.
    line.prop_filter("a key that stands in", |line| SPECIAL.iter().all(|[_, other]| !line.contains(other)))
}

/// Lines of which some have a byte that no text has there.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let odd = (any::<Index>(), select(vec![0xff, 0xfc, 0xc3, 0x80]));
    (line(), prop::option::weighted(0.3, odd)).prop_map(|(line, odd)| {
        let mut bytes = line.into_bytes();
        if let Some((at, byte)) = odd {
            bytes.insert(at.index(bytes.len() + 1), byte);
        }
        bytes
    })
}

fn spare(event: &Event) -> Spares {
    let place = Place { start: 0, bytes: 0, end: 0, ts: 0 };
    let mut spares = Spares::default();
    spares.take_back(&mut vec![Row { place, reading: Reading::Event(Box::new(event.clone())) }]);
    spares
}

/// What a line is, or why it is no event. Text, as that tells 0 from -0 and one order from another.
fn with_spares(mut spares: Spares, line: &[u8]) -> Result<String, String> {
    let block = Block { at: Position::default(), text: [line, b"\n"].concat() };
    let mut rows = Vec::new();
    rows::parse(&block, &mut rows, |line| spares.read(line));
    assert_eq!(rows.len(), 1, "{}", line.escape_ascii());
    match rows.pop().map(|row| (row.place.ts, row.reading)) {
        Some((ts, Reading::Event(event))) => {
            assert_eq!(ts, event.ts, "{}", line.escape_ascii());
            Ok(serde_json::to_string(&event).unwrap())
        }
        Some((0, Reading::Bad(why))) => Err(why.into()),
        read => panic!("{}: {read:?}", line.escape_ascii()),
    }
}

fn as_one<T: Serialize + DeserializeOwned>(line: &str) -> Result<String, String> {
    serde_json::from_str::<T>(line)
        .map(|event| serde_json::to_string(&event).unwrap())
        .map_err(|error| error.to_string())
}

fn check_events(line: &[u8], used: &Event) {
    let shown = line.escape_ascii();
    let expected = str::from_utf8(line).map_err(|_| NO_TEXT.to_owned()).and_then(|line| {
        let expected = match as_one::<own::Event>(&disguised(line)) {
            Ok(event) => Ok(undisguised(&event)),
            Err(why) => Err(undisguised(&why)),
        };
        assert_eq!(as_one::<Event>(line), expected, "{line}");
        expected
    });
    let of_line = Event::of_line(line).map(|event| serde_json::to_string(&event).unwrap());
    assert_eq!(of_line.map_err(|error| error.to_string()), expected, "{shown}");
    assert_eq!(is_event(line), expected.is_ok(), "{shown}");
    let skimmed = skimmed::Skimmed::of_line(line);
    assert!(skimmed.is_some() || expected.is_err(), "{shown}");
    if let (Some(skimmed), Ok(event)) = (skimmed, Event::of_line(line)) {
        assert_eq!(skimmed.event_type, event.event_type, "{shown}");
        assert_eq!(
            (skimmed.id.as_deref(), skimmed.actor.as_deref()),
            (event.id.as_deref(), event.actor.as_deref())
        );
    }
    for spares in
        [Spares::default(), spare(used), spare(&Event { event_type: "a".to_owned(), ..used.clone() })]
    {
        assert_eq!(with_spares(spares, line), expected, "{shown} in the place of {used:?}");
    }
}

/// What the type's own `Deserialize` says, by the rules of an event's line.
fn typed<M: DeserializeOwned>(line: &str) -> (u64, Result<Option<Typed>, String>) {
    let bad = |error: serde_json::Error| (0, Err(error.to_string()));
    if line.trim_start().starts_with('[') {
        return match serde_json::from_str::<Event>(line) {
            Ok(event) => typed::<M>(&serde_json::to_string(&event).unwrap()),
            Err(error) => bad(error),
        };
    }
    let needed: Skimmed<M> = match serde_json::from_str(line) {
        Ok(needed) => needed,
        Err(error) => return bad(error),
    };
    let kind = needed.event_type;
    let read = match serde_json::from_str::<Typed>(line) {
        _ if !["a", "b", "cleared"].contains(&&*kind) => Ok(None),
        Err(_) if kind == "cleared" && is_empty_object(line) => Ok(Some(Typed::Cleared)),
        read => read.map(Some).map_err(|error| format!("as one of type {kind:?}: {error}")),
    };
    (needed.ts, read)
}

fn is_empty_object(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Data {
        data: Value,
    }
    serde_json::from_str(line).is_ok_and(|Data { data }| data == json!({}))
}

fn check_typed(line: &str) {
    let read = |with_more| match read_typed::<Typed>(line, with_more) {
        (ts, Reading::Event((event, beside))) => {
            assert_eq!(ts, beside.ts, "{line}");
            (ts, Ok(Some(event)), Some(beside))
        }
        (ts, Reading::Unknown) => (ts, Ok(None), None),
        (ts, Reading::Bad(why)) => (ts, Err(why.into()), None),
    };
    let (ts, event, _) = read(false);
    let expected = typed::<IgnoredAny>(line);
    if matches!(expected, (_, Ok(None))) && serde_json::from_str::<Event>(line).is_err() {
        // No event, of a type that is not known: where the data come first, that is seen; else they are only skimmed.
        assert!(!matches!(event, Ok(Some(_))), "{line}");
        return;
    }
    assert_eq!((ts, event), expected, "{line}");
    let (_, event, beside) = read(true);
    let (_, expected) = typed::<Made>(line);
    assert_eq!(event.is_ok(), expected.is_ok(), "{line}: {event:?}, not {expected:?}");
    if let Some(Beside { more: Some(more), .. }) = beside
        && !line.trim_start().starts_with('[')
    {
        let Skimmed { id, actor, meta, .. } =
            serde_json::from_str::<Skimmed<Value>>(&disguised(line)).unwrap();
        assert_eq!((&more.id, &more.actor), (&id, &actor), "{line}");
        assert_eq!(json!(more.meta).to_string(), undisguised(&json!(meta).to_string()), "{line}");
    }
}

fn used() -> impl Strategy<Value = Event> {
    (json_text(), kind(), prop::option::of(json_text())).prop_filter_map("JSON", |(data, kind, meta)| {
        let meta = meta.and_then(|meta| serde_json::from_str(&disguised(&meta)).ok());
        let data = serde_json::from_str(&disguised(&data)).ok()?;
        let event_type = serde_json::from_str(&kind).ok()?;
        Some(Event { event_type, meta, actor: Some("z".to_owned()), ..Event::new("", data) })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_line_is_the_same_event_for_all_who_read_it(line in bytes(), used in used()) {
        check_events(&line, &used);
    }

    #[test]
    fn a_line_is_the_same_event_of_a_type_as_by_its_own_deserialize(line in line()) {
        check_typed(&line);
    }
}

#[test]
fn a_line_that_is_not_text_is_no_event_whatever_the_value_that_is_not() {
    let used = Event::new("t", json!(1));
    for value in [&b"\"M\xfcnchen\""[..], b"{\"a\":[\"\xff\"]}", b"[{\"\xc3\":1}]", b"\"\xed\xa0\x80\""] {
        for key in ["other", "data", "meta", "id"] {
            let before = format!("{{\"type\":\"t\",\"ts\":1,\"{key}\":");
            let data = if key == "data" { "" } else { ",\"data\":0" };
            let line = [before.as_bytes(), value, data.as_bytes(), b"}"].concat();
            check_events(&line, &used);
            assert!(Event::of_line(&line).is_err(), "{}", line.escape_ascii());
        }
    }
}

#[test]
fn an_object_is_an_object_whatever_its_keys() {
    let used = Event::new("t", json!({"a": {"x": 1}, "x": "y"})).with_meta(json!({"a": [{}]}));
    for [key, _] in SPECIAL {
        for value in ["1", r#""[1]""#, r#""no JSON""#, "{}", "null"] {
            let object = format!("{{\"{key}\":{value}}}");
            for data in [
                object.clone(),
                format!("{{\"a\":{object},\"x\":\"y\"}}"),
                format!("{{\"x\":\"\\n\",\"a\":{object}}}"),
                format!("[1.5,[{object}],{object}]"),
                format!("{{\"{key}\":{object},\"z\":2}}"),
            ] {
                for line in [
                    format!("{{\"type\":\"t\",\"data\":{data},\"ts\":1}}"),
                    format!("{{\"type\":\"t\",\"data\":0,\"ts\":1,\"meta\":{data}}}"),
                    format!("{{\"type\":\"t\",\"data\":{data},\"ts\":1,\"meta\":{data}}}"),
                    format!("[\"t\",{data},1]"),
                ] {
                    check_events(line.as_bytes(), &used);
                    assert!(serde_json::from_str::<Event>(&line).is_ok(), "{line}");
                    check_typed(&line);
                }
            }
        }
    }
}

/// A value in a state, or in a type of a program's own, is read by `serde_json` itself: what its features make of an object is then for
/// the program to choose. (Here, in tests, it is on.)
#[test]
fn no_program_gets_the_feature_by_which_an_object_is_read_as_something_else() {
    let manifest = include_str!("../Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (own, for_tests) = rest.split_once("\n[dev-dependencies]\n").unwrap();
    let features = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("serde_json")).unwrap();
        ["raw_value", "arbitrary_precision"].map(|feature| line.contains(feature))
    };
    assert_eq!((features(own), features(for_tests)), ([false; 2], [true, false]));
}
