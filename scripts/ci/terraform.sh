#!/usr/bin/env bash
# Terraform for one environment, the same in each workflow.
#
#   terraform.sh init BACKEND                     BACKEND is the file that state-bucket.sh wrote
#   terraform.sh plan DIRECTORY [ARGUMENT…]       writes plan, plan.txt and plan.json there; outputs `changes` and `digest`
#   terraform.sh apply DIRECTORY [DIGEST]         carries out the plan in DIRECTORY, if its changes are those of DIGEST
#   terraform.sh output [ARGUMENT…]
#   terraform.sh state-has ADDRESS                1 if the state does not have it, 3 if nobody can say
#   terraform.sh is-there                         1 if the state has nothing at all, 3 if nobody can say
#   terraform.sh buckets                          names of the buckets in the state
#
# Wants ENVIRONMENT, AWS_REGION and OWNER; takes PROJECT_NAME, ALERT_EMAIL, EC2_PUBLIC_KEY, PERMISSIONS_BOUNDARY_ARN, DATA_BUCKET_NAME,
# TTL, and COMMIT where it is not the one of this run; `applied` is the one that was applied last, for plans that must not show a change of
# each tag. TERRAFORM names another terraform.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stack=$here/../../infra/stacks/platform

say() { printf 'terraform: %s\n' "$*" >&2; }
stop() {
  local code=$1
  shift
  say "$@"
  if [ "${GITHUB_ACTIONS:-}" = true ]; then printf '::error title=terraform::%s\n' "$*"; fi
  exit "$code"
}

case "${ENVIRONMENT:-}" in dev | stage | prod) ;; *) stop 2 'ENVIRONMENT has to be dev, stage or prod' ;; esac
[ -n "${AWS_REGION:-}" ] || stop 2 'the variable AWS_REGION is not set; docs/ci-cd.md says where it comes from'
[ -n "${OWNER:-}" ] || stop 2 'the variable OWNER is not set; docs/ci-cd.md says where it comes from'

export TF_IN_AUTOMATION=1 TF_INPUT=0
export TF_VAR_region=$AWS_REGION TF_VAR_owner=$OWNER TF_VAR_project=${PROJECT_NAME:-aqueduct}
export TF_VAR_repository=${GITHUB_REPOSITORY:-none} TF_VAR_commit=${COMMIT:-${GITHUB_SHA:-none}} TF_VAR_ttl=${TTL:-none}
# GitHub hands on a variable that nobody has set as an empty one. For Terraform that would be a value.
optional() { # NAME VALUE
  if [ -n "$2" ]; then export "TF_VAR_$1=$2"; fi
}
optional alert_email "${ALERT_EMAIL:-}"
optional ec2_public_key "${EC2_PUBLIC_KEY:-}"
optional permissions_boundary_arn "${PERMISSIONS_BOUNDARY_ARN:-}"
optional data_bucket_name "${DATA_BUCKET_NAME:-}"

tf() { "${TERRAFORM:-terraform}" -chdir="$stack" "$@"; }

output() { # NAME VALUE
  if [ -n "${GITHUB_OUTPUT:-}" ]; then printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; else printf '%s=%s\n' "$1" "$2"; fi
}

# Where nothing was applied yet, the one of this run.
applied_commit() {
  tf output -json | python3 -c 'import json, sys; print(json.load(sys.stdin).get("commit", {}).get("value") or sys.argv[1])' "${GITHUB_SHA:-none}"
}

plan() { # DIRECTORY ARGUMENT…
  local directory status=0
  mkdir -p "$1"
  directory=$(cd "$1" && pwd)
  shift
  if [ "$TF_VAR_commit" = applied ]; then TF_VAR_commit=$(applied_commit) || stop 1 'the outputs cannot be read; what Terraform said stands above'; fi
  # What is given behind the file of values counts.
  tf plan -lock-timeout=5m -detailed-exitcode -out="$directory/plan" -var-file="environments/$ENVIRONMENT.tfvars" "$@" >&2 || status=$?
  case "$status" in 0 | 2) ;; *) stop 1 'there is no plan; what Terraform said stands above' ;; esac
  (umask 077 && tf show -json "$directory/plan" >"$directory/plan.json" && tf show -no-color "$directory/plan" >"$directory/plan.txt")
  if [ "$status" = 2 ]; then output changes true; else output changes false; fi
  output digest "$(python3 -B "$here/plan.py" digest "$directory/plan.json")"
}

apply() { # DIRECTORY [DIGEST]
  local directory found
  directory=$(cd "$1" && pwd)
  if [ $# = 2 ]; then
    found=$(python3 -B "$here/plan.py" digest "$directory/plan.json")
    [ "$found" = "$2" ] || stop 1 "the plan that was approved is stale: something changed since (approved ${2:0:12}…, now ${found:0:12}…)." \
      'Nothing was applied. The plan as it is now stands in the summary; run the workflow again and approve that'
  fi
  tf apply -lock-timeout=5m "$directory/plan" >&2
  # Whatever it holds, it has been carried out.
  rm -f "$directory/plan" "$directory/plan.json"
}

# From the resources and not from the outputs: those are gone after a destroy that was stopped half-way.
buckets() { ask_state 'print("\n".join(sorted(each["values"]["bucket"] for each in resources if each["type"] == "aws_s3_bucket")))'; }

# "It is not there" must not be what an answer that did not come looks like.
state_has() { # [ADDRESS], or anything at all
  local answer
  answer=$(ask_state 'print(any(each["address"] in sys.argv[1:] or not sys.argv[1:] for each in resources))' "$@") || stop 3 'the state cannot be read; what Terraform said stands above'
  [ "$answer" = True ]
}

# One expression of Python over the resources that Terraform manages. No state at all has none.
ask_state() { # EXPRESSION [ARGUMENT]
  tf show -json | python3 -c '
import json, sys

def below(module):
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from below(child)

root = json.load(sys.stdin).get("values", {}).get("root_module", {})
resources = [each for each in below(root) if each["mode"] == "managed"]
exec(sys.argv.pop(1))' "$@"
}

command=${1:-}
[ $# -gt 0 ] && shift
case "$command" in
  init) tf init -backend-config="$(realpath "${1:?the file of state-bucket.sh}")" >&2 ;;
  plan) plan "$@" ;;
  apply) apply "$@" ;;
  output) tf output "$@" ;;
  state-has) state_has "${1:?an address}" ;;
  is-there) state_has ;;
  buckets) buckets ;;
  *) stop 2 'usage: terraform.sh {init BACKEND | plan DIRECTORY … | apply DIRECTORY [DIGEST] | output … | state-has ADDRESS | is-there | buckets}' ;;
esac
