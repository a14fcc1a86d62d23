//! States made the columns of a type's fields, as a function of SQL.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use serde_json::{Map, Value};

use crate::schema::EntityType;
use crate::shape::Shape;

/// The columns of a type's fields.
pub(super) fn shape_of(entity: &EntityType) -> Shape {
    Shape::of(entity.message()).plain()
}

/// The function from the text of a state to all columns at once.
pub(super) fn function(shape: Shape) -> ScalarUDF {
    let kind = DataType::Struct(Fields::from(shape.fields()));
    let typed = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let Some(states) = arrays.first() else {
            return datafusion::common::internal_err!("a state is the argument");
        };
        let states = as_string_array(states)?;
        let parsed: Vec<Option<Map<String, Value>>> =
            states.iter().map(|state| state.map(parse).transpose()).collect::<Result<_>>()?;
        let parsed: Vec<Option<&Map<String, Value>>> = parsed.iter().map(Option::as_ref).collect();
        Ok(ColumnarValue::Array(shape.column(&parsed)?))
    };
    create_udf("reflog_fields", vec![DataType::Utf8], kind, Volatility::Immutable, Arc::new(typed))
}

/// The object that the text of a state is.
pub(super) fn parse(state: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(state).map_err(|error| DataFusionError::External(Box::new(error)))
}
