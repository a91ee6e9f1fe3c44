#!/usr/bin/env python3
"""Figures as tables: as text for the terminal, as Markdown for results.md.

    python3 benches/table.py figures.json     what `run.py --json figures.json` wrote, as Markdown
"""

import json
import statistics
import sys

# Wall times that differ by less say nothing on a machine that does other things, too.
CLOSE = 0.25


def median(runs, key):
    values = [run[key] for run in runs if run[key] is not None]
    return statistics.median(values) if values else None


def ratio(runs, base, key):
    """Median of the ratios within each round that both took part in."""
    other = {run["round"]: run[key] for run in base}
    ratios = [run[key] / other[run["round"]] for run in runs if run[key] is not None and other.get(run["round"])]
    return statistics.median(ratios) if ratios else None


def number(value, digits=2):
    return "-" if value is None else f"{value:,.{digits}f}"


def rate(case, wall):
    if case["unit"] == "objects":
        return f"{wall / case['amount'] * 1000:,.1f}"
    return f"{case['amount'] / wall:,.0f}"


def rows(case):
    """The table of a case: a header, and a line for each contestant."""
    small = case["unit"] == "objects"
    digits = 3 if small and case["amount"] == 1 else 2
    lines = [["", "rounds", "wall s", "min-max", "client CPU s", "server CPU s", "peak RSS MiB",
              "ms an object" if small else f"{case['unit']}/s"]]
    base = next((name for name in case["against"] if case["contestants"].get(name)), None)
    if base:
        lines[0] += [f"wall ÷ {base}", f"server CPU ÷ {base}"]
    for name, runs in case["contestants"].items():
        if not runs:
            continue
        walls = [run["wall"] for run in runs]
        wall = statistics.median(walls)
        line = [name, str(len(runs)), number(wall, digits), f"{min(walls):.{digits}f}-{max(walls):.{digits}f}",
                number(median(runs, "client_cpu"), digits), number(median(runs, "server_cpu")),
                number(max(run["rss_mib"] for run in runs), 1), rate(case, wall)]
        if base:
            line += [number(ratio(runs, case["contestants"][base], key)) for key in ("wall", "server_cpu")]
        lines.append(line)
    return lines


def verdicts(case):
    """Ours beside each of the programs it is compared with."""
    for name, runs in case["contestants"].items():
        for base in case["against"]:
            other = case["contestants"].get(base)
            if not name.startswith("aqueduct") or name == base or not runs or not other:
                continue
            wall, server, cpu = (ratio(runs, other, key) for key in ("wall", "server_cpu", "cpu"))
            if wall is None:
                continue
            cpus = f"all CPU {number(cpu)}" + (f", server CPU {number(server)}" if server is not None else "")
            if max(wall, 1 / wall) <= 1 + CLOSE:
                yield f"{name} ÷ {base}: wall {wall:.2f}, within {CLOSE * 100:.0f} %, so compare CPU seconds: {cpus}"
            else:
                yield f"{name} ÷ {base}: wall {wall:.2f}, {'faster' if wall < 1 else 'slower'}; {cpus}"


def remarks(case):
    for name, text in case["remarks"].items():
        yield f"{name}: {text}"


def as_text(case):
    lines = rows(case)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    yield f"{case['name']}: {case['title']}"
    for line in lines:
        yield "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(line, widths)))
    yield from verdicts(case)
    yield from remarks(case)


def as_markdown(case):
    yield f"**{case['name']}**: {case['title']}"
    yield ""
    for position, line in enumerate(rows(case)):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        if position == 0:
            yield "|" + "---|" * len(line)
    yield ""
    for text in (*verdicts(case), *remarks(case)):
        yield f"- {text}"


def machine_line(figures):
    machine = figures["machine"]
    return (f"{figures['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}, {machine['system']}")


def versions_line(figures):
    return ", ".join(f"{name} {version}" for name, version in figures["versions"].items())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as source:
        figures = json.load(source)
    print(f"{machine_line(figures)}.\n\n{versions_line(figures)}.")
    for case in figures["cases"]:
        print("\n" + "\n".join(as_markdown(case)))


if __name__ == "__main__":
    main()
