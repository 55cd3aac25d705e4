//! Objects that the store refuses for good.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::coordinator::CommitOrder;
use crate::store::{Certainty, StoreError, StoreErrorKind};

/// Time during which the store must refuse an object before it counts as refused for good. With the
/// longest delay between two attempts it is shorter than the shortest deadline of a produce request.
const LASTS_AFTER: Duration = Duration::from_millis(2_500);
/// Time after which an object that the store refuses fails although an earlier attempt of it may have
/// been applied. Its id is not committed, and the next commit of each shard raises the fence above it.
const DOUBT_MAX: Duration = Duration::from_secs(15);
/// Time after which an attempt without a known outcome is not applied any more. It matters where
/// the key is used again: an attempt that were applied even later would be in the log instead of the
/// object that uses the key again, which could not be created then. Nothing would be acknowledged.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);
/// Time for which a refusal is reported, unless an object is stored before.
const REPORTED_FOR: Duration = Duration::from_secs(60);

/// The reason why the store does not accept an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadRefusal {
    /// It is too large.
    TooLarge,
    /// Another reason that lasts: permissions, a bucket that does not exist.
    Denied,
}

/// The refusals of one object.
#[derive(Debug)]
pub(super) struct Refusals {
    order: CommitOrder,
    /// Start of the refusals without another failure between them.
    since: Option<Instant>,
    /// The latest attempt whose outcome is unknown.
    unknown_at: Option<Instant>,
}

impl Refusals {
    /// Creates the state of an object without attempts.
    pub(super) fn new(order: CommitOrder) -> Self {
        Self { order, since: None, unknown_at: None }
    }

    /// Records a failed attempt, and returns the refusal if the object is refused for good.
    pub(super) fn record(&mut self, error: &StoreError, now: Instant) -> Option<UploadRefusal> {
        if error.certainty == Certainty::Indeterminate {
            self.unknown_at = Some(now);
        }
        if error.kind.is_transient() {
            self.since = None;
            return None;
        }
        self.since.get_or_insert(now);
        let is_settled = self.unknown_at.is_none_or(|at| now - at >= APPLIED_WITHIN);
        match (error.kind, self.order) {
            (StoreErrorKind::TooLarge, CommitOrder::Independent) => Some(UploadRefusal::TooLarge),
            (StoreErrorKind::TooLarge, CommitOrder::ByObject) if is_settled => {
                Some(UploadRefusal::TooLarge)
            }
            (StoreErrorKind::TooLarge, _) | (_, CommitOrder::ByObject) => None,
            (_, CommitOrder::Independent) => self.is_lasting(now).then_some(UploadRefusal::Denied),
        }
    }

    /// Returns whether the store has refused the object for long.
    pub(super) fn is_lasting(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now - since >= LASTS_AFTER)
    }

    /// Returns whether the refusals have lasted so long that the producers must be told.
    pub(super) fn is_beyond_doubt(&self, now: Instant) -> bool {
        self.order == CommitOrder::Independent
            && self.since.is_some_and(|since| now - since >= DOUBT_MAX)
    }

    /// Returns whether no attempt can have been applied.
    pub(super) fn is_certain(&self) -> bool {
        self.unknown_at.is_none()
    }
}

/// The latest refusal, for `/readyz`.
#[derive(Debug, Default)]
pub(super) struct LastRefusal(Mutex<Option<(Instant, String)>>);

impl LastRefusal {
    /// Records a refusal.
    pub(super) fn set(&self, error: &StoreError, now: Instant) {
        *self.0.lock() = Some((now, error.to_string()));
    }

    /// Forgets the refusal, because an object was stored.
    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Returns the reason of a refusal that is not older than a minute.
    pub(super) fn reason(&self, now: Instant) -> Option<String> {
        let last = self.0.lock();
        last.as_ref().filter(|(at, _)| now - *at < REPORTED_FOR).map(|(_, reason)| reason.clone())
    }
}
