//! Values of Arrow as cells of a sheet: exact, times in RFC 3339.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::sheet::{Cell, Heading};

/// The columns of an answer.
pub(super) fn headings(schema: &SchemaRef) -> Vec<Heading> {
    let of = |(name, field): (String, &Arc<Field>)| {
        if field.data_type().is_numeric() { Heading::right(name) } else { Heading::left(name) }
    };
    names(schema).into_iter().zip(schema.fields()).map(of).collect()
}

/// Their names. Those that come twice, as in joins, get a number, because an object of JSON has each name once.
fn names(schema: &SchemaRef) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in schema.fields() {
        let numbered = (2..).map(|number| format!("{}_{number}", field.name()));
        let mut tried = std::iter::once(field.name().clone()).chain(numbered);
        names.extend(tried.find(|name| !names.contains(name)));
    }
    names
}

/// The values of a column of a batch, by their rows.
pub(super) type Cells<'a> = Box<dyn Fn(usize) -> Result<Cell> + 'a>;

/// How the values of a column become cells; nulls become nothing.
pub(super) fn cells(array: &ArrayRef) -> Result<Cells<'_>> {
    let of_value = of_values(array)?;
    // Also those that stand in the values of a dictionary.
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    let Some(nulls) = nulls else { return Ok(of_value) };
    Ok(Box::new(move |row| if nulls.is_null(row) { Ok(Cell::Nothing) } else { of_value(row) }))
}

fn of_values(array: &ArrayRef) -> Result<Cells<'_>> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_| Ok(Cell::Nothing)),
        DataType::Boolean => {
            let truths = array.as_boolean();
            Box::new(move |row| Ok(Cell::Truth(truths.value(row))))
        }
        DataType::Int8 => whole::<Int8Type>(array),
        DataType::Int16 => whole::<Int16Type>(array),
        DataType::Int32 => whole::<Int32Type>(array),
        DataType::Int64 => whole::<Int64Type>(array),
        DataType::UInt8 => whole::<UInt8Type>(array),
        DataType::UInt16 => whole::<UInt16Type>(array),
        DataType::UInt32 => whole::<UInt32Type>(array),
        DataType::UInt64 => whole::<UInt64Type>(array),
        DataType::Float16 => {
            let floats = array.as_primitive::<Float16Type>();
            Box::new(move |row| Ok(Cell::Float(floats.value(row).to_f64())))
        }
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            // As many digits as tell it from all other floats of its width: 0.1 and not 0.10000000149011612.
            Box::new(move |row| {
                let float = floats.value(row);
                Ok(Cell::Float(float.to_string().parse().unwrap_or(f64::from(float))))
            })
        }
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            Box::new(move |row| Ok(Cell::Float(floats.value(row))))
        }
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            Box::new(move |row| Ok(Cell::Text(texts.value(row).to_owned())))
        }
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>();
            Box::new(move |row| Ok(Cell::Text(texts.value(row).to_owned())))
        }
        DataType::Utf8View => {
            let texts = array.as_string_view();
            Box::new(move |row| Ok(Cell::Text(texts.value(row).to_owned())))
        }
        DataType::Timestamp(unit, Some(zone)) if matches!(&**zone, "UTC" | "Z" | "+00:00") => match unit {
            TimeUnit::Second => time::<TimestampSecondType>(array, 1_000_000_000)?,
            TimeUnit::Millisecond => time::<TimestampMillisecondType>(array, 1_000_000)?,
            TimeUnit::Microsecond => time::<TimestampMicrosecondType>(array, 1_000)?,
            TimeUnit::Nanosecond => time::<TimestampNanosecondType>(array, 1)?,
        },
        // Decimals, dates, times of clocks and zones, lists, structs: as Arrow writes them.
        _ => written(array)?,
    })
}

fn whole<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef) -> Cells<'_> {
    let numbers = array.as_primitive::<T>();
    Box::new(move |row| Ok(Cell::Exact(numbers.value(row).into())))
}

fn time<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, unit_ns: i64) -> Result<Cells<'_>> {
    let times = array.as_primitive::<T>();
    // Of larger units there are times that no nanosecond of 64 bits counts.
    let written = written(array)?;
    Ok(Box::new(move |row| match times.value(row).checked_mul(unit_ns) {
        Some(ts_ns) => Ok(Cell::Time(ts_ns)),
        None => written(row),
    }))
}

fn written(array: &ArrayRef) -> Result<Cells<'_>> {
    let options = FormatOptions::new().with_display_error(false);
    let failed = move || format!("values of {} cannot be shown; cast them to text", array.data_type());
    let formatter = ArrayFormatter::try_new(array, &options).with_context(failed)?;
    Ok(Box::new(move |row| Ok(Cell::Text(formatter.value(row).try_to_string().with_context(failed)?))))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int64Array,
        NullArray, StringViewArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::Schema;

    use super::*;

    fn of(array: impl Array + 'static) -> Vec<Cell> {
        let array: ArrayRef = Arc::new(array);
        let cells = cells(&array).unwrap();
        (0..array.len()).map(|row| cells(row).unwrap()).collect()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn values_are_exact() {
        assert_eq!(of(UInt64Array::from(vec![0, u64::MAX])), [Cell::Exact(0), Cell::Exact(u64::MAX.into())]);
        assert_eq!(
            of(Int64Array::from(vec![Some(i64::MIN), None])),
            [Cell::Exact(i64::MIN.into()), Cell::Nothing]
        );
        assert_eq!(of(Float32Array::from(vec![0.1, -3.0])), [Cell::Float(0.1), Cell::Float(-3.0)]);
        assert_eq!(of(Float64Array::from(vec![0.1 + 0.2])), [Cell::Float(0.300_000_000_000_000_04)]);
        assert_eq!(of(BooleanArray::from(vec![Some(true), None])), [Cell::Truth(true), Cell::Nothing]);
        assert_eq!(of(StringViewArray::from(vec!["a\n", ""])), [text("a\n"), text("")]);
        let decimals =
            Decimal128Array::from(vec![10_i128.pow(30) + 1]).with_precision_and_scale(38, 2).unwrap();
        assert_eq!(of(decimals), [text("10000000000000000000000000000.01")]);
        assert_eq!(of(NullArray::new(1)), [Cell::Nothing]);
        let words: DictionaryArray<Int32Type> = [Some("x"), None].into_iter().collect();
        assert_eq!(of(words), [text("x"), Cell::Nothing]);
        assert_eq!(of(Date32Array::from(vec![-1])), [text("1969-12-31")]);
    }

    #[test]
    fn times_of_utc_are_times_and_those_of_clocks_have_no_zone() {
        assert_eq!(of(TimestampNanosecondArray::from(vec![-1]).with_timezone("UTC")), [Cell::Time(-1)]);
        let seconds = TimestampSecondArray::from(vec![1, 253_402_300_799]).with_timezone("+00:00");
        assert_eq!(of(seconds), [Cell::Time(1_000_000_000), text("9999-12-31T23:59:59Z")]);
        assert_eq!(of(TimestampSecondArray::from(vec![1])), [text("1970-01-01T00:00:01")]);
        let east = TimestampSecondArray::from(vec![1]).with_timezone("+02:00");
        assert_eq!(of(east), [text("1970-01-01T02:00:01+02:00")]);
    }

    #[test]
    fn columns_of_one_name_get_numbers() {
        let field = |name: &str| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![field("id"), field("id"), field("id_2"), field("id")]));
        assert_eq!(names(&schema), ["id", "id_2", "id_2_2", "id_3"]);
    }
}
