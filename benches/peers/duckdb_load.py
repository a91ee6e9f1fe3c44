"""Reads a CSV with duckdb, types it, cleans it, and writes CSV for psql to standard output: `duckdb_load.py JOB`."""

import json
import sys

import duckdb

job = json.load(open(sys.argv[1]))
cleaned = [f"lower(trim({name})) as {name}" for name in job["trim_lower"]]
cleaned += [f"regexp_replace({name}, '[0-9]{{4,}}', '****', 'g') as {name}" for name in job["mask"]]
chosen = f"* replace ({', '.join(cleaned)})" if cleaned else "*"
columns = ", ".join(f"'{name}': '{kind}'" for name, kind in job["columns"])
database = duckdb.connect()
database.execute("set TimeZone = 'UTC'")
database.execute(
    f"copy (select {chosen} from read_csv('{job['file']}', header = true, delim = ',', quote = '\"', escape = '\"', "
    f"columns = {{{columns}}})) to '/dev/stdout' (format csv, header false)")
