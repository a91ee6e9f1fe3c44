#!/usr/bin/env bash
# Names the two releases of this commit after what they are made of, as outputs `binaries` and `pipelines`.
#
# An ID is the digest of the files that go into a release, as git knows them. So the same sources have the same ID at every
# commit: a change of pipelines/ alone finds its binaries in the bucket already, and a revert finds those of before.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What a binary is made of. The two scripts decide how it is built and packed.
sources=(crates Cargo.toml Cargo.lock rust-toolchain.toml scripts/static.sh scripts/ci/pack.py)

digest_of() { git ls-tree -r HEAD -- "$@" | sha256sum | cut -c 1-16; }

version=$(git show HEAD:Cargo.toml | sed -n 's/^version = "\([^"]*\)"$/\1/p' | head -n 1)
[ -n "$version" ] || { echo 'release-ids: there is no version in Cargo.toml' >&2; exit 1; }
{
  echo "binaries=$version-$(digest_of "${sources[@]}")"
  echo "pipelines=pipelines-$(digest_of pipelines)"
} | if [ -n "${GITHUB_OUTPUT:-}" ]; then tee -a "$GITHUB_OUTPUT"; else cat; fi
