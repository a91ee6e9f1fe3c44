"""Throwaway servers on 127.0.0.1, each stopped by its own pid: PostgreSQL, and s3s-fs for uploads."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# What a shell may have set for another server.
FOREIGN = ("PG", "AWS_", "S3_", "AQUEDUCT_", "DATABASE_", "RCLONE_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def bare_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(parent):
    """CPU of a process, its live children and those it has reaped."""
    tick = os.sysconf("SC_CLK_TCK")

    def stat(pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[1]), [int(value) for value in fields[11:15]]

    total = sum(stat(parent)[1])
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                above, times = stat(entry)
            except OSError:
                continue  # it ended meanwhile
            if above == parent:
                total += times[0] + times[1]
    return total / tick


def postgres_programs():
    """The directory with initdb, postgres and psql: PG_BIN, or the newest that is installed."""
    if os.environ.get("PG_BIN"):
        return Path(os.environ["PG_BIN"])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).resolve().parent
    sys.exit("no PostgreSQL server found: run `make test-tools`, or set PG_BIN")


class Postgres:
    """A cluster with default settings, durability included. Only autovacuum is off: it would hit now one, now another."""

    def __init__(self, folder):
        self.bin = postgres_programs()
        self.port = free_port()
        self.database = "postgres"
        data, log = folder / "postgres", folder / "postgres.log"
        # PostgreSQL refuses to run as root.
        as_user = {}
        data.mkdir()
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(data, entry.pw_uid, entry.pw_gid)
            os.chmod(folder, 0o755)
        made = subprocess.run(
            [self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/", **as_user)
        if made.returncode:
            sys.exit(f"initdb failed: {made.stderr}")
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                 "-c", "unix_socket_directories=", "-c", "autovacuum=off"],
                stdout=output, stderr=output, cwd="/", **as_user)
        try:
            for _ in range(600):
                if self.process.poll() is not None:
                    break
                if self.run("select 1").returncode == 0:
                    self.version = self.psql("show server_version")
                    return
                time.sleep(0.05)
            sys.exit(f"the benchmark's PostgreSQL did not start:\n{log.read_text()}")
        except BaseException:  # interrupted meanwhile, too
            self.stop()
            raise

    def fresh_database(self, name):
        """An empty database for one case; the one before is removed."""
        before, self.database = self.database, "postgres"
        if before != "postgres":
            self.psql(f'drop database "{before}"')
        self.psql(f'create database "{name}"')
        self.database = name

    @property
    def url(self):
        """With a password, which nobody asks for, because dlt wants one."""
        return f"postgresql://postgres:unused@127.0.0.1:{self.port}/{self.database}"

    def environment(self):
        return dict(bare_environment(), PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER="postgres",
                    PGDATABASE=self.database, DATABASE_URL=self.url)

    def psql_program(self):
        return str(self.bin / "psql")

    def run(self, sql):
        return subprocess.run([self.psql_program(), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], env=self.environment(),
                              capture_output=True, text=True)

    def psql(self, sql):
        done = self.run(sql)
        if done.returncode:
            sys.exit(f"psql failed: {done.stderr}")
        return done.stdout.strip()

    def settle(self):
        """Nothing of an earlier round is left to be written during the next."""
        self.psql("checkpoint")

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # nothing of it is kept
            self.process.wait()


class S3:
    """s3s-fs: each object is a file below `root`, so what arrived can be compared byte by byte."""

    BUCKET = "bench"

    def __init__(self, program, folder):
        self.root = folder / "s3"
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        log = folder / "s3.log"
        self.empty()
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [program, "--host", "127.0.0.1", "--port", str(self.port), "--access-key", "benchkey",
                 "--secret-key", "benchsecret", self.root], stdout=output, stderr=output, cwd=folder, env=bare_environment())
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
            sys.exit(f"{program} did not start:\n{log.read_text()}")
        except BaseException:
            self.stop()
            raise

    def empty(self):
        """The bucket without an object, and nothing left to be written to the disk."""
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / self.BUCKET).mkdir(parents=True)
        os.sync()

    def settle(self):
        """`empty` has done it."""

    def environment(self):
        return dict(bare_environment(), AWS_ACCESS_KEY_ID="benchkey", AWS_SECRET_ACCESS_KEY="benchsecret",
                    AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL=self.endpoint,
                    S3_ENDPOINT_URL=self.endpoint, AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull,
                    RCLONE_CONFIG=os.devnull)

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
