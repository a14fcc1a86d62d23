//! Every disk that a power cut at one moment may leave, as far as there is time: all of them where little is undecided, and
//! where much is, those that an orderly disk leaves and a number drawn by chance.

use keplordb::disk::SimDisk;
use keplordb::disk::sim::{Cut, Fate, Undecided};

use crate::chance::Chance;

/// Up to so many undecided things, all choices are tried.
const EXHAUSTIVE: usize = 8;

/// What is decided as one in the systematic part: a run of pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    begin: usize,
    end: usize,
}

/// The recipes of all crash images of this moment that are worth a try, `random` of them drawn by chance. Where `all` is not
/// wanted, of the systematic ones only those of an orderly disk.
pub fn recipes(disk: &SimDisk, all: bool, random: usize, seed: u64) -> Vec<Cut> {
    let undecided = disk.undecided();
    let mut recipes = systematic(&undecided, all);
    let is_trivial = undecided.pieces.is_empty() && undecided.names.is_empty();
    if !is_trivial {
        let mut chance = Chance::new(seed);
        recipes.extend((0..random).map(|_| Cut::draw(chance.any() | 2, &undecided)));
    }
    recipes
}

fn systematic(undecided: &Undecided, all: bool) -> Vec<Cut> {
    let (units, names) = (units(undecided), undecided.names.len());
    let mut recipes = Vec::new();
    // What belongs to no unit is written.
    let mut add = |chosen: &dyn Fn(usize) -> Fate, kept: &dyn Fn(usize) -> bool| {
        let mut fates = vec![Fate::Written; undecided.pieces.len()];
        for (place, unit) in units.iter().enumerate() {
            fates[unit.begin..unit.end].fill(chosen(place));
        }
        recipes.push(Cut { fates, names: (0..names).map(kept).collect() });
    };
    if all && units.len() + names <= EXHAUSTIVE {
        for fill in [Fate::Written, Fate::Zeros, Fate::Garbage] {
            for choice in 0..1_u32 << (units.len() + names) {
                // Names first: their choices alone are tried once, with the first fill.
                if fill == Fate::Written || choice >> names != 0 {
                    let fate =
                        |place: usize| if choice >> (names + place) & 1 == 1 { fill } else { Fate::Absent };
                    add(&fate, &|name| choice >> name & 1 == 1);
                }
            }
        }
    } else {
        for kept in 0..=names {
            for written in 0..=units.len() {
                let fate = |place| if place < written { Fate::Written } else { Fate::Absent };
                add(&fate, &|name| name < kept);
            }
        }
    }
    recipes
}

/// A run of zeros is one unit: a log filled ahead has more than a hundred such sectors, all alike. The lock's contents say
/// nothing that matters and are left to chance.
fn units(undecided: &Undecided) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let is_lock =
        |path: &Option<std::path::PathBuf>| path.as_ref().is_some_and(|path| path.ends_with("LOCK"));
    for (place, piece) in undecided.pieces.iter().enumerate().filter(|(_, piece)| !is_lock(&piece.path)) {
        let before = place.checked_sub(1).and_then(|before| undecided.pieces.get(before));
        let goes_on = before.is_some_and(|before| {
            before.is_zeros && piece.is_zeros && before.moment == piece.moment && before.path == piece.path
        });
        match units.last_mut() {
            Some(last) if goes_on && last.end == place => last.end = place + 1,
            _ => units.push(Unit { begin: place, end: place + 1 }),
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keplordb::disk::Disk;

    use super::*;

    #[test]
    fn little_is_enumerated_and_much_is_sampled() {
        let disk = SimDisk::default();
        let file = disk.create("file".as_ref()).unwrap();
        file.write_at(&[1; 1000], 0).unwrap();
        // One name, two sectors: 2 choices for the name alone, and 3 fills for 3 sets of sectors with each of them.
        let recipes = recipes(&disk, true, 0, 0);
        assert_eq!(recipes.len(), 2 + 2 * 3 * 3);
        let images: BTreeSet<u64> = recipes.iter().map(|cut| disk.cut(cut).fingerprint()).collect();
        // Two of them are alike: zeros in the second sector are preceded by zeros.
        assert_eq!(images.len(), 1 + 1 + 3 * 3 - 1);
        // A file filled ahead adds one thing to decide.
        disk.sync_dir(".".as_ref()).unwrap();
        file.write_at(&vec![0; 65_536], 1000).unwrap();
        assert_eq!(units(&disk.undecided()).len(), 2 + 1);
        // More than can be enumerated: every prefix, and what chance gives.
        file.write_at(&[2; 10_000], 66_536).unwrap();
        let units = units(&disk.undecided()).len();
        assert!(units > EXHAUSTIVE);
        assert_eq!(super::recipes(&disk, true, 17, 5).len(), units + 1 + 17);
    }
}
