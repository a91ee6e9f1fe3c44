#!/usr/bin/env bash
# Writes what each program is made of, as CycloneDX, with cargo-cyclonedx.
#
#   sbom.sh DIRECTORY        writes PROGRAM.cdx.json there
set -euo pipefail
cd "$(dirname "$0")/../.."

directory=${1:?the directory}
mkdir -p "$directory"
cargo cyclonedx --format json --all-features --target all
for program in etl-runner ingest log-shipper; do
  # Its versions name the file differently.
  for made in crates/"$program"/{bom,"$program".cdx,"$program"}.json; do
    if [ -f "$made" ]; then mv "$made" "$directory/$program.cdx.json"; fi
  done
  python3 - "$directory/$program.cdx.json" "$program" <<'PY'
import json
import sys

bom = json.load(open(sys.argv[1], encoding="utf-8"))
assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["name"] == sys.argv[2], "this is no bill of materials of the program"
assert len(bom["components"]) > 10, "the bill of materials is too short to be one"
PY
done
# It writes one beside each manifest of the workspace.
rm -f crates/*/bom.json crates/*/*.cdx.json
