//! Generated code means what it says where every common name is taken, and where there is no prelude at all.

#![allow(unused, non_camel_case_types, reason = "names of everything, whether it is used or not")]

mod taken {
    pub struct String;
    pub struct Option;
    pub struct Some;
    pub struct Result;
    pub struct Ok;
    pub struct Vec;
    pub struct Box;
    pub struct PathBuf;
    pub struct Range;
    pub struct Cursor;
    pub struct LogEvent;
    pub struct EventRef;
    pub struct QueryFilter;
    pub struct u8;
    pub struct u16;
    pub struct u32;
    pub struct u64;
    pub struct i64;
    pub struct usize;
    pub struct str;
    pub trait From {}
    pub trait Into {}
    pub trait Default {}
    pub trait Clone {}
    pub trait Debug {}
    pub trait PartialEq {}
    pub trait Schema {}
    pub mod core {}
    pub mod std {}
    pub mod keplordb {}
    macro_rules! vec {
        () => {
            compile_error!("not the vec! that was meant")
        };
    }
    pub(crate) use vec;

    #[derive(::keplordb::Schema)]
    #[keplordb(id = 1)]
    pub struct Call {
        #[dim(bloom, rollup)]
        pub user: ::std::string::String,
        #[counter]
        pub tokens: ::core::primitive::u32,
        #[label(index)]
        pub trace: ::std::string::String,
    }
}

#[no_implicit_prelude]
mod bare {
    #[::core::prelude::v1::derive(::keplordb::Schema)]
    #[keplordb(id = 2)]
    pub struct Call {
        #[dim]
        pub user: ::std::string::String,
        #[counter]
        pub tokens: u32,
        #[label]
        pub trace: ::std::string::String,
    }
}

#[test]
fn generated_code_means_what_it_says_where_names_are_taken() {
    let event = taken::Call::new(5).user("alice").tokens(3).trace("t").into_log_event();
    assert_eq!((event.dims, event.counters, event.labels), (["alice".into()], [3], ["t".into()]));
    assert_eq!(taken::Call::default_config("d".into()).rollup_dims, [0]);
    let event = bare::Call::new(5).user("alice").tokens(3).trace("t").into_log_event();
    assert_eq!((event.dims, event.counters, event.labels), (["alice".into()], [3], ["t".into()]));
}
