//! The expected differences.

use super::super::ExpectedDifference;

/// The reason for each is in `docs/protocol.md`, "Differences from a broker".
pub(super) const EXPECTED_DIFFERENCES: &[ExpectedDifference] = &[
    // A broker never responds to null records.
    ExpectedDifference {
        case: "null: alone",
        ours: "0: code 87 base -1 time unset start -1 message",
        theirs: "silent, then silent",
    },
    ExpectedDifference {
        case: "null: among good ones",
        ours: "0: code 0 base 0 time unset start 0; 1: code 87 base -1 time unset start -1 message",
        theirs: "silent, then silent",
    },
    // A broker reads any negative length as null.
    ExpectedDifference {
        case: "frames: records of a negative length v3",
        ours: "closed",
        theirs: "silent, then silent",
    },
    // A broker appends only the last of the two, and may report that it appends none.
    ExpectedDifference {
        case: "twice: both good",
        ours: "0: code 0 base 0 time unset start 0; 0: code 0 base 2 time unset start 0",
        theirs: "0: code 0 base 0 time unset start 0",
    },
    ExpectedDifference {
        case: "twice: good, then corrupt",
        ours: "0: code 0 base 4 time unset start 0; 0: code 2 base -1 time unset start -1 message",
        theirs: "0: code 2 base -1 time unset start -1",
    },
    ExpectedDifference {
        case: "twice: corrupt, then good",
        ours: "0: code 0 base 6 time unset start 0; 0: code 2 base -1 time unset start -1 message",
        theirs: "0: code 0 base 2 time unset start 0",
    },
    ExpectedDifference {
        case: "twice: old, then good",
        ours: "0: code 0 base 8 time unset start 0; 0: code 87 base -1 time unset start -1 message",
        theirs: "0: code 87 base -1 time unset start -1",
    },
    // There are no transactions on diskless topics.
    ExpectedDifference {
        case: "transactions: never joined",
        ours: "0: code 48 base -1 time unset start -1 message",
        theirs: "0: code 49 base -1 time unset start -1",
    },
    ExpectedDifference {
        case: "transactions: of no producer",
        ours: "0: code 48 base -1 time unset start -1 message",
        theirs: "0: code 0 base 0 time unset start 0",
    },
    // Epochs start at 0.
    ExpectedDifference {
        case: "negative epochs: 0. producer 5 epoch -1 sequence 0+2",
        ours: "0: code 87 base -1 time unset start 0 message",
        theirs: "0: code 0 base 0 time unset start 0",
    },
    ExpectedDifference {
        case: "negative epochs: 1. producer 5 epoch -1 sequence 0+2",
        ours: "0: code 87 base -1 time unset start 0 message",
        theirs: "0: code 0 base 0 time set start 0",
    },
    ExpectedDifference {
        case: "negative epochs: 2. producer 5 epoch -1 sequence 7+2",
        ours: "0: code 87 base -1 time unset start 0 message",
        theirs: "0: code 0 base 2 time unset start 0",
    },
    ExpectedDifference {
        case: "negative epochs: 3. producer 6 epoch -2 sequence 0+2",
        ours: "0: code 87 base -1 time unset start 0 message",
        theirs: "0: code 47 base -1 time unset start 0",
    },
    ExpectedDifference {
        case: "negative epochs: 4. producer 6 epoch -32768 sequence 0+2",
        ours: "0: code 87 base -1 time unset start 0 message",
        theirs: "0: code 47 base -1 time unset start 0",
    },
    // Batches that some consumers could not read.
    ExpectedDifference {
        case: "checksums: lz4 content",
        ours: "0: code -1 base -1 time unset start 0 message",
        theirs: "0: code 0 base 0 time unset start 0",
    },
];
