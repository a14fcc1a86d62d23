//! What did we know then? The stock of a shop as it was after any event, and at any time.
//!
//! A state is the fold of the events before it, so each state of the past can be had again: by folding fewer events, or by asking the
//! log, which does the same but begins at the nearest state that it has kept.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example time_travel
//! ```

use std::collections::BTreeMap;
use std::error::Error;

use keplordb_fold::{Checkpoints, Event, EventLog, ViewOptions};
use serde_json::json;

/// Pieces of each article.
type Stock = BTreeMap<String, i64>;

fn stock(mut stock: Stock, event: &Event) -> Stock {
    let article = event.data["article"].as_str().unwrap_or_default().to_owned();
    let pieces = event.data["pieces"].as_i64().unwrap_or_default();
    match event.event_type.as_str() {
        "received" => *stock.entry(article).or_default() += pieces,
        "sold" => *stock.entry(article).or_default() -= pieces,
        _ => {}
    }
    stock
}

/// An hour passes between two events.
const OPENING: u64 = 1_700_000_000;
const HOUR: u64 = 3_600;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // A state of the past is kept for every eighth event, so that looking back need not begin with the first one.
    let options = ViewOptions::default().checkpoints(Checkpoints::every(8));
    let mut log = EventLog::builder(dir.path()).view_with("stock", options, stock).open()?;
    for n in 0..20 {
        // Chairs come in fives, and every other hour one is sold.
        let (kind, pieces) = if n % 2 == 0 { ("received", 5) } else { ("sold", 1) };
        let article = if n < 10 { "chair" } else { "table" };
        let event = Event::new(kind, json!({"article": article, "pieces": pieces}));
        log.append(&Event { ts: OPENING + n * HOUR, ..event })?;
    }

    // By hand: the first so many events, folded.
    for events in [20, 10, 5] {
        let mut past = Stock::default();
        for item in log.read_full()?.take(events) {
            let (event, _hash) = item?;
            past = stock(past, &event);
        }
        println!("after {events} events: {}", serde_json::to_string(&past)?);
    }
    //> after 20 events: {"chair":20,"table":20}
    //> after 10 events: {"chair":20}
    //> after 5 events: {"chair":13}

    // By the log, which may be rotated meanwhile.
    log.rotate()?;
    for events in [20, 10, 5] {
        let past: Stock = log.state_at("stock", events)?;
        println!("the log says after {events}: {}", serde_json::to_string(&past)?);
    }
    //> the log says after 20: {"chair":20,"table":20}
    //> the log says after 10: {"chair":20}
    //> the log says after 5: {"chair":13}

    // By the clock.
    for hours in [0, 4, 12] {
        let past: Stock = log.state_at_time("stock", OPENING + hours * HOUR)?;
        println!("{hours} hours after opening: {}", serde_json::to_string(&past)?);
    }
    //> 0 hours after opening: {"chair":5}
    //> 4 hours after opening: {"chair":13}
    //> 12 hours after opening: {"chair":20,"table":9}
    Ok(())
}
