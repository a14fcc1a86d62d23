//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Loads a year of real flights, asks what a person would ask, and checks every answer.

  --dir DIR   keep the data in DIR (default: a temporary directory)
  --rows N    only the first N flights (default: all 336,776)";

/// What the user chose.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// Where the data stays; `None`: in a temporary directory.
    pub(crate) dir: Option<PathBuf>,
    /// How many flights to load at most.
    pub(crate) rows: usize,
}

impl Arguments {
    /// `None` when the user asked for help.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut arguments = Self { dir: None, rows: usize::MAX };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--dir" => arguments.dir = Some(words.next().context("--dir needs a directory")?.into()),
                "--rows" => arguments.rows = rows(words.next())?,
                "--help" | "-h" => return Ok(None),
                other => bail!("unknown argument {other}; --help lists them"),
            }
        }
        Ok(Some(arguments))
    }
}

fn rows(word: Option<String>) -> Result<usize> {
    let word = word.context("--rows needs a number")?;
    match word.parse() {
        Ok(0) | Err(_) => bail!("--rows needs a number from 1, not {word}"),
        Ok(rows) => Ok(rows),
    }
}
