#!/usr/bin/env bash
# The tests of etl-runner on the newest PostgreSQL that there is a package of, instead of the distribution's.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-test-tools.sh --newest
export PG_BIN=$PWD/.cache/postgresql-newest/package/native/bin CHAOS_ROUNDS=20 CHAOS_STEP=60

# Built as `make test` builds it, so that nothing is built again: a package by itself has other features of its dependencies.
tests=$(cargo test --release --workspace --locked --no-run --message-format json-render-diagnostics | python3 -c '
import json
import sys

for message in map(json.loads, sys.stdin):
    if message["reason"] == "compiler-artifact" and message["target"]["name"] == "it" and "/etl-runner#" in message["package_id"]:
        print(message["executable"])')
cd crates/etl-runner # where cargo would run them
"$tests"
