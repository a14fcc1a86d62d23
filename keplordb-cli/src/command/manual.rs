//! `keplor completions` and `keplor man`: what a shell and `man` want to know of the commands.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::Done;
use crate::args::Arguments;
use crate::output::{Output, counted};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  keplor completions bash > ~/.local/share/bash-completion/completions/keplor"
)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

/// Write man pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// The directory they go to; it is made
    dir: PathBuf,
}

impl Completions {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "keplor", &mut script);
        out.bytes(&script)?;
        Ok(Done::Well)
    }
}

impl Man {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let failed = || format!("{} cannot be written", self.dir.display());
        std::fs::create_dir_all(&self.dir).with_context(failed)?;
        clap_mangen::generate_to(Arguments::command(), &self.dir).with_context(failed)?;
        let pages = self.dir.read_dir().with_context(failed)?;
        let is_ours = |name: std::ffi::OsString| name.to_string_lossy().starts_with("keplor");
        let pages = pages.filter(|page| page.as_ref().is_ok_and(|page| is_ours(page.file_name()))).count();
        out.line(&format!("{} in {}", counted(pages as u64, "page", "pages"), self.dir.display()))?;
        Ok(Done::Well)
    }
}
