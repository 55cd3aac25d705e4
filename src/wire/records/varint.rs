//! Zigzag varints, read and written as Kafka's `ByteUtils` does.

/// The most bytes of a varint and of a varlong.
const VARINT_BYTES: usize = 5;
const VARLONG_BYTES: usize = 10;

/// Why a varint cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VarintError {
    /// The bytes end before it does.
    End,
    /// It goes on beyond the bytes that its type may take.
    Long,
}

/// Takes a varint off the front. As in Kafka, bits over 32 are lost.
#[inline]
pub(super) fn varint(rest: &mut &[u8]) -> Result<i32, VarintError> {
    Ok(zigzag(read(rest, VARINT_BYTES)? & u64::from(u32::MAX)) as i32)
}

/// Takes a varlong off the front.
#[inline]
pub(super) fn varlong(rest: &mut &[u8]) -> Result<i64, VarintError> {
    Ok(zigzag(read(rest, VARLONG_BYTES)?))
}

/// Puts a varint, or a varlong: the bytes of a small value are the same.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// The value of a zigzag pattern.
pub(super) fn zigzag(pattern: u64) -> i64 {
    (pattern >> 1) as i64 ^ -((pattern & 1) as i64)
}

#[inline]
fn read(rest: &mut &[u8], bytes_max: usize) -> Result<u64, VarintError> {
    let mut value = 0_u64;
    for index in 0..bytes_max {
        let (&byte, after) = rest.split_first().ok_or(VarintError::End)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(VarintError::Long)
}
