#!/usr/bin/env bash
# Says in an issue that an environment is not as main says, or closes that issue.
#
#   drift.sh DIRECTORY
#
# DIRECTORY is where the plan is made. Where the state has nothing, before a Create or after a Teardown, there is no plan and no difference.
# Wants what terraform.sh and github.py want.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

stop() { printf 'drift: %s; usage: drift.sh DIRECTORY\n' "$*" >&2; exit 2; }
[ $# = 1 ] || stop 'the directory for the plan is missing'
[ -n "${ENVIRONMENT:-}" ] || stop 'ENVIRONMENT is not set'
directory=$1 text=$1/issue.md
mkdir -p "$directory"

close() { # COMMENT SUMMARY
  echo "$1" >"$text"
  python3 -B "$here/github.py" close "drift-$ENVIRONMENT" "$text"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then echo "$2" >>"$GITHUB_STEP_SUMMARY"; fi
  exit
}

there=0
"$here/terraform.sh" is-there || there=$?
case "$there" in
  0) ;;
  1)
    close 'The environment is not there any more.' \
      "$ENVIRONMENT is not there: the state has nothing. The workflow Create all the AWS infrastructure makes it."
    ;;
  *) exit "$there" ;;
esac
said=$(GITHUB_OUTPUT='' "$here/terraform.sh" plan "$directory")
if [[ $said == *changes=false* ]]; then close 'There is no difference any more.' "$ENVIRONMENT is as main says."; fi
{
  cat <<TEXT
$ENVIRONMENT is not as main says. Either somebody changed it by hand, or something on main has not been applied yet.

- To make it as main says: the workflow Create all the AWS infrastructure, for $ENVIRONMENT. Its plan is this one.
- To keep what was changed: write it into Terraform, in a pull request.

This text is written anew each night, and the issue closes by itself.

TEXT
  python3 -B "$here/plan.py" comment "$directory/plan.json" "$directory/plan.txt"
} >"$text"
python3 -B "$here/github.py" issue "drift-$ENVIRONMENT" "$ENVIRONMENT is not as main says" "$text"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$text" >>"$GITHUB_STEP_SUMMARY"; fi
