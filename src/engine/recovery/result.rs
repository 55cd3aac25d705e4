//! The result of a recovery.

use std::collections::BTreeMap;

/// The result of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of objects.
    pub objects: usize,
    /// The number of parts that the coordinator knows now.
    pub parts: usize,
    /// The number of parts below the fence of the process: they were decided long ago.
    pub fenced: usize,
    /// The number of parts that were answered with an error.
    pub withdrawn: usize,
    /// The number of parts that were acknowledged at other offsets than they have now.
    pub moved: usize,
    /// The shards of the coordinator to which not everything could be committed, and why.
    pub failed: BTreeMap<u16, String>,
}
