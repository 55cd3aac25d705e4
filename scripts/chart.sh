#!/usr/bin/env bash
# `make test-chart`: lints the chart, renders it with every values file of ci/, has Odradek read each
# configuration, and compares the alerts' metrics with docs/metrics.md. ODRADEK names the binary.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
"$root/scripts/setup.sh" chart
# Helm that is built from source believes in Kubernetes 1.20 unless it is told otherwise.
render=("$cache/tools/helm3/helm" template odradek helm/odradek --kube-version 1.35.0)
odradek=${ODRADEK:-$root/target/release/odradek}
[ -x "$odradek" ] || die "$odradek is missing; run: make build"
chart=helm/odradek
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/secrets/kafka"
echo secret >"$work/secrets/kafka/password"

# Every ConfigMap of a rendered chart, one file each, as a pod would see it.
configurations() {
  awk -v dir="$2" '
    /^---/ { if (file) close(file); file = "" }
    file && /^    / { print substr($0, 5) > file; next }
    file && /^[^ ]/ { close(file); file = "" }
    /^  odradek.yaml: \|/ { file = dir "/" ++n ".yaml" }' "$1"
}

for values in "$chart"/ci/*-values.yaml; do
  name=$(basename "$values" -values.yaml)
  "$cache/tools/helm3/helm" lint --strict --quiet --kube-version 1.35.0 "$chart" -f "$values"
  "${render[@]}" -f "$values" >"$work/$name.yaml"
  mkdir "$work/$name"
  configurations "$work/$name.yaml" "$work/$name"
  found=0
  for file in "$work/$name"/*.yaml; do
    [ -e "$file" ] || continue
    found=$((found + 1))
    # A pod has its Secrets there; here a file of the same name stands in.
    sed -i "s|/run/secrets/|$work/secrets/|" "$file"
    ODRADEK_ZONE=a POD_NAME=odradek-a-0 POD_IP=10.0.0.1 "$odradek" validate "$file" >"$work/out" 2>&1 ||
      { cat "$file" "$work/out"; die "$name: Odradek refuses the rendered configuration"; }
  done
  [ "$found" -gt 0 ] || die "$name: no configuration was rendered"
  note "$name: $(grep -c '^kind:' "$work/$name.yaml") objects, $found configurations"
done

# What the schema must refuse.
for bad in replicaCount=3 terminationGracePeriodSeconds=30 zoneSource=guess 'zones[0].name=UPPER'; do
  if "${render[@]}" -f "$chart/ci/zones-values.yaml" --set "$bad" >"$work/out" 2>&1; then
    die "the schema takes --set $bad"
  fi
  grep -qi "schema" "$work/out" || { cat "$work/out"; die "--set $bad failed, but not by the schema"; }
done

# A roll follows the configuration.
sum() { "${render[@]}" -f "$chart/ci/zones-values.yaml" "$@" | grep checksum/config | sort -u; }
[ "$(sum)" != "$(sum --set config.flush.interval=1s)" ] || die "another configuration does not roll the pods"

grep -ho 'odradek_[a-z_]*' "$chart/files/rules.yaml" | sort -u | while read -r metric; do
  grep -q "\`$metric\`" docs/metrics.md || die "rules.yaml asks for $metric, which docs/metrics.md does not have"
done
note "the chart is as it should be"
