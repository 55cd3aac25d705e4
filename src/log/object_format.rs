//! The bytes of a WAL object, version 1; `docs/object-format.md` is the specification.
//!
//! An object is [`HEADER`], the batches, and what [`encode_footer`] gives. The footer describes
//! the object to whoever finds it alone: it is all that a rebuild reads.

use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use super::batch::Part;
use super::ids::ObjectId;

mod reader;
mod writer;

/// The first bytes of every WAL object: magic and version.
pub const HEADER: [u8; 8] = *b"ODRADEK\x01";

/// The last bytes of every WAL object: version and magic.
const TRAILER_MAGIC: [u8; 8] = *b"\x01KEDARDO";

/// Size of the trailer in bytes: footer length, CRC-32C, version and magic.
pub const TRAILER_BYTES: usize = 16;

/// Bytes of an object's end that hold the whole footer of nearly every object.
pub const TAIL_BYTES: u64 = 64 * 1024;

/// Every WAL object's key begins with this.
pub const WAL_PREFIX: &str = "wal/";

const WAL_SUFFIX: &str = ".wal";

/// The key of a WAL object.
pub fn wal_key(object: ObjectId) -> String {
    format!("{WAL_PREFIX}{object}{WAL_SUFFIX}")
}

/// The object whose key this is; `None` for any other key.
pub fn parse_wal_key(key: &str) -> Option<ObjectId> {
    ObjectId::parse(key.strip_prefix(WAL_PREFIX)?.strip_suffix(WAL_SUFFIX)?)
}

/// What an object says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The object's own name: a copy under another key is noticed.
    pub object: ObjectId,
    /// The name of the replica that wrote it; for people.
    pub replica: String,
    /// When it was sealed, in milliseconds since the Unix epoch.
    pub sealed_ms: i64,
    /// Its parts: `index` counts from 0, the bytes ascend and do not overlap.
    pub parts: Vec<Part>,
    /// What earlier commits were answered.
    pub journal: Vec<JournalEntry>,
}

/// The outcomes that one part of an earlier object was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The earlier object.
    pub object: ObjectId,
    /// The part's index in it.
    pub part: u32,
    /// One outcome for each batch, in order.
    pub outcomes: Vec<JournalOutcome>,
}

/// What one batch of an earlier object was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalOutcome {
    /// Appended at this offset, 0 or above.
    Committed(i64),
    /// A repeat of a batch at this offset, 0 or above.
    Duplicate(i64),
    /// Not appended.
    Refused,
}

/// Bytes that are no WAL object of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends before what it announces.
    #[error("truncated")]
    Truncated,
    /// The last bytes are not those of a WAL object of a version known here.
    #[error("unknown magic or version")]
    Magic,
    /// The footer's CRC-32C does not match.
    #[error("the footer's checksum does not match")]
    Checksum,
    /// A field has a value that it cannot have.
    #[error("the footer's {0} is invalid")]
    Invalid(Field),
}

/// A part of the footer, for [`FormatError::Invalid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A variable-length number.
    Varint,
    /// A count of what follows.
    Count,
    /// The replica's name.
    Replica,
    /// The topic of a part.
    Topic,
    /// A partition index.
    Partition,
    /// Where a part's bytes lie.
    Extent,
    /// A batch.
    Batch,
    /// A journal entry.
    Journal,
    /// Bytes after the last field.
    End,
}

impl fmt::Display for Field {
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

/// Footer and trailer of an object: the bytes that follow its batches.
///
/// # Panics
/// When part indexes do not count from 0, or the footer exceeds 4 GiB: bugs of the caller.
pub fn encode_footer(footer: &Footer) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + footer.parts.len() * 64);
    writer::write(&mut out, footer);
    let length = u32::try_from(out.len()).expect("a footer is far smaller than 4 GiB");
    out.put_u32(length);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out.put_slice(&TRAILER_MAGIC);
    out.freeze()
}

/// Where footer and trailer lie in an object of `object_bytes` bytes, judged by its last bytes
/// (at least [`TRAILER_BYTES`] of them).
///
/// # Errors
/// [`FormatError::Truncated`] and [`FormatError::Magic`].
pub fn footer_range(object_bytes: u64, tail: &[u8]) -> Result<Range<u64>, FormatError> {
    let (length, _) = read_trailer(tail)?;
    let whole = u64::from(length) + TRAILER_BYTES as u64;
    let start = object_bytes.checked_sub(whole).ok_or(FormatError::Truncated)?;
    if start < HEADER.len() as u64 {
        return Err(FormatError::Truncated);
    }
    Ok(start..object_bytes)
}

/// Decodes the footer of an object of `object_bytes` bytes from its tail, which must hold the
/// whole of [`footer_range`] and may hold more before it.
///
/// # Errors
/// Every [`FormatError`]; no input makes it panic, and it reserves no more memory than a fixed
/// multiple of the tail.
pub fn decode_footer(object_bytes: u64, tail: &[u8]) -> Result<Footer, FormatError> {
    let range = footer_range(object_bytes, tail)?;
    let whole = usize::try_from(range.end - range.start).map_err(|_| FormatError::Truncated)?;
    let start = tail.len().checked_sub(whole).ok_or(FormatError::Truncated)?;
    let (body, _) = tail[start..].split_at(whole - TRAILER_BYTES);
    let (_, crc) = read_trailer(tail)?;
    if crc32c(&tail[start..start + body.len() + 4]) != crc {
        return Err(FormatError::Checksum);
    }
    reader::read(body, range.start)
}

fn read_trailer(tail: &[u8]) -> Result<(u32, u32), FormatError> {
    let at = tail.len().checked_sub(TRAILER_BYTES).ok_or(FormatError::Truncated)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, magic @ ..] = &tail[at..] else {
        return Err(FormatError::Truncated);
    };
    if magic != TRAILER_MAGIC {
        return Err(FormatError::Magic);
    }
    Ok((u32::from_be_bytes([*l0, *l1, *l2, *l3]), u32::from_be_bytes([*c0, *c1, *c2, *c3])))
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The crate returns every width as u64; CRC-32C fills the lower half.
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests;
