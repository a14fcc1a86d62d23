//! `keplor schema`: the versions of the schema of a root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use keplordb::DbError;
use keplordb_server::{Capture, EntityType, Field, Schema, Schemas, ServerError, is_root};
use serde_json::json;

use crate::command::Done;
use crate::output::{Output, counted, note};
use crate::sheet::{Cell, Form, Heading, Sheet};

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print a version of the schema
    Show(Show),
    /// Compile a schema and say what is wrong with it; changes nothing
    Check(Check),
    /// Make a schema the newest version, by which events are read from now on
    Push(Push),
    /// Print the types and fields in which two versions differ
    Diff(Diff),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor schema show data > custom.proto")]
pub(crate) struct Show {
    /// The server's root; the server may be running
    root: PathBuf,
    /// This version, and not the newest
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Print version, types and text as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor schema check custom.proto --root data

A schema is one file in the package reflog.v1; each of its top-level messages is an entity type. What was captured stays readable by
its number, so no number may get another kind: --root compares with all versions that a root has.")]
pub(crate) struct Check {
    /// The schema: a .proto file
    file: PathBuf,
    /// The root that it is for; the server may be running
    #[arg(long, value_name = "ROOT")]
    root: Option<PathBuf>,
    /// Print version and types as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor schema push data custom.proto

No server may be running on the root; `keplor serve ROOT --schema FILE` does the same at its start.")]
pub(crate) struct Push {
    /// The server's root
    root: PathBuf,
    /// The schema: a .proto file
    file: PathBuf,
    /// Print version and types as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor schema diff data
  keplor schema diff data 1 3 --json

+ is a field that came, - one that went, ~ one that has another name: a field is known by its number.")]
pub(crate) struct Diff {
    /// The server's root; the server may be running
    root: PathBuf,
    /// From this version; by default the one before the newest
    from: Option<u32>,
    /// To this one; by default the newest
    to: Option<u32>,
    #[command(flatten)]
    form: Form,
}

impl SchemaCommand {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        match self {
            Self::Show(show) => show.run(out),
            Self::Check(check) => check.run(out),
            Self::Push(push) => push.run(out),
            Self::Diff(diff) => diff.run(out),
        }?;
        Ok(Done::Well)
    }
}

impl Show {
    fn run(self, out: &mut Output) -> Result<()> {
        let schemas = Schemas::beside(&self.root)?;
        let schema = version(&schemas, &self.root, self.version)?;
        if self.json {
            return out.json(&json!({
                "version": schema.version(),
                "types": schema.types().collect::<Vec<_>>(),
                "text": schema.text(),
            }));
        }
        out.bytes(schema.text().as_bytes())?;
        if schema.text().ends_with('\n') { Ok(()) } else { out.line("") }
    }
}

impl Check {
    fn run(self, out: &mut Output) -> Result<()> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("{} cannot be read", self.file.display()))?;
        let schemas = self.root.map_or_else(|| Ok(Schemas::default()), Schemas::beside)?;
        let schema = schemas.check(&self.file, &text)?;
        if self.json {
            return summary(&schema, out);
        }
        out.line(&format!("{} is a schema with {}", self.file.display(), types(&schema)))
    }
}

impl Push {
    fn run(self, out: &mut Output) -> Result<()> {
        if !is_root(&self.root) {
            return Err(ServerError::NoRoot { dir: self.root }.into());
        }
        let capture = Capture::open(&self.root).map_err(|error| self.explained(error))?;
        let before = capture.schemas().all().len();
        let pushed = capture.push_schema(&self.file);
        let schemas = capture.schemas();
        let closed = capture.close();
        let number = pushed?;
        closed?;
        let schema = version(&schemas, &self.root, Some(number))?;
        if self.json {
            return summary(schema, out);
        }
        if number as usize <= before {
            return out.line(&format!("nothing to do: {} is version {number} already", self.file.display()));
        }
        out.line(&format!("{} is version {number}, with {}", self.file.display(), types(schema)))
    }

    fn explained(&self, error: ServerError) -> anyhow::Error {
        match error {
            ServerError::Db(DbError::AlreadyOpen { .. }) => anyhow!(
                "a server is running on {root}: stop it first, or start it anew by `keplor serve {root} --schema {}`; {error}",
                self.file.display(),
                root = self.root.display(),
            ),
            error => error.into(),
        }
    }
}

impl Diff {
    fn run(self, out: &mut Output) -> Result<()> {
        let schemas = Schemas::beside(&self.root)?;
        let after = version(&schemas, &self.root, self.to)?;
        let before = match self.from.unwrap_or(after.version() - 1) {
            0 => None,
            from => Some(version(&schemas, &self.root, Some(from))?),
        };
        if before.is_none() && self.form.is_text() {
            note("this is the first version: all of it is new");
        }
        let headings = ["change", "type", "number", "before", "after"].map(Heading::left).to_vec();
        let mut sheet = Sheet::new(out, self.form, headings);
        let mut names: Vec<&str> =
            after.types().chain(before.iter().flat_map(|before| before.types())).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of = |schema: &Schema| schema.get(name).map(EntityType::fields);
            let (was, is) = (before.and_then(of), of(after));
            if was.is_none() || is.is_none() {
                let there = |fields: &Option<Vec<Field>>| {
                    fields.as_ref().map_or(Cell::Nothing, |_| Cell::Text(format!("message {name}")))
                };
                let name = Cell::Text(name.to_owned());
                sheet.row(&[
                    sign(was.is_some(), is.is_some()),
                    name,
                    Cell::Nothing,
                    there(&was),
                    there(&is),
                ])?;
            }
            for (was, is) in differences(&was.unwrap_or_default(), &is.unwrap_or_default()) {
                let Some(either) = is.or(was) else { continue };
                let numbers: Vec<String> = either.numbers.iter().map(u32::to_string).collect();
                let shown = |field: Option<&Field>| {
                    field.map_or(Cell::Nothing, |field| Cell::Text(format!("{} {}", field.kind, field.path)))
                };
                sheet.row(&[
                    sign(was.is_some(), is.is_some()),
                    Cell::Text(name.to_owned()),
                    Cell::Text(numbers.join(".")),
                    shown(was),
                    shown(is),
                ])?;
            }
        }
        sheet.finish()
    }
}

fn sign(was: bool, is: bool) -> Cell {
    let sign = match (was, is) {
        (false, _) => "+",
        (_, false) => "-",
        _ => "~",
    };
    Cell::Text(sign.to_owned())
}

/// The fields that are not the same in two versions of a type, by their numbers.
fn differences<'f>(was: &'f [Field], is: &'f [Field]) -> Vec<(Option<&'f Field>, Option<&'f Field>)> {
    let of_number =
        |fields: &'f [Field], numbers: &[u32]| fields.iter().find(|field| field.numbers == numbers);
    let mut numbers: Vec<&[u32]> = was.iter().chain(is).map(|field| &field.numbers[..]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let both = numbers.into_iter().map(|numbers| (of_number(was, numbers), of_number(is, numbers)));
    both.filter(|(was, is)| was != is).collect()
}

fn summary(schema: &Schema, out: &mut Output) -> Result<()> {
    out.json(&json!({ "version": schema.version(), "types": schema.types().collect::<Vec<_>>() }))
}

fn types(schema: &Schema) -> String {
    let types = schema.types();
    let counted = counted(types.len() as u64, "type", "types");
    format!("{counted}: {}", schema.types().collect::<Vec<_>>().join(", "))
}

/// A version of a root, the newest where none is asked for.
fn version<'s>(schemas: &'s Schemas, root: &Path, number: Option<u32>) -> Result<&'s Schema> {
    let found = match number {
        Some(number) => schemas.version(number),
        None => schemas.newest(),
    };
    if let Some(schema) = found {
        return Ok(schema);
    }
    match (schemas.all().len(), number) {
        (1.., Some(number)) => {
            bail!("{} has no version {number}; there are 1 to {}", root.display(), schemas.all().len())
        }
        _ => bail!(
            "{} has no schema: any type is taken; `keplor schema push {0} FILE` gives it one",
            root.display()
        ),
    }
}
