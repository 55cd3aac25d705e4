# Everything a contributor runs; `make` alone lists it.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup build fmt lint docs test test-unit test-e2e test-chart demo bench bench-produce bench-fetch fuzz clean-demo clean-cache

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Get what demo, tests and benchmark need (Kafka, Redis, MinIO, client libraries)
	@scripts/setup.sh

build: ## Build the release binary
	cargo build --release --locked

fmt: ## Format the code
	cargo fmt --all

lint: ## Formatting, clippy, shellcheck; nothing is changed
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; else echo "shellcheck is not installed: skipped"; fi

docs: ## Print the documents that are made from the code anew
	cargo run --locked -q -- docs protocol > docs/protocol.md.new && mv docs/protocol.md.new docs/protocol.md
	cargo run --locked -q -- docs configuration > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md

test-unit: ## Tests that need nothing but Rust
	cargo test --locked --all-features --lib --bins --test tidy

test-e2e: setup ## Real Kafka, Redis, MinIO and clients against Odradek
	cargo build --locked --all-features --example slow-s3
	cargo test --locked --all-features --test e2e

test-chart: build ## The Helm chart: lint, render, and what Odradek says to each configuration
	@scripts/chart.sh

test: ## All tests: set-up, lints, unit, integration, end to end, the demo, a short fuzz
	@scripts/test.sh

demo: ## Show the main job on a real Kafka until Ctrl-C (DEMO=once: check it and end)
	@scripts/demo.sh

bench: ## Produce throughput and latency: classic direct, classic and diskless through Odradek
	@scripts/bench.sh

bench-produce: ## Latency, PUTs and CPU of diskless produce on a store of known latency (10 minutes)
	@scripts/bench-produce.sh

bench-fetch: ## End-to-end latency, GETs and replay of diskless topics on a store of known latency (8 minutes)
	@scripts/bench-fetch.sh

fuzz: ## Fuzz every parser of what peers send (FUZZ_SECONDS each, 60)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)

clean-demo: ## Forget the demo's cluster and records
	rm -rf .demo

clean-cache: ## Forget what `make setup` got (the Debian packages stay)
	rm -rf "$${ODRADEK_CACHE:-$$HOME/.cache/odradek}"
