//! How deep a statement nests, and how many tables it stands for, before and after it is planned: whoever walks through a tree,
//! computes an expression, or drops it, needs stack for each level and time for each node.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, ObjectName, Query, Visit, Visitor};

/// What a statement takes to be planned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Those of the deepest expression, subqueries among them. Planning takes time that grows by their square.
    pub(crate) levels: usize,
    /// Tables and subqueries, and again those of a name that `WITH` gives wherever it is used: a few lines may stand for more than
    /// there is memory for.
    pub(crate) tables: u64,
}

impl Written {
    pub(crate) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Statement(statement) => {
                let mut walk = Walk::default();
                walk.tables.push(0);
                let _ = statement.visit(&mut walk);
                Self { levels: walk.most, tables: walk.tables[0] }
            }
            Statement::Explain(explain) => Self::of(&explain.statement),
            // They are no queries, and refused.
            _ => Self::default(),
        }
    }
}

/// A walk through a statement as it is written.
#[derive(Default)]
struct Walk {
    now: usize,
    most: usize,
    /// Of each query that the walk is in, from the outermost.
    tables: Vec<u64>,
    /// The queries that have a name, by their places in the statement.
    named: HashMap<*const Query, String>,
    /// What the names stand for that were seen. One that is given twice stands for the later.
    sizes: HashMap<String, u64>,
}

impl Walk {
    fn down(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }

    fn add(&mut self, tables: u64) {
        if let Some(all) = self.tables.last_mut() {
            *all = all.saturating_add(tables);
        }
    }
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<()> {
        self.down();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<()> {
        self.now -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.down();
        self.tables.push(1);
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(&raw const *table.query, table.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.now -= 1;
        let tables = self.tables.pop().unwrap_or(0);
        match self.named.remove(&(&raw const *query)) {
            Some(name) => {
                self.sizes.insert(name, tables);
            }
            None => self.add(tables),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let tables = self.sizes.get(&name.to_string().replace('"', "").to_lowercase());
        self.add(tables.copied().unwrap_or(1));
        ControlFlow::Continue(())
    }
}

/// The levels of the deepest expression of a plan, or those of the plan if it has more.
pub(crate) fn levels(plan: &LogicalPlan) -> Result<usize> {
    let mut plans = Levels::<LogicalPlan>::default();
    plan.visit_with_subqueries(&mut plans)?;
    let mut exprs = Levels::<Expr>::default();
    plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.visit(&mut exprs)))?;
    Ok(plans.most.max(exprs.most))
}

struct Levels<N> {
    now: usize,
    most: usize,
    of: PhantomData<N>,
}

impl<N> Default for Levels<N> {
    fn default() -> Self {
        Self { now: 0, most: 0, of: PhantomData }
    }
}

impl<N: TreeNode> TreeNodeVisitor<'_> for Levels<N> {
    type Node = N;

    fn f_down(&mut self, _: &N) -> Result<TreeNodeRecursion> {
        self.now += 1;
        self.most = self.most.max(self.now);
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, _: &N) -> Result<TreeNodeRecursion> {
        self.now -= 1;
        Ok(TreeNodeRecursion::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_of::parse;

    #[test]
    fn names_of_with_count_wherever_they_are_used() {
        for (statement, levels, tables) in [
            ("SELECT 1", 2, 1),
            ("SELECT a + 1 FROM t", 3, 2),
            ("EXPLAIN SELECT a FROM t JOIN u ON t.a = u.a", 3, 3),
            ("SELECT a FROM (SELECT a FROM t) WHERE a IN (SELECT a FROM u)", 4, 5),
            // a: 2, b: 1 + 2 * 2, c: 1 + 2 * 5.
            (
                "WITH a AS (SELECT 1 FROM t), B AS (SELECT 1 FROM a, \"a\"), c AS (SELECT 1 FROM b, b) SELECT 1 FROM c",
                3,
                12,
            ),
        ] {
            let statement = parse(statement).unwrap().remove(0).unwrap();
            assert_eq!(Written::of(&statement), Written { levels, tables }, "{statement}");
        }
        let doubled: Vec<_> = (1..90)
            .map(|n| format!("a{n} AS (SELECT 1 FROM a{m} UNION ALL SELECT 1 FROM a{m})", m = n - 1))
            .collect();
        let statement = format!("WITH a0 AS (SELECT 1), {} SELECT 1 FROM a89", doubled.join(", "));
        assert_eq!(Written::of(&parse(&statement).unwrap().remove(0).unwrap()).tables, u64::MAX);
    }
}
