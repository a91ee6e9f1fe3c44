"""What the scripts of this directory share: how they speak to GitHub's runner, and to AWS through its CLI.

Python's standard library only, because a runner has that before anything is installed.
"""
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.argv[0]).stem
REPOSITORY = Path(__file__).resolve().parent.parent.parent

# GitHub refuses a summary of more than 1 MiB, and a comment of more characters than this.
SUMMARY_BYTES = 1024 * 1024
COMMENT_CHARACTERS = 65_535


class Stop(Exception):
    """Ends the script with a message for the person, who need not see where in the code that was."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class AwsError(Exception):
    """What the AWS CLI said. `code` is AWS's own, such as AccessDenied, or empty where the CLI itself failed."""

    def __init__(self, command, message):
        super().__init__(f"aws {command}: {message}")
        found = re.search(r"An error occurred \((\w+)\)", message)
        self.code = found.group(1) if found else ""

    @property
    def is_denied(self):
        return self.code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


def run_main(main):
    """Runs `main`, which returns an exit code or nothing."""
    try:
        sys.exit(main(sys.argv[1:]) or 0)
    except Stop as stop:
        say(stop)
        annotate(str(stop))
        sys.exit(stop.code)
    except AwsError as error:
        say(error)
        annotate(str(error))
        sys.exit(4 if error.is_denied else 1)


def say(message):
    print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)


def in_github():
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(message, kind="error"):
    """An error or a notice that GitHub shows above the log."""
    if in_github():
        escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::{kind} title={PROGRAM}::{escaped}", flush=True)


def notice(message):
    say(message)
    annotate(message, "notice")


def print_foreign(title, text):
    """Prints what somebody else wrote. The runner obeys lines that begin with `::`, so it is told not to listen meanwhile."""
    if not text.strip():
        return
    if not in_github():
        print(f"--- {title}\n{text.rstrip()}", flush=True)
        return
    token = secrets.token_hex(16)
    print(f"::group::{title}\n::stop-commands::{token}\n{text.rstrip()}\n::{token}::\n::endgroup::", flush=True)


def setting(name, default=None):
    """A variable of the environment. GitHub hands on variables that nobody has set as empty ones."""
    value = os.environ.get(name) or default
    if value is None:
        raise Stop(2, f"{name} is not set; docs/ci-cd.md says where each variable comes from")
    return value


def project():
    return checked(setting("PROJECT_NAME", "aqueduct"), r"[a-z][a-z0-9-]{1,20}[a-z0-9]", "PROJECT_NAME")


def environment():
    return checked(setting("ENVIRONMENT"), "dev|stage|prod", "ENVIRONMENT")


def checked(value, pattern, name):
    if not re.fullmatch(pattern, value):
        raise Stop(2, f"{name} is {value!r}, which is not of the form {pattern}")
    return value


def aws(*arguments):
    """One command of the AWS CLI; its JSON, or {} where it answers nothing."""
    command = " ".join(arguments[:2])
    try:
        done = subprocess.run(["aws", *arguments, "--output", "json"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, env={**os.environ, "AWS_PAGER": ""}, check=False)
    except FileNotFoundError:
        raise Stop(1, "the AWS CLI is missing; GitHub's runners have it, elsewhere: pip install awscli") from None
    if done.returncode != 0:
        raise AwsError(command, done.stderr.strip())
    return json.loads(done.stdout) if done.stdout.strip() else {}


def read_parameter(name):
    """Of this environment; None where there is none, or nothing has been written yet."""
    try:
        value = aws("ssm", "get-parameter", "--name", f"/{project()}/{environment()}/{name}")["Parameter"]["Value"]
    except AwsError as error:
        if error.code == "ParameterNotFound":
            return None
        raise
    return None if value == "none" else value


def write_parameter(name, value):
    aws("ssm", "put-parameter", "--name", f"/{project()}/{environment()}/{name}", "--type", "String", "--overwrite", "--value", value)


def write_summary(text):
    """Adds to the page that GitHub shows of the run; prints it elsewhere."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        print(text, flush=True)
        return
    taken = os.path.getsize(path) if os.path.exists(path) else 0
    with open(path, "a", encoding="utf-8") as file:
        file.write(shorten_bytes(text, SUMMARY_BYTES - taken - 1) + "\n")


def shorten_bytes(text, limit):
    data = text.encode()
    if len(data) <= limit:
        return text
    note = "\n\n… cut: GitHub takes no more than 1 MiB\n"
    return data[:max(0, limit - len(note.encode()))].decode(errors="ignore") + note


def write_output(name, value):
    """A value that later steps and jobs read as steps.….outputs."""
    value = str(value)
    if "\n" in value:
        raise Stop(1, f"the output {name} has more than one line")
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}={value}\n")
    else:
        print(f"{name}={value}", flush=True)


def cell(value):
    """Text in a table of Markdown, where nothing of it is markup."""
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", str(value))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#@!])", r"\\\1", text)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def fence(text, language=""):
    """A block of code that its own text cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def run_url():
    if not os.environ.get("GITHUB_RUN_ID"):
        return ""
    return f"{setting('GITHUB_SERVER_URL', 'https://github.com')}/{setting('GITHUB_REPOSITORY')}/actions/runs/{setting('GITHUB_RUN_ID')}"
