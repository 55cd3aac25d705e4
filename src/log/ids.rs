//! Identifiers. Ids are types of their own; offsets are plain `i64`, as in Kafka's message specs.

use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A Kafka topic id (KIP-516): permanent, never reused by a recreated name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id in requests that identify a topic by its name.
    pub const ZERO: Self = Self([0; 16]);

    /// Returns whether this is [`TopicId::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Parses the 22 characters that [`fmt::Display`] formats; returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // The decoder wants room for whole groups of three bytes.
        let mut bytes = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (id, _) = bytes.split_first_chunk()?;
        (length == id.len()).then_some(Self(*id))
    }
}

/// Formats the id as Kafka's tools do: URL-safe base64 without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition index, 0 or above.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The id of a WAL object; never reused.
///
/// Ids of one replica sort in the order in which it sealed the objects: `incarnation` grows with
/// every start of a process, `sequence` with every object of the process. `process_id`
/// distinguishes processes that started in the same millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The start of the process in milliseconds since the Unix epoch, raised above every earlier
    /// incarnation of the same log where one is known.
    pub incarnation: u64,
    /// The random id of one run of a replica.
    pub process_id: u32,
    /// 0 for the first object of the process, then increasing by 1.
    pub sequence: u32,
}

impl ObjectId {
    /// Returns the process that sealed the object.
    pub fn process(self) -> ProcessIdentity {
        ProcessIdentity { incarnation: self.incarnation, process_id: self.process_id }
    }

    /// Encodes the id, big-endian, so that the bytes sort as the id does.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.incarnation.to_be_bytes());
        out[8..12].copy_from_slice(&self.process_id.to_be_bytes());
        out[12..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// Decodes what [`ObjectId::to_bytes`] returns.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            incarnation: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            process_id: u32::from_be_bytes([i, j, k, l]),
            sequence: u32::from_be_bytes([m, n, o, p]),
        }
    }

    /// Parses what [`fmt::Display`] formats; returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (incarnation, process_id, sequence) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some()
            || (incarnation.len(), process_id.len(), sequence.len()) != (16, 8, 8)
        {
            return None;
        }
        Some(Self {
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
            process_id: u32::from_str_radix(process_id, 16).ok()?,
            sequence: u32::from_str_radix(sequence, 16).ok()?,
        })
    }
}

/// One run of a replica: the first parts of the ids of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessIdentity {
    /// See [`ObjectId::incarnation`].
    pub incarnation: u64,
    /// See [`ObjectId::process_id`].
    pub process_id: u32,
}

impl ProcessIdentity {
    /// Encodes the identity, big-endian: the first bytes of its objects' ids.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.incarnation.to_be_bytes());
        out[8..].copy_from_slice(&self.process_id.to_be_bytes());
        out
    }

    /// Decodes the identity at the beginning of `bytes`; returns `None` if they are too few.
    pub fn from_prefix(bytes: &[u8]) -> Option<Self> {
        let (incarnation, rest) = bytes.split_first_chunk()?;
        let process_id = rest.first_chunk()?;
        Some(Self {
            incarnation: u64::from_be_bytes(*incarnation),
            process_id: u32::from_be_bytes(*process_id),
        })
    }
}

/// Formats the identity in fixed-width hexadecimal, as the ids of its objects begin.
impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.incarnation, self.process_id)
    }
}

/// Formats the id in fixed-width hexadecimal, so that keys in a listing sort as the ids do.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:08x}", self.incarnation, self.process_id, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_have_kafkas_text_form() {
        let id = TopicId(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODw"), Some(id));
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0OD!"), None);
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODwA"), None);
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODx"), None, "bits beyond the 16 bytes");
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0O"), None, "15 bytes");
    }

    #[test]
    fn object_ids_sort_as_their_bytes_and_text() {
        let low = ObjectId { incarnation: 5, process_id: 9, sequence: u32::MAX };
        let high = ObjectId { incarnation: 6, process_id: 0, sequence: 0 };
        assert!(low < high && low.to_bytes() < high.to_bytes());
        assert!(low.to_string() < high.to_string());
        assert_eq!(ObjectId::parse(&low.to_string()), Some(low));
        assert_eq!(ObjectId::from_bytes(high.to_bytes()), high);
    }
}
