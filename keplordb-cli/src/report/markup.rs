//! Markup that is well-formed and harmless by construction: the names of elements and attributes are the program's own, every
//! text and every attribute's value is escaped, and what is opened is closed.
//!
//! What is made is HTML, and XML too: so a test can read it with a strict parser.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Letters of a text from an event that are shown; the whole is in the title.
pub(super) const SHOWN_LETTERS: usize = 60;

/// A page or a part of one.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

/// Names and values.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Markup {
    /// An element with what a function puts into it.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(name, attributes);
        self.0.push('>');
        inside(self);
        // What fails to be written to a string is nothing.
        let _ = write!(self.0, "</{name}>");
    }

    /// An element that holds a text.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// An element that can hold nothing.
    pub(super) fn void(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.open(name, attributes);
        self.0.push_str("/>");
    }

    /// A text, escaped.
    pub(super) fn text(&mut self, text: &str) {
        escape(&mut self.0, text);
    }

    /// A text of an event or a schema: cut if it is long, the whole of it in the title, and kept apart from what surrounds it,
    /// whichever direction it is written in. The empty text is shown as such.
    pub(super) fn foreign(&mut self, text: &str) {
        if text.is_empty() {
            return self.leaf("i", &[("class", "empty")], "(empty)");
        }
        match cut(text, SHOWN_LETTERS) {
            Some(shown) => self.leaf("bdi", &[("title", text)], &shown),
            None => self.leaf("bdi", &[], text),
        }
    }

    /// What is written by the program alone and needs no escape: the style sheet, the document type.
    pub(super) fn fixed(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn open(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            // As above.
            let _ = write!(self.0, " {name}=\"");
            escape(&mut self.0, value);
            self.0.push('"');
        }
    }
}

/// The first letters of a text that has more.
pub(super) fn cut(text: &str, letters: usize) -> Option<String> {
    let (end, _) = text.char_indices().nth(letters)?;
    Some(format!("{}…", &text[..end]))
}

fn escape(into: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            letter if is_hidden(letter) => into.extend(letter.escape_unicode()),
            letter => into.push(letter),
        }
    }
}

/// Letters that a reader would not see, and that would do something instead: controls, which XML forbids, too, what turns the
/// direction of a line round, and what is no letter.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(u32::from(letter) & 0xffff, 0xfffe | 0xffff)
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Texts joined as in a sentence: `a, b and c`.
pub(super) fn listed(texts: &[String]) -> Cow<'_, str> {
    match texts {
        [] => Cow::Borrowed(""),
        [one] => Cow::Borrowed(one),
        [most @ .., last] => Cow::Owned(format!("{} and {last}", most.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: impl FnOnce(&mut Markup)) -> String {
        let mut markup = Markup::default();
        make(&mut markup);
        markup.into_string()
    }

    #[test]
    fn texts_and_values_are_escaped() {
        let markup = made(|m| m.leaf("p", &[("title", "\"'><b>&")], "</p><script>alert('&')</script>"));
        assert_eq!(
            markup,
            "<p title=\"&quot;&#39;&gt;&lt;b&gt;&amp;\">&lt;/p&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</p>"
        );
    }

    #[test]
    fn what_a_reader_would_not_see_is_written_out() {
        let markup = made(|m| m.text("a\0\u{1b}\n\u{7f}\u{202e}b\u{ffff}é✓שלום"));
        assert_eq!(markup, "a\\u{0}\\u{1b}\\u{a}\\u{7f}\\u{202e}b\\u{ffff}é✓שלום");
    }

    #[test]
    fn long_texts_are_cut_between_letters_and_are_whole_in_the_title() {
        assert_eq!(cut("héé", 3), None);
        assert_eq!(cut("hééé", 3).as_deref(), Some("héé…"));
        let long = "é".repeat(SHOWN_LETTERS + 1);
        let shown = "é".repeat(SHOWN_LETTERS);
        assert_eq!(made(|m| m.foreign(&long)), format!("<bdi title=\"{long}\">{shown}…</bdi>"));
        assert_eq!(made(|m| m.foreign("")), "<i class=\"empty\">(empty)</i>");
    }

    #[test]
    fn texts_are_joined_as_in_a_sentence() {
        let texts = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(
            [&texts[..0], &texts[..1], &texts[..2], &texts].map(listed),
            ["", "a", "a and b", "a, b and c"]
        );
    }
}
