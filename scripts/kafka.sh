#!/usr/bin/env bash
# Runs an Apache Kafka cluster (KRaft) on free loopback ports; DIR contains its data, logs and settings.
#   kafka.sh start DIR N [PROPERTY=VALUE …]   brokers 1..N with racks zone-1..zone-N, up when it returns
#   kafka.sh stop DIR                         stops them; a later start of DIR resumes the same cluster
#   kafka.sh bootstrap DIR                    prints host:port,host:port,…
# In steps, for callers that run the brokers as their own children:
#   kafka.sh prepare DIR N [PROPERTY=VALUE …] · kafka.sh run DIR ID (becomes the broker) · kafka.sh wait DIR
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

verb=${1:?start, stop, bootstrap, prepare, run or wait}
mkdir -p "${2:?a directory}"
dir=$(cd "$2" && pwd)
shift 2

broker_ids() { seq 1 "$(($(wc -w <"$dir/ports") - 1))"; }
alive() { [ -s "$dir/broker-$1.pid" ] && kill -0 "$(cat "$dir/broker-$1.pid")" 2>/dev/null; }
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Keeps the ports of an earlier start when they are free, so that configurations of clients stay valid.
choose_ports() {
  local n=$1 first kept=() port free=yes
  [ ! -s "$dir/ports" ] || read -ra kept <"$dir/ports"
  for port in "${kept[@]}"; do
    if listening "$port"; then free=no; fi
  done
  [ "${#kept[@]}" != $((n + 1)) ] || [ $free != yes ] || return 0
  first=$("$root/scripts/free-ports.sh" $((n + 1)))
  seq -s ' ' "$first" $((first + n)) >"$dir/ports"
}

# write_properties ID PORT CONTROLLER_PORT EXTRA…; broker 1 is the controller as well.
write_properties() {
  local id=$1 port=$2 controller=$3 roles=broker listeners=PLAINTEXT://127.0.0.1:$2
  shift 3
  if [ "$id" = 1 ]; then
    roles=broker,controller
    listeners+=,CONTROLLER://127.0.0.1:$controller
  fi
  cat >"$dir/broker-$id.properties" <<P
process.roles=$roles
node.id=$id
broker.rack=zone-$id
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=$listeners
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data-$id
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
P
  printf '%s\n' "$@" >>"$dir/broker-$id.properties"
}

format() {
  [ -e "$dir/data-$1/meta.properties" ] && return
  local more
  read -ra more <<<"${KAFKA_FORMAT:-}" # more arguments, as --add-scram NAME=[…]
  java "${quick_jvm[@]}" -cp "$kafka_libs/*" kafka.tools.StorageTool format "${more[@]}" \
    -t "$(cat "$dir/cluster.id")" -c "$dir/broker-$1.properties" >"$dir/format-$1.log" 2>&1 ||
    die "could not format broker $1; see $dir/format-$1.log"
}

prepare() {
  local n=${1:?how many brokers} ports id formats=()
  shift
  [ -d "$kafka_libs" ] || die "Apache Kafka $kafka_version is missing; run: make setup"
  for id in $(seq 1 "$n"); do
    ! alive "$id" || die "broker $id of $dir is already running; stop it with: scripts/kafka.sh stop $dir"
    rm -f "$dir/broker-$id.pid" "$dir/broker-$id.log"
  done
  [ -s "$dir/cluster.id" ] || head -c 64 /dev/urandom | base64 -w0 | tr -d '+/=' | cut -c 1-21 | sed 's/$/A/' >"$dir/cluster.id"
  choose_ports "$n"
  read -ra ports <"$dir/ports"
  for id in $(seq 1 "$n"); do
    write_properties "$id" "${ports[id]}" "${ports[0]}" "$@"
    format "$id" &
    formats+=($!)
  done
  for id in "${formats[@]}"; do wait "$id"; done
}

# Becomes broker $1.
run() {
  echo $$ >"$dir/broker-$1.pid"
  # shellcheck disable=SC2086 # KAFKA_HEAP and KAFKA_JVM are lists of words
  exec java ${KAFKA_HEAP:--Xms64m -Xmx512m} ${KAFKA_JVM:-${quick_jvm[*]}} -Dorg.slf4j.simpleLogger.showDateTime=true \
    -cp "$kafka_libs/*" kafka.Kafka "$dir/broker-$1.properties" >"$dir/broker-$1.log" 2>&1 8>&- 9>&-
}

# A broker listens long before it serves; it logs this line when it serves.
wait_ready() {
  local id
  for id in $(broker_ids); do
    for ((n = 0; ; n++)); do
      grep -q 'Kafka Server started' "$dir/broker-$id.log" 2>/dev/null && break
      if ((n > 20)) && ! alive "$id" || ((n > 600)); then
        tail -n 20 "$dir/broker-$id.log" >&2 || true
        die "broker $id did not start; see $dir/broker-$id.log"
      fi
      sleep 0.2
    done
  done
}

# Broker 1 last: the others need the controller for a controlled shutdown.
stop() {
  local id pid
  for id in $(broker_ids | tac); do
    alive "$id" || continue
    pid=$(cat "$dir/broker-$id.pid")
    kill "$pid" 2>/dev/null || true
    for ((n = 0; n < 150; n++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$dir/broker-$id.pid"
  done
}

bootstrap() {
  local ports
  read -ra ports <"$dir/ports"
  printf '127.0.0.1:%s\n' "${ports[@]:1}" | paste -sd,
}

case $verb in
  prepare) prepare "$@" ;;
  run) run "$@" ;;
  wait) wait_ready ;;
  bootstrap) bootstrap ;;
  stop) [ ! -e "$dir/ports" ] || stop ;;
  start)
    prepare "$@"
    for id in $(broker_ids); do
      setsid "$0" run "$dir" "$id" </dev/null &
    done
    wait_ready
    say "Kafka $kafka_version is up: $(bootstrap)"
    ;;
  *) die "unknown verb '$verb'" ;;
esac
