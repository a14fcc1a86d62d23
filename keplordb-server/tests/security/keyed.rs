//! What a key says of who sends, and of which entities it is for.

use std::net::SocketAddr;

use keplordb_server::{Capture, Instant, Keys, NewKey, Record, Scope};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ask::{ask, bearer};
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
        expires: None,
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
    let events = capture.log().history("User", "2", Instant::default()).unwrap();
    assert!(events.iter().all(|event| event.client == "shop"), "{events:?}");
    assert!(capture.log().history("Secret", "2", Instant::default()).unwrap().is_empty());
    capture.close().unwrap();
}
