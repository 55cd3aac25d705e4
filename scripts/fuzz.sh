#!/bin/sh
# Fuzzes every parser of data from peers, each target for SECONDS.
# usage: scripts/fuzz.sh [SECONDS]
#
# Runs cargo-fuzz on the nightly toolchain and installs it when it is missing. Where that is not
# possible, runs tests/fuzz_smoke.rs on the project's own toolchain. tests/request_cost.rs measures
# the processor time and the memory that requests take, always on the project's own toolchain.
set -eu

cd "$(dirname "$0")/.."
seconds=${1:-60}

if cargo +nightly --version >/dev/null 2>&1; then
    command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz || true
fi

if cargo +nightly --version >/dev/null 2>&1 && command -v cargo-fuzz >/dev/null; then
    for target in frame request response record_batch; do
        # No input of the default size may allocate nearly 512 MiB.
        cargo +nightly fuzz run "$target" -- \
            -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10
    done
else
    echo "cargo-fuzz is not available: running the seeded smoke test" >&2
    FUZZ_SECONDS=$seconds cargo test --locked --workspace --all-features --test fuzz_smoke
fi
FUZZ_SECONDS=$seconds cargo test --locked --workspace --all-features --test request_cost
