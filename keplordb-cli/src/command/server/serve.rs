//! `keplor serve`: a server on a root, until somebody ends it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keplordb_server::{Capture, DEFAULT_ADDRESS, Schema, ServeOptions, is_root};

use crate::command::Done;
use crate::interrupt;
use crate::output::{Output, note};
use crate::parse::duration;

/// Capture events of entities over gRPC
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor serve data
  keplor serve data --listen 127.0.0.1:7450 --schema custom.proto

The directory is made where it is not there. Without a schema any type is taken. SIGTERM and Ctrl-C let requests that are under way
be answered, and close the root: that is exit status 0. A second one ends at once; what was acknowledged is on disk in any case.")]
pub(crate) struct Serve {
    /// The server's root
    root: PathBuf,
    /// The address to listen on, of this machine only; with port 0 the system chooses one, which is said
    #[arg(long, value_name = "ADDRESS", default_value_t = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// The schema to read events by from now on: a .proto file
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// How often Parquet files are published for other programs: a duration, or `never`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_publish)]
    publish: Publish,
}

/// How often to publish, if at all.
#[derive(Debug, Clone, Copy)]
struct Publish(Option<Duration>);

fn parse_publish(text: &str) -> Result<Publish, String> {
    if text == "never" { Ok(Publish(None)) } else { duration(text).map(|every| Publish(Some(every))) }
}

impl Serve {
    pub(crate) fn run(self, _out: &mut Output) -> Result<Done> {
        check_address(self.listen)?;
        check_directory(&self.root)?;
        let capture = Capture::open(&self.root)?;
        if let Some(file) = &self.schema {
            let version = capture.push_schema(file)?;
            note(&format!("{} is version {version} of the schema", file.display()));
        }
        let example = example(capture.schemas().newest().map(AsRef::as_ref));
        let options = ServeOptions::from(self.listen).publish_every(self.publish.0);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.context("the threads of a server cannot be started")?.block_on(async {
            let stop = Stop::listen()?;
            let told = |address| note(&told(&self.root, address, &example));
            anyhow::Ok(keplordb_server::serve(capture, options, told, stop.asked()).await?)
        })?;
        Ok(Done::Well)
    }
}

/// There is neither encryption nor a key yet, so nobody else may reach a server.
fn check_address(address: SocketAddr) -> Result<()> {
    ensure!(
        address.ip().is_loopback(),
        "{address} can be reached from other machines, and a server asks nobody for a key: listen on 127.0.0.1:{} or [::1]:{0}, \
         and let a proxy that encrypts and asks stand before it",
        address.port()
    );
    Ok(())
}

/// A directory that holds something else is a slip.
fn check_directory(root: &Path) -> Result<()> {
    if !root.exists() || is_root(root) {
        return Ok(());
    }
    let failed = || format!("{} cannot be listed", root.display());
    let is_empty = root.read_dir().with_context(failed)?.next().is_none();
    ensure!(
        is_empty,
        "{} holds files and is no server's root; give one that is, or is empty, or is not there yet",
        root.display()
    );
    Ok(())
}

/// What is asked for by SIGTERM and Ctrl-C.
struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Stop {
    /// From here on they end nothing by themselves.
    fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let failed = "SIGTERM and Ctrl-C cannot be listened to";
            let terminate = signal(SignalKind::terminate()).context(failed)?;
            let interrupt = signal(SignalKind::interrupt()).context(failed)?;
            Ok(Self { signals: [terminate, interrupt] })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        // Where it cannot be listened to, it ends the process.
        let _ = tokio::signal::ctrl_c().await;
    }

    /// Waits for the first one; from then on the next one ends the process.
    async fn asked(mut self) {
        self.next().await;
        note("stopping after what is under way; once more ends at once");
        tokio::spawn(async move {
            self.next().await;
            exit(interrupt::STATUS.into());
        });
    }
}

/// The type, the id and the payload of an event that can be sent.
type Example = (String, String, String);

fn example(schema: Option<&Schema>) -> Example {
    let Some((schema, name)) = schema.and_then(|schema| Some((schema, schema.types().next()?))) else {
        return ("User".to_owned(), "user_123".to_owned(), r#"{"name":"Ada"}"#.to_owned());
    };
    let fields = schema.get(name).map(keplordb_server::EntityType::fields).unwrap_or_default();
    let field = fields.iter().find(|field| field.kind == "string" && field.numbers.len() == 1);
    let payload = field.map_or_else(|| "{}".to_owned(), |field| format!(r#"{{"{}":"Ada"}}"#, field.path));
    (name.to_owned(), format!("{}_123", name.to_lowercase()), payload)
}

/// What a person is told once the server answers.
fn told(root: &Path, address: SocketAddr, (entity_type, id, payload): &Example) -> String {
    let server =
        if address == DEFAULT_ADDRESS { String::new() } else { format!(" --server http://{address}") };
    let shown = root.display().to_string();
    let root = quoted(&shown);
    format!(
        "serving {root} on {address}; in another terminal:\n  \
         keplor ingest{server} --type {entity_type} --entity {id} --op CREATE --payload '{payload}'\n  \
         keplor get {root} {entity_type}/{id}\n  \
         keplor tail {root} -f"
    )
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_listened_on() {
        for address in ["127.0.0.1:50051", "127.9.9.9:1", "[::1]:0"] {
            assert!(check_address(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:50051", "192.168.1.7:50051", "[::]:50051"] {
            let error = check_address(address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("can be reached from other machines"), "{error}");
        }
    }

    #[test]
    fn what_is_told_can_be_typed() {
        let example = example(None);
        let text = told(Path::new("it's data"), "127.0.0.1:7450".parse().unwrap(), &example);
        assert!(text.contains(r"keplor get 'it'\''s data' User/user_123"), "{text}");
        assert!(text.contains("keplor ingest --server http://127.0.0.1:7450 --type User"), "{text}");
        assert!(!told(Path::new("data"), DEFAULT_ADDRESS, &example).contains("--server"));
    }
}
