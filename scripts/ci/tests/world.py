"""Where the scripts under test run: an AWS emulator, a stand-in in front of it for what it cannot play, a stand-in for GitHub.

The emulator's Run Command answers "Success" at once, without an output and without running anything. So `Front` passes every request on to the
emulator but for three of Systems Manager: it runs the command that was sent, in a directory that stands in for the host, and goes through the
states that Systems Manager would report.
"""
import atexit
import http.client
import http.server
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
CI = HERE.parent
REPOSITORY = CI.parent.parent
sys.path.insert(0, str(REPOSITORY / "infra" / "host" / "tests"))

from harness import ACCOUNT, REGION, Emulator, Process, check, free_port, run, until  # noqa: E402

ENVIRONMENT = "dev"
DATA, ARTIFACTS = "acme-data", f"aqueduct-dev-artifacts-{ACCOUNT}"


class Server:
    """Serves `answer(handler, body)` on a free port of 127.0.0.1 until it is stopped."""

    def __init__(self, answer):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = outer.read_chunks(self.rfile)
                status, headers, answer_body = answer(self, body)
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                        self.send_header(name, value)
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(answer_body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer_body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = serve

            def handle_expect_100(self):
                return super().handle_expect_100()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def read_chunks(stream):
        parts = []
        while size := int(stream.readline().split(b";")[0], 16):
            parts.append(stream.read(size))
            stream.readline()
        while stream.readline().strip():
            pass
        return b"".join(parts)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Front:
    """In front of the emulator; see above."""

    def __init__(self, emulator, host_directory):
        self.emulator, self.host = emulator, host_directory
        self.reset()
        self.server = Server(self.answer)
        self.url = self.server.url

    def reset(self):
        self.sent = []         # what was sent, as (hosts, command, parameters)
        self.cancelled = []
        self.script = {}       # host → states to go through before the end, or an end such as "ExecutionTimedOut"
        self.commands = {}     # (command id, host) → states left
        self.results = {}      # (command id, host) → (code, stdout, stderr)
        self.environment = {}  # what the stand-ins on the host see
        self.denied = set()    # actions that are answered with AccessDenied

    def answer(self, handler, body):
        action = handler.headers.get("X-Amz-Target", "").rsplit(".", 1)[-1]
        if action in self.denied:
            return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode()
        if handler.command == "HEAD" and "HeadObject" in self.denied:
            return 403, {}, b""
        if action == "GetCommandInvocation":
            return self.invocation(json.loads(body))
        if action == "CancelCommand":
            self.cancelled.append(json.loads(body)["CommandId"])
            return 200, {"Content-Type": "application/x-amz-json-1.1"}, b"{}"
        status, headers, answer = self.forward(handler, body)
        if action == "SendCommand" and status == 200:
            self.send(json.loads(body), json.loads(answer)["Command"]["CommandId"])
        return status, headers, answer

    def forward(self, handler, body):
        headers = {name: value for name, value in handler.headers.items()
                   if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length")}
        connection = http.client.HTTPConnection("127.0.0.1", self.emulator.port, timeout=60)
        try:
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def send(self, question, command):
        text = question["Parameters"]["commands"][0]
        self.sent.append((question["InstanceIds"], text, question["Parameters"]))
        for host in question["InstanceIds"]:
            self.commands[command, host] = list(self.script.get(host, ["Pending", "InProgress"]))
            local = text.replace("/opt/aqueduct/host", str(self.host)).replace("/usr/local/bin", str(self.host / "bin"))
            # Run Command hands it to sh, in a file.
            done = subprocess.run(["sh", "-c", local], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                  env={"PATH": "/usr/bin:/bin", "HOST": host, "HOST_DIRECTORY": str(self.host), **self.environment}, check=False)
            self.results[command, host] = (done.returncode, done.stdout[:24_000], done.stderr[:24_000])

    def invocation(self, question):
        key = question["CommandId"], question["InstanceId"]
        states = self.commands[key]
        code, stdout, stderr = self.results[key]
        state = states.pop(0) if states and states[0] != "for ever" else ("InProgress" if states else None)
        head = {"Content-Type": "application/x-amz-json-1.1"}
        if state == "unknown yet":
            return 400, head, json.dumps({"__type": "InvocationDoesNotExist", "message": ""}).encode()
        status = details = state
        if state is None:
            status = details = "Success" if code == 0 else "Failed"
        elif state in ("ExecutionTimedOut", "DeliveryTimedOut"):
            status, details, code, stdout = "TimedOut", re.sub("([a-z])([A-Z])", r"\1 \2", state), -1, ""
        elif state == "Undeliverable":
            status, code, stdout = "Failed", -1, ""
        elif state in ("Pending", "InProgress"):
            code, stdout, stderr = -1, "", ""
        return 200, head, json.dumps({
            "CommandId": key[0], "InstanceId": key[1], "Status": status, "StatusDetails": details, "ResponseCode": code,
            "StandardOutputContent": stdout, "StandardErrorContent": stderr}).encode()


class GitHub:
    """Comments and issues of one repository, three on a page whatever is asked for."""

    def __init__(self):
        self.comments, self.issues, self.requests = [], [], []
        self.server = Server(self.answer)
        self.url = self.server.url

    def thing(self, number, body, login="github-actions[bot]", **more):
        return {"id": number, "number": number, "body": body, "user": {"login": login}, "html_url": f"https://example.invalid/{number}", **more}

    def answer(self, handler, body):
        path, _, query = handler.path.partition("?")
        self.requests.append((handler.command, path))
        if handler.headers.get("Authorization") != "Bearer a-token":
            return 401, {}, b"{}"
        parts = path.removeprefix("/repos/acme/aqueduct/").split("/")
        data = json.loads(body) if body else {}
        if handler.command == "GET":
            things = self.comments if parts[-1] == "comments" else [each for each in self.issues if each["state"] == "open"]
            page = int((re.search(r"\bpage=(\d+)", query) or [0, 1])[1])
            shown, rest = things[(page - 1) * 3:page * 3], things[page * 3:]
            link = {"Link": f'<{self.url}{path}?page={page + 1}>; rel="next"'} if rest else {}
            return 200, link, json.dumps(shown).encode()
        if len(data.get("body", "").encode("utf-16-le")) // 2 > 65_535:
            return 422, {}, b'{"message": "body is too long"}'
        if handler.command == "PATCH":
            kind = self.comments if parts[1] == "comments" else self.issues
            made = next(each for each in kind if str(each["id"]) == parts[-1])
            made.update(data)
        elif parts[-1] == "comments":
            made = self.thing(900 + len(self.comments), data["body"])
            self.comments.append(made)
        else:
            made = self.thing(700 + len(self.issues), data["body"], title=data["title"], state="open")
            self.issues.append(made)
        return 200 if handler.command == "PATCH" else 201, {}, json.dumps(made).encode()


class World:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.emulator = Emulator(self.directory)
        atexit.register(self.emulator.process.stop)  # whatever happens from here on
        self.emulator.wait()
        self.host = self.directory / "host"
        self.front = Front(self.emulator, self.host)
        self.github = GitHub()
        self.stand_ins = self.directory / "stand-ins"
        run(["cp", "-r", HERE / "stand-ins", self.stand_ins])
        run(["cp", "-r", HERE / "stand-ins" / "host", self.host])
        self.files = itertools.count()
        self.socket = self.directory / "warm-aws"
        self.warm = Process([f"{os.environ['AWSCLI']}/bin/python", HERE / "warm_aws.py", self.socket], self.directory / "warm-aws.log")
        atexit.register(self.warm.stop)
        until("the AWS CLI is loaded", self.socket.exists, 60)

    def stop(self):
        self.warm.stop()
        self.front.server.stop()
        self.github.server.stop()
        self.emulator.process.stop()

    def environment(self, **more):
        return {
            "PATH": f"{self.stand_ins}:{os.environ['AWSCLI']}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.directory), "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.directory),
            "AWS_ENDPOINT_URL": self.front.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AQUEDUCT_POLL_SECONDS": "0.05", "AQUEDUCT_RETRY_PAUSE": "0.1",
            "PROJECT_NAME": "aqueduct", "ENVIRONMENT": ENVIRONMENT, "OWNER": "acme", "GITHUB_REPOSITORY": "acme/aqueduct",
            "GITHUB_SHA": "1" * 40, "GITHUB_API_URL": self.github.url, "GITHUB_TOKEN": "a-token", "CALLS": str(self.directory / "calls"),
            "WARM_AWS": str(self.socket),
            **{name: str(value) for name, value in more.items()}}

    def ci(self, program, *arguments, cwd=None, **more):
        """Runs a script as a step of a workflow does. The result has also .summary and .outputs, of GitHub's files."""
        number = next(self.files)
        summary, output = self.directory / f"summary-{number}", self.directory / f"output-{number}"
        environment = self.environment(GITHUB_STEP_SUMMARY=summary, GITHUB_OUTPUT=output, **more)
        path = program if "/" in str(program) else CI / program
        done = subprocess.run([str(path), *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, env=environment, cwd=cwd or REPOSITORY, check=False)
        done.summary = summary.read_text() if summary.exists() else ""
        done.outputs = dict(line.split("=", 1) for line in output.read_text().splitlines()) if output.exists() else {}
        return done

    def ok(self, program, *arguments, **more):
        done = self.ci(program, *arguments, **more)
        check(done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
        return done

    def refused(self, code, program, *arguments, **more):
        done = self.ci(program, *arguments, **more)
        check(done.returncode == code, f"{program} ended with {done.returncode} and not {code}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
        return done

    def aws(self, *arguments):
        done = run(["aws", *arguments, "--output", "json"], env=self.environment())
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def calls(self):
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self):
        (self.directory / "calls").unlink(missing_ok=True)
