#!/usr/bin/env python3
"""Checks a CSV file of this repository with its pipeline, and puts it into the data bucket, where the next load finds it.

    upload_csv.py FILE PIPELINE

PIPELINE is a name in the directory PIPELINES, which is pipelines/ of this checkout unless it is set; the workflow sets it to those that the
host has, because the load uses them. Nothing is uploaded unless the check passes; ends with the exit code of `ingest` then. Output `object`
is the key below the store, for the load that follows. INGEST is the program (ingest). Needs PROJECT_NAME, ENVIRONMENT, AWS_REGION and the
upload role.

A file comes from the repository, where it was reviewed; never from a URL: what is behind one can be another file each time, and
whoever fills in a form could point it anywhere. Larger files go from a laptop: `ingest upload` with the same role.
"""
import json
import subprocess
from pathlib import Path

import load_report
from workflow import REPOSITORY, Stop, cell, checked, environment, print_foreign, project, read_parameter, run_main, say, setting, table, \
    write_output, write_summary


def file_of(name):
    """A regular file inside of this checkout, reached without a link that leads out of it."""
    path = (REPOSITORY / name).resolve()
    if not name or not path.is_relative_to(REPOSITORY.resolve()) or ".git" in path.relative_to(REPOSITORY.resolve()).parts:
        raise Stop(2, f"{name!r} is not a path in this repository, such as seed-data/customers/customers-clean.csv")
    if not path.is_file():
        raise Stop(2, f"there is no file {name} in this repository, at the branch that the workflow was started on")
    return path


def pipeline_of(name):
    name = checked(name.removesuffix(".toml").removeprefix("pipelines/"), r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "PIPELINE")
    directory = Path(setting("PIPELINES", str(REPOSITORY / "pipelines")))
    path = directory / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in directory.glob("*.toml")))
        new = "; one that is new has to be deployed first (workflow: Deploy)" if directory != REPOSITORY / "pipelines" else ""
        raise Stop(2, f"there is no pipeline {name}; there are: {there}{new}")
    return path


def ingest(*arguments):
    """Its result, and its exit code."""
    program = setting("INGEST", "ingest")
    try:
        done = subprocess.run([program, *arguments, "--json"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise Stop(1, f"{program} cannot be run: {error.strerror}; INGEST names another") from None
    print_foreign(f"ingest {arguments[0]}", done.stderr)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        raise Stop(done.returncode or 1, f"ingest {arguments[0]} gave no result (exit {done.returncode})") from None
    return document, done.returncode


def stored_as(store, uri):
    prefix = store.rstrip("/") + "/"
    if not uri.startswith(prefix):
        raise Stop(1, f"{uri} is not below {store}")
    return uri.removeprefix(prefix)


def main(arguments):
    if len(arguments) != 2:
        raise Stop(2, "usage: upload_csv.py FILE PIPELINE")
    path, pipeline = file_of(arguments[0]), pipeline_of(arguments[1])

    document, code = ingest("check", str(path), "--pipeline", str(pipeline), "--limit", "25")
    write_summary(load_report.check_report(document, code))
    if code:
        raise Stop(code, f"{arguments[0]} was not uploaded: its check ended with {load_report.explain(code)}")

    bucket = read_parameter("data-bucket")
    if bucket is None:
        raise Stop(1, f"there is no environment {project()} {environment()} in this region: the parameter data-bucket is missing")
    store = f"s3://{bucket}/incoming"
    document, code = ingest("upload", str(path), "--pipeline", str(pipeline), "--store", store)
    if code:
        messages = [error["message"] for error in document.get("errors", [])]
        messages += [file["error"]["message"] for file in document.get("files", []) if file.get("error")]
        write_summary(f"## ❌ Not uploaded\n\n{cell('; '.join(messages) or load_report.explain(code))}\n")
        raise Stop(code, f"{arguments[0]} was not uploaded: {load_report.explain(code)}")
    file = document["files"][0]
    key = stored_as(store, file["object"])
    version = file.get("version", "as it was: the same bytes are there already")
    rows = [("object", file["object"]), ("version", version.removeprefix("v:")), ("bytes", file["bytes"]), ("sha256", file["sha256"]),
            ("outcome", file["outcome"])]
    write_summary(f"## ✅ In the data bucket\n\n{table(('', ''), rows)}\n")
    write_output("object", key)
    write_output("version", version.removeprefix("v:"))
    say(f"{file['object']}: {file['outcome']}, version {version}")


if __name__ == "__main__":
    run_main(main)
