"""One librdkafka producer and a consumer at each of several replicas in one process, so that one
clock times all: PRODUCE_BOOTSTRAP TOPIC SECONDS RATE PATH=BOOTSTRAP…

Prints a line of name=value for each path; tail.go says what they mean.
"""

import os
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, Producer

RUN = time.time_ns()
STAMP = struct.Struct(">QQ")


class Reader(threading.Thread):
    """A consumer in a group of its own; by the record's number, when it had it."""

    def __init__(self, path, bootstrap, topic):
        super().__init__(daemon=True)
        self.path = path
        self.received = {}
        self.consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"tail-{RUN}-{path}", "auto.offset.reset": "latest"}
        )
        self.consumer.subscribe([topic])

    def run(self):
        while True:
            message = self.consumer.poll(1)
            if message is None or message.error():
                continue
            run, number = STAMP.unpack_from(message.value())
            if run == RUN:
                self.received.setdefault(number, time.monotonic())


class Sender(threading.Thread):
    """One producer at a steady pace; by the record's number, when it was sent and when acked."""

    def __init__(self, bootstrap, topic, rate):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap})
        self.topic = topic
        self.rate = rate
        self.sent = []
        self.acked = {}
        self.errors = 0
        self.ended = False

    def run(self):
        start = time.monotonic()
        while not self.ended:
            number = len(self.sent)
            while (pause := start + number / self.rate - time.monotonic()) > 0:
                self.producer.poll(pause)
            value = STAMP.pack(RUN, number) + os.urandom(1024 - STAMP.size)
            self.sent.append(time.monotonic())
            self.producer.produce(self.topic, value, on_delivery=lambda error, _, n=number: self.ack(n, error))
        self.producer.flush(15)

    def ack(self, number, error):
        if error:
            self.errors += 1
        else:
            self.acked[number] = time.monotonic()


def quantile(of, share):
    """In milliseconds."""
    return sorted(of)[int(share * (len(of) - 1))] * 1000 if of else float("nan")


def wait(limit, done):
    until = time.monotonic() + limit
    while not done() and time.monotonic() < until:
        time.sleep(0.02)


def report(sender, reader, begin, end):
    inside = [n for n, at in enumerate(sender.sent) if begin <= at < end and n in sender.acked]
    got = [n for n in inside if n in reader.received]
    acks = [sender.acked[n] - sender.sent[n] for n in inside]
    ends = [reader.received[n] - sender.sent[n] for n in got]
    afters = [reader.received[n] - sender.acked[n] for n in got]
    figures = {"ack": acks, "e2e": ends, "after": afters}
    rows = (f"{name}_p50={quantile(of, 0.5):.1f} {name}_p99={quantile(of, 0.99):.1f}" for name, of in figures.items())
    print(f"path={reader.path}", *rows, f"errors={sender.errors + len(inside) - len(got)}", flush=True)


def main():
    bootstrap, topic, seconds, rate = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    readers = [Reader(*path.split("=", 1), topic) for path in sys.argv[5:]]
    for reader in readers:
        reader.start()
    sender = Sender(bootstrap, topic, rate)
    sender.start()
    for reader in readers:
        wait(40, lambda: reader.received)
    time.sleep(2)
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    sender.ended = True
    sender.join()
    for reader in readers:
        wait(10, lambda: len(sender.sent) - 1 in reader.received)
        report(sender, reader, begin, end)
    # Consumers that leave their groups would only take time.
    os._exit(0)


main()
