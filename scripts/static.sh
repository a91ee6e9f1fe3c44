#!/usr/bin/env bash
# Builds the binaries that are shipped, for this machine's processor, and proves that they are static.
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(uname -m)-unknown-linux-musl"
binaries=(ingest etl-runner log-shipper)

if ! command -v musl-gcc >/dev/null; then
  command -v apt-get >/dev/null || { echo 'static: musl-gcc is missing; install musl and its tools'; exit 1; }
  as_root=()
  if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
  echo 'static: installing with apt-get: musl-tools'
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends musl-tools
fi
rustup target list --installed | grep -qx "$target" || rustup target add "$target"

packages=()
for binary in "${binaries[@]}"; do packages+=(-p "$binary"); done
cargo build --profile dist --locked --target "$target" "${packages[@]}"

for binary in "${binaries[@]}"; do
  path="target/$target/dist/$binary"
  linkage=$(ldd "$path" 2>&1 || true) # ldd fails on a file that is static and not position independent
  case "$linkage" in
    *'statically linked'* | *'not a dynamic executable'*) ;;
    *) printf 'static: %s is not static:\n%s\n' "$path" "$linkage"; exit 1 ;;
  esac
  size=$(stat -c %s "$path")
  printf '%-12s %s  static, %s.%s MB  %s\n' "$binary" "$("$path" --version)" \
    "$((size / 1000000))" "$((size % 1000000 / 100000))" "$path"
done
