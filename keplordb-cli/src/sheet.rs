//! Rows of an answer: a table for people, JSON or CSV for programs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Number, Value as Json};
use unicode_width::UnicodeWidthStr;

use crate::output::{Output, count, time};

/// Rows whose widths decide how wide the columns of a table are; later ones that are wider stick out.
const MEASURED_ROWS: usize = 1000;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Form {
    /// Print JSON, an object a line
    #[arg(long, conflicts_with = "csv", help_heading = "Output")]
    pub(crate) json: bool,
    /// Print CSV with a line of names
    #[arg(long, help_heading = "Output")]
    pub(crate) csv: bool,
}

impl Form {
    /// Whether people read it.
    pub(crate) fn is_text(self) -> bool {
        !self.json && !self.csv
    }
}

/// A column of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    name: Cow<'static, str>,
    /// Numbers stand to the right.
    is_right: bool,
    /// Only a person needs it: bars.
    is_drawing: bool,
}

impl Heading {
    /// Of texts and times.
    pub(crate) fn left(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), is_right: false, is_drawing: false }
    }

    /// Of numbers.
    pub(crate) fn right(name: impl Into<Cow<'static, str>>) -> Self {
        Self { is_right: true, ..Self::left(name) }
    }

    /// Of what is drawn, which programs do not get.
    pub(crate) fn drawing() -> Self {
        Self { is_drawing: true, ..Self::left("") }
    }
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(i128),
    /// A number that is a name, a status for instance: without separators.
    Code(i64),
    Share(f64),
    /// A number that is shown with all its digits and without separators.
    #[cfg_attr(
        not(any(feature = "server", feature = "sql", test)),
        expect(dead_code, reason = "only answers of SQL and events of entities have it")
    )]
    Exact(i128),
    /// A float with as many digits as tell it from all others.
    #[cfg_attr(not(any(feature = "sql", test)), expect(dead_code, reason = "only answers of SQL have it"))]
    Float(f64),
    Truth(bool),
    /// In nanoseconds since the Unix epoch.
    Time(i64),
    Nothing,
}

impl Cell {
    fn json(&self) -> Json {
        match self {
            Self::Text(text) => Json::String(text.clone()),
            // All but sums fit; those stay exact as texts do not.
            Self::Number(number) => i64::try_from(*number)
                .map(Number::from)
                .map_or_else(|_| Json::String(number.to_string()), Json::Number),
            Self::Code(code) => Json::Number(Number::from(*code)),
            Self::Share(number) | Self::Float(number) => {
                Number::from_f64(*number).map_or(Json::Null, Json::Number)
            }
            // Beyond 64 bits only texts stay exact.
            Self::Exact(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => Json::Number(Number::from(number)),
                (_, Ok(number)) => Json::Number(Number::from(number)),
                _ => Json::String(number.to_string()),
            },
            Self::Truth(truth) => Json::Bool(*truth),
            Self::Time(ts_ns) => Json::String(time(*ts_ns)),
            Self::Nothing => Json::Null,
        }
    }

    fn csv(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) | Self::Exact(number) => number.to_string(),
            Self::Code(code) => code.to_string(),
            Self::Share(share) => share.to_string(),
            // As in JSON.
            Self::Float(number) => {
                Number::from_f64(*number).map_or_else(|| number.to_string(), |number| number.to_string())
            }
            Self::Truth(truth) => truth.to_string(),
            Self::Time(ts_ns) => time(*ts_ns),
            Self::Nothing => String::new(),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => printable(text).into_owned(),
            Self::Number(number) => {
                let digits = count(u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX));
                match (u64::try_from(number.unsigned_abs()), *number < 0) {
                    (Err(_), _) => number.to_string(),
                    (Ok(_), true) => format!("-{digits}"),
                    (Ok(_), false) => digits,
                }
            }
            Self::Share(share) => with_separators(&format!("{share:.2}")),
            Self::Nothing => "-".to_owned(),
            Self::Code(_) | Self::Exact(_) | Self::Float(_) | Self::Truth(_) | Self::Time(_) => self.csv(),
        }
    }
}

/// A number with a point, and thousands separators before it: `-7,000.25`.
fn with_separators(text: &str) -> String {
    let (sign, number) = text.strip_prefix('-').map_or(("", text), |number| ("-", number));
    let parts = number.split_once('.').and_then(|(whole, rest)| Some((whole.parse().ok()?, rest)));
    parts.map_or_else(|| text.to_owned(), |(whole, rest)| format!("{sign}{}.{rest}", count(whole)))
}

/// A text that cannot move a terminal's cursor or colour it: events come from anywhere.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Rows on their way out, one after the other.
pub(crate) struct Sheet<'o> {
    out: &'o mut Output,
    form: Form,
    headings: Vec<Heading>,
    /// The first rows of a table, until it is known how wide they are.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    is_begun: bool,
}

impl<'o> Sheet<'o> {
    pub(crate) fn new(out: &'o mut Output, form: Form, headings: Vec<Heading>) -> Self {
        let headings = numbered(headings);
        Self { out, form, headings, waiting: Vec::new(), widths: None, is_begun: false }
    }

    /// A row, with as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: &[Cell]) -> Result<()> {
        debug_assert_eq!(cells.len(), self.headings.len(), "a row has a cell for each heading");
        if self.form.json {
            let data = self.headings.iter().zip(cells).filter(|(heading, _)| !heading.is_drawing);
            // Written here, so that the columns keep their order.
            let members: Vec<String> = data
                .map(|(heading, cell)| format!("{}:{}", Json::from(&*heading.name), cell.json()))
                .collect();
            return self.out.line(&format!("{{{}}}", members.join(",")));
        }
        if self.form.csv {
            self.begin_csv()?;
            let data = self.headings.iter().zip(cells).filter(|(heading, _)| !heading.is_drawing);
            let line = csv_line(data.map(|(_, cell)| cell.csv()));
            return self.out.line(&line);
        }
        let texts: Vec<String> = cells.iter().map(Cell::text).collect();
        if self.widths.is_some() {
            return self.text_row(&texts);
        }
        self.waiting.push(texts);
        if self.waiting.len() < MEASURED_ROWS { Ok(()) } else { self.measure() }
    }

    /// Shows at once what came so far, as far as a table's widths are not open.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.form.is_text() && !self.waiting.is_empty() {
            self.measure()?;
        }
        self.out.flush()
    }

    /// As [`Output::check_reader`].
    pub(crate) fn check_reader(&self) -> Result<()> {
        self.out.check_reader()
    }

    /// The end: what waits is printed. A table without rows is its line of names.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.form.csv {
            self.begin_csv()?;
        } else if self.form.is_text() && self.widths.is_none() {
            self.measure()?;
        }
        Ok(())
    }

    fn begin_csv(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Ok(());
        }
        let names = self.headings.iter().filter(|heading| !heading.is_drawing);
        let line = csv_line(names.map(|heading| heading.name.clone().into_owned()));
        self.out.line(&line)
    }

    fn measure(&mut self) -> Result<()> {
        let mut widths: Vec<usize> =
            self.headings.iter().map(|heading| printable(&heading.name).width()).collect();
        for row in &self.waiting {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = text.width().max(*width);
            }
        }
        if self.widths.is_none() {
            let names: Vec<String> =
                self.headings.iter().map(|heading| printable(&heading.name).into_owned()).collect();
            let line = self.aligned(&names, &widths);
            self.out.heading(&line)?;
        }
        self.widths = Some(widths);
        for row in std::mem::take(&mut self.waiting) {
            self.text_row(&row)?;
        }
        Ok(())
    }

    fn text_row(&mut self, texts: &[String]) -> Result<()> {
        let line = self.aligned(texts, self.widths.as_deref().unwrap_or_default());
        self.out.line(&line)
    }

    fn aligned(&self, texts: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (place, (text, heading)) in texts.iter().zip(&self.headings).enumerate() {
            let room = widths.get(place).copied().unwrap_or(0).saturating_sub(text.width());
            let gap = if place == 0 { "" } else { "  " };
            // What fails to be written to a string is nothing.
            let _ = if heading.is_right {
                write!(line, "{gap}{:room$}{text}", "")
            } else {
                write!(line, "{gap}{text}{:room$}", "")
            };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Names that come twice, as in joins, get a number: an object of JSON has each name once.
fn numbered(mut headings: Vec<Heading>) -> Vec<Heading> {
    let mut taken = HashSet::new();
    for heading in headings.iter_mut().filter(|heading| !heading.is_drawing) {
        let numbered = (2..).map(|number| Cow::Owned(format!("{}_{number}", heading.name)));
        let free = std::iter::once(heading.name.clone()).chain(numbered).find(|name| !taken.contains(name));
        heading.name = free.unwrap_or_default();
        taken.insert(heading.name.clone());
    }
    headings
}

/// Prints values that stand for themselves: a line each for people, one row for programs.
pub(crate) fn summary<const N: usize>(
    out: &mut Output,
    form: Form,
    values: [(&'static str, Cell); N],
) -> Result<()> {
    if form.is_text() {
        let width = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        return values.iter().try_for_each(|(name, value)| {
            out.line(&format!("{:<width$}  {}", name.replace('_', " "), value.text()))
        });
    }
    let (headings, cells): (Vec<_>, Vec<_>) =
        values.into_iter().map(|(name, cell)| (Heading::right(name), cell)).unzip();
    let mut sheet = Sheet::new(out, form, headings);
    sheet.row(&cells)?;
    sheet.finish()
}

/// Fields with quotes where they need them (RFC 4180).
fn csv_line(fields: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for (place, field) in fields.enumerate() {
        if place > 0 {
            line.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(&field);
        }
    }
    // A line of nothing is none to many who read CSV.
    if line.is_empty() { "\"\"".to_owned() } else { line }
}

/// A bar of at most `width` letters for a share from 0 to 1, in eighths of a letter.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    #[expect(clippy::cast_possible_truncation, reason = "a share of a few letters")]
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    } else if eighths == 0 && share > 0.0 {
        bar.push(EIGHTHS[1]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_whatever_their_size_and_sign() {
        let text = |number| Cell::Number(number).text();
        assert_eq!([text(0), text(-1234), text(1_000_000)], ["0", "-1,234", "1,000,000"]);
        assert_eq!(text(i128::from(u64::MAX) + 1), "18446744073709551616");
        assert_eq!(Cell::Number(i128::MAX).json(), Json::String(i128::MAX.to_string()));
    }

    #[test]
    fn exact_numbers_are_the_same_for_people_and_programs() {
        let floats = [0.1, 1.0, -1e300].map(Cell::Float);
        let [first, second, third] = floats;
        let cells =
            [Cell::Exact(-1_234_567), Cell::Exact(u64::MAX.into()), first, second, third, Cell::Truth(true)];
        let texts = cells.each_ref().map(Cell::text);
        assert_eq!(texts, ["-1234567", "18446744073709551615", "0.1", "1.0", "-1e+300", "true"]);
        assert_eq!(cells.each_ref().map(Cell::csv), texts);
        assert_eq!(cells.map(|cell| cell.json().to_string()), texts);
        assert_eq!(Cell::Exact(i128::MAX).json(), Json::String(i128::MAX.to_string()));
        assert_eq!(Cell::Float(f64::NAN).json(), Json::Null);
    }

    #[test]
    fn shares_are_split_every_three_digits() {
        let texts = [0.0, -7000.25, 1e6, f64::INFINITY].map(|share| Cell::Share(share).text());
        assert_eq!(texts, ["0.00", "-7,000.25", "1,000,000.00", "inf"]);
    }

    #[test]
    fn texts_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert!(matches!(printable("naïve ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn csv_fields_have_quotes_where_they_need_them() {
        let fields = ["a", "b,c", "d\"e", "f\ng", ""].map(str::to_owned);
        assert_eq!(csv_line(fields.into_iter()), "a,\"b,c\",\"d\"\"e\",\"f\ng\",");
    }

    #[test]
    fn bars_grow_by_eighths_and_show_the_smallest_share() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!((bar(0.0001, 4).as_str(), bar(0.0, 4).as_str()), ("▏", ""));
        assert_eq!(bar(7.0, 2), "██");
    }

    #[test]
    fn columns_of_one_name_get_numbers() {
        let names = |names: &[&'static str]| {
            let headings = numbered(names.iter().map(|name| Heading::left(*name)).collect());
            headings.into_iter().map(|heading| heading.name.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["id", "id", "id_2", "id"]), ["id", "id_2", "id_2_2", "id_3"]);
        assert_eq!(names(&["ts", "events"]), ["ts", "events"]);
    }
}
