//! The doors at which bytes from a peer come in, for `fuzz/` and `tests/fuzz_smoke.rs`: each takes
//! any bytes, and must neither panic nor take more memory than it promises.

use bytes::Bytes;
use kafka_protocol::messages;

use super::guard::{DecodeError, GuardError, decode_request, decode_response};

/// Decodes a request of any key, as the proxy would, and drops it.
pub fn decode_any_request(key: i16, version: i16, body: Bytes) -> Result<(), DecodeError> {
    decode_any(key, version, body, false)
}

/// Decodes a response of any key, as the proxy would, and drops it.
pub fn decode_any_response(key: i16, version: i16, body: Bytes) -> Result<(), DecodeError> {
    decode_any(key, version, body, true)
}

macro_rules! by_key {
    ($key:expr, $version:expr, $body:expr, $response:expr, { $($k:literal $request:ident)* }) => {
        match $key {
            $($k if $response => {
                decode_response::<messages::$request>($version, $body).map(drop)
            }
            $k => decode_request::<messages::$request>($version, $body).map(drop),)*
            other => Err(GuardError::UnknownApi(other).into()),
        }
    };
}

fn decode_any(key: i16, version: i16, body: Bytes, response: bool) -> Result<(), DecodeError> {
    by_key!(key, version, body, response, {
        0 ProduceRequest
        1 FetchRequest
        2 ListOffsetsRequest
        3 MetadataRequest
        10 FindCoordinatorRequest
        16 ListGroupsRequest
        17 SaslHandshakeRequest
        18 ApiVersionsRequest
        19 CreateTopicsRequest
        20 DeleteTopicsRequest
        21 DeleteRecordsRequest
        22 InitProducerIdRequest
        23 OffsetForLeaderEpochRequest
        24 AddPartitionsToTxnRequest
        27 WriteTxnMarkersRequest
        32 DescribeConfigsRequest
        33 AlterConfigsRequest
        35 DescribeLogDirsRequest
        36 SaslAuthenticateRequest
        37 CreatePartitionsRequest
        43 ElectLeadersRequest
        44 IncrementalAlterConfigsRequest
        60 DescribeClusterRequest
        61 DescribeProducersRequest
        66 ListTransactionsRequest
        75 DescribeTopicPartitionsRequest
        76 ShareGroupHeartbeatRequest
        78 ShareFetchRequest
        79 ShareAcknowledgeRequest
    })
}
