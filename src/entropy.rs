//! The only source of randomness, so that a seed replays a run.

use parking_lot::Mutex;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A seedable generator shared by the whole process.
#[derive(Debug)]
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// Seeded by the operating system: for production.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Seeded by the caller: for tests and simulations.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A uniformly random number.
    pub fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// 32 bytes that nobody can guess, as long as the seed is the operating system's.
    pub fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.0.lock().fill_bytes(&mut secret);
        secret
    }
}
