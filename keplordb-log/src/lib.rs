//! Checksummed frames for append-only logs.
//!
//! A *frame* is one batch of rows under one checksum: it is read back whole or not at all. After a crash, [`frame::walk`]
//! yields the frames of a log file and then says how the file ends, and it tells two endings apart that look alike: a
//! *torn* tail, which a crash may leave behind a log's last sync and which is to be cut away, and a *corrupt* file, in
//! which bytes that were already on disk have changed. The first is expected and repairs itself; the second must reach a person.
//!
//! The crate is pure: bytes in, values out. It opens no file, syncs nothing and has no threads or clocks.
//!
//! ```
//! use keplordb_log::frame::{self, End, Header};
//!
//! let salt = 0x9e37_79b9_7f4a_7c15; // random, one per file, kept in the file's own header
//!
//! // Write: room for the header, the payload, then the padding; the header is filled in last.
//! let payload = b"two rows";
//! let mut bytes = vec![0; frame::HEADER_BYTES];
//! bytes.extend_from_slice(payload);
//! frame::pad(&mut bytes);
//! let header = Header { payload_bytes: 8, rows: 2, first: 41, durable_upto: 0 };
//! frame::write_header(bytes.first_chunk_mut().unwrap(), salt, frame::payload_crc(payload), &header);
//!
//! // Read: the frames, then how the file ends.
//! let mut walk = frame::walk(&bytes, 0, salt, 0);
//! let read = walk.next().unwrap();
//! assert_eq!((read.first, read.rows, read.payload), (41, 2, &payload[..]));
//! assert!(walk.next().is_none());
//! assert_eq!(walk.end(), End::Clean { at: bytes.len() as u64 });
//!
//! // A crash that left half of a frame: nothing says that it was ever synced, so it is torn, not corrupt.
//! let cut = &bytes[..36];
//! assert_eq!(frame::walk(cut, 0, salt, 0).end(), End::Torn { at: 0, bytes: 36 });
//! ```

#![forbid(unsafe_code)]

mod compactor;
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
