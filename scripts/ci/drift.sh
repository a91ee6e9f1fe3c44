#!/usr/bin/env bash
# Says in an issue that an environment is not as main says, or closes that issue.
#
#   drift.sh DIRECTORY
#
# DIRECTORY is that of `terraform.sh plan`; CHANGES is its output. Wants ENVIRONMENT and what github.py wants.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

directory=${1:?the directory of the plan} text=${1}/issue.md
if [ "${CHANGES:?}" = false ]; then
  echo "There is no difference any more." >"$text"
  python3 -B "$here/github.py" close "drift-${ENVIRONMENT:?}" "$text"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then echo "$ENVIRONMENT is as main says." >>"$GITHUB_STEP_SUMMARY"; fi
  exit
fi
{
  cat <<TEXT
$ENVIRONMENT is not as main says. Either somebody changed it by hand, or something on main has not been applied yet.

- To make it as main says: the workflow Create all the AWS infrastructure, for $ENVIRONMENT. Its plan is this one.
- To keep what was changed: write it into Terraform, in a pull request.

This text is written anew each night, and the issue closes by itself.

TEXT
  python3 -B "$here/plan.py" comment "$directory/plan.json" "$directory/plan.txt"
} >"$text"
python3 -B "$here/github.py" issue "drift-${ENVIRONMENT:?}" "$ENVIRONMENT is not as main says" "$text"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$text" >>"$GITHUB_STEP_SUMMARY"; fi
