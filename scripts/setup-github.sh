#!/usr/bin/env bash
# Sets what the workflows want to know in GitHub: environments, with who approves and which branches may use them; variables; secrets; a rule
# for tags v*.
#
#   scripts/setup-github.sh --region REGION --owner NAME [OPTION…]
#
#   --project NAME              first part of every name in AWS; without it the one that is set stays, and aqueduct is the first
#   --outputs FILE              `terraform output -json` of infra/stacks/github; asked from there where it is not given
#   --environment NAME          one of those in the outputs; again for another; all of them without it. What the key of a host, the host, the data bucket
#                               and the fallback's access key belong to is one environment, so they want exactly one
#   --alert-email ADDRESS       whom alarms and the budget write to; prod wants one
#   --reviewer LOGIN            who approves stage and prod, and every teardown; again for another; without it whoever approves by now goes on doing so
#   --ec2-public-key FILE       for SSH to the host; none is needed for Session Manager
#   --private-key-file FILE     the fallback without Systems Manager: the key that workflows use SSH with …
#   --ec2-host ADDRESS          … the host …
#   --ec2-host-key FILE         … and its line of known_hosts
#   --data-bucket NAME          where the data bucket is not called after the rule
#   --no-attestations           for a private repository below GitHub Enterprise
#   --repo OWNER/NAME           the repository; without it the one that gh finds for this directory, if that is the remote origin
#   --help                      this text
#
# AWS_FALLBACK_ACCESS_KEY_ID and AWS_FALLBACK_SECRET_ACCESS_KEY in the environment become the secrets AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY: the fallback without OpenID Connect. They have names of their own, so that no key gets there by chance.
#
# It looks at what it was given before the first change, can be run as often as you like, and says of each thing whether it changed. Needs bash 4.4 or
# later (macOS has 3.2: brew install bash), gh, logged in as an administrator of the repository, jq, and terraform unless
# --outputs is given.
# Exit codes: 0 done; 1 something did not work; 2 wrong usage, or a program or file is missing, and nothing was changed; 4 gh is not logged in.
set -euo pipefail
if [ "${BASH_VERSINFO[0]}" -lt 4 ] || { [ "${BASH_VERSINFO[0]}" = 4 ] && [ "${BASH_VERSINFO[1]}" -lt 4 ]; }; then
  printf 'setup-github: this bash is %s, and 4.4 or later is needed; on macOS: brew install bash, open a new terminal, and once more\n' "$BASH_VERSION" >&2
  exit 1
fi
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$*"; }
stop() {
  local code=$1
  shift
  printf 'setup-github: %s\n' "$*" >&2
  exit "$code"
}
warn() { printf '\nWARNING: %s\n\n' "$*" >&2; }

# One call of GitHub's API: what it answers in $answer, what it says against it in $refusal.
answer='' refusal=''
ask() { # ARGUMENT…
  local status=0
  answer=$(gh api "$@" 2>"$work/refusal") || status=$?
  refusal=$(cat "$work/refusal")
  return "$status"
}

# GitHub's words for "not in this plan". Whatever else it refuses for, nothing may be set up with less than was asked for.
not_in_this_plan() {
  case "$refusal" in *'billing plan supports'* | *'Upgrade to GitHub '*) ;; *) return 1 ;; esac
}

help() { # the head of this script
  sed -n -e 1d -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
}

readable() { # FILE
  if [ ! -r "$1" ] || [ -d "$1" ]; then stop 2 "$1 cannot be read"; fi
}

parse_arguments() {
  project='' region='' owner='' outputs='' alert_email='' public_key='' private_key='' ec2_host='' ec2_host_key='' data_bucket='' repo='' attestations=''
  reviewers=() environments=() for_one=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --help | -h)
        help
        exit
        ;;
      --no-attestations)
        attestations=off
        shift
        continue
        ;;
      --project | --region | --owner | --outputs | --environment | --alert-email | --reviewer | --ec2-public-key | --data-bucket | --repo) ;;
      --private-key-file | --ec2-host | --ec2-host-key) ;;
      *) stop 2 "there is no option $1; --help lists them" ;;
    esac
    # What begins with -- is the next option, and the value was forgotten.
    if [ $# = 1 ] || [[ $2 = --* ]] || [ -z "$2" ]; then stop 2 "$1 wants a value; --help says which"; fi
    case "$1" in --data-bucket | --private-key-file | --ec2-host | --ec2-host-key) for_one+=("$1") ;; esac
    case "$1" in --outputs | --ec2-public-key | --private-key-file | --ec2-host-key) readable "$2" ;; esac
    case "$1" in
      --project) project=$2 ;;
      --region) region=$2 ;;
      --owner) owner=$2 ;;
      --outputs) outputs=$2 ;;
      --environment) environments+=("$2") ;;
      --alert-email) alert_email=$2 ;;
      --reviewer) reviewers+=("$2") ;;
      --ec2-public-key) public_key=$(cat "$2") ;;
      --private-key-file) private_key=$2 ;;
      --ec2-host) ec2_host=$2 ;;
      --ec2-host-key) ec2_host_key=$(cat "$2") ;;
      --data-bucket) data_bucket=$2 ;;
      --repo) repo=$2 ;;
    esac
    shift 2
  done
  [ -n "$region" ] || stop 2 '--region is wanted, such as eu-central-1'
  [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || stop 2 "--region $region is no region; one looks like eu-central-1"
  [[ $owner =~ ^[a-z0-9][a-z0-9-]{1,30}$ ]] || stop 2 '--owner is wanted: 2 to 31 small letters, digits and hyphens, as Terraform has it'
  [[ -z $project || $project =~ ^[a-z][a-z0-9-]{1,20}[a-z0-9]$ ]] || stop 2 '--project has to be 3 to 22 small letters, digits and hyphens'
  [[ -z $repo || $repo =~ ^[^/]+/[^/]+$ ]] || stop 2 "--repo wants OWNER/NAME, and not $repo"
  # Half a key would be stored, and fail in each workflow.
  case "${AWS_FALLBACK_ACCESS_KEY_ID:+id}${AWS_FALLBACK_SECRET_ACCESS_KEY:+secret}" in
    '') ;;
    idsecret) for_one+=(AWS_FALLBACK_ACCESS_KEY_ID) ;;
    *) stop 2 'AWS_FALLBACK_ACCESS_KEY_ID and AWS_FALLBACK_SECRET_ACCESS_KEY go together, and only one is set' ;;
  esac
}

find_programs() {
  command -v jq >/dev/null || stop 2 'jq is missing: apt-get install jq, or brew install jq'
  command -v gh >/dev/null || stop 2 'gh is missing, the command line of GitHub: https://cli.github.com'
  if [ -z "$outputs" ]; then
    command -v "${TERRAFORM:-terraform}" >/dev/null || stop 2 "${TERRAFORM:-terraform} is missing: install Terraform 1.11 or later (https://developer.hashicorp.com/terraform/install)," \
      'or give --outputs FILE, from where it is: terraform -chdir=infra/stacks/github output -json'
  fi
}

# In the clone of a fork gh takes the parent of the fork for the repository: its remote is called upstream.
find_repository() {
  local origin today
  gh auth status >/dev/null 2>&1 || stop 4 'gh is not logged in: gh auth login'
  if [ -z "$repo" ]; then
    repo=$(gh repo view --json nameWithOwner --jq .nameWithOwner) || stop 2 'gh does not know which repository is meant; --repo OWNER/NAME says it'
    origin=$(git remote get-url origin 2>/dev/null | sed -e 's,/*$,,' -e 's/\.git$//' -e 's,^.*[:/]\([^/]*/[^/]*\)$,\1,') || origin=''
    # By its name of today: it may have been renamed since the clone was made.
    today=$(gh repo view "$origin" --json nameWithOwner --jq .nameWithOwner 2>/dev/null) && origin=$today
    if [ -n "$origin" ] && [ "${origin,,}" != "${repo,,}" ]; then
      stop 2 "gh would set up $repo, but the remote origin of this directory is $origin. Say which one is meant: --repo $origin"
    fi
  fi
  say "the repository is $repo"
}

# Also whether all that is wanted of them is there: nothing may be changed before that is known.
find_outputs() {
  local file=${outputs:-'what Terraform printed'} words name kind
  if [ -n "$outputs" ]; then
    outputs=$(cat "$outputs")
  elif ! outputs=$("${TERRAFORM:-terraform}" -chdir="$root/infra/stacks/github" output -no-color -json 2>"$work/terraform"); then
    words=$(cat "$work/terraform")
    case "$words" in
      *'terraform init'* | *[Ii]'nitialization required'*) stop 2 'initialise infra/stacks/github here (its README says how), or give --outputs FILE' ;;
      *) stop 1 "Terraform cannot read the outputs of infra/stacks/github: $words" ;;
    esac
  fi
  jq -e 'type == "object"' <<<"$outputs" >/dev/null 2>&1 || stop 2 "$file is not what terraform output -json prints: it is no JSON object"
  jq -e '.role_arns.value | length > 0' <<<"$outputs" >/dev/null 2>&1 \
    || stop 1 'there are no roles in the outputs; apply infra/stacks/github first (its README says how)'
  if [ ${#environments[@]} = 0 ]; then mapfile -t environments < <(jq -r '.role_arns.value | keys[]' <<<"$outputs"); fi
  for name in "${environments[@]}"; do
    jq -e --arg name "$name" '.role_arns.value | has($name)' <<<"$outputs" >/dev/null \
      || stop 2 "the outputs have no environment $name; they have $(jq -r '.role_arns.value | keys | join(", ")' <<<"$outputs"). Nothing was changed"
    for kind in apply deploy upload plan teardown; do output_of "$name" "$kind" >/dev/null; done
  done
  if [ ${#for_one[@]} != 0 ] && [ ${#environments[@]} != 1 ]; then stop 2 "${for_one[0]} belongs to one environment, so it goes with one --environment"; fi
}

output_of() { # ENVIRONMENT KIND
  jq -er --arg name "$1" --arg kind "$2" '.role_arns.value[$name][$kind]' <<<"$outputs" || stop 1 "the outputs have no role $2 of $1; apply infra/stacks/github again"
}

# --- variables and secrets; WHERE is an environment, or empty for the repository ---

where() { if [ -n "$1" ]; then printf '%s' "$1"; else printf 'repository'; fi; }

variable() { # WHERE NAME VALUE
  local scope=() before
  [ -n "$3" ] || return 0
  if [ -n "$1" ]; then scope=(--env "$1"); fi
  before=$(gh variable list --repo "$repo" "${scope[@]}" --json name,value | jq -r --arg name "$2" '.[] | select(.name == $name) | .value')
  if [ "$before" = "$3" ]; then
    say "$(where "$1"): $2 is $3, as it is"
  else
    gh variable set "$2" --repo "$repo" "${scope[@]}" --body "$3" </dev/null
    say "$(where "$1"): $2 set to $3${before:+ (was $before)}"
  fi
}

secret() { # WHERE NAME, its value on stdin: an argument would show in the list of processes
  gh secret set "$2" --repo "$repo" --env "$1"
  say "$1: secret $2 set"
}

# --- environments ---

# Reviewers by number, as GitHub wants them; before anything is changed, so that a wrong name changes nothing.
find_reviewers() {
  local login
  reviewer_rules='[]'
  for login in "${reviewers[@]}"; do
    ask "users/$login" </dev/null || stop 1 "--reviewer $login: $refusal. Nothing was changed"
    reviewer_rules=$(jq -c --argjson user "$answer" '. + [{type: "User", id: $user.id}]' <<<"$reviewer_rules")
  done
}

# What is set by now and a PUT would take away: who approves, whether one may approve oneself, a time to wait.
rules_of() { # ENVIRONMENT
  if ask "repos/$repo/environments/$1" </dev/null; then
    jq -c '[.protection_rules[]? | select(.type == "required_reviewers")] as $approval | {
      reviewers: [$approval[].reviewers[] | {type, id: .reviewer.id}], names: [$approval[].reviewers[].reviewer | .login // .slug],
      prevent_self_review: any($approval[]; .prevent_self_review == true),
      wait_timer: ([.protection_rules[]? | select(.type == "wait_timer").wait_timer] | add // 0)}' <<<"$answer"
  elif [[ $refusal == *'(HTTP 404)'* ]]; then
    echo '{"reviewers": [], "names": [], "prevent_self_review": false, "wait_timer": 0}'
  else
    stop 1 "whether $1 has reviewers is not known: $refusal"
  fi
}

# Says in $approving whether somebody has to approve, and in $has_rules whether there is a rule for branches.
make_environment() { # NAME REVIEWERS; [] for those that are there
  local there rules taken='' branches='{"deployment_branch_policy": {"protected_branches": false, "custom_branch_policies": true}}'
  approving=$2 has_rules=true
  there=$(rules_of "$1")
  if [ "$approving" = '[]' ]; then
    approving=$(jq -c .reviewers <<<"$there")
    if [ "$approving" != '[]' ]; then taken="$1: approved by $(jq -r '.names | join(", ")' <<<"$there"), as it is"; fi
  else
    taken="$1: approved by ${reviewers[*]}"
  fi
  rules=$(jq -c --argjson reviewers "$approving" --argjson branches "$branches" '{reviewers: $reviewers}
    + (if .prevent_self_review then {prevent_self_review} else {} end) + (if .wait_timer > 0 then {wait_timer} else {} end) + $branches' <<<"$there")
  if put_environment "$1" "$rules"; then
    if [ -n "$taken" ]; then say "$taken"; fi
    return
  fi
  if [ "$approving" != '[]' ]; then
    say "$1: GitHub does not take reviewers here: private repositories below Enterprise have none. What takes their place is a typed name, a role of its own and the rule for branches: docs/ci-cd.md"
    approving='[]'
    if put_environment "$1" "$branches"; then return; fi
  fi
  warn "$1: GitHub does not take a rule for branches in this plan; whoever may push to a branch may use this environment. docs/ci-cd.md says what that means"
  has_rules=false
  put_environment "$1" '{}' || stop 1 "the environment $1 could not be made: $refusal"
}

# 1 when the plan of this repository has no such rule; any other refusal ends the script.
put_environment() { # NAME JSON
  if ask --method PUT "repos/$repo/environments/$1" --input - <<<"$2"; then return; fi
  not_in_this_plan || stop 1 "the environment $1 was not set up: $refusal. Is gh logged in as an administrator of $repo?"
  return 1
}

# A tag v* may use the roles of stage and prod, and makes a release. So only administrators of the repository (5 is GitHub's number of that role) make, move and
# delete one.
protect_tags() {
  local name='Release tags v*' rule
  if ask "repos/$repo/rulesets?per_page=100" </dev/null && jq -e --arg name "$name" 'any(.[]; .name == $name)' <<<"$answer" >/dev/null; then
    say "repository: rule '$name', as it is"
    return
  fi
  rule=$(jq -nc --arg name "$name" '{name: $name, target: "tag", enforcement: "active", conditions: {ref_name: {include: ["refs/tags/v*"], exclude: []}},
    rules: [{type: "creation"}, {type: "update"}, {type: "deletion"}], bypass_actors: [{actor_id: 5, actor_type: "RepositoryRole", bypass_mode: "always"}]}')
  if ask --method POST "repos/$repo/rulesets" --input - <<<"$rule"; then
    say "repository: rule '$name': only administrators make, move and delete one"
  elif not_in_this_plan; then
    warn 'GitHub has no rules for tags in this plan: whoever may push can push a tag v*, which may use the roles of stage and prod. docs/ci-cd.md says what that means'
  else
    stop 1 "all is set up but the rule for tags v*: $refusal. Make it by hand (Settings → Rules → Rulesets), or whoever may push a tag reaches the roles of stage and prod"
  fi
}

allow() { # ENVIRONMENT TYPE PATTERN
  if gh api "repos/$repo/environments/$1/deployment-branch-policies" --jq '.branch_policies[].name' </dev/null | grep -qxF -- "$3"; then
    say "$1: usable from $3, as it is"
  else
    jq -nc --arg name "$3" --arg type "$2" '{name: $name, type: $type}' \
      | gh api --method POST "repos/$repo/environments/$1/deployment-branch-policies" --input - >/dev/null
    say "$1: usable from $3"
  fi
}

set_up_environment() { # NAME
  local name=$1 wanted='[]' boundary kind role
  boundary=$(jq -r --arg name "$name" '.permissions_boundary_arns.value[$name] // ""' <<<"$outputs")
  if [ "$name" != dev ]; then wanted=$reviewer_rules; fi

  make_environment "$name" "$wanted"
  if [ "$name" != dev ] && [ "$approving" = '[]' ]; then
    warn "$name has no reviewers, so nobody approves: whoever may start a workflow on main, or push a tag v*, changes $name with its roles. --reviewer LOGIN names somebody"
  fi
  if [ "$has_rules" = true ]; then
    allow "$name" branch main
    if [ "$name" != dev ]; then allow "$name" tag 'v*'; fi # releases
  fi
  # Plans come before an approval, so they have an environment without one.
  make_environment "$name-plan" '[]'
  if [ "$has_rules" = true ]; then
    allow "$name-plan" branch main
    # Only dev is planned from pull requests: whoever may push a branch may write what runs there, with a role that reads.
    if [ "$name" = dev ]; then allow "$name-plan" branch 'refs/pull/*/merge'; fi
  fi

  # The role of a teardown is the only one that deletes what holds data. So it asks in dev, too, and a tag is not enough.
  make_environment "$name-teardown" "$reviewer_rules"
  if [ "$name" != dev ] && [ "$approving" = '[]' ]; then
    warn "$name-teardown has no reviewers, so nobody approves: whoever may start a workflow on main destroys $name with its data. --reviewer LOGIN names somebody"
  fi
  if [ "$has_rules" = true ]; then allow "$name-teardown" branch main; fi

  for kind in apply deploy upload; do
    role=$(output_of "$name" "$kind") # here a failure counts, as an argument it would not
    variable "$name" "AWS_ROLE_${kind^^}" "$role"
  done
  role=$(output_of "$name" plan)
  variable "$name-plan" AWS_ROLE_PLAN "$role"
  role=$(output_of "$name" teardown)
  variable "$name-teardown" AWS_ROLE_TEARDOWN "$role"
  for kind in "$name" "$name-plan" "$name-teardown"; do
    variable "$kind" PERMISSIONS_BOUNDARY_ARN "$boundary"
    variable "$kind" DATA_BUCKET_NAME "$data_bucket"
    if [ -n "${AWS_FALLBACK_ACCESS_KEY_ID:-}" ]; then
      printf '%s' "$AWS_FALLBACK_ACCESS_KEY_ID" | secret "$kind" AWS_ACCESS_KEY_ID
      printf '%s' "$AWS_FALLBACK_SECRET_ACCESS_KEY" | secret "$kind" AWS_SECRET_ACCESS_KEY
    fi
  done
  variable "$name" EC2_HOST "$ec2_host"
  variable "$name" EC2_HOST_KEY "$ec2_host_key"
  if [ -n "$private_key" ]; then secret "$name" EC2_PRIVATE_KEY <"$private_key"; fi
}

main() {
  local name known='[]'
  parse_arguments "$@"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  find_programs
  find_repository
  if [ ${#environments[@]} -gt 0 ]; then known=$(gh variable list --repo "$repo" --json name,value | jq -c '[.[] | select(.name == "ENVIRONMENTS").value | fromjson[]]'); fi
  find_outputs
  find_reviewers
  say "setting up ${environments[*]}"
  if [ -z "$project" ]; then project=$(gh variable list --repo "$repo" --json name,value | jq -r '.[] | select(.name == "PROJECT_NAME").value'); fi
  variable '' PROJECT_NAME "${project:-aqueduct}"
  variable '' AWS_REGION "$region"
  variable '' OWNER "$owner"
  variable '' ALERT_EMAIL "$alert_email"
  variable '' EC2_PUBLIC_KEY "$public_key"
  variable '' ATTESTATIONS "$attestations"
  # For deploys, and the nightly look at drift. --environment adds to those that are there.
  variable '' ENVIRONMENTS "$(printf '%s\n' "${environments[@]}" | jq -Rnc --argjson known "$known" '$known + [inputs] | unique')"
  for name in "${environments[@]}"; do set_up_environment "$name"; done
  protect_tags
  say 'Next: Actions → Create all the AWS infrastructure → Run workflow'
}

main "$@"
