#!/usr/bin/env python3
"""Comments and issues of this repository that workflows keep up to date: one of each kind, found again by a mark in its text.

    github.py comment MARK NUMBER FILE     the one comment of this kind on pull request NUMBER
    github.py issue MARK TITLE FILE        the one open issue of this kind
    github.py close MARK FILE              closes that issue, if it is open, with a comment

Needs GITHUB_TOKEN (pull-requests: write, or issues: write) and GITHUB_REPOSITORY.
"""
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

from workflow import COMMENT_CHARACTERS, Stop, run_main, say, setting

BOT = "github-actions[bot]"


def request(method, path, body=None):
    url = path if path.startswith("http") else f"{setting('GITHUB_API_URL', 'https://api.github.com')}/repos/{setting('GITHUB_REPOSITORY')}/{path}"
    question = urllib.request.Request(url, method=method, data=json.dumps(body).encode() if body is not None else None, headers={
        "Authorization": f"Bearer {setting('GITHUB_TOKEN')}", "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
        "Content-Type": "application/json", "User-Agent": "aqueduct-ci"})
    try:
        with urllib.request.urlopen(question, timeout=30) as answer:
            return json.loads(answer.read() or b"null"), answer.headers
    except urllib.error.HTTPError as error:
        raise Stop(1, f"GitHub refuses {method} {path}: {error.code} {error.read().decode(errors='replace')[:300]}") from None
    except OSError as error:
        raise Stop(75, f"GitHub cannot be reached: {error}") from None


def pages(path):
    while path:
        answer, headers = request("GET", path)
        yield from answer
        following = re.search(r'<([^>]+)>; rel="next"', headers.get("Link") or "")
        path = following.group(1) if following else None


def is_ours(thing, mark):
    """Anybody can write the mark. Only what workflows wrote is theirs to change."""
    return thing["user"]["login"] == BOT and (thing.get("body") or "").startswith(mark)


def body_of(mark, path):
    text = f"{mark}\n{Path(path).read_text(encoding='utf-8')}"
    if len(text.encode("utf-16-le")) // 2 > COMMENT_CHARACTERS:
        raise Stop(1, f"{path} is longer than the {COMMENT_CHARACTERS:,} characters that GitHub takes")
    return text


def comment(mark, number, path):
    body = body_of(mark, path)
    ours = next((each for each in pages(f"issues/{number}/comments?per_page=100") if is_ours(each, mark)), None)
    if ours:
        request("PATCH", f"issues/comments/{ours['id']}", {"body": body})
        say(f"updated the comment {ours['html_url']}")
    else:
        made, _ = request("POST", f"issues/{number}/comments", {"body": body})
        say(f"wrote the comment {made['html_url']}")


def find_issue(mark):
    return next((each for each in pages("issues?state=open&per_page=100") if "pull_request" not in each and is_ours(each, mark)), None)


def issue(mark, title, path):
    body = body_of(mark, path)
    ours = find_issue(mark)
    if ours:
        request("PATCH", f"issues/{ours['number']}", {"title": title, "body": body})
        say(f"updated the issue {ours['html_url']}")
    else:
        made, _ = request("POST", "issues", {"title": title, "body": body})
        say(f"opened the issue {made['html_url']}")


def close(mark, path):
    ours = find_issue(mark)
    if ours is None:
        say("no such issue is open")
        return
    request("POST", f"issues/{ours['number']}/comments", {"body": Path(path).read_text(encoding="utf-8")})
    request("PATCH", f"issues/{ours['number']}", {"state": "closed", "state_reason": "completed"})
    say(f"closed the issue {ours['html_url']}")


def main(arguments):
    command, *rest = arguments or [""]
    wanted = {"comment": (comment, 3), "issue": (issue, 3), "close": (close, 2)}
    if command not in wanted or len(rest) != wanted[command][1]:
        raise Stop(2, "usage: github.py comment MARK NUMBER FILE | issue MARK TITLE FILE | close MARK FILE")
    if not re.fullmatch("[a-z-]+", rest[0]):
        raise Stop(2, "MARK has to be small letters and hyphens")
    rest[0] = f"<!-- aqueduct: {rest[0]} -->"
    if command == "comment" and not rest[1].isdigit():
        raise Stop(2, "NUMBER has to be that of a pull request")
    wanted[command][0](*rest)


if __name__ == "__main__":
    run_main(main)
