#!/usr/bin/env python3
"""What an environment costs a month, from its tfvars and the prices in prices.json.

    cost.py                    every environment
    cost.py dev                one of them
    cost.py dev -var instance_type=t3.micro -var nat_gateway=true

An estimate, not an offer: it counts what stands there for a whole month, and a little data. The file of prices says of
which day they are and where each comes from. A setting whose price is not in the file is an error, not a zero.
"""

import argparse
import json
import math
import pathlib
import re
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
PLATFORM = HERE / "stacks" / "platform"


class CostError(Exception):
    """Something that cannot be estimated, in words for a person."""


@dataclass(frozen=True)
class Line:
    what: str
    usd: float
    source: str


def value(text):
    """One value of HCL as tfvars and defaults have it: text, number, true, false, null, list, or an object of numbers."""
    text = text.strip()
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if text == "null":
        return None
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if text.startswith("{") and text.endswith("}"):
        return {key: value(item) for key, item in re.findall(r"(\w+)\s*=\s*([^,}]+)", text)}
    if text.startswith("[") and text.endswith("]"):
        return [value(item) for item in text[1:-1].split(",") if item.strip()]
    raise CostError(f"not a value that this program reads: {text}")


def assignments(text):
    """`name = value` of a tfvars file, one on a line; comments behind # are left out."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r'#(?=(?:[^"]*"[^"]*")*[^"]*$).*', "", line).strip()
        if not line:
            continue
        match = re.fullmatch(r"(\w+)\s*=\s*(.+)", line)
        if not match:
            raise CostError(f"line {number}: expected name = value, found {line}")
        found[match[1]] = value(match[2])
    return found


def defaults(text):
    """The defaults of a variables.tf."""
    found = {}
    for block in re.finditer(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.M | re.S):
        default = re.search(r"^  default\s*=\s*(.+)$", block[2], re.M)
        if default:
            found[block[1]] = value(default[1])
    return found


def estimate(settings, prices):
    """The lines of one environment."""
    hours, units, assumed = prices["hours"], prices["units"], prices["assumed"]

    def unit(name):
        return units[name]["price"], units[name]["source"]

    def by_class(table, name, kind):
        if name not in prices[table]:
            raise CostError(f"no price for {kind} {name}: add it to infra/prices.json, with its source")
        return prices[table][name]["hour"], prices[table][name]["source"]

    lines = []

    def add(what, count, price_and_source):
        price, source = price_and_source
        lines.append(Line(what, round(count * price, 2), source))

    instance, database = settings["instance_type"], settings["database_class"]
    copies = 2 if settings["multi_az"] else 1
    twice = ", two zones" if copies == 2 else ""
    storage = settings["database_storage_gb"]["initial"]

    add(f"EC2 {instance}", hours, by_class("instances", instance, "the instance type"))
    add(f"disk, gp3 {settings['root_volume_gb']:g} GB", settings["root_volume_gb"], unit("ebs_gp3_gb"))
    if settings["nat_gateway"]:
        add("NAT gateway, without 0.045 a GB", hours, unit("nat_hour"))
    add("public IPv4 address", hours, unit("public_ipv4_hour"))
    add(f"RDS {database}{twice}", hours * copies, by_class("databases", database, "the database class"))
    add(f"RDS storage, gp3 {storage:g} GB{twice}", storage * copies, unit("rds_gp3_gb"))
    add(f"{assumed['secrets']} secrets", assumed["secrets"], unit("secret"))
    add(f"logs, {assumed['logs_gb']} GB in", assumed["logs_gb"], unit("logs_gb"))
    if settings["flow_logs"]:
        add(f"flow logs, {assumed['flow_logs_gb']} GB in", assumed["flow_logs_gb"], unit("logs_gb"))
    add(f"S3, {assumed['s3_gb']} GB", assumed["s3_gb"], unit("s3_gb"))

    # The timer looks each minute, and S3 tells 1,000 keys at a time: this grows with what lies below a pipeline's prefix.
    pages = max(1, math.ceil(assumed["keys_below_a_pipeline"] / 1000))
    lists = hours / 24 * assumed["runs_a_day"] * assumed["pipelines"] * pages
    add(f"S3, {lists:,.0f} lists of keys", lists / 1000, unit("s3_list_1000"))

    # A metric costs only the hours in which it has values: those of a pipeline, the hours with loads.
    metrics = assumed["host_metrics"] + assumed["load_metrics"]
    metrics += assumed["pipelines"] * assumed["metrics_of_a_pipeline"] * assumed["hours_with_loads_a_day"] / 24
    beyond = max(0, metrics - units["metrics_free"]["price"])
    add(f"{metrics:.1f} metrics, {units['metrics_free']['price']} free", beyond, unit("metric"))
    alarms = 10 + (2 if settings["watcher_enabled"] else 0)
    beyond = max(0, alarms - units["alarms_free"]["price"])
    add(f"{alarms} alarms, {units['alarms_free']['price']} free", beyond, unit("alarm"))
    return lines


def settings_of(environment, overrides=()):
    """Defaults of the stack, then the environment's file, then what the command line says."""
    file = PLATFORM / "environments" / f"{environment}.tfvars"
    if not file.exists():
        raise CostError(f"there is no {file.name}; there are {', '.join(sorted(other.stem for other in file.parent.glob('*.tfvars')))}")
    settings = defaults((PLATFORM / "variables.tf").read_text()) | assignments(file.read_text())
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or name not in settings:
            raise CostError(f"-var takes name=value of a variable of the platform, not {override}")
        settings[name] = value(f'"{text}"' if isinstance(settings[name], str) else text)
    return settings


def report(environment, lines, prices):
    width = max(len(line.what) for line in lines)
    rows = [f"{environment}: USD a month, {prices['region']}, prices of {prices['date']}"]
    rows += [f"  {line.what:<{width}}  {line.usd:8.2f}  {line.source}" for line in lines]
    rows.append(f"  {'together':<{width}}  {sum(line.usd for line in lines):8.2f}")
    return "\n".join(rows)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="What an environment costs a month, as an estimate.")
    parser.add_argument("environment", nargs="*", help="dev, stage, prod; all of them without a name")
    parser.add_argument("-var", action="append", default=[], metavar="NAME=VALUE", help="another value of a variable of the platform")
    options = parser.parse_args(arguments)

    prices = json.loads((HERE / "prices.json").read_text())
    names = options.environment or sorted(file.stem for file in (PLATFORM / "environments").glob("*.tfvars"))
    try:
        reports = [report(name, estimate(settings_of(name, options.var), prices), prices) for name in names]
    except CostError as error:
        print(f"cost: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(reports))
    print(f"\n{prices['note']}\nSources:")
    for name, source in prices["sources"].items():
        print(f"  {name}: {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
