//! Which columns of a file become which columns of the table: what is mapped on the command line, and the rest by name.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use keplordb::any::Column;
use keplordb_sql::import::{Field, Mapping, TimeFormat};

use crate::table::{self, TIME};

/// A column of the file that becomes one of the table, as it was typed: `price=metric:digits=2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapped {
    source: String,
    target: String,
    field: Field,
}

impl FromStr for Mapped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, rest) = text.split_once('=').filter(|(source, _)| !source.is_empty()).ok_or_else(|| {
            "a mapping is a column of the file, `=` and one of the table, and how it is written: scheduled_utc=ts, \
             price=metric:digits=2,or=0"
                .to_owned()
        })?;
        let (target, how) = rest.split_once(':').unwrap_or((rest, ""));
        if target.is_empty() {
            return Err(format!("{source}= needs the name of a column of the table"));
        }
        if target == "ts" || target == TIME {
            let field = Field::time(source, time_format(how)?);
            return Ok(Self { source: source.to_owned(), target: TIME.to_owned(), field });
        }
        let mut field = Field::new(source, target);
        for option in how.split(',').filter(|option| !option.is_empty()) {
            field = with_option(field, option)?;
        }
        Ok(Self { source: source.to_owned(), target: target.to_owned(), field })
    }
}

/// How a file writes its times.
fn time_format(text: &str) -> Result<TimeFormat, String> {
    Ok(match text {
        "" | "rfc3339" => TimeFormat::Rfc3339,
        "s" => TimeFormat::Seconds,
        "ms" => TimeFormat::Millis,
        "us" => TimeFormat::Micros,
        "ns" => TimeFormat::Nanos,
        pattern if pattern.contains('%') => match pattern.rsplit_once(" in ") {
            Some((pattern, zone)) => TimeFormat::strftime(pattern, zone),
            None => TimeFormat::Strftime { pattern: pattern.to_owned(), zone: None },
        },
        other => {
            return Err(format!(
                "{other:?} is no way to write a time; there are rfc3339, s, ms, us and ns since the Unix epoch, and patterns: \
                 '%d.%m.%Y %H:%M in Europe/Berlin'"
            ));
        }
    })
}

fn with_option(field: Field, option: &str) -> Result<Field, String> {
    let unknown = || {
        format!(
            "{option:?} is no option of a mapping; there are digits=N, times=N, or=N, rounded and optional"
        )
    };
    match option.split_once('=') {
        None if option == "rounded" => Ok(field.rounded()),
        None if option == "optional" => Ok(field.optional()),
        None => Err(unknown()),
        Some((name, number)) => {
            let whole = || {
                number.parse().map_err(|_| format!("{name}= needs a whole number, and {number:?} is none"))
            };
            match name {
                "digits" => {
                    let digits = number.parse().ok().filter(|digits| *digits <= 18);
                    Ok(field.digits(
                        digits
                            .ok_or_else(|| format!("digits= needs a number from 0 to 18, not {number:?}"))?,
                    ))
                }
                "times" => Ok(field.times(whole()?)),
                "or" => Ok(field.or(whole()?)),
                _ => Err(unknown()),
            }
        }
    }
}

/// The whole mapping, and the file's columns that are not in it.
pub(super) struct Plan {
    pub(super) mapping: Mapping,
    pub(super) unused: Vec<String>,
}

/// What is `mapped`, and what the file and the table both call the same but for what is `skipped`. `file` is what messages call the
/// file with these `sources`.
pub(super) fn plan(
    columns: &[Column],
    sources: &[String],
    mapped: &[Mapped],
    skipped: &[String],
    file: &Path,
) -> Result<Plan> {
    let mut mapping = Mapping::new();
    let (mut used, mut targets) = (HashSet::new(), HashSet::new());
    for Mapped { source, target, field } in mapped {
        // A target that there is not is told with those that there are.
        table::column(columns, target)?;
        mapping = mapping.field(field.clone());
        used.insert(source.as_str());
        targets.insert(target.as_str());
    }
    used.extend(skipped.iter().map(String::as_str));
    if !targets.contains(TIME) {
        let is_free = |name: &str| !used.contains(name) && sources.iter().any(|source| source == name);
        mapping = match (is_free(TIME), is_free("ts")) {
            (true, _) => {
                used.insert(TIME);
                // Beside it `ts` says the same less exactly, unless it is a column of the table's own.
                if !columns.iter().any(|column| column.name == "ts") {
                    used.insert("ts");
                }
                mapping.time(TIME, TimeFormat::Nanos)
            }
            (false, true) => {
                used.insert("ts");
                mapping.time("ts", TimeFormat::Rfc3339)
            }
            (false, false) => {
                ensure!(!sources.is_empty(), "{} has no columns, and so no times", file.display());
                bail!(
                    "which column of {} has the times? say so, and how it writes them, by --map NAME=ts; there are {}",
                    file.display(),
                    sources.join(", ")
                )
            }
        };
    }
    for Column { name, .. } in columns {
        if name != TIME
            && name != "sequence"
            && !used.contains(name.as_str())
            && !targets.contains(name.as_str())
        {
            mapping = mapping.field(Field::new(name, name).optional());
            used.insert(name);
        }
    }
    // The engine gives sequences itself.
    used.insert("sequence");
    let is_path = |source: &str| {
        let outer =
            |used: &&str| used.strip_prefix('/').and_then(|path| path.split('/').next()) == Some(source);
        used.iter().any(outer)
    };
    let unused = sources.iter().filter(|source| !used.contains(source.as_str()) && !is_path(source));
    let unused = unused.cloned().collect();
    Ok(Plan { mapping, unused })
}

#[cfg(test)]
mod tests {
    use keplordb::TableSchema;
    use keplordb::any::AnyStore;

    use super::*;

    /// The fields of a mapping as text.
    fn fields(mapping: &Mapping) -> Vec<String> {
        mapping.fields().iter().map(ToString::to_string).collect()
    }

    fn field(text: &str) -> String {
        text.parse::<Mapped>().unwrap().field.to_string()
    }

    #[test]
    fn a_mapping_says_how_a_column_is_written() {
        let cases = [
            ("flight=number", r#""flight" to "number""#),
            ("scheduled_utc=ts", r#""scheduled_utc" to "ts_ns", time in RFC 3339"#),
            ("at=ts_ns:ns", r#""at" to "ts_ns", time in ns"#),
            ("at=ts:s", r#""at" to "ts_ns", time in s"#),
            ("at=ts:%d.%m. %H:%M in UTC", r#""at" to "ts_ns", time "%d.%m. %H:%M" in "UTC""#),
            ("at=ts:%F %T %z", r#""at" to "ts_ns", time "%F %T %z""#),
            (
                "air_time_min=latency_ms:times=60000,or=0",
                r#""air_time_min" to "latency_ms", times 60000, or 0"#,
            ),
            ("price=metric:digits=2,rounded,optional", r#""price" to "metric", digits 2, rounded, optional"#),
            ("/usage/tokens=tokens", r#""/usage/tokens" to "tokens""#),
        ];
        for (text, right) in cases {
            assert_eq!(field(text), right, "{text}");
        }
        let refused = |text: &str| text.parse::<Mapped>().unwrap_err();
        assert!(refused("flight").starts_with("a mapping is a column of the file"));
        assert!(refused("=ts").starts_with("a mapping is a column of the file"));
        assert_eq!(refused("flight=:or=0"), "flight= needs the name of a column of the table");
        assert!(refused("at=ts:iso").starts_with("\"iso\" is no way to write a time"));
        assert!(refused("a=b:digit=2").starts_with("\"digit=2\" is no option"));
        assert_eq!(refused("a=b:digits=19"), "digits= needs a number from 0 to 18, not \"19\"");
        assert_eq!(refused("a=b:or=x"), "or= needs a whole number, and \"x\" is none");
    }

    #[test]
    fn what_is_not_mapped_is_taken_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens");
        let store = AnyStore::open_or_create(dir.path().join("calls"), schema).unwrap();
        let plan = |sources: &[&str], mapped: &[&str], skipped: &[&str]| {
            let mapped: Vec<Mapped> = mapped.iter().map(|text| text.parse().unwrap()).collect();
            let [sources, skipped] =
                [sources, skipped].map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            let plan = super::plan(store.columns(), &sources, &mapped, &skipped, Path::new("a.csv"));
            plan.map(|plan| (fields(&plan.mapping), plan.unused)).map_err(|error| error.to_string())
        };
        let built_in = ["id", "metric", "latency_ms", "latency_detail_ms", "status", "flags"];
        let by_name = |name: &str| format!("{name:?} to {name:?}, optional");

        let (fields, unused) = plan(&["ts", "ts_ns", "user", "sequence", "x"], &[], &[]).unwrap();
        assert_eq!(fields[0], r#""ts_ns" to "ts_ns", time in ns"#);
        let rest: Vec<_> = built_in.into_iter().chain(["user", "model", "tokens"]).map(by_name).collect();
        assert_eq!(fields[1..], rest);
        assert_eq!(unused, ["x"]);

        let (fields, unused) =
            plan(&["ts", "who", "user", "status"], &["who=user", "/usage/n=tokens"], &["status"]).unwrap();
        assert_eq!(fields[..2], [r#""who" to "user""#, r#""/usage/n" to "tokens""#]);
        assert_eq!(fields[2], r#""ts" to "ts_ns", time in RFC 3339"#);
        let rest: Vec<_> =
            built_in.into_iter().filter(|name| *name != "status").chain(["model"]).map(by_name).collect();
        assert_eq!(fields[3..], rest);
        assert_eq!(unused, ["user"], "another column became it");
        assert_eq!(plan(&["ts", "usage"], &["/usage/n=tokens"], &[]).unwrap().1, Vec::<String>::new());

        let refused = plan(&["at", "user"], &[], &[]).unwrap_err();
        assert_eq!(
            refused,
            "which column of a.csv has the times? say so, and how it writes them, by --map NAME=ts; there are at, user"
        );
        assert!(
            plan(&["ts"], &["a=usr"], &[])
                .unwrap_err()
                .starts_with("there is no column \"usr\"; there are ts, id,")
        );
    }
}
