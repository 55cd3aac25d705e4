# shellcheck shell=bash disable=SC2034 # variables are used by the scripts that source this
# Sourced by the other scripts: paths, versions and messages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ODRADEK_CACHE:-$HOME/.cache/odradek}
kafka_version=${KAFKA_VERSION:-4.3.1}
kafka_libs=$cache/kafka-$kafka_version
export PATH="$PATH:/usr/local/go/bin:$cache/go/bin"

# Short-lived JVMs: start-up time matters, peak speed does not.
quick_jvm=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto)

if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi

say() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# with_progress LOG LABEL COMMAND…: runs the command with its output in LOG and prints its progress every
# few seconds; when the command fails, prints the end of the log.
with_progress() {
  local log=$1 label=$2 started=$SECONDS next_tick=5 pid
  shift 2
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - started >= next_tick)); then
      note "$label: $((SECONDS - started)) s so far, $(wc -l <"$log") lines of output in $log"
      ((next_tick += 10))
    fi
  done
  if ! wait "$pid"; then
    tail -n 30 "$log" >&2
    die "$label failed; the whole output is in $log"
  fi
}
