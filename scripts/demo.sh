#!/usr/bin/env bash
# Diskless and classic topics side by side on a real Kafka: `make demo`.
#   DEMO=once        ends after the checks, with an error when one of them failed
#   KAFKA=host:port  uses that cluster instead of starting a broker
#   DEMO_DIR=…       the directory of all data and logs (.demo); a second run finds the records of the first
#   DEMO_PORT=…      first of the 20 ports that Odradek takes (free ones otherwise)
#   ODRADEK_BIN=…    this binary instead of a build (a debug build: it is compiled in half the time)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

demo=${DEMO_DIR:-$root/.demo}
records=100
run=$(date +%FT%T)
failed=0

main() {
  mkdir -p "$demo/log"
  rm -f "$demo"/log/*.err
  demo=$(cd "$demo" && pwd)
  exec 7>"$demo/lock"
  flock -n 7 || die "a demo runs in $demo already; end it, or set DEMO_DIR"
  trap 'clean_up' EXIT
  trap 'exit 130' INT TERM
  if [ -e "$demo/unfinished" ]; then
    say "The last run was interrupted while it produced; starting with an empty cluster"
    rm -rf "$demo"/{kafka,store,produced,unfinished}
  fi
  [ ! -s "$demo/produced" ] || say "$(wc -l <"$demo/produced") records of earlier runs are in $demo"

  "$root/scripts/setup.sh" kafka
  build_odradek
  start_kafka
  start_odradek
  make_topics
  produce
  consume_as_group
  read_everything
  show_objects
  show_empty_logs

  if ((failed > 0)); then die "$failed checks failed; the output of all commands is in $demo/log, the log of the replica is $demo/odradek.log"; fi
  say "All checks passed"
  [ "${DEMO:-}" = once ] || stay_up
}

start_kafka() {
  kafka=${KAFKA:-}
  [ -z "$kafka" ] || return 0
  say "Kafka $kafka_version: one KRaft broker"
  "$root/scripts/kafka.sh" prepare "$demo/kafka" 1
  background "$root/scripts/kafka.sh" run "$demo/kafka" 1
  "$root/scripts/kafka.sh" wait "$demo/kafka"
  kafka=$("$root/scripts/kafka.sh" bootstrap "$demo/kafka")
  note "serves at $kafka"
}

build_odradek() {
  odradek=${ODRADEK_BIN:-}
  [ -z "$odradek" ] || return 0
  say "Odradek: build (two to three minutes the first time)"
  (cd "$root" && cargo build --locked --bin odradek)
  odradek=${CARGO_TARGET_DIR:-$root/target}/debug/odradek
}

# Runs a child in a session of its own, so that Ctrl-C in the terminal reaches only the script, which
# ends its children in order; the kernel ends them when the script dies.
background() { setsid setpriv --pdeathsig KILL "$@" </dev/null 7>&- & }

start_odradek() {
  say "Odradek: one replica, embedded coordinator, objects in a directory"
  local port=${DEMO_PORT:-} log=$demo/odradek.log
  [ -n "$port" ] || port=$("$root/scripts/free-ports.sh" 20)
  mkdir -p "$demo/store"
  cat >"$demo/odradek.yaml" <<Y
zone: zone-1
replica: odradek-0
cluster: demo
kafka:
  bootstrapServers: [${kafka//,/, }]
listeners:
  bind: 127.0.0.1
  advertisedHost: 127.0.0.1
  bootstrapPort: $port
  nodePorts: $((port + 2))
  brokerPorts: $((port + 9))
admin: {bind: "127.0.0.1:$((port + 1))"}
diskless:
  topics:
    - match: clicks
store: "file://$demo/store"
coordinator: embedded
Y
  : >"$log"
  background "$odradek" serve "$demo/odradek.yaml" >>"$log" 2>&1
  replica=$!
  proxy=127.0.0.1:$port
  for ((n = 0; n < 300; n++)); do
    grep -qw ready "$log" && break
    kill -0 "$replica" 2>/dev/null || break
    sleep 0.1
  done
  if ! grep -qw ready "$log"; then
    tail -n 20 "$log" >&2
    die "the replica did not become ready; see $log"
  fi
  note "configured by $demo/odradek.yaml; clients start at $proxy"
}

make_topics() {
  local topic created=() there
  there=$(describe)
  for topic in orders clicks events; do
    grep -q "^Topic: ${topic}[[:space:]]" <<<"$there" || created+=("$topic")
  done
  # Never write to topics of the user: these names are common.
  if [ ${#created[@]} -lt 3 ] && [ ! -s "$demo/produced" ] && [ -n "${KAFKA:-}" ]; then
    die "$kafka already has topics named orders, clicks or events; the demo does not write to them"
  fi
  if [ ${#created[@]} -gt 0 ]; then
    say "Creating ${created[*]} with kafka-topics, through Odradek"
    for topic in "${created[@]}"; do
      tool kafka-topics --bootstrap-server "$proxy" --create --topic "$topic" --partitions 3 --replication-factor 1 &
      tools+=($!)
    done
    await_tools
    there=$(describe)
  fi
  if ! is_diskless events "$there"; then
    say "Making events diskless with kafka-configs while it is empty"
    tool kafka-configs --bootstrap-server "$proxy" --entity-type topics --entity-name events \
      --alter --add-config diskless.enable=true
    there=$(describe)
  fi
  say "kafka-topics --describe, through Odradek"
  # shellcheck disable=SC2001 # indents every line
  sed 's/^/   /' <<<"$there"
  check "orders is classic" no "$(is_diskless orders "$there" && echo yes || echo no)"
  check "clicks is diskless (by the pattern in the YAML)" yes "$(is_diskless clicks "$there" && echo yes || echo no)"
  check "events is diskless (by kafka-configs)" yes "$(is_diskless events "$there" && echo yes || echo no)"
}

describe() { tool kafka-topics --bootstrap-server "$proxy" --describe --exclude-internal; }
is_diskless() { grep -Eq "^Topic: $1[[:space:]].*diskless\.enable=true" <<<"$2"; }

produce() {
  say "Producing $records records to each of orders, clicks, events with kafka-console-producer"
  touch "$demo/unfinished"
  local topic
  for topic in orders clicks events; do
    seq -f "$topic $run %g" "$records" >"$demo/log/$topic.in"
    tool kafka-console-producer --bootstrap-server "$proxy" --topic "$topic" <"$demo/log/$topic.in" &
    tools+=($!)
  done
  await_tools
  cat "$demo"/log/{orders,clicks,events}.in | tee "$demo/log/this-run.in" >>"$demo/produced"
  mv "$demo/unfinished" "$demo/produce-started"
}

consume_as_group() {
  say "Consuming all three with kafka-console-consumer, group demo"
  tool kafka-console-consumer --bootstrap-server "$proxy" --include 'orders|clicks|events' --group demo \
    --from-beginning --max-messages $((3 * records)) --timeout-ms 60000 >"$demo/log/group.out"
  check "the group received each record of this run once" same \
    "$(same "$demo/log/this-run.in" "$demo/log/group.out")"
  say "kafka-consumer-groups --describe"
  tool kafka-consumer-groups --bootstrap-server "$proxy" --describe --group demo | tee "$demo/log/group.lag" | sed 's/^/   /'
  check "the group's lag is" 0 "$(awk '$1 == "demo" { lag += $6 } END { print lag + 0 }' "$demo/log/group.lag")"
}

read_everything() {
  local total
  total=$(wc -l <"$demo/produced")
  say "Reading all three from the beginning, without a group: $total records of this and earlier runs"
  tool kafka-console-consumer --bootstrap-server "$proxy" --include 'orders|clicks|events' \
    --from-beginning --max-messages "$total" --timeout-ms 60000 >"$demo/log/all.out"
  check "each record of each run is there once" same "$(same "$demo/produced" "$demo/log/all.out")"
  if ((total > 3 * records)); then note "$((total - 3 * records)) of them are from earlier runs"; fi
}

show_objects() {
  say "Objects that this run wrote, and the records in each"
  find "$demo/store" -type f -newer "$demo/produce-started" | sort >"$demo/log/objects"
  records_per_object "$demo/log/objects" >"$demo/log/objects.out"
  sed 's/^/   /' "$demo/log/objects.out"
  check "objects hold the records of clicks and events, and nothing of orders" $((2 * records)) \
    "$(awk '{ n += $2 } END { print n + 0 }' "$demo/log/objects.out")"
}

# Prints `object records` for each WAL object named in the file $1, read from the footer of the object.
records_per_object() {
  xargs -r -d '\n' "$odradek" objects <"$1"
}

show_empty_logs() {
  say "Log end offsets: kafka-get-offsets through Odradek | straight at the broker"
  offsets "$proxy" >"$demo/log/offsets.proxy" &
  tools+=($!)
  offsets "$kafka" >"$demo/log/offsets.broker" &
  tools+=($!)
  await_tools
  paste "$demo"/log/offsets.{proxy,broker} | column -t | sed 's/^/   /'
  check "records that Odradek shows in clicks and events" "$(grep -c '^[ce]' "$demo/produced")" "$(sum_offsets proxy '^[ce]')"
  check "records in the broker's own logs of clicks and events" 0 "$(sum_offsets broker '^[ce]')"
  check "records in the broker's own log of orders" "$(grep -c '^o' "$demo/produced")" "$(sum_offsets broker '^o')"
  [ -n "${KAFKA:-}" ] || check "bytes in the broker's log files of clicks and events" 0 \
    "$(cat "$demo"/kafka/data-1/{clicks,events}-[0-9]*/*.log | wc -c)"
}

offsets() { tool kafka-get-offsets --bootstrap-server "$1" --topic 'orders|clicks|events' | sort; }
sum_offsets() { awk -F: -v topics="$2" '$1 ~ topics { n += $3 } END { print n + 0 }' "$demo/log/offsets.$1"; }

stay_up() {
  cat <<T

${bold}Odradek stays up at $proxy until Ctrl-C. In another terminal:${plain}
   cd $root
   scripts/kafka-tool.sh kafka-topics --bootstrap-server $proxy --describe
   scripts/kafka-tool.sh kafka-console-producer --bootstrap-server $proxy --topic clicks
   scripts/kafka-tool.sh kafka-console-consumer --bootstrap-server $proxy --topic clicks --from-beginning
   echo 'hello from kcat' | kcat -b $proxy -t events -P
   kcat -b $proxy -t events -C -o beginning -e
   kcat -b $proxy -L
   curl -s http://127.0.0.1:$((${proxy#*:} + 1))/metrics
The broker itself is at $kafka; the objects are in $demo/store
T
  wait "$replica" || true
  die "the replica ended unexpectedly; see $demo/odradek.log"
}

tools=()
await_tools() {
  local pid
  for pid in "${tools[@]}"; do wait "$pid"; done
  tools=()
}

tool() {
  local errors=$demo/log/$1.$BASHPID.err
  "$root/scripts/kafka-tool.sh" "$@" 2>"$errors" && return
  cat "$errors" >&2
  die "failed: $*"
}

same() { if diff <(sort "$1") <(sort "$2") >"$demo/log/difference"; then echo same; else echo "different, see $demo/log/difference"; fi; }

# check WHAT WANTED GOT
check() {
  if [ "$2" = "$3" ]; then
    note "ok: $1: $2"
  else
    note "MISMATCH: $1: wanted $2, got $3"
    failed=$((failed + 1))
  fi
}

clean_up() {
  local status=$?
  trap '' INT TERM
  if [ -n "$replica" ]; then
    kill "$replica" 2>/dev/null || true
    wait "$replica" 2>/dev/null || true
  fi
  [ ! -d "$demo/kafka" ] || "$root/scripts/kafka.sh" stop "$demo/kafka"
  [ $status != 130 ] || printf '\nEnded. All data is kept in %s; the next run continues from there.\n' "$demo"
  [ $status != 130 ] || status=0
  exit $status
}

replica=''
main
