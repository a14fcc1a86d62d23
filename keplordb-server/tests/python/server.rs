//! A server as a process of its own. This program runs itself: the child is the test [`child`], which by itself does nothing.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use keplordb_server::{Capture, Serving, serve};

/// What the child is told.
const ROOT: &str = "KEPLORDB_TEST_SERVER_ROOT";
const ADDRESS: &str = "KEPLORDB_TEST_SERVER_ADDRESS";
/// What it says.
const LISTENING: &str = "listening on ";

/// The system chooses one.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// Far more often than by default: it is stopped while it publishes, and read while files are merged.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// How long an address may be taken: by a client that connects to the port at which nobody listens, the system may give it the same
/// port, and connects it to itself for a moment.
const TAKEN_MAX: Duration = Duration::from_secs(10);

#[test]
fn child() {
    let (Some(root), Ok(address)) = (std::env::var_os(ROOT), std::env::var(ADDRESS)) else { return };
    // Whoever started it has the other end, and is gone when it is closed.
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(1);
    });
    let address: SocketAddr = address.parse().unwrap();
    let capture = Capture::open(root).unwrap();
    let told = |listening: SocketAddr| println!("\n{LISTENING}{listening}");
    let options = Serving::from(address).publish_every(Some(PUBLISH_EVERY));
    let serving = serve(capture, options, told, std::future::pending());
    tokio::runtime::Runtime::new().unwrap().block_on(serving).unwrap();
}

/// A server that runs until it is killed or dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
    /// Kept open, so that the child can print.
    _printed: BufReader<ChildStdout>,
}

impl Server {
    /// On return it listens.
    pub(crate) fn start(root: &Path, address: &str) -> Self {
        let begun = Instant::now();
        loop {
            match Self::try_start(root, address) {
                Some(server) => return server,
                None => assert!(begun.elapsed() < TAKEN_MAX, "no server could be started on {address}"),
            }
        }
    }

    /// `None` when it ended at once; why is in what it printed.
    fn try_start(root: &Path, address: &str) -> Option<Self> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::child", "--nocapture"])
            .env(ROOT, root)
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while printed.read_line(&mut line).unwrap() > 0 {
            if let Some(address) = line.trim_end().strip_prefix(LISTENING) {
                return Some(Self { child, address: address.to_owned(), _printed: printed });
            }
            line.clear();
        }
        child.wait().unwrap();
        None
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it as the system does: at once, wherever it is.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
