//! A private struct in a function, used by its builder alone, is free of warnings.

#![deny(warnings, missing_docs, unreachable_pub)]

mod calls {
    use keplordb::Schema;

    #[derive(Schema)]
    #[keplordb(id = 1)]
    pub(super) struct Inner {
        #[dim]
        user: String,
    }
}

#[test]
fn a_private_struct_is_free_of_warnings() {
    #[derive(keplordb::Schema)]
    #[keplordb(id = 2)]
    struct Call {
        #[dim]
        user: String,
        #[counter]
        tokens: u32,
        #[label]
        trace: String,
    }
    let event = Call::new(5).user("alice").tokens(3).trace("t").into_log_event();
    assert_eq!((event.dims, event.counters, event.labels), (["alice".into()], [3], ["t".into()]));
    assert_eq!(calls::Inner::new(6).user("bob").into_log_event().dims, ["bob"]);
}
