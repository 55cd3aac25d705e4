//! Errors of the decoder.

use std::fmt;

/// The bytes are not a WAL object of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The object ends before the announced length.
    #[error("truncated")]
    Truncated,
    /// The last bytes are not those of a WAL object of a supported version.
    #[error("unknown magic or version")]
    Magic,
    /// The footer's CRC-32C does not match.
    #[error("the footer's checksum does not match")]
    Checksum,
    /// A field has an invalid value.
    #[error("the footer's {0} is invalid")]
    Invalid(FooterField),
}

/// A field of the footer, for [`FormatError::Invalid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FooterField {
    /// A variable-length number.
    Varint,
    /// A count of items.
    Count,
    /// The replica's name.
    Replica,
    /// The topic of a part.
    Topic,
    /// A partition index.
    Partition,
    /// The byte range of a part.
    Extent,
    /// A batch.
    Batch,
    /// A journal entry.
    Journal,
    /// Bytes after the last field.
    End,
}

impl fmt::Display for FooterField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "variable-length number",
            Self::Count => "count",
            Self::Replica => "replica name",
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Extent => "extent",
            Self::Batch => "batch",
            Self::Journal => "journal",
            Self::End => "end",
        })
    }
}
