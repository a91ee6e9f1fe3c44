#!/bin/bash
# Prints the result that the test wants, and ends with its code. Busy as long as the file `busy` has lines.
printf '%s\n' "$#" "$@" >"$HOST_DIRECTORY/arguments"
if [ -s "$HOST_DIRECTORY/busy" ]; then
  sed -i 1d "$HOST_DIRECTORY/busy"
  echo '{"schema":"etl.run/1","command":"etl-runner run","exit":75,"pipelines":[],"errors":[{"message":"another process loads it"}]}'
  exit 75
fi
echo "run-job: loading through $1" >&2
[ -z "$RESULT" ] || cat "$RESULT"
exit "${CODE:-0}"
