//! The pages of a server, as a browser asks for them: every link leads somewhere, every page is one, and what events hold stays text.
//!
//! A root is filled with entities whose ids and payloads try to be markup, scripts and paths; then all pages are walked through from the
//! first one, over links and forms.

#![allow(clippy::needless_pass_by_value, reason = "payloads are taken as `json!` makes them")]

#[path = "../common/mod.rs"]
mod common;
mod crawl;
mod markup;
mod seed;
mod signed;
mod states;
mod web;
