//! A log of entries: any bytes, each with a time, in a directory of segments that are whole or say what is not.
//!
//! For programs that change something large by small commands and want to keep the commands: documents with undo,
//! transactions, games, devices. A [`Log`] is a directory; its one [`Writer`] gives entries strictly increasing times and writes
//! batches that are there whole or not at all; any number of [`Reader`]s, in any process, read on and back from any time and
//! wait for more. [`Retention`] and [`Compactor`] forget old segments, a [`Replica`] keeps a copy, [`Log::verify`] reads everything,
//! and [`TypedWriter`] and [`TypedReader`] keep values of a type.
//!
//! ```
//! use keplordb_log::Log;
//!
//! # let dir = tempfile::tempdir()?;
//! let log = Log::open(dir.path().join("commands"))?;
//! let writer = log.writer()?;
//! let time = writer.write(b"insert 0 Hello")?; // on disk when it returns
//! writer.write_batch(["insert 5 !", "delete 0 1"])?;
//!
//! let mut reader = log.from(time)?;
//! let mut commands = Vec::new();
//! while let Some(entry) = reader.next()? {
//!     commands.push(String::from_utf8_lossy(entry.bytes).into_owned());
//! }
//! assert_eq!(commands, ["insert 0 Hello", "insert 5 !", "delete 0 1"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is underneath
//!
//! The same frames and files of frames as the logs of the engine `keplordb`, for those who build a log of their own:
//!
//! | module | what |
//! |---|---|
//! | [`frame`] | one batch under one checksum, and the walk that tells a torn end from damage; pure |
//! | [`salvage`] | all that can be had of a damaged file; pure |
//! | [`mod@file`] | a file of frames that is written: fill ahead, take back, seal, make durable |
//! | [`syncer`] | syncs that are shared by all who wait for one |
//! | [`poison`] | the end of writing after a failed sync |
//!
//! All files are reached through [`keplordb_disk::Disk`], so a log may be in memory, or on a simulated disk whose power is cut.

#![forbid(unsafe_code)]

mod compactor;
mod copy_index;
#[cfg(test)]
mod damage_tests;
mod entries;
mod error;
pub mod file;
pub mod frame;

mod header;
mod hop;

mod index;
mod index_file;
mod log;

mod lookup;
#[cfg(test)]
mod made;
mod mark;
mod meter;
mod options;
#[doc(hidden)]
pub mod planted;
pub mod poison;
mod reader;
#[cfg(test)]
mod reader_tests;
mod recover;
mod replica;
mod retention;
pub mod salvage;
mod scan;
mod segment;
mod segment_file;
mod segments;
mod stats;
pub mod syncer;
mod timestamp;
mod typed;
mod verify;
mod view;
mod window;
mod writer;

pub use compactor::Compactor;
pub use entries::MAX_ENTRY_BYTES;
pub use error::{LogError, Result};
pub use frame::{End, Frame, Walk};
pub use log::Log;
pub use options::{Options, SyncPolicy};
pub use reader::{Entry, OwnedEntry, Position, Reader};
pub use recover::Recovered;
pub use replica::{Copied, Lag, Replica};
pub use retention::{Removed, Retention};
pub use segments::SegmentInfo;
pub use stats::LogStats;
pub use timestamp::{Clock, ManualClock, SystemClock, Timestamp};
#[cfg(feature = "json")]
pub use typed::Json;
#[cfg(feature = "postcard")]
pub use typed::Postcard;
pub use typed::{Codec, CodecError, Typed, TypedReader, TypedWriter};
pub use verify::{Damage, Torn, VerifyReport};
pub use writer::{Writer, WriterStats};
