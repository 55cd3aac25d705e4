#!/usr/bin/env bash
# `make test`: every check, cheap ones first. CI=true turns a skipped client into a failure.
# The chart, the release build and the image need no tests: they run beside them at the lowest priority.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"

beside=''
stages=()
clean_up() {
  local status=$?
  [ -z "$beside" ] || kill -- "-$beside" 2>/dev/null || true
  rm -f "$log" "$beside_log" "$beside_log.status"
  exit $status
}

# stage NAME COMMAND…: runs it, keeps its output for the summary, stops at the first that fails.
stage() {
  local name=$1 started=$SECONDS
  shift
  say "$name"
  if ! "$@" 2>&1 | tee -a "$log"; then
    summary
    die "stage '$name' failed"
  fi
  stages+=("$(printf '%5d s  %s' $((SECONDS - started)) "$name")")
}

# summary: the time of each stage and of each suite, then the sum of cargo's result lines.
summary() {
  printf '\n'
  [ ${#stages[@]} = 0 ] || printf '   %s\n' "${stages[@]}"
  awk '/^ +Running / { suite = $2; if (suite == "unittests") suite = suite " " $3 }
    /^test result:/ { printf "   %9s  %s: %d passed, %d failed, %d ignored\n", $NF, suite, $4, $6, $8 }' "$log"
  awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "%d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
}

target=${CARGO_TARGET_DIR:-$root/target}
chart_and_image() {
  say "chart" && ODRADEK=$target/debug/odradek scripts/chart.sh &&
    say "release build" && make --no-print-directory build &&
    say "image" && ODRADEK=$target/release/odradek scripts/image.sh
}
start_beside() {
  set -m
  (
    status=0
    nice -n 19 "$0" --beside >"$beside_log" 2>&1 || status=$?
    echo $status >"$beside_log.status"
  ) &
  beside=$!
  set +m
}
# A stage is a pipeline, whose parts cannot wait for a child of this shell.
join_beside() {
  while [ ! -s "$beside_log.status" ]; do sleep 1; done
  cat "$beside_log"
  return "$(cat "$beside_log.status")"
}

if [ "${1:-}" = --beside ]; then
  chart_and_image
  exit
fi

log=$(mktemp)
beside_log=$(mktemp)
trap clean_up EXIT
stage "set-up" scripts/setup.sh
stage "lints" make --no-print-directory lint
# One build for all suites: the same packages and features as every `make test-…`.
stage "build of the tests" cargo test --locked --workspace --all-features --no-run
start_beside
# The seeded runner is short here: the fuzzers themselves follow.
stage "tests" env FUZZ_SECONDS=3 cargo test --locked --workspace --all-features --no-fail-fast
stage "chart, release build, image (the rest of it)" join_beside
stage "fuzz" scripts/fuzz.sh "${FUZZ_SECONDS:-10}"
summary
