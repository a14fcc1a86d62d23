//! A failure, told so that it can be tried again: seed, operation and recipe, and the image as real files.

use std::fmt;
use std::path::PathBuf;

use keplordb::disk::sim::{Cut, Fate};
use keplordb::disk::{RealDisk, SimDisk};

use crate::ledger::Tick;
use crate::oracle::Violation;
use crate::workload::Workload;

/// Repeats the workload of this seed only.
pub const SEED: &str = "KEPLORDB_SIM_SEED";
/// With [`SEED`]: tries only the images of the moment after this operation of the disk.
pub const OP: &str = "KEPLORDB_SIM_OP";
/// Where failing images are written; else below the directory for temporary files.
pub const DIR: &str = "KEPLORDB_SIM_DIR";

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// How an image came about.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The operation of the disk after which it happened.
    pub tick: Tick,
    /// What that operation was.
    pub after: String,
    /// What the power cut decided, in words: `None` for a kill.
    pub cut: Vec<String>,
    /// What happened after that, if anything did.
    pub then: Option<Box<Recipe>>,
}

impl Recipe {
    /// The recipe of a cut of this disk.
    pub fn new(tick: Tick, after: String, disk: &SimDisk, cut: &Cut) -> Self {
        let undecided = disk.undecided();
        let fate = |place: usize| cut.fates.get(place).copied().unwrap_or(Fate::Absent);
        let mut words: Vec<String> = Vec::new();
        let mut repeated = 0;
        for (place, piece) in undecided.pieces.iter().enumerate() {
            let text = format!("{piece}: {}", fate(place));
            let next_is_alike = undecided.pieces.get(place + 1).is_some_and(|next| {
                next.is_zeros && piece.is_zeros && next.path == piece.path && fate(place + 1) == fate(place)
            });
            if next_is_alike {
                repeated += 1;
            } else if repeated > 0 {
                words.push(format!("{repeated} sectors of zeros before, and {text}"));
                repeated = 0;
            } else {
                words.push(text);
            }
        }
        for (place, name) in undecided.names.iter().enumerate() {
            let kept = cut.names.get(place).copied().unwrap_or(false);
            words.push(format!("{name}: {}", if kept { "kept" } else { "lost" }));
        }
        Self { tick, after, cut: words, then: None }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after operation {}, {}:", self.tick, self.after)?;
        for line in &self.cut {
            writeln!(f, "    {line}")?;
        }
        match &self.then {
            Some(then) => write!(f, "  then {then}"),
            None => Ok(()),
        }
    }
}

/// A promise that was broken, and where.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Of this workload.
    pub workload: Workload,
    /// How the disk came to be so; none if the engine failed while it lived.
    pub recipe: Option<Recipe>,
    /// What was seen.
    pub violation: Violation,
    /// The disk.
    pub image: Option<SimDisk>,
}

impl Failure {
    /// Writes the image out as a directory of real files and says where.
    fn write_out(&self) -> Option<PathBuf> {
        let image = self.image.as_ref()?;
        let parent = std::env::var_os(DIR).map_or_else(std::env::temp_dir, PathBuf::from);
        let operation = self.recipe.as_ref().map_or(0, |recipe| recipe.tick);
        let base = format!("keplordb-sim-{}-{}-{operation}", self.workload.name, self.workload.seed);
        let free =
            (0..100).map(|number| parent.join(format!("{base}-{number}"))).find(|path| !path.exists())?;
        image.write_out(&RealDisk, &free).ok()?;
        Some(free)
    }

    /// Panics with all that is needed to try it again; `test` is the test to run for that.
    pub fn report(&self, test: &str) -> ! {
        let place = match (self.write_out(), &self.image) {
            (Some(place), _) => format!("the image was written to {}", place.display()),
            (None, Some(_)) => "the image could not be written out".into(),
            (None, None) => "there is no image: the living engine failed".into(),
        };
        let operation = self.recipe.as_ref().map_or(String::new(), |recipe| format!(" {OP}={}", recipe.tick));
        panic!(
            "{self}\n{place}\nto repeat: {SEED}={}{operation} cargo test -p keplordb-sim {test}",
            self.workload.seed
        );
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.violation, self.workload)?;
        match &self.recipe {
            Some(recipe) => write!(f, "\n{recipe}"),
            None => Ok(()),
        }
    }
}
