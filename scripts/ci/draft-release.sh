#!/usr/bin/env bash
# Makes a draft of a release on GitHub, or makes it anew: nobody sees it before a person publishes it.
#
#   draft-release.sh TAG DIRECTORY
#
# Wants GH_TOKEN (contents: write). A release that is published already is left alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

tag=${1:?the tag} directory=${2:?the directory with the archives}
stop() { printf 'draft-release: %s\n' "$*" >&2; exit 1; }

# Each archive with the digest beside it, and the ones that nobody should miss.
shopt -s nullglob
archives=("$directory"/*.tar.gz "$directory"/*.zip)
for archive in "${archives[@]}"; do
  (cd "$directory" && sha256sum --check --quiet "${archive##*/}.sha256") || stop "$archive has no digest, or another"
done
for wanted in aqueduct-{x86_64,aarch64}-unknown-linux-musl.tar.gz aqueduct-{x86_64,aarch64}-apple-darwin.tar.gz \
  aqueduct-x86_64-pc-windows-msvc.zip etl-runner.cdx.json; do
  [ -s "$directory/$wanted" ] || stop "$directory/$wanted is missing"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -B "$here/release.py" notes "$tag" >"$work/notes.md"
state=$(gh release view "$tag" --json isDraft --jq .isDraft 2>/dev/null) || state=none
case "$state" in
  false) stop "$tag is published already; a release that people have is not changed. Raise the version" ;;
  true) gh release delete "$tag" --yes ;;
esac
options=()
# SemVer's pre-releases, such as v1.2.0-rc.1: Deploy brings them to stage and no further.
case "$tag" in *-*) options+=(--prerelease) ;; esac
gh release create "$tag" --draft "${options[@]}" --verify-tag --title "$tag" --notes-file "$work/notes.md" "$directory"/*
printf 'draft-release: the draft of %s has %d files; look at it and publish it\n' "$tag" "$(find "$directory" -type f | wc -l)" >&2
