//! `keplor serve`: a server on a root, until somebody ends it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keplordb_server::{Capture, DEFAULT_ADDRESS, Schema, Serving, Tls, is_root};

use super::logs::Log;
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
  keplor serve data --listen 0.0.0.0:50051 --tls-cert chain.pem --tls-key key.pem --host events.example.org

The directory is made where it is not there. Without a schema any type is taken. SIGTERM and Ctrl-C let requests that are under way
be answered, and close the root: that is exit status 0. A second one ends at once; what was acknowledged is on disk in any case.

An address that other machines can reach needs a certificate and a key: `keplor keys add` makes keys. Where a root has keys, requests
need one from this machine too. Keys and certificate are read again when their files change.")]
pub(crate) struct Serve {
    /// The server's root
    root: PathBuf,
    /// The address to listen on; with port 0 the system chooses one, which is said
    #[arg(long, value_name = "ADDRESS", default_value_t = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// The schema to read events by from now on: a .proto file
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// How often Parquet files are published for other programs: a duration, or `never`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_publish)]
    publish: Publish,
    /// The server's certificate and those that vouch for it: a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Other machines")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key: a PEM file that not everybody may read
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Other machines")]
    tls_key: Option<PathBuf>,
    /// Who vouches for clients: a PEM file. Without a certificate of theirs nobody is let in then, whatever key he has
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Other machines")]
    tls_client_ca: Option<PathBuf>,
    /// A name by which the server is asked for, beside localhost; may be given more than once
    #[arg(long, value_name = "NAME", help_heading = "Other machines")]
    host: Vec<String>,
    /// How the log is written to standard error; `RUST_LOG` chooses what: `keplordb_server=debug` has a line for each request
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    log: Log,
}

/// How often to publish, if at all.
#[derive(Debug, Clone, Copy)]
struct Publish(Option<Duration>);

fn parse_publish(text: &str) -> Result<Publish, String> {
    if text == "never" { Ok(Publish(None)) } else { duration(text).map(|every| Publish(Some(every))) }
}

impl Serve {
    pub(crate) fn run(self, _out: &mut Output) -> Result<Done> {
        self.log.begin()?;
        check_directory(&self.root)?;
        // Before a root is made for a server that cannot start.
        self.serving().check(&self.root)?;
        let capture = Capture::open(&self.root)?;
        if let Some(file) = &self.schema {
            let version = capture.push_schema(file)?;
            note(&format!("{} is version {version} of the schema", file.display()));
        }
        let example = example(capture.schemas().newest().map(AsRef::as_ref));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.context("the threads of a server cannot be started")?.block_on(async {
            let stop = Stop::listen()?;
            let told = |address| {
                self.log.say(&match self.tls_cert {
                    None => told(&self.root, address, &example),
                    Some(_) => told_with_tls(&self.root, address),
                });
            };
            anyhow::Ok(keplordb_server::serve(capture, self.serving(), told, stop.asked(self.log)).await?)
        })?;
        Ok(Done::Well)
    }

    fn serving(&self) -> Serving {
        let mut serving = Serving::from(self.listen);
        serving.tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let client_ca = self.tls_client_ca.clone();
                Some(Tls { certificate: certificate.clone(), key: key.clone(), client_ca })
            }
            _ => None,
        };
        serving.hosts.clone_from(&self.host);
        serving.publish_every = self.publish.0;
        serving
    }
}

/// A directory that holds something else is a slip.
pub(super) fn check_directory(root: &Path) -> Result<()> {
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
    async fn asked(mut self, log: Log) {
        self.next().await;
        log.say("stopping after what is under way; once more ends at once");
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

/// As [`told`], where clients need a key and who vouches for the certificate.
fn told_with_tls(root: &Path, address: SocketAddr) -> String {
    let shown = root.display().to_string();
    format!(
        "serving {} on {address} with TLS; clients need the server's name, who vouches for it, and a key:\n  \
         keplor ingest --server https://NAME:{} --ca FILE --key-file FILE --type User --entity user_123 --op CREATE",
        quoted(&shown),
        address.port()
    )
}

/// As a shell takes it for one word.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
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
    fn what_is_told_can_be_typed() {
        let example = example(None);
        let text = told(Path::new("it's data"), "127.0.0.1:7450".parse().unwrap(), &example);
        assert!(text.contains(r"keplor get 'it'\''s data' User/user_123"), "{text}");
        assert!(text.contains("keplor ingest --server http://127.0.0.1:7450 --type User"), "{text}");
        assert!(!told(Path::new("data"), DEFAULT_ADDRESS, &example).contains("--server"));
    }
}
