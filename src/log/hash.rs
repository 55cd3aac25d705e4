//! Hashes that every replica of every version computes alike.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Returns the hash of `bytes`.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Returns the score of a candidate for a key, for rendezvous hashing: the candidate with the
/// greatest score is chosen. When a candidate leaves, only its own keys are assigned to others;
/// when one joins, it takes an equal share of the keys of all.
pub fn rendezvous_score(candidate: &[u8], key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, xxh3_64(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(candidates: u16, key: u32) -> Option<u16> {
        let score = |c: &u16| rendezvous_score(&c.to_be_bytes(), &key.to_be_bytes());
        (0..candidates).max_by_key(score)
    }

    #[test]
    fn choices_never_change() {
        assert_eq!(stable_hash(b""), 0x2d06_8005_38d3_94c2, "the test vector of XXH3");
        let choices: Vec<_> = (0..12).filter_map(|key| choose(4, key)).collect();
        assert_eq!(choices, GOLDEN_CHOICES, "replicas of two versions would disagree");
    }

    const GOLDEN_CHOICES: [u16; 12] = [1, 2, 3, 0, 3, 2, 2, 1, 3, 2, 1, 1];

    #[test]
    fn keys_are_distributed_evenly_and_move_only_to_a_new_candidate() {
        let mut counts = [0; 5];
        for key in 0..5_000 {
            let (before, after) = (choose(4, key), choose(5, key));
            assert!(before == after || after == Some(4), "a key moved between old candidates");
            counts[usize::from(after.unwrap())] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
