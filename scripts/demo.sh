#!/usr/bin/env bash
# The whole way on one machine: a directory stands in for the bucket, SQLite for the database.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=.aqueduct/demo
# A fresh start, below a directory of its own: what you load yourself stands beside it and stays.
rm -rf "$demo"
mkdir -p "$demo"
unset DATABASE_SECRET
export AQUEDUCT_STORE="$demo/store" DATABASE_URL="sqlite:$demo/warehouse.db"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then
  step() { printf '\n%s\n' "$*"; }
fi
show() { printf '$ %s\n' "$*"; "$@"; }

step '0. Build'
cargo build --release --locked -p ingest -p etl-runner
PATH="$PWD/target/release:$PATH"

step '1. Put the files of seed-data/ into the store, checked by their pipelines'
for pipeline in pipelines/*.toml; do
  name=$(basename "$pipeline" .toml)
  show ingest upload seed-data/"$name"/*.csv --pipeline "$pipeline"
done

step '2. Load them'
show etl-runner run pipelines/*.toml

step '3. Records that were set aside, and why'
show etl-runner rejects list

step '4. What stands in the database now'
python3 scripts/show-tables.py "$demo/warehouse.db"

step '5. Load again: nothing changes'
show etl-runner run pipelines/*.toml

step 'What to type next'
cat <<TEXT
export AQUEDUCT_STORE=$demo/store DATABASE_URL=sqlite:$demo/warehouse.db PATH="\$PWD/target/release:\$PATH"
etl-runner loads                                      # one line per load
etl-runner verify                                     # count everything again
etl-runner rejects export > rejects.csv               # the records set aside, to be repaired
ingest generate customers --rows 100000 --seed 7 --dirty 0.001 > customers-more.csv
ingest upload customers-more.csv --pipeline pipelines/customers.toml
etl-runner run pipelines/customers.toml
TEXT
