//! Base-128 varints, unsigned (KIP-482) and zigzag (records), as Kafka's `ByteUtils` encodes them.

use bytes::BufMut;

/// The maximum length in bytes of a 32-bit varint.
pub const VARINT_BYTES_MAX: u32 = 5;
/// The maximum length in bytes of a 64-bit varint.
pub const VARLONG_BYTES_MAX: u32 = 10;

/// Reads an unsigned varint of at most `bytes_max` bytes from `next_byte`.
///
/// Bits beyond the 64th are lost, as in Kafka; a caller that wants 32 bits truncates the value.
///
/// # Errors
/// Returns the first error of `next_byte`, or `too_long` if the varint does not end in time.
#[inline]
pub fn read<E>(
    bytes_max: u32,
    too_long: E,
    mut next_byte: impl FnMut() -> Result<u8, E>,
) -> Result<u64, E> {
    let mut value = 0_u64;
    for index in 0..bytes_max {
        let byte = next_byte()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(too_long)
}

/// Writes an unsigned varint.
pub fn put_unsigned(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a zigzag varint or varlong: both encodings of a value are the same.
pub fn put_zigzag(out: &mut impl BufMut, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Decodes a zigzag pattern of 64 bits.
pub fn zigzag(pattern: u64) -> i64 {
    (pattern >> 1) as i64 ^ -((pattern & 1) as i64)
}

/// Decodes a zigzag pattern of 32 bits; as in Kafka, higher bits are lost.
pub fn zigzag_32(pattern: u64) -> i32 {
    zigzag(pattern & u64::from(u32::MAX)) as i32
}

/// Reason that a varint cannot be decoded from a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintError {
    /// The slice ends within the varint.
    Truncated,
    /// The varint is longer than its type allows.
    TooLong,
}

/// Takes a zigzag varint off the front of `rest`.
#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<i32, VarintError> {
    Ok(zigzag_32(take_unsigned(rest, VARINT_BYTES_MAX)?))
}

/// Takes a zigzag varlong off the front of `rest`.
#[inline]
pub fn take_varlong(rest: &mut &[u8]) -> Result<i64, VarintError> {
    Ok(zigzag(take_unsigned(rest, VARLONG_BYTES_MAX)?))
}

/// Takes an unsigned varint of at most `bytes_max` bytes off the front of `rest`.
#[inline]
pub fn take_unsigned(rest: &mut &[u8], bytes_max: u32) -> Result<u64, VarintError> {
    read(bytes_max, VarintError::TooLong, || {
        let (&byte, after) = rest.split_first().ok_or(VarintError::Truncated)?;
        *rest = after;
        Ok(byte)
    })
}
