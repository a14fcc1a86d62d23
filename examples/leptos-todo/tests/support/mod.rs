//! The real server as a process of its own, and just enough HTTP to speak with it as a form does.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// Longer than any answer takes on a slow machine that does other things, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port. Killed when it is dropped; the test fails if it panicked anywhere.
pub(crate) struct Server {
    process: Child,
    /// Kept open: a server that can no longer print ends.
    output: BufReader<ChildStdout>,
    mistakes: NamedTempFile,
    /// As `127.0.0.1:49152`.
    pub(crate) address: String,
}

impl Server {
    /// Starts one and waits until it listens.
    pub(crate) fn start(data: &Path, pkg: &Path) -> Self {
        Self::start_with(data, pkg, &[])
    }

    /// Starts one with further arguments.
    pub(crate) fn start_with(data: &Path, pkg: &Path, arguments: &[&str]) -> Self {
        let mistakes = NamedTempFile::new().unwrap();
        let mut command = command(data, pkg);
        command.args(arguments).stdout(Stdio::piped()).stderr(mistakes.reopen().unwrap());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut server = Self { process, output, mistakes, address: String::new() };
        loop {
            let mut line = String::new();
            assert!(server.output.read_line(&mut line).unwrap() > 0, "the server ended before it listened");
            if let Some(address) = line.trim().strip_prefix("listening on http://") {
                address.clone_into(&mut server.address);
                return server;
            }
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    #[cfg(unix)]
    pub(crate) fn terminate(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(told.success());
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(asked.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Opens the stream of changes.
    pub(crate) fn changes(&self) -> BufReader<TcpStream> {
        self.changes_from("same-origin")
    }

    /// Opens the stream of changes as a page of this site, or of another, would.
    pub(crate) fn changes_from(&self, site: &str) -> BufReader<TcpStream> {
        let head = format!("accept: text/event-stream\r\nsec-fetch-site: {site}\r\n");
        BufReader::new(send(&self.address, &self.address, "GET", "/changes", &head, ""))
    }

    fn request(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        self.request_by(&self.address, method, path, head, body)
    }

    /// Asks by a name of the server.
    pub(crate) fn request_by(&self, host: &str, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut answer = String::new();
        send(&self.address, host, method, path, head, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Asks for the page and goes away after a while.
    pub(crate) fn leave_after(&self, wait: Duration) {
        let connection = send(&self.address, &self.address, "GET", "/", "accept: text/html\r\n", "");
        std::thread::sleep(wait);
        drop(connection);
    }

    /// Sends the begin of a request, whose rest never comes.
    pub(crate) fn begin_request(&self) -> TcpStream {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
        connection
    }

    /// Fetches as a browser that shows pages does.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "accept: text/html\r\n", "")
    }

    /// Sends a form as a browser without scripts does.
    pub(crate) fn form(&self, function: &str, fields: &[(&str, &str)]) -> Answer {
        self.form_from(&format!("http://{}", self.address), function, fields)
    }

    /// Sends a form as a page of another server could.
    pub(crate) fn form_from(&self, origin: &str, function: &str, fields: &[(&str, &str)]) -> Answer {
        let head = format!(
            "accept: text/html\r\ncontent-type: application/x-www-form-urlencoded\r\norigin: {origin}\r\nreferer: {origin}/page\r\n"
        );
        let pairs: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        self.request("POST", &format!("/api/{function}"), &head, &pairs.join("&"))
    }

    /// Calls a function as a program does.
    pub(crate) fn call(&self, function: &str, body: &str) -> Answer {
        let head = "accept: application/json\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        self.request("POST", &format!("/api/{function}"), head, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
        let mistakes = std::fs::read_to_string(self.mistakes.path()).unwrap_or_default();
        eprint!("{mistakes}");
        assert!(std::thread::panicking() || !mistakes.contains("panicked"), "the server panicked");
    }
}

/// The server on a free port, not yet started.
pub(crate) fn command(data: &Path, pkg: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leptos-todo"));
    command.args(["--addr", "127.0.0.1:0", "--data"]).arg(data).arg("--pkg").arg(pkg);
    command
}

/// Sends a request with these lines in its head, and returns a connection to read the answer from.
fn send(address: &str, host: &str, method: &str, path: &str, head: &str, body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    // With this version the answer is not cut into chunks.
    let request =
        format!("{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {length}\r\n{head}\r\n{body}");
    connection.write_all(request.as_bytes()).unwrap();
    connection
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A line of the head.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02x}"))
}
