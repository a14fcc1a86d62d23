//! Who is let in, and who is not: every route and every method with every kind of key, every way to start, and that no secret shows.
//!
//! Routes are read from the source and methods from the descriptors that reflection serves, so one that nobody said who may use fails
//! here before it fails for its users.

#![allow(clippy::disallowed_methods, reason = "tests write and spoil files as people would")]

#[path = "../common/mod.rs"]
mod common;

mod ask;
mod keyed;
mod limits;
mod revoked;
mod secrets;
mod start;
mod table;
mod tls;
