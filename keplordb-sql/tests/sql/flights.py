import duckdb
import polars as pl

questions = [
    """SELECT carrier, count(*) AS arrived, sum(metric) AS delay_min FROM flights WHERE latency_ms > 0
       GROUP BY carrier ORDER BY arrived DESC, carrier""",
    """SELECT dest, count(*) AS late FROM flights WHERE origin = 'JFK' AND metric > 120
       GROUP BY dest ORDER BY late DESC, dest LIMIT 5""",
    """SELECT ts_ns, carrier, number, origin FROM flights WHERE dest = 'SFO'
       ORDER BY ts_ns DESC, carrier, number LIMIT 5""",
]

flights = duckdb.read_parquet("flights.parquet")  # a query of DuckDB finds it by the variable's name
by_duckdb = [duckdb.sql(question).fetchall() for question in questions]

tables = pl.SQLContext(flights=pl.scan_parquet("flights.parquet"))
by_polars = [tables.execute(question).collect().rows() for question in questions]

for engine, answers in ("DuckDB", by_duckdb), ("Polars", by_polars):
    for number, rows in enumerate(answers, 1):
        print(f"\n{engine}, question {number}")
        for row in rows:
            print("", *row, sep="  ")
