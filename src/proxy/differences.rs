//! Where a diskless topic answers producers and consumers otherwise than a broker, and why.
//!
//! `docs/protocol.md` is printed with it; `tests/e2e/raw/differential`
//! look for any other difference, and name each of these with both answers.

/// A section of `docs/protocol.md`.
pub const DIFFERENCES: &str = "
## Differences from a broker

A Produce request to a diskless topic is checked, answered and stored as Apache Kafka 4.3 does with \
a classic topic of the same configs: `tests/e2e/raw/differential/produce` sends both the same and compares \
the answers and what is read afterwards.
These are the differences, each on purpose:

- **Null records** are refused with INVALID_RECORD; a broker never answers such a request and leaves \
the connection hanging. A length below −1 before version 9, which a broker takes for null, closes the \
connection.
- **A partition that is named twice in one request** is appended to twice and answered twice, in \
order. A broker drops all but the last of them, acknowledges the drop, and may refuse what it appended.
- **Transactional batches** are refused, with INVALID_TXN_STATE, whether the transaction is known or \
not: diskless topics have no transactions. Without a transactional id the whole request is refused \
with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by a broker.
- **A producer id with a negative epoch** is refused with INVALID_RECORD. A broker takes the epoch −1, \
but neither keeps the order of its sequences nor gives it to any client.
- **An LZ4 frame with a wrong content checksum or size** is refused with UNKNOWN_SERVER_ERROR. A \
broker does not look at them, but some consumers do, and could not read the batch.
- **A batch that opens to more than 64 MiB** is refused with MESSAGE_TOO_LARGE. A broker opens any, \
as far as its heap goes.
- **Records refused by a rule of the topic** are named one by one up to the first 1,000 of a batch; \
a broker names all.
- **A refusal says why** in `error_message` in more cases, from the version on that has one. The words \
are not the broker's.
- **The rows of an answer** come in the order of the request; a broker's order is accidental.
- **`compression.lz4.level`** changes nothing: there is one level. The bytes of a batch that is \
compressed anew are another library's, so that one near `max.message.bytes` may fit here and not \
there, or the other way round.
- **`segment.bytes`** bounds nothing: there are no segments. A broker refuses a batch that is larger \
with RECORD_LIST_TOO_LARGE.
- **`cleanup.policy` with `compact`** is refused with INVALID_CONFIG when it is set through Odradek. \
Set at a broker directly, it asks producers for keys, as on any compacted topic, but nothing is \
compacted; a warning is logged.
- **Idempotent producers expire** after a day without a batch, whatever the broker's \
`producer.id.expiration.ms`.
- **Until a topic's configs are known**, within its first second and only if no broker tells them, \
Kafka's defaults hold, without bounds for timestamps.

Fetch, ListOffsets, OffsetForLeaderEpoch, DescribeProducers and DeleteRecords are compared in the \
same way by `tests/e2e/raw/differential/fetch`. Of these, this differs:

- **Any leader epoch is accepted** in Fetch, ListOffsets and OffsetForLeaderEpoch, where a broker says \
FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH: the log is the same whoever serves it, and another \
replica may have told the client of an epoch that this one has not heard of.
- **The end of any epoch from 0 on** is the high watermark: a diskless log is never truncated. A \
broker does not know an epoch of the future (−1).
- **`last_fetched_epoch`** is not looked at: logs do not diverge. A broker says where they do, or \
OFFSET_OUT_OF_RANGE; only followers ask.
- **The greatest timestamp (−3)** is looked for among the records that can be read. A broker also \
names one that was deleted, as long as its segment is there.
- **Only whole batches** are given. A broker may cut the last one of a partition, which a consumer \
must ignore.
- **A negative `max_bytes`** counts as 0: the first batch alone is given. A broker fails the first \
partition that has records with UNKNOWN_SERVER_ERROR and gives a batch of a later one.
- **Two unknown topic ids in one session** are each answered with UNKNOWN_TOPIC_ID. A broker mistakes \
one for the other and refuses the whole fetch with UNKNOWN_SERVER_ERROR.
- **A consumer's `client.rack`** that names another zone in which a replica lives is answered with that \
zone's node, as by a broker with a `RackAwareReplicaSelector`, whatever the brokers have configured.
- **The current leader** is not told to followers from Fetch 16 on, versions that are not announced: \
nobody else leads.
";
