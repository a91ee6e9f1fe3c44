#!/usr/bin/env python3
"""Checks that the documentation is true: links lead somewhere, and commands print what is shown.

    scripts/check-docs.py            README.md, CONTRIBUTING.md and all of docs/; after `make demo` or `make test`

Three kinds of things are looked at; everything else is prose.

- Links to files of the project, and to headings in them.
- The block after `<!-- demo -->`: what `make demo` prints.
- Blocks that begin with ```console run: the commands after `$ ` are run one after the other, in a directory of their own
  for each document, with the binaries of target/release. Blocks that begin with ```LANGUAGE file=PATH are written there
  first. Commands and their output stand as in a terminal, standard error included.

Times, dates, ids, hashes and directories differ between runs and are not compared. A line `…` stands for any number of
lines, a line that ends in ` …` for one that goes on.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"
FENCE = re.compile(r"^```(.*)$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DEMO = "<!-- demo -->"
# Ends a file in the shell's script, and the output of a command.
END = "end-of-what-check-docs-wrote"
# What differs from run to run, and what stands for it.
VOLATILE = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\b\d+(\.\d+)? (ms|s)\b( · [\d.,]+ ([KMG]i)?B/s)?"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( UTC)?"), "<date>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\([0-9a-f]{12}\)"), "(<hash>)"),
    (re.compile(r"\bf:\d+:\d+:\d+"), "<version>"),
    (re.compile(r"file:///\S*?/\.aqueduct/"), "file:///<here>/.aqueduct/"),
]


class Document:
    """A Markdown file: its prose without code, and its blocks as (marker, info, first line, lines)."""

    def __init__(self, path):
        self.path = path
        self.prose, self.blocks, self.headings = [], [], set()
        block, marker = None, ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fence = FENCE.match(line)
            if block is not None:
                if fence:
                    block = None
                else:
                    block.append(line)
            elif fence:
                block = []
                self.blocks.append((marker, fence[1].strip(), number + 1, block))
                marker = ""
            else:
                self.prose.append((number, re.sub(r"`[^`]*`", "``", line)))
                if line.startswith("#"):
                    self.headings.add(slug(line.lstrip("#")))
                if line.strip():
                    marker = line.strip()


def slug(heading):
    """The anchor GitHub gives a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def check_links(documents):
    for path, document in documents.items():
        for number, line in document.prose:
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                there = (path.parent / name).resolve() if name else path
                if not there.exists():
                    yield f"{shown(path)}:{number}: {target} leads nowhere"
                elif anchor and there in documents and anchor not in documents[there].headings:
                    yield f"{shown(path)}:{number}: {target}: there is no such heading"


def shown(path):
    return path.relative_to(ROOT)


def clean_environment():
    """Nothing of the person's own stores, databases and accounts."""
    ours = ("AQUEDUCT_", "DATABASE_", "AWS_", "PG")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return dict(env, PATH=f"{BIN}{os.pathsep}{env['PATH']}", LC_ALL="C.UTF-8", NO_COLOR="1")


def check_demo(document):
    for marker, _, number, expected in document.blocks:
        if marker != DEMO:
            continue
        done = subprocess.run(["scripts/demo.sh"], cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
        if done.returncode:
            yield f"{shown(document.path)}:{number}: the demo ends with {done.returncode}:\n{done.stderr}"
            continue
        yield from compare(document.path, number, expected[1:], done.stdout.splitlines())


def check_commands(document):
    steps = []
    with tempfile.TemporaryDirectory(prefix="aqueduct-docs-") as name:
        folder = Path(name)
        for part in ("pipelines", "scripts", "seed-data"):
            shutil.copytree(ROOT / part, folder / part)
        script = ["set +e"]
        for _, info, number, lines in document.blocks:
            language, _, rest = info.partition(" ")
            if rest.startswith("file="):
                script.append(f"mkdir -p \"$(dirname '{rest[5:]}')\"; cat > '{rest[5:]}' <<'{END}'")
                script += [*lines, END]
            elif (language, rest) == ("console", "run"):
                for number, command, expected in commands(number, lines):
                    steps.append((number, command, expected))
                    # In this very shell, so that `export` and `$?` mean what they mean at a prompt.
                    script.append("{ (exit ${code:-0})\n%s\n} 2>&1 </dev/null; code=$?; printf '\\n%s\\n'" % (command, END))
        if not steps:
            return
        done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, env=clean_environment(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    outputs = done.stdout.split(f"\n{END}\n")
    for (number, command, expected), output in zip(steps, outputs):
        yield from compare(document.path, number, expected, output.splitlines(), command)
    if len(outputs) != len(steps) + 1:
        yield f"{shown(document.path)}: the shell stopped before the last command:\n{outputs[-1]}"


def commands(number, lines):
    """(line, command, what it prints) of a block."""
    found = []
    for offset, line in enumerate(lines):
        if line.startswith("$ "):
            found.append((number + offset, line[2:], []))
        elif found and found[-1][1].endswith("\\") and not found[-1][2]:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line}", [])
        elif found:
            found[-1][2].append(line)
    return found


def compare(path, number, expected, printed, command="make demo"):
    """Finds the pieces between the lines `…` one after the other."""
    printed = [normalise(line) for line in printed]
    while printed and not printed[-1]:
        printed.pop()
    pieces, piece = [], []
    for line in expected:
        if line.strip() == "…":
            pieces.append(piece)
            piece = []
        else:
            piece.append(normalise(line))
    pieces.append(piece)
    while pieces[-1] and not pieces[-1][-1]:
        pieces[-1].pop()
    at = 0
    for index, piece in enumerate(pieces):
        first, last = 0, len(printed) - len(piece)
        # Without `…` before it a piece stands at the start, without one behind it at the end.
        places = [place for place in range(at, last + 1)
                  if (index > 0 or place == first) and (index < len(pieces) - 1 or place == last)]
        at = next((place + len(piece) for place in places if fits(piece, printed[place:])), None)
        if at is None:
            yield "\n".join([f"{shown(path)}:{number}: `{command}` does not print this:", *indented(piece), "but:",
                             *indented(printed)])
            return


def fits(piece, printed):
    def same(expected, line):
        return line.startswith(expected[:-2]) if expected.endswith(" …") else line == expected
    return all(same(expected, line) for expected, line in zip(piece, printed))


def normalise(line):
    for pattern, word in VOLATILE:
        line = pattern.sub(word, line)
    return line.rstrip()


def indented(lines):
    return [f"    {line}" for line in lines]


def main():
    for name in ("ingest", "etl-runner"):
        if not (BIN / name).exists():
            sys.exit(f"{shown(BIN / name)} is missing: run `make demo` first")
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md")),
             *sorted(ROOT.glob("seed-data/*.md"))]
    documents = {path: Document(path) for path in paths}
    problems = list(check_links(documents))
    for document in documents.values():
        problems += check_demo(document)
        problems += check_commands(document)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"docs: links and commands of {len(documents)} files are right")


if __name__ == "__main__":
    main()
