//! The tables of a pinned root by name, each with what it was.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use keplordb_sql::as_of::{HistoricTable, History, Instants};

use super::pin::Pinned;
use super::table::{InstantTable, What};
use crate::entity::{Instant, LogInstant};
use crate::lake::LakeTable;
use crate::rql::{NameError, plural};

/// Nanoseconds of a millisecond.
const MS_NS: i64 = 1_000_000;

/// The tables of a statement.
#[derive(Debug)]
pub(super) struct Catalog {
    pinned: Arc<Pinned>,
    /// Of tables without a clause of their own.
    default: LogInstant,
}

impl Catalog {
    pub(super) fn new(pinned: Arc<Pinned>, default: LogInstant) -> Self {
        Self { pinned, default }
    }

    /// The table of a name: one of the three, or a type's by its name, singular or plural.
    fn find(&self, name: &str) -> std::result::Result<Option<What>, NameError> {
        let own = [
            (LakeTable::Events, What::Events),
            (LakeTable::Current, What::Current),
            (LakeTable::Versions, What::Versions),
        ];
        for (table, what) in own {
            if table.name().eq_ignore_ascii_case(name) {
                return Ok(Some(what));
            }
        }
        match self.pinned.entity_type(name) {
            Ok(entity_type) => {
                let shape = self.pinned.shape(entity_type);
                Ok(Some(What::Entities { entity_type: entity_type.to_owned(), shape }))
            }
            Err(NameError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl SchemaProvider for Catalog {
    fn table_names(&self) -> Vec<String> {
        let own = LakeTable::ALL.map(|table| table.name().to_owned());
        let mut names: Vec<String> =
            own.into_iter().chain(self.pinned.types.iter().map(|name| plural(name))).collect();
        names.sort_unstable();
        names.dedup();
        // One that means several types is shown by none of them.
        names.retain(|name| self.find(name).is_ok_and(|what| what.is_some()));
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let found = self.find(name).map_err(|error| DataFusionError::Plan(error.to_string()))?;
        let Some(what) = found else { return Ok(None) };
        let past = Past { pinned: Arc::clone(&self.pinned), what: what.clone() };
        let now = InstantTable::new(Arc::clone(&self.pinned), what, self.default);
        Ok(Some(Arc::new(HistoricTable::new(Arc::new(now), Arc::new(past)))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_ok_and(|what| what.is_some())
    }
}

/// What a table was.
#[derive(Debug)]
struct Past {
    pinned: Arc<Pinned>,
    what: What,
}

impl History for Past {
    fn at(&self, instants: Instants) -> Arc<dyn TableProvider> {
        // Events have whole milliseconds, so that what is not behind an instant is not behind the millisecond that it is in.
        let ms = |ns: Option<i64>| ns.map(|ns| ns.div_euclid(MS_NS));
        let instant = Instant { as_of_ms: ms(instants.as_of_ns), known_at_ms: ms(instants.known_at_ns) };
        let at = LogInstant { instant, sequence: instants.sequence };
        Arc::new(InstantTable::new(Arc::clone(&self.pinned), self.what.clone(), at))
    }
}
