#!/bin/sh
# Fuzzes the doors at which a peer's bytes come in, each target for SECONDS.
# usage: scripts/fuzz.sh [SECONDS]
#
# Runs cargo-fuzz on the nightly toolchain, installing it when it is missing; where that is not
# possible, the seeded runner of tests/fuzz_smoke.rs on the project's own toolchain.
set -eu

cd "$(dirname "$0")/.."
seconds=${1:-60}

if cargo +nightly --version >/dev/null 2>&1; then
    command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz || true
fi

if cargo +nightly --version >/dev/null 2>&1 && command -v cargo-fuzz >/dev/null; then
    for target in frame request response record_batch; do
        # 512 MiB is well over what any input of the default size may take.
        cargo +nightly fuzz run "$target" -- \
            -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10
    done
else
    echo "cargo-fuzz is not available: running the seeded smoke test" >&2
    FUZZ_SECONDS=$seconds cargo test --locked --workspace --all-features --test fuzz_smoke
fi
