//! The only source of randomness, so that a seed reproduces a run.

use parking_lot::Mutex;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A seedable generator that the whole process shares.
#[derive(Debug)]
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// Creates a generator with a seed of the operating system, for production.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Creates a generator with the given seed, for tests and simulations.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Returns a uniformly random number.
    pub fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// Returns 32 random bytes, which are unpredictable if the seed is the operating system's.
    pub fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.0.lock().fill_bytes(&mut secret);
        secret
    }
}
