//! The tables of a session: directories by name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use keplordb::any::AnyReader;
use keplordb_sql::schema::arrow_schema;
use keplordb_sql::{KeplorTable, Session};

use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};
use crate::table;

/// Where a table is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) dir: PathBuf,
}

impl Place {
    /// Of `NAME=DIR`, or of a directory, which gives the table its name. A directory that is there is meant also where there is a `=`
    /// in its name.
    pub(super) fn of(argument: &OsStr) -> Self {
        if !Path::new(argument).exists()
            && let Some((name, dir)) = argument.to_str().and_then(|text| text.split_once('='))
            && !name.is_empty()
            && !name.contains('/')
        {
            return Self { name: name.to_owned(), dir: dir.into() };
        }
        let dir = PathBuf::from(argument);
        // Of `.` and `..` too.
        let known = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        Self { name: name_of(&known.file_stem().unwrap_or_default().to_string_lossy()), dir }
    }
}

/// A name that needs no quotes: `My Calls-2` becomes `my_calls_2`.
fn name_of(stem: &str) -> String {
    let letters = stem.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '_') => letter,
        _ => '_',
    });
    let name: String = letters.collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// A name as it must be written in a statement.
pub(super) fn written(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether the parser takes a name without quotes for nothing but this name, as a column and as a table.
fn is_plain(name: &str) -> bool {
    if name.contains(char::is_uppercase) {
        return false;
    }
    let parsed =
        Parser::parse_sql(&GenericDialect {}, &format!("SELECT {name} FROM {name} WHERE {name} = 1"));
    let Ok([Statement::Query(query)]) = parsed.as_deref() else { return false };
    let SetExpr::Select(select) = &*query.body else { return false };
    matches!(&select.projection[..], [SelectItem::UnnamedExpr(Expr::Identifier(ident))] if ident.value == name && ident.quote_style.is_none())
        && matches!(&select.from[..], [from] if from.joins.is_empty() && from.relation.to_string() == name)
}

/// A table of the session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) place: Place,
    reader: AnyReader,
    pub(super) columns: SchemaRef,
}

/// Opens tables, and gives them to a session.
pub(super) fn open(places: Vec<Place>, session: &Session) -> Result<Vec<Known>> {
    let mut known: Vec<Known> = Vec::with_capacity(places.len());
    for place in places {
        if known.iter().any(|other| other.place.name == place.name) {
            bail!(
                "two tables would be called {}; name one of them by NAME={}",
                place.name,
                place.dir.display()
            );
        }
        let reader = table::reader(&place.dir)?;
        session.register(place.name.clone(), KeplorTable::from(reader.clone()));
        let columns = arrow_schema(reader.columns());
        known.push(Known { place, reader, columns });
    }
    Ok(known)
}

/// Prints what tables there are.
pub(super) fn list(tables: &[Known], form: Form, out: &mut Output) -> Result<()> {
    let headings = vec![Heading::left("table"), Heading::right("events"), Heading::left("directory")];
    let mut sheet = Sheet::new(out, form, headings);
    for Known { place, reader, .. } in tables {
        reader.refresh()?;
        let events = Cell::Number(reader.snapshot().live_rows().into());
        sheet.row(&[
            Cell::Text(written(&place.name)),
            events,
            Cell::Text(place.dir.display().to_string()),
        ])?;
    }
    sheet.finish()
}

/// Prints the columns of a table, as they are written in a statement.
pub(super) fn describe(tables: &[Known], name: &str, form: Form, out: &mut Output) -> Result<()> {
    let name = name.trim_end_matches(';');
    let Some(table) =
        tables.iter().find(|table| table.place.name == name || written(&table.place.name) == name)
    else {
        let names: Vec<String> = tables.iter().map(|table| written(&table.place.name)).collect();
        bail!("there is no table {name:?}; there are {}", names.join(", "))
    };
    let mut sheet = Sheet::new(out, form, vec![Heading::left("column"), Heading::left("type")]);
    for field in table.columns.fields() {
        let kind = match field.data_type() {
            DataType::Int32 => "INTEGER",
            DataType::Int64 => "BIGINT",
            DataType::Timestamp(..) => "TIMESTAMP",
            _ => "TEXT",
        };
        sheet.row(&[Cell::Text(written(field.name())), Cell::Text(kind.to_owned())])?;
    }
    sheet.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_called_as_its_directory_or_as_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, odd) = (dir.path().join("My Calls-2.db"), dir.path().join("x=2013"));
        for dir in [&plain, &odd] {
            std::fs::create_dir(dir).unwrap();
        }
        assert_eq!(Place::of(plain.as_os_str()), Place { name: "my_calls_2".to_owned(), dir: plain.clone() });
        assert_eq!(Place::of(plain.join("../x=2013").as_os_str()).name, "x_2013");
        let named = format!("Calls={}", plain.display());
        assert_eq!(Place::of(named.as_ref()), Place { name: "Calls".to_owned(), dir: plain });
        assert_eq!(name_of("2013"), "_2013");
    }

    #[test]
    fn names_have_quotes_where_they_need_them() {
        for plain in ["carrier", "ts", "ts_ns", "_2013", "arr_delay_min", "status", "naïve"] {
            assert_eq!(written(plain), plain);
        }
        for (name, right) in [
            ("user", "\"user\""),
            ("select", "\"select\""),
            ("Carrier", "\"Carrier\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("2013", "\"2013\""),
            ("a--b", "\"a--b\""),
            ("a.b", "\"a.b\""),
            ("", "\"\""),
            ("true", "\"true\""),
            ("case", "\"case\""),
        ] {
            assert_eq!(written(name), right);
        }
    }
}
