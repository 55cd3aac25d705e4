//! The attributes of a batch.

/// The attributes of a v2 batch (`DefaultRecordBatch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

/// The compression of the records, which are compressed as one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// No compression.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy blocks in the framing of `snappy-java`, or one raw block.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

/// The origin of the timestamps (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer sets the timestamp of each record.
    CreateTime,
    /// The log sets the timestamp: every record has the batch's max timestamp.
    LogAppendTime,
}

impl Attributes {
    /// Returns the compression; `None` for the codecs 5 to 7, which do not exist.
    pub fn compression(self) -> Option<Compression> {
        match self.codec() {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Returns the bits of the compression codec.
    pub fn codec(self) -> u8 {
        (self.0 & 0b111) as u8
    }

    /// Returns the timestamp type.
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & (1 << 3) {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Returns whether the batch belongs to a transaction (KIP-98).
    pub fn is_transactional(self) -> bool {
        self.0 & (1 << 4) != 0
    }

    /// Returns whether the records are a coordinator's markers rather than data.
    pub fn is_control(self) -> bool {
        self.0 & (1 << 5) != 0
    }
}
