//! Reads a log as its format is described, in the simplest way there is, and checks all that must hold of its files.

use std::path::Path;

use keplordb_disk::{Disk, read_all};
use keplordb_log::frame::{self, End};

/// A time in nanoseconds, and the bytes of its entry.
pub(crate) type Entry = (i64, Vec<u8>);

/// A segment as it lies on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) log: u64,
    pub(crate) number: u64,
    pub(crate) start: i64,
    pub(crate) before: i64,
    /// The entries of each frame.
    pub(crate) batches: Vec<Vec<Entry>>,
    pub(crate) end: End,
    pub(crate) bytes: u64,
}

/// All entries of a log. Panics if its files break a rule that a crash may not break either.
pub(crate) fn entries(disk: &dyn Disk, dir: &Path) -> Vec<Entry> {
    segments(disk, dir).into_iter().flat_map(|segment| segment.batches).flatten().collect()
}

/// All segments of a log, which are checked against each other.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Vec<Segment> {
    let mut names: Vec<String> = match disk.list(dir) {
        Ok(entries) => entries.into_iter().map(|entry| entry.name).collect(),
        Err(_) => Vec::new(),
    };
    names.retain(|name| has_suffix(name, ".segment"));
    let segments: Vec<Segment> = names.iter().map(|name| segment(disk, dir, name)).collect();
    for pair in segments.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert_eq!(one.log, next.log, "two logs");
        assert_eq!(one.number + 1, next.number, "a hole before {}", next.name);
        let last = one.batches.last().unwrap().last().unwrap().0;
        assert_eq!(next.before, last, "{}", next.name);
        assert!(next.start > last);
        assert!(
            matches!(one.end, End::Closed { at, first } if first as i64 == last && at == one.bytes),
            "{} is not closed: {:?}",
            one.name,
            one.end
        );
    }
    segments
}

fn segment(disk: &dyn Disk, dir: &Path, name: &str) -> Segment {
    let bytes = read_all(disk, &dir.join(name), u64::MAX).unwrap();
    assert_eq!(&bytes[..8], b"KEPLOGS\0", "{name}");
    assert_eq!(u32_at(&bytes, 8), 1);
    let mut header = bytes[..64].to_vec();
    header[12..16].fill(0);
    assert_eq!(u32_at(&bytes, 12), crc32fast::hash(&header), "{name}");
    let salt = u64_at(&bytes, 16);
    let (start, before) = (u64_at(&bytes, 40) as i64, u64_at(&bytes, 48) as i64);
    assert_eq!(bytes[56..64], [0; 8]);
    let time = keplordb_log::Timestamp::from_ns(start);
    assert_eq!(name, time.to_string().replace(':', "_") + ".segment");

    let (mut batches, mut slots, mut count, mut last) = (Vec::new(), Vec::new(), 0, before);
    let mut walk = frame::walk(&bytes, 64, salt, 0);
    for frame in walk.by_ref() {
        if slots.last().is_none_or(|slot: &[u64; 3]| frame.offset - slot[1] >= 64 << 10) {
            slots.push([frame.first, frame.offset, count]);
        }
        let batch = batch(frame.payload, frame.first as i64, frame.rows);
        assert!(frame.first as i64 > last || (count == 0 && before == i64::MIN));
        last = batch.last().unwrap().0;
        count += u64::from(frame.rows);
        batches.push(batch);
    }
    assert!(!batches.is_empty(), "{name} has no entry");
    assert_eq!(batches[0][0].0, start, "{name}");
    check_index(disk, &dir.join(name.replace(".segment", ".index")), salt, &slots);
    let (log, number) = (u64_at(&bytes, 24), u64_at(&bytes, 32));
    let (end, bytes) = (walk.end(), bytes.len() as u64);
    Segment { name: name.to_owned(), log, number, start, before, batches, end, bytes }
}

/// The entries of a payload.
fn batch(payload: &[u8], first: i64, count: u32) -> Vec<Entry> {
    let (mut at, mut time, mut entries) = (0, first, Vec::new());
    let number = |at: &mut usize| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = payload[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    for place in 0..count {
        if place > 0 {
            let delta = number(&mut at);
            assert!(delta > 0);
            time = time.checked_add_unsigned(delta).unwrap();
        }
        let length = usize::try_from(number(&mut at)).unwrap();
        entries.push((time, payload[at..at + length].to_vec()));
        at += length;
    }
    assert_eq!(at, payload.len());
    entries
}

/// An index may be missing, and a crash may have lost some of its end; what slots it has must be right.
fn check_index(disk: &dyn Disk, path: &Path, salt: u64, expected: &[[u64; 3]]) {
    let Ok(bytes) = read_all(disk, path, u64::MAX) else { return };
    let is_of_segment = bytes.len() >= 32
        && bytes.starts_with(b"KEPLOGX\0")
        && u64_at(&bytes, 8) == salt
        && u32_at(&bytes, 24) == crc32fast::hash(&bytes[..24]);
    if !is_of_segment {
        return;
    }
    for (number, slot) in bytes[32..].chunks_exact(32).enumerate() {
        let checked = [&salt.to_le_bytes()[..], &(number as u64).to_le_bytes(), &slot[..24]].concat();
        if u32_at(slot, 24) == crc32fast::hash(&checked) && number < expected.len() {
            let found = [u64_at(slot, 0), u64_at(slot, 8), u64_at(slot, 16)];
            assert_eq!(found, expected[number], "slot {number} of {}", path.display());
        }
    }
}

/// Names are in one spelling, whatever the file system.
fn has_suffix(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
