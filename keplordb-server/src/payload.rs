//! Payloads as the log keeps them: JSON objects whose keys are the fields that an event sets.
//!
//! A key that is there was set, also to 0, to an empty text or to `false`; `null` removes a field; one that is not there stays as it
//! was ([RFC 7396](https://www.rfc-editor.org/rfc/rfc7396)). Protobuf without presence cannot say all of that: a field whose value is
//! its default looks like one that was not set, and counts as set only where the update mask names it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    SerializeOptions, Value as Kept,
};
use serde_json::{Map, Value};

use crate::error::{Refused, Result};
use crate::name::shown;
use crate::schema::EntityType;

/// Most levels of objects and lists in a payload.
const MAX_DEPTH: usize = 64;
/// Longest payload as it is kept, in bytes: protobuf gets longer as JSON.
const MAX_KEPT_BYTES: usize = 12 << 20;

/// How a record's payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentType {
    /// Protobuf where a schema knows the type; else JSON if it is a JSON object, and bytes otherwise.
    #[default]
    Unspecified,
    /// The protobuf encoding of the type's message.
    Protobuf,
    /// A JSON object.
    Json,
}

/// A payload as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// The text of a JSON object.
    Json(String),
    /// Bytes that nothing is known of, in base64: they change no state.
    Opaque(String),
}

/// Makes a payload what the log keeps of it. Without a type any is taken.
pub(crate) fn read(
    entity: Option<&EntityType>,
    content: ContentType,
    payload: &[u8],
    mask: &[String],
) -> Result<Payload> {
    let Some(entity) = entity else { return read_untyped(content, payload, mask) };
    let object = match content {
        ContentType::Json if !mask.is_empty() => {
            return Err(Refused::invalid(
                "update_mask",
                "it is for protobuf; `null` in JSON removes a field",
            ));
        }
        ContentType::Json => of_json(entity.message(), &json_of(payload)?)?,
        ContentType::Protobuf | ContentType::Unspecified => of_protobuf(entity.message(), payload, mask)?,
    };
    kept(object)
}

/// An object as it is kept. One that is nested deeper could not be read again.
fn kept(object: Map<String, Value>) -> Result<Payload> {
    let object = Value::Object(object);
    if is_deeper(&object, MAX_DEPTH) {
        return Err(Refused::invalid("payload", format!("it is nested deeper than {MAX_DEPTH} levels")));
    }
    let text = object.to_string();
    if text.len() > MAX_KEPT_BYTES {
        let what = format!("it has {} bytes as JSON, at most {MAX_KEPT_BYTES} are possible", text.len());
        return Err(Refused::invalid("payload", what));
    }
    Ok(Payload::Json(text))
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(inner) => levels == 0 || inner.values().any(|inner| is_deeper(inner, levels - 1)),
        Value::Array(inner) => levels == 0 || inner.iter().any(|inner| is_deeper(inner, levels - 1)),
        _ => false,
    }
}

fn read_untyped(content: ContentType, payload: &[u8], mask: &[String]) -> Result<Payload> {
    if !mask.is_empty() {
        return Err(Refused::invalid("update_mask", "it needs a schema; `null` in JSON removes a field"));
    }
    match content {
        ContentType::Json => kept(json_of(payload)?),
        ContentType::Unspecified => match json_of(payload) {
            Ok(object) => kept(object),
            Err(_) => Ok(Payload::Opaque(BASE64_STANDARD.encode(payload))),
        },
        ContentType::Protobuf => Ok(Payload::Opaque(BASE64_STANDARD.encode(payload))),
    }
}

/// An empty payload sets nothing.
fn json_of(payload: &[u8]) -> Result<Map<String, Value>> {
    if payload.is_empty() {
        return Ok(Map::new());
    }
    let refused = |what: String| Refused::invalid("payload", what);
    match serde_json::from_slice(payload) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(refused("it is no JSON object".to_owned())),
        Err(error) => Err(refused(format!("it is no JSON: {error}"))),
    }
}

const KEPT: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

fn of_protobuf(message: &MessageDescriptor, payload: &[u8], mask: &[String]) -> Result<Map<String, Value>> {
    let decoded = DynamicMessage::decode(message.clone(), payload)
        .map_err(|error| Refused::invalid("payload", format!("it is no {}: {error}", message.name())))?;
    check_known(&decoded)?;
    let mut set = object_of(&decoded, &KEPT)?;
    end_others(message, &mut set);
    if mask.is_empty() {
        return Ok(set);
    }
    let all = object_of(&decoded, &KEPT.clone().skip_default_fields(false))?;
    for path in mask {
        put_masked(message, path, &all, &mut set).ok_or_else(|| {
            Refused::invalid("update_mask", format!("{} has no field {}", message.name(), shown(path)))
        })?;
    }
    Ok(set)
}

/// Refuses what the schema does not know: it would be lost.
fn check_known(message: &DynamicMessage) -> Result<()> {
    if let Some(unknown) = message.unknown_fields().next() {
        let what = format!(
            "{} has no field with number {}; push the schema first that the client has",
            message.descriptor().name(),
            unknown.number()
        );
        return Err(Refused::invalid("payload", what));
    }
    for (_, value) in message.fields() {
        match value {
            Kept::Message(inner) => check_known(inner)?,
            Kept::List(list) => {
                list.iter().filter_map(Kept::as_message).try_for_each(check_known)?;
            }
            Kept::Map(map) => {
                map.values().filter_map(Kept::as_message).try_for_each(check_known)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of a `oneof` one field is set: the others end with it, also those that an earlier event has set.
fn end_others(message: &MessageDescriptor, set: &mut Map<String, Value>) {
    for group in message.oneofs().filter(|group| !group.is_synthetic()) {
        if group.fields().any(|field| set.get(field.name()).is_some_and(|value| !value.is_null())) {
            for field in group.fields() {
                set.entry(field.name()).or_insert(Value::Null);
            }
        }
    }
    for field in message.fields() {
        if let (Some(inner), Some(Value::Object(within))) = (nested(&field), set.get_mut(field.name())) {
            end_others(&inner, within);
        }
    }
}

/// Sets what a path of the mask names: to its value where the payload has one or a default is one, and to `null` otherwise. `None`
/// where there is no such field.
fn put_masked(
    message: &MessageDescriptor,
    path: &str,
    all: &Map<String, Value>,
    set: &mut Map<String, Value>,
) -> Option<()> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = message.get_field_by_name(name)?;
    let value = all.get(name).cloned().unwrap_or(Value::Null);
    let Some(rest) = rest else {
        set.insert(name.to_owned(), value);
        return Some(());
    };
    let Kind::Message(inner) = field.kind() else { return None };
    if field.is_list() || field.is_map() {
        return None;
    }
    let empty = Map::new();
    let all = value.as_object().unwrap_or(&empty);
    let within = set.entry(name).or_insert_with(|| Value::Object(Map::new()));
    put_masked(&inner, rest, all, within.as_object_mut()?)
}

/// Of JSON, keys by either of a field's names; those that are there are set. Unknown ones are refused: they would be lost.
fn of_json(message: &MessageDescriptor, given: &Map<String, Value>) -> Result<Map<String, Value>> {
    let refused = |what: String| Refused::invalid("payload", what);
    let sound = Value::Object(without_nulls(given));
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let decoded = DynamicMessage::deserialize_with_options(message.clone(), sound, &options)
        .map_err(|error| refused(format!("it is no {}: {error}", message.name())))?;
    let all = object_of(&decoded, &KEPT.clone().skip_default_fields(false))?;
    let mut set = pick(message, given, &all).map_err(refused)?;
    end_others(message, &mut set);
    Ok(set)
}

/// Of all fields those that were given, under their names in the schema.
fn pick(
    message: &MessageDescriptor,
    given: &Map<String, Value>,
    all: &Map<String, Value>,
) -> std::result::Result<Map<String, Value>, String> {
    let mut picked = Map::new();
    for (key, value) in given {
        let field = message
            .get_field_by_name(key)
            .or_else(|| message.get_field_by_json_name(key))
            .ok_or_else(|| format!("{} has no field {}", message.name(), shown(key)))?;
        let found = all.get(field.name());
        let value = match (value, found, nested(&field)) {
            (Value::Null, ..) | (_, None, _) => Value::Null,
            (Value::Object(given), Some(Value::Object(all)), Some(inner)) => {
                Value::Object(pick(&inner, given, all)?)
            }
            (_, Some(found), _) => found.clone(),
        };
        picked.insert(field.name().to_owned(), value);
    }
    Ok(picked)
}

/// The message of a field that holds one of the schema's own: what merges key by key.
fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(inner)
            if !field.is_list() && !field.is_map() && !inner.full_name().starts_with("google.protobuf.") =>
        {
            Some(inner)
        }
        _ => None,
    }
}

/// `null` in JSON of protobuf is a field that is not set, also within lists, where it would be refused.
fn without_nulls(object: &Map<String, Value>) -> Map<String, Value> {
    let kept = object.iter().filter(|(_, value)| !value.is_null());
    kept.map(|(key, value)| match value {
        Value::Object(inner) => (key.clone(), Value::Object(without_nulls(inner))),
        other => (key.clone(), other.clone()),
    })
    .collect()
}

fn object_of(message: &DynamicMessage, options: &SerializeOptions) -> Result<Map<String, Value>> {
    match message.serialize_with_options(serde_json::value::Serializer, options) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refused::invalid("payload", "its type is written otherwise than as a JSON object")),
        Err(error) => Err(Refused::invalid("payload", format!("it cannot be written as JSON: {error}"))),
    }
}
/// What an object takes in memory, about: its keys and values, and the nodes that hold them.
#[cfg(feature = "sql")]
pub(crate) fn held_bytes(object: &Map<String, Value>) -> usize {
    /// Of a B-tree, with eleven places for a key and a value each, of which six are used at least but for the last node.
    const NODE_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
    const NODE_KEYS: usize = 6;
    fn of_value(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(values) => {
                values.capacity() * size_of::<Value>() + values.iter().map(of_value).sum::<usize>()
            }
            Value::Object(object) => held_bytes(object),
        }
    }
    object.len().div_ceil(NODE_KEYS) * NODE_BYTES
        + object.iter().map(|(key, value)| key.capacity() + of_value(value)).sum::<usize>()
}
