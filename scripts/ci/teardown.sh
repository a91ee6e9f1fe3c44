#!/usr/bin/env bash
# Takes an environment down: looks whether that is what was approved, lifts its protection, empties its buckets, destroys, lists what is left.
#
#   teardown.sh TYPED
#
# TYPED is the environment's name once more, as somebody typed it: nothing is done unless it is ENVIRONMENT. `terraform.sh init` comes before.
# DIGEST is that of the plan that was approved (an output of `terraform.sh plan`): where what would go now is something else, nothing is done.
# Without it, by hand, nothing is compared. It can be run again after it was stopped anywhere: what is gone already is passed over; a workflow
# then wants a new plan. Takes what terraform.sh takes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'teardown: %s\n' "$*" >&2; }
stop() {
  say "$@"
  if [ "${GITHUB_ACTIONS:-}" = true ]; then printf '::error title=teardown::%s\n' "$*"; fi
  exit 2
}
summary() { if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then printf '%s\n' "$*" >>"$GITHUB_STEP_SUMMARY"; else printf '%s\n' "$*"; fi; }

confirm() {
  [ -n "${ENVIRONMENT:-}" ] || stop 'ENVIRONMENT is not set; usage: teardown.sh TYPED, with ENVIRONMENT=dev, stage or prod'
  [ "$1" = "$ENVIRONMENT" ] || stop "'$1' was typed, and the environment is '$ENVIRONMENT': nothing was done"
}

plan_destroy() { # DIRECTORY
  "$here/terraform.sh" plan "$1" -destroy -var protected=false >/dev/null
}

# Before anything is done. Also by hand: a destroy that cannot even be planned must not find out when the buckets are empty. That the database
# is protected still makes no other digest: of what is destroyed counts which it is.
compare() {
  local found
  plan_destroy "$work/now"
  [ -n "${DIGEST+set}" ] || return 0 # an empty one is of a workflow that lost it, and equals none
  found=$(python3 -B "$here/plan.py" digest "$work/now/plan.json")
  [ "$found" = "$DIGEST" ] && return
  summary "$(python3 -B "$here/plan.py" report "$work/now/plan.json" "$work/now/plan.txt")"
  stop "what would go is not what was approved (approved ${DIGEST:0:12}…, now ${found:0:12}…): nothing was done. Something changed since, or a" \
    'teardown was stopped half-way. What would go now stands in the summary: start the workflow anew (not "Re-run failed jobs") and approve that'
}

# An apply of its own: a destroy that meets a protected database stops half-way, with the host gone. Of the database alone, so that after
# a teardown that was stopped nothing is made again only to be destroyed. Where main would replace the database, or make something first, such an
# apply could not be: then AWS is asked directly.
lift_protection() {
  local database=module.database.aws_db_instance.this status=0
  "$here/terraform.sh" state-has "$database" || status=$?
  case "$status" in
    0) ;;
    1) say 'there is no database in the state: no protection to lift'; return ;;
    *) stop 'whether the database is still there is not known, so nothing was done' ;;
  esac
  "$here/terraform.sh" plan "$work/lift" -var protected=false -target="$database" >/dev/null
  if python3 -B "$here/plan.py" no-loss "$work/lift/plan.json" >"$work/lift/why" 2>&1; then
    "$here/terraform.sh" apply "$work/lift"
  else
    say 'what main says is more than a setting of the database, so AWS is asked directly'
    ask_aws_to_lift
  fi
  say 'the deletion protection is lifted'
}

ask_aws_to_lift() {
  local message
  message=$(aws rds modify-db-instance --db-instance-identifier "${PROJECT_NAME:-aqueduct}-$ENVIRONMENT" --no-deletion-protection 2>&1 >/dev/null) && return
  case "$message" in
    *DBInstanceNotFound*) ;; # it is gone, and only the state does not know that yet
    *) stop "the deletion protection could not be lifted, so nothing was done: $message" ;;
  esac
}

# Terraform deletes no bucket with objects in it, but for dev's; and there it would take one request for each version.
empty_buckets() {
  local bucket
  buckets=$("$here/terraform.sh" buckets) # here a failure counts, in <( ) it would not
  mapfile -t buckets <<<"$buckets"
  for bucket in "${buckets[@]}"; do
    if [ -n "$bucket" ]; then python3 -B "$here/empty_bucket.py" "$bucket"; fi
  done
}

# By a plan of its own: the first one is stale once the protection is lifted.
destroy() {
  plan_destroy "$work/destroy"
  "$here/terraform.sh" apply "$work/destroy"
  say "$ENVIRONMENT is destroyed"
}

main() {
  confirm "${1:-}"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  export COMMIT=applied # a teardown changes nothing that it does not have to
  summary "## Teardown of $ENVIRONMENT"
  compare
  lift_protection
  empty_buckets
  destroy
  summary "Destroyed. The same button as at the beginning makes it again: Create all the AWS infrastructure."
  python3 -B "$here/leftovers.py"
}

main "$@"
