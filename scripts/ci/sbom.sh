#!/usr/bin/env bash
# Writes what each program is made of, as CycloneDX, with cargo-cyclonedx: DIRECTORY/PROGRAM.cdx.json.
set -euo pipefail
cd "$(dirname "$0")/../.."

directory=${1:?the directory}
mkdir -p "$directory"
cargo cyclonedx --format json --all-features --target all --override-filename bom
for program in etl-runner ingest log-shipper; do
  mv "crates/$program/bom.json" "$directory/$program.cdx.json"
  python3 -c 'import json, sys; bom = json.load(open(sys.argv[1])); assert bom["bomFormat"] == "CycloneDX" and len(bom["components"]) > 10, "no bill of materials"' \
    "$directory/$program.cdx.json"
done
find crates -name bom.json -delete
