//! Damaged tables: an answer, or the engine's typed error with the file's name; never a panic, never fewer rows.

use fastrand::Rng;
use keplordb::DbError;
use keplordb_sql::{KeplorTable, Session, SqlError};

use crate::fixture::{copied, fill, shown, store, twin};

const STATEMENTS: [&str; 5] = [
    "SELECT * FROM t ORDER BY ts, sequence",
    "SELECT count(*), sum(tokens) FROM t WHERE \"user\" <> 'bob'",
    "SELECT id, note FROM t WHERE note LIKE '%a%'",
    "SELECT * FROM t ORDER BY ts DESC, sequence DESC LIMIT 20",
    "SELECT count(*) FROM t WHERE status = 200",
];

fn segments(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|kind| kind == "kseg")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_damaged_segment_is_an_error_that_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = {
        let store = store(dir.path());
        fill(&store, &mut Rng::with_seed(2), 300, 2);
        store.flush().unwrap();
        let rows = copied(&store);
        store.close().unwrap();
        rows
    };
    let twin = twin(rows, 1);
    let file = segments(dir.path()).remove(0);
    let sound = std::fs::read(&file).unwrap();
    let (mut errors, mut answers) = (0, 0);
    for place in (0..sound.len()).step_by(sound.len() / 60) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x5a;
        std::fs::write(&file, &bytes).unwrap();
        let Ok(table) = KeplorTable::open(dir.path()) else {
            errors += 1;
            continue;
        };
        let session = Session::builder().partitions(2).build().unwrap();
        session.register("t", table);
        for statement in STATEMENTS {
            let asked = async {
                let rows = session.sql(statement).await?;
                let schema = rows.schema().clone();
                let in_order = statement.contains("ORDER BY");
                Ok::<_, SqlError>(shown(&schema, &rows.collect().await?, in_order))
            };
            match asked.await {
                Ok(found) => {
                    let frame = twin.sql(statement).await.unwrap();
                    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
                    let expected =
                        shown(&schema, &frame.collect().await.unwrap(), statement.contains("ORDER BY"));
                    assert_eq!(found, expected, "byte {place}: {statement}");
                    answers += 1;
                }
                Err(SqlError::Engine(DbError::Corrupt { file: named, .. })) => {
                    assert_eq!(named.file_name(), file.file_name(), "byte {place}");
                    errors += 1;
                }
                Err(other) => panic!("byte {place}: {statement}: {other:?}"),
            }
        }
    }
    assert!(errors > 20 && answers > 20, "{errors} errors, {answers} answers");
}

#[tokio::test]
async fn a_segment_that_is_gone_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fill(&store, &mut Rng::with_seed(2), 100, 2);
    store.close().unwrap();
    let file = segments(dir.path()).remove(0);
    std::fs::remove_file(&file).unwrap();
    let asked = async {
        let session = Session::builder().build()?;
        session.register("t", KeplorTable::open(dir.path())?);
        session.sql("SELECT * FROM t").await?.collect().await
    };
    match asked.await {
        Err(SqlError::Engine(DbError::Missing { file: named })) => {
            assert_eq!(named.file_name(), file.file_name());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_without_a_table_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = KeplorTable::open(dir.path()).unwrap_err();
    assert!(matches!(&error, DbError::Missing { file } if file.ends_with("MANIFEST")), "{error}");
}
