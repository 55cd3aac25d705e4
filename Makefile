# Everything a contributor runs; `make` alone lists it.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup build fmt lint docs dashboards test test-unit test-e2e test-chart test-image test-kube manifests chart-readme demo demo-zones bench bench-produce bench-fetch fuzz sim chaos clean-demo clean-cache

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
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh examples/*/*.sh .ci/run; else echo "shellcheck is not installed: skipped"; fi

docs: ## Print the documents that are made from the code anew
	cargo run --locked -q -- docs protocol > docs/protocol.md.new && mv docs/protocol.md.new docs/protocol.md
	cargo run --locked -q -- docs configuration > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	cargo run --locked -q -- docs metrics > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md
	cargo run --locked -q -- docs schema > docs/odradek.schema.json.new && mv docs/odradek.schema.json.new docs/odradek.schema.json

dashboards: ## Print the Grafana dashboard anew
	scripts/dashboard.py > helm/odradek/files/dashboards/odradek.json.new && mv helm/odradek/files/dashboards/odradek.json.new helm/odradek/files/dashboards/odradek.json

test-unit: ## Tests that need nothing but Rust
	cargo test --locked --all-features --lib --bins --test tidy

test-e2e: setup ## Real Kafka, Redis, MinIO and clients against Odradek
	cargo test --locked --workspace --all-features --test e2e

test-chart: build ## The Helm chart: lint, render, and what Odradek says to each configuration
	@scripts/chart.sh

test-image: build ## The image: lint, build, and run it as the chart does
	@scripts/image.sh

test-kube: ## The chart on a real API server with scheduler and fake nodes (builds them once: ten minutes)
	@scripts/kube.sh

manifests: ## Render the chart into deploy/manifests
	@scripts/setup.sh chart
	@scripts/manifests.sh

chart-readme: ## Print the chart's README anew
	@scripts/setup.sh chart
	@"$${ODRADEK_CACHE:-$$HOME/.cache/odradek}/tools/helm-docs/helm-docs" --chart-search-root helm/odradek --skip-version-footer --log-level error

test: ## All tests: set-up, lints, unit, integration, end to end, the demo, a short fuzz
	@scripts/test.sh

demo: ## Show the main job on a real Kafka until Ctrl-C (DEMO=once: check it and end)
	@scripts/demo.sh

demo-zones: ## Three zones on one machine: kill one by a key while clients run (ZONES_DEMO=once: by itself)
	@examples/three-zones/run.sh

bench: ## Produce throughput and latency: classic direct, classic and diskless through Odradek
	@scripts/bench.sh

bench-produce: ## Latency, PUTs and CPU of diskless produce on a store of known latency (10 minutes)
	@scripts/bench-produce.sh

bench-fetch: ## End-to-end latency, GETs and replay of diskless topics on a store of known latency (8 minutes)
	@scripts/bench-fetch.sh

sim: ## Run the engine under a simulated network (SEEDS=1000, FIRST=1; SEED=7 replays one with its log)
	@SIM_SEEDS=$(or $(SEEDS),1000) SIM_FIRST=$(FIRST) SIM_SEED=$(SEED) cargo test --locked --workspace --all-features --test sim seeds_find_nothing -- --nocapture

chaos: ## Faults on real processes, judged (MINUTES=10; SEED=…, ONLY=kill-zone,freeze,…; needs root)
	@scripts/setup.sh kafka redis bench chaos
	cargo build --locked --workspace --all-features --bins
	@CHAOS_MINUTES=$(or $(MINUTES),10) CHAOS_SEED=$(SEED) CHAOS_ONLY=$(ONLY) cargo test --locked --workspace --all-features --test chaos clients_keep -- --nocapture

fuzz: ## Fuzz every parser of what peers send (FUZZ_SECONDS each, 60)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)

clean-demo: ## Forget the demo's cluster and records
	rm -rf .demo .demo-zones

clean-cache: ## Forget what `make setup` got (the Debian packages stay)
	rm -rf "$${ODRADEK_CACHE:-$$HOME/.cache/odradek}"
