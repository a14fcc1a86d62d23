//! A JSON object's values as they are written: numbers keep all their digits, and what is not asked for is not taken apart.

use std::borrow::Cow;

/// What is wrong with a text that should be JSON, and at which byte, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: &'static str,
    pub(super) at: usize,
}

/// The value of each key in an object; of a key that stands there twice, the last one. All of the text is checked.
pub(super) fn values<'a>(json: &'a str, keys: &[String]) -> Result<Vec<Option<&'a str>>, Fault> {
    let mut values = vec![None; keys.len()];
    let mut scan = Scan { json, at: 0 };
    scan.space();
    scan.expect(b'{', "there is no object")?;
    scan.space();
    if scan.peek() == Some(b'}') {
        scan.at += 1;
    } else {
        loop {
            scan.space();
            let key = scan.key()?;
            let start = scan.at;
            scan.value()?;
            if let Some(place) = keys.iter().position(|asked| *asked == *key) {
                values[place] = Some(&json[start..scan.at]);
            }
            scan.space();
            match scan.peek() {
                Some(b',') => scan.at += 1,
                Some(b'}') => break,
                _ => return Err(scan.fault("a comma or the object's end is missing")),
            }
        }
        scan.at += 1;
    }
    scan.space();
    match scan.peek() {
        None => Ok(values),
        Some(_) => Err(scan.fault("there is more behind the object")),
    }
}

/// The text of a JSON string, with its quotes; `None` where an escape is half a character.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// A walk over a text.
struct Scan<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { what, at: self.at }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.fault(what));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A key, up to its value.
    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at;
        self.string()?;
        let key = text(&self.json[start..self.at])
            .ok_or(Fault { what: "an escape is half a character", at: start })?;
        self.space();
        self.expect(b':', "a key has no value")?;
        self.space();
        Ok(key)
    }

    /// A value of any kind, however deep.
    fn value(&mut self) -> Result<(), Fault> {
        // The closing brackets that are still to come.
        let mut open: Vec<u8> = Vec::new();
        loop {
            let is_opened = match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    // In ASCII each closing bracket is two behind the opening one.
                    open.push(bracket + 2);
                    true
                }
                Some(b'"') => {
                    self.string()?;
                    false
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                    false
                }
                _ => {
                    self.word()?;
                    false
                }
            };
            // Up to the next value, past all that ends before it.
            let mut is_first = is_opened;
            loop {
                let Some(closing) = open.last().copied() else { return Ok(()) };
                self.space();
                match self.peek() {
                    Some(byte) if byte == closing => {
                        self.at += 1;
                        open.pop();
                        is_first = false;
                        continue;
                    }
                    _ if is_first => {}
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                    }
                    _ => return Err(self.fault("a comma or a closing bracket is missing")),
                }
                if closing == b'}' {
                    self.key()?;
                }
                break;
            }
        }
    }

    fn word(&mut self) -> Result<(), Fault> {
        let rest = &self.json.as_bytes()[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or(self.fault("a value is missing or is none of JSON"))?.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.expect(b'"', "a text must stand in quotes")?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let escaped = &self.json.as_bytes()[self.at + 1..];
                    self.at += match escaped.first() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u')
                            if escaped.len() > 4 && escaped[1..5].iter().all(u8::is_ascii_hexdigit) =>
                        {
                            6
                        }
                        _ => return Err(self.fault("an escape is none of JSON")),
                    };
                }
                Some(0..0x20) => return Err(self.fault("a text has a control character that is not escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.fault("a text has no end")),
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        const FAULT: &str = "a number is none of JSON";
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits(FAULT)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits(FAULT)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits(FAULT)?;
        }
        Ok(())
    }

    fn digits(&mut self, fault: &'static str) -> Result<(), Fault> {
        let rest = &self.json.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(self.fault(fault)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    /// `serde_json` takes what is taken here, and reads the same values.
    #[test]
    fn texts_are_judged_as_by_another_reader() {
        let parts = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "\"\\n\\u00e9é\"",
            "1",
            "-0.5e+3",
            "01",
            "1.",
            "true",
            "null",
            "nul",
            " ",
            "\n",
            "\"",
            "\\",
            "{\"a\":",
            "\"b\": 2",
            "[]",
            "{}",
            "\u{1}",
            "x",
            "-",
            "1e",
        ];
        let keys = ["a".to_owned(), "b".to_owned()];
        let (mut sound, mut seed) = (0, 0);
        while sound < 2000 {
            seed += 1;
            let mut random = fastrand::Rng::with_seed(seed);
            // Mostly sound objects with a few faults.
            let mut json = String::from("{");
            for place in 0..random.usize(0..4) {
                let key = parts[random.usize(6..9)];
                let value = match random.u8(0..4) {
                    0 => format!(
                        "[1, {{\"a\": [{}]}}, {}]",
                        parts[random.usize(6..14)],
                        parts[random.usize(9..11)]
                    ),
                    _ => parts[random.usize(6..23)].to_owned(),
                };
                json.extend([if place == 0 { "" } else { ", " }, key, " :", &value]);
            }
            json.push('}');
            if random.bool() {
                let at = random.usize(0..=json.len());
                if json.is_char_boundary(at) {
                    json.insert_str(at, parts[random.usize(0..parts.len())]);
                }
            }
            let theirs = serde_json::from_str::<Map<String, Value>>(&json);
            let ours = values(&json, &keys);
            assert_eq!(ours.is_ok(), theirs.is_ok(), "seed {seed}: {json}: {ours:?} {theirs:?}");
            let Ok(ours) = ours else { continue };
            sound += 1;
            let theirs: Value = serde_json::from_str(&json).unwrap();
            for (key, value) in keys.iter().zip(ours) {
                let value = value.map(|value| serde_json::from_str::<Value>(value).unwrap());
                assert_eq!(value.as_ref(), theirs.get(key), "seed {seed}: {json}");
            }
        }
        assert!(seed < 20_000, "{seed} texts for {sound} sound ones");
    }

    #[test]
    fn faults_name_their_place() {
        let keys = ["a".to_owned()];
        let cases = [
            ("", "there is no object", 0),
            ("[1]", "there is no object", 0),
            ("{\"a\": 1", "a comma or the object's end is missing", 7),
            ("{\"a\": 1} x", "there is more behind the object", 9),
            ("{\"a\": }", "a value is missing or is none of JSON", 6),
            ("{'a': 1}", "a text must stand in quotes", 1),
            ("{\"a\": NaN}", "a value is missing or is none of JSON", 6),
            ("{\"a\" 1}", "a key has no value", 5),
            ("{\"a\": \"\\x\"}", "an escape is none of JSON", 7),
            ("{\"a\": \"\t\"}", "a text has a control character that is not escaped", 7),
            ("{\"a\": \"x", "a text has no end", 8),
            ("{\"a\": [1 2]}", "a comma or a closing bracket is missing", 9),
            ("{\"a\": -}", "a number is none of JSON", 7),
            ("{\"\\ud800\": 1}", "an escape is half a character", 1),
        ];
        for (json, what, at) in cases {
            assert_eq!(values(json, &keys), Err(Fault { what, at }), "{json}");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert!(values(&deep, &keys).is_err());
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(values(&deep, &keys).unwrap()[0].unwrap().len(), 2_000_000);
    }
}
