"""Puts questions to DuckDB: of a JSON list of statements about `events`, which is events.parquet here, the lists of rows, all values as texts."""
import json
import sys

import duckdb

statements = json.load(sys.stdin)
events = duckdb.read_parquet("events.parquet")
answers = [duckdb.sql(statement).fetchall() for statement in statements]
print(json.dumps([[[str(value) for value in row] for row in rows] for rows in answers]))
