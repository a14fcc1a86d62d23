//! Everything about tables in SQL that shows from outside of the crate, in one program: linking `DataFusion` takes long.

mod aggregates;
mod as_of;
mod damage;
mod explain;
mod fixture;
mod flights;
mod killed_import;
mod limits;
mod python;
mod same_answers;
mod slt;
mod versus;
mod views;
mod workload;
