//! A table of a pinned root at an instant. See the [module](super) for what it is made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_string_array;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Case, ColumnarValue, Expr, Operator, ScalarUDF, TableProviderFilterPushDown, TableType,
    Volatility, create_udf, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;

use super::error::QueryError;
use super::files::Files;
use super::held::HeldRows;
use super::pin::{Ended, Pinned};
use super::shape;
use crate::entity::LogInstant;
use crate::lake::{LakeTable, Overlay, Touched, Wanted};
use crate::shape::Shape;

/// The column of all fields at once, in the plan.
const TYPED: &str = "typed";

/// Until when a version was known.
const KNOWN_TO: &str = "known_to";

/// Which table.
#[derive(Debug, Clone)]
pub(super) enum What {
    Events,
    Current,
    Versions,
    /// Of one type; without a shape `state` stands in the place of fields.
    Entities {
        entity_type: String,
        shape: Option<Shape>,
    },
}

/// A table at an instant.
#[derive(Debug)]
pub(super) struct InstantTable {
    pinned: Arc<Pinned>,
    what: What,
    /// As it was asked for.
    at: LogInstant,
    schema: SchemaRef,
}

impl InstantTable {
    pub(super) fn new(pinned: Arc<Pinned>, what: What, at: LogInstant) -> Self {
        let schema = Arc::new(schema(&what, at));
        Self { pinned, what, at, schema }
    }

    /// Which of the lake's tables it is made of, at which instant. One that is a row of entities as they are now needs no versions.
    fn origin(&self) -> (LakeTable, LogInstant) {
        match self.what {
            What::Events => (LakeTable::Events, self.pinned.within(self.at)),
            What::Versions => (LakeTable::Versions, self.at),
            What::Current if !self.at.is_now() => (LakeTable::Versions, self.at),
            What::Current => (LakeTable::Current, self.at),
            What::Entities { .. } => {
                let at = self.pinned.within(self.at);
                (if at.is_now() { LakeTable::Current } else { LakeTable::Versions }, at)
            }
        }
    }

    /// What conditions say of entities: a superset of the rows that meet them.
    fn wanted(&self, filters: &[Expr]) -> Wanted {
        let (id, types) = match &self.what {
            What::Entities { entity_type, .. } => ("id", Some(BTreeSet::from([entity_type.clone()]))),
            _ => ("entity_id", texts(filters, "entity_type")),
        };
        Wanted { types, ids: texts(filters, id) }
    }

    /// The plan of the files, and above it that of what is folded of the log; each by the same steps.
    fn plan(
        &self,
        state: &dyn Session,
        (overlay, memory): (Overlay, MemoryReservation),
        (table, at): (LakeTable, LogInstant),
        wanted: &Wanted,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut conditions = conditions(table, &self.what, at, overlay.known_at_ms);
        conditions.extend(of_entities(&self.what, wanted));
        if !overlay.touched.is_empty() {
            let untouched = untouched(overlay.touched);
            conditions.push(untouched.call(vec![ident("entity_type"), ident("entity_id")]));
        }
        let steps = Steps {
            state,
            is_live: (table == LakeTable::Versions && !matches!(self.what, What::Versions))
                .then(|| ident("op").not_eq(lit("DELETE"))),
            columns: self.columns(table, overlay.came_in_ms, projection, filters),
            conditions: conjunction(filters.iter().cloned()),
            shown: projection.map(|places| {
                let name = |place: &usize| self.schema.fields().get(*place).map(|field| field.name().clone());
                places.iter().filter_map(name).collect()
            }),
        };
        let schema = table.schema();
        let condition = conjunction(conditions);
        let places = steps.read(&schema, condition.as_ref());
        let files = Files::new(Arc::clone(&schema), self.pinned.lake.files(table, &at, wanted))?;
        let files =
            filtered(state, files.scan(state.config().target_partitions(), places.clone())?, condition)?;
        let folded = HeldRows::new(Arc::clone(&schema), overlay.batches, memory);
        let folded =
            StreamingTableExec::try_new(schema, vec![Arc::new(folded)], Some(&places), [], false, None)?;
        UnionExec::try_new(vec![steps.above(files)?, steps.above(Arc::new(folded))?])
    }

    /// From the lake's columns to the table's, those that are needed of the fields: expressions with their names, step by step.
    fn columns(
        &self,
        table: LakeTable,
        came_in_ms: Option<i64>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Vec<Vec<(Expr, String)>> {
        let (time, sequence) = match table {
            LakeTable::Versions => ("valid_from", "seq"),
            LakeTable::Current | LakeTable::Events => ("updated_at", "last_seq"),
        };
        let named = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(column, name)| (ident(*column), (*name).to_owned())).collect::<Vec<_>>()
        };
        match &self.what {
            What::Events => Vec::new(),
            What::Versions => {
                let Some(came_in_ms) = came_in_ms else { return Vec::new() };
                let needed = self.needed(projection, filters);
                let column = |name: &String| {
                    let own = ident(name.as_str());
                    let shown = if name == KNOWN_TO { known_by(own, came_in_ms) } else { own };
                    (shown, name.clone())
                };
                vec![needed.iter().map(column).collect()]
            }
            What::Current if table == LakeTable::Current => Vec::new(),
            What::Current => vec![named(&[
                ("entity_type", "entity_type"),
                ("entity_id", "entity_id"),
                ("state", "state"),
                ("version", "version"),
                (time, "updated_at"),
                (sequence, "last_seq"),
            ])],
            What::Entities { shape, .. } => {
                let mut own = named(&[
                    ("entity_id", "id"),
                    ("version", "_version"),
                    (time, "_updated_at"),
                    (sequence, "_seq"),
                ]);
                let needed = self.needed(projection, filters);
                let Some(shape) = shape else {
                    own.extend(named(&[("state", "state")]));
                    own.retain(|(_, name)| needed.contains(name));
                    return vec![own];
                };
                own.retain(|(_, name)| needed.contains(name));
                let shape = shape.only(|name| needed.contains(name));
                if shape.is_empty() {
                    return vec![own];
                }
                let kept = own.iter().map(|(_, name)| (ident(name.as_str()), name.clone()));
                let field =
                    |field: &Field| (get_field(ident(TYPED), field.name().as_str()), field.name().clone());
                let columns = kept.chain(shape.fields().iter().map(field)).collect();
                own.push((shape::function(shape).call(vec![ident("state")]), TYPED.to_owned()));
                vec![own, columns]
            }
        }
    }

    /// The names of the columns that are given or that a condition is about.
    fn needed(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> BTreeSet<String> {
        let fields = self.schema.fields();
        let mut needed: BTreeSet<String> = match projection {
            Some(places) => places
                .iter()
                .filter_map(|place| fields.get(*place))
                .map(|field| field.name().clone())
                .collect(),
            None => fields.iter().map(|field| field.name().clone()).collect(),
        };
        for filter in filters {
            needed.extend(filter.column_refs().into_iter().map(|column| column.name.clone()));
        }
        needed
    }
}

#[async_trait]
impl TableProvider for InstantTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// All conditions are part of the plan below, but for those that need the statement's own subqueries.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let is_outer = |part: &Expr| {
            Ok(matches!(
                part,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        };
        let answer = |filter: &&Expr| {
            Ok(if filter.is_volatile() || filter.exists(is_outer)? {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Exact
            })
        };
        filters.iter().map(answer).collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = self.wanted(filters);
        let origin = self.origin();
        let (pinned, asked, is_whole_row) =
            (Arc::clone(&self.pinned), wanted.clone(), matches!(self.what, What::Versions));
        let memory =
            MemoryConsumer::new("events that are not published").register(&state.runtime_env().memory_pool);
        // Where the question is given up, its time over or whoever asked gone, so is the work on the other thread.
        let ended = Ended::default();
        let is_ended = Arc::clone(&ended.0);
        let folded = tokio::task::spawn_blocking(move || {
            let overlay = pinned.overlay(origin, is_whole_row, &asked, &memory, &is_ended)?;
            Ok::<_, QueryError>((overlay, memory))
        });
        let (overlay, memory) =
            folded.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        let plan = self.plan(state, (overlay, memory), origin, &wanted, projection, filters)?;
        // Of each part: what is above takes as many of all of them.
        Ok(match limit {
            Some(limit) => Arc::new(LocalLimitExec::new(plan, limit)),
            None => plan,
        })
    }
}

/// What is done to the rows of the files, and in the same way to those that are folded.
struct Steps<'a> {
    state: &'a dyn Session,
    /// Which versions are of live entities, where no others count.
    is_live: Option<Expr>,
    columns: Vec<Vec<(Expr, String)>>,
    /// Of the statement, over the table's columns.
    conditions: Option<Expr>,
    /// The columns that are given; all of them by `None`.
    shown: Option<Vec<String>>,
}

impl Steps<'_> {
    /// The places of the lake's columns that anything needs.
    fn read(&self, schema: &SchemaRef, condition: Option<&Expr>) -> Vec<usize> {
        let mut read: BTreeSet<String> = BTreeSet::new();
        let mut note = |expression: &Expr| {
            read.extend(expression.column_refs().into_iter().map(|column| column.name.clone()));
        };
        condition.into_iter().chain(&self.is_live).for_each(&mut note);
        let is_all = if let Some(columns) = self.columns.first() {
            columns.iter().map(|(expression, _)| expression).for_each(&mut note);
            false
        } else {
            self.conditions.iter().for_each(&mut note);
            read.extend(self.shown.iter().flatten().cloned());
            self.shown.is_none()
        };
        let fields = schema.fields().iter().enumerate();
        fields.filter(|(_, field)| is_all || read.contains(field.name())).map(|(place, _)| place).collect()
    }

    fn above(&self, mut plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        plan = filtered(self.state, plan, self.is_live.clone())?;
        for columns in &self.columns {
            plan = projected(self.state, plan, columns)?;
        }
        plan = filtered(self.state, plan, self.conditions.clone())?;
        match &self.shown {
            None => Ok(plan),
            Some(names) => {
                let columns: Vec<_> = names.iter().map(|name| (ident(name.as_str()), name.clone())).collect();
                projected(self.state, plan, &columns)
            }
        }
    }
}

fn filtered(
    state: &dyn Session,
    plan: Arc<dyn ExecutionPlan>,
    condition: Option<Expr>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(condition) = condition else { return Ok(plan) };
    let condition = state.create_physical_expr(condition, &DFSchema::try_from(plan.schema())?)?;
    // By itself it would put batches together to more rows than the session works on at a time.
    let filter = FilterExecBuilder::new(condition, plan).with_batch_size(state.config().batch_size());
    Ok(Arc::new(filter.build()?))
}

fn projected(
    state: &dyn Session,
    plan: Arc<dyn ExecutionPlan>,
    columns: &[(Expr, String)],
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = DFSchema::try_from(plan.schema())?;
    let column = |(expression, name): &(Expr, String)| {
        Ok((state.create_physical_expr(expression.clone(), &schema)?, name.clone()))
    };
    let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

/// The columns of a table.
fn schema(what: &What, at: LogInstant) -> Schema {
    let optional = |schema: SchemaRef| {
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let field = |name: &str, kind: &DataType| Field::new(name, kind.clone(), true);
    Schema::new(match what {
        What::Events => optional(LakeTable::Events.schema()),
        What::Versions => optional(LakeTable::Versions.schema()),
        What::Current if at.is_now() => optional(LakeTable::Current.schema()),
        What::Current => vec![
            field("entity_type", &DataType::Utf8),
            field("entity_id", &DataType::Utf8),
            field("state", &DataType::Utf8),
            field("version", &DataType::Int64),
            field("updated_at", &time),
            field("last_seq", &DataType::Int64),
        ],
        What::Entities { shape, .. } => {
            let mut fields = vec![field("id", &DataType::Utf8)];
            match shape {
                Some(shape) => fields.extend(shape.fields()),
                None => fields.push(field("state", &DataType::Utf8)),
            }
            fields.extend([
                field("_version", &DataType::Int64),
                field("_updated_at", &time),
                field("_seq", &DataType::Int64),
            ]);
            fields
        }
    })
}

fn time(time_ms: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(time_ms.saturating_mul(1000)), Some("UTC".into())))
}

/// Until when a version was known, by what had come in up to a time: an end that lies behind it had not come.
fn known_by(known_to: Expr, came_in_ms: i64) -> Expr {
    let not_yet = lit(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())));
    let is_later = known_to.clone().gt(time(came_in_ms));
    Expr::Case(Case::new(None, vec![(Box::new(is_later), Box::new(not_yet))], Some(Box::new(known_to))))
}

/// Which rows of a lake's table count at an instant; those of the overlay are chosen already.
fn conditions(table: LakeTable, what: &What, at: LogInstant, known_at_ms: Option<i64>) -> Vec<Expr> {
    let mut all = Vec::new();
    match table {
        LakeTable::Current => {}
        LakeTable::Events => {
            all.extend(at.instant.as_of_ms.map(|as_of_ms| ident("event_time").lt_eq(time(as_of_ms))));
            all.extend(known_at_ms.map(|known_at_ms| ident("received_at").lt_eq(time(known_at_ms))));
            let last = at.sequence.map(|last| i64::try_from(last).unwrap_or(i64::MAX));
            all.extend(last.map(|last| ident("seq").lt_eq(lit(last))));
        }
        // The whole history is no instant.
        LakeTable::Versions if matches!(what, What::Versions) && at.is_now() => {}
        LakeTable::Versions => {
            for (from, to, limit_ms) in
                [("valid_from", "valid_to", at.instant.as_of_ms), ("known_from", KNOWN_TO, known_at_ms)]
            {
                match limit_ms {
                    None => all.push(ident(to).is_null()),
                    Some(limit_ms) => {
                        all.push(ident(from).lt_eq(time(limit_ms)));
                        all.push(ident(to).is_null().or(ident(to).gt(time(limit_ms))));
                    }
                }
            }
        }
    }
    all
}

/// The conditions on entities in the words of the files, for their statistics and bloom filters.
fn of_entities(what: &What, wanted: &Wanted) -> Option<Expr> {
    let one_of = |column: &str, values: &Option<BTreeSet<String>>| {
        let values = values.as_ref()?.iter().map(|value| lit(value.as_str())).collect();
        Some(ident(column).in_list(values, false))
    };
    // Other tables have the columns themselves, and the conditions on them come down by themselves.
    if !matches!(what, What::Entities { .. }) {
        return None;
    }
    conjunction(one_of("entity_type", &wanted.types).into_iter().chain(one_of("entity_id", &wanted.ids)))
}

/// Whether an entity's rows in the files count.
fn untouched(touched: Touched) -> ScalarUDF {
    let function = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let [types, ids] = arrays.as_slice() else {
            return datafusion::common::internal_err!("a type and an id are the arguments");
        };
        let pairs = as_string_array(types)?.iter().zip(as_string_array(ids)?.iter());
        let is_untouched = |(kind, id): (Option<&str>, Option<&str>)| Some(!touched.has(kind?, id?));
        let kept: datafusion::arrow::array::BooleanArray = pairs.map(is_untouched).collect();
        Ok(ColumnarValue::Array(Arc::new(kept)))
    };
    let texts = vec![DataType::Utf8, DataType::Utf8];
    create_udf("reflog_untouched", texts, DataType::Boolean, Volatility::Immutable, Arc::new(function))
}

/// The values that a column must be one of, where a condition says so; `None` where none does.
fn texts(filters: &[Expr], column: &str) -> Option<BTreeSet<String>> {
    let is_column = |part: &Expr| matches!(part, Expr::Column(found) if found.name == column);
    let text = |part: &Expr| match part {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    let found = filters.iter().flat_map(split_conjunction).filter_map(|condition| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let value = match (is_column(left), is_column(right)) {
                (true, _) => text(right),
                (_, true) => text(left),
                _ => None,
            };
            value.map(|value| BTreeSet::from([value]))
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(text).collect(),
        _ => None,
    });
    // All of them hold.
    found.reduce(|one, other| one.intersection(&other).cloned().collect())
}
