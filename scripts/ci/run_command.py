#!/usr/bin/env python3
"""Runs a command on the hosts of an environment through Systems Manager, waits until it has ended on each, and prints what it said.

    run_command.py COMMAND [ARGUMENT…]

Hosts are the running instances with the tags project and environment. Arguments arrive as they are: nothing of them is taken for
shell. Needs PROJECT_NAME, ENVIRONMENT, AWS_REGION and the deploy role. Ends with the highest exit code of the hosts.
"""
import json
import os
import shlex
import time
from dataclasses import dataclass

from workflow import AwsError, Stop, aws, environment, print_foreign, project, run_main, say

# What Run Command calls the end of an invocation: https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html
ENDED = {"Success", "Failed", "TimedOut", "Cancelled", "Undeliverable", "Terminated", "InvalidPlatform", "AccessDenied",
         "DeliveryTimedOut", "ExecutionTimedOut", "Incomplete", "NoInstancesInTag", "LimitExceeded"}
# get-command-invocation gives so many characters of each stream, and no word about the rest.
OUTPUT_CHARACTERS = 24_000

EXPLAINED = {
    "Undeliverable": "Systems Manager could not deliver it: is the host running, and its agent online? Session Manager shows that",
    "DeliveryTimedOut": "the host did not take it in time: its agent is not online",
    "ExecutionTimedOut": "it took longer than it may, and was stopped on the host",
    "TimedOut": "it took longer than it may, or was not taken in time",
    "NoAnswer": "no end was reported in time, so it was cancelled; look whether the host is well",
    "NotCancelled": "no end was reported in time, and it could not be cancelled: what runs on the host goes on running",
}


@dataclass
class Invocation:
    host: str
    status: str
    code: int  # of the command; -1 where it did not run to its end
    stdout: str = ""
    stderr: str = ""

    @property
    def succeeded(self):
        return self.status == "Success" and self.code == 0

    def describe(self):
        if self.succeeded:
            return "succeeded"
        if self.code > 0:
            return f"ended with {self.code}"
        return f"{self.status}: {EXPLAINED.get(self.status, 'see Run Command in the console')}"


def find_hosts():
    """Instance id → architecture, as S3 keys name it."""
    answer = aws("ec2", "describe-instances", "--filters", f"Name=tag:project,Values={project()}",
                 f"Name=tag:environment,Values={environment()}", "Name=instance-state-name,Values=running")
    names = {"arm64": "aarch64", "x86_64": "x86_64"}
    hosts = {instance["InstanceId"]: names.get(instance["Architecture"], instance["Architecture"])
             for reservation in answer["Reservations"] for instance in reservation["Instances"]}
    if not hosts:
        raise Stop(1, f"no running instance has the tags project={project()} and environment={environment()} in this region; "
                      "make the environment first (workflow: Create all the AWS infrastructure)")
    return dict(sorted(hosts.items()))


def run_on(hosts, arguments, comment, seconds=600, delivery_seconds=120):
    """One Invocation for each host. `arguments` is the command as a list."""
    parameters = {"commands": [shlex.join(arguments)], "executionTimeout": [str(seconds)]}
    command = aws("ssm", "send-command", "--document-name", "AWS-RunShellScript", "--instance-ids", *hosts, "--comment", comment[:100],
                  "--timeout-seconds", str(delivery_seconds), "--parameters", json.dumps(parameters))["Command"]["CommandId"]
    say(f"{comment}: command {command} on {', '.join(hosts)}")
    # A minute more than AWS itself gives it.
    deadline = time.monotonic() + float(os.environ.get("AQUEDUCT_COMMAND_SECONDS") or seconds + delivery_seconds + 60)
    pause = float(os.environ.get("AQUEDUCT_POLL_SECONDS") or 3)
    waiting, ended = list(hosts), {}
    while waiting:
        for host in list(waiting):
            invocation = look(command, host)
            if invocation:
                ended[host] = invocation
                waiting.remove(host)
        if not waiting:
            break
        if time.monotonic() > deadline:
            status = "NoAnswer" if cancel(command) else "NotCancelled"
            ended.update({host: Invocation(host, status, -1) for host in waiting})
            break
        time.sleep(pause)
    for host in hosts:
        print_foreign(f"{host}: {comment}: standard output", ended[host].stdout)
        print_foreign(f"{host}: {comment}: messages", ended[host].stderr)
        say(f"{host}: {ended[host].describe()}")
    return [ended[host] for host in hosts]


def look(command, host):
    try:
        answer = aws("ssm", "get-command-invocation", "--command-id", command, "--instance-id", host)
    except AwsError as error:
        # Right after it was sent; and a moment of throttling is no end, either.
        if error.code in ("InvocationDoesNotExist", "ThrottlingException"):
            return None
        raise
    # "Details" tells the kinds of time-out apart.
    status = answer.get("StatusDetails", "").replace(" ", "")
    if status not in ENDED:
        status = answer["Status"].replace(" ", "")
    if status not in ENDED:
        return None
    return Invocation(host, status, answer.get("ResponseCode", -1), answer.get("StandardOutputContent", ""),
                      answer.get("StandardErrorContent", ""))


def cancel(command):
    """Whether Systems Manager took it."""
    try:
        aws("ssm", "cancel-command", "--command-id", command)
    except AwsError as error:
        say(f"command {command} could not be cancelled: {error.code or error}")
        return False
    say(f"command {command} was cancelled")
    return True


def main(arguments):
    if not arguments:
        raise Stop(2, "usage: run_command.py COMMAND [ARGUMENT…]")
    invocations = run_on(find_hosts(), arguments, next((each for each in arguments if "/" in each), arguments[0]).rsplit("/", 1)[-1])
    return max(0 if each.succeeded else each.code if each.code > 0 else 1 for each in invocations)


if __name__ == "__main__":
    run_main(main)
