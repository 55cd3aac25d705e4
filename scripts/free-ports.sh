#!/usr/bin/env bash
# Prints the first of COUNT consecutive free loopback ports.
#   free-ports.sh COUNT
# The ports are below the kernel's range for outgoing connections. A shared cursor walks the range, so
# that test beds that start at the same time do not collide.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

count=${1:?how many ports}
lowest=12000 highest=31999
mkdir -p "$cache"
exec 8>"$cache/ports.lock"
flock 8

taken=" $(awk '$4 == "0A" { split($2, a, ":"); printf "%s ", a[2] }' /proc/net/tcp /proc/net/tcp6 2>/dev/null) "
is_free() {
  local hex
  printf -v hex '%04X' "$1"
  [[ $taken != *" $hex "* ]]
}

cursor=$(cat "$cache/ports.next" 2>/dev/null || echo $((lowest + RANDOM % 15000)))
for ((tries = 0; tries < 500; tries++)); do
  ((cursor >= lowest && cursor + count <= highest)) || cursor=$lowest
  for ((port = cursor; port < cursor + count; port++)); do is_free "$port" || break; done
  if ((port == cursor + count)); then
    echo "$port" >"$cache/ports.next"
    echo "$cursor"
    exit 0
  fi
  cursor=$((port + 1))
done
die "no $count consecutive free ports between $lowest and $highest"
