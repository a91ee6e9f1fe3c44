#!/usr/bin/env python3
"""Makes a page of what `etl-runner run --json` or `ingest check --json` said: what was loaded, what was set aside and why.

    load_report.py FILE [EXIT CODE]

Prints Markdown. There is no cell value in it, because the programs give none: codes, fields and lines find the record.
"""
import json
import sys
from pathlib import Path

from workflow import Stop, cell, fence, run_main, table

MOST_LOADS = 100
MOST_REJECTS = 25

# docs/operations.md says more of each.
EXIT_CODES = {
    0: "done",
    1: "failed; nothing of the failed load was committed",
    2: "wrong usage, or a mistake in a pipeline file or a setting; nothing was loaded",
    3: "the data was refused: repair the file or the pipeline",
    4: "credentials missing or wrong, or no permission",
    5: "some were loaded and some failed; each says why",
    6: "verify found differences",
    75: "temporary or busy: run it again later",
    130: "stopped by a signal; run it again",
    143: "stopped: by a signal, or because it took too long. Nothing of it is committed; run it again",
}


def explain(code):
    return f"exit {code}: {EXIT_CODES.get(code, 'not one of the documented codes; the log of the step says more')}"


def read(path):
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Stop(1, f"{path} holds no result: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != "etl.run/1":
        raise Stop(1, f'{path} is no document of the schema "etl.run/1"')
    return document


def outcome_of(load):
    text = load["outcome"].replace("_", " ")
    if load["outcome"] == "skipped":
        text += {"failed": ": it failed before, and waits for somebody", "undone": ": it was undone", "too_old": ": too old"}.get(
            load.get("reason"), f": {load.get('reason', '')}")
    return text


def loads_of(document):
    return [load for pipeline in document.get("pipelines", []) for load in pipeline.get("loads", [])]


def run_report(document, code):
    loads = loads_of(document)
    counts = {name: sum(load["counts"][name] for load in loads) for name in ("read", "loaded", "rejected", "filtered", "duplicates")}
    failed = [load for load in loads if load["outcome"] == "failed"]
    mark = "✅" if code == 0 else "❌"
    parts = [f"## {mark} {sentence(loads, counts)}", f"{cell(explain(code))}"]
    if loads:
        rows = [(load["key"], load["table"], outcome_of(load), load.get("load") or "", *(load["counts"][name] for name in counts))
                for load in loads[:MOST_LOADS]]
        parts.append(table(("object", "table", "outcome", "load", "read", "loaded", "rejected", "filtered", "duplicates"), rows))
        if len(loads) > MOST_LOADS:
            parts.append(f"… and {len(loads) - MOST_LOADS} more; `etl-runner loads` lists them.")
    for load in failed:
        parts.append(problem(f"{load['key']} was not loaded", load["error"], load.get("help")))
    parts += [problem(error["message"], "\n".join(error.get("causes", [])), error.get("help"), error.get("details"))
              for error in document.get("errors", [])]
    rejects = [(load["key"], reject) for load in loads for reject in load["first_rejects"]]
    parts += reject_parts(rejects, sum(total["count"] for load in loads for total in load["reject_totals"]))
    notes = [(load["key"], note) for load in loads for note in load["notes"]]
    if notes:
        parts.append(table(("object", "note"), notes[:MOST_LOADS]))
    return "\n\n".join(part for part in parts if part) + "\n"


def sentence(loads, counts):
    if not loads:
        return "no object was taken"
    outcomes = {}
    for load in loads:
        outcomes[load["outcome"].replace("_", " ")] = outcomes.get(load["outcome"].replace("_", " "), 0) + 1
    text = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    noun = "object" if len(loads) == 1 else "objects"
    return f"{len(loads)} {noun}: {text} · {counts['read']:,} records: {counts['loaded']:,} loaded, {counts['rejected']:,} rejected"


def problem(title, text, help_lines, details=None):
    parts = [f"**{cell(title)}**", cell(text or ""), fence(details) if details else "", "\n".join(f"- {cell(line)}" for line in help_lines or [])]
    return "\n\n".join(part for part in parts if part)


def reject_parts(rejects, total):
    if not rejects:
        return []
    rows = [(key, reject["line"], reject["field"] or "", reject["code"], reject["message"]) for key, reject in rejects[:MOST_REJECTS]]
    shown = "" if total <= len(rows) else f": the first {len(rows)} of {total:,}"
    parts = [f"### Rejects{shown}", table(("object", "line", "field", "code", "reason"), rows)]
    if total > len(rows):
        parts.append("`etl-runner rejects list LOAD` shows all, `etl-runner rejects export LOAD` gives the records themselves.")
    return parts


def check_report(document, code):
    """Of `ingest check`, before anything is uploaded."""
    parts = [f"## {'✅' if code == 0 else '❌'} Check", cell(explain(code))]
    files = document.get("files", [])
    rows = [(Path(file["file"]).name, file.get("records", ""), file.get("good", ""), file.get("rejected", "")) for file in files]
    if rows:
        parts.append(table(("file", "records", "good", "rejected"), rows))
    for file in files:
        if file.get("error"):
            parts.append(problem(file["error"]["message"], "\n".join(file["error"].get("causes", [])), file["error"].get("help")))
        if file.get("over_limit"):
            parts.append(f"**{cell(over_limit(file['over_limit']))}**")
        rejects = [(Path(file["file"]).name, reject) for reject in file.get("first_rejects", [])]
        parts += reject_parts(rejects, sum(total["count"] for total in file.get("reject_totals", [])))
    parts += [problem(error["message"], "\n".join(error.get("causes", [])), error.get("help"), error.get("details"))
              for error in document.get("errors", [])]
    return "\n\n".join(part for part in parts if part) + "\n"


def over_limit(value):
    return value if isinstance(value, str) else f"more rejects than the pipeline allows ({json.dumps(value)})"


def report(document, code):
    return run_report(document, code) if document.get("command") == "etl-runner run" else check_report(document, code)


def main(arguments):
    if len(arguments) not in (1, 2):
        raise Stop(2, "usage: load_report.py FILE [EXIT CODE]")
    document = read(arguments[0])
    sys.stdout.write(report(document, int(arguments[1]) if len(arguments) == 2 else document["exit"]))


if __name__ == "__main__":
    run_main(main)
