//! Lines as they are mostly written, taken apart without a parser: that leaves the data alone to be parsed.
//!
//! Only the exact form that an [`Event`](crate::Event) without `meta` is written in is recognised; whatever else a line may be is left
//! to the parser. So nothing is decided here about what is an event and what not.

/// A line's keys and values, if its data is valid JSON: nobody has looked at that yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) kind: &'a str,
    pub(crate) data: &'a str,
    pub(crate) ts: u64,
    pub(crate) id: Option<&'a str>,
    pub(crate) actor: Option<&'a str>,
}

/// A parser stops at 128 levels. Of the line's own it would not know where it is given the data alone, so it is given the whole line
/// where the data have so many brackets, strings included, that it may matter.
const BRACKETS_MAX: usize = 120;

impl<'a> Envelope<'a> {
    /// Takes a line apart: `{"type":"…","data":…,"ts":…,"id":"…","actor":"…"}`, the last two if they are there, no text with
    /// an escape in it.
    ///
    /// What lies between the first two keys and the rest is the data, if it is a JSON value as a whole: then all brackets that
    /// it opens are closed in it, and what comes behind belongs to the line itself.
    pub(crate) fn of(line: &'a str) -> Option<Self> {
        let (kind, rest) = plain_text(line.strip_prefix("{\"type\":\"")?)?;
        let rest = rest.strip_prefix(",\"data\":")?.strip_suffix('}')?;
        // From the end on, where there is nothing to be searched for. A quote that belongs to the data instead has no such key before it,
        // or leaves data that are no JSON.
        let (rest, actor) = plain_text_at_the_end(rest, ",\"actor\":")?;
        let (rest, id) = plain_text_at_the_end(rest, ",\"id\":")?;
        let (rest, ts) = number_at_the_end(rest)?;
        let data = rest.strip_suffix(",\"ts\":")?;
        if data.len() > 2 * BRACKETS_MAX
            && memchr::memchr2_iter(b'[', b'{', data.as_bytes()).count() > BRACKETS_MAX
        {
            return None;
        }
        Some(Self { kind, data, ts, id, actor })
    }
}

/// A text up to its closing quote, and what follows that. `None` for one that a parser would have to look at.
pub(crate) fn plain_text(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.split_at_checked(text.bytes().position(is_special)?)?;
    Some((value, rest.strip_prefix('"')?))
}

/// The text of this key at the end, if it is there, and what comes before. `None` for one that a parser would have to look at.
fn plain_text_at_the_end<'a>(text: &'a str, key: &str) -> Option<(&'a str, Option<&'a str>)> {
    let Some(quoted) = text.strip_suffix('"') else { return Some((text, None)) };
    let (before, value) = quoted.split_at_checked(memchr::memrchr(b'"', quoted.as_bytes())?)?;
    let Some(before) = before.strip_suffix(key) else { return Some((text, None)) };
    let value = value.get(1..)?;
    (!value.bytes().any(is_special)).then_some((before, Some(value)))
}

/// Whether a byte within quotes does not stand for itself.
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < b' '
}

/// A whole number as JSON has it, and what follows.
pub(crate) fn number(text: &str) -> Option<(u64, &str)> {
    let mut value = 0_u64;
    let mut digits = 0;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    let is_json = digits == 1 || digits > 1 && !text.starts_with('0');
    is_json.then_some((value, text.get(digits..)?))
}

/// Likewise at the end, and what comes before.
fn number_at_the_end(text: &str) -> Option<(&str, u64)> {
    let (mut value, mut power) = (0_u64, Some(1_u64));
    let mut begin = text.len();
    for byte in text.bytes().rev() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_add(power?.checked_mul(u64::from(digit))?)?;
        power = power?.checked_mul(10);
        begin -= 1;
    }
    let (before, digits) = text.split_at_checked(begin)?;
    let is_json = digits.len() == 1 || digits.len() > 1 && !digits.starts_with('0');
    is_json.then_some((before, value))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::event::Event;

    #[test]
    fn deep_data_are_left_to_the_parser() {
        for (levels, is_plain) in [(100, true), (120, true), (121, false), (127, false), (1_000, false)] {
            let line =
                format!(r#"{{"type":"a","data":{}{},"ts":7}}"#, "[".repeat(levels), "]".repeat(levels));
            assert_eq!(Envelope::of(&line).is_some(), is_plain, "{levels}");
        }
    }

    #[test]
    fn what_is_recognised_is_an_event_and_the_same_one() {
        let mut recognised = 0;
        for line in [
            r#"{"type":"a","data":{"x":1},"ts":7}"#,
            r#"{"type":"a","data":{"x":1,"ts":5},"ts":7}"#,
            r#"{"type":"a","data":[1,",\"ts\":5}"],"ts":0,"id":"i","actor":"ü"}"#,
            r#"{"type":"a","data":null,"ts":7,"actor":"x"}"#,
            r#"{"type":"","data":"","ts":18446744073709551615,"id":""}"#,
            r#"{"type":"a","data": 5 ,"ts":7}"#,
            r#"{"type":"a","data":"x,\"actor\":\"y\"","ts":7}"#,
            // No event, or one for the parser.
            r#"{"type":"a","data":"x","actor":"y"}"#,
            r#"{"type":"a","data":"x}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":"x\\"}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":"x\""}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":"x","actor":"y"}"#,
            r#"{"type":"a","data":1,"actor":"x","ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":"x"y"}"#,
            r#"{"type":"a","data":{"x":1,"ts":7}"#,
            r#"{"type":"a","data":{"x":1},"ts":7}}"#,
            r#"{"type":"a","data":1,"data":{"x":1},"ts":7}"#,
            r#"{"type":"a","data":1,"x":2,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":07}"#,
            r#"{"type":"a","data":1,"ts":7.5}"#,
            r#"{"type":"a","data":1,"ts":-7}"#,
            r#"{"type":"a","data":1,"ts":18446744073709551616}"#,
            r#"{"type":"a","data":1,"ts":20000000000000000000}"#,
            r#"{"type":"a","data":1,"ts":100000000000000000000}"#,
            r#"{"type":"a","data":1,"ts":000000000000000000000007}"#,
            r#"{"type":"a","data":1,"ts":00}"#,
            r#"{"type":"a","data":1,"ts":}"#,
            r#"{"type":"a","data":,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"id":"a","id":"b"}"#,
            r#"{"type":"a","data":1,"ts":7,"actor":"a","id":"b"}"#,
            r#"{"type":"a","data":1,"ts":7,"id":null}"#,
            r#"{"type":"a","data":1,"ts":7,"meta":{"a":1,"ts":5}}"#,
            r#"{"type":"a","data":1,"ts":7,"id":"a\n"}"#,
            r#"{"type":"a\u0041","data":1,"ts":7}"#,
            "{\"type\":\"a\tb\",\"data\":1,\"ts\":7}",
            r#"{"type":"a","data":1,"ts":7} "#,
            r#"{"type":"a","ts":7,"data":1}"#,
            r#"{"type":"a","data":1}"#,
            "{}",
            "",
        ] {
            let event = serde_json::from_str::<Event>(line).ok();
            if let Some(Envelope { kind, data, ts, id, actor }) = Envelope::of(line)
                && let Ok(data) = serde_json::from_str::<Value>(data)
            {
                let own = |text: Option<&str>| text.map(str::to_owned);
                let found = Event {
                    event_type: kind.to_owned(),
                    data,
                    ts,
                    id: own(id),
                    actor: own(actor),
                    meta: None,
                };
                assert_eq!(Some(found), event, "{line}");
                recognised += 1;
            }
        }
        assert_eq!(recognised, 7);
    }
}
