#!/usr/bin/env bash
# Runs the scripts of this directory for real: against an AWS emulator, small stand-ins for GitHub and for what an emulator cannot play, and
# with git, tar and the AWS CLI. One line for each promise. Servers listen on 127.0.0.1 alone and end with the tests.
#
# INGEST and ETL_RUNNER name real programs for the upload and the load; without them small stand-ins take their place. TERRAFORM names
# a terraform that takes `--local STATE` (infra/README.md): with it the stack itself is planned, applied and torn down.
# `test.sh WORD…` runs the promises that have all of the words.
set -euo pipefail
for name in INGEST ETL_RUNNER TERRAFORM; do # relative to where the caller stands
  if [[ ${!name:-} == */* ]]; then export "$name=$(realpath -m "${!name}")"; fi
done
cd "$(dirname "$0")/../.."

say() { printf 'ci-scripts-test: %s\n' "$*"; }

# The same places as infra/host/tests/run.sh installs them to.
cache=$PWD/.cache/host-test

python_package() { # DIRECTORY PACKAGE
  if [ -x "$cache/$1/done" ]; then return; fi
  python3 -c 'import ensurepip, venv' 2>/dev/null || { say 'python3 with venv is missing: apt-get install python3-venv'; exit 1; }
  say "installing $2 into .cache/host-test/$1"
  rm -rf "${cache:?}/$1"
  mkdir -p "$cache"
  python3 -m venv "$cache/$1"
  "$cache/$1/bin/pip" install --quiet --disable-pip-version-check "$2"
  install -m 755 /dev/null "$cache/$1/done"
}

find_emulator() {
  local candidate
  for candidate in "${MOTO_SERVER:-}" .cache/test-tools/bin/moto_server "$(command -v moto_server || true)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
      MOTO_SERVER=$(realpath -s "$candidate")
      return
    fi
  done
  python_package emulator 'moto[server]==5.*'
  MOTO_SERVER=$cache/emulator/bin/moto_server
}

for program in git jq; do command -v "$program" >/dev/null || { say "$program is missing; please install it"; exit 1; }; done
find_emulator
python_package awscli awscli
export MOTO_SERVER AWSCLI="$cache/awscli" PYTHONDONTWRITEBYTECODE=1
WORK=$(mktemp -d "${TMPDIR:-/tmp}/aqueduct-ci-test.XXXXXX")
export WORK
trap 'rm -rf --one-file-system "$WORK"' EXIT
python3 scripts/ci/tests/promises.py "$@"
