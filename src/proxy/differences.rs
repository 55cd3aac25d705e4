//! The differences between diskless topics and a broker, and their reasons.
//!
//! A section of `docs/protocol.md`. The tests in `tests/e2e/raw/differential` fail on any other
//! difference, and name each of these with both responses.

/// A section of `docs/protocol.md`.
pub const DIFFERENCES: &str = "
## Differences from a broker

A Produce request to a diskless topic is checked, answered and stored as Apache Kafka 4.3 does with \
a classic topic of the same configs: `tests/e2e/raw/differential/produce` sends the same requests to \
both and compares the responses and the records that are read afterwards.
The following differences are intentional:

- **Null records** are rejected with INVALID_RECORD; a broker never responds to such a request and leaves \
the connection hanging. A length below −1 before version 9, which a broker treats as null, closes the \
connection.
- **A partition named twice in one request** is appended to twice and answered twice, in order. A \
broker drops all but the last of them, acknowledges the dropped ones, and may reject what it appended.
- **Transactional batches** are rejected with INVALID_TXN_STATE, whether the transaction is known or \
not: diskless topics have no transactions. Without a transactional id the whole request is rejected \
with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by a broker.
- **A producer id with a negative epoch** is rejected with INVALID_RECORD. A broker accepts the epoch −1, \
but neither enforces the order of its sequences nor assigns it to any client.
- **An LZ4 frame with a wrong content checksum or size** is rejected with UNKNOWN_SERVER_ERROR. A \
broker does not verify them, but some consumers do, and could not read the batch.
- **A batch that decompresses to more than 64 MiB** is rejected with MESSAGE_TOO_LARGE. A broker \
decompresses any batch that fits its heap.
- **Records rejected by a rule of the topic** are listed individually up to the first 1,000 of a batch; \
a broker lists all.
- **The reason for a rejection** is in `error_message` in more cases, from the version on that has the \
field. The wording differs from a broker's.
- **The rows of a response** have the order of the request; the order of a broker is arbitrary.
- **`compression.lz4.level`** has no effect: there is one level. A batch that is recompressed is \
compressed by another library than the broker's, so one close to `max.message.bytes` may fit here and \
not there, or vice versa.
- **`segment.bytes`** limits nothing: there are no segments. A broker rejects a larger batch with \
RECORD_LIST_TOO_LARGE.
- **`cleanup.policy` with `compact`** is rejected with INVALID_CONFIG when it is set through Odradek. \
If it is set at a broker directly, records need keys, as in any compacted topic, but nothing is \
compacted; a warning is logged.
- **Idempotent producers expire** after a day without a batch, whatever the broker's \
`producer.id.expiration.ms`.
- **Until the configs of a topic are known**, within its first second and only if no broker provides \
them, Kafka's defaults apply, without limits for timestamps.

Fetch, ListOffsets, OffsetForLeaderEpoch, DescribeProducers and DeleteRecords are compared in the \
same way by `tests/e2e/raw/differential/fetch`. They have these differences:

- **Any leader epoch is accepted** in Fetch, ListOffsets and OffsetForLeaderEpoch, where a broker responds \
with FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH: the log is the same whichever replica serves it, and \
another replica may have reported an epoch that this one does not know yet.
- **The end offset of any epoch from 0 on** is the high watermark: a diskless log is never truncated. A \
broker responds with −1 for a future epoch.
- **`last_fetched_epoch`** is ignored: logs do not diverge. A broker responds with the diverging epoch, or \
OFFSET_OUT_OF_RANGE; only followers send it.
- **The greatest timestamp (−3)** is searched for among the records that can be read. A broker also \
returns one that was deleted, as long as its segment exists.
- **Only whole batches** are returned. A broker may truncate the last one of a partition, which a \
consumer must ignore.
- **A negative `max_bytes`** counts as 0: only the first batch is returned. A broker fails the first \
partition that has records with UNKNOWN_SERVER_ERROR and returns a batch of a later one.
- **Two unknown topic ids in one session** are each answered with UNKNOWN_TOPIC_ID. A broker confuses \
them and rejects the whole fetch with UNKNOWN_SERVER_ERROR.
- **A consumer's `client.rack`** that names another zone with a live replica is answered with that \
zone's node, as by a broker with a `RackAwareReplicaSelector`, whatever is configured on the brokers.
- **The current leader** is not reported to followers from Fetch 16 on, in versions that are not \
advertised: there is no other leader.
";
