//! What a key says of who sends, and of which entities it is for.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use keplordb_server::grpc::v2::capture_service_client::CaptureServiceClient;
use keplordb_server::grpc::{v1, v2};
use keplordb_server::{Capture, Keys, NewKey, Record, Scope};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::ask::{ask, bearer, is_grpc};
use super::common::serving;

async fn post(address: SocketAddr, key: &str, client: &str, body: &serde_json::Value) -> (u16, String) {
    let body = body.to_string();
    let request = format!(
        "POST /events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nreflog-client-id: {client}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_key_says_who_sends_and_for_which_types_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::open(dir.path()).unwrap();
    for entity_type in ["User", "Order", "Secret"] {
        let record = Record::new(entity_type, "1", keplordb_server::Operation::Create).json(&json!({}));
        capture.capture(record).await.unwrap();
    }
    capture.close().unwrap();
    let new = NewKey {
        name: "shop".to_owned(),
        scopes: vec![Scope::Ingest, Scope::Read],
        types: vec!["User".to_owned(), "Ord*".to_owned()],
        ..NewKey::default()
    };
    let key = Keys::add(dir.path(), new).unwrap().1;
    let key = key.expose();
    serving(dir.path(), async |address| {
        let record =
            |entity_type: &str| json!({"entity_type": entity_type, "entity_id": "2", "operation": "CREATE"});
        for (body, status) in [
            (record("User"), 200),
            (json!([record("User"), record("Order")]), 200),
            (record("Secret"), 403),
            (json!([record("User"), record("Secret")]), 403),
        ] {
            let (found, answer) = post(address, key, "somebody-else", &body).await;
            assert_eq!(found, status, "{body}: {answer}");
        }
        let own = bearer(key);
        for (path, status) in [
            ("/e/User/1", 200),
            ("/e/Order", 200),
            ("/events?type=Order", 200),
            ("/e/Secret", 403),
            ("/e/%53ecret", 403),
            ("/e/Secret/1", 403),
            ("/e/Secret/1/history", 403),
            ("/e/Secret/1/blame", 403),
            ("/e/Secret/1/diff?a=0", 403),
            ("/e/Secret/1/versions", 403),
            ("/events?type=Secret", 403),
            // All types are meant.
            ("/events", 403),
            ("/events/stream", 403),
        ] {
            let answer = ask(address, "GET", path, &[("authorization", &own)]).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
        }
        // A question may look at any type.
        #[cfg(feature = "sql")]
        for path in ["/sql?q=SELECT+1", "/rql?q=entity:users", "/e/User?q=limit:1"] {
            let answer = ask(address, "GET", path, &[("authorization", &own)]).await;
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
        }
        let types = ask(address, "GET", "/e", &[("authorization", &own)]).await.text;
        assert!(
            types.contains("\"Order\"") && types.contains("\"User\"") && !types.contains("Secret"),
            "{types}"
        );
    })
    .await;
    let capture = Capture::open(dir.path()).unwrap();
    let events = capture.log().history("User", "2", keplordb_server::Instant::default()).unwrap();
    assert!(events.iter().all(|event| event.client == "shop"), "{events:?}");
    assert!(capture.log().history("Secret", "2", keplordb_server::Instant::default()).unwrap().is_empty());
    capture.close().unwrap();
}

#[tokio::test]
async fn a_key_with_a_rate_asks_no_more_often() {
    let dir = tempfile::tempdir().unwrap();
    let new = |name: &str, rate| NewKey {
        name: name.to_owned(),
        scopes: vec![Scope::Ingest, Scope::Read],
        rate: NonZeroU32::new(rate),
        ..NewKey::default()
    };
    let slow = Keys::add(dir.path(), new("slow", 1)).unwrap().1;
    let free = Keys::add(dir.path(), new("free", 0)).unwrap().1;
    serving(dir.path(), async |address| {
        let (slow, free) = (bearer(slow.expose()), bearer(free.expose()));
        let begun = Instant::now();
        let mut let_in = 0;
        // Over HTTP and gRPC it is one rate.
        for path in ["/e", "/reflog.v1.ProtoService/GetProtos"].into_iter().cycle().take(10) {
            let method = if is_grpc(path) { "POST" } else { "GET" };
            let answer = ask(address, method, path, &[("authorization", &slow)]).await;
            if answer.status == 429 || answer.grpc_status == Some(8) {
                assert!(answer.text.contains("retry-after: 1"), "{answer:?}");
            } else {
                assert_eq!(answer.status, 200, "{answer:?}");
                let_in += 1;
            }
            assert_eq!(ask(address, "GET", "/e", &[("authorization", &free)]).await.status, 200);
        }
        let most = 1 + begun.elapsed().as_secs();
        assert!((1..=most).contains(&let_in), "{let_in} of {most}");

        // Each batch of a stream is one more.
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let batch = |id: u64| v2::IngestBatchRequest {
            records: vec![v1::IngestRecord {
                entity_type: "User".to_owned(),
                entity_id: id.to_string(),
                operation: v1::Operation::Create.into(),
                payload: b"{}".to_vec(),
                ..v1::IngestRecord::default()
            }],
        };
        let answers = loop {
            let mut request = Request::new(tokio_stream::iter((0..8).map(batch)));
            request.metadata_mut().insert("authorization", slow.parse().unwrap());
            match CaptureServiceClient::new(channel.clone()).ingest_stream(request).await {
                Ok(answers) => break answers.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let answers: Vec<_> = answers.map(|answer| answer.unwrap()).collect().await;
        assert_eq!(answers.len(), 8);
        let refused = answers.iter().filter(|answer| answer.code == i32::from(Code::ResourceExhausted));
        let refused =
            refused.inspect(|answer| assert!(answer.message.contains("the key of slow"), "{answer:?}"));
        let captured: usize = answers.iter().map(|answer| answer.receipts.len()).sum();
        let refused = refused.count();
        assert!(refused > 0 && captured + refused == 8, "{captured} and {refused}");
    })
    .await;
}
