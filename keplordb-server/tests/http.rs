//! A server as it is seen over HTTP: events in as JSON, entities out, and what is refused with the code that says why.

#![allow(clippy::needless_pass_by_value, reason = "payloads are taken as `json!` makes them")]

mod common;

use std::net::SocketAddr;

use common::serving;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

/// Asks, each time over a connection of its own.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len().to_string();
    let own = address.to_string();
    let mut all = vec![("connection", "close"), ("content-length", &length)];
    if !headers.iter().any(|(name, _)| *name == "host") {
        all.push(("host", &own));
    }
    all.extend(headers);
    let headers: Vec<_> = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\n{}", headers.concat());
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Answer { status, body }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[], "").await
}

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(address: SocketAddr, body: &Value) -> Answer {
    ask(address, "POST", "/events", &[JSON, ("reflog-client-id", "shop")], &body.to_string()).await
}

fn record(operation: &str, id: &str, time_ms: i64, payload: Value) -> Value {
    json!({"entity_type": "User", "entity_id": id, "operation": operation, "event_time": time_ms, "payload": payload})
}

#[tokio::test]
async fn what_comes_in_as_json_is_an_entity_with_a_history() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let created = record("CREATE", "user_123", 1000, json!({"plan": "free", "address": {"city": "Oslo"}}));
        let first = post(address, &created).await;
        assert_eq!((first.status, &first.body["is_duplicate"]), (200, &json!(false)), "{first:?}");
        let batch = json!([
            record("UPDATE", "user_123", 3000, json!({"plan": "team", "address": {"city": null}})),
            {"entity_type": "User", "entity_id": "user_9", "operation": "CREATE", "event_id": "e-1", "event_time": "1970-01-01T00:00:02Z"},
            {"entity_type": "User", "entity_id": "user_9", "operation": "CREATE", "event_id": "e-1"},
        ]);
        let many = post(address, &batch).await;
        let duplicates: Vec<_> = many.body["receipts"].as_array().unwrap().iter().map(|receipt| &receipt["is_duplicate"]).collect();
        assert_eq!(duplicates, [&json!(false), &json!(false), &json!(true)]);
        let lines = format!("{}\n\n{}\n", record("UPDATE", "user_9", 4000, json!({"n": 1})), record("DELETE", "user_9", 5000, json!({})));
        let lines = ask(address, "POST", "/events", &[("content-type", "application/x-ndjson")], &lines).await;
        assert_eq!((lines.status, lines.body["receipts"].as_array().unwrap().len()), (200, 2));

        let now = get(address, "/e/User/user_123").await;
        assert_eq!(now.body["state"], json!({"plan": "team", "address": {}}), "{now:?}");
        assert_eq!((&now.body["version"], &now.body["event_time_ms"]), (&json!(2), &json!(3000)));
        let then = get(address, "/e/User/user_123?as_of=1970-01-01T00:00:01.5Z").await;
        assert_eq!(then.body["state"], json!({"plan": "free", "address": {"city": "Oslo"}}));
        let unheard = get(address, "/e/User/user_123?known_at=2000").await;
        assert_eq!(unheard.status, 404, "{unheard:?}");
        assert_eq!(get(address, "/e/User/user_9").await.body["state"], Value::Null);

        let history = get(address, "/e/User/user_9/history").await;
        let operations: Vec<_> = history.body.as_array().unwrap().iter().map(|event| &event["operation"]).collect();
        assert_eq!(operations, ["CREATE", "UPDATE", "DELETE"]);
        let blame = get(address, "/e/User/user_123/blame").await;
        let plan = blame.body.as_array().unwrap().iter().find(|field| field["path"] == json!(["plan"])).unwrap();
        assert_eq!((&plan["value"], &plan["previous"], &plan["client"]), (&json!("team"), &json!("free"), &json!("shop")));
        let diff = get(address, "/e/User/user_123/diff?a=1000").await;
        let paths: Vec<_> = diff.body.as_array().unwrap().iter().map(|change| &change["path"]).collect();
        assert_eq!(paths, [&json!(["address"]), &json!(["address", "city"]), &json!(["plan"])]);
        let versions = get(address, "/e/User/user_123/versions").await;
        assert_eq!(versions.body.as_array().unwrap().len(), 3, "{versions:?}");

        let types = get(address, "/e").await;
        assert_eq!((&types.body[0]["entity_type"], &types.body[0]["events"]), (&json!("User"), &json!(5)));
        let page = get(address, "/e/User?limit=1&begin=user").await;
        assert_eq!((&page.body["entities"][0]["entity_id"], &page.body["next"]), (&json!("user_123"), &json!("user_123")));
        let next = get(address, "/e/User?limit=1&begin=user&after=user_123").await;
        assert_eq!(next.body["entities"][0]["entity_id"], "user_9");

        let events = get(address, "/events?type=User&limit=2").await;
        assert_eq!(events.body["events"].as_array().unwrap().len(), 2);
        let next = get(address, &format!("/events?after={}", events.body["next"])).await;
        assert_eq!(next.body["events"].as_array().unwrap().len(), 3);
        assert_eq!(get(address, "/healthz").await.status, 200);
        assert_eq!(get(address, "/readyz").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let good = record("CREATE", "user_1", 1000, json!({}));
        assert_eq!(post(address, &good).await.status, 200);
        let mut unexpected = good.clone();
        unexpected["expected_version"] = json!(0);
        let mut unknown = good.clone();
        unknown["entity_tipe"] = json!("User");
        let bad = [
            (unexpected, 412, "the entity has 1 events, 0 were expected"),
            (unknown, 400, "unknown field `entity_tipe`"),
            (record("CREATE", "", 1000, json!({})), 400, "entity_id: it is empty"),
            (record("CREATE", "a\0b", 1000, json!({})), 400, "has control characters"),
            (record("UPSERT", "user_1", 1000, json!({})), 400, "unknown variant `UPSERT`"),
            (record("CREATE", "user_1", i64::MAX / 1_000_000, json!({})), 400, "ahead of the server's clock"),
            (
                json!([good, record("CREATE", "", 1000, json!({}))]),
                400,
                "record 1: entity_id: it is empty; none of the batch was captured",
            ),
        ];
        for (body, status, why) in bad {
            let refused = post(address, &body).await;
            assert_eq!(refused.status, status, "{refused:?}");
            let message = refused.body["error"]["message"].as_str().unwrap();
            assert!(message.contains(why), "{message}");
        }
        let huge = good.to_string() + &" ".repeat(33 << 20);
        let refused = ask(address, "POST", "/events", &[JSON], &huge).await;
        assert_eq!(refused.status, 413);
        let mut nested = json!(1);
        for _ in 0..64 {
            nested = json!({"inner": nested});
        }
        let refused = post(address, &record("CREATE", "user_1", 1000, nested.clone())).await;
        assert_eq!(refused.status, 200, "64 levels are kept: {refused:?}");
        let refused = post(address, &record("CREATE", "user_1", 1000, json!({"outer": nested}))).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        let deep = "[".repeat(100_000);
        assert_eq!(ask(address, "POST", "/events", &[JSON], &deep).await.status, 400);

        let missing = get(address, "/e/User/user_2").await;
        assert_eq!((missing.status, &missing.body["error"]["code"]), (404, &json!("NOT_FOUND")));
        let message = missing.body["error"]["message"].as_str().unwrap();
        assert_eq!(message, "there is no User \"user_2\"; there are \"user_1\"");
        let early = get(address, "/e/User/user_1?as_of=5").await;
        let message = early.body["error"]["message"].as_str().unwrap();
        assert_eq!(message, "\"user_1\" was not there yet; its first event is of 1970-01-01T00:00:01Z");
        assert_eq!(get(address, "/e/User/user_1?as_of=yesterday").await.status, 400);
        assert_eq!(get(address, "/e/User/user_1?asOf=2024-01-31T00:00:00Z").await.status, 400);
        assert_eq!(get(address, "/e/User/..%2f..%2fetc%2fpasswd").await.status, 404);
        assert_eq!(get(address, "/schema").await.status, 404);
        let no_schema = ask(address, "PUT", "/schema", &[], "message User {").await;
        assert_eq!(no_schema.status, 400, "{no_schema:?}");
    })
    .await;
}

#[tokio::test]
async fn pages_of_other_hosts_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let own = format!("http://{address}");
        let cases = [
            (vec![], 200),
            (vec![("host", "localhost:50051")], 200),
            (vec![("origin", own.as_str())], 200),
            (vec![("host", "evil.test")], 403),
            (vec![("host", "127.0.0.1.evil.test")], 403),
            (vec![("origin", "http://evil.test")], 403),
            (vec![("origin", "null")], 403),
        ];
        for (headers, status) in cases {
            for path in ["/e", "/events", "/healthz", "/events/stream"] {
                if path == "/events/stream" && status == 200 {
                    continue;
                }
                let answer = ask(address, "GET", path, &headers, "").await;
                assert_eq!(answer.status, status, "{path} {headers:?}: {answer:?}");
            }
        }
        // What a page of another host can send without being asked for: requests of gRPC, which are no less guarded.
        let path = "/reflog.v2.SchemaService/ListSchemas";
        let grpc = ("content-type", "application/grpc");
        for headers in [vec![grpc, ("host", "evil.test")], vec![grpc, ("origin", "http://evil.test")]] {
            assert_eq!(ask(address, "POST", path, &headers, "\0\0\0\0\0").await.status, 403);
        }
        let plain = ask(address, "POST", path, &[("content-type", "text/plain")], "\0\0\0\0\0").await;
        assert_eq!(plain.status, 415, "{plain:?}");
        // What a form of another page can send without asking first.
        let form = ask(address, "POST", "/events", &[("content-type", "text/plain")], "{}").await;
        assert_eq!(form.status, 400, "{form:?}");
    })
    .await;
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_broken() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let batch: Vec<_> = (0..5).map(|n| record("UPDATE", "user_1", n, json!({"n": n}))).collect();
        let captured = post(address, &json!(batch)).await;
        let second = captured.body["receipts"][1]["sequence"].to_string();
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let head =
            format!("GET /events/stream HTTP/1.1\r\nhost: {address}\r\nlast-event-id: {second}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut found, mut is_sent) = (Vec::new(), false);
        while found.len() < 4 {
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the stream ended: {found:?}");
            if let Some(event) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(event).unwrap();
                found.push(event["payload"]["n"].as_i64().unwrap());
            }
            if found.len() == 3 && !is_sent {
                is_sent = true;
                post(address, &record("UPDATE", "user_1", 9, json!({"n": 9}))).await;
            }
        }
        assert_eq!(found, [2, 3, 4, 9]);
    })
    .await;
}
