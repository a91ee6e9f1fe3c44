#!/usr/bin/env bash
# The whole way on one machine: a directory stands in for the bucket, SQLite for the database.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=.aqueduct/demo
# A fresh start, below a directory of its own: what you load yourself stands beside it and stays.
rm -rf "$demo"
mkdir -p "$demo"
unset DATABASE_SECRET # it would point the demo at a real database's password
export AQUEDUCT_STORE="$demo/store" DATABASE_URL="sqlite:$demo/warehouse.db"

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() {
  printf '$ %s\n' "$*"
  "$@"
}
query() {
  printf '> %s\n' "$1"
  python3 scripts/show-rows.py "$demo/warehouse.db" "$1"
}

# By name: what you put beside them is not the demo's.
pipelines=(pipelines/customers.toml pipelines/passengers.toml pipelines/runways.toml)

# BIN_DIR names a directory with the programs, where they are built already.
if [ -z "${BIN_DIR:-}" ]; then
  step 'Build'
  cargo build --release --locked -p ingest -p etl-runner
fi
PATH="$(realpath "${BIN_DIR:-target/release}"):$PATH"

step '1. Put the files of seed-data/ into the store, checked by their pipelines'
for name in customers passengers runways; do
  show ingest upload "seed-data/$name"/*.csv --pipeline "pipelines/$name.toml"
done

step '2. Load them'
show etl-runner run "${pipelines[@]}"

step '3. The records that were set aside, and why'
show etl-runner rejects list

step '4. What stands in the database'
query "select id, lastname, status, email, notes from customers where notes like '%color%' or notes like '%##%' limit 4"
query "select passenger_id, flight_id, name, seat_number from passengers limit 3"
query "select airport_ident, length_ft, surface, closed from runways where surface like 'P%' limit 3"

step '5. Load again: nothing changes'
show etl-runner run "${pipelines[@]}"

step 'What to type next'
cat <<TEXT
# for this shell; open another one, or unset the last two, before you load files of your own
export PATH="\$PWD/target/release:\$PATH" AQUEDUCT_STORE=$demo/store DATABASE_URL=sqlite:$demo/warehouse.db
etl-runner loads                                    # one line for each load
etl-runner verify                                   # count everything again
etl-runner rejects export -o .aqueduct/rejects.csv  # the exact records that were set aside
etl-runner undo 2                                   # take one load back; the next line brings it in again
etl-runner run pipelines/customers.toml --reload --object customers/customers-dirty.csv

# your own size of file, straight from disk into a database of its own
ingest generate customers --rows 100000 --seed 7 --dirty 0.001 --out .aqueduct/customers.csv
etl-runner run pipelines/customers.toml .aqueduct/customers.csv --database sqlite:.aqueduct/large.db
TEXT
