#!/usr/bin/env python3
"""What a run ended with, when pipelines without an object do not count.

    verdict.py CODE RESULT

RESULT is the document of `etl-runner run --json`, CODE its exit code. Prints the code to end with.
"""
import json
import sys


def verdict(code, result):
    if any(not error["message"].startswith("no object matches ") for error in result.get("errors", [])):
        return code
    if not result.get("errors"):
        return code
    left_alone = False
    for pipeline in result["pipelines"]:
        if pipeline.get("unlisted"):
            return code
        for load in pipeline["loads"]:
            outcome = load["outcome"]
            if outcome == "failed":
                return code
            left_alone = left_alone or (outcome == "skipped" and load.get("reason") == "failed")
    # A load that failed before still waits for somebody.
    return 3 if left_alone else 0


def main():
    code, path = int(sys.argv[1]), sys.argv[2]
    try:
        with open(path, encoding="utf-8") as file:
            print(verdict(code, json.load(file)))
    except (OSError, ValueError, KeyError, TypeError):
        print(code)  # what is not understood is not forgiven


if __name__ == "__main__":
    main()
