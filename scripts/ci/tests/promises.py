#!/usr/bin/env python3
"""What the scripts behind the workflows promise. Run by scripts/ci/test.sh."""
import fnmatch
import functools
import gzip
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from world import ACCOUNT, ARTIFACTS, CI, DATA, REGION, REPOSITORY, World  # noqa: E402

import harness  # noqa: E402  (of infra/host/tests)
from harness import check, check_has, keep_promises, promise, run  # noqa: E402

FIXTURES = HERE / "fixtures"
STATE = f"aqueduct-tfstate-{ACCOUNT}-{REGION}"


def script(name):
    return REPOSITORY / "scripts" / name


# --- the state's bucket ---

@promise("state bucket: whoever may, makes it with all its settings; again, it is found, and only the backend is written", needed=True)
def state_bucket_twice(world):
    backend = world.directory / "backend.hcl"
    first = world.ok("state-bucket.sh", backend)
    check_has(first.stderr, f"made the bucket {STATE}")
    check_has(backend.read_text(), f'bucket       = "{STATE}"', 'key          = "platform/dev.tfstate"', "use_lockfile = true")
    text = backend.read_text()
    second = world.ok("state-bucket.sh", backend)
    check_has(second.stderr, f"the bucket {STATE} is here")
    check(backend.read_text() == text, backend.read_text())
    check(world.aws("s3api", "get-bucket-versioning", "--bucket", STATE)["Status"] == "Enabled", "no versions")


@promise("state bucket: a role that may use its environment's part alone gets the same backend, and touches no setting")
def state_bucket_by_a_role(world):
    stub = world.directory / "limited"
    stub.mkdir()
    # The emulator knows no conditions of a policy, so S3's answer to a role that may list one prefix only is played.
    (stub / "aws").write_text("#!/bin/sh\necho \"aws $*\" >>\"$CALLS\"\ncase \"$*\" in *head-bucket*|*put-bucket*|*create-bucket*) "
                              "echo 'An error occurred (403) when calling the HeadBucket operation: Forbidden' >&2; exit 254;; esac\n"
                              f"exec {os.environ['AWSCLI']}/bin/aws \"$@\"\n")
    (stub / "aws").chmod(0o755)
    world.forget_calls()
    backend = world.directory / "limited.hcl"
    world.ok("state-bucket.sh", backend, PATH=f"{stub}:{world.environment()['PATH']}")
    check(backend.read_text() == (world.directory / "backend.hcl").read_text(), backend.read_text())
    check(not any("put-" in call or "create-" in call for call in world.calls()), world.calls())


@promise("state bucket: a role that may not make it is told who makes it, with the command")
def state_bucket_needs_a_person(world):
    stub = world.directory / "limited" / "aws"
    stub.write_text(stub.read_text().replace("*head-bucket*|", "").replace("operation: Forbidden", "operation: AccessDenied").replace("(403)", "(AccessDenied)"))
    done = world.refused(4, "state-bucket.sh", world.directory / "none.hcl", PATH=f"{stub.parent}:{world.environment()['PATH']}", PROJECT_NAME="other")
    check_has(done.stderr, "a person with administrator's rights makes the bucket, once: infra/bootstrap/bootstrap.sh dev --project other")


# --- releases ---

def make_environment(world):
    """What Terraform leaves behind, as far as deploys see it."""
    for bucket in (DATA, ARTIFACTS):
        world.emulator.make_bucket(bucket)
        world.aws("s3api", "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled")
    for name, value in {"data-bucket": DATA, "artifact-bucket": ARTIFACTS, "release/binaries": "none", "release/pipelines": "none", "host/ready": "none"}.items():
        world.emulator.put_parameter(f"/aqueduct/dev/{name}", value)
    tags = "ResourceType=instance,Tags=[{Key=project,Value=aqueduct},{Key=environment,Value=dev}]"
    image = world.aws("ec2", "describe-images", "--filters", "Name=architecture,Values=x86_64")["Images"][0]["ImageId"]
    made = world.aws("ec2", "run-instances", "--image-id", image, "--instance-type", "t3.micro", "--count", "2", "--tag-specifications", tags)
    world.hosts = sorted(each["InstanceId"] for each in made["Instances"])
    # Another environment's, which no command may reach.
    world.aws("ec2", "run-instances", "--image-id", image, "--instance-type", "t3.micro", "--count", "1", "--tag-specifications", tags.replace("dev", "prod"))
    world.emulator.put_parameter("/aqueduct/dev/host/instance-id", world.hosts[0])


def make_release(world, name, content):
    """Archives as _build-static.yml packs them, in a directory."""
    directory = world.directory / name
    directory.mkdir()
    for processor in ("x86_64", "aarch64"):
        programs = directory / processor
        programs.mkdir()
        for program in ("etl-runner", "ingest", "log-shipper"):
            (programs / program).write_text(f"#!/bin/sh\necho {program} {processor} {content}\n")
        world.ok("pack.py", directory / f"aqueduct-{processor}-linux-musl.tar.gz", *sorted(programs.iterdir()))
    return directory


@promise("pack: the same files give the same bytes, whatever their times, modes and order; links are refused; the digest stands beside it")
def pack_is_reproducible(world):
    directory = world.directory / "pack"
    directory.mkdir()
    for name, text in (("b", "two"), ("a", "#!/bin/sh\n")):
        (directory / name).write_text(text)
    world.ok("pack.py", directory / "one.tar.gz", directory / "a", directory / "b")
    os.utime(directory / "a", (1, 1))
    (directory / "b").chmod(0o600)
    world.ok("pack.py", directory / "two.tar.gz", directory / "b", directory / "a")
    check((directory / "one.tar.gz").read_bytes() == (directory / "two.tar.gz").read_bytes(), "the archives differ")
    run(["sha256sum", "--check", "--quiet", "one.tar.gz.sha256"], cwd=directory)
    with tarfile.open(directory / "one.tar.gz") as archive:
        check([(each.name, each.mode) for each in archive] == [("a", 0o755), ("b", 0o644)], archive.getmembers())
    world.ok("pack.py", directory / "one.zip", directory / "a")
    check(zipfile.ZipFile(directory / "one.zip").infolist()[0].external_attr >> 16 & 0o777 == 0o755, "modes in the zip")
    (directory / "link").symlink_to("/etc/passwd")
    check_has(world.refused(1, "pack.py", directory / "x.tar.gz", directory / "link").stderr, "is not a file")


@promise("pack: what it makes of three programs and of pipelines/ is what the host's unpack.py takes")
def pack_fits_the_host(world):
    directory = make_release(world, "fits", "1")
    world.ok("pack.py", directory / "pipelines.tar.gz", *sorted((REPOSITORY / "pipelines").glob("*.toml")))
    for kind, archive in (("binaries", "aqueduct-x86_64-linux-musl.tar.gz"), ("pipelines", "pipelines.tar.gz")):
        target = world.directory / f"unpacked-{kind}"
        target.mkdir()
        run([sys.executable, REPOSITORY / "infra/host/unpack.py", kind, directory / archive, target])
        check(any(target.iterdir()), "nothing was unpacked")


@promise("release ids: a change of pipelines/ alone changes its ID alone; a change of a crate the other; docs neither; a revert has the ID from before")
def release_ids(world):
    copy = world.directory / "repository"
    (copy / "scripts/ci").mkdir(parents=True)
    shutil.copy(CI / "release-ids.sh", copy / "scripts/ci/")
    for path, text in {"crates/a.rs": "1", "pipelines/a.toml": "1", "docs/a.md": "1", "Cargo.toml": 'version = "1.2.3"\n'}.items():
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_text(text)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    run(["git", "init", "-q"], cwd=copy)

    def ids(path=None, text=None):
        if path:
            (copy / path).write_text(text)
        run([*git, "add", "-A"], cwd=copy)
        run([*git, "commit", "-qm", "x", "--allow-empty"], cwd=copy)
        outputs = world.ok(copy / "scripts/ci/release-ids.sh", cwd=copy).outputs
        return outputs["binaries"], outputs["pipelines"]

    first = ids()
    check(re.fullmatch(r"1\.2\.3-[0-9a-f]{16}", first[0]) and re.fullmatch(r"pipelines-[0-9a-f]{16}", first[1]), first)
    check(ids("docs/a.md", "2") == first, "docs count")
    pipelines = ids("pipelines/a.toml", "2")
    check(pipelines[0] == first[0] and pipelines[1] != first[1], pipelines)
    crates = ids("crates/a.rs", "2")
    check(crates[0] != first[0] and crates[1] == pipelines[1], crates)
    check(ids("crates/a.rs", "1") == pipelines, "a revert has another ID")


@promise("artifacts: before there is an environment, the message says what to do first")
def artifacts_without_environment(world):
    for arguments in (("upload", "binaries", "x", FIXTURES), ("program", "ingest", FIXTURES), ("current", "pipelines", FIXTURES)):
        check_has(world.refused(1, "artifacts.py", *arguments).stderr, "make it first (workflow: Create all the AWS infrastructure)")
    # Its name may be listed before it is made, and after its teardown: a push is not red for that.
    check_has(world.refused(1, "artifacts.py", "find", "binaries", "x", GITHUB_EVENT_NAME="workflow_dispatch").stderr, "make it first")
    done = world.ok("artifacts.py", "find", "binaries", "x", GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="push")
    check(done.outputs == {"here": "none"}, done.outputs)
    check_has(done.stdout, "::notice title=artifacts::there is no environment aqueduct dev")
    for arguments in (("bogus", "binaries", "x"), ("bogus",), (), ("find", "binaries"), ("fetch", "binaries", "x"), ("program", "sh", "x"), ("current", "binaries", "x")):
        check_has(world.refused(2, "artifacts.py", *arguments, AWS_ENDPOINT_URL="http://127.0.0.1:9").stderr, "usage: artifacts.py find", "| program {etl-runner|")


@promise("artifacts: an upload puts both processors' archives under the contract's keys, with digest and commit; a second changes nothing", needed=True)
def artifacts_upload(world):
    make_environment(world)
    world.release = make_release(world, "r1", "r1")
    check(world.ok("artifacts.py", "find", "binaries", "r1").outputs == {"here": "false"}, "here already?")
    world.ok("artifacts.py", "upload", "binaries", "r1", world.release)
    check(world.ok("artifacts.py", "find", "binaries", "r1").outputs == {"here": "true"}, "not here?")
    for processor in ("x86_64", "aarch64"):
        head = world.aws("s3api", "head-object", "--bucket", ARTIFACTS, "--key", f"binaries/r1/aqueduct-{processor}-linux-musl.tar.gz")
        noted = (world.release / f"aqueduct-{processor}-linux-musl.tar.gz.sha256").read_text().split()[0]
        check(head["Metadata"] == {"sha256": noted, "commit": "1" * 40}, head["Metadata"])
    check_has(world.ok("artifacts.py", "upload", "binaries", "r1", world.release).stderr, "is there already")


@promise("artifacts: where S3 answers 403, which it also does for a missing key, the message says what to look at")
def artifacts_forbidden(world):
    world.front.denied = {"HeadObject"}
    check_has(world.refused(4, "artifacts.py", "find", "binaries", "r1").stderr, "S3 answers 403", "for a key that is missing, too", "s3:ListBucket on the bucket")
    world.front.reset()


@promise("artifacts: another build of the same ID never takes the place of the first, an archive that changed on the way is not uploaded")
def artifacts_are_immutable(world):
    other = make_release(world, "r1-again", "another linker")
    before = world.aws("s3api", "head-object", "--bucket", ARTIFACTS, "--key", "binaries/r1/aqueduct-x86_64-linux-musl.tar.gz")["VersionId"]
    check_has(world.ok("artifacts.py", "upload", "binaries", "r1", other).stderr, "of another build", "that one stays")
    after = world.aws("s3api", "head-object", "--bucket", ARTIFACTS, "--key", "binaries/r1/aqueduct-x86_64-linux-musl.tar.gz")["VersionId"]
    check(before == after, "it was written over")
    with (other / "aqueduct-x86_64-linux-musl.tar.gz").open("ab") as file:
        file.write(b"!")
    check_has(world.refused(1, "artifacts.py", "upload", "binaries", "r9", other).stderr, "it changed on the way here")


@promise("artifacts: what is fetched is compared with its digest, and nothing that differs is used")
def artifacts_fetch(world):
    world.ok("artifacts.py", "fetch", "binaries", "r1", world.directory / "fetched")
    check((world.directory / "fetched/aqueduct-x86_64-linux-musl.tar.gz").read_bytes()
          == (world.release / "aqueduct-x86_64-linux-musl.tar.gz").read_bytes(), "other bytes")
    world.aws("s3api", "put-object", "--bucket", ARTIFACTS, "--key", "pipelines/swapped/pipelines.tar.gz", "--body", str(FIXTURES / "loads.json"),
              "--metadata", f"sha256={'0' * 64}")
    done = world.refused(1, "artifacts.py", "fetch", "pipelines", "swapped", world.directory / "swapped")
    check_has(done.stderr, "is not what its digest says")
    check(not list((world.directory / "swapped").iterdir()), "it is still there")


@promise("provenance: every archive is asked for, and has to be of the one workflow, a runner of GitHub's, main or a tag v*; `off` is said aloud")
def provenance(world):
    world.ok("verify-provenance.sh", world.release, GH_ATTESTED="*")
    world.ok("verify-provenance.sh", world.release, GH_ATTESTED="*", GH_REF="refs/tags/v1.2.3")
    done = world.refused(1, "verify-provenance.sh", world.release, GH_ATTESTED="")
    check_has(done.stderr, "was not built by _build-attested.yml of acme/aqueduct")
    # Several attestations of the same bytes: one from the right place is enough.
    world.ok("verify-provenance.sh", world.release, GH_ATTESTED="*", GH_REF="refs/heads/topic refs/heads/main")
    for ref in ("refs/heads/topic", "refs/pull/1/merge", "refs/heads/v1", "refs/heads/main2", "refs/tags/x1", ""):
        check_has(world.refused(1, "verify-provenance.sh", world.release, GH_ATTESTED="*", GH_REF=ref).stderr, "another branch than main")
    check_has(world.ok("verify-provenance.sh", world.release, ATTESTATIONS="off").stderr, "is off")
    check_has(world.refused(1, "verify-provenance.sh", FIXTURES).stderr, "there is no archive")


# --- Run Command, deploys ---

@promise("deploy: runs deploy.sh with ID and digest on the tagged hosts alone, waits for each, prints what it said, then notes the release")
def deploy_succeeds(world):
    world.front.reset()
    world.front.script = {world.hosts[0]: ["unknown yet", "Pending", "InProgress", "InProgress"]}
    done = world.ok("deploy.py", "binaries", "r1", world.release, GITHUB_ACTIONS="true")
    digest = (world.release / "aqueduct-x86_64-linux-musl.tar.gz.sha256").read_text().split()[0]
    check([sorted(hosts) for hosts, *_ in world.front.sent] == [world.hosts], world.front.sent)
    check(world.front.sent[0][1] == f"bash /opt/aqueduct/host/deploy.sh binaries r1 {digest}", world.front.sent)
    check_has(done.stdout, f"deploy: binaries r1 {digest} on {world.hosts[0]}", f"on {world.hosts[1]}")
    check(world.emulator.parameter("/aqueduct/dev/release/binaries") == f"r1 {digest}", "the parameter")
    check_has(done.summary, world.hosts[0], "deployed")
    # A host's output is printed while the runner does not listen to commands.
    stop, line = done.stdout.index("::stop-commands::"), done.stdout.index("::error::a line that")
    check(stop < line < done.stdout.index("::endgroup::"), done.stdout)


@promise("deploy: a release that is not in the bucket reaches no host")
def deploy_unknown(world):
    world.front.reset()
    check_has(world.refused(1, "deploy.py", "binaries", "r7", world.release).stderr, "is not in the artifact bucket")
    check_has(world.refused(1, "deploy.py", "binaries", "r1", world.host).stderr, "nobody can say which bytes were verified")
    check(not world.front.sent, world.front.sent)


@promise("deploy: an archive in the bucket that notes another digest than was verified reaches no host")
def deploy_swapped(world):
    world.front.reset()
    key = "binaries/r1/aqueduct-x86_64-linux-musl.tar.gz"
    world.aws("s3api", "put-object", "--bucket", ARTIFACTS, "--key", key, "--body", str(FIXTURES / "loads.json"), "--metadata", f"sha256={'0' * 64}")
    check_has(world.refused(1, "deploy.py", "binaries", "r1", world.release).stderr, "is another (000000000000…) than was verified")
    check(not world.front.sent, world.front.sent)
    world.aws("s3api", "delete-object", "--bucket", ARTIFACTS, "--key", key)
    world.ok("artifacts.py", "upload", "binaries", "r1", world.release)


@promise("deploy: fails when the host went back, says so, and new hosts take the release from before")
def deploy_fails_on_all(world):
    world.front.reset()
    world.second = make_release(world, "r2", "r2")
    world.ok("artifacts.py", "upload", "binaries", "r2", world.second)
    before = world.emulator.parameter("/aqueduct/dev/release/binaries")
    world.front.environment = {"OUTCOMES": f"{world.hosts[0]}:r2:1 {world.hosts[1]}:r2:2"}
    done = world.refused(1, "deploy.py", "binaries", "r2", world.second)
    check_has(done.summary, "the release from before is the current one again", "refused before the switch", "New hosts take **r1**")
    check(world.emulator.parameter("/aqueduct/dev/release/binaries") == before, "the parameter was changed")
    check(len(world.front.sent) == 1, world.front.sent)


@promise("deploy: when only some hosts took it, those go back, too: hosts of one environment run the same")
def deploy_fails_on_some(world):
    world.front.reset()
    world.front.environment = {"OUTCOMES": f"{world.hosts[1]}:r2:1"}
    done = world.refused(1, "deploy.py", "binaries", "r2", world.second)
    check(len(world.front.sent) == 2 and world.front.sent[1][0] == [world.hosts[0]] and " binaries r1 " in world.front.sent[1][1], world.front.sent)
    check_has(done.summary, "went back to r1")


@promise("deploy: a command that never ends is given up, cancelled, and fails; so does one that timed out on the host or did not arrive")
def deploy_times_out(world):
    for state, says in (("for ever", "no end was reported in time"), ("ExecutionTimedOut", "longer than it may"), ("Undeliverable", "could not deliver")):
        world.front.reset()
        world.front.script = {host: ["InProgress", state] for host in world.hosts}
        done = world.refused(1, "deploy.py", "binaries", "r2", world.second, AQUEDUCT_COMMAND_SECONDS="2")
        check_has(done.stderr, says)
        check(len(world.front.cancelled) == (state == "for ever"), world.front.cancelled)
    world.front.reset()
    world.front.script = {host: ["for ever"] for host in world.hosts}
    world.front.denied = {"CancelCommand"}
    done = world.refused(1, "deploy.py", "binaries", "r2", world.second, AQUEDUCT_COMMAND_SECONDS="1")
    check_has(done.summary, "could not be cancelled: what runs on the host goes on running")
    world.front.reset()
    check_has(world.emulator.parameter("/aqueduct/dev/release/binaries"), "r1 ")


@promise("deploy: where nothing runs with the tags, or the role may not send, the message says so and the exit code tells which")
def deploy_without_hosts(world):
    check_has(world.refused(1, "deploy.py", "binaries", "r1", world.release, ENVIRONMENT="stage").stderr, "no running instance has the tags")
    world.front.reset()
    world.front.denied = {"SendCommand"}
    check_has(world.refused(4, "deploy.py", "binaries", "r1", world.release).stderr, "AccessDenied")
    world.front.reset()


@promise("ship: one command uploads, verifies, packs pipelines/ and deploys both; a change of pipelines/ alone needs no build")
def ship(world):
    world.front.reset()
    built = make_release(world, "r3", "r3")
    world.ok("ship.sh", "r3", "p3", built, GH_ATTESTED="*")
    kinds = [text.split()[2:4] for _, text, _ in world.front.sent]
    check(kinds == [["binaries", "r3"], ["pipelines", "p3"]], kinds)
    world.ok("ship.sh", "r3", "p4", GH_ATTESTED="*")
    check_has(world.emulator.parameter("/aqueduct/dev/release/pipelines"), "p4 ")
    check_has(world.emulator.parameter("/aqueduct/dev/release/binaries"), "r3 ")


@promise("ship: binaries that nobody vouches for reach no host, although they are in the bucket")
def ship_unattested(world):
    world.front.reset()
    world.refused(1, "ship.sh", "r3", "p5", GH_ATTESTED="")
    check(not world.front.sent, world.front.sent)


@promise("ship: pipelines in the bucket that are not those of this commit reach no host; the same ones packed by another zlib do")
def ship_pipelines(world):
    world.front.reset()
    files = sorted((REPOSITORY / "pipelines").glob("*.toml"))
    for name, some in (("p6", files[1:]), ("p7", files)):
        world.ok("pack.py", world.directory / name / "pipelines.tar.gz", *some)
        packed = world.directory / name / "pipelines.tar.gz"
        packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()), 1, mtime=0))
        Path(f"{packed}.sha256").write_text(run(["sha256sum", packed]).stdout)
        world.ok("artifacts.py", "upload", "pipelines", name, packed.parent)
    check_has(world.refused(1, "ship.sh", "r3", "p6", GH_ATTESTED="*").stderr, "are not the pipelines of this commit")
    check(not world.front.sent, world.front.sent)
    world.ok("ship.sh", "r3", "p7", GH_ATTESTED="*")
    check([text.split()[3:] for _, text, _ in world.front.sent][1] == ["p7", run(["sha256sum", packed]).stdout.split()[0]], world.front.sent)


@promise("host ready: waits for the signal of the right instance, and gives the reason when its first boot failed, or nothing came")
def host_ready(world):
    one, other = world.hosts
    write = lambda value: world.emulator.put_parameter("/aqueduct/dev/host/ready", value)  # noqa: E731
    write(f"{other} 2026-01-01T00:00:00Z ok")  # of the host before
    later = threading.Timer(1.5, write, [f"{one} 2026-01-02T00:00:00Z ok"])
    later.start()
    check_has(world.ok("host_ready.py", one).stderr, "is ready since 2026-01-02")
    later.join()
    check_has(world.ok("host_ready.py").stderr, f"{one} is ready")
    write(f"{one} 2026-01-03T00:00:00Z failed: packages")
    check_has(world.refused(1, "host_ready.py").stderr, "failed: packages", "user-data.log",
              f"aws ec2 get-console-output --latest --output text --instance-id {one}")
    check_has(world.refused(1, "host_ready.py", other, AQUEDUCT_READY_SECONDS="0.5").stderr, "has not said that it is ready within",
              f"aws ec2 get-console-output --latest --output text --instance-id {other}")


# --- loads ---

def load(world, fixture, code, *arguments, **more):
    world.front.reset()
    world.front.environment = {"RESULT": str(FIXTURES / fixture), "CODE": str(code)}
    return world.ci("run_job.py", *(arguments or ("customers",)), **more)


@promise("run: a load with rejects is green, and the summary has counts, first rejects with line, field and reason, and no value")
def run_with_rejects(world):
    done = load(world, "loaded-with-rejects.json", 0)
    check(done.returncode == 0, done.stderr)
    check_has(done.summary, "## ✅ 2 objects: 2 loaded · 65 records: 59 loaded, 6 rejected", "a date that is not in the calendar", "signup\\_date",
              "type-error", "customers/customers-dirty.csv")
    check([sorted(hosts) for hosts, *_ in world.front.sent] == [[world.hosts[0]]], "one host loads")


@promise("run: every documented exit code reaches the workflow, with what to do in the summary")
def run_fails(world):
    for fixture, code, *says in (
            ("refused.json", 3, "strict/prices.csv was not loaded", "more than 2 rejects", "repair the file", "not a number"),
            ("one-failed.json", 5, "1 loaded, 1 failed", "does not fit the pipeline", "some were loaded and some failed"),
            ("left-alone.json", 3, "it failed before, and waits for somebody"),
            ("no-object.json", 1, "no object matches", "ingest upload FILE.csv"),
            ("already-loaded.json", 0, "2 already loaded")):
        done = load(world, fixture, code)
        check(done.returncode == code, f"{fixture}: {done.returncode} {done.stderr}")
        check_has(done.summary, *says)
        check(("✅" in done.summary) == (code == 0), done.summary)


@promise("run: a result of 83,000 characters arrives whole through Run Command's 24,000, and its summary says how many it shows")
def run_large(world):
    done = load(world, "many.json", 0)
    check(done.returncode == 0, done.stderr)
    check_has(done.summary, "60 objects: 60 loaded", "60 loaded, 900 rejected", "the first 25 of 900")


@promise("run: names and keys from the form reach the host as they are, whatever is in them, and nothing of them is run")
def run_quotes(world):
    marker = world.directory / "pwned"
    key = f"a b/$(touch {marker})'\";`touch {marker}`&.csv"
    done = load(world, "already-loaded.json", 0, "customers", key)
    check(done.returncode == 0, done.stderr)
    check((world.host / "arguments").read_text().splitlines() == ["2", "customers", key], (world.host / "arguments").read_text())
    check(not marker.exists(), "it was run")


@promise("run: without a result (wrong form, no program) the step fails with the host's code and its words")
def run_without_result(world):
    done = load(world, "does-not-exist", 2)
    check(done.returncode == 2, done.returncode)
    check_has(done.summary, "No result", "run-job: loading through customers")
    world.front.reset()
    world.front.script = {world.hosts[0]: ["ExecutionTimedOut"]}
    check_has(world.refused(1, "run_job.py", "customers").stderr, "took longer than it may")


@promise("run: a load that is busy is tried again, for as long as is asked and no longer")
def run_busy(world):
    (world.host / "busy").write_text("1\n2\n")
    check(load(world, "loaded-with-rejects.json", 0, RETRY_SECONDS="30").returncode == 0, "it was not tried again")
    check(len(world.front.sent) == 3, len(world.front.sent))
    (world.host / "busy").write_text("1\n")
    done = load(world, "loaded-with-rejects.json", 0)
    check(done.returncode == 75, done.returncode)
    check_has(done.summary, "run it again later")


@promise("run over SSH: the host's key is given and not learnt, the private key is a file for nobody else and gone afterwards, the report is the same")
def run_over_ssh(world):
    world.forget_calls()
    more = {"TRANSPORT": "ssh", "EC2_HOST": "203.0.113.7", "EC2_PRIVATE_KEY": "a private key", "EC2_HOST_KEY": "203.0.113.7 ssh-ed25519 AAAA",
            "HOST_DIRECTORY": world.host, "RESULT": FIXTURES / "loaded-with-rejects.json", "AWS_ACCESS_KEY_ID": "", "TMPDIR": world.directory / "ssh-files"}
    more["TMPDIR"].mkdir()
    done = world.ok("run_job.py", "customers", "a b.csv", **more)
    call = json.loads(world.calls()[0])
    check(call["mode"] == "0o600" and call["key"] == "a private key\n" and call["strict"] == "yes" and call["host"] == "ubuntu@203.0.113.7", call)
    check(call["known"] == "203.0.113.7 ssh-ed25519 AAAA\n", call)
    check_has(done.summary, "59 loaded, 6 rejected")
    check(not list(more["TMPDIR"].iterdir()), "the key is still there")
    check_has(world.refused(2, "run_job.py", "customers", **{**more, "EC2_HOST": "-oProxyCommand=x"}).stderr, "EC2_HOST")
    check_has(world.refused(2, "run_job.py", "customers", **{**more, "EC2_HOST_KEY": ""}).stderr, "EC2_HOST_KEY is not set")


# --- uploads ---

def ingest(world):
    return {"INGEST": os.environ.get("INGEST") or world.stand_ins / "ingest"}


@promise("upload: a file is checked, stored below incoming/ where its pipeline looks, and the summary has the version that S3 gave")
def upload(world):
    world.front.reset()
    done = world.ok("upload_csv.py", "seed-data/customers/customers-clean.csv", "customers", **ingest(world))
    key = done.outputs["object"]
    check(key == "customers/customers-clean.csv", done.outputs)
    head = world.aws("s3api", "head-object", "--bucket", DATA, "--key", f"incoming/{key}")
    check(head["VersionId"] == done.outputs["version"], (head, done.outputs))
    check(head["ContentLength"] == (REPOSITORY / "seed-data/customers/customers-clean.csv").stat().st_size, head)
    check_has(done.summary, "Check", "In the data bucket", done.outputs["version"])


@promise("upload: a file that its pipeline refuses is not stored; the summary says why, and the exit code is ingest's")
def upload_refused(world):
    copy = copy_of_repository(world)
    (copy / "bad.csv").write_text("a,b\n1,2\n")
    done = world.ci(copy / "scripts/ci/upload_csv.py", "bad.csv", "customers", cwd=copy, **ingest(world))
    check(done.returncode == 3, f"{done.returncode} {done.stderr}")
    check_has(done.summary, "cannot be checked", "the header has no column")
    check("bad.csv" not in json.dumps(world.aws("s3api", "list-objects-v2", "--bucket", DATA)), "it was stored")


def copy_of_repository(world):
    copy = world.directory / "copy"
    if not copy.exists():
        (copy / "scripts").mkdir(parents=True)
        shutil.copytree(CI, copy / "scripts/ci", ignore=shutil.ignore_patterns("tests", "__pycache__"))
        shutil.copytree(REPOSITORY / "pipelines", copy / "pipelines")
    return copy


@promise("upload: paths out of the repository, links out of it, .git and pipelines that are none are refused")
def upload_paths(world):
    copy = copy_of_repository(world)
    (copy / "link.csv").symlink_to("/etc/hostname")
    (copy / ".git").mkdir()
    (copy / ".git/config").write_text("secret")
    for path in ("../outside.csv", "/etc/hostname", "link.csv", ".git/config", "missing.csv", "", "https://example.com/x.csv"):
        done = world.ci(copy / "scripts/ci/upload_csv.py", path, "customers", cwd=copy, **ingest(world))
        check(done.returncode == 2, f"{path}: {done.returncode} {done.stderr}")
    shutil.rmtree(copy / ".git")
    for name in ("../customers", "none", "a b"):
        done = world.ci(copy / "scripts/ci/upload_csv.py", "pipelines/customers.toml", name, cwd=copy, **ingest(world))
        check(done.returncode == 2, f"{name}: {done.returncode} {done.stderr}")


@promise("upload: the load that follows is reported, also when the host's timer was quicker")
def upload_and_load(world):
    document = json.loads((FIXTURES / "already-loaded.json").read_text())
    document["pipelines"][0]["loads"] = document["pipelines"][0]["loads"][1:]
    path = world.directory / "quicker.json"
    path.write_text(json.dumps(document))
    done = load(world, path, 0, "customers", "customers/customers-dirty.csv")
    check(done.returncode == 0, done.stderr)
    check_has(done.summary, "already loaded", "Load 2: loaded · 25 records: 19 loaded, 6 rejected", "a date that is not in the calendar")


@promise("upload: ingest comes from the release that the hosts run, and is not even unpacked where nobody vouches for it")
def program_of_the_release(world):
    check_has(world.refused(1, "artifacts.py", "program", "ingest", world.directory / "bin", GH_ATTESTED="").stderr, "nobody vouches for")
    world.refused(1, "artifacts.py", "program", "ingest", world.directory / "bin", GH_ATTESTED="*", GH_REF="refs/heads/topic")
    check(not (world.directory / "bin/ingest").exists(), "it is there")
    done = world.ok("artifacts.py", "program", "ingest", world.directory / "bin", GH_ATTESTED="*")
    check(run([world.directory / "bin/ingest"]).stdout == f"ingest {os.uname().machine} r3\n", done.stderr)
    check([path.name for path in (world.directory / "bin").iterdir() if not path.name.endswith(".sha256")] == ["ingest"], "more than the program")


@promise("upload: a file is checked with the pipeline that the host has, and not with another of this branch; without a deployed one, nothing is")
def pipelines_of_the_release(world):
    parameter, before = "/aqueduct/dev/release/pipelines", world.emulator.parameter("/aqueduct/dev/release/pipelines")
    pipelines = world.directory / "current"
    world.emulator.put_parameter(parameter, "none")
    check_has(world.refused(1, "artifacts.py", "current", "pipelines", pipelines).stderr, "deploy first (workflow: Deploy)")
    # What the hosts run has one pipeline less than this checkout, and another with less in it.
    files = world.directory / "deployed"
    files.mkdir()
    (files / "customers.toml").write_text("# as deployed\n")
    world.ok("pack.py", files / "pipelines.tar.gz", files / "customers.toml")
    world.ok("artifacts.py", "upload", "pipelines", "current", files)
    deployed = (files / "pipelines.tar.gz.sha256").read_text().split()[0]
    world.emulator.put_parameter(parameter, f"current {'0' * 64}")
    check_has(world.refused(1, "artifacts.py", "current", "pipelines", pipelines).stderr, "is not what was deployed")
    check(not list(pipelines.glob("*.toml")), "they are there")
    world.emulator.put_parameter(parameter, f"current {deployed}")
    world.ok("artifacts.py", "current", "pipelines", pipelines)
    check([path.name for path in pipelines.iterdir() if not path.name.endswith(".sha256")] == ["customers.toml"], "not what was deployed")
    seen = world.directory / "seen-by-ingest"
    seen.write_text('#!/bin/sh\nwhile [ "$1" != --pipeline ]; do shift; done\ncat "$2" >&2\nexit 3\n')
    seen.chmod(0o755)
    more = {"INGEST": seen, "PIPELINES": pipelines}
    check_has(world.refused(3, "upload_csv.py", "seed-data/customers/customers-clean.csv", "customers", **more).stdout, "# as deployed")
    check_has(world.refused(2, "upload_csv.py", "seed-data/runways/runways.csv", "runways", **more).stderr, "there is no pipeline runways; there are: customers", "deployed first")
    # A link in the archive is refused as the host refuses it.
    with tarfile.open(files / "pipelines.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("customers.toml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (files / "pipelines.tar.gz.sha256").write_text(run(["sha256sum", files / "pipelines.tar.gz"]).stdout)
    world.ok("artifacts.py", "upload", "pipelines", "linked", files)
    world.emulator.put_parameter(parameter, f"linked {(files / 'pipelines.tar.gz.sha256').read_text().split()[0]}")
    check_has(world.refused(1, "artifacts.py", "current", "pipelines", world.directory / "linked").stderr, "is refused: customers.toml is a link")
    world.emulator.put_parameter(parameter, before)


# --- plans ---

def change(address, actions, before=None, after=None, mode="managed"):
    return {"address": address, "mode": mode, "type": address.split("[")[0].split(".")[-2], "change": {
        "actions": actions, "before": before, "after": after, "after_unknown": {}, "before_sensitive": False, "after_sensitive": False}}


def write_plan(world, name, changes, text="the plan\n", **more):
    path = world.directory / f"{name}.json"
    path.write_text(json.dumps({"format_version": "1.2", "planned_values": {}, "resource_changes": changes, **more}))
    (world.directory / f"{name}.txt").write_text(text)
    return path, world.directory / f"{name}.txt"


def digest(world, *arguments, **more):
    return world.ok("plan.py", "digest", write_plan(world, "digest", *arguments, **more)[0]).stdout.strip()


@promise("plan: the digest is the same for the same changes, and another for any other change, value, order of replacement or output")
def plan_digest(world):
    create = change("aws_s3_bucket.a", ["create"], None, {"bucket": "a"})
    update = change("aws_db_instance.b", ["update"], {"size": 1}, {"size": 2})
    read = change("data.aws_ami.c", ["read"], None, {"id": 1}, mode="data")
    idle = change("aws_vpc.d", ["no-op"], {"cidr": 1}, {"cidr": 1})
    first = digest(world, [create, update])
    check(re.fullmatch("[0-9a-f]{64}", first), first)
    check(first == digest(world, [read, update, idle, create], timestamp="2026-01-01", terraform_version="9"), "what changes nothing counts")
    others = [[create], [create, change("aws_db_instance.b", ["update"], {"size": 1}, {"size": 3})], [create, change("aws_db_instance.b", ["delete", "create"], {"size": 1}, {"size": 2})],
              [create, change("aws_db_instance.b", ["create", "delete"], {"size": 1}, {"size": 2})], [create, update, change("aws_vpc.d", ["delete"], {"cidr": 1})]]
    digests = {digest(world, each) for each in others} | {digest(world, [create, update], output_changes={"a": {"actions": ["create"]}})}
    check(len(digests) == 6 and first not in digests, digests)


@promise("plan: what AWS goes on changing makes no plan stale: attributes that stay, that are only known afterwards, or of what is destroyed")
def plan_volatile(world):
    def database(actions, time, size=2, before=1, unknown=None, name="aqueduct-dev", **more):
        old = {"id": name, "size": before, "latest_restorable_time": time, "endpoints": [{"read": time}]}
        new = None if actions == ["delete"] else {**old, "size": size, **more}
        for key in unknown or {}:
            new.pop(key)
        each = change("module.database.aws_db_instance.this", actions, old, new)
        each["change"].update({"after_unknown": {"endpoints": [{}], **(unknown or {})}, "replace_paths": [["size"]] if "create" in actions else []})
        return digest(world, [each])

    seen = set()
    for arguments in ({"actions": ["update"]}, {"actions": ["update"], "unknown": {"latest_restorable_time": True}},
                      {"actions": ["delete", "create"], "unknown": {"latest_restorable_time": True, "endpoints": True, "id": True}}, {"actions": ["delete"]}):
        first = database(time="10:00", **arguments)
        check(first == database(time="10:05", **arguments), f"the time makes it stale: {arguments}")
        seen.add(first)
    check(len(seen) == 4, "these differ")
    base = database(["update"], "10:00")
    for other in ({"size": 3}, {"before": 0}, {"name": "other"}, {"public": True}, {"unknown": {"endpoints": True}}):
        check(database(["update"], "10:00", **other) != base, f"not noticed: {other}")


@promise("plan: the report names every change, warns of a database, bucket or host that goes, and its code block cannot be ended by the plan")
def plan_report(world):
    json_path, text = write_plan(world, "report", [change("module.database.aws_db_instance.this", ["delete", "create"]), change("aws_vpc.v", ["create"])],
                                 "a\n```\n</details>\n")
    done = world.ok("plan.py", "report", json_path, text)
    check_has(done.stdout, "Plan: 1 to create, 1 to replace", "aws\\_vpc.v", "**replaces the database**", "````text\na\n```\n")
    check_has(world.ok("plan.py", "report", *write_plan(world, "empty", [])).stdout, "Nothing to change")
    check_has(world.refused(1, "plan.py", "report", FIXTURES / "loads.json", text).stderr, "is no plan")


@promise("plan: the report warns of what lets data go without a destroy: fewer days of versions, backups or logs, no protection, another bucket policy")
def plan_lets_go(world):
    def rules(**days):
        return {"rule": [{"id": name, "status": "Enabled", "expiration": [{"days": 0, "expired_object_delete_marker": True}],
                          "noncurrent_version_expiration": [{"noncurrent_days": number}]} for name, number in days.items()]}

    def warned(address, before, after, actions=("update",)):
        out = world.ok("plan.py", "report", *write_plan(world, "lets-go", [change(address, list(actions), before, after)])).stdout
        return [line for line in out.splitlines() if line.startswith("> ⚠️")]

    def with_rule(**more):
        return {"rule": [{**rules(a=9)["rule"][0], **more}]}

    versioning = "aws_s3_bucket_versioning.v"
    lifecycle, log, database, policy = ("aws_s3_bucket_lifecycle_configuration.l", "aws_cloudwatch_log_group.g", "aws_db_instance.d", "aws_s3_bucket_policy.p")
    closed = {"backup_retention_period": 7, "deletion_protection": True}
    for says, address, before, after in (
            ("sooner", lifecycle, rules(a=90), rules(a=30)), ("sooner", lifecycle, rules(a=90), rules(a=90, b=7)),
            ("sooner", lifecycle, {"rule": [{**rules(a=9)["rule"][0], "status": "Disabled"}]}, rules(a=9)),
            ("sooner", lifecycle, with_rule(filter=[{"prefix": "tmp/"}]), with_rule(filter=[{"prefix": ""}])),
            ("sooner", lifecycle, with_rule(expiration=[]), with_rule(expiration=[{"date": "2027-01-01"}])),
            ("sooner", lifecycle, with_rule(noncurrent_version_expiration=[{"noncurrent_days": 9, "newer_noncurrent_versions": "10"}]), with_rule()),
            ("old versions", versioning, {"versioning_configuration": [{"status": "Enabled"}]}, {"versioning_configuration": [{"status": "Suspended"}]}),
            ("no snapshot", database, {**closed, "skip_final_snapshot": False}, {**closed, "skip_final_snapshot": True}),
            ("fewer days", log, {"retention_in_days": 30}, {"retention_in_days": 7}), ("fewer days", log, {"retention_in_days": 0}, {"retention_in_days": 365}),
            ("backups", database, closed, {**closed, "backup_retention_period": 1}), ("backups", database, closed, {**closed, "backup_retention_period": 0}),
            ("protection", database, closed, {**closed, "deletion_protection": False}), ("who may", policy, {"policy": "a"}, {"policy": "b"}), ("who may", policy, {"policy": "a"}, {})):
        lines = warned(address, before, after)
        check(len(lines) == 1 and says in lines[0] and address.split(".")[1] in lines[0], (address, before, after, lines))
        again = warned(address, after, before)
        # Another filter, the one or the other way round, is of other objects.
        check(not again or address == policy or "filter" in str(before), again)
        made = [change(address, ["create"], None, after), change("aws_s3_bucket.b", ["create"], None, {})]
        check("⚠️" not in world.ok("plan.py", "report", *write_plan(world, "made", made)).stdout, "what is made with its bucket is no loss")
    check(warned(lifecycle, None, rules(a=1), ["create"]), "the bucket was there before the rule")
    check(not warned(lifecycle, rules(a=30), rules(b=90)), "a rule by another name, and later")
    check(not warned(database, closed, {**closed, "instance_class": "db.t4g.small"}), "another class lets nothing go")
    check_has(warned(policy, {"policy": "a"}, None, ["delete"])[0], "destroys the rule who may")


@promise("plan: of 20,000 lines and 2,000 changes a comment is at most 65,535 characters as GitHub counts them, a summary 1 MiB; both keep begin and end")
def plan_comment(world):
    changes = [change(f"aws_ssm_parameter.p[{number}]", ["create"]) for number in range(2000)]
    text = "first line\n" + "".join(f"  + line {number} \U0001f4be {'x' * 60}\n" for number in range(20000)) + "Plan: 2000 to add, 0 to change, 0 to destroy.\n"
    done = world.ok("plan.py", "comment", *write_plan(world, "long", changes, text), GITHUB_RUN_ID="7")
    length = len(done.stdout.encode("utf-16-le")) // 2
    check(60_000 < length <= 65_535, length)
    check_has(done.stdout, "first line", "Plan: 2000 to add", "lines are left out", "https://github.com/acme/aqueduct/actions/runs/7", "Plan: 2000 to create", "Digest of the changes")
    whole = world.ok("plan.py", "report", world.directory / "long.json", world.directory / "long.txt").stdout
    check(900_000 < len(whole.encode()) <= 1024 * 1024 and "lines are left out" in whole, "GitHub takes no summary of more than 1 MiB")
    text = "".join(f"  + line {number} {'x' * 60}\n" for number in range(5000))
    check(world.ok("plan.py", "report", *write_plan(world, "whole", changes, text)).stdout.count("  + line ") == 5000, "the summary is not whole")
    short = world.ok("plan.py", "comment", *write_plan(world, "short", changes[:1], "one line\n")).stdout
    check("left out" not in short, short)
    monster = world.ok("plan.py", "comment", *write_plan(world, "monster", [change(f"aws_x.{'y' * 900}{number}", ["create"]) for number in range(200)], "z" * 100_000)).stdout
    check(len(monster) <= 65_535, len(monster))


@promise("plan: a step that is for one thing refuses a plan that has more")
def plan_only(world):
    role = change("module.compute.aws_iam_role.database_setup[0]", ["delete"], {})
    host = change("module.compute.aws_instance.this", ["delete", "create"], {})
    pattern = r"module\.compute\.aws_iam_role(_policy)?\.(take_on_)?database_setup\[0\]"
    world.ok("plan.py", "only", write_plan(world, "only", [role])[0], pattern)
    check_has(world.refused(1, "plan.py", "only", write_plan(world, "only", [role, host])[0], pattern).stderr, "replace module.compute.aws_instance.this")
    check_has(world.refused(1, "plan.py", "no-loss", write_plan(world, "only", [host])[0]).stderr, "only changes settings")


@promise("comment: there is one on a pull request; it is found on a later page and updated, and somebody else's with the same mark is left alone")
def comment(world):
    github = world.github
    github.comments = [github.thing(1, "<!-- aqueduct: plan-dev -->\nnot ours", login="mallory"), *(github.thing(number, "chat", login="a") for number in range(2, 7))]
    path = world.directory / "comment.md"
    for text in ("first", "second"):
        path.write_text(text)
        world.ok("github.py", "comment", "plan-dev", "12", path)
    ours = [each["body"] for each in github.comments if each["user"]["login"] == "github-actions[bot]"]
    check(ours == ["<!-- aqueduct: plan-dev -->\nsecond"], ours)
    check(github.comments[0]["body"].endswith("not ours"), "somebody else's comment was changed")
    world.ok("github.py", "comment", "plan-prod", "12", path)
    check(len(github.comments) == 8, "each environment has its own")
    path.write_text("x" * 65_536)
    check_has(world.refused(1, "github.py", "comment", "plan-dev", "12", path).stderr, "longer than")
    check_has(world.refused(1, "github.py", "comment", "plan-dev", "12", world.directory / "report.txt", GITHUB_TOKEN="wrong").stderr, "401")


@promise("drift: opens one issue, updates it the next night, and closes it when there is no difference, or no environment, any more")
def drift(world):
    plan, stands = world.directory / "drift", terraform(world, "drift-state")
    world.ok("terraform.sh", "plan", plan, **stands)
    world.ok("terraform.sh", "apply", plan, **stands)
    for _ in range(2):
        world.ok("drift.sh", plan, **stands, WORLD_CHANGES="1")
    check(len(world.github.issues) == 1 and world.github.issues[0]["title"] == "dev is not as main says", world.github.issues)
    check_has(world.github.issues[0]["body"], "module.compute.aws\\_instance.this", "To make it as main says")
    check_has(world.ok("drift.sh", plan, **stands).summary, "dev is as main says")
    check(world.github.issues[0]["state"] == "closed", world.github.issues)
    world.ok("drift.sh", plan, **stands)
    world.ok("drift.sh", plan, **stands, WORLD_CHANGES="1")
    check(len(world.github.issues) == 2, "a closed issue is not used again")
    # A state that cannot be read is not one that has nothing, and where there is no plan nobody knows.
    world.refused(3, "drift.sh", plan, **stands, TF_BROKEN="1")
    world.refused(1, "drift.sh", plan, **stands, TF_UNPLANNABLE="1")
    check(world.github.issues[1]["state"] == "open", world.github.issues)
    stands["TF_STATE"].unlink()
    for _ in range(2):
        # Without a plan: what was never made may not be plannable, for want of an address for alarms, say.
        check_has(world.ok("drift.sh", plan, **stands, TF_UNPLANNABLE="1").summary, "dev is not there")
    check(len(world.github.issues) == 2 and world.github.issues[1]["state"] == "closed", "an environment that is not there differs in nothing")


# --- apply and teardown ---

def terraform(world, name="tf", **more):
    return {"TERRAFORM": world.stand_ins / "terraform.py", "TF_STATE": world.directory / f"{name}.json", "TF_DATA_BUCKET": "gone-data",
            "TF_ARTIFACT_BUCKET": "gone-artifacts", **more}


@promise("apply: carries out the plan that was approved, and refuses when something changed since; empty variables of GitHub are not handed on")
def apply_reviewed(world):
    world.forget_calls()
    reviewed = world.ok("terraform.sh", "plan", world.directory / "reviewed", "-var", "database_setup_enabled=true", **terraform(world, ALERT_EMAIL="")).outputs
    check(reviewed["changes"] == "true" and len(reviewed["digest"]) == 64, reviewed)
    check(json.loads(world.calls()[0])["email"] is None, world.calls()[0])
    changed = world.directory / "changed"
    world.ok("terraform.sh", "plan", changed, "-var", "database_setup_enabled=true", **terraform(world, WORLD_CHANGES="1"))
    done = world.refused(1, "terraform.sh", "apply", changed, reviewed["digest"], **terraform(world))
    check_has(done.stderr, "is stale", "Nothing was applied", "run the workflow again")
    check(not (world.directory / "tf.json").exists(), "something was applied")
    again = world.directory / "again"
    world.ok("terraform.sh", "plan", again, "-var", "database_setup_enabled=true", **terraform(world))
    world.ok("terraform.sh", "apply", again, reviewed["digest"], **terraform(world))
    check(len(json.loads((world.directory / "tf.json").read_text())["resources"]) == 5, "not applied")
    check(not (again / "plan").exists() and not (again / "plan.json").exists(), "the plan file stayed")
    check(world.ok("terraform.sh", "plan", again, "-var", "database_setup_enabled=true", **terraform(world)).outputs["changes"] == "false", "changes")


@promise("apply: the right to the master password is taken away by an apply that may do nothing else; otherwise that alone, and red")
def lock_database(world):
    state = world.directory / "tf.json"
    before = state.read_text()
    done = world.refused(1, "lock-database.sh", **terraform(world, WORLD_CHANGES="1"))
    resources = json.loads(state.read_text())["resources"]
    check("module.compute.aws_iam_role.database_setup[0]" not in resources and resources["module.compute.aws_instance.this"] == {"ami": "ami-1"}, resources)
    check_has(done.stderr, "the rest of the plan is for another run")
    state.write_text(before)
    world.ok("lock-database.sh", **terraform(world))
    check(len(json.loads(state.read_text())["resources"]) == 4, state.read_text())
    check_has(world.ok("lock-database.sh", **terraform(world)).stderr, "there is no such role")


@promise("created: the summary has addresses, the next button and the cost with its date")
def created(world):
    (world.directory / "outputs.json").write_text(world.ok("terraform.sh", "output", "-json", **terraform(world)).stdout)
    (world.directory / "cost.txt").write_text(run([REPOSITORY / "infra/cost.py", "dev"]).stdout)
    done = world.ok("created.py", world.directory / "outputs.json", world.directory / "cost.txt")
    check_has(done.stdout, "aqueduct dev is there", "https://console.aws.amazon.com/cloudwatch", "Upload a data CSV", "together", "prices of 20", "start-session")


@promise("teardown: a bucket with 2,500 versions and delete markers is empty afterwards; again, and for a bucket that is not there, nothing happens")
def empty_bucket(world):
    bucket = "emptied"
    world.emulator.make_bucket(bucket)
    world.aws("s3api", "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled")
    # 900 keys: two versions each, and a delete marker on 700 of them.
    for number in range(900):
        key = f"/{bucket}/incoming/a b&<{number:04}>".replace(" ", "%20").replace("<", "%3C").replace(">", "%3E").replace("&", "%26")
        for _ in range(2):
            world.emulator.request("PUT", key, b"x")
    (world.directory / "markers.json").write_text(json.dumps({"Objects": [{"Key": f"incoming/a b&<{number:04}>"} for number in range(700)], "Quiet": True}))
    world.aws("s3api", "delete-objects", "--bucket", bucket, "--delete", f"file://{world.directory}/markers.json")
    listed = world.aws("s3api", "list-object-versions", "--bucket", bucket)
    check((len(listed["Versions"]), len(listed["DeleteMarkers"])) == (1800, 700), "not what was to be emptied")
    done = world.ok("empty_bucket.py", bucket, "no-such-bucket-anywhere")
    check_has(done.summary, "2500 versions and delete markers deleted", "not there")
    left = world.aws("s3api", "list-object-versions", "--bucket", bucket)
    check(not left.get("Versions") and not left.get("DeleteMarkers"), left)
    check_has(world.ok("empty_bucket.py", bucket).summary, "emptied: 0")


@promise("teardown: nothing happens unless the environment's name was typed")
def teardown_confirms(world):
    world.forget_calls()
    for typed in ("", "prod", "DEV", "dev "):
        check_has(world.refused(2, "teardown.sh", typed, **terraform(world)).stderr, "nothing was done")
    check(not world.calls(), world.calls())
    check_has(world.refused(2, "teardown.sh", "dev", **terraform(world, ENVIRONMENT="")).stderr, "ENVIRONMENT is not set", "usage: teardown.sh TYPED")


@promise("teardown: does nothing but what was approved; lifts the protection, empties both buckets, destroys, lists what still has the tags; again, it finds nothing; and a second create works")
def teardown(world):
    world.ok("terraform.sh", "plan", world.directory / "first", **terraform(world))
    world.ok("terraform.sh", "apply", world.directory / "first", **terraform(world))
    for bucket in ("gone-data", "gone-artifacts"):
        world.emulator.make_bucket(bucket)
        world.aws("s3api", "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled")
        world.emulator.put(bucket, "incoming/one.csv", b"a")
        world.emulator.request("DELETE", f"/{bucket}/incoming/one.csv")
    for step in (("teardown.sh", "dev"), ("lock-database.sh",)):
        check_has(world.ci(*step, **terraform(world, TF_BROKEN="1")).stderr, "is not known")
    check(len(json.loads((world.directory / "tf.json").read_text())["resources"]) == 4, "something was done without knowing")
    check(world.ok("terraform.sh", "buckets", **terraform(world)).stdout.split() == ["gone-artifacts", "gone-data"], "the buckets of the state")
    digest = world.ok("terraform.sh", "plan", world.directory / "approved", "-destroy", "-var", "protected=false", **terraform(world)).outputs["digest"]
    # What would go is something else than what was approved: nothing happens, not even to the protection.
    before = (world.directory / "tf.json").read_text()
    changed = json.loads(before)
    changed["resources"].pop("module.compute.aws_instance.this")
    (world.directory / "tf.json").write_text(json.dumps(changed))
    world.forget_calls()
    world.refused(2, "teardown.sh", "dev", DIGEST="", **terraform(world))  # of a workflow that lost it
    done = world.refused(2, "teardown.sh", "dev", DIGEST=digest, **terraform(world))
    check_has(done.stderr, "not what was approved", "nothing was done", "start the workflow anew")
    check_has(done.summary, "Plan: 3 to destroy")
    check(not any(json.loads(call)["terraform"][0] == "apply" for call in world.calls()), world.calls())
    check(all(world.aws("s3api", "list-object-versions", "--bucket", bucket).get("Versions") for bucket in ("gone-data", "gone-artifacts")), "a bucket was emptied")
    # A destroy that cannot be planned finds the buckets full, too.
    world.refused(1, "teardown.sh", "dev", **terraform(world, TF_UNPLANNABLE="1"))
    check(world.aws("s3api", "list-object-versions", "--bucket", "gone-data").get("Versions"), "a bucket was emptied")
    # That the protection was lifted meanwhile makes no other digest.
    changed = json.loads(before)
    changed["resources"]["module.database.aws_db_instance.this"]["deletion_protection"] = False
    (world.directory / "tf.json").write_text(json.dumps(changed))
    again = world.ok("terraform.sh", "plan", world.directory / "approved", "-destroy", "-var", "protected=false", **terraform(world)).outputs["digest"]
    check(again == digest, "the protection is in the digest")
    (world.directory / "tf.json").write_text(before)
    world.forget_calls()
    done = world.ok("teardown.sh", "dev", DIGEST=digest, **terraform(world))
    verbs = [json.loads(call)["terraform"] for call in world.calls()]
    plans = [each for each in verbs if each[0] == "plan"]
    check("-destroy" in plans[0] and "-destroy" in plans[2] and len(plans) == 3, plans)
    check("-target=module.database.aws_db_instance.this" in plans[1] and "protected=false" in plans[1] and "-destroy" not in plans[1], plans)
    check(json.loads((world.directory / "tf.json").read_text())["resources"] == {}, "something is left")
    buckets = {each["Name"] for each in world.aws("s3api", "list-buckets")["Buckets"]}
    check(not buckets & {"gone-data", "gone-artifacts"}, buckets)
    check_has(done.summary, "Teardown of dev", "Destroyed", "Leftovers", "instance/")
    world.ok("teardown.sh", "dev", **terraform(world))
    for bucket in ("gone-data", "gone-artifacts"):
        world.emulator.make_bucket(bucket)
    world.ok("terraform.sh", "plan", world.directory / "second", **terraform(world))
    world.ok("terraform.sh", "apply", world.directory / "second", **terraform(world))
    check(len(json.loads((world.directory / "tf.json").read_text())["resources"]) == 4, "the second create")


@promise("teardown: where main would replace the database, its protection is lifted in AWS and nothing is applied before the destroy; also where it is gone already")
def teardown_of_a_replaced_database(world):
    more = terraform(world, "replaced", TF_DATA_BUCKET="replaced-data", TF_ARTIFACT_BUCKET="replaced-artifacts", TF_DATABASE="aqueduct-dev")
    world.aws("rds", "create-db-instance", "--db-instance-identifier", "aqueduct-dev", "--engine", "postgres", "--db-instance-class", "db.t4g.micro",
              "--allocated-storage", "20", "--master-username", "someone", "--manage-master-user-password", "--deletion-protection")
    for there in (True, False):
        for bucket in ("replaced-data", "replaced-artifacts"):
            world.emulator.make_bucket(bucket)
        world.ok("terraform.sh", "plan", world.directory / "replaced", **more)
        world.ok("terraform.sh", "apply", world.directory / "replaced", **more)
        if not there:
            world.aws("rds", "delete-db-instance", "--db-instance-identifier", "aqueduct-dev", "--skip-final-snapshot")
        world.forget_calls()
        world.ok("teardown.sh", "dev", **more)
        applied = [call for call in map(json.loads, world.calls()) if call["terraform"][0] == "apply"]
        check(len(applied) == 1 and applied[0]["terraform"][-1].endswith("destroy/plan"), applied)
        check(json.loads((world.directory / "replaced.json").read_text())["resources"] == {}, "something is left")
        if there:
            check(not world.aws("rds", "describe-db-instances")["DBInstances"][0]["DeletionProtection"], "it is still protected")


@promise("teardown: its workflow takes on the role that is for it alone, in the environment that the role trusts; no other workflow does")
def teardown_has_a_role_of_its_own(world):
    for path in sorted((REPOSITORY / ".github/workflows").glob("*.yml")):
        roles = set(re.findall(r"vars\.AWS_ROLE_(\w+)", path.read_text()))
        if path.name == "teardown-everything-on-aws.yml":
            check(roles == {"PLAN", "TEARDOWN"}, roles)
            check_has(path.read_text(), "environment: ${{ inputs.environment }}-teardown\n", "group: environment-${{ inputs.environment }} ")
        else:
            check("TEARDOWN" not in roles and "-teardown" not in re.sub(r"scripts/ci/\S+", "", path.read_text()), path.name)


@promise("teardown: a role that may not list by tag turns the step red; the summary has the command for somebody who may")
def leftovers_denied(world):
    world.front.reset()
    world.front.denied = {"GetResources"}
    done = world.refused(4, "leftovers.py")
    check_has(done.stderr, "tag:GetResources", "infra/stacks/github")
    check_has(done.summary, "not looked for", "aws resourcegroupstaggingapi get-resources --tag-filters Key=project,Values=aqueduct")
    world.front.reset()


# --- releases to people ---

def project(world, name, version="1.2.3", locked=None, changelog="## [1.2.3] - 2026-01-02\n\n### Added\n\n- a thing\n\n## [1.2.2] - 2026-01-01\n\n- older\n"):
    root = world.directory / name
    root.mkdir()
    (root / "Cargo.toml").write_text(f'[workspace.package]\nversion = "{version}"\n')
    (root / "Cargo.lock").write_text(f'[[package]]\nname = "etl-runner"\nversion = "{locked or version}"\n')
    (root / "CHANGELOG.md").write_text(f"# Changelog\n\n{changelog}")
    return {"REPOSITORY_ROOT": root}


@promise("release: the tag has to be the version of Cargo.toml and Cargo.lock, with a dated section in the changelog, which becomes the notes")
def release_check(world):
    good = project(world, "good")
    world.ok("release.py", "check", "v1.2.3", **good)
    check(world.ok("release.py", "notes", "v1.2.3", **good).stdout == "### Added\n\n- a thing\n", "the notes")
    for tag in ("1.2.3", "v1.2.4", "v1.2.3-rc1", ""):
        check_has(world.refused(1, "release.py", "check", tag, **good).stderr, "Cargo.toml says 1.2.3")
    check_has(world.refused(1, "release.py", "check", "v1.2.3", **project(world, "locked", locked="1.2.2")).stderr, "Cargo.lock has etl-runner 1.2.2")
    check_has(world.refused(1, "release.py", "check", "v1.2.3", **project(world, "undated", changelog="## [1.2.3] - unreleased\n\n- x\n")).stderr, "write the day")
    check_has(world.refused(1, "release.py", "check", "v1.2.3", **project(world, "absent", changelog="## [1.2.2] - 2026-01-01\n\n- x\n")).stderr, "has no section")
    check_has(world.refused(1, "release.py", "check", "v1.2.3", **project(world, "blank", changelog="## [1.2.3] - 2026-01-01\n\n## [1.2.2] - 2026-01-01\n")).stderr, "is empty")


@promise("release: the draft has every archive with its digest; one that is missing or differs stops it, and what is published is never changed")
def release_draft(world):
    good = {"REPOSITORY_ROOT": world.directory / "good"}
    directory = world.directory / "draft"
    directory.mkdir()
    (directory / "file").write_text("x")
    for target in ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "x86_64-apple-darwin", "aarch64-apple-darwin"):
        world.ok("pack.py", directory / f"aqueduct-{target}.tar.gz", directory / "file")
    check_has(world.refused(1, "draft-release.sh", "v1.2.3", directory, **good).stderr, "windows-msvc.zip is missing")
    world.ok("pack.py", directory / "aqueduct-x86_64-pc-windows-msvc.zip", directory / "file")
    check_has(world.refused(1, "draft-release.sh", "v1.2.3", directory, **good).stderr, "etl-runner.cdx.json is missing")
    (directory / "etl-runner.cdx.json").write_text("{}")
    world.forget_calls()
    world.ok("draft-release.sh", "v1.2.3", directory, **good)
    call = json.loads(world.calls()[-1])["arguments"]
    check(call[:4] == ["release", "create", "v1.2.3", "--draft"] and "--verify-tag" in call and len([each for each in call if each.endswith(".tar.gz")]) == 4, call)
    check("--prerelease" not in call, call)
    candidate = project(world, "candidate", "1.2.4-rc.1", changelog="## [1.2.4-rc.1] - 2026-01-03\n\n- to be tried\n")
    world.ok("draft-release.sh", "v1.2.4-rc.1", directory, **candidate)
    check("--prerelease" in json.loads(world.calls()[-1])["arguments"], "prod would get it")
    world.ok("draft-release.sh", "v1.2.3", directory, GH_RELEASE="true", **good)
    check(any(json.loads(each)["arguments"][:2] == ["release", "delete"] for each in world.calls()), "the old draft stays")
    world.forget_calls()
    check_has(world.refused(1, "draft-release.sh", "v1.2.3", directory, GH_RELEASE="false", **good).stderr, "is published already")
    (directory / "aqueduct-x86_64-apple-darwin.tar.gz").write_text("other")
    check_has(world.refused(1, "draft-release.sh", "v1.2.3", directory, **good).stderr, "or another")
    check(not any("create" in call for call in world.calls()), world.calls())


@promise("release: archives for people have the licences; the image's context has both processors and the authorities, and a name in small letters")
def release_archives(world):
    copy = copy_of_repository(world)
    for name in ("LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / name, copy)
    static = world.directory / "static"
    shutil.copytree(world.release, static)
    world.ok(copy / "scripts/ci/pack-linux-release.sh", static, cwd=copy)
    with tarfile.open(copy / "dist/aqueduct-aarch64-unknown-linux-musl.tar.gz") as archive:
        check(archive.getnames() == ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "etl-runner", "ingest", "log-shipper"], archive.getnames())
        check("aarch64" in archive.extractfile("ingest").read().decode(), "the other processor's")
    done = world.ok("image-context.sh", static, world.directory / "image", GITHUB_REPOSITORY="Acme/Aqueduct", AUTHORITIES=REPOSITORY / "infra/host/rds-ca-bundle.pem")
    check(done.outputs == {"image": "ghcr.io/acme/aqueduct"}, done.outputs)
    context = world.directory / "image"
    check("x86_64" in (context / "amd64/ingest").read_text() and "aarch64" in (context / "arm64/ingest").read_text(), "mixed up")
    for source in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", (REPOSITORY / "infra/container/Dockerfile").read_text(), re.MULTILINE):
        for path in source.split():
            for platform in ("amd64", "arm64"):
                check((context / path.replace("${TARGETARCH}", platform)).exists(), f"the Dockerfile copies {path}, which is not in the context")


@promise("release: each program has a bill of materials, whatever its maker calls the file; one that is empty or another's stops the release")
def bills_of_materials(world):
    copy = copy_of_repository(world)
    for program in ("etl-runner", "ingest", "log-shipper", "cli"):
        (copy / "crates" / program).mkdir(parents=True)
    cargo = world.stand_ins / "cargo"
    cargo.write_text("#!/bin/sh\nfor each in crates/*; do name=${each##*/}; printf '{\"bomFormat\":\"CycloneDX\",\"metadata\":{\"component\":{\"name\":\"%s\"}},"
                     "\"components\":[%s]}' \"$name\" \"$COMPONENTS\" >$each/$(eval echo $NAME).json; done\n")
    cargo.chmod(0o755)
    many = ",".join(["{}"] * 11)
    for name in ("bom", "$name.cdx"):
        world.ok(copy / "scripts/ci/sbom.sh", copy / "sboms", cwd=copy, NAME=name, COMPONENTS=many)
        check(sorted(path.name for path in (copy / "sboms").iterdir()) == ["etl-runner.cdx.json", "ingest.cdx.json", "log-shipper.cdx.json"], "other files")
        check(not list(copy.glob("crates/*/*.json")), "something was left in the source")
    check_has(world.refused(1, copy / "scripts/ci/sbom.sh", copy / "sboms", cwd=copy, NAME="bom", COMPONENTS="{}").stderr, "too short")
    cargo.unlink()


@promise("prove: programs that say another version, or load something else, go no further")
def prove(world):
    programs = world.directory / "programs"
    programs.mkdir()
    for name in ("ingest", "etl-runner"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} 0.0.0\n")
        (programs / name).chmod(0o755)
    check_has(world.refused(1, "prove-binaries.sh", programs, "ingest", "etl-runner").stderr, "and not 'ingest")
    if os.environ.get("INGEST") and os.environ.get("ETL_RUNNER"):
        real = world.directory / "real"
        real.mkdir()
        (real / "ingest").symlink_to(os.environ["INGEST"])
        (real / "etl-runner").symlink_to(os.environ["ETL_RUNNER"])
        check_has(world.ok("prove-binaries.sh", real, "ingest", "etl-runner").stdout, "282 records: 276 loaded, 6 rejected; a second run changed nothing")


# --- setting up GitHub ---

OUTPUTS = {"role_arns": {"value": {name: {kind: f"arn:aws:iam::{ACCOUNT}:role/github/aqueduct-{name}-{kind}" for kind in ("plan", "apply", "teardown", "deploy", "upload")}
                                  for name in ("dev", "prod")}},
           "permissions_boundary_arns": {"value": {name: f"arn:aws:iam::{ACCOUNT}:policy/github/aqueduct-{name}-boundary" for name in ("dev", "prod")}}}


def set_up(world, *arguments, **more):
    world.github_state = world.directory / "gh-state"
    world.github_state.mkdir(exist_ok=True)
    (world.directory / "github-outputs.json").write_text(json.dumps(OUTPUTS))
    more.setdefault("cwd", world.directory)  # no clone, so that no remote of this one counts
    return world.ci(script("setup-github.sh"), "--outputs", world.directory / "github-outputs.json", "--region", REGION, "--owner", "acme", *arguments,
                    GH_STATE=world.github_state, **more)


def variables(world, place):
    directory = world.github_state / "variables" / place
    return {path.name: path.read_text() for path in directory.iterdir()} if directory.exists() else {}


@promise("set-up: environments with their branches and reviewers, roles where each is needed, variables; the second run says that nothing changed")
def setup_github(world):
    world.forget_calls()
    done = set_up(world, "--alert-email", "team@example.com", "--reviewer", "octocat")
    check(done.returncode == 0, done.stderr)
    check(variables(world, "repository") == {"AWS_REGION": REGION, "OWNER": "acme", "PROJECT_NAME": "aqueduct", "ALERT_EMAIL": "team@example.com", "ENVIRONMENTS": '["dev","prod"]'},
          variables(world, "repository"))
    roles = OUTPUTS["role_arns"]["value"]
    check(variables(world, "prod") == {"AWS_ROLE_APPLY": roles["prod"]["apply"], "AWS_ROLE_DEPLOY": roles["prod"]["deploy"], "AWS_ROLE_UPLOAD": roles["prod"]["upload"],
                                       "PERMISSIONS_BOUNDARY_ARN": OUTPUTS["permissions_boundary_arns"]["value"]["prod"]}, variables(world, "prod"))
    check(variables(world, "prod-plan") == {"AWS_ROLE_PLAN": roles["prod"]["plan"], "PERMISSIONS_BOUNDARY_ARN": OUTPUTS["permissions_boundary_arns"]["value"]["prod"]},
          variables(world, "prod-plan"))
    check(variables(world, "prod-teardown") == {"AWS_ROLE_TEARDOWN": roles["prod"]["teardown"], "PERMISSIONS_BOUNDARY_ARN": OUTPUTS["permissions_boundary_arns"]["value"]["prod"]},
          variables(world, "prod-teardown"))
    policies = {path.name: path.read_text().split() for path in (world.github_state / "policies").iterdir()}
    check(policies == {"dev": ["main"], "dev-plan": ["main", "refs/pull/*/merge"], "dev-teardown": ["main"],
                       "prod": ["main", "v*"], "prod-plan": ["main"], "prod-teardown": ["main"]}, policies)
    rules = {call["arguments"][3].split("/")[-1]: json.loads(call["stdin"]) for call in map(json.loads, world.calls()) if "PUT" in call["arguments"]}
    octocat = [{"type": "User", "id": 583231}]
    check({name: rule["reviewers"] for name, rule in rules.items()} == {"dev": [], "dev-plan": [], "dev-teardown": octocat, "prod": octocat, "prod-plan": [],
                                                                        "prod-teardown": octocat}, rules)
    check_has(done.stdout, "AWS_ROLE_APPLY", "team@example.com")
    world.forget_calls()
    again = set_up(world, "--alert-email", "team@example.com", "--reviewer", "octocat")
    check(again.returncode == 0, again.stderr)
    check(not any('"variable", "set"' in call or '"POST"' in call for call in world.calls()), world.calls())
    check_has(again.stdout, "as it is")
    rule = json.loads((world.github_state / "rulesets").read_text())
    check(rule["target"] == "tag" and rule["conditions"]["ref_name"]["include"] == ["refs/tags/v*"]
          and [each["type"] for each in rule["rules"]] == ["creation", "update", "deletion"] and rule["bypass_actors"][0]["actor_id"] == 5, rule)


def environment_rules(world, name):
    return json.loads((world.github_state / "environments" / name).read_text())


@promise("set-up: again without --reviewer, whoever approves goes on doing so; --environment adds to those that are deployed")
def setup_keeps_reviewers(world):
    path = world.github_state / "environments" / "prod"
    path.write_text(json.dumps({**environment_rules(world, "prod"), "prevent_self_review": True, "wait_timer": 5}))
    done = set_up(world, "--environment", "prod")
    check(done.returncode == 0, done.stderr)
    check_has(done.stdout, "prod: approved by octocat, as it is", "prod-teardown: approved by octocat, as it is", """ENVIRONMENTS is ["dev","prod"], as it is""")
    check("WARNING" not in done.stderr, done.stderr)
    rules = environment_rules(world, "prod")
    check(rules["reviewers"] == [{"type": "User", "id": 583231}] and rules["prevent_self_review"] and rules["wait_timer"] == 5, rules)
    check(set_up(world, "--reviewer", "hubot").returncode == 0 and environment_rules(world, "prod")["reviewers"] == [{"type": "User", "id": 480938}], "not hubot")


@promise("set-up: a reviewer who is not on GitHub changes nothing, the first of two, too; what GitHub refuses for another reason than its plan ends it")
def setup_stops(world):
    before = environment_rules(world, "prod")
    world.forget_calls()
    for logins in (("octocaat", "hubot"), ("hubot", "octocaat")):
        done = set_up(world, *(each for login in logins for each in ("--reviewer", login)))
        check(done.returncode == 1 and "--reviewer octocaat: gh: Not Found" in done.stderr, done.stderr)
    check(not any('"PUT"' in call or '"set"' in call for call in world.calls()), world.calls())
    done = set_up(world, "--reviewer", "octocat", GH_REFUSES="Validation Failed")
    check(done.returncode == 1 and "Validation Failed" in done.stderr, done.stderr)
    check(environment_rules(world, "prod") == before, "something was set up with less")


@promise("set-up: secrets go by standard input and are never printed; the key of the fallback and the one for SSH come from files or the environment")
def setup_secrets(world):
    world.forget_calls()
    key = world.directory / "id_ed25519"
    key.write_text("very secret\n")
    done = set_up(world, "--environment", "dev", "--private-key-file", key, AWS_FALLBACK_ACCESS_KEY_ID="AKIAEXAMPLE", AWS_FALLBACK_SECRET_ACCESS_KEY="also secret")
    check(done.returncode == 0, done.stderr)
    secrets = sorted(path.name for path in (world.github_state / "secrets" / "dev").iterdir())
    check(secrets == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "EC2_PRIVATE_KEY"], secrets)
    keys = sorted(path.name for path in (world.github_state / "secrets" / "dev-teardown").iterdir())
    check(keys == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], keys)
    text = done.stdout + done.stderr + "\n".join(world.calls())
    check("very secret" not in text and "also secret" not in text, "a secret was shown, or is in an argument")


@promise("set-up: a private repository whose plan has no reviewers is set up without, and told what takes their place; without a login nothing is set")
def setup_without_reviewers(world):
    for path in ("environments/prod", "environments/prod-teardown", "rulesets"):
        (world.github_state / path).unlink()
    done = set_up(world, "--reviewer", "octocat", GH_NO_REVIEWERS="1", GH_NO_RULESETS="1")
    check(done.returncode == 0, done.stderr)
    check_has(done.stdout, "reviewers", "typed", "docs/ci-cd.md")
    check("approved by octocat" not in done.stdout, "who approves is said, and GitHub did not take it")
    check_has(done.stderr, "WARNING: prod has no reviewers, so nobody approves", "WARNING: prod-teardown has no reviewers", "WARNING: GitHub has no rules for tags")
    check("deployment_branch_policy" in environment_rules(world, "prod"), "the rule for branches went, too")
    world.forget_calls()
    done = set_up(world, GH_LOGGED_OUT="1")
    check(done.returncode == 4 and "gh auth login" in done.stderr, done.stderr)
    check(not any('"set"' in call for call in world.calls()), world.calls())


@promise("set-up: what is wrong with options, outputs, files, programs and the fallback's key is said before anything is changed")
def setup_looks_first(world):
    file, key = world.directory / "odd-outputs.json", world.directory / "known-host"
    key.write_text("ssh-ed25519 AAAA\n")
    half = json.loads(json.dumps(OUTPUTS))
    del half["role_arns"]["value"]["prod"]["teardown"]
    world.forget_calls()

    def refused(code, says, *arguments, **more):
        done = set_up(world, *arguments, **more)
        check(done.returncode == code and says in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")

    refused(2, "no environment qa; they have dev, prod", "--environment", "qa")
    file.write_text(json.dumps(half))
    refused(1, "no role teardown of prod", "--outputs", file)
    file.write_text('{"role_arns":')
    refused(2, "it is no JSON object", "--outputs", file)
    for option in ("--outputs", "--ec2-public-key", "--private-key-file", "--ec2-host-key"):
        refused(2, "/nowhere/file cannot be read", option, "/nowhere/file")
    for option, value in (("--data-bucket", "other"), ("--ec2-host", "192.0.2.1"), ("--ec2-host-key", key), ("--private-key-file", key)):
        refused(2, f"{option} belongs to one environment", option, value)
    refused(2, "AWS_FALLBACK_ACCESS_KEY_ID belongs to one environment", AWS_FALLBACK_ACCESS_KEY_ID="A", AWS_FALLBACK_SECRET_ACCESS_KEY="B")
    for name in ("AWS_FALLBACK_ACCESS_KEY_ID", "AWS_FALLBACK_SECRET_ACCESS_KEY"):
        refused(2, "only one is set", "--environment", "dev", **{name: "half"})
    refused(2, "there is no option --reviewers", "--reviewers")
    refused(2, "--owner wants a value", "--owner", "--reviewer", "octocat")
    refused(2, "--reviewer wants a value", "--reviewer")
    refused(2, "--region eu-central is no region", "--region", "eu-central")
    refused(2, "--repo wants OWNER/NAME", "--repo", "aqueduct")
    # Without --outputs the stack is asked.
    terraform = world.directory / "no-terraform"
    terraform.write_text("#!/bin/sh\necho 'Error: Backend initialization required, please run \"terraform init\"' >&2; exit 1\n")
    terraform.chmod(0o755)
    for program, says in ((terraform, "initialise infra/stacks/github here"), ("/nowhere/terraform", "/nowhere/terraform is missing")):
        done = world.ci(script("setup-github.sh"), "--region", REGION, "--owner", "acme", cwd=world.directory, GH_STATE=world.github_state, TERRAFORM=program)
        check(done.returncode == 2 and says in done.stderr, f"{program}: {done.returncode} {done.stderr}")
    check(not any('"PUT"' in call or '"POST"' in call or '"set"' in call for call in world.calls()), world.calls())
    for option in ("--help", "-h"):
        done = world.ci(script("setup-github.sh"), option)
        check(done.returncode == 0 and done.stderr == "", done.stderr)
        check_has(done.stdout, "--no-attestations", "Exit codes:")
        check("set -e" not in done.stdout and "#" not in done.stdout[:2], done.stdout)


@promise("set-up: it says which repository it means, and stops where gh found the parent of a fork")
def setup_repository(world):
    clone = world.directory / "fork"
    clone.mkdir()
    for arguments in (("init", "-q"), ("remote", "add", "origin", "git@github.com:You/aqueduct.git"), ("remote", "add", "upstream", "https://github.com/acme/aqueduct")):
        run(["git", "-C", clone, *arguments])
    world.forget_calls()
    done = set_up(world, cwd=clone)
    check(done.returncode == 2, done.stderr)
    check_has(done.stderr, "gh would set up acme/aqueduct", "origin of this directory is You/aqueduct", "--repo You/aqueduct")
    check(not any('"PUT"' in call or '"POST"' in call or '"set"' in call for call in world.calls()), world.calls())
    renamed = {"GH_FINDS": "you/channel", "GH_RENAMED": "you/channel"}
    for name, arguments, more in (("aqueduct", (), {"GH_FINDS": "you/aqueduct"}), ("aqueduct", ("--repo", "you/aqueduct"), {}), ("channel", (), renamed)):
        done = set_up(world, *arguments, cwd=clone, **more)
        check(done.returncode == 0 and done.stdout.startswith(f"the repository is you/{name}\n"), done.stdout + done.stderr)


@promise("set-up: the project's name that was given once stays where it is not given again")
def setup_keeps_project(world):
    before = variables(world, "repository")["PROJECT_NAME"]
    for arguments, name in ((("--project", "acme-data"), "acme-data"), ((), "acme-data"), (("--project", before), before)):
        done = set_up(world, *arguments)
        check(done.returncode == 0 and variables(world, "repository")["PROJECT_NAME"] == name, done.stdout + done.stderr)


# --- the workflows themselves ---

@promise("workflows: what is in .github passes, and every planted mistake is found")
def planted_mistakes(world):
    github = world.directory / "github"
    shutil.copytree(REPOSITORY / ".github", github)
    world.ok("check-workflows.sh", github, PATH=os.environ["PATH"])
    # Each mistake is planted in one workflow, which is looked at alone.
    for path in (*github.glob("workflows/*.yml"), *github.glob("actions/*")):
        if path.name != "ci.yml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = (github / "workflows/ci.yml").read_text()
    (github / "workflows/ci.yml").write_text(text[:text.index("\n  static:")] + "\n")
    lines = (github / "action-pins.txt").read_text().splitlines(keepends=True)
    (github / "action-pins.txt").write_text("".join(line for line in lines if line.split()[0] in text))
    ci, pins = (github / "workflows/ci.yml").read_text(), (github / "action-pins.txt").read_text()

    def plant(*mistakes):
        text = ci
        for right, wrong in mistakes:
            check(right in text, f"{right!r} is not there, so no mistake is planted")
            text = text.replace(right, wrong, 1)
        (github / "workflows/ci.yml").write_text(text)

    # What other linters find: the whole check fails.
    for says, *mistake in (
            ("needs job", "runs-on: ubuntu-24.04", "needs: nothing\n    runs-on: ubuntu-24.04"),
            ("timeout-minute", "timeout-minutes: 40", "timeout-minute: 40"),
            ("dangerous-triggers", "  pull_request:\n", "  pull_request_target:\n")):
        plant(mistake)
        done = world.ci("check-workflows.sh", github, PATH=os.environ["PATH"])
        check(done.returncode != 0 and says in done.stderr + done.stdout, f"{says}: {done.returncode} {done.stderr[-600:]}")
    # The rules of this project: all at once, and each is named.
    checkout = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
    plant((checkout, "actions/checkout@v7"), (checkout, checkout.replace("3d3c", "4444")), ("Swatinem/rust-cache@", "evil/rust-cache@"),
          ("    name: Format, clippy, unit tests\n", "    name: Format, clippy, unit tests\n    if: github.actor != ''\n"),
          ("    name: Terraform, host scripts, policies\n", "    name: Terraform, host scripts, policies\n    needs: check\n"),
          ("      - run: make infra\n", "      - run: scripts/ci/ship.sh a b\n"),
          ("    name: Terraform, host scripts, policies\n", "    name: Terraform, host scripts, policies\n"
           "    concurrency:\n      group: of-its-own\n      cancel-in-progress: false\n"),
          ("    runs-on: ubuntu-24.04\n", "    runs-on: ubuntu-24.04-of-arms\n"), ("    runs-on: ubuntu-24.04\n", "    runs-on: ${{ matrix.runner }}\n"
           "    strategy:\n      matrix:\n        include:\n          - runner: macos-99\n"), ("    shell: bash", "    shell: sh"),
          ("permissions: {}", "permissions: write-all"), ("    timeout-minutes: 40\n", ""), ("          persist-credentials: false\n", "          fetch-depth: 1\n"),
          ("      - run: make check\n", "      - run: make $HOME\n      - run: echo \"${{ github.sha }}\"\n      - run: |\n" + "          make check\n" * 6
           + "      - run: scripts/ci/none.sh\n      - run: scripts/ci/teardown.sh dev\n      - uses: ./.github/actions/aws-login\n"
           + "        with:\n          role: ${{ vars.AWS_ROLE_TEARDOWN }}\n"))
    tools = REPOSITORY / ".cache/workflow-tools/python/bin"
    found = run([tools / "python", CI / "check_workflows.py", github, tools / "shellcheck"], check=False)
    check(found.returncode == 1, found.stdout)
    check_has(found.stdout, "is not pinned to a commit", "action-pins.txt says", "not among the actions", "permissions: {} is missing", "timeout-minutes is missing",
              "persist-credentials: false is missing", "SC2086", "becomes part of the script", "more than 5 lines", "none.sh is not there",
              "check may be skipped", "needs a concurrency group", "does not name the environment", "needs queue: max",
              "no runner ubuntu-24.04-of-arms", "no runner macos-99", "defaults: {run: {shell: bash}} is missing", "bound to one, where approvals are", "name the environment that the role trusts", "needs id-token: write",
              "AWS_ROLE_TEARDOWN is not for the environment of this job")
    (github / "workflows/ci.yml").write_text(ci)
    (github / "action-pins.txt").write_text(pins + f"acme/unused {'5' * 40} v1\n")
    check_has(world.refused(1, "check-workflows.sh", github, PATH=os.environ["PATH"]).stderr, "acme/unused is used nowhere")


@promise("workflows: every script of this directory that a workflow calls is in a promise here, and every button is described in docs/ci-cd.md")
def nothing_is_forgotten(world):
    tests = "".join(path.read_text() for path in (HERE / "promises.py", HERE / "world.py"))
    through = (CI / "pack-linux-release.sh").read_text()  # which a promise runs, and which runs pack-release.sh
    document = (REPOSITORY / "docs/ci-cd.md").read_text()
    for path in sorted((REPOSITORY / ".github/workflows").glob("*.yml")):
        text = path.read_text()
        for name in re.findall(r"scripts/ci/([\w.-]+)", text):
            check(name in tests or name in through, f"{name} of {path.name} is in no test")
        check(path.name in document, f"{path.name} is not in docs/ci-cd.md")
        for name in re.findall(r"\b(?:vars|secrets)\.([A-Z0-9_]+)", text):
            check(f"`{name}`" in document, f"{name} of {path.name} is not in docs/ci-cd.md")


@promise("usage: a script without its arguments or variables names what is missing, and does nothing")
def usage(world):
    calls = len(world.calls())
    for says, name, *arguments in (
            ("usage: ship.sh BINARIES_ID PIPELINES_ID", "ship.sh", "only-one"), ("usage: state-bucket.sh FILE", "state-bucket.sh"),
            ("usage: drift.sh DIRECTORY", "drift.sh"), ("usage: host_ready.py [INSTANCE]", "host_ready.py", "--help"),
            ("usage: empty_bucket.py BUCKET", "empty_bucket.py", "--help"), ("usage: prove-binaries.sh DIRECTORY", "prove-binaries.sh", "--help"),
            ("usage: pack-linux-release.sh DIRECTORY", "pack-linux-release.sh", "--help"), ("usage: pack-linux-release.sh DIRECTORY", "pack-linux-release.sh")):
        check_has(world.refused(2, name, *arguments).stderr, says)
    for name in ("ENVIRONMENT", "AWS_REGION"):
        check_has(world.refused(2, "state-bucket.sh", world.directory / "none.hcl", **{name: ""}).stderr, f"{name} is not set")
    check(len(world.calls()) == calls, world.calls()[calls:])


# --- which jobs of Deploy run ---

@functools.cache
def workflow(name):
    python = REPOSITORY / ".cache/workflow-tools/python/bin/python"
    code = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))"
    return json.loads(run([python, "-c", code, REPOSITORY / ".github/workflows" / name]).stdout)


def value(condition, known):
    """An expression as GitHub reads it, with Python. Nothing has been cancelled."""
    text = " ".join(condition.replace("${{", "").replace("}}", "").split())
    text = re.sub(r"\b(?:needs|github|inputs|vars)(?:\.\w+)+", lambda found: f"known.get({found[0]!r}, '')", text)
    text = re.sub(r"!(?!=)", " not ", text).replace("&&", " and ").replace("||", " or ")
    return eval(text, {"known": known, "cancelled": lambda: False, "fromJSON": json.loads, "contains": lambda some, one: one in some})


def jobs_of_deploy(event, here="false", environments="", failing=(), **more):
    """The jobs that run, one after the other as they need each other."""
    known = {"github.event_name": event, "vars.AWS_REGION": "eu-central-1", "vars.ENVIRONMENTS": environments, **{name.replace("_", ".", 1): each for name, each in more.items()}}
    ran = []
    for name, job in workflow("deploy.yml")["jobs"].items():
        runs = bool(value(job["if"], known))
        known[f"needs.{name}.result"] = "skipped" if not runs else "failure" if name in failing else "success"
        if name == "find" and runs and name not in failing:
            known["needs.find.outputs.here"] = here
        ran += [name] * runs
    return ran


@promise("workflows: Deploy brings each event to the environments it is for; to none that does not stand; no pre-release to prod; nothing after a failure")
def deploy_decides(world):
    every, release = '["dev","stage","prod"]', {"github_event.release.prerelease": False}
    candidate = {"github_event.release.prerelease": True}
    for ran, event, more in (
            (["find", "build", "dev"], "push", {}), (["find", "dev"], "push", {"here": "true"}), (["find"], "push", {"here": "none"}),
            (["find"], "push", {"failing": ["find"]}), (["find", "build"], "push", {"failing": ["build"]}), ([], "push", {"vars_AWS_REGION": ""}),
            ([], "push", {"environments": '["prod"]'}), (["find", "build", "dev"], "push", {"environments": every}),
            (["build", "stage", "prod"], "release", {"environments": every, **release}), (["build", "prod"], "release", {"environments": '["dev","prod"]', **release}),
            (["build", "stage"], "release", {"environments": every, "failing": ["stage"], **release}), ([], "release", release),
            (["build", "stage"], "release", {"environments": every, **candidate}), ([], "release", {"environments": '["dev","prod"]', **candidate}),
            (["find", "build", "dev"], "workflow_dispatch", {"inputs_environment": "dev", "environments": every}),
            (["build", "prod"], "workflow_dispatch", {"inputs_environment": "prod", "environments": every}),
            ([], "workflow_dispatch", {"inputs_environment": "prod"})):
        found = jobs_of_deploy(event, **more)
        check(found == ran, f"{event} {more}: {found} and not {ran}")


@promise("workflows: pushes are deployed one after the other and the newest of those that wait; whatever Deploy is made of starts it")
def deploy_in_order(world):
    deploy = workflow("deploy.yml")
    prefix, expression = deploy["concurrency"]["group"].split("${{")
    groups = [prefix + str(value(expression, {"github.event_name": event, "github.run_id": number})) for number, event in enumerate(["push", "push", "release", "release"], 1)]
    check(groups[0] == groups[1] and len(set(groups)) == 3, groups)
    check(deploy["concurrency"]["cancel-in-progress"] is False and "queue" not in deploy["concurrency"], deploy["concurrency"])
    paths, called, texts = deploy["on"]["push"]["paths"], set(), [(REPOSITORY / ".github/workflows/deploy.yml").read_text()]
    while texts:
        for path in set(re.findall(r"uses: \./(\S+)", texts.pop())) - called:
            called.add(path)
            texts.append((REPOSITORY / path if path.endswith(".yml") else REPOSITORY / path / "action.yml").read_text())
    check(len(called) >= 4 and all(any(fnmatch.fnmatch(path, each) for each in paths) for path in called), called)


@promise("workflows: archives outlive an approval, and are fetched before Create makes anything; a load that is tried again ends within the role's hour")
def times_fit(world):
    days = {name: job["with"]["retention-days"] for name, job in workflow("_build-attested.yml")["jobs"].items() if "_build-static" in job.get("uses", "")}
    check(days and min(days.values()) > 30, days)
    check("${{ inputs.retention-days }}" in (REPOSITORY / ".github/workflows/_build-static.yml").read_text(), "they are kept as long as something else says")
    steps = [step.get("uses", "") + step.get("run", "") for step in workflow("create-all-the-aws-infrastructure.yml")["jobs"]["apply"]["steps"]]
    fetched = [number for number, step in enumerate(steps) if "download-artifact@" in step]
    check(len(fetched) == 1 and fetched[0] < min(number for number, step in enumerate(steps) if "terraform.sh" in step), steps)
    again = next(int(step["env"]["RETRY_SECONDS"]) for step in workflow("upload-data-csv-to-the-s3-bucket.yml")["jobs"]["upload"]["steps"] if "RETRY_SECONDS" in step.get("env", {}))
    hour = int(re.search(r"role-duration-seconds: (\d+)", (REPOSITORY / ".github/actions/aws-login/action.yml").read_text())[1])
    check(again + 55 * 60 + 60 <= hour, again)


@promise("Run Command by itself: arguments arrive as they are, and the highest exit code of the hosts is the step's")
def run_command(world):
    world.front.reset()
    world.ok("run_command.py", "bash", "/opt/aqueduct/host/setup-database.sh")
    world.front.environment = {"OUTCOMES": f"{world.hosts[1]}:x:75"}
    done = world.refused(75, "run_command.py", "bash", "/opt/aqueduct/host/deploy.sh", "binaries", "x", "$(id) 'y'  z")
    check_has(done.stdout, "deploy: binaries x $(id) 'y'  z on")


def live_on_terraform(world):
    """The stack itself, with a terraform that keeps its state in a file and needs no account."""
    copy = world.directory / "stack"
    copy.mkdir()
    run(["tar", "-cf", world.directory / "stack.tar", "--exclude=.terraform", "--exclude=.host", "infra/stacks", "infra/modules", "infra/host", "infra/testing", "scripts/ci"], cwd=REPOSITORY)
    run(["tar", "-xf", world.directory / "stack.tar", "-C", copy])
    wrapper = world.directory / "tf-local"
    wrapper.write_text(f"#!/bin/sh\nexec {os.environ['TERRAFORM']} --local {world.directory}/stack.tfstate \"$@\"\n")
    wrapper.chmod(0o755)
    # Another project than that of the other promises, whose buckets its teardown would empty meanwhile.
    more = {"TERRAFORM": wrapper, "PROJECT_NAME": "alive", "ALERT_EMAIL": "team@example.com", "PATH": f"{world.stand_ins}:{os.environ['AWSCLI']}/bin:{os.environ['PATH']}", "HOME": os.environ["HOME"]}
    ci, plans = copy / "scripts/ci", world.directory

    def plan(name, *arguments, **changed):
        return world.ok(ci / "terraform.sh", "plan", plans / name, *arguments, **{**more, **changed}).outputs

    setting_up = ("-var", "database_setup_enabled=true")
    reviewed = plan("p1", *setting_up)["digest"]
    check(plan("p2", *setting_up, "-var", "root_volume_gb=20")["digest"] != reviewed, "another volume has the same digest")
    check_has(world.refused(1, ci / "terraform.sh", "apply", plans / "p2", reviewed, **more).stderr, "is stale")
    check(plan("p3", *setting_up)["digest"] == reviewed, "two plans of the same differ")
    comment = world.ok(ci / "plan.py", "comment", plans / "p1/plan.json", plans / "p1/plan.txt", **more).stdout
    check(len(comment) <= 65_535 and "Plan: " in comment, len(comment))
    world.ok(ci / "terraform.sh", "apply", plans / "p3", reviewed, **more)
    world.ok(ci / "lock-database.sh", **more)
    check(plan("p4", COMMIT="applied", GITHUB_SHA="2" * 40)["changes"] == "false",
          "drift, of a newer commit or of a role that was not taken away:\n" + (plans / "p4/plan.txt").read_text()[:3000])
    check(len(world.ok(ci / "terraform.sh", "buckets", **more).stdout.split()) == 2, "the buckets of the state")
    going = plan("p5", "-destroy", "-var", "protected=false", COMMIT="applied")["digest"]
    world.ok(ci / "teardown.sh", "dev", **more, DIGEST=going)
    check(json.loads((world.directory / "stack.tfstate").read_text())["resources"] == [], "something is left")


if os.environ.get("TERRAFORM"):
    promise("the stack itself: planned twice with one digest, a stale plan refused, applied, the database locked, no drift, torn down", aside=True)(live_on_terraform)
else:
    print("left out: the life of the stack itself, which wants TERRAFORM (see test.sh)")

if __name__ == "__main__":
    words = sys.argv[1:]
    if words:
        harness.promises[:] = [each for each in harness.promises if each[2] or all(word in each[0] for word in words)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    world = World(os.environ["WORK"])
    try:
        kept = keep_promises(world)
    finally:
        world.stop()
    sys.exit(0 if kept else 1)
