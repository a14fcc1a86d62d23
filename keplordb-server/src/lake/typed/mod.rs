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
use super::manifest::{TYPED_PARTS, Tables};
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

/// Parts in which the tables of a new schema are made, at most: each reads the history of its types, which are together in files.
const PARTS_MAX: u64 = 8;
/// Bytes of files of which typed ones are made that are a part in any case: what is less is made soon, whatever else waits.
const PART_BYTES_MIN: u64 = if cfg!(test) { 1 } else { 256 << 20 };

impl Tables {
    /// The typed tables that are to be next on the way from those that are there to others; `None` where that is at its end. What needs no
    /// file is done at once, tables with other columns a part after the other.
    pub(super) fn next_typings(&self, wanted: &Typings) -> Option<Typings> {
        let there = self.typings();
        if there == *wanted {
            return None;
        }
        let mut next = Typings::new();
        let mut lacking = Vec::new();
        for (entity_type, typing) in wanted {
            match there.get(entity_type) {
                Some(before) if before.columns == typing.columns => {
                    next.insert(entity_type.clone(), typing.clone());
                }
                before => {
                    // Until it is made its table is as it was. No two have one name meanwhile: only tables that go have one that others get.
                    next.extend(before.map(|before| (entity_type.clone(), before.clone())));
                    lacking.push((entity_type, typing));
                }
            }
        }
        // Of all types, so that parts are no smaller when fewer types are left.
        let all: u64 = wanted.keys().map(|entity_type| self.source_bytes(entity_type)).sum();
        let part = PART_BYTES_MIN.max(all / PARTS_MAX);
        let mut bytes = 0;
        for (entity_type, typing) in lacking {
            if bytes >= part {
                break;
            }
            bytes += self.source_bytes(entity_type);
            next.insert(entity_type.clone(), typing.clone());
        }
        Some(next)
    }

    /// About how many bytes of files a type's rows have of which its table is made.
    fn source_bytes(&self, entity_type: &str) -> u64 {
        let sources = TYPED_PARTS.into_iter().flat_map(|part| &self.get(part).files);
        let of_type = sources.filter(|file| files::may_have(file, entity_type));
        of_type.map(|file| file.bytes / file.types.as_ref().map_or(1, Vec::len).max(1) as u64).sum()
    }

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
