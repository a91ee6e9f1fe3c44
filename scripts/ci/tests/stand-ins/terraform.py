#!/usr/bin/env python3
"""A terraform for tests of what is around it: a state in the file TF_STATE, and plans over four resources.

Like RDS it refuses to destroy a database that is protected; like S3 a bucket that has objects. WORLD_CHANGES=1 is somebody who changes something
between two plans. TF_DATABASE names a database of the emulator, which a plan looks at first, and of which the configuration wants another.
TF_BROKEN=1: the state cannot be read. TF_UNPLANNABLE=1: there is no plan.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

state_path = Path(os.environ["TF_STATE"])
arguments = [each for each in sys.argv[1:] if not each.startswith("-chdir=")]
command, rest = arguments[0], arguments[1:]
with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
    calls.write(json.dumps({"terraform": arguments, "commit": os.environ.get("TF_VAR_commit"), "email": os.environ.get("TF_VAR_alert_email")}) + "\n")
state = json.loads(state_path.read_text()) if state_path.exists() else {"resources": {}, "outputs": {}}
DATABASE, ROLE = "module.database.aws_db_instance.this", "module.compute.aws_iam_role.database_setup[0]"
BUCKETS = {"module.storage.aws_s3_bucket.data": os.environ.get("TF_DATA_BUCKET"), "module.storage.aws_s3_bucket.artifacts": os.environ.get("TF_ARTIFACT_BUCKET")}


def save():
    state_path.write_text(json.dumps(state))


def variable(name, default):
    given = [rest[index + 1] for index, each in enumerate(rest) if each == "-var"]
    return next((each.split("=", 1)[1] for each in reversed(given) if each.startswith(f"{name}=")), default)


def refresh():
    done = subprocess.run(["aws", "rds", "describe-db-instances", "--db-instance-identifier", os.environ["TF_DATABASE"], "--output", "json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        state["resources"].pop(DATABASE, None)
    elif DATABASE in state["resources"]:
        state["resources"][DATABASE] = {"deletion_protection": json.loads(done.stdout)["DBInstances"][0]["DeletionProtection"]}
    save()


def plan():
    if os.environ.get("TF_UNPLANNABLE"):
        sys.exit("Error: no valid credential sources")
    if os.environ.get("TF_DATABASE"):
        refresh()
    out = next(each for each in rest if each.startswith("-out=")).removeprefix("-out=")
    targets = [each.removeprefix("-target=") for each in rest if each.startswith("-target=")]
    wanted = {}
    if "-destroy" not in rest:
        wanted = {DATABASE: {"deletion_protection": variable("protected", "true") == "true"}, **{bucket: {} for bucket in BUCKETS},
                  "module.compute.aws_instance.this": {"ami": "ami-2" if os.environ.get("WORLD_CHANGES") else "ami-1"}}
        if variable("database_setup_enabled", "false") == "true":
            wanted[ROLE] = {}
    changes = []
    for address in sorted(wanted.keys() | state["resources"].keys()):
        if targets and address not in targets and address.removesuffix("[0]") not in targets:
            continue
        before, after = state["resources"].get(address), wanted.get(address)
        if before != after:
            another = address == DATABASE and os.environ.get("TF_DATABASE")
            actions = ["create"] if before is None else ["delete"] if after is None else ["delete", "create"] if another else ["update"]
            changes.append({"address": address, "mode": "managed", "type": address.split(".")[-2].split(".")[-1],
                            "change": {"actions": actions, "before": before, "after": after, "after_unknown": {}}})
    Path(out).write_text(json.dumps({"format_version": "1.2", "planned_values": {}, "resource_changes": changes, "output_changes": {}}))
    sys.exit(2 if changes else 0)


def apply():
    changes = json.loads(Path(rest[-1]).read_text())["resource_changes"]
    for each in changes:
        address, change = each["address"], each["change"]
        if change["actions"] == ["delete"]:
            if address == DATABASE and change["before"]["deletion_protection"]:
                sys.exit("Error: the database is protected")
            if address in BUCKETS:
                done = subprocess.run(["aws", "s3api", "delete-bucket", "--bucket", BUCKETS[address]], stderr=subprocess.PIPE, check=False)
                if done.returncode:
                    sys.exit(done.stderr.decode())
            del state["resources"][address]
        else:
            state["resources"][address] = change["after"]
    state["outputs"] = {} if not state["resources"] else {
        "data_bucket": os.environ.get("TF_DATA_BUCKET"), "artifact_bucket": os.environ.get("TF_ARTIFACT_BUCKET"), "instance_id": "i-1",
        "commit": os.environ.get("TF_VAR_commit"), "dashboard_url": "https://console.aws.amazon.com/cloudwatch"}
    save()


if command == "plan":
    plan()
elif command == "apply":
    apply()
elif command == "show" and rest == ["-json"]:
    if os.environ.get("TF_BROKEN"):
        sys.exit("Error: the state cannot be read")
    print(json.dumps({"values": {"root_module": {"child_modules": [{"resources": [
        {"mode": "managed", "address": address, "type": "aws_s3_bucket" if address in BUCKETS else "other", "values": {"bucket": BUCKETS.get(address)}}
        for address in state["resources"]]}]}}}))
elif command == "show":
    text = Path(rest[-1]).read_text()
    print(text if "-json" in rest else "\n".join(f"# {each['address']} will change" for each in json.loads(text)["resource_changes"]))
elif command == "output":
    if "-json" in rest:
        print(json.dumps({name: {"value": value} for name, value in state["outputs"].items()}))
    elif rest[-1] in state["outputs"]:
        print(state["outputs"][rest[-1]], end="")
    else:
        sys.exit(f'Output "{rest[-1]}" not found')
