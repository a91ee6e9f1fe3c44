#!/usr/bin/env bash
# Runs the programs that were just built, before anybody gets them: their version, and the demo's files from a directory into SQLite.
#
#   prove-binaries.sh DIRECTORY [PROGRAM…]
#
# "It linked" is not "it runs". Works on Linux, macOS and Windows (Git's bash).
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
cd "$repository"

case "${1:-}" in '' | -*) echo 'usage: prove-binaries.sh DIRECTORY [PROGRAM…]' >&2; exit 2 ;; esac
directory=$(cd "$1" && pwd)
shift
if [ $# -gt 0 ]; then programs=("$@"); else programs=(ingest etl-runner log-shipper); fi
version=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' Cargo.toml | head -n 1)
PATH=$directory:$PATH

stop() { printf 'prove-binaries: %s\n' "$*" >&2; exit 1; }

for program in "${programs[@]}"; do
  said=$("$program" --version)
  [ "$said" = "$program $version" ] || stop "$program says '$said' and not '$program $version'"
  echo "$said"
done

work=$(mktemp -d)
trap 'cd / && rm -rf "$work"' EXIT
unset DATABASE_SECRET
# Relative paths: Git's bash writes others in a way that a program of Windows does not understand in the middle of a value.
cp -R seed-data pipelines "$work"
cd "$work"
export AQUEDUCT_STORE=store DATABASE_URL=sqlite:warehouse.db
pipelines=()
for name in customers passengers runways; do
  # A shell of Windows leaves patterns to the program.
  ingest upload --quiet "seed-data/$name/*.csv" --pipeline "pipelines/$name.toml" >/dev/null
  pipelines+=("pipelines/$name.toml")
done
etl-runner run --json "${pipelines[@]}" >first.json
etl-runner run --json "${pipelines[@]}" >second.json
etl-runner verify --quiet >/dev/null || stop 'etl-runner verify found differences'

python=$(command -v python3 || command -v python)
"$python" - first.json second.json <<'PY'
import json
import sys

first, second = ([load for pipeline in json.load(open(path, encoding="utf-8"))["pipelines"] for load in pipeline["loads"]] for path in sys.argv[1:])
counts = {name: sum(load["counts"][name] for load in first) for name in ("read", "loaded", "rejected")}
# seed-data/README.md says which six.
assert counts == {"read": 282, "loaded": 276, "rejected": 6}, counts
assert {load["outcome"] for load in second} == {"already_loaded"}, "the second run loaded something again"
print(f"{len(first)} objects, {counts['read']} records: {counts['loaded']} loaded, {counts['rejected']} rejected; a second run changed nothing")
PY
