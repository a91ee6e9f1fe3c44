"""What infra/bootstrap promises; infra/host/tests/run.sh runs it beside the promises of the host."""
import json
import os
import subprocess
import urllib.error
from pathlib import Path

from harness import ACCOUNT, REGION, check, check_has, promise

SCRIPT = Path(__file__).resolve().parent.parent / "bootstrap.sh"
BUCKET = f"aqueduct-tfstate-{ACCOUNT}-{REGION}"


def environment(world, **more):
    return {"PATH": f"{os.environ['AWSCLI']}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(world.directory), "LC_ALL": "C.UTF-8",
            "AWS_ENDPOINT_URL": world.aws.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION,
            **more}


def bootstrap(world, *arguments, **more):
    return subprocess.run([str(SCRIPT), *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, env=environment(world, **more), cwd=world.directory)


def ask(world, command, bucket=BUCKET):
    done = subprocess.run(["aws", "s3api", command, "--bucket", bucket, "--output", "json"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(world, AWS_DEFAULT_REGION=REGION))
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout or "{}")


def check_settings(world):
    check(ask(world, "get-bucket-versioning")["Status"] == "Enabled", "no versions")
    check(all(ask(world, "get-public-access-block")["PublicAccessBlockConfiguration"].values()), "public")
    rule = ask(world, "get-bucket-encryption")["ServerSideEncryptionConfiguration"]["Rules"][0]
    check(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256", rule)
    rule = ask(world, "get-bucket-lifecycle-configuration")["Rules"][0]
    check(rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 90, rule)
    tags = {tag["Key"]: tag["Value"] for tag in ask(world, "get-bucket-tagging")["TagSet"]}
    check(tags == {"project": "aqueduct", "purpose": "terraform-state", "managed-by": "bootstrap"}, tags)
    policy = json.loads(ask(world, "get-bucket-policy")["Policy"])
    denied = {statement["Sid"]: statement for statement in policy["Statement"] if statement["Effect"] == "Deny"}
    check(denied["OnlyOverTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, policy)
    check(denied["OnlyOverTls"]["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"], policy)
    check(denied["NobodyDeletesTheRecord"]["Action"] == "s3:DeleteBucket", policy)


@promise("bootstrap makes the state bucket as it has to be, and prints the backend of the environment", aside=True)
def bootstrap_makes_the_bucket(world):
    done = bootstrap(world, "dev")
    check(done.returncode == 0, done.stderr)
    check_has(done.stderr, f"made the bucket {BUCKET}")
    check_has(done.stdout, f'bucket       = "{BUCKET}"', 'key          = "platform/dev.tfstate"', f'region       = "{REGION}"',
              "use_lockfile = true", "encrypt      = true")
    check_settings(world)


@promise("bootstrap again puts right what somebody changed, and writes the backend of another environment to a file", aside=True)
def bootstrap_again(world):
    for command in ("delete-bucket-policy", "delete-bucket-tagging", "delete-bucket-encryption"):
        ask(world, command)
    done = bootstrap(world, "prod", "--backend-config", "prod.backend")
    check(done.returncode == 0, done.stderr)
    check_has(done.stderr, f"the bucket {BUCKET} is here")
    check(done.stdout == "", done.stdout)
    check_has((world.directory / "prod.backend").read_text(), 'key          = "platform/prod.tfstate"')
    check_settings(world)
    # The emulator is reached without TLS, and obeys the policy for objects.
    try:
        world.aws.put(BUCKET, "platform/dev.tfstate", b"{}")
    except urllib.error.HTTPError as error:
        check(error.code == 403, error)
    else:
        check(False, "state could be written without TLS")


@promise("bootstrap refuses a name that belongs to another account, whether that shows when it looks or when it makes, and touches nothing", aside=True)
def bootstrap_refuses_what_is_not_ours(world):
    other = make_foreign_bucket(world, f"foreign-tfstate-{ACCOUNT}-{REGION}")
    stub = world.directory / "stub"
    stub.mkdir()
    # The emulator does not compare --expected-bucket-owner, so these two answers of S3 alone are played; the answer to the
    # making of a bucket with a foreign name is the emulator's own.
    for answer, says in (("403", "Forbidden"), ("404", "Not Found")):
        (stub / "aws").write_text("#!/bin/sh\ncase \"$*\" in *head-bucket*) "
                                  f"echo 'An error occurred ({answer}) when calling the HeadBucket operation: {says}' >&2; exit 254;; esac\n"
                                  f"exec {os.environ['AWSCLI']}/bin/aws \"$@\"\n")
        (stub / "aws").chmod(0o755)
        done = bootstrap(world, "dev", "--project", "foreign", PATH=f"{stub}:{environment(world)['PATH']}")
        check(done.returncode == 4, f"{answer}: {done.returncode} {done.stderr}")
        check_has(done.stderr, f"the name {other} belongs to another account", "Nothing was changed", "--project")
        check(done.stdout == "", "a backend was printed")
    check(ask(world, "get-bucket-versioning", other) == {}, "the foreign bucket was changed")


def make_foreign_bucket(world, name):
    """In the emulator an account is a role's that was assumed in it."""
    where = environment(world, AWS_DEFAULT_REGION=REGION)

    def aws(*arguments, **more):
        done = subprocess.run(["aws", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**where, **more})
        check(done.returncode == 0, done.stderr)
        return json.loads(done.stdout)

    role = aws("sts", "assume-role", "--role-arn", "arn:aws:iam::222222222222:role/other", "--role-session-name", "other")
    keys = role["Credentials"]
    aws("s3api", "create-bucket", "--bucket", name, "--create-bucket-configuration", f"LocationConstraint={REGION}",
        AWS_ACCESS_KEY_ID=keys["AccessKeyId"], AWS_SECRET_ACCESS_KEY=keys["SecretAccessKey"], AWS_SESSION_TOKEN=keys["SessionToken"])
    return name


@promise("bootstrap refuses environments, projects, regions and flags that are none", aside=True)
def bootstrap_refuses_odd_arguments(world):
    for arguments in ((), ("test",), ("dev", "prod"), ("dev", "--project", "A b"), ("dev", "--region", "here"), ("dev", "--force"),
                      ("dev", "--project")):
        done = bootstrap(world, *arguments)
        check(done.returncode == 2 and "usage:" in done.stderr or "wanted" in done.stderr or "has to be" in done.stderr,
              f"{arguments}: {done.returncode} {done.stderr}")


@promise("bootstrap looks at the file of the backend and at the project's length before it changes anything", aside=True)
def bootstrap_looks_first(world):
    for file in ("nowhere/dev.backend", "."):
        done = bootstrap(world, "dev", "--project", "untouched", "--backend-config", file)
        check(done.returncode == 2 and f"--backend-config {file}" in done.stderr, f"{file}: {done.returncode} {done.stderr}")
        check("made the bucket" not in done.stderr, done.stderr)
    for project in ("ab", "a" * 23):
        done = bootstrap(world, "dev", "--project", project)
        check(done.returncode == 2 and "3 to 22" in done.stderr, f"{project}: {done.returncode} {done.stderr}")
