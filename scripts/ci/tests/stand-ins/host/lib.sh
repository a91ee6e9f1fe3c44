# shellcheck shell=bash
load_host_env() { :; }
as_service() { "$@"; }
