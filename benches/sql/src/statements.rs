//! The operations of the peers in SQL.

use keplordb_benches::workload::{self, MODELS, SEED};

/// An operation.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) name: &'static str,
    /// As DataFusion reads it.
    pub(crate) sql: String,
    /// Whether sums, indexes or the order of time answer it, and no row needs to be looked at that is not shown or added up.
    pub(crate) is_indexed: bool,
}

impl Statement {
    /// As DuckDB reads it, where `/` divides floats.
    pub(crate) fn for_duckdb(&self) -> String {
        self.sql.replace(" / ", " // ")
    }
}

const COLUMNS: &str =
    "ts_ns, \"user\", model, tokens, metric, latency_ms, latency_detail_ms, status, flags, id, label";

/// All operations, with the peers' constants for so many rows.
pub(crate) fn all(rows: u64) -> Vec<Statement> {
    let row = rows * 618 / 1000;
    let (id, label) = (workload::id(SEED, row), workload::label(SEED, row));
    let no_label = workload::label(SEED, rows + 12_345);
    let no_id = format!("{}{}", &id[..id.len() - 1], if id.ends_with('0') { '1' } else { '0' });
    let (from, to) = workload::tenth_of_time(rows);
    let (user, rare_user, model) = (workload::user_name(7), workload::user_name(999), MODELS[2]);
    let in_time = format!("ts_ns >= {from} AND ts_ns <= {to}");
    let of_user = format!("\"user\" = '{user}'");
    let sums = "SELECT count(*), sum(metric), sum(tokens), sum(latency_ms) FROM events";
    let by_time = |width_ns: i64| {
        format!(
            "SELECT ts_ns / {width_ns} AS bucket, count(*), sum(metric) FROM events GROUP BY 1 ORDER BY 1"
        )
    };
    let newest = |condition: &str, limit: u32| {
        format!("SELECT {COLUMNS} FROM events {condition} ORDER BY ts_ns DESC LIMIT {limit}")
    };
    let quantile =
        |share: f64| format!("percentile_cont({share}) WITHIN GROUP (ORDER BY CAST(latency_ms AS DOUBLE))");
    let all = [
        ("R1", true, sums.to_owned()),
        ("R2", true, format!("{sums} WHERE {of_user}")),
        ("R3", true, format!("{sums} WHERE {in_time}")),
        ("R4", true, format!("{sums} WHERE {of_user} AND {in_time}")),
        ("R5", true, format!("{sums} WHERE status >= 500")),
        ("R6", true, format!("{sums} WHERE model = '{model}' AND status = 429")),
        (
            "R7",
            true,
            "SELECT model, count(*), sum(metric), sum(tokens) FROM events GROUP BY model ORDER BY model".to_owned(),
        ),
        (
            "R8",
            true,
            "SELECT \"user\", sum(metric) AS spend FROM events GROUP BY \"user\" ORDER BY spend DESC LIMIT 10".to_owned(),
        ),
        ("R9m", true, by_time(60_000_000_000)),
        ("R9h", true, by_time(3_600_000_000_000)),
        ("R10", true, newest("", 100)),
        ("R11", true, newest("", 1000)),
        ("R12", true, newest(&format!("WHERE {of_user}"), 100)),
        ("R13", true, newest(&format!("WHERE \"user\" = '{rare_user}'"), 100)),
        ("R14", true, format!("SELECT {COLUMNS} FROM events WHERE id = '{id}'")),
        ("R15", true, format!("SELECT {COLUMNS} FROM events WHERE id = '{no_id}'")),
        (
            "R16",
            false,
            format!(
                "SELECT {}, {}, {} FROM events WHERE model = '{model}'",
                quantile(0.5),
                quantile(0.95),
                quantile(0.99)
            ),
        ),
        ("R17", false, format!("SELECT count(DISTINCT \"user\") FROM events WHERE {in_time}")),
        (
            "R18",
            false,
            "SELECT count(*), sum(metric) FROM events WHERE tokens > 4000 AND latency_ms > 4500".to_owned(),
        ),
        ("R19", true, format!("SELECT {COLUMNS} FROM events WHERE label = '{label}'")),
        ("R20", true, format!("SELECT {COLUMNS} FROM events WHERE label = '{no_label}'")),
    ];
    all.into_iter().map(|(name, is_indexed, sql)| Statement { name, sql, is_indexed }).collect()
}
