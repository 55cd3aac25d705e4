//! Walks a message: every length and count is checked against the remaining bytes.

use super::error::GuardError;
use super::schema::STRUCTS;
use crate::wire::varint::{self, VARINT_BYTES_MAX};

use super::table::{Field, FieldType, StructSchema};

/// The memory in bytes of a decoded string or byte slice: an `Option` of the `bytes` crate's
/// handle.
const HANDLE_BYTES: usize = 32;
/// The memory in bytes of a struct's first unknown tag: a node of a `BTreeMap<i32, Bytes>` with
/// eleven entries.
const FIRST_TAG_BYTES: usize = 448;
/// The memory in bytes of each further unknown tag: nodes are split half full, and have parents.
const NEXT_TAG_BYTES: usize = 104;

pub(super) struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    /// The memory in bytes that the crate may still take for the decoded message.
    remaining_memory: usize,
}

impl<'a> Walker<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        version: i16,
        flexible: bool,
        remaining_memory: usize,
    ) -> Self {
        Self { bytes, at: 0, version, flexible, remaining_memory }
    }

    /// Walks one struct of the table and returns the offset of its end.
    pub(super) fn run(mut self, root: u16) -> Result<usize, GuardError> {
        self.structure(row(root))?;
        Ok(self.at)
    }

    /// The recursion is as deep as the schema, whose structs do not contain themselves.
    fn structure(&mut self, row: &'static StructSchema) -> Result<(), GuardError> {
        let version = self.version;
        for field in row.fields {
            if field.present.contain(version) && !field.tagged.contain(version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tags(row) } else { Ok(()) }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), GuardError> {
        let nullable = field.nullable.contain(self.version);
        if field.array {
            return self.array(field.field_type, nullable);
        }
        match field.field_type {
            // The crate reads every presence byte except 1 as null, a broker every one from 0 up as
            // present. Only 1 and −1, which clients send, mean the same to both.
            FieldType::Struct(index) if nullable => match self.take::<1>()?[0] {
                1 => self.structure(row(index)),
                0xff => Ok(()),
                found => Err(GuardError::Presence(found)),
            },
            field_type => self.value(field_type, nullable),
        }
    }

    fn value(&mut self, field_type: FieldType, nullable: bool) -> Result<(), GuardError> {
        let length = match field_type {
            FieldType::Fixed(bytes) => Some(usize::from(bytes)),
            FieldType::Text if self.flexible => match self.compact_length()? {
                Some(length) if length > TEXT_BYTES_MAX => return Err(GuardError::Text(length)),
                length => length,
            },
            FieldType::Text => length(i16::from_be_bytes(self.take()?).into())?,
            FieldType::Blob if self.flexible => self.compact_length()?,
            FieldType::Blob => length(i32::from_be_bytes(self.take()?))?,
            FieldType::Struct(index) => return self.structure(row(index)),
        };
        match length {
            Some(length) => self.skip(length),
            None if nullable => Ok(()),
            None => Err(GuardError::Null),
        }
    }

    fn array(&mut self, field_type: FieldType, nullable: bool) -> Result<(), GuardError> {
        let count = if self.flexible {
            self.compact_length()?
        } else {
            length(i32::from_be_bytes(self.take()?))?
        };
        let Some(count) = count else {
            return if nullable { Ok(()) } else { Err(GuardError::Null) };
        };
        // Every element takes at least a byte (the generator checks it): a broker's own rule.
        if count > self.remaining() {
            return Err(GuardError::Count { count, remaining: self.remaining() });
        }
        self.charge(count.saturating_mul(decoded_bytes(field_type)))?;
        if let FieldType::Fixed(bytes) = field_type {
            return self.skip(count.saturating_mul(usize::from(bytes)));
        }
        for _ in 0..count {
            self.value(field_type, false)?;
        }
        Ok(())
    }

    /// Walks the tagged fields of KIP-482. Like a broker and the crate, it accepts them in any
    /// order and more than once. A field of the schema must fill exactly its announced size: both
    /// read the field without looking at the size, and would continue at another position than the
    /// guard.
    fn tags(&mut self, row: &'static StructSchema) -> Result<(), GuardError> {
        let count = self.varint()? as usize;
        if count > self.remaining() / 2 {
            return Err(GuardError::Count { count, remaining: self.remaining() });
        }
        let mut unknown_bytes = FIRST_TAG_BYTES;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(GuardError::Truncated);
            }
            let end = self.at + size;
            let known = row.fields.iter().find(|f| f.tag == tag && f.tagged.contain(self.version));
            if let Some(field) = known {
                self.field(field)?;
                if self.at != end {
                    return Err(GuardError::TagSize(tag));
                }
            } else {
                self.charge(unknown_bytes)?;
                unknown_bytes = NEXT_TAG_BYTES;
                self.at = end;
            }
        }
        Ok(())
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn charge(&mut self, bytes: usize) -> Result<(), GuardError> {
        self.remaining_memory =
            self.remaining_memory.checked_sub(bytes).ok_or(GuardError::Memory)?;
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), GuardError> {
        if bytes > self.remaining() {
            return Err(GuardError::Truncated);
        }
        self.at += bytes;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GuardError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (taken, _) = rest.split_first_chunk::<N>().ok_or(GuardError::Truncated)?;
        self.at += N;
        Ok(*taken)
    }

    /// Reads a compact length or count: one more than the value, 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>, GuardError> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    /// Reads an unsigned varint of at most five bytes. Of the fifth byte, only four bits count, as
    /// in a broker and the crate. Unlike the crate, and like a broker, it allows no sixth byte.
    fn varint(&mut self) -> Result<u32, GuardError> {
        let value = varint::read(VARINT_BYTES_MAX, GuardError::Varint, || {
            self.take().map(u8::from_be_bytes)
        })?;
        Ok(value as u32)
    }
}

/// The largest string that a broker reads. The old encoding has no room for a larger one.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Converts a length or count in the old encoding: −1 is null.
fn length(read: i32) -> Result<Option<usize>, GuardError> {
    if read == -1 {
        return Ok(None);
    }
    usize::try_from(read).map(Some).map_err(|_| GuardError::Negative(read))
}

fn row(index: u16) -> &'static StructSchema {
    &STRUCTS[usize::from(index)]
}

/// Returns the maximum memory in bytes of one decoded element of an array.
fn decoded_bytes(field_type: FieldType) -> usize {
    match field_type {
        FieldType::Fixed(bytes) => usize::from(bytes),
        FieldType::Text | FieldType::Blob => HANDLE_BYTES,
        FieldType::Struct(index) => row(index).decoded_bytes,
    }
}
