//! Identifiers. Offsets are plain `i64` as in Kafka's message specs; ids are types.

use std::fmt;

/// A Kafka topic id (KIP-516): permanent, never reused by a recreated name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id that requests carry when they name a topic by its name.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`TopicId::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Parses the 22 characters that [`fmt::Display`] prints; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        let (mut bits, mut held, mut out, mut at) = (0_u32, 0_u32, [0_u8; 16], 0);
        for c in text.bytes() {
            let value = BASE64_URL.iter().position(|&b| b == c)?;
            bits = (bits << 6) | u32::try_from(value).ok()?;
            held += 6;
            if held >= 8 {
                held -= 8;
                if at < 16 {
                    out[at] = ((bits >> held) & 0xff) as u8;
                    at += 1;
                }
                bits &= (1 << held) - 1;
            }
        }
        (at == 16 && bits == 0).then_some(Self(out))
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Prints the id as Kafka's tools do: URL-safe base64 without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let mut bits = 0_u32;
            for i in 0..3 {
                bits = (bits << 8) | u32::from(chunk.get(i).copied().unwrap_or(0));
            }
            for i in 0..=chunk.len() {
                let index = (bits >> (18 - 6 * i)) & 0x3f;
                write!(f, "{}", char::from(BASE64_URL[index as usize]))?;
            }
        }
        Ok(())
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

/// The name of a WAL object; never reused.
///
/// Ids of one replica sort in the order in which it sealed the objects: `incarnation` grows with
/// every start of a process, `sequence` with every object of it. `process_id` tells replicas apart
/// that started in the same millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Milliseconds since the Unix epoch at which the process started, raised above every
    /// earlier incarnation of the same log where one is known.
    pub incarnation: u64,
    /// A random tag of the process.
    pub process_id: u32,
    /// 0 for the first object of the process, then dense.
    pub sequence: u32,
}

impl ObjectId {
    /// Big-endian, so that the bytes sort as the id does.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.incarnation.to_be_bytes());
        out[8..12].copy_from_slice(&self.process_id.to_be_bytes());
        out[12..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// The inverse of [`ObjectId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            incarnation: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            process_id: u32::from_be_bytes([i, j, k, l]),
            sequence: u32::from_be_bytes([m, n, o, p]),
        }
    }

    /// Parses what [`fmt::Display`] prints; `None` for anything else.
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

/// Fixed-width hexadecimal, so that keys in a listing sort as the ids do.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:08x}", self.incarnation, self.process_id, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_and_parse_as_kafka_does() {
        let id = TopicId(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODw"), Some(id));
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0OD!"), None);
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODwA"), None);
    }

    #[test]
    fn object_ids_sort_as_their_bytes_and_their_text_do() {
        let low = ObjectId { incarnation: 5, process_id: 9, sequence: u32::MAX };
        let high = ObjectId { incarnation: 6, process_id: 0, sequence: 0 };
        assert!(low < high && low.to_bytes() < high.to_bytes());
        assert!(low.to_string() < high.to_string());
        assert_eq!(ObjectId::parse(&low.to_string()), Some(low));
        assert_eq!(ObjectId::from_bytes(high.to_bytes()), high);
    }
}
