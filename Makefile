# Everything a contributor runs; `make` alone lists the targets.
SHELL := bash
CACHE := $(or $(ODRADEK_CACHE),$(HOME)/.cache/odradek)
.DEFAULT_GOAL := help
.PHONY: help setup build fmt lint docs dashboards test test-unit test-engine test-redis test-s3 test-kafka test-clients test-e2e test-chart test-image test-kube manifests chart-readme demo demo-zones bench bench-produce bench-pipeline bench-fetch bench-coordinator bench-isolation bench-connections fuzz sim chaos clean-demo clean-cache

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what demo, tests and benchmarks need (Kafka, Redis, MinIO, client libraries)
	@scripts/setup.sh

build: ## Build the release binary
	cargo build --release --locked

fmt: ## Format the code
	cargo fmt --all

lint: ## Check format, clippy, shellcheck, licences, spelling; change nothing
	@scripts/setup.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	shellcheck scripts/*.sh .ci/run
	cargo fetch --locked
	"$(CACHE)/tools/lint/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources
	"$(CACHE)/tools/lint/bin/typos"

docs: ## Generate the documents that are made from the code
	cargo run --locked -q -- docs protocol > docs/protocol.md.new && mv docs/protocol.md.new docs/protocol.md
	cargo run --locked -q -- docs configuration > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	cargo run --locked -q -- docs metrics > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md
	cargo run --locked -q -- docs schema > docs/odradek.schema.json.new && mv docs/odradek.schema.json.new docs/odradek.schema.json

dashboards: ## Generate the Grafana dashboard
	scripts/dashboard.py > helm/odradek/files/dashboards/odradek.json.new && mv helm/odradek/files/dashboards/odradek.json.new helm/odradek/files/dashboards/odradek.json

# All suites use one build: the same packages, features and profile. FILTER names tests.
cargo_test := cargo test --locked --workspace --all-features

test-unit: ## Unit tests and house rules: need nothing but Rust
	$(cargo_test) --lib --bins --test tidy --test documents -- $(FILTER)

test-engine: ## The engine over fakes in virtual time, and under a simulated network
	$(cargo_test) --test engine --test sim --test file_store_crash --test guard_alloc --test request_cost --test fuzz_smoke -- $(FILTER)

test-redis: ## The coordinator on Redis: single, Sentinel, Cluster, failover, lost data
	@scripts/setup.sh redis
	$(cargo_test) --test coordinator -- $(FILTER)

test-s3: ## The store on MinIO, radosgw and slow-s3
	@scripts/setup.sh minio rgw
	$(cargo_test) --test store --test slow_s3 -- $(FILTER)

test-kafka: ## The protocol against real brokers: raw sockets, SASL and ACLs, zones (FILTER=raw::produce)
	@scripts/setup.sh kafka redis minio bench
	$(cargo_test) --test e2e -- $(or $(FILTER),raw:: authorization:: zones::)

test-clients: ## Every stock client of tests/clients against stock Kafka and Odradek
	@scripts/setup.sh kafka redis minio kcat clients
	$(cargo_test) --test e2e -- matrix::

test-e2e: setup ## All of tests/e2e
	$(cargo_test) --test e2e -- $(FILTER)

test-chart: build ## The Helm chart: lint, render, unit tests, `odradek validate` of each configuration
	@scripts/chart.sh

test-image: build ## The image: lint, build, run as the chart runs it
	@scripts/image.sh

test-kube: ## The chart on a real API server with scheduler and fake nodes (builds them once: ten minutes)
	@scripts/kube.sh

manifests: ## Render the chart into deploy/manifests
	@scripts/setup.sh chart
	@scripts/manifests.sh

chart-readme: ## Generate the chart's README
	@scripts/setup.sh chart
	@"$${ODRADEK_CACHE:-$$HOME/.cache/odradek}/tools/helm-docs/helm-docs" --chart-search-root helm/odradek --skip-version-footer --log-level error

test: ## Everything that CI runs: set-up, lints, all suites, chart, image, a short fuzz
	@scripts/test.sh

demo: ## Diskless and classic topics on a real Kafka until Ctrl-C (DEMO=once: check and end)
	@scripts/demo.sh

demo-zones: ## Three zones on one machine: a key kills one while clients run (ZONES_DEMO=once: scripted)
	@cargo xtask demo-zones

bench: ## Produce throughput and latency: classic direct, classic and diskless through Odradek
	@cargo xtask bench paths

bench-produce: ## Latency, PUTs and CPU of diskless produce on a store of known latency (10 minutes)
	@cargo xtask bench produce

bench-pipeline: ## CPU time of the produce pipeline for each part, at 1,000 to 30,000 parts per object
	cargo bench --locked --bench produce_pipeline

bench-fetch: ## End-to-end latency, GETs and replay of diskless topics on a store of known latency (8 minutes)
	@cargo xtask bench fetch

bench-coordinator: ## Part-commits, finds, memory and longest script of the batch coordinator on real Redis (2 minutes)
	@cargo xtask bench coordinator

bench-isolation: ## Ack latency of all other shards while one master of a Redis Cluster stands still (7 minutes)
	@cargo xtask bench isolation

bench-connections: ## Memory of a replica with 10,000 connections, idle and busy, classic and diskless (6 minutes)
	@cargo xtask bench connections

sim: ## The engine under a simulated network (SEEDS=1000, FIRST=1; SEED=7 replays one with its log)
	@SIM_SEEDS=$(or $(SEEDS),1000) SIM_FIRST=$(FIRST) SIM_SEED=$(SEED) $(cargo_test) --test sim -- all_seeds_pass --nocapture

chaos: ## Faults on real processes under stock clients (MINUTES=10; SEED=…, ONLY=kill-zone,freeze,…; needs root)
	@scripts/setup.sh kafka redis bench chaos
	$(cargo_test) --test chaos --test slow_s3 --no-run
	@CHAOS_MINUTES=$(or $(MINUTES),10) CHAOS_SEED=$(SEED) CHAOS_ONLY=$(ONLY) $(cargo_test) --test chaos acknowledged_records -- --nocapture

fuzz: ## Fuzz every parser of data from peers (FUZZ_SECONDS each, 60)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)

clean-demo: ## Remove the demo's cluster and records
	rm -rf .demo .demo-zones

clean-cache: ## Remove what `make setup` installed (the Debian packages stay)
	rm -rf "$${ODRADEK_CACHE:-$$HOME/.cache/odradek}"
