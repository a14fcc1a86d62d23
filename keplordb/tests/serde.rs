//! Feature `serde`: what goes in and comes out survives JSON, rows are maps of their columns by name, and what does not fit
//! is refused. The derive is used here without `serde` in its scope, as a program may.

use keplordb::{
    Cursor, EventFlags, EventRef, LogEvent, QueryFilter, RollupKey, RollupValue, Schema, Store, TableSchema,
    Totals,
};
use serde_json::{Value, from_value, json, to_value};

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim(rollup)]
    user: String,
    #[counter]
    tokens: u32,
    #[label]
    r#type: String,
}

#[derive(Schema)]
#[keplordb(id = 2)]
struct Bare {}

fn call() -> CallBuilder {
    let call = Call { user: "größer".to_owned(), tokens: u32::MAX, r#type: String::new() }.at(-5);
    call.id("c-1").metric(i64::MIN).latency_ms(30).latency_detail_ms(10).status(503).flags(EventFlags(0b101))
}

#[test]
fn a_row_is_a_map_of_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Call>::open(dir.path()).unwrap();
    store.append(call()).unwrap();
    let row = store.get("c-1").unwrap().unwrap();
    let map = json!({
        "id": "c-1", "ts_ns": -5, "metric": i64::MIN, "latency_ms": 30, "latency_detail_ms": 10, "status": 503,
        "flags": 5, "sequence": row.sequence(), "user": "größer", "tokens": u32::MAX, "type": "",
    });
    assert_eq!(to_value(&row).unwrap(), map);
    assert_eq!(from_value::<CallRow>(map.clone()).unwrap(), row);
    // Through text too, where keys and values are borrowed or escaped.
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(serde_json::from_str::<CallRow>(&text.replace('ö', "\\u00f6")).unwrap(), row);

    let mut other = map.clone();
    other["colour"] = json!(["unknown"]);
    assert_eq!(from_value::<CallRow>(other).unwrap(), row);
    let least = from_value::<CallRow>(json!({ "ts_ns": 7 })).unwrap();
    assert_eq!((least.ts_ns(), least.user(), least.tokens(), least.sequence()), (7, "", 0, 0));
    let without_time = from_value::<CallRow>(json!({ "user": "a" })).unwrap_err();
    assert!(without_time.to_string().contains("ts_ns"), "{without_time}");
    for wrong in [json!({ "ts_ns": 7, "tokens": -1 }), json!({ "ts_ns": 7, "user": 1 }), json!([7])] {
        assert!(from_value::<CallRow>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_row_without_columns_has_the_built_in_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Bare>::open(dir.path()).unwrap();
    store.append(Bare {}.at(1).id("b")).unwrap();
    let row = store.get("b").unwrap().unwrap();
    let map = to_value(&row).unwrap();
    assert_eq!(map.as_object().unwrap().len(), 8);
    assert_eq!(from_value::<BareRow>(map).unwrap(), row);
}

#[test]
fn answers_and_questions_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<Call>::open(dir.path()).unwrap();
    store.append(call()).unwrap();

    let totals = store.query(Call::filter()).totals().unwrap();
    let value = to_value(&totals).unwrap();
    assert_eq!((&value["event_count"], &value["counters"]), (&json!(1), &json!([u32::MAX])));
    assert_eq!(from_value::<Totals<1>>(value.clone()).unwrap(), totals);
    assert!(from_value::<Totals<2>>(value).is_err(), "of another number of counters");

    let rollups = store.rollups(i64::MIN, i64::MAX, &[]).unwrap();
    let [(key, sum)] = rollups.as_slice() else { panic!("one group, not {}", rollups.len()) };
    assert_eq!(&from_value::<RollupKey>(to_value(key).unwrap()).unwrap(), key);
    assert_eq!(&from_value::<RollupValue<1>>(to_value(sum).unwrap()).unwrap(), sum);

    let filter = Call::filter().user("a").status(200..300).cursor(Cursor(9)).into_filter();
    let value = to_value(&filter).unwrap();
    assert_eq!((&value["dims"], &value["cursor"]), (&json!(["a"]), &json!(9)));
    assert_eq!(from_value::<QueryFilter<1>>(value).unwrap(), filter);
    assert_eq!(from_value::<QueryFilter<1>>(json!({})).unwrap(), QueryFilter::default());
    assert!(from_value::<QueryFilter<1>>(json!({ "usr": "a" })).is_err(), "a condition that is none");

    let event = call().into_log_event();
    assert_eq!(from_value::<LogEvent<1, 1, 1>>(to_value(&event).unwrap()).unwrap(), event);
    assert_eq!(from_value::<LogEvent<1, 1, 1>>(json!({ "ts_ns": 3 })).unwrap().ts_ns, 3);
    let event: EventRef<1, 1, 1> = store.get("c-1").unwrap().unwrap().into_event_ref();
    assert_eq!(from_value::<EventRef<1, 1, 1>>(to_value(&event).unwrap()).unwrap(), event);

    let schema = Call::table_schema();
    assert_eq!(from_value::<TableSchema>(to_value(&schema).unwrap()).unwrap(), schema);
}

#[test]
fn arrays_of_any_length_are_sequences() {
    let event = LogEvent::<100, 40, 0>::default();
    let value: Value = to_value(&event).unwrap();
    assert_eq!(
        (value["dims"].as_array().unwrap().len(), value["counters"].as_array().unwrap().len()),
        (100, 40)
    );
    assert_eq!(from_value::<LogEvent<100, 40, 0>>(value).unwrap(), event);
}
