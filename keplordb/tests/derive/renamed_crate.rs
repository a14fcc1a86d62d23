//! A program that knows `keplordb` only through another crate's re-export names it by `crate = "…"`.

mod platform {
    pub mod storage {
        pub use ::keplordb as events;
    }
}

// Whatever `::keplordb` were, `crate = "…"` alone decides.
use platform::storage::events::Schema;

#[derive(Schema)]
#[keplordb(id = 1, crate = "crate::renamed_crate::platform::storage::events")]
pub struct Call {
    #[dim(bloom)]
    pub user: String,
}

#[test]
fn the_crate_may_be_known_by_another_path() {
    let event = Call::new(5).user("alice").into_log_event();
    assert_eq!((event.ts_ns, event.dims), (5, ["alice".to_owned()]));
}
