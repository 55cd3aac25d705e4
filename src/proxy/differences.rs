//! The differences between a diskless topic and a topic of a broker that producers and consumers
//! observe, with the reasons.
//!
//! `docs/protocol.md` includes this text. `tests/e2e/raw/differential` looks for any other difference,
//! and lists each of these with both responses.

/// A section of `docs/protocol.md`.
pub const DIFFERENCES: &str = "
## Differences from a broker

A Produce request to a diskless topic is validated, answered and stored as Apache Kafka 4.3 does with \
a classic topic of the same configs: `tests/e2e/raw/differential/produce` sends both the same and \
compares the responses and what is read afterwards.
These are the differences, each on purpose:

- **Null records** are rejected with INVALID_RECORD; a broker never responds to such a request and \
leaves the connection hanging. A length below −1 before version 9, which a broker reads as null, \
closes the connection.
- **A partition that is named twice in one request** is appended to twice and answered twice, in \
order. A broker drops all but the last of them, acknowledges the drop, and may reject what it appended.
- **Transactional batches** are rejected with INVALID_TXN_STATE, whether the transaction is known or \
not: diskless topics have no transactions. Without a transactional id the whole request is rejected \
with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by a broker.
- **A producer id with a negative epoch** is rejected with INVALID_RECORD. A broker accepts the epoch \
−1, but neither checks the order of its sequences nor assigns it to any client.
- **An LZ4 frame with a wrong content checksum or size** is rejected with UNKNOWN_SERVER_ERROR. A \
broker does not check them, but some consumers do, and could not read the batch.
- **A batch that decompresses to more than 64 MiB** is rejected with MESSAGE_TOO_LARGE. A broker \
decompresses any batch that fits its heap.
- **Records that violate a rule of the topic** are listed one by one, up to the first 1,000 of a \
batch; a broker lists all.
- **An error has an `error_message`** in more cases, from the version on that has this field. Its \
text differs from the broker's.
- **The partitions of a response** are in the order of the request; a broker's order is accidental.
- **`compression.lz4.level`** has no effect: there is one level. A recompressed batch is compressed \
by another library, so that one near `max.message.bytes` may fit here and not there, or the other way \
round.
- **`segment.bytes`** limits nothing: there are no segments. A broker rejects a larger batch with \
RECORD_LIST_TOO_LARGE.
- **`cleanup.policy` with `compact`** is rejected with INVALID_CONFIG when it is set through Odradek. \
Set at a broker directly, it makes keys mandatory, as on any compacted topic, but nothing is \
compacted; a warning is logged.
- **Idempotent producers expire** after a day without a batch, whatever the broker's \
`producer.id.expiration.ms`.
- **Until a topic's configs are known**, within its first second and only if no broker returns them, \
Kafka's defaults apply, without bounds for timestamps.

Fetch, ListOffsets, OffsetForLeaderEpoch, DescribeProducers and DeleteRecords are compared in the \
same way by `tests/e2e/raw/differential/fetch`. Their differences:

- **Any leader epoch is accepted** in Fetch, ListOffsets and OffsetForLeaderEpoch, where a broker \
returns FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH: the log is the same whichever replica serves it, \
and another replica may have returned an epoch that this one has not observed yet.
- **The end of any epoch from 0 on** is the high watermark: a diskless log is never truncated. A \
broker does not know a future epoch (−1).
- **`last_fetched_epoch`** is ignored: logs do not diverge. A broker returns where they do, or \
OFFSET_OUT_OF_RANGE; only followers send it.
- **The greatest timestamp (−3)** is searched among the readable records. A broker also returns a \
deleted one, as long as its segment exists.
- **Only whole batches** are returned. A broker may cut the last one of a partition, which a consumer \
must ignore.
- **A negative `max_bytes`** counts as 0: only the first batch is returned. A broker fails the first \
partition that has records with UNKNOWN_SERVER_ERROR and returns a batch of a later one.
- **A fetch session ends with the connection that opened it**. A broker keeps it until others need its \
place. Clients open a new session on a new connection.
- **Two unknown topic ids in one session** each get UNKNOWN_TOPIC_ID. A broker confuses one with the \
other and rejects the whole fetch with UNKNOWN_SERVER_ERROR.
- **A consumer's `client.rack`** that names another zone with a live replica is answered with that \
zone's node, as by a broker with a `RackAwareReplicaSelector`, whatever the brokers' configuration.
- **The current leader** is not returned to followers from Fetch 16 on, in versions that are not \
advertised: no other node leads.
";
