"""One librdkafka producer with its defaults; ProduceBench.java says what is measured."""

import os
import sys
import time

from confluent_kafka import Producer

NOISE = os.urandom(1 << 20)


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


def main():
    bootstrap, topic, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run(bootstrap, topic, 2, 0)
    full = run(bootstrap, topic, seconds, 0)
    paced = run(bootstrap, topic, (seconds + 1) // 2, 1000)
    rate = len(full.latencies) * 1024 / 1e6 / seconds
    figures = [full.percentile(0.5), full.percentile(0.99), paced.percentile(0.5), paced.percentile(0.99)]
    print(f"{rate:.2f}", *(f"{f:.1f}" for f in figures), full.errors + paced.errors)


main()
