# shellcheck shell=bash disable=SC2034,SC2154 # shares its variables with who sources it
# Sourced by the benchmarks after common.sh: what they build, start and end alike, and how a row of
# a table gets its figures. Logs go to $dir.
# shellcheck source=scripts/replica.sh
. "$root/scripts/replica.sh"
# shellcheck source=scripts/backends.sh
. "$root/scripts/backends.sh"

# Log-normal latencies of the store, p50/p99 in milliseconds.
slow_put=65/200 slow_get=20/80
fast_put=5/15 fast_get=3/10

failed=0
kafka_pid='' client=''
declare -A got

# begin: a directory of this run's own, and an end to everything in it, however the script ends.
begin() {
  dir=$(mktemp -d)
  trap clean_up EXIT
  trap 'exit 130' INT TERM
}

clean_up() {
  local status=$?
  trap '' INT TERM
  [ -z "$client" ] || kill "$client" 2>/dev/null || true
  stop_replicas
  kill "${children[@]}" "$kafka_pid" 2>/dev/null || true
  wait
  if ((status == 0 || status == 130)); then rm -rf "$dir"; else note "logs are kept in $dir"; fi
  exit $status
}

# build: sets odradek and slow_s3.
build() {
  slow_s3=${SLOW_S3_BIN:-}
  build_odradek --bin odradek
  if [ -z "$slow_s3" ]; then
    say "slow-s3: release build"
    (cd "$root" && cargo build --release --locked -p testbed --bin slow-s3)
    slow_s3=${CARGO_TARGET_DIR:-$root/target}/release/slow-s3
  fi
  [ -x "$slow_s3" ] || die "$slow_s3 is missing; set SLOW_S3_BIN right, or leave it alone"
}

# check_blocks KNOWN…: $only may name these.
check_blocks() {
  local block
  for block in $only; do
    declare -F "block_$block" >/dev/null || die "unknown block '$block'; known: $*"
  done
}

# start_kafka [PROPERTY=VALUE …]: a broker with the heap and collector of its own scripts; sets
# kafka (where it is reached) and kafka_pid.
start_kafka() {
  export KAFKA_HEAP="-Xms1g -Xmx1g" KAFKA_JVM="-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20"
  "$root/scripts/kafka.sh" prepare "$dir/kafka" 1 "$@"
  background "$root/scripts/kafka.sh" run "$dir/kafka" 1
  kafka_pid=$!
  "$root/scripts/kafka.sh" wait "$dir/kafka"
  kafka=$("$root/scripts/kafka.sh" bootstrap "$dir/kafka")
}

# start_slow_s3 PORT [ARGUMENT…]: sets s3_port, and s3_yaml, a replica's lines for it.
start_slow_s3() {
  s3_port=$1
  shift
  background "$slow_s3" --listen "127.0.0.1:$s3_port" "$@" >"$dir/slow-s3.log" 2>&1
  children+=($!)
  await_answer "$s3_port" slow-s3.log 'GET /_control/faults HTTP/1.0\r\n\r\n' ' 200 '
  printf any >"$dir/secret"
  s3_yaml="store: s3://odradek/bench
s3:
  endpoint: \"http://127.0.0.1:$s3_port\"
  region: us-east-1
  pathStyle: true
  accessKeyId: any
  secretAccessKeyFile: $dir/secret"
}

# store_takes PUT GET: latencies of the calls that begin from now on.
store_takes() { ask "$s3_port" "GET /_control/latency?put=$1&get=$2 HTTP/1.0\r\n\r\n" >/dev/null; }

# run LIMIT COMMAND…: what a client prints, a line of name=value for each row, goes to the array
# `lines`, and the first of them to `got`.
run() {
  local limit=$1
  shift
  # What the row before left to the disk must not be paid for by this one.
  sync -f "$dir"
  # Beside the script, which Ctrl-C must not find waiting for the row's end.
  setpriv --pdeathsig TERM timeout "$limit" "$@" >"$dir/row.out" 2>"$dir/row.log" &
  client=$!
  if ! wait "$client"; then
    client=''
    failed=$((failed + 1))
    printf 'failed: %s\n' "$(tail -n 1 "$dir/row.log")"
    return 1
  fi
  client=''
  mapfile -t lines <"$dir/row.out"
  take "${lines[0]:-}"
}

# take LINE: sets the array `got` from name=value pairs.
take() {
  local pair
  got=()
  for pair in $1; do got[${pair%%=*}]=${pair#*=}; done
}

# closing WHAT_SHARES_THE_MACHINE: the last line, and the end's status.
closing() {
  printf '\n%s s a row, %s CPUs, load %s; %s share the machine\n' \
    "$seconds" "$(nproc)" "$(cut -d ' ' -f 1-3 /proc/loadavg)" "$1"
  ((failed == 0)) || die "$failed rows have no figures"
}
