"""Reads the published tables again and again with DuckDB and Polars while events come in, and checks each answer.

The events are those of load.py: each entity's are numbered from 0 on, so that what is published of it is a beginning of them, whatever
the moment. Prints how many answers there were, at how many different moments, and how often the link moved before all files of
a pattern were opened, which a reader must be told. Arguments: the server's root, and how many rounds.
"""

import os
import sys
import time

import duckdb
import polars as pl

root, rounds = sys.argv[1], int(sys.argv[2])
LIVE = os.path.join(root, ".live")


def events_by_duckdb(directory):
    return duckdb.sql(
        f"""SELECT entity_id, count(*), count(DISTINCT seq), max(CAST(payload->>'number' AS BIGINT)) + 1
        FROM read_parquet('{directory}/_events/*.parquet') GROUP BY ALL"""
    ).fetchall()


def events_by_polars(directory):
    number = pl.col("payload").str.json_path_match("$.number").cast(pl.Int64)
    table = pl.scan_parquet(f"{directory}/_events/*.parquet").group_by("entity_id")
    return table.agg(pl.len(), pl.col("seq").n_unique(), number.max() + 1).collect().rows()


def current_by_duckdb(directory):
    return duckdb.sql(
        f"""SELECT entity_id, version, CAST(state->>'number' AS BIGINT) + 1
        FROM read_parquet('{directory}/_current/*.parquet')"""
    ).fetchall()


def current_by_polars(directory):
    number = pl.col("state").str.json_path_match("$.number").cast(pl.Int64)
    return pl.scan_parquet(f"{directory}/_current/*.parquet").select("entity_id", "version", number + 1).collect().rows()


def versions_by_duckdb(directory):
    return duckdb.sql(
        f"""SELECT entity_id, count(*), max(version), count(*) FILTER (valid_to IS NULL)
        FROM read_parquet('{directory}/_versions/*.parquet') WHERE known_to IS NULL GROUP BY ALL"""
    ).fetchall()


def versions_by_polars(directory):
    table = pl.scan_parquet(f"{directory}/_versions/*.parquet").filter(pl.col("known_to").is_null())
    by_entity = table.group_by("entity_id")
    return by_entity.agg(pl.len(), pl.col("version").max(), pl.col("valid_to").null_count()).collect().rows()


def total(rows):
    """Of rows of an entity and what are all its number of events; no entity comes twice."""
    for row in rows:
        assert len(set(row[1:])) == 1, row
    assert len({row[0] for row in rows}) == len(rows), rows
    return sum(row[1] for row in rows)


def total_of_versions(rows):
    for row in rows:
        assert row[3] == 1, row
    return total([row[:3] for row in rows])


READERS = {
    "DuckDB": (events_by_duckdb, current_by_duckdb, versions_by_duckdb),
    "Polars": (events_by_polars, current_by_polars, versions_by_polars),
}

begun = time.monotonic()
while not os.path.exists(os.path.join(root, "_events")):
    assert time.monotonic() - begun < 60, "nothing is published"
    time.sleep(0.01)

answers, missed, totals = 0, 0, set()
least = 0
for _ in range(rounds):
    for name, (events, current, versions) in READERS.items():
        # By the names that do not change: what a pattern means is listed first, and opened after that.
        for read, sum_of in (events, total), (current, total), (versions, total_of_versions):
            try:
                found = sum_of(read(root))
            except (duckdb.IOException, FileNotFoundError, pl.exceptions.ComputeError) as error:
                assert "No such file" in str(error) or "No files found" in str(error), (name, error)
                missed += 1
                continue
            assert found >= least, (name, found, least)
            least = found
            answers += 1
        # All tables at one moment: where the link points now.
        moment = os.path.realpath(LIVE)
        found = {total(events(moment)), total(current(moment)), total_of_versions(versions(moment))}
        assert len(found) == 1, (name, moment, found)
        answers += 3
        totals |= found
print(answers, len(totals), missed)
