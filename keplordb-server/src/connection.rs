//! Connections: taken one by one, encrypted where the server has a certificate, and ended when who connects says nothing.
//!
//! A connection counts from when it is accepted; a handshake keeps nobody else waiting. On a port with TLS there is nothing without.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::{CONNECTIONS_MAX, OPENING_MAX};
use crate::tls::Identity;

/// Connections that wait to be served.
const WAITING_MAX: usize = 64;
/// How long nothing is accepted after the system refused to, because it has no more files for instance.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes after which it is known what is spoken: those with which HTTP/2 begins. No request of HTTP/1 with a host is shorter.
const OPENING_BYTES: usize = 24;

/// Takes connections until nobody takes what is given.
pub(crate) fn incoming(
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    count: Gauge,
) -> impl Stream<Item = io::Result<Connection>> {
    let (taken, given) = mpsc::channel(WAITING_MAX);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            // The listener is closed as soon as nobody waits for connections any more.
            let accepted = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                () = taken.closed() => return,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted; see to the limit of open files");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let place = Place::new(place, count.clone());
            let (identity, taken) = (identity.clone(), taken.clone());
            tokio::spawn(async move {
                // Who gives up in between is nobody's concern.
                if let Some(connection) = Connection::open(stream, identity.as_deref(), place).await {
                    drop(taken.send(Ok(connection)).await);
                }
            });
        }
    });
    ReceiverStream::new(given)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// That a connection counts.
struct Place {
    count: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, count: Gauge) -> Self {
        count.increment(1.0);
        Self { count, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.decrement(1.0);
    }
}

/// A connection.
pub(crate) struct Connection {
    wire: Wire,
    /// Ends it, until it is known what is spoken.
    opening: Option<Pin<Box<Sleep>>>,
    /// Bytes that came.
    came: usize,
    _place: Place,
}

enum Wire {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// `None` where there is no agreement on how to encrypt, or none in time.
    async fn open(stream: TcpStream, identity: Option<&Identity>, place: Place) -> Option<Self> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return None;
        }
        let wire = match identity {
            None => Wire::Plain(stream),
            Some(identity) => match timeout(OPENING_MAX, identity.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => Wire::Encrypted(Box::new(stream)),
                Ok(Err(error)) => {
                    tracing::debug!(error = error.to_string(), "a TLS handshake failed");
                    return None;
                }
                Err(_) => {
                    tracing::debug!(seconds = OPENING_MAX.as_secs(), "a TLS handshake took too long");
                    return None;
                }
            },
        };
        Some(Self { wire, opening: Some(Box::pin(sleep(OPENING_MAX))), came: 0, _place: place })
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(opening) = &mut this.opening
            && opening.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Encrypted(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        this.came = this.came.saturating_add(buffer.filled().len() - before);
        if this.came >= OPENING_BYTES {
            this.opening = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Wire::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Encrypted(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.wire {
            Wire::Plain(stream) => stream.connect_info(),
            Wire::Encrypted(stream) => stream.get_ref().0.connect_info(),
        }
    }
}
