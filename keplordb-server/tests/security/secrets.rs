//! No secret shows in what a server answers, measures, keeps or logs.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use keplordb_server::Scope;
use keplordb_server::grpc::v1;
use keplordb_server::grpc::v1::ingest_service_client::IngestServiceClient;
use tonic::Request;
use tonic::transport::Channel;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::ask::{ask, bearer, key};
use super::common::serving_as;
use super::tls::{KEY, certificate, serving};

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_shows() {
    let log = Log::default();
    // Those that are below us too: whoever looks for a fault asks for all there is.
    let filter = EnvFilter::new("trace");
    let all = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(false);
    all.json().try_init().unwrap();

    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = key(dir.path(), "reader", &[Scope::Read, Scope::Metrics]);
    let gone = key(dir.path(), "gone", &Scope::ALL);
    keplordb_server::Keys::revoke(dir.path(), "gone").unwrap();
    // Of a text that is nearly a key no less may show.
    let near = format!("{good}canary");
    let mut said = String::new();
    serving_as(dir.path(), serving("127.0.0.1:0", None), async |address| {
        for brought in [bearer(&good), bearer(&gone), bearer(&near), format!("Basic {good}"), good.clone()] {
            for (method, path) in [
                ("GET", "/e"),
                ("GET", "/nothing"),
                ("PUT", "/schema"),
                ("POST", "/reflog.v1.IngestService/Ingest"),
                ("GET", "/metrics"),
            ] {
                said += &ask(address, method, path, &[("authorization", &brought)]).await.text;
            }
            // Over HTTP/2, where headers go another way.
            let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
            let mut request = Request::new(v1::IngestRecord::default());
            request.metadata_mut().insert("authorization", brought.parse().unwrap());
            let refused = IngestServiceClient::new(channel).ingest(request).await.unwrap_err();
            write!(said, "{refused:?}").unwrap();
        }
    })
    .await;
    assert!(said.contains("keplor_refused_total"), "{said}");
    let broken = certificate(files.path());
    std::fs::write(&broken.key, KEY.replace("-----END", "-----AND")).unwrap();
    let capture = keplordb_server::Capture::open(dir.path()).unwrap();
    let started =
        keplordb_server::serve(capture, serving("127.0.0.1:0", Some(broken)), |_| (), async {}).await;
    let error = started.unwrap_err();
    write!(said, "{error:?} {error}").unwrap();
    said += &std::fs::read_to_string(dir.path().join("_meta/keys.json")).unwrap();
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("\"request\""), "requests are logged: {logged}");
    let private = KEY.lines().nth(1).unwrap();
    for secret in ["canary", private, &private[..16], &good, &gone] {
        assert!(!said.contains(secret), "a secret shows: {said}");
        assert!(!logged.contains(secret), "a secret is logged: {logged}");
    }
}
