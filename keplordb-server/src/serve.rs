//! The services of a root on an address, from start to a graceful stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::auth::Gate;
use crate::capture::Capture;
use crate::connection::{self, Served};
use crate::error::ServerError;
use crate::grpc::{DESCRIPTORS, Services, v1, v2};
use crate::guards::{self, Guards};
use crate::http;
use crate::http::guard::Hosts;
use crate::keys::Ring;
use crate::limits::{self, Room};
use crate::metrics::Metrics;
use crate::publishing::publish;
use crate::tls::{Identity, Tls};

/// How often, and after which pause, it is looked whether the last request is done when the server stops.
const CLOSE_TRIES: u32 = 100;
/// See [`CLOSE_TRIES`].
const CLOSE_PAUSE: Duration = Duration::from_millis(10);
/// How often is published unless it is said otherwise.
const PUBLISH_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether keys and certificates have changed.
const REFRESH: Duration = Duration::from_secs(1);

/// The address on which a server listens unless it is told otherwise: this machine's alone.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50051);

/// Where and how a root is served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Serving {
    /// The address to listen on; with port 0 the system chooses one.
    pub address: SocketAddr,
    /// The certificate by which connections are encrypted. Without one nothing is, so only this machine may reach the server.
    pub tls: Option<Tls>,
    /// Names of the server beside those of this machine. A request that names another host is refused.
    pub hosts: Vec<String>,
    /// How often what came is [published](Capture::publish) as Parquet; ten seconds unless said otherwise. Not at all by `None`.
    pub publish_every: Option<Duration>,
}

impl From<SocketAddr> for Serving {
    /// On this address, without TLS, under the names of this machine, publishing every ten seconds.
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None, hosts: Vec::new(), publish_every: Some(PUBLISH_EVERY) }
    }
}

impl Serving {
    /// See [`publish_every`](Self::publish_every).
    #[must_use]
    pub fn publish_every(self, publish_every: Option<Duration>) -> Self {
        Self { publish_every, ..self }
    }

    /// That a root can be served so: that nobody can reach it whom nothing keeps out, and that its keys and its certificate are some. Nothing is
    /// made or changed; [`serve`] looks again.
    ///
    /// # Errors
    /// As [`serve`] says of what is missing or wrong.
    pub fn check(&self, root: impl AsRef<Path>) -> Result<(), ServerError> {
        Guarded::of(root.as_ref(), self).map(drop)
    }
}

/// Serves a root over gRPC and HTTP on an address until `stop` is done; then requests that are under way are answered, for at most ten
/// seconds, and the root is closed. `listening` is told the address, of which the port may have been chosen by the system.
///
/// Where the root has keys, or where others than this machine can reach the address, requests need one; `keplor keys` makes them. Keys
/// and certificates are read again when their files change.
///
/// # Errors
/// [`NotLoopback`](ServerError::NotLoopback) for an address that others than this machine can reach, without a certificate or without a key
/// that is good; [`Tls`](ServerError::Tls), [`Keys`](ServerError::Keys) and [`Host`](ServerError::Host) for what is wrong with these;
/// [`Listen`](ServerError::Listen) when the address is taken; else as [`Capture::close`].
///
/// # Panics
/// Never: the descriptors of the protocol are the compiler's.
pub async fn serve(
    capture: Capture,
    serving: impl Into<Serving>,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> std::result::Result<(), ServerError> {
    let serving = serving.into();
    let guarded = Guarded::of(capture.root(), &serving)?;
    let address = serving.address;
    let refused = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    listening(listener.local_addr().map_err(refused)?);

    let capture = Arc::new(capture);
    let metrics = Arc::clone(capture.metrics());
    // Ends with this.
    let mut refreshing = JoinSet::new();
    refreshing.spawn(refresh(guarded.clone(), Arc::clone(&metrics)));
    let identity = guarded.identity.clone();
    #[cfg(feature = "sql")]
    let questions = http::questions(&capture)?;
    let router = routes(
        &capture,
        guarded,
        #[cfg(feature = "sql")]
        questions.clone(),
    )
    .await;
    let served = Served { router, identity, metrics, times: limits::TIMES, most: limits::CONNECTIONS_MAX };
    let publishing = serving.publish_every.map(|every| tokio::spawn(publish(Arc::clone(&capture), every)));
    let stop = async {
        stop.await;
        // Who follows the log, or may send more, would do so for ever.
        capture.end_streams();
    };
    connection::serve(listener, served, stop).await;
    if let Some(publishing) = publishing {
        // One that is under way is waited for.
        drop(publishing.await);
    }
    // They read the root, which is closed when nobody does.
    #[cfg(feature = "sql")]
    questions.end().await;
    close(capture).await
}

/// Closes a root when the last request is done with it: one that was cut off may be at the disk for a little longer.
async fn close(mut capture: Arc<Capture>) -> Result<(), ServerError> {
    for _ in 0..CLOSE_TRIES {
        match Arc::try_unwrap(capture) {
            Ok(capture) => return capture.close(),
            Err(shared) => capture = shared,
        }
        tokio::time::sleep(CLOSE_PAUSE).await;
    }
    tracing::warn!("a request is still at the disk; what was acknowledged is there");
    Ok(())
}

/// What keeps others out.
#[derive(Debug, Clone)]
struct Guarded {
    ring: Arc<Ring>,
    identity: Option<Arc<Identity>>,
    hosts: Hosts,
    /// Whether others than this machine can reach the server.
    is_reached: bool,
}

impl Guarded {
    /// That nobody can reach the server whom nothing keeps out.
    fn of(root: &Path, Serving { address, tls, hosts, .. }: &Serving) -> Result<Self, ServerError> {
        let is_reached = !address.ip().is_loopback();
        let hosts = Hosts::new(hosts, is_reached)?;
        let ring = Arc::new(Ring::open(root)?);
        let identity = tls.clone().map(Identity::open).transpose()?.map(Arc::new);
        let missing = match (&identity, ring.has_good_ones()) {
            (Some(_), true) => None,
            (None, true) => Some("nothing is encrypted: give a certificate, --tls-cert and --tls-key"),
            (Some(_), false) => Some("there is no good key: `keplor keys add ROOT` makes one"),
            (None, false) => Some(
                "nothing is encrypted, and there is no good key: give a certificate, --tls-cert and --tls-key, and make a key, `keplor keys add ROOT`",
            ),
        };
        match missing {
            Some(missing) if is_reached => Err(ServerError::NotLoopback { address: *address, missing }),
            _ => Ok(Self { ring, identity, hosts, is_reached }),
        }
    }

    /// Reads again what has changed.
    fn refresh(&self) -> Result<(), ServerError> {
        if self.ring.refresh()? {
            tracing::info!("the keys have changed");
        }
        if let Some(identity) = &self.identity
            && identity.refresh()?
        {
            tracing::info!("the certificate has changed; new connections have it");
        }
        Ok(())
    }
}

/// Looks again and again whether keys and certificate have changed.
async fn refresh(guarded: Guarded, metrics: Arc<Metrics>) {
    let mut said = None;
    loop {
        tokio::time::sleep(REFRESH).await;
        let (guarded, metrics) = (guarded.clone(), Arc::clone(&metrics));
        let looked = tokio::task::spawn_blocking(move || {
            metrics.sum_up();
            guarded.refresh()
        });
        let failed = match looked.await {
            Ok(looked) => looked.err().map(|error| error.to_string()),
            // Whoever revokes a key counts on it that this goes on.
            Err(panic) => Some(panic.to_string()),
        };
        // Once for each reason, and not every second.
        if failed != said
            && let Some(error) = &failed
        {
            tracing::error!(error, "keys or certificate cannot be read; those that were read last are used");
        }
        said = failed;
    }
}

/// All that can be asked for, behind all that guards it.
async fn routes(
    capture: &Arc<Capture>,
    Guarded { ring, hosts, is_reached, identity }: Guarded,
    #[cfg(feature = "sql")] questions: http::Questions,
) -> Router {
    let services = Services(Arc::clone(capture));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<v1::ingest_service_server::IngestServiceServer<Services>>().await;
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = descriptors().build_v1().expect("the descriptors are those that the compiler made");
    // The older version is what clients in Python ask for, among others.
    let older = descriptors().build_v1alpha().expect("the descriptors are those that the compiler made");
    let ingest = v1::ingest_service_server::IngestServiceServer::new(services.clone())
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let captures = v2::capture_service_server::CaptureServiceServer::new(services.clone())
        .max_decoding_message_size(limits::BATCH_BYTES_MAX);
    let room = Room::new(Arc::clone(capture.metrics()));
    let gate = Gate { ring, is_always_asking: is_reached, metrics: Arc::clone(capture.metrics()) };
    let over_http = http::router(
        Arc::clone(capture),
        room.clone(),
        #[cfg(feature = "sql")]
        questions,
    );
    let routes = Routes::from(over_http)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(older)
        .add_service(ingest)
        .add_service(v1::health_service_server::HealthServiceServer::new(services.clone()))
        .add_service(v1::proto_service_server::ProtoServiceServer::new(services.clone()))
        .add_service(captures)
        .add_service(v2::entity_service_server::EntityServiceServer::new(services.clone()))
        .add_service(v2::schema_service_server::SchemaServiceServer::new(services));
    // Over all of them, since a browser can send what is meant for gRPC too.
    let guards = Arc::new(Guards { hosts, gate, room, is_encrypted: identity.is_some() });
    routes.into_axum_router().layer(from_fn_with_state(guards, guards::guarded))
}
