//! The types with which [`super::schema`] describes the layout of messages.

/// The type of a value; a flexible version encodes lengths as varints (KIP-482).
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldType {
    /// A fixed number of bytes.
    Fixed(u8),
    /// A string.
    Text,
    /// Bytes or records.
    Blob,
    /// A struct, by its index in [`super::schema::STRUCTS`].
    Struct(u16),
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions(i8, i8);

impl Versions {
    const NONE: Self = Self(1, 0);

    pub(super) fn contain(self, version: i16) -> bool {
        i16::from(self.0) <= version && version <= i16::from(self.1)
    }
}

/// A field of a struct.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) field_type: FieldType,
    pub(super) array: bool,
    pub(super) present: Versions,
    pub(super) nullable: Versions,
    /// The versions that write it as a tagged field, with the number `tag`.
    pub(super) tagged: Versions,
    pub(super) tag: u32,
}

impl Field {
    pub(super) const fn array(self) -> Self {
        Self { array: true, ..self }
    }

    pub(super) const fn null(self, first: i8, last: i8) -> Self {
        Self { nullable: Versions(first, last), ..self }
    }

    pub(super) const fn tag(self, tag: u32, first: i8, last: i8) -> Self {
        Self { tag, tagged: Versions(first, last), ..self }
    }
}

/// A struct: its maximum memory in bytes once the crate has decoded it, and its fields in wire
/// order.
#[derive(Clone, Copy, Debug)]
pub(super) struct StructSchema {
    pub(super) decoded_bytes: usize,
    pub(super) fields: &'static [Field],
}

/// A request or a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageSchema {
    pub(super) key: i16,
    pub(super) versions: Versions,
    pub(super) first_flexible: i16,
    /// The index of its struct in [`super::schema::STRUCTS`].
    pub(super) root: u16,
}

pub(super) const fn f(field_type: FieldType, first: i8, last: i8) -> Field {
    Field {
        field_type,
        array: false,
        present: Versions(first, last),
        nullable: Versions::NONE,
        tagged: Versions::NONE,
        tag: 0,
    }
}

pub(super) const fn s(decoded_bytes: usize, fields: &'static [Field]) -> StructSchema {
    StructSchema { decoded_bytes, fields }
}

pub(super) const fn m(
    key: i16,
    first: i8,
    last: i8,
    first_flexible: i16,
    root: u16,
) -> MessageSchema {
    MessageSchema { key, versions: Versions(first, last), first_flexible, root }
}
