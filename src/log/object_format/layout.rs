//! Constants of the layout, and the keys of objects.

use crate::log::ids::ObjectId;

/// The version of the format.
pub const OBJECT_VERSION: u8 = 2;

/// The first bytes of every WAL object: magic and version.
pub const HEADER: [u8; 8] = *b"ODRADEK\x02";

/// The last bytes of every object, after the version.
pub(super) const TRAILER_MAGIC: [u8; 7] = *b"KEDARDO";

/// The size of the trailer in bytes: footer length, CRC-32C, version and magic.
pub const TRAILER_BYTES: usize = 16;

/// The number of bytes at an object's end that contain the footer of nearly every object.
pub const TAIL_BYTES: u64 = 64 * 1024;

/// The prefix of the keys of all WAL objects.
pub const WAL_PREFIX: &str = "wal/";

const WAL_SUFFIX: &str = ".wal";

/// The number of hexadecimal digits of a sequence that name its directory.
const DIRECTORY_DIGITS: usize = 5;

/// Returns the key of a WAL object. Keys sort as ids do; at most 4,096 share a directory, because a
/// store in a file system reads whole directories.
pub fn wal_key(object: ObjectId) -> String {
    let sequence = format!("{:08x}", object.sequence);
    let directory = &sequence[..DIRECTORY_DIGITS];
    format!("{}{directory}/{object}{WAL_SUFFIX}", wal_process_prefix(object))
}

/// Returns the prefix of the keys of all objects of the process that wrote this one.
pub fn wal_process_prefix(object: ObjectId) -> String {
    format!("{WAL_PREFIX}{:016x}-{:08x}/", object.incarnation, object.process_id)
}

/// Returns the object with this key; `None` if it is not the key of a WAL object.
pub fn parse_wal_key(key: &str) -> Option<ObjectId> {
    let (_, name) = key.rsplit_once('/')?;
    let object = ObjectId::parse(name.strip_suffix(WAL_SUFFIX)?)?;
    (wal_key(object) == key).then_some(object)
}

/// The number of the section with id, kind and times. A reader skips a section with an unknown even
/// number, and refuses an unknown odd one.
pub(super) const IDENTITY_SECTION: u64 = 1;

/// The number of the section with the journal.
pub(super) const JOURNAL_SECTION: u64 = 2;

/// The number of the section with the parts.
pub(super) const PARTS_SECTION: u64 = 3;

/// The number of the section with the places of a segment's parts.
pub(super) const PLACEMENTS_SECTION: u64 = 5;
