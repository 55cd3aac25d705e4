#!/usr/bin/env bash
# What reading a diskless topic costs and how late its readers are, on a store of known latency, and
# a classic topic and a stock broker beside it, all in one run: two replicas in each of two zones on
# Redis and slow-s3, one Kafka broker, stock clients with default settings, 1 KiB records.
#   BENCH_SECONDS=15           what is measured in each row, once every consumer gets records
#   BENCH_MIB=1024             how much history is replayed
#   BENCH_ONLY="latency fanout catchup backfill"
#   ODRADEK_BIN=… SLOW_S3_BIN=…   these binaries instead of a release build
#
# Everything that a row sets in relation was measured in one process over the same window, with one
# clock. `ack` runs from the call of the producer's send to its callback, `e2e` from the same call
# until a consumer has the record, `after ack` from the callback until then, for each record and
# consumer by itself; it is negative where the consumer was faster. `errors` are records that were not
# acked, were not seen by a consumer or were seen twice. GETs are slow-s3's own count, objects what
# the writing replica says that it wrote. CPU is user and system time of the replica, or the broker,
# alone; `box` is how busy all cores of the machine were: near 100 % the row says how fast the machine
# is. An `aim` is what we want to reach and is not asserted.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/bench-common.sh
. "$root/scripts/bench-common.sh"

seconds=${BENCH_SECONDS:-15}
mib=${BENCH_MIB:-1024}
only=${BENCH_ONLY:-latency fanout catchup backfill}

# The replicas by name: zone-1 writes. Where clients start, and what is asked of them.
declare -A zone_of=([a1]=zone-1 [a2]=zone-1 [b1]=zone-2 [b2]=zone-2)
declare -A proxy_of pid_of admin_of
# Of the topics with history: how many records and objects.
declare -A records_of objects_of

main() {
  local block
  check_blocks latency fanout catchup backfill
  "$root/scripts/setup.sh" kafka redis bench
  begin
  build
  start_everything
  for block in $only; do "block_$block"; done
  closing "slow-s3, Redis, the broker and the clients"
}

start_everything() {
  say "Kafka $kafka_version, one broker; Odradek on Redis and slow-s3"
  start_kafka log.segment.bytes=268435456
  first_port=$("$root/scripts/free-ports.sh" 86)
  start_redis "$first_port"
  start_slow_s3 $((first_port + 1))
  store_takes $slow_put $slow_get
}

# replicas_are NAME…: these run and no others.
replicas_are() {
  local name
  for name in "${!pid_of[@]}"; do
    [[ " $* " == *" $name "* ]] || replica_down "$name"
  done
  for name in "$@"; do
    [ -n "${pid_of[$name]:-}" ] || replica_up "$name"
  done
}

replica_down() {
  kill "${pid_of[$1]}"
  wait "${pid_of[$1]}" 2>/dev/null || true
  unset "pid_of[$1]"
}

# A replica's ports are always the same, so that it is the same one when it comes back.
replica_up() {
  local port=$((first_port + 2))
  case $1 in a2) port=$((port + 21)) ;; b1) port=$((port + 42)) ;; b2) port=$((port + 63)) ;; esac
  mkdir -p "$dir/$1"
  start_replica "$dir/$1" "$kafka" "$port" "cluster: bench
diskless: {topics: [{match: diskless-*, profile: fast}]}
$s3_yaml
coordinator: redis://127.0.0.1:$first_port/0
peers: {bind: \"127.0.0.1:$((port + 20))\"}" "${zone_of[$1]}" "odradek-$1"
  pid_of[$1]=$replica proxy_of[$1]=$proxy admin_of[$1]=127.0.0.1:$((port + 1))
}

# cold NAME: it has nothing in memory, and nobody else of its zone is there to ask.
cold() {
  replicas_are
  replicas_are "$1"
}

# topic BOOTSTRAP NAME PARTITIONS: makes it, unless an earlier block did.
topic() {
  [[ " ${topics:-} " == *" $2 "* ]] || make_topic "$1" "$2" "$3"
  topics="${topics:-} $2"
}

# tail_row CONSUMERS PARAMETER…: franz-go's part of that name, which counts objects and GETs besides.
tail_row() {
  local consumers=$1
  shift
  run $((seconds + 90)) "$cache/bench/franz-go" tail -seconds "$seconds" -consumers "$consumers" \
    -s3 "127.0.0.1:$s3_port" -admin "${admin_of[a1]}" "$@"
}

block_latency() {
  local clients
  replicas_are a1 a2 b1 b2
  topic "${proxy_of[a1]}" diskless-tail 1
  topic "$kafka" classic-tail 1
  printf '\n'
  say "End to end: 100 records/s, one partition, store PUT $slow_put and GET $slow_get ms, profile fast"
  printf '%-13s %-13s %8s %8s %8s %8s %10s %10s %6s %6s   aim\n' consumers at 'ack p50' 'ack p99' \
    'e2e p50' 'e2e p99' 'after p50' 'after p99' box errors
  for clients in '1 franz-go' '1 java' '1 librdkafka'; do
    latency_rows "$clients" diskless-tail "${proxy_of[a1]}" "writer=${proxy_of[a1]}" \
      "neighbour=${proxy_of[a2]}" "other-zone=${proxy_of[b1]}"
    latency_rows "$clients" classic-tail "$kafka" "direct=$kafka"
  done
  # Apart: 48 consumers would wait for the processor.
  for path in "writer=${proxy_of[a1]}" "neighbour=${proxy_of[a2]}" "other-zone=${proxy_of[b1]}"; do
    latency_rows '16 franz-go' diskless-tail "${proxy_of[a1]}" "$path"
  done
  latency_rows '16 franz-go' classic-tail "$kafka" "direct=$kafka"
  note "at: the writing replica, another one of its zone, one of another zone, the broker without us"
}

# latency_rows 'NUMBER CLIENT' TOPIC PRODUCER_AT PATH=CONSUMERS_AT…: rows of one run.
latency_rows() {
  local what=$1 topic=$2 bootstrap=$3 line aim
  shift 3
  case ${what#* } in
    franz-go)
      tail_row "${what% *}" "$bootstrap" "$topic" "$@" || return 0
      ;;
    java)
      run $((seconds + 90)) "${java[@]}" TailBench "$bootstrap" "$topic" "$seconds" 100 "$@" || return 0
      ;;
    librdkafka)
      run $((seconds + 90)) "$cache/bench/python/bin/python" "$root/bench/clients/librdkafka_tail.py" \
        "$bootstrap" "$topic" "$seconds" 100 "$@" || return 0
      ;;
  esac
  for line in "${lines[@]}"; do
    take "$line"
    case ${got[path]} in
      writer | neighbour) aim='after p99 <= 10 ms' ;;
      other-zone) aim='after p50 <= 30, p99 <= 100 ms: one GET' ;;
      *) aim='' ;;
    esac
    printf '%-13s %-13s %8s %8s %8s %8s %10s %10s %6s %6s   %s\n' "$what" "${got[path]}" "${got[ack_p50]}" \
      "${got[ack_p99]}" "${got[e2e_p50]}" "${got[e2e_p99]}" "${got[after_p50]}" "${got[after_p99]}" \
      "${got[box]:+${got[box]}%}" "${got[errors]}" "$aim"
  done
}

block_fanout() {
  local zone consumers aim
  replicas_are a1 a2 b1 b2
  topic "${proxy_of[a1]}" diskless-tail 1
  printf '\n'
  say "GETs per object: consumers of the tail, each in its own group, over both replicas of one zone"
  printf '%-10s %-13s %8s %6s %10s %8s %8s %10s %10s %6s %6s   aim\n' consumers zone objects GETs GETs/object \
    'e2e p50' 'e2e p99' 'after p50' 'after p99' box errors
  for zone in 'writing a1 a2' 'other b1 b2'; do
    for consumers in 1 5 20; do
      # shellcheck disable=SC2086 # three words
      fanout_row $consumers $zone
    done
  done
}

# fanout_row CONSUMERS ZONE REPLICA REPLICA
fanout_row() {
  local aim='1.00'
  [ "$2" = other ] || aim='0.00'
  # One consumer reads at the replica that did not write.
  tail_row "$1" "${proxy_of[a1]}" diskless-tail "$2=${proxy_of[$4]}+${proxy_of[$3]}" || return 0
  printf '%-10s %-13s %8s %6s %11s %8s %8s %10s %10s %5s%% %6s   %s\n' "$1" "$2" "${got[objects]}" "${got[gets]}" \
    "${got[gets_per_object]}" "${got[e2e_p50]}" "${got[e2e_p99]}" "${got[after_p50]}" "${got[after_p99]}" \
    "${got[box]}" "${got[errors]}" "$aim"
}

# history KIND PARTITIONS: writes a topic full through the only replica, unless that was done.
history() {
  local name=$1-history-$2
  [ -z "${records_of[$name]:-}" ] || return 0
  topic "${proxy_of[a1]}" "$name" "$2"
  run 180 "$cache/bench/franz-go" fill -mib "$mib" -admin "${admin_of[a1]}" "${proxy_of[a1]}" "$name" || return 1
  records_of[$name]=${got[records]} objects_of[$name]=${got[objects]}
  [ "$1" = classic ] || note "$name: ${got[records]} records in ${got[objects]} objects of ${got[object_kib]} KiB, ${got[seconds]} s to write"
}

block_catchup() {
  local partitions
  printf '\n'
  say "Catch-up: one franz-go consumer reads $mib MiB from the beginning; replicas are cold, the broker's pages are not"
  replicas_are a1
  for partitions in 1 12; do
    history diskless $partitions || return 0
    history classic $partitions || return 0
  done
  # The broker's JVM compiles what it runs while it is first under load.
  run 90 "$cache/bench/franz-go" replay -records "${records_of[classic-history-12]}" "$kafka" classic-history-12 || true
  printf '%-11s %-17s %8s %7s %9s %12s %14s %6s %10s %8s %6s   aim\n' partitions path seconds MB/s \
    '÷ classic' 'CPU s/GiB' 'broker s/GiB' GETs GETs/object KiB/GET box
  for partitions in 1 12; do
    classic=''
    catchup_row $partitions classic-through
    catchup_row $partitions diskless '÷ classic >= 1'
    catchup_row $partitions classic-direct
  done
}

# catchup_row PARTITIONS PATH [AIM]
catchup_row() {
  local name bootstrap
  cold a1
  case $2 in
    diskless) name=diskless-history-$1 bootstrap=${proxy_of[a1]} ;;
    classic-through) name=classic-history-$1 bootstrap=${proxy_of[a1]} ;;
    classic-direct) name=classic-history-$1 bootstrap=$kafka ;;
  esac
  printf '%-11s %-17s' "$1" "$2"
  run 90 "$cache/bench/franz-go" replay -records "${records_of[$name]}" -objects "${objects_of[$name]}" \
    -pid "${pid_of[a1]}" -broker-pid "$kafka_pid" -s3 "127.0.0.1:$s3_port" "$bootstrap" "$name" || return 0
  [ "$2" = diskless ] || got[gets]=- got[gets_per_object]=- got[get_kib]=-
  [ "$2" != classic-direct ] || got[cpu_per_gib]=-
  classic=${classic:-${got[mbs]}}
  printf ' %8s %7s %8s %12s %14s %6s %11s %8s %5s%%   %s\n' "${got[seconds]}" "${got[mbs]}" \
    "$(awk -v a="${got[mbs]}" -v b="$classic" 'BEGIN { printf "%.2f", a / b }')" "${got[cpu_per_gib]}" \
    "${got[broker_cpu_per_gib]}" "${got[gets]}" "${got[gets_per_object]}" "${got[get_kib]}" "${got[box]}" "${3:-}"
}

block_backfill() {
  local name=diskless-history-12 line part
  printf '\n'
  say "Backfill: five groups (their processes at the lowest priority) read $mib MiB each at once, beside 100 records/s and a reader of the tail on the same cold replica"
  replicas_are a1
  history diskless 12 || return 0
  cold a1
  topic "${proxy_of[a1]}" diskless-tail 1
  if ! run 240 "$cache/bench/franz-go" backfill -seconds "$seconds" -records "${records_of[$name]}" \
    -objects "${objects_of[$name]}" -pid "${pid_of[a1]}" -s3 "127.0.0.1:$s3_port" \
    "${proxy_of[a1]}" diskless-tail "$name"; then return 0; fi
  printf '%-10s %8s %8s %8s %8s %8s %7s %10s %10s %6s %6s   aim\n' part 'ack p50' 'ack p99' 'e2e p50' 'e2e p99' \
    seconds MB/s GETs/object 'CPU s/GiB' box errors
  for part in before during after; do
    line=${lines[0]:-}
    lines=("${lines[@]:1}")
    take "$line"
    printf '%-10s %8s %8s %8s %8s %8s %7s %11s %10s %6s %6s   %s\n' "$part" "${got[ack_p50]}" "${got[ack_p99]}" \
      "${got[e2e_p50]}" "${got[e2e_p99]}" "${got[seconds]:--}" "${got[mbs]:--}" "${got[gets_per_object]:--}" \
      "${got[cpu_per_gib]:--}" "${got[box]:+${got[box]}%}" "${got[errors]}" \
      "$([ $part != during ] || echo 'ack p99 < 1.2 x before, GETs/object 1')"
  done
}

main
