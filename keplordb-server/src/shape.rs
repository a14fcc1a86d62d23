//! The columns of a schema's fields, and states made columns.
//!
//! A state has values as protobuf's JSON writes them: 64-bit integers, bytes, times and keys of maps are texts. What does not fit its
//! column is null there.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use prost_reflect::{FieldDescriptor, Kind as Proto, MessageDescriptor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::rql::time::time_ns;

type Result<T> = std::result::Result<T, ArrowError>;

const UTC: &str = "UTC";
/// What a list's elements are called, as in Parquet files of others.
const ITEM: &str = "item";
/// Likewise what a map has.
const ENTRIES: &str = "key_value";
const KEY: &str = "key";
const VALUE: &str = "value";
/// Messages within messages whose fields are columns; one that is deeper is JSON. A manifest has them as JSON, which is not read when
/// it is nested deeper than 128 times, and each takes four.
const LEVELS_MAX: usize = 16;
/// Columns of a type, with those within columns, after which no message is entered any more: one that holds another in two fields,
/// and that one the next, would be a million columns in twenty levels.
const COLUMNS_MAX: usize = 1000;

/// Places of a row's lists and maps in columns, elements times columns within them, beyond which they are null: eight megabytes of `{}` in
/// a list of messages with a hundred fields are nearly three million elements, and each takes a place in every one of these columns, empty
/// as it is. Two million take some ten bytes each, while they are made.
pub(crate) const PLACES_MAX: usize = 2_000_000;

/// Columns that a type's tables have besides those of its fields: all of them, in files and in questions, so that a field has a column in
/// both or in neither.
const OWN: [&str; 9] =
    ["id", "_version", "_updated_at", "_op", "_valid_from", "_valid_to", "_known_from", "_known_to", "_seq"];

/// The columns of a type's fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape(Vec<Column>);

/// A field as a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Column {
    name: String,
    /// The field's number, where it is to be in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Bool,
    Int32,
    Int64,
    /// As decimal: others have no unsigned numbers.
    Unsigned,
    Float32,
    Float64,
    Text,
    /// The name of a value; the number of one that the schema did not know when it came.
    Enum,
    Bytes,
    Time,
    /// What has no type of its own: messages within themselves, and those of Google but times.
    Json,
    List(Box<Kind>),
    Map(Box<Kind>, Box<Kind>),
    Message(Vec<Column>),
}

impl Shape {
    /// The columns of a message's fields, in the order of their numbers, but for those that are called as one of the table's own is, in
    /// any case: to most who ask `Id` is `id`.
    pub(crate) fn of(message: &MessageDescriptor) -> Self {
        let mut columns = Walk::default().columns_of(message);
        columns.retain(|column| !OWN.iter().any(|own| own.eq_ignore_ascii_case(&column.name)));
        Self(columns)
    }

    /// The same as a table in memory has it: without numbers, and with maps as JSON.
    #[cfg(feature = "sql")]
    pub(crate) fn plain(self) -> Self {
        Self(plain(self.0))
    }

    /// The same with some of the fields only.
    #[cfg(feature = "sql")]
    pub(crate) fn only(&self, is_needed: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|column| is_needed(&column.name)).cloned().collect())
    }

    #[cfg(feature = "sql")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fields(&self) -> Vec<Field> {
        self.0.iter().map(Column::field).collect()
    }

    /// Takes those lists and maps out of a state for which there are too many places in it, with those of the fields before them, also out
    /// of messages; gives how many those take that stay.
    pub(crate) fn fit(&self, state: &mut Map<String, Value>) -> usize {
        let mut left = PLACES_MAX;
        fit(&self.0, state, &mut left);
        PLACES_MAX - left
    }

    /// The columns of some states, of which one that is not there has no value in any.
    pub(crate) fn columns(&self, states: &[Option<&Map<String, Value>>]) -> Result<Vec<ArrayRef>> {
        columns(&self.0, states)
    }

    /// Likewise all columns as one. A shape without columns has none.
    #[cfg(feature = "sql")]
    pub(crate) fn column(&self, states: &[Option<&Map<String, Value>>]) -> Result<ArrayRef> {
        message(&self.0, states)
    }
}

/// The way through the messages of a type.
#[derive(Default)]
struct Walk {
    /// The messages around the one that is looked at, and itself.
    within: Vec<String>,
    /// Columns so far.
    columns: usize,
}

impl Walk {
    fn columns_of(&mut self, message: &MessageDescriptor) -> Vec<Column> {
        self.within.push(message.full_name().to_owned());
        self.columns += message.fields().len();
        let mut columns = Vec::new();
        for field in message.fields() {
            let kind = self.kind_of(&field);
            columns.push(Column { name: field.name().to_owned(), number: Some(field.number()), kind });
        }
        self.within.pop();
        columns
    }

    fn kind_of(&mut self, field: &FieldDescriptor) -> Kind {
        match field.kind() {
            Proto::Message(entry) if field.is_map() => {
                let key = self.kind_of_one(entry.map_entry_key_field().kind());
                let value = self.kind_of_one(entry.map_entry_value_field().kind());
                Kind::Map(Box::new(key), Box::new(value))
            }
            kind if field.is_list() => Kind::List(Box::new(self.kind_of_one(kind))),
            kind => self.kind_of_one(kind),
        }
    }

    fn kind_of_one(&mut self, kind: Proto) -> Kind {
        match kind {
            Proto::Bool => Kind::Bool,
            Proto::Int32 | Proto::Sint32 | Proto::Sfixed32 => Kind::Int32,
            Proto::Uint32 | Proto::Fixed32 | Proto::Int64 | Proto::Sint64 | Proto::Sfixed64 => Kind::Int64,
            Proto::Uint64 | Proto::Fixed64 => Kind::Unsigned,
            Proto::Float => Kind::Float32,
            Proto::Double => Kind::Float64,
            Proto::String => Kind::Text,
            Proto::Enum(_) => Kind::Enum,
            Proto::Bytes => Kind::Bytes,
            Proto::Message(inner) => match inner.full_name() {
                "google.protobuf.Timestamp" => Kind::Time,
                name if name.starts_with("google.protobuf.")
                    || self.within.iter().any(|outer| outer == name)
                    || self.within.len() >= LEVELS_MAX
                    || self.columns >= COLUMNS_MAX =>
                {
                    Kind::Json
                }
                _ => Some(self.columns_of(&inner))
                    .filter(|columns| !columns.is_empty())
                    .map_or(Kind::Json, Kind::Message),
            },
        }
    }
}

#[cfg(feature = "sql")]
fn plain(columns: Vec<Column>) -> Vec<Column> {
    let plain = |column: Column| Column { name: column.name, number: None, kind: column.kind.plain() };
    columns.into_iter().map(plain).collect()
}

impl Column {
    fn field(&self) -> Field {
        let field = Field::new(&self.name, self.kind.data_type(), true);
        match self.number {
            None => field,
            Some(number) => field
                .with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), number.to_string())])),
        }
    }
}

impl Kind {
    #[cfg(feature = "sql")]
    fn plain(self) -> Self {
        match self {
            Self::Map(..) => Self::Json,
            Self::List(kind) => Self::List(Box::new(kind.plain())),
            Self::Message(columns) => Self::Message(plain(columns)),
            kind => kind,
        }
    }

    /// Whether a value of it may have any number of places.
    fn has_lists(&self) -> bool {
        match self {
            Self::List(_) | Self::Map(..) => true,
            Self::Message(columns) => columns.iter().any(|column| column.kind.has_lists()),
            _ => false,
        }
    }

    /// Columns in which it is in the end; each has a place also for a list that is empty, or not there.
    fn leaves(&self) -> usize {
        match self {
            Self::List(kind) => kind.leaves(),
            Self::Map(key, value) => key.leaves() + value.leaves(),
            Self::Message(columns) => columns.iter().map(|column| column.kind.leaves()).sum(),
            _ => 1,
        }
    }

    /// How many places a value takes in columns. Where they are more than `most` it is some number above that: it is not gone through any
    /// further.
    fn places(&self, value: &Value, most: usize) -> usize {
        match (self, value) {
            (Self::List(kind), Value::Array(elements)) if !elements.is_empty() => {
                let least = elements.len().saturating_mul(kind.leaves());
                if least > most || !kind.has_lists() {
                    return least;
                }
                sum(elements.iter().map(|element| kind.places(element, most)), most)
            }
            (Self::Map(key, kind), Value::Object(members)) if !members.is_empty() => {
                let keys = key.leaves();
                let least = members.len().saturating_mul(keys + kind.leaves());
                if least > most || !kind.has_lists() {
                    return least;
                }
                sum(members.values().map(|member| keys + kind.places(member, most)), most)
            }
            (Self::Message(columns), Value::Object(fields)) => {
                let places = |column: &Column| {
                    let field = fields.get(&column.name);
                    field.map_or_else(|| column.kind.leaves(), |field| column.kind.places(field, most))
                };
                sum(columns.iter().map(places), most)
            }
            _ => self.leaves(),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Unsigned => DataType::Decimal128(20, 0),
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Text | Self::Enum | Self::Json => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::List(kind) => DataType::List(Arc::new(Field::new(ITEM, kind.data_type(), true))),
            Self::Map(key, value) => {
                let entries = DataType::Struct(entry_fields(key, value));
                DataType::Map(Arc::new(Field::new(ENTRIES, entries, false)), false)
            }
            Self::Message(columns) => DataType::Struct(fields(columns)),
        }
    }

    fn array(&self, values: &[Option<&Value>]) -> Result<ArrayRef> {
        let each = || values.iter().copied();
        Ok(match self {
            Self::Bool => Arc::new(each().map(|value| value?.as_bool()).collect::<BooleanArray>()),
            Self::Int32 => Arc::new(each().map(|value| int32(value?)).collect::<Int32Array>()),
            Self::Int64 => Arc::new(each().map(|value| int64(value?)).collect::<Int64Array>()),
            Self::Unsigned => {
                let numbers = each().map(|value| unsigned(value?).map(i128::from));
                Arc::new(numbers.collect::<Decimal128Array>().with_data_type(self.data_type()))
            }
            Self::Float32 => {
                #[expect(clippy::cast_possible_truncation, reason = "the field is one of 32 bits")]
                let narrow =
                    |number: f64| Some(number as f32).filter(|it| it.is_finite() || !number.is_finite());
                Arc::new(each().map(|value| narrow(double(value?)?)).collect::<Float32Array>())
            }
            Self::Float64 => Arc::new(each().map(|value| double(value?)).collect::<Float64Array>()),
            Self::Text => Arc::new(each().map(|value| value?.as_str()).collect::<StringArray>()),
            Self::Enum => {
                let fits = |value: &&Value| value.is_string() || value.is_i64();
                Arc::new(each().map(|value| value.filter(fits).map(json)).collect::<StringArray>())
            }
            Self::Json => Arc::new(each().map(|value| value.map(json)).collect::<StringArray>()),
            Self::Bytes => {
                let bytes: Vec<Option<Vec<u8>>> =
                    each().map(|value| BASE64_STANDARD.decode(value?.as_str()?).ok()).collect();
                Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
            }
            Self::Time => {
                let times: TimestampMicrosecondArray = each().map(|value| time_us(value?)).collect();
                Arc::new(times.with_timezone(UTC))
            }
            Self::List(kind) => list(kind, values)?,
            Self::Map(key, value) => map(key, value, values)?,
            Self::Message(columns) => {
                let objects: Vec<_> = each().map(|value| value.and_then(Value::as_object)).collect();
                message(columns, &objects)?
            }
        })
    }

    /// The key of a map that JSON has as the name of a member; `None` where it is none of this kind as it would be written, so that no
    /// two members have the same.
    fn key(&self, name: &str) -> Option<Value> {
        let text = Value::from(name);
        let number = match self {
            Self::Text => return Some(text),
            Self::Bool => return name.parse().ok().map(Value::Bool),
            Self::Int32 => int32(&text).map(i128::from),
            Self::Int64 => int64(&text).map(i128::from),
            Self::Unsigned => unsigned(&text).map(i128::from),
            _ => None,
        };
        number.filter(|number| number.to_string() == name).map(|_| text)
    }
}

/// Takes out of a message the lists and maps for which there are too few places left. What has no elements takes none: as a field without
/// a list it is one value of a column, of which each row has one.
fn fit(columns: &[Column], message: &mut Map<String, Value>, left: &mut usize) {
    for column in columns.iter().filter(|column| column.kind.has_lists()) {
        let places = match (&column.kind, message.get_mut(&column.name)) {
            (Kind::Message(columns), Some(Value::Object(inner))) => {
                fit(columns, inner, left);
                continue;
            }
            (kind @ (Kind::List(_) | Kind::Map(..)), Some(value)) if has_elements(value) => {
                kind.places(value, *left)
            }
            _ => continue,
        };
        match left.checked_sub(places) {
            Some(rest) => *left = rest,
            None => drop(message.remove(&column.name)),
        }
    }
}

/// Of a list or a map, whether it has any; what is none of both is null.
fn has_elements(value: &Value) -> bool {
    match value {
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    }
}

/// The sum of some numbers, or of the first that are more than `most` together.
fn sum(numbers: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut sum = 0_usize;
    for number in numbers {
        sum = sum.saturating_add(number);
        if sum > most {
            break;
        }
    }
    sum
}

fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(Column::field).collect()
}

fn entry_fields(key: &Kind, value: &Kind) -> Fields {
    Fields::from(vec![Field::new(KEY, key.data_type(), false), Field::new(VALUE, value.data_type(), true)])
}

fn columns(columns: &[Column], objects: &[Option<&Map<String, Value>>]) -> Result<Vec<ArrayRef>> {
    let array = |column: &Column| {
        let values = objects.iter().map(|object| object.and_then(|object| object.get(&column.name)));
        column.kind.array(&values.map(|value| value.filter(|value| !value.is_null())).collect::<Vec<_>>())
    };
    columns.iter().map(array).collect()
}

fn message(all: &[Column], objects: &[Option<&Map<String, Value>>]) -> Result<ArrayRef> {
    let is_there = objects.iter().map(Option::is_some).collect::<Vec<_>>();
    let nulls = Some(NullBuffer::from(is_there));
    Ok(Arc::new(StructArray::try_new(fields(all), columns(all, objects)?, nulls)?))
}

fn list(kind: &Kind, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let lists: Vec<Option<&Vec<Value>>> =
        values.iter().map(|value| value.and_then(Value::as_array)).collect();
    let elements: Vec<Option<&Value>> = lists
        .iter()
        .flatten()
        .flat_map(|list| list.iter().map(|value| Some(value).filter(|value| !value.is_null())))
        .collect();
    let elements = kind.array(&elements)?;
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
    let field = Arc::new(Field::new(ITEM, elements.data_type().clone(), true));
    let is_there = lists.iter().map(Option::is_some).collect::<Vec<_>>();
    Ok(Arc::new(ListArray::try_new(field, offsets, elements, Some(NullBuffer::from(is_there)))?))
}

/// An object with a name that is no key fits as little as what is no object.
fn map(key: &Kind, value: &Kind, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let entries_of = |members: &Map<String, Value>| {
        members.iter().map(|(name, value)| Some((key.key(name)?, value.clone()))).collect()
    };
    let maps: Vec<Option<Vec<(Value, Value)>>> =
        values.iter().map(|value| value.and_then(Value::as_object).and_then(entries_of)).collect();
    let entries = || maps.iter().flatten().flatten();
    let keys = key.array(&entries().map(|(key, _)| Some(key)).collect::<Vec<_>>())?;
    let of_keys = entries().map(|(_, value)| Some(value).filter(|value| !value.is_null()));
    let of_keys = value.array(&of_keys.collect::<Vec<_>>())?;
    let entries = StructArray::try_new(entry_fields(key, value), vec![keys, of_keys], None)?;
    let offsets = OffsetBuffer::from_lengths(maps.iter().map(|entries| entries.as_ref().map_or(0, Vec::len)));
    let field = Arc::new(Field::new(ENTRIES, entries.data_type().clone(), false));
    let is_there = maps.iter().map(Option::is_some).collect::<Vec<_>>();
    let nulls = Some(NullBuffer::from(is_there));
    Ok(Arc::new(MapArray::try_new(field, offsets, entries, nulls, false)?))
}

fn int32(value: &Value) -> Option<i32> {
    integer(value)?.try_into().ok()
}

fn int64(value: &Value) -> Option<i64> {
    integer(value)?.try_into().ok()
}

fn unsigned(value: &Value) -> Option<u64> {
    integer(value)?.try_into().ok()
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Protobuf writes what is no number of JSON as text.
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Without the rest of a microsecond, as jiff has it: towards 1970.
fn time_us(value: &Value) -> Option<i64> {
    i64::try_from(time_ns(value.as_str()?)? / 1000).ok()
}

/// A text as it is, all else as JSON.
fn json(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use arrow::array::AsArray as _;
    use arrow::datatypes::{Decimal128Type, Float32Type, Int32Type, Int64Type, TimestampMicrosecondType};
    use serde_json::json;

    use super::*;
    use crate::schema::Schema;

    fn shape(messages: &str) -> Shape {
        let text = format!(
            "syntax = \"proto3\"; package reflog.v1; import \"google/protobuf/timestamp.proto\"; {messages}"
        );
        let schema = Schema::compile(Path::new("custom.proto"), 1, &text).unwrap();
        Shape::of(schema.get("All").unwrap().message())
    }

    fn columns_of(shape: &Shape, states: &[Value]) -> Vec<ArrayRef> {
        let states: Vec<_> = states.iter().map(Value::as_object).collect();
        shape.columns(&states).unwrap()
    }

    #[test]
    fn a_field_is_a_column_of_its_kind_with_its_number() {
        let all = "message All {
            string id = 1; bool flag = 2; uint32 small = 3; uint64 large = 4; float ratio = 5; Level level = 6;
            bytes raw = 7; google.protobuf.Timestamp born = 8; repeated string tags = 9; map<int32, Inner> by = 10;
            Inner inner = 11; All again = 12; sint32 signed = 13;
            message Inner { double x = 4; All outer = 5; } enum Level { LOW = 0; HIGH = 1; } }";
        let shape = shape(all);
        let fields = shape.fields();
        let found: Vec<(&str, &str, String)> = fields
            .iter()
            .map(|field| {
                let number = field.metadata()[PARQUET_FIELD_ID_META_KEY].as_str();
                (field.name().as_str(), number, field.data_type().to_string())
            })
            .collect();
        let inner = Shape(vec![
            Column { name: "x".to_owned(), number: Some(4), kind: Kind::Float64 },
            // What is within itself has no end.
            Column { name: "outer".to_owned(), number: Some(5), kind: Kind::Json },
        ]);
        let kinds = [
            ("flag", Kind::Bool),
            ("small", Kind::Int64),
            ("large", Kind::Unsigned),
            ("ratio", Kind::Float32),
            ("level", Kind::Enum),
            ("raw", Kind::Bytes),
            ("born", Kind::Time),
            ("tags", Kind::List(Box::new(Kind::Text))),
            ("by", Kind::Map(Box::new(Kind::Int32), Box::new(Kind::Message(inner.0.clone())))),
            ("inner", Kind::Message(inner.0)),
            ("again", Kind::Json),
            ("signed", Kind::Int32),
        ];
        let numbers: Vec<String> = (2..=13).map(|number| number.to_string()).collect();
        let wanted: Vec<(&str, &str, String)> = kinds
            .iter()
            .zip(&numbers)
            .map(|((name, kind), number)| (*name, number.as_str(), kind.data_type().to_string()))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(fields[2].data_type(), &DataType::Decimal128(20, 0));
        // As a manifest keeps it.
        let kept: Shape = serde_json::from_str(&serde_json::to_string(&shape).unwrap()).unwrap();
        assert_eq!(kept, shape);
    }

    #[test]
    fn a_field_that_is_called_as_a_column_of_the_tables_has_none_in_whatever_case() {
        let shape = shape(
            "message All { string ID = 1; int32 Ids = 2; string _Seq = 3; string _VALID_to = 4; Inner x = 5; message Inner { int32 Id = 1; } }",
        );
        let fields = shape.fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["Ids", "x"]);
        // Within others it is no column of the table.
        assert!(matches!(fields[1].data_type(), DataType::Struct(inner) if inner[0].name() == "Id"));
    }

    #[test]
    fn what_fits_is_there_and_what_does_not_is_null() {
        let shape = shape(
            "message All { int32 a = 1; uint64 b = 2; float c = 3; bytes d = 4; google.protobuf.Timestamp e = 5;
            repeated int64 f = 6; map<int32, string> g = 7; Inner h = 8; map<bool, int32> i = 9;
            Level j = 10; float k = 11; message Inner { string x = 1; } enum Level { LOW = 0; } }",
        );
        let columns = columns_of(
            &shape,
            &[
                json!({"a": -7, "b": "18446744073709551615", "c": "NaN", "d": "aGk=", "e": "1970-01-01T00:00:01.5Z",
                    "f": ["1", 2, null, "x"], "g": {"7": "seven", "-1": null}, "h": {"x": "y", "z": 1}, "i": {"true": 1},
                    "j": 7, "k": 1e30}),
                json!({"a": 3_000_000_000_u64, "b": "-1", "c": true, "d": "?", "e": "yesterday",
                    "f": "1", "g": {"07": "seven"}, "h": [], "i": {"True": 1}, "j": 0.5, "k": 1e39}),
                json!("no object"),
            ],
        );
        assert!(columns.iter().all(|column| column.len() == 3 && column.null_count() == 2));
        assert_eq!(columns[0].as_primitive::<Int32Type>().value(0), -7);
        assert_eq!(columns[1].as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
        assert!(columns[2].as_primitive::<Float32Type>().value(0).is_nan());
        assert_eq!(columns[3].as_binary::<i32>().value(0), b"hi");
        assert_eq!(columns[4].as_primitive::<TimestampMicrosecondType>().value(0), 1_500_000);
        let list = columns[5].as_list::<i32>().value(0);
        let list: Vec<Option<i64>> = list.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(list, [Some(1), Some(2), None, None]);
        let map = columns[6].as_map();
        // In the order of their texts.
        assert_eq!(map.keys().as_primitive::<Int32Type>().values().to_vec(), [-1, 7]);
        let values: Vec<Option<&str>> = map.values().as_string::<i32>().iter().collect();
        assert_eq!(values, [None, Some("seven")]);
        assert_eq!(columns[7].as_struct().column(0).as_string::<i32>().value(0), "y");
        assert!(columns[8].as_map().keys().as_boolean().value(0));
        assert_eq!(columns[9].as_string::<i32>().value(0), "7");
        assert!(columns[10].as_primitive::<Float32Type>().value(0).is_finite());
    }

    #[test]
    fn a_time_is_there_up_to_the_end_of_what_protobuf_has() {
        let shape = shape("message All { google.protobuf.Timestamp a = 1; }");
        let texts = [
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800_000_000)),
            ("1969-12-31T23:59:59.999999500Z", Some(0)),
            ("9999-12-30T22:00:00.999999999Z", Some(253_402_207_200_999_999)),
            ("9999-12-30T22:00:01Z", Some(253_402_207_201_000_000)),
            ("9999-12-31T00:00:00Z", Some(253_402_214_400_000_000)),
            ("9999-12-31T23:59:59.999999999Z", Some(253_402_300_799_999_999)),
            ("9999-12-31", None),
            ("9999-12-32T00:00:00Z", None),
            ("10000-01-01T00:00:00Z", None),
        ];
        let states: Vec<Value> = texts.iter().map(|(text, _)| json!({ "a": text })).collect();
        let columns = columns_of(&shape, &states);
        let found: Vec<Option<i64>> = columns[0].as_primitive::<TimestampMicrosecondType>().iter().collect();
        assert_eq!(found, texts.map(|(_, wanted)| wanted));
    }

    #[test]
    fn a_list_with_too_many_places_is_null_and_the_others_stay() {
        let shape = shape(
            "message All { repeated Inner a = 1; repeated int32 b = 2; map<string, Inner> c = 3; string d = 4; Outer e = 5;
            message Inner { string x = 1; string y = 2; repeated string z = 3; repeated Inner more = 4; }
            message Outer { repeated Level levels = 1; string name = 2; Late late = 3; } message Level { repeated int32 numbers = 1; }
            message Late { repeated string words = 1; map<string, string> by = 2; bool flag = 3; } }",
        );
        let empty = |count: usize| Value::Array(vec![json!({}); count]);
        let fit = |state: Value| {
            let Value::Object(mut state) = state else { unreachable!() };
            let places = shape.fit(&mut state);
            (places, state.into_iter().map(|(name, _)| name).collect::<String>())
        };
        // Each element has a place in four columns.
        let most = PLACES_MAX / 4;
        assert_eq!(fit(json!({"a": empty(most), "d": "x"})), (PLACES_MAX, "ad".to_owned()));
        assert_eq!(fit(json!({"a": empty(most + 1), "d": "x"})), (0, "d".to_owned()));
        // With those of the fields before it; and what is smaller may fit then.
        let numbers = vec![7; 100];
        assert_eq!(
            fit(json!({"a": empty(most - 10), "b": numbers, "c": {"k": {}, "l": {"z": ["", ""]}}})),
            (PLACES_MAX - 40 + 5 + 6, "ac".to_owned())
        );
        // Also of lists within others, which are few by themselves.
        let level = json!({ "numbers": vec![0; 1500] });
        let levels = |count: usize| json!({"e": {"levels": vec![level.clone(); count]}, "d": null});
        assert_eq!(fit(levels(1333)), (1333 * 1500, "de".to_owned()));
        // What is no list, and so is null, takes none, nor does what has no elements.
        assert_eq!(fit(json!({"a": "none", "b": null, "c": {}, "e": 1})), (0, "abce".to_owned()));

        // Of a message only the list goes that does not fit: its other fields stay, and the messages behind it, which have none.
        let fitted = |state: Value| {
            let Value::Object(mut state) = state else { unreachable!() };
            let places = shape.fit(&mut state);
            (places, Value::Object(state))
        };
        let late = json!({"words": [], "by": {}, "flag": true});
        let large = json!({"levels": vec![level.clone(); 1334], "name": "x", "late": late});
        assert_eq!(fitted(json!({ "e": large })), (0, json!({"e": {"name": "x", "late": late}})));
        let behind = json!({"a": empty(most), "e": {"name": "x", "late": late}});
        assert_eq!(fitted(behind.clone()), (PLACES_MAX, behind));
        let last = json!({"a": empty(most), "e": {"levels": [{}], "name": "x", "late": {"by": {"k": "v"}, "flag": true}}});
        let (places, state) = fitted(last);
        assert_eq!((places, &state["e"]), (PLACES_MAX, &json!({"name": "x", "late": {"flag": true}})));
    }

    /// Columns, with those within them.
    fn count(columns: &[Column]) -> usize {
        let within = |column: &Column| match &column.kind {
            Kind::Message(columns) => count(columns),
            _ => 0,
        };
        columns.len() + columns.iter().map(within).sum::<usize>()
    }

    #[test]
    fn messages_within_messages_are_columns_up_to_a_limit() {
        // Each has the next one twice: thirty levels would be a thousand million columns.
        let mut messages = String::from("message All { M0 a = 1; M0 b = 2; }");
        for level in 0..30 {
            let next = level + 1;
            write!(messages, "message M{level} {{ M{next} a = 1; M{next} b = 2; }}").unwrap();
        }
        messages.push_str("message M30 { string a = 1; }");
        let shape = shape(&messages);
        let columns = count(&shape.0);
        assert!((COLUMNS_MAX..2 * COLUMNS_MAX).contains(&columns), "{columns}");
        // Nor is it nested deeper than it can be read again.
        let kept: Shape = serde_json::from_str(&serde_json::to_string(&shape).unwrap()).unwrap();
        assert_eq!(kept, shape);
        // What is cut off is JSON.
        let mut state = json!("deep");
        for _ in 0..40 {
            state = json!({ "a": state });
        }
        let mut column = columns_of(&shape, &[state]).swap_remove(0);
        while matches!(column.data_type(), DataType::Struct(_)) {
            let inner = Arc::clone(column.as_struct().column(0));
            column = inner;
        }
        let text = column.as_string::<i32>().value(0);
        assert!(text.starts_with("{\"a\":{\"a\":") && text.contains("deep"), "{text}");
    }

    #[cfg(feature = "sql")]
    #[test]
    fn questions_have_maps_as_json_and_no_numbers() {
        let shape = shape(
            "message All { map<string, int32> a = 1; repeated Inner b = 2; message Inner { map<string, int32> c = 1; } }",
        );
        let fields = shape.plain().fields();
        assert!(fields.iter().all(|field| field.metadata().is_empty()));
        assert_eq!(fields[0].data_type(), &DataType::Utf8);
        let inner = Fields::from(vec![Field::new("c", DataType::Utf8, true)]);
        assert_eq!(
            fields[1].data_type(),
            &DataType::List(Arc::new(Field::new(ITEM, DataType::Struct(inner), true)))
        );
    }
}
