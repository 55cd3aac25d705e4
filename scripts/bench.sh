#!/usr/bin/env bash
# Produce throughput and ack latency of stock producers with default settings, in one run:
# classic straight at the broker, classic through Odradek, diskless through Odradek.
#   BENCH_SECONDS=10           of full speed for each cell, and half of it at 1,000 records a second
#   BENCH_BACKEND=embedded     in-process coordinator, objects in a directory; or redis-s3
#   BENCH_CLIENTS="java librdkafka franz-go"
#   ODRADEK_BIN=…              this binary instead of a release build
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/bench-common.sh
. "$root/scripts/bench-common.sh"

seconds=${BENCH_SECONDS:-10}
backend=${BENCH_BACKEND:-embedded}
clients=${BENCH_CLIENTS:-java librdkafka franz-go}
partitions=6

main() {
  case $backend in embedded | redis-s3) ;; *) die "BENCH_BACKEND is '$backend'; known: embedded, redis-s3" ;; esac
  "$root/scripts/setup.sh" kafka bench
  [ "$backend" = embedded ] || "$root/scripts/setup.sh" redis minio
  build_odradek --bin odradek
  begin

  say "Kafka $kafka_version, one broker; Odradek, one replica on $backend"
  "$root/scripts/kafka.sh" prepare "$dir/kafka" 1
  background "$root/scripts/kafka.sh" run "$dir/kafka" 1
  kafka_pid=$!
  "$root/scripts/kafka.sh" wait "$dir/kafka"
  kafka=$("$root/scripts/kafka.sh" bootstrap "$dir/kafka")
  "backend_${backend/-/_}"
  start_replica "$dir" "$kafka" "$("$root/scripts/free-ports.sh" 20)" "$yaml"
  make_topic "$kafka" bench-direct "$partitions"
  make_topic "$proxy" bench-classic "$partitions"
  make_topic "$proxy" bench-diskless "$partitions"

  printf '\n%-11s %-16s %9s %7s %8s %8s %11s %11s %6s\n' producer path MB/s ratio \
    'p50 ms' 'p99 ms' 'p50 @1k/s' 'p99 @1k/s' errors
  for client in $clients; do
    direct=''
    cell "$client" "classic direct" "$kafka" bench-direct
    cell "$client" "classic through" "$proxy" bench-classic
    cell "$client" diskless "$proxy" bench-diskless
  done
  printf '\n%s s a cell, 1 KiB records, %s partitions, default settings, backend %s, %s CPUs, load %s\n' \
    "$seconds" "$partitions" "$backend" "$(nproc)" "$(cut -d ' ' -f 1 /proc/loadavg)"
  ((failed == 0)) || die "$failed cells have no figures"
}

backend_embedded() {
  mkdir -p "$dir/store"
  yaml="cluster: bench
diskless: {topics: [{match: bench-diskless}]}
store: \"file://$dir/store\"
coordinator: embedded"
}

backend_redis_s3() {
  local redis_port minio_port
  redis_port=$("$root/scripts/free-ports.sh" 2)
  minio_port=$((redis_port + 1))
  mkdir -p "$dir/minio/odradek"
  printf SECRETTEST >"$dir/secret"
  start_redis "$redis_port"
  background env MINIO_ROOT_USER=AKIDTEST MINIO_ROOT_PASSWORD=SECRETTEST MINIO_BROWSER=off MINIO_UPDATE=off \
    "$cache/bin/minio" server --quiet --address "127.0.0.1:$minio_port" "$dir/minio" >"$dir/minio.log" 2>&1
  children+=($!)
  await_answer "$minio_port" minio.log 'GET /minio/health/live HTTP/1.1\r\nHost: minio\r\n\r\n' ' 200 '
  yaml="cluster: bench
diskless: {topics: [{match: bench-diskless}]}
store: s3://odradek/bench
s3:
  endpoint: \"http://127.0.0.1:$minio_port\"
  region: us-east-1
  pathStyle: true
  accessKeyId: AKIDTEST
  secretAccessKeyFile: $dir/secret
coordinator: redis://127.0.0.1:$redis_port/0"
}

# cell CLIENT PATH BOOTSTRAP TOPIC: one line of the table. A producer prints
# MB/s, p50, p99, paced p50, paced p99, errors.
cell() {
  local program figures
  producer "$1"
  # What the cell before left to the disk must not be paid for by this one.
  sync -f "$dir"
  if ! figures=$(timeout $((seconds * 2 + 60)) "${program[@]}" "$3" "$4" "$seconds" 2>"$dir/cell.log"); then
    printf '%-11s %-16s failed: %s\n' "$1" "$2" "$(tail -n 1 "$dir/cell.log")"
    failed=$((failed + 1))
    return
  fi
  read -ra figures <<<"$figures"
  direct=${direct:-${figures[0]}}
  printf '%-11s %-16s %9s %7s %8s %8s %11s %11s %6s\n' "$1" "$2" "${figures[0]}" \
    "$(awk -v a="${figures[0]}" -v b="$direct" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }')" \
    "${figures[@]:1}"
}

main
