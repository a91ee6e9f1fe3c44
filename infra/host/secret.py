#!/usr/bin/env python3
"""Makes of a secret ({"username": …, "password": …} on standard input) what the set-up of the database needs.

    secret.py user                           its user name
    secret.py passfile HOST PORT DATABASE    a line for PGPASSFILE
    secret.py login ROLE                     SQL: the login, a member of ROLE, with its password as a SCRAM verifier

A password that is sent in clear in `alter role` stands in the server's log as soon as that logs statements, or an error. So what
is sent is the verifier that the server would keep anyway (RFC 5803), from which the password cannot be read.
"""
import base64
import hashlib
import hmac
import json
import os
import re
import sys

ITERATIONS = 4096  # PostgreSQL's own


def verifier(password, salt):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored_key, server_key = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt}${stored_key}:{server_key}"


def read_secret():
    try:
        secret = json.load(sys.stdin)
        user, password = secret["username"], secret["password"]
    except (ValueError, KeyError, TypeError):
        sys.exit("secret: it is not a JSON object with username and password")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", user):
        sys.exit("secret: username has to be small letters, digits and _")
    # Beyond ASCII a password would have to be normalised first (SASLprep); ours are made by Terraform.
    if not re.fullmatch(r"[!-~]{1,128}", password):
        sys.exit("secret: password has to be printable ASCII without blanks")
    return user, password


def passfile(password, user, host, port, database):
    return ":".join(re.sub(r"([:\\])", r"\\\1", field) for field in (host, port, database, user, password))


def login(user, password, role):
    # Both are of the letters above, so a quoted name and a plain literal need no escapes; nor does base64.
    text = verifier(password, os.urandom(16))
    return f"""do $$ begin
  if not exists (select from pg_catalog.pg_roles where rolname = '{user}') then create role "{user}" login; end if;
end $$;
alter role "{user}" login password '{text}';
grant "{role}" to "{user}";"""


def main():
    command, *arguments = sys.argv[1:]
    user, password = read_secret()
    if command == "user":
        print(user)
    elif command == "passfile":
        print(passfile(password, user, *arguments))
    elif command == "login":
        print(login(user, password, *arguments))


if __name__ == "__main__":
    main()
