//! The columns of a schema's fields, and states made columns.
//!
//! A state has values as protobuf's JSON writes them: 64-bit integers, bytes and times are texts. What does not fit its column is null
//! there.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use prost_reflect::{FieldDescriptor, Kind as Proto, MessageDescriptor};
use serde_json::{Map, Value};

const UTC: &str = "UTC";
/// What a list's elements are called, as in Parquet files of others.
const ITEM: &str = "item";
/// Columns that a typed table has besides its fields.
pub(super) const OWN: [&str; 4] = ["id", "_version", "_updated_at", "_seq"];

/// The columns of a type's fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape(Vec<(String, Kind)>);

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Bool,
    Int32,
    Int64,
    /// As decimal: others have no unsigned numbers.
    Unsigned,
    Float32,
    Float64,
    Text,
    Bytes,
    Time,
    /// What has no type of its own: maps, messages within themselves, and those of Google but times.
    Json,
    List(Box<Kind>),
    Message(Vec<(String, Kind)>),
}

impl Shape {
    pub(super) fn of(message: &MessageDescriptor) -> Self {
        let fields = fields_of(message, &mut Vec::new());
        Self(fields.into_iter().filter(|(name, _)| !OWN.contains(&name.as_str())).collect())
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        self.0.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect()
    }

    /// The same with some of the fields only.
    pub(super) fn only(&self, is_needed: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| is_needed(name)).cloned().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The function from the text of a state to all columns at once.
    pub(super) fn function(self) -> ScalarUDF {
        let kind = DataType::Struct(Fields::from(self.fields()));
        let typed = move |args: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(args)?;
            let Some(states) = arrays.first() else {
                return datafusion::common::internal_err!("a state is the argument");
            };
            let states = as_string_array(states)?;
            let parsed: Vec<Option<Map<String, Value>>> =
                states.iter().map(|state| state.map(parse).transpose()).collect::<Result<_>>()?;
            let parsed: Vec<Option<&Map<String, Value>>> = parsed.iter().map(Option::as_ref).collect();
            Ok(ColumnarValue::Array(message(&self.0, &parsed)?))
        };
        create_udf("reflog_fields", vec![DataType::Utf8], kind, Volatility::Immutable, Arc::new(typed))
    }
}

/// The object that the text of a state is.
pub(super) fn parse(state: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(state).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// `within` are the messages around it.
fn fields_of(message: &MessageDescriptor, within: &mut Vec<String>) -> Vec<(String, Kind)> {
    within.push(message.full_name().to_owned());
    let fields = message.fields().map(|field| (field.name().to_owned(), kind_of(&field, within))).collect();
    within.pop();
    fields
}

fn kind_of(field: &FieldDescriptor, within: &mut Vec<String>) -> Kind {
    if field.is_map() {
        return Kind::Json;
    }
    let kind = match field.kind() {
        Proto::Bool => Kind::Bool,
        Proto::Int32 | Proto::Sint32 | Proto::Sfixed32 => Kind::Int32,
        Proto::Uint32 | Proto::Fixed32 | Proto::Int64 | Proto::Sint64 | Proto::Sfixed64 => Kind::Int64,
        Proto::Uint64 | Proto::Fixed64 => Kind::Unsigned,
        Proto::Float => Kind::Float32,
        Proto::Double => Kind::Float64,
        Proto::String | Proto::Enum(_) => Kind::Text,
        Proto::Bytes => Kind::Bytes,
        Proto::Message(inner) => match inner.full_name() {
            "google.protobuf.Timestamp" => Kind::Time,
            name if name.starts_with("google.protobuf.") || within.iter().any(|outer| outer == name) => {
                Kind::Json
            }
            _ => Some(fields_of(&inner, within))
                .filter(|fields| !fields.is_empty())
                .map_or(Kind::Json, Kind::Message),
        },
    };
    if field.is_list() { Kind::List(Box::new(kind)) } else { kind }
}

impl Kind {
    fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Unsigned => DataType::Decimal128(20, 0),
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Text | Self::Json => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::List(kind) => DataType::List(Arc::new(Field::new(ITEM, kind.data_type(), true))),
            Self::Message(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }

    fn array(&self, values: &[Option<&Value>]) -> Result<ArrayRef> {
        let each = || values.iter().copied();
        Ok(match self {
            Self::Bool => Arc::new(each().map(|value| value?.as_bool()).collect::<BooleanArray>()),
            Self::Int32 => {
                let numbers = each().map(|value| i32::try_from(integer(value?)?).ok());
                Arc::new(numbers.collect::<Int32Array>())
            }
            Self::Int64 => {
                let numbers = each().map(|value| i64::try_from(integer(value?)?).ok());
                Arc::new(numbers.collect::<Int64Array>())
            }
            Self::Unsigned => {
                let numbers = each().map(|value| u64::try_from(integer(value?)?).ok().map(i128::from));
                Arc::new(numbers.collect::<Decimal128Array>().with_data_type(self.data_type()))
            }
            Self::Float32 => {
                #[expect(clippy::cast_possible_truncation, reason = "the field is one of 32 bits")]
                let numbers = each().map(|value| double(value?).map(|number| number as f32));
                Arc::new(numbers.collect::<Float32Array>())
            }
            Self::Float64 => Arc::new(each().map(|value| double(value?)).collect::<Float64Array>()),
            Self::Text => Arc::new(each().map(|value| value?.as_str()).collect::<StringArray>()),
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
            Self::Message(fields) => {
                let objects: Vec<_> = each().map(|value| value.and_then(Value::as_object)).collect();
                message(fields, &objects)?
            }
        })
    }
}

fn arrow_fields(fields: &[(String, Kind)]) -> Fields {
    fields.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect()
}

fn message(fields: &[(String, Kind)], objects: &[Option<&Map<String, Value>>]) -> Result<ArrayRef> {
    let column = |(name, kind): &(String, Kind)| {
        let values = objects.iter().map(|object| object.and_then(|object| object.get(name)));
        kind.array(&values.map(|value| value.filter(|value| !value.is_null())).collect::<Vec<_>>())
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
    let is_there = objects.iter().map(Option::is_some).collect::<Vec<_>>();
    let all = StructArray::try_new(arrow_fields(fields), columns, Some(NullBuffer::from(is_there)))?;
    Ok(Arc::new(all))
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

fn time_us(value: &Value) -> Option<i64> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_microsecond())
}

/// A text as it is, all else as JSON.
fn json(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
