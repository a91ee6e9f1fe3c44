#!/usr/bin/env python3
"""Writes the tables of variables and outputs into the READMEs of modules and stacks, from their .tf files.

    tables.py            writes them
    tables.py --check    says which are not as the files are, and exits with 1
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- tables: made by infra/tables.py -->", "<!-- end of tables -->"


def blocks(text, kind):
    """Name and body of each top-level block of a kind."""
    return re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', text, re.M | re.S)


def attribute(body, name):
    """The value of an attribute as it is written, or None. A value over several lines becomes one."""
    found = re.search(rf"^  {name}\s*=\s*(.*?)(?=^  \w+\s*=|^  \w+ \{{|^\s*$|\Z)", body, re.M | re.S)
    return re.sub(r"\s+", " ", re.sub(r"\s+#.*", "", found[1])).strip() if found else None


def cell(text):
    return text.replace("|", "\\|")


def tables(directory):
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, body in blocks((directory / "variables.tf").read_text(), "variable"):
        default = attribute(body, "default")
        lines.append(
            f"| `{name}` | `{cell(attribute(body, 'type'))}` | {'required' if default is None else f'`{cell(default)}`'} "
            f"| {cell(attribute(body, 'description')[1:-1])} |"
        )
    lines += ["", "| output | meaning |", "|---|---|"]
    for name, body in blocks((directory / "outputs.tf").read_text(), "output"):
        lines.append(f"| `{name}` | {cell(attribute(body, 'description')[1:-1])} |")
    return "\n".join(lines)


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for readme in sorted(HERE.glob("modules/*/README.md")) + sorted(HERE.glob("stacks/*/README.md")):
        text = readme.read_text()
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            sys.exit(f"{readme}: no place for the tables; write {BEGIN} and {END}")
        new = f"{before}{BEGIN}\n{tables(readme.parent)}\n{END}{after}"
        if new != text:
            stale.append(str(readme.relative_to(HERE)))
            if not check:
                readme.write_text(new)
    if check and stale:
        sys.exit(f"not as the .tf files are, run infra/tables.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
