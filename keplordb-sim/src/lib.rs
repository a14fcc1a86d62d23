//! Crash simulation of `KeplorDB`: the engine lives through a workload on a simulated disk; after every operation of the disk
//! the process may be killed or the power cut in every legal way, and one oracle says whether the engine still keeps its
//! promises.
//!
//! - [`workload`]: what programs do. [`table`]: the table they do it to.
//! - [`trial`]: living through a workload; [`ledger`]: what was promised meanwhile.
//! - [`images`]: the recipes of all disks that a power cut at one moment may leave.
//! - [`oracle`]: the twelve invariants.
//! - [`suite`]: all of it together, counted. [`faults`]: on a disk that fails. [`damage`]: with
//!   bytes flipped. [`replay`]: how a failure is told and tried again.
//!
//! Unpublished: it serves the tests in its own folder `tests/`.

#![deny(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their use")]
#![expect(clippy::missing_panics_doc, reason = "a test that panics has failed, and says why")]

pub mod chance;
pub mod damage;
pub mod faults;
pub mod images;
pub mod ledger;
pub mod meter;
#[allow(dead_code, unreachable_pub, reason = "the engine's own tests use other parts of it")]
#[path = "../../keplordb/tests/naive/mod.rs"]
mod naive;
pub mod oracle;
pub mod replay;
pub mod suite;
pub mod table;
pub mod trial;
pub mod workload;
