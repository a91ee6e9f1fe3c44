#!/usr/bin/env python3
"""Packs files side by side into an archive that is the same to the byte whenever it is packed, by one zlib.

    pack.py ARCHIVE FILE…

ARCHIVE ends in .tar.gz or .zip. Its digest is written beside it, as ARCHIVE.sha256, for `sha256sum --check`. Links are refused:
an archive must hold what was built, not a path.
"""
import gzip
import hashlib
import io
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

from workflow import Stop, run_main, say


def mode(path):
    """Programs may be run by everybody, other files read: whatever the umask was."""
    with path.open("rb") as file:
        head = file.read(4)
    return 0o755 if head[:4] == b"\x7fELF" or head[:2] in (b"#!", b"MZ") or head[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe") else 0o644


def pack_tar(files):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in files:
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            member.mode = mode(path)
            with path.open("rb") as file:
                archive.addfile(member, file)
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)


def pack_zip(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.name, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, on Windows, too: the modes below are its own
            member.external_attr = (stat.S_IFREG | mode(path)) << 16
            archive.writestr(member, path.read_bytes())
    return packed.getvalue()


def main(arguments):
    if len(arguments) < 2:
        raise Stop(2, "usage: pack.py ARCHIVE FILE…")
    archive, files = Path(arguments[0]), sorted((Path(name) for name in arguments[1:]), key=lambda path: path.name)
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise Stop(1, f"{path} is not a file")
    if len({path.name for path in files}) != len(files):
        raise Stop(1, "two files have the same name")
    if archive.name.endswith(".tar.gz"):
        data = pack_tar(files)
    elif archive.name.endswith(".zip"):
        data = pack_zip(files)
    else:
        raise Stop(2, f"{archive} ends in neither .tar.gz nor .zip")
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    Path(f"{archive}.sha256").write_text(f"{digest}  {archive.name}\n", encoding="utf-8", newline="\n")
    say(f"{archive}: {len(files)} files, {len(data)} bytes, sha256 {digest}")


if __name__ == "__main__":
    run_main(main)
