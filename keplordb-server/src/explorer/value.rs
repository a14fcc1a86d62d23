//! Values of JSON, ids and fields as pages show them: as text, cut where it is long or deep, so that no event makes a page large.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde_json::Value;

use crate::fold::Operation;

/// Characters of a value in a table's cell.
const CELL_CHARS: usize = 160;
/// Bytes of a value that has a place of its own; the whole is asked for as JSON.
const BLOCK_BYTES: usize = 12 << 10;
/// Levels of a value that has a place of its own.
const BLOCK_LEVELS: usize = 12;
/// Spaces before each level.
const INDENT: usize = 2;

/// A value in a line.
pub(super) fn cell(value: &Value) -> Markup {
    let (text, is_cut) = cut(value, CELL_CHARS);
    html! {
        code class=(kind(value)) { bdi { (text) } @if is_cut { "…" } }
    }
}

/// A field that was not there.
pub(super) fn none() -> Markup {
    html! { span.none { "not set" } }
}

/// A value in a line, or that there is none.
pub(super) fn optional(value: Option<&Value>) -> Markup {
    value.map_or_else(none, cell)
}

/// A value over lines of its own, and whether that is all of it.
pub(super) fn block(value: &Value) -> (Markup, bool) {
    let mut out = Written { text: String::new(), is_cut: false };
    out.value(value, 0);
    let Written { text, is_cut } = out;
    (html! { pre tabindex="0" { code { (text) @if is_cut { "\n…" } } } }, !is_cut)
}

/// An id: of any characters, in any direction of writing, which end where it ends.
pub(super) fn id(id: &str) -> Markup {
    html! { bdi.id { (id) } }
}

/// A text for a title, cut where it is long.
pub(super) fn title(text: &str) -> String {
    const TITLE_CHARS: usize = 80;
    short(text, TITLE_CHARS)
}

/// A text, cut where it has more than so many characters.
pub(super) fn short(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The path of a field.
pub(super) fn path(path: &[String]) -> Markup {
    html! { bdi.path { (path.join(".")) } }
}

/// What was done, as a word and a colour.
pub(super) fn badge(operation: Operation) -> Markup {
    let (class, word) = match operation {
        Operation::Create => ("badge create", "create"),
        Operation::Update => ("badge update", "update"),
        Operation::Delete => ("badge delete", "delete"),
    };
    html! { span class=(class) { (word) } }
}

/// A number as it is read: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something, in its singular and plural.
pub(super) fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A text without what is behind so many characters.
fn cut(value: &Value, chars: usize) -> (String, bool) {
    let text = match value {
        // A long one is cut before it is written, which would take as long as it is.
        Value::String(text) => {
            let begin: String = text.chars().take(chars + 1).collect();
            Value::String(begin).to_string()
        }
        Value::Array(_) | Value::Object(_) => {
            let mut out = Line { text: String::new(), left: chars + 1 };
            out.value(value);
            out.text
        }
        scalar => scalar.to_string(),
    };
    match text.char_indices().nth(chars) {
        Some((end, _)) => (text[..end].to_owned(), true),
        None => (text, false),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "value null",
        Value::Bool(_) => "value bool",
        Value::Number(_) => "value number",
        Value::String(_) => "value text",
        Value::Array(_) | Value::Object(_) => "value nested",
    }
}

/// A value that is written in a line, until it is long enough.
struct Line {
    text: String,
    left: usize,
}

impl Line {
    fn push(&mut self, text: &str) {
        let (end, count) = text
            .char_indices()
            .zip(1..)
            .take(self.left)
            .last()
            .map_or((0, 0), |((at, char), count)| (at + char.len_utf8(), count));
        self.left -= count;
        self.text.push_str(&text[..end]);
    }

    fn value(&mut self, value: &Value) {
        if self.left == 0 {
            return;
        }
        match value {
            Value::Array(elements) => {
                self.push("[");
                for (index, element) in elements.iter().enumerate() {
                    if self.left == 0 {
                        return;
                    }
                    if index > 0 {
                        self.push(", ");
                    }
                    self.value(element);
                }
                self.push("]");
            }
            Value::Object(members) => {
                self.push("{");
                for (index, (key, member)) in members.iter().enumerate() {
                    if self.left == 0 {
                        return;
                    }
                    if index > 0 {
                        self.push(", ");
                    }
                    self.scalar(&Value::String(key.chars().take(self.left).collect()));
                    self.push(": ");
                    self.value(member);
                }
                self.push("}");
            }
            Value::String(text) => self.scalar(&Value::String(text.chars().take(self.left).collect())),
            scalar => self.scalar(scalar),
        }
    }

    fn scalar(&mut self, value: &Value) {
        let text = value.to_string();
        self.push(&text);
    }
}

/// A value that is written over lines, until it is long enough.
struct Written {
    text: String,
    is_cut: bool,
}

impl Written {
    fn is_full(&mut self) -> bool {
        self.is_cut |= self.text.len() >= BLOCK_BYTES;
        self.is_cut
    }

    fn line(&mut self, levels: usize) {
        // Into a text it cannot fail.
        let _ = write!(self.text, "\n{:1$}", "", levels * INDENT);
    }

    fn scalar(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() > BLOCK_BYTES => {
                let begin: String = text.chars().take(BLOCK_BYTES / 4).collect();
                self.text.push_str(&Value::String(begin).to_string());
                self.is_cut = true;
            }
            value => self.text.push_str(&value.to_string()),
        }
    }

    fn value(&mut self, value: &Value, levels: usize) {
        if self.is_full() {
            return;
        }
        match value {
            Value::Array(elements) if !elements.is_empty() => {
                if self.is_too_deep(levels) {
                    return;
                }
                self.text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.line(levels + 1);
                    self.value(element, levels + 1);
                }
                self.line(levels);
                self.text.push(']');
            }
            Value::Object(members) if !members.is_empty() => {
                if self.is_too_deep(levels) {
                    return;
                }
                self.text.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.line(levels + 1);
                    self.scalar(&Value::String(key.clone()));
                    self.text.push_str(": ");
                    self.value(member, levels + 1);
                }
                self.line(levels);
                self.text.push('}');
            }
            scalar => self.scalar(scalar),
        }
    }

    fn is_too_deep(&mut self, levels: usize) -> bool {
        if levels < BLOCK_LEVELS {
            return false;
        }
        self.text.push('…');
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_text_whatever_they_hold() {
        let markup = cell(&json!("<script>alert(1)</script>")).into_string();
        assert_eq!(
            markup,
            "<code class=\"value text\"><bdi>&quot;&lt;script&gt;alert(1)&lt;/script&gt;&quot;</bdi></code>"
        );
        assert!(!id("\"><img src=x>").into_string().contains("<img"));
    }

    #[test]
    fn long_and_deep_values_are_cut() {
        let long = json!({"text": "é".repeat(1 << 20)});
        assert!(cell(&long).into_string().len() < 1000);
        let (markup, is_whole) = block(&long);
        assert!(!is_whole && markup.into_string().len() < 2 * BLOCK_BYTES);
        let mut deep = json!(1);
        for _ in 0..60 {
            deep = json!([deep]);
        }
        assert!(block(&deep).0.into_string().contains('…'));
        let many = json!(vec![7; 1 << 20]);
        assert!(!block(&many).1 && cell(&many).into_string().len() < 1000);
    }

    #[test]
    fn a_whole_value_reads_as_it_is() {
        let value = json!({"a": [1, {"b": "c\n"}], "d": {}, "e": []});
        let mut out = Written { text: String::new(), is_cut: false };
        out.value(&value, 0);
        assert_eq!(serde_json::from_str::<Value>(&out.text).unwrap(), value);
        assert_eq!(
            cut(&value, 1000),
            ("{\"a\": [1, {\"b\": \"c\\n\"}], \"d\": {}, \"e\": []}".to_owned(), false)
        );
        assert_eq!(cut(&json!("abcdef"), 4), ("\"abc".to_owned(), true));
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (of(1, "event", "events"), of(0, "event", "events")),
            ("1 event".to_owned(), "0 events".to_owned())
        );
    }
}
