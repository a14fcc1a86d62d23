//! The server's log on standard error: for people, or as an object of JSON a line.
//!
//! What clients send stands in fields, which are quoted in both: it can neither look like a line of its own nor command a terminal.

use std::io;

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::output::note;

/// What is logged unless `RUST_LOG` says otherwise. What h2 and hyper warn of is what a client does wrong, who could fill the disk with it.
const USUAL: &str = "warn,h2=error,hyper=error,keplor=info,keplordb_server=info";

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Log {
    /// A line of text each
    #[default]
    Text,
    /// An object of JSON a line
    Json,
}

impl Log {
    /// From here on it is written.
    pub(crate) fn begin(self) -> Result<()> {
        let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
            Ok(chosen) => EnvFilter::try_new(&chosen).map_err(|error| {
                anyhow!("RUST_LOG: {error}; write it like info, or info,keplordb_server=debug")
            })?,
            Err(_) => EnvFilter::new(USUAL),
        };
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
        let begun = match self {
            Self::Text => log.try_init(),
            Self::Json => {
                log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
            }
        };
        begun.map_err(|error| anyhow!("the log cannot be begun: {error}"))
    }

    /// Says something to whoever started the server: as a note, or as one more line of the log where programs read it.
    pub(super) fn say(self, text: &str) {
        match self {
            Self::Text => note(text),
            Self::Json => tracing::info!("{text}"),
        }
    }
}
