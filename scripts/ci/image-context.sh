#!/usr/bin/env bash
# Lays out what the container image holds: the programs of both processors, and the authorities that TLS asks for.
#
#   image-context.sh ARCHIVES CONTEXT       output image: its name in GitHub's registry, in small letters as registries want it
set -euo pipefail

archives=$(cd "${1:?the directory with the archives}" && pwd) context=${2:?the directory to make}
authorities=${AUTHORITIES:-/etc/ssl/certs/ca-certificates.crt}
declare -A names=([amd64]=x86_64 [arm64]=aarch64)
for platform in "${!names[@]}"; do
  archive=aqueduct-${names[$platform]}-linux-musl.tar.gz
  (cd "$archives" && sha256sum --check --quiet "$archive.sha256")
  mkdir -p "$context/$platform"
  tar -xzf "$archives/$archive" -C "$context/$platform" etl-runner ingest log-shipper
done
# Whoever the container runs as may write there.
install -d -m 777 "$context/files/tmp" "$context/files/data"
install -D -m 644 "$authorities" "$context/files/etc/ssl/certs/ca-certificates.crt"
repository=${GITHUB_REPOSITORY:-local/aqueduct}
echo "image=ghcr.io/${repository,,}" | if [ -n "${GITHUB_OUTPUT:-}" ]; then tee -a "$GITHUB_OUTPUT"; else cat; fi
