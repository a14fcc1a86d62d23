//! Tables of one entity: its events, who set which field, what differs between two times.
//!
//! | call | rows |
//! |---|---|
//! | `reflog_history(type, id)` | its events in the order in which they are folded |
//! | `reflog_blame(type, id)` | of each field the event that set it; none of a deleted one |
//! | `reflog_diff(type, id, a, b)` | the fields that differ between two times |
//!
//! Arguments are constants. They read the log while the statement is planned, up to the last event that the statement sees. The instant of
//! tables without a clause of their own is theirs too; of `reflog_diff`, which says its times itself, what was known then.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::error::QueryError;
use super::held::HeldRows;
use super::pin::Pinned;
use crate::blame::{blame, diff};
use crate::entity::{EntityEvent, Instant, LogInstant, fold};

/// Gives a context the functions of a root.
pub(super) fn register(context: &SessionContext, pinned: &Arc<Pinned>, default: LogInstant) {
    for kind in [Kind::History, Kind::Blame, Kind::Diff] {
        context.register_udtf(kind.name(), Arc::new(Function { kind, pinned: Arc::clone(pinned), default }));
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    History,
    Blame,
    Diff,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::History => "reflog_history",
            Self::Blame => "reflog_blame",
            Self::Diff => "reflog_diff",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::History => "reflog_history('users', 'user_123')",
            Self::Blame => "reflog_blame('users', 'user_123')",
            Self::Diff => "reflog_diff('users', 'user_123', '2024-01-01', '2024-02-01')",
        }
    }
}

#[derive(Debug)]
struct Function {
    kind: Kind,
    pinned: Arc<Pinned>,
    default: LogInstant,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let usage = || DataFusionError::Plan(format!("write {} with constants", self.kind.usage()));
        let (name, id, times) = match args.exprs() {
            [name, id, times @ ..] => (text(name), text(id), times),
            _ => return Err(usage()),
        };
        let (name, id) = (name.ok_or_else(usage)?, id.ok_or_else(usage)?);
        let entity_type = self.pinned.entity_type(&name).map_err(QueryError::from)?;
        let mut at = self.default;
        if matches!(self.kind, Kind::Diff) {
            at.instant.as_of_ms = None;
        }
        let memory =
            MemoryConsumer::new(self.kind.name()).register(&args.session().runtime_env().memory_pool);
        let events = self.pinned.history(entity_type, &id, at, &memory)?;
        let batch = match (self.kind, times) {
            (Kind::History, []) => history(&events),
            (Kind::Blame, []) => blamed(&events),
            (Kind::Diff, [a, b]) => differing(&events, time_ms(a)?, time_ms(b)?),
            _ => return Err(usage()),
        }?;
        drop(events);
        memory.try_resize(batch.get_array_memory_size())?;
        let schema = batch.schema();
        let held = HeldRows::new(Arc::clone(&schema), vec![batch], memory);
        Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(held)])?))
    }
}

fn text(argument: &Expr) -> Option<String> {
    match argument {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

fn time_ms(argument: &Expr) -> Result<i64> {
    if let Expr::Literal(value, _) = argument {
        let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        if let Ok(ScalarValue::TimestampMillisecond(Some(time_ms), _)) = value.cast_to(&utc) {
            return Ok(time_ms);
        }
    }
    plan_err!("`{argument}` is no time: write it like '2024-01-31 12:00:00'")
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn json<'a>(values: impl Iterator<Item = Option<&'a Value>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(Value::to_string)).collect::<StringArray>())
}

fn sequences(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|sequence| i64::try_from(sequence).unwrap_or(i64::MAX))))
}

fn times(values_ms: impl Iterator<Item = i64>) -> ArrayRef {
    let times = TimestampMicrosecondArray::from_iter_values(values_ms.map(|ms| ms.saturating_mul(1000)));
    Arc::new(times.with_timezone("UTC"))
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(nullable)?)
}

fn history(events: &[EntityEvent]) -> Result<RecordBatch> {
    let each = || events.iter();
    let payloads =
        each().map(|event| event.payload.as_ref().map(|payload| Value::Object(payload.clone()).to_string()));
    batch([
        ("seq", sequences(each().map(|event| event.sequence))),
        ("event_id", texts(each().map(|event| Some(event.event_id.as_str())))),
        ("op", texts(each().map(|event| Some(event.operation.as_str())))),
        ("event_time", times(each().map(|event| event.event_time_ms))),
        ("received_at", times(each().map(|event| event.received_at_ms))),
        (
            "client_id",
            texts(each().map(|event| Some(event.client.as_str()).filter(|client| !client.is_empty()))),
        ),
        ("payload", Arc::new(payloads.collect::<StringArray>())),
    ])
}

fn blamed(events: &[EntityEvent]) -> Result<RecordBatch> {
    let fields = blame(events);
    let each = || fields.iter();
    let paths: Vec<String> = each().map(|field| field.path.join(".")).collect();
    batch([
        ("field", texts(paths.iter().map(|path| Some(path.as_str())))),
        ("value", json(each().map(|field| Some(&field.value)))),
        ("previous", json(each().map(|field| field.previous.as_ref()))),
        ("seq", sequences(each().map(|field| field.sequence))),
        ("op", texts(each().map(|field| Some(field.operation.as_str())))),
        ("event_time", times(each().map(|field| field.event_time_ms))),
        ("received_at", times(each().map(|field| field.received_at_ms))),
        (
            "client_id",
            texts(each().map(|field| Some(field.client.as_str()).filter(|client| !client.is_empty()))),
        ),
    ])
}

fn differing(events: &[EntityEvent], a_ms: i64, b_ms: i64) -> Result<RecordBatch> {
    let at = |as_of_ms: i64| {
        let instant = Instant { as_of_ms: Some(as_of_ms), known_at_ms: None };
        fold(events.iter().filter(|event| instant.sees(event)))
    };
    let changes = diff(at(a_ms).state(), at(b_ms).state());
    let each = || changes.iter();
    let paths: Vec<String> = each().map(|change| change.path.join(".")).collect();
    batch([
        ("field", texts(paths.iter().map(|path| Some(path.as_str())))),
        ("before", json(each().map(|change| change.before.as_ref()))),
        ("after", json(each().map(|change| change.after.as_ref()))),
    ])
}
