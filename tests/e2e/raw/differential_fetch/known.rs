//! The differences that are meant.

/// A request whose answers differ, and both answers.
pub(super) struct Known {
    /// The topics and the case.
    pub(super) case: &'static str,
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
}

/// Each has its reason in `docs/protocol.md`, "Differences from a broker".
pub(super) const KNOWN: &[Known] = &[];
