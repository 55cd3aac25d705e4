//! Who is there, as far as this replica is entitled to say.

use tokio::time::Instant;

use super::membership::LEASE_DURATION;
use crate::coordinator::{Member, Membership};

/// The members as they are handed on. While the coordinator was away everybody's lease ended, and
/// whoever renews first hears of nobody else: so a replica that could not renew drops nobody until
/// the others had a lease's time to renew as well.
#[derive(Debug, Default)]
pub(super) struct MembershipView {
    previous: Vec<Member>,
    was_unreachable: bool,
    retain_until: Option<Instant>,
}

impl MembershipView {
    /// The coordinator could not be asked.
    pub(super) fn failed(&mut self) {
        self.was_unreachable = true;
    }

    /// What is handed on of what the coordinator told.
    pub(super) fn merge(&mut self, reported: &Membership) -> Membership {
        let now = Instant::now();
        if std::mem::take(&mut self.was_unreachable) {
            self.retain_until = Some(now + LEASE_DURATION);
        }
        let mut membership = reported.clone();
        match self.retain_until {
            Some(until) if now < until => {
                let is_reported = |previous: &&Member| {
                    reported.members.iter().any(|member| member.replica == previous.replica)
                };
                let retained = self.previous.iter().filter(|previous| !is_reported(previous));
                membership.members.extend(retained.cloned());
                membership.members.sort_unstable_by(|a, b| a.replica.cmp(&b.replica));
            }
            _ => self.retain_until = None,
        }
        self.previous.clone_from(&membership.members);
        membership
    }
}
