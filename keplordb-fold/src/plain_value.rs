//! Values made of JSON as it is mostly written, in the place of values that were used before: nothing is allocated where the shape is
//! the same.
//!
//! Recognised are texts without escapes, whole numbers, and no spaces; whatever else JSON may be is left to the parser. So nothing
//! is decided here about what is JSON and what not.

use serde_json::{Map, Value};

use crate::envelope::{number, plain_text};

/// Room for so much more than is needed is kept, in bytes or values, so that one large event does not keep its memory for good.
pub(crate) const ROOM_KEPT: usize = 256;

/// Makes a value that of this JSON. If it returns `false` a parser has to look, and what became of the value is anything.
///
/// Goes as deep as the text has brackets one in another: the caller limits them.
pub(crate) fn fill(value: &mut Value, json: &str) -> bool {
    next(value, json).is_some_and(str::is_empty)
}

/// Makes a text another.
pub(crate) fn set_text(target: &mut String, text: &str) {
    if target.capacity() > text.len() + ROOM_KEPT {
        text.clone_into(target);
        target.shrink_to_fit();
    } else {
        target.clear();
        target.push_str(text);
    }
}

/// Leaves an object its first so many values.
pub(crate) fn keep_first(values: &mut Map<String, Value>, count: usize) {
    if count < values.len() {
        *values = std::mem::take(values).into_iter().take(count).collect();
    }
}

/// Leaves an array its first so many values.
pub(crate) fn keep_first_of_array(values: &mut Vec<Value>, count: usize) {
    if count < values.len() {
        values.truncate(count);
        values.shrink_to(count + ROOM_KEPT);
    }
}

/// Makes a value that of the JSON at the beginning of a text, and returns what follows.
fn next<'a>(value: &mut Value, json: &'a str) -> Option<&'a str> {
    match json.as_bytes().first()? {
        b'"' => {
            let (text, rest) = plain_text(json.get(1..)?)?;
            match value {
                Value::String(target) => set_text(target, text),
                target => *target = Value::String(text.to_owned()),
            }
            Some(rest)
        }
        b'0'..=b'9' => {
            let (number, rest) = number(json)?;
            *value = number.into();
            Some(rest)
        }
        b'-' => {
            let (number, rest) = number(json.get(1..)?)?;
            // A parser makes -0 a fraction.
            let number = i64::try_from(number).ok().filter(|number| *number > 0)?;
            *value = (-number).into();
            Some(rest)
        }
        b'{' => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            next_object(value.as_object_mut()?, json.get(1..)?)
        }
        b'[' => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            next_array(value.as_array_mut()?, json.get(1..)?)
        }
        _ => {
            let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
            words.into_iter().find_map(|(word, meaning)| {
                let rest = json.strip_prefix(word)?;
                *value = meaning;
                Some(rest)
            })
        }
    }
}

/// Likewise an object, behind its bracket.
fn next_object<'a>(values: &mut Map<String, Value>, json: &'a str) -> Option<&'a str> {
    if let Some(rest) = json.strip_prefix('}') {
        values.clear();
        return Some(rest);
    }
    // The keys of a log that one program wrote come in the same order time and again: that of the map.
    let mut rest = json;
    let mut filled = 0;
    for (expected, value) in values.iter_mut() {
        let (key, behind) = next_key(rest)?;
        if key != expected {
            break;
        }
        filled += 1;
        let is_last;
        (is_last, rest) = next_or_end(next(value, behind)?, '}')?;
        if is_last {
            keep_first(values, filled);
            return Some(rest);
        }
    }
    keep_first(values, filled);
    loop {
        let (key, behind) = next_key(rest)?;
        let mut value = Value::Null;
        let is_last;
        (is_last, rest) = next_or_end(next(&mut value, behind)?, '}')?;
        values.insert(key.to_owned(), value);
        if is_last {
            return Some(rest);
        }
    }
}

/// Likewise an array.
fn next_array<'a>(values: &mut Vec<Value>, json: &'a str) -> Option<&'a str> {
    if let Some(rest) = json.strip_prefix(']') {
        keep_first_of_array(values, 0);
        return Some(rest);
    }
    let mut rest = json;
    let mut filled = 0;
    loop {
        if filled == values.len() {
            values.push(Value::Null);
        }
        let is_last;
        (is_last, rest) = next_or_end(next(values.get_mut(filled)?, rest)?, ']')?;
        filled += 1;
        if is_last {
            keep_first_of_array(values, filled);
            return Some(rest);
        }
    }
}

/// A key with its colon, and what follows.
fn next_key(json: &str) -> Option<(&str, &str)> {
    let (key, rest) = plain_text(json.strip_prefix('"')?)?;
    Some((key, rest.strip_prefix(':')?))
}

/// Whether it is the last value, and what follows: behind a comma the next one must be there.
fn next_or_end(json: &str, end: char) -> Option<(bool, &str)> {
    match json.strip_prefix(',') {
        Some(rest) => Some((false, rest)),
        None => Some((true, json.strip_prefix(end)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used() -> Vec<Value> {
        ["null", "[1,[2],{}]", r#""text""#, r#"{"a":1,"b":{"a":[true]}}"#, r#"{"a\"b":1,"c":2}"#]
            .map(|json| serde_json::from_str(json).unwrap())
            .into()
    }

    #[test]
    fn what_is_recognised_is_json_and_the_same_value() {
        let mut recognised = 0;
        for json in [
            "null",
            "true",
            "false",
            "0",
            "18446744073709551615",
            "-7",
            "-9223372036854775807",
            r#""""#,
            r#""ü ,]}:""#,
            "[]",
            "{}",
            "[[],{},[0]]",
            r#"{"a":1}"#,
            r#"{"a":[],"b":{"a":[],"b":null}}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"b":{"b":1},"b":7,"":[]}"#,
            // For a parser, or no JSON.
            "-9223372036854775808",
            "-0",
            "-",
            "--1",
            "00",
            "01",
            "-01",
            "18446744073709551616",
            "1.5",
            "1e3",
            " 1",
            "1 ",
            "nul",
            "nulll",
            r#""a\n""#,
            "\"a\nb\"",
            "\"a\u{7f}b",
            r#"{"a"b":1,"c":2}"#,
            r#"{"a\"b":1}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"b":2"#,
            r#"{"a":1]"#,
            r#"{"a" :1}"#,
            r#"{"a":}"#,
            r#"{,"a":1}"#,
            "{a:1}",
            "{",
            "[1,]",
            "[,1]",
            "[1",
            "[1}",
            "[1 ,2]",
            "[",
            "]",
            "",
        ] {
            for value in used() {
                let mut filled = value.clone();
                if fill(&mut filled, json) {
                    assert_eq!(serde_json::from_str::<Value>(json).ok(), Some(filled), "{value} to {json}");
                    recognised += 1;
                }
            }
        }
        assert_eq!(recognised, 18 * used().len());
    }

    #[test]
    fn large_values_keep_no_memory() {
        let mut value = Value::from(vec![Value::from("x".repeat(1 << 20)); 1_000]);
        assert!(fill(&mut value, r#"["small"]"#));
        let Value::Array(values) = &value else { panic!("an array") };
        assert!(values.capacity() <= ROOM_KEPT + 1, "{}", values.capacity());
        let Value::String(text) = &values[0] else { panic!("a text") };
        assert!(text.capacity() <= ROOM_KEPT + 5, "{}", text.capacity());
    }
}
