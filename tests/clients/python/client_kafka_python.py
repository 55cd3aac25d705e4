"""kafka-python."""

import logging

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import BrokerResponseError

from script import KafkaFailure, Record

logging.basicConfig(level=logging.ERROR)


def asked(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except BrokerResponseError as e:
        raise KafkaFailure(e.errno) from e


class Sender:
    def __init__(self, config):
        self.producer = KafkaProducer(**config)
        self.flush, self.close = self.producer.flush, self.producer.close

    def send(self, topic, partition, timestamp, key, value, headers):
        return self.producer.send(topic, value, key, headers, partition, timestamp)

    def result(self, handle):
        return asked(handle.get, 60).offset


class Reader:
    def __init__(self, config):
        self.consumer = KafkaConsumer(**config)

    def assign(self, offsets):
        self.consumer.assign([TopicPartition(*at) for at in offsets])
        for at, offset in offsets.items():
            self.consumer.seek(TopicPartition(*at), offset)

    def poll(self, timeout):
        batches = asked(self.consumer.poll, timeout_ms=int(timeout * 1000))
        return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                for batch in batches.values() for r in batch]

    def bounds(self, partitions):
        tps = {at: TopicPartition(*at) for at in partitions}
        begins, ends = (ask(list(tps.values())) for ask in (self.consumer.beginning_offsets, self.consumer.end_offsets))
        return {at: (begins[tp], ends[tp]) for at, tp in tps.items()}

    def offset_for_time(self, at, timestamp):
        found = self.consumer.offsets_for_times({TopicPartition(*at): timestamp})[TopicPartition(*at)]
        return found and found.offset

    def close(self):
        self.consumer.close(autocommit=False)


class GroupReader(Reader):
    def __init__(self, config, topics):
        super().__init__(config)
        self.consumer.subscribe(topics)

    def assignment(self):
        return {(tp.topic, tp.partition) for tp in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit()


class Client:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    null_headers = False

    def __init__(self, bootstrap):
        self.base = {"bootstrap_servers": bootstrap}
        self.admin = KafkaAdminClient(**self.base)
        self.close = self.admin.close

    def producer(self, idempotent, acks, codec):
        return Sender({**self.base, "enable_idempotence": idempotent, "acks": acks if acks == "all" else int(acks),
                       "compression_type": None if codec == "none" else codec, "linger_ms": 5,
                       "max_request_size": 3_000_000})

    def reader(self, isolation):
        return Reader({**self.base, "group_id": None, "enable_auto_commit": False, "auto_offset_reset": "none",
                       "isolation_level": isolation})

    def member(self, group, topics):
        return GroupReader({**self.base, "group_id": group, "enable_auto_commit": False,
                            "auto_offset_reset": "earliest", "session_timeout_ms": 10_000,
                            "heartbeat_interval_ms": 300}, topics)

    def committed(self, group, partitions):
        found = self.admin.list_group_offsets({group: [TopicPartition(*at) for at in partitions]})[group]
        return {at: found[TopicPartition(*at)].offset for at in partitions}

    def create(self, topic, partitions, configs):
        asked(self.admin.create_topics, {topic: {"num_partitions": partitions, "configs": configs}})

    def delete(self, topic):
        asked(self.admin.delete_topics, [topic])

    def topics(self):
        return set(self.admin.list_topics())

    def describe(self, topic):
        (described,) = self.admin.describe_topics([topic])
        if described["error_code"]:
            raise KafkaFailure(described["error_code"])
        nodes = {broker["broker_id"] for broker in self.admin.describe_cluster()["brokers"]}
        partitions = described["partitions"]
        return len(partitions), all(p["leader_id"] in nodes and p["leader_id"] in p["replica_nodes"]
                                    and p["leader_id"] in p["isr_nodes"] for p in partitions)

    def config(self, topic, key):
        asked_for = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = asked(self.admin.describe_configs, [asked_for], config_filter="all")
        return found["topic"][topic][key]["value"]

    def groups(self):
        # Every node is asked, and some answer for all: the script takes the names once.
        return [group["group_id"] for group in self.admin.list_groups()]
