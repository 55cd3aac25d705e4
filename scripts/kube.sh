#!/usr/bin/env bash
# `make test-kube`: the chart on a real API server with scheduler and controller manager. kwok plays
# three nodes in three zones; there is no kubelet, so probes, images and mounts are not run.
# A namespace that enforces the restricted pod security standard takes the pods, the real scheduler
# places them, and upgrade, rollback and removal leave what they should. All of it is on loopback.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
"$root/scripts/setup.sh" chart kube
"$root/scripts/kube-build.sh"
command -v kubectl >/dev/null || die "kubectl is missing; any of 1.30 or later will do"
tools=$cache/tools/kube
helm=$cache/tools/helm3/helm
work=$(mktemp -d)
pids=()
cleanup() {
  local code=$?
  [ "$code" = 0 ] || tail -n 5 "$work"/*.log >&2 || true
  # Nothing of theirs is kept, so nothing has to be ended in peace.
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap cleanup EXIT
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}
# until_ok WHAT SECONDS COMMAND…
until_ok() {
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what: not in time"
    sleep 0.5
  done
}

first=$("$root/scripts/free-ports.sh" 6)
etcd=$first peer=$((first + 1)) api=$((first + 2)) manager=$((first + 3)) scheduler=$((first + 4)) fake=$((first + 5))
openssl genrsa -out "$work/sa.key" 2048 2>/dev/null
echo 'only-here,admin,1,system:masters' >"$work/tokens"
cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: only-here}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
YAML
export KUBECONFIG=$work/kubeconfig

say "An API server, a controller manager, a scheduler and three fake nodes"
start etcd etcd --data-dir "$work/etcd" --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$etcd" \
  --advertise-client-urls "http://127.0.0.1:$etcd" --listen-peer-urls "http://127.0.0.1:$peer" \
  --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer"
start apiserver "$tools/kube-apiserver" --etcd-servers="http://127.0.0.1:$etcd" --secure-port="$api" \
  --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --cert-dir="$work/certs" --token-auth-file="$work/tokens" \
  --authorization-mode=RBAC --service-account-issuer=https://local --service-account-key-file="$work/sa.key" \
  --service-account-signing-key-file="$work/sa.key" --service-cluster-ip-range=10.0.0.0/24 --endpoint-reconciler-type=none
until_ok "the API server" 120 kubectl get --raw /readyz
start manager "$tools/kube-controller-manager" --kubeconfig="$KUBECONFIG" --leader-elect=false --bind-address=127.0.0.1 \
  --secure-port="$manager" --service-account-private-key-file="$work/sa.key" --controllers='*,-nodeipam,-nodelifecycle'
start scheduler "$tools/kube-scheduler" --kubeconfig="$KUBECONFIG" --leader-elect=false --bind-address=127.0.0.1 --secure-port="$scheduler"
start kwok "$tools/kwok" --kubeconfig="$KUBECONFIG" --manage-all-nodes=true --config="$tools/stages.yaml" --server-address="127.0.0.1:$fake"
for zone in a b c; do
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Node
metadata:
  name: node-$zone
  labels: {topology.kubernetes.io/zone: zone-$zone, kubernetes.io/hostname: node-$zone}
status:
  allocatable: {cpu: "16", memory: 64Gi, pods: "110"}
  capacity: {cpu: "16", memory: 64Gi, pods: "110"}
YAML
done
# Nothing manages the life of nodes here.
untainted() {
  kubectl taint nodes --all node.kubernetes.io/not-ready- || true
  [ "$(kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}:{.spec.taints}{"\n"}{end}')" = "$(printf 'node-%s:\n' a b c)" ]
}
until_ok "nodes" 90 untainted

namespace=odradek
kubectl create namespace "$namespace" >/dev/null
for mode in enforce warn; do
  kubectl label namespace "$namespace" "pod-security.kubernetes.io/$mode=restricted" >/dev/null
done
account() { kubectl get serviceaccount default -n "$namespace"; }
until_ok "the namespace" 60 account
# The standard is enforced: a pod that may become root is refused.
if kubectl run root --image=x -n "$namespace" --dry-run=server >"$work/refused.log" 2>&1; then
  die "the namespace takes a pod that is not restricted"
fi
grep -q 'violates PodSecurity' "$work/refused.log" || die "refused, but not by PodSecurity: $(cat "$work/refused.log")"

cat >"$work/values.yaml" <<'YAML'
zones: [{name: zone-a}, {name: zone-b}, {name: zone-c, replicas: 1}]
config:
  kafka: {bootstrapServers: ["kafka:9092"]}
  store: s3://bucket/odradek
  coordinator: redis://redis:6379/0
networkPolicy: {enabled: true}
YAML
release() { "$helm" "$@" --namespace "$namespace" --kubeconfig "$KUBECONFIG" --timeout 180s; }
placed() { kubectl get pods -n "$namespace" -l app.kubernetes.io/name=odradek --field-selector=status.phase=Running \
  -o go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{index .metadata.labels "odradek/zone"}} {{.spec.nodeName}}{{"\n"}}{{end}}{{end}}' | sort | uniq -c | tr -s ' '; }
count() { kubectl get "$1" -n "$namespace" -o name | wc -l; }

say "Install"
release install odradek helm/odradek -f "$work/values.yaml" --wait >"$work/install.log" 2>&1 || die "it was not installed: $(cat "$work/install.log")"
! grep -qi 'warning\|PodSecurity' "$work/install.log" || die "the API server warned: $(cat "$work/install.log")"
expected=" 2 zone-a node-a
 2 zone-b node-b
 1 zone-c node-c"
[ "$(placed)" = "$expected" ] || die "pods are not in their zones: $(placed)"
for kind in deployments poddisruptionbudgets networkpolicies; do
  [ "$(count $kind)" = 3 ] || die "$(count $kind) $kind, and not one for each zone"
done
# One for all zones beside those of the zones.
[ "$(count services)" = 4 ] || die "$(count services) services"
note "five pods, each in its zone"

say "Rights"
user=system:serviceaccount:$namespace:odradek
# may ANSWER WORDS…
may() {
  local answer=$1
  shift
  [ "$(kubectl auth can-i "$@" --as "$user" -n "$namespace" 2>/dev/null || true)" = "$answer" ] || die "may the replicas' account $*? Not $answer"
}
nothing_else() {
  local verb kind
  for verb in list create update delete; do
    for kind in nodes pods secrets configmaps deployments; do may no "$verb" "$kind"; done
  done
  for kind in pods secrets configmaps; do may no get "$kind"; done
}
may no get nodes
nothing_else
[ "$(kubectl get serviceaccount odradek -n "$namespace" -o jsonpath='{.automountServiceAccountToken}')" = false ] || die "pods are given a token"
kubectl get pods -n "$namespace" -o yaml | grep -q 'serviceaccount/token\|kube-api-access' && die "a token is mounted"
release upgrade odradek helm/odradek -f "$work/values.yaml" --set zoneSource=node,zoneLookup.image=kubectl >"$work/upgrade.log" 2>&1 || die "$(cat "$work/upgrade.log")"
may yes get nodes
nothing_else
note "the replicas' account may do nothing, and has no token; with zoneSource node it may get nodes and no more"

say "Upgrade, rollback, removal"
release upgrade odradek helm/odradek -f "$work/values.yaml" --set 'zones[2].replicas=3,config.flush.interval=1s,autoscaling.enabled=false' --wait >"$work/upgrade.log" 2>&1 ||
  die "it was not upgraded: $(cat "$work/upgrade.log")"
grown() { [ "$(placed)" = "${expected/1 zone-c/3 zone-c}" ]; }
until_ok "three pods in zone-c" 180 grown
release upgrade odradek helm/odradek -f "$work/values.yaml" --set autoscaling.enabled=true --wait >"$work/upgrade.log" 2>&1 || die "$(cat "$work/upgrade.log")"
[ "$(count horizontalpodautoscalers)" = 3 ] || die "no autoscaler for each zone"
release rollback odradek 1 --wait >"$work/rollback.log" 2>&1 || die "it was not rolled back: $(cat "$work/rollback.log")"
back() { [ "$(placed)" = "$expected" ] && [ "$(count horizontalpodautoscalers)" = 0 ]; }
until_ok "the first state" 180 back
release uninstall odradek --wait >"$work/uninstall.log" 2>&1 || die "$(cat "$work/uninstall.log")"
gone() {
  local kind
  for kind in deployments services poddisruptionbudgets networkpolicies pods; do
    [ "$(count $kind)" = 0 ] || return 1
  done
  [ "$(kubectl get clusterroles,clusterrolebindings -o name | grep -c odradek)" = 0 ] || return 1
  [ "$(kubectl get configmaps -n "$namespace" -o name | grep -vc kube-root-ca)" = 0 ]
}
# Nothing ends these processes, so that each pod lasts for its whole grace period.
until_ok "nothing is left" 180 gone
kubectl apply --namespace "$namespace" -f deploy/manifests/odradek.yaml --dry-run=server >"$work/manifests.log" 2>&1 || die "the manifests are refused: $(cat "$work/manifests.log")"
! grep -qi warning "$work/manifests.log" || die "the manifests are warned of: $(cat "$work/manifests.log")"
note "nothing is left; the plain manifests would be taken too"
