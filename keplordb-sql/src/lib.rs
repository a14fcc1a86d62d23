//! KeplorDB's tables in SQL, Arrow and Parquet.
#![deny(missing_docs)]
