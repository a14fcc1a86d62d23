//! Captures events of entities over gRPC: every create, update and delete is kept for ever, and what each entity is, or was at any
//! instant, is known.
//!
//! The log is a table of [`keplordb`]; everything else is derived from it. [`Capture`] is an open root, [`serve`] its services.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod auth;
mod blame;
mod capture;
mod connection;
mod copy;
mod entity;
mod error;
mod explorer;
mod fold;
pub mod grpc;
mod guards;
mod holder;
mod http;
mod ingest;
mod keys;
mod lake;
mod layout;
mod limits;
mod log;
pub mod metrics;
mod name;
mod payload;
mod publishing;
mod record;
pub mod rql;
mod schema;
mod serve;
mod shape;
#[cfg(feature = "sql")]
mod sql;
mod subscribe;
mod tls;
mod versions;

pub use blame::{Blame, Change};
pub use capture::{Capture, MAX_BATCH_RECORDS};
pub use entity::{EntityEvent, Instant, LogInstant};
pub use error::{Refused, ServerError};
pub use fold::{Fold, Operation};
pub use holder::{Holder, holder};
pub use ingest::Receipt;
pub use keys::{Key, Keys, NewKey, Scope, Secret};
#[cfg(feature = "sql")]
pub use lake::OverlayError;
pub use lake::{Lake, LakeCheck, LakeOptions, LakeState, Origin, Published, TableCheck};
pub use layout::is_root;
pub use log::{Behind, EntityLog, Selection, TypeSummary};
pub use name::{MAX_ID_BYTES, MAX_TYPE_BYTES};
pub use payload::ContentType;
pub use record::{MAX_PAYLOAD_BYTES, Record};
pub use schema::{EntityType, Field, Reference, Schema, Schemas};
pub use serve::{DEFAULT_ADDRESS, Serving, serve};
#[cfg(feature = "sql")]
pub use sql::{QueryError, RqlAnswer, RqlEntity, Sql, SqlOptions};
pub use subscribe::{News, Since};
pub use tls::Tls;
pub use versions::{Version, versions};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
