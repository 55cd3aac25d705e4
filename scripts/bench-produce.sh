#!/usr/bin/env bash
# What a diskless produce costs and how long its ack takes on a store of known latency, and a stock
# broker beside it, all in one run: a replica on Redis and slow-s3, one Kafka broker, stock producers
# with default settings, records of 1 KiB that no compression makes smaller.
#   BENCH_SECONDS=20           what is measured in each row, after 3 s of warm-up
#   BENCH_ONLY="latency throughput pipelining"
#   ODRADEK_BIN=… SLOW_S3_BIN=…   these binaries instead of a release build
#
# Columns: an ack's time runs from the call of the client's produce until its callback, the client's
# own queue included: at full speed that is most of it, 50,000 records shared by all producers; `rtt`
# is the mean round trip of a Produce request. PUTs and their sizes are slow-s3's counters. CPU is user and system time of the
# replica (or broker) alone; `box` is how busy all cores of the machine were, so 100 % means that CPU
# was the limit. Everything in a row was read at the same two moments (bench/clients/load.go).
# An `aim` is what we want to reach and is not asserted.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/bench-common.sh
. "$root/scripts/bench-common.sh"

seconds=${BENCH_SECONDS:-20}
only=${BENCH_ONLY:-latency throughput pipelining}

main() {
  local block
  check_blocks latency throughput pipelining
  "$root/scripts/setup.sh" kafka redis bench
  begin
  build
  start_everything
  for block in $only; do "block_$block"; done
  closing "slow-s3, Redis and the producers"
}

start_everything() {
  local port
  say "Kafka $kafka_version, one broker; Odradek, one replica on Redis and slow-s3"
  # A log that does not fill the disk meanwhile.
  start_kafka log.segment.bytes=268435456 log.retention.bytes=268435456 \
    log.retention.check.interval.ms=5000 log.segment.delete.delay.ms=1000
  port=$("$root/scripts/free-ports.sh" 22)
  start_redis "$port"
  # Nothing is read here: what is kept need not be more than what a fetch of the newest would ask for.
  start_slow_s3 $((port + 1)) --keep-bytes 256MiB
  start_replica "$dir" "$kafka" "$((port + 2))" "cluster: bench
diskless: {topics: [{match: fast-*, profile: fast}, {match: cheap-*, profile: cheap}]}
$s3_yaml
coordinator: redis://127.0.0.1:$port/0"
}

# topic PATH NAME PARTITIONS: makes it unless an earlier block did; sets bootstrap, pid and meters of
# the path: `diskless` or `direct`.
topic() {
  case $1 in
    diskless) bootstrap=$proxy meters=(-pid "$replica" -s3 "127.0.0.1:$s3_port") ;;
    direct) bootstrap=$kafka meters=(-pid "$kafka_pid") ;;
  esac
  [[ " ${topics:-} " == *" $2 "* ]] || make_topic "$bootstrap" "$2" "$3"
  topics="${topics:-} $2"
}

# load PARAMETER… : franz-go producers on the topic of the last `topic`.
load() { run $((seconds + 60)) "$cache/bench/franz-go" load -seconds "$seconds" "${meters[@]}" "$@"; }

# cost PATH: PUTs and CPU; a broker has no PUTs.
cost() {
  if [ "$1" = direct ]; then got[puts_per_s]=- got[puts_per_gib]=- got[put_kib]=-; fi
  printf ' %7s %9s %9s %9s %6s%% %6s' "${got[puts_per_s]}" "${got[puts_per_gib]}" "${got[put_kib]}" \
    "${got[cpu_per_gib]}" "${got[box]}" "${got[errors]}"
}
cost_heading() { printf ' %7s %9s %9s %9s %7s %6s' PUT/s PUT/GiB KiB/PUT CPUs/GiB box errors; }

block_latency() {
  printf '\n'
  say "Ack latency: 100 records/s of all producers together, one partition, default settings"
  printf '%-9s %-9s %-13s %8s %8s %8s' store path producers 'p50 ms' 'p99 ms' 'p99.9 ms'
  cost_heading
  printf '   aim\n'
  local producers
  for producers in 1 16 64; do
    latency_row $slow_put $slow_get diskless fast $producers 'p50 <= 110, p99 <= 300'
    latency_row $slow_put $slow_get diskless cheap $producers 'p50 <= 200, p99 <= 450, <= 4 PUT/s'
    latency_row $fast_put $fast_get diskless fast $producers 'p50 <= 25, p99 <= 45'
    latency_row $fast_put $fast_get diskless cheap $producers ''
    latency_row - - direct direct $producers ''
  done
  for producers in java librdkafka; do
    client_row $slow_put $slow_get diskless fast $producers 'p50 <= 110, p99 <= 300'
    client_row $slow_put $slow_get diskless cheap $producers 'p50 <= 200, p99 <= 450'
    client_row - - direct direct $producers ''
  done
}

# latency_row PUT GET PATH PROFILE PRODUCERS AIM: of franz-go
latency_row() {
  topic "$3" "$4-1" 1
  [ "$3" = direct ] || store_takes "$1" "$2"
  printf '%-9s %-9s %-13s' "$1" "$4" "$5 franz-go"
  load -producers "$5" -rate 100 "$bootstrap" "$4-1" || return 0
  printf ' %8s %8s %8s' "${got[p50]}" "${got[p99]}" "${got[p999]}"
  cost "$3"
  printf '   %s\n' "$6"
}

# client_row PUT GET PATH PROFILE CLIENT AIM: of one other producer, its ack times alone
client_row() {
  local program
  topic "$3" "$4-1" 1
  [ "$3" = direct ] || store_takes "$1" "$2"
  producer "$5"
  printf '%-9s %-9s %-13s' "$1" "$4" "1 $5"
  run $((seconds + 60)) "${program[@]}" paced "$bootstrap" "$4-1" "$seconds" 100 || return 0
  printf ' %8s %8s %8s %58s   %s\n' "${got[p50]}" "${got[p99]}" "${got[p999]}" "${got[errors]}" "$6"
}

block_throughput() {
  printf '\n'
  say "Throughput: franz-go producers at full speed, store $slow_put ms, profile fast"
  printf '%-9s %-4s %-10s %8s %8s %8s %8s %8s' producers on path MB/s 'p50 ms' 'p99 ms' 'p99.9 ms' 'rtt ms'
  cost_heading
  printf '   aim\n'
  store_takes $slow_put $slow_get
  local shape path
  # The broker's JVM compiles what it runs while it is first under load.
  for path in diskless direct; do
    topic $path "$(topic_name $path 12)" 12
    run 60 "$cache/bench/franz-go" load -producers 4 -seconds 5 "${meters[@]}" "$bootstrap" "$(topic_name $path 12)" || true
  done
  for shape in '1 1' '1 12' '16 12' '64 12'; do
    for path in diskless direct; do
      # shellcheck disable=SC2086 # two words
      throughput_row $shape $path
    done
  done
}

# topic_name PATH PARTITIONS
topic_name() { if [ "$1" = direct ]; then echo "direct-$2"; else echo "fast-$2"; fi; }

# throughput_row PRODUCERS PARTITIONS PATH
throughput_row() {
  local name aim=''
  name=$(topic_name "$3" "$2")
  [ "$3" = direct ] || aim='>= 40 MB/s, <= 3 CPU s/GiB'
  topic "$3" "$name" "$2"
  printf '%-9s %-4s %-10s' "$1" "$2 p." "$3"
  load -producers "$1" "$bootstrap" "$name" || return 0
  printf ' %8s %8s %8s %8s %8s' "${got[mbs]}" "${got[p50]}" "${got[p99]}" "${got[p999]}" "${got[rtt_ms]}"
  cost "$3"
  printf '   %s\n' "$aim"
}

# How full a client's pipeline is. All factors are the client's own statistics of the same window:
#
#   bound = min(requests it may have in flight × bytes of a request, bytes its queue holds)
#           ÷ mean round trip of a request
#
# and ratio = bytes of requests that it sent a second ÷ bound.
#   Java        max.in.flight; outgoing-byte-total, request-total and request-latency-avg of the leader
#   librdkafka  max.in.flight; statistics of the leader: txbytes, req.Produce, rtt. By default it may
#               have 1,000,000 requests in flight, so that its queue (100,000 records) is the smaller
#               factor, and CPU ends it earlier: it is judged by its row on the stock broker. Made
#               idempotent it has one request in flight at a time, whatever it is told.
#   franz-go    5, fixed for idempotent producers; BrokerE2E hooks of Produce requests
#
# A full pipeline alone proves little: a server that takes requests one after the other fills it too,
# with round trips several times longer than a PUT. So `rtt/PUT`, the round trip in units of the
# store's mean PUT, stands beside it and has to stay small.
block_pipelining() {
  printf '\n'
  say "Pipelining: one default producer on one partition, store $slow_put ms, profile fast"
  printf '%-22s %-9s %9s %10s %13s %9s %8s %11s %6s   aim\n' producer path MB/s 'in flight' 'bytes/request' \
    'rtt ms' rtt/PUT 'bound MB/s' ratio
  store_takes $slow_put $slow_get
  pipelining_row java diskless 'ratio >= 0.9'
  pipelining_row franz-go diskless 'ratio >= 0.9'
  pipelining_row librdkafka-idempotent diskless 'ratio >= 0.9'
  pipelining_row librdkafka diskless 'MB/s of direct'
  pipelining_row librdkafka direct ''
}

# pipelining_row PRODUCER PATH AIM
pipelining_row() {
  local program name verb=pipeline put=$slow_put
  name=$(topic_name "$2" 1)
  topic "$2" "$name" 1
  [ "$2" = diskless ] || put=''
  printf '%-22s %-9s' "$1" "$2"
  if [ "$1" = franz-go ]; then
    load "$bootstrap" "$name" || return 0
  else
    producer "${1%-idempotent}"
    [[ $1 != *-idempotent ]] || verb=pipeline-idempotent
    run $((seconds + 60)) "${program[@]}" "$verb" "$bootstrap" "$name" "$seconds" || return 0
  fi
  awk -v mbs="${got[wire_mbs]}" -v flight="${got[in_flight]}" -v size="${got[request_bytes]}" \
    -v queue="${got[queue_bytes]:-0}" -v rtt="${got[rtt_ms]}" -v put="$put" 'BEGIN {
      slower = "-"
      if (split(put, p, "/") == 2) {
        sigma = log(p[2] / p[1]) / 2.3263479 # the mean of a log-normal, from its p50 and p99
        slower = sprintf("%.2f", rtt / (p[1] * exp(sigma * sigma / 2)))
      }
      room = flight * size
      if (queue > 0 && queue < room) room = queue
      bound = room / 1e6 / (rtt / 1e3)
      printf " %9.2f %10d %13d %9.1f %8s %11.2f %6.2f", mbs, flight, size, rtt, slower, bound, mbs / bound
    }'
  printf '   %s\n' "$3"
}

main
