#!/usr/bin/env bash
# Builds the control plane of Kubernetes and kwok for `make test-kube`, once: ten minutes on two
# idle cores. Nothing publishes kube-apiserver as a package that needs no container.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

kubernetes_version=1.37.2
kwok_version=0.8.0
tools=$cache/tools/kube
stamp=$tools/kubernetes-$kubernetes_version-kwok-$kwok_version
mkdir -p "$tools" "$cache/log"
# A lock of its own: setup.sh must not wait for this build.
exec 8>"$tools/lock"
flock -n 8 || { note "waiting for another build of Kubernetes to end"; flock 8; }
[ -e "$stamp" ] && exit 0
command -v go >/dev/null || die "Go is missing; run: scripts/setup.sh chart"

# Kubernetes' own go.mod replaces its staging modules by folders; a build from outside names
# the published ones, whose minor version is Kubernetes' own.
module() {
  local source
  source=$(go mod download -json "k8s.io/kubernetes@v$kubernetes_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  printf 'module odradek.invalid/kube\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$kubernetes_version"
  sed -n 's|^\t\(k8s.io/[a-z0-9-]*\) => ./staging/.*|\1|p' "$source/go.mod" | while read -r name; do
    printf '\t%s => %s v0.%s\n' "$name" "$name" "${kubernetes_version#*.}"
  done
  printf ')\n'
}

# Without these flags the server reports v0.0.0, which Helm's `kubeVersion` rejects.
build_kubernetes() {
  local version=k8s.io/component-base/version program
  for program in kube-apiserver kube-controller-manager kube-scheduler; do
    go get "k8s.io/kubernetes/cmd/$program/app@v$kubernetes_version"
    go build -mod=mod -trimpath -o "$tools/$program" -ldflags "-s -w \
      -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=37 \
      -X $version.gitTreeState=clean" "k8s.io/kubernetes/cmd/$program"
  done
}

# The stages are kwok's idea of what a kubelet does; without them it does nothing. Those of
# `pod/fast` make a pod Ready, and let it go, at once.
build_kwok() {
  local source
  GOBIN=$tools go install "sigs.k8s.io/kwok/cmd/kwok@v$kwok_version"
  source=$(go mod download -json "sigs.k8s.io/kwok@v$kwok_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/kustomize/stage
  for file in "$source"/node/fast/node-initialize.yaml "$source"/node/heartbeat/node-heartbeat.yaml \
    "$source"/pod/fast/[!k]*.yaml; do
    cat "$file"
    printf -- '\n---\n'
  done >"$tools/stages.yaml"
}

build() {
  set -e
  mkdir -p "$tools/module"
  cd "$tools/module"
  # Aside at first: `go mod download` reads the go.mod of the folder where it runs.
  rm -f go.mod go.sum
  module >new
  mv new go.mod
  build_kubernetes
  build_kwok
}

say "Kubernetes $kubernetes_version (API server, controller manager, scheduler) and kwok $kwok_version: building them from source (ten minutes or more, once)"
export -f module build_kubernetes build_kwok build
export kubernetes_version kwok_version tools
with_progress "$cache/log/kube-build.log" "Kubernetes" nice -n 19 bash -c build
touch "$stamp"
