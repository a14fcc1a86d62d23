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

const TS: &str = ",\"ts\":";

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
        let rest = rest.strip_prefix(",\"data\":")?;
        let rest = rest.strip_suffix('}')?;
        let digits = digits_at_the_end(rest);
        let before = rest.len() - digits;
        // Mostly nothing comes behind the time, and it need not be searched for.
        let (data, behind) = if let Some(data) = rest.get(..before)?.strip_suffix(TS) {
            (data, rest.get(before..)?)
        } else {
            let at = memchr::memmem::rfind(rest.as_bytes(), TS.as_bytes())?;
            (rest.get(..at)?, rest.get(at + TS.len()..)?)
        };
        if data.len() > 2 * BRACKETS_MAX
            && memchr::memchr2_iter(b'[', b'{', data.as_bytes()).count() > BRACKETS_MAX
        {
            return None;
        }
        let (ts, rest) = number(behind)?;
        let (id, rest) = plain_text_of(",\"id\":\"", rest)?;
        let (actor, rest) = plain_text_of(",\"actor\":\"", rest)?;
        rest.is_empty().then_some(Self { kind, data, ts, id, actor })
    }
}

fn digits_at_the_end(text: &str) -> usize {
    text.bytes().rev().take_while(u8::is_ascii_digit).count()
}

/// A text up to its closing quote, and what follows that. `None` for one that a parser would have to look at.
fn plain_text(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.split_at_checked(memchr::memchr(b'"', text.as_bytes())?)?;
    let is_plain = value.bytes().all(|byte| byte != b'\\' && byte >= b' ');
    is_plain.then_some((value, rest.get(1..)?))
}

/// The text of this key, if the key is there.
fn plain_text_of<'a>(key: &str, text: &'a str) -> Option<(Option<&'a str>, &'a str)> {
    match text.strip_prefix(key) {
        Some(text) => plain_text(text).map(|(value, rest)| (Some(value), rest)),
        None => Some((None, text)),
    }
}

/// A whole number as JSON has it, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let is_json = digits == "0" || !digits.starts_with('0');
    is_json.then_some((digits.parse().ok()?, rest))
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
            // No event, or one for the parser.
            r#"{"type":"a","data":{"x":1,"ts":7}"#,
            r#"{"type":"a","data":{"x":1},"ts":7}}"#,
            r#"{"type":"a","data":1,"data":{"x":1},"ts":7}"#,
            r#"{"type":"a","data":1,"x":2,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":7,"ts":7}"#,
            r#"{"type":"a","data":1,"ts":07}"#,
            r#"{"type":"a","data":1,"ts":7.5}"#,
            r#"{"type":"a","data":1,"ts":-7}"#,
            r#"{"type":"a","data":1,"ts":18446744073709551616}"#,
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
        assert_eq!(recognised, 6);
    }
}
