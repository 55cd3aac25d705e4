"""One librdkafka producer with its defaults; ProduceBench.java says what is measured.

With `pipeline` (or `pipeline-idempotent`) as the first argument: what its own statistics say of its
requests to the leader, at full speed.
"""

import json
import os
import sys
import time

from confluent_kafka import Producer

NOISE = os.urandom(1 << 20)

# queue.buffering.max.messages' default, in records of 1 KiB; what is under way counts.
QUEUE_BYTES = 100_000 * 1024


def value(n):
    """1 KiB that no compression makes smaller."""
    at = n * 1021 % (len(NOISE) - 1024)
    return NOISE[at : at + 1024]


class Window:
    """What was acknowledged while the window was open."""

    def __init__(self):
        self.open = True
        self.latencies = []
        self.errors = 0

    def ack(self, error, message):
        if not self.open:
            return
        if error:
            self.errors += 1
        else:
            self.latencies.append(message.latency() * 1000)

    def percentile(self, p):
        return self.latencies[int(p * (len(self.latencies) - 1))] if self.latencies else -1


def run(bootstrap, topic, seconds, rate):
    """Produces for a while, at a rate or (0) as fast as the client takes it."""
    producer = Producer({"bootstrap.servers": bootstrap})
    window = Window()
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic() - start) < seconds:
        if rate and sent >= now * rate:
            producer.poll(0.005)
            continue
        try:
            producer.produce(topic, value(sent), on_delivery=window.ack)
            sent += 1
        except BufferError:
            producer.poll(0.01)
        if sent % 100 == 0:
            producer.poll(0)
    window.open = False
    producer.purge()
    producer.flush(1)
    window.latencies.sort()
    return window


class Requests:
    """What librdkafka's statistics say of the requests to the leader of the only partition."""

    def __init__(self):
        self.started = time.monotonic()
        self.rows = []

    def take(self, text):
        # The broker that gets the most is the leader; bootstrap brokers only give metadata.
        brokers = json.loads(text)["brokers"].values()
        leader = max(brokers, key=lambda broker: broker["txbytes"])
        rtt = leader["rtt"]
        self.rows.append((time.monotonic(), leader["txbytes"], leader["req"].get("Produce", 0), rtt["sum"], rtt["cnt"]))


def pipeline(bootstrap, topic, seconds, idempotent):
    """Full speed on one connection; bytes, requests and round trips between two statistics."""
    requests = Requests()
    settings = {"bootstrap.servers": bootstrap, "statistics.interval.ms": 500, "stats_cb": requests.take}
    in_flight = 1_000_000  # max.in.flight's default
    if idempotent:
        settings["enable.idempotence"] = True
        # max.in.flight becomes 5, but it compares that with records, not requests, so that there is
        # only one request: https://github.com/confluentinc/librdkafka/pull/4989
        in_flight = 1
    producer = Producer(settings)
    start = time.monotonic()
    sent = 0
    while time.monotonic() - start < seconds + 3:
        try:
            producer.produce(topic, value(sent))
            sent += 1
        except BufferError:
            producer.poll(0.01)
        if sent % 100 == 0:
            producer.poll(0)
    rows = [row for row in requests.rows if row[0] - start >= 3]
    (first, *_), (last, *_) = rows[0], rows[-1]
    size = rows[-1][1] - rows[0][1]
    count = rows[-1][2] - rows[0][2]
    # The first row's round trips lie before its moment.
    rtt = sum(row[3] for row in rows[1:]) / max(1, sum(row[4] for row in rows[1:])) / 1000
    print(
        f"wire_mbs={size / 1e6 / (last - first):.3f} in_flight={in_flight} queue_bytes={QUEUE_BYTES}",
        f"request_bytes={size / max(1, count):.0f} rtt_ms={rtt:.2f}",
        flush=True,
    )
    # What is under way is of no interest, and closing would wait for it.
    os._exit(0)


def main():
    if sys.argv[1].startswith("pipeline"):
        pipeline(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1].endswith("idempotent"))
    if sys.argv[1] == "paced":
        bootstrap, topic, seconds, rate = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
        run(bootstrap, topic, 3, rate)
        window = run(bootstrap, topic, seconds, rate)
        p50, p99, p999 = (window.percentile(p) for p in (0.5, 0.99, 0.999))
        print(f"p50={p50:.1f} p99={p99:.1f} p999={p999:.1f} errors={window.errors}")
        return
    bootstrap, topic, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run(bootstrap, topic, 2, 0)
    full = run(bootstrap, topic, seconds, 0)
    paced = run(bootstrap, topic, (seconds + 1) // 2, 1000)
    rate = len(full.latencies) * 1024 / 1e6 / seconds
    figures = [full.percentile(0.5), full.percentile(0.99), paced.percentile(0.5), paced.percentile(0.99)]
    print(f"{rate:.2f}", *(f"{f:.1f}" for f in figures), full.errors + paced.errors)


main()
