//! A flight as the CSV file has it, and what became of it when. Knows nothing of the server: what is computed from rows judges its
//! answers.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Timetables are fixed before a flight leaves, also one that leaves early; the file does not say when. For every flight it is this long
/// before it should leave.
const PLANNED_BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// New York's standard time: in its days a carrier gives a number to one flight from an airport, in those of UTC not.
const STANDARD_TIME: SignedDuration = SignedDuration::from_hours(-5);

/// One line of the file; an empty field is `None`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    /// The scheduled departure.
    pub(crate) scheduled_utc: Timestamp,
    pub(crate) carrier: String,
    /// The flight's number, of its carrier.
    pub(crate) flight: String,
    /// The aircraft; empty where it is not known.
    pub(crate) tail: String,
    pub(crate) origin: String,
    pub(crate) dest: String,
    /// Negative when early, missing when cancelled.
    pub(crate) dep_delay_min: Option<i64>,
    /// Negative when early, missing when cancelled or diverted.
    pub(crate) arr_delay_min: Option<i64>,
    pub(crate) air_time_min: Option<i64>,
    pub(crate) distance_mi: i64,
}

/// What happens to a flight, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Planned,
    Departed,
    Arrived,
    Cancelled,
}

impl Row {
    /// `2013-01-01-UA1545-EWR`.
    pub(crate) fn id(&self) -> String {
        let day = (self.scheduled_utc + STANDARD_TIME).strftime("%F");
        format!("{day}-{}{}-{}", self.carrier, self.flight, self.origin)
    }

    /// What happened to it, and when, in milliseconds since the Unix epoch.
    pub(crate) fn steps(&self) -> Vec<(Step, i64)> {
        let mut steps = vec![(Step::Planned, (self.scheduled_utc - PLANNED_BEFORE).as_millisecond())];
        let scheduled_ms = self.scheduled_utc.as_millisecond();
        let after_ms = |minutes: i64| scheduled_ms + minutes * 60_000;
        match (self.dep_delay_min, self.air_time_min) {
            (None, _) => steps.push((Step::Cancelled, scheduled_ms)),
            (Some(dep_delay_min), air_time_min) => {
                steps.push((Step::Departed, after_ms(dep_delay_min)));
                // Those that land elsewhere never arrive. How long they taxi is not known.
                if let Some(air_time_min) = air_time_min {
                    steps.push((Step::Arrived, after_ms(dep_delay_min + air_time_min)));
                }
            }
        }
        steps
    }

    /// The fields that a step sets.
    pub(crate) fn sets(&self, step: Step) -> Map<String, Value> {
        let fields = match step {
            Step::Planned => json!({
                "scheduled": self.scheduled_utc.to_string(),
                "carrier": self.carrier,
                "number": self.flight,
                "origin": self.origin,
                "dest": self.dest,
                "distance_mi": self.distance_mi,
            }),
            Step::Departed => json!({"dep_delay_min": self.dep_delay_min}),
            Step::Arrived => {
                json!({"arr_delay_min": self.arr_delay_min, "air_time_min": self.air_time_min})
            }
            Step::Cancelled => json!({}),
        };
        let Value::Object(mut fields) = fields else { unreachable!("each of them is an object") };
        if step == Step::Planned && !self.tail.is_empty() {
            fields.insert("tail".to_owned(), Value::from(self.tail.as_str()));
        }
        fields
    }

    /// The flight at a time, by plain code; `None` before it was planned and after it was cancelled.
    pub(crate) fn state(&self, at_ms: i64) -> Option<Map<String, Value>> {
        let mut state = None;
        for (step, time_ms) in self.steps() {
            if time_ms <= at_ms {
                match step {
                    Step::Planned => state = Some(self.sets(step)),
                    Step::Cancelled => state = None,
                    Step::Departed | Step::Arrived => state.get_or_insert_default().extend(self.sets(step)),
                }
            }
        }
        state
    }
}

/// The first `limit` rows of `flights-2013.csv.zst`, in the file's order.
pub(crate) fn read_all(limit: usize) -> Result<Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/flights-2013.csv.zst");
    #[allow(clippy::disallowed_methods, reason = "the rows are no data of the server")]
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut csv = csv::Reader::from_reader(zstd::Decoder::new(file)?);
    let rows: Result<Vec<Row>, _> = csv.deserialize().take(limit).collect();
    rows.with_context(|| format!("cannot read {}", path.display()))
}
