#!/usr/bin/env python3
"""Unpacks the archive of a release, and refuses everything a release does not have.

    unpack.py {binaries|pipelines} ARCHIVE DIRECTORY

tar would take links, devices, absolute paths and modes from the archive. A release needs none of them: its files lie side by
side, under names that are known, and who may read or run them is decided here.
"""
import os
import re
import shutil
import sys
import tarfile

BINARIES = {"etl-runner", "log-shipper", "ingest"}
PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.toml")
# What is unpacked is bounded before it is written: a small archive can hold a disk full of zeros.
MOST_FILES = 500
MOST_BYTES = {"binaries": 512 << 20, "pipelines": 16 << 20}
MODES = {"binaries": 0o755, "pipelines": 0o644}


class Refused(Exception):
    pass


def is_expected(kind, name):
    return name in BINARIES if kind == "binaries" else PIPELINE.fullmatch(name) is not None


def members(kind, archive):
    """Looks at all of them before the first is written."""
    found, total = {}, 0
    for member in archive:
        name = member.name.removeprefix("./")
        if member.isdir() and name in ("", "."):
            continue  # `tar -C directory -c .` begins with it
        if not is_expected(kind, name):
            raise Refused(f"a release of {kind} holds no {member.name!r}")
        if not member.isreg():
            raise Refused(f"{name} is a link, a directory or a device; a release holds files")
        if name in found:
            raise Refused(f"{name} is there twice")
        found[name] = member
        total += member.size
        if len(found) > MOST_FILES or total > MOST_BYTES[kind]:
            raise Refused(f"more than {MOST_FILES} files or {MOST_BYTES[kind] >> 20} MiB; no release is so large")
    missing = BINARIES - found.keys() if kind == "binaries" else set()
    if missing:
        raise Refused(f"there is no {', '.join(sorted(missing))} in it")
    if not found:
        raise Refused("there is no pipeline in it")
    return found


def unpack(kind, path, directory):
    with tarfile.open(path, "r:gz") as archive:
        for name, member in members(kind, archive).items():
            target = os.path.join(directory, name)
            with archive.extractfile(member) as source, open(target, "xb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())  # a release that is switched to has to survive a power cut
            os.chmod(target, MODES[kind])


def main():
    kind, path, directory = sys.argv[1:]
    try:
        unpack(kind, path, directory)
    except (Refused, tarfile.TarError, EOFError, OSError) as error:
        sys.exit(f"unpack: {path} is refused: {error}")


if __name__ == "__main__":
    main()
