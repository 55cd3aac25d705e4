"""Dumps a topic: `PARTITION OFFSET VALUE` for every record from the beginning to the end offsets.

    read_all.py BOOTSTRAP TOPIC [--check LOG...] [--isolation LEVEL] [--timeout SECONDS]

With --check, the topic is compared with loop_producer.py's own LOG instead, and nothing is dumped: exit 1 if an
acknowledged record is lost or lies at another offset, a record is there twice or was never sent, records are out of
order, or a partition's offsets have a gap. The topic must have been empty and the producer the only one; it may have
been started again with --first.
"""

import argparse
import collections
import sys
import time

from confluent_kafka import Consumer, TopicPartition


def read_all(bootstrap, topic, isolation="read_uncommitted", timeout=60):
    """Yields (partition, offset, value) up to the end offsets of now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "read-all", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "isolation.level": isolation, "log_level": 3})
    partitions = consumer.list_topics(topic, timeout=timeout).topics[topic].partitions
    bounds = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=timeout) for p in partitions}
    left = {p: end for p, (begin, end) in bounds.items() if begin < end}
    consumer.assign([TopicPartition(topic, p, bounds[p][0]) for p in left])
    deadline = time.monotonic() + timeout
    while left:
        if time.monotonic() > deadline:
            sys.exit(f"not read to the end: {left}")
        for message in consumer.consume(1000, 0.5):
            if message.error():
                sys.exit(f"{message.error()}")
            if message.offset() >= left.get(message.partition(), 0):
                continue  # written after we asked for the end
            yield message.partition(), message.offset(), (message.value() or b"").decode()
            if message.offset() == left[message.partition()] - 1:
                del left[message.partition()]
    consumer.close()


def check(records, logs):
    """What is wrong with the records, by the producer's own account."""
    sent, acked = set(), {}
    for log in logs:
        for line in open(log):
            kind, *words = line.split()
            if kind == "send" and len(words) == 2:
                sent.add((int(words[1]), int(words[0])))
            elif kind == "ack" and len(words) == 3:
                acked[int(words[1]), int(words[0])] = int(words[2])
    found, last = collections.defaultdict(list), {}
    for partition, offset, value in records:
        number = int(value)
        if partition in last:
            (last_offset, last_number) = last[partition]
            if offset != last_offset + 1:
                yield f"gap: partition {partition} goes from offset {last_offset} to {offset}"
            if number <= last_number:
                yield f"order: partition {partition} offset {offset} holds {number} after {last_number}"
        last[partition] = offset, number
        found[partition, number].append(offset)
    for (partition, number), offsets in found.items():
        if len(offsets) > 1:
            yield f"duplicate: {number} in partition {partition} at offsets {offsets}"
        if (partition, number) not in sent:
            yield f"invented: {number} in partition {partition} was never sent"
    for (partition, number), offset in acked.items():
        if offset not in found.get((partition, number), ()):
            yield f"lost: {number} acknowledged in partition {partition} at {offset}, found at {found.get((partition, number))}"
    total = sum(map(len, found.values()))
    print(f"records={total} sent={len(sent)} acked={len(acked)} unacknowledged-but-there={total - len(acked)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--check", nargs="+", metavar="LOG")
    parser.add_argument("--isolation", default="read_uncommitted")
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()
    records = read_all(args.bootstrap, args.topic, args.isolation, args.timeout)
    if args.check:
        faults = list(check(records, args.check))
        for fault in faults[:50]:
            print(fault)
        if len(faults) > 50:
            print(f"... {len(faults)} in all")
        sys.exit(bool(faults))
    for partition, offset, value in records:
        print(partition, offset, value.rstrip())


if __name__ == "__main__":
    main()
