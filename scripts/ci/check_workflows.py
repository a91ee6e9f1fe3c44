#!/usr/bin/env python3
"""The rules of this project for workflows, and shellcheck on every script in them. Run by check-workflows.sh, whose Python has ruamel.yaml.

    check_workflows.py DIRECTORY SHELLCHECK
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

# A longer script belongs into scripts/ci, where it is tested.
MOST_LINES = 5
# A workflow that changes an environment must not be cancelled by the next; one that only looks may be.
CHANGES_SOMETHING = re.compile(r"scripts/ci/(terraform\.sh apply|teardown\.sh|ship\.sh|deploy\.py|lock-database\.sh|run_job\.py|upload_csv\.py)")
# A label that GitHub does not have leaves a job waiting for a day, and no linter here knows those of today.
RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel", "windows-2025"}
# Where these roles are to be used: in GitHub environments whose names end like this. The others: in those that are called dev, stage and prod.
ENDS = {"PLAN": "-plan", "TEARDOWN": "-teardown"}
USES = re.compile(r"^\s*(?:- )?uses:\s*(\S+)(?:\s+#\s*(\S+))?\s*$")


def may_be_skipped(job, directory):
    """By its own condition, or in a workflow that it calls by one of a job there."""
    if "if" in job:
        return True
    called = directory / "workflows" / job.get("uses", "").rpartition("/")[2]
    return "uses" in job and called.is_file() and any("if" in each for each in YAML(typ="safe").load(called)["jobs"].values())


def runners(job):
    """The labels of a job, by its matrix where that has them."""
    label = str(job.get("runs-on"))
    found = re.fullmatch(r"\$\{\{ matrix\.([\w-]+) \}\}", label)
    if not found:
        return {label}
    matrix = job.get("strategy", {}).get("matrix", {})
    return {str(each.get(found.group(1))) for each in matrix.get("include", [])} | {str(each) for each in matrix.get(found.group(1), [])}


class Check:
    def __init__(self, directory, shellcheck):
        self.directory, self.shellcheck = Path(directory), shellcheck
        self.findings, self.scripts, self.uses = [], 0, 0
        self.pins = {}
        for line in (self.directory / "action-pins.txt").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                name, commit, version = line.split()
                self.pins[name] = (commit, version)

    def find(self, path, message):
        self.findings.append(f"{path}: {message}")

    def run(self):
        workflows = sorted(self.directory.glob("workflows/*.yml"))
        actions = sorted(self.directory.glob("actions/*/action.yml"))
        used = set()
        for path in (*workflows, *actions):
            used |= self.check_uses(path)
            document = YAML(typ="safe").load(path)
            if path in workflows:
                self.check_workflow(path, document)
            else:
                self.check_steps(path, document["runs"]["steps"], "bash")
        for name in sorted(self.pins.keys() - used):
            self.find(self.directory / "action-pins.txt", f"{name} is used nowhere")
        for finding in self.findings:
            print(finding, file=sys.stderr)
        print(f"workflows: {self.uses} uses of pinned actions, {self.scripts} scripts")
        return 1 if self.findings else 0

    def check_uses(self, path):
        used = set()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = USES.match(line)
            if not found or found.group(1).startswith("./"):
                continue
            self.uses += 1
            name, _, commit = found.group(1).partition("@")
            where = f"{path}:{number}"
            used.add(name)
            if not re.fullmatch("[0-9a-f]{40}", commit):
                self.find(where, f"{name} is not pinned to a commit")
            elif name not in self.pins:
                self.find(where, f"{name} is not among the actions of action-pins.txt")
            elif self.pins[name] != (commit, found.group(2)):
                self.find(where, f"{name} is {commit[:12]}… # {found.group(2)}, and action-pins.txt says {self.pins[name][0][:12]}… # {self.pins[name][1]}")
        return used

    def check_workflow(self, path, document):
        if document.get("permissions") != {}:
            self.find(path, "permissions: {} is missing at the top; each job asks for what it needs")
        shell = document.get("defaults", {}).get("run", {}).get("shell")
        if shell != "bash":
            self.find(path, "defaults: {run: {shell: bash}} is missing at the top; without it GitHub runs bash without pipefail")
        for name, job in document["jobs"].items():
            where = f"{path}: job {name}"
            if "permissions" not in job:
                self.find(where, "it names no permissions, so it has none; say which it needs")
            self.check_needs(where, document["jobs"], job)
            if "uses" in job:
                if job.get("secrets") == "inherit":
                    self.find(where, "secrets: inherit hands on all of them; name those it needs")
                continue
            if "timeout-minutes" not in job:
                self.find(where, "timeout-minutes is missing; GitHub's own is six hours")
            for label in sorted(runners(job) - RUNNERS):
                self.find(where, f"there is no runner {label} in RUNNERS of check_workflows.py; does GitHub have it?")
            scripts = self.check_steps(where, job["steps"], job.get("defaults", {}).get("run", {}).get("shell", "bash"))
            if any(CHANGES_SOMETHING.search(script) for script in scripts):
                self.check_change(where, document, job)
            self.check_login(where, job)

    def check_needs(self, where, jobs, job):
        """After a job that was skipped, GitHub skips what needs it, unless its condition says otherwise in words."""
        needs = job.get("needs", [])
        for name in [needs] if isinstance(needs, str) else needs:
            if may_be_skipped(jobs.get(name, {}), self.directory) and "cancelled()" not in str(job.get("if", "")):
                self.find(where, f"{name} may be skipped, or a job in it, so this needs an if: with !cancelled() and needs.{name}.result")

    def check_change(self, where, document, job):
        concurrency = job.get("concurrency") or document.get("concurrency")
        if not isinstance(concurrency, dict) or concurrency.get("cancel-in-progress") is not False:
            self.find(where, "it changes an environment, so it needs a concurrency group with cancel-in-progress: false")
        else:
            if "environment" not in str(concurrency["group"]):
                self.find(where, "its concurrency group does not name the environment")
            if concurrency.get("queue") != "max":
                self.find(where, "its concurrency group needs queue: max; without, GitHub drops the run that waits when a third comes")
        if "environment" not in job:
            self.find(where, "it changes an environment, so it has to be bound to one, where approvals are")

    def check_login(self, where, job):
        """The roles trust environments of GitHub, and their secrets are there, too."""
        logs_in = any("aws-login" in step.get("uses", "") for step in job["steps"])
        if logs_in and "environment" not in job:
            self.find(where, "it logs in to AWS, so it has to name the environment that the role trusts")
        if logs_in and job.get("permissions", {}).get("id-token") != "write":
            self.find(where, "it logs in to AWS, so it needs id-token: write")
        end = re.search(r"(-[a-z]+)?$", str(job.get("environment", ""))).group()
        for kind in sorted(set(re.findall(r"\bvars\.AWS_ROLE_([A-Z]+)", str(job["steps"])))):
            if end != ENDS.get(kind, ""):
                self.find(where, f"AWS_ROLE_{kind} is not for the environment of this job, whose name ends in '{end}' and not in '{ENDS.get(kind, '')}'")

    def check_steps(self, where, steps, shell):
        scripts = []
        for number, step in enumerate(steps, 1):
            at = f"{where}: step {number} ({step.get('name') or step.get('uses') or step.get('id') or 'run'})"
            if step.get("uses", "").startswith("actions/checkout@") and step.get("with", {}).get("persist-credentials") is not False:
                self.find(at, "persist-credentials: false is missing; the token would stay in .git")
            if "run" not in step:
                continue
            script = step["run"]
            scripts.append(script)
            self.scripts += 1
            if "${{" in script:
                self.find(at, "an expression becomes part of the script; hand it over through env:")
            if len(script.strip().splitlines()) > MOST_LINES:
                self.find(at, f"it has more than {MOST_LINES} lines; put it into scripts/ci, with a test")
            for called in re.findall(r"scripts/ci/[\w.-]+|infra/[\w./-]+\.(?:sh|py)", script):
                program = Path(__file__).resolve().parent.parent.parent / called
                if not program.is_file() or not program.stat().st_mode & 0o100:
                    self.find(at, f"{called} is not there, or may not be run")
            self.run_shellcheck(at, script, step.get("shell", shell))
        return scripts

    def run_shellcheck(self, at, script, shell):
        if shell != "bash":
            self.find(at, f"its shell is {shell}; use bash")
            return
        with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
            # GitHub runs it with these.
            file.write(f"#!/usr/bin/env bash\nset -eo pipefail\n{script}\n")
            file.flush()
            done = subprocess.run([self.shellcheck, "--format=gcc", file.name], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            self.find(at, done.stdout.replace(file.name, "the script").strip())


if __name__ == "__main__":
    sys.exit(Check(*sys.argv[1:]).run())
