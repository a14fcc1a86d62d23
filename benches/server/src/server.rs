//! `keplor` as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: String,
}

impl Server {
    pub(crate) fn start(keplor: &Path, root: &Path) -> Result<Self> {
        let mut serve = Command::new(keplor);
        serve.arg("serve").arg(root).args(["--listen", "127.0.0.1:0"]);
        let mut process = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut first = String::new();
        let told = process.stderr.take().context("its output is a pipe")?;
        let mut told = BufReader::new(told);
        while !first.contains("serving") {
            first.clear();
            ensure!(told.read_line(&mut first)? > 0, "`keplor serve` ended before it served");
        }
        // What it says later has a reader too.
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
        let address = first.split(" on ").nth(1).and_then(|rest| rest.split(';').next());
        let address = address.context("`keplor serve` says where it listens")?.trim().to_owned();
        Ok(Self { process, address })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A field of its memory in `/proc`, in MiB.
    pub(crate) fn mib(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("memory is told in KiB")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// Asks it to end, and waits until its root is closed. Clients are told meanwhile.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status()?;
        let ended = tokio::task::spawn_blocking(move || self.process.wait()).await??;
        ensure!(asked.success() && ended.success(), "the server ends in good order");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended there is nothing to kill.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// How many events a root has.
pub(crate) fn events(keplor: &Path, root: &Path) -> Result<u64> {
    let out = Command::new(keplor).arg("ls").arg(root).arg("--json").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut events = 0;
    for line in String::from_utf8(out.stdout)?.lines() {
        events += serde_json::from_str::<Value>(line)?["events"].as_u64().context("`ls` counts events")?;
    }
    Ok(events)
}

/// Makes all published files of a root anew.
pub(crate) fn replay(keplor: &Path, root: &Path) -> Result<()> {
    let out = Command::new(keplor).arg("replay").arg(root).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}
