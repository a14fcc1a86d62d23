//! `keplor init`: a new table, its columns from flags or a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use keplordb::TableSchema;
use keplordb::any::{AnyStore, Column, Role};
use serde::Deserialize;

use super::Done;
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};
use crate::table;

/// Make a table
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor init calls.db --dim user --dim model --counter tokens --label note
  keplor init calls.db --schema calls.toml

A schema file has what the flags have, and nothing else is needed in it:
  id = 1
  dims = [\"user\", \"model\"]
  counters = [\"tokens\"]
  labels = [\"note\"]
  indexed_labels = [\"session\"]

Every table also has ts, id, metric, latency_ms, latency_detail_ms, status, flags and sequence.")]
pub(crate) struct Init {
    /// The table's directory; it is made
    dir: PathBuf,
    /// A text to filter and group by; may be given again
    #[arg(long, value_name = "NAME")]
    dim: Vec<String>,
    /// A number from 0 to 4294967295 to sum; may be given again
    #[arg(long, value_name = "NAME")]
    counter: Vec<String>,
    /// A text that is only stored; may be given again
    #[arg(long, value_name = "NAME")]
    label: Vec<String>,
    /// A label that is also found by its whole text; may be given again
    #[arg(long, value_name = "NAME")]
    indexed_label: Vec<String>,
    /// Which schema a program means, from 0 to 255
    #[arg(long, value_name = "N", default_value_t = 1)]
    id: u8,
    /// A TOML file that says all this
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dim", "counter", "label", "indexed_label", "id"])]
    schema: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// A schema file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SchemaFile {
    id: Option<u8>,
    dims: Vec<String>,
    counters: Vec<String>,
    labels: Vec<String>,
    indexed_labels: Vec<String>,
}

impl SchemaFile {
    fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("{} is no schema (`keplor init --help` shows one)", path.display()))
    }

    fn schema(self) -> TableSchema {
        let schema = TableSchema::new(self.id.unwrap_or(1));
        let schema = self.dims.into_iter().fold(schema, TableSchema::dim);
        let schema = self.counters.into_iter().fold(schema, TableSchema::counter);
        let schema = self.labels.into_iter().fold(schema, TableSchema::label);
        self.indexed_labels.into_iter().fold(schema, TableSchema::indexed_label)
    }
}

impl Init {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let Self { dir, dim, counter, label, indexed_label, id, schema, form } = self;
        let file = match schema {
            Some(path) => SchemaFile::read(&path)?,
            None => SchemaFile {
                id: Some(id),
                dims: dim,
                counters: counter,
                labels: label,
                indexed_labels: indexed_label,
            },
        };
        let names = [&file.dims, &file.counters, &file.labels, &file.indexed_labels];
        ensure!(
            !names.iter().any(|names| names.iter().any(|name| name == "ts")),
            "no column can be called ts: so the time is called here"
        );
        ensure!(
            !dir.exists() || dir.is_dir(),
            "{} is no directory; name one that is not there yet",
            dir.display()
        );
        let listed = || dir.read_dir().with_context(|| format!("{} cannot be listed", dir.display()));
        if dir.is_dir() && listed()?.next().is_some() {
            bail!("{} is not empty; name a directory that is not there yet", dir.display());
        }
        let store = AnyStore::open_or_create(&dir, file.schema())?;
        let mut sheet = Sheet::new(
            out,
            form,
            vec![Heading::left("column"), Heading::left("role"), Heading::left("kind")],
        );
        for column in store.columns() {
            sheet.row(
                &[table::shown_name(column), role(column), table::kind(column)]
                    .map(|text| Cell::Text(text.to_owned())),
            )?;
        }
        sheet.finish()?;
        store.close()?;
        Ok(Done::Well)
    }
}

fn role(column: &Column) -> &'static str {
    match column.role {
        Role::Dim => "dim",
        Role::Counter => "counter",
        Role::Label => "label",
        _ => "built in",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_file_has_known_keys_only() {
        let file: SchemaFile =
            toml::from_str("dims = [\"user\"]\ncounters = [\"tokens\"]\nindexed_labels = [\"session\"]")
                .unwrap();
        let schema = file.schema();
        assert_eq!((schema.id(), schema.dims().collect::<Vec<_>>()), (1, vec!["user"]));
        assert_eq!(schema.labels().collect::<Vec<_>>(), ["session"]);
        let refused = toml::from_str::<SchemaFile>("dim = [\"user\"]").unwrap_err().to_string();
        assert!(refused.contains("unknown field `dim`"), "{refused}");
    }
}
