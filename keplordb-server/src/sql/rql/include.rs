//! Related entities, at the same instant: those that a field refers to, and those whose field refers to one.
//!
//! Relations are the schema's foreign keys. One that a field has is called as the field (`user_id`), as the field without `_id`
//! (`user`), or as the other type in the singular or plural; one that another type's field has, as that type in the singular or plural
//! (`reviews`). A name that says two of them says none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::logical_expr::{Expr, ident, lit};
use serde_json::{Map, Value, json};

use super::compile::ID;
use super::{Found, Held, QueryError, Result, Sql, too_much};
use crate::entity::LogInstant;
use crate::rql::eval::field_of;
use crate::rql::{Query, plural, singular};
use crate::schema::{EntityType, Schema};
use crate::sql::pin::Pinned;

/// Entities that come along with an answer, by all relations together.
const INCLUDED_MAX: usize = 10_000;

/// How entities of two types belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation {
    /// The field of the entities that were asked for.
    own: String,
    /// The type and the field of the others.
    entity_type: String,
    field: String,
    /// Whether one of them at most comes along.
    is_one: bool,
}

/// An entity that comes along.
struct Related {
    id: String,
    bytes: usize,
    shown: Value,
}

/// Of each entity that was found, what comes along, by the names that the query has; and what that holds.
pub(super) async fn included(
    sql: &Sql,
    pinned: &Arc<Pinned>,
    entity_type: &str,
    at: LogInstant,
    query: &Query,
    found: &[Found],
) -> Result<(Vec<Map<String, Value>>, Held)> {
    let mut all = vec![Map::new(); found.len()];
    let mut count = 0;
    let held = Held::new(&sql.session, "entities that come along");
    let grant = |bytes: usize| {
        let is_granted = held.resize(held.size() + bytes)?;
        if is_granted { Ok(()) } else { Err(too_much("the bytes of the entities that come along")) }
    };
    for name in &query.include {
        // What is only looked up counts until the relation is done.
        let mut looked_up = 0;
        let relation = relation(pinned.schema.as_deref(), entity_type, name)?;
        let wanted: BTreeSet<String> =
            found.iter().flat_map(|found| keys(field_of(&found.state, &relation.own))).collect();
        let mut others: BTreeMap<String, Vec<Related>> = BTreeMap::new();
        if !wanted.is_empty() {
            sql.each(pinned, &relation.entity_type, at, meets(&relation, &wanted), |other| {
                let keys = keys(field_of(&other.state, &relation.field));
                let found: BTreeSet<String> = keys.filter(|key| wanted.contains(key)).collect();
                count += usize::from(!found.is_empty());
                if count > INCLUDED_MAX {
                    let instead = "ask for fewer entities at a time, and go on with the cursor";
                    let limit = INCLUDED_MAX as u64;
                    return Err(QueryError::TooMany { what: "the entities that come along", limit, instead });
                }
                let mut state = other.state;
                state.remove(ID);
                let shown =
                    json!({"entity_type": relation.entity_type, "entity_id": other.id, "state": state});
                for key in found {
                    grant(other.bytes)?;
                    looked_up += other.bytes;
                    let (id, bytes, shown) = (other.id.clone(), other.bytes, shown.clone());
                    others.entry(key).or_default().push(Related { id, bytes, shown });
                }
                Ok(())
            })
            .await?;
        }
        for (included, found) in all.iter_mut().zip(found) {
            let keys: BTreeSet<String> = keys(field_of(&found.state, &relation.own)).collect();
            let mut related: Vec<&Related> =
                keys.iter().filter_map(|key| others.get(key)).flatten().collect();
            related.sort_by(|a, b| a.id.cmp(&b.id));
            // One that several keys mean.
            related.dedup_by(|a, b| a.id == b.id);
            if relation.is_one {
                related.truncate(1);
            }
            // Each of those that were found has its own copy of what comes along.
            related.iter().try_for_each(|related| grant(related.bytes))?;
            let mut related = related.into_iter().map(|related| related.shown.clone());
            let related = if relation.is_one {
                related.next().unwrap_or(Value::Null)
            } else {
                Value::Array(related.collect())
            };
            included.insert(name.clone(), related);
        }
        held.resize(held.size().saturating_sub(looked_up))?;
    }
    Ok((all, held))
}

/// What a value says as a key: numbers as their text, of a list each element.
fn keys(value: Option<&Value>) -> impl Iterator<Item = String> {
    let values: Vec<&Value> = match value {
        Some(Value::Array(values)) => values.iter().collect(),
        value => value.into_iter().collect(),
    };
    values
        .into_iter()
        .filter_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// A condition that all related entities meet, where it leaves out files; others may meet it too.
fn meets(relation: &Relation, wanted: &BTreeSet<String>) -> Option<Expr> {
    // A key may be any text, also one that a condition would take for a time.
    (relation.field == ID)
        .then(|| ident(ID).in_list(wanted.iter().map(|key| lit(key.as_str())).collect(), false))
}

fn relation(schema: Option<&Schema>, entity_type: &str, name: &str) -> Result<Relation> {
    let all = relations(schema, entity_type);
    let known = || all.iter().filter_map(|(names, _)| names.first().cloned()).collect();
    let unknown = || QueryError::Relation {
        entity_type: entity_type.to_owned(),
        name: name.to_owned(),
        known: known(),
    };
    let means = |names: &[String]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let mut found = all.iter().filter(|(names, _)| means(names)).map(|(_, relation)| relation);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        // None, or several.
        _ => Err(unknown()),
    }
}

/// The relations of a type, each with its names.
fn relations(schema: Option<&Schema>, entity_type: &str) -> Vec<(Vec<String>, Relation)> {
    let Some(schema) = schema else { return Vec::new() };
    let is_list = |entity_type: &str, field: &str| {
        let entity = schema.get(entity_type);
        entity
            .and_then(|entity| entity.message().get_field_by_name(field))
            .is_some_and(|field| field.is_list())
    };
    let mut all = Vec::new();
    for (own, reference) in schema.get(entity_type).into_iter().flat_map(EntityType::references) {
        let short = own.strip_suffix("_ids").or_else(|| own.strip_suffix("_id"));
        let mut names = vec![own.clone()];
        names.extend(short.map(str::to_owned));
        names.extend([singular(&reference.entity_type), plural(&reference.entity_type)]);
        let relation = Relation {
            entity_type: reference.entity_type.clone(),
            field: reference.field.clone(),
            is_one: !is_list(entity_type, &own) && !reference.relationship.ends_with("to_many"),
            own,
        };
        all.push((names, relation));
    }
    for other in schema.types() {
        for (field, reference) in schema.get(other).into_iter().flat_map(EntityType::references) {
            if reference.entity_type != entity_type {
                continue;
            }
            let names = vec![plural(other), singular(other)];
            let relation = Relation {
                own: reference.field.clone(),
                entity_type: other.to_owned(),
                field,
                is_one: reference.relationship == "one_to_one",
            };
            all.push((names, relation));
        }
    }
    all
}
