"""confluent-kafka (librdkafka); env GROUP_PROTOCOL=consumer for KIP-848."""

import os

from confluent_kafka import (Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException,
                             Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from script import KafkaFailure, Record


def failure(error):
    # librdkafka wraps the broker's OFFSET_OUT_OF_RANGE in a code of its own.
    if error.code() == KafkaError._AUTO_OFFSET_RESET and "out of range" in error.str():
        return KafkaFailure(1)
    # Its own negative codes are no answer of the cluster.
    return KafkaFailure(error.code()) if error.code() >= 0 else KafkaException(error)


def waited(futures):
    """The one result of an admin call."""
    (future,) = futures.values()
    try:
        return future.result(30)
    except KafkaException as e:
        raise failure(e.args[0]) from e


def records(messages):
    for message in messages:
        if message.error():
            raise failure(message.error())
    return [Record(m.topic(), m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers()) for m in messages]


class Sender:
    def __init__(self, config):
        self.producer = Producer(config)

    def send(self, topic, partition, timestamp, key, value, headers):
        handle = {}
        self.producer.produce(topic, value, key, partition, timestamp=timestamp, headers=headers,
                              on_delivery=lambda error, message: handle.update(error=error, offset=message.offset()))
        return handle

    def flush(self):
        if self.producer.flush(60):
            raise TimeoutError("flush")

    def result(self, handle):
        while not handle:
            self.producer.poll(1)
        if handle["error"]:
            raise failure(handle["error"])
        return handle["offset"]

    def close(self):
        self.flush()


class Reader:
    def __init__(self, config):
        self.consumer = Consumer(config)
        self.close = self.consumer.close

    def assign(self, offsets):
        self.consumer.assign([TopicPartition(*at, offset) for at, offset in offsets.items()])

    def poll(self, timeout):
        return records(self.consumer.consume(500, timeout))

    def bounds(self, partitions):
        return {at: self.consumer.get_watermark_offsets(TopicPartition(*at), timeout=10, cached=False) for at in partitions}

    def offset_for_time(self, at, timestamp):
        (found,) = self.consumer.offsets_for_times([TopicPartition(*at, timestamp)], 10)
        return found.offset if found.offset >= 0 else None


class GroupReader(Reader):
    def __init__(self, config, topics):
        super().__init__(config)
        self.consumer.subscribe(topics)

    def assignment(self):
        return {(at.topic, at.partition) for at in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit(asynchronous=False)


class Client:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    null_headers = True

    def __init__(self, bootstrap):
        self.config_base = {"bootstrap.servers": bootstrap, "log_level": 3}
        self.admin = AdminClient(self.config_base)

    def producer(self, idempotent, acks, codec):
        return Sender({**self.config_base, "enable.idempotence": idempotent, "acks": acks,
                       "compression.type": codec, "message.max.bytes": 3_000_000})

    def reader(self, isolation):
        # librdkafka wants a group id even to assign by hand; nothing is committed to it.
        return Reader({**self.config_base, "group.id": "none", "enable.auto.commit": False,
                       "auto.offset.reset": "error", "isolation.level": isolation})

    def member(self, group, topics):
        config = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        if os.environ.get("GROUP_PROTOCOL") == "consumer":
            config["group.protocol"] = "consumer"
        else:
            config.update({"session.timeout.ms": 10_000, "heartbeat.interval.ms": 300})
        return GroupReader({**self.config_base, **config}, topics)

    def committed(self, group, partitions):
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(*at) for at in partitions])
        found = waited(self.admin.list_consumer_group_offsets([request])).topic_partitions
        return {(at.topic, at.partition): at.offset for at in found}

    def create(self, topic, partitions, configs):
        waited(self.admin.create_topics([NewTopic(topic, partitions, -1, config=configs)]))

    def delete(self, topic):
        waited(self.admin.delete_topics([topic], operation_timeout=10))

    def topics(self):
        return set(self.admin.list_topics(timeout=10).topics)

    def describe(self, topic):
        found = self.admin.list_topics(topic, timeout=10)
        described = found.topics[topic]
        if described.error:
            raise failure(described.error)
        partitions = described.partitions.values()
        return len(partitions), all(p.leader in found.brokers and p.leader in p.replicas and p.leader in p.isrs
                                    for p in partitions)

    def config(self, topic, key):
        return waited(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[key].value

    def groups(self):
        return [group.group_id for group in self.admin.list_consumer_groups().result(30).valid]

    def close(self):
        pass
