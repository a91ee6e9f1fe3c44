#!/usr/bin/env bash
# Tests infra/host and infra/bootstrap for real: a root of this distribution made by debootstrap, apt, an AWS emulator, PostgreSQL
# with TLS. One line for each promise. Installs what it needs with apt-get and below .cache/, and says so; no server listens
# elsewhere than on 127.0.0.1, and none is left behind. It takes about 2 GB of memory, where everything happens.
#
# ETL_RUNNER and LOG_SHIPPER name the programs that are installed on the host under test; where they are not given, small
# stand-ins take their place. They have to run on this distribution: built here, or static.
# HOST_TEST_MIRROR is another mirror than the distribution's own.
set -euo pipefail
cd "$(dirname "$0")/../../.."

say() { printf 'host-test: %s\n' "$*"; }

if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { say 'root is needed, to make a root file system and enter it, and sudo is not here'; exit 1; }
  exec sudo --preserve-env=ETL_RUNNER,LOG_SHIPPER,HOST_TEST_MIRROR,MOTO_SERVER,PG_BIN "$0" "$@"
fi

cache=$PWD/.cache/host-test
mkdir -p "$cache"

install_packages() {
  local packages=() initdb
  need() { command -v "$1" >/dev/null || packages+=("$2"); }
  need debootstrap debootstrap
  need shellcheck shellcheck
  need apt-ftparchive apt-utils
  need gpg gpg
  need gpg-agent gpg-agent
  need openssl openssl
  need python3 python3
  need systemd-analyze systemd
  need unshare util-linux
  need psql postgresql-client
  initdb=$(find /usr/lib/postgresql -name initdb -print -quit 2>/dev/null || true)
  if [ -z "$initdb" ] && [ -z "${PG_BIN:-}" ]; then packages+=(postgresql); fi
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  if [ ${#packages[@]} = 0 ]; then return; fi
  command -v apt-get >/dev/null || { say "this runs on Debian and Ubuntu only; please install: ${packages[*]}"; exit 1; }
  say "installing with apt-get: ${packages[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${packages[@]}"
}

# python_package DIRECTORY PACKAGE: an environment of its own, so that it meets no other's versions.
python_package() {
  if [ -x "$cache/$1/done" ]; then return; fi
  say "installing $2 into .cache/host-test/$1"
  rm -rf "${cache:?}/$1"
  python3 -m venv "$cache/$1"
  "$cache/$1/bin/pip" install --quiet --disable-pip-version-check "$2"
  install -m 755 /dev/null "$cache/$1/done"
}

find_emulator() {
  local candidate
  for candidate in "${MOTO_SERVER:-}" .cache/test-tools/bin/moto_server "$(command -v moto_server || true)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
      MOTO_SERVER=$(realpath -s "$candidate")
      return
    fi
  done
  python_package emulator 'moto[server]==5.*'
  MOTO_SERVER=$cache/emulator/bin/moto_server
}

# The root is packed as debootstrap made it; each run unpacks a fresh one, which takes a second.
make_root() {
  local distribution codename mirror made
  # shellcheck source=/dev/null
  read -r distribution codename < <(. /etc/os-release && echo "$ID $VERSION_CODENAME")
  case "$distribution" in
    debian | ubuntu) ;;
    *) say "roots can be made of Debian and Ubuntu, and this is $distribution"; exit 1 ;;
  esac
  # From where apt of this machine has its own packages.
  # shellcheck disable=SC2016 # apt fills these in, not the shell
  mirror=${HOST_TEST_MIRROR:-$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
    | awk -v codename="$codename" '$2 == codename && $3 == "main" && !seen++ { print $1 }')}
  # A list of mirrors, which apt can read and debootstrap cannot: the first of them.
  if [[ $mirror == mirror+file:* ]]; then
    mirror=${mirror#mirror+file:}
    mirror=$(awk '!/^#/ && NF && !seen++ { print $1 }' "${mirror%/}")
  fi
  [ -n "$mirror" ] || { say "apt knows no mirror of $codename; name one in HOST_TEST_MIRROR"; exit 1; }
  ROOT_TAR=$cache/root-$codename-$(dpkg --print-architecture).tar
  if [ -s "$ROOT_TAR" ]; then return; fi
  say "making a root of $distribution $codename from $mirror"
  made=$(mktemp -d "$cache/root.XXXXXX")
  debootstrap --variant=minbase "$codename" "$made" "$mirror" >"$cache/debootstrap.log" 2>&1 \
    || { say "debootstrap did not work; $cache/debootstrap.log says why"; exit 1; }
  tar --one-file-system -C "$made" -cf "$ROOT_TAR.new" .
  mv -T "$ROOT_TAR.new" "$ROOT_TAR"
  rm -rf --one-file-system "$made"
}

install_packages
find_emulator
python_package awscli awscli
make_root
export MOTO_SERVER ROOT_TAR AWSCLI="$cache/awscli"
export PYTHONDONTWRITEBYTECODE=1

# In namespaces of the test's own: whatever happens, its mounts are gone and its processes dead when it ends. The directory is
# only where a file system in memory is mounted in there; out here it stays empty.
WORK=$(mktemp -d /tmp/aqueduct-host-test.XXXXXX)
export WORK
trap 'rmdir "$WORK"' EXIT
unshare --mount --propagation private --pid --fork --kill-child --mount-proc python3 infra/host/tests/promises.py "$@"
