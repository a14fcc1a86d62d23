//! Requests as bytes, and the head of what comes back.

use std::net::SocketAddr;

use keplordb_server::{Keys, NewKey, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The head of an answer, and what of its body came with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Of gRPC, where it is in the head: of a refusal it is.
    pub(crate) grpc_status: Option<u16>,
    pub(crate) text: String,
}

/// Whether it is answered, refused for want of a good key, or for want of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    LetIn,
    Unauthenticated,
    Denied,
}

impl Answer {
    pub(crate) fn said(&self) -> Said {
        match (self.status, self.grpc_status) {
            (401, _) | (200, Some(16)) => Said::Unauthenticated,
            (403, _) | (200, Some(7)) => Said::Denied,
            _ => Said::LetIn,
        }
    }
}

pub(crate) fn is_grpc(path: &str) -> bool {
    path.starts_with("/reflog.") || path.starts_with("/grpc.")
}

/// Asks, each time over a connection of its own, and reads the head of the answer, and its body where it has a length.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let kind = if is_grpc(path) { "application/grpc" } else { "application/json" };
    ask_as(address, method, path, kind, headers).await
}

/// As [`ask`], and says of what kind the body is: of gRPC an empty message, or JSON.
pub(crate) async fn ask_as(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let body: &[u8] = if kind.starts_with("application/grpc") { &[0; 5] } else { b"{}" };
    let body = if ["GET", "HEAD"].contains(&method) { &[] } else { body };
    send(address, method, path, kind, headers, body).await
}

/// Asks for a method of gRPC with a message that is said to have so many bytes, and has none.
pub(crate) async fn ask_grpc(address: SocketAddr, path: &str, length: [u8; 4]) -> Answer {
    let [a, b, c, d] = length;
    send(address, "POST", path, "application/grpc", &[], &[0, a, b, c, d]).await
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).await.unwrap();
        bytes.extend(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let field = |name: &str| {
                head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<usize>().ok())
            };
            // What answers HEAD has the length of what would answer GET, and no body.
            let length = if method == "HEAD" { 0 } else { field("content-length:").unwrap_or(0) };
            if body.len() >= length || count == 0 {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let grpc_status = field("grpc-status:").and_then(|status| u16::try_from(status).ok());
                return Answer { status, grpc_status, text: text.into_owned() };
            }
        }
        assert_ne!(count, 0, "{method} {path}: the connection ended: {text}");
    }
}

/// A key for all types; gives its text.
pub(crate) fn key(root: &std::path::Path, name: &str, scopes: &[Scope]) -> String {
    let new = NewKey { name: name.to_owned(), scopes: scopes.to_vec(), ..NewKey::default() };
    Keys::add(root, new).unwrap().1.expose().to_owned()
}

/// The header with a key.
pub(crate) fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}
