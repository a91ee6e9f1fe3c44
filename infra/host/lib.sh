# shellcheck shell=bash
# shellcheck disable=SC2034 # the names below are for the scripts that source this
# What the scripts of this directory share. A script sets `program` to its name and sources this file.

opt=/opt/aqueduct
host_env=/etc/aqueduct/host.env
logs=/var/log/aqueduct
service_user=aqueduct
service_home=/var/lib/aqueduct
shipper_config=/etc/log-shipper/config.toml
# Where the AWS CLI is a snap: neither cloud-init nor Run Command look there.
PATH=$PATH:/snap/bin

say() {
  printf '%s: %s\n' "${program:?}" "$*" >&2
  # A second record for the person on call: the output of Run Command is kept for a month only.
  if [ -n "${record:-}" ]; then
    printf '%s %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$program" "$*" >>"$record"
  fi
}

# stop CODE MESSAGE
stop() {
  local code=$1
  shift
  say "$@"
  exit "$code"
}

need_root() {
  [ "$(id -u)" = 0 ] || stop 2 'this needs root; on the host: sudo, or through Session Manager'
}

# Exports what host.env says. Read line by line, not sourced: its values come from parameters, and a parameter is no place
# for a command that root runs.
load_host_env() {
  local line
  [ -r "$host_env" ] || stop 1 "there is no $host_env; install.sh makes it from the parameters: run that first"
  while IFS= read -r line || [ -n "$line" ]; do
    case "$line" in
      '' | '#'*) ;;
      [A-Z]*=*) export "${line%%=*}=${line#*=}" ;;
      *) stop 1 "$host_env has a line that is no KEY=value; run install.sh to write it anew" ;;
    esac
  done <"$host_env"
  # The first version of the AWS CLI knows the second name only.
  export AWS_DEFAULT_REGION="${AWS_REGION:?}"
}

# All parameters of this environment, as lines of name below the path, tab, value.
read_parameters() {
  aws ssm get-parameters-by-path --path "${PARAMETERS:?}" --recursive \
    --query 'Parameters[].[Name,Value]' --output text | sed "s|^$PARAMETERS/||"
}

# Runs a command as the user of the loads: without root's rights, and without a lock that this script holds.
as_service() {
  (cd / && exec setpriv --reuid="$service_user" --regid="$service_user" --init-groups --no-new-privs \
    env HOME="$service_home" USER="$service_user" LOGNAME="$service_user" "$@" 9>&-)
}

# The pipeline files of a directory, into the array `pipelines`.
find_pipelines() {
  local file
  pipelines=()
  for file in "$1"/*.toml; do
    if [ -f "$file" ]; then pipelines+=("$file"); fi
  done
}

# Parts what etl-runner says on stderr: lines of metrics are JSON and go to descriptor 3, messages to 4.
part_messages() {
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    case "$line" in
      '{'*) printf '%s\n' "$line" >&3 ;;
      *) printf '%s\n' "$line" >&4 ;;
    esac
  done
}
