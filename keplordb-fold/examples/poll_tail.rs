//! Following a log by looking at it now and then: a thread writes ten ticks, the program asks every 50 ms whether there is more.
//!
//! To ask costs one look at a file's size, so it does no harm in a loop that has other things to do, as that of a game or a user
//! interface. Who has nothing else to do waits instead: see `blocking_tail`.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example poll_tail
//! ```

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use keplordb_fold::{Event, EventReader, EventWriter};
use serde_json::json;

const TICKS: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut writer = EventWriter::open(dir.path())?;
    // A reader is only a path. It takes no lock, and could as well be in another process.
    let reader = EventReader::new(dir.path());
    let ticking = thread::spawn(move || -> io::Result<()> {
        for n in 1..=TICKS {
            thread::sleep(Duration::from_millis(200));
            writer.append(&Event::new("tick", json!({"n": n})))?;
        }
        Ok(())
    });

    let (mut offset, mut seen) = (0, 0);
    let patience = Instant::now() + Duration::from_secs(60);
    while seen < TICKS && Instant::now() < patience {
        if !reader.has_new_events(offset)? {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        for item in reader.read_from(offset)? {
            let (event, next_offset, _hash) = item?;
            println!("tick {}", event.data["n"]);
            offset = next_offset; // where to go on, so that each event comes once
            seen += 1;
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

    ticking.join().map_err(|_| "the writer panicked")??;
    println!("{seen} ticks, and {} more", reader.read_from(offset)?.count());
    //> 10 ticks, and 0 more
    Ok(())
}
