//! What a program may do with an engine, one operation at a time, and lists of such operations.

use std::fmt;
use std::time::Duration;

use keplordb::{Retention, Sync};

use crate::chance::Chance;

/// One thing that a program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Appends one event, sometimes a long one.
    Append,
    /// Appends so many events at once.
    Batch(u8),
    /// Appends one event that is on disk on return, whatever the sync mode.
    Durable,
    /// Two threads append at once, so that the second one takes another shard.
    Beside,
    /// Syncs what was appended.
    Sync,
    /// Rotates every shard.
    Flush,
    /// Deletes the newest event, one of long ago, and one that never was.
    Delete,
    /// Forgets the older half.
    Gc,
    /// Flushes and forgets everything.
    Clear,
    /// Merges and rewrites whatever is due.
    Compact,
    /// As `Compact`; another thread deletes while a segment is written.
    CompactMeanwhile,
    /// As `Flush`; another thread deletes while the segment is written.
    FlushMeanwhile,
    /// Does everything that is due, also by the retention.
    Maintain,
    /// Copies the table into another directory.
    Checkpoint,
    /// Closes the engine and opens it again.
    Reopen,
    /// The process is killed; another one opens the directory.
    Kill,
    /// The power is cut, as this seed says; then the directory is opened again.
    Cut(u64),
    /// Closes the engine and opens it with so many shards.
    Shards(u8),
    /// Closes the engine and opens it with one more dim.
    Grow,
    /// The process is killed, the oldest segment is damaged, and the directory is opened with the damage set aside.
    Damage,
    /// The process is killed, the manifest gets lost, and the directory is opened again.
    LoseManifest,
}

/// How the engine is opened.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rows that make a shard rotate.
    pub rotate_rows: u32,
    /// Shards.
    pub shards: usize,
    /// When appends are synced.
    pub sync: Sync,
    /// How long replaced files stay.
    pub grace: Duration,
    /// Bytes that `Maintain` keeps, if it is to drop any.
    pub kept_bytes: Option<u64>,
    /// Whether damaged files are set aside.
    pub quarantine: bool,
}

impl Settings {
    /// As an option of the engine.
    pub fn retention(&self) -> Retention {
        match self.kept_bytes {
            Some(bytes) => Retention::default().max_bytes(bytes),
            None => Retention::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rotate_rows: 4,
            shards: 2,
            sync: Sync::Always,
            grace: Duration::ZERO,
            kept_bytes: None,
            quarantine: false,
        }
    }
}

/// A list of operations on a new table.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What it is called in messages.
    pub name: String,
    /// Chooses among crash images, and repeats the workload.
    pub seed: u64,
    /// How the engine is opened.
    pub settings: Settings,
    /// What is done.
    pub ops: Vec<Op>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (seed {}): {:?}, {:?}", self.name, self.seed, self.settings, self.ops)
    }
}

/// Every sequence of one to three of the operations that most faults need no more of. The seed is the place in the list.
pub fn short() -> Vec<Workload> {
    const ALPHABET: [Op; 8] =
        [Op::Append, Op::Batch(3), Op::Sync, Op::Flush, Op::Delete, Op::Gc, Op::Compact, Op::Reopen];
    let mut sequences: Vec<Vec<Op>> = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|shorter: &Vec<Op>| ALPHABET.map(|op| [&shorter[..], &[op]].concat()))
            .collect();
        sequences.extend(longest.iter().cloned());
    }
    // Half of them with syncs left to the operations themselves, so that `Sync` has something to do.
    let settings = |seed: u64| Settings {
        sync: if seed.is_multiple_of(2) { Sync::Always } else { Sync::Os },
        ..Settings::default()
    };
    (0..)
        .zip(sequences)
        .map(|(seed, ops)| Workload { name: "short".into(), seed, settings: settings(seed), ops })
        .collect()
}

/// A random workload of so many operations; all of it follows from the seed.
pub fn random(seed: u64, length: usize) -> Workload {
    let mut chance = Chance::new(seed);
    let settings = Settings {
        rotate_rows: [1, 2, 3, 4, 7, 12][chance.below(6)],
        shards: [1, 2, 2, 3][chance.below(4)],
        sync: [Sync::Always, Sync::Always, Sync::Os, Sync::Every { events: 3, bytes: 1 << 20 }]
            [chance.below(4)],
        grace: if chance.percent(60) { Duration::ZERO } else { Duration::from_secs(60) },
        kept_bytes: chance.percent(30).then_some(12_000),
        quarantine: false,
    };
    let op = |chance: &mut Chance| match chance.below(100) {
        0..17 => Op::Append,
        17..18 => Op::FlushMeanwhile,
        18..20 => Op::Compact,
        20..21 => Op::CompactMeanwhile,
        21..23 => Op::Maintain,
        23..38 => Op::Batch(2 + chance.below(6) as u8),
        38..42 => Op::Durable,
        42..50 => Op::Beside,
        50..53 => Op::Sync,
        53..61 => Op::Flush,
        61..73 => Op::Delete,
        73..77 => Op::Gc,
        77..78 => Op::Clear,
        78..81 => Op::Checkpoint,
        81..86 => Op::Reopen,
        86..90 => Op::Kill,
        90..95 => Op::Cut(chance.any()),
        95..97 => Op::Shards(1 + chance.below(3) as u8),
        97..98 => Op::Grow,
        98..99 => Op::Damage,
        _ => Op::LoseManifest,
    };
    let ops = (0..length).map(|_| op(&mut chance)).collect();
    Workload { name: "random".into(), seed, settings, ops }
}

/// Workloads that together cover every operation, each under four settings. The seed is the place in the list.
pub fn standard() -> Vec<Workload> {
    use Op::{
        Append, Batch, Beside, Checkpoint, Clear, Compact, CompactMeanwhile, Cut, Damage, Delete, Durable,
        Flush, FlushMeanwhile, Gc, Grow, Kill, LoseManifest, Maintain, Reopen, Shards, Sync as SyncAll,
    };
    let six = Batch(6);
    let scripts: [(&str, &[Op]); 23] = [
        ("appends", &[Append, Append, Batch(3), SyncAll, Append, Durable, Batch(2), Append]),
        ("rotations", &[Batch(4), Append, Batch(5), Flush, Append, Flush, Batch(9), Append]),
        ("deletes", &[Batch(3), Delete, Append, Delete, Flush, Delete, Batch(2), Delete, Reopen, Delete]),
        ("old rows", &[Batch(4), Batch(4), Gc, Append, Delete, Gc, Batch(5), Reopen, Gc]),
        ("all rows", &[Batch(3), Clear, Append, Clear, Batch(4), Delete, Clear, Reopen, Append]),
        ("reopened", &[Append, Reopen, Batch(3), Reopen, Delete, Reopen, Flush, Reopen, Append]),
        ("killed", &[Append, Kill, Batch(3), Delete, Kill, Flush, Kill, Append, Kill]),
        ("power cut", &[Batch(3), Cut(0), Append, Delete, Cut(3), Batch(4), Cut(0), Append, Cut(7)]),
        ("two at once", &[Beside, Beside, Delete, Beside, Flush, Beside, Reopen, Beside]),
        ("two at once, killed", &[Beside, Kill, Beside, Delete, Cut(0), Beside, Cut(5), Beside]),
        ("copied", &[Batch(3), Checkpoint, Delete, Flush, Checkpoint, Append, Checkpoint, Gc]),
        ("other shards", &[Beside, Shards(1), Append, Shards(3), Beside, Flush, Shards(2), Delete]),
        ("grown", &[Batch(3), Delete, Grow, Append, Flush, Batch(2), Delete, Reopen, Append]),
        ("grown between", &[Batch(4), Append, Kill, Grow, Batch(4), Kill, Append, Cut(0), Append]),
        ("merged", &[six, six, six, Delete, six, six, six, six, Delete, six, Append, Delete, Gc, six]),
        (
            "merged, killed",
            &[six, six, six, six, six, six, Append, Kill, six, six, Delete, Cut(0), six, Reopen],
        ),
        (
            "merged, no manifest",
            &[six, six, six, six, six, six, six, six, Delete, LoseManifest, Append, Flush],
        ),
        (
            "compacted",
            &[six, Delete, six, Delete, Delete, Compact, Append, Delete, six, Compact, Reopen, Compact],
        ),
        (
            "compacted, killed",
            &[six, six, Delete, Delete, Compact, Kill, Delete, Compact, Cut(0), Append, Compact],
        ),
        (
            "deletes meanwhile",
            &[six, six, Delete, CompactMeanwhile, Append, FlushMeanwhile, six, Delete, CompactMeanwhile],
        ),
        (
            "maintained",
            &[six, six, six, Maintain, six, six, Delete, Delete, Maintain, six, six, Maintain, Append],
        ),
        ("damaged", &[six, six, Delete, Append, Damage, Append, Delete, Reopen, six, Damage, Kill, Append]),
        ("no manifest", &[Batch(3), Delete, LoseManifest, Append, Flush, LoseManifest, Batch(2), Delete]),
    ];
    let grace = Duration::from_secs(60);
    let settings = [
        Settings::default(),
        Settings { rotate_rows: 3, shards: 3, grace, ..Settings::default() },
        Settings { sync: Sync::Os, rotate_rows: 5, kept_bytes: Some(8_000), ..Settings::default() },
        Settings {
            sync: Sync::Every { events: 3, bytes: 1 << 20 },
            grace,
            rotate_rows: 6,
            ..Settings::default()
        },
    ];
    let each = scripts.iter().flat_map(|script| settings.map(|settings| (script, settings)));
    let workload = |(seed, ((name, ops), settings)): (u64, (&(&str, &[Op]), Settings))| Workload {
        name: (*name).to_owned(),
        seed,
        settings,
        ops: ops.to_vec(),
    };
    (0..).zip(each).map(workload).collect()
}

/// A workload of about 300 operations of the disk that reaches each kind of file and each way of writing it.
pub fn for_faults() -> Workload {
    use Op::{
        Append, Batch, Beside, Checkpoint, Clear, Compact, CompactMeanwhile, Cut, Delete, Durable, Flush, Gc,
        Grow, Kill, Maintain, Reopen, Shards, Sync as SyncAll,
    };
    let ops = [
        Append,
        Batch(3),
        Delete,
        Append,
        Batch(4),
        Beside,
        Delete,
        Flush,
        Batch(5),
        Gc,
        Reopen,
        Append,
        SyncAll,
        Delete,
        Batch(9),
        Checkpoint,
        Append,
        Clear,
        Batch(3),
        Kill,
        Delete,
        Durable,
        Shards(3),
        Beside,
        Flush,
        Grow,
        Batch(2),
        Delete,
        Cut(1),
        Append,
        Batch(6),
        Batch(6),
        Delete,
        CompactMeanwhile,
        Batch(6),
        Delete,
        Compact,
        Append,
        Maintain,
    ];
    Workload { name: "faults".into(), seed: 0, settings: Settings::default(), ops: ops.to_vec() }
}

/// Workloads whose files are worth damaging: each append is synced, and several frames follow each other in the logs.
pub fn for_damage() -> Vec<Workload> {
    let settings = Settings { rotate_rows: 9, ..Settings::default() };
    let scripts: [&[Op]; 3] = [
        &[Op::Append, Op::Batch(2), Op::Delete, Op::Append, Op::Batch(2), Op::Append, Op::Append],
        &[Op::Batch(9), Op::Delete, Op::Append, Op::Beside, Op::Delete, Op::Append, Op::Delete, Op::Batch(2)],
        &[Op::Batch(4), Op::Flush, Op::Append, Op::Kill, Op::Append, Op::Delete, Op::Batch(3), Op::Append],
    ];
    (0..)
        .zip(scripts)
        .map(|(seed, ops)| Workload { name: "damage".into(), seed, settings, ops: ops.to_vec() })
        .collect()
}
