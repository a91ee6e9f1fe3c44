#!/usr/bin/env python3
"""What was made: addresses, the next step, the cost; for the summary of the run that made it.

    created.py OUTPUTS.json COST.txt

OUTPUTS.json is from `terraform output -json`, COST.txt from `infra/cost.py ENVIRONMENT`.
"""
import json
import sys
from pathlib import Path

from workflow import Stop, environment, fence, project, run_main, setting, table

LINES = [("dashboard_url", "dashboard"), ("data_bucket", "data bucket; files go below incoming/"), ("artifact_bucket", "releases"),
         ("instance_id", "host"), ("public_ip", "the host's address; nobody is let in from outside"), ("architecture", "the host's processor"),
         ("database_host", "database, as the host sees it")]


def main(arguments):
    if len(arguments) != 2:
        raise Stop(2, "usage: created.py OUTPUTS.json COST.txt")
    outputs = {name: output.get("value") for name, output in json.loads(Path(arguments[0]).read_text(encoding="utf-8")).items()}
    region = setting("AWS_REGION")
    # A bare URL is a link on GitHub, in a cell that is escaped it is none.
    rows = "\n".join(f"- {text}: {outputs[name] if name.endswith('_url') else f'`{outputs[name]}`'}"
                     for name, text in LINES if outputs.get(name))
    parts = [
        f"## ✅ {project()} {environment()} is there",
        rows,
        "### Next",
        table(("what", "button"), [
            ("bring a file in", "Upload a data CSV to the S3 bucket"),
            ("load it again, or another one", "Run an ETL job on the EC2 instance"),
            ("take everything away", "Teardown of everything on AWS")]),
        f"A shell on the host: `aws ssm start-session --region {region} --target {outputs.get('instance_id', 'INSTANCE')}`. "
        "If an address for alarms was given, AWS has sent it a mail: nothing is sent there before its link was followed.",
        "### What it costs",
        fence(Path(arguments[1]).read_text(encoding="utf-8"), "text"),
    ]
    sys.stdout.write("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    run_main(main)
