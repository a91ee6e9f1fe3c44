#!/usr/bin/env bash
# Asks GitHub who built the archives of a directory, before they reach a host or run in a job that can take on roles.
#
#   verify-provenance.sh DIRECTORY
#
# Only _build-attested.yml of this repository will do, on a runner of GitHub's, from main or from a tag v*: a workflow on any other branch is
# what whoever may push wrote there. Wants GITHUB_REPOSITORY, GH_TOKEN (attestations: read) and jq. ATTESTATIONS=off is for private
# repositories, whose plans below Enterprise have none; digests are checked there as everywhere.
set -euo pipefail

directory=${1:?the directory}
if [ "${ATTESTATIONS:-}" = off ]; then
  echo 'verify-provenance: the variable ATTESTATIONS is off: who built the archives is not asked' >&2
  exit
fi
shopt -s nullglob
archives=("$directory"/*.tar.gz "$directory"/*.zip)
[ ${#archives[@]} -gt 0 ] || { echo "verify-provenance: there is no archive in $directory" >&2; exit 1; }

refuse() { # ARCHIVE WHY
  printf 'verify-provenance: %s %s; nothing of it is used\n' "$1" "$2" >&2
  exit 1
}

# The same bytes can have several attestations. One of those that gh has verified has to be from the right place; what it says of that
# is from the certificate, which a workflow cannot write.
from_here='[.[].verificationResult.signature.certificate.sourceRepositoryRef // ""]
  | any(. == "refs/heads/main" or test("^refs/tags/v[^/]+$"))'
for archive in "${archives[@]}"; do
  verified=$(gh attestation verify "$archive" --repo "${GITHUB_REPOSITORY:?}" --signer-workflow "$GITHUB_REPOSITORY/.github/workflows/_build-attested.yml" \
    --deny-self-hosted-runners --format json) || refuse "$archive" "was not built by _build-attested.yml of $GITHUB_REPOSITORY, or nothing says so"
  jq -e "$from_here" <<<"$verified" >/dev/null || refuse "$archive" 'was built from another branch than main, and from no tag v*'
  printf 'verify-provenance: %s: built by _build-attested.yml of %s\n' "${archive##*/}" "$GITHUB_REPOSITORY" >&2
done
