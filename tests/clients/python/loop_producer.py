"""An idempotent producer that never gives up, for fault tests.

    loop_producer.py BOOTSTRAP TOPIC PARTITIONS SECONDS LOG [--rate PER_SECOND] [--linger MS]
        [--timeout SECONDS] [--first NUMBER]

Sends numbered records round robin for SECONDS, then waits for what is still in flight, at most --timeout more (120).
LOG gets one line per fact, each written through before the next: what a kill leaves behind is true.

    send NUMBER PARTITION
    ack NUMBER PARTITION OFFSET
    fail NUMBER PARTITION ERROR
    end sent=N acked=N failed=N

A record's value is its NUMBER, padded to 100 bytes. Exit 0 if all that was sent was acknowledged, 1 otherwise.
Sent and not acknowledged may be in the log of Kafka or not; acknowledged must be, once, at that offset:
`read_all.py --check LOG` tells.
"""

import argparse
import time

from confluent_kafka import Producer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("log")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--linger", type=float, default=5)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--first", type=int, default=0, help="of the numbers; for a second run on the same topic")
    args = parser.parse_args()

    counts = {"ack": 0, "fail": 0}
    # Line buffered: a fact is with the kernel before the next one happens.
    log = open(args.log, "a", buffering=1)

    def delivered(number):
        def report(error, message):
            kind, detail = ("fail", error.name()) if error else ("ack", message.offset())
            counts[kind] += 1
            log.write(f"{kind} {number} {message.partition()} {detail}\n")

        return report

    producer = Producer({
        "bootstrap.servers": args.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "retries": 2**31 - 1,
        "message.timeout.ms": 0,  # for ever
        "linger.ms": args.linger,
        "reconnect.backoff.max.ms": 500,
        "queue.buffering.max.messages": 1_000_000,
        "log_level": 3,
    })
    begin, number = time.monotonic(), args.first
    while (elapsed := time.monotonic() - begin) < args.seconds:
        if number - args.first > elapsed * args.rate:
            producer.poll(0.005)
            continue
        log.write(f"send {number} {number % args.partitions}\n")
        producer.produce(args.topic, str(number).ljust(100), str(number), number % args.partitions,
                         on_delivery=delivered(number))
        number += 1
        producer.poll(0)
    producer.flush(args.timeout)
    sent = number - args.first
    summary = f"sent={sent} acked={counts['ack']} failed={counts['fail']}"
    log.write(f"end {summary}\n")
    print(summary)
    raise SystemExit(counts["ack"] != sent)


if __name__ == "__main__":
    main()
