//! Entry points for bytes of a peer, used by `fuzz/` and `tests/fuzz_smoke.rs`. Each accepts any
//! bytes, and must neither panic nor take more memory than it guarantees.

use bytes::Bytes;
use kafka_protocol::messages;

use super::frame::FrameReader;
use super::guard::{DecodeError, GuardError, decode_request, decode_response};
use super::header::{RequestHeader, ResponseHeader};
use super::proxy_protocol;
use super::record_batch::{
    ProduceLimits, RecordBatch, TimestampType, batches, check_produce, placed_prefix,
    with_timestamps,
};
use super::records::{Codec, RecordRules, first_at_or_after, max_timestamp_record, validate};

/// Cuts frames out of `data`, which arrives in pieces whose size is its first byte.
pub fn frame(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let mut reader = FrameReader::new(1 << 20);
    for piece in stream.chunks(usize::from(piece).max(1)) {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => request(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(
        reader.buffer().capacity() <= 2 * stream.len() + (256 << 10),
        "an announced length reserved memory"
    );
}

/// Treats `data` as the beginning of a connection that a load balancer forwards.
pub fn proxy_protocol(data: &[u8]) {
    let parsed = proxy_protocol::parse(data);
    if let Ok(Some((length, _))) = parsed {
        assert!(length <= data.len().min(proxy_protocol::HEADER_BYTES_MAX));
        assert_eq!(proxy_protocol::parse(&data[..length]), parsed, "depends on what follows");
    }
    for end in 0..data.len().min(64) {
        if let Err(error) = proxy_protocol::parse(&data[..end]) {
            assert_eq!(parsed, Err(error), "more bytes make no header of it");
        }
    }
}

/// Treats a frame as a request: parses the header, runs the guard and decodes the body.
pub fn request(frame: &[u8]) {
    let Ok(header) = RequestHeader::parse(frame) else {
        return;
    };
    let body = Bytes::copy_from_slice(&frame[header.bytes..]);
    let decoded = decode_any_request(header.api_key, header.api_version, body);
    assert!(!matches!(decoded, Err(DecodeError::Length { .. })), "{decoded:?}");
}

/// Treats a frame that follows four bytes of key and version as a response.
pub fn response(data: &[u8]) {
    let Some((&[a, b, c, d], frame)) = data.split_first_chunk() else {
        return;
    };
    let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let Ok(header) = ResponseHeader::parse(frame, key, version) else {
        return;
    };
    let body = Bytes::copy_from_slice(&frame[header.bytes..]);
    let decoded = decode_any_response(key, version, body);
    assert!(!matches!(decoded, Err(DecodeError::Length { .. })), "{decoded:?}");
}

/// Treats the bytes as the records of a partition: validates, rewrites and searches them.
pub fn record_batch(data: &[u8]) {
    let limits = ProduceLimits { produce_version: 9, batch_bytes_max: 1 << 20 };
    if let Ok(produced) = check_produce(&Bytes::copy_from_slice(data), limits) {
        assert!(produced.metadata.offset_count >= 1, "{:?}", produced.metadata);
        assert_eq!(produced.bytes.len(), produced.metadata.bytes as usize);
        for codec in [None, Some(Codec::None), Some(Codec::Lz4)] {
            check_validated(&produced.bytes, codec);
        }
    }
    for batch in batches(data).flatten() {
        let _ = max_timestamp_record(&batch, 0);
        let _ = first_at_or_after(&batch, batch.base_timestamp(), 0);
        let bytes = Bytes::copy_from_slice(batch.bytes());
        let stamped = with_timestamps(&bytes, TimestampType::LogAppendTime, 1);
        let stamped = RecordBatch::parse(&stamped).expect("a stamped batch is a batch");
        // A batch that has these timestamps already is returned unchanged.
        assert!(stamped.is_crc_valid() || !batch.is_crc_valid());
        assert_eq!(stamped.max_timestamp(), 1);
        assert_eq!(
            placed_prefix(batch.base_offset(), batch.leader_epoch(), &batch),
            batch.bytes()[..16]
        );
    }
}

/// Checks that the batch stored for a valid batch is valid and has the same number of records.
fn check_validated(sent: &Bytes, codec: Option<Codec>) {
    let rules = RecordRules {
        codec,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        keys_required: false,
        batch_bytes_max: 1 << 20,
    };
    let Ok(valid) = validate(sent, &rules, 0, 1 << 20) else { return };
    let count = RecordBatch::parse(sent).map(|batch| batch.record_count());
    let stored = RecordBatch::parse(&valid.bytes).expect("a valid batch is a batch");
    assert!(stored.is_crc_valid() && stored.max_timestamp() == valid.max_timestamp);
    assert_eq!(count, Ok(stored.record_count()));
}

/// Decodes a request of any key, as the proxy does, and drops it.
pub fn decode_any_request(key: i16, version: i16, body: Bytes) -> Result<(), DecodeError> {
    decode_any(key, version, body, false)
}

/// Decodes a response of any key, as the proxy does, and drops it.
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
        66 ListTransactionsRequest 71 GetTelemetrySubscriptionsRequest 72 PushTelemetryRequest
        75 DescribeTopicPartitionsRequest
        76 ShareGroupHeartbeatRequest
        78 ShareFetchRequest
        79 ShareAcknowledgeRequest
    })
}
