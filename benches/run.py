#!/usr/bin/env python3
"""End to end: Aqueduct beside what people use instead, in turns, round by round.

    make bench                                            the usual cases, 1,000,000 rows, 3 rounds
    python3 benches/run.py --case transform --rows 100000 --rounds 2
    python3 benches/run.py --case huge --gigabytes 10     wants 27 GB of disk
    python3 benches/run.py --list

Starts servers of its own on 127.0.0.1 and removes them. Peers that are not installed are named and left out;
`make bench-peers` installs them. How to read the figures: docs/performance.md.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table
from cases import CASES, USUAL, Bench, Lost
from contestants import BIN, Loaders, Skipped, versions
from server import Postgres

METER = Path(__file__).resolve().parent / "meter.py"
# A run that takes longer hangs.
LONGEST = 3600


def measure(contestant, command, server, folder):
    """One run, in figures. Ends the benchmark when ours or psql fails; raises `Skipped` when a peer does."""
    contestant.reset()
    if server:
        server.settle()
    result, log = folder / "meter.txt", folder / "output.txt"
    before = server.cpu_seconds() if server else None
    with open(log, "wb") as output:
        # A session of its own, so that whatever it started can be stopped with it.
        process = subprocess.Popen([sys.executable, "-I", "-S", METER, result, *command], env=contestant.environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, start_new_session=True)
        try:
            process.wait(LONGEST)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode:
        sys.exit(f"{contestant.name} did not start:\n{log.read_text(errors='replace')}")
    if server:
        time.sleep(0.3)  # sessions that are about to end still use CPU
    status, wall, client, peak = result.read_text().split()
    if int(status):
        said = log.read_text(errors="replace").strip()[-1500:]
        if contestant.peer:
            raise Skipped(f"failed with exit code {status}: {said}")
        sys.exit(f"{contestant.name} failed with exit code {status}:\n{said}")
    served = server.cpu_seconds() - before if server else None
    return {"wall": float(wall), "client_cpu": float(client), "server_cpu": served, "cpu": float(client) + (served or 0),
            "rss_mib": int(peak) / 1024}


def play(case, options, folder):
    """All rounds of a case. Who begins changes with the round, so that no place in the order favours anyone."""
    runs = {contestant.name: [] for contestant in case.contestants}
    remarks, failed = {}, set()
    for number in range(case.rounds):
        turn = number % len(case.contestants)
        for contestant in case.contestants[turn:] + case.contestants[:turn]:
            if contestant.name in failed or contestant.slow and number >= options.slow_rounds:
                continue
            command = contestant.command(number) if callable(contestant.command) else contestant.command
            try:
                figures = measure(contestant, command, case.server, folder)
            except Skipped as problem:
                failed.add(contestant.name)
                remarks[contestant.name] = str(problem)
                print(f"{case.name}: {contestant.name} {problem}", file=sys.stderr)
                continue
            remark = contestant.check(contestant)
            if remark:
                remarks[contestant.name] = remark
            runs[contestant.name].append({"round": number, **figures})
            print(f"{case.name} {number + 1}/{case.rounds}  {contestant.name}: {figures['wall']:.3f} s", file=sys.stderr)
    return {"name": case.name, "title": case.title, "amount": case.amount, "unit": case.unit, "against": case.against,
            "contestants": runs, "remarks": remarks}


def machine():
    processor = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    return {"cpu": processor, "cores": len(os.sched_getaffinity(0)), "architecture": platform.machine(),
            "kernel": platform.release(), "system": system, "memory_gib": round(memory / 2**30)}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(known):
        def split(text):
            chosen = [name for name in text.split(",") if name]
            unknown = [name for name in chosen if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
            return chosen
        return split

    def positive(text):
        if int(text) < 1:
            raise argparse.ArgumentTypeError("at least 1")
        return int(text)
    parser.add_argument("--case", type=names(CASES), default=list(USUAL), metavar="NAME[,NAME]",
                        help=f"default: {','.join(USUAL)}")
    parser.add_argument("--rows", type=positive, default=1_000_000, help="records of the customers file")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--peers", type=names(Loaders.KNOWN), default=list(Loaders.KNOWN), metavar="NAME[,NAME]",
                        help="only these of the peers; an empty text for none")
    parser.add_argument("--slow-rounds", type=positive, default=1, help="rounds the slow peers take part in: all but duckdb")
    parser.add_argument("--gigabytes", type=float, default=10, help="size of the file of `huge`")
    parser.add_argument("--mebibytes", type=positive, default=1024, help="size of the large file of `s3`")
    parser.add_argument("--json", metavar="FILE", help="write every figure here; table.py makes Markdown of it")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    return parser.parse_args()


def main():
    options = parse()
    if options.list:
        print("\n".join(CASES))
        return
    for name in ("ingest", "etl-runner"):
        if not (BIN / name).exists():
            sys.exit(f"{name} is missing: cargo build --release --locked -p ingest -p etl-runner")
    # Ended from outside, the servers are stopped all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as name:
        bench = Bench(options, Path(name))
        figures = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(" ", "minutes"), "machine": machine(),
                   "versions": versions(), "missing": bench.loaders.missing,
                   "options": {"rows": options.rows, "rounds": options.rounds}, "cases": []}
        print(table.machine_line(figures))
        if bench.loaders.missing:
            print(f"not installed and left out: {', '.join(bench.loaders.missing)} (make bench-peers)")
        try:
            for name in options.case:
                try:
                    for case in CASES[name](bench):
                        figures["cases"].append(play(case, options, bench.folder))
                        print("\n" + "\n".join(table.as_text(figures["cases"][-1])), flush=True)
                        if isinstance(case.server, Postgres):
                            figures["versions"]["postgresql"] = case.server.version
                        if options.json:
                            Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
                except Skipped as reason:
                    print(f"\n{name}: left out: {reason}", flush=True)
                except Lost as problem:
                    sys.exit(f"{name}: {problem}")
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
