"""The script of ../README.md for the Python clients.

    script.py LIBRARY BOOTSTRAP RUN DISKLESS CLASSIC

A library is a module `client_<library>` with one class `Client`; this file knows what to do, that one how to say it.
"""

import hashlib
import importlib
import sys
import threading
import time
from collections import namedtuple

PARTITIONS = 3
FIRST_TIMESTAMP, TIMESTAMP_STEP = 1_000_000, 10
KINDS = ("diskless", "classic")

Record = namedtuple("Record", "topic partition offset timestamp key value headers")


class KafkaFailure(Exception):
    """An error the cluster answered, by its number in the Kafka protocol."""

    def __init__(self, code):
        super().__init__(f"Kafka error {code}")
        self.code = code


def text(value):
    if value is None:
        return "null"
    if len(value) > 100:
        return f"{len(value)}#{sha(value)}"
    return value.decode()


def sha(value):
    return hashlib.sha256(value).hexdigest()[:16]


def canonical(r):
    headers = ",".join(f"{key}={text(value)}" for key, value in r.headers or ())
    return f"{r.offset}|{r.timestamp}|{text(r.key)}|{text(r.value)}|{headers}"


def digest(records):
    return sha("".join(canonical(r) + "\n" for r in records).encode())


def outcome(action):
    try:
        action()
        return "ok"
    except KafkaFailure as e:
        return f"error={e.code}"


def eventually(action):
    """A broker that has not heard of a new topic yet says so; the next try asks another, or later."""
    for attempt in range(101):
        try:
            return action()
        except KafkaFailure as e:
            if e.code != 3 or attempt == 100:
                raise
            time.sleep(0.1)


def consecutive(offsets, first):
    if offsets != list(range(first, first + len(offsets))):
        return f"{offsets} WRONG"
    return f"{offsets[0]}..{offsets[-1]} ok"


def large(size, n):
    return (bytes((i * 31 + n) % 251 for i in range(251)) * (size // 251 + 1))[:size]


class Member:
    """A group member that polls on its own thread, so that two of them can rebalance against each other."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.lock = threading.Lock()
        self.got, self.assigned, self.failure = [], set(), None
        self.commit_wanted, self.committed, self.stopping = threading.Event(), threading.Event(), False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping:
                batch = self.consumer.poll(0.1)
                with self.lock:
                    self.got += batch
                self.assigned = self.consumer.assignment()
                if self.commit_wanted.is_set():
                    self.commit_wanted.clear()
                    self.consumer.commit()
                    self.committed.set()
            self.consumer.close()
        except Exception as e:
            self.failure = e

    def take(self):
        if self.failure:
            raise self.failure
        with self.lock:
            taken, self.got = self.got, []
            return taken

    def commit(self):
        self.committed.clear()
        self.commit_wanted.set()
        if not self.committed.wait(30):
            raise self.failure or TimeoutError("commit")

    def close(self):
        self.stopping = True
        self.thread.join(30)
        if self.failure or self.thread.is_alive():
            raise self.failure or TimeoutError("close")


class Script:
    def __init__(self, client, run, names):
        self.client, self.run, self.names = client, run, names
        self.labels = {(names[kind], p): f"{kind} p{p}" for kind in KINDS for p in range(PARTITIONS)}
        # The next offset of every partition: the program is the only writer, so it knows.
        self.next = dict.fromkeys(self.labels, 0)

    # ---- producing

    def number(self, at):
        self.next[at] += 1
        return self.next[at] - 1

    @staticmethod
    def send(producer, at, n, key, value, headers=None):
        return producer.send(*at, FIRST_TIMESTAMP + TIMESTAMP_STEP * n, key, value, headers or [])

    def send_next(self, producer, at):
        n = self.number(at)
        return self.send(producer, at, n, f"k{n}".encode(), f"{self.labels[at]} n{n}".encode())

    def fill(self, producer, count):
        """`count` records to every partition, both topics mixed; the offsets acknowledged."""
        sent = {at: [] for at in self.next}
        for _ in range(count):
            for at in self.next:
                sent[at].append(self.send_next(producer, at))
        producer.flush()
        return {at: [producer.result(one) for one in handles] for at, handles in sent.items()}

    def codecs(self):
        for codec in self.client.codecs:
            first = dict(self.next)
            producer = self.client.producer(True, "all", codec)
            offsets = self.fill(producer, 10)
            # A second flush: the sequence numbers must go on from the first batch's.
            for at, more in self.fill(producer, 10).items():
                offsets[at] += more
            producer.close()
            for at, all_of_it in offsets.items():
                print(f"produce idempotent acks=all {codec} {self.labels[at]} offsets {consecutive(all_of_it, first[at])}")

    def acks(self):
        for acks in ("1", "0"):
            first = dict(self.next)
            producer = self.client.producer(False, acks, "none")
            offsets = self.fill(producer, 5)
            producer.close()
            # acks=0 is answered by nobody: the end offset tells when it has arrived.
            ends = self.await_ends()
            for at, all_of_it in offsets.items():
                got = f"end {ends[at]}" if acks == "0" else f"offsets {consecutive(all_of_it, first[at])}"
                print(f"produce acks={acks} {self.labels[at]} {got}")

    def await_ends(self):
        reader = self.client.reader("read_uncommitted")
        for _ in range(100):
            ends = {at: end for at, (_, end) in reader.bounds(list(self.next)).items()}
            if ends == self.next:
                break
            time.sleep(0.1)
        reader.close()
        return ends

    def shapes(self):
        shapes = [(None, b"no key"), (b"no value", None), (b"empty value", b""), (b"", b"empty key"),
                  ("ключ".encode(), "žluťoučký".encode())]
        headers = [("a", b"1"), ("a", b"2"), ("b", None), ("c", b"")]
        headers = [(key, value) for key, value in headers if value is not None or self.client.null_headers]
        producer = self.client.producer(True, "all", "none")
        for kind in KINDS:
            at = (self.names[kind], 0)
            first = self.next[at]
            for key, value in shapes:
                producer.result(self.send(producer, at, self.number(at), key, value))
            producer.result(self.send(producer, at, self.number(at), b"k", b"headers", headers))
            reader = self.client.reader("read_uncommitted")
            reader.assign({at: first})
            for r in self.read_to(reader, self.next[at]):
                print(f"shape {self.labels[at]} {canonical(r)}")
            reader.close()
        producer.close()

    def large(self):
        producer = self.client.producer(True, "all", "none")
        for kind in KINDS:
            at = (self.names[kind], 1)
            sent = []
            for _ in range(4):
                n = self.number(at)
                sent.append(self.send(producer, at, n, None, large(900_000, n)))
            producer.flush()
            for one in sent:
                print(f"large {self.labels[at]} offset {producer.result(one)}")
        producer.close()
        producer = self.client.producer(False, "all", "none")
        for kind in KINDS:
            at = (self.names[kind], 1)
            print(f"too large {self.labels[at]}",
                  outcome(lambda: producer.result(self.send(producer, at, 0, None, large(1_200_000, 0)))))
        producer.close()

    # ---- reading

    @staticmethod
    def read_to(reader, end):
        got, deadline = [], time.monotonic() + 30
        while not got or got[-1].offset < end - 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"read stopped after {len(got)} records")
            got += reader.poll(0.2)
        return got

    def offsets(self):
        reader = self.client.reader("read_uncommitted")
        for at, (begin, end) in reader.bounds(list(self.next)).items():
            print(f"offsets {self.labels[at]} begin={begin} end={end}")
        reader.close()

    def read(self, isolation):
        # All six partitions at once: the fetcher must keep both kinds of leader busy.
        reader = self.client.reader(isolation)
        reader.assign(dict.fromkeys(self.next, 0))
        got, deadline = {at: [] for at in self.next}, time.monotonic() + 30
        while sum(map(len, got.values())) < sum(self.next.values()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"read stopped: {({self.labels[at]: len(rs) for at, rs in got.items()})}")
            for r in reader.poll(0.2):
                got[r.topic, r.partition].append(r)
        reader.close()
        for at, records in got.items():
            offsets = consecutive([r.offset for r in records], 0)
            print(f"read {isolation} {self.labels[at]} offsets {offsets} sha256={digest(records)}")

    def first_at(self, at, offset):
        reader = self.client.reader("read_uncommitted")
        try:
            reader.assign({at: offset})
            return self.read_to(reader, 0)[0].offset
        finally:
            reader.close()

    def seek(self):
        reader = self.client.reader("read_uncommitted")
        for kind in KINDS:
            at = (self.names[kind], 1)
            for offset in (57, 0, self.next[at] - 1):
                print(f"seek {self.labels[at]} offset={offset} read={self.first_at(at, offset)}")
            # Exactly on a record, between two, before the first, after the last.
            for timestamp in (1_000_500, 1_000_495, 1, 9_999_999):
                found = reader.offset_for_time(at, timestamp)
                if found is None:
                    print(f"seek-by-time {self.labels[at]} ts={timestamp} none")
                else:
                    print(f"seek-by-time {self.labels[at]} ts={timestamp} offset={found} read={self.first_at(at, found)}")
            print(f"seek {self.labels[at]} offset=1000000 {outcome(lambda: self.first_at(at, 1_000_000))}")
        reader.close()

    # ---- the group

    def await_records(self, position, *members):
        """Takes exactly the records up to `next` from all members together: none lost, none twice, in order."""
        got, order = {at: [] for at in self.next}, "order ok"
        wanted, count = sum(self.next.values()) - sum(position.values()), 0
        deadline = time.monotonic() + 60
        while count < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"group read {count} of {wanted}")
            time.sleep(0.02)
            for r in (r for member in members for r in member.take()):
                at = (r.topic, r.partition)
                if r.offset != position[at]:
                    order = f"WRONG at {self.labels[at]} {r.offset}"
                position[at] = r.offset + 1
                got[at].append(r)
                count += 1
        return f"{count} sha256={digest(r for rs in got.values() for r in rs)} {order}"

    def await_assignment(self, *members):
        deadline = time.monotonic() + 60
        while True:
            shares = [sorted(member.assigned) for member in members]
            if all(shares) and sorted(sum(shares, [])) == sorted(self.next):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no full assignment: {shares}")
            time.sleep(0.05)

    def committed(self, group):
        offsets = self.client.committed(group, list(self.next))
        for at, label in self.labels.items():
            print(f"group committed {label} {offsets[at]}")

    def group(self):
        group = f"{self.run}-group"
        position = dict.fromkeys(self.next, 0)
        producer = self.client.producer(True, "all", "none")

        def member():
            return Member(self.client.member(group, list(self.names.values())))

        first = member()
        print("group first read", self.await_records(position, first))
        first.commit()
        first.close()
        self.committed(group)

        self.fill(producer, 10)
        a = member()
        print("group resumed read", self.await_records(position, a))
        a.commit()

        b = member()
        self.await_assignment(a, b)
        print(f"group rebalance 2 members share {len(self.next)} partitions ok")
        self.fill(producer, 5)
        print("group two members read", self.await_records(position, a, b))
        a.commit()
        b.commit()
        b.close()

        self.await_assignment(a)
        self.fill(producer, 5)
        print("group takeover read", self.await_records(position, a))
        a.commit()
        a.close()
        self.committed(group)
        producer.close()

    # ---- admin

    def listed(self, expected):
        for _ in range(100):
            present = self.client.topics()
            found = [kind + suffix for kind in KINDS for suffix in ("", ".tmp") if self.names[kind] + suffix in present]
            # A broker's metadata may lag behind the controller's answer.
            if found == expected:
                break
            time.sleep(0.1)
        return ",".join(found)

    def describe(self, topic):
        for _ in range(100):
            partitions, led = eventually(lambda: self.client.describe(topic))
            if led:
                break
            time.sleep(0.1)
        return f"partitions={partitions} leaders={'ok' if led else 'WRONG'}"

    def config(self, topic, key):
        return f"{key}={eventually(lambda: self.client.config(topic, key))}"

    def admin(self):
        client, names = self.client, self.names
        for kind in KINDS:
            for _ in range(2):
                print(f"admin create {kind}.tmp",
                      outcome(lambda: client.create(names[kind] + ".tmp", 2, {"retention.ms": "86400000"})))
        print("admin list", self.listed(["diskless", "diskless.tmp", "classic", "classic.tmp"]))
        for kind in KINDS:
            print(f"admin describe {kind} {self.describe(names[kind])}")
            print(f"admin describe {kind}.tmp {self.describe(names[kind] + '.tmp')}")
            print(f"admin config {kind} {self.config(names[kind], 'max.message.bytes')}")
            print(f"admin config {kind}.tmp {self.config(names[kind] + '.tmp', 'retention.ms')}")
        for kind in KINDS:
            print(f"admin delete {kind}.tmp {outcome(lambda: client.delete(names[kind] + '.tmp'))}")
        print("admin list", self.listed(["diskless", "classic"]))
        for kind in KINDS:
            print(f"admin delete {kind}.tmp {outcome(lambda: client.delete(names[kind] + '.tmp'))}")
        mine = {group.removeprefix(f"{self.run}-") for group in client.groups() if group.startswith(f"{self.run}-")}
        print("admin groups", ",".join(sorted(mine)))


def main(library, bootstrap, run, diskless, classic):
    client = importlib.import_module(f"client_{library}").Client(bootstrap)
    script = Script(client, run, {"diskless": diskless, "classic": classic})
    script.codecs()
    script.acks()
    script.shapes()
    script.large()
    script.offsets()
    script.read("read_uncommitted")
    script.read("read_committed")
    script.seek()
    script.group()
    script.admin()
    client.close()


if __name__ == "__main__":
    sys.modules["script"] = sys.modules["__main__"]  # so that the clients' KafkaFailure is this one
    main(*sys.argv[1:])
