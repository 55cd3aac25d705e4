"""aiokafka, driven from threads: its event loop runs on one of its own."""

import asyncio
import logging
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, OffsetOutOfRangeError

from script import KafkaFailure, Record

logging.basicConfig(level=logging.CRITICAL)

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(awaitable):
    async def run():
        return await awaitable

    try:
        return asyncio.run_coroutine_threadsafe(run(), loop).result(60)
    except OffsetOutOfRangeError as e:
        raise KafkaFailure(1) from e
    except BrokerResponseError as e:
        raise KafkaFailure(e.errno) from e


def started(make):
    """The constructors want a running loop, too."""

    async def run():
        made = make()
        await made.start()
        return made

    return wait(run())


class Sender:
    def __init__(self, config):
        self.producer = started(lambda: AIOKafkaProducer(**config))

    def send(self, topic, partition, timestamp, key, value, headers):
        return wait(self.producer.send(topic, value, key, partition, timestamp, headers))

    def flush(self):
        wait(self.producer.flush())

    def result(self, handle):
        acknowledged = wait(handle)
        return acknowledged.offset if acknowledged else -1

    def close(self):
        wait(self.producer.stop())


class Reader:
    def __init__(self, config):
        self.consumer = started(lambda: AIOKafkaConsumer(**config))

    def assign(self, offsets):
        async def assign():
            self.consumer.assign([TopicPartition(*at) for at in offsets])
            for at, offset in offsets.items():
                self.consumer.seek(TopicPartition(*at), offset)

        wait(assign())

    def poll(self, timeout):
        batches = wait(self.consumer.getmany(timeout_ms=int(timeout * 1000)))
        return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                for batch in batches.values() for r in batch]

    def bounds(self, partitions):
        tps = {at: TopicPartition(*at) for at in partitions}
        begins, ends = (wait(ask(list(tps.values()))) for ask in (self.consumer.beginning_offsets, self.consumer.end_offsets))
        return {at: (begins[tp], ends[tp]) for at, tp in tps.items()}

    def offset_for_time(self, at, timestamp):
        found = wait(self.consumer.offsets_for_times({TopicPartition(*at): timestamp}))[TopicPartition(*at)]
        return found and found.offset

    def close(self):
        wait(self.consumer.stop())


class GroupReader(Reader):
    def __init__(self, config, topics):
        super().__init__(config)

        async def subscribe():
            self.consumer.subscribe(topics)

        wait(subscribe())

    def assignment(self):
        return {(tp.topic, tp.partition) for tp in self.consumer.assignment()}

    def commit(self):
        wait(self.consumer.commit())


class Client:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    null_headers = True

    def __init__(self, bootstrap):
        self.base = {"bootstrap_servers": bootstrap}
        self.admin = started(lambda: AIOKafkaAdminClient(**self.base))

    def close(self):
        wait(self.admin.close())

    def producer(self, idempotent, acks, codec):
        return Sender({**self.base, "enable_idempotence": idempotent, "acks": acks if acks == "all" else int(acks),
                       "compression_type": None if codec == "none" else codec, "linger_ms": 5,
                       "max_request_size": 3_000_000})

    def reader(self, isolation):
        return Reader({**self.base, "enable_auto_commit": False, "auto_offset_reset": "none",
                       "isolation_level": isolation})

    def member(self, group, topics):
        return GroupReader({**self.base, "group_id": group, "enable_auto_commit": False,
                            "auto_offset_reset": "earliest", "session_timeout_ms": 10_000,
                            "heartbeat_interval_ms": 300}, topics)

    def committed(self, group, partitions):
        tps = {at: TopicPartition(*at) for at in partitions}
        found = wait(self.admin.list_consumer_group_offsets(group, partitions=list(tps.values())))
        return {at: found[tp].offset for at, tp in tps.items()}

    def create(self, topic, partitions, configs):
        # Its NewTopic refuses replication factor -1.
        answer = wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
        self.check(answer.topic_errors)

    def delete(self, topic):
        self.check(wait(self.admin.delete_topics([topic])).topic_error_codes)

    @staticmethod
    def check(errors):
        for error in errors:
            if error[1]:
                raise KafkaFailure(error[1])

    def topics(self):
        return set(wait(self.admin.list_topics()))

    def describe(self, topic):
        (described,) = wait(self.admin.describe_topics([topic]))
        if described["error_code"]:
            raise KafkaFailure(described["error_code"])
        nodes = {broker["node_id"] for broker in wait(self.admin.describe_cluster())["brokers"]}
        partitions = described["partitions"]
        return len(partitions), all(p["leader"] in nodes and p["leader"] in p["replicas"] and p["leader"] in p["isr"]
                                    for p in partitions)

    def config(self, topic, key):
        (answer,) = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        (resource,) = answer.resources
        if resource[0]:
            raise KafkaFailure(resource[0])
        return {entry[0]: entry[1] for entry in resource[4]}[key]

    def groups(self):
        return [group for group, _ in wait(self.admin.list_consumer_groups())]
