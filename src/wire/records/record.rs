//! One record (`DefaultRecord`): parsed from its bytes, and encoded again.

use crate::wire::varint::{put_zigzag, take_varint, take_varlong};

/// The borrowed fields of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: i32,
    /// The headers, checked once.
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses what follows a record's length; returns `None` unless it is exactly one record.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        // The attributes have no meaning yet.
        let (_attributes, mut rest) = body.split_first()?;
        let timestamp_delta = take_varlong(&mut rest).ok()?;
        let offset_delta = take_varint(&mut rest).ok()?;
        let key = nullable(&mut rest)?;
        let value = nullable(&mut rest)?;
        let header_count = take_varint(&mut rest).ok()?;
        let headers = rest;
        if header_count < 0 {
            return None;
        }
        // A header takes at least two bytes, so that a wrong count ends with the bytes.
        for _ in 0..header_count {
            header(&mut rest)?;
        }
        rest.is_empty().then_some(Self {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
        })
    }

    /// Writes the record as a broker does when it recompresses a batch: with its position in the
    /// batch, without attributes, with header keys as text.
    pub(super) fn write(&self, out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i32) {
        out.push(0);
        put_zigzag(out, timestamp_delta);
        put_zigzag(out, i64::from(offset_delta));
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        put_zigzag(out, i64::from(self.header_count));
        let mut rest = self.headers;
        while let Some((key, value)) = header(&mut rest) {
            // A broker decodes the key to a string and encodes it again.
            put_nullable(out, Some(String::from_utf8_lossy(key).as_bytes()));
            put_nullable(out, value);
        }
    }
}

/// Takes a header off the front: its key, which is never null, and its value.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    Some((nullable(rest)??, nullable(rest)?))
}

/// Takes bytes with their length off the front; any negative length is null. Returns `None` if
/// `rest` is too short.
fn nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match usize::try_from(take_varint(rest).ok()?) {
        Err(_) => Some(None),
        Ok(length) => {
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Some(Some(bytes))
        }
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_zigzag(out, -1),
        Some(bytes) => {
            put_zigzag(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
