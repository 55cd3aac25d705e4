//! THE table: what happens to each Kafka API on a classic endpoint and on a diskless node.
//!
//! `docs/protocol.md` is printed from it. An API that is not here is refused and hidden: a new one
//! may carry addresses or topics that we would let pass unseen.

use std::collections::BTreeMap;

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::differences::DIFFERENCES;

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Forwarded unread, and so is the answer.
    Forward,
    /// Forwarded unless it names a diskless topic; then answered here with an error.
    Guard,
    /// Forwarded with the request or the answer edited.
    Edit,
    /// Answered here.
    Serve,
    /// The connection is closed.
    Reject,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// The API key.
    pub key: i16,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The lowest version that is understood.
    pub min: i16,
    /// The highest version that is advertised; later ones have not been audited.
    pub max: i16,
    /// The highest version that is understood, where a client may send it unasked.
    pub accepted: i16,
    /// On classic endpoints and on the bootstrap port.
    pub classic: Handling,
    /// On diskless nodes.
    pub node: Handling,
    /// What a reader of the table should know.
    pub note: &'static str,
}

const fn api(
    key: i16,
    name: &'static str,
    versions: (i16, i16),
    (classic, node): (Handling, Handling),
    note: &'static str,
) -> Api {
    Api { key, name, min: versions.0, max: versions.1, accepted: versions.1, classic, node, note }
}

const FORWARD: (Handling, Handling) = (Handling::Forward, Handling::Forward);
const EDIT: (Handling, Handling) = (Handling::Edit, Handling::Edit);
const GUARD_OR_SERVE: (Handling, Handling) = (Handling::Guard, Handling::Serve);

/// Every API that is let through in some form, by key.
#[rustfmt::skip]
pub const APIS: &[Api] = &[
    Api { key: 0, name: "Produce", min: 3, max: 13, accepted: 13, classic: Handling::Guard, node: Handling::Serve, note: "Write; advertised from 0, or librdkafka turns compression off (KAFKA-18659); misrouted: NOT_LEADER_OR_FOLLOWER for the whole request" },
    Api { key: 1, name: "Fetch", min: 4, max: 15, accepted: 18, classic: Handling::Guard, node: Handling::Serve, note: "Read, of every partition of the session; clamped so that classic answers carry no addresses; 16 to 18 are answered all the same; a client.rack of another zone is sent there (KIP-392)" },
    api(2, "ListOffsets", (1, 10), GUARD_OR_SERVE, "Describe; the local start is the log start; nothing is tiered (−1)"),
    api(3, "Metadata", (0, 13), EDIT, "also asked by us over the client's own connection, for the operations that it is allowed; lists the diskless nodes of all zones; asked upstream in version 10 or above, for the topic ids"),
    api(8, "OffsetCommit", (0, 10), FORWARD, ""),
    api(9, "OffsetFetch", (0, 10), FORWARD, ""),
    api(10, "FindCoordinator", (0, 6), EDIT, "addresses, of the client's zone"),
    api(11, "JoinGroup", (0, 9), FORWARD, ""),
    api(12, "Heartbeat", (0, 4), FORWARD, ""),
    api(13, "LeaveGroup", (0, 5), FORWARD, ""),
    api(14, "SyncGroup", (0, 5), FORWARD, ""),
    api(15, "DescribeGroups", (0, 6), FORWARD, ""),
    api(16, "ListGroups", (0, 5), (Handling::Forward, Handling::Serve), "empty on diskless nodes: clients ask every node and add up"),
    api(17, "SaslHandshake", (0, 1), FORWARD, "over the client's own broker connection; the tokens without header that follow version 0 close the connection"),
    api(18, "ApiVersions", (0, 4), (Handling::Edit, Handling::Serve), "one table on all endpoints; 5 is answered on diskless nodes, with its node id checked (KIP-1242); transaction.version is clamped to 1"),
    api(19, "CreateTopics", (2, 7), EDIT, "diskless.enable and inkless.enable are taken out and bind the topic id, if the broker creates the topic"),
    api(20, "DeleteTopics", (1, 6), EDIT, "forgets the topic id"),
    api(21, "DeleteRecords", (0, 2), GUARD_OR_SERVE, "Delete"),
    api(22, "InitProducerId", (0, 6), FORWARD, "producer ids come from the cluster"),
    api(23, "OffsetForLeaderEpoch", (2, 4), GUARD_OR_SERVE, "Describe; the asked epoch and the high watermark"),
    api(24, "AddPartitionsToTxn", (0, 3), (Handling::Guard, Handling::Guard), "INVALID_TXN_STATE for diskless partitions until transactions come"),
    api(25, "AddOffsetsToTxn", (0, 4), FORWARD, ""),
    api(26, "EndTxn", (0, 5), FORWARD, ""),
    api(27, "WriteTxnMarkers", (0, 1), (Handling::Forward, Handling::Serve), "Alter or ClusterAction of the cluster; INVALID_TXN_STATE on diskless nodes: there are no transactions to end"),
    api(28, "TxnOffsetCommit", (0, 5), FORWARD, ""),
    api(29, "DescribeAcls", (0, 3), FORWARD, ""),
    api(30, "CreateAcls", (0, 3), FORWARD, ""),
    api(31, "DeleteAcls", (0, 3), FORWARD, ""),
    api(32, "DescribeConfigs", (1, 4), EDIT, "shows diskless.enable; a diskless node describes itself to whom the cluster grants DescribeConfigs"),
    api(33, "AlterConfigs", (0, 2), EDIT, "diskless.enable is taken out and obeyed, once the broker has validated the rest"),
    api(34, "AlterReplicaLogDirs", (0, 2), FORWARD, ""),
    api(35, "DescribeLogDirs", (1, 4), (Handling::Edit, Handling::Serve), "Describe of the cluster; sizes of diskless partitions come from the batch coordinator; placeholders are left out"),
    api(36, "SaslAuthenticate", (0, 2), FORWARD, "from here on the broker's ACLs for this principal hold on this connection"),
    api(37, "CreatePartitions", (0, 3), FORWARD, "new partitions of a diskless topic begin at 0 when first seen"),
    api(38, "CreateDelegationToken", (0, 3), FORWARD, ""),
    api(39, "RenewDelegationToken", (0, 2), FORWARD, ""),
    api(40, "ExpireDelegationToken", (0, 2), FORWARD, ""),
    api(41, "DescribeDelegationToken", (0, 3), FORWARD, ""),
    api(42, "DeleteGroups", (0, 2), FORWARD, ""),
    api(43, "ElectLeaders", (0, 2), FORWARD, "elects the placeholder's leader, which changes nothing for clients"),
    api(44, "IncrementalAlterConfigs", (0, 1), EDIT, "diskless.enable is taken out and obeyed, once the broker has validated the rest: refused on a topic whose broker log holds records"),
    api(45, "AlterPartitionReassignments", (0, 1), FORWARD, "moves the placeholder"),
    api(46, "ListPartitionReassignments", (0, 0), FORWARD, ""),
    api(47, "OffsetDelete", (0, 0), FORWARD, ""),
    api(48, "DescribeClientQuotas", (0, 1), FORWARD, "quotas are not enforced on diskless topics"),
    api(49, "AlterClientQuotas", (0, 1), FORWARD, ""),
    api(50, "DescribeUserScramCredentials", (0, 0), FORWARD, ""),
    api(51, "AlterUserScramCredentials", (0, 0), FORWARD, ""),
    api(55, "DescribeQuorum", (0, 2), FORWARD, "names the controllers' own addresses, which clients do not dial"),
    api(57, "UpdateFeatures", (0, 2), FORWARD, ""),
    api(60, "DescribeCluster", (0, 2), EDIT, "addresses; the diskless nodes of all zones are listed, or kafka-topics --describe shows no leader"),
    api(61, "DescribeProducers", (0, 0), GUARD_OR_SERVE, "Read"),
    api(64, "UnregisterBroker", (0, 0), FORWARD, ""),
    api(65, "DescribeTransactions", (0, 0), FORWARD, ""),
    api(66, "ListTransactions", (0, 2), (Handling::Forward, Handling::Serve), "empty on diskless nodes"),
    api(68, "ConsumerGroupHeartbeat", (0, 1), FORWARD, "assignment works on the placeholder's partitions"),
    api(69, "ConsumerGroupDescribe", (0, 1), FORWARD, ""),
    api(71, "GetTelemetrySubscriptions", (0, 0), FORWARD, "answered here with clients.telemetry, and advertised though brokers without a receiver do not"),
    api(72, "PushTelemetry", (0, 0), FORWARD, "as before"),
    api(74, "ListConfigResources", (0, 1), FORWARD, ""),
    api(75, "DescribeTopicPartitions", (0, 0), EDIT, "leaders of diskless partitions"),
    api(76, "ShareGroupHeartbeat", (1, 1), (Handling::Guard, Handling::Guard), "INVALID_REQUEST for a subscription to a diskless topic: without it the consumer would hang in silence"),
    api(77, "ShareGroupDescribe", (1, 1), FORWARD, ""),
    api(78, "ShareFetch", (1, 1), (Handling::Edit, Handling::Reject), "addresses"),
    api(79, "ShareAcknowledge", (1, 1), (Handling::Edit, Handling::Reject), "addresses"),
    api(80, "AddRaftVoter", (0, 1), FORWARD, ""),
    api(81, "RemoveRaftVoter", (0, 0), FORWARD, ""),
    api(88, "StreamsGroupHeartbeat", (0, 0), FORWARD, ""),
    api(89, "StreamsGroupDescribe", (0, 0), FORWARD, ""),
    api(90, "DescribeShareGroupOffsets", (0, 1), FORWARD, ""),
    api(91, "AlterShareGroupOffsets", (0, 0), FORWARD, ""),
    api(92, "DeleteShareGroupOffsets", (0, 0), FORWARD, ""),
];

/// The row of an API; `None` for what is refused everywhere.
pub fn lookup(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

/// Whether a request of this API is part of an authentication (SaslHandshake, SaslAuthenticate).
pub fn is_sasl(key: i16) -> bool {
    matches!(ApiKey::try_from(key), Ok(ApiKey::SaslHandshake | ApiKey::SaslAuthenticate))
}

/// The lowest and the highest version of APIs, by key.
pub type Versions = BTreeMap<i16, (i16, i16)>;

/// What a broker serves and we let through.
pub fn intersect(response: &ApiVersionsResponse) -> Versions {
    let clamp = |theirs: &kafka_protocol::messages::api_versions_response::ApiVersion| {
        let ours = lookup(theirs.api_key)?;
        // Produce is advertised from 0 although no client may send less than 3.
        let is_produce = ours.key == ApiKey::Produce as i16;
        let min = if is_produce { theirs.min_version } else { theirs.min_version.max(ours.min) };
        let max = theirs.max_version.min(ours.max);
        (min <= max).then_some((theirs.api_key, (min, max)))
    };
    response.api_keys.iter().filter_map(clamp).collect()
}

/// What both of two brokers serve.
pub fn intersect_versions(a: &Versions, b: &Versions) -> Versions {
    let both = |(key, &(min_a, max_a)): (&i16, &(i16, i16))| {
        let &(min_b, max_b) = b.get(key)?;
        let (min, max) = (min_a.max(min_b), max_a.min(max_b));
        (min <= max).then_some((*key, (min, max)))
    };
    a.iter().filter_map(both).collect()
}

/// `docs/protocol.md`.
pub fn protocol_markdown() -> String {
    let word = |on: Handling| match on {
        Handling::Forward => "relayed unread",
        Handling::Guard => "relayed, refused for diskless topics",
        Handling::Edit => "relayed and edited",
        Handling::Serve => "served by Odradek",
        Handling::Reject => "refused",
    };
    let mut out = String::from(PROTOCOL_HEAD);
    for api in APIS {
        let versions = if api.accepted == api.max {
            format!("{}–{}", api.min, api.max)
        } else {
            format!("{}–{} ({} understood)", api.min, api.max, api.accepted)
        };
        let (key, name, note) = (api.key, api.name, api.note);
        let (classic, node) = (word(api.classic), word(api.node));
        out.push_str(&format!("| {key} | {name} | {versions} | {classic} | {node} | {note} |\n"));
    }
    out.push_str(DIFFERENCES);
    out
}

const PROTOCOL_HEAD: &str = "\
# Kafka APIs

Printed from `src/proxy/apis.rs` by `odradek docs protocol`; a test compares the two.

What a diskless node serves, it serves once the broker has let the client in, and only with the \
operation on the topic that the note begins with (Write, Read, Describe, Delete), as a broker \
does: [ADR 0009](adr/0009-the-brokers-own-acls.md). Only ApiVersions and SASL come before.

Versions are the ones that Odradek advertises at most; what the brokers do not serve is not \
advertised either. An API that is not listed is hidden from ApiVersions, and a request for it \
closes the connection, as a broker does with an API that it does not know.

| key | API | versions | classic endpoint | diskless node | note |
|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_versions_make_sense() {
        for pair in APIS.windows(2) {
            assert!(pair[0].key < pair[1].key, "{} is out of order", pair[1].name);
        }
        for api in APIS {
            assert!(api.min <= api.max && api.max <= api.accepted, "{}", api.name);
        }
    }

    #[test]
    fn names_match_kafka_protocol() {
        for api in APIS {
            if let Ok(key) = ApiKey::try_from(api.key) {
                assert_eq!(format!("{key:?}"), api.name);
            }
        }
    }

    #[test]
    fn the_document_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        assert!(document == protocol_markdown(), "run `make docs` to print docs/protocol.md anew");
    }
}
