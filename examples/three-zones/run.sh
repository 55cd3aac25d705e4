#!/usr/bin/env bash
# Three zones on one machine: kill a zone by a key while a producer and a consumer run. `make demo-zones`.
#   ZONES_DEMO=once  kills and starts two zones by itself and ends, non-zero when a record was lost
#   DEMO_DIR=…       where everything lies (.demo-zones); each run begins afresh
#   ODRADEK_BIN=…    this binary instead of a release build
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
# shellcheck source=scripts/replica.sh
. "$root/scripts/replica.sh"
# shellcheck source=scripts/backends.sh
. "$root/scripts/backends.sh"

dir=${DEMO_DIR:-$root/.demo-zones}
zones=(a b c)
# What a replica listens on: 20 ports of its clients and of its administration, one of its peers.
ports_each=21
declare -A replica_of

main() {
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  exec 7>"$dir/lock"
  flock -n 7 || die "a demo runs in $dir already; end it, or set DEMO_DIR"
  trap 'clean_up' EXIT
  trap 'exit 130' INT TERM
  rm -rf "${dir:?}"/{kafka,minio,zone-*,*.log,status}

  "$root/scripts/setup.sh" kafka redis minio bench
  build_odradek --bin odradek
  start_backends
  local zone
  for zone in "${zones[@]}"; do zone_up "$zone"; done
  make_topic "${bootstrap%%,*}" clicks 6
  start_clients
  if [ "${ZONES_DEMO:-}" = once ]; then by_itself; else by_key; fi
  finish
}

start_backends() {
  say "Kafka $kafka_version (one broker), Redis, MinIO"
  "$root/scripts/kafka.sh" prepare "$dir/kafka" 1
  background "$root/scripts/kafka.sh" run "$dir/kafka" 1
  first_port=$("$root/scripts/free-ports.sh" $((2 + ports_each * ${#zones[@]})))
  start_redis "$first_port"
  start_minio $((first_port + 1))
  "$root/scripts/kafka.sh" wait "$dir/kafka"
  kafka=$("$root/scripts/kafka.sh" bootstrap "$dir/kafka")
  local n
  for n in "${!zones[@]}"; do bootstrap=${bootstrap:+$bootstrap,}127.0.0.1:$((first_port + 2 + n * ports_each)); done
}

start_minio() {
  mkdir -p "$dir/minio/odradek"
  printf 'demo-secret' >"$dir/secret"
  background env MINIO_ROOT_USER=demo MINIO_ROOT_PASSWORD=demo-secret MINIO_BROWSER=off MINIO_UPDATE=off \
    MINIO_CALLHOME_ENABLE=off "$cache/bin/minio" server --quiet --address "127.0.0.1:$1" "$dir/minio" \
    >"$dir/minio.log" 2>&1
  children+=($!)
  await_answer "$1" minio.log 'GET /minio/health/live HTTP/1.1\r\nHost: minio\r\n\r\n' ' 200 '
}

# zone_up ZONE: one replica, always at the same ports. The cheap embedded things of `make demo` are
# for one replica; several share Redis and a bucket, and answer each other's reads as `peers`.
zone_up() {
  local n=0
  while [ "${zones[n]}" != "$1" ]; do n=$((n + 1)); done
  local port=$((first_port + 2 + n * ports_each))
  mkdir -p "$dir/zone-$1"
  start_replica "$dir/zone-$1" "$kafka" "$port" "cluster: three-zones
diskless: {topics: [{match: clicks}]}
store: s3://odradek/three-zones
s3:
  endpoint: http://127.0.0.1:$((first_port + 1))
  region: us-east-1
  accessKeyId: demo
  secretAccessKeyFile: $dir/secret
coordinator: redis://127.0.0.1:$first_port/0
peers: {bind: \"127.0.0.1:$((port + ports_each - 1))\"}" "zone-$1" "odradek-$1"
  replica_of[$1]=$replica
  say "zone-$1 is up at $proxy; its configuration is $dir/zone-$1/odradek.yaml"
}

zone_down() {
  kill -9 "${replica_of[$1]}"
  wait "${replica_of[$1]}" 2>/dev/null || true
  unset "replica_of[$1]"
  say "zone-$1 is dead (kill -9)"
}

start_clients() {
  say "A producer in zone-a (100 records/s, idempotent) and a consumer group in zone-b, stock librdkafka"
  echo 0 0 >"$dir/status"
  background "$cache/bench/python/bin/python" "$root/examples/three-zones/clients.py" "$bootstrap" "$dir/status" \
    > >(sed -u 's/^/   /') 2>&1
  clients=$!
}

by_key() {
  cat <<T
${bold}Press a, b or c to kill that zone, once more to start it again; q to end and to check.${plain}
   To look around: kcat -b ${bootstrap%%,*} -L; redis-cli -p $first_port; objects are in $dir/minio/odradek
T
  local key
  while kill -0 "$clients" 2>/dev/null; do
    key=''
    read -rsn1 -t 1 key || { [ $? -gt 128 ] || return 0; }
    case $key in
      q) return 0 ;;
      a | b | c) if [ -n "${replica_of[$key]:-}" ]; then zone_down "$key"; else zone_up "$key"; fi ;;
    esac
  done
}

by_itself() {
  local zone
  moves 100
  for zone in a b; do
    zone_down "$zone"
    # More than were on their way when it died: others took over for whoever lost their leaders.
    moves 1000
    zone_up "$zone"
    moves 300
  done
}

# moves RECORDS: waits until so many more were acknowledged, and so many more received.
moves() {
  local acked received goal_acked goal_received
  read -r acked received <"$dir/status" || acked=0 received=0
  goal_acked=$((acked + $1)) goal_received=$((received + $1))
  for ((n = 0; n < 600; n++)); do
    sleep 0.2
    read -r acked received <"$dir/status" || continue
    if ((acked >= goal_acked && received >= goal_received)); then return 0; fi
    kill -0 "$clients" 2>/dev/null || break
  done
  die "the clients got stuck at $acked records acknowledged and $received received; logs are in $dir"
}

# The producer stops, the consumer reads to the end, and both books are compared.
finish() {
  say "Ending: reading what is left, then comparing"
  kill "$clients" 2>/dev/null || true
  wait "$clients" || die "records are missing or came twice; the logs are in $dir"
  clients=''
}

clean_up() {
  local status=$? child
  trap '' INT TERM
  [ -z "$clients" ] || kill -9 "$clients" 2>/dev/null || true
  stop_replicas
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  [ ! -d "$dir/kafka" ] || "$root/scripts/kafka.sh" stop "$dir/kafka"
  [ $status != 130 ] || status=0
  exit $status
}

clients='' bootstrap=''
main
