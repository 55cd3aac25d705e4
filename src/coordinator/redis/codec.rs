//! Packed values that the scripts read and write: big-endian, as `struct.pack('>…')` writes them.

use bytes::{Buf, BufMut};

use crate::coordinator::ProducerSnapshot;
use crate::coordinator::{
    CommitOutcome, CoordinatorError, CoordinatorEvent, Found, Member, PartOutcome, Refusal,
    TopicBinding, TopicType, Watermarks,
};
use crate::log::batch::{Part, Run};
use crate::log::format_version::{UnsupportedVersion, check_version};
use crate::log::ids::{ObjectId, ProcessIdentity, TopicId, TopicPartition};
use crate::log::producer_state::EXPIRATION_MS;

/// Formats an argument of a script as text.
pub(super) fn argument(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Encodes a timestamp so that its bytes sort as the numbers do: Lua compares them without
/// converting them to doubles.
pub(super) fn sortable(timestamp: i64) -> [u8; 8] {
    (timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Encodes a partition as the 20 bytes that events use.
pub(super) fn partition_bytes(partition: TopicPartition) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    out.put_slice(&partition.topic.0);
    out.put_i32(partition.partition);
    out
}

/// Encodes a part for `commit.lua`.
pub(super) fn encode_part(part: &Part) -> Vec<u8> {
    let mut out = partition_bytes(part.partition);
    out.put_u64(part.start);
    out.put_u32(u32::try_from(part.batches.len()).unwrap_or(u32::MAX));
    for batch in &part.batches {
        out.put_u32(batch.bytes);
        out.put_i32(batch.offset_count);
        out.put_slice(&sortable(batch.max_timestamp));
        match batch.producer {
            None => out.put_u8(0),
            Some(producer) => {
                out.put_u8(1);
                out.put_i64(producer.id);
                out.put_i16(producer.epoch);
                out.put_i32(producer.base_sequence);
            }
        }
    }
    out
}

/// The version of a member's record. The records of earlier programs begin with the byte 0.
const MEMBER_VERSION: u8 = 1;

/// Encodes a member for `renew.lua`, which reads the first 13 bytes: they are the same in every
/// version ([`identity_of_member`]).
pub(super) fn encode_member(member: &Member) -> Vec<u8> {
    let mut out = vec![MEMBER_VERSION];
    out.put_u64(member.incarnation);
    out.put_u32(member.process_id);
    out.put_u16(member.zone);
    out.put_u16(member.node_ports);
    let peer = member.peer.as_deref().unwrap_or_default();
    for text in [&*member.replica, &*member.zone_name, &*member.advertised_host, peer] {
        out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        out.put_slice(text.as_bytes());
    }
    out.put_u16(member.nodes);
    out.put_u16(member.broker_ports);
    out.put_u32(u32::try_from(member.version.len()).unwrap_or(u32::MAX));
    out.put_slice(member.version.as_bytes());
    // Further fields are appended here.
    out.put_u64(member.settings);
    out
}

/// Returns the process of a member's record, which follows the version in every version of it.
pub(super) fn identity_of_member(packed: &[u8]) -> Option<ProcessIdentity> {
    ProcessIdentity::from_prefix(packed.get(1..)?)
}

/// Returns the error for data of another version.
pub(super) fn unsupported_version(error: UnsupportedVersion) -> CoordinatorError {
    CoordinatorError::UnsupportedVersion(error.to_string())
}

/// Returns the byte that stores a topic type.
pub(super) fn topic_type_code(topic_type: TopicType) -> u8 {
    match topic_type {
        TopicType::Classic => b'c',
        TopicType::Diskless => b'd',
        TopicType::Migrating => b'm',
    }
}

/// The result of one search in one call.
pub(super) enum FindReply {
    Found(Found),
    /// The cursor at which the next call continues.
    Unfinished(Vec<u8>),
}

/// Decodes packed values. Every method fails with [`CoordinatorError::Corrupt`] on other bytes.
pub(super) struct PackedReader<'a> {
    rest: &'a [u8],
    /// The name of the value, for error messages.
    what: &'static str,
}

impl<'a> PackedReader<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn outcome(mut self, index: u32) -> Result<PartOutcome, CoordinatorError> {
        self.status()?;
        let (log_start_offset, sealed_ms) = (self.i64()?, self.i64()?);
        let count = self.count(17)?;
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            let code = self.u8()?;
            let base_offset = self.i64()?;
            let max_timestamp = self.timestamp()?;
            batches.push(match code {
                0 => CommitOutcome::Committed { base_offset },
                1 => CommitOutcome::Duplicate { base_offset, max_timestamp },
                2 => CommitOutcome::Refused(Refusal::OutOfOrderSequence),
                3 => CommitOutcome::Refused(Refusal::InvalidProducerEpoch),
                4 => CommitOutcome::Refused(Refusal::TopicDeleted),
                _ => return Err(self.corrupt()),
            });
        }
        self.end()?;
        Ok(PartOutcome { index, batches, log_start_offset, sealed_ms })
    }

    pub(super) fn found(mut self) -> Result<FindReply, CoordinatorError> {
        if !self.status()? {
            return Ok(FindReply::Unfinished(self.rest.to_vec()));
        }
        let watermarks = self.bounds()?;
        let mut runs = Vec::with_capacity(self.rest.len() / RUN_BYTES);
        while !self.rest.is_empty() {
            runs.push(self.run()?);
        }
        Ok(FindReply::Found(Found { watermarks, runs }))
    }

    /// Decodes watermarks, and whether the trim is finished.
    pub(super) fn trimmed(mut self) -> Result<(Watermarks, bool), CoordinatorError> {
        let is_finished = self.status()?;
        let watermarks = self.bounds()?;
        self.end()?;
        Ok((watermarks, is_finished))
    }

    /// Decodes the first byte of the result of a part or partition; returns whether it is finished.
    pub(super) fn status(&mut self) -> Result<bool, CoordinatorError> {
        let status = self.u8()?;
        let detail = || String::from_utf8_lossy(self.rest).into_owned();
        match status {
            0 => Ok(true),
            1 => Err(CoordinatorError::MetadataLost(detail())),
            2 => Err(CoordinatorError::Fenced(detail())),
            3 => Ok(false),
            _ => Err(self.corrupt()),
        }
    }

    pub(super) fn events(mut self) -> Result<Vec<CoordinatorEvent>, CoordinatorError> {
        let mut events = Vec::new();
        while !self.rest.is_empty() {
            events.push(self.event()?);
        }
        Ok(events)
    }

    /// Decodes a producer as `d:` stores it; returns `None` if it expired.
    pub(super) fn producer(
        mut self,
        id: i64,
        clock_ms: i64,
    ) -> Result<Option<ProducerSnapshot>, CoordinatorError> {
        let epoch = self.u16()?;
        let epoch = i16::try_from(epoch).map_err(|_| self.corrupt())?;
        let last_append_ms = self.i64()?;
        let count = self.u8()?;
        let (mut last_sequence, mut last_timestamp) = (-1, -1);
        for _ in 0..count {
            self.i32()?;
            last_sequence = self.i32()?;
            self.i64()?;
            last_timestamp = self.timestamp()?;
        }
        self.end()?;
        let expired = clock_ms.saturating_sub(last_append_ms) >= EXPIRATION_MS;
        Ok((!expired).then_some(ProducerSnapshot { id, epoch, last_sequence, last_timestamp }))
    }

    /// Decodes what [`encode_member`] wrote. Fields that a later program appended are ignored.
    ///
    /// # Errors
    /// [`CoordinatorError::UnsupportedVersion`] for a record of another version.
    pub(super) fn member(mut self) -> Result<Member, CoordinatorError> {
        let version = check_version(
            "the record of another replica",
            u32::from(self.u8()?),
            u32::from(MEMBER_VERSION),
        );
        version.map_err(unsupported_version)?;
        let incarnation = u64::from_be_bytes(self.array()?);
        let process_id = u32::from_be_bytes(self.array()?);
        let (zone, node_ports) = (self.u16()?, self.u16()?);
        let (replica, zone_name) = (self.text()?, self.text()?);
        let (advertised_host, peer) = (self.text()?, self.text()?);
        let peer = (!peer.is_empty()).then_some(peer);
        let (nodes, broker_ports, version) = (self.u16()?, self.u16()?, self.text()?);
        let settings = u64::from_be_bytes(self.array()?);
        Ok(Member {
            replica,
            incarnation,
            process_id,
            zone,
            zone_name,
            peer,
            advertised_host,
            node_ports,
            broker_ports,
            nodes,
            version,
            settings,
        })
    }

    pub(super) fn id(mut self) -> Result<i64, CoordinatorError> {
        let id = self.i64()?;
        self.end()?;
        Ok(id)
    }

    /// Decodes topic type and name as `topics` stores them.
    pub(super) fn binding(mut self, topic: TopicId) -> Result<TopicBinding, CoordinatorError> {
        let topic_type = match self.u8()? {
            b'c' => TopicType::Classic,
            b'd' => TopicType::Diskless,
            b'm' => TopicType::Migrating,
            _ => return Err(self.corrupt()),
        };
        let name = std::str::from_utf8(self.rest).map_err(|_| self.corrupt())?.to_owned();
        Ok(TopicBinding { topic, name, topic_type })
    }

    fn event(&mut self) -> Result<CoordinatorEvent, CoordinatorError> {
        match self.u8()? {
            1 => {
                let partition = self.partition()?;
                let count = self.count(RUN_BYTES)?;
                let runs = (0..count).map(|_| self.run()).collect::<Result<_, _>>()?;
                Ok(CoordinatorEvent::Committed { partition, runs })
            }
            2 => {
                let partition = self.partition()?;
                Ok(CoordinatorEvent::Trimmed { partition, log_start_offset: self.i64()? })
            }
            3 => {
                let topic = TopicId(self.array()?);
                let length = self.count(1)?;
                let bytes = self.take(length)?;
                Ok(CoordinatorEvent::Bound(PackedReader::new(self.what, bytes).binding(topic)?))
            }
            4 => Ok(CoordinatorEvent::TopicDeleted(TopicId(self.array()?))),
            _ => Err(self.corrupt()),
        }
    }

    fn bounds(&mut self) -> Result<Watermarks, CoordinatorError> {
        Ok(Watermarks {
            log_start_offset: self.i64()?,
            high_watermark: self.i64()?,
            bytes: self.size()?,
        })
    }

    fn run(&mut self) -> Result<Run, CoordinatorError> {
        Ok(Run {
            base_offset: self.i64()?,
            offset_count: self.i64()?,
            object: ObjectId::from_bytes(self.array()?),
            start: self.size()?,
            bytes: self.size()?,
            max_timestamp: self.timestamp()?,
        })
    }

    fn partition(&mut self) -> Result<TopicPartition, CoordinatorError> {
        Ok(TopicPartition { topic: TopicId(self.array()?), partition: self.i32()? })
    }

    fn timestamp(&mut self) -> Result<i64, CoordinatorError> {
        Ok((u64::from_be_bytes(self.array()?) ^ (1 << 63)).cast_signed())
    }

    fn size(&mut self) -> Result<u64, CoordinatorError> {
        u64::try_from(self.i64()?).map_err(|_| self.corrupt())
    }

    /// Decodes a count of items of `bytes_each`; fails if the remaining bytes are too few for it.
    fn count(&mut self, bytes_each: usize) -> Result<usize, CoordinatorError> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > self.rest.len() / bytes_each {
            return Err(self.corrupt());
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String, CoordinatorError> {
        let length = self.count(1)?;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.corrupt())
    }

    fn u8(&mut self) -> Result<u8, CoordinatorError> {
        self.rest.try_get_u8().map_err(|_| self.corrupt())
    }

    fn u16(&mut self) -> Result<u16, CoordinatorError> {
        self.rest.try_get_u16().map_err(|_| self.corrupt())
    }

    fn i32(&mut self) -> Result<i32, CoordinatorError> {
        self.rest.try_get_i32().map_err(|_| self.corrupt())
    }

    fn i64(&mut self) -> Result<i64, CoordinatorError> {
        self.rest.try_get_i64().map_err(|_| self.corrupt())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CoordinatorError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.corrupt())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CoordinatorError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.corrupt())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn end(&self) -> Result<(), CoordinatorError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt()) }
    }

    fn corrupt(&self) -> CoordinatorError {
        CoordinatorError::Corrupt(format!("{} has unexpected bytes", self.what))
    }
}

/// The size of a packed run.
const RUN_BYTES: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            replica: "a-0".to_owned(),
            incarnation: 0x0102_0304_0506_0708,
            process_id: 9,
            zone: 3,
            zone_name: "a".to_owned(),
            peer: None,
            advertised_host: "h".to_owned(),
            node_ports: 9300,
            broker_ports: 9100,
            nodes: 4,
            version: "1.2.3".to_owned(),
            settings: 7,
        }
    }

    const BYTES: &[u8] = b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x09\0\x03\x24\x54\
        \0\0\0\x03a-0\0\0\0\x01a\0\0\0\x01h\0\0\0\0\
        \0\x04\x23\x8c\0\0\0\x051.2.3\0\0\0\0\0\0\0\x07";

    /// Older programs must find it in the records of newer ones.
    #[test]
    fn process_of_a_member_is_read_in_every_version() {
        let process = ProcessIdentity { incarnation: 0x0102_0304_0506_0708, process_id: 9 };
        for version in [MEMBER_VERSION, 2, 255] {
            let row = [&[version], &BYTES[1..]].concat();
            assert_eq!(identity_of_member(&row), Some(process));
        }
        assert_eq!(identity_of_member(&BYTES[..13]), Some(process));
        assert_eq!(identity_of_member(&BYTES[..12]), None);
    }

    #[test]
    fn members_are_read_with_further_fields_and_refused_by_version() {
        let read = |bytes: &[u8]| PackedReader::new("a member", bytes).member();
        assert_eq!(encode_member(&member()), BYTES);
        assert_eq!(read(BYTES).unwrap(), member());
        assert_eq!(read(&[BYTES, b"more"].concat()).unwrap(), member());
        for cut in 0..BYTES.len() {
            assert!(read(&BYTES[..cut]).is_err(), "cut at {cut}");
        }
        for version in [0, 2] {
            let error = read(&[&[version], &BYTES[1..]].concat()).unwrap_err();
            assert!(matches!(error, CoordinatorError::UnsupportedVersion(_)), "{error}");
            assert!(error.to_string().contains(&format!("format version {version}")), "{error}");
        }
    }
}
