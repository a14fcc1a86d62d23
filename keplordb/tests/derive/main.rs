//! `#[derive(Schema)]` from outside. What must compile does, and runs (the other files of this folder); what must
//! not shows one message per mistake, compared with the committed one (`ui/*.stderr`). The generated builder, filter, row and schema are
//! held against the raw types that they wrap, and against a store.

#![allow(unreachable_pub, reason = "structs are public as those of programs are")]

mod from_macro;
mod hostile_names;
mod other_attributes;
mod private_struct;
mod raw_identifiers;
mod renamed_crate;
mod zero_columns;

use std::path::PathBuf;

use keplordb::{Cursor, EngineConfig, EventFlags, LogEvent, QueryFilter, Schema, Store, TableSchema};

/// All roles and options, in an order that mixes them.
#[derive(Debug, Clone, PartialEq, Schema)]
#[keplordb(id = 7)]
struct AiCall {
    #[label]
    prompt: String,
    #[dim]
    model: String,
    #[counter]
    tokens: u32,
    #[dim(bloom, rollup)]
    user: String,
    #[label(index)]
    trace: String,
    #[counter]
    retries: u32,
    #[dim(rollup)]
    region: String,
}

fn call() -> AiCall {
    AiCall {
        prompt: "why".to_owned(),
        model: "gpt-4o".to_owned(),
        tokens: 1200,
        user: "alice".to_owned(),
        trace: "t-1".to_owned(),
        retries: 2,
        region: "eu".to_owned(),
    }
}

#[test]
fn each_mistake_has_one_message() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}

/// The derive cannot depend on the engine, so its limits are a second copy.
#[test]
fn the_derive_has_the_limits_of_the_stored_schema() {
    let limits = |source: &'static str| -> Vec<&str> {
        let lines = source.lines().map(|line| line.trim_start_matches("pub "));
        let mut limits: Vec<_> = lines.filter(|line| line.starts_with("const MAX_")).collect();
        limits.sort_unstable();
        limits
    };
    let engine = limits(include_str!("../../src/schema.rs"));
    assert_eq!(engine.len(), 4, "{engine:?}");
    assert_eq!(limits(include_str!("../../../keplordb-macros/src/valid.rs")), engine);
}

#[test]
fn columns_of_each_role_keep_field_order() {
    let expected = TableSchema::new(7)
        .dim("model")
        .dim("user")
        .dim("region")
        .counter("tokens")
        .counter("retries")
        .label("prompt")
        .indexed_label("trace");
    assert_eq!(AiCall::table_schema(), expected);
}

#[test]
fn the_default_config_names_id_bloom_and_rollups() {
    let config = AiCall::default_config(PathBuf::from("calls"));
    assert_eq!(config.data_dir, PathBuf::from("calls"));
    assert_eq!((config.schema_id, config.bloom_dim), (7, 1));
    assert_eq!(config.rollup_dims, [1, 2]);
    assert_eq!(config.wal_max_events, EngineConfig::default().wal_max_events);
}

#[test]
fn a_new_event_is_empty_but_for_its_time() {
    let event: LogEvent<3, 2, 2> = AiCall::new(5).into_log_event();
    assert_eq!(event, LogEvent { ts_ns: 5, ..LogEvent::default() });
}

#[test]
fn every_setter_sets_its_own_field() {
    let built = AiCall::new(0)
        .id("e-1")
        .ts_ns(5)
        .metric(-9)
        .latency_ms(30)
        .latency_detail_ms(10)
        .status(200)
        .flags(EventFlags(0b101))
        .prompt("why")
        .model("gpt-4o".to_owned())
        .tokens(1200)
        .user("alice")
        .trace("t-1")
        .retries(2)
        .region("eu");
    let expected = LogEvent {
        id: "e-1".to_owned(),
        ts_ns: 5,
        metric: -9,
        counters: [1200, 2],
        latency_ms: 30,
        latency_detail_ms: 10,
        status: 200,
        flags: EventFlags(0b101),
        dims: ["gpt-4o", "alice", "eu"].map(str::to_owned),
        labels: ["why", "t-1"].map(str::to_owned),
    };
    assert_eq!(LogEvent::from(built.clone()), expected);
    assert_eq!(built.into_log_event(), expected);
}

#[test]
fn a_value_becomes_an_event_at_a_time() {
    let by_setters = AiCall::new(5)
        .prompt("why")
        .model("gpt-4o")
        .tokens(1200)
        .user("alice")
        .trace("t-1")
        .retries(2)
        .region("eu");
    assert_eq!(call().at(5), by_setters);
}

#[test]
fn an_empty_filter_is_the_default_one() {
    assert_eq!(AiCall::filter().into_filter(), QueryFilter::default());
}

#[test]
fn every_filter_setter_sets_its_own_field() {
    let filter = AiCall::filter()
        .model("gpt-4o")
        .user("alice")
        .region(String::new())
        .from(-5)
        .to(10)
        .status(200..300)
        .cursor(Cursor(8));
    let expected = QueryFilter {
        dims: [Some("gpt-4o".to_owned()), Some("alice".to_owned()), Some(String::new())],
        from_ts_ns: Some(-5),
        to_ts_ns: Some(10),
        status_min: Some(200),
        status_max: Some(300),
        cursor: Some(Cursor(8)),
    };
    assert_eq!(filter.into_filter(), expected);
}

#[test]
fn the_store_reaches_the_builders_columns_and_id() {
    let mut builder = call().at(5);
    "e-9".clone_into(AiCall::id_of(&mut builder));
    let row = AiCall::row_of(&builder);
    assert_eq!((row.id, row.ts_ns, row.counters), ("e-9", 5, [1200, 2].as_slice()));
    assert_eq!(row.dims, ["gpt-4o", "alice", "eu"]);
    assert_eq!(row.labels, ["why", "t-1"]);
}

#[test]
fn every_getter_returns_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<AiCall>::open(dir.path()).unwrap();
    let event = call()
        .at(5)
        .id("e-1")
        .metric(-9)
        .latency_ms(30)
        .latency_detail_ms(10)
        .status(200)
        .flags(EventFlags(0b101));
    store.append(event.clone()).unwrap();
    store.append(AiCall::new(6).user("bob")).unwrap();

    let rows = store.query(AiCall::filter().user("alice")).rows().unwrap();
    let [row] = rows.as_slice() else { panic!("one event of alice, not {}", rows.len()) };
    assert_eq!((row.id(), row.ts_ns(), row.metric()), ("e-1", 5, -9));
    assert_eq!((row.latency_ms(), row.latency_detail_ms(), row.status()), (30, 10, 200));
    assert_eq!(row.flags(), EventFlags(0b101));
    assert_eq!((row.model(), row.user(), row.region()), ("gpt-4o", "alice", "eu"));
    assert_eq!((row.tokens(), row.retries()), (1200, 2));
    assert_eq!((row.prompt(), row.trace()), ("why", "t-1"));
    let shown = format!("{row:?}");
    assert!(shown.starts_with("AiCallRow { id: \"e-1\", ts_ns: 5, metric: -9, "), "{shown}");
    assert!(shown.ends_with("prompt: \"why\", trace: \"t-1\" }"), "{shown}");
    assert_eq!(row, &row.clone());
    assert_eq!(row.clone().into_event(), call());
    assert_eq!(AiCall::from(row.clone()), call());
    let (back, expected) = (row.clone().into_event_ref(), event.into_log_event());
    assert_eq!((back.dims, back.counters, back.labels), (expected.dims, expected.counters, expected.labels));

    let bob = store.query(AiCall::filter().user("bob")).rows().unwrap();
    assert_ne!(bob[0].sequence(), row.sequence());
    assert!(!bob[0].id().is_empty(), "an event without an id is given one");
}
