//! Readers against a plain list of entries: every place, both directions, and what happens beneath them.

use std::time::Duration;

use keplordb_disk::Disk;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::made::{Made, Owned, owned};
use crate::{LogError, Reader, Timestamp};

fn at(ns: i64) -> Timestamp {
    Timestamp::from_ns(ns)
}

fn rest(reader: &mut Reader) -> Vec<Owned> {
    std::iter::from_fn(|| reader.next().unwrap().map(owned)).collect()
}

fn rest_back(reader: &mut Reader) -> Vec<Owned> {
    std::iter::from_fn(|| reader.back().unwrap().map(owned)).collect()
}

/// A log is made by these.
#[derive(Debug, Clone)]
enum Step {
    Batch { gap: i64, lengths: Vec<usize> },
    Close,
    Fill(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![4 => 0..40_usize, 1 => 100..3000_usize, 1 => 20_000..90_000_usize];
    let batch = (1..1000_i64, vec(length, 1..12));
    let step = prop_oneof![
        8 => batch.prop_map(|(gap, lengths)| Step::Batch { gap, lengths }),
        2 => Just(Step::Close),
        1 => (0..100_000_u64).prop_map(Step::Fill),
    ];
    vec(step, 0..30)
}

/// What is done to the time indexes.
#[derive(Debug, Clone, Copy)]
enum IndexDamage {
    None,
    Missing,
    Cut(prop::sample::Index),
    Flip(prop::sample::Index),
    /// The index of a segment that was longer: slots that lead nowhere.
    Stale,
}

fn index_damage() -> impl Strategy<Value = IndexDamage> {
    prop_oneof![
        Just(IndexDamage::None),
        Just(IndexDamage::Missing),
        any::<prop::sample::Index>().prop_map(IndexDamage::Cut),
        any::<prop::sample::Index>().prop_map(IndexDamage::Flip),
        Just(IndexDamage::Stale),
    ]
}

fn make(steps: &[Step]) -> Made {
    let mut made = Made::new();
    for step in steps {
        match step {
            Step::Batch { gap, lengths } => {
                let texts: Vec<Vec<u8>> = lengths
                    .iter()
                    .map(|length| {
                        (0..*length)
                            .map(|place| gap.to_le_bytes()[0] ^ (place as u64).to_le_bytes()[0])
                            .collect()
                    })
                    .collect();
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                made.batch(*gap, &texts);
            }
            Step::Close => made.close(),
            Step::Fill(bytes) => made.fill(*bytes),
        }
    }
    made
}

fn damage_indexes(made: &Made, damage: IndexDamage) {
    for (start, _) in made.segments() {
        let path = made.index_path(start);
        let mut bytes = made.bytes_of(&path);
        match damage {
            IndexDamage::None => {}
            IndexDamage::Missing => made.disk.remove(&path).unwrap(),
            IndexDamage::Cut(cut) => made.overwrite(&path, &bytes[..cut.index(bytes.len())]),
            IndexDamage::Flip(place) => {
                let place = place.index(bytes.len());
                bytes[place] ^= 0x10;
                made.overwrite(&path, &bytes);
            }
            IndexDamage::Stale => {
                let number = crate::index::slots_in(bytes.len() as u64);
                let salt = crate::index::IndexHeader::decode(bytes.first_chunk().unwrap()).unwrap().salt;
                let slot = crate::index::Slot { time: at(i64::MAX), offset: 1 << 40, entries: 1 << 40 };
                let stale = [slot.encode(salt, number), slot.encode(salt, number + 1)].concat();
                made.overwrite(&path, &[bytes, stale].concat());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_place_of_a_log_is_found_and_read_both_ways(
        steps in steps(),
        damage in index_damage(),
        places in vec(any::<prop::sample::Index>(), 1..8),
        walk in vec(any::<bool>(), 0..40),
    ) {
        let made = make(&steps);
        damage_indexes(&made, damage);
        let (log, entries) = (made.log(), &made.entries);
        let mut reader = log.reader().unwrap();
        prop_assert_eq!(&rest(&mut reader), entries);
        let mut back = rest_back(&mut reader);
        back.reverse();
        prop_assert_eq!(&back, entries);
        prop_assert_eq!(&rest(&mut reader), entries);
        let last = log.last().unwrap().map(|entry| (entry.time.as_ns(), entry.bytes));
        prop_assert_eq!(last.as_ref(), entries.last());

        for place in places {
            // The time of an entry, and the ones beside it.
            let place = place.index(entries.len() + 1);
            let time = entries.get(place).map_or(i64::MAX, |(time, _)| *time);
            for time in [time, time.saturating_sub(1), time.saturating_add(1)] {
                let mut expected = entries.partition_point(|(found, _)| *found < time);
                reader.seek(at(time)).unwrap();
                for goes_on in &walk {
                    let before = expected.checked_sub(1).map(|before| &entries[before]);
                    if *goes_on {
                        let next = reader.next().unwrap().map(owned);
                        prop_assert_eq!(next.as_ref(), entries.get(expected));
                        expected = (expected + 1).min(entries.len());
                    } else {
                        let found = reader.back().unwrap().map(owned);
                        prop_assert_eq!(found.as_ref(), before);
                        expected = expected.saturating_sub(1);
                    }
                }
                prop_assert_eq!(&rest(&mut reader), &entries[expected..]);
            }
        }
    }

    /// The reader is at the end after each step, and sees exactly what the next one brings.
    #[test]
    fn a_reader_at_the_end_goes_on(steps in steps()) {
        let mut made = Made::new();
        let log = made.log();
        let (mut first, mut newest) = (log.reader().unwrap(), log.newest().unwrap());
        let mut later = log.from(at(1_010_000)).unwrap();
        for step in &steps {
            let before = made.entries.len();
            match step {
                Step::Batch { gap, lengths } => {
                    let texts: Vec<Vec<u8>> = lengths.iter().map(|length| vec![7; *length]).collect();
                    made.batch(*gap, &texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
                }
                Step::Close => made.close(),
                Step::Fill(bytes) => made.fill(*bytes),
            }
            let new = &made.entries[before..];
            prop_assert_eq!(first.wait(Duration::ZERO).unwrap(), !new.is_empty());
            prop_assert_eq!(&rest(&mut first), new);
            prop_assert_eq!(&rest(&mut newest), new);
            let due: Vec<Owned> = new.iter().filter(|(time, _)| *time >= 1_010_000).cloned().collect();
            prop_assert_eq!(rest(&mut later), due);
        }
    }
}

/// Three segments of a few frames; the last is not closed.
fn small() -> Made {
    let mut made = Made::new();
    for number in 0..8_u8 {
        made.batch(10, &[&[number; 3], b"", &[number; 20]]);
        if number % 3 == 2 {
            made.close();
        }
    }
    made
}

/// What can be read, and the error that ends it, if one does.
fn read_out(made: &Made) -> (Vec<Owned>, Option<LogError>) {
    let mut read = Vec::new();
    let mut reader = match made.log().reader() {
        Ok(reader) => reader,
        Err(error) => return (read, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(entry)) => read.push(owned(entry)),
            Ok(None) => return (read, None),
            Err(error) => {
                assert_eq!(reader.next().unwrap_err().to_string(), error.to_string(), "an error stays");
                return (read, Some(error));
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_damage_or_torn_and_never_a_wrong_entry() {
    let made = small();
    let segments = made.segments();
    let last_frame = made.bytes_of(&segments[2].1).len() - (32 + 32);
    for (number, (_, path)) in segments.iter().enumerate() {
        let whole = made.bytes_of(path);
        for place in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] ^= flip;
                made.overwrite(path, &damaged);
                let (read, error) = read_out(&made);
                assert_eq!(read, made.entries[..read.len()], "{number}, byte {place}");
                match error {
                    None => assert!(number == 2 && place >= last_frame, "{number}, byte {place}"),
                    Some(LogError::Corrupt { file, offset, .. }) => {
                        assert!(
                            &file == path && offset <= place as u64 && offset + 80 > place as u64,
                            "{offset}, {place}"
                        );
                    }
                    Some(LogError::TooNew { file, .. }) => assert!(&file == path && (8..12).contains(&place)),
                    Some(error) => panic!("{number}, byte {place}: {error}"),
                }
                // From the end: never a wrong entry, and none is passed over but what may be torn.
                if let Ok(mut reader) = made.log().newest() {
                    let mut before = None;
                    while let Ok(Some(entry)) = reader.back() {
                        let entry = owned(entry);
                        let found = made.entries.iter().position(|other| *other == entry).unwrap();
                        let follows = before.map_or(found >= 20, |before| found + 1 == before);
                        assert!(follows, "{number}, byte {place}: {found} before {before:?}");
                        before = Some(found);
                    }
                }
                for (time, _) in made.entries.iter().step_by(4) {
                    if let Ok(mut reader) = made.log().from(at(*time))
                        && let Ok(Some(entry)) = reader.next()
                    {
                        assert!(made.entries.contains(&owned(entry)), "{number}, byte {place}");
                    }
                }
            }
        }
        made.overwrite(path, &whole);
    }
    assert_eq!(read_out(&made).0, made.entries);
}

#[test]
fn every_cut_is_damage_or_torn_and_never_a_wrong_entry() {
    let made = small();
    let segments = made.segments();
    for (number, (_, path)) in segments.iter().enumerate() {
        let whole = made.bytes_of(path);
        for length in 0..whole.len() {
            for zeros in [0, 100] {
                let mut cut = whole[..length].to_vec();
                cut.resize(length + zeros, 0);
                made.overwrite(path, &cut);
                let (read, error) = read_out(&made);
                assert_eq!(read, made.entries[..read.len()], "{number}, {length} bytes");
                // A closed segment may not be cut, and header and first frame never. What another cut of the last leaves is
                // torn, or whole. Some bytes that were cut away were zeros.
                let may_be_cut = number == 2 && length >= 128;
                let is_whole = cut.starts_with(&whole) || number == 2 && cut.starts_with(&whole[..128]);
                assert_eq!(error.is_none(), may_be_cut || is_whole, "{number}, {length} bytes: {error:?}");
            }
        }
        made.overwrite(path, &whole);
    }
}

#[test]
fn zeros_where_frames_were_synced_are_damage() {
    let mut made = small();
    let path = made.segments()[2].1.clone();
    let mut reader = made.log().reader().unwrap();
    assert_eq!(rest(&mut reader).len(), 24);
    // Far more than is looked at without suspicion.
    made.batch(10, &[&vec![9; 300_000]]);
    made.batch(10, &[b"behind"]);
    let whole = made.bytes_of(&path);
    let begin = 64 + 2 * (32 + 32);
    made.overwrite(&path, &[&whole[..begin], &vec![0; 300_000 + 40], &whole[begin + 300_040..]].concat());
    let (read, error) = read_out(&made);
    assert_eq!(read, made.entries[..24]);
    assert!(matches!(error, Some(LogError::Corrupt { offset, .. }) if offset == begin as u64), "{error:?}");
    // Who waits there has looked a moment ago, and does so again.
    assert!(matches!(reader.wait(Duration::from_secs(10)), Err(LogError::Corrupt { .. })));
}

/// As a writer's recovery does it: a copy takes the file's name, and only that grows.
#[test]
fn a_replaced_file_is_read_on() {
    let mut made = small();
    let path = made.segments()[2].1.clone();
    let mut reader = made.log().reader().unwrap();
    assert_eq!(rest(&mut reader), made.entries);
    let copy = made.dir.join("copy.tmp");
    made.disk.create(&copy).unwrap().write_at(&made.bytes_of(&path), 0).unwrap();
    made.disk.rename(&copy, &path).unwrap();
    assert!(reader.next().unwrap().is_none());
    made.batch(10, &[b"more"]);
    assert_eq!(rest(&mut reader), made.entries[24..]);
    // Replaced, grown, closed, and followed by others, all unseen.
    made.disk.create(&copy).unwrap().write_at(&made.bytes_of(&path), 0).unwrap();
    made.disk.rename(&copy, &path).unwrap();
    made.batch(10, &[b"and more"]);
    made.close();
    made.batch(10, &[b"and another"]);
    assert_eq!(rest(&mut reader), made.entries[25..]);
    // Replaced, grown, closed and removed: what it got meanwhile is lost for this reader, which says so.
    let (start, path) = made.segments()[3].clone();
    made.disk.create(&copy).unwrap().write_at(&made.bytes_of(&path), 0).unwrap();
    made.disk.rename(&copy, &path).unwrap();
    made.batch(10, &[b"lost"]);
    made.close();
    made.batch(10, &[b"last"]);
    for (_, path) in &made.segments()[..4] {
        made.disk.remove(path).unwrap();
    }
    let gap = reader.next().unwrap_err();
    assert!(matches!(gap, LogError::Gap { after, .. } if after == Some(start)), "{gap}");
    assert_eq!(rest(&mut reader), made.entries[28..]);
}

#[test]
fn a_missing_segment_is_said_and_a_removed_one_is_a_gap() {
    let made = small();
    let [first, second, third] = made.segments().try_into().unwrap();
    let mut early = made.log().reader().unwrap();
    let head = owned(early.next().unwrap().unwrap());
    let mut waiting = made.log().reader().unwrap();
    made.disk.remove(&second.1).unwrap();

    // The first is there, so the second is missing, from both sides.
    let (read, error) = read_out(&made);
    assert_eq!(read, made.entries[..9]);
    assert!(matches!(error, Some(LogError::Missing { before, .. }) if before == third.0), "{error:?}");
    let mut newest = made.log().newest().unwrap();
    assert_eq!(owned(newest.back().unwrap().unwrap()), made.entries[23]);
    for _ in 0..5 {
        newest.back().unwrap().unwrap();
    }
    assert!(matches!(newest.back().unwrap_err(), LogError::Missing { .. }));

    // Without the first, they were removed in order. Who has it open reads it to its end.
    made.disk.remove(&first.1).unwrap();
    assert_eq!(read_out(&made).0, made.entries[18..]);
    for (reader, read) in [(&mut early, vec![head]), (&mut waiting, vec![])] {
        let mut read: Vec<Owned> = read;
        let gap = loop {
            match reader.next() {
                Ok(entry) => read.push(owned(entry.unwrap())),
                Err(error) => break error,
            }
        };
        assert_eq!(read, made.entries[..9]);
        let LogError::Gap { after, before } = gap else { panic!("{gap}") };
        assert_eq!((after, before), (Some(at(made.entries[8].0)), third.0));
        assert_eq!(rest(reader), made.entries[18..]);
    }
}

/// What was removed is no gap for who had read all of it, or seeks something later.
#[test]
fn no_gap_is_said_where_nothing_was_missed() {
    let mut made = small();
    let third = made.segments()[2].clone();
    let mut newest = made.log().newest().unwrap();
    let mut first = made.log().reader().unwrap();
    let mut future = made.log().from(at(made.entries[23].0 + 15)).unwrap();
    first.next().unwrap();
    // Recovered by another writer, closed with the next batch, and removed with all before it.
    let copy = made.dir.join("copy.tmp");
    made.disk.create(&copy).unwrap().write_at(&made.bytes_of(&third.1), 0).unwrap();
    made.disk.rename(&copy, &third.1).unwrap();
    made.close();
    made.batch(10, &[b"new"]);
    for (_, path) in &made.segments()[..3] {
        made.disk.remove(path).unwrap();
    }
    assert_eq!(rest(&mut newest), made.entries[24..]);
    made.batch(10, &[b"newer"]);
    assert_eq!(rest(&mut future), made.entries[25..]);
    while matches!(first.next(), Ok(Some(_))) {}
    assert_eq!(rest(&mut first), made.entries[24..], "behind the gap");

    // An empty log, whose first segments come and go unseen.
    let mut made = Made::new();
    let (mut all, mut later) = (made.log().reader().unwrap(), made.log().from(at(1_000_025)).unwrap());
    made.batch(10, &[b"one", b"two"]);
    made.close();
    made.batch(10, &[b"three"]);
    made.disk.remove(&made.segments()[0].1).unwrap();
    assert!(matches!(all.next(), Err(LogError::Gap { after: None, .. })));
    assert_eq!(rest(&mut all), made.entries[2..]);
    assert_eq!(rest(&mut later), made.entries[2..]);
}

/// One segment of 500 entries of 1000 bytes, a frame each, and where the frames begin.
fn long() -> (Made, std::path::PathBuf, Vec<usize>) {
    let mut made = Made::new();
    for number in 0..500_u32 {
        made.batch(10, &[&number.to_le_bytes().repeat(250)]);
    }
    let path = made.segments()[0].1.clone();
    let frame_bytes = (made.bytes_of(&path).len() - 64) / 500;
    let places = (0..500).map(|number| 64 + number * frame_bytes).collect();
    (made, path, places)
}

fn is_corrupt_at<T: std::fmt::Debug>(result: &Result<T, LogError>, place: usize) -> bool {
    matches!(result, Err(LogError::Corrupt { offset, .. }) if *offset == place as u64)
}

/// Entries are read back until damage, where the error stays; none is passed over.
#[test]
fn damage_in_synced_frames_is_said_backwards_too() {
    let (made, path, places) = long();
    let whole = made.bytes_of(&path);
    let index = made.index_path(made.segments()[0].0);
    let index_bytes = made.bytes_of(&index);
    for has_index in [true, false] {
        made.overwrite(&index, if has_index { &index_bytes } else { &[] });
        for (frame, byte) in [(10, 5), (100, 5), (100, 500), (250, 17), (480, 5), (498, 5), (498, 500)] {
            let mut damaged = whole.clone();
            damaged[places[frame] + byte] ^= 1;
            made.overwrite(&path, &damaged);
            let what = format!("frame {frame}, byte {byte}, index {has_index}");
            let mut reader = match made.log().newest() {
                Ok(reader) => reader,
                Err(error) => {
                    assert!(is_corrupt_at(&Err::<(), _>(error), places[frame]), "{what}");
                    assert!(is_corrupt_at(&made.log().last(), places[frame]), "{what}");
                    continue;
                }
            };
            let mut expected = made.entries.iter().rev();
            let error = loop {
                match reader.back() {
                    Ok(entry) => assert_eq!(entry.map(owned).as_ref(), expected.next(), "{what}"),
                    Err(error) => break Err::<(), _>(error),
                }
            };
            assert!(expected.len() > frame, "{what}");
            assert!(is_corrupt_at(&error, places[frame]), "{what}: {error:?}");
            for _ in 0..3 {
                assert!(is_corrupt_at(&reader.back().map(|entry| entry.map(owned)), places[frame]), "{what}");
            }
            // It stands where it stood.
            assert_eq!(
                reader.next().unwrap().map(owned).as_ref(),
                made.entries.get(expected.len()),
                "{what}"
            );
        }
    }
}

/// From the segment behind, and from the end: what lies behind the damage comes first, with an index and without.
#[test]
fn damage_in_a_closed_segment_is_said_backwards_behind_what_follows_it() {
    let mut made = Made::new();
    for number in 0..20_u8 {
        made.batch(10, &[&[number; 10_000]]);
    }
    made.close();
    let (start, path) = made.segments()[0].clone();
    let (whole, slots) = (made.bytes_of(&path), made.bytes_of(&made.index_path(start)));
    let frame_bytes = (whole.len() - 64 - 32) / 20;
    for is_followed in [false, true] {
        if is_followed {
            made.batch(10, &[b"next"]);
        }
        for (frame, byte, has_index) in
            [(6, 3, false), (6, 3, true), (18, 3, true), (19, 3, false), (19, 500, true), (1, 500, false)]
        {
            let place = 64 + frame * frame_bytes;
            let mut damaged = whole.clone();
            damaged[place + byte] ^= 1;
            made.overwrite(&path, &damaged);
            made.overwrite(&made.index_path(start), if has_index { &slots } else { &[] });
            let what = format!("frame {frame}, byte {byte}, index {has_index}, followed {is_followed}");
            let mut reader = made.log().newest().unwrap_or_else(|error| panic!("{what}: {error}"));
            for expected in made.entries[frame + 1..].iter().rev() {
                let back = reader.back().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(back.map(owned).as_ref(), Some(expected), "{what}");
            }
            for _ in 0..2 {
                assert!(is_corrupt_at(&reader.back().map(|entry| entry.map(owned)), place), "{what}");
            }
            assert_eq!(rest(&mut reader), made.entries[frame + 1..], "{what}");
        }
    }
}

/// A closed writer has noted how much is synced, so that a cut at a frame's end is no clean end.
#[test]
fn a_synced_frame_that_was_cut_off_is_said_from_the_end() {
    let (made, path, places) = long();
    let start = made.segments()[0].0;
    let whole = made.bytes_of(&path);
    let salt =
        crate::index::IndexHeader::decode(made.bytes_of(&made.index_path(start)).first_chunk().unwrap());
    let header = crate::index::IndexHeader { salt: salt.unwrap().salt, synced_bytes: whole.len() as u64 };
    made.disk.open(&made.index_path(start)).unwrap().write_at(&header.encode(), 0).unwrap();
    assert_eq!(made.log().last().unwrap().unwrap().time, at(made.entries[499].0));
    made.overwrite(&path, &whole[..places[499]]);
    assert!(is_corrupt_at(&made.log().last(), places[499]));
}

/// What nothing proves was torn by a power cut, also if frames behind it survived: they are not of the log.
#[test]
fn a_torn_frame_ends_the_log_backwards_too() {
    let mut made = Made::new();
    made.is_synced = false;
    for number in 0..200_u32 {
        made.batch(10, &[&number.to_le_bytes().repeat(250)]);
    }
    let path = made.segments()[0].1.clone();
    let mut torn = made.bytes_of(&path);
    let frame_bytes = (torn.len() - 64) / 200;
    torn[64 + 100 * frame_bytes + 5] ^= 1;
    made.overwrite(&path, &torn);
    let mut reader = made.log().from(at(made.entries[150].0)).unwrap();
    let back = rest_back(&mut reader);
    assert!(back.ends_with(&made.entries[..100].iter().rev().cloned().collect::<Vec<_>>()));
    assert_eq!(rest(&mut reader), made.entries[..100]);
}

/// An index that ends early makes no read as long as the segment.
#[test]
fn a_short_index_costs_no_memory() {
    let mut made = Made::new();
    for _ in 0..4000 {
        made.batch(10, &[&[7; 2000]]);
    }
    let index = made.index_path(made.segments()[0].0);
    for slots in [3, 1, 0] {
        made.disk.open(&index).unwrap().truncate(crate::index::slot_offset(slots)).unwrap();
        let mut reader = made.log().newest().unwrap();
        for expected in made.entries.iter().rev() {
            assert_eq!(reader.back().unwrap().map(owned).as_ref(), Some(expected));
            assert!(reader.memory_bytes() < 1 << 20, "{slots} slots: {} bytes", reader.memory_bytes());
        }
        assert!(reader.back().unwrap().is_none());
    }
}

/// A look that failed does not make a reader forget what it was to read from.
#[test]
fn a_sought_time_outlives_an_error() {
    let mut made = Made::new();
    let mut reader = made.log().from(at(1_000_020)).unwrap();
    made.batch(10, &[b"before", b"sought"]);
    let path = made.segments()[0].1.clone();
    let whole = made.bytes_of(&path);
    made.overwrite(&path, &[]);
    assert!(reader.next().is_err());
    made.overwrite(&path, &whole);
    assert_eq!(rest(&mut reader), made.entries[1..]);
}

/// Frames of which some have a damaged header, as a reader should see them that seeks any time.
struct Twin<'a> {
    /// Where each frame begins, its entries, and whether its header is damaged.
    frames: Vec<(usize, &'a [Owned], bool)>,
    /// Whether a closing frame says of what time the last entry was.
    is_closed: bool,
}

impl Twin<'_> {
    /// Whether a frame or a segment behind this one proves that it was whole: else it is torn.
    fn is_proved(&self, offset: usize) -> bool {
        self.is_closed || self.frames.iter().any(|(later, _, is_damaged)| *later > offset && !is_damaged)
    }

    /// The first entry at or after `time`; an error is where a damaged frame may have it.
    fn first_after(&self, time: i64) -> Result<Option<&Owned>, usize> {
        let mut damaged = None;
        for (offset, entries, is_damaged) in &self.frames {
            if *is_damaged {
                damaged = damaged.or(Some(*offset));
                continue;
            }
            if damaged.is_some_and(|_| entries[0].0 <= time) {
                damaged = None;
            }
            if let Some(found) = entries.iter().find(|(found, _)| *found >= time) {
                return damaged.map_or(Ok(Some(found)), Err);
            }
        }
        let is_known_later =
            self.is_closed && self.frames.last().is_some_and(|(_, last, _)| last.last().unwrap().0 < time);
        damaged.filter(|_| !is_known_later).map_or(Ok(None), Err)
    }
}

/// A segment of frames of three entries between two others, whether that has an index, and where its frames begin.
fn sandwiched(frames: u32, text_bytes: usize, is_closed: bool) -> (Made, Vec<usize>) {
    let mut made = Made::new();
    made.batch(10, &[b"before"]);
    made.close();
    for number in 0..frames {
        made.batch(10, &[&vec![number.to_le_bytes()[0]; text_bytes], b"", b"third"]);
    }
    let path = made.segments()[1].1.clone();
    let frame_bytes = (made.bytes_of(&path).len() - 64) / frames as usize;
    if is_closed {
        made.close();
        made.batch(10, &[b"after"]);
    } else {
        made.fill(100_000);
    }
    (made, (0..frames as usize).map(|number| 64 + number * frame_bytes).collect())
}

/// Every time is sought in a segment with these frames' headers damaged, and read on from there.
fn check_seeks(
    made: &Made,
    places: &[usize],
    is_damaged: impl Fn(usize) -> bool,
    is_closed: bool,
    what: &str,
) {
    let path = made.segments()[1].1.clone();
    let whole = made.bytes_of(&path);
    let mut bytes = whole.clone();
    for (frame, place) in places.iter().enumerate() {
        if is_damaged(frame) {
            // Some are flipped, some are lost with what is around them.
            if frame % 2 == 0 { bytes[place + 9] ^= 1 } else { bytes[*place..place + 40].fill(0) }
        }
    }
    made.overwrite(&path, &bytes);
    let frames = (0..places.len())
        .map(|frame| (places[frame], &made.entries[1 + 3 * frame..][..3], is_damaged(frame)));
    let twin = Twin { frames: frames.collect(), is_closed };
    let behind = made.entries.get(1 + 3 * places.len()).filter(|_| is_closed);
    // It counts what `verify` can read, too.
    let whole_frames = twin.frames.iter().filter(|(_, _, is_damaged)| !is_damaged).count() as u64;
    assert_eq!(made.log().verify().unwrap().entries, 3 * whole_frames + 1 + u64::from(is_closed), "{what}");
    let mut reader = made.log().newest().or_else(|_| made.log().from(at(0))).unwrap();
    for (time, _) in &made.entries[1..] {
        for time in [*time, time + 1] {
            let sought = reader.seek(at(time)).and_then(|()| Ok(reader.next()?.map(owned)));
            match twin.first_after(time) {
                Ok(Some(expected)) if time <= made.entries[3 * places.len()].0 => {
                    assert_eq!(sought.unwrap().as_ref(), Some(expected), "{what}, {time}");
                    // It reads on to the next damage, and says so.
                    let frame =
                        twin.frames.iter().position(|(_, entries, _)| entries.contains(expected)).unwrap();
                    let left = twin.frames[frame..].iter().take_while(|(_, _, is_damaged)| !is_damaged);
                    let left: Vec<&Owned> = left
                        .flat_map(|(_, entries, _)| *entries)
                        .filter(|entry| entry.0 > expected.0)
                        .collect();
                    for expected in &left {
                        assert_eq!(
                            reader.next().unwrap().map(owned).as_ref(),
                            Some(*expected),
                            "{what}, {time}"
                        );
                    }
                    let next = reader.next().map(|entry| entry.map(owned));
                    match twin.frames[frame..].iter().find(|(_, _, is_damaged)| *is_damaged) {
                        Some((offset, _, _)) if twin.is_proved(*offset) => {
                            assert!(is_corrupt_at(&next, *offset), "{what}, {time}: {next:?}");
                        }
                        _ => assert_eq!(next.unwrap().as_ref(), behind, "{what}, {time}"),
                    }
                    // And back to the damage before.
                    reader.seek(at(expected.0)).unwrap();
                    let before =
                        twin.frames[..=frame].iter().rev().take_while(|(_, _, is_damaged)| !is_damaged);
                    for expected in before
                        .flat_map(|(_, entries, _)| entries.iter().rev())
                        .filter(|entry| entry.0 < expected.0)
                    {
                        assert_eq!(
                            reader.back().unwrap().map(owned).as_ref(),
                            Some(expected),
                            "{what}, {time}, back"
                        );
                    }
                    let back = reader.back().map(|entry| entry.map(owned));
                    match twin.frames[..frame].iter().rfind(|(_, _, is_damaged)| *is_damaged) {
                        Some(_) => {
                            assert!(
                                matches!(back, Err(LogError::Corrupt { .. })),
                                "{what}, {time}: {back:?}"
                            );
                        }
                        None => {
                            assert_eq!(back.unwrap().as_ref(), made.entries.first(), "{what}, {time}, back");
                        }
                    }
                }
                Err(place) if twin.is_proved(place) => {
                    assert!(is_corrupt_at(&sought, place), "{what}, {time}: {sought:?}, not {place}");
                }
                _ => assert_eq!(
                    sought.unwrap().as_ref(),
                    behind.filter(|(first, _)| *first >= time),
                    "{what}, {time}"
                ),
            }
        }
    }
    made.overwrite(&path, &whole);
}

/// What lies behind a damaged header is found by its time, with an index and without.
#[test]
fn a_seek_finds_what_lies_behind_damaged_headers() {
    for is_closed in [true, false] {
        for (frames, text_bytes) in [(7, 20), (12, 30_000)] {
            let (made, places) = sandwiched(frames, text_bytes, is_closed);
            let index = made.index_path(made.segments()[1].0);
            let slots = made.bytes_of(&index);
            let mut torn = slots.clone();
            *torn.last_mut().unwrap() ^= 1;
            for (index_is, index_bytes) in [("whole", &slots[..]), ("torn", &torn), ("missing", &[])] {
                made.overwrite(&index, index_bytes);
                for frame in 0..places.len() {
                    let what = format!("{frame} of {frames}, index {index_is}, closed {is_closed}");
                    check_seeks(&made, &places, |other| other == frame, is_closed, &what);
                    check_seeks(
                        &made,
                        &places,
                        |other| other == frame || other == frame + 1,
                        is_closed,
                        &(what.clone() + ", two"),
                    );
                    check_seeks(
                        &made,
                        &places,
                        |other| other % 3 == frame % 3,
                        is_closed,
                        &(what + ", many"),
                    );
                }
            }
        }
    }
}
