//! What a row must be: a tree of conditions on its columns. Plain data; who evaluates it decides how.

use std::ops::RangeInclusive;

/// Levels that a tree may have. Chains of one operator make one level, however long; deeper trees are refused, because
/// evaluating and dropping one takes stack for each level.
pub(crate) const MAX_DEPTH: usize = 256;

/// A column of keys: what rows can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyColumn {
    Status,
    Dim(usize),
}

/// A column of integers: what can be compared and added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NumberColumn {
    /// Nanoseconds since the Unix epoch.
    Time,
    Sequence,
    Metric,
    /// Milliseconds.
    Latency,
    /// Milliseconds.
    LatencyDetail,
    Flags,
    Counter(usize),
}

/// A column of texts that are only stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TextColumn {
    Id,
    Label(usize),
}

/// A condition on a text; texts compare by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextTest {
    Equal(String),
    /// Sorted, none twice.
    AnyOf(Vec<String>),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
}

impl TextTest {
    /// One of several texts.
    pub(crate) fn any_of(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        texts.sort_unstable();
        texts.dedup();
        match <[String; 1]>::try_from(texts) {
            Ok([text]) => Self::Equal(text),
            Err(texts) => Self::AnyOf(texts),
        }
    }

    /// The texts that pass, where the test names them.
    pub(crate) fn wanted(&self) -> Option<&[String]> {
        match self {
            Self::Equal(one) => Some(std::slice::from_ref(one)),
            Self::AnyOf(several) => Some(several),
            Self::StartsWith(_) | Self::EndsWith(_) | Self::Contains(_) => None,
        }
    }

    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Equal(wanted) => text == wanted,
            Self::AnyOf(wanted) => wanted.binary_search_by(|wanted| wanted.as_str().cmp(text)).is_ok(),
            Self::StartsWith(start) => text.starts_with(start),
            Self::EndsWith(end) => text.ends_with(end),
            Self::Contains(part) => text.contains(part),
        }
    }
}

/// A tree of conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    Always(bool),
    /// The value lies in this range.
    Number {
        column: NumberColumn,
        lo: i64,
        hi: i64,
    },
    /// All of these flags are set.
    Flags {
        bits: u16,
    },
    /// The status lies in one of these ranges.
    Status(Vec<RangeInclusive<u16>>),
    Dim {
        dim: usize,
        test: TextTest,
    },
    Text {
        column: TextColumn,
        test: TextTest,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// Stands for a tree of more than [`MAX_DEPTH`] levels; queries refuse it.
    TooDeep,
}

impl Expr {
    /// Whether a part of it tests a text that is only stored. O(parts).
    pub(crate) fn has_texts(&self) -> bool {
        match self {
            Self::Text { .. } => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::has_texts),
            Self::Not(inner) => inner.has_texts(),
            _ => false,
        }
    }

    /// Whether a part of it was cut for its depth. O(parts).
    pub(crate) fn is_too_deep(&self) -> bool {
        match self {
            Self::TooDeep => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::is_too_deep),
            Self::Not(inner) => inner.is_too_deep(),
            _ => false,
        }
    }
}

/// A tree of conditions as it is built, and how deep it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    root: Expr,
    depth: usize,
}

impl Expression {
    /// A condition without parts.
    pub(crate) fn leaf(condition: Expr) -> Self {
        Self { root: condition, depth: 1 }
    }

    pub(crate) fn root(&self) -> &Expr {
        &self.root
    }

    /// Both hold. O(parts of `other`).
    pub(crate) fn and(self, other: Self) -> Self {
        self.joined(other, |part| if let Expr::And(parts) = part { Ok(parts) } else { Err(part) }, Expr::And)
    }

    /// One of them holds, or both. O(parts of `other`).
    pub(crate) fn or(self, other: Self) -> Self {
        self.joined(other, |part| if let Expr::Or(parts) = part { Ok(parts) } else { Err(part) }, Expr::Or)
    }

    /// It does not hold.
    pub(crate) fn negated(self) -> Self {
        match self.root {
            Expr::Not(inner) => Self { root: *inner, depth: self.depth - 1 },
            root => Self { root: Expr::Not(Box::new(root)), depth: self.depth + 1 }.limited(),
        }
    }

    /// Joins two trees by an operator; `open` gives the parts of a tree that has it on top.
    fn joined(
        self,
        other: Self,
        open: impl Fn(Expr) -> Result<Vec<Expr>, Expr>,
        close: impl Fn(Vec<Expr>) -> Expr,
    ) -> Self {
        let parts = |tree: Self| match open(tree.root) {
            Ok(parts) => (parts, tree.depth),
            Err(part) => (vec![part], tree.depth + 1),
        };
        let ((mut all, depth), (more, other_depth)) = (parts(self), parts(other));
        all.extend(more);
        Self { root: close(all), depth: depth.max(other_depth) }.limited()
    }

    fn limited(self) -> Self {
        if self.depth > MAX_DEPTH { Self { root: Expr::TooDeep, depth: MAX_DEPTH } } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(bits: u16) -> Expression {
        Expression::leaf(Expr::Flags { bits })
    }

    #[test]
    fn chains_stay_flat_and_double_negation_goes() {
        let chain = (0..10_000).map(flags).reduce(Expression::or).unwrap();
        assert_eq!(chain.depth, 2);
        assert!(matches!(chain.root(), Expr::Or(parts) if parts.len() == 10_000));
        assert_eq!(flags(1).negated().negated(), flags(1));
        assert_eq!(flags(1).and(flags(2).or(flags(3))).depth, 3);
    }

    #[test]
    fn a_tree_that_is_too_deep_says_so_and_needs_no_stack() {
        let deep = |levels| (0..levels).fold(flags(0), |tree, _| tree.and(flags(1)).or(flags(2)));
        assert_ne!(deep(MAX_DEPTH / 2 - 1).root(), &Expr::TooDeep);
        let too_deep = deep(100_000);
        // What is added later cannot hide it: the root keeps it as a part, or is cut again.
        assert!(too_deep.root().is_too_deep());
        assert!(too_deep.negated().root().is_too_deep());
    }

    #[test]
    fn texts_compare_by_their_bytes() {
        let any = TextTest::any_of(["b", "a", "b"]);
        assert_eq!(any, TextTest::AnyOf(vec!["a".into(), "b".into()]));
        assert!(any.holds("a") && !any.holds("ab") && !any.holds(""));
        assert_eq!(TextTest::any_of(["a"]), TextTest::Equal("a".into()));
        assert!(!TextTest::any_of(Vec::<String>::new()).holds(""));
        assert!(TextTest::StartsWith("tê".into()).holds("tête"));
        assert!(TextTest::EndsWith("e".into()).holds("tête") && TextTest::Contains("ê".into()).holds("tête"));
        assert!(TextTest::Contains(String::new()).holds(""));
    }
}
