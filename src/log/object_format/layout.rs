//! Constants of the layout, and the keys of WAL objects.

use crate::log::ids::ObjectId;

/// The first bytes of every WAL object: magic and version.
pub const HEADER: [u8; 8] = *b"ODRADEK\x01";

/// The last bytes of every WAL object: version and magic.
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"\x01KEDARDO";

/// The size of the trailer in bytes: footer length, CRC-32C, version and magic.
pub const TRAILER_BYTES: usize = 16;

/// The number of bytes at an object's end that contain the footer of nearly every object.
pub const TAIL_BYTES: u64 = 64 * 1024;

/// The prefix of the keys of all WAL objects.
pub const WAL_PREFIX: &str = "wal/";

const WAL_SUFFIX: &str = ".wal";

/// Returns the key of a WAL object.
pub fn wal_key(object: ObjectId) -> String {
    format!("{WAL_PREFIX}{object}{WAL_SUFFIX}")
}

/// Returns the object with this key; `None` if it is not the key of a WAL object.
pub fn parse_wal_key(key: &str) -> Option<ObjectId> {
    ObjectId::parse(key.strip_prefix(WAL_PREFIX)?.strip_suffix(WAL_SUFFIX)?)
}
