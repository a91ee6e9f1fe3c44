#!/usr/bin/env bash
# Makes a host of Aqueduct out of an Ubuntu or Debian: packages, Docker, users, configuration, units, and the releases that the
# parameters name. User data runs it at the first boot; it can be run again at any time and then changes what differs, which
# is nothing as a rule. PROJECT, ENVIRONMENT, AWS_REGION, ARTIFACT_BUCKET and PARAMETERS come from the environment, or from
# the host.env of an earlier run.
#
# A mirror, or a test, says where Docker comes from: AQUEDUCT_DOCKER_APT (URL of the repository), AQUEDUCT_DOCKER_SUITE,
# AQUEDUCT_DOCKER_KEY (URL of its key), AQUEDUCT_DOCKER_FINGERPRINT (of that key).
set -euo pipefail
umask 022
export DEBIAN_FRONTEND=noninteractive
program=install
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/host/lib.sh
. "$here/lib.sh"

# Docker publishes this one: https://docs.docker.com/engine/install/ubuntu/
docker_fingerprint=9DC858229FC7DD38854AE2D88D81803C0EBFCD88
docker_packages=(docker-ce docker-ce-cli containerd.io docker-compose-plugin)
# Python makes SCRAM verifiers and unpacks archives, psql makes the logins, gpg looks at Docker's key.
packages=(ca-certificates curl gpg logrotate postgresql-client python3)

step() {
  say "$1"
  if [ -n "${AQUEDUCT_STEP_FILE:-}" ]; then printf '%s\n' "$1" >"$AQUEDUCT_STEP_FILE"; fi
}

# Unattended upgrades hold apt's locks at boot. apt-get waits for dpkg's; the one of the lists it does not wait for.
apt_get() {
  local try
  for try in $(seq 60); do
    if apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; then return; fi
    say "apt-get $1 did not work (try $try of 60); again in 5 s"
    sleep 5
  done
  stop 1 "apt-get $* never worked; its messages stand above"
}

install_packages() {
  local package missing=()
  for package in "$@"; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then missing+=("$package"); fi
  done
  if [ ${#missing[@]} = 0 ]; then return; fi
  apt_get update
  apt_get install --no-install-recommends "${missing[@]}"
}

# put MODE PATH: standard input becomes the file, in one step, and only where it differs; then `changed` is 1.
put() {
  local mode=$1 path=$2 text
  text=$(mktemp)
  cat >"$text"
  if ! cmp -s "$text" "$path" || [ "$(stat -c %a "$path")" != "$mode" ]; then
    # In two: only within a directory a rename is one step.
    install -m "$mode" "$text" "$path.new"
    mv -T "$path.new" "$path"
    changed=1
  fi
  rm -f "$text"
}

load_settings() {
  if [ -z "${PARAMETERS:-}" ]; then load_host_env; fi
  : "${PROJECT:?}" "${ENVIRONMENT:?}" "${AWS_REGION:?}" "${ARTIFACT_BUCKET:?}"
  export AWS_DEFAULT_REGION="$AWS_REGION"
}

find_distribution() {
  # In a subshell: the file sets names such as VERSION and ID.
  (
    # shellcheck source=/dev/null
    . /etc/os-release
    printf '%s %s\n' "$ID" "${VERSION_CODENAME:?}"
  )
}

fetch_docker_key() {
  local url=$1 wanted=$2 key=/etc/apt/keyrings/docker.asc found
  if [ -s "$key" ]; then return; fi
  mkdir -p /etc/apt/keyrings
  curl -sSfL --retry 5 -o "$key.new" "$url" || stop 1 "Docker's key is not to be had from $url; AQUEDUCT_DOCKER_KEY names another place"
  # The subkeys' fingerprints follow the key's own.
  found=$(gpg --batch --show-keys --with-colons "$key.new" | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
  if [ "$found" != "$wanted" ]; then
    rm -f "$key.new"
    stop 1 "the key at $url is $found and not $wanted: somebody else's, or Docker has a new one (AQUEDUCT_DOCKER_FINGERPRINT)"
  fi
  chmod 644 "$key.new"
  mv -T "$key.new" "$key"
}

install_docker() {
  local distribution codename apt suite origin
  read -r distribution codename < <(find_distribution)
  apt=${AQUEDUCT_DOCKER_APT:-https://download.docker.com/linux/$distribution}
  suite=${AQUEDUCT_DOCKER_SUITE:-$codename}
  fetch_docker_key "${AQUEDUCT_DOCKER_KEY:-$apt/gpg}" "${AQUEDUCT_DOCKER_FINGERPRINT:-$docker_fingerprint}"
  put 644 /etc/apt/sources.list.d/docker.sources <<TEXT
Types: deb
URIs: $apt
Suites: $suite
Components: stable
Signed-By: /etc/apt/keyrings/docker.asc
TEXT
  # The repository may bring Docker, and nothing in the place of the distribution's packages.
  origin=${apt#*://}
  origin=${origin%%[:/]*}
  put 644 /etc/apt/preferences.d/docker <<TEXT
Package: *
Pin: origin "$origin"
Pin-Priority: -1

Package: ${docker_packages[*]} docker-buildx-plugin
Pin: origin "$origin"
Pin-Priority: 600
TEXT
  # Before the package: it starts the daemon.
  mkdir -p /etc/docker
  put 644 /etc/docker/daemon.json <"$here/docker-daemon.json"
  install_packages "${docker_packages[@]}"
}

make_directory() { # MODE OWNER GROUP PATH
  if [ "$(stat -c '%a %U %G' "$4" 2>/dev/null)" != "$1 $2 $3" ]; then install -d -m "$1" -o "$2" -g "$3" "$4"; fi
}

make_users_and_directories() {
  if ! getent passwd "$service_user" >/dev/null; then
    useradd --system --user-group --home-dir "$service_home" --no-create-home --shell /usr/sbin/nologin "$service_user"
  fi
  make_directory 755 root root /etc/aqueduct
  make_directory 755 root root /etc/log-shipper
  make_directory 755 root root "$opt"
  make_directory 755 root root "$opt/binaries"
  make_directory 755 root root "$opt/binaries/releases"
  make_directory 755 root root "$opt/pipelines"
  make_directory 755 root root "$opt/pipelines/releases"
  make_directory 755 root root "$opt/incoming"
  make_directory 700 "$service_user" "$service_user" "$service_home"
  # log-shipper is a member of adm, and reads; only root writes here.
  make_directory 750 root adm "$logs"
  local log
  for log in user-data etl-runner host; do
    if [ ! -e "$logs/$log.log" ]; then : >"$logs/$log.log"; fi
    if [ "$(stat -c '%a %U %G' "$logs/$log.log")" != '640 root adm' ]; then
      chown root:adm "$logs/$log.log"
      chmod 640 "$logs/$log.log"
    fi
  done
  local name
  for name in etl-runner log-shipper ingest; do
    if [ "$(readlink "/usr/local/bin/$name")" != "$opt/binaries/current/$name" ]; then
      ln -sfn "$opt/binaries/current/$name" "/usr/local/bin/$name"
    fi
  done
}

# Name → value, from the parameters of this environment.
declare -A parameter=()
load_parameters() {
  local text name value
  text=$(read_parameters) || stop 1 "the parameters below $PARAMETERS cannot be read; may the role ssm:GetParametersByPath?"
  while IFS=$'\t' read -r name value; do parameter[$name]=$value; done <<<"$text"
}

wanted() {
  local value=${parameter[$1]:-}
  [ -n "$value" ] || stop 1 "there is no parameter $PARAMETERS/$1; terraform apply makes it"
  # It goes into files that systemd and our scripts read, where quotes, blanks and dollars would have a meaning.
  [[ $value =~ ^[A-Za-z0-9_./:@-]+$ ]] || stop 1 "the parameter $PARAMETERS/$1 has characters that no address or ARN has"
  printf '%s' "$value"
}

write_host_env() {
  local bucket host port name secret
  bucket=$(wanted data-bucket)
  host=$(wanted database/host)
  port=$(wanted database/port)
  name=$(wanted database/name)
  secret=$(wanted database/app-secret)
  put 644 "$host_env" <<TEXT
# Written by install.sh from the parameters below $PARAMETERS; no secret stands here.
PROJECT=$PROJECT
ENVIRONMENT=$ENVIRONMENT
AWS_REGION=$AWS_REGION
PARAMETERS=$PARAMETERS
ARTIFACT_BUCKET=$ARTIFACT_BUCKET
AQUEDUCT_STORE=s3://$bucket/incoming
DATABASE_URL=postgres://$host:$port/$name?sslmode=verify-full
DATABASE_SECRET=$secret
TEXT
}

# The groups and how long they are kept are Terraform's here, and the host's role may not change that.
render_shipper_config() {
  sed -e "s|^group = \"/aqueduct/|group = \"/$PROJECT/$ENVIRONMENT/|" -e '/^retention_days/d' "$here/log-shipper.toml"
}

configure_shipper() {
  local config
  config=$(render_shipper_config)
  changed=0
  put 644 "$shipper_config" <<<"$config"
  if [ "$changed" = 1 ]; then shipper_changed=1; fi
}

install_units() {
  local unit
  changed=0
  for unit in log-shipper.service aqueduct-load.service aqueduct-load.timer aqueduct-load-full.service aqueduct-load-full.timer; do
    put 644 "/etc/systemd/system/$unit" <"$here/$unit"
  done
  make_directory 755 root root /etc/systemd/system/log-shipper.service.d
  put 644 /etc/systemd/system/log-shipper.service.d/aqueduct.conf <"$here/log-shipper-aqueduct.conf"
  if [ "$changed" = 1 ]; then
    shipper_changed=1
    systemctl daemon-reload
  fi
  # They wait, by their conditions, for the first release.
  systemctl enable --quiet log-shipper.service
  systemctl enable --quiet --now aqueduct-load.timer aqueduct-load-full.timer
}

# A release that is deployed below restarts log-shipper by itself.
restart_changed_shipper() {
  if [ "$shipper_changed" = 1 ] && [ -x "$opt/binaries/current/log-shipper" ]; then systemctl restart log-shipper.service; fi
}

deploy_releases() {
  local kind id digest
  for kind in binaries pipelines; do
    read -r id digest <<<"${parameter[release/$kind]:-none}"
    if [ "$id" = none ]; then
      say "no release of the $kind yet: $PARAMETERS/release/$kind says none"
    else
      bash "$here/deploy.sh" "$kind" "$id" "$digest"
    fi
  done
}

main() {
  need_root
  load_settings
  shipper_changed=0
  step packages
  install_packages "${packages[@]}"
  step docker
  install_docker
  step 'users and directories'
  make_users_and_directories
  put 644 /etc/aqueduct/rds-ca-bundle.pem <"$here/rds-ca-bundle.pem"
  step parameters
  load_parameters
  write_host_env
  step units
  configure_shipper
  install_units
  put 644 /etc/logrotate.d/aqueduct <"$here/logrotate.conf"
  restart_changed_shipper
  step releases
  deploy_releases
  say 'the host is ready'
}

# A test that sources this file has the functions only.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
