//! Encodes numbers, texts and sections.

use bytes::{BufMut, BytesMut};

/// Writes an unsigned base-128 number, least significant group first, in its shortest form.
pub(in crate::log) fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Maps 0, −1, 1, −2 to 0, 1, 2, 3.
pub(in crate::log) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Writes a text with its length in bytes.
pub(in crate::log) fn text(out: &mut BytesMut, text: &str) {
    varint(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// Writes what `write` writes as a section: its number, its length and its bytes.
pub(in crate::log) fn section(out: &mut BytesMut, number: u64, write: impl FnOnce(&mut BytesMut)) {
    let mut body = BytesMut::new();
    write(&mut body);
    varint(out, number);
    varint(out, body.len() as u64);
    out.put_slice(&body);
}
