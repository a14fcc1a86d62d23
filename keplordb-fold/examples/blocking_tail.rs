//! Following a log by waiting: a thread writes ten ticks, the program sleeps until there is one and reads it at once.
//!
//! The operating system wakes it when the file changes, whoever changed it. A rotation begins the offsets anew; who follows a log that
//! is rotated subscribes, as the end of this program does.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example blocking_tail
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::thread;
use std::time::Duration;

use keplordb_fold::{Event, EventReader, EventWriter, Position, Update, WaitResult};
use serde_json::json;

const TICKS: u64 = 10;
/// Nobody need wait for so long; it ends the program if the writer does not write.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut writer = EventWriter::open(dir.path())?;
    let reader = EventReader::new(dir.path());
    let ticking = thread::spawn(move || -> io::Result<EventWriter> {
        for n in 1..=TICKS {
            thread::sleep(Duration::from_millis(200));
            writer.append(&Event::new("tick", json!({"n": n})))?;
        }
        Ok(writer)
    });

    let (mut offset, mut seen) = (0, 0);
    while seen < TICKS {
        match reader.wait_for_events(offset, PATIENCE)? {
            WaitResult::Timeout => return Err("the writer is silent".into()),
            WaitResult::NewData(_size) => {
                for item in reader.read_from(offset)? {
                    let (event, next_offset, _hash) = item?;
                    println!("tick {}", event.data["n"]);
                    offset = next_offset;
                    seen += 1;
                }
            }
        }
    }
    //> tick 1
    //> tick 2
    //> tick 3
    //> tick 4
    //> tick 5
    //> tick 6
    //> tick 7
    //> tick 8
    //> tick 9
    //> tick 10
    let mut writer = ticking.join().map_err(|_| "the writer panicked")??;

    // A subscription tells what is there, then that it has caught up, then what comes; a rotation in between does not disturb it.
    let mut updates = reader.subscribe(Position::default())?;
    let mut told = 0;
    while let Some(Update::Event { .. }) = updates.next(PATIENCE)? {
        told += 1;
    }
    println!("{told} events, then caught up");
    //> 10 events, then caught up
    writer.rotate(&reader, &mut HashMap::new())?;
    writer.append(&Event::new("tock", json!({})))?;
    if let Some(Update::Event { event, sequence, .. }) = updates.next(PATIENCE)? {
        println!("after the rotation: {} is event {sequence}", event.event_type);
    }
    //> after the rotation: tock is event 10
    Ok(())
}
