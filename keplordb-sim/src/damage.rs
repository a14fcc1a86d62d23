//! Damage to files that were on disk: each byte flipped in turn. An open says what is wrong and changes nothing, or shows what was
//! promised; it never loses a row silently.

use std::path::{Path, PathBuf};

use keplordb::DbError;
use keplordb::disk::{Disk, SimDisk};

use crate::chance::Chance;
use crate::oracle::{self, Case, Loss, Violation};
use crate::replay::{Failure, Recipe};
use crate::trial::{DIR, Trial};
use crate::workload::Workload;

/// Flips bytes of what a workload leaves, `flips` of each file at most, and says how many were flipped.
///
/// The process was killed, so what nothing later in a log bears witness of may be taken for torn: the last batch of each log and
/// the last delete. Everything else must be missed. Only for workloads that sync every append.
///
/// # Errors
/// The first promise that was broken.
pub fn flip_each(workload: &Workload, flips: usize) -> Result<u64, Box<Failure>> {
    let failure =
        |violation, recipe, image| Box::new(Failure { workload: workload.clone(), recipe, violation, image });
    let lived = oracle::i9_no_panic(|| Trial::live(workload));
    let trial = lived.map_err(|violation| failure(violation, None, None))?;
    // What was written is on disk; its writer is gone without a word.
    let disk = trial.disk.power_cut(0);
    let ledger = trial.ledger.but_the_last();
    let case =
        Case { ledger: &ledger, moment: trial.tick() + 1, loss: Loss::Power, settings: &trial.settings };
    let mut chance = Chance::new(workload.seed);
    let mut count = 0;
    for path in files_below(&disk, Path::new(DIR)) {
        for place in places(&disk, &path, flips, &mut chance) {
            count += 1;
            let image = disk.kill();
            let mask = 1 << chance.below(8);
            flip(&image, &path, place, mask);
            oracle::i9_no_panic(|| judge(&case, &image)).map_err(|violation| {
                let after = format!("byte {place} of {} was changed by {mask:#04x}", path.display());
                let recipe = Recipe { tick: case.moment, after, cut: Vec::new(), then: None };
                failure(violation, Some(recipe), Some(image.clone()))
            })?;
        }
    }
    Ok(count)
}

fn judge(case: &Case<'_>, image: &SimDisk) -> Result<(), Violation> {
    let opened = image.kill();
    let rows = match case.open(&opened) {
        Ok(db) => db.rows(),
        Err(error) => {
            oracle::i8_a_failed_open_changes_nothing(image, &opened)?;
            Err(error)
        }
    };
    match rows {
        Ok(rows) => case.rows_are_legal(&rows).map(drop),
        // Said with file and place.
        Err(
            DbError::Corrupt { .. }
            | DbError::Truncated { .. }
            | DbError::Missing { .. }
            | DbError::TooNew { .. }
            | DbError::TooOld { .. }
            | DbError::SchemaMismatch { .. },
        ) => Ok(()),
        Err(error) => Err(Violation::unexpected("open of a damaged table", &error)),
    }
}

fn flip(disk: &SimDisk, path: &Path, place: u64, mask: u8) {
    let mut byte = [0];
    let file = disk.open(path).expect("it was listed");
    file.read_at(&mut byte, place).expect("a simulated disk reads");
    file.write_at(&[byte[0] ^ mask], place).expect("a simulated disk writes");
    file.sync().expect("a simulated disk syncs");
}

fn files_below(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in disk.list(dir).expect("a simulated disk lists") {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            files.extend(files_below(disk, &path));
        } else if entry.name != "LOCK" {
            files.push(path);
        }
    }
    files
}

/// Where to flip: spread over the file, without the zeros at its end, which say nothing.
fn places(disk: &SimDisk, path: &Path, flips: usize, chance: &mut Chance) -> Vec<u64> {
    let bytes = keplordb::disk::read_all(disk, path, u64::MAX).expect("a simulated disk reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end <= flips {
        return (0..end as u64).collect();
    }
    (0..flips).map(|_| chance.below(end) as u64).collect()
}
