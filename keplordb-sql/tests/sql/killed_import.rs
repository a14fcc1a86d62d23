//! An import whose process is killed again and again, at any moment: in the end every row is there, once.
//!
//! This program runs itself: the child imports, the parent kills it, until a child comes to the end.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keplordb::TableSchema;
use keplordb::any::AnyStore;
use keplordb_sql::import::{Import, Imported, Mapping, TimeFormat};

const DIR: &str = "KEPLORDB_TEST_IMPORT_DIR";
const ROWS: usize = 30_000;
/// Every so many rows one cannot be taken.
const BAD_ROWS: usize = 1000;

fn import(dir: &Path) -> (AnyStore, Imported) {
    let schema = TableSchema::new(1).dim("user").counter("tokens");
    let store = AnyStore::open_or_create(dir.join("calls"), schema).unwrap();
    let mapping =
        Mapping::new().time("at", TimeFormat::Millis).column("user", "user").column("tokens", "tokens");
    let imported = Import::csv(&store, dir.join("calls.csv"), mapping).batch_rows(300).run().unwrap();
    (store, imported)
}

/// What a child does; by itself it does nothing.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(DIR) {
        import(Path::new(&dir));
    }
}

#[test]
fn an_import_killed_at_any_moment_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "at,user,tokens\n".to_owned();
    for row in 0..ROWS {
        let tokens = if row % BAD_ROWS == 7 { "x".to_owned() } else { row.to_string() };
        writeln!(text, "{row},\"user\n{}\",{tokens}", row % 10).unwrap();
    }
    std::fs::write(dir.path().join("calls.csv"), text).unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_import::child"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Longer each time, so that a slow machine comes to the end too.
        std::thread::sleep(Duration::from_millis(random.u64(5..100 + 5 * kills)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.success() {
            break;
        }
        // What is killed on Unix has no exit code: one that has failed by itself.
        assert!(!cfg!(unix) || status.code().is_none(), "seed {seed}: the import failed: {status}");
        kills += 1;
    }
    let (store, imported) = import(dir.path());
    let rejected = (ROWS / BAD_ROWS) as u64;
    let wanted = (ROWS as u64 - rejected, ROWS as u64 - rejected, rejected);
    assert_eq!((imported.rows, imported.rows_before, imported.rejected), wanted, "seed {seed}");
    let mut tokens = HashSet::new();
    store
        .query()
        .each(|row| {
            assert!(tokens.insert(row.get("tokens")?.as_int()), "seed {seed}: {row:?} comes twice");
            Ok(())
        })
        .unwrap();
    assert_eq!(tokens.len() as u64, wanted.0, "seed {seed}, {kills} kills");
    let rejects = std::fs::read_to_string(imported.rejects).unwrap();
    let lines: HashSet<&str> = rejects.lines().filter(|line| line.contains(",\"tokens\",")).collect();
    assert_eq!(lines.len() as u64, rejected, "seed {seed}");
    assert_eq!(rejects.matches(",\"tokens\",").count() as u64, rejected, "seed {seed}");
    assert!(kills > 0, "nothing was killed");
}
