//! Parquet files of a lake as a plan: exactly those that are named, whatever else is in their directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, project_schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

/// Files of one schema.
#[derive(Debug)]
pub(super) struct Files {
    schema: SchemaRef,
    files: Vec<PartitionedFile>,
}

impl Files {
    /// Of files with their lengths in bytes.
    pub(super) fn new(schema: SchemaRef, files: Vec<(PathBuf, u64)>) -> Result<Self> {
        let file = |(path, bytes): (PathBuf, u64)| -> Result<PartitionedFile> {
            let mut file = PartitionedFile::new(String::new(), bytes);
            // Signs that paths of stores do not have are written otherwise by this, and by nothing else in the way that is read.
            file.object_meta.location = ObjectPath::from_absolute_path(absolute(&path)?)?;
            Ok(file)
        };
        Ok(Self { schema, files: files.into_iter().map(file).collect::<Result<_>>()? })
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

impl Files {
    /// Reads some of their columns. What a condition above says leaves out pages by their statistics and bloom filters: the physical
    /// optimizer brings it down.
    pub(super) fn scan(&self, partitions: usize, columns: Vec<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, Some(&columns))?)));
        }
        let groups = FileGroup::new(self.files.clone()).split_files(partitions);
        let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
            .with_file_groups(groups)
            .with_projection_indices(Some(columns))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
