"""A producer in zone-a and a consumer in zone-b, and the books of both.

    clients.py BOOTSTRAP STATUS_FILE

Says every second how it goes; on SIGTERM the producer stops, the consumer reads on until it has
everything that was acknowledged, and the exit code says whether each record came exactly once.
"""

import os
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, Producer

TOPIC = "clicks"
# Distinguishes records of this run from those of earlier runs.
RUN = str(os.getpid())
# Maximum time in seconds for the consumer to receive the remaining records.
DRAIN = 60


class Books:
    """What was sent, acknowledged and received, by number."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = 0
        self.acked = set()
        self.failed = 0
        self.received = {}
        self.slowest = 0.0
        self.stall = 0.0
        self.last_received = time.monotonic()

    def on_ack(self, number, at):
        def delivered(error, _message):
            with self.lock:
                if error is None:
                    self.acked.add(number)
                    self.slowest = max(self.slowest, time.monotonic() - at)
                else:
                    self.failed += 1

        return delivered

    def on_record(self, number):
        with self.lock:
            now = time.monotonic()
            self.stall = max(self.stall, now - self.last_received)
            self.last_received = now
            self.received[number] = self.received.get(number, 0) + 1

    def missing(self):
        return self.acked - self.received.keys()

    def twice(self):
        return sum(times - 1 for times in self.received.values())


def produce(bootstrap, books, stop):
    # The zone is in the client id; no other setting of the client names it.
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "client.id": "producer,zone=zone-a",
        "enable.idempotence": True,
        "linger.ms": 5,
        "reconnect.backoff.max.ms": 1000,
        # Refused connections are expected; logging each of them would hide everything else.
        "log_level": 2,
    })
    began = time.monotonic()
    while not stop.is_set():
        producer.produce(TOPIC, f"{RUN} {books.sent}", on_delivery=books.on_ack(books.sent, time.monotonic()))
        books.sent += 1
        producer.poll(0)
        time.sleep(max(0.0, began + books.sent / 100 - time.monotonic()))
    producer.flush(DRAIN)


def consume(bootstrap, books, done):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "client.id": "consumer,zone=zone-b",
        "group.id": f"readers-{RUN}",
        "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 1000,
        # Refused connections are expected; logging each of them would hide everything else.
        "log_level": 2,
    })
    consumer.subscribe([TOPIC])
    while not done.is_set():
        message = consumer.poll(0.2)
        if message is None or message.error():
            continue
        run, number = message.value().decode().split()
        if run == RUN:
            books.on_record(int(number))
    consumer.close()


def report(books, status):
    with books.lock:
        acked, received = len(books.acked), len(books.received)
        print(
            f"{time.strftime('%T')}  sent {books.sent:6}  acknowledged {acked:6}  received {received:6}  "
            f"slowest ack {books.slowest:5.2f} s  longest silence {books.stall:5.2f} s",
            flush=True,
        )
        books.slowest = books.stall = 0.0
    with open(status + ".new", "w", encoding="ascii") as file:
        file.write(f"{acked} {received}\n")
    os.replace(status + ".new", status)


def main():
    bootstrap, status = sys.argv[1:]
    books, stop, done = Books(), threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C in the terminal is handled by the program that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threads = [
        threading.Thread(target=produce, args=(bootstrap, books, stop)),
        threading.Thread(target=consume, args=(bootstrap, books, done)),
    ]
    for thread in threads:
        thread.start()
    while not stop.is_set():
        stop.wait(1)
        report(books, status)
    threads[0].join()
    deadline = time.monotonic() + DRAIN
    while books.missing() and time.monotonic() < deadline:
        time.sleep(0.2)
    # Long enough to receive a duplicate record.
    time.sleep(1)
    done.set()
    threads[1].join()
    report(books, status)
    missing, twice = len(books.missing()), books.twice()
    print(f"acknowledged {len(books.acked)}: {missing} missing, {twice} twice; {books.failed} sends failed", flush=True)
    sys.exit(0 if books.acked and not (missing or twice or books.failed) else 1)


main()
