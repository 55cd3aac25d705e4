#!/usr/bin/env bash
# `make test-chart`: lints the chart and renders it under both majors of Helm with every values file
# of ci/, holds each object against the schemas of several Kubernetes versions, has Odradek read each
# configuration, runs the unit tests, and checks what is made from the chart. ODRADEK names the binary.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
"$root/scripts/setup.sh" chart
tools=$cache/tools
checks() { "$tools/kubernetes-schemas/bin/python" scripts/chart-checks.py "$@"; }
# Every object must have a schema: those of the monitoring operator are in scripts/crds.
conforms() {
  "$tools/kubeconform/kubeconform" -strict -kubernetes-version "$1.0" \
    -schema-location "$tools/kubernetes-schemas/schemas/{{.NormalizedKubernetesVersion}}-standalone{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json" \
    -schema-location 'scripts/crds/{{.ResourceKind}}{{.KindSuffix}}.json' "$2"
}
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
  for major in 3 4; do
    "$tools/helm$major/helm" lint --strict --quiet --kube-version 1.35.0 "$chart" -f "$values"
  done
  versions="1.30 1.34 1.37"
  ! grep -q "^# Kubernetes 1.35 or later" "$values" || versions=1.37
  for version in $versions; do
    for major in 3 4; do
      "$tools/helm$major/helm" template odradek "$chart" --kube-version "$version.0" -f "$values" >"$work/$name-$version-$major.yaml"
    done
    checks same "$work/$name-$version-3.yaml" "$work/$name-$version-4.yaml"
    conforms "$version" "$work/$name-$version-3.yaml" || die "$name: Kubernetes $version would refuse it"
  done
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
for bad in replicaCount=3 terminationGracePeriodSeconds=30 zoneSource=guess 'zones[0].name=UPPER' \
  config.zonne=a config.flush.interval=250 config.listeners.brokerPorts=70000; do
  if "${render[@]}" -f "$chart/ci/zones-values.yaml" --set "$bad" >"$work/out" 2>&1; then
    die "the schema takes --set $bad"
  fi
  grep -qi "schema" "$work/out" || { cat "$work/out"; die "--set $bad failed, but not by the schema"; }
done

# Clients may connect to all ports of brokers and of nodes, so neither of these may be among them.
for bad in 'admin.bind=0.0.0.0:9180' 'peers.bind=0.0.0.0:9301'; do
  ! "${render[@]}" -f "$chart/ci/zones-values.yaml" --set "config.$bad" >"$work/out" 2>&1 ||
    die "the chart takes --set config.$bad"
  grep -q "config.${bad%%=*}: port .* is one of the ports of" "$work/out" || { cat "$work/out"; die "--set config.$bad failed otherwise"; }
done
"${render[@]}" -f "$chart/ci/zones-values.yaml" --set networkPolicy.enabled=true >"$work/policy.yaml"
checks policy "$work/policy.yaml"
sed 's/endPort: 9299/endPort: 65535/; s/port: 9100/port: 1024/' "$work/policy.yaml" >"$work/planted.yaml"
! checks policy "$work/planted.yaml" 2>/dev/null || die "a policy that opens the admin port passes"

# A roll follows the configuration.
sum() { "${render[@]}" -f "$chart/ci/zones-values.yaml" "$@" | grep checksum/config | sort -u; }
[ "$(sum)" != "$(sum --set config.flush.interval=1s)" ] || die "another configuration does not roll the pods"

# What may not pass: a port that is text, and a key that there is not.
sed 's/port: 9092/port: "9092"/' "$work/zones-1.34-3.yaml" >"$work/planted.yaml"
cmp -s "$work/planted.yaml" "$work/zones-1.34-3.yaml" && die "nothing was planted"
! conforms 1.34 "$work/planted.yaml" >/dev/null || die "the schemas take a port that is text"

"$tools/helm-unittest/untt" --strict "$chart" >"$work/untt" 2>&1 || { cat "$work/untt"; die "unit tests of the chart failed"; }

cp -r "$chart" "$work/chart"
"$tools/helm-docs/helm-docs" --chart-search-root "$work/chart" --skip-version-footer --log-level error
cmp "$work/chart/README.md" "$chart/README.md" || die "the chart's README is out of date; run: make chart-readme"
scripts/manifests.sh "$work/manifests.yaml"
cmp "$work/manifests.yaml" deploy/manifests/odradek.yaml || die "the manifests are out of date; run: make manifests"
conforms 1.34 deploy/manifests/odradek.yaml
checks readme

mkdir "$work/compose"
checks compose "$work/compose"
for env in "$work"/compose/*.env; do
  # shellcheck source=/dev/null
  (. "$env" && "$odradek" validate deploy/compose/odradek.yaml) >"$work/out" 2>&1 ||
    { cat "$work/out"; die "compose: Odradek refuses deploy/compose/odradek.yaml with $(basename "$env")"; }
done
note "the chart, its manifests and the compose file are as they should be"
