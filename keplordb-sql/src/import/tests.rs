//! Imports as a whole: what comes in equals what was written, malformed rows are reported where they stand, and an import that is
//! stopped at any step, and again, loses and doubles nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampSecondArray};
use keplordb::any::{AnyRow, AnyStore};
use keplordb::{EngineConfig, MAX_KEY_BYTES, MAX_LABEL_BYTES, Options, Sync, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::file::writer::SerializedFileWriter;
use tempfile::TempDir;

use super::columnar::ParquetReading;
use super::mapping::{Binding, Row};
use super::reading::{Context, Outcome, Reading as _};

use super::*;

fn schema() -> TableSchema {
    TableSchema::new(1).dim("user").counter("tokens").label("note")
}

fn open(dir: &TempDir) -> AnyStore {
    AnyStore::open_or_create(dir.path().join("calls"), schema()).unwrap()
}

fn mapping() -> Mapping {
    Mapping::new()
        .time("at", TimeFormat::Seconds)
        .column("user", "user")
        .column("tokens", "tokens")
        .column("note", "note")
        .field(Field::new("price", "metric").digits(2).or(-1))
        .column("status", "status")
}

const HEADER: &str = "at,user,tokens,note,price,status,unused\n";

fn write(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Rows without their sequences.
fn rows(store: &AnyStore) -> Vec<Vec<String>> {
    let values = |row: AnyRow| {
        let named = row.iter().filter(|(column, _)| column.name != "sequence");
        named.map(|(_, value)| value.to_string()).collect()
    };
    store.query().oldest_first().rows().unwrap().into_iter().map(values).collect()
}

#[test]
fn rows_of_csv_and_of_json_lines_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let csv = "at,user,tokens,note,price,status,unused\r\n\
               1.5,alice,7,\"say \"\"no\"\",\r\nor yes\",12.5,200,x\r\n\
               2,,0,,,404,\"\"\r\n";
    let json = r#"{"at": 1.5, "user": "alice", "tokens": 7, "note": "say \"no\",\r\nor yes", "price": 12.50, "status": 200}
                  {"at": "2", "user": null, "tokens": 0, "note": "", "price": null, "status": "404", "x": [{}]}"#;
    let mut found = Vec::new();
    for (name, text) in [("a.csv", csv.as_bytes()), ("a.jsonl", json.as_bytes())] {
        for is_packed in [false, true] {
            let dir = tempfile::tempdir_in(dir.path()).unwrap();
            let store = open(&dir);
            let text = if is_packed { zstd::encode_all(text, 3).unwrap() } else { text.to_vec() };
            let source = write(&dir, name, text);
            let import = match name {
                "a.csv" => Import::csv(&store, source, mapping()),
                _ => Import::json_lines(&store, source, mapping()),
            };
            let imported = import.run().unwrap();
            assert_eq!((imported.rows, imported.rows_before, imported.rejected), (2, 0, 0));
            assert!(!imported.rejects.exists());
            let mut rows = rows(&store);
            for row in &mut rows {
                assert!(row[1].len() > 17, "an id is made: {}", row[1]);
                row[1].clear();
            }
            found.push(rows);
        }
    }
    let wanted = [
        ["1500000000", "", "1250", "0", "0", "200", "0", "alice", "7", "say \"no\",\r\nor yes"],
        ["2000000000", "", "-1", "0", "0", "404", "0", "", "0", ""],
    ];
    for rows in found {
        assert_eq!(rows, wanted);
    }
}

/// (line, column, beginning of the reason, text) of each row of the side file.
fn rejected(path: &Path) -> Vec<(u64, String, String, String)> {
    let mut reader = ::csv::Reader::from_path(path).unwrap();
    assert_eq!(reader.headers().unwrap(), vec!["line", "column", "reason", "text"]);
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn malformed_rows_of_csv_are_reported_each_with_its_place_and_reason() {
    let cases: &[(&[u8], &str, &str)] = &[
        (b"1,a,1,n,1,200", "", "the row has 6 fields instead of 7"),
        (b"1,a,1,n,1,200,,", "", "the row has 8 fields instead of 7"),
        (b"x,a,1,n,1,200,", "at", "\"x\" is not a number"),
        (b",a,1,n,1,200,", "at", "is empty, a time is needed"),
        (b"1e18,a,1,n,1,200,", "at", "\"1e18\" does not fit a number of 64 bits"),
        (b"1,a,many,n,1,200,", "tokens", "\"many\" is not a number"),
        (b"1,a,,n,1,200,", "tokens", "is empty, a number is needed"),
        (
            b"1,a,-1,n,1,200,",
            "tokens",
            "tokens is not legal: the column holds numbers from 0 to 4294967295, not the number -1",
        ),
        (b"1,a,4294967296,n,1,200,", "tokens", "tokens is not legal"),
        (b"1,a,1.5,n,1,200,", "tokens", "\"1.5\" has more decimals than are kept"),
        (b"1,a,1,n,1.001,200,", "price", "\"1.001\" has more decimals than are kept"),
        (b"1,a,1,n,1,70000,", "status", "status is not legal: the column holds numbers from 0 to 65535"),
        (b"1,a\xff,1,n,1,200,", "user", "byte 4 of the row is not UTF-8"),
        (b"\"1\"x,a,1,n,1,200,", "", "there is text between a closing quote and the end of its field"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut text = HEADER.as_bytes().to_vec();
    for (row, ..) in cases {
        text.extend_from_slice(row);
        text.extend_from_slice(b"\n3,\"sound\n\",1,n,1,200,\n");
    }
    text.extend_from_slice(b"4,\"never closed,1\n5,after,1,n,1,200,");
    let source = write(&dir, "a.csv", &text);
    let imported = Import::csv(&store, &source, mapping()).run().unwrap();
    assert_eq!((imported.rows, imported.rejected), (cases.len() as u64 + 1, cases.len() as u64 + 1));
    let beside_the_journal = format!("{}.rejects.csv", imported.journal.display());
    assert_eq!(imported.rejects, Path::new(&beside_the_journal));
    let rejected = rejected(&imported.rejects);
    for ((text, column, reason), (place, found)) in cases.iter().zip(rejected.iter().enumerate()) {
        assert_eq!((found.0, found.1.as_str()), (2 + 3 * place as u64, *column), "{found:?}");
        assert!(found.2.starts_with(reason), "{found:?}");
        assert_eq!(found.3, String::from_utf8_lossy(text));
    }
    let last = rejected.last().unwrap();
    assert_eq!((last.2.as_str(), last.3.as_str()), ("a quote is not closed", "4,\"never closed,1"));
    assert_eq!(rows(&store).last().unwrap()[7], "after");
}

#[test]
fn malformed_rows_of_json_lines_are_reported_each_with_its_place_and_reason() {
    let cases = [
        ("{\"at\": 1", "", "the line is no JSON object: a comma or the object's end is missing, at byte 9"),
        ("[1, 2]", "", "the line is no JSON object: there is no object, at byte 1"),
        (
            "{\"at\": 1} {\"at\": 2}",
            "",
            "the line is no JSON object: there is more behind the object, at byte 11",
        ),
        ("{\"at\": true, \"usage\": {\"tokens\": 1}}", "at", "\"true\" is not a number"),
        ("{\"usage\": {\"tokens\": 1}}", "at", "the object has no such key"),
        ("{\"at\": null, \"usage\": {\"tokens\": 1}}", "at", "is empty, a time is needed"),
        ("{\"at\": 1}", "/usage/tokens", "the object has no such key"),
        (
            "{\"at\": 1, \"usage\": 5}",
            "/usage/tokens",
            "there is no object that could have the key \"tokens\"",
        ),
        ("{\"at\": 1, \"usage\": {\"tokens\": {}}}", "/usage/tokens", "\"{}\" is not a number"),
        (
            "{\"at\": 1, \"usage\": {\"tokens\": 1}, \"user\": \"\\ud800\"}",
            "user",
            "has an escape that is half a character",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let sound = "\n{\"at\": 2, \"usage\": {\"tokens\": 3}}\n";
    let text: String = cases.iter().flat_map(|(line, ..)| [line, sound]).collect();
    let mapping = Mapping::new()
        .time("at", TimeFormat::Seconds)
        .column("/usage/tokens", "tokens")
        .field(Field::new("user", "user").optional());
    let source = write(&dir, "a.jsonl", text);
    let imported = Import::json_lines(&store, &source, mapping.clone()).run().unwrap();
    assert_eq!((imported.rows, imported.rejected), (cases.len() as u64, cases.len() as u64));
    for ((text, column, reason), (place, found)) in
        cases.iter().zip(rejected(&imported.rejects).iter().enumerate())
    {
        assert_eq!((found.0, found.1.as_str(), found.3.as_str()), (1 + 2 * place as u64, *column, *text));
        assert!(found.2.starts_with(reason), "{found:?}");
    }
    let array = write(&dir, "b.json", "[\n{\"at\": 1}\n]");
    let refused = Import::json_lines(&store, &array, mapping).run().unwrap_err().to_string();
    assert!(
        refused.contains("b.json is one JSON array; JSON Lines have an object on each line"),
        "{refused}"
    );
}

/// What a table refuses of a batch as a whole is refused row by row before.
#[test]
fn rows_beyond_the_limits_of_a_table_are_reported_each_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let schema = TableSchema::new(1).dim("user").label("note").label("twin").label("triplet");
    let store = AnyStore::open_or_create(dir.path().join("calls"), schema).unwrap();
    let (key, label) = ("k".repeat(MAX_KEY_BYTES), "l".repeat(MAX_LABEL_BYTES - 100));
    let mut text = String::new();
    for (id, user, note) in [
        ("1", "a", "x"),
        ("2", &*format!("{key}k"), "x"),
        (&*format!("{key}k"), "b", "x"),
        ("4", &*key, "x"),
        ("5", "c", &*label),
        (&*key, "d", "x"),
    ] {
        writeln!(text, "{{\"at\": 1, \"id\": \"{id}\", \"user\": \"{user}\", \"note\": \"{note}\"}}")
            .unwrap();
    }
    let source = write(&dir, "a.jsonl", text);
    let mapping = Mapping::new()
        .time("at", TimeFormat::Seconds)
        .column("id", "id")
        .column("user", "user")
        .column("note", "note")
        .column("note", "twin")
        .column("note", "triplet");
    let imported = Import::json_lines(&store, &source, mapping.clone()).run().unwrap();
    assert_eq!((imported.rows, imported.rejected), (3, 3));
    let found: Vec<_> = rejected(&imported.rejects).into_iter().map(|row| (row.0, row.1, row.2)).collect();
    let too_long = "is not legal: the text has 65537 bytes, at most 65536 are possible";
    let cut = "(the text is cut after 65536 of";
    for (found, (line, column, reason)) in found.iter().zip([
        (2, "user", format!("user {too_long} {cut}")),
        (3, "id", format!("id {too_long} {cut}")),
        (5, "", "the row has 50331".to_owned()),
    ]) {
        assert_eq!((found.0, &*found.1), (line, column), "{}", found.2);
        assert!(found.2.starts_with(&reason), "{}", found.2);
    }

    let text = |text: String| Arc::new(StringArray::from(vec!["x".to_owned(), text])) as ArrayRef;
    let refused = |user: &str, note: &str| {
        let batch = RecordBatch::try_from_iter([
            ("at", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("id", text("2".to_owned())),
            ("user", text(user.to_owned())),
            ("note", text(note.to_owned())),
        ]);
        append_record_batch(&store, &batch.unwrap(), &mapping).unwrap_err().to_string()
    };
    let user = refused(&format!("{key}k"), "");
    assert!(
        user.starts_with("row 1 of the record batch cannot be appended: user: user is not legal"),
        "{user}"
    );
    let label = refused("", &format!("{label}{key}"));
    assert!(
        label.contains("note: note is not legal: the text has 16842652 bytes, at most 16777216 are"),
        "{label}"
    );
}

#[test]
fn sources_and_mappings_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let sound = write(&dir, "a.csv", format!("{HEADER}1,a,1,n,1,200,\n"));
    let time = || Mapping::new().time("at", TimeFormat::Seconds);
    let refused = |text: Option<&str>, mapping: Mapping, why: &str| {
        let source = text.map_or_else(|| sound.clone(), |text| write(&dir, "b.csv", text));
        let error = Import::csv(&store, source, mapping).run().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(None, Mapping::new(), "no column of the source becomes \"ts_ns\", the time of the events");
    refused(None, time().column("user", "usr"), "there is no column \"usr\"; the columns are ts_ns, id,");
    refused(
        None,
        time().column("user", "user").column("note", "user"),
        "two columns of the source are to become \"user\"",
    );
    refused(None, time().column("user", "sequence"), "the engine gives the sequence itself; leave it out");
    refused(None, Mapping::new().column("at", "ts_ns"), "\"ts_ns\" needs a time format: map it by `time`");
    refused(
        None,
        Mapping::new().field(Field::time("at", TimeFormat::Seconds).or(0)),
        "a time has no digits, factor or default",
    );
    refused(None, time().field(Field::new("user", "user").digits(2)), "\"user\" holds texts");
    refused(
        None,
        time().field(Field::new("price", "metric").digits(19)),
        "\"metric\" would keep more than 18 decimals",
    );
    refused(
        None,
        time().column("usr", "user"),
        "a.csv do not fit: there is no column \"usr\"; the columns are at, user,",
    );
    refused(Some("at,user,user\n"), time().column("user", "user"), "there are two columns \"user\"");
    refused(Some(""), time(), "the first line has no columns' names");
    refused(Some("\"at\n1,2\n"), time(), "the first line has no columns' names");
    let nonsense = Csv::default().delimiter(b'"');
    assert!(Import::csv_as(&store, &sound, nonsense, time()).run().is_err());
    let (journal, rejects) = Import::csv(&store, &sound, time()).paths();
    fs::write(&rejects, "mine").unwrap();
    refused(None, time(), ".import.rejects.csv is there already");
    assert_eq!(fs::read(&rejects).unwrap(), b"mine");
    // Nor where an import is under way that has rejected nothing.
    fs::remove_file(&rejects).unwrap();
    Import::csv(&store, &sound, time()).run().unwrap();
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    fs::write(&rejects, "mine").unwrap();
    refused(None, time(), ".import.rejects.csv is there already");
    assert_eq!(fs::read(&rejects).unwrap(), b"mine");
    fs::remove_file(journal).unwrap();
    assert_eq!(rows(&store).len(), 1);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "the table, two sources, and what was there: {left:?}");
}

#[test]
fn files_may_lack_names_and_what_is_optional() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let source = write(&dir, "a.csv", "\u{feff}1;'al;ice'\n2;bob\n");
    let csv = Csv::default().delimiter(b';').quote(b'\'').columns(["at", "user"]);
    let mapping = Mapping::new()
        .time("at", TimeFormat::Seconds)
        .column("user", "user")
        .field(Field::new("tokens", "tokens").optional())
        .field(Field::new("note", "note").optional());
    assert_eq!(Import::csv_as(&store, source, csv, mapping).run().unwrap().rows, 2);
    let users: Vec<_> = rows(&store).into_iter().map(|row| row[7].clone()).collect();
    assert_eq!(users, ["al;ice", "bob"]);
}

#[test]
fn too_many_rejected_rows_end_the_import_and_more_let_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut text = HEADER.to_owned();
    for row in 0..100 {
        text += if row % 10 == 9 { "1,a,x,n,1,200,\n" } else { "1,a,1,n,1,200,\n" };
    }
    let source = write(&dir, "a.csv", text);
    let import = || Import::csv(&store, &source, mapping()).batch_rows(8);
    let rejects = import().paths().1;
    let Err(ImportError::Stopped { rows: landed, cause, .. }) = import().rejects_max(4).run() else {
        panic!("it must stop")
    };
    assert!(
        cause.to_string().starts_with("more than 4 rows of ")
            && cause
                .to_string()
                .contains("a.csv were rejected, the last one in line 51: tokens: \"x\" is not a number; "),
        "{cause}"
    );
    assert_eq!(landed, rows(&store).len() as u64);
    assert_eq!(rejected(&rejects).len(), 5);

    let imported = import().rejects_max(10).run().unwrap();
    assert_eq!((imported.rows, imported.rows_before, imported.rejected), (90, landed, 10));
    assert_eq!(rows(&store).len(), 90);
    let lines: Vec<u64> = rejected(&imported.rejects).iter().map(|row| row.0).collect();
    assert_eq!(lines, (0..10).map(|ten| 11 + 10 * ten).collect::<Vec<_>>());
}

#[test]
fn an_import_that_is_through_adds_nothing_until_its_journal_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let source = write(&dir, "a.csv", format!("{HEADER}1,a,1,n,1,200,\n2,b,1,n,1,200,\n"));
    let run = |mapping: Mapping| Import::csv(&store, &source, mapping).run();
    let first = run(mapping()).unwrap();
    let journal = first.journal.file_name().unwrap().to_str().unwrap();
    assert!(journal.starts_with("calls.a.csv.") && journal.ends_with(".import"), "{journal}");
    assert_eq!(first.journal.parent(), Some(dir.path()));
    let again = run(mapping()).unwrap();
    assert_eq!((again.rows, again.rows_before), (2, 2));
    assert_eq!(rows(&store).len(), 2);

    let other = run(mapping().column("unused", "id")).unwrap_err().to_string();
    assert!(other.contains("line 1: the import began with another mapping or format"), "{other}");

    fs::write(&source, format!("{HEADER}1,a,1,n,1,200,\n2,c,1,n,1,200,\n")).unwrap();
    let changed = run(mapping()).unwrap_err().to_string();
    assert!(changed.contains("a.csv has changed since its import began"), "{changed}");
    assert_eq!(rows(&store).len(), 2);

    fs::remove_file(&first.journal).unwrap();
    assert_eq!(run(mapping()).unwrap().rows_before, 0);
    assert_eq!(rows(&store).len(), 4);

    // A table that was made anew has none of the rows that the journal speaks of.
    drop(store);
    fs::remove_dir_all(dir.path().join("calls")).unwrap();
    let refused = Import::csv(&open(&dir), &source, mapping()).run().unwrap_err().to_string();
    assert!(refused.contains("it is of another table, or of a later state of this one"), "{refused}");
}

#[test]
fn a_journal_of_another_table_is_refused_whatever_that_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let mut text = HEADER.to_owned();
    for row in 0..9 {
        writeln!(text, "{row},a,1,n,1,200,").unwrap();
    }
    let source = write(&dir, "a.csv", text);
    let import = |store: &AnyStore, steps| {
        let mut import = Import::csv(store, &source, mapping()).batch_rows(3);
        import.steps_left = steps;
        import.run()
    };
    let fill = |store: &AnyStore| {
        for second in 0..20 {
            store.append(store.event(second)).unwrap();
        }
    };
    for steps in [None, Some(9)] {
        let store = open(&dir);
        fill(&store);
        let copy = dir.path().join("copy");
        store.checkpoint(&copy).unwrap();
        let done = import(&store, steps);
        assert_eq!(done.is_ok(), steps.is_none());
        let landed = store.stats().events;
        assert!(landed > 23);
        drop(store);
        for is_restored in [false, true] {
            fs::remove_dir_all(&calls).unwrap();
            if is_restored {
                fs::rename(&copy, &calls).unwrap();
            }
            let store = open(&dir);
            fill(&store);
            fill(&store);
            let refused = import(&store, None).unwrap_err();
            let ImportError::Journal { journal, what, .. } = &refused else { panic!("{refused}") };
            assert!(what.contains("it is of another table, or of a later state of this one"), "{refused}");
            assert!(store.stats().events == if is_restored { 60 } else { 40 });
            if is_restored {
                fs::remove_file(journal).unwrap();
            }
        }
        fs::remove_dir_all(&calls).unwrap();
    }

    // Of those that were imported last some may have been deleted, and no other one comes into their place.
    let store = open(&dir);
    import(&store, None).unwrap();
    let last = store.query().newest_first().limit(1).rows().unwrap();
    store.delete(&[last[0].text("id").unwrap()]).unwrap();
    fill(&store);
    assert_eq!(import(&store, None).unwrap().rows_before, 9);
}

#[test]
fn an_import_whose_last_rows_and_rejects_are_gone_goes_on_when_told_so() {
    let mut stops = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let source =
            write(&dir, "a.csv", format!("{HEADER}{}", "1,a,1,n,1,200,\n2,a,x,n,1,200,\n".repeat(4)));
        let import = || Import::csv(&store, &source, mapping()).batch_rows(1);
        let mut stopped = import();
        stopped.steps_left = Some(13);
        let rejects = stopped.paths().1;
        stopped.run().unwrap_err();
        let landed = store.query().rows().unwrap();
        assert!((1..4).contains(&landed.len()));
        for row in &landed {
            store.delete(&[row.text("id").unwrap()]).unwrap();
        }
        fs::remove_file(&rejects).unwrap();
        let refused = import().run().unwrap_err().to_string();
        assert!(refused.contains("or go on behind them (`Import::even_if_gone`)"), "{refused}");

        // Stopped again at each of its steps.
        let mut again = import().even_if_gone();
        again.steps_left = Some(stops);
        let is_through = again.run().is_ok();
        let done = import().even_if_gone().run().unwrap();
        assert_eq!((done.rows, done.rejected), (4, 4), "{stops}");
        // Of the batch that was under way nothing tells any more that it had landed: its row comes in again.
        assert_eq!(store.query().rows().unwrap().len(), 4 - landed.len() + 1, "{stops}");
        let lines: Vec<u64> = rejected(&rejects).into_iter().map(|(line, ..)| line).collect();
        assert!(
            lines.is_sorted_by(|one, next| one < next) && (1..4).contains(&lines.len()),
            "{stops} {lines:?}"
        );
        if is_through {
            break;
        }
        stops += 1;
    }
    assert!(stops > 5);
}

#[test]
fn a_table_and_a_source_have_one_journal_however_their_paths_are_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let source = write(&dir, "a.csv", format!("{HEADER}1,a,1,n,1,200,\n2,b,1,n,1,200,\n"));
    drop(open(&dir));
    let mut roots = vec![dir.path().to_owned(), dir.path().join("sub/..")];
    #[cfg(unix)]
    {
        roots.push(dir.path().join("link"));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    }
    for root in &roots {
        for (table, source) in
            [("calls", root.join("a.csv")), ("calls/", source.clone()), ("./calls//", source.clone())]
        {
            let store = AnyStore::open(root.join(table)).unwrap();
            let imported = Import::csv(&store, source, mapping()).run().unwrap();
            assert_eq!(imported.rows, 2);
            assert_eq!(rows(&store).len(), 2, "{root:?} {table}");
        }
    }
}

#[test]
fn a_side_file_is_of_one_import_and_stays_as_it_is_once_that_is_through() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(&dir, "a.csv", format!("{HEADER}1,a,1,n,1,200,\n2,b,1,n,1.5,200,\n"));
    let other = AnyStore::open_or_create(dir.path().join("other"), schema()).unwrap();
    let whole = Mapping::new().time("at", TimeFormat::Seconds).column("price", "metric");
    let calls = open(&dir);
    let run = || Import::csv(&calls, &source, mapping()).run().unwrap();
    assert_eq!((run().rows, run().rejected), (2, 0));
    let rejected = Import::csv(&other, &source, whole).run().unwrap().rejects;
    let mut text = fs::read_to_string(&rejected).unwrap();
    assert!(text.contains("3,\"price\""), "{text}");
    run();
    assert_eq!(fs::read_to_string(&rejected).unwrap(), text);

    text += "seen to by hand\n";
    fs::write(&rejected, &text).unwrap();
    let whole = Mapping::new().time("at", TimeFormat::Seconds).column("price", "metric");
    assert_eq!(Import::csv(&other, &source, whole).run().unwrap().rejected, 1);
    assert_eq!(fs::read_to_string(&rejected).unwrap(), text);
}

#[test]
fn what_the_journal_says_of_the_table_is_on_disk_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().schema(schema()).sync(Sync::Os);
    let store = AnyStore::open_with(EngineConfig::in_dir(dir.path().join("calls")), options).unwrap();
    let source = write(&dir, "a.csv", format!("{HEADER}1,a,1,n,1,200,\n"));
    store.append(store.event(1)).unwrap();
    let syncs = store.stats().syncs;
    let mut import = Import::csv(&store, &source, mapping());
    // Right behind the first line of a batch, which has the table's next sequence in it.
    import.steps_left = Some(4);
    import.run().unwrap_err();
    assert_eq!(store.stats().events, 1);
    assert_eq!(store.stats().syncs, syncs + 1);
}

#[test]
fn a_side_file_that_has_lost_rows_is_an_error() {
    for length in [None, Some(30)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let source =
            write(&dir, "a.csv", format!("{HEADER}{}", "1,a,1,n,1,200,\n2,a,x,n,1,200,\n".repeat(4)));
        let import = || Import::csv(&store, &source, mapping()).batch_rows(1);
        let mut stopped = import();
        // Behind the journal's line of the third batch.
        stopped.steps_left = Some(13);
        let rejects = stopped.paths().1;
        stopped.run().unwrap_err();
        let text = fs::read(&rejects).unwrap();
        match length {
            None => fs::remove_file(&rejects).unwrap(),
            Some(length) => fs::write(&rejects, &text[..length]).unwrap(),
        }
        let lost = import().run().unwrap_err().to_string();
        let found = format!("rejects.csv has {} of the ", length.unwrap_or(0));
        assert!(lost.contains(&found) && lost.contains("put it back as it was"), "{lost}");
        fs::write(&rejects, &text).unwrap();
        assert_eq!(import().run().unwrap().rejected, 4);
        assert_eq!(rejected(&rejects).len(), 4);
    }
}

#[test]
fn of_a_source_that_is_written_to_no_row_comes_in_after_it_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let source = write(&dir, "a.csv", format!("{HEADER}{}1,a,1,n,1,200,12", "1,a,1,n,1,200,\n".repeat(9)));
    let grow = |progress: &Progress| {
        if progress.rows == 8 {
            fs::OpenOptions::new()
                .append(true)
                .open(&source)
                .unwrap()
                .write_all(b"34\n1,a,1,n,1,200,\n")
                .unwrap();
        }
    };
    let stopped = Import::csv(&store, &source, mapping()).batch_rows(4).on_progress(grow).run().unwrap_err();
    let ImportError::Stopped { rows: 8, cause, .. } = &stopped else { panic!("{stopped}") };
    assert!(matches!(**cause, ImportError::SourceChanged { .. }), "{stopped}");
    assert!(stopped.to_string().contains("; is it still written to?"), "{stopped}");
    assert_eq!(rows(&store).len(), 8);
}

#[test]
fn times_without_a_zone_are_in_that_of_the_mapping() {
    const HOUR: i64 = 3600;
    let dir = tempfile::tempdir().unwrap();
    let berlin = || TimeFormat::strftime("%F %T", "Europe/Berlin");
    let clock = || Arc::new(TimestampSecondArray::from(vec![13 * HOUR])) as ArrayRef;
    let cases = [
        (clock(), berlin(), 12 * HOUR),
        (clock(), TimeFormat::strftime("%F %T", "+03:00"), 10 * HOUR),
        (clock(), TimeFormat::Rfc3339, 13 * HOUR),
        (Arc::new(TimestampSecondArray::from(vec![13 * HOUR]).with_timezone("UTC")), berlin(), 13 * HOUR),
        (Arc::new(Date32Array::from(vec![1])), berlin(), 23 * HOUR),
        (Arc::new(Date32Array::from(vec![1])), TimeFormat::Seconds, 24 * HOUR),
    ];
    for (place, (at, format, wanted)) in cases.into_iter().enumerate() {
        let store = AnyStore::open_or_create(dir.path().join(place.to_string()), schema()).unwrap();
        let batch = RecordBatch::try_from_iter([("at", at)]).unwrap();
        append_record_batch(&store, &batch, &Mapping::new().time("at", format)).unwrap();
        assert_eq!(store.query().rows().unwrap()[0].int("ts_ns").unwrap(), wanted * 1_000_000_000, "{place}");
    }
}

/// What Spark, Hive and Impala write: a day and nanoseconds of it, which may be any.
#[test]
fn parquet_times_of_96_bits_are_taken_exactly_or_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = dir.path().join("a.parquet");
    let message = parquet::schema::parser::parse_message_type("message m { required int96 at; }").unwrap();
    let mut writer =
        SerializedFileWriter::new(fs::File::create(&path).unwrap(), Arc::new(message), Arc::default())
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // 1970-01-01 is the Julian day 2,440,588.
    let times =
        [(15_706, 43_200_000_000_000_u64), (-719_162, 0), (2_932_896, 0), (-1, 1000)].map(|(day, ns)| {
            let mut time = Int96::new();
            let word = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap();
            time.set_data(word(ns), word(ns >> 32), u32::try_from(2_440_588 + day).unwrap());
            time
        });
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let imported =
        Import::parquet(&store, &path, Mapping::new().time("at", TimeFormat::Rfc3339)).run().unwrap();
    let times: Vec<_> = rows(&store).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(times, ["-86399999999000", "1357041600000000000"]);
    let rejected: Vec<_> = rejected(&imported.rejects).into_iter().map(|row| (row.0, row.2)).collect();
    let reason = || "the time is not between the years 1677 and 2262".to_owned();
    assert_eq!(rejected, [(2, reason()), (3, reason())]);
}

/// One row group of these rows.
fn parquet_of(path: &Path, batch: &RecordBatch, properties: WriterPropertiesBuilder) {
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn heavy_texts_of_parquet_come_in_with_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let mapping =
        Mapping::new().time("at", TimeFormat::Seconds).column("note", "note").column("user", "user");
    for (has_dictionary, rows, note_bytes) in [(false, 40, 1 << 20), (true, 1000, 60 << 10)] {
        let note = |row: i64| {
            let begins = if has_dictionary { String::new() } else { row.to_string() };
            begins + &"n".repeat(note_bytes)
        };
        let users = (0..rows).map(|row| if row % 2 == 0 { "even" } else { "odd" });
        let batch = RecordBatch::try_from_iter([
            ("at", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef),
            ("note", Arc::new(StringArray::from_iter_values((0..rows).map(note)))),
            ("user", Arc::new(StringArray::from_iter_values(users))),
        ]);
        let properties = WriterProperties::builder()
            .set_column_dictionary_enabled("note".into(), has_dictionary)
            .set_write_batch_size(4)
            .set_statistics_enabled(EnabledStatistics::None);
        parquet_of(&path, &batch.unwrap(), properties);
        let store = open(&dir);
        let binding = Binding::new(&mapping, &store).unwrap();
        let context = Context { path: &path, binding: &binding, hash: 0 };
        let mut reading = ParquetReading::open(&path, &binding, None).unwrap();
        let (mut taken, mut row) = (0, Row::new(&store));
        while let Some(outcome) = reading.next(&context, &mut row).unwrap() {
            let Outcome::Taken = outcome else { panic!("row {taken} is rejected") };
            assert!(row.bytes > note_bytes);
            assert!(reading.memory_bytes() < 24 << 20, "{} bytes", reading.memory_bytes());
            taken += 1;
        }
        assert_eq!(taken, rows);
    }
}

/// A decoder that panics is one of a damaged file, and nothing that ends a program.
#[test]
fn damaged_pages_of_any_encoding_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let texts = || {
        Arc::new(StringArray::from_iter_values((0..50).map(|row| format!("text {}", row % 9)))) as ArrayRef
    };
    let batch = RecordBatch::try_from_iter([
        ("at", Arc::new(Int64Array::from_iter_values(0..50)) as ArrayRef),
        ("user", texts()),
        ("note", texts()),
        ("id", texts()),
    ])
    .unwrap();
    let mapping = Mapping::new()
        .time("at", TimeFormat::Seconds)
        .column("user", "user")
        .column("note", "note")
        .column("id", "id");
    let store = open(&dir);
    let binding = Binding::new(&mapping, &store).unwrap();
    let context = Context { path: &path, binding: &binding, hash: 0 };
    let (mut panics, mut row) = (0, Row::new(&store));
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_column_dictionary_enabled("at".into(), false)
            .set_column_encoding("at".into(), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled("note".into(), false)
            .set_column_encoding("note".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_dictionary_enabled("id".into(), false)
            .set_column_encoding("id".into(), Encoding::DELTA_BYTE_ARRAY);
        parquet_of(&path, &batch, properties);
        let bytes = fs::read(&path).unwrap();
        for at in 4..bytes.len() {
            for bit in [0, 3, 7] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                fs::write(&path, damaged).unwrap();
                let Ok(mut reading) = ParquetReading::open(&path, &binding, None) else { continue };
                loop {
                    match reading.next(&context, &mut row) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(error) => {
                            panics += u32::from(error.to_string().contains("the decoder panicked"));
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(panics > 0, "nothing was seen of what this is about");
}

#[test]
fn progress_is_told_after_each_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let text = format!("{HEADER}{}", "1,a,1,n,1,200,\n".repeat(10));
    let source = write(&dir, "a.csv", &text);
    let mut told = Vec::new();
    Import::csv(&store, &source, mapping())
        .batch_rows(4)
        .on_progress(|progress| told.push((progress.rows, progress.bytes_total)))
        .run()
        .unwrap();
    assert_eq!(told, [4, 8, 10].map(|rows| (rows, text.len() as u64)));
}

/// A source in which everything can go wrong: rejected rows, line ends in fields, ids that are missing or doubled.
fn eventful(rows: usize) -> String {
    let mut text = "at,user,tokens,note,price,status,id\n".to_owned();
    for row in 0..rows {
        let line = match row % 7 {
            0 => format!("{row},\"a\nb\",{row},,1,200,\n"),
            1 => format!("{row},c,{row},,1,200,same\n"),
            2 => format!("7,c,{row},,1,200,same\n"),
            3 => format!("{row},d,x{row},,1,200,i{row}\n"),
            _ => format!("{row},d,{row},,1,200,i{row}\n"),
        };
        text.push_str(&line);
    }
    text
}

fn with_ids() -> Mapping {
    mapping().column("id", "id")
}

#[test]
fn an_import_stopped_at_any_two_steps_loses_and_doubles_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let text = eventful(24);
    let import = |dir: &TempDir, steps: Option<u32>| {
        let store = open(dir);
        // What others append meanwhile must confuse nobody, even where it is as a row of the source in all that is imported.
        let mut twin = store.event(7_000_000_000).set("id", "same").unwrap().set("user", "c").unwrap();
        for (column, number) in [("tokens", 2), ("metric", 100), ("status", 200), ("latency_ms", 1)] {
            twin = twin.set(column, number).unwrap();
        }
        store.append(twin).unwrap();
        let source = dir.path().join("a.csv");
        let mut import = Import::csv(&store, source, with_ids()).batch_rows(8);
        import.steps_left = steps;
        let done = import.run();
        let mut rows: Vec<_> = rows(&store).into_iter().filter(|row| row[3] != "1").collect();
        rows.sort();
        (done, rows)
    };
    write(&whole, "a.csv", &text);
    let (done, wanted) = import(&whole, None);
    let done = done.unwrap();
    assert_eq!((done.rows, done.rejected, wanted.len()), (21, 3, 21));
    let rejects = fs::read(&done.rejects).unwrap();

    let mut pairs = 0;
    for first in 0.. {
        let mut is_stopped = false;
        for second in 0.. {
            let dir = tempfile::tempdir().unwrap();
            write(&dir, "a.csv", &text);
            let (stopped, landed) = import(&dir, Some(first));
            let Err(error) = stopped else { break };
            is_stopped = true;
            match error {
                ImportError::Stopped { rows, .. } => assert_eq!(rows, landed.len() as u64),
                _ => assert_eq!(landed.len(), 0),
            }
            let (stopped, _) = import(&dir, Some(second));
            let (done, found) = import(&dir, None);
            let done = done.unwrap();
            assert_eq!(found, wanted, "stopped at {first} and {second}");
            assert_eq!((done.rows, done.rejected), (21, 3), "stopped at {first} and {second}");
            assert_eq!(fs::read(&done.rejects).unwrap(), rejects, "stopped at {first} and {second}");
            pairs += 1;
            if stopped.is_ok() {
                break;
            }
        }
        if !is_stopped {
            break;
        }
    }
    assert!(pairs > 100, "{pairs}");
}

#[test]
fn random_tables_come_back_from_csv_and_json_lines() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let names = ["ts_ns", "user", "tokens", "note", "metric", "status", "id"];
        let (is_crlf, is_packed) = (random.bool(), random.bool());
        let terminator = if is_crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') };
        let mut lines = ::csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        lines.write_record(names).unwrap();
        let mut objects = Vec::new();
        let mut wanted: Vec<Vec<String>> = Vec::new();
        for row in 0..random.usize(0..60) {
            let mut text = |chars: &str, most: usize| -> String {
                let chars: Vec<char> = chars.chars().collect();
                (0..random.usize(0..most)).map(|_| chars[random.usize(0..chars.len())]).collect()
            };
            let (user, note) = (text("ac\"',;\r\n é😀", 6), text("xyz\\/\"\t\u{1}\u{7f}\r\n,", 20));
            let (ts_ns, tokens) = (random.i64(..), random.u32(..));
            let (metric, status, id) = (random.i64(..), random.u16(..), format!("i{row}"));
            lines.serialize((ts_ns, &user, tokens, &note, metric, status, &id)).unwrap();
            let object = serde_json::json!({
                "ts_ns": ts_ns, "user": user, "tokens": tokens, "note": note, "metric": metric, "status": status, "id": id,
            });
            objects.extend_from_slice(object.to_string().as_bytes());
            objects.extend_from_slice(if is_crlf { b"\r\n" } else { b"\n" });
            let zero = || "0".to_owned();
            let numbers = [metric.to_string(), zero(), zero(), status.to_string(), zero()];
            let mut row = vec![ts_ns.to_string(), id];
            row.extend(numbers);
            row.extend([user, tokens.to_string(), note]);
            wanted.push(row);
        }
        wanted.sort();
        let pack = |text: Vec<u8>| if is_packed { zstd::encode_all(&*text, 1).unwrap() } else { text };
        let csv = write(&dir, "a.csv", pack(lines.into_inner().unwrap()));
        let json = write(&dir, "a.jsonl", pack(objects));
        for source in [csv, json] {
            let tables = tempfile::tempdir().unwrap();
            let store = open(&tables);
            let mapping = Mapping::by_name(store.columns());
            let import = match source.extension().unwrap().to_str() {
                Some("csv") => Import::csv(&store, &source, mapping),
                _ => Import::json_lines(&store, &source, mapping),
            };
            import.batch_rows(random.usize(1..20)).rejects_max(0).run().unwrap();
            let mut found = rows(&store);
            found.sort();
            assert_eq!(found, wanted, "seed {seed}");
        }
    }
}

/// Asked to stop before its n-th batch, for all n, an import has the batches before it, writes nothing of that one, and goes on behind
/// them.
#[test]
fn an_import_that_is_asked_to_stop_has_whole_batches_and_goes_on() {
    let mut text = HEADER.to_owned();
    for row in 0..10 {
        // Of each batch two rows are rejected and one is taken; the last one has only a rejected row.
        writeln!(text, "{row},u{row},{},n,1,200,", if row % 3 == 2 { "1" } else { "many" }).unwrap();
    }
    for batches in 0..4_u64 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let source = write(&dir, "a.csv", &text);
        let mut asked = 0;
        let import = || Import::csv(&store, &source, mapping()).batch_rows(1);
        let stopped = import().stop_if(|| {
            asked += 1;
            asked > batches
        });
        let rejects = import().paths().1;
        match stopped.run() {
            Err(ImportError::Interrupted) => assert_eq!(batches, 0),
            Err(ImportError::Stopped { rows, cause, .. }) => {
                assert!(matches!(*cause, ImportError::Interrupted), "{cause}");
                assert_eq!(rows, batches);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(store.stats().events, batches);
        let reported = fs::read_to_string(&rejects).map_or(0, |text| text.lines().count() - 1);
        assert_eq!(reported as u64, 2 * batches, "those of the batch that was not begun are not in the file");

        let imported = import().stop_if(|| false).run().unwrap();
        assert_eq!((imported.rows, imported.rows_before, imported.rejected), (3, batches, 7));
        assert_eq!(rejected(&rejects).len(), 7);
        // There is nothing left that could be stopped.
        assert_eq!(import().stop_if(|| true).run().unwrap().rows_before, 3);
    }
}

#[test]
fn the_columns_of_a_source_are_known_before_it_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let columns = |import: Import<'_>| import.columns().unwrap();
    let csv = write(&dir, "a.csv", "\u{feff}at,\"a \"\"user\"\"\",\n1,2,3\n");
    assert_eq!(columns(Import::csv(&store, &csv, mapping())), ["at", "a \"user\"", ""]);
    let named = Csv::default().columns(["x", "y"]);
    assert_eq!(columns(Import::csv_as(&store, &csv, named, mapping())), ["x", "y"]);
    let json = write(&dir, "a.jsonl", "\nno object\n{\"b\": [{\"c\": 1}], \"a\": \"\\ud800\"}\n{\"d\": 1}\n");
    assert_eq!(columns(Import::json_lines(&store, &json, mapping())), ["a", "b"]);
    let none = write(&dir, "b.jsonl", "[1]\n");
    assert!(columns(Import::json_lines(&store, &none, mapping())).is_empty());
    let parquet = dir.path().join("a.parquet");
    crate::export::Export::file(&store.snapshot(), &parquet).run().unwrap();
    let of_parquet = columns(Import::parquet(&store, &parquet, mapping()));
    assert_eq!(
        (&of_parquet[..2], of_parquet.len()),
        (&["ts".to_owned(), "ts_ns".to_owned()][..], store.columns().len() + 1)
    );
    assert!(Import::csv(&store, dir.path().join("c.csv"), mapping()).columns().is_err());
}
