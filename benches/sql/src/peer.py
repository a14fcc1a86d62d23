"""DuckDB on a pipe: answers each line of requests with a line, and times itself, so that the pipe is in no figure."""

import json
import sys
import time

import duckdb

connection = None
print(json.dumps({"version": duckdb.__version__}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "open" in request:
        if connection is not None:
            connection.close()
        connection = duckdb.connect(request["open"])
        connection.execute(f"SET threads = {request['threads']}")
        # It would be shown on the pipe.
        connection.execute("SET enable_progress_bar = false")
        answer = {}
    else:
        begin = time.perf_counter()
        rows = connection.execute(request["sql"]).fetchall()
        seconds = time.perf_counter() - begin
        answer = {"seconds": seconds, "rows": [[str(value) for value in row] for row in rows]}
    print(json.dumps(answer), flush=True)
