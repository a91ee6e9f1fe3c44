#!/usr/bin/env python3
"""Brings a release onto every host of an environment, and notes it as the one that new hosts take.

    deploy.py {binaries|pipelines} ID DIRECTORY

DIRECTORY has the archives that were verified: a host takes the bytes with their digest, and no others. What the bucket notes beside the
archive has to be the same.

deploy.sh on the host checks the release before the switch and watches it after; where it is not well, the host goes back by itself.
If only some hosts took it, those go back, too: hosts of one environment run the same. The parameter release/… names what was
deployed well, and nothing else. Needs PROJECT_NAME, ENVIRONMENT, AWS_REGION and the deploy role.
"""
import sys
from pathlib import Path

import artifacts
from run_command import find_hosts, run_on
from workflow import Stop, environment, project, read_parameter, run_main, say, table, write_parameter, write_summary

# By bash: nothing on the host relies on the executable bit.
DEPLOY = ("bash", "/opt/aqueduct/host/deploy.sh")

# The exit codes of deploy.sh.
OUTCOMES = {
    0: "deployed",
    1: "not deployed: the release from before is the current one again",
    2: "refused before the switch: nothing was changed",
    75: "another deploy was under way: try again",
}


def deploy(hosts, kind, release, digest):
    return run_on(hosts, [*DEPLOY, kind, release, digest], f"deploy.sh {kind} {release}", seconds=900)


def outcome(invocation):
    if invocation.succeeded:
        return OUTCOMES[0]
    return OUTCOMES.get(invocation.code, invocation.describe())


def go_back(hosts, kind, before):
    """On hosts that took a release which others did not."""
    if not before:
        return {host: "deployed, and left there: there is no release from before" for host in hosts}
    say(f"going back to {before[0]} on {', '.join(hosts)}, because other hosts did not take the new release")
    return {back.host: f"went back to {before[0]}" if back.succeeded else f"could not go back: {back.describe()}; look at this host"
            for back in deploy(hosts, kind, *before)}


def main(arguments):
    if len(arguments) != 3 or arguments[0] not in artifacts.ARCHIVES:
        raise Stop(2, "usage: deploy.py {binaries|pipelines} ID DIRECTORY")
    kind, release, directory = *arguments[:2], Path(arguments[2])
    hosts = find_hosts()
    processors = set(hosts.values())
    if kind == "binaries" and len(processors) > 1:
        raise Stop(1, f"the hosts have different processors ({', '.join(sorted(processors))}), and one parameter names one archive")
    archive = artifacts.ARCHIVES[kind][0]
    if kind == "binaries":
        archive = f"aqueduct-{processors.pop()}-linux-musl.tar.gz"
    if not (directory / archive).is_file():
        raise Stop(1, f"{directory / archive} is missing, so nobody can say which bytes were verified; ship.sh fetches and verifies them")
    digest = artifacts.digest_of(directory / archive)
    stored = artifacts.stored_digest(artifacts.find_bucket(), artifacts.key(kind, release, archive))
    if stored is None:
        raise Stop(1, f"{kind} {release} is not in the artifact bucket ({archive}); upload it first")
    if stored != digest:
        raise Stop(1, f"{kind} {release} in the artifact bucket is another ({stored[:12]}…) than was verified ({digest[:12]}…): nothing was deployed. "
                      "Somebody wrote over it, or two builds of one ID met; look at the versions of the object, then deploy again")

    noted = read_parameter(f"release/{kind}")
    before = tuple(noted.split()) if noted else None
    done = deploy(hosts, kind, release, digest)
    outcomes = {each.host: outcome(each) for each in done}
    good = [each.host for each in done if each.succeeded]
    failed = [each for each in done if not each.succeeded]
    if not failed:
        write_parameter(f"release/{kind}", f"{release} {digest}")
    elif good:
        outcomes.update(go_back(good, kind, before))

    rows = [(host, outcomes[host]) for host in hosts]
    write_summary(f"### {kind} {release} → {project()} {environment()}\n\n{table(('host', 'outcome'), rows)}\n")
    if failed:
        write_summary(f"New hosts take **{before[0] if before else 'nothing'}**, as before. What deploy.sh said stands in the log of the step.\n")
        for host, text in rows:
            say(f"{host}: {text}")
        return failed[0].code if failed[0].code > 0 else 1
    say(f"{kind} {release} runs on {', '.join(hosts)}")
    return 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    run_main(main)
