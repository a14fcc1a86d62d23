//! TLS 1.3 from a certificate and its private key, which are read again when they change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use keplordb_disk::{RealDisk, read_all};
use ring::digest::{SHA256, digest};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto, version};

use crate::error::ServerError;
use crate::keys::check_private;

/// Largest file of either kind, in bytes: many times a long chain of certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What is spoken within: gRPC needs the first one, and HTTP has either.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of a server's certificate: PEM, of the chain, its own certificate first, and of the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key, which not everybody may read.
    pub key: PathBuf,
    /// Who vouches for clients: without a certificate of theirs nobody is let in, whatever key he has. Everybody may connect where there is none.
    pub client_ca: Option<PathBuf>,
}

/// A certificate in use.
pub(crate) struct Identity {
    tls: Tls,
    held: RwLock<Held>,
}

#[derive(Clone)]
struct Held {
    config: Arc<ServerConfig>,
    /// Of all files, to see whether they are others; nothing can be made of it.
    hash: Vec<u8>,
}

impl Identity {
    pub(crate) fn open(tls: Tls) -> Result<Self, ServerError> {
        let held = RwLock::new(tls.read(None)?.ok_or_else(|| refused(&tls.certificate, "it is empty"))?);
        Ok(Self { tls, held })
    }

    /// Reads the files again where they have changed; says whether they have. After an error the certificate is what it was.
    pub(crate) fn refresh(&self) -> Result<bool, ServerError> {
        let hash = self.held.read().unwrap_or_else(PoisonError::into_inner).hash.clone();
        let Some(held) = self.tls.read(Some(&hash))? else { return Ok(false) };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(true)
    }

    /// What the next connection is made with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&held.config))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Tls {
    /// `None` where the files have the hash already.
    fn read(&self, hash: Option<&[u8]>) -> Result<Option<Held>, ServerError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        check_private(&self.key).map_err(|what| refused(&self.key, what))?;
        let client_ca = self.client_ca.as_deref().map(|file| read(file).map(|ca| (file, ca))).transpose()?;
        let mut all = digest(&SHA256, &certificate).as_ref().to_vec();
        all.extend(digest(&SHA256, &key).as_ref());
        all.extend(client_ca.iter().flat_map(|(_, ca)| digest(&SHA256, ca).as_ref().to_vec()));
        if hash == Some(all.as_slice()) {
            return Ok(None);
        }
        let chain = chain(&self.certificate, &certificate)?;
        // What is said of a private key is said without showing any of it.
        let private = PrivateKeyDer::from_pem_slice(&key);
        let private = private.map_err(|_| refused(&self.key, "it has no private key in PEM"))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[&version::TLS13]);
        let builder = builder.map_err(|error| refused(&self.certificate, error.to_string()))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some((file, ca)) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::chain(file, &ca)? {
                    roots.add(certificate).map_err(|error| refused(file, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(
                    verifier.build().map_err(|error| refused(file, error.to_string()))?,
                )
            }
        };
        let config = builder.with_single_cert(chain, private);
        let mut config = config.map_err(|error| {
            refused(&self.certificate, format!("{error}; is {} the key of it?", self.key.display()))
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Some(Held { config: Arc::new(config), hash: all }))
    }
}

/// The certificates of a file; at least one.
fn chain(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| refused(file, format!("it is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(refused(file, "it has no certificate in PEM"));
    }
    Ok(chain)
}

fn refused(file: &Path, what: impl Into<String>) -> ServerError {
    ServerError::Tls { file: file.to_owned(), what: what.into() }
}

fn read(file: &Path) -> Result<Vec<u8>, ServerError> {
    read_all(&RealDisk, file, FILE_BYTES_MAX).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            ServerError::Tls { file: file.to_owned(), what: "it is not there".to_owned() }
        }
        _ => ServerError::Io { file: file.to_owned(), op: "reading", source },
    })
}
