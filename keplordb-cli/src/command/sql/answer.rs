//! Answers on their way out, a batch at a time; and what a person can do about a question that has none.

use anyhow::{Result, anyhow};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use keplordb_sql::{Rows, Session, SqlError};

use super::values::{cells, headings};
use crate::output::Output;
use crate::progress::Waiting;
use crate::sheet::{Form, Sheet, printable};

/// Prints the answer to a statement; gives how many rows it has.
pub(super) async fn answer(session: &Session, statement: &str, form: Form, out: &mut Output) -> Result<u64> {
    let waiting = Waiting::begin("answering");
    let mut rows = session.sql(statement).await.map_err(told)?;
    let mut next = rows.next().await.transpose().map_err(told)?;
    drop(waiting);
    if form.is_text() && is_plan(rows.schema()) {
        return print_plan(next, rows, out).await;
    }
    let mut sheet = Sheet::new(out, form, headings(rows.schema()));
    let mut count = 0;
    let mut row_cells = Vec::new();
    while let Some(batch) = next {
        let columns = batch.columns().iter().map(cells).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            row_cells.clear();
            for column in &columns {
                row_cells.push(column(row)?);
            }
            sheet.row(&row_cells)?;
        }
        count += batch.num_rows() as u64;
        // Whoever waits for Ctrl-C beside us gets a turn also where rows come faster than they are printed.
        tokio::task::yield_now().await;
        next = rows.next().await.transpose().map_err(told)?;
    }
    sheet.finish()?;
    Ok(count)
}

/// Whether it is the answer to `EXPLAIN`.
fn is_plan(schema: &SchemaRef) -> bool {
    let columns = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type()));
    columns.eq([("plan_type", &DataType::Utf8), ("plan", &DataType::Utf8)])
}

/// A plan has lines of its own, which a table would break.
async fn print_plan(mut next: Option<RecordBatch>, mut rows: Rows, out: &mut Output) -> Result<u64> {
    let mut count = 0;
    while let Some(batch) = next {
        let (kinds, plans) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for row in 0..batch.num_rows() {
            out.heading(&printable(kinds.value(row)))?;
            for line in plans.value(row).lines().filter(|_| plans.is_valid(row)) {
                out.line(&format!("  {}", printable(line)))?;
            }
        }
        count += batch.num_rows() as u64;
        next = rows.next().await.transpose().map_err(told)?;
    }
    Ok(count)
}

/// An error with what to do about it here, where limits are flags.
fn told(error: SqlError) -> anyhow::Error {
    match error {
        SqlError::Memory { limit_bytes, why } => anyhow!(
            "the question needs more than the {limit_bytes} bytes of memory that it is granted: ask for fewer rows or groups, raise \
             --memory, or name a directory by --spill; {why}"
        ),
        SqlError::TooManyRows { limit_rows } => {
            anyhow!(
                "the answer has more than {limit_rows} rows: add a LIMIT, ask for groups, or raise --rows"
            )
        }
        SqlError::TooSlow { limit_ms } => {
            anyhow!(
                "the question took longer than {limit_ms} ms: narrow its range of times, or raise --timeout"
            )
        }
        SqlError::NotAQuery { statement, .. } => anyhow!(
            "{statement} is refused, SQL only asks here and changes nothing: `keplor --help` lists what appends, imports and deletes"
        ),
        error => error.into(),
    }
}
