//! One runner for every table of kernels: each must agree with a naive model, on extremes, at every alignment, and on
//! random chunks. The scalar table is held to the same model, and then the others to the scalar one.

use proptest::prelude::*;

use super::{CHUNK_ROWS, Kernels, Mask, UNPACKED_BYTES};

const NONE: Mask = [0; 4];
const ALL: Mask = [u64::MAX; 4];

/// A chunk of values of a width, anywhere in memory.
struct Chunk {
    width_bytes: usize,
    values: Vec<u64>,
    buffer: Vec<u8>,
    /// Bytes before the chunk in `buffer`.
    offset: usize,
}

/// The largest value of a width.
fn largest(width_bytes: usize) -> u64 {
    u64::MAX >> (64 - 8 * width_bytes)
}

impl Chunk {
    fn new(width_bytes: usize, values: Vec<u64>, offset: usize) -> Self {
        assert_eq!(values.len(), CHUNK_ROWS);
        // What surrounds the chunk would show if a kernel read it.
        let mut buffer = vec![0xa5; offset];
        for value in &values {
            assert!(*value <= largest(width_bytes));
            buffer.extend_from_slice(&value.to_le_bytes()[..width_bytes]);
        }
        buffer.extend_from_slice(&[0x5a; 8]);
        Self { width_bytes, values, buffer, offset }
    }

    fn bytes<const N: usize>(&self) -> &[u8; N] {
        assert_eq!(N, self.width_bytes * CHUNK_ROWS);
        self.buffer[self.offset..].first_chunk().unwrap()
    }

    fn selected(&self, mask: &Mask) -> impl Iterator<Item = u64> {
        (0..CHUNK_ROWS).filter(|row| mask[row / 64] >> (row % 64) & 1 == 1).map(|row| self.values[row])
    }

    fn range_mask(&self, lo: u64, hi: u64) -> Mask {
        let mut mask = NONE;
        for row in 0..CHUNK_ROWS {
            if (lo..=hi).contains(&self.values[row]) {
                mask[row / 64] |= 1 << (row % 64);
            }
        }
        mask
    }

    fn bits_mask(&self, bits: u64) -> Mask {
        let mut mask = NONE;
        for row in (0..CHUNK_ROWS).filter(|row| self.values[*row] & bits == bits) {
            mask[row / 64] |= 1 << (row % 64);
        }
        mask
    }

    fn masked_sum(&self, mask: &Mask) -> u128 {
        self.selected(mask).map(u128::from).sum()
    }

    fn masked_min_max(&self, mask: &Mask) -> Option<(u64, u64)> {
        Some((self.selected(mask).min()?, self.selected(mask).max()?))
    }
}

/// Runs the kernels of one table by width.
struct Runner(&'static Kernels);

#[expect(clippy::cast_possible_truncation, reason = "bounds and values of a width fit its type")]
impl Runner {
    fn all() -> Vec<Self> {
        Kernels::all_available().into_iter().map(Self).collect()
    }

    fn range_mask(&self, chunk: &Chunk, lo: u64, hi: u64) -> Mask {
        match chunk.width_bytes {
            1 => (self.0.range_mask_u8)(chunk.bytes(), lo as u8, hi as u8),
            2 => (self.0.range_mask_u16)(chunk.bytes(), lo as u16, hi as u16),
            4 => (self.0.range_mask_u32)(chunk.bytes(), lo as u32, hi as u32),
            _ => (self.0.range_mask_u64)(chunk.bytes(), lo, hi),
        }
    }

    fn bits_mask(&self, chunk: &Chunk, bits: u64) -> Mask {
        match chunk.width_bytes {
            1 => (self.0.bits_mask_u8)(chunk.bytes(), bits as u8),
            2 => (self.0.bits_mask_u16)(chunk.bytes(), bits as u16),
            4 => (self.0.bits_mask_u32)(chunk.bytes(), bits as u32),
            _ => (self.0.bits_mask_u64)(chunk.bytes(), bits),
        }
    }

    fn masked_sum(&self, chunk: &Chunk, mask: &Mask) -> u128 {
        match chunk.width_bytes {
            1 => (self.0.masked_sum_u8)(chunk.bytes(), mask).into(),
            2 => (self.0.masked_sum_u16)(chunk.bytes(), mask).into(),
            4 => (self.0.masked_sum_u32)(chunk.bytes(), mask).into(),
            _ => (self.0.masked_sum_u64)(chunk.bytes(), mask),
        }
    }

    fn masked_min_max(&self, chunk: &Chunk, mask: &Mask) -> Option<(u64, u64)> {
        match chunk.width_bytes {
            1 => (self.0.masked_min_max_u8)(chunk.bytes(), mask),
            2 => (self.0.masked_min_max_u16)(chunk.bytes(), mask),
            4 => (self.0.masked_min_max_u32)(chunk.bytes(), mask),
            _ => (self.0.masked_min_max_u64)(chunk.bytes(), mask),
        }
    }

    /// The sum of `count` chunks that are all this one.
    fn sum(&self, chunk: &Chunk, count: usize) -> u128 {
        fn repeated<const N: usize>(chunk: &Chunk, count: usize) -> Vec<[u8; N]> {
            vec![*chunk.bytes(); count]
        }
        match chunk.width_bytes {
            1 => (self.0.sum_u8)(&repeated(chunk, count)).into(),
            2 => (self.0.sum_u16)(&repeated(chunk, count)).into(),
            4 => (self.0.sum_u32)(&repeated(chunk, count)).into(),
            _ => (self.0.sum_u64)(&repeated(chunk, count)),
        }
    }

    fn places(&self, mask: &Mask) -> Vec<u8> {
        let mut places = [0xEE; CHUNK_ROWS];
        let count = (self.0.places)(mask, &mut places);
        assert_eq!((self.0.count)(mask) as usize, count, "{}: count of {mask:x?}", self.0.name);
        places[..count].to_vec()
    }

    /// Holds every kernel against the model.
    fn check(&self, chunk: &Chunk, lo: u64, hi: u64, mask: &Mask) {
        let name = format!("{} {} bytes at {}", self.0.name, chunk.width_bytes, chunk.offset);
        assert_eq!(self.range_mask(chunk, lo, hi), chunk.range_mask(lo, hi), "{name}: range {lo}..={hi}");
        for bits in [lo, hi, 0, 1, largest(chunk.width_bytes)] {
            assert_eq!(self.bits_mask(chunk, bits), chunk.bits_mask(bits), "{name}: bits {bits:x}");
        }
        assert_eq!(self.masked_sum(chunk, mask), chunk.masked_sum(mask), "{name}: sum of {mask:x?}");
        assert_eq!(
            self.masked_min_max(chunk, mask),
            chunk.masked_min_max(mask),
            "{name}: extremes of {mask:x?}"
        );
        for count in [0, 1, 3] {
            assert_eq!(
                self.sum(chunk, count),
                chunk.masked_sum(&ALL) * count as u128,
                "{name}: {count} chunks"
            );
        }
        let places = (0..=u8::MAX).filter(|row| mask[usize::from(row / 64)] >> (row % 64) & 1 == 1);
        assert_eq!(self.places(mask), places.collect::<Vec<_>>(), "{name}: places of {mask:x?}");
    }
}

/// Values around which comparisons go wrong: ends, signs, halves.
fn edges(width_bytes: usize) -> Vec<u64> {
    let (max, half) = (largest(width_bytes), largest(width_bytes) / 2);
    vec![0, 1, half - 1, half, half + 1, half + 2, max - 1, max]
}

#[test]
fn every_edge_value_against_every_edge_range() {
    for runner in Runner::all() {
        for width_bytes in [1, 2, 4, 8] {
            let edges = edges(width_bytes);
            let values = edges.iter().copied().cycle().take(CHUNK_ROWS).collect();
            let chunk = Chunk::new(width_bytes, values, 3);
            for &lo in &edges {
                for &hi in &edges {
                    // Among these: lo > hi, lo == hi, everything, nothing.
                    let mask = chunk.range_mask(lo, hi);
                    runner.check(&chunk, lo, hi, &mask);
                }
            }
        }
    }
}

#[test]
fn sums_of_the_largest_values_do_not_wrap() {
    for runner in Runner::all() {
        for width_bytes in [1, 2, 4, 8] {
            let max = largest(width_bytes);
            let chunk = Chunk::new(width_bytes, vec![max; CHUNK_ROWS], 0);
            assert_eq!(runner.masked_sum(&chunk, &ALL), u128::from(max) * 256, "{}", runner.0.name);
            assert_eq!(runner.masked_min_max(&chunk, &ALL), Some((max, max)));
            for count in [1, 255, 256, 257, 600] {
                let expected = u128::from(max) * 256 * count as u128;
                assert_eq!(runner.sum(&chunk, count), expected, "{}: {count} chunks", runner.0.name);
            }
        }
    }
}

#[test]
fn an_empty_mask_has_sum_zero_and_no_extremes() {
    for runner in Runner::all() {
        for width_bytes in [1, 2, 4, 8] {
            let chunk = Chunk::new(width_bytes, vec![7; CHUNK_ROWS], 0);
            assert_eq!(runner.masked_sum(&chunk, &NONE), 0);
            assert_eq!(runner.masked_min_max(&chunk, &NONE), None);
        }
    }
}

#[test]
fn each_row_has_its_own_bit() {
    for runner in Runner::all() {
        for width_bytes in [1, 2, 4, 8] {
            // Each value stands in one row only.
            let values: Vec<u64> = (0..256).map(|row| (row * 77 + 5) % 256).collect();
            let chunk = Chunk::new(width_bytes, values.clone(), 1);
            for (row, &value) in values.iter().enumerate() {
                let mut mask = NONE;
                mask[row / 64] = 1 << (row % 64);
                assert_eq!(runner.range_mask(&chunk, value, value), mask, "row {row}");
                assert_eq!(runner.masked_sum(&chunk, &mask), u128::from(value), "row {row}");
                assert_eq!(runner.masked_min_max(&chunk, &mask), Some((value, value)), "row {row}");
            }
        }
    }
}

#[test]
fn every_alignment_gives_the_same_answers() {
    for runner in Runner::all() {
        for width_bytes in [1, 2, 4, 8] {
            let values: Vec<u64> = (1..=256)
                .map(|row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) & largest(width_bytes))
                .collect();
            for offset in 0..8 {
                let chunk = Chunk::new(width_bytes, values.clone(), offset);
                let max = largest(width_bytes);
                runner.check(&chunk, max / 4, max / 4 * 3, &[0x1234_5678_9abc_def0, 0, u64::MAX, 1 << 63]);
            }
        }
    }
}

#[test]
fn the_environment_can_name_a_table_and_unknown_names_give_the_fastest() {
    let available = Kernels::all_available();
    let fastest = available.last().unwrap().name;
    assert_eq!(available[0].name, "scalar");
    assert_eq!(Kernels::choose(Some("scalar")).name, "scalar");
    assert_eq!(Kernels::choose(None).name, fastest);
    assert_eq!(Kernels::choose(Some("mmx")).name, fastest);
    for kernels in &available {
        assert_eq!(Kernels::choose(Some(kernels.name)).name, kernels.name);
        assert_eq!(available.iter().filter(|other| other.name == kernels.name).count(), 1);
    }
    let forced = std::env::var("KEPLORDB_KERNELS").ok();
    assert_eq!(Kernels::best().name, Kernels::choose(forced.as_deref()).name);
}

/// A word of a mask: sparse, dense, empty and full ones among them.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), (0..64_u32).prop_map(|bit| 1 << bit)]
}

/// A value of a width: any, or an edge.
fn value(width_bytes: usize) -> impl Strategy<Value = u64> {
    let max = largest(width_bytes);
    prop_oneof![4 => 0..=max, 1 => prop::sample::select(edges(width_bytes))]
}

/// A width, the values of a chunk of it, and two bounds.
fn case() -> impl Strategy<Value = (usize, Vec<u64>, u64, u64)> {
    prop::sample::select(vec![1, 2, 4, 8]).prop_flat_map(|width_bytes| {
        let values = prop::collection::vec(value(width_bytes), CHUNK_ROWS);
        (Just(width_bytes), values, value(width_bytes), value(width_bytes))
    })
}

proptest! {
    #[test]
    fn every_table_agrees_with_the_model_and_with_scalar(
        (width_bytes, values, lo, hi) in case(), offset in 0_usize..8, mask in [word(), word(), word(), word()],
    ) {
        let chunk = Chunk::new(width_bytes, values, offset);
        let runners = Runner::all();
        let scalar = &runners[0];
        for runner in &runners {
            for (lo, hi) in [(lo, hi), (hi, lo)] {
                runner.check(&chunk, lo, hi, &mask);
                prop_assert_eq!(runner.range_mask(&chunk, lo, hi), scalar.range_mask(&chunk, lo, hi));
            }
            prop_assert_eq!(runner.masked_sum(&chunk, &mask), scalar.masked_sum(&chunk, &mask));
            prop_assert_eq!(runner.masked_min_max(&chunk, &mask), scalar.masked_min_max(&chunk, &mask));
        }
    }

    #[test]
    fn every_table_measures_what_a_plain_loop_does(
        small in prop::collection::vec(any::<u32>(), 0..600),
        large in prop::collection::vec(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 0..600),
    ) {
        let sum_of_small: i128 = small.iter().map(|value| i128::from(*value)).sum();
        let sum_of_large: i128 = large.iter().map(|value| i128::from(*value)).sum();
        let (least, most) = (small.iter().min().copied(), small.iter().max().copied());
        let of_small = (sum_of_small, least.unwrap_or(u32::MAX), most.unwrap_or(0));
        let (least, most) = (large.iter().min().copied(), large.iter().max().copied());
        let of_large = (sum_of_large, least.unwrap_or(i64::MAX), most.unwrap_or(i64::MIN));
        for kernels in Kernels::all_available() {
            prop_assert_eq!((kernels.measure_u32)(&small), of_small, "{}", kernels.name);
            prop_assert_eq!((kernels.measure_i64)(&large), of_large, "{}", kernels.name);
        }
    }

    #[test]
    fn every_table_unpacks_what_its_definition_says(
        template in prop::collection::vec(prop_oneof![0..0x80_u8, Just(0x80)], 0..80),
        alphabet in prop::collection::vec(any::<u8>(), 64),
        codes in prop::collection::vec(any::<u8>(), 0..60),
        at in 0_usize..500,
        bits in 0_usize..7,
    ) {
        let code = |place: usize| {
            (0..bits).fold(0, |code, bit| {
                let from = at + place * bits + bit;
                let byte = codes.get(from / 8).copied().unwrap_or(0);
                code | (usize::from(byte >> (from % 8) & 1) << bit)
            })
        };
        let (mut expected, mut filled) = ([0; UNPACKED_BYTES], 0);
        for (target, byte) in expected.iter_mut().zip(&template) {
            *target = *byte;
            if *byte >= 0x80 {
                *target = alphabet[code(filled)];
                filled += 1;
            }
        }
        for kernels in Kernels::all_available() {
            if let Some(unpack) = kernels.unpack {
                let mut unpacked = [0x55; UNPACKED_BYTES];
                unpack(&template, &alphabet, &codes, at, bits, &mut unpacked);
                prop_assert_eq!(unpacked, expected, "{}", kernels.name);
            }
        }
    }
}
