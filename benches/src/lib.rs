//! What the benches share: the workload, the tables that are asked, and what they must know of the machine.
//!
//! | | |
//! |---|---|
//! | [`workload`] | any event of `keplor-llm` from its number alone |
//! | [`calls`] | the same events by a derived type, in an open store |
//! | [`questions`] | what such a store is asked |
//! | [`table`] | such events in an open engine, in a directory of its own |
//! | [`figures`] | what was recorded of reads |
//! | [`writers`] | threads that write at once, and how long they took |
//! | [`machine`] | the disk that was measured on, and the process's memory |
//! | [`mode`] | whether a bench measures, or only shows that it works |
//!
//! `cargo bench -p keplordb-benches` prints Criterion's table; `cargo test` runs each bench once on a small table. Three
//! binaries measure what Criterion cannot: `versus` (the operations that other engines are asked, with the same answers),
//! `versus-writes` (beside a bare file) and `memory`. Put the files on the disk
//! to measure with the variable `KEPLORDB_BENCH_DIR`; they are in the temporary directory otherwise.
#![forbid(unsafe_code)]

pub mod appends;
pub mod calls;
pub mod figures;
pub mod machine;
pub mod mode;
pub mod questions;
pub mod table;
pub mod workload;
pub mod writers;
