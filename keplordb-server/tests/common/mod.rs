//! A server on a root, while a test talks to it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use keplordb_server::{Capture, Serving, serve};
use tokio::sync::oneshot;

/// Runs a server on a root while `with` talks to it at its address, and stops it.
pub(crate) async fn serving<T, F: Future<Output = T>>(root: &Path, with: impl FnOnce(SocketAddr) -> F) -> T {
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    serving_as(root, any_port.into(), with).await
}

/// As [`serving`], with its own address, certificate and names.
pub(crate) async fn serving_as<T, F: Future<Output = T>>(
    root: &Path,
    serving: Serving,
    with: impl FnOnce(SocketAddr) -> F,
) -> T {
    let (address, told) = oneshot::channel::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let capture = Capture::open(root).unwrap();
    let server = tokio::spawn(serve(capture, serving, |listening| address.send(listening).unwrap(), async {
        drop(stopped.await);
    }));
    let address = told.await.unwrap();
    let found = with(address).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    found
}
