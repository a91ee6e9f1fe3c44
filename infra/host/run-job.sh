#!/usr/bin/env bash
# Loads what is new through one pipeline, or one object of it, now; the result is one JSON document on stdout.
#
#   run-job.sh PIPELINE [OBJECT]
#
# PIPELINE is a name in /opt/aqueduct/pipelines/current, with or without .toml; OBJECT is a key below the store. Both come from a
# form that somebody filled in, so anything that is no plain name or key is refused here. The exit code is etl-runner's; 143
# also stands for a load that took longer than AQUEDUCT_JOB_SECONDS and was stopped. Nothing of it is committed then.
set -euo pipefail
umask 022
program=run-job
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/host/lib.sh
. "$here/lib.sh"

# Less than the hour after which Run Command gives up, so that the reason is told.
job_seconds=${AQUEDUCT_JOB_SECONDS:-3300}

usage() {
  stop 2 "$1; usage: run-job.sh PIPELINE [OBJECT]"
}

parse_arguments() {
  local name=${1:-}
  if [ $# -lt 1 ] || [ $# -gt 2 ]; then usage "1 or 2 arguments are wanted and $# were given"; fi
  name=${name%.toml}
  [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$ ]] || usage 'PIPELINE has to be up to 64 letters, digits, _ and -, and to begin with a letter or digit'
  pipeline=$opt/pipelines/current/$name.toml
  if [ ! -f "$pipeline" ]; then
    find_pipelines "$opt/pipelines/current"
    stop 2 "there is no pipeline $name on this host; there are: ${pipelines[*]##*/}"
  fi
  object=()
  if [ -n "${2:-}" ]; then
    if ! is_key "$2"; then usage 'OBJECT has to be a key below the store: names with / between them, no .. and no odd characters'; fi
    # As one argument: what begins with a dash stays a key.
    object=("--object=$2")
  fi
}

is_key() {
  local parts=/$1/
  [ ${#1} -le 1024 ] || return 1
  [[ $1 =~ ^[A-Za-z0-9._\ =@+,:()\!\'-]+(/[A-Za-z0-9._\ =@+,:()\!\'-]+)*$ ]] || return 1
  case "$parts" in *'/../'* | *'/./'*) return 1 ;; esac
}

main() {
  local status
  need_root
  parse_arguments "$@"
  load_host_env
  export AQUEDUCT_LOG_FORMAT=json
  say "loading through $pipeline"
  # The lines of metrics go where those of the timer go; stdout is left to the result.
  exec 3>>"$logs/etl-runner.log" 4>&2 5>&1
  set +e
  as_service timeout --preserve-status --signal=TERM --kill-after=30 "$job_seconds" \
    /usr/local/bin/etl-runner run --json "$pipeline" "${object[@]}" 2>&1 >&5 | part_messages
  status=${PIPESTATUS[0]}
  set -e
  say "etl-runner ended with $status"
  exit "$status"
}

main "$@"
