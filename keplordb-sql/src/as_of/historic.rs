//! `HistoricTable`: a table of a program's own that knows what it was. It must not know how the program knows it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as Planning, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// The instants of a call; an axis of which it says nothing is at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Instants {
    /// Up to which sequence of the log: `t(seq => n)`.
    pub sequence: Option<u64>,
    /// What was so, in nanoseconds since the Unix epoch: `t(as_of => time)`.
    pub as_of_ns: Option<i64>,
    /// What was known, likewise: `t(known_at => time)`.
    pub known_at_ns: Option<i64>,
}

impl fmt::Display for Instants {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.sequence.map(|sequence| format!("seq {sequence}"));
        let as_of = self.as_of_ns.map(|ns| format!("as_of {ns} ns"));
        let known_at = self.known_at_ns.map(|ns| format!("known_at {ns} ns"));
        let all: Vec<String> = [sequence, as_of, known_at].into_iter().flatten().collect();
        out.write_str(&all.join(", "))
    }
}

/// What a table was. Asked once for each clause of a statement, while it is planned, on the thread that plans: what it gives is
/// made without waiting, and reads when it is scanned.
pub trait History: fmt::Debug + Send + Sync {
    /// The table at instants; at least one of them is said.
    fn at(&self, instants: Instants) -> Arc<dyn TableProvider>;
}

/// A table that [`AsOfPlanner`](super::AsOfPlanner) lets travel, on all axes. Without time travel it is the table that it was made of.
#[derive(Debug, Clone)]
pub struct HistoricTable {
    now: Arc<dyn TableProvider>,
    history: Arc<dyn History>,
}

impl HistoricTable {
    /// A table, and what it was.
    pub fn new(now: Arc<dyn TableProvider>, history: Arc<dyn History>) -> Self {
        Self { now, history }
    }

    pub(super) fn at(&self, instants: Instants) -> Arc<dyn TableProvider> {
        self.history.at(instants)
    }
}

#[async_trait]
impl TableProvider for HistoricTable {
    fn schema(&self) -> SchemaRef {
        self.now.schema()
    }

    fn table_type(&self) -> TableType {
        self.now.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.now.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Planning,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.now.scan(state, projection, filters, limit).await
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray as _, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use datafusion::catalog::{MemTable, MemorySchemaProvider, SchemaProvider as _};

    use super::*;
    use crate::Session;

    /// A table whose one row says at which instants it is.
    #[derive(Debug)]
    struct Told;

    fn telling(values: [Option<i64>; 3]) -> Arc<dyn TableProvider> {
        let names = ["sequence", "as_of", "known_at"];
        let columns = values.map(|value| Arc::new(Int64Array::from(vec![value])) as arrow::array::ArrayRef);
        let columns = names.into_iter().zip(columns).map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
    }

    impl History for Told {
        fn at(&self, instants: Instants) -> Arc<dyn TableProvider> {
            telling([
                instants.sequence.map(|sequence| sequence as i64),
                instants.as_of_ns,
                instants.known_at_ns,
            ])
        }
    }

    async fn asked(session: &Session, statement: &str) -> Vec<Vec<Option<i64>>> {
        let batches = session.sql(statement).await.unwrap().collect().await.unwrap();
        let row = |batch: &RecordBatch, row: usize| {
            let value = |column: &arrow::array::ArrayRef| {
                let numbers = column.as_primitive::<Int64Type>();
                numbers.iter().nth(row).flatten()
            };
            batch.columns().iter().map(value).collect()
        };
        batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>())
            .collect()
    }

    #[tokio::test]
    async fn a_table_of_a_program_travels_on_all_axes() {
        let session = Session::builder().build().unwrap();
        let table = HistoricTable::new(telling([None; 3]), Arc::new(Told));
        let tables = MemorySchemaProvider::new();
        tables.register_table("told".into(), Arc::new(table)).unwrap();
        let session = session.over("past", Arc::new(tables)).unwrap();
        let cases = [
            ("told", [None, None, None]),
            ("past.told AS OF SEQUENCE 7", [Some(7), None, None]),
            ("told AS OF TIMESTAMP '1970-01-01 00:00:01'", [None, Some(1_000_000_000), None]),
            ("told FOR SYSTEM_TIME AS OF '1970-01-01 00:00:01'", [None, None, Some(1_000_000_000)]),
            (
                "told(seq => 7, known_at => '1970-01-01', as_of => '1970-01-01 00:00:01')",
                [Some(7), Some(1_000_000_000), Some(0)],
            ),
        ];
        for (from, wanted) in cases {
            let statement = format!("SELECT told.sequence, as_of, known_at FROM {from}");
            assert_eq!(asked(&session, &statement).await, [wanted.to_vec()], "{from}");
        }
    }

    /// The optimizer takes scans of equal names for equal.
    #[tokio::test]
    async fn two_instants_are_two_tables() {
        let session = Session::builder().build().unwrap();
        let table = HistoricTable::new(telling([None; 3]), Arc::new(Told));
        session.tables().register_table("told".into(), Arc::new(table)).unwrap();
        let both = "SELECT (SELECT sequence FROM told AS OF SEQUENCE 1) AS a, (SELECT sequence FROM told AS OF SEQUENCE 2) AS b";
        assert_eq!(asked(&session, both).await, [[Some(1), Some(2)]]);
        let union = "SELECT sequence FROM told AS OF SEQUENCE 1 UNION SELECT sequence FROM told AS OF SEQUENCE 2 ORDER BY 1";
        assert_eq!(asked(&session, union).await, [[Some(1)], [Some(2)]]);
    }
}
