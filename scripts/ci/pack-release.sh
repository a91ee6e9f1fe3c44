#!/usr/bin/env bash
# Packs programs for a release: with the licences, the README and the changelog beside them.
#
#   pack-release.sh ARCHIVE DIRECTORY PROGRAM…        writes dist/ARCHIVE and dist/ARCHIVE.sha256
set -euo pipefail
cd "$(dirname "$0")/../.."

archive=${1:?the archive} directory=${2:?the directory with the programs}
shift 2
files=(LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md)
for program in "$@"; do
  if [ -f "$directory/$program.exe" ]; then program=$program.exe; fi
  files+=("$directory/$program")
done
"$(command -v python3 || command -v python)" -B scripts/ci/pack.py "dist/$archive" "${files[@]}"
