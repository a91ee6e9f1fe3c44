#!/usr/bin/env bash
# Checks all dependencies against deny.toml: licences, sources, bans, known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
  echo 'audit: installing cargo-deny'
  cargo install cargo-deny --locked
fi

cargo deny --locked check bans licenses sources

# The list of known vulnerabilities is fetched from the network, where it may be out of reach.
if cargo deny --locked fetch db; then
  cargo deny --locked check --disable-fetch advisories
else
  echo 'audit: NOT CHECKED: known vulnerabilities, because their list could not be fetched' >&2
  echo 'audit: bans, licences and sources are fine' >&2
fi
