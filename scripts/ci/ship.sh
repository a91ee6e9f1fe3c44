#!/usr/bin/env bash
# Brings the two releases of this commit into the artifact bucket and onto the hosts: binaries first, then the pipelines they read.
#
#   ship.sh BINARIES_ID PIPELINES_ID [DIRECTORY]
#
# DIRECTORY has the archives that were just built; without it they have to be in the bucket. Either way what is deployed is what is in the bucket,
# and its provenance is asked for there. Takes what artifacts.py, deploy.py and verify-provenance.sh take.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..

case $# in 2 | 3) ;; *) echo 'usage: ship.sh BINARIES_ID PIPELINES_ID [DIRECTORY]; release-ids.sh prints the two' >&2; exit 2 ;; esac
binaries=$1 pipelines=$2 built=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

if [ -n "$built" ]; then "$here/artifacts.py" upload binaries "$binaries" "$built"; fi
"$here/artifacts.py" fetch binaries "$binaries" "$work/binaries"
"$here/verify-provenance.sh" "$work/binaries"

"$here/pack.py" "$work/pipelines/pipelines.tar.gz" "$root"/pipelines/*.toml
"$here/artifacts.py" upload pipelines "$pipelines" "$work/pipelines"
# Pipelines have no attestation: they have to be those of this checkout. Not byte for byte, because another zlib packs them otherwise.
contents_of() { tar -tvzf "$1" && tar -xOzf "$1" | sha256sum; }
"$here/artifacts.py" fetch pipelines "$pipelines" "$work/there"
if [ "$(contents_of "$work/there/pipelines.tar.gz")" != "$(contents_of "$work/pipelines/pipelines.tar.gz")" ]; then
  printf 'ship: %s in the bucket are not the pipelines of this commit; nothing was deployed\n' "$pipelines" >&2
  exit 1
fi

# By the digest of these files, and not by what the bucket notes by then.
"$here/deploy.py" binaries "$binaries" "$work/binaries"
"$here/deploy.py" pipelines "$pipelines" "$work/there"
