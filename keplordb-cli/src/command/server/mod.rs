//! The commands on servers and on their roots, and what they share. Those that only ask read a root beside its server.

mod backfill;
mod blame;
mod copy;
mod diff;
mod doctor;
mod event;
mod get;
mod history;
mod ingest;
mod keys;
mod logs;
mod ls;
mod name;
mod near;
mod replay;
#[cfg(feature = "sql")]
mod rql;
mod schema;
mod serve;
mod tail;

use std::path::{Path, PathBuf};

use anyhow::Result;
use keplordb_log::Timestamp;
use keplordb_server::{EntityEvent, EntityLog, Fold, Instant, Schemas};
use serde_json::Value as Json;

use crate::parse;
use crate::sheet::Cell;

pub(crate) use backfill::Backfill;
pub(crate) use blame::Blame;
pub(crate) use copy::{Backup, Fork, Restore, check_schemas, compact};
pub(crate) use diff::Diff;
pub(crate) use doctor::Doctor;
pub(crate) use get::get;
pub(crate) use history::History;
pub(crate) use ingest::Ingest;
pub(crate) use keys::KeysCommand;
pub(crate) use ls::Ls;
pub(crate) use replay::Replay;
#[cfg(feature = "sql")]
pub(crate) use rql::Rql;
pub(crate) use schema::SchemaCommand;
pub(crate) use serve::Serve;
pub(crate) use tail::{Follow, tail};

/// The instant at which entities are looked at.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct When {
    /// As it was at this time: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When")]
    as_of: Option<Timestamp>,
    /// By what was known at this time: events that came in later do not count
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When")]
    known_at: Option<Timestamp>,
}

impl When {
    pub(crate) fn is_given(self) -> bool {
        self.as_of.is_some() || self.known_at.is_some()
    }

    fn instant(self) -> Instant {
        Instant { as_of_ms: self.as_of.map(ms), known_at_ms: self.known_at.map(ms) }
    }
}

/// An entity as it is typed.
#[derive(Debug, Clone, clap::Args)]
struct Named {
    /// The server's root; the server may be running
    root: PathBuf,
    /// The entity's type; or its whole name where no id follows: `User/user_1`, or `user_1` of the type User
    #[arg(value_name = "TYPE")]
    entity_type: String,
    /// The entity's id
    id: Option<String>,
}

/// An entity of a root.
#[expect(clippy::struct_field_names, reason = "an entity's type and id are called so everywhere")]
struct Entity {
    log: EntityLog,
    entity_type: String,
    entity_id: String,
}

impl Named {
    fn open(&self) -> Result<Entity> {
        match &self.id {
            Some(id) => {
                let log = EntityLog::beside(&self.root)?;
                let types = types(&self.root, &log)?;
                let entity_type = name::registered(&self.entity_type, &types).unwrap_or(&self.entity_type);
                Ok(Entity { log, entity_type: entity_type.to_owned(), entity_id: id.clone() })
            }
            None => Entity::open(&self.root, &self.entity_type),
        }
    }
}

impl Entity {
    /// By its whole name.
    fn open(root: &Path, name: &str) -> Result<Self> {
        let log = EntityLog::beside(root)?;
        let types = types(root, &log)?;
        let (entity_type, entity_id) = name::resolve(name, &types)?;
        Ok(Self { log, entity_type, entity_id })
    }

    /// Why nothing is seen of it at an instant, and what may be meant.
    fn unseen(&self, instant: Instant) -> Result<anyhow::Error> {
        near::unseen(&self.log, &self.entity_type, &self.entity_id, instant)
    }
}

/// The types of a root: those of its schema, and those of which there are events. Sorted.
fn types(root: &Path, log: &EntityLog) -> Result<Vec<String>> {
    let mut types: Vec<String> = log.types()?.into_iter().map(|of_type| of_type.entity_type).collect();
    if let Some(schema) = Schemas::beside(root)?.newest() {
        types.extend(schema.types().map(str::to_owned));
    }
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

/// The entity after these events, which are in their order.
fn fold(events: &[EntityEvent]) -> Fold {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event.operation, event.payload.clone());
    }
    fold
}

/// In milliseconds since the Unix epoch.
fn ms(time: Timestamp) -> i64 {
    time.as_ns().div_euclid(1_000_000)
}

fn time(time_ms: i64) -> Cell {
    Cell::Time(time_ms.saturating_mul(1_000_000))
}

/// A value as JSON writes it, which tells `"1"` from `1`.
fn value(value: &Json) -> Cell {
    Cell::Text(value.to_string())
}

fn text(text: &str) -> Cell {
    if text.is_empty() { Cell::Nothing } else { Cell::Text(text.to_owned()) }
}

/// A field as people write it: `address.city`.
fn field(path: &[String]) -> Cell {
    Cell::Text(path.join("."))
}
