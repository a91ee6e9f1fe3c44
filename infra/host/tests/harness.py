"""Real parts for the tests of the host: an AWS emulator, a web server with an apt repository and the metadata service, a root
file system that is entered with chroot, PostgreSQL with TLS."""
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = HERE.parent
REPOSITORY = HOST.parent.parent
REGION = "eu-west-1"
ACCOUNT = "123456789012"
INSTANCE = "i-0123456789abcdef0"

promises = []


def promise(text, needed=False, aside=False):
    """Registers a test under the promise it keeps. They run in order: each finds the host as the one before has left it.
    Without one that is needed the rest would only fail for want of it; one aside has nothing to do with the host, and runs
    beside the others."""

    def register(test):
        promises.append((text, test, needed, aside))
        return test

    return register


def keep(world, text, test):
    """Whether the promise was kept; says so in one line."""
    start = time.monotonic()
    trouble = ""
    try:
        test(world)
    except Exception as error:  # the others are worth knowing, too
        place = traceback.extract_tb(error.__traceback__)[1:]
        trouble = "\n".join(f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}" for frame in place[:3])
        trouble += f"\n{type(error).__name__}: {error}"
    lines = [f"{'FAILED' if trouble else 'ok':6} {time.monotonic() - start:5.1f} s  {text}"]
    shown = trouble.splitlines()
    if len(shown) > 60:
        shown = [*shown[:5], "…", *shown[-54:]]  # where it was, and how it ended
    lines += [f"       | {line}" for line in shown]
    print("\n".join(lines), flush=True)
    return not trouble


def keep_promises(world):
    began = time.monotonic()
    kept = []
    aside = threading.Thread(target=lambda: kept.extend(keep(world, p[0], p[1]) for p in promises if p[3]))
    aside.start()
    for text, test, needed, is_aside in promises:
        if is_aside:
            continue
        kept.append(keep(world, text, test))
        if needed and not kept[-1]:
            break
    aside.join()
    print(f"{sum(kept)} of {len(promises)} promises kept, {time.monotonic() - began:.0f} s")
    return sum(kept) == len(promises)


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def check_has(text, *parts):
    for part in parts:
        check(part in text, f"{part!r} is not in:\n{text}")


def run(arguments, **options):
    options.setdefault("check", True)
    check_it = options.pop("check")
    done = subprocess.run([str(a) for a in arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=options.pop("stdin", subprocess.DEVNULL), **options)
    if check_it:
        check(done.returncode == 0, f"{' '.join(map(str, arguments[:6]))} ended with {done.returncode}:\n{done.stdout}")
    return done


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Process:
    """A server of ours, ended by its own pid."""

    def __init__(self, arguments, log, **options):
        self.log = Path(log)
        self.child = subprocess.Popen([str(a) for a in arguments], stdout=self.log.open("ab"), stderr=subprocess.STDOUT,
                                      stdin=subprocess.DEVNULL, **options)

    def stop(self, how=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Emulator:
    """moto: S3, SSM, Secrets Manager, STS and CloudWatch Logs over HTTP."""

    def __init__(self, directory):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process([os.environ["MOTO_SERVER"], "-H", "127.0.0.1", "-p", self.port], directory / "moto.log")

    def wait(self):
        until("the emulator answers", self.answers, 60)

    def answers(self):
        check(self.process.child.poll() is None, "the emulator ended: " + self.process.log.read_text())
        try:
            urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2).close()
            return True
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None, service="s3"):
        headers = {
            "Content-Type": "application/octet-stream",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, "
                             "SignedHeaders=host, Signature=0",
            **(headers or {}),
        }
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def call(self, service, target, **parameters):
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        return json.loads(self.request("POST", "/", json.dumps(parameters).encode(), headers, service) or b"{}")

    def make_bucket(self, name):
        body = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        self.request("PUT", f"/{name}", body.encode())

    def put(self, bucket, key, data):
        self.request("PUT", f"/{bucket}/{key}", data)

    def parameter(self, name):
        return self.call("ssm", "AmazonSSM.GetParameter", Name=name)["Parameter"]["Value"]

    def put_parameter(self, name, value):
        self.call("ssm", "AmazonSSM.PutParameter", Name=name, Value=value, Type="String", Overwrite=True)

    def put_secret(self, name, username, password):
        text = json.dumps({"username": username, "password": password})
        return self.call("secretsmanager", "secretsmanager.CreateSecret", Name=name, SecretString=text)["ARN"]

    def change_secret(self, arn, username, password):
        text = json.dumps({"username": username, "password": password})
        self.call("secretsmanager", "secretsmanager.PutSecretValue", SecretId=arn, SecretString=text)


class Web:
    """Serves Docker's repository and the metadata service, version 2: without a token it gives nothing."""

    def __init__(self, directory):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(directory))

            def log_message(self, *_):
                pass

            def answer(self, text):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self):
                self.answer("a-token") if self.path == "/latest/api/token" else self.send_error(404)

            def do_GET(self):
                if not self.path.startswith("/latest/"):
                    super().do_GET()
                elif self.headers.get("X-aws-ec2-metadata-token") != "a-token":
                    self.send_error(401)
                elif self.path == "/latest/meta-data/instance-id":
                    self.answer(INSTANCE)
                else:
                    self.send_error(404)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


def build_package(directory, name, files=None, version="99", depends=""):
    """A package of the test's own, as dpkg-deb makes one."""
    tree = directory / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: test <test@localhost>\n"
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN/control").write_text(control + f"Description: stand-in for {name}\n")
    for path, source in (files or {}).items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.write_text(source)
            target.chmod(0o755)
    run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, directory / f"{name}_{version}_all.deb"])
    shutil.rmtree(tree)


def build_awscli(directory):
    """The AWS CLI from PyPI as a package, with the services that the host uses; made once, like the root."""
    made = Path(os.environ["AWSCLI"]).parent / "awscli_99_all.deb"
    if made.exists():
        shutil.copy(made, directory)
        return
    site = next(Path(os.environ["AWSCLI"]).glob("lib/python3*/site-packages"))
    small = directory / "awscli-tree"
    keep = {"s3", "ssm", "secretsmanager", "sts"}

    def ignore(path, names):
        if Path(path) == site / "botocore/data":
            return [n for n in names if n not in keep and (site / "botocore/data" / n).is_dir()]
        return [n for n in names if n in ("__pycache__", "pip", "setuptools", "examples")]

    shutil.copytree(site, small, ignore=ignore)
    wrapper = ('#!/bin/sh\nPYTHONPATH=/usr/share/awscli-of-the-test exec /usr/bin/python3 -B -c '
               "'import sys; from awscli.clidriver import main; sys.exit(main())' \"$@\"\n")
    build_package(directory, "awscli", {"usr/share/awscli-of-the-test": small, "usr/bin/aws": wrapper}, depends="python3")
    shutil.rmtree(small)
    shutil.copy(directory / made.name, made)


class DockerRepository:
    """An apt repository of Docker's shape, signed with a key that lives as long as the test."""

    packages = {
        "docker-ce": {"usr/bin/dockerd": "#!/bin/sh\necho dockerd\n"},
        "docker-ce-cli": {"usr/bin/docker": "#!/bin/sh\necho docker\n"},
        "containerd.io": {"usr/bin/containerd": "#!/bin/sh\necho containerd\n"},
        "docker-compose-plugin": {"usr/libexec/docker/cli-plugins/docker-compose": "#!/bin/sh\necho compose\n"},
        # What the repository may not do: bring another version of what is the distribution's.
        "logrotate": {"usr/sbin/logrotate": "#!/bin/sh\necho taken over\n"},
    }

    def __init__(self, directory, suite):
        pool = directory / "pool"
        pool.mkdir(parents=True)
        for name, files in self.packages.items():
            build_package(pool, name, files)
        architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
        index = directory / f"dists/{suite}/stable/binary-{architecture}"
        index.mkdir(parents=True)
        (index / "Packages").write_text(run(["apt-ftparchive", "packages", "pool"], cwd=directory).stdout)
        release = run(["apt-ftparchive", "-o", f"APT::FTPArchive::Release::Codename={suite}",
                       "-o", f"APT::FTPArchive::Release::Suite={suite}",
                       "-o", "APT::FTPArchive::Release::Components=stable",
                       "-o", f"APT::FTPArchive::Release::Architectures={architecture}",
                       "release", f"dists/{suite}"], cwd=directory).stdout
        (directory / f"dists/{suite}/Release").write_text(release)
        home = directory.parent / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty"]
        run([*gpg, "--passphrase", "", "--quick-generate-key", "test <test@localhost>", "rsa2048", "sign", "never"])
        run([*gpg, "--clearsign", "--output", directory / f"dists/{suite}/InRelease", directory / f"dists/{suite}/Release"])
        run([*gpg, "--armor", "--output", directory / "gpg", "--export"])
        listing = run([*gpg, "--with-colons", "--list-keys"]).stdout
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
        run(["gpgconf", "--homedir", home, "--kill", "all"])


class Root:
    """A root file system, entered with chroot. The mounts are in the test's own namespace and go with it."""

    def __init__(self, directory):
        self.path = directory / "root"
        self.path.mkdir()
        run(["tar", "-C", self.path, "--numeric-owner", "-xpf", os.environ["ROOT_TAR"]])
        self.path.chmod(0o755)
        run(["mount", "-t", "proc", "proc", self.path / "proc"])
        # The name of the database's certificate.
        (self.path / "etc/hosts").write_text("127.0.0.1 localhost\n")
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")
        # debootstrap took it from a mirror whose dates may be old.
        (self.path / "etc/apt/apt.conf.d/99test").write_text('Acquire::Check-Valid-Until "false";\nAcquire::Languages "none";\n')
        # A root that lives for two minutes need not survive a power cut.
        (self.path / "etc/dpkg/dpkg.cfg.d/99test").write_text("force-unsafe-io\n")
        # Packages of an earlier run are installed as ever, but not fetched again.
        self.packages = Path(os.environ["ROOT_TAR"]).parent / "packages"
        self.packages.mkdir(exist_ok=True)
        for package in self.packages.glob("*.deb"):
            shutil.copy(package, self.path / "var/cache/apt/archives")
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                            "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, arguments, **environment):
        pairs = {**self.environment, **environment}
        return ["chroot", self.path, "/usr/bin/env", "-i", *(f"{k}={v}" for k, v in pairs.items()), *arguments]

    def run(self, *arguments, stdin=None, check=False, **environment):
        options = {"stdin": stdin} if stdin else {}
        return run(self.command(arguments, **environment), check=check, cwd="/", **options)

    def start(self, *arguments, **environment):
        """In a session of its own, so that all of it can be killed."""
        return subprocess.Popen([str(a) for a in self.command(arguments, **environment)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, start_new_session=True)

    def file(self, path):
        return self.path / str(path).lstrip("/")

    def write(self, path, text, mode=0o644):
        target = self.file(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():
            target.unlink()
        target.write_text(text)
        target.chmod(mode)

    def listing(self, *tops, but=()):
        """Path → kind, mode, owner, time of change and content, of everything below."""
        found = {}
        for top in tops or ("/",):
            for directory, names, files in os.walk(self.file(top)):
                names[:] = [n for n in names if not self.is_left_out(Path(directory, n), but)]
                for name in [".", *names, *files]:
                    path = Path(directory, name)
                    if self.is_left_out(path, but):
                        continue
                    status = path.lstat()
                    content = ""
                    if path.is_symlink():
                        content = os.readlink(path)
                    elif path.is_file():
                        # What a package brought is large, and its time and size tell.
                        is_ours = str(path.relative_to(self.path)).startswith(("etc/", "opt/", "usr/local/", "root/"))
                        content = hashlib.sha256(path.read_bytes()).hexdigest() if is_ours else status.st_size
                    found[str(path.relative_to(self.path))] = (oct(status.st_mode), status.st_uid, status.st_gid,
                                                               status.st_mtime_ns, content)
        return found

    def is_left_out(self, path, but):
        return any(path == self.file(other) or self.file(other) in path.parents for other in but)

    def keep_packages(self):
        for package in (self.path / "var/cache/apt/archives").glob("*.deb"):
            if "_99_" not in package.name:  # the test's own
                shutil.copy(package, self.packages)

    def close(self):
        run(["umount", self.path / "proc"], check=False)


def difference(before, after):
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return "\n".join(f"{path}: {before.get(path)} → {after.get(path)}" for path in changed[:20])


class Postgres:
    """A throwaway cluster with TLS and SCRAM that logs every statement. Its administrator is what RDS gives: no superuser."""

    def __init__(self, directory):
        self.bin = Path(os.environ.get("PG_BIN") or sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1])
        self.directory = directory / "postgres"
        self.directory.mkdir(mode=0o700)
        self.port = free_port()
        self.certificate = self.make_certificates()
        shutil.chown(self.directory, "nobody")
        for path in self.directory.iterdir():
            shutil.chown(path, "nobody")
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        data = self.directory / "data"
        run([*as_nobody, self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8",
             "-E", "UTF8"], cwd=self.directory)
        (data / "pg_hba.conf").write_text("local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory,
                    "ssl": "on", "ssl_cert_file": self.directory / "server.crt", "ssl_key_file": self.directory / "server.key",
                    "log_statement": "all", "log_min_error_statement": "debug5", "log_connections": "on", "fsync": "off",
                    "log_parameter_max_length_on_error": -1}
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.process = Process([*as_nobody, self.bin / "postgres", "-D", data], directory / "postgres.log", cwd=self.directory)
        until("PostgreSQL answers", lambda: self.sql("select 1", check=False).returncode == 0, 30)

    def make_certificates(self):
        directory = self.directory
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=authority of the test", "-keyout", directory / "ca.key", "-out", directory / "ca.crt",
             "-addext", "basicConstraints=critical,CA:TRUE"])
        run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
             "-keyout", directory / "server.key", "-out", directory / "server.csr"])
        (directory / "names").write_text("subjectAltName=DNS:localhost\n")
        run(["openssl", "x509", "-req", "-in", directory / "server.csr", "-CA", directory / "ca.crt", "-CAkey",
             directory / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", directory / "names", "-out",
             directory / "server.crt"])
        (directory / "server.key").chmod(0o600)
        return (directory / "ca.crt").read_text()

    def sql(self, text, database="postgres", check=True):
        return run(["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", self.directory, "-p", self.port, "-U",
                    "postgres", "-d", database, "-c", text], check=check)

    def login(self, user, password, text, database):
        environment = {**os.environ, "PGPASSWORD": password}
        return run(["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", text,
                    f"host=localhost hostaddr=127.0.0.1 port={self.port} user={user} dbname={database} sslmode=verify-full "
                    f"sslrootcert={self.directory}/ca.crt"], check=False, env=environment)

    def log(self):
        return self.process.log.read_text()

    def stop(self):
        self.process.stop(signal.SIGINT)  # fast: does not wait for clients


def archive(entries):
    """A tar.gz of name → text, or of TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.mtime = len(data), 0o4777, 1000, 0
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest_of(data):
    return hashlib.sha256(data).hexdigest()
