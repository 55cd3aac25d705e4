# shellcheck shell=bash disable=SC2034,SC2154 # shares its variables with who sources it
# Sourced by bench-common.sh: what a replica and its peers need beside them. Logs go
# to $dir; what is started is added to $children.

children=()

# await_answer PORT LOG REQUEST ANSWER: a server listens before it serves.
await_answer() {
  for ((n = 0; n < 300; n++)); do
    if ask "$1" "$3" 2>/dev/null | grep -q "$4"; then return 0; fi
    sleep 0.1
  done
  tail -n 20 "$dir/$2" >&2
  die "nothing serves at port $1; see $dir/$2"
}

ask() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf '%b' "$2" >&3
  timeout 1 head -n 1 <&3
)

# start_redis PORT
start_redis() {
  background redis-server --bind 127.0.0.1 --port "$1" --save '' --appendonly no \
    --maxmemory-policy noeviction >"$dir/redis.log" 2>&1
  children+=($!)
  await_answer "$1" redis.log 'PING\r\n' PONG
}

# make_topic BOOTSTRAP TOPIC PARTITIONS
make_topic() {
  "$root/scripts/kafka-tool.sh" kafka-topics --bootstrap-server "$1" --create --topic "$2" \
    --partitions "$3" --replication-factor 1 >"$dir/topics.log" 2>&1 ||
    { cat "$dir/topics.log" >&2 && die "cannot create $2"; }
}

# A JVM with the Java clients of `setup.sh bench`; the class comes next.
java=(java -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$kafka_libs/*:$cache/bench/java")

# producer CLIENT: sets program to the command of a stock producer, from `setup.sh bench`.
producer() {
  case $1 in
    java) program=("${java[@]}" ProduceBench) ;;
    librdkafka) program=("$cache/bench/python/bin/python" "$root/bench/clients/librdkafka.py") ;;
    franz-go) program=("$cache/bench/franz-go") ;;
    *) die "unknown client '$1'" ;;
  esac
}
