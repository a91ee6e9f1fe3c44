#!/usr/bin/env python3
"""Prints the first rows of each table that was loaded into a SQLite database.

Reads with Python's own SQLite, so that what it shows was not written and read by the same code.
"""

import sqlite3
import sys

ROWS = 3
COLUMNS = 7
WIDTH = 24


def shown(value):
    text = "NULL" if value is None else str(value)
    text = "".join(char if char.isprintable() else "\N{MIDDLE DOT}" for char in text)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def main():
    database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    names = database.execute("select name from sqlite_master where type = 'table' order by name")
    # The ledger's tables begin with `aqueduct`, SQLite's and sqlx's own with an underscore or `sqlite`.
    tables = [name for (name,) in names if not name.startswith(("aqueduct", "sqlite_", "_"))]
    for table in tables:
        quoted = '"' + table.replace('"', '""') + '"'
        (count,) = database.execute(f"select count(*) from {quoted}").fetchone()
        rows = database.execute(f"select * from {quoted} limit {ROWS}")
        columns = [column[0] for column in rows.description]
        more = f", {len(columns) - COLUMNS} more columns" if len(columns) > COLUMNS else ""
        print(f"{table}: {count} rows{more}")
        lines = [columns[:COLUMNS]] + [[shown(value) for value in row[:COLUMNS]] for row in rows]
        widths = [max(len(line[position]) for line in lines) for position in range(len(lines[0]))]
        for line in lines:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    return 0 if tables else 1


if __name__ == "__main__":
    sys.exit(main())
