#!/usr/bin/env bash
# Makes the archives of a release out of those that are deployed, which hold the three programs and nothing else.
#
#   pack-linux-release.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in '' | -*) echo 'usage: pack-linux-release.sh DIRECTORY' >&2; exit 2 ;; esac
directory=$(cd "$1" && pwd)
for processor in x86_64 aarch64; do
  (cd "$directory" && sha256sum --check --quiet "aqueduct-$processor-linux-musl.tar.gz.sha256")
  mkdir -p "$directory/$processor"
  tar -xzf "$directory/aqueduct-$processor-linux-musl.tar.gz" -C "$directory/$processor" etl-runner ingest log-shipper
  scripts/ci/pack-release.sh "aqueduct-$processor-unknown-linux-musl.tar.gz" "$directory/$processor" etl-runner ingest log-shipper
done
