//! What is too large, and who is too slow.

use std::time::{Duration, Instant};

use keplordb_server::Scope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::ask::{ask, bearer, key};
use super::common::serving;

#[tokio::test]
async fn what_is_too_large_is_refused_and_told_how_large_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let own = bearer(&key(dir.path(), "shop", &[Scope::Ingest]));
    serving(dir.path(), async |address| {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        for (length, body) in [
            ("content-length: 34603008".to_owned(), "x".repeat(33 << 20)),
            ("transfer-encoding: chunked".to_owned(), chunk.repeat(33)),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /events HTTP/1.1\r\nhost: {address}\r\nauthorization: {own}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let answered = async {
                let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
                while !answer.ends_with(b"}}") {
                    let count = read.read(&mut piece).await.unwrap();
                    assert_ne!(count, 0, "{length}: {}", String::from_utf8_lossy(&answer));
                    answer.extend(&piece[..count]);
                }
                String::from_utf8(answer).unwrap()
            };
            // Whoever sends may be cut off before all is sent.
            let (answer, _) = tokio::join!(answered, write.write_all(body.as_bytes()));
            assert!(answer.starts_with("HTTP/1.1 413"), "{length}: {answer}");
            assert!(answer.contains("more than 33554432 bytes") && answer.contains("send it in parts"), "{answer}");
        }
        let long = "x".repeat(20_000);
        assert_eq!(ask(address, "GET", "/healthz", &[("long", &long)]).await.status, 431);
    })
    .await;
}

#[tokio::test]
async fn slow_clients_keep_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let mut slow = Vec::new();
        for _ in 0..500 {
            slow.push(TcpStream::connect(address).await.unwrap());
        }
        let dripping = tokio::spawn(async move {
            for byte in "GET /e HTTP/1.1\r\nhost: localhost\r\n".bytes().cycle() {
                for stream in &mut slow {
                    // Those that were cut off are what is wanted.
                    let _ = stream.write_all(&[byte]).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(ask(address, "GET", "/e", &[]).await.status, 200);
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
        dripping.abort();
    })
    .await;
}
