//! Can a reader tell a torn tail from damage to synced bytes?
//!
//! A file grows by frames and is synced after every k-th. After each append the disk is cut: every unsynced 512-byte
//! sector is independently absent, written, zero or garbage. No such image may be called damaged, and none may lose a
//! synced frame. Then every bit of the final file is flipped: nothing below the last watermark may pass for torn.

mod common;

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use common::{File, Random};
use keplordb_log::frame::{self, End};

const SECTOR_BYTES: usize = 512;
const APPENDS: usize = 48;
const IMAGES_PER_APPEND: u64 = 256;

/// What a power cut may leave of `file`. Each two bits of `fates` decide over one sector, the last two over the rest.
/// Space behind the image up to `ahead` was zero-filled, and synced, before.
fn crash_image(file: &File, fates: u64, ahead: usize, random: &mut Random) -> Vec<u8> {
    let mut image = file.bytes[..file.durable].to_vec();
    image.resize(ahead.max(file.durable), 0);
    let first_sector = file.durable / SECTOR_BYTES;
    for (index, sector) in (first_sector..file.bytes.len().div_ceil(SECTOR_BYTES)).enumerate() {
        // The synced part of the first sector stays: a disk does not damage neighbours of what it writes.
        let from = (sector * SECTOR_BYTES).max(file.durable);
        let upto = ((sector + 1) * SECTOR_BYTES).min(file.bytes.len());
        let fate = fates >> (2 * index.min(31)) & 3;
        if fate == 0 {
            continue;
        }
        image.resize(image.len().max(upto), 0);
        match fate {
            1 => image[from..upto].copy_from_slice(&file.bytes[from..upto]),
            2 => image[from..upto].fill(0),
            _ => image[from..upto].copy_from_slice(&random.bytes((upto - from) as u64)),
        }
    }
    image
}

/// Appends, with a sync after every `sync_every`, calling `after_append` before that sync.
fn grow(sync_every: usize, random: &mut Random, mut after_append: impl FnMut(&File, &mut Random)) -> File {
    let mut file = File::new(0x5eed_0000 + sync_every as u64, 64);
    file.sync();
    for index in 0..APPENDS {
        let payload_bytes = 40 + random.next() % 900;
        let payload = random.bytes(payload_bytes);
        file.append(1, &payload);
        after_append(&file, random);
        if (index + 1) % sync_every == 0 {
            file.sync();
        }
    }
    file
}

/// Walks over `image`, holds each frame against what was written, and returns the valid length and the end.
fn read(file: &File, image: &[u8], covered: u64) -> (u64, End) {
    let mut walk = frame::walk(image, file.start, file.salt, covered);
    let mut end = file.start as u64;
    for ((from, upto, payload), read) in file.frames.iter().zip(walk.by_ref()) {
        assert_eq!((read.offset, read.payload), (*from as u64, &payload[..]), "a frame nobody wrote");
        end = *upto as u64;
    }
    assert_eq!(walk.next(), None);
    (end, walk.end())
}

#[test]
fn no_crash_image_is_called_damaged_or_loses_synced_frames() {
    let mut random = Random(7);
    let (mut images, mut torn) = (0, 0);
    for sync_every in [1, 4, 16] {
        let mut seen = HashSet::new();
        grow(sync_every, &mut random, |file, random| {
            let sectors = file.bytes.len().div_ceil(SECTOR_BYTES) - file.durable / SECTOR_BYTES;
            for index in 0..IMAGES_PER_APPEND {
                // Few sectors: their fates one after the other. Many: at random.
                let fates = if sectors <= 4 { index } else { random.next() };
                let ahead = if index % 2 == 0 { 0 } else { file.bytes.len() + 5000 };
                let image = crash_image(file, fates, ahead, random);
                if !seen.insert(BuildHasherDefault::<DefaultHasher>::default().hash_one(&image)) {
                    continue;
                }
                images += 1;
                for covered in [0, file.durable as u64] {
                    let (valid, end) = read(file, &image, covered);
                    assert!(!end.is_damage(), "false alarm: {end:?}, durable up to {}", file.durable);
                    assert_eq!(end.at(), valid);
                    assert!(valid >= file.durable as u64, "synced bytes lost: {end:?}");
                    torn += u32::from(matches!(end, End::Torn { .. }));
                }
            }
        });
    }
    // The experiment proves nothing if it stops making images, or makes none that are torn.
    assert!(images > 10_000 && torn > 10_000, "{images} images, {torn} torn");
}

#[test]
fn every_flipped_bit_is_seen_and_below_the_watermark_it_is_corruption() {
    for (sync_every, closed) in [(1, false), (4, false), (16, false), (4, true)] {
        let mut file = grow(sync_every, &mut Random(11), |_, _| ());
        let mut watermark = last_watermark(&file);
        let frames = file.start..file.bytes.len();
        if closed {
            file.sync();
            file.close();
            watermark = frames.end;
        }
        for bit in frames.start * 8..frames.end * 8 {
            let byte = bit / 8;
            file.bytes[byte] ^= 1 << (bit % 8);
            let (valid, end) = read(&file, &file.bytes, 0);
            file.bytes[byte] ^= 1 << (bit % 8);

            let (from, _, _) =
                *file.frames.iter().rfind(|(from, _, _)| *from <= byte).expect("each byte is a frame's");
            assert_eq!(valid, from as u64, "the flip of bit {bit} was not seen");
            match end {
                End::Corrupt { at, covered_upto, .. } => {
                    assert_eq!((at, covered_upto > at), (valid, true));
                    assert!(byte < watermark, "bit {bit} was never known to be synced, yet corrupt");
                }
                End::Torn { at, .. } => {
                    assert_eq!(at, valid);
                    assert!(byte >= watermark, "damage to synced bit {bit} passed for torn");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }
}

/// The watermark in the last frame's header: what the file itself says about its synced bytes.
fn last_watermark(file: &File) -> usize {
    let last = frame::walk(&file.bytes, file.start, file.salt, 0).last().expect("the file has frames");
    usize::try_from(last.durable_upto).expect("a watermark lies within its file")
}
