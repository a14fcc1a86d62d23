//! What a person is told who asks for an entity that is not there: which ones are near it.

use anyhow::{Result, anyhow};
use keplordb_server::{EntityLog, Instant};

use crate::output;
use crate::sheet::printable;

/// So many ids are offered.
const OFFERED: usize = 5;

/// Why nothing is seen of an entity at an instant, and what may be meant.
pub(super) fn unseen(
    log: &EntityLog,
    entity_type: &str,
    entity_id: &str,
    instant: Instant,
) -> Result<anyhow::Error> {
    let shown = printable(entity_id);
    let events = log.history(entity_type, entity_id, Instant::default())?;
    let first_ms = |time_of: fn(&keplordb_server::EntityEvent) -> i64| events.iter().map(time_of).min();
    if let (Some(happened_ms), Some(received_ms)) =
        (first_ms(|event| event.event_time_ms), first_ms(|event| event.received_at_ms))
        && instant != Instant::default()
    {
        let time = |time_ms: i64| output::time(time_ms.saturating_mul(1_000_000));
        return Ok(anyhow!(
            "{entity_type} {shown} has no event at that instant: the first one happened at {}, and the first one came in at {}",
            time(happened_ms),
            time(received_ms)
        ));
    }
    let types: Vec<String> = log.types()?.into_iter().map(|of_type| of_type.entity_type).collect();
    let mut hints = Vec::new();
    if types.iter().any(|known| known == entity_type) {
        let near = near(log, entity_type, entity_id)?;
        if !near.is_empty() {
            hints.push(format!("near it are {}", near.join(", ")));
        }
    } else if types.is_empty() {
        hints.push("nothing was captured yet".to_owned());
    } else {
        hints.push(format!("there are the types {}", types.join(", ")));
    }
    let mut others = Vec::new();
    for other in types.iter().filter(|other| *other != entity_type) {
        if !log.history(other, entity_id, Instant::default())?.is_empty() {
            others.push(format!("{other}/{shown}"));
        }
    }
    if !others.is_empty() {
        hints.push(format!("there is {}", others.join(" and ")));
    }
    hints.insert(0, format!("there is no {entity_type} {shown}"));
    Ok(anyhow!(hints.join("; ")))
}

/// Ids of the type that begin as this one does, as far as any do.
fn near(log: &EntityLog, entity_type: &str, entity_id: &str) -> Result<Vec<String>> {
    for begin in beginnings(entity_id) {
        let ids = log.ids(entity_type, begin, None, OFFERED)?;
        if !ids.is_empty() {
            return Ok(ids.iter().map(|id| printable(id).into_owned()).collect());
        }
    }
    Ok(Vec::new())
}

/// Beginnings of an id, from all of it to its first letter.
fn beginnings(id: &str) -> impl Iterator<Item = &str> {
    let mut letters = id.chars().count();
    let mut next = (letters > 0).then_some(id);
    std::iter::from_fn(move || {
        let begin = next.take()?;
        // The last letters are the likeliest to be wrong.
        letters = if letters > 4 { letters - letters.div_ceil(4) } else { letters.saturating_sub(1) };
        if letters > 0 {
            next = Some(id.char_indices().nth(letters).map_or(id, |(end, _)| &id[..end]));
        }
        Some(begin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_grow_shorter_down_to_a_letter() {
        assert_eq!(
            beginnings("user_123").collect::<Vec<_>>(),
            ["user_123", "user_1", "user", "use", "us", "u"]
        );
        assert_eq!(beginnings("äö").collect::<Vec<_>>(), ["äö", "ä"]);
        assert_eq!(beginnings("").count(), 0);
    }
}
