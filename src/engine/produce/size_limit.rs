//! The size of the objects that the store accepts, as far as it is known.

use std::time::Duration;

use tokio::time::Instant;

/// Size of the object by which the store is probed at start, in bytes: objects up to this size are
/// accepted.
const PROBED_BYTES: usize = 64 << 10;
/// Time after which twice the size is tried again: the limit may be that of a proxy, and have been
/// raised. If it was not, one object is divided.
const DOUBLED_AFTER: Duration = Duration::from_secs(600);

/// The store's limit, as far as uploads have shown it.
#[derive(Debug)]
pub(super) struct SizeLimit {
    stored: usize,
    /// A size, and when it was learnt.
    learnt: Option<(usize, Instant)>,
}

impl Default for SizeLimit {
    fn default() -> Self {
        Self { stored: PROBED_BYTES, learnt: None }
    }
}

impl SizeLimit {
    /// Returns the size of the batches, in bytes, above which no object is sealed. It is half of the
    /// smallest refused object, so that footers have room, but not below the size that was probed,
    /// and doubles every ten minutes.
    pub(super) fn batch_bytes_max(&self, now: Instant) -> usize {
        let Some((bytes, at)) = self.learnt else { return usize::MAX };
        let doublings = (now - at).as_secs() / DOUBLED_AFTER.as_secs();
        let factor = u32::try_from(doublings).ok().and_then(|n| 1_usize.checked_shl(n));
        factor.map_or(usize::MAX, |factor| bytes.saturating_mul(factor))
    }

    /// Returns whether the store has accepted an object of this size or a larger one.
    pub(super) fn is_proven(&self, bytes: usize) -> bool {
        bytes <= self.stored
    }

    /// Records an object that was stored.
    pub(super) fn record_stored(&mut self, bytes: usize) {
        self.stored = self.stored.max(bytes);
    }

    /// Records an object that was refused for its size.
    pub(super) fn record_refused(&mut self, bytes: usize, now: Instant) {
        let limit = self.batch_bytes_max(now).min(bytes / 2).max(PROBED_BYTES);
        self.learnt = Some((limit, now));
        self.stored = self.stored.min(limit).min(bytes.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn learnt_limit_doubles_until_it_is_refused_again() {
        let (start, mut limit) = (Instant::now(), SizeLimit::default());
        let after = |times: u32| start + DOUBLED_AFTER * times;
        assert_eq!(limit.batch_bytes_max(start), usize::MAX);
        limit.record_stored(4 << 20);
        limit.record_refused(1 << 20, start);
        assert_eq!(limit.batch_bytes_max(start), 512 << 10);
        assert!(!limit.is_proven(600 << 10) && limit.is_proven(512 << 10));
        assert_eq!(limit.batch_bytes_max(after(1)), 1 << 20);
        limit.record_refused(1 << 20, after(1));
        assert_eq!(limit.batch_bytes_max(after(1)), 512 << 10);
        assert_eq!(limit.batch_bytes_max(after(3)), 2 << 20);
        assert_eq!(limit.batch_bytes_max(after(1_000)), usize::MAX);
        // A single large batch of a partition does not make all objects tiny.
        limit.record_refused(100, start);
        assert_eq!(limit.batch_bytes_max(start), PROBED_BYTES);
        assert!(!limit.is_proven(100));
    }
}
