//! Captures events of entities over gRPC: every create, update and delete is kept for ever, and what each entity is, or was at any
//! instant, is known.
//!
//! The log is a table of [`keplordb`]; everything else is derived from it. [`Capture`] is an open root, [`serve`] its services.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod blame;
mod capture;
mod copy;
mod entity;
mod error;
mod fold;
pub mod grpc;
mod http;
mod ingest;
mod lake;
mod layout;
mod log;
mod name;
mod payload;
mod record;
pub mod rql;
mod schema;
mod serve;
mod subscribe;
mod versions;

pub use blame::{Blame, Change};
pub use capture::{Capture, MAX_BATCH_RECORDS};
pub use entity::{EntityEvent, Instant};
pub use error::{Refused, ServerError};
pub use fold::{Fold, Operation};
pub use ingest::Receipt;
pub use lake::{Lake, LakeCheck, LakeOptions, Published, TableCheck};
pub use layout::is_root;
pub use log::{EntityLog, Selection, TypeSummary};
pub use name::{MAX_ID_BYTES, MAX_TYPE_BYTES};
pub use payload::ContentType;
pub use record::{MAX_PAYLOAD_BYTES, Record};
pub use schema::{EntityType, Field, Reference, Schema, Schemas};
pub use serve::{DEFAULT_ADDRESS, ServeOptions, serve};
pub use subscribe::{News, Since};
pub use versions::{Version, versions};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
