//! Encodes the body of a Fetch response as slices, so that records are never copied.
//!
//! Source: `FetchResponse.json` of Apache Kafka 4.3, versions 4 to 18.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame;
use super::varint::put_unsigned;
use crate::log::ids::TopicId;

/// The first version with compact lengths and tagged fields (KIP-482).
const FLEXIBLE: i16 = 12;
/// The first version that names topics by id (KIP-516).
pub const WITH_TOPIC_IDS: i16 = 13;

/// One partition of the response.
#[derive(Clone, Debug)]
pub struct ResponsePartition {
    /// The partition index.
    pub index: i32,
    /// A Kafka error code.
    pub error_code: i16,
    /// The high watermark; −1 if it is unknown. The last stable offset is the same.
    pub high_watermark: i64,
    /// The log start offset; −1 if it is unknown.
    pub log_start_offset: i64,
    /// The replica that the consumer should read from (KIP-392); −1 for none.
    pub preferred_read_replica: i32,
    /// True if the list of aborted transactions is empty rather than null.
    pub lists_aborted: bool,
    /// Whole batches, written one after the other. No records are written as length 0, never as
    /// null.
    pub records: Vec<Bytes>,
}

/// Consecutive partitions of one topic.
#[derive(Clone, Debug)]
pub struct ResponseTopic {
    /// The topic id, for version 13 and above.
    pub id: TopicId,
    /// The topic name, for version 12 and below.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<ResponsePartition>,
}

/// The body of the response.
#[derive(Clone, Debug, Default)]
pub struct ResponseBody {
    /// A Kafka error code for the fetch session.
    pub error_code: i16,
    /// The fetch session; 0 for none.
    pub session_id: i32,
    /// The topics, in response order.
    pub topics: Vec<ResponseTopic>,
}

/// A slice of the frame.
#[derive(Clone, Debug)]
pub struct FrameSlice {
    /// The bytes.
    pub bytes: Bytes,
    /// True if it is one of [`ResponsePartition::records`]. All of those are present, in the order
    /// of the partitions.
    pub is_records: bool,
}

/// Appends the body to `head`, a frame begun with an empty length prefix and the response header.
/// Returns the frame as slices, with its length filled in, or `None` if it is too long for a frame.
pub fn encode(body: ResponseBody, version: i16, head: BytesMut) -> Option<Vec<FrameSlice>> {
    let flexible = version >= FLEXIBLE;
    let mut out = Slices { done: Vec::new(), open: head };
    out.open.put_i32(0); // throttle_time_ms
    if version >= 7 {
        out.open.put_i16(body.error_code);
        out.open.put_i32(body.session_id);
    }
    put_count(&mut out.open, body.topics.len(), flexible)?;
    for topic in body.topics {
        if version >= WITH_TOPIC_IDS {
            out.open.put_slice(&topic.id.0);
        } else {
            put_string(&mut out.open, &topic.name, flexible)?;
        }
        put_count(&mut out.open, topic.partitions.len(), flexible)?;
        for partition in topic.partitions {
            put_partition(&mut out, partition, version)?;
        }
        put_no_tags(&mut out.open, flexible);
    }
    put_no_tags(&mut out.open, flexible);
    out.finish()
}

fn put_partition(out: &mut Slices, partition: ResponsePartition, version: i16) -> Option<()> {
    let flexible = version >= FLEXIBLE;
    out.open.put_i32(partition.index);
    out.open.put_i16(partition.error_code);
    out.open.put_i64(partition.high_watermark);
    out.open.put_i64(partition.high_watermark); // last_stable_offset: no transactions are open
    if version >= 5 {
        out.open.put_i64(partition.log_start_offset);
    }
    match (partition.lists_aborted, flexible) {
        (true, _) => put_count(&mut out.open, 0, flexible)?,
        (false, true) => out.open.put_u8(0),
        (false, false) => out.open.put_i32(-1),
    }
    if version >= 11 {
        out.open.put_i32(partition.preferred_read_replica);
    }
    let bytes = partition.records.iter().map(Bytes::len).sum();
    put_count(&mut out.open, bytes, flexible)?;
    for slice in partition.records {
        out.push(slice);
    }
    put_no_tags(&mut out.open, flexible);
    Some(())
}

/// Collects slices: small fields are appended to `open`, records are added unchanged.
struct Slices {
    done: Vec<FrameSlice>,
    open: BytesMut,
}

impl Slices {
    fn push(&mut self, records: Bytes) {
        self.close();
        self.done.push(FrameSlice { bytes: records, is_records: true });
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let bytes = self.open.split().freeze();
            self.done.push(FrameSlice { bytes, is_records: false });
        }
    }

    fn finish(mut self) -> Option<Vec<FrameSlice>> {
        self.close();
        let total: usize = self.done.iter().map(|slice| slice.bytes.len()).sum();
        let prefix = frame::length_prefix(total.checked_sub(frame::PREFIX_BYTES)?).ok()?;
        // The first slice contains the length prefix; only this slice is copied.
        let first = self.done.first_mut()?;
        let mut filled = BytesMut::from(first.bytes.as_ref());
        filled.get_mut(..frame::PREFIX_BYTES)?.copy_from_slice(&prefix);
        first.bytes = filled.freeze();
        Some(self.done)
    }
}

fn put_count(out: &mut BytesMut, count: usize, flexible: bool) -> Option<()> {
    let count = i32::try_from(count).ok()?;
    if flexible {
        put_unsigned(out, u64::from(count.unsigned_abs()) + 1);
    } else {
        out.put_i32(count);
    }
    Some(())
}

fn put_string(out: &mut BytesMut, text: &str, flexible: bool) -> Option<()> {
    let length = i16::try_from(text.len()).ok()?;
    if flexible {
        put_unsigned(out, u64::from(length.unsigned_abs()) + 1);
    } else {
        out.put_i16(length);
    }
    out.put_slice(text.as_bytes());
    Some(())
}

fn put_no_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::FetchRequest;

    use super::*;
    use crate::wire::guard;

    #[test]
    fn every_version_decodes_to_the_encoded_fields() {
        for version in 4..=18 {
            for lists_aborted in [false, true] {
                check(version, lists_aborted);
            }
        }
    }

    fn check(version: i16, lists_aborted: bool) {
        let records = vec![Bytes::from_static(b"0123"), Bytes::from(vec![7; 300])];
        let partition = |index, records| ResponsePartition {
            index,
            error_code: 3,
            high_watermark: 1 << 40,
            log_start_offset: 9,
            preferred_read_replica: 1_000_000_064,
            lists_aborted,
            records,
        };
        let topic = ResponseTopic {
            id: TopicId([5; 16]),
            name: "clicks".to_owned(),
            partitions: vec![partition(4, records), partition(5, Vec::new())],
        };
        let body = ResponseBody { error_code: 0, session_id: 77, topics: vec![topic] };
        let slices = encode(body, version, frame::begin()).unwrap();
        let slices: Vec<_> = slices.into_iter().map(|slice| slice.bytes).collect();
        let mut frame = Bytes::from(slices.concat());
        assert_eq!(frame.get_i32() as usize, frame.len());
        let decoded = guard::decode_response::<FetchRequest>(version, frame).unwrap();
        assert_eq!(decoded.session_id, if version >= 7 { 77 } else { 0 });
        let topic = &decoded.responses[0];
        if version >= 13 {
            assert_eq!(topic.topic_id.as_bytes(), &[5; 16]);
        } else {
            assert_eq!(topic.topic.as_str(), "clicks");
        }
        let (first, second) = (&topic.partitions[0], &topic.partitions[1]);
        assert_eq!((first.partition_index, first.error_code), (4, 3));
        assert_eq!((first.high_watermark, first.last_stable_offset), (1 << 40, 1 << 40));
        assert_eq!(first.log_start_offset, if version >= 5 { 9 } else { -1 });
        assert_eq!(first.records.as_ref().unwrap().len(), 304);
        assert_eq!(second.records.as_ref().unwrap().len(), 0, "empty, never null");
        assert_eq!(first.aborted_transactions.is_some(), lists_aborted);
        let preferred = if version >= 11 { 1_000_000_064 } else { -1 };
        assert_eq!(first.preferred_read_replica.0, preferred);
    }
}
