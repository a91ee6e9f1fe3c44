#!/usr/bin/env python3
"""Runs a query on a SQLite database and prints its rows as a table: show-rows.py DATABASE QUERY

Reads with Python's own SQLite, so that what the demo shows was not written and read by the same code.
"""

import sqlite3
import sys

WIDTH = 40


def shown(value):
    text = "NULL" if value is None else str(value)
    text = "".join(char if char.isprintable() else "\N{RETURN SYMBOL}" for char in text)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def main():
    path, query = sys.argv[1:]
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = database.execute(query)
    lines = [[column[0] for column in rows.description]]
    lines += [[shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    return 0 if len(lines) > 1 else 1  # a demo that shows nothing has failed


if __name__ == "__main__":
    sys.exit(main())
