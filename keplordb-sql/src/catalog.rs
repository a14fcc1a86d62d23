//! The tables of a session by name. What a statement gets of a table is pinned: all parts of it see the same rows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;

use crate::table::KeplorTable;

/// Tables by name, as a schema of a `DataFusion` catalog.
///
/// `DataFusion` looks a table up once per statement, however often the statement names it; [`KeplorTable`]s are
/// [pinned](KeplorTable::pinned) then. Where a `KeplorTable` is registered with another schema, each mention of it in a
/// statement is of a moment of its own, unless it was pinned before.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::catalog::SchemaProvider;
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::{KeplorSchema, KeplorTable};
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1))?;
/// let tables = KeplorSchema::default();
/// tables.register_table("calls".into(), Arc::new(KeplorTable::from(store)))?;
/// assert!(tables.table_exist("calls"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct KeplorSchema {
    tables: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
}

impl KeplorSchema {
    /// Gives a table a name, in the place of a table that had it.
    pub(crate) fn register(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Option<Arc<dyn TableProvider>> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(name, table)
    }

    fn find(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for KeplorSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.find(name) else { return Ok(None) };
        let Some(ours) = table.downcast_ref::<KeplorTable>() else { return Ok(Some(table)) };
        Ok(Some(ours.pinned_to(ours.snapshot_apart().await?)))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.register(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables.write().unwrap_or_else(PoisonError::into_inner).remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
