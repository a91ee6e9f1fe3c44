"""The files the cases load, each the same bytes every time, and the tables and pipelines that go with them."""

import gzip
import json
import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLEANED = HERE / "customers.toml"


@dataclass(frozen=True)
class Shape:
    """The columns of a file, as (name, PostgreSQL type). The first is the key."""

    name: str
    columns: tuple
    # What the `transform` case does: columns to trim and lower, columns in which four digits or more become ****.
    trim_lower: tuple = ()
    mask: tuple = ()

    def table(self, name, key=True):
        lines = [f"{column} {kind}" for column, kind in self.columns]
        if key:
            lines[0] += " primary key"
        return f"create table {name} ({', '.join(lines)})"

    def names(self):
        return [name for name, _ in self.columns]

    def cleaned(self):
        """The columns as SQL expressions, with the cleaning steps in them."""
        def expression(name):
            if name in self.trim_lower:
                return f"lower(trim({name}))"
            return f"regexp_replace({name}, '[0-9]{{4,}}', '****', 'g')" if name in self.mask else name
        return [expression(name) for name in self.names()]


CUSTOMERS = Shape(
    "customers",
    (("id", "bigint"), ("title", "text"), ("firstname", "varchar(40)"), ("lastname", "varchar(40)"),
     ("status", "varchar(16)"), ("email", "text"), ("age", "integer"), ("balance", "numeric(14,2)"),
     ("signup_date", "date"), ("last_seen", "timestamptz"), ("country", "varchar(2)"), ("notes", "text")),
    trim_lower=("email",), mask=("notes",))

WIDE = Shape("wide", (("id", "bigint"), *(
    (f"c{number:03}", ("bigint", "numeric(12,2)", "text", "date", "timestamptz")[number % 5]) for number in range(1, 200))))

QUOTED = Shape("quoted", (("id", "bigint"), ("subject", "text"), ("body", "text"), ("author", "text"), ("written", "date")))


TYPES = ("integer", "number", "date", "datetime", "boolean")
# What a naive parser is slow at, and the bytes it is made of.
SLOW = {"blank lines": "\n", "commas": ",", "quotes": '"', "quotes, each on a line": '"\n', "open quotes": 'x,"\n'}


def long_cells(path, header):
    """Cells of a megabyte which a type has to refuse, or a pattern with nested repetition has to search; gives how many."""
    cells = {"text": "x", "integer": "9", "number": "1.", "date": "2026-", "datetime": "2026-01-01T", "boolean": "true"}
    places = header.strip().split(",")
    with open(path, "w") as file:
        file.write(header)
        for name, piece in cells.items():
            cell = piece * (1_000_000 // len(piece))
            row = ",".join(cell if name == place else "" for place in places)
            file.write((row + "\n") * 3)
    return 3 * len(cells)


def pipeline(shape):
    """A pipeline file for a shape that has none in this directory."""
    def field(name, kind):
        if kind.startswith("numeric"):
            return f'type = "number", precision = [{re.sub("[^0-9,]", "", kind).replace(",", ", ")}]'
        return {"bigint": 'type = "integer"', "date": 'type = "date"', "text": 'type = "string"',
                "timestamptz": 'type = "datetime", format = "%Y-%m-%dT%H:%M:%S%z"'}[kind]
    fields = "\n".join(f'  {{ name = "{name}", {field(name, kind)} }},' for name, kind in shape.columns)
    return (f'version = 1\nname = "bench_{shape.name}"\n\n[source]\npath = "{shape.name}*.csv*"\n\n[dialect]\n'
            f'delimiter = ","\n\n[schema]\nprimaryKey = ["id"]\nfields = [\n{fields}\n]\n')


def uncleaned():
    """customers.toml without its cleaning steps: types and lineage are left."""
    return re.sub(r", clean = \[.*\](?= \},$)", "", CLEANED.read_text(), flags=re.MULTILINE)


def customers(ingest, path, rows, dirty=0.0):
    """Written by `ingest generate`; gives the number of dirty rows."""
    made = subprocess.run([ingest, "generate", "customers", "--rows", str(rows), "--seed", "1", "--dirty", str(dirty),
                           "--out", path, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout)["dirty_rows"]


def records(path):
    """Header and records of a CSV, as bytes. A quoted field may hold line ends, so a line is not yet a record."""
    with open(path, "rb") as lines:
        header, gathered = next(lines), []
        found, open_quote = [], False
        for line in lines:
            gathered.append(line)
            open_quote ^= line.count(b'"') % 2 == 1
            if not open_quote:
                found.append(b"".join(gathered))
                gathered.clear()
    return header, found


def shuffled(source, path):
    header, found = records(source)
    random.Random(1).shuffle(found)
    path.write_bytes(header + b"".join(found))


def split(source, folder, size):
    """Cuts a file into files of `size` records, each with the header."""
    folder.mkdir()
    header, found = records(source)
    for number, start in enumerate(range(0, len(found), size)):
        (folder / f"customers-{number:04}.csv").write_bytes(header + b"".join(found[start:start + size]))


def compressed(source, path):
    # Level 6 is that of `gzip`; a fixed time keeps the bytes the same.
    path.write_bytes(gzip.compress(source.read_bytes(), 6, mtime=0))


def wide(path, rows):
    """200 columns, in turn whole numbers, decimals, texts, days and times. Two halves of a row are drawn from pools: making
    each value anew would take longer than loading it."""
    draw = random.Random(1)

    def value(kind):
        if kind == "bigint":
            return str(draw.randrange(-10**12, 10**12))
        if kind == "text":
            return draw.choice(("", "north", "Łódź", "see the file", "to be called back", "a-17"))
        day = f"{draw.randrange(1990, 2030)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"
        if kind == "date":
            return day
        if kind == "timestamptz":
            return f"{day}T{draw.randrange(24):02}:{draw.randrange(60):02}:{draw.randrange(60):02}{draw.choice(('Z', '+02:00'))}"
        return f"{draw.randrange(-10**9, 10**9)}.{draw.randrange(100):02}"

    kinds = [kind for _, kind in WIDE.columns]
    left = [",".join(value(kind) for kind in kinds[1:100]) for _ in range(499)]
    right = [",".join(value(kind) for kind in kinds[100:]) for _ in range(503)]
    with open(path, "w", encoding="utf-8", newline="") as out:
        out.write(",".join(WIDE.names()) + "\n")
        for number in range(1, rows + 1):
            out.write(f"{number},{left[number % 499]},{right[number % 503]}\n")


def quoted(path, rows):
    """Texts that need their quotes: line ends, doubled quotes and delimiters in them."""
    draw = random.Random(1)
    parts = ["First line\nsecond line", "she said \"\"call back\"\"", "12 High St, Flat 3, London", "\n\n", "\"\"", ",,;",
             "a sentence without anything in it", "日本語の、文", "ends with a quote\"\"", "tab\there", "100 %, at least"]
    # No "" among them: to PostgreSQL that is an empty text, to a pipeline a missing value.
    subjects = ["plain subject", "\"Re: \"\"offer\"\", again\"", "\"two\nlines\"", "\"a, b\"", ""]
    authors = ["Nowak", "\"O'Brien, Mary\"", "\"van der Berg\"", "山田"]
    with open(path, "w", encoding="utf-8", newline="") as out:
        out.write(",".join(QUOTED.names()) + "\n")
        for number in range(1, rows + 1):
            body = " ".join(draw.choices(parts, k=6))
            out.write(f"{number},{draw.choice(subjects)},\"{body}\",{draw.choice(authors)},"
                      f"20{draw.randrange(10, 30)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}\n")


def noise(path, size, seed):
    """Bytes no one can compress, for uploads."""
    draw = random.Random(seed)
    with open(path, "wb") as out:
        for start in range(0, size, 1 << 20):
            out.write(draw.randbytes(min(1 << 20, size - start)))
