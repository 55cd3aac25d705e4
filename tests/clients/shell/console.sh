#!/usr/bin/env bash
# The stock console tools: console.sh BOOTSTRAP RUN DISKLESS CLASSIC; env CLASSPATH.
# They cannot choose partitions or timestamps: keys decide the partition (so every record has one), times are left out.
set -euo pipefail
bootstrap=$1 run=$2 diskless=$3 classic=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kinds="diskless classic"
name() { if [ "$1" = diskless ]; then echo "$diskless"; else echo "$classic"; fi; }
logical() { sed -e "s/$diskless/diskless/g" -e "s/$classic/classic/g" -e "s/$run-//g"; }
sha() { sha256sum | cut -c1-16; }

# Two cores and a dozen JVMs: short-lived, so C1 only.
tool() { timeout 90 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto "org.apache.kafka.tools.$1" --bootstrap-server "$bootstrap" "${@:2}"; }
produce() { tool ConsoleProducer --reader-property parse.key=true --reader-property key.separator=: --command-property acks=all "${@:2}" --topic "$(name "$1")" > /dev/null; }
consume() {
  tool consumer.ConsoleConsumer --timeout-ms 15000 --formatter-property print.partition=true --formatter-property print.offset=true \
    --formatter-property print.key=true --formatter-property print.headers=true "$@" 2> "$work/consumer.log"
}
numbered() { for i in $(seq "$1" "$2"); do echo "k$i:$3 n$i"; done; }

for kind in $kinds; do
  { numbered 0 59 "$kind"; } | produce $kind --compression-codec lz4
  echo "produce $kind lz4 60 ok"
done
for kind in $kinds; do
  printf 'a:1,a:2\theaders\tvalue\nNULL\tno value\tNULL\nb:\tempty\t\n' | produce $kind --reader-property parse.headers=true \
    --reader-property key.separator=$'\t' --reader-property null.marker=NULL --compression-codec zstd
  echo "produce $kind headers zstd 3 ok"
done

tool GetOffsetShell --topic "$diskless|$classic" --time latest | logical | sort | sed 's/^/offsets latest /'
tool GetOffsetShell --topic "$diskless|$classic" --time earliest | logical | sort | sed 's/^/offsets earliest /'

for isolation in read_uncommitted read_committed; do
  consume --topic "$diskless" --from-beginning --max-messages 63 --isolation-level $isolation | sort > "$work/read"
  echo "read $isolation diskless $(wc -l < "$work/read") sha256=$(sha < "$work/read")"
done
grep -vE 'k[0-9]' "$work/read" | sed 's/^/shape /'
consume --topic "$classic" --partition 1 --offset 5 --max-messages 3 | sed 's/^/seek classic /'
consume --topic "$diskless" --partition 1 --offset 5 --max-messages 3 | sed 's/^/seek diskless /'

# A group on both topics reads all, leaves, and goes on where it stopped.
group() { consume --include "$diskless|$classic" --group "$run-group" --command-property auto.offset.reset=earliest --max-messages "$1" | sort > "$work/read"; }
group 126
echo "group first read $(wc -l < "$work/read") sha256=$(sha < "$work/read")"
for kind in $kinds; do numbered 60 69 "$kind" | produce $kind; done
group 20
echo "group resumed read $(wc -l < "$work/read") sha256=$(sha < "$work/read")"
# Group, topic, partition, committed, end, lag; the rest are ids of members that have left.
describe() { tool consumer.group.ConsumerGroupCommand --describe --group "$run-group" 2> "$work/errors" | awk '$3 ~ /^[0-9]+$/ {print "group committed", $2, "p" $3, $4, "end", $5, "lag", $6}' | logical | sort; }
describe
tool consumer.group.ConsumerGroupCommand --reset-offsets --group "$run-group" --topic "$diskless" --topic "$classic" --to-offset 2 --execute |
  awk '$3 ~ /^[0-9]+$/ {print "group reset", $2, "p" $3, $4}' | logical | sort

tool TopicCommand --create --topic "$diskless.tmp" --partitions 2 | logical
tool TopicCommand --create --topic "$diskless.tmp" --partitions 2 2>&1 | grep -o 'TopicExistsException' | sort -u | sed 's/^/create again /' || true
tool TopicCommand --list | logical | grep -xE '(diskless|classic)(.tmp)?' | sort | sed 's/^/list /'
# Leaders and replicas are not the same on both sides; that every partition has some is.
tool TopicCommand --describe --topic "$diskless" | logical |
  awk '/Leader:/ {print "describe", $2, "p" $4, ($6 ~ /^[0-9]+$/ ? "led" : "WRONG"), ($10 != "" ? "isr" : "WRONG")}'
tool TopicCommand --describe --unavailable-partitions | logical | grep -E 'Topic: (diskless|classic)\s' | sed 's/^/unavailable /' || true
tool TopicCommand --describe --under-replicated-partitions | logical | grep -E 'Topic: (diskless|classic)\s' | sed 's/^/under-replicated /' || true
timeout 60 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC kafka.admin.ConfigCommand --bootstrap-server "$bootstrap" --describe --all --topic "$diskless" |
  grep -oE '^  (max.message.bytes|retention.ms|cleanup.policy)=[^ ]*' | sort | sed 's/^ */config diskless /'
tool TopicCommand --delete --topic "$diskless.tmp"
for _ in $(seq 5); do listed=$(tool TopicCommand --list | logical | grep -xE '(diskless|classic)(.tmp)?' | sort | sed 's/^/list /'); grep -q tmp <<< "$listed" || break; done
echo "$listed"
