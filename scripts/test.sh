#!/usr/bin/env bash
# `make test`: every check there is, in the order in which they are cheap. CI=true forbids skipping.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
stages=()

# stage NAME COMMAND…: runs it, keeps its output for the sums, stops at the first that fails.
stage() {
  local name=$1 started=$SECONDS
  shift
  say "$name"
  if ! "$@" 2>&1 | tee -a "$log"; then
    summary
    die "stage '$name' failed"
  fi
  stages+=("$name $((SECONDS - started)) s")
}

# Adds up cargo's own result lines.
summary() {
  printf '\n'
  [ ${#stages[@]} = 0 ] || printf '   %s\n' "${stages[@]}"
  awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "%d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
}

stage "set-up" scripts/setup.sh
stage "lints" make --no-print-directory lint
# The seeded runner is short here: the fuzzers themselves follow.
stage "unit and integration tests, client matrix, demo" env FUZZ_SECONDS=3 cargo test --locked --workspace --all-features --no-fail-fast
stage "chart" env ODRADEK="${CARGO_TARGET_DIR:-$root/target}/debug/odradek" scripts/chart.sh
stage "release build" make --no-print-directory build
stage "image" env ODRADEK="${CARGO_TARGET_DIR:-$root/target}/release/odradek" scripts/image.sh
stage "fuzz" scripts/fuzz.sh "${FUZZ_SECONDS:-10}"
summary
