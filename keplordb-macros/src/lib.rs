//! `#[derive(Schema)]` for `KeplorDB`: a table's columns from one struct, with a typed builder, filter and row.
//!
//! Use it as `keplordb::Schema`; this crate is compiled into `keplordb` and says nothing on its own. The way of one
//! struct through the files: `attr` reads attributes, `ast` is our view of the struct, `valid` checks every rule,
//! `expand` writes the code, and `fallback` stands in for it after a mistake, so that the mistake is the one message
//! shown. `builtin` lists the columns of every table, and `errors` gathers mistakes.
//!
//! Generated code names everything by absolute paths, `::core::…`, `::std::…`, `::keplordb::…`, so that what a program
//! calls `String`, `Result` or `u32` cannot get into it.

#![forbid(unsafe_code)]

mod ast;
mod attr;
mod builtin;
mod errors;
mod expand;
mod fallback;
mod valid;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct the schema of a table: its fields are the columns.
///
/// ```ignore
/// use keplordb::aggregates::sum;
/// use keplordb::{Schema, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct AiCall {
///     #[dim(bloom, rollup)]
///     pub user: String,
///     #[dim]
///     pub model: String,
///     #[counter]
///     pub tokens: u32,
///     #[label(index)]
///     pub trace: String,
/// }
///
/// let store = Store::<AiCall>::open("calls")?;
/// store.append(AiCall::new(ts_ns).user("alice").model("gpt-4o").tokens(1200).status(200))?;
/// let c = AiCall::cols();
/// let rows = store.query(c.user.eq("alice") & c.status.between(200..300)).newest_first().limit(10).rows()?;
/// assert_eq!((rows[0].user(), rows[0].tokens()), ("alice", 1200));
/// let spent = store.query(c.tokens.gt(100)).group_by((c.user, c.model)).select(sum(c.tokens)).fetch()?;
/// let old = store.query(AiCall::filter().user("alice").status(200..300)).totals()?; // the plain filter
/// ```
///
/// # Attributes
///
/// | where | attribute | meaning |
/// | --- | --- | --- |
/// | struct | `#[keplordb(id = N)]` | the id of the schema, 0 to 255; a directory of another id is refused. Required |
/// | struct | `#[keplordb(crate = "path")]` | where `keplordb` is, if renamed or re-exported; default `::keplordb` |
/// | field: `String` | `#[dim]` | a string to filter and group by; at most 256 of them, 64 KiB each |
/// | | `#[dim(bloom)]` | segments carry a bloom filter of it; one dim at most |
/// | | `#[dim(rollup)]` | part of the day rollups' key, in field order |
/// | field: `u32` | `#[counter]` | a number to sum; at most 64 of them |
/// | field: `String` | `#[label]` | a string that is only stored; at most 64 of them, 16 MiB each |
/// | | `#[label(index)]` | … with a hash index for exact lookups |
///
/// Options can be combined, as in `#[dim(bloom, rollup)]`. Every field has exactly one role. A column is called as
/// its field, a raw identifier without the `r#`; the names and their order within a role are stored in the directory,
/// where new columns may later follow at the end of each role.
///
/// # What it generates
///
/// For a struct `AiCall`, each with the visibility of the struct:
///
/// - `AiCall::new(ts_ns)` and, for a value at hand, `value.at(ts_ns)`: both give an `AiCallBuilder` with a setter per
///   column, and `id`, `ts_ns`, `metric`, `latency_ms`, `latency_detail_ms`, `status`, `flags`; `into_log_event()`
///   (and `From`) make it the event of a raw `Engine`.
/// - `AiCall::cols()`: an `AiCallCols`, with a field per column and built-in (`id`, `ts_ns`, `metric`, `latency_ms`, `latency_detail_ms`, `status`,
///   `flags`, `sequence`). Each is a token, a value that can be copied: conditions are made of it (`c.tokens.gt(100)`), keys of groups (dims
///   and `status`), aggregates (`sum(c.tokens)`) and projections. Only what makes sense for a column compiles. A `const fn`, without cost.
/// - `AiCall::filter()`: an `AiCallFilter` with a setter per dim, and `from`, `to` (both inclusive), `status(min..max)`
///   and `cursor`; `into_filter()` makes it the filter of a raw `Engine`.
/// - `AiCallRow`: what a query of a `Store<AiCall>` returns, with a getter per column and built-in, and `sequence`;
///   `into_event()` (and `From`) give an `AiCall`, `into_event_ref()` the row of a raw `Engine`.
/// - `AiCallView<'_>`: the same, borrowed: what `Query::each` gives to a function; dims are `&str`, id and labels are decoded when asked for.
/// - `AiCall::default_config(data_dir)`: the `EngineConfig` that a raw `Engine` of this schema is opened with.
/// - `impl Schema for AiCall`.
///
/// # Errors
///
/// Mistakes are compile errors at the offending token: a counter that is no `u32`; a dim or label that is no `String`;
/// two bloom dims; an id that is missing or not in 0 to 255; attributes and options that are unknown, doubled or in
/// the wrong place; fields with no role or with two; names that a built-in or a generated method has (`id`, `status`,
/// `filter`, `into_…`); too many columns; anything but a struct with named fields and without generics. Types are
/// recognised as written, so an alias of `u32` or `String` is refused.
#[proc_macro_derive(Schema, attributes(keplordb, dim, counter, label))]
pub fn derive_schema(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive(&input).into()
}
