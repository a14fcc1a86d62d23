//! The schema: its types, what they have, what they refer to, and its versions.

use axum::response::Response;
use maud::{Markup, html};

use super::page::{Page, Place};
use super::view::View;
use super::{drawing, value};
use crate::schema::{EntityType, Field, Schema, Schemas};

/// Bytes of a schema's text that a page shows.
const TEXT_BYTES: usize = 32 << 10;
/// Fields of a type that a page shows.
const FIELDS_MAX: usize = 300;

/// A reference of a field to a type, as pages list it.
pub(super) struct Arrow<'a> {
    pub(super) from: &'a str,
    pub(super) field: String,
    pub(super) to: &'a str,
    pub(super) of_field: &'a str,
    pub(super) relationship: &'a str,
}

fn arrows(schema: &Schema) -> Vec<Arrow<'_>> {
    let mut arrows = Vec::new();
    for from in schema.types() {
        for (field, reference) in schema.get(from).into_iter().flat_map(EntityType::references) {
            arrows.push(Arrow {
                from,
                field,
                to: &reference.entity_type,
                of_field: &reference.field,
                relationship: &reference.relationship,
            });
        }
    }
    arrows
}

/// Where there is none.
pub(crate) fn none(view: &View) -> Response {
    let body = html! {
        section.empty {
            h2 { "No schema: any type is taken" }
            p {
                "A schema says which fields a type has and what they refer to. With one there are typed tables for SQL, and payloads are "
                "checked when they come in. It is a file of Protobuf; each of its messages is a type:"
            }
            pre tabindex="0" {
                code {
                    "syntax = \"proto3\";\n"
                    "package reflog.v1;\n"
                    "message User {\n"
                    "  string name = 1;\n"
                    "  string plan = 2;\n"
                    "}"
                }
            }
            p { "Start the server with " code { "--schema FILE" } ", or send the file while it runs:" }
            pre tabindex="0" { code { "curl -X PUT " (view.server) "/schema --data-binary @custom.proto" } }
        }
    };
    Page::new(Place::Schema, "Schema", body).respond(view)
}

pub(crate) fn page(view: &View, schemas: &Schemas, schema: &Schema) -> Response {
    let arrows = arrows(schema);
    let names: Vec<&str> = schema.types().collect();
    let is_long = schema.text().len() > TEXT_BYTES;
    let shown: String =
        if is_long { schema.text().chars().take(TEXT_BYTES / 4).collect() } else { schema.text().to_owned() };
    let body = html! {
        (versions(view, schemas, schema, &["schema"]))
        table.rows {
            caption { (value::of(names.len() as u64, "type", "types")) }
            thead { tr { th scope="col" { "Type" } th.number scope="col" { "Fields" } th scope="col" { "Refers to" } th scope="col" { "Entities" } } }
            tbody {
                @for name in &names {
                    @let fields = schema.get(name).map_or(0, |of_type| of_type.fields().len());
                    tr data-row {
                        th scope="row" { a href=(of_version(view, schemas, schema, name)) { (name) } }
                        td.number data-label="Fields" { (fields) }
                        td data-label="Refers to" {
                            @for (index, arrow) in arrows.iter().filter(|arrow| arrow.from == *name).enumerate() {
                                @if index > 0 { ", " } (arrow.to)
                            }
                        }
                        td data-label="Entities" { a href=(view.to(&["e", name])) { "list" } }
                    }
                }
            }
        }
        @if !arrows.is_empty() {
            h2 { "Relations" }
            (drawing::of(&names, &arrows))
            (relations(view, schemas, schema, arrows.iter(), "All relations"))
        }
        h2 { "Text" }
        pre tabindex="0" { code { (shown) @if is_long { "\n…" } } }
        @if is_long { p.hint { a href=(view.here().with("format", "json")) { "The whole of it as JSON" } } }
    };
    Page::new(Place::Schema, "Schema", body)
        .headed(html! { "Schema, version " (schema.version()) })
        .respond(view)
}

pub(crate) fn of_type(
    view: &View,
    schemas: &Schemas,
    schema: &Schema,
    name: &str,
    of_type: &EntityType,
) -> Response {
    let fields = of_type.fields();
    let arrows = arrows(schema);
    let near: Vec<&Arrow<'_>> =
        arrows.iter().filter(|arrow| arrow.from == name || arrow.to == name).collect();
    let body = html! {
        (versions(view, schemas, schema, &["schema", name]))
        p { a href=(view.to(&["e", name])) { "The entities of this type" } }
        (table(&fields, of_type))
        @if fields.len() > FIELDS_MAX { p.hint { (value::of((fields.len() - FIELDS_MAX) as u64, "more field", "more fields")) " are not shown." } }
        @if !near.is_empty() {
            h2 { "Relations" }
            (relations(view, schemas, schema, near.into_iter(), "From this type, and to it"))
        }
    };
    let page = Page::new(Place::Schema, name, body).of("Schema");
    page.within(html! { "Schema" }, view.to(&["schema"])).respond(view)
}

fn table(fields: &[Field], of_type: &EntityType) -> Markup {
    let refers = |path: &str| {
        of_type
            .references()
            .find(|(field, _)| field == path)
            .map(|(_, reference)| format!("{}.{}", reference.entity_type, reference.field))
    };
    html! {
        table.rows {
            caption { (value::of(fields.len() as u64, "field", "fields")) }
            thead { tr { th scope="col" { "Field" } th scope="col" { "Holds" } th.number scope="col" { "Number" } th scope="col" { "Refers to" } } }
            tbody {
                @for field in fields.iter().take(FIELDS_MAX) {
                    tr data-row {
                        th scope="row" { bdi.path { (field.path) } }
                        td data-label="Holds" { code { (field.kind) } }
                        td.number data-label="Number" {
                            @for (index, number) in field.numbers.iter().enumerate() { @if index > 0 { "." } (number) }
                        }
                        td data-label="Refers to" { @if let Some(refers) = refers(&field.path) { (refers) } }
                    }
                }
            }
        }
    }
}

fn relations<'a>(
    view: &View,
    schemas: &Schemas,
    schema: &Schema,
    arrows: impl Iterator<Item = &'a Arrow<'a>>,
    caption: &str,
) -> Markup {
    html! {
        table.rows {
            caption { (caption) }
            thead { tr { th scope="col" { "Field" } th scope="col" { "Refers to" } th scope="col" { "How" } } }
            tbody {
                @for arrow in arrows {
                    tr data-row {
                        th scope="row" { a href=(of_version(view, schemas, schema, arrow.from)) { (arrow.from) } "." (arrow.field) }
                        td data-label="Refers to" { a href=(of_version(view, schemas, schema, arrow.to)) { (arrow.to) } "." (arrow.of_field) }
                        td data-label="How" {
                            @if arrow.relationship.is_empty() { span.none { "not said" } } @else { bdi { (arrow.relationship.replace('_', " ")) } }
                        }
                    }
                }
            }
        }
    }
}

/// The page of a type in a version, which need not be said of the newest.
fn of_version(view: &View, schemas: &Schemas, schema: &Schema, name: &str) -> super::link::Url {
    let is_newest = schemas.newest().is_some_and(|newest| newest.version() == schema.version());
    let version = schema.version().to_string();
    view.to(&["schema", name]).with_some("version", (!is_newest).then_some(version.as_str()))
}

/// The versions that have this page, with the one that is shown.
fn versions(view: &View, schemas: &Schemas, shown: &Schema, segments: &[&str]) -> Markup {
    let has = |schema: &Schema| segments.get(1).is_none_or(|name| schema.get(name).is_some());
    html! {
        nav.tabs aria-label="Versions" {
            ul {
                @for schema in schemas.all().iter().rev().filter(|schema| has(schema)) {
                    li {
                        a href=(view.to(segments).with("version", &schema.version().to_string()))
                            aria-current=[(schema.version() == shown.version()).then_some("page")] {
                            "version " (schema.version())
                            @if schemas.newest().is_some_and(|newest| newest.version() == schema.version()) { ", in force" }
                        }
                    }
                }
            }
        }
    }
}
