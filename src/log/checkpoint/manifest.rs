//! The manifest.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Manifest, PartReference};
use crate::log::encoding::{BytesReader, FormatError, FormatField, section, text, varint};
use crate::log::object_format::ShardPosition;

const IDENTITY: u64 = 1;
const PARTS: u64 = 3;

/// The least size of a reference.
const REFERENCE_BYTES_MIN: usize = 6;

/// Encodes a manifest.
pub fn encode_manifest(manifest: &Manifest) -> Bytes {
    super::seal(|out| {
        section(out, IDENTITY, |out| {
            text(out, &manifest.metadata_id);
            varint(out, u64::from(manifest.position.shard));
            text(out, &manifest.position.epoch);
            varint(out, manifest.position.sequence);
            out.put_i64(manifest.written_ms);
        });
        section(out, PARTS, |out| {
            write_reference(out, &manifest.state);
            varint(out, manifest.runs.len() as u64);
            for reference in &manifest.runs {
                write_reference(out, reference);
            }
        });
    })
}

fn write_reference(out: &mut BytesMut, reference: &PartReference) {
    text(out, &reference.key);
    varint(out, reference.bytes);
    out.put_u32(reference.checksum);
}

/// Decodes a manifest.
///
/// # Errors
/// Every [`FormatError`].
pub fn decode_manifest(bytes: &[u8]) -> Result<Manifest, FormatError> {
    let (mut identity, mut parts) = (None, None);
    for section in super::open(bytes)?.sections()? {
        match section.number {
            IDENTITY => identity = Some(section.body),
            PARTS => parts = Some(section.body),
            _ => section.skip()?,
        }
    }
    let missing = FormatError::Invalid(FormatField::Section);
    let mut identity = identity.ok_or(missing)?;
    let metadata_id = identity.text()?;
    let shard = identity.u32(FormatField::Count)?;
    let (epoch, sequence) = (identity.text()?, identity.varint()?);
    let written_ms = i64::from_be_bytes(identity.array()?);
    let mut parts = parts.ok_or(missing)?;
    let state = read_reference(&mut parts)?;
    let count = parts.count(REFERENCE_BYTES_MIN)?;
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        runs.push(read_reference(&mut parts)?);
    }
    let position = ShardPosition { shard, epoch, sequence };
    Ok(Manifest { metadata_id, position, written_ms, state, runs })
}

fn read_reference(reader: &mut BytesReader<'_>) -> Result<PartReference, FormatError> {
    let (key, bytes) = (reader.text()?, reader.varint()?);
    Ok(PartReference { key, bytes, checksum: u32::from_be_bytes(reader.array()?) })
}
