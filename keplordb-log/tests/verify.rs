//! Verifying beside others who change the log.

#[path = "common/hooked.rs"]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hooked::HookedDisk;
use keplordb_disk::SimDisk;
use keplordb_log::{Log, Options, Retention};

fn log(disk: &SimDisk, max_segment_bytes: u64) -> Log {
    let options = Options { max_segment_bytes, disk: Arc::new(disk.clone()), ..Options::default() };
    Log::open_with("commands", options).unwrap()
}

#[test]
fn segments_that_are_removed_meanwhile_are_no_damage() {
    let disk = SimDisk::default();
    let log = log(&disk, 200);
    let writer = log.writer().unwrap();
    for number in 0..6 {
        writer.write(&[number; 150]).unwrap();
    }
    // When the third file is opened, the second and the third are gone: the first was read before.
    let opened = AtomicU64::new(0);
    let hooked = HookedDisk::new(disk).on_open({
        let log = log.clone();
        move |path| {
            let is_segment = path.extension() == Some("segment".as_ref());
            if is_segment && opened.fetch_add(1, Ordering::SeqCst) == 2 {
                log.retain(&Retention { max_age: None, max_bytes: Some(900) }).unwrap();
            }
        }
    });
    let verified =
        Log::open_with("commands", Options { disk: Arc::new(hooked), ..Options::default() }).unwrap();
    let report = verified.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(report.entries < 6 && log.segments().unwrap().len() < 4, "{report:?}");
}

#[test]
fn what_is_written_meanwhile_is_no_torn_end() {
    let disk = SimDisk::default();
    let log = log(&disk, 1 << 20);
    let writer = log.writer().unwrap();
    writer.write(&[1; 100]).unwrap();
    let end = log.segments().unwrap()[0].bytes;
    // Whoever reads the end for the first time comes a moment too early.
    let is_early = AtomicBool::new(true);
    let hooked = HookedDisk::new(disk).on_read({
        move |path, read, offset| {
            let is_end = path.extension() == Some("segment".as_ref()) && read.is_empty() && offset >= end;
            if is_end && is_early.swap(false, Ordering::SeqCst) {
                for number in 0..3 {
                    writer.write(&[number; 100]).unwrap();
                }
            }
        }
    });
    let verified =
        Log::open_with("commands", Options { disk: Arc::new(hooked), ..Options::default() }).unwrap();
    let report = verified.verify().unwrap();
    assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
    assert_eq!(report.entries, 4);
}
