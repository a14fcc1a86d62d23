//! The same flights in SQL and in RQL, and what the rows say to it. The questions are those of the README.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use keplordb_server::rql::Query;
use keplordb_server::{LogInstant, Sql, SqlOptions};
use serde_json::{Value, json};

use super::questions::Checks;
use super::row::Row;

/// Which carriers have the most flights?
const CARRIERS: &str = "SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier ORDER BY flights DESC, carrier LIMIT 3";
/// How many had left and not landed, and how late were they, at an instant?
const IN_THE_AIR: &str = "SELECT count(*) AS in_the_air, max(dep_delay_min) AS latest_min FROM flights AS OF TIMESTAMP '2013-01-02 15:00:00' \
                          WHERE dep_delay_min IS NOT NULL AND air_time_min IS NULL";
/// How many were cancelled?
const CANCELLED: &str = "SELECT count(*) AS cancelled FROM _events WHERE op = 'DELETE'";
/// Which long flights arrived latest?
const LATEST: &str = "entity:flights where:(origin=JFK distance_mi>2000) order:arr_delay_min desc,id limit:3 fields:dest,arr_delay_min";

/// Asks the tables of a root in which everything is published.
pub(crate) async fn ask(root: &Path, rows: &[Row], checks: &mut Checks) -> Result<()> {
    let sql = Sql::beside(root, SqlOptions::default())?;
    for (statement, right) in
        [(CARRIERS, carriers(rows)), (IN_THE_AIR, in_the_air(rows)?), (CANCELLED, cancelled(rows))]
    {
        let answer = objects(&sql, statement).await?;
        checks.equal(statement, &answer, &right)?;
        show(statement, &answer);
    }
    let answer = sql.rql(&Query::parse(LATEST)?, None).await?;
    let found = answer.entities.iter().map(|entity| {
        let mut shown = entity.state.clone();
        shown.insert("id".to_owned(), entity.entity_id.as_str().into());
        Value::Object(shown)
    });
    let found: Vec<Value> = found.collect();
    checks.equal(LATEST, &found, &latest(rows))?;
    show(LATEST, &found);
    Ok(())
}

/// What to ask a server over HTTP.
pub(crate) fn propose(address: &str) {
    for (path, question) in [("sql", CARRIERS), ("sql", IN_THE_AIR), ("sql", CANCELLED), ("rql", LATEST)] {
        println!("  curl -sG {address}/{path} --data-urlencode \"q={question}\"");
    }
}

/// The rows of an answer, each an object.
async fn objects(sql: &Sql, statement: &str) -> Result<Vec<Value>> {
    let batches = sql.ask(statement, LogInstant::default()).await?.collect().await?;
    let mut written = arrow::json::ArrayWriter::new(Vec::new());
    written.write_batches(&batches.iter().collect::<Vec<_>>())?;
    written.finish()?;
    serde_json::from_slice(&written.into_inner()).context("an answer is JSON")
}

fn show(question: &str, answer: &[Value]) {
    println!("\n{question}");
    for row in answer {
        println!("  {row}");
    }
}

fn carriers(rows: &[Row]) -> Vec<Value> {
    let mut flights: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state(i64::MAX).is_some()) {
        *flights.entry(&row.carrier).or_default() += 1;
    }
    let mut flights: Vec<_> = flights.into_iter().collect();
    // Those of equal numbers stay in the order of their names.
    flights.sort_by_key(|(_, flights)| std::cmp::Reverse(*flights));
    let object = |(carrier, flights)| json!({"carrier": carrier, "flights": flights});
    flights.into_iter().take(3).map(object).collect()
}

fn in_the_air(rows: &[Row]) -> Result<Vec<Value>> {
    let at = "2013-01-02T15:00:00Z".parse::<Timestamp>()?.as_millisecond();
    let states = rows.iter().filter_map(|row| row.state(at));
    let left = states.filter(|state| !state.contains_key("air_time_min"));
    let delays: Vec<i64> = left.filter_map(|state| state.get("dep_delay_min")?.as_i64()).collect();
    let mut answer = json!({"in_the_air": delays.len()});
    if let Some(latest_min) = delays.iter().max() {
        answer["latest_min"] = json!(latest_min);
    }
    Ok(vec![answer])
}

fn cancelled(rows: &[Row]) -> Vec<Value> {
    vec![json!({"cancelled": rows.iter().filter(|row| row.dep_delay_min.is_none()).count()})]
}

fn latest(rows: &[Row]) -> Vec<Value> {
    let is_meant =
        |row: &&Row| row.origin == "JFK" && row.distance_mi > 2000 && row.state(i64::MAX).is_some();
    let mut found: Vec<_> =
        rows.iter().filter(is_meant).map(|row| (row.arr_delay_min, row.id(), row)).collect();
    // Those that never arrived come last.
    found.sort_by(|(a, a_id, _), (b, b_id, _)| b.cmp(a).then_with(|| a_id.cmp(b_id)));
    let object = |(delay_min, id, row): (Option<i64>, String, &Row)| {
        let mut object = json!({"id": id, "dest": row.dest});
        if let Some(delay_min) = delay_min {
            object["arr_delay_min"] = json!(delay_min);
        }
        object
    };
    found.into_iter().take(3).map(object).collect()
}
