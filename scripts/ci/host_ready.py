#!/usr/bin/env python3
"""Waits until the host has said that it is ready, or why it is not.

    host_ready.py [INSTANCE]

"Running" is not "ready": the first boot installs for some minutes, and then writes the parameter host/ready. INSTANCE is the one that
must have written it; without it, the one of the parameter host/instance-id. AQUEDUCT_READY_SECONDS is how long to wait (900).
"""
import os
import time

from workflow import Stop, environment, project, read_parameter, run_main, say, setting


def main(arguments):
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        raise Stop(2, "usage: host_ready.py [INSTANCE]")
    instance = arguments[0] if arguments else read_parameter("host/instance-id")
    if not instance:
        raise Stop(1, "the parameter host/instance-id is missing: Terraform has not made the host")
    seconds = float(setting("AQUEDUCT_READY_SECONDS", "900"))
    end = time.monotonic() + seconds
    pause = float(os.environ.get("AQUEDUCT_POLL_SECONDS") or 10)
    console = f"aws ec2 get-console-output --latest --output text --instance-id {instance}"
    say(f"waiting for {instance} to be ready, at most {seconds:.0f} s")
    while True:
        # The signal of a host that was replaced must not count for the new one.
        who, when, what = ((read_parameter("host/ready") or "").split(" ", 2) + ["", ""])[:3]
        if who == instance and what == "ok":
            say(f"{instance} is ready since {when}")
            return 0
        if who == instance:
            raise Stop(1, f"{instance} says that its first boot {what}; its whole story is in /var/log/aqueduct/user-data.log there and in the "
                          f"log group /{project()}/{environment()}/host, and if nothing was shipped yet on its console: {console}")
        if time.monotonic() > end:
            raise Stop(1, f"{instance} has not said that it is ready within {seconds:.0f} s; its console says how far it came: {console}")
        time.sleep(pause)


if __name__ == "__main__":
    run_main(main)
