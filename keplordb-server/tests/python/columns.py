"""Prints what DuckDB and Polars read of a type's table: of each row the reader and a JSON object, with times in microseconds since the Unix
epoch. Argument: the directory of its files."""

import json
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import duckdb
import polars as pl

files = f"{sys.argv[1]}/*.parquet"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def plain(value):
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, (bytes, Decimal)):
        return value.hex() if isinstance(value, bytes) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    # Entries of a map, as Polars has them.
    if isinstance(value, list) and value and isinstance(value[0], dict) and set(value[0]) == {"key", "value"}:
        return {str(entry["key"]): plain(entry["value"]) for entry in value}
    return [plain(item) for item in value] if isinstance(value, list) else value


relation = duckdb.sql(f"SELECT * FROM read_parquet('{files}') ORDER BY id, _seq")
# What Python needs for times with a zone is not installed.
times = [f"epoch_us({name}) AS {name}" for name, kind in zip(relation.columns, relation.types) if "ZONE" in str(kind)]
relation = relation.project(f"* REPLACE ({', '.join(times)})")
for row in relation.fetchall():
    print("DuckDB", json.dumps({name: plain(value) for name, value in zip(relation.columns, row)}))
for row in pl.scan_parquet(files).sort("id", "_seq").collect().iter_rows(named=True):
    print("Polars", json.dumps({name: plain(value) for name, value in row.items()}))
