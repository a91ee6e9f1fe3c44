#!/usr/bin/env bash
# Brings one release onto this host, or leaves the host as it was.
#
#   deploy.sh {binaries|pipelines} ID SHA256
#
# ID names the release in the artifact bucket, SHA256 is the digest of its archive for this host's processor. The release is
# checked before it is switched to, watched after it, and taken back if it is not well. A second run with the same ID changes
# nothing. The last three releases stay, so going back is a deploy of the ID from before, without a download.
#
# Exit codes: 0 the release is the current one; 1 it is not, and the one from before is, as the messages say; 2 wrong usage, or
# the release was refused before the switch; 75 another deploy is under way.
set -euo pipefail
umask 022
program=deploy
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/host/lib.sh
. "$here/lib.sh"

kept_releases=3
# Two deploys at once: the second waits so long. A deploy that is well takes half a minute.
lock_seconds=${AQUEDUCT_LOCK_SECONDS:-300}
# log-shipper writes its status each five seconds. A small host that is busy gets some more.
health_seconds=${AQUEDUCT_HEALTH_SECONDS:-60}

usage() {
  stop 2 "$1; usage: deploy.sh {binaries|pipelines} ID SHA256"
}

parse_arguments() {
  [ $# = 3 ] || usage "3 arguments are wanted and $# were given"
  kind=$1 id=$2 digest=$3
  case "$kind" in binaries | pipelines) ;; *) usage 'the first argument is neither binaries nor pipelines' ;; esac
  # It becomes part of paths and keys.
  [[ $id =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] || usage 'the ID has to be up to 64 letters, digits and ._- and to begin with a letter or digit'
  [[ $digest =~ ^[0-9a-f]{64}$ ]] || usage 'SHA256 has to be 64 small hexadecimal digits'
  base=$opt/$kind
  release=$base/releases/$id
  staging=$opt/incoming/$kind-$id
  # Holds "NEW GOOD" from before the switch until the release has proved itself.
  marker=$base/deploying
}

# One lock for both kinds: each is checked together with the other. It goes with the process, however that ends.
take_lock() {
  exec 9>>"$opt/.deploy.lock"
  flock --wait "$lock_seconds" 9 || stop 75 'another deploy is under way on this host; try again when it is done'
}

current_release() { # KIND
  local target
  target=$(readlink "$opt/$1/current" 2>/dev/null) || return 0
  printf '%s' "${target#releases/}"
}

# A deploy that was killed left its directory, and perhaps a switch that nobody has watched.
look_for_interrupted_deploy() {
  local begun good_before
  find "$opt/incoming" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {} +
  current=$(current_release "$kind")
  good=$current
  unproven=
  [ -s "$marker" ] || return 0
  read -r begun good_before <"$marker"
  if [ "$begun" = "$current" ]; then
    unproven=$begun
    good=${good_before%-}
    say "an earlier deploy of $kind $begun was interrupted after its switch; ${good:-none} is the last release that proved itself"
  else
    say "an earlier deploy of $kind $begun was interrupted before its switch, or while it was taken back"
    # In the second case log-shipper may run the program that was taken back.
    restart || true
    rm -f "$marker"
  fi
}

processor() {
  local name
  name=$(uname -m)
  case "$name" in x86_64 | aarch64) printf '%s' "$name" ;; *) stop 1 "there are no binaries for the processor $name" ;; esac
}

archive_key() {
  if [ "$kind" = binaries ]; then
    printf 'binaries/%s/aqueduct-%s-linux-musl.tar.gz' "$id" "$(processor)"
  else
    printf 'pipelines/%s/pipelines.tar.gz' "$id"
  fi
}

fetch() {
  local key archive=$staging.tar.gz
  key=$(archive_key)
  # Without the right to list the bucket a key that is not there reads as forbidden.
  aws s3 cp --only-show-errors "s3://$ARTIFACT_BUCKET/$key" "$archive" 9>&- \
    || stop 1 "s3://$ARTIFACT_BUCKET/$key cannot be fetched; was that release uploaded, for this processor? nothing was changed"
  if ! printf '%s  %s\n' "$digest" "$archive" | sha256sum --check --status; then
    rm -f "$archive"
    stop 2 "s3://$ARTIFACT_BUCKET/$key has another digest than was asked for, so it is not unpacked; nothing was changed"
  fi
  mkdir -m 755 "$staging"
  python3 "$here/unpack.py" "$kind" "$archive" "$staging" 9>&- || refuse 'its archive is not what a release is'
  rm -f "$archive"
  printf '%s\n' "$digest" >"$staging/.sha256"
}

refuse() {
  rm -rf --one-file-system "$staging" "$staging.tar.gz"
  stop 2 "$kind $id is refused: $*; nothing was changed"
}

# The release is here already, from an earlier deploy.
check_kept_release() {
  [ "$(cat "$release/.sha256")" = "$digest" ] \
    || stop 2 "$kind $id is here with another digest; an ID names one content, so give what you built a new one"
}

check_programs() { # DIRECTORY
  local name
  for name in etl-runner log-shipper ingest; do
    as_service timeout 30 "$1/$name" --version >/dev/null || refuse "$name --version does not run on this host (exit $?)"
  done
  # A configuration that the new program does not understand would end log-shipper for good. 1 is a log that the user of
  # the loads may not read, as log-shipper may.
  local status=0
  as_service timeout 30 "$1/log-shipper" check --offline "$shipper_config" >/dev/null || status=$?
  case "$status" in 0 | 1) ;; *) refuse "its log-shipper does not take $shipper_config (exit $status)" ;; esac
}

# A mistake in a pipeline file, or a setting that is wrong, ends with 2 and blocks: no load could start. These do not, because
# the host's other half mends them, or the first load does: 1 (a table or an object that is missing, or does not fit),
# 4 (rights and credentials), 75 and 124 (the database does not answer). Any other code is a program that is broken.
check_pipelines() { # BINARIES PIPELINES
  local status=0 pipelines
  find_pipelines "$2"
  if [ ${#pipelines[@]} = 0 ]; then return; fi
  as_service timeout 120 "$1/etl-runner" check "${pipelines[@]}" >&2 || status=$?
  case "$status" in
    0) ;;
    1 | 3 | 4 | 5 | 75 | 124) say "etl-runner check ends with $status: loads will not work yet, which is no reason to stop here" ;;
    2) refuse 'etl-runner check found a mistake in a pipeline file or a setting (exit 2); it stands above' ;;
    *) refuse "etl-runner check ends with $status" ;;
  esac
}

# Both kinds are checked as what would run afterwards: the new one with what is here of the other.
check_combination() { # DIRECTORY
  local other
  if [ "$kind" = binaries ]; then
    check_programs "$1"
    other=$(current_release pipelines)
    if [ -n "$other" ]; then check_pipelines "$1" "$opt/pipelines/releases/$other"; fi
  else
    other=$(current_release binaries)
    [ -n "$other" ] || refuse 'there are no binaries on this host to check it with; deploy those first'
    check_pipelines "$opt/binaries/releases/$other" "$1"
  fi
}

point() { # NAME RELEASE: one rename, so that whoever opens the path finds a release, the old or the new one
  ln -sfn "releases/$2" "$base/$1.new"
  mv -T "$base/$1.new" "$base/$1"
}

switch() {
  # The release and its names are on the disk before anything points there.
  sync -f "$base"
  printf '%s %s\n' "$id" "${good:--}" >"$marker.new"
  mv -T "$marker.new" "$marker"
  point current "$id"
}

restart() {
  # Loads are started anew each minute and take the new files by themselves.
  if [ "$kind" = binaries ]; then systemctl restart log-shipper.service 9>&-; fi
}

# Active, and the status is of the very process that systemd has started: the one before it wrote one, too.
is_shipping() {
  local pid
  systemctl is-active --quiet log-shipper.service 9>&- || return 1
  pid=$(systemctl show --property MainPID --value log-shipper.service 9>&-)
  timeout 10 /usr/local/bin/log-shipper status --json "$shipper_config" 2>/dev/null 9>&- | python3 -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(not (status["is_running"] and status["pid"] == int(sys.argv[1])))' "$pid" 2>/dev/null
}

is_healthy() {
  local end
  if ! as_service timeout 30 /usr/local/bin/etl-runner --version >/dev/null; then
    say 'etl-runner --version does not run'
    return 1
  fi
  if [ "$kind" = pipelines ]; then return 0; fi
  end=$((SECONDS + health_seconds))
  until is_shipping; do
    if [ "$SECONDS" -ge "$end" ]; then
      say "log-shipper was not running and telling its status within $health_seconds s; journalctl -u log-shipper says why"
      return 1
    fi
    sleep 0.5
  done
}

# Out of the way first, by one rename: a half-deleted release must not look like one that is kept.
remove_release() { # ID
  mv -T "$base/releases/$1" "$opt/incoming/old-$kind-$1"
  rm -rf --one-file-system "$opt/incoming/old-$kind-$1"
}

roll_back() {
  if [ -n "$good" ] && [ "$good" != "$id" ] && [ -d "$base/releases/$good" ]; then
    say "$kind $id is not well; going back to $good"
    point current "$good"
    if restart && is_healthy; then
      outcome="$good runs again"
    else
      outcome="$good is the current release again, but is not well either: look at this host"
    fi
  else
    say "$kind $id is not well, and there is no release to go back to"
    rm -f "$base/current"
    if [ "$kind" = binaries ]; then systemctl stop log-shipper.service 9>&- || true; fi
    outcome='no release is current'
  fi
  rm -f "$marker"
  # So that a repaired upload under the same ID is fetched, and not this one taken again.
  if [ "$id" != "$good" ]; then
    if [ "$(readlink "$base/previous" 2>/dev/null)" = "releases/$id" ]; then rm -f "$base/previous"; fi
    remove_release "$id"
  fi
  stop 1 "$kind $id was taken back: $outcome"
}

settle() {
  # For whoever wants to go back; and it is never among those that are removed.
  if [ -n "$good" ] && [ "$good" != "$id" ]; then point previous "$good"; fi
  rm -f "$marker"
  remove_old_releases
}

remove_old_releases() {
  local name kept=0 previous
  previous=$(readlink "$base/previous" 2>/dev/null) || previous=
  previous=${previous#releases/}
  # Those two count whatever their age.
  kept=1
  if [ -n "$previous" ] && [ "$previous" != "$id" ]; then kept=2; fi
  while IFS= read -r name; do
    if [ "$name" = "$id" ] || [ "$name" = "$previous" ]; then continue; fi
    if [ "$kept" -lt "$kept_releases" ]; then
      kept=$((kept + 1))
    else
      say "removing $kind $name: the last $kept_releases releases stay"
      remove_release "$name"
    fi
  done < <(find "$base/releases" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %f\n' | sort -rn | cut -d ' ' -f 2-)
}

main() {
  need_root
  parse_arguments "$@"
  record=$logs/host.log
  load_host_env
  take_lock
  look_for_interrupted_deploy
  if [ -d "$release" ]; then check_kept_release; fi
  if [ "$id" = "$current" ] && [ -z "$unproven" ]; then
    say "$kind $id is the current release already; nothing was changed"
    return
  fi
  if [ -d "$release" ]; then
    staging=$release.none # nothing of it is to be removed when it is refused
    check_combination "$release"
  else
    fetch
    check_combination "$staging"
    mv -T "$staging" "$release"
  fi
  # Its age is when it was last deployed.
  touch "$release"
  switch
  if restart && is_healthy; then settle; else roll_back; fi
  say "$kind $id is the current release"
}

main "$@"
