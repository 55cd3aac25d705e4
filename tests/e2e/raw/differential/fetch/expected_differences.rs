//! The expected differences.

use super::super::ExpectedDifference;

/// The reason for each is in `docs/protocol.md`, "Differences from a broker"; a star in a case
/// stands for any text.
pub(super) const EXPECTED_DIFFERENCES: &[ExpectedDifference] = &[
    // A negative limit counts as 0: a broker fails the first partition because of it.
    ExpectedDifference {
        case: "fetches: at most -1 byte v4",
        ours: "code 0 session none: Main 0: code 0 ends -1 30 30 aborted None replica -1 [0+3 e0 568b 503d799e]; Main 2: code 0 ends -1 16 16 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code -1 ends -1 -1 -1 aborted None replica -1 []; Main 2: code 0 ends -1 16 16 aborted None replica -1 [4+4 e0 737b bd8f1857]",
    },
    ExpectedDifference {
        case: "fetches: at most i32::MIN bytes v4",
        ours: "code 0 session none: Main 0: code 0 ends -1 30 30 aborted None replica -1 [0+3 e0 568b 503d799e]; Main 2: code 0 ends -1 16 16 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code -1 ends -1 -1 -1 aborted None replica -1 []; Main 2: code 0 ends -1 16 16 aborted None replica -1 [4+4 e0 737b bd8f1857]",
    },
    ExpectedDifference {
        case: "fetches: at most -1 byte v*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e]; Main 2: code 0 ends 6 16 16 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code -1 ends -1 -1 -1 aborted None replica -1 []; Main 2: code 0 ends 6 16 16 aborted None replica -1 [4+4 e0 737b bd8f1857]",
    },
    ExpectedDifference {
        case: "fetches: at most i32::MIN bytes v*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e]; Main 2: code 0 ends 6 16 16 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code -1 ends -1 -1 -1 aborted None replica -1 []; Main 2: code 0 ends 6 16 16 aborted None replica -1 [4+4 e0 737b bd8f1857]",
    },
    ExpectedDifference {
        case: "fetches: no more than -*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e]; Main 2: code 0 ends 6 16 16 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code -1 ends -1 -1 -1 aborted None replica -1 []; Main 2: code 0 ends 6 16 16 aborted None replica -1 [4+4 e0 737b bd8f1857]",
    },
    // No epoch is too new: another replica may have returned it.
    ExpectedDifference {
        case: "fetches: leader epoch 1 v*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e 3+3 e0 131b f609e542 6+3 e0 153b b624ba04 9+3 e0 138b c5c69c58 12+3 e0 120b dd64d361 15+3 e0 568b 06d52d2d 18+3 e0 131b fa80fa8b 21+3 e0 153b 99a38507 24+3 e0 138b d445118b 27+3 e0 120b 8487a19a]",
        theirs: "code 0 session none: Main 0: code 75 ends -1 -1 -1 aborted None replica -1 []",
    },
    ExpectedDifference {
        case: "fetches: leader epoch 2147483647 v*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e 3+3 e0 131b f609e542 6+3 e0 153b b624ba04 9+3 e0 138b c5c69c58 12+3 e0 120b dd64d361 15+3 e0 568b 06d52d2d 18+3 e0 131b fa80fa8b 21+3 e0 153b 99a38507 24+3 e0 138b d445118b 27+3 e0 120b 8487a19a]",
        theirs: "code 0 session none: Main 0: code 75 ends -1 -1 -1 aborted None replica -1 []",
    },
    // Logs never diverge, and consumers do not check.
    ExpectedDifference {
        case: "fetches: last fetched epoch 0 at 31*",
        ours: "code 0 session none: Main 0: code 1 ends -1 -1 -1 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 diverges 0 30 []",
    },
    ExpectedDifference {
        case: "fetches: last fetched epoch 1 at 3*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [3+3 e0 131b f609e542 6+3 e0 153b b624ba04 9+3 e0 138b c5c69c58 12+3 e0 120b dd64d361 15+3 e0 568b 06d52d2d 18+3 e0 131b fa80fa8b 21+3 e0 153b 99a38507 24+3 e0 138b d445118b 27+3 e0 120b 8487a19a]",
        theirs: "code 0 session none: Main 0: code 1 ends -1 -1 -1 aborted None replica -1 []",
    },
    ExpectedDifference {
        case: "fetches: last fetched epoch 9 at 0*",
        ours: "code 0 session none: Main 0: code 0 ends 0 30 30 aborted None replica -1 [0+3 e0 568b 503d799e 3+3 e0 131b f609e542 6+3 e0 153b b624ba04 9+3 e0 138b c5c69c58 12+3 e0 120b dd64d361 15+3 e0 568b 06d52d2d 18+3 e0 131b fa80fa8b 21+3 e0 153b 99a38507 24+3 e0 138b d445118b 27+3 e0 120b 8487a19a]",
        theirs: "code 0 session none: Main 0: code 1 ends -1 -1 -1 aborted None replica -1 []",
    },
    // Versions that are not advertised: no other node leads.
    ExpectedDifference {
        case: "fetches: replica * v16",
        ours: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []",
    },
    ExpectedDifference {
        case: "fetches: replica * v17",
        ours: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []",
    },
    ExpectedDifference {
        case: "fetches: replica * v18",
        ours: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 []",
        theirs: "code 0 session none: Main 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []; Second 0: code 6 ends -1 -1 -1 aborted None replica -1 led elsewhere []",
    },
    // A broker confuses two unknown ids.
    ExpectedDifference {
        case: "sessions: two unknown ids v1*",
        ours: "code 0 session same: \"\" 0: code 100 ends -1 -1 -1 aborted Some(0) replica -1 []; Unknown 0: code 100 ends -1 -1 -1 aborted Some(0) replica -1 []",
        theirs: "code -1 session same: ",
    },
    // No epoch is too old or too new.
    ExpectedDifference {
        case: "lookups: leader epoch -2 v*",
        ours: "Main 0: code 0 offset 30 time -1 epoch 0",
        theirs: "Main 0: code 74 offset -1 time -1 epoch -1",
    },
    ExpectedDifference {
        case: "lookups: leader epoch 1 v*",
        ours: "Main 0: code 0 offset 30 time -1 epoch 0",
        theirs: "Main 0: code 75 offset -1 time -1 epoch -1",
    },
    ExpectedDifference {
        case: "lookups: leader epoch 2147483647 v*",
        ours: "Main 0: code 0 offset 30 time -1 epoch 0",
        theirs: "Main 0: code 75 offset -1 time -1 epoch -1",
    },
    // A deleted record is not found by its timestamp.
    ExpectedDifference {
        case: "lookups: of -3 v*",
        ours: "Main 2: code 0 offset 7 time 5000003 epoch 0; Main 4: code 0 offset -1 time -1 epoch -1",
        theirs: "Main 2: code 0 offset 3 time 5000003 epoch 0; Main 4: code 0 offset 1 time 7000001 epoch 0",
    },
    ExpectedDifference {
        case: "times: *, one less: -3 v7",
        ours: "Main 3: code 0 offset 3 time 800 epoch 0",
        theirs: "Main 3: code 0 offset 0 time 900 epoch 0",
    },
    ExpectedDifference {
        case: "times: *, two less: -3 v7",
        ours: "Main 3: code 0 offset 7 time 600 epoch 0",
        theirs: "Main 3: code 0 offset 0 time 900 epoch 0",
    },
    ExpectedDifference {
        case: "times: *, more: -3 v7",
        ours: "Main 3: code 0 offset 7 time 600 epoch 0",
        theirs: "Main 3: code 0 offset 0 time 900 epoch 0",
    },
    ExpectedDifference {
        case: "times: *, all cut: -3 v7",
        ours: "Main 2: code 0 offset 2 time 100 epoch 0; Main 3: code 0 offset 7 time 600 epoch 0",
        theirs: "Main 2: code 0 offset 0 time 100 epoch 0; Main 3: code 0 offset 0 time 900 epoch 0",
    },
    ExpectedDifference {
        case: "times: *, cut again: -3 v7",
        ours: "Main 1: code 0 offset 8 time 699 epoch 0; Main 2: code 0 offset -1 time -1 epoch -1; Main 3: code 0 offset 7 time 600 epoch 0",
        theirs: "Main 1: code 0 offset 5 time 700 epoch 0; Main 2: code 0 offset 0 time 100 epoch 0; Main 3: code 0 offset 0 time 900 epoch 0",
    },
    ExpectedDifference {
        case: "no times: cut: -3 v7",
        ours: "Main 0: code 0 offset 1 time -1 epoch 0",
        theirs: "Main 0: code 0 offset 0 time -1 epoch 0",
    },
    ExpectedDifference {
        case: "no times: empty: -3 v7",
        ours: "Main 0: code 0 offset -1 time -1 epoch -1",
        theirs: "Main 0: code 0 offset 0 time -1 epoch 0",
    },
    ExpectedDifference {
        case: "no times: more: -3 v7",
        ours: "Main 0: code 0 offset 4 time -1 epoch 0",
        theirs: "Main 0: code 0 offset 0 time -1 epoch 0",
    },
    // A future epoch has no end yet, or is another replica's.
    ExpectedDifference {
        case: "epochs: epoch 1 of *",
        ours: "Main 0: code 0 epoch 1 end 30; Main 1: code 0 epoch 1 end 0; Main 2: code 0 epoch 1 end 16; Main 4: code 0 epoch 1 end 2",
        theirs: "Main 0: code 0 epoch -1 end -1; Main 1: code 0 epoch -1 end -1; Main 2: code 0 epoch -1 end -1; Main 4: code 0 epoch -1 end -1",
    },
    ExpectedDifference {
        case: "epochs: epoch 2147483647 of *",
        ours: "Main 0: code 0 epoch 2147483647 end 30; Main 1: code 0 epoch 2147483647 end 0; Main 2: code 0 epoch 2147483647 end 16; Main 4: code 0 epoch 2147483647 end 2",
        theirs: "Main 0: code 0 epoch -1 end -1; Main 1: code 0 epoch -1 end -1; Main 2: code 0 epoch -1 end -1; Main 4: code 0 epoch -1 end -1",
    },
    ExpectedDifference {
        case: "epochs: epoch 0 of -2 v*",
        ours: "Main 0: code 0 epoch 0 end 30; Main 1: code 0 epoch 0 end 0; Main 2: code 0 epoch 0 end 16; Main 4: code 0 epoch 0 end 2",
        theirs: "Main 0: code 74 epoch -1 end -1; Main 1: code 74 epoch -1 end -1; Main 2: code 74 epoch -1 end -1; Main 4: code 74 epoch -1 end -1",
    },
    ExpectedDifference {
        case: "epochs: epoch 0 of 1 v*",
        ours: "Main 0: code 0 epoch 0 end 30; Main 1: code 0 epoch 0 end 0; Main 2: code 0 epoch 0 end 16; Main 4: code 0 epoch 0 end 2",
        theirs: "Main 0: code 75 epoch -1 end -1; Main 1: code 75 epoch -1 end -1; Main 2: code 75 epoch -1 end -1; Main 4: code 75 epoch -1 end -1",
    },
    ExpectedDifference {
        case: "epochs: epoch 0 of 2147483647 v*",
        ours: "Main 0: code 0 epoch 0 end 30; Main 1: code 0 epoch 0 end 0; Main 2: code 0 epoch 0 end 16; Main 4: code 0 epoch 0 end 2",
        theirs: "Main 0: code 75 epoch -1 end -1; Main 1: code 75 epoch -1 end -1; Main 2: code 75 epoch -1 end -1; Main 4: code 75 epoch -1 end -1",
    },
];
