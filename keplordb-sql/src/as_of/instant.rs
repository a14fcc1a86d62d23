//! From the value of a constant to an instant of a table.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

use super::error::AsOfProblem;
use super::rewrite::Axis;
use crate::schema::UTC;
use crate::table::AsOf;

type Result<T> = std::result::Result<T, AsOfProblem>;

const NS_PER_DAY: i64 = 86_400_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// The instant that a value is, measured so.
pub(super) fn of(axis: Axis, value: &ScalarValue) -> Result<AsOf> {
    match axis {
        Axis::Sequence => sequence(value).map(AsOf::Sequence),
        Axis::Event | Axis::Known => time_ns(value).map(|ts_ns| AsOf::Time { ts_ns }),
    }
}

/// Whole numbers from 0.
fn sequence(value: &ScalarValue) -> Result<u64> {
    let refused = || {
        not_an_instant(value, "a sequence is a whole number from 0, for a time write `t AS OF TIMESTAMP '…'`")
    };
    // Only integers: a text or a fraction is a time, or a mistake.
    if value.is_null() || !value.data_type().is_integer() {
        return Err(refused());
    }
    match value.cast_to(&DataType::UInt64) {
        Ok(ScalarValue::UInt64(Some(sequence))) => Ok(sequence),
        _ => Err(refused()),
    }
}

/// Nanoseconds since the Unix epoch. What has no time zone is UTC.
fn time_ns(value: &ScalarValue) -> Result<i64> {
    let found = match value {
        // Arrow's casts of dates wrap around where nanoseconds end.
        ScalarValue::Date32(Some(days)) => i64::from(*days).checked_mul(NS_PER_DAY),
        ScalarValue::Date64(Some(ms)) => ms.checked_mul(NS_PER_MS),
        ScalarValue::TimestampSecond(..)
        | ScalarValue::TimestampMillisecond(..)
        | ScalarValue::TimestampMicrosecond(..)
        | ScalarValue::TimestampNanosecond(..)
        | ScalarValue::Utf8(_)
        | ScalarValue::LargeUtf8(_)
        | ScalarValue::Utf8View(_) => {
            match value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))) {
                Ok(ScalarValue::TimestampNanosecond(time, _)) => time,
                _ => None,
            }
        }
        value if value.data_type().is_numeric() => {
            return Err(not_an_instant(
                value,
                "write `t AS OF SEQUENCE n` for a sequence, `t AS OF TIMESTAMP '2024-01-31 12:00:00'` for a time",
            ));
        }
        _ => None,
    };
    found.ok_or_else(|| {
        not_an_instant(
            value,
            "write a time between 1677-09-22 and 2262-04-11, as in `TIMESTAMP '2024-01-31 12:00:00'`",
        )
    })
}

fn not_an_instant(value: &ScalarValue, instead: &'static str) -> AsOfProblem {
    let found = match value {
        value if value.is_null() => "NULL".to_owned(),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => {
            format!("the text '{text}'")
        }
        value => format!("{value} ({})", value.data_type()),
    };
    AsOfProblem::NotAnInstant { found, instead }
}
