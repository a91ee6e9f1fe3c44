#!/usr/bin/env python3
"""Loads what is new through one pipeline, or one object of it, on the host, now; puts the report into the summary of the run.

    run_job.py PIPELINE [OBJECT]

Ends with etl-runner's exit code (docs/operations.md), so the run is red when the load failed. Needs PROJECT_NAME, ENVIRONMENT,
AWS_REGION and the deploy role.

RETRY_SECONDS (0): how long exit 75, "temporary or busy", is tried again: the host's timer may be loading the same object.
TRANSPORT=ssh is the fallback without Systems Manager: EC2_HOST, EC2_PRIVATE_KEY and EC2_HOST_KEY (a line of known_hosts) take the place
of the role.
"""
import base64
import binascii
import gzip
import json
import os
import shlex
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import load_report
from run_command import OUTPUT_CHARACTERS, Invocation, find_hosts, run_on
from workflow import Stop, cell, checked, print_foreign, run_main, say, setting, write_output, write_summary

RUN_JOB = ("bash", "/opt/aqueduct/host/run-job.sh")
# run-job.sh stops a load after 55 minutes by itself.
SECONDS = 3600

# Run Command gives 24,000 characters of a result that can have 100,000, so it travels compressed. The exit code is run-job's.
PACKED = 'set -o pipefail; "$@" | gzip -9 | base64 -w 0'

# For an object that the timer was quicker with: what the ledger says of that load, and its first rejects.
LOOK = ('program=look; . /opt/aqueduct/host/lib.sh; load_host_env; { as_service /usr/local/bin/etl-runner show "$1" --json && '
        'as_service /usr/local/bin/etl-runner rejects list "$1" --limit 25 --json; } | gzip -9 | base64 -w 0')


def unpack(text):
    if len(text) >= OUTPUT_CHARACTERS:
        raise Stop(1, "the result is longer than Run Command hands on; name one object, or look into the ledger: etl-runner loads")
    try:
        return gzip.decompress(base64.b64decode(text.strip(), validate=True)).decode()
    except (binascii.Error, OSError, EOFError, UnicodeDecodeError, zlib.error):
        return text  # run-job.sh was not reached, and something else has spoken


def run_by_ssm(arguments):
    host = next(iter(find_hosts()))
    done = run_on([host], ["bash", "-c", PACKED, "run-job", *arguments], f"run-job.sh {' '.join(arguments[len(RUN_JOB):])}", seconds=SECONDS)[0]
    return Invocation(host, done.status, done.code, unpack(done.stdout), done.stderr)


def run_by_ssh(arguments):
    """For networks where the runner has an address that ssh_cidrs can name. The host's key is given, never learnt."""
    host = checked(setting("EC2_HOST"), r"[A-Za-z0-9._@:-]+", "EC2_HOST")
    if host.startswith("-"):
        raise Stop(2, "EC2_HOST must not begin with a dash")
    with tempfile.TemporaryDirectory() as directory:
        key, known = Path(directory, "key"), Path(directory, "known_hosts")
        key.touch(mode=0o600)
        key.write_text(setting("EC2_PRIVATE_KEY").rstrip() + "\n", encoding="utf-8")
        known.write_text(setting("EC2_HOST_KEY").rstrip() + "\n", encoding="utf-8")
        try:
            done = subprocess.run(
                ["ssh", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
                 "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30",
                 host if "@" in host else f"ubuntu@{host}", shlex.join(["sudo", *arguments])],
                text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Invocation(host, "NotCancelled", -1)
    print_foreign(f"{host}: messages", done.stderr)
    return Invocation(host, "Success" if done.returncode == 0 else "Failed", done.returncode, done.stdout, done.stderr)


def run_job(run, pipeline, wanted):
    """Once, and again while it is busy."""
    end = time.monotonic() + float(setting("RETRY_SECONDS", "0"))
    pause = float(os.environ.get("AQUEDUCT_RETRY_PAUSE") or 15)
    while True:
        done = run([*RUN_JOB, pipeline, *([wanted] if wanted else [])])
        if done.code != 75 or time.monotonic() + pause > end:
            return done
        say(f"busy: trying again in {pause:.0f} s")
        time.sleep(pause)


def parse(done):
    """The result, which may not be there: a refused form, a host without pipelines, a killed program."""
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("schema") == "etl.run/1" else None


def look_up(load):
    """What became of a load that somebody else made: its row of the ledger and its first rejects."""
    host = next(iter(find_hosts()))
    done = run_on([host], ["bash", "-c", LOOK, "look", str(load)], f"etl-runner show {load}", seconds=120)[0]
    lines = unpack(done.stdout).splitlines()
    if not done.succeeded or len(lines) != 2:
        return ""
    row, rejects = json.loads(lines[0])["load"], json.loads(lines[1])["loads"]
    counts = row["counts"]
    parts = [f"### Load {row['id']}: {cell(row['state'])} · {counts['read']:,} records: {counts['loaded']:,} loaded, {counts['rejected']:,} rejected"]
    parts += load_report.reject_parts([(each["key"], reject) for each in rejects for reject in each["rejects"]], counts["rejected"])
    return "\n\n".join(parts) + "\n"


def main(arguments):
    if len(arguments) not in (1, 2):
        raise Stop(2, "usage: run_job.py PIPELINE [OBJECT]")
    pipeline, wanted = arguments[0], arguments[1] if len(arguments) == 2 else ""
    transport = checked(setting("TRANSPORT", "ssm"), "ssm|ssh", "TRANSPORT")
    done = run_job(run_by_ssm if transport == "ssm" else run_by_ssh, pipeline, wanted)
    document = parse(done)
    code = done.code if done.code >= 0 else 1
    if document is None:
        write_summary(f"## ❌ No result\n\n{cell(done.describe())}\n\n{cell(done.stderr.strip()[-2000:])}\n")
        raise Stop(code or 1, f"{done.host} gave no result: {done.describe()}")
    write_summary(load_report.report(document, code))
    loads = load_report.loads_of(document)
    if wanted and len(loads) == 1:
        write_output("load", loads[0].get("load") or "")
        if loads[0]["outcome"] == "already_loaded" and transport == "ssm":
            write_summary(look_up(loads[0]["load"]))
    if code:
        raise Stop(code, load_report.explain(code))
    say(load_report.explain(code))
    return 0


if __name__ == "__main__":
    run_main(main)
