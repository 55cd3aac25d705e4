//! Ends the log of an earlier process, which may still run.
//!
//! The objects of a process are its sequences 0, 1, 2, … without a gap, created only where no
//! object exists. A process that takes over creates an object of its own under the next sequence: from
//! then on the earlier process cannot write that object, so it commits and acknowledges nothing
//! more, whenever it resumes.

use super::records::{EmbeddedRecords, store_error};
use crate::coordinator::CoordinatorError;
use crate::log::ids::ObjectId;
use crate::log::object_format::{Footer, HEADER, ObjectKind, encode_footer, wal_key};
use crate::store::{PutMode, StoreErrorKind};

/// Creates an object without batches under the first sequence, from that of `next` on, that has
/// none. Returns that sequence: the objects before it are the whole log of the process.
pub(super) async fn fence(
    records: &EmbeddedRecords,
    next: ObjectId,
) -> Result<u32, CoordinatorError> {
    let mut object = next;
    loop {
        let footer = Footer { kind: ObjectKind::Journal, ..Footer::wal(object, "", 0, Vec::new()) };
        let body = vec![HEADER.to_vec().into(), encode_footer(&footer)];
        match records.store().put(&wal_key(object), body, PutMode::Create).await {
            Ok(()) => return Ok(object.sequence),
            // An object of the process, or of another that takes it over as well.
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
            Err(error) => return Err(store_error(error)),
        }
        object.sequence = object.sequence.checked_add(1).ok_or_else(|| {
            CoordinatorError::Corrupt(format!("{} has no further sequence", wal_key(object)))
        })?;
    }
}
