#!/usr/bin/env bash
# Asks GitHub who built the archives of a directory, before they reach a host: only a workflow of this repository will do.
#
#   verify-provenance.sh DIRECTORY
#
# Wants GITHUB_REPOSITORY and GH_TOKEN (attestations: read). ATTESTATIONS=off is for private repositories, whose plans below Enterprise have
# none; digests are checked there as everywhere.
set -euo pipefail

directory=${1:?the directory}
if [ "${ATTESTATIONS:-}" = off ]; then
  echo 'verify-provenance: the variable ATTESTATIONS is off: who built the archives is not asked' >&2
  exit
fi
shopt -s nullglob
archives=("$directory"/*.tar.gz "$directory"/*.zip)
[ ${#archives[@]} -gt 0 ] || { echo "verify-provenance: there is no archive in $directory" >&2; exit 1; }
for archive in "${archives[@]}"; do
  if ! gh attestation verify "$archive" --repo "${GITHUB_REPOSITORY:?}"; then
    echo "verify-provenance: $archive was not built by a workflow of $GITHUB_REPOSITORY, or nothing says so; nothing of it is deployed" >&2
    exit 1
  fi
done
