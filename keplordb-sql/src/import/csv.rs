//! Rows of CSV: fields by the names in the first line, or by names that were given.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use memchr::memchr_iter;

use super::error::{At, ImportError};
use super::mapping::{Binding, Cell, Row};
use super::reading::{Context, Outcome, Place, Reading};
use super::rejects::Rejection;
use super::rows::{Quoting, Raw, Rows};
use super::source::Input;

/// How a CSV file is written. By default: separated by commas, enclosed by `"` where needed (two of them are one), with the
/// columns' names in the first line. Lines end in LF or CRLF, empty ones are passed over; the text is UTF-8, with or without a
/// byte order mark.
///
/// ```
/// use keplordb_sql::import::Csv;
///
/// let german = Csv::default().delimiter(b';');
/// let without_names = Csv::default().columns(["time", "user", "tokens"]);
/// # let _ = (german, without_names);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    pub(super) quoting: Quoting,
    pub(super) columns: Option<Vec<String>>,
}

impl Default for Csv {
    fn default() -> Self {
        Self { quoting: Quoting { delimiter: b',', quote: b'"' }, columns: None }
    }
}

impl Csv {
    /// What separates fields.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.quoting.delimiter = delimiter;
        self
    }

    /// What encloses fields.
    #[must_use]
    pub fn quote(mut self, quote: u8) -> Self {
        self.quoting.quote = quote;
        self
    }

    /// The columns' names, of a file whose first line is a row already.
    #[must_use]
    pub fn columns(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A CSV file that is being read.
pub(super) struct CsvReading {
    rows: Rows<Input>,
    quoting: Quoting,
    names: Vec<String>,
    /// The place among the source's columns of each field of the binding; `None` where it lacks an optional one.
    columns: Vec<Option<usize>>,
    /// The fields of the last row, and what of them had to be put together.
    fields: Fields,
}

impl CsvReading {
    /// Reads on from a place; without one, from the first row.
    pub(super) fn open(
        path: &Path,
        csv: &Csv,
        binding: &Binding,
        place: Option<Place>,
    ) -> Result<Self, ImportError> {
        let (mut rows, names) = begin(path, csv)?;
        let columns = columns_of(path, &names, binding)?;
        if let Some(Place { offset, line }) = place {
            rows = Rows::new(Input::open(path, offset)?, Some(csv.quoting), offset, line);
        }
        Ok(Self { rows, quoting: csv.quoting, names, columns, fields: Fields::default() })
    }

    /// Makes `row` what stands in a raw one, or says what is wrong with it.
    fn outcome(&mut self, raw: &Raw, context: &Context<'_>, row: &mut Row) -> Outcome {
        let mut text = self.rows.text(raw);
        if raw.line == 1 {
            text = text.strip_prefix(MARK).unwrap_or(text);
        }
        let reject =
            |column: &str, reason: String| Outcome::Rejected(Rejection::new(raw.line, column, reason, text));
        if let Some(fault) = raw.fault {
            return reject("", fault.to_owned());
        }
        let line = match std::str::from_utf8(text) {
            Ok(line) => line,
            Err(error) => {
                let sound = String::from_utf8_lossy(&text[..error.valid_up_to()]);
                self.fields.split(&sound, false, self.quoting);
                let column = self.names.get(self.fields.len() - 1).map_or("", String::as_str);
                return reject(column, format!("byte {} of the row is not UTF-8", error.valid_up_to() + 1));
            }
        };
        self.fields.split(line, raw.has_quotes, self.quoting);
        let (found, wanted) = (self.fields.len(), self.names.len());
        if found != wanted {
            return reject("", format!("the row has {found} fields instead of {wanted}"));
        }
        let cell = |field: usize| match self.columns[field].map(|column| self.fields.get(line, column)) {
            None | Some("") => Cell::Missing,
            Some(text) => Cell::Text(Cow::Borrowed(text)),
        };
        match context.fill(row, raw.line, cell) {
            Ok(()) => Outcome::Taken,
            Err((column, reason)) => reject(column, reason),
        }
    }
}

impl Reading for CsvReading {
    fn place(&self) -> Place {
        let (offset, line) = self.rows.place();
        Place { offset, line }
    }

    fn file_bytes(&self) -> u64 {
        self.rows.input().file_bytes()
    }

    fn next(&mut self, context: &Context<'_>, row: &mut Row) -> Result<Option<Outcome>, ImportError> {
        let raw = self.rows.next().at("reading", context.path)?;
        Ok(raw.map(|raw| self.outcome(&raw, context, row)))
    }
}

/// The names of a file's columns.
pub(super) fn names(path: &Path, csv: &Csv) -> Result<Vec<String>, ImportError> {
    Ok(begin(path, csv)?.1)
}

/// The rows of a file, and the names of its columns: from its first line, which is no row then, or as they were given.
fn begin(path: &Path, csv: &Csv) -> Result<(Rows<Input>, Vec<String>), ImportError> {
    let quoting = csv.quoting;
    let is_legal = |byte: u8| byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0);
    if quoting.delimiter == quoting.quote || !is_legal(quoting.delimiter) || !is_legal(quoting.quote) {
        return Err(ImportError::Mapping {
            what: "delimiter and quote must be different ASCII characters, and no line ends".to_owned(),
        });
    }
    let mut rows = Rows::new(Input::open(path, 0)?, Some(quoting), 0, 1);
    if let Some(names) = &csv.columns {
        return Ok((rows, names.clone()));
    }
    let mut fields = Fields::default();
    let first = rows.next().at("reading", path)?.filter(|raw| raw.fault.is_none());
    let names = first.and_then(|raw| {
        let text = std::str::from_utf8(rows.text(&raw)).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        fields.split(text, raw.has_quotes, quoting);
        Some((0..fields.len()).map(|field| fields.get(text, field).to_owned()).collect())
    });
    let names = names.ok_or_else(|| ImportError::Columns {
        file: path.to_owned(),
        what: "the first line has no columns' names; name them where the file has none".to_owned(),
    })?;
    Ok((rows, names))
}

/// Where the binding's columns are among those of the source.
pub(super) fn columns_of(
    path: &Path,
    names: &[String],
    binding: &Binding,
) -> Result<Vec<Option<usize>>, ImportError> {
    let place = |(name, is_optional): (&str, bool)| {
        let mut places = names.iter().enumerate().filter(|(_, other)| *other == name);
        let what = match (places.next(), places.next()) {
            (Some((place, _)), None) => return Ok(Some(place)),
            (None, _) if is_optional => return Ok(None),
            (None, _) => format!("there is no column {name:?}; the columns are {}", names.join(", ")),
            (Some(_), Some(_)) => format!("there are two columns {name:?}; give each a name of its own"),
        };
        Err(ImportError::Columns { file: path.to_owned(), what })
    };
    binding.sources().map(place).collect()
}

/// The fields of a row.
#[derive(Debug, Default)]
struct Fields {
    /// Each as a range of the row, or of `unquoted`.
    ranges: Vec<(Range<usize>, bool)>,
    /// Quoted fields with two quotes for one.
    unquoted: String,
}

impl Fields {
    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn get<'a>(&'a self, row: &'a str, field: usize) -> &'a str {
        let (range, is_unquoted) = &self.ranges[field];
        if *is_unquoted { &self.unquoted[range.clone()] } else { &row[range.clone()] }
    }

    /// Splits a row that [`Rows`] gave.
    fn split(&mut self, row: &str, has_quotes: bool, Quoting { delimiter, quote }: Quoting) {
        self.ranges.clear();
        self.unquoted.clear();
        let bytes = row.as_bytes();
        let mut start = 0;
        if !has_quotes {
            for end in memchr_iter(delimiter, bytes) {
                self.ranges.push((start..end, false));
                start = end + 1;
            }
            self.ranges.push((start..bytes.len(), false));
            return;
        }
        let quote = char::from(quote);
        loop {
            let end = if let Some(quoted) = row[start..].strip_prefix(quote) {
                self.push_quoted(row, quoted, quote)
            } else {
                let end =
                    memchr::memchr(delimiter, &bytes[start..]).map_or(bytes.len(), |length| start + length);
                self.ranges.push((start..end, false));
                end
            };
            if end >= bytes.len() {
                return;
            }
            start = end + 1;
        }
    }

    /// Adds the field whose text, with the closing quote, `quoted` begins with; gives the place behind it in the row.
    fn push_quoted(&mut self, row: &str, quoted: &str, quote: char) -> usize {
        let start = row.len() - quoted.len();
        let from = self.unquoted.len();
        let mut rest = quoted;
        loop {
            let length = rest.find(quote).unwrap_or(rest.len());
            let behind = rest.get(length + 1..).unwrap_or("");
            if !behind.starts_with(quote) {
                if self.unquoted.len() == from {
                    self.ranges.push((start..start + length, false));
                } else {
                    self.unquoted.push_str(&rest[..length]);
                    self.ranges.push((from..self.unquoted.len(), true));
                }
                return row.len() - behind.len();
            }
            self.unquoted.push_str(&rest[..=length]);
            rest = &behind[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a text, row by row.
    fn split(text: &str, quoting: Quoting) -> Vec<Vec<String>> {
        let mut rows = Rows::new(text.as_bytes(), Some(quoting), 0, 1);
        let mut fields = Fields::default();
        let mut found = Vec::new();
        while let Some(raw) = rows.next().unwrap() {
            assert_eq!(raw.fault, None, "{text:?}");
            let row = std::str::from_utf8(rows.text(&raw)).unwrap();
            fields.split(row, raw.has_quotes, quoting);
            found.push((0..fields.len()).map(|field| fields.get(row, field).to_owned()).collect());
        }
        found
    }

    /// The crate `csv` writes what is read here.
    #[test]
    fn rows_are_those_that_another_writer_wrote() {
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let other = Quoting { delimiter: b';', quote: b'\'' };
            let quoting = if random.bool() { other } else { Csv::default().quoting };
            let mut writer = csv::WriterBuilder::new()
                .delimiter(quoting.delimiter)
                .quote(quoting.quote)
                .quote_style(if random.bool() { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary })
                .terminator(if random.bool() { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            let mut field = || -> String {
                let chars = ['a', 'b', 'c', '"', '\'', ',', ';', '\r', '\n', ' ', 'é'];
                (0..random.usize(0..7)).map(|_| chars[random.usize(0..chars.len())]).collect()
            };
            let table: Vec<Vec<String>> = (0..seed % 8).map(|_| vec![field(), field(), field()]).collect();
            for row in &table {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            assert_eq!(split(&text, quoting), table, "seed {seed}: {text:?}");
        }
    }

    /// What is sound is read as the crate `csv` reads it; what that one reads leniently is refused here.
    #[test]
    fn rows_are_those_that_another_reader_reads() {
        let parts = ["a", ",", "é", "\"b,c\",", "\"x\ny\"\n", "\n", "\r\n", "\"\"", "\"", "\"\"\"\","];
        let mut sound = 0;
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let text: String =
                (0..random.usize(0..14)).map(|_| parts[random.usize(0..parts.len())]).collect();
            let quoting = Csv::default().quoting;
            let mut rows = Rows::new(text.as_bytes(), Some(quoting), 0, 1);
            if std::iter::from_fn(|| rows.next().unwrap()).any(|raw| raw.fault.is_some()) {
                continue;
            }
            sound += 1;
            let mut reader =
                csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let rows: Vec<Vec<String>> =
                reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
            assert_eq!(split(&text, quoting), rows, "seed {seed}: {text:?}");
        }
        assert!(sound > 5000, "{sound}");
    }
}
