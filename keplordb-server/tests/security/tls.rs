//! A server with a certificate: TLS 1.3 and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keplordb_server::{Scope, Serving, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto, version};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::ask::{bearer, key};
use super::common::serving_as;

const CA: &[u8] = include_bytes!("../tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../tls/server.pem");
pub(crate) const KEY: &str = include_str!("../tls/server.key");

/// The tests' certificate in a directory, with a key that only its owner may read.
pub(crate) fn certificate(dir: &Path) -> Tls {
    let tls = Tls { certificate: dir.join("chain.pem"), key: dir.join("key.pem"), client_ca: None };
    std::fs::write(&tls.certificate, CERTIFICATE).unwrap();
    std::fs::write(&tls.key, KEY).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    tls
}

pub(crate) fn serving(address: &str, tls: Option<Tls>) -> Serving {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let mut serving = Serving::from(address);
    serving.tls = tls;
    serving.hosts = vec!["events.test".to_owned()];
    serving
}

fn connector(ca: &[u8], of: &'static SupportedProtocolVersion) -> TlsConnector {
    connector_of(ca, of, None)
}

/// Of a client with a certificate and its key of its own.
fn connector_of(
    ca: &[u8],
    of: &'static SupportedProtocolVersion,
    own: Option<(&[u8], &[u8])>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_protocol_versions(&[of]).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate).map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap()).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls_1_3_and_nothing_else() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = bearer(&key(dir.path(), "reader", &[Scope::Read]));
    let tls = certificate(files.path());
    serving_as(dir.path(), serving("127.0.0.1:0", Some(tls)), async |address| {
        // gRPC.
        let config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(CA)).domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://localhost:{}", address.port())).unwrap();
        let channel = endpoint.tls_config(config).unwrap().connect().await.unwrap();
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        // HTTP/1.1, under the server's own name.
        let name = ServerName::try_from("events.test").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector(CA, &version::TLS13).connect(name.clone(), stream).await.unwrap();
        let request = format!(
            "GET /e HTTP/1.1\r\nhost: events.test\r\nauthorization: {own}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Who closes without saying so first is read to the end all the same.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        // An older version, and a certificate for which nobody vouches.
        let stream = TcpStream::connect(address).await.unwrap();
        assert!(connector(CA, &version::TLS12).connect(name.clone(), stream).await.is_err());
        let stream = TcpStream::connect(address).await.unwrap();
        let nobody = connector(&[], &version::TLS13);
        assert!(nobody.connect(name, stream).await.is_err());
        // What is not encrypted is not answered.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    })
    .await;
}

#[tokio::test]
async fn where_clients_need_a_certificate_nobody_gets_in_without_a_good_one() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tls = certificate(files.path());
    let ca = files.path().join("clients.pem");
    std::fs::write(&ca, CA).unwrap();
    tls.client_ca = Some(ca);
    serving_as(dir.path(), serving("127.0.0.1:0", Some(tls)), async |address| {
        let healthz = async |own| {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            // In TLS 1.3 a client is done before the server has looked at its certificate.
            let mut stream = connector_of(CA, &version::TLS13, own).connect(name, stream).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            let mut answer = Vec::new();
            if stream.write_all(request).await.is_ok() {
                let _ = stream.read_to_end(&mut answer).await;
            }
            answer.starts_with(b"HTTP/1.1 200")
        };
        let client = include_bytes!("../tls/client.pem").as_slice();
        let client_key = include_bytes!("../tls/client.key").as_slice();
        let expired = include_bytes!("../tls/expired.pem").as_slice();
        let expired_key = include_bytes!("../tls/expired.key").as_slice();
        assert!(healthz(Some((client, client_key))).await);
        assert!(!healthz(None).await, "without a certificate");
        assert!(!healthz(Some((expired, expired_key))).await, "with an expired one");
        assert!(!healthz(Some((CERTIFICATE, KEY.as_bytes()))).await, "with one for servers");
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tls = certificate(files.path());
    let (chain, private) = (tls.certificate.clone(), tls.key.clone());
    serving_as(dir.path(), serving("127.0.0.1:0", Some(tls)), async |address| {
        let shown = async || {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let shaken = connector(CA, &version::TLS13).connect(name, stream).await;
            shaken.map(|stream| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
        };
        let first = shown().await.unwrap();
        // One whose key is another's is not used.
        std::fs::write(&chain, include_bytes!("../tls/client.pem")).unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(shown().await.unwrap(), first);
        // One of a client is; that no client takes it shows that it is.
        std::fs::write(&private, include_bytes!("../tls/client.key")).unwrap();
        let begun = std::time::Instant::now();
        while shown().await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the new certificate is not used");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    serving_as(dir.path(), serving("127.0.0.1:0", None), async |address| {
        let mut quiet = Vec::new();
        for beginning in ["", "G", "PRI * HTTP/2.0"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            quiet.push((beginning, stream));
        }
        for (beginning, mut stream) in quiet {
            let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "after {beginning:?} the connection stays");
        }
    })
    .await;
}
