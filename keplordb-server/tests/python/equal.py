"""Prints what DuckDB and Polars read of the live entities: of each `reader type id version state`. Argument: the server's root."""

import sys

import duckdb
import polars as pl

root = sys.argv[1]
current = f"{root}/_current/*.parquet"
COLUMNS = ["entity_type", "entity_id", "version", "state"]
by_duckdb = duckdb.sql(f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{current}') ORDER BY ALL").fetchall()
by_polars = pl.scan_parquet(current).select(COLUMNS).sort(COLUMNS).collect().rows()
for reader, rows in ("DuckDB", by_duckdb), ("Polars", by_polars):
    for row in rows:
        print(reader, *row)
