"""Reads a CSV with polars, types it, cleans it, and appends it to a table through ADBC: `polars_load.py JOB`."""

import json
import re
import sys

import polars as pl

job = json.load(open(sys.argv[1]))


def read_as(kind):
    digits = re.fullmatch(r"numeric\((\d+),(\d+)\)", kind)
    if digits:
        return pl.Decimal(int(digits[1]), int(digits[2]))
    return {"bigint": pl.Int64, "integer": pl.Int32, "date": pl.Date}.get(kind, pl.String)


frame = pl.read_csv(job["file"], schema={name: read_as(kind) for name, kind in job["columns"]})
frame = frame.with_columns(
    # The CSV reader knows no time with an offset of its own.
    *[pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%#z", time_zone="UTC")
      for name, kind in job["columns"] if kind == "timestamptz"],
    *[pl.col(name).str.strip_chars(" ").str.to_lowercase() for name in job["trim_lower"]],
    *[pl.col(name).str.replace_all("[0-9]{4,}", "****") for name in job["mask"]])
frame.write_database(job["table"], job["url"], engine="adbc", if_table_exists="append")
