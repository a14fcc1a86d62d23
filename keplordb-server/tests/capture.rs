//! A server as its clients see it: what is acknowledged is there after a restart, once, in its order; what is refused is not.

#![allow(
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "a test writes what a person would, and takes payloads as `json!` makes them"
)]

mod common;

use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use keplordb_server::grpc::v1;
use keplordb_server::grpc::v1::health_service_client::HealthServiceClient;
use keplordb_server::grpc::v1::ingest_service_client::IngestServiceClient;
use keplordb_server::grpc::v1::proto_service_client::ProtoServiceClient;
use keplordb_server::grpc::v2;
use keplordb_server::grpc::v2::capture_service_client::CaptureServiceClient;
use keplordb_server::grpc::v2::entity_service_client::EntityServiceClient;
use keplordb_server::grpc::v2::subscribe_request::Start;
use keplordb_server::grpc::v2::subscribe_response::News;
use keplordb_server::{Capture, Instant, Operation, Record, Refused};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

type Client = IngestServiceClient<Channel>;

/// Runs a server on a root while `with` talks gRPC to it, and stops it.
async fn serving<T, F: Future<Output = T>>(root: &Path, with: impl FnOnce(Channel) -> F) -> T {
    common::serving(root, async |address| {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        with(channel).await
    })
    .await
}

fn record(operation: v1::Operation, id: &str, payload: Value) -> v1::IngestRecord {
    v1::IngestRecord {
        entity_type: "User".to_owned(),
        entity_id: id.to_owned(),
        operation: operation.into(),
        payload: payload.to_string().into_bytes(),
        ..v1::IngestRecord::default()
    }
}

async fn ingest(client: &mut Client, record: v1::IngestRecord) -> Result<v1::IngestResponse, Status> {
    client.ingest(record).await.map(tonic::Response::into_inner)
}

fn state(root: &Path, id: &str, instant: Instant) -> Option<Value> {
    let capture = Capture::open(root).unwrap();
    let state = capture.log().get("User", id, instant).unwrap().state().cloned().map(Value::Object);
    capture.close().unwrap();
    state
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sequences = serving(dir.path(), async |channel| {
        let mut client = Client::new(channel);
        let steps = [
            record(v1::Operation::Create, "user_123", json!({"name": "Ada", "plan": "free"})),
            record(v1::Operation::Update, "user_123", json!({"plan": "team"})),
            record(v1::Operation::Create, "user_9", json!({"name": "Bob"})),
        ];
        let mut sequences = Vec::new();
        for step in steps {
            let response = ingest(&mut client, step).await.unwrap();
            assert!(response.ok && !response.duplicate && response.event_id.len() == 26, "{response:?}");
            sequences.push(response.sequence);
        }
        sequences
    })
    .await;
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    assert_eq!(
        state(dir.path(), "user_123", Instant::default()),
        Some(json!({"name": "Ada", "plan": "team"}))
    );

    serving(dir.path(), async |channel| {
        let mut client = Client::new(channel);
        let deleted =
            ingest(&mut client, record(v1::Operation::Delete, "user_123", json!({}))).await.unwrap();
        assert!(deleted.sequence > sequences[2]);
    })
    .await;
    assert_eq!(state(dir.path(), "user_123", Instant::default()), None);
    assert_eq!(state(dir.path(), "user_9", Instant::default()), Some(json!({"name": "Bob"})));
}

#[tokio::test]
async fn an_event_is_captured_once_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let with_id = |id: &str, entity: &str| v1::IngestRecord {
        event_id: id.to_owned(),
        ..record(v1::Operation::Update, entity, json!({"visits": 1}))
    };
    let first = serving(dir.path(), async |channel| {
        let mut client = Client::new(channel.clone());
        let first = ingest(&mut client, with_id("order-1", "user_1")).await.unwrap();
        // At once, so that some meet in one batch.
        let many = (0..50).map(|_| {
            let mut client = Client::new(channel.clone());
            let again = with_id("order-2", "user_1");
            tokio::spawn(async move { ingest(&mut client, again).await.unwrap() })
        });
        let mut answers = Vec::new();
        for answer in many.collect::<Vec<_>>() {
            answers.push(answer.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
        assert!(answers.iter().all(|answer| answer.sequence == answers[0].sequence));
        first
    })
    .await;
    serving(dir.path(), async |channel| {
        let mut client = Client::new(channel);
        let again = ingest(&mut client, with_id("order-1", "user_1")).await.unwrap();
        assert_eq!(
            (again.sequence, again.duplicate, again.event_id.as_str()),
            (first.sequence, true, "order-1")
        );
        let other = ingest(&mut client, with_id("order-1", "user_2")).await.unwrap_err();
        assert_eq!(other.code(), Code::AlreadyExists, "{other}");
    })
    .await;
    let capture = Capture::open(dir.path()).unwrap();
    assert_eq!(capture.log().history("User", "user_1", Instant::default()).unwrap().len(), 2);
    assert_eq!(capture.log().history("User", "user_2", Instant::default()).unwrap(), []);
}

#[tokio::test]
async fn of_writers_that_expect_the_same_version_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |channel| {
        let tries = (0..40).map(|_| {
            let mut client = Client::new(channel.clone());
            let expecting = v1::IngestRecord {
                expected_version: Some(0),
                ..record(v1::Operation::Create, "user_1", json!({}))
            };
            tokio::spawn(async move { ingest(&mut client, expecting).await })
        });
        let mut won = 0;
        for tried in tries.collect::<Vec<_>>() {
            match tried.await.unwrap() {
                Ok(_) => won += 1,
                Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
            }
        }
        assert_eq!(won, 1);
        let mut client = Client::new(channel);
        let next = v1::IngestRecord {
            expected_version: Some(1),
            ..record(v1::Operation::Update, "user_1", json!({}))
        };
        assert!(ingest(&mut client, next).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn late_events_take_their_place_and_the_past_can_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |operation, time_ms, payload| {
        let mut record = record(operation, "user_1", payload);
        match operation {
            v1::Operation::Create => record.created_at_utc = Some(time_ms),
            v1::Operation::Update => record.updated_at_utc = Some(time_ms),
            _ => record.deleted_at_utc = Some(time_ms),
        }
        record
    };
    serving(dir.path(), async |channel| {
        let mut client = Client::new(channel);
        for step in [
            at(v1::Operation::Create, 1000, json!({"plan": "free", "city": "Oslo"})),
            at(v1::Operation::Update, 3000, json!({"plan": "team"})),
            at(v1::Operation::Update, 2000, json!({"plan": "trial", "city": null})),
            at(v1::Operation::Delete, 4000, json!({})),
        ] {
            ingest(&mut client, step).await.unwrap();
        }
        let ahead = i64::MAX / 1_000_000;
        let refused = ingest(&mut client, at(v1::Operation::Update, ahead, json!({}))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    })
    .await;
    let as_of =
        |time_ms| state(dir.path(), "user_1", Instant { as_of_ms: Some(time_ms), ..Instant::default() });
    assert_eq!(as_of(999), None);
    assert_eq!(as_of(1000), Some(json!({"plan": "free", "city": "Oslo"})));
    assert_eq!(as_of(2500), Some(json!({"plan": "trial"})));
    assert_eq!(as_of(3000), Some(json!({"plan": "team"})));
    assert_eq!(as_of(4000), None);
    let capture = Capture::open(dir.path()).unwrap();
    let history = capture.log().history("User", "user_1", Instant::default()).unwrap();
    let operations: Vec<_> = history.iter().map(|event| (event.operation, event.event_time_ms)).collect();
    let wanted = [
        (Operation::Create, 1000),
        (Operation::Update, 2000),
        (Operation::Update, 3000),
        (Operation::Delete, 4000),
    ];
    assert_eq!(operations, wanted);
    let received: Vec<_> = {
        let mut by_sequence: Vec<_> =
            history.iter().map(|event| (event.sequence, event.received_at_ms)).collect();
        by_sequence.sort_unstable();
        by_sequence.into_iter().map(|(_, received_at_ms)| received_at_ms).collect()
    };
    assert!(received.is_sorted(), "{received:?}");
}

#[tokio::test]
async fn what_is_hostile_is_refused_or_kept_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |channel| {
        let mut client = Client::new(channel);
        for id in ["../../etc/passwd", "<script>alert(1)</script>", "🦀", "a b\"c'"] {
            ingest(&mut client, record(v1::Operation::Create, id, json!({}))).await.unwrap();
        }
        let bad_ids = [String::new(), "a\0b".to_owned(), "x".repeat(4096)];
        for id in &bad_ids {
            let refused =
                ingest(&mut client, record(v1::Operation::Create, id, json!({}))).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        for name in ["", "../User", "a b", "9", "Ärger"] {
            let mut record = record(v1::Operation::Create, "user_1", json!({}));
            record.entity_type = name.to_owned();
            assert_eq!(ingest(&mut client, record).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let unset =
            ingest(&mut client, record(v1::Operation::Unspecified, "user_1", json!({}))).await.unwrap_err();
        assert!(unset.message().starts_with("operation: it is not set"), "{unset}");
        let mut huge = record(v1::Operation::Create, "user_1", json!({}));
        huge.payload = vec![b' '; 10 << 20];
        assert!(matches!(
            ingest(&mut client, huge).await.unwrap_err().code(),
            Code::OutOfRange | Code::InvalidArgument
        ));
    })
    .await;
    assert_eq!(state(dir.path(), "../../etc/passwd", Instant::default()), Some(json!({})));
    let second = Capture::open(dir.path()).unwrap();
    let refused = Capture::open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("is already open by"), "{refused}");
    second.close().unwrap();
}

const SCHEMA: &str = r#"
syntax = "proto3";
package reflog.v1;
import "options.proto";

message User {
  string name = 1;
  optional string plan = 2;
  int64 visits = 3;
  Address address = 4;
  oneof contact { string mail = 5; string phone = 6; }
  message Address { string city = 1; }
}

message Order {
  string user_id = 1 [(foreign_key) = "User.id", (relationship_type) = "many_to_one"];
}
"#;

#[tokio::test]
async fn with_a_schema_payloads_are_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("custom.proto");
    std::fs::write(&file, SCHEMA).unwrap();
    let root = dir.path().join("root");
    let capture = Capture::open(&root).unwrap();
    assert_eq!(capture.push_schema(&file).unwrap(), 1);
    assert_eq!(capture.push_schema(&file).unwrap(), 1);
    let references: Vec<_> = capture
        .schemas()
        .newest()
        .unwrap()
        .get("Order")
        .unwrap()
        .references()
        .map(|(name, to)| (name, to.clone()))
        .collect();
    assert_eq!((references[0].0.as_str(), references[0].1.entity_type.as_str()), ("user_id", "User"));
    std::fs::write(&file, SCHEMA.replace("int64 visits = 3", "string visits = 3")).unwrap();
    let refused = capture.push_schema(&file).unwrap_err().to_string();
    assert!(
        refused.contains("User.visits has number 3 as string, which was visits with number 3 as int64"),
        "{refused}"
    );
    for (was, is, why) in [
        (
            "optional string plan = 2",
            "optional string tier = 2",
            "User.tier has number 2 as string, which was plan",
        ),
        (
            "optional string plan = 2",
            "optional string plan = 9",
            "User.plan has number 9 as string, which was plan with number 2",
        ),
        ("string city = 1", "string town = 1", "Address.town has number 1"),
    ] {
        std::fs::write(&file, SCHEMA.replace(was, is)).unwrap();
        let refused = capture.push_schema(&file).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    capture.close().unwrap();

    serving(&root, async |channel| {
        let mut client = Client::new(channel.clone());
        // name = "Ada", plan = "" (set), visits = 7, address { city = "Oslo" }
        let bytes = b"\x0a\x03Ada\x12\x00\x18\x07\x22\x06\x0a\x04Oslo".to_vec();
        let created =
            v1::IngestRecord { payload: bytes, ..record(v1::Operation::Create, "user_1", json!({})) };
        ingest(&mut client, created).await.unwrap();
        // mail = "a@b", then phone = "1", which ends it
        for bytes in [b"\x2a\x03a@b".to_vec(), b"\x32\x011".to_vec()] {
            let contact =
                v1::IngestRecord { payload: bytes, ..record(v1::Operation::Update, "user_1", json!({})) };
            ingest(&mut client, contact).await.unwrap();
        }
        let json = v1::IngestRecord {
            content_type: v1::ContentType::Json.into(),
            ..record(
                v1::Operation::Update,
                "user_1",
                json!({"visits": "0", "plan": null, "address": {"city": "Bergen"}}),
            )
        };
        ingest(&mut client, json).await.unwrap();
        // number 9, which the schema does not know
        let unknown = v1::IngestRecord {
            payload: b"\x48\x01".to_vec(),
            ..record(v1::Operation::Update, "user_1", json!({}))
        };
        let refused = ingest(&mut client, unknown).await.unwrap_err();
        assert!(refused.message().contains("User has no field with number 9"), "{refused}");
        for (payload, code) in [
            (json!({"visit": 1}), "has no"),
            (json!({"visits": "many"}), "it is no User"),
            (json!({"address": 7}), "it is no User"),
        ] {
            let bad = v1::IngestRecord {
                content_type: v1::ContentType::Json.into(),
                ..record(v1::Operation::Update, "user_1", payload)
            };
            let refused = ingest(&mut client, bad).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{code}: {refused}");
        }
        let mut unknown = record(v1::Operation::Create, "x", json!({}));
        unknown.entity_type = "Invoice".to_owned();
        let refused = ingest(&mut client, unknown).await.unwrap_err();
        assert!(refused.message().contains("the schema has no Invoice; it has Order, User"), "{refused}");

        let protos =
            ProtoServiceClient::new(channel.clone()).get_protos(v1::GetProtosRequest::default()).await;
        assert_eq!(protos.unwrap().into_inner().proto_content, SCHEMA);
        let health = HealthServiceClient::new(channel).health_check(v1::HealthCheckRequest {}).await;
        assert!(health.unwrap().into_inner().ok);
    })
    .await;
    let wanted = json!({"name": "Ada", "visits": "0", "address": {"city": "Bergen"}, "phone": "1"});
    assert_eq!(state(&root, "user_1", Instant::default()), Some(wanted));
}

fn update(id: &str, event_id: &str, payload: Value) -> v1::IngestRecord {
    v1::IngestRecord { event_id: event_id.to_owned(), ..record(v1::Operation::Update, id, payload) }
}

#[tokio::test]
async fn a_batch_is_captured_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |channel| {
        let mut captures = CaptureServiceClient::new(channel);
        let batch = |records| v2::IngestBatchRequest { records };
        let first = batch(vec![
            update("user_1", "a", json!({"n": 1})),
            update("user_2", "b", json!({"n": 2})),
            update("user_1", "a", json!({"n": 1})),
        ]);
        let receipts = captures.ingest_batch(first).await.unwrap().into_inner().receipts;
        let duplicates: Vec<_> = receipts.iter().map(|receipt| receipt.duplicate).collect();
        assert_eq!(duplicates, [false, false, true]);
        assert_eq!(
            (receipts[0].sequence, receipts[1].sequence),
            (receipts[2].sequence, receipts[0].sequence + 1)
        );

        // The last one is refused by the writer, the ones before it and their ids and versions with it.
        let mut unexpected = update("user_2", "d", json!({}));
        unexpected.expected_version = Some(7);
        let refused = batch(vec![update("user_2", "c", json!({"n": 3})), unexpected.clone()]);
        let refused = captures.ingest_batch(refused).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(
            refused.message().starts_with("record 1: the entity has 2 events, 7 were expected"),
            "{refused}"
        );
        unexpected.expected_version = Some(2);
        let second = batch(vec![update("user_2", "c", json!({"n": 4})), unexpected]);
        let receipts = captures.ingest_batch(second).await.unwrap().into_inner().receipts;
        assert!(receipts.iter().all(|receipt| !receipt.duplicate), "{receipts:?}");

        let invalid = batch(vec![update("user_3", "", json!({})), update("", "", json!({}))]);
        let refused = captures.ingest_batch(invalid).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("record 1: entity_id: it is empty"), "{refused}");
    })
    .await;
    assert_eq!(state(dir.path(), "user_2", Instant::default()), Some(json!({"n": 4})));
    assert_eq!(state(dir.path(), "user_3", Instant::default()), None);
}

#[tokio::test]
async fn batches_of_a_stream_are_answered_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |channel| {
        let mut captures = CaptureServiceClient::new(channel);
        let batches = (0..200).map(|n| {
            let id = if n == 50 { "" } else { "user_1" };
            v2::IngestBatchRequest { records: vec![update(id, &format!("e{n}"), json!({"n": n}))] }
        });
        let answers = captures.ingest_stream(tokio_stream::iter(batches.collect::<Vec<_>>())).await.unwrap();
        let mut answers = answers.into_inner();
        let (mut next, mut last) = (0, 0);
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.batch, next);
            if next == 50 {
                assert_eq!(Code::from(answer.code), Code::InvalidArgument, "{answer:?}");
            } else {
                assert_eq!((answer.code, answer.receipts.len()), (0, 1));
                assert!(next == 0 || answer.receipts[0].sequence > last);
                last = answer.receipts[0].sequence;
            }
            next += 1;
        }
        assert_eq!(next, 200);
    })
    .await;
    assert_eq!(state(dir.path(), "user_1", Instant::default()), Some(json!({"n": 199})));
}

#[tokio::test]
async fn a_subscriber_gets_what_is_there_and_what_comes_and_the_end_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (mut given, mut none) = serving(dir.path(), async |channel| {
        let mut captures = CaptureServiceClient::new(channel);
        let batch = |from: u32, to: u32| v2::IngestBatchRequest {
            records: (from..to).map(|n| update(&format!("user_{}", n % 3), "", json!({"n": n}))).collect(),
        };
        let receipts = captures.ingest_batch(batch(0, 600)).await.unwrap().into_inner().receipts;
        let ask = |start, ids: &[&str]| v2::SubscribeRequest {
            start: Some(start),
            entity_types: vec!["User".to_owned()],
            entity_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let start = Start::AfterSequence(receipts[29].sequence);
        let mut given = captures.subscribe(ask(start, &["user_1"])).await.unwrap().into_inner();
        let late = i64::MAX / 2_000_000;
        let none = captures.subscribe(ask(Start::ReceivedSince(late), &[])).await.unwrap().into_inner();
        let mut all = captures.subscribe(ask(Start::ReceivedSince(0), &[])).await.unwrap().into_inner();
        captures.ingest_batch(batch(600, 900)).await.unwrap();
        let mut found = Vec::new();
        while found.len() < 290 {
            if let Some(News::Event(event)) = given.message().await.unwrap().unwrap().news {
                assert_eq!(event.entity_id, "user_1");
                let payload: Value = serde_json::from_str(&event.payload.unwrap()).unwrap();
                found.push(payload["n"].as_u64().unwrap());
            }
        }
        assert_eq!(found, (30..900).filter(|n| n % 3 == 1).collect::<Vec<u64>>());
        for n in 0..900 {
            let Some(News::Event(event)) = all.message().await.unwrap().unwrap().news else { continue };
            assert_eq!(event.payload, Some(json!({"n": n}).to_string()));
        }
        (given, none)
    })
    .await;
    // The server has stopped although somebody followed, and what comes in later than now has not come.
    let status = none.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    loop {
        match given.message().await {
            Ok(Some(answer)) => assert!(matches!(answer.news, Some(News::Position(_))), "{answer:?}"),
            Ok(None) => panic!("a subscription does not end by itself"),
            Err(status) => break assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
}

#[tokio::test]
async fn entities_are_listed_and_looked_at_in_the_past() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |channel| {
        let mut client = Client::new(channel.clone());
        for n in 0..25 {
            let mut created = record(v1::Operation::Create, &format!("user_{n:02}"), json!({"n": n}));
            created.created_at_utc = Some(1000 + n);
            ingest(&mut client, created).await.unwrap();
        }
        ingest(&mut client, record(v1::Operation::Delete, "user_03", json!({}))).await.unwrap();
        let mut entities = EntityServiceClient::new(channel);
        let list = |after: &str, instant, limit| v2::ListEntitiesRequest {
            entity_type: "User".to_owned(),
            instant,
            after_id: after.to_owned(),
            limit,
            ..v2::ListEntitiesRequest::default()
        };
        let page = entities.list_entities(list("user_01", None, 3)).await.unwrap().into_inner().entities;
        let found: Vec<_> =
            page.iter().map(|entity| (entity.entity_id.as_str(), entity.state.is_some())).collect();
        assert_eq!(found, [("user_02", true), ("user_03", false), ("user_04", true)]);
        let then = Some(v2::Instant { as_of: Some(1003), known_at: None });
        let past = entities.list_entities(list("", then, 0)).await.unwrap().into_inner().entities;
        assert_eq!(past.len(), 4);
        assert_eq!(past[3].state, Some(json!({"n": 3}).to_string()));

        let ask = |id: &str, instant| v2::GetEntityRequest {
            entity_type: "User".to_owned(),
            entity_id: id.to_owned(),
            instant,
        };
        let deleted = entities.get_entity(ask("user_03", None)).await.unwrap().into_inner().entity.unwrap();
        assert_eq!((deleted.state, deleted.version), (None, 2));
        let unknown = entities.get_entity(ask("user_99", None)).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let before =
            entities.get_entity(ask("user_03", Some(v2::Instant { as_of: Some(5), known_at: None }))).await;
        assert_eq!(before.unwrap_err().code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn each_record_is_captured_whatever_becomes_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::open(dir.path()).unwrap();
    let record = |id: &str, event_id: &str| {
        Record::new("User", id, Operation::Update).json(&json!({"a": 1})).event_id(event_id)
    };
    let expecting = |version: u64, event_id: &str| {
        let mut record = record("a", event_id);
        record.expected_version = Some(version);
        record
    };
    let records = vec![
        record("a", "1"),
        record("", "2"),
        record("b", "1"),
        // Neither the one that was refused nor the one that was there counts.
        expecting(2, "3"),
        record("a", "1"),
        expecting(1, "4"),
        record("b", "2"),
    ];
    let outcomes = capture.capture_each(records).await.unwrap();
    let shown: Vec<&str> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(receipt) if receipt.is_duplicate => "duplicate",
            Ok(_) => "new",
            Err(Refused::Invalid { .. }) => "invalid",
            Err(Refused::IdTaken { .. }) => "taken",
            Err(Refused::Version { found: 1, .. }) => "version",
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(shown, ["new", "invalid", "taken", "version", "duplicate", "new", "new"]);
    let sequences: Vec<u64> = outcomes.iter().flatten().map(|receipt| receipt.sequence).collect();
    assert_eq!(
        (sequences[1], sequences[2], sequences[3]),
        (sequences[0], sequences[0] + 1, sequences[0] + 2)
    );
    let all_refused = capture.capture_each(vec![record("", "5")]).await.unwrap();
    assert!(all_refused[0].is_err());
    assert_eq!(capture.log().behind(0).unwrap().events, 3);
    capture.close().unwrap();
}

#[tokio::test]
async fn a_log_that_cannot_be_read_refuses_all_records_and_is_no_fault_of_one() {
    let record = |id: &str, event_id: &str| {
        Record::new("User", id, Operation::Update).json(&json!({"a": 1})).event_id(event_id)
    };
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::open(dir.path()).unwrap();
    let captured = capture.capture_each((0..500).map(|n| record("a", &format!("e-{n}"))).collect());
    assert!(captured.await.unwrap().iter().all(Result::is_ok));
    capture.close().unwrap();
    // Into a segment, as a server's log that has grown is.
    let log = keplordb::any::AnyStore::open(dir.path().join("segments")).unwrap();
    log.flush().unwrap();
    log.close().unwrap();

    let capture = Capture::open(dir.path()).unwrap();
    let segments: Vec<_> = fs::read_dir(dir.path().join("segments/segments")).unwrap().collect();
    assert!(!segments.is_empty());
    for segment in segments {
        let path = segment.unwrap().path();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let bytes = usize::try_from(file.metadata().unwrap().len()).unwrap();
        file.write_all(&vec![0x5a; bytes]).unwrap();
    }
    let refused = capture.capture_each(vec![record("b", ""), record("b", "e-7"), record("c", "")]).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused.reason(), Refused::Failed { .. }) && !refused.is_of_record(), "{refused}");
    assert!(refused.to_string().contains("record 1"), "{refused}");
    // Nothing of them was captured.
    assert_eq!(capture.log().behind(500).unwrap().events, 0);
}
