#!/usr/bin/env bash
# What the timers run: etl-runner over every pipeline of the current release, with the flags given. The units set user and
# environment; their stderr is the file of JSON lines, their stdout the journal.
#
# The exit code is etl-runner's, but for one thing: to a person who asks for a pipeline without any object that is a mistake (1),
# to a timer on a host whose files have not come yet it is a quiet minute.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/host/lib.sh
. "$here/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export AQUEDUCT_LOG_FORMAT=json
# One release for the whole run, also when a deploy switches meanwhile.
find_pipelines "$(readlink -f "$opt/pipelines/current")"
if [ ${#pipelines[@]} = 0 ]; then exit 0; fi

# Messages wait for the verdict: those of a quiet minute are no news.
exec 3>&2 4>"$work/messages" 5>"$work/result"
/usr/local/bin/etl-runner run --json "$@" "${pipelines[@]}" 2>&1 >&5 | part_messages
status=${PIPESTATUS[0]}

# The two codes that a pipeline without objects can lead to.
case "$status" in 1 | 5) status=$(python3 "$here/verdict.py" "$status" "$work/result") ;; esac
if [ "$status" != 0 ]; then cat "$work/messages"; fi
exit "$status"
