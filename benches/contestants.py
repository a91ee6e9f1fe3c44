"""How each program is called: ours, psql, and the peers that are installed."""

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / "peers"
CACHE = ROOT / ".cache" / "bench"
BIN = ROOT / "target" / "release"
INGEST = BIN / "ingest"
ETL_RUNNER = BIN / "etl-runner"

OURS = "aqueduct"
PSQL = "psql \\copy"
PSQL_SQL = "psql \\copy + SQL"
DUCKDB = "duckdb | psql"


class Skipped(Exception):
    """A case that cannot run here, and why."""


@dataclass
class Contestant:
    """One line of a case's table."""

    name: str
    # Words, or what gives them for the number of a round.
    command: object
    # Removes what its round before left.
    reset: Callable
    # Gets this contestant after each run: raises when a row is lost, and may give a remark for the table.
    check: Callable
    environment: dict = field(default_factory=dict)
    # Left out when it fails. Ours and psql have to work.
    peer: bool = False
    # Takes part in fewer rounds.
    slow: bool = False


def environment_of(name, program="python"):
    """A program of one of the Python environments that install-peers.sh makes."""
    path = CACHE / "venv" / name / "bin" / program
    return str(path) if path.exists() else None


def tool(name):
    """A program of .cache/bench, else of the PATH."""
    return shutil.which(name, path=CACHE / "bin") or shutil.which(name)


def shell(line):
    return ["bash", "-c", f"set -o pipefail; {line}"]


def quote(words):
    return shlex.join(map(str, words))


def etl_run(pipeline, *more):
    return [ETL_RUNNER, "run", "--quiet", pipeline, *more]


def psql(server, *sql):
    """psql with these statements, each of which is one transaction."""
    command = [server.psql_program(), "-Xq", "-v", "ON_ERROR_STOP=1"]
    for statement in sql:
        command += ["-c", statement]
    return command


def copy_from(table, path):
    return f"\\copy {table} from '{path}' with (format csv, header)"


def psql_and_sql(server, shape, table, path):
    """The same cleaning in SQL: texts into a staging table, from there typed and cleaned into the table."""
    typed = [f"{expression}::{kind}" for expression, (_, kind) in zip(shape.cleaned(), shape.columns)]
    staging = ", ".join(f"{name} text" for name in shape.names())
    return psql(server, f"create unlogged table staging ({staging})", copy_from("staging", path),
                f"insert into {table} select {', '.join(typed)} from staging", "drop table staging")


def psql_upsert(server, shape, table, path):
    """An upsert as one writes it: a copy of the file, of each key the last row, `on conflict`."""
    key, *others = shape.names()
    setting = ", ".join(f"{name} = excluded.{name}" for name in others)
    names = ", ".join(shape.names())
    return psql(server, f"create temporary table staging (like {table}); alter table staging add n bigint generated always as identity",
                copy_from(f"staging ({names})", path),
                f"insert into {table} select distinct on ({key}) {names} from staging order by {key}, n desc "
                f"on conflict ({key}) do update set {setting}")


class Loaders:
    """The peers that bring a CSV into PostgreSQL. `missing` has the names of those that are not installed."""

    KNOWN = ("duckdb", "polars", "sling", "dlt", "pgloader")

    def __init__(self, wanted):
        self.python = {name: environment_of(name) for name in ("duckdb", "polars", "dlt")}
        self.sling, self.pgloader = tool("sling"), tool("pgloader")
        here = {**self.python, "sling": self.sling, "pgloader": self.pgloader}
        self.missing = [name for name in self.KNOWN if not here[name]]
        self.installed = [name for name in self.KNOWN if here[name] and name in wanted]

    def command(self, name, server, folder, shape, table, path, clean):
        """Name in the table, command, environment, and the table that is filled."""
        job = folder / f"{name}.json"
        scratch = folder / f"{name}-scratch"
        job.write_text(json.dumps({
            "file": str(path), "table": table, "columns": shape.columns, "url": server.url, "scratch": str(scratch),
            "trim_lower": shape.trim_lower if clean else (), "mask": shape.mask if clean else ()}))
        environment = server.environment()
        if name == "duckdb":
            reader = [self.python[name], PROGRAMS / "duckdb_load.py", job]
            writer = psql(server, f"\\copy {table} from stdin with (format csv)")
            return DUCKDB, shell(f"{quote(reader)} | {quote(writer)}"), environment, table
        if name == "polars":
            return "polars + ADBC", [self.python[name], PROGRAMS / "polars_load.py", job], environment, table
        if name == "dlt":
            environment |= {"RUNTIME__DLTHUB_TELEMETRY": "false"}
            return "dlt (arrow)", [self.python[name], PROGRAMS / "dlt_load.py", job], environment, f"bench_dlt.{table}"
        if name == "sling":
            environment |= {"SLING_HOME_DIR": str(scratch), "SLING_DISABLE_TELEMETRY": "true",
                            "SLING_LOADED_AT_COLUMN": "false",
                            "BENCH": server.url + "?sslmode=disable"}
            steps = ["--transforms", json.dumps({column: ["trim_space", "lower"] for column in shape.trim_lower})]
            command = [self.sling, "run", "--src-stream", f"file://{path}", "--src-options", '{"empty_as_null": true}',
                       "--tgt-conn", "BENCH",
                       "--tgt-object", f"public.{table}", "--mode", "truncate", *(steps if clean else [])]
            return "sling (no regex)" if clean and shape.mask else "sling", command, environment, table
        functions = shutil.copy(PROGRAMS / "pgloader.lisp", folder)  # it is compiled, beside itself
        script = folder / "pgloader.load"
        script.write_text(self.pgloader_script(server, shape, table, path, clean))
        command = [self.pgloader, "--root-dir", scratch, "--load-lisp-file", functions, script]
        return "pgloader", command, environment, table

    @staticmethod
    def pgloader_script(server, shape, table, path, clean):
        def target(name):
            if clean and name in shape.trim_lower:
                return f"{name} text using (trim-lower {name})"
            return f"{name} text using (mask-digits {name})" if clean and name in shape.mask else name
        # Without `keep unquoted blanks` it strips them from each value that has no quotes.
        return (f"LOAD CSV FROM '{path}' ({', '.join(shape.names())}) INTO {server.url} TARGET TABLE {table} "
                f"({', '.join(target(name) for name in shape.names())})\n"
                "WITH skip header = 1, fields optionally enclosed by '\"', fields escaped by double-quote, "
                "fields terminated by ',', keep unquoted blanks\nSET client_encoding to 'utf8';\n")


def output(*command):
    """What a program says, "" when it is not here."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return done.stdout.strip() or done.stderr.strip()


def first_line(*command):
    return output(*command).partition("\n")[0]


def package(environment, name):
    python = environment_of(environment)
    return python and first_line(python, "-c", f"from importlib.metadata import version; print(version('{name}'))")


def versions():
    """Of everything that is installed here."""
    found = {
        "aqueduct": first_line(ETL_RUNNER, "--version").removeprefix("etl-runner "),
        "commit": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "rustc": first_line("rustc", "--version").removeprefix("rustc "),
        "python": sys.version.partition(" ")[0],
        "duckdb": package("duckdb", "duckdb"),
        "polars": package("polars", "polars"),
        "adbc-driver-postgresql": package("polars", "adbc-driver-postgresql"),
        "dlt": package("dlt", "dlt"),
        "pyarrow": package("dlt", "pyarrow"),
        "sling": first_line(tool("sling") or "sling", "--version").removeprefix("Version: "),
        "pgloader": first_line("pgloader", "--version").removeprefix("pgloader version ").strip("\""),
        "s5cmd": first_line(environment_of("s3", "s5cmd") or "s5cmd", "version"),
        "boto3": package("s3", "boto3"),
        "aws cli": package("s3", "awscli"),
        "rclone": first_line("rclone", "version").removeprefix("rclone "),
        "s3s-fs": first_line(tool("s3s-fs") or "s3s-fs", "--version").removeprefix("s3s-fs "),
        "sqlite3": first_line("sqlite3", "--version").partition(" ")[0],
    }
    return {name: version for name, version in found.items() if version}
