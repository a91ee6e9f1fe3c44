#!/usr/bin/env python3
"""End to end: customers into PostgreSQL with every transform on, beside psql \\copy of the same raw file in the same run.

    make bench                                   1,000,000 rows, 5 rounds
    python3 benches/run.py --rows 5000000 --rounds 3

Starts a throwaway PostgreSQL with default durability (fsync on) on 127.0.0.1, makes the data with `ingest generate`,
and runs the contestants in turn, so that a machine that slows down slows them all. Both write into an existing table
with a primary key. Prints the median and spread of wall seconds, client CPU, server CPU and peak resident memory, and
the ratio to psql of the same round. After each round the tables are compared: the counts must agree.
"""

import argparse
import json
import os
import platform
import pwd
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"

RAW_TABLE = """create table {name} (id bigint primary key, title text, firstname varchar(40), lastname varchar(40),
 status varchar(16), email text, age integer, balance numeric(14,2), signup_date date, last_seen timestamptz,
 country varchar(2), notes text)"""


def newest_pg_bin():
    if os.environ.get("PG_BIN"):
        return Path(os.environ["PG_BIN"])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    if not found:
        sys.exit("no PostgreSQL server found: run `make test-tools`, or set PG_BIN")
    return found[-1]


class Server:
    """A cluster of its own, stopped by its own pid and removed at the end."""

    def __init__(self, folder):
        self.bin = newest_pg_bin()
        self.data = folder / "data"
        self.port = free_port()
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        entry = pwd.getpwnam(user)
        self.data.mkdir()
        os.chmod(folder, 0o755)
        if os.getuid() == 0:
            shutil.chown(self.data, user)
        self.run_as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(
            [self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **self.run_as)
        self.process = subprocess.Popen(
            [self.bin / "postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
             "-c", "unix_socket_directories="],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.run_as)
        for _ in range(600):
            if subprocess.run(self.psql_command("select 1"), env=self.env(), capture_output=True).returncode == 0:
                break
            time.sleep(0.05)
        else:
            sys.exit("the benchmark's PostgreSQL did not start")
        self.version = self.psql("show server_version")

    def env(self):
        return dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER="postgres", PGDATABASE="postgres",
                    DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.port}/postgres")

    def psql_command(self, sql):
        return [self.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]

    def psql(self, sql):
        done = subprocess.run(self.psql_command(sql), env=self.env(), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"psql failed: {done.stderr}")
        return done.stdout.strip()

    def cpu_seconds(self):
        """CPU of the postmaster, its live children and those it has reaped."""
        tick = os.sysconf("SC_CLK_TCK")

        def stat(pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return int(fields[1]), [int(value) for value in fields[11:15]]

        total = sum(stat(self.process.pid)[1])
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parent, times = stat(entry)
                except OSError:
                    continue
                if parent == self.process.pid:
                    total += times[0] + times[1]
        return total / tick

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed(server, command, env):
    """Wall, client CPU, server CPU and peak resident MiB of one command."""
    server.psql("checkpoint")
    before_server = server.cpu_seconds()
    started = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    time.sleep(0.3)  # until the postmaster has reaped the session's process, whose CPU is counted only then
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output.decode(errors='replace')}")
    return {
        "wall": wall,
        "client_cpu": usage.ru_utime + usage.ru_stime,
        "server_cpu": server.cpu_seconds() - before_server,
        "rss_mib": usage.ru_maxrss / 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures here too")
    options = parser.parse_args()
    for name in ("ingest", "etl-runner"):
        if not (BIN / name).exists():
            sys.exit(f"{BIN / name} is missing: run `cargo build --release`")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as name:
        folder = Path(name)
        data = folder / "customers.csv"
        subprocess.run([BIN / "ingest", "generate", "customers", "--rows", str(options.rows), "--seed", "1",
                        "--out", data], check=True, stderr=subprocess.DEVNULL)
        server = Server(folder)
        try:
            figures = rounds(server, data, options)
        finally:
            server.stop()
        show(figures, data.stat().st_size, server.version, options)


def rounds(server, data, options):
    env = server.env()
    pipeline = ROOT / "benches" / "customers.toml"
    server.psql(RAW_TABLE.format(name="raw_customer"))
    # The first load makes our table and the ledger; the rounds run against what it made, as every later load does.
    seed = data.with_name("one.csv")
    with open(data, "rb") as source:
        seed.write_bytes(source.readline() + source.readline())
    subprocess.run([BIN / "etl-runner", "run", pipeline, seed], env=env, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    table = server.psql("select table_schema || '.' || table_name from aqueduct.load limit 1")
    contestants = {
        "psql \\copy": (
            [server.bin / "psql", "-Xq", "-c", f"\\copy raw_customer from '{data}' with (format csv, header)"],
            "truncate raw_customer"),
        "aqueduct": (
            [BIN / "etl-runner", "run", "--quiet", pipeline, data],
            f"truncate {table}; truncate aqueduct.load, aqueduct.reject restart identity"),
    }
    counts = {"psql \\copy": "select count(*) from raw_customer", "aqueduct": f"select count(*) from {table}"}
    figures = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (command, reset) in contestants.items():
            server.psql(reset)
            figures[name].append(timed(server, command, env))
            found = int(server.psql(counts[name]))
            if found != options.rows:
                sys.exit(f"{name} left {found} of {options.rows} rows")
    return figures


def show(figures, size, version, options):
    print(f"{options.rows:,} customers, {size / 1e6:.0f} MB, {options.rounds} rounds, PostgreSQL {version}, "
          f"{os.cpu_count()} cores, {platform.machine()}")
    print(f"{'':14}{'wall s':>8}{'min-max':>14}{'client CPU':>12}{'server CPU':>12}{'peak RSS':>11}{'rows/s':>11}"
          f"{'wall ÷ psql':>13}{'server CPU ÷ psql':>19}")
    base = figures["psql \\copy"]
    summary = {}
    for name, runs in figures.items():
        def median(key, runs=runs):
            return statistics.median(run[key] for run in runs)
        walls = [run["wall"] for run in runs]
        wall_ratio = statistics.median(run["wall"] / psql["wall"] for run, psql in zip(runs, base))
        server_ratio = statistics.median(run["server_cpu"] / psql["server_cpu"] for run, psql in zip(runs, base))
        spread = f"{min(walls):.2f}-{max(walls):.2f}"
        print(f"{name:14}{median('wall'):8.2f}{spread:>14}{median('client_cpu'):12.2f}{median('server_cpu'):12.2f}"
              f"{max(run['rss_mib'] for run in runs):8.1f} MiB{options.rows / median('wall'):11,.0f}"
              f"{wall_ratio:13.2f}{server_ratio:19.2f}")
        summary[name] = {"runs": runs, "wall_ratio": wall_ratio, "server_cpu_ratio": server_ratio}
    if options.json:
        Path(options.json).write_text(json.dumps(
            {"rows": options.rows, "bytes": size, "postgresql": version, "cores": os.cpu_count(),
             "machine": platform.machine(), "figures": summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
