//! The bytes of an object, version 2; `docs/object-format.md` is the specification.
//!
//! A WAL object consists of [`HEADER`], the batches, and what [`encode_footer`] returns. The footer
//! describes the object completely: a rebuild reads nothing else.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::crc32_iscsi;

mod footer;
mod journal;
mod layout;
mod reader;
mod writer;

pub use crate::log::encoding::{FormatError, FormatField};
use crate::log::format_version::check_version;
pub use footer::{
    Footer, JournalEntry, JournalOutcome, JournaledCommit, JournaledPart, JournaledTrim,
    ObjectKind, Placement, ShardPosition, SourceRun,
};
use layout::TRAILER_MAGIC;
pub use layout::{
    HEADER, OBJECT_VERSION, TAIL_BYTES, TRAILER_BYTES, WAL_PREFIX, parse_wal_key, wal_key,
    wal_process_prefix,
};

/// Encodes footer and trailer of an object: the bytes after its batches.
///
/// # Panics
/// When part indexes do not count from 0, or when the footer exceeds 4 GiB.
pub fn encode_footer(footer: &Footer) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + footer.parts.len() * 64);
    writer::write(&mut out, footer);
    finish(out)
}

/// Appends the trailer to a footer.
fn finish(mut out: BytesMut) -> Bytes {
    let length = u32::try_from(out.len()).expect("a footer is far smaller than 4 GiB");
    out.put_u32(length);
    let crc = crc32_iscsi(&out);
    out.put_u32(crc);
    out.put_u8(OBJECT_VERSION);
    out.put_slice(&TRAILER_MAGIC);
    out.freeze()
}

/// Returns the byte range of footer and trailer in an object of `object_bytes` bytes. `tail` is the
/// end of the object, at least [`TRAILER_BYTES`] long.
///
/// # Errors
/// [`FormatError::Truncated`], [`FormatError::Magic`] and [`FormatError::Version`].
pub fn footer_range(object_bytes: u64, tail: &[u8]) -> Result<Range<u64>, FormatError> {
    let (length, _) = read_trailer(tail)?;
    let whole = u64::from(length) + TRAILER_BYTES as u64;
    let start = object_bytes.checked_sub(whole).ok_or(FormatError::Truncated)?;
    Ok(start..object_bytes)
}

/// Decodes the footer of an object of `object_bytes` bytes from its tail, which must hold the
/// whole of [`footer_range`] and may have more before it.
///
/// # Errors
/// Every [`FormatError`]. No input causes a panic, and the allocated memory is at most a fixed
/// multiple of the tail.
pub fn decode_footer(object_bytes: u64, tail: &[u8]) -> Result<Footer, FormatError> {
    let range = footer_range(object_bytes, tail)?;
    let whole = usize::try_from(range.end - range.start).map_err(|_| FormatError::Truncated)?;
    let start = tail.len().checked_sub(whole).ok_or(FormatError::Truncated)?;
    let (body, _) = tail[start..].split_at(whole - TRAILER_BYTES);
    let (_, crc) = read_trailer(tail)?;
    if crc32_iscsi(&tail[start..start + body.len() + 4]) != crc {
        return Err(FormatError::Checksum);
    }
    reader::read(body, range.start)
}

fn read_trailer(tail: &[u8]) -> Result<(u32, u32), FormatError> {
    let at = tail.len().checked_sub(TRAILER_BYTES).ok_or(FormatError::Truncated)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, version, magic @ ..] = &tail[at..] else {
        return Err(FormatError::Truncated);
    };
    if magic != TRAILER_MAGIC {
        return Err(FormatError::Magic);
    }
    check_version("the object", u32::from(*version), u32::from(OBJECT_VERSION))
        .map_err(FormatError::Version)?;
    Ok((u32::from_be_bytes([*l0, *l1, *l2, *l3]), u32::from_be_bytes([*c0, *c1, *c2, *c3])))
}

#[cfg(test)]
mod tests;
