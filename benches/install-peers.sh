#!/usr/bin/env bash
# Installs what `make bench` is compared with, all of it below .cache/bench but for two Debian packages. None of it is
# needed: a program that is missing is skipped and named. Says what it does; does nothing for what is here.
#
#   benches/install-peers.sh               all of it
#   benches/install-peers.sh duckdb s3s-fs only these
set -euo pipefail
cd "$(dirname "$0")/.."

cache=.cache/bench
s3s_version=0.14.1 # newer ones want a newer Rust than rust-toolchain.toml names

say() { printf 'bench-peers: %s\n' "$*"; }

# Each in an environment of its own: their demands on shared packages contradict each other.
environment() { # NAME PROGRAM PACKAGE...
  local name=$1 program=$2 folder=$cache/venv/$1
  shift 2
  if [ -x "$folder/bin/$program" ] && [ -e "$folder/complete" ]; then return; fi
  say "installing $* into $folder"
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
  touch "$folder/complete"
}

# The wheel carries the program itself; the wheel named `sling` would fetch it from elsewhere at its first run.
sling() {
  if [ -x "$cache/bin/sling" ]; then return; fi
  if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    say "no sling: its package is for Linux on x86_64"
    return
  fi
  say "installing sling into $cache/bin"
  rm -rf "$cache/sling"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$cache/sling" \
    sling-linux-amd64
  local program
  program=$(find "$cache/sling" -type f -name 'sling*' -size +1M | head -n 1)
  if [ -z "$program" ]; then
    say 'sling-linux-amd64 no longer holds the program'
    return 1
  fi
  mkdir -p "$cache/bin"
  install -m 755 "$program" "$cache/bin/sling"
  rm -rf "$cache/sling"
}

debian() { # PROGRAM, also the package's name
  if command -v "$1" >/dev/null; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no $1: as root on Debian or Ubuntu, apt-get install $1"
    return
  fi
  say "installing with apt-get: $1"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

s3_server() {
  if command -v s3s-fs >/dev/null || [ -x "$cache/bin/s3s-fs" ]; then return; fi
  say "building s3s-fs $s3s_version into $cache/bin; this takes some minutes"
  cargo install s3s-fs --version "$s3s_version" --features binary --locked --quiet --root "$cache"
}

peer() {
  case $1 in
    duckdb) environment duckdb python duckdb ;;
    polars) environment polars python polars adbc-driver-postgresql pyarrow ;;
    dlt) environment dlt python 'dlt[postgres]' pyarrow ;;
    s3) environment s3 s5cmd s5cmd boto3 awscli ;;
    sling) sling ;;
    pgloader | rclone) debian "$1" ;;
    s3s-fs) s3_server ;;
    *)
      say "unknown: $1; known are duckdb polars dlt s3 sling pgloader rclone s3s-fs"
      exit 2
      ;;
  esac
}

if [ $# = 0 ]; then set -- duckdb polars dlt s3 sling pgloader rclone s3s-fs; fi
for name in "$@"; do peer "$name"; done
say 'done'
