//! The services of a root on an address, from start to a graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server as Transport;
use tonic::transport::server::TcpIncoming;

use crate::capture::Capture;
use crate::error::ServerError;
use crate::grpc::{DESCRIPTORS, Services, v1, v2};
use crate::http;
use crate::record::MAX_PAYLOAD_BYTES;

/// Largest message that is taken, in bytes: a payload and what stands around it.
const MESSAGE_BYTES_MAX: usize = MAX_PAYLOAD_BYTES + (1 << 20);

/// Largest batch that is taken, likewise.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// How long it is until what could not be published is tried again, at most, unless it is published more rarely.
const PUBLISH_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How long requests that are under way may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The address on which a server listens unless it is told otherwise: this machine's alone.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50051);

/// Where and how a root is served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The address to listen on; [`DEFAULT_ADDRESS`] unless said otherwise.
    pub address: SocketAddr,
    /// How often what came is [published](Capture::publish) as Parquet; ten seconds unless said otherwise. Not at all by `None`.
    pub publish_every: Option<Duration>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { address: DEFAULT_ADDRESS, publish_every: Some(Duration::from_secs(10)) }
    }
}

impl From<SocketAddr> for ServeOptions {
    fn from(address: SocketAddr) -> Self {
        Self { address, ..Self::default() }
    }
}

impl ServeOptions {
    /// See [`publish_every`](Self::publish_every).
    #[must_use]
    pub fn publish_every(self, publish_every: Option<Duration>) -> Self {
        Self { publish_every, ..self }
    }
}

/// Serves a root over gRPC and HTTP until `stop` is done; then requests that are under way are answered, for at most ten
/// seconds, and the root is closed. `listening` is told the address, of which the port may have been chosen by the system.
///
/// # Errors
/// [`NotLoopback`](ServerError::NotLoopback) for an address that others than this machine can reach; [`Listen`](ServerError::Listen) when
/// it is taken; else as [`Capture::close`].
///
/// # Panics
/// Never: the descriptors of the protocol are the compiler's.
pub async fn serve(
    capture: Capture,
    options: impl Into<ServeOptions>,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> std::result::Result<(), ServerError> {
    let ServeOptions { address, publish_every } = options.into();
    if !address.ip().is_loopback() {
        return Err(ServerError::NotLoopback { address });
    }
    let refused = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    listening(listener.local_addr().map_err(refused)?);

    let capture = Arc::new(capture);
    let services = Services(Arc::clone(&capture));
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
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let captures = v2::capture_service_server::CaptureServiceServer::new(services.clone())
        .max_decoding_message_size(BATCH_BYTES_MAX);
    let ending = Arc::clone(&capture);
    let publishing = publish_every.map(|every| tokio::spawn(publish(Arc::clone(&capture), every)));
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        // Who follows the log, or may send more, would do so for ever.
        ending.end_streams();
        let _nobody_waits = stopping.send(());
    };
    let routes = Routes::from(http::router(Arc::clone(&capture)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(older)
        .add_service(ingest)
        .add_service(v1::health_service_server::HealthServiceServer::new(services.clone()))
        .add_service(v1::proto_service_server::ProtoServiceServer::new(services.clone()))
        .add_service(captures)
        .add_service(v2::entity_service_server::EntityServiceServer::new(services.clone()))
        .add_service(v2::schema_service_server::SchemaServiceServer::new(services));
    // Over all of them: a browser can send what is meant for gRPC too.
    let routes = routes.into_axum_router().layer(middleware::from_fn(http::guard::same_origin));
    let served = Transport::builder()
        .accept_http1(true)
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop);
    let too_long = async {
        if stopped.await.is_err() {
            // The services have ended by themselves; what they say counts.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        ended = served => ended?,
        () = too_long => tracing::warn!(seconds = DRAIN_MAX.as_secs(), "requests that took too long were cut off"),
    }
    if let Some(publishing) = publishing {
        // One that is under way is waited for.
        drop(publishing.await);
    }
    match Arc::into_inner(capture) {
        Some(capture) => capture.close(),
        None => Ok(()),
    }
}

/// Publishes until the server stops. What fails is said and tried again: the log has everything.
async fn publish(capture: Arc<Capture>, every: Duration) {
    let mut pause = every;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = capture.streams_end() => return,
        }
        let publishing = Arc::clone(&capture);
        let publishing = move || {
            if let Err(error) = publishing.maintain() {
                tracing::error!(%error, "the log is not maintained; it is tried again");
            }
            publishing.publish()
        };
        let error = match tokio::task::spawn_blocking(publishing).await {
            // The loop ends too where the server stops.
            Ok(Ok(_) | Err(ServerError::Stopping)) => {
                pause = every;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        // What failed may have begun with much work.
        pause = (pause * 2).min(PUBLISH_PAUSE_MAX).max(every);
        tracing::error!(error, again_after = ?pause, "what came could not be published");
    }
}
