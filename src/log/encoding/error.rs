//! Errors of the decoders.

use std::fmt;

use crate::log::format_version::UnsupportedVersion;

/// The bytes are not what the format prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end before the announced length.
    #[error("truncated")]
    Truncated,
    /// The magic is another one: the bytes were not written by this project, or were damaged.
    #[error("unknown magic")]
    Magic,
    /// The version is not the one that this program knows.
    #[error(transparent)]
    Version(UnsupportedVersion),
    /// A section or journal entry that a reader must understand has an unknown number.
    #[error("part {0} of the format is unknown and must not be skipped: upgrade this replica")]
    UnknownSection(u64),
    /// The CRC-32C does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// A field has an invalid value.
    #[error("the {0} is invalid")]
    Invalid(FormatField),
}

impl FormatError {
    /// Returns whether another version of this program may be able to read the bytes.
    pub fn is_unsupported(self) -> bool {
        matches!(self, Self::Version(_) | Self::UnknownSection(_))
    }
}

/// A field, for [`FormatError::Invalid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatField {
    /// A variable-length number.
    Varint,
    /// A count of items.
    Count,
    /// A text.
    Text,
    /// The order or the number of the sections.
    Section,
    /// The kind of the object.
    Kind,
    /// The topic of a part.
    Topic,
    /// A partition index.
    Partition,
    /// The byte range of a part.
    Extent,
    /// A batch.
    Batch,
    /// The offsets or the sources of a part of a segment.
    Placement,
    /// A journal entry.
    Journal,
    /// A run of the index.
    Run,
    /// A producer.
    Producer,
    /// A topic binding.
    Binding,
}

impl fmt::Display for FormatField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "variable-length number",
            Self::Count => "count",
            Self::Text => "text",
            Self::Section => "order of the sections",
            Self::Kind => "kind of the object",
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Extent => "extent",
            Self::Batch => "batch",
            Self::Placement => "placement",
            Self::Journal => "journal",
            Self::Run => "run",
            Self::Producer => "producer",
            Self::Binding => "topic binding",
        })
    }
}
