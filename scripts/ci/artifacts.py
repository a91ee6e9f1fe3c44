#!/usr/bin/env python3
"""Releases in the artifact bucket.

    artifacts.py find   {binaries|pipelines} ID             output here=true or false: are all of its archives there?
                                                            none: there is no environment
    artifacts.py upload {binaries|pipelines} ID DIRECTORY   puts the archives of DIRECTORY there
    artifacts.py fetch  {binaries|pipelines} ID DIRECTORY   gets them, and checks their digests
    artifacts.py program NAME DIRECTORY                     gets a program of the release that the hosts run, for this machine, after
                                                            verify-provenance.sh has asked who built it
    artifacts.py current pipelines DIRECTORY                gets the pipelines that the hosts run, unpacked

An ID names one content for ever: what is there is never written over, so a host that comes up later gets the bytes that were
tested. Needs PROJECT_NAME, ENVIRONMENT, AWS_REGION and the deploy role.
"""
import hashlib
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from workflow import REPOSITORY, AwsError, Stop, aws, environment, notice, project, read_parameter, run_main, say, setting, write_output

ARCHIVES = {
    "binaries": ["aqueduct-x86_64-linux-musl.tar.gz", "aqueduct-aarch64-linux-musl.tar.gz"],
    "pipelines": ["pipelines.tar.gz"],
}


def find_bucket():
    bucket = read_parameter("artifact-bucket")
    if bucket is None:
        raise Stop(1, f"there is no environment {project()} {environment()} in this region: the parameter artifact-bucket is missing; "
                      "make it first (workflow: Create all the AWS infrastructure)")
    return bucket


def key(kind, release, archive):
    return f"{kind}/{release}/{archive}"


def stored_digest(bucket, name):
    """The digest that was noted when it was put there; None where nothing is."""
    try:
        digest = aws("s3api", "head-object", "--bucket", bucket, "--key", name)["Metadata"].get("sha256", "")
    except AwsError as error:
        if error.code in ("404", "NoSuchKey") or "(404)" in str(error):
            return None
        if error.is_denied or "(403)" in str(error):
            raise Stop(4, f"S3 answers 403 for s3://{bucket}/{name}, and for a key that is missing, too, unless the role may list the bucket. Look at "
                          "three things: s3:ListBucket on the bucket, without a condition, and s3:GetObject on binaries/* and pipelines/* of the deploy "
                          "role (infra/modules/identity; apply infra/stacks/github again), and the bucket's own policy") from None
        raise
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise Stop(1, f"s3://{bucket}/{name} has no digest beside it, so nobody can say what it is; delete it and deploy again")
    return digest


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find(kind, release):
    """An environment may be listed before it is made, or after its teardown: then there is nothing that a push could be deployed to, which is
    no failure. Who starts a deploy by hand means one that is there."""
    bucket = read_parameter("artifact-bucket")
    if bucket is None and setting("GITHUB_EVENT_NAME", "") == "push":
        notice(f"there is no environment {project()} {environment()} in {setting('AWS_REGION', 'this region')}, so nothing is deployed. Create all the AWS "
               "infrastructure makes it, of the commit that it was started on: if that is under way, start Deploy when it is done")
        write_output("here", "none")
        return
    bucket = bucket or find_bucket()  # which says what to do first
    missing = [archive for archive in ARCHIVES[kind] if stored_digest(bucket, key(kind, release, archive)) is None]
    say(f"{kind} {release}: " + (f"not in s3://{bucket}: {', '.join(missing)}" if missing else f"in s3://{bucket} already"))
    write_output("here", "false" if missing else "true")


def upload(bucket, kind, release, directory):
    for archive in ARCHIVES[kind]:
        path = directory / archive
        if not path.is_file():
            raise Stop(1, f"{path} is missing; a release of {kind} has {', '.join(ARCHIVES[kind])}")
        noted = Path(f"{path}.sha256").read_text(encoding="utf-8").split()[0]
        if digest_of(path) != noted:
            raise Stop(1, f"{path} is not what its .sha256 says: it changed on the way here")
        put(bucket, key(kind, release, archive), path, noted)


def put(bucket, name, path, digest):
    there = stored_digest(bucket, name)
    if there == digest:
        say(f"s3://{bucket}/{name} is there already")
    elif there:
        # Two builds of the same sources can differ, by a newer linker say. What was deployed first counts.
        say(f"s3://{bucket}/{name} is there already, of another build ({there[:12]}…, and not {digest[:12]}…); that one stays")
    else:
        aws("s3api", "put-object", "--bucket", bucket, "--key", name, "--body", str(path), "--checksum-algorithm", "SHA256",
            "--content-type", "application/gzip", "--metadata", f"sha256={digest},commit={setting('GITHUB_SHA', 'none')}")
        say(f"put s3://{bucket}/{name}, {path.stat().st_size} bytes, sha256 {digest}")


def get(bucket, name, path):
    noted = stored_digest(bucket, name)
    if noted is None:
        raise Stop(1, f"s3://{bucket}/{name} is not there")
    path.parent.mkdir(parents=True, exist_ok=True)
    aws("s3api", "get-object", "--bucket", bucket, "--key", name, str(path))
    if digest_of(path) != noted:
        path.unlink()
        raise Stop(1, f"s3://{bucket}/{name} is not what its digest says; nothing of it is used")
    Path(f"{path}.sha256").write_text(f"{noted}  {path.name}\n", encoding="utf-8")
    return path


def fetch(bucket, kind, release, directory):
    for archive in ARCHIVES[kind]:
        path = get(bucket, key(kind, release, archive), directory / archive)
        say(f"{path}: sha256 {digest_of(path)}")


def deployed(kind):
    """ID and digest of the release that the hosts run."""
    noted = (read_parameter(f"release/{kind}") or "").split()
    if len(noted) != 2:
        raise Stop(1, f"no {kind} were deployed to {environment()} yet; deploy first (workflow: Deploy)")
    return noted


def program(bucket, name, directory):
    """So that a file is checked by the very version that will load it."""
    release, _ = deployed("binaries")  # the digest is that of the hosts' processor, which may be another than this one's
    archive = f"aqueduct-{platform.machine()}-linux-musl.tar.gz"
    packed = get(bucket, key("binaries", release, archive), directory / archive)
    # It is going to run in a job that can take on roles: whoever can write into the bucket must not decide what.
    if subprocess.run([Path(__file__).resolve().parent / "verify-provenance.sh", directory], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode:
        packed.unlink()
        raise Stop(1, f"nobody vouches for {archive} of {release}; what was said stands above. It was not unpacked")
    with tarfile.open(packed, "r:gz") as files:
        member = files.getmember(name)
        if not member.isreg():
            raise Stop(1, f"{name} is no file in {archive}")
        target = directory / name
        target.write_bytes(files.extractfile(member).read())
    target.chmod(0o755)
    packed.unlink()
    say(f"{target} of {release}")


def current_pipelines(bucket, directory):
    """And with the very pipelines. They have no attestation: the host takes those with the digest of the parameter, and no others."""
    release, digest = deployed("pipelines")
    archive = ARCHIVES["pipelines"][0]
    packed = get(bucket, key("pipelines", release, archive), directory / archive)
    try:
        if digest_of(packed) != digest:
            raise Stop(1, f"{archive} of {release} in s3://{bucket} is not what was deployed; nothing of it is used. Deploy again (workflow: Deploy)")
        # As the host does it: names of pipelines, plain files, nothing else.
        done = subprocess.run([sys.executable, REPOSITORY / "infra/host/unpack.py", "pipelines", packed, directory], stdin=subprocess.DEVNULL,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    finally:
        packed.unlink()
    if done.returncode:
        raise Stop(1, done.stdout.strip())
    say(f"{directory}: pipelines of {release}")


USAGE = ("usage: artifacts.py find {binaries|pipelines} ID | {upload|fetch} {binaries|pipelines} ID DIRECTORY | "
         "program {etl-runner|ingest|log-shipper} DIRECTORY | current pipelines DIRECTORY")


def main(arguments):
    command, what, *rest = [*arguments, "", ""] if len(arguments) < 2 else arguments
    if command == "program" and what in ("etl-runner", "ingest", "log-shipper") and len(rest) == 1:
        program(find_bucket(), what, Path(rest[0]))
        return
    if command == "current" and what == "pipelines" and len(rest) == 1:
        current_pipelines(find_bucket(), Path(rest[0]))
        return
    if what not in ARCHIVES or len(rest) != {"find": 1, "upload": 2, "fetch": 2}.get(command):
        raise Stop(2, USAGE)
    release = rest[0]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", release):
        raise Stop(2, f"{release!r} is no ID of a release")
    if command == "find":
        find(what, release)
    elif command == "upload":
        upload(find_bucket(), what, release, Path(rest[1]))
    else:
        fetch(find_bucket(), what, release, Path(rest[1]))


if __name__ == "__main__":
    run_main(main)
