//! Rows of JSON Lines: an object a line, its values by key or by path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::de::IgnoredAny;

use super::error::{At, ImportError};
use super::mapping::{Binding, Cell, Row};
use super::object::{Fault, text, values};
use super::reading::{Context, Outcome, Place, Reading};
use super::rejects::Rejection;
use super::rows::{Raw, Rows};
use super::source::Input;

/// A file of JSON Lines that is being read.
pub(super) struct JsonReading {
    rows: Rows<Input>,
    /// The keys of the outermost object that are asked for; none twice.
    keys: Vec<String>,
    /// Where the value of each field of the binding is.
    fields: Vec<Field>,
}

struct Field {
    /// Its place among the keys.
    key: usize,
    /// The keys of the objects within, outermost first.
    path: Vec<String>,
    is_optional: bool,
}

impl JsonReading {
    /// Reads on from a place; without one, from the first row.
    pub(super) fn open(path: &Path, binding: &Binding, place: Option<Place>) -> Result<Self, ImportError> {
        let mut keys: Vec<String> = Vec::new();
        let fields = binding.sources().map(|(source, is_optional)| {
            let mut steps: Vec<String> = match source.strip_prefix('/') {
                // As RFC 6901 has it.
                Some(path) => {
                    path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
                }
                None => vec![source.to_owned()],
            };
            let outer = steps.remove(0);
            let key = keys.iter().position(|key| *key == outer).unwrap_or_else(|| {
                keys.push(outer);
                keys.len() - 1
            });
            Field { key, path: steps, is_optional }
        });
        let fields = fields.collect();
        let Place { offset, line } = place.unwrap_or(Place { offset: 0, line: 1 });
        let rows = Rows::new(Input::open(path, offset)?, None, offset, line);
        Ok(Self { rows, keys, fields })
    }

    fn outcome(
        &self,
        raw: &Raw,
        context: &Context<'_>,
        row: &mut Row,
    ) -> Result<Option<Outcome>, ImportError> {
        let text = self.rows.text(raw).trim_ascii();
        let text =
            if raw.line == 1 { text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text) } else { text };
        if text.is_empty() {
            return Ok(None);
        }
        if raw.line == 1 && text[0] == b'[' {
            return Err(ImportError::Format {
                file: context.path.to_owned(),
                found: "one JSON array".to_owned(),
                remedy: "JSON Lines have an object on each line: `jq -c '.[]'` makes them of an array",
            });
        }
        let reject = |column: &str, reason: String| {
            Ok(Some(Outcome::Rejected(Rejection::new(raw.line, column, reason, text))))
        };
        if let Some(fault) = raw.fault {
            return reject("", fault.to_owned());
        }
        let json = match std::str::from_utf8(text) {
            Ok(json) => json,
            Err(error) => {
                return reject("", format!("byte {} of the row is not UTF-8", error.valid_up_to() + 1));
            }
        };
        let values = match values(json, &self.keys) {
            Ok(values) => values,
            Err(Fault { what, at }) => {
                return reject("", format!("the line is no JSON object: {what}, at byte {}", at + 1));
            }
        };
        let cell = |field: usize| self.fields[field].cell(values[self.fields[field].key]);
        Ok(Some(match context.fill(row, raw.line, cell) {
            Ok(()) => Outcome::Taken,
            Err((column, reason)) => return reject(column, reason),
        }))
    }
}

impl Reading for JsonReading {
    fn place(&self) -> Place {
        let (offset, line) = self.rows.place();
        Place { offset, line }
    }

    fn file_bytes(&self) -> u64 {
        self.rows.input().file_bytes()
    }

    fn next(&mut self, context: &Context<'_>, row: &mut Row) -> Result<Option<Outcome>, ImportError> {
        while let Some(raw) = self.rows.next().at("reading", context.path)? {
            if let Some(outcome) = self.outcome(&raw, context, row)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }
}

impl Field {
    /// What a row has here, by the value of the outermost key.
    fn cell<'a>(&self, value: Option<&'a str>) -> Cell<'a> {
        let mut value = value;
        for step in &self.path {
            let Some(outer) = value.filter(|outer| *outer != "null") else {
                value = None;
                break;
            };
            value = match values(outer, std::slice::from_ref(step)) {
                Ok(inner) => inner[0],
                Err(_) => {
                    return Cell::Refused(format!("there is no object that could have the key {step:?}"));
                }
            };
        }
        match value {
            Some("null") => Cell::Missing,
            Some(json) if json.starts_with('"') => text(json).map_or_else(
                || Cell::Refused("has an escape that is half a character".to_owned()),
                Cell::Text,
            ),
            // Everything but texts as it is written.
            Some(json) => Cell::Text(Cow::Borrowed(json)),
            None if self.is_optional => Cell::Missing,
            None => Cell::Refused("the object has no such key".to_owned()),
        }
    }
}

/// The keys of a file's first line that is an object, in no order.
#[expect(clippy::zero_sized_map_values, reason = "of an object only the keys are read")]
pub(super) fn keys(path: &Path) -> Result<Vec<String>, ImportError> {
    let mut rows = Rows::new(Input::open(path, 0)?, None, 0, 1);
    while let Some(raw) = rows.next().at("reading", path)? {
        let text = rows.text(&raw).trim_ascii();
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        if let Ok(object) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(text) {
            return Ok(object.into_keys().collect());
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(json: &str, source: &str, is_optional: bool) -> Result<Option<String>, String> {
        let mut path: Vec<String> = source.split('/').map(str::to_owned).collect();
        let keys = [path.remove(0)];
        let values = values(json, &keys).unwrap();
        match (Field { key: 0, path, is_optional }).cell(values[0]) {
            Cell::Missing => Ok(None),
            Cell::Text(text) => Ok(Some(text.into_owned())),
            Cell::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_are_found_by_key_and_by_path() {
        let json = r#"{"a": "x\ny \u00e9", "b": 12.50, "c": {"d": {"e": true}, "f": null}, "g": [1, {}], "b": 1e2, "\u0068": "", "i": "\ud800"}"#;
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(cell(json, "a", false), some("x\ny é"));
        assert_eq!(cell(json, "b", false), some("1e2"));
        assert_eq!(cell(json, "c/d/e", false), some("true"));
        assert_eq!(cell(json, "c/d", false), some(r#"{"e": true}"#));
        assert_eq!(cell(json, "g", false), some("[1, {}]"));
        assert_eq!(cell(json, "h", false), some(""));
        assert_eq!(cell(json, "c/f", false), Ok(None));
        assert_eq!(cell(json, "c/f/x", true), Ok(None));
        assert_eq!(cell(json, "x", true), Ok(None));
        let lacking = Err("the object has no such key".to_owned());
        assert_eq!(cell(json, "x", false), lacking);
        assert_eq!(cell(json, "c/x", false), lacking);
        assert_eq!(cell(json, "c/f/x", false), lacking);
        assert_eq!(
            cell(json, "b/x", true),
            Err("there is no object that could have the key \"x\"".to_owned())
        );
        assert_eq!(cell(json, "i", true), Err("has an escape that is half a character".to_owned()));
    }
}
