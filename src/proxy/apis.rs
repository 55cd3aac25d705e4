//! The table of what happens to each Kafka API on classic endpoints and on diskless nodes.
//!
//! `docs/protocol.md` is generated from it. An API that is not listed is rejected and not
//! advertised, because it might carry addresses or topics that the proxy would not see.

use std::collections::BTreeMap;

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::differences::DIFFERENCES;

/// Handling of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Forwarded undecoded, and so is the response.
    Forward,
    /// Forwarded, unless it names a diskless topic: then the proxy responds with an error.
    Guard,
    /// Forwarded, with the request or the response edited.
    Edit,
    /// The proxy responds.
    Serve,
    /// The connection is closed.
    Reject,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// The API key.
    pub key: i16,
    /// The name of the API in Kafka.
    pub name: &'static str,
    /// The lowest supported version.
    pub min: i16,
    /// The highest advertised version; later ones have not been audited.
    pub max: i16,
    /// The highest supported version; clients may send it although it is not advertised.
    pub accepted: i16,
    /// Handling on classic endpoints and on the bootstrap port.
    pub classic: Handling,
    /// Handling on diskless nodes.
    pub node: Handling,
    /// Remarks for readers of the table.
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

/// Every API that is served or forwarded, by key.
#[rustfmt::skip]
pub const APIS: &[Api] = &[
    Api { key: 0, name: "Produce", min: 3, max: 13, accepted: 13, classic: Handling::Guard, node: Handling::Serve, note: "Write; advertised from 0, or librdkafka turns compression off (KAFKA-18659); misrouted: NOT_LEADER_OR_FOLLOWER for the whole request" },
    Api { key: 1, name: "Fetch", min: 4, max: 15, accepted: 18, classic: Handling::Guard, node: Handling::Serve, note: "Read, of every partition of the session; limited so that responses of brokers contain no addresses; 16 to 18 are supported nevertheless; a client.rack of another zone is redirected there (KIP-392)" },
    api(2, "ListOffsets", (1, 10), GUARD_OR_SERVE, "Describe; the local start is the log start; nothing is tiered (−1)"),
    api(3, "Metadata", (0, 13), EDIT, "also requested by Odradek over the client's own connection, for its authorized operations; lists the diskless nodes of all zones; forwarded in version 10 or above, for the topic ids"),
    api(8, "OffsetCommit", (0, 10), FORWARD, ""),
    api(9, "OffsetFetch", (0, 10), FORWARD, ""),
    api(10, "FindCoordinator", (0, 6), EDIT, "addresses in the client's zone"),
    api(11, "JoinGroup", (0, 9), FORWARD, ""),
    api(12, "Heartbeat", (0, 4), FORWARD, ""),
    api(13, "LeaveGroup", (0, 5), FORWARD, ""),
    api(14, "SyncGroup", (0, 5), FORWARD, ""),
    api(15, "DescribeGroups", (0, 6), FORWARD, ""),
    api(16, "ListGroups", (0, 5), (Handling::Forward, Handling::Serve), "empty on diskless nodes: clients ask every node and merge the responses"),
    api(17, "SaslHandshake", (0, 1), FORWARD, "over the client's own broker connection; tokens without a header, which follow version 0, close the connection"),
    api(18, "ApiVersions", (0, 4), (Handling::Edit, Handling::Serve), "the same table on all endpoints; 5 is supported on diskless nodes, which check the node id (KIP-1242); transaction.version is limited to 1"),
    api(19, "CreateTopics", (2, 7), EDIT, "diskless.enable and inkless.enable are removed and bind the topic id, if the broker creates the topic"),
    api(20, "DeleteTopics", (1, 6), EDIT, "deletes the topic id from the coordinator"),
    api(21, "DeleteRecords", (0, 2), GUARD_OR_SERVE, "Delete"),
    api(22, "InitProducerId", (0, 6), FORWARD, "producer ids come from the cluster"),
    api(23, "OffsetForLeaderEpoch", (2, 4), GUARD_OR_SERVE, "Describe; responds with the requested epoch and the high watermark"),
    api(24, "AddPartitionsToTxn", (0, 3), (Handling::Guard, Handling::Guard), "INVALID_TXN_STATE for diskless partitions: transactions are not supported"),
    api(25, "AddOffsetsToTxn", (0, 4), FORWARD, ""),
    api(26, "EndTxn", (0, 5), FORWARD, ""),
    api(27, "WriteTxnMarkers", (0, 1), (Handling::Forward, Handling::Serve), "Alter or ClusterAction of the cluster; INVALID_TXN_STATE on diskless nodes: there are no transactions"),
    api(28, "TxnOffsetCommit", (0, 5), FORWARD, ""),
    api(29, "DescribeAcls", (0, 3), FORWARD, ""),
    api(30, "CreateAcls", (0, 3), FORWARD, ""),
    api(31, "DeleteAcls", (0, 3), FORWARD, ""),
    api(32, "DescribeConfigs", (1, 4), EDIT, "includes diskless.enable; a diskless node describes itself to clients with DescribeConfigs on the cluster"),
    api(33, "AlterConfigs", (0, 2), EDIT, "diskless.enable is removed and applied after the broker has validated the rest"),
    api(34, "AlterReplicaLogDirs", (0, 2), FORWARD, ""),
    api(35, "DescribeLogDirs", (1, 4), (Handling::Edit, Handling::Serve), "Describe of the cluster; sizes of diskless partitions come from the batch coordinator; placeholders are omitted"),
    api(36, "SaslAuthenticate", (0, 2), FORWARD, "afterwards the broker's ACLs for this principal apply to the connection"),
    api(37, "CreatePartitions", (0, 3), FORWARD, "new partitions of a diskless topic begin at offset 0 when first observed"),
    api(38, "CreateDelegationToken", (0, 3), FORWARD, ""),
    api(39, "RenewDelegationToken", (0, 2), FORWARD, ""),
    api(40, "ExpireDelegationToken", (0, 2), FORWARD, ""),
    api(41, "DescribeDelegationToken", (0, 3), FORWARD, ""),
    api(42, "DeleteGroups", (0, 2), FORWARD, ""),
    api(43, "ElectLeaders", (0, 2), FORWARD, "elects the leader of the placeholder, without effect for clients"),
    api(44, "IncrementalAlterConfigs", (0, 1), EDIT, "diskless.enable is removed and applied after the broker has validated the rest; rejected for a topic whose broker log holds records"),
    api(45, "AlterPartitionReassignments", (0, 1), FORWARD, "moves the placeholder"),
    api(46, "ListPartitionReassignments", (0, 0), FORWARD, ""),
    api(47, "OffsetDelete", (0, 0), FORWARD, ""),
    api(48, "DescribeClientQuotas", (0, 1), FORWARD, "quotas are not enforced on diskless topics"),
    api(49, "AlterClientQuotas", (0, 1), FORWARD, ""),
    api(50, "DescribeUserScramCredentials", (0, 0), FORWARD, ""),
    api(51, "AlterUserScramCredentials", (0, 0), FORWARD, ""),
    api(55, "DescribeQuorum", (0, 2), FORWARD, "contains addresses of controllers, to which clients do not connect"),
    api(57, "UpdateFeatures", (0, 2), FORWARD, ""),
    api(60, "DescribeCluster", (0, 2), EDIT, "addresses; lists the diskless nodes of all zones, without which kafka-topics --describe shows no leader"),
    api(61, "DescribeProducers", (0, 0), GUARD_OR_SERVE, "Read"),
    api(64, "UnregisterBroker", (0, 0), FORWARD, ""),
    api(65, "DescribeTransactions", (0, 0), FORWARD, ""),
    api(66, "ListTransactions", (0, 2), (Handling::Forward, Handling::Serve), "empty on diskless nodes"),
    api(68, "ConsumerGroupHeartbeat", (0, 1), FORWARD, "assigns the partitions of the placeholder"),
    api(69, "ConsumerGroupDescribe", (0, 1), FORWARD, ""),
    api(71, "GetTelemetrySubscriptions", (0, 0), FORWARD, "served by Odradek with clients.telemetry, and then advertised although brokers without a receiver do not"),
    api(72, "PushTelemetry", (0, 0), FORWARD, "as above"),
    api(74, "ListConfigResources", (0, 1), FORWARD, ""),
    api(75, "DescribeTopicPartitions", (0, 0), EDIT, "leaders of diskless partitions"),
    api(76, "ShareGroupHeartbeat", (1, 1), (Handling::Guard, Handling::Guard), "INVALID_REQUEST for a subscription to a diskless topic: otherwise the consumer would hang"),
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

/// Returns the row of an API; `None` if the API is rejected everywhere.
pub fn lookup(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

/// Returns whether the API is part of authentication (SaslHandshake, SaslAuthenticate).
pub fn is_sasl(key: i16) -> bool {
    matches!(ApiKey::try_from(key), Ok(ApiKey::SaslHandshake | ApiKey::SaslAuthenticate))
}

/// Returns whether brokers respond to the API before a client has authenticated.
pub fn precedes_login(key: i16) -> bool {
    is_sasl(key) || key == ApiKey::ApiVersions as i16
}

/// Returns whether brokers respond to the API at once, whatever else they do. Clients with nothing but
/// diskless topics need these.
pub fn is_quick(key: i16) -> bool {
    use ApiKey::{ApiVersions, DescribeCluster, FindCoordinator, Metadata};
    matches!(ApiKey::try_from(key), Ok(ApiVersions | DescribeCluster | FindCoordinator | Metadata))
}

/// The lowest and highest version of APIs, by key.
pub type Versions = BTreeMap<i16, (i16, i16)>;

/// Returns the versions that both a broker and the proxy support.
pub fn intersect(response: &ApiVersionsResponse) -> Versions {
    let clamp = |theirs: &kafka_protocol::messages::api_versions_response::ApiVersion| {
        let ours = lookup(theirs.api_key)?;
        // Produce is advertised from version 0, although versions below 3 are rejected.
        let is_produce = ours.key == ApiKey::Produce as i16;
        let min = if is_produce { theirs.min_version } else { theirs.min_version.max(ours.min) };
        let max = theirs.max_version.min(ours.max);
        (min <= max).then_some((theirs.api_key, (min, max)))
    };
    response.api_keys.iter().filter_map(clamp).collect()
}

/// Returns the versions that are in both maps.
pub fn intersect_versions(a: &Versions, b: &Versions) -> Versions {
    let both = |(key, &(min_a, max_a)): (&i16, &(i16, i16))| {
        let &(min_b, max_b) = b.get(key)?;
        let (min, max) = (min_a.max(min_b), max_a.min(max_b));
        (min <= max).then_some((*key, (min, max)))
    };
    a.iter().filter_map(both).collect()
}

/// Returns the text of `docs/protocol.md`.
pub fn protocol_markdown() -> String {
    let word = |on: Handling| match on {
        Handling::Forward => "forwarded unread",
        Handling::Guard => "forwarded, rejected for diskless topics",
        Handling::Edit => "forwarded and edited",
        Handling::Serve => "served by Odradek",
        Handling::Reject => "rejected",
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

Generated from `src/proxy/apis.rs` by `odradek docs protocol`; a test compares the two.

A diskless node serves a request only after the broker has authenticated the client, and only if the \
client has the operation on the topic with which the note begins (Write, Read, Describe, Delete), as \
with a broker: [ADR 0009](adr/0009-the-brokers-own-acls.md). The exceptions are ApiVersions and SASL.

The versions are the highest that Odradek advertises; versions that the brokers do not support are \
not advertised. An API that is not listed is not advertised, and a request for it closes the \
connection, as a broker does with an unknown API.

| key | API | versions | classic endpoint | diskless node | note |
|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_version_ranges_are_valid() {
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
    fn document_matches_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        assert!(document == protocol_markdown(), "run `make docs` to generate docs/protocol.md");
    }
}
