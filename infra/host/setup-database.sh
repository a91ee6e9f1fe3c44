#!/usr/bin/env bash
# Makes of a new database one that loads can use: the ledger, its two roles, the two logins, their rights on the target schema.
# Once, on the host, through Run Command; again at any time, also after the passwords in the secrets have changed.
#
#   setup-database.sh [SCHEMA…]        the schemas that pipelines load into; public unless they are named
#
# The host's own role may not read the master secret. For this the parameter database/setup-role names a role that may, as long
# as Terraform is applied with database_setup_enabled = true. AQUEDUCT_SETUP_ROLE=own takes the host's own role instead.
# Passwords are in no argument, no environment and no log: psql reads them from files in memory that go when this ends, and the
# server gets SCRAM verifiers.
set -euo pipefail
umask 077
program=setup-database
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/host/lib.sh
. "$here/lib.sh"

app_role=aqueduct_app
read_role=aqueduct_read

parse_arguments() {
  local schema
  schemas=("$@")
  if [ $# = 0 ]; then schemas=(public); fi
  for schema in "${schemas[@]}"; do
    [[ $schema =~ ^[a-z_][a-z0-9_]{0,62}$ ]] || stop 2 'a SCHEMA has to be small letters, digits and _'
  done
}

declare -A parameter=()
load_parameters() {
  local text name value
  text=$(read_parameters) || stop 1 "the parameters below $PARAMETERS cannot be read; may the role ssm:GetParametersByPath?"
  while IFS=$'\t' read -r name value; do parameter[$name]=$value; done <<<"$text"
  for name in database/host database/port database/name database/master-secret database/app-secret database/read-secret; do
    [ -n "${parameter[$name]:-}" ] || stop 1 "there is no parameter $PARAMETERS/$name; terraform apply makes it"
  done
  host=${parameter[database/host]} port=${parameter[database/port]} database=${parameter[database/name]}
}

# The credentials of the role that may read the master secret, in shell variables: only what needs them gets them.
assume_setup_role() {
  local role=${AQUEDUCT_SETUP_ROLE:-${parameter[database/setup-role]:-none}} text
  key_id=
  case "$role" in
    own) return ;;
    none) stop 1 'no role may read the master secret now: apply Terraform with database_setup_enabled = true, and with false afterwards' ;;
  esac
  text=$(aws sts assume-role --role-arn "$role" --role-session-name "$program" --duration-seconds 900 \
    --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text) \
    || stop 4 "the role $role cannot be assumed; does it trust this host's role?"
  IFS=$'\t' read -r key_id key_secret key_token <<<"$text"
}

as_setup_role() {
  if [ -z "$key_id" ]; then
    "$@"
  else
    AWS_ACCESS_KEY_ID=$key_id AWS_SECRET_ACCESS_KEY=$key_secret AWS_SESSION_TOKEN=$key_token "$@"
  fi
}

# A login: its secret in a file, its name in user[NAME], its password in another file that psql reads.
declare -A user=()
take_login() { # NAME PARAMETER
  as_setup_role aws secretsmanager get-secret-value --secret-id "${parameter[$2]}" --query SecretString --output text \
    >"$private/$1.secret" \
    || stop 4 "the secret of $PARAMETERS/$2 cannot be read; may the role secretsmanager:GetSecretValue on it?"
  user[$1]=$(python3 "$here/secret.py" user <"$private/$1.secret")
  python3 "$here/secret.py" passfile "$host" "$port" "$database" <"$private/$1.secret" >"$private/$1"
}

# psql as one of the logins; SQL on stdin.
query() { # NAME
  PGPASSFILE=$private/$1 PGOPTIONS='-c client_min_messages=warning' psql --no-psqlrc --quiet --tuples-only --no-align \
    --no-password --set=ON_ERROR_STOP=1 \
    "host=$host port=$port dbname=$database user=${user[$1]} sslmode=verify-full sslrootcert=$PGSSLROOTCERT connect_timeout=15"
}

make_ledger() {
  say "ledger and roles in $host:$port/$database"
  DATABASE_SECRET=${parameter[database/master-secret]} as_setup_role /usr/local/bin/etl-runner setup --quiet \
    --app-role "$app_role" --read-role "$read_role" >&2 || stop $? 'etl-runner setup did not work; its message stands above'
}

# A new verifier has a new salt, so a login that has its password already is left as it is.
make_login() { # NAME ROLE
  if echo 'select' | query "$1" >/dev/null 2>&1 && is_member "$1" "$2"; then
    say "login ${user[$1]} has its password and is a member of $2"
    return
  fi
  say "login ${user[$1]}, a member of $2"
  python3 "$here/secret.py" login "$2" <"$private/$1.secret" | query master
}

is_member() { # NAME ROLE
  [ "$(echo "select pg_has_role('$2', 'member')" | query "$1")" = t ]
}

# As the administrator. The first load of a pipeline makes its table, so loaders may create.
grant_schema() { # SCHEMA
  say "rights on the schema $1"
  query master <<SQL
create schema if not exists "$1";
grant usage, create on schema "$1" to "$app_role";
grant usage on schema "$1" to "$read_role";
SQL
}

# As the loader, whose tables they are: an administrator of RDS is no superuser and may not grant for another role.
grant_tables() { # SCHEMA
  query loader <<SQL
alter default privileges in schema "$1" grant select on tables to "$read_role";
do \$\$
declare name text;
begin
  for name in select tablename from pg_catalog.pg_tables where schemaname = '$1' and tableowner = current_user loop
    execute format('grant select on %I.%I to "$read_role"', '$1', name);
  end loop;
end \$\$;
SQL
}

# With what loads have: the host's role, the app secret and etl-runner.
verify() {
  local who
  who=$(echo 'select current_user' | query loader)
  [ "$who" = "${user[loader]}" ] || stop 1 "logged in as $who and not as ${user[loader]}"
  echo 'select' | query reader
  as_service /usr/local/bin/etl-runner loads --limit 1 >/dev/null \
    || stop $? "etl-runner cannot read the ledger as ${user[loader]}; its message stands above"
  say "${user[loader]} and ${user[reader]} can log in, and the ledger can be read"
}

main() {
  local schema
  need_root
  parse_arguments "$@"
  record=$logs/host.log
  load_host_env
  # For other hosts than those of RDS, such as a test's.
  export PGSSLROOTCERT=${PGSSLROOTCERT:-/etc/aqueduct/rds-ca-bundle.pem}
  # /run is memory.
  private=$(mktemp -d /run/aqueduct-setup.XXXXXX)
  trap 'rm -rf "$private"' EXIT
  load_parameters
  assume_setup_role
  take_login master database/master-secret
  take_login loader database/app-secret
  take_login reader database/read-secret
  make_ledger
  make_login loader "$app_role"
  make_login reader "$read_role"
  for schema in "${schemas[@]}"; do
    grant_schema "$schema"
    grant_tables "$schema"
  done
  verify
}

main "$@"
