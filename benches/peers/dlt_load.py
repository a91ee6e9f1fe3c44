"""Reads a CSV with pyarrow, cleans it, and loads it with dlt: `dlt_load.py JOB`. This is dlt's quickest way: arrow tables
in, `COPY` of CSV out. dlt makes a table of its own, in the schema `bench_dlt`."""

import json
import re
import sys

import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

job = json.load(open(sys.argv[1]))


def read_as(kind):
    digits = re.fullmatch(r"numeric\((\d+),(\d+)\)", kind)
    if digits:
        return pa.decimal128(int(digits[1]), int(digits[2]))
    known = {"bigint": pa.int64(), "integer": pa.int32(), "date": pa.date32(), "timestamptz": pa.timestamp("us", "UTC")}
    return known.get(kind, pa.string())


def changed(table, name, change):
    return table.set_column(table.schema.get_field_index(name), name, change(table[name]))


def clean(table):
    for name in job["trim_lower"]:
        table = changed(table, name, lambda texts: pc.utf8_lower(pc.utf8_trim(texts, " ")))
    for name in job["mask"]:
        table = changed(table, name, lambda texts: pc.replace_substring_regex(texts, "[0-9]{4,}", "****"))
    return table


@dlt.resource(name=job["table"], write_disposition="append")
def rows():
    reader = pyarrow.csv.open_csv(
        job["file"], read_options=pyarrow.csv.ReadOptions(block_size=8 << 20),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: read_as(kind) for name, kind in job["columns"]}, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=False))
    for batch in reader:
        yield clean(pa.Table.from_batches([batch]))


dlt.pipeline("bench", destination=dlt.destinations.postgres(job["url"]), dataset_name="bench_dlt",
             pipelines_dir=job["scratch"]).run(rows(), loader_file_format="csv")
