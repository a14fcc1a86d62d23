//! A root with what pages must stand: relations, late events, deletes, values of all kinds, and ids and payloads that try to be something
//! else than text.

use std::path::Path;

use keplordb_server::{Capture, Operation, Record};
use serde_json::{Value, json};

/// What would be seen to have run or to have become markup.
pub(crate) const CANARY: &str = "canary8417";

pub(crate) const SCHEMA: &str = r#"
syntax = "proto3";
package reflog.v1;
import "options.proto";
message User {
  string name = 1;
  string plan = 2;
  Address address = 3;
  message Address { string city = 1; }
}
message Order {
  string user_id = 1 [(foreign_key) = "User.id", (relationship_type) = "many_to_one"];
  int64 total = 2;
  repeated string tags = 3;
}
message Empty { string name = 1; }
"#;

/// Ids that are no markup, no path and no address, however much they look like one.
pub(crate) fn hostile() -> Vec<String> {
    let mut ids: Vec<String> = [
        "../../etc/passwd",
        "..%2f..%2fetc",
        "a/b/c",
        "a?b=c&d=e#f",
        "a b+c%20d%",
        "'quoted' \"twice\"",
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.test/x",
        "http://evil.test/",
        "back\\slash",
        "semi;colon,comma",
        "🦀🏳️‍🌈",
        "שלום עולם",
        "\u{202e}desrever",
        "Ärger",
        "..",
        ".",
        "{{7*7}} ${7*7} <%= 7 %>",
        "]]><!--",
    ]
    .map(str::to_owned)
    .to_vec();
    for (before, after) in [
        ("<script>", "()</script>"),
        ("\"><img src=x onerror=", "()>"),
        ("' onmouseover='", "()"),
        ("</title><script>", "()</script>"),
        ("</textarea></code></pre><svg onload=", ">"),
        ("<a href=javascript:", "()>x</a>"),
        ("&lt;script&gt;", "&#x28;"),
    ] {
        ids.push(format!("{before}{CANARY}{after}"));
    }
    ids.push("x".repeat(1024));
    ids.push("é".repeat(512));
    ids
}

pub(crate) async fn seed(root: &Path) {
    let capture = Capture::open(root).unwrap();
    let mut records = Vec::new();
    for (n, id) in (0_i64..).zip(hostile()) {
        let script = format!("</script><script>{CANARY}()</script>");
        records.push(
            Record::new("Hostile", &id, Operation::Create)
                .json(&json!({"text": id, "n": n}))
                .at_ms(1_000 * n),
        );
        records.push(
            Record::new("Hostile", &id, Operation::Update)
                .json(&json!({id.clone(): script, "inner": {"<b>": [script, null, 1.5, true]}}))
                .at_ms(1_000 * n + 500),
        );
    }
    for n in 0..120_i64 {
        let id = format!("user_{n}");
        records.push(
            Record::new("User", &id, Operation::Create)
                .json(&json!({"name": format!("Ada {n}"), "plan": "free", "address": {"city": "Oslo"}}))
                .at_ms(1_704_067_200_000 + n * 60_000),
        );
    }
    let user = |operation, payload: Value, time_ms| {
        Record::new("User", "user_7", operation).json(&payload).at_ms(time_ms)
    };
    records.push(user(Operation::Update, json!({"plan": "team"}), 1_706_745_600_000));
    records.push(user(
        Operation::Update,
        json!({"address": {"city": null}, "name": "Grace"}),
        1_709_251_200_000,
    ));
    // Late, and out of order.
    records.push(user(Operation::Update, json!({"plan": "trial"}), 1_705_000_000_000));
    records.push(Record::new("User", "user_8", Operation::Delete).at_ms(1_709_251_200_000));
    for n in 0..60_i64 {
        let payload =
            json!({"user_id": format!("user_{}", n % 9), "total": n.to_string(), "tags": ["a", "b"]});
        records.push(
            Record::new("Order", format!("order_{n}"), Operation::Create)
                .json(&payload)
                .at_ms(1_709_300_000_000 + n),
        );
    }
    for n in 0..3 {
        let id = format!("gone_{n}");
        records.push(Record::new("Gone", &id, Operation::Create).json(&json!({"was": n})).at_ms(1_000));
        records.push(Record::new("Gone", &id, Operation::Delete).at_ms(2_000));
    }
    records.push(Record::new("Gone", "never", Operation::Delete).at_ms(1_000));
    let wide: serde_json::Map<String, Value> =
        (0..2_000).map(|n| (format!("field_{n}"), json!("v".repeat(200)))).collect();
    records.push(Record::new("Large", "wide", Operation::Create).json(&Value::Object(wide)).at_ms(1_000));
    for n in 0..180_i64 {
        records.push(
            Record::new("Large", "long", Operation::Update)
                .json(&json!({"n": n, "of": {"n": n % 7}}))
                .at_ms(1_000 + n),
        );
    }
    let mut opaque = Record::new("Large", "bytes", Operation::Create);
    opaque.payload = vec![0, 159, 146, 150];
    records.push(opaque);
    for record in &mut records {
        "shop <b>".clone_into(&mut record.client);
    }
    let (with, without): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| ["User", "Order"].contains(&record.entity_type.as_str()));
    // Types that the schema does not have are taken while there is none.
    capture.capture_batch(without).await.unwrap();
    capture.push_schema_text("shop.proto".as_ref(), SCHEMA).unwrap();
    let newer = SCHEMA.replace("int64 total = 2;", "int64 total = 2;\n  string note = 4;");
    capture.capture_batch(with).await.unwrap();
    capture.push_schema_text("shop.proto".as_ref(), &newer).unwrap();
    capture.close().unwrap();
}
