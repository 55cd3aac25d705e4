#!/usr/bin/env bash
# What kcat can do of README.md: kcat.sh BOOTSTRAP RUN DISKLESS CLASSIC
# It cannot choose timestamps, and reads with the high-level consumer only through -G.
set -euo pipefail
bootstrap=$1 run=$2 diskless=$3 classic=$4
work=$(mktemp -d)
# A member that a failed step leaves behind must not outlive the script.
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
kc() { timeout 60 kcat -b "$bootstrap" "$@"; }
numbered() { for i in $(seq "$1" "$2"); do echo "k$i:$3 n$i"; done; }
kinds="diskless classic"
name() { if [ "$1" = diskless ]; then echo "$diskless"; else echo "$classic"; fi; }
sha() { sha256sum | cut -c1-16; }
end_of() { kc -Q -t "$1:$2:-1" | sed 's/.*offset //'; }

# One line per record; -1 as a length is null.
format='%p|%o|%K|%k|%S|%s|%h\n'
read_partition() { kc -q -C -t "$1" -p "$2" -o "$3" -e -f "$format" "${@:4}"; }

n=0
for codec in none gzip snappy lz4 zstd; do
  for kind in $kinds; do
    for p in 0 1 2; do
      numbered $n $((n + 19)) "$kind p$p" |
        kc -P -t "$(name $kind)" -p $p -K: -z $codec -X enable.idempotence=true -X acks=all
      echo "produce idempotent acks=all $codec $kind p$p end $(end_of "$(name $kind)" $p)"
    done
  done
  n=$((n + 20))
done

for acks in 1 0; do
  for kind in $kinds; do
    numbered 1 5 "$kind acks=$acks" | kc -P -t "$(name $kind)" -p 0 -K: -X acks=$acks
    # acks=0 gets no response: the end offset tells when it has arrived.
    want=$((acks ? 105 : 110))
    for _ in $(seq 50); do end=$(end_of "$(name $kind)" 0); [ "$end" -ge $want ] && break; sleep 0.1; done
    echo "produce acks=$acks $kind p0 end $end"
  done
done

for kind in $kinds; do
  topic=$(name $kind)
  # -Z sends null for an empty key or value; without it they are empty.
  printf ':no key\nno value:\n' | kc -P -t "$topic" -p 0 -K: -Z -X enable.idempotence=true
  printf ':empty key\nempty value:\n' | kc -P -t "$topic" -p 0 -K: -X enable.idempotence=true
  printf 'k:headers\n' | kc -P -t "$topic" -p 0 -K: -H a=1 -H a=2 -H b -H c= -X enable.idempotence=true
  read_partition "$topic" 0 110 | sed "s/^/shape $kind p/"
  head -c 900000 /dev/zero | tr '\0' x > "$work/large"
  for _ in 1 2 3; do kc -P -t "$topic" -p 1 -X message.max.bytes=2000000 "$work/large"; done
  echo "large $kind p1 end $(end_of "$topic" 1)"
  head -c 1200000 /dev/zero | tr '\0' x > "$work/large"
  kc -P -t "$topic" -p 1 -X message.max.bytes=2000000 "$work/large" 2> "$work/errors" || true
  echo "too large $kind p1 $(grep -o 'Broker: .*' "$work/errors" | head -1)"
done

for isolation in read_uncommitted read_committed; do
  for kind in $kinds; do
    for p in 0 1 2; do
      read_partition "$(name $kind)" $p beginning -X isolation.level=$isolation > "$work/read"
      offsets=$(cut -d'|' -f2 "$work/read")
      order=WRONG
      [ "$offsets" = "$(seq 0 $(($(wc -l < "$work/read") - 1)))" ] && order=ok
      echo "read $isolation $kind p$p $(wc -l < "$work/read") records $order sha256=$(sha < "$work/read")"
    done
  done
done

for kind in $kinds; do
  topic=$(name $kind)
  for offset in 57 0 -5; do
    echo "seek $kind p2 offset=$offset read=$(kc -q -C -t "$topic" -p 2 -o $offset -c 1 -f '%o')"
  done
  # kcat's records carry the time of the run: what the past and the future hold is all that can be written down.
  echo "seek-by-time $kind p2 ts=1000 offset=$(kc -Q -t "$topic:2:1000" | sed 's/.*offset //')"
  echo "seek-by-time $kind p2 ts=9999999999999 offset=$(kc -Q -t "$topic:2:9999999999999" | sed 's/.*offset //')"
  echo "seek-by-time $kind p2 s@1000 read=$(kc -q -C -t "$topic" -p 2 -o s@1000 -c 1 -f '%o')"
done

# kcat -G commits when it ends; -c ends it after exactly what is there.
member() {
  kc -q -G "$run-group" -X auto.offset.reset=earliest -X session.timeout.ms=10000 -X heartbeat.interval.ms=300 \
    -c "$1" -f "%t|$format" "$diskless" "$classic" 2>> "$work/group.log" | sort -t'|' -k1,1 -k2,2n -k3,3n
}
group_read() {
  member "$1" > "$work/read"
  cut -d'|' -f3- "$work/read" > "$work/content"
  echo "group $2 read $(wc -l < "$work/read") distinct $(cut -d'|' -f1-3 "$work/read" | sort -u | wc -l)" \
    "sha256=$(sha < "$work/content")"
}
total=0
for kind in $kinds; do for p in 0 1 2; do total=$((total + $(end_of "$(name $kind)" $p))); done; done
group_read $total first
for kind in $kinds; do
  for p in 0 1 2; do numbered 1 10 "later $kind p$p" | kc -P -t "$(name $kind)" -p $p -K:; done
done
group_read 60 resumed

# -L: both topics with three partitions, every leader a listed broker.
kc -L -J > "$work/metadata"
for kind in $kinds; do
  python3 - "$work/metadata" "$(name $kind)" "$kind" <<'P'
import json, sys
metadata = json.load(open(sys.argv[1]))
brokers = {b["id"] for b in metadata["brokers"]}
(topic,) = [t for t in metadata["topics"] if t["topic"] == sys.argv[2]]
led = all(p["leader"] in brokers and {"id": p["leader"]} in p["replicas"] for p in topic["partitions"])
print(f"metadata {sys.argv[3]} partitions={len(topic['partitions'])} leaders={'ok' if led else 'WRONG'}")
P
done
