#!/usr/bin/env python3
"""What a plan of Terraform would do, for the person who approves it and for the job that carries it out.

    plan.py digest PLAN.json                     one line that is the same for two plans exactly if they make the same changes
    plan.py report PLAN.json PLAN.txt            Markdown for a summary, which has at most 1 MiB, on stdout
    plan.py comment PLAN.json PLAN.txt           the same for a comment, which has at most 65,535 characters: with room for some words
    plan.py only PLAN.json PATTERN…              fails unless each change is of an address that matches one of the patterns
    plan.py no-loss PLAN.json                    fails if anything is created, replaced or destroyed

PLAN.json is from `terraform show -json`, PLAN.txt from `terraform show`. A plan file itself never leaves its job: it names everything, and
whatever a provider keeps in it. What travels from the reviewed plan to the apply is the digest alone.
"""
import hashlib
import json
import re
import sys
from pathlib import Path

from workflow import COMMENT_CHARACTERS, SUMMARY_BYTES, Stop, cell, environment, fence, project, run_main, run_url, say, table

VERBS = {("create",): "create", ("update",): "change", ("delete",): "destroy", ("forget",): "forget",
         ("delete", "create"): "replace", ("create", "delete"): "replace"}
# Losing one of these is more than a moment without service.
PRECIOUS = {"aws_db_instance": "the database", "aws_s3_bucket": "a bucket", "aws_instance": "the host (made anew; takes some minutes)",
            "aws_secretsmanager_secret": "a secret", "aws_iam_openid_connect_provider": "GitHub's identity provider",
            "aws_s3_bucket_policy": "the rule who may do what with a bucket"}
MOST_ROWS = 150


def deletions(values):
    """What the rules of a lifecycle delete: which kind, of which objects, after how many days, from which date on, how many old versions stay."""
    found = []
    for rule in values.get("rule") or []:
        for block, name in (("expiration", "days"), ("noncurrent_version_expiration", "noncurrent_days")):
            for each in rule.get(block) or []:
                if rule.get("status") == "Enabled" and (each.get(name) or each.get("date")):
                    scope = json.dumps([block, rule.get("prefix") or None, rule.get("filter") or None, each.get("date")], sort_keys=True)
                    found.append((scope, each.get(name) or 0, int(each.get("newer_noncurrent_versions") or 0)))
    return found


def deletes_more(old, new):
    """Unless each deletion was there before, of the same objects, not later, and leaving no more."""
    before = deletions(old)
    return any(not any(scope == was and days >= then and kept >= left for was, then, left in before) for scope, days, kept in deletions(new))


def is_sooner(old, new):
    """None and 0 days are for ever."""
    return bool(new) and (not old or new < old)


def statuses(values):
    return {each.get("status") for each in values.get("versioning_configuration") or []}


# Updates that let data go, although nothing is destroyed.
LETS_GO = [
    ("aws_s3_bucket_lifecycle_configuration", "deletes objects or their old versions sooner, or more of them", deletes_more),
    ("aws_s3_bucket_versioning", "keeps no old versions any more", lambda old, new: statuses(new) != {"Enabled"}),
    ("aws_db_instance", "makes no snapshot of the database before it is deleted", lambda old, new:
        not old.get("skip_final_snapshot") and new.get("skip_final_snapshot")),
    ("aws_cloudwatch_log_group", "keeps a log for fewer days", lambda old, new: is_sooner(old.get("retention_in_days"), new.get("retention_in_days"))),
    ("aws_db_instance", "keeps backups of the database for fewer days", lambda old, new: (
        new.get("backup_retention_period") or 0) < (old.get("backup_retention_period") or 0)),
    ("aws_db_instance", "lifts the deletion protection of the database", lambda old, new:
        old.get("deletion_protection") and not new.get("deletion_protection")),
    ("aws_s3_bucket_policy", "changes who may do what with a bucket", lambda old, new: True),
]


def read(path):
    try:
        plan = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Stop(1, f"{path} is no plan: {error}") from None
    if "resource_changes" not in plan and "output_changes" not in plan and "planned_values" not in plan:
        raise Stop(1, f"{path} is no plan: it has neither changes nor values; is it from `terraform show -json PLAN`?")
    return plan


def changes_of(plan):
    """Of what Terraform manages. What it only reads changes nothing."""
    return sorted((change for change in plan.get("resource_changes", [])
                   if change.get("mode", "managed") == "managed" and change["change"]["actions"] not in (["no-op"], ["read"])),
                  key=lambda change: (change["address"], change.get("deposed", "")))


def outputs_of(plan):
    return {name: change["actions"] for name, change in sorted(plan.get("output_changes", {}).items()) if change["actions"] != ["no-op"]}


def verb(change):
    return VERBS.get(tuple(change["change"]["actions"]), " and ".join(change["change"]["actions"]))


def marked(marks):
    """Of after_unknown or after_sensitive: what has a mark anywhere in it. The rest only repeats the form of the values."""
    return {key: value for key, value in marks.items() if "true" in json.dumps(value)} if isinstance(marks, dict) else marks


def difference(change):
    """What of a resource becomes another: attributes that stay as they are decide nothing, and AWS goes on changing some of them between
    two plans (latest_restorable_time of a database, say). For the same reason not what stood before in one that is only known after the
    apply, and of what is destroyed nothing but which it is."""
    before, after, unknown = change.get("before") or {}, change.get("after") or {}, marked(change.get("after_unknown"))
    differ = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key) or (key in before) != (key in after))
    compared = after and isinstance(unknown, dict)
    return {"id": before.get("id"), "after": {key: after[key] for key in differ if key in after}, "unknown": unknown,
            "before": {key: before[key] for key in differ if key in before and key not in unknown} if compared else {},
            "sensitive": marked(change.get("after_sensitive"))}


def digest(plan):
    """All that decides what an apply does: not the time, the version or the order in which Terraform happened to write it."""
    parts = [{"address": change["address"], "deposed": change.get("deposed"), "previous": change.get("previous_address"),
              **{name: change["change"].get(name) for name in ("actions", "replace_paths", "importing")}, **difference(change["change"])}
             for change in changes_of(plan)]
    text = json.dumps([parts, outputs_of(plan)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def counts(changes):
    found = {}
    for change in changes:
        found[verb(change)] = found.get(verb(change), 0) + 1
    return found


def headline(changes, outputs):
    if not changes:
        return "Nothing to change" if not outputs else "Only outputs change"
    return "Plan: " + ", ".join(f"{number} to {what}" for what, number in sorted(counts(changes).items()))


def warnings(changes):
    lines, makes_buckets = [], any(change["type"] == "aws_s3_bucket" and verb(change) == "create" for change in changes)
    for change in changes:
        lost = PRECIOUS.get(change["type"])
        if lost and verb(change) in ("destroy", "replace"):
            lines.append(f"> ⚠️ **{verb(change)}s {cell(lost)}**: {cell(change['address'])}")
        # A rule that is made for a bucket that was there is new to its objects.
        is_new_rule = verb(change) in ("create", "replace") and change["type"] == "aws_s3_bucket_lifecycle_configuration" and not makes_buckets
        if verb(change) == "change" or is_new_rule:
            old, new = (change["change"].get(name) or {} for name in ("before", "after"))
            lines += [f"> ⚠️ **{text}**: {cell(change['address'])}" for kind, text, does in LETS_GO if kind == change["type"] and does(old, new)]
    return "\n".join(lines)


def report(plan, text, limit, measure):
    changes, outputs = changes_of(plan), outputs_of(plan)
    rows = [(verb(change), change["address"]) for change in changes]
    head = [f"## {headline(changes, outputs)} · {project()} {environment()}", warnings(changes)]
    if rows:
        head.append(table(("", "what"), rows[:MOST_ROWS]) + (f"\n\n… and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""))
    tail = f"Digest of the changes: `{digest(plan)}`"
    whole = page(head, text, tail)
    return whole if measure(whole) <= limit else shorten(head, text, tail, limit, measure)


def page(head, text, tail):
    middle = f"<details><summary>The whole plan</summary>\n\n{fence(text, 'text')}\n\n</details>" if text.strip() else ""
    return "\n\n".join(part for part in (*head, middle, tail) if part) + "\n"


def characters(text):
    """GitHub counts those of a comment as JavaScript does: one beyond U+FFFF is two."""
    return len(text.encode("utf-16-le")) // 2


def size(text):
    """Of a summary it counts the bytes."""
    return len(text.encode())


def shorten(head, text, tail, limit, measure):
    """Whole lines from the beginning and from the end, where Terraform sums up; as many as there is room for."""
    lines = text.splitlines()
    where = f"; the log or the summary of [the run]({run_url()}) has them" if run_url() else ""

    def with_lines(kept):
        first, last = kept - kept // 4, kept // 4
        left_out = len(lines) - kept
        note = f"… {left_out} lines are left out{where} …"
        shown = [*lines[:first], note, *(lines[-last:] if last else [])]
        return page(head, "\n".join(shown), tail)

    low, high = 0, len(lines) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if measure(with_lines(middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    result = with_lines(low)
    if measure(result) > limit:  # one table alone is too long
        result = page([head[0], head[1][:2000]], f"… the plan is too long to be shown here{where} …", tail)
    return result


def only(plan, patterns):
    other = [change for change in changes_of(plan) if not any(re.fullmatch(pattern, change["address"]) for pattern in patterns)]
    if other:
        raise Stop(1, "this step may change nothing but what it is for, and the plan has more: "
                      + ", ".join(f"{verb(change)} {change['address']}" for change in other[:10])
                      + (f" and {len(other) - 10} more" if len(other) > 10 else "")
                      + ". Somebody changed something meanwhile: run the workflow again, and look at its plan")
    say(f"{len(changes_of(plan))} changes, all of them expected")


def no_loss(plan):
    other = [change for change in changes_of(plan) if verb(change) != "change"]
    if other:
        raise Stop(1, "this step only changes settings, and the plan would " + ", ".join(f"{verb(change)} {change['address']}" for change in other[:10]))


# With room for some words around it.
LIMITS = {"report": (SUMMARY_BYTES - 100_000, size), "comment": (COMMENT_CHARACTERS - 1500, characters)}


def main(arguments):
    command, *rest = arguments or [""]
    if command == "digest" and len(rest) == 1:
        print(digest(read(rest[0])))
    elif command in ("report", "comment") and len(rest) == 2:
        text = Path(rest[1]).read_text(encoding="utf-8")
        sys.stdout.write(report(read(rest[0]), text, *LIMITS[command]))
    elif command == "only" and len(rest) > 1:
        only(read(rest[0]), rest[1:])
    elif command == "no-loss" and len(rest) == 1:
        no_loss(read(rest[0]))
    else:
        raise Stop(2, "usage: plan.py digest JSON | report JSON TEXT | comment JSON TEXT | only JSON PATTERN… | no-loss JSON")


if __name__ == "__main__":
    run_main(main)
