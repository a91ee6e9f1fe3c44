#!/usr/bin/env python3
"""What infra/host and infra/bootstrap promise, each tried on real parts. infra/host/tests/run.sh starts it in namespaces of its
own."""
import base64
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

from harness import (ACCOUNT, HERE, HOST, INSTANCE, REGION, REPOSITORY, DockerRepository, Emulator, Postgres, Root, Web, archive,
                     build_awscli, check, check_has, difference, digest_of, keep_promises, promise, run, until)

sys.path.insert(0, str(REPOSITORY / "infra/bootstrap/tests"))

DATA, ARTIFACTS = "aqueduct-test-data", "aqueduct-test-artifacts"
PARAMETERS = "/aqueduct/dev"
USER_DATA = "/var/lib/cloud/user-data.sh"
MASTER_PASSWORD = "m4ster:P\\ss'word-%s"
APP_PASSWORD, READ_PASSWORD = "loader-S3cret:one\\two", "reader-S3cret-one"
SETUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aqueduct-dev-database-setup"
# Everything but what is written by running: logs, the state of log-shipper, what stands in for systemd.
RUNNING = ("/proc", "/dev", "/run", "/tmp", "/var/log", "/var/lib/stand-in", "/var/lib/log-shipper")

CUSTOMERS = (REPOSITORY / "pipelines/customers.toml").read_text()
MISTAKE = CUSTOMERS.replace('name = "customers"', 'name = "customers"\nmistake = true', 1)
SHIPPER_THAT_FAILS = '#!/bin/sh\nif [ "$1" = run ]; then exit 1; fi\nexec /usr/local/bin/log-shipper.good "$@"\n'


class World:
    def __init__(self, directory):
        self.directory = directory
        self.real_runner = bool(os.environ.get("ETL_RUNNER"))
        self.runner = Path(os.environ.get("ETL_RUNNER") or HERE / "stand-ins/etl-runner").read_bytes()
        self.shipper = Path(os.environ.get("LOG_SHIPPER") or HERE / "stand-ins/log-shipper").read_bytes()
        self.aws = Emulator(directory)
        self.postgres = Postgres(directory)
        self.root = Root(directory)
        (directory / "web").mkdir()
        self.web = Web(directory / "web")
        self.suite = self.root.run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").stdout.strip()
        self.docker = DockerRepository(directory / "web/docker", self.suite)
        self.root.environment.update({
            "AWS_ENDPOINT_URL": self.aws.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.web.url,
            "AQUEDUCT_DOCKER_APT": f"{self.web.url}/docker", "AQUEDUCT_DOCKER_FINGERPRINT": self.docker.fingerprint,
            # The database is none of RDS, so neither is its authority.
            "PGSSLROOTCERT": "/etc/ca-of-the-test.crt", "AQUEDUCT_HEALTH_SECONDS": "20",
        })
        self.root.write("/etc/ca-of-the-test.crt", self.postgres.certificate)
        self.give_tools()
        self.aws.wait()
        self.fill_account()

    def give_tools(self):
        """A package of the AWS CLI for apt, and a systemctl: neither is in a root that debootstrap made. Ubuntu's cron brings the real one,
        which can do nothing here, so this one comes before it."""
        tools = self.directory / "web/tools"
        tools.mkdir()
        build_awscli(tools)
        (tools / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=tools).stdout)
        self.root.write("/etc/apt/sources.list.d/tools.list", 
                        f"deb [trusted=yes] {self.web.url.replace('127.0.0.1', 'localhost')}/tools ./\n")
        self.root.write("/usr/local/sbin/systemctl", (HERE / "stand-ins/systemctl").read_text(), 0o755)

    def apt_gives_up(self):
        """Whether `apt-get update` does not wait for a lock: before 2.7."""
        version = re.search(r"apt (\d+)\.(\d+)", self.root.run("apt-get", "--version").stdout)
        return (int(version[1]), int(version[2])) < (2, 7)

    def fill_account(self):
        aws, postgres = self.aws, self.postgres
        for bucket in (DATA, ARTIFACTS):
            aws.make_bucket(bucket)
        postgres.sql(f"create role master login createrole createdb password '{MASTER_PASSWORD.replace(chr(39), chr(39) * 2)}'")
        postgres.sql("create database warehouse owner master")
        self.secrets = {
            "master": aws.put_secret("rds!db-master", "master", MASTER_PASSWORD),
            "app": aws.put_secret("aqueduct-dev-app", "aqueduct_loader", APP_PASSWORD),
            "read": aws.put_secret("aqueduct-dev-read", "aqueduct_reader", READ_PASSWORD),
        }
        parameters = {"region": REGION, "data-bucket": DATA, "artifact-bucket": ARTIFACTS, "database/host": "localhost",
                      "database/port": str(postgres.port), "database/name": "warehouse", "database/setup-role": "none",
                      "host/ready": "none", "release/binaries": "none", "release/pipelines": "none"}
        parameters.update({f"database/{name}-secret": arn for name, arn in self.secrets.items()})
        for name, value in parameters.items():
            aws.put_parameter(f"{PARAMETERS}/{name}", value)
        # As Terraform packs it.
        left_out = {"README.md", "tests"}
        files = {path.name: path.read_bytes() for path in sorted(HOST.iterdir())
                 if path.name not in left_out and path.suffix != ".tftpl" and path.is_file()}
        self.host_archive = archive(files)
        self.host_key = f"host/{digest_of(self.host_archive)}.tar.gz"
        aws.put(ARTIFACTS, self.host_key, self.host_archive)

    def user_data(self):
        values = {"project": "aqueduct", "environment": "dev", "region": REGION, "artifact_bucket": ARTIFACTS,
                  "host_archive_key": self.host_key, "host_archive_sha256": digest_of(self.host_archive),
                  "parameters": PARAMETERS}
        used = set()

        def fill_in(name):
            check(name[1] in values, f"Terraform gives no {name[1]}")
            used.add(name[1])
            return values[name[1]]

        text = re.sub(r"(?<!\$)\$\{(\w+)\}", fill_in, (HOST / "user-data.sh.tftpl").read_text())
        check(used == values.keys(), f"not asked for: {values.keys() - used}")
        return text

    def boot(self, **environment):
        self.root.write(USER_DATA, self.user_data(), 0o755)
        return self.root.run(USER_DATA, **environment)

    def ready(self):
        return self.aws.parameter(f"{PARAMETERS}/host/ready")

    def binaries(self, name, **replaced):
        files = {"etl-runner": self.runner, "log-shipper": self.shipper, "ingest": f"#!/bin/sh\necho ingest {name}\n"}
        return archive({**files, **{key.replace("_", "-"): value for key, value in replaced.items()}})

    def publish(self, kind, name, data):
        file = f"aqueduct-{os.uname().machine}-linux-musl" if kind == "binaries" else "pipelines"
        self.aws.put(ARTIFACTS, f"{kind}/{name}/{file}.tar.gz", data)
        return digest_of(data)

    def deploy(self, kind, name, digest, **environment):
        return self.root.run("bash", "/opt/aqueduct/host/deploy.sh", kind, name, digest, **environment)

    def start_deploy(self, kind, name, digest, **environment):
        return self.root.start("bash", "/opt/aqueduct/host/deploy.sh", kind, name, digest, **environment)

    def deployed(self, kind="binaries"):
        path = self.root.file(f"/opt/aqueduct/{kind}/current")
        return os.readlink(path).removeprefix("releases/") if path.is_symlink() else None

    def releases(self, kind="binaries"):
        return sorted(os.listdir(self.root.file(f"/opt/aqueduct/{kind}/releases")))

    def tree(self):
        return self.root.listing("/opt", "/usr/local", "/etc")

    def calls(self):
        path = self.root.file("/var/lib/stand-in/calls")
        return path.read_text().splitlines() if path.exists() else []

    def check_running(self, name):
        check(self.deployed() == name, f"{self.deployed()} is current, not {name}")
        done = self.root.run("/usr/local/bin/ingest", "--version")
        check(done.stdout.strip() == f"ingest {name}", done.stdout)
        done = self.root.run("systemctl", "is-active", "--quiet", "log-shipper.service")
        check(done.returncode == 0, "log-shipper does not run")
        check(not self.root.file("/opt/aqueduct/binaries/deploying").exists(), "the mark of a deploy under way is still there")
        check(not os.listdir(self.root.file("/opt/aqueduct/incoming")), "something was left in incoming")

    def close(self):
        self.root.run("systemctl", "stop", "log-shipper.service")
        self.postgres.stop()
        self.aws.process.stop()
        self.web.stop()
        self.root.close()


# ---- without a host


@promise("every script passes shellcheck", aside=True)
def scripts_pass_shellcheck(_):
    scripts = sorted(REPOSITORY.glob("infra/*/**/*.sh"))
    scripts = [path for path in scripts if path.parts[-3] in ("infra", "host", "bootstrap")]
    run(["shellcheck", "-x", *scripts, HERE / "stand-ins/systemctl"], cwd=REPOSITORY)
    # A template is shell once it is rendered; here its names stay as they are.
    text = (HOST / "user-data.sh.tftpl").read_text()
    done = subprocess.run(["shellcheck", "-s", "bash", "-"], input=re.sub(r"\$\{(\w+)\}", r"x-\1", text), text=True,
                          stdout=subprocess.PIPE)
    check(done.returncode == 0, done.stdout)


@promise("user data is below 8 KB, asks for what Terraform gives and for nothing else, and holds no secret")
def user_data_is_small(world):
    text = world.user_data()
    check(len(text) < 8192, f"{len(text)} bytes")
    check("${" not in text and "%{" not in text, "something is left for Terraform to fill in")
    for secret in (MASTER_PASSWORD, APP_PASSWORD, READ_PASSWORD, *world.secrets.values()):
        check(secret not in text, "a secret")


@promise("the AWS CLI's snap is installed once snapd is ready, tried again when it fails, and given up in the end")
def snap_is_tried_again(world):
    function = re.search(r"^install_snap\(\) \{\n.*?^\}\n", world.user_data(), re.M | re.S)[0]
    calls = world.directory / "snap-calls"
    for failures, code, installs in [(0, 0, 1), (2, 0, 3), (99, 1, 60)]:
        calls.write_text("")
        script = f"""set -euo pipefail
            timeout() {{ shift; "$@"; }}
            sleep() {{ :; }}
            snap() {{ echo "$*" >>{calls}; [ "$1" = wait ] || [ "$(grep -c ^install {calls})" -gt {failures} ]; }}
            {function}
            install_snap aws-cli --classic"""
        done = subprocess.run(["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(done.returncode == code, f"{done.returncode} after {failures} failures: {done.stdout}")
        got = calls.read_text().splitlines()
        check(got == ["wait system seed.loaded", "install aws-cli --classic"] * installs, "\n".join(got))


@promise("the bundle of RDS holds what etl-runner verifies with, and no certificate expires within a year", aside=True)
def bundle_is_valid(world):
    bundle = (HOST / "rds-ca-bundle.pem").read_text()
    check(bundle == (REPOSITORY / "crates/etl-runner/src/database/postgres/rds-ca.pem").read_text(), "they differ: copy etl-runner's")
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.S)
    check(len(certificates) == 81, f"{len(certificates)} certificates")
    for certificate in certificates:
        done = subprocess.run(["openssl", "x509", "-noout", "-subject", "-checkend", str(365 * 86400)], input=certificate,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(done.returncode == 0, done.stdout)


@promise("units are hardened: an exposure of 2.0 at most, where 10 is a service that may do everything")
def units_are_hardened(_):
    for unit in sorted(HOST.glob("*.service")):
        run(["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit])


@promise("a SCRAM verifier is the one that PostgreSQL itself would make")
def verifier_is_right(world):
    sys.path.insert(0, str(HOST))
    import secret
    world.postgres.sql("create role judge password 'pencil-and-Paper:7'")
    stored = world.postgres.sql("select rolpassword from pg_authid where rolname = 'judge'").stdout.strip()
    salt = base64.b64decode(stored.split("$")[1].split(":")[1])
    check(secret.verifier("pencil-and-Paper:7", salt) == stored, f"not {stored}")


@promise("a run without objects is a quiet minute; beside a failure, or a load that waits for somebody, it is not")
def verdicts(world):
    sys.path.insert(0, str(HOST))
    from verdict import verdict
    nothing, other = {"message": "no object matches a/*.csv in s3://b/"}, {"message": "reach postgres://…"}
    loaded, failed = {"outcome": "loaded"}, {"outcome": "failed"}
    waits = {"outcome": "skipped", "reason": "failed"}
    for expected, code, errors, loads in [
        (0, 1, [nothing], []), (0, 5, [nothing, nothing], [loaded]), (1, 1, [nothing, other], []), (5, 5, [nothing], [failed]),
        (3, 5, [nothing], [loaded, waits]), (5, 5, [], [loaded, failed]), (1, 1, [other], []),
    ]:
        got = verdict(code, {"errors": errors, "pipelines": [{"loads": loads, "unlisted": 0}]})
        check(got == expected, f"{got} for {code} with {errors} and {loads}")


# ---- the first boot


@promise("Docker from somebody else's key is refused, and the ready signal names the step; apt's locks are waited for")
def a_wrong_key_is_refused(world):
    let_go = hold_apt_locks(world.root)
    began = time.monotonic()
    done = world.boot(AQUEDUCT_DOCKER_FINGERPRINT="0" * 40)
    check(let_go() < time.monotonic() - began, "apt did not wait")
    check(done.returncode == 1, done.stdout)
    # An older apt gives up at once, and is asked again; a newer one waits by itself.
    check("apt-get update did not work (try 1 of 60)" in done.stdout or not world.apt_gives_up(), done.stdout)
    check_has(done.stdout, f"is {world.docker.fingerprint} and not 0000")
    check(re.fullmatch(rf"{INSTANCE} \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ failed: install, docker \(exit 1\); .*", world.ready()),
          world.ready())
    check_has(world.ready(), f"get-console-output --latest --output text --instance-id {INSTANCE}")
    check(not world.root.file("/usr/bin/docker").exists(), "Docker is there all the same")
    check_has(world.root.file("/var/log/aqueduct/user-data.log").read_text(), "somebody else's, or Docker has a new one", "user-data: ends with 1")


def hold_apt_locks(root):
    """As unattended upgrades do at boot; gives a function that tells how long."""
    files = []
    for path in ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend"):
        root.file(path).parent.mkdir(parents=True, exist_ok=True)
        files.append(open(root.file(path), "w"))
        fcntl.lockf(files[-1], fcntl.LOCK_EX)
    began = time.monotonic()
    held = []

    def release():
        for file in files:
            time.sleep(2)
            file.close()
        held.append(time.monotonic() - began)

    thread = threading.Thread(target=release)
    thread.start()

    def wait():
        thread.join()
        return held[0]

    return wait


@promise("the first boot makes a host: Docker, users, directories, configuration, units; the ready signal says ok", needed=True)
def first_boot(world):
    done = world.boot()
    check(done.returncode == 0, done.stdout)
    world.root.keep_packages()
    check(re.fullmatch(rf"{INSTANCE} \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ ok", world.ready()), world.ready())
    root = world.root
    for program, says in [("docker", "docker"), ("/usr/libexec/docker/cli-plugins/docker-compose", "compose")]:
        check(root.run(program).stdout.strip() == says, f"{program} is not the repository's")
    # The same repository offers a newer logrotate, which is none of its business.
    policy = root.run("apt-cache", "policy", "logrotate").stdout
    check("Candidate: 99" not in policy and " 99 -1" in policy, policy)
    environment = root.file("/etc/aqueduct/host.env").read_text()
    check_has(environment, f"DATABASE_URL=postgres://localhost:{world.postgres.port}/warehouse?sslmode=verify-full\n",
              f"AQUEDUCT_STORE=s3://{DATA}/incoming\n", f"DATABASE_SECRET={world.secrets['app']}\n", "PROJECT=aqueduct\n",
              "ENVIRONMENT=dev\n", f"AWS_REGION={REGION}\n", f"ARTIFACT_BUCKET={ARTIFACTS}\n", f"PARAMETERS={PARAMETERS}\n")
    config = root.file("/etc/log-shipper/config.toml").read_text()
    check_has(config, 'group = "/aqueduct/dev/etl-runner"', 'group = "/aqueduct/dev/host"')
    check("retention_days" not in re.sub(r"#.*", "", config), "the role may not set how long groups are kept")
    calls = world.calls()
    check_has("\n".join(calls), "daemon-reload", "enable --quiet log-shipper.service",
              "enable --quiet --now aqueduct-load.timer aqueduct-load-full.timer")
    check(not any(call.startswith("restart") for call in calls), "there is nothing to start before the first release")
    status = root.file("/var/log/aqueduct").stat()
    check(stat.S_IMODE(status.st_mode) == 0o750 and status.st_gid == 4, "logs are for root and adm")
    check(root.run("id", "-nG", "aqueduct").stdout.strip() == "aqueduct", "the user of the loads is in a group too many")


@promise("a second boot changes no file on the host, and says ok again")
def second_boot_changes_nothing(world):
    # The user data is put there by the test, and gpg keeps its own books in root's home.
    kept = (*RUNNING, "/root", str(Path(USER_DATA).parent))
    before = world.root.listing(but=kept)
    calls = len(world.calls())
    world.aws.put_parameter(f"{PARAMETERS}/host/ready", "none")
    done = world.boot()
    check(done.returncode == 0 and world.ready().endswith(" ok"), done.stdout)
    after = world.root.listing(but=kept)
    check(before == after, difference(before, after))
    check("daemon-reload" not in world.calls()[calls:], "systemd was told that something changed")


@promise("a host archive with another digest is not unpacked, and the ready signal says so")
def a_wrong_host_archive_is_refused(world):
    right, before = world.host_archive, world.root.listing("/opt/aqueduct/host")
    world.host_archive = right + b"?"
    try:
        done = world.boot()
    finally:
        world.host_archive = right
    check(done.returncode == 1, done.stdout)
    check_has(done.stdout, "has another digest than Terraform said")
    check_has(world.ready(), "failed: archive (exit 1)")
    check(world.root.listing("/opt/aqueduct/host") == before, "the host's folder changed")
    shutil.rmtree(world.root.file("/opt/aqueduct/host.new"))
    world.root.file("/opt/aqueduct/host.new.tar.gz").unlink()


@promise("logs are rotated by renaming; the new one is for root and adm")
def logs_are_rotated(world):
    root = world.root
    log = root.file("/var/log/aqueduct/etl-runner.log")
    log.write_text("{}\n")
    done = root.run("logrotate", "--force", "--state", "/tmp/logrotate.state", "/etc/logrotate.d/aqueduct")
    check(done.returncode == 0, done.stdout)
    check(log.with_name("etl-runner.log.1").read_text() == "{}\n", "the old one is not there")
    check(log.read_text() == "" and stat.S_IMODE(log.stat().st_mode) == 0o640 and log.stat().st_gid == 4, "the new one is not right")


# ---- deploys


@promise("pipelines are not deployed before there are binaries to check them with")
def pipelines_want_binaries(world):
    before = world.tree()
    digest = world.publish("pipelines", "p0", archive({"customers.toml": CUSTOMERS}))
    done = world.deploy("pipelines", "p0", digest)
    check(done.returncode == 2, done.stdout)
    check_has(done.stdout, "deploy those first")
    check(world.deployed("pipelines") is None and not world.releases("pipelines"), "it was deployed")
    check(without_times(before, world.tree()), "something changed")


def without_times(before, after):
    """The same but for the time of directories that something was put into and taken out of again."""
    drop = ("opt/aqueduct/incoming", "opt/aqueduct/.", "opt/aqueduct/.deploy.lock", "opt/aqueduct")

    def strip(tree):
        return {path: entry for path, entry in tree.items() if not path.startswith(drop[0]) and path not in drop}

    before, after = strip(before), strip(after)
    check(before == after, difference(before, after))
    return True


@promise("the first deploy of binaries: unpacked as root's, modes set, switched to, log-shipper started and well", needed=True)
def first_deploy(world):
    digest = world.publish("binaries", "b1", world.binaries("b1"))
    done = world.deploy("binaries", "b1", digest)
    check(done.returncode == 0, done.stdout)
    world.check_running("b1")
    for name in ("etl-runner", "log-shipper", "ingest"):
        status = world.root.file(f"/opt/aqueduct/binaries/releases/b1/{name}").stat()
        check((stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 0), f"{name} has mode {status.st_mode:o}")
    check_has(world.root.file("/var/log/aqueduct/host.log").read_text(), "deploy: binaries b1 is the current release")


@promise("the first deploy of pipelines, though neither table nor object is there yet")
def first_pipelines(world):
    world.p1 = world.publish("pipelines", "p1", archive({".": directory_entry(), "./customers.toml": CUSTOMERS}))
    done = world.deploy("pipelines", "p1", world.p1)
    check(done.returncode == 0, done.stdout)
    check_has(done.stdout, "which is no reason to stop here")
    check(world.deployed("pipelines") == "p1", done.stdout)
    check(sorted(os.listdir(world.root.file("/opt/aqueduct/pipelines/current"))) == [".sha256", "customers.toml"], "other files")


def directory_entry():
    entry = tarfile.TarInfo("./")
    entry.type, entry.mode = tarfile.DIRTYPE, 0o777
    return entry


@promise("units hold together on the host they are installed on (systemd-analyze verify)")
def units_verify(world):
    units = [path.name for path in sorted(HOST.glob("*.service")) + sorted(HOST.glob("*.timer"))]
    # systemd itself is not in that root, so its own units are those of this machine.
    run(["cp", "-a", "--no-clobber", "/lib/systemd/system/.", world.root.file("/lib/systemd/system")], check=False)
    done = run(["systemd-analyze", "verify", "--root", world.root.path, "--man=no", *units], check=False)
    ours = [line for line in done.stdout.splitlines() if re.search(r"\b(aqueduct-load|log-shipper)", line)]
    check(not ours, "\n".join(ours))
    check(len(units) == 5, f"{len(units)} units")


@promise("an upgrade switches, keeps the release from before as previous, and restarts log-shipper")
def upgrade(world):
    pid = world.root.file("/var/lib/stand-in/pid").read_text()
    world.b2 = world.publish("binaries", "b2", world.binaries("b2"))
    done = world.deploy("binaries", "b2", world.b2)
    check(done.returncode == 0, done.stdout)
    world.check_running("b2")
    check(os.readlink(world.root.file("/opt/aqueduct/binaries/previous")) == "releases/b1", "previous is not b1")
    check(world.root.file("/var/lib/stand-in/pid").read_text() != pid, "the old log-shipper runs on")


@promise("the same deploy again changes nothing: no file, no time, no restart")
def the_same_again(world):
    before, calls = world.tree(), world.calls()
    done = world.deploy("binaries", "b2", world.b2)
    check(done.returncode == 0, done.stdout)
    check_has(done.stdout, "current release already; nothing was changed")
    done = world.deploy("pipelines", "p1", world.p1)
    check(done.returncode == 0, done.stdout)
    after = world.tree()
    check(before == after, difference(before, after))
    check(world.calls() == calls, "systemd was asked something")


@promise("an archive with another digest is refused, and nothing changed; so is an ID that is here with another digest")
def a_wrong_digest_is_refused(world):
    before, calls = world.tree(), world.calls()
    world.publish("binaries", "b3", world.binaries("b3"))
    for name, says in [("b3", "has another digest than was asked for"), ("b1", "is here with another digest")]:
        done = world.deploy("binaries", name, "0" * 64)
        check(done.returncode == 2, done.stdout)
        check_has(done.stdout, says)
    without_times(before, world.tree())
    check(world.calls() == calls, "systemd was asked something")
    world.check_running("b2")


@promise("an archive with a path outside, a link, a device, a stranger, a file twice, or one missing is refused, and nothing changed")
def odd_archives_are_refused(world):
    def entry(name, kind, target=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    good = {"etl-runner": "x", "log-shipper": "x", "ingest": "x"}
    twice = archive(good | {"./ingest": "y"})
    cases = {
        "outside": archive(good | {"../../../etc/cron.d/evil": "x"}), "absolute": archive(good | {"/etc/cron.d/evil": "x"}),
        "link": archive(good | {"ingest": entry("ingest", tarfile.SYMTYPE, "/bin/sh")}),
        "hard": archive(good | {"ingest": entry("ingest", tarfile.LNKTYPE, "etl-runner")}),
        "device": archive(good | {"ingest": entry("ingest", tarfile.CHRTYPE)}), "stranger": archive(good | {"sudo": "x"}),
        "twice": twice, "missing": archive({"ingest": "x"}), "no-archive": b"<html>",
    }
    before = world.tree()
    for name, data in cases.items():
        done = world.deploy("binaries", f"odd-{name}", world.publish("binaries", f"odd-{name}", data))
        check(done.returncode == 2, f"{name}: {done.stdout}")
        check_has(done.stdout, "is refused", "nothing was changed")
    without_times(before, world.tree())
    check(not world.root.file("/etc/cron.d/evil").exists(), "it came outside")


@promise("a pipeline with a mistake is refused before the switch, with its place, and nothing changed")
def a_mistake_is_refused(world):
    before = world.tree()
    done = world.deploy("pipelines", "p2", world.publish("pipelines", "p2", archive({"customers.toml": MISTAKE})))
    check(done.returncode == 2, done.stdout)
    check_has(done.stdout, 'unknown key "mistake"', "(exit 2)", "nothing was changed")
    without_times(before, world.tree())


@promise("binaries that cannot read the pipelines that are here, or do not run, are refused before the switch")
def broken_binaries_are_refused(world):
    before = world.tree()
    picky = '#!/bin/sh\nif [ "$1" = check ]; then echo "error: customers.toml:3:1" >&2; exit 2; fi\n'
    broken = {"picky": {"etl_runner": picky}, "crash": {"etl_runner": '#!/bin/sh\n[ "$1" = --version ] || kill -SEGV $$\n'},
              "no-program": {"ingest": b"\x7fELF nothing"}}
    for name, files in broken.items():
        done = world.deploy("binaries", name, world.publish("binaries", name, world.binaries(name, **files)))
        check(done.returncode == 2, f"{name}: {done.stdout}")
        check_has(done.stdout, f"binaries {name} is refused", "nothing was changed")
    without_times(before, world.tree())


@promise("a release whose log-shipper is not well is taken back, the one before runs again, and the deploy fails")
def an_unhealthy_release_is_taken_back(world):
    world.root.write("/usr/local/bin/log-shipper.good", "", 0o755)
    shutil.copyfile(world.root.file("/opt/aqueduct/binaries/releases/b2/log-shipper"), world.root.file("/usr/local/bin/log-shipper.good"))
    digest = world.publish("binaries", "sick", world.binaries("sick", log_shipper=SHIPPER_THAT_FAILS))
    done = world.deploy("binaries", "sick", digest, AQUEDUCT_HEALTH_SECONDS="8")
    check(done.returncode == 1, done.stdout)
    check_has(done.stdout, "going back to b2", "binaries sick was taken back: b2 runs again")
    world.check_running("b2")
    check("sick" not in world.releases(), "the sick release is still there")


@promise("going back is a deploy of the ID from before, without a download")
def going_back(world):
    digest = world.root.file("/opt/aqueduct/binaries/releases/b1/.sha256").read_text().strip()
    done = world.deploy("binaries", "b1", digest, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    check(done.returncode == 0, done.stdout)
    world.check_running("b1")


@promise("the last three releases stay, the current one and the previous one always among them")
def three_releases_stay(world):
    for name in ("b4", "b5", "b6"):
        done = world.deploy("binaries", name, world.publish("binaries", name, world.binaries(name)))
        check(done.returncode == 0, done.stdout)
    check(world.releases() == ["b4", "b5", "b6"], world.releases())
    world.check_running("b6")


@promise("of two deploys at once one waits for the other, or ends with 75 when it may not wait")
def two_at_once(world):
    digests = {name: world.publish("binaries", name, world.binaries(name)) for name in ("left", "right")}
    hang = world.root.file("/var/lib/stand-in/hang")
    hang.touch()
    first = world.start_deploy("binaries", "left", digests["left"])
    until("the first deploy has switched", lambda: world.deployed() == "left")
    third = world.deploy("binaries", "right", digests["right"], AQUEDUCT_LOCK_SECONDS="0")
    check(third.returncode == 75, third.stdout)
    check_has(third.stdout, "another deploy is under way")
    second = world.start_deploy("binaries", "right", digests["right"])
    time.sleep(0.5)
    check(second.poll() is None and world.deployed() == "left", "the second one did not wait")
    hang.unlink()
    for deploy in (first, second):
        output = deploy.communicate(timeout=90)[0]
        check(deploy.returncode == 0, output)
    world.check_running("right")


@promise("a deploy that is killed while it fetches leaves the host as it was, and the next one succeeds")
def killed_while_fetching(world):
    slow = '#!/bin/sh\n/usr/bin/aws "$@"\nsleep 60\n'
    world.root.write("/srv/slow/aws", slow, 0o755)
    digest = world.publish("binaries", "k1", world.binaries("k1"))
    deploy = world.start_deploy("binaries", "k1", digest, PATH="/srv/slow:" + world.root.environment["PATH"])
    until("the archive is here", lambda: world.root.file("/opt/aqueduct/incoming/binaries-k1.tar.gz").exists())
    kill(deploy)
    check(world.deployed() == "right", "the switch came too early")
    done = world.deploy("binaries", "k1", digest)
    check(done.returncode == 0, done.stdout)
    world.check_running("k1")


@promise("a deploy that is killed behind its switch is taken up again by the next one, which restarts and watches")
def killed_behind_the_switch(world):
    digest = kill_behind_the_switch(world, "k2", world.binaries("k2"))
    done = world.deploy("binaries", "k2", digest)
    check(done.returncode == 0, done.stdout)
    check_has(done.stdout, "was interrupted after its switch; k1 is the last release that proved itself")
    world.check_running("k2")


def kill_behind_the_switch(world, name, data):
    digest = world.publish("binaries", name, data)
    hang = world.root.file("/var/lib/stand-in/hang")
    hang.touch()
    deploy = world.start_deploy("binaries", name, digest)
    until("the deploy has switched", lambda: world.deployed() == name)
    kill(deploy)
    hang.unlink()
    return digest


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@promise("behind a killed deploy of a sick release, a second sick one goes back to the release that proved itself")
def back_to_what_proved_itself(world):
    kill_behind_the_switch(world, "k3", world.binaries("k3", log_shipper=SHIPPER_THAT_FAILS))
    digest = world.publish("binaries", "k4", world.binaries("k4", log_shipper=SHIPPER_THAT_FAILS))
    done = world.deploy("binaries", "k4", digest, AQUEDUCT_HEALTH_SECONDS="6")
    check(done.returncode == 1, done.stdout)
    check_has(done.stdout, "k2 is the last release that proved itself", "k2 runs again")
    world.check_running("k2")


@promise("deploy.sh refuses kinds, IDs and digests that are none, and a release that was never uploaded")
def odd_deploys_are_refused(world):
    before, digest = world.tree(), "a" * 64
    for arguments in (("binary", "x", digest), ("binaries", "../x", digest), ("binaries", "-x", digest), ("binaries", "x", "A" * 64),
                      ("binaries", "x/y", digest), ("binaries", "x; id", digest), ("binaries", "", digest), ("binaries", "x\ny", digest)):
        done = world.deploy(*arguments)
        check(done.returncode == 2 and "usage:" in done.stdout, f"{arguments}: {done.stdout}")
    done = world.deploy("binaries", "never", digest)
    check(done.returncode == 1, done.stdout)
    check_has(done.stdout, "was that release uploaded")
    without_times(before, world.tree())


# ---- the database


@promise("the set-up says what to do while no role may read the master secret")
def setup_wants_a_role(world):
    done = setup(world)
    check(done.returncode == 1, done.stdout)
    check_has(done.stdout, "database_setup_enabled = true")


def setup(world, *schemas, **environment):
    return world.root.run("bash", "/opt/aqueduct/host/setup-database.sh", *schemas, **environment)


@promise("the set-up makes ledger, roles, logins and rights as an administrator who is no superuser; loader and reader log in")
def setup_works(world):
    world.aws.put_parameter(f"{PARAMETERS}/database/setup-role", SETUP_ROLE)
    done = setup(world)
    check(done.returncode == 0, done.stdout)
    world.setup_output = done.stdout
    postgres = world.postgres
    for user, password, role in (("aqueduct_loader", APP_PASSWORD, "aqueduct_app"), ("aqueduct_reader", READ_PASSWORD, "aqueduct_read")):
        done = postgres.login(user, password, f"select pg_has_role('{role}', 'member')", "warehouse")
        check(done.stdout.strip() == "t", done.stdout)
        done = postgres.login(user, password + "x", "select 1", "warehouse")
        check(done.returncode != 0, "a wrong password is right, too")
    done = postgres.login("aqueduct_loader", APP_PASSWORD, "create table public.made_by_loader (id bigint); insert into made_by_loader values (7)", "warehouse")
    check(done.returncode == 0, done.stdout)
    done = postgres.login("aqueduct_reader", READ_PASSWORD, "select id from public.made_by_loader", "warehouse")
    check(done.stdout.strip() == "7", done.stdout)
    done = postgres.login("aqueduct_reader", READ_PASSWORD, "delete from public.made_by_loader", "warehouse")
    check_has(done.stdout, "permission denied")
    done = postgres.login("aqueduct_reader", READ_PASSWORD, "create table public.mine (id bigint)", "warehouse")
    check_has(done.stdout, "permission denied")


@promise("the set-up again changes no login, and takes a table that was made before the reader's rights; another schema, too")
def setup_again(world):
    postgres = world.postgres
    stored = "select rolname, rolpassword from pg_authid where rolname like 'aqueduct%' order by 1"
    before = postgres.sql(stored).stdout
    postgres.login("aqueduct_loader", APP_PASSWORD, "revoke select on made_by_loader from aqueduct_read", "warehouse")
    done = setup(world, "public", "staging")
    check(done.returncode == 0, done.stdout)
    check_has(done.stdout, "login aqueduct_loader has its password")
    check(postgres.sql(stored).stdout == before, "the verifiers changed")
    check(postgres.login("aqueduct_reader", READ_PASSWORD, "select id from made_by_loader", "warehouse").stdout.strip() == "7", "no right")
    check(postgres.login("aqueduct_loader", APP_PASSWORD, "create table staging.t (id int)", "warehouse").returncode == 0, "no right")


@promise("a password that has changed in its secret is the login's after the next set-up")
def setup_after_a_rotation(world):
    world.aws.change_secret(world.secrets["app"], "aqueduct_loader", APP_PASSWORD + "2")
    done = setup(world)
    check(done.returncode == 0, done.stdout)
    check(world.postgres.login("aqueduct_loader", APP_PASSWORD + "2", "select 1", "warehouse").returncode == 0, "not the new one")
    check(world.postgres.login("aqueduct_loader", APP_PASSWORD, "select 1", "warehouse").returncode != 0, "the old one still")


@promise("no password is in the server's log, which holds every statement, in a log or file of the host, or in what was printed")
def passwords_are_nowhere(world):
    log = world.postgres.log()
    check_has(log, "alter role", "SCRAM-SHA-256$4096:")  # it does hold statements
    # The administrator's was set by this test, in clear, before any of it.
    log = log.split("create database warehouse", 1)[1]
    places = {"the server's log": log, "the output": world.setup_output}
    for path in [*world.root.file("/var/log").rglob("*"), *world.root.file("/run").rglob("*"), *world.root.file("/tmp").rglob("*"),
                 *world.root.file("/var/lib/stand-in").rglob("*"), *world.root.file("/etc").rglob("*")]:
        if path.is_file() and not path.is_symlink():
            places[str(path)] = path.read_bytes().decode(errors="replace")
    for name, text in places.items():
        for password in (MASTER_PASSWORD, APP_PASSWORD, READ_PASSWORD):
            check(password not in text, f"a password is in {name}")
    check(not list(world.root.file("/run").glob("aqueduct-setup*")), "the files of psql were left")


@promise("no password is ever in the arguments or the environment of a process (looked at every 2 ms through a set-up)")
def passwords_are_in_no_process(world):
    world.aws.change_secret(world.secrets["app"], "aqueduct_loader", APP_PASSWORD + "3")
    child = world.root.start("bash", "/opt/aqueduct/host/setup-database.sh")
    secrets = [text.encode() for text in (MASTER_PASSWORD, APP_PASSWORD, READ_PASSWORD)]
    seen, looks, mine = set(), 0, os.getpid()
    while child.poll() is None:
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == mine:
                continue
            try:
                texts = [(process / "cmdline").read_bytes(), (process / "environ").read_bytes()]
            except OSError:
                continue
            looks += 1
            for text in texts:
                if any(secret in text for secret in secrets):
                    seen.add(texts[0].replace(b"\0", b" ")[:200])
        time.sleep(0.002)
    output = child.communicate()[0]
    check(child.returncode == 0, output)
    check(looks > 100, f"only {looks} looks")
    # The stand-in for etl-runner gives psql its password by the environment; etl-runner connects by itself.
    check(not seen or not world.real_runner, f"a password is in {seen}")


# ---- jobs


@promise("run-job.sh refuses names, keys and numbers of arguments that are odd, and runs nothing")
def odd_jobs_are_refused(world):
    log = world.root.file("/var/log/aqueduct/etl-runner.log")
    before = log.read_text()
    for arguments in (("../customers",), ("customers; id",), ("-v",), ("",), ("a b",), (), ("customers", "a", "b"), ("$(id)",),
                      ("customers", "../x.csv"), ("customers", "/etc/passwd"), ("customers", "a//b"), ("customers", "a\nb"),
                      ("customers", "`id`"), ("customers", "a/../../b"), ("customers", "x" * 1025), ("customers", "a;b")):
        done = job(world, *arguments)
        check(done.returncode == 2, f"{arguments}: {done.returncode} {done.stdout}")
        check_has(done.stdout, "run-job: ")
    done = job(world, "orders")
    check(done.returncode == 2, done.stdout)
    check_has(done.stdout, "there is no pipeline orders on this host; there are: customers.toml")
    check(log.read_text() == before, "something ran")


def job(world, *arguments, **environment):
    return world.root.run("bash", "/opt/aqueduct/host/run-job.sh", *arguments, **environment)


def documents(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@promise("a job loads one object and prints the result; metrics go to the log as JSON lines; again it loads nothing")
def a_job_runs(world):
    for name in ("customers-clean.csv", "customers-dirty.csv"):
        world.aws.put(DATA, f"incoming/customers/{name}", (REPOSITORY / "seed-data/customers" / name).read_bytes())
    done = job(world, "customers", "customers/customers-clean.csv")
    log = world.root.file("/var/log/aqueduct/etl-runner.log")
    lines = log.read_text().splitlines()
    check(lines and all(line.startswith("{") for line in lines), f"not JSON alone: {lines}")
    if not world.real_runner:
        check(done.returncode == 1, done.stdout)
        check(documents(done.stdout)[0]["schema"] == "etl.run/1", done.stdout)
        return
    check(done.returncode == 0, done.stdout)
    result = documents(done.stdout)[0]
    check(result["pipelines"][0]["loads"][0]["counts"]["loaded"] == 40, done.stdout)
    check(json.loads(lines[-1])["Loaded"] == 40, lines[-1])
    count = world.postgres.sql("select count(*) from public.customers", "warehouse").stdout.strip()
    check(count == "40", f"{count} rows")
    done = job(world, "customers.toml")
    check(done.returncode == 0, done.stdout)
    check([load["outcome"] for load in documents(done.stdout)[0]["pipelines"][0]["loads"]].count("loaded") == 1, done.stdout)
    done = world.postgres.login("aqueduct_reader", READ_PASSWORD, "select count(*) from public.customers", "warehouse")
    check(done.stdout.strip() == "59", f"the reader sees {done.stdout}")


@promise("a job runs as the user of the loads, keeps the exit code, and is stopped at its time limit")
def a_job_has_a_limit(world):
    check_it = ('#!/bin/sh\ncase "$1" in --version) echo x;; run) id -un >&2; trap "exit 143" TERM; '
                '[ "$JOB_SLEEPS" ] || exit 75; sleep 30 & wait;; esac\n')
    link = world.root.file("/usr/local/bin/etl-runner")
    world.root.write("/usr/local/bin/etl-runner", check_it, 0o755)
    try:
        done = job(world, "customers")
        check(done.returncode == 75, done.stdout)
        check_has(done.stdout, "\naqueduct\n")
        began = time.monotonic()
        done = job(world, "customers", JOB_SLEEPS="1", AQUEDUCT_JOB_SECONDS="1")
        check(done.returncode == 143 and time.monotonic() - began < 10, f"{done.returncode}: {done.stdout}")
    finally:
        link.unlink()
        link.symlink_to("/opt/aqueduct/binaries/current/etl-runner")


@promise("the timer's run loads what is new as the unit's user; a pipeline without objects is a quiet minute, a failure is told")
def the_timer_runs(world):
    toml = CUSTOMERS.replace('"customers"', '"orders"').replace("customers/*", "orders/*")
    digest = world.publish("pipelines", "p3", archive({"customers.toml": CUSTOMERS, "orders.toml": toml}))
    done = world.deploy("pipelines", "p3", digest)
    check(done.returncode == 0, done.stdout)
    done = load(world)
    check((done.returncode, done.stdout) == (0, ""), f"{done.returncode}: {done.stdout}")
    if world.real_runner:
        world.aws.put(DATA, "incoming/orders/broken.csv", b"%PDF-1.7\n")
        done = load(world)
        check(done.returncode in (3, 5), f"{done.returncode}: {done.stdout}")
        check_has(done.stdout, "orders/broken.csv")
        # It stays red until somebody does something about it.
        check(load(world).returncode == 3, "a load that waits for somebody was forgotten")


def load(world):
    """As aqueduct-load.service does: its user, its environment, its descriptors."""
    unit = (HOST / "aqueduct-load.service").read_text()
    command = re.search(r"^ExecStart=(.*)$", unit, re.M)[1]
    return world.root.run("sh", "-c", "set -a; . /etc/aqueduct/host.env; set +a; exec setpriv --reuid=aqueduct --regid=aqueduct "
                          f"--init-groups --no-new-privs {command} 2>>/var/log/aqueduct/etl-runner.log")


@promise("a new host takes the releases that the parameters name, and its second boot changes nothing")
def releases_of_the_parameters(world):
    digest = world.root.file("/opt/aqueduct/binaries/releases/k2/.sha256").read_text().strip()
    world.aws.put_parameter(f"{PARAMETERS}/release/binaries", f"k2 {digest}")
    world.aws.put_parameter(f"{PARAMETERS}/release/pipelines", f"p1 {world.p1}")
    world.root.run("systemctl", "stop", "log-shipper.service")
    for kind in ("binaries", "pipelines"):
        for name in ("current", "previous"):
            world.root.file(f"/opt/aqueduct/{kind}/{name}").unlink(missing_ok=True)
        shutil.rmtree(world.root.file(f"/opt/aqueduct/{kind}/releases"))
    done = world.boot()
    check(done.returncode == 0 and world.ready().endswith(" ok"), done.stdout)
    world.check_running("k2")
    check(world.deployed("pipelines") == "p1", done.stdout)
    before = world.tree()
    done = world.boot()
    check(done.returncode == 0, done.stdout)
    check(before == world.tree(), difference(before, world.tree()))


@promise("log-shipper takes the configuration as it is rendered")
def the_configuration_is_right(world):
    done = world.root.run("/usr/local/bin/log-shipper", "check", "--offline", "/etc/log-shipper/config.toml")
    check(done.returncode == 0, done.stdout)
    if os.environ.get("LOG_SHIPPER"):
        check_has(done.stdout, "/aqueduct/dev/etl-runner / {instance_id}/{file}", "/aqueduct/dev/host / {instance_id}/journal")
        check("PutRetentionPolicy" not in done.stdout, "it asks for a right that the role has not")


import bootstrap_promises  # noqa: E402, F401  they come after those of the host


def main():
    began = time.monotonic()
    # Quick, and nothing has to be deleted afterwards. PostgreSQL's shared memory is not to stand among the machine's either.
    for where in (os.environ["WORK"], "/dev/shm"):
        run(["mount", "-t", "tmpfs", "-o", "mode=755,size=6g" if where != "/dev/shm" else "mode=1777", "tmpfs", where])
    world = World(Path(os.environ["WORK"]))
    print(f"the parts stand after {time.monotonic() - began:.0f} s"
          f"{'' if world.real_runner else '; ETL_RUNNER is not given: a stand-in takes its place'}", flush=True)
    try:
        kept = keep_promises(world)
    finally:
        world.close()
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
