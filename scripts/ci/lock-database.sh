#!/usr/bin/env bash
# Takes away the role that reads the database's master password, which is there only while a database is set up.
#
#   lock-database.sh
#
# Nobody approves this apply by itself, so it may change nothing else. If the plan has more, because something went wrong before, only the role is
# taken away, and the script fails. `terraform.sh init` comes before; takes what terraform.sh takes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

role=module.compute.aws_iam_role.database_setup
rights=('module\.compute\.aws_iam_role(_policy)?\.(take_on_)?database_setup\[0\]' 'aws_ssm_parameter\.after_boot\["database/setup-role"\]')
targets=(-target="$role" -target=module.compute.aws_iam_role_policy.database_setup -target=module.compute.aws_iam_role_policy.take_on_database_setup)

say() { printf 'lock-database: %s\n' "$*" >&2; }

main() {
  local status=0
  "$here/terraform.sh" state-has "${role}[0]" || status=$?
  case "$status" in
    0) ;;
    1) say 'there is no such role'; return ;;
    *) say 'whether the role is still there is not known: run the workflow again'; exit 1 ;;
  esac
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  "$here/terraform.sh" plan "$work/all" >/dev/null
  if python3 -B "$here/plan.py" only "$work/all/plan.json" "${rights[@]}"; then
    "$here/terraform.sh" apply "$work/all"
    say 'nothing can read the master password any more'
    return
  fi
  "$here/terraform.sh" plan "$work/role" "${targets[@]}" >/dev/null
  python3 -B "$here/plan.py" only "$work/role/plan.json" "${rights[@]}"
  "$here/terraform.sh" apply "$work/role"
  say 'nothing can read the master password any more; the rest of the plan is for another run'
  exit 1
}

main
