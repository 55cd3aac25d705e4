"""A stock librdkafka client that writes down what it is told, a line of JSON each.

    clients.py produce BOOTSTRAP TOPIC ZONE ID RATE   values ID * 10**9 + 0, 1, 2 …
    clients.py read    BOOTSTRAP TOPIC ZONE PARTITIONS
    clients.py group   BOOTSTRAP TOPIC ZONE GROUP
"""

import json
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())


def say(**what):
    print(json.dumps(what), flush=True)


def produce(bootstrap, topic, zone, identity, rate):
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "client.id": f"producer-{identity},zone={zone}",
        "enable.idempotence": True,
        "message.timeout.ms": 600000,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 2,
    })

    def told(value):
        def delivered(error, message):
            if error is None:
                say(type="ack", value=value, partition=message.partition(), offset=message.offset())
            else:
                say(type="failed", value=value, error=str(error))

        return delivered

    began, sent = time.monotonic(), 0
    while not stop.is_set():
        value = int(identity) * 10**9 + sent
        producer.produce(topic, str(value), on_delivery=told(value))
        sent += 1
        producer.poll(0)
        time.sleep(max(0.0, began + sent / float(rate) - time.monotonic()))
    left = producer.flush(120)
    say(type="end", sent=sent, left=left)


def consumer(bootstrap, zone, group):
    return Consumer({
        "bootstrap.servers": bootstrap,
        "client.id": f"reader,zone={zone}",
        "group.id": group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 10000,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 2,
    })


def number(value):
    # Kafka's verifiable producer writes its prefix and a dot.
    producer, dot, count = value.decode().partition(".")
    return int(producer) * 10**9 + int(count) if dot else int(producer)


def poll(reader):
    message = reader.poll(0.2)
    if message is None:
        return
    if message.error():
        say(type="trouble", error=str(message.error()))
        return
    partition = message.partition()
    say(type="poll", value=number(message.value()), partition=partition, offset=message.offset())
    low_high = reader.get_watermark_offsets(TopicPartition(message.topic(), partition), cached=True)
    if low_high is not None:
        say(type="mark", partition=partition, offset=low_high[1])


def read(bootstrap, topic, zone, partitions):
    reader = consumer(bootstrap, zone, "unused")
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(int(partitions))])
    while not stop.is_set():
        poll(reader)


def group(bootstrap, topic, zone, name):
    reader = consumer(bootstrap, zone, name)
    reader.subscribe([topic])
    while not stop.is_set():
        poll(reader)
    reader.close()


{"produce": produce, "read": read, "group": group}[sys.argv[1]](*sys.argv[2:])
