//! The columns of a table: by name, role and order; how two schemas differ, in words.
//!
//! Every table has the fixed columns time, sequence, id, metric, latency, latency detail, status and flags. A
//! [`TableSchema`] names what it adds: dims, counters and labels.

use std::fmt::Write as _;

use crate::error::{DbError, Result};

/// Most dims a table may have.
pub const MAX_DIMS: usize = 256;
/// Most counters a table may have.
pub const MAX_COUNTERS: usize = 64;
/// Most labels a table may have.
pub const MAX_LABELS: usize = 64;
/// Longest column name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The columns that every table has. None of its own may be called like one.
pub(crate) const BUILT_IN_NAMES: [&str; 8] =
    ["ts_ns", "id", "metric", "latency_ms", "latency_detail_ms", "status", "flags", "sequence"];

/// A label column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Label {
    pub(crate) name: String,
    /// Whether segments carry a hash index for exact lookups.
    pub(crate) indexed: bool,
}

/// The columns of a table at run time: what `#[derive(Schema)]` writes down and what every file of a directory
/// carries.
///
/// ```
/// use keplordb::TableSchema;
///
/// let calls = TableSchema::new(1).dim("user").dim("model").counter("tokens").label("prompt");
/// assert_eq!(calls.dims().collect::<Vec<_>>(), ["user", "model"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TableSchema {
    id: u8,
    /// Whether names were given; a raw engine only counts its columns.
    named: bool,
    dims: Vec<String>,
    counters: Vec<String>,
    labels: Vec<Label>,
}

impl TableSchema {
    /// A schema without columns of its own, to be chained.
    pub fn new(id: u8) -> Self {
        Self { id, named: true, dims: Vec::new(), counters: Vec::new(), labels: Vec::new() }
    }

    /// The schema of a raw engine: columns are counted, and called `dim_0`, `counter_0`, `label_0` ….
    pub fn positional(id: u8, dims: usize, counters: usize, labels: usize) -> Self {
        let name = |role: &str, count: usize| (0..count).map(|i| format!("{role}_{i}")).collect::<Vec<_>>();
        Self {
            id,
            named: false,
            dims: name("dim", dims),
            counters: name("counter", counters),
            labels: name("label", labels).into_iter().map(|name| Label { name, indexed: false }).collect(),
        }
    }

    /// Adds a dim: a string to filter and group by.
    #[must_use]
    pub fn dim(mut self, name: impl Into<String>) -> Self {
        self.dims.push(name.into());
        self
    }

    /// Adds a counter: a `u32` to sum.
    #[must_use]
    pub fn counter(mut self, name: impl Into<String>) -> Self {
        self.counters.push(name.into());
        self
    }

    /// Adds a label: a string that is only stored.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>) -> Self {
        self.labels.push(Label { name: name.into(), indexed: false });
        self
    }

    /// Adds a label with a hash index for exact lookups.
    #[must_use]
    pub fn indexed_label(mut self, name: impl Into<String>) -> Self {
        self.labels.push(Label { name: name.into(), indexed: true });
        self
    }

    /// The schema id, chosen by the program.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The dims' names, in order.
    pub fn dims(&self) -> impl ExactSizeIterator<Item = &str> {
        self.dims.iter().map(String::as_str)
    }

    /// The counters' names, in order.
    pub fn counters(&self) -> impl ExactSizeIterator<Item = &str> {
        self.counters.iter().map(String::as_str)
    }

    /// The labels' names, in order.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.labels.iter().map(|label| label.name.as_str())
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape { dims: self.dims.len(), counters: self.counters.len(), labels: self.labels.len() }
    }

    pub(crate) fn label_columns(&self) -> &[Label] {
        &self.labels
    }

    /// Rebuilds a schema from its stored form.
    pub(crate) fn from_parts(
        id: u8,
        named: bool,
        dims: Vec<String>,
        counters: Vec<String>,
        labels: Vec<Label>,
    ) -> Self {
        Self { id, named, dims, counters, labels }
    }

    /// Checks counts and names: not empty, not too long, none twice, none a built-in column's.
    pub(crate) fn validate(&self) -> Result<()> {
        let limits = [
            ("dims", self.dims.len(), MAX_DIMS),
            ("counters", self.counters.len(), MAX_COUNTERS),
            ("labels", self.labels.len(), MAX_LABELS),
        ];
        for (role, count, max) in limits {
            if count > max {
                return Err(DbError::invalid(role, format!("{count} columns, at most {max} are possible")));
            }
        }
        let mut names: Vec<&str> = self.dims().chain(self.counters()).chain(self.labels()).collect();
        names.sort_unstable();
        for name in &names {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                let why = format!("column name {name:?} must have 1 to {MAX_NAME_BYTES} bytes");
                return Err(DbError::invalid("schema", why));
            }
            if BUILT_IN_NAMES.contains(name) {
                return Err(DbError::invalid("schema", format!("{name:?} is a column that every table has")));
            }
        }
        match names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next) {
            Some((name, _)) => Err(DbError::invalid("schema", format!("two columns are called {name:?}"))),
            None => Ok(()),
        }
    }

    /// What keeps `self` from opening a directory that stores `stored`, in words; `None` when it fits.
    ///
    /// It fits when the ids agree and every role has the stored columns first, in order; new ones may follow.
    /// Names are compared only where both sides have them.
    pub(crate) fn differences_from(&self, stored: &Self) -> Option<String> {
        let mut text = String::new();
        if self.id != stored.id {
            let _ = write!(text, "schema id {} instead of the stored {}; ", self.id, stored.id);
        }
        let both_named = self.named && stored.named;
        let mut compare = |role: &str, mine: Vec<&str>, theirs: Vec<&str>| {
            if mine.len() < theirs.len() {
                let lacking = theirs[mine.len()..].join(", ");
                let _ = write!(
                    text,
                    "{} {role} columns instead of at least the stored {} (lacking: {lacking}); ",
                    mine.len(),
                    theirs.len(),
                );
            }
            if both_named {
                for (place, (mine, theirs)) in mine.iter().zip(&theirs).enumerate() {
                    if mine != theirs {
                        let _ = write!(text, "{role} {place} is {mine:?} instead of the stored {theirs:?}; ");
                    }
                }
            }
        };
        compare("dim", self.dims().collect(), stored.dims().collect());
        compare("counter", self.counters().collect(), stored.counters().collect());
        compare("label", self.labels().collect(), stored.labels().collect());
        let text = text.trim_end_matches("; ");
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// What keeps a reader that knows the columns of `self` from a directory that stores `stored`, in words; `None` when
    /// nothing does.
    ///
    /// Either may have more columns at the end of a role: those that the directory lacks read as 0 or empty, those that
    /// the reader lacks are not read.
    pub(crate) fn differences_for_reading(&self, stored: &Self) -> Option<String> {
        let mut known = stored.clone();
        known.dims.truncate(self.dims.len());
        known.counters.truncate(self.counters.len());
        known.labels.truncate(self.labels.len());
        self.differences_from(&known)
    }

    /// `self` with the names that `stored` has where `self` only counts its columns.
    pub(crate) fn adopt_names(mut self, stored: &Self) -> Self {
        if !self.named && stored.named {
            self.dims.iter_mut().zip(&stored.dims).for_each(|(mine, theirs)| mine.clone_from(theirs));
            self.counters.iter_mut().zip(&stored.counters).for_each(|(mine, theirs)| mine.clone_from(theirs));
            self.labels.iter_mut().zip(&stored.labels).for_each(|(mine, theirs)| mine.clone_from(theirs));
            self.named = true;
        }
        self
    }
}

/// How many columns of each role a block, a segment or a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    pub(crate) dims: usize,
    pub(crate) counters: usize,
    pub(crate) labels: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> TableSchema {
        TableSchema::new(1).dim("user").dim("model").counter("tokens")
    }

    #[test]
    fn columns_may_be_added_at_the_end_of_each_role() {
        let grown = calls().dim("region").counter("retries").label("prompt");
        assert_eq!(grown.differences_from(&calls()), None);
        assert_eq!(
            calls().differences_from(&grown).unwrap(),
            "2 dim columns instead of at least the stored 3 (lacking: region); 1 counter columns instead of at least \
             the stored 2 (lacking: retries); 0 label columns instead of at least the stored 1 (lacking: prompt)"
        );
    }

    #[test]
    fn other_names_and_ids_are_named() {
        let other = TableSchema::new(2).dim("model").dim("user").counter("tokens");
        assert_eq!(
            other.differences_from(&calls()).unwrap(),
            "schema id 2 instead of the stored 1; dim 0 is \"model\" instead of the stored \"user\"; dim 1 is \"user\" \
             instead of the stored \"model\""
        );
    }

    #[test]
    fn a_reader_may_know_more_or_fewer_columns_but_no_others() {
        let narrow = TableSchema::new(1).dim("user");
        let wide = calls().dim("region").label("note");
        for reader in [&narrow, &wide, &TableSchema::positional(1, 0, 9, 0)] {
            assert_eq!(reader.differences_for_reading(&calls()), None);
            assert_eq!(calls().differences_for_reading(reader), None);
        }
        let other = TableSchema::new(1).dim("region");
        assert_eq!(
            other.differences_for_reading(&calls()).unwrap(),
            "dim 0 is \"region\" instead of the stored \"user\""
        );
        assert!(TableSchema::new(2).differences_for_reading(&calls()).is_some());
    }

    #[test]
    fn a_positional_schema_fits_a_named_one_and_takes_its_names() {
        let raw = TableSchema::positional(1, 2, 1, 0);
        assert_eq!(raw.differences_from(&calls()), None);
        assert_eq!(calls().differences_from(&raw), None);
        assert_eq!(raw.adopt_names(&calls()), calls());
    }

    #[test]
    fn doubled_empty_built_in_and_too_many_names_are_refused() {
        assert!(calls().validate().is_ok());
        assert!(
            calls()
                .label("user")
                .validate()
                .unwrap_err()
                .to_string()
                .contains("two columns are called \"user\"")
        );
        assert!(calls().dim("").validate().is_err());
        for name in BUILT_IN_NAMES {
            let refusal = calls().counter(name).validate().unwrap_err().to_string();
            assert_eq!(refusal, format!("schema is not legal: {name:?} is a column that every table has"));
        }
        assert!(TableSchema::positional(1, MAX_DIMS + 1, 0, 0).validate().is_err());
    }
}
