"""The cases. Each is a generator of tables to measure; what it does before a `yield` is not measured."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import contestants as call
import data
from contestants import DUCKDB, ETL_RUNNER, INGEST, OURS, PSQL, PSQL_SQL, Contestant, Skipped
from server import S3, Postgres, bare_environment

# What `ingest generate customers` writes for a row.
ROW_BYTES = 148
# Room on the disk for a large load: its file and the table with its key in sizes of the file, and PostgreSQL's log in bytes.
ROOM = 2.5
LOG = 2e9

OBJECTS = 1000


class Lost(Exception):
    """Rows, rejects or bytes are not what they have to be."""


@dataclass
class Case:
    name: str
    title: str
    contestants: list
    # What one run carries, for the column with the rate: rows, files or MB a second, or ms an object.
    amount: float
    unit: str
    # Where CPU is counted and what has to come to rest between two runs; None when there is no server.
    server: object
    # Ours is compared with these; the first is the base of the ratios in the table.
    against: tuple
    rounds: int


class Bench:
    """What the cases share: options, servers that start when first asked for, files that are made once."""

    def __init__(self, options, folder):
        self.options, self.folder, self.rounds = options, folder, options.rounds
        self.loaders = call.Loaders(options.peers)
        self.servers = []
        # pgloader makes this when it starts, whatever directory it is given.
        self.litter = [path for path in [Path("/tmp/pgloader")] if not path.exists()]

    @cached_property
    def postgres(self):
        self.servers.append(Postgres(self.folder))
        return self.servers[-1]

    @cached_property
    def s3(self):
        program = call.tool("s3s-fs")
        if not program:
            raise Skipped("no S3 server here: `benches/install-peers.sh s3s-fs` builds it")
        self.servers.append(S3(program, self.folder))
        return self.servers[-1]

    @cached_property
    def customers(self):
        path = self.folder / "customers.csv"
        data.customers(INGEST, path, self.options.rows)
        return path

    def stop(self):
        for server in self.servers:
            server.stop()
        for path in self.litter:
            shutil.rmtree(path, ignore_errors=True)


class Load:
    """Files of one shape into PostgreSQL: the tables of all contestants, and what has to be in them afterwards.

    PostgreSQL itself is the judge: `psql \\copy` loads the plain file once, and a sum over the hashes of all rows is taken
    of it, as they are and with the cleaning steps in SQL. A file too large for that is judged by its count alone.
    """

    def __init__(self, bench, name, shape, path, pipeline, rows, judged=True):
        self.bench, self.name, self.shape, self.path, self.rows = bench, name, shape, path, rows
        self.server = bench.postgres
        self.server.fresh_database(f"bench_{name}")
        self.raw = f"raw_{shape.name}"
        self.server.psql(shape.table(self.raw))
        self.pipeline = bench.folder / f"{name}.toml"
        self.pipeline.write_text(pipeline)
        document = tomllib.loads(pipeline)
        self.table = document.get("target", {}).get("table", document["name"])
        # As any load but the first finds it: ledger and table are there.
        self.etl_runner("setup")
        self.server.psql(self.etl_runner("ddl", self.pipeline, "--postgres"))
        self.ledger = self.server.psql(
            "select string_agg(format('aqueduct.%I', tablename), ', ') from pg_tables "
            "where schemaname = 'aqueduct' and tablename !~ 'migration'")
        self.as_it_is = self.when_clean = None
        if judged:
            self.finish(call.psql(self.server, call.copy_from(self.raw, path)))
            self.as_it_is = self.look(self.raw)
            self.when_clean = self.look(self.raw, shape.cleaned())
            if self.as_it_is[0] != rows:
                raise Lost(f"{path.name} has {self.as_it_is[0]:,} rows instead of {rows:,}")
            if shape.mask and self.as_it_is == self.when_clean:
                raise Lost(f"{path.name} holds nothing to clean")

    def finish(self, command):
        done = subprocess.run(command, env=self.server.environment(), capture_output=True, text=True)
        if done.returncode:
            raise Lost(f"{call.quote(command)} failed:\n{done.stderr}")
        return done.stdout

    def etl_runner(self, *arguments):
        return self.finish([ETL_RUNNER, *arguments])

    def look(self, table, expressions=None):
        """Number of rows, and a sum that differs when one value does."""
        row = ", ".join(expressions or self.shape.names())
        count, total = self.server.psql(
            f"select count(*), coalesce(sum(hashtextextended(row({row})::text, 0)::numeric), 0) from {table}").split("|")
        return int(count), total

    def judge(self, table, expected):
        """A check for `Contestant`: the rows are there and, of ours and of psql's, each value."""
        def check(contestant):
            if expected is None:
                found = int(self.server.psql(f"select count(*) from {table}"))
            else:
                found, total = self.look(table)
            if found != self.rows:
                raise Lost(f"{contestant.name} left {found:,} of {self.rows:,} rows")
            if expected is not None and (found, total) != expected:
                if not contestant.peer:
                    raise Lost(f"{contestant.name} left all rows, but with other values")
                return "other values"
            return None
        return check

    def psql(self, name=PSQL, path=None, command=None):
        """The file as it is into an existing table with a key: the least anybody can do."""
        return Contestant(
            name, command or call.psql(self.server, call.copy_from(self.raw, path or self.path)),
            lambda: self.server.psql(f"truncate {self.raw}"), self.judge(self.raw, self.as_it_is), self.server.environment())

    def ours(self, name=OURS, path=None, flags=(), clean=False, create=False, check=None):
        empty = f"drop table if exists {self.table}" if create else f"truncate {self.table}"
        return Contestant(
            name, call.etl_run(self.pipeline, *([path or self.path] if path is not False else ()), *flags),
            lambda: self.server.psql(f"{empty}; truncate {self.ledger} restart identity"),
            check or self.judge(self.table, self.when_clean if clean else self.as_it_is), self.server.environment())

    def peers(self, *chosen, clean=False):
        for name in self.bench.loaders.installed:
            if chosen and name not in chosen:
                continue
            # A table of its own, made anew for each run: not every peer leaves the columns as they are.
            own, folder = f"{name}_{self.shape.name}", self.bench.folder
            title, command, environment, table = self.bench.loaders.command(
                name, self.server, folder, self.shape, own, self.path, clean)

            def reset(own=own, scratch=folder / f"{name}-scratch"):
                self.server.psql(f"drop table if exists {own}; {self.shape.table(own)}; "
                                 "drop schema if exists bench_dlt, bench_dlt_staging cascade")
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
            yield Contestant(title, command, reset, self.judge(table, self.when_clean if clean else self.as_it_is),
                             environment, peer=True, slow=name != "duckdb")

    def case(self, title, contestants, against=(PSQL,), rounds=None):
        size = self.path.stat().st_size / 1e6
        return Case(self.name, f"{self.rows:,} rows, {size:,.0f} MB: {title}", contestants, self.rows, "rows", self.server,
                    against, rounds or self.bench.rounds)


def plain(bench):
    load = Load(bench, "plain", data.CUSTOMERS, bench.customers, data.uncleaned(), bench.options.rows)
    yield load.case("types and lineage, nothing cleaned", [load.psql(), load.ours(), *load.peers()], (PSQL, DUCKDB))


def transform(bench):
    load = Load(bench, "transform", data.CUSTOMERS, bench.customers, data.CLEANED.read_text(), bench.options.rows)
    in_sql = Contestant(PSQL_SQL, call.psql_and_sql(load.server, load.shape, load.raw, load.path),
                        lambda: load.server.psql(f"truncate {load.raw}; drop table if exists staging"),
                        load.judge(load.raw, load.when_clean), load.server.environment())
    yield load.case("e-mail trimmed and lowered, one regular expression on notes (psql \\copy: neither)",
                    [load.psql(), load.ours(clean=True), in_sql, *load.peers(clean=True)], (PSQL, PSQL_SQL, DUCKDB))


def create(bench):
    """A load that makes its table builds the key after the rows, which sorts once instead of searching for each row."""
    load = Load(bench, "create", data.CUSTOMERS, bench.customers, data.CLEANED.read_text(), bench.options.rows)
    make, with_key = "psql, key after the rows", f"alter table {load.raw} add primary key ({load.shape.names()[0]})"
    made = load.psql(make, command=call.psql(load.server, call.copy_from(load.raw, load.path), with_key))

    def make_anew(key):
        load.server.psql(f"drop table {load.raw}; {load.shape.table(load.raw, key)}")
    raw = load.psql()
    made.reset, raw.reset = (lambda: make_anew(False)), (lambda: make_anew(True))
    yield load.case("aqueduct with every transform into a table it makes, psql \\copy into one that has its key",
                    [raw, load.ours(create=True, clean=True), made], (PSQL, make))


def parallel(bench):
    load = Load(bench, "parallel", data.CUSTOMERS, bench.customers, data.CLEANED.read_text(), bench.options.rows)
    twice = "aqueduct --parallel 2"
    yield load.case("every transform, one file over two connections",
                    [load.psql(), load.ours(clean=True), load.ours(twice, clean=True, flags=("--parallel", "2"))], (PSQL, OURS))


def dirty(bench):
    # A thousandth of a million rows is just about the usual limit.
    unlimited = data.uncleaned() + "\n[errors]\nlimit = {}\n"
    load = Load(bench, "dirty", data.CUSTOMERS, bench.customers, unlimited, bench.options.rows)
    path = bench.folder / "customers-dirty.csv"
    spoilt = data.customers(INGEST, path, bench.options.rows, 0.001)
    load.server.psql(f"create unlogged table clean as select * from {load.raw}")

    def check(contestant):
        rejected = int(load.server.psql("select count(*) from aqueduct.reject"))
        if rejected != spoilt:
            raise Lost(f"{contestant.name} rejected {rejected:,} rows, {spoilt:,} are dirty")
        good = load.look(f"clean where id in (select id from {load.table})")
        if load.look(load.table) != good or good[0] != load.rows - spoilt:
            raise Lost(f"{contestant.name} did not load exactly the {load.rows - spoilt:,} clean rows")
    name = "aqueduct, dirty"
    yield load.case(f"{spoilt:,} of them dirty, rejected one by one; psql and aqueduct load the clean file",
                    [load.psql(), load.ours(), load.ours(name, path=path, check=check)], (PSQL, OURS))


def conflict(bench):
    """The table refuses the last record alone: all the work of a load is in vain, and begins anew."""
    load = Load(bench, "conflict", data.CUSTOMERS, bench.customers, data.uncleaned(), bench.options.rows)
    path = bench.folder / "customers-conflict.csv"
    with open(bench.customers, "rb") as whole, open(path, "wb") as twice:
        shutil.copyfileobj(whole, twice)
        whole.seek(0)
        header, first = whole.readline(), whole.readline()
        twice.write(first)
    if first.count(b'"') % 2:
        raise Lost("the first record of the file has more lines than one")

    def check(contestant):
        rejected = load.server.psql("select string_agg(code, ' ') from aqueduct.reject")
        if rejected != "primary-key" or load.look(load.table) != load.as_it_is:
            raise Lost(f"{contestant.name} did not set exactly the last record aside")
    name = "aqueduct, key twice"
    yield load.case("aqueduct with a key of the file's first record in its last one, too",
                    [load.psql(), load.ours(), load.ours(name, path=path, check=check)], (PSQL, OURS))


def upsert(bench):
    """Rows take the place of those with the same key: of none, and of all."""
    pipeline = data.uncleaned().replace('mode = "append"', 'mode = "upsert"')
    load = Load(bench, "upsert", data.CUSTOMERS, bench.customers, pipeline, bench.options.rows)
    sql = call.psql_upsert(load.server, load.shape, load.raw, load.path)
    fill = call.psql(load.server, call.copy_from(load.raw, load.path))

    def psql(name, prepare):
        def reset():
            load.server.psql(f"truncate {load.raw}")
            prepare(load.raw)
        return Contestant(name, sql, reset, load.judge(load.raw, load.as_it_is), load.server.environment())

    def ours(name, prepare):
        def reset():
            load.server.psql(f"truncate {load.table}; truncate {load.ledger} restart identity")
            prepare(load.table)
        return Contestant(name, call.etl_run(load.pipeline, load.path), reset,
                          load.judge(load.table, load.as_it_is), load.server.environment())

    def nothing(table):
        pass

    def all_rows(table):
        load.server.psql(f"truncate {load.raw}")
        load.finish(fill)
        if table != load.raw:
            names = ", ".join(load.shape.names())
            load.server.psql(f"insert into {table} ({names}) select {names} from {load.raw}")

    yield load.case("into an empty table; psql: temporary table, distinct on, on conflict",
                    [psql("psql, upsert in SQL", nothing), ours(OURS, nothing)], ("psql, upsert in SQL",))
    yield load.case("each key there already",
                    [psql("psql, upsert in SQL", all_rows), ours(OURS, all_rows)], ("psql, upsert in SQL",))


def wide(bench):
    path, rows = bench.folder / "wide.csv", max(1, bench.options.rows // 10)
    data.wide(path, rows)
    load = Load(bench, "wide", data.WIDE, path, data.pipeline(data.WIDE), rows)
    yield load.case("200 columns", [load.psql(), load.ours(), *load.peers("duckdb", "polars")], (PSQL, DUCKDB))


def quoted(bench):
    path, rows = bench.folder / "quoted.csv", max(1, bench.options.rows // 2)
    data.quoted(path, rows)
    load = Load(bench, "quoted", data.QUOTED, path, data.pipeline(data.QUOTED), rows)
    yield load.case("texts with line ends, doubled quotes and delimiters in them",
                    [load.psql(), load.ours(), *load.peers("duckdb", "polars")], (PSQL, DUCKDB))


def gz(bench):
    load = Load(bench, "gz", data.CUSTOMERS, bench.customers, data.uncleaned(), bench.options.rows)
    load.path = bench.folder / "customers.csv.gz"
    data.compressed(bench.customers, load.path)
    by_gzip = call.psql(load.server, f"\\copy {load.raw} from program 'gzip -dc {load.path}' with (format csv, header)")
    yield load.case("compressed with gzip; psql reads from `gzip -dc`",
                    [load.psql(command=by_gzip), load.ours(), *load.peers("duckdb")], (PSQL, DUCKDB))


def shuffled(bench):
    load = Load(bench, "shuffled", data.CUSTOMERS, bench.customers, data.uncleaned(), bench.options.rows)
    path = bench.folder / "customers-shuffled.csv"
    data.shuffled(bench.customers, path)
    mixed = "psql \\copy, shuffled"
    late = load.ours("aqueduct, shuffled, makes the table", path=path, create=True)
    table = load.etl_runner("ddl", load.pipeline, "--postgres")
    remove = late.reset

    def check(contestant, judge=late.check):
        judge(contestant)
        load.server.psql(f"drop table {load.table}; {table}")  # as the others expect it
    late.reset, late.check = remove, check
    yield load.case("the same rows by rising id and in random order",
                    [load.psql(), load.ours(), load.psql(mixed, path), load.ours("aqueduct, shuffled", path), late],
                    (PSQL, mixed))


def huge(bench):
    size = bench.options.gigabytes * 1e9
    free, needed = shutil.disk_usage(bench.folder).free, size * ROOM + LOG
    if free < needed:
        raise Skipped(f"{needed / 1e9:,.0f} GB have to be free in {bench.folder.parent}, {free / 1e9:,.0f} are; "
                      "TMPDIR names another place")

    def emptied(check, reset):
        """Both tables at once would take twice the room."""
        def then_empty(contestant):
            check(contestant)
            reset()
        return then_empty
    # A run pins the version of a file before it reads it, so it takes no pipe: the file has to lie on the disk.
    path, rows = bench.folder / "customers-huge.csv", int(size / ROW_BYTES)
    data.customers(INGEST, path, rows)
    try:
        load = Load(bench, "huge", data.CUSTOMERS, path, data.CLEANED.read_text(), rows, judged=False)
        contestants = [load.psql(), load.ours()]
        for contestant in contestants:
            contestant.check = emptied(contestant.check, contestant.reset)
        yield load.case("look at the peak of memory", contestants, rounds=1)
    finally:
        path.unlink()


def small(bench):
    rows, folder = OBJECTS * 100, bench.folder / "small"
    whole = bench.folder / "small.csv"
    data.customers(INGEST, whole, rows)
    data.split(whole, folder, 100)
    load = Load(bench, "small", data.CUSTOMERS, whole, data.uncleaned(), rows)
    script = bench.folder / "small.sql"
    script.write_text("".join(call.copy_from(load.raw, path) + "\n" for path in sorted(folder.iterdir())))
    one_session = [load.server.psql_program(), "-Xq", "-v", "ON_ERROR_STOP=1", "-f", script]
    each = "psql, one process a file"
    copy = f"\\copy {load.raw} from '$file' with (format csv, header)".replace("\\", "\\\\")
    loop = call.shell(f"for file in {call.quote([folder])}/*.csv; do {load.server.psql_program()} -Xq -v ON_ERROR_STOP=1 "
                      f'-c "{copy}" || exit 1; done')
    case = load.case("", [load.psql(command=one_session), load.ours(path=False, flags=("--store", folder)),
                          load.psql(each, command=loop)], (PSQL, each), min(3, bench.rounds))
    case.title = f"{OBJECTS:,} objects of 100 rows from a directory; psql \\copy: one session, one line a file"
    case.amount, case.unit = OBJECTS, "objects"
    yield case


def sqlite(bench):
    """Each round loads a file of its own, so that nothing is passed over as loaded already."""
    rounds, warm = 20, 2
    whole, folder = bench.folder / "sqlite.csv", bench.folder / "sqlite"
    data.customers(INGEST, whole, (rounds + warm) * 100)
    data.split(whole, folder, 100)
    files = sorted(folder.iterdir())
    pipeline = bench.folder / "sqlite.toml"
    pipeline.write_text(data.uncleaned())
    contestants = []

    def contestant(name, warehouse, table, command, peer):
        for path in files[:warm]:
            subprocess.run(command(path), check=True, env=bare_environment(), stdout=subprocess.DEVNULL)
        loaded = [warm]

        def check(contestant):
            loaded[0] += 1
            with sqlite3.connect(warehouse) as database:
                found = database.execute(f"select count(*) from {table}").fetchone()[0]
            database.close()
            if found != loaded[0] * 100:
                raise Lost(f"{contestant.name} has {found} of {loaded[0] * 100} rows")
        return Contestant(name, lambda number: command(files[warm + number]), lambda: None, check, bare_environment(), peer)

    warehouse = bench.folder / "warehouse.db"
    contestants.append(contestant(
        OURS, warehouse, "bench_customer",
        lambda path: call.etl_run(pipeline, path, "--database", f"sqlite:{warehouse}"), False))
    against, shell = (), call.tool("sqlite3")
    if shell:
        other, against = bench.folder / "other.db", ("sqlite3 .import",)
        with sqlite3.connect(other) as database:
            database.execute(data.CUSTOMERS.table("customers"))
        database.close()
        contestants.append(contestant(
            against[0], other, "customers",
            lambda path: [shell, "-bail", other, f".import --csv --skip 1 '{path}' customers"], False))
    yield Case("sqlite", "one file of 100 rows into an existing SQLite warehouse", contestants, 1, "objects", None, against,
               rounds)


def hostile(bench):
    """Files made to be slow: ten times the bytes take no more than ten times as long, and a cell of a megabyte little."""
    pipeline = bench.folder / "hostile.toml"
    names = ", ".join(f'{{ name = "{kind}", type = "{kind}" }}' for kind in data.TYPES)
    pipeline.write_text('version = 1\nname = "hostile"\n[source]\npath = "*.csv"\n[dialect]\ndelimiter = ","\n[schema]\n'
                        f'fields = [{{ name = "text", clean = [{{ regex = "(x+)+y", with = "z" }}] }}, {names}]\n'
                        "[errors]\nlimit = { rows = 1000000000 }\n")

    def check(what, path):
        def run(contestant):
            said = (bench.folder / "output.txt").read_text(errors="replace")
            if " record" not in said:
                raise Lost(f"{contestant.name} of {what} counted nothing: {said[-300:]}")
        command = [INGEST, "check", path, "--pipeline", pipeline, "--limit", "1"]
        return lambda name: Contestant(name, command, lambda: None, run, bare_environment())

    header = ",".join(("text", *data.TYPES)) + "\n"
    for what, unit in data.SLOW.items():
        contestants = []
        for megabytes, name in ((100, OURS), (10, "aqueduct, 10 MB")):
            path = bench.folder / f"hostile-{megabytes}.csv"
            with open(path, "w") as file:
                file.write(header)
                for _ in range(megabytes):
                    file.write(unit * (1_000_000 // len(unit)))
            contestants.append(check(what, bench.folder / path.name)(name))
        yield Case("hostile", f"100 MB of {what}", contestants, 1, "files", None, ("aqueduct, 10 MB",), min(3, bench.rounds))
    path = bench.folder / "hostile-cells.csv"
    cells = data.long_cells(path, header)
    yield Case("hostile", "cells of a megabyte, three of each type", [check("long cells", path)(OURS)], cells, "cells", None,
               (), min(3, bench.rounds))


def digest(path):
    sums = hashlib.sha256()
    with open(path, "rb") as source:
        while chunk := source.read(1 << 20):
            sums.update(chunk)
    return sums.hexdigest()


def s3(bench):
    server, source = bench.s3, bench.folder / "upload"
    large, many = source / "large.csv", source / "many"
    many.mkdir(parents=True)
    data.noise(large, bench.options.mebibytes << 20, 1)
    for number in range(OBJECTS):
        data.noise(many / f"part-{number:04}.csv", 100 << 10, number)
    bucket, environment = server.BUCKET, server.environment()
    s5cmd = call.environment_of("s3", "s5cmd") or call.tool("s5cmd")
    aws = call.environment_of("s3", "aws") or call.tool("aws")
    boto3, rclone = call.environment_of("s3"), call.tool("rclone")
    remote = (f':s3,provider=Other,env_auth=true,region=us-east-1,endpoint="{server.endpoint}",force_path_style=true,'
              f"no_check_bucket=true:{bucket}")

    def check_files(sent):
        expected = {name: digest(path) for name, path in sent.items()}

        def check(contestant):
            for name, sums in expected.items():
                arrived = server.root / bucket / name
                if not arrived.is_file() or digest(arrived) != sums:
                    raise Lost(f"{contestant.name}: {name} did not arrive whole")
        return check

    def case(name, title, check, amount, unit, commands):
        lines = [Contestant(program, [os.fspath(word) for word in command], server.empty, check, environment,
                            peer=program != OURS) for program, command in commands.items() if command[0]]
        missing = [program for program, command in commands.items() if not command[0]]
        if missing:
            title += f" (not here: {', '.join(missing)})"
        return Case(name, title, lines, amount, unit, server, ("s5cmd",), bench.rounds)

    upload = [INGEST, "upload", "--quiet", "--store", f"s3://{bucket}"]
    yield case("s3 large", f"one file of {bench.options.mebibytes:,} MiB", check_files({"large.csv": large}),
               large.stat().st_size / 1e6, "MB", {
                   OURS: [*upload, large],
                   "s5cmd": [s5cmd, "cp", large, f"s3://{bucket}/large.csv"],
                   "rclone": [rclone, "copyto", large, f"{remote}/large.csv"],
                   "aws s3 cp": [aws, "s3", "cp", "--only-show-errors", large, f"s3://{bucket}/large.csv"],
                   "boto3": [boto3, call.PROGRAMS / "boto3_upload.py", large, bucket, "large.csv"]})
    yield case("s3 many", f"{OBJECTS:,} files of 100 KiB", check_files({f"many/{path.name}": path for path in many.iterdir()}),
               OBJECTS, "files", {
                   OURS: [*upload, "--prefix", "many", many],
                   "s5cmd": [s5cmd, "--log", "error", "cp", f"{many}/", f"s3://{bucket}/many/"],
                   "rclone": [rclone, "copy", many, f"{remote}/many"],
                   "rclone, 32 transfers": [rclone, "copy", "--transfers", "32", "--checkers", "32", many, f"{remote}/many"],
                   "aws s3 cp": [aws, "s3", "cp", "--only-show-errors", "--recursive", many, f"s3://{bucket}/many/"],
                   "boto3, 10 threads": [boto3, call.PROGRAMS / "boto3_upload.py", many, bucket, "many"]})


CASES = {function.__name__: function for function in (
    plain, transform, create, parallel, dirty, small, sqlite, conflict, upsert, wide, quoted, hostile, gz, shuffled, s3, huge)}
USUAL = ("plain", "transform", "create", "parallel", "dirty", "small", "sqlite")
