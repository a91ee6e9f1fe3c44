#!/usr/bin/env python3
"""What a release has to be before anybody sees it.

    release.py check TAG      the tag is v + the version of Cargo.toml, and the changelog has a dated section of it
    release.py notes TAG      prints that section

"""
import re
import sys
import tomllib

from workflow import REPOSITORY, Stop, run_main, say, setting
from pathlib import Path


def root():
    return Path(setting("REPOSITORY_ROOT", str(REPOSITORY)))


def version_of(tag):
    version = tomllib.loads((root() / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    if tag != f"v{version}":
        raise Stop(1, f"the tag is {tag} and Cargo.toml says {version}: raise the version, commit, and tag that commit v{version}")
    # The lock file is what a build with --locked believes.
    for package in tomllib.loads((root() / "Cargo.lock").read_text(encoding="utf-8"))["package"]:
        if package["name"] in ("etl-runner", "ingest", "log-shipper") and package["version"] != version:
            raise Stop(1, f"Cargo.lock has {package['name']} {package['version']} and not {version}: run cargo check and commit Cargo.lock")
    return version


def section_of(version):
    text = (root() / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## \[{re.escape(version)}\] - (.+)$", text, re.MULTILINE)
    if not found:
        raise Stop(1, f"CHANGELOG.md has no section ## [{version}] - DAY")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found.group(1)):
        raise Stop(1, f"CHANGELOG.md says that {version} is {found.group(1)!r}: write the day of the release there")
    rest = text[found.end():]
    following = re.search(r"^## \[", rest, re.MULTILINE)
    notes = rest[:following.start()] if following else rest
    if not notes.strip():
        raise Stop(1, f"the section of {version} in CHANGELOG.md is empty")
    return notes.strip() + "\n"


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in ("check", "notes"):
        raise Stop(2, "usage: release.py {check|notes} TAG")
    version = version_of(arguments[1])
    notes = section_of(version)
    if arguments[0] == "notes":
        sys.stdout.write(notes)
    else:
        say(f"{arguments[1]} is the version of Cargo.toml and of Cargo.lock, and the changelog has its section")


if __name__ == "__main__":
    run_main(main)
