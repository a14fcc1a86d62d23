//! How deep a plan nests: whoever walks through one, computes an expression, or drops it, needs stack for each level.

use std::marker::PhantomData;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The levels of the deepest expression in a plan, or those of the plan if it has more.
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
