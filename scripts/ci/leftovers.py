#!/usr/bin/env python3
"""Lists what still carries the tags of an environment, after a teardown or at any other time.

    leftovers.py

What stays on purpose is marked: a final snapshot, automated backups for their days, secrets in their time for recovery. The tagging service
goes on listing some things for an hour after they are gone. Needs PROJECT_NAME, ENVIRONMENT, AWS_REGION and tag:GetResources.
"""
from workflow import AwsError, Stop, aws, environment, project, run_main, say, table, write_output, write_summary


def purpose(arn):
    service, kind = arn.split(":")[2], arn.split(":", 5)[5]
    if service == "rds" and kind.startswith(("snapshot:", "auto-backup:")):
        return "stays on purpose: the way back"
    if service == "secretsmanager":
        return "stays for its days of recovery, then goes by itself"
    if service == "ec2" and kind.startswith("instance/"):
        return "a terminated instance is listed for an hour"
    return "look at it"


def main(_):
    filters = [f"Key=project,Values={project()}", f"Key=environment,Values={environment()}"]
    command = f"aws resourcegroupstaggingapi get-resources --tag-filters {' '.join(filters)}"
    try:
        found = aws("resourcegroupstaggingapi", "get-resources", "--tag-filters", *filters)["ResourceTagMappingList"]
    except AwsError as error:
        if not error.is_denied:
            raise
        write_summary(f"### Leftovers: not looked for\n\nThis role may not list resources by tag. Somebody who may: `{command}`\n")
        raise Stop(4, "what is left is not known: the role may not list resources by tag (tag:GetResources), which the teardown role of "
                      "infra/stacks/github may; apply that again. The teardown itself is not undone by this") from None
    rows = sorted((resource["ResourceARN"], purpose(resource["ResourceARN"])) for resource in found)
    for arn, why in rows:
        say(f"{arn}: {why}")
    write_output("leftovers", len(rows))
    text = table(("what still carries the tags", ""), rows) if rows else "Nothing carries the tags of this environment any more."
    write_summary(f"### Leftovers: {len(rows)}\n\n{text}\n\nAsk again: `{command}`\n")


if __name__ == "__main__":
    run_main(main)
