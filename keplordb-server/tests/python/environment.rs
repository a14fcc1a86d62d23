//! What clients in Python are made with, `grpcio-tools` and what goes with it, and what reads Parquet files beside the server, in the versions of `requirements.txt`.
//!
//! The first test that needs them installs them from the package index into a virtual environment, which later runs find. Where that
//! fails, for want of Python or of a network, a test says that it was skipped and why, and passes. `.ci/run` says it too.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What is installed. The environment's name has it, and its file `ready`: `.ci/run` compares.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// A slow network takes a minute; none at all fails sooner.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(5);

/// The interpreter of the environment, or why there is none.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let name = format!("python-{}", REQUIREMENTS.lines().collect::<Vec<_>>().join("-"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = dir.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    install(&dir, &python).map(|()| python)
});

/// Makes the environment where it is not there in whole; another process may be about it.
fn install(dir: &Path, python: &Path) -> Result<(), String> {
    let ready = dir.join("ready");
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut lock = dir.as_os_str().to_owned();
    lock.push(".lock");
    let lock = File::create(lock).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if fs::read_to_string(&ready).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(());
    }
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/requirements.txt");
    run("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir))?;
    let options = ["--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:"];
    let mut pip = Command::new(python);
    run("pip install", pip.args(["-m", "pip", "install"]).args(options).arg("-r").arg(requirements))?;
    fs::write(ready, REQUIREMENTS).map_err(failed)
}

/// Runs a step of the installation; what it says of a failure is in its last line.
fn run(step: &str, command: &mut Command) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{step}: {error}");
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(failed)?;
    let begun = Instant::now();
    while child.try_wait().map_err(failed)?.is_none() {
        if begun.elapsed() > INSTALL_TIMEOUT {
            child.kill().map_err(failed)?;
            return Err(format!("{step} took longer than {INSTALL_TIMEOUT:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    if output.status.success() { Ok(()) } else { Err(format!("{step}: {last}")) }
}

/// The interpreter; where there is none, says what is not tested for it.
pub(crate) fn python(untested: &str) -> Option<&'static Path> {
    match &*PYTHON {
        Ok(python) => Some(python),
        Err(why) => {
            // Not by eprintln!, which the test harness keeps to itself.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED {untested}: {why}").unwrap();
            None
        }
    }
}
