//! `keplor get` of a root: what an entity is, or was.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Entity, When, field, fold, value};
use crate::command::Done;
use crate::output::{self, Output};
use crate::sheet::{Form, Heading, Sheet, printable};

/// An entity as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    entity_type: &'a str,
    entity_id: &'a str,
    /// How many events it has.
    version: u64,
    /// Of the last one.
    sequence: u64,
    /// `null` where it is deleted.
    state: Option<&'a Map<String, Json>>,
}

/// Prints the entity of a name.
pub(crate) fn get(root: &Path, name: &str, when: When, form: Form, out: &mut Output) -> Result<Done> {
    let entity = Entity::open(root, name)?;
    let Entity { log, entity_type, entity_id } = &entity;
    let instant = when.instant();
    let events = log.history(entity_type, entity_id, instant)?;
    let Some(last) = events.last() else { return Err(entity.unseen(instant)?) };
    let fold = fold(&events);
    let state = fold.state();
    if form.json {
        let version = fold.version();
        out.json(&Shown { entity_type, entity_id, version, sequence: last.sequence, state })?;
        return Ok(Done::Well);
    }
    if state.is_none() && form.is_text() {
        out.line(&format!(
            "{entity_type} {} is deleted: by event {}, which happened at {}",
            printable(entity_id),
            last.sequence,
            output::time(last.event_time_ms.saturating_mul(1_000_000))
        ))?;
        return Ok(Done::Well);
    }
    let mut sheet = Sheet::new(out, form, vec![Heading::left("field"), Heading::left("value")]);
    rows(&mut sheet, state, &mut Vec::new())?;
    sheet.finish()?;
    Ok(Done::Well)
}

/// A row for each field of a state: what is no object, and objects without keys.
fn rows(sheet: &mut Sheet<'_>, state: Option<&Map<String, Json>>, path: &mut Vec<String>) -> Result<()> {
    for (key, found) in state.into_iter().flatten() {
        path.push(key.clone());
        match found {
            Json::Object(inner) if !inner.is_empty() => rows(sheet, Some(inner), path)?,
            found => sheet.row(&[field(path), value(found)])?,
        }
        path.pop();
    }
    Ok(())
}
