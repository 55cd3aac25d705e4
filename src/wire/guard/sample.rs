//! Generates messages from the schema, for tests: well formed in every key and version.

use crate::wire::varint::put_unsigned;

use super::schema::{REQUESTS, RESPONSES, STRUCTS};
use super::table::{Field, FieldType, MessageSchema, StructSchema};

/// Requests or responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client.
    Request,
    /// To a client.
    Response,
}

/// Returns every (key, version) that the guard walks.
pub fn versions(direction: Direction) -> Vec<(i16, i16)> {
    let all = |m: &MessageSchema| -> Vec<_> {
        (0..=i16::from(i8::MAX)).filter(|&v| m.versions.contain(v)).map(|v| (m.key, v)).collect()
    };
    table(direction).iter().flat_map(all).collect()
}

/// Generates a message. `choose(n)` returns a number below `n`; arrays get `choose(elements)`
/// elements.
pub fn message(
    direction: Direction,
    (api_key, version): (i16, i16),
    elements: usize,
    choose: &mut dyn FnMut(usize) -> usize,
) -> Vec<u8> {
    let message = table(direction).iter().find(|m| m.key == api_key).expect("a key of the table");
    let flexible = version >= message.first_flexible;
    let mut writer = Writer { out: Vec::new(), version, flexible, elements, choose };
    writer.structure(&STRUCTS[usize::from(message.root)]);
    writer.out
}

fn table(direction: Direction) -> &'static [MessageSchema] {
    match direction {
        Direction::Request => &REQUESTS,
        Direction::Response => &RESPONSES,
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    elements: usize,
    choose: &'a mut dyn FnMut(usize) -> usize,
}

impl Writer<'_> {
    fn structure(&mut self, row: &StructSchema) {
        let version = self.version;
        let (mut plain, mut tagged) = (Vec::new(), Vec::new());
        for field in row.fields {
            match (field.present.contain(version), field.tagged.contain(version)) {
                (_, true) => tagged.push(field),
                (true, false) => plain.push(field),
                (false, false) => {}
            }
        }
        for field in plain {
            self.field(field);
        }
        if self.flexible {
            self.tags(tagged);
        }
    }

    fn tags(&mut self, mut tagged: Vec<&Field>) {
        tagged.retain(|_| (self.choose)(2) == 1);
        // Out of order, which a broker accepts.
        if !tagged.is_empty() && (self.choose)(4) == 0 {
            tagged.reverse();
        }
        let unknown = usize::from((self.choose)(8) == 7);
        self.varint(tagged.len() + unknown);
        for field in tagged {
            let whole = std::mem::take(&mut self.out);
            self.field(field);
            let value = std::mem::replace(&mut self.out, whole);
            self.varint(field.tag as usize);
            self.varint(value.len());
            self.out.extend_from_slice(&value);
        }
        if unknown == 1 {
            self.varint(9_000);
            self.varint(2);
            self.out.extend_from_slice(b"??");
        }
    }

    fn field(&mut self, field: &Field) {
        let null = field.nullable.contain(self.version) && (self.choose)(3) == 0;
        match (field.array, field.field_type) {
            (true, _) if null => self.count(None, 4),
            (true, field_type) => {
                let count = (self.choose)(self.elements);
                self.count(Some(count), 4);
                for _ in 0..count {
                    self.value(field_type, false);
                }
            }
            (false, FieldType::Struct(_)) if null => self.out.push(0xff),
            (false, field_type @ FieldType::Struct(_)) if field.nullable.contain(self.version) => {
                self.out.push(1);
                self.value(field_type, false);
            }
            (false, field_type) => self.value(field_type, null),
        }
    }

    fn value(&mut self, field_type: FieldType, null: bool) {
        let width = if matches!(field_type, FieldType::Text) { 2 } else { 4 };
        match field_type {
            FieldType::Fixed(1) => {
                let byte = u8::from((self.choose)(2) == 1);
                self.out.push(byte);
            }
            FieldType::Fixed(bytes) => {
                for _ in 0..bytes {
                    let byte = (self.choose)(256) as u8;
                    self.out.push(byte);
                }
            }
            FieldType::Text | FieldType::Blob if null => self.count(None, width),
            FieldType::Text | FieldType::Blob => {
                let length = (self.choose)(5);
                self.count(Some(length), width);
                self.out.extend_from_slice(&b"abcde"[..length]);
            }
            FieldType::Struct(index) => self.structure(&STRUCTS[usize::from(index)]),
        }
    }

    /// Writes a length or count, of `width` bytes in the old encoding; `None` is null.
    fn count(&mut self, count: Option<usize>, width: usize) {
        if self.flexible {
            self.varint(count.map_or(0, |c| c + 1));
        } else {
            let count = count.map_or(-1, |c| c as i32);
            self.out.extend_from_slice(&count.to_be_bytes()[4 - width..]);
        }
    }

    fn varint(&mut self, value: usize) {
        put_unsigned(&mut self.out, value as u64);
    }
}
