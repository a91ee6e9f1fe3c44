#!/usr/bin/env bash
# Builds the binaries that are shipped, and proves that they are static.
#
#   static.sh [TARGET]     x86_64-unknown-linux-musl or aarch64-unknown-linux-musl; without it, that of this machine's processor
#
# aarch64 is built on another processor, too, with Debian's cross compiler; those binaries are run only where qemu-aarch64-static is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

machine=$(uname -m)
if [ "$machine" = arm64 ]; then machine=aarch64; fi
target=${1:-$machine-unknown-linux-musl}
processor=${target%%-*}
binaries=(ingest etl-runner log-shipper)
most_bytes=10000000 # of log-shipper, which runs on every host: docs/log-shipper.md
run=()              # what runs the binaries: nothing for this machine's own
runs=true

stop() { printf 'static: %s\n' "$*" >&2; exit 1; }

install_packages() { # PACKAGE…
  local as_root=()
  command -v apt-get >/dev/null || stop "please install what Debian has as: $*"
  if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
  echo "static: installing with apt-get: $*"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@"
}

case "$target" in
  x86_64-unknown-linux-musl | aarch64-unknown-linux-musl) ;;
  *) printf 'static: there is no target %s; usage: static.sh [x86_64-unknown-linux-musl | aarch64-unknown-linux-musl]\n' "$target" >&2; exit 2 ;;
esac

missing=()
if [ "$processor" = "$machine" ]; then
  command -v musl-gcc >/dev/null || missing+=(musl-tools)
else
  [ "$processor" = aarch64 ] || stop "$target is built on a machine of its own processor, and this one is $machine"
  command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
  # Rust brings musl and its start files. C is compiled with glibc's headers: without the checks that Ubuntu's compiler puts in, and without the
  # second names of calls for large files (open64) that SQLite asks for. musl lacks both, and its calls are for large files anyway.
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
  export CFLAGS_aarch64_unknown_linux_musl=${CFLAGS_aarch64_unknown_linux_musl:--U_FORTIFY_SOURCE -DSQLITE_DISABLE_LFS}
  if command -v qemu-aarch64-static >/dev/null; then run=(qemu-aarch64-static); else runs=false; fi
fi
command -v file >/dev/null || missing+=(file)
if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
rustup target list --installed | grep -qx "$target" || rustup target add "$target"

packages=()
for binary in "${binaries[@]}"; do packages+=(-p "$binary"); done
cargo build --profile dist --locked --target "$target" "${packages[@]}"

# Both have to say so: `file` reads the program's headers, for any processor; ldd asks the loader, for this machine's own.
prove_static() { # PATH
  local kind linkage
  kind=$(file -b "$1")
  case "$kind" in
    *'statically linked'* | *'static-pie linked'*) ;;
    *) stop "$1 is not static; file says: $kind" ;;
  esac
  case "$processor:$kind" in
    x86_64:*x86-64* | aarch64:*aarch64*) ;;
    *) stop "$1 is not for $processor; file says: $kind" ;;
  esac
  linkage=$(LC_ALL=C ldd "$1" 2>&1 || true) # ldd fails on a file that is static and not position independent, and on another processor's
  case "$linkage" in
    *'statically linked'* | *'not a dynamic executable'*) ;;
    *) stop "$1 is not static; ldd says: $linkage" ;;
  esac
}

for binary in "${binaries[@]}"; do
  path="target/$target/dist/$binary"
  prove_static "$path"
  size=$(stat -c %s "$path")
  if [ "$binary" = log-shipper ] && [ "$size" -gt "$most_bytes" ]; then
    stop "$path has $size bytes, and may have $most_bytes: look what a new dependency brings (cargo tree -p log-shipper -e features)"
  fi
  if [ "$runs" = true ]; then version=$("${run[@]}" "$path" --version); else version="$binary (not run: qemu-aarch64-static is not installed)"; fi
  printf '%-12s %s  static, %s.%s MB  %s\n' "$binary" "$version" "$((size / 1000000))" "$((size % 1000000 / 100000))" "$path"
done
