//! Typed tables: of each entity type of the schema what is live, and what was, with a column for each field.
//!
//! Their files are made of those of `_current` and `_versions`, one of each that has rows of the type, and of nothing else. So whatever
//! becomes of these, by events, late ones, buckets, merging or a replay, is followed by one rule: what has no file gets one, and a
//! file of what is gone goes. A type whose columns change begins anew. `names` says how their directories are called, `rows` which
//! columns they have, `files` which files there are.

mod files;
mod names;
mod rows;

use std::collections::BTreeMap;

pub(super) use self::rows::{TypedColumns, TypedRow, hashes};
use super::manifest::Tables;
use crate::schema::Schema;
use crate::shape::Shape;

/// How the table of a type is to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Typing {
    /// The name of its directory.
    name: String,
    /// The columns of the schema's fields.
    columns: Shape,
}

/// The typed tables that are to be, by the names of their types.
pub(super) type Typings = BTreeMap<String, Typing>;

/// Those of a schema: one of each type; without a schema there are none.
pub(super) fn typings_of(schema: Option<&Schema>) -> Typings {
    let Some(schema) = schema else { return Typings::new() };
    let mut names = names::names(schema.types());
    let typing = |entity_type: &str| {
        let columns = Shape::of(schema.get(entity_type)?.message());
        Some((entity_type.to_owned(), Typing { name: names.remove(entity_type)?, columns }))
    };
    schema.types().filter_map(typing).collect()
}

impl Tables {
    /// The typed tables that are there.
    pub(super) fn typings(&self) -> Typings {
        let typed = self.typed.iter();
        typed
            .map(|(entity_type, table)| {
                let typing = Typing { name: table.name.clone(), columns: table.columns.clone() };
                (entity_type.clone(), typing)
            })
            .collect()
    }
}
