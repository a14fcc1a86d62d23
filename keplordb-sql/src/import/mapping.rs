//! Which column of a source becomes which column of a table, and how.

use std::borrow::Cow;
use std::fmt;

use keplordb::any::{AnyEvent, AnyRowView, AnyStore, Column, Kind, Value};
use keplordb::{DbError, MAX_EVENT_BYTES};
use xxhash_rust::xxh3::xxh3_64;

use super::error::ImportError;
use super::number::Scale;
use super::time::{TimeFormat, TimeReader};

/// Which columns of a source become which columns of a table.
///
/// `ts_ns` needs a source; columns of the table that none is named for are 0 or empty. What a column is, a dim or a counter or
/// a label, the table's schema says.
///
/// ```
/// use keplordb_sql::import::{Field, Mapping, TimeFormat};
///
/// let mapping = Mapping::new()
///     .time("scheduled_utc", TimeFormat::Rfc3339)
///     .column("carrier", "carrier")
///     .column("distance_mi", "distance_mi")
///     .field(Field::new("price", "metric").digits(2)) // 12.50 becomes 1250
///     .field(Field::new("air_time_min", "latency_ms").times(60_000).or(0));
/// assert_eq!(mapping.fields().len(), 5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    fields: Vec<Field>,
}

impl Mapping {
    /// No columns, to be chained.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each of these columns from the source's column of the same name, where it has one: what reads files that were exported
    /// from a table. Times are nanoseconds since the Unix epoch; sequences are given anew.
    pub fn by_name(columns: &[Column]) -> Self {
        let named = columns.iter().filter(|column| column.name != "sequence");
        let fields = named.map(|column| match column.name.as_str() {
            "ts_ns" => Field::time("ts_ns", TimeFormat::Nanos),
            name => Field::new(name, name).optional(),
        });
        Self { fields: fields.collect() }
    }

    /// The source's column that holds the time, and how.
    #[must_use]
    pub fn time(self, source: impl Into<String>, format: TimeFormat) -> Self {
        self.field(Field::time(source, format))
    }

    /// A column of the source that becomes one of the table: a text, or a whole number.
    #[must_use]
    pub fn column(self, source: impl Into<String>, target: impl Into<String>) -> Self {
        self.field(Field::new(source, target))
    }

    /// A column of the source that becomes one of the table in a way of its own.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// The columns, in the order in which they were given.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// A column of a source that becomes a column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    source: String,
    target: String,
    time: Option<TimeFormat>,
    scale: Scale,
    or: Option<i64>,
    is_optional: bool,
}

impl Field {
    /// A text, or a whole number, as the table's column holds them.
    ///
    /// In JSON Lines, a source that begins with `/` is a path into nested objects: `/usage/tokens`.
    pub fn new(source: impl Into<String>, target: impl Into<String>) -> Self {
        let (source, target) = (source.into(), target.into());
        Self { source, target, time: None, scale: Scale::ONE, or: None, is_optional: false }
    }

    /// The time of the events, `ts_ns`.
    pub fn time(source: impl Into<String>, format: TimeFormat) -> Self {
        Self { time: Some(format), ..Self::new(source, "ts_ns") }
    }

    /// Decimals that are kept: the table's number is the source's times 10^`digits`, exactly. A number with more of them is
    /// rejected, unless it may be [rounded](Self::rounded). At most 18.
    #[must_use]
    pub fn digits(mut self, digits: u8) -> Self {
        self.scale.digits = digits;
        self
    }

    /// What numbers are multiplied with, from one unit to another: 60,000 for minutes that become milliseconds.
    #[must_use]
    pub fn times(mut self, factor: i64) -> Self {
        self.scale.times = factor;
        self
    }

    /// Numbers with more decimals than are kept are rounded, half away from zero.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        self.scale.is_rounded = true;
        self
    }

    /// The table's number where the source has none: an empty field, a `null`. Without it such rows are rejected.
    #[must_use]
    pub fn or(mut self, number: i64) -> Self {
        self.or = Some(number);
        self
    }

    /// The source may lack the column, in JSON Lines also a single row; the table's is then 0, what [`or`](Self::or) says, or
    /// empty.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }
}

/// One line: what a journal keeps, so that an import is gone on with as it began.
impl fmt::Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, target, time, scale, or, is_optional } = self;
        write!(out, "{source:?} to {target:?}")?;
        match time {
            Some(TimeFormat::Strftime { pattern, zone: Some(zone) }) => {
                write!(out, ", time {pattern:?} in {zone:?}")?;
            }
            Some(TimeFormat::Strftime { pattern, zone: None }) => write!(out, ", time {pattern:?}")?,
            Some(TimeFormat::Seconds) => out.write_str(", time in s")?,
            Some(TimeFormat::Millis) => out.write_str(", time in ms")?,
            Some(TimeFormat::Micros) => out.write_str(", time in us")?,
            Some(TimeFormat::Nanos) => out.write_str(", time in ns")?,
            Some(TimeFormat::Rfc3339) => out.write_str(", time in RFC 3339")?,
            None => {}
        }
        if scale.digits != 0 {
            write!(out, ", digits {}", scale.digits)?;
        }
        if scale.times != 1 {
            write!(out, ", times {}", scale.times)?;
        }
        if scale.is_rounded {
            out.write_str(", rounded")?;
        }
        if let Some(or) = or {
            write!(out, ", or {or}")?;
        }
        if *is_optional {
            out.write_str(", optional")?;
        }
        Ok(())
    }
}

/// What a row of a source has in a column.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    /// Nothing: an empty field of CSV, a `null`, an optional column that is not there.
    Missing,
    Text(Cow<'a, str>),
    Int(i64),
    /// A time that the source itself knows as one.
    TsNs(i64),
    /// Likewise, but of a clock whose zone it does not say.
    ClockNs(i64),
    /// Something that cannot be read, and why.
    Refused(String),
}

/// A row on its way into the table: one after the other is made in the same memory.
pub(super) struct Row {
    pub(super) event: AnyEvent,
    key: Key,
    /// What its event takes, in bytes.
    pub(super) bytes: usize,
}

impl Row {
    pub(super) fn new(store: &AnyStore) -> Self {
        Self { event: store.event(0), key: Key::default(), bytes: 0 }
    }

    /// A hash of all that the import sets.
    pub(super) fn key(&self) -> u64 {
        self.key.hash()
    }
}

/// Why a row cannot be taken.
pub(super) struct Refusal {
    /// The field whose value it is; `None` where the row as a whole is at fault.
    pub(super) field: Option<usize>,
    pub(super) reason: String,
}

/// A mapping that fits a table.
#[derive(Debug)]
pub(super) struct Binding {
    fields: Vec<Bound>,
    /// The field of the time.
    time: usize,
    id: usize,
}

#[derive(Debug)]
struct Bound {
    source: String,
    is_optional: bool,
    /// Of the column in the table.
    position: usize,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Time(TimeReader),
    Id,
    Text,
    Number { scale: Scale, or: Option<i64> },
}

impl Binding {
    pub(super) fn new(mapping: &Mapping, store: &AnyStore) -> Result<Self, ImportError> {
        let illegal = |what: String| Err(ImportError::Mapping { what });
        let mut fields: Vec<Bound> = Vec::with_capacity(mapping.fields.len());
        for field in &mapping.fields {
            let Field { source, target, time, scale, or, is_optional } = field;
            let position = store.position(target)?;
            if fields.iter().any(|other| other.position == position) {
                return illegal(format!("two columns of the source are to become {target:?}"));
            }
            let is_number = *scale != Scale::ONE || or.is_some();
            let reading = match (target.as_str(), time, store.columns()[position].kind) {
                ("sequence", ..) => {
                    return illegal("the engine gives the sequence itself; leave it out".to_owned());
                }
                ("ts_ns", None, _) => {
                    return illegal("\"ts_ns\" needs a time format: map it by `time`".to_owned());
                }
                ("ts_ns", ..) if is_number || *is_optional => {
                    return illegal(
                        "a time has no digits, factor or default, and every row needs one".to_owned(),
                    );
                }
                ("ts_ns", Some(format), _) => Reading::Time(TimeReader::new(format)?),
                (_, Some(_), _) => return illegal(format!("{target:?} is not the time of the events")),
                (_, None, Kind::Text) if is_number => {
                    return illegal(format!(
                        "{target:?} holds texts: digits, factors and defaults are for numbers"
                    ));
                }
                ("id", None, _) => Reading::Id,
                (_, None, Kind::Text) => Reading::Text,
                // 10^18 is the largest power that fits.
                _ if scale.digits > 18 => {
                    return illegal(format!("{target:?} would keep more than 18 decimals"));
                }
                _ => Reading::Number { scale: *scale, or: or.or(is_optional.then_some(0)) },
            };
            fields.push(Bound { source: source.clone(), is_optional: *is_optional, position, reading });
        }
        let time = fields.iter().position(|field| matches!(field.reading, Reading::Time(_)));
        let Some(time) = time else {
            return illegal("no column of the source becomes \"ts_ns\", the time of the events".to_owned());
        };
        Ok(Self { fields, time, id: store.position("id")? })
    }

    /// The source's columns, in the order of the fields, and whether it may lack them.
    pub(super) fn sources(&self) -> impl ExactSizeIterator<Item = (&str, bool)> {
        self.fields.iter().map(|field| (field.source.as_str(), field.is_optional))
    }

    /// The source's column of a field; nothing where a row as a whole is meant.
    pub(super) fn source_of(&self, field: Option<usize>) -> &str {
        field.map_or("", |field| &self.fields[field].source)
    }

    /// Makes `row` that of the source; `cell` gives what it has for a field, `made_id` the id where it has none. Without that one it is
    /// left to the table.
    pub(super) fn fill<'a>(
        &self,
        row: &mut Row,
        made_id: Option<fmt::Arguments<'_>>,
        mut cell: impl FnMut(usize) -> Cell<'a>,
    ) -> Result<(), Refusal> {
        let refused = |field| move |reason| Refusal { field: Some(field), reason };
        let illegal = |field| move |why: DbError| Refusal { field: Some(field), reason: why.to_string() };
        let Row { event, key, .. } = row;
        let ts_ns = self.ts_ns(cell(self.time)).map_err(refused(self.time))?;
        event.reset(ts_ns);
        key.reset(ts_ns);
        let mut id = None;
        for (place, field) in self.fields.iter().enumerate() {
            let value = match &field.reading {
                Reading::Time(_) => continue,
                Reading::Id => {
                    id = id_of(cell(place)).map_err(refused(place))?.map(|id| (id, place));
                    continue;
                }
                Reading::Text => text_of(cell(place)).map(Value::Text),
                Reading::Number { scale, or } => number_of(cell(place), *scale, *or).map(Value::Int),
            };
            let value = value.map_err(refused(place))?;
            key.add(&value);
            event.put_at(field.position, value).map_err(illegal(place))?;
        }
        if let Some((id, place)) = id.or_else(|| Some((Cow::Owned(made_id?.to_string()), self.time))) {
            key.add_text(&id);
            event.put_at(self.id, Value::Text(id)).map_err(illegal(place))?;
        }
        row.bytes = event.bytes();
        if row.bytes > MAX_EVENT_BYTES {
            let reason = format!("the row has {} bytes, at most {MAX_EVENT_BYTES} are possible", row.bytes);
            return Err(Refusal { field: None, reason });
        }
        Ok(())
    }

    /// The [key](Row::key) of a row that is in the table.
    pub(super) fn key_of(&self, row: &AnyRowView<'_>) -> keplordb::Result<u64> {
        let mut key = Key::default();
        key.reset(row.view().ts_ns());
        for field in &self.fields {
            if matches!(field.reading, Reading::Text | Reading::Number { .. }) {
                key.add(&row.at(field.position)?);
            }
        }
        key.add_text(&row.view().id()?);
        Ok(key.hash())
    }

    fn ts_ns(&self, cell: Cell<'_>) -> Result<i64, String> {
        let Reading::Time(reader) = &self.fields[self.time].reading else {
            unreachable!("`new` finds the field by its reading")
        };
        match cell {
            Cell::Text(text) => reader.of_text(&text),
            Cell::Int(number) => reader.of_int(number),
            Cell::TsNs(ts_ns) => Ok(ts_ns),
            Cell::ClockNs(clock_ns) => reader.of_clock(clock_ns),
            Cell::Missing => Err("is empty, a time is needed".to_owned()),
            Cell::Refused(why) => Err(why),
        }
    }
}

/// By what an import finds a row again: all that it sets, end to end.
#[derive(Debug, Default)]
struct Key(Vec<u8>);

impl Key {
    fn reset(&mut self, ts_ns: i64) {
        self.0.clear();
        self.0.extend(ts_ns.to_le_bytes());
    }

    fn add(&mut self, value: &Value<'_>) {
        match value {
            Value::Int(number) => self.0.extend(number.to_le_bytes()),
            Value::Text(text) => self.add_text(text),
        }
    }

    fn add_text(&mut self, text: &str) {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn hash(&self) -> u64 {
        xxh3_64(&self.0)
    }
}

/// `None` where the row has no id of its own.
fn id_of(cell: Cell<'_>) -> Result<Option<Cow<'_, str>>, String> {
    match cell {
        Cell::Missing => Ok(None),
        cell => text_of(cell).map(Some),
    }
}

fn text_of(cell: Cell<'_>) -> Result<Cow<'_, str>, String> {
    match cell {
        Cell::Missing => Ok(Cow::Borrowed("")),
        Cell::Text(text) => Ok(text),
        Cell::Int(number) | Cell::TsNs(number) | Cell::ClockNs(number) => Ok(Cow::Owned(number.to_string())),
        Cell::Refused(why) => Err(why),
    }
}

fn number_of(cell: Cell<'_>, scale: Scale, or: Option<i64>) -> Result<i64, String> {
    match cell {
        Cell::Missing => or.ok_or_else(|| "is empty, a number is needed".to_owned()),
        Cell::Text(text) => scale.of_text(&text),
        Cell::Int(number) | Cell::TsNs(number) | Cell::ClockNs(number) => scale.of_int(number),
        Cell::Refused(why) => Err(why),
    }
}
