//! What is a frame, what is not, and how a file ends: tables of cases, then every truncation and every bit flip of a
//! small file, then random files.

mod common;

use common::{File, Random};
use keplordb_log::frame::{self, ALIGN_BYTES, End, HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use proptest::prelude::*;

const SALT: u64 = 0x0123_4567_89ab_cdef;

/// Four frames of 11, 8, 300 and 1 bytes behind a header of 64. The first two are synced when the third is written; the
/// fourth was written before anybody synced the third.
fn small_file() -> File {
    let mut file = File::new(SALT, 64);
    file.append(1, b"first frame");
    file.append(2, b"8 bytes!");
    file.sync();
    file.append(300, &Random(3).bytes(300));
    file.append(1, &[0xff]);
    file
}

/// Walks over `bytes` with the file's salt; each frame must be one that was written. Returns their count and the end.
fn read(file: &File, bytes: &[u8], covered: usize) -> (usize, End) {
    let mut walk = frame::walk(bytes, file.start, file.salt, covered as u64);
    let mut count = 0;
    for read in walk.by_ref() {
        let (from, _, payload) = file.frames.get(count).expect("more frames than were written");
        assert_eq!((read.offset, read.payload), (*from as u64, &payload[..]), "a frame nobody wrote");
        assert_eq!(read.first, count as u64);
        count += 1;
    }
    (count, walk.end())
}

/// The start of frame `index`.
fn start_of(file: &File, index: usize) -> u64 {
    file.frames[index].0 as u64
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[test]
fn the_bytes_of_a_frame_are_the_documented_ones() {
    let payload = b"abcde";
    let header = Header { payload_bytes: 5, rows: 3, first: 0x1122_3344_5566_7788, durable_upto: 0x40 };
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(payload);
    frame::pad(&mut bytes);
    frame::write_header(bytes.first_chunk_mut().unwrap(), SALT, frame::payload_crc(payload), &header);

    let mut signed = SALT.to_le_bytes().to_vec();
    signed.extend_from_slice(&bytes[4..32]);
    let mut expected = crc32fast::hash(&signed).to_le_bytes().to_vec();
    expected.extend_from_slice(&0x8587_d865_u32.to_le_bytes()); // CRC-32 of "abcde"
    expected.extend_from_slice(&[5, 0, 0, 0, 3, 0, 0, 0]);
    expected.extend_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    expected.extend_from_slice(&[0x40, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(b"abcde\0\0\0");
    assert_eq!(bytes, expected);
}

#[test]
fn pad_reaches_the_alignment_and_no_further() {
    for (before, after) in [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16), (32, 32), (33, 40)] {
        let mut buffer = vec![1; before];
        frame::pad(&mut buffer);
        assert_eq!(buffer.len(), after);
        assert!(buffer[before..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn an_empty_file_is_clean() {
    for bytes in [&[][..], &[0; 7], &[0; 32], &[0; 64], &[0; 5000]] {
        assert_eq!(frame::walk(bytes, 0, SALT, 0).end(), End::Clean { at: 0 });
    }
    // Shorter than its owner's header: no frames.
    assert_eq!(frame::walk(&[0; 10], 64, SALT, 0).end(), End::Clean { at: 64 });
    assert_eq!(frame::walk(&[1; 10], 64, SALT, 0).end(), End::Clean { at: 64 });
    assert_eq!(frame::walk(&[1; 10], 64, SALT, 80).end(), End::Truncated { at: 64, covered_upto: 80 });
}

#[test]
fn end_walks_over_frames_that_were_not_taken() {
    let file = small_file();
    let at = length(&file.bytes);
    let mut walk = frame::walk(&file.bytes, file.start, SALT, 0);
    assert_eq!(walk.clone().end(), End::Clean { at });
    walk.next();
    assert_eq!(walk.end(), End::Clean { at });
}

#[test]
fn zeros_are_no_frame_even_where_their_checksum_holds() {
    let salt = 0x10dd_5053_0000_0000_u64;
    let mut signed = salt.to_le_bytes().to_vec();
    signed.extend_from_slice(&[0; HEADER_BYTES - 4]);
    assert_eq!(crc32fast::hash(&signed), 0, "this salt makes the header checksum of zeros hold");
    assert_eq!(frame::walk(&[0; 96], 0, salt, 0).end(), End::Clean { at: 0 });
    let mut torn = [0; 96];
    torn[95] = 1;
    assert_eq!(frame::walk(&torn, 0, salt, 0).end(), End::Torn { at: 0, bytes: 96 });
}

#[test]
fn a_closing_frame_ends_a_file() {
    let mut file = small_file();
    file.sync();
    file.close();
    let at = length(&file.bytes);
    assert_eq!(read(&file, &file.bytes, 0), (4, End::Closed { at, first: 4 }));
    assert_eq!(read(&file, &file.bytes, file.bytes.len()), (4, End::Closed { at, first: 4 }));

    let mut tail = file.bytes.clone();
    tail.extend_from_slice(&[0; 100]);
    assert_eq!(read(&file, &tail, 0), (4, End::Closed { at, first: 4 }));

    // Space written ahead that a crash garbled before it was cut off.
    *tail.last_mut().unwrap() = 1;
    assert_eq!(read(&file, &tail, 0), (4, End::Closed { at, first: 4 }));
    assert!(read(&file, &tail, tail.len()).1.is_damage(), "it was synced so");

    let what = "a frame follows the closing frame";
    file.append(1, b"late");
    let covered_upto = length(&file.bytes);
    file.frames.pop();
    assert_eq!(read(&file, &file.bytes, 0), (4, End::Corrupt { at, covered_upto, what }));
}

#[test]
fn after_a_clean_close_every_flipped_bit_is_corruption() {
    let mut file = small_file();
    file.sync();
    file.close();
    let covered = file.bytes.len();
    for bit in file.start * 8..file.bytes.len() * 8 {
        let mut bytes = file.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&file, &bytes, covered).1, End::Corrupt { .. }), "bit {bit}");
        // Even without the manifest, the closing frame covers all before it.
        let own = matches!(read(&file, &bytes, 0).1, End::Corrupt { .. });
        assert_eq!(own, bit / 8 < file.durable, "bit {bit}");
    }
}

#[test]
fn a_file_shorter_than_what_was_synced_is_truncated() {
    let mut file = small_file();
    file.sync();
    for cut in file.start..file.bytes.len() {
        let (count, end) = read(&file, &file.bytes[..cut], file.durable);
        let at = file.frames[..count].last().map_or(file.start, |frame| frame.1) as u64;
        assert_eq!(end, End::Truncated { at, covered_upto: file.durable as u64 }, "cut at {cut}");
    }
}

#[test]
fn every_truncation_yields_the_whole_frames_before_it() {
    let file = small_file();
    for cut in 0..=file.bytes.len() {
        let bytes = &file.bytes[..cut];
        let (count, end) = read(&file, bytes, 0);
        assert_eq!(count, file.frames.iter().filter(|frame| frame.1 <= cut).count(), "cut at {cut}");
        let at = file.frames[..count].last().map_or(file.start, |frame| frame.1);
        let rest = bytes.get(at..).unwrap_or_default();
        let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let at = at as u64;
        let expected = if used == 0 { End::Clean { at } } else { End::Torn { at, bytes: used } };
        assert_eq!(end, expected, "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_ends_the_walk_at_its_frame() {
    let file = small_file();
    for bit in file.start * 8..file.bytes.len() * 8 {
        let mut bytes = file.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hit = file.frames.iter().rposition(|frame| frame.0 <= bit / 8).unwrap();
        let at = start_of(&file, hit);
        match read(&file, &bytes, 0) {
            (count, End::Corrupt { at: found, covered_upto, .. }) => {
                assert_eq!((count, found, covered_upto), (hit, at, file.durable as u64));
                assert!(hit < 2, "bit {bit} of an unsynced frame called corrupt");
            }
            (count, End::Torn { at: found, bytes }) => {
                assert_eq!((count, found), (hit, at));
                // The file's last 7 bytes are padding: zeros, unless the flip hit them.
                assert!((length(&file.bytes) - at - 7..=length(&file.bytes) - at).contains(&bytes));
                assert!(hit >= 2, "bit {bit} of a synced frame called torn");
            }
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn zeroed_bytes_below_the_watermark_are_corrupt_and_above_it_torn() {
    let file = small_file();
    for (index, (from, upto, _)) in file.frames.iter().enumerate() {
        let mut bytes = file.bytes.clone();
        bytes[*from..*upto].fill(0);
        let (count, end) = read(&file, &bytes, 0);
        let at = *from as u64;
        let expected = match index {
            0 | 1 => End::Corrupt {
                at,
                covered_upto: file.durable as u64,
                what: "zeros stand where frames were synced",
            },
            2 => End::Torn { at, bytes: length(&bytes) - at - 7 }, // the last frame ends with 7 bytes of padding
            _ => End::Clean { at },
        };
        assert_eq!((count, end), (index, expected));
    }
}

#[test]
fn what_the_caller_knows_to_be_synced_is_corrupt_when_bad() {
    let file = small_file();
    let covered_upto = length(&file.bytes);
    let at = start_of(&file, 3);
    // The last frame: nothing in the file covers it.
    let mut bytes = file.bytes.clone();
    bytes[file.frames[3].0 + HEADER_BYTES] ^= 1;
    assert_eq!(read(&file, &bytes, 0), (3, End::Torn { at, bytes: 33 }));
    let what = "a payload's checksum does not hold";
    assert_eq!(read(&file, &bytes, file.bytes.len()), (3, End::Corrupt { at, covered_upto, what }));
    // Knowledge that ends before it does not help.
    assert_eq!(read(&file, &bytes, file.frames[3].0), (3, End::Torn { at, bytes: 33 }));
    // All zeros behind what is covered, as after a lost sector.
    bytes[file.frames[3].0..].fill(0);
    let what = "zeros stand where frames were synced";
    assert_eq!(read(&file, &bytes, file.bytes.len()), (3, End::Corrupt { at, covered_upto, what }));
}

#[test]
fn zero_tails_of_any_length_are_clean() {
    let file = small_file();
    let at = length(&file.bytes);
    let mut bytes = file.bytes.clone();
    for _ in 1..=4096 {
        bytes.push(0);
        assert_eq!(read(&file, &bytes, 0), (4, End::Clean { at }));
    }
}

#[test]
fn garbage_tails_are_torn() {
    let file = small_file();
    let at = length(&file.bytes);
    let mut random = Random(5);
    for tail_bytes in 1..=1024 {
        for zeros in [0, 1, 700] {
            let mut bytes = file.bytes.clone();
            bytes.extend_from_slice(&random.bytes(tail_bytes));
            *bytes.last_mut().unwrap() |= 1;
            bytes.resize(bytes.len() + zeros, 0);
            assert_eq!(read(&file, &bytes, 0), (4, End::Torn { at, bytes: tail_bytes }));
        }
    }
}

#[test]
fn each_broken_rule_is_named() {
    // One synced frame with six bytes of padding, covered by the caller, broken in one way each.
    let mut file = File::new(SALT, 0);
    file.append(1, b"ten bytes!");
    let whole = file.bytes.len();
    let resigned = |header: Header, crc: u32| {
        // A writer's bug rather than damage: `write_header` would refuse it, so it is signed by hand.
        let mut bytes = file.bytes.clone();
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&header.payload_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&header.rows.to_le_bytes());
        bytes[24..32].copy_from_slice(&header.durable_upto.to_le_bytes());
        let mut signed = SALT.to_le_bytes().to_vec();
        signed.extend_from_slice(&bytes[4..32]);
        bytes[..4].copy_from_slice(&crc32fast::hash(&signed).to_le_bytes());
        bytes
    };
    let damaged = |at: usize| {
        let mut bytes = file.bytes.clone();
        bytes[at] ^= 0x80;
        bytes
    };
    let good = Header { payload_bytes: 10, rows: 1, first: 0, durable_upto: 0 };
    let crc = frame::payload_crc(b"ten bytes!");
    assert_eq!(resigned(good, crc), file.bytes, "the cases below differ from a good frame in one thing only");

    let cases = [
        (damaged(0), "a header's checksum does not hold"),
        (damaged(31), "a header's checksum does not hold"),
        (
            resigned(Header { rows: 0, ..good }, crc),
            "a header has rows without payload, or payload without rows",
        ),
        (
            resigned(Header { payload_bytes: 0, ..good }, crc),
            "a header has rows without payload, or payload without rows",
        ),
        (
            resigned(Header { payload_bytes: MAX_PAYLOAD_BYTES + 1, ..good }, crc),
            "a payload is longer than any writer's limit",
        ),
        (resigned(Header { durable_upto: 4, ..good }, crc), "a watermark lies inside a frame"),
        (resigned(Header { durable_upto: 8, ..good }, crc), "a watermark lies beyond its own frame"),
        (resigned(Header { payload_bytes: 17, ..good }, crc), "a frame reaches beyond the end of the file"),
        (
            resigned(Header { payload_bytes: MAX_PAYLOAD_BYTES, ..good }, crc),
            "a frame reaches beyond the end of the file",
        ),
        (resigned(good, crc ^ 1), "a payload's checksum does not hold"),
        (damaged(HEADER_BYTES), "a payload's checksum does not hold"),
        (damaged(whole - 1), "the padding behind a payload is not zero"),
    ];
    for (bytes, what) in cases {
        assert_eq!(read(&file, &bytes, whole), (0, End::Corrupt { at: 0, covered_upto: whole as u64, what }));
        assert!(matches!(read(&file, &bytes, 0), (0, End::Torn { at: 0, .. })), "{what}");
    }
    // Damage to the start of a file too short for a header.
    let what = "the file ends inside a header";
    let short = [1; 31];
    assert_eq!(read(&file, &short, 31), (0, End::Corrupt { at: 0, covered_upto: 31, what }));
}

#[test]
fn frames_of_another_file_are_not_believed() {
    let mut other = File::new(SALT ^ 1, 64);
    other.append(1, b"another file's frame");
    other.sync();
    other.append(1, b"and one whose watermark covers much");

    // Stale blocks behind the end.
    let mut file = small_file();
    let at = length(&file.bytes);
    file.bytes.extend_from_slice(&other.bytes[64..]);
    assert!(matches!(read(&file, &file.bytes, 0), (4, End::Torn { at: found, .. }) if found == at));

    // A whole file read with the wrong salt.
    assert!(matches!(frame::walk(&other.bytes, 64, SALT, 0).end(), End::Torn { at: 64, .. }));
}

#[test]
fn a_frame_forged_inside_a_payload_is_not_believed() {
    let forged = |salt| {
        let mut inner = File::new(salt, 0);
        let header = Header { payload_bytes: 8, rows: 1, first: 9, durable_upto: 72 };
        inner.append(1, b"believe!");
        let crc = frame::payload_crc(b"believe!");
        frame::write_header(inner.bytes.first_chunk_mut().unwrap(), salt, crc, &header);
        inner.bytes
    };
    let with_payload = |payload: &[u8]| {
        let mut file = File::new(SALT, 64);
        file.append(1, payload);
        file
    };

    // Its author does not know the salt: wherever the frame around it is damaged, the inner one counts for nothing.
    let file = with_payload(&forged(SALT + 1));
    for byte in 64..file.bytes.len() {
        let mut bytes = file.bytes.clone();
        bytes[byte] ^= 4;
        let torn = End::Torn { at: 64, bytes: length(&bytes) - 64 };
        assert_eq!(read(&file, &bytes, 0), (0, torn), "byte {byte}");
    }

    // With the right salt it still counts for nothing while the outer header holds …
    let file = with_payload(&forged(SALT));
    let mut bytes = file.bytes.clone();
    bytes[file.bytes.len() - 1] ^= 4;
    assert!(matches!(read(&file, &bytes, 0), (0, End::Torn { at: 64, .. })));
    // … and this is the case that the salt is there for: the same bytes, believed once the author knows it.
    bytes[64] ^= 4;
    assert!(matches!(read(&file, &bytes, 0), (0, End::Corrupt { at: 64, covered_upto: 72, .. })));
}

#[test]
fn a_later_frame_that_is_torn_itself_still_covers() {
    // Its header was written whole, so its watermark was true, whatever became of its payload.
    let mut file = small_file();
    let (from, _, _) = file.frames[2];
    file.bytes.truncate(from + HEADER_BYTES);
    file.bytes[64] ^= 1;
    assert!(matches!(read(&file, &file.bytes, 0), (0, End::Corrupt { at: 64, .. })));
    // One byte less of that header, and nothing covers.
    file.bytes.pop();
    assert!(matches!(read(&file, &file.bytes, 0), (0, End::Torn { at: 64, .. })));
}

#[test]
fn a_later_header_that_contradicts_itself_does_not_cover() {
    let mut file = small_file();
    file.bytes[64] ^= 1;
    let (from, _, _) = file.frames[2];
    assert!(matches!(read(&file, &file.bytes, 0), (0, End::Corrupt { .. })));
    // No writer makes rows without payload; this one is signed by hand.
    file.bytes[from + 8..from + 12].fill(0);
    let mut signed = SALT.to_le_bytes().to_vec();
    signed.extend_from_slice(&file.bytes[from + 4..from + HEADER_BYTES]);
    file.bytes[from..from + 4].copy_from_slice(&crc32fast::hash(&signed).to_le_bytes());
    // The fourth frame's watermark is the same, and takes its place as long as it is there.
    assert!(matches!(read(&file, &file.bytes, 0), (0, End::Corrupt { .. })));
    let upto = file.frames[3].0;
    assert!(matches!(read(&file, &file.bytes[..upto], 0), (0, End::Torn { .. })));
}

#[test]
fn the_larger_of_watermark_and_callers_knowledge_is_reported() {
    let mut file = small_file();
    file.bytes[64] ^= 1;
    for covered in [0, 64, file.durable, file.durable + 8, file.bytes.len()] {
        let (_, end) = read(&file, &file.bytes, covered);
        let expected = covered.max(file.durable) as u64;
        assert!(matches!(end, End::Corrupt { covered_upto, .. } if covered_upto == expected), "{end:?}");
    }
}

#[test]
fn a_watermark_covers_only_what_is_below_it() {
    // The last header says 64 + 88 bytes are synced; the frame that begins just there is not covered.
    let file = small_file();
    assert_eq!(start_of(&file, 2), file.durable as u64);
    let mut bytes = file.bytes.clone();
    bytes[file.durable] ^= 1;
    assert!(matches!(read(&file, &bytes, 0), (2, End::Torn { .. })));
    bytes[file.durable - 1] ^= 1;
    assert!(matches!(read(&file, &bytes, 0), (1, End::Corrupt { .. })));
}

#[test]
fn end_tells_its_place_and_whether_it_is_damage() {
    let cases = [
        (End::Clean { at: 8 }, false),
        (End::Closed { at: 8, first: 1 }, false),
        (End::Torn { at: 8, bytes: 1 }, false),
        (End::Corrupt { at: 8, covered_upto: 16, what: "" }, true),
        (End::Truncated { at: 8, covered_upto: 16 }, true),
    ];
    for (end, damage) in cases {
        assert_eq!((end.at(), end.is_damage()), (8, damage));
    }
}

#[test]
#[should_panic(expected = "frames start at multiples of 8 bytes, not at 12")]
fn a_walk_from_an_unaligned_start_panics() {
    let _ = frame::walk(&[], 12, SALT, 0);
}

#[test]
#[should_panic(expected = "frames end at multiples of 8 bytes, not at 12")]
fn going_on_from_an_unaligned_place_panics() {
    let _ = frame::walk_from(&[], 12, SALT, 0);
}

#[test]
#[should_panic(expected = "a payload is longer than any writer's limit")]
fn a_payload_above_the_limit_is_not_written() {
    let header = Header { payload_bytes: MAX_PAYLOAD_BYTES + 1, rows: 1, first: 0, durable_upto: 0 };
    frame::write_header(&mut [0; HEADER_BYTES], SALT, 0, &header);
}

#[test]
#[should_panic(expected = "payload without rows")]
fn a_payload_without_rows_is_not_written() {
    let header = Header { payload_bytes: 1, rows: 0, first: 0, durable_upto: 0 };
    frame::write_header(&mut [0; HEADER_BYTES], SALT, 0, &header);
}

#[test]
#[should_panic(expected = "a watermark lies inside a frame")]
fn an_unaligned_watermark_is_not_written() {
    frame::closing(SALT, 0, 12);
}

/// Batches of a file: rows, payload, and whether a sync follows.
fn batches() -> impl Strategy<Value = Vec<(u32, Vec<u8>, bool)>> {
    prop::collection::vec((1..=u32::MAX, prop::collection::vec(any::<u8>(), 1..200), any::<bool>()), 0..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        salt: u64, start in 0usize..10, batches in batches(), close: bool, zeros in 0usize..100,
    ) {
        let mut file = File::new(salt, start * ALIGN_BYTES);
        let mut watermarks = Vec::new();
        for (rows, payload, sync) in &batches {
            watermarks.push(file.durable as u64);
            file.append(*rows, payload);
            if *sync {
                file.sync();
            }
        }
        if close {
            file.close();
        }
        let at = length(&file.bytes);
        file.bytes.resize(file.bytes.len() + zeros, 0);
        let mut walk = frame::walk(&file.bytes, file.start, salt, file.durable as u64);
        for (((rows, payload, _), durable_upto), (from, _, _)) in batches.iter().zip(watermarks).zip(&file.frames) {
            let read = walk.next().expect("a frame that was written");
            prop_assert_eq!((read.rows, read.payload), (*rows, &payload[..]));
            prop_assert_eq!((read.durable_upto, read.offset), (durable_upto, *from as u64));
        }
        prop_assert_eq!(walk.next(), None);
        let first = batches.len() as u64;
        prop_assert_eq!(walk.end(), if close { End::Closed { at, first } } else { End::Clean { at } });
    }

    #[test]
    fn any_bytes_are_walked_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..500), start in 0usize..80, salt: u64, covered: u64,
    ) {
        let end = frame::walk(&bytes, start * ALIGN_BYTES, salt, covered).end();
        prop_assert_eq!(end.at(), start as u64 * 8);
        if covered > bytes.len() as u64 {
            let truncated = matches!(end, End::Truncated { .. });
            prop_assert!(truncated);
        }
    }

    #[test]
    fn damage_anywhere_never_yields_a_frame_nobody_wrote(
        batches in batches(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut file = File::new(SALT, 8);
        for (rows, payload, sync) in &batches {
            file.append(*rows, payload);
            if *sync {
                file.sync();
            }
        }
        let mut bytes = file.bytes.clone();
        for (index, value) in &damage {
            *index.get_mut(&mut bytes) = *value;
        }
        let first_change =
            (8..bytes.len()).find(|&at| bytes[at] != file.bytes[at]).unwrap_or(file.bytes.len());
        let whole = file.frames.iter().filter(|frame| frame.1 <= first_change).count();
        let (count, end) = read(&file, &bytes, file.durable);
        prop_assert_eq!(count, whole);
        let at = file.frames[..whole].last().map_or(8, |frame| frame.1);
        prop_assert_eq!(end.at(), at as u64);
        prop_assert_eq!(end.is_damage(), at < file.durable);

        // Whoever read some frames before and goes on from there is told the same.
        for covered in [0, file.durable as u64] {
            let end = frame::walk(&bytes, file.start, SALT, covered).end();
            for base in file.frames[..whole].iter().map(|frame| frame.1) {
                let mut walk = frame::walk_from(&bytes[base..], base as u64, SALT, covered);
                let read: Vec<_> = walk.by_ref().map(|read| (read.offset, read.payload.to_vec())).collect();
                let rest = file.frames[..whole].iter().filter(|frame| frame.0 >= base);
                let rest: Vec<_> = rest.map(|(from, _, payload)| (*from as u64, payload.clone())).collect();
                prop_assert_eq!(read, rest);
                prop_assert_eq!(walk.end(), end);
            }
        }
    }
}
