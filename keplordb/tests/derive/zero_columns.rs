//! Any role may be empty, all of them too.

#![deny(warnings)]

use keplordb::{EngineConfig, LogEvent, QueryFilter, Schema};

#[derive(Schema)]
#[keplordb(id = 1)]
pub struct Nothing {}

#[derive(Schema)]
#[keplordb(id = 2)]
pub struct OnlyDims {
    #[dim]
    pub user: String,
}

#[derive(Schema)]
#[keplordb(id = 3)]
pub struct OnlyCounters {
    #[counter]
    pub tokens: u32,
}

#[derive(Schema)]
#[keplordb(id = 4)]
pub struct OnlyLabels {
    #[label]
    pub trace: String,
}

#[test]
fn any_role_may_be_empty() {
    let nothing: LogEvent<0, 0, 0> = Nothing {}.at(1).metric(7).into_log_event();
    assert_eq!((nothing.ts_ns, nothing.metric), (1, 7));
    let _: QueryFilter<0> = Nothing::filter().from(1).into_filter();
    assert_eq!(Nothing::default_config("d".into()).bloom_dim, EngineConfig::NO_BLOOM);
    let _: LogEvent<1, 0, 0> = OnlyDims { user: "alice".to_owned() }.at(1).into_log_event();
    let _: LogEvent<0, 1, 0> = OnlyCounters { tokens: 1 }.at(1).into_log_event();
    let _: LogEvent<0, 0, 1> = OnlyLabels { trace: "t".to_owned() }.at(1).into_log_event();
}
